/*
 * kv_backup. A moment of the database is pinned (kvcore/db/pin.h); each of its files that the target lacks is copied, logs first, so that
 * the log is trimmed again soon; then the list of all of them is stored. In a repository that is a manifest and a new catalog, published
 * last; in an archive it is the end of the stream.
 */
#include "kvcore/backup/archive.h"
#include "kvcore/backup/copy.h"
#include "kvcore/backup/repository.h"

#include <inttypes.h>

struct backup {
    struct kv_db *db;
    const struct kv_backup_options *options;
    struct kv_pin pin;
    struct kv_repo repo;           /* of a repository */
    struct kv_frame_writer frames; /* of an archive */
    struct kv_backup_set set;      /* the new one */
    struct kv_backup_set known;    /* what the target has, by content */
    struct kv_buf manifest;        /* the file that is to be published by a restore */
    struct kv_progress progress;
    uint64_t added_files, added_bytes;
    struct kv_err *err;
};

static enum kv_codec codec_of(enum kv_compression compression)
{
    return compression == KV_COMPRESSION_ZSTD     ? KV_CODEC_ZSTD
           : compression == KV_COMPRESSION_SNAPPY ? KV_CODEC_SNAPPY
                                                  : KV_CODEC_PLAIN;
}

static kv_status backup_advance(struct backup *b, uint64_t bytes)
{
    b->progress.bytes_done += bytes;
    if (!b->options->progress)
        return KV_OK;
    kv_status rc = b->options->progress(b->options->progress_ctx, &b->progress);
    return rc < 0 ? kv_fail(b->err, rc, 0, "the backup was canceled") : KV_OK;
}

/* ---- one file: pieces go to the file of the repository, or to frames of its container or the archive */

struct pieces {
    struct backup *b;
    struct kv_file_sink *plain; /* NULL: frames */
    struct kv_frame_writer *frames;
};

static kv_status pieces_write(void *ctx, kv_slice bytes, struct kv_err *err)
{
    struct pieces *to = ctx;
    kv_status rc = to->plain ? to->plain->base.write(to->plain, bytes, err)
                             : kv_frame_put(to->frames, KV_FRAME_DATA, bytes, err);
    return rc < 0 ? rc : backup_advance(to->b, bytes.len);
}

/* A file of the database, or (NULL) the manifest, in pieces. */
static kv_status feed(struct backup *b, const struct kv_pin_file *file, struct pieces *to,
                      struct kv_backup_file *entry)
{
    struct kv_sink sink = {pieces_write, to};
    struct kv_sha256 *sum = NULL;
    if (file)
        return kv_copy_out(b->db, file, &sink, entry->sha256, b->err);
    kv_status rc = kv_sha256_new(&sum);
    if (rc < 0)
        return kv_fail(b->err, rc, 0, "out of memory copying %s", entry->name);
    kv_sha256_add(sum, kv_buf_slice(&b->manifest));
    kv_sha256_take(sum, entry->sha256);
    kv_sha256_free(sum);
    kv_slice left = kv_buf_slice(&b->manifest);
    while (rc == KV_OK && left.len > 0) {
        size_t n = left.len < KV_FRAME_PIECE ? left.len : KV_FRAME_PIECE;
        rc = pieces_write(to, kv_slice_of(left.data, n), b->err);
        left = kv_slice_from(left, n);
    }
    return rc;
}

static kv_status copy_to_repository(struct backup *b, const struct kv_pin_file *file,
                                    struct kv_backup_file *entry)
{
    struct kv_file_sink sink = {0};
    struct kv_frame_writer frames = {.cipher = b->repo.cipher, .codec = codec_of(b->options->compression)};
    struct pieces to = {b, entry->form == KV_FORM_PLAIN ? &sink : NULL, &frames};
    char name[KV_REPO_NAME_LEN];
    kv_status rc;
    kv_repo_file_name(name, entry);
    KV_TRY(kv_file_sink_open(&sink, b->repo.dir, name, b->err));
    if (!to.plain)
        KV_TRY(kv_frame_writer_open(&frames, &sink.base, b->db->env->clock, b->db->uuid, b->db->owner_epoch,
                                    b->err));
    KV_TRY(feed(b, file, &to, entry));
    if (!to.plain) {
        KV_TRY(kv_frame_put(&frames, KV_FRAME_FILE_END, kv_slice_of(entry->sha256, KV_SHA256_LEN), b->err));
        KV_TRY(kv_frame_finish(&frames, b->err));
    }
    entry->stored_bytes = sink.bytes;
    KV_TRY(kv_file_sink_finish(&sink, b->err));
out:
    kv_file_sink_discard(&sink);
    kv_frame_writer_release(&frames);
    return rc;
}

