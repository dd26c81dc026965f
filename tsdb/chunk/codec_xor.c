#include "tsdb/chunk/codec.h"
#include "tsdb/chunk/xor.h"

enum { XOR_BLOCK_BYTES_MAX = 8 + (TS_CHUNK_BLOCK * TS_XOR_BITS_MAX + 7) / 8 };

/* block := bytes:varint first:fixed64 bits */
kv_status ts_xor_encode_block(const double *values, size_t n, struct kv_buf *out)
{
    uint8_t bits[XOR_BLOCK_BYTES_MAX] = {0};
    struct ts_xor_window window = {TS_XOR_NO_WINDOW, 0};
    uint64_t previous, current;
    memcpy(&previous, &values[0], sizeof previous);
    kv_put_fixed64(bits, previous);
    uint32_t at = 64;
    for (size_t i = 1; i < n; i++) {
        memcpy(&current, &values[i], sizeof current);
        ts_xor_put(bits, &at, current ^ previous, &window);
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
    struct ts_xor_window window = {TS_XOR_NO_WINDOW, 0};
    for (size_t i = 1; i < n; i++) {
        if (!ts_xor_get(&bits, &x, &window))
            return KV_CORRUPT;
        current ^= x;
        memcpy(&values[i], &current, sizeof current);
    }
    return bits.at > bits.bits ? KV_CORRUPT : KV_OK;
}
