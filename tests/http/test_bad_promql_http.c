/* test_bad_promql_http.c - bad queries and parameters of the read API: status, errorType and text. */
#include "tests/support/http_world.h"

#include <criterion/criterion.h>
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

static struct http_world world;

static void begin(void)
{
    http_world_open(&world, NULL, KV_THREADS_NONE);
    cr_assert_eq(http_world_call(&world, "POST /write", NULL,
                                 KV_STR("foo,l=a v=1\nfoo,l=b v=2\nbar,l=a,m=1 v=1\nbar,l=a,m=2 v=2\n")),
                 204);
}
static void end(void)
{
    http_world_close(&world);
}
TestSuite(bad_promql_http, .init = begin, .fini = end);

static void answered(const char *what, unsigned status, unsigned expected, const char *type, const char *text)
{
    cr_expect_eq(status, expected, "%.200s: %u %.300s", what, status, http_world_text(&world));
    cJSON *json = cJSON_Parse(http_world_text(&world));
    cr_expect(json, "%.200s: not JSON: %.300s", what, http_world_text(&world));
    if (expected >= 400 && json) {
        const char *got_type = cJSON_GetStringValue(cJSON_GetObjectItem(json, "errorType"));
        const char *got = cJSON_GetStringValue(cJSON_GetObjectItem(json, "error"));
        cr_expect(got_type && strcmp(got_type, type) == 0, "%.200s: %.300s", what, http_world_text(&world));
        cr_expect(got && strstr(got, text), "%.200s: \"%s\" is not in %.300s", what, text,
                  got ? got : "nothing");
    }
    cJSON_Delete(json);
}

static void asked(const char *query, unsigned expected, const char *type, const char *text)
{
    static char target[100000];
    snprintf(target, sizeof target, "GET /api/v1/query?query=%s", http_world_escape(query));
    answered(query, http_world_call(&world, target, NULL, (kv_slice){0}), expected, type, text);
}

static const struct bad_query {
    const char *query;
    unsigned status;
    const char *text;
} queries[] = {
    {"", 400, "invalid parameter \"query\": unknown position: parse error: no expression found in input"},
    {"# only a comment", 400, "no expression found in input"},
    {"\"open", 400, "parse error: unterminated quoted string"},
    {"foo_v{", 400, "parse error: unexpected end of input inside braces"},
    {"foo_v[", 400, "parse error"},
    {"(foo_v", 400, "parse error: unclosed left parenthesis"},
    {"{}", 400, "vector selector must contain at least one non-empty matcher"},
    {"{a=~\".*\"}", 400, "vector selector must contain at least one non-empty matcher"},
    {"foo_v{__name__=\"a\"}", 400, "metric name must not be set twice"},
    {"foo_v{l=~\"(\"}", 400, "error parsing regexp: missing closing )"},
    {"foo_v{l=~\"a{2000}\"}", 400, "error parsing regexp: invalid repeat count"},
    {"foo_v{l=~\"a{1,0}\"}", 400, "error parsing regexp: invalid repeat count"},
    {"foo_v{l=~\"(?=x)\"}", 400, "error parsing regexp"},
    {"foo_v{l=~\"\\\\1\"}", 400, "error parsing regexp: invalid escape sequence"},
    {"foo_v{l=~\"((a{0,100}){0,100}){0,100}\"}", 400, "error parsing regexp"},
    {"foo_v[5m", 400, "parse error"},
    {"foo_v[0s]", 400, "duration must be greater than 0"},
    {"foo_v[-5m]", 400, "duration must be greater than 0"},
    {"foo_v[1y1y]", 400, "parse error"},
    {"foo_v[1e10y]", 400, "parse error"},
    {"foo_v offset 99999999999y", 400, "parse error"},
    {"foo_v @ nan", 400, "timestamp out of bounds for @ modifier"},
    {"foo_v @ 1e400", 400, "parse error"},
    {"foo_v[5m:0s]", 400, "parse error"},
    {"rate(foo_v)", 400, "expected type range vector in call to function \"rate\", got instant vector"},
    {"sum(foo_v[5m])", 400, "expected type instant vector in aggregation expression, got range vector"},
    {"rate(foo_v[5m], 1)", 400, "expected 1 argument(s) in call to \"rate\", got 2"},
    {"rate()", 400, "expected 1 argument(s) in call to \"rate\", got 0"},
    {"abs(\"a\")", 400, "expected type instant vector"},
    {"nope(foo_v)", 400, "unknown function with name \"nope\""},
    {"topk(\"a\", foo_v)", 400, "expected type scalar in aggregation parameter, got string"},
    {"sum(foo_v)[5m]", 400, "ranges only allowed for vector selectors"},
    {"1 and 2", 400, "set operator \"and\" not allowed in binary scalar expression"},
    {"foo_v + bool bar_v", 400, "bool modifier can only be used on comparison operators"},
    {"1 == 1", 400, "comparisons between scalars must use BOOL modifier"},
    {"foo_v + \"a\"", 400, "binary expression must contain only scalar and instant vector types"},
    {"foo_v and on(l) group_left bar_v", 400, "no grouping allowed for \"and\" operation"},
    {"foo_v + on(l) group_left(l) bar_v", 400, "label \"l\" must not occur in ON and GROUP clause at once"},
    {"\xe2\x80\x9c"
     "a\xe2\x80\x9d",
     400, "parse error: unexpected character"},
    {"foo_v + on(l) bar_v", 422, "many-to-many matching not allowed"},
    {"bar_v + on(l) foo_v", 422, "multiple matches for labels"},
    {"label_replace(foo_v, \"l\", \"same\", \"l\", \".*\")", 422,
     "vector cannot contain metrics with the same labelset"},
    {"label_replace(foo_v, \"x\", \"$1\", \"l\", \"(\")", 422,
     "invalid regular expression in label_replace(): ("},
    {"label_join(foo_v, \"\", \",\", \"l\")", 422, "invalid destination label name in label_join()"},
};

