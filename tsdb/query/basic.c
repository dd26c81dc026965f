/* basic.c - the small operators: constants, time(), repetition, joining of alike series, mapping, negation.
 */
#include "kvcore/base/mem.h"
#include "tsdb/query/labelset.h"
#include "tsdb/query/operators.h"

/* ---- scalars: one series without labels */

struct scalar_op {
    struct ts_operator op;
    bool is_time, done;
    double value;
    struct ts_pool pool;
};

static kv_status scalar_next(struct ts_operator *op, struct ts_column *out)
{
    struct scalar_op *self = (struct scalar_op *)op;
    if (self->done)
        return KV_END;
    self->done = true;
    double *values = ts_pool_column(&self->pool, op->grid.n);
    if (!values)
        return ts_pool_status(&self->pool);
    for (size_t i = 0; i < op->grid.n; i++)
        values[i] = self->is_time ? (double)ts_grid_at(&op->grid, i) / 1000 : self->value;
    *out = (struct ts_column){.values = values};
    return KV_OK;
}

static void scalar_close(struct ts_operator *op)
{
    struct scalar_op *self = (struct scalar_op *)op;
    ts_pool_release(&self->pool);
    kv_free(self);
}

static const struct ts_operator_ops scalar_ops = {scalar_next, scalar_close};

static kv_status scalar_new(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr, bool is_time,
                            double value, struct ts_operator **out)
{
    struct scalar_op *self = kv_zalloc(1, sizeof(*self));
    if (!self)
        return ts_run_status(run, KV_NO_MEMORY, NULL);
    self->op = (struct ts_operator){&scalar_ops, run, grid, expr, true};
    self->is_time = is_time;
    self->value = value;
    ts_pool_init(&self->pool, run);
    *out = &self->op;
    return KV_OK;
}

kv_status ts_op_constant(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr, double value,
                         struct ts_operator **out)
{
    return scalar_new(run, grid, expr, false, value, out);
}

kv_status ts_op_time(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                     struct ts_operator **out)
{
    return scalar_new(run, grid, expr, true, 0, out);
}

kv_status ts_op_empty(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                      struct ts_operator **out)
{
    kv_status rc = scalar_new(run, grid, expr, false, 0, out);
    if (rc == KV_OK)
        ((struct scalar_op *)*out)->done = true;
    return rc;
}

/* ---- one child, a column of its own: repeat and map */

struct wrap_op {
    struct ts_operator op;
    struct ts_operator *child;
    struct ts_pool pool;
    double *values;
    struct ts_name_drop drop;
    const struct ts_map_fn *fn;
    struct ts_operator *params[4];
    const double *columns[4];
    bool started;
};

static void wrap_close(struct ts_operator *op)
{
    struct wrap_op *self = (struct wrap_op *)op;
    ts_operator_close(self->child);
    for (size_t i = 0; i < 4; i++)
        ts_operator_close(self->params[i]);
    ts_name_drop_release(&self->drop);
    ts_pool_release(&self->pool);
    kv_free(self);
}

static struct wrap_op *wrap_new(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                                const struct ts_operator_ops *ops, bool one_name)
{
    struct wrap_op *self = kv_zalloc(1, sizeof(*self));
    if (!self) {
        (void)ts_run_status(run, KV_NO_MEMORY, NULL);
        return NULL;
    }
    self->op = (struct ts_operator){ops, run, grid, expr, one_name};
    ts_pool_init(&self->pool, run);
    self->drop.run = run;
    return self;
}

static kv_status repeat_next(struct ts_operator *op, struct ts_column *out)
{
    struct wrap_op *self = (struct wrap_op *)op;
    kv_status rc = ts_operator_next(self->child, out);
    if (rc != KV_OK)
        return rc;
    if (!self->values && !(self->values = ts_pool_column(&self->pool, op->grid.n)))
        return ts_pool_status(&self->pool);
    ts_column_fill(self->values, op->grid.n, out->values[0]);
    out->values = self->values;
    return ts_run_samples(op->run, op->grid.n);
}

