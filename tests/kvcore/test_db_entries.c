/* Attributes, expiry, operands, versions and range deletions through the whole engine: memtable, table, merged table, reopened. */
#include "kvcore/base/list.h"
#include "kvcore/db/db.h"
#include "tests/support/kv_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* Appends operands to the value, commas between. */
static kv_status fold_commas(void *ctx, kv_slice key, const kv_slice *value, const kv_slice *operands,
                             size_t n, struct kv_buf *out)
{
    (void)ctx, (void)key;
    kv_status rc = value ? kv_buf_append(out, *value) : KV_OK;
    for (size_t i = 0; i < n && rc == KV_OK; i++) {
        if (out->len)
            rc = kv_buf_append_byte(out, ',');
        if (rc == KV_OK)
            rc = kv_buf_append(out, operands[i]);
        if (kv_slice_equal(operands[i], KV_STR("fail")))
            return KV_INVALID;
    }
    return rc;
}
static const struct kv_merge_operator commas = {NULL, fold_commas};

enum stage { IN_MEMTABLE, IN_TABLE, IN_MERGED, AFTER_REOPEN, STAGES };

/* Moves what was written on to the next place where it can lie. */
static void advance(struct kv_kit *kit, enum stage stage)
{
    if (stage == IN_TABLE)
        cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
    if (stage == IN_MERGED)
        cr_assert_eq(kv_merge_range(kit->db, 0, (kv_slice){0}, (kv_slice){0}, &kit->err), KV_OK);
    if (stage == AFTER_REOPEN)
        kv_kit_reopen(kit);
}

static void commit(struct kv_kit *kit, struct kv_batch *batch)
{
    cr_assert_eq(kv_commit(kit->db, batch, NULL, NULL, &kit->err), KV_OK, "%s", kit->err.text);
    kv_batch_clear(batch);
}

static void put_with(struct kv_kit *kit, const char *key, const char *value, struct kv_put_options options)
{
    struct kv_batch *batch = NULL;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put_with(batch, 0, kv_slice_str(key), kv_slice_str(value), &options), KV_OK);
    commit(kit, batch);
    kv_batch_free(batch);
}

static void merge_in(struct kv_kit *kit, const char *key, const char *operand)
{
    struct kv_batch *batch = NULL;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_merge(batch, 0, kv_slice_str(key), kv_slice_str(operand)), KV_OK);
    commit(kit, batch);
    kv_batch_free(batch);
}

static void delete_range(struct kv_kit *kit, const char *lower, const char *upper)
{
    struct kv_batch *batch = NULL;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_delete_range(batch, 0, kv_slice_str(lower), kv_slice_str(upper)), KV_OK);
    commit(kit, batch);
    kv_batch_free(batch);
}

static const char *scan(struct kv_kit *kit, const struct kv_iter_options *options, bool backward, char *out,
                        size_t size)
{
    struct kv_iter *it = NULL;
    size_t n = 0;
    kv_status rc;
    out[0] = 0;
    cr_assert_eq(kv_iter_open_with(kit->db, 0, options, &it), KV_OK);
    for (rc = backward ? kv_iter_seek_before(it, (kv_slice){0}) : kv_iter_seek(it, (kv_slice){0});
         rc == KV_OK; rc = backward ? kv_iter_prev(it) : kv_iter_next(it)) {
        n += (size_t)snprintf(out + n, size - n, "%s%.*s", n ? " " : "", KV_ARG(it->key));
        if (options->all_versions)
            n += (size_t)snprintf(out + n, size - n, "@%d", (int)it->version);
        if (it->deleted)
            n += (size_t)snprintf(out + n, size - n, "!");
        else
            n += (size_t)snprintf(out + n, size - n, "=%.*s", KV_ARG(it->value));
    }
    cr_assert_eq(rc, KV_END);
    kv_iter_close(it);
    return out;
}

static void expect(struct kv_kit *kit, const char *forward)
{
    static const struct kv_iter_options all = {0};
    char text[400], back[400] = "";
    cr_assert_str_eq(scan(kit, &all, false, text, sizeof text), forward);
    /* Backward it is the same, word by word. */
    scan(kit, &all, true, text, sizeof text);
    for (char *at; (at = strrchr(text, ' ')); *at = 0)
        snprintf(back + strlen(back), sizeof back - strlen(back), "%s ", at + 1);
    snprintf(back + strlen(back), sizeof back - strlen(back), "%s", text);
    cr_assert_str_eq(back, forward);
}

