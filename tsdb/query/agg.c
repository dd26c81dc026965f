/*
 * agg.c - aggregations that fold: sum, avg, min, max, count, group, stddev, stdvar, quantile. Series stream
 * in and are folded into their group's columns in order of arrival, so only groups are held (quantile holds
 * every value, it must).
 */
#include "tsdb/query/agg.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "tsdb/query/labelset.h"
#include "tsdb/query/range_kernel.h"

#include <math.h>

/* One value a step. value is absent until the step has seen a sample. Which of the others exist depends on
 * the operator. */
struct group {
    struct ts_label *labels;
    size_t n_labels;
    bool drop_name;
    double *value, *c, *count, *mean;
    double **inputs; /* quantile: the columns themselves */
    size_t n_inputs, inputs_room;
};

struct agg_op {
    struct ts_operator op;
    struct ts_operator *input, *param;
    struct ts_name_list names;
    struct ts_keys keys;
    struct ts_pool pool;
    struct group *groups;
    size_t n_groups, groups_room;
    struct ts_label *scratch;
    size_t scratch_room;
    double *params;
    size_t at;
    bool started;
};

static enum ts_agg agg_kind(const struct agg_op *self)
{
    return self->op.expr->aggregate.op;
}

/* ---- groups */

static kv_status group_columns(struct agg_op *self, struct group *group)
{
    size_t n = self->op.grid.n;
    enum ts_agg kind = agg_kind(self);
    bool spread = kind == TS_AGG_STDDEV || kind == TS_AGG_STDVAR;
    if (!(group->value = ts_pool_column(&self->pool, n)))
        return ts_pool_status(&self->pool);
    ts_column_fill(group->value, n, ts_absent());
    if ((kind == TS_AGG_SUM || kind == TS_AGG_AVG) && !(group->c = ts_pool_column(&self->pool, n)))
        return ts_pool_status(&self->pool);
    if ((kind == TS_AGG_AVG || spread) && !(group->count = ts_pool_column(&self->pool, n)))
        return ts_pool_status(&self->pool);
    if (spread && !(group->mean = ts_pool_column(&self->pool, n)))
        return ts_pool_status(&self->pool);
    return KV_OK;
}

static kv_status group_new(struct agg_op *self, const struct ts_column *column, bool keep)
{
    struct ts_run *run = self->op.run;
    kv_status rc;
    KV_TRY(ts_run_grow(run, (void **)&self->groups, &self->groups_room, self->n_groups + 1,
                       sizeof(*self->groups)));
    KV_TRY(ts_run_grow(run, (void **)&self->scratch, &self->scratch_room, column->n_labels + 1,
                       sizeof(*self->scratch)));
    struct group *group = &self->groups[self->n_groups];
    *group = (struct group){0};
    group->n_labels = ts_labels_project(column->labels, column->n_labels, &self->names, keep, self->scratch);
    if (!(group->labels = ts_pool_labels(&self->pool, self->scratch, group->n_labels)))
        return ts_pool_status(&self->pool);
    KV_TRY(group_columns(self, group));
    self->n_groups++;
out:
    return rc;
}

static kv_status group_of(struct agg_op *self, const struct ts_column *column, struct group **out)
{
    bool keep = !self->op.expr->aggregate.without, is_new;
    size_t index;
    kv_status rc;
    KV_TRY(ts_labels_key(column->labels, column->n_labels, &self->names, keep, &self->keys.scratch));
    KV_TRY(ts_keys_put(&self->keys, kv_buf_slice(&self->keys.scratch), &index, &is_new));
    if (is_new)
        KV_TRY(group_new(self, column, keep));
    *out = &self->groups[index];
out:
    return ts_run_status(self->op.run, rc, NULL);
}

/* ---- folding one column into a group */

static void fold_sum(struct group *group, const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (ts_is_absent(values[i]))
            continue;
        if (ts_is_absent(group->value[i])) {
            group->value[i] = values[i];
            group->c[i] = 0;
        } else {
            ts_kahan_add(values[i], &group->value[i], &group->c[i]);
        }
    }
}

/* From here on the step's mean itself is carried, since its sum would overflow. */
static void avg_incremental(struct group *group, size_t i, double x)
{
    double count = group->count[i];
    if (ts_is_absent(group->mean[i])) {
        group->mean[i] = group->value[i] / (count - 1);
        group->c[i] /= count - 1;
    }
    double q = (count - 1) / count;
    group->mean[i] *= q;
    group->c[i] *= q;
    ts_kahan_add(x / count, &group->mean[i], &group->c[i]);
}

