#include "kvcore/backup/frame.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/crc32c.h"

#include <inttypes.h>
#include <stdio.h>

/* frame := magic:u32 crc:u32 len:u32 kind:u8 flags:u8 0:u16 payload[len]; crc32c of (uid, offset:u64, the last 8 bytes of the frame's
 * header, payload). */
enum { FRAME_MAGIC = 0x7246764b, FLAG_PACKED = 1, FLAG_SEALED = 2, PACKED_HEADER_LEN = 1 + 4 };
enum { AT_CRC = 4, AT_LEN = 8, AT_KIND = 12, AT_FLAGS = 13, AT_ZERO = 14 };
enum { PLACE_LEN = KV_FILE_UID_LEN + 8 + 1 };

static uint32_t frame_crc(const uint8_t uid[KV_FILE_UID_LEN], uint64_t offset,
                          const uint8_t header[KV_FRAME_HEADER_LEN], kv_slice payload)
{
    uint8_t bound[KV_FILE_UID_LEN + 8 + KV_FRAME_HEADER_LEN - AT_LEN];
    memcpy(bound, uid, KV_FILE_UID_LEN);
    kv_put_fixed64(bound + KV_FILE_UID_LEN, offset);
    memcpy(bound + KV_FILE_UID_LEN + 8, header + AT_LEN, KV_FRAME_HEADER_LEN - AT_LEN);
    return kv_crc32c(kv_crc32c(0, kv_slice_of(bound, sizeof bound)), payload);
}

/* What a cipher authenticates besides the payload. */
static kv_slice frame_place(uint8_t place[PLACE_LEN], const uint8_t uid[KV_FILE_UID_LEN], uint64_t offset,
                            uint8_t kind)
{
    memcpy(place, uid, KV_FILE_UID_LEN);
    kv_put_fixed64(place + KV_FILE_UID_LEN, offset);
    place[PLACE_LEN - 1] = kind;
    return kv_slice_of(place, PLACE_LEN);
}

/* ---- writing */

static kv_status writer_out(struct kv_frame_writer *writer, kv_slice bytes, struct kv_err *err)
{
    kv_status rc = writer->sink->write(writer->sink->ctx, bytes, err);
    if (rc >= 0)
        writer->offset += bytes.len;
    return rc < 0 ? rc : KV_OK;
}

kv_status kv_frame_writer_open(struct kv_frame_writer *writer, const struct kv_sink *sink,
                               struct kv_clock *clock, const uint8_t uuid[KV_UUID_LEN], uint64_t owner_epoch,
                               struct kv_err *err)
{
    struct kv_file_header header = {
        .kind = KV_FILE_BACKUP, .format = KV_BACKUP_FORMAT, .owner_epoch = owner_epoch};
    uint8_t bytes[KV_FILE_HEADER_LEN];
    writer->sink = sink;
    writer->offset = writer->frames = 0;
    memcpy(header.uuid, uuid, KV_UUID_LEN);
    kv_clock_entropy(clock, header.uid, sizeof header.uid);
    kv_clock_entropy(clock, header.salt, sizeof header.salt);
    memcpy(writer->uid, header.uid, sizeof writer->uid);
    kv_file_header_encode(&header, bytes);
    return writer_out(writer, kv_slice_of(bytes, sizeof bytes), err);
}

/* Packs if that saves an eighth. */
static kv_status writer_pack(struct kv_frame_writer *writer, kv_slice *payload, uint8_t *flags)
{
    kv_status rc;
    if (writer->codec == KV_CODEC_PLAIN || payload->len < 64)
        return KV_OK;
    kv_buf_clear(&writer->packed);
    KV_TRY(kv_buf_append_byte(&writer->packed, (uint8_t)writer->codec));
    KV_TRY(kv_buf_append_fixed32(&writer->packed, (uint32_t)payload->len));
    KV_TRY(kv_compress(writer->codec, *payload, &writer->packed));
    if (writer->packed.len <= payload->len - payload->len / 8) {
        *payload = kv_buf_slice(&writer->packed);
        *flags |= FLAG_PACKED;
    }
out:
    return rc;
}

