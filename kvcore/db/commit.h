/*
 * commit.h - the group-commit committer: every write of a database passes here.
 *
 * A commit takes its sequence, runs prepare() and enters the queue in one step under the commit lock. The first in the
 * queue leads: it takes what waits, makes one append and one sync, hands the puts to hooks.apply and the records to
 * hooks.record in sequence order, publishes the newest sequence, wakes the others and passes the lead on. No delay is
 * added.
 *
 * When a group fails, it and everything queued behind it (prepared on top of it) are undone newest first, their
 * sequences are used again, and nothing of them is found later, unless the answer is KV_UNKNOWN_OUTCOME.
 *
 * Threads    every function: any. Hooks are called by the leader, one at a time, without the commit lock;
 * prepare, undo and validate by the committing thread, with it.
 *
 * Locks      commit lock (inside). A hook may take the caller's locks, so: never call commit, sync or exclusive holding
 *            a lock that a hook (room, apply, kv_log_hooks.seal, ...) takes. Inside hooks only kv_committer_sync is
 *            allowed: it knows that it leads. room may wait for another thread (a flush), but not for one that itself
 *            waits for commit, sync or exclusive: with a weak durability sync the log inside room, before a memtable is
 *            handed to a flush.
 *
 * Failure    KV_UNKNOWN_OUTCOME makes the committer read-only for good; see kv_committer_health.
 */
#ifndef KV_COMMIT_H
#define KV_COMMIT_H

#include "kvcore/db/batch.h"
#include "kvcore/db/log.h"

struct kv_committer;

/* Keys of one space, both ends included. */
struct kv_key_span {
    uint32_t space; /* as in batches */
    kv_slice first, last;
};
/* What will become visible with a version that is given out: a commit's batch, or what an exclusive run
 * installs (span NULL there: anything). */
struct kv_pending {
    uint64_t seq;
    kv_slice batch;
    bool installs;
    const struct kv_key_span *span;
};

struct kv_committer_hooks {
    void *ctx;
    /* Before a group is logged: makes sure that apply cannot fail for `entries` puts and deletes of `bytes`
     * key and value bytes with sequences from first_seq on (switches the memtable, waits for a flush, ...).
     * Negative: the group fails so, nothing is stored. */
    kv_status (*room)(void *ctx, uint64_t first_seq, size_t entries, size_t bytes, struct kv_err *err);
    /* Logged (and synced): enter the batch. Negative is a broken promise: the commit answers
     * KV_UNKNOWN_OUTCOME, read-only from then on. */
    kv_status (*apply)(void *ctx, uint64_t seq, kv_slice batch);
    /* While *guarded is not 0: may the batch's entries be committed? Asked under the commit lock, in the step that queues
     * it; negative refuses the commit. NULL: never asked. */
    const _Atomic uint32_t *guarded;
    kv_status (*check)(void *ctx, kv_slice batch, struct kv_err *err);
    /* kv_options.apply; NULL: none. ctx above is not passed, record_ctx is. */
    kv_apply_fn record;
    void *record_ctx;
    /* It is visible from now on; before its commit is answered, in version order, by the leader. NULL: none. */
    void (*committed)(void *ctx, const struct kv_pending *pending);
    /* seq is visible from now on. NULL: none. */
    void (*published)(void *ctx, uint64_t seq);
    /* Writing stopped (code, text) or resumed (KV_OK): a full disk, or for good. NULL: none. */
    void (*health)(void *ctx, kv_status code, const char *text);
};

struct kv_committer_options {
    struct kv_log *log; /* started; borrowed; nobody else writes to it */
    struct kv_dir *dir;
    struct kv_clock *clock;
    const struct kv_logger *logger;
    enum kv_durability durability;
    uint32_t sync_interval_ms;
    uint64_t disk_reserve_bytes; /* 0: no floor, no reserve file */
    bool
        no_thread; /* KV_THREADS_NONE: commits and kv_committer_tick sync when due (KV_DURABILITY_INTERVAL), and calls
                       lead for commits that no thread waits for */
    uint32_t n_spaces;
    struct kv_committer_hooks hooks;
};
KV_MUST kv_status kv_committer_open(const struct kv_committer_options *options, struct kv_committer **out,
                                    struct kv_err *err);
/* Later commits answer KV_CLOSED; waits for those under way, syncs, frees. The log stays open. NULL is fine.
 */
kv_status kv_committer_close(struct kv_committer *committer, struct kv_err *err);

/* kv_commit without the database. */
KV_MUST kv_status kv_committer_commit(struct kv_committer *committer, struct kv_batch *batch,
                                      const struct kv_commit_options *options, uint64_t *seq,
                                      struct kv_err *err);