static kv_status fold_avg(struct agg_op *self, struct group *group, const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (ts_is_absent(values[i]))
            continue;
        if (ts_is_absent(group->value[i])) {
            group->value[i] = values[i];
            group->c[i] = 0;
            group->count[i] = 1;
            continue;
        }
        group->count[i]++;
        if (!group->mean || ts_is_absent(group->mean[i])) {
            double sum = group->value[i], c = group->c[i];
            ts_kahan_add(values[i], &sum, &c);
            if (!isinf(sum)) {
                group->value[i] = sum;
                group->c[i] = c;
                continue;
            }
        }
        if (!group->mean) {
            if (!(group->mean = ts_pool_column(&self->pool, n)))
                return ts_pool_status(&self->pool);
            ts_column_fill(group->mean, n, ts_absent());
        }
        avg_incremental(group, i, values[i]);
    }
    return KV_OK;
}

static void fold_extreme(struct group *group, const double *values, size_t n, bool max)
{
    for (size_t i = 0; i < n; i++) {
        double x = values[i], best = group->value[i];
        if (ts_is_absent(x))
            continue;
        if (isnan(best) || (max ? best < x : best > x)) /* absent is a NaN too */
            group->value[i] = x;
    }
}

static void fold_count(struct group *group, const double *values, size_t n, bool just_one)
{
    for (size_t i = 0; i < n; i++)
        if (!ts_is_absent(values[i]))
            group->value[i] = just_one || ts_is_absent(group->value[i]) ? 1 : group->value[i] + 1;
}

static void fold_spread(struct group *group, const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double x = values[i];
        if (ts_is_absent(x))
            continue;
        if (ts_is_absent(group->value[i])) {
            group->value[i] = isfinite(x) ? 0 : NAN;
            group->mean[i] = x;
            group->count[i] = 1;
            continue;
        }
        group->count[i]++;
        double delta = x - group->mean[i];
        group->mean[i] += delta / group->count[i];
        group->value[i] += delta * (x - group->mean[i]);
    }
}

static kv_status keep_input(struct agg_op *self, struct group *group, const double *values, size_t n)
{
    kv_status rc = ts_run_grow(self->op.run, (void **)&group->inputs, &group->inputs_room,
                               group->n_inputs + 1, sizeof(*group->inputs));
    if (rc < 0)
        return rc;
    double *copy = ts_pool_column(&self->pool, n);
    if (!copy)
        return ts_pool_status(&self->pool);
    memcpy(copy, values, n * sizeof(*copy));
    group->inputs[group->n_inputs++] = copy;
    return KV_OK;
}

static kv_status fold(struct agg_op *self, struct group *group, const struct ts_column *column)
{
    size_t n = self->op.grid.n;
    group->drop_name |= column->drop_name;
    switch (agg_kind(self)) {
    case TS_AGG_SUM:
        fold_sum(group, column->values, n);
        return KV_OK;
    case TS_AGG_AVG:
        return fold_avg(self, group, column->values, n);
    case TS_AGG_MIN:
    case TS_AGG_MAX:
        fold_extreme(group, column->values, n, agg_kind(self) == TS_AGG_MAX);
        return KV_OK;
    case TS_AGG_COUNT:
    case TS_AGG_GROUP:
        fold_count(group, column->values, n, agg_kind(self) == TS_AGG_GROUP);
        return KV_OK;
    case TS_AGG_STDDEV:
    case TS_AGG_STDVAR:
        fold_spread(group, column->values, n);
        return KV_OK;
    case TS_AGG_QUANTILE:
        return keep_input(self, group, column->values, n);
    default:
        return ts_run_fail(self->op.run, TS_QUERY_INTERNAL, KV_INVALID, "not a folding aggregation");
    }
}

/* ---- results */

static void finish_quantile(struct agg_op *self, struct group *group, double *gathered)
{
    for (size_t i = 0; i < self->op.grid.n; i++) {
        size_t n = 0;
        for (size_t k = 0; k < group->n_inputs; k++)
            if (!ts_is_absent(group->inputs[k][i]))
                gathered[n++] = group->inputs[k][i];
        if (n)
            group->value[i] = ts_quantile(self->params[i], gathered, n);
    }
}

