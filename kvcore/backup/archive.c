#include "kvcore/backup/archive.h"

#include <inttypes.h>

struct reading {
    const struct kv_archive_events *events;
    struct kv_frame_reader frames;
    struct kv_sha256 *sum;
    struct kv_backup_set met; /* the files, with their sums */
    struct kv_backup_file file;
    uint64_t bytes; /* of file, so far */
    bool begun, in_file, wanted, listed;
    struct kv_buf fields; /* of the list of files */
    uint64_t list_offset;
};

static kv_status reading_begin(struct reading *r, const struct kv_frame *frame, struct kv_err *err)
{
    struct kv_backup_set about;
    struct kv_err inner = {0};
    kv_status rc = kv_set_decode(frame->payload, false, &about, &inner);
    if (rc < 0)
        rc = kv_frame_fail(&r->frames, frame->offset, rc, inner.text, err);
    else
        rc = r->events->begin(r->events->ctx, &about, r->frames.header.uid, err);
    r->begun = true;
    kv_set_release(&about);
    return rc < 0 ? rc : KV_OK;
}

static kv_status reading_file(struct reading *r, const struct kv_frame *frame, struct kv_err *err)
{
    kv_status rc = kv_set_decode_file(frame->payload, &r->file);
    if (rc < 0)
        return kv_frame_fail(&r->frames, frame->offset, rc, "a file that cannot be", err);
    rc = r->events->file(r->events->ctx, &r->file, err);
    r->wanted = rc != KV_NOT_FOUND;
    r->in_file = true;
    r->bytes = 0;
    return rc < 0 ? rc : KV_OK;
}

static kv_status reading_data(struct reading *r, const struct kv_frame *frame, struct kv_err *err)
{
    if (frame->payload.len > r->file.bytes - r->bytes)
        return kv_frame_fail(&r->frames, frame->offset, KV_CORRUPT, "a file longer than announced", err);
    r->bytes += frame->payload.len;
    kv_sha256_add(r->sum, frame->payload);
    kv_status rc = r->wanted ? r->events->data(r->events->ctx, frame->payload, err) : KV_OK;
    return rc < 0 ? rc : KV_OK;
}

static kv_status reading_file_end(struct reading *r, const struct kv_frame *frame, struct kv_err *err)
{
    uint8_t sum[KV_SHA256_LEN];
    kv_sha256_take(r->sum, sum);
    if (r->bytes != r->file.bytes || frame->payload.len != sizeof sum ||
        memcmp(sum, frame->payload.data, sizeof sum) != 0)
        return kv_frame_fail(&r->frames, frame->offset, KV_CORRUPT,
                             "a file of another length or sum than when it was made", err);
    memcpy(r->file.sha256, sum, sizeof sum);
    r->in_file = false;
    kv_status rc = kv_set_add(&r->met, &r->file);
    if (rc < 0)
        return kv_frame_fail(&r->frames, frame->offset, rc, kv_status_text(rc), err);
    rc = r->wanted ? r->events->file_end(r->events->ctx, &r->file, err) : KV_OK;
    return rc < 0 ? rc : KV_OK;
}

static kv_status reading_list(struct reading *r, const struct kv_frame *frame, struct kv_err *err)
{
    if (!r->listed)
        r->list_offset = frame->offset;
    r->listed = true;
    kv_status rc = kv_buf_append(&r->fields, frame->payload);
    return rc < 0 ? kv_frame_fail(&r->frames, frame->offset, rc, kv_status_text(rc), err) : KV_OK;
}

static kv_status reading_frame(struct reading *r, const struct kv_frame *frame, struct kv_err *err)
{
    bool between = r->begun && !r->in_file;
    if (frame->kind == KV_FRAME_ARCHIVE && !r->begun)
        return reading_begin(r, frame, err);
    if (frame->kind == KV_FRAME_FILE && between && !r->listed)
        return reading_file(r, frame, err);
    if (frame->kind == KV_FRAME_DATA && r->in_file)
        return reading_data(r, frame, err);
    if (frame->kind == KV_FRAME_FILE_END && r->in_file)
        return reading_file_end(r, frame, err);
    if (frame->kind == KV_FRAME_MANIFEST && between)
        return reading_list(r, frame, err);
    return kv_frame_fail(&r->frames, frame->offset, KV_CORRUPT,
                         r->begun ? "a frame out of place" : "this is no archive of a backup", err);
}

/* Every file that is said to be in the archive was met, and nothing else was. */
static kv_status reading_complete(struct reading *r, const struct kv_backup_set *set, struct kv_err *err)
{
    size_t n = 0;
    kv_set_sort_names(&r->met);
    for (size_t i = 0; i < set->n_files; i++) {
        const struct kv_backup_file *file = &set->files[i];
        const struct kv_backup_file *met = kv_set_named(&r->met, file->name);
        if (file->form == KV_FORM_BASE && set->has_base)
            continue;
        if (file->form != KV_FORM_ARCHIVE || !met || met->bytes != file->bytes ||
            memcmp(met->uid, file->uid, sizeof met->uid) != 0 ||
            memcmp(met->sha256, file->sha256, sizeof met->sha256) != 0)
            return kv_frame_fail(&r->frames, r->list_offset, KV_CORRUPT,
                                 "a listed file is not in the archive", err);
        n++;
    }
    return n == r->met.n_files ? KV_OK
                               : kv_frame_fail(&r->frames, r->list_offset, KV_CORRUPT,
                                               "the archive holds files that are not listed", err);
}

