/* plan.c - one function per kind of expression. */
#include "tsdb/promql/plan.h"

#include "kvcore/base/mem.h"
#include "tsdb/promql/func_table.h"
#include "tsdb/query/func.h"
#include "tsdb/query/range_kernel.h"
#include "tsdb/query/scan.h"

enum { INVARIANT_KNOWN = 1, INVARIANT = 2, REPEATABLE = 4 };
enum { ARGS_MAX = 64 }; /* operators a call may have; label_join's strings are not operators */

struct planner {
    struct ts_run *run;
    uint8_t *flags; /* by expression id */
    const struct ts_expr
        *grouped; /* the selector that the aggregation being planned groups, by these alone: */
    struct ts_label_choice by;
};

static kv_status plan_expr(struct planner *p, struct ts_expr *expr, struct ts_grid grid,
                           struct ts_operator **out);

/* ---- what is the same at every step */

static bool call_folds(enum ts_func_id id)
{
    return id == TS_FUNC_START || id == TS_FUNC_END || id == TS_FUNC_RANGE || id == TS_FUNC_STEP;
}

/* Functions that look at the time of the step, not only at their arguments. */
static bool call_sees_time(enum ts_func_id id)
{
    switch (id) {
    case TS_FUNC_DAYS_IN_MONTH:
    case TS_FUNC_DAY_OF_MONTH:
    case TS_FUNC_DAY_OF_WEEK:
    case TS_FUNC_DAY_OF_YEAR:
    case TS_FUNC_HOUR:
    case TS_FUNC_MINUTE:
    case TS_FUNC_MONTH:
    case TS_FUNC_YEAR:
    case TS_FUNC_PREDICT_LINEAR:
    case TS_FUNC_TIME:
    case TS_FUNC_TIMESTAMP:
        return true;
    default:
        return false;
    }
}

static uint8_t invariance(struct planner *p, struct ts_expr *expr);

static uint8_t call_invariance(struct planner *p, const struct ts_call *call)
{
    if (call_folds(call->func->id))
        return INVARIANT;
    bool invariant = !call_sees_time(call->func->id), all_pinned = call->func->id == TS_FUNC_TIMESTAMP;
    for (size_t i = 0; i < call->n_args; i++) {
        bool pinned = invariance(p, call->args[i]) & INVARIANT;
        invariant = invariant && pinned;
        all_pinned = all_pinned && pinned && ts_expr_unparen(call->args[i])->kind == TS_EXPR_VECTOR;
    }
    return invariant || all_pinned ? INVARIANT | REPEATABLE : 0;
}

static uint8_t invariance_find(struct planner *p, struct ts_expr *expr)
{
    switch (expr->kind) {
    case TS_EXPR_NUMBER:
    case TS_EXPR_STRING:
        return INVARIANT;
    case TS_EXPR_VECTOR:
        return expr->vector.shift.at ? INVARIANT | REPEATABLE : 0;
    case TS_EXPR_MATRIX:
        return invariance(p, expr->matrix.vector) & INVARIANT;
    case TS_EXPR_SUBQUERY:
        return expr->subquery.shift.at ? INVARIANT : 0;
    case TS_EXPR_CALL:
        return call_invariance(p, &expr->call);
    case TS_EXPR_AGGREGATE:
        return invariance(p, expr->aggregate.expr);
    case TS_EXPR_BINARY:
        return invariance(p, expr->binary.left) & invariance(p, expr->binary.right) & INVARIANT
                   ? INVARIANT | REPEATABLE
                   : 0;
    case TS_EXPR_UNARY:
        return invariance(p, expr->unary.expr);
    case TS_EXPR_PAREN:
        return invariance(p, expr->paren);
    }
    return 0;
}

static uint8_t invariance(struct planner *p, struct ts_expr *expr)
{
    uint8_t *flags = &p->flags[expr->id];
    if (!(*flags & INVARIANT_KNOWN))
        *flags = (uint8_t)(invariance_find(p, expr) | INVARIANT_KNOWN);
    return *flags & (INVARIANT | REPEATABLE);
}

/* ---- what of the labels anybody looks at */

/* The selector whose series reach an aggregation one by one, with nothing in between that looks at their labels (as joins do, and
 * what drops names that could differ). NULL: there is none. */
