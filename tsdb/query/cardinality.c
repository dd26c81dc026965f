/*
 * cardinality.c - ts_cardinality: what the index holds, counted when asked.
 *
 *     which series    none chosen: all. Else those that matchers and days choose, as a set
 *     which are new   day by day: what is active on it and was on no stored day before (a set a day)
 *     counting        all or many: one walk over the postings (ts_index_count), each list against each set.
 *                     Few: their labels, gathered and sorted
 *     the largest     kept in heaps (top.h), a label's own numbers while its values pass by
 */
#include "kvcore/base/mem.h"
#include "tsdb/db.h"
#include "tsdb/moment.h"
#include "tsdb/promql/parse.h"
#include "tsdb/query/op.h"
#include "tsdb/query/top.h"

#include <stdlib.h>

enum {
    CARDINALITY_TOP_DEFAULT = 10,
    CARDINALITY_TOPS = 6,
    CARDINALITY_DIRECT_ALWAYS = 8192, /* so many series have their labels read instead of the index walked */
    CARDINALITY_DIRECT_MAX =
        65536, /* so many if that is a 32nd of all: a series costs about as much as 32 by a walk */
    CARDINALITY_DIRECT_SHARE = 32,
    CARDINALITY_DIRECT_COUNTS = 1 << 19, /* and so many counts of a label's values may be held meanwhile */
    CARDINALITY_TIMEOUT_MS = 120000,
};

/* A label pair of the series whose labels are read; its counts stand in counts. */
struct pair {
    kv_slice name, value;
    size_t index;
};

struct cardinality {
    struct ts_run run;
    const struct ts_cardinality_options *options;
    struct ts_cardinality *out;
    struct kv_err err;

    struct ts_head_pin pin;
    struct kv_snapshot *snapshot;
    const struct ts_activity *heads[TS_GENERATIONS_MAX];
    struct ts_select select; /* range, snapshot, heads, budget; no matchers */

    bool chosen; /* selected says which series; else all */
    struct ts_refset selected;
    struct ts_refset days[TS_GROWTH_DAYS_MAX];
    size_t n_days, n_counts; /* counts of a thing: all that are chosen, then the new ones of each day */

    struct ts_top metrics, label_values, label_bytes, pairs, new_metrics, new_pairs;
    struct kv_buf label; /* whose values are passing by */
    bool label_open;
    uint64_t values, bytes;

    uint32_t *numbers; /* metrics, rising, and their counts */
    uint64_t *counts;
    size_t n, numbers_capacity, counts_capacity;
};

/* ---- what passes by ------------------------------------------------------------------------------------ */

static uint64_t sum_of(const struct cardinality *c, const uint64_t *counts)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < c->n_days; i++)
        sum += counts[1 + i];
    return sum;
}

static kv_status close_label(struct cardinality *c)
{
    kv_slice label = kv_buf_slice(&c->label);
    kv_status rc = KV_OK;
    if (!c->label_open)
        return KV_OK;
    KV_TRY(ts_top_offer(&c->label_values, label, (kv_slice){0}, c->values, NULL, 0));
    rc = ts_top_offer(&c->label_bytes, label, (kv_slice){0}, c->bytes, NULL, 0);
out:
    c->values = c->bytes = 0;
    c->label_open = false;
    return rc;
}

/* Labels come together. An empty value only says that the label comes. */
static kv_status each_pair(void *ctx, kv_slice label, kv_slice value, const uint64_t *counts)
{
    struct cardinality *c = ctx;
    kv_status rc = KV_OK;
    if (!c->label_open || !kv_slice_equal(kv_buf_slice(&c->label), label)) {
        KV_TRY(close_label(c));
        kv_buf_clear(&c->label);
        KV_TRY(kv_buf_append(&c->label, label));
        c->label_open = true;
    }
    if (value.len == 0)
        return KV_OK;
    if (counts[0] > 0) {
        c->values++;
        c->bytes += value.len * counts[0];
        c->out->label_pairs++;
        KV_TRY(ts_top_offer(&c->pairs, label, value, counts[0], NULL, 0));
    }
    if (c->n_days > 0)
        rc = ts_top_offer(&c->new_pairs, label, value, sum_of(c, counts), counts + 1, c->n_days);
out:
    return rc;
}

