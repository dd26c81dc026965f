#include "kvcore/db/commit.h"
#include "kvcore/os/thread.h"
#include "kvcore/os/vfs.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/txn_kit.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct kv_kit kit;
static char out[512];

static void setup(void)
{
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
}

static void teardown(void)
{
    kv_kit_release(&kit);
}

TestSuite(txn, .init = setup, .fini = teardown);
TestSuite(badger_themes, .init = setup, .fini = teardown);

/* ---- reading and writing */

Test(txn, reads_its_own_writes_and_one_moment)
{
    kv_kit_put(&kit, 0, "a", "1");
    kv_kit_put(&kit, 0, "b", "1");
    struct kv_txn *txn = txn_kit_begin(&kit);
    cr_assert_eq(kv_txn_version(txn), 2);
    kv_kit_put(&kit, 0, "c", "1");
    cr_assert(txn_kit_is(txn, 0, "a", "1"));
    cr_assert(txn_kit_is(txn, 0, "c", NULL), "committed later");
    txn_kit_put(txn, 0, "a", "2");
    txn_kit_put(txn, 0, "b", NULL);
    txn_kit_put(txn, 1, "a", "other space");
    cr_assert(txn_kit_is(txn, 0, "a", "2"));
    cr_assert(txn_kit_is(txn, 0, "b", NULL));
    txn_kit_put(txn, 0, "b", "3");
    cr_assert(txn_kit_is(txn, 0, "b", "3"));
    txn_kit_put(txn, 0, "b", NULL);
    cr_assert(kv_kit_is(&kit, NULL, 0, "a", "1"), "nobody else sees it");
    kv_kit_delete(&kit, 0, "z");
    kv_txn_abort(txn);
    cr_assert(kv_kit_is(&kit, NULL, 0, "a", "1"));
    txn = txn_kit_begin(&kit);
    txn_kit_put(txn, 0, "a", "2");
    txn_kit_put(txn, 0, "b", NULL);
    txn_kit_put(txn, 1, "a", "other space");
    cr_assert_eq(txn_kit_commit(txn), KV_OK);
    cr_assert(kv_kit_is(&kit, NULL, 0, "a", "2"));
    cr_assert(kv_kit_is(&kit, NULL, 0, "b", NULL));
    cr_assert(kv_kit_is(&kit, NULL, 1, "a", "other space"));
    kv_kit_crash(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "a", "2"));
    cr_assert(kv_kit_is(&kit, NULL, 1, "a", "other space"));
}

Test(txn, an_iterator_shows_own_writes_as_they_were_when_it_was_opened)
{
    kv_kit_put(&kit, 0, "b", "1");
    kv_kit_put(&kit, 0, "d", "1");
    kv_kit_put(&kit, 0, "f", "1");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    struct kv_txn *txn = txn_kit_begin(&kit);
    cr_assert_str_eq(txn_kit_scan(txn, 0, "", "", 99, out, sizeof out), "b=1 d=1 f=1");
    txn_kit_put(txn, 0, "a", "x");
    txn_kit_put(txn, 0, "d", NULL);
    txn_kit_put(txn, 0, "f", "2");
    txn_kit_put(txn, 0, "f", "3");
    txn_kit_put(txn, 0, "g", "gone");
    txn_kit_put(txn, 0, "g", NULL);
    txn_kit_put(txn, 0, "h", "4");
    cr_assert_str_eq(txn_kit_scan(txn, 0, "", "", 99, out, sizeof out), "a=x b=1 f=3 h=4");
    cr_assert_str_eq(txn_kit_scan(txn, 0, "b", "h", 99, out, sizeof out), "b=1 f=3");
    struct kv_iter *it, *second;
    cr_assert_eq(kv_txn_iter_open(txn, 0, KV_STR(""), KV_STR(""), &it), KV_OK);
    cr_assert_eq(kv_txn_iter_open(txn, 0, KV_STR("c"), KV_STR(""), &second), KV_OK);
    cr_assert_eq(kv_iter_next(it), KV_INVALID, "not positioned");
    cr_assert_eq(kv_iter_seek(it, KV_STR("")), KV_OK);
    txn_kit_put(txn, 0, "a", NULL);
    txn_kit_put(txn, 0, "aa", "late");
    txn_kit_put(txn, 0, "b", "late");
    cr_assert(kv_slice_equal(it->key, KV_STR("a")));
    cr_assert_eq(kv_iter_next(it), KV_OK);
    cr_assert(kv_slice_equal(it->key, KV_STR("b")));
    cr_assert(kv_slice_equal(it->value, KV_STR("1")));
    cr_assert_eq(kv_iter_seek(it, it->key), KV_OK, "a key it lent");
    cr_assert(kv_slice_equal(it->value, KV_STR("1")));
    cr_assert_eq(kv_iter_seek(second, KV_STR("")), KV_OK);
    cr_assert(kv_slice_equal(second->key, KV_STR("f")));
    cr_assert_eq(kv_iter_next(second), KV_OK);
    cr_assert_eq(kv_iter_next(second), KV_END);
    cr_assert_eq(kv_iter_next(second), KV_END);
    cr_assert_str_eq(txn_kit_scan(txn, 0, "", "c", 99, out, sizeof out), "aa=late b=late");
    kv_txn_abort(txn);
    cr_assert_eq(kv_iter_next(it), KV_CLOSED);
    cr_assert_eq(kv_iter_seek(second, KV_STR("")), KV_CLOSED);
    kv_iter_close(it);
    kv_iter_close(second);
}

