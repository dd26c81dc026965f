#include "kvcore/sst/block.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/format.h"

_Static_assert((KV_RUN_GROUP & (KV_RUN_GROUP - 1)) == 0, "groups are found by masking");

/* One entry's head; `at` points behind it, at the rest of the key. */
struct block_head {
    uint64_t same, rest, value_len, tag;
    const uint8_t *at;
};

static inline struct block_head block_head_at(const struct kv_block *block, uint32_t i)
{
    struct block_head head;
    head.at = block->bytes.data + block->offsets[i];
    head.same = kv_run_varint(&head.at);
    head.rest = kv_run_varint(&head.at);
    head.value_len = kv_run_varint(&head.at);
    head.tag = kv_run_varint(&head.at);
    return head;
}

static inline uint64_t block_version(uint64_t base_version, uint64_t tag)
{
    return base_version + ((tag >> 4) ^ (0 - ((tag >> 3) & 1)));
}

/* ---- checking a block once */

static inline bool block_take_varint(kv_slice *in, uint64_t *v)
{
    if (KV_LIKELY(in->len > 0 && in->data[0] < 0x80)) {
        *v = in->data[0];
        *in = kv_slice_from(*in, 1);
        return true;
    }
    return kv_take_varint(in, v) == KV_OK;
}

static bool block_take_head(kv_slice *in, struct block_head *head)
{
    if (!block_take_varint(in, &head->same) || !block_take_varint(in, &head->rest) ||
        !block_take_varint(in, &head->value_len) || !block_take_varint(in, &head->tag))
        return false;
    head->at = in->data;
    if (head->rest > in->len || head->value_len > in->len - head->rest)
        return false;
    *in = kv_slice_from(*in, (size_t)(head->rest + head->value_len));
    return true;
}

/* Rebuilds key i behind the previous one and checks that it follows it. */
struct block_walk {
    kv_slice leader;
    kv_slice key;
    uint64_t version;
    uint8_t keys[2][KV_KEY_LEN_MAX];
};

static kv_status block_check_entry(struct kv_block *block, uint32_t i, const struct block_head *head,
                                   struct block_walk *walk)
{
    bool leads = (i & (KV_RUN_GROUP - 1)) == 0;
    if (head->same > (leads ? 0 : walk->leader.len) || head->rest > KV_KEY_LEN_MAX - head->same)
        return KV_CORRUPT;
    size_t same = (size_t)head->same, rest = (size_t)head->rest;
    if (same + rest == 0)
        return KV_CORRUPT;
    if (!kv_kind_in_tables((unsigned)(head->tag & 7)))
        return KV_TOO_NEW;
    uint64_t version = block_version(block->base_version, head->tag);
    if (version > KV_VERSION_STORED_MAX)
        return KV_CORRUPT;
    uint8_t *key = walk->keys[i & 1];
    if (same)
        memcpy(key, walk->leader.data, same);
    memcpy(key + same, head->at, rest);
    kv_slice now = {key, same + rest};
    if (i > 0 && kv_entry_compare(walk->key, walk->version, now, version) >= 0)
        return KV_CORRUPT;
    walk->key = now;
    walk->version = version;
    if (leads)
        walk->leader = kv_slice_of(head->at, rest);
    if (now.len > block->key_len_max)
        block->key_len_max = (uint32_t)now.len;
    return KV_OK;
}

