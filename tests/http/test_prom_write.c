#include "tests/support/http_world.h"
#include "tests/support/row_log.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>

static struct http_decoder *decoder;
static struct row_log rows;
static struct pb_writer body;

static void begin(void)
{
    row_log_init(&rows);
    cr_assert_eq(http_prom_write_new(&decoder), KV_OK);
}
static void end(void)
{
    row_log_release(&rows);
    http_decoder_free(decoder);
    kv_buf_release(&body.out);
}
TestSuite(prom_write, .init = begin, .fini = end);

static const char *decoded(void)
{
    kv_status rc;
    const char *text = row_log_decode(&rows, decoder, kv_buf_slice(&body.out), NULL, &rc);
    cr_assert_eq(rc, KV_OK, "%s", rows.err.text);
    return text;
}

static void refused(const char *why)
{
    kv_status rc;
    row_log_decode(&rows, decoder, kv_buf_slice(&body.out), NULL, &rc);
    cr_assert_eq(rc, KV_INVALID);
    cr_assert(strstr(rows.err.text, why), "%s", rows.err.text);
}

Test(prom_write, series_become_rows_with_all_their_samples)
{
    pb_series(&body, "__name__=up,job=a", (int64_t[]){1000, 2000}, (double[]){1, 0.5}, 2);
    pb_series(&body, "__name__=up,job=b", (int64_t[]){-1}, (double[]){3}, 1);
    cr_assert_str_eq(decoded(), "1 {__name__=\"up\",job=\"a\"} 1000@1 2000@0.5\n"
                                "2 {__name__=\"up\",job=\"b\"} -1@3\n");
    cr_assert(rows.report.rows == 2 && rows.report.samples == 3);
}

Test(prom_write, fields_left_out_are_zero)
{
    struct pb_writer sample = {0}, label = {0}, series = {0};
    pb_bytes(&label, 1, KV_STR("__name__"));
    pb_bytes(&label, 2, KV_STR("z"));
    pb_bytes(&series, 1, kv_buf_slice(&label.out));
    pb_bytes(&series, 2, (kv_slice){0}); /* value 0 at time 0 */
    pb_varint(&sample, 2, 5);            /* value 0 */
    pb_bytes(&series, 2, kv_buf_slice(&sample.out));
    kv_buf_clear(&sample.out);
    pb_double(&sample, 1, 7); /* time 0 */
    pb_bytes(&series, 2, kv_buf_slice(&sample.out));
    pb_bytes(&body, 1, kv_buf_slice(&series.out));
    cr_assert_str_eq(decoded(), "1 {__name__=\"z\"} 0@0 5@0 0@7\n");
    kv_buf_release(&sample.out);
    kv_buf_release(&label.out);
    kv_buf_release(&series.out);
}

/* A TimeSeries whose fields stand in an unusual order. */
static void mixed_series(const char *name, int64_t time_ms)
{
    struct pb_writer sample = {0}, label = {0}, series = {0};
    pb_varint(&sample, 2, (uint64_t)time_ms);
    pb_double(&sample, 1, 1);
    pb_bytes(&label, 2, kv_slice_str(name));
    pb_bytes(&label, 1, KV_STR("__name__"));
    pb_varint(&series, 99, 1); /* of the future */
    pb_bytes(&series, 2, kv_buf_slice(&sample.out));
    pb_bytes(&series, 1, kv_buf_slice(&label.out));
    pb_bytes(&series, 3, KV_STR("")); /* an exemplar */
    pb_bytes(&body, 1, kv_buf_slice(&series.out));
    kv_buf_release(&sample.out);
    kv_buf_release(&label.out);
    kv_buf_release(&series.out);
}

Test(prom_write, any_order_of_fields_and_unknown_fields_are_read)
{
    mixed_series("aa", 10);
    mixed_series("bb", 20);
    cr_assert_str_eq(decoded(), "1 {__name__=\"aa\"} 10@1 #{}0@0\n2 {__name__=\"bb\"} 20@1 #{}0@0\n");
    cr_assert_eq(rows.report.exemplars, 2);
}

Test(prom_write, gathered_labels_of_equal_length_stay_two_series_in_the_store)
{
    struct http_world world;
    struct kv_buf packed = {0};
    int64_t now = kv_clock_wall_ms(kv_clock_system());
    http_world_open(&world, NULL, KV_THREADS_NONE);
    mixed_series("aa", now);
    mixed_series("bb", now);
    snappy_of(kv_buf_slice(&body.out), &packed);
    cr_assert_eq(http_world_call(&world, "POST /api/v1/write", NULL, kv_buf_slice(&packed)), 204, "%s",
                 http_world_text(&world));
    cr_assert_eq(http_world_value(&world, "count({__name__=~\"aa|bb\"})"), 2);
    kv_buf_release(&packed);
    http_world_close(&world);
}

