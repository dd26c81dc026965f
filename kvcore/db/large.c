#include "kvcore/db/large.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/block.h"
#include "kvcore/vlog/large.h"

#include <inttypes.h>

enum { FLOOR_CHECK_BYTES = 1 << 20 }; /* written between two looks at the free space */

/* ---- writing */

struct kv_value_writer {
    _Atomic uint32_t refs;
    struct kv_db *db;
    uint32_t space;     /* as declared */
    struct kv_buf head; /* all of the value, until it is too long for that */
    uint64_t bytes, checked;
    struct kv_segment_build *segment_build; /* NULL: not needed so far, or finished */
    struct kv_large_build *build;
    uint64_t number;
    struct kv_segment *segment; /* finished, and in the manifest */
    struct kv_pointer pointer;
    bool finished;
    kv_status failed;   /* every later call answers it */
    _Atomic bool taken; /* a batch holds it */
};

kv_status kv_value_writer_open(struct kv_db *db, uint32_t space, struct kv_value_writer **out,
                               struct kv_err *err)
{
    if (!kv_space_known(db, space))
        return kv_fail(err, KV_INVALID, 0, "space %" PRIu32 " does not exist", space);
    const struct kv_space *how = &db->spaces[db->ids[space]];
    if (how->hook)
        return kv_fail(err, KV_INVALID, 0, "space %s has a hook: its values are written whole", how->name);
    kv_status rc = kv_health(db, err);
    if (rc == KV_NO_SPACE) /* of the last commit: there may be room again */
        rc = kv_committer_floor(db->committer, err);
    if (rc < 0)
        return rc;
    struct kv_value_writer *writer = kv_zalloc(1, sizeof *writer);
    if (!writer)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory writing a value");
    atomic_init(&writer->refs, 1);
    writer->db = db;
    writer->space = space;
    atomic_fetch_add_explicit(&db->pins, 1, memory_order_relaxed);
    *out = writer;
    return KV_OK;
}

static kv_status writer_begin_segment(struct kv_value_writer *writer, struct kv_err *err)
{
    struct kv_db *db = writer->db;
    uint64_t limit = db->options.large_value_bytes;
    char name[32];
    kv_db_renew_data_key(db);
    writer->number = kv_manifest_take_number(&db->manifest);
    kv_file_name(name, writer->number, KV_NAME_SEGMENT);
    struct kv_segment_build_options options = {.dir = db->dir,
                                               .name = name,
                                               .number = writer->number,
                                               .db_uuid = db->uuid,
                                               .owner_epoch = db->owner_epoch,
                                               .clock = db->env->clock,
                                               .keys = db->manifest.keys};
    kv_status rc = kv_segment_build_open(&options, &writer->segment_build, err);
    if (rc < 0)
        return rc;
    rc = kv_large_build_open(writer->segment_build,
                             limit < KV_LARGE_BLOCK_BYTES ? (size_t)limit : KV_LARGE_BLOCK_BYTES,
                             db->spaces[db->ids[writer->space]].codec, &writer->build);
    if (rc < 0)
        return kv_fail(err, rc, 0, "out of memory writing a value");
    rc = kv_large_build_add(writer->build, kv_buf_slice(&writer->head), err);
    kv_buf_release(&writer->head);
    return rc;
}

static kv_status writer_append(struct kv_value_writer *writer, kv_slice bytes, struct kv_err *err)
{
    kv_status rc = KV_OK;
    if (bytes.len > KV_LARGE_VALUE_MAX - writer->bytes)
        return kv_fail(err, KV_LIMIT, 0, "a value of more than %d bytes", KV_LARGE_VALUE_MAX);
    writer->bytes += bytes.len;
    if (writer->bytes <= writer->db->options.large_value_bytes) {
        rc = kv_buf_append(&writer->head, bytes);
        return rc < 0 ? kv_fail(err, rc, 0, "out of memory writing a value") : rc;
    }
    if (!writer->build) {
        rc = writer_begin_segment(writer, err);
        if (rc < 0)
            return rc;
    }
    if (writer->bytes - writer->checked >= FLOOR_CHECK_BYTES) {
        writer->checked = writer->bytes;
        rc = kv_committer_floor(writer->db->committer, err);
    }
    return rc < 0 ? rc : kv_large_build_add(writer->build, bytes, err);
}

static kv_status writer_usable(const struct kv_value_writer *writer, struct kv_err *err)
{
    if (writer->failed < 0)
        return kv_fail(err, writer->failed, 0, "an earlier call of the value's writer failed");
    return writer->finished ? kv_fail(err, KV_CLOSED, 0, "the value is finished") : KV_OK;
}

kv_status kv_value_writer_append(struct kv_value_writer *writer, kv_slice bytes, struct kv_err *err)
{
    kv_status rc = writer_usable(writer, err);
    if (rc == KV_OK)
        writer->failed = rc = writer_append(writer, bytes, err);
    return rc;
}

