/*
 * A checkpoint: a moment is pinned (pin.h), its files are linked into the new directory, and its manifest is published last. Until that
 * the directory holds no database.
 */
#include "kvcore/db/pin.h"

static kv_status refuse_file(void *ctx, const char *name, uint64_t bytes)
{
    (void)ctx, (void)name, (void)bytes;
    return KV_EXISTS;
}

/* A directory left empty by an earlier try is as good as none. */
static kv_status target_open(struct kv_db *db, const char *path, struct kv_dir **target, struct kv_err *err)
{
    struct kv_buf published = {.max = 256};
    uint64_t generation;
    kv_status rc;
    KV_TRY(kv_vfs_dir_open(db->env->vfs, path, true, target, err));
    KV_TRY((*target)->ops->published(*target, &published, &generation, err));
    rc = rc == KV_NOT_FOUND ? (*target)->ops->list(*target, refuse_file, NULL, err) : KV_EXISTS;
    if (rc == KV_EXISTS)
        kv_fail(err, rc, 0, "%s exists already and is not empty", path);
out:
    kv_buf_release(&published);
    return rc < 0 ? rc : KV_OK;
}

struct linking {
    struct kv_dir *from, *to;
    struct kv_err *err;
};

static kv_status link_file(void *ctx, const struct kv_pin_file *file)
{
    struct linking *linking = ctx;
    return linking->from->ops->link(linking->from, file->name, linking->to, linking->err);
}

static kv_status name_keep(void *ctx, const char *name, uint64_t bytes)
{
    (void)bytes;
    return kv_buf_append(ctx, kv_slice_of(name, strlen(name) + 1));
}

/* What can be taken back is; an empty directory stays. */
static void target_clear(struct kv_dir *target)
{
    struct kv_buf names = {0};
    kv_status rc = target->ops->list(target, name_keep, &names, NULL);
    for (size_t at = 0; rc >= 0 && at < names.len; at += strlen((char *)names.data + at) + 1)
        if (kv_dir_remove(target, (char *)names.data + at, NULL) < 0)
            break;
    kv_buf_release(&names);
}

kv_status kv_checkpoint(struct kv_db *db, const char *path, struct kv_err *err)
{
    struct kv_pin pin = {0};
    struct kv_dir *target = NULL;
    bool began = false;
    kv_status rc;
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    KV_TRY(kv_pin_take(db, &pin, err)); /* also keeps another checkpoint out of the same directory */
    KV_TRY(target_open(db, path, &target, err));
    began = true;
    struct linking linking = {db->dir, target, err};
    KV_TRY(kv_pin_files(&pin, link_file, &linking));
    KV_TRY(kv_dir_sync_names(target, err));
    KV_TRY(kv_manifest_write_copy(target, db->env->clock, db->manifest.keys, &pin.state,
                                  kv_manifest_take_number(&db->manifest), err));
    KV_COUNT(db, checkpoints);
out:
    if (rc < 0 && began)
        target_clear(target);
    kv_pin_release(&pin);
    kv_dir_close(target);
    return rc < 0 ? rc : KV_OK;
}
