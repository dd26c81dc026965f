/* The health report: what it says of a database that is well, and of each thing that may be wrong with it. */
#include "kvcore/base/mem.h"
#include "kvcore/db/db.h"
#include "tests/support/backup_kit.h"
#include "tests/support/file_kit.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct kv_health_report report_of(struct kv_kit *kit)
{
    struct kv_health_report report;
    kv_health_report(kit->db, &report);
    return report;
}

Test(health, a_database_that_is_well_says_so)
{
    struct kv_kit kit;
    struct kv_buf text = {0};
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "k", "v");
    struct kv_health_report r = report_of(&kit);
    cr_assert(r.sound && r.writable == KV_OK && r.pressure == KV_PRESSURE_NONE);
    cr_assert(r.version == kv_seq(kit.db) && r.log_commits == 1 && r.log_files == 1);
    cr_assert(r.pins == 0 && r.held_views == 0 && r.txns == 0 && r.damage_seen == 0);
    cr_assert_eq(r.jobs[KV_JOB_FLUSH].runs, 0);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    r = report_of(&kit);
    cr_assert_eq(r.log_commits, 0, "what is in tables is not replayed");
    cr_assert(r.jobs[KV_JOB_FLUSH].runs == 1 && r.jobs[KV_JOB_FLUSH].last_ok_ms == r.wall_ms);
    cr_assert_eq(kv_health_text(&r, &text), KV_OK);
    cr_assert_eq(kv_buf_append_byte(&text, 0), KV_OK);
    cr_assert_eq(strncmp((char *)text.data, "sound=yes\nwritable=yes code=KV_OK reason=", 41), 0, "%s",
                 text.data);
    cr_assert(strstr((char *)text.data, "\njob name=flush runs=1 failures=0 last_ok_ms=1700000000000 "));
    kv_buf_release(&text);
    kv_kit_close(&kit);
    kit.options.read_only = true;
    kv_kit_must_open(&kit);
    r = report_of(&kit);
    cr_assert(r.sound && r.writable == KV_READ_ONLY && r.reason[0]);
    kv_kit_release(&kit);
}

Test(health, a_full_disk_is_the_reason)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    struct vfs_fault *fault = vfs_fault_new(kit.own);
    kit.vfs = vfs_fault_as_vfs(fault);
    kv_kit_must_open(&kit);
    vfs_fault_set_capacity(fault, 1);
    cr_assert_eq(kv_kit_try_put(&kit, 0, "k", "v"), KV_NO_SPACE);
    struct kv_health_report r = report_of(&kit);
    cr_assert(!r.sound && r.writable == KV_NO_SPACE && strstr(r.reason, "free"), "%s", r.reason);
    cr_assert_lt(r.disk_free_bytes, r.disk_floor_bytes);
    vfs_fault_set_capacity(fault, 0);
    kv_kit_put(&kit, 0, "k", "v");
    cr_assert(report_of(&kit).sound);
    kv_kit_close(&kit);
    vfs_fault_free(fault);
    kit.vfs = kit.own;
    kv_kit_release(&kit);
}

Test(health, readers_are_known_by_what_they_hold_back)
{
    struct kv_kit kit;
    struct kv_iter *it = NULL;
    struct kv_txn *txn = NULL;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    for (int i = 0; i < 2; i++) {
        kv_kit_put(&kit, 0, "k", i ? "new" : "old");
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    }
    cr_assert_eq(kv_iter_open(kit.db, NULL, 0, (kv_slice){0}, (kv_slice){0}, &it), KV_OK);
    struct kv_health_report r = report_of(&kit);
    cr_assert(r.pins == 1 && r.held_views == 0 && r.held_files == 0, "it holds nothing back yet");
    cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
    clock_manual_advance_ms(&kit.clock, 5000);
    r = report_of(&kit);
    cr_assert(r.pins == 1 && r.held_views == 1 && r.held_files == 2);
    cr_assert_eq(r.held_ms, 5000);
    kv_iter_close(it);
    r = report_of(&kit);
    cr_assert(r.pins == 0 && r.held_views == 0 && r.held_ms == 0 && r.held_files == 0);
    cr_assert_eq(r.jobs[KV_JOB_MERGE].runs, 1);

    cr_assert_eq(kv_txn_begin(kit.db, &(struct kv_txn_options){.age_max_ms = 60000}, &txn, &kit.err), KV_OK);
    kv_kit_put(&kit, 0, "l", "v");
    clock_manual_advance_ms(&kit.clock, 10000);
    r = report_of(&kit);
    cr_assert(r.txns == 1 && r.txn_oldest_version == kv_txn_version(txn) && r.txn_expires_ms == 50000);
    struct kv_txn *later = NULL;
    cr_assert_eq(kv_txn_begin(kit.db, &(struct kv_txn_options){.age_max_ms = 90000}, &later, &kit.err),
                 KV_OK);
    r = report_of(&kit);
    cr_assert(r.txns == 2 && r.txn_oldest_version == kv_txn_version(txn) && r.txn_expires_ms == 50000);
    clock_manual_advance_ms(&kit.clock, 60000);
    r = report_of(&kit);
    cr_assert(r.txns == 1 && r.txn_oldest_version == kv_txn_version(later) && r.txn_expires_ms == 30000,
              "past its age the first holds nothing back");
    kv_txn_abort(later);
    kv_txn_abort(txn);
    kv_kit_release(&kit);
}

