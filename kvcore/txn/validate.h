/*
 * validate.h - was anything that a transaction read changed since?
 *
 * Asked twice: once against a view without any lock, for everything up to what was visible then, and once under
 * the commit lock for the little that came since, and for what is queued or being logged (kvcore/docs/transactions.md has the
 * argument). Where nothing is newer than the read version nothing is looked at.
 *
 * Threads    any; the read set is sealed and does not change meanwhile.
 * Failure    KV_CONFLICT names the key in *err. Any other negative status: it could not be found out, so the transaction must not commit.
 */
#ifndef KV_VALIDATE_H
#define KV_VALIDATE_H

#include "kvcore/db/db.h"
#include "kvcore/txn/read_set.h"

/* KV_OK: nothing newer than `since` in the view touches what was read. */
KV_MUST kv_status kv_validate_view(struct kv_db *db, struct kv_view *view, const struct kv_read_set *reads,
                                   uint64_t since, struct kv_err *err);
/* KV_OK: what is pending will not touch it either. */
KV_MUST kv_status kv_validate_pending(const struct kv_read_set *reads, const struct kv_pending *pending,
                                      struct kv_err *err);

#endif
