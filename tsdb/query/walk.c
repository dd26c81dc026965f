/*
 * walk.c - everything that is stored, as it is: samples series by series and day by day (ts_export_*), and the chunks they lie in
 * (ts_chunks). One consistent state, pinned at the beginning; memory for the refs of the series and one window of one of them.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "tsdb/chunk/chunk.h"
#include "tsdb/db.h"
#include "tsdb/label.h"
#include "tsdb/merge_set.h"
#include "tsdb/moment.h"
#include "tsdb/promql/parse.h"
#include "tsdb/query/limits.h"
#include "tsdb/query/window_cursor.h"

#include <stdio.h>
#include <stdlib.h>

enum { WALK_LABELS = 1024 }; /* series whose labels are read at once */

struct walk_selector {
    struct kv_arena arena;
    struct ts_tree tree;
    const struct ts_matcher *matchers;
    size_t n;
};
struct walk_window {
    struct ts_window_cursor cursor;
    bool stored, in_head; /* has chunks; a head generation may have samples in it */
};
struct ts_export {
    struct ts_db *db;
    struct ts_budget budget;
    int64_t from_ms, to_ms; /* of the rule that keeps longest */
    int64_t clock_ms;
    bool by_rule;                    /* some rule hides what lies in the range */
    struct walk_selector *selectors; /* at least one */
    size_t n_selectors, selector;    /* the one at hand */
    struct ts_head_pin pin;
    struct kv_snapshot *snapshot;
    struct walk_window *windows;
    size_t n_windows;

    /* of the selector at hand */
    uint64_t *refs;
    size_t n_refs;
    uint32_t *slots[TS_GENERATIONS_MAX]; /* of refs, by generation */
    struct kv_arena arena;               /* of labels */
    struct ts_labels labels[WALK_LABELS];
    size_t labels_from, labels_n; /* refs whose labels these are */
    size_t next;                  /* one past the series at hand; 0: none is */
    size_t window;                /* of it, the next to be looked at */
    size_t tombs_hint;
    int64_t series_from_ms;           /* where its samples begin, by its rule */
    const struct ts_tombstone *tombs; /* of it */
    size_t n_tombs;

    struct ts_merge_set set;
    struct ts_head_scratch scratch;
};

/* ---- open, close ------------------------------------------------------------------------------------- */

static kv_status walk_parse(struct ts_export *walk, const struct ts_walk_options *options,
                            struct ts_query_err *err)
{
    walk->n_selectors =
        options->n_selectors ? options->n_selectors : 1; /* one without matchers: everything */
    walk->selectors = kv_zalloc(walk->n_selectors, sizeof *walk->selectors);
    if (!walk->selectors)
        return KV_NO_MEMORY;
    for (size_t i = 0; i < options->n_selectors; i++) {
        struct walk_selector *s = &walk->selectors[i];
        kv_status rc = ts_parse_selector(options->selectors[i], &s->arena, &s->tree, err);
        if (rc < 0)
            return rc;
        s->matchers = s->tree.root->vector.matchers;
        s->n = s->tree.root->vector.n_matchers;
    }
    return KV_OK;
}

static int by_window(const void *a, const void *b)
{
    const struct walk_window *x = a, *y = b;
    return (x->cursor.window > y->cursor.window) - (x->cursor.window < y->cursor.window);
}

