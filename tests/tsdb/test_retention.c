/* What is too old is hidden at once and dropped later; wrong clocks delete nothing. */
#include "tests/support/store_kit.h"
#include "tsdb/db.h"

#include <criterion/criterion.h>

static size_t windows_there(struct store_kit *kit)
{
    struct ts_stats stats;
    ts_stats(kit->db, &stats);
    return stats.chunks;
}

static void open_with_ten_days(struct store_kit *kit)
{
    store_kit_init(kit);
    kit->options.retention_ms = 3 * KIT_DAY_MS;
    cr_assert_eq(store_kit_open(kit), KV_OK, "%s", kit->err.text);
}

Test(retention, hides_to_the_millisecond_wherever_the_sample_is)
{
    struct store_kit kit;
    open_with_ten_days(&kit);
    store_kit_put(&kit, 0, KIT_START_MS - 3 * KIT_DAY_MS, 1);
    store_kit_put(&kit, 0, KIT_START_MS - 3 * KIT_DAY_MS + 1, 2);
    cr_assert_str_eq(store_kit_text(&kit, 0, INT64_MIN, INT64_MAX), "-259200000=1 -259199999=2 ");
    clock_manual_advance_ms(&kit.clock, 1);
    cr_assert_str_eq(store_kit_text(&kit, 0, INT64_MIN, INT64_MAX), "-259199999=2 ");
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    cr_assert_str_eq(store_kit_text(&kit, 0, INT64_MIN, INT64_MAX), "-259199999=2 ");
    clock_manual_advance_ms(&kit.clock, 1);
    cr_assert_str_eq(store_kit_text(&kit, 0, INT64_MIN, INT64_MAX), "");
    store_kit_release(&kit);
}

Test(retention, drops_windows_that_are_wholly_expired)
{
    struct store_kit kit;
    open_with_ten_days(&kit);
    store_kit_put(&kit, 0, KIT_START_MS - 2 * KIT_DAY_MS, 1);
    store_kit_put(&kit, 0, KIT_START_MS, 2);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    cr_assert_eq(windows_there(&kit), 2);
    clock_manual_advance_ms(&kit.clock, KIT_DAY_MS); /* half of the older window is expired */
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(windows_there(&kit), 2);
    clock_manual_advance_ms(&kit.clock, KIT_DAY_MS);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(windows_there(&kit), 1);
    struct kv_space_stats stats;
    cr_assert_eq(kv_space_stats(ts_kv(kit.db), TS_SPACE_CHUNKS, &stats), KV_OK);
    cr_assert_eq(stats.tables, 1);
    cr_assert_str_eq(store_kit_text(&kit, 0, INT64_MIN, INT64_MAX), "0=2 ");
    cr_assert_eq(store_kit_close(&kit, true), KV_OK);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_assert_eq(windows_there(&kit), 1);
    store_kit_release(&kit);
}

Test(retention, a_clock_years_ahead_deletes_nothing_until_it_is_accepted)
{
    struct store_kit kit;
    open_with_ten_days(&kit);
    store_kit_put(&kit, 0, KIT_START_MS, 1);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    clock_manual_set_wall_ms(&kit.clock, KIT_START_MS + 3650 * KIT_DAY_MS);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK);
    cr_assert_str_eq(store_kit_text(&kit, 0, INT64_MIN, INT64_MAX), "0=1 ");
    cr_assert_eq(kv_retention_clock_accept(ts_kv(kit.db), &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_str_eq(store_kit_text(&kit, 0, INT64_MIN, INT64_MAX), "");
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK);
    cr_assert_eq(windows_there(&kit), 0);
    store_kit_release(&kit);
}

Test(retention, a_clock_years_behind_hides_nothing)
{
    struct store_kit kit;
    open_with_ten_days(&kit);
    store_kit_put(&kit, 0, KIT_START_MS, 1);
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    clock_manual_set_wall_ms(&kit.clock, KIT_DAY_MS);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK);
    cr_assert_str_eq(store_kit_text(&kit, 0, INT64_MIN, INT64_MAX), "0=1 ");
    store_kit_put(&kit, 0, KIT_START_MS + 1000, 2); /* now is the newer of the two clocks */
    store_kit_release(&kit);
}

/* ---- clocks ------------------------------------------------------------------------------------------------------ */

static void rounds(struct store_kit *kit, int n)
{
    for (int i = 0; i < n; i++) {
        clock_manual_advance_ms(&kit->clock, 30000);
        cr_assert_eq(ts_maintain(kit->db, &kit->err), KV_OK, "%s", kit->err.text);
    }
}

