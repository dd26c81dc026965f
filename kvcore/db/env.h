/*
 * env.h - what databases of one process share: vfs, clock, logger, block cache and background workers. Public
 * half: kv.h.
 *
 * A job is one database's background work. Kicking it queues it; a worker then runs it, one piece after
 * another, until it says that nothing is left. One worker at a time runs a job; different jobs run side by
 * side.
 * Threads    any. Locks the environment's mutex is the innermost of all: no job runs and nothing is called
 *            under it.
 */
#ifndef KV_ENV_H
#define KV_ENV_H

#include "kvcore/base/list.h"
#include "kvcore/kv.h"
#include "kvcore/os/clock.h"
#include "kvcore/os/thread.h"
#include "kvcore/os/vfs.h"
#include "kvcore/sst/cache.h"

enum { KV_ENV_THREADS_MAX = 64 };

struct kv_env_job {
    struct kv_list link;    /* in the queue while queued */
    bool (*run)(void *ctx); /* does one piece; true: there may be more */
    void *ctx;
    bool queued, running, again, stopped;
};

struct kv_env {
    struct kv_vfs *vfs;
    struct kv_clock *clock;
    struct kv_logger log;
    struct kv_cache *cache;
    int n_threads; /* 0: none */
    kv_thread threads[KV_ENV_THREADS_MAX];
    kv_mutex mutex;
    kv_cond work, idle; /* something was queued or the end has come; a job was left */
    struct kv_list queue;
    bool stopping;
};

void kv_env_job_init(struct kv_env_job *job, bool (*run)(void *ctx), void *ctx);
void kv_env_job_kick(struct kv_env *env, struct kv_env_job *job);
/* Waits for a piece under way; the job never runs again. */
void kv_env_job_stop(struct kv_env *env, struct kv_env_job *job);

#endif
