#include "kvcore/sst/table_salvage.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/table_private.h"

#include <stdio.h>

enum {
    SEARCH_BYTES = 64 << 10, /* a block that begins in a damaged place is looked for up to this length */
    READ_PIECE = 4096,       /* where the disk fails, so much is taken for zeros */
};

struct salvage {
    const struct kv_table_salvage *how;
    uint8_t *file;
    size_t len;
    struct kv_table table; /* enough of one to read its index: file, uid, cipher, footer */
    struct kv_buf hints;   /* struct kv_block_handle, by offset */
    struct kv_buf walked;  /* the same: blocks that were read */
    struct kv_buf last;    /* key of the newest entry handed out */
    uint64_t last_version;
    bool any;
    uint64_t bad_from, bad_bytes; /* damage since then */
    struct kv_table_salvaged said;
};

bool kv_header_mend(uint8_t raw[KV_FILE_HEADER_LEN])
{
    struct kv_file_expect expect = {.name = ""};
    struct kv_file_header header;
    for (size_t bit = 0; bit < (size_t)8 * KV_FILE_HEADER_LEN; bit++) {
        struct kv_err err = {0};
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
        header = (struct kv_file_header){0};
        kv_status rc = kv_file_header_check(kv_slice_of(raw, KV_FILE_HEADER_LEN), &expect, &header, &err);
        if (rc == KV_OK || header.kind) /* it is filled in once magic and sum are right */
            return true;
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    return false;
}

/* ---- the file */

static kv_status salvage_read(struct salvage *s, struct kv_err *err)
{
    uint64_t size = 0;
    kv_status rc;
    KV_TRY(kv_dir_open_file(s->how->dir, s->how->name, &s->table.file, err));
    KV_TRY(kv_file_size(s->table.file, &size, err));
    s->len = (size_t)size;
    s->file = kv_zalloc(s->len + 1, 1);
    if (!s->file)
        return kv_fail(err, KV_NO_MEMORY, 0, "%s: no memory to salvage %zu bytes", s->how->name, s->len);
    if (s->len && kv_file_read_exact(s->table.file, 0, s->len, s->file, NULL) != KV_OK)
        for (size_t at = 0; at < s->len; at += READ_PIECE) {
            size_t n = s->len - at < READ_PIECE ? s->len - at : READ_PIECE;
            if (kv_file_read_exact(s->table.file, at, n, s->file + at, NULL) != KV_OK)
                memset(s->file + at, 0, n);
        }
    if (s->len < KV_FILE_HEADER_LEN)
        rc = kv_fail(err, KV_CORRUPT, 0, "%s has %zu bytes, less than a header", s->how->name, s->len);
out:
    return rc;
}

static kv_status salvage_header(struct salvage *s, struct kv_err *err)
{
    const struct kv_table_salvage *how = s->how;
    struct kv_file_expect expect = {.kind = KV_FILE_TABLE,
                                    .format_max = KV_TABLE_FORMAT,
                                    .uuid = how->uuid,
                                    .name = how->name,
                                    .encrypted = true};
    struct kv_file_header header = {0};
    uint8_t raw[KV_FILE_HEADER_LEN];
    memcpy(raw, s->file, sizeof raw);
    kv_slice bytes = kv_slice_of(raw, sizeof raw);
    kv_status rc = kv_file_header_check(bytes, &expect, &header, err);
    if (rc == KV_CORRUPT && !header.kind && kv_header_mend(raw))
        rc = kv_file_header_check(bytes, &expect, &header, err);
    if (rc == KV_CORRUPT && !header.kind && how->uid && !how->keys)
        rc = KV_OK; /* all that is needed of it is known */
    if (rc < 0)
        return rc;
    if (header.kind && how->uid && memcmp(how->uid, header.uid, KV_FILE_UID_LEN) != 0)
        return kv_fail(err, KV_CORRUPT, 0, "%s is another file than the one that was written under this name",
                       how->name);
    const uint8_t *uid = how->uid ? how->uid : header.uid;
    s->table.uid_sum = kv_crc32c(0, kv_slice_of(uid, KV_FILE_UID_LEN));
    if (header.kind)
        rc = kv_keyring_cipher(how->keys, raw, how->number, how->name, &s->table.cipher, err);
    return rc == KV_WRONG_KEY && how->keys ? KV_CORRUPT : rc;
}

/* ---- where blocks may lie, by the index */

static kv_status hint_add(struct salvage *s, struct kv_block_handle handle)
{
    return kv_buf_append(&s->hints, kv_slice_of(&handle, sizeof handle));
}

static kv_status hints_of(struct salvage *s, const struct kv_block *index, bool leaves)
{
    uint8_t key[KV_KEY_LEN_MAX];
    kv_status rc = KV_OK;
    for (uint32_t i = 0; i < index->n && rc == KV_OK; i++) {
        struct kv_entry separator;
        struct kv_block_handle handle;
        struct kv_block *partition = NULL;
        if (kv_table_handle(&s->table, index, i, &separator, key, &handle, NULL) < 0)
            continue;
        if (!leaves && kv_table_read_block(&s->table, handle, true, &partition, NULL) == KV_OK)
            rc = hints_of(s, partition, true);
        kv_block_unref(partition);
        if (rc == KV_OK)
            rc = hint_add(s, handle);
    }
    return rc;
}

static kv_status salvage_hints(struct salvage *s)
{
    struct kv_block *top = NULL;
    if (kv_table_open_footer(&s->table, s->len, NULL) < 0) {
        s->table.footer_offset = s->len;
        return KV_OK;
    }
    kv_status rc = KV_OK;
    if (kv_table_read_block(&s->table, s->table.top_handle, true, &top, NULL) == KV_OK)
        rc = hints_of(s, top, s->table.levels == 1);
    kv_block_unref(top);
    if (rc == KV_OK)
        rc = hint_add(s, s->table.top_handle);
    if (rc == KV_OK && s->table.filter_handle.len)
        rc = hint_add(s, s->table.filter_handle);
    return rc < 0 ? rc : hint_add(s, s->table.properties_handle);
}

static const struct kv_block_handle *hint_at(const struct salvage *s, uint64_t offset)
{
    const struct kv_block_handle *hints = (const struct kv_block_handle *)(const void *)s->hints.data;
    for (size_t i = 0; i < s->hints.len / sizeof *hints; i++)
        if (hints[i].offset == offset)
            return &hints[i];
    return NULL;
}

/* The first hint behind the offset. */
static uint64_t hint_behind(const struct salvage *s, uint64_t offset)
{
    const struct kv_block_handle *hints = (const struct kv_block_handle *)(const void *)s->hints.data;
    uint64_t best = UINT64_MAX;
    for (size_t i = 0; i < s->hints.len / sizeof *hints; i++)
        if (hints[i].offset > offset && hints[i].offset < best)
            best = hints[i].offset;
    return best;
}

/* ---- one block */

static kv_status block_try(struct salvage *s, uint64_t offset, size_t len, bool entries,
                           struct kv_block **out)
{
    uint8_t *stored = kv_alloc_aligned(64, len);
    if (!stored)
        return KV_NO_MEMORY;
    memcpy(stored, s->file + offset, len);
    if (!entries)
        return kv_block_open_bytes(stored, len, s->table.uid_sum, s->table.cipher, offset, out);
    kv_status rc = kv_block_open(stored, len, s->table.uid_sum, s->table.cipher, offset, out);
    kv_free(stored);
    return rc;
}

/* How long the block at offset is, by where its sum comes out right; 0: none begins there. */
static size_t block_len(struct salvage *s, uint64_t offset, size_t most)
{
    size_t left = s->table.footer_offset > offset ? (size_t)(s->table.footer_offset - offset) : 0;
    const struct kv_block_handle *hint = hint_at(s, offset);
    if (hint && hint->len <= left)
        return (size_t)hint->len;
    left = left < most ? left : most;
    if (s->table.cipher) {
        left = left < SEARCH_BYTES ? left : SEARCH_BYTES;
        for (size_t len = KV_BLOCK_TRAILER_SEALED_LEN + 1; len <= left; len++) {
            struct kv_block *block = NULL;
            if (block_try(s, offset, len, false, &block) == KV_OK) {
                kv_block_unref(block);
                return len;
            }
        }
        return 0;
    }
    uint32_t sum = kv_block_sum(s->table.uid_sum, offset, (kv_slice){0});
    for (size_t n = 1; n + 4 <= left; n++) {
        sum = kv_crc32c(sum, kv_slice_of(s->file + offset + n - 1, 1));
        if (n > 5 && kv_get_fixed32(s->file + offset + n) == sum)
            return n + 4;
    }
    return 0;
}

/* ---- what it holds */

enum walked { WALKED_NOT, WALKED_SO, WALKED_UNREAD };

/* Is the handle that of a block that was read, or does it lie where nothing could be read? */
static enum walked was_walked(const struct salvage *s, struct kv_block_handle handle)
{
    const struct kv_block_handle *walked = (const struct kv_block_handle *)(const void *)s->walked.data;
    size_t low = 0, high = s->walked.len / sizeof *walked;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (walked[middle].offset < handle.offset)
            low = middle + 1;
        else
            high = middle;
    }
    size_t n = s->walked.len / sizeof *walked;
    if (low < n && walked[low].offset == handle.offset)
        return walked[low].len == handle.len ? WALKED_SO : WALKED_NOT;
    bool clear = (low == 0 || walked[low - 1].offset + walked[low - 1].len <= handle.offset) &&
                 (low == n || handle.offset + handle.len <= walked[low].offset);
    return clear ? WALKED_UNREAD : WALKED_NOT;
}

