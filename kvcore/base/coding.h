/*
 * coding.h - integers to bytes and back. Fixed ones are little-endian, `be` ones big-endian so that byte
 * order is value order (keys). Varints are LEB128 (as in protobuf), at most 10 bytes. Nothing here allocates;
 * any thread.
 */
#ifndef KV_CODING_H
#define KV_CODING_H

#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

enum { KV_VARINT_LEN_MAX = 10 };

static inline void kv_put_fixed16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void kv_put_fixed32(uint8_t *p, uint32_t v)
{
    v = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? v : __builtin_bswap32(v);
    memcpy(p, &v, sizeof v);
}
static inline void kv_put_fixed64(uint8_t *p, uint64_t v)
{
    v = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? v : __builtin_bswap64(v);
    memcpy(p, &v, sizeof v);
}
static inline uint16_t kv_get_fixed16(const uint8_t *p)
{
    return (uint16_t)(p[0] | (p[1] << 8));
}
static inline uint32_t kv_get_fixed32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? v : __builtin_bswap32(v);
}
static inline uint64_t kv_get_fixed64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? v : __builtin_bswap64(v);
}
static inline void kv_put_be32(uint8_t *p, uint32_t v)
{
    kv_put_fixed32(p, __builtin_bswap32(v));
}
static inline void kv_put_be64(uint8_t *p, uint64_t v)
{
    kv_put_fixed64(p, __builtin_bswap64(v));
}
static inline uint32_t kv_get_be32(const uint8_t *p)
{
    return __builtin_bswap32(kv_get_fixed32(p));
}
static inline uint64_t kv_get_be64(const uint8_t *p)
{
    return __builtin_bswap64(kv_get_fixed64(p));
}

/* Zigzag: small magnitudes of either sign become small unsigned numbers. */
static inline uint64_t kv_zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ -(uint64_t)(v < 0);
}
static inline int64_t kv_unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

/* Writes v at p (room for KV_VARINT_LEN_MAX) and returns the number of bytes. */
static inline size_t kv_put_varint(uint8_t *p, uint64_t v)
{
    size_t n = 0;
    while (v >= 0x80) {
        p[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    p[n++] = (uint8_t)v;
    return n;
}
static inline size_t kv_varint_len(uint64_t v)
{
    return (size_t)(70 - __builtin_clzll(v | 1)) / 7;
}

/* Each reader takes its value off the front of *in. KV_CORRUPT and *in unchanged when the bytes end early,
 * or, for varints, when the value would need more than 64 bits. */
static inline KV_MUST kv_status kv_take_varint(kv_slice *in, uint64_t *v)
{
    uint64_t value = 0;
    for (size_t i = 0; i < in->len; i++) { /* the last byte of KV_VARINT_LEN_MAX ends it in any case */
        uint64_t byte = in->data[i];
        if (i == KV_VARINT_LEN_MAX - 1 && byte > 1)
            return KV_CORRUPT;
        value |= (byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *v = value;
            *in = kv_slice_from(*in, i + 1);
            return KV_OK;
        }
    }
    return KV_CORRUPT;
}
static inline KV_MUST kv_status kv_take_byte(kv_slice *in, uint8_t *v)
{
    if (in->len < 1)
        return KV_CORRUPT;
    *v = in->data[0];
    *in = kv_slice_from(*in, 1);
    return KV_OK;
}
static inline KV_MUST kv_status kv_take_fixed32(kv_slice *in, uint32_t *v)
{
    if (in->len < 4)
        return KV_CORRUPT;
    *v = kv_get_fixed32(in->data);
    *in = kv_slice_from(*in, 4);
    return KV_OK;
}
static inline KV_MUST kv_status kv_take_fixed64(kv_slice *in, uint64_t *v)
{
    if (in->len < 8)
        return KV_CORRUPT;
    *v = kv_get_fixed64(in->data);
    *in = kv_slice_from(*in, 8);
    return KV_OK;
}
static inline KV_MUST kv_status kv_take_bytes(kv_slice *in, size_t n, kv_slice *bytes)
{
    if (in->len < n)
        return KV_CORRUPT;
    *bytes = (kv_slice){in->data, n};
    *in = kv_slice_from(*in, n);
    return KV_OK;
}
/* A varint length and that many bytes. */
static inline KV_MUST kv_status kv_take_lp(kv_slice *in, kv_slice *bytes)
{
    kv_slice at = *in;
    uint64_t n;
    if (kv_take_varint(&at, &n) < 0 || n > at.len)
        return KV_CORRUPT;
    *bytes = (kv_slice){at.data, (size_t)n};
    *in = kv_slice_from(at, (size_t)n);
    return KV_OK;
}

#endif
