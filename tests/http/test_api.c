/* test_api.c - the read and admin API in the shapes Prometheus and its clients know, without a socket; then what only a socket shows. */
#include "tests/support/http_world.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <sys/socket.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

static struct http_world world;
static int64_t now;

static void begin(void)
{
    http_world_open(&world, NULL, KV_THREADS_NONE);
    now = kv_clock_wall_ms(kv_clock_system()) / 1000 * 1000;
    char body[400];
    snprintf(body, sizeof body, "m,host=a,dc=x v=1.5 %lld\nm,host=b v=2 %lld\nn,host=a w=0.1 %lld\n",
             (long long)now - 1000, (long long)now - 500, (long long)now - 1000);
    cr_assert_eq(http_world_call(&world, "POST /write?precision=ms", NULL, kv_slice_str(body)), 204, "%s",
                 http_world_text(&world));
}
static void end(void)
{
    http_world_close(&world);
}
TestSuite(api, .init = begin, .fini = end);

static const char *get(const char *target, unsigned status)
{
    char line[1000];
    snprintf(line, sizeof line, "GET %s", target);
    unsigned got = http_world_call(&world, line, NULL, (kv_slice){0});
    cr_assert_eq(got, status, "%s: %u %s", target, got, http_world_text(&world));
    return http_world_text(&world);
}

static void post(const char *target, unsigned status)
{
    char line[1000];
    snprintf(line, sizeof line, "POST %s", target);
    unsigned got = http_world_call(&world, line, NULL, (kv_slice){0});
    cr_assert_eq(got, status, "%s: %u %s", target, got, http_world_text(&world));
}

#define SUCCESS(data) "{\"status\":\"success\",\"data\":" data "}"

Test(api, vectors_scalars_strings_and_matrices)
{
    char target[200], expected[400];
    snprintf(target, sizeof target, "/api/v1/query?query=m_v&time=%lld", (long long)now / 1000);
    snprintf(expected, sizeof expected,
             SUCCESS("{\"resultType\":\"vector\",\"result\":[{\"metric\":{\"__name__\":\"m_v\",\"dc\":\"x\","
                     "\"host\":\"a\"},\"value\":[%lld,\"1.5\"]},"
                     "{\"metric\":{\"__name__\":\"m_v\",\"host\":\"b\"},\"value\":[%lld,\"2\"]}]}"),
             (long long)now / 1000, (long long)now / 1000);
    cr_assert_str_eq(get(target, 200), expected);
    cr_assert_str_eq(get("/api/v1/query?query=1%2B1&time=4", 200),
                     SUCCESS("{\"resultType\":\"scalar\",\"result\":[4,\"2\"]}"));
    cr_assert_str_eq(get("/api/v1/query?query=%22a%3C%22&time=4.5", 200),
                     SUCCESS("{\"resultType\":\"string\",\"result\":[4.500,\"a\\u003c\"]}"));
    snprintf(target, sizeof target, "/api/v1/query?query=n_w[1m]&time=%lld", (long long)now / 1000);
    snprintf(expected, sizeof expected,
             SUCCESS("{\"resultType\":\"matrix\",\"result\":[{\"metric\":{\"__name__\":\"n_w\",\"host\":"
                     "\"a\"},\"values\":[[%lld,\"0.1\"]]}]}"),
             (long long)now / 1000 - 1);
    cr_assert_str_eq(get(target, 200), expected);
    cr_assert_str_eq(get("/api/v1/query_range?query=vector(1)&start=0&end=2&step=1", 200),
                     SUCCESS("{\"resultType\":\"matrix\",\"result\":[{\"metric\":{},\"values\":[[0,\"1\"],[1,"
                             "\"1\"],[2,\"1\"]]}]}"));
    cr_assert_str_eq(get("/api/v1/query?query=nothing", 200),
                     SUCCESS("{\"resultType\":\"vector\",\"result\":[]}"));
}

