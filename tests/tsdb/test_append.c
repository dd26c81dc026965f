/* From rows to stored samples: validation, results, visibility. */
#include "kvcore/base/mem.h"
#include "tests/support/store_kit.h"

#include <criterion/criterion.h>

Test(append, what_was_committed_is_read_back)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(store_kit_add(&kit, 1, KIT_START_MS + i * 1000, i), KV_OK);
    cr_assert_eq(store_kit_add(&kit, 2, KIT_START_MS, 0.25), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK, "%s", kit.err.text);
    cr_assert_eq(kit.result.accepted, 6);
    cr_assert_eq(kit.result.series_created, 2);
    cr_assert_gt(kit.result.seq, 0);
    cr_assert_str_eq(store_kit_text(&kit, 1, 0, INT64_MAX), "0=0 1000=1 2000=2 3000=3 4000=4 ");
    cr_assert_str_eq(store_kit_text(&kit, 1, KIT_START_MS + 1000, KIT_START_MS + 3000),
                     "1000=1 2000=2 3000=3 ");
    cr_assert_str_eq(store_kit_text(&kit, 2, 0, INT64_MAX), "0=0.25 ");
    cr_assert_str_eq(store_kit_text(&kit, 3, 0, INT64_MAX), "");
    store_kit_release(&kit);
}

Test(append, nothing_is_visible_before_the_commit_and_nothing_after_an_abort)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_assert_eq(store_kit_add(&kit, 1, KIT_START_MS, 1), KV_OK);
    cr_assert_str_eq(store_kit_text(&kit, 1, 0, INT64_MAX), "");
    ts_append_abort(kit.appender);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert_eq(kit.result.seq, 0, "an empty appender commits nothing");
    cr_assert_str_eq(store_kit_text(&kit, 1, 0, INT64_MAX), "");
    store_kit_release(&kit);
}

Test(append, samples_out_of_bounds_are_rejected_one_by_one)
{
    struct store_kit kit;
    store_kit_init(&kit);
    kit.options.retention_ms = KIT_DAY_MS;
    kit.options.future_ms = 60000;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    int64_t times[] = {KIT_START_MS - KIT_DAY_MS - 1, KIT_START_MS - KIT_DAY_MS, KIT_START_MS + 60000,
                       KIT_START_MS + 60001, INT64_MAX};
    double values[] = {1, 2, 3, 4, 5};
    cr_assert_eq(store_kit_add_many(&kit, 1, times, values, 5), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert_eq(kit.result.accepted, 2);
    cr_assert_eq(kit.result.rejected, 3);
    cr_assert_eq(kit.result.n_rejects, 2);
    cr_assert_eq(kit.result.rejects[0].reason, TS_REJECT_TOO_OLD);
    cr_assert_eq(kit.result.rejects[0].samples, 1);
    cr_assert_eq(kit.result.rejects[1].reason, TS_REJECT_TOO_NEW);
    cr_assert_eq(kit.result.rejects[1].samples, 2);
    cr_assert_str_eq(store_kit_text(&kit, 1, 0, INT64_MAX), "-86400000=2 60000=3 ");
    struct ts_stats stats;
    ts_stats(kit.db, &stats);
    cr_assert_eq(stats.samples_rejected[TS_REJECT_TOO_NEW], 2);
    cr_assert_eq(stats.samples_appended, 2);
    store_kit_release(&kit);
}

Test(append, a_series_of_which_no_sample_is_taken_is_not_created)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_assert_eq(store_kit_add(&kit, 1, INT64_MIN, 1), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert_eq(kit.result.rejected, 1);
    cr_assert_eq(kit.result.series_created, 0);
    cr_assert_eq(kit.result.seq, 0);
    store_kit_release(&kit);
}

Test(append, bad_labels_reject_the_row_and_store_the_rest)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    const struct ts_label nameless[] = {{KV_STR("a"), KV_STR("b")}};
    const struct ts_label twice[] = {
        {KV_STR("__name__"), KV_STR("m")}, {KV_STR("a"), KV_STR("1")}, {KV_STR("a"), KV_STR("2")}};
    const struct ts_label good[] = {{KV_STR("__name__"), KV_STR("m")}, {KV_STR("i"), KV_STR("9")}};
    cr_assert_eq(ts_append(kit.appender, nameless, 1, KIT_START_MS, 1, &kit.err), KV_OK);
    cr_assert_eq(ts_append(kit.appender, twice, 3, KIT_START_MS, 1, &kit.err), KV_OK);
    cr_assert_eq(ts_append(kit.appender, good, 2, KIT_START_MS, 1, &kit.err), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert_eq(kit.result.accepted, 1);
    cr_assert_eq(kit.result.rejected, 2);
    cr_assert_eq(kit.result.rejects[0].reason, TS_REJECT_LABEL_MISSING_NAME);
    cr_assert_eq(kit.result.rejects[1].reason, TS_REJECT_LABEL_DUPLICATE);
    cr_assert_str_eq(store_kit_text(&kit, 9, 0, INT64_MAX), "0=1 ");
    store_kit_release(&kit);
}

Test(append, one_series_named_twice_in_a_request_is_one_series_and_the_last_value_stays)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_assert_eq(store_kit_add(&kit, 1, KIT_START_MS, 1), KV_OK);
    cr_assert_eq(store_kit_add(&kit, 2, KIT_START_MS, 5), KV_OK);
    cr_assert_eq(store_kit_add(&kit, 1, KIT_START_MS, 2), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert_eq(kit.result.series_created, 2);
    cr_assert_str_eq(store_kit_text(&kit, 1, 0, INT64_MAX), "0=2 ");
    store_kit_release(&kit);
}

Test(append, many_new_series_in_one_request_outgrow_the_gap_in_front)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    for (int i = 0; i < 3000; i++)
        cr_assert_eq(store_kit_add(&kit, i, KIT_START_MS, i), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK, "%s", kit.err.text);
    cr_assert_eq(kit.result.series_created, 3000);
    cr_assert_str_eq(store_kit_text(&kit, 2999, 0, INT64_MAX), "0=2999 ");
    cr_assert_eq(store_kit_close(&kit, true), KV_OK);
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
    cr_assert_str_eq(store_kit_text(&kit, 2999, 0, INT64_MAX), "0=2999 ");
    cr_assert_str_eq(store_kit_text(&kit, 0, 0, INT64_MAX), "0=0 ");
    store_kit_release(&kit);
}

