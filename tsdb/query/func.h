/*
 * func.h - the functions that take no range vector: which maker makes which, and the operator most of them
 * share.
 *
 * Threads    one query, one thread.
 * Ownership  a maker takes its inputs on KV_OK only.
 */
#ifndef TS_QUERY_FUNC_H
#define TS_QUERY_FUNC_H

#include "tsdb/promql/func_table.h"
#include "tsdb/query/operators.h"

/* NULL: not built (or not of this kind). */
ts_func_maker ts_func_maker_of(enum ts_func_id id);

/* ---- for the func_*.c files */

enum { TS_FUNC_INPUTS_MAX = 12 };
/* A function that needs all of its input before it knows its output: fill is called once, then out is
 * yielded. */
struct ts_func_op {
    struct ts_operator op;
    struct ts_operator *inputs[TS_FUNC_INPUTS_MAX];
    size_t n_inputs;
    kv_status (*fill)(struct ts_func_op *self);
    struct ts_rows out;
    double *empty; /* a column of absent steps: what new rows begin as */
    size_t at;
    bool filled;
};
/* NULL: out of memory, reported. NULL inputs (strings) are left out. */
struct ts_func_op *ts_func_op_new(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                                  struct ts_operator **inputs, size_t n_inputs,
                                  kv_status (*fill)(struct ts_func_op *self));
/* Adds a row whose steps are all absent; its values may be written until the next row is added. */
KV_MUST kv_status ts_func_add_row(struct ts_func_op *self, const struct ts_label *labels, size_t n_labels,
                                  bool drop_name, double **values);
/* *out: self, its alike series joined. On failure self is freed without its inputs. */
KV_MUST kv_status ts_func_finish_merged(struct ts_func_op *self, struct ts_operator **out);
/* The string of argument i. */
kv_slice ts_func_string(const struct ts_expr *call, size_t i);

/* Makers, by file. */
ts_func_maker ts_func_math_maker(enum ts_func_id id);
ts_func_maker ts_func_date_maker(enum ts_func_id id);
KV_MUST kv_status ts_func_label_replace(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                                        struct ts_operator **args, size_t n_args, struct ts_operator **out);
KV_MUST kv_status ts_func_label_join(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                                     struct ts_operator **args, size_t n_args, struct ts_operator **out);
KV_MUST kv_status ts_func_sort(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                               struct ts_operator **args, size_t n_args, struct ts_operator **out);
KV_MUST kv_status ts_func_histogram(struct ts_run *run, struct ts_grid grid, const struct ts_expr *call,
                                    struct ts_operator **args, size_t n_args, struct ts_operator **out);

#endif
