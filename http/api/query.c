/* query.c - query and query_range: parameters in, a result streamed out series by series. */
#include "http/api/app.h"
#include "http/json.h"
#include "http/params.h"
#include "kvcore/base/mem.h"

enum { PIECE_BYTES = 64 << 10, POINTS_MAX = 11000 };

/* A result on its way out. */
struct query_stream {
    struct ts_result *result;
    size_t count; /* series to send */
    size_t at;    /* the series being sent */
    size_t point; /* of it, points sent */
    bool started, finished, truncated, stats;
};

static void stream_done(void *ctx)
{
    struct query_stream *s = ctx;
    ts_result_free(s->result);
    kv_free(s);
}

static void write_head(struct query_stream *s, struct http_json *json)
{
    static const char *const names[] = {[TS_RESULT_SCALAR] = "scalar",
                                        [TS_RESULT_STRING] = "string",
                                        [TS_RESULT_VECTOR] = "vector",
                                        [TS_RESULT_MATRIX] = "matrix"};
    enum ts_result_type type = ts_result_type(s->result);
    HTTP_JSON_RAW(json, "{\"status\":\"success\",\"data\":{\"resultType\":");
    http_json_str(json, names[type]);
    HTTP_JSON_RAW(json, ",\"result\":");
    if (type == TS_RESULT_VECTOR || type == TS_RESULT_MATRIX) {
        HTTP_JSON_RAW(json, "[");
        return;
    }
    s->count = 0;
    if (type == TS_RESULT_STRING) {
        int64_t time_ms;
        kv_slice text = ts_result_string(s->result, &time_ms);
        HTTP_JSON_RAW(json, "[");
        http_json_time(json, time_ms);
        HTTP_JSON_RAW(json, ",");
        http_json_string(json, text);
        HTTP_JSON_RAW(json, "]");
        return;
    }
    struct ts_series_points points;
    ts_result_series(s->result, 0, &points);
    http_json_point(json, points.times_ms[0], points.values[0]);
}

static void write_notes(struct http_json *json, const char *key, const char *extra, size_t n,
                        kv_slice (*note)(const struct ts_result *, size_t), const struct ts_result *result)
{
    if (n == 0 && !extra)
        return;
    http_json_raw(json, kv_slice_str(key));
    if (extra)
        http_json_str(json, extra);
    for (size_t i = 0; i < n; i++) {
        if (i || extra)
            HTTP_JSON_RAW(json, ",");
        http_json_string(json, note(result, i));
    }
    HTTP_JSON_RAW(json, "]");
}

static void write_stats(struct http_json *json, const struct ts_result *result)
{
    struct ts_result_stats stats;
    ts_result_stats(result, &stats);
    HTTP_JSON_RAW(json, ",\"stats\":{\"timings\":{\"evalTotalTime\":");
    http_json_number(json, stats.seconds);
    HTTP_JSON_RAW(json, ",\"resultSortTime\":0,\"queryPreparationTime\":0,\"innerEvalTime\":");
    http_json_number(json, stats.seconds);
    HTTP_JSON_RAW(json, ",\"execQueueTime\":0,\"execTotalTime\":");
    http_json_number(json, stats.seconds);
    HTTP_JSON_RAW(json, "},\"samples\":{\"totalQueryableSamples\":");
    http_json_uint(json, stats.samples);
    HTTP_JSON_RAW(json, ",\"peakSamples\":");
    http_json_uint(json, stats.peak_bytes / 16);
    HTTP_JSON_RAW(json, "}}");
}

