#include "http/metrics.h"

#include <stdio.h>

static const unsigned statuses[HTTP_METRIC_STATUSES] = {200, 204, 400, 401, 403, 404, 405, 406,
                                                        411, 413, 414, 415, 417, 422, 429, 431,
                                                        499, 500, 501, 503, 505, 408, 409, 0};

void http_metrics_request(struct http_metrics *metrics, size_t route, unsigned status, uint64_t us)
{
    size_t s = 0;
    while (statuses[s] && statuses[s] != status)
        s++;
    route = route < HTTP_METRIC_ROUTES_MAX ? route : HTTP_METRIC_ROUTES_MAX;
    http_count(&metrics->requests[route][s], 1);
    http_count(&metrics->request_us[route], us);
}

static void requests_each(struct http_metrics *metrics, size_t route, const char *name, http_metric_fn each,
                          void *ctx)
{
    char labels[160];
    for (size_t s = 0; s < HTTP_METRIC_STATUSES; s++) {
        uint64_t n = atomic_load_explicit(&metrics->requests[route][s], memory_order_relaxed);
        if (n == 0)
            continue;
        if (statuses[s])
            snprintf(labels, sizeof labels, "handler=\"%s\",code=\"%u\"", name, statuses[s]);
        else
            snprintf(labels, sizeof labels, "handler=\"%s\",code=\"other\"", name);
        each(ctx, "tidemark_http_requests_total", "requests answered, by route and status", true, labels,
             (double)n);
    }
}

void http_metrics_each(struct http_metrics *metrics, const char *(*route_name)(void *ctx, size_t i),
                       void *route_ctx, http_metric_fn each, void *ctx)
{
    static const struct {
        size_t offset;
        const char *name, *type, *help;
    } plain[] = {
#define X(field, type, name, help) {offsetof(struct http_metrics, field), name, #type, help},
        HTTP_METRIC_LIST(X)
#undef X
    };
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        const _Atomic uint64_t *at =
            (const _Atomic uint64_t *)(const void *)((const char *)metrics + plain[i].offset);
        each(ctx, plain[i].name, plain[i].help, plain[i].type[0] == 'c', "",
             (double)atomic_load_explicit(at, memory_order_relaxed));
    }
    const char *name;
    for (size_t i = 0; (name = route_name(route_ctx, i)); i++)
        requests_each(metrics, i, name, each, ctx);
    requests_each(metrics, HTTP_METRIC_ROUTES_MAX, "none", each, ctx);
    for (size_t i = 0; (name = route_name(route_ctx, i)); i++) {
        char labels[128];
        uint64_t us = atomic_load_explicit(&metrics->request_us[i], memory_order_relaxed);
        snprintf(labels, sizeof labels, "handler=\"%s\"", name);
        if (us)
            each(ctx, "tidemark_http_request_seconds_total", "wall time spent answering, by route", true,
                 labels, (double)us / 1e6);
    }
}