/* Those of the tables and those of the head, each once. */
static kv_status walk_find_windows(struct ts_export *walk)
{
    int32_t first = ts_window_of(walk->from_ms), last = ts_window_of(walk->to_ms);
    struct ts_window *stored = NULL;
    size_t n_stored = 0, n = 0, of_heads = 0;
    int32_t *numbers = NULL;
    kv_status rc;
    KV_TRY(ts_windows_copy(walk->db->windows, first, last, &stored, &n_stored));
    for (size_t g = 0; g < walk->pin.n; g++)
        of_heads += ts_activity_windows(ts_generation_activity(walk->pin.generations[g]), NULL, 0);
    size_t room = of_heads + 64; /* the active generation may meet new ones meanwhile */
    walk->windows = kv_zalloc(n_stored + walk->pin.n * room, sizeof *walk->windows);
    numbers = kv_alloc(room * sizeof *numbers);
    if (!walk->windows || !numbers)
        KV_TRY(KV_NO_MEMORY);
    for (size_t i = 0; i < n_stored; i++)
        walk->windows[n++] = (struct walk_window){.cursor = {.window = stored[i].window}, .stored = true};
    for (size_t g = 0; g < walk->pin.n; g++) {
        size_t have = ts_activity_windows(ts_generation_activity(walk->pin.generations[g]), numbers, room);
        for (size_t i = 0; i < have && i < room; i++)
            if (numbers[i] >= first && numbers[i] <= last)
                walk->windows[n++] = (struct walk_window){.cursor = {.window = numbers[i]}, .in_head = true};
    }
    if (n > 1)
        qsort(walk->windows, n, sizeof *walk->windows, by_window);
    for (size_t i = 0; i < n; i++) {
        struct walk_window *last_one = walk->n_windows ? &walk->windows[walk->n_windows - 1] : NULL;
        if (last_one && last_one->cursor.window == walk->windows[i].cursor.window) {
            last_one->stored |= walk->windows[i].stored;
            last_one->in_head |= walk->windows[i].in_head;
        } else {
            walk->windows[walk->n_windows++] = walk->windows[i];
        }
    }
out:
    kv_free(numbers);
    kv_free(stored);
    return rc;
}

static void walk_leave_selector(struct ts_export *walk)
{
    for (size_t i = 0; i < walk->n_windows; i++)
        ts_window_cursor_close(&walk->windows[i].cursor);
    for (size_t g = 0; g < TS_GENERATIONS_MAX; g++) {
        kv_free(walk->slots[g]);
        walk->slots[g] = NULL;
    }
    kv_free(walk->refs);
    walk->refs = NULL;
    (void)!ts_budget_bytes(&walk->budget, -(int64_t)walk->budget.bytes); /* giving back cannot fail */
    walk->n_refs = walk->next = walk->labels_from = walk->labels_n = walk->tombs_hint = 0;
}

static kv_status walk_enter_selector(struct ts_export *walk, struct kv_err *err)
{
    const struct ts_activity *heads[TS_GENERATIONS_MAX];
    const struct walk_selector *s = &walk->selectors[walk->selector];
    for (size_t i = 0; i < walk->pin.n; i++)
        heads[i] = ts_generation_activity(walk->pin.generations[i]);
    const struct ts_select select = {.matchers = s->matchers,
                                     .n_matchers = s->n,
                                     .from_ms = walk->from_ms,
                                     .to_ms = walk->to_ms,
                                     .snapshot = walk->snapshot,
                                     .heads = heads,
                                     .n_heads = walk->pin.n,
                                     .budget = &walk->budget};
    kv_status rc = ts_index_select(walk->db->registry, &select, &walk->refs, &walk->n_refs, err);
    if (rc == KV_OK)
        rc = ts_budget_bytes(&walk->budget, (int64_t)(walk->n_refs * (sizeof *walk->refs +
                                                                      walk->pin.n * sizeof *walk->slots[0])));
    if (rc == KV_LIMIT) {
        char text[160];
        ts_budget_limit_text(&walk->budget, text, sizeof text);
        return kv_fail(err, rc, 0, "%s", text);
    }
    for (size_t g = 0; rc == KV_OK && g < walk->pin.n && walk->n_refs; g++) {
        walk->slots[g] = kv_alloc(walk->n_refs * sizeof *walk->slots[g]);
        if (!walk->slots[g])
            return KV_NO_MEMORY;
        ts_generation_find(walk->pin.generations[g], walk->refs, walk->n_refs, walk->slots[g]);
    }
    return rc;
}

static kv_status walk_pin(struct ts_export *walk, struct kv_err *err)
{
    walk->clock_ms = ts_retention_clock_ms(walk->db);
    int64_t floor_ms = ts_rules_lowest_ms(walk->db->rules, walk->clock_ms);
    kv_status rc;
    walk->from_ms = walk->from_ms > floor_ms ? walk->from_ms : floor_ms;
    walk->by_rule = walk->from_ms < ts_rules_highest_ms(walk->db->rules, walk->clock_ms);
    KV_TRY(ts_moment_open(walk->db, &walk->pin, &walk->snapshot, err));
    if (walk->from_ms > walk->to_ms) {
        walk->selector = walk->n_selectors;
        return KV_OK;
    }
    KV_TRY(walk_find_windows(walk));
    KV_TRY(walk_enter_selector(walk, err));
out:
    return rc;
}

