/*
 * block.h - one block of a table: how its bytes are made, checked once, and searched. Bytes:
 * kvcore/docs/table.md.
 *
 * A stored block is payload, codec, inflated length and a crc32c over (file uid, offset, all of it); in an encrypted
 * file all of it is sealed by the file's cipher, whose tag takes the place of the crc. Inflated it is a run of entries in order; every KV_RUN_GROUP'th has its full key, the others share a prefix with the
 * full key of their group. So each entry can be decoded by itself: kv_block_open checks every entry once and
 * notes its offset and four telling bytes of its key (a hint): a search is a binary search over the hints, which lie side
 * by side, and looks at entries only where hints are the same.
 * Threads    a kv_block never changes after kv_block_open: any. A kv_block_build belongs to one.
 * Ownership  a kv_block is counted; slices of it are good while a reference is held.
 * Failure    KV_CORRUPT: the bytes break a rule of the format; KV_TOO_NEW: a codec or kind of a newer
 *            version; KV_NO_MEMORY.
 */
#ifndef KV_BLOCK_H
#define KV_BLOCK_H

#include "kvcore/base/buf.h"
#include "kvcore/base/compress.h"
#include "kvcore/crypt/cipher.h"
#include "kvcore/sst/entry.h"

#include <stdatomic.h>

struct kv_cache_slot;

enum { KV_BLOCK_PREFIX_INLINE = 32 };

/* One piece of memory, so that a search touches few lines of it, and those one behind another. */
struct kv_block {
    struct kv_cache_slot *slot; /* holds the count while the block is cached; NULL: refs does */
    _Atomic uint32_t refs;
    uint32_t n; /* entries; 0 for a block of plain bytes (a filter) */
    uint64_t base_version;
    size_t charge;  /* heap bytes, for the cache */
    void *memory;   /* what the allocator gave, the block within */
    uint8_t *apart; /* of a block of plain bytes: they are a piece of memory of their own */
    kv_slice bytes; /* the inflated payload */
    uint32_t key_len_max, prefix_len;
    const uint8_t *prefix; /* what all keys begin with: a copy in prefix_copy if it fits, else in bytes */
    uint8_t prefix_copy[KV_BLOCK_PREFIX_INLINE];
    uint32_t places
        []; /* n hints: of each key the bytes behind the prefix; then n offsets of the entries in bytes */
};

/* Where a stored block is: len counts the payload and its trailer. */
struct kv_block_handle {
    uint64_t offset, len;
};

/* ---- reading */

enum { KV_BLOCK_SCRATCH = 16 << 10 }; /* bytes on the stack that most blocks fit, stored or inflated */

/* Checks and inflates a stored block of entries. stored stays the caller's; a sealed one is opened in place. uid_sum:
 * kv_crc32c of the file uid. cipher: the file's; NULL: it is not encrypted. */
KV_MUST kv_status kv_block_open(uint8_t *stored, size_t len, uint32_t uid_sum, struct kv_cipher *cipher,
                                uint64_t offset, struct kv_block **out);
/* The same of a block of plain bytes (a filter, a value), which may be long: stored is a heap block (kv_alloc) that is
 * taken over whatever is answered, and is what the block's bytes lie in when they are stored plain. */
KV_MUST kv_status kv_block_open_bytes(uint8_t *stored, size_t len, uint32_t uid_sum, struct kv_cipher *cipher,
                                      uint64_t offset, struct kv_block **out);
/* A block of plain bytes that were verified elsewhere. bytes: heap (kv_alloc), taken over whatever is answered. */
KV_MUST kv_status kv_block_of_bytes(uint8_t *bytes, size_t len, struct kv_block **out);
struct kv_block *kv_block_ref(struct kv_block *block);
void kv_block_unref(struct kv_block *block); /* NULL is fine */

/* Asks for the lines of memory that a search will want first, all at once. */
static inline void kv_block_prefetch(const struct kv_block *block)
{
    const char *at = (const char *)block;
    for (int line = 0; line < 4; line++)
        __builtin_prefetch(at + (size_t)64 * (size_t)line);
}

/* Index of the first entry at or after (key, version); block->n when there is none. */
uint32_t kv_block_seek(const struct kv_block *block, kv_slice key, uint64_t version);
/* The newest entry of key at or below version. out->key is the caller's. */
bool kv_block_get(const struct kv_block *block, kv_slice key, uint64_t version, struct kv_entry *out);
kv_slice kv_block_value(const struct kv_block *block, uint32_t i);
/* Decodes entry i: the key into key_buf (block->key_len_max bytes of room) unless it lies whole in the block.
 */
void kv_block_entry(const struct kv_block *block, uint32_t i, uint8_t *key_buf, struct kv_entry *out);
/* Points run at entry i, so that kv_run_take yields it next. */
void kv_block_run(const struct kv_block *block, uint32_t i, struct kv_run *run);

/* ---- writing */

struct kv_block_build {
    struct kv_buf payload; /* entries so far, behind room for the head */
    struct kv_buf leader;  /* full key of the group */
    uint64_t base_version; /* set by the first entry after a reset */
    uint32_t n;
};
void kv_block_build_release(struct kv_block_build *build); /* {0} and twice are fine */
void kv_block_build_reset(struct kv_block_build *build);   /* empty, keeps its memory */
/* Entries come in order: the caller saw to that. */
KV_MUST kv_status kv_block_build_add(struct kv_block_build *build, const struct kv_entry *entry);
static inline size_t kv_block_build_bytes(const struct kv_block_build *build)
{
    return build->payload.len;
}
/* crc32c over (file uid, offset, bytes), the sum of blocks and footer. uid_sum: kv_crc32c of the uid. */
uint32_t kv_block_sum(uint32_t uid_sum, uint64_t offset, kv_slice bytes);
/* Appends the stored form (compressed if that saves an eighth) to *out, for a block that will lie at offset. With a
 * cipher an offset is stored once: see cipher.h. */
KV_MUST kv_status kv_block_store(kv_slice payload, enum kv_codec codec, uint32_t uid_sum,
                                 struct kv_cipher *cipher, uint64_t offset, struct kv_buf *out);
/* The payload built so far; good until the next call on build. */
KV_MUST kv_status kv_block_build_finish(struct kv_block_build *build, kv_slice *payload);

void kv_block_ref_slot(
    struct kv_cache_slot *slot); /* of cache.c, for kv_block_ref and kv_block_unref alone */
void kv_block_unref_slot(struct kv_cache_slot *slot);
void kv_block_free(struct kv_block *block); /* private: only for who holds the last reference */

#endif
