/*
 * Which windows the store merges by itself, and what it does around such a merge: activity, facts and tombstones that
 * are not needed any more. Page: tsdb/docs/window.md.
 */
#include "kvcore/base/mem.h"
#include "tsdb/db.h"
#include "tsdb/thin.h"

/* One round's view: the windows, and for each how many tombstones a merge now would make superfluous. */
struct due {
    struct ts_db *db;
    bool settle;
    uint64_t
        floor_seq; /* read before any merge chooses its inputs: every sample that a tombstone below it covers is
                           in tables by now */
    struct ts_window *windows;
    size_t *tombstones;
    size_t n;
};

static struct ts_window *due_find(const struct due *due, int32_t window)
{
    size_t low = 0, high = due->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (due->windows[mid].window < window)
            low = mid + 1;
        else
            high = mid;
    }
    return low < due->n && due->windows[low].window == window ? &due->windows[low] : NULL;
}

static kv_status due_count_tombstones(struct due *due)
{
    struct ts_head_pin pin;
    due->tombstones = kv_zalloc(due->n + 1, sizeof *due->tombstones);
    if (!due->tombstones)
        return KV_NO_MEMORY;
    kv_status rc = ts_head_pin(due->db->head, &pin);
    if (rc < 0)
        return rc;
    for (size_t i = 0; pin.tombstones && i < pin.tombstones->n; i++) {
        const struct ts_tombstone *t = &pin.tombstones->items[i];
        const struct ts_window *window = t->seq < due->floor_seq ? due_find(due, t->window) : NULL;
        if (window)
            due->tombstones[window - due->windows]++;
    }
    ts_head_unpin(&pin);
    return KV_OK;
}

static bool window_due(const struct due *due, size_t i)
{
    const struct ts_window *window = &due->windows[i];
    if (due->settle)
        return window->runs > 1 || !window->merged || due->tombstones[i] > 0;
    if (!ts_window_finished(window->window, atomic_load(&due->db->clock_ms)) ||
        ts_head_has_window(due->db->head, window->window))
        return false;
    return !window->merged || window->runs > TS_SIDE_RUNS_MAX ||
           window->side_bytes > window->bytes / TS_SIDE_SHARE || due->tombstones[i] > 0;
}

/* Classes that have passed the whole window since it was last looked at for them. */
static bool window_passed(const struct due *due, size_t i)
{
    const struct ts_window *window = &due->windows[i];
    uint64_t passed = ts_thin_passed(due->db, window->window);
    if (due->settle)
        return passed != 0;
    return (passed & ~window->passed) != 0 && !ts_head_has_window(due->db->head, window->window);
}

static kv_status window_keep(struct ts_db *db, int32_t window, uint64_t floor_seq, struct kv_err *err)
{
    struct kv_batch *batch = NULL;
    kv_status rc;
    kv_mutex_lock(&db->erase_lock);
    KV_TRY(kv_batch_new(&batch));
    KV_TRY(ts_windows_keep(db->windows, window, batch));
    KV_TRY(ts_erase_stage_drop(db, window, floor_seq, batch));
    if (kv_batch_count(batch) > 0)
        KV_TRY(kv_commit(db->kv, batch, &(struct kv_commit_options){.past_floor = true}, NULL, err));
    KV_TRY(ts_erase_drop(db, window, floor_seq));
out:
    kv_mutex_unlock(&db->erase_lock);
    kv_batch_free(batch);
    return rc;
}

/* What a window without a chunk has left goes. */
static kv_status window_forget_empty(struct ts_db *db, int32_t window, struct kv_err *err)
{
    struct kv_iter *it = NULL;
    struct ts_key lower, upper;
    ts_key_chunk_window(&lower, window);
    upper = lower;
    bool bounded = ts_key_successor(&upper);
    kv_mutex_lock(&db->care_lock); /* no flush is between its activity and its chunks */
    kv_status rc = ts_head_has_window(db->head, window)
                       ? KV_OK
                       : kv_iter_open(db->kv, NULL, TS_SPACE_CHUNKS, ts_key_slice(&lower),
                                      bounded ? ts_key_slice(&upper) : (kv_slice){0}, &it);
    if (it)
        rc = kv_iter_seek(it, ts_key_slice(&lower));
    kv_iter_close(it);
    if (rc == KV_END)
        rc = ts_retention_forget(db, window, err);
    kv_mutex_unlock(&db->care_lock);
    return rc < 0 ? rc : KV_OK;
}

/* After a merge: the order matters, a crash in between leaves tombstones, so that the window is merged once more. */
static kv_status window_finish(struct ts_db *db, const struct ts_thin *thin, uint64_t floor_seq,
                               struct kv_err *err)
{
    struct ts_window now;
    kv_status rc = ts_thin_settle(db, thin, err);
    if (rc == KV_OK)
        rc = window_keep(db, thin->window, floor_seq, err);
    if (rc == KV_OK && (!ts_windows_find(db->windows, thin->window, &now) || now.chunks == 0))
        rc = window_forget_empty(db, thin->window, err);
    return rc;
}

static kv_status window_merge(struct ts_db *db, struct ts_thin *thin, uint64_t floor_seq, struct kv_err *err)
{
    struct ts_key lower, upper;
    ts_key_chunk_window(&lower, thin->window);
    upper = lower;
    bool bounded = ts_key_successor(&upper);
    ts_windows_thin(db->windows, thin);
    kv_status rc = kv_merge_range(db->kv, TS_SPACE_CHUNKS, ts_key_slice(&lower),
                                  bounded ? ts_key_slice(&upper) : (kv_slice){0}, err);
    ts_windows_thin(db->windows, NULL);
    return rc < 0 ? rc : window_finish(db, thin, floor_seq, err);
}