/* What a lower layer said, in err. */
static kv_status walk_failed(struct ts_query_err *err, kv_status rc, const struct kv_err *why)
{
    if (err->code == KV_OK) {
        err->type = rc == KV_CANCELED ? TS_QUERY_CANCELED
                    : rc == KV_LIMIT  ? TS_QUERY_EXECUTION
                                      : TS_QUERY_INTERNAL;
        err->code = rc;
        snprintf(err->text, sizeof err->text, "%s", why->text[0] ? why->text : kv_status_text(rc));
    }
    return rc;
}

kv_status ts_export_open(struct ts_db *db, const struct ts_walk_options *options, struct ts_export **out,
                         struct ts_query_err *err)
{
    struct ts_query_err own = {0};
    struct kv_err why = {0};
    kv_status rc;
    err = err ? err : &own;
    err->code = KV_OK;
    err->text[0] = 0;
    struct ts_export *walk = kv_zalloc(1, sizeof *walk);
    if (!walk)
        return walk_failed(err, KV_NO_MEMORY, &why);
    walk->db = db;
    walk->from_ms = options->from_ms;
    walk->to_ms = options->to_ms;
    walk->budget = (struct ts_budget){.samples_max = UINT64_MAX,
                                      .bytes_max = db->options.query_memory_max,
                                      .clock = db->clock,
                                      .deadline_mono_ns = UINT64_MAX,
                                      .canceled = options->canceled,
                                      .canceled_ctx = options->canceled_ctx};
    KV_TRY(ts_wait_ready(db, &why));
    KV_TRY(walk_parse(walk, options, err));
    KV_TRY(walk_pin(walk, &why));
    *out = walk;
    return KV_OK;
out:
    ts_export_close(walk);
    return walk_failed(err, rc, &why);
}

void ts_export_close(struct ts_export *walk)
{
    if (!walk)
        return;
    walk_leave_selector(walk);
    for (size_t i = 0; walk->selectors && i < walk->n_selectors; i++) {
        ts_tree_release(&walk->selectors[i].tree);
        kv_arena_release(&walk->selectors[i].arena);
    }
    kv_free(walk->selectors);
    kv_free(walk->windows);
    kv_arena_release(&walk->arena);
    ts_moment_close(&walk->pin, &walk->snapshot);
    ts_merge_set_release(&walk->set);
    ts_head_scratch_release(&walk->scratch);
    kv_free(walk);
}

/* ---- from series to series --------------------------------------------------------------------------- */

static const struct ts_labels *walk_labels(const struct ts_export *walk)
{
    return &walk->labels[walk->next - 1 - walk->labels_from];
}

static kv_status walk_read_labels(struct ts_export *walk, struct kv_err *err)
{
    size_t n = walk->n_refs - walk->next;
    walk->labels_from = walk->next;
    walk->labels_n = n < WALK_LABELS ? n : WALK_LABELS;
    kv_arena_release(&walk->arena);
    memset(walk->labels, 0, sizeof walk->labels);
    return ts_registry_labels_many(walk->db->registry, walk->snapshot, walk->refs + walk->next,
                                   walk->labels_n, &walk->arena, walk->labels, err);
}

/* Whether a selector before the one at hand had it already. */
static bool walk_was_there(const struct ts_export *walk, const struct ts_labels *labels)
{
    for (size_t i = 0; i < walk->selector; i++) {
        const struct walk_selector *s = &walk->selectors[i];
        size_t m = 0;
        while (m < s->n && ts_matcher_matches(&s->matchers[m],
                                              ts_labels_get(labels->labels, labels->n, s->matchers[m].name)))
            m++;
        if (m == s->n)
            return true;
    }
    return false;
}

static int64_t walk_series_from(const struct ts_export *walk, const struct ts_labels *labels)
{
    if (!walk->by_rule)
        return walk->from_ms;
    size_t class = ts_rules_class_of(walk->db->rules, labels->labels, labels->n);
    int64_t floor_ms = ts_rules_floor_ms(walk->db->rules, class, walk->clock_ms);
    return floor_ms > walk->from_ms ? floor_ms : walk->from_ms;
}

