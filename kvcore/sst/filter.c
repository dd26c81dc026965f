#include "kvcore/sst/filter.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/hash.h"
#include "kvcore/sst/format.h"

enum { FILTER_LINE_LEN = 64, FILTER_PROBES = 6, FILTER_TAIL_LEN = 2 };

_Static_assert(10 + 9 * FILTER_PROBES <= 64, "each probe takes nine bits of one product");

void kv_filter_build_release(struct kv_filter_build *build)
{
    kv_buf_release(&build->hashes);
}

kv_status kv_filter_build_add(struct kv_filter_build *build, kv_slice key)
{
    uint64_t hash = kv_hash64(key, 0);
    struct kv_buf *hashes = &build->hashes;
    if (hashes->len && memcmp(hashes->data + hashes->len - 8, &hash, 8) == 0)
        return KV_OK;
    return kv_buf_append(hashes, kv_slice_of(&hash, 8));
}

static size_t filter_line(uint64_t hash, uint64_t lines)
{
    return (size_t)((hash >> 32) * lines >> 32) * FILTER_LINE_LEN;
}

/* Nine bits a probe out of the hash, remixed so that they do not depend on the bits that chose the line
 * alone. */
static inline uint32_t filter_bit(uint64_t mixed, int probe)
{
    return (uint32_t)(mixed >> (10 + 9 * probe)) & 511;
}

static inline uint64_t filter_mix(uint64_t hash)
{
    return hash * UINT64_C(0x9e3779b97f4a7c15);
}

kv_status kv_filter_build_finish(struct kv_filter_build *build, struct kv_buf *out)
{
    uint64_t keys = build->hashes.len / 8;
    uint64_t lines = (keys * KV_FILTER_BITS_PER_KEY + FILTER_LINE_LEN * 8 - 1) / (FILTER_LINE_LEN * 8);
    if (lines == 0)
        lines = 1;
    if (lines > KV_FILTER_BYTES_MAX / FILTER_LINE_LEN)
        lines = KV_FILTER_BYTES_MAX / FILTER_LINE_LEN;
    uint8_t *bits = kv_buf_extend(out, (size_t)lines * FILTER_LINE_LEN + FILTER_TAIL_LEN);
    if (!bits)
        return KV_NO_MEMORY;
    memset(bits, 0, (size_t)lines * FILTER_LINE_LEN);
    for (uint64_t i = 0; i < keys; i++) {
        uint64_t hash;
        memcpy(&hash, build->hashes.data + i * 8, 8);
        uint8_t *line = bits + filter_line(hash, lines);
        uint64_t mixed = filter_mix(hash);
        for (int probe = 0; probe < FILTER_PROBES; probe++) {
            uint32_t bit = filter_bit(mixed, probe);
            line[bit >> 3] |= (uint8_t)(1 << (bit & 7));
        }
    }
    bits[lines * FILTER_LINE_LEN] = FILTER_PROBES;
    bits[lines * FILTER_LINE_LEN + 1] = KV_FILTER_KIND_LINES;
    return KV_OK;
}

kv_status kv_filter_check(kv_slice filter)
{
    if (filter.len < FILTER_LINE_LEN + FILTER_TAIL_LEN ||
        (filter.len - FILTER_TAIL_LEN) % FILTER_LINE_LEN != 0 ||
        filter.len > KV_FILTER_BYTES_MAX + FILTER_TAIL_LEN)
        return KV_CORRUPT;
    if (filter.data[filter.len - 1] != KV_FILTER_KIND_LINES)
        return KV_TOO_NEW;
    return filter.data[filter.len - 2] == FILTER_PROBES ? KV_OK : KV_CORRUPT;
}

bool kv_filter_may_hold(kv_slice filter, kv_slice key)
{
    uint64_t hash = kv_hash64(key, 0);
    const uint8_t *line = filter.data + filter_line(hash, (filter.len - FILTER_TAIL_LEN) / FILTER_LINE_LEN);
    uint64_t mixed = filter_mix(hash);
    for (int probe = 0; probe < FILTER_PROBES; probe++) {
        uint32_t bit = filter_bit(mixed, probe);
        if (!(line[bit >> 3] & (1 << (bit & 7))))
            return false;
    }
    return true;
}
