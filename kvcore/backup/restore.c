/*
 * kv_restore, kv_backup_verify: a backup read back. The files of a repository's backup are copied by its list. An archive is taken as it
 * comes; of archives that build upon one another the last is read first, for it alone says what is wanted of those below it. The
 * manifest is published last, so until everything was proven there is no database, only a marked directory (kvcore/db/target.h).
 */
#include "kvcore/backup/archive.h"
#include "kvcore/backup/copy.h"
#include "kvcore/backup/repository.h"
#include "kvcore/db/target.h"

#include <inttypes.h>
#include <stdio.h>

struct restore {
    struct kv_env *env;
    const struct kv_restore_options *options;
    const char *path;
    struct kv_target target;  /* its dir NULL: nothing is written, only verified */
    struct kv_backup_set set; /* what is restored */
    bool set_known;
    size_t at; /* which archive is being read */
    struct kv_file_sink sink;
    uint8_t base[KV_FILE_UID_LEN]; /* the archive that must come next */
    bool has_base;
    struct kv_progress progress;
    void (*each)(void *ctx, kv_status severity, const char *line);
    void *each_ctx;
    uint64_t findings;
    struct kv_err first; /* finding */
};

static kv_status restore_advance(struct restore *r, uint64_t bytes, struct kv_err *err)
{
    r->progress.bytes_done += bytes;
    if (!r->options->progress)
        return KV_OK;
    kv_status rc = r->options->progress(r->options->progress_ctx, &r->progress);
    return rc < 0 ? kv_fail(err, rc, 0, "the restore was canceled") : KV_OK;
}

/* ---- archives */

static const char *archive_name(const struct restore *r, char out[64])
{
    if (r->options->n_archives == 1)
        return "the archive";
    snprintf(out, 64, "archive %zu of %zu", r->at + 1, r->options->n_archives);
    return out;
}

static kv_status on_begin(void *ctx, const struct kv_backup_set *about, const uint8_t uid[KV_FILE_UID_LEN],
                          struct kv_err *err)
{
    struct restore *r = ctx;
    char name[64];
    if (r->set_known && (!r->has_base || memcmp(uid, r->base, KV_FILE_UID_LEN) != 0))
        return kv_fail(err, KV_INVALID, 0, "%s is not the one that the next builds upon",
                       archive_name(r, name));
    r->has_base = about->has_base;
    memcpy(r->base, about->base, sizeof r->base);
    if (r->has_base && r->at == 0)
        return kv_fail(err, KV_INVALID, 0, "%s builds upon another, which must be given before it",
                       archive_name(r, name));
    return KV_OK;
}

/* Under which name a file of an archive is wanted. NULL: not at all. */
static const char *wanted_name(struct restore *r, const struct kv_backup_file *file)
{
    struct kv_backup_file *wanted = r->set_known ? kv_set_find(&r->set, file->uid, file->bytes) : NULL;
    if (!r->set_known)
        return file->name;
    return wanted && !wanted->seen ? wanted->name : NULL;
}

static kv_status on_file(void *ctx, const struct kv_backup_file *file, struct kv_err *err)
{
    struct restore *r = ctx;
    const char *name = wanted_name(r, file);
    if (!name)
        return KV_NOT_FOUND;
    return r->target.dir ? kv_file_sink_open(&r->sink, r->target.dir, name, err) : KV_OK;
}

static kv_status on_data(void *ctx, kv_slice bytes, struct kv_err *err)
{
    struct restore *r = ctx;
    kv_status rc = r->target.dir ? r->sink.base.write(r->sink.base.ctx, bytes, err) : KV_OK;
    return rc < 0 ? rc : restore_advance(r, bytes.len, err);
}

static void restore_line(struct restore *r, kv_status severity, const char *text)
{
    if (severity < 0 && r->findings++ == 0)
        kv_fail(&r->first, severity, 0, "%s", text);
    if (r->each)
        r->each(r->each_ctx, severity, text);
}

