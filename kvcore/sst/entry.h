/*
 * entry.h - what the tree stores: (user key, version, kind) -> value, and how the parts of the tree walk it.
 *
 * Order: user key as unsigned bytes, then version, newest first. (Comparing key and version as one byte
 * string would be wrong where one key is a prefix of another.)
 *
 * kv_entry_iter is the inner iterator: memtables, tables and merges of them. Its key, value, version and kind
 * are plain fields, good until its next call. Inside a cached block a step is inline and touches no vtable:
 * `left` says how many entries of the current block may be taken without asking anybody (bounds are already
 * applied to it); sources that have no blocks leave it 0.
 * Threads    one at a time.
 * Ownership  close frees it; it keeps what it reads from alive.
 * Failure    negative statuses, never swallowed: after one, only seek and close may be called. Detail goes to
 *            *err if set.
 */
#ifndef KV_ENTRY_H
#define KV_ENTRY_H

#include "kvcore/base/coding.h"
#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

/* Stored numbers: add, never renumber; at most 7. Kinds that are unknown are KV_TOO_NEW, never skipped. What
 * the value of 3 to 5 holds in front of the user's bytes: attrs.h. */
enum kv_kind {
    KV_KIND_DELETE = 0,
    KV_KIND_PUT = 1,
    KV_KIND_RANGE = 2,   /* deletes [key, value); in batches and the log alone, never in a block */
    KV_KIND_POINTER = 3, /* a put whose value lies in the value log */
    KV_KIND_RICH = 4,    /* a put with attributes */
    KV_KIND_MERGE = 5,   /* operands of the space's merge operator */
    KV_KIND_KNOWN_MAX = 5,
};
/* May a table hold entries of this kind? */
static inline bool kv_kind_in_tables(unsigned kind)
{
    return kind <= KV_KIND_KNOWN_MAX && kind != KV_KIND_RANGE;
}

#define KV_VERSION_STORED_MAX (((uint64_t)1 << 60) - 1) /* of an entry */
#define KV_VERSION_MAX        UINT64_MAX /* seeking (key, KV_VERSION_MAX) finds the newest entry of key */

struct kv_entry {
    kv_slice key;
    uint64_t version;
    enum kv_kind kind;
    kv_slice value;
};

/* Negative, zero or positive: the order of the tree. */
static inline int kv_entry_compare(kv_slice a, uint64_t a_version, kv_slice b, uint64_t b_version)
{
    int c = kv_slice_compare(a, b);
    return c ? c : (a_version < b_version) - (a_version > b_version);
}

/* What a point lookup found. */
struct kv_block;
struct kv_found {
    uint64_t version;
    enum kv_kind kind;
    bool filtered;  /* nothing was found, and that without a look into blocks */
    kv_slice value; /* good while block is held; from a memtable (block NULL): while the memtable is */
    struct kv_block *block; /* counted; give it back with kv_block_unref (kvcore/sst/block.h) */
};

/* A place in a decoded run of entries (kvcore/sst/block.h). key_buf holds the current key; its first `same`
 * bytes are those of the group's first key. */
struct kv_run {
    const uint8_t *at;     /* the next entry */
    const uint8_t *leader; /* full key of the current group */
    uint8_t *key_buf;      /* room for any key of the run */
    uint64_t base_version;
    uint32_t left;  /* entries that may be taken inline */
    uint32_t index; /* of the next entry in its block */
    uint32_t same;
};

struct kv_entry_iter {
    const struct kv_entry_iter_ops *ops;
    kv_slice key, value;
    uint64_t version;
    enum kv_kind kind;
    /* What the source promises about all it will yield: no key twice and plain puts only, nothing newer than
     * version_max. */
    bool unique_puts;
    uint32_t merging; /* a merge standing on an entry: the sources it has left. 0: no merge */
    uint64_t version_max;
    struct kv_run run;
    struct kv_err
        *err; /* where the detail of a failure goes; may be NULL; set by whoever opened it, outlives it */
};

struct kv_entry_iter_ops {
    /* The first entry at or after (key, version): KV_OK, KV_END or negative. key must not be one this
     * iterator lent. */
    kv_status (*seek)(struct kv_entry_iter *it, kv_slice key, uint64_t version);
    /* After KV_OK only, and only while run.left is 0: use kv_entry_iter_next. */
    kv_status (*next)(struct kv_entry_iter *it);
    /* The last entry before (key, version); key empty: the last of all. KV_OK, KV_END or negative. key must
     * not be one this iterator lent. */
    kv_status (*seek_before)(struct kv_entry_iter *it, kv_slice key, uint64_t version);
    kv_status (*prev)(struct kv_entry_iter *it); /* after KV_OK only, of whichever call */
    void (*close)(struct kv_entry_iter *it);
};

/* private: takes the next entry of the run. The block was checked whole when it was read, so nothing is
 * checked here. */
static inline uint64_t kv_run_varint(const uint8_t **p)
{
    uint64_t v = *(*p)++;
    if (__builtin_expect(v < 0x80, 1))
        return v;
    v &= 0x7f;
    for (int shift = 7;; shift += 7) {
        uint64_t byte = *(*p)++;
        v |= (byte & 0x7f) << shift;
        if (byte < 0x80)
            return v;
    }
}
enum { KV_RUN_GROUP = 16 }; /* entries that share one full key; a power of two */
static inline void kv_run_take(struct kv_entry_iter *it)
{
    struct kv_run *run = &it->run;
    const uint8_t *p = run->at;
    size_t same = (size_t)kv_run_varint(&p);
    size_t rest = (size_t)kv_run_varint(&p);
    size_t value_len = (size_t)kv_run_varint(&p);
    uint64_t tag = kv_run_varint(&p);
    it->kind = (enum kv_kind)(tag & 7);
    it->version = run->base_version + ((tag >> 4) ^ (0 - ((tag >> 3) & 1)));
    if ((run->index++ & (KV_RUN_GROUP - 1)) == 0) {
        run->leader = p;
        run->same = 0;
        it->key = (kv_slice){p, rest};
    } else {
        if (same > run->same)
            memcpy(run->key_buf + run->same, run->leader + run->same, same - run->same);
        run->same = (uint32_t)same;
        memcpy(run->key_buf + same, p, rest);
        it->key = (kv_slice){run->key_buf, same + rest};
    }
    it->value = (kv_slice){p + rest, value_len};
    run->at = p + rest + value_len;
}

static inline KV_MUST kv_status kv_entry_iter_seek(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    return it->ops->seek(it, key, version);
}
static inline KV_MUST kv_status kv_entry_iter_next(struct kv_entry_iter *it)
{
    if (__builtin_expect(it->run.left > 0, 1)) {
        it->run.left--;
        kv_run_take(it);
        return KV_OK;
    }
    return it->ops->next(it);
}
static inline KV_MUST kv_status kv_entry_iter_seek_before(struct kv_entry_iter *it, kv_slice key,
                                                          uint64_t version)
{
    return it->ops->seek_before(it, key, version);
}
static inline KV_MUST kv_status kv_entry_iter_prev(struct kv_entry_iter *it)
{
    return it->ops->prev(it);
}
static inline void kv_entry_iter_close(struct kv_entry_iter *it)
{
    if (it)
        it->ops->close(it);
}

#endif
