#include "kvcore/db/log_read.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"

enum { WINDOW_BYTES = 512 * 1024 };
_Static_assert(WINDOW_BYTES >= 2 * KV_LOG_FRAGMENT_SEALED_MAX, "a fragment always fits");

kv_status kv_log_reader_open(struct kv_log_reader *reader, struct kv_dir *dir, uint64_t number,
                             const uint8_t *uuid, struct kv_keyring *keys, struct kv_err *err)
{
    char name[KV_LOG_NAME_MAX];
    uint8_t raw[KV_FILE_HEADER_LEN];
    struct kv_read range = {.len = sizeof raw, .into = raw};
    kv_status rc;
    *reader = (struct kv_log_reader){.offset = KV_FILE_HEADER_LEN};
    kv_buf_init(&reader->joined, KV_LOG_PAYLOAD_MAX);
    kv_log_name(name, number);
    KV_TRY(kv_dir_open_file(dir, name, &reader->file, err));
    KV_TRY(kv_file_size(reader->file, &reader->size, err));
    reader->limit = reader->size;
    reader->window = kv_alloc(WINDOW_BYTES);
    KV_TRY(reader->window ? KV_OK : kv_fail(err, KV_NO_MEMORY, 0, "reading %s", name));
    KV_TRY(reader->file->ops->read_at(reader->file, &range, 1, err));
    struct kv_file_expect expect = {
        .kind = KV_FILE_LOG, .format_max = KV_LOG_FORMAT, .uuid = uuid, .name = name, .encrypted = true};
    if (!kv_keyring_may_be_plain(keys, number))
        reader->limit = KV_FILE_HEADER_LEN; /* without a cipher nothing of it is believed */
    if (range.got == sizeof raw) /* a salvage tries it even where the header as a whole is damaged */
        reader->uid_sum = kv_log_uid_sum(raw + KV_FILE_HEADER_AT_UID);
    KV_TRY(kv_file_header_check(kv_slice_of(raw, range.got), &expect, &reader->header, err));
    KV_TRY(kv_keyring_cipher(keys, raw, number, name, &reader->cipher, err));
    reader->limit = reader->size;
    if (reader->cipher && !(reader->plain = kv_alloc(KV_LOG_FRAGMENT_MAX)))
        rc = kv_fail(err, KV_NO_MEMORY, 0, "reading %s", name);
out:
    return rc;
}

void kv_log_reader_close(struct kv_log_reader *reader)
{
    kv_file_close(reader->file);
    kv_free(reader->window);
    kv_free(reader->plain);
    kv_cipher_free(reader->cipher);
    reader->plain = NULL;
    reader->cipher = NULL;
    kv_buf_release(&reader->joined);
    reader->file = NULL;
    reader->window = NULL;
}

/* The bytes at offset: up to want of them, fewer only at the limit. */
static kv_status reader_bytes(struct kv_log_reader *reader, uint64_t offset, size_t want, kv_slice *out,
                              struct kv_err *err)
{
    KV_ASSERT(want <= WINDOW_BYTES);
    uint64_t left = offset < reader->limit ? reader->limit - offset : 0;
    size_t need = want < left ? want : (size_t)left;
    if (need > 0 && (offset < reader->base || offset + need > reader->base + reader->len)) {
        struct kv_read range = {.offset = offset, .len = left < WINDOW_BYTES ? (size_t)left : WINDOW_BYTES};
        range.into = reader->window;
        reader->len = 0;
        kv_status rc = reader->file->ops->read_at(reader->file, &range, 1, err);
        if (rc < 0)
            return rc;
        reader->base = offset;
        reader->len = range.got;
        need = need < range.got ? need : range.got;
    }
    *out = kv_slice_of(reader->window + (offset - reader->base), need);
    return KV_OK;
}

