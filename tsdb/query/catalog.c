/*
 * catalog.c - ts_series, ts_label_names, ts_label_values: what the store holds, without its samples. Series come
 * from a scan for labels, names and values from the index alone. Answers are sorted and each is given once, so
 * everything is known before the first is given.
 */
#include "kvcore/base/mem.h"
#include "tsdb/db.h"
#include "tsdb/moment.h"
#include "tsdb/promql/parse.h"
#include "tsdb/query/labelset.h"
#include "tsdb/query/prove.h"
#include "tsdb/query/scan.h"

#include <stdlib.h>

enum { CATALOG_TIMEOUT_S = 120 };

struct catalog {
    struct ts_run run;
    struct ts_pool pool;
    struct ts_keys keys; /* what was seen; a key's number is its item's place */
    struct item {
        struct ts_label *labels; /* series */
        size_t n_labels;
        kv_slice text; /* names and values */
    } * items;
    size_t n, capacity;
    bool values; /* of label; else names */
    kv_slice label;
    kv_status (*walk)(struct catalog *catalog, const struct ts_matcher *matchers, size_t n_matchers,
                      int64_t from_ms, int64_t to_ms);
};

static void catalog_init(struct catalog *catalog, struct ts_db *db, struct ts_query_err *err)
{
    struct kv_clock *clock = db->clock;
    *catalog = (struct catalog){.run = {.db = db, .err = err}};
    catalog->run.budget = (struct ts_budget){
        .samples_max = UINT64_MAX,
        .bytes_max = db->options.query_memory_max,
        .clock = clock,
        .deadline_mono_ns = kv_clock_mono_ns(clock) + (uint64_t)CATALOG_TIMEOUT_S * 1000000000,
    };
    err->code = KV_OK;
    err->text[0] = 0;
    ts_pool_init(&catalog->pool, &catalog->run);
    ts_keys_init(&catalog->keys, &catalog->run);
}

static void catalog_release(struct catalog *catalog)
{
    ts_run_shrink(&catalog->run, (void **)&catalog->items, &catalog->capacity, sizeof(*catalog->items));
    ts_keys_release(&catalog->keys);
    ts_pool_release(&catalog->pool);
    ts_notes_release(&catalog->run.notes);
}

/* A place for key; NULL item when it is there already. */
static kv_status catalog_item(struct catalog *catalog, kv_slice key, struct item **out)
{
    size_t index;
    bool is_new;
    kv_status rc = ts_keys_put(&catalog->keys, key, &index, &is_new);
    *out = NULL;
    if (rc < 0 || !is_new)
        return rc;
    rc = ts_run_grow(&catalog->run, (void **)&catalog->items, &catalog->capacity, index + 1,
                     sizeof(struct item));
    if (rc < 0)
        return rc;
    *out = &catalog->items[index];
    **out = (struct item){0};
    catalog->n = index + 1;
    return KV_OK;
}

static kv_status visit_series(struct catalog *catalog, const struct ts_scan_series *series)
{
    struct item *item = NULL;
    kv_status rc;
    KV_TRY(ts_labels_key_all(series->labels, series->n_labels, &catalog->keys.scratch));
    KV_TRY(catalog_item(catalog, kv_buf_slice(&catalog->keys.scratch), &item));
    if (!item)
        return KV_OK;
    item->labels = ts_pool_labels(&catalog->pool, series->labels, series->n_labels);
    item->n_labels = series->n_labels;
    for (size_t i = 0; i < item->n_labels && item->labels; i++) { /* the scan's labels go with it */
        item->labels[i].name = ts_pool_copy(&catalog->pool, series->labels[i].name);
        item->labels[i].value = ts_pool_copy(&catalog->pool, series->labels[i].value);
        if (!item->labels[i].name.data || !item->labels[i].value.data)
            return ts_pool_status(&catalog->pool);
    }
    return item->labels ? KV_OK : ts_pool_status(&catalog->pool);
out:
    return rc;
}

