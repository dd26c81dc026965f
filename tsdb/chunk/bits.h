/*
 * bits.h - a bit stream, first bit in the highest bit of the first byte. Writers have room reserved; readers
 * never pass the end.
 */
#ifndef TS_BITS_H
#define TS_BITS_H

#include "kvcore/base/coding.h"

/* Writes the low n bits (0 to 64) of v at bit position *at of zeroed memory. */
static inline void ts_bits_put(uint8_t *data, uint32_t *at, uint64_t v, unsigned n)
{
    while (n > 0) {
        unsigned room = 8 - *at % 8;
        unsigned take = n < room ? n : room;
        uint64_t part = (v >> (n - take)) & ((1u << take) - 1);
        data[*at / 8] = (uint8_t)(data[*at / 8] | part << (room - take));
        *at += take;
        n -= take;
    }
}

struct ts_bits_in {
    const uint8_t *data;
    size_t bits; /* in all */
    size_t at;
};

/* The next n bits (0 to 64); past the end they read as zero and `at` passes `bits`, which the caller checks
 * once. */
static inline uint64_t ts_bits_get(struct ts_bits_in *in, unsigned n)
{
    if (n == 0)
        return 0;
    size_t byte = in->at / 8;
    unsigned shift = (unsigned)(in->at % 8);
    in->at += n;
    if ((byte + 9) * 8 <= in->bits) {
        uint64_t high = __builtin_bswap64(kv_get_fixed64(in->data + byte)) << shift;
        if (shift)
            high |= (uint64_t)in->data[byte + 8] >> (8 - shift);
        return high >> (64 - n);
    }
    unsigned __int128 word = 0;
    for (size_t k = 0; k < 9; k++)
        word = word << 8 | ((byte + k) * 8 < in->bits ? in->data[byte + k] : 0);
    uint64_t v = (uint64_t)(word >> (72 - shift - n));
    return n == 64 ? v : v & (((uint64_t)1 << n) - 1);
}

#endif