/*
 * A commit that depends on what it read: validate decides under the commit lock, in the same step in which the
 * version is given out and the commit is queued, so that nothing can come in between. It sees what is published
 * by reading the tree, and what has a version already but is not published yet by kv_committer_pending.
 * Negative refuses the commit (with *err), no version is used. It may take the view's lock and read tables, and
 * must not call the committer otherwise.
 */
struct kv_commit_guard {
    kv_status (*validate)(void *ctx, struct kv_err *err);
    void *ctx;
};
KV_MUST kv_status kv_committer_commit_guarded(struct kv_committer *committer, struct kv_batch *batch,
                                              const struct kv_commit_options *options,
                                              const struct kv_commit_guard *guard, uint64_t *seq,
                                              struct kv_err *err);
/*
 * A commit that no thread waits for: KV_OK once it is queued; done is then called once, and the batch is empty. Otherwise
 * nothing has happened, KV_BUSY: too many wait. guard may be NULL; it is asked now.
 */
KV_MUST kv_status kv_committer_commit_async(struct kv_committer *committer, struct kv_batch *batch,
                                            const struct kv_commit_options *options,
                                            const struct kv_commit_guard *guard, kv_committed_fn done,
                                            void *done_ctx, struct kv_err *err);
/* done is called as if it were a commit's, with KV_OK and version. */
KV_MUST kv_status kv_committer_call_async(struct kv_committer *committer, kv_committed_fn done,
                                          void *done_ctx, uint64_t version, struct kv_err *err);
/* Without threads: leads for commits that no thread waits for, one group, and calls back. KV_END: nothing waits. */
KV_MUST kv_status kv_committer_work(struct kv_committer *committer);

/* Only validates: nothing is written, no version is used. */
KV_MUST kv_status kv_committer_validate(struct kv_committer *committer, const struct kv_commit_guard *guard,
                                        struct kv_err *err);

/* Everything queued or being logged, in version order, until each answers other than KV_OK, which is returned.
 * From inside kv_commit_guard.validate only. */
kv_status kv_committer_pending(struct kv_committer *committer,
                               kv_status (*each)(void *ctx, const struct kv_pending *pending), void *ctx);

/* Everything answered so far becomes durable, whatever the durability. Also from inside a hook. */
KV_MUST kv_status kv_committer_sync(struct kv_committer *committer, struct kv_err *err);

/*
 * Runs `run` on this thread with no commit under way: after everything enqueued before it was published,
 * before anything later is logged. burn: an empty commit is logged and synced first, and its sequence is
 * handed to run (else 0): what run installs has that version, and it becomes visible when run has answered
 * (whatever it answered: the sequence is used up). run's answer is returned. Without burn it works on a
 * read-only database too. For: the version of a bulk load, switching memtables, rolling the log;
 * with run NULL only to wait until what was enqueued before is published.
 */
KV_MUST kv_status kv_committer_exclusive(struct kv_committer *committer, bool burn,
                                         kv_status (*run)(void *ctx, uint64_t seq, struct kv_err *err),
                                         void *ctx, struct kv_err *err);

/* kv_committer_exclusive with a burnt sequence, for a run that installs keys of the span (which lives until it
 * returns) and nothing else. */
KV_MUST kv_status kv_committer_install(struct kv_committer *committer, const struct kv_key_span *span,
                                       kv_status (*run)(void *ctx, uint64_t seq, struct kv_err *err),
                                       void *ctx, struct kv_err *err);

/* The newest sequence that is visible. Wait-free. */
uint64_t kv_committer_visible(const struct kv_committer *committer);
/* KV_OK while commits are accepted; else the code and text of what stopped them (KV_NO_SPACE resumes by
 * itself). */
kv_status kv_committer_health(struct kv_committer *committer, struct kv_err *err);
/* KV_NO_SPACE: the disk has less free than commits need. For who writes much beside them. */
KV_MUST kv_status kv_committer_floor(const struct kv_committer *committer, struct kv_err *err);
/* Gives the reserve file's space to whoever needs it to free more (a flush that met KV_NO_SPACE); it comes
 * back by itself. */
void kv_committer_release_reserve(struct kv_committer *committer);
/* Background duties without a thread: syncs when the interval is due, notices freed space. Cheap; any thread,
 * any time. */
KV_MUST kv_status kv_committer_tick(struct kv_committer *committer, struct kv_err *err);

struct kv_committer_stats {
    uint64_t commits, groups, record_bytes, batch_bytes, refused_no_space;
    uint64_t group_max; /* most commits in one group */
};
void kv_committer_stats(struct kv_committer *committer, struct kv_committer_stats *out);

enum { KV_RESERVE_BYTES_MAX = 16 << 20 };
#define KV_RESERVE_NAME                                                                                      \
    "reserve" /* the file that holds space for a flush on a full disk; not to be swept as unknown */

#endif
