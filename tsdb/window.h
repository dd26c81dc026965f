/*
 * window.h - windows (UTC days) of the chunk space: which there are, how tidy they are, and what a merge does
 * to them.
 *
 * A flush leaves a run of chunks in each window it touches. A window is finished two hours past its end by
 * the retention clock, when no head generation holds its samples; then it is merged once, series by series:
 * overlapping chunks resolved by sequence, tombstones and retention applied, chunks joined. Data that comes
 * later lies beside it in side chunks until they are more than a tenth of its bytes or eight runs. Page:
 * tsdb/docs/window.md.
 *
 * Threads    any; the hook runs on kvcore's merging threads, several windows at once.
 */
#ifndef TS_WINDOW_H
#define TS_WINDOW_H

#include "tsdb/key.h"

struct ts_db;
struct ts_windows;

#define TS_SLOT_MS     INT64_C(7200000) /* chunks of an unfinished window do not cross multiples of it */
#define TS_FINISHED_MS INT64_C(7200000) /* past its end a window is finished */
enum {
    TS_SIDE_RUNS_MAX = 8,
    TS_SIDE_SHARE = 10
}; /* late data is merged past 8 runs, or a tenth of the bytes */

struct ts_window {
    int32_t window;
    uint32_t runs;                      /* flushes since the last merge, the merged run included */
    bool merged;                        /* was merged once; side_* is what came later */
    uint64_t bytes, side_bytes, chunks; /* of chunks. As of the last flush or merge; a hint after a crash */
    int64_t first_ms,
        last_ms; /* of the samples that were flushed to it, those that are deleted since too; first > last: none. Of a
                                  window whose facts are lost, the whole day */
    uint64_t passed; /* classes that had passed all of it when it was last looked at (thin.h); not stored */
};

KV_MUST kv_status ts_windows_open(struct ts_db *db, struct ts_windows **out, struct kv_err *err);
void ts_windows_close(struct ts_windows *windows); /* NULL is fine */
/* Those with from <= window <= to, sorted, in a new array (kv_free); NULL when there are none. */
KV_MUST kv_status ts_windows_copy(struct ts_windows *windows, int32_t from, int32_t to,
                                  struct ts_window **out, size_t *n);
/* What one flush adds to one window. */
struct ts_window_add {
    int32_t window;
    bool finished; /* its chunks need no joining later */
    uint64_t bytes, chunks;
    int64_t first_ms, last_ms; /* of its samples, when chunks > 0 */
};
/* Puts into batch what the windows will be once n adds are installed, and makes room, so that
 * ts_windows_added cannot fail. */
KV_MUST kv_status ts_windows_stage(struct ts_windows *windows, const struct ts_window_add *adds, size_t n,
                                   struct kv_batch *batch);
void ts_windows_added(struct ts_windows *windows, const struct ts_window_add *adds, size_t n);
void ts_windows_dropped(struct ts_windows *windows, int32_t window);
/* Puts into batch that there is no such window any more. */
KV_MUST kv_status ts_windows_forget(int32_t window, struct kv_batch *batch);
/* Puts into batch what the window is now. */
KV_MUST kv_status ts_windows_keep(struct ts_windows *windows, int32_t window, struct kv_batch *batch);
bool ts_windows_find(struct ts_windows *windows, int32_t window, struct ts_window *out);
void ts_windows_passed(struct ts_windows *windows, int32_t window, uint64_t passed);
/* What merges of thin's window leave out from now on, and where they write down what they kept; NULL: nothing. Once
 * another is set, kept does not change any more. */
struct ts_thin;
void ts_windows_thin(struct ts_windows *windows, struct ts_thin *thin);
/* Whether time has passed that makes a window finished. */
bool ts_window_finished(int32_t window, int64_t retention_clock_ms);

/* The hook of the chunk space; db lives longer than the kvcore database. */
void ts_window_hook(struct ts_db *db, struct kv_hook *out);

/* Encodes samples of one series, cut to chunks that do not cross slots unless `joined`, and hands each to
 * add. scratch: reused. */
struct ts_columns;
KV_MUST kv_status ts_window_encode(const struct ts_columns *samples, int32_t window, uint64_t ref,
                                   uint64_t seq, bool joined, struct kv_buf *scratch,
                                   kv_status (*add)(void *ctx, kv_slice key, kv_slice value), void *ctx);

#endif
