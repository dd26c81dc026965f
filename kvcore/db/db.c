/* The everyday calls: commit, get, and what they lean on. Opening and closing: open.c. */
#include "kvcore/base/mem.h"
#include "kvcore/db/db.h"
#include "kvcore/db/records.h"
#include "kvcore/db/trace.h"
#include "kvcore/sst/attrs.h"
#include "kvcore/sst/block.h"

#include <inttypes.h>

kv_status kv_db_open_table(struct kv_db *db, const struct kv_table_meta *meta, struct kv_table **out,
                           struct kv_err *err)
{
    char name[32];
    kv_file_name(name, meta->number, KV_NAME_TABLE);
    struct kv_table_open_options options = {.dir = db->dir,
                                            .name = name,
                                            .cache = db->env->cache,
                                            .log = &db->env->log,
                                            .keys = db->manifest.keys,
                                            .db_uuid = db->uuid,
                                            .uid = meta->uid,
                                            .file_bytes = meta->bytes,
                                            .version = meta->bulk_version,
                                            .gone = kv_obsolete_gone,
                                            .gone_ctx = db,
                                            .number = meta->number,
                                            .reads = &db->reads};
    kv_status rc = kv_table_open(&options, out, err);
    if (rc == KV_MISSING)
        return kv_fail(err, KV_CORRUPT, 0, "%s/%s: the table is missing", db->path, name);
    return rc;
}

kv_status kv_db_open_segment(struct kv_db *db, const struct kv_segment_meta *meta, struct kv_segment **out,
                             struct kv_err *err)
{
    char name[32];
    kv_file_name(name, meta->number, KV_NAME_SEGMENT);
    struct kv_segment_open_options options = {.dir = db->dir,
                                              .name = name,
                                              .cache = db->env->cache,
                                              .log = &db->env->log,
                                              .keys = db->manifest.keys,
                                              .db_uuid = db->uuid,
                                              .uid = meta->uid,
                                              .file_bytes = meta->bytes,
                                              .number = meta->number,
                                              .gone = kv_obsolete_segment_gone,
                                              .gone_ctx = db};
    kv_status rc = kv_segment_open(&options, out, err);
    if (rc == KV_MISSING)
        return kv_fail(err, KV_CORRUPT, 0, "%s/%s: the value log segment is missing", db->path, name);
    return rc;
}

void kv_db_kick(struct kv_db *db)
{
    if (!db->ready)
        return;
    kv_env_job_kick(db->env, &db->flush_job);
    kv_env_job_kick(db->env, &db->merge_job);
}

void kv_db_work_failed(struct kv_db *db, enum kv_job job, const struct kv_err *err)
{
    kv_job_ended(db, job, err->code, err);
    kv_logf(&db->env->log, KV_LOG_ERROR, "background_failed", "what=%s code=%s error=%s", kv_job_name(job),
            kv_status_name(err->code), KV_LOGQ(err->text));
    kv_mutex_lock(&db->view_mutex);
    db->work_err = *err;
    kv_mutex_unlock(&db->view_mutex);
}

/* ---- writing */

/* Range deletions of a space that wait to be applied, in tables and memtables. */
static kv_status commit_check_ranges(struct kv_db *db, uint32_t declared, struct kv_err *err)
{
    uint64_t visible, n = 0;
    uint32_t space = db->ids[declared];
    struct kv_view *view = kv_view_pin(db, &visible);
    const struct kv_ranges *ranges = view->version->trees[space].ranges;
    n = kv_ranges_count(ranges);
    size_t bytes = kv_ranges_bytes(ranges);
    for (size_t i = 0; i < view->n_mem; i++)
        n += kv_memtable_range_count(view->mem[i], space);
    kv_view_unref(view);
    if (n < KV_RANGES_MAX && bytes < KV_RANGES_BYTES_MAX)
        return KV_OK;
    return kv_fail(err, KV_LIMIT, 0,
                   "space %s: %" PRIu64
                   " range deletions (%zu bytes of keys) wait to be applied, at most %d (%d "
                   "bytes): merge the space first, or delete key by key",
                   db->spaces[space].name, n, bytes, KV_RANGES_MAX, KV_RANGES_BYTES_MAX);
}

