/* Attributes, operands and range deletions inside transactions. */
#include "kvcore/base/prng.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/sweep.h"
#include "tests/support/txn_kit.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>

static kv_status fold_commas(void *ctx, kv_slice key, const kv_slice *value, const kv_slice *operands,
                             size_t n, struct kv_buf *to)
{
    (void)ctx, (void)key;
    kv_status rc = value ? kv_buf_append(to, *value) : KV_OK;
    for (size_t i = 0; i < n && rc == KV_OK; i++) {
        if (kv_slice_equal(operands[i], KV_STR("fail")))
            return KV_UNSUPPORTED;
        rc = to->len ? kv_buf_append_byte(to, ',') : KV_OK;
        if (rc == KV_OK)
            rc = kv_buf_append(to, operands[i]);
    }
    return rc;
}
static const struct kv_merge_operator commas = {NULL, fold_commas};

static struct kv_kit kit;
static char out[4096];

static void setup(void)
{
    kv_kit_init(&kit, NULL);
    kit.spaces[0].merge = kit.spaces[1].merge = &commas;
    kv_kit_must_open(&kit);
}

static void teardown(void)
{
    kv_kit_release(&kit);
}

TestSuite(txn_entries, .init = setup, .fini = teardown);

static void merge_in(struct kv_txn *txn, const char *key, const char *operand)
{
    cr_assert_eq(kv_txn_merge(txn, 0, kv_slice_str(key), kv_slice_str(operand), &kit.err), KV_OK, "%s",
                 kit.err.text);
}

static void delete_range(struct kv_txn *txn, const char *lower, const char *upper)
{
    cr_assert_eq(kv_txn_delete_range(txn, 0, kv_slice_str(lower), kv_slice_str(upper), &kit.err), KV_OK, "%s",
                 kit.err.text);
}

static void put_with(struct kv_txn *txn, const char *key, const char *value, uint64_t expires_at_s,
                     uint8_t meta)
{
    struct kv_put_options options = {.expires_at_s = expires_at_s, .meta = meta};
    cr_assert_eq(kv_txn_put_with(txn, 0, kv_slice_str(key), kv_slice_str(value), &options, &kit.err), KV_OK,
                 "%s", kit.err.text);
}

/* "k=v k=v" of all that the iterator shows, backward. */
static const char *backward(struct kv_txn *txn)
{
    struct kv_iter *it = NULL;
    size_t n = 0;
    out[0] = 0;
    cr_assert_eq(kv_txn_iter_open(txn, 0, (kv_slice){0}, (kv_slice){0}, &it), KV_OK);
    kv_status rc;
    for (rc = kv_iter_seek_before(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_prev(it))
        n += (size_t)snprintf(out + n, sizeof out - n, "%s%.*s=%.*s", n ? " " : "", KV_ARG(it->key),
                              KV_ARG(it->value));
    cr_assert_eq(rc, KV_END);
    kv_iter_close(it);
    return out;
}

static const char *forward(struct kv_txn *txn)
{
    return txn_kit_scan(txn, 0, "", "", SIZE_MAX, out, sizeof out);
}

static uint64_t now_s(void)
{
    return (uint64_t)kv_retention_clock_ms(kit.db) / 1000;
}

/* ---- what it sees of its own */

Test(txn_entries, own_attributes_come_back_and_own_expired_puts_are_absent)
{
    struct kv_pinned got;
    struct kv_iter *it = NULL;
    uint64_t soon = now_s() + 10;
    kv_kit_put(&kit, 1, "other", "v");
    struct kv_txn *txn = txn_kit_begin(&kit);
    put_with(txn, "a", "1", soon, 7);
    put_with(txn, "b", "2", 0, 9);
    put_with(txn, "c", "3", 0, 0);
    cr_assert_eq(kv_txn_get(txn, 0, KV_STR("a"), &got, NULL), KV_OK);
    cr_assert(got.expires_at_s == soon && got.meta == 7 && kv_slice_equal(got.value, KV_STR("1")));
    kv_pinned_release(&got);
    cr_assert_eq(kv_txn_iter_open(txn, 0, (kv_slice){0}, (kv_slice){0}, &it), KV_OK);
    cr_assert_eq(kv_iter_seek(it, (kv_slice){0}), KV_OK);
    cr_assert(it->expires_at_s == soon && it->meta == 7 && it->version == 0);
    cr_assert_eq(kv_iter_next(it), KV_OK);
    cr_assert(it->expires_at_s == 0 && it->meta == 9);
    cr_assert_str_eq(backward(txn), "c=3 b=2 a=1");
    clock_manual_advance_ms(&kit.clock, 10000);
    cr_assert(txn_kit_is(txn, 0, "a", NULL));
    cr_assert_eq(kv_iter_seek(it, (kv_slice){0}), KV_OK);
    cr_assert(kv_slice_equal(it->key, KV_STR("b")));
    kv_iter_close(it);
    cr_assert_str_eq(backward(txn), "c=3 b=2");
    cr_assert_eq(txn_kit_commit(txn), KV_OK);
    cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("b"), &got, NULL), KV_OK);
    cr_assert(got.meta == 9 && got.version == 2);
    kv_pinned_release(&got);
    cr_assert(kv_kit_is(&kit, NULL, 0, "a", NULL));
}