static kv_status block_check(struct kv_block *block)
{
    struct block_walk walk; /* its key buffers stay uninitialised: 8 KiB a block is not worth clearing */
    walk.leader = walk.key = (kv_slice){NULL, 0};
    walk.version = 0;
    if (block->bytes.len < KV_BLOCK_HEAD_LEN)
        return KV_CORRUPT;
    block->n = kv_get_fixed32(block->bytes.data);
    block->base_version = kv_get_fixed64(block->bytes.data + 4);
    kv_slice left = kv_slice_from(block->bytes, KV_BLOCK_HEAD_LEN);
    if (block->n > left.len / KV_BLOCK_ENTRY_LEN_MIN)
        return KV_CORRUPT;
    block->offsets = kv_alloc(block->n * sizeof *block->offsets);
    if (!block->offsets)
        return KV_NO_MEMORY;
    block->charge += block->n * sizeof *block->offsets;
    for (uint32_t i = 0; i < block->n; i++) {
        struct block_head head;
        block->offsets[i] = (uint32_t)(left.data - block->bytes.data);
        if (!block_take_head(&left, &head))
            return KV_CORRUPT;
        kv_status rc = block_check_entry(block, i, &head, &walk);
        if (rc < 0)
            return rc;
    }
    return left.len == 0 ? KV_OK : KV_CORRUPT;
}

uint32_t kv_block_sum(uint32_t uid_sum, uint64_t offset, kv_slice bytes)
{
    uint8_t place[8];
    kv_put_fixed64(place, offset);
    return kv_crc32c(kv_crc32c(uid_sum, kv_slice_of(place, sizeof place)), bytes);
}

static bool block_sum_matches(kv_slice stored, uint32_t uid_sum, uint64_t offset)
{
    size_t summed = stored.len - 4;
    return kv_block_sum(uid_sum, offset, kv_slice_of(stored.data, summed)) ==
           kv_get_fixed32(stored.data + summed);
}

/* The crc, or the seal, which is undone in place. */
static kv_status block_check_sum(uint8_t *stored, size_t len, uint32_t uid_sum, struct kv_cipher *cipher,
                                 uint64_t offset)
{
    if (cipher)
        return len < KV_BLOCK_TRAILER_SEALED_LEN
                   ? KV_CORRUPT
                   : kv_cipher_open(cipher, offset, KV_STR(""), kv_slice_of(stored, len), stored);
    return len >= KV_BLOCK_TRAILER_LEN && block_sum_matches(kv_slice_of(stored, len), uid_sum, offset)
               ? KV_OK
               : KV_CORRUPT;
}

/* Sets block->bytes: the stored bytes themselves when they are plain, else an inflated copy. */
static kv_status block_inflate(struct kv_block *block, uint8_t *stored, size_t len, size_t trailer_len)
{
    size_t payload_len = len - trailer_len;
    uint8_t codec = stored[payload_len];
    size_t inflated_len = kv_get_fixed32(stored + payload_len + 1);
    if (inflated_len > KV_BLOCK_INFLATED_MAX)
        return KV_CORRUPT;
    if (codec == KV_CODEC_PLAIN) {
        block->bytes = kv_slice_of(stored, payload_len);
        block->charge = sizeof *block + len;
        return inflated_len == payload_len ? KV_OK : KV_CORRUPT;
    }
    uint8_t *inflated = kv_alloc(inflated_len);
    if (!inflated)
        return KV_NO_MEMORY;
    kv_status rc = kv_inflate(codec, kv_slice_of(stored, payload_len), inflated, inflated_len);
    block->bytes = kv_slice_of(inflated, inflated_len);
    block->charge = sizeof *block + inflated_len;
    kv_free(stored);
    return rc;
}

kv_status kv_block_open(uint8_t *stored, size_t len, uint32_t uid_sum, struct kv_cipher *cipher,
                        uint64_t offset, bool entries, struct kv_block **out)
{
    kv_status rc = block_check_sum(stored, len, uid_sum, cipher, offset);
    if (rc < 0) {
        kv_free(stored);
        return rc;
    }
    struct kv_block *block = kv_zalloc(1, sizeof *block);
    if (!block) {
        kv_free(stored);
        return KV_NO_MEMORY;
    }
    atomic_init(&block->refs, 1);
    rc = block_inflate(block, stored, len, cipher ? KV_BLOCK_TRAILER_SEALED_LEN : KV_BLOCK_TRAILER_LEN);
    if (!block->bytes.data)
        kv_free(stored); /* nobody took it over */
    if (rc == KV_OK && entries)
        rc = block_check(block);
    if (rc < 0)
        kv_block_free(block);
    else
        *out = block;
    return rc;
}