Test(db_entries, attributes_come_back_with_the_value)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    put_with(&kit, "a", "1", (struct kv_put_options){.meta = 7});
    put_with(&kit, "b", "2", (struct kv_put_options){.expires_at_s = UINT32_MAX, .meta = 9});
    put_with(&kit, "c", "3", (struct kv_put_options){0});
    for (enum stage stage = IN_MEMTABLE; stage < STAGES; stage++) {
        struct kv_pinned got;
        advance(&kit, stage);
        cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("a"), &got, NULL), KV_OK);
        cr_assert(got.meta == 7 && got.expires_at_s == 0 && got.version == 1);
        kv_pinned_release(&got);
        cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("b"), &got, NULL), KV_OK);
        cr_assert(got.meta == 9 && got.expires_at_s == UINT32_MAX && got.version == 2);
        cr_assert(kv_slice_equal(got.value, KV_STR("2")));
        kv_pinned_release(&got);
        expect(&kit, "a=1 b=2 c=3");
    }
    kv_kit_release(&kit);
}

Test(db_entries, what_has_expired_is_never_returned_and_goes_with_the_next_merge)
{
    struct kv_kit kit;
    struct kv_pinned got;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    uint64_t now_s = (uint64_t)kv_retention_clock_ms(kit.db) / 1000;
    kv_kit_put(&kit, 0, "a", "old");
    kv_kit_put(&kit, 0, "b", "old");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    put_with(&kit, "a", "new", (struct kv_put_options){.expires_at_s = now_s + 10});
    put_with(&kit, "c", "new", (struct kv_put_options){.expires_at_s = now_s + 10});
    expect(&kit, "a=new b=old c=new");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    clock_manual_advance_ms(&kit.clock, 11000);
    cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("a"), &got, NULL), KV_NOT_FOUND,
                 "and what it hid stays hidden");
    expect(&kit, "b=old");
    cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_stats(&kit, 0).entries, 1);
    expect(&kit, "b=old");
    put_with(&kit, "d", "1", (struct kv_put_options){.expires_at_s = now_s}); /* born dead */
    expect(&kit, "b=old");
    kv_kit_release(&kit);
}

Test(db_entries, operands_are_folded_wherever_they_lie)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kit.spaces[0].merge = &commas;
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "a", "0");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    merge_in(&kit, "a", "1");
    merge_in(&kit, "b", "1");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    merge_in(&kit, "a", "2");
    merge_in(&kit, "b", "2");
    kv_kit_put(&kit, 0, "c", "9");
    kv_kit_delete(&kit, 0, "c");
    merge_in(&kit, "c", "1");
    put_with(&kit, "d", "5", (struct kv_put_options){.meta = 3});
    merge_in(&kit, "d", "6");
    for (enum stage stage = IN_MEMTABLE; stage < STAGES; stage++) {
        struct kv_pinned got;
        advance(&kit, stage);
        expect(&kit, "a=0,1,2 b=1,2 c=1 d=5,6");
        cr_assert(kv_kit_is(&kit, NULL, 0, "a", "0,1,2"));
        cr_assert(kv_kit_is(&kit, NULL, 0, "c", "1"));
        cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("d"), &got, NULL), KV_OK);
        cr_assert(got.meta == 3 && kv_slice_equal(got.value, KV_STR("5,6")), "%.*s", KV_ARG(got.value));
        kv_pinned_release(&got);
    }
    cr_assert_eq(kv_kit_stats(&kit, 0).entries, 4, "one value each");
    merge_in(&kit, "a", "3");
    delete_range(&kit, "a", "b");
    merge_in(&kit, "a", "4");
    expect(&kit, "a=4 b=1,2 c=1 d=5,6");
    kv_kit_release(&kit);
}

