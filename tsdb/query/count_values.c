/* count_values.c - count_values("label", v): how many series of a group have each value. */
#include "kvcore/base/mem.h"
#include "tsdb/promql/print.h"
#include "tsdb/query/func.h"
#include "tsdb/query/labelset.h"

struct counting {
    struct ts_func_op *self;
    const struct ts_aggregate *aggregate;
    kv_slice label;
    struct ts_name_list list;
    struct ts_pool pool; /* scratch of one row, list */
    struct ts_keys keys; /* of result rows, in their order */
    struct ts_label *labels;
    size_t room;
    struct kv_buf text;
};

/* The result row for a series of the input at this value. */
static kv_status counting_find(struct counting *counting, const struct ts_column *row, double value,
                               size_t *index)
{
    struct ts_func_op *self = counting->self;
    bool keep = !counting->aggregate->without, is_new;
    double *values;
    kv_status rc;
    kv_buf_clear(&counting->text);
    KV_TRY(ts_print_float(value, &counting->text));
    KV_TRY(ts_run_grow(self->op.run, (void **)&counting->labels, &counting->room, row->n_labels + 1,
                       sizeof(*counting->labels)));
    if (row->n_labels > 0)
        memcpy(counting->labels, row->labels, row->n_labels * sizeof(*counting->labels));
    size_t n = ts_labels_set(counting->labels, row->n_labels, counting->label, kv_buf_slice(&counting->text));
    n = ts_labels_project(counting->labels, n, &counting->list, keep, counting->labels);
    KV_TRY(ts_labels_key_all(counting->labels, n, &counting->keys.scratch));
    KV_TRY(ts_keys_put(&counting->keys, kv_buf_slice(&counting->keys.scratch), index, &is_new));
    if (!is_new)
        return KV_OK;
    kv_slice copy = ts_pool_copy(&self->out.pool, kv_buf_slice(&counting->text));
    if (!copy.data)
        return ts_pool_status(&self->out.pool);
    for (size_t i = 0; i < n; i++)
        if (counting->labels[i].value.data == counting->text.data)
            counting->labels[i].value = copy;
    rc = ts_func_add_row(self, counting->labels, n, false, &values);
out:
    return rc;
}

static kv_status counting_add(struct counting *counting, const struct ts_column *row)
{
    struct ts_func_op *self = counting->self;
    size_t index = 0;
    uint64_t last = TS_STALE_NAN; /* what index belongs to */
    for (size_t i = 0; i < self->op.grid.n; i++) {
        double value = row->values[i];
        if (ts_is_absent(value))
            continue;
        if (ts_double_bits(value) != last) {
            kv_status rc = counting_find(counting, row, value, &index);
            if (rc < 0)
                return rc;
            last = ts_double_bits(value);
        }
        double *count = &self->out.items[index].values[i];
        *count = ts_is_absent(*count) ? 1 : *count + 1;
    }
    return KV_OK;
}

static kv_status count_values_fill(struct ts_func_op *self)
{
    const struct ts_aggregate *aggregate = &self->op.expr->aggregate;
    struct counting counting = {
        .self = self, .aggregate = aggregate, .label = ts_expr_unparen(aggregate->param)->string};
    struct ts_column row;
    kv_status rc;
    ts_pool_init(&counting.pool, self->op.run);
    ts_keys_init(&counting.keys, self->op.run);
    KV_TRY(ts_name_list_make(aggregate->grouping, aggregate->n_grouping,
                             aggregate->without ? NULL : &counting.label, &counting.pool, &counting.list));
    while ((rc = ts_operator_next(self->inputs[0], &row)) == KV_OK)
        KV_TRY(counting_add(&counting, &row));
out:
    ts_run_shrink(self->op.run, (void **)&counting.labels, &counting.room, sizeof(*counting.labels));
    kv_buf_release(&counting.text);
    ts_keys_release(&counting.keys);
    ts_pool_release(&counting.pool);
    return rc;
}

kv_status ts_op_count_values(struct ts_run *run, const struct ts_expr *expr, struct ts_operator *input,
                             struct ts_operator **out)
{
    kv_slice label = ts_expr_unparen(expr->aggregate.param)->string;
    if (label.len == 0 || !ts_utf8_valid(label)) {
        struct kv_buf quoted = {.max = 8192};
        kv_status rc = ts_print_quoted(label, &quoted);
        if (rc >= 0)
            rc = ts_run_fail(run, TS_QUERY_EXECUTION, KV_INVALID, "invalid label name %.*s",
                             KV_ARG(kv_buf_slice(&quoted)));
        kv_buf_release(&quoted);
        return ts_run_status(run, rc, NULL);
    }
    struct ts_func_op *self = ts_func_op_new(run, input->grid, expr, &input, 1, count_values_fill);
    if (!self)
        return KV_NO_MEMORY;
    *out = &self->op;
    return KV_OK;
}
