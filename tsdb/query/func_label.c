/* func_label.c - label_replace and label_join: series keep their values and get another label. */
#include "kvcore/base/mem.h"
#include "tsdb/query/func.h"
#include "tsdb/query/labelset.h"
#include "tsdb/regex.h"

struct label_op {
    struct ts_operator op;
    struct ts_operator *child;
    const struct ts_expr *call;
    struct ts_regex *regex; /* label_replace */
    struct ts_pool pool;    /* values made; they live as long as the operator */
    struct ts_label *labels;
    size_t room;
    struct kv_buf value;
    kv_slice last; /* the value made last, in the pool: neighbours often share it */
};

static void label_close(struct ts_operator *op)
{
    struct label_op *self = (struct label_op *)op;
    ts_operator_close(self->child);
    ts_regex_free(self->regex);
    ts_run_shrink(op->run, (void **)&self->labels, &self->room, sizeof(*self->labels));
    kv_buf_release(&self->value);
    ts_pool_release(&self->pool);
    kv_free(self);
}

/* Gives column the label name = self->value. */
static kv_status label_set(struct label_op *self, struct ts_column *column, kv_slice name)
{
    kv_slice value = kv_buf_slice(&self->value);
    kv_status rc = ts_run_grow(self->op.run, (void **)&self->labels, &self->room, column->n_labels + 1,
                               sizeof(*self->labels));
    if (rc < 0)
        return rc;
    if (value.len > 0 && !kv_slice_equal(value, self->last)) {
        kv_slice copy = ts_pool_copy(&self->pool, value);
        if (!copy.data)
            return ts_pool_status(&self->pool);
        self->last = copy;
    }
    if (column->n_labels) /* none may mean no array at all */
        memcpy(self->labels, column->labels, column->n_labels * sizeof(*self->labels));
    column->n_labels =
        ts_labels_set(self->labels, column->n_labels, name, value.len > 0 ? self->last : (kv_slice){0});
    column->labels = self->labels;
    if (kv_slice_equal(name, TS_METRIC_NAME))
        column->drop_name = false;
    return KV_OK;
}

/* ---- label_replace(v, dst, replacement, src, regex) */

static kv_status replace_next(struct ts_operator *op, struct ts_column *out)
{
    struct label_op *self = (struct label_op *)op;
    kv_slice groups[TS_REGEX_GROUPS_MAX] = {{0}};
    kv_status rc = ts_operator_next(self->child, out);
    if (rc != KV_OK)
        return rc;
    kv_slice source = ts_labels_get(out->labels, out->n_labels, ts_func_string(self->call, 3));
    if (!ts_regex_groups(self->regex, source, groups, TS_REGEX_GROUPS_MAX))
        return KV_OK;
    kv_buf_clear(&self->value);
    rc = ts_regex_expand(self->regex, ts_func_string(self->call, 2), groups, TS_REGEX_GROUPS_MAX,
                         &self->value);
    return rc < 0 ? ts_run_status(op->run, rc, NULL) : label_set(self, out, ts_func_string(self->call, 1));
}

/* ---- label_join(v, dst, separator, src...) */

static kv_status join_next(struct ts_operator *op, struct ts_column *out)
{
    struct label_op *self = (struct label_op *)op;
    kv_slice separator = ts_func_string(self->call, 2);
    kv_status rc = ts_operator_next(self->child, out);
    if (rc != KV_OK)
        return rc;
    kv_buf_clear(&self->value);
    for (size_t i = 3; i < self->call->call.n_args && rc >= 0; i++) {
        if (i > 3)
            rc = kv_buf_append(&self->value, separator);
        if (rc >= 0)
            rc = kv_buf_append(&self->value,
                               ts_labels_get(out->labels, out->n_labels, ts_func_string(self->call, i)));
    }
    return rc < 0 ? ts_run_status(op->run, rc, NULL) : label_set(self, out, ts_func_string(self->call, 1));
}

/* ---- making */

static const struct ts_operator_ops replace_ops = {replace_next, label_close};
static const struct ts_operator_ops join_ops = {join_next, label_close};

static bool label_name_valid(kv_slice name)
{
    return name.len > 0 && ts_utf8_valid(name);
}

/* Takes regex whatever happens. */
static kv_status label_make(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                            struct ts_operator *child, const struct ts_operator_ops *ops,
                            struct ts_regex *regex, struct ts_operator **out)
{
    struct label_op *self = kv_zalloc(1, sizeof(*self));
    if (!self) {
        ts_regex_free(regex);
        return ts_run_status(run, KV_NO_MEMORY, NULL);
    }
    bool names = kv_slice_equal(ts_func_string(call, 1), TS_METRIC_NAME);
    self->op = (struct ts_operator){ops, run, grid, call, child->one_name && !names};
    self->child = child;
    self->call = call;
    self->regex = regex;
    ts_pool_init(&self->pool, run);
    kv_status rc = ts_op_merge(&self->op, out);
    if (rc < 0) {
        self->child = NULL; /* stays the caller's */
        label_close(&self->op);
    }
    return rc;
}

kv_status ts_func_label_replace(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                                struct ts_operator **args, size_t n_args, struct ts_operator **out)
{
    kv_slice destination = ts_func_string(call, 1), pattern = ts_func_string(call, 4);
    struct ts_regex *regex = NULL;
    (void)n_args;
    kv_status rc = ts_regex_compile(pattern, &regex, NULL);
    if (rc == KV_NO_MEMORY)
        return ts_run_status(run, rc, NULL);
    if (rc < 0)
        return ts_run_fail(run, TS_QUERY_EXECUTION, KV_INVALID,
                           "invalid regular expression in label_replace(): %.*s", KV_ARG(pattern));
    if (!label_name_valid(destination)) {
        ts_regex_free(regex);
        return ts_run_fail(run, TS_QUERY_EXECUTION, KV_INVALID,
                           "invalid destination label name in label_replace(): %.*s", KV_ARG(destination));
    }
    return label_make(run, grid, call, args[0], &replace_ops, regex, out);
}

kv_status ts_func_label_join(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                             struct ts_operator **args, size_t n_args, struct ts_operator **out)
{
    kv_slice destination = ts_func_string(call, 1);
    for (size_t i = 3; i < n_args; i++)
        if (!label_name_valid(ts_func_string(call, i)))
            return ts_run_fail(run, TS_QUERY_EXECUTION, KV_INVALID,
                               "invalid source label name in label_join(): %.*s",
                               KV_ARG(ts_func_string(call, i)));
    if (!label_name_valid(destination))
        return ts_run_fail(run, TS_QUERY_EXECUTION, KV_INVALID,
                           "invalid destination label name in label_join(): %.*s", KV_ARG(destination));
    return label_make(run, grid, call, args[0], &join_ops, NULL, out);
}