static kv_status on_file_end(void *ctx, const struct kv_backup_file *file, struct kv_err *err)
{
    struct restore *r = ctx;
    struct kv_backup_file *wanted = r->set_known ? kv_set_find(&r->set, file->uid, file->bytes) : NULL;
    char line[120];
    if (wanted) {
        if (memcmp(wanted->sha256, file->sha256, sizeof file->sha256) != 0)
            return kv_fail(err, KV_CORRUPT, 0, "file %s has another sum in the archive below", wanted->name);
        wanted->seen = true;
    }
    r->progress.files_done++;
    snprintf(line, sizeof line, "%s: ok bytes=%" PRIu64, wanted ? wanted->name : file->name, file->bytes);
    restore_line(r, KV_OK, line);
    return r->target.dir ? kv_file_sink_finish(&r->sink, err) : KV_OK;
}

static kv_status on_set(void *ctx, struct kv_backup_set *set, struct kv_err *err)
{
    struct restore *r = ctx;
    (void)err;
    if (r->set_known)
        return KV_OK;
    r->set = *set; /* taken over */
    *set = (struct kv_backup_set){0};
    for (size_t i = 0; i < r->set.n_files; i++)
        r->set.files[i].seen = r->set.files[i].form == KV_FORM_ARCHIVE;
    kv_set_sort_contents(&r->set);
    r->set_known = true;
    return KV_OK;
}

static kv_status restore_archives(struct restore *r, struct kv_err *err)
{
    const struct kv_archive_events events = {r, on_begin, on_file, on_data, on_file_end, on_set};
    char name[64];
    kv_status rc = KV_OK;
    for (size_t i = r->options->n_archives; i > 0 && rc == KV_OK; i--) {
        r->at = i - 1;
        rc = kv_archive_read(&r->options->archives[r->at], archive_name(r, name), r->options->cipher, &events,
                             err);
        kv_file_sink_discard(&r->sink);
        if (rc == KV_OK && r->at > 0 && !r->has_base)
            rc = kv_fail(err, KV_INVALID, 0, "%s is a full backup and builds upon none",
                         archive_name(r, name));
    }
    for (size_t i = 0; i < r->set.n_files && rc == KV_OK; i++)
        if (!r->set.files[i].seen)
            rc = kv_fail(err, KV_CORRUPT, 0, "file %s is in none of the archives", r->set.files[i].name);
    return rc;
}

/* ---- a repository */

/* The pieces of a copy, plain or out of its container. */
static kv_status read_copy(struct restore *r, struct kv_repo *repo, const struct kv_backup_file *file,
                           const char *name,
                           kv_status (*piece)(void *ctx, kv_slice bytes, struct kv_err *err), void *ctx,
                           struct kv_err *err)
{
    struct kv_file_source source = {0};
    struct kv_frame_reader frames = {.cipher = repo->cipher};
    struct kv_frame frame;
    struct kv_buf plain = {0};
    kv_status rc;
    (void)r;
    KV_TRY(kv_file_source_open(&source, repo->dir, name, err));
    if (file->form == KV_FORM_PLAIN) {
        uint8_t *into = kv_buf_extend(&plain, KV_FRAME_PIECE);
        size_t got = 1;
        rc = into ? KV_OK : kv_fail(err, KV_NO_MEMORY, 0, "out of memory reading %s", name);
        while (rc == KV_OK && got > 0) {
            KV_TRY(source.base.read(source.base.ctx, into, KV_FRAME_PIECE, &got, err));
            if (got)
                rc = piece(ctx, kv_slice_of(into, got), err);
        }
        goto out;
    }
    KV_TRY(kv_frame_reader_open(&frames, &source.base, name, repo->catalog.uuid, err));
    while ((rc = kv_frame_next(&frames, &frame, err)) == KV_OK)
        if (frame.kind == KV_FRAME_DATA)
            KV_TRY(piece(ctx, frame.payload, err));
        else if (frame.kind != KV_FRAME_FILE_END) {
            rc = kv_frame_fail(&frames, frame.offset, KV_CORRUPT, "a frame out of place", err);
            goto out;
        }
out:
    kv_buf_release(&plain);
    kv_frame_reader_release(&frames);
    kv_file_source_close(&source);
    return rc == KV_END ? KV_OK : rc;
}

