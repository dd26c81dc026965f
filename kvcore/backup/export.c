/*
 * kv_export, kv_import: entries as one stream of frames. An export is as many kv_streams as there are spaces, one behind another; batches of
 * different ranges alternate, and an import gives each range to a stream of its own. Bytes: kvcore/docs/backup.md.
 */
#include "kvcore/backup/frame.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/db.h"

#include <inttypes.h>

/* entries := space:varint range:varint entry*; entry := flags:u8 key value [expiry:varint] [meta:u8]; flags: 1 expiry, 2 meta. */
enum { FIELD_EXPORT = 2, FIELD_SPACE = 4, ENTRY_EXPIRY = 1, ENTRY_META = 2, ENTRY_FLAGS = 3 };

/* ---- export */

struct exporting {
    struct kv_frame_writer frames;
    struct kv_buf body;
    uint32_t place; /* of the space in the export */
    uint64_t entries;
};

static kv_status put_entry(struct kv_buf *body, const struct kv_stream_entry *entry)
{
    kv_status rc;
    unsigned flags = (entry->expires_at_s ? ENTRY_EXPIRY : 0u) | (entry->meta ? ENTRY_META : 0u);
    KV_TRY(kv_buf_append_byte(body, (uint8_t)flags));
    KV_TRY(kv_buf_append_lp(body, entry->key));
    KV_TRY(kv_buf_append_lp(body, entry->value));
    if (flags & ENTRY_EXPIRY)
        KV_TRY(kv_buf_append_varint(body, entry->expires_at_s));
    if (flags & ENTRY_META)
        KV_TRY(kv_buf_append_byte(body, entry->meta));
out:
    return rc;
}

static kv_status put_place(struct kv_buf *body, uint32_t space, uint32_t range)
{
    kv_buf_clear_keep(body, 4 * KV_FRAME_PIECE);
    kv_status rc = kv_buf_append_varint(body, space);
    return rc < 0 ? rc : kv_buf_append_varint(body, range);
}

static kv_status export_send(void *ctx, const struct kv_stream_batch *batch, struct kv_err *err)
{
    struct exporting *e = ctx;
    kv_status rc = put_place(&e->body, e->place, batch->range);
    for (size_t i = 0; i < batch->n && rc == KV_OK; i++)
        rc = put_entry(&e->body, &batch->entries[i]);
    if (rc < 0)
        return kv_fail(err, rc, 0, "out of memory exporting");
    e->entries += batch->n;
    if (batch->n > 0)
        rc = kv_frame_put(&e->frames, KV_FRAME_ENTRIES, kv_buf_slice(&e->body), err);
    if (rc < 0 || !batch->done)
        return rc;
    rc = put_place(&e->body, e->place, batch->range);
    return rc < 0 ? kv_fail(err, rc, 0, "out of memory exporting")
                  : kv_frame_put(&e->frames, KV_FRAME_RANGE_END, kv_buf_slice(&e->body), err);
}

static kv_status put_field(struct kv_buf *out, uint64_t tag, kv_slice body)
{
    kv_status rc = kv_buf_append_varint(out, tag);
    return rc < 0 ? rc : kv_buf_append_lp(out, body);
}

static kv_status export_begin(struct kv_db *db, struct exporting *e, const uint32_t *spaces, size_t n,
                              uint64_t version, struct kv_err *err)
{
    uint8_t bytes[2 * KV_VARINT_LEN_MAX];
    kv_status rc;
    size_t len = kv_put_varint(bytes, kv_zigzag(kv_clock_wall_ms(db->env->clock)));
    len += kv_put_varint(bytes + len, version);
    KV_TRY(put_field(&e->body, FIELD_EXPORT, kv_slice_of(bytes, len)));
    for (size_t i = 0; i < n; i++)
        KV_TRY(put_field(&e->body, FIELD_SPACE, kv_slice_str(db->spaces[db->ids[spaces[i]]].name)));
    return kv_frame_put(&e->frames, KV_FRAME_EXPORT, kv_buf_slice(&e->body), err);
out:
    return kv_fail(err, rc, 0, "out of memory exporting");
}