Test(api, a_query_may_be_posted_as_a_form)
{
    static const char *const form[] = {"Content-Type", "application/x-www-form-urlencoded", NULL};
    cr_assert_eq(http_world_call(&world, "POST /api/v1/query?time=4", form, KV_STR("query=1%2B1")), 200);
    cr_assert_str_eq(http_world_text(&world), SUCCESS("{\"resultType\":\"scalar\",\"result\":[4,\"2\"]}"));
}

Test(api, a_limit_cuts_series_and_warns)
{
    const char *text = get("/api/v1/query?query=m_v&limit=1", 200);
    cr_assert(strstr(text, "\"host\":\"a\"") && !strstr(text, "\"host\":\"b\""));
    cr_assert(strstr(text, "]},\"warnings\":[\"results truncated due to limit\"]}"), "%s", text);
    cr_assert(
        strstr(get("/api/v1/labels?limit=1", 200), "\"warnings\":[\"results truncated due to limit\"]"));
}

Test(api, statistics_come_when_asked_for)
{
    cJSON *json = cJSON_Parse(get("/api/v1/query?query=m_v&stats=all", 200));
    cJSON *stats = cJSON_GetObjectItem(cJSON_GetObjectItem(json, "data"), "stats");
    cr_assert(cJSON_GetObjectItem(cJSON_GetObjectItem(stats, "timings"), "evalTotalTime"));
    cr_assert(
        cJSON_GetObjectItem(cJSON_GetObjectItem(stats, "samples"), "totalQueryableSamples")->valuedouble >=
        2);
    cJSON_Delete(json);
    cr_assert_null(strstr(get("/api/v1/query?query=m_v", 200), "stats"));
}

Test(api, series_labels_and_values)
{
    cr_assert_str_eq(get("/api/v1/series?match[]=n_w", 200),
                     SUCCESS("[{\"__name__\":\"n_w\",\"host\":\"a\"}]"));
    cr_assert_str_eq(get("/api/v1/labels", 200), SUCCESS("[\"__name__\",\"dc\",\"host\"]"));
    cr_assert_str_eq(get("/api/v1/labels?match[]=n_w", 200), SUCCESS("[\"__name__\",\"host\"]"));
    cr_assert_str_eq(get("/api/v1/label/host/values", 200), SUCCESS("[\"a\",\"b\"]"));
    cr_assert_str_eq(get("/api/v1/label/__name__/values?match[]={host=%22a%22}", 200),
                     SUCCESS("[\"m_v\",\"n_w\"]"));
    cr_assert_str_eq(get("/api/v1/label/none/values", 200), SUCCESS("[]"));
    cr_assert_str_eq(get("/api/v1/label/host/values?start=0&end=1", 200), SUCCESS("[]"));
}

Test(api, names_may_be_escaped_with_u)
{
    cr_assert_eq(http_world_call(&world, "POST /write", NULL, KV_STR("m,a.b\\ c_d=x,\xc3\xa9=y v=1")), 204);
    cr_assert_str_eq(get("/api/v1/label/U__a_2e_b_20_c__d/values", 200), SUCCESS("[\"x\"]"));
    cr_assert_str_eq(get("/api/v1/label/U___e9_/values", 200), SUCCESS("[\"y\"]"));
    cr_assert_str_eq(get("/api/v1/label/U__a_zz_b/values", 200), SUCCESS("[]"), "badly escaped: itself");
}

