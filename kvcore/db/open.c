/*
 * Opening and closing a database. In order: lease, manifest, tables, log replay into memtables, our own
 * manifest file, our own log file (which seals the older ones), committer, removal of orphans. Nothing is
 * written before the log was read without finding damage.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/follow.h"
#include "kvcore/db/large.h"
#include "kvcore/db/options.h"
#include "kvcore/db/target.h"

#include <inttypes.h>

/* ---- hooks of log and committer */

static kv_status hook_new_file(void *ctx, uint64_t *number, uint64_t *edit, struct kv_err *err)
{
    struct kv_db *db = ctx;
    (void)err;
    *number = kv_manifest_take_number(&db->manifest);
    kv_mutex_lock(&db->manifest_mutex);
    *edit = db->manifest.state.edit;
    kv_mutex_unlock(&db->manifest_mutex);
    return KV_OK;
}

static kv_status hook_seal(void *ctx, const struct kv_log_seal *seals, size_t n, uint64_t current,
                           const uint8_t current_uid[KV_FILE_UID_LEN], struct kv_err *err)
{
    struct kv_db *db = ctx;
    struct kv_edit edit = {0};
    for (size_t i = 0; i < n; i++) {
        kv_edit_seal(&edit, &seals[i]);
        kv_edit_last_seq(&edit, seals[i].last_seq);
    }
    kv_edit_log_current(&edit, current);
    if (current)
        kv_edit_log_uid(&edit, current, current_uid);
    kv_status rc = kv_db_commit_edit(db, &edit, err);
    kv_edit_release(&edit);
    return rc;
}

/* What a batch goes into, and what its entries mean. */
struct enter {
    struct kv_memtable *memtable;
    const struct kv_version *version; /* whose value log it points into; NULL: the current view's */
    const uint8_t *order;             /* the ids of the spaces by the place the batch's writer gave them */
    uint32_t n_order;
};

static kv_status enter_batch(struct kv_db *db, const struct enter *into, uint64_t seq, kv_slice batch,
                             struct kv_err *err)
{
    struct kv_batch_entry entry;
    kv_status rc;
    while ((rc = kv_batch_next(&batch, &entry)) == KV_OK) {
        if (entry.space >= into->n_order)
            return KV_CORRUPT;
        struct kv_entry add = {entry.key, seq, (enum kv_kind)entry.kind, entry.value};
        uint32_t space = into->order[entry.space];
        if (add.kind == KV_KIND_POINTER &&
            (rc = kv_large_logged(db, into->version, entry.value, seq, err)) < 0)
            return rc;
        rc = kv_memtable_add(into->memtable, space, &add);
        if (rc < 0)
            return rc;
        if (db->options.read_only)
            continue; /* nothing is flushed for it */
        if (add.kind == KV_KIND_DELETE)
            kv_db_note_deletion(db, space);
        else if (add.kind == KV_KIND_RANGE)
            kv_db_note_range(db, space, entry.key, entry.value);
    }
    return rc == KV_END ? KV_OK : rc;
}

static kv_status hook_apply(void *ctx, uint64_t seq, kv_slice batch)
{
    struct kv_db *db = ctx;
    struct enter into = {db->active, NULL, db->ids, db->n_declared};
    return enter_batch(db, &into, seq, batch, NULL);
}

static void hook_health(void *ctx, kv_status code, const char *text)
{
    struct kv_db *db = ctx;
    kv_logf(&db->env->log, code == KV_OK ? KV_LOG_INFO : KV_LOG_ERROR, "writing", "path=%s state=%s text=%s",
            KV_LOGQ(db->path), code == KV_OK ? "resumed" : kv_status_name(code), KV_LOGQ(text ? text : ""));
}

static kv_status replay_commit(void *ctx, uint64_t seq, kv_slice batch, kv_slice record, struct kv_err *err)
{
    struct kv_db *db = ctx;
    kv_status rc = KV_OK;
    (void)record; /* the application reads those itself */
    if (seq < db->manifest.state.log_floor || batch.len == 0)
        return KV_OK;
    if (kv_memtable_entries_all(db->active) > 0 &&
        kv_memtable_bytes(db->active) + batch.len > db->options.memtable_bytes)
        rc = kv_db_switch_memtable(db, err);
    return rc < 0 ? rc : kv_open_enter(db, db->active, NULL, seq, batch, err);
}

