/*
 * cardinality.c - status/tsdb: the counts Prometheus answers, and beyond it of chosen series and days (match[], start, end,
 * date) and of new series day by day (growth).
 */
#include "http/api/app.h"
#include "http/json.h"
#include "http/params.h"

#include <stdio.h>
#include <time.h>

#define DAY_MS INT64_C(86400000)
enum { GROWTH_DAYS_DEFAULT = 7 };

static void list(struct http_json *json, const char *key, const struct ts_count_list *counts, size_t n_days)
{
    http_json_raw(json, kv_slice_str(key));
    for (size_t i = 0; i < counts->n; i++) {
        const struct ts_count *c = &counts->at[i];
        struct kv_buf pair = {0};
        kv_slice name = c->name;
        if (c->value.len > 0 && kv_buf_printf(&pair, "%.*s=%.*s", KV_ARG(c->name), KV_ARG(c->value)) == KV_OK)
            name = kv_buf_slice(&pair);
        http_json_raw(json, kv_slice_str(i ? ",{\"name\":" : "{\"name\":"));
        http_json_string(json, name);
        HTTP_JSON_RAW(json, ",\"value\":");
        http_json_uint(json, c->count);
        for (size_t day = 0; c->by_day && day < n_days; day++) {
            http_json_raw(json, kv_slice_str(day ? "," : ",\"byDay\":["));
            http_json_uint(json, c->by_day[day]);
        }
        http_json_raw(json, kv_slice_str(c->by_day ? "]}" : "}"));
        kv_buf_release(&pair);
    }
    HTTP_JSON_RAW(json, "]");
}

static void head_stats(struct http_json *json, struct http_app *app, const struct ts_cardinality *c)
{
    struct ts_stats stats;
    ts_stats(app->db, &stats);
    bool any = stats.time_min_ms <= stats.time_max_ms;
    HTTP_JSON_RAW(json, "{\"headStats\":{\"numSeries\":");
    http_json_uint(json, c->series);
    HTTP_JSON_RAW(json, ",\"numLabelPairs\":");
    http_json_uint(json, c->label_pairs);
    HTTP_JSON_RAW(json, ",\"chunkCount\":");
    http_json_uint(json, stats.chunks);
    HTTP_JSON_RAW(json, ",\"minTime\":");
    http_json_int(json, any ? stats.time_min_ms : 0);
    HTTP_JSON_RAW(json, ",\"maxTime\":");
    http_json_int(json, any ? stats.time_max_ms : 0);
    HTTP_JSON_RAW(json, "}");
}

static void growth(struct http_json *json, const struct ts_cardinality *c)
{
    HTTP_JSON_RAW(json, ",\"growth\":{\"days\":[");
    for (size_t i = 0; i < c->n_days; i++) {
        char text[40];
        struct tm tm;
        time_t seconds = (time_t)((c->first_day_ms + (int64_t)i * DAY_MS) / 1000);
        gmtime_r(&seconds, &tm);
        size_t n = strftime(text, sizeof text, "%Y-%m-%d", &tm);
        http_json_raw(json, kv_slice_str(i ? "," : ""));
        http_json_string(json, kv_slice_of(text, n));
    }
    HTTP_JSON_RAW(json, "],\"newSeries\":[");
    for (size_t i = 0; i < c->n_days; i++) {
        http_json_raw(json, kv_slice_str(i ? "," : ""));
        http_json_uint(json, c->new_by_day[i]);
    }
    list(json, "],\"newSeriesByMetricName\":[", &c->new_by_metric, c->n_days);
    list(json, ",\"newSeriesByLabelValuePair\":[", &c->new_by_pair, c->n_days);
    HTTP_JSON_RAW(json, "}");
}

/* date=2026-11-29: that UTC day. */
static kv_status param_date(struct http_request *request, struct ts_cardinality_options *o,
                            struct kv_err *err)
{
    kv_slice date;
    char text[40];
    kv_status rc = http_request_param(request, "date", &date, err);
    if (rc < 0 || date.len == 0)
        return rc;
    int n = snprintf(text, sizeof text, "%.*sT00:00:00Z", date.len > 16 ? 16 : (int)date.len,
                     (const char *)date.data);
    if (o->ranged)
        return kv_fail(err, KV_INVALID, 0, "invalid parameter \"date\": it goes without start and end");
    if (date.len != strlen("2026-11-29") ||
        http_parse_time(kv_slice_of((const uint8_t *)text, (size_t)n), &o->from_ms) < 0)
        return kv_fail(err, KV_INVALID, 0, "invalid parameter \"date\": it takes a day like 2026-11-29");
    o->to_ms = o->from_ms + DAY_MS - 1;
    o->ranged = true;
    return KV_OK;
}

