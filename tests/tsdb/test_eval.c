/* ts_query: look-back, windows, @ and offset, subqueries, names, result order, notes, limits; and that an answer does not depend
 * on where its samples lie. */
#include "kvcore/base/mem.h"
#include "query_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct query_kit kit;

static void open_store(void)
{
    kit_open(&kit);
}
static void close_store(void)
{
    kit_close(&kit);
}
TestSuite(eval, .init = open_store, .fini = close_store);

#define INSTANT(query, at, expected) cr_assert_str_eq(kit_instant(&kit, (query), (at)), (expected))
#define RANGE(query, start, end, step, expected)                                                             \
    cr_assert_str_eq(kit_range(&kit, (query), (start), (end), (step)), (expected))

Test(eval, look_back_ends_before_five_minutes_and_at_a_stale_marker)
{
    kit_load(&kit, "m{a=\"1\"}", 60000, "5");
    kit_load(&kit, "gone", 60000, "5 stale");
    INSTANT("m", 0, "{__name__=\"m\", a=\"1\"} 5\n");
    INSTANT("m", 299999, "{__name__=\"m\", a=\"1\"} 5\n");
    INSTANT("m", 300000, "");
    INSTANT("m", -1, "");
    INSTANT("gone", 59999, "{__name__=\"gone\"} 5\n");
    INSTANT("gone", 60000, "");
    RANGE("m", 0, 600000, 150000, "{__name__=\"m\", a=\"1\"} 5@0 5@150000\n");
    struct ts_query_options options = {.end_ms = 30000, .lookback_ms = 30000};
    cr_assert_str_eq(kit_ask(&kit, "m", &options), "");
    options.lookback_ms = 30001;
    cr_assert_str_eq(kit_ask(&kit, "m", &options), "{__name__=\"m\", a=\"1\"} 5\n");
}

Test(eval, ranges_are_open_on_the_left_and_skip_stale_markers)
{
    kit_load(&kit, "m", 10000, "1 2 3 stale NaN 6");
    INSTANT("m[30s]", 30000, "{__name__=\"m\"} 2@10000 3@20000\n");
    INSTANT("m[20s]", 50000, "{__name__=\"m\"} NaN@40000 6@50000\n");
    INSTANT("count_over_time(m[30s])", 30000, "{} 2\n");
    INSTANT("count_over_time(m[10s])", 30000, "");
    RANGE("sum_over_time(m[20s])", 0, 30000, 10000, "{} 1@0 3@10000 5@20000 3@30000\n");
}

Test(eval, offset_and_at)
{
    kit_load(&kit, "m", 60000, "0 1 2 3 4 5 6 7 8 9 10");
    INSTANT("m offset 2m", 300000, "{__name__=\"m\"} 3\n");
    INSTANT("m offset -2m", 300000, "{__name__=\"m\"} 7\n");
    INSTANT("m @ 60", 600000, "{__name__=\"m\"} 1\n");
    INSTANT("m @ 120 offset 1m", 600000, "{__name__=\"m\"} 1\n");
    RANGE("m @ end() - m", 0, 120000, 60000, "{} 2@0 1@60000 0@120000\n");
    RANGE("m @ start()", 60000, 180000, 60000, "{__name__=\"m\"} 1@60000 1@120000 1@180000\n");
    RANGE("sum_over_time(m[2m] @ 120)", 0, 60000, 60000, "{} 3@0 3@60000\n");
    RANGE("timestamp(m @ 60)", 0, 60000, 60000, "{} 60@0 60@60000\n");
    RANGE("timestamp(m offset 30s)", 120000, 180000, 60000, "{} 60@120000 120@180000\n");
    RANGE("timestamp(m * 1)", 90000, 150000, 60000, "{} 90@90000 150@150000\n");
}