kv_status kv_open_enter(struct kv_db *db, struct kv_memtable *memtable, const struct kv_version *version,
                        uint64_t seq, kv_slice batch, struct kv_err *err)
{
    const struct kv_manifest_state *state = &db->manifest.state;
    struct enter into = {memtable, version, state->order, state->n_order};
    struct kv_err inner = {0};
    kv_status rc = enter_batch(db, &into, seq, batch, &inner);
    if (rc == KV_CORRUPT && !inner.text[0])
        return kv_fail(err, rc, 0, "commit %" PRIu64 " of the log does not fit manifest %s", seq,
                       db->manifest.name);
    return rc < 0 ? kv_fail(err, rc, 0, "replaying commit %" PRIu64 ": %s", seq,
                            inner.text[0] ? inner.text : kv_status_text(rc))
                  : KV_OK;
}

/* ---- what lies in the directory */

struct listing {
    struct kv_db *db;
    uint64_t number_max;
    size_t logs, tables, foreign;
    char foreign_name[72];
    struct kv_buf manifests; /* names, NUL-terminated */
};

static kv_status list_look(void *ctx, const char *name, uint64_t bytes)
{
    struct listing *list = ctx;
    uint64_t number;
    enum kv_file_kind_name kind;
    (void)bytes;
    if (!kv_file_name_parse(name, &number, &kind)) {
        if (strcmp(name, KV_RESERVE_NAME) != 0 && list->foreign++ == 0)
            memcpy(list->foreign_name, name, strnlen(name, sizeof list->foreign_name - 1) + 1);
        return KV_OK;
    }
    if (number > list->number_max)
        list->number_max = number;
    list->logs += kind == KV_NAME_LOG;
    list->tables += kind == KV_NAME_TABLE;
    return kind == KV_NAME_MANIFEST ? kv_buf_append(&list->manifests, kv_slice_of(name, strlen(name) + 1))
                                    : KV_OK;
}

/* No manifest is published: an empty directory, one whose creation was cut short, or something that is no
 * database. */
static kv_status check_creatable(struct kv_db *db, const struct listing *list, struct kv_err *err)
{
    if (db->options.must_exist || db->options.read_only)
        return kv_fail(err, KV_MISSING, 0, "%s holds no database", db->path);
    if (list->logs > 0 || list->tables > 0)
        return kv_fail(err, KV_CORRUPT, 0,
                       "%s: %zu log files and %zu tables, but no manifest is published: kvtool repair %s "
                       "makes one",
                       db->path, list->logs, list->tables, db->path);
    if (list->foreign > 0)
        return kv_fail(err, KV_INVALID, 0, "%s holds something else: %s", db->path, list->foreign_name);
    for (size_t at = 0; at < list->manifests.len; at += strlen((char *)list->manifests.data + at) + 1) {
        kv_status rc = kv_dir_remove(db->dir, (char *)list->manifests.data + at, err);
        if (rc < 0)
            return rc;
    }
    return KV_OK;
}

/* ---- the steps of an open */

static kv_status open_directory(struct kv_db *db, struct kv_err *err)
{
    bool create = !db->options.must_exist && !db->options.read_only;
    kv_status rc;
    KV_TRY(kv_vfs_dir_open(db->env->vfs, db->path, create, &db->dir, err));
    if (!db->options.follow)
        KV_TRY(db->dir->ops->lease(db->dir, db->options.read_only, &db->lease, err));
    KV_TRY(kv_target_refuse(db->dir, db->path, err));
out:
    return rc;
}

static void edit_identity(struct kv_db *db, struct kv_edit *edit)
{
    uint8_t seed[KV_UUID_LEN];
    kv_clock_entropy(db->env->clock, db->uuid, KV_UUID_LEN);
    kv_clock_entropy(db->env->clock, seed, sizeof seed);
    kv_edit_identity(edit, db->uuid, seed);
}

static bool key_due(struct kv_db *db)
{
    return kv_keyring_due(db->manifest.keys, kv_clock_wall_ms(db->env->clock), kv_db_data_key_ms(db),
                          db->options.data_key_blocks);
}

/* A key for what is new, or was plain until now; the first data key, or the next. */
static kv_status open_keys(struct kv_db *db, bool missing, struct kv_edit *edit, struct kv_err *err)
{
    struct kv_manifest *manifest = &db->manifest;
    if (db->options.read_only)
        return KV_OK;
    bool had = manifest->keys != NULL;
    kv_status rc = kv_manifest_encrypt(manifest, &db->options.key, db->uuid, err);
    if (rc < 0 || !manifest->keys)
        return rc;
    if (!had && !missing) {
        kv_edit_plain_below(edit, manifest->next_file);
        kv_keyring_plain_below(manifest->keys, manifest->next_file);
    }
    return key_due(db) ? kv_manifest_make_key(manifest, edit, err) : KV_OK;
}