static kv_status copy_to_archive(struct backup *b, const struct kv_pin_file *file,
                                 struct kv_backup_file *entry)
{
    struct kv_frame_writer *frames = &b->frames;
    struct pieces to = {b, NULL, frames};
    struct kv_buf announced = {0};
    uint64_t began = frames->offset;
    kv_status rc;
    rc = kv_set_encode_file(entry, &announced);
    if (rc < 0) {
        kv_fail(b->err, rc, 0, "out of memory copying %s", entry->name);
        goto out;
    }
    KV_TRY(kv_frame_put(frames, KV_FRAME_FILE, kv_buf_slice(&announced), b->err));
    KV_TRY(feed(b, file, &to, entry));
    KV_TRY(kv_frame_put(frames, KV_FRAME_FILE_END, kv_slice_of(entry->sha256, KV_SHA256_LEN), b->err));
    entry->stored_bytes = frames->offset - began;
out:
    kv_buf_release(&announced);
    return rc;
}

/* Does the repository still have the copy it should? One that is missing or has another length is made again. */
static kv_status copy_is_there(struct backup *b, const struct kv_backup_file *known, bool *there)
{
    struct kv_file *file = NULL;
    char name[KV_REPO_NAME_LEN];
    uint64_t bytes = 0;
    kv_repo_file_name(name, known);
    kv_status rc = kv_dir_open_file(b->repo.dir, name, &file, b->err);
    if (rc == KV_OK)
        rc = kv_file_size(file, &bytes, b->err);
    kv_file_close(file);
    *there = rc == KV_OK && bytes == known->stored_bytes;
    if (rc == KV_OK && !*there) {
        kv_logf(&b->db->env->log, KV_LOG_ERROR, "backup_copy_damaged",
                "path=%s file=%s bytes=%" PRIu64 " expected=%" PRIu64, KV_LOGQ(b->repo.path), name, bytes,
                known->stored_bytes);
        rc = kv_dir_remove(b->repo.dir, name, b->err);
    }
    return rc == KV_MISSING ? KV_OK : rc;
}

static uint8_t form_of(const struct backup *b)
{
    return !b->repo.dir                                                        ? KV_FORM_ARCHIVE
           : b->options->compression == KV_COMPRESSION_NONE && !b->repo.cipher ? KV_FORM_PLAIN
                                                                               : KV_FORM_FRAMED;
}

/* Copies what the target lacks, and lists it. file NULL: the manifest. */
static kv_status backup_add(struct backup *b, const struct kv_pin_file *file, struct kv_backup_file *entry)
{
    kv_status rc;
    KV_TRY(b->repo.dir ? copy_to_repository(b, file, entry) : copy_to_archive(b, file, entry));
    b->added_files++;
    b->added_bytes += entry->stored_bytes;
    b->progress.files_done++;
    rc = kv_set_add(&b->set, entry);
    if (rc < 0)
        kv_fail(b->err, rc, 0, "out of memory listing %s", entry->name);
out:
    return rc;
}

/* The target has it already. */
static kv_status backup_reuse(struct backup *b, const struct kv_backup_file *known,
                              struct kv_backup_file *entry)
{
    memcpy(entry->sha256, known->sha256, sizeof entry->sha256);
    entry->stored_bytes = known->stored_bytes;
    entry->form = b->repo.dir ? known->form : KV_FORM_BASE;
    b->progress.files_done++;
    kv_status rc = kv_set_add(&b->set, entry);
    return rc < 0 ? kv_fail(b->err, rc, 0, "out of memory listing %s", entry->name)
                  : backup_advance(b, entry->bytes);
}

static kv_status backup_file(void *ctx, const struct kv_pin_file *file)
{
    struct backup *b = ctx;
    struct kv_backup_file entry = {.bytes = file->bytes, .form = form_of(b)};
    bool there = false;
    kv_status rc;
    if (file->kind != KV_NAME_LOG)
        kv_pin_let_log_go(&b->pin); /* logs come first, and all of them are copied */
    memcpy(entry.name, file->name, sizeof entry.name);
    KV_TRY(kv_copy_uid(b->db, file, entry.uid, b->err));
    const struct kv_backup_file *known = kv_set_find(&b->known, entry.uid, entry.bytes);
    if (known && b->repo.dir) {
        KV_TRY(copy_is_there(b, known, &there));
        entry.form = known->form; /* made again, it has to be what the others know */
    }
    rc = known && (there || !b->repo.dir) ? backup_reuse(b, known, &entry) : backup_add(b, file, &entry);
out:
    return rc;
}

