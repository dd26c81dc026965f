#include "tsdb/query/scan.h"
#include "kvcore/base/mem.h"
#include "tsdb/chunk/chunk.h"
#include "tsdb/db.h"
#include "tsdb/index.h"
#include "tsdb/merge_set.h"
#include "tsdb/moment.h"
#include "tsdb/query/prove.h"
#include "tsdb/query/window_cursor.h"

enum { LABELS_STEP = 256 }; /* series whose labels are read at once, when few of them are kept */

struct ts_scan {
    struct ts_db *db;
    struct ts_budget *budget;
    int64_t from_ms, to_ms; /* of the rule that keeps longest */
    int64_t clock_ms;
    bool by_rule; /* some rule hides what lies in the range */
    bool labels_only;
    struct ts_head_pin pin;
    const struct kv_snapshot *snapshot; /* own, but for ts_scan_absent */
    struct kv_snapshot *own;
    const uint64_t *refs; /* likewise */
    uint64_t *own_refs;
    size_t n_refs, next;
    struct kv_arena arena; /* labels */
    struct ts_labels *labels;
    uint8_t *classes; /* of retention rules, by ref: when not all labels are kept */
    /* Labels are read as their series turn out to have samples: most that are active on a day have none in an hour of it. Not where
     * labels decide what there is, nor where they are all that is asked for. */
    bool lazy;
    size_t
        named; /* where only names are kept: one past the ref whose labels all of its metric have. 0: none yet */
    const struct ts_label_choice *choice;
    const struct ts_labels *kept; /* chosen last */
    struct ts_labels_reader reader;
    struct kv_arena passing; /* labels of which some are kept */
    uint32_t passed;
    uint32_t *slots[TS_GENERATIONS_MAX]; /* of refs, by generation */
    struct ts_window_cursor *windows;
    size_t n_windows;
    size_t tombs_hint;
    struct ts_merge_set set;
    struct ts_head_scratch scratch;
    struct ts_condense condense;
    struct ts_scan_gap *gaps; /* of the series */
    size_t n_gaps, gaps_room;
    bool overlapped;          /* pieces of the series */
    uint64_t samples_counted; /* of the series, in the budget */
    uint64_t bytes_counted;   /* in the budget, given back at close */
};

/* ---- open, close ------------------------------------------------------------------------------------- */

static kv_status scan_count_bytes(struct ts_scan *scan)
{
    uint64_t bytes = scan->arena.used + scan->n_refs * (sizeof *scan->refs + sizeof *scan->labels) +
                     (scan->classes ? scan->n_refs : 0) + scan->pin.n * scan->n_refs * sizeof(uint32_t) +
                     scan->gaps_room * sizeof *scan->gaps + scan->set.memo.bytes +
                     (scan->set.samples.capacity + scan->set.merged.capacity + scan->set.next.capacity +
                      scan->set.source.capacity) *
                         (sizeof(int64_t) + sizeof(double));
    kv_status rc = KV_OK;
    if (bytes > scan->bytes_counted) {
        rc = ts_budget_bytes(scan->budget, (int64_t)(bytes - scan->bytes_counted));
        scan->bytes_counted = bytes;
    }
    return rc;
}

static kv_status scan_select(struct ts_scan *scan, const struct ts_scan_options *options, struct kv_err *err)
{
    const struct ts_activity *heads[TS_GENERATIONS_MAX];
    for (size_t i = 0; i < scan->pin.n; i++)
        heads[i] = ts_generation_activity(scan->pin.generations[i]);
    struct ts_prove prove = {scan->db, &scan->pin, scan->clock_ms, err};
    const struct ts_select select = {.matchers = options->matchers,
                                     .n_matchers = options->n_matchers,
                                     .from_ms = scan->from_ms,
                                     .to_ms = scan->to_ms,
                                     .snapshot = scan->snapshot,
                                     .heads = heads,
                                     .n_heads = scan->pin.n,
                                     .budget = scan->budget,
                                     .refine = options->labels_only ? ts_prove : NULL,
                                     .refine_ctx = &prove};
    kv_status rc = ts_index_select(scan->db->registry, &select, &scan->own_refs, &scan->n_refs, err);
    scan->refs = scan->own_refs;
    return rc;
}

