/*
 * erase.h - deletes: tombstones in memory, and ts_delete.
 *
 * A delete is one commit: a tombstone per (window, series) that has data there, and a record for the head. It
 * covers what was written before it: chunks and frozen generations with a lower sequence. Tombstones are keys
 * of space "series", are held in memory, applied by every read and by the chunk space's merges
 * (tsdb/window.h), and dropped once a merge that had them is installed and no log record below them waits to
 * be flushed.
 *
 * Threads    struct ts_tombstones never changes once made; references are counted.
 */
#ifndef TS_ERASE_H
#define TS_ERASE_H

#include "tsdb/key.h"

struct ts_matcher;
struct ts_db;
struct ts_erase_commit;

enum { TS_TOMBSTONES_MAX = 4 << 20 }; /* in memory; a delete that needs more is refused with KV_LIMIT */

struct ts_tombstones {
    uint32_t refs; /* atomic */
    size_t n;
    struct ts_tombstone items[]; /* by ref, window, seq */
};
struct ts_tombstones *ts_tombstones_ref(struct ts_tombstones *tombstones); /* NULL is fine */
void ts_tombstones_unref(struct ts_tombstones *tombstones);                /* NULL is fine */
/* Those of a series: index of the first and their number. *hint: where an earlier call for a smaller ref
 * ended; start with 0. */
size_t ts_tombstones_find(const struct ts_tombstones *tombstones, uint64_t ref, size_t *hint, size_t *first);

/* ts_delete behind its parser: all series that the matchers select. */
KV_MUST kv_status ts_erase(struct ts_db *db, const struct ts_matcher *matchers, size_t n_matchers,
                           int64_t from_ms, int64_t to_ms, struct kv_err *err);
/* The list the apply function hands to the head; kv_commit's ctx of a delete is a ts_erase_commit. */
struct ts_tombstones *ts_erase_take(struct ts_erase_commit *commit);
/* A merge of the window that had its tombstones is installed: those below floor_seq are not needed any more.
 * Stage puts their deletes into batch; drop forgets them, after that batch is committed. erase_lock held. */
KV_MUST kv_status ts_erase_stage_drop(struct ts_db *db, int32_t window, uint64_t floor_seq,
                                      struct kv_batch *batch);
KV_MUST kv_status ts_erase_drop(struct ts_db *db, int32_t window, uint64_t floor_seq);
/* Reads the stored tombstones into the head. */
KV_MUST kv_status ts_erase_load(struct ts_db *db, struct kv_err *err);

#endif