/* To the next series that is to be shown. KV_END: there is none. */
static kv_status walk_next_series(struct ts_export *walk, struct kv_err *err)
{
    kv_status rc;
    for (;;) {
        while (walk->next == walk->n_refs) {
            if (walk->selector + 1 >= walk->n_selectors)
                return KV_END;
            walk_leave_selector(walk);
            walk->selector++;
            if ((rc = walk_enter_selector(walk, err)) < 0)
                return rc;
        }
        if (walk->next == walk->labels_from + walk->labels_n && (rc = walk_read_labels(walk, err)) < 0)
            return rc;
        uint64_t ref = walk->refs[walk->next++];
        const struct ts_labels *labels = walk_labels(walk);
        if (!labels->labels)
            return kv_fail(err, KV_CORRUPT, 0, "series metric=%u series=%u has no labels", ts_ref_metric(ref),
                           ts_ref_series(ref));
        if ((rc = ts_budget_samples(&walk->budget, 1)) < 0)
            return rc;
        if (walk_was_there(walk, labels))
            continue;
        size_t first = 0;
        walk->series_from_ms = walk_series_from(walk, labels);
        walk->n_tombs = ts_tombstones_find(walk->pin.tombstones, ref, &walk->tombs_hint, &first);
        walk->tombs = walk->n_tombs ? walk->pin.tombstones->items + first : NULL;
        walk->window = 0;
        return KV_OK;
    }
}

void ts_export_progress(const struct ts_export *walk, uint64_t *done, uint64_t *series)
{
    *done = walk->next;
    *series = walk->n_refs;
}

/* ---- samples ----------------------------------------------------------------------------------------- */

static kv_status walk_chunks_of(struct ts_export *walk, struct ts_window_cursor *cursor, uint64_t ref,
                                struct kv_err *err)
{
    kv_status rc = ts_window_cursor_seek(cursor, walk->db->kv, walk->snapshot, ref);
    while (rc == KV_OK && cursor->key.ref == ref && cursor->key.first_ms <= walk->to_ms) {
        size_t decoded;
        rc = ts_merge_set_chunk(&walk->set, cursor->it->value, cursor->key.seq, walk->series_from_ms,
                                walk->to_ms, walk->tombs, walk->n_tombs, &decoded);
        if (rc < 0)
            return ts_window_cursor_damaged(cursor, rc, err);
        rc = ts_window_cursor_next(cursor);
    }
    return rc < 0 ? kv_fail(err, rc, 0, "reading chunks of window %d: %s", (int)cursor->window,
                            kv_status_text(rc))
                  : KV_OK;
}

static kv_status walk_head_of(struct ts_export *walk, int32_t window)
{
    int64_t from = ts_window_start_ms(window), to = from + TS_WINDOW_MS - 1;
    from = from > walk->series_from_ms ? from : walk->series_from_ms;
    to = to < walk->to_ms ? to : walk->to_ms;
    for (size_t g = 0; g < walk->pin.n; g++) {
        uint32_t slot = walk->slots[g][walk->next - 1];
        size_t start = walk->set.samples.n;
        if (slot == TS_SLOT_NONE)
            continue;
        kv_status rc =
            ts_generation_read(walk->pin.generations[g], slot, from, to, &walk->scratch, &walk->set.samples);
        if (rc == KV_OK)
            rc = ts_merge_set_piece(&walk->set, start, walk->pin.seqs[g], walk->tombs, walk->n_tombs);
        if (rc < 0)
            return rc;
    }
    return KV_OK;
}

/* The samples of the series at hand in one window, into the set. */
static kv_status walk_window(struct ts_export *walk, struct walk_window *w, struct kv_err *err)
{
    kv_status rc = KV_OK;
    ts_merge_set_clear(&walk->set);
    if (w->stored)
        rc = walk_chunks_of(walk, &w->cursor, walk->refs[walk->next - 1], err);
    if (rc == KV_OK && w->in_head)
        rc = walk_head_of(walk, w->cursor.window);
    if (rc == KV_OK)
        rc = ts_merge_set_resolve(&walk->set);
    return rc == KV_OK ? ts_budget_samples(&walk->budget, walk->set.samples.n) : rc;
}