/* Reads the manifest and prepares the edit that makes the database ours. */
static kv_status open_app_version(const struct kv_db *db, const struct kv_manifest_state *state, bool missing,
                                  struct kv_edit *edit, struct kv_err *err)
{
    uint32_t asked = db->options.app_version, stored = state->app_version;
    if (asked && missing)
        kv_edit_app_version(edit, asked);
    if (!asked || missing || asked == stored)
        return KV_OK;
    return kv_fail(err, stored > asked ? KV_TOO_NEW : KV_INVALID, 0,
                   "%s: the application's data has version %" PRIu32 ", and app_version asks for %" PRIu32
                   "%s",
                   db->path, stored, asked, stored > asked ? ": this program is too old for it" : "");
}

static kv_status open_manifest(struct kv_db *db, struct kv_edit *edit, struct kv_err *err)
{
    struct listing list = {.db = db};
    kv_status rc;
    kv_status (*load)(struct kv_manifest *, struct kv_dir *, struct kv_clock *, const struct kv_key_source *,
                      struct kv_err *) = db->follow ? kv_follow_load : kv_manifest_load;
    KV_TRY(load(&db->manifest, db->dir, db->env->clock, &db->options.key, err));
    bool missing = rc == KV_NOT_FOUND;
    KV_TRY(db->dir->ops->list(db->dir, list_look, &list, err));
    struct kv_manifest_state *state = &db->manifest.state;
    if (missing) {
        KV_TRY(check_creatable(db, &list, err));
        edit_identity(db, edit);
    } else {
        memcpy(db->uuid, state->uuid, KV_UUID_LEN);
    }
    if (db->manifest.next_file <= list.number_max)
        db->manifest.next_file = list.number_max + 1;
    KV_TRY(open_keys(db, missing, edit, err));
    db->owner_epoch = state->owner_epoch + 1;
    kv_edit_owner_epoch(edit, db->owner_epoch);
    KV_TRY(open_app_version(db, state, missing, edit, err));
    KV_TRY(kv_bans_load(&db->bans, kv_buf_slice(&state->bans)));
    KV_TRY(kv_options_match_spaces(&db->options, state, db->ids, db->spaces, edit, err));
    db->n_declared = (uint32_t)db->options.n_spaces;
    db->n_spaces = db->n_declared; /* all stored ones are declared */
    kv_retention_clock_init(&db->retention, db->env->clock, missing ? 0 : state->retention_ms);
    kv_jobs_init(db, state->job_done_ms);
out:
    kv_buf_release(&list.manifests);
    return rc;
}

kv_status kv_open_ranges(const struct kv_manifest_state *state, struct kv_version *version)
{
    struct kv_range *list = kv_alloc(state->n_ranges * sizeof *list);
    kv_status rc = list ? KV_OK : KV_NO_MEMORY;
    for (uint32_t space = 0; rc == KV_OK && space < version->n_spaces; space++) {
        struct kv_ranges *set = NULL;
        size_t n = 0;
        for (size_t i = 0; i < state->n_ranges; i++) {
            const struct kv_range_meta *range = state->ranges[i];
            if (range->space == space)
                list[n++] = (struct kv_range){range->lower, range->upper, range->version};
        }
        if (n > 0)
            rc = kv_ranges_new(list, n, &set);
        if (set)
            kv_version_set_ranges(version, space, set);
    }
    kv_free(list);
    return rc;
}

/* A damaged table lies aside, in the tree; and where tables may overlap, in the manifest. */
static kv_status open_table(struct kv_db *db, const struct kv_table_meta *meta, struct kv_tree_add *add,
                            struct kv_edit *edit, struct kv_err *err)
{
    *add = (struct kv_tree_add){.space = meta->space, .level = meta->level, .run = meta->run};
    kv_status rc = kv_db_open_table_or_aside(db, meta, &add->table, err);
    if (rc < 0 || !kv_table_damage(add->table))
        return rc;
    add->level = KV_LEVEL_ASIDE;
    if (meta->level > 0 && !db->options.read_only)
        kv_edit_move_table(edit, meta->number, 0);
    return rc;
}

