#include "kvcore/db/target.h"
#include "kvcore/db/manifest.h"

#include <stdio.h>
#include <string.h>

/* Only its name counts; this is for people. */
#define MARK_TEXT                                                                                            \
    "A restore or checkpoint was writing a database into this directory: run it again, or remove the "       \
    "directory.\n"

kv_status kv_target_refuse(struct kv_dir *dir, const char *path, struct kv_err *err)
{
    struct kv_file *file = NULL;
    struct kv_err why = {0};
    kv_status rc = kv_dir_open_file(dir, KV_TARGET_MARK, &file, &why);
    kv_file_close(file);
    if (rc == KV_MISSING)
        return KV_OK; /* as it should be: the caller's err stays as it is */
    if (rc == KV_OK)
        return kv_fail(err, KV_INVALID, 0,
                       "%.100s is no database yet: a restore or checkpoint into it was cut short "
                       "(file " KV_TARGET_MARK "): run that again, or remove the directory",
                       path);
    kv_err_copy(err, &why);
    return rc;
}

/* ---- what lies in it */

struct look {
    char first[65];   /* of all files but the mark */
    char foreign[65]; /* of those that no copy makes */
    bool marked;
    struct kv_buf names; /* of those that a copy makes, NUL-terminated, one behind another */
};

static kv_status look_name(void *ctx, const char *name, uint64_t bytes)
{
    struct look *look = ctx;
    uint64_t number;
    enum kv_file_kind_name kind;
    (void)bytes;
    if (strcmp(name, KV_TARGET_MARK) == 0) {
        look->marked = true;
        return KV_OK;
    }
    if (!look->first[0])
        snprintf(look->first, sizeof look->first, "%.64s", name);
    if (kv_file_name_parse(name, &number, &kind))
        return kv_buf_append(&look->names, kv_slice_of(name, strlen(name) + 1));
    if (!look->foreign[0])
        snprintf(look->foreign, sizeof look->foreign, "%.64s", name);
    return KV_OK;
}

/* Durably. The mark stays. */
static kv_status remove_files(struct kv_dir *dir, const struct kv_buf *names, struct kv_err *err)
{
    for (size_t at = 0; at < names->len; at += strlen((char *)names->data + at) + 1) {
        kv_status rc = kv_dir_remove(dir, (char *)names->data + at, err);
        if (rc < 0)
            return rc;
    }
    return kv_dir_sync_names(dir, err);
}

/* ---- beginning and end */

static kv_status mark(struct kv_target *target, struct kv_err *err)
{
    struct kv_file *file = NULL;
    kv_status rc;
    KV_TRY(kv_dir_create(target->dir, KV_TARGET_MARK, &file, err));
    target->marked = true;
    KV_TRY(kv_file_append(file, 0, KV_STR(MARK_TEXT), err));
    KV_TRY(kv_file_sync(file, err));
    KV_TRY(kv_dir_sync_names(target->dir, err));
out:
    kv_file_close(file);
    return rc;
}

static kv_status look_at(struct kv_target *target, const char *path, struct look *look, struct kv_err *err)
{
    struct kv_buf published = {.max = 256};
    kv_status rc;
    KV_TRY(target->dir->ops->published(target->dir, &published, &target->generation, err));
    if (rc == KV_NOT_FOUND)
        target->generation = 0;
    KV_TRY(target->dir->ops->list(target->dir, look_name, look, err));
    if (look->marked ? look->foreign[0] : target->generation || look->first[0])
        rc = kv_fail(err, KV_EXISTS, 0,
                     "%.100s is not empty (%s): a restore or checkpoint makes a new database and replaces "
                     "none",
                     path,
                     look->marked     ? look->foreign
                     : look->first[0] ? look->first
                                      : "a database");
out:
    kv_buf_release(&published);
    return rc < 0 ? rc : KV_OK;
}

kv_status kv_target_open(struct kv_vfs *vfs, const char *path, struct kv_target *target, struct kv_err *err)
{
    struct look look = {0};
    kv_status rc;
    *target = (struct kv_target){0};
    KV_TRY(kv_vfs_dir_open(vfs, path, true, &target->dir, err));
    KV_TRY(target->dir->ops->lease(target->dir, false, &target->lease, err));
    KV_TRY(look_at(target, path, &look, err));
    target->marked = look.marked;
    KV_TRY(look.marked ? remove_files(target->dir, &look.names, err) : mark(target, err));
out:
    kv_buf_release(&look.names);
    if (rc < 0)
        kv_target_end(target);
    return rc;
}

static kv_status unmark(struct kv_target *target, struct kv_err *err)
{
    kv_status rc = kv_dir_remove(target->dir, KV_TARGET_MARK, err);
    if (rc < 0)
        return rc;
    target->marked = false;
    return kv_dir_sync_names(target->dir, err);
}

kv_status kv_target_publish(struct kv_target *target, const char *manifest, struct kv_err *err)
{
    kv_status rc;
    KV_TRY(kv_dir_sync_names(target->dir, err));
    KV_TRY(target->dir->ops->publish(target->dir, kv_slice_str(manifest), target->generation, err));
    KV_TRY(unmark(target, err));
out:
    return rc;
}

/* What cannot be done is left to the next copy: the mark goes last. */
static void take_back(struct kv_target *target)
{
    struct kv_buf published = {.max = 256};
    struct look look = {0};
    uint64_t generation;
    kv_status rc = target->dir->ops->published(target->dir, &published, &generation, NULL);
    if (rc == KV_NOT_FOUND)
        rc = target->dir->ops->list(target->dir, look_name, &look, NULL);
    else
        rc = rc < 0 ? rc : KV_EXISTS;
    if (rc >= 0)
        rc = remove_files(target->dir, &look.names, NULL);
    if (rc >= 0)
        rc = unmark(target, NULL);
    (void)rc;
    kv_buf_release(&published);
    kv_buf_release(&look.names);
}

void kv_target_end(struct kv_target *target)
{
    if (!target->dir)
        return;
    if (target->marked)
        take_back(target);
    if (target->lease)
        target->dir->ops->lease_release(target->dir, target->lease);
    kv_dir_close(target->dir);
    *target = (struct kv_target){0};
}
