/*
 * sample.h - one sample after another in bytes: how the commit record and the head keep samples before they
 * become chunks.
 *
 * Byte-aligned, so writing is a few ns, bytes once written never change, and a small step of an integer gauge
 * or counter at a regular interval takes one byte. Bytes: tsdb/docs/journal.md. Lossless to the bit for every
 * double.
 *
 * Threads    pure functions; any thread.
 * Failure    ts_sample_take answers NULL for bytes that end early or use a code not yet given out.
 */
#ifndef TS_SAMPLE_H
#define TS_SAMPLE_H

#include "kvcore/base/coding.h"

enum {
    TS_SAMPLE_LEN_MAX = 1 + KV_VARINT_LEN_MAX + 8, /* control, delta of delta, value */
    TS_SAMPLE_PAD = 32, /* ts_sample_take is fastest with this many readable bytes behind p */
};

/* What the next sample is written against. {0} before the first. */
struct ts_sample_state {
    int64_t time_ms, delta_ms;
    uint64_t bits; /* of the value */
};

/* Control byte: time class in the two high bits, value code in the six low ones. */
enum {
    TS_SAMPLE_DOD_ZERO = 0, /* delta of delta: none; one byte; two bytes; a zigzag varint */
    TS_SAMPLE_DOD_8 = 1,
    TS_SAMPLE_DOD_16 = 2,
    TS_SAMPLE_DOD_VARINT = 3,

    TS_SAMPLE_SAME = 0,   /* the value before, to the bit */
    TS_SAMPLE_XOR = 1,    /* 1..36: XOR with the bits before; trailing zero bytes and significant bytes, see
                             sample_xor_base */
    TS_SAMPLE_INT_1 = 37, /* integer step in 1, 2, 3, 4, 6 bytes, two's complement */
    TS_SAMPLE_INT_2 = 38,
    TS_SAMPLE_INT_3 = 39,
    TS_SAMPLE_INT_4 = 40,
    TS_SAMPLE_INT_6 = 41,
    TS_SAMPLE_STEP = 52, /* 42..62: integer step of code - 52, none behind it. 63: not given out */
};