/* A block of the index: its values are the handles of blocks in front of it. (Entries whose values all look so, where
 * no block in front could be read, are taken for one too: a lost entry is better than one that nobody wrote.) */
static bool is_index(const struct salvage *s, const struct kv_block *block, uint64_t offset)
{
    uint8_t key[KV_KEY_LEN_MAX];
    uint64_t end = KV_FILE_HEADER_LEN;
    for (uint32_t i = 0; i < block->n; i++) {
        struct kv_entry entry;
        struct kv_block_handle handle;
        kv_block_entry(block, i, key, &entry);
        kv_slice value = entry.value;
        if (kv_take_varint(&value, &handle.offset) < 0 || kv_take_varint(&value, &handle.len) < 0 ||
            value.len || handle.offset < end || handle.len > offset || handle.offset > offset - handle.len ||
            was_walked(s, handle) == WALKED_NOT)
            return false;
        end = handle.offset + handle.len;
    }
    return block->n > 0;
}

static void tell_lost(struct salvage *s, kv_slice before)
{
    if (s->bad_bytes && s->how->lost)
        s->how->lost(s->how->ctx, s->bad_from, s->bad_bytes, kv_buf_slice(&s->last), before);
    s->bad_bytes = 0;
}

static kv_status take_entries(struct salvage *s, const struct kv_block *block)
{
    uint8_t key[KV_KEY_LEN_MAX];
    kv_status rc = KV_OK;
    for (uint32_t i = 0; i < block->n && rc == KV_OK; i++) {
        struct kv_entry entry;
        kv_block_entry(block, i, key, &entry);
        if (s->any &&
            kv_entry_compare(kv_buf_slice(&s->last), s->last_version, entry.key, entry.version) >= 0)
            return KV_OK; /* no block of this place */
        tell_lost(s, entry.key);
        rc = s->how->entry ? s->how->entry(s->how->ctx, &entry) : KV_OK;
        kv_buf_clear(&s->last);
        if (rc == KV_OK)
            rc = kv_buf_append(&s->last, entry.key);
        s->last_version = entry.version;
        s->any = true;
    }
    return rc;
}

