#include "kvcore/db/env.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"

#include <inttypes.h>
#include <stdio.h>

enum { ENV_CACHE_BYTES = 64 << 20, ENV_THREADS = 2 };

/* ---- jobs */

static struct kv_list *queue_of(struct kv_env *env, const struct kv_env_job *job)
{
    return job->idle ? &env->idle_jobs : job->slow ? &env->slow : &env->urgent;
}

static void env_enqueue(struct kv_env *env, struct kv_env_job *job)
{
    job->queued = true;
    kv_list_push_back(queue_of(env, job), &job->link);
    kv_cond_signal(job->idle ? &env->idle_work : &env->work);
}

/* NULL: nothing may be taken now. */
static struct kv_list *env_next(struct kv_env *env, bool idle)
{
    if (idle)
        return kv_list_empty(&env->idle_jobs) ? NULL : &env->idle_jobs;
    if (!kv_list_empty(&env->urgent))
        return &env->urgent;
    return !kv_list_empty(&env->slow) && env->slow_running < env->slow_max ? &env->slow : NULL;
}

static void env_kick(struct kv_env *env, struct kv_env_job *job)
{
    if (job->running == job->width)
        job->again = true;
    else if (!job->queued && !job->stopped)
        env_enqueue(env, job);
}

static void env_untime(struct kv_env_job *job)
{
    if (job->due_ns)
        kv_list_remove(&job->timed);
    job->due_ns = 0;
}

/* Kicks what is due; answers the nanoseconds until the next one is, UINT64_MAX: none waits. */
static uint64_t env_kick_due(struct kv_env *env)
{
    uint64_t now = kv_list_empty(&env->timed) ? 0 : kv_clock_mono_ns(env->clock), next = UINT64_MAX;
    for (struct kv_list *at = env->timed.next, *after; at != &env->timed; at = after) {
        struct kv_env_job *job = KV_CONTAINER(at, struct kv_env_job, timed);
        after = at->next;
        if (job->due_ns <= now) {
            env_untime(job);
            env_kick(env, job);
        } else if (job->due_ns - now < next) {
            next = job->due_ns - now;
        }
    }
    return next;
}

static struct kv_env_job *env_take(struct kv_env *env, bool idle)
{
    kv_cond *work = idle ? &env->idle_work : &env->work;
    struct kv_list *queue;
    while (!env->stopping) {
        uint64_t next = env_kick_due(env);
        if ((queue = env_next(env, idle)))
            break;
        if (next == UINT64_MAX)
            kv_cond_wait(work, &env->mutex);
        else
            kv_cond_wait_for(work, &env->mutex, next);
    }
    if (env->stopping)
        return NULL;
    struct kv_env_job *job = KV_CONTAINER(queue->next, struct kv_env_job, link);
    kv_list_remove(&job->link);
    job->queued = false;
    job->running++;
    env->slow_running += job->slow;
    return job;
}

static void env_put_back(struct kv_env *env, struct kv_env_job *job, bool more)
{
    job->running--;
    env->slow_running -= job->slow;
    if ((more || job->again) && !job->stopped && !job->queued)
        env_enqueue(env, job);
    else if (!kv_list_empty(&env->slow))
        kv_cond_signal(&env->work); /* one more slow job may run now */
    job->again = false;
    kv_cond_broadcast(&env->idle);
}

static void env_run(struct kv_env *env, bool idle)
{
    kv_mutex_lock(&env->mutex);
    for (struct kv_env_job *job; (job = env_take(env, idle));) {
        kv_mutex_unlock(&env->mutex);
        bool more = job->run(job->ctx);
        kv_mutex_lock(&env->mutex);
        env_put_back(env, job, more);
    }
    kv_mutex_unlock(&env->mutex);
}

static void env_worker(void *ctx)
{
    env_run(ctx, false);
}

static void env_maintainer(void *ctx)
{
    env_run(ctx, true);
}

