#include "http/api/app.h"
#include "http/json.h"
#include "kvcore/base/mem.h"

#include <stdio.h>

kv_status http_app_init(struct http_app *app)
{
    kv_status rc = http_rejected_new(&app->rejected);
    if (rc < 0)
        return rc;
    app->started_ms = kv_clock_wall_ms(app->clock);
    app->n_sessions = 0;
    app->stopping = false;
    kv_mutex_init(&app->sessions_mutex);
    http_backup_init(&app->backup);
    return KV_OK;
}

static void session_free(struct http_session *session)
{
    http_inflater_free(session->inflater);
    http_decoder_free(session->prom_write);
    http_decoder_free(session->influx);
    http_decoder_free(session->json_lines);
    http_decoder_free(session->prom_text);
    ts_appender_free(session->appender);
    kv_buf_release(&session->inflated);
    kv_free(session);
}

void http_app_release(struct http_app *app)
{
    app->stopping = true;
    http_backup_release(&app->backup);
    while (app->n_sessions)
        session_free(app->sessions[--app->n_sessions]);
    kv_mutex_release(&app->sessions_mutex);
    http_rejected_free(app->rejected);
}

static kv_status session_new(struct http_app *app, struct http_session **out)
{
    kv_status rc;
    struct http_session *session = kv_zalloc(1, sizeof *session);
    if (!session)
        return KV_NO_MEMORY;
    KV_TRY(http_inflater_new(&session->inflater));
    KV_TRY(http_prom_write_new(&session->prom_write));
    KV_TRY(http_influx_new(&session->influx));
    KV_TRY(http_json_lines_new(&session->json_lines));
    KV_TRY(http_prom_text_new(&session->prom_text));
    KV_TRY(ts_appender_new(app->db, &session->appender));
    *out = session;
    return KV_OK;
out:
    session_free(session);
    return rc;
}

kv_status http_app_session_take(struct http_app *app, struct http_session **out)
{
    struct http_session *session = NULL;
    kv_mutex_lock(&app->sessions_mutex);
    if (app->n_sessions)
        session = app->sessions[--app->n_sessions];
    kv_mutex_unlock(&app->sessions_mutex);
    if (!session)
        return session_new(app, out);
    *out = session;
    return KV_OK;
}

void http_app_session_give(struct http_app *app, struct http_session *session)
{
    if (session->inflated.capacity > HTTP_SESSION_BYTES_KEPT)
        kv_buf_release(&session->inflated);
    kv_mutex_lock(&app->sessions_mutex);
    if (app->n_sessions < HTTP_SESSIONS_KEPT) {
        app->sessions[app->n_sessions++] = session;
        session = NULL;
    }
    kv_mutex_unlock(&app->sessions_mutex);
    if (session)
        session_free(session);
}

void http_api_begin(struct http_json *json, struct http_reply *reply)
{
    reply->status = 200;
    reply->content_type = "application/json";
    kv_buf_clear(&reply->body);
    http_json_init(json, &reply->body);
    HTTP_JSON_RAW(json, "{\"status\":\"success\",\"data\":");
}

void http_api_end(struct http_json *json, struct http_reply *reply, const char *warning)
{
    if (warning) {
        HTTP_JSON_RAW(json, ",\"warnings\":[");
        http_json_str(json, warning);
        HTTP_JSON_RAW(json, "]");
    }
    HTTP_JSON_RAW(json, "}");
    if (json->failed == KV_LIMIT)
        http_reply_error(reply, 422, "execution", "the answer is larger than the limit of %zu bytes",
                         reply->body.max);
    else if (json->failed < 0)
        http_reply_failed(reply, json->failed, "out of memory building the answer");
}

void http_api_bad_param(struct http_reply *reply, const struct kv_err *err)
{
    http_reply_failed(reply, err->code, err->text);
}

void http_api_query_failed(const struct http_app *app, struct http_reply *reply, const char *param,
                           const struct ts_query_err *err)
{
    char text[sizeof err->text + 64];
    http_api_option_names(app, err->text, text, sizeof text);
    switch (err->type) {
    case TS_QUERY_BAD_DATA:
        http_reply_error(reply, 400, "bad_data", "invalid parameter \"%s\": %s", param, text);
        break;
    case TS_QUERY_EXECUTION:
        http_reply_error(reply, 422, "execution", "%s", text);
        break;
    case TS_QUERY_TIMEOUT:
        http_reply_error(reply, 503, "timeout", "%s", text);
        break;
    case TS_QUERY_CANCELED:
        http_reply_error(reply, 499, "canceled", "%s", text);
        break;
    default:
        http_reply_error(reply, 503, "internal", "%s", text);
        if (err->code == KV_BUSY || err->code == KV_NO_MEMORY)
            http_reply_retry_after(reply, HTTP_RETRY_SECONDS);
    }
}

void http_api_option_names(const struct http_app *app, const char *text, char *out, size_t size)
{
    static const char mark[] = "ts_options.";
    size_t n = 0;
    while (*text && n + 1 < size) {
        size_t field = strncmp(text, mark, sizeof mark - 1) == 0
                           ? strspn(text + sizeof mark - 1, "abcdefghijklmnopqrstuvwxyz_")
                           : 0;
        const char *name = field > 0 && app->option_name
                               ? app->option_name(kv_slice_of((const uint8_t *)text + sizeof mark - 1, field))
                               : NULL;
        if (name) {
            n += (size_t)snprintf(out + n, size - n, "%s", name);
            n = n < size ? n : size - 1;
            text += sizeof mark - 1 + field;
        } else {
            out[n++] = *text++;
        }
    }
    out[n] = 0;
}

void http_api_labels_json(struct http_json *json, const struct ts_label *labels, size_t n)
{
    HTTP_JSON_RAW(json, "{");
    for (size_t i = 0; i < n; i++) {
        if (i)
            HTTP_JSON_RAW(json, ",");
        http_json_string(json, labels[i].name);
        HTTP_JSON_RAW(json, ":");
        http_json_string(json, labels[i].value);
    }
    HTTP_JSON_RAW(json, "}");
}