Test(eval, subqueries_lie_on_multiples_of_their_step)
{
    kit_load(&kit, "m", 10000, "0 1 2 3 4 5 6 7 8 9 10 11 12");
    INSTANT("m[30s:10s]", 55000, "{__name__=\"m\"} 3@30000 4@40000 5@50000\n");
    INSTANT("m[30s:10s]", 60000, "{__name__=\"m\"} 4@40000 5@50000 6@60000\n"); /* 30 is on the edge */
    INSTANT("count_over_time(m[2m:])", 120000, "{} 2\n");                       /* the default step: 1 min */
    INSTANT("time() - min_over_time(time()[30s:7s])", 60000,
            "error bad_data: 1:24: parse error: "
            "subquery is only allowed on instant vector, got scalar instead\n");
    RANGE("max_over_time(sum(m)[20s:5s])", 20000, 60000, 20000, "{} 2@20000 4@40000 6@60000\n");
    RANGE("sum_over_time(vector(1)[1m:10s] @ 100)", 0, 60000, 60000, "{} 6@0 6@60000\n");
    INSTANT("max_over_time(max_over_time(m[20s:10s] offset 10s)[40s:20s])", 120000, "{} 11\n");
    INSTANT("m[1m:10s] offset 10m", 60000, "");
}

Test(eval, results_of_a_range_query_are_sorted_by_labels)
{
    kit_load(&kit, "m{z=\"2\"}", 60000, "1 1");
    kit_load(&kit, "m{z=\"1\"}", 60000, "2 2");
    kit_load(&kit, "m{a=\"9\"}", 60000, "3 3");
    RANGE("m", 0, 60000, 60000,
          "{__name__=\"m\", a=\"9\"} 3@0 3@60000\n{__name__=\"m\", z=\"1\"} 2@0 2@60000\n"
          "{__name__=\"m\", z=\"2\"} 1@0 1@60000\n");
    INSTANT("sort(m)", 0,
            "{__name__=\"m\", z=\"2\"} 1\n{__name__=\"m\", z=\"1\"} 2\n{__name__=\"m\", a=\"9\"} 3\n");
    INSTANT("sort_desc(m)", 0,
            "{__name__=\"m\", a=\"9\"} 3\n{__name__=\"m\", z=\"1\"} 2\n{__name__=\"m\", z=\"2\"} 1\n");
    INSTANT("m[1m]", 60000,
            "{__name__=\"m\", a=\"9\"} 3@60000\n{__name__=\"m\", z=\"1\"} 2@60000\n"
            "{__name__=\"m\", z=\"2\"} 1@60000\n");
    RANGE("sort(m{a=\"9\"})", 0, 60000, 60000,
          "{__name__=\"m\", a=\"9\"} 3@0 3@60000\nPromQL warning: sort is ineffective for range queries "
          "since results are "
          "always ordered by labels (1:1)\n");
}

Test(eval, types_of_answers)
{
    INSTANT("42", 0, "42\n");
    INSTANT("\"text\"", 0, "\"text\"\n");
    INSTANT("vector(1)", 0, "{} 1\n");
    RANGE("42", 0, 60000, 60000, "{} 42@0 42@60000\n");
    RANGE("\"text\"", 0, 60000, 60000,
          "error bad_data: invalid expression type \"string\" for range query, must be Scalar or instant "
          "Vector\n");
    RANGE("m[5m]", 0, 60000, 60000,
          "error bad_data: invalid expression type \"range vector\" for range query, must be Scalar or "
          "instant Vector\n");
    RANGE("1", 60000, 0, 1000, "error bad_data: end timestamp must not be before start time\n");
    RANGE("1", 0, 0, 0,
          "error bad_data: zero or negative query resolution step widths are not accepted. Try a positive "
          "integer\n");
    RANGE("1", 0, 11001000, 1000,
          "error bad_data: exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the "
          "query "
          "resolution (?step=XX)\n");
    INSTANT("start_timestamp(m)", 0, "error execution: function start_timestamp() is not built yet\n");
}

