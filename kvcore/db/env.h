/*
 * env.h - what databases of one process share: vfs, clock, logger, block cache and background workers. Public
 * half: kv.h.
 *
 * A job is one kind of a database's background work. Kicking it queues it; a worker then runs it, one piece
 * after another, until it says that nothing is left. At most `width` workers run a job at once; different jobs
 * run side by side. Urgent jobs (flushes) go first, and with two workers or more one is always left to them:
 * slow ones (merges) never take the last. A job can also be kicked at a time to come (kv_env_job_at). Idle jobs
 * (maintenance) run one after another on a thread of their own, so that they may take their time.
 *
 * The pace (kv_env_pace_*) is a bucket of bytes that background writes draw from: it fills at
 * background_bytes_per_s and holds at most a quarter of a second of it. Urgent work takes without waiting, if
 * need be on credit; slow work waits until the bucket is no longer empty.
 * Threads    any. Locks the environment's mutex and the pace's are the innermost of all: no job runs and
 *            nothing is called under them.
 */
#ifndef KV_ENV_H
#define KV_ENV_H

#include "kvcore/base/list.h"
#include "kvcore/db/memory.h"
#include "kvcore/kv.h"
#include "kvcore/os/clock.h"
#include "kvcore/os/thread.h"
#include "kvcore/os/vfs.h"
#include "kvcore/sst/cache.h"

enum { KV_ENV_THREADS_MAX = 64 };

struct kv_env_job {
    struct kv_list link;    /* in its queue while queued */
    bool (*run)(void *ctx); /* does one piece; true: there may be more */
    void *ctx;
    bool slow;
    bool idle; /* run by the maintenance thread (kv_env_maintain); set after init */
    int width, running;
    bool queued, again, stopped;
    struct kv_list timed; /* in env->timed while due_ns is set */
    uint64_t due_ns;      /* 0: not waiting for a time */
};
struct kv_env_pace {
    kv_mutex mutex;
    uint64_t bytes_per_s; /* 0: no limit */
    int64_t left;
    uint64_t filled_ns;
};

struct kv_env {
    struct kv_vfs *vfs;
    struct kv_vfs *in_memory; /* owned; NULL: it is not */
    struct kv_clock *clock;
    struct kv_logger log;
    struct kv_cache *cache;
    struct kv_memory memory;
    int n_threads; /* 0: none */
    kv_thread threads[KV_ENV_THREADS_MAX];
    kv_thread maintenance; /* started when a database asks for it */
    kv_mutex mutex;
    kv_cond work, idle;                     /* something was queued or the end has come; a job was left */
    kv_cond idle_work;                      /* the same, of idle jobs */
    struct kv_list urgent, slow, idle_jobs; /* queues */
    struct kv_list timed;                   /* jobs that are kicked at a time to come */
    int slow_running, slow_max;
    bool stopping;
    struct kv_env_pace pace;
};

/* width: 1 for urgent jobs. */
void kv_env_job_init(struct kv_env_job *job, bool slow, int width, bool (*run)(void *ctx), void *ctx);
void kv_env_job_kick(struct kv_env *env, struct kv_env_job *job);
/* Kicks it at that time of the environment's monotonic clock; takes the place of an earlier call. 0: never. */
void kv_env_job_at(struct kv_env *env, struct kv_env_job *job, uint64_t mono_ns);
/* Starts the thread that idle jobs run on, unless it runs; without threads there is none. KV_NO_MEMORY, KV_LIMIT. */
KV_MUST kv_status kv_env_maintain(struct kv_env *env, struct kv_err *err);
/* Waits for the pieces under way; the job never runs again. */
void kv_env_job_stop(struct kv_env *env, struct kv_env_job *job);

/* Urgent work wrote so many bytes. */
void kv_env_pace_take(struct kv_env *env, uint64_t bytes);
/* Slow work wrote so many bytes: waits its share, until *stop at the latest (looked at ten times a second). */
void kv_env_pace_wait(struct kv_env *env, uint64_t bytes, const _Atomic bool *stop);

#endif
