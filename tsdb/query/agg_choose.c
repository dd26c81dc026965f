/*
 * agg_choose.c - aggregations that choose among their input's series, step by step: topk, bottomk, limitk,
 * limit_ratio. Chosen samples are kept in a small heap for each group and step; a series' labels only once a
 * sample of it entered one.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/hash.h"
#include "kvcore/base/mem.h"
#include "tsdb/query/agg.h"
#include "tsdb/query/labelset.h"

#include <math.h>
#include <stdlib.h>

/* A parameter over all steps. */
struct param_range {
    double min, max;
    bool has_nan;
};

static struct param_range param_range_of(const double *params, size_t n)
{
    struct param_range range = {INFINITY, -INFINITY, false};
    for (size_t i = 0; i < n; i++) {
        range.has_nan |= isnan(params[i]) != 0;
        range.min = params[i] < range.min ? params[i] : range.min;
        range.max = params[i] > range.max ? params[i] : range.max;
    }
    return range;
}

void ts_agg_note_quantile(struct ts_run *run, const struct ts_expr *expr, const double *params, size_t n)
{
    static const char text[] = "quantile value should be between 0 and 1, got %s";
    struct param_range range = param_range_of(params, n);
    uint32_t at = ts_expr_unparen(expr->aggregate.param)->start;
    char number[32];
    if (range.has_nan)
        ts_notes_add(&run->notes, TS_NOTE_WARNING, at, text, "NaN");
    if (range.max > 1)
        ts_notes_add(&run->notes, TS_NOTE_WARNING, at, text, ts_go_g(range.max, number));
    if (range.min < 0)
        ts_notes_add(&run->notes, TS_NOTE_WARNING, at, text, ts_go_g(range.min, number));
}

/* ---- topk, bottomk, limitk */

struct chosen {
    double value;
    uint32_t row;
};
struct heap {
    struct chosen *items; /* worst first */
    uint32_t n, room;
};
struct choose_op {
    struct ts_operator op;
    struct ts_operator *input, *param;
    struct ts_name_list names;
    struct ts_keys keys;
    struct ts_pool pool;
    struct ts_rows rows; /* labels of series that entered a heap; values unused */
    struct heap *heaps;  /* group * steps + step */
    size_t n_groups, heaps_room;
    double *params;
    struct pick {
        uint32_t row, step;
        double value;
    } * picks; /* by row, or (instant) in the order of the answer */
    size_t n_picks, picks_room, at;
    double *values;
    bool started;
};

static enum ts_agg choose_kind(const struct choose_op *self)
{
    return self->op.expr->aggregate.op;
}

/* Whether a should go before b is thrown out: NaN is worst, then by value; of equals the later series is
 * worse. */
static bool chosen_worse(enum ts_agg kind, const struct chosen *a, const struct chosen *b)
{
    if (isnan(a->value) || isnan(b->value))
        return isnan(a->value) && isnan(b->value) ? a->row > b->row : isnan(a->value) != 0;
    if (a->value != b->value)
        return kind == TS_AGG_BOTTOMK ? a->value > b->value : a->value < b->value;
    return a->row > b->row;
}

static void heap_sink(struct heap *heap, enum ts_agg kind)
{
    for (uint32_t i = 0;;) {
        uint32_t worst = i, left = 2 * i + 1, right = left + 1;
        if (left < heap->n && chosen_worse(kind, &heap->items[left], &heap->items[worst]))
            worst = left;
        if (right < heap->n && chosen_worse(kind, &heap->items[right], &heap->items[worst]))
            worst = right;
        if (worst == i)
            return;
        struct chosen swap = heap->items[i];
        heap->items[i] = heap->items[worst];
        heap->items[worst] = swap;
        i = worst;
    }
}

static void heap_rise(struct heap *heap, enum ts_agg kind)
{
    for (uint32_t i = heap->n - 1; i > 0;) {
        uint32_t up = (i - 1) / 2;
        if (!chosen_worse(kind, &heap->items[i], &heap->items[up]))
            return;
        struct chosen swap = heap->items[i];
        heap->items[i] = heap->items[up];
        heap->items[up] = swap;
        i = up;
    }
}