static kv_status visit_text(struct catalog *catalog, kv_slice text)
{
    struct item *item = NULL;
    kv_status rc = catalog_item(catalog, text, &item);
    if (rc < 0 || !item)
        return rc;
    item->text = ts_pool_copy(&catalog->pool, text);
    return item->text.data ? KV_OK : ts_pool_status(&catalog->pool);
}

static kv_status walk_series(struct catalog *catalog, const struct ts_matcher *matchers, size_t n_matchers,
                             int64_t from_ms, int64_t to_ms)
{
    struct ts_scan_options options = {.matchers = matchers,
                                      .n_matchers = n_matchers,
                                      .from_ms = from_ms,
                                      .to_ms = to_ms,
                                      .labels_only = true};
    struct ts_scan *scan = NULL;
    struct ts_scan_series series;
    struct kv_err err = {0};
    kv_status rc;
    KV_TRY(ts_scan_open(catalog->run.db, &options, &catalog->run.budget, &scan, &err));
    while ((rc = ts_scan_next(scan, &series, &err)) == KV_OK) {
        KV_TRY(visit_series(catalog, &series));
        KV_TRY(ts_budget_samples(&catalog->run.budget, 1)); /* asks the clock now and then */
    }
out:
    ts_scan_close(scan);
    return rc < 0 ? ts_run_status(&catalog->run, rc, &err) : KV_OK;
}

static kv_status each_text(void *ctx, kv_slice text)
{
    struct catalog *catalog = ctx;
    kv_status rc = ts_budget_samples(&catalog->run.budget, 1);
    return rc < 0 ? rc : visit_text(catalog, text);
}

/* Names, or the values of catalog->label, as the index and the pinned head have them. */
static kv_status walk_index(struct catalog *catalog, const struct ts_matcher *matchers, size_t n_matchers,
                            int64_t from_ms, int64_t to_ms)
{
    struct ts_db *db = catalog->run.db;
    const struct ts_activity *heads[TS_GENERATIONS_MAX];
    struct ts_head_pin pin = {0};
    struct kv_snapshot *snapshot = NULL;
    struct kv_err err = {0};
    struct ts_prove prove = {db, &pin, ts_retention_clock_ms(db), &err};
    int64_t floor_ms = ts_rules_lowest_ms(db->rules, prove.clock_ms);
    kv_status rc;
    KV_TRY(ts_wait_ready(db, &err));
    KV_TRY(ts_moment_open(db, &pin, &snapshot, &err));
    for (size_t i = 0; i < pin.n; i++)
        heads[i] = ts_generation_activity(pin.generations[i]);
    const struct ts_select select = {
        .matchers = matchers,
        .n_matchers = n_matchers,
        .from_ms = from_ms > floor_ms ? from_ms : floor_ms,
        .to_ms = to_ms,
        .snapshot = snapshot,
        .heads = heads,
        .n_heads = pin.n,
        .budget = &catalog->run.budget,
        .refine = ts_prove,
        .refine_ctx = &prove,
    };
    if (select.from_ms > to_ms)
        rc = KV_OK;
    else if (catalog->values)
        rc = ts_index_label_values(db->registry, &select, catalog->label, each_text, catalog, &err);
    else
        rc = ts_index_label_names(db->registry, &select, each_text, catalog, &err);
out:
    ts_moment_close(&pin, &snapshot);
    return rc < 0 ? ts_run_status(&catalog->run, rc, &err) : KV_OK;
}

/* A selector that even a series without labels would match asks for everything: surely a mistake. */
static kv_status check_selector(struct catalog *catalog, const struct ts_vector_selector *selector)
{
    for (size_t i = 0; i < selector->n_matchers; i++)
        if (!ts_matcher_matches(&selector->matchers[i], (kv_slice){NULL, 0}))
            return KV_OK;
    return ts_run_fail(&catalog->run, TS_QUERY_BAD_DATA, KV_INVALID,
                       "match[] must contain at least one non-empty matcher");
}