Test(eval, names_go_where_they_should)
{
    kit_load(&kit, "m_total{a=\"1\"}", 60000, "1 2 3");
    INSTANT("rate(m_total[3m])", 120000, "{a=\"1\"} 0.016666666666666666\n");
    INSTANT("last_over_time(m_total[3m])", 120000, "{__name__=\"m_total\", a=\"1\"} 3\n");
    INSTANT("first_over_time(m_total[3m])", 120000, "{__name__=\"m_total\", a=\"1\"} 1\n");
    INSTANT("abs(m_total)", 120000, "{a=\"1\"} 3\n");
    INSTANT("absent_over_time(nothing{x=\"1\", y=~\"2\"}[5m])", 0, "{x=\"1\"} 1\n");
    RANGE("absent_over_time(m_total[30s])", 0, 120000, 30000, "{} 1@30000 1@90000\n");
    struct ts_query_options options = {.end_ms = 120000, .features = TS_PROMQL_DELAYED_NAME_REMOVAL};
    cr_assert_str_eq(kit_ask(&kit, "count by (__name__) (rate(m_total[3m]))", &options), "{} 1\n");
    cr_assert_str_eq(
        kit_ask(&kit, "label_replace(rate(m_total[3m]), \"n\", \"$1\", \"__name__\", \"(.*)\")", &options),
        "{a=\"1\", n=\"m_total\"} 0.016666666666666666\n");
}

Test(eval, notes_carry_their_place)
{
    kit_load(&kit, "m", 60000, "1 2 3");
    INSTANT("1 +\nrate(m[3m])", 120000,
            "{} 1.0166666666666666\nPromQL info: metric might not be a counter, name does not end in "
            "_total/_sum/_count/_bucket: \"m\" (2:6)\n");
    INSTANT("quantile_over_time(2, m[3m])", 120000,
            "{} +Inf\nPromQL warning: quantile value should be between 0 and 1, got 2 (1:20)\n");
}

/* ---- limits */

static bool say_yes(void *ctx)
{
    (void)ctx;
    return true;
}
static bool pass_time(void *ctx)
{
    ((struct kit_clock *)ctx)->mono_ns += UINT64_C(3000000000);
    return false;
}

Test(eval, limits_stop_a_query_in_prometheus_words)
{
    kit_load(&kit, "m", 1000, "1 2 3 4 5 6 7 8 9 10");
    struct ts_query_options options = {.end_ms = 9000, .samples_max = 5};
    cr_assert_str_eq(
        kit_ask(&kit, "sum_over_time(m[10s])", &options),
        "error execution: query processing would load too many samples into memory in query execution\n");
    options = (struct ts_query_options){.end_ms = 9000, .canceled = say_yes};
    cr_assert_str_eq(kit_ask(&kit, "m", &options),
                     "error canceled: query was canceled in expression evaluation\n");
    options = (struct ts_query_options){
        .end_ms = 9000, .timeout_ms = 2000, .canceled = pass_time, .canceled_ctx = &kit.clock};
    cr_assert_str_eq(kit_ask(&kit, "m", &options),
                     "error timeout: query timed out in expression evaluation\n");
    options = (struct ts_query_options){.end_ms = 9000, .memory_max = 1 << 20};
    cr_assert_str_eq(kit_ask(&kit, "sum_over_time(m[10y:1ms])", &options),
                     "error execution: query processing would use more than 1048576 bytes of memory in query "
                     "execution; raise "
                     "ts_options.query_memory_max\n");
    options = (struct ts_query_options){.end_ms = 9000, .memory_max = 4096}; /* not enough for the labels */
    cr_assert_str_eq(kit_ask(&kit, "m", &options), "error execution: query processing would use more than "
                                                   "4096 bytes of memory in query execution; raise "
                                                   "ts_options.query_memory_max\n");
}

/* ---- failing allocations */

static uint64_t fail_at, allocations;
static bool should_fail(size_t size)
{
    (void)size;
    return ++allocations == fail_at;
}