struct restoring {
    struct restore *r;
    struct kv_copy_in in;  /* when there is a target */
    struct kv_sha256 *sum; /* when there is none */
    uint64_t bytes;
};

static kv_status restoring_piece(void *ctx, kv_slice bytes, struct kv_err *err)
{
    struct restoring *to = ctx;
    kv_status rc = KV_OK;
    to->bytes += bytes.len;
    if (to->sum)
        kv_sha256_add(to->sum, bytes);
    else
        rc = kv_copy_in_add(&to->in, bytes, err);
    return rc < 0 ? rc : restore_advance(to->r, bytes.len, err);
}

static kv_status restore_file(struct restore *r, struct kv_repo *repo, const struct kv_backup_file *file,
                              struct kv_err *err)
{
    struct restoring to = {.r = r};
    uint8_t sum[KV_SHA256_LEN];
    char name[KV_REPO_NAME_LEN];
    kv_status rc;
    kv_repo_file_name(name, file);
    if (r->target.dir) {
        rc = kv_copy_in_open(&to.in, r->target.dir, file, name, err);
    } else {
        rc = kv_sha256_new(&to.sum);
        if (rc < 0)
            kv_fail(err, rc, 0, "out of memory reading %s", name);
    }
    KV_TRY(rc);
    rc = read_copy(r, repo, file, name, restoring_piece, &to, err);
    if (rc == KV_MISSING)
        rc =
            kv_fail(err, KV_CORRUPT, 0, "%.100s/%s is missing: the copy of %s", repo->path, name, file->name);
    KV_TRY(rc);
    if (r->target.dir) {
        KV_TRY(kv_copy_in_finish(&to.in, err));
    } else {
        kv_sha256_take(to.sum, sum);
        if (to.bytes != file->bytes || memcmp(sum, file->sha256, sizeof sum) != 0)
            rc = kv_fail(err, KV_CORRUPT, 0,
                         "%s, the copy of %s, has another length or sum than when it was made", name,
                         file->name);
    }
    r->progress.files_done++;
out:
    kv_copy_in_discard(&to.in);
    kv_sha256_free(to.sum);
    return rc;
}

static kv_status check_space(const struct restore *r, struct kv_err *err)
{
    struct kv_space_info space;
    uint64_t need = kv_set_bytes(&r->set);
    kv_status rc = r->target.dir->ops->space(r->target.dir, &space, err);
    if (rc == KV_OK && space.free_bytes < need)
        rc = kv_fail(err, KV_NO_SPACE, 0, "%.100s has %" PRIu64 " bytes free; the backup needs %" PRIu64,
                     r->path, space.free_bytes, need);
    return rc;
}

static kv_status entry_of(const struct kv_repo *repo, uint64_t number, const struct kv_catalog_entry **out,
                          struct kv_err *err)
{
    *out = kv_repo_entry(repo, number);
    if (*out)
        return KV_OK;
    return number ? kv_fail(err, KV_MISSING, 0, "%.100s has no backup %" PRIu64, repo->path, number)
                  : kv_fail(err, KV_MISSING, 0, "%.100s has no backups", repo->path);
}

static kv_status restore_repository(struct restore *r, struct kv_err *err)
{
    const struct kv_catalog_entry *entry;
    struct kv_repo repo;
    kv_status rc;
    KV_TRY(kv_repo_open(r->env, r->options->repository, false, &repo, err));
    KV_TRY(entry_of(&repo, r->options->number, &entry, err));
    KV_TRY(kv_repo_load(&repo, entry, &r->set, err));
    KV_TRY(check_space(r, err));
    r->progress.files = r->set.n_files;
    r->progress.bytes = kv_set_bytes(&r->set);
    for (size_t i = 0; i < r->set.n_files && rc == KV_OK; i++)
        rc = restore_file(r, &repo, &r->set.files[i], err);
out:
    kv_repo_close(&repo);
    return rc;
}