kv_status kv_export(struct kv_db *db, const struct kv_export_options *o, const struct kv_sink *sink,
                    uint64_t *entries, struct kv_err *err)
{
    uint32_t all[KV_SPACES_MAX];
    const uint32_t *spaces = o->spaces ? o->spaces : all;
    size_t n = o->spaces ? o->n_spaces : db->n_declared;
    struct kv_snapshot *snapshot = NULL;
    struct exporting e = {.frames = {.cipher = o->cipher}};
    kv_status rc = KV_OK;
    for (uint32_t i = 0; i < KV_SPACES_MAX; i++)
        all[i] = i;
    for (size_t i = 0; i < n; i++)
        if (!kv_space_known(db, spaces[i]))
            return kv_fail(err, KV_INVALID, 0, "space %" PRIu32 " does not exist", spaces[i]);
    e.frames.codec = o->compression == KV_COMPRESSION_ZSTD     ? KV_CODEC_ZSTD
                     : o->compression == KV_COMPRESSION_SNAPPY ? KV_CODEC_SNAPPY
                                                               : KV_CODEC_PLAIN;
    rc = kv_snapshot_open(db, &snapshot);
    if (rc < 0)
        kv_fail(err, rc, 0, "out of memory exporting");
    KV_TRY(rc);
    KV_TRY(kv_frame_writer_open(&e.frames, sink, db->env->clock, db->uuid, db->owner_epoch, err));
    KV_TRY(export_begin(db, &e, spaces, n, kv_snapshot_seq(snapshot), err));
    for (size_t i = 0; i < n && rc == KV_OK; i++) {
        struct kv_stream_options how = {.space = spaces[i],
                                        .snapshot = snapshot,
                                        .lower = o->lower,
                                        .upper = o->upper,
                                        .since = o->since,
                                        .threads = o->threads,
                                        .send = export_send,
                                        .ctx = &e};
        e.place = (uint32_t)i;
        rc = kv_stream(db, &how, NULL, err);
    }
    KV_TRY(rc);
    KV_TRY(kv_frame_finish(&e.frames, err));
    if (entries)
        *entries = e.entries;
out:
    kv_snapshot_close(snapshot);
    kv_frame_writer_release(&e.frames);
    kv_buf_release(&e.body);
    return rc;
}

/* ---- import */

struct importing {
    struct kv_db *db;
    struct kv_frame_reader frames;
    struct kv_stream_writer *writers[KV_SPACES_MAX];
    uint32_t n; /* spaces of the export */
    bool begun;
    uint64_t entries;
};

static kv_status import_space(struct importing *im, kv_slice name, struct kv_err *err)
{
    if (im->n == KV_SPACES_MAX)
        return KV_CORRUPT;
    for (uint32_t i = 0; i < im->db->n_declared; i++)
        if (kv_slice_equal(name, kv_slice_str(im->db->spaces[im->db->ids[i]].name)))
            return kv_stream_writer_open(im->db, i, &im->writers[im->n++], err);
    return kv_fail(err, KV_INVALID, 0, "the export has a space %.*s, which is not declared",
                   (int)(name.len < KV_SPACE_NAME_MAX ? name.len : KV_SPACE_NAME_MAX),
                   (const char *)name.data);
}

static kv_status import_begin(struct importing *im, const struct kv_frame *frame, struct kv_err *err)
{
    kv_slice in = frame->payload;
    struct kv_err inner = {0};
    kv_status rc = KV_OK;
    im->begun = true;
    while (in.len > 0 && rc == KV_OK) {
        uint64_t tag;
        kv_slice body;
        if (kv_take_varint(&in, &tag) < 0 || kv_take_lp(&in, &body) < 0)
            rc = KV_CORRUPT;
        else if (tag == FIELD_SPACE)
            rc = import_space(im, body, &inner);
        else if (tag != FIELD_EXPORT && tag % 2 == 0)
            rc = KV_TOO_NEW;
    }
    if (rc < 0)
        return inner.text[0]
                   ? kv_fail(err, rc, 0, "%s", inner.text)
                   : kv_frame_fail(&im->frames, frame->offset, rc, "its beginning cannot be read", err);
    return KV_OK;
}