static kv_status param_range(struct http_request *request, struct ts_cardinality_options *o,
                             struct kv_err *err)
{
    int64_t now_ms = kv_clock_wall_ms(request->clock);
    kv_status rc;
    KV_TRY(http_param_time(request, "start", INT64_MIN, &o->from_ms, err));
    KV_TRY(http_param_time(request, "end", INT64_MAX, &o->to_ms, err));
    o->ranged = o->from_ms != INT64_MIN || o->to_ms != INT64_MAX;
    KV_TRY(param_date(request, o, err));
    if (o->ranged && o->to_ms < o->from_ms)
        return kv_fail(err, KV_INVALID, 0,
                       "invalid parameter \"end\": end timestamp must not be before start time");
    KV_TRY(http_param_bool(request, "growth", &o->growth, err));
    if (!o->growth)
        return KV_OK;
    o->ranged = true;
    o->to_ms = o->to_ms == INT64_MAX ? now_ms : o->to_ms;
    if (o->from_ms == INT64_MIN)
        o->from_ms = o->to_ms - (GROWTH_DAYS_DEFAULT - 1) * DAY_MS;
    if (o->to_ms < o->from_ms ||
        (uint64_t)o->to_ms - (uint64_t)o->from_ms > (TS_GROWTH_DAYS_MAX - 1) * DAY_MS)
        rc = kv_fail(err, KV_INVALID, 0, "invalid parameter \"start\": growth is told for less than %d days",
                     TS_GROWTH_DAYS_MAX);
out:
    return rc;
}

static kv_status params(struct http_app *app, struct http_request *request, struct ts_cardinality_options *o,
                        struct kv_err *err)
{
    enum { LIMIT_DEFAULT = 10 };
    uint64_t limit;
    kv_slice *matches;
    kv_status rc;
    KV_TRY(http_param_limit(request, "limit", LIMIT_DEFAULT, &limit, err));
    if (limit < 1 || limit > TS_CARDINALITY_TOP_MAX)
        return kv_fail(err, KV_INVALID, 0, "invalid parameter \"limit\": it must be from 1 to %d",
                       TS_CARDINALITY_TOP_MAX);
    KV_TRY(http_request_param_all(request, "match[]", &matches, &o->n_selectors, err));
    KV_TRY(param_range(request, o, err));
    o->selectors = matches;
    o->top = (uint32_t)limit;
    o->timeout_ms = app->query_timeout_ms;
    o->canceled = request->canceled;
    o->canceled_ctx = request->canceled_ctx;
out:
    return rc;
}

void http_api_tsdb(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct ts_cardinality_options options = {0};
    struct ts_cardinality *c;
    struct ts_query_err query_err;
    struct http_json json;
    struct kv_err err = {0};
    if (params(app, request, &options, &err) < 0) {
        http_api_bad_param(reply, &err);
        return;
    }
    if (ts_cardinality(app->db, &options, &c, &query_err) < 0) {
        http_count(&app->metrics->queries_canceled, query_err.type == TS_QUERY_CANCELED);
        http_api_query_failed(app, reply, "match[]", &query_err);
        return;
    }
    http_api_begin(&json, reply);
    head_stats(&json, app, c);
    list(&json, ",\"seriesCountByMetricName\":[", &c->series_by_metric, 0);
    list(&json, ",\"labelValueCountByLabelName\":[", &c->values_by_label, 0);
    list(&json, ",\"memoryInBytesByLabelName\":[", &c->bytes_by_label, 0);
    list(&json, ",\"seriesCountByLabelValuePair\":[", &c->series_by_pair, 0);
    if (options.growth)
        growth(&json, c);
    HTTP_JSON_RAW(&json, "}");
    http_api_end(&json, reply, NULL);
    ts_cardinality_free(c);
}