Test(txn, lends_values_that_outlive_it)
{
    struct kv_pinned own, stored;
    kv_kit_put(&kit, 0, "k", "stored");
    struct kv_txn *txn = txn_kit_begin(&kit);
    txn_kit_put(txn, 0, "o", "own");
    cr_assert_eq(kv_txn_get(txn, 0, KV_STR("o"), &own, NULL), KV_OK);
    cr_assert_eq(kv_txn_get(txn, 0, KV_STR("k"), &stored, NULL), KV_OK);
    txn_kit_put(txn, 0, "o", "changed");
    cr_assert_eq(txn_kit_commit(txn), KV_OK);
    cr_assert(kv_slice_equal(own.value, KV_STR("own")));
    cr_assert(kv_slice_equal(stored.value, KV_STR("stored")));
    kv_pinned_release(&own);
    kv_pinned_release(&stored);
}

Test(txn, writes_superseded_a_thousand_times_take_no_room)
{
    char value[4096];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    struct kv_txn *txn = txn_kit_begin_with(&kit, &(struct kv_txn_options){.bytes_max = 8192});
    struct kv_iter *it;
    txn_kit_put(txn, 0, "k", "first");
    cr_assert_eq(kv_txn_iter_open(txn, 0, KV_STR(""), KV_STR(""), &it), KV_OK);
    for (int i = 0; i < 2000; i++) {
        value[0] = (char)('a' + i % 26);
        txn_kit_put(txn, 0, "k", value);
    }
    cr_assert_eq(kv_iter_seek(it, KV_STR("")), KV_OK);
    cr_assert(kv_slice_equal(it->value, KV_STR("first")), "as it was when the iterator was opened");
    kv_iter_close(it);
    cr_assert(txn_kit_is(txn, 0, "k", value));
    cr_assert_eq(txn_kit_commit(txn), KV_OK);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", value));
}

/* ---- conflicts */

Test(txn, lost_updates_are_refused)
{
    kv_kit_put(&kit, 0, "n", "1");
    struct kv_txn *a = txn_kit_begin(&kit), *b = txn_kit_begin(&kit);
    cr_assert(txn_kit_is(a, 0, "n", "1"));
    cr_assert(txn_kit_is(b, 0, "n", "1"));
    txn_kit_put(a, 0, "n", "2");
    txn_kit_put(b, 0, "n", "3");
    cr_assert_eq(txn_kit_commit(a), KV_OK);
    cr_assert_eq(txn_kit_commit(b), KV_CONFLICT);
    cr_assert(kv_kit_is(&kit, NULL, 0, "n", "2"));
    cr_assert_eq(kv_kit_metric(&kit, "kv_txn_conflicts_total"), 1);
    cr_assert_eq(kv_kit_metric(&kit, "kv_txn_commits_total"), 1);
}

Test(txn, write_skew_is_refused)
{
    kv_kit_put(&kit, 0, "x", "1");
    kv_kit_put(&kit, 0, "y", "1");
    struct kv_txn *a = txn_kit_begin(&kit), *b = txn_kit_begin(&kit);
    cr_assert(txn_kit_is(a, 0, "x", "1") && txn_kit_is(a, 0, "y", "1"));
    cr_assert(txn_kit_is(b, 0, "x", "1") && txn_kit_is(b, 0, "y", "1"));
    txn_kit_put(a, 0, "x", "0");
    txn_kit_put(b, 0, "y", "0");
    cr_assert_eq(txn_kit_commit(a), KV_OK);
    cr_assert_eq(txn_kit_commit(b), KV_CONFLICT);
}

Test(txn, an_absent_key_that_appears_conflicts)
{
    struct kv_txn *txn = txn_kit_begin(&kit);
    cr_assert(txn_kit_is(txn, 0, "k", NULL));
    txn_kit_put(txn, 0, "other", "v");
    kv_kit_put(&kit, 0, "k", "now there");
    cr_assert_eq(kv_txn_commit(txn, NULL, NULL, &kit.err), KV_CONFLICT);
    cr_assert(strstr(kit.err.text, "key k"), "%s", kit.err.text);
    kv_txn_abort(txn);
}

Test(txn, blind_writes_never_conflict)
{
    struct kv_txn *a = txn_kit_begin(&kit), *b = txn_kit_begin(&kit);
    txn_kit_put(a, 0, "k", "a");
    txn_kit_put(b, 0, "k", "b");
    cr_assert(txn_kit_is(a, 0, "k", "a"), "its own write is no read");
    cr_assert_eq(txn_kit_commit(b), KV_OK);
    cr_assert_eq(txn_kit_commit(a), KV_OK);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", "a"));
}

