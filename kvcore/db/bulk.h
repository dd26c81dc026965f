/*
 * bulk.h - bulk loads seen from inside: several sorted streams that become one load.
 *
 * Threads    each bulk: one at a time; several may be filled side by side.  Failure  as kv_bulk_*.
 */
#ifndef KV_BULK_H
#define KV_BULK_H

#include "kvcore/kv.h"

/* What `from` holds becomes part of `into`, of the same space; from is freed whatever is answered. Not added to afterwards. Whether
 * they are disjoint is found by kv_bulk_settle. */
KV_MUST kv_status kv_bulk_join(struct kv_bulk *into, struct kv_bulk *from, struct kv_err *err);
/* Before the install of a load that others were joined to: puts their tables in order. KV_INVALID: they overlap, and where. */
KV_MUST kv_status kv_bulk_settle(struct kv_bulk *bulk, struct kv_err *err);

#endif