kv_status kv_db_check_batch(struct kv_db *db, const struct kv_batch *batch, struct kv_err *err)
{
    struct kv_batch_kinds kinds = kv_batch_kinds(batch);
    kv_status rc = KV_OK;
    if (!(kinds.rich | kinds.merge | kinds.range))
        return KV_OK;
    for (uint32_t i = 0; i < db->n_declared && rc == KV_OK; i++) {
        const struct kv_space *how = &db->spaces[db->ids[i]];
        uint32_t bit = (uint32_t)1 << i;
        if (how->hook && (kinds.rich & bit))
            rc = kv_fail(err, KV_INVALID, 0, "space %s has a hook: puts have no attributes there", how->name);
        else if (!how->merge && (kinds.merge & bit))
            rc = kv_fail(err, KV_INVALID, 0, "space %s has no merge operator", how->name);
        else if (kinds.range & bit)
            rc = commit_check_ranges(db, i, err);
    }
    return rc;
}

kv_status kv_commit(struct kv_db *db, struct kv_batch *batch, const struct kv_commit_options *options,
                    uint64_t *seq, struct kv_err *err)
{
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    kv_status rc = batch ? kv_db_check_batch(db, batch, err) : KV_OK;
    if (rc < 0)
        return rc;
    if (!kv_tracing(db))
        return kv_committer_commit(db->committer, batch, options, seq, err);
    struct kv_trace_span span;
    kv_trace_begin(db, &span, "commit", KV_SPACE_ALL, (kv_slice){0}, batch ? kv_batch_count(batch) : 0);
    rc = kv_committer_commit(db->committer, batch, options, seq, err);
    span.op.value_bytes = (batch ? kv_batch_payload(batch) : 0) + (options ? options->record.len : 0);
    return kv_trace_end(db, &span, rc);
}

kv_status kv_commit_async(struct kv_db *db, struct kv_batch *batch, const struct kv_commit_options *options,
                          kv_committed_fn done, void *done_ctx, struct kv_err *err)
{
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    if (!done)
        return kv_fail(err, KV_INVALID, 0, "a commit that nobody waits for needs a callback (done)");
    kv_status rc = batch ? kv_db_check_batch(db, batch, err) : KV_OK;
    if (rc < 0)
        return rc;
    struct kv_trace_span span;
    kv_trace_begin(db, &span, "commit_async", KV_SPACE_ALL, (kv_slice){0}, batch ? kv_batch_count(batch) : 0);
    span.op.value_bytes = (batch ? kv_batch_payload(batch) : 0) + (options ? options->record.len : 0);
    rc = kv_committer_commit_async(db->committer, batch, options, NULL, done, done_ctx, err);
    return kv_trace_end(db, &span, rc);
}

kv_status kv_sync(struct kv_db *db, struct kv_err *err)
{
    struct kv_trace_span span;
    kv_trace_begin(db, &span, "sync", KV_SPACE_ALL, (kv_slice){0}, 0);
    return kv_trace_end(db, &span, db->committer ? kv_committer_sync(db->committer, err) : KV_OK);
}

/* ---- reading */

enum { PIN_NONE, PIN_BLOCK, PIN_MEMTABLE, PIN_HEAP };

/* An iterator over the key alone, on it: KV_OK or KV_NOT_FOUND. *out is to be closed in any case. */
static kv_status get_iter(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t declared,
                          kv_slice key, bool keys_only, struct kv_iter **out, struct kv_err *err)
{
    struct kv_iter_options options = {.snapshot = snapshot, .lower = key, .keys_only = keys_only};
    struct kv_buf upper = {0};
    kv_status rc = kv_buf_append(&upper, key);
    if (rc == KV_OK)
        rc = kv_buf_append_byte(&upper, 0);
    if (upper.len <= KV_KEY_LEN_MAX)
        options.upper = kv_buf_slice(&upper);
    if (rc == KV_OK)
        rc = kv_iter_open_over(db, declared, &options, NULL, out, err);
    if (rc == KV_OK)
        rc = kv_iter_seek(*out, key);
    kv_buf_release(&upper);
    return rc == KV_END || (rc == KV_OK && !kv_slice_equal((*out)->key, key)) ? KV_NOT_FOUND : rc;
}

/* Read by an iterator over its key alone, and copied. */
static kv_status get_folded(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t declared,
                            kv_slice key, struct kv_pinned *out, struct kv_err *err)
{
    struct kv_iter *it = NULL;
    kv_status rc = get_iter(db, snapshot, declared, key, false, &it, err);
    if (rc == KV_OK)
        rc = kv_pinned_copy(it->value, out);
    if (rc == KV_OK) {
        out->version = it->version;
        out->expires_at_s = it->expires_at_s;
        out->meta = it->meta;
    }
    kv_iter_close(it);
    return rc;
}

