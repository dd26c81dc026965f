/*
 * range_fn.c - range functions as an operator: takes series from a scan or from a subquery's inner
 * expression, strips what is not a sample, and lets a kernel (range_kernel.h) turn each into a column. One
 * series at a time, nothing is kept.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "tsdb/query/labelset.h"
#include "tsdb/query/operators.h"
#include "tsdb/query/range_kernel.h"
#include "tsdb/query/scan.h"

struct range_op {
    struct ts_operator op;
    struct ts_range_call how;
    const struct ts_expr *selector; /* of a matrix selector; NULL for a subquery */
    ts_range_kernel kernel;
    struct ts_label_choice labels; /* what how.labels points to, if it does */
    bool keeps_name, counter;      /* counter: rate and increase say when a name does not look like one */
    struct ts_scan *scan;
    struct ts_operator *input;
    struct ts_operator *scalars[2];
    bool started;
    struct ts_pool pool;
    double *values;
    uint32_t *lo, *hi;
    double *params[2];
    /* samples without stale markers, when there were any; room for the kernel */
    int64_t *times;
    double *samples, *scratch;
    uint32_t *marks, *ordinals;
    size_t ordinals_room;
    size_t times_room, samples_room, scratch_room, marks_room;
    struct ts_name_drop drop;
    struct ts_keys seen; /* label sets yielded, where dropping names could make two alike */
};

/* The end of the first and last window. */
static int64_t range_end(const struct range_op *self, size_t i)
{
    return (self->how.at.fixed ? self->how.at.at_ms : ts_grid_at(&self->op.grid, i)) - self->how.at.offset_ms;
}
static int64_t range_reach_back(const struct range_op *self)
{
    return self->selector && self->selector->vector.mode ? self->op.run->lookback_ms : 0;
}
static int64_t range_reach_forward(const struct range_op *self)
{
    return self->selector && self->selector->vector.mode == TS_RANGE_SMOOTHED ? self->op.run->lookback_ms : 0;
}

static kv_status range_open_scan(struct range_op *self)
{
    struct ts_run *run = self->op.run;
    struct kv_err err = {0};
    struct ts_scan_options options = {
        .matchers = self->selector->vector.matchers,
        .n_matchers = self->selector->vector.n_matchers,
        .from_ms = range_end(self, 0) - self->how.range_ms - range_reach_back(self) + 1,
        .to_ms = range_end(self, self->op.grid.n - 1) + range_reach_forward(self),
        .labels = self->how.labels,
    };
    if (self->selector->vector.mode == TS_RANGE_PLAIN)
        options.condense = (struct ts_condense){
            .kind = ts_range_condense_of(self->how.call->call.func->id),
            .end_ms = range_end(self, 0),
            .step_ms = self->how.at.fixed ? 0 : self->op.grid.step_ms,
            .range_ms = self->how.range_ms,
            .steps = self->op.grid.n,
        };
    return ts_run_status(run, ts_scan_open(run->db, &options, &run->budget, &self->scan, &err), &err);
}

static kv_status range_start(struct range_op *self)
{
    size_t n = self->op.grid.n;
    self->started = true;
    self->values = ts_pool_column(&self->pool, n);
    self->lo = self->values ? ts_pool_alloc(&self->pool, n * sizeof(*self->lo)) : NULL;
    self->hi = self->lo ? ts_pool_alloc(&self->pool, n * sizeof(*self->hi)) : NULL;
    if (!self->hi)
        return ts_pool_status(&self->pool);
    for (size_t i = 0; i < 2 && self->scalars[i]; i++) {
        kv_status rc;
        if (!(self->params[i] = ts_pool_column(&self->pool, n)))
            return ts_pool_status(&self->pool);
        if ((rc = ts_scalar_read(self->scalars[i], self->params[i])) < 0)
            return rc;
    }
    return self->input ? KV_OK : range_open_scan(self);
}

