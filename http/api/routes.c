#include "http/api/app.h"

enum { GET = HTTP_GET, POST = HTTP_POST, GET_POST = HTTP_GET | HTTP_POST, POST_PUT = HTTP_POST | HTTP_PUT };
enum { INGEST_BYTES = 64 << 20 };

const struct http_route http_routes[] = {
    {"/api/v1/write", POST, HTTP_ROUTE_WRITE, http_api_prom_write, INGEST_BYTES, false},
    {"/write", POST, HTTP_ROUTE_WRITE, http_api_influx_write, INGEST_BYTES, true},
    {"/api/v2/write", POST, HTTP_ROUTE_WRITE, http_api_influx_write, INGEST_BYTES, true},
    {"/api/v1/import", POST, HTTP_ROUTE_WRITE, http_api_import, INGEST_BYTES, false},
    {"/api/v1/import/prometheus", POST, HTTP_ROUTE_WRITE, http_api_import_prometheus, INGEST_BYTES, false},
    {"/api/v1/query", GET_POST, HTTP_ROUTE_QUERY, http_api_query, 0, false},
    {"/api/v1/query_range", GET_POST, HTTP_ROUTE_QUERY, http_api_query_range, 0, false},
    {"/api/v1/series", GET_POST, HTTP_ROUTE_QUERY, http_api_series, 0, false},
    {"/api/v1/labels", GET_POST, HTTP_ROUTE_QUERY, http_api_labels, 0, false},
    {"/api/v1/label/{}/values", GET, HTTP_ROUTE_QUERY, http_api_label_values, 0, false},
    {"/api/v1/export", GET_POST, HTTP_ROUTE_QUERY, http_api_export, 0, false},
    {"/api/v1/metadata", GET, HTTP_ROUTE_READ, http_api_metadata, 0, false},
    {"/api/v1/format_query", GET_POST, HTTP_ROUTE_READ, http_api_format_query, 0, false},
    {"/api/v1/query_exemplars", GET_POST, HTTP_ROUTE_QUERY, http_api_query_exemplars, 0, false},
    {"/-/healthy", GET, HTTP_ROUTE_HEALTH, http_api_healthy, 0, false},
    {"/-/ready", GET, HTTP_ROUTE_HEALTH, http_api_ready, 0, false},
    {"/metrics", GET, HTTP_ROUTE_READ, http_api_metrics, 0, false},
    {"/ping", GET, HTTP_ROUTE_HEALTH, http_api_ping, 0, true},
    {"/health", GET, HTTP_ROUTE_HEALTH, http_api_influx_health, 0, true},
    {"/ready", GET, HTTP_ROUTE_HEALTH, http_api_influx_ready, 0, true},
    {"/query", GET_POST, HTTP_ROUTE_READ, http_api_influx_query, 0, true},
    {"/api/v1/status/buildinfo", GET, HTTP_ROUTE_READ, http_api_buildinfo, 0, false},
    {"/api/v1/status/runtimeinfo", GET, HTTP_ROUTE_READ, http_api_runtimeinfo, 0, false},
    {"/api/v1/status/tsdb", GET, HTTP_ROUTE_QUERY, http_api_tsdb, 0, false},
    {"/api/v1/rejected", GET, HTTP_ROUTE_READ, http_api_rejected, 0, false},
    {"/api/v1/status/flags", GET, HTTP_ROUTE_READ, http_api_flags, 0, false},
    {"/api/v1/status/config", GET, HTTP_ROUTE_READ, http_api_config, 0, false},
    {"/api/v1/status/backup", GET, HTTP_ROUTE_READ, http_api_backup_status, 0, false},
    {"/api/v1/rules", GET, HTTP_ROUTE_READ, http_api_rules, 0, false},
    {"/api/v1/alerts", GET, HTTP_ROUTE_READ, http_api_alerts, 0, false},
    {"/api/v1/alertmanagers", GET, HTTP_ROUTE_READ, http_api_alertmanagers, 0, false},
    {"/api/v1/targets", GET, HTTP_ROUTE_READ, http_api_targets, 0, false},
    {"/api/v1/targets/metadata", GET, HTTP_ROUTE_READ, http_api_empty_list, 0, false},
    {"/api/v1/scrape_pools", GET, HTTP_ROUTE_READ, http_api_scrape_pools, 0, false},
    {"/api/v1/admin/tsdb/delete_series", POST_PUT, HTTP_ROUTE_ADMIN, http_api_delete_series, 0, false},
    {"/api/v1/admin/tsdb/clean_tombstones", POST_PUT, HTTP_ROUTE_ADMIN, http_api_clean_tombstones, 0, false},
    {"/api/v1/admin/tsdb/snapshot", POST_PUT, HTTP_ROUTE_ADMIN, http_api_snapshot, 0, false},
    {"/api/v1/admin/backup", POST, HTTP_ROUTE_ADMIN, http_api_backup, 0, false},
    {"/api/v1/admin/backup/archive", POST, HTTP_ROUTE_ADMIN, http_api_backup_archive, 0, false},
    {"/api/v1/admin/flush", POST, HTTP_ROUTE_ADMIN, http_api_flush, 0, false},
    {"/api/v1/admin/retention", GET, HTTP_ROUTE_QUERY, http_api_retention, 0, false},
    {"/api/v1/admin/clock", POST, HTTP_ROUTE_ADMIN, http_api_clock, 0, false},
};
const size_t http_n_routes = sizeof http_routes / sizeof *http_routes;

_Static_assert(sizeof http_routes / sizeof *http_routes <= HTTP_METRIC_ROUTES_MAX,
               "every route has a row of counters");
