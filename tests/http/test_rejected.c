/* What was refused: the ring, its endpoint, and how limits are answered. */
#include "tests/support/http_world.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdio.h>

static struct http_world world;

static const char *flag_of(kv_slice field)
{
    return kv_slice_equal(field, KV_STR("metric_series_max"))     ? "--metric-series-max"
           : kv_slice_equal(field, KV_STR("request_samples_max")) ? "--request-samples-max"
           : kv_slice_equal(field, KV_STR("query_memory_max"))    ? "--query-memory-max"
                                                                  : NULL;
}

static void open_with(struct ts_options options)
{
    http_world_open(&world, &options, KV_THREADS_NONE);
    world.app.option_name = flag_of;
}

static unsigned write_lines(const char *lines)
{
    static const char *const headers[] = {"User-Agent", "agent \"x\"/1.2", NULL};
    return http_world_call(&world, "POST /write", headers, kv_slice_str(lines));
}

/* The list that a GET of target answers; the caller deletes *root. */
static cJSON *rejected(const char *target, cJSON **root)
{
    char line[200];
    snprintf(line, sizeof line, "GET %s", target);
    cr_assert_eq(http_world_call(&world, line, NULL, (kv_slice){0}), 200, "%s", http_world_text(&world));
    *root = cJSON_Parse(http_world_text(&world));
    cJSON *list = cJSON_GetObjectItem(cJSON_GetObjectItem(*root, "data"), "rejected");
    cr_assert(cJSON_IsArray(list), "%s", http_world_text(&world));
    return list;
}

static const char *text_of(cJSON *list, int i, const char *field)
{
    return cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(list, i), field));
}

static double number_of(cJSON *list, int i, const char *field)
{
    return cJSON_GetObjectItem(cJSON_GetArrayItem(list, i), field)->valuedouble;
}

Test(rejected, refusals_are_listed_newest_first_with_sender_and_reason)
{
    cJSON *root;
    open_with((struct ts_options){.metric_series_max = 1});
    cr_assert_eq(write_lines("m,h=a v=1\nbad\nm,h=b v=1\n"), 400);
    cr_assert(strstr(http_world_text(&world), "raise --metric-series-max"), "%s", http_world_text(&world));
    cJSON *list = rejected("/api/v1/rejected", &root);
    cr_assert_eq(cJSON_GetArraySize(list), 2);
    cr_assert_str_eq(text_of(list, 0, "reason"), "metric_series_limit");
    cr_assert_str_eq(text_of(list, 0, "protocol"), "influx");
    cr_assert_str_eq(text_of(list, 0, "userAgent"), "agent \"x\"/1.2");
    cr_assert_eq(number_of(list, 0, "position"), 3);
    cr_assert_eq(number_of(list, 0, "samples"), 1);
    cr_assert(number_of(list, 0, "time") > 1.7e9);
    cr_assert_str_eq(text_of(list, 0, "error"),
                     "a new series of metric \"m_v\", which has 1, the most one metric "
                     "may have; raise --metric-series-max");
    cr_assert_str_eq(text_of(list, 1, "reason"), "malformed");
    cr_assert_eq(number_of(list, 1, "position"), 2);
    cJSON_Delete(root);
    list = rejected("/api/v1/rejected?limit=1", &root);
    cr_assert_eq(cJSON_GetArraySize(list), 1);
    cr_assert_str_eq(text_of(list, 0, "reason"), "metric_series_limit");
    cJSON_Delete(root);
    list = rejected("/api/v1/rejected?reason=malformed", &root);
    cr_assert_eq(cJSON_GetArraySize(list), 1);
    cr_assert_str_eq(text_of(list, 0, "reason"), "malformed");
    cr_assert_eq(cJSON_GetObjectItem(cJSON_GetObjectItem(root, "data"), "total")->valueint, 2);
    cJSON_Delete(root);
    cr_assert_eq(http_world_call(&world, "GET /api/v1/rejected?reason=nope", NULL, (kv_slice){0}), 400);
    cr_assert(strstr(http_world_text(&world), "invalid parameter \\\"reason\\\""), "%s",
              http_world_text(&world));
    cr_assert_eq(http_world_call(&world, "GET /api/v1/rejected?limit=-1", NULL, (kv_slice){0}), 400);
    http_world_close(&world);
}

Test(rejected, a_body_refused_whole_stores_nothing_and_is_listed)
{
    cJSON *root;
    open_with((struct ts_options){.request_samples_max = 2});
    cr_assert_eq(write_lines("m a=1,b=1,c=1\n"), 413);
    cr_assert(strstr(http_world_text(&world),
                     "more than 2 samples: send smaller ones, or raise --request-samples-max"),
              "%s", http_world_text(&world));
    cr_assert_eq(write_lines("m a=1,b=1\n"), 204);
    cr_assert_eq(http_world_value(&world, "count({__name__=~\"m_.*\"})"), 2);
    cr_assert_eq(http_world_call(&world, "POST /api/v1/write", NULL, KV_STR("no snappy")), 400);
    cJSON *list = rejected("/api/v1/rejected", &root);
    cr_assert_eq(cJSON_GetArraySize(list), 2);
    cr_assert_str_eq(text_of(list, 0, "protocol"), "prom_write");
    cr_assert_str_eq(text_of(list, 0, "reason"), "malformed");
    cr_assert_str_eq(text_of(list, 1, "reason"), "request_limit");
    cr_assert_eq(number_of(list, 1, "position"), 0);
    cJSON_Delete(root);
    cr_assert_eq(http_world_call(&world, "GET /metrics", NULL, (kv_slice){0}), 200);
    cr_assert(
        strstr(http_world_text(&world), "tidemark_samples_rejected_total{reason=\"request_limit\"} 3\n"),
        "%s", http_world_text(&world));
    http_world_close(&world);
}

