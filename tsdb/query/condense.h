/*
 * condense.h - chunks that need not be decoded, since the header (tsdb/chunk/summary.h) answers what a range function asks of them: one that no
 * window's edge cuts becomes two or three samples from which the function gives the same bits.
 *
 * Windows are left-open, (end - range, end], one a step. A chunk is cut if some of its samples are before an edge and some behind. One that is
 * not cut and in no window is left out. One inside becomes its first and its last sample, and for some functions one between them that stands
 * for the others; how many are missing the caller keeps, for counts.
 *
 * Threads    pure functions; any thread.
 */
#ifndef TS_CONDENSE_H
#define TS_CONDENSE_H

#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

#include <stddef.h>
#include <stdint.h>

enum ts_condense_kind {
    TS_CONDENSE_NOT,  /* every sample of a window is needed */
    TS_CONDENSE_ENDS, /* the first and last, and how many there are */
    TS_CONDENSE_RISE, /* likewise, where no value is below the one before it */
    TS_CONDENSE_FLAT, /* likewise, where all values are the same */
    TS_CONDENSE_MIN,  /* likewise, and the smallest in between */
    TS_CONDENSE_MAX,
    TS_CONDENSE_SUM /* likewise, and in between the sum of the others: of whole numbers (ts_condense_exact) */
};
struct ts_condense {
    enum ts_condense_kind kind;
    int64_t end_ms, step_ms, range_ms; /* step 0: all windows are the same */
    size_t steps;                      /* 0: nothing is known of the windows, so nothing is condensed */
};
enum { TS_CONDENSED_MAX = 3 };
struct ts_condensed {
    int64_t times_ms[TS_CONDENSED_MAX];
    double values[TS_CONDENSED_MAX];
    size_t n;         /* 0: the chunk is in no window */
    uint32_t missing; /* samples of the chunk less n */
};
/* KV_OK, KV_END (decode it) or negative: the chunk's header is damaged. */
KV_MUST kv_status ts_condense(const struct ts_condense *how, kv_slice chunk, struct ts_condensed *out);
/* Whether samples some of which are TS_CONDENSE_SUM's give the same sum, to the bit, as those they stand for: whole numbers, less than 2^52
 * together. Inside a chunk the sum may stray by 2^52 more and come back, so it is below 2^53 all the way: no addition rounds. */
bool ts_condense_exact(const double *values, size_t n);

#endif
