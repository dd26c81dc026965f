/* Files nobody needs any more: dropped tables go with their last reader, log files with the floors, orphans
 * at open. */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/db.h"

#include <inttypes.h>

kv_status kv_obsolete_reserve(struct kv_db *db, size_t n)
{
    kv_mutex_lock(&db->obsolete_mutex);
    size_t need = db->n_obsolete + db->obsolete_reserved + n;
    uint64_t *grown = kv_grow(db->obsolete, &db->obsolete_capacity, need, sizeof *grown);
    if (grown) {
        db->obsolete = grown;
        db->obsolete_reserved += n;
    }
    kv_mutex_unlock(&db->obsolete_mutex);
    return grown ? KV_OK : KV_NO_MEMORY;
}

void kv_obsolete_unreserve(struct kv_db *db, size_t n)
{
    kv_mutex_lock(&db->obsolete_mutex);
    db->obsolete_reserved -= n;
    kv_mutex_unlock(&db->obsolete_mutex);
}

void kv_obsolete_add(struct kv_db *db, uint64_t number)
{
    kv_mutex_lock(&db->obsolete_mutex);
    KV_ASSERT(db->obsolete_reserved > 0);
    db->obsolete_reserved--;
    db->obsolete[db->n_obsolete++] = number;
    kv_mutex_unlock(&db->obsolete_mutex);
}

static bool obsolete_take(struct kv_db *db, uint64_t number)
{
    bool found = false;
    kv_mutex_lock(&db->obsolete_mutex);
    for (size_t i = 0; i < db->n_obsolete && !found; i++)
        if (db->obsolete[i] == number) {
            db->obsolete[i] = db->obsolete[--db->n_obsolete];
            found = true;
        }
    kv_mutex_unlock(&db->obsolete_mutex);
    return found;
}

static void remove_file(struct kv_db *db, const char *name)
{
    struct kv_err err;
    kv_status rc = kv_dir_remove(db->dir, name, &err);
    if (rc == KV_OK)
        KV_COUNT(db, obsolete_removed);
    else if (rc != KV_MISSING) /* it stays as an orphan, which the next open removes */
        kv_logf(&db->env->log, KV_LOG_WARN, "remove_failed", "file=%s error=%s", name, KV_LOGQ(err.text));
}

static void obsolete_gone(struct kv_db *db, uint64_t number, enum kv_file_kind_name kind)
{
    char name[32];
    if (!obsolete_take(db, number))
        return;
    kv_file_name(name, number, kind);
    remove_file(db, name);
}

void kv_obsolete_gone(void *db, uint64_t number)
{
    obsolete_gone(db, number, KV_NAME_TABLE);
}

void kv_obsolete_segment_gone(void *db, uint64_t number)
{
    obsolete_gone(db, number, KV_NAME_SEGMENT);
}

void kv_obsolete_trim_log(struct kv_db *db)
{
    struct kv_err err = {0};
    if (!kv_mutex_try_lock(&db->checkpoint_mutex))
        return; /* a checkpoint is linking log files: the next change trims */
    kv_mutex_lock(&db->manifest_mutex);
    uint64_t first = db->manifest.state.log_first;
    kv_mutex_unlock(&db->manifest_mutex);
    kv_status rc = kv_log_trim_below(db->log, first, &err);
    kv_job_ended(db, KV_JOB_LOG_TRIM, rc, &err);
    if (rc < 0)
        kv_logf(&db->env->log, KV_LOG_WARN, "log_trim_failed", "error=%s", KV_LOGQ(err.text));
    kv_mutex_unlock(&db->checkpoint_mutex);
}

/* ---- the log file being written */

struct current_log {
    uint64_t bytes, last_seq, last_record_seq;
};

static kv_status note_current(void *ctx, const struct kv_log_seal *file, bool sealed)
{
    struct current_log *current = ctx;
    *current = (struct current_log){0};
    if (!sealed)
        *current = (struct current_log){file->valid_len, file->last_seq, file->last_record_seq};
    return KV_OK;
}

