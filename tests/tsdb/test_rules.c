/* Retention rules: the first that matches decides what is taken, what is seen, what is listed and what is thinned. */
#include "kvcore/base/mem.h"
#include "tests/support/store_kit.h"
#include "tsdb/db.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define HOUR INT64_C(3600000)
#define RULE(text, days)                                                                                     \
    {                                                                                                        \
        {(const uint8_t *)(text), sizeof(text) - 1}, (days)*KIT_DAY_MS                                       \
    }

/* Series 0, 3 are m0 (kept 1 day), 1, 4 m1 (5 days), 2, 5 m2 (the default: 3). */
static const struct ts_retention_rule rules[] = {RULE("m0", 1), RULE("{__name__=~\"m[01]\"}", 5)};

static void open_ruled(struct store_kit *kit, const struct ts_retention_rule *r, size_t n)
{
    store_kit_init(kit);
    kit->options.retention_ms = 3 * KIT_DAY_MS;
    kit->options.retention_rules = r;
    kit->options.n_retention_rules = n;
    cr_assert_eq(store_kit_open(kit), KV_OK, "%s", kit->err.text);
}

struct listing {
    char text[400];
};

static kv_status add_value(void *ctx, kv_slice value)
{
    struct listing *l = ctx;
    size_t len = strlen(l->text);
    snprintf(l->text + len, sizeof l->text - len, "%.*s ", (int)value.len, (const char *)value.data);
    return KV_OK;
}

static kv_status add_series(void *ctx, const struct ts_label *labels, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (kv_slice_equal(labels[i].name, KV_STR("i")))
            return add_value(ctx, labels[i].value);
    return KV_INVALID;
}

/* Values of label i as the two listings have them, which must agree. */
static const char *listed(struct store_kit *kit, int64_t from_ms, int64_t to_ms)
{
    static struct listing values;
    struct listing series = {0};
    struct ts_query_err err = {0};
    memset(&values, 0, sizeof values);
    cr_assert_eq(
        ts_label_values(kit->db, KV_STR("i"), NULL, 0, from_ms, to_ms, 0, NULL, add_value, &values, &err),
        KV_OK, "%s", err.text);
    cr_assert_eq(ts_series(kit->db, NULL, 0, from_ms, to_ms, 0, NULL, add_series, &series, &err), KV_OK, "%s",
                 err.text);
    for (int i = 0; i < 10; i++) { /* one is in order of i, the other of labels */
        char one[4];
        snprintf(one, sizeof one, "%d ", i);
        cr_assert_eq(strstr(values.text, one) != NULL, strstr(series.text, one) != NULL, "%s against %s",
                     values.text, series.text);
    }
    return values.text;
}

static const char *all(struct store_kit *kit, int series)
{
    return store_kit_text(kit, series, INT64_MIN, INT64_MAX);
}