Test(txn, reading_alone_never_conflicts_unless_asked_to)
{
    kv_kit_put(&kit, 0, "k", "1");
    struct kv_txn *reader = txn_kit_begin_with(&kit, &(struct kv_txn_options){.read_only = true});
    struct kv_txn *idle = txn_kit_begin(&kit), *strict = txn_kit_begin(&kit), *still = txn_kit_begin(&kit);
    struct kv_txn_commit_options check = {.check_reads = true};
    uint64_t version = 0;
    cr_assert(txn_kit_is(reader, 0, "k", "1") && txn_kit_is(idle, 0, "k", "1"));
    cr_assert(txn_kit_is(strict, 0, "k", "1") && txn_kit_is(still, 0, "l", NULL));
    kv_kit_put(&kit, 0, "k", "2");
    cr_assert(txn_kit_is(reader, 0, "k", "1"));
    cr_assert_eq(kv_txn_put(reader, 0, KV_STR("k"), KV_STR("3"), &kit.err), KV_INVALID);
    cr_assert_eq(kv_txn_commit(reader, NULL, &version, NULL), KV_OK);
    cr_assert_eq(version, 1, "the moment it read");
    cr_assert_eq(kv_txn_commit(idle, NULL, &version, NULL), KV_OK);
    cr_assert_eq(version, 1);
    cr_assert_eq(kv_txn_commit(strict, &check, &version, NULL), KV_CONFLICT);
    cr_assert_eq(kv_txn_commit(still, &check, &version, NULL), KV_OK);
    cr_assert_eq(kv_seq(kit.db), 2, "no version was used");
    kv_txn_abort(reader);
    kv_txn_abort(idle);
    kv_txn_abort(strict);
    kv_txn_abort(still);
}

Test(txn, a_read_only_one_reads_at_a_snapshot)
{
    struct kv_snapshot *snapshot;
    struct kv_txn *txn;
    kv_kit_put(&kit, 0, "k", "1");
    cr_assert_eq(kv_snapshot_open(kit.db, &snapshot), KV_OK);
    kv_kit_put(&kit, 0, "k", "2");
    cr_assert_eq(kv_txn_begin(kit.db, &(struct kv_txn_options){.snapshot = snapshot}, &txn, &kit.err),
                 KV_INVALID);
    txn = txn_kit_begin_with(&kit, &(struct kv_txn_options){.snapshot = snapshot, .read_only = true});
    kv_snapshot_close(snapshot);
    cr_assert(txn_kit_is(txn, 0, "k", "1"));
    cr_assert_str_eq(txn_kit_scan(txn, 0, "", "", 9, out, sizeof out), "k=1");
    cr_assert_eq(kv_txn_version(txn), 1);
    cr_assert_eq(txn_kit_commit(txn), KV_OK);
}

/* a reads a range, then somebody changes it. */
static kv_status phantom(const char *lower, const char *upper, size_t n, const char *key, const char *value)
{
    struct kv_txn *txn = txn_kit_begin(&kit);
    txn_kit_scan(txn, 0, lower, upper, n, out, sizeof out);
    txn_kit_put(txn, 1, "seen", out);
    struct kv_txn *other = txn_kit_begin(&kit);
    txn_kit_put(other, 0, key, value);
    cr_assert_eq(txn_kit_commit(other), KV_OK);
    return txn_kit_commit(txn);
}

Test(badger_themes, ssi_has_no_phantoms)
{
    cr_assert_eq(phantom("a", "m", 99, "e", "new"), KV_CONFLICT, "a key appears in an empty range");
    cr_assert_eq(phantom("a", "m", 99, "b", "new"), KV_CONFLICT, "before the only key");
    cr_assert_eq(phantom("a", "m", 99, "f", "new"), KV_CONFLICT, "behind the last key");
    cr_assert_eq(phantom("a", "m", 99, "b", NULL), KV_CONFLICT, "a key goes");
    cr_assert_eq(phantom("a", "m", 99, "e", "changed"), KV_CONFLICT, "a value changes");
    cr_assert_eq(phantom("", "", 99, "zzz", "new"), KV_CONFLICT, "in a walk without bounds");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(phantom("a", "m", 99, "e", NULL), KV_CONFLICT, "over tables");
    cr_assert_eq(phantom("a", "m", 99, "zz", "new"), KV_OK, "outside");
    cr_assert_eq(phantom("b", "m", 99, "a", "new"), KV_OK, "below the lower bound");
    cr_assert_eq(phantom("b", "m", 99, "m", "new"), KV_OK, "the upper bound is not in it");
}

Test(badger_themes, two_scans_that_would_each_have_seen_the_other_do_not_both_commit)
{
    struct kv_txn *a = txn_kit_begin(&kit), *b = txn_kit_begin(&kit);
    cr_assert_str_eq(txn_kit_scan(a, 0, "", "", 9, out, sizeof out), "");
    cr_assert_str_eq(txn_kit_scan(b, 0, "", "", 9, out, sizeof out), "");
    txn_kit_put(a, 0, "a", "on call");
    txn_kit_put(b, 0, "b", "on call");
    cr_assert_eq(txn_kit_commit(b), KV_OK);
    cr_assert_eq(txn_kit_commit(a), KV_CONFLICT);
}

