#include "tests/support/kv_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>

static void fill(struct kv_kit *kit)
{
    kv_kit_put(kit, 0, "a", "table");
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
    kv_kit_put(kit, 0, "b", "log");
    kv_kit_put(kit, 1, "c", "log");
    cr_assert_eq(kv_kit_try_record(kit, "record", NULL), KV_OK);
}

static void check_copy(struct kv_kit *kit)
{
    struct kv_records *cursor = NULL;
    kv_slice record;
    uint64_t seq;
    cr_assert(kv_kit_is(kit, NULL, 0, "a", "table"));
    cr_assert(kv_kit_is(kit, NULL, 0, "b", "log"));
    cr_assert(kv_kit_is(kit, NULL, 1, "c", "log"));
    cr_assert(kv_kit_is(kit, NULL, 0, "later", NULL));
    cr_assert_eq(kv_seq(kit->db), 4);
    cr_assert_eq(kv_records_open(kit->db, &cursor, &kit->err), KV_OK);
    cr_assert_eq(kv_records_next(cursor, &seq, &record, &kit->err), KV_OK);
    cr_assert(seq == 4 && kv_slice_equal(record, KV_STR("record")));
    cr_assert_eq(kv_records_next(cursor, &seq, &record, &kit->err), KV_END);
    kv_records_close(cursor);
}

Test(checkpoint, a_copy_is_a_database_of_that_moment)
{
    struct kv_kit kit;
    uint8_t uuid[16], copied[16];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    cr_assert_eq(kv_checkpoint(kit.db, "copy", &kit.err), KV_OK, "%s", kit.err.text);
    kv_kit_put(&kit, 0, "later", "1");
    kv_kit_delete(&kit, 0, "a");
    cr_assert_eq(kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""), &kit.err), KV_OK);
    cr_assert_eq(kv_checkpoint(kit.db, "copy", &kit.err), KV_EXISTS);
    kv_uuid(kit.db, uuid);
    kv_kit_close(&kit);
    kit.path = "copy";
    kv_kit_crash(&kit);
    check_copy(&kit);
    kv_uuid(kit.db, copied);
    cr_assert_arr_eq(uuid, copied, 16);
    kv_kit_put(&kit, 0, "later", "in the copy");
    kv_kit_close(&kit);
    cr_assert_eq(
        kv_env_open(
            &(struct kv_env_options){.vfs = kit.vfs, .clock = &kit.clock.base, .threads = KV_THREADS_NONE},
            &kit.env, &kit.err),
        KV_OK);
    cr_assert_eq(kv_check(kit.env, "copy", NULL, NULL, &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(kv_check(kit.env, "db", NULL, NULL, &kit.err), KV_OK, "%s", kit.err.text);
    kv_kit_close(&kit);
    kit.path = "db";
    kv_kit_must_open(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "later", "1"));
    cr_assert(kv_kit_is(&kit, NULL, 0, "a", NULL));
    kv_kit_release(&kit);
}

Test(checkpoint, of_an_empty_database_works_too)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_checkpoint(kit.db, "copy", &kit.err), KV_OK, "%s", kit.err.text);
    kv_kit_close(&kit);
    kit.path = "copy";
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_seq(kit.db), 0);
    kv_kit_release(&kit);
}
