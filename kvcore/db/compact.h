/*
 * compact.h - does what a pick says: merges, moves or drops tables, and installs the result by one edit; and
 * where tables that come from elsewhere are put.
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
/*
 * Chooses for each table that is about to be installed, a bulk load's, the deepest level with nothing of its
 * range there or above, and keeps merges away from that range until kv_place_end. Spaces of style runs: level 0.
 */
void kv_place_begin(struct kv_db *db, uint32_t space, struct kv_tree_add *adds, size_t n,
                    struct kv_claim *claim);
void kv_place_end(struct kv_db *db, struct kv_claim *claim);

#endif
