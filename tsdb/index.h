/*
 * index.h - matchers to refs: postings (label value -> series) and activity (window -> series) over kvcore's
 * index space.
 *
 * Everything is read from kvcore as a snapshot shows it, plus the activity of the head generations the caller
 * has pinned (series whose samples are not in tables yet; their labels and postings are in kvcore since their
 * commit). Activity is a superset: a series may be selected that turns out to have no sample in the range,
 * never the other way round. Page: tsdb/docs/index.md.
 *
 * Pin head generations first, then take the snapshot. Stateless over kvcore: any thread, any number of
 * selects at once.
 */
#ifndef TS_INDEX_H
#define TS_INDEX_H

#include "tsdb/matcher.h"
#include "tsdb/postings.h"
#include "tsdb/series.h"

struct ts_budget;

/* All zero: everything there is at time 0. */
struct ts_select {
    const struct ts_matcher *matchers; /* all must match; none: every series */
    size_t n_matchers;
    int64_t from_ms, to_ms;                 /* both inclusive; rounded to windows */
    const struct kv_snapshot *snapshot;     /* NULL: what is visible when the select starts */
    const struct ts_activity *const *heads; /* pinned by the caller */
    size_t n_heads;
    struct ts_budget *budget; /* bytes and cancelling; NULL: no bound */
    /* Asked with what the matchers chose, before anything is made of it; may take refs out (query/prove.h). NULL:
     * activity decides. */
    kv_status (*refine)(void *ctx, const struct ts_select *select, struct ts_refset *set);
    void *refine_ctx;
};

/* Refs of the matching series that may have samples in the range, sorted (metric by metric). *refs is the
 * caller's (kv_free); bytes are not counted in the budget any more once returned. KV_OK also when there are
 * none. */
KV_MUST kv_status ts_index_select(struct ts_registry *registry, const struct ts_select *select,
                                  uint64_t **refs, size_t *n, struct kv_err *err);

/* The same as a set, added to *set (empty). */
KV_MUST kv_status ts_index_select_refs(struct ts_registry *registry, const struct ts_select *select,
                                       struct ts_refset *set, struct kv_err *err);
/* Keeps in *set the series that all matchers select (of select nothing but these, snapshot and budget counts).
 */
KV_MUST kv_status ts_index_filter(struct ts_registry *registry, const struct ts_select *select,
                                  struct ts_refset *set, struct kv_err *err);

/* Names of the labels of the selected series, sorted, each once. name is borrowed for the call; a negative
 * answer of each stops. */
KV_MUST kv_status ts_index_label_names(struct ts_registry *registry, const struct ts_select *select,
                                       kv_status (*each)(void *ctx, kv_slice name), void *ctx,
                                       struct kv_err *err);
/* Values of one label of the selected series, sorted, each once. */
KV_MUST kv_status ts_index_label_values(struct ts_registry *registry, const struct ts_select *select,
                                        kv_slice name, kv_status (*each)(void *ctx, kv_slice value),
                                        void *ctx, struct kv_err *err);
/* Every metric name ever stored, by name, with its number and how many refs it was given. */
KV_MUST kv_status ts_index_metrics(struct ts_registry *registry, const struct kv_snapshot *snapshot,
                                   kv_status (*each)(void *ctx, kv_slice name, uint32_t metric,
                                                     uint32_t n_series),
                                   void *ctx, struct kv_err *err);

/*
 * Counts series by metric and by label pair, in one walk over every posting: nothing is held but what is being
 * counted, and the budget's client and deadline are asked all along. In several sets at once: counts[i] is how many
 * of sets[i] (NULL there: of all series). What no set has a series of is passed over.
 */
struct ts_index_count {
    const struct ts_refset *const *sets;
    size_t n_sets;
    const struct kv_snapshot *snapshot; /* NULL: what is visible now */
    struct ts_budget *budget;           /* NULL: no bound */
    /* By number, all before the first pair. */
    kv_status (*metric)(void *ctx, uint32_t metric, const uint64_t *counts);
    /* By label, then value; a label's empty value comes first and counts the series that have it. __name__ is none.
     * Texts are borrowed for the call, and cut to TS_KEY_TEXT_LEN_MAX. */
    kv_status (*pair)(void *ctx, kv_slice label, kv_slice value, const uint64_t *counts);
    void *ctx; /* a negative answer of either stops */
};
KV_MUST kv_status ts_index_count(struct ts_registry *registry, const struct ts_index_count *count,
                                 struct kv_err *err);
/* Adds to *set the series with activity in windows [from, to], stored or in heads. KV_NO_MEMORY also when a head does
 * not know (ts_activity_add). */
KV_MUST kv_status ts_index_active(struct ts_registry *registry, const struct ts_select *where, int32_t from,
                                  int32_t to, struct ts_refset *set, struct kv_err *err);

/* Adds to batch what the activity has and kvcore lacks. One caller at a time (the flusher); commit the batch
 * before the chunks are installed: a crash in between leaves a superset. KV_NO_MEMORY: see ts_activity_add.
 */
KV_MUST kv_status ts_index_put_activity(struct ts_registry *registry, const struct ts_activity *activity,
                                        struct kv_batch *batch, struct kv_err *err);
/* Adds to *set (empty) the series that no stored activity and none of the heads names: nothing refers to them. None,
 * if a head does not know. The snapshot is taken before the heads are pinned, with no flush in between. */
KV_MUST kv_status ts_index_unused(struct ts_registry *registry, const struct kv_snapshot *snapshot,
                                  const struct ts_activity *const *heads, size_t n_heads,
                                  struct ts_refset *set, struct kv_err *err);
/* Series that have left and that lists may still name (snapshot NULL: now), added to *set; adds to batch that these
 * are more of them. */
KV_MUST kv_status ts_index_left(struct ts_registry *registry, const struct kv_snapshot *snapshot,
                                struct ts_refset *set, struct kv_err *err);
KV_MUST kv_status ts_index_put_left(struct ts_registry *registry, const struct ts_refset *gone,
                                    struct kv_batch *batch, struct kv_err *err);
/* Adds to batch what takes the refs in gone out of the window's stored activity. No flush may be under way. */
KV_MUST kv_status ts_index_cut_activity(struct ts_registry *registry, int32_t window,
                                        const struct ts_refset *gone, struct kv_batch *batch,
                                        struct kv_err *err);
/* Adds to batch the deletes of everything windows [from, to] have; *n (may be NULL): how many. With
 * retention: after the window's chunks are gone. */
/* The first window at or after `from` that has stored activity. KV_END: none. */
KV_MUST kv_status ts_index_active_window(struct ts_registry *registry, int32_t from, int32_t *window,
                                         struct kv_err *err);
KV_MUST kv_status ts_index_drop_activity(struct ts_registry *registry, int32_t from, int32_t to,
                                         struct kv_batch *batch, size_t *n, struct kv_err *err);

#endif