Test(badger_themes, ssi_has_no_false_conflicts)
{
    kv_kit_put(&kit, 0, "b", "1");
    kv_kit_put(&kit, 0, "d", "1");
    kv_kit_put(&kit, 0, "f", "1");
    cr_assert_eq(phantom("", "", 1, "c", "1"), KV_OK, "it only walked to b");
    cr_assert_eq(phantom("", "", 1, "a", "1"), KV_CONFLICT, "before b");
    cr_assert_eq(phantom("a", "", 2, "b", "2"), KV_CONFLICT, "b was shown");
    cr_assert_eq(phantom("a", "", 2, "c", "2"), KV_OK, "a and b were");
    /* a hundred thousand other keys: whole keys are compared, not hashes of them */
    struct kv_txn *txn = txn_kit_begin(&kit);
    char key[16];
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "r%d", i);
        cr_assert(txn_kit_is(txn, 0, key, NULL));
    }
    struct kv_batch *batch;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    for (int i = 0; i < 100000; i++) {
        snprintf(key, sizeof key, "w%d", i);
        cr_assert_eq(kv_batch_put(batch, 0, kv_slice_str(key), KV_STR("v")), KV_OK);
    }
    cr_assert_eq(kv_commit(kit.db, batch, NULL, NULL, &kit.err), KV_OK);
    kv_batch_free(batch);
    txn_kit_put(txn, 0, "b", "2");
    cr_assert_eq(txn_kit_commit(txn), KV_OK);
}

Test(txn, an_open_iterator_counts_too_and_a_seek_leaves_a_gap)
{
    struct kv_iter *it;
    for (int wanted = 0; wanted < 2; wanted++) {
        kv_kit_put(&kit, 0, "b", "1");
        kv_kit_put(&kit, 0, "d", "1");
        kv_kit_put(&kit, 0, "p", "1");
        struct kv_txn *txn = txn_kit_begin(&kit);
        cr_assert_eq(kv_txn_iter_open(txn, 0, KV_STR(""), KV_STR(""), &it), KV_OK);
        cr_assert_eq(kv_iter_seek(it, KV_STR("a")), KV_OK);
        cr_assert_eq(kv_iter_seek(it, KV_STR("n")), KV_OK);
        txn_kit_put(txn, 1, "k", "v");
        kv_kit_put(&kit, 0, wanted ? "o" : "d", "2");
        cr_assert_eq(kv_txn_commit(txn, NULL, NULL, NULL), wanted ? KV_CONFLICT : KV_OK);
        cr_assert_eq(kv_iter_next(it), KV_CLOSED);
        kv_iter_close(it);
        kv_txn_abort(txn);
    }
}

Test(txn, changes_that_were_flushed_merged_or_loaded_are_noticed)
{
    for (int how = 0; how < 6; how++) {
        kv_kit_put(&kit, 0, "k", "1");
        kv_kit_put(&kit, 0, "z", "1");
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        struct kv_txn *key = txn_kit_begin(&kit), *range = txn_kit_begin(&kit), *other = txn_kit_begin(&kit);
        cr_assert(txn_kit_is(key, 0, "k", "1") && txn_kit_is(other, 0, "z", "1"));
        txn_kit_scan(range, 0, "a", "l", 99, out, sizeof out);
        txn_kit_put(key, 1, "a", "1");
        txn_kit_put(range, 1, "b", "1");
        txn_kit_put(other, 1, "c", "1");
        const char *keys[] = {"k"};
        if (how >= 4)
            kv_kit_bulk(&kit, 0, keys, 1, "loaded", 0);
        else if (how % 2)
            kv_kit_put(&kit, 0, "k", "2");
        else
            kv_kit_delete(&kit, 0, "k");
        if (how != 4)
            cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        if (how == 2 || how == 3 || how == 5)
            cr_assert_eq(kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""), &kit.err), KV_OK);
        cr_assert_eq(txn_kit_commit(key), KV_CONFLICT, "%d", how);
        cr_assert_eq(txn_kit_commit(range), KV_CONFLICT, "%d", how);
        cr_assert_eq(txn_kit_commit(other), KV_OK, "%d", how);
    }
}

Test(badger_themes, range_deletions_are_noticed_wherever_they_lie)
{
    struct kv_batch *batch;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    for (int how = 0; how < 3; how++) {
        kv_kit_put(&kit, 0, "k", "1");
        kv_kit_put(&kit, 0, "z", "1");
        struct kv_txn *key = txn_kit_begin(&kit), *absent = txn_kit_begin(&kit), *range = txn_kit_begin(&kit);
        struct kv_txn *other = txn_kit_begin(&kit);
        cr_assert(txn_kit_is(key, 0, "k", "1") && txn_kit_is(absent, 0, "l", NULL));
        cr_assert(txn_kit_is(other, 0, "z", "1") && txn_kit_is(other, 0, "m", NULL));
        cr_assert_str_eq(txn_kit_scan(range, 0, "g", "kk", 9, out, sizeof out), "k=1");
        txn_kit_put(key, 1, "a", "1");
        txn_kit_put(absent, 1, "b", "1");
        txn_kit_put(range, 1, "c", "1");
        txn_kit_put(other, 1, "d", "1");
        kv_batch_clear(batch);
        cr_assert_eq(kv_batch_delete_range(batch, 0, KV_STR("k"), KV_STR("m")), KV_OK);
        cr_assert_eq(kv_commit(kit.db, batch, NULL, NULL, &kit.err), KV_OK, "%s", kit.err.text);
        if (how >= 1)
            cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        if (how == 2)
            cr_assert_eq(kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""), &kit.err), KV_OK);
        cr_assert_eq(txn_kit_commit(key), KV_CONFLICT, "%d", how);
        cr_assert_eq(txn_kit_commit(absent), KV_CONFLICT, "%d", how);
        cr_assert_eq(txn_kit_commit(range), KV_CONFLICT, "%d", how);
        cr_assert_eq(txn_kit_commit(other), KV_OK, "%d", how);
    }
    kv_batch_free(batch);
}

