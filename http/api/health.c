/* health.c - whether the server lives and is ready, in Prometheus's and InfluxDB's words. */
#include "http/api/app.h"
#include "http/text.h"
#include "http/json.h"
#include "version.h"

/* Telegraf and others look for a 1.8 to speak to. */
#define INFLUX_VERSION "1.8.10-tidemark-" TIDEMARK_VERSION

void http_api_healthy(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    (void)app;
    (void)request;
    http_reply_text(reply, 200, "Prometheus Server is Healthy.\n");
}

void http_api_ready(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    double progress;
    (void)request;
    if (app->stopping || ts_ready(app->db, &progress) < 0)
        http_reply_text(reply, 503, "Service Unavailable");
    else
        http_reply_text(reply, 200, "Prometheus Server is Ready.\n");
}

void http_api_ping(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    (void)app;
    (void)request;
    reply->status = 204;
    http_reply_header(reply, "X-Influxdb-Version", INFLUX_VERSION);
    http_reply_header(reply, "X-Influxdb-Build", "Tidemark");
}

void http_api_influx_health(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct kv_err err = {0};
    struct http_json json;
    (void)request;
    bool passes = kv_health(ts_kv(app->db), &err) == KV_OK;
    reply->status = passes ? 200 : 503;
    reply->content_type = "application/json";
    http_json_init(&json, &reply->body);
    HTTP_JSON_RAW(&json, "{\"name\":\"influxdb\",\"message\":");
    http_json_str(&json, passes ? "ready for queries and writes" : err.text);
    HTTP_JSON_RAW(&json, ",\"status\":");
    http_json_str(&json, passes ? "pass" : "fail");
    HTTP_JSON_RAW(&json, ",\"checks\":[],\"version\":\"" INFLUX_VERSION "\",\"commit\":\"\"}");
}

void http_api_influx_ready(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    double progress;
    (void)request;
    bool ready = !app->stopping && ts_ready(app->db, &progress) >= 0;
    http_reply_text(reply, ready ? 200 : 503, ready ? "{\"status\":\"ready\"}" : "{\"status\":\"starting\"}");
    reply->content_type = "application/json";
}

/* True when text begins with word, in any case, and takes it and the blanks behind it off. */
static bool take_keyword(kv_slice *text, const char *word)
{
    size_t n = strlen(word);
    if (text->len < n || !http_equal_nocase(kv_slice_of(text->data, n), kv_slice_str(word)))
        return false;
    *text = http_trim(kv_slice_from(*text, n));
    return true;
}

/* InfluxQL is not spoken. What senders ask before their first write is answered: databases need no creating here. */
void http_api_influx_query(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct kv_err err;
    kv_slice q;
    (void)app;
    if (http_request_param(request, "q", &q, &err) < 0) {
        http_api_bad_param(reply, &err);
        return;
    }
    q = http_trim(q);
    if (take_keyword(&q, "CREATE") && take_keyword(&q, "DATABASE")) {
        http_reply_text(reply, 200, "{\"results\":[{\"statement_id\":0}]}\n");
        reply->content_type = "application/json";
    } else {
        http_reply_error(
            reply, 400, "bad_data",
            "InfluxQL is not spoken here (only CREATE DATABASE, which does nothing); ask PromQL at "
            "/api/v1/query");
    }
}