static kv_status open_tables(struct kv_db *db, struct kv_edit *edit, struct kv_err *err)
{
    const struct kv_manifest_state *state = &db->manifest.state;
    struct kv_tree_add *adds = kv_zalloc(state->n_tables, sizeof *adds);
    struct kv_version *version = NULL;
    struct kv_memtable *memtable = NULL;
    struct kv_segment **segments = kv_zalloc(state->n_segments, sizeof(struct kv_segment *));
    size_t n = 0, n_segments = 0;
    kv_status rc = adds && segments ? KV_OK : KV_NO_MEMORY;
    for (; rc == KV_OK && n_segments < state->n_segments; n_segments++) {
        rc = kv_db_open_segment_or_damaged(db, &state->segments[n_segments], &segments[n_segments], err);
        if (rc == KV_OK) /* the log is still to be read */
            kv_segment_set_log_seq(segments[n_segments], KV_SEGMENT_HELD);
    }
    for (; rc == KV_OK && n < state->n_tables; n++)
        rc = open_table(db, state->tables[n], &adds[n], edit, err);
    KV_TRY(rc);
    struct kv_tree_change change = {.adds = adds,
                                    .n_adds = n,
                                    .segments = segments,
                                    .n_segments = n_segments,
                                    .log_floor = state->log_floor};
    KV_TRY(kv_version_make(NULL, db->n_spaces, db->spaces, &change, &version, err));
    version->reads = &db->reads;
    KV_TRY(kv_open_ranges(state, version));
    KV_TRY(kv_db_memtable_new(db, &memtable));
    KV_TRY(kv_view_first(version, memtable, &db->view));
    db->active = memtable;
    kv_db_press(db, version);
out:
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "%s: out of memory opening tables", db->path);
    kv_version_unref(version);
    kv_memtable_unref(memtable);
    for (size_t i = 0; adds && i < n; i++)
        kv_table_unref(adds[i].table);
    for (size_t i = 0; segments && i < n_segments; i++)
        kv_segment_unref(segments[i]);
    kv_free(segments);
    kv_free(adds);
    return rc;
}

static kv_status open_log(struct kv_db *db, struct kv_err *err)
{
    const struct kv_manifest_state *state = &db->manifest.state;
    struct kv_log_options options = {.dir = db->dir,
                                     .path = db->path,
                                     .clock = db->env->clock,
                                     .log = &db->env->log,
                                     .owner_epoch = db->owner_epoch,
                                     .keys = db->manifest.keys,
                                     .file_bytes = db->options.log_file_bytes,
                                     .forget_unsynced = db->options.durability == KV_DURABILITY_OS,
                                     .hooks = {db, hook_new_file, hook_seal}};
    memcpy(options.uuid, db->uuid, KV_UUID_LEN);
    struct kv_log_known known = kv_manifest_log_known(state);
    struct kv_log_replay replay = {.ctx = db, .commit = replay_commit};
    db->recovering = true;
    kv_status rc = kv_log_open(&options, &known, &replay, &db->log, err);
    db->recovering = false;
    if (rc < 0)
        return rc;
    kv_large_recovered(db);
    struct kv_log_stats stats;
    kv_log_stats(db->log, &stats);
    db->recovered_seq = stats.last_seq > state->last_seq ? stats.last_seq : state->last_seq;
    return KV_OK;
}

/* Batches in the log name spaces by their place in the writer's declaration. Before that changes, every put
 * of the log goes to tables. */
static kv_status open_space_order(struct kv_db *db, struct kv_err *err)
{
    const struct kv_manifest_state *state = &db->manifest.state;
    struct kv_edit edit = {0};
    struct kv_change change = {.edit = &edit};
    kv_status rc = KV_OK;
    if (state->n_order == db->n_declared && memcmp(state->order, db->ids, db->n_declared) == 0)
        return KV_OK;
    bool grown = state->n_order <= db->n_declared && memcmp(state->order, db->ids, state->n_order) == 0;
    if (!grown) {
        if (kv_memtable_entries_all(db->active) > 0)
            KV_TRY(kv_db_switch_memtable(db, err));
        while (rc == KV_OK && kv_flush_pending(db))
            KV_TRY(kv_flush_one(db, err));
    }
    kv_edit_space_order(&edit, db->ids, db->n_declared);
    KV_TRY(kv_db_change(db, &change, err));
out:
    kv_edit_release(&edit);
    return rc;
}