static const struct ts_operator_ops repeat_ops = {repeat_next, wrap_close};

kv_status ts_op_repeat(struct ts_run *run, struct ts_grid grid, struct ts_operator *child,
                       struct ts_operator **out)
{
    struct wrap_op *self = wrap_new(run, grid, child->expr, &repeat_ops, child->one_name);
    if (!self)
        return KV_NO_MEMORY;
    self->child = child;
    *out = &self->op;
    return KV_OK;
}

static kv_status map_start(struct wrap_op *self)
{
    self->started = true;
    for (size_t i = 0; i < 4 && self->params[i]; i++) {
        double *column = ts_pool_column(&self->pool, self->op.grid.n);
        if (!column)
            return ts_pool_status(&self->pool);
        kv_status rc = ts_scalar_read(self->params[i], column);
        if (rc < 0)
            return rc;
        self->columns[i] = column;
    }
    return KV_OK;
}

static kv_status map_next(struct ts_operator *op, struct ts_column *out)
{
    struct wrap_op *self = (struct wrap_op *)op;
    kv_status rc;
    if (!self->started && (rc = map_start(self)) < 0)
        return rc;
    if ((rc = ts_operator_next(self->child, out)) != KV_OK)
        return rc;
    self->fn->apply(&op->grid, out->values, self->columns);
    return ts_name_drop(&self->drop, out);
}

static const struct ts_operator_ops map_ops = {map_next, wrap_close};

/* Names were dropped from series of several names: what became alike is joined, or fails. */
static kv_status wrap_finish(struct wrap_op *self, struct ts_operator **out)
{
    if (self->op.one_name || self->op.run->delayed_names) {
        *out = &self->op;
        return KV_OK;
    }
    kv_status rc = ts_op_merge(&self->op, out);
    if (rc < 0) { /* the inputs stay the caller's */
        self->child = NULL;
        memset(self->params, 0, sizeof(self->params));
        wrap_close(&self->op);
        return rc;
    }
    (*out)->one_name = true; /* none has one any more */
    return rc;
}

kv_status ts_op_map(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                    struct ts_operator *input, struct ts_operator **params, const struct ts_map_fn *fn,
                    struct ts_operator **out)
{
    struct wrap_op *self = wrap_new(run, grid, call, &map_ops, input->one_name);
    if (!self)
        return KV_NO_MEMORY;
    self->child = input;
    self->fn = fn;
    for (size_t i = 0; i < fn->n_params && i < 4; i++)
        self->params[i] = params[i];
    return wrap_finish(self, out);
}

static void negate_apply(const struct ts_grid *grid, double *values, const double *const *params)
{
    (void)params;
    for (size_t i = 0; i < grid->n; i++)
        if (!ts_is_absent(values[i]))
            values[i] = -values[i];
}

kv_status ts_op_negate(struct ts_run *run, const struct ts_expr *expr, struct ts_operator *input,
                       struct ts_operator **out)
{
    static const struct ts_map_fn fn = {negate_apply, 0};
    struct wrap_op *self = wrap_new(run, input->grid, expr, &map_ops, input->one_name);
    if (!self)
        return KV_NO_MEMORY;
    self->child = input;
    self->fn = &fn;
    return wrap_finish(self, out);
}

/* ---- timestamp() */

static void same_apply(const struct ts_grid *grid, double *values, const double *const *params)
{
    (void)grid;
    (void)values;
    (void)params;
}

static void step_time_apply(const struct ts_grid *grid, double *values, const double *const *params)
{
    (void)params;
    for (size_t i = 0; i < grid->n; i++)
        if (!ts_is_absent(values[i]))
            values[i] = (double)ts_grid_at(grid, i) / 1000;
}