Test(append, a_request_of_too_many_samples_is_refused_whole_and_names_the_limit)
{
    struct store_kit kit;
    struct ts_stats stats;
    store_kit_init(&kit);
    kit.options.request_samples_max = 3;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    const int64_t times[] = {KIT_START_MS, KIT_START_MS + 1};
    const double values[] = {1, 2};
    cr_assert_eq(store_kit_add_many(&kit, 1, times, values, 2), KV_OK);
    cr_assert_eq(store_kit_add_many(&kit, 2, times, values, 2), KV_LIMIT);
    cr_assert(strstr(kit.err.text, "more than 3 samples") &&
                  strstr(kit.err.text, "ts_options.request_samples_max"),
              "%s", kit.err.text);
    ts_append_abort(kit.appender);
    ts_stats(kit.db, &stats);
    cr_assert_eq(stats.samples_rejected[TS_REJECT_REQUEST_LIMIT], 4);
    cr_assert_eq(stats.series, 0);
    cr_assert_eq(store_kit_add_many(&kit, 1, times, values, 2), KV_OK, "the appender goes on");
    cr_assert_eq(store_kit_add(&kit, 2, KIT_START_MS, 1), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert_eq(kit.result.accepted, 3);
    store_kit_release(&kit);
}

Test(append, only_a_request_of_which_all_waits_for_the_rate_of_new_series_is_to_be_tried_again)
{
    struct store_kit kit;
    store_kit_init(&kit);
    kit.options.series_per_s_max = 1;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    for (int i = 0; i < 12; i++)
        cr_assert_eq(store_kit_add(&kit, i, KIT_START_MS, 1), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert(kit.result.accepted == 10 && kit.result.rejected == 2 && kit.result.retry_in_ms == 0);
    cr_assert_eq(kit.result.rejects[0].reason, TS_REJECT_SERIES_RATE);
    for (int i = 10; i < 12; i++)
        cr_assert_eq(store_kit_add(&kit, i, KIT_START_MS, 1), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert(kit.result.seq == 0 && kit.result.rejected == 2);
    cr_assert(kit.result.retry_in_ms > 0 && kit.result.retry_in_ms <= 1001, "%u", kit.result.retry_in_ms);
    cr_assert_eq(store_kit_add(&kit, 10, KIT_START_MS, 1), KV_OK);
    cr_assert_eq(store_kit_add(&kit, 1, INT64_MAX, 1), KV_OK); /* no waiting cures this one */
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert(kit.result.rejected == 2 && kit.result.retry_in_ms == 0);
    clock_manual_advance_ms(&kit.clock, 2000);
    for (int i = 10; i < 12; i++)
        cr_assert_eq(store_kit_add(&kit, i, KIT_START_MS, 1), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert_eq(kit.result.accepted, 2);
    store_kit_release(&kit);
}

static size_t largest;

static bool note_largest(size_t size)
{
    if (size > largest)
        largest = size;
    return false;
}

/* What one more request of n new series that is given up asks for at most at once. */
static size_t largest_of_request(struct store_kit *kit, int n)
{
    largest = 0;
    kv_mem_should_fail = note_largest;
    for (int i = 0; i < n; i++)
        cr_assert_eq(store_kit_add(kit, i, KIT_START_MS, i), KV_OK);
    kv_mem_should_fail = NULL;
    ts_append_abort(kit->appender);
    return largest;
}

Test(append, a_large_request_does_not_keep_its_memory)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    size_t first = largest_of_request(&kit, 100000);
    cr_assert_gt(first, 4 << 20);
    cr_assert_eq(largest_of_request(&kit, 100000), first, "it was given back, so it is asked for again");
    (void)largest_of_request(&kit, 100);
    cr_assert_lt(largest_of_request(&kit, 100), 4096, "little is kept");
    store_kit_release(&kit);
}