Test(txn_entries, own_operands_are_folded_over_whatever_lies_under_them)
{
    kv_kit_put(&kit, 0, "stored", "s");
    kv_kit_put(&kit, 0, "covered", "s");
    kv_kit_put(&kit, 0, "deleted", "s");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    struct kv_txn *seed = txn_kit_begin(&kit);
    merge_in(seed, "operands", "o1");
    merge_in(seed, "stored", "o1");
    cr_assert_eq(txn_kit_commit(seed), KV_OK);
    struct kv_txn *txn = txn_kit_begin(&kit);
    txn_kit_put(txn, 0, "put", "p");
    txn_kit_put(txn, 0, "deleted", NULL);
    merge_in(txn, "covered", "lost");
    delete_range(txn, "co", "cp");
    put_with(txn, "rich", "r", 0, 5);
    static const char *const keys[] = {"absent", "covered", "deleted", "operands", "put", "rich", "stored"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        merge_in(txn, keys[i], "x");
        merge_in(txn, keys[i], "y");
    }
    cr_assert(txn_kit_is(txn, 0, "absent", "x,y"));
    cr_assert(txn_kit_is(txn, 0, "covered", "x,y"));
    cr_assert(txn_kit_is(txn, 0, "deleted", "x,y"));
    cr_assert(txn_kit_is(txn, 0, "operands", "o1,x,y"));
    cr_assert(txn_kit_is(txn, 0, "put", "p,x,y"));
    cr_assert(txn_kit_is(txn, 0, "stored", "s,o1,x,y"));
    struct kv_pinned got;
    cr_assert_eq(kv_txn_get(txn, 0, KV_STR("rich"), &got, NULL), KV_OK);
    cr_assert(got.meta == 5 && kv_slice_equal(got.value, KV_STR("r,x,y")));
    static const char there[] = "absent=x,y covered=x,y deleted=x,y operands=o1,x,y put=p,x,y rich=r,x,y "
                                "stored=s,o1,x,y";
    cr_assert_str_eq(forward(txn), there);
    cr_assert_str_eq(backward(txn), "stored=s,o1,x,y rich=r,x,y put=p,x,y operands=o1,x,y deleted=x,y "
                                    "covered=x,y absent=x,y");
    cr_assert_eq(txn_kit_commit(txn), KV_OK);
    cr_assert(kv_slice_equal(got.value, KV_STR("r,x,y")), "lent beyond the transaction");
    kv_pinned_release(&got);
    out[0] = 0;
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", out, sizeof out), there);
}

