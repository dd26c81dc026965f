#include "tsdb/chunk/pack.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "tsdb/chunk/kernel.h"

enum { PACK_WIDTH_MAX = 64 };

struct pack_plan {
    uint64_t min;
    unsigned width;
    unsigned patches;
    size_t len;
};

static unsigned pack_bits(uint64_t v)
{
    return v ? 64 - (unsigned)__builtin_clzll(v) : 0;
}

/* The width whose packed bits plus patches cost least; a patch is charged its index and its high bits as a
 * varint. */
static struct pack_plan pack_plan(const uint64_t *numbers, size_t n)
{
    struct pack_plan best = {.min = n ? numbers[0] : 0};
    uint32_t of_width[PACK_WIDTH_MAX + 1] = {0};
    for (size_t i = 1; i < n; i++)
        best.min = numbers[i] < best.min ? numbers[i] : best.min;
    unsigned top = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned bits = pack_bits(numbers[i] - best.min);
        of_width[bits]++;
        top = bits > top ? bits : top;
    }
    size_t best_cost = SIZE_MAX;
    unsigned patches = 0;
    size_t patch_cost = 0;
    for (unsigned width = top;; width--) {
        size_t cost = (n * width + 7) / 8 + patch_cost;
        if (cost < best_cost) {
            best_cost = cost;
            best.width = width;
            best.patches = patches;
        }
        if (width == 0)
            break;
        /* Everything of this width becomes a patch for the widths below. Its high part grows as width
         * shrinks, so it is charged anew. */
        patches += of_width[width];
        if (patches > n / 4)
            break;
        patch_cost = 0;
        for (unsigned w = width; w <= top; w++)
            patch_cost += of_width[w] * (1 + (size_t)(w - (width - 1) + 6) / 7);
    }
    best.len = kv_varint_len(best.min) + 2 + best_cost;
    return best;
}

size_t ts_pack_len(const uint64_t *numbers, size_t n)
{
    return pack_plan(numbers, n).len;
}

static void pack_bits_write(const uint64_t *numbers, size_t n, const struct pack_plan *plan, uint8_t *out)
{
    uint64_t mask = plan->width == 64 ? UINT64_MAX : ((uint64_t)1 << plan->width) - 1;
    unsigned __int128 pending = 0;
    unsigned filled = 0;
    for (size_t i = 0; i < n; i++) {
        pending |= (unsigned __int128)((numbers[i] - plan->min) & mask) << filled;
        filled += plan->width;
        for (; filled >= 8; filled -= 8, pending >>= 8)
            *out++ = (uint8_t)pending;
    }
    if (filled)
        *out = (uint8_t)pending;
}

kv_status ts_pack(const uint64_t *numbers, size_t n, struct kv_buf *out)
{
    KV_ASSERT(n <= TS_CHUNK_BLOCK);
    struct pack_plan plan = pack_plan(numbers, n);
    kv_status rc;
    KV_TRY(kv_buf_append_varint(out, plan.min));
    KV_TRY(kv_buf_append_byte(out, (uint8_t)plan.width));
    KV_TRY(kv_buf_append_byte(out, (uint8_t)plan.patches));
    uint8_t *bits = kv_buf_extend(out, (n * plan.width + 7) / 8);
    if (!bits)
        return KV_NO_MEMORY;
    if (plan.width)
        pack_bits_write(numbers, n, &plan, bits);
    for (size_t i = 0; i < n && plan.patches; i++) {
        uint64_t v = numbers[i] - plan.min;
        if (pack_bits(v) <= plan.width)
            continue;
        KV_TRY(kv_buf_append_byte(out, (uint8_t)i));
        KV_TRY(kv_buf_append_varint(out, v >> plan.width));
    }
out:
    return rc;
}

/* One number of up to 64 bits that may straddle a ninth byte; the slow road for the last bytes and for widths
 * over 56. */
static uint64_t unpack_one(const uint8_t *bits, size_t len, size_t at_bit, unsigned width)
{
    unsigned __int128 word = 0;
    size_t byte = at_bit / 8;
    for (unsigned k = 0; k < 9 && byte + k < len; k++)
        word |= (unsigned __int128)bits[byte + k] << (8 * k);
    uint64_t v = (uint64_t)(word >> (at_bit % 8));
    return width == 64 ? v : v & (((uint64_t)1 << width) - 1);
}

