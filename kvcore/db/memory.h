/*
 * memory.h - one budget over what the databases of an environment keep in memory: memtables, and the cache with the
 * indexes and filters pinned in it. kv_env_options.memory_bytes; 0: no budget, each part has its own bound.
 *
 * Who gives way first: the cache has what the memtables leave of the budget, down to an eighth. When the memtables being
 * written have three eighths of it, the largest of them, of whichever database, is flushed early. When all memtables,
 * those that wait for a flush and those that only readers hold included, have three quarters, commits wait for
 * flushes, as they do when memtables_waiting is at its most; at most a second each, should the disk refuse.
 *
 * Threads    any. The mutex is taken outside of a database's locks only, and nothing is called under it but `give`,
 *            which takes the environment's mutex alone.
 */
#ifndef KV_DB_MEMORY_H
#define KV_DB_MEMORY_H

#include "kvcore/base/list.h"
#include "kvcore/os/thread.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct kv_cache;

struct kv_memory {
    uint64_t bytes_max;          /* 0: no budget */
    struct kv_cache *cache;      /* the environment's */
    _Atomic uint64_t cache_most; /* what the cache was asked to have at most; kv_env_set_cache_bytes */
    _Atomic uint64_t memtables;  /* heap bytes of all that live, whoever reads them */
    _Atomic uint64_t peak;       /* most of memtables and cache together, when it was looked */
    kv_mutex mutex;
    struct kv_list tenants;
};
/* A database that writes. */
struct kv_memory_tenant {
    struct kv_list link;
    _Atomic uint64_t active; /* bytes of the memtable being written that are worth flushing; 0: none */
    void (*give)(void *ctx); /* asks for that to be flushed soon; must not wait */
    void *ctx;
};

void kv_memory_init(struct kv_memory *memory, uint64_t bytes_max, uint64_t cache_most,
                    struct kv_cache *cache);
void kv_memory_release(struct kv_memory *memory);
void kv_memory_join(struct kv_memory *memory, struct kv_memory_tenant *tenant);
void kv_memory_leave(struct kv_memory *memory, struct kv_memory_tenant *tenant); /* not joined: fine */

/* The cache is to have so much at most. */
void kv_memory_cache(struct kv_memory *memory, uint64_t bytes);
/* Gives the cache what is left. Cheap when little has changed. */
void kv_memory_settle(struct kv_memory *memory);
/* Before `bytes` more go to self's memtable: true when that should be flushed early. Asks another if its is the larger. */
bool kv_memory_presses(struct kv_memory *memory, struct kv_memory_tenant *self, uint64_t bytes);
/* Would `bytes` more be more than memtables may have? */
bool kv_memory_full(struct kv_memory *memory, uint64_t bytes);

#endif
