/* New keys while a database is open. What keys are and where they lie: kvcore/docs/encryption.md. */
#include "kvcore/db/keys.h"
#include "kvcore/db/db.h"
#include "kvcore/db/target.h"

#include <inttypes.h>

int64_t kv_db_data_key_ms(const struct kv_db *db)
{
    return (int64_t)db->options.data_key_days * 24 * 3600 * 1000;
}

/* Making a key and committing it are one step under the manifest's lock, so that no rotation of the master key comes
 * between. */
static kv_status make_data_key(struct kv_db *db, struct kv_err *err)
{
    struct kv_edit edit = {0};
    kv_status rc;
    kv_edit_retention(&edit, kv_db_retention_now(db));
    kv_mutex_lock(&db->manifest_mutex);
    KV_TRY(kv_manifest_make_key(&db->manifest, &edit, err));
    KV_TRY(kv_manifest_commit(&db->manifest, &edit, err));
out:
    kv_mutex_unlock(&db->manifest_mutex);
    kv_edit_release(&edit);
    if (rc == KV_OK)
        kv_logf(&db->env->log, KV_LOG_INFO, "data_key_made", "path=%s id=%" PRIu64, KV_LOGQ(db->path),
                kv_keyring_current(db->manifest.keys));
    return rc;
}

void kv_db_renew_data_key(struct kv_db *db)
{
    struct kv_err err = {0};
    struct kv_keyring *keys = db->manifest.keys;
    if (keys &&
        kv_keyring_due(keys, kv_clock_wall_ms(db->env->clock), kv_db_data_key_ms(db),
                       db->options.data_key_blocks) &&
        make_data_key(db, &err) < 0)
        kv_logf(&db->env->log, KV_LOG_WARN, "data_key_not_made", "path=%s error=%s", KV_LOGQ(db->path),
                KV_LOGQ(err.text));
}

static kv_status keys_check(struct kv_db *db, struct kv_err *err)
{
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    if (!db->manifest.keys)
        return kv_fail(err, KV_UNSUPPORTED, 0, "%s is not encrypted", db->path);
    return KV_OK;
}

kv_status kv_rotate_data_key(struct kv_db *db, struct kv_err *err)
{
    kv_status rc = keys_check(db, err);
    return rc < 0 ? rc : make_data_key(db, err);
}

kv_status kv_rotate_master_key(struct kv_db *db, const uint8_t key[KV_MASTER_KEY_LEN], struct kv_err *err)
{
    kv_status rc = keys_check(db, err);
    if (rc < 0)
        return rc;
    kv_mutex_lock(&db->manifest_mutex);
    uint64_t before = kv_keyring_master(db->manifest.keys);
    rc = kv_manifest_rekey(&db->manifest, key, err);
    uint64_t after = kv_keyring_master(db->manifest.keys);
    kv_mutex_unlock(&db->manifest_mutex);
    if (rc == KV_OK)
        kv_logf(&db->env->log, KV_LOG_INFO, "master_key_rotated",
                "path=%s from=%016" PRIx64 " to=%016" PRIx64, KV_LOGQ(db->path), before, after);
    return rc;
}

/* ---- closed */

static kv_status note_number(void *ctx, const char *name, uint64_t bytes)
{
    uint64_t *newest = ctx, number;
    enum kv_file_kind_name kind;
    (void)bytes;
    if (kv_file_name_parse(name, &number, &kind) && number > *newest)
        *newest = number;
    return KV_OK;
}

kv_status kv_rotate_closed(struct kv_env *env, const char *path, const struct kv_key_source *source,
                           const uint8_t next[KV_MASTER_KEY_LEN], struct kv_err *err)
{
    struct kv_dir *dir = NULL;
    struct kv_lease *lease = NULL;
    struct kv_manifest manifest = {0};
    uint64_t newest = 0;
    kv_status rc;
    KV_TRY(kv_vfs_dir_open(env->vfs, path, false, &dir, err));
    KV_TRY(dir->ops->lease(dir, false, &lease, err));
    KV_TRY(kv_target_refuse(dir, path, err));
    KV_TRY(kv_manifest_load(&manifest, dir, env->clock, source, err));
    if (rc == KV_NOT_FOUND) {
        rc = kv_fail(err, KV_MISSING, 0, "%s holds no database", path);
        goto out;
    }
    if (!manifest.keys) {
        rc = kv_fail(err, KV_UNSUPPORTED, 0, "%s is not encrypted", path);
        goto out;
    }
    KV_TRY(dir->ops->list(dir, note_number, &newest,
                          err)); /* numbers of files the manifest never heard of are taken */
    if (manifest.next_file <= newest)
        manifest.next_file = newest + 1;
    KV_TRY(kv_manifest_rekey(&manifest, next, err));
out:
    kv_manifest_close(&manifest);
    if (lease)
        dir->ops->lease_release(dir, lease);
    kv_dir_close(dir);
    return rc;
}
