/*
 * fold.h - the operands of one key, collected newest entry first down to the value they apply to, and folded
 * by the space's merge operator. Readers and merges share it.
 *
 * Threads    one at a time.
 * Ownership  copies what is added; the folded value is good until the next call. {0} is empty.
 * Failure    KV_NO_MEMORY, KV_LIMIT (1 GiB of operands), KV_CORRUPT, KV_TOO_NEW, or the operator's own.
 */
#ifndef KV_FOLD_H
#define KV_FOLD_H

#include "kvcore/kv.h"
#include "kvcore/sst/attrs.h"

struct kv_fold {
    struct kv_buf bytes;  /* the values, one behind another */
    struct kv_buf places; /* struct kv_fold_place, newest first */
    struct kv_buf slices; /* kv_slice of each operand, oldest first */
    struct kv_buf result;
    size_t n;
};
void kv_fold_release(struct kv_fold *fold);
void kv_fold_clear(struct kv_fold *fold);
/* Adds the next older entry of the key: KV_OK: an older one is wanted; KV_END: it was the last that counts.
 * Deletions are not added: what lies behind them does not count. */
KV_MUST kv_status kv_fold_add(struct kv_fold *fold, uint64_t version, enum kv_kind kind, kv_slice value);
/* The same for a value that is at hand with its attributes apart. KV_END. */
KV_MUST kv_status kv_fold_add_base(struct kv_fold *fold, uint64_t version, const struct kv_attrs *attrs,
                                   kv_slice value);
/* Entry i as it was added, newest first. */
void kv_fold_entry(const struct kv_fold *fold, size_t i, struct kv_entry *out); /* but its key */
/* The value all of it comes to, with nothing older behind it, and its attributes. A base that has expired
 * counts as none. */
KV_MUST kv_status kv_fold_run(struct kv_fold *fold, const struct kv_merge_operator *how, kv_slice key,
                              uint64_t now_s, struct kv_attrs *attrs, kv_slice *value);
/* One merge entry's value that stands for all that was added: operands, and what they apply to if it is there. */
KV_MUST kv_status kv_fold_combine(struct kv_fold *fold, kv_slice *value);

#endif