static void hook_committed(void *ctx, const struct kv_pending *pending)
{
    struct kv_db *db = ctx;
    for (struct kv_list *link = db->watches.next; link != &db->watches; link = link->next) {
        struct kv_watch *watch = KV_CONTAINER(link, struct kv_watch, link);
        watch->committed(watch, pending);
    }
}

static kv_status open_committer(struct kv_db *db, struct kv_err *err)
{
    struct kv_committer_options options = {.log = db->log,
                                           .dir = db->dir,
                                           .clock = db->env->clock,
                                           .logger = &db->env->log,
                                           .durability = db->options.durability,
                                           .sync_interval_ms = db->options.sync_interval_ms,
                                           .disk_reserve_bytes = db->options.disk_reserve_bytes,
                                           .no_thread = db->env->n_threads == 0,
                                           .n_spaces = db->n_declared,
                                           .hooks = {.ctx = db,
                                                     .room = kv_db_room,
                                                     .guarded = &db->bans.n,
                                                     .check = kv_bans_check_batch,
                                                     .apply = hook_apply,
                                                     .published = kv_db_published,
                                                     .committed = hook_committed,
                                                     .record = db->options.apply,
                                                     .record_ctx = db->options.apply_ctx,
                                                     .health = hook_health}};
    struct kv_committer *committer = NULL;
    kv_status rc = kv_committer_open(&options, &committer, err);
    if (rc < 0)
        return rc;
    kv_mutex_lock(&db->view_mutex);
    db->committer = committer;
    kv_mutex_unlock(&db->view_mutex);
    return KV_OK;
}

/* kv_memory_tenant.give */
static void give_memory(void *ctx)
{
    struct kv_db *db = ctx;
    db->give = true;
    kv_env_job_kick(db->env, &db->flush_job);
}

static kv_status open_for_writing(struct kv_db *db, struct kv_edit *edit, struct kv_err *err)
{
    kv_status rc;
    KV_TRY(kv_db_commit_edit(db, edit, err)); /* starts our own manifest file */
    KV_TRY(kv_log_start(db->log, err));
    KV_TRY(open_space_order(db, err));
    KV_TRY(kv_large_sweep(db, err));
    KV_TRY(open_committer(db, err));
    KV_TRY(kv_obsolete_sweep(db, err));
    kv_obsolete_log(db);
    kv_obsolete_trim_log(db);
    db->ready = true;
    db->tenant = (struct kv_memory_tenant){.give = give_memory, .ctx = db};
    kv_memory_join(&db->env->memory, &db->tenant);
    kv_db_kick(db);
out:
    return rc;
}

static struct kv_db *db_new(struct kv_env *env, const char *path, const struct kv_options *options)
{
    struct kv_db *db = kv_zalloc(1, sizeof *db);
    if (!db)
        return NULL;
    db->env = env;
    db->options = *options;
    db->path = kv_dup_str(path);
    kv_mutex_init(&db->flush_mutex);
    kv_mutex_init(&db->merge_mutex);
    kv_mutex_init(&db->manifest_mutex);
    kv_mutex_init(&db->view_mutex);
    kv_mutex_init(&db->obsolete_mutex);
    kv_mutex_init(&db->checkpoint_mutex);
    kv_bans_init(&db->bans);
    kv_cond_init(&db->view_changed);
    kv_cond_init(&db->claims_changed);
    kv_list_init(&db->watches);
    kv_list_init(&db->views_left);
    kv_schedule_init(db);
    kv_mutex_init(&db->jobs.mutex);
    kv_watermark_init(&db->watermark);
    kv_env_job_init(&db->flush_job, false, 1, kv_db_flush_job, db);
    kv_env_job_init(&db->merge_job, true, KV_ENV_THREADS_MAX, kv_db_merge_job, db);
    return db;
}

/* Everything but log and committer, which the caller has closed. */
static void db_free(struct kv_db *db)
{
    kv_follow_free(db->follow);
    kv_view_unref(db->view);
    kv_manifest_close(&db->manifest);
    if (db->lease)
        db->dir->ops->lease_release(db->dir, db->lease);
    kv_dir_close(db->dir);
    kv_reads_release(&db->reads);
    kv_retention_clock_release(&db->retention);
    kv_watermark_release(&db->watermark);
    kv_cond_release(&db->view_changed);
    kv_cond_release(&db->claims_changed);
    kv_mutex_release(&db->checkpoint_mutex);
    kv_bans_release(&db->bans);
    kv_mutex_release(&db->obsolete_mutex);
    kv_mutex_release(&db->view_mutex);
    kv_mutex_release(&db->manifest_mutex);
    kv_mutex_release(&db->merge_mutex);
    kv_mutex_release(&db->flush_mutex);
    kv_mutex_release(&db->jobs.mutex);
    kv_schedule_release(db);
    kv_free(db->obsolete);
    kv_free(db->path);
    kv_free(db);
}