static kv_status named_metric(struct cardinality *c, kv_slice name, const uint64_t *counts)
{
    kv_status rc;
    c->out->series += counts[0];
    for (size_t i = 0; i < c->n_days; i++)
        c->out->new_by_day[i] += counts[1 + i];
    KV_TRY(ts_top_offer(&c->metrics, name, (kv_slice){0}, counts[0], NULL, 0));
    if (c->n_days > 0)
        KV_TRY(ts_top_offer(&c->new_metrics, name, (kv_slice){0}, sum_of(c, counts), counts + 1, c->n_days));
    rc = each_pair(c, TS_METRIC_NAME, name, counts);
out:
    return rc;
}

/* ---- counting by the index ----------------------------------------------------------------------------- */

static kv_status each_metric(void *ctx, uint32_t metric, const uint64_t *counts)
{
    struct cardinality *c = ctx;
    kv_status rc;
    KV_TRY(ts_run_grow(&c->run, (void **)&c->numbers, &c->numbers_capacity, c->n + 1, sizeof *c->numbers));
    KV_TRY(ts_run_grow(&c->run, (void **)&c->counts, &c->counts_capacity, (c->n + 1) * c->n_counts,
                       sizeof *c->counts));
    c->numbers[c->n] = metric;
    memcpy(c->counts + c->n * c->n_counts, counts, c->n_counts * sizeof *counts);
    c->n++;
out:
    return rc;
}

static int u32_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static kv_status each_name(void *ctx, kv_slice name, uint32_t metric, uint32_t n_series)
{
    struct cardinality *c = ctx;
    (void)n_series;
    const uint32_t *at = c->n > 0 ? bsearch(&metric, c->numbers, c->n, sizeof metric, u32_order) : NULL;
    return at ? named_metric(c, name, c->counts + (size_t)(at - c->numbers) * c->n_counts) : KV_OK;
}

static kv_status count_by_index(struct cardinality *c)
{
    const struct ts_refset *sets[1 + TS_GROWTH_DAYS_MAX];
    sets[0] = c->chosen ? &c->selected : NULL;
    for (size_t i = 0; i < c->n_days; i++)
        sets[1 + i] = &c->days[i];
    const struct ts_index_count count = {.sets = sets,
                                         .n_sets = c->n_counts,
                                         .snapshot = c->snapshot,
                                         .budget = &c->run.budget,
                                         .metric = each_metric,
                                         .pair = each_pair,
                                         .ctx = c};
    kv_status rc;
    KV_TRY(ts_index_count(c->run.db->registry, &count, &c->err));
    rc = ts_index_metrics(c->run.db->registry, c->snapshot, each_name, c, &c->err);
out:
    return rc;
}

/* ---- counting by labels -------------------------------------------------------------------------------- */

struct gather {
    struct cardinality *c;
    struct ts_pool pool;
    struct ts_keys keys; /* of pairs */
    struct pair *pairs;
    uint64_t *counts; /* n_counts for each */
    size_t n, pairs_capacity, counts_capacity;
};

static kv_status gather_pair(struct gather *g, const struct ts_label *label, size_t day)
{
    struct ts_run *run = &g->c->run;
    struct kv_buf *key = &g->keys.scratch;
    size_t index, width = g->c->n_counts;
    bool is_new;
    kv_status rc;
    kv_buf_clear(key);
    KV_TRY(kv_buf_append_lp(key, label->name));
    KV_TRY(kv_buf_append(key, label->value));
    KV_TRY(ts_keys_put(&g->keys, kv_buf_slice(key), &index, &is_new));
    if (is_new) {
        KV_TRY(ts_run_grow(run, (void **)&g->pairs, &g->pairs_capacity, index + 1, sizeof *g->pairs));
        KV_TRY(ts_run_grow(run, (void **)&g->counts, &g->counts_capacity, (index + 1) * width,
                           sizeof *g->counts));
        g->pairs[index] =
            (struct pair){ts_pool_copy(&g->pool, label->name), ts_pool_copy(&g->pool, label->value), index};
        memset(g->counts + index * width, 0, width * sizeof *g->counts);
        if (!g->pairs[index].name.data || !g->pairs[index].value.data)
            return ts_pool_status(&g->pool);
        g->n = index + 1;
    }
    g->counts[index * width]++;
    if (day < g->c->n_days)
        g->counts[index * width + 1 + day]++;
out:
    return rc;
}