kv_status kv_stored_bytes(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t space, kv_slice key,
                          uint64_t *bytes, struct kv_err *err)
{
    struct kv_iter *it = NULL;
    struct kv_err inner = {.code = KV_OK};
    *bytes = 0;
    if (!kv_space_known(db, space) || key.len < 1 || key.len > KV_KEY_LEN_MAX)
        return kv_fail(err, KV_INVALID, 0, "space %" PRIu32 " or a key of %zu bytes does not exist", space,
                       key.len);
    kv_status rc = get_iter(db, snapshot, space, key, true, &it, &inner);
    if (rc == KV_OK)
        *bytes = it->stored_bytes;
    else if (rc < 0)
        kv_fail(err, rc, 0, "space %s: the size of a value could not be found: %.150s",
                db->spaces[db->ids[space]].name, inner.text[0] ? inner.text : kv_status_text(rc));
    kv_iter_close(it);
    return rc;
}

/* A value that no entry holds as it is. */
static kv_status get_made(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t space, kv_slice key,
                          struct kv_pinned *out, struct kv_err *err)
{
    struct kv_err inner = {.code = KV_OK};
    kv_status rc = get_folded(db, snapshot, space, key, out, &inner);
    return rc < 0 ? kv_fail(err, rc, 0, "space %s: the operands of the key could not be folded: %.150s",
                            db->spaces[db->ids[space]].name, inner.text[0] ? inner.text : kv_status_text(rc))
                  : rc;
}

/* What was found is a put: takes the attributes off its value. KV_NOT_FOUND: it has expired. */
static kv_status get_attributes(struct kv_db *db, struct kv_found *found, struct kv_attrs *attrs)
{
    if (found->kind == KV_KIND_PUT)
        return KV_OK;
    kv_status rc = kv_attrs_take(&found->value, attrs);
    if (rc == KV_OK && attrs->expires_at_s &&
        kv_attrs_expired(attrs, (uint64_t)kv_db_retention_now(db) / 1000))
        return KV_NOT_FOUND;
    return rc;
}

/* The value lies in the value log: its block takes the place of the table's. */
static kv_status get_apart(struct kv_db *db, const struct kv_view *view, struct kv_found *found,
                           struct kv_place *place, struct kv_err *err)
{
    kv_slice rest = found->value;
    if (place && kv_pointer_take(&rest, &place->pointer) == KV_OK && place->pointer.value_len) {
        const struct kv_value_segment *at = kv_values_find(&view->version->values, place->pointer.segment);
        if (at) { /* else the read below says what is wrong */
            place->segment = kv_segment_ref(at->segment);
            found->value = (kv_slice){0};
            return KV_OK;
        }
    }
    struct kv_block *block = NULL;
    kv_status rc = kv_values_fetch(&view->version->values, found->value, true, &block, err);
    if (rc < 0)
        return rc;
    kv_block_unref(found->block);
    found->block = block;
    found->value = block->bytes;
    struct kv_reads_stripe *mine = kv_reads_mine(&db->reads);
    kv_reads_add(&mine->values, 1);
    kv_reads_add(&mine->value_bytes, block->bytes.len);
    return KV_OK;
}

/* from: the memtable that has an entry, or NULL. */
static void get_count_memtables(struct kv_db *db, const struct kv_view *view, const struct kv_memtable *from)
{
    struct kv_reads_stripe *mine = kv_reads_mine(&db->reads);
    size_t more = 0;
    while (more + 1 < view->n_mem && view->mem[more] != from)
        more++;
    kv_reads_add(&mine->memtables_more, more);
    if (from)
        kv_reads_add(&mine->memtable_hits, 1);
}

static void get_count_in_vain(struct kv_db *db, bool had_an_entry)
{
    struct kv_reads_stripe *mine = kv_reads_mine(&db->reads);
    kv_reads_add(had_an_entry ? &mine->hidden : &mine->nowhere, 1);
}

