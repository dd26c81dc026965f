#include "tests/support/row_log.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct http_decoder *decoder;
static struct row_log rows;

static void open_decoder(void)
{
    row_log_init(&rows);
    cr_assert_eq(http_json_lines_new(&decoder), KV_OK);
}
static void close_decoder(void)
{
    row_log_release(&rows);
    http_decoder_free(decoder);
}
TestSuite(json_lines, .init = open_decoder, .fini = close_decoder);

static const char *decoded(const char *body)
{
    kv_status rc;
    const char *text = row_log_decode(&rows, decoder, kv_slice_str(body), NULL, &rc);
    cr_assert_eq(rc, KV_OK, "%s", rows.err.text);
    return text;
}

Test(json_lines, members_come_in_any_order_and_unknown_ones_are_skipped)
{
    cr_assert_str_eq(decoded("{\"metric\":{\"__name__\":\"up\",\"job\":\"x\"},\"values\":[1,0.5],"
                             "\"timestamps\":[1000,-2000]}"),
                     "1 {__name__=\"up\",job=\"x\"} 1000@1 -2000@0.5\n");
    cr_assert_str_eq(decoded("\n  { \"timestamps\" : [ 1 ] , "
                             "\"x\":{\"y\":[1,{\"z\":\"}\"},null,true],\"w\":-1e3}, \"values\":[ 2 ]"
                             ",\"metric\" : { \"a\" : \"b\" } }  \r\n\n"),
                     "2 {a=\"b\"} 1@2\n");
    cr_assert_str_eq(decoded("{\"metric\":{\"a\":\"b\"},\"values\":[],\"timestamps\":[]}\n"), "");
    cr_assert_eq(rows.report.rejected, 0);
}

static double values[16];
static size_t n_values;
static kv_status keep(struct http_decode_sink *sink, const struct ts_row *row)
{
    (void)sink;
    n_values = row->n;
    memcpy(values, row->values, row->n * sizeof *values);
    return KV_OK;
}
static void no_reject(struct http_decode_sink *sink, uint32_t position, enum ts_reject_reason reason,
                      uint64_t n, const char *text)
{
    (void)sink, (void)position, (void)reason, (void)n;
    cr_assert_fail("%s", text);
}

Test(json_lines, values_that_are_no_numbers_have_words)
{
    struct http_decode_sink sink = {keep, no_reject, NULL};
    struct http_decode_report report;
    struct kv_err err;
    uint64_t bits;
    cr_assert_eq(http_decode(decoder,
                             KV_STR("{\"metric\":{\"a\":\"b\"},\"values\":[null,\"NaN\",\"Infinity\",\"-"
                                    "inf\",-0,1e-300,\"+INF\"],"
                                    "\"timestamps\":[1,2,3,4,5,6,7]}"),
                             &(struct http_decode_options){0}, &sink, &report, &err),
                 KV_OK);
    cr_assert_eq(n_values, 7);
    memcpy(&bits, &values[0], sizeof bits);
    cr_assert_eq(bits, TS_STALE_NAN);
    memcpy(&bits, &values[1], sizeof bits);
    cr_assert(isnan(values[1]) && bits != TS_STALE_NAN);
    cr_assert(values[2] == INFINITY && values[3] == -INFINITY && values[6] == INFINITY);
    cr_assert(values[4] == 0 && signbit(values[4]) && values[5] == 1e-300);
}

Test(json_lines, escapes_of_labels_are_undone)
{
    cr_assert_str_eq(decoded("{\"metric\":{\"a\\u0062\":\"\\\"\\\\\\/"
                             "\\n\\t\\u00e9\\ud83d\\ude00\"},\"values\":[1],\"timestamps\":[1]}"),
                     "1 {ab=\"\"\\/\n\t\xc3\xa9\xf0\x9f\x98\x80\"} 1@1\n");
    const char *bad[] = {"\\q", "\\u12g4", "\\ud83d", "\\ud83dx\\ude00", "\\ude00", "\\u12"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char line[200];
        snprintf(line, sizeof line, "{\"metric\":{\"a\":\"%s\"},\"values\":[1],\"timestamps\":[1]}", bad[i]);
        cr_assert(strstr(decoded(line), "BAD LABELS"), "%s: %s", bad[i], decoded(line));
    }
}

