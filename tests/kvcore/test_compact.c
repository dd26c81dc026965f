#include "tests/support/kv_kit.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

static void flush(struct kv_kit *kit)
{
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
}

static void merge(struct kv_kit *kit, const char *lower, const char *upper)
{
    cr_assert_eq(kv_merge_range(kit->db, 0, kv_slice_str(lower), kv_slice_str(upper), &kit->err), KV_OK, "%s",
                 kit->err.text);
}

Test(compact, past_eight_runs_they_become_one)
{
    struct kv_kit kit;
    char text[256];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    for (int i = 0; i < 9; i++) {
        kv_kit_put(&kit, 0, (char[2]){(char)('a' + i), 0}, "1");
        kv_kit_put(&kit, 0, "z", (char[2]){(char)('0' + i), 0});
        flush(&kit);
        cr_assert_eq(kv_kit_stats(&kit, 0).runs_max, (uint64_t)i + 1);
        if (i < 8)
            cr_assert_eq(kv_work(kit.db, &kit.err), KV_END);
    }
    kv_kit_work_all(&kit);
    cr_assert_eq(kv_kit_stats(&kit, 0).runs_max, 1);
    cr_assert_eq(kv_kit_stats(&kit, 0).entries, 10);
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text),
                     "a=1 b=1 c=1 d=1 e=1 f=1 g=1 h=1 i=1 z=8");
    cr_assert_eq(kv_kit_files(&kit, ".tbl"), 1);
    kv_kit_crash(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "z", "8"));
    kv_kit_release(&kit);
}

Test(compact, deletions_go_with_what_they_deleted)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "a", "1");
    kv_kit_put(&kit, 0, "b", "1");
    flush(&kit);
    kv_kit_delete(&kit, 0, "a");
    kv_kit_delete(&kit, 0, "b");
    flush(&kit);
    merge(&kit, "", "");
    cr_assert_eq(kv_kit_stats(&kit, 0).tables, 0);
    cr_assert_eq(kv_kit_files(&kit, ".tbl"), 0);
    kv_kit_crash(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "a", NULL));
    kv_kit_release(&kit);
}

static size_t cut_one(kv_slice key)
{
    return key.len < 1 ? key.len : 1;
}

Test(compact, a_range_takes_its_cuts_whole_and_leaves_the_others)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kit.spaces[0].cut_len = cut_one;
    kv_kit_must_open(&kit);
    for (int i = 0; i < 3; i++) {
        for (const char *cut = "abcd"; *cut; cut++)
            for (char n = '0'; n <= '9'; n++)
                kv_kit_put(&kit, 0, (char[3]){*cut, n, 0}, "1");
        flush(&kit);
    }
    cr_assert_eq(kv_kit_stats(&kit, 0).tables, 12);
    merge(&kit, "b5", "c5");
    cr_assert_eq(kv_kit_stats(&kit, 0).tables, 8);
    cr_assert_eq(kv_kit_stats(&kit, 0).entries, 3 * 20 + 20);
    merge(&kit, "", "");
    cr_assert_eq(kv_kit_stats(&kit, 0).tables, 4);
    uint64_t before = kv_kit_metric(&kit, "kv_merges_total");
    merge(&kit, "", "");
    cr_assert_eq(kv_kit_metric(&kit, "kv_merges_total"), before, "one run is one already");
    kv_kit_put(&kit, 0, "a0", "2");
    merge(&kit, "a", "b");
    cr_assert(kv_kit_is(&kit, NULL, 0, "a0", "2"));
    cr_assert_eq(kv_kit_stats(&kit, 0).tables, 4,
                 "the memtable that held a key of the range was flushed first");
    kv_kit_release(&kit);
}

/* ---- the hook */

struct summing {
    char seen[512];
    int begun, ended, installed;
    kv_status answer;
    bool backwards, outside;
};

static size_t sum_group_len(void *ctx, kv_slice key)
{
    (void)ctx;
    return key.len < 1 ? key.len : 1;
}

static kv_status sum_begin(void *ctx, kv_slice lower, kv_slice upper, void **state)
{
    struct summing *s = ctx;
    size_t n = strlen(s->seen);
    snprintf(s->seen + n, sizeof s->seen - n, "[%.*s,%.*s) ", KV_ARG(lower), KV_ARG(upper));
    s->begun++;
    *state = s;
    return KV_OK;
}

/* Replaces a group by one entry whose value lists the keys. */
static kv_status sum_group(void *state, const struct kv_hook_entry *entries, size_t n,
                           struct kv_hook_sink *sink)
{
    struct summing *s = state;
    char value[64];
    size_t len = 0, at = strlen(s->seen);
    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(value + len, sizeof value - len, "%.*s", KV_ARG(entries[i].key));
    snprintf(s->seen + at, sizeof s->seen - at, "%s ", value);
    if (s->answer < 0)
        return s->answer;
    if (s->outside)
        return sink->add(sink, KV_STR("zzz"), KV_STR("!"));
    kv_status rc = sink->add(sink, entries[0].key, kv_slice_of(value, len));
    return rc == KV_OK && s->backwards ? sink->add(sink, entries[0].key, KV_STR("!")) : rc;
}

