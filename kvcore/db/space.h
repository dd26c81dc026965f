/*
 * space.h - a space as an open database holds it. Immutable after open; any thread.
 */
#ifndef KV_SPACE_H
#define KV_SPACE_H

#include "kvcore/base/compress.h"
#include "kvcore/db/manifest.h"

struct kv_space {
    char name[KV_SPACE_NAME_MAX + 1];
    enum kv_codec codec;
    uint32_t block_bytes, block_bytes_most;
    bool no_filter;
    const struct kv_hook *hook;            /* NULL: none */
    const struct kv_merge_operator *merge; /* NULL: none */
    uint32_t versions_kept;                /* at least 1 */
    uint64_t separate_bytes;               /* values from this length on lie in the value log; 0: none do */
    size_t (*cut_len)(kv_slice key);       /* NULL: no cuts */
    uint64_t table_bytes;                  /* of a table, about */
    enum kv_style style;
    /* Levelled spaces: what merges aim at (pick.h). */
    uint64_t base_bytes, deletions_age_s;
    uint32_t level0_runs, multiplier;
};
/* The prefix of key that tables never straddle. */
static inline kv_slice kv_space_cut(const struct kv_space *space, kv_slice key)
{
    size_t len = space->cut_len ? space->cut_len(key) : 0;
    return (kv_slice){key.data, len < key.len ? len : key.len};
}

#endif
