/*
 * print.h - a tree as text, in Prometheus's canonical form. Parsing what was printed and printing it again
 * gives the same text.
 *
 * Threads    any number at once.
 * Failure    KV_NO_MEMORY, KV_LIMIT (the buffer's maximum).
 */
#ifndef TS_PROMQL_PRINT_H
#define TS_PROMQL_PRINT_H

#include "kvcore/base/buf.h"
#include "tsdb/promql/ast.h"

KV_MUST kv_status ts_print(const struct ts_expr *expr, struct kv_buf *out);

/* Go's strconv.Quote, as %q prints it. */
KV_MUST kv_status ts_print_quoted(kv_slice text, struct kv_buf *out);
/* Go's FormatFloat(value, 'f', -1, 64): shortest digits that read back the same, never an exponent. "+Inf",
 * "-Inf", "NaN". */
KV_MUST kv_status ts_print_float(double value, struct kv_buf *out);
/* Prometheus's duration: "1h30m", "5m", "0s", "1y". ms >= 0. */
KV_MUST kv_status ts_print_duration(int64_t ms, struct kv_buf *out);

#endif
