/* exemplars.c - ts_query_exemplars: which series have some, which of them the expression's selectors choose, what they are. */
#include "kvcore/base/mem.h"
#include "tsdb/db.h"
#include "tsdb/promql/parse.h"
#include "tsdb/query/op.h"

#include <stdlib.h>

enum { EXEMPLARS_TIMEOUT_S = 120 };

struct series {
    uint64_t ref;
    struct ts_labels labels;
};

struct asked {
    struct ts_run run;
    struct kv_err err;
    struct kv_snapshot *snapshot;
    struct ts_refset all, chosen; /* series with exemplars in the range; those that a selector matches */
    struct kv_arena arena;
    struct series *series;
    uint64_t *refs;
    size_t n;
};

/* Adds what a selector matches of those with exemplars. */
static kv_status choose_one(struct asked *a, const struct ts_vector_selector *selector)
{
    struct ts_refset set = {0};
    const struct ts_select select = {.matchers = selector->matchers,
                                     .n_matchers = selector->n_matchers,
                                     .snapshot = a->snapshot,
                                     .budget = &a->run.budget};
    kv_status rc;
    KV_TRY(ts_refset_or(&set, &a->all));
    KV_TRY(ts_index_filter(a->run.db->registry, &select, &set, &a->err));
    rc = ts_refset_or(&a->chosen, &set);
out:
    ts_refset_release(&set);
    return rc;
}

/* Depth is bounded by the parser. */
static kv_status choose(struct asked *a, const struct ts_expr *expr)
{
    const struct ts_expr *child;
    kv_status rc = expr->kind == TS_EXPR_VECTOR ? choose_one(a, &expr->vector) : KV_OK;
    for (size_t i = 0; rc == KV_OK && (child = ts_expr_child(expr, i)); i++)
        rc = choose(a, child);
    return rc;
}

static int by_labels(const void *a, const void *b)
{
    const struct series *x = a, *y = b;
    return ts_labels_compare(x->labels.labels, x->labels.n, y->labels.labels, y->labels.n);
}

/* The chosen, with their labels, sorted by these. */
static kv_status read_labels(struct asked *a)
{
    struct ts_labels *labels = NULL;
    size_t n = 0, kept = 0;
    kv_status rc;
    KV_TRY(ts_refset_refs(&a->chosen, &a->refs, &n));
    if (n == 0)
        return KV_OK;
    labels = kv_alloc(n * sizeof *labels);
    a->series = kv_alloc(n * sizeof *a->series);
    if (!labels || !a->series)
        rc = KV_NO_MEMORY;
    else
        rc =
            ts_registry_labels_many(a->run.db->registry, a->snapshot, a->refs, n, &a->arena, labels, &a->err);
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        if (labels[i].labels) /* a series may be gone */
            a->series[kept++] = (struct series){a->refs[i], labels[i]};
    if (rc == KV_OK && kept > 1)
        qsort(a->series, kept, sizeof *a->series, by_labels);
    a->n = kept;
out:
    kv_free(labels);
    return rc;
}

static kv_status give(struct asked *a, int64_t from_ms, int64_t to_ms,
                      kv_status (*each)(void *ctx, const struct ts_label *labels, size_t n_labels,
                                        const struct ts_exemplar *exemplars, size_t n),
                      void *ctx)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < a->n && rc >= 0; i++) {
        struct kv_arena arena = {0};
        struct ts_exemplar *exemplars;
        size_t n;
        rc = ts_exemplars_of(a->run.db->exemplars, a->series[i].ref, from_ms, to_ms, &arena, &exemplars, &n);
        if (rc == KV_OK && n > 0)
            rc = each(ctx, a->series[i].labels.labels, a->series[i].labels.n, exemplars, n);
        kv_arena_release(&arena);
    }
    return rc < 0 ? rc : KV_OK;
}

kv_status ts_query_exemplars(struct ts_db *db, kv_slice expr, int64_t from_ms, int64_t to_ms,
                             kv_status (*each)(void *ctx, const struct ts_label *labels, size_t n_labels,
                                               const struct ts_exemplar *exemplars, size_t n),
                             void *ctx, struct ts_query_err *err)
{
    struct ts_query_err *own = kv_zalloc(1, sizeof *own);
    struct kv_arena arena = {0};
    struct ts_tree tree = {0};
    struct asked a = {.run = {.db = db, .err = err ? err : own}};
    int64_t floor_ms = ts_rules_lowest_ms(db->rules, ts_retention_clock_ms(db));
    kv_status rc = a.run.err ? KV_OK : KV_NO_MEMORY;
    if (rc < 0)
        return rc;
    *a.run.err = (struct ts_query_err){0};
    a.run.budget = (struct ts_budget){
        .samples_max = UINT64_MAX,
        .bytes_max = db->options.query_memory_max,
        .clock = db->clock,
        .deadline_mono_ns = kv_clock_mono_ns(db->clock) + (uint64_t)EXEMPLARS_TIMEOUT_S * 1000000000,
    };
    from_ms = from_ms > floor_ms ? from_ms : floor_ms;
    KV_TRY(ts_parse(expr, 0, &arena, &tree, a.run.err));
    KV_TRY(ts_exemplars_series(db->exemplars, from_ms, to_ms, &a.all));
    KV_TRY(kv_snapshot_open(db->kv, &a.snapshot)); /* afterwards: it has the series of every exemplar seen */
    KV_TRY(choose(&a, tree.root));
    KV_TRY(read_labels(&a));
    rc = give(&a, from_ms, to_ms, each, ctx);
out:
    if (rc < 0)
        rc = ts_run_status(&a.run, rc, &a.err);
    kv_free(a.series);
    kv_free(a.refs);
    ts_refset_release(&a.all);
    ts_refset_release(&a.chosen);
    kv_snapshot_close(a.snapshot);
    kv_arena_release(&a.arena);
    ts_tree_release(&tree);
    kv_arena_release(&arena);
    ts_notes_release(&a.run.notes);
    kv_free(own);
    return rc;
}