/* The fragment at offset. KV_CORRUPT: none that is valid. */
static kv_status reader_fragment(struct kv_log_reader *reader, uint64_t offset, struct kv_log_fragment *out,
                                 struct kv_err *err)
{
    kv_slice bytes = {0};
    kv_status rc = reader_bytes(reader, offset, KV_LOG_FRAGMENT_SEALED_MAX, &bytes, err);
    if (rc < 0)
        return rc;
    if (!reader->cipher)
        return kv_log_fragment_valid(bytes, reader->uid_sum, offset, out) ? KV_OK : KV_CORRUPT;
    rc = kv_log_fragment_open(bytes, reader->cipher, offset, reader->plain, out);
    return rc == KV_NO_MEMORY ? kv_fail(err, rc, 0, "decrypting a log") : rc;
}

/* Joins the record whose first fragment was read. Its fragments lie side by side. */
static kv_status reader_join(struct kv_log_reader *reader, struct kv_log_fragment *fragment,
                             struct kv_log_item *item, struct kv_err *err)
{
    uint32_t total = fragment->total;
    kv_buf_clear(&reader->joined);
    kv_status rc = kv_buf_reserve(&reader->joined, KV_LOG_FRAGMENT_MAX);
    for (;;) {
        if (rc == KV_OK)
            rc = kv_buf_append(&reader->joined, fragment->payload);
        if (rc < 0)
            return kv_fail(err, rc, 0, "reading a log record of %u bytes", total);
        if (reader->joined.len == total)
            break;
        uint32_t place = (uint32_t)reader->joined.len;
        rc = reader_fragment(reader, item->end, fragment, err);
        if (rc < 0)
            return rc;
        if (fragment->seq != item->seq || fragment->total != total || fragment->place != place ||
            fragment->synced != item->synced)
            return KV_CORRUPT;
        item->end += fragment->size;
    }
    item->payload = kv_buf_slice(&reader->joined);
    return KV_OK;
}

kv_status kv_log_reader_next(struct kv_log_reader *reader, uint64_t seq, struct kv_log_item *out,
                             struct kv_err *err)
{
    struct kv_log_fragment fragment;
    if (reader->offset >= reader->limit)
        return KV_END;
    kv_status rc = reader_fragment(reader, reader->offset, &fragment, err);
    if (rc < 0)
        return rc;
    if (fragment.seq != seq || fragment.place != 0)
        return KV_CORRUPT;
    *out = (struct kv_log_item){.seq = seq, .synced = fragment.synced, .offset = reader->offset};
    out->end = reader->offset + fragment.size;
    out->payload = fragment.payload;
    if (fragment.payload.len < fragment.total)
        rc = reader_join(reader, &fragment, out, err);
    if (rc == KV_OK)
        reader->offset = out->end;
    return rc;
}

kv_status kv_log_reader_resync(struct kv_log_reader *reader, struct kv_log_fragment *out, struct kv_err *err)
{
    for (uint64_t at = reader->offset + KV_LOG_ALIGN; at + KV_LOG_FRAGMENT_HEADER_LEN <= reader->limit;
         at += KV_LOG_ALIGN) {
        kv_slice bytes = {0};
        kv_status rc = reader_bytes(reader, at, 4, &bytes, err);
        if (rc < 0)
            return rc;
        if (bytes.len < 4 || kv_get_fixed32(bytes.data) != KV_LOG_MAGIC)
            continue;
        rc = reader_fragment(reader, at, out, err);
        if (rc == KV_OK)
            reader->offset = at;
        if (rc != KV_CORRUPT)
            return rc;
    }
    return KV_END;
}

kv_status kv_log_reader_has_magic(struct kv_log_reader *reader, bool *found, struct kv_err *err)
{
    kv_status rc = KV_OK;
    uint64_t limit = reader->limit;
    *found = false;
    reader->limit = reader->size;
    for (uint64_t at = KV_FILE_HEADER_LEN; at + 4 <= reader->size && !*found && rc == KV_OK;
         at += KV_LOG_ALIGN) {
        kv_slice bytes = {0};
        rc = reader_bytes(reader, at, 4, &bytes, err);
        *found = rc == KV_OK && bytes.len == 4 && kv_get_fixed32(bytes.data) == KV_LOG_MAGIC;
    }
    reader->limit = limit;
    return rc;
}