static kv_status heap_push(struct choose_op *self, struct heap *heap, struct chosen item)
{
    size_t room = heap->room;
    kv_status rc =
        ts_run_grow(self->op.run, (void **)&heap->items, &room, (size_t)heap->n + 1, sizeof(*heap->items));
    if (rc < 0)
        return rc;
    heap->room = (uint32_t)room;
    heap->items[heap->n++] = item;
    if (choose_kind(self) != TS_AGG_LIMITK)
        heap_rise(heap, choose_kind(self));
    return KV_OK;
}

/* Offers one sample; *entered when it was kept. k >= 1. */
static kv_status heap_offer(struct choose_op *self, struct heap *heap, struct chosen item, double k,
                            bool *entered)
{
    *entered = (double)heap->n < k;
    if (*entered)
        return heap_push(self, heap, item);
    if (choose_kind(self) == TS_AGG_LIMITK || !chosen_worse(choose_kind(self), &heap->items[0], &item))
        return KV_OK;
    heap->items[0] = item;
    heap_sink(heap, choose_kind(self));
    *entered = true;
    return KV_OK;
}

static kv_status choose_group(struct choose_op *self, const struct ts_column *column, struct heap **out)
{
    struct ts_run *run = self->op.run;
    bool keep = !self->op.expr->aggregate.without, is_new;
    size_t index, n = self->op.grid.n;
    kv_status rc;
    KV_TRY(ts_labels_key(column->labels, column->n_labels, &self->names, keep, &self->keys.scratch));
    KV_TRY(ts_keys_put(&self->keys, kv_buf_slice(&self->keys.scratch), &index, &is_new));
    if (is_new) {
        KV_TRY(ts_run_grow(run, (void **)&self->heaps, &self->heaps_room, (index + 1) * n,
                           sizeof(*self->heaps)));
        memset(self->heaps + index * n, 0, n * sizeof(*self->heaps));
        self->n_groups = index + 1;
    }
    *out = self->heaps + index * n;
out:
    return ts_run_status(run, rc, NULL);
}

static kv_status choose_row(struct choose_op *self, const struct ts_column *column)
{
    struct heap *heaps = NULL;
    struct ts_column kept = *column;
    bool any = false, entered;
    uint32_t row = (uint32_t)self->rows.n;
    kv_status rc;
    if (self->rows.n >= UINT32_MAX - 1)
        return ts_run_status(self->op.run, KV_LIMIT, NULL);
    KV_TRY(choose_group(self, column, &heaps));
    KV_ASSERT(heaps);
    for (size_t i = 0; i < self->op.grid.n; i++) {
        double k = self->params[i];
        if (ts_is_absent(column->values[i]) || !(k >= 1))
            continue;
        KV_TRY(heap_offer(self, &heaps[i], (struct chosen){column->values[i], row}, floor(k), &entered));
        any = any || entered;
    }
    if (any) { /* rows that never entered leave no number behind */
        kept.values = self->values;
        KV_TRY(ts_rows_add(&self->rows, &kept, 0));
    }
out:
    return rc;
}

static kv_status choose_params(struct choose_op *self, bool *nothing)
{
    struct ts_run *run = self->op.run;
    char text[32];
    if (!(self->params = ts_pool_column(&self->pool, self->op.grid.n)) ||
        !(self->values = ts_pool_column(&self->pool, self->op.grid.n)))
        return ts_pool_status(&self->pool);
    kv_status rc = ts_scalar_read(self->param, self->params);
    if (rc < 0)
        return rc;
    struct param_range range = param_range_of(self->params, self->op.grid.n);
    *nothing = range.max < 1 && !range.has_nan;
    if (*nothing)
        return KV_OK;
    if (range.has_nan)
        return ts_run_fail(run, TS_QUERY_EXECUTION, KV_INVALID, "Parameter value is NaN");
    if (range.min <= -9223372036854775808.0)
        return ts_run_fail(run, TS_QUERY_EXECUTION, KV_INVALID, "Scalar value %s underflows int64",
                           ts_go_g(range.min, text));
    if (range.max >= 9223372036854774784.0)
        return ts_run_fail(run, TS_QUERY_EXECUTION, KV_INVALID, "Scalar value %s overflows int64",
                           ts_go_g(range.max, text));
    return KV_OK;
}