Test(prom_write, long_labels_and_many_samples_are_read)
{
    enum { N = 20000 };
    static int64_t times[N];
    static double values[N];
    char labels[400] = "__name__=long,l=";
    memset(labels + strlen(labels), 'x', 300);
    for (int i = 0; i < N; i++) {
        times[i] = i;
        values[i] = i;
    }
    pb_series(&body, labels, times, values, N);
    decoded();
    cr_assert_eq(rows.report.samples, N);
}

Test(prom_write, a_series_without_samples_is_no_row)
{
    pb_series(&body, "__name__=up", NULL, NULL, 0);
    cr_assert_str_eq(decoded(), "");
}

Test(prom_write, histograms_are_rejected_one_by_one_and_exemplars_counted)
{
    struct pb_writer label = {0}, series = {0};
    pb_bytes(&label, 1, KV_STR("__name__"));
    pb_bytes(&label, 2, KV_STR("h"));
    pb_bytes(&series, 1, kv_buf_slice(&label.out));
    pb_bytes(&series, 4, KV_STR(""));
    pb_bytes(&series, 4, KV_STR(""));
    pb_bytes(&series, 3, KV_STR(""));
    pb_bytes(&body, 1, kv_buf_slice(&series.out));
    cr_assert_str_eq(decoded(), "1 {__name__=\"h\"} #{}0@0\nreject 1 unsupported 2 time series 1: native "
                                "histograms are not stored yet\n");
    cr_assert(rows.report.histograms == 2 && rows.report.exemplars == 1);
    kv_buf_release(&label.out);
    kv_buf_release(&series.out);
}

/* A message of one label. */
static void label_of(struct pb_writer *to, uint32_t field, const char *name, const char *value)
{
    struct pb_writer label = {0};
    pb_bytes(&label, 1, kv_slice_str(name));
    pb_bytes(&label, 2, kv_slice_str(value));
    pb_bytes(to, field, kv_buf_slice(&label.out));
    kv_buf_release(&label.out);
}

static void exemplar_of(struct pb_writer *series, const char *id, const char *other, double value,
                        int64_t time_ms)
{
    struct pb_writer e = {0};
    label_of(&e, 1, "id", id);
    if (other)
        label_of(&e, 1, "other", other);
    pb_double(&e, 2, value);
    pb_varint(&e, 3, (uint64_t)time_ms);
    pb_bytes(series, 3, kv_buf_slice(&e.out));
    kv_buf_release(&e.out);
}

static void series_with_exemplars(int64_t time_ms)
{
    struct pb_writer series = {0}, sample = {0};
    label_of(&series, 1, "__name__", "h_bucket");
    label_of(&series, 1, "le", "1");
    pb_double(&sample, 1, 7);
    pb_varint(&sample, 2, (uint64_t)time_ms);
    pb_bytes(&series, 2, kv_buf_slice(&sample.out));
    exemplar_of(&series, "one", "x", 0.5, time_ms - 5);
    exemplar_of(&series, "two", NULL, 0.25, time_ms);
    pb_bytes(&body, 1, kv_buf_slice(&series.out));
    kv_buf_release(&series.out);
    kv_buf_clear(&series.out);
    label_of(&series, 1, "__name__", "h_bucket"); /* as Prometheus sends them: apart from samples */
    label_of(&series, 1, "le", "1");
    exemplar_of(&series, "three", NULL, 0.75, time_ms + 1);
    pb_bytes(&body, 1, kv_buf_slice(&series.out));
    kv_buf_release(&series.out);
    kv_buf_release(&sample.out);
}

Test(prom_write, exemplars_come_with_their_series)
{
    series_with_exemplars(1000);
    cr_assert_str_eq(decoded(), "1 {__name__=\"h_bucket\",le=\"1\"} 1000@7 #{id=\"one\",other=\"x\"}995@0.5 "
                                "#{id=\"two\"}1000@0.25\n"
                                "2 {__name__=\"h_bucket\",le=\"1\"} #{id=\"three\"}1001@0.75\n");
    cr_assert_eq(rows.report.exemplars, 3);
    kv_buf_clear(&body.out);
    pb_bytes(&body, 1, KV_STR("\x1a\x02\x11\x01")); /* its value ends early */
    refused("time series 1");
}

