#include "tsdb/promql/parse.h"
#include "tsdb/promql/print.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>

static struct ts_query_err err;

static void check(const char *query, const char *expected)
{
    struct kv_buf once = {0}, twice = {0};
    cr_assert_eq(ts_format(kv_slice_str(query), &once, &err), KV_OK, "%s: %s", query, err.text);
    cr_expect(kv_slice_equal(kv_buf_slice(&once), kv_slice_str(expected)),
              "%s\n  got      %.*s\n  expected %s", query, KV_ARG(kv_buf_slice(&once)), expected);
    cr_assert_eq(ts_format(kv_buf_slice(&once), &twice, &err), KV_OK, "%s: %s", expected, err.text);
    cr_expect(kv_slice_equal(kv_buf_slice(&once), kv_buf_slice(&twice)), "%s is printed as %.*s", expected,
              KV_ARG(kv_buf_slice(&twice)));
    kv_buf_release(&once);
    kv_buf_release(&twice);
}

Test(print, expressions_have_one_canonical_form)
{
    static const struct {
        const char *query, *printed;
    } rows[] = {
        {"1", "1"},
        {"1e3", "1000"},
        {"1e21", "1000000000000000000000"},
        {"1e-7", "0.0000001"},
        {"0x1f", "31"},
        {"Inf", "+Inf"},
        {"-inf", "-Inf"},
        {"nan", "NaN"},
        {"5m", "5m"},
        {"-90m", "-1h30m"},
        {"12w6d", "90d"},
        {"1w", "1w"},
        {"'a\"b'", "\"a\\\"b\""},
        {"\"\\xff\\u2028\\ufffd\xc3\xa4\\x00\"", "\"\\xff\\u2028\\ufffd\xc3\xa4\\x00\""},
        {"foo", "foo"},
        {"SUM", "SUM"},
        {"foo{}", "foo"},
        {"foo{b='c',a=~\"x\"}", "foo{a=~\"x\",b=\"c\"}"},
        {"{__name__=\"foo\"}", "{__name__=\"foo\"}"},
        {"{\"foo.bar\",\"a b\"!=\"c\"}", "{\"a b\"!=\"c\",__name__=\"foo.bar\"}"},
        {"foo [ 300 ]", "foo[5m]"},
        {"foo[5m] offset 1h @ 5", "foo[5m] @ 5.000 offset 1h"},
        {"foo offset -300 @ start()", "foo @ start() offset -5m"},
        {"foo[5m] offset 5m anchored", "foo[5m] anchored offset 5m"},
        {"foo smoothed @ 1", "foo @ 1.000 smoothed"},
        {"foo offset 0s", "foo"},
        {"foo[1h:]", "foo[1h:]"},
        {"sum(foo)[1h:60] @ end()", "sum(foo)[1h:1m] @ end()"},
        {"foo[step()+1m*2]", "foo[step() + 1m * 2]"},
        {"foo[(step()+60)*2]", "foo[(step() + 60) * 2]"},
        {"foo[min_of(5m,range())]", "foo[min_of(5m, range())]"},
        {"foo[(5m)]", "foo[(5m)]"},
        {"foo[- -5m]", "foo[5m]"},
        {"foo offset -step()", "foo offset -step()"},
        {"foo offset (5m+1m)", "foo offset (5m + 1m)"},
        {"foo offset (5m)*2", "foo offset (5m) * 2"},
        {"SUM(foo)BY(x)", "sum by (x) (foo)"},
        {"sum by() (foo)", "sum(foo)"},
        {"sum without() (foo)", "sum without () (foo)"},
        {"sum by(a,\"b.c\",\"without\")(foo)", "sum by (a, \"b.c\", \"without\") (foo)"},
        {"topk(5,foo)", "topk(5, foo)"},
        {"count_values(\"x\",foo)", "count_values(\"x\", foo)"},
        {"a+b*c", "a + b * c"},
        {"a==bool b", "a == bool b"},
        {"a+on()b", "a + on () b"},
        {"a+ignoring()b", "a + b"},
        {"a*on(x)group_left()b", "a * on (x) group_left () b"},
        {"a*ignoring(x)group_right(y,z)b", "a * ignoring (x) group_right (y, z) b"},
        {"a+fill(0)b", "a + fill (0) b"},
        {"a+fill_right(1e21)fill_left(-2)b", "a + fill_left (-2) fill_right (1e+21) b"},
        {"a and b", "a and b"},
        {"-foo", "-foo"},
        {"--foo", "--foo"},
        {"+foo", "+foo"},
        {"- 1 ^ 2", "-1 ^ 2"},
        {"(-1)^2", "(-1) ^ 2"},
        {"((a))", "((a))"},
        {"rate(foo[5m])", "rate(foo[5m])"},
        {"info(a,{})", "info(a, {})"},
        {"time()", "time()"},
        {"label_join(a,\"b\",\"\",\"c\")", "label_join(a, \"b\", \"\", \"c\")"},
        {"a # gone\n", "a"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check(rows[i].query, rows[i].printed);
}

Test(print, a_query_that_does_not_parse_is_not_printed)
{
    struct kv_buf out = {0};
    cr_expect_eq(ts_format(KV_STR("foo +"), &out, &err), KV_INVALID);
    cr_expect_str_eq(err.text, "1:6: parse error: unexpected end of input");
    cr_expect_eq(out.len, 0);
    kv_buf_release(&out);
}

Test(print, floats_have_no_exponent)
{
    static const struct {
        double value;
        const char *text;
    } rows[] = {{0, "0"},
                {-0.0, "-0"},
                {0.1, "0.1"},
                {-1.5, "-1.5"},
                {1e22, "10000000000000000000000"},
                {1e-9, "0.000000001"},
                {123456.789, "123456.789"},
                {100, "100"},
                {NAN, "NaN"},
                {INFINITY, "+Inf"},
                {-INFINITY, "-Inf"}};
    struct kv_buf out = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        kv_buf_clear(&out);
        cr_assert_eq(ts_print_float(rows[i].value, &out), KV_OK);
        cr_expect(kv_slice_equal(kv_buf_slice(&out), kv_slice_str(rows[i].text)), "%s: %.*s", rows[i].text,
                  KV_ARG(kv_buf_slice(&out)));
    }
    kv_buf_clear(&out);
    cr_assert_eq(ts_print_float(DBL_MAX, &out), KV_OK);
    cr_expect_eq(out.len, 309);
    kv_buf_clear(&out);
    cr_assert_eq(ts_print_float(0x1p-1074, &out), KV_OK);
    cr_expect_eq(out.len, 326);
    kv_buf_release(&out);
}

Test(print, durations_use_few_units)
{
    static const struct {
        int64_t ms;
        const char *text;
    } rows[] = {{0, "0s"},           {1, "1ms"},
                {1000, "1s"},        {90000, "1m30s"},
                {3600000, "1h"},     {86400000, "1d"},
                {604800000, "1w"},   {691200000, "8d"},
                {31536000000, "1y"}, {31536000001, "365d1ms"},
                {100800000, "1d4h"}};
    struct kv_buf out = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        kv_buf_clear(&out);
        cr_assert_eq(ts_print_duration(rows[i].ms, &out), KV_OK);
        cr_expect(kv_slice_equal(kv_buf_slice(&out), kv_slice_str(rows[i].text)), "%s", rows[i].text);
    }
    kv_buf_release(&out);
}

Test(print, a_full_buffer_is_reported)
{
    struct kv_buf out;
    kv_buf_init(&out, 8);
    cr_expect_eq(ts_format(KV_STR("sum by (a) (rate(foo[5m]))"), &out, &err), KV_LIMIT);
    kv_buf_release(&out);
}