static void write_tail(struct query_stream *s, struct http_json *json)
{
    enum ts_result_type type = ts_result_type(s->result);
    if (type == TS_RESULT_VECTOR || type == TS_RESULT_MATRIX)
        HTTP_JSON_RAW(json, "]");
    if (s->stats)
        write_stats(json, s->result);
    HTTP_JSON_RAW(json, "}");
    write_notes(json, ",\"warnings\":[", s->truncated ? "results truncated due to limit" : NULL,
                ts_result_warnings(s->result), ts_result_warning, s->result);
    write_notes(json, ",\"infos\":[", NULL, ts_result_infos(s->result), ts_result_info, s->result);
    HTTP_JSON_RAW(json, "}");
    s->finished = true;
}

/* Some of the current series: its labels, then at least one point, until the buffer holds `full` bytes. */
static void write_series(struct query_stream *s, struct http_json *json, size_t full)
{
    struct ts_series_points p;
    bool vector = ts_result_type(s->result) == TS_RESULT_VECTOR;
    ts_result_series(s->result, s->at, &p);
    if (s->point == 0) {
        if (s->at)
            HTTP_JSON_RAW(json, ",");
        HTTP_JSON_RAW(json, "{\"metric\":");
        http_api_labels_json(json, p.labels, p.n_labels);
        if (vector)
            HTTP_JSON_RAW(json, ",\"value\":");
        else
            HTTP_JSON_RAW(json, ",\"values\":[");
    }
    for (bool more = p.n > 0; more; more = s->point < p.n && json->out->len < full && json->failed >= 0) {
        if (s->point)
            HTTP_JSON_RAW(json, ",");
        http_json_point(json, p.times_ms[s->point], p.values[s->point]);
        s->point++;
    }
    if (s->point < p.n)
        return;
    if (vector)
        HTTP_JSON_RAW(json, "}");
    else
        HTTP_JSON_RAW(json, "]}");
    s->at++;
    s->point = 0;
}

static kv_status stream_next(void *ctx, struct kv_buf *out)
{
    struct query_stream *s = ctx;
    struct http_json json;
    http_json_init(&json, out);
    if (s->finished)
        return KV_END;
    if (!s->started) {
        s->started = true;
        write_head(s, &json);
    }
    size_t full = out->len + PIECE_BYTES;
    while (s->at < s->count && out->len < full && json.failed >= 0)
        write_series(s, &json, full);
    if (s->at == s->count && json.failed >= 0)
        write_tail(s, &json);
    return json.failed;
}

/* ---- parameters -------------------------------------------------------------------------------------------------- */

static bool query_canceled(void *ctx)
{
    struct http_request *request = ctx;
    return request->canceled && request->canceled(request->canceled_ctx);
}

struct asked {
    kv_slice expr;
    struct ts_query_options options;
    uint64_t limit;
    bool stats;
};

static kv_status common_params(struct http_app *app, struct http_request *request, struct asked *asked,
                               struct kv_err *err)
{
    kv_slice stats;
    kv_status rc;
    struct ts_query_options *o = &asked->options;
    int64_t most = app->query_timeout_ms ? app->query_timeout_ms : 120000;
    o->samples_max = app->query_samples_max;
    o->features = app->features;
    o->points_max = POINTS_MAX;
    o->canceled = query_canceled;
    o->canceled_ctx = request;
    KV_TRY(http_request_param(request, "query", &asked->expr, err));
    KV_TRY(http_param_duration(request, "timeout", most, &o->timeout_ms, err));
    if (o->timeout_ms <= 0)
        return kv_fail(err, KV_INVALID, 0, "invalid parameter \"timeout\": it must be positive");
    o->timeout_ms = o->timeout_ms < most ? o->timeout_ms : most;
    KV_TRY(http_param_duration(request, "lookback_delta", app->lookback_ms, &o->lookback_ms, err));
    if (o->lookback_ms < 0)
        return kv_fail(err, KV_INVALID, 0, "invalid parameter \"lookback_delta\": it must not be negative");
    KV_TRY(http_param_limit(request, "limit", 0, &asked->limit, err));
    KV_TRY(http_request_param(request, "stats", &stats, err));
    asked->stats = stats.len > 0;
out:
    return rc;
}

