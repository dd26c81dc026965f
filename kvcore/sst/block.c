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

/* What the check notes of an entry where its hint will be: the lengths its head says, and the head's own. */
enum { NOTE_KEY_BITS = 13 };
_Static_assert(KV_KEY_LEN_MAX < 1 << NOTE_KEY_BITS && 4 * KV_VARINT_LEN_MAX < 1 << (32 - 2 * NOTE_KEY_BITS),
               "a note fits a hint's place");

static inline uint32_t block_note(size_t same, size_t rest, size_t head_len)
{
    return (uint32_t)(same | rest << NOTE_KEY_BITS | head_len << (2 * NOTE_KEY_BITS));
}

/* A key in two pieces: the first `same` bytes of its group's leader, then rest. */
struct block_key {
    size_t same;
    kv_slice rest;
};

/* Every place holds its note. last: the last entry's key, of the group of last_leader. */
static void block_fill_hints(struct kv_block *block, const uint8_t *last_leader, const struct block_key *last)
{
    const uint32_t mask = (1U << NOTE_KEY_BITS) - 1;
    const uint8_t *leader = NULL;
    size_t prefix = 0;
    for (uint32_t i = 0; i < block->n; i++) {
        uint32_t note = block->places[i];
        const uint8_t *at = block->bytes.data + block->places[block->n + i] + (note >> (2 * NOTE_KEY_BITS));
        kv_slice rest = kv_slice_of(at, note >> NOTE_KEY_BITS & mask);
        if ((i & (KV_RUN_GROUP - 1)) == 0)
            leader = at;
        if (i == 0) {
            size_t max = last->same + last->rest.len < rest.len ? last->same + last->rest.len : rest.len;
            while (prefix < max && at[prefix] == (prefix < last->same ? last_leader[prefix]
                                                                      : last->rest.data[prefix - last->same]))
                prefix++;
            block->prefix_len = (uint32_t)prefix;
            block->prefix = at;
            if (prefix <= sizeof block->prefix_copy) {
                memcpy(block->prefix_copy, at, prefix);
                block->prefix = block->prefix_copy;
            }
        }
        block->places[i] = block_hint_of(leader, note & mask, rest, prefix);
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

/* Two keys of which one begins with more of the leader than the other does. b shares more. */
static int block_keys_compare_apart(const uint8_t *leader, const struct block_key *a,
                                    const struct block_key *b)
{
    size_t more = b->same - a->same;
    kv_slice theirs = kv_slice_of(leader + a->same, more);
    if (a->rest.len < more)
        return kv_slice_compare(a->rest, theirs) > 0 ? 1 : -1; /* its own beginning comes before a key */
    int c = kv_slice_compare(kv_slice_of(a->rest.data, more), theirs);
    return c ? c : kv_slice_compare(kv_slice_from(a->rest, more), b->rest);
}

/* Both of the leader's group; or b is whole in its rest. */
static inline int block_keys_compare(const uint8_t *leader, const struct block_key *a,
                                     const struct block_key *b)
{
    if (KV_LIKELY(a->same == b->same))
        return kv_slice_compare(a->rest, b->rest);
    return a->same < b->same ? block_keys_compare_apart(leader, a, b)
                             : -block_keys_compare_apart(leader, b, a);
}

/* The entry before the one that is checked. */
struct block_walk {
    const uint8_t *leader;
    size_t leader_len;
    struct block_key key;
    uint64_t version;
};

static inline kv_status block_check_entry(struct kv_block *block, uint32_t i, const struct block_head *head,
                                          struct block_walk *walk)
{
    bool leads = (i & (KV_RUN_GROUP - 1)) == 0;
    if (head->same > (leads ? 0 : walk->leader_len) || head->rest > KV_KEY_LEN_MAX - head->same)
        return KV_CORRUPT;
    struct block_key now = {(size_t)head->same, kv_slice_of(head->at, (size_t)head->rest)};
    size_t len = now.same + now.rest.len;
    if (len == 0)
        return KV_CORRUPT;
    if (!kv_kind_in_tables((unsigned)(head->tag & 7)))
        return KV_TOO_NEW;
    uint64_t version = block_version(block->base_version, head->tag);
    if (version > KV_VERSION_STORED_MAX)
        return KV_CORRUPT;
    int c = i == 0 ? -1 : block_keys_compare(walk->leader, &walk->key, &now);
    if (c > 0 || (c == 0 && walk->version <= version))
        return KV_CORRUPT;
    walk->key = now;
    walk->version = version;
    if (leads) {
        walk->leader = head->at;
        walk->leader_len = now.rest.len;
    }
    if (len > block->key_len_max)
        block->key_len_max = (uint32_t)len;
    return KV_OK;
}

static kv_status block_check(struct kv_block *block)
{
    struct block_walk walk = {0};
    kv_slice left = kv_slice_from(block->bytes, KV_BLOCK_HEAD_LEN);
    block->base_version = kv_get_fixed64(block->bytes.data + 4);
    for (uint32_t i = 0; i < block->n; i++) {
        struct block_head head;
        const uint8_t *at = left.data;
        if (!block_take_head(&left, &head))
            return KV_CORRUPT;
        kv_status rc = block_check_entry(block, i, &head, &walk);
        if (rc < 0)
            return rc;
        block->places[i] = block_note((size_t)head.same, (size_t)head.rest, (size_t)(head.at - at));
        block->places[block->n + i] = (uint32_t)(at - block->bytes.data);
    }
    if (left.len != 0)
        return KV_CORRUPT;
    block_fill_hints(block, walk.leader, &walk.key);
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

/* What the trailer of a stored block says; the checksum was right. */
struct block_trailer {
    uint8_t codec;
    kv_slice payload; /* stored */
    size_t inflated_len;
};

static kv_status block_trailer(const uint8_t *stored, size_t len, bool sealed, struct block_trailer *out)
{
    size_t payload_len = len - (sealed ? KV_BLOCK_TRAILER_SEALED_LEN : KV_BLOCK_TRAILER_LEN);
    out->payload = kv_slice_of(stored, payload_len);
    out->codec = stored[payload_len];
    out->inflated_len = kv_get_fixed32(stored + payload_len + 1);
    bool fits = out->codec == KV_CODEC_PLAIN ? out->inflated_len == payload_len
                                             : out->inflated_len <= KV_BLOCK_INFLATED_MAX;
    return fits ? KV_OK : KV_CORRUPT;
}

/* How many entries the payload says it has; they are checked later. */
static kv_status block_count(kv_slice payload, uint32_t *n)
{
    if (payload.len < KV_BLOCK_HEAD_LEN)
        return KV_CORRUPT;
    *n = kv_get_fixed32(payload.data);
    return *n <= (payload.len - KV_BLOCK_HEAD_LEN) / KV_BLOCK_ENTRY_LEN_MIN ? KV_OK : KV_CORRUPT;
}

/* One piece of memory for the block, n entries and `room` bytes behind them, which begins a line: to ask for aligned
 * memory costs the allocator more. */
static struct kv_block *block_new(uint32_t n, size_t room)
{
    size_t head = sizeof(struct kv_block) + (size_t)n * 2 * sizeof(uint32_t);
    uint8_t *memory = kv_alloc(head + room + BLOCK_ALIGN);
    if (!memory)
        return NULL;
    struct kv_block *block = (void *)(memory + (-(uintptr_t)memory & (BLOCK_ALIGN - 1)));
    memset(block, 0, sizeof *block);
    atomic_init(&block->refs, 1);
    block->memory = memory;
    block->n = n;
    block->charge = head + room + BLOCK_ALIGN;
    block->bytes.data = (const uint8_t *)block + head;
    block->bytes.len = room;
    return block;
}

/* A block of entries, whose payload is copied behind it. */
static kv_status block_of_entries(kv_slice payload, struct kv_block **out)
{
    uint32_t n = 0;
    kv_status rc = block_count(payload, &n);
    if (rc < 0)
        return rc;
    struct kv_block *block = block_new(n, payload.len);
    if (!block)
        return KV_NO_MEMORY;
    memcpy((uint8_t *)(uintptr_t)block->bytes.data, payload.data, payload.len);
    rc = block_check(block);
    if (rc < 0)
        kv_block_free(block);
    else
        *out = block;
    return rc;
}

kv_status kv_block_open(uint8_t *stored, size_t len, uint32_t uid_sum, struct kv_cipher *cipher,
                        uint64_t offset, struct kv_block **out)
{
    uint8_t scratch[KV_BLOCK_SCRATCH], *inflated = scratch;
    struct block_trailer trailer = {0};
    kv_status rc = block_check_sum(stored, len, uid_sum, cipher, offset);
    if (rc == KV_OK)
        rc = block_trailer(stored, len, cipher != NULL, &trailer);
    if (rc < 0)
        return rc;
    if (trailer.codec == KV_CODEC_PLAIN)
        return block_of_entries(trailer.payload, out);
    if (trailer.inflated_len > sizeof scratch)
        inflated = kv_alloc(trailer.inflated_len);
    rc = inflated ? kv_inflate(trailer.codec, trailer.payload, inflated, trailer.inflated_len) : KV_NO_MEMORY;
    if (rc == KV_OK)
        rc = block_of_entries(kv_slice_of(inflated, trailer.inflated_len), out);
    if (inflated != scratch)
        kv_free(inflated);
    return rc;
}

kv_status kv_block_open_bytes(uint8_t *stored, size_t len, uint32_t uid_sum, struct kv_cipher *cipher,
                              uint64_t offset, struct kv_block **out)
{
    struct kv_block *block = NULL;
    struct block_trailer trailer = {0};
    uint8_t *bytes = stored;
    kv_status rc = block_check_sum(stored, len, uid_sum, cipher, offset);
    if (rc == KV_OK)
        rc = block_trailer(stored, len, cipher != NULL, &trailer);
    if (rc == KV_OK && trailer.codec != KV_CODEC_PLAIN) {
        bytes = kv_alloc(trailer.inflated_len);
        rc = bytes ? kv_inflate(trailer.codec, trailer.payload, bytes, trailer.inflated_len) : KV_NO_MEMORY;
        kv_free(stored);
    }
    if (rc == KV_OK)
        block = block_new(0, 0);
    if (!block) {
        kv_free(bytes);
        return rc < 0 ? rc : KV_NO_MEMORY;
    }
    block->apart = bytes;
    block->bytes = kv_slice_of(bytes, trailer.inflated_len);
    block->charge += trailer.inflated_len;
    *out = block;
    return KV_OK;
}

kv_status kv_block_of_bytes(uint8_t *bytes, size_t len, struct kv_block **out)
{
    struct kv_block *block = block_new(0, 0);
    if (!block) {
        kv_free(bytes);
        return KV_NO_MEMORY;
    }
    block->apart = bytes;
    block->bytes = kv_slice_of(bytes, len);
    block->charge += len;
    *out = block;
    return KV_OK;
}

void kv_block_free(struct kv_block *block)
{
    kv_free(block->apart);
    kv_free(block->memory);
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