static const struct ts_expr *plain_selector(struct ts_expr *expr, bool renamed)
{
    const struct ts_binary *binary = &expr->binary;
    const struct ts_call *call = &expr->call;
    switch (expr->kind) {
    case TS_EXPR_VECTOR:
        return !renamed || ts_selector_one_name(expr) ? expr : NULL;
    case TS_EXPR_PAREN:
        return plain_selector(expr->paren, renamed);
    case TS_EXPR_UNARY:
        return plain_selector(expr->unary.expr, true);
    case TS_EXPR_BINARY:
        renamed = renamed || !ts_op_is_comparison(binary->op) || binary->returns_bool;
        if (binary->right->type == TS_TYPE_SCALAR)
            return plain_selector(binary->left, renamed);
        return binary->left->type == TS_TYPE_SCALAR ? plain_selector(binary->right, renamed) : NULL;
    case TS_EXPR_CALL:
        for (size_t i = 0; i < call->n_args; i++)
            if (ts_expr_unparen(call->args[i])->kind == TS_EXPR_MATRIX)
                return call->func->id == TS_FUNC_ABSENT_OVER_TIME
                           ? NULL
                           : plain_selector(ts_expr_unparen(call->args[i])->matrix.vector, true);
        return ts_func_math_maker(call->func->id) ? plain_selector(call->args[0], true) : NULL;
    default:
        return NULL;
    }
}

static bool folds_by(const struct ts_aggregate *how)
{
    switch (how->op) {
    case TS_AGG_SUM:
    case TS_AGG_AVG:
    case TS_AGG_MIN:
    case TS_AGG_MAX:
    case TS_AGG_COUNT:
    case TS_AGG_GROUP:
    case TS_AGG_STDDEV:
    case TS_AGG_STDVAR:
    case TS_AGG_QUANTILE:
        return !how->without;
    default:
        return false;
    }
}

static const struct ts_label_choice *choice_of(const struct planner *p, const struct ts_expr *selector)
{
    return selector == p->grouped ? &p->by : NULL;
}

/* ---- selectors and subqueries */

struct ts_select_at ts_plan_shift(const struct ts_run *run, const struct ts_time_shift *shift)
{
    struct ts_select_at at = {shift->at != TS_AT_NONE, shift->at_ms, shift->offset.ms};
    if (shift->at == TS_AT_START)
        at.at_ms = run->start_ms;
    if (shift->at == TS_AT_END)
        at.at_ms = run->end_ms;
    return at;
}

/* The least multiple of step greater than t. */
static int64_t multiple_after(int64_t t, int64_t step)
{
    int64_t down = t / step * step;
    if (down > t)
        down -= step; /* division rounds towards zero */
    return down + step;
}

static kv_status plan_subquery(struct planner *p, const struct ts_expr *expr, struct ts_grid grid,
                               struct ts_operator **out)
{
    const struct ts_subquery *sub = &expr->subquery;
    struct ts_select_at at = ts_plan_shift(p->run, &sub->shift);
    int64_t first = (at.fixed ? at.at_ms : grid.start_ms) - at.offset_ms;
    int64_t last = (at.fixed ? at.at_ms : ts_grid_at(&grid, grid.n - 1)) - at.offset_ms;
    int64_t step = sub->step.ms ? sub->step.ms : p->run->subquery_step_ms;
    int64_t start = multiple_after(first - sub->range.ms, step);
    if (start > last)
        return ts_op_empty(p->run, (struct ts_grid){last, step, 1}, sub->expr, out);
    return plan_expr(p, sub->expr, (struct ts_grid){start, step, (size_t)((last - start) / step) + 1}, out);
}

/* ---- calls */

static void close_all(struct ts_operator **args, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ts_operator_close(args[i]);
}

static kv_status call_not_built(struct planner *p, const struct ts_call *call)
{
    return ts_run_fail(p->run, TS_QUERY_EXECUTION, KV_UNSUPPORTED, "function %s() is not built yet",
                       call->func->name);
}