Test(eval, every_failed_allocation_is_reported)
{
    static const char *const queries[] = {
        "sum by (a) (rate(m[2m]))",
        "topk(1, m) + on(a) group_left(b) (m * 2)",
        "quantile(0.5, m) or label_replace(m, \"x\", \"$1\", \"a\", \"(.*)\")",
        "max_over_time(abs({__name__=~\"m|n\", a=\"1\"})[3m:1m]) and m",
        "histogram_quantile(0.9, h_bucket)",
        "count_values(\"v\", -m)",
        "m[2m]",
        "info(m, {b=~\".*\", __name__=\"m\"})",
    };
    kit_load(&kit, "m{a=\"1\", b=\"1\"}", 60000, "1 2 stale 4");
    kit_load(&kit, "m{a=\"2\", b=\"2\"}", 60000, "1 2 3 4");
    kit_load(&kit, "h_bucket{le=\"1\"}", 60000, "1 2 3 4");
    kit_load(&kit, "h_bucket{le=\"+Inf\"}", 60000, "2 3 4 5");
    for (size_t i = 0; i < sizeof(queries) / sizeof(*queries); i++) {
        struct ts_query_options options = {.end_ms = 180000};
        struct ts_result *result = NULL;
        struct ts_query_err err;
        kv_status rc = KV_NO_MEMORY;
        for (fail_at = 1; rc != KV_OK; fail_at++) {
            cr_assert_lt(fail_at, 3000);
            allocations = 0;
            kv_mem_should_fail = should_fail;
            rc = ts_query(kit.db, kv_slice_str(queries[i]), &options, &result, &err);
            kv_mem_should_fail = NULL;
            if (allocations >= fail_at && rc == KV_OK)
                rc = KV_NO_MEMORY; /* an allocation one can do without */
            else
                cr_assert(rc == KV_OK || rc == KV_NO_MEMORY, "%s: %s", queries[i], err.text);
            ts_result_free(result);
            result = NULL;
        }
    }
}

/* ---- the same data anywhere gives the same bits */

static const char *const asked[] = {
    "m",
    "sum by (i) (rate(m[7m]))",
    "avg_over_time(m[1h]) + stddev_over_time(m[1h])",
    "quantile_over_time(0.7, m[30m])",
    "topk(2, sum_over_time(m[20m]))",
    "max_over_time(rate(m[5m])[30m:1m])",
    "m / ignoring(i) group_left sum(m)",
    "deriv(m[1h])",
    "changes(m[1h]) + resets(m[1h])",
};

static void keep_answers(struct kv_buf *out)
{
    kv_buf_clear(out);
    for (size_t i = 0; i < sizeof(asked) / sizeof(*asked); i++)
        cr_assert_eq(kv_buf_append(out, kv_slice_str(kit_range(&kit, asked[i], 0, 86400000 * 2, 1800000))),
                     KV_OK);
    cr_assert_eq(kv_buf_append_byte(out, 0), KV_OK);
    cr_assert_null(strstr((const char *)out->data, "error"), "%s", (const char *)out->data);
}

static void check_answers(const struct kv_buf *expected, const char *when)
{
    struct kv_buf got = {0};
    keep_answers(&got);
    cr_assert_str_eq((const char *)got.data, (const char *)expected->data, "%s", when);
    kv_buf_release(&got);
}

Test(eval, an_answer_does_not_depend_on_where_its_samples_lie)
{
    struct kv_buf expected = {0};
    struct kv_err err = {0};
    char series[32];
    for (int64_t t = 0; t < 86400000 * 2; t += 60000 * 7)
        for (int i = 0; i < 5; i++) {
            (void)snprintf(series, sizeof(series), "m{i=\"%d\"}", i);
            double value = (double)((t / 60000 * (i + 3)) % 977) * 0.1;
            kit_add(&kit, series, t + i * 13, value);
            if (t % 32 == 0)
                kit_commit(&kit);
        }
    kit_commit(&kit);
    keep_answers(&expected);
    kit_reopen(&kit, false);
    check_answers(&expected, "replayed from the log");
    cr_assert_eq(ts_flush(kit.db, false, &err), KV_OK, "%s", err.text);
    check_answers(&expected, "in tables");
    cr_assert_eq(ts_flush(kit.db, true, &err), KV_OK, "%s", err.text);
    check_answers(&expected, "merged");
    kit_reopen(&kit, true);
    check_answers(&expected, "opened again");
    kv_buf_release(&expected);
}
