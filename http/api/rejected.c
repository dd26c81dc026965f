/* rejected.c - GET /api/v1/rejected: what was refused lately, newest first. */
#include "http/api/app.h"
#include "http/json.h"
#include "http/params.h"

static bool reason_parse(kv_slice name, enum ts_reject_reason *out)
{
    *out = TS_REJECT_NONE;
    for (int i = TS_REJECT_NONE + 1; i < TS_REJECT_REASONS; i++)
        if (kv_slice_equal(name, kv_slice_str(ts_reject_name((enum ts_reject_reason)i))))
            *out = (enum ts_reject_reason)i;
    return name.len == 0 || *out != TS_REJECT_NONE;
}

static void one(struct http_json *json, const struct http_rejection *r)
{
    HTTP_JSON_RAW(json, "{\"time\":");
    http_json_time(json, r->time_ms);
    HTTP_JSON_RAW(json, ",\"reason\":");
    http_json_str(json, ts_reject_name(r->reason));
    HTTP_JSON_RAW(json, ",\"protocol\":");
    http_json_str(json, r->protocol);
    HTTP_JSON_RAW(json, ",\"sender\":");
    http_json_str(json, r->sender);
    HTTP_JSON_RAW(json, ",\"userAgent\":");
    http_json_str(json, r->agent);
    HTTP_JSON_RAW(json, ",\"position\":");
    http_json_uint(json, r->position);
    HTTP_JSON_RAW(json, ",\"samples\":");
    http_json_uint(json, r->samples);
    HTTP_JSON_RAW(json, ",\"error\":");
    http_json_str(json, r->text);
    HTTP_JSON_RAW(json, "}");
}

void http_api_rejected(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    enum { LIMIT_DEFAULT = 100 };
    struct http_rejection r = {.number = UINT64_MAX};
    struct http_json json;
    struct kv_err err = {0};
    enum ts_reject_reason reason = TS_REJECT_NONE;
    kv_slice name;
    uint64_t limit;
    kv_status rc = http_param_limit(request, "limit", LIMIT_DEFAULT, &limit, &err);
    if (rc >= 0)
        rc = http_request_param(request, "reason", &name, &err);
    if (rc >= 0 && !reason_parse(name, &reason))
        rc = kv_fail(&err, KV_INVALID, 0,
                     "invalid parameter \"reason\": unknown; /metrics lists them "
                     "(tidemark_samples_rejected_total)");
    if (rc < 0) {
        http_api_bad_param(reply, &err);
        return;
    }
    limit = limit == 0 || limit > HTTP_REJECTED_KEPT ? HTTP_REJECTED_KEPT : limit;
    http_api_begin(&json, reply);
    HTTP_JSON_RAW(&json, "{\"total\":");
    http_json_uint(&json, http_rejected_count(app->rejected));
    HTTP_JSON_RAW(&json, ",\"rejected\":[");
    for (uint64_t n = 0; n < limit && http_rejected_before(app->rejected, r.number, reason, &r); n++) {
        if (n > 0)
            HTTP_JSON_RAW(&json, ",");
        one(&json, &r);
    }
    HTTP_JSON_RAW(&json, "]}");
    http_api_end(&json, reply, NULL);
}