static kv_status count_file(void *ctx, const struct kv_pin_file *file)
{
    struct kv_progress *progress = ctx;
    progress->files++;
    progress->bytes += file->bytes;
    return KV_OK;
}

static kv_status backup_begin(struct backup *b)
{
    kv_status rc = kv_pin_take(b->db, &b->pin, b->err);
    if (rc < 0)
        return rc;
    b->set.time_ms = kv_clock_wall_ms(b->db->env->clock);
    b->set.version = b->pin.version;
    memcpy(b->set.uuid, b->db->uuid, KV_UUID_LEN);
    return kv_pin_files(&b->pin, count_file, &b->progress);
}

/* The last file is the manifest a restored database begins with: of the pinned moment, but with the next owner epoch, since whoever
 * writes on under the old one is somebody else. An encrypted database's is encrypted. */
static kv_status backup_manifest(struct backup *b)
{
    struct kv_manifest_state state = b->pin.state; /* borrows what that owns */
    struct kv_backup_file entry = {.form = form_of(b)};
    kv_status rc;
    state.owner_epoch++;
    rc = kv_manifest_build_copy(b->db->env->clock, b->db->manifest.keys, &state, &b->manifest);
    if (rc < 0)
        return kv_fail(b->err, rc, 0, "out of memory writing a manifest");
    kv_file_name(entry.name, kv_manifest_take_number(&b->db->manifest), KV_NAME_MANIFEST);
    memcpy(entry.uid, b->manifest.data + KV_FILE_HEADER_AT_UID, sizeof entry.uid);
    entry.bytes = b->manifest.len;
    b->progress.files++;
    b->progress.bytes += entry.bytes;
    return backup_add(b, NULL, &entry);
}

static kv_status backup_files(struct backup *b)
{
    kv_status rc = kv_pin_files(&b->pin, backup_file, b);
    return rc < 0 ? rc : backup_manifest(b);
}

/* ---- into a repository */

/* The oldest beyond `keep` are left out of the catalog that is published with the new backup. */
static kv_status next_catalog(struct backup *b, const struct kv_catalog_entry *entry, struct kv_catalog *next)
{
    const struct kv_catalog *now = &b->repo.catalog;
    uint32_t keep = b->options->keep;
    size_t first = keep && now->n + 1 > keep ? now->n + 1 - keep : 0;
    kv_status rc = KV_OK;
    *next = (struct kv_catalog){.next = entry->number + 1};
    memcpy(next->uuid, b->db->uuid, KV_UUID_LEN);
    for (size_t i = first; i < now->n && rc == KV_OK; i++)
        rc = kv_catalog_add(next, &now->entries[i]);
    if (rc == KV_OK)
        rc = kv_catalog_add(next, entry);
    if (rc < 0) {
        kv_catalog_release(next);
        kv_fail(b->err, rc, 0, "out of memory writing a catalog");
    }
    return rc;
}

static kv_status check_space(struct backup *b)
{
    struct kv_space_info space;
    uint64_t need = 0;
    if (b->options->compression != KV_COMPRESSION_NONE)
        return KV_OK; /* not known before */
    for (size_t i = 0; i < b->pin.state.n_tables; i++) {
        const struct kv_table_meta *table = b->pin.state.tables[i];
        if (!kv_set_find(&b->known, table->uid, table->bytes))
            need += table->bytes;
    }
    kv_status rc = b->repo.dir->ops->space(b->repo.dir, &space, b->err);
    if (rc == KV_OK && space.free_bytes < need)
        rc = kv_fail(b->err, KV_NO_SPACE, 0,
                     "%.100s has %" PRIu64 " bytes free; the backup needs %" PRIu64 " for its tables",
                     b->repo.path, space.free_bytes, need);
    return rc;
}

static kv_status backup_to_repository(struct backup *b)
{
    struct kv_catalog_entry entry = {0};
    struct kv_catalog next;
    kv_status rc;
    KV_TRY(kv_repo_open(b->db->env, b->options->repository, true, &b->repo, b->err));
    if (b->repo.generation && memcmp(b->repo.catalog.uuid, b->db->uuid, KV_UUID_LEN) != 0) {
        rc = kv_fail(b->err, KV_INVALID, 0, "%.100s holds the backups of another database", b->repo.path);
        goto out;
    }
    KV_TRY(kv_repo_known(&b->repo, 0, &b->known, b->err));
    KV_TRY(kv_repo_sweep(&b->repo, &b->known, b->err));
    KV_TRY(backup_begin(b));
    KV_TRY(check_space(b));
    b->set.number = b->repo.generation ? b->repo.catalog.next : 1;
    KV_TRY(backup_files(b));
    KV_TRY(kv_repo_store(&b->repo, &b->set, &entry, b->err));
    entry.time_ms = b->set.time_ms;
    entry.version = b->set.version;
    entry.bytes = kv_set_bytes(&b->set);
    entry.files = b->set.n_files;
    entry.added_bytes = b->added_bytes;
    entry.added_files = b->added_files;
    KV_TRY(next_catalog(b, &entry, &next));
    KV_TRY(kv_repo_publish(&b->repo, &next, b->err));
    kv_repo_let_go(&b->repo);
out:
    return rc;
}