static bool choice_has(const struct ts_label_choice *choice, kv_slice name)
{
    for (size_t i = 0; i < choice->n; i++)
        if (kv_slice_equal(choice->names[i], name))
            return true;
    return kv_slice_equal(name, TS_METRIC_NAME);
}

/* Copies the chosen labels of `all` into the arena; those of the series before, where they are the same. */
static kv_status keep_chosen(struct ts_scan *scan, const struct ts_label_choice *choice,
                             const struct ts_labels *all, size_t i)
{
    struct ts_labels *kept = &scan->labels[i];
    size_t n = 0;
    for (size_t k = 0; k < all->n; k++)
        if (choice_has(choice, all->labels[k].name))
            all->labels[n++] = all->labels[k];
    if (scan->kept && ts_labels_compare(all->labels, n, scan->kept->labels, scan->kept->n) == 0) {
        *kept = *scan->kept;
        return KV_OK;
    }
    kept->labels = kv_arena_alloc(&scan->arena, (n + 1) * sizeof *kept->labels);
    for (kept->n = 0; kept->labels && kept->n < n; kept->n++) {
        struct ts_label *label = &kept->labels[kept->n];
        label->name = kv_arena_copy(&scan->arena, all->labels[kept->n].name);
        label->value = kv_arena_copy(&scan->arena, all->labels[kept->n].value);
        if (!label->name.data || !label->value.data)
            return KV_NO_MEMORY;
    }
    scan->kept = kept;
    return kept->labels ? KV_OK : KV_NO_MEMORY;
}

/* The chosen ones of every series: all are read, some hundred series at a time, for the rules. */
static kv_status scan_chosen_labels(struct ts_scan *scan, const struct ts_label_choice *choice,
                                    struct kv_err *err)
{
    struct kv_arena arena = {0};
    struct ts_labels *all = kv_alloc(LABELS_STEP * sizeof *all);
    kv_status rc = all ? KV_OK : KV_NO_MEMORY;
    if (scan->by_rule && rc == KV_OK && !(scan->classes = kv_alloc(scan->n_refs)))
        rc = KV_NO_MEMORY;
    for (size_t at = 0, n; rc == KV_OK && at < scan->n_refs; at += n) {
        n = scan->n_refs - at < LABELS_STEP ? scan->n_refs - at : LABELS_STEP;
        rc =
            ts_registry_labels_many(scan->db->registry, scan->snapshot, scan->refs + at, n, &arena, all, err);
        for (size_t i = 0; rc == KV_OK && i < n; i++) {
            if (!all[i].labels)
                continue;
            if (scan->classes)
                scan->classes[at + i] = (uint8_t)ts_rules_class_of(scan->db->rules, all[i].labels, all[i].n);
            rc = keep_chosen(scan, choice, &all[i], at + i);
        }
        kv_arena_release(&arena);
        if (rc == KV_OK)
            rc = ts_budget_check(scan->budget);
    }
    kv_free(all);
    return rc;
}

/* So close to its bound it was the bound, not the heap: then the query's limit says so. */
static kv_status scan_labels_memory(const struct ts_scan *scan, kv_status rc)
{
    bool bounded = scan->arena.max - scan->arena.used < (size_t)1 << 20;
    return rc == KV_NO_MEMORY && bounded ? ts_budget_bytes(scan->budget, INT64_MAX) : rc;
}

static kv_status scan_labels(struct ts_scan *scan, const struct ts_label_choice *choice, struct kv_err *err)
{
    scan->labels = kv_zalloc(scan->n_refs, sizeof *scan->labels);
    if (!scan->labels)
        return KV_NO_MEMORY;
    scan->choice = choice;
    scan->lazy = !scan->by_rule && !scan->labels_only && scan->n_refs > 0;
    if (scan->lazy)
        return ts_labels_reader_open(scan->db->registry, scan->snapshot, scan->refs[0],
                                     scan->refs[scan->n_refs - 1], &scan->reader);
    kv_status rc = choice ? scan_chosen_labels(scan, choice, err)
                          : ts_registry_labels_many(scan->db->registry, scan->snapshot, scan->refs,
                                                    scan->n_refs, &scan->arena, scan->labels, err);
    return scan_labels_memory(scan, rc);
}