Test(txn_entries, an_operator_that_fails_fails_the_read_and_not_the_transaction)
{
    struct kv_pinned got;
    struct kv_txn *txn = txn_kit_begin(&kit);
    merge_in(txn, "k", "fail");
    cr_assert_eq(kv_txn_get(txn, 0, KV_STR("k"), &got, &kit.err), KV_UNSUPPORTED);
    cr_assert(strstr(kit.err.text, "folded"), "%s", kit.err.text);
    txn_kit_put(txn, 0, "k", "whole again");
    cr_assert(txn_kit_is(txn, 0, "k", "whole again"));
    cr_assert_eq(txn_kit_commit(txn), KV_OK);
}

Test(txn_entries, an_own_range_deletion_hides_what_is_stored_and_what_was_written_before_it)
{
    kv_kit_put(&kit, 0, "a", "1");
    kv_kit_put(&kit, 0, "c", "1");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    kv_kit_put(&kit, 0, "d", "1");
    kv_kit_put(&kit, 0, "f", "1");
    struct kv_txn *txn = txn_kit_begin(&kit);
    struct kv_iter *before = NULL;
    txn_kit_put(txn, 0, "b", "own");
    txn_kit_put(txn, 0, "e", "own");
    cr_assert_eq(kv_txn_iter_open(txn, 0, (kv_slice){0}, (kv_slice){0}, &before), KV_OK);
    delete_range(txn, "b", "f");
    kv_kit_put(&kit, 0, "bb", "committed later");
    txn_kit_put(txn, 0, "e", "after");
    cr_assert(txn_kit_is(txn, 0, "b", NULL) && txn_kit_is(txn, 0, "c", NULL));
    cr_assert(txn_kit_is(txn, 0, "bb", NULL) && txn_kit_is(txn, 0, "e", "after"));
    cr_assert(txn_kit_is(txn, 0, "f", "1"), "the upper end is not in it");
    cr_assert_str_eq(forward(txn), "a=1 e=after f=1");
    cr_assert_str_eq(backward(txn), "f=1 e=after a=1");
    cr_assert_eq(kv_iter_seek(before, KV_STR("b")), KV_OK);
    cr_assert(kv_slice_equal(before->value, KV_STR("own")), "opened before the range was deleted");
    cr_assert_eq(kv_iter_next(before), KV_OK);
    cr_assert(kv_slice_equal(before->key, KV_STR("c")));
    kv_iter_close(before);
    kv_txn_abort(txn);
    txn = txn_kit_begin(&kit);
    delete_range(txn, "b", "f");
    kv_kit_put(&kit, 0, "cc", "later");
    cr_assert_eq(txn_kit_commit(txn), KV_OK, "it read nothing");
    out[0] = 0;
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", out, sizeof out), "a=1 f=1", "cc came before it");
}

/* What a random transaction saw of its own writes, by get and by both walks, is what everybody sees once it has
 * committed. */
static void random_write(struct kv_txn *txn, struct kv_prng *prng, uint64_t n)
{
    static char padding[3000];
    char low[2] = {(char)('a' + kv_prng_below(prng, 8)), 0}, high[2] = {(char)(low[0] + 1), 0}, value[16];
    kv_slice bytes = kv_slice_of(value, (size_t)snprintf(value, sizeof value, "%" PRIu64, n));
    high[0] = (char)(high[0] + (char)kv_prng_below(prng, 4));
    switch (kv_prng_below(prng, 8)) {
    case 0:
        txn_kit_put(txn, 0, low, NULL);
        break;
    case 1:
        delete_range(txn, low, high);
        break;
    case 2:
    case 3:
        put_with(txn, low, value, kv_prng_below(prng, 3) == 0 ? now_s() - 1 : 0, (uint8_t)(n & 1));
        break;
    case 4: /* so that the ordered copy of the writes is made again now and then */
        for (int i = 0; i < 100; i++)
            cr_assert_eq(kv_txn_put(txn, 1, bytes, kv_slice_of(padding, sizeof padding), NULL), KV_OK);
        break;
    default:
        merge_in(txn, low, value);
    }
}

