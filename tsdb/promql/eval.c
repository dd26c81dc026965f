/* eval.c - ts_query: parse, plan, run the root operator, and make the result a program may keep. */
#include "kvcore/base/mem.h"
#include "tsdb/db.h"
#include "tsdb/promql/plan.h"
#include "tsdb/promql/result.h"
#include "tsdb/query/labelset.h"
#include "tsdb/query/range_kernel.h"
#include "tsdb/query/scan.h"

#include <inttypes.h>

enum { POINTS_MAX_DEFAULT = 11000 };

/* ---- options */

static kv_status check_range(const struct ts_query_options *options, struct ts_query_err *err)
{
    uint64_t points_max = options->points_max ? options->points_max : POINTS_MAX_DEFAULT;
    if (options->end_ms < options->start_ms)
        return ts_query_fail(err, TS_QUERY_BAD_DATA, KV_INVALID,
                             "end timestamp must not be before start time");
    if (options->step_ms <= 0)
        return ts_query_fail(
            err, TS_QUERY_BAD_DATA, KV_INVALID,
            "zero or negative query resolution step widths are not accepted. Try a positive integer");
    if (((uint64_t)options->end_ms - (uint64_t)options->start_ms) / (uint64_t)options->step_ms > points_max)
        return ts_query_fail(
            err, TS_QUERY_BAD_DATA, KV_LIMIT,
            "exceeded maximum resolution of %s points per timeseries. Try decreasing the query "
            "resolution (?step=XX)",
            points_max == POINTS_MAX_DEFAULT ? "11,000" : "the configured number of");
    return KV_OK;
}

static void run_init(struct ts_run *run, struct ts_db *db, const struct ts_query_options *options,
                     struct ts_query_err *err)
{
    int64_t timeout_ms = options->timeout_ms > 0 ? options->timeout_ms : 120000;
    struct kv_clock *clock = db->clock;
    *run = (struct ts_run){
        .db = db,
        .err = err,
        .start_ms = options->range ? options->start_ms : options->end_ms,
        .end_ms = options->end_ms,
        .step_ms = options->range ? options->step_ms : 0,
        .lookback_ms = options->lookback_ms > 0 ? options->lookback_ms : 300000,
        .subquery_step_ms = options->subquery_step_ms ? options->subquery_step_ms : 60000,
        .delayed_names = (options->features & TS_PROMQL_DELAYED_NAME_REMOVAL) != 0,
    };
    run->budget = (struct ts_budget){
        .samples_max = options->samples_max ? options->samples_max : 50000000,
        .bytes_max = options->memory_max ? options->memory_max : db->options.query_memory_max,
        .clock = clock,
        .deadline_mono_ns = kv_clock_mono_ns(clock) + (uint64_t)timeout_ms * 1000000,
        .canceled = options->canceled,
        .canceled_ctx = options->canceled_ctx,
    };
}

/* ---- ranges at the top of an instant query */

/* Samples of one series into the result: stale markers left out, anchored and smoothed ends added. */
static kv_status add_samples(struct ts_result_build *build, const struct ts_scan_series *series,
                             enum ts_range_mode mode, int64_t from_ms, int64_t to_ms)
{
    struct ts_pool *pool = &build->scratch;
    int64_t *times = ts_pool_alloc(pool, (2 * series->n + 3) * sizeof(*times));
    double *values = times ? ts_pool_column(pool, 2 * series->n + 3) : NULL;
    size_t n = 0;
    if (!values)
        return ts_pool_status(pool);
    for (size_t i = 0; i < series->n; i++) {
        if (ts_is_absent(series->values[i]))
            continue;
        times[n] = series->times_ms[i];
        values[n++] = series->values[i];
    }
    if (mode != TS_RANGE_PLAIN) {
        size_t extended = ts_range_extend(times, values, n, from_ms, to_ms, mode == TS_RANGE_SMOOTHED,
                                          times + n, values + n);
        times += n;
        values += n;
        n = extended;
    }
    return ts_result_add(build, series->labels, series->n_labels, times, values, n);
}

static kv_status run_matrix(struct ts_run *run, const struct ts_expr *matrix, struct ts_result_build *build)
{
    const struct ts_vector_selector *selector = &matrix->matrix.vector->vector;
    struct ts_select_at at = ts_plan_shift(run, &selector->shift);
    int64_t to = (at.fixed ? at.at_ms : run->end_ms) - at.offset_ms, from = to - matrix->matrix.range.ms;
    struct kv_err err = {0};
    struct ts_scan *scan = NULL;
    struct ts_scan_series series;
    struct ts_scan_options options = {
        .matchers = selector->matchers,
        .n_matchers = selector->n_matchers,
        .from_ms = from + 1 - (selector->mode ? run->lookback_ms : 0),
        .to_ms = to + (selector->mode == TS_RANGE_SMOOTHED ? run->lookback_ms : 0),
    };
    kv_status rc;
    KV_TRY(ts_scan_open(run->db, &options, &run->budget, &scan, &err));
    while ((rc = ts_scan_next(scan, &series, &err)) == KV_OK) {
        run->series++;
        KV_TRY(add_samples(build, &series, selector->mode, from, to));
        ts_pool_release(&build->scratch);
    }
out:
    ts_scan_close(scan);
    return rc < 0 ? ts_run_status(run, rc, &err) : KV_OK;
}

