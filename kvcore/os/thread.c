#include "kvcore/os/thread.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

enum { THREAD_STACK_DEFAULT = 512 * 1024, THREAD_NAME_MAX = 15 };

void kv_mutex_init(kv_mutex *mutex)
{
    KV_ASSERT(pthread_mutex_init(&mutex->m, NULL) == 0);
}

void kv_mutex_release(kv_mutex *mutex)
{
    KV_ASSERT(pthread_mutex_destroy(&mutex->m) == 0);
}

void kv_mutex_lock(kv_mutex *mutex)
{
    KV_ASSERT(pthread_mutex_lock(&mutex->m) == 0);
}

bool kv_mutex_try_lock(kv_mutex *mutex)
{
    int rc = pthread_mutex_trylock(&mutex->m);
    KV_ASSERT(rc == 0 || rc == EBUSY);
    return rc == 0;
}

void kv_mutex_unlock(kv_mutex *mutex)
{
    KV_ASSERT(pthread_mutex_unlock(&mutex->m) == 0);
}

void kv_cond_init(kv_cond *cond)
{
    pthread_condattr_t attr;
    KV_ASSERT(pthread_condattr_init(&attr) == 0);
    KV_ASSERT(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    KV_ASSERT(pthread_cond_init(&cond->c, &attr) == 0);
    pthread_condattr_destroy(&attr);
}

void kv_cond_release(kv_cond *cond)
{
    KV_ASSERT(pthread_cond_destroy(&cond->c) == 0);
}

void kv_cond_wait(kv_cond *cond, kv_mutex *mutex)
{
    KV_ASSERT(pthread_cond_wait(&cond->c, &mutex->m) == 0);
}

bool kv_cond_wait_for(kv_cond *cond, kv_mutex *mutex, uint64_t timeout_ns)
{
    enum { NS = 1000000000 };
    struct timespec until;
    KV_ASSERT(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    uint64_t seconds = timeout_ns / NS;
    if (seconds > INT32_MAX) /* decades: far enough, and no overflow */
        seconds = INT32_MAX;
    until.tv_sec += (time_t)seconds;
    until.tv_nsec += (long)(timeout_ns % NS);
    if (until.tv_nsec >= NS) {
        until.tv_sec++;
        until.tv_nsec -= NS;
    }
    int rc = pthread_cond_timedwait(&cond->c, &mutex->m, &until);
    KV_ASSERT(rc == 0 || rc == ETIMEDOUT);
    return rc == 0;
}

void kv_cond_signal(kv_cond *cond)
{
    KV_ASSERT(pthread_cond_signal(&cond->c) == 0);
}

void kv_cond_broadcast(kv_cond *cond)
{
    KV_ASSERT(pthread_cond_broadcast(&cond->c) == 0);
}

void kv_rwlock_init(kv_rwlock *lock)
{
    KV_ASSERT(pthread_rwlock_init(&lock->l, NULL) == 0);
}

void kv_rwlock_release(kv_rwlock *lock)
{
    KV_ASSERT(pthread_rwlock_destroy(&lock->l) == 0);
}

void kv_rwlock_read(kv_rwlock *lock)
{
    KV_ASSERT(pthread_rwlock_rdlock(&lock->l) == 0);
}

void kv_rwlock_write(kv_rwlock *lock)
{
    KV_ASSERT(pthread_rwlock_wrlock(&lock->l) == 0);
}

void kv_rwlock_unlock(kv_rwlock *lock)
{
    KV_ASSERT(pthread_rwlock_unlock(&lock->l) == 0);
}

struct thread_start {
    void (*run)(void *ctx);
    void *ctx;
    char name[THREAD_NAME_MAX + 1];
};

static void *thread_main(void *arg)
{
    struct thread_start start = *(struct thread_start *)arg;
    kv_free(arg);
    (void)pthread_setname_np(pthread_self(), start.name); /* only for people; it may fail */
    start.run(start.ctx);
    return NULL;
}

/* Signals stay with the threads the program made itself, so new ones start with all of them blocked. */
static int thread_create(pthread_t *t, const pthread_attr_t *attr, struct thread_start *start)
{
    sigset_t all, before;
    sigfillset(&all);
    KV_ASSERT(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    int rc = pthread_create(t, attr, thread_main, start);
    KV_ASSERT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    return rc;
}

kv_status kv_thread_start(kv_thread *thread, const char *name, size_t stack_bytes, void (*run)(void *ctx),
                          void *ctx)
{
    thread->started = false;
    struct thread_start *start = kv_alloc(sizeof *start);
    if (!start)
        return KV_NO_MEMORY;
    *start = (struct thread_start){.run = run, .ctx = ctx};
    strncpy(start->name, name, THREAD_NAME_MAX);
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0) {
        kv_free(start);
        return KV_NO_MEMORY;
    }
    size_t bytes = stack_bytes ? stack_bytes : THREAD_STACK_DEFAULT;
    if (bytes < (size_t)PTHREAD_STACK_MIN)
        bytes = (size_t)PTHREAD_STACK_MIN;
    KV_ASSERT(pthread_attr_setstacksize(&attr, bytes) == 0);
    int rc = thread_create(&thread->t, &attr, start);
    pthread_attr_destroy(&attr);
    if (rc != 0) {
        kv_free(start);
        return rc == EAGAIN ? KV_LIMIT : KV_NO_MEMORY;
    }
    thread->started = true;
    return KV_OK;
}

KV_THREAD_LOCAL_FAST size_t kv_thread_place_here;

size_t kv_thread_place_take(void)
{
    static _Atomic uint32_t taken;
    uint32_t turn = atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
    return kv_thread_place_here = turn % KV_THREAD_PLACES + 1;
}

void kv_thread_join(kv_thread *thread)
{
    if (!thread->started)
        return;
    KV_ASSERT(pthread_join(thread->t, NULL) == 0);
    thread->started = false;
}