Test(rules, a_sample_is_refused_by_the_rule_of_its_series_and_the_rule_is_named)
{
    struct store_kit kit;
    open_ruled(&kit, rules, 2);
    static const int64_t keeps[] = {1, 5, 3};
    for (int series = 0; series < 3; series++) {
        int64_t floor = KIT_START_MS - keeps[series] * KIT_DAY_MS;
        const int64_t times[] = {floor - 1, floor, KIT_START_MS};
        const double values[] = {1, 2, 3};
        cr_assert_eq(store_kit_add_many(&kit, series, times, values, 3), KV_OK);
        cr_assert_eq(store_kit_commit(&kit), KV_OK);
        cr_assert_eq(kit.result.accepted, 2, "series %d", series);
        cr_assert_eq(kit.result.n_rejects, 1);
        cr_assert_eq(kit.result.rejects[0].reason, TS_REJECT_TOO_OLD);
        static const char *const named[] = {"that rule m0 keeps (ts_options.retention_rules)",
                                            "that rule {__name__=~\"m[01]\"} keeps",
                                            "raise ts_options.retention_ms"};
        cr_assert_not_null(strstr(kit.result.rejects[0].text, named[series]), "%s",
                           kit.result.rejects[0].text);
    }
    /* A series none of whose samples is taken is not created. */
    cr_assert_eq(store_kit_add(&kit, 3, KIT_START_MS - 2 * KIT_DAY_MS, 1), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert_eq(kit.result.accepted, 0);
    struct ts_stats stats;
    ts_stats(kit.db, &stats);
    cr_assert_eq(stats.series, 3);
    store_kit_release(&kit);
}

/* Where a sample may lie: head, a frozen generation's chunk, a merged window. */
static void settle(struct store_kit *kit, int how)
{
    if (how > 0)
        cr_assert_eq(ts_flush(kit->db, how > 1, &kit->err), KV_OK, "%s", kit->err.text);
}

Test(rules, hide_to_the_millisecond_in_queries_and_listings_wherever_the_sample_is)
{
    for (int how = 0; how < 3; how++) {
        struct store_kit kit;
        open_ruled(&kit, rules, 2);
        for (int series = 0; series < 3; series++) {
            store_kit_put(&kit, series, KIT_START_MS - 1, 1);
            store_kit_put(&kit, series, KIT_START_MS, 2);
        }
        settle(&kit, how);
        static const int64_t keeps[] = {1, 5, 3};
        for (int series = 0; series < 3; series++) {
            struct store_kit at = kit;
            clock_manual_set_wall_ms(&kit.clock, KIT_START_MS + keeps[series] * KIT_DAY_MS - 1);
            cr_assert_eq(kv_retention_clock_accept(ts_kv(kit.db), &kit.err), KV_OK);
            (void)at;
            char digit[4];
            snprintf(digit, sizeof digit, "%d ", series);
            cr_assert_str_eq(all(&kit, series), "-1=1 0=2 ");
            cr_assert_not_null(strstr(listed(&kit, INT64_MIN, INT64_MAX), digit));
            clock_manual_set_wall_ms(&kit.clock, KIT_START_MS + keeps[series] * KIT_DAY_MS);
            cr_assert_eq(kv_retention_clock_accept(ts_kv(kit.db), &kit.err), KV_OK);
            cr_assert_str_eq(all(&kit, series), "0=2 ", "series %d, %d", series, how);
            cr_assert_not_null(strstr(listed(&kit, INT64_MIN, INT64_MAX), digit));
            clock_manual_set_wall_ms(&kit.clock, KIT_START_MS + keeps[series] * KIT_DAY_MS + 1);
            cr_assert_eq(kv_retention_clock_accept(ts_kv(kit.db), &kit.err), KV_OK);
            cr_assert_str_eq(all(&kit, series), "");
            cr_assert_null(strstr(listed(&kit, INT64_MIN, INT64_MAX), digit), "series %d, %d", series, how);
        }
        store_kit_release(&kit);
    }
}

Test(rules, other_rules_at_the_next_open_hold_for_old_data)
{
    struct store_kit kit;
    open_ruled(&kit, NULL, 0);
    for (int series = 0; series < 3; series++)
        store_kit_put(&kit, series, KIT_START_MS - 2 * KIT_DAY_MS, series);
    cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK);
    cr_assert_str_eq(listed(&kit, INT64_MIN, INT64_MAX), "0 1 2 ");
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    kit.options.retention_rules = rules;
    kit.options.n_retention_rules = 2;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_assert_str_eq(listed(&kit, INT64_MIN, INT64_MAX), "1 2 ");
    cr_assert_str_eq(all(&kit, 0), "");
    cr_assert_str_eq(all(&kit, 1), "-172800000=1 ");
    cr_assert_eq(store_kit_close(&kit, false),
                 KV_OK); /* nothing was merged yet: longer again shows it again */
    kit.options.n_retention_rules = 0;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_assert_str_eq(all(&kit, 0), "-172800000=0 ");
    store_kit_release(&kit);
}

