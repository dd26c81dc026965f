/*
 * db.h - the open store: what the files behind ts.h share.
 *
 * Walks: a sample goes append.c -> kv_commit -> ts.c (apply) -> head.c -> flush.c -> window.c; a query comes
 * by query/scan.c.
 *
 * Locks, in order: merge_lock (one merge or drop of windows, one removal of series at a time), care_lock (one flush or drop at a time), erase_lock (one
 * delete or dropping of tombstones at a time), kvcore's commit lock, the head's. The first three are held over I/O, and nobody waits
 * for them but their like: a flush never waits for a merge. state_lock is a leaf.
 */
#ifndef TS_DB_H
#define TS_DB_H

#include "kvcore/os/clock.h"
#include "kvcore/os/thread.h"
#include "tsdb/exemplar.h"
#include "tsdb/head.h"
#include "tsdb/index.h"
#include "tsdb/leave.h"
#include "tsdb/meta.h"
#include "tsdb/rules.h"
#include "tsdb/series.h"
#include "tsdb/window.h"

#include <stdatomic.h>

struct ts_db {
    struct ts_options options; /* resolved: no zeros that mean a default */
    struct kv_env *env;
    struct kv_clock *clock;
    const struct kv_logger *log;
    struct kv_hook chunk_hook, index_hook;
    struct ts_left *left; /* index_hook's */
    struct ts_leave leave;
    struct kv_db *kv;
    struct ts_rules *rules;
    struct ts_registry *registry;
    struct ts_head *head;
    struct ts_windows *windows;
    struct ts_meta *meta;
    struct ts_exemplars *exemplars;

    kv_mutex merge_lock, care_lock, erase_lock;
    atomic_int_least64_t
        clock_ms;           /* the retention clock, as last read: for the hook, which must not ask kvcore */
    atomic_bool hook_ready; /* what the hook reads is there */
    bool lost_forgotten;    /* windows that a crash left without chunks: merge_lock */
    atomic_bool settling;   /* the hook merges every window as if it were finished */
    /* Version of the delete that is applied and may not be on disk yet; UINT64_MAX: none. */
    atomic_uint_least64_t erase_unsynced;

    kv_mutex state_lock;
    kv_cond state_changed;
    bool stop, care_wanted; /* these: state_lock */
    bool ready;
    kv_status replay_status, flush_status;
    struct kv_err replay_err, flush_err;
    uint64_t flush_rounds; /* flushes tried, so that waiters see one end */

    struct ts_head *older; /* background replay fills it; then it is prepended to head. NULL: it fills head */
    atomic_uint_least64_t replay_bytes, replay_left;
    atomic_bool closing;
    bool has_caretaker;
    kv_thread replayer, caretaker, merger;

    struct {
        atomic_uint_least64_t appended, rejected[TS_REJECT_REASONS], created, flushes, merges, queries,
            chunks_flushed, exemplars, exemplars_dropped, windows_expired, windows_cut, bytes_dropped,
            series_left;
    } counters;
};

/* The retention clock now, kept in clock_ms. What rules make of it: rules.h. */
int64_t ts_retention_clock_ms(struct ts_db *db);
/* Waits until a background replay is over. KV_OK or why it failed. */
KV_MUST kv_status ts_wait_ready(struct ts_db *db, struct kv_err *err);
/* Waits for, or with KV_THREADS_NONE makes, room in the head for `bytes` more. */
KV_MUST kv_status ts_wait_room(struct ts_db *db, uint64_t bytes, struct kv_err *err);

/* flush.c. Flushes frozen generations, oldest first, until none is left. care_lock held. */
KV_MUST kv_status ts_flush_frozen(struct ts_db *db, struct kv_err *err);
/* The same for a head that is still being replayed. */
KV_MUST kv_status ts_flush_frozen_of(struct ts_db *db, struct ts_head *head, struct kv_err *err);
/* retention.c. Drops windows that are wholly expired, and the oldest of a store that is too large. merge_lock
 * held. */
KV_MUST kv_status ts_retention_drop(struct ts_db *db, struct kv_err *err);
/* No chunk of the window is left: its activity, tombstones and facts go too. care_lock held. */
KV_MUST kv_status ts_retention_forget(struct ts_db *db, int32_t window, struct kv_err *err);
/* Drops the window whole, as tables. care_lock held; no head generation holds samples of it. *bytes: of the files
 * that went. */
KV_MUST kv_status ts_retention_drop_window(struct ts_db *db, int32_t window, uint64_t *bytes,
                                           struct kv_err *err);
/* window_due.c. Merges windows that are due; settle: every one that is not one tidy run. merge_lock held. KV_CORRUPT: one
 * is damaged; the others were merged. */
KV_MUST kv_status ts_windows_merge(struct ts_db *db, bool settle, struct kv_err *err);

#endif