static kv_status range_make_room(struct range_op *self, size_t n)
{
    struct ts_run *run = self->op.run;
    kv_status rc;
    if (n >= UINT32_MAX)
        return ts_run_fail(run, TS_QUERY_EXECUTION, KV_LIMIT, "a series has too many samples in the range");
    KV_TRY(ts_run_grow(run, (void **)&self->scratch, &self->scratch_room, n + 1, sizeof(double)));
    KV_TRY(ts_run_grow(run, (void **)&self->marks, &self->marks_room, n + 1, sizeof(uint32_t)));
out:
    return rc;
}

static bool has_stale(const double *values, size_t n)
{
    uint64_t stale = 0;
    for (size_t i = 0; i < n; i++)
        stale |= ts_double_bits(values[i]) == TS_STALE_NAN;
    return stale != 0;
}

/* Copies the samples that are not stale; times may come from a grid (times NULL). Answers the count, negative
 * on failure. */
static kv_status range_strip(struct range_op *self, const int64_t *times, const struct ts_grid *grid,
                             const double *values, size_t n, size_t *kept)
{
    struct ts_run *run = self->op.run;
    size_t at = 0;
    kv_status rc;
    KV_ASSERT(times || grid);
    KV_TRY(ts_run_grow(run, (void **)&self->times, &self->times_room, n, sizeof(int64_t)));
    KV_TRY(ts_run_grow(run, (void **)&self->samples, &self->samples_room, n, sizeof(double)));
    for (size_t i = 0; i < n; i++) {
        if (ts_is_absent(values[i]))
            continue;
        self->times[at] = times ? times[i] : ts_grid_at(grid, i);
        self->samples[at++] = values[i];
    }
    *kept = at;
out:
    return rc;
}

/* Numbers the n samples at times, the missing ones included. */
static kv_status range_number(struct range_op *self, const struct ts_scan_series *series,
                              struct ts_range_in *in)
{
    uint64_t missing = 0;
    kv_status rc;
    KV_TRY(
        ts_run_grow(self->op.run, (void **)&self->ordinals, &self->ordinals_room, in->n, sizeof(uint32_t)));
    for (size_t i = 0, gap = 0; i < in->n; i++) {
        for (; gap < series->n_gaps && series->gaps[gap].at_ms <= in->times[i]; gap++)
            missing += series->gaps[gap].missing;
        if (missing + i >= UINT32_MAX)
            return ts_run_fail(self->op.run, TS_QUERY_EXECUTION, KV_LIMIT,
                               "a series has too many samples in the range");
        self->ordinals[i] = (uint32_t)(missing + i);
    }
    in->ordinals = self->ordinals;
out:
    return rc;
}

/* What the scan lends, without stale markers. */
static kv_status range_take(struct range_op *self, const struct ts_scan_series *found, struct ts_range_in *in)
{
    *in = (struct ts_range_in){.times = found->times_ms, .values = found->values, .n = found->n};
    if (has_stale(found->values, found->n)) {
        kv_status rc = range_strip(self, found->times_ms, NULL, found->values, found->n, &in->n);
        if (rc < 0)
            return rc;
        in->times = self->times;
        in->values = self->samples;
    }
    return found->n_gaps > 0 ? range_number(self, found, in) : KV_OK;
}

/* The next series of the scan. */
static kv_status range_scan(struct range_op *self, struct ts_column *series, struct ts_range_in *in)
{
    struct ts_scan_series found;
    struct kv_err err = {0};
    kv_status rc = ts_scan_next(self->scan, &found, &err);
    if (rc != KV_OK)
        return ts_run_status(self->op.run, rc, &err);
    self->op.run->series++;
    *series = (struct ts_column){found.labels, found.n_labels, false, NULL};
    rc = range_take(self, &found, in);
    bool sums = ts_range_condense_of(self->how.call->call.func->id) == TS_CONDENSE_SUM;
    if (rc < 0 || !in->ordinals || !sums || ts_condense_exact(in->values, in->n))
        return rc;
    if ((rc = ts_scan_again(self->scan, &found, &err)) < 0)
        return ts_run_status(self->op.run, rc, &err);
    return range_take(self, &found, in);
}