Test(bad_promql_http, each_query_is_answered_in_prometheus_words)
{
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++)
        asked(queries[i].query, queries[i].status, queries[i].status == 400 ? "bad_data" : "execution",
              queries[i].text);
}

/* A query of n copies of part around a core. */
static char *deep(const char *open, const char *core, const char *shut, size_t n)
{
    size_t a = strlen(open), b = strlen(shut);
    char *text = malloc(n * (a + b) + strlen(core) + 1), *p = text;
    for (size_t i = 0; i < n; i++, p += a)
        memcpy(p, open, a);
    p += sprintf(p, "%s", core);
    for (size_t i = 0; i < n; i++, p += b)
        memcpy(p, shut, b);
    *p = 0;
    return text;
}

Test(bad_promql_http, depth_and_length_have_limits)
{
    static const struct {
        const char *open, *core, *shut;
        size_t n;
    } cases[] = {{"(", "1", ")", 5000}, {"-", "1", "", 5000},
                 {"1^", "1", "", 5000}, {"abs(", "foo_v", ")", 1000},
                 {"1+", "1", "", 5000}, {"max_over_time(", "foo_v", "[5m:])", 500}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *query = deep(cases[i].open, cases[i].core, cases[i].shut, cases[i].n), target[64];
        struct kv_buf form = {0};
        static const char *const headers[] = {"Content-Type", "application/x-www-form-urlencoded", NULL};
        cr_assert_eq(kv_buf_printf(&form, "query=%s", http_world_escape(query)), KV_OK);
        snprintf(target, sizeof target, "POST /api/v1/query");
        unsigned status = http_world_call(&world, target, headers, kv_buf_slice(&form));
        /* whichever limit it meets, or none: an answer, and the process alive */
        cr_expect(status == 200 || status == 400 || status == 413 || status == 422, "%s x %zu: %u",
                  cases[i].open, cases[i].n, status);
        kv_buf_release(&form);
        free(query);
    }
    char *long_query = deep("", "foo_v", " ", 16 << 10);
    asked(long_query, 413, "bad_data", "a parameter is longer than the limit of 16384 bytes");
    free(long_query);
}

