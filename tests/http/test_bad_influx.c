/* test_bad_influx.c - bad line protocol, one row a case: what is answered, with its place, and what is stored all the same. */
#include "tests/support/http_world.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct http_world world;

static void begin(void)
{
    struct ts_options store = {.retention_ms = 86400000};
    http_world_open(&world, &store, KV_THREADS_NONE);
}
static void end(void)
{
    http_world_close(&world);
}
TestSuite(bad_influx, .init = begin, .fini = end);

/* Each body is the middle of three lines; the first and the third are good and must be stored whatever the middle is. */
static const struct bad_line {
    const char *line;
    unsigned status;
    const char *text; /* in the answer */
} lines[] = {
    {"", 204, ""},
    {"# only a comment", 204, ""},
    {"m", 400, "line 2:2: no fields"},
    {"m ", 400, "line 2:3: no fields"},
    {"m,a=b", 400, "line 2:6: no fields"},
    {"m,a=b ", 400, "line 2:7: no fields"},
    {",a=b v=1", 400, "line 2:1: no measurement"},
    {"m,=x v=1", 400, "line 2:3: empty tag key"},
    {"m,t= v=1", 204, ""}, /* an empty value is no label */
    {"m,t v=1", 400, "line 2:4: expected '=' after a tag key"},
    {"m,a=1,a=2 v=1", 400, "line 2"}, /* the same label twice */
    {"m v=1,v=2", 204, ""},           /* one series at one time: the last in the body wins */
    {"m,time=1 v=1", 204, ""},        /* nothing is reserved here: a label like any other */
    {"m,__name__=x v=1", 400, "line 2"},
    {"m,a=b c v=1", 400, "line 2:8: expected '=' after a field key"},
    {"m,a=b=c v=1", 400, "line 2:6: unescaped '=' in a tag value"},
    {"m,a=b,,c=d v=1", 400, "line 2:7: empty tag key"},
    {"m, a=b v=1", 400, "line 2:3: empty tag key"},
    {"m\\", 400, "line 2:3: no fields"},
    {"m v=\"open", 400, "line 2:5: unclosed quote"},
    {"m\tx v=1", 400, "line 2:2: control byte in a name"},
    {"m,a=b\x01 v=1", 400, "line 2:6: control byte in a name"},
    {"m,a=\xff v=1", 400, "line 2"}, /* not UTF-8 */
    {"\xff v=1", 400, "line 2"},
    {"m v=", 400, "line 2:5: no value behind a field key"},
    {"m v= 1", 400, "line 2:5: no value behind a field key"},
    {"m =1", 400, "line 2:3: empty field key"},
    {"m v", 400, "line 2:4: expected '=' after a field key"},
    {"m v=1.2.3", 400, "line 2:8: unexpected byte behind a field value"},
    {"m v=1e", 400, "line 2:6: unexpected byte behind a field value"},
    {"m v=0x10", 400, "line 2:6: unexpected byte behind a field value"},
    {"m v=1_000", 400, "line 2:6: unexpected byte behind a field value"},
    {"m v=NaN", 400, "line 2:5: expected a field value"},
    {"m v=Inf", 400, "line 2:5: expected a field value"},
    {"m v=-Inf", 400, "line 2:5: expected a field value"},
    {"m v=+1", 400, "line 2:5: a number does not start with '+'"},
    {"m v=-", 400, "line 2:5: expected a field value"},
    {"m v=9223372036854775808i", 400, "line 2:5: integer value out of range"},
    {"m v=-9223372036854775809i", 400, "line 2:5: integer value out of range"},
    {"m v=9223372036854775807i", 204, ""},
    {"m v=1.5i", 400, "line 2:8: unexpected byte behind a field value"},
    {"m v=18446744073709551616u", 400, "line 2:5: unsigned value out of range"},
    {"m v=18446744073709551615u", 204, ""},
    {"m v=-1u", 400, "line 2:5: an unsigned value cannot be negative"},
    {"m v=1e400", 400, "line 2:5: number out of range"},
    {"m v=1e-400", 204, ""}, /* nearest to 0 */
    {"m v=TRUe", 400, "line 2:6: unexpected byte behind a field value"},
    {"m v=yes", 400, "line 2:5: expected a field value"},
    {"m v=\"text\"", 204, ""}, /* strings are skipped and counted */
    {"m v=\"text\"x", 400, "line 2:11: unexpected byte behind a field value"},
    {"m v=1 abc", 400, "line 2:7: expected a timestamp"},
    {"m v=1 1e9", 400, "line 2:8: unexpected byte at the end of the line"},
    {"m v=1 12 13", 400, "line 2:10: unexpected byte at the end of the line"},
    {"m v=1 9223372036854775808", 400, "line 2:7: timestamp out of range"},
    {"m v=1 -9223372036854775809", 400, "line 2:7: timestamp out of range"},
    {"m v=1 1000000000", 400, "line 2"},          /* 1970, outside retention: rejected, not dropped */
    {"m v=1 -1", 400, "line 2"},                  /* likewise */
    {"m v=1 4102444800000000000", 400, "line 2"}, /* 2100, in the future */
    {"m,a=b v=1 ", 204, ""},
    {"m v=1\r", 204, ""},
};