Test(rejected, too_many_new_series_a_second_are_429_only_if_nothing_was_stored)
{
    bool found = false;
    open_with((struct ts_options){.series_per_s_max = 1});
    cr_assert_eq(write_lines("m a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1,k=1\n"), 400);
    cr_assert(strstr(http_world_text(&world), "1 lines or samples rejected, 10 samples stored"), "%s",
              http_world_text(&world));
    cr_assert_eq(write_lines("m y=1,z=1\n"), 429);
    for (size_t i = 0; i < world.reply.n_headers; i++)
        found = found || (strcmp(world.reply.headers[i].name, "Retry-After") == 0 &&
                          strcmp(world.reply.headers[i].value, "1") == 0);
    cr_assert(found);
    cr_assert(strstr(http_world_text(&world), "new_series_rate") &&
                  strstr(http_world_text(&world), "too many requests"),
              "%s", http_world_text(&world));
    cr_assert_eq(write_lines("m a=2\n"), 204, "known series go on");
    http_world_close(&world);
}

Test(rejected, the_ring_keeps_the_newest_and_cuts_text_between_characters)
{
    struct http_rejected *ring;
    struct http_rejection r = {.reason = TS_REJECT_MALFORMED, .protocol = "influx"};
    char cut[4];
    cr_assert_eq(http_rejected_new(&ring), KV_OK);
    cr_assert(!http_rejected_before(ring, UINT64_MAX, TS_REJECT_NONE, &r));
    for (uint32_t i = 1; i <= HTTP_REJECTED_KEPT + 10; i++) {
        r.position = i;
        r.reason = i % 2 ? TS_REJECT_TOO_OLD : TS_REJECT_MALFORMED;
        http_rejected_add(ring, &r);
    }
    uint64_t before = UINT64_MAX, n = 0;
    while (http_rejected_before(ring, before, TS_REJECT_NONE, &r)) {
        cr_assert_eq(r.number, HTTP_REJECTED_KEPT + 10 - n);
        cr_assert_eq(r.position, r.number);
        before = r.number;
        n++;
    }
    cr_assert_eq(n, HTTP_REJECTED_KEPT);
    cr_assert_eq(before, 11);
    cr_assert(http_rejected_before(ring, 15, TS_REJECT_TOO_OLD, &r));
    cr_assert_eq(r.number, 13);
    cr_assert_eq(http_rejected_count(ring), HTTP_REJECTED_KEPT + 10);
    http_rejected_free(ring);
    http_rejected_text(KV_STR("a\xc3\xa9\xc3\xa9"), cut, sizeof cut);
    cr_assert_str_eq(cut, "a\xc3\xa9");
    http_rejected_text(KV_STR("a\xe2\x82\xac"), cut, sizeof cut);
    cr_assert_str_eq(cut, "a");
    http_rejected_text((kv_slice){0}, cut, sizeof cut);
    cr_assert_str_eq(cut, "");
}

Test(rejected, a_query_or_listing_past_its_memory_names_the_setting)
{
    static const char *const asks[] = {"GET /api/v1/query?query=%7Bi%3D~%22.%2B%22%7D&time=1700000000",
                                       "GET /api/v1/series?match[]=%7Bi%3D~%22.%2B%22%7D",
                                       "GET /api/v1/label/i/values", "GET /api/v1/labels",
                                       "GET /api/v1/export?match[]=%7Bi%3D~%22.%2B%22%7D"};
    open_with((struct ts_options){.query_memory_max = 2000, .retention_ms = INT64_MAX});
    for (int i = 0; i < 400; i++) {
        char line[100];
        snprintf(line, sizeof line, "up%d,i=%d,name%d=x v=1 1700000000000000000\n", i, i, i);
        cr_assert_eq(write_lines(line), 204, "%s", http_world_text(&world));
    }
    for (size_t i = 0; i < sizeof asks / sizeof *asks; i++) {
        unsigned status = http_world_call(&world, asks[i], NULL, (kv_slice){0});
        cr_assert_eq(status, 422, "%s: %u %s", asks[i], status, http_world_text(&world));
        cr_assert(strstr(http_world_text(&world), "more than 2000 bytes of memory") &&
                      strstr(http_world_text(&world), "raise --query-memory-max"),
                  "%s: %s", asks[i], http_world_text(&world));
    }
    http_world_close(&world);
}