Test(rules, what_will_not_do_is_refused_at_open_with_its_place)
{
    static const struct ts_retention_rule bad[] = {RULE("m0", 1), RULE("{a=", 1)}, zero[] = {RULE("m0", 0)};
    struct ts_retention_rule many[TS_RULES_MAX + 1];
    struct store_kit kit;
    store_kit_init(&kit);
    kit.options.retention_rules = bad;
    kit.options.n_retention_rules = 2;
    cr_assert_eq(store_kit_open(&kit), KV_INVALID);
    cr_assert_not_null(strstr(kit.err.text, "retention rule 2, {a=: 1:4: parse error"), "%s", kit.err.text);
    kit.options.retention_rules = zero;
    kit.options.n_retention_rules = 1;
    cr_assert_eq(store_kit_open(&kit), KV_INVALID);
    cr_assert_not_null(strstr(kit.err.text, "keeps 0 ms"), "%s", kit.err.text);
    for (size_t i = 0; i <= TS_RULES_MAX; i++)
        many[i] = rules[0];
    kit.options.retention_rules = many;
    kit.options.n_retention_rules = TS_RULES_MAX + 1;
    cr_assert_eq(store_kit_open(&kit), KV_LIMIT);
    kit.options.n_retention_rules = TS_RULES_MAX;
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
    store_kit_release(&kit);
}

/* ---- space ------------------------------------------------------------------------------------------------------- */

static struct ts_stats stats_of(struct store_kit *kit)
{
    struct ts_stats stats;
    ts_stats(kit->db, &stats);
    return stats;
}

static void maintain(struct store_kit *kit)
{
    cr_assert_eq(ts_maintain(kit->db, &kit->err), KV_OK, "%s", kit->err.text);
}

/* Moves both clocks to so many days behind the start. */
static void days_later(struct store_kit *kit, double days)
{
    clock_manual_set_wall_ms(&kit->clock, KIT_START_MS + (int64_t)(days * (double)KIT_DAY_MS));
    cr_assert_eq(kv_retention_clock_accept(ts_kv(kit->db), &kit->err), KV_OK);
}

static bool active(struct store_kit *kit, int32_t window)
{
    const struct ts_select select = {.from_ms = ts_window_start_ms(window),
                                     .to_ms = ts_window_start_ms(window) + TS_WINDOW_MS - 1};
    uint64_t *refs = NULL;
    size_t n;
    cr_assert_eq(ts_index_select(kit->db->registry, &select, &refs, &n, NULL), KV_OK);
    kv_free(refs);
    return n > 0;
}

Test(rules, a_window_is_thinned_once_a_rule_has_passed_it_and_goes_whole_with_the_last)
{
    struct store_kit kit;
    open_ruled(&kit, rules, 2);
    for (int series = 0; series < 6; series++)
        store_kit_put(&kit, series, KIT_START_MS, series);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    days_later(&kit, 0.7); /* the window is finished: merged once, nothing expired */
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).chunks, 6);
    days_later(&kit, 1.25); /* m0's samples are hidden; its rule has not passed the window's end */
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).chunks, 6);
    cr_assert_str_eq(listed(&kit, INT64_MIN, INT64_MAX), "1 2 4 5 ");
    days_later(&kit, 1.6);
    uint64_t merges = stats_of(&kit).merges;
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).chunks, 4);
    cr_assert_eq(stats_of(&kit).merges, merges + 1);
    maintain(&kit);
    days_later(&kit, 2.5);
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).merges, merges + 1, "one merge a rule, not one a day");
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).merges, 0, "nor one an opening");
    days_later(&kit, 3.6);
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).chunks, 2);
    cr_assert_eq(stats_of(&kit).merges, 1);
    cr_assert_str_eq(all(&kit, 4), "0=4 ");
    days_later(&kit, 5.6);
    maintain(&kit);
    struct ts_stats stats = stats_of(&kit);
    cr_assert(stats.chunks == 0 && stats.merges == 1 && stats.windows_expired == 1);
    cr_assert_not(active(&kit, ts_window_of(KIT_START_MS)));
    store_kit_release(&kit);
}

