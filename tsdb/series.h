/*
 * series.h - the registry: which label sets there are and their refs; and the cache that finds a row's ref
 * without looking at labels.
 *
 * The registry lives in kvcore (spaces "series" and "index", layouts in tsdb/key.h); memory holds a bounded
 * cache from identity (a 128-bit keyed hash of the protocol's raw bytes) to ref. Each cache entry names the
 * entry that followed it last time, so bodies that come in the same order again are resolved without even a
 * table look-up (after Prometheus-like senders repeat themselves).
 *
 * A commit with new series, as the store drives it:
 *
 *     ts_resolve(resolver, row, &ref, ...)  known: a ref. New: a provisional one (ts_ref_is_new), counted against
 *                                           the limit
 *     ts_resolver_stage(resolver)           before kv_commit, outside every lock: sorts what prepare will put
 *     kv_commit(...)
 *       prepare: ts_resolver_prepare(...)   under the commit lock: looks up again, hands out refs in order, puts
 *                                           'r' 'h' 'm' 'c' 'p', appends the new-series section to the record
 *                ts_resolver_ref(...)       provisional -> ref, to fill in the record's samples
 *       undo:    ts_resolver_undo(...)      the commit failed after prepare: its refs are taken back (newest first,
 *                                           as kv_commit calls)
 *       apply:   ts_registry_apply(...)     takes the section off the record's front; fills the cache. Replay calls
 *                                           the same
 *     ts_resolver_clear(resolver)           whatever the outcome; the resolver is ready for the next request
 *
 * A series created by a commit still under way is known to every later prepare, so two requests never make
 * two refs for one label set.
 *
 * Threads    registry: any; a resolver belongs to one thread at a time. No lock is held over I/O except in
 *            prepare, and there only when more than TS_RECENT_MAX series were created between a row's look-up
 *            and its commit.
 * Failure    KV_INVALID from ts_resolve: the row is refused (why says it) and nothing else changed. Others
 *            are for the whole request.
 */
#ifndef TS_SERIES_H
#define TS_SERIES_H

#include "kvcore/base/hash.h"
#include "tsdb/key.h"
#include "tsdb/label.h"

struct ts_registry;
struct ts_resolver;

/* All zero is the default, as in ts_options. */
struct ts_registry_options {
    uint64_t series_max; /* 0: 20 million */
    uint64_t metric_series_max;
    uint64_t cache_bytes; /* 0: 512 MiB */
    uint32_t series_per_s_max;
    struct kv_clock *clock; /* NULL: the system's */
    uint32_t labels_max, label_name_len_max, label_value_len_max;
};
/* Reads the counters; instant whatever the number of series. db: opened with ts_spaces_fill's spaces; must
 * outlive the registry. */
KV_MUST kv_status ts_registry_open(struct kv_db *db, const struct ts_registry_options *options,
                                   struct ts_registry **out, struct kv_err *err);
void ts_registry_close(struct ts_registry *registry); /* NULL is fine. Resolvers must be gone */
struct kv_db *ts_registry_db(struct ts_registry *registry);

struct ts_registry_stats {
    uint64_t series;         /* in the registry, commits under way included */
    uint64_t series_created; /* by this process */
    uint64_t metrics;        /* highest metric number */
    uint64_t cache_series, cache_bytes, cache_evicted;
    uint64_t predicted, found, missed; /* rows by way of resolving; refreshed as resolvers are cleared */
};
void ts_registry_stats(struct ts_registry *registry, struct ts_registry_stats *out);

/* ---- labels of refs ------------------------------------------------------------------------------------ */

/* Labels of a ref, in arena. snapshot NULL: what is visible now. KV_NOT_FOUND: no such series. */
KV_MUST kv_status ts_registry_labels(struct ts_registry *registry, const struct kv_snapshot *snapshot,
                                     uint64_t ref, struct kv_arena *arena, struct ts_label **labels,
                                     size_t *n, struct kv_err *err);
struct ts_labels {
    struct ts_label *labels; /* NULL: no such series */
    size_t n;
};
/* The same for refs that rise from call to call, by one walk where they lie close. Close it, whatever open said; it may be {0}. */
struct kv_iter;
struct ts_labels_reader {
    struct kv_iter *it;
    bool placed, ended;
};
/* first, last: what refs lie between. */
KV_MUST kv_status ts_labels_reader_open(struct ts_registry *registry, const struct kv_snapshot *snapshot,
                                        uint64_t first, uint64_t last, struct ts_labels_reader *reader);
KV_MUST kv_status ts_labels_reader_read(struct ts_labels_reader *reader, uint64_t ref, struct kv_arena *arena,
                                        struct ts_labels *out, struct kv_err *err);
void ts_labels_reader_close(struct ts_labels_reader *reader);
/* The same for n sorted refs at once, by one walk where they lie close: out[i] for refs[i]. */
KV_MUST kv_status ts_registry_labels_many(struct ts_registry *registry, const struct kv_snapshot *snapshot,
                                          const uint64_t *refs, size_t n, struct kv_arena *arena,
                                          struct ts_labels *out, struct kv_err *err);
