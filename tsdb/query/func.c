/* func.c - which function is made by what; the operator that most share; scalar, vector, absent. */
#include "tsdb/query/func.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"

#include <math.h>

/* ---- the shared operator */

static kv_status func_next(struct ts_operator *op, struct ts_column *out)
{
    struct ts_func_op *self = (struct ts_func_op *)op;
    if (!self->filled) {
        self->filled = true;
        kv_status rc = self->fill(self);
        if (rc < 0)
            return ts_run_status(op->run, rc, NULL);
    }
    if (self->at == self->out.n)
        return KV_END;
    *out = self->out.items[self->at++];
    return KV_OK;
}

static void func_close(struct ts_operator *op)
{
    struct ts_func_op *self = (struct ts_func_op *)op;
    for (size_t i = 0; i < self->n_inputs; i++)
        ts_operator_close(self->inputs[i]);
    ts_rows_release(&self->out);
    kv_free(self);
}

static const struct ts_operator_ops func_ops = {func_next, func_close};

struct ts_func_op *ts_func_op_new(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                                  struct ts_operator **inputs, size_t n_inputs,
                                  kv_status (*fill)(struct ts_func_op *self))
{
    struct ts_func_op *self = kv_zalloc(1, sizeof(*self));
    if (!self) {
        (void)ts_run_status(run, KV_NO_MEMORY, NULL);
        return NULL;
    }
    self->op = (struct ts_operator){&func_ops, run, grid, call, true};
    self->fill = fill;
    ts_rows_init(&self->out, run);
    for (size_t i = 0; i < n_inputs; i++)
        if (inputs[i]) {
            KV_ASSERT(self->n_inputs < TS_FUNC_INPUTS_MAX); /* the function table allows no more */
            self->inputs[self->n_inputs++] = inputs[i];
        }
    return self;
}

kv_status ts_func_add_row(struct ts_func_op *self, const struct ts_label *labels, size_t n_labels,
                          bool drop_name, double **values)
{
    size_t n = self->op.grid.n;
    if (!self->empty) {
        self->empty = ts_pool_column(&self->out.pool, n);
        if (!self->empty)
            return ts_pool_status(&self->out.pool);
        ts_column_fill(self->empty, n, ts_absent());
    }
    struct ts_column column = {labels, n_labels, drop_name, self->empty};
    kv_status rc = ts_rows_add(&self->out, &column, n);
    if (rc < 0)
        return rc;
    *values = self->out.items[self->out.n - 1].values;
    return ts_run_samples(self->op.run, n);
}

kv_status ts_func_finish_merged(struct ts_func_op *self, struct ts_operator **out)
{
    kv_status rc = ts_op_merge(&self->op, out);
    if (rc < 0) {
        self->n_inputs = 0; /* they stay the caller's */
        func_close(&self->op);
        return rc;
    }
    return KV_OK;
}

kv_slice ts_func_string(const struct ts_expr *call, size_t i)
{
    const struct ts_expr *arg = ts_expr_unparen(call->call.args[i]);
    KV_ASSERT(arg->kind == TS_EXPR_STRING); /* nothing else has that type */
    return arg->string;
}

/* ---- scalar(v): the value of the one series there is, else NaN */

static kv_status scalar_fill(struct ts_func_op *self)
{
    struct ts_column column;
    double *values;
    size_t n = self->op.grid.n;
    kv_status rc;
    KV_TRY(ts_func_add_row(self, NULL, 0, false, &values));
    while ((rc = ts_operator_next(self->inputs[0], &column)) == KV_OK)
        for (size_t i = 0; i < n; i++)
            if (!ts_is_absent(column.values[i])) /* a second one makes it NaN, which stays */
                values[i] = ts_is_absent(values[i]) ? column.values[i] : NAN;
    for (size_t i = 0; i < n; i++)
        if (ts_is_absent(values[i]))
            values[i] = NAN;
out:
    return rc;
}

static kv_status make_scalar(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                             struct ts_operator **args, size_t n_args, struct ts_operator **out)
{
    struct ts_func_op *self = ts_func_op_new(run, grid, call, args, n_args, scalar_fill);
    if (!self)
        return KV_NO_MEMORY;
    *out = &self->op;
    return KV_OK;
}

/* ---- vector(s), pi() */

/* A scalar is one series without labels already. */
static kv_status make_vector(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                             struct ts_operator **args, size_t n_args, struct ts_operator **out)
{
    (void)run, (void)grid, (void)call, (void)n_args;
    *out = args[0];
    return KV_OK;
}

static kv_status make_pi(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                         struct ts_operator **args, size_t n_args, struct ts_operator **out)
{
    (void)args, (void)n_args;
    return ts_op_constant(run, grid, call, M_PI, out);
}

/* ---- absent(v): 1 where nothing is */

static kv_status absent_fill(struct ts_func_op *self)
{
    struct ts_label *labels;
    size_t n_labels, n = self->op.grid.n;
    struct ts_column column;
    double *values;
    kv_status rc;
    KV_TRY(
        ts_absent_labels(ts_expr_unparen(self->op.expr->call.args[0]), &self->out.pool, &labels, &n_labels));
    KV_TRY(ts_func_add_row(self, labels, n_labels, false, &values));
    ts_column_fill(values, n, 1);
    while ((rc = ts_operator_next(self->inputs[0], &column)) == KV_OK)
        for (size_t i = 0; i < n; i++)
            if (!ts_is_absent(column.values[i]))
                values[i] = ts_absent();
out:
    return rc;
}

static kv_status make_absent(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                             struct ts_operator **args, size_t n_args, struct ts_operator **out)
{
    struct ts_func_op *self = ts_func_op_new(run, grid, call, args, n_args, absent_fill);
    if (!self)
        return KV_NO_MEMORY;
    *out = &self->op;
    return KV_OK;
}

/* ---- the table */

ts_func_maker ts_func_maker_of(enum ts_func_id id)
{
    switch (id) {
    case TS_FUNC_SCALAR:
        return make_scalar;
    case TS_FUNC_VECTOR:
        return make_vector;
    case TS_FUNC_PI:
        return make_pi;
    case TS_FUNC_ABSENT:
        return make_absent;
    case TS_FUNC_LABEL_REPLACE:
        return ts_func_label_replace;
    case TS_FUNC_LABEL_JOIN:
        return ts_func_label_join;
    case TS_FUNC_SORT:
    case TS_FUNC_SORT_DESC:
    case TS_FUNC_SORT_BY_LABEL:
    case TS_FUNC_SORT_BY_LABEL_DESC:
        return ts_func_sort;
    case TS_FUNC_HISTOGRAM_QUANTILE:
    case TS_FUNC_HISTOGRAM_QUANTILES:
    case TS_FUNC_HISTOGRAM_FRACTION:
        return ts_func_histogram;
    default:
        break;
    }
    ts_func_maker maker = ts_func_math_maker(id);
    return maker ? maker : ts_func_date_maker(id);
}
