/* Any number of writes as commits of a bounded size: each atomic, all together not. */
#include "kvcore/base/mem.h"
#include "kvcore/db/db.h"

#include <inttypes.h>

enum { WRITER_BYTES_DEFAULT = 4 << 20 };

struct kv_writer {
    struct kv_db *db;
    struct kv_batch *batch;
    size_t bytes_max, entries_max;
    uint64_t version; /* of the last commit */
    kv_status failed; /* the first failure, which every later call repeats */
    struct kv_err failed_err;
};

kv_status kv_writer_open(struct kv_db *db, const struct kv_writer_options *asked, struct kv_writer **out,
                         struct kv_err *err)
{
    static const struct kv_writer_options none;
    const struct kv_writer_options *options = asked ? asked : &none;
    if (options->commit_bytes > KV_COMMIT_BYTES_MAX)
        return kv_fail(err, KV_INVALID, 0, "commit_bytes: %" PRIu64 " is over %d", options->commit_bytes,
                       KV_COMMIT_BYTES_MAX);
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    struct kv_writer *writer = kv_zalloc(1, sizeof *writer);
    kv_status rc = writer ? kv_batch_new(&writer->batch) : KV_NO_MEMORY;
    if (rc < 0) {
        kv_free(writer);
        return kv_fail(err, rc, 0, "out of memory opening a writer");
    }
    writer->db = db;
    writer->bytes_max = options->commit_bytes ? (size_t)options->commit_bytes : WRITER_BYTES_DEFAULT;
    writer->entries_max = options->commit_entries ? options->commit_entries : SIZE_MAX;
    atomic_fetch_add_explicit(&db->pins, 1, memory_order_relaxed);
    *out = writer;
    return KV_OK;
}

static kv_status writer_fail(struct kv_writer *writer, kv_status rc)
{
    if (rc < 0 && writer->failed == KV_OK)
        writer->failed = rc;
    return rc;
}

static kv_status writer_failed(const struct kv_writer *writer, struct kv_err *err)
{
    if (writer->failed < 0)
        kv_err_copy(err, &writer->failed_err);
    return writer->failed;
}

static kv_status writer_commit(struct kv_writer *writer, struct kv_err *err)
{
    if (kv_batch_count(writer->batch) == 0)
        return KV_OK;
    kv_status rc = kv_commit(writer->db, writer->batch, NULL, &writer->version, &writer->failed_err);
    kv_batch_clear(writer->batch);
    writer_fail(writer, rc);
    return rc < 0 ? writer_failed(writer, err) : rc;
}

/* A write that is refused for what it is (KV_INVALID, KV_LIMIT) is a failure too: a load with a hole is not silent. */
static kv_status writer_wrote(struct kv_writer *writer, kv_status rc, struct kv_err *err)
{
    if (rc < 0) {
        kv_fail(&writer->failed_err, rc, 0, "a write of the writer was refused: %s", kv_status_text(rc));
        writer_fail(writer, rc);
        return writer_failed(writer, err);
    }
    return KV_OK;
}

/* Before a write of so many bytes: makes room for it. */
static kv_status writer_room(struct kv_writer *writer, size_t bytes, struct kv_err *err)
{
    if (writer->failed < 0)
        return writer_failed(writer, err);
    size_t count = kv_batch_count(writer->batch);
    if (count > 0 &&
        (count >= writer->entries_max || kv_batch_payload(writer->batch) + bytes > writer->bytes_max))
        return writer_commit(writer, err);
    return KV_OK;
}

kv_status kv_writer_put(struct kv_writer *writer, uint32_t space, kv_slice key, kv_slice value,
                        struct kv_err *err)
{
    kv_status rc = writer_room(writer, key.len + value.len, err);
    return rc < 0 ? rc : writer_wrote(writer, kv_batch_put(writer->batch, space, key, value), err);
}

kv_status kv_writer_put_with(struct kv_writer *writer, uint32_t space, kv_slice key, kv_slice value,
                             const struct kv_put_options *options, struct kv_err *err)
{
    kv_status rc = writer_room(writer, key.len + value.len, err);
    if (rc < 0)
        return rc;
    return writer_wrote(writer, kv_batch_put_with(writer->batch, space, key, value, options), err);
}

kv_status kv_writer_delete(struct kv_writer *writer, uint32_t space, kv_slice key, struct kv_err *err)
{
    kv_status rc = writer_room(writer, key.len, err);
    return rc < 0 ? rc : writer_wrote(writer, kv_batch_delete(writer->batch, space, key), err);
}

kv_status kv_writer_flush(struct kv_writer *writer, uint64_t *version, struct kv_err *err)
{
    kv_status rc = writer->failed < 0 ? writer_failed(writer, err) : writer_commit(writer, err);
    if (version)
        *version = writer->version;
    return rc;
}

void kv_writer_cancel(struct kv_writer *writer)
{
    kv_batch_clear(writer->batch);
    if (writer->failed == KV_OK)
        writer->failed = kv_fail(&writer->failed_err, KV_CANCELED, 0, "the writer was canceled");
}

kv_status kv_writer_close(struct kv_writer *writer, struct kv_err *err)
{
    if (!writer)
        return KV_OK;
    kv_status rc = kv_writer_flush(writer, NULL, err);
    atomic_fetch_sub_explicit(&writer->db->pins, 1, memory_order_relaxed);
    kv_batch_free(writer->batch);
    kv_free(writer);
    return rc;
}
