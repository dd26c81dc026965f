/*
 * postings.h - sets of refs: as bytes in the index space, and in memory.
 *
 * A batch is the series of one metric with equal series >> 16; its members are 16-bit numbers. Its bytes are
 * the smallest of three forms (tsdb/docs/index.md): deltas as varints, runs as varints, an 8 KiB bitmap. A
 * set (struct ts_refset) is a hash table of batches, each a sorted array of 16-bit numbers that becomes a
 * bitmap past 2048. (libroaring would do, but it cannot report a failed allocation.)
 *
 * Threads    a set belongs to one thread at a time; ts_activity has its own lock.
 * Failure    KV_NO_MEMORY leaves a set valid, and a subset or superset of the intended one: give up on it.
 */
#ifndef TS_POSTINGS_H
#define TS_POSTINGS_H

#include "kvcore/base/buf.h"
#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

enum {
    TS_BATCH_SIZE = 1 << 16,
    TS_BATCH_WORDS = TS_BATCH_SIZE / 64,
    TS_BATCH_BYTES_MAX = 1 + TS_BATCH_SIZE / 8
};

/* Appends the bytes of n > 0 strictly increasing numbers. */
KV_MUST kv_status ts_postings_encode(const uint16_t *members, size_t n, struct kv_buf *out);
/* Sets the bits of members in bits (not cleared first). KV_CORRUPT for anything ts_postings_encode could not
 * have written. */
KV_MUST kv_status ts_postings_decode(kv_slice bytes, uint64_t bits[TS_BATCH_WORDS]);

/* How many members there are. KV_CORRUPT as above. */
KV_MUST kv_status ts_postings_count(kv_slice bytes, uint32_t *n);

/* Writes the members, rising, to out, which has room for them; *n: how many. KV_CORRUPT as above. */
KV_MUST kv_status ts_postings_members(kv_slice bytes, uint16_t *out, size_t *n);

/* ---- mixed: the lists of one label pair, of several metrics, in one value ---- */

enum { TS_MIXED_BYTES = 2048 /* about so large one becomes */ };
/* {0}, then begin. */
struct ts_mixed_writer {
    struct kv_buf bytes; /* the value; empty: nothing was added since begin */
    uint64_t first;      /* the lowest ref, once something was added */
    uint32_t metric, series;
};
void ts_mixed_begin(struct ts_mixed_writer *w);
void ts_mixed_release(struct ts_mixed_writer *w);
/* n > 0 rising members of one batch; (metric, batch) rises from call to call. */
KV_MUST kv_status ts_mixed_add(struct ts_mixed_writer *w, uint32_t metric, uint16_t batch,
                               const uint16_t *members, size_t n);
struct ts_mixed_reader {
    kv_slice rest;
    uint32_t metric, series;
};
struct ts_mixed_part {
    uint32_t metric;
    uint16_t batch;
    uint8_t one[4], one_len;
    kv_slice list; /* borrowed; empty: one */
};
/* KV_CORRUPT: not a mixed list. */
KV_MUST kv_status ts_mixed_open(struct ts_mixed_reader *r, kv_slice bytes);
/* The next part, in order of (metric, batch); *part is {0} before the first. Its list is checked by whoever reads it. KV_END; KV_CORRUPT. */
KV_MUST kv_status ts_mixed_next(struct ts_mixed_reader *r, struct ts_mixed_part *part);
/* Its bytes: as ts_postings_encode writes. Good as long as *part is. */
static inline kv_slice ts_mixed_list(const struct ts_mixed_part *part)
{
    return part->list.len > 0 ? part->list : (kv_slice){part->one, part->one_len};
}

/* ---- sets ---- */

struct ts_batch;
/* {0} is an empty set. */
struct ts_refset {
    struct ts_batch *slots; /* open addressing */
    size_t n, capacity;     /* batches */
    size_t bytes;           /* of memory held */
    uint16_t batch_max;     /* highest batch of any metric */
};
void ts_refset_release(struct ts_refset *set); /* leaves it empty; twice is fine */
KV_MUST kv_status ts_refset_add(struct ts_refset *set, uint64_t ref, bool *added /* may be NULL */);
/* n rising members of one batch. */
KV_MUST kv_status ts_refset_add_members(struct ts_refset *set, uint32_t metric, uint16_t batch,
                                        const uint16_t *members, size_t n);