static const struct bad_request {
    const char *target;
    unsigned status;
    const char *text;
} requests[] = {
    {"/api/v1/query_range?query=up&start=10&end=5&step=1", 400,
     "invalid parameter \"end\": end timestamp must not be before start time"},
    {"/api/v1/query_range?query=up&start=1&end=5&step=0", 400,
     "zero or negative query resolution step widths are not accepted. Try a positive integer"},
    {"/api/v1/query_range?query=up&start=1&end=5&step=-1", 400,
     "zero or negative query resolution step widths are not accepted"},
    {"/api/v1/query_range?query=up&start=1&end=5&step=nan", 400,
     "invalid parameter \"step\": cannot parse \"nan\" to a valid duration"},
    {"/api/v1/query_range?query=up&start=1&end=5&step=0.0001", 400, "zero or negative query resolution"},
    {"/api/v1/query_range?query=up&start=1&end=5", 400,
     "invalid parameter \"step\": cannot parse \"\" to a valid duration"},
    {"/api/v1/query_range?query=up&start=0&end=11001&step=1", 400,
     "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution "
     "(?step=XX)"},
    {"/api/v1/query_range?query=up&start=0&end=11000&step=1", 200, ""},
    {"/api/v1/query_range?query=up[5m]&start=0&end=10&step=1", 400,
     "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"},
    {"/api/v1/query_range?query=%22a%22&start=0&end=10&step=1", 400,
     "invalid expression type \"string\" for range query"},
    {"/api/v1/query_range?query=up&start=abc&end=10&step=1", 400,
     "invalid parameter \"start\": cannot parse \"abc\" to a valid timestamp"},
    {"/api/v1/query_range?query=up&start=1&end=2026-13-01T00:00:00Z&step=1", 400,
     "invalid parameter \"end\": cannot parse \"2026-13-01T00:00:00Z\" to a valid timestamp"},
    {"/api/v1/query?query=up&time=abc", 400,
     "invalid parameter \"time\": cannot parse \"abc\" to a valid timestamp"},
    {"/api/v1/query?query=up&time=1e400", 400, "invalid parameter \"time\""},
    {"/api/v1/query?query=up&timeout=-1", 400, "invalid parameter \"timeout\""},
    {"/api/v1/query?query=up&timeout=abc", 400,
     "invalid parameter \"timeout\": cannot parse \"abc\" to a valid duration"},
    {"/api/v1/query?query=up&limit=-1", 400, "limit must be non-negative"},
    {"/api/v1/query?query=up&limit=abc", 400, "invalid parameter \"limit\""},
    {"/api/v1/query?query=up&lookback_delta=x", 400, "invalid parameter \"lookback_delta\""},
    {"/api/v1/query?query=up&query=down", 400, "parameter \"query\" is given more than once"},
    {"/api/v1/query?query=%zz", 400, "bad percent escape"},
    {"/api/v1/query?query=%ff", 400, "not valid UTF-8"},
    {"/api/v1/query?query=a%00b", 400, "without NUL"},
    {"/api/v1/query", 400, "no expression found in input"},
    {"/api/v1/series", 400, "no match[] parameter provided"},
    {"/api/v1/series?match[]=", 400, "invalid parameter \"match[]\""},
    {"/api/v1/series?match[]=foo{", 400, "invalid parameter \"match[]\""},
    {"/api/v1/series?match[]=foo&start=abc", 400, "invalid parameter \"start\""},
    {"/api/v1/series?match[]=foo&start=10&end=1", 400, "invalid parameter \"end\""},
    {"/api/v1/labels?match[]={}", 400, "match[] must contain at least one non-empty matcher"},
    {"/api/v1/series?match[]={a=~%22.*%22}", 400, "match[] must contain at least one non-empty matcher"},
    {"/api/v1/labels?limit=-1", 400, "invalid parameter \"limit\""},
    {"/api/v1/label/foo/values?match[]=1%2B1", 400, "invalid parameter \"match[]\""},
    {"/api/v1/label/\xff/values", 400, "invalid label name"},
    {"/api/v1/format_query?query=foo{", 400, "invalid parameter \"query\""},
    {"/api/v1/metadata?limit=x", 400, "invalid parameter \"limit\""},
    {"/api/v1/rules?type=nope", 400, "not supported value \"nope\""},
    {"/api/v1/status/tsdb?limit=0", 400, "invalid parameter \"limit\""},
    {"/api/v1/status/tsdb?date=2026-1-1", 400, "invalid parameter \"date\""},
    {"/api/v1/status/tsdb?date=2026-11-29&start=1", 400, "without start and end"},
    {"/api/v1/status/tsdb?start=2&end=1", 400, "invalid parameter \"end\""},
    {"/api/v1/status/tsdb?growth=1&start=1&end=9000000000", 400, "less than 92 days"},
    {"/api/v1/status/tsdb?match[]=up{", 400, "invalid parameter \"match[]\""},
    {"/api/v1/status/tsdb?limit=10001", 400, "invalid parameter \"limit\""},
};

