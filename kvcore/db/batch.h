/*
 * batch.h - an atomic set of writes and its bytes, which are the log's bytes too. Bytes: kvcore/docs/log.md.
 *
 * The public half (kv_batch_new, put, delete, clear, count, free) is in kv.h. A repeated key replaces its earlier entry,
 * so a commit has at most one entry per user key and space.
 *
 * Threads    one at a time.
 *
 * Ownership  kv_batch_bytes lends until the batch is next changed.
 *
 * Failure    KV_NO_MEMORY, KV_LIMIT, KV_INVALID; the batch is unchanged then.
 */
#ifndef KV_BATCH_H
#define KV_BATCH_H

#include "kvcore/kv.h"
#include "kvcore/sst/attrs.h"

/* entry := space:u8 kind:u8 key_len:varint key [value_len:varint value]   (no value for a deletion) */
struct kv_batch_entry {
    uint32_t space;
    uint8_t kind; /* enum kv_kind (kvcore/sst/entry.h); a range deletion covers [key, value) */
    kv_slice key, value;
};
/* A bit for each space (as declared) that an entry of the kind was added to. */
struct kv_batch_kinds {
    uint32_t rich, merge, range;
};
struct kv_batch_kinds kv_batch_kinds(const struct kv_batch *batch);

/* What the batch does to a key, range deletions aside: KV_OK, or KV_NOT_FOUND. Lends until the batch is next changed. */
kv_status kv_batch_find(struct kv_batch *batch, uint32_t space, kv_slice key, struct kv_batch_entry *out);
/* NULL: none. */
struct kv_attrs kv_put_attrs(const struct kv_put_options *options);

/* The encoded entries, each key once, in the order of each key's last write. Never fails: superseded entries
 * are squeezed out in place. */
kv_slice kv_batch_bytes(struct kv_batch *batch);
/* Its bytes go to *out, which is empty, and are the caller's: moved, or copied if they are few for the batch's memory. The
 * batch is empty then. */
void kv_batch_take(struct kv_batch *batch, struct kv_buf *out);
/* May its large values be committed to db? KV_INVALID: one is of another database, or was committed before; or nobody waits
 * for the commit (async), so that the batch, which holds the value until it is named by the log, may go before. */
KV_MUST kv_status kv_batch_check_values(const struct kv_batch *batch, const void *db, bool async,
                                        struct kv_err *err);
/* Sum of key and value lengths, superseded entries excluded. */
size_t kv_batch_payload(const struct kv_batch *batch);
/* One above the highest space used; 0 when empty. */
uint32_t kv_batch_spaces(const struct kv_batch *batch);

/*
 * Takes the entry at the front of *rest, which begins as kv_batch_bytes or as what the log gave back. KV_END
 * when none is left. KV_CORRUPT: malformed; KV_TOO_NEW: a kind this version does not know; *rest is then
 * unchanged.
 */
KV_MUST kv_status kv_batch_next(kv_slice *rest, struct kv_batch_entry *entry);

#endif
