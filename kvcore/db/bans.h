/*
 * bans.h - prefixes that nothing is written to any more (kv_ban_prefix): asked for each commit and bulk load while there
 * are any, and not at all while there are none. The manifest keeps them.
 *
 * Threads    any. Locks: `mutex` is innermost, nothing is called under it.
 * Ownership  copies.
 */
#ifndef KV_BANS_H
#define KV_BANS_H

#include "kvcore/kv.h"
#include "kvcore/os/thread.h"

#include <stdatomic.h>

struct kv_db;
struct kv_bans {
    _Atomic uint32_t n; /* read without the lock */
    kv_mutex changing;  /* one change at a time; outermost */
    kv_mutex mutex;     /* of the list */
    struct kv_buf list; /* (space id:u8, prefix with its length as varint)*, as the manifest has it */
};
void kv_bans_init(struct kv_bans *bans);
void kv_bans_release(struct kv_bans *bans);
/* Takes one off the front of a list. KV_END, or KV_CORRUPT. */
KV_MUST kv_status kv_bans_next(kv_slice *list, uint32_t *space, kv_slice *prefix);
/* At open: what the manifest knows. */
KV_MUST kv_status kv_bans_load(struct kv_bans *bans, kv_slice list);

/* KV_READ_ONLY: a banned prefix of the space (its id) begins the key; *err names it. */
KV_MUST kv_status kv_bans_check_key(struct kv_db *db, uint32_t space, kv_slice key, struct kv_err *err);
/* The same for what the batch puts; deletions are free. kv_committer_hooks.check. */
KV_MUST kv_status kv_bans_check_batch(void *db, kv_slice batch, struct kv_err *err);

#endif
