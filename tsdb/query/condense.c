#include "tsdb/query/condense.h"
#include "tsdb/chunk/chunk.h"

#include <math.h>

enum { CONDENSE_SAMPLES = 16 }; /* fewer are decoded */

/* Whether an edge, one of base, base + step, ..., lies in [first, last): some samples are at or before it and some behind. */
static bool condense_cuts(const struct ts_condense *how, int64_t base, int64_t first, int64_t last)
{
    if (base >= first || how->step_ms == 0)
        return base >= first && base < last;
    uint64_t k = ((uint64_t)first - (uint64_t)base - 1) / (uint64_t)how->step_ms + 1;
    return k < how->steps && base + (int64_t)k * how->step_ms < last;
}

/* Of a chunk that no edge cuts. */
static bool condense_inside(const struct ts_condense *how, int64_t first, int64_t last)
{
    uint64_t k = 0; /* the first window that does not end before it */
    if (how->end_ms < last && how->step_ms > 0)
        k = ((uint64_t)last - (uint64_t)how->end_ms - 1) / (uint64_t)how->step_ms + 1;
    if (k >= how->steps)
        return false;
    int64_t end = how->end_ms + (int64_t)k * how->step_ms;
    return end >= last && end - how->range_ms < first;
}

/* Whether the summary will do; *between: the sample between the ends, NULL: none. */
static bool condense_between(enum ts_condense_kind kind, const struct ts_chunk_summary *s, double *value,
                             const double **between)
{
    *between = value;
    switch (kind) {
    case TS_CONDENSE_MIN:
        *value = s->min;
        return true;
    case TS_CONDENSE_MAX:
        *value = s->max;
        return true;
    case TS_CONDENSE_SUM:
        *value = (double)s->sum - s->first - s->last;
        return s->whole;
    default:
        break;
    }
    *between = NULL;
    return kind == TS_CONDENSE_ENDS || (kind == TS_CONDENSE_RISE && s->rises) ||
           (kind == TS_CONDENSE_FLAT && s->min == s->max);
}

kv_status ts_condense(const struct ts_condense *how, kv_slice chunk, struct ts_condensed *out)
{
    struct ts_chunk_info info;
    struct ts_chunk_summary summary;
    const double *between;
    double value;
    if (how->steps == 0)
        return KV_END;
    kv_status rc = ts_chunk_info(chunk, &info);
    if (rc < 0)
        return rc;
    int64_t first = info.first_ms, last = info.last_ms;
    if (condense_cuts(how, how->end_ms, first, last) ||
        condense_cuts(how, how->end_ms - how->range_ms, first, last))
        return KV_END;
    *out = (struct ts_condensed){.missing = info.count};
    if (!condense_inside(how, first, last))
        return KV_OK;
    if (how->kind == TS_CONDENSE_NOT || info.count < CONDENSE_SAMPLES)
        return KV_END;
    if ((rc = ts_chunk_summary(chunk, &info, &summary)) != KV_OK)
        return rc;
    if (!condense_between(how->kind, &summary, &value, &between))
        return KV_END;
    out->times_ms[out->n] = first;
    out->values[out->n++] = summary.first;
    if (between) {
        out->times_ms[out->n] = first + 1; /* before last: so many samples span more */
        out->values[out->n++] = *between;
    }
    out->times_ms[out->n] = last;
    out->values[out->n++] = summary.last;
    out->missing -= (uint32_t)out->n;
    return KV_OK;
}

bool ts_condense_exact(const double *values, size_t n)
{
    double sum = 0;
    bool whole = true;
    for (size_t i = 0; i < n; i++) {
        whole &= floor(values[i]) == values[i]; /* false for NaN */
        sum += fabs(values[i]);
    }
    return whole && sum < 0x1p52;
}