kv_status ts_op_drop_name(struct ts_run *run, const struct ts_expr *expr, struct ts_operator *input,
                          struct ts_operator **out)
{
    static const struct ts_map_fn fn = {same_apply, 0};
    return ts_op_map(run, input->grid, expr, input, NULL, &fn, out);
}

kv_status ts_op_step_time(struct ts_run *run, const struct ts_expr *expr, struct ts_operator *input,
                          struct ts_operator **out)
{
    static const struct ts_map_fn fn = {step_time_apply, 0};
    return ts_op_map(run, input->grid, expr, input, NULL, &fn, out);
}

/* ---- merge */

struct merge_op {
    struct ts_operator op;
    struct ts_operator *child;
    struct ts_rows rows;
    struct ts_keys keys;
    struct ts_label *labels;
    size_t labels_room;
    size_t at;
    bool started;
    bool drops_names; /* those marked */
};

static kv_status merge_join(struct ts_run *run, double *into, const double *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (ts_is_absent(from[i]))
            continue;
        if (!ts_is_absent(into[i]))
            return ts_run_fail(run, TS_QUERY_EXECUTION, KV_INVALID,
                               "vector cannot contain metrics with the same labelset");
        into[i] = from[i];
    }
    return KV_OK;
}

static kv_status merge_start(struct merge_op *self)
{
    struct ts_column column;
    size_t n = self->op.grid.n;
    kv_status rc;
    self->started = true;
    while ((rc = ts_operator_next(self->child, &column)) == KV_OK) {
        size_t index;
        bool is_new;
        if (ts_column_empty(column.values, n))
            continue;
        if (self->drops_names && column.drop_name) {
            KV_TRY(ts_run_grow(self->op.run, (void **)&self->labels, &self->labels_room, column.n_labels + 1,
                               sizeof(*self->labels)));
            column.n_labels = ts_labels_drop_name(column.labels, column.n_labels, self->labels);
            column.labels = self->labels;
        }
        KV_TRY(ts_labels_key_all(column.labels, column.n_labels, &self->keys.scratch));
        KV_TRY(ts_keys_put(&self->keys, kv_buf_slice(&self->keys.scratch), &index, &is_new));
        if (is_new)
            KV_TRY(ts_rows_add(&self->rows, &column, n));
        else
            KV_TRY(merge_join(self->op.run, self->rows.items[index].values, column.values, n));
    }
out:
    return rc < 0 ? ts_run_status(self->op.run, rc, NULL) : KV_OK;
}

static kv_status merge_next(struct ts_operator *op, struct ts_column *out)
{
    struct merge_op *self = (struct merge_op *)op;
    kv_status rc;
    if (!self->started && (rc = merge_start(self)) < 0)
        return rc;
    if (self->at == self->rows.n)
        return KV_END;
    *out = self->rows.items[self->at++];
    return KV_OK;
}

static void merge_close(struct ts_operator *op)
{
    struct merge_op *self = (struct merge_op *)op;
    ts_run_shrink(op->run, (void **)&self->labels, &self->labels_room, sizeof(*self->labels));
    ts_rows_release(&self->rows);
    ts_keys_release(&self->keys);
    ts_operator_close(self->child);
    kv_free(self);
}

static const struct ts_operator_ops merge_ops = {merge_next, merge_close};

kv_status ts_op_merge(struct ts_operator *child, struct ts_operator **out)
{
    struct merge_op *self = kv_zalloc(1, sizeof(*self));
    if (!self)
        return ts_run_status(child->run, KV_NO_MEMORY, NULL);
    self->op = (struct ts_operator){&merge_ops, child->run, child->grid, child->expr, child->one_name};
    self->child = child;
    ts_rows_init(&self->rows, child->run);
    ts_keys_init(&self->keys, child->run);
    *out = &self->op;
    return KV_OK;
}

kv_status ts_op_finish_names(struct ts_operator *child, struct ts_operator **out)
{
    kv_status rc = ts_op_merge(child, out);
    if (rc == KV_OK)
        ((struct merge_op *)*out)->drops_names = true;
    return rc;
}
