/*
 * kv_gen.h - the keys, values and orders of kv_bench, from a seed alone; badger/main.go makes the same bytes.
 *
 * Keys are 16 decimal digits, as in LevelDB's bench. A value names its key in its first 8 bytes, so that every
 * read is checked; half of the rest is random and the other half repeats it, so that it compresses to about half.
 */
#ifndef BENCH_KV_GEN_H
#define BENCH_KV_GEN_H

#include "kvcore/base/coding.h"

#include <math.h>

enum { GEN_KEY_LEN = 16, GEN_VALUE_MAX = 1 << 16 };

static inline uint64_t gen_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline kv_slice gen_key(uint8_t out[GEN_KEY_LEN], uint64_t i)
{
    for (int at = GEN_KEY_LEN - 1; at >= 0; at--, i /= 10)
        out[at] = (uint8_t)('0' + i % 10);
    return kv_slice_of(out, GEN_KEY_LEN);
}

/* Among the keys, and none of them. */
static inline kv_slice gen_key_missing(uint8_t out[GEN_KEY_LEN], uint64_t i)
{
    gen_key(out, i);
    out[GEN_KEY_LEN - 1] = (uint8_t)(out[GEN_KEY_LEN - 1] - '0' + 'a');
    return kv_slice_of(out, GEN_KEY_LEN);
}

/* len >= 16. generation: 0 for the first value of a key. */
static inline kv_slice gen_value(uint8_t *out, uint64_t i, uint64_t generation, size_t len)
{
    size_t half = (len - 8 + 1) / 2;
    uint64_t state = gen_mix(i ^ (generation << 40));
    kv_put_fixed64(out, i);
    for (size_t at = 0; at < half; at += 8) {
        state = gen_mix(state);
        kv_put_fixed64(out + 8 + at, state); /* the last one may pass len: out has 8 bytes more */
    }
    memcpy(out + 8 + half, out + 8, len - 8 - half);
    return kv_slice_of(out, len);
}

/* Does value belong to key number i? */
static inline bool gen_value_of(kv_slice value, uint64_t i, size_t len)
{
    return value.len == len && kv_get_fixed64(value.data) == i;
}

/* A permutation of [0, n): where j stands in random order. */
static inline uint64_t gen_shuffle(uint64_t j, uint64_t n)
{
    int bits = 1;
    while (bits < 63 && (UINT64_C(1) << bits) < n)
        bits++;
    uint64_t mask = (UINT64_C(1) << bits) - 1;
    int half = (bits + 1) / 2;
    do { /* each step is a bijection of bits-wide numbers; those past n are walked on */
        j = (j * UINT64_C(0xd6e8feb86659fd93) + UINT64_C(0x2545f4914f6cdd1d)) & mask;
        j ^= j >> half;
        j = (j * UINT64_C(0x9e3779b97f4a7c15)) & mask;
        j ^= j >> half;
        j = (j * UINT64_C(0xbf58476d1ce4e5b9)) & mask;
        j ^= j >> half;
    } while (j >= n);
    return j;
}

/* Zipfian ranks by Gray et al., "Quickly Generating Billion-Record Synthetic Databases" (SIGMOD 1994), as YCSB draws them:
 * theta 0.99, ranks scattered over the keys. */
struct gen_zipf {
    uint64_t n;
    double theta, alpha, zetan, eta, half_pow_theta;
};

static inline void gen_zipf_init(struct gen_zipf *z, uint64_t n)
{
    double zeta = 0;
    z->n = n;
    z->theta = 0.99;
    for (uint64_t i = 1; i <= n; i++)
        zeta += pow(1.0 / (double)i, z->theta);
    double zeta2 = 1 + pow(0.5, z->theta);
    z->alpha = 1 / (1 - z->theta);
    z->zetan = zeta;
    z->eta = (1 - pow(2.0 / (double)n, 1 - z->theta)) / (1 - zeta2 / zeta);
    z->half_pow_theta = 1 + pow(0.5, z->theta);
}

static inline uint64_t gen_zipf_key(const struct gen_zipf *z, uint64_t random)
{
    double u = (double)(random >> 11) * 0x1p-53, uz = u * z->zetan;
    uint64_t rank = uz < 1 ? 0
                    : uz < z->half_pow_theta
                        ? 1
                        : (uint64_t)((double)z->n * pow(z->eta * u - z->eta + 1, z->alpha));
    return gen_mix(rank) % z->n;
}

/* The metrics shape: row i of a load in time order over `series` series. */
static inline kv_slice gen_metric_key(uint8_t out[GEN_KEY_LEN], uint64_t series, uint64_t step)
{
    kv_put_be64(out, gen_mix(series) >> 20);
    kv_put_be64(out + 8, UINT64_C(1700000000000) + step * 10000);
    return kv_slice_of(out, GEN_KEY_LEN);
}
static inline size_t gen_metric_value_len(uint64_t i)
{
    return 100 + (size_t)(gen_mix(i) % 101);
}

#endif