static kv_status gather_series(struct gather *g, uint64_t ref, const struct ts_labels *labels)
{
    size_t day = 0;
    kv_status rc = ts_budget_samples(&g->c->run.budget, 1);
    while (day < g->c->n_days && !ts_refset_has(&g->c->days[day], ref))
        day++;
    for (size_t i = 0; rc == KV_OK && i < labels->n; i++)
        rc = gather_pair(g, &labels->labels[i], day);
    return rc;
}

static int pair_order(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    int c = kv_slice_compare(x->name, y->name);
    return c ? c : kv_slice_compare(x->value, y->value);
}

static kv_status give_gathered(struct gather *g)
{
    kv_status rc = KV_OK;
    if (g->n > 1)
        qsort(g->pairs, g->n, sizeof *g->pairs, pair_order);
    for (size_t i = 0; i < g->n && rc == KV_OK; i++) {
        const struct pair *p = &g->pairs[i];
        const uint64_t *counts = g->counts + p->index * g->c->n_counts;
        rc = kv_slice_equal(p->name, TS_METRIC_NAME) ? named_metric(g->c, p->value, counts)
                                                     : each_pair(g->c, p->name, p->value, counts);
    }
    return rc;
}

static kv_status count_by_labels(struct cardinality *c)
{
    enum { STEP = 256 };
    struct gather g = {.c = c};
    struct ts_labels labels[STEP];
    uint64_t *refs = NULL;
    size_t n = 0;
    kv_status rc;
    ts_pool_init(&g.pool, &c->run);
    ts_keys_init(&g.keys, &c->run);
    KV_TRY(ts_refset_refs(&c->selected, &refs, &n));
    for (size_t at = 0; at < n; at += STEP) {
        struct kv_arena arena = {0};
        size_t some = n - at < STEP ? n - at : STEP;
        rc = ts_registry_labels_many(c->run.db->registry, c->snapshot, refs + at, some, &arena, labels,
                                     &c->err);
        for (size_t i = 0; i < some && rc == KV_OK; i++)
            if (labels[i].labels)
                rc = gather_series(&g, refs[at + i], &labels[i]);
        kv_arena_release(&arena);
        if (rc < 0)
            goto out;
    }
    rc = give_gathered(&g);
out:
    kv_free(refs);
    ts_run_shrink(&c->run, (void **)&g.pairs, &g.pairs_capacity, sizeof *g.pairs);
    ts_run_shrink(&c->run, (void **)&g.counts, &g.counts_capacity, sizeof *g.counts);
    ts_keys_release(&g.keys);
    ts_pool_release(&g.pool);
    return rc;
}

/* ---- which series -------------------------------------------------------------------------------------- */

static kv_status choose_one(struct cardinality *c, kv_slice selector)
{
    struct kv_arena arena = {0};
    struct ts_tree tree = {0};
    struct ts_refset set = {0};
    struct ts_select select = c->select;
    kv_status rc;
    KV_TRY(ts_parse_selector(selector, &arena, &tree, c->run.err));
    select.matchers = tree.root->vector.matchers;
    select.n_matchers = tree.root->vector.n_matchers;
    KV_TRY(ts_index_select_refs(c->run.db->registry, &select, &set, &c->err));
    rc = ts_refset_or(&c->selected, &set);
out:
    ts_refset_release(&set);
    ts_tree_release(&tree);
    kv_arena_release(&arena);
    return rc;
}

static kv_status choose(struct cardinality *c)
{
    const struct ts_cardinality_options *o = c->options;
    kv_status rc = KV_OK;
    c->chosen = o->n_selectors > 0 || o->ranged;
    if (c->chosen && o->n_selectors == 0)
        return ts_index_select_refs(c->run.db->registry, &c->select, &c->selected, &c->err);
    for (size_t i = 0; i < o->n_selectors && rc == KV_OK; i++)
        rc = choose_one(c, o->selectors[i]);
    return rc;
}

