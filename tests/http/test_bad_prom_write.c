/* test_bad_prom_write.c - bad remote_write 1.0 requests: status, place, and that nothing of a refused body was stored. */
#include "tests/support/http_world.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static struct http_world world;
static struct pb_writer body;
static struct kv_buf packed;
static int64_t now;

static void begin(void)
{
    struct ts_options store = {.retention_ms = 86400000};
    http_world_open(&world, &store, KV_THREADS_NONE);
    now = kv_clock_wall_ms(kv_clock_system());
}
static void end(void)
{
    kv_buf_release(&body.out);
    kv_buf_release(&packed);
    http_world_close(&world);
}
TestSuite(bad_prom_write, .init = begin, .fini = end);

static unsigned post_bytes(const char *const *headers, kv_slice bytes)
{
    return http_world_call(&world, "POST /api/v1/write", headers, bytes);
}

static unsigned post(const char *const *headers)
{
    snappy_of(kv_buf_slice(&body.out), &packed);
    return post_bytes(headers, kv_buf_slice(&packed));
}

static void one(const char *labels, int64_t time_ms, double value)
{
    pb_series(&body, labels, &time_ms, &value, 1);
}

static void answered(unsigned status, unsigned expected, const char *text)
{
    cr_assert_eq(status, expected, "%u %s", status, http_world_text(&world));
    cr_assert(strstr(http_world_text(&world), text), "%s", http_world_text(&world));
}

Test(bad_prom_write, bodies_that_are_not_snappy)
{
    answered(post_bytes(NULL, (kv_slice){0}), 400, "the body is empty");
    answered(post_bytes(NULL, KV_STR("no snappy at all, I am afraid")), 400, "not valid snappy");
    answered(post_bytes(NULL, KV_STR("\xff\x06\x00\x00sNaPpY")), 400, "framing format");
    answered(post_bytes(NULL, KV_STR("\x80\x80\x80\x80\x08")), 413, "limit of 67108864 bytes");
    one("__name__=a", now, 1);
    snappy_of(kv_buf_slice(&body.out), &packed);
    packed.data[0]++; /* the length lies, long */
    answered(post_bytes(NULL, kv_buf_slice(&packed)), 400, "not valid snappy");
    packed.data[0] = (uint8_t)(packed.data[0] - 2); /* and short */
    answered(post_bytes(NULL, kv_buf_slice(&packed)), 400, "not valid snappy");
    cr_assert(isnan(http_world_value(&world, "a")));
}

