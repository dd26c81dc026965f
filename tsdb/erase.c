#include "tsdb/erase.h"
#include "kvcore/base/mem.h"
#include "tsdb/db.h"
#include "tsdb/index.h"
#include "tsdb/moment.h"
#include "tsdb/promql/parse.h"

#include <stdlib.h>

/* ---- the list ---------------------------------------------------------------------------------------- */

static int tombstone_compare(const void *a, const void *b)
{
    const struct ts_tombstone *x = a, *y = b;
    if (x->ref != y->ref)
        return x->ref < y->ref ? -1 : 1;
    if (x->window != y->window)
        return x->window < y->window ? -1 : 1;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

static struct ts_tombstones *tombstones_new(size_t n)
{
    struct ts_tombstones *t = kv_alloc(sizeof *t + n * sizeof t->items[0]);
    if (t) {
        t->refs = 1;
        t->n = n;
    }
    return t;
}

/* What `old` (NULL: nothing) has and n more, in any order, by ref, window, seq. */
static kv_status tombstones_add(const struct ts_tombstones *old, const struct ts_tombstone *more, size_t n,
                                struct ts_tombstones **out)
{
    size_t n_old = old ? old->n : 0;
    if (n > TS_TOMBSTONES_MAX || n_old + n > TS_TOMBSTONES_MAX)
        return KV_LIMIT;
    struct ts_tombstone *sorted = kv_alloc(n * sizeof *sorted);
    struct ts_tombstones *t = tombstones_new(n_old + n);
    if (!sorted || !t) {
        kv_free(sorted);
        kv_free(t);
        return KV_NO_MEMORY;
    }
    if (n > 0) {
        memcpy(sorted, more, n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, tombstone_compare);
    }
    for (size_t i = 0, j = 0, k = 0; k < t->n; k++)
        t->items[k] = j == n || (i < n_old && tombstone_compare(&old->items[i], &sorted[j]) <= 0)
                          ? old->items[i++]
                          : sorted[j++];
    kv_free(sorted);
    *out = t;
    return KV_OK;
}

/* What `old` has without those of `window` with a sequence below seq; *out NULL when none is left. */
static kv_status tombstones_without(const struct ts_tombstones *old, int32_t window, uint64_t seq,
                                    struct ts_tombstones **out)
{
    *out = NULL;
    if (!old)
        return KV_OK;
    struct ts_tombstones *t = tombstones_new(old->n);
    if (!t)
        return KV_NO_MEMORY;
    t->n = 0;
    for (size_t i = 0; i < old->n; i++)
        if (old->items[i].window != window || old->items[i].seq >= seq)
            t->items[t->n++] = old->items[i];
    if (t->n > 0)
        *out = t;
    else
        kv_free(t);
    return KV_OK;
}

struct ts_tombstones *ts_tombstones_ref(struct ts_tombstones *tombstones)
{
    if (tombstones)
        __atomic_fetch_add(&tombstones->refs, 1, __ATOMIC_RELAXED);
    return tombstones;
}

void ts_tombstones_unref(struct ts_tombstones *tombstones)
{
    if (tombstones && __atomic_fetch_sub(&tombstones->refs, 1, __ATOMIC_ACQ_REL) == 1)
        kv_free(tombstones);
}

size_t ts_tombstones_find(const struct ts_tombstones *tombstones, uint64_t ref, size_t *hint, size_t *first)
{
    if (!tombstones)
        return 0;
    size_t low = *hint, high = tombstones->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (tombstones->items[mid].ref < ref)
            low = mid + 1;
        else
            high = mid;
    }
    *first = *hint = low;
    while (low < tombstones->n && tombstones->items[low].ref == ref)
        low++;
    return low - *first;
}

/* ---- stored ------------------------------------------------------------------------------------------ */

struct erase_list {
    struct ts_tombstone *items;
    size_t n, capacity;
};

static kv_status list_add(struct erase_list *list, const struct ts_tombstone *t)
{
    if (list->n == TS_TOMBSTONES_MAX)
        return KV_LIMIT;
    struct ts_tombstone *items = kv_grow(list->items, &list->capacity, list->n + 1, sizeof *items);
    if (!items)
        return KV_NO_MEMORY;
    list->items = items;
    list->items[list->n++] = *t;
    return KV_OK;
}

