/*
 * A checkpoint: a moment is pinned (pin.h), its files are linked into the new directory, and its manifest is published last. Until that
 * the directory holds no database, and is marked as none (target.h).
 */
#include "kvcore/db/pin.h"
#include "kvcore/db/target.h"

struct linking {
    struct kv_dir *from, *to;
    struct kv_err *err;
};

static kv_status link_file(void *ctx, const struct kv_pin_file *file)
{
    struct linking *linking = ctx;
    return linking->from->ops->link(linking->from, file->name, linking->to, linking->err);
}

kv_status kv_checkpoint(struct kv_db *db, const char *path, struct kv_err *err)
{
    struct kv_pin pin = {0};
    struct kv_target target = {0};
    char name[32];
    kv_status rc;
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    KV_TRY(kv_pin_take(db, &pin, err));
    KV_TRY(kv_target_open(db->env->vfs, path, &target, err));
    struct linking linking = {db->dir, target.dir, err};
    KV_TRY(kv_pin_files(&pin, link_file, &linking));
    KV_TRY(kv_manifest_write_copy(target.dir, db->env->clock, db->manifest.keys, &pin.state,
                                  kv_manifest_take_number(&db->manifest), name, err));
    KV_TRY(kv_target_publish(&target, name, err));
    KV_COUNT(db, checkpoints);
out:
    kv_target_end(&target);
    kv_pin_release(&pin);
    return rc < 0 ? rc : KV_OK;
}