static kv_status plan_range_call(struct planner *p, const struct ts_expr *expr, struct ts_expr *range,
                                 struct ts_grid grid, struct ts_operator **out)
{
    const struct ts_call *call = &expr->call;
    struct ts_operator *input = NULL, *scalars[2] = {NULL, NULL}, *made = NULL;
    size_t n_scalars = 0;
    bool subquery = range->kind == TS_EXPR_SUBQUERY;
    struct ts_range_call how = {.call = expr, .range = range};
    kv_status rc = KV_OK;
    how.range_ms = subquery ? range->subquery.range.ms : range->matrix.range.ms;
    how.at = ts_plan_shift(p->run, subquery ? &range->subquery.shift : &range->matrix.vector->vector.shift);
    if (!ts_range_kernel_of(call->func->id))
        return call_not_built(p, call);
    if (subquery)
        KV_TRY(plan_subquery(p, range, grid, &input));
    else
        how.labels = choice_of(p, range->matrix.vector);
    for (size_t i = 0; i < call->n_args; i++) {
        if (ts_expr_unparen(call->args[i]) == range || n_scalars == 2)
            continue;
        KV_TRY(plan_expr(p, call->args[i], grid, &scalars[n_scalars]));
        n_scalars++;
    }
    KV_TRY(ts_op_range_fn(p->run, grid, &how, input, scalars, n_scalars, &made));
    input = scalars[0] = scalars[1] = NULL;
    if (call->func->id == TS_FUNC_ABSENT_OVER_TIME) {
        KV_TRY(ts_op_absent_over_time(p->run, expr, made, out));
        return KV_OK;
    }
    *out = made;
    return KV_OK;
out:
    ts_operator_close(made);
    ts_operator_close(input);
    close_all(scalars, 2);
    return rc;
}

static kv_status plan_timestamp(struct planner *p, const struct ts_expr *expr, struct ts_grid grid,
                                struct ts_operator **out)
{
    struct ts_expr *argument = ts_expr_unparen(expr->call.args[0]);
    struct ts_operator *input = NULL;
    kv_status rc;
    if (argument->kind == TS_EXPR_VECTOR) {
        struct ts_select_at at = ts_plan_shift(p->run, &argument->vector.shift);
        KV_TRY(ts_op_select(p->run, grid, argument, &at, true, NULL, &input));
        KV_TRY(ts_op_drop_name(p->run, expr, input, out));
        return KV_OK;
    }
    KV_TRY(plan_expr(p, argument, grid, &input));
    KV_TRY(ts_op_step_time(p->run, expr, input, out));
    return KV_OK;
out:
    ts_operator_close(input);
    return rc;
}

/* Where the first selector of expr looks: its own @ and offset and those of the subqueries around it, up to the first @. */
static bool first_selector_at(const struct ts_run *run, const struct ts_expr *expr, struct ts_select_at *at)
{
    if (expr->kind == TS_EXPR_VECTOR) {
        *at = ts_plan_shift(run, &expr->vector.shift);
        return true;
    }
    for (size_t i = 0; ts_expr_child(expr, i); i++) {
        if (!first_selector_at(run, ts_expr_child(expr, i), at))
            continue;
        if (expr->kind == TS_EXPR_SUBQUERY && !at->fixed) {
            struct ts_select_at around = ts_plan_shift(run, &expr->subquery.shift);
            around.offset_ms += at->offset_ms;
            *at = around;
        }
        return true;
    }
    return false;
}

static kv_status plan_info(struct planner *p, const struct ts_expr *expr, struct ts_grid grid,
                           struct ts_operator **out)
{
    struct ts_select_at at = {0};
    struct ts_operator *input = NULL;
    (void)first_selector_at(p->run, expr->call.args[0], &at);
    kv_status rc = plan_expr(p, expr->call.args[0], grid, &input);
    if (rc == KV_OK && (rc = ts_op_info(p->run, grid, expr, input, &at, out)) < 0)
        ts_operator_close(input);
    return rc;
}

