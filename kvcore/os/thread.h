/*
 * thread.h - mutex, condition, reader-writer lock, thread: pthreads behind names that cannot fail half-way.
 * A failing lock operation is a bug in this program and asserts; only kv_thread_start can fail.
 */
#ifndef KV_THREAD_H
#define KV_THREAD_H

#include "kvcore/base/status.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kv_mutex {
    pthread_mutex_t m;
} kv_mutex;
typedef struct kv_cond {
    pthread_cond_t c;
} kv_cond;
typedef struct kv_rwlock {
    pthread_rwlock_t l;
} kv_rwlock;
typedef struct kv_thread {
    pthread_t t;
    bool started;
} kv_thread;

void kv_mutex_init(kv_mutex *mutex);
void kv_mutex_release(kv_mutex *mutex);
void kv_mutex_lock(kv_mutex *mutex);
bool kv_mutex_try_lock(kv_mutex *mutex);
void kv_mutex_unlock(kv_mutex *mutex);

void kv_cond_init(kv_cond *cond);
void kv_cond_release(kv_cond *cond);
/* May wake without a reason, as POSIX says: call in a loop over the predicate. */
void kv_cond_wait(kv_cond *cond, kv_mutex *mutex);
/* False when timeout_ns passed (CLOCK_MONOTONIC). */
bool kv_cond_wait_for(kv_cond *cond, kv_mutex *mutex, uint64_t timeout_ns);
void kv_cond_signal(kv_cond *cond);
void kv_cond_broadcast(kv_cond *cond);

void kv_rwlock_init(kv_rwlock *lock);
void kv_rwlock_release(kv_rwlock *lock);
void kv_rwlock_read(kv_rwlock *lock);
void kv_rwlock_write(kv_rwlock *lock);
void kv_rwlock_unlock(kv_rwlock *lock);

/* name: at most 15 bytes, seen in ps and gdb. stack_bytes 0: 512 KiB. KV_NO_MEMORY or KV_LIMIT when the
 * system refuses. */
KV_MUST kv_status kv_thread_start(kv_thread *thread, const char *name, size_t stack_bytes,
                                  void (*run)(void *ctx), void *ctx);
/* A small number of the calling thread, 1 to KV_THREAD_PLACES, dealt out in turns: to give threads places of their own
 * among a few. */
enum { KV_THREAD_PLACES = 32 };
#define KV_THREAD_LOCAL_FAST _Thread_local __attribute__((tls_model("initial-exec")))
extern KV_THREAD_LOCAL_FAST size_t kv_thread_place_here; /* 0: has none yet */
size_t kv_thread_place_take(void);
static inline size_t kv_thread_place(void)
{
    size_t place = kv_thread_place_here;
    return __builtin_expect(place != 0, 1) ? place : kv_thread_place_take();
}
/* Waits until run returned. A thread never started is fine; twice is fine. */
void kv_thread_join(kv_thread *thread);

#endif