static int pick_by_row(const void *a, const void *b)
{
    const struct pick *x = a, *y = b;
    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    return x->step < y->step ? -1 : x->step > y->step;
}

static int chosen_best_first_top(const void *a, const void *b)
{
    return chosen_worse(TS_AGG_TOPK, a, b) ? 1 : -1; /* never equal: rows differ */
}
static int chosen_best_first_bottom(const void *a, const void *b)
{
    return chosen_worse(TS_AGG_BOTTOMK, a, b) ? 1 : -1;
}

/* All heaps into one list of picks. */
static kv_status choose_collect(struct choose_op *self)
{
    enum ts_agg kind = choose_kind(self);
    size_t n = self->op.grid.n, total = 0;
    for (size_t i = 0; i < self->n_groups * n; i++)
        total += self->heaps[i].n;
    kv_status rc = ts_run_grow(self->op.run, (void **)&self->picks, &self->picks_room, total ? total : 1,
                               sizeof(*self->picks));
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < self->n_groups * n; i++) {
        struct heap *heap = &self->heaps[i];
        if (kind != TS_AGG_LIMITK && heap->n)
            qsort(heap->items, heap->n, sizeof(*heap->items),
                  kind == TS_AGG_TOPK ? chosen_best_first_top : chosen_best_first_bottom);
        for (uint32_t k = 0; k < heap->n; k++)
            self->picks[self->n_picks++] =
                (struct pick){heap->items[k].row, (uint32_t)(i % n), heap->items[k].value};
    }
    if (n > 1)
        qsort(self->picks, self->n_picks, sizeof(*self->picks), pick_by_row);
    return KV_OK;
}

static kv_status choose_start(struct choose_op *self)
{
    struct ts_column column;
    bool nothing;
    kv_status rc;
    self->started = true;
    KV_TRY(choose_params(self, &nothing));
    if (nothing)
        return KV_OK;
    while ((rc = ts_operator_next(self->input, &column)) == KV_OK)
        KV_TRY(choose_row(self, &column));
    if (rc == KV_END)
        rc = choose_collect(self);
out:
    return rc;
}

static kv_status choose_next(struct ts_operator *op, struct ts_column *out)
{
    struct choose_op *self = (struct choose_op *)op;
    kv_status rc;
    if (!self->started && (rc = choose_start(self)) < 0)
        return rc;
    if (self->at == self->n_picks)
        return KV_END;
    uint32_t row = self->picks[self->at].row;
    ts_column_fill(self->values, op->grid.n, ts_absent());
    for (; self->at < self->n_picks && self->picks[self->at].row == row; self->at++)
        self->values[self->picks[self->at].step] = self->picks[self->at].value;
    *out = self->rows.items[row];
    out->values = self->values;
    return ts_run_samples(op->run, op->grid.n);
}

static void choose_close(struct ts_operator *op)
{
    struct choose_op *self = (struct choose_op *)op;
    for (size_t i = 0; i < self->n_groups * op->grid.n; i++) {
        size_t room = self->heaps[i].room;
        ts_run_shrink(op->run, (void **)&self->heaps[i].items, &room, sizeof(struct chosen));
    }
    ts_run_shrink(op->run, (void **)&self->heaps, &self->heaps_room, sizeof(*self->heaps));
    ts_run_shrink(op->run, (void **)&self->picks, &self->picks_room, sizeof(*self->picks));
    ts_rows_release(&self->rows);
    ts_keys_release(&self->keys);
    ts_pool_release(&self->pool);
    ts_operator_close(self->input);
    ts_operator_close(self->param);
    kv_free(self);
}

static const struct ts_operator_ops choose_ops = {choose_next, choose_close};