Test(db_entries, operands_above_a_value_in_the_value_log_are_folded)
{
    char big[200], want[256];
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kit.spaces[0].merge = &commas;
    kit.spaces[0].value_separate_bytes = 64;
    kv_kit_must_open(&kit);
    memset(big, 'v', sizeof big - 1);
    big[sizeof big - 1] = 0;
    kv_kit_put(&kit, 0, "a", big);
    put_with(&kit, "b", big, (struct kv_put_options){.meta = 7});
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    merge_in(&kit, "a", "1");
    merge_in(&kit, "b", "2");
    for (enum stage stage = IN_MEMTABLE; stage < STAGES; stage++) {
        struct kv_pinned got;
        advance(&kit, stage);
        snprintf(want, sizeof want, "%s,1", big);
        cr_assert(kv_kit_is(&kit, NULL, 0, "a", want));
        cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("b"), &got, &kit.err), KV_OK);
        cr_assert(got.meta == 7 && got.value.len == sizeof big + 1);
        kv_pinned_release(&got);
    }
    cr_assert_eq(kv_kit_stats(&kit, 0).entries, 2, "one value each");
    kv_kit_release(&kit);
}

/* A value that expires cannot take operands in, for they outlive it; many large ones stay apart. */
Test(db_entries, operands_that_cannot_be_folded_away_stay_operands)
{
    enum { LONG = 300 << 10, MANY = 5 };
    struct kv_kit kit;
    struct kv_pinned got;
    char *operand = malloc(LONG + 1);
    cr_assert(operand != NULL);
    kv_kit_init(&kit, NULL);
    kit.spaces[0].merge = &commas;
    kv_kit_must_open(&kit);
    uint64_t now_s = (uint64_t)kv_retention_clock_ms(kit.db) / 1000;
    put_with(&kit, "a", "0", (struct kv_put_options){.expires_at_s = now_s + 1000});
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    merge_in(&kit, "a", "1");
    merge_in(&kit, "a", "2");
    for (int i = 0; i < MANY; i++) { /* no base that is known: a table below has the key, too */
        memset(operand, 'a' + i, LONG);
        operand[LONG] = 0;
        merge_in(&kit, "b", operand);
    }
    for (enum stage stage = IN_MEMTABLE; stage < STAGES; stage++) {
        advance(&kit, stage);
        cr_assert(kv_kit_is(&kit, NULL, 0, "a", "0,1,2"));
        cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("b"), &got, &kit.err), KV_OK);
        cr_assert_eq(got.value.len, (size_t)MANY * LONG + MANY - 1);
        kv_pinned_release(&got);
    }
    clock_manual_advance_ms(&kit.clock, 2000 * 1000);
    cr_assert(kv_kit_is(&kit, NULL, 0, "a", "1,2"), "without the value that has expired");
    cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
    cr_assert(kv_kit_is(&kit, NULL, 0, "a", "1,2"));
    free(operand);
    kv_kit_release(&kit);
}

Test(db_entries, operands_outlive_an_open_without_their_operator)
{
    struct kv_kit kit;
    struct kv_pinned got;
    kv_kit_init(&kit, NULL);
    kit.spaces[0].merge = &commas;
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "a", "0");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    merge_in(&kit, "a", "1");
    merge_in(&kit, "a", "2");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.spaces[0].merge = NULL;
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
    cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("a"), &got, &kit.err), KV_UNSUPPORTED);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.spaces[0].merge = &commas;
    kv_kit_must_open(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "a", "0,1,2"), "nothing was lost");
    kv_kit_release(&kit);
}

Test(db_entries, an_operator_that_fails_loses_nothing)
{
    struct kv_kit kit;
    struct kv_pinned got;
    kv_kit_init(&kit, NULL);
    kit.spaces[0].merge = &commas;
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "a", "0");
    merge_in(&kit, "a", "fail");
    cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("a"), &got, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "space a: the operands of the key"), "%s", kit.err.text);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_stats(&kit, 0).entries, 2, "value and operand as they were");
    cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("a"), &got, NULL), KV_INVALID);
    kv_kit_release(&kit);
}