static kv_status erase_set(void *ctx, const struct ts_tombstones *now, struct ts_tombstones **next)
{
    const struct erase_list *list = ctx;
    return tombstones_add(now, list->items, list->n, next);
}

kv_status ts_erase_load(struct ts_db *db, struct kv_err *err)
{
    struct kv_iter *it = NULL;
    struct erase_list list = {0};
    struct ts_key lower, upper;
    ts_key_kind(&lower, 't');
    upper = lower;
    (void)ts_key_successor(&upper);
    kv_status rc =
        kv_iter_open(db->kv, NULL, TS_SPACE_SERIES, ts_key_slice(&lower), ts_key_slice(&upper), &it);
    if (rc == KV_OK) {
        for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it)) {
            struct ts_tombstone t;
            if ((rc = ts_tombstone_read(it->key, it->value, &t)) < 0 || (rc = list_add(&list, &t)) < 0)
                break;
        }
    }
    kv_iter_close(it);
    if (rc >= 0 && list.n > 0)
        rc = ts_head_edit_tombstones(db->head, erase_set, &list);
    kv_free(list.items);
    return rc < 0 ? kv_fail(err, rc, 0, "cannot read the tombstones") : KV_OK;
}

kv_status ts_erase_stage_drop(struct ts_db *db, int32_t window, uint64_t floor_seq, struct kv_batch *batch)
{
    struct kv_iter *it = NULL;
    struct ts_key lower, upper;
    ts_key_tombstone_window(&lower, window);
    upper = lower;
    (void)ts_key_successor(&upper); /* the kind's letter is not FF */
    kv_status rc =
        kv_iter_open(db->kv, NULL, TS_SPACE_SERIES, ts_key_slice(&lower), ts_key_slice(&upper), &it);
    if (rc == KV_OK)
        rc = kv_iter_seek(it, ts_key_slice(&lower));
    while (rc == KV_OK) {
        struct ts_tombstone t;
        if ((rc = ts_tombstone_read(it->key, it->value, &t)) < 0)
            break;
        if (t.seq < floor_seq && (rc = kv_batch_delete(batch, TS_SPACE_SERIES, it->key)) < 0)
            break;
        rc = kv_iter_next(it);
    }
    kv_iter_close(it);
    return rc == KV_END ? KV_OK : rc;
}

struct erase_drop {
    int32_t window;
    uint64_t floor_seq;
};

static kv_status erase_without(void *ctx, const struct ts_tombstones *now, struct ts_tombstones **next)
{
    const struct erase_drop *drop = ctx;
    return tombstones_without(now, drop->window, drop->floor_seq, next);
}

kv_status ts_erase_drop(struct ts_db *db, int32_t window, uint64_t floor_seq)
{
    struct erase_drop drop = {window, floor_seq};
    return ts_head_edit_tombstones(db->head, erase_without, &drop);
}

/* ---- deleting ---------------------------------------------------------------------------------------- */

struct ts_erase_commit {
    struct ts_db *db;
    struct erase_list fresh;    /* by ref and window; their seq is known under the commit lock only */
    struct ts_tombstones *next; /* all of them, handed to the head by the apply function */
    struct kv_buf record;
};

/* Windows that may hold samples in [from, to]: of tables and of the pinned generations, as a set of numbers
 * in byte order. */
static kv_status erase_windows(struct ts_db *db, const struct ts_head_pin *pin, int64_t from_ms,
                               int64_t to_ms, struct ts_refset *out)
{
    int32_t from = ts_window_of(from_ms), to = ts_window_of(to_ms);
    struct ts_window *windows = NULL;
    size_t n;
    kv_status rc = ts_windows_copy(db->windows, from, to, &windows, &n);
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        rc = ts_refset_add(out, (uint32_t)windows[i].window ^ UINT32_C(0x80000000), NULL);
    kv_free(windows);
    for (size_t i = 0; i < pin->n && rc == KV_OK; i++) {
        const struct ts_activity *activity = ts_generation_activity(pin->generations[i]);
        size_t max = ts_activity_windows(activity, NULL, 0) + 16;
        int32_t *numbers = kv_alloc(max * sizeof *numbers);
        if (!numbers)
            return KV_NO_MEMORY;
        size_t have = ts_activity_windows(activity, numbers, max);
        for (size_t j = 0; j < have && j < max && rc == KV_OK; j++)
            if (numbers[j] >= from && numbers[j] <= to)
                rc = ts_refset_add(out, (uint32_t)numbers[j] ^ UINT32_C(0x80000000), NULL);
        kv_free(numbers);
    }
    return rc;
}

