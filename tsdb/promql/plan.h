/*
 * plan.h - a checked tree to operators.
 *
 * What does not depend on the step (all its selectors carry @) is planned for one step and repeated. A
 * subquery's inner expression is planned on a grid of its own: absolute multiples of its step, left-open.
 *
 * Threads    one query, one thread.
 * Failure    the reason is in run->err; a function that is not built is TS_QUERY_EXECUTION.
 */
#ifndef TS_PLAN_H
#define TS_PLAN_H

#include "tsdb/promql/parse.h"
#include "tsdb/query/operators.h"

/* The operator of tree's root (a scalar or instant vector) on grid. The tree outlives it. */
KV_MUST kv_status ts_plan(struct ts_run *run, const struct ts_tree *tree, struct ts_grid grid,
                          struct ts_operator **out);
/* The inner operator of a subquery asked for at the steps of grid. */
KV_MUST kv_status ts_plan_subquery(struct ts_run *run, const struct ts_tree *tree,
                                   const struct ts_expr *subquery, struct ts_grid grid,
                                   struct ts_operator **out);
/* Where a selector or subquery looks: @ and offset, resolved. */
struct ts_select_at ts_plan_shift(const struct ts_run *run, const struct ts_time_shift *shift);

#endif
