#include "kvcore/backup/repository.h"
#include "kvcore/base/coding.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- names: 000001.bak, 000001.cat, and of copies uid-length.{copy,pack} */

enum repo_name { NAME_MANIFEST, NAME_CATALOG, NAME_COPY, NAME_FOREIGN };

static void number_name(char out[32], uint64_t number, const char *suffix)
{
    snprintf(out, 32, "%06" PRIu64 ".%s", number, suffix);
}

void kv_repo_file_name(char out[KV_REPO_NAME_LEN], const struct kv_backup_file *file)
{
    snprintf(out, KV_REPO_NAME_LEN, "%016" PRIx64 "%016" PRIx64 "-%" PRIx64 ".%s", kv_get_be64(file->uid),
             kv_get_be64(file->uid + 8), file->bytes, file->form == KV_FORM_FRAMED ? "pack" : "copy");
}

static bool hex_value(const char *text, size_t n, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        *out = *out << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return n > 0;
}

/* Whose name is it? *file gets content and form of a copy, *number that of the others. */
static enum repo_name name_parse(const char *name, uint64_t *number, struct kv_backup_file *file)
{
    char again[KV_REPO_NAME_LEN];
    uint64_t high, low;
    size_t len = strlen(name), dash = strcspn(name, "-"), dot = strcspn(name, ".");
    *number = 0;
    for (size_t i = 0; i < dot && i < 19 && name[i] >= '0' && name[i] <= '9'; i++)
        *number = *number * 10 + (uint64_t)(name[i] - '0');
    number_name(again, *number, "bak");
    if (strcmp(again, name) == 0)
        return NAME_MANIFEST;
    number_name(again, *number, "cat");
    if (strcmp(again, name) == 0)
        return NAME_CATALOG;
    *file = (struct kv_backup_file){0};
    if (len >= KV_REPO_NAME_LEN || dash != 32 || dot < 34 || dot > 49 || !hex_value(name, 16, &high) ||
        !hex_value(name + 16, 16, &low) || !hex_value(name + 33, dot - 33, &file->bytes))
        return NAME_FOREIGN;
    kv_put_be64(file->uid, high);
    kv_put_be64(file->uid + 8, low);
    for (int form = KV_FORM_PLAIN; form <= KV_FORM_FRAMED; form++) {
        file->form = (uint8_t)form;
        kv_repo_file_name(again, file);
        if (strcmp(again, name) == 0)
            return NAME_COPY;
    }
    return NAME_FOREIGN;
}

/* ---- small containers: manifests and catalogs */

/* All payloads of one kind behind one another. */
static kv_status read_frames(struct kv_repo *repo, const char *name, const uint8_t *uuid,
                             enum kv_frame_kind kind, struct kv_buf *out, uint8_t uid[KV_FILE_UID_LEN],
                             struct kv_err *err)
{
    struct kv_file_source source = {0};
    struct kv_frame_reader reader = {.cipher = repo->cipher};
    struct kv_frame frame;
    kv_status rc;
    KV_TRY(kv_file_source_open(&source, repo->dir, name, err));
    KV_TRY(kv_frame_reader_open(&reader, &source.base, name, uuid, err));
    memcpy(uid, reader.header.uid, KV_FILE_UID_LEN);
    while ((rc = kv_frame_next(&reader, &frame, err)) == KV_OK) {
        if (frame.kind != kind) {
            rc = kv_frame_fail(&reader, frame.offset, KV_CORRUPT, "a frame that does not belong here", err);
            goto out;
        }
        rc = kv_buf_append(out, frame.payload);
        if (rc < 0) {
            kv_fail(err, rc, 0, "out of memory reading %s", name);
            goto out;
        }
    }
out:
    if (rc == KV_MISSING)
        rc = kv_fail(err, KV_CORRUPT, 0, "%.100s/%s is missing", repo->path, name);
    kv_frame_reader_release(&reader);
    kv_file_source_close(&source);
    return rc == KV_END ? KV_OK : rc;
}

