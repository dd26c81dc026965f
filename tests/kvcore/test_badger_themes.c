/*
 * What users of BadgerDB suffer from (part 2 of kvcore/docs/checklist.md), one test a theme, through kv.h alone. Themes of transactions and
 * backups stand with their modules, in the same suite.
 */
#include "kvcore/os/thread.h"
#include "kvcore/os/vfs.h"
#include "tests/support/kv_kit.h"
#include "tests/support/vfs_crash.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>

enum { VALUE_BYTES = 100 };

/* A small levelled space, so that little data has levels. */
static void small(struct kv_kit *kit, struct kv_vfs *vfs)
{
    kv_kit_init(kit, vfs);
    kit->spaces[0] = (struct kv_space_options){.name = "a",
                                               .style = KV_STYLE_LEVELLED,
                                               .compression = KV_COMPRESSION_NONE,
                                               .table_bytes = 8 << 10,
                                               .level_base_bytes = 32 << 10,
                                               .level_multiplier = 4};
}

static kv_slice key_of(unsigned i, char text[16])
{
    snprintf(text, 16, "k%06u", i);
    return kv_slice_str(text);
}

/* put: NULL: deletes. Commits of a hundred, flushed at the end. */
static void write_many(struct kv_kit *kit, unsigned first, unsigned n, const struct kv_put_options *put)
{
    static const char value[VALUE_BYTES] = "v";
    struct kv_batch *batch = NULL;
    char key[16];
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    for (unsigned i = 0; i < n; i++) {
        kv_slice k = key_of(first + i, key);
        cr_assert_eq(put ? kv_batch_put_with(batch, 0, k, kv_slice_of(value, sizeof value), put)
                         : kv_batch_delete(batch, 0, k),
                     KV_OK);
        if (kv_batch_count(batch) == 100 || i + 1 == n) {
            cr_assert_eq(kv_commit(kit->db, batch, NULL, NULL, &kit->err), KV_OK, "%s", kit->err.text);
            kv_batch_clear(batch);
        }
    }
    kv_batch_free(batch);
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK, "%s", kit->err.text);
}

static unsigned count(struct kv_kit *kit)
{
    struct kv_iter *it = NULL;
    unsigned n = 0;
    kv_status rc;
    cr_assert_eq(kv_iter_open(kit->db, NULL, 0, (kv_slice){0}, (kv_slice){0}, &it), KV_OK);
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it))
        n++;
    cr_assert_eq(rc, KV_END);
    kv_iter_close(it);
    return n;
}

static void delete_range(struct kv_kit *kit, kv_slice lower, kv_slice upper)
{
    struct kv_batch *batch = NULL;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_delete_range(batch, 0, lower, upper), KV_OK);
    cr_assert_eq(kv_commit(kit->db, batch, NULL, NULL, &kit->err), KV_OK, "%s", kit->err.text);
    kv_batch_free(batch);
}

static const struct kv_put_options plain = {0};

Test(badger_themes, deletes_free_space_by_themselves)
{
    struct kv_kit kit;
    small(&kit, NULL);
    kv_kit_must_open(&kit);
    write_many(&kit, 0, 2000, &plain);
    kv_kit_work_all(&kit);
    uint64_t full = kv_kit_stats(&kit, 0).table_bytes;
    cr_assert(full > 2000 * VALUE_BYTES);
    for (unsigned part = 0; part < 10;
         part++) { /* nothing but deletions, and the work that waits by itself */
        write_many(&kit, part * 150, 150, NULL);
        kv_kit_work_all(&kit);
    }
    uint64_t left = kv_kit_stats(&kit, 0).table_bytes;
    cr_assert(left * 5 < full * 2, "a quarter is live, %" PRIu64 " of %" PRIu64 " bytes are left", left,
              full);
    cr_assert_eq(count(&kit), 500);
    kv_kit_release(&kit);
}

Test(badger_themes, what_expired_frees_space_by_itself)
{
    struct kv_kit kit;
    small(&kit, NULL);
    kv_kit_must_open(&kit);
    uint64_t now = (uint64_t)kv_retention_clock_ms(kit.db) / 1000;
    write_many(&kit, 0, 2000, &(struct kv_put_options){.expires_at_s = now + 60});
    kv_kit_work_all(&kit);
    uint64_t full = kv_kit_stats(&kit, 0).table_bytes;
    cr_assert_eq(count(&kit), 2000);
    clock_manual_advance_ms(&kit.clock, 61000);
    cr_assert_eq(count(&kit), 0, "expired is never returned, merged or not");
    kv_kit_work_all(&kit);
    cr_assert_eq(kv_kit_stats(&kit, 0).tables, 0, "of %" PRIu64 " bytes %" PRIu64 " are left", full,
                 kv_kit_stats(&kit, 0).table_bytes);
    kv_kit_release(&kit);
}

