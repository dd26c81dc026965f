/* exemplars.c - query_exemplars, as Prometheus answers it. */
#include "http/api/app.h"
#include "http/json.h"
#include "http/params.h"
#include "kvcore/base/number.h"

enum { ANSWER_BYTES_MAX = 64 << 20 };

struct answer {
    struct http_json json;
    bool any;
};

static kv_status each_series(void *ctx, const struct ts_label *labels, size_t n_labels,
                             const struct ts_exemplar *exemplars, size_t n)
{
    struct answer *a = ctx;
    struct http_json *json = &a->json;
    http_json_raw(json, kv_slice_str(a->any ? ",{\"seriesLabels\":" : "{\"seriesLabels\":"));
    a->any = true;
    http_api_labels_json(json, labels, n_labels);
    for (size_t i = 0; i < n; i++) {
        char number[KV_DOUBLE_LEN_MAX];
        http_json_raw(json, kv_slice_str(i ? ",{\"labels\":" : ",\"exemplars\":[{\"labels\":"));
        http_api_labels_json(json, exemplars[i].labels, exemplars[i].n_labels);
        HTTP_JSON_RAW(json, ",\"value\":");
        http_json_string(json,
                         kv_slice_of((const uint8_t *)number, kv_double_format(exemplars[i].value, number)));
        HTTP_JSON_RAW(json, ",\"timestamp\":");
        http_json_time(json, exemplars[i].time_ms);
        HTTP_JSON_RAW(json, "}");
    }
    HTTP_JSON_RAW(json, "]}");
    return json->failed;
}

void http_api_query_exemplars(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct answer answer = {0};
    struct ts_query_err query_err = {0};
    struct kv_err err = {0};
    kv_slice query;
    int64_t from_ms, to_ms;
    kv_status rc;
    KV_TRY(http_param_time(request, "start", INT64_MIN, &from_ms, &err));
    KV_TRY(http_param_time(request, "end", INT64_MAX, &to_ms, &err));
    if (to_ms < from_ms)
        KV_TRY(kv_fail(&err, KV_INVALID, 0,
                       "invalid parameter \"end\": end timestamp must not be before start timestamp"));
    rc = http_request_param(request, "query", &query, &err);
out:
    if (rc < 0) {
        http_api_bad_param(reply, &err);
        return;
    }
    reply->body.max = ANSWER_BYTES_MAX;
    http_api_begin(&answer.json, reply);
    HTTP_JSON_RAW(&answer.json, "[");
    rc = ts_query_exemplars(app->db, query, from_ms, to_ms, each_series, &answer, &query_err);
    if (rc < 0 && answer.json.failed >= 0) {
        http_api_query_failed(app, reply, "query", &query_err);
        return;
    }
    HTTP_JSON_RAW(&answer.json, "]");
    http_api_end(&answer.json, reply, NULL);
}