/* The next series and its samples in *in. */
static kv_status range_pull(struct range_op *self, struct ts_column *series, struct ts_range_in *in)
{
    size_t n;
    kv_status rc;
    if (!self->input)
        return range_scan(self, series, in);
    if ((rc = ts_operator_next(self->input, series)) != KV_OK)
        return rc;
    if ((rc = range_strip(self, NULL, &self->input->grid, series->values, self->input->grid.n, &n)) < 0)
        return rc;
    *in = (struct ts_range_in){.times = self->times, .values = self->samples, .n = n};
    return KV_OK;
}

static bool ends_with(kv_slice s, const char *suffix)
{
    size_t n = strlen(suffix);
    return s.len >= n && memcmp(s.data + s.len - n, suffix, n) == 0;
}

static void range_note_counter(struct range_op *self, const struct ts_column *series)
{
    kv_slice name = ts_labels_get(series->labels, series->n_labels, TS_METRIC_NAME);
    if (name.len == 0 || ends_with(name, "_total") || ends_with(name, "_sum") || ends_with(name, "_count") ||
        ends_with(name, "_bucket"))
        return;
    ts_notes_add_name(
        &self->op.run->notes, TS_NOTE_INFO, self->how.call->call.args[0]->start,
        "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:", name);
}

/* Two series that are alike without their names: an error, whether or not they overlap. */
static kv_status range_check_alike(struct range_op *self, const struct ts_column *series)
{
    size_t index;
    bool is_new;
    kv_status rc;
    KV_TRY(ts_labels_key_all(series->labels, series->n_labels, &self->seen.scratch));
    KV_TRY(ts_keys_put(&self->seen, kv_buf_slice(&self->seen.scratch), &index, &is_new));
    if (!is_new)
        return ts_run_fail(self->op.run, TS_QUERY_EXECUTION, KV_INVALID,
                           "vector cannot contain metrics with the same labelset");
out:
    return ts_run_status(self->op.run, rc, NULL);
}

static kv_status range_next(struct ts_operator *op, struct ts_column *out)
{
    struct range_op *self = (struct range_op *)op;
    struct ts_range_in in = {0};
    kv_status rc;
    if (!self->started)
        KV_TRY(range_start(self));
    do {
        if ((rc = range_pull(self, out, &in)) != KV_OK)
            return rc;
        if (in.n == 0)
            continue;
        KV_TRY(range_make_room(self, in.n));
        in.lo = self->lo;
        in.hi = self->hi;
        in.steps = op->grid.n;
        in.end_ms = range_end(self, 0);
        in.end_step_ms = self->how.at.fixed ? 0 : op->grid.step_ms;
        in.range_ms = self->how.range_ms;
        in.mode = self->selector ? self->selector->vector.mode : TS_RANGE_PLAIN;
        in.grid = &op->grid;
        in.params[0] = self->params[0];
        in.params[1] = self->params[1];
        in.scratch = self->scratch;
        in.marks = self->marks;
        in.run = op->run;
        in.call = self->how.call;
        ts_range_windows(&in, range_reach_back(self), range_reach_forward(self), self->lo, self->hi);
        ts_column_fill(self->values, op->grid.n, ts_absent());
        KV_TRY(self->kernel(&in, self->values));
    } while (in.n == 0 || ts_column_empty(self->values, op->grid.n));
    out->values = self->values;
    if (self->counter)
        range_note_counter(self, out);
    if (!self->keeps_name) {
        KV_TRY(ts_name_drop(&self->drop, out));
        if (!op->one_name && !op->run->delayed_names)
            KV_TRY(range_check_alike(self, out));
    }
    rc = ts_run_samples(op->run, op->grid.n);
out:
    return rc;
}