static kv_status writer_seal(struct kv_frame_writer *writer, uint8_t kind, kv_slice *payload, uint8_t *flags)
{
    uint8_t place[PLACE_LEN];
    if (!writer->cipher)
        return KV_OK;
    kv_buf_clear(&writer->sealed);
    kv_status rc =
        writer->cipher->seal(writer->cipher->ctx, frame_place(place, writer->uid, writer->offset, kind),
                             *payload, &writer->sealed);
    if (rc < 0)
        return rc;
    *payload = kv_buf_slice(&writer->sealed);
    *flags |= FLAG_SEALED;
    return KV_OK;
}

kv_status kv_frame_put(struct kv_frame_writer *writer, enum kv_frame_kind kind, kv_slice payload,
                       struct kv_err *err)
{
    uint8_t header[KV_FRAME_HEADER_LEN] = {0}, flags = 0;
    kv_status rc;
    KV_TRY(payload.len <= KV_FRAME_LEN_MAX ? KV_OK : KV_LIMIT);
    KV_TRY(writer_pack(writer, &payload, &flags));
    KV_TRY(writer_seal(writer, (uint8_t)kind, &payload, &flags));
    KV_TRY(payload.len <= KV_FRAME_LEN_MAX ? KV_OK : KV_LIMIT);
    kv_put_fixed32(header, FRAME_MAGIC);
    kv_put_fixed32(header + AT_LEN, (uint32_t)payload.len);
    header[AT_KIND] = (uint8_t)kind;
    header[AT_FLAGS] = flags;
    kv_put_fixed32(header + AT_CRC, frame_crc(writer->uid, writer->offset, header, payload));
    writer->frames++;
    rc = writer_out(writer, kv_slice_of(header, sizeof header), err);
    if (rc == KV_OK && payload.len)
        rc = writer_out(writer, payload, err);
    return rc;
out:
    return kv_fail(err, rc, 0, "writing a frame of %zu bytes at offset %" PRIu64 ": %s", payload.len,
                   writer->offset, kv_status_text(rc));
}

kv_status kv_frame_put_long(struct kv_frame_writer *writer, enum kv_frame_kind kind, kv_slice payload,
                            struct kv_err *err)
{
    kv_status rc;
    do {
        size_t n = payload.len < KV_FRAME_PIECE ? payload.len : KV_FRAME_PIECE;
        rc = kv_frame_put(writer, kind, kv_slice_of(payload.data, n), err);
        payload = kv_slice_from(payload, n);
    } while (rc == KV_OK && payload.len > 0);
    return rc;
}

kv_status kv_frame_finish(struct kv_frame_writer *writer, struct kv_err *err)
{
    uint8_t count[KV_VARINT_LEN_MAX];
    size_t n = kv_put_varint(count, writer->frames);
    return kv_frame_put(writer, KV_FRAME_END, kv_slice_of(count, n), err);
}

void kv_frame_writer_release(struct kv_frame_writer *writer)
{
    kv_buf_release(&writer->packed);
    kv_buf_release(&writer->sealed);
}

/* ---- reading */

kv_status kv_frame_fail(const struct kv_frame_reader *reader, uint64_t offset, kv_status rc, const char *what,
                        struct kv_err *err)
{
    return kv_fail(err, rc, 0, "%.100s at offset %" PRIu64 ": %s", reader->name, offset, what);
}

/* Exactly len bytes behind *into; memory grows with what arrives, not with what is announced. *got: less at the end of the source. */
static kv_status reader_fill(struct kv_frame_reader *reader, struct kv_buf *into, size_t len, size_t *got,
                             struct kv_err *err)
{
    *got = 0;
    kv_buf_clear_keep(into, 4 * KV_FRAME_PIECE);
    while (*got < len) {
        size_t want = len - *got < KV_FRAME_PIECE ? len - *got : KV_FRAME_PIECE, n = 0;
        uint8_t *at = kv_buf_extend(into, want);
        if (!at)
            return kv_fail(err, KV_NO_MEMORY, 0, "out of memory reading %.100s", reader->name);
        kv_status rc = reader->source->read(reader->source->ctx, at, want, &n, err);
        if (rc < 0)
            return rc;
        into->len -= want - n;
        *got += n;
        reader->offset += n;
        if (n == 0)
            break;
    }
    return KV_OK;
}

