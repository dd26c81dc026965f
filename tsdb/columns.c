#include "tsdb/columns.h"
#include "kvcore/base/mem.h"

#include <string.h>

void ts_columns_release(struct ts_columns *columns)
{
    kv_free(columns->times_ms);
    kv_free(columns->values);
    *columns = (struct ts_columns){0};
}

kv_status ts_columns_reserve(struct ts_columns *columns, size_t extra)
{
    if (extra <= columns->capacity - columns->n)
        return KV_OK;
    size_t capacity = columns->capacity + columns->capacity / 2;
    if (capacity < columns->n + extra)
        capacity = columns->n + extra;
    if (capacity < 256)
        capacity = 256;
    if (capacity > SIZE_MAX / sizeof(int64_t))
        return KV_NO_MEMORY;
    int64_t *times = kv_realloc(columns->times_ms, capacity * sizeof *times);
    if (!times)
        return KV_NO_MEMORY;
    columns->times_ms = times;
    double *values = kv_realloc(columns->values, capacity * sizeof *values);
    if (!values)
        return KV_NO_MEMORY;
    columns->values = values;
    columns->capacity = capacity;
    return KV_OK;
}

static void columns_append(struct ts_columns *out, const struct ts_columns *from, size_t at, size_t n)
{
    if (n == 0)
        return;
    memcpy(out->times_ms + out->n, from->times_ms + at, n * sizeof *out->times_ms);
    memcpy(out->values + out->n, from->values + at, n * sizeof *out->values);
    out->n += n;
}

kv_status ts_columns_merge(const struct ts_columns *a, const struct ts_columns *b, struct ts_columns *out)
{
    out->n = 0;
    kv_status rc = ts_columns_reserve(out, a->n + b->n);
    if (rc < 0)
        return rc;
    size_t i = 0, j = 0;
    while (i < a->n && j < b->n) {
        /* Copied in stretches: the two seldom alternate. */
        size_t start = i;
        while (i < a->n && a->times_ms[i] < b->times_ms[j])
            i++;
        columns_append(out, a, start, i - start);
        if (i == a->n)
            break;
        if (a->times_ms[i] == b->times_ms[j])
            i++;
        start = j++;
        while (i < a->n && j < b->n && b->times_ms[j] < a->times_ms[i])
            j++;
        columns_append(out, b, start, j - start);
    }
    columns_append(out, a, i, a->n - i);
    columns_append(out, b, j, b->n - j);
    return KV_OK;
}

size_t ts_columns_lower(const struct ts_columns *columns, int64_t time_ms)
{
    size_t low = 0, high = columns->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (columns->times_ms[mid] < time_ms)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

void ts_columns_drop(struct ts_columns *columns, size_t start, int64_t from_ms, int64_t to_ms)
{
    size_t first = ts_columns_lower(columns, from_ms), end = ts_columns_lower(columns, to_ms);
    if (first < start)
        first = start;
    if (first >= end)
        return;
    size_t rest = columns->n - end;
    memmove(columns->times_ms + first, columns->times_ms + end, rest * sizeof *columns->times_ms);
    memmove(columns->values + first, columns->values + end, rest * sizeof *columns->values);
    columns->n -= end - first;
}