static kv_status walk_selectors(struct catalog *catalog, const kv_slice *selectors, size_t n, int64_t from_ms,
                                int64_t to_ms)
{
    kv_status rc = KV_OK;
    if (n == 0)
        return catalog->walk(catalog, NULL, 0, from_ms, to_ms);
    for (size_t i = 0; i < n && rc == KV_OK; i++) {
        struct kv_arena arena = {0};
        struct ts_tree tree = {0};
        rc = ts_parse_selector(selectors[i], &arena, &tree, catalog->run.err);
        if (rc == KV_OK)
            rc = check_selector(catalog, &tree.root->vector);
        if (rc == KV_OK)
            rc = catalog->walk(catalog, tree.root->vector.matchers, tree.root->vector.n_matchers, from_ms,
                               to_ms);
        ts_tree_release(&tree);
        kv_arena_release(&arena);
    }
    return rc;
}

static int by_labels(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    return ts_labels_compare(x->labels, x->n_labels, y->labels, y->n_labels);
}
static int by_text(const void *a, const void *b)
{
    return kv_slice_compare(((const struct item *)a)->text, ((const struct item *)b)->text);
}

/* Sorts, cuts at limit; the items stay in the catalog. */
static size_t catalog_sort(struct catalog *catalog, int (*compare)(const void *, const void *), size_t limit,
                           bool *truncated)
{
    if (catalog->n)
        qsort(catalog->items, catalog->n, sizeof(*catalog->items), compare);
    bool cut = limit && catalog->n > limit;
    if (truncated)
        *truncated = cut;
    return cut ? limit : catalog->n;
}

kv_status ts_series(struct ts_db *db, const kv_slice *selectors, size_t n, int64_t from_ms, int64_t to_ms,
                    size_t limit, bool *truncated,
                    kv_status (*each)(void *ctx, const struct ts_label *labels, size_t n_labels), void *ctx,
                    struct ts_query_err *err)
{
    struct catalog catalog;
    struct ts_query_err own;
    catalog_init(&catalog, db, err ? err : &own);
    catalog.walk = walk_series;
    kv_status rc = walk_selectors(&catalog, selectors, n, from_ms, to_ms);
    size_t count = rc == KV_OK ? catalog_sort(&catalog, by_labels, limit, truncated) : 0;
    for (size_t i = 0; i < count && rc >= 0; i++)
        rc = each(ctx, catalog.items[i].labels, catalog.items[i].n_labels);
    catalog_release(&catalog);
    return rc < 0 ? rc : KV_OK;
}

static kv_status texts(struct catalog *catalog, const kv_slice *selectors, size_t n, int64_t from_ms,
                       int64_t to_ms, size_t limit, bool *truncated,
                       kv_status (*each)(void *ctx, kv_slice text), void *ctx)
{
    kv_status rc = walk_selectors(catalog, selectors, n, from_ms, to_ms);
    size_t count = rc == KV_OK ? catalog_sort(catalog, by_text, limit, truncated) : 0;
    for (size_t i = 0; i < count && rc >= 0; i++)
        rc = each(ctx, catalog->items[i].text);
    catalog_release(catalog);
    return rc < 0 ? rc : KV_OK;
}

kv_status ts_label_names(struct ts_db *db, const kv_slice *selectors, size_t n, int64_t from_ms,
                         int64_t to_ms, size_t limit, bool *truncated,
                         kv_status (*each)(void *ctx, kv_slice name), void *ctx, struct ts_query_err *err)
{
    struct catalog catalog;
    struct ts_query_err own;
    catalog_init(&catalog, db, err ? err : &own);
    catalog.walk = walk_index;
    return texts(&catalog, selectors, n, from_ms, to_ms, limit, truncated, each, ctx);
}

kv_status ts_label_values(struct ts_db *db, kv_slice name, const kv_slice *selectors, size_t n,
                          int64_t from_ms, int64_t to_ms, size_t limit, bool *truncated,
                          kv_status (*each)(void *ctx, kv_slice value), void *ctx, struct ts_query_err *err)
{
    struct catalog catalog;
    struct ts_query_err own;
    catalog_init(&catalog, db, err ? err : &own);
    catalog.walk = walk_index;
    catalog.values = true;
    catalog.label = name;
    return texts(&catalog, selectors, n, from_ms, to_ms, limit, truncated, each, ctx);
}