void kv_block_free(struct kv_block *block)
{
    kv_free(block->offsets);
    kv_free((void *)(uintptr_t)block->bytes.data);
    kv_free(block);
}

struct kv_block *kv_block_ref(struct kv_block *block)
{
    if (block->slot)
        kv_block_ref_slot(block->slot);
    else
        atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
    return block;
}

void kv_block_unref(struct kv_block *block)
{
    if (!block)
        return;
    if (block->slot)
        kv_block_unref_slot(block->slot);
    else if (atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) == 1)
        kv_block_free(block);
}

/* ---- searching */

/* The full key at the head of a group against (key, version). */
static int block_compare_leader(const struct kv_block *block, uint32_t i, kv_slice key, uint64_t version)
{
    struct block_head head = block_head_at(block, i);
    return kv_entry_compare(kv_slice_of(head.at, (size_t)head.rest),
                            block_version(block->base_version, head.tag), key, version);
}

/* Entry i of the group that `leader` heads against (key, version). */
static int block_compare(const struct kv_block *block, const uint8_t *leader, uint32_t i, kv_slice key,
                         uint64_t version)
{
    struct block_head head = block_head_at(block, i);
    size_t same = (size_t)head.same;
    if (same) {
        int c = memcmp(leader, key.data, same < key.len ? same : key.len);
        if (c)
            return c;
        if (same >= key.len && same + head.rest > key.len)
            return 1;
    }
    /* Here the first `same` bytes agree and key has at least that many, for same + rest <= key.len or same < key.len. */
    return kv_entry_compare(kv_slice_of(head.at, (size_t)head.rest),
                            block_version(block->base_version, head.tag), kv_slice_from(key, same), version);
}

/* First over the full keys, one line of memory each, then inside one group. */
uint32_t kv_block_seek(const struct kv_block *block, kv_slice key, uint64_t version)
{
    if (key.len == 0) /* no stored key is empty */
        return 0;
    uint32_t low = 0, high = (block->n + KV_RUN_GROUP - 1) / KV_RUN_GROUP;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (block_compare_leader(block, middle * KV_RUN_GROUP, key, version) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return 0;
    /* Group low - 1 begins before the target, group low does not. */
    uint32_t first = (low - 1) * KV_RUN_GROUP, end = low * KV_RUN_GROUP;
    const uint8_t *leader = block_head_at(block, first).at;
    low = first + 1;
    high = end < block->n ? end : block->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (block_compare(block, leader, middle, key, version) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void kv_block_entry(const struct kv_block *block, uint32_t i, uint8_t *key_buf, struct kv_entry *out)
{
    KV_ASSERT(i < block->n);
    struct block_head head = block_head_at(block, i);
    size_t same = (size_t)head.same, rest = (size_t)head.rest;
    out->kind = (enum kv_kind)(head.tag & 7);
    out->version = block_version(block->base_version, head.tag);
    out->value = kv_slice_of(head.at + rest, (size_t)head.value_len);
    out->key = kv_slice_of(head.at, rest);
    if (same) {
        memcpy(key_buf, block_head_at(block, i & ~(uint32_t)(KV_RUN_GROUP - 1)).at, same);
        memcpy(key_buf + same, head.at, rest);
        out->key = kv_slice_of(key_buf, same + rest);
    }
}

void kv_block_run(const struct kv_block *block, uint32_t i, struct kv_run *run)
{
    KV_ASSERT(i < block->n);
    run->at = block->bytes.data + block->offsets[i];
    run->leader = block_head_at(block, i & ~(uint32_t)(KV_RUN_GROUP - 1)).at;
    run->base_version = block->base_version;
    run->index = i;
    run->same = 0;
}