/* A segment that no manifest names. Without room to remember it the file stays, and the next open removes it. */
static void segment_forget(struct kv_db *db, struct kv_segment *segment)
{
    if (segment && kv_obsolete_reserve(db, 1) == KV_OK)
        kv_obsolete_add(db, kv_segment_number(segment));
    kv_segment_unref(segment);
}

/* Syncs the segment and its name, and makes it part of the database: the log may name it from then on. */
static kv_status writer_publish(struct kv_value_writer *writer, struct kv_err *err)
{
    struct kv_db *db = writer->db;
    struct kv_segment_meta meta = {.number = writer->number};
    struct kv_segment *segment = NULL;
    struct kv_edit edit = {0};
    bool named = false;
    kv_status rc;
    KV_TRY(kv_large_build_finish(writer->build, &writer->pointer, err));
    meta.bytes = kv_segment_build_bytes(writer->segment_build);
    KV_TRY(kv_segment_build_finish(writer->segment_build, meta.uid, err));
    KV_TRY(kv_db_open_segment(db, &meta, &segment, err));
    kv_segment_set_log_seq(segment, KV_SEGMENT_HELD);
    KV_TRY(kv_dir_sync_names(db->dir, err));
    kv_edit_add_segment(&edit, &meta);
    struct kv_change change = {.edit = &edit, .segments = &segment, .n_segments = 1};
    named = true; /* whatever is answered: the edit may be found after a crash */
    KV_TRY(kv_db_change(db, &change, err));
    writer->segment = segment;
    segment = NULL;
    KV_COUNT_BY(db, value_log_bytes, meta.bytes);
out:
    if (named)
        kv_segment_unref(segment);
    else
        segment_forget(db, segment);
    kv_edit_release(&edit);
    kv_large_build_free(writer->build);
    kv_segment_build_free(writer->segment_build);
    writer->build = NULL;
    writer->segment_build = NULL;
    return rc;
}

kv_status kv_value_writer_finish(struct kv_value_writer *writer, struct kv_err *err)
{
    kv_status rc = writer_usable(writer, err);
    if (rc < 0)
        return rc;
    if (writer->build)
        writer->failed = rc = writer_publish(writer, err);
    writer->finished = rc == KV_OK;
    return rc;
}

/* No commit names it, and none will. After a commit of unknown outcome nobody knows that: then the next open decides. */
static void writer_abandon(struct kv_value_writer *writer)
{
    struct kv_db *db = writer->db;
    struct kv_err err = {0};
    kv_status health = kv_committer_health(db->committer, NULL);
    if (health != KV_OK && health != KV_NO_SPACE)
        return;
    kv_segment_set_log_seq(writer->segment, 0);
    if (kv_large_sweep(db, &err) < 0) /* then the next change of the tree takes it */
        kv_logf(&db->env->log, KV_LOG_WARN, "value_abandoned", "segment=%06" PRIu64 ".vlg error=%s",
                writer->number, KV_LOGQ(err.text));
}