/* Every series of the window has expired: its tables go without being read. Not if something was flushed to it since
 * they were counted; then the next round looks again. */
static kv_status window_drop(struct ts_db *db, const struct ts_window *window, struct kv_err *err)
{
    struct ts_window now;
    uint64_t bytes = 0;
    kv_status rc = KV_OK;
    kv_mutex_lock(&db->care_lock);
    bool same = ts_windows_find(db->windows, window->window, &now) && now.runs == window->runs &&
                now.chunks == window->chunks && !ts_head_has_window(db->head, window->window);
    if (same)
        rc = ts_retention_drop_window(db, window->window, &bytes, err);
    kv_mutex_unlock(&db->care_lock);
    if (!same || rc < 0)
        return rc;
    atomic_fetch_add(&db->counters.windows_expired, 1);
    kv_logf(db->log, KV_LOG_INFO, "window_expired", "window=%d bytes=%llu", (int)window->window,
            (unsigned long long)bytes);
    return KV_OK;
}

static kv_status window_care(const struct due *due, size_t i, struct kv_err *err)
{
    struct ts_db *db = due->db;
    const struct ts_window *window = &due->windows[i];
    struct ts_thin *thin = NULL;
    bool merge = window_due(due, i), passed = window_passed(due, i);
    if (!merge && !passed)
        return KV_OK;
    kv_status rc = ts_thin_new(db, window->window, &thin, err);
    if (rc < 0)
        return rc;
    bool all = thin->expired > 0 && thin->expired == thin->series;
    if (thin->expired > 0 && (due->settle || thin->expired >= thin->series / TS_THIN_SHARE))
        merge = true;
    if (all)
        rc = window_drop(db, window, err);
    else if (merge)
        rc = window_merge(db, thin, due->floor_seq, err);
    if (rc == KV_OK && !all)
        ts_windows_passed(db->windows, window->window, thin->passed);
    ts_thin_unref(thin);
    return rc;
}

/* Each in its turn. A damaged one does not keep the others waiting: *damage (KV_OK before) is what the first had. */
static kv_status due_care(const struct due *due, kv_status *damage, struct kv_err *err)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < due->n && (rc >= 0 || rc == KV_CORRUPT); i++) {
        struct kv_err own = {0};
        rc = window_care(due, i, &own);
        if (rc < 0 && err && (rc != KV_CORRUPT || *damage == KV_OK))
            *err = own;
        if (rc == KV_CORRUPT)
            *damage = rc;
    }
    return rc < 0 && rc != KV_CORRUPT ? rc : KV_OK;
}

/* A window with tombstones that can go and no chunks: all it ever had was deleted in the head. */
static bool window_of_nothing(struct ts_db *db, uint64_t floor_seq, int32_t *window)
{
    struct ts_head_pin pin;
    struct ts_window now;
    bool found = false;
    if (ts_head_pin(db->head, &pin) < 0)
        return false;
    for (size_t i = 0; pin.tombstones && i < pin.tombstones->n && !found; i++) {
        *window = pin.tombstones->items[i].window;
        found = pin.tombstones->items[i].seq < floor_seq && !ts_windows_find(db->windows, *window, &now);
    }
    ts_head_unpin(&pin);
    return found;
}

/* Windows that have activity and no chunk, since a crash came before they were forgotten. Looked for after each opening
 * until none is left: one may have to wait for the head. */
static kv_status windows_forget_lost(struct ts_db *db, struct kv_err *err)
{
    struct ts_window now;
    bool none = true;
    kv_status rc = KV_OK;
    for (int64_t from = INT32_MIN; from <= INT32_MAX && rc == KV_OK && !db->lost_forgotten;) {
        int32_t window;
        rc = ts_index_active_window(db->registry, (int32_t)from, &window, err);
        if (rc != KV_OK)
            break;
        if (!ts_windows_find(db->windows, window, &now)) {
            none = false;
            rc = window_forget_empty(db, window, err);
        }
        from = (int64_t)window + 1;
    }
    if (rc >= 0 && none)
        db->lost_forgotten = true;
    return rc < 0 ? rc : KV_OK;
}

kv_status ts_windows_merge(struct ts_db *db, bool settle, struct kv_err *err)
{
    struct due due = {.db = db, .settle = settle};
    kv_status damage = KV_OK, rc = ts_windows_copy(db->windows, INT32_MIN, INT32_MAX, &due.windows, &due.n);
    atomic_store(&db->settling, settle);
    kv_mutex_lock(
        &db->erase_lock); /* a delete that is not on disk yet, which merges leave alone, is not below it */
    due.floor_seq = ts_head_floor(db->head);
    kv_mutex_unlock(&db->erase_lock);
    if (rc == KV_OK)
        rc = windows_forget_lost(db, err);
    if (rc == KV_OK)
        rc = due_count_tombstones(&due);
    if (rc == KV_OK)
        rc = due_care(&due, &damage, err);
    for (struct ts_thin none = {0}; rc >= 0 && window_of_nothing(db, due.floor_seq, &none.window);)
        rc = window_finish(db, &none, due.floor_seq, err);
    atomic_store(&db->settling, false);
    kv_free(due.windows);
    kv_free(due.tombstones);
    return rc < 0 ? rc : damage;
}