Test(api, shapes_of_what_is_not_there)
{
    static const struct {
        const char *target, *data;
    } cases[] = {
        {"/api/v1/rules", SUCCESS("{\"groups\":[]}")},
        {"/api/v1/rules?type=alert", SUCCESS("{\"groups\":[]}")},
        {"/api/v1/alerts", SUCCESS("{\"alerts\":[]}")},
        {"/api/v1/alertmanagers", SUCCESS("{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}")},
        {"/api/v1/targets",
         SUCCESS("{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":{}}")},
        {"/api/v1/scrape_pools", SUCCESS("{\"scrapePools\":[]}")},
        {"/api/v1/query_exemplars?query=up&start=0&end=1", SUCCESS("[]")},
        {"/api/v1/metadata", SUCCESS("{}")}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_assert_str_eq(get(cases[i].target, 200), cases[i].data);
    cr_assert_str_eq(get("/api/v1/rules/test/test", 404), "404 page not found\n");
}

Test(api, build_information_is_strings_without_features)
{
    cJSON *json = cJSON_Parse(get("/api/v1/status/buildinfo", 200)), *item;
    cJSON *data = cJSON_GetObjectItem(json, "data");
    cr_assert_null(cJSON_GetObjectItem(data, "features"));
    cJSON_ArrayForEach(item, data)
    {
        cr_assert(cJSON_IsString(item));
    }
    cr_assert_eq(cJSON_GetArraySize(data), 6);
    cJSON_Delete(json);
    json = cJSON_Parse(get("/api/v1/status/runtimeinfo", 200));
    cr_assert(cJSON_GetObjectItem(cJSON_GetObjectItem(json, "data"), "startTime"));
    cJSON_Delete(json);
    json = cJSON_Parse(get("/api/v1/status/tsdb", 200));
    cr_assert_eq(
        cJSON_GetObjectItem(cJSON_GetObjectItem(cJSON_GetObjectItem(json, "data"), "headStats"), "numSeries")
            ->valueint,
        3);
    cJSON_Delete(json);
}

Test(api, cardinality_has_prometheus_shape_and_growth_when_asked)
{
    char target[200], day[20];
    time_t seconds = (time_t)(now / 1000 - 1);
    struct tm tm;
    cJSON *json = cJSON_Parse(get("/api/v1/status/tsdb?limit=2", 200));
    cJSON *data = cJSON_GetObjectItem(json, "data"), *head = cJSON_GetObjectItem(data, "headStats");
    static const char *const names[] = {"numSeries", "numLabelPairs", "chunkCount", "minTime", "maxTime"};
    for (int i = 0; i < 5; i++)
        cr_assert_str_eq(cJSON_GetArrayItem(head, i)->string, names[i]);
    cr_assert_eq(cJSON_GetObjectItem(head, "numSeries")->valueint, 3);
    cr_assert_eq(cJSON_GetObjectItem(head, "numLabelPairs")->valueint, 5);
    cr_assert_eq(cJSON_GetArraySize(data), 5);
    cJSON_Delete(json);
    cr_assert(
        strstr(
            http_world_text(&world),
            "},\"seriesCountByMetricName\":[{\"name\":\"m_v\",\"value\":2},{\"name\":\"n_w\",\"value\":1}],"
            "\"labelValueCountByLabelName\":[{\"name\":\"__name__\",\"value\":2},{\"name\":\"host\","
            "\"value\":2}"
            "],\"memoryInBytesByLabelName\":[{\"name\":\"__name__\",\"value\":9},{\"name\":\"host\","
            "\"value\":3}]"
            ",\"seriesCountByLabelValuePair\":[{\"name\":\"__name__=m_v\",\"value\":2},{\"name\":\"host=a\","
            "\"value\":2}]}}"),
        "%s", http_world_text(&world));
    gmtime_r(&seconds, &tm);
    strftime(day, sizeof day, "%Y-%m-%d", &tm);
    snprintf(target, sizeof target, "/api/v1/status/tsdb?match[]=n_w&growth=1&date=%s", day);
    const char *text = get(target, 200);
    cr_assert(strstr(text, "\"seriesCountByMetricName\":[{\"name\":\"n_w\",\"value\":1}]"), "%s", text);
    cr_assert(
        strstr(text,
               "],\"newSeries\":[1],\"newSeriesByMetricName\":[{\"name\":\"n_w\",\"value\":1,\"byDay\":[1]}],"
               "\"newSeriesByLabelValuePair\":[{\"name\":\"__name__=n_w\",\"value\":1,\"byDay\":[1]},"
               "{\"name\":\"host=a\",\"value\":1,\"byDay\":[1]}]}}}"),
        "%s", text);
    cr_assert(strstr(text, "\"growth\":{\"days\":[\"") && strstr(text, day), "%s", text);
    text = get("/api/v1/status/tsdb?date=2001-02-03", 200);
    cr_assert(strstr(text, "\"numSeries\":0,"), "%s", text);
    json = cJSON_Parse(get("/api/v1/status/tsdb?growth=true", 200));
    cJSON *growth = cJSON_GetObjectItem(cJSON_GetObjectItem(json, "data"), "growth");
    cr_assert_eq(cJSON_GetArraySize(cJSON_GetObjectItem(growth, "newSeries")), 7);
    cJSON_Delete(json);
}

Test(api, queries_are_formatted)
{
    cr_assert_str_eq(get("/api/v1/format_query?query=sum(rate(x[5m]))by(a)", 200),
                     SUCCESS("\"sum by (a) (rate(x[5m]))\""));
}

Test(api, health_in_both_dialects)
{
    cr_assert_str_eq(get("/-/healthy", 200), "Prometheus Server is Healthy.\n");
    cr_assert_str_eq(get("/-/ready", 200), "Prometheus Server is Ready.\n");
    get("/ping", 204);
    cr_assert(world.reply.n_headers >= 1);
    cr_assert_str_eq(world.reply.headers[0].name, "X-Influxdb-Version");
    cr_assert(strncmp(world.reply.headers[0].value, "1.8", 3) == 0);
    cr_assert(strstr(get("/health", 200), "\"status\":\"pass\""));
    post("/query?q=CREATE%20DATABASE%20%22telegraf%22", 200);
    cJSON *json = cJSON_Parse(http_world_text(&world));
    cr_assert(cJSON_GetObjectItem(json, "results"));
    cJSON_Delete(json);
    post("/query?q=SELECT%201", 400);
    world.app.stopping = true;
    get("/-/ready", 503);
    get("/-/healthy", 200);
}

Test(api, metrics_are_in_the_text_format)
{
    const char *text = get("/metrics", 200);
    cr_assert_str_eq(world.reply.content_type, "text/plain; version=0.0.4; charset=utf-8");
    cr_assert(
        strstr(text, "# TYPE tidemark_samples_appended_total counter\ntidemark_samples_appended_total 3\n"),
        "%s", text);
    cr_assert(strstr(text, "\ntidemark_samples_rejected_total{reason=\"too_old\"} 0\n"));
    cr_assert(strstr(text, "\nkv_log_syncs_total "));
    /* every line is a comment or name[{labels}] value, and no name comes back after another */
    char seen[300][96];
    size_t n = 0;
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        if (strncmp(line, "# TYPE ", 7) != 0)
            continue;
        char name[96];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(line + 7, " "), line + 7);
        for (size_t i = 0; i < n; i++)
            cr_assert(strcmp(seen[i], name) != 0, "%s twice", name);
        cr_assert(n < 300);
        memcpy(seen[n++], name, sizeof name);
    }
}

