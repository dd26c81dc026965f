/*
 * watermark.h - the oldest version that a live read-write transaction may still ask about.
 *
 * A transaction is validated by asking the tree for anything newer than the version it read at. A deletion (or
 * an expired put, or a range tombstone) that a merge dropped would not be found, so: a flush or merge may drop the
 * newest thing there is about a key only if its version is at or below kv_db_oldest_txn, taken when the flush
 * or merge begins.
 *
 * Why that is enough: begin reads the newest visible version under the same lock under which oldest reads it,
 * so a transaction that begins later reads at least there. A transaction past its age no longer holds anything
 * back: oldest marks it expired, and it can never commit then (kv_txn_slot_alive, asked after the view that is
 * validated against was pinned: what was pinned before the mark was not touched by whoever relied on the mark).
 *
 * Threads    any. Locks: watermark_mutex is innermost; nothing is called under it.
 * Ownership  a slot lives in the transaction, from begin to end.
 */
#ifndef KV_WATERMARK_H
#define KV_WATERMARK_H

#include "kvcore/base/list.h"
#include "kvcore/os/thread.h"

struct kv_db;

struct kv_watermark {
    kv_mutex mutex;
    struct kv_list live; /* struct kv_txn_slot */
};
struct kv_txn_slot {
    struct kv_list link;
    uint64_t version;    /* at or below the version it reads at */
    uint64_t expires_ns; /* by the monotonic clock */
    bool expired;
};

void kv_watermark_init(struct kv_watermark *watermark);
void kv_watermark_release(struct kv_watermark *watermark);

/* Before the transaction pins what it reads: slot->version is set. expires_ns: UINT64_MAX never. */
void kv_txn_slot_begin(struct kv_db *db, struct kv_txn_slot *slot, uint64_t expires_ns);
void kv_txn_slot_end(struct kv_db *db, struct kv_txn_slot *slot);
/* False once the slot's time has passed, and for good. */
bool kv_txn_slot_alive(struct kv_db *db, struct kv_txn_slot *slot);
/* What every live read-write transaction has read at, or what is visible now, whichever is older. */
uint64_t kv_db_oldest_txn(struct kv_db *db);
/* How many read-write transactions live; of the oldest by version: that, and when it expires. */
uint64_t kv_db_txns(struct kv_db *db, uint64_t *oldest_version, uint64_t *expires_ns);

#endif