static kv_status range_params(struct http_request *request, struct asked *asked, struct kv_err *err)
{
    struct ts_query_options *o = &asked->options;
    kv_slice start, end, step;
    kv_status rc;
    KV_TRY(http_request_param(request, "start", &start, err));
    KV_TRY(http_request_param(request, "end", &end, err));
    KV_TRY(http_request_param(request, "step", &step, err));
    if (http_parse_time(start, &o->start_ms) < 0)
        return kv_fail(err, KV_INVALID, 0,
                       "invalid parameter \"start\": cannot parse \"%.*s\" to a valid timestamp",
                       start.len > 80 ? 80 : (int)start.len, (const char *)start.data);
    if (http_parse_time(end, &o->end_ms) < 0)
        return kv_fail(err, KV_INVALID, 0,
                       "invalid parameter \"end\": cannot parse \"%.*s\" to a valid timestamp",
                       end.len > 80 ? 80 : (int)end.len, (const char *)end.data);
    if (o->end_ms < o->start_ms)
        return kv_fail(err, KV_INVALID, 0,
                       "invalid parameter \"end\": end timestamp must not be before start time");
    if (http_parse_duration(step, &o->step_ms) < 0)
        return kv_fail(err, KV_INVALID, 0,
                       "invalid parameter \"step\": cannot parse \"%.*s\" to a valid duration",
                       step.len > 80 ? 80 : (int)step.len, (const char *)step.data);
    if (o->step_ms <= 0)
        return kv_fail(
            err, KV_INVALID, 0,
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try "
            "a positive integer");
    if (((uint64_t)o->end_ms - (uint64_t)o->start_ms) / (uint64_t)o->step_ms > POINTS_MAX)
        return kv_fail(err, KV_INVALID, 0,
                       "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the "
                       "query resolution "
                       "(?step=XX)");
out:
    return rc;
}

static void run(struct http_app *app, struct http_request *request, struct http_reply *reply,
                const struct asked *asked)
{
    struct ts_query_err query_err = {0};
    struct query_stream *s = kv_zalloc(1, sizeof *s);
    (void)request;
    if (!s) {
        http_reply_failed(reply, KV_NO_MEMORY, "out of memory for one more query");
        return;
    }
    kv_status rc = ts_query(app->db, asked->expr, &asked->options, &s->result, &query_err);
    if (rc < 0) {
        kv_free(s);
        http_count(&app->metrics->queries_canceled, query_err.type == TS_QUERY_CANCELED);
        http_api_query_failed(app, reply, "query", &query_err);
        return;
    }
    struct ts_result_stats stats;
    ts_result_stats(s->result, &stats);
    http_count(&app->metrics->query_samples, stats.samples);
    s->count = ts_result_count(s->result);
    s->truncated = asked->limit && s->count > asked->limit;
    s->count = s->truncated ? (size_t)asked->limit : s->count;
    s->stats = asked->stats;
    reply->status = 200;
    reply->content_type = "application/json";
    reply->next = stream_next;
    reply->done = stream_done;
    reply->stream_ctx = s;
}

void http_api_query(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct asked asked = {0};
    struct kv_err err;
    kv_status rc = common_params(app, request, &asked, &err);
    if (rc >= 0)
        rc = http_param_time(request, "time", kv_clock_wall_ms(request->clock), &asked.options.end_ms, &err);
    if (rc < 0) {
        http_api_bad_param(reply, &err);
        return;
    }
    asked.options.start_ms = asked.options.end_ms;
    run(app, request, reply, &asked);
}

void http_api_query_range(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct asked asked = {.options.range = true};
    struct kv_err err;
    kv_status rc = range_params(request, &asked, &err);
    if (rc >= 0)
        rc = common_params(app, request, &asked, &err);
    if (rc < 0) {
        http_api_bad_param(reply, &err);
        return;
    }
    run(app, request, reply, &asked);
}
