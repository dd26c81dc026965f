/*
 * head.h - samples that are on disk in the log but not in tables yet. Page: tsdb/docs/head.md.
 *
 * Generations follow each other: the last is active and takes every new sample; the others are frozen, oldest
 * first, and wait to be flushed. A generation is a table of series in order of first arrival; each series has
 * a stream of samples in time order (tsdb/sample.h) and, if any came late, a side buffer. At one time the
 * sample that came last wins.
 *
 * Precedence is by commit sequence: a generation's samples count as written at last_seq. A delete changes the
 * active generation at once and covers older ones as a tombstone (tsdb/erase.h): frozen samples never change.
 *
 * Threads    apply (ts_head_samples, ts_head_delete) is one at a time, in sequence order. Everything else: any thread
 *            beside it. Locks, in order: apply, list, then a generation's table, then one of its stripes. None is
 *            held over I/O.
 * Ownership  pins are counted: a generation and the tombstones live until the last pin is gone.
 * Failure    apply cannot be refused any more, so if memory runs out in it the head fails for good
 *            (ts_head_failed): nothing acknowledged is lost (the log has it), nothing wrong is answered; reads and
 *            writes answer KV_NO_MEMORY until the store is opened anew.
 */
#ifndef TS_HEAD_H
#define TS_HEAD_H

#include "kvcore/os/clock.h"
#include "tsdb/columns.h"
#include "tsdb/erase.h"
#include "tsdb/postings.h"
#include "tsdb/record.h"

enum { TS_GENERATIONS_MAX = 16 }; /* pinned at once; appends wait (ts_head_room) long before */

/* What a series may take where nothing is configured: two generations' state and some twenty samples of it; their records. */
enum { TS_HEAD_SERIES_BYTES = 320, TS_HEAD_SERIES_LOG_BYTES = 112 };
#define TS_HEAD_BYTES_DEFAULT (UINT64_C(256) << 20)

struct ts_head_options {
    uint64_t
        bytes_max; /* of all generations. 0: 256 MiB, or TS_HEAD_SERIES_BYTES for each series of the active one if that is more */
    uint64_t
        log_bytes_max; /* of one generation's records. 0: 256 MiB, or TS_HEAD_SERIES_LOG_BYTES for each of its series */
    uint64_t age_ns_max; /* of the active generation, by the monotonic clock */
    uint64_t next_seq;   /* the lowest a record to come can have */
    struct kv_clock *clock;
};

struct ts_generation;
struct ts_head;
KV_MUST kv_status ts_head_new(const struct ts_head_options *options, struct ts_head **out);
void ts_head_free(struct ts_head *head); /* NULL is fine. Pins must be gone */

/* ---- applying ---------------------------------------------------------------------------------------- */

/* body: of a samples record, behind the section. KV_CORRUPT: not a body; the head has failed then too. */
kv_status ts_head_samples(struct ts_head *head, uint64_t seq, kv_slice body);
/* record: a delete, behind its kind. tombstones: what the store holds from now on (a reference is taken
 * over); NULL: as before (replay). */
kv_status ts_head_delete(struct ts_head *head, uint64_t seq, kv_slice record,
                         struct ts_tombstones *tombstones);
/* Says that a record could not be applied: the head can no longer be used. */
void ts_head_fail(struct ts_head *head, kv_status why);
/* KV_OK, or why the head can no longer be used. */
kv_status ts_head_failed(const struct ts_head *head);

/* ---- life of generations ----------------------------------------------------------------------------- */

/* Freezes the active generation if it holds anything (or, unless `force`, only if it is full or old) and
 * starts the next. */
KV_MUST kv_status ts_head_rotate(struct ts_head *head, bool force);
/* During a background replay new commits go to `head` while older records are read into another one;
 * afterwards its generations are put before head's own. older is left empty. */
