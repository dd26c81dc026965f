#include "kvcore/sst/table_sums.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/base/file_header.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/table_private.h"

#include <stdlib.h>

enum {
    CRC_LEN = 4,
    FOOTER_TAIL_LEN = CRC_LEN + 8
}; /* a block ends in its crc, the footer in crc and magic */

enum { SEALED_KEEP = 1 << 20 }; /* bytes of memory kept from one part to the next */

struct kv_table_sums {
    struct kv_table *table;
    struct kv_block_handle *parts; /* header, blocks, footer: one behind another, nothing between */
    size_t n, capacity, at;
    uint64_t place; /* bytes of parts[at] seen */
    uint32_t crc;
    uint8_t head[KV_FILE_HEADER_LEN];
    uint8_t tail[FOOTER_TAIL_LEN]; /* the newest bytes of the part, of which its stored sum is among */
    struct kv_buf sealed;          /* the part, where it is encrypted: a seal opens whole or not at all */
};

static kv_status parts_add(struct kv_table_sums *sums, uint64_t offset, uint64_t len)
{
    struct kv_block_handle *grown = kv_grow(sums->parts, &sums->capacity, sums->n + 1, sizeof *grown);
    if (!grown)
        return KV_NO_MEMORY;
    sums->parts = grown;
    sums->parts[sums->n++] = (struct kv_block_handle){offset, len};
    return KV_OK;
}

/* The blocks an index block points at, and with depth 2 those its partitions point at. */
static kv_status parts_of_index(struct kv_table_sums *sums, const struct kv_block *index, int depth,
                                struct kv_err *err)
{
    uint8_t key_buf[KV_KEY_LEN_MAX];
    kv_status rc = KV_OK;
    for (uint32_t i = 0; rc == KV_OK && i < index->n; i++) {
        struct kv_entry separator;
        struct kv_block_handle handle;
        struct kv_block *partition = NULL;
        KV_TRY(kv_table_handle(sums->table, index, i, &separator, key_buf, &handle, err));
        KV_TRY(parts_add(sums, handle.offset, handle.len));
        if (depth == 1)
            continue;
        KV_TRY(kv_table_read_block(sums->table, handle, true, &partition, err));
        rc = parts_of_index(sums, partition, depth - 1, err);
        kv_block_unref(partition);
    }
out:
    return rc;
}