/* Every order of flush, merge and crash after a deletion over several older versions. */
Test(badger_themes, deleted_data_never_comes_back)
{
    for (unsigned steps = 0; steps < 4 * 4 * 4 * 4; steps++) {
        struct kv_kit kit;
        small(&kit, NULL);
        kv_kit_must_open(&kit);
        for (unsigned round = 0; round < 3; round++) { /* the key on several levels */
            write_many(&kit, 0, 200, &plain);
            kv_kit_work_all(&kit);
        }
        kv_kit_delete(&kit, 0, "k000007");
        delete_range(&kit, KV_STR("k000100"), KV_STR("k000150"));
        for (unsigned i = 0, left = steps; i < 4; i++, left /= 4) {
            if (left % 4 == 0)
                cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
            else if (left % 4 == 1)
                kv_kit_work_all(&kit);
            else if (left % 4 == 2)
                kv_kit_crash(&kit);
            else
                cr_assert_eq(kv_merge_range(kit.db, 0, KV_STR("k000005"), KV_STR("k000120"), &kit.err),
                             KV_OK);
            cr_assert(kv_kit_is(&kit, NULL, 0, "k000007", NULL), "steps %u", steps);
            cr_assert(kv_kit_is(&kit, NULL, 0, "k000149", NULL), "steps %u", steps);
            cr_assert_eq(count(&kit), 200 - 1 - 50, "steps %u", steps);
        }
        kv_kit_release(&kit);
    }
}

Test(badger_themes, opens_after_a_crash_at_any_time, .timeout = 120)
{
    struct vfs_crash *crash = vfs_crash_new();
    struct kv_kit kit;
    unsigned acked[64];
    uint64_t ops[64];
    unsigned n = 0;
    small(&kit, vfs_crash_as_vfs(crash));
    kv_kit_must_open(&kit);
    uint64_t created = vfs_crash_ops(crash);
    for (; n < 20; n++) {
        char key[16];
        key_of(n, key);
        kv_kit_put(&kit, 0, key, "v");
        if (n % 7 == 6)
            cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        acked[n] = n + 1;
        ops[n] = vfs_crash_ops(crash);
    }
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    for (uint64_t at = created; at <= vfs_crash_ops(crash); at++)
        for (uint64_t seed = 0; seed < 4; seed++) {
            struct kv_kit again;
            unsigned sure = 0;
            struct kv_vfs *disk = vfs_crash_at(crash, at, seed, VFS_CRASH_POSIX_MIN);
            for (unsigned i = 0; i < n && ops[i] < at; i++)
                sure = acked[i];
            small(&again, disk);
            cr_assert_eq(kv_kit_open(&again), KV_OK, "power lost after %" PRIu64 " changes: %s", at,
                         again.err.text);
            unsigned found = count(&again);
            cr_assert(found >= sure && found <= sure + 1, "%u of %u, seed %" PRIu64, found, sure, seed);
            kv_kit_release(&again);
            kv_vfs_mem_free(disk);
        }
    kv_kit_release(&kit);
    vfs_crash_free(crash);
}

Test(badger_themes, memory_stays_within_its_budget)
{
    enum { CACHE = 256 << 10, MEMTABLE = 128 << 10 };
    struct kv_kit kit;
    struct kv_env_options env = {.threads = KV_THREADS_NONE, .cache_bytes = CACHE};
    small(&kit, NULL);
    kit.options.memtable_bytes = MEMTABLE;
    kit.options.spaces = kit.spaces;
    env.vfs = kit.vfs;
    env.clock = &kit.clock.base;
    cr_assert_eq(kv_env_open(&env, &kit.env, &kit.err), KV_OK);
    cr_assert_eq(kv_open(kit.env, kit.path, &kit.options, &kit.db, &kit.err), KV_OK);
    for (unsigned i = 0; i < 10; i++) {
        write_many(&kit, i * 2000, 2000, &plain);
        kv_kit_work_all(&kit);
        cr_assert_eq(count(&kit), (i + 1) * 2000);
        cr_assert(kv_kit_metric(&kit, "kv_cache_bytes") <= CACHE, "%" PRIu64,
                  kv_kit_metric(&kit, "kv_cache_bytes"));
        cr_assert(kv_kit_metric(&kit, "kv_memtable_bytes") <= 4 * MEMTABLE);
    }
    cr_assert(kv_kit_stats(&kit, 0).table_bytes > 4 * CACHE, "there is far more than fits");
    kv_kit_release(&kit);
}

/* What an open reads depends on how many files there are, not on what is in them. */
Test(badger_themes, an_open_reads_no_data)
{
    uint64_t reads[2], tables[2];
    for (int big = 0; big < 2; big++) {
        struct kv_kit kit;
        struct kv_vfs *disk = kv_vfs_mem_new();
        struct vfs_fault *fault = vfs_fault_new(disk);
        small(&kit, vfs_fault_as_vfs(fault));
        kit.spaces[0].table_bytes = 64 << 20;
        kit.spaces[0].level_base_bytes = 256 << 20;
        kv_kit_must_open(&kit);
        write_many(&kit, 0, big ? 30000 : 300, &plain);
        cr_assert_eq(kv_kit_close(&kit), KV_OK);
        uint64_t before = vfs_fault_count(fault, VFS_OP_READ);
        kv_kit_must_open(&kit);
        reads[big] = vfs_fault_count(fault, VFS_OP_READ) - before;
        tables[big] = kv_kit_stats(&kit, 0).tables;
        kv_kit_release(&kit);
        vfs_fault_free(fault);
        kv_vfs_mem_free(disk);
    }
    cr_assert_eq(tables[0], tables[1]);
    cr_assert(reads[1] <= reads[0] + 2,
              "%" PRIu64 " reads with a hundred times the data, %" PRIu64 " without", reads[1], reads[0]);
}