KV_MUST kv_status ts_head_prepend(struct ts_head *head, struct ts_head *older);
/* The oldest frozen generation, pinned; NULL when none waits. Unpin it. */
struct ts_generation *ts_head_oldest(struct ts_head *head);
/* Its samples are visible in tables now. */
void ts_head_drop(struct ts_head *head, struct ts_generation *generation);
void ts_generation_unpin(struct ts_generation *generation); /* NULL is fine */

struct ts_head_stats {
    uint64_t samples, bytes, series;  /* series: of the generation that has most */
    uint32_t frozen;                  /* generations waiting for the flush */
    int64_t time_min_ms, time_max_ms; /* min > max: none */
};
void ts_head_stats(struct ts_head *head, struct ts_head_stats *out);
/* Whether there is room for `bytes` more; false: wait for a flush. */
bool ts_head_room(struct ts_head *head, uint64_t bytes);
/* The lowest sequence that is not flushed: records below it are in tables. 0: nothing was ever applied and
 * none is waiting. */
uint64_t ts_head_floor(struct ts_head *head);
/* Whether any generation holds a sample of the window (or may). */
bool ts_head_has_window(struct ts_head *head, int32_t window);

/* ---- reading ----------------------------------------------------------------------------------------- */

/* One consistent state of everything not in tables: take it first, then the kvcore snapshot. */
struct ts_head_pin {
    struct ts_generation *generations[TS_GENERATIONS_MAX]; /* oldest first */
    uint64_t seqs[TS_GENERATIONS_MAX]; /* tombstones above it cover the generation; UINT64_MAX: none does
                                          (active) */
    size_t n;
    struct ts_tombstones *tombstones; /* NULL: there are none */
};
KV_MUST kv_status ts_head_pin(struct ts_head *head, struct ts_head_pin *out);
void ts_head_unpin(struct ts_head_pin *pin); /* twice is fine */
/* Replaces the tombstones: the change is made by `edit` from what is held now, under the list lock (no I/O in
 * it). */
KV_MUST kv_status ts_head_edit_tombstones(struct ts_head *head,
                                          kv_status (*edit)(void *ctx, const struct ts_tombstones *now,
                                                            struct ts_tombstones **next),
                                          void *ctx);

#define TS_SLOT_NONE UINT32_MAX
const struct ts_activity *ts_generation_activity(const struct ts_generation *generation);
uint64_t ts_generation_last_seq(const struct ts_generation *generation); /* frozen only */
uint32_t ts_generation_series(struct ts_generation *generation);
uint64_t ts_generation_ref(struct ts_generation *generation, uint32_t slot);
/* slots[i]: of refs[i], or TS_SLOT_NONE. */
void ts_generation_find(struct ts_generation *generation, const uint64_t *refs, size_t n, uint32_t *slots);

/* Buffers of one reader, reused. {0} is empty. */
struct ts_head_scratch {
    uint8_t *bytes;
    size_t capacity;
    struct ts_columns late, merged;
};
void ts_head_scratch_release(struct ts_head_scratch *scratch);
/* Appends the samples of a series with from_ms <= t <= to_ms to *out, in time order, each time once. */
KV_MUST kv_status ts_generation_read(struct ts_generation *generation, uint32_t slot, int64_t from_ms,
                                     int64_t to_ms, struct ts_head_scratch *scratch, struct ts_columns *out);

/* Walks a frozen generation's series forward in time without decoding anything twice. {0} is the beginning.
 */
struct ts_head_cursor {
    const void *segment;
    uint32_t at, done; /* byte of the segment; samples decoded */
    bool held;         /* state holds a sample not yet handed out */
    struct ts_sample_state state;
};
/* As ts_generation_read with from_ms at the cursor. */
KV_MUST kv_status ts_generation_walk(struct ts_generation *generation, uint32_t slot, int64_t from_ms,
                                     int64_t to_ms, struct ts_head_cursor *cursor,
                                     struct ts_head_scratch *scratch, struct ts_columns *out);

#endif