Test(db_entries, versions_are_kept_up_to_their_number_and_until_a_deletion)
{
    static const struct kv_iter_options all = {.all_versions = true},
                                        since = {.all_versions = true, .since = 4}, newer = {.since = 4};
    struct kv_kit kit;
    char text[200];
    kv_kit_init(&kit, NULL);
    kit.spaces[0].versions_kept = 2;
    kv_kit_must_open(&kit);
    for (int i = 1; i <= 3; i++) { /* versions 1, 2; 3, 4; 5, 6 */
        snprintf(text, sizeof text, "%d", i);
        kv_kit_put(&kit, 0, "a", text);
        kv_kit_put(&kit, 0, "b", text);
    }
    kv_kit_delete(&kit, 0, "b");                                             /* 7 */
    kv_kit_put(&kit, 0, "b", "4");                                           /* 8 */
    put_with(&kit, "c", "1", (struct kv_put_options){0});                    /* 9 */
    put_with(&kit, "c", "2", (struct kv_put_options){.ends_history = true}); /* 10 */
    cr_assert_str_eq(scan(&kit, &all, false, text, sizeof text),
                     "a@5=3 a@3=2 a@1=1 b@8=4 b@7! b@6=3 b@4=2 b@2=1 c@10=2 c@9=1");
    cr_assert_str_eq(scan(&kit, &since, false, text, sizeof text), "a@5=3 b@8=4 b@7! b@6=3 c@10=2 c@9=1");
    cr_assert_str_eq(scan(&kit, &newer, true, text, sizeof text), "c=2 b=4 a=3");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_str_eq(scan(&kit, &all, false, text, sizeof text), "a@5=3 a@3=2 b@8=4 c@10=2");
    cr_assert_str_eq(scan(&kit, &all, true, text, sizeof text), "c@10=2 b@8=4 a@3=2 a@5=3");
    kv_kit_put(&kit, 0, "a", "4"); /* 11 */
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_str_eq(scan(&kit, &all, false, text, sizeof text), "a@11=4 a@5=3 a@3=2 b@8=4 c@10=2");
    cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
    cr_assert_str_eq(scan(&kit, &all, false, text, sizeof text), "a@11=4 a@5=3 b@8=4 c@10=2");
    kv_kit_release(&kit);
}

Test(db_entries, keys_only_leaves_values_empty)
{
    static const struct kv_iter_options keys = {.keys_only = true, .lower = {(const uint8_t *)"b", 1}};
    struct kv_kit kit;
    char text[100];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "a", "1");
    kv_kit_put(&kit, 0, "b", "2");
    kv_kit_put(&kit, 0, "c", "3");
    cr_assert_str_eq(scan(&kit, &keys, false, text, sizeof text), "b= c=");
    cr_assert_str_eq(scan(&kit, &keys, true, text, sizeof text), "c= b=");
    kv_kit_release(&kit);
}

Test(db_entries, a_range_deletion_covers_what_was_before_it_and_nothing_after)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    for (char c = 'a'; c <= 'f'; c++)
        kv_kit_put(&kit, 0, (char[]){c, 0}, "1");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    kv_kit_put(&kit, 0, "bb", "2");
    struct kv_snapshot *before = NULL;
    cr_assert_eq(kv_snapshot_open(kit.db, &before), KV_OK);
    delete_range(&kit, "b", "e");
    kv_kit_put(&kit, 0, "c", "3");
    for (enum stage stage = IN_MEMTABLE; stage < STAGES; stage++) {
        char text[200];
        if (stage == AFTER_REOPEN)
            kv_snapshot_close(before);
        advance(&kit, stage);
        expect(&kit, "a=1 c=3 e=1 f=1");
        cr_assert(kv_kit_is(&kit, NULL, 0, "b", NULL) && kv_kit_is(&kit, NULL, 0, "bb", NULL));
        cr_assert(kv_kit_is(&kit, NULL, 0, "c", "3") && kv_kit_is(&kit, NULL, 0, "e", "1"));
        if (stage != AFTER_REOPEN) {
            kv_kit_scan(&kit, before, 0, "", "", text, sizeof text);
            cr_assert_str_eq(text, "a=1 b=1 bb=2 c=1 d=1 e=1 f=1");
        }
        if (stage == IN_TABLE)
            cr_assert_eq(kv_ranges_count(kit.db->view->version->trees[0].ranges), 1);
        if (stage == IN_MERGED)
            cr_assert_eq(kv_ranges_count(kit.db->view->version->trees[0].ranges), 0, "no table needs it");
    }
    kv_kit_release(&kit);
}

Test(db_entries, tables_under_a_range_deletion_go_unread)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "b", "1");
    kv_kit_put(&kit, 0, "c", "1");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    kv_kit_put(&kit, 0, "x", "1");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    delete_range(&kit, "a", "c\x01");
    cr_assert_eq(kv_kit_stats(&kit, 0).tables, 2);
    uint64_t merges = kv_kit_metric(&kit, "kv_merges_total");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_stats(&kit, 0).tables, 1);
    cr_assert_eq(kv_kit_metric(&kit, "kv_merges_total"), merges);
    cr_assert_eq(kv_kit_metric(&kit, "kv_dropped_tables_total"), 1);
    cr_assert_eq(kv_ranges_count(kit.db->view->version->trees[0].ranges), 0, "nothing needs it any more");
    expect(&kit, "x=1");
    kv_kit_crash(&kit);
    expect(&kit, "x=1");
    kv_kit_release(&kit);
}