/* ---- into an archive */

/* The base's files, by content. */
static kv_status read_base(struct backup *b)
{
    kv_status rc;
    if (b->options->base.len == 0)
        return KV_OK;
    rc = kv_receipt_decode(b->options->base, b->options->cipher, &b->known, b->err);
    if (rc < 0)
        return rc;
    memcpy(b->set.base, b->known.self, sizeof b->set.base);
    if (memcmp(b->known.uuid, b->db->uuid, KV_UUID_LEN) != 0)
        return kv_fail(b->err, KV_INVALID, 0, "the base is an archive of another database");
    b->set.has_base = true;
    kv_set_sort_contents(&b->known);
    return KV_OK;
}

static kv_status put_fields(struct backup *b, enum kv_frame_kind kind, bool with_files)
{
    struct kv_buf fields = {0};
    kv_status rc = kv_set_encode(&b->set, with_files, &fields);
    rc = rc < 0 ? kv_fail(b->err, rc, 0, "out of memory listing a backup")
                : kv_frame_put_long(&b->frames, kind, kv_buf_slice(&fields), b->err);
    kv_buf_release(&fields);
    return rc;
}

static kv_status backup_to_archive(struct backup *b)
{
    struct kv_frame_writer *frames = &b->frames;
    kv_status rc;
    *frames =
        (struct kv_frame_writer){.cipher = b->options->cipher, .codec = codec_of(b->options->compression)};
    KV_TRY(read_base(b));
    KV_TRY(backup_begin(b));
    KV_TRY(kv_frame_writer_open(frames, b->options->archive, b->db->env->clock, b->db->uuid,
                                b->db->owner_epoch, b->err));
    KV_TRY(put_fields(b, KV_FRAME_ARCHIVE, false));
    KV_TRY(backup_files(b));
    kv_set_sort_names(&b->set);
    KV_TRY(put_fields(b, KV_FRAME_MANIFEST, true));
    KV_TRY(kv_frame_finish(frames, b->err));
    if (b->options->receipt) {
        b->set.has_self = true;
        memcpy(b->set.self, frames->uid, sizeof b->set.self);
        KV_TRY(
            kv_receipt_encode(&b->set, b->options->cipher, b->db->env->clock, b->options->receipt, b->err));
    }
out:
    return rc;
}

/* ---- */

static kv_status check_options(const struct kv_backup_options *o, struct kv_err *err)
{
    if (!o->repository == !o->archive)
        return kv_fail(err, KV_INVALID, 0,
                       "a backup goes to a repository or to an archive: give one of them");
    if (o->compression > KV_COMPRESSION_SNAPPY)
        return kv_fail(err, KV_INVALID, 0, "compression %d does not exist", (int)o->compression);
    if (o->repository && (o->base.len || o->receipt || o->cipher))
        return kv_fail(err, KV_INVALID, 0,
                       "base, receipt and cipher are for archives (a repository has its own cipher)");
    if (o->archive && o->keep)
        return kv_fail(err, KV_INVALID, 0, "keep is for repositories");
    return KV_OK;
}

kv_status kv_backup(struct kv_db *db, const struct kv_backup_options *options, struct kv_backup_info *info,
                    struct kv_err *err)
{
    struct backup b = {.db = db, .options = options, .err = err};
    kv_status rc = check_options(options, err);
    if (rc == KV_OK)
        rc = options->repository ? backup_to_repository(&b) : backup_to_archive(&b);
    if (rc == KV_OK && info) {
        *info = (struct kv_backup_info){.number = b.set.number,
                                        .time_ms = b.set.time_ms,
                                        .version = b.set.version,
                                        .files = b.set.n_files,
                                        .bytes = kv_set_bytes(&b.set),
                                        .added_files = b.added_files,
                                        .added_bytes = b.added_bytes};
        memcpy(info->uuid, b.set.uuid, sizeof info->uuid);
    }
    kv_pin_release(&b.pin);
    kv_frame_writer_release(&b.frames);
    kv_buf_release(&b.manifest);
    kv_set_release(&b.set);
    kv_set_release(&b.known);
    kv_repo_close(&b.repo);
    kv_job_remember(db, KV_JOB_BACKUP, rc, err);
    return rc < 0 ? rc : KV_OK;
}
