/* Backups of a whole store. What is copied, and why that is everything: tsdb/docs/backup.md. */
#include "tsdb/key.h"
#include "tsdb/ts.h"

kv_status ts_backup(struct ts_db *db, const struct kv_backup_options *options, bool flush_head,
                    struct kv_backup_info *info, struct kv_err *err)
{
    if (err)
        *err = (struct kv_err){0};
    kv_status rc = flush_head ? ts_flush(db, false, err) : KV_OK;
    return rc < 0 ? rc : kv_backup(ts_kv(db), options, info, err);
}

/* The files of a store without what tsdb keeps in memory over them: no samples are read back. */
static kv_status open_files(struct kv_env *env, const char *path, struct kv_db **out, struct kv_err *err)
{
    struct kv_space_options spaces[TS_SPACES];
    const struct kv_options options = {
        .spaces = spaces, .n_spaces = TS_SPACES, .read_only = true, .must_exist = true};
    ts_spaces_fill(spaces, NULL);
    return kv_open(env, path, &options, out, err);
}

kv_status ts_backup_closed(struct kv_env *env, const char *path, const struct kv_backup_options *options,
                           struct kv_backup_info *info, struct kv_err *err)
{
    struct kv_db *files = NULL;
    if (err)
        *err = (struct kv_err){0};
    kv_status rc = open_files(env, path, &files, err);
    if (rc < 0)
        return rc;
    rc = kv_backup(files, options, info, err);
    kv_status closed = kv_close(files, rc < 0 ? NULL : err);
    return rc < 0 ? rc : closed;
}

kv_status ts_restore(struct kv_env *env, const char *path, const struct kv_restore_options *options,
                     struct kv_backup_info *info, struct kv_err *err)
{
    struct kv_db *files = NULL;
    struct kv_err why = {0};
    if (err)
        *err = (struct kv_err){0};
    kv_status rc = kv_restore(env, path, options, info, err);
    if (rc < 0)
        return rc;
    rc = open_files(env, path, &files, &why);
    if (rc == KV_OK)
        rc = kv_close(files, &why);
    return rc < 0
               ? kv_fail(err, rc, why.sys, "%s was restored, but is no store of samples: %s", path, why.text)
               : KV_OK;
}