Test(txn_entries, what_it_saw_of_its_own_is_what_its_commit_leaves)
{
    struct kv_prng prng;
    static char seen[4096];
    kv_prng_init(&prng, 5);
    for (uint64_t round = 0; round < (sweep_all() ? 20000 : 400); round++) {
        struct kv_txn *txn = txn_kit_begin(&kit);
        uint64_t writes = 1 + kv_prng_below(&prng, 12);
        char single[4096] = {0};
        size_t len = 0;
        for (uint64_t i = 0; i < writes; i++)
            random_write(txn, &prng, round * 100 + i);
        for (char key[2] = "a"; key[0] < 'm'; key[0]++) {
            struct kv_pinned got;
            if (kv_txn_get(txn, 0, kv_slice_str(key), &got, NULL) == KV_OK)
                len += (size_t)snprintf(single + len, sizeof single - len, "%s%s=%.*s", len ? " " : "", key,
                                        KV_ARG(got.value));
            kv_pinned_release(&got);
        }
        snprintf(seen, sizeof seen, "%s", forward(txn));
        cr_assert_str_eq(single, seen, "round %" PRIu64, round);
        cr_assert_eq(txn_kit_commit(txn), KV_OK);
        out[0] = 0;
        cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", out, sizeof out), seen, "round %" PRIu64, round);
        if (round % 5 == 0)
            cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        if (round % 11 == 0)
            kv_kit_work_all(&kit);
    }
}

/* ---- what conflicts */

Test(txn_entries, blind_operands_and_range_deletions_do_not_conflict_with_each_other)
{
    struct kv_txn *a = txn_kit_begin(&kit), *b = txn_kit_begin(&kit), *c = txn_kit_begin(&kit);
    merge_in(a, "k", "a");
    merge_in(b, "k", "b");
    delete_range(c, "a", "z");
    txn_kit_put(c, 0, "k", "c");
    merge_in(c, "k", "own");
    cr_assert(txn_kit_is(c, 0, "k", "c,own"), "its own put answers: that is no read");
    cr_assert_eq(txn_kit_commit(b), KV_OK);
    cr_assert_eq(txn_kit_commit(c), KV_OK);
    cr_assert_eq(txn_kit_commit(a), KV_OK);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", "c,own,a"), "in the order of versions");
}

Test(txn_entries, reading_own_operands_reads_what_they_are_folded_over)
{
    struct kv_txn *over_stored = txn_kit_begin(&kit), *over_range = txn_kit_begin(&kit);
    struct kv_txn *by_scan = txn_kit_begin(&kit), *over_deleted = txn_kit_begin(&kit);
    merge_in(over_stored, "k", "x");
    cr_assert(txn_kit_is(over_stored, 0, "k", "x"));
    merge_in(by_scan, "k", "x");
    cr_assert_str_eq(forward(by_scan), "k=x");
    delete_range(over_range, "a", "z");
    merge_in(over_range, "k", "x");
    cr_assert(txn_kit_is(over_range, 0, "k", "x") && txn_kit_is(over_range, 0, "l", NULL));
    txn_kit_put(over_deleted, 0, "k", NULL);
    merge_in(over_deleted, "k", "x");
    cr_assert(txn_kit_is(over_deleted, 0, "k", "x"));
    struct kv_txn *other = txn_kit_begin(&kit);
    merge_in(other, "k", "y");
    cr_assert_eq(txn_kit_commit(other), KV_OK);
    cr_assert_eq(txn_kit_commit(over_stored), KV_CONFLICT);
    cr_assert_eq(txn_kit_commit(by_scan), KV_CONFLICT);
    cr_assert_eq(txn_kit_commit(over_range), KV_OK, "its own range deletion answered");
    cr_assert_eq(txn_kit_commit(over_deleted), KV_OK, "its own deletion answered");
}

