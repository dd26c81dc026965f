/* What a scan yields, in which order, and within which bounds. */
#include "tests/support/store_kit.h"
#include "tsdb/db.h"
#include "tsdb/matcher.h"
#include "tsdb/query/scan.h"

#include <criterion/criterion.h>

static struct ts_budget budget_of(struct store_kit *kit)
{
    return (struct ts_budget){.samples_max = 1 << 20,
                              .bytes_max = 1 << 24,
                              .deadline_mono_ns = UINT64_MAX,
                              .clock = &kit->clock.base};
}

/* 20 series, 3 days of a sample every 10 minutes, some flushed, some merged, the rest in the head. */
static void fill(struct store_kit *kit)
{
    store_kit_init(kit);
    cr_assert_eq(store_kit_open(kit), KV_OK);
    for (int i = 0; i < 432; i++) {
        for (int series = 0; series < 20; series++)
            cr_assert_eq(
                store_kit_add(kit, series, KIT_START_MS - 3 * KIT_DAY_MS + i * 600000, i + series * 1000),
                KV_OK);
        cr_assert_eq(store_kit_commit(kit), KV_OK);
        if (i == 100 || i == 350)
            cr_assert_eq(ts_flush(kit->db, i == 100, &kit->err), KV_OK, "%s", kit->err.text);
    }
}

Test(scan, yields_every_selected_series_by_ref_with_its_samples)
{
    struct store_kit kit;
    fill(&kit);
    struct ts_matcher matcher;
    cr_assert_eq(ts_matcher_init(&matcher, TS_MATCH_EQ, KV_STR("parity"), KV_STR("odd"), NULL), KV_OK);
    struct ts_budget budget = budget_of(&kit);
    const struct ts_scan_options options = {.matchers = &matcher,
                                            .n_matchers = 1,
                                            .from_ms = KIT_START_MS - 2 * KIT_DAY_MS,
                                            .to_ms = KIT_START_MS};
    struct ts_scan *scan;
    struct ts_scan_series series;
    uint64_t before = 0;
    size_t n = 0;
    kv_status rc;
    cr_assert_eq(ts_scan_open(kit.db, &options, &budget, &scan, &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(ts_scan_count(scan), 10);
    while ((rc = ts_scan_next(scan, &series, &kit.err)) == KV_OK) {
        int number = atoi((const char *)series.labels[1].value.data);
        cr_assert_gt(series.ref, before);
        before = series.ref;
        cr_assert_eq(series.n_labels, 3);
        cr_assert_eq(series.n, 288);
        for (size_t i = 0; i < series.n; i++) {
            cr_assert_eq(series.times_ms[i], KIT_START_MS - 2 * KIT_DAY_MS + (int64_t)i * 600000);
            cr_assert_eq(series.values[i], (double)(144 + i) + number * 1000);
        }
        n++;
    }
    cr_assert_eq(rc, KV_END);
    cr_assert_eq(n, 10);
    cr_assert_eq(budget.samples, 2880);
    ts_scan_close(scan);
    cr_assert_eq(budget.bytes, 0, "what was taken is given back");
    ts_matcher_release(&matcher);
    store_kit_release(&kit);
}

Test(scan, stops_at_the_budget)
{
    struct store_kit kit;
    fill(&kit);
    struct ts_budget budget = budget_of(&kit);
    budget.samples_max = 1000;
    const struct ts_scan_options options = {.from_ms = INT64_MIN, .to_ms = INT64_MAX};
    struct ts_scan *scan;
    struct ts_scan_series series;
    kv_status rc;
    cr_assert_eq(ts_scan_open(kit.db, &options, &budget, &scan, &kit.err), KV_OK);
    while ((rc = ts_scan_next(scan, &series, &kit.err)) == KV_OK)
        ;
    cr_assert_eq(rc, KV_LIMIT);
    ts_scan_close(scan);
    budget = budget_of(&kit);
    budget.bytes_max = 100;
    cr_assert_lt(ts_scan_open(kit.db, &options, &budget, &scan, &kit.err), 0);
    store_kit_release(&kit);
}

Test(scan, of_an_empty_range_or_store_yields_nothing)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    struct ts_budget budget = budget_of(&kit);
    struct ts_scan_options options = {.from_ms = INT64_MIN, .to_ms = INT64_MAX};
    struct ts_scan *scan;
    struct ts_scan_series series;
    cr_assert_eq(ts_scan_open(kit.db, &options, &budget, &scan, &kit.err), KV_OK);
    cr_assert_eq(ts_scan_next(scan, &series, &kit.err), KV_END);
    ts_scan_close(scan);
    store_kit_put(&kit, 0, KIT_START_MS, 1);
    options.from_ms = 5;
    options.to_ms = 4;
    cr_assert_eq(ts_scan_open(kit.db, &options, &budget, &scan, &kit.err), KV_OK);
    cr_assert_eq(ts_scan_next(scan, &series, &kit.err), KV_END);
    ts_scan_close(scan);
    store_kit_release(&kit);
}

Test(scan, sees_one_state_whatever_is_flushed_and_merged_beside_it)
{
    struct store_kit kit;
    fill(&kit);
    struct ts_budget budget = budget_of(&kit);
    const struct ts_scan_options options = {.from_ms = INT64_MIN, .to_ms = INT64_MAX};
    struct ts_scan *scan;
    struct ts_scan_series series;
    size_t n = 0;
    cr_assert_eq(ts_scan_open(kit.db, &options, &budget, &scan, &kit.err), KV_OK);
    while (ts_scan_next(scan, &series, &kit.err) == KV_OK) {
        cr_assert_eq(series.n, 432);
        if (n++ == 7)
            cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK, "%s", kit.err.text);
    }
    cr_assert_eq(n, 20);
    ts_scan_close(scan);
    store_kit_release(&kit);
}

