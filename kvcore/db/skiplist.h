/*
 * skiplist.h - one space's newest entries, in the order of kvcore/sst/entry.h.
 *
 * Algorithm: skip list (Pugh 1990), branching 4, at most KV_SKIPLIST_HEIGHT levels, nodes in the memtable's
 * arena, never removed. Invariants: (1) a node's key, version and value never change once it is linked; (2) a
 * node is linked from level 0 up with release stores, and readers load links with acquire, so a reader that
 * sees a node sees all of it; (3) level i's list is a part of level i-1's; (4) a chain of its own leads from the node inserted
 * last to the first one. Where a key lies close behind the one inserted last, its search begins there (a finger): sorted
 * batches and loads take a few comparisons an entry.
 * Threads    one writer at a time (the caller's lock); any number of readers beside it, without locks.
 * Ownership  everything lives in the arena.
 * Failure    KV_NO_MEMORY from insert only.
 */
#ifndef KV_SKIPLIST_H
#define KV_SKIPLIST_H

#include "kvcore/base/arena.h"
#include "kvcore/base/prng.h"
#include "kvcore/sst/entry.h"

#include <stdatomic.h>

enum { KV_SKIPLIST_HEIGHT = 12 };

struct kv_skipnode;
struct kv_skiplist {
    struct kv_skipnode *head;
    _Atomic(struct kv_skipnode *) last; /* inserted; NULL: none */
    _Atomic int height;
    struct kv_prng prng;
    struct kv_skipnode
        *near[KV_SKIPLIST_HEIGHT]; /* the writer's: on each level the last node that is not behind the
                                                     one inserted last */
};

KV_MUST kv_status kv_skiplist_init(struct kv_skiplist *list, struct kv_arena *arena, uint64_t seed);
/* The most arena bytes one insert takes. */
size_t kv_skiplist_node_bytes_max(size_t key_len, size_t value_len);
/* Copies the entry. KV_EXISTS if (key, version) is there already: nothing changes. */
KV_MUST kv_status kv_skiplist_insert(struct kv_skiplist *list, struct kv_arena *arena,
                                     const struct kv_entry *entry);
/* The first node at or after (key, version); NULL when there is none. */
const struct kv_skipnode *kv_skiplist_seek(const struct kv_skiplist *list, kv_slice key, uint64_t version);
/* The last node before (key, version), key empty: of all; NULL when there is none. O(log n). */
const struct kv_skipnode *kv_skiplist_before(const struct kv_skiplist *list, kv_slice key, uint64_t version);
/* About how many nodes lie in [lower, upper) (empty: unbounded): those of the highest level that has enough of them to tell. */
uint64_t kv_skiplist_estimate(const struct kv_skiplist *list, kv_slice lower, kv_slice upper);
const struct kv_skipnode *kv_skiplist_next(const struct kv_skipnode *node);
/* The node behind this one will be wanted soon. */
void kv_skiplist_prefetch(const struct kv_skipnode *node);
/* The node that was inserted before `node`; node NULL: the one inserted last. NULL: there is none. */
const struct kv_skipnode *kv_skiplist_inserted(const struct kv_skiplist *list,
                                               const struct kv_skipnode *node);
/* Slices are good as long as the arena. */
void kv_skiplist_entry(const struct kv_skipnode *node, struct kv_entry *out);

#endif