Test(bad_promql_http, each_parameter_is_checked)
{
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        char target[400];
        snprintf(target, sizeof target, "GET %s", requests[i].target);
        answered(requests[i].target, http_world_call(&world, target, NULL, (kv_slice){0}), requests[i].status,
                 "bad_data", requests[i].text);
    }
}

Test(bad_promql_http, many_parameters_and_matchers)
{
    struct kv_buf target = {0};
    cr_assert_eq(kv_buf_printf(&target, "GET /api/v1/query?query=1"), KV_OK);
    for (int i = 0; i < 10000; i++)
        cr_assert_eq(kv_buf_printf(&target, "&p%d=1", i), KV_OK);
    cr_assert_eq(kv_buf_append_byte(&target, 0), KV_OK);
    answered("10,000 parameters", http_world_call(&world, (char *)target.data, NULL, (kv_slice){0}), 400,
             "bad_data", "more than 1000 parameters");
    kv_buf_clear(&target);
    cr_assert_eq(kv_buf_printf(&target, "GET /api/v1/series?"), KV_OK);
    for (int i = 0; i < 900; i++)
        cr_assert_eq(kv_buf_printf(&target, "match[]=m%d&", i), KV_OK);
    cr_assert_eq(kv_buf_append_byte(&target, 0), KV_OK);
    answered("900 selectors", http_world_call(&world, (char *)target.data, NULL, (kv_slice){0}), 200, "", "");
    kv_buf_release(&target);
}

Test(bad_promql_http, limits_of_a_query_are_named)
{
    world.app.query_samples_max = 1;
    asked("count_over_time(foo_v[1h])", 422, "execution",
          "query processing would load too many samples into memory in query execution");
}

static bool gone(void *ctx)
{
    (void)ctx;
    return true;
}

Test(bad_promql_http, a_query_whose_client_is_gone_is_canceled)
{
    struct http_request request;
    struct http_reply reply;
    struct kv_buf out = {0};
    http_request_init(&request, HTTP_GET, KV_STR("/api/v1/query"), world.app.clock);
    request.query = kv_slice_str("query=foo_v");
    request.canceled = gone;
    http_reply_init(&reply);
    http_api_query(&world.app, &request, &reply);
    cr_assert_eq(http_reply_drain(&reply, &out), KV_OK);
    cr_assert_eq(reply.status, 499, "%u %.*s", reply.status, (int)out.len, (char *)out.data);
    cr_assert_eq(world.metrics.queries_canceled, 1);
    http_reply_release(&reply);
    http_request_release(&request);
    kv_buf_release(&out);
}

Test(bad_promql_http, deletes_and_the_clock_are_careful)
{
    answered("no match[]",
             http_world_call(&world, "POST /api/v1/admin/tsdb/delete_series", NULL, (kv_slice){0}), 400,
             "bad_data", "no match[] parameter provided");
    answered(
        "bad match[]",
        http_world_call(&world, "POST /api/v1/admin/tsdb/delete_series?match[]=foo{", NULL, (kv_slice){0}),
        400, "bad_data", "");
    answered("everything by mistake",
             http_world_call(&world, "POST /api/v1/admin/tsdb/delete_series?match[]={}", NULL, (kv_slice){0}),
             400, "bad_data", "match[] must contain at least one non-empty matcher");
    cr_assert_eq(
        http_world_call(&world, "GET /api/v1/admin/tsdb/delete_series?match[]=foo_v", NULL, (kv_slice){0}),
        405);
    answered("no confirm", http_world_call(&world, "POST /api/v1/admin/clock", NULL, (kv_slice){0}), 400,
             "bad_data", "confirm=1");
    answered("bad settle",
             http_world_call(&world, "POST /api/v1/admin/flush?settle=maybe", NULL, (kv_slice){0}), 400,
             "bad_data", "invalid parameter \"settle\"");
}
