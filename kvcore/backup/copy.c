#include "kvcore/backup/copy.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/log_sums.h"
#include "kvcore/sst/table_sums.h"

#include <inttypes.h>

/* ---- out of a database */

/* Checks of one file, by kind. A kind without any is still under its header and its own sum. */
struct checks {
    struct kv_db *db;
    const struct kv_pin_file *file;
    struct kv_table *table;
    struct kv_table_sums *table_sums;
    struct kv_log_sums log_sums;
};

static kv_status checks_open(struct checks *checks, struct kv_err *err)
{
    struct kv_db *db = checks->db;
    const struct kv_pin_file *file = checks->file;
    if (file->kind == KV_NAME_LOG)
        kv_log_sums_init(&checks->log_sums, file->name, db->uuid, db->manifest.keys, file->log);
    if (file->kind != KV_NAME_TABLE)
        return KV_OK;
    /* Opened anew: header, footer, index and properties are read from the file again. */
    struct kv_table_open_options options = {.dir = db->dir,
                                            .name = file->name,
                                            .cache = db->env->cache,
                                            .log = &db->env->log,
                                            .db_uuid = db->uuid,
                                            .uid = file->table->uid,
                                            .keys = db->manifest.keys,
                                            .number = file->table->number,
                                            .file_bytes = file->bytes,
                                            .version = file->table->bulk_version};
    kv_status rc = kv_table_open(&options, &checks->table, err);
    return rc < 0 ? rc : kv_table_sums_new(checks->table, &checks->table_sums, err);
}

static kv_status checks_add(struct checks *checks, kv_slice bytes, struct kv_err *err)
{
    return checks->table_sums                  ? kv_table_sums_add(checks->table_sums, bytes, err)
           : checks->file->kind == KV_NAME_LOG ? kv_log_sums_add(&checks->log_sums, bytes, err)
                                               : KV_OK;
}

static kv_status checks_end(struct checks *checks, struct kv_err *err)
{
    return checks->table_sums                  ? kv_table_sums_end(checks->table_sums, err)
           : checks->file->kind == KV_NAME_LOG ? kv_log_sums_end(&checks->log_sums, err)
                                               : KV_OK;
}

static void checks_close(struct checks *checks)
{
    kv_table_sums_free(checks->table_sums);
    kv_table_unref(checks->table);
    kv_log_sums_release(&checks->log_sums);
}

/* A failure of the source is told with the database's path, which the deeper layers do not know. */
static kv_status out_fail(const struct checks *checks, kv_status rc, const struct kv_err *inner,
                          struct kv_err *err)
{
    if (rc == KV_CORRUPT || rc == KV_MISSING)
        return kv_fail(err, KV_CORRUPT, 0, "the database is damaged and was not backed up: %.80s: %.120s",
                       checks->db->path, inner->text);
    kv_err_copy(err, inner);
    return rc;
}

static kv_status out_pieces(struct checks *checks, struct kv_file *from, uint8_t *piece,
                            struct kv_sha256 *sum, const struct kv_sink *sink, struct kv_err *err)
{
    struct kv_err inner = {0};
    kv_status rc = KV_OK;
    for (uint64_t at = 0, left; (left = checks->file->bytes - at) > 0;) {
        size_t n = left < KV_FRAME_PIECE ? (size_t)left : KV_FRAME_PIECE;
        rc = kv_file_read_exact(from, at, n, piece, &inner);
        if (rc == KV_OK)
            rc = checks_add(checks, kv_slice_of(piece, n), &inner);
        if (rc < 0)
            return out_fail(checks, rc, &inner, err);
        kv_sha256_add(sum, kv_slice_of(piece, n));
        rc = sink->write(sink->ctx, kv_slice_of(piece, n), err);
        if (rc < 0)
            return rc;
        at += n;
    }
    rc = checks_end(checks, &inner);
    return rc < 0 ? out_fail(checks, rc, &inner, err) : KV_OK;
}