/* A transaction deletes [c, g) after `txn` read; where: 0 in memory, 1 in the tree, 2 merged there. */
static kv_status deleted_under(struct kv_txn *txn, int where)
{
    struct kv_txn *other = txn_kit_begin(&kit);
    delete_range(other, "c", "g");
    txn_kit_put(txn, 1, "w", "w");
    cr_assert_eq(txn_kit_commit(other), KV_OK);
    if (where >= 1)
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    if (where == 2)
        cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
    kv_status rc = txn_kit_commit(txn);
    kv_kit_put(&kit, 0, "d", "1");
    return rc;
}

Test(txn_entries, who_read_of_a_range_conflicts_with_its_deletion)
{
    static const struct {
        const char *key, *lower, *upper; /* a get of key, or a scan */
        kv_status rc;
    } cases[] = {
        {"d", NULL, NULL, KV_CONFLICT}, {"e", NULL, NULL, KV_CONFLICT}, {"c", NULL, NULL, KV_CONFLICT},
        {"g", NULL, NULL, KV_OK},       {"b", NULL, NULL, KV_OK},       {NULL, "a", "d", KV_CONFLICT},
        {NULL, "f", "z", KV_CONFLICT},  {NULL, "e", "f", KV_CONFLICT},  {NULL, "a", "z", KV_CONFLICT},
        {NULL, "g", "z", KV_OK},        {NULL, "a", "c", KV_OK},
    };
    for (int where = 0; where < 3; where++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            struct kv_txn *txn = txn_kit_begin(&kit);
            struct kv_pinned got = {0};
            if (cases[i].key)
                cr_assert_geq(kv_txn_get(txn, 0, kv_slice_str(cases[i].key), &got, NULL), 0);
            else
                txn_kit_scan(txn, 0, cases[i].lower, cases[i].upper, SIZE_MAX, out, sizeof out);
            kv_pinned_release(&got);
            cr_assert_eq(deleted_under(txn, where), cases[i].rc, "case %zu, %d", i, where);
        }
}

/* ---- what is refused */

static kv_status hook_group(void *merge, const struct kv_hook_entry *entries, size_t n,
                            struct kv_hook_sink *sink)
{
    (void)merge;
    kv_status rc = KV_OK;
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        rc = sink->add(sink, entries[i].key, entries[i].value);
    return rc;
}
static size_t hook_group_len(void *ctx, kv_slice key)
{
    (void)ctx;
    return key.len;
}
static kv_status hook_begin(void *ctx, kv_slice lower, kv_slice upper, void **merge)
{
    (void)ctx, (void)lower, (void)upper, (void)merge;
    return KV_OK;
}
static void hook_end(void *merge, bool installed)
{
    (void)merge, (void)installed;
}

Test(txn_entries, what_does_not_fit_a_space_or_a_bound_is_refused_at_once)
{
    static const struct kv_hook hook = {NULL, hook_group_len, hook_begin, hook_group, hook_end};
    kv_slice k = KV_STR("k"), z = KV_STR("z");
    struct kv_put_options meta = {.meta = 1};
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.spaces[0].merge = NULL;
    kit.spaces[1].merge = NULL;
    kit.spaces[1].hook = &hook;
    kv_kit_must_open(&kit);
    struct kv_txn *txn = txn_kit_begin_with(&kit, &(struct kv_txn_options){.entries_max = 2});
    cr_assert_eq(kv_txn_merge(txn, 0, k, z, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "merge operator"), "%s", kit.err.text);
    cr_assert_eq(kv_txn_put_with(txn, 1, k, z, &meta, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "hook"), "%s", kit.err.text);
    cr_assert_eq(kv_txn_delete_range(txn, 0, z, k, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "range"), "%s", kit.err.text);
    cr_assert_eq(kv_txn_delete_range(txn, 0, k, (kv_slice){0}, &kit.err), KV_INVALID);
    cr_assert_eq(kv_txn_delete_range(txn, 0, (kv_slice){0}, z, &kit.err), KV_INVALID);
    cr_assert_eq(kv_txn_put_with(txn, 9, k, z, &meta, &kit.err), KV_INVALID);
    cr_assert_eq(kv_txn_put_with(txn, 1, k, z, NULL, &kit.err), KV_OK, "without attributes it is a put");
    cr_assert_eq(kv_txn_delete_range(txn, 0, k, z, &kit.err), KV_OK);
    cr_assert_eq(kv_txn_delete_range(txn, 0, k, z, &kit.err), KV_LIMIT);
    cr_assert_eq(txn_kit_commit(txn), KV_OK);
    txn = txn_kit_begin_with(&kit, &(struct kv_txn_options){.read_only = true});
    cr_assert_eq(kv_txn_delete_range(txn, 0, k, z, &kit.err), KV_INVALID);
    cr_assert_eq(txn_kit_commit(txn), KV_OK);
    cr_assert(kv_kit_is(&kit, NULL, 1, "k", "z"));
}