Test(bad_influx, each_line_is_answered_with_its_place_and_its_neighbours_are_kept)
{
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char body[4096];
        double n = (double)i;
        snprintf(body, sizeof body, "before v=%zu\n%s\nafter v=%zu\n", i, lines[i].line, i);
        unsigned status = http_world_call(&world, "POST /api/v2/write?org=../x&bucket=none&db=&rp=", NULL,
                                          kv_slice_str(body));
        cr_expect_eq(status, lines[i].status, "%s: %u %s", lines[i].line, status, http_world_text(&world));
        cr_expect(strstr(http_world_text(&world), lines[i].text), "%s: %s", lines[i].line,
                  http_world_text(&world));
        if (lines[i].status == 400) {
            cr_expect(strstr(http_world_text(&world), "\"code\":\"invalid\""), "%s", http_world_text(&world));
            cr_expect(strstr(http_world_text(&world), "\"line\":2"), "%s", http_world_text(&world));
        }
        cr_expect_eq(http_world_value(&world, "before_v"), n, "%s", lines[i].line);
        cr_expect_eq(http_world_value(&world, "after_v"), n, "%s", lines[i].line);
    }
}

Test(bad_influx, the_last_of_equal_times_in_a_body_wins)
{
    cr_assert_eq(http_world_call(&world, "POST /write", NULL, KV_STR("m v=1,v=2\n")), 204);
    cr_assert_eq(http_world_value(&world, "m_v"), 2);
}

static unsigned post(const char *target, kv_slice body)
{
    char line[200];
    snprintf(line, sizeof line, "POST %s", target);
    return http_world_call(&world, line, NULL, body);
}

Test(bad_influx, precision_is_checked)
{
    cr_assert_eq(post("/write?precision=xx", KV_STR("m v=1")), 400);
    cr_assert(strstr(http_world_text(&world), "invalid precision; known are ns, us, ms, s, m, h"));
    cr_assert_eq(post("/write?precision=s&precision=ms", KV_STR("m v=1")), 400);
    /* seconds sent as nanoseconds lie in 1970; nanoseconds read as seconds beyond all bounds */
    char body[64];
    int64_t now_s = kv_clock_wall_ms(kv_clock_system()) / 1000;
    snprintf(body, sizeof body, "m v=1 %lld", (long long)now_s);
    cr_assert_eq(post("/write", kv_slice_str(body)), 400);
    cr_assert_eq(post("/write?precision=s", kv_slice_str(body)), 204);
    snprintf(body, sizeof body, "m v=1 %lld000000000", (long long)now_s);
    cr_assert_eq(post("/write?precision=h", kv_slice_str(body)), 400);
    cr_assert(strstr(http_world_text(&world), "line 1:7: timestamp out of range in this precision"), "%s",
              http_world_text(&world));
}

Test(bad_influx, whole_bodies)
{
    cr_assert_eq(post("/write", (kv_slice){0}), 204);
    cr_assert_eq(post("/write", KV_STR("\xef\xbb\xbfm v=1")), 400);
    cr_assert(strstr(http_world_text(&world), "line 1:1: the body starts with a byte order mark"));
    cr_assert_eq(post("/write", KV_STR("m v=1")), 204, "no newline at the end");
    cr_assert_eq(post("/write", KV_STR("m v=1\r\nm v=2\r\n")), 204, "CRLF");
    cr_assert_eq(post("/write", kv_slice_of("m\0x v=1", 7)), 400);
    cr_assert(strstr(http_world_text(&world), "line 1:2: NUL byte"), "%s", http_world_text(&world));
}