kv_status kv_frame_reader_open(struct kv_frame_reader *reader, const struct kv_source *source,
                               const char *name, const uint8_t *uuid, struct kv_err *err)
{
    struct kv_file_expect expect = {
        .kind = KV_FILE_BACKUP, .format_max = KV_BACKUP_FORMAT, .uuid = uuid, .name = name};
    size_t got;
    reader->source = source;
    reader->name = name;
    reader->offset = reader->frames = 0;
    reader->ended = false;
    kv_status rc = reader_fill(reader, &reader->stored, KV_FILE_HEADER_LEN, &got, err);
    return rc < 0 ? rc : kv_file_header_check(kv_buf_slice(&reader->stored), &expect, &reader->header, err);
}

static kv_status reader_unseal(struct kv_frame_reader *reader, uint64_t offset, uint8_t kind,
                               kv_slice *payload, struct kv_err *err)
{
    uint8_t place[PLACE_LEN];
    if (!reader->cipher)
        return kv_frame_fail(reader, offset, KV_UNSUPPORTED, "it is encrypted, and no cipher was given", err);
    kv_buf_clear_keep(&reader->opened, 4 * KV_FRAME_PIECE);
    kv_status rc = reader->cipher->open(
        reader->cipher->ctx, frame_place(place, reader->header.uid, offset, kind), *payload, &reader->opened);
    if (rc < 0)
        return kv_frame_fail(reader, offset, rc,
                             rc == KV_CORRUPT ? "another key, or changed" : kv_status_text(rc), err);
    *payload = kv_buf_slice(&reader->opened);
    return KV_OK;
}

static kv_status reader_unpack(struct kv_frame_reader *reader, uint64_t offset, kv_slice *payload,
                               struct kv_err *err)
{
    uint8_t codec;
    uint32_t len;
    if (kv_take_byte(payload, &codec) < 0 || kv_take_fixed32(payload, &len) < 0 || len == 0 ||
        len > KV_FRAME_LEN_MAX || codec == KV_CODEC_PLAIN)
        return kv_frame_fail(reader, offset, KV_CORRUPT, "a packed frame that cannot be", err);
    kv_buf_clear_keep(&reader->inflated, 4 * KV_FRAME_PIECE);
    uint8_t *into = kv_buf_extend(&reader->inflated, len);
    kv_status rc = into ? kv_inflate(codec, *payload, into, len) : KV_NO_MEMORY;
    if (rc < 0)
        return kv_frame_fail(reader, offset, rc,
                             rc == KV_CORRUPT ? "a packed frame that does not inflate" : kv_status_text(rc),
                             err);
    *payload = kv_buf_slice(&reader->inflated);
    return KV_OK;
}

/* The last frame: counts, and nothing behind it. */
static kv_status reader_end(struct kv_frame_reader *reader, const struct kv_frame *frame, struct kv_err *err)
{
    kv_slice payload = frame->payload;
    uint64_t count;
    size_t got;
    if (kv_take_varint(&payload, &count) < 0 || payload.len > 0 || count != reader->frames)
        return kv_frame_fail(reader, frame->offset, KV_CORRUPT, "frames are missing before the end", err);
    kv_status rc = reader_fill(reader, &reader->stored, 1, &got, err);
    if (rc < 0)
        return rc;
    if (got > 0)
        return kv_frame_fail(reader, reader->offset - 1, KV_CORRUPT, "bytes behind the end", err);
    reader->ended = true;
    return KV_END;
}

static kv_status reader_header(struct kv_frame_reader *reader, uint8_t header[KV_FRAME_HEADER_LEN],
                               struct kv_err *err)
{
    uint64_t offset = reader->offset;
    size_t got;
    kv_status rc = reader_fill(reader, &reader->stored, KV_FRAME_HEADER_LEN, &got, err);
    if (rc < 0)
        return rc;
    if (got < KV_FRAME_HEADER_LEN)
        return kv_frame_fail(reader, reader->offset, KV_CORRUPT, "it ends early", err);
    memcpy(header, reader->stored.data, KV_FRAME_HEADER_LEN);
    reader->len = kv_get_fixed32(header + AT_LEN);
    if (kv_get_fixed32(header) != FRAME_MAGIC || reader->len > KV_FRAME_LEN_MAX)
        return kv_frame_fail(reader, offset, KV_CORRUPT, "no frame stands here", err);
    return KV_OK;
}