Test(json_lines, a_line_that_is_wrong_is_refused_with_its_place_and_the_next_is_read)
{
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"x", "1:1: expected a JSON object"},
        {"[1]", "1:1: expected a JSON object"},
        {"{\"metric\"}", "1:10: expected ':'"},
        {"{\"metric\":{\"a\":1},\"values\":[],\"timestamps\":[]}",
         "1:16: the value of a label is not a string"},
        {"{\"metric\":[],\"values\":[],\"timestamps\":[]}", "1:11: \"metric\" is not an object"},
        {"{\"metric\":{\"a\":\"b\"},\"values\":1}", "1:30: \"values\" is not an array"},
        {"{\"metric\":{\"a\":\"b\"},\"values\":[1 2]}", "1:33: expected ',' or ']'"},
        {"{\"metric\":{\"a\":\"b\"},\"values\":[true]}", "1:31: expected a number"},
        {"{\"metric\":{\"a\":\"b\"},\"values\":[\"x\"]}", "1:34: a value is a number, null,"},
        {"{\"metric\":{\"a\":\"b\"},\"values\":[1e999]}", "1:31: number out of range"},
        {"{\"metric\":{\"a\":\"b\"},\"timestamps\":[1.5]}",
         "1:36: expected a timestamp in whole milliseconds"},
        {"{\"metric\":{\"a\":\"b\"},\"timestamps\":[1E3]}",
         "1:36: expected a timestamp in whole milliseconds"},
        {"{\"metric\":{\"a\":\"b\"},\"timestamps\":[9223372036854775808]}", "1:35: timestamp out of range"},
        {"{\"metric\":{\"a\":\"b\"},\"values\":[1],\"timestamps\":[1,2]}",
         "1:1: \"values\" and \"timestamps\" differ in length"},
        {"{\"values\":[1],\"timestamps\":[1]}", "1:1: no \"metric\""},
        {"{}", "1:1: no \"metric\""},
        {"{\"metric\":{\"a\":\"b\"},\"values\":[1],\"timestamps\":[1]} x", "1:52: unexpected byte"},
        {"{\"metric\":{\"a\":\"b\"}", "1:20: expected ',' or '}'"},
        {"{\"metric\":{\"a\":\"b", "1:18: unclosed string"},
        {"{\"metric\":{\"a\":\"b\\", "unclosed string"},
        {"{\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}",
         "nested too deeply"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[400];
        snprintf(body, sizeof body, "%s\n{\"metric\":{\"a\":\"b\"},\"values\":[7],\"timestamps\":[7]}\n",
                 cases[i].line);
        const char *log = decoded(body);
        cr_assert(strstr(log, "reject 1 malformed 1 line 1:") && strstr(log, cases[i].why), "%s: %s",
                  cases[i].line, log);
        cr_assert(strstr(log, "2 {a=\"b\"} 7@7\n"), "%s: %s", cases[i].line, log);
    }
}

Test(json_lines, a_line_has_at_most_a_million_samples)
{
    enum { N = (1 << 20) + 1 };
    struct kv_buf body = {0};
    cr_assert_eq(kv_buf_append(&body, KV_STR("{\"metric\":{\"a\":\"b\"},\"values\":[0")), KV_OK);
    for (int i = 1; i < N; i++)
        cr_assert_eq(kv_buf_append(&body, KV_STR(",0")), KV_OK);
    cr_assert_eq(kv_buf_append(&body, KV_STR("]}")), KV_OK);
    const char *log = row_log_decode(&rows, decoder, kv_buf_slice(&body), NULL, NULL);
    cr_assert(strstr(log, "more than 1048576 samples"), "%s", log);
    kv_buf_release(&body);
}