/* Nothing but names, which all series of a metric share. */
static bool choice_is_name(const struct ts_label_choice *choice)
{
    for (size_t i = 0; choice && i < choice->n; i++)
        if (!kv_slice_equal(choice->names[i], TS_METRIC_NAME))
            return false;
    return choice != NULL;
}

/* Those of refs[i], where they are read one by one. */
static kv_status scan_labels_of(struct ts_scan *scan, size_t i, struct kv_err *err)
{
    struct ts_labels *own = &scan->labels[i], all;
    kv_status rc;
    if (scan->named && ts_ref_metric(scan->refs[i]) == ts_ref_metric(scan->refs[scan->named - 1])) {
        *own = scan->labels[scan->named - 1];
        return KV_OK;
    }
    if (choice_is_name(scan->choice))
        scan->named = i + 1;
    if (!scan->choice)
        return scan_labels_memory(
            scan, ts_labels_reader_read(&scan->reader, scan->refs[i], &scan->arena, own, err));
    if (++scan->passed % LABELS_STEP == 0)
        kv_arena_release(&scan->passing);
    rc = ts_labels_reader_read(&scan->reader, scan->refs[i], &scan->passing, &all, err);
    return rc == KV_OK && all.labels ? scan_labels_memory(scan, keep_chosen(scan, scan->choice, &all, i))
                                     : rc;
}

static kv_status scan_slots(struct ts_scan *scan)
{
    for (size_t g = 0; g < scan->pin.n; g++) {
        scan->slots[g] = kv_alloc(scan->n_refs * sizeof *scan->slots[g]);
        if (!scan->slots[g])
            return KV_NO_MEMORY;
        ts_generation_find(scan->pin.generations[g], scan->refs, scan->n_refs, scan->slots[g]);
    }
    return KV_OK;
}

static kv_status scan_windows(struct ts_scan *scan)
{
    struct ts_window *windows = NULL;
    kv_status rc = ts_windows_copy(scan->db->windows, ts_window_of(scan->from_ms), ts_window_of(scan->to_ms),
                                   &windows, &scan->n_windows);
    if (rc == KV_OK && scan->n_windows > 0) {
        scan->windows = kv_zalloc(scan->n_windows, sizeof *scan->windows);
        if (!scan->windows)
            rc = KV_NO_MEMORY;
        for (size_t i = 0; rc == KV_OK && i < scan->n_windows; i++)
            scan->windows[i].window = windows[i].window;
    }
    kv_free(windows);
    return rc;
}

kv_status ts_scan_open(struct ts_db *db, const struct ts_scan_options *options, struct ts_budget *budget,
                       struct ts_scan **out, struct kv_err *err)
{
    if (err)
        *err = (struct kv_err){0};
    kv_status rc = ts_wait_ready(db, err);
    if (rc < 0)
        return rc;
    struct ts_scan *scan = kv_zalloc(1, sizeof *scan);
    if (!scan)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory to scan");
    scan->db = db;
    scan->budget = budget;
    scan->labels_only = options->labels_only;
    scan->condense = options->condense;
    kv_arena_init(&scan->arena, budget->bytes_max > budget->bytes ? budget->bytes_max - budget->bytes : 1);
    scan->clock_ms = ts_retention_clock_ms(db);
    int64_t floor_ms = ts_rules_lowest_ms(db->rules, scan->clock_ms);
    scan->from_ms = options->from_ms > floor_ms ? options->from_ms : floor_ms;
    scan->to_ms = options->to_ms;
    scan->by_rule = scan->from_ms < ts_rules_highest_ms(db->rules, scan->clock_ms);
    if (scan->from_ms <= scan->to_ms) {
        KV_TRY(ts_moment_open(db, &scan->pin, &scan->own, err));
        scan->snapshot = scan->own;
        KV_TRY(scan_select(scan, options, err));
        KV_TRY(scan_labels(scan, options->labels, err));
        if (!scan->labels_only) {
            KV_TRY(scan_slots(scan));
            KV_TRY(scan_windows(scan));
        }
        KV_TRY(scan_count_bytes(scan));
    }
    *out = scan;
    return KV_OK;
out:
    ts_scan_close(scan);
    if (err && err->code == KV_OK)
        (void)kv_fail(err, rc, 0, "finding series: %s", kv_status_text(rc));
    return rc;
}

