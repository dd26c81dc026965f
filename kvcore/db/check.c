/*
 * kv_check: reads every file of a closed database. Manifest: frames, edits, what they add up to. Tables: every block, order, index,
 * filter, properties (kv_table_verify), and that they are what the manifest says; tables of one run or level do not overlap. Log: every record, as
 * recovery would read it. Orphans are told, they are no damage.
 */
#include "kvcore/base/mem.h"
#include "kvcore/db/batch.h"
#include "kvcore/db/env.h"
#include "kvcore/db/manifest.h"
#include "kvcore/db/target.h"
#include "kvcore/db/values.h"
#include "kvcore/sst/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct check {
    struct kv_env *env;
    const char *path;
    struct kv_dir *dir;
    struct kv_lease *lease;
    const struct kv_key_source *key;
    struct kv_manifest manifest;
    struct kv_values values; /* the segments that could be opened */
    void (*each)(void *ctx, kv_status severity, const char *line);
    void *ctx;
    kv_status worst; /* the first kind of finding */
    char first[200]; /* and its line */
    uint64_t findings;
    uint64_t commits, puts, records, record_bytes;
};

static void check_line(struct check *c, kv_status severity, const char *format, ...) KV_PRINTF(3, 4);
static void check_line(struct check *c, kv_status severity, const char *format, ...)
{
    char line[400];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (severity < 0) {
        if (c->findings++ == 0) {
            c->worst = severity;
            snprintf(c->first, sizeof c->first, "%.199s", line);
        }
    }
    if (c->each)
        c->each(c->ctx, severity, line);
}

/* Out of memory, failing disks and missing keys are not findings about the database: they end the check. */
static bool ends_check(kv_status rc)
{
    return rc == KV_NO_MEMORY || rc == KV_IO || rc == KV_LIMIT || rc == KV_WRONG_KEY;
}

/* ---- tables */

static const char *meta_differs(const struct kv_table_meta *meta, const struct kv_table_properties *p)
{
    return p->space != meta->space                        ? "space"
           : p->entries != meta->entries                  ? "number of entries"
           : p->deletes != meta->deletions                ? "number of deletions"
           : p->version_min != meta->version_min          ? "smallest version"
           : p->version_max != meta->version_max          ? "largest version"
           : !kv_slice_equal(p->smallest, meta->smallest) ? "smallest key"
           : !kv_slice_equal(p->largest, meta->largest)   ? "largest key"
                                                          : NULL;
}

/* Every value that the table points at; and that the pointers come to what its properties say. */
static kv_status check_values(struct check *c, const char *name, struct kv_table *table, struct kv_err *err)
{
    struct kv_table_iter_options all = {.no_fill = true, .err = err};
    struct kv_entry_iter *it = NULL;
    uint64_t number, bytes, said = 0, seen = 0;
    kv_slice refs = kv_table_properties(table)->value_refs;
    if (refs.len == 0)
        return KV_OK;
    while (kv_take_varint(&refs, &number) == KV_OK && kv_take_varint(&refs, &bytes) == KV_OK)
        said += bytes;
    kv_status rc = kv_table_iter_open(table, &all, &it);
    if (rc < 0)
        return rc;
    for (rc = kv_entry_iter_seek(it, (kv_slice){0}, KV_VERSION_MAX); rc == KV_OK;
         rc = kv_entry_iter_next(it)) {
        struct kv_attrs attrs;
        struct kv_pointer pointer = {0};
        kv_slice at = it->value, rest;
        if (it->kind != KV_KIND_POINTER)
            continue;
        KV_TRY(kv_attrs_take(&at, &attrs));
        rest = at;
        KV_TRY(kv_pointer_take(&rest, &pointer));
        seen += pointer.len;
        rc = kv_values_verify(&c->values, at, err);
        if (ends_check(rc))
            goto out;
        if (rc < 0)
            check_line(c, rc, "%s: %s", name, err->text);
    }
    if (seen != said)
        check_line(c, KV_CORRUPT, "%s: pointers to %" PRIu64 " bytes of values, not %" PRIu64, name, seen,
                   said);
out:
    kv_entry_iter_close(it);
    return rc == KV_END ? KV_OK : rc;
}