/* ---- what is not published yet */

struct committing {
    kv_thread thread;
    const char *key;
    struct kv_txn *txn; /* or this */
    kv_status rc;
};

static void commit_main(void *ctx)
{
    struct committing *c = ctx;
    c->rc = c->txn ? txn_kit_commit(c->txn) : kv_kit_try_put(&kit, 0, c->key, "racing");
}

static void commit_start(struct committing *c)
{
    cr_assert_eq(kv_thread_start(&c->thread, "commit", 0, commit_main, c), KV_OK);
}

static struct kv_txn *reader_of(const char *key, const char *range)
{
    struct kv_txn *txn = txn_kit_begin(&kit);
    if (key)
        txn_kit_is(txn, 0, key, NULL);
    if (range)
        txn_kit_scan(txn, 0, range, "", 99, out, sizeof out);
    txn_kit_put(txn, 1, "k", "v");
    return txn;
}

Test(txn, commits_queued_and_under_way_count)
{
    struct kv_kit outer = kit;
    struct kv_vfs *memory = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(memory);
    kv_kit_init(&kit, vfs_fault_as_vfs(fault));
    kv_kit_must_open(&kit);
    struct kv_txn *under_way = reader_of("first", NULL), *queued = reader_of("second", NULL);
    struct kv_txn *in_range = reader_of(NULL, "s"), *free_one = reader_of("third", "t");
    struct committing first = {.key = "first"}, second = {.key = "second"}, last = {.txn = free_one};
    vfs_fault_stall_syncs(fault, true);
    commit_start(&first);
    vfs_fault_wait_stalled(fault);
    commit_start(&second);
    for (kv_status rc = KV_OK;
         rc != KV_CONFLICT;) { /* until it is queued: only then a reader of it is refused */
        struct kv_txn *probe = txn_kit_begin(&kit);
        txn_kit_is(probe, 0, "second", NULL);
        rc = kv_txn_commit(probe, &(struct kv_txn_commit_options){.check_reads = true}, NULL, NULL);
        kv_txn_abort(probe);
    }
    cr_assert_eq(kv_seq(kit.db), 0, "nothing is published");
    cr_assert_eq(txn_kit_commit(under_way), KV_CONFLICT);
    cr_assert_eq(txn_kit_commit(queued), KV_CONFLICT);
    cr_assert_eq(txn_kit_commit(in_range), KV_CONFLICT);
    commit_start(&last);
    vfs_fault_stall_syncs(fault, false);
    kv_thread_join(&first.thread);
    kv_thread_join(&second.thread);
    kv_thread_join(&last.thread);
    cr_assert(first.rc == KV_OK && second.rc == KV_OK && last.rc == KV_OK);
    kv_kit_release(&kit);
    vfs_fault_free(fault);
    kv_vfs_mem_free(memory);
    kit = outer;
}

/* ---- bounds */

Test(badger_themes, txn_limits_are_errors_that_say_which)
{
    struct kv_txn *txn =
        txn_kit_begin_with(&kit, &(struct kv_txn_options){.bytes_max = 10, .entries_max = 2});
    cr_assert_eq(kv_txn_put(txn, 0, KV_STR("a"), KV_STR("1234567890"), &kit.err), KV_LIMIT);
    cr_assert(strstr(kit.err.text, "bytes_max"), "%s", kit.err.text);
    txn_kit_put(txn, 0, "a", "1");
    txn_kit_put(txn, 0, "b", "1");
    cr_assert_eq(kv_txn_put(txn, 0, KV_STR("c"), KV_STR("1"), &kit.err), KV_LIMIT);
    cr_assert(strstr(kit.err.text, "entries_max"), "%s", kit.err.text);
    cr_assert_eq(kv_txn_put(txn, 0, KV_STR("b"), KV_STR("123456789"), &kit.err), KV_LIMIT);
    cr_assert_eq(kv_txn_put(txn, 9, KV_STR("b"), KV_STR("1"), &kit.err), KV_INVALID);
    cr_assert_eq(kv_txn_put(txn, 0, KV_STR(""), KV_STR("1"), &kit.err), KV_INVALID);
    cr_assert_eq(txn_kit_commit(txn), KV_OK, "what was refused changed nothing");
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", out, sizeof out), "a=1 b=1");
    struct kv_txn_options bad = {.age_max_ms = KV_TXN_AGE_MS_MAX + 1};
    cr_assert_eq(kv_txn_begin(kit.db, &bad, &txn, &kit.err), KV_INVALID);
    bad = (struct kv_txn_options){.bytes_max = (uint64_t)KV_COMMIT_BYTES_MAX + 1};
    cr_assert_eq(kv_txn_begin(kit.db, &bad, &txn, &kit.err), KV_INVALID);
    bad = (struct kv_txn_options){.reads_bytes_max = 1};
    cr_assert_eq(kv_txn_begin(kit.db, &bad, &txn, &kit.err), KV_INVALID);
}

