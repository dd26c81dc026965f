#include "tests/support/kv_kit.h"
#include "tests/support/malloc_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

Test(db_commit, the_last_write_of_a_key_wins)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "k", "1");
    kv_kit_put(&kit, 1, "k", "other space");
    kv_kit_put(&kit, 0, "k", "2");
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", "2"));
    kv_kit_delete(&kit, 0, "k");
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", NULL));
    cr_assert(kv_kit_is(&kit, NULL, 1, "k", "other space"));
    kv_kit_put(&kit, 0, "k", "");
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", ""));
    cr_assert_eq(kv_seq(kit.db), 5);
    kv_kit_release(&kit);
}

Test(db_commit, a_batch_is_atomic_across_spaces_and_a_crash)
{
    struct kv_kit kit;
    struct kv_batch *batch = NULL;
    uint64_t seq;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put(batch, 0, KV_STR("x"), KV_STR("1")), KV_OK);
    cr_assert_eq(kv_batch_put(batch, 1, KV_STR("y"), KV_STR("2")), KV_OK);
    cr_assert_eq(kv_commit(kit.db, batch, NULL, &seq, &kit.err), KV_OK);
    cr_assert_eq(seq, 1);
    kv_batch_free(batch);
    kv_kit_crash(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "x", "1"));
    cr_assert(kv_kit_is(&kit, NULL, 1, "y", "2"));
    kv_kit_release(&kit);
}

struct applied {
    char text[256];
    uint64_t last;
};

static void apply(void *ctx, uint64_t seq, kv_slice record, void *commit_ctx)
{
    struct applied *applied = ctx;
    (void)commit_ctx;
    size_t n = strlen(applied->text);
    snprintf(applied->text + n, sizeof applied->text - n, "%.*s@%d ", KV_ARG(record), (int)seq);
    applied->last = seq;
}

static const char *records(struct kv_kit *kit, char *out, size_t size)
{
    struct kv_records *cursor = NULL;
    uint64_t seq;
    kv_slice record;
    kv_status rc;
    size_t n = 0;
    out[0] = 0;
    cr_assert_eq(kv_records_open(kit->db, &cursor, &kit->err), KV_OK);
    while ((rc = kv_records_next(cursor, &seq, &record, &kit->err)) == KV_OK)
        n += (size_t)snprintf(out + n, size - n, "%.*s@%d ", KV_ARG(record), (int)seq);
    cr_assert_eq(rc, KV_END, "%s", kit->err.text);
    kv_records_close(cursor);
    return out;
}

Test(db_commit, records_are_applied_live_and_read_back_after_a_crash)
{
    struct kv_kit kit;
    struct applied applied = {0};
    char text[256];
    kv_kit_init(&kit, NULL);
    kit.options.apply = apply;
    kit.options.apply_ctx = &applied;
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_kit_try_record(&kit, "one", NULL), KV_OK);
    kv_kit_put(&kit, 0, "k", "v");
    cr_assert_eq(kv_kit_try_record(&kit, "two", NULL), KV_OK);
    cr_assert_str_eq(applied.text, "one@1 two@3 ");
    kv_kit_crash(&kit);
    cr_assert_str_eq(applied.text, "one@1 two@3 ", "nothing is applied at open");
    cr_assert_str_eq(records(&kit, text, sizeof text), "one@1 two@3 ");
    cr_assert_eq(kv_kit_try_record(&kit, "three", NULL), KV_OK);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    kv_kit_reopen(&kit);
    cr_assert_str_eq(records(&kit, text, sizeof text), "one@1 two@3 three@4 ",
                     "a flush does not move the floor");
    kv_kit_bulk(&kit, 0, NULL, 0, "", 4);
    kv_kit_reopen(&kit);
    cr_assert_str_eq(records(&kit, text, sizeof text), "three@4 ");
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", "v"));
    kv_kit_release(&kit);
}

Test(db_commit, a_full_memtable_is_flushed_inside_the_commit_when_there_are_no_threads)
{
    struct kv_kit kit;
    char key[16];
    kv_kit_init(&kit, NULL);
    kit.options.memtable_bytes = 1 << 12;
    kv_kit_must_open(&kit);
    for (int i = 0; i < 2000; i++) {
        snprintf(key, sizeof key, "%05d", i);
        kv_kit_put(&kit, 0, key, "some value that takes room");
    }
    cr_assert(kv_kit_metric(&kit, "kv_flushes_total") > 5);
    cr_assert(kv_kit_metric(&kit, "kv_memtables_waiting") <= 3);
    for (int i = 0; i < 2000; i += 37) {
        snprintf(key, sizeof key, "%05d", i);
        cr_assert(kv_kit_is(&kit, NULL, 0, key, "some value that takes room"));
    }
    kv_kit_release(&kit);
}