static kv_status write_frames(struct kv_repo *repo, const char *name, const uint8_t uuid[KV_UUID_LEN],
                              enum kv_frame_kind kind, kv_slice payload, uint8_t uid[KV_FILE_UID_LEN],
                              struct kv_err *err)
{
    struct kv_file_sink sink = {0};
    struct kv_frame_writer writer = {.cipher = repo->cipher, .codec = KV_CODEC_ZSTD};
    kv_status rc;
    KV_TRY(kv_file_sink_open(&sink, repo->dir, name, err));
    KV_TRY(kv_frame_writer_open(&writer, &sink.base, repo->env->clock, uuid, 0, err));
    memcpy(uid, writer.uid, KV_FILE_UID_LEN);
    KV_TRY(kv_frame_put_long(&writer, kind, payload, err));
    KV_TRY(kv_frame_finish(&writer, err));
    KV_TRY(kv_file_sink_finish(&sink, err));
out:
    kv_file_sink_discard(&sink);
    kv_frame_writer_release(&writer);
    return rc;
}

/* ---- opening */

static kv_status look_foreign(void *ctx, const char *name, uint64_t bytes)
{
    struct kv_backup_file file;
    uint64_t number;
    char *first = ctx;
    (void)bytes;
    if (name_parse(name, &number, &file) == NAME_FOREIGN && first[0] == 0)
        snprintf(first, KV_REPO_NAME_LEN, "%.64s", name);
    return KV_OK;
}

/* Nothing is published: an empty directory, or one whose first backup was cut short. */
static kv_status check_empty(struct kv_repo *repo, struct kv_err *err)
{
    char foreign[KV_REPO_NAME_LEN] = "";
    kv_status rc = repo->dir->ops->list(repo->dir, look_foreign, foreign, err);
    if (rc < 0)
        return rc;
    return foreign[0] ? kv_fail(err, KV_INVALID, 0, "%.100s holds something else than backups: %s",
                                repo->path, foreign)
                      : KV_OK;
}

static kv_status read_catalog(struct kv_repo *repo, struct kv_err *err)
{
    struct kv_buf published = {.max = 256}, fields = {0};
    struct kv_backup_file file;
    uint8_t uid[KV_FILE_UID_LEN];
    uint64_t number;
    kv_status rc;
    KV_TRY(repo->dir->ops->published(repo->dir, &published, &repo->generation, err));
    if (rc == KV_NOT_FOUND) {
        rc = check_empty(repo, err);
        goto out;
    }
    if (published.len < sizeof repo->catalog_name)
        memcpy(repo->catalog_name, published.data, published.len);
    if (published.len >= sizeof repo->catalog_name ||
        name_parse(repo->catalog_name, &number, &file) != NAME_CATALOG) {
        rc = kv_fail(err, KV_INVALID, 0, "%.100s holds something else than backups: a database, perhaps",
                     repo->path);
        goto out;
    }
    KV_TRY(read_frames(repo, repo->catalog_name, NULL, KV_FRAME_CATALOG, &fields, uid, err));
    KV_TRY(kv_catalog_decode(kv_buf_slice(&fields), &repo->catalog, err));
out:
    kv_buf_release(&published);
    kv_buf_release(&fields);
    return rc;
}

kv_status kv_repo_open(struct kv_env *env, const struct kv_repository *where, bool writable,
                       struct kv_repo *out, struct kv_err *err)
{
    kv_status rc;
    *out = (struct kv_repo){.env = env, .path = where->path, .cipher = where->cipher};
    KV_TRY(kv_vfs_dir_open(where->vfs ? where->vfs : env->vfs, where->path, writable, &out->dir, err));
    KV_TRY(out->dir->ops->lease(out->dir, !writable, &out->lease, err));
    KV_TRY(read_catalog(out, err));
out:
    if (rc < 0)
        kv_repo_close(out);
    return rc;
}