Test(badger_themes, a_transaction_of_a_hundred_megabytes_commits)
{
    char key[16];
    char *value = calloc(1, (1 << 20) + 1);
    memset(value, 'v', 1 << 20);
    struct kv_txn *txn = txn_kit_begin(&kit);
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "k%03d", i);
        txn_kit_put(txn, 0, key, value);
    }
    cr_assert_eq(txn_kit_commit(txn), KV_OK);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k099", value));
    free(value);
}

Test(txn, past_its_age_it_cannot_commit_what_it_read)
{
    struct kv_txn_options options = {.age_max_ms = 1000};
    kv_kit_put(&kit, 0, "k", "1");
    struct kv_txn *young = txn_kit_begin_with(&kit, &options), *old = txn_kit_begin_with(&kit, &options);
    cr_assert(txn_kit_is(young, 0, "k", "1") && txn_kit_is(old, 0, "k", "1"));
    txn_kit_put(young, 1, "k", "1");
    txn_kit_put(old, 1, "k", "1");
    clock_manual_advance_ms(&kit.clock, 999);
    cr_assert_eq(txn_kit_commit(young), KV_OK);
    clock_manual_advance_ms(&kit.clock, 1);
    cr_assert_eq(kv_txn_commit(old, NULL, NULL, &kit.err), KV_TOO_OLD);
    cr_assert(strstr(kit.err.text, "age_max_ms"), "%s", kit.err.text);
    kv_txn_abort(old);
    cr_assert_eq(kv_kit_metric(&kit, "kv_txns_too_old_total"), 1);
}

Test(txn, reads_past_their_bound_are_remembered_coarsely_never_forgotten)
{
    char key[40];
    struct kv_txn_options options = {.reads_bytes_max = 64 << 10};
    struct kv_txn *hit = txn_kit_begin_with(&kit, &options), *inside = txn_kit_begin_with(&kit, &options);
    struct kv_txn *outside = txn_kit_begin_with(&kit, &options);
    struct kv_txn *all[] = {hit, inside, outside};
    for (int t = 0; t < 3; t++) {
        for (int i = 0; i < 20000; i++) {
            snprintf(key, sizeof key, "key %05d", (i * 7919) % 20000);
            cr_assert(txn_kit_is(all[t], 0, key, NULL));
        }
        cr_assert(txn_kit_is(all[t], 1, "k", NULL));
        txn_kit_put(all[t], 1, "w", "1");
    }
    kv_kit_put(&kit, 0, "key 19999z", "behind all of them");
    kv_kit_put(&kit, 0, "key", "before all of them");
    kv_kit_put(&kit, 1, "l", "not read");
    cr_assert_eq(txn_kit_commit(outside), KV_OK);
    kv_kit_put(&kit, 0, "key 00000", "the first");
    cr_assert_eq(txn_kit_commit(hit), KV_CONFLICT);
    cr_assert_eq(kv_kit_metric(&kit, "kv_txns_coarsened_total"), 2);
    kv_txn_abort(inside);
}

/* ---- end of life, retry */

Test(txn, after_the_end_everything_answers_closed)
{
    struct kv_pinned pinned;
    struct kv_iter *it;
    struct kv_txn *txn = txn_kit_begin(&kit);
    txn_kit_put(txn, 0, "k", "v");
    cr_assert_eq(kv_txn_commit(txn, NULL, NULL, NULL), KV_OK);
    cr_assert_eq(kv_txn_get(txn, 0, KV_STR("k"), &pinned, &kit.err), KV_CLOSED);
    cr_assert_eq(kv_txn_put(txn, 0, KV_STR("k"), KV_STR("w"), NULL), KV_CLOSED);
    cr_assert_eq(kv_txn_delete(txn, 0, KV_STR("k"), NULL), KV_CLOSED);
    cr_assert_eq(kv_txn_iter_open(txn, 0, KV_STR(""), KV_STR(""), &it), KV_CLOSED);
    cr_assert_eq(kv_txn_commit(txn, NULL, NULL, NULL), KV_CLOSED);
    kv_txn_abort(txn);
    kv_txn_abort(NULL);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", "v"));
}

struct told {
    int calls;
    kv_status rc;
    uint64_t version;
};

static void tell(void *ctx, kv_status rc, uint64_t version)
{
    struct told *told = ctx;
    *told = (struct told){told->calls + 1, rc, version};
}

Test(txn, the_callback_is_told_the_outcome_once)
{
    struct told told = {0};
    struct kv_txn_commit_options options = {.done = tell, .done_ctx = &told};
    struct kv_txn *good = txn_kit_begin(&kit), *bad = txn_kit_begin(&kit);
    cr_assert(txn_kit_is(bad, 0, "k", NULL));
    txn_kit_put(good, 0, "k", "1");
    txn_kit_put(bad, 0, "k", "2");
    cr_assert_eq(kv_txn_commit(good, &options, NULL, NULL), KV_OK);
    cr_assert(told.calls == 1 && told.rc == KV_OK && told.version == 1);
    cr_assert_eq(kv_txn_commit(good, &options, NULL, NULL), KV_CLOSED);
    cr_assert_eq(told.calls, 1);
    cr_assert_eq(kv_txn_commit(bad, &options, NULL, NULL), KV_CONFLICT);
    cr_assert(told.calls == 2 && told.rc == KV_CONFLICT);
    kv_txn_abort(good);
    kv_txn_abort(bad);
}

struct run {
    int calls, disturb; /* conflicts to make */
    kv_status answer;
};