Test(api, deleted_series_are_gone)
{
    post("/api/v1/admin/tsdb/delete_series?match[]=m_v", 204);
    cr_assert_str_eq(get("/api/v1/query?query=m_v", 200),
                     SUCCESS("{\"resultType\":\"vector\",\"result\":[]}"));
    cr_assert_eq(http_world_value(&world, "n_w"), 0.1);
    post("/api/v1/admin/tsdb/clean_tombstones", 204);
    cr_assert(isnan(http_world_value(&world, "m_v")));
    cr_assert_eq(http_world_value(&world, "n_w"), 0.1);
}

Test(api, flushing_and_settling_change_no_answer)
{
    post("/api/v1/admin/flush", 204);
    cr_assert_eq(http_world_value(&world, "sum(m_v)"), 3.5);
    post("/api/v1/admin/flush?settle=1", 204);
    cr_assert_eq(http_world_value(&world, "sum(m_v)"), 3.5);
    post("/api/v1/admin/clock?confirm=1", 204);
}

Test(api, a_dry_run_of_retention_says_what_would_go_and_changes_nothing)
{
    post("/api/v1/admin/flush", 204);
    cr_assert_str_eq(get("/api/v1/admin/retention?dry_run=1", 200),
                     SUCCESS("{\"samples\":0,\"bytes\":0,\"days\":[]}"));
    cr_assert(strstr(get("/api/v1/admin/retention", 400), "dry_run=1"));
    cr_assert(strstr(get("/api/v1/admin/retention?dry_run=1&rule=up", 400), "SELECTOR=TIME"));
    cr_assert(strstr(get("/api/v1/admin/retention?dry_run=1&rule=%7Ba==1d", 400), "parse error"));
    cr_assert(strstr(get("/api/v1/admin/retention?dry_run=1&retention=x", 400), "retention"));
    const char *all = get("/api/v1/admin/retention?dry_run=1&retention=1ms&rule=m_v=inf", 200);
    cr_assert(strstr(all, "\"rule\":\"retention\"") && !strstr(all, "m_v"), "%s", all);
    cr_assert(strstr(get("/api/v1/admin/retention?dry_run=1&rule=m_v=1ms", 200), "\"rule\":\"rule m_v\""));
    cr_assert_eq(http_world_value(&world, "n_w"), 0.1);
}