void kv_repo_close(struct kv_repo *repo)
{
    kv_catalog_release(&repo->catalog);
    if (repo->lease)
        repo->dir->ops->lease_release(repo->dir, repo->lease);
    kv_dir_close(repo->dir);
    *repo = (struct kv_repo){0};
}

/* ---- backups */

const struct kv_catalog_entry *kv_repo_entry(const struct kv_repo *repo, uint64_t number)
{
    const struct kv_catalog *catalog = &repo->catalog;
    if (number == 0)
        return catalog->n ? &catalog->entries[catalog->n - 1] : NULL;
    for (size_t i = 0; i < catalog->n; i++)
        if (catalog->entries[i].number == number)
            return &catalog->entries[i];
    return NULL;
}

kv_status kv_repo_load(struct kv_repo *repo, const struct kv_catalog_entry *entry, struct kv_backup_set *out,
                       struct kv_err *err)
{
    struct kv_buf fields = {0};
    uint8_t uid[KV_FILE_UID_LEN];
    struct kv_err inner = {0};
    char name[32];
    kv_status rc;
    *out = (struct kv_backup_set){0};
    number_name(name, entry->number, "bak");
    KV_TRY(read_frames(repo, name, repo->catalog.uuid, KV_FRAME_MANIFEST, &fields, uid, err));
    if (memcmp(uid, entry->uid, sizeof uid) != 0) {
        rc = kv_fail(err, KV_CORRUPT, 0, "%.100s/%s is not the file the catalog knows", repo->path, name);
        goto out;
    }
    rc = kv_set_decode(kv_buf_slice(&fields), true, out, &inner);
    if (rc == KV_OK && out->number != entry->number)
        rc = kv_fail(&inner, KV_CORRUPT, 0, "it is another backup's");
    if (rc < 0)
        kv_fail(err, rc, 0, "%.80s/%s: %s", repo->path, name, inner.text);
out:
    kv_buf_release(&fields);
    if (rc < 0)
        kv_set_release(out);
    return rc;
}

static kv_status known_add(struct kv_backup_set *known, const struct kv_backup_set *set)
{
    size_t sorted = known->n_files;
    struct kv_backup_set before = *known; /* its first `sorted` files stay sorted */
    kv_status rc = KV_OK;
    for (size_t i = 0; i < set->n_files && rc == KV_OK; i++) {
        before.files = known->files;
        before.n_files = sorted;
        if (!kv_set_find(&before, set->files[i].uid, set->files[i].bytes))
            rc = kv_set_add(known, &set->files[i]);
    }
    kv_set_sort_contents(known);
    return rc;
}

kv_status kv_repo_known(struct kv_repo *repo, uint64_t without, struct kv_backup_set *out, struct kv_err *err)
{
    kv_status rc = KV_OK;
    *out = (struct kv_backup_set){0};
    for (size_t i = 0; i < repo->catalog.n && rc == KV_OK; i++) {
        struct kv_backup_set set;
        if (repo->catalog.entries[i].number == without)
            continue;
        rc = kv_repo_load(repo, &repo->catalog.entries[i], &set, err);
        if (rc == KV_OK && known_add(out, &set) < 0)
            rc = kv_fail(err, KV_NO_MEMORY, 0, "out of memory reading %.100s", repo->path);
        kv_set_release(&set);
    }
    if (rc < 0)
        kv_set_release(out);
    return rc;
}

kv_status kv_repo_store(struct kv_repo *repo, struct kv_backup_set *set, struct kv_catalog_entry *entry,
                        struct kv_err *err)
{
    struct kv_buf fields = {0};
    char name[32];
    kv_set_sort_names(set);
    number_name(name, set->number, "bak");
    kv_status rc = kv_set_encode(set, true, &fields);
    if (rc < 0)
        kv_fail(err, rc, 0, "out of memory listing a backup");
    else
        rc = write_frames(repo, name, set->uuid, KV_FRAME_MANIFEST, kv_buf_slice(&fields), entry->uid, err);
    entry->number = set->number;
    kv_buf_release(&fields);
    return rc;
}