static void sum_end(void *state, bool installed)
{
    struct summing *s = state;
    s->ended++;
    s->installed += installed;
}

static void hooked(struct kv_kit *kit, struct kv_hook *hook, struct summing *s)
{
    *s = (struct summing){0};
    *hook = (struct kv_hook){s, sum_group_len, sum_begin, sum_group, sum_end};
    kv_kit_init(kit, NULL);
    kit->spaces[0].hook = hook;
    kv_kit_must_open(kit);
    kv_kit_put(kit, 0, "a1", "");
    kv_kit_put(kit, 0, "b1", "");
    kv_kit_put(kit, 0, "b2", "");
    flush(kit);
    kv_kit_put(kit, 0, "a2", "");
    kv_kit_put(kit, 0, "a2", "");
    kv_kit_delete(kit, 0, "b1");
    kv_kit_put(kit, 0, "c1", "");
    flush(kit);
}

Test(compact, the_hook_sees_whole_groups_with_deletions_applied)
{
    struct kv_kit kit;
    struct kv_hook hook;
    struct summing s;
    char text[256];
    hooked(&kit, &hook, &s);
    merge(&kit, "", "");
    cr_assert_str_eq(s.seen, "[,) a1a2 b2 c1 ");
    cr_assert(s.begun == 1 && s.ended == 1 && s.installed == 1);
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text), "a1=a1a2 b2=b2 c1=c1");
    kv_kit_crash(&kit);
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text), "a1=a1a2 b2=b2 c1=c1");
    kv_kit_release(&kit);
}

Test(compact, a_hook_that_fails_or_breaks_the_rules_changes_nothing)
{
    for (int how = 0; how < 3; how++) {
        struct kv_kit kit;
        struct kv_hook hook;
        struct summing s;
        char text[256];
        hooked(&kit, &hook, &s);
        s.answer = how == 0 ? KV_CANCELED : KV_OK;
        s.backwards = how == 1;
        s.outside = how == 2;
        cr_assert_eq(kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""), &kit.err),
                     how ? KV_INVALID : KV_CANCELED);
        cr_assert(s.begun == 1 && s.ended == 1 && s.installed == 0);
        cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text), "a1= a2= b2= c1=");
        cr_assert_eq(kv_kit_files(&kit, ".tbl"), 2);
        kv_kit_release(&kit);
    }
}

/* A merge by itself does not flush first. What it returns for a key must not hide a commit that is older than the newest entry of the
 * group but newer than the key's own. */
Test(compact, a_commit_in_memory_stays_newer_than_what_a_hook_returns)
{
    struct kv_kit kit;
    struct kv_hook hook;
    struct summing s;
    const char *others[] = {"a9"};
    hooked(&kit, &hook, &s);
    kv_kit_put(&kit, 0, "a1", "in memory");
    for (int i = 0; i < 8; i++)
        kv_kit_bulk(&kit, 0, others, 1, "load", 0);
    kv_kit_work_all(&kit);
    cr_assert_eq(s.installed, 1);
    cr_assert(kv_kit_is(&kit, NULL, 0, "a1", "in memory"));
    cr_assert(kv_kit_is(&kit, NULL, 0, "a9", NULL), "the hook merged it away");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert(kv_kit_is(&kit, NULL, 0, "a1", "in memory"));
    kv_kit_release(&kit);
}

/* A hook sees nothing that a live transaction has yet to notice, so its space waits for it; another space does not. */
Test(compact, a_space_that_waits_for_a_transaction_keeps_no_other_waiting)
{
    struct kv_kit kit;
    struct kv_hook hook;
    struct summing s;
    struct kv_txn *txn = NULL;
    char text[256];
    hooked(&kit, &hook, &s);
    cr_assert_eq(kv_txn_begin(kit.db, NULL, &txn, &kit.err), KV_OK);
    for (int i = 0; i < 12; i++) { /* the more runs, the more pressing */
        kv_kit_put(&kit, 0, "a3", "");
        if (i < 10)
            kv_kit_put(&kit, 1, "b", "");
        flush(&kit);
    }
    kv_kit_work_all(&kit);
    cr_assert_eq(s.begun, 0);
    cr_assert_geq(kv_kit_stats(&kit, 0).tables, 12);
    cr_assert_lt(kv_kit_stats(&kit, 1).tables, 10);
    kv_txn_abort(txn);
    kv_kit_work_all(&kit);
    cr_assert_eq(s.installed, 1);
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text), "a1=a1a2a3 b2=b2 c1=c1");
    kv_kit_release(&kit);
}

static void delete_range(struct kv_kit *kit, const char *lower, const char *upper)
{
    struct kv_batch *batch = NULL;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_delete_range(batch, 0, kv_slice_str(lower), kv_slice_str(upper)), KV_OK);
    cr_assert_eq(kv_commit(kit->db, batch, NULL, NULL, &kit->err), KV_OK, "%s", kit->err.text);
    kv_batch_free(batch);
}

