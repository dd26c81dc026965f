/* kv_drop_prefix, kv_drop_all, kv_estimate, kv_count. */
#include "kvcore/db/db.h"
#include "tests/support/kv_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* n keys "<letter>0000" ... in the space, and a flush. */
static void fill(struct kv_kit *kit, uint32_t space, char letter, int n)
{
    char key[32];
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof key, "%c%04d", letter, i);
        kv_kit_put(kit, space, key, "a value of thirty-two bytes here");
    }
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
}

static uint64_t count(struct kv_kit *kit, const struct kv_snapshot *snapshot, uint32_t space,
                      const char *lower, const char *upper)
{
    uint64_t n = 0;
    cr_assert_eq(kv_count(kit->db, snapshot, space, kv_slice_str(lower), kv_slice_str(upper), &n, &kit->err),
                 KV_OK);
    return n;
}

static struct kv_range_estimate estimate(struct kv_kit *kit, const char *lower, const char *upper)
{
    struct kv_range_estimate e;
    cr_assert_eq(kv_estimate(kit->db, 0, kv_slice_str(lower), kv_slice_str(upper), &e, &kit->err), KV_OK);
    return e;
}

static void begin(struct kv_kit *kit)
{
    kv_kit_init(kit, NULL);
    kit->options.disk_reserve_bytes = 1;
    kit->spaces[0].block_bytes = 512;
    kit->spaces[0].compression = KV_COMPRESSION_NONE;
    kv_kit_must_open(kit);
}

Test(drop, a_prefix_goes_with_its_tables_and_comes_back_with_new_writes_only)
{
    struct kv_kit kit;
    struct kv_snapshot *before = NULL;
    begin(&kit);
    fill(&kit, 0, 'a', 100);
    fill(&kit, 0, 'b', 100);
    fill(&kit, 0, 'c', 100);
    cr_assert_eq(kv_snapshot_open(kit.db, &before), KV_OK);
    cr_assert_eq(kv_drop_prefix(kit.db, 0, KV_STR("b"), &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(count(&kit, NULL, 0, "", ""), 200);
    cr_assert_eq(count(&kit, before, 0, "", ""), 300);
    cr_assert_eq(kv_kit_stats(&kit, 0).tables, 2); /* unread, unmerged */
    kv_snapshot_close(before);
    cr_assert_eq(kv_kit_files(&kit, ".tbl"), 2);
    kv_kit_put(&kit, 0, "b0001", "new");
    kv_kit_reopen(&kit);
    cr_assert_eq(count(&kit, NULL, 0, "b", "c"), 1);
    cr_assert_eq(count(&kit, NULL, 0, "", ""), 201);
    kv_kit_release(&kit);
}

Test(drop, everything_of_one_space_or_of_all_goes_the_last_key_there_can_be_included)
{
    struct kv_kit kit;
    uint8_t last[KV_KEY_LEN_MAX];
    struct kv_batch *batch = NULL;
    memset(last, 0xff, sizeof last);
    begin(&kit);
    fill(&kit, 0, 'a', 50);
    fill(&kit, 1, 'a', 50);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    for (size_t len = 1; len <= sizeof last; len += sizeof last - 1)
        cr_assert_eq(kv_batch_put(batch, 0, kv_slice_of(last, len), KV_STR("x")), KV_OK);
    cr_assert_eq(kv_batch_put(batch, 0, KV_STR("\0"), KV_STR("x")), KV_OK);
    cr_assert_eq(kv_commit(kit.db, batch, NULL, NULL, &kit.err), KV_OK);
    cr_assert_eq(count(&kit, NULL, 0, "", ""), 53);
    cr_assert_eq(kv_drop_all(kit.db, 0, &kit.err), KV_OK);
    cr_assert_eq(count(&kit, NULL, 0, "", ""), 0);
    cr_assert_eq(count(&kit, NULL, 1, "", ""), 50);
    cr_assert_eq(kv_commit(kit.db, batch, NULL, NULL, &kit.err), KV_OK);
    cr_assert_eq(kv_drop_prefix(kit.db, 0, kv_slice_of(last, 1), &kit.err), KV_OK);
    cr_assert_eq(count(&kit, NULL, 0, "", ""), 1); /* "\0" */
    cr_assert_eq(kv_drop_all(kit.db, KV_SPACE_ALL, &kit.err), KV_OK);
    kv_kit_reopen(&kit);
    cr_assert_eq(count(&kit, NULL, 0, "", "") + count(&kit, NULL, 1, "", ""), 0);
    cr_assert_eq(kv_drop_all(kit.db, 7, &kit.err), KV_INVALID);
    cr_assert_eq(kv_drop_prefix(kit.db, 0, kv_slice_of(last, 0), &kit.err), KV_OK);
    kv_batch_free(batch);
    kv_kit_release(&kit);
}

Test(drop, estimates_are_near_and_read_no_data_block)
{
    struct kv_kit kit;
    begin(&kit);
    fill(&kit, 0, 'a', 2000);
    fill(&kit, 0, 'c', 1000);
    struct kv_range_estimate e = estimate(&kit, "", "");
    cr_assert_eq(e.entries, 3000);
    cr_assert_eq(e.bytes, kv_kit_stats(&kit, 0).table_bytes);
    cr_assert_eq(e.tables, 2);
    kv_kit_reopen(&kit);
    uint64_t misses = kv_kit_metric(&kit, "kv_cache_misses_total");
    e = estimate(&kit, "a0500", "a1500");
    cr_assert(e.entries > 950 && e.entries < 1050 && e.tables == 1, "%llu", (unsigned long long)e.entries);
    e = estimate(&kit, "a1990", "c0010");
    cr_assert(e.entries >= 2 && e.entries < 60 && e.tables == 2, "%llu", (unsigned long long)e.entries);
    cr_assert(estimate(&kit, "a0005", "a0006").entries >= 1);
    cr_assert_eq(estimate(&kit, "b", "c").entries, 0);
    cr_assert_eq(estimate(&kit, "d", "").entries, 0);
    cr_assert_eq(kv_kit_metric(&kit, "kv_cache_misses_total"), misses);
    cr_assert_eq(kv_estimate(kit.db, 9, (kv_slice){0}, (kv_slice){0}, &e, &kit.err), KV_INVALID);
    kv_kit_release(&kit);
}

Test(drop, estimates_know_memtables_and_forget_what_was_dropped)
{
    struct kv_kit kit;
    char key[32];
    begin(&kit);
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "a%04d", i);
        kv_kit_put(&kit, 0, key, "v");
    }
    struct kv_range_estimate e = estimate(&kit, "a1000", "a2000");
    cr_assert(e.entries > 500 && e.entries < 2000, "%llu", (unsigned long long)e.entries);
    cr_assert_eq(estimate(&kit, "a1000", "a1010").entries, 10); /* few are counted */
    cr_assert(e.bytes > 0 && e.tables == 0);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(estimate(&kit, "", "").entries, 5000);
    cr_assert_eq(kv_drop_prefix(kit.db, 0, KV_STR("a"), &kit.err), KV_OK);
    cr_assert_eq(estimate(&kit, "", "").entries, 0);
    kv_kit_release(&kit);
}

Test(drop, a_read_only_database_keeps_everything)
{
    struct kv_kit kit;
    begin(&kit);
    kv_kit_put(&kit, 0, "k", "v");
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.options.read_only = true;
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_drop_all(kit.db, 0, &kit.err), KV_READ_ONLY);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", "v"));
    kv_kit_release(&kit);
}
