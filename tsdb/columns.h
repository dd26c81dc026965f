/*
 * columns.h - times and values side by side: what decoders fill, merges combine and scans lend.
 *
 * Times strictly increase. {0} is valid and empty.
 * Threads    one at a time.
 * Failure    KV_NO_MEMORY; the columns are unchanged.
 */
#ifndef TS_COLUMNS_H
#define TS_COLUMNS_H

#include "kvcore/base/status.h"

#include <stddef.h>
#include <stdint.h>

struct ts_columns {
    int64_t *times_ms;
    double *values;
    size_t n, capacity;
};

void ts_columns_release(struct ts_columns *columns);
/* Room for `extra` more samples behind n. */
KV_MUST kv_status ts_columns_reserve(struct ts_columns *columns, size_t extra);
/* Into *out (emptied first, neither a nor b): every sample of both; at equal times b's. */
KV_MUST kv_status ts_columns_merge(const struct ts_columns *a, const struct ts_columns *b,
                                   struct ts_columns *out);
/* Removes the samples with from_ms <= t < to_ms, from index `start` on. */
void ts_columns_drop(struct ts_columns *columns, size_t start, int64_t from_ms, int64_t to_ms);
/* Index of the first sample with t >= time_ms. */
size_t ts_columns_lower(const struct ts_columns *columns, int64_t time_ms);

#endif
