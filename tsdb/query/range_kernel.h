/*
 * range_kernel.h - range functions on plain arrays: one series' samples in, one value a step out. No
 * operators, no storage, no vtable inside the loops.
 *
 * Windows are left-open: step i sees the samples with end(i) - range < t <= end(i), as index ranges [lo[i],
 * hi[i]) that never move back. Stale markers are not among the samples.
 *
 * Exactness  results are those of Prometheus 3's order of operations (compensated sums in sample order).
 * Where another order gives the same bits (integers, counts, extremes) a cheaper one is used.
 *
 * Threads    any, as their arguments.
 * Sources    Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen" (1974);
 * Knuth's TwoSum (TAOCP 2, 4.2.2); Welford (1962); Lemire, "Streaming maximum-minimum filter" (2006).
 */
#ifndef TS_RANGE_KERNEL_H
#define TS_RANGE_KERNEL_H

#include "tsdb/promql/ast.h"
#include "tsdb/promql/func_table.h"
#include "tsdb/query/condense.h"
#include "tsdb/query/op.h"

struct ts_range_in {
    const int64_t *times; /* strictly increasing */
    const double *values;
    size_t n;
    const uint32_t
        *ordinals; /* each sample's number among all, where some are not here (condense.h); NULL: all are */
    const uint32_t *lo, *hi; /* one window a step */
    size_t steps;
    int64_t end_ms, end_step_ms; /* end of step i's window: end_ms + i * end_step_ms (0: fixed by @) */
    int64_t range_ms;
    enum ts_range_mode mode;    /* anchored, smoothed: windows reach further, and kernels know */
    const struct ts_grid *grid; /* evaluation times */
    const double *params[2];    /* scalar arguments, one value a step */
    double *scratch;            /* room for n + 1 */
    uint32_t *marks;            /* room for n + 1 */
    struct ts_run *run;         /* errors and notes */
    const struct ts_expr *call;
};
static inline int64_t ts_range_end(const struct ts_range_in *in, size_t i)
{
    return in->end_ms + (int64_t)i * in->end_step_ms;
}
/* Samples in [lo, hi), which is not empty, those that are not here included. */
static inline size_t ts_range_count(const struct ts_range_in *in, size_t lo, size_t hi)
{
    return in->ordinals ? in->ordinals[hi - 1] - in->ordinals[lo] + 1 : hi - lo;
}

/* Writes values; steps that have none are left alone (the caller filled out with absent). Negative: run->err
 * is filled. */
typedef kv_status (*ts_range_kernel)(const struct ts_range_in *in, double *out);
/* NULL: not a range function, or not built. */
ts_range_kernel ts_range_kernel_of(enum ts_func_id id);
/* What its kernel needs of samples that are in a window with all of their chunk. */
enum ts_condense_kind ts_range_condense_of(enum ts_func_id id);

/* lo and hi of every step. reach_back/forward_ms: how far windows reach beyond their range (anchored,
 * smoothed). */
void ts_range_windows(const struct ts_range_in *in, int64_t reach_back_ms, int64_t reach_forward_ms,
                      uint32_t *lo, uint32_t *hi);
/* The first index at or behind `from` whose time is greater than t. Gallops, so nearby answers are cheap. */
size_t ts_times_after(const int64_t *times, size_t n, size_t from, int64_t t);

/* Neumaier's addition as Prometheus does it: an infinite sum clears the compensation. */
static inline void ts_kahan_add(double x, double *sum, double *c)
{
    double t = *sum + x;
    if (__builtin_isinf(t))
        *c = 0;
    else if (__builtin_fabs(*sum) >= __builtin_fabs(x))
        *c += (*sum - t) + x;
    else
        *c += (x - t) + *sum;
    *sum = t;
}
/* The q-quantile of values, which are reordered. As Prometheus: NaN sorts first; empty or NaN q: NaN. */
double ts_quantile(double q, double *values, size_t n);
/* For anchored and smoothed matrix selectors at the top of a query: the samples with the window's ends added.
 * Answers how many were written (room for n + 2), 0: none. */
size_t ts_range_extend(const int64_t *times, const double *values, size_t n, int64_t from_ms, int64_t to_ms,
                       bool smoothed, int64_t *out_times, double *out_values);
/* The value at t of the line through two samples; of a counter that was reset between them, from zero. */
double ts_interpolate(int64_t t1, double v1, int64_t t2, double v2, int64_t t, bool counter);

#endif