static void range_close(struct ts_operator *op)
{
    struct range_op *self = (struct range_op *)op;
    struct ts_run *run = op->run;
    ts_run_shrink(run, (void **)&self->times, &self->times_room, sizeof(int64_t));
    ts_run_shrink(run, (void **)&self->samples, &self->samples_room, sizeof(double));
    ts_run_shrink(run, (void **)&self->scratch, &self->scratch_room, sizeof(double));
    ts_run_shrink(run, (void **)&self->ordinals, &self->ordinals_room, sizeof(uint32_t));
    ts_run_shrink(run, (void **)&self->marks, &self->marks_room, sizeof(uint32_t));
    ts_name_drop_release(&self->drop);
    ts_keys_release(&self->seen);
    ts_scan_close(self->scan);
    ts_operator_close(self->input);
    ts_operator_close(self->scalars[0]);
    ts_operator_close(self->scalars[1]);
    ts_pool_release(&self->pool);
    kv_free(self);
}

static const struct ts_operator_ops range_ops = {range_next, range_close};

/* anchored and smoothed reach outside the range, which only these can tell apart. */
static kv_status range_check_mode(struct ts_run *run, const struct ts_range_call *how,
                                  enum ts_range_mode mode)
{
    const struct ts_func *func = how->call->call.func;
    bool rates = func->id == TS_FUNC_RATE || func->id == TS_FUNC_INCREASE || func->id == TS_FUNC_DELTA;
    if (mode == TS_RANGE_ANCHORED && !rates && func->id != TS_FUNC_CHANGES && func->id != TS_FUNC_RESETS)
        return ts_run_fail(
            run, TS_QUERY_EXECUTION, KV_INVALID,
            "anchored modifier can only be used with: changes, delta, increase, rate, resets - not with %s",
            func->name);
    if (mode == TS_RANGE_SMOOTHED && !rates)
        return ts_run_fail(run, TS_QUERY_EXECUTION, KV_INVALID,
                           "smoothed modifier can only be used with: delta, increase, rate - not with %s",
                           func->name);
    return KV_OK;
}

kv_status ts_op_range_fn(struct ts_run *run, struct ts_grid grid, const struct ts_range_call *how,
                         struct ts_operator *input, struct ts_operator **scalars, size_t n_scalars,
                         struct ts_operator **out)
{
    enum ts_func_id id = how->call->call.func->id;
    const struct ts_expr *selector = input ? NULL : how->range->matrix.vector;
    kv_status rc = selector ? range_check_mode(run, how, selector->vector.mode) : KV_OK;
    if (rc < 0)
        return rc;
    struct range_op *self = kv_zalloc(1, sizeof(*self));
    if (!self)
        return ts_run_status(run, KV_NO_MEMORY, NULL);
    self->op = (struct ts_operator){&range_ops, run, grid, how->call, false};
    self->op.one_name = input ? input->one_name : ts_selector_one_name(selector);
    self->how = *how;
    if (how->labels) {
        self->labels = *how->labels;
        self->how.labels = &self->labels;
    }
    self->selector = selector;
    self->kernel = ts_range_kernel_of(id);
    self->keeps_name = id == TS_FUNC_LAST_OVER_TIME || id == TS_FUNC_FIRST_OVER_TIME ||
                       id == TS_FUNC_ABSENT_OVER_TIME; /* whose input nobody sees */
    self->counter = id == TS_FUNC_RATE || id == TS_FUNC_INCREASE;
    self->input = input;
    for (size_t i = 0; i < n_scalars && i < 2; i++)
        self->scalars[i] = scalars[i];
    self->drop.run = run;
    ts_pool_init(&self->pool, run);
    ts_keys_init(&self->seen, run);
    *out = &self->op;
    return KV_OK;
}