Test(rules, a_window_with_nothing_of_the_longest_rule_goes_whole_before_it)
{
    struct store_kit kit;
    open_ruled(&kit, rules, 2);
    for (int series = 0; series < 6; series++)
        if (series % 3 != 1) /* none of the rule that keeps five days */
            store_kit_put(&kit, series, KIT_START_MS, series);
    cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK);
    days_later(&kit, 3.6);
    uint64_t merges = stats_of(&kit).merges;
    maintain(&kit);
    struct ts_stats stats = stats_of(&kit);
    cr_assert(stats.chunks == 0 && stats.merges == merges && stats.windows_expired == 1);
    store_kit_release(&kit);
}

Test(rules, a_few_expired_series_wait_for_another_merge_and_settling_is_one)
{
    struct store_kit kit;
    static const struct ts_retention_rule one[] = {RULE("{i=\"7\"}", 1)};
    open_ruled(&kit, one, 1);
    for (int series = 0; series < 40; series++)
        store_kit_put(&kit, series, KIT_START_MS, series);
    cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK);
    days_later(&kit, 1.6);
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).chunks, 40);
    cr_assert_str_eq(all(&kit, 7), "");
    cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK);
    cr_assert_eq(stats_of(&kit).chunks, 39);
    store_kit_release(&kit);
}

Test(rules, many_series_are_told_apart_by_postings)
{
    enum { MANY = 3000 };
    struct store_kit kit;
    static const struct ts_retention_rule odd[] = {RULE("{parity=\"odd\",i!~\"1.*\"}", 1)};
    open_ruled(&kit, odd, 1);
    int kept = 0;
    for (int series = 0; series < MANY; series++) {
        char i[16];
        snprintf(i, sizeof i, "%d", series);
        kept += series % 2 == 0 || i[0] == '1';
        cr_assert_eq(store_kit_add(&kit, series, KIT_START_MS, series), KV_OK);
    }
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK);
    days_later(&kit, 1.6);
    maintain(&kit);
    cr_assert_eq(stats_of(&kit).chunks, kept);
    cr_assert_str_eq(all(&kit, 201), "");
    cr_assert_str_eq(all(&kit, 101), "0=101 ");
    store_kit_release(&kit);
}

/* ---- dry run ----------------------------------------------------------------------------------------------------- */

struct preview {
    char text[1000];
};

static kv_status add_preview(void *ctx, const struct ts_retention_preview *row)
{
    struct preview *p = ctx;
    size_t len = strlen(p->text);
    cr_assert_eq(row->end_ms - row->start_ms, KIT_DAY_MS);
    cr_assert_gt(row->bytes, 0);
    snprintf(p->text + len, sizeof p->text - len, "day %d %s: %d series, %d samples; ",
             (int)((row->start_ms - KIT_START_MS + KIT_DAY_MS / 2) / KIT_DAY_MS), row->rule, (int)row->series,
             (int)row->samples);
    return KV_OK;
}

static const char *dry_run(struct store_kit *kit, int64_t keep_ms, const struct ts_retention_rule *r,
                           size_t n)
{
    static struct preview p;
    memset(&p, 0, sizeof p);
    cr_assert_eq(ts_retention_dry_run(kit->db, keep_ms, r, n, add_preview, &p, &kit->err), KV_OK, "%s",
                 kit->err.text);
    return p.text;
}