Test(db_entries, a_range_deletion_survives_a_crash_wherever_it_lies)
{
    for (int flushed = 0; flushed < 2; flushed++) {
        struct kv_kit kit;
        kv_kit_init(&kit, NULL);
        kv_kit_must_open(&kit);
        kv_kit_put(&kit, 0, "a", "1");
        kv_kit_put(&kit, 0, "b", "1");
        kv_kit_put(&kit, 0, "c", "1");
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        delete_range(&kit, "b", "c");
        if (flushed)
            cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        kv_kit_crash(&kit);
        expect(&kit, "a=1 c=1");
        cr_assert_eq(kv_kit_close(&kit), KV_OK);
        struct kv_env_options options = {
            .vfs = kit.vfs, .clock = &kit.clock.base, .threads = KV_THREADS_NONE};
        struct kv_env *env = NULL;
        cr_assert_eq(kv_env_open(&options, &env, &kit.err), KV_OK);
        cr_assert_eq(kv_check(env, kit.path, NULL, NULL, &kit.err), KV_OK, "%s", kit.err.text);
        kv_env_close(env);
        kv_kit_must_open(&kit);
        expect(&kit, "a=1 c=1");
        kv_kit_release(&kit);
    }
}

Test(db_entries, many_range_deletions_in_one_memtable_answer_as_few_would)
{
    enum { KEYS = 300 };
    struct kv_kit kit;
    bool gone[KEYS] = {false};
    struct kv_prng prng;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_prng_init(&prng, 5);
    char key[8], upper[8];
    for (int i = 0; i < KEYS; i++) {
        snprintf(key, sizeof key, "%03d", i);
        kv_kit_put(&kit, 0, key, "v");
    }
    for (int round = 0; round < 400; round++) {
        int i = (int)kv_prng_below(&prng, KEYS), j = i + 1 + (int)kv_prng_below(&prng, 5);
        snprintf(key, sizeof key, "%03d", i);
        snprintf(upper, sizeof upper, "%03d", j);
        delete_range(&kit, key, upper);
        for (int k = i; k < j && k < KEYS; k++)
            gone[k] = true;
        int back = (int)kv_prng_below(&prng, KEYS);
        snprintf(key, sizeof key, "%03d", back);
        kv_kit_put(&kit, 0, key, "v");
        gone[back] = false;
        for (int k = round % 7; k < KEYS; k += 7) {
            snprintf(key, sizeof key, "%03d", k);
            cr_assert(kv_kit_is(&kit, NULL, 0, key, gone[k] ? NULL : "v"), "%d in round %d", k, round);
        }
    }
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    for (int k = 0; k < KEYS; k++) {
        snprintf(key, sizeof key, "%03d", k);
        cr_assert(kv_kit_is(&kit, NULL, 0, key, gone[k] ? NULL : "v"));
    }
    cr_assert_eq(kv_ranges_count(kit.db->view->version->trees[0].ranges), 0,
                 "the flush applied them to all there was");
    kv_kit_release(&kit);
}

Test(db_entries, spaces_refuse_what_they_were_not_made_for)
{
    struct kv_kit kit;
    struct kv_batch *batch = NULL;
    struct kv_iter *it = NULL;
    kv_kit_init(&kit, NULL);
    kit.spaces[1].merge = &commas;
    kit.spaces[1].versions_kept = 2;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID);
    cr_assert(strstr(kit.err.text, "versions_kept 2"), "%s", kit.err.text);
    kit.spaces[1].versions_kept = 0;
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_merge(batch, 0, KV_STR("a"), KV_STR("1")), KV_OK);
    cr_assert_eq(kv_commit(kit.db, batch, NULL, NULL, &kit.err), KV_INVALID);
    cr_assert_str_eq(kit.err.text, "space a has no merge operator");
    kv_batch_free(batch);
    struct kv_iter_options all = {.all_versions = true};
    cr_assert_eq(kv_iter_open_with(kit.db, 1, &all, &it), KV_INVALID);
    cr_assert_eq(kv_iter_open_with(kit.db, 7, &all, &it), KV_INVALID);
    kv_kit_release(&kit);
}