Test(badger_themes, a_scan_does_not_walk_what_a_range_deletion_covers)
{
    struct kv_kit kit;
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(disk);
    small(&kit, vfs_fault_as_vfs(fault));
    kv_kit_must_open(&kit);
    write_many(&kit, 0, 5000, &plain);
    kv_kit_work_all(&kit);
    delete_range(&kit, KV_STR("k000100"), KV_STR("k004900"));
    uint64_t merges = kv_kit_metric(&kit, "kv_merges_total");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK); /* drops the tables that lie under it whole */
    cr_assert_eq(kv_kit_metric(&kit, "kv_merges_total"), merges, "nothing was rewritten for that");
    kv_kit_reopen(&kit); /* nothing is in the cache */
    uint64_t before = vfs_fault_count(fault, VFS_OP_READ);
    cr_assert_eq(count(&kit), 200);
    uint64_t reads = vfs_fault_count(fault, VFS_OP_READ) - before;
    cr_assert(reads < 5000 * VALUE_BYTES / 4096 / 3, "%" PRIu64 " blocks were read for 200 entries", reads);
    kv_kit_release(&kit);
    vfs_fault_free(fault);
    kv_vfs_mem_free(disk);
}

Test(badger_themes, a_range_is_deleted_in_one_entry_while_writers_go_on)
{
    struct kv_kit kit;
    small(&kit, NULL);
    kv_kit_must_open(&kit);
    write_many(&kit, 0, 20000, &plain);
    kv_kit_work_all(&kit);
    struct kv_snapshot *before = NULL;
    cr_assert_eq(kv_snapshot_open(kit.db, &before), KV_OK);
    uint64_t logged = kv_kit_metric(&kit, "kv_commit_batch_bytes_total");
    delete_range(&kit, KV_STR("k000000"), KV_STR("k019000"));
    cr_assert(kv_kit_metric(&kit, "kv_commit_batch_bytes_total") - logged < 100,
              "one entry, whatever it covers");
    kv_kit_put(&kit, 0, "k000500", "again"); /* at once */
    cr_assert(kv_kit_is(&kit, NULL, 0, "k000500", "again"));
    cr_assert_eq(count(&kit), 1001);
    struct kv_pinned got;
    cr_assert_eq(kv_get(kit.db, before, 0, KV_STR("k000499"), &got, NULL), KV_OK,
                 "who read before still sees it");
    kv_pinned_release(&got);
    kv_snapshot_close(before);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    kv_kit_work_all(&kit);
    cr_assert_eq(count(&kit), 1001);
    kv_kit_release(&kit);
}

struct writer {
    struct kv_kit *kit;
    kv_thread thread;
    char key[16];
    kv_status rc;
};

static void writer_run(void *ctx)
{
    struct writer *w = ctx;
    struct kv_batch *batch = NULL;
    w->rc = kv_batch_new(&batch);
    if (w->rc == KV_OK)
        w->rc = kv_batch_put(batch, 0, kv_slice_str(w->key), KV_STR("v"));
    if (w->rc == KV_OK)
        w->rc = kv_commit(w->kit->db, batch, NULL, NULL, NULL);
    kv_batch_free(batch);
}

Test(badger_themes, commits_that_wait_together_share_a_sync)
{
    enum { WRITERS = 8 };
    struct kv_kit kit;
    struct writer writers[WRITERS];
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(disk);
    small(&kit, vfs_fault_as_vfs(fault));
    kv_kit_must_open(&kit);
    uint64_t before = kv_kit_metric(&kit, "kv_log_syncs_total");
    vfs_fault_stall_syncs(fault, true); /* the first one's sync takes as long as the others need to come */
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.kit = &kit};
        key_of(i, writers[i].key);
        cr_assert_eq(kv_thread_start(&writers[i].thread, "writer", 0, writer_run, &writers[i]), KV_OK);
        if (i == 0)
            vfs_fault_wait_stalled(fault);
    }
    kv_clock_sleep_ns(kv_clock_system(), 100000000); /* late ones only make more syncs */
    vfs_fault_stall_syncs(fault, false);
    for (unsigned i = 0; i < WRITERS; i++) {
        kv_thread_join(&writers[i].thread);
        cr_assert_eq(writers[i].rc, KV_OK);
    }
    uint64_t syncs = kv_kit_metric(&kit, "kv_log_syncs_total") - before;
    cr_assert(syncs < WRITERS, "%" PRIu64 " syncs for %d commits", syncs, WRITERS);
    cr_assert_eq(count(&kit), WRITERS);
    kv_kit_release(&kit);
    vfs_fault_free(fault);
    kv_vfs_mem_free(disk);
}