Test(api, a_snapshot_is_a_store)
{
    post("/api/v1/admin/tsdb/snapshot", 200);
    cJSON *json = cJSON_Parse(http_world_text(&world));
    const char *path = cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetObjectItem(json, "data"), "path"));
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetObjectItem(json, "data"), "name"));
    cr_assert(path && name && strstr(path, name));
    struct ts_options options = {.must_exist = true, .retention_ms = INT64_MAX};
    struct ts_db *copy;
    struct kv_err err = {0};
    cr_assert_eq(ts_open(world.env, path, &options, &copy, &err), KV_OK, "%s", err.text);
    struct ts_stats stats;
    ts_stats(copy, &stats);
    cr_assert_eq(stats.series, 3);
    cr_assert_eq(ts_close(copy, &err), KV_OK);
    cJSON_Delete(json);
}

/* ---- through a socket ------------------------------------------------------------------------------------------------ */

Test(api, every_answer_carries_cors_headers)
{
    uint16_t port = http_world_serve(&world, NULL);
    static const char *const lines[] = {"GET /api/v1/query?query=1", "GET /nope", "OPTIONS /api/v1/query",
                                        "POST /write", "GET /api/v1/query?query=("};
    for (size_t i = 0; i < 5; i++) {
        struct raw_reply reply;
        raw_request(port, lines[i], "Origin: http://grafana\r\n", (kv_slice){0}, &reply);
        cr_assert_str_eq(raw_header(&reply, "Access-Control-Allow-Origin"), "*", "%s", lines[i]);
        cr_assert_str_eq(raw_header(&reply, "Access-Control-Allow-Methods"), "GET, POST, OPTIONS");
        cr_assert_str_eq(raw_header(&reply, "X-Content-Type-Options"), "nosniff");
        raw_reply_release(&reply);
    }
}

static void inflate_reply(const struct raw_reply *reply, struct kv_buf *out)
{
    z_stream z = {.next_in = reply->body.data, .avail_in = (uInt)reply->body.len};
    cr_assert_eq(inflateInit2(&z, 31), Z_OK);
    int rc = Z_OK;
    while (rc == Z_OK) {
        cr_assert_eq(kv_buf_reserve(out, 1 << 16), KV_OK);
        z.next_out = out->data + out->len;
        z.avail_out = 1 << 16;
        rc = inflate(&z, Z_NO_FLUSH);
        out->len += (1u << 16) - z.avail_out;
    }
    cr_assert_eq(rc, Z_STREAM_END);
    inflateEnd(&z);
}