Test(bad_prom_write, bodies_that_are_not_the_message)
{
    static const struct {
        const char *why;
        const char *bytes;
        size_t n;
    } cases[] = {
#define CASE(why, text) {why, text, sizeof(text) - 1}
        CASE("truncated varint", "\x0a\x80"),
        CASE("varint longer than 10 bytes", "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
        CASE("length beyond the end", "\x0a\x05"
                                      "abc"),
        CASE("wrong wire type", "\x08\x01"),
        CASE("group (wire type 3 or 4)", "\x0b\x0c"),
        CASE("group (wire type 3 or 4)", "\x0c"),
        CASE("unknown wire type", "\x0f"),
        CASE("field number out of range", "\x00\x00"),
        CASE("remote_write 2.0", "\x22\x00\x2a\x00"),
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_buf_clear(&body.out);
        one("__name__=a", now, 1); /* good, and yet not stored */
        cr_assert_eq(kv_buf_append(&body.out, kv_slice_of(cases[i].bytes, cases[i].n)), KV_OK);
        answered(post(NULL), 400, cases[i].why);
        cr_assert(isnan(http_world_value(&world, "a")), "%s", cases[i].why);
    }
}

Test(bad_prom_write, headers_that_name_something_else)
{
    static const struct {
        const char *headers[5];
        unsigned status;
    } cases[] = {
        {{"X-Prometheus-Remote-Write-Version", "2.0.0", NULL}, 415},
        {{"Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request", NULL}, 415},
        {{"Content-Type", "application/x-protobuf;proto=other.Message", NULL}, 415},
        {{"Content-Type", "application/x-www-form-urlencoded", NULL}, 415},
        {{"Content-Type", "application/json", NULL}, 415},
        {{"Content-Encoding", "br", NULL}, 415},
        {{"Content-Encoding", "snappy, snappy", NULL}, 415},
        {{"Content-Type", "application/json", "Content-Encoding", "snappy", NULL},
         204}, /* the coding settles it */
        {{"Content-Type", "text/plain; charset=utf-8", "Content-Encoding", "snappy", NULL}, 204},
        {{"Content-Type", "application/x-protobuf;proto=prometheus.WriteRequest", NULL}, 204},
        {{"Content-Type", "application/x-protobuf", "X-Prometheus-Remote-Write-Version", "0.1.0", NULL}, 204},
        {{"Content-Encoding", "gzip", NULL}, 400},
    };
    one("__name__=a", now, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        answered(post(cases[i].headers), cases[i].status, "");
}

Test(bad_prom_write, label_sets_are_judged_one_by_one)
{
    static const struct {
        const char *labels, *text;
    } cases[] = {
        {"job=x", "missing_name"},
        {"__name__=,job=x", "missing_name"},
        {"__name__=b,=x", "invalid_label"},
        {"__name__=b,a\xff=x", "invalid_label"},
        {"__name__=b,a=\xff", "invalid_label"},
        {"__name__=b,a=1,a=2", "duplicate_label"},
        {"__name__=b,__name__=c", "duplicate_label"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kv_buf_clear(&body.out);
        one("__name__=good", now, (double)i);
        one(cases[i].labels, now, 1);
        answered(post(NULL), 400, cases[i].text);
        cr_assert(strstr(http_world_text(&world), "1 samples rejected, 1 samples stored"), "%s",
                  http_world_text(&world));
        cr_assert_eq(http_world_value(&world, "good"), (double)i, "the rest is stored");
    }
}

Test(bad_prom_write, what_is_lax_is_put_right)
{
    one("job=x,__name__=unsorted,a=b", now, 1); /* sorted here */
    one("__name__=empty,a=", now, 2);           /* no label */
    answered(post(NULL), 204, "");
    cr_assert_eq(http_world_value(&world, "unsorted{a=\"b\",job=\"x\"}"), 1);
    cr_assert_eq(http_world_value(&world, "count({__name__=\"empty\",a=\"\"})"), 1);
}

Test(bad_prom_write, times_out_of_bounds_are_rejected_one_by_one)
{
    static const struct {
        int64_t offset, absolute;
        const char *reason;
    } cases[] = {{0, 0, "too_old"},
                 {0, -1, "too_old"},
                 {0, INT64_MIN, "too_old"},
                 {0, INT64_MAX, "too_new"},
                 {-2 * 86400000, 1, "too_old"},
                 {7200000, 1, "too_new"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t times[] = {now, cases[i].offset ? now + cases[i].offset : cases[i].absolute};
        double values[] = {(double)i, 1};
        kv_buf_clear(&body.out);
        pb_series(&body, "__name__=a", times, values, 2);
        answered(post(NULL), 400, cases[i].reason);
        cr_assert_eq(http_world_value(&world, "a"), (double)i);
    }
}

Test(bad_prom_write, nan_payloads_are_kept_to_the_bit)
{
    uint64_t bits[] = {TS_STALE_NAN, UINT64_C(0x7ff8000000000001)};
    double values[2];
    memcpy(values, bits, sizeof values);
    pb_series(&body, "__name__=a", (int64_t[]){now - 2000}, (double[]){1}, 1);
    pb_series(&body, "__name__=a", (int64_t[]){now - 1000}, values, 1);
    pb_series(&body, "__name__=b", (int64_t[]){now - 1000}, values + 1, 1);
    answered(post(NULL), 204, "");
    cr_assert_eq(http_world_call(&world, "GET /api/v1/query?query=a", NULL, (kv_slice){0}), 200);
    cr_assert(strstr(http_world_text(&world), "\"result\":[]"), "a stale series is gone: %s",
              http_world_text(&world));
    cr_assert_eq(http_world_call(&world, "GET /api/v1/query?query=b", NULL, (kv_slice){0}), 200);
    cr_assert(strstr(http_world_text(&world), "\"NaN\""), "an ordinary NaN is a value: %s",
              http_world_text(&world));
}

Test(bad_prom_write, metadata_alone_is_fine)
{
    struct pb_writer metadata = {0};
    pb_varint(&metadata, 1, 2);
    pb_bytes(&metadata, 2, KV_STR("temperature"));
    pb_bytes(&metadata, 4, KV_STR("how warm"));
    pb_bytes(&body, 3, kv_buf_slice(&metadata.out));
    kv_buf_release(&metadata.out);
    answered(post(NULL), 204, "");
    cr_assert_eq(http_world_call(&world, "GET /api/v1/metadata", NULL, (kv_slice){0}), 200);
    cr_assert(strstr(http_world_text(&world),
                     "{\"temperature\":[{\"type\":\"gauge\",\"help\":\"how warm\",\"unit\":\"\"}]}"),
              "%s", http_world_text(&world));
}

Test(bad_prom_write, histograms_and_exemplars_are_counted_and_reported)
{
    struct pb_writer series = {0}, label = {0};
    pb_bytes(&label, 1, KV_STR("__name__"));
    pb_bytes(&label, 2, KV_STR("h"));
    pb_bytes(&series, 1, kv_buf_slice(&label.out));
    pb_bytes(&series, 4, KV_STR(""));
    pb_bytes(&series, 3, KV_STR(""));
    pb_bytes(&body, 1, kv_buf_slice(&series.out));
    kv_buf_release(&series.out);
    kv_buf_release(&label.out);
    one("__name__=good", now, 5);
    answered(post(NULL), 400, "time series 1: native histograms are not stored yet (unsupported)");
    cr_assert_eq(http_world_value(&world, "good"), 5);
    cr_assert(world.metrics.histograms_rejected == 1 && world.metrics.exemplars == 1);
}

Test(bad_prom_write, twenty_thousand_samples_of_one_series_are_taken)
{
    enum { N = 20000 };
    int64_t *times = malloc(N * sizeof *times);
    double *values = malloc(N * sizeof *values);
    for (int i = 0; i < N; i++) {
        times[i] = now - N + i;
        values[i] = i;
    }
    pb_series(&body, "__name__=a", times, values, N);
    answered(post(NULL), 204, "");
    cr_assert_eq(http_world_value(&world, "count_over_time(a[1m])"), N);
    free(times);
    free(values);
}

Test(bad_prom_write, the_inflated_limit_holds_to_the_byte)
{
    one("__name__=a", now, 1);
    world.app.inflated_bytes_max = body.out.len;
    answered(post(NULL), 204, "");
    world.app.inflated_bytes_max = body.out.len - 1;
    answered(post(NULL), 413, "over the limit of");
}
