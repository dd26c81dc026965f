/*
 * sequence.h - a chunk's integers (times or scaled values), entropy-coded: each, or its difference from the one before, as its distance
 * from what is usual, by huffman.h. Only one code for a chunk; its blocks are readable one by one.
 *
 *     sequence := mode:u8 base:zigzag code           mode: 0 the integers themselves, 1 their differences; 2 and 3 the same, none below base
 *     block    := numbers                            zigzag(x - base), or x - base in modes 2 and 3, of all n integers x; in modes 1 and 3 of the last n - 1
 *                                                    differences, for the first integer is known from elsewhere (the chunk's directory)
 *
 * All arithmetic is modulo 2^64. Pure functions over the caller's memory; any thread.
 */
#ifndef TS_SEQUENCE_H
#define TS_SEQUENCE_H

#include "tsdb/chunk/huffman.h"

struct ts_sequence {
    bool differences; /* modes 1 and 3 */
    bool above;       /* modes 2 and 3 */
    int64_t base;
    struct ts_huffman_code code;
};
/* Chooses the mode and makes the code for q[n], n >= 1, in blocks of `block`. scratch: room for n. Returns the bytes that it takes in them at least. */
size_t ts_sequence_plan(const int64_t *q, size_t n, size_t block, int64_t *scratch,
                        struct ts_sequence *sequence);
KV_MUST kv_status ts_sequence_put(const struct ts_sequence *sequence, struct kv_buf *out);
KV_MUST kv_status ts_sequence_put_block(const struct ts_sequence *sequence, const int64_t *q, size_t n,
                                        struct kv_buf *out);

struct ts_scale;
struct ts_sequence_reader {
    bool differences, above;
    int64_t base;
    struct ts_huffman_table table;
};
/* long_read: see ts_huffman_take_code. */
KV_MUST kv_status ts_sequence_take(kv_slice *in, bool long_read, struct ts_sequence_reader *reader);
/* Blocks of n integers, `lanes` (see ts_huffman_lanes) at once; q: one block's behind the other's. starts: their first integers, used in modes 1 and 3. */
KV_MUST kv_status ts_sequence_take_blocks(kv_slice *in, size_t lanes, const struct ts_sequence_reader *reader,
                                          const int64_t *starts, int64_t *q, size_t n);

/* The same as distances: in modes 1 and 3 from the block's first integer, in the others from the base; signed.
 * numbers[lane] has room for n and TS_KERNEL_SLACK more. KV_END and nothing taken where a number may not fit 32 bits: take the block then. */
KV_MUST kv_status ts_sequence_take_near(kv_slice *in, size_t lanes, const struct ts_sequence_reader *reader,
                                        uint32_t *const *numbers, size_t n);
/* The same, scaled to values (kernel.h); scales[lane].start is
 * the block's first integer, in modes 0 and 2 the base. KV_END and nothing taken where a number may not fit 32 bits: take the block then. */
KV_MUST kv_status ts_sequence_take_values(kv_slice *in, size_t lanes, const struct ts_sequence_reader *reader,
                                          const struct ts_scale *scales, double *values, size_t n);

#endif