static void writer_unref(struct kv_value_writer *writer)
{
    if (atomic_fetch_sub_explicit(&writer->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (writer->segment && !kv_value_committed(writer))
        writer_abandon(writer);
    kv_segment_unref(writer->segment);
    kv_large_build_free(writer->build);
    kv_segment_build_free(writer->segment_build);
    kv_buf_release(&writer->head);
    atomic_fetch_sub_explicit(&writer->db->pins, 1, memory_order_relaxed);
    kv_free(writer);
}

void kv_value_writer_free(struct kv_value_writer *writer)
{
    if (writer)
        writer_unref(writer);
}

/* ---- for batches */

kv_status kv_value_take(struct kv_value_writer *writer, uint32_t space)
{
    bool taken = false;
    if (!writer->finished || writer->space != space)
        return KV_INVALID;
    if (kv_value_committed(writer))
        return KV_EXISTS;
    if (!atomic_compare_exchange_strong(&writer->taken, &taken, true))
        return KV_BUSY;
    atomic_fetch_add_explicit(&writer->refs, 1, memory_order_relaxed);
    return KV_OK;
}

void kv_value_give_back(struct kv_value_writer *writer)
{
    atomic_store(&writer->taken, false);
    writer_unref(writer);
}

bool kv_value_inline(const struct kv_value_writer *writer, uint32_t space, kv_slice *value)
{
    *value = kv_buf_slice(&writer->head);
    return writer->finished && !writer->segment && writer->space == space;
}

const struct kv_pointer *kv_value_pointer(const struct kv_value_writer *writer)
{
    return &writer->pointer;
}

const struct kv_db *kv_value_db(const struct kv_value_writer *writer)
{
    return writer->db;
}

bool kv_value_committed(const struct kv_value_writer *writer)
{
    return kv_segment_log_seq(writer->segment) != KV_SEGMENT_HELD;
}

/* ---- for the log */

kv_status kv_large_logged(struct kv_db *db, const struct kv_version *version, kv_slice value, uint64_t seq,
                          struct kv_err *err)
{
    struct kv_attrs attrs;
    struct kv_pointer pointer = {0};
    uint64_t visible;
    kv_status rc = kv_attrs_take(&value, &attrs);
    if (rc == KV_OK)
        rc = kv_pointer_take(&value, &pointer);
    if (rc < 0 || value.len || !pointer.value_len)
        return kv_fail(err, rc < 0 ? rc : KV_CORRUPT, 0, "a malformed pointer into the value log");
    struct kv_view *view = version ? NULL : kv_view_pin(db, &visible);
    const struct kv_value_segment *at =
        kv_values_find(version ? &version->values : &view->version->values, pointer.segment);
    if (at)
        kv_segment_set_log_seq(at->segment, seq);
    else
        rc = kv_fail(err, KV_CORRUPT, 0, "it names value log %06" PRIu64 ".vlg, which is not there",
                     pointer.segment);
    kv_view_unref(view);
    return rc;
}

void kv_large_recovered(struct kv_db *db)
{
    uint64_t visible;
    struct kv_view *view = kv_view_pin(db, &visible);
    const struct kv_values *values = &view->version->values;
    for (size_t i = 0; i < values->n; i++)
        if (kv_segment_log_seq(values->list[i].segment) == KV_SEGMENT_HELD)
            kv_segment_set_log_seq(values->list[i].segment, 0);
    kv_view_unref(view);
}

kv_status kv_large_sweep(struct kv_db *db, struct kv_err *err)
{
    struct kv_edit edit = {0};
    struct kv_change change = {.edit = &edit};
    uint64_t visible;
    bool any = false;
    kv_status rc = KV_OK;
    struct kv_view *view = kv_view_pin(db, &visible);
    const struct kv_values *values = &view->version->values;
    bool unknown =
        kv_version_damaged(view->version, NULL); /* what a table aside points at: all of them stay */
    for (size_t i = 0; i < values->n && !any && !unknown; i++)
        any = values->list[i].live == 0 && kv_segment_log_seq(values->list[i].segment) == 0;
    kv_view_unref(view);
    if (any)
        rc = kv_db_change(db, &change, err); /* which leaves out what nothing holds */
    kv_edit_release(&edit);
    return rc;
}

/* ---- reading */

struct kv_value_reader {
    struct kv_db *db;
    struct kv_value_info info;
    struct kv_pinned pinned; /* of a value that is read whole */
    struct kv_large *large;  /* NULL: it is */
};

kv_status kv_value_open(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t space, kv_slice key,
                        struct kv_value_reader **out, struct kv_err *err)
{
    struct kv_pinned pinned;
    struct kv_place place = {0};
    *out = NULL;
    kv_status rc = kv_db_get_place(db, snapshot, space, key, &pinned, &place, err);
    if (rc != KV_OK)
        return rc;
    struct kv_value_reader *reader = kv_zalloc(1, sizeof *reader);
    if (!reader) {
        rc = kv_fail(err, KV_NO_MEMORY, 0, "out of memory reading a value");
        goto out;
    }
    reader->info = (struct kv_value_info){pinned.value.len, pinned.version, pinned.expires_at_s, pinned.meta};
    if (place.segment) {
        reader->info.bytes = place.pointer.value_len;
        rc = kv_large_open(place.segment, &place.pointer, &reader->large, err);
    }
out:
    kv_segment_unref(place.segment);
    if (rc < 0 || place.segment)
        kv_pinned_release(&pinned);
    if (rc < 0) {
        kv_free(reader);
        return rc;
    }
    KV_ASSERT(reader != NULL);
    reader->db = db;
    reader->pinned = pinned;
    atomic_fetch_add_explicit(&db->pins, 1, memory_order_relaxed);
    *out = reader;
    return KV_OK;
}

const struct kv_value_info *kv_value_info(const struct kv_value_reader *reader)
{
    return &reader->info;
}

kv_status kv_value_read_at(struct kv_value_reader *reader, uint64_t offset, size_t len, void *into,
                           size_t *got, struct kv_err *err)
{
    uint64_t left = offset < reader->info.bytes ? reader->info.bytes - offset : 0;
    size_t n = left < len ? (size_t)left : len;
    kv_status rc = KV_OK;
    *got = 0;
    if (reader->large)
        rc = kv_large_read(reader->large, offset < reader->info.bytes ? offset : reader->info.bytes, n, into,
                           err);
    else if (n)
        memcpy(into, reader->pinned.value.data + offset, n);
    if (rc == KV_OK)
        *got = n;
    return rc;
}

void kv_value_close(struct kv_value_reader *reader)
{
    if (!reader)
        return;
    kv_large_close(reader->large);
    kv_pinned_release(&reader->pinned);
    atomic_fetch_sub_explicit(&reader->db->pins, 1, memory_order_relaxed);
    kv_free(reader);
}
