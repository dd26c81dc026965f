/*
 * index_internal.h - what the index's files share: one reader over the two spaces, and walks over
 * metrics, values and lists.
 *
 *     index_walk.c     walks; no idea of matchers
 *     index.c          select
 *     index_labels.c   label names and values, metrics, activity written and dropped
 *     index_left.c     what nothing refers to; what has left
 *     index_count.c    how many series there are, by metric and label pair; who is active
 */
#ifndef TS_INDEX_INTERNAL_H
#define TS_INDEX_INTERNAL_H

#include "kvcore/base/arena.h"
#include "tsdb/index.h"

enum {
    TS_INDEX_DIRECT_MAX =
        512, /* up to so many series, matching their labels one by one beats walking values */
    TS_INDEX_METRIC_SEEKS_MAX = 8, /* up to so many metrics, a window's activity is read by a seek for each */
};

/* One select or listing. Released by ts_index_read_close. */
struct ts_index_read {
    struct ts_registry *registry;
    struct kv_db *db;
    const struct kv_snapshot *snapshot;
    struct kv_snapshot *own; /* when the caller had none */
    struct kv_iter *index;   /* over the whole index space */
    struct ts_budget *budget;
    struct kv_err *err;
    uint32_t steps; /* since the budget was asked */
    bool moved;     /* the index iterator, since a walk called each */
};
KV_MUST kv_status ts_index_read_open(struct ts_registry *registry, const struct kv_snapshot *snapshot,
                                     struct ts_budget *budget, struct kv_err *err, struct ts_index_read *out);
void ts_index_read_close(struct ts_index_read *read);
/* Damage found in a key or value. */
KV_MUST kv_status ts_index_corrupt(struct ts_index_read *read, const char *what);

/* Calls each for metric names that begin with prefix, in order of their keys; KV_END from each ends the
 * walk early, with KV_OK. */
KV_MUST kv_status ts_index_walk_metrics(struct ts_index_read *read, kv_slice prefix,
                                        kv_status (*each)(void *ctx, kv_slice name, uint32_t metric,
                                                          uint32_t next),
                                        void *ctx);

/*
 * Distinct values of a label that begin with prefix. The iterator stands at the value's first entry
 * when each is called, and may be moved by it.
 */
struct ts_index_value {
    kv_slice text; /* its first TS_KEY_TEXT_LEN_MAX bytes if cut */
    bool cut;
    const struct ts_key *key; /* prefix of all its entries */
};
KV_MUST kv_status ts_index_walk_values(struct ts_index_read *read, kv_slice label, kv_slice prefix,
                                       kv_status (*each)(void *ctx, const struct ts_index_value *value),
                                       void *ctx);
/* Distinct label names; text and key as above, key is the prefix of all the label's entries. */
KV_MUST kv_status ts_index_walk_names(struct ts_index_read *read,
                                      kv_status (*each)(void *ctx, const struct ts_index_value *name),
                                      void *ctx);

/* Which lists of a value are wanted. */
struct ts_index_scope {
    uint32_t metric_min, metric_max;
    const struct ts_refset *within; /* batches it lacks are passed over; NULL: all are wanted */
};
/* Everything that within holds. */
struct ts_index_scope ts_index_scope_of(const struct ts_refset *within);
/* Adds to set what the lists under key (ts_key_postings_value) hold within scope. */
KV_MUST kv_status ts_index_lists_add(struct ts_index_read *read, const struct ts_key *key,
                                     const struct ts_index_scope *scope, struct ts_refset *set);
/* Whether any of them has a member that scope->within has too. */
KV_MUST kv_status ts_index_lists_meet(struct ts_index_read *read, const struct ts_key *key,
                                      const struct ts_index_scope *scope, bool *meet);

/* Takes what has left (lists may name it until they are merged) out of set. */
KV_MUST kv_status ts_index_without_left(struct ts_index_read *read, struct ts_refset *set);

/* select, as a set. */
KV_MUST kv_status ts_index_select_set(struct ts_index_read *read, const struct ts_select *select,
                                      struct ts_refset *set);

#endif