/* What of each day was on no day before. */
static kv_status choose_new(struct cardinality *c, int32_t first)
{
    struct ts_registry *registry = c->run.db->registry;
    struct ts_refset seen = {0};
    kv_status rc = KV_OK;
    if (first > INT32_MIN)
        KV_TRY(ts_index_active(registry, &c->select, INT32_MIN, first - 1, &seen, &c->err));
    for (size_t i = 0; i < c->n_days; i++) {
        int32_t window = first + (int32_t)i;
        KV_TRY(ts_index_active(registry, &c->select, window, window, &c->days[i], &c->err));
        ts_refset_andnot(&c->days[i], &seen);
        KV_TRY(ts_refset_or(&seen, &c->days[i]));
        ts_refset_and(&c->days[i], &c->selected);
    }
out:
    ts_refset_release(&seen);
    return rc;
}

static kv_status check_options(struct cardinality *c)
{
    const struct ts_cardinality_options *o = c->options;
    if (o->top > TS_CARDINALITY_TOP_MAX)
        return ts_run_fail(&c->run, TS_QUERY_BAD_DATA, KV_INVALID, "more than %d entries a list",
                           TS_CARDINALITY_TOP_MAX);
    if (o->ranged && o->from_ms > o->to_ms)
        return ts_run_fail(&c->run, TS_QUERY_BAD_DATA, KV_INVALID,
                           "end timestamp must not be before start time");
    if (!o->growth)
        return KV_OK;
    int64_t days = (int64_t)ts_window_of(o->to_ms) - ts_window_of(o->from_ms) + 1;
    if (!o->ranged || days > TS_GROWTH_DAYS_MAX)
        return ts_run_fail(&c->run, TS_QUERY_BAD_DATA, KV_INVALID,
                           "growth is told for a range of at most %d days, both ends included",
                           TS_GROWTH_DAYS_MAX);
    c->n_days = (size_t)days;
    return KV_OK;
}

/* ---- in order ------------------------------------------------------------------------------------------ */

static void cardinality_init(struct cardinality *c, struct ts_db *db,
                             const struct ts_cardinality_options *options, struct ts_query_err *err)
{
    struct ts_budget *budget = &c->run.budget;
    c->run.db = db;
    c->run.err = err;
    err->code = KV_OK;
    err->text[0] = 0;
    c->options = options;
    uint64_t timeout_ms = options->timeout_ms > 0 ? (uint64_t)options->timeout_ms : CARDINALITY_TIMEOUT_MS;
    *budget = (struct ts_budget){
        .samples_max = UINT64_MAX,
        .bytes_max = options->memory_max ? options->memory_max : db->options.query_memory_max,
        .clock = db->clock,
        .deadline_mono_ns = kv_clock_mono_ns(db->clock) + timeout_ms * 1000000,
        .canceled = options->canceled,
        .canceled_ctx = options->canceled_ctx,
    };
    size_t top = options->top ? options->top : CARDINALITY_TOP_DEFAULT;
    struct ts_top *const tops[CARDINALITY_TOPS] = {&c->metrics, &c->label_values, &c->label_bytes,
                                                   &c->pairs,   &c->new_metrics,  &c->new_pairs};
    for (size_t i = 0; i < CARDINALITY_TOPS; i++)
        *tops[i] = (struct ts_top){.max = top, .budget = budget};
}

static void cardinality_release(struct cardinality *c)
{
    struct ts_top *const tops[CARDINALITY_TOPS] = {&c->metrics, &c->label_values, &c->label_bytes,
                                                   &c->pairs,   &c->new_metrics,  &c->new_pairs};
    for (size_t i = 0; i < CARDINALITY_TOPS; i++)
        ts_top_release(tops[i]);
    for (size_t i = 0; i < c->n_days; i++)
        ts_refset_release(&c->days[i]);
    ts_refset_release(&c->selected);
    kv_buf_release(&c->label);
    ts_run_shrink(&c->run, (void **)&c->numbers, &c->numbers_capacity, sizeof *c->numbers);
    ts_run_shrink(&c->run, (void **)&c->counts, &c->counts_capacity, sizeof *c->counts);
    ts_moment_close(&c->pin, &c->snapshot);
    ts_notes_release(&c->run.notes);
    kv_free(c);
}