/* Neighbours are merged under an open iterator, a snapshot and range deletions on both sides of the merge: readers of
 * before see what was, and what a range deletion covered does not come back in what the hook made of its group. */
Test(compact, a_hook_merges_neighbours_under_readers_snapshots_and_range_deletions)
{
    struct kv_kit kit;
    struct kv_hook hook;
    struct summing s;
    struct kv_snapshot *snapshot = NULL;
    struct kv_iter *it = NULL;
    char text[256];
    hooked(&kit, &hook, &s);
    cr_assert_eq(kv_snapshot_open(kit.db, &snapshot), KV_OK);
    cr_assert_eq(kv_iter_open(kit.db, NULL, 0, KV_STR(""), KV_STR(""), &it), KV_OK);
    cr_assert_eq(kv_iter_seek(it, KV_STR("a2")), KV_OK);
    delete_range(&kit, "a1", "a2"); /* one of a group's two */
    delete_range(&kit, "c", "d");   /* a whole group, */
    kv_kit_put(&kit, 0, "c2", "");  /* of which one is written again */
    merge(&kit, "", "");
    cr_assert_str_eq(s.seen, "[,) a2 b2 c2 ");
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text), "a2=a2 b2=b2 c2=c2");
    cr_assert_str_eq(kv_kit_scan(&kit, snapshot, 0, "", "", text, sizeof text), "a1= a2= b2= c1=");
    cr_assert_eq(kv_iter_next(it), KV_OK);
    cr_assert(kv_slice_equal(it->key, KV_STR("b2")) && it->value.len == 0);
    kv_iter_close(it);
    kv_snapshot_close(snapshot);
    delete_range(&kit, "a", "c"); /* of what the hook returned */
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text), "c2=c2");
    merge(&kit, "", "");
    kv_kit_crash(&kit);
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text), "c2=c2");
    kv_kit_release(&kit);
}

/* ---- dropping tables */

Test(compact, only_tables_wholly_inside_are_dropped)
{
    struct kv_kit kit;
    uint64_t bytes;
    kv_kit_init(&kit, NULL);
    kit.spaces[0].cut_len = cut_one;
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "a1", "1");
    kv_kit_put(&kit, 0, "b1", "1");
    kv_kit_put(&kit, 0, "b2", "1");
    flush(&kit);
    cr_assert_eq(kv_drop_tables(kit.db, 0, KV_STR("a"), KV_STR("b2"), &bytes, &kit.err), KV_OK);
    cr_assert_gt(bytes, 0);
    cr_assert(kv_kit_is(&kit, NULL, 0, "a1", NULL));
    cr_assert(kv_kit_is(&kit, NULL, 0, "b1", "1"));
    cr_assert_eq(kv_drop_tables(kit.db, 0, KV_STR("a"), KV_STR("b2"), &bytes, &kit.err), KV_OK);
    cr_assert_eq(bytes, 0);
    kv_kit_crash(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "a1", NULL));
    cr_assert_eq(kv_kit_files(&kit, ".tbl"), 1);
    kv_kit_release(&kit);
}

Test(compact, a_dropped_table_never_brings_back_what_it_hid)
{
    struct kv_kit kit;
    uint64_t bytes;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "k", "old");
    kv_kit_put(&kit, 0, "z", "1");
    flush(&kit); /* straddles the range below */
    kv_kit_delete(&kit, 0, "k");
    flush(&kit); /* lies in it, and hides k */
    cr_assert_eq(kv_drop_tables(kit.db, 0, KV_STR("a"), KV_STR("m"), &bytes, &kit.err), KV_OK);
    cr_assert_eq(bytes, 0);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", NULL));
    kv_kit_release(&kit);
}

Test(compact, a_merge_that_meets_a_failing_disk_leaves_everything_as_it_was)
{
    struct kv_kit kit;
    bool fired = true;
    for (uint64_t nth = 1; fired; nth++) {
        char text[256];
        kv_kit_init(&kit, NULL);
        struct vfs_fault *fault = vfs_fault_new(kit.own);
        kit.vfs = vfs_fault_as_vfs(fault);
        kv_kit_must_open(&kit);
        kv_kit_put(&kit, 0, "a", "1");
        flush(&kit);
        kv_kit_put(&kit, 0, "b", "2");
        flush(&kit);
        vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = nth});
        kv_status rc = kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""), &kit.err);
        fired = vfs_fault_fired(fault);
        vfs_fault_plan(fault, NULL);
        cr_assert(fired || rc == KV_OK);
        cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text), "a=1 b=2", "operation %d",
                         (int)nth);
        kv_kit_reopen(&kit);
        cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text), "a=1 b=2", "operation %d",
                         (int)nth);
        cr_assert_eq(kv_kit_files(&kit, ".tbl"), kv_kit_stats(&kit, 0).tables, "no orphan survives an open");
        kv_kit_close(&kit);
        vfs_fault_free(fault);
        kv_kit_release(&kit);
    }
}