/* *made: the value has to be made of several entries. */
static kv_status get_in(struct kv_db *db, struct kv_view *view, uint64_t version, uint32_t space,
                        kv_slice key, struct kv_pinned *out, bool *made, struct kv_place *place,
                        struct kv_err *err)
{
    struct kv_found found = {0};
    struct kv_attrs attrs = {0};
    struct kv_memtable *from = NULL;
    bool have = false;
    for (size_t i = 0; i < view->n_mem && !have; i++)
        if (kv_memtable_get(view->mem[i], space, key, version, &found) == KV_OK) {
            from = view->mem[i];
            have = true;
        }
    if (have || view->n_mem > 1)
        get_count_memtables(db, view, from);
    kv_status rc = kv_version_get(view->version, space, &db->spaces[space], key, version, &found, &have, err);
    if (rc == KV_OK && (!have || found.kind == KV_KIND_DELETE ||
                        (kv_view_has_ranges(view, space) &&
                         kv_view_range_newest(view, space, key, version) > found.version)))
        rc = KV_NOT_FOUND;
    *made = rc == KV_OK && found.kind == KV_KIND_MERGE;
    if (rc == KV_OK && !*made && (rc = get_attributes(db, &found, &attrs)) < 0)
        kv_fail(err, rc, 0, "space %s: an entry of the key has attributes that cannot be read: %s",
                db->spaces[space].name, kv_status_text(rc));
    if (rc == KV_OK && found.kind == KV_KIND_POINTER)
        rc = get_apart(db, view, &found, place, err);
    if (rc != KV_OK || *made) {
        kv_block_unref(found.block);
        if (!*made)
            get_count_in_vain(db, have);
        return rc;
    }
    *out = (struct kv_pinned){.value = found.value,
                              .version = found.version,
                              .expires_at_s = attrs.expires_at_s,
                              .meta = attrs.meta};
    out->pin = found.block ? (void *)found.block : kv_memtable_ref(from);
    out->kind = found.block ? PIN_BLOCK : PIN_MEMTABLE;
    return KV_OK;
}

static kv_status get(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t space, kv_slice key,
                     struct kv_pinned *out, struct kv_place *place, struct kv_err *err)
{
    *out = (struct kv_pinned){0};
    if (!kv_space_known(db, space) || key.len < 1 || key.len > KV_KEY_LEN_MAX)
        return kv_fail(err, KV_INVALID, 0, "space %" PRIu32 " or a key of %zu bytes does not exist", space,
                       key.len);
    uint64_t version;
    struct kv_view *view = kv_snapshot_view(db, snapshot, &version);
    bool made;
    kv_status rc = get_in(db, view, version, db->ids[space], key, out, &made, place, err);
    kv_view_unref(view);
    if (made)
        rc = get_made(db, snapshot, space, key, out, err);
    if (made && rc != KV_OK)
        get_count_in_vain(db, true);
    return rc;
}

kv_status kv_get(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t space, kv_slice key,
                 struct kv_pinned *out, struct kv_err *err)
{
    if (!kv_tracing(db))
        return get(db, snapshot, space, key, out, NULL, err);
    struct kv_trace_span span;
    kv_trace_begin(db, &span, "get", kv_space_known(db, space) ? db->ids[space] : KV_SPACE_ALL, key, 0);
    kv_status rc = get(db, snapshot, space, key, out, NULL, err);
    span.op.found = rc == KV_OK;
    span.op.value_bytes = out->value.len;
    return kv_trace_end(db, &span, rc);
}

kv_status kv_db_get_place(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t space, kv_slice key,
                          struct kv_pinned *out, struct kv_place *place, struct kv_err *err)
{
    *place = (struct kv_place){0};
    return get(db, snapshot, space, key, out, place, err);
}

void kv_pinned_memtable(struct kv_memtable *memtable, kv_slice value, struct kv_pinned *out)
{
    *out = (struct kv_pinned){.value = value, .pin = kv_memtable_ref(memtable), .kind = PIN_MEMTABLE};
}

kv_status kv_pinned_copy(kv_slice value, struct kv_pinned *out)
{
    uint8_t *copy = kv_alloc(value.len);
    if (!copy)
        return KV_NO_MEMORY;
    if (value.len)
        memcpy(copy, value.data, value.len);
    *out = (struct kv_pinned){.value = kv_slice_of(copy, value.len), .pin = copy, .kind = PIN_HEAP};
    return KV_OK;
}

void kv_pinned_release(struct kv_pinned *pinned)
{
    if (pinned->kind == PIN_BLOCK)
        kv_block_unref(pinned->pin);
    else if (pinned->kind == PIN_MEMTABLE)
        kv_memtable_unref(pinned->pin);
    else if (pinned->kind == PIN_HEAP)
        kv_free(pinned->pin);
    *pinned = (struct kv_pinned){0};
}

/* ---- background work */

/* One piece: flushes first. KV_END: nothing waits. */
static kv_status work_one(struct kv_db *db, struct kv_err *err)
{
    if (!db->committer)
        return KV_END;
    kv_status rc = kv_flush_give(db, err);
    if (rc < 0)
        return rc;
    rc = kv_flush_pending(db) ? kv_flush_one(db, err) : KV_END;
    if (rc != KV_END)
        return rc;
    rc = kv_merge_one(db, err);
    return rc == KV_END ? kv_schedule_work(db, err) : rc;
}

