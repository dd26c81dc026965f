/* Aggregations, through the whole query. */
#include "query_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct query_kit kit;

static void open_three(void)
{
    kit_open(&kit);
    kit_load(&kit, "m{job=\"a\", i=\"1\"}", 60000, "1 10 100");
    kit_load(&kit, "m{job=\"a\", i=\"2\"}", 60000, "2 20 _");
    kit_load(&kit, "m{job=\"b\", i=\"3\"}", 60000, "4 NaN 400");
}
static void close_three(void)
{
    kit_close(&kit);
}
TestSuite(agg, .init = open_three, .fini = close_three);

#define INSTANT(query, expected) cr_assert_str_eq(kit_instant(&kit, (query), 0), (expected))
#define RANGE(query, expected)   cr_assert_str_eq(kit_range(&kit, (query), 0, 120000, 60000), (expected))

Test(agg, groups_are_made_of_the_labels_asked_for)
{
    INSTANT("sum(m)", "{} 7\n");
    INSTANT("sum by (job) (m)", "{job=\"a\"} 3\n{job=\"b\"} 4\n");
    INSTANT("sum without (i) (m)", "{job=\"a\"} 3\n{job=\"b\"} 4\n");
    INSTANT("sum by (job, nothing) (m)", "{job=\"a\"} 3\n{job=\"b\"} 4\n");
    INSTANT("sum by (nothing) (m)", "{} 7\n");
    INSTANT("count by (__name__) (m)", "{__name__=\"m\"} 3\n");
    INSTANT("sum(none)", "");
}

Test(agg, each_step_folds_the_series_it_has)
{
    RANGE("sum by (job) (m)", "{job=\"a\"} 3@0 30@60000 120@120000\n{job=\"b\"} 4@0 NaN@60000 400@120000\n");
    RANGE("count(m)", "{} 3@0 3@60000 3@120000\n"); /* the last of i="2" is looked back at */
    RANGE("max(m)", "{} 4@0 20@60000 400@120000\n");
    RANGE("min(m)", "{} 1@0 10@60000 20@120000\n");
    RANGE("group by (job) (m)", "{job=\"a\"} 1@0 1@60000 1@120000\n{job=\"b\"} 1@0 1@60000 1@120000\n");
}

Test(agg, averages_and_spread)
{
    INSTANT("avg(m)", "{} 2.3333333333333335\n");
    INSTANT("stdvar by (job) (m)", "{job=\"a\"} 0.25\n{job=\"b\"} 0\n");
    INSTANT("stddev(m{job=\"a\"})", "{} 0.5\n");
    INSTANT("avg(m{job=\"a\"} * 8e307)", "{} 1.2e+308\n"); /* the sum would overflow, the mean does not */
}

Test(agg, quantile_is_linear_between_ranks)
{
    INSTANT("quantile(0.5, m)", "{} 2\n");
    INSTANT("quantile by (job) (0.5, m)", "{job=\"a\"} 1.5\n{job=\"b\"} 4\n");
    INSTANT("quantile(1.5, m)",
            "{} +Inf\nPromQL warning: quantile value should be between 0 and 1, got 1.5 (1:10)\n");
    RANGE("quantile(scalar(m{i=\"1\"}) * 0, m)", "{} 1@0 NaN@60000 20@120000\n"); /* NaN sorts first */
}

Test(agg, topk_keeps_whole_series_and_orders_an_instant_answer)
{
    INSTANT("topk(2, m)", "{__name__=\"m\", i=\"3\", job=\"b\"} 4\n{__name__=\"m\", i=\"2\", job=\"a\"} 2\n");
    INSTANT("bottomk(2, m)",
            "{__name__=\"m\", i=\"1\", job=\"a\"} 1\n{__name__=\"m\", i=\"2\", job=\"a\"} 2\n");
    INSTANT("topk by (job) (1, m)",
            "{__name__=\"m\", i=\"2\", job=\"a\"} 2\n{__name__=\"m\", i=\"3\", job=\"b\"} 4\n");
    INSTANT("topk(0, m)", "");
    INSTANT("topk(100, m{job=\"b\"})", "{__name__=\"m\", i=\"3\", job=\"b\"} 4\n");
    INSTANT("topk(NaN, m)", "error execution: Parameter value is NaN\n");
    INSTANT("topk(1e30, m)", "error execution: Scalar value 1e+30 overflows int64\n");
    RANGE("topk(1, m)", "{__name__=\"m\", i=\"2\", job=\"a\"} 20@60000\n"
                        "{__name__=\"m\", i=\"3\", job=\"b\"} 4@0 400@120000\n"); /* NaN last */
    RANGE("topk(scalar(m{i=\"2\"}) - 1, m)", /* one, nineteen, nineteen */
          "{__name__=\"m\", i=\"1\", job=\"a\"} 10@60000 100@120000\n"
          "{__name__=\"m\", i=\"2\", job=\"a\"} 20@60000 20@120000\n"
          "{__name__=\"m\", i=\"3\", job=\"b\"} 4@0 NaN@60000 400@120000\n");
}

Test(agg, limits_choose_whole_series)
{
    INSTANT("count(limitk(2, m))", "{} 2\n");
    INSTANT("count(limit_ratio(0.4, m) or limit_ratio(-0.6, m))", "{} 3\n");
    INSTANT("limit_ratio(0.4, m) and limit_ratio(-0.6, m)", "");
    INSTANT("count(limit_ratio(2, m))",
            "{} 3\nPromQL warning: ratio value should be between -1 and 1, got 2, capping to 1 (1:19)\n");
}

