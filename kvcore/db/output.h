/*
 * output.h - a sorted stream of entries becomes new tables of a space, split at cuts, and where the caller
 * allows it past about the space's table_bytes, or where merging the table down one day would take more than
 * KV_OUTPUT_BELOW_MAX times that. What flushes, merges and bulk loads share.
 *
 * Threads    one at a time.
 * Ownership  {0} may be released. Installed tables are referenced by the tree; whatever is not installed is
 *            removed by kv_output_release, unless keep was set because an edit that names them may be found
 *            after a crash.
 * Failure    after any error only kv_output_release.
 */
#ifndef KV_OUTPUT_H
#define KV_OUTPUT_H

#include "kvcore/db/db.h"
#include "kvcore/sst/table_build.h"

enum { KV_OUTPUT_BELOW_MAX = 12, KV_SEGMENT_BYTES = 256 << 20 };

struct kv_output {
    struct kv_db *db;
    uint32_t level;                  /* 0 unless set after init */
    const struct kv_tree_run *below; /* the level under it; NULL unless set after init. Borrowed */
    size_t below_at;                 /* its first table that is not behind the key */
    uint64_t below_bytes;            /* of its tables that the open table spans, the last one not counted */
    uint32_t space;                  /* of the open table */
    uint64_t run;                    /* number of the first table */
    struct kv_table_build *build;
    uint64_t number;
    struct kv_buf cut;
    struct kv_tree_add *adds; /* finished tables, opened */
    size_t n_adds, adds_capacity;
    uint32_t value_space;            /* of the entry being added */
    struct kv_segment_build *values; /* the open segment of the value log */
    uint64_t values_number;
    struct kv_segment **segments; /* finished ones, opened */
    size_t n_segments, segments_capacity;
    struct kv_buf pointer;
    const struct kv_values
        *source; /* what pointers of the input point into, set after init; NULL: there are none.
                                       Values of sparse segments move to a new one. Borrowed */
    uint64_t bytes;
    uint64_t ranges_applied, deletes_since_s; /* set before the first add: the tables' properties */
    bool loads; /* set before the first add: a bulk load, whose tables say what they are newer than */
    bool keep;
};
void kv_output_init(struct kv_output *output, struct kv_db *db);
/* may_split: a table may begin with this entry. Spaces come one behind another. */
KV_MUST kv_status kv_output_add(struct kv_output *output, uint32_t space, const struct kv_entry *entry,
                                bool may_split, struct kv_err *err);
/* Written so far, about; the open table too. */
uint64_t kv_output_bytes(const struct kv_output *output);
/* Syncs the last table and all names. */
KV_MUST kv_status kv_output_finish(struct kv_output *output, struct kv_err *err);
/* Finishes both; tables and segments of `from` become those of `into`, the tables part of its run. Their order is the caller's. */
KV_MUST kv_status kv_output_join(struct kv_output *into, struct kv_output *from, struct kv_err *err);
/* Adds the tables to the change, and to its edit. bulk_version 0: entries carry their own. */
void kv_output_install(struct kv_output *output, struct kv_change *change, uint64_t bulk_version);
void kv_output_release(struct kv_output *output);

#endif