static kv_status plan_plain_call(struct planner *p, const struct ts_expr *expr, struct ts_grid grid,
                                 struct ts_operator **out)
{
    const struct ts_call *call = &expr->call;
    ts_func_maker maker = ts_func_maker_of(call->func->id);
    struct ts_operator *args[ARGS_MAX] = {NULL};
    kv_status rc = KV_OK;
    if (!maker)
        return call_not_built(p, call);
    for (size_t i = 0; i < call->n_args; i++) {
        if (call->args[i]->type == TS_TYPE_STRING)
            continue;
        if (i >= ARGS_MAX)
            return ts_run_fail(p->run, TS_QUERY_EXECUTION, KV_LIMIT, "too many arguments in call to %s()",
                               call->func->name);
        KV_TRY(plan_expr(p, call->args[i], grid, &args[i]));
    }
    KV_TRY(maker(p->run, grid, expr, args, call->n_args < ARGS_MAX ? call->n_args : ARGS_MAX, out));
    return KV_OK;
out:
    close_all(args, ARGS_MAX);
    return rc;
}

static kv_status plan_folded(struct planner *p, const struct ts_expr *expr, struct ts_grid grid,
                             struct ts_operator **out)
{
    const struct ts_run *run = p->run;
    double value = 0;
    switch (expr->call.func->id) {
    case TS_FUNC_START:
        value = (double)run->start_ms / 1000;
        break;
    case TS_FUNC_END:
        value = (double)run->end_ms / 1000;
        break;
    case TS_FUNC_RANGE:
        value = (double)(run->end_ms - run->start_ms) / 1000;
        break;
    default:
        value = run->start_ms == run->end_ms ? 0 : (double)run->step_ms / 1000;
        break;
    }
    return ts_op_constant(p->run, grid, expr, value, out);
}

static kv_status plan_call(struct planner *p, const struct ts_expr *expr, struct ts_grid grid,
                           struct ts_operator **out)
{
    const struct ts_call *call = &expr->call;
    enum ts_func_id id = call->func->id;
    if (call_folds(id))
        return plan_folded(p, expr, grid, out);
    if (id == TS_FUNC_TIME)
        return ts_op_time(p->run, grid, expr, out);
    if (id == TS_FUNC_TIMESTAMP)
        return plan_timestamp(p, expr, grid, out);
    if (id == TS_FUNC_INFO)
        return plan_info(p, expr, grid, out);
    if ((id == TS_FUNC_SORT || id == TS_FUNC_SORT_DESC || id == TS_FUNC_SORT_BY_LABEL ||
         id == TS_FUNC_SORT_BY_LABEL_DESC) &&
        grid.n > 1)
        ts_notes_add(&p->run->notes, TS_NOTE_WARNING, expr->start,
                     "sort is ineffective for range queries since results are always ordered by labels");
    for (size_t i = 0; i < call->n_args; i++) {
        struct ts_expr *argument = ts_expr_unparen(call->args[i]);
        if (argument->kind == TS_EXPR_MATRIX || argument->kind == TS_EXPR_SUBQUERY)
            return plan_range_call(p, expr, argument, grid, out);
    }
    return plan_plain_call(p, expr, grid, out);
}

/* ---- the rest */

static kv_status plan_aggregate(struct planner *p, const struct ts_expr *expr, struct ts_grid grid,
                                struct ts_operator **out)
{
    const struct ts_aggregate *how = &expr->aggregate;
    struct ts_operator *input = NULL, *param = NULL;
    kv_status rc;
    const struct planner around = *p;
    p->grouped = folds_by(how) ? plain_selector(how->expr, false) : NULL;
    p->by = (struct ts_label_choice){how->grouping, how->n_grouping};
    rc = plan_expr(p, how->expr, grid, &input);
    *p = around;
    KV_TRY(rc);
    if (how->op == TS_AGG_COUNT_VALUES) {
        KV_TRY(ts_op_count_values(p->run, expr, input, out));
        return KV_OK;
    }
    if (how->param)
        KV_TRY(plan_expr(p, how->param, grid, &param));
    KV_TRY(ts_op_aggregate(p->run, grid, expr, input, param, out));
    return KV_OK;
out:
    ts_operator_close(input);
    ts_operator_close(param);
    return rc;
}