Test(retention, no_jump_of_the_wall_clock_deletes_anything_until_it_is_confirmed)
{
    static const struct ts_retention_rule rule = {{(const uint8_t *)"m1", 2}, KIT_DAY_MS};
    static const int64_t jumps_days[] = {3650, -3650, 8, 3650};
    struct store_kit kit;
    store_kit_init(&kit);
    kit.options.retention_ms = 3 * KIT_DAY_MS;
    kit.options.retention_rules = &rule;
    kit.options.n_retention_rules = 1;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    for (int series = 0; series < 2; series++) {
        store_kit_put(&kit, series, KIT_START_MS - KIT_DAY_MS + 3600000, 1);
        store_kit_put(&kit, series, KIT_START_MS, 2);
    }
    cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK);
    for (size_t i = 0; i < sizeof jumps_days / sizeof *jumps_days; i++) {
        int64_t now = KIT_START_MS + jumps_days[i] * KIT_DAY_MS;
        clock_manual_set_wall_ms(&kit.clock, now);
        rounds(&kit, 3);
        cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK);
        for (int series = 0; series < 2; series++)
            cr_assert_str_eq(store_kit_text(&kit, series, INT64_MIN, INT64_MAX), "-82800000=1 0=2 ",
                             "jump %zu", i);
        if (i % 2 == 1) { /* also over a restart */
            cr_assert_eq(store_kit_close(&kit, i == 1), KV_OK);
            cr_assert_eq(store_kit_open(&kit), KV_OK);
            rounds(&kit, 2);
        }
        struct ts_stats stats;
        ts_stats(kit.db, &stats);
        cr_assert_eq(stats.windows_expired + stats.windows_cut, 0);
        cr_assert_eq(stats.chunks, 4);
    }
    clock_manual_set_wall_ms(&kit.clock, KIT_START_MS + 2 * KIT_DAY_MS);
    cr_assert_eq(kv_retention_clock_accept(ts_kv(kit.db), &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_str_eq(store_kit_text(&kit, 0, INT64_MIN, INT64_MAX), "-82800000=1 0=2 ");
    cr_assert_str_eq(store_kit_text(&kit, 1, INT64_MIN, INT64_MAX), "");
    clock_manual_set_wall_ms(&kit.clock, KIT_START_MS + 3650 * KIT_DAY_MS);
    cr_assert_eq(kv_retention_clock_accept(ts_kv(kit.db), &kit.err), KV_OK, "%s", kit.err.text);
    rounds(&kit, 1);
    struct ts_stats stats;
    ts_stats(kit.db, &stats);
    cr_assert_eq(stats.windows_expired, 2);
    cr_assert_eq(stats.chunks, 0);
    store_kit_release(&kit);
}

/* ---- size -------------------------------------------------------------------------------------------------------- */

/* Noise: about 8 bytes a sample. */
static void put_day(struct store_kit *kit, int64_t day, int samples)
{
    for (int i = 0; i < samples; i++) {
        uint64_t bits = (uint64_t)(day * 100003 + i + 1) * UINT64_C(0x9e3779b97f4a7c15);
        bits = (bits ^ bits >> 31) * UINT64_C(0xbf58476d1ce4e5b9);
        bits = UINT64_C(0x3ff0000000000000) | (bits ^ bits >> 29) >> 12;
        double value;
        memcpy(&value, &bits, sizeof value);
        cr_assert_eq(store_kit_add(kit, 0, KIT_START_MS + day * KIT_DAY_MS - i * 1000, value), KV_OK);
    }
    cr_assert_eq(store_kit_commit(kit), KV_OK, "%s", kit->err.text);
    cr_assert_eq(kit->result.rejected, 0, "%s", kit->result.rejects[0].text);
}

static uint64_t count_samples(struct store_kit *kit)
{
    struct ts_columns columns = {0};
    cr_assert_eq(store_kit_read(kit, 0, INT64_MIN, INT64_MAX, &columns), KV_OK);
    uint64_t n = columns.n;
    ts_columns_release(&columns);
    return n;
}

Test(retention, of_a_store_that_is_too_large_the_oldest_days_go_whole)
{
    enum { DAYS = 6, SAMPLES = 20000 };
    struct store_kit kit;
    struct ts_stats stats;
    store_kit_init(&kit);
    kit.options.retention_ms = INT64_MAX;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    for (int64_t day = 0; day < DAYS; day++)
        put_day(&kit, -day, SAMPLES);
    cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK);
    cr_assert_eq(store_kit_close(&kit, false), KV_OK); /* old logs go */
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    uint64_t all = kv_disk_bytes(ts_kv(kit.db));
    cr_assert_gt(all, DAYS * SAMPLES * 6);
    rounds(&kit, 1);
    ts_stats(kit.db, &stats);
    cr_assert_eq(stats.windows_cut, 0);
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    kit.options.retention_bytes = all - all / DAYS; /* a bit over one day too much */
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    rounds(&kit, 1);
    ts_stats(kit.db, &stats);
    cr_assert(stats.windows_cut == 1 || stats.windows_cut == 2);
    cr_assert_eq(count_samples(&kit), (DAYS - stats.windows_cut) * SAMPLES);
    cr_assert_leq(kv_disk_bytes(ts_kv(kit.db)), kit.options.retention_bytes);
    cr_assert_geq(stats.bytes_dropped, SAMPLES * 6);
    cr_assert_geq(stats.time_min_ms, KIT_START_MS - (DAYS - 1) * KIT_DAY_MS);
    /* Late data for a dropped day is taken, and is the first to go again. */
    put_day(&kit, -(DAYS - 1), SAMPLES);
    rounds(&kit, 1);
    cr_assert_leq(count_samples(&kit), (DAYS - 1) * SAMPLES);
    /* The newest day stays however small the limit is. */
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    kit.options.retention_bytes = 1;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    rounds(&kit, 2);
    cr_assert_eq(count_samples(&kit), SAMPLES);
    store_kit_release(&kit);
}