static kv_status check_segments(struct check *c, struct kv_err *err)
{
    const struct kv_manifest_state *state = &c->manifest.state;
    c->values.list = kv_zalloc(state->n_segments, sizeof *c->values.list);
    if (!c->values.list)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory checking the value log");
    for (size_t i = 0; i < state->n_segments; i++) {
        const struct kv_segment_meta *meta = &state->segments[i];
        struct kv_err local = {0};
        char name[32];
        kv_file_name(name, meta->number, KV_NAME_SEGMENT);
        struct kv_segment_open_options options = {.dir = c->dir,
                                                  .name = name,
                                                  .cache = c->env->cache,
                                                  .keys = c->manifest.keys,
                                                  .db_uuid = state->uuid,
                                                  .uid = meta->uid,
                                                  .file_bytes = meta->bytes,
                                                  .number = meta->number};
        struct kv_value_segment *at = &c->values.list[c->values.n];
        kv_status rc = kv_segment_open(&options, &at->segment, &local);
        if (ends_check(rc)) {
            kv_err_copy(err, &local);
            return rc;
        }
        if (rc < 0) {
            check_line(c, rc == KV_MISSING ? KV_CORRUPT : rc, "%s: %s", name, local.text);
            continue;
        }
        c->values.n++;
        check_line(c, KV_OK, "%s: ok bytes=%" PRIu64, name, meta->bytes);
    }
    return KV_OK;
}

static kv_status check_table(struct check *c, const struct kv_table_meta *meta, struct kv_err *err)
{
    char name[32];
    struct kv_table *table = NULL;
    struct kv_err local = {0};
    kv_file_name(name, meta->number, KV_NAME_TABLE);
    struct kv_table_open_options options = {.dir = c->dir,
                                            .name = name,
                                            .cache = c->env->cache,
                                            .keys = c->manifest.keys,
                                            .db_uuid = c->manifest.state.uuid,
                                            .uid = meta->uid,
                                            .file_bytes = meta->bytes,
                                            .version = meta->bulk_version,
                                            .number = meta->number};
    kv_status rc = kv_table_open(&options, &table, &local);
    if (rc == KV_OK) {
        const char *differs = meta_differs(meta, kv_table_properties(table));
        if (differs)
            check_line(c, KV_CORRUPT, "%s: the %s is not what the manifest says", name, differs);
        rc = kv_table_verify(table, &local);
        if (rc == KV_OK)
            rc = check_values(c, name, table, &local);
    }
    kv_table_unref(table);
    if (ends_check(rc)) {
        kv_err_copy(err, &local);
        return rc;
    }
    if (rc < 0)
        check_line(c, rc == KV_MISSING ? KV_CORRUPT : rc, "%s: %s", name, local.text);
    else
        check_line(c, KV_OK, "%s: ok space=%s entries=%" PRIu64 " bytes=%" PRIu64, name,
                   c->manifest.state.spaces[meta->space].name, meta->entries, meta->bytes);
    return KV_OK;
}

static int order_metas(const void *a, const void *b)
{
    const struct kv_table_meta *x = *(struct kv_table_meta *const *)a, *y = *(struct kv_table_meta *const *)b;
    if (x->space != y->space)
        return x->space < y->space ? -1 : 1;
    if (x->level != y->level)
        return x->level < y->level ? -1 : 1;
    if (x->level == 0 && x->run != y->run)
        return x->run < y->run ? -1 : 1;
    return kv_slice_compare(x->smallest, y->smallest);
}

/* One on level 0 is what one flush, load or merge wrote; a level from 1 on is one. */
static bool same_run(const struct kv_table_meta *x, const struct kv_table_meta *y)
{
    return x->space == y->space && x->level == y->level && (x->level > 0 || x->run == y->run);
}

