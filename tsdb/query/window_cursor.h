/*
 * window_cursor.h - the chunks of one window, series after series: an iterator that only moves forward.
 *
 * Threads    one at a time. {0} with `window` filled in is the beginning.
 */
#ifndef TS_WINDOW_CURSOR_H
#define TS_WINDOW_CURSOR_H

#include "tsdb/key.h"

struct ts_window_cursor {
    int32_t window;
    bool at_entry, ended;
    struct kv_iter *it;      /* its value is the entry's chunk */
    struct ts_chunk_key key; /* of the entry */
};
/* To the first chunk of ref or of one behind it; refs increase from call to call. KV_END: the window has none any more. */
KV_MUST kv_status ts_window_cursor_seek(struct ts_window_cursor *cursor, struct kv_db *kv,
                                        const struct kv_snapshot *snapshot, uint64_t ref);
/* The next seek may go back. */
static inline void ts_window_cursor_rewind(struct ts_window_cursor *cursor)
{
    cursor->at_entry = cursor->ended = false;
}
KV_MUST kv_status ts_window_cursor_next(struct ts_window_cursor *cursor);
/* Says in *err which chunk it is that the cursor is at; answers rc. */
kv_status ts_window_cursor_damaged(const struct ts_window_cursor *cursor, kv_status rc, struct kv_err *err);
static inline void ts_window_cursor_close(struct ts_window_cursor *cursor)
{
    kv_iter_close(cursor->it);
    *cursor = (struct ts_window_cursor){.window = cursor->window};
}

#endif