void kv_env_job_init(struct kv_env_job *job, bool slow, int width, bool (*run)(void *ctx), void *ctx)
{
    *job = (struct kv_env_job){.run = run, .ctx = ctx, .slow = slow, .width = width};
    kv_list_init(&job->link);
    kv_list_init(&job->timed);
}

void kv_env_job_kick(struct kv_env *env, struct kv_env_job *job)
{
    if (env->n_threads == 0)
        return;
    kv_mutex_lock(&env->mutex);
    env_kick(env, job);
    kv_mutex_unlock(&env->mutex);
}

void kv_env_job_at(struct kv_env *env, struct kv_env_job *job, uint64_t mono_ns)
{
    if (env->n_threads == 0)
        return;
    kv_mutex_lock(&env->mutex);
    env_untime(job);
    if (mono_ns && !job->stopped) {
        job->due_ns = mono_ns;
        kv_list_push_back(&env->timed, &job->timed);
        kv_cond_signal(job->idle ? &env->idle_work
                                 : &env->work); /* an idle thread waits for it from now on */
    }
    kv_mutex_unlock(&env->mutex);
}

kv_status kv_env_maintain(struct kv_env *env, struct kv_err *err)
{
    kv_status rc = KV_OK;
    kv_mutex_lock(&env->mutex);
    if (env->n_threads > 0 && !env->maintenance.started)
        rc = kv_thread_start(&env->maintenance, "kv-maint", 0, env_maintainer, env);
    kv_mutex_unlock(&env->mutex);
    return rc < 0 ? kv_fail(err, rc, 0, "starting the maintenance thread failed") : KV_OK;
}

void kv_env_job_stop(struct kv_env *env, struct kv_env_job *job)
{
    kv_mutex_lock(&env->mutex);
    job->stopped = true;
    env_untime(job);
    if (job->queued) {
        kv_list_remove(&job->link);
        job->queued = false;
    }
    while (job->running > 0)
        kv_cond_wait(&env->idle, &env->mutex);
    kv_mutex_unlock(&env->mutex);
}

/* ---- pace */

enum { PACE_BURST_SHARE = 4, PACE_LOOK_NS = 100000000 };

static void pace_fill(struct kv_env *env)
{
    struct kv_env_pace *pace = &env->pace;
    uint64_t now = kv_clock_mono_ns(env->clock), past = now - pace->filled_ns;
    int64_t most = (int64_t)(pace->bytes_per_s / PACE_BURST_SHARE) + 1;
    double more = (double)past * (double)pace->bytes_per_s / 1e9;
    if (more < 1)
        return; /* keep the fraction */
    pace->left = more + (double)pace->left > (double)most ? most : pace->left + (int64_t)more;
    pace->filled_ns = now;
}

/* Nanoseconds until the bucket is no longer empty. */
static uint64_t pace_draw(struct kv_env *env, uint64_t bytes)
{
    struct kv_env_pace *pace = &env->pace;
    kv_mutex_lock(&pace->mutex);
    pace_fill(env);
    pace->left -= (int64_t)bytes;
    int64_t owed = pace->left < 0 ? -pace->left : 0;
    kv_mutex_unlock(&pace->mutex);
    return (uint64_t)((double)owed * 1e9 / (double)pace->bytes_per_s);
}

void kv_env_pace_take(struct kv_env *env, uint64_t bytes)
{
    if (env->pace.bytes_per_s)
        (void)pace_draw(env, bytes);
}

void kv_env_pace_wait(struct kv_env *env, uint64_t bytes, const _Atomic bool *stop)
{
    if (env->pace.bytes_per_s == 0)
        return;
    for (uint64_t wait = pace_draw(env, bytes); wait > 0 && !*stop; wait = pace_draw(env, 0))
        kv_clock_sleep_ns(env->clock, wait < PACE_LOOK_NS ? wait : PACE_LOOK_NS);
}

/* ---- opening */