Test(scan, of_chosen_labels_goes_by_the_rules_of_all_of_them)
{
    struct store_kit kit;
    struct ts_scan *scan;
    struct ts_scan_series series;
    store_kit_init(&kit);
    kit.rule = (struct ts_retention_rule){KV_STR("{parity=\"odd\"}"), KIT_DAY_MS};
    kit.options.retention_rules = &kit.rule;
    kit.options.n_retention_rules = 1;
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
    for (int i = 0; i < 600; i++)
        cr_assert_eq(store_kit_add(&kit, i, KIT_START_MS - KIT_DAY_MS / 2, i), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    clock_manual_advance_ms(&kit.clock, KIT_DAY_MS); /* what is odd has expired */
    struct ts_budget budget = budget_of(&kit);
    const kv_slice names[] = {KV_STR("nothing"), KV_STR("parity")};
    const struct ts_label_choice chosen = {names, 2};
    const struct ts_scan_options options = {.from_ms = INT64_MIN, .to_ms = INT64_MAX, .labels = &chosen};
    size_t n = 0, even = 0;
    cr_assert_eq(ts_scan_open(kit.db, &options, &budget, &scan, &kit.err), KV_OK, "%s", kit.err.text);
    while (ts_scan_next(scan, &series, &kit.err) == KV_OK) {
        kv_slice parity = ts_labels_get(series.labels, series.n_labels, KV_STR("parity"));
        cr_assert_eq(series.n_labels, 2);
        cr_assert_eq(ts_labels_get(series.labels, series.n_labels, KV_STR("__name__")).len, 2);
        cr_assert_eq(series.n, kv_slice_equal(parity, KV_STR("even")) ? 1 : 0);
        even += series.n;
        n++;
    }
    cr_assert_eq(n, 600);
    cr_assert_eq(even, 300);
    ts_scan_close(scan);
    cr_assert_eq(budget.bytes, 0);
    store_kit_release(&kit);
}