Test(db_commit, background_threads_do_the_same)
{
    struct kv_kit kit;
    char key[16];
    kv_kit_init(&kit, NULL);
    kit.options.memtable_bytes = 1 << 12;
    kit.threads = 2;
    kv_kit_must_open(&kit);
    for (int i = 0; i < 2000; i++) {
        snprintf(key, sizeof key, "%05d", i);
        kv_kit_put(&kit, 0, key, "some value that takes room");
    }
    cr_assert_eq(kv_work(kit.db, &kit.err), KV_INVALID);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_metric(&kit, "kv_memtables_waiting"), 0);
    for (int i = 0; i < 2000; i += 37) {
        snprintf(key, sizeof key, "%05d", i);
        cr_assert(kv_kit_is(&kit, NULL, 0, key, "some value that takes room"));
    }
    kv_kit_release(&kit);
}

Test(db_commit, unknown_spaces_and_impossible_keys_are_refused)
{
    struct kv_kit kit;
    struct kv_pinned found;
    struct kv_iter *it = NULL;
    static char long_key[KV_KEY_LEN_MAX + 2];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    memset(long_key, 'k', sizeof long_key - 1);
    cr_assert_eq(kv_kit_try_put(&kit, 2, "k", "v"), KV_INVALID);
    cr_assert_eq(kv_kit_try_put(&kit, 0, "", "v"), KV_INVALID);
    cr_assert_eq(kv_kit_try_put(&kit, 0, long_key, "v"), KV_INVALID);
    cr_assert_eq(kv_get(kit.db, NULL, 2, KV_STR("k"), &found, &kit.err), KV_INVALID);
    cr_assert_eq(kv_iter_open(kit.db, NULL, 2, KV_STR(""), KV_STR(""), &it), KV_INVALID);
    cr_assert_eq(kv_seq(kit.db), 0);
    kv_kit_release(&kit);
}

/* Every allocation of a small life is made to fail in turn: nothing answered is lost, nothing leaks, nothing aborts. */
Test(db_commit, any_failed_allocation_is_reported_and_loses_nothing)
{
    bool fired = true;
    for (uint64_t nth = 1; fired; nth++) {
        struct kv_kit kit;
        bool x = false, y = false;
        kv_kit_init(&kit, NULL);
        malloc_fault_arm(nth, false);
        kv_status rc = kv_kit_open(&kit);
        if (rc == KV_OK) {
            x = kv_kit_try_put(&kit, 0, "x", "1") == KV_OK;
            rc = kv_flush(kit.db, &kit.err);
            y = kv_kit_try_put(&kit, 0, "y", "2") == KV_OK;
            rc = kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""), &kit.err);
        }
        kv_kit_close(&kit);
        fired = malloc_fault_disarm();
        kv_kit_must_open(&kit);
        cr_assert(!x || kv_kit_is(&kit, NULL, 0, "x", "1"), "allocation %d", (int)nth);
        cr_assert(!y || kv_kit_is(&kit, NULL, 0, "y", "2"), "allocation %d", (int)nth);
        cr_assert(fired || (x && y));
        kv_kit_release(&kit);
    }
}

/* Sequences that a crash takes back are handed out again: puts under them are not below any floor. */
Test(db_commit, no_edit_moves_a_floor_past_what_is_not_synced)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kit.options.durability = KV_DURABILITY_INTERVAL;
    kit.options.sync_interval_ms = 60000;
    kv_kit_must_open(&kit);
    for (int i = 0; i < 2; i++) {
        kv_kit_put(&kit, 0, "a", "1");
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    }
    for (int i = 0; i < 3; i++)
        cr_assert_eq(kv_kit_try_record(&kit, "record", NULL), KV_OK);
    cr_assert_eq(kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""), &kit.err), KV_OK);
    kv_kit_crash(&kit); /* the three records were not synced */
    kv_kit_put(&kit, 0, "b", "2");
    cr_assert_eq(kv_sync(kit.db, &kit.err), KV_OK);
    kv_kit_crash(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "a", "1"));
    cr_assert(kv_kit_is(&kit, NULL, 0, "b", "2"));
    kv_kit_release(&kit);
}
