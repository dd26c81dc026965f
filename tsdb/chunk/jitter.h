/*
 * jitter.h - the times of a chunk whose distances are nearly even: how late each is against a fixed step, entropy-coded by sequence.h, in one
 * piece apart from the values.
 *
 * The series of one scrape have the same times to the bit, so also the same bytes of them: a table's compression finds the whole piece in the
 * chunk before, and a reader of chunk after chunk, who keeps the times decoded last by their bytes (struct ts_chunk_memo), decodes them once.
 *
 *     jitter := step:varint (len:varint gap:zigzag)* sequence numbers*      bytes and grammar: tsdb/docs/chunk.md
 *
 * Units are blocks of TS_JITTER_UNIT times, the last one the rest; each can be read by itself.
 *
 * Threads    pure functions over the caller's memory, a memo included; any thread.
 */
#ifndef TS_JITTER_H
#define TS_JITTER_H

#include "tsdb/chunk/chunk.h"
#include "tsdb/chunk/sequence.h"

enum { TS_JITTER_UNIT = TS_HUFFMAN_NUMBERS_MAX, TS_JITTER_UNITS_MAX = TS_CHUNK_SAMPLES_MAX / TS_JITTER_UNIT };

/* late_ms[i] = times_ms[i] - times_ms[0] - i * *step_ms for the step that fits n times best, n >= 2. */
void ts_jitter_late(const int64_t *times_ms, size_t n, int64_t *step_ms, int64_t *late_ms);
/* sequence: planned over late_ms in blocks of TS_JITTER_UNIT. Appends the piece with its length ahead. */
KV_MUST kv_status ts_jitter_put(const struct ts_sequence *sequence, int64_t step_ms, const int64_t *late_ms,
                                size_t n, struct kv_buf *out);

/* A piece, its directory read. */
struct ts_jitter {
    kv_slice bytes, coded; /* all of it, without its length; the sequence and what follows */
    int64_t step_ms;
    size_t n, n_units;
    int64_t first_ms[TS_JITTER_UNITS_MAX], last_ms;
    size_t ends[TS_JITTER_UNITS_MAX]; /* of units, behind the sequence; the last one's is not known */
};
/* Takes the piece of a chunk of that info off the front of *in. */
KV_MUST kv_status ts_jitter_take(kv_slice *in, const struct ts_chunk_info *info, struct ts_jitter *jitter);
/* The times of the units [begin, end), strictly rising, to times_ms. memo may be NULL. */
KV_MUST kv_status ts_jitter_read(const struct ts_jitter *jitter, size_t begin, size_t end,
                                 struct ts_chunk_memo *memo, int64_t *times_ms);

#endif
