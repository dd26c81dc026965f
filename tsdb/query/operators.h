/*
 * operators.h - how each operator is made. A maker takes its inputs on KV_OK only; on failure they stay the
 * caller's.
 */
#ifndef TS_OPERATORS_H
#define TS_OPERATORS_H

#include "tsdb/query/op.h"

struct ts_label_choice;

/* A scalar that is the same at every step. */
KV_MUST kv_status ts_op_constant(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                                 double value, struct ts_operator **out);
/* time(): each step's own. */
KV_MUST kv_status ts_op_time(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                             struct ts_operator **out);
/* No series at all. */
KV_MUST kv_status ts_op_empty(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                              struct ts_operator **out);
/* timestamp() of anything but a selector: the time of the step. */
KV_MUST kv_status ts_op_step_time(struct ts_run *run, const struct ts_expr *expr, struct ts_operator *input,
                                  struct ts_operator **out);
/* Names dropped, values as they are: timestamp() of a selector, whose sample times the selector yields. */
KV_MUST kv_status ts_op_drop_name(struct ts_run *run, const struct ts_expr *expr, struct ts_operator *input,
                                  struct ts_operator **out);
/* absent_over_time: 1 where input has no series at all. Labels are those the selector asks for with =. */
KV_MUST kv_status ts_op_absent_over_time(struct ts_run *run, const struct ts_expr *expr,
                                         struct ts_operator *input, struct ts_operator **out);
/* The labels of absent(argument): those a selector asks for with = once; argument without parentheses. */
KV_MUST kv_status ts_absent_labels(const struct ts_expr *argument, struct ts_pool *pool,
                                   struct ts_label **labels, size_t *n);
/* What child (one step) yields, at every step of grid. */
KV_MUST kv_status ts_op_repeat(struct ts_run *run, struct ts_grid grid, struct ts_operator *child,
                               struct ts_operator **out);
/* Series that became alike are joined where they do not overlap; where they do, the query fails. */
KV_MUST kv_status ts_op_merge(struct ts_operator *child, struct ts_operator **out);

/* The end of a query with delayed names: marked names are dropped, what became alike is joined. */
KV_MUST kv_status ts_op_finish_names(struct ts_operator *child, struct ts_operator **out);

/* An instant selector: the newest sample within the look-back at each step. fixed: the @ time, before offset.
 */
struct ts_select_at {
    bool fixed;
    int64_t at_ms, offset_ms;
};
/* labels: all that anybody will look at (scan.h), their names borrowed; NULL: all there are. */
KV_MUST kv_status ts_op_select(struct ts_run *run, struct ts_grid grid, const struct ts_expr *selector,
                               const struct ts_select_at *at, bool sample_times,
                               const struct ts_label_choice *labels, struct ts_operator **out);

/* Whether a selector names its metric with =. */
bool ts_selector_one_name(const struct ts_expr *selector);

/* A range function over a selector (input NULL) or over a subquery's inner operator. scalars: its scalar
 * arguments in order, on the same grid. */
struct ts_range_call {
    const struct ts_expr *call;
    const struct ts_expr *range; /* the matrix selector or subquery */
    int64_t range_ms;
    struct ts_select_at at;
    const struct ts_label_choice *labels; /* of a selector, as for ts_op_select; not used after it */
};
KV_MUST kv_status ts_op_range_fn(struct ts_run *run, struct ts_grid grid, const struct ts_range_call *how,
                                 struct ts_operator *input, struct ts_operator **scalars, size_t n_scalars,
                                 struct ts_operator **out);

/* param: of topk, quantile, ...; NULL for the others and for count_values. */
KV_MUST kv_status ts_op_aggregate(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                                  struct ts_operator *input, struct ts_operator *param,
                                  struct ts_operator **out);
KV_MUST kv_status ts_op_count_values(struct ts_run *run, const struct ts_expr *expr,
                                     struct ts_operator *input, struct ts_operator **out);

KV_MUST kv_status ts_op_binary(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                               struct ts_operator *left, struct ts_operator *right, struct ts_operator **out);
KV_MUST kv_status ts_op_negate(struct ts_run *run, const struct ts_expr *expr, struct ts_operator *input,
                               struct ts_operator **out);
/* The values of left and right, one step: also for constant folding. */
double ts_scalar_binary(enum ts_op op, double left, double right);

/* info(): at is where its first argument looks, and so where the info series are looked at. */
KV_MUST kv_status ts_op_info(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                             struct ts_operator *input, const struct ts_select_at *at,
                             struct ts_operator **out);

/* A function that takes no range vector. args: one per argument of the call, NULL for strings. Takes them
 * (they are closed with *out) on KV_OK only. Not built: a NULL in the table, and the planner says so. */
typedef kv_status (*ts_func_maker)(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                                   struct ts_operator **args, size_t n_args, struct ts_operator **out);

/* Maps each series' values, drops its name: abs(v) and the like. apply sees the step times through grid and
 * may read and write values; absent ones it leaves alone. params: columns of the scalar arguments (grid.n
 * each). */
struct ts_map_fn {
    void (*apply)(const struct ts_grid *grid, double *values, const double *const *params);
    size_t n_params;
};
KV_MUST kv_status ts_op_map(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                            struct ts_operator *input, struct ts_operator **params,
                            const struct ts_map_fn *fn, struct ts_operator **out);

#endif