enum { CLOSE_REPLAY_MAX = 4 << 20 }; /* bytes of memtables that the next open may be left to replay */

/* An open in an instant finds little to replay: what is more goes to tables now. A failure loses nothing. */
static void close_flush(struct kv_db *db)
{
    struct kv_err err = {0};
    size_t bytes = 0;
    if (!db->committer || db->env->in_memory)
        return;
    kv_mutex_lock(&db->view_mutex);
    for (size_t i = 0; i < db->view->n_mem; i++)
        bytes += kv_memtable_bytes(db->view->mem[i]);
    kv_mutex_unlock(&db->view_mutex);
    if (bytes > CLOSE_REPLAY_MAX && kv_flush(db, &err) < 0)
        kv_logf(&db->env->log, KV_LOG_WARN, "close_flush_failed", "path=%s error=%s", KV_LOGQ(db->path),
                KV_LOGQ(err.text));
}

kv_status kv_close(struct kv_db *db, struct kv_err *err)
{
    if (!db)
        return KV_OK;
    if (db->ready)
        close_flush(db);
    KV_ASSERT(atomic_load(&db->pins) == 0); /* snapshots, iterators and bulk loads must be gone */
    kv_mutex_lock(&db->view_mutex);
    db->closing = true; /* merges stop early; a commit that waits for room makes it itself */
    kv_cond_broadcast(&db->view_changed);
    kv_mutex_unlock(&db->view_mutex);
    kv_schedule_stop(db);
    kv_memory_leave(&db->env->memory, &db->tenant);
    kv_env_job_stop(db->env, &db->flush_job);
    kv_env_job_stop(db->env, &db->merge_job);
    kv_status rc = kv_committer_close(db->committer, err);
    db->committer = NULL;
    kv_status closed = kv_log_close(db->log, rc < 0 ? NULL : err);
    db_free(db);
    return rc < 0 ? rc : closed < 0 ? closed : KV_OK;
}

kv_status kv_open(struct kv_env *env, const char *path, const struct kv_options *asked, struct kv_db **out,
                  struct kv_err *err)
{
    struct kv_options options;
    struct kv_edit edit = {0};
    uint64_t began = kv_clock_mono_ns(env->clock);
    kv_status rc = kv_options_resolve(asked, &options, err);
    if (rc < 0)
        return rc;
    struct kv_db *db = db_new(env, path, &options);
    if (!db || !db->path || kv_reads_init(&db->reads, options.n_spaces * KV_LEVELS_MAX) < 0) {
        if (db)
            db_free(db);
        return kv_fail(err, KV_NO_MEMORY, 0, "%s: out of memory", path);
    }
    if (options.follow && (rc = kv_follow_new(db, &db->follow)) < 0)
        KV_TRY(kv_fail(err, rc, 0, "%s: out of memory", path));
    KV_TRY(open_directory(db, err));
    KV_TRY(open_manifest(db, &edit, err));
    if (db->follow) {
        KV_TRY(kv_follow_refresh(db, NULL, err));
    } else {
        KV_TRY(open_tables(db, &edit, err));
        KV_TRY(open_log(db, err));
    }
    size_t n_tables = db->manifest.state.n_tables;
    if (!options.read_only)
        KV_TRY(open_for_writing(db, &edit, err));
    db->options.spaces = NULL;
    db->options.key = (struct kv_key_source){0}; /* the caller's, for this call only */
    kv_logf(&env->log, KV_LOG_INFO, "opened", "path=%s seq=%" PRIu64 " tables=%zu took_ms=%" PRIu64,
            KV_LOGQ(db->path), kv_db_visible(db), n_tables, (kv_clock_mono_ns(env->clock) - began) / 1000000);
    *out = db;
out:
    kv_edit_release(&edit);
    if (rc < 0) {
        kv_status closed = kv_close(db, NULL);
        (void)closed;
        return rc;
    }
    return KV_OK;
}