static kv_status take_entry(kv_slice *in, struct kv_stream_entry *out)
{
    uint8_t flags;
    *out = (struct kv_stream_entry){0};
    if (kv_take_byte(in, &flags) < 0)
        return KV_CORRUPT;
    if (flags & ~(unsigned)ENTRY_FLAGS)
        return KV_TOO_NEW;
    if (kv_take_lp(in, &out->key) < 0 || kv_take_lp(in, &out->value) < 0 ||
        ((flags & ENTRY_EXPIRY) && kv_take_varint(in, &out->expires_at_s) < 0) ||
        ((flags & ENTRY_META) && kv_take_byte(in, &out->meta) < 0))
        return KV_CORRUPT;
    return KV_OK;
}

static kv_status import_entries(struct importing *im, const struct kv_frame *frame, struct kv_err *err)
{
    kv_slice in = frame->payload;
    uint64_t space, range;
    kv_status rc = KV_OK;
    if (kv_take_varint(&in, &space) < 0 || kv_take_varint(&in, &range) < 0 || space >= im->n ||
        range >= KV_STREAMS_MAX)
        return kv_frame_fail(&im->frames, frame->offset, KV_CORRUPT, "entries of no space or range", err);
    while (in.len > 0 && frame->kind == KV_FRAME_ENTRIES) {
        struct kv_stream_entry entry;
        rc = take_entry(&in, &entry);
        if (rc < 0)
            return kv_frame_fail(&im->frames, frame->offset, rc, "an entry that cannot be read", err);
        struct kv_stream_batch batch = {.range = (uint32_t)range, .entries = &entry, .n = 1};
        rc = kv_stream_writer_batch(im->writers[space], &batch, err);
        if (rc < 0)
            return rc;
        im->entries++;
    }
    return rc;
}

static kv_status import_frame(struct importing *im, const struct kv_frame *frame, struct kv_err *err)
{
    if (frame->kind == KV_FRAME_EXPORT && !im->begun)
        return import_begin(im, frame, err);
    if ((frame->kind == KV_FRAME_ENTRIES || frame->kind == KV_FRAME_RANGE_END) && im->begun)
        return import_entries(im, frame, err);
    return kv_frame_fail(&im->frames, frame->offset, KV_CORRUPT,
                         im->begun ? "a frame out of place" : "this is no export", err);
}

kv_status kv_import(struct kv_db *db, const struct kv_source *source, const struct kv_archive_cipher *cipher,
                    uint64_t *entries, struct kv_err *err)
{
    struct importing *im = kv_zalloc(1, sizeof *im);
    struct kv_frame frame;
    kv_status rc;
    if (!im)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory importing");
    im->db = db;
    im->frames.cipher = cipher;
    KV_TRY(kv_frame_reader_open(&im->frames, source, "the export", NULL, err));
    while ((rc = kv_frame_next(&im->frames, &frame, err)) == KV_OK)
        KV_TRY(import_frame(im, &frame, err));
    if (rc == KV_END)
        rc = im->begun ? KV_OK
                       : kv_frame_fail(&im->frames, im->frames.offset, KV_CORRUPT, "this is no export", err);
    for (uint32_t i = 0; i < im->n && rc == KV_OK; i++) {
        struct kv_stream_writer *writer = im->writers[i];
        im->writers[i] = NULL;
        rc = kv_stream_writer_install(writer, NULL, err);
    }
    if (rc == KV_OK && entries)
        *entries = im->entries;
out:
    for (uint32_t i = 0; i < im->n; i++)
        kv_stream_writer_abort(im->writers[i]);
    kv_frame_reader_release(&im->frames);
    kv_free(im);
    return rc;
}