Test(agg, count_values_makes_a_series_of_each_value)
{
    INSTANT("count_values(\"v\", m * 0)", "{v=\"0\"} 3\n");
    INSTANT("count_values by (job) (\"v\", m{job=\"b\"})", "{job=\"b\", v=\"4\"} 1\n");
}

Test(agg, a_streamed_fold_does_not_hold_its_input)
{
    char series[64];
    struct ts_query_options options = {
        .range = true, .end_ms = 1200000, .step_ms = 1000, .memory_max = 2 << 20};
    for (int i = 0; i < 500; i++) {
        (void)snprintf(series, sizeof(series), "many{i=\"%d\"}", i);
        kit_add(&kit, series, 0, i);
        kit_add(&kit, series, 600000, i + 60);
    }
    kit_commit(&kit);
    /* 500 series times 1201 steps are 4.8 MB */
    cr_assert_eq(strncmp(kit_ask(&kit, "sum(rate(many[20m]))", &options), "{} ", 3), 0, "%s",
                 kit_ask(&kit, "sum(rate(many[20m]))", &options));
    cr_assert_str_eq(kit_ask(&kit, "quantile(0.5, rate(many[20m]))", &options),
                     "error execution: query processing would use more than 2097152 bytes of memory in query "
                     "execution; raise "
                     "ts_options.query_memory_max\n");
}

/* ---- labels that nobody looks at */

/* 3000 series of one metric, in two jobs, each with ten labels of sixty bytes: more than two megabytes of them. */
static void load_wide(struct query_kit *to)
{
    for (int i = 0; i < 3000; i++) {
        char series[1000];
        int n = snprintf(series, sizeof series, "wide{job=\"%s\",i=\"%d\"", i % 3 ? "a" : "b", i);
        for (int k = 0; k < 10; k++)
            n += snprintf(series + n, sizeof series - (size_t)n, ",l%d=\"%055d-%d\"", k, i, k);
        (void)snprintf(series + n, sizeof series - (size_t)n, "}");
        kit_add(to, series, 0, i);
        kit_add(to, series, 60000, i + 60);
    }
    kit_commit(to);
}

Test(agg, a_fold_by_some_labels_keeps_no_others)
{
    static const char *const fit[][2] = {
        {"count(wide)", "{} 3000\n"},
        {"sum by (job) (wide - 60)", "{job=\"b\"} 1498500\n{job=\"a\"} 3000000\n"},
        {"max by (job) (rate(wide[2m]))", "{job=\"b\"} 1\n{job=\"a\"} 1\n"},
        {"count by (job) ((wide) > 3000)", "{job=\"a\"} 40\n{job=\"b\"} 19\n"},
        {"min(abs(-wide))", "{} 60\n"},
        {"group by (__name__) (wide)", "{__name__=\"wide\"} 1\n"},
        {"quantile(1, quantile_over_time(1, wide[1h]))", "{} 3059\n"},
        {"sum(count by (job) (wide{i=~\".*7\"}))", "{} 300\n"},
        {"count by (nothing) (wide)", "{} 3000\n"},
    };
    static const char *const do_not[] = {"wide",
                                         "count without (i) (wide)",
                                         "topk(1, wide)",
                                         "count(label_replace(wide, \"a\", \"b\", \"\", \"\"))",
                                         "count(rate({__name__=~\"wi.*\"}[2m]))",
                                         "count(wide == wide)"};
    const struct ts_query_options options = {.end_ms = 60000, .memory_max = 2 << 20};
    load_wide(&kit);
    for (int flushed = 0; flushed < 2; flushed++) {
        for (size_t i = 0; i < sizeof fit / sizeof *fit; i++) {
            const char *got = kit_ask(&kit, fit[i][0], &options);
            const char *line = strstr(got, "PromQL info"); /* that its name is no counter's */
            size_t n = line ? (size_t)(line - got) : strlen(got);
            cr_assert(n == strlen(fit[i][1]) && strncmp(got, fit[i][1], n) == 0, "%s: %s", fit[i][0], got);
        }
        for (size_t i = 0; i < sizeof do_not / sizeof *do_not; i++)
            cr_assert(strstr(kit_ask(&kit, do_not[i], &options), "ts_options.query_memory_max"), "%s: %s",
                      do_not[i], kit_ask(&kit, do_not[i], &options));
        cr_assert_eq(ts_flush(kit.db, true, NULL), KV_OK);
    }
}

/* label_replace() makes the planner keep all labels. */
Test(agg, a_fold_answers_the_same_whether_labels_are_kept_or_not)
{
    static const char *const ops[] = {"sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"};
    static const char *const by[] = {
        "", "by ()", "by (job)", "by (i, job)", "by (__name__)", "by (l3, nope)"};
    static const char *const inputs[] = {"wide",
                                         "{job=~\".+\"}",
                                         "wide > 100",
                                         "2 * wide",
                                         "-wide",
                                         "last_over_time(wide[5m])",
                                         "delta(wide[5m])",
                                         "m",
                                         "{i=\"1\"}"};
    load_wide(&kit);
    for (size_t o = 0; o < sizeof ops / sizeof *ops; o++)
        for (size_t b = 0; b < sizeof by / sizeof *by; b++)
            for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
                char chosen[200], all[200], *want;
                (void)snprintf(chosen, sizeof chosen, "sort(%s %s (%s))", ops[o], by[b], inputs[i]);
                (void)snprintf(all, sizeof all, "sort(%s %s (label_replace(%s, \"zz\", \"\", \"i\", \"\")))",
                               ops[o], by[b], inputs[i]);
                want = strdup(kit_instant(&kit, all, 60000)); /* LINT-OK: a test's */
                cr_assert_str_eq(kit_instant(&kit, chosen, 60000), want, "%s", chosen);
                free(want);
            }
}