Test(rules, a_dry_run_tells_by_day_and_rule_what_would_go)
{
    struct store_kit kit;
    open_ruled(&kit, NULL, 0);
    for (int series = 0; series < 6; series++)
        for (int day = 0; day < 3; day++)
            for (int i = 0; i < 4; i++)
                store_kit_put(&kit, series, KIT_START_MS - day * KIT_DAY_MS + i * 1000 - 2500, i);
    cr_assert_str_eq(dry_run(&kit, 0, rules, 2), "", "what is in the head is not counted");
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    cr_assert_str_eq(dry_run(&kit, 0, NULL, 0), "");
    cr_assert_str_eq(dry_run(&kit, 0, rules, 2),
                     "day -2 rule m0: 2 series, 8 samples; day -1 rule m0: 2 series, 6 samples; ");
    cr_assert_str_eq(dry_run(&kit, 2 * KIT_DAY_MS, rules, 1),
                     "day -2 rule m0: 2 series, 8 samples; day -2 retention: 4 series, 12 samples; "
                     "day -1 rule m0: 2 series, 6 samples; ");
    cr_assert_str_eq(dry_run(&kit, 1, NULL, 0), "");
    cr_assert_eq(ts_retention_dry_run(kit.db, 0, (struct ts_retention_rule[]){RULE("{", 1)}, 1, add_preview,
                                      NULL, &kit.err),
                 KV_INVALID);
    /* It tells the truth. */
    uint64_t before = stats_of(&kit).chunks;
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    kit.options.retention_rules = rules;
    kit.options.n_retention_rules = 2;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_assert_str_eq(dry_run(&kit, 0, NULL, 0),
                     "day -2 rule m0: 2 series, 8 samples; day -1 rule m0: 2 series, 6 samples; ");
    cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK);
    cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK);
    cr_assert_lt(stats_of(&kit).chunks, before);
    cr_assert_null(strstr(dry_run(&kit, 0, NULL, 0), "day -2"));
    store_kit_release(&kit);
}

/* ---- deletes ----------------------------------------------------------------------------------------------------- */

Test(rules, what_was_deleted_is_not_listed_from_then_on_nor_after_the_merge)
{
    for (int how = 0; how < 3; how++) {
        struct store_kit kit;
        open_ruled(&kit, NULL, 0);
        for (int series = 0; series < 3; series++) {
            store_kit_put(&kit, series, KIT_START_MS - 10, 1);
            store_kit_put(&kit, series, KIT_START_MS - KIT_DAY_MS, 2);
        }
        settle(&kit, how);
        cr_assert_eq(store_kit_delete(&kit, 1, KIT_START_MS - 1000, KIT_START_MS), KV_OK);
        cr_assert_str_eq(listed(&kit, KIT_START_MS - HOUR, KIT_START_MS), "0 2 ", "%d", how);
        cr_assert_str_eq(listed(&kit, KIT_START_MS - KIT_DAY_MS - HOUR, KIT_START_MS), "0 1 2 ", "%d", how);
        cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK);
        cr_assert_str_eq(listed(&kit, KIT_START_MS - HOUR, KIT_START_MS), "0 2 ", "%d", how);
        cr_assert_str_eq(listed(&kit, KIT_START_MS - KIT_DAY_MS - HOUR, KIT_START_MS), "0 1 2 ");
        store_kit_put(&kit, 1, KIT_START_MS - 500, 3); /* after the delete: it is back */
        cr_assert_str_eq(listed(&kit, KIT_START_MS - HOUR, KIT_START_MS), "0 1 2 ");
        for (int series = 0; series < 3; series++)
            cr_assert_eq(store_kit_delete(&kit, series, INT64_MIN, INT64_MAX), KV_OK);
        cr_assert_str_eq(listed(&kit, INT64_MIN, INT64_MAX), "");
        cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK);
        cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK);
        cr_assert_not(active(&kit, ts_window_of(KIT_START_MS)));
        cr_assert_eq(stats_of(&kit).chunks, 0);
        cr_assert_eq(store_kit_close(&kit, true), KV_OK);
        cr_assert_eq(store_kit_open(&kit), KV_OK);
        cr_assert_str_eq(listed(&kit, INT64_MIN, INT64_MAX), "");
        store_kit_release(&kit);
    }
}