static inline uint64_t ts_double_bits(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}
static inline double ts_double_of(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* The integer a double is, to the bit; 0 and false for every other (-0.0 among them). */
static inline bool ts_sample_integer(uint64_t bits, int64_t *out)
{
    double v = ts_double_of(bits);
    *out = 0;
    if (!(v >= -9007199254740992.0 && v <= 9007199254740992.0))
        return false;
    int64_t i = (int64_t)v;
    if (ts_double_bits((double)i) != bits)
        return false;
    *out = i;
    return true;
}

/* First XOR code with `trailing` zero bytes: 8 - trailing codes, one per number of significant bytes. */
static inline uint32_t ts_sample_xor_base(uint32_t trailing)
{
    return TS_SAMPLE_XOR + 8 * trailing - trailing * (trailing - 1) / 2;
}

/* Writes a value against `before` at p (room for 8); answers its code and counts the bytes in *len. */
static inline uint32_t ts_sample_put_value(uint64_t before, uint64_t bits, uint8_t *p, size_t *len)
{
    if (bits == before)
        return *len = 0, TS_SAMPLE_SAME;
    int64_t a, b;
    ts_sample_integer(before, &a);
    if (ts_sample_integer(bits, &b)) {
        int64_t step = b - a;
        kv_put_fixed64(p, (uint64_t)step);
        if (step >= -10 && step <= 10)
            return *len = 0, (uint32_t)(TS_SAMPLE_STEP + step);
        if (step == (int8_t)step)
            return *len = 1, TS_SAMPLE_INT_1;
        if (step == (int16_t)step)
            return *len = 2, TS_SAMPLE_INT_2;
        if (step >= -(1 << 23) && step < 1 << 23)
            return *len = 3, TS_SAMPLE_INT_3;
        if (step == (int32_t)step)
            return *len = 4, TS_SAMPLE_INT_4;
        if (step >= -((int64_t)1 << 47) && step < (int64_t)1 << 47)
            return *len = 6, TS_SAMPLE_INT_6;
    }
    uint64_t x = bits ^ before;
    uint32_t trailing = (uint32_t)__builtin_ctzll(x) / 8;
    uint32_t significant = 8 - trailing - (uint32_t)__builtin_clzll(x) / 8;
    kv_put_fixed64(p, x >> (8 * trailing));
    *len = significant;
    return ts_sample_xor_base(trailing) + significant - 1;
}

/* Writes the sample at p, which has room for TS_SAMPLE_LEN_MAX, and answers how many bytes it took. */
static inline size_t ts_sample_put(struct ts_sample_state *state, int64_t time_ms, uint64_t bits, uint8_t *p)
{
    int64_t delta = (int64_t)((uint64_t)time_ms - (uint64_t)state->time_ms);
    int64_t dod = (int64_t)((uint64_t)delta - (uint64_t)state->delta_ms);
    uint8_t *at = p + 1;
    uint32_t class = TS_SAMPLE_DOD_ZERO;
    if (dod != 0) {
        if (dod == (int8_t)dod) {
            class = TS_SAMPLE_DOD_8;
            *at++ = (uint8_t)dod;
        } else if (dod == (int16_t)dod) {
            class = TS_SAMPLE_DOD_16;
            kv_put_fixed16(at, (uint16_t)dod);
            at += 2;
        } else {
            class = TS_SAMPLE_DOD_VARINT;
            at += kv_put_varint(at, kv_zigzag(dod));
        }
    }
    size_t len;
    uint32_t code = ts_sample_put_value(state->bits, bits, at, &len);
    *p = (uint8_t)(class << 6 | code);
    *state = (struct ts_sample_state){time_ms, delta, bits};
    return (size_t)(at - p) + len;
}

/* Reads one sample from p, with at least TS_SAMPLE_PAD readable bytes there, into *state. NULL: no such code.
 */
static inline const uint8_t *ts_sample_take_padded(struct ts_sample_state *state, const uint8_t *p)
{
    /* Significant bytes and trailing zero bytes of each code; steps carry none. */
    static const uint8_t significant[64] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5,
                                            6, 1, 2, 3, 4, 5, 1, 2, 3, 4, 1, 2, 3, 1, 2, 1, 1, 2, 3, 4, 6};
    static const uint8_t trailing[37] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                         2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 6, 6, 7};
    uint32_t class = *p >> 6, code = *p & 63;
    p++;
    if (class != TS_SAMPLE_DOD_ZERO) {
        int64_t dod;
        if (class == TS_SAMPLE_DOD_8) {
            dod = (int8_t)*p++;
        } else if (class == TS_SAMPLE_DOD_16) {
            dod = (int16_t)(p[0] | p[1] << 8);
            p += 2;
        } else {
            kv_slice in = {p, KV_VARINT_LEN_MAX};
            uint64_t z;
            if (kv_take_varint(&in, &z) < 0)
                return NULL;
            p = in.data;
            dod = (int64_t)(z >> 1) ^ -(int64_t)(z & 1);
        }
        state->delta_ms = (int64_t)((uint64_t)state->delta_ms + (uint64_t)dod);
    }
    state->time_ms = (int64_t)((uint64_t)state->time_ms + (uint64_t)state->delta_ms);
    if (code == TS_SAMPLE_SAME)
        return p;
    uint32_t n = significant[code];
    if (code < TS_SAMPLE_INT_1) {
        uint64_t x = kv_get_fixed64(p) & (~UINT64_C(0) >> (64 - 8 * n));
        state->bits ^= x << (8 * trailing[code]);
        return p + n;
    }
    int64_t step, before;
    if (code <= TS_SAMPLE_INT_6)
        step = (int64_t)(kv_get_fixed64(p) << (64 - 8 * n)) >> (64 - 8 * n);
    else if (code < 63)
        step = (int64_t)code - TS_SAMPLE_STEP;
    else
        return NULL;
    ts_sample_integer(state->bits, &before);
    state->bits = ts_double_bits((double)(before + step));
    return p + n;
}

/* The same with bytes that end at `end`: NULL too when they end early. */
static inline const uint8_t *ts_sample_take(struct ts_sample_state *state, const uint8_t *p,
                                            const uint8_t *end)
{
    if (end - p >= TS_SAMPLE_PAD)
        return ts_sample_take_padded(state, p);
    uint8_t rest[2 * TS_SAMPLE_PAD] = {0};
    size_t len = (size_t)(end - p);
    if (len == 0)
        return NULL;
    memcpy(rest, p, len);
    const uint8_t *after = ts_sample_take_padded(state, rest);
    return after && (size_t)(after - rest) <= len ? p + (after - rest) : NULL;
}

#endif