kv_status ts_export_next(struct ts_export *walk, struct ts_series_points *out, struct kv_err *err)
{
    kv_status rc = KV_OK;
    struct kv_err own = {0};
    err = err ? err : &own;
    *err = (struct kv_err){0};
    if (walk->selector >= walk->n_selectors)
        return KV_END;
    while (rc == KV_OK) {
        if (walk->next == 0 || walk->window == walk->n_windows) {
            if ((rc = walk_next_series(walk, err)) != KV_OK)
                break;
            continue;
        }
        struct walk_window *w = &walk->windows[walk->window++];
        if (w->cursor.window < ts_window_of(walk->series_from_ms))
            continue;
        rc = walk_window(walk, w, err);
        if (rc == KV_OK && walk->set.samples.n > 0) {
            const struct ts_labels *labels = walk_labels(walk);
            *out = (struct ts_series_points){labels->labels, labels->n, walk->set.samples.times_ms,
                                             walk->set.samples.values, walk->set.samples.n};
            return KV_OK;
        }
    }
    if (rc < 0 && err->code == KV_OK)
        (void)kv_fail(err, rc, 0, "%s", kv_status_text(rc));
    return rc;
}

/* ---- chunks ------------------------------------------------------------------------------------------ */

static kv_status chunk_facts(const struct ts_window_cursor *cursor, struct ts_chunk_facts *out,
                             struct kv_err *err)
{
    const struct ts_chunk_key *key = &cursor->key;
    struct ts_chunk_info info;
    kv_status rc = ts_chunk_info(cursor->it->value, &info);
    if (rc < 0)
        return ts_window_cursor_damaged(cursor, rc, err);
    out->metric = ts_ref_metric(key->ref);
    out->series = ts_ref_series(key->ref);
    out->window_ms = ts_window_start_ms(key->window);
    out->first_ms = info.first_ms;
    out->last_ms = info.last_ms;
    out->seq = key->seq;
    out->samples = info.count;
    out->bytes = cursor->it->value.len;
    out->time_codec = ts_time_codec_name(info.time_codec);
    out->value_codec = ts_value_codec_name(info.value_codec);
    out->small = info.effort == TS_CHUNK_SMALL;
    return KV_OK;
}

/* Those of the series at hand that may hold a sample of the range. */
static kv_status chunks_of_series(struct ts_export *walk,
                                  kv_status (*each)(void *ctx, const struct ts_chunk_facts *facts), void *ctx,
                                  struct kv_err *err)
{
    uint64_t ref = walk->refs[walk->next - 1];
    const struct ts_labels *labels = walk_labels(walk);
    for (size_t i = 0; i < walk->n_windows; i++) {
        struct ts_window_cursor *cursor = &walk->windows[i].cursor;
        kv_status rc = walk->windows[i].stored
                           ? ts_window_cursor_seek(cursor, walk->db->kv, walk->snapshot, ref)
                           : KV_END;
        while (rc == KV_OK && cursor->key.ref == ref) {
            struct ts_chunk_facts facts = {.labels = labels->labels, .n_labels = labels->n};
            rc = chunk_facts(cursor, &facts, err);
            if (rc == KV_OK && facts.first_ms <= walk->to_ms && facts.last_ms >= walk->series_from_ms)
                rc = each(ctx, &facts);
            if (rc >= 0)
                rc = ts_window_cursor_next(cursor);
        }
        if (rc < 0)
            return rc;
    }
    return KV_OK;
}

kv_status ts_chunks(struct ts_db *db, const struct ts_walk_options *options,
                    kv_status (*each)(void *ctx, const struct ts_chunk_facts *facts), void *ctx,
                    struct ts_query_err *err)
{
    struct ts_export *walk = NULL;
    struct ts_query_err own = {0};
    struct kv_err why = {0};
    err = err ? err : &own;
    kv_status rc = ts_export_open(db, options, &walk, err);
    if (rc < 0)
        return rc;
    KV_ASSERT(walk);
    while (walk->selector < walk->n_selectors && (rc = walk_next_series(walk, &why)) == KV_OK &&
           (rc = chunks_of_series(walk, each, ctx, &why)) == KV_OK)
        ;
    ts_export_close(walk);
    return rc < 0 ? walk_failed(err, rc, &why) : KV_OK;
}