static struct kv_buf big;

static void add_big(const char *text, size_t times)
{
    for (size_t i = 0; i < times; i++)
        cr_assert_eq(kv_buf_append(&big, kv_slice_str(text)), KV_OK);
}

Test(bad_influx, limits_name_themselves)
{
    add_big("m,t=", 1);
    add_big("0123456789", (1 << 20) / 10 + 1);
    add_big(" v=1\n", 1);
    cr_assert_eq(post("/write", kv_buf_slice(&big)), 400);
    cr_assert(strstr(http_world_text(&world), "line 1:1: line longer than 1 MiB"), "%s",
              http_world_text(&world));

    kv_buf_clear(&big);
    add_big("m", 1);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(kv_buf_printf(&big, ",t%d=x", i), KV_OK);
    add_big(" v=1\n", 1);
    cr_assert_eq(post("/write", kv_buf_slice(&big)), 400);
    cr_assert(strstr(http_world_text(&world), "label_limit"), "%s", http_world_text(&world));

    kv_buf_clear(&big);
    add_big("m,t=", 1);
    add_big("0123456789", 500);
    add_big(" v=1\n", 1);
    cr_assert_eq(post("/write", kv_buf_slice(&big)), 400);
    cr_assert(strstr(http_world_text(&world), "label_limit"), "%s", http_world_text(&world));

    kv_buf_clear(&big);
    add_big("m ", 1);
    for (int i = 0; i < 1001; i++)
        cr_assert_eq(kv_buf_printf(&big, "%sf%d=1", i ? "," : "", i), KV_OK);
    cr_assert_eq(post("/write", kv_buf_slice(&big)), 400);
    cr_assert(strstr(http_world_text(&world), "more than 1000 fields"), "%s", http_world_text(&world));

    kv_buf_clear(&big);
    add_big("m v=0.", 1);
    add_big("3", 400);
    cr_assert_eq(post("/write", kv_buf_slice(&big)), 204);
    cr_assert_eq(http_world_value(&world, "m_v"), 1.0 / 3);
    kv_buf_release(&big);
}

Test(bad_influx, a_hundred_thousand_bad_lines_are_counted_and_ten_are_told)
{
    add_big("bad line\n", 100000);
    add_big("m v=1\n", 1);
    cr_assert_eq(post("/write", kv_buf_slice(&big)), 400);
    cr_assert(strstr(http_world_text(&world), "100000 lines or samples rejected, 1 samples stored"), "%s",
              http_world_text(&world));
    cr_assert(strstr(http_world_text(&world), "line 10:9:"), "%s", http_world_text(&world));
    cr_assert_null(strstr(http_world_text(&world), "line 11:"));
    cr_assert(world.body.len < 8192);
    cr_assert_eq(http_world_value(&world, "m_v"), 1);
    kv_buf_release(&big);
}

Test(bad_influx, the_series_limit_is_named)
{
    struct ts_options store = {.series_max = 5};
    http_world_close(&world);
    http_world_open(&world, &store, KV_THREADS_NONE);
    cr_assert_eq(post("/write", KV_STR("m a=1,b=1,c=1,d=1,e=1\n")), 204);
    cr_assert_eq(post("/write", KV_STR("m a=2,f=1\n")), 400);
    cr_assert(strstr(http_world_text(&world), "series_limit"), "%s", http_world_text(&world));
    cr_assert_eq(http_world_value(&world, "m_a"), 2, "the rest of the body is stored");
}

Test(bad_influx, other_encodings)
{
    static const char *const br[] = {"Content-Encoding", "br", NULL};
    static const char *const gz[] = {"Content-Encoding", "gzip", NULL};
    cr_assert_eq(http_world_call(&world, "POST /write", br, KV_STR("m v=1")), 415);
    cr_assert_eq(http_world_call(&world, "POST /write", gz, KV_STR("m v=1")), 400);
    cr_assert(strstr(http_world_text(&world), "not valid gzip"), "%s", http_world_text(&world));
}