/* ---- */

static kv_status check_options(const struct kv_restore_options *o, struct kv_err *err)
{
    if (!o->repository == !o->n_archives)
        return kv_fail(err, KV_INVALID, 0,
                       "a backup comes from a repository or from archives: give one of them");
    if (o->repository && o->cipher)
        return kv_fail(err, KV_INVALID, 0, "cipher is for archives (a repository has its own)");
    return KV_OK;
}

static void fill_info(const struct kv_backup_set *set, struct kv_backup_info *info)
{
    *info = (struct kv_backup_info){.number = set->number,
                                    .time_ms = set->time_ms,
                                    .version = set->version,
                                    .files = set->n_files,
                                    .bytes = kv_set_bytes(set)};
    memcpy(info->uuid, set->uuid, sizeof info->uuid);
}

kv_status kv_restore(struct kv_env *env, const char *path, const struct kv_restore_options *options,
                     struct kv_backup_info *info, struct kv_err *err)
{
    struct restore r = {.env = env, .options = options, .path = path};
    kv_status rc;
    KV_TRY(check_options(options, err));
    KV_TRY(kv_target_open(env->vfs, path, &r.target, err));
    KV_TRY(options->repository ? restore_repository(&r, err) : restore_archives(&r, err));
    KV_TRY(kv_target_publish(&r.target, kv_set_manifest(&r.set)->name, err));
    if (info)
        fill_info(&r.set, info);
out:
    kv_target_end(&r.target);
    kv_set_release(&r.set);
    return rc < 0 ? rc : KV_OK;
}

/* ---- verifying */

/* Out of memory and failing disks are not findings about the backup: they end the check. */
static bool is_finding(kv_status rc)
{
    return rc == KV_CORRUPT || rc == KV_TOO_NEW || rc == KV_UNSUPPORTED;
}

/* Each copy once, whoever needs it. */
static kv_status verify_copies(struct restore *r, struct kv_repo *repo, struct kv_err *err)
{
    kv_status rc = KV_OK;
    r->progress.files = r->set.n_files;
    r->progress.bytes = kv_set_bytes(&r->set);
    for (size_t i = 0; i < r->set.n_files; i++) {
        struct kv_err inner = {0};
        char line[240];
        rc = restore_file(r, repo, &r->set.files[i], &inner);
        if (rc < 0 && !is_finding(rc)) {
            kv_err_copy(err, &inner);
            return rc;
        }
        snprintf(line, sizeof line, "%s: ok bytes=%" PRIu64, r->set.files[i].name, r->set.files[i].bytes);
        restore_line(r, rc, rc < 0 ? inner.text : line);
    }
    return KV_OK;
}

static kv_status verify_repository(struct restore *r, struct kv_err *err)
{
    const struct kv_catalog_entry *entry;
    struct kv_repo repo;
    kv_status rc;
    KV_TRY(kv_repo_open(r->env, r->options->repository, false, &repo, err));
    if (r->options->number == 0) {
        KV_TRY(kv_repo_known(&repo, 0, &r->set, err));
    } else {
        KV_TRY(entry_of(&repo, r->options->number, &entry, err));
        KV_TRY(kv_repo_load(&repo, entry, &r->set, err));
    }
    KV_TRY(verify_copies(r, &repo, err));
out:
    kv_repo_close(&repo);
    return rc;
}

