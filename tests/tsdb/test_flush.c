/* From the head to tables. */
#include "kvcore/base/mem.h"
#include "tests/support/store_kit.h"
#include "tsdb/db.h"

#include <criterion/criterion.h>

static void head_and_chunks(struct store_kit *kit, uint64_t *samples, uint64_t *chunks)
{
    struct ts_stats stats;
    ts_stats(kit->db, &stats);
    *samples = stats.head_samples;
    *chunks = stats.chunks;
}

Test(flush, moves_every_sample_from_the_head_to_tables)
{
    struct store_kit kit;
    uint64_t samples, chunks;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
    for (int i = 0; i < 10; i++)
        store_kit_put(&kit, i % 2, KIT_START_MS + i * 1000, i);
    store_kit_put(&kit, 1, KIT_START_MS + 500, 77);  /* late */
    store_kit_put(&kit, 1, KIT_START_MS + 1000, 78); /* overwrites */
    head_and_chunks(&kit, &samples, &chunks);
    cr_assert_eq(samples, 12);
    cr_assert_eq(chunks, 0);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK, "%s", kit.err.text);
    head_and_chunks(&kit, &samples, &chunks);
    cr_assert_eq(samples, 0);
    cr_assert_eq(chunks, 2);
    cr_assert_str_eq(store_kit_text(&kit, 0, 0, INT64_MAX), "0=0 2000=2 4000=4 6000=6 8000=8 ");
    cr_assert_str_eq(store_kit_text(&kit, 1, 0, INT64_MAX), "500=77 1000=78 3000=3 5000=5 7000=7 9000=9 ");
    store_kit_release(&kit);
}

Test(flush, later_samples_win_over_flushed_ones_at_one_time)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    store_kit_put(&kit, 0, KIT_START_MS, 1);
    store_kit_put(&kit, 0, KIT_START_MS + 1000, 1);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    store_kit_put(&kit, 0, KIT_START_MS, 2);
    cr_assert_str_eq(store_kit_text(&kit, 0, 0, INT64_MAX), "0=2 1000=1 ");
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    cr_assert_str_eq(store_kit_text(&kit, 0, 0, INT64_MAX), "0=2 1000=1 ");
    cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK);
    cr_assert_str_eq(store_kit_text(&kit, 0, 0, INT64_MAX), "0=2 1000=1 ");
    store_kit_release(&kit);
}

Test(flush, a_flushed_record_is_not_replayed)
{
    struct store_kit kit;
    uint64_t samples, chunks;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    store_kit_put(&kit, 0, KIT_START_MS, 1);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    store_kit_put(&kit, 0, KIT_START_MS + 1000, 2);
    store_kit_crash(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
    head_and_chunks(&kit, &samples, &chunks);
    cr_assert_eq(samples, 1);
    cr_assert_eq(chunks, 1);
    cr_assert_str_eq(store_kit_text(&kit, 0, 0, INT64_MAX), "0=1 1000=2 ");
    store_kit_release(&kit);
}

Test(flush, a_clean_close_leaves_nothing_to_replay)
{
    struct store_kit kit;
    uint64_t samples, chunks;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    store_kit_put(&kit, 0, KIT_START_MS, 1);
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    head_and_chunks(&kit, &samples, &chunks);
    cr_assert_eq(samples, 0);
    cr_assert_str_eq(store_kit_text(&kit, 0, 0, INT64_MAX), "0=1 ");
    store_kit_release(&kit);
}

Test(flush, a_backfill_over_many_windows_lands_in_each)
{
    struct store_kit kit;
    enum { DAYS = 40 };
    store_kit_init(&kit);
    kit.options.retention_ms = INT64_MAX;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    for (int series = 0; series < 4; series++)
        for (int day = DAYS; day > 0; day--) /* newest first: all but the first are late */
            cr_assert_eq(store_kit_add(&kit, series, KIT_START_MS - day * KIT_DAY_MS, day), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    struct ts_window *windows;
    size_t n;
    cr_assert_eq(ts_windows_copy(kit.db->windows, INT32_MIN, INT32_MAX, &windows, &n), KV_OK);
    cr_assert_eq(n, DAYS);
    for (size_t i = 0; i < n; i++) {
        cr_assert(windows[i].merged, "a finished window that one flush wrote needs no merge");
        cr_assert_eq(windows[i].chunks, 4);
    }
    kv_free(windows);
    struct ts_columns columns = {0};
    cr_assert_eq(store_kit_read(&kit, 3, INT64_MIN, INT64_MAX, &columns), KV_OK);
    cr_assert_eq(columns.n, DAYS);
    ts_columns_release(&columns);
    store_kit_release(&kit);
}

Test(flush, a_full_head_makes_room_before_the_next_commit)
{
    struct store_kit kit;
    struct ts_stats stats;
    store_kit_init(&kit);
    kit.options.head_bytes_max = 512 << 10;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    for (int i = 0; i < 60; i++) {
        for (int series = 0; series < 400; series++)
            cr_assert_eq(store_kit_add(&kit, series, KIT_START_MS + i * 1000, i * 0.1), KV_OK);
        cr_assert_eq(store_kit_commit(&kit), KV_OK, "%s", kit.err.text);
    }
    ts_stats(kit.db, &stats);
    cr_assert_gt(stats.flushes, 0);
    cr_assert_leq(stats.head_bytes, 512 << 10);
    struct ts_columns columns = {0};
    cr_assert_eq(store_kit_read(&kit, 399, 0, INT64_MAX, &columns), KV_OK);
    cr_assert_eq(columns.n, 60);
    ts_columns_release(&columns);
    store_kit_release(&kit);
}

Test(flush, an_old_generation_is_flushed_by_maintenance)
{
    struct store_kit kit;
    uint64_t samples, chunks;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    store_kit_put(&kit, 0, KIT_START_MS, 1);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK, "%s", kit.err.text);
    head_and_chunks(&kit, &samples, &chunks);
    cr_assert_eq(samples, 1, "young");
    clock_manual_advance_ms(&kit.clock, 2 * 3600 * 1000);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK, "%s", kit.err.text);
    head_and_chunks(&kit, &samples, &chunks);
    cr_assert_eq(samples, 0);
    cr_assert_str_eq(store_kit_text(&kit, 0, 0, INT64_MAX), "0=1 ");
    store_kit_release(&kit);
}

Test(flush, background_replay_takes_writes_and_queries_wait_for_it)
{
    struct store_kit kit;
    double progress;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    for (int i = 0; i < 100; i++)
        store_kit_put(&kit, i % 5, KIT_START_MS + i * 1000, i);
    cr_assert_eq(store_kit_close(&kit, true), KV_OK);
    kit.options.replay_in_background = true;
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
    store_kit_put(&kit, 0, KIT_START_MS + 95000, 7); /* over a sample that may not be read back yet */
    struct ts_columns columns = {0};
    cr_assert_eq(store_kit_read(&kit, 0, 0, INT64_MAX, &columns), KV_OK);
    cr_assert_eq(columns.n, 20);
    cr_assert_eq(columns.values[19], 7);
    ts_columns_release(&columns);
    cr_assert_eq(ts_ready(kit.db, &progress), KV_OK);
    cr_assert_eq(progress, 1);
    cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(store_kit_read(&kit, 0, 0, INT64_MAX, &columns), KV_OK);
    cr_assert_eq(columns.n, 20);
    cr_assert_eq(columns.values[19], 7);
    ts_columns_release(&columns);
    store_kit_release(&kit);
}