static kv_status pin_state(struct cardinality *c)
{
    struct ts_db *db = c->run.db;
    const struct ts_cardinality_options *o = c->options;
    int64_t floor_ms = ts_rules_lowest_ms(db->rules, ts_retention_clock_ms(db)),
            from_ms = o->ranged ? o->from_ms : INT64_MIN;
    kv_status rc;
    KV_TRY(ts_wait_ready(db, &c->err));
    KV_TRY(ts_moment_open(db, &c->pin, &c->snapshot, &c->err));
    for (size_t i = 0; i < c->pin.n; i++)
        c->heads[i] = ts_generation_activity(c->pin.generations[i]);
    c->select = (struct ts_select){.from_ms = from_ms > floor_ms ? from_ms : floor_ms,
                                   .to_ms = o->ranged ? o->to_ms : INT64_MAX,
                                   .snapshot = c->snapshot,
                                   .heads = c->heads,
                                   .n_heads = c->pin.n,
                                   .budget = &c->run.budget};
out:
    return rc;
}

static bool few_chosen(const struct cardinality *c)
{
    struct ts_registry_stats stats;
    if (!c->chosen)
        return false;
    uint64_t n = ts_refset_count(&c->selected);
    ts_registry_stats(c->run.db->registry, &stats);
    return n * c->n_counts <= CARDINALITY_DIRECT_COUNTS &&
           (n <= CARDINALITY_DIRECT_ALWAYS ||
            (n <= CARDINALITY_DIRECT_MAX && n <= stats.series / CARDINALITY_DIRECT_SHARE));
}

static kv_status count(struct cardinality *c)
{
    struct ts_cardinality *out = c->out;
    kv_status rc;
    KV_TRY(check_options(c));
    c->n_counts = 1 + c->n_days;
    out->n_days = c->n_days;
    out->first_day_ms = ts_window_start_ms(ts_window_of(c->options->from_ms));
    if (c->n_days > 0 && !(out->new_by_day = kv_zalloc(c->n_days, sizeof *out->new_by_day)))
        return KV_NO_MEMORY;
    KV_TRY(pin_state(c));
    KV_TRY(choose(c));
    if (c->n_days > 0)
        KV_TRY(choose_new(c, ts_window_of(c->options->from_ms)));
    KV_TRY(few_chosen(c) ? count_by_labels(c) : count_by_index(c));
    KV_TRY(close_label(c));
    out->series_by_metric = ts_top_take(&c->metrics);
    out->values_by_label = ts_top_take(&c->label_values);
    out->bytes_by_label = ts_top_take(&c->label_bytes);
    out->series_by_pair = ts_top_take(&c->pairs);
    out->new_by_metric = ts_top_take(&c->new_metrics);
    out->new_by_pair = ts_top_take(&c->new_pairs);
out:
    return rc;
}

kv_status ts_cardinality(struct ts_db *db, const struct ts_cardinality_options *options,
                         struct ts_cardinality **out, struct ts_query_err *err)
{
    static const struct ts_cardinality_options none;
    struct ts_query_err *own = err ? NULL : kv_alloc(sizeof *own);
    struct cardinality *c = kv_zalloc(1, sizeof *c);
    kv_status rc = KV_NO_MEMORY;
    if (c && (err || own)) {
        cardinality_init(c, db, options ? options : &none, err ? err : own);
        if ((c->out = kv_zalloc(1, sizeof *c->out)))
            rc = count(c);
        if (rc < 0) {
            rc = ts_run_status(&c->run, rc, &c->err);
            ts_cardinality_free(c->out);
        } else {
            *out = c->out;
            rc = KV_OK;
        }
        cardinality_release(c);
        c = NULL;
    } else if (err) {
        *err = (struct ts_query_err){.type = TS_QUERY_INTERNAL, .code = rc, .text = "out of memory"};
    }
    kv_free(c);
    kv_free(own);
    return rc;
}

void ts_cardinality_free(struct ts_cardinality *cardinality)
{
    if (!cardinality)
        return;
    ts_count_list_release(&cardinality->series_by_metric);
    ts_count_list_release(&cardinality->values_by_label);
    ts_count_list_release(&cardinality->bytes_by_label);
    ts_count_list_release(&cardinality->series_by_pair);
    ts_count_list_release(&cardinality->new_by_metric);
    ts_count_list_release(&cardinality->new_by_pair);
    kv_free(cardinality->new_by_day);
    kv_free(cardinality);
}
