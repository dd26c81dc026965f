/*
 * format.h - what encode.c and decode.c share of a chunk's layout (tsdb/docs/chunk.md). Private to the two.
 */
#ifndef TS_CHUNK_FORMAT_H
#define TS_CHUNK_FORMAT_H

#include "tsdb/chunk/chunk.h"
#include "tsdb/chunk/huffman.h"

enum {
    CHUNK_FLAG_SMALL = 1,
    CHUNK_FLAG_SUMMARY = 2,
    CHUNK_BLOCK_LONG = TS_HUFFMAN_NUMBERS_MAX, /* where nothing but bits of huffman.h is in a block */
    CHUNK_BLOCKS_MAX = TS_CHUNK_SAMPLES_MAX / TS_CHUNK_BLOCK
};

/* Whether the values are a sequence of q: scaled decimals, or the doubles' bits. */
static inline bool chunk_is_sequence(enum ts_value_codec codec)
{
    return codec == TS_VALUE_HUFFMAN || codec == TS_VALUE_BITS;
}

static inline size_t chunk_block_samples(enum ts_time_codec time_codec, enum ts_value_codec value_codec)
{
    return time_codec != TS_TIME_DELTA && (value_codec == TS_VALUE_CONST || chunk_is_sequence(value_codec))
               ? CHUNK_BLOCK_LONG
               : TS_CHUNK_BLOCK;
}

/* Whether blocks carry any byte at all. */
static inline bool chunk_has_blocks(enum ts_time_codec time_codec, enum ts_value_codec value_codec)
{
    return (time_codec != TS_TIME_STEP && time_codec != TS_TIME_JITTER) || value_codec != TS_VALUE_CONST;
}

#endif