/* Eight numbers of up to eight bits share one load. Returns how many numbers were done: a multiple of eight. */
static size_t unpack_eights(kv_slice bits, unsigned width, uint64_t min, uint64_t *numbers, size_t n)
{
    uint64_t mask = ((uint64_t)1 << width) - 1;
    size_t groups = (bits.len - 8) / width + 1;
    groups = groups < n / 8 ? groups : n / 8;
    for (size_t g = 0; g < groups; g++, numbers += 8) {
        uint64_t x = kv_get_fixed64(bits.data + g * width);
        for (unsigned j = 0; j < 8; j++)
            numbers[j] = ((x >> (j * width)) & mask) + min;
    }
    return groups * 8;
}

static void unpack_bits(kv_slice bits, unsigned width, uint64_t min, uint64_t *numbers, size_t n)
{
    size_t i = 0;
    if (width <= 8 && bits.len >= 8)
        i = unpack_eights(bits, width, min, numbers, n);
    if (width <= 56 && bits.len >= 8) {
        uint64_t mask = ((uint64_t)1 << width) - 1;
        size_t quick =
            ((bits.len - 8) * 8 + 7) / width + 1; /* the numbers whose eight-byte load stays inside */
        quick = quick < n ? quick : n;
        for (; i < quick; i++) {
            size_t at = i * width;
            numbers[i] = ((kv_get_fixed64(bits.data + at / 8) >> (at % 8)) & mask) + min;
        }
    }
    for (; i < n; i++)
        numbers[i] = unpack_one(bits.data, bits.len, i * width, width) + min;
}

kv_status ts_unpack(kv_slice *in, uint64_t *numbers, size_t n)
{
    kv_slice at = *in, bits;
    uint64_t min;
    uint8_t width, patches;
    if (kv_take_varint(&at, &min) < 0 || kv_take_byte(&at, &width) < 0 || kv_take_byte(&at, &patches) < 0)
        return KV_CORRUPT;
    if (width > PACK_WIDTH_MAX || patches > n || kv_take_bytes(&at, (n * width + 7) / 8, &bits) < 0)
        return KV_CORRUPT;
    if (width == 0)
        for (size_t i = 0; i < n; i++)
            numbers[i] = min;
    else
        unpack_bits(bits, width, min, numbers, n);
    for (unsigned p = 0; p < patches; p++) {
        uint8_t index;
        uint64_t high;
        if (kv_take_byte(&at, &index) < 0 || kv_take_varint(&at, &high) < 0 || index >= n ||
            width == PACK_WIDTH_MAX)
            return KV_CORRUPT;
        numbers[index] += high << width;
    }
    *in = at;
    return KV_OK;
}

kv_status ts_unpack_small(kv_slice *in, uint32_t *numbers, size_t n, uint64_t *min, uint32_t *most)
{
    kv_slice at = *in, bits;
    uint8_t width, patches;
    if (kv_take_varint(&at, min) < 0 || kv_take_byte(&at, &width) < 0 || kv_take_byte(&at, &patches) < 0 ||
        width > TS_KERNEL_WIDTH_MAX || patches > n || kv_take_bytes(&at, (n * width + 7) / 8, &bits) < 0)
        return KV_END;
    *most = ((uint32_t)1 << width) - 1;
    if (width == 0)
        memset(numbers, 0, n * sizeof *numbers);
    else
        ts_kernels()->unpack(bits, width, numbers, n);
    for (unsigned p = 0; p < patches; p++) {
        uint8_t index;
        uint64_t high;
        if (kv_take_byte(&at, &index) < 0 || kv_take_varint(&at, &high) < 0 || index >= n ||
            high >> (31 - width))
            return KV_END;
        uint32_t patched =
            numbers[index] + (uint32_t)(high << width); /* once more at one index is odd but well formed */
        if (patched < numbers[index])
            return KV_END;
        numbers[index] = patched;
        *most = patched > *most ? patched : *most;
    }
    *in = at;
    return KV_OK;
}
