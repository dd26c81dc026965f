#include "tests/support/kv_kit.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

static const char *const keys[] = {"a", "b", "c"};

Test(bulk, a_load_is_newer_than_what_was_and_older_than_what_comes)
{
    struct kv_kit kit;
    char text[256];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "a", "before");
    kv_kit_delete(&kit, 0, "b");
    cr_assert_eq(kv_kit_bulk(&kit, 0, keys, 3, "load", 0), 3);
    cr_assert_eq(kv_seq(kit.db), 3);
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text), "a=load b=load c=load");
    kv_kit_put(&kit, 0, "c", "after");
    for (int i = 0; i < 3; i++) { /* memtables in place, flushed (older entries in a newer table), merged */
        cr_assert(kv_kit_is(&kit, NULL, 0, "a", "load"));
        cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text), "a=load b=load c=after", "%d",
                         i);
        if (i == 0)
            cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        if (i == 1)
            cr_assert_eq(kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""), &kit.err), KV_OK);
    }
    kv_kit_crash(&kit);
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text), "a=load b=load c=after");
    kv_kit_release(&kit);
}

Test(bulk, nothing_is_visible_before_install_and_an_abort_leaves_no_trace)
{
    struct kv_kit kit;
    struct kv_bulk *bulk = NULL;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_bulk_open(kit.db, 0, &bulk, &kit.err), KV_OK);
    cr_assert_eq(kv_bulk_add(bulk, KV_STR("a"), KV_STR("1"), &kit.err), KV_OK);
    cr_assert(kv_kit_is(&kit, NULL, 0, "a", NULL));
    kv_bulk_abort(bulk);
    cr_assert_eq(kv_kit_files(&kit, ".tbl"), 0);
    cr_assert_eq(kv_seq(kit.db), 0);
    kv_kit_release(&kit);
}

Test(bulk, keys_must_increase_and_a_failed_load_stays_failed)
{
    struct kv_kit kit;
    struct kv_bulk *bulk = NULL;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_bulk_open(kit.db, 0, &bulk, &kit.err), KV_OK);
    cr_assert_eq(kv_bulk_add(bulk, KV_STR("b"), KV_STR("1"), &kit.err), KV_OK);
    cr_assert_eq(kv_bulk_add(bulk, KV_STR("b"), KV_STR("1"), &kit.err), KV_INVALID);
    cr_assert_eq(kv_bulk_add(bulk, KV_STR("c"), KV_STR("1"), &kit.err), KV_INVALID);
    cr_assert_eq(kv_bulk_install(bulk, 0, NULL, &kit.err), KV_INVALID);
    cr_assert_eq(kv_kit_files(&kit, ".tbl"), 0);
    cr_assert_eq(kv_bulk_open(kit.db, 2, &bulk, &kit.err), KV_INVALID);
    kv_kit_release(&kit);
}

Test(bulk, a_floor_behind_the_newest_commit_is_refused)
{
    struct kv_kit kit;
    struct kv_bulk *bulk = NULL;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_bulk_open(kit.db, 0, &bulk, &kit.err), KV_OK);
    cr_assert_eq(kv_bulk_install(bulk, 2, NULL, &kit.err), KV_INVALID);
    kv_kit_release(&kit);
}

Test(bulk, the_floor_flushes_older_memtables_so_that_the_log_can_be_cut)
{
    struct kv_kit kit;
    uint64_t seq = 0;
    char record[600];
    kv_kit_init(&kit, NULL);
    kit.options.log_file_bytes = 4096;
    kv_kit_must_open(&kit);
    memset(record, 'x', sizeof record - 1);
    record[sizeof record - 1] = 0;
    kv_kit_put(&kit, 1, "registry", "entry");
    for (int i = 0; i < 40; i++)
        cr_assert_eq(kv_kit_try_record(&kit, record, &seq), KV_OK);
    cr_assert_gt(kv_kit_files(&kit, ".log"), 4);
    kv_kit_bulk(&kit, 0, keys, 3, "load", seq + 1);
    cr_assert_leq(kv_kit_files(&kit, ".log"), 2);
    kv_kit_crash(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 1, "registry", "entry"));
    cr_assert(kv_kit_is(&kit, NULL, 0, "b", "load"));
    struct kv_records *cursor = NULL;
    kv_slice at;
    cr_assert_eq(kv_records_open(kit.db, &cursor, &kit.err), KV_OK);
    cr_assert_eq(kv_records_next(cursor, &seq, &at, &kit.err), KV_END);
    kv_records_close(cursor);
    kv_kit_release(&kit);
}

/* Installing and moving the floor are one step: whichever operation fails or is the last before a crash, both happened or none. */
Test(bulk, tables_and_floor_come_together_or_not_at_all)
{
    bool fired = true;
    for (uint64_t nth = 1; fired; nth++) {
        struct kv_kit kit;
        struct kv_bulk *bulk = NULL;
        uint64_t seq = 0;
        kv_slice record;
        kv_kit_init(&kit, NULL);
        struct vfs_fault *fault = vfs_fault_new(kit.own);
        kit.vfs = vfs_fault_as_vfs(fault);
        kv_kit_must_open(&kit);
        cr_assert_eq(kv_kit_try_record(&kit, "record", NULL), KV_OK);
        vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = nth, .sticky = nth % 2 == 0});
        kv_status rc = kv_bulk_open(kit.db, 0, &bulk, &kit.err);
        if (rc == KV_OK) {
            kv_status added = kv_bulk_add(bulk, KV_STR("a"), KV_STR("load"), &kit.err);
            rc = kv_bulk_install(bulk, 2, NULL, &kit.err);
            cr_assert(added == KV_OK || rc < 0);
        }
        fired = vfs_fault_fired(fault);
        vfs_fault_plan(fault, NULL);
        cr_assert(fired || rc == KV_OK);
        cr_assert(kv_kit_is(&kit, NULL, 0, "a", rc == KV_OK ? "load" : NULL), "operation %d", (int)nth);
        struct kv_vfs *power_lost = kv_vfs_mem_crash_clone(kit.own);
        kv_kit_close(&kit);
        kit.vfs = power_lost;
        kv_kit_must_open(&kit);
        struct kv_records *cursor = NULL;
        cr_assert_eq(kv_records_open(kit.db, &cursor, &kit.err), KV_OK);
        bool asked_again = kv_records_next(cursor, &seq, &record, &kit.err) == KV_OK;
        kv_records_close(cursor);
        cr_assert(kv_kit_is(&kit, NULL, 0, "a", asked_again ? NULL : "load"), "operation %d", (int)nth);
        cr_assert(rc < 0 || !asked_again, "operation %d: what was answered is there", (int)nth);
        kv_kit_close(&kit);
        kv_vfs_mem_free(power_lost);
        vfs_fault_free(fault);
        kv_kit_release(&kit);
    }
}