/* Both: after a failure when kicked again. */
bool kv_db_flush_job(void *ctx)
{
    struct kv_db *db = ctx;
    struct kv_err err;
    if (!db->committer || kv_flush_give(db, &err) < 0 || !kv_flush_pending(db) ||
        kv_flush_one(db, &err) != KV_OK)
        return false;
    kv_env_job_kick(db->env, &db->merge_job);
    return true;
}

bool kv_db_merge_job(void *ctx)
{
    struct kv_db *db = ctx;
    struct kv_err err;
    return db->committer && kv_merge_one(db, &err) == KV_OK;
}

kv_status kv_work(struct kv_db *db, struct kv_err *err)
{
    if (db->env->n_threads > 0)
        return kv_fail(err, KV_INVALID, 0, "kv_work is for environments without threads");
    if (db->committer) {
        kv_status rc = kv_committer_tick(db->committer, err);
        if (rc == KV_OK)
            rc = kv_committer_work(db->committer);
        if (rc != KV_END)
            return rc;
    }
    return work_one(db, err);
}

/* ---- records */

kv_status kv_records_open(struct kv_db *db, struct kv_records **out, struct kv_err *err)
{
    if (db->follow)
        return kv_fail(err, KV_UNSUPPORTED, 0, "%s: a follower has no application records", db->path);
    kv_status rc = kv_log_records_open(db->log, out);
    return rc < 0 ? kv_fail(err, rc, 0, "out of memory opening a cursor over the log") : rc;
}

/* ---- insight */

uint64_t kv_seq(struct kv_db *db)
{
    return kv_db_visible(db);
}

void kv_uuid(struct kv_db *db, uint8_t uuid[16])
{
    memcpy(uuid, db->uuid, KV_UUID_LEN);
}

int64_t kv_retention_clock_ms(struct kv_db *db)
{
    return kv_db_retention_now(db);
}

kv_status kv_retention_clock_accept(struct kv_db *db, struct kv_err *err)
{
    struct kv_edit edit = {0};
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    kv_retention_clock_take(&db->retention);
    kv_status rc = kv_db_commit_edit(db, &edit, err);
    kv_edit_release(&edit);
    return rc;
}

kv_status kv_health(struct kv_db *db, struct kv_err *err)
{
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    return kv_committer_health(db->committer, err);
}

kv_status kv_set_app_version(struct kv_db *db, uint32_t version, struct kv_err *err)
{
    struct kv_edit edit = {0};
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    kv_edit_app_version(&edit, version);
    kv_status rc = kv_db_commit_edit(db, &edit, err);
    kv_edit_release(&edit);
    return rc;
}

uint32_t kv_app_version(struct kv_db *db)
{
    kv_mutex_lock(&db->manifest_mutex);
    uint32_t version = db->manifest.state.app_version;
    kv_mutex_unlock(&db->manifest_mutex);
    return version;
}

kv_status kv_space_stats(struct kv_db *db, uint32_t space, struct kv_space_stats *out)
{
    uint64_t visible;
    if (!kv_space_known(db, space))
        return KV_INVALID;
    struct kv_view *view = kv_view_pin(db, &visible);
    const struct kv_tree *tree = &view->version->trees[db->ids[space]];
    *out = (struct kv_space_stats){
        .tables = tree->n_items, .table_bytes = tree->bytes, .entries = tree->entries};
    for (size_t i = 0; i < tree->n_cuts; i++)
        if (tree->cuts[i].n_runs > out->runs_max)
            out->runs_max = tree->cuts[i].n_runs;
    kv_view_unref(view);
    return KV_OK;
}

uint64_t kv_disk_bytes(struct kv_db *db)
{
    struct kv_log_stats log;
    uint64_t visible, bytes;
    kv_log_stats(db->log, &log);
    kv_mutex_lock(&db->manifest_mutex);
    bytes = log.file_bytes + db->manifest.offset;
    kv_mutex_unlock(&db->manifest_mutex);
    struct kv_view *view = kv_view_pin(db, &visible);
    for (uint32_t i = 0; i < view->version->n_spaces; i++)
        bytes += view->version->trees[i].bytes;
    for (size_t i = 0; i < view->version->values.n; i++)
        bytes += kv_segment_bytes(view->version->values.list[i].segment);
    kv_view_unref(view);
    return bytes;
}
