/*
 * reads.h - what readers of a database count, at next to no cost: each thread has a stripe of its own (threads past
 * KV_THREAD_PLACES share), in lines of memory that no other thread writes, and adds without locked instructions.
 *
 * Threads    any. Where two threads share a stripe a few counts may be lost; a sum taken meanwhile is a moment old.
 * Ownership  the database's: it outlives tables and iterators.
 */
#ifndef KV_READS_H
#define KV_READS_H

#include "kvcore/base/status.h"
#include "kvcore/os/thread.h"

#include <stdatomic.h>

/* What is stored is what costs least to count: mostly one add a kv_get. kv_reads_total makes of it what people ask for. */

/* Of the tables of one level. */
struct kv_reads_level {
    _Atomic uint64_t found;    /* lookups that came back with an entry */
    _Atomic uint64_t filtered; /* that its filter answered: the key is not there */
    _Atomic uint64_t missed;   /* that looked into its blocks in vain: rare where there is a filter */
};
struct kv_reads_stripe {
    _Alignas(64) _Atomic uint64_t memtable_hits; /* gets that a memtable had an entry for */
    _Atomic uint64_t memtables_more;             /* memtables asked by gets behind the first one */
    _Atomic uint64_t twice;                      /* entries found in tables by gets that had one already */
    _Atomic uint64_t nowhere;                    /* gets that found no entry at all */
    _Atomic uint64_t hidden; /* gets that found one, but no value: a deletion, expired, an error */
    _Atomic uint64_t values, value_bytes; /* of the value log that were handed out */
    _Atomic uint64_t blocks;              /* read from table files, */
    _Atomic uint64_t bytes;               /* as stored */
};
struct kv_reads {
    uint8_t *stripes; /* by kv_thread_place: nobody writes the first */
    size_t stride;    /* bytes of a stripe with its levels, struct kv_reads_level, behind it */
    size_t n_levels;
    _Atomic uint64_t damage_seen; /* rare: shared */
};

KV_MUST kv_status kv_reads_init(struct kv_reads *reads, size_t n_levels);
void kv_reads_release(struct kv_reads *reads); /* {0} is fine */

static inline struct kv_reads_stripe *kv_reads_stripe_at(const struct kv_reads *reads, size_t i)
{
    return (struct kv_reads_stripe *)(void *)(reads->stripes + i * reads->stride);
}
/* The calling thread's. */
static inline struct kv_reads_stripe *kv_reads_mine(const struct kv_reads *reads)
{
    return kv_reads_stripe_at(reads, kv_thread_place());
}
/* Where the counters of a level lie behind the start of each stripe. */
static inline uint32_t kv_reads_offset(size_t level)
{
    return (uint32_t)(sizeof(struct kv_reads_stripe) + level * sizeof(struct kv_reads_level));
}
static inline struct kv_reads_level *kv_reads_level_at(struct kv_reads_stripe *stripe, uint32_t offset)
{
    return (struct kv_reads_level *)(void *)((uint8_t *)stripe + offset);
}
static inline void kv_reads_add(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
                          memory_order_relaxed);
}
/* reads NULL: not counted. */
static inline void kv_reads_block(const struct kv_reads *reads, uint64_t bytes)
{
    if (!reads)
        return;
    struct kv_reads_stripe *mine = kv_reads_mine(reads);
    kv_reads_add(&mine->blocks, 1);
    kv_reads_add(&mine->bytes, bytes);
}

struct kv_reads_sum {
    uint64_t gets, found, memtables, memtable_hits, blocks, bytes, values, value_bytes;
};
struct kv_reads_level_sum {
    uint64_t filtered, asked, found;
};
void kv_reads_total(const struct kv_reads *reads, struct kv_reads_sum *out);
/* Of n levels from `first` on together. */
void kv_reads_level_total(const struct kv_reads *reads, size_t first, size_t n,
                          struct kv_reads_level_sum *out);

#endif