kv_status kv_repo_publish(struct kv_repo *repo, struct kv_catalog *next, struct kv_err *err)
{
    struct kv_buf fields = {0};
    uint8_t uid[KV_FILE_UID_LEN];
    char name[32];
    kv_status rc;
    number_name(name, repo->generation + 1, "cat");
    KV_TRY(kv_catalog_encode(next, &fields));
    KV_TRY(write_frames(repo, name, next->uuid, KV_FRAME_CATALOG, kv_buf_slice(&fields), uid, err));
    KV_TRY(kv_dir_sync_names(repo->dir, err));
    KV_TRY(repo->dir->ops->publish(repo->dir, kv_slice_str(name), repo->generation, err));
    repo->generation++;
    memcpy(repo->catalog_name, name, sizeof name);
    kv_catalog_release(&repo->catalog);
    repo->catalog = *next;
    *next = (struct kv_catalog){0};
out:
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory writing a catalog");
    kv_catalog_release(next);
    kv_buf_release(&fields);
    return rc;
}

/* ---- leftovers */

struct sweep {
    struct kv_repo *repo;
    const struct kv_backup_set *known; /* NULL: only catalogs are looked at */
    struct kv_buf names; /* to be removed, NUL-terminated: removing while listing is not promised to work */
};

static kv_status sweep_look(void *ctx, const char *name, uint64_t bytes)
{
    struct sweep *sweep = ctx;
    struct kv_backup_file file;
    const struct kv_backup_file *known;
    uint64_t number;
    bool keep = true;
    enum repo_name what = name_parse(name, &number, &file);
    (void)bytes;
    if (!sweep->known && what != NAME_CATALOG)
        return KV_OK;
    switch (what) {
    case NAME_MANIFEST:
        keep = number != 0 && kv_repo_entry(sweep->repo, number) != NULL;
        break;
    case NAME_CATALOG:
        keep = strcmp(name, sweep->repo->catalog_name) == 0;
        break;
    case NAME_COPY:
        known = kv_set_find(sweep->known, file.uid, file.bytes);
        keep = known && known->form == file.form;
        break;
    case NAME_FOREIGN:
        kv_logf(&sweep->repo->env->log, KV_LOG_WARN, "foreign_file", "path=%s file=%s",
                KV_LOGQ(sweep->repo->path), KV_LOGQ(name));
        break;
    }
    return keep ? KV_OK : kv_buf_append(&sweep->names, kv_slice_of(name, strlen(name) + 1));
}

kv_status kv_repo_sweep(struct kv_repo *repo, const struct kv_backup_set *known, struct kv_err *err)
{
    struct sweep sweep = {.repo = repo, .known = known};
    kv_status rc = repo->dir->ops->list(repo->dir, sweep_look, &sweep, err);
    for (size_t at = 0; rc >= 0 && at < sweep.names.len; at += strlen((char *)sweep.names.data + at) + 1)
        rc = kv_dir_remove(repo->dir, (char *)sweep.names.data + at, err);
    if (rc >= 0 && sweep.names.len > 0)
        rc = kv_dir_sync_names(repo->dir, err); /* their names may be used again */
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory listing %.100s", repo->path);
    kv_buf_release(&sweep.names);
    return rc < 0 ? rc : KV_OK;
}

kv_status kv_repo_sweep_catalogs(struct kv_repo *repo, struct kv_err *err)
{
    return kv_repo_sweep(repo, NULL, err);
}

void kv_repo_let_go(struct kv_repo *repo)
{
    struct kv_backup_set known;
    struct kv_err err = {0};
    kv_status rc = kv_repo_known(repo, 0, &known, &err);
    if (rc == KV_OK)
        rc = kv_repo_sweep(repo, &known, &err);
    if (rc < 0)
        kv_logf(&repo->env->log, KV_LOG_WARN, "backup_sweep_failed", "path=%s error=%s", KV_LOGQ(repo->path),
                KV_LOGQ(err.text));
    kv_set_release(&known);
}
