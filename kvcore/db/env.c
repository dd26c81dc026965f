#include "kvcore/db/env.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"

#include <stdio.h>

enum { ENV_CACHE_BYTES = 64 << 20 };

static struct kv_env_job *env_take(struct kv_env *env)
{
    while (!env->stopping && kv_list_empty(&env->queue))
        kv_cond_wait(&env->work, &env->mutex);
    if (env->stopping)
        return NULL;
    struct kv_env_job *job = KV_CONTAINER(env->queue.next, struct kv_env_job, link);
    kv_list_remove(&job->link);
    job->queued = false;
    job->running = true;
    return job;
}

static void env_put_back(struct kv_env *env, struct kv_env_job *job, bool more)
{
    job->running = false;
    if ((more || job->again) && !job->stopped) {
        job->queued = true;
        kv_list_push_back(&env->queue, &job->link);
        kv_cond_signal(&env->work);
    }
    job->again = false;
    kv_cond_broadcast(&env->idle);
}

static void env_worker(void *ctx)
{
    struct kv_env *env = ctx;
    kv_mutex_lock(&env->mutex);
    for (struct kv_env_job *job; (job = env_take(env));) {
        kv_mutex_unlock(&env->mutex);
        bool more = job->run(job->ctx);
        kv_mutex_lock(&env->mutex);
        env_put_back(env, job, more);
    }
    kv_mutex_unlock(&env->mutex);
}

void kv_env_job_init(struct kv_env_job *job, bool (*run)(void *ctx), void *ctx)
{
    *job = (struct kv_env_job){.run = run, .ctx = ctx};
    kv_list_init(&job->link);
}

void kv_env_job_kick(struct kv_env *env, struct kv_env_job *job)
{
    if (env->n_threads == 0)
        return;
    kv_mutex_lock(&env->mutex);
    if (job->running) {
        job->again = true;
    } else if (!job->queued && !job->stopped) {
        job->queued = true;
        kv_list_push_back(&env->queue, &job->link);
        kv_cond_signal(&env->work);
    }
    kv_mutex_unlock(&env->mutex);
}

void kv_env_job_stop(struct kv_env *env, struct kv_env_job *job)
{
    kv_mutex_lock(&env->mutex);
    job->stopped = true;
    if (job->queued) {
        kv_list_remove(&job->link);
        job->queued = false;
    }
    while (job->running)
        kv_cond_wait(&env->idle, &env->mutex);
    kv_mutex_unlock(&env->mutex);
}

kv_status kv_env_open(const struct kv_env_options *options, struct kv_env **out, struct kv_err *err)
{
    const struct kv_env_options none = {0};
    const struct kv_env_options *asked = options ? options : &none;
    if (asked->threads < KV_THREADS_NONE || asked->threads > KV_ENV_THREADS_MAX)
        return kv_fail(err, KV_INVALID, 0, "threads: %d is not -1 to %d", asked->threads, KV_ENV_THREADS_MAX);
    struct kv_env *env = kv_zalloc(1, sizeof *env);
    if (!env)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory opening an environment");
    env->vfs = asked->vfs ? asked->vfs : kv_vfs_posix();
    env->clock = asked->clock ? asked->clock : kv_clock_system();
    env->log = asked->log;
    kv_mutex_init(&env->mutex);
    kv_cond_init(&env->work);
    kv_cond_init(&env->idle);
    kv_list_init(&env->queue);
    kv_status rc = kv_cache_new(asked->cache_bytes ? asked->cache_bytes : ENV_CACHE_BYTES, &env->cache);
    if (rc < 0)
        kv_fail(err, rc, 0, "out of memory making the block cache");
    int threads = asked->threads == KV_THREADS_NONE ? 0 : asked->threads == 0 ? 1 : asked->threads;
    for (int i = 0; i < threads && rc == KV_OK; i++) {
        char name[16];
        snprintf(name, sizeof name, "kv-work%u", (unsigned)i % 100);
        rc = kv_thread_start(&env->threads[i], name, 0, env_worker, env);
        if (rc == KV_OK)
            env->n_threads++;
        else
            kv_fail(err, rc, 0, "starting background thread %d failed", i);
    }
    if (rc < 0) {
        kv_env_close(env);
        return rc;
    }
    *out = env;
    return KV_OK;
}

void kv_env_close(struct kv_env *env)
{
    if (!env)
        return;
    kv_mutex_lock(&env->mutex);
    KV_ASSERT(kv_list_empty(&env->queue)); /* every database is closed */
    env->stopping = true;
    kv_cond_broadcast(&env->work);
    kv_mutex_unlock(&env->mutex);
    for (int i = 0; i < env->n_threads; i++)
        kv_thread_join(&env->threads[i]);
    kv_cache_free(env->cache);
    kv_cond_release(&env->work);
    kv_cond_release(&env->idle);
    kv_mutex_release(&env->mutex);
    kv_free(env);
}

struct kv_clock *kv_env_clock(struct kv_env *env)
{
    return env->clock;
}

const struct kv_logger *kv_env_log(struct kv_env *env)
{
    return &env->log;
}

int kv_env_threads(const struct kv_env *env)
{
    return env->n_threads ? env->n_threads : KV_THREADS_NONE;
}