static kv_status run_once(void *ctx, struct kv_txn *txn, struct kv_err *err)
{
    struct run *run = ctx;
    (void)err;
    run->calls++;
    txn_kit_is(txn, 0, "k", "");
    txn_kit_put(txn, 0, "done", "yes");
    if (run->calls <= run->disturb)
        kv_kit_put(&kit, 0, "k", "disturbed");
    return run->answer;
}

Test(txn, run_tries_again_after_conflicts_and_not_for_ever)
{
    struct run run = {.disturb = 3};
    uint64_t version;
    cr_assert_eq(kv_txn_run(kit.db, NULL, 0, run_once, &run, &version, &kit.err), KV_OK);
    cr_assert(run.calls == 4 && version == 4);
    run = (struct run){.disturb = 99};
    cr_assert_eq(kv_txn_run(kit.db, NULL, 5, run_once, &run, NULL, &kit.err), KV_CONFLICT);
    cr_assert_eq(run.calls, 5);
    run = (struct run){.answer = KV_LIMIT};
    kv_kit_delete(&kit, 0, "done");
    cr_assert_eq(kv_txn_run(kit.db, NULL, 5, run_once, &run, NULL, &kit.err), KV_LIMIT);
    cr_assert_eq(run.calls, 1);
    cr_assert(kv_kit_is(&kit, NULL, 0, "done", NULL), "aborted");
}

Test(txn, a_read_only_database_has_only_read_only_transactions)
{
    struct kv_txn *txn;
    kv_kit_put(&kit, 0, "k", "v");
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.options.read_only = true;
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_txn_begin(kit.db, NULL, &txn, &kit.err), KV_READ_ONLY);
    txn = txn_kit_begin_with(&kit, &(struct kv_txn_options){.read_only = true});
    cr_assert(txn_kit_is(txn, 0, "k", "v"));
    cr_assert_eq(txn_kit_commit(txn), KV_OK);
}

/* Everything a transaction does, with any one allocation failing: it is answered, or it happened. */
static kv_status whole_life(bool *committed)
{
    struct kv_txn *txn = NULL;
    struct kv_iter *it = NULL;
    struct kv_pinned pinned = {0};
    kv_status rc;
    *committed = false;
    KV_TRY(kv_txn_begin(kit.db, NULL, &txn, NULL));
    KV_TRY(kv_txn_get(txn, 0, KV_STR("seed"), &pinned, NULL));
    KV_TRY(kv_txn_put(txn, 0, KV_STR("own"), KV_STR("1"), NULL));
    KV_TRY(kv_txn_delete(txn, 0, KV_STR("seed"), NULL));
    KV_TRY(kv_txn_iter_open(txn, 0, KV_STR(""), KV_STR("z"), &it));
    for (rc = kv_iter_seek(it, KV_STR("a")); rc == KV_OK; rc = kv_iter_next(it))
        continue;
    KV_TRY(rc);
    KV_TRY(kv_iter_seek(it, KV_STR("b")));
    KV_TRY(kv_txn_commit(txn, NULL, NULL, NULL));
    *committed = true;
out:
    kv_pinned_release(&pinned);
    kv_iter_close(it);
    kv_txn_abort(txn);
    return rc;
}

Test(txn, any_allocation_may_fail)
{
    bool committed;
    uint64_t nth = 1;
    kv_kit_put(&kit, 0, "stored", "1");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    for (bool fired = true; fired; nth++) {
        kv_kit_put(&kit, 0, "seed", "1");
        kv_kit_delete(&kit, 0, "own");
        malloc_fault_arm(nth, false);
        kv_status rc = whole_life(&committed);
        fired = malloc_fault_disarm();
        cr_assert(committed ? rc >= 0 : rc == KV_NO_MEMORY || rc == KV_UNKNOWN_OUTCOME, "%llu: %s",
                  (unsigned long long)nth, kv_status_name(rc));
        cr_assert(kv_kit_is(&kit, NULL, 0, "own", committed ? "1" : NULL), "%llu", (unsigned long long)nth);
        cr_assert(kv_kit_is(&kit, NULL, 0, "seed", committed ? NULL : "1"));
    }
    cr_assert_gt(nth, 10);
}

