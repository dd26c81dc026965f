/*
 * codec.h - SEAM inside a chunk: how one block of at most TS_CHUNK_BLOCK values becomes bytes, one row per
 * value codec.
 *
 * encode.c and decode.c own the header, the directory and the choice; a codec sees one block at a time and, for the whole
 * chunk, its parameters.
 */
#ifndef TS_CODEC_H
#define TS_CODEC_H

#include "tsdb/chunk/chunk.h"

/* ---- int: decimals as scaled integers */

enum { TS_INT_EXPONENT_MAX = 12 };
/* How an integer m is scaled, as programs do: m / 10^exponent; m * 10^-exponent, which a double only comes near to; m / 1000 / 1000. */
enum ts_int_how { TS_INT_DIVIDED = 0, TS_INT_MULTIPLIED = 1, TS_INT_DIVIDED_TWICE = 2 };
struct ts_int_params {
    enum ts_int_how how;
    uint8_t exponent;      /* value = q * factor + offset, scaled; 6 if divided twice */
    uint64_t factor;       /* >= 1 */
    uint64_t offset;       /* < factor */
    uint32_t n_exceptions; /* values that are no such number: stored by bits in the header */
};
/* Fills q[n] (0 .. n-1) and params if at least 15 of 16 values are decimals; false otherwise. exceptions gets
 * their indexes. */
bool ts_int_analyse(const double *values, size_t n, int64_t *q, uint16_t *exceptions,
                    struct ts_int_params *params);
KV_MUST kv_status ts_int_encode_block(const int64_t *q, size_t n, struct kv_buf *out);
KV_MUST kv_status ts_int_decode_block(kv_slice *in, const struct ts_int_params *params, double *values,
                                      size_t n);
/* The values of q[n], which may lie where they go to and is overwritten; n is at most TS_CHUNK_SAMPLES_MAX. This, decode_block and scale leave out how it is scaled where that is not
 * TS_INT_DIVIDED: ts_int_finish, once, over what all of them gave. */
void ts_int_finish(const struct ts_int_params *params, double *values, size_t n);
void ts_int_values(const struct ts_int_params *params, int64_t *q, double *values, size_t n);

/* How kernel.h makes values of q = start + numbers[i] (signed 32 bits). False if start or the factor are so large that the product may not be
 * exact. */
struct ts_scale;
bool ts_int_scale(const struct ts_int_params *params, int64_t start, struct ts_scale *out);

/* ---- xor */

KV_MUST kv_status ts_xor_encode_block(const double *values, size_t n, struct kv_buf *out);
KV_MUST kv_status ts_xor_decode_block(kv_slice *in, double *values, size_t n);

#endif