/* ---- everything else */

/* Every series of op. With delayed names they go now. */
static kv_status run_operator(struct ts_run *run, struct ts_operator *op, struct ts_result_build *build)
{
    struct ts_operator *merged = NULL;
    struct ts_column column;
    kv_status rc;
    if (run->delayed_names) {
        KV_TRY(ts_op_finish_names(op, &merged));
        op = merged;
    }
    while ((rc = ts_operator_next(op, &column)) == KV_OK)
        KV_TRY(ts_result_add_column(build, &column, &op->grid));
out:
    if (merged)
        ts_operator_close(merged);
    else
        ts_operator_close(op);
    return rc < 0 ? rc : KV_OK;
}

static kv_status run_plan(struct ts_run *run, const struct ts_tree *tree, struct ts_result_build *build)
{
    struct ts_operator *op = NULL;
    struct ts_grid grid = {run->start_ms, run->step_ms ? run->step_ms : 1, 1};
    const struct ts_expr *root = ts_expr_unparen(tree->root);
    kv_status rc;
    if (run->step_ms)
        grid.n = (size_t)((run->end_ms - run->start_ms) / run->step_ms) + 1;
    if (root->kind == TS_EXPR_MATRIX)
        return run_matrix(run, root, build);
    rc = root->kind == TS_EXPR_SUBQUERY ? ts_plan_subquery(run, tree, root, grid, &op)
                                        : ts_plan(run, tree, grid, &op);
    return rc < 0 ? rc : run_operator(run, op, build);
}

static kv_status check_type(const struct ts_expr *root, bool range, struct ts_query_err *err)
{
    if (!range || root->type == TS_TYPE_SCALAR || root->type == TS_TYPE_VECTOR)
        return KV_OK;
    return ts_query_fail(err, TS_QUERY_BAD_DATA, KV_INVALID,
                         "invalid expression type \"%s\" for range query, must be Scalar or instant Vector",
                         ts_type_name(root->type));
}

static kv_status evaluate(struct ts_run *run, const struct ts_tree *tree, bool range, struct ts_result **out)
{
    struct ts_result_build build;
    const struct ts_expr *root = ts_expr_unparen(tree->root);
    kv_status rc = ts_result_build_init(&build, run);
    KV_TRY(rc);
    KV_TRY(ts_run_status(run, ts_budget_check(&run->budget), NULL));
    if (root->kind == TS_EXPR_STRING)
        KV_TRY(ts_result_set_string(&build, root->string));
    else
        KV_TRY(run_plan(run, tree, &build));
    enum ts_result_type type = range || root->type == TS_TYPE_MATRIX ? TS_RESULT_MATRIX
                               : root->type == TS_TYPE_STRING        ? TS_RESULT_STRING
                               : root->type == TS_TYPE_SCALAR        ? TS_RESULT_SCALAR
                                                                     : TS_RESULT_VECTOR;
    KV_TRY(ts_result_finish(&build, type, out));
out:
    ts_result_build_release(&build);
    return rc;
}

kv_status ts_query(struct ts_db *db, kv_slice expr, const struct ts_query_options *options,
                   struct ts_result **out, struct ts_query_err *err)
{
    struct ts_query_err own = {0};
    struct ts_run run;
    struct ts_tree tree = {0};
    struct kv_arena arena = {0};
    kv_status rc;
    *out = NULL;
    err = err ? err : &own;
    err->type = TS_QUERY_INTERNAL;
    err->code = KV_OK;
    err->text[0] = 0;
    run_init(&run, db, options, err);
    atomic_fetch_add_explicit(&db->counters.queries, 1, memory_order_relaxed);
    uint64_t started = kv_clock_mono_ns(run.budget.clock);
    if (options->range)
        KV_TRY(check_range(options, err));
    KV_TRY(ts_parse(expr, 0, &arena, &tree, err));
    KV_TRY(check_type(tree.root, options->range, err));
    KV_TRY(ts_durations_resolve(&tree, run.start_ms, run.end_ms, run.step_ms, err));
    run.text = tree.text;
    KV_TRY(evaluate(&run, &tree, options->range, out));
    (*out)->stats = (struct ts_result_stats){
        .samples = run.budget.samples,
        .peak_bytes = run.budget.bytes_peak,
        .series = run.series,
        .seconds = (double)(kv_clock_mono_ns(run.budget.clock) - started) / 1e9,
    };
out:
    if (rc < 0 && err->code == KV_OK)
        (void)ts_query_fail(err, TS_QUERY_INTERNAL, rc, "%s", kv_status_text(rc));
    ts_notes_release(&run.notes);
    ts_tree_release(&tree);
    kv_arena_release(&arena);
    return rc;
}