static kv_status reader_frame(struct kv_frame_reader *reader, struct kv_frame *out, struct kv_err *err)
{
    uint8_t header[KV_FRAME_HEADER_LEN] = {0};
    uint64_t offset = reader->offset;
    size_t got = 0;
    kv_status rc = reader_header(reader, header, err);
    if (rc == KV_OK)
        rc = reader_fill(reader, &reader->stored, reader->len, &got, err);
    if (rc < 0)
        return rc;
    if (got < reader->len)
        return kv_frame_fail(reader, reader->offset, KV_CORRUPT, "it ends early", err);
    kv_slice payload = kv_buf_slice(&reader->stored);
    if (frame_crc(reader->header.uid, offset, header, payload) != kv_get_fixed32(header + AT_CRC))
        return kv_frame_fail(reader, offset, KV_CORRUPT, "a damaged frame", err);
    if (header[AT_FLAGS] > (FLAG_PACKED | FLAG_SEALED) || header[AT_ZERO] || header[AT_ZERO + 1])
        return kv_frame_fail(reader, offset, KV_TOO_NEW, "a frame of a newer version", err);
    if (header[AT_FLAGS] & FLAG_SEALED)
        rc = reader_unseal(reader, offset, header[AT_KIND], &payload, err);
    if (rc == KV_OK && header[AT_FLAGS] & FLAG_PACKED)
        rc = reader_unpack(reader, offset, &payload, err);
    *out = (struct kv_frame){(enum kv_frame_kind)header[AT_KIND], offset, payload};
    return rc;
}

kv_status kv_frame_next(struct kv_frame_reader *reader, struct kv_frame *out, struct kv_err *err)
{
    if (reader->ended)
        return KV_END;
    for (;;) {
        kv_status rc = reader_frame(reader, out, err);
        if (rc < 0)
            return rc;
        if (out->kind == KV_FRAME_END)
            return reader_end(reader, out, err);
        reader->frames++;
        if (out->kind >= KV_FRAME_OPTIONAL)
            continue;
        if (out->kind < KV_FRAME_ARCHIVE || out->kind > KV_FRAME_END)
            return kv_frame_fail(reader, out->offset, KV_TOO_NEW, "a frame of a newer version", err);
        return KV_OK;
    }
}

void kv_frame_reader_release(struct kv_frame_reader *reader)
{
    kv_buf_release(&reader->stored);
    kv_buf_release(&reader->opened);
    kv_buf_release(&reader->inflated);
}

/* ---- files */

static kv_status file_sink_write(void *ctx, kv_slice bytes, struct kv_err *err)
{
    struct kv_file_sink *sink = ctx;
    kv_status rc = kv_file_append(sink->file, sink->bytes, bytes, err);
    if (rc == KV_OK)
        sink->bytes += bytes.len;
    return rc;
}

kv_status kv_file_sink_open(struct kv_file_sink *sink, struct kv_dir *dir, const char *name,
                            struct kv_err *err)
{
    *sink = (struct kv_file_sink){.base = {file_sink_write, sink}, .dir = dir};
    snprintf(sink->name, sizeof sink->name, "%s", name);
    return kv_dir_create(dir, name, &sink->file, err);
}

kv_status kv_file_sink_finish(struct kv_file_sink *sink, struct kv_err *err)
{
    kv_status rc = kv_file_sync(sink->file, err);
    if (rc < 0)
        return rc;
    kv_file_close(sink->file);
    sink->file = NULL;
    return KV_OK;
}

void kv_file_sink_discard(struct kv_file_sink *sink)
{
    if (!sink->file)
        return;
    kv_file_close(sink->file);
    sink->file = NULL;
    kv_status rc = kv_dir_remove(sink->dir, sink->name, NULL);
    (void)rc; /* what stays is a leftover */
}

static kv_status file_source_read(void *ctx, uint8_t *into, size_t len, size_t *got, struct kv_err *err)
{
    struct kv_file_source *source = ctx;
    struct kv_read range = {.offset = source->offset, .len = len, .into = into};
    kv_status rc = source->file->ops->read_at(source->file, &range, 1, err);
    *got = rc < 0 ? 0 : range.got;
    source->offset += *got;
    return rc;
}

kv_status kv_file_source_open(struct kv_file_source *source, struct kv_dir *dir, const char *name,
                              struct kv_err *err)
{
    *source = (struct kv_file_source){.base = {file_source_read, source}};
    return kv_dir_open_file(dir, name, &source->file, err);
}

void kv_file_source_close(struct kv_file_source *source)
{
    kv_file_close(source->file);
    source->file = NULL;
}
