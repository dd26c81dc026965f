/*
 * summary.h - what a chunk's header says of all its values, so that a window around the whole chunk need not decode it.
 *
 *     summary := kind:u8 numbers [sum:zigzag]     sum only if whole: of all values, less count * first
 *     numbers := first:zigzag last:zigzag low:varint high:varint      exponent 0 to 12: a value is its number / 10^exponent; last is less first,
 *                                                                      low is first less the smallest, high the largest less first
 *              | (value:fixed64)*4                                     exponent 15: first, last, smallest, largest
 *     kind    := exponent (low 4 bits) | 16 if rises | 32 if whole (exponent 0 only)
 *
 * A chunk with a NaN among its values has none (stale markers are NaNs). Of equal extremes (0 and -0) it names the first.
 *
 * Threads    pure functions over the caller's memory; any thread.
 */
#ifndef TS_SUMMARY_H
#define TS_SUMMARY_H

#include "kvcore/base/buf.h"

struct ts_chunk_summary {
    double first, last, min, max;
    bool rises; /* no value is below the one before it: no counter reset */
    bool
        whole; /* all are whole numbers of less than 2^40, so every order of adding them gives `sum`: at most 2^52 */
    int64_t sum; /* if whole */
};

/* Of values[n], n from 1 to TS_CHUNK_SAMPLES_MAX. False: there is a NaN. */
bool ts_summary_make(const double *values, size_t n, struct ts_chunk_summary *out);
/* Of n times one value, which is no NaN. */
void ts_summary_const(double value, size_t n, struct ts_chunk_summary *out);
/* Whether told, of a header, says of values what made says, to the bit; it need not know that they are whole. */
bool ts_summary_equal(const struct ts_chunk_summary *told, const struct ts_chunk_summary *made);
/* Appends it; count: the chunk's samples. */
KV_MUST kv_status ts_summary_put(const struct ts_chunk_summary *summary, size_t count, struct kv_buf *out);
/* Takes it off the front of *in. KV_TOO_NEW: a kind from the future. KV_CORRUPT: it is none, or contradicts itself. */
KV_MUST kv_status ts_summary_take(kv_slice *in, size_t count, struct ts_chunk_summary *out);

#endif