static void take_properties(struct salvage *s, const struct kv_block *block)
{
    struct kv_table_properties p = {0};
    if (kv_table_decode_properties(block->bytes, &p) == KV_OK) {
        s->said = (struct kv_table_salvaged){true, p.space, p.written_after};
    }
}

/* *len: of the block at offset; 0: there is none that can be read. */
static kv_status take_block(struct salvage *s, uint64_t offset, size_t most, size_t *len)
{
    struct kv_block *block = NULL;
    *len = block_len(s, offset, most);
    kv_status rc = *len ? block_try(s, offset, *len, true, &block) : KV_CORRUPT;
    if (rc == KV_OK && !is_index(s, block, offset)) {
        rc = take_entries(s, block);
    } else if (rc == KV_CORRUPT || rc == KV_TOO_NEW) {
        rc = *len ? block_try(s, offset, *len, false, &block) : KV_CORRUPT;
        if (rc == KV_OK)
            take_properties(s, block);
    }
    kv_block_unref(block);
    if (rc == KV_OK) {
        struct kv_block_handle handle = {offset, *len};
        return kv_buf_append(&s->walked, kv_slice_of(&handle, sizeof handle));
    }
    *len = 0;
    return rc == KV_CORRUPT ? KV_OK : rc;
}

static kv_status salvage_walk(struct salvage *s)
{
    uint64_t at = KV_FILE_HEADER_LEN;
    kv_status rc = KV_OK;
    while (rc == KV_OK && at < s->table.footer_offset) {
        size_t len;
        rc = take_block(s, at, s->bad_bytes ? SEARCH_BYTES : SIZE_MAX, &len);
        if (rc < 0 || len > 0) {
            at += len;
            continue;
        }
        if (!s->bad_bytes)
            s->bad_from = at;
        uint64_t next = hint_behind(s, at);
        if (next == UINT64_MAX) /* without an index: the next place that a block may begin at */
            next = s->table.cipher || s->hints.len ? s->table.footer_offset : at + 1;
        s->bad_bytes += next - at;
        at = next;
    }
    if (rc == KV_OK)
        tell_lost(s, (kv_slice){0});
    return rc;
}

kv_status kv_table_salvage(const struct kv_table_salvage *how, struct kv_table_salvaged *out,
                           struct kv_err *err)
{
    struct salvage s = {.how = how};
    char name[64];
    kv_status rc;
    snprintf(name, sizeof name, "%s", how->name);
    s.table.name = name;
    s.table.refs = 1;
    KV_TRY(salvage_read(&s, err));
    KV_TRY(salvage_header(&s, err));
    KV_TRY(salvage_hints(&s));
    KV_TRY(salvage_walk(&s));
    *out = s.said;
out:
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "%s: no memory to salvage it", how->name);
    kv_file_close(s.table.file);
    kv_cipher_free(s.table.cipher);
    kv_free(s.file);
    kv_buf_release(&s.hints);
    kv_buf_release(&s.walked);
    kv_buf_release(&s.last);
    return rc;
}
