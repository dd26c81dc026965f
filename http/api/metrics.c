/* metrics.c - /metrics: what the server, the store and the engine count, as Prometheus's text format 0.0.4. */
#include "http/api/app.h"
#include "http/json.h"
#include "kvcore/base/number.h"
#include "version.h"

#include <stdio.h>
#include <sys/resource.h>

#define TS_METRIC_LIST(X)                                                                                    \
    X(series, false, "tidemark_series", "series known")                                                      \
    X(series_created, true, "tidemark_series_created_total", "series created")                               \
    X(head_series, false, "tidemark_head_series", "series with samples not yet in tables")                   \
    X(head_samples, false, "tidemark_head_samples", "samples not yet in tables")                             \
    X(head_bytes, false, "tidemark_head_bytes", "memory of samples not yet in tables")                       \
    X(samples_appended, true, "tidemark_samples_appended_total", "samples stored and synced")                \
    X(chunks, false, "tidemark_chunks", "chunks in tables")                                                  \
    X(disk_bytes, false, "tidemark_disk_bytes", "bytes of all files of the store")                           \
    X(flushes, true, "tidemark_head_flushes_total", "head generations moved to tables")                      \
    X(merges, true, "tidemark_window_merges_total", "windows merged")                                        \
    X(series_left, true, "tidemark_series_left_total", "series forgotten because nothing of them is left")   \
    X(windows_expired, true, "tidemark_windows_expired_total",                                               \
      "days dropped whole because they were too old")                                                        \
    X(windows_cut, true, "tidemark_windows_cut_total", "days dropped whole because the store was too large") \
    X(bytes_dropped, true, "tidemark_retention_bytes_dropped_total", "bytes of the files of dropped days")   \
    X(queries, true, "tidemark_queries_total", "queries evaluated")                                          \
    X(exemplars, false, "tidemark_exemplars", "exemplars kept")                                              \
    X(exemplars_appended, true, "tidemark_exemplars_appended_total", "exemplars stored and synced")          \
    X(exemplars_dropped, true, "tidemark_exemplars_dropped_total",                                           \
      "exemplars not stored: repeated, out of order, of no series, too long, or off")                        \
    X(cache_bytes, false, "tidemark_series_cache_bytes", "memory of the series cache")                       \
    X(cache_series, false, "tidemark_series_cache_series", "series in the series cache")

static const char *route_name(void *ctx, size_t i)
{
    (void)ctx;
    return i < http_n_routes ? http_routes[i].pattern : NULL;
}

static void store_metrics(struct http_app *app, http_metric_fn each, void *ctx)
{
    struct ts_stats stats;
    ts_stats(app->db, &stats);
#define X(field, counter, name, help) each(ctx, name, help, counter, "", (double)stats.field);
    TS_METRIC_LIST(X)
#undef X
    for (int i = 1; i < TS_REJECT_REASONS; i++) {
        char labels[64];
        snprintf(labels, sizeof labels, "reason=\"%s\"", ts_reject_name((enum ts_reject_reason)i));
        each(ctx, "tidemark_samples_rejected_total", "samples refused, by reason", true, labels,
             (double)stats.samples_rejected[i]);
    }
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void process_metrics(struct http_app *app, http_metric_fn each, void *ctx)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    each(ctx, "process_cpu_seconds_total", "user and system time of this process", true, "",
         seconds(usage.ru_utime) + seconds(usage.ru_stime));
    each(ctx, "process_resident_memory_max_bytes", "most resident memory this process had", false, "",
         (double)usage.ru_maxrss * 1024);
    each(ctx, "process_start_time_seconds", "when this process started", false, "",
         (double)app->started_ms / 1000);
    each(ctx, "tidemark_build_info", "the version of this server", false, "version=\"" TIDEMARK_VERSION "\"",
         1);
}

struct engine {
    http_metric_fn each;
    void *ctx;
};

static void engine_metric(void *ctx, const char *name, const char *help, bool counter, double value)
{
    struct engine *engine = ctx;
    engine->each(engine->ctx, name, help, counter, "", value);
}

void http_app_metrics(struct http_app *app, http_metric_fn each, void *ctx)
{
    struct engine engine = {each, ctx};
    struct kv_err err;
    process_metrics(app, each, ctx);
    each(ctx, "tidemark_writable", "1 while writes are accepted", false, "",
         kv_health(ts_kv(app->db), &err) == KV_OK);
    store_metrics(app, each, ctx);
    http_metrics_each(app->metrics, route_name, NULL, each, ctx);
    kv_metrics(ts_kv(app->db), engine_metric, &engine);
}

struct page {
    struct http_json out;
    const char *last; /* name whose header was written */
};

static void page_metric(void *ctx, const char *name, const char *help, bool counter, const char *labels,
                        double value)
{
    struct page *page = ctx;
    char number[KV_DOUBLE_LEN_MAX];
    kv_slice pieces[] = {kv_slice_str(name), KV_STR(" "), kv_slice_str(help),
                         kv_slice_str(counter ? "counter" : "gauge")};
    if (!page->last || strcmp(page->last, name) != 0) {
        HTTP_JSON_RAW(&page->out, "# HELP ");
        for (int i = 0; i < 3; i++)
            http_json_raw(&page->out, pieces[i]);
        HTTP_JSON_RAW(&page->out, "\n# TYPE ");
        http_json_raw(&page->out, pieces[0]);
        HTTP_JSON_RAW(&page->out, " ");
        http_json_raw(&page->out, pieces[3]);
        HTTP_JSON_RAW(&page->out, "\n");
    }
    page->last = name;
    http_json_raw(&page->out, pieces[0]);
    if (labels[0]) {
        HTTP_JSON_RAW(&page->out, "{");
        http_json_raw(&page->out, kv_slice_str(labels));
        HTTP_JSON_RAW(&page->out, "}");
    }
    HTTP_JSON_RAW(&page->out, " ");
    http_json_raw(&page->out, kv_slice_of(number, kv_double_format(value, number)));
    HTTP_JSON_RAW(&page->out, "\n");
}

void http_api_metrics(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    struct page page = {0};
    (void)request;
    http_json_init(&page.out, &reply->body);
    http_app_metrics(app, page_metric, &page);
    reply->status = 200;
    reply->content_type = "text/plain; version=0.0.4; charset=utf-8";
    if (page.out.failed < 0)
        http_reply_failed(reply, page.out.failed, "out of memory writing metrics");
}
