#include "tests/support/kv_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>

Test(db_iter, bounds_are_half_open_and_seek_clamps_to_them)
{
    struct kv_kit kit;
    struct kv_iter *it = NULL;
    char text[256];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    for (const char *k = "abcdef"; *k; k++)
        kv_kit_put(&kit, 0, (char[2]){*k, 0}, "1");
    for (int flushed = 0; flushed < 2; flushed++) {
        cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text), "a=1 b=1 c=1 d=1 e=1 f=1");
        cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "b", "d", text, sizeof text), "b=1 c=1");
        cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "bb", "d0", text, sizeof text), "c=1 d=1");
        cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "x", "", text, sizeof text), "");
        cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "d", "b", text, sizeof text), "");
        cr_assert_eq(kv_iter_open(kit.db, NULL, 0, KV_STR("b"), KV_STR("e"), &it), KV_OK);
        cr_assert_eq(kv_iter_seek(it, KV_STR("a")), KV_OK);
        cr_assert(kv_slice_equal(it->key, KV_STR("b")));
        cr_assert_eq(kv_iter_seek(it, KV_STR("d")), KV_OK);
        cr_assert_eq(kv_iter_next(it), KV_END);
        cr_assert_eq(kv_iter_seek(it, KV_STR("e")), KV_END);
        kv_iter_close(it);
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    }
    kv_kit_release(&kit);
}

Test(db_iter, memtables_and_tables_are_one_ordered_walk)
{
    struct kv_kit kit;
    char text[256];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "a", "old");
    kv_kit_put(&kit, 0, "c", "old");
    kv_kit_put(&kit, 0, "e", "old");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    kv_kit_put(&kit, 0, "b", "new");
    kv_kit_put(&kit, 0, "c", "new");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    kv_kit_delete(&kit, 0, "e");
    kv_kit_put(&kit, 0, "d", "newest");
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text), "a=old b=new c=new d=newest");
    kv_kit_release(&kit);
}

Test(db_iter, a_snapshot_sees_its_moment_through_flush_merge_and_drop)
{
    struct kv_kit kit;
    struct kv_snapshot *snapshots[3];
    static const char *const seen[3] = {"a=1 b=1", "a=2 b=1", "b=1 c=3"};
    char text[256];
    uint64_t bytes;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "a", "1");
    kv_kit_put(&kit, 0, "b", "1");
    cr_assert_eq(kv_snapshot_open(kit.db, &snapshots[0]), KV_OK);
    kv_kit_put(&kit, 0, "a", "2");
    cr_assert_eq(kv_snapshot_open(kit.db, &snapshots[1]), KV_OK);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    kv_kit_delete(&kit, 0, "a");
    kv_kit_put(&kit, 0, "c", "3");
    cr_assert_eq(kv_snapshot_open(kit.db, &snapshots[2]), KV_OK);
    cr_assert_eq(kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""), &kit.err), KV_OK);
    for (int dropped = 0; dropped < 2; dropped++) {
        for (int i = 0; i < 3; i++)
            cr_assert_str_eq(kv_kit_scan(&kit, snapshots[i], 0, "", "", text, sizeof text), seen[i],
                             "snapshot %d", i);
        cr_assert(kv_kit_is(&kit, snapshots[0], 0, "a", "1"));
        cr_assert(kv_kit_is(&kit, snapshots[1], 0, "a", "2"));
        cr_assert(kv_kit_is(&kit, snapshots[2], 0, "a", NULL));
        cr_assert_eq(kv_drop_tables(kit.db, 0, KV_STR(""), KV_STR(""), &bytes, &kit.err), KV_OK);
    }
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text), "");
    cr_assert_eq(kv_snapshot_seq(snapshots[0]), 2);
    for (int i = 0; i < 3; i++)
        kv_snapshot_close(snapshots[i]);
    cr_assert_eq(kv_kit_files(&kit, ".tbl"), 0, "the last reader takes the files with it");
    kv_kit_release(&kit);
}

