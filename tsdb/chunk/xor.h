/*
 * xor.h - Gorilla's value coding over bits.h, shared by the block codec and the head's stream.
 *
 *     value := 0                                             same bits as before
 *            | 10 bits[window]                               the XOR fits the window of leading and trailing zeros used last
 *            | 11 leading:5 length-1:6 bits[length]          a new window
 */
#ifndef TS_XOR_H
#define TS_XOR_H

#include "tsdb/chunk/bits.h"

enum { TS_XOR_NO_WINDOW = 255, TS_XOR_BITS_MAX = 2 + 5 + 6 + 64 };

struct ts_xor_window {
    uint8_t leading, trailing;
};

static inline void ts_xor_put(uint8_t *data, uint32_t *at, uint64_t x, struct ts_xor_window *window)
{
    if (x == 0) {
        ts_bits_put(data, at, 0, 1);
        return;
    }
    unsigned leading = (unsigned)__builtin_clzll(x), trailing = (unsigned)__builtin_ctzll(x);
    leading = leading > 31 ? 31 : leading;
    if (window->leading != TS_XOR_NO_WINDOW && leading >= window->leading && trailing >= window->trailing) {
        ts_bits_put(data, at, 2, 2);
        ts_bits_put(data, at, x >> window->trailing, 64u - window->leading - window->trailing);
        return;
    }
    unsigned length = 64 - leading - trailing;
    ts_bits_put(data, at, (uint64_t)3 << 11 | (uint64_t)leading << 6 | (length - 1), 13);
    ts_bits_put(data, at, x >> trailing, length);
    *window = (struct ts_xor_window){(uint8_t)leading, (uint8_t)trailing};
}

/* False when the bytes ask for a window that does not exist: damage. */
static inline bool ts_xor_get(struct ts_bits_in *in, uint64_t *x, struct ts_xor_window *window)
{
    *x = 0;
    if (!ts_bits_get(in, 1))
        return true;
    if (ts_bits_get(in, 1)) {
        uint64_t w = ts_bits_get(in, 11);
        unsigned leading = (unsigned)(w >> 6), length = (unsigned)(w & 63) + 1;
        if (leading + length > 64)
            return false;
        *window = (struct ts_xor_window){(uint8_t)leading, (uint8_t)(64 - leading - length)};
    } else if (window->leading == TS_XOR_NO_WINDOW) {
        return false;
    }
    *x = ts_bits_get(in, 64u - window->leading - window->trailing) << window->trailing;
    return true;
}

#endif
