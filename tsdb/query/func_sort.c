/* func_sort.c - sort, sort_desc, sort_by_label, sort_by_label_desc: of instant queries; elsewhere labels
 * decide the order. */
#include "tsdb/label.h"
#include "tsdb/query/func.h"

#include <math.h>
#include <stdlib.h>

struct sort_order {
    const struct ts_expr *call;
    bool by_label, descending;
};

/* ---- natural order: runs of digits compare as numbers */

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static size_t run_length(kv_slice text)
{
    size_t n = 1;
    while (n < text.len && is_digit(text.data[n]) == is_digit(text.data[0]))
        n++;
    return n;
}

static kv_slice without_zeros(kv_slice digits)
{
    while (digits.len > 1 && digits.data[0] == '0')
        digits = kv_slice_from(digits, 1);
    return digits;
}

static int compare_runs(kv_slice a, kv_slice b)
{
    if (!is_digit(a.data[0]) || !is_digit(b.data[0]))
        return kv_slice_compare(a, b);
    a = without_zeros(a);
    b = without_zeros(b);
    return a.len != b.len ? (a.len > b.len ? 1 : -1) : kv_slice_compare(a, b);
}

static int compare_natural(kv_slice a, kv_slice b)
{
    while (a.len > 0 && b.len > 0) {
        size_t na = run_length(a), nb = run_length(b);
        int c = compare_runs(kv_slice_of(a.data, na), kv_slice_of(b.data, nb));
        if (c != 0)
            return c;
        a = kv_slice_from(a, na);
        b = kv_slice_from(b, nb);
    }
    return (a.len > 0) - (b.len > 0);
}

/* ---- orders; the comparator gets its order through qsort_r */

static int compare_labels(const struct sort_order *order, const struct ts_column *a,
                          const struct ts_column *b)
{
    for (size_t i = 1; i < order->call->call.n_args; i++) {
        kv_slice name = ts_func_string(order->call, i);
        int c = compare_natural(ts_labels_get(a->labels, a->n_labels, name),
                                ts_labels_get(b->labels, b->n_labels, name));
        if (c != 0)
            return c;
    }
    return ts_labels_compare(a->labels, a->n_labels, b->labels, b->n_labels);
}

/* NaN comes last in both directions; equal values by their labels, so that an answer is one answer. */
static int compare_values(const struct sort_order *order, const struct ts_column *a,
                          const struct ts_column *b)
{
    double x = a->values[0], y = b->values[0];
    if (isnan(x) || isnan(y))
        return isnan(x) - isnan(y);
    if (x != y)
        return (x > y) == order->descending ? -1 : 1;
    return ts_labels_compare(a->labels, a->n_labels, b->labels, b->n_labels);
}

static int compare_columns(const void *a, const void *b, void *ctx)
{
    const struct sort_order *order = ctx;
    if (!order->by_label)
        return compare_values(order, a, b);
    int c = compare_labels(order, a, b);
    return order->descending ? -c : c;
}

static kv_status sort_fill(struct ts_func_op *self)
{
    enum ts_func_id id = self->op.expr->call.func->id;
    struct sort_order order = {
        .call = self->op.expr,
        .by_label = id == TS_FUNC_SORT_BY_LABEL || id == TS_FUNC_SORT_BY_LABEL_DESC,
        .descending = id == TS_FUNC_SORT_DESC || id == TS_FUNC_SORT_BY_LABEL_DESC,
    };
    kv_status rc = ts_rows_collect(&self->out, self->inputs[0]);
    if (rc >= 0 && self->out.n > 1)
        qsort_r(self->out.items, self->out.n, sizeof(*self->out.items), compare_columns, &order);
    return rc;
}

kv_status ts_func_sort(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                       struct ts_operator **args, size_t n_args, struct ts_operator **out)
{
    if (grid.n > 1) { /* the planner warns */
        *out = args[0];
        return KV_OK;
    }
    struct ts_func_op *self = ts_func_op_new(run, grid, call, args, n_args, sort_fill);
    if (!self)
        return KV_NO_MEMORY;
    self->op.one_name = args[0]->one_name;
    *out = &self->op;
    return KV_OK;
}
