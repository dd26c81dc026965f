/*
 * binary.c - operators between scalars and vectors. Where one side is a scalar the other streams; vectors are
 * joined in join.c.
 */
#include "tsdb/query/binary.h"

#include "kvcore/base/mem.h"
#include "tsdb/query/labelset.h"

#include <math.h>

double ts_scalar_binary(enum ts_op op, double left, double right)
{
    switch (op) {
    case TS_OP_ADD:
        return left + right;
    case TS_OP_SUB:
        return left - right;
    case TS_OP_MUL:
        return left * right;
    case TS_OP_DIV:
        return left / right;
    case TS_OP_MOD:
        return fmod(left, right);
    case TS_OP_POW:
        return pow(left, right);
    case TS_OP_ATAN2:
        return atan2(left, right);
    case TS_OP_EQ:
        return left == right;
    case TS_OP_NE:
        return left != right;
    case TS_OP_LT:
        return left < right;
    case TS_OP_LE:
        return left <= right;
    case TS_OP_GT:
        return left > right;
    case TS_OP_GE:
        return left >= right;
    default:
        return NAN;
    }
}

/* Arithmetic of two columns where both have a value; the switch stands outside the loops. */
static void columns_arithmetic(enum ts_op op, const double *left, const double *right, double *out, size_t n)
{
    switch (op) {
    case TS_OP_ADD:
        for (size_t i = 0; i < n; i++)
            out[i] = left[i] + right[i];
        break;
    case TS_OP_SUB:
        for (size_t i = 0; i < n; i++)
            out[i] = left[i] - right[i];
        break;
    case TS_OP_MUL:
        for (size_t i = 0; i < n; i++)
            out[i] = left[i] * right[i];
        break;
    case TS_OP_DIV:
        for (size_t i = 0; i < n; i++)
            out[i] = left[i] / right[i];
        break;
    default:
        for (size_t i = 0; i < n; i++)
            out[i] = ts_scalar_binary(op, left[i], right[i]);
        break;
    }
}

void ts_columns_binary(enum ts_op op, bool returns_bool, const double *left, const double *right,
                       const double *kept, double *out, size_t n)
{
    for (size_t from = 0; from < n;
         from += 64) { /* out may be one of the inputs, so absence is looked at first */
        uint64_t absent = 0;
        size_t count = n - from < 64 ? n - from : 64;
        double kept_values[64];
        for (size_t i = 0; i < count; i++) {
            absent |= (uint64_t)(ts_is_absent(left[from + i]) || ts_is_absent(right[from + i])) << i;
            kept_values[i] = kept[from + i];
        }
        columns_arithmetic(op, left + from, right + from, out + from, count);
        for (size_t i = 0; ts_op_is_comparison(op) && !returns_bool && i < count; i++)
            out[from + i] = out[from + i] != 0 ? kept_values[i] : ts_absent();
        for (; absent; absent &= absent - 1)
            out[from + (size_t)__builtin_ctzll(absent)] = ts_absent();
    }
}

/* ---- one side, or both, a scalar */

struct scalar_binary_op {
    struct ts_operator op;
    struct ts_operator *left, *right;
    bool started, done;
    struct ts_pool pool;
    double *scalar; /* the scalar side's column */
    struct ts_name_drop drop;
};

static kv_status both_scalars_next(struct ts_operator *op, struct ts_column *out)
{
    struct scalar_binary_op *self = (struct scalar_binary_op *)op;
    const struct ts_binary *how = &op->expr->binary;
    kv_status rc;
    if (self->done)
        return KV_END;
    self->done = true;
    double *left = ts_pool_column(&self->pool, op->grid.n);
    double *right = left ? ts_pool_column(&self->pool, op->grid.n) : NULL;
    if (!right)
        return ts_pool_status(&self->pool);
    KV_TRY(ts_scalar_read(self->left, left));
    KV_TRY(ts_scalar_read(self->right, right));
    ts_columns_binary(how->op, true, left, right, left, left, op->grid.n);
    *out = (struct ts_column){.values = left};
    rc = KV_OK;
out:
    return rc;
}

static kv_status scalar_binary_next(struct ts_operator *op, struct ts_column *out)
{
    struct scalar_binary_op *self = (struct scalar_binary_op *)op;
    const struct ts_binary *how = &op->expr->binary;
    bool vector_left = how->left->type == TS_TYPE_VECTOR;
    struct ts_operator *vector = vector_left ? self->left : self->right;
    kv_status rc;
    if (!self->started) {
        self->started = true;
        if (!(self->scalar = ts_pool_column(&self->pool, op->grid.n)))
            return ts_pool_status(&self->pool);
        KV_TRY(ts_scalar_read(vector_left ? self->right : self->left, self->scalar));
    }
    do {
        if ((rc = ts_operator_next(vector, out)) != KV_OK)
            return rc;
        const double *left = vector_left ? out->values : self->scalar;
        const double *right = vector_left ? self->scalar : out->values;
        ts_columns_binary(how->op, how->returns_bool, left, right, out->values, out->values, op->grid.n);
    } while (ts_column_empty(out->values, op->grid.n));
    if (!ts_op_is_comparison(how->op) || how->returns_bool)
        rc = ts_name_drop(&self->drop, out);
out:
    return rc;
}

static void scalar_binary_close(struct ts_operator *op)
{
    struct scalar_binary_op *self = (struct scalar_binary_op *)op;
    ts_operator_close(self->left);
    ts_operator_close(self->right);
    ts_name_drop_release(&self->drop);
    ts_pool_release(&self->pool);
    kv_free(self);
}

static const struct ts_operator_ops both_scalars_ops = {both_scalars_next, scalar_binary_close};
static const struct ts_operator_ops scalar_binary_ops = {scalar_binary_next, scalar_binary_close};

kv_status ts_op_binary(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                       struct ts_operator *left, struct ts_operator *right, struct ts_operator **out)
{
    const struct ts_binary *how = &expr->binary;
    bool vector_left = how->left->type == TS_TYPE_VECTOR, vector_right = how->right->type == TS_TYPE_VECTOR;
    if (vector_left && vector_right)
        return ts_op_join(run, grid, expr, left, right, out);
    struct scalar_binary_op *self = kv_zalloc(1, sizeof(*self));
    if (!self)
        return ts_run_status(run, KV_NO_MEMORY, NULL);
    bool one_name = vector_left ? left->one_name : vector_right ? right->one_name : true;
    self->op = (struct ts_operator){vector_left || vector_right ? &scalar_binary_ops : &both_scalars_ops, run,
                                    grid, expr, one_name};
    self->left = left;
    self->right = right;
    self->drop.run = run;
    ts_pool_init(&self->pool, run);
    *out = &self->op;
    bool drops = !ts_op_is_comparison(how->op) || how->returns_bool;
    if (one_name || !drops || run->delayed_names)
        return KV_OK;
    kv_status rc = ts_op_merge(&self->op, out);
    if (rc < 0) { /* the inputs stay the caller's */
        self->left = self->right = NULL;
        scalar_binary_close(&self->op);
        return rc;
    }
    (*out)->one_name = true;
    return KV_OK;
}