kv_status ts_op_choose(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                       struct ts_operator *input, struct ts_operator *param, struct ts_operator **out)
{
    const struct ts_aggregate *how = &expr->aggregate;
    struct choose_op *self = kv_zalloc(1, sizeof(*self));
    if (!self)
        return ts_run_status(run, KV_NO_MEMORY, NULL);
    self->op = (struct ts_operator){&choose_ops, run, grid, expr, input->one_name};
    ts_keys_init(&self->keys, run);
    ts_pool_init(&self->pool, run);
    ts_rows_init(&self->rows, run);
    kv_status rc = ts_name_list_make(how->grouping, how->n_grouping, NULL, &self->pool, &self->names);
    if (rc < 0) {
        choose_close(&self->op);
        return rc;
    }
    self->input = input;
    self->param = param;
    *out = &self->op;
    return KV_OK;
}

/* ---- limit_ratio: by the hash of the labels, so that r and r - 1 are each other's complement */

struct ratio_op {
    struct ts_operator op;
    struct ts_operator *input, *param;
    struct ts_pool pool;
    struct kv_buf key;
    double *params;
    bool started, nothing;
};

static kv_status ratio_start(struct ratio_op *self)
{
    struct ts_run *run = self->op.run;
    static const char text[] = "ratio value should be between -1 and 1, got %s, capping to %s";
    uint32_t at = ts_expr_unparen(self->op.expr->aggregate.param)->start;
    char number[32];
    self->started = true;
    if (!(self->params = ts_pool_column(&self->pool, self->op.grid.n)))
        return ts_pool_status(&self->pool);
    kv_status rc = ts_scalar_read(self->param, self->params);
    if (rc < 0)
        return rc;
    struct param_range range = param_range_of(self->params, self->op.grid.n);
    self->nothing = range.max == 0 && range.min == 0 && !range.has_nan;
    if (range.has_nan)
        return ts_run_fail(run, TS_QUERY_EXECUTION, KV_INVALID, "Ratio value is NaN");
    if (range.max > 1)
        ts_notes_add(&run->notes, TS_NOTE_WARNING, at, text, ts_go_g(range.max, number), "1");
    if (range.min < -1)
        ts_notes_add(&run->notes, TS_NOTE_WARNING, at, text, ts_go_g(range.min, number), "-1");
    return KV_OK;
}

static bool ratio_takes(double ratio, double offset)
{
    return ratio >= 0 ? offset < ratio : offset >= 1 + ratio;
}

static kv_status ratio_next(struct ts_operator *op, struct ts_column *out)
{
    struct ratio_op *self = (struct ratio_op *)op;
    kv_status rc = self->started ? KV_OK : ratio_start(self);
    if (rc < 0)
        return rc;
    if (self->nothing)
        return KV_END;
    while ((rc = ts_operator_next(self->input, out)) == KV_OK) {
        bool any = false;
        if ((rc = ts_labels_key_all(out->labels, out->n_labels, &self->key)) < 0)
            return ts_run_status(op->run, rc, NULL);
        double offset = (double)(kv_hash64(kv_buf_slice(&self->key), 0) >> 11) * 0x1p-53;
        for (size_t i = 0; i < op->grid.n; i++) {
            if (!ratio_takes(self->params[i], offset))
                out->values[i] = ts_absent();
            any = any || !ts_is_absent(out->values[i]);
        }
        if (any)
            return KV_OK;
    }
    return rc;
}

static void ratio_close(struct ts_operator *op)
{
    struct ratio_op *self = (struct ratio_op *)op;
    ts_pool_release(&self->pool);
    kv_buf_release(&self->key);
    ts_operator_close(self->input);
    ts_operator_close(self->param);
    kv_free(self);
}

static const struct ts_operator_ops ratio_ops = {ratio_next, ratio_close};

kv_status ts_op_limit_ratio(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                            struct ts_operator *input, struct ts_operator *param, struct ts_operator **out)
{
    struct ratio_op *self = kv_zalloc(1, sizeof(*self));
    if (!self)
        return ts_run_status(run, KV_NO_MEMORY, NULL);
    self->op = (struct ts_operator){&ratio_ops, run, grid, expr, input->one_name};
    ts_pool_init(&self->pool, run);
    self->input = input;
    self->param = param;
    *out = &self->op;
    return KV_OK;
}