Test(health, work_that_fails_is_told_until_it_goes_well)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    struct vfs_fault *fault = vfs_fault_new(kit.own);
    kit.vfs = vfs_fault_as_vfs(fault);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "k", "v");
    vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = 1, .ops = VFS_OP_APPEND, .glob = "*.tbl"});
    cr_assert_lt(kv_flush(kit.db, &kit.err), 0);
    struct kv_health_report r = report_of(&kit);
    cr_assert(!r.sound && r.writable == KV_OK);
    cr_assert(r.jobs[KV_JOB_FLUSH].failures == 1 && r.jobs[KV_JOB_FLUSH].error == KV_IO &&
              r.jobs[KV_JOB_FLUSH].text[0] && r.jobs[KV_JOB_FLUSH].last_failed_ms);
    cr_assert_eq(r.memtables_waiting, 1);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    r = report_of(&kit);
    cr_assert(r.sound && r.jobs[KV_JOB_FLUSH].error == KV_OK && r.jobs[KV_JOB_FLUSH].failures == 1);
    kv_kit_close(&kit);
    vfs_fault_free(fault);
    kit.vfs = kit.own;
    kv_kit_release(&kit);
}

Test(health, the_last_backup_is_remembered_by_the_next_open)
{
    struct kv_kit kit;
    struct kv_backup_info info;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "k", "v");
    cr_assert_eq(report_of(&kit).jobs[KV_JOB_BACKUP].last_ok_ms, 0);
    cr_assert_eq(backup_to(&kit, &(struct kv_repository){.path = "backups"}, &info), KV_OK);
    int64_t at = report_of(&kit).jobs[KV_JOB_BACKUP].last_ok_ms;
    cr_assert_eq(at, 1700000000000);
    for (int i = 0; i < 2; i++) { /* as an edit, then out of a snapshot */
        clock_manual_advance_ms(&kit.clock, 1000);
        kv_kit_crash(&kit);
        struct kv_health_report r = report_of(&kit);
        cr_assert(r.jobs[KV_JOB_BACKUP].last_ok_ms == at && r.jobs[KV_JOB_BACKUP].runs == 0);
    }
    kv_kit_release(&kit);
}

static void flip_byte(struct kv_kit *kit, const char *name, double where)
{
    uint64_t size = file_kit_size(kit->vfs, kit->path, name);
    file_kit_flip(kit->vfs, kit->path, name, (uint64_t)((double)size * where));
}

Test(health, damage_that_was_met_is_counted)
{
    struct kv_kit kit;
    struct kv_pinned value;
    char key[16], name[32];
    kv_kit_init(&kit, NULL);
    kit.spaces[0].compression = KV_COMPRESSION_NONE;
    kv_kit_must_open(&kit);
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "k%04d", i);
        kv_kit_put(&kit, 0, key, "a value of some length");
    }
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    kv_file_name(name, kit.db->view->version->trees[0].items[0].number, KV_NAME_TABLE);
    kv_kit_close(&kit);
    flip_byte(&kit, name, 0.3);
    kv_kit_must_open(&kit);
    cr_assert(report_of(&kit).sound, "nobody has met it yet");
    int damaged = 0;
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "k%04d", i);
        kv_status rc = kv_get(kit.db, NULL, 0, kv_slice_str(key), &value, &kit.err);
        damaged += rc == KV_CORRUPT;
        kv_pinned_release(&value);
    }
    struct kv_health_report r = report_of(&kit);
    cr_assert(damaged > 0 && r.damage_seen == (uint64_t)damaged && !r.sound);
    kv_kit_release(&kit);
}

Test(health, a_step_of_the_clock_waits_to_be_accepted)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    clock_manual_set_wall_ms(&kit.clock, 1700000000000 - 3600000);
    struct kv_health_report r = report_of(&kit);
    cr_assert(!r.sound && r.clock_step_ms == -3600000);
    cr_assert_eq(kv_retention_clock_accept(kit.db, &kit.err), KV_OK);
    cr_assert(report_of(&kit).sound);
    kv_kit_release(&kit);
}

Test(health, the_text_says_what_is_wrong)
{
    struct kv_health_report report = {
        .writable = KV_NO_SPACE, .pressure = KV_PRESSURE_STALLED, .merges_stopped = true};
    struct kv_buf text = {0};
    static const char *const told[] = {"sound=no\n", "writable=no code=KV_NO_SPACE", "stopped=yes",
                                       "commits wait for a flush", "name=backup"};
    cr_assert_eq(kv_health_text(&report, &text), KV_OK);
    cr_assert_eq(kv_buf_append_byte(&text, 0), KV_OK);
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        cr_expect(strstr((char *)text.data, told[i]) != NULL, "nothing of %s in\n%s", told[i],
                  (char *)text.data);
    kv_buf_release(&text);
}
