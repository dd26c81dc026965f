/*
 * compact.h - does what a pick says: merges, moves or drops tables, and installs the result by one edit.
 *
 * Threads    any; picks under way at once must be clear of each other (pick.h).
 * Ownership  the view the pick was made from stays pinned meanwhile.
 * Failure    nothing has changed. KV_CONFLICT: an input was dropped meanwhile; KV_CANCELED: the database is being
 *            closed.
 */
#ifndef KV_COMPACT_H
#define KV_COMPACT_H

#include "kvcore/db/db.h"
#include "kvcore/db/pick.h"

KV_MUST kv_status kv_pick_do(struct kv_db *db, struct kv_view *view, const struct kv_pick *pick,
                             struct kv_err *err);
/* The first key behind every key that begins with prefix; empty: there is none. */
KV_MUST kv_status kv_prefix_end(kv_slice prefix, struct kv_buf *out);

#endif