Test(db_iter, an_iterator_and_a_lent_value_outlive_their_snapshot)
{
    struct kv_kit kit;
    struct kv_snapshot *snapshot = NULL;
    struct kv_pinned lent;
    struct kv_iter *it = NULL;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "a", "1");
    kv_kit_put(&kit, 0, "b", "2");
    cr_assert_eq(kv_snapshot_open(kit.db, &snapshot), KV_OK);
    cr_assert_eq(kv_iter_open(kit.db, snapshot, 0, KV_STR(""), KV_STR(""), &it), KV_OK);
    cr_assert_eq(kv_get(kit.db, snapshot, 0, KV_STR("b"), &lent, &kit.err), KV_OK);
    kv_snapshot_close(snapshot);
    kv_kit_put(&kit, 0, "a", "3");
    cr_assert_eq(kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""), &kit.err), KV_OK);
    cr_assert(kv_slice_equal(lent.value, KV_STR("2")));
    kv_pinned_release(&lent);
    kv_pinned_release(&lent);
    cr_assert_eq(kv_iter_seek(it, KV_STR("")), KV_OK);
    cr_assert(kv_slice_equal(it->value, KV_STR("1")));
    kv_iter_close(it);
    kv_kit_release(&kit);
}

static size_t cut_one(kv_slice key)
{
    return key.len < 1 ? key.len : 1;
}

Test(db_iter, a_walk_goes_on_across_cuts_and_tables)
{
    struct kv_kit kit;
    char key[16];
    int n = 0;
    struct kv_iter *it = NULL;
    kv_status rc;
    kv_kit_init(&kit, NULL);
    kit.spaces[0].cut_len = cut_one;
    kv_kit_must_open(&kit);
    for (int round = 0; round < 3; round++) {
        for (int i = round; i < 260; i += 2) {
            snprintf(key, sizeof key, "%c%03d", 'a' + i / 10, i);
            kv_kit_put(&kit, 0, key, round ? "new" : "old");
        }
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    }
    cr_assert_eq(kv_kit_stats(&kit, 0).runs_max, 3);
    cr_assert_eq(kv_kit_stats(&kit, 0).tables, 26 * 3);
    cr_assert_eq(kv_iter_open(kit.db, NULL, 0, KV_STR(""), KV_STR(""), &it), KV_OK);
    for (rc = kv_iter_seek(it, KV_STR("")); rc == KV_OK; rc = kv_iter_next(it), n++) {
        snprintf(key, sizeof key, "%c%03d", 'a' + n / 10, n);
        cr_assert(kv_slice_equal(it->key, kv_slice_str(key)), "%d", n);
        cr_assert(kv_slice_equal(it->value, kv_slice_str(n == 0 ? "old" : "new")), "%d", n);
    }
    cr_assert_eq(rc, KV_END);
    cr_assert_eq(n, 260);
    for (n = 259; n >= 0; n -= 7) {
        snprintf(key, sizeof key, "%c%03d", 'a' + n / 10, n);
        cr_assert_eq(kv_iter_seek(it, kv_slice_str(key)), KV_OK);
        cr_assert(kv_slice_equal(it->key, kv_slice_str(key)));
    }
    kv_iter_close(it);
    kv_kit_release(&kit);
}

/* It stands on no entry then; whoever asks once more is told again. */
Test(db_iter, past_either_end_there_is_nothing_however_often_one_asks)
{
    for (int stage = 0; stage < 4; stage++) {
        struct kv_kit kit;
        struct kv_iter *it = NULL;
        kv_kit_init(&kit, NULL);
        kit.spaces[0].style = stage == 3 ? KV_STYLE_LEVELLED : KV_STYLE_RUNS;
        kv_kit_must_open(&kit);
        kv_kit_put(&kit, 0, "a", "1");
        kv_kit_put(&kit, 0, "b", "1");
        if (stage > 0)
            cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        if (stage > 1) { /* both of a table and a memtable */
            kv_kit_put(&kit, 0, "b", "2");
            kv_kit_put(&kit, 0, "c", "2");
        }
        for (int way = 0; way < 2; way++) {
            cr_assert_eq(kv_iter_open(kit.db, NULL, 0, way ? KV_STR("a") : (kv_slice){0},
                                      way ? KV_STR("x") : (kv_slice){0}, &it),
                         KV_OK);
            kv_status rc = kv_iter_seek(it, (kv_slice){0});
            int n = 0;
            for (; rc == KV_OK; n++)
                rc = kv_iter_next(it);
            cr_assert_eq(n, stage > 1 ? 3 : 2);
            for (int i = 0; i < 3; i++)
                cr_assert_eq(kv_iter_next(it), KV_END);
            rc = kv_iter_seek_before(it, (kv_slice){0});
            for (n = 0; rc == KV_OK; n++)
                rc = kv_iter_prev(it);
            cr_assert_eq(n, stage > 1 ? 3 : 2);
            for (int i = 0; i < 3; i++)
                cr_assert_eq(kv_iter_prev(it), KV_END);
            kv_iter_close(it);
        }
        kv_kit_release(&kit);
    }
}