/* What reading made, and gives its bytes back to the budget. */
static void scan_release(struct ts_scan *scan)
{
    for (size_t i = 0; i < scan->n_windows && scan->windows; i++)
        ts_window_cursor_close(&scan->windows[i]);
    for (size_t g = 0; g < TS_GENERATIONS_MAX; g++)
        kv_free(scan->slots[g]);
    kv_free(scan->windows);
    kv_free(scan->gaps);
    ts_merge_set_release(&scan->set);
    ts_head_scratch_release(&scan->scratch);
    kv_status rc = ts_budget_bytes(scan->budget, -(int64_t)scan->bytes_counted);
    (void)rc; /* giving back: a limit hit before stays hit */
}

void ts_scan_close(struct ts_scan *scan)
{
    if (!scan)
        return;
    scan_release(scan);
    kv_free(scan->labels);
    kv_free(scan->classes);
    kv_free(scan->own_refs);
    ts_labels_reader_close(&scan->reader);
    kv_arena_release(&scan->passing);
    kv_arena_release(&scan->arena);
    ts_moment_close(&scan->pin, &scan->own);
    kv_free(scan);
}

size_t ts_scan_count(const struct ts_scan *scan)
{
    return scan->n_refs;
}

/* ---- chunks ------------------------------------------------------------------------------------------ */

/* The chunk that the cursor is at as few samples. KV_OK, KV_END (it has to be decoded) or negative. */
static kv_status scan_condense(struct ts_scan *scan, const struct ts_window_cursor *w, int64_t from_ms)
{
    struct ts_condensed made;
    kv_status rc = w->key.first_ms < from_ms ? KV_END : ts_condense(&scan->condense, w->it->value, &made);
    if (rc != KV_OK)
        return rc;
    if (made.n == 0)
        return ts_budget_step(scan->budget);
    int64_t last_ms = made.times_ms[made.n - 1];
    struct ts_columns *samples = &scan->set.samples;
    if (last_ms > scan->to_ms)
        return KV_END;
    struct ts_scan_gap *gaps = kv_grow(scan->gaps, &scan->gaps_room, scan->n_gaps + 1, sizeof *gaps);
    if (!gaps)
        return KV_NO_MEMORY;
    scan->gaps = gaps;
    scan->gaps[scan->n_gaps++] = (struct ts_scan_gap){last_ms, made.missing};
    KV_TRY(ts_columns_reserve(samples, made.n));
    memcpy(samples->times_ms + samples->n, made.times_ms, made.n * sizeof *made.times_ms);
    memcpy(samples->values + samples->n, made.values, made.n * sizeof *made.values);
    samples->n += made.n;
    KV_TRY(ts_merge_set_piece(&scan->set, samples->n - made.n, w->key.seq, NULL, 0));
    rc = ts_budget_samples(scan->budget, made.n);
out:
    return rc;
}

static kv_status scan_resolve(struct ts_scan *scan)
{
    scan->overlapped |= scan->set.overlap;
    return ts_merge_set_resolve(&scan->set);
}

static kv_status scan_chunk(struct ts_scan *scan, const struct ts_window_cursor *w, int64_t from_ms,
                            const struct ts_tombstone *tombs, size_t n_tombs, struct kv_err *err)
{
    size_t decoded;
    kv_status rc = ts_merge_set_chunk(&scan->set, w->it->value, w->key.seq, from_ms, scan->to_ms, tombs,
                                      n_tombs, &decoded);
    if (rc < 0)
        return ts_window_cursor_damaged(w, rc, err);
    return ts_budget_samples(scan->budget, decoded);
}

