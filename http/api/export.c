/* export.c - GET /api/v1/export: stored samples as they are, streamed piece by piece. */
#include "http/export.h"
#include "http/api/app.h"
#include "http/params.h"
#include "kvcore/base/mem.h"

enum { PIECE_BYTES = 64 << 10 };

struct export_stream {
    struct http_app *app;
    struct ts_export *walk;
    enum http_export_format format;
    struct ts_series_points piece; /* the one at hand */
    size_t at;                     /* of it, samples sent */
    uint64_t left_out;
    bool finished;
};

static void stream_done(void *ctx)
{
    struct export_stream *s = ctx;
    ts_export_close(s->walk);
    kv_free(s);
}

static kv_status stream_next(void *ctx, struct kv_buf *out)
{
    struct export_stream *s = ctx;
    size_t full = out->len + PIECE_BYTES;
    kv_status rc = s->finished ? KV_END : KV_OK;
    while (rc == KV_OK && !s->finished && out->len < full) {
        size_t left = s->piece.n - s->at;
        size_t n = left < HTTP_EXPORT_LINE_SAMPLES ? left : HTTP_EXPORT_LINE_SAMPLES;
        if (n > 0) {
            rc = http_export_piece(s->format, &s->piece, s->at, n, out, &s->left_out);
            s->at += n;
            continue;
        }
        s->at = 0;
        s->piece.n = 0;
        struct kv_err err = {0};
        rc = ts_export_next(s->walk, &s->piece, &err);
        if (rc < 0 && rc != KV_CANCELED && s->app->log) /* the client sees no more than a cut connection */
            kv_logf(s->app->log, KV_LOG_ERROR, "export_failed", "error=%s", KV_LOGQ(err.text));
        if (rc == KV_END) {
            s->finished = true;
            rc = http_export_end(s->format, out);
        }
    }
    return rc;
}

static bool export_canceled(void *ctx)
{
    const struct http_request *request = ctx;
    return request->canceled && request->canceled(request->canceled_ctx);
}

static kv_status read_params(struct http_request *request, struct ts_walk_options *options,
                             enum http_export_format *format, struct kv_err *err)
{
    kv_slice *matches, name;
    kv_status rc;
    KV_TRY(http_request_param_all(request, "match[]", &matches, &options->n_selectors, err));
    options->selectors = matches;
    KV_TRY(http_param_time(request, "start", INT64_MIN, &options->from_ms, err));
    KV_TRY(http_param_time(request, "end", INT64_MAX, &options->to_ms, err));
    if (options->to_ms < options->from_ms)
        return kv_fail(err, KV_INVALID, 0,
                       "invalid parameter \"end\": end timestamp must not be before start time");
    KV_TRY(http_request_param(request, "format", &name, err));
    if (!http_export_named(name, format))
        return kv_fail(err, KV_INVALID, 0,
                       "invalid parameter \"format\": known are json, prometheus, openmetrics");
out:
    return rc;
}

void http_api_export(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct kv_err err = {0};
    struct ts_query_err query_err = {0};
    enum http_export_format format = HTTP_EXPORT_JSON;
    struct ts_walk_options options = {.canceled = export_canceled, .canceled_ctx = request};
    if (read_params(request, &options, &format, &err) < 0) {
        http_api_bad_param(reply, &err);
        return;
    }
    struct export_stream *s = kv_zalloc(1, sizeof *s);
    if (!s) {
        http_reply_failed(reply, KV_NO_MEMORY, "out of memory for one more export");
        return;
    }
    s->app = app;
    s->format = format;
    if (ts_export_open(app->db, &options, &s->walk, &query_err) < 0) {
        kv_free(s);
        http_api_query_failed(app, reply, "match[]", &query_err);
        return;
    }
    reply->status = 200;
    reply->content_type = http_export_content_type(format);
    reply->long_stream = true;
    reply->next = stream_next;
    reply->done = stream_done;
    reply->stream_ctx = s;
}
