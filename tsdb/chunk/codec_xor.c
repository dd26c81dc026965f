/*
 * codec_xor.c - Gorilla's value coding, one block at a time.
 *
 *     block := bytes:varint first:fixed64 value*
 *     value := 0                                   same bits as before
 *            | 10 bits[window]                     the XOR fits the window of leading and trailing zeros used
 * last | 11 leading:5 length-1:6 bits[length]  a new window
 */
#include "tsdb/chunk/codec.h"

#include "tsdb/chunk/bits.h"

enum { XOR_NO_WINDOW = 255, XOR_BITS_MAX = 2 + 5 + 6 + 64 };

struct xor_window {
    uint8_t leading, trailing;
};

static void xor_put(uint8_t *data, uint32_t *at, uint64_t x, struct xor_window *window)
{
    if (x == 0) {
        ts_bits_put(data, at, 0, 1);
        return;
    }
    unsigned leading = (unsigned)__builtin_clzll(x), trailing = (unsigned)__builtin_ctzll(x);
    leading = leading > 31 ? 31 : leading;
    if (window->leading != XOR_NO_WINDOW && leading >= window->leading && trailing >= window->trailing) {
        ts_bits_put(data, at, 2, 2);
        ts_bits_put(data, at, x >> window->trailing, 64u - window->leading - window->trailing);
        return;
    }
    unsigned length = 64 - leading - trailing;
    ts_bits_put(data, at, (uint64_t)3 << 11 | (uint64_t)leading << 6 | (length - 1), 13);
    ts_bits_put(data, at, x >> trailing, length);
    *window = (struct xor_window){(uint8_t)leading, (uint8_t)trailing};
}

/* False when the bytes ask for a window that does not exist: damage. */
static bool xor_get(struct ts_bits_in *in, uint64_t *x, struct xor_window *window)
{
    *x = 0;
    if (!ts_bits_get(in, 1))
        return true;
    if (ts_bits_get(in, 1)) {
        uint64_t w = ts_bits_get(in, 11);
        unsigned leading = (unsigned)(w >> 6), length = (unsigned)(w & 63) + 1;
        if (leading + length > 64)
            return false;
        *window = (struct xor_window){(uint8_t)leading, (uint8_t)(64 - leading - length)};
    } else if (window->leading == XOR_NO_WINDOW) {
        return false;
    }
    *x = ts_bits_get(in, 64u - window->leading - window->trailing) << window->trailing;
    return true;
}

enum { XOR_BLOCK_BYTES_MAX = 8 + (TS_CHUNK_BLOCK * XOR_BITS_MAX + 7) / 8 };

kv_status ts_xor_encode_block(const double *values, size_t n, struct kv_buf *out)
{
    uint8_t bits[XOR_BLOCK_BYTES_MAX] = {0};
    struct xor_window window = {XOR_NO_WINDOW, 0};
    uint64_t previous, current;
    memcpy(&previous, &values[0], sizeof previous);
    kv_put_fixed64(bits, previous);
    uint32_t at = 64;
    for (size_t i = 1; i < n; i++) {
        memcpy(&current, &values[i], sizeof current);
        xor_put(bits, &at, current ^ previous, &window);
        previous = current;
    }
    return kv_buf_append_lp(out, kv_slice_of(bits, (at + 7) / 8));
}

kv_status ts_xor_decode_block(kv_slice *in, double *values, size_t n)
{
    kv_slice bytes;
    if (kv_take_lp(in, &bytes) < 0 || bytes.len < 8)
        return KV_CORRUPT;
    uint64_t current = kv_get_fixed64(bytes.data), x;
    memcpy(&values[0], &current, sizeof current);
    struct ts_bits_in bits = {bytes.data, bytes.len * 8, 64};
    struct xor_window window = {XOR_NO_WINDOW, 0};
    for (size_t i = 1; i < n; i++) {
        if (!xor_get(&bits, &x, &window))
            return KV_CORRUPT;
        current ^= x;
        memcpy(&values[i], &current, sizeof current);
    }
    return bits.at > bits.bits ? KV_CORRUPT : KV_OK;
}
