/*
 * values.h - the value log as one version of the tree sees it: the segments its tables point into, and how many
 * bytes of each are still pointed at.
 *
 * Tables say in their properties how many bytes of which segment they point at, so live and dead bytes are derived,
 * exact, at every change of the tree. A segment nobody points into leaves with the edit that took its last table, or
 * with the one that lets go of the log which names it;
 * one with less than half of its bytes live is sparse: its values move on when a merge meets them, and pick.h makes
 * one of its tables be merged. While a table cannot be opened, nobody knows what it points at: no segment leaves then.
 * One that cannot be opened itself is never sparse, for nothing can be moved out of it.
 *
 * Threads    immutable once made: any.
 * Ownership  holds a reference of each segment; {0} is empty.
 */
#ifndef KV_VALUES_H
#define KV_VALUES_H

#include "kvcore/base/file_header.h"
#include "kvcore/sst/table.h"
#include "kvcore/vlog/segment.h"

struct kv_version;

struct kv_value_segment {
    struct kv_segment *segment;
    uint64_t live; /* stored bytes that tables point at */
};
struct kv_values {
    struct kv_value_segment *list; /* by number */
    size_t n;
};
/* Those of base (NULL: none) and adds (borrowed) that the tables of version point into, or may, and those that the log may
 * name from log_floor on (kv_segment_log_seq). KV_CORRUPT: a table points
 * into a segment that is neither. */
KV_MUST kv_status kv_values_make(struct kv_values *out, const struct kv_values *base,
                                 struct kv_segment *const *adds, size_t n_adds,
                                 const struct kv_version *version, uint64_t log_floor, struct kv_err *err);
void kv_values_release(struct kv_values *values); /* {0} and twice are fine */

const struct kv_value_segment *kv_values_find(const struct kv_values *values, uint64_t number); /* or NULL */
static inline bool kv_value_segment_sparse(const struct kv_value_segment *at)
{
    return !kv_segment_damage(at->segment) &&
           at->live * 2 < kv_segment_bytes(at->segment) - KV_FILE_HEADER_LEN;
}
/* How many bytes a table with these references (kv_table_properties.value_refs) points at in sparse segments. */
uint64_t kv_values_sparse(const struct kv_values *values, kv_slice refs);
/* The value a pointer entry's attributes are followed by the pointer to. The block is the caller's to give back. */
KV_MUST kv_status kv_values_fetch(const struct kv_values *values, kv_slice pointer, bool fill,
                                  struct kv_block **out, struct kv_err *err);
/* Reads it, in parts if it is large, and forgets it. */
KV_MUST kv_status kv_values_verify(const struct kv_values *values, kv_slice pointer, struct kv_err *err);
/* Every value that the table points at; their stored bytes are added to *bytes (may be NULL). Ends at the first that cannot be read. */
KV_MUST kv_status kv_values_verify_table(const struct kv_values *values, struct kv_table *table,
                                         uint64_t *bytes, struct kv_err *err);

#endif
