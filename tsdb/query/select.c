/* select.c - instant selectors: at each step the newest sample within the look-back, unless it is a stale
 * marker. */
#include "kvcore/base/mem.h"
#include "tsdb/label.h"
#include "tsdb/query/operators.h"
#include "tsdb/query/range_kernel.h"
#include "tsdb/query/scan.h"

struct select_op {
    struct ts_operator op;
    struct ts_select_at at;
    bool sample_times, smoothed;
    bool choose; /* these labels: */
    struct ts_label_choice labels;
    struct ts_scan *scan;
    struct ts_pool pool;
    double *values;
};

/* The time that step i looks at. */
static int64_t select_time(const struct select_op *self, size_t i)
{
    return (self->at.fixed ? self->at.at_ms : ts_grid_at(&self->op.grid, i)) - self->at.offset_ms;
}

static kv_status select_open(struct select_op *self)
{
    struct ts_run *run = self->op.run;
    const struct ts_vector_selector *selector = &self->op.expr->vector;
    struct kv_err err = {0};
    struct ts_scan_options options = {
        .matchers = selector->matchers,
        .n_matchers = selector->n_matchers,
        .from_ms = select_time(self, 0) - run->lookback_ms + 1,
        .to_ms = select_time(self, self->op.grid.n - 1) + (self->smoothed ? run->lookback_ms : 0),
        .labels = self->choose ? &self->labels : NULL,
    };
    self->values = ts_pool_column(&self->pool, self->op.grid.n);
    if (!self->values)
        return ts_pool_status(&self->pool);
    return ts_run_status(run, ts_scan_open(run->db, &options, &run->budget, &self->scan, &err), &err);
}

/* Fills the column; answers whether any step has a value. */
static bool select_fill(struct select_op *self, const struct ts_scan_series *series)
{
    size_t behind = 0; /* samples at or before the step's time */
    bool any = false;
    double *values = self->values;
    for (size_t i = 0; i < self->op.grid.n; i++) {
        int64_t at = select_time(self, i);
        behind = ts_times_after(series->times_ms, series->n, behind, at);
        values[i] = ts_absent();
        if (behind == 0 || series->times_ms[behind - 1] <= at - self->op.run->lookback_ms ||
            ts_is_absent(series->values[behind - 1]))
            continue;
        values[i] =
            self->sample_times ? (double)series->times_ms[behind - 1] / 1000 : series->values[behind - 1];
        any = true;
    }
    return any;
}

/* Between the neighbours on both sides; behind the last sample it holds. Stale markers are not neighbours. */
static bool smooth_fill(struct select_op *self, const struct ts_scan_series *series)
{
    bool any = false;
    int64_t reach = self->op.run->lookback_ms;
    for (size_t i = 0; i < self->op.grid.n; i++) {
        int64_t at = select_time(self, i);
        size_t next = ts_times_after(series->times_ms, series->n, 0, at - 1), before = next;
        while (next < series->n && ts_is_absent(series->values[next]))
            next++;
        while (before > 0 && ts_is_absent(series->values[before - 1]))
            before--;
        bool has_next = next < series->n && series->times_ms[next] <= at + reach;
        bool has_before = before > 0 && series->times_ms[before - 1] > at - reach;
        self->values[i] = ts_absent();
        if (has_next && series->times_ms[next] == at)
            self->values[i] = series->values[next];
        else if (has_before && has_next)
            self->values[i] = ts_interpolate(series->times_ms[before - 1], series->values[before - 1],
                                             series->times_ms[next], series->values[next], at, false);
        else if (has_before)
            self->values[i] = series->values[before - 1];
        any = any || !ts_is_absent(self->values[i]);
    }
    return any;
}

static kv_status select_next(struct ts_operator *op, struct ts_column *out)
{
    struct select_op *self = (struct select_op *)op;
    struct ts_scan_series series;
    struct kv_err err = {0};
    kv_status rc;
    if (!self->scan && (rc = select_open(self)) < 0)
        return rc;
    for (;;) {
        rc = ts_scan_next(self->scan, &series, &err);
        if (rc != KV_OK)
            return ts_run_status(op->run, rc, &err);
        if (self->smoothed ? smooth_fill(self, &series) : select_fill(self, &series))
            break;
    }
    op->run->series++;
    *out = (struct ts_column){series.labels, series.n_labels, false, self->values};
    return ts_run_samples(op->run, op->grid.n);
}

static void select_close(struct ts_operator *op)
{
    struct select_op *self = (struct select_op *)op;
    ts_scan_close(self->scan);
    ts_pool_release(&self->pool);
    kv_free(self);
}

static const struct ts_operator_ops select_ops = {select_next, select_close};

bool ts_selector_one_name(const struct ts_expr *selector)
{
    const struct ts_vector_selector *vector = &selector->vector;
    for (size_t i = 0; i < vector->n_matchers; i++)
        if (vector->matchers[i].op == TS_MATCH_EQ && kv_slice_equal(vector->matchers[i].name, TS_METRIC_NAME))
            return true;
    return false;
}

kv_status ts_op_select(struct ts_run *run, struct ts_grid grid, const struct ts_expr *selector,
                       const struct ts_select_at *at, bool sample_times, const struct ts_label_choice *labels,
                       struct ts_operator **out)
{
    struct select_op *self = kv_zalloc(1, sizeof(*self));
    if (!self)
        return ts_run_status(run, KV_NO_MEMORY, NULL);
    self->op = (struct ts_operator){&select_ops, run, grid, selector, ts_selector_one_name(selector)};
    self->at = *at;
    self->sample_times = sample_times;
    self->choose = labels != NULL;
    self->labels = labels ? *labels : (struct ts_label_choice){0};
    self->smoothed = selector->vector.mode == TS_RANGE_SMOOTHED;
    ts_pool_init(&self->pool, run);
    *out = &self->op;
    return KV_OK;
}