static kv_status plan_binary(struct planner *p, const struct ts_expr *expr, struct ts_grid grid,
                             struct ts_operator **out)
{
    struct ts_operator *left = NULL, *right = NULL;
    kv_status rc;
    if (expr->binary.op == TS_OP_TRIM_LOWER || expr->binary.op == TS_OP_TRIM_UPPER)
        return ts_run_fail(p->run, TS_QUERY_EXECUTION, KV_UNSUPPORTED, "operator %s is not built yet",
                           ts_op_text(expr->binary.op));
    KV_TRY(plan_expr(p, expr->binary.left, grid, &left));
    KV_TRY(plan_expr(p, expr->binary.right, grid, &right));
    KV_TRY(ts_op_binary(p->run, grid, expr, left, right, out));
    return KV_OK;
out:
    ts_operator_close(left);
    ts_operator_close(right);
    return rc;
}

static kv_status plan_unary(struct planner *p, const struct ts_expr *expr, struct ts_grid grid,
                            struct ts_operator **out)
{
    struct ts_operator *input = NULL;
    kv_status rc;
    KV_TRY(plan_expr(p, expr->unary.expr, grid, &input));
    if (expr->unary.op == TS_OP_ADD) {
        *out = input;
        return KV_OK;
    }
    KV_TRY(ts_op_negate(p->run, expr, input, out));
    return KV_OK;
out:
    ts_operator_close(input);
    return rc;
}

static kv_status plan_kind(struct planner *p, struct ts_expr *expr, struct ts_grid grid,
                           struct ts_operator **out)
{
    struct ts_select_at at;
    switch (expr->kind) {
    case TS_EXPR_NUMBER:
        return ts_op_constant(p->run, grid, expr, expr->number.value, out);
    case TS_EXPR_VECTOR:
        at = ts_plan_shift(p->run, &expr->vector.shift);
        return ts_op_select(p->run, grid, expr, &at, false, choice_of(p, expr), out);
    case TS_EXPR_CALL:
        return plan_call(p, expr, grid, out);
    case TS_EXPR_AGGREGATE:
        return plan_aggregate(p, expr, grid, out);
    case TS_EXPR_BINARY:
        return plan_binary(p, expr, grid, out);
    case TS_EXPR_UNARY:
        return plan_unary(p, expr, grid, out);
    case TS_EXPR_PAREN:
        return plan_expr(p, expr->paren, grid, out);
    case TS_EXPR_STRING:
    case TS_EXPR_MATRIX:
    case TS_EXPR_SUBQUERY:
        break;
    }
    return ts_run_fail(p->run, TS_QUERY_INTERNAL, KV_INVALID, "a %s cannot be evaluated here",
                       ts_type_name(expr->type));
}

static kv_status plan_expr(struct planner *p, struct ts_expr *expr, struct ts_grid grid,
                           struct ts_operator **out)
{
    struct ts_operator *once = NULL;
    if (grid.n == 1 || !(invariance(p, expr) & REPEATABLE))
        return plan_kind(p, expr, grid, out);
    kv_status rc = plan_kind(p, expr, (struct ts_grid){grid.start_ms, grid.step_ms, 1}, &once);
    if (rc < 0)
        return rc;
    if ((rc = ts_op_repeat(p->run, grid, once, out)) < 0)
        ts_operator_close(once);
    return rc;
}

static kv_status planner_start(struct planner *p, struct ts_run *run, const struct ts_tree *tree)
{
    *p = (struct planner){.run = run, .flags = kv_zalloc(tree->n_exprs + 1, 1)};
    return p->flags ? KV_OK : ts_run_status(run, KV_NO_MEMORY, NULL);
}

kv_status ts_plan(struct ts_run *run, const struct ts_tree *tree, struct ts_grid grid,
                  struct ts_operator **out)
{
    struct planner p;
    kv_status rc = planner_start(&p, run, tree);
    if (rc == KV_OK)
        rc = plan_expr(&p, tree->root, grid, out);
    kv_free(p.flags);
    return rc;
}

kv_status ts_plan_subquery(struct ts_run *run, const struct ts_tree *tree, const struct ts_expr *subquery,
                           struct ts_grid grid, struct ts_operator **out)
{
    struct planner p;
    kv_status rc = planner_start(&p, run, tree);
    if (rc == KV_OK)
        rc = plan_subquery(&p, subquery, grid, out);
    kv_free(p.flags);
    return rc;
}