kv_status kv_env_open(const struct kv_env_options *options, struct kv_env **out, struct kv_err *err)
{
    const struct kv_env_options none = {0};
    const struct kv_env_options *asked = options ? options : &none;
    if (asked->threads < KV_THREADS_NONE || asked->threads > KV_ENV_THREADS_MAX)
        return kv_fail(err, KV_INVALID, 0, "threads: %d is not -1 to %d", asked->threads, KV_ENV_THREADS_MAX);
    if (asked->in_memory && asked->vfs)
        return kv_fail(err, KV_INVALID, 0, "in_memory: the environment has a vfs already");
    if (asked->memory_bytes && asked->memory_bytes < KV_MEMORY_BYTES_MIN)
        return kv_fail(err, KV_INVALID, 0, "memory_bytes: %" PRIu64 " is not 0 or at least %d",
                       asked->memory_bytes, KV_MEMORY_BYTES_MIN);
    struct kv_env *env = kv_zalloc(1, sizeof *env);
    if (env && asked->in_memory)
        env->in_memory = kv_vfs_mem_new();
    if (!env || (asked->in_memory && !env->in_memory)) {
        kv_free(env);
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory opening an environment");
    }
    env->vfs = asked->in_memory ? env->in_memory : asked->vfs ? asked->vfs : kv_vfs_posix();
    env->clock = asked->clock ? asked->clock : kv_clock_system();
    env->log = asked->log;
    kv_mutex_init(&env->mutex);
    kv_cond_init(&env->work);
    kv_cond_init(&env->idle);
    kv_cond_init(&env->idle_work);
    kv_list_init(&env->urgent);
    kv_list_init(&env->slow);
    kv_list_init(&env->idle_jobs);
    kv_list_init(&env->timed);
    kv_mutex_init(&env->pace.mutex);
    env->pace.bytes_per_s = asked->background_bytes_per_s;
    env->pace.filled_ns = kv_clock_mono_ns(env->clock);
    uint64_t cache = asked->cache_bytes    ? asked->cache_bytes
                     : asked->memory_bytes ? asked->memory_bytes
                                           : ENV_CACHE_BYTES;
    kv_status rc =
        kv_cache_new(asked->cache_bytes_most > cache ? asked->cache_bytes_most : cache, &env->cache);
    if (rc < 0)
        kv_fail(err, rc, 0, "out of memory making the block cache");
    else
        kv_memory_init(&env->memory, asked->memory_bytes, cache, env->cache);
    int threads = asked->threads == KV_THREADS_NONE ? 0 : asked->threads == 0 ? ENV_THREADS : asked->threads;
    env->slow_max = threads > 1 ? threads - 1 : 1;
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
    KV_ASSERT(kv_list_empty(&env->urgent) && kv_list_empty(&env->slow)); /* every database is closed */
    env->stopping = true;
    kv_cond_broadcast(&env->work);
    kv_cond_broadcast(&env->idle_work);
    kv_mutex_unlock(&env->mutex);
    kv_thread_join(&env->maintenance);
    for (int i = 0; i < env->n_threads; i++)
        kv_thread_join(&env->threads[i]);
    if (env->cache)
        kv_memory_release(&env->memory);
    kv_cache_free(env->cache);
    kv_vfs_mem_free(env->in_memory);
    kv_cond_release(&env->work);
    kv_cond_release(&env->idle);
    kv_cond_release(&env->idle_work);
    kv_mutex_release(&env->pace.mutex);
    kv_mutex_release(&env->mutex);
    kv_free(env);
}

struct kv_clock *kv_env_clock(struct kv_env *env)
{
    return env->clock;
}

void kv_env_set_cache_bytes(struct kv_env *env, uint64_t bytes)
{
    kv_memory_cache(&env->memory, bytes);
}

const struct kv_logger *kv_env_log(struct kv_env *env)
{
    return &env->log;
}

int kv_env_threads(const struct kv_env *env)
{
    return env->n_threads ? env->n_threads : KV_THREADS_NONE;
}
