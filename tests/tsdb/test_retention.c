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