static void finish(const struct agg_op *self, struct group *group)
{
    enum ts_agg kind = agg_kind(self);
    for (size_t i = 0; i < self->op.grid.n; i++) {
        double *value = &group->value[i];
        if (ts_is_absent(*value))
            continue;
        if (kind == TS_AGG_SUM)
            *value += group->c[i];
        else if (kind == TS_AGG_AVG && group->mean && !ts_is_absent(group->mean[i]))
            *value = group->mean[i] + group->c[i];
        else if (kind == TS_AGG_AVG)
            *value = *value / group->count[i] + group->c[i] / group->count[i];
        else if (kind == TS_AGG_STDVAR)
            *value /= group->count[i];
        else if (kind == TS_AGG_STDDEV)
            *value = sqrt(*value / group->count[i]);
    }
}

static kv_status agg_start(struct agg_op *self)
{
    struct ts_column column;
    size_t most = 0;
    kv_status rc;
    self->started = true;
    if (self->param) {
        if (!(self->params = ts_pool_column(&self->pool, self->op.grid.n)))
            return ts_pool_status(&self->pool);
        KV_TRY(ts_scalar_read(self->param, self->params));
        ts_agg_note_quantile(self->op.run, self->op.expr, self->params, self->op.grid.n);
    }
    while ((rc = ts_operator_next(self->input, &column)) == KV_OK) {
        struct group *group = NULL;
        KV_TRY(group_of(self, &column, &group));
        KV_ASSERT(group);
        KV_TRY(fold(self, group, &column));
        most = group->n_inputs > most ? group->n_inputs : most;
    }
    if (rc < 0)
        return rc;
    rc = KV_OK;
    double *gathered = most ? ts_pool_column(&self->pool, most) : NULL;
    if (most && !gathered)
        return ts_pool_status(&self->pool);
    for (size_t i = 0; i < self->n_groups; i++) {
        if (most)
            finish_quantile(self, &self->groups[i], gathered);
        finish(self, &self->groups[i]);
    }
out:
    return rc;
}

static kv_status agg_next(struct ts_operator *op, struct ts_column *out)
{
    struct agg_op *self = (struct agg_op *)op;
    kv_status rc;
    if (!self->started && (rc = agg_start(self)) < 0)
        return rc;
    while (self->at < self->n_groups) {
        struct group *group = &self->groups[self->at++];
        if (ts_column_empty(group->value, op->grid.n))
            continue;
        *out = (struct ts_column){group->labels, group->n_labels, group->drop_name, group->value};
        return ts_run_samples(op->run, op->grid.n);
    }
    return KV_END;
}

static void agg_close(struct ts_operator *op)
{
    struct agg_op *self = (struct agg_op *)op;
    for (size_t i = 0; i < self->n_groups; i++)
        ts_run_shrink(op->run, (void **)&self->groups[i].inputs, &self->groups[i].inputs_room,
                      sizeof(double *));
    ts_run_shrink(op->run, (void **)&self->groups, &self->groups_room, sizeof(*self->groups));
    ts_run_shrink(op->run, (void **)&self->scratch, &self->scratch_room, sizeof(*self->scratch));
    ts_keys_release(&self->keys);
    ts_pool_release(&self->pool);
    ts_operator_close(self->input);
    ts_operator_close(self->param);
    kv_free(self);
}

static const struct ts_operator_ops agg_ops = {agg_next, agg_close};

static kv_status agg_fold_new(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                              struct ts_operator *input, struct ts_operator *param, struct ts_operator **out)
{
    const struct ts_aggregate *how = &expr->aggregate;
    struct agg_op *self = kv_zalloc(1, sizeof(*self));
    if (!self)
        return ts_run_status(run, KV_NO_MEMORY, NULL);
    self->op = (struct ts_operator){&agg_ops, run, grid, expr, true};
    ts_keys_init(&self->keys, run);
    ts_pool_init(&self->pool, run);
    kv_status rc = ts_name_list_make(how->grouping, how->n_grouping, NULL, &self->pool, &self->names);
    if (rc < 0) {
        agg_close(&self->op);
        return rc;
    }
    for (size_t i = 0; i < self->names.n && !how->without; i++)
        self->op.one_name = self->op.one_name && !ts_label_is_metadata(self->names.names[i]);
    self->input = input;
    self->param = param;
    *out = &self->op;
    return KV_OK;
}

kv_status ts_op_aggregate(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                          struct ts_operator *input, struct ts_operator *param, struct ts_operator **out)
{
    switch (expr->aggregate.op) {
    case TS_AGG_TOPK:
    case TS_AGG_BOTTOMK:
    case TS_AGG_LIMITK:
        return ts_op_choose(run, grid, expr, input, param, out);
    case TS_AGG_LIMIT_RATIO:
        return ts_op_limit_ratio(run, grid, expr, input, param, out);
    default:
        return agg_fold_new(run, grid, expr, input, param, out);
    }
}