static kv_status erase_window(struct ts_db *db, const struct ts_select *select, int32_t window,
                              int64_t from_ms, int64_t to_ms, struct ts_erase_commit *commit,
                              struct ts_refset *refs, struct kv_err *err)
{
    struct ts_select one = *select;
    struct ts_tombstone t = {.window = window, .seq = UINT64_MAX};
    int64_t start = ts_window_start_ms(window);
    t.from_ms = one.from_ms = from_ms > start ? from_ms : start;
    t.to_ms = one.to_ms = to_ms < start + TS_WINDOW_MS - 1 ? to_ms : start + TS_WINDOW_MS - 1;
    uint64_t *found = NULL;
    size_t n;
    kv_status rc = ts_index_select(db->registry, &one, &found, &n, err);
    for (size_t i = 0; i < n && rc == KV_OK; i++) {
        t.ref = found[i];
        rc = list_add(&commit->fresh, &t);
        if (rc == KV_OK)
            rc = ts_refset_add(refs, found[i], NULL);
    }
    kv_free(found);
    return rc < 0 ? rc : KV_OK;
}

/* The tombstones and the record; *any: whether there is something to delete. */
static kv_status erase_build(struct ts_db *db, const struct ts_matcher *matchers, size_t n_matchers,
                             int64_t from_ms, int64_t to_ms, struct ts_erase_commit *commit,
                             struct kv_err *err)
{
    struct ts_head_pin pin = {0};
    struct kv_snapshot *snapshot = NULL;
    struct ts_refset windows = {0}, refs = {0};
    uint64_t *list = NULL;
    size_t n = 0;
    kv_status rc;
    KV_TRY(ts_moment_open(db, &pin, &snapshot, err));
    KV_TRY(erase_windows(db, &pin, from_ms, to_ms, &windows));
    const struct ts_activity *heads[TS_GENERATIONS_MAX];
    for (size_t i = 0; i < pin.n; i++)
        heads[i] = ts_generation_activity(pin.generations[i]);
    struct ts_select select = {.matchers = matchers,
                               .n_matchers = n_matchers,
                               .snapshot = snapshot,
                               .heads = heads,
                               .n_heads = pin.n};
    KV_TRY(ts_refset_refs(&windows, &list, &n));
    for (size_t i = 0; i < n; i++)
        KV_TRY(erase_window(db, &select, (int32_t)((uint32_t)list[i] ^ UINT32_C(0x80000000)), from_ms, to_ms,
                            commit, &refs, err));
    kv_free(list);
    list = NULL;
    KV_TRY(ts_refset_refs(&refs, &list, &n));
    KV_TRY(ts_record_put_delete(&commit->record, list, n, from_ms, to_ms));
    KV_TRY(tombstones_add(pin.tombstones, commit->fresh.items, commit->fresh.n, &commit->next));
out:
    kv_free(list);
    ts_refset_release(&windows);
    ts_refset_release(&refs);
    ts_moment_close(&pin, &snapshot);
    return rc;
}

static kv_status erase_prepare(void *ctx, uint64_t seq, struct kv_batch *batch, kv_slice *record)
{
    struct ts_erase_commit *commit = ctx;
    (void)record;
    if (commit->db->options.durability > KV_DURABILITY_ALWAYS)
        atomic_store(&commit->db->erase_unsynced, seq);
    for (size_t i = 0; i < commit->next->n; i++)
        if (commit->next->items[i].seq == UINT64_MAX)
            commit->next->items[i].seq = seq;
    kv_status rc = KV_OK;
    for (size_t i = 0; i < commit->fresh.n && rc == KV_OK; i++) {
        struct ts_tombstone *t = &commit->fresh.items[i];
        uint8_t value[TS_TOMBSTONE_VALUE_LEN];
        struct ts_key key;
        t->seq = seq;
        ts_key_tombstone(&key, t);
        ts_tombstone_value(value, t);
        rc = kv_batch_put(batch, TS_SPACE_SERIES, ts_key_slice(&key), kv_slice_of(value, sizeof value));
    }
    return rc;
}

