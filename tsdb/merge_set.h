/*
 * merge_set.h - pieces of one series, each in time order, into one run: at equal times the higher sequence
 * wins.
 *
 * Pieces are appended behind each other in one pair of columns; as long as they come in time order nothing
 * else is done (the way of nearly every chunk). Only where they overlap are they resolved, from the first
 * overlapping piece on.
 *
 * Threads    one at a time; reuse it, its memory stays. {0} is empty.
 */
#ifndef TS_MERGE_SET_H
#define TS_MERGE_SET_H

#include "kvcore/base/slice.h"
#include "tsdb/chunk/chunk.h"
#include "tsdb/columns.h"
#include "tsdb/key.h"

struct ts_merge_set {
    struct ts_columns samples; /* the result, once resolved */
    struct ts_piece {
        size_t start, n;
        uint64_t seq;
    } * pieces;
    size_t n_pieces, capacity;
    bool overlap;
    int64_t overlap_ms; /* the earliest time of a piece that came out of order */
    struct ts_columns merged, next, source;
    struct ts_chunk_memo memo; /* series of one scrape share their times */
};
void ts_merge_set_release(struct ts_merge_set *set);
static inline void ts_merge_set_clear(struct ts_merge_set *set)
{
    set->samples.n = set->n_pieces = 0;
    set->overlap = false;
}
/* Samples appended to set->samples since `start` are one piece; those that a tombstone above seq covers go.
 */
KV_MUST kv_status ts_merge_set_piece(struct ts_merge_set *set, size_t start, uint64_t seq,
                                     const struct ts_tombstone *tombs, size_t n_tombs);
/* Decodes a chunk's samples in [from, to] as a piece. *decoded (may be NULL): how many there were. */
KV_MUST kv_status ts_merge_set_chunk(struct ts_merge_set *set, kv_slice chunk, uint64_t seq, int64_t from_ms,
                                     int64_t to_ms, const struct ts_tombstone *tombs, size_t n_tombs,
                                     size_t *decoded);
/* Afterwards set->samples strictly increase. */
KV_MUST kv_status ts_merge_set_resolve(struct ts_merge_set *set);

#endif
