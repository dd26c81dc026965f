#include "http/admission.h"
#include "http/api/app.h"
#include "http/auth.h"
#include "http/params.h"
#include "http/text.h"

#include <criterion/criterion.h>

/* ---- router ---------------------------------------------------------------------------------------------------------- */

Test(router, finds_literal_paths_and_one_segment_patterns)
{
    kv_slice arg;
    const struct http_route *r = http_route_find(http_routes, http_n_routes, KV_STR("/api/v1/query"), &arg);
    cr_assert(r && strcmp(r->pattern, "/api/v1/query") == 0);
    r = http_route_find(http_routes, http_n_routes, KV_STR("/api/v1/label/host/values"), &arg);
    cr_assert(r && kv_slice_equal(arg, KV_STR("host")));
    cr_assert_null(http_route_find(http_routes, http_n_routes, KV_STR("/api/v1/label//values"), &arg));
    cr_assert_null(http_route_find(http_routes, http_n_routes, KV_STR("/api/v1/label/a/b/values"), &arg));
    cr_assert_null(http_route_find(http_routes, http_n_routes, KV_STR("/api/v1/label/values"), &arg));
    cr_assert_null(http_route_find(http_routes, http_n_routes, KV_STR("/api/v1/query/"), &arg));
    cr_assert_null(http_route_find(http_routes, http_n_routes, KV_STR("/"), &arg));
}

Test(router, no_two_routes_answer_the_same_path)
{
    for (size_t i = 0; i < http_n_routes; i++) {
        cr_assert(http_routes[i].handle && http_routes[i].methods && http_routes[i].kind < HTTP_ROUTE_KINDS);
        for (size_t j = i + 1; j < http_n_routes; j++)
            cr_assert(strcmp(http_routes[i].pattern, http_routes[j].pattern) != 0);
    }
}

Test(router, what_changes_the_store_takes_post_alone)
{
    for (size_t i = 0; i < http_n_routes; i++)
        if (http_routes[i].kind == HTTP_ROUTE_WRITE || http_routes[i].kind == HTTP_ROUTE_ADMIN)
            cr_assert_eq(http_routes[i].methods & (HTTP_GET | HTTP_HEAD), 0, "%s", http_routes[i].pattern);
}

Test(router, allow_lists_the_methods)
{
    char allow[64];
    http_route_allow(HTTP_GET | HTTP_POST, allow);
    cr_assert_str_eq(allow, "GET, HEAD, POST, OPTIONS");
    http_route_allow(HTTP_POST | HTTP_PUT | HTTP_GET | HTTP_DELETE, allow);
    cr_assert_str_eq(allow, "GET, HEAD, POST, PUT, DELETE, OPTIONS");
}

/* ---- parameters ------------------------------------------------------------------------------------------------------ */

static struct http_request request;
static struct kv_err err;
static struct http_pair form_header = {
    {(const uint8_t *)"content-type", 12},
    {(const uint8_t *)"Application/x-www-form-urlencoded; charset=utf-8", 48}};

static void ask(const char *query, const char *form)
{
    http_request_release(&request);
    http_request_init(&request, form ? HTTP_POST : HTTP_GET, KV_STR("/x"), kv_clock_system());
    request.query = kv_slice_str(query);
    request.body = kv_slice_str(form ? form : "");
    request.headers = &form_header;
    request.n_headers = 1;
}

static void params_end(void)
{
    http_request_release(&request);
}
TestSuite(params, .fini = params_end);

Test(params, query_and_form_are_decoded_and_merged)
{
    kv_slice v, *all;
    size_t n;
    ask("a=1%202+3&b&c=%e2%82%ac", "a%5b%5d=x&d=4&a%5b%5d=y");
    cr_assert(http_request_param(&request, "a", &v, &err) == KV_OK && kv_slice_equal(v, KV_STR("1 2 3")));
    cr_assert(http_request_param(&request, "b", &v, &err) == KV_OK && v.data && v.len == 0);
    cr_assert(http_request_param(&request, "c", &v, &err) == KV_OK &&
              kv_slice_equal(v, KV_STR("\xe2\x82\xac")));
    cr_assert(http_request_param(&request, "d", &v, &err) == KV_OK && kv_slice_equal(v, KV_STR("4")));
    cr_assert(http_request_param(&request, "z", &v, &err) == KV_OK && !v.data);
    cr_assert(http_request_param_all(&request, "a[]", &all, &n, &err) == KV_OK && n == 2);
}

