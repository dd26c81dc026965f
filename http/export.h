/*
 * export.h - stored samples as text that others read. Page: tsdb/docs/export.md.
 *
 *     json         VictoriaMetrics' lines: {"metric":{"__name__":"up","job":"x"},"values":[1,0],"timestamps":[1700000000000,1700000015000]}
 *     prometheus   the text format 0.0.4: up{job="x"} 1 1700000000000
 *     openmetrics  OpenMetrics 1.0: up{job="x"} 1 1700000000.000, "# EOF" at the end
 *
 * Threads    pure; any.
 */
#ifndef HTTP_EXPORT_H
#define HTTP_EXPORT_H

#include "tsdb/ts.h"

enum http_export_format { HTTP_EXPORT_JSON, HTTP_EXPORT_PROMETHEUS, HTTP_EXPORT_OPENMETRICS };
/* "json", "prometheus", "openmetrics", or empty: json. False: none of them. */
bool http_export_named(kv_slice name, enum http_export_format *out);
const char *http_export_content_type(enum http_export_format format); /* static */
enum { HTTP_EXPORT_LINE_SAMPLES = 4096 };                             /* of one line of JSON */
/* Appends samples [from, from + n) of a piece. Stale markers have no place in the two text formats: they are left out, and counted in
 * *left_out. */
KV_MUST kv_status http_export_piece(enum http_export_format format, const struct ts_series_points *points,
                                    size_t from, size_t n, struct kv_buf *out, uint64_t *left_out);
/* What stands behind the last. */
KV_MUST kv_status http_export_end(enum http_export_format format, struct kv_buf *out);

#endif
