/*
 * leave.h - series that nothing refers to any more leave the registry and the lists of the index.
 *
 * A round of the merger looks for them when activity has become less (a window was dropped, thinned or merged) and once
 * after every opening: what no window's activity and no head generation names. They are doomed, looked for once more
 * when every request that was under way is over, and removed in commits of some thousand. Lists keep their numbers
 * until the index space is merged: those that have left are written down ('g' in key.h) and left out by the hook; when
 * they are many, all lists are merged and the note goes. Page: tsdb/docs/index.md.
 */
#ifndef TS_LEAVE_H
#define TS_LEAVE_H

#include "tsdb/postings.h"

#include <stdatomic.h>

struct ts_db;

struct ts_leave {
    atomic_bool wanted; /* activity has become less */
    enum {
        TS_LEAVE_IDLE,
        TS_LEAVE_DOOMED,   /* waits for requests from before: they may use what is doomed */
        TS_LEAVE_GONE,     /* for those from before the cache forgot: they may have read what left */
        TS_LEAVE_UNMARKED, /* for those that may still have the list of what was doomed */
    } state;               /* these two: merge_lock */
    struct ts_refset refs; /* doomed */
};
void ts_leave_release(struct ts_leave *leave);
/* Reads what has left before; the hook of the index space goes by it from then on. */
KV_MUST kv_status ts_leave_load(struct ts_db *db, struct kv_err *err);
/* As far as it gets without waiting for anybody. all: lists are merged however few have left. merge_lock held. */
KV_MUST kv_status ts_leave_round(struct ts_db *db, bool all, struct kv_err *err);

#endif