Test(params, a_body_that_is_no_form_is_not_read_as_one)
{
    kv_slice v;
    ask("", "a=1");
    request.n_headers = 0;
    cr_assert(http_request_param(&request, "a", &v, &err) == KV_OK && !v.data);
}

Test(params, what_is_wrong_is_said)
{
    kv_slice v;
    static const struct {
        const char *query, *why;
        kv_status rc;
    } cases[] = {{"query=a&query=b", "parameter \"query\" is given more than once", KV_INVALID},
                 {"query=%zz", "bad percent escape", KV_INVALID},
                 {"query=%f", "bad percent escape", KV_INVALID},
                 {"query=%ff", "not valid UTF-8", KV_INVALID},
                 {"query=%00", "without NUL", KV_INVALID}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ask(cases[i].query, NULL);
        cr_assert_eq(http_request_param(&request, "query", &v, &err), cases[i].rc, "%s", cases[i].query);
        cr_assert(strstr(err.text, cases[i].why), "%s", err.text);
    }
    ask("query=a&query=a", NULL);
    cr_assert_eq(http_request_param(&request, "query", &v, &err), KV_OK, "the same value twice is harmless");
}

Test(params, times_are_unix_seconds_or_rfc3339)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"0", 0},
                {"4", 4000},
                {"1500000000.123", 1500000000123},
                {"-1.5", -1500},
                {"1e3", 1000000},
                {"2026-11-21T03:08:03Z", 1795230483000},
                {"2026-11-21T03:08:03.5Z", 1795230483500},
                {"2026-11-21T04:08:03.123456789+01:00", 1795230483123},
                {"1970-01-01T00:00:00Z", 0},
                {"1969-12-31T23:59:59.999Z", -1},
                {"2000-02-29T00:00:00Z", 951782400000},
                {"0001-01-01T00:00:00Z", -62135596800000}};
    static const char *const bad[] = {"abc",
                                      "",
                                      "1e400",
                                      "nan",
                                      "inf",
                                      "1x",
                                      "2026-13-01T00:00:00Z",
                                      "2026-02-29T00:00:00Z",
                                      "2026-01-01T24:00:00Z",
                                      "2026-01-01",
                                      "2026-01-01T00:00:00",
                                      "2026-01-01T00:00:00.Z",
                                      "2026-01-01T00:00:00+1:00",
                                      "1e300",
                                      "--1"};
    int64_t ms;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        cr_assert(http_parse_time(kv_slice_str(good[i].text), &ms) == KV_OK && ms == good[i].ms, "%s is %lld",
                  good[i].text, (long long)ms);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_eq(http_parse_time(kv_slice_str(bad[i]), &ms), KV_INVALID, "%s", bad[i]);
}

Test(params, durations_have_units_longest_first_or_are_seconds)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"15", 15000},
                {"0.5", 500},
                {"15s", 15000},
                {"1h30m", 5400000},
                {"1y2w3d4h5m6s7ms", 33022506007 - 0},
                {"90m", 5400000},
                {"0s", 0}};
    static const char *const bad[] = {"", "s", "1x", "1m1h", "1s1s", "1.5h", "9999999999y", "1h ", "h1"};
    int64_t ms;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        cr_assert(http_parse_duration(kv_slice_str(good[i].text), &ms) == KV_OK &&
                      (i == 4 || ms == good[i].ms),
                  "%s is %lld", good[i].text, (long long)ms);
    cr_assert_eq(http_parse_duration(KV_STR("1y2w3d4h5m6s7ms"), &ms), KV_OK);
    cr_assert_eq(ms, 31536000000 + 2 * 604800000LL + 3 * 86400000LL + 4 * 3600000 + 5 * 60000 + 6000 + 7);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_eq(http_parse_duration(kv_slice_str(bad[i]), &ms), KV_INVALID, "%s", bad[i]);
}

