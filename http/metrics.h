/*
 * metrics.h - what the server counts about itself. One list makes the counters, their names and their help; requests are counted by route
 * and status, never by anything a client sent.
 *
 * Threads    any: counters are atomic.
 */
#ifndef HTTP_METRICS_H
#define HTTP_METRICS_H

#include "kvcore/base/buf.h"
#include "tsdb/ts.h"

#include <stdatomic.h>

/* name, type (counter or gauge), help */
#define HTTP_METRIC_LIST(X)                                                                                  \
    X(connections, gauge, "tidemark_http_connections", "open connections")                                   \
    X(connections_total, counter, "tidemark_http_connections_total", "connections accepted")                 \
    X(connections_refused, counter, "tidemark_http_connections_refused_total",                               \
      "connections answered 503 over the limit")                                                             \
    X(connections_reaped, counter, "tidemark_http_connections_reaped_total",                                 \
      "idle connections closed to make room")                                                                \
    X(deadline_headers, counter, "tidemark_http_deadline_headers_total",                                     \
      "connections cut: headers took too long")                                                              \
    X(deadline_body, counter, "tidemark_http_deadline_body_total", "connections cut: a body took too long")  \
    X(deadline_reply, counter, "tidemark_http_deadline_reply_total",                                         \
      "connections cut: a reply was read too slowly")                                                        \
    X(deadline_idle, counter, "tidemark_http_deadline_idle_total", "connections closed: idle")               \
    X(gate_refused, counter, "tidemark_http_gate_refused_total",                                             \
      "requests refused for their form before routing")                                                      \
    X(requests_active, gauge, "tidemark_http_requests_active", "requests being answered")                    \
    X(body_bytes, counter, "tidemark_http_body_bytes_total", "bytes of request bodies as sent")              \
    X(inflated_bytes, counter, "tidemark_http_inflated_bytes_total",                                         \
      "bytes of ingest bodies after their content coding")                                                   \
    X(reply_bytes, counter, "tidemark_http_reply_bytes_total",                                               \
      "bytes of replies before their content coding")                                                        \
    X(samples_prom_write, counter, "tidemark_ingest_prom_write_samples_total",                               \
      "samples decoded from remote_write")                                                                   \
    X(samples_influx, counter, "tidemark_ingest_influx_samples_total", "samples decoded from line protocol") \
    X(samples_imported, counter, "tidemark_ingest_import_samples_total",                                     \
      "samples decoded from /api/v1/import")                                                                 \
    X(rejected, counter, "tidemark_ingest_rejected_total",                                                   \
      "samples and lines rejected in answered requests")                                                     \
    X(bodies_bad, counter, "tidemark_ingest_bodies_bad_total", "bodies refused as a whole")                  \
    X(strings_skipped, counter, "tidemark_ingest_strings_skipped_total",                                     \
      "string fields of line protocol, not stored")                                                          \
    X(histograms_rejected, counter, "tidemark_ingest_histograms_rejected_total",                             \
      "native histograms, not stored yet")                                                                   \
    X(exemplars, counter, "tidemark_ingest_exemplars_total", "exemplars decoded from remote_write")          \
    X(backups, counter, "tidemark_backups_total", "backups made, archives too")                              \
    X(backups_failed, counter, "tidemark_backups_failed_total", "backups that failed or were canceled")      \
    X(queries_canceled, counter, "tidemark_query_canceled_total",                                            \
      "queries stopped because their client went away")                                                      \
    X(query_samples, counter, "tidemark_query_samples_total", "samples read by answered queries")

enum { HTTP_METRIC_ROUTES_MAX = 64, HTTP_METRIC_STATUSES = 24 };

struct http_metrics {
#define X(field, type, name, help) _Atomic uint64_t field;
    HTTP_METRIC_LIST(X)
#undef X
    _Atomic uint64_t requests[HTTP_METRIC_ROUTES_MAX + 1][HTTP_METRIC_STATUSES]; /* the last row: no route */
    _Atomic uint64_t request_us[HTTP_METRIC_ROUTES_MAX + 1]; /* wall time spent answering */
};

static inline void http_count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}
/* route: its index, or HTTP_METRIC_ROUTES_MAX for none. */
void http_metrics_request(struct http_metrics *metrics, size_t route, unsigned status, uint64_t us);

/* One sample of the exposition, for /metrics and for what the server stores about itself. labels: `a="b",c="d"` or "". */
typedef void (*http_metric_fn)(void *ctx, const char *name, const char *help, bool counter,
                               const char *labels, double value);
/* route_name(i): the pattern of route i; NULL ends. */
void http_metrics_each(struct http_metrics *metrics, const char *(*route_name)(void *ctx, size_t i),
                       void *route_ctx, http_metric_fn each, void *ctx);

#endif