/* The ref of a canonical label set that is visible now. KV_NOT_FOUND: none. */
KV_MUST kv_status ts_registry_find(struct ts_registry *registry, const struct ts_label *labels,
                                   size_t n_labels, uint64_t *ref, struct kv_err *err);
/* The number of a metric name, and one past its highest series number (next may be NULL). KV_NOT_FOUND: no
 * such metric. */
KV_MUST kv_status ts_registry_metric(struct ts_registry *registry, const struct kv_snapshot *snapshot,
                                     kv_slice name, uint32_t *metric, uint32_t *next, struct kv_err *err);

/* ---- resolving ----------------------------------------------------------------------------------------- */

#define TS_METRIC_NEW UINT32_MAX
/* A provisional ref: ts_ref_series of it is its place among the resolver's new series. Never stored. */
static inline bool ts_ref_is_new(uint64_t ref)
{
    return ts_ref_metric(ref) == TS_METRIC_NEW;
}

/* Why a row was refused. */
struct ts_refusal {
    enum ts_reject_reason reason;
    uint32_t retry_in_ms; /* TS_REJECT_SERIES_RATE: when there is room for one more */
    char text[240];       /* what, where, which limit; without the row's position */
};

KV_MUST kv_status ts_resolver_new(struct ts_registry *registry, struct ts_resolver **out);
void ts_resolver_free(struct ts_resolver *resolver); /* NULL is fine */
/* The ref of a row. KV_OK; KV_INVALID: refused, *why filled; others: the request cannot go on. Check the
 * samples' times first: a new series is created by the commit even if none of its samples is taken. */
KV_MUST kv_status ts_resolve(struct ts_resolver *resolver, const struct ts_row *row, uint64_t *ref,
                             struct ts_refusal *why, struct kv_err *err);
/* The ref of a row whose series is there, or is new in this request. KV_NOT_FOUND: neither, or its labels will not do. */
KV_MUST kv_status ts_resolve_existing(struct ts_resolver *resolver, const struct ts_row *row, uint64_t *ref,
                                      struct kv_err *err);
/* How many new series the request would create (some may turn out to exist by the time it commits). */
size_t ts_resolver_new_count(const struct ts_resolver *resolver);
/* Must be called between the last ts_resolve and kv_commit when ts_resolver_new_count > 0. */
KV_MUST kv_status ts_resolver_stage(struct ts_resolver *resolver);
/* Under the commit lock. Appends the section (never empty) to *section; call it for every commit with
 * samples, new series or not. On a negative answer nothing is changed and the commit must be cancelled. */
KV_MUST kv_status ts_resolver_prepare(struct ts_resolver *resolver, uint64_t seq, struct kv_batch *batch,
                                      struct kv_buf *section);
/* After prepare: the ref behind a provisional one; a real ref is answered as it is. */
uint64_t ts_resolver_ref(const struct ts_resolver *resolver, uint64_t ref);
/* How many series prepare created. */
size_t ts_resolver_created(const struct ts_resolver *resolver);
void ts_resolver_undo(struct ts_resolver *resolver);
void ts_resolver_clear(struct ts_resolver *resolver);

/* ---- leaving ------------------------------------------------------------------------------------------ */

/*
 * A series to which nothing refers leaves the registry, and may return under another ref. A request may have resolved
 * the ref just before, so it goes in steps, each by whoever drives it (leave.h), one at a time:
 *
 *     ts_registry_doom      names the series. From now on whoever resolves one keeps it
 *     ts_registry_quiet     true: every request that was under way then is over. What these used is in use now
 *     ts_registry_remove    one commit takes some of them out, unless one was kept meanwhile. Whoever resolves such a
 *                           label set from then on creates a series; what is doomed and not removed stays what it is
 *     ts_registry_undoom    when all of it is done: the cache forgets those that left
 *     ts_registry_quiet     true: nobody who read a ref before that has yet to ask about it; ts_registry_unmark drops
 *                           the marks
 *     ts_registry_quiet     true: nobody has the list any more; ts_registry_rest frees it
 */
struct ts_refset;
KV_MUST kv_status ts_registry_doom(struct ts_registry *registry, struct ts_refset *set); /* takes it over */
bool ts_registry_quiet(struct ts_registry *registry);
/* refs: sorted, doomed. Takes out of *refs those that were kept; *n: how many are left,
 * and gone. Durable on KV_OK. */
KV_MUST kv_status ts_registry_remove(struct ts_registry *registry, uint64_t *refs, size_t *n,
                                     struct kv_err *err);
/* Raised before any series goes: whoever finds it unchanged has seen none leave since. */
uint64_t ts_registry_removals(struct ts_registry *registry);
void ts_registry_undoom(struct ts_registry *registry, const struct ts_refset *gone);
void ts_registry_unmark(struct ts_registry *registry);
void ts_registry_rest(struct ts_registry *registry);

/* Takes the section off the front of *record and fills the cache. seq: the commit's. KV_CORRUPT: not a
 * section (a live record never is; replay reports it). */
KV_MUST kv_status ts_registry_apply(struct ts_registry *registry, uint64_t seq, kv_slice *record);

#endif
