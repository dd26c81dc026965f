/* Import and export over HTTP, and the texts they speak. */
#include "http/export.h"
#include "tests/support/http_world.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct http_world world;

static void begin(void)
{
    http_world_open(&world, &(struct ts_options){.retention_ms = INT64_MAX}, KV_THREADS_NONE);
}
static void end(void)
{
    http_world_close(&world);
}
TestSuite(export_api, .init = begin, .fini = end);

static const char *call(const char *target, const char *const *headers, const char *body, unsigned status)
{
    unsigned got = http_world_call(&world, target, headers, kv_slice_str(body));
    cr_assert_eq(got, status, "%s: %u %s", target, got, http_world_text(&world));
    return http_world_text(&world);
}

#define LINE_A                                                                                               \
    "{\"metric\":{\"__name__\":\"a\",\"x\":\"1\"},\"values\":[1,null,\"Infinity\"],\"timestamps\":[1000,"    \
    "2500,3000]}\n"
#define LINE_B "{\"metric\":{\"__name__\":\"b.c\",\"x\":\"\\\"\"},\"values\":[0.1],\"timestamps\":[-1]}\n"

Test(export_api, what_was_imported_is_exported_in_every_format)
{
    static const char *const om[] = {"Content-Type", "application/openmetrics-text; version=1.0.0", NULL};
    (void)call("POST /api/v1/import", NULL, LINE_A LINE_B, 204);
    cr_assert_str_eq(call("GET /api/v1/export", NULL, "", 200), LINE_A LINE_B);
    cr_assert_str_eq(call("GET /api/v1/export?format=prometheus", NULL, "", 200),
                     "a{x=\"1\"} 1 1000\na{x=\"1\"} +Inf 3000\n{\"b.c\",x=\"\\\"\"} 0.1 -1\n");
    cr_assert_str_eq(
        call("GET /api/v1/export?format=openmetrics&match[]=a&match[]={x=\"1\"}&start=1.5", NULL, "", 200),
        "a{x=\"1\"} +Inf 3.000\n# EOF\n");
    cr_assert_str_eq(call("GET /api/v1/export?match[]=nothing", NULL, "", 200), "");
    (void)call("POST /api/v1/import/prometheus", NULL, "p 1 5000\n", 204);
    (void)call("POST /api/v1/import/prometheus", om, "p 2 6\n# EOF\n", 204);
    cr_assert_str_eq(call("GET /api/v1/export?match[]=p", NULL, "", 200),
                     "{\"metric\":{\"__name__\":\"p\"},\"values\":[1,2],\"timestamps\":[5000,6000]}\n");
    cr_assert_eq(world.metrics.samples_imported, 6);
}

Test(export_api, refusals_say_why)
{
    cr_assert(strstr(call("GET /api/v1/export?format=csv", NULL, "", 400), "known are json"));
    cr_assert(strstr(call("GET /api/v1/export?match[]=sum(a)", NULL, "", 400), "match[]"));
    (void)call("GET /api/v1/export?start=2&end=1", NULL, "", 400);
    cr_assert(
        strstr(
            call("POST /api/v1/import", NULL, LINE_A "nonsense\n", 400),
            "partial write: 1 lines or samples rejected, 3 samples stored: line 2:1: expected a JSON object"),
        "%s", http_world_text(&world));
    static const char *const odd[] = {"Content-Encoding", "brotli", NULL};
    (void)call("POST /api/v1/import", odd, LINE_A, 415);
    (void)call("POST /api/v1/import", NULL, "", 204);
}

/* More than one piece of the stream, and than one line of a day. */
Test(export_api, long_exports_are_streamed_through_a_socket)
{
    enum { N = 3 * HTTP_EXPORT_LINE_SAMPLES + 5 };
    struct kv_buf body = {0};
    struct raw_reply reply = {0};
    size_t lines = 0, samples = 0;
    for (int i = 0; i < N; i++)
        cr_assert_eq(kv_buf_printf(&body, "m{i=\"%d\"} %d %d\n", i % 2, i, i * 1000), KV_OK);
    cr_assert_eq(http_world_call(&world, "POST /api/v1/import/prometheus", NULL, kv_buf_slice(&body)), 204);
    uint16_t port = http_world_serve(&world, NULL);
    raw_request(port, "GET /api/v1/export", "", (kv_slice){0}, &reply);
    cr_assert_eq(reply.status, 200);
    cr_assert_str_eq(raw_header(&reply, "Content-Type"), "application/stream+json");
    for (const char *p = (const char *)reply.body.data; *p; p = strchr(p, '\n') + 1, lines++) {
        const char *stop = strchr(p, '\n'), *times = strstr(p, "\"timestamps\":[");
        cr_assert(stop && times && times < stop);
        for (samples++; (times = strchr(times + 1, ',')) && times < stop;)
            samples++;
    }
    cr_assert_eq(samples, N);
    cr_assert_eq(lines, 4);
    raw_reply_release(&reply);
    kv_buf_release(&body);
}

Test(export_text, what_a_decoder_reads_back_is_what_was_written)
{
    const struct ts_label labels[] = {{KV_STR("__name__"), KV_STR("m.\"x\"")},
                                      {KV_STR("a b"), KV_STR("\\ \n \"")}};
    const int64_t times[] = {-1, 0, INT64_C(1) << 45};
    const double values[] = {1e-300, -0.0, INFINITY};
    const struct ts_series_points points = {labels, 2, times, values, 3};
    struct kv_buf text = {0};
    uint64_t left_out = 0;
    cr_assert_eq(http_export_piece(HTTP_EXPORT_OPENMETRICS, &points, 0, 3, &text, &left_out), KV_OK);
    cr_assert_eq(kv_buf_append_byte(&text, 0), KV_OK);
    cr_assert_str_eq((const char *)text.data,
                     "{\"m.\\\"x\\\"\",\"a b\"=\"\\\\ \\n \\\"\"} 1e-300 -0.001\n"
                     "{\"m.\\\"x\\\"\",\"a b\"=\"\\\\ \\n \\\"\"} -0 0.000\n"
                     "{\"m.\\\"x\\\"\",\"a b\"=\"\\\\ \\n \\\"\"} +Inf 35184372088.832\n");
    cr_assert_eq(left_out, 0);
    kv_buf_release(&text);
}
