#include "kvcore/db/salvage.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/env.h"
#include "kvcore/db/log.h"
#include "kvcore/db/logged.h"
#include "kvcore/db/manifest.h"
#include "kvcore/db/target.h"

#include <inttypes.h>

struct salvage {
    struct kv_dir *dir, *aside;
    struct kv_lease *lease;
    struct kv_manifest manifest;
    bool replaced; /* the edit that gives up the old files is durable */
    struct kv_env *env;
    uint64_t seen, number_max, values_lost;
    struct kv_err *err; /* where set_aside tells its failure */
};

static kv_status salvage_new_file(void *ctx, uint64_t *number, uint64_t *edit, struct kv_err *err)
{
    struct salvage *s = ctx;
    (void)err;
    *number = kv_manifest_take_number(&s->manifest);
    *edit = s->manifest.state.edit;
    return KV_OK;
}

/* The first seal edit puts the new file in the place of all old ones; those of closing are as always. */
static kv_status salvage_seal(void *ctx, const struct kv_log_seal *seals, size_t n, uint64_t current,
                              const uint8_t current_uid[KV_FILE_UID_LEN], struct kv_err *err)
{
    struct salvage *s = ctx;
    struct kv_edit edit = {0};
    if (!s->replaced)
        kv_edit_log_floor(&edit, s->manifest.state.log_floor, current);
    for (size_t i = 0; i < n; i++) {
        kv_edit_seal(&edit, &seals[i]);
        kv_edit_last_seq(&edit, seals[i].last_seq);
    }
    kv_edit_log_current(&edit, current);
    if (current)
        kv_edit_log_uid(&edit, current, current_uid);
    kv_status rc = kv_manifest_commit(&s->manifest, &edit, err);
    kv_edit_release(&edit);
    s->replaced |= rc == KV_OK;
    return rc;
}

static kv_status count_commit(void *ctx, uint64_t seq, kv_slice batch, kv_slice record, struct kv_err *err)
{
    struct salvage *s = ctx;
    (void)seq, (void)batch, (void)record, (void)err;
    s->seen++;
    return KV_OK;
}

/* A large value is lost: what is left of it is kept beside the logs. */
static kv_status lost_value(void *ctx, kv_slice key, uint64_t segment, const char *why, struct kv_err *err)
{
    struct salvage *s = ctx;
    char name[32], quoted[48];
    kv_file_name(name, segment, KV_NAME_SEGMENT);
    s->values_lost++;
    kv_logf(&s->env->log, KV_LOG_ERROR, "log_damage", "key=%s text=%s",
            kv_log_quote(key, quoted, sizeof quoted), KV_LOGQ(why));
    kv_status rc = s->dir->ops->link(s->dir, name, s->aside, err);
    return rc == KV_EXISTS || rc == KV_MISSING ? KV_OK : rc;
}

static kv_status mend_commit(void *ctx, uint64_t seq, kv_slice batch, struct kv_buf *out, struct kv_err *err)
{
    struct salvage *s = ctx;
    const struct kv_logged_mend mend = {s->env, s->dir, &s->manifest, lost_value, s};
    (void)seq;
    kv_status rc = kv_logged_mend_batch(&mend, batch, out, err);
    return rc == KV_OK && s->values_lost ? kv_dir_sync_names(s->aside, err) : rc;
}

/* A log file is written once and its number never used again: what an interrupted salvage set aside is the same file. */
static kv_status set_aside(void *ctx, const char *name, uint64_t bytes)
{
    struct salvage *s = ctx;
    uint64_t number;
    enum kv_file_kind_name kind;
    (void)bytes;
    if (!kv_file_name_parse(name, &number, &kind))
        return KV_OK;
    if (number > s->number_max)
        s->number_max = number;
    if (kind != KV_NAME_LOG)
        return KV_OK;
    kv_status rc = s->dir->ops->link(s->dir, name, s->aside, s->err);
    return rc == KV_EXISTS ? KV_OK : rc;
}

static kv_status salvage_aside(struct salvage *s, struct kv_env *env, const char *path, struct kv_err *err)
{
    struct kv_buf aside = {0};
    kv_status rc;
    KV_TRY(kv_buf_printf(&aside, "%s.damaged", path));
    KV_TRY(kv_buf_append_byte(&aside, 0));
    KV_TRY(kv_vfs_dir_open(env->vfs, (char *)aside.data, true, &s->aside, err));
    s->err = err;
    KV_TRY(s->dir->ops->list(s->dir, set_aside, s, err));
    KV_TRY(kv_dir_sync_names(s->aside, err));
out:
    kv_buf_release(&aside);
    return rc;
}

static kv_status salvage_log(struct salvage *s, struct kv_env *env, const char *path,
                             struct kv_salvage_report *report, struct kv_err *err)
{
    const struct kv_manifest_state *state = &s->manifest.state;
    struct kv_log *log = NULL;
    struct kv_edit epoch = {0};
    struct kv_log_options options = {.dir = s->dir,
                                     .path = path,
                                     .clock = env->clock,
                                     .log = &env->log,
                                     .owner_epoch = state->owner_epoch + 1,
                                     .keys = s->manifest.keys,
                                     .hooks = {s, salvage_new_file, salvage_seal}};
    struct kv_log_known known = kv_manifest_log_known(state);
    struct kv_log_replay replay = {.ctx = s, .commit = count_commit, .mend = mend_commit};
    struct kv_log_stats stats;
    kv_status rc;
    known.salvage = true;
    memcpy(options.uuid, state->uuid, KV_UUID_LEN);
    KV_TRY(kv_log_open(&options, &known, &replay, &log, err));
    kv_log_stats(log, &stats);
    *report = (struct kv_salvage_report){.kept = s->seen, .lost = stats.lost, .values_lost = s->values_lost};
    kv_edit_owner_epoch(&epoch, state->owner_epoch + 1);
    KV_TRY(kv_manifest_commit(&s->manifest, &epoch, err));
    KV_TRY(kv_log_start(log, err));
out:
    kv_edit_release(&epoch);
    kv_status closed = kv_log_close(log, rc < 0 ? NULL : err);
    return rc < 0 ? rc : closed;
}

kv_status kv_salvage(struct kv_env *env, const char *path, const struct kv_key_source *key,
                     struct kv_salvage_report *report, struct kv_err *err)
{
    struct salvage s = {.env = env};
    kv_status rc;
    KV_TRY(kv_vfs_dir_open(env->vfs, path, false, &s.dir, err));
    KV_TRY(s.dir->ops->lease(s.dir, false, &s.lease, err));
    KV_TRY(kv_target_refuse(s.dir, path, err));
    KV_TRY(kv_manifest_load(&s.manifest, s.dir, env->clock, key, err));
    if (rc == KV_NOT_FOUND) {
        rc = kv_fail(err, KV_MISSING, 0, "%s holds no database", path);
        goto out;
    }
    KV_TRY(salvage_aside(&s, env, path, err));
    if (s.manifest.next_file <= s.number_max)
        s.manifest.next_file = s.number_max + 1;
    KV_TRY(salvage_log(&s, env, path, report, err));
out:
    kv_manifest_close(&s.manifest);
    if (s.lease)
        s.dir->ops->lease_release(s.dir, s.lease);
    kv_dir_close(s.aside);
    kv_dir_close(s.dir);
    return rc;
}