static kv_status reading_end(struct reading *r, struct kv_err *err)
{
    struct kv_backup_set set;
    struct kv_err inner = {0};
    if (!r->listed || r->in_file)
        return kv_frame_fail(&r->frames, r->frames.offset, KV_CORRUPT, "it ends before its list of files",
                             err);
    kv_status rc = kv_set_decode(kv_buf_slice(&r->fields), true, &set, &inner);
    if (rc < 0)
        rc = kv_frame_fail(&r->frames, r->list_offset, rc, inner.text, err);
    if (rc == KV_OK)
        rc = reading_complete(r, &set, err);
    if (rc == KV_OK)
        rc = r->events->set(r->events->ctx, &set, err);
    kv_set_release(&set);
    return rc < 0 ? rc : KV_OK;
}

kv_status kv_archive_read(const struct kv_source *source, const char *name,
                          const struct kv_archive_cipher *cipher, const struct kv_archive_events *events,
                          struct kv_err *err)
{
    struct reading r = {.events = events, .frames = {.cipher = cipher}};
    struct kv_frame frame;
    kv_status rc = kv_sha256_new(&r.sum);
    if (rc < 0)
        kv_fail(err, rc, 0, "out of memory reading %s", name);
    KV_TRY(rc);
    KV_TRY(kv_frame_reader_open(&r.frames, source, name, NULL, err));
    while ((rc = kv_frame_next(&r.frames, &frame, err)) == KV_OK)
        KV_TRY(reading_frame(&r, &frame, err));
    if (rc == KV_END)
        rc = reading_end(&r, err);
out:
    kv_frame_reader_release(&r.frames);
    kv_sha256_free(r.sum);
    kv_set_release(&r.met);
    kv_buf_release(&r.fields);
    return rc;
}

/* ---- receipts: a container of the list of files, in memory */

static kv_status receipt_write(void *ctx, kv_slice bytes, struct kv_err *err)
{
    kv_status rc = kv_buf_append(ctx, bytes);
    return rc < 0 ? kv_fail(err, rc, 0, "out of memory writing a receipt") : KV_OK;
}

kv_status kv_receipt_encode(const struct kv_backup_set *set, const struct kv_archive_cipher *cipher,
                            struct kv_clock *clock, struct kv_buf *out, struct kv_err *err)
{
    struct kv_buf fields = {0};
    struct kv_sink sink = {receipt_write, out};
    struct kv_frame_writer frames = {.cipher = cipher, .codec = KV_CODEC_ZSTD};
    size_t before = out->len;
    kv_status rc = kv_set_encode(set, true, &fields);
    if (rc < 0)
        kv_fail(err, rc, 0, "out of memory writing a receipt");
    KV_TRY(rc);
    KV_TRY(kv_frame_writer_open(&frames, &sink, clock, set->uuid, 0, err));
    KV_TRY(kv_frame_put_long(&frames, KV_FRAME_MANIFEST, kv_buf_slice(&fields), err));
    KV_TRY(kv_frame_finish(&frames, err));
out:
    if (rc < 0)
        out->len = before;
    kv_frame_writer_release(&frames);
    kv_buf_release(&fields);
    return rc;
}

static kv_status receipt_read(void *ctx, uint8_t *into, size_t len, size_t *got, struct kv_err *err)
{
    kv_slice *left = ctx;
    (void)err;
    *got = len < left->len ? len : left->len;
    if (*got)
        memcpy(into, left->data, *got);
    *left = kv_slice_from(*left, *got);
    return KV_OK;
}

kv_status kv_receipt_decode(kv_slice receipt, const struct kv_archive_cipher *cipher,
                            struct kv_backup_set *out, struct kv_err *err)
{
    struct kv_source source = {receipt_read, &receipt};
    struct kv_frame_reader frames = {.cipher = cipher};
    struct kv_buf fields = {0};
    struct kv_frame frame;
    struct kv_err inner = {0};
    kv_status rc;
    *out = (struct kv_backup_set){0};
    KV_TRY(kv_frame_reader_open(&frames, &source, "the receipt", NULL, err));
    while ((rc = kv_frame_next(&frames, &frame, err)) == KV_OK) {
        rc = frame.kind == KV_FRAME_MANIFEST ? kv_buf_append(&fields, frame.payload) : KV_CORRUPT;
        if (rc < 0)
            kv_frame_fail(&frames, frame.offset, rc, kv_status_text(rc), err);
        KV_TRY(rc);
    }
    KV_TRY(rc);
    rc = kv_set_decode(kv_buf_slice(&fields), true, out, &inner);
    if (rc == KV_OK && !out->has_self)
        rc = kv_fail(&inner, KV_INVALID, 0, "it is no receipt of an archive");
    if (rc < 0)
        kv_fail(err, rc, 0, "the receipt: %.200s", inner.text);
out:
    kv_frame_reader_release(&frames);
    kv_buf_release(&fields);
    return rc < 0 ? rc : KV_OK;
}