Test(prom_write, exemplars_are_asked_for_as_in_prometheus)
{
    struct http_world world;
    struct kv_buf packed = {0};
    int64_t now = kv_clock_wall_ms(kv_clock_system()) / 1000 * 1000;
    char target[200], expected[600];
    http_world_open(&world, NULL, KV_THREADS_NONE);
    series_with_exemplars(now);
    snappy_of(kv_buf_slice(&body.out), &packed);
    cr_assert_eq(http_world_call(&world, "POST /api/v1/write", NULL, kv_buf_slice(&packed)), 204, "%s",
                 http_world_text(&world));
    snprintf(target, sizeof target,
             "GET /api/v1/query_exemplars?query=rate(h_bucket[5m])&start=%lld&end=%lld",
             (long long)now / 1000, (long long)now / 1000 + 1);
    cr_assert_eq(http_world_call(&world, target, NULL, (kv_slice){0}), 200, "%s", http_world_text(&world));
    snprintf(expected, sizeof expected,
             "{\"status\":\"success\",\"data\":[{\"seriesLabels\":{\"__name__\":\"h_bucket\",\"le\":\"1\"},"
             "\"exemplars\":[{\"labels\":{\"id\":\"two\"},\"value\":\"0.25\",\"timestamp\":%lld},"
             "{\"labels\":{\"id\":\"three\"},\"value\":\"0.75\",\"timestamp\":%lld.001}]}]}",
             (long long)now / 1000, (long long)now / 1000);
    cr_assert_str_eq(http_world_text(&world), expected);
    cr_assert_eq(http_world_call(&world, "GET /metrics", NULL, (kv_slice){0}), 200);
    cr_assert(strstr(http_world_text(&world), "\ntidemark_exemplars 3\n"));
    cr_assert_eq(
        http_world_call(&world, "GET /api/v1/query_exemplars?query=up&start=2&end=1", NULL, (kv_slice){0}),
        400);
    cr_assert_eq(http_world_call(&world, "GET /api/v1/query_exemplars?query=up{", NULL, (kv_slice){0}), 400);
    cr_assert(strstr(http_world_text(&world), "invalid parameter \\\"query\\\""), "%s",
              http_world_text(&world));
    kv_buf_release(&packed);
    http_world_close(&world);
}

Test(prom_write, metadata_is_handed_on)
{
    struct pb_writer metadata = {0};
    pb_varint(&metadata, 1, 1);
    pb_bytes(&metadata, 2, KV_STR("requests_total"));
    pb_bytes(&metadata, 4, KV_STR("help text"));
    pb_bytes(&metadata, 5, KV_STR("requests"));
    pb_bytes(&body, 3, kv_buf_slice(&metadata.out));
    cr_assert_str_eq(decoded(), "metadata requests_total counter \"help text\" \"requests\"\n");
    kv_buf_release(&metadata.out);
}

Test(prom_write, wrong_wire_types_are_refused_with_their_place)
{
    pb_varint(&body, 1, 1);
    refused("wrong wire type in a write request");
    kv_buf_clear(&body.out);
    struct pb_writer series = {0};
    pb_varint(&series, 1, 1);
    pb_bytes(&body, 1, kv_buf_slice(&series.out));
    refused("time series 1, byte 2: wrong wire type in a time series");
    kv_buf_clear(&body.out);
    kv_buf_clear(&series.out);
    struct pb_writer sample = {0};
    pb_varint(&sample, 1, 1);
    pb_bytes(&series, 2, kv_buf_slice(&sample.out));
    pb_bytes(&body, 1, kv_buf_slice(&series.out));
    refused("wrong wire type in a sample");
    kv_buf_release(&series.out);
    kv_buf_release(&sample.out);
}

Test(prom_write, a_version_two_body_is_told_apart)
{
    pb_bytes(&body, 4, KV_STR(""));
    pb_bytes(&body, 4, KV_STR("__name__"));
    refused("remote_write 2.0");
}

Test(prom_write, truncation_anywhere_is_refused_or_leaves_whole_series)
{
    pb_series(&body, "__name__=up,job=a", (int64_t[]){1000, 2000}, (double[]){1, 2}, 2);
    size_t one = body.out.len;
    pb_series(&body, "__name__=up,job=b", (int64_t[]){1000}, (double[]){1}, 1);
    for (size_t n = 0; n < body.out.len; n++) {
        kv_status rc;
        row_log_decode(&rows, decoder, kv_slice_of(body.out.data, n), NULL, &rc);
        cr_assert_eq(rc, n == 0 || n == one ? KV_OK : KV_INVALID, "at %zu", n);
    }
}