static kv_status scan_window_series(struct ts_scan *scan, struct ts_window_cursor *w, uint64_t ref,
                                    int64_t from_ms, bool condense, const struct ts_tombstone *tombs,
                                    size_t n_tombs, struct kv_err *err)
{
    kv_status rc = ts_window_cursor_seek(w, scan->db->kv, scan->snapshot, ref);
    while (rc == KV_OK && w->key.ref == ref && w->key.first_ms <= scan->to_ms) {
        rc = condense ? scan_condense(scan, w, from_ms) : KV_END;
        if (rc == KV_END)
            rc = scan_chunk(scan, w, from_ms, tombs, n_tombs, err);
        if (rc == KV_CORRUPT || rc == KV_TOO_NEW)
            return ts_window_cursor_damaged(w, rc, err);
        if (rc < 0)
            return rc;
        rc = ts_window_cursor_next(w);
    }
    if (rc < 0)
        return kv_fail(err, rc, 0, "reading chunks of window %d: %s", (int)w->window, kv_status_text(rc));
    return scan_resolve(scan);
}

static kv_status scan_head_series(struct ts_scan *scan, size_t i, int64_t from_ms,
                                  const struct ts_tombstone *tombs, size_t n_tombs)
{
    for (size_t g = 0; g < scan->pin.n; g++) {
        if (scan->slots[g][i] == TS_SLOT_NONE)
            continue;
        size_t start = scan->set.samples.n;
        kv_status rc = ts_generation_read(scan->pin.generations[g], scan->slots[g][i], from_ms, scan->to_ms,
                                          &scan->scratch, &scan->set.samples);
        if (rc == KV_OK)
            rc = ts_budget_samples(scan->budget, scan->set.samples.n - start);
        if (rc == KV_OK)
            rc = ts_merge_set_piece(&scan->set, start, scan->pin.seqs[g], tombs, n_tombs);
        if (rc < 0)
            return rc;
    }
    return scan_resolve(scan);
}

/* Where the series' samples begin: its rule may keep less than the longest. */
static int64_t scan_series_from(const struct ts_scan *scan, size_t i)
{
    if (!scan->by_rule)
        return scan->from_ms;
    size_t class = scan->classes
                       ? scan->classes[i]
                       : ts_rules_class_of(scan->db->rules, scan->labels[i].labels, scan->labels[i].n);
    int64_t floor_ms = ts_rules_floor_ms(scan->db->rules, class, scan->clock_ms);
    return floor_ms > scan->from_ms ? floor_ms : scan->from_ms;
}

/* The samples of refs[i] from from_ms on, into the set; any: as soon as there are some that is enough. */
static kv_status scan_pieces(struct ts_scan *scan, size_t i, int64_t from_ms, bool condense, bool any,
                             struct kv_err *err)
{
    uint64_t ref = scan->refs[i];
    size_t first = 0, n_tombs = ts_tombstones_find(scan->pin.tombstones, ref, &scan->tombs_hint, &first);
    const struct ts_tombstone *tombs = n_tombs ? scan->pin.tombstones->items + first : NULL;
    uint64_t counted = scan->budget->samples;
    kv_status rc = KV_OK;
    ts_merge_set_clear(&scan->set);
    scan->n_gaps = 0;
    scan->overlapped = false;
    condense = condense && n_tombs == 0;
    for (size_t w = 0; w < scan->n_windows && rc == KV_OK && !(any && scan->set.samples.n > 0); w++)
        if (scan->windows[w].window >= ts_window_of(from_ms))
            rc = scan_window_series(scan, &scan->windows[w], ref, from_ms, condense, tombs, n_tombs, err);
    if (rc == KV_OK && !(any && scan->set.samples.n > 0))
        rc = scan_head_series(scan, i, from_ms, tombs, n_tombs);
    scan->samples_counted = scan->budget->samples - counted;
    return rc;
}

/* refs[i] once more, every sample; counted are those alone. */
static kv_status scan_plainly(struct ts_scan *scan, size_t i, int64_t from_ms, struct kv_err *err)
{
    ts_budget_uncount(scan->budget, scan->samples_counted);
    for (size_t w = 0; w < scan->n_windows; w++)
        ts_window_cursor_rewind(&scan->windows[w]);
    return scan_pieces(scan, i, from_ms, false, false, err);
}

