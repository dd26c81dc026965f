#include "tsdb/query/window_cursor.h"

enum {
    CURSOR_STEPS_MAX = 16, /* entries walked over before a seek is cheaper */
    CURSOR_NEAR = 4,       /* refs this close are walked to */
};

static kv_status cursor_entry(struct ts_window_cursor *cursor, kv_status rc)
{
    cursor->at_entry = rc == KV_OK;
    cursor->ended = rc == KV_END;
    if (rc == KV_OK)
        rc = ts_key_chunk_read(cursor->it->key, &cursor->key);
    return rc;
}

static kv_status cursor_open(struct ts_window_cursor *cursor, struct kv_db *kv,
                             const struct kv_snapshot *snapshot)
{
    struct ts_key lower, upper;
    ts_key_chunk_window(&lower, cursor->window);
    upper = lower;
    bool bounded = ts_key_successor(&upper);
    return kv_iter_open(kv, snapshot, TS_SPACE_CHUNKS, ts_key_slice(&lower),
                        bounded ? ts_key_slice(&upper) : (kv_slice){0}, &cursor->it);
}

kv_status ts_window_cursor_next(struct ts_window_cursor *cursor)
{
    return cursor_entry(cursor, kv_iter_next(cursor->it));
}

kv_status ts_window_cursor_seek(struct ts_window_cursor *cursor, struct kv_db *kv,
                                const struct kv_snapshot *snapshot, uint64_t ref)
{
    kv_status rc = KV_OK;
    if (!cursor->it && (rc = cursor_open(cursor, kv, snapshot)) < 0)
        return rc;
    if (cursor->ended)
        return KV_END;
    if (cursor->at_entry && cursor->key.ref + CURSOR_NEAR >= ref) {
        for (int steps = 0; cursor->key.ref < ref && steps < CURSOR_STEPS_MAX; steps++)
            if ((rc = ts_window_cursor_next(cursor)) != KV_OK)
                return rc;
    }
    if (cursor->at_entry && cursor->key.ref >= ref)
        return KV_OK;
    struct ts_key target;
    ts_key_chunk_series(&target, cursor->window, ref);
    return cursor_entry(cursor, kv_iter_seek(cursor->it, ts_key_slice(&target)));
}

kv_status ts_window_cursor_damaged(const struct ts_window_cursor *cursor, kv_status rc, struct kv_err *err)
{
    const struct ts_chunk_key *key = &cursor->key;
    return kv_fail(err, rc, 0, "chunk window=%d metric=%u series=%u first=%lld seq=%llu: %s",
                   (int)key->window, ts_ref_metric(key->ref), ts_ref_series(key->ref),
                   (long long)key->first_ms, (unsigned long long)key->seq, kv_status_text(rc));
}
