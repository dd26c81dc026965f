#include "http/json.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static struct kv_buf out;
static struct http_json json;

static void begin(void)
{
    http_json_init(&json, &out);
}
static void end(void)
{
    kv_buf_release(&out);
}
TestSuite(json, .init = begin, .fini = end);

static const char *text(void)
{
    cr_assert_eq(json.failed, KV_OK);
    cr_assert_eq(kv_buf_append_byte(&out, 0), KV_OK);
    return (const char *)out.data;
}

Test(json, strings_are_escaped)
{
    http_json_string(&json, KV_STR("a\"b\\c\n\r\t\x01/<script>&\x7f \xc3\xa9 \xf0\x9f\x8c\x8a"));
    cr_assert_str_eq(
        text(), "\"a\\\"b\\\\c\\n\\r\\t\\u0001/\\u003cscript\\u003e\\u0026\x7f \xc3\xa9 \xf0\x9f\x8c\x8a\"");
}

Test(json, a_nul_byte_is_escaped)
{
    http_json_string(&json, kv_slice_of("a\0b", 3));
    cr_assert_str_eq(text(), "\"a\\u0000b\"");
}

Test(json, invalid_utf8_becomes_the_replacement_character)
{
    http_json_string(&json, KV_STR("a\xff\xc3(\xed\xa0\x80z"));
    cr_assert_str_eq(text(), "\"a\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"");
}

Test(json, long_strings_are_whole)
{
    char *long_text = malloc(100001);
    memset(long_text, 'x', 100000);
    memcpy(long_text + 1022, "\xf0\x9f\x8c\x8a", 4); /* across a step of the writer */
    long_text[100000] = 0;
    http_json_str(&json, long_text);
    const char *written = text();
    cr_assert_eq(strlen(written), 100002);
    cr_assert_eq(memcmp(written + 1, long_text, 100000), 0);
    free(long_text);
}

Test(json, times_are_seconds_with_three_decimals_when_needed)
{
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        {0, "0"},          {1000, "1"},   {1767275000500, "1767275000.500"},   {1, "0.001"}, {-1, "-0.001"},
        {-1500, "-1.500"}, {10, "0.010"}, {INT64_MIN, "-9223372036854775.808"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_buf_clear(&out);
        http_json_time(&json, cases[i].ms);
        cr_assert_str_eq(text(), cases[i].text);
    }
}

Test(json, points_are_pairs_of_time_and_quoted_value)
{
    http_json_point(&json, 1500, (double)INFINITY);
    http_json_point(&json, 0, (double)NAN);
    http_json_point(&json, -1000, 1e-7);
    cr_assert_str_eq(text(), "[1.500,\"+Inf\"][0,\"NaN\"][-1,\"1e-07\"]");
}

Test(json, integers_of_all_sizes)
{
    http_json_int(&json, INT64_MIN);
    HTTP_JSON_RAW(&json, " ");
    http_json_uint(&json, UINT64_MAX);
    HTTP_JSON_RAW(&json, " ");
    http_json_number(&json, 0.25);
    cr_assert_str_eq(text(), "-9223372036854775808 18446744073709551615 0.25");
}

Test(json, a_full_buffer_is_reported_once_and_for_all)
{
    out.max = 10;
    http_json_str(&json, "this is longer");
    cr_assert_eq(json.failed, KV_LIMIT);
    HTTP_JSON_RAW(&json, "x");
    cr_assert_eq(json.failed, KV_LIMIT);
}
