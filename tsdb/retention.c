/*
 * What is too old: hidden from reads at once, by the retention clock; its windows dropped whole when all of
 * them is. Nothing is judged by the wall clock, which may be wrong. Page: tsdb/docs/retention.md.
 */
#include "kvcore/base/mem.h"
#include "tsdb/db.h"

int64_t ts_retention_clock_ms(struct ts_db *db)
{
    int64_t clock_ms = kv_retention_clock_ms(db->kv);
    atomic_store(&db->clock_ms, clock_ms);
    return clock_ms;
}

kv_status ts_retention_forget(struct ts_db *db, int32_t window, struct kv_err *err)
{
    struct kv_batch *batch = NULL;
    kv_status rc;
    kv_mutex_lock(&db->erase_lock);
    KV_TRY(kv_batch_new(&batch));
    KV_TRY(ts_index_drop_activity(db->registry, window, window, batch, NULL, err));
    KV_TRY(ts_windows_forget(window, batch));
    KV_TRY(ts_erase_stage_drop(db, window, UINT64_MAX, batch));
    if (kv_batch_count(batch) > 0)
        KV_TRY(kv_commit(db->kv, batch, &(struct kv_commit_options){.past_floor = true}, NULL, err));
    KV_TRY(ts_erase_drop(db, window, UINT64_MAX));
    ts_windows_dropped(db->windows, window);
    atomic_store(&db->leave.wanted, true);
out:
    kv_mutex_unlock(&db->erase_lock);
    kv_batch_free(batch);
    return rc;
}

kv_status ts_retention_drop_window(struct ts_db *db, int32_t window, uint64_t *bytes, struct kv_err *err)
{
    struct ts_key lower, upper;
    ts_key_chunk_window(&lower, window);
    upper = lower;
    bool bounded = ts_key_successor(&upper);
    kv_status rc = kv_drop_tables(db->kv, TS_SPACE_CHUNKS, ts_key_slice(&lower),
                                  bounded ? ts_key_slice(&upper) : (kv_slice){0}, bytes, err);
    if (rc == KV_OK)
        rc = ts_retention_forget(db, window, err);
    if (rc == KV_OK)
        atomic_fetch_add(&db->counters.bytes_dropped, *bytes);
    return rc;
}

static kv_status retention_drop_expired(struct ts_db *db, int64_t floor_ms, struct kv_err *err)
{
    struct ts_window *windows = NULL;
    size_t n;
    kv_status rc = ts_windows_copy(db->windows, INT32_MIN, ts_window_of(floor_ms) - 1, &windows, &n);
    for (size_t i = 0; i < n && rc >= 0; i++) {
        uint64_t bytes = 0;
        /* A head generation may still bring chunks of it: then its turn comes after that flush. */
        kv_mutex_lock(&db->care_lock);
        bool now = !ts_head_has_window(db->head, windows[i].window);
        if (now)
            rc = ts_retention_drop_window(db, windows[i].window, &bytes, err);
        kv_mutex_unlock(&db->care_lock);
        if (!now || rc < 0)
            continue;
        atomic_fetch_add(&db->counters.windows_expired, 1);
        kv_logf(db->log, KV_LOG_INFO, "window_expired", "window=%d bytes=%llu", (int)windows[i].window,
                (unsigned long long)bytes);
    }
    kv_free(windows);
    return rc < 0 ? rc : KV_OK;
}

/* care_lock held. Makes sure that no head generation holds samples of the window, unless they came just now. */
static kv_status retention_flush(struct ts_db *db, int32_t window, struct kv_err *err)
{
    if (!ts_head_has_window(db->head, window))
        return KV_OK;
    kv_status rc = ts_head_rotate(db->head, true);
    if (rc == KV_OK || rc == KV_BUSY)
        rc = ts_flush_frozen(db, err);
    return rc;
}

/* Drops the oldest windows, whole, until the store is not larger than it may be; the newest always stays. */
static kv_status retention_fit(struct ts_db *db, struct kv_err *err)
{
    struct ts_window *windows = NULL;
    size_t n;
    uint64_t max = db->options.retention_bytes, all = kv_disk_bytes(db->kv), gone = 0;
    if (max == 0 || all <= max)
        return KV_OK;
    kv_status rc = ts_windows_copy(db->windows, INT32_MIN, INT32_MAX, &windows, &n);
    for (size_t i = 0; i + 1 < n && rc >= 0 && all > gone && all - gone > max; i++) {
        uint64_t bytes = 0;
        kv_mutex_lock(&db->care_lock);
        rc = retention_flush(db, windows[i].window, err);
        bool now = rc == KV_OK && !ts_head_has_window(db->head, windows[i].window);
        if (now)
            rc = ts_retention_drop_window(db, windows[i].window, &bytes, err);
        kv_mutex_unlock(&db->care_lock);
        if (!now || rc < 0)
            break; /* the next round goes on; a younger one does not go before it */
        gone += bytes;
        atomic_fetch_add(&db->counters.windows_cut, 1);
        kv_logf(db->log, KV_LOG_WARN, "window_dropped_for_size", "window=%d bytes=%llu store=%llu limit=%llu",
                (int)windows[i].window, (unsigned long long)bytes, (unsigned long long)all,
                (unsigned long long)max);
    }
    kv_free(windows);
    return rc < 0 ? rc : KV_OK;
}

kv_status ts_retention_drop(struct ts_db *db, struct kv_err *err)
{
    int64_t floor_ms = ts_rules_lowest_ms(db->rules, ts_retention_clock_ms(db));
    kv_status rc = floor_ms == INT64_MIN ? KV_OK : retention_drop_expired(db, floor_ms, err);
    return rc < 0 ? rc : retention_fit(db, err);
}
