/*
 * commit_impl.h - the inside of struct kv_committer, for commit.c and commit_async.c. Everything here is under the commit
 * lock, or the leader's.
 */
#ifndef KV_COMMIT_IMPL_H
#define KV_COMMIT_IMPL_H

#include "kvcore/base/list.h"
#include "kvcore/db/commit.h"
#include "kvcore/os/thread.h"

#include <stdatomic.h>

enum waiter_kind {
    WAITER_COMMIT,
    WAITER_SYNC,      /* only wants what is written to be synced */
    WAITER_EXCLUSIVE, /* runs alone */
};

/* One call under way, on its thread's stack, or (async) a commit that no thread waits for. The commit lock guards it
 * until it leads or is done. */
struct waiter {
    struct kv_list link;
    enum waiter_kind kind;
    uint64_t seq; /* 0: takes none */
    kv_slice batch, record;
    size_t entries, bytes; /* bytes: keys and values of the batch */
    const struct kv_commit_options *options;
    const struct kv_commit_guard *guard; /* NULL: none */
    bool prepared;
    const struct kv_key_span *span; /* of an exclusive run with a sequence; NULL: anything */
    kv_status (*run)(void *ctx, uint64_t seq, struct kv_err *err);
    void *run_ctx;
    bool leads, done;
    kv_status rc;
    struct kv_err err;
    kv_cond wake;
    struct kv_async *async; /* this is its waiter; NULL: a thread waits */
};

struct group;
struct kv_committer {
    struct kv_committer_options options;
    kv_mutex lock;
    kv_cond room; /* the queue shrank, or the last call left */
    struct kv_list queue;
    size_t queue_bytes;
    const struct group *under_way; /* what the leader is at; NULL: nothing */
    bool leading, closed;
    uint32_t callers;  /* calls inside commit, sync, exclusive */
    uint64_t next_seq; /* to be given out */
    _Atomic uint64_t visible;
    kv_status health;
    struct kv_err health_err;
    uint64_t synced_ns;    /* when the last sync of an interval began */
    _Atomic bool unsynced; /* written since */
    size_t unsynced_bytes;
    struct kv_file *reserve; /* holds its space by being open; NULL: given up, or none */
    uint64_t
        floor_stride; /* the leader's: bytes that may pass before the system is asked for its room again */
    struct kv_committer_stats stats;
    kv_thread syncer;
    kv_cond syncer_wake;
    /* Commits that no thread waits for. */
    struct kv_list finished;     /* their callbacks are to be called, oldest first */
    size_t n_async, async_bytes; /* whose callbacks have not returned */
    kv_thread async_thread;      /* leads for them and calls back; started with the first */
    kv_cond async_wake;
    bool async_leads; /* it has been given the lead */
    bool calling;     /* a callback runs */
};

static inline struct waiter *waiter_of(const struct kv_list *link)
{
    return KV_CONTAINER((uintptr_t)link, struct waiter, link);
}

/* ---- commit.c */

/* Enters the committer, with the lock held on return whatever is answered; KV_CLOSED once it is closing. */
KV_MUST kv_status kv_commit_enter(struct kv_committer *committer, struct kv_err *err);
/* Callbacks that wait for a thread without one are called first. */
void kv_commit_leave(struct kv_committer *committer);
/* Are commits taken at all? */
KV_MUST kv_status kv_commit_admit(struct kv_committer *committer, bool past_floor, struct kv_err *err);
/* Takes a sequence and settles what is to be logged under it. */
KV_MUST kv_status kv_commit_prepare(struct kv_committer *committer, struct waiter *waiter,
                                    struct kv_batch *batch, struct kv_err *err);
/* Behind what is queued; its sequence is used up. */
void kv_commit_enqueue(struct kv_committer *committer, struct waiter *waiter);
/* One group; then the lead goes on. `leading` was set. */
void kv_commit_lead(struct kv_committer *committer);

/* ---- commit_async.c */

/* The lead goes to whoever waits first and can take it, or to nobody. */
void kv_async_pass_lead(struct kv_committer *committer);
/* The commit is done; no order between calls. */
void kv_async_finish(struct kv_committer *committer, struct waiter *waiter);
/* Calls what is finished, where no thread does. */
void kv_async_call_here(struct kv_committer *committer);
/* The last of them are led and called; the thread ends. `closed` was set. */
void kv_async_close(struct kv_committer *committer);

#endif