static int compare_parts(const void *a, const void *b)
{
    const struct kv_block_handle *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* What lies between known parts can only be one block of a kind this file does not ask about. */
static kv_status parts_join(struct kv_table_sums *sums, struct kv_err *err)
{
    size_t n = sums->n;
    kv_status rc = KV_OK;
    qsort(sums->parts, n, sizeof *sums->parts, compare_parts);
    for (size_t i = 1; i < n && rc == KV_OK; i++) {
        uint64_t end = sums->parts[i - 1].offset + sums->parts[i - 1].len, next = sums->parts[i].offset;
        if (end > next || (end < next && next - end < KV_BLOCK_TRAILER_LEN))
            return kv_table_damaged(sums->table, KV_CORRUPT, next, "blocks overlap", err);
        if (end < next)
            rc = parts_add(sums, end, next - end);
    }
    if (rc == KV_OK && sums->n > n)
        qsort(sums->parts, sums->n, sizeof *sums->parts, compare_parts);
    return rc;
}

kv_status kv_table_sums_new(struct kv_table *table, struct kv_table_sums **out, struct kv_err *err)
{
    struct kv_table_sums *sums = kv_zalloc(1, sizeof *sums);
    kv_status rc = sums ? KV_OK : KV_NO_MEMORY;
    KV_TRY(rc);
    sums->table = table;
    KV_TRY(parts_add(sums, 0, KV_FILE_HEADER_LEN));
    KV_TRY(parts_of_index(sums, table->top, table->levels, err));
    KV_TRY(parts_add(sums, table->top_handle.offset, table->top_handle.len));
    if (table->filter_handle.len)
        KV_TRY(parts_add(sums, table->filter_handle.offset, table->filter_handle.len));
    KV_TRY(parts_add(sums, table->properties_handle.offset, table->properties_handle.len));
    KV_TRY(parts_add(sums, table->footer_offset, kv_table_footer_len(table->cipher)));
    KV_TRY(parts_join(sums, err));
    *out = sums;
    sums = NULL;
out:
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory checking table %s", table->name);
    kv_table_sums_free(sums);
    return rc;
}

void kv_table_sums_free(struct kv_table_sums *sums)
{
    if (!sums)
        return;
    kv_buf_release(&sums->sealed);
    kv_free(sums->parts);
    kv_free(sums);
}

static void part_begin(struct kv_table_sums *sums)
{
    uint8_t place[8];
    kv_put_fixed64(place, sums->parts[sums->at].offset);
    sums->crc = kv_crc32c(sums->table->uid_sum, kv_slice_of(place, sizeof place));
}

/* Keeps the last sizeof tail bytes of the part. */
static void tail_add(struct kv_table_sums *sums, kv_slice bytes)
{
    size_t room = sizeof sums->tail, n = bytes.len < room ? bytes.len : room;
    memmove(sums->tail, sums->tail + n, room - n);
    memcpy(sums->tail + room - n, bytes.data + bytes.len - n, n);
}

static kv_status header_end(struct kv_table_sums *sums, struct kv_err *err)
{
    struct kv_table *table = sums->table;
    struct kv_file_header header;
    struct kv_file_expect expect = {
        .kind = KV_FILE_TABLE, .format_max = KV_TABLE_FORMAT, .name = table->name, .encrypted = true};
    kv_status rc = kv_file_header_check(kv_slice_of(sums->head, sizeof sums->head), &expect, &header, err);
    if (rc < 0)
        return rc;
    if (memcmp(header.uid, table->properties.uid, sizeof header.uid) != 0 ||
        header.key_id != table->properties.key_id)
        return kv_table_damaged(table, KV_CORRUPT, 0, "its identity changed", err);
    return KV_OK;
}

/* Crc or seal of a block, or of the footer before its magic. */
static kv_status sum_end(struct kv_table_sums *sums, bool footer, struct kv_err *err)
{
    struct kv_table *table = sums->table;
    uint64_t offset = sums->parts[sums->at].offset;
    size_t after = footer ? FOOTER_TAIL_LEN : CRC_LEN;
    kv_status rc = KV_OK;
    if (table->cipher) {
        size_t len = sums->sealed.len - (footer ? FOOTER_TAIL_LEN - CRC_LEN : 0);
        rc = kv_cipher_open(table->cipher, offset, KV_STR(""), kv_slice_of(sums->sealed.data, len),
                            sums->sealed.data);
    } else if (kv_get_fixed32(sums->tail + sizeof sums->tail - after) != sums->crc) {
        rc = KV_CORRUPT;
    }
    if (footer && kv_get_fixed64(sums->tail + CRC_LEN) != KV_TABLE_FOOTER_MAGIC)
        rc = KV_CORRUPT;
    if (rc == KV_NO_MEMORY)
        return kv_fail(err, rc, 0, "out of memory checking table %s", table->name);
    return rc < 0 ? kv_table_damaged(table, rc, offset, footer ? "a damaged footer" : "a damaged block", err)
                  : KV_OK;
}

static kv_status part_end(struct kv_table_sums *sums, struct kv_err *err)
{
    kv_status rc = sums->at == 0 ? header_end(sums, err) : sum_end(sums, sums->at == sums->n - 1, err);
    if (rc < 0)
        return rc;
    sums->at++;
    sums->place = 0;
    kv_buf_clear_keep(&sums->sealed, SEALED_KEEP);
    if (sums->at < sums->n)
        part_begin(sums);
    return KV_OK;
}

/* Bytes of one part. */
static kv_status part_add(struct kv_table_sums *sums, kv_slice bytes)
{
    uint64_t len = sums->parts[sums->at].len;
    kv_status rc = KV_OK;
    if (sums->at == 0) {
        memcpy(sums->head + sums->place, bytes.data, bytes.len);
    } else {
        uint64_t summed = len - (sums->at == sums->n - 1 ? FOOTER_TAIL_LEN : CRC_LEN);
        uint64_t left = summed > sums->place ? summed - sums->place : 0;
        kv_slice under = {bytes.data, left < bytes.len ? (size_t)left : bytes.len};
        if (sums->table->cipher)
            rc = kv_buf_append(&sums->sealed, bytes);
        else if (under.len)
            sums->crc = kv_crc32c(sums->crc, under);
        tail_add(sums, bytes);
    }
    sums->place += bytes.len;
    return rc;
}

kv_status kv_table_sums_add(struct kv_table_sums *sums, kv_slice bytes, struct kv_err *err)
{
    kv_status rc = KV_OK;
    while (bytes.len > 0 && rc == KV_OK) {
        if (sums->at == sums->n)
            return kv_table_damaged(sums->table, KV_CORRUPT, sums->parts[sums->n - 1].offset,
                                    "bytes behind the footer", err);
        uint64_t left = sums->parts[sums->at].len - sums->place;
        size_t n = bytes.len < left ? bytes.len : (size_t)left;
        rc = part_add(sums, kv_slice_of(bytes.data, n));
        if (rc < 0)
            return kv_fail(err, rc, 0, "out of memory checking table %s", sums->table->name);
        bytes = kv_slice_from(bytes, n);
        if (sums->place == sums->parts[sums->at].len)
            rc = part_end(sums, err);
    }
    return rc;
}

kv_status kv_table_sums_end(struct kv_table_sums *sums, struct kv_err *err)
{
    if (sums->at == sums->n)
        return KV_OK;
    return kv_table_damaged(sums->table, KV_CORRUPT, sums->parts[sums->at].offset + sums->place,
                            "the file ends early", err);
}