struct ts_tombstones *ts_erase_take(struct ts_erase_commit *commit)
{
    struct ts_tombstones *next = commit->next;
    commit->next = NULL;
    return next;
}

kv_status ts_erase(struct ts_db *db, const struct ts_matcher *matchers, size_t n_matchers, int64_t from_ms,
                   int64_t to_ms, struct kv_err *err)
{
    struct ts_erase_commit commit = {.db = db};
    struct kv_batch *batch = NULL;
    if (err)
        *err = (struct kv_err){0};
    if (from_ms > to_ms)
        return kv_fail(err, KV_INVALID, 0, "the delete's start is after its end");
    if (from_ms < TS_TIME_MIN)
        from_ms = TS_TIME_MIN;
    if (to_ms > -TS_TIME_MIN)
        to_ms = -TS_TIME_MIN;
    if (from_ms > to_ms)
        return KV_OK;
    kv_mutex_lock(&db->erase_lock);
    kv_status rc;
    KV_TRY(kv_batch_new(&batch));
    KV_TRY(erase_build(db, matchers, n_matchers, from_ms, to_ms, &commit, err));
    if (commit.fresh.n > 0) {
        const struct kv_commit_options options = {.record = kv_buf_slice(&commit.record),
                                                  .prepare = erase_prepare,
                                                  .ctx = &commit,
                                                  .past_floor = true};
        KV_TRY(kv_commit(db->kv, batch, &options, NULL, err));
        if (db->options.durability > KV_DURABILITY_ALWAYS)
            KV_TRY(kv_sync(db->kv, err));
    } else if ((rc = kv_health(db->kv, err)) != KV_NO_SPACE) {
        KV_TRY(rc); /* a stopped store may show samples at the next open that it does not now */
    }
out:
    if (rc >= 0) /* else it may come out either way: no merge may act on it */
        atomic_store(&db->erase_unsynced, UINT64_MAX);
    kv_mutex_unlock(&db->erase_lock);
    kv_batch_free(batch);
    kv_free(commit.fresh.items);
    ts_tombstones_unref(commit.next);
    kv_buf_release(&commit.record);
    if (rc < 0 && err && err->code == KV_OK)
        (void)kv_fail(err, rc, 0, "deleting series: %s", kv_status_text(rc));
    return rc < 0 ? rc : KV_OK;
}

/* {} and {a=~".*"} are what is left of a selector whose variable was empty: nobody means everything by them. */
static bool takes_the_empty_series(const struct ts_vector_selector *selector)
{
    for (size_t i = 0; i < selector->n_matchers; i++)
        if (!ts_matcher_matches(&selector->matchers[i], (kv_slice){NULL, 0}))
            return false;
    return true;
}

kv_status ts_delete(struct ts_db *db, const kv_slice *selectors, size_t n, int64_t from_ms, int64_t to_ms,
                    struct kv_err *err)
{
    kv_status rc = ts_wait_ready(db, err);
    for (size_t i = 0; i < n && rc >= 0; i++) {
        struct kv_arena arena;
        struct ts_tree tree = {0};
        struct ts_query_err why = {0};
        kv_arena_init(&arena, (size_t)16 << 20);
        rc = ts_parse_selector(selectors[i], &arena, &tree, &why);
        if (rc < 0) {
            rc = kv_fail(err, rc, 0, "%.200s", why.text);
        } else if (takes_the_empty_series(&tree.root->vector)) {
            rc = kv_fail(
                err, KV_INVALID, 0,
                "match[] must contain at least one non-empty matcher; {__name__=~\".+\"} is every series");
        } else {
            const struct ts_expr *selector = tree.root;
            rc = ts_erase(db, selector->vector.matchers, selector->vector.n_matchers, from_ms, to_ms, err);
        }
        ts_tree_release(&tree);
        kv_arena_release(&arena);
    }
    return rc < 0 ? rc : KV_OK;
}
