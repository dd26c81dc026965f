#include "kvcore/base/assert.h"
#include "kvcore/sst/block.h"
#include "kvcore/sst/format.h"

void kv_block_build_release(struct kv_block_build *build)
{
    kv_buf_release(&build->payload);
    kv_buf_release(&build->leader);
    *build = (struct kv_block_build){0};
}

void kv_block_build_reset(struct kv_block_build *build)
{
    kv_buf_clear(&build->payload);
    kv_buf_clear(&build->leader);
    build->n = 0;
}

static size_t block_same_len(kv_slice a, kv_slice b)
{
    size_t max = a.len < b.len ? a.len : b.len, n = 0;
    while (n + 8 <= max && kv_get_fixed64(a.data + n) == kv_get_fixed64(b.data + n))
        n += 8;
    while (n < max && a.data[n] == b.data[n])
        n++;
    return n;
}

/* The distance from base in zigzag form, so that a version below the first entry's is as short as one above
 * it. */
static uint64_t block_tag(uint64_t base, uint64_t version, enum kv_kind kind)
{
    int64_t distance = (int64_t)(version - base);
    return kv_zigzag(distance) << 3 | (uint64_t)kind;
}

kv_status kv_block_build_add(struct kv_block_build *build, const struct kv_entry *entry)
{
    KV_ASSERT(entry->version <= KV_VERSION_STORED_MAX);
    bool leads = (build->n & (KV_RUN_GROUP - 1)) == 0;
    size_t same = leads ? 0 : block_same_len(kv_buf_slice(&build->leader), entry->key);
    kv_status rc = kv_buf_reserve(&build->payload, KV_BLOCK_HEAD_LEN + 4 * KV_VARINT_LEN_MAX +
                                                       entry->key.len + entry->value.len);
    if (rc < 0)
        return rc;
    if (leads) {
        kv_buf_clear(&build->leader);
        if ((rc = kv_buf_append(&build->leader, entry->key)) < 0)
            return rc;
    }
    if (build->n == 0) {
        build->payload.len = KV_BLOCK_HEAD_LEN; /* filled in by finish */
        build->base_version = entry->version;
    }
    uint8_t *start = build->payload.data + build->payload.len, *p = start;
    p += kv_put_varint(p, same);
    p += kv_put_varint(p, entry->key.len - same);
    p += kv_put_varint(p, entry->value.len);
    p += kv_put_varint(p, block_tag(build->base_version, entry->version, entry->kind));
    memcpy(p, entry->key.data + same, entry->key.len - same);
    p += entry->key.len - same;
    if (entry->value.len)
        memcpy(p, entry->value.data, entry->value.len);
    p += entry->value.len;
    build->payload.len += (size_t)(p - start);
    build->n++;
    return KV_OK;
}

kv_status kv_block_build_finish(struct kv_block_build *build, kv_slice *payload)
{
    if (build->n == 0) {
        kv_status rc = kv_buf_reserve(&build->payload, KV_BLOCK_HEAD_LEN);
        if (rc < 0)
            return rc;
        build->payload.len = KV_BLOCK_HEAD_LEN;
        build->base_version = 0;
    }
    kv_put_fixed32(build->payload.data, build->n);
    kv_put_fixed64(build->payload.data + 4, build->base_version);
    *payload = kv_buf_slice(&build->payload);
    return KV_OK;
}

/* Behind the block at out->data + start, over all of it: crc, or the tag once it is sealed. */
static kv_status block_close(struct kv_buf *out, size_t start, uint32_t uid_sum, struct kv_cipher *cipher,
                             uint64_t offset)
{
    kv_slice all = kv_slice_of(out->data + start, out->len - start);
    if (!cipher)
        return kv_buf_append_fixed32(out, kv_block_sum(uid_sum, offset, all));
    if (!kv_buf_extend(out, KV_CIPHER_TAG_LEN))
        return KV_NO_MEMORY;
    uint8_t *at = out->data + start;
    return kv_cipher_seal(cipher, offset, KV_STR(""), kv_slice_of(at, all.len), at);
}

kv_status kv_block_store(kv_slice payload, enum kv_codec codec, uint32_t uid_sum, struct kv_cipher *cipher,
                         uint64_t offset, struct kv_buf *out)
{
    size_t start = out->len;
    kv_status rc;
    if (payload.len > KV_BLOCK_INFLATED_MAX)
        return KV_LIMIT;
    if (codec != KV_CODEC_PLAIN) {
        KV_TRY(kv_compress(codec, payload, out));
        if (out->len - start > payload.len - payload.len / 8) {
            out->len = start;
            codec = KV_CODEC_PLAIN;
        }
    }
    if (codec == KV_CODEC_PLAIN)
        KV_TRY(kv_buf_append(out, payload));
    KV_TRY(kv_buf_append_byte(out, (uint8_t)codec));
    KV_TRY(kv_buf_append_fixed32(out, (uint32_t)payload.len));
    KV_TRY(block_close(out, start, uid_sum, cipher, offset));
    return KV_OK;
out:
    out->len = start;
    return rc;
}
