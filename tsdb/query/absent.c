/* absent.c - absent_over_time: one series, 1 where its input has nothing. */
#include "kvcore/base/mem.h"
#include "tsdb/query/labelset.h"
#include "tsdb/query/operators.h"

struct absent_op {
    struct ts_operator op;
    struct ts_operator *input;
    struct ts_pool pool;
    bool done;
};

kv_status ts_absent_labels(const struct ts_expr *argument, struct ts_pool *pool, struct ts_label **labels,
                           size_t *n)
{
    const struct ts_expr *selector = argument->kind == TS_EXPR_MATRIX ? argument->matrix.vector : argument;
    size_t count = 0;
    *n = 0;
    if (!(*labels = ts_pool_alloc(pool, sizeof(**labels))))
        return ts_pool_status(pool);
    if (selector->kind != TS_EXPR_VECTOR)
        return KV_OK;
    const struct ts_matcher *matchers = selector->vector.matchers;
    size_t n_matchers = selector->vector.n_matchers;
    if (!(*labels = ts_pool_alloc(pool, (n_matchers + 1) * sizeof(**labels))))
        return ts_pool_status(pool);
    for (size_t i = 0; i < n_matchers; i++) {
        bool repeated = false; /* asked for with = before: then it is not one value, and goes */
        if (kv_slice_equal(matchers[i].name, TS_METRIC_NAME))
            continue;
        for (size_t k = 0; k < i; k++)
            repeated |= matchers[k].op == TS_MATCH_EQ && kv_slice_equal(matchers[k].name, matchers[i].name);
        bool set = matchers[i].op == TS_MATCH_EQ && !repeated;
        count =
            ts_labels_set(*labels, count, matchers[i].name, set ? matchers[i].value : (kv_slice){NULL, 0});
    }
    *n = count;
    return KV_OK;
}

static kv_status absent_next(struct ts_operator *op, struct ts_column *out)
{
    struct absent_op *self = (struct absent_op *)op;
    struct ts_column column;
    struct ts_label *labels;
    size_t n_labels;
    kv_status rc;
    if (self->done)
        return KV_END;
    self->done = true;
    double *values = ts_pool_column(&self->pool, op->grid.n);
    if (!values)
        return ts_pool_status(&self->pool);
    ts_column_fill(values, op->grid.n, 1);
    while ((rc = ts_operator_next(self->input, &column)) == KV_OK)
        for (size_t i = 0; i < op->grid.n; i++)
            if (!ts_is_absent(column.values[i]))
                values[i] = ts_absent();
    if (rc < 0)
        return rc;
    if (ts_column_empty(values, op->grid.n))
        return KV_END;
    if ((rc = ts_absent_labels(op->expr->call.args[0], &self->pool, &labels, &n_labels)) < 0)
        return rc;
    *out = (struct ts_column){labels, n_labels, op->run->delayed_names, values};
    return KV_OK;
}

static void absent_close(struct ts_operator *op)
{
    struct absent_op *self = (struct absent_op *)op;
    ts_operator_close(self->input);
    ts_pool_release(&self->pool);
    kv_free(self);
}

static const struct ts_operator_ops absent_ops = {absent_next, absent_close};

kv_status ts_op_absent_over_time(struct ts_run *run, const struct ts_expr *expr, struct ts_operator *input,
                                 struct ts_operator **out)
{
    struct absent_op *self = kv_zalloc(1, sizeof(*self));
    if (!self)
        return ts_run_status(run, KV_NO_MEMORY, NULL);
    self->op = (struct ts_operator){&absent_ops, run, input->grid, expr, true};
    self->input = input;
    ts_pool_init(&self->pool, run);
    *out = &self->op;
    return KV_OK;
}
