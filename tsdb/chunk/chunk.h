/*
 * chunk.h - a run of samples of one series in as few bytes as a small trial finds; lossless to the bit for
 * every double.
 *
 * Bytes: tsdb/docs/chunk.md. A chunk holds 1 to TS_CHUNK_SAMPLES_MAX samples at strictly increasing times in
 * blocks of TS_CHUNK_BLOCK (four times that where all is entropy-coded), each decodable by itself, so that a query touches only the blocks it needs. How
 * times and values are encoded is chosen per chunk.
 *
 * Threads    pure functions over the caller's memory; any thread.
 * Failure    encode: KV_NO_MEMORY or KV_LIMIT from the buffer. decode: KV_CORRUPT (bytes come from disk),
 *            KV_TOO_NEW (unknown codec).
 * Sources    XOR: Pelkonen et al., "Gorilla", VLDB 2015. Scaled decimals with exceptions: the idea of
 *            Afroozeh et al., "ALP", SIGMOD 2024. Patched frame of reference: Zukowski et al., "Super-Scalar
 *            RAM-CPU Cache Compression", ICDE 2006.
 */
#ifndef TS_CHUNK_H
#define TS_CHUNK_H

#include "kvcore/base/buf.h"
#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"
#include "tsdb/chunk/summary.h"

enum { TS_CHUNK_SAMPLES_MAX = 4096, TS_CHUNK_BYTES_MAX = 32 * 1024, TS_CHUNK_BLOCK = 128 };

enum ts_time_codec { TS_TIME_STEP = 0, TS_TIME_DELTA = 1, TS_TIME_HUFFMAN = 2, TS_TIME_JITTER = 3 };
enum ts_value_codec {
    TS_VALUE_CONST = 0,
    TS_VALUE_INT = 1,
    TS_VALUE_XOR = 2,
    TS_VALUE_RAW = 3,
    TS_VALUE_HUFFMAN = 4,
    TS_VALUE_BITS = 5
};
/* How much is tried. SMALL also tries entropy coding, which takes several times as long to write and about twice as long to
 * read: for what is written once and kept. */
enum ts_chunk_effort { TS_CHUNK_QUICK, TS_CHUNK_SMALL };

struct ts_chunk_info {
    uint32_t count;
    int64_t first_ms, last_ms;
    enum ts_time_codec time_codec;
    enum ts_value_codec value_codec;
    enum ts_chunk_effort effort; /* with which it was written */
};

/* Appends one chunk of the first samples to *out: as many as fit the two maxima, *taken of n (n >= 1).
 * times_ms strictly increase and span less than 2^62 ms. */
KV_MUST kv_status ts_chunk_encode(const int64_t *times_ms, const double *values, size_t n,
                                  enum ts_chunk_effort effort, struct kv_buf *out, size_t *taken);
/* Reads the header only: the cost of some varints. */
KV_MUST kv_status ts_chunk_info(kv_slice chunk, struct ts_chunk_info *out);
/* What the header says of all values: chunks of 512 samples or more written with SMALL, and constant ones. KV_END: nothing (a NaN is among them,
 * or the chunk is another). */
KV_MUST kv_status ts_chunk_summary(kv_slice chunk, struct ts_chunk_info *info, struct ts_chunk_summary *out);
/* Writes the samples with from_ms <= t <= to_ms to times_ms and values, each with room for
 * TS_CHUNK_SAMPLES_MAX, and their number to *n (0 is fine). Decodes only the blocks that overlap the range.
 * After a failure the arrays hold garbage. */
KV_MUST kv_status ts_chunk_decode(kv_slice chunk, int64_t from_ms, int64_t to_ms, int64_t *times_ms,
                                  double *values, size_t *n);
/* Jittered times decoded lately, for whoever reads chunk after chunk: those of one scrape have the same, and are decoded once. {0} is empty; it
 * takes what memory it needs, at most 16 times 40 KiB, and does without where there is none. */
enum { TS_CHUNK_MEMO = 16 };
struct ts_chunk_memo {
    struct ts_memo_times *times[TS_CHUNK_MEMO];
    size_t bytes; /* that it holds */
};
void ts_chunk_memo_release(struct ts_chunk_memo *memo);
/* ts_chunk_decode with a memo. */
KV_MUST kv_status ts_chunk_decode_next(kv_slice chunk, int64_t from_ms, int64_t to_ms,
                                       struct ts_chunk_memo *memo, int64_t *times_ms, double *values,
                                       size_t *n);
/* The name of a codec for people: "const", "int", "xor", "raw", "huffman", "bits". Static. */
const char *ts_value_codec_name(enum ts_value_codec codec);
const char *ts_time_codec_name(enum ts_time_codec codec); /* "step", "delta", "huffman", "jitter" */

#endif
