/* status.c - what Grafana and others ask a Prometheus about itself, and the shapes of what Tidemark does not do. */
#include "http/api/app.h"
#include "http/json.h"
#include "http/params.h"
#include "version.h"

#include <stdio.h>
#include <time.h>

/* Grafana chooses features by a Prometheus version; ours stands in `branch`. */
#define PROMETHEUS_VERSION "2.55.0"

static void plain(struct http_reply *reply, const char *data)
{
    struct http_json json;
    http_api_begin(&json, reply);
    http_json_raw(&json, kv_slice_str(data));
    http_api_end(&json, reply, NULL);
}

void http_api_buildinfo(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    (void)app;
    (void)request;
    plain(reply, "{\"version\":\"" PROMETHEUS_VERSION "\",\"revision\":\"tidemark-" TIDEMARK_VERSION
                 "\",\"branch\":\"tidemark\",\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\"}");
}

/* 2026-11-21T03:08:03Z */
static void json_date(struct http_json *json, int64_t ms)
{
    char text[40];
    struct tm tm;
    time_t seconds = (time_t)(ms / 1000);
    gmtime_r(&seconds, &tm);
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    http_json_string(json, kv_slice_of(text, n));
}

void http_api_runtimeinfo(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct http_json json;
    http_api_begin(&json, reply);
    HTTP_JSON_RAW(&json, "{\"startTime\":");
    json_date(&json, app->started_ms);
    HTTP_JSON_RAW(&json, ",\"CWD\":\"\",\"reloadConfigSuccess\":true,\"lastConfigTime\":");
    json_date(&json, app->started_ms);
    HTTP_JSON_RAW(
        &json, ",\"corruptionCount\":0,\"goroutineCount\":0,\"GOMAXPROCS\":0,\"GOMEMLIMIT\":0,\"GOGC\":\"\","
               "\"GODEBUG\":\"\",\"serverTime\":");
    json_date(&json, kv_clock_wall_ms(request->clock));
    HTTP_JSON_RAW(&json, ",\"storageRetention\":");
    http_json_str(&json, app->retention ? app->retention : "30d");
    HTTP_JSON_RAW(&json, "}");
    http_api_end(&json, reply, NULL);
}

void http_api_flags(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    (void)request;
    plain(reply, app->flags_json ? app->flags_json : "{}");
}

void http_api_config(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct http_json json;
    (void)request;
    http_api_begin(&json, reply);
    HTTP_JSON_RAW(&json, "{\"yaml\":");
    http_json_str(&json, app->config_yaml ? app->config_yaml : "");
    HTTP_JSON_RAW(&json, "}");
    http_api_end(&json, reply, NULL);
}

void http_api_rules(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct kv_err err;
    kv_slice type;
    (void)app;
    if (http_request_param(request, "type", &type, &err) < 0)
        http_api_bad_param(reply, &err);
    else if (type.len && !kv_slice_equal(type, KV_STR("alert")) && !kv_slice_equal(type, KV_STR("record")))
        http_reply_error(reply, 400, "bad_data", "invalid parameter \"type\": not supported value \"%.*s\"",
                         KV_ARG(type));
    else
        plain(reply, "{\"groups\":[]}");
}

void http_api_alerts(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    (void)app;
    (void)request;
    plain(reply, "{\"alerts\":[]}");
}

void http_api_targets(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    (void)app;
    (void)request;
    plain(reply, "{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":{}}");
}

void http_api_scrape_pools(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    (void)app;
    (void)request;
    plain(reply, "{\"scrapePools\":[]}");
}

void http_api_empty_list(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    (void)app;
    (void)request;
    plain(reply, "[]");
}

void http_api_alertmanagers(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    (void)app;
    (void)request;
    plain(reply, "{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}");
}