/* Is the file being written worth leaving: large for what it still holds, which is nothing? */
static bool current_is_idle(struct kv_db *db)
{
    struct current_log current = {0};
    if (kv_log_files(db->log, note_current, &current) < 0 || current.bytes < db->options.log_file_bytes / 64)
        return false;
    kv_mutex_lock(&db->manifest_mutex);
    bool idle = current.last_seq < kv_db_log_floor(db, NULL) &&
                current.last_record_seq < db->manifest.state.app_floor;
    kv_mutex_unlock(&db->manifest_mutex);
    return idle;
}

static kv_status leave_current(void *ctx, uint64_t seq, struct kv_err *err)
{
    struct kv_db *db = ctx;
    (void)seq;
    return current_is_idle(db) ? kv_log_roll(db->log, err) : KV_OK;
}

void kv_obsolete_log(struct kv_db *db)
{
    struct kv_err err = {0};
    struct kv_edit edit = {0};
    struct kv_change change = {.edit = &edit};
    kv_status rc = KV_OK;
    if (current_is_idle(db))
        KV_TRY(kv_committer_exclusive(db->committer, false, leave_current, db, &err));
    kv_mutex_lock(&db->manifest_mutex);
    const struct kv_manifest_state *state = &db->manifest.state;
    bool more = kv_log_first_needed(db->log, kv_db_log_floor(db, NULL), state->app_floor) > state->log_first;
    kv_mutex_unlock(&db->manifest_mutex);
    if (more)
        rc = kv_db_change(db, &change, &err); /* moves the floors, then trims */
out:
    if (rc < 0)
        kv_job_ended(db, KV_JOB_LOG_TRIM, rc, &err);
    if (rc < 0) /* the files stay a while longer, that is all */
        kv_logf(&db->env->log, KV_LOG_WARN, "log_trim_failed", "error=%s", KV_LOGQ(err.text));
    kv_edit_release(&edit);
}

/* ---- orphans */

struct sweep {
    struct kv_db *db;
    struct kv_buf
        names; /* NUL-terminated, one behind another: removing while listing is not promised to work */
};

static kv_status sweep_look(void *ctx, const char *name, uint64_t bytes)
{
    struct sweep *sweep = ctx;
    struct kv_db *db = sweep->db;
    uint64_t number;
    enum kv_file_kind_name kind;
    (void)bytes;
    if (!kv_file_name_parse(name, &number, &kind)) {
        if (strcmp(name, KV_RESERVE_NAME) != 0)
            kv_logf(&db->env->log, KV_LOG_WARN, "foreign_file", "path=%s file=%s", KV_LOGQ(db->path),
                    KV_LOGQ(name));
        return KV_OK;
    }
    bool ours = kind == KV_NAME_LOG || /* the log sees to its own */
                (kind == KV_NAME_TABLE && kv_manifest_table(&db->manifest.state, number)) ||
                (kind == KV_NAME_SEGMENT && kv_manifest_segment(&db->manifest.state, number)) ||
                (kind == KV_NAME_MANIFEST && strcmp(name, db->manifest.name) == 0);
    return ours ? KV_OK : kv_buf_append(&sweep->names, kv_slice_of(name, strlen(name) + 1));
}

kv_status kv_obsolete_sweep(struct kv_db *db, struct kv_err *err)
{
    struct sweep sweep = {.db = db};
    kv_status rc = db->dir->ops->list(db->dir, sweep_look, &sweep, err);
    if (rc >= 0)
        for (size_t at = 0; at < sweep.names.len; at += strlen((char *)sweep.names.data + at) + 1)
            remove_file(db, (char *)sweep.names.data + at);
    kv_buf_release(&sweep.names);
    return rc < 0 ? rc : KV_OK;
}
