/* admin.c - what changes or copies the store by hand. */
#include "http/api/app.h"
#include "http/json.h"
#include "http/params.h"

#include <stdio.h>
#include <time.h>

static void failed(struct http_reply *reply, kv_status rc, const struct kv_err *err)
{
    http_reply_failed(reply, rc, err->text[0] ? err->text : kv_status_text(rc));
}

void http_api_delete_series(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct kv_err err = {0};
    kv_slice *matches;
    size_t n;
    int64_t from = INT64_MIN, to = INT64_MAX;
    kv_status rc = http_request_param_all(request, "match[]", &matches, &n, &err);
    if (rc >= 0)
        rc = http_param_time(request, "start", INT64_MIN, &from, &err);
    if (rc >= 0)
        rc = http_param_time(request, "end", INT64_MAX, &to, &err);
    if (rc >= 0 && n == 0)
        rc = kv_fail(&err, KV_INVALID, 0, "no match[] parameter provided");
    if (rc >= 0 && to < from)
        rc = kv_fail(&err, KV_INVALID, 0,
                     "invalid parameter \"end\": end timestamp must not be before start time");
    if (rc >= 0)
        rc = ts_delete(app->db, matches, n, from, to, &err);
    if (rc < 0)
        failed(reply, rc, &err);
    else
        reply->status = 204;
}

/* Tombstones go when their windows are merged: settling merges every window now. */
void http_api_clean_tombstones(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct kv_err err = {0};
    (void)request;
    kv_status rc = ts_flush(app->db, true, &err);
    if (rc < 0)
        failed(reply, rc, &err);
    else
        reply->status = 204;
}

void http_api_flush(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct kv_err err = {0};
    bool settle = false;
    kv_status rc = http_param_bool(request, "settle", &settle, &err);
    if (rc >= 0)
        rc = ts_flush(app->db, settle, &err);
    if (rc < 0)
        failed(reply, rc, &err);
    else
        reply->status = 204;
}

void http_api_clock(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct kv_err err = {0};
    bool confirm = false;
    kv_status rc = http_param_bool(request, "confirm", &confirm, &err);
    if (rc >= 0 && !confirm)
        rc = kv_fail(
            &err, KV_INVALID, 0,
            "taking the wall clock over for retention can expire data: repeat with confirm=1 to do it");
    if (rc >= 0)
        rc = kv_retention_clock_accept(ts_kv(app->db), &err);
    if (rc < 0)
        failed(reply, rc, &err);
    else
        reply->status = 204;
}

/* "20261121T030812Z-9f86d081c3a5b2e4": sorts by time, and two of one second differ. */
static void snapshot_name(struct kv_clock *clock, char *out, size_t size)
{
    struct tm tm;
    uint64_t salt;
    time_t seconds = (time_t)(kv_clock_wall_ms(clock) / 1000);
    gmtime_r(&seconds, &tm);
    kv_clock_entropy(clock, &salt, sizeof salt);
    size_t n = strftime(out, size, "%Y%m%dT%H%M%SZ", &tm);
    snprintf(out + n, size - n, "-%016llx", (unsigned long long)salt);
}

void http_api_snapshot(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct kv_err err = {0};
    struct http_json json;
    struct kv_buf path = {0};
    char name[64];
    bool skip_head = false;
    kv_status rc = http_param_bool(request, "skip_head", &skip_head, &err);
    if (rc >= 0 && !app->data_dir)
        rc = kv_fail(&err, KV_UNSUPPORTED, 0, "this store has no directory to put a snapshot beside");
    snapshot_name(request->clock, name, sizeof name);
    if (rc >= 0)
        rc = kv_buf_printf(&path, "%s.snapshot-%s", app->data_dir, name);
    if (rc >= 0 && (rc = kv_buf_append_byte(&path, 0)) >= 0)
        rc = ts_snapshot(app->db, (const char *)path.data, skip_head, &err);
    if (rc < 0) {
        failed(reply, rc, &err);
    } else {
        http_api_begin(&json, reply);
        HTTP_JSON_RAW(&json, "{\"name\":");
        http_json_str(&json, name);
        HTTP_JSON_RAW(&json, ",\"path\":");
        http_json_str(&json, (const char *)path.data);
        HTTP_JSON_RAW(&json, "}");
        http_api_end(&json, reply, NULL);
    }
    kv_buf_release(&path);
}