Test(api, long_answers_are_streamed_whole_plain_and_compressed)
{
    uint16_t port = http_world_serve(&world, NULL);
    static const char target[] = "GET "
                                 "/api/v1/"
                                 "query_range?query=vector(1)%20or%20label_replace(vector(2),%22a%22,%22b%22,"
                                 "%22%22,%22%22)&start=0&end=10999&step=1";
    struct raw_reply plain, packed, close_behind;
    struct kv_buf out = {0};
    raw_request(port, target, "", (kv_slice){0}, &plain);
    cr_assert_eq(plain.status, 200);
    cr_assert_str_eq(raw_header(&plain, "Transfer-Encoding"), "chunked");
    cr_assert(plain.body.len > 200000);
    cJSON *json = cJSON_ParseWithLength((char *)plain.body.data, plain.body.len);
    cJSON *result = cJSON_GetObjectItem(cJSON_GetObjectItem(json, "data"), "result");
    cr_assert_eq(cJSON_GetArraySize(result), 2);
    cr_assert_eq(cJSON_GetArraySize(cJSON_GetObjectItem(cJSON_GetArrayItem(result, 0), "values")), 11000);
    cr_assert_eq(cJSON_GetArraySize(cJSON_GetObjectItem(cJSON_GetArrayItem(result, 1), "values")), 11000);
    cJSON_Delete(json);
    raw_request(port, target, "Accept-Encoding: deflate, gzip;q=0.5\r\n", (kv_slice){0}, &packed);
    cr_assert_str_eq(raw_header(&packed, "Content-Encoding"), "gzip");
    cr_assert(packed.body.len < plain.body.len / 3);
    inflate_reply(&packed, &out);
    cr_assert(kv_slice_equal(kv_buf_slice(&out), kv_buf_slice(&plain.body)));
    raw_request(port, "GET /metrics", "Accept-Encoding: gzip\r\n", (kv_slice){0}, &close_behind);
    cr_assert_str_eq(raw_header(&close_behind, "Content-Encoding"), "gzip");
    cr_assert(raw_header(&close_behind, "Content-Length"));
    kv_buf_clear(&out);
    inflate_reply(&close_behind, &out);
    cr_assert(memmem(out.data, out.len, "tidemark_series", 15));
    raw_reply_release(&close_behind);
    raw_request(port, "GET /metrics", "Accept-Encoding: gzip;q=0\r\n", (kv_slice){0}, &close_behind);
    cr_assert_null(raw_header(&close_behind, "Content-Encoding"));
    raw_reply_release(&close_behind);
    raw_reply_release(&plain);
    raw_reply_release(&packed);
    kv_buf_release(&out);
}

Test(api, a_connection_serves_many_requests)
{
    uint16_t port = http_world_serve(&world, NULL);
    int fd = raw_connect(port);
    for (int i = 0; i < 50; i++) {
        static const char line[] = "m v=1";
        char text[200];
        int n =
            snprintf(text, sizeof text, "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
                     sizeof line - 1, line);
        struct raw_reply reply;
        raw_send(fd, text, (size_t)n);
        raw_receive(fd, &reply, false, 0);
        cr_assert_eq(reply.status, 204);
        raw_reply_release(&reply);
    }
    cr_assert_eq(world.metrics.connections_total, 1);
    close(fd);
}

Test(api, a_stopping_server_finishes_what_it_began)
{
    uint16_t port = http_world_serve(&world, NULL);
    int fd = raw_connect(port);
    struct raw_reply reply;
    static const char head[] =
        "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\nExpect: 100-continue\r\n\r\n";
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n"; /* it has the head, so it has begun */
    char got[sizeof go_on];
    raw_send(fd, head, sizeof head - 1);
    cr_assert_eq(recv(fd, got, sizeof go_on - 1, MSG_WAITALL), (ssize_t)sizeof go_on - 1);
    cr_assert(memcmp(got, go_on, sizeof go_on - 1) == 0);
    raw_send(fd, "m v=42\n", 7);
    http_server_stop(world.server, 5000);
    raw_receive(fd, &reply, false, 0);
    cr_assert_eq(reply.status, 204);
    raw_reply_release(&reply);
    close(fd);
    cr_assert_eq(http_world_value(&world, "m_v{host=\"\"}"), 42);
    http_server_free(world.server);
    world.server = NULL;
}
