/*
 * pick.h - pure: the shape of the tree -> which cut to merge next. Any thread.
 */
#ifndef KV_PICK_H
#define KV_PICK_H

#include "kvcore/db/version.h"

struct kv_pick {
    uint32_t space;
    size_t cut; /* in the space's tree */
    size_t n_runs;
};
/* The cut with the most runs past runs_max; of equals the one with the fewest bytes, for it is done soonest.
 * False: none is past. */
bool kv_pick_cut(const struct kv_version *version, size_t runs_max, struct kv_pick *out);

#endif
