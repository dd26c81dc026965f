/*
 * What is too old: hidden from reads at once, by the retention clock; its windows dropped whole when all of
 * them is. Nothing is judged by the wall clock, which may be wrong. Page: tsdb/docs/retention.md.
 */
#include "kvcore/base/mem.h"
#include "tsdb/db.h"

int64_t ts_retention_floor_at(const struct ts_db *db, int64_t clock_ms)
{
    int64_t floor_ms;
    if (db->options.retention_ms == INT64_MAX ||
        __builtin_sub_overflow(clock_ms, db->options.retention_ms, &floor_ms))
        return INT64_MIN;
    return floor_ms;
}

int64_t ts_retention_floor_ms(struct ts_db *db)
{
    int64_t clock_ms = kv_retention_clock_ms(db->kv);
    atomic_store(&db->clock_ms, clock_ms);
    return ts_retention_floor_at(db, clock_ms);
}

static kv_status retention_commit_drop(struct ts_db *db, int32_t window, struct kv_err *err)
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
out:
    kv_mutex_unlock(&db->erase_lock);
    kv_batch_free(batch);
    return rc;
}

static kv_status retention_drop(struct ts_db *db, int32_t window, struct kv_err *err)
{
    struct ts_key lower, upper;
    uint64_t bytes = 0;
    ts_key_chunk_window(&lower, window);
    upper = lower;
    bool bounded = ts_key_successor(&upper);
    kv_status rc = kv_drop_tables(db->kv, TS_SPACE_CHUNKS, ts_key_slice(&lower),
                                  bounded ? ts_key_slice(&upper) : (kv_slice){0}, &bytes, err);
    if (rc == KV_OK)
        rc = retention_commit_drop(db, window, err);
    if (rc < 0)
        return rc;
    ts_windows_dropped(db->windows, window);
    kv_logf(db->log, KV_LOG_INFO, "window_expired", "window=%d bytes=%llu", (int)window,
            (unsigned long long)bytes);
    return KV_OK;
}

kv_status ts_retention_drop(struct ts_db *db, struct kv_err *err)
{
    int64_t floor_ms = ts_retention_floor_ms(db);
    if (floor_ms == INT64_MIN)
        return KV_OK;
    struct ts_window *windows = NULL;
    size_t n;
    kv_status rc = ts_windows_copy(db->windows, INT32_MIN, ts_window_of(floor_ms) - 1, &windows, &n);
    for (size_t i = 0; i < n && rc >= 0; i++) {
        /* A head generation may still bring chunks of it: then its turn comes after that flush. */
        kv_mutex_lock(&db->care_lock);
        if (!ts_head_has_window(db->head, windows[i].window))
            rc = retention_drop(db, windows[i].window, err);
        kv_mutex_unlock(&db->care_lock);
    }
    kv_free(windows);
    return rc < 0 ? rc : KV_OK;
}
