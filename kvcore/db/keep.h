/*
 * keep.h - which entries a flush or a merge writes on. The one place where anything is ever left out.
 *
 * Readers pin memtables and tables, so what they may still ask is in what they hold; the new tables serve views
 * made from now on. Of each key, newest first:
 *   1. An entry that a range deletion covers is left out, and all older ones.
 *   2. A put is written, until versions_kept of them are; what is older is left out. A put that ends history
 *      is the last.
 *   3. An expired put is a deletion.
 *   4. A deletion ends the key. It is itself written only while something older of the key may lie outside the
 *      inputs, or a live transaction may still have to notice it (version above oldest_txn).
 *   5. Operands are collected down to the value they apply to and folded; while an older one may lie outside
 *      the inputs they are put together into one entry. So they are, with the value, while that will expire:
 *      afterwards they count without it. They are not folded into a large value (kvcore/db/large.h), which may be too long
 *      for that: both stay.
 *
 * Threads    one at a time.
 * Failure    the source's or emit's status; KV_CORRUPT for attributes that cannot be read.
 */
#ifndef KV_KEEP_H
#define KV_KEEP_H

#include "kvcore/db/fold.h"
#include "kvcore/db/ranges.h"
#include "kvcore/db/space.h"

struct kv_keep {
    const struct kv_space *how;
    uint64_t now_s;                 /* retention clock */
    uint64_t oldest_txn;            /* read version of the oldest live transaction; UINT64_MAX: none */
    const struct kv_ranges *ranges; /* range deletions that apply; NULL: none */
    /* May an entry of key with an older version exist outside the source? NULL: never. */
    bool (*older)(void *ctx, kv_slice key, uint64_t version);
    /* Or one with a version between the two? Operands are not folded past it. NULL: never. */
    bool (*between)(void *ctx, kv_slice key, uint64_t newer, uint64_t older);
    /* The value a pointer into the value log leads to, for folding; NULL: the source has none. */
    kv_status (*fetch)(void *ctx, kv_slice pointer, struct kv_block **out);
    /* first: of its key. */
    kv_status (*emit)(void *ctx, const struct kv_entry *entry, bool first);
    kv_status (*pause)(void *ctx); /* before each entry of the source; negative ends the walk. NULL: none */
    void *ctx;
    uint64_t dropped_expired, dropped_covered; /* counted */
    /* private */
    struct kv_buf key, value;
    struct kv_fold fold;
    uint32_t kept;
    bool any, ended, folding;
};
/* Walks the source from its beginning. */
KV_MUST kv_status kv_keep_run(struct kv_keep *keep, struct kv_entry_iter *source);
void kv_keep_release(struct kv_keep *keep);

#endif