static kv_status scan_series(struct ts_scan *scan, size_t i, int64_t from_ms, struct kv_err *err)
{
    kv_status rc = scan_pieces(scan, i, from_ms, true, false, err);
    return rc == KV_OK && scan->overlapped && scan->n_gaps > 0 ? scan_plainly(scan, i, from_ms, err) : rc;
}

kv_status ts_scan_absent(struct ts_db *db, const struct ts_head_pin *pin, const struct ts_select *select,
                         const uint64_t *refs, size_t n, int64_t from_ms, struct ts_refset *absent,
                         struct kv_err *err)
{
    struct ts_scan scan = {.db = db,
                           .budget = select->budget,
                           .from_ms = from_ms,
                           .to_ms = select->to_ms,
                           .pin = *pin, /* the caller's */
                           .snapshot = select->snapshot,
                           .refs = refs,
                           .n_refs = n};
    kv_status rc;
    KV_TRY(scan_slots(&scan));
    KV_TRY(scan_windows(&scan));
    for (size_t i = 0; i < n; i++) {
        KV_TRY(scan_pieces(&scan, i, from_ms, false, true, err));
        if (scan.set.samples.n == 0)
            KV_TRY(ts_refset_add(absent, refs[i], NULL));
        KV_TRY(scan_count_bytes(&scan));
        KV_TRY(ts_budget_samples(scan.budget, 1)); /* asks the clock now and then */
    }
out:
    scan_release(&scan);
    return rc;
}

/* What reading left in the set. */
static kv_status scan_lend(struct ts_scan *scan, struct ts_scan_series *out)
{
    out->times_ms = scan->set.samples.times_ms;
    out->values = scan->set.samples.values;
    out->n = scan->set.samples.n;
    out->gaps = scan->gaps;
    out->n_gaps = scan->n_gaps;
    return scan_count_bytes(scan);
}

/* Lends what the labels of refs[i] are. */
static kv_status lend_labels(const struct ts_scan *scan, size_t i, struct ts_scan_series *out,
                             struct kv_err *err)
{
    uint64_t ref = scan->refs[i];
    if (!scan->labels[i].labels)
        return kv_fail(err, KV_CORRUPT, 0, "series metric=%u series=%u has no labels", ts_ref_metric(ref),
                       ts_ref_series(ref));
    *out =
        (struct ts_scan_series){.labels = scan->labels[i].labels, .n_labels = scan->labels[i].n, .ref = ref};
    return KV_OK;
}

/* As ts_scan_next. */
static kv_status scan_next(struct ts_scan *scan, struct ts_scan_series *out, struct kv_err *err)
{
    kv_status rc;
    for (;;) {
        if (scan->next == scan->n_refs)
            return KV_END;
        size_t i = scan->next++;
        if (!scan->lazy)
            KV_TRY(lend_labels(scan, i, out, err));
        if (scan->labels_only)
            return ts_budget_step(scan->budget);
        KV_TRY(scan_series(scan, i, scan_series_from(scan, i), err));
        KV_TRY(ts_budget_step(scan->budget)); /* it may have no sample */
        if (scan->lazy && scan->set.samples.n == 0)
            continue;
        if (scan->lazy) {
            KV_TRY(scan_labels_of(scan, i, err));
            KV_TRY(lend_labels(scan, i, out, err));
        }
        return scan_lend(scan, out);
    }
out:
    return rc;
}

kv_status ts_scan_next(struct ts_scan *scan, struct ts_scan_series *out, struct kv_err *err)
{
    if (err)
        *err = (struct kv_err){0};
    kv_status rc = scan_next(scan, out, err);
    if (rc < 0 && err && err->code == KV_OK)
        (void)kv_fail(err, rc, 0, "%s", kv_status_text(rc));
    return rc;
}

kv_status ts_scan_again(struct ts_scan *scan, struct ts_scan_series *out, struct kv_err *err)
{
    size_t i = scan->next - 1;
    if (err)
        *err = (struct kv_err){0};
    kv_status rc = scan_plainly(scan, i, scan_series_from(scan, i), err);
    if (rc == KV_OK)
        rc = scan_lend(scan, out);
    if (rc < 0 && err && err->code == KV_OK)
        (void)kv_fail(err, rc, 0, "%s", kv_status_text(rc));
    return rc;
}