static kv_status check_tables(struct check *c, struct kv_err *err)
{
    size_t n = c->manifest.state.n_tables;
    struct kv_table_meta **metas = kv_alloc(n * sizeof(struct kv_table_meta *));
    if (!metas)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory checking tables");
    for (size_t i = 0; i < n; i++)
        metas[i] = c->manifest.state.tables[i];
    if (n > 1)
        qsort(metas, n, sizeof(struct kv_table_meta *), order_metas);
    kv_status rc = KV_OK;
    for (size_t i = 0; i < n && rc == KV_OK; i++) {
        if (i > 0 && same_run(metas[i], metas[i - 1]) &&
            kv_slice_compare(metas[i]->smallest, metas[i - 1]->largest) <= 0)
            check_line(c, KV_CORRUPT,
                       "tables %06" PRIu64 " and %06" PRIu64 " of level %" PRIu32 ", run %" PRIu64 " overlap",
                       metas[i - 1]->number, metas[i]->number, metas[i]->level, metas[i]->run);
        rc = check_table(c, metas[i], err);
    }
    kv_free(metas);
    return rc;
}

/* ---- log */

/* A large value that the log names and no table has to. */
static kv_status check_logged_value(struct check *c, uint64_t seq, kv_slice value, struct kv_err *err)
{
    struct kv_attrs attrs;
    struct kv_err local = {0};
    kv_status rc = kv_attrs_take(&value, &attrs);
    if (rc < 0)
        kv_fail(&local, rc, 0, "an entry with bad attributes");
    else
        rc = kv_values_verify(&c->values, value, &local);
    if (ends_check(rc)) {
        kv_err_copy(err, &local);
        return rc;
    }
    if (rc < 0)
        check_line(c, rc, "commit %" PRIu64 ": %s", seq, local.text);
    return KV_OK;
}

static kv_status check_commit(void *ctx, uint64_t seq, kv_slice batch, kv_slice record, struct kv_err *err)
{
    struct check *c = ctx;
    struct kv_batch_entry entry;
    kv_status rc;
    c->commits++;
    c->records += record.len > 0;
    c->record_bytes += record.len;
    while ((rc = kv_batch_next(&batch, &entry)) == KV_OK) {
        c->puts++;
        if (entry.space >= c->manifest.state.n_order)
            check_line(c, KV_CORRUPT,
                       "commit %" PRIu64 " of the log names space %" PRIu32
                       ", which manifest %s does not have",
                       seq, entry.space, c->manifest.name);
        if (entry.kind == KV_KIND_POINTER && seq >= c->manifest.state.log_floor) {
            kv_status valid = check_logged_value(c, seq, entry.value, err);
            if (valid < 0)
                return valid;
        }
    }
    if (rc < 0 && rc != KV_TOO_NEW)
        check_line(c, KV_CORRUPT, "commit %" PRIu64 ": its batch is malformed", seq);
    return rc == KV_TOO_NEW ? kv_fail(err, rc, 0, "commit %" PRIu64 " was written by a newer version", seq)
                            : KV_OK;
}

static kv_status check_log_file(void *ctx, const struct kv_log_seal *file, bool sealed)
{
    check_line(ctx, KV_OK, "%06" PRIu64 ".log: ok %s bytes=%" PRIu64 " last_seq=%" PRIu64, file->number,
               sealed ? "sealed" : "open", file->valid_len, file->last_seq);
    return KV_OK;
}

static kv_status check_log(struct check *c, struct kv_err *err)
{
    const struct kv_manifest_state *state = &c->manifest.state;
    struct kv_log_options options = {.dir = c->dir,
                                     .path = c->path,
                                     .clock = c->env->clock,
                                     .log = &c->env->log,
                                     .keys = c->manifest.keys};
    struct kv_log_known known = kv_manifest_log_known(state);
    struct kv_log_replay replay = {.ctx = c, .commit = check_commit};
    struct kv_log *log = NULL;
    struct kv_err local = {0};
    memcpy(options.uuid, state->uuid, KV_UUID_LEN);
    kv_status rc = kv_log_open(&options, &known, &replay, &log, &local);
    if (rc < 0) {
        if (ends_check(rc)) {
            kv_err_copy(err, &local);
            return rc;
        }
        check_line(c, rc, "%s", local.text);
        return KV_OK;
    }
    struct kv_log_stats stats;
    kv_log_stats(log, &stats);
    rc = kv_log_files(log, check_log_file, c);
    check_line(c, KV_OK,
               "log: commits=%" PRIu64 " puts=%" PRIu64 " records=%" PRIu64 " record_bytes=%" PRIu64
               " last_seq=%" PRIu64 " torn_bytes=%" PRIu64 "%s",
               c->commits, c->puts, c->records, c->record_bytes, stats.last_seq, stats.torn_bytes,
               stats.tail_unproven ? " (of the last group a crash cannot be told from damage)" : "");
    kv_status closed = kv_log_close(log, NULL);
    (void)closed; /* nothing was written */
    return rc;
}