kv_status kv_backup_verify(struct kv_env *env, const struct kv_restore_options *options,
                           void (*each)(void *ctx, kv_status severity, const char *line), void *ctx,
                           struct kv_err *err)
{
    struct restore r = {.env = env, .options = options, .path = "", .each = each, .each_ctx = ctx};
    struct kv_err inner = {0};
    kv_status rc = check_options(options, &inner);
    if (rc == KV_OK)
        rc = options->repository ? verify_repository(&r, &inner) : restore_archives(&r, &inner);
    if (is_finding(rc))
        restore_line(&r, rc, inner.text);
    if (rc < 0)
        kv_err_copy(err, &inner);
    if (r.findings > 0)
        rc = kv_fail(err, r.first.code, 0, "%" PRIu64 " findings, the first: %.200s", r.findings,
                     r.first.text);
    kv_set_release(&r.set);
    return rc < 0 ? rc : KV_OK;
}

/* ---- listing, removing */

kv_status kv_backup_list(struct kv_env *env, const struct kv_repository *repository,
                         void (*each)(void *ctx, const struct kv_backup_info *info), void *ctx,
                         struct kv_err *err)
{
    struct kv_repo repo;
    kv_status rc = kv_repo_open(env, repository, false, &repo, err);
    for (size_t i = 0; rc == KV_OK && i < repo.catalog.n; i++) {
        const struct kv_catalog_entry *e = &repo.catalog.entries[i];
        struct kv_backup_info info = {.number = e->number,
                                      .time_ms = e->time_ms,
                                      .version = e->version,
                                      .files = e->files,
                                      .bytes = e->bytes,
                                      .added_files = e->added_files,
                                      .added_bytes = e->added_bytes};
        memcpy(info.uuid, repo.catalog.uuid, sizeof info.uuid);
        each(ctx, &info);
    }
    kv_repo_close(&repo);
    return rc;
}

/* Publishes a catalog without the backups below `first` and without `number`, then removes their files. */
static kv_status remove_backups(struct kv_repo *repo, uint64_t first, uint64_t number, struct kv_err *err)
{
    struct kv_catalog next = {.next = repo->catalog.next};
    kv_status rc = KV_OK;
    memcpy(next.uuid, repo->catalog.uuid, sizeof next.uuid);
    for (size_t i = 0; i < repo->catalog.n && rc == KV_OK; i++)
        if (repo->catalog.entries[i].number >= first && repo->catalog.entries[i].number != number)
            rc = kv_catalog_add(&next, &repo->catalog.entries[i]);
    if (rc < 0) {
        kv_catalog_release(&next);
        return kv_fail(err, rc, 0, "out of memory writing a catalog");
    }
    KV_TRY(kv_repo_sweep_catalogs(repo, err));
    KV_TRY(kv_repo_publish(repo, &next, err));
    kv_repo_let_go(repo);
out:
    kv_catalog_release(&next);
    return rc;
}

kv_status kv_backup_remove(struct kv_env *env, const struct kv_repository *repository, uint64_t number,
                           struct kv_err *err)
{
    const struct kv_catalog_entry *entry;
    struct kv_repo repo;
    kv_status rc;
    if (number == 0)
        return kv_fail(err, KV_INVALID, 0, "backups are numbered from 1");
    KV_TRY(kv_repo_open(env, repository, true, &repo, err));
    KV_TRY(entry_of(&repo, number, &entry, err));
    KV_TRY(remove_backups(&repo, 0, number, err));
out:
    kv_repo_close(&repo);
    return rc;
}

kv_status kv_backup_keep(struct kv_env *env, const struct kv_repository *repository, uint32_t n,
                         struct kv_err *err)
{
    struct kv_repo repo;
    if (n == 0)
        return kv_fail(err, KV_INVALID, 0, "at least one backup is kept");
    kv_status rc = kv_repo_open(env, repository, true, &repo, err);
    if (rc == KV_OK && repo.catalog.n > n)
        rc = remove_backups(&repo, repo.catalog.entries[repo.catalog.n - n].number, 0, err);
    kv_repo_close(&repo);
    return rc;
}