/* "k=v k=v" of the iterator's whole range, backward. */
static const char *backward_text(struct kv_iter *it)
{
    size_t n = 0;
    kv_status rc;
    out[0] = 0;
    for (rc = kv_iter_seek_before(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_prev(it))
        n += (size_t)snprintf(out + n, sizeof out - n, "%s%.*s=%.*s", n ? " " : "", KV_ARG(it->key),
                              KV_ARG(it->value));
    cr_assert_eq(rc, KV_END);
    return out;
}

Test(txn, an_iterator_goes_both_ways_through_stored_and_own_writes)
{
    struct kv_txn *txn = NULL;
    struct kv_iter *it = NULL;
    kv_kit_put(&kit, 0, "a", "1");
    kv_kit_put(&kit, 0, "c", "1");
    kv_kit_put(&kit, 0, "e", "1");
    cr_assert_eq(kv_txn_begin(kit.db, NULL, &txn, &kit.err), KV_OK);
    cr_assert_eq(kv_txn_put(txn, 0, KV_STR("b"), KV_STR("2"), NULL), KV_OK);
    cr_assert_eq(kv_txn_put(txn, 0, KV_STR("b"), KV_STR("3"), NULL), KV_OK);
    cr_assert_eq(kv_txn_put(txn, 0, KV_STR("c"), KV_STR("2"), NULL), KV_OK);
    cr_assert_eq(kv_txn_delete(txn, 0, KV_STR("e"), NULL), KV_OK);
    cr_assert_eq(kv_txn_iter_open(txn, 0, KV_STR(""), KV_STR(""), &it), KV_OK);
    cr_assert_eq(kv_txn_put(txn, 0, KV_STR("b"), KV_STR("later"), NULL), KV_OK);
    cr_assert_eq(kv_txn_put(txn, 0, KV_STR("d"), KV_STR("later"), NULL), KV_OK);
    cr_assert_str_eq(backward_text(it), "c=2 b=3 a=1");
    cr_assert_eq(kv_iter_seek(it, KV_STR("b")), KV_OK);
    cr_assert_eq(kv_iter_next(it), KV_OK);
    cr_assert_eq(kv_iter_prev(it), KV_OK);
    cr_assert(kv_slice_equal(it->key, KV_STR("b")) && kv_slice_equal(it->value, KV_STR("3")));
    cr_assert_eq(kv_iter_prev(it), KV_OK);
    cr_assert(kv_slice_equal(it->key, KV_STR("a")) && it->version == 1);
    cr_assert_eq(kv_iter_next(it), KV_OK);
    cr_assert(kv_slice_equal(it->key, KV_STR("b")));
    cr_assert_eq(kv_iter_seek_before(it, KV_STR("b")), KV_OK);
    cr_assert(kv_slice_equal(it->key, KV_STR("a")));
    cr_assert_eq(kv_iter_prev(it), KV_END);
    kv_iter_close(it);
    kv_txn_abort(txn);
}

/* Walks back from "n" to the key "k"; then somebody writes `written`. */
static kv_status walk_back_and_commit(const char *written)
{
    struct kv_txn *txn = NULL;
    struct kv_iter *it = NULL;
    cr_assert_eq(kv_drop_all(kit.db, 0, &kit.err), KV_OK);
    kv_kit_put(&kit, 0, "c", "1");
    kv_kit_put(&kit, 0, "k", "1");
    kv_kit_put(&kit, 0, "m", "1");
    kv_kit_put(&kit, 0, "p", "1");
    cr_assert_eq(kv_txn_begin(kit.db, NULL, &txn, &kit.err), KV_OK);
    cr_assert_eq(kv_txn_iter_open(txn, 0, KV_STR(""), KV_STR(""), &it), KV_OK);
    cr_assert_eq(kv_iter_seek_before(it, KV_STR("n")), KV_OK);
    cr_assert_eq(kv_iter_prev(it), KV_OK);
    cr_assert(kv_slice_equal(it->key, KV_STR("k")));
    kv_iter_close(it);
    kv_kit_put(&kit, 0, written, "2");
    cr_assert_eq(kv_txn_put(txn, 0, KV_STR("mine"), KV_STR("1"), NULL), KV_OK);
    return kv_txn_commit(txn, NULL, NULL, &kit.err);
}

Test(txn, what_was_walked_backward_is_what_conflicts)
{
    cr_assert_eq(walk_back_and_commit("k"), KV_CONFLICT);
    cr_assert_eq(walk_back_and_commit("kk"), KV_CONFLICT);
    cr_assert_eq(walk_back_and_commit("mm"), KV_CONFLICT);
    cr_assert_eq(walk_back_and_commit("j"), KV_OK);
    cr_assert_eq(walk_back_and_commit("n"), KV_OK);
}

Test(txn, one_that_only_reads_has_nothing_to_commit_or_to_check)
{
    struct kv_txn *txn = NULL;
    struct kv_txn_options reading = {.read_only = true};
    struct kv_txn_commit_options record = {.record = KV_STR("r")}, checked = {.check_reads = true};
    struct kv_pinned found = {0};
    kv_kit_put(&kit, 0, "k", "1");
    cr_assert_eq(kv_txn_begin(kit.db, &reading, &txn, &kit.err), KV_OK);
    cr_assert_eq(kv_txn_get(txn, 0, KV_STR("k"), &found, &kit.err), KV_OK);
    kv_pinned_release(&found);
    cr_assert_eq(kv_txn_put(txn, 0, KV_STR("k"), KV_STR("2"), &kit.err), KV_INVALID);
    cr_assert_eq(kv_txn_commit(txn, &record, NULL, &kit.err), KV_INVALID);
    kv_kit_put(&kit, 0, "k", "3"); /* no conflict: it read one moment, and that is all it says */
    cr_assert_eq(kv_txn_commit(txn, &checked, NULL, &kit.err), KV_OK, "%s", kit.err.text);
    kv_txn_abort(txn);
    cr_assert_eq(kv_txn_begin(kit.db, NULL, &txn, &kit.err), KV_OK); /* one that could write, and does not */
    cr_assert_eq(kv_txn_get(txn, 0, KV_STR("k"), &found, &kit.err), KV_OK);
    kv_pinned_release(&found);
    kv_kit_put(&kit, 0, "k", "4");
    cr_assert_eq(kv_txn_commit(txn, &checked, NULL, &kit.err), KV_CONFLICT);
    kv_txn_abort(txn);
}