/* ---- orphans */

static kv_status check_name(void *ctx, const char *name, uint64_t bytes)
{
    struct check *c = ctx;
    uint64_t number;
    enum kv_file_kind_name kind;
    const struct kv_manifest_state *state = &c->manifest.state;
    if (!kv_file_name_parse(name, &number, &kind)) {
        if (strcmp(name, "reserve") != 0)
            check_line(c, KV_OK, "%s: foreign file, ignored", name);
        return KV_OK;
    }
    bool known = kind == KV_NAME_TABLE     ? kv_manifest_table(state, number) != NULL
                 : kind == KV_NAME_SEGMENT ? kv_manifest_segment(state, number) != NULL
                 : kind == KV_NAME_MANIFEST
                     ? strcmp(name, c->manifest.name) == 0
                     : number == state->log_current || kv_manifest_seal_of(state, number);
    if (!known)
        check_line(c, KV_OK, "%s: orphan of %" PRIu64 " bytes, removed by the next open", name, bytes);
    return KV_OK;
}

/* ---- all of it */

static kv_status check_all(struct check *c, struct kv_err *err)
{
    struct kv_err local = {0};
    kv_status rc = kv_manifest_load(&c->manifest, c->dir, c->env->clock, c->key, &local);
    if (rc == KV_NOT_FOUND)
        return kv_fail(err, KV_MISSING, 0, "%s holds no database", c->path);
    if (rc < 0) {
        if (ends_check(rc)) {
            kv_err_copy(err, &local);
            return rc;
        }
        check_line(c, rc, "%s", local.text);
        return KV_OK;
    }
    const struct kv_manifest_state *state = &c->manifest.state;
    check_line(
        c, KV_OK,
        "%s: ok edit=%" PRIu64 " spaces=%" PRIu32 " tables=%zu app_floor=%" PRIu64 " log_floor=%" PRIu64,
        c->manifest.name, state->edit, state->n_spaces, state->n_tables, state->app_floor, state->log_floor);
    KV_TRY(check_segments(c, err));
    KV_TRY(check_tables(c, err));
    KV_TRY(check_log(c, err));
    KV_TRY(c->dir->ops->list(c->dir, check_name, c, err));
out:
    return rc < 0 ? rc : KV_OK;
}

kv_status kv_check_with_key(struct kv_env *env, const char *path, const struct kv_key_source *key,
                            void (*each)(void *ctx, kv_status severity, const char *line), void *ctx,
                            struct kv_err *err)
{
    struct check c = {.env = env, .path = path, .key = key, .each = each, .ctx = ctx};
    kv_status rc;
    KV_TRY(kv_vfs_dir_open(env->vfs, path, false, &c.dir, err));
    KV_TRY(c.dir->ops->lease(c.dir, false, &c.lease, err));
    KV_TRY(kv_target_refuse(c.dir, path, err));
    KV_TRY(check_all(&c, err));
    if (c.findings > 0)
        rc = kv_fail(err, c.worst, 0, "%" PRIu64 " findings, the first: %s", c.findings, c.first);
out:
    kv_values_release(&c.values);
    kv_manifest_close(&c.manifest);
    if (c.lease)
        c.dir->ops->lease_release(c.dir, c.lease);
    kv_dir_close(c.dir);
    return rc;
}

kv_status kv_check(struct kv_env *env, const char *path,
                   void (*each)(void *ctx, kv_status severity, const char *line), void *ctx,
                   struct kv_err *err)
{
    return kv_check_with_key(env, path, NULL, each, ctx, err);
}
