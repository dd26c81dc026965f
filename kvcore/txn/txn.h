/*
 * txn.h - a transaction, seen from inside kvcore/txn. The public half is kv.h; why it is serializable:
 * kvcore/docs/transactions.md.
 *
 * Threads    one at a time, iterators included.
 * Ownership  counted: the caller's handle and each open iterator hold it.
 */
#ifndef KV_TXN_H
#define KV_TXN_H

#include "kvcore/base/list.h"
#include "kvcore/db/db.h"
#include "kvcore/txn/read_set.h"

struct kv_txn {
    struct kv_db *db;
    struct kv_snapshot *snapshot; /* NULL: it has ended */
    uint64_t version;             /* it reads at */
    uint32_t refs;
    bool read_only, ended;
    kv_status broken; /* a write or a note that was half done: commit answers it. Or KV_OK */
    size_t bytes_max, entries_max;
    struct kv_txn_slot slot; /* of a read-write one, until it has ended */
    struct kv_read_set reads;
    /* Its own writes, twice: as they will be committed, and in order. */
    struct kv_batch *batch; /* NULL: none yet */
    struct kv_memtable
        *written;    /* spaces as declared, a version for each write from `version` + 1 on. NULL: none yet */
    uint64_t newest; /* of its own writes; as `version` before the first */
    struct kv_list iters; /* open ones that note what they walk: struct txn_iter */
};

/* KV_OK, or KV_CLOSED. */
KV_MUST kv_status kv_txn_check_open(const struct kv_txn *txn, struct kv_err *err);
void kv_txn_unref(struct kv_txn *txn);

/* ---- txn_iter.c */

/* What the open iterators have walked so far becomes part of the read set. */
KV_MUST kv_status kv_txn_iters_note(struct kv_txn *txn);

#endif
