#include "kvcore/sst/block.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/format.h"

enum { BLOCK_ALIGN = 64 }; /* a line of memory */

_Static_assert((KV_RUN_GROUP & (KV_RUN_GROUP - 1)) == 0, "groups are found by masking");

/* One entry's head; `at` points behind it, at the rest of the key. */
struct block_head {
    uint64_t same, rest, value_len, tag;
    const uint8_t *at;
};

static inline struct block_head block_head_at(const struct kv_block *block, uint32_t i)
{
    struct block_head head;
    head.at = block->bytes.data + block->places[block->n + i];
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

static inline const uint8_t *block_leader(const struct kv_block *block, uint32_t i)
{
    return block_head_at(block, i & ~(uint32_t)(KV_RUN_GROUP - 1)).at;
}

static inline bool block_has_prefix(const struct kv_block *block, kv_slice key)
{
    return kv_slice_has_prefix(key, kv_slice_of(block->prefix, block->prefix_len));
}

/* ---- hints: of each key the four bytes behind what all keys of the block share, as a number, padded with zeros. They
 * never decrease; where two differ they order the keys. */

enum { BLOCK_HINT_LEN = 4 };

static inline uint32_t block_hint(kv_slice behind)
{
    uint32_t hint = 0;
    if (KV_LIKELY(behind.len >= BLOCK_HINT_LEN)) {
        memcpy(&hint, behind.data, BLOCK_HINT_LEN);
        return __builtin_bswap32(hint);
    }
    for (size_t i = 0; i < behind.len; i++)
        hint |= (uint32_t)behind.data[i] << (24 - 8 * i);
    return hint;
}

/* The hint of a key that consists of the leader's first `same` bytes and `rest`. */
static uint32_t block_hint_of(const uint8_t *leader, size_t same, kv_slice rest, size_t prefix)
{
    if (prefix >= same)
        return block_hint(kv_slice_from(rest, prefix - same));
    if (same - prefix >= BLOCK_HINT_LEN)
        return block_hint(kv_slice_of(leader + prefix, BLOCK_HINT_LEN));
    uint8_t bytes[BLOCK_HINT_LEN];
    size_t from_leader = same - prefix, from_rest = BLOCK_HINT_LEN - from_leader;
    if (from_rest > rest.len)
        from_rest = rest.len;
    memcpy(bytes, leader + prefix, from_leader);
    if (from_rest)
        memcpy(bytes + from_leader, rest.data, from_rest);
    return block_hint(kv_slice_of(bytes, from_leader + from_rest));
}

/* last: the last entry's key. */
static void block_fill_hints(struct kv_block *block, kv_slice last)
{
    const uint8_t *leader = block_leader(block, 0);
    size_t first_len = (size_t)block_head_at(block, 0).rest, prefix = 0;
    while (prefix < first_len && prefix < last.len && leader[prefix] == last.data[prefix])
        prefix++;
    block->prefix_len = (uint32_t)prefix;
    block->prefix = leader;
    if (prefix <= sizeof block->prefix_copy) {
        memcpy(block->prefix_copy, leader, prefix);
        block->prefix = block->prefix_copy;
    }
    for (uint32_t i = 0; i < block->n; i++) {
        struct block_head head = block_head_at(block, i);
        if ((i & (KV_RUN_GROUP - 1)) == 0)
            leader = head.at;
        block->places[i] =
            block_hint_of(leader, (size_t)head.same, kv_slice_of(head.at, (size_t)head.rest), prefix);
    }
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
    kv_slice left = kv_slice_from(block->bytes, KV_BLOCK_HEAD_LEN);
    block->base_version = kv_get_fixed64(block->bytes.data + 4);
    for (uint32_t i = 0; i < block->n; i++) {
        struct block_head head;
        block->places[block->n + i] = (uint32_t)(left.data - block->bytes.data);
        if (!block_take_head(&left, &head))
            return KV_CORRUPT;
        kv_status rc = block_check_entry(block, i, &head, &walk);
        if (rc < 0)
            return rc;
    }
    if (left.len != 0)
        return KV_CORRUPT;
    if (block->n)
        block_fill_hints(block, walk.key);
    return KV_OK;
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

/* The payload on the heap: the stored bytes themselves when they are plain, else an inflated copy. Takes stored over. */
static kv_status block_inflate(uint8_t *stored, size_t len, size_t trailer_len, kv_slice *payload)
{
    size_t payload_len = len - trailer_len, inflated_len = kv_get_fixed32(stored + payload_len + 1);
    uint8_t codec = stored[payload_len], *inflated = NULL;
    kv_status rc = KV_CORRUPT;
    if (codec == KV_CODEC_PLAIN && inflated_len == payload_len) {
        *payload = kv_slice_of(stored, payload_len);
        return KV_OK;
    }
    if (codec != KV_CODEC_PLAIN && inflated_len <= KV_BLOCK_INFLATED_MAX) {
        inflated = kv_alloc(inflated_len);
        rc = inflated ? kv_inflate(codec, kv_slice_of(stored, payload_len), inflated, inflated_len)
                      : KV_NO_MEMORY;
    }
    kv_free(stored);
    if (rc < 0)
        kv_free(inflated);
    else
        *payload = kv_slice_of(inflated, inflated_len);
    return rc;
}

/* How many entries the payload says it has; they are checked later. */
static kv_status block_count(kv_slice payload, uint32_t *n)
{
    if (payload.len < KV_BLOCK_HEAD_LEN)
        return KV_CORRUPT;
    *n = kv_get_fixed32(payload.data);
    return *n <= (payload.len - KV_BLOCK_HEAD_LEN) / KV_BLOCK_ENTRY_LEN_MIN ? KV_OK : KV_CORRUPT;
}

kv_status kv_block_open(uint8_t *stored, size_t len, uint32_t uid_sum, struct kv_cipher *cipher,
                        uint64_t offset, bool entries, struct kv_block **out)
{
    struct kv_block *block = NULL;
    kv_slice payload = {0};
    uint32_t n = 0;
    kv_status rc = block_check_sum(stored, len, uid_sum, cipher, offset);
    if (rc < 0) {
        kv_free(stored);
        return rc;
    }
    rc = block_inflate(stored, len, cipher ? KV_BLOCK_TRAILER_SEALED_LEN : KV_BLOCK_TRAILER_LEN, &payload);
    if (rc == KV_OK && entries)
        rc = block_count(payload, &n);
    size_t size = sizeof *block + (size_t)n * 2 * sizeof block->places[0];
    if (rc == KV_OK)
        block = kv_alloc_aligned(BLOCK_ALIGN, size);
    if (!block) {
        rc = rc < 0 ? rc : KV_NO_MEMORY;
        kv_free((void *)(uintptr_t)payload.data);
        return rc;
    }
    memset(block, 0, sizeof *block);
    atomic_init(&block->refs, 1);
    block->n = n;
    block->bytes = payload;
    block->charge = size + payload.len;
    if (entries)
        rc = block_check(block);
    if (rc < 0)
        kv_block_free(block);
    else
        *out = block;
    return rc;
}

void kv_block_free(struct kv_block *block)
{
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

/* Entry i against (key, version). Its key and this one agree in the first `known` bytes, and have them. */
static int block_compare(const struct kv_block *block, uint32_t i, kv_slice key, uint64_t version,
                         size_t known)
{
    struct block_head head = block_head_at(block, i);
    size_t same = (size_t)head.same, rest = (size_t)head.rest;
    if (key.len >= known + BLOCK_HINT_LEN && same + rest >= known + BLOCK_HINT_LEN)
        known += BLOCK_HINT_LEN; /* their hints are the same */
    size_t from = known;
    if (same > known) { /* the leader's line of memory is only touched when it can matter */
        const uint8_t *leader = block_leader(block, i);
        int c = memcmp(leader + known, key.data + known, (same < key.len ? same : key.len) - known);
        if (c || key.len < same)
            return c ? c : 1;
        from = same;
    }
    kv_slice behind = kv_slice_of(head.at + (from - same), rest - (from - same));
    return kv_entry_compare(behind, block_version(block->base_version, head.tag), kv_slice_from(key, from),
                            version);
}

/* The first hint of n that is not below `bound`; without branches, for they would be wrong half the time. */
static uint32_t hints_at(const uint32_t *hints, uint32_t n, uint32_t bound)
{
    const uint32_t *at = hints;
    if (n == 0)
        return 0;
    while (n > 1) {
        uint32_t half = n / 2;
        at += at[half - 1] < bound ? half : 0;
        n -= half;
    }
    return (uint32_t)(at - hints) + (*at < bound);
}

/* First over the hints, which lie side by side; then over the entries that have the key's own. */
uint32_t kv_block_seek(const struct kv_block *block, kv_slice key, uint64_t version)
{
    size_t prefix = block->prefix_len;
    if (key.len == 0 || block->n == 0) /* no stored key is empty */
        return 0;
    int c = memcmp(key.data, block->prefix, key.len < prefix ? key.len : prefix);
    if (c || key.len < prefix)
        return c <= 0 ? 0 : block->n;
    uint32_t hint = block_hint(kv_slice_from(key, prefix));
    uint32_t low = hints_at(block->places, block->n, hint);
    if (low == block->n || block->places[low] != hint)
        return low;
    uint32_t high =
        hint == UINT32_MAX ? block->n : low + hints_at(block->places + low, block->n - low, hint + 1);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (block_compare(block, middle, key, version, prefix) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool kv_block_get(const struct kv_block *block, kv_slice key, uint64_t version, struct kv_entry *out)
{
    uint32_t i = kv_block_seek(block, key, version);
    if (i == block->n || key.len < block->prefix_len)
        return false;
    struct block_head head = block_head_at(block, i);
    out->version = block_version(block->base_version, head.tag);
    if (head.same + head.rest != key.len || !block_has_prefix(block, key) ||
        block->places[i] != block_hint(kv_slice_from(key, block->prefix_len)) ||
        block_compare(block, i, key, out->version, block->prefix_len) != 0)
        return false;
    out->kind = (enum kv_kind)(head.tag & 7);
    out->key = key;
    out->value = kv_slice_of(head.at + head.rest, (size_t)head.value_len);
    return true;
}

kv_slice kv_block_value(const struct kv_block *block, uint32_t i)
{
    KV_ASSERT(i < block->n);
    struct block_head head = block_head_at(block, i);
    return kv_slice_of(head.at + head.rest, (size_t)head.value_len);
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
        memcpy(key_buf, block_leader(block, i), same);
        memcpy(key_buf + same, head.at, rest);
        out->key = kv_slice_of(key_buf, same + rest);
    }
}

void kv_block_run(const struct kv_block *block, uint32_t i, struct kv_run *run)
{
    KV_ASSERT(i < block->n);
    run->at = block->bytes.data + block->places[block->n + i];
    run->leader = block_leader(block, i);
    run->base_version = block->base_version;
    run->index = i;
    run->same = 0;
}
