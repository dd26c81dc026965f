#include "tests/support/kv_kit.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

Test(flush, what_was_in_memory_is_in_tables_and_the_log_is_cut)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kit.options.log_file_bytes = 4096;
    kv_kit_must_open(&kit);
    for (int i = 0; i < 300; i++)
        kv_kit_put(&kit, 0, (char[4]){(char)('a' + i % 26), (char)('a' + i / 26), 0, 0}, "value");
    cr_assert(kv_kit_files(&kit, ".log") > 3);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_leq(kv_kit_files(&kit, ".log"), 1);
    cr_assert_eq(kv_kit_stats(&kit, 0).entries, 300);
    cr_assert_eq(kv_kit_stats(&kit, 1).tables, 0);
    kv_kit_crash(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "aa", "value"));
    cr_assert_eq(kv_seq(kit.db), 300);
    kv_kit_put(&kit, 0, "zz", "again");
    cr_assert_eq(kv_seq(kit.db), 301);
    kv_kit_release(&kit);
}

Test(flush, application_records_hold_their_log_files)
{
    struct kv_kit kit;
    char record[512];
    uint64_t seq = 0;
    kv_kit_init(&kit, NULL);
    kit.options.log_file_bytes = 4096;
    kv_kit_must_open(&kit);
    memset(record, 'r', sizeof record - 1);
    record[sizeof record - 1] = 0;
    for (int i = 0; i < 60; i++)
        cr_assert_eq(kv_kit_try_record(&kit, record, &seq), KV_OK);
    kv_kit_put(&kit, 0, "k", "v");
    size_t before = kv_kit_files(&kit, ".log");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_files(&kit, ".log"), before);
    kv_kit_bulk(&kit, 0, NULL, 0, "", seq + 1);
    cr_assert_leq(kv_kit_files(&kit, ".log"), 1);
    kv_kit_release(&kit);
}

Test(flush, a_log_file_that_holds_nothing_needed_goes_even_while_it_is_written)
{
    struct kv_kit kit;
    char record[600];
    uint64_t seq = 0;
    kv_kit_init(&kit, NULL);
    kit.options.log_file_bytes = 1 << 20;
    kv_kit_must_open(&kit);
    memset(record, 'r', sizeof record - 1);
    record[sizeof record - 1] = 0;
    for (int round = 0; round < 3; round++) {
        kv_kit_put(&kit, 0, "k", "v");
        for (int i = 0; i < 50; i++)
            cr_assert_eq(kv_kit_try_record(&kit, record, &seq), KV_OK);
        if (round < 2)
            kv_kit_bulk(&kit, 0, NULL, 0, "", seq + 1);
        if (round == 0)
            cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        if (round < 2)
            cr_assert_lt(kv_kit_metric(&kit, "kv_log_file_bytes"), 1000);
        kv_kit_crash(&kit);
    }
    cr_assert_gt(kv_kit_metric(&kit, "kv_log_file_bytes"), 25000, "records that were not passed are kept");
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", "v"));
    kv_kit_release(&kit);
}

Test(flush, a_memtable_far_behind_the_end_of_the_log_is_flushed_whatever_its_size)
{
    struct kv_kit kit;
    char record[512];
    kv_kit_init(&kit, NULL);
    kit.options.log_file_bytes = 4096;
    kit.options.log_bytes_max = 16384;
    kv_kit_must_open(&kit);
    memset(record, 'r', sizeof record - 1);
    record[sizeof record - 1] = 0;
    kv_kit_put(&kit, 0, "k", "v");
    for (int i = 0; i < 100; i++)
        cr_assert_eq(kv_kit_try_record(&kit, record, NULL), KV_OK);
    kv_kit_work_all(&kit);
    cr_assert_eq(kv_kit_metric(&kit, "kv_flushes_total"), 1);
    kv_kit_release(&kit);
}

Test(flush, of_each_key_one_entry_is_kept_and_deletions_of_nothing_none)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    for (int i = 0; i < 10; i++)
        kv_kit_put(&kit, 0, "k", "v");
    kv_kit_delete(&kit, 0, "never there");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_stats(&kit, 0).entries, 1);
    kv_kit_delete(&kit, 0, "k");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_stats(&kit, 0).entries, 2);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", NULL));
    kv_kit_release(&kit);
}

Test(flush, one_that_failed_is_reported_and_tried_again)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    struct vfs_fault *fault = vfs_fault_new(kit.own);
    kit.vfs = vfs_fault_as_vfs(fault);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "k", "v");
    vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = 1, .ops = VFS_OP_SYNC, .glob = "*.tbl"});
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_IO);
    cr_assert(vfs_fault_fired(fault));
    cr_assert_eq(kv_kit_files(&kit, ".tbl"), 0, "nothing half-done stays");
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", "v"));
    vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = 1, .ops = VFS_OP_SYNC, .glob = "*.man"});
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK, "a failed manifest sync starts a new manifest file");
    cr_assert(vfs_fault_fired(fault));
    cr_assert_eq(kv_kit_files(&kit, ".man"), 1);
    kv_kit_reopen(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", "v"));
    kv_kit_close(&kit);
    vfs_fault_free(fault);
    kv_kit_release(&kit);
}