/* ---- failures */

/* A transaction's whole life with all kinds; *committed: it answered so. */
static kv_status whole_life(bool *committed)
{
    struct kv_txn *txn = NULL;
    struct kv_iter *it = NULL;
    struct kv_pinned got = {0};
    struct kv_put_options options = {.meta = 3};
    kv_status rc;
    *committed = false;
    KV_TRY(kv_txn_begin(kit.db, NULL, &txn, &kit.err));
    KV_TRY(kv_txn_put_with(txn, 0, KV_STR("rich"), KV_STR("r"), &options, &kit.err));
    KV_TRY(kv_txn_merge(txn, 0, KV_STR("rich"), KV_STR("x"), &kit.err));
    KV_TRY(kv_txn_delete_range(txn, 0, KV_STR("a"), KV_STR("m"), &kit.err));
    KV_TRY(kv_txn_merge(txn, 0, KV_STR("stored"), KV_STR("x"), &kit.err));
    KV_TRY(kv_txn_get(txn, 0, KV_STR("stored"), &got, &kit.err));
    cr_assert(kv_slice_equal(got.value, KV_STR("s,x")));
    KV_TRY(kv_txn_iter_open(txn, 0, (kv_slice){0}, (kv_slice){0}, &it));
    KV_TRY(kv_iter_seek_before(it, (kv_slice){0}));
    cr_assert(kv_slice_equal(it->value, KV_STR("s,x")));
    KV_TRY(kv_iter_prev(it));
    KV_TRY(kv_iter_next(it));
    KV_TRY(kv_txn_commit(txn, NULL, NULL, &kit.err));
    *committed = true;
out:
    kv_iter_close(it);
    kv_pinned_release(&got);
    kv_txn_abort(txn);
    return rc;
}

Test(txn_entries, any_allocation_may_fail)
{
    uint64_t nth = 1;
    for (bool fired = true, committed; fired; nth++) {
        kv_kit_put(&kit, 0, "b", "1");
        kv_kit_put(&kit, 0, "stored", "s");
        kv_kit_delete(&kit, 0, "rich");
        malloc_fault_arm(nth, false);
        kv_status rc = whole_life(&committed);
        fired = malloc_fault_disarm();
        cr_assert(committed ? rc >= 0 : rc == KV_NO_MEMORY || rc == KV_UNKNOWN_OUTCOME, "%" PRIu64 ": %s",
                  nth, kv_status_name(rc));
        cr_assert(kv_kit_is(&kit, NULL, 0, "b", committed ? NULL : "1"), "%" PRIu64, nth);
        cr_assert(kv_kit_is(&kit, NULL, 0, "rich", committed ? "r,x" : NULL), "%" PRIu64, nth);
        cr_assert(kv_kit_is(&kit, NULL, 0, "stored", committed ? "s,x" : "s"), "%" PRIu64, nth);
    }
    cr_assert_gt(nth, 20);
}