KV_MUST kv_status ts_refset_add_encoded(struct ts_refset *set, uint32_t metric, uint16_t batch,
                                        kv_slice bytes);
bool ts_refset_has(const struct ts_refset *set, uint64_t ref);
bool ts_refset_has_metric_batch(const struct ts_refset *set, uint32_t metric, uint16_t batch);
/* Lowest and highest metric with members; false when the set is empty. */
bool ts_refset_metric_range(const struct ts_refset *set, uint32_t *lowest, uint32_t *highest);
uint64_t ts_refset_count(const struct ts_refset *set);
/* dst becomes dst or src, dst and src, dst without src. Only or can fail. */
KV_MUST kv_status ts_refset_or(struct ts_refset *dst, const struct ts_refset *src);
/* dst becomes dst or what src has of one metric. */
KV_MUST kv_status ts_refset_or_metric(struct ts_refset *dst, const struct ts_refset *src, uint32_t metric);
void ts_refset_and(struct ts_refset *dst, const struct ts_refset *src);
void ts_refset_andnot(struct ts_refset *dst, const struct ts_refset *src);
/* Whether an encoded batch and the set have a member in common. */
KV_MUST kv_status ts_refset_meets_encoded(const struct ts_refset *set, uint32_t metric, uint16_t batch,
                                          kv_slice bytes, bool *meets);
/* How many members of an encoded batch the set has too. */
KV_MUST kv_status ts_refset_common_encoded(const struct ts_refset *set, uint32_t metric, uint16_t batch,
                                           kv_slice bytes, uint32_t *n);
/* Calls each for every batch, by (metric, batch), with its members in order; members are borrowed for the
 * call. */
KV_MUST kv_status ts_refset_each(const struct ts_refset *set,
                                 kv_status (*each)(void *ctx, uint32_t metric, uint16_t batch,
                                                   const uint16_t *members, size_t n),
                                 void *ctx);
/* All refs, sorted. *refs is the caller's (kv_free), NULL when there are none. */
KV_MUST kv_status ts_refset_refs(const struct ts_refset *set, uint64_t **refs, size_t *n);

/*
 * Which series have samples in which windows, in memory: one per head generation. A series is added once for
 * each window in which it gets its first sample of the generation. Any thread.
 */
struct ts_activity;
KV_MUST kv_status ts_activity_new(struct ts_activity **out);
void ts_activity_free(struct ts_activity *activity); /* NULL is fine */
/* Adding twice is fine. On KV_NO_MEMORY the window counts as "every series of every metric" for selects from
 * then on, so a caller that cannot fail (the apply function) may ignore it; ts_index_put_activity then
 * refuses the whole activity: build a new one. */
kv_status ts_activity_add(struct ts_activity *activity, int32_t window, uint64_t ref);
/* Windows present, sorted, into out (room for max); answers how many there are. */
size_t ts_activity_windows(const struct ts_activity *activity, int32_t *out, size_t max);
uint64_t ts_activity_bytes(const struct ts_activity *activity);
/* Adds to *set the refs active in windows [from, to]; *all is set true when it is not known which (never set
 * false). metric 0: every metric. */
KV_MUST kv_status ts_activity_collect(const struct ts_activity *activity, int32_t from, int32_t to,
                                      uint32_t metric, struct ts_refset *set, bool *all);
/* Calls each for every (window, metric, batch), sorted. KV_NO_MEMORY when a window is not known exactly. each
 * must not call ts_activity_*. */
KV_MUST kv_status ts_activity_each(const struct ts_activity *activity,
                                   kv_status (*each)(void *ctx, int32_t window, uint32_t metric,
                                                     uint16_t batch, const uint16_t *members, size_t n),
                                   void *ctx);

/*
 * Series that have left the registry (leave.h): merges of the index space leave them out of its lists. Refs are never
 * given out again, so it does no harm when one is named twice or late. Any thread.
 */
struct ts_left;
struct kv_hook;
KV_MUST kv_status ts_left_new(struct ts_left **out);
void ts_left_free(struct ts_left *left); /* NULL is fine */
/* For merges that begin from now on. What is not on disk for good must not be added. */
KV_MUST kv_status ts_left_add(struct ts_left *left, const struct ts_refset *more);
void ts_left_clear(struct ts_left *left);
uint64_t ts_left_count(struct ts_left *left);
/* The hook of the index space; left lives longer than the kvcore database. */
void ts_postings_hook_of(struct ts_left *left, struct kv_hook *out);

#endif