Test(flush, commits_go_on_failing_only_as_long_as_the_flush_does)
{
    struct kv_kit kit;
    char key[16];
    int i = 0, refused = 0;
    kv_kit_init(&kit, NULL);
    struct vfs_fault *fault = vfs_fault_new(kit.own);
    kit.vfs = vfs_fault_as_vfs(fault);
    kit.options.memtable_bytes = 4096;
    kit.threads = 1;
    kv_kit_must_open(&kit);
    vfs_fault_plan(fault,
                   &(struct vfs_fault_plan){.nth = 1, .ops = VFS_OP_APPEND, .glob = "*.tbl", .sticky = true});
    for (; i < 5000 && !refused; i++) {
        snprintf(key, sizeof key, "%05d", i);
        refused = kv_kit_try_put(&kit, 0, key, "a value that takes some room") == KV_IO;
    }
    cr_assert(refused, "memtables are bounded");
    vfs_fault_plan(fault, NULL);
    kv_kit_put(&kit, 0, key, "taken again");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_stats(&kit, 0).entries, (uint64_t)i);
    cr_assert(kv_kit_is(&kit, NULL, 0, key, "taken again"));
    kv_kit_close(&kit);
    vfs_fault_free(fault);
    kv_kit_release(&kit);
}

Test(flush, works_whatever_the_durability)
{
    for (int d = KV_DURABILITY_GROUP; d <= KV_DURABILITY_OS; d++)
        for (int threads = KV_THREADS_NONE; threads <= 1; threads += 2) {
            struct kv_kit kit;
            char key[16];
            kv_kit_init(&kit, NULL);
            kit.threads = threads;
            kit.options.durability = (enum kv_durability)d;
            kit.options.sync_interval_ms = d == KV_DURABILITY_INTERVAL ? 1000 : 0;
            kit.options.memtable_bytes = 4096;
            kit.options.log_file_bytes = 8192;
            kv_kit_must_open(&kit);
            for (int i = 0; i < 1000; i++) {
                snprintf(key, sizeof key, "%04d", i);
                kv_kit_put(&kit, 0, key, "value");
                if (i % 300 == 299)
                    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
            }
            cr_assert_eq(kv_sync(kit.db, &kit.err), KV_OK);
            kv_kit_crash(&kit);
            cr_assert_eq(kv_seq(kit.db), 1000, "durability %d", d);
            for (int i = 0; i < 1000; i += 111) {
                snprintf(key, sizeof key, "%04d", i);
                cr_assert(kv_kit_is(&kit, NULL, 0, key, "value"));
            }
            kv_kit_release(&kit);
        }
}

/* Without a sync of the log first, tables would say what the log has lost. */
Test(flush, in_a_weak_durability_a_crash_loses_the_end_and_nothing_else)
{
    struct kv_kit kit;
    char key[16];
    kv_kit_init(&kit, NULL);
    kit.options.durability = KV_DURABILITY_OS;
    kit.options.memtable_bytes = 4096;
    kv_kit_must_open(&kit);
    for (int i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "%04d", i);
        kv_kit_put(&kit, 0, key, "value");
    }
    kv_kit_crash(&kit);
    uint64_t n = kv_seq(kit.db);
    cr_assert(n > 0 && n < 500);
    for (int i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "%04d", i);
        cr_assert(kv_kit_is(&kit, NULL, 0, key, (uint64_t)i < n ? "value" : NULL), "%d of %d", i, (int)n);
    }
    kv_kit_release(&kit);
}

Test(flush, a_full_disk_stops_commits_and_dropping_tables_lets_them_go_on)
{
    struct kv_kit kit;
    char key[16], value[200];
    uint64_t bytes;
    int i = 0;
    kv_status rc = KV_OK;
    kv_kit_init(&kit, NULL);
    struct vfs_fault *fault = vfs_fault_new(kit.own);
    kit.vfs = vfs_fault_as_vfs(fault);
    kit.options.memtable_bytes = 16 << 10;
    kit.options.log_file_bytes = 16 << 10;
    kit.spaces[0].compression = KV_COMPRESSION_NONE;
    kv_kit_must_open(&kit);
    vfs_fault_set_capacity(fault, 400 << 10);
    for (size_t n = 0; n < sizeof value; n++)
        value[n] = n + 1 < sizeof value ? 'v' : 0;
    for (; i < 20000 && rc == KV_OK; i++) {
        snprintf(key, sizeof key, "%05d", i);
        rc = kv_kit_try_put(&kit, 0, key, value);
    }
    cr_assert_eq(rc, KV_NO_SPACE, "%s", kv_status_name(rc));
    cr_assert(kv_kit_is(&kit, NULL, 0, "00000", value));
    cr_assert(kv_kit_is(&kit, NULL, 0, key, NULL), "what was refused is not there");
    cr_assert_eq(kv_drop_tables(kit.db, 0, KV_STR(""), KV_STR(""), &bytes, &kit.err), KV_OK, "%s",
                 kit.err.text);
    cr_assert_gt(bytes, 0);
    rc = kv_work(kit.db, &kit.err);
    cr_assert(rc == KV_OK || rc == KV_END, "%s", kit.err.text);
    kv_kit_put(&kit, 0, "again", "1");
    vfs_fault_set_capacity(fault, 0);
    kv_kit_reopen(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "again", "1"));
    kv_kit_close(&kit);
    vfs_fault_free(fault);
    kv_kit_release(&kit);
}