/* ---- credentials ----------------------------------------------------------------------------------------------------- */

Test(auth, basic_and_bearer_are_checked)
{
    struct http_auth *auth;
    cr_assert_eq(http_auth_new(KV_STR("# who\nbasic ann:secret word\r\n\nbearer t0ken\n"), &auth, &err),
                 KV_OK, "%s", err.text);
    static const struct {
        const char *header;
        bool good;
    } cases[] = {{"Basic YW5uOnNlY3JldCB3b3Jk", true},
                 {"basic  YW5uOnNlY3JldCB3b3Jk", true},
                 {"Bearer t0ken", true},
                 {"Token t0ken", true},
                 {"Basic YW5uOnNlY3JldCB3b3Jl", false},
                 {"Bearer t0keN", false},
                 {"Bearer ", false},
                 {"Bearer", false},
                 {"", false},
                 {"Basic !!!", false},
                 {"Basic YW5u", false},
                 {"Basic Og==", false},
                 {"Basic YW5uOg==", false},
                 {"Basic OnNlY3JldA==", false},
                 {"Digest x", false},
                 {"Bearer eyJhbGciOiJub25lIn0.e30.", false},
                 {"Basic t0ken", false},
                 {"Bearer ann:secret word", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_assert_eq(http_auth_check(auth, kv_slice_str(cases[i].header)), cases[i].good, "%s",
                     cases[i].header);
    static char long_header[20000] = "Bearer ";
    memset(long_header + 7, 'x', 10000);
    cr_assert_not(http_auth_check(auth, kv_slice_str(long_header)));
    cr_assert_not(http_auth_check(auth, (kv_slice){0}));
    http_auth_free(auth);
}

Test(auth, empty_names_secrets_and_files_are_refused)
{
    static const struct {
        const char *file, *why;
    } cases[] = {{"", "names nobody"},
                 {"# nobody\n", "names nobody"},
                 {"basic ann:\n", "line 1: name and password must not be empty"},
                 {"basic :x\n", "line 1"},
                 {"basic ann\n", "line 1"},
                 {"bearer \n", "line 1"},
                 {"\nbearer\n", "line 2"},
                 {"admin x:y\n", "line 1: expected"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct http_auth *auth = NULL;
        cr_assert_eq(http_auth_new(kv_slice_str(cases[i].file), &auth, &err), KV_INVALID);
        cr_assert(strstr(err.text, cases[i].why), "%s", err.text);
        cr_assert_null(auth);
    }
}

/* ---- admission ------------------------------------------------------------------------------------------------------- */

Test(admission, a_share_grows_until_the_pool_is_empty)
{
    struct http_pool pool;
    struct http_pool_stats stats;
    http_pool_init(&pool, 100);
    struct http_share a = {&pool, 0, 1, kv_clock_system()}, b = a;
    cr_assert_eq(http_share_grow(&a, 60), KV_OK);
    cr_assert_eq(http_share_grow(&a, 40), KV_OK, "smaller than held is held");
    cr_assert_eq(http_share_grow(&b, 41), KV_TIMEOUT);
    cr_assert_eq(http_share_grow(&b, 40), KV_OK);
    cr_assert_eq(http_share_grow(&b, 101 + 40), KV_LIMIT);
    http_share_give(&a);
    http_share_give(&a);
    cr_assert_eq(http_share_grow(&b, 100), KV_OK);
    http_share_give(&b);
    http_pool_stats(&pool, &stats);
    cr_assert(stats.used == 0 && stats.used_max == 100 && stats.refused == 2);
    http_pool_release(&pool);
}

/* ---- text ------------------------------------------------------------------------------------------------------------ */

Test(text, utf8_is_checked_strictly)
{
    static const char *const good[] = {
        "", "a", "\xc2\x80", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xc2",
                                      "\xe2\x82",
                                      "a\xff"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        cr_assert(http_utf8_valid(kv_slice_str(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_not(http_utf8_valid(kv_slice_str(bad[i])), "%zu", i);
}
