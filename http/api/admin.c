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

/* ---- what retention would remove ----------------------------------------------------------------------- */

enum { RETENTION_ROWS_MAX = 100000, RETENTION_RULES_MAX = 63 };

struct retention_listing {
    struct http_json json;
    size_t rows;
    uint64_t samples, bytes;
};

static kv_status retention_row(void *ctx, const struct ts_retention_preview *row)
{
    struct retention_listing *l = ctx;
    struct http_json *json = &l->json;
    if (l->rows == RETENTION_ROWS_MAX)
        return KV_LIMIT;
    http_json_raw(json, l->rows++ ? KV_STR(",{\"start\":") : KV_STR("{\"start\":"));
    http_json_time(json, row->start_ms);
    HTTP_JSON_RAW(json, ",\"end\":");
    http_json_time(json, row->end_ms);
    HTTP_JSON_RAW(json, ",\"rule\":");
    http_json_str(json, row->rule);
    HTTP_JSON_RAW(json, ",\"keptFrom\":");
    http_json_time(json, row->floor_ms);
    HTTP_JSON_RAW(json, ",\"series\":");
    http_json_uint(json, row->series);
    HTTP_JSON_RAW(json, ",\"samples\":");
    http_json_uint(json, row->samples);
    HTTP_JSON_RAW(json, ",\"bytes\":");
    http_json_uint(json, row->bytes);
    HTTP_JSON_RAW(json, "}");
    l->samples += row->samples;
    l->bytes += row->bytes;
    return json->failed;
}

/* The rules asked about; *own: none, the store's. */
static kv_status retention_asked(struct http_request *request, int64_t *keep_ms,
                                 struct ts_retention_rule rules[RETENTION_RULES_MAX], size_t *n, bool *own,
                                 struct kv_err *err)
{
    kv_slice *texts, keep = {0};
    bool dry = false;
    kv_status rc;
    *keep_ms = 0;
    KV_TRY(http_param_bool(request, "dry_run", &dry, err));
    if (!dry)
        return kv_fail(
            err, KV_INVALID, 0,
            "this only tells what rules would remove: repeat with dry_run=1 (rules themselves are set "
            "with --retention-rule)");
    KV_TRY(http_request_param_all(request, "rule", &texts, n, err));
    if (*n > RETENTION_RULES_MAX)
        return kv_fail(err, KV_LIMIT, 0, "%zu rules, at most %d are taken", *n, RETENTION_RULES_MAX);
    for (size_t i = 0; i < *n; i++)
        if (http_parse_rule(texts[i], &rules[i]) < 0)
            return kv_fail(
                err, KV_INVALID, 0,
                "invalid parameter \"rule\": \"%.*s\", it takes SELECTOR=TIME, like {job=\"x\"}=7d",
                (int)(texts[i].len > 60 ? 60 : texts[i].len), (const char *)texts[i].data);
    KV_TRY(http_request_param(request, "retention", &keep, err));
    *own = *n == 0 && keep.len == 0;
    if (kv_slice_equal(keep, KV_STR("inf")))
        *keep_ms = INT64_MAX;
    else if (keep.len > 0 && (http_parse_duration(keep, keep_ms) < 0 || *keep_ms <= 0))
        return kv_fail(err, KV_INVALID, 0,
                       "invalid parameter \"retention\": it takes a time, like 30d, or inf");
    rc = KV_OK;
out:
    return rc;
}

void http_api_retention(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct ts_retention_rule rules[RETENTION_RULES_MAX];
    struct retention_listing l = {0};
    struct kv_buf rows = {0};
    struct http_json json;
    struct kv_err err = {0};
    int64_t keep_ms;
    size_t n = 0;
    bool own = true;
    http_json_init(&l.json, &rows);
    kv_status rc = retention_asked(request, &keep_ms, rules, &n, &own, &err);
    if (rc >= 0)
        rc = ts_retention_dry_run(app->db, keep_ms, own ? NULL : rules, n, retention_row, &l, &err);
    if (rc < 0) {
        failed(reply, rc, &err);
    } else {
        http_api_begin(&json, reply);
        HTTP_JSON_RAW(&json, "{\"samples\":");
        http_json_uint(&json, l.samples);
        HTTP_JSON_RAW(&json, ",\"bytes\":");
        http_json_uint(&json, l.bytes);
        HTTP_JSON_RAW(&json, ",\"days\":[");
        http_json_raw(&json, kv_buf_slice(&rows));
        HTTP_JSON_RAW(&json, "]}");
        http_api_end(&json, reply, NULL);
    }
    kv_buf_release(&rows);
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
