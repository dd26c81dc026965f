/*
 * A checkpoint: the log is rolled, so that everything answered lies in sealed files; then tables and sealed log files are linked into
 * the new directory, and its manifest is published last. Until that the directory holds no database.
 */
#include "kvcore/db/db.h"

struct checkpoint {
    struct kv_db *db;
    struct kv_dir *target;
    struct kv_view *view;           /* pins the tables */
    struct kv_manifest_state state; /* a copy */
};

static kv_status refuse_file(void *ctx, const char *name, uint64_t bytes)
{
    (void)ctx, (void)name, (void)bytes;
    return KV_EXISTS;
}

/* A directory left empty by an earlier try is as good as none. */
static kv_status target_open(struct checkpoint *c, const char *path, struct kv_err *err)
{
    struct kv_buf published = {.max = 256};
    uint64_t generation;
    kv_status rc;
    KV_TRY(kv_vfs_dir_open(c->db->env->vfs, path, true, &c->target, err));
    KV_TRY(c->target->ops->published(c->target, &published, &generation, err));
    rc = rc == KV_NOT_FOUND ? c->target->ops->list(c->target, refuse_file, NULL, err) : KV_EXISTS;
    if (rc == KV_EXISTS)
        kv_fail(err, rc, 0, "%s exists already and is not empty", path);
out:
    kv_buf_release(&published);
    return rc < 0 ? rc : KV_OK;
}

/* As the leader: no commit is under way. */
static kv_status capture(void *ctx, uint64_t seq, struct kv_err *err)
{
    struct checkpoint *c = ctx;
    struct kv_db *db = c->db;
    struct kv_edit snapshot = {0};
    uint64_t visible;
    kv_status rc;
    (void)seq;
    KV_TRY(kv_log_roll(db->log, err));
    kv_mutex_lock(&db->manifest_mutex);
    kv_edit_snapshot(&snapshot, &db->manifest.state);
    c->state.edit = db->manifest.state.edit;
    c->view = kv_view_pin(db, &visible); /* under manifest_mutex: exactly the manifest's tables */
    kv_mutex_unlock(&db->manifest_mutex);
    KV_TRY(snapshot.rc);
    KV_TRY(kv_manifest_apply(&c->state, kv_buf_slice(&snapshot.fields), err));
    c->state.log_current = 0; /* its copy has only sealed files */
out:
    kv_edit_release(&snapshot);
    return rc;
}

static kv_status link_files(struct checkpoint *c, struct kv_err *err)
{
    struct kv_dir *dir = c->db->dir;
    char name[32];
    kv_status rc = KV_OK;
    for (size_t i = 0; i < c->state.n_tables; i++) {
        kv_file_name(name, c->state.tables[i]->number, KV_NAME_TABLE);
        KV_TRY(dir->ops->link(dir, name, c->target, err));
    }
    for (size_t i = 0; i < c->state.n_seals; i++) {
        if (c->state.seals[i].number < c->state.log_first)
            continue;
        kv_file_name(name, c->state.seals[i].number, KV_NAME_LOG);
        KV_TRY(dir->ops->link(dir, name, c->target, err));
    }
    KV_TRY(kv_dir_sync_names(c->target, err));
out:
    return rc;
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
    struct checkpoint c = {.db = db};
    bool began = false;
    kv_status rc;
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    kv_mutex_lock(&db->checkpoint_mutex); /* log files stay until it is done */
    KV_TRY(target_open(&c, path, err));
    began = true;
    KV_TRY(kv_committer_exclusive(db->committer, false, capture, &c, err));
    KV_TRY(link_files(&c, err));
    KV_TRY(kv_manifest_write_copy(c.target, db->env->clock, &c.state, kv_manifest_take_number(&db->manifest),
                                  err));
    KV_COUNT(db, checkpoints);
out:
    if (rc < 0 && began)
        target_clear(c.target);
    kv_mutex_unlock(&db->checkpoint_mutex);
    kv_view_unref(c.view);
    kv_manifest_state_release(&c.state);
    kv_dir_close(c.target);
    if (rc == KV_OK)
        kv_obsolete_trim_log(db);
    return rc < 0 ? rc : KV_OK;
}