kv_status kv_copy_uid(struct kv_db *db, const struct kv_pin_file *file, uint8_t uid[KV_FILE_UID_LEN],
                      struct kv_err *err)
{
    struct checks checks = {.db = db, .file = file};
    struct kv_file *from = NULL;
    struct kv_err inner = {0};
    if (file->table || file->segment) {
        memcpy(uid, file->table ? file->table->uid : file->segment->uid, KV_FILE_UID_LEN);
        return KV_OK;
    }
    kv_status rc = kv_dir_open_file(db->dir, file->name, &from, &inner);
    if (rc == KV_OK)
        rc = kv_file_read_exact(from, KV_FILE_HEADER_AT_UID, KV_FILE_UID_LEN, uid, &inner);
    kv_file_close(from);
    return rc < 0 ? out_fail(&checks, rc, &inner, err) : KV_OK;
}

kv_status kv_copy_out(struct kv_db *db, const struct kv_pin_file *file, const struct kv_sink *sink,
                      uint8_t sha256[KV_SHA256_LEN], struct kv_err *err)
{
    struct checks checks = {.db = db, .file = file};
    struct kv_sha256 *sum = NULL;
    struct kv_file *from = NULL;
    struct kv_err inner = {0};
    uint8_t *piece = kv_alloc(KV_FRAME_PIECE);
    kv_status rc = piece ? kv_sha256_new(&sum) : KV_NO_MEMORY;
    if (rc < 0)
        kv_fail(&inner, rc, 0, "out of memory copying %s", file->name);
    if (rc == KV_OK)
        rc = kv_dir_open_file(db->dir, file->name, &from, &inner);
    if (rc == KV_OK)
        rc = checks_open(&checks, &inner);
    rc = rc < 0 ? out_fail(&checks, rc, &inner, err) : out_pieces(&checks, from, piece, sum, sink, err);
    if (rc == KV_OK)
        kv_sha256_take(sum, sha256);
    checks_close(&checks);
    kv_file_close(from);
    kv_sha256_free(sum);
    kv_free(piece);
    return rc;
}

/* ---- into a database */

kv_status kv_copy_in_open(struct kv_copy_in *in, struct kv_dir *dir, const struct kv_backup_file *file,
                          const char *from, struct kv_err *err)
{
    *in = (struct kv_copy_in){.file = file, .from = from};
    kv_status rc = kv_sha256_new(&in->sum);
    if (rc < 0)
        return kv_fail(err, rc, 0, "out of memory restoring %s", file->name);
    return kv_file_sink_open(&in->sink, dir, file->name, err);
}

kv_status kv_copy_in_add(struct kv_copy_in *in, kv_slice bytes, struct kv_err *err)
{
    if (bytes.len > in->file->bytes - in->sink.bytes)
        return kv_fail(err, KV_CORRUPT, 0, "%.100s: the copy of %s is longer than %" PRIu64 " bytes",
                       in->from, in->file->name, in->file->bytes);
    kv_sha256_add(in->sum, bytes);
    return in->sink.base.write(in->sink.base.ctx, bytes, err);
}

kv_status kv_copy_in_finish(struct kv_copy_in *in, struct kv_err *err)
{
    uint8_t sum[KV_SHA256_LEN];
    if (in->sink.bytes != in->file->bytes)
        return kv_fail(err, KV_CORRUPT, 0, "%.100s: the copy of %s ends at offset %" PRIu64 " of %" PRIu64,
                       in->from, in->file->name, in->sink.bytes, in->file->bytes);
    kv_sha256_take(in->sum, sum);
    if (memcmp(sum, in->file->sha256, sizeof sum) != 0)
        return kv_fail(err, KV_CORRUPT, 0, "%.100s: the copy of %s has another sum than when it was made",
                       in->from, in->file->name);
    return kv_file_sink_finish(&in->sink, err);
}

void kv_copy_in_discard(struct kv_copy_in *in)
{
    kv_file_sink_discard(&in->sink);
    kv_sha256_free(in->sum);
    in->sum = NULL;
}
