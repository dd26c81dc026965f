/*
 * memtable.h - what was committed and is not yet in tables: one ordered tree per space, all in one arena.
 *
 * Threads    writers (reserve, add): one at a time, by the commit lock. Readers: any number beside the
 *            writer, no locks. What a reader may see is decided by the version it reads at, which is
 *            published after the adds.
 * Ownership  counted; slices out of it are good while a reference is held. Iterators hold one.
 * Failure    KV_NO_MEMORY from new, reserve, add, iter_open. After kv_memtable_reserve the adds it was made
 *            for cannot fail, so a commit reserves before it logs.
 */
#ifndef KV_MEMTABLE_H
#define KV_MEMTABLE_H

#include "kvcore/base/buf.h"
#include "kvcore/sst/entry.h"

#include <stdatomic.h>

struct kv_memtable;

KV_MUST kv_status kv_memtable_new(uint32_t n_spaces, struct kv_memtable **out);
/* Before the first add: its bytes (kv_memtable_bytes) are added to *account, and taken from it when it is freed. */
void kv_memtable_account(struct kv_memtable *memtable, _Atomic uint64_t *account);
/* Before the first add: a bloom filter of that many bytes, so that lookups of keys that are not there are cheap. Without
 * memory for it they are not. */
void kv_memtable_filter(struct kv_memtable *memtable, size_t bytes);
struct kv_memtable *kv_memtable_ref(struct kv_memtable *memtable);
void kv_memtable_unref(struct kv_memtable *memtable); /* NULL is fine */

/* Room for `entries` more, whose keys and values have `bytes` bytes together. */
KV_MUST kv_status kv_memtable_reserve(struct kv_memtable *memtable, size_t entries, size_t bytes);
/* Copies. The same (key, version) twice (a log replayed twice) changes nothing and is KV_OK. */
KV_MUST kv_status kv_memtable_add(struct kv_memtable *memtable, uint32_t space, const struct kv_entry *entry);

/* An entry of KV_KIND_RANGE goes to a structure of its own and is not met by get and iterators: */

/* The newest version at or below version_max of a range deletion that covers key; 0: none does. */
uint64_t kv_memtable_range_newest(struct kv_memtable *memtable, uint32_t space, kv_slice key,
                                  uint64_t version_max);
/* Does a range deletion newer than version reach into [lower, upper)? upper empty: unbounded. */
bool kv_memtable_ranges_touch(struct kv_memtable *memtable, uint32_t space, kv_slice lower, kv_slice upper,
                              uint64_t version);
/* Appends its range deletions (struct kv_range, slices good while the memtable is) to *out. */
KV_MUST kv_status kv_memtable_ranges(struct kv_memtable *memtable, uint32_t space, struct kv_buf *out);
uint64_t kv_memtable_range_count(const struct kv_memtable *memtable, uint32_t space);

/* The newest entry at or below version, deletions included: KV_OK and *out (block stays NULL), or
 * KV_NOT_FOUND. */
kv_status kv_memtable_get(struct kv_memtable *memtable, uint32_t space, kv_slice key, uint64_t version,
                          struct kv_found *out);
/* Over [lower, upper) of a space (empty: unbounded), whose bytes stay the caller's and outlive the iterator. */
KV_MUST kv_status kv_memtable_iter_open(struct kv_memtable *memtable, uint32_t space, kv_slice lower,
                                        kv_slice upper, struct kv_entry_iter **out);
/* Does it hold any entry with a key in [lower, upper)? Empty: unbounded. */
bool kv_memtable_touches(struct kv_memtable *memtable, uint32_t space, kv_slice lower, kv_slice upper);

/* About how many entries lie in [lower, upper) (empty: unbounded); exact while they are few. O(log n). */
uint64_t kv_memtable_estimate(struct kv_memtable *memtable, uint32_t space, kv_slice lower, kv_slice upper);

/*
 * Walks what was added to a space last, newest first: KV_OK and *entry for each entry newer than `since`, KV_END
 * when none is left. Begins with *at NULL, which is the walk's own. Cheap where little is newer: it looks at
 * nothing else. (Entries added out of version order make it look at all.)
 */
struct kv_skipnode;
kv_status kv_memtable_newer(struct kv_memtable *memtable, uint32_t space, uint64_t since,
                            const struct kv_skipnode **at, struct kv_entry *entry);

/* Any thread; values may be a moment old. */
size_t kv_memtable_bytes(const struct kv_memtable *memtable); /* heap bytes */
uint64_t kv_memtable_entries(const struct kv_memtable *memtable, uint32_t space);
uint64_t kv_memtable_entries_all(const struct kv_memtable *memtable); /* range deletions included */
/* Versions of the entries it holds; oldest is 0 when it is empty: it has no floor. */
uint64_t kv_memtable_version_oldest(const struct kv_memtable *memtable);
uint64_t kv_memtable_version_newest(const struct kv_memtable *memtable);

#endif
