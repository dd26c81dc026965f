/*
 * The structural check of a closed store: kvcore's own first, then that every chunk decodes, stands under the
 * key it belongs to, refers to a series that exists, and that every log record not yet in tables can be read
 * back.
 */
#include "kvcore/base/mem.h"
#include "tsdb/chunk/chunk.h"
#include "tsdb/columns.h"
#include "tsdb/exemplar.h"
#include "tsdb/index.h"
#include "tsdb/meta.h"
#include "tsdb/record.h"
#include "tsdb/window.h"

#include <stdio.h>

enum { CHECK_FINDINGS_MAX = 1000 };

struct check {
    struct kv_db *kv;
    struct ts_registry *registry;
    void (*each)(void *ctx, kv_status severity, const char *line);
    void *ctx;
    uint64_t findings, chunks, samples, series, records;
    struct ts_columns samples_of; /* room for one chunk */
    struct kv_arena arena;
    uint64_t ref; /* last one looked up */
};

static void check_say(struct check *c, kv_status severity, const char *line)
{
    if (severity < 0 && ++c->findings > CHECK_FINDINGS_MAX)
        return;
    if (c->each)
        c->each(c->ctx, severity, line);
}

static void check_chunk_finding(struct check *c, const struct ts_chunk_key *key, const char *what)
{
    char line[240];
    snprintf(line, sizeof line, "chunk window=%d metric=%u series=%u first=%lld seq=%llu: %s",
             (int)key->window, ts_ref_metric(key->ref), ts_ref_series(key->ref), (long long)key->first_ms,
             (unsigned long long)key->seq, what);
    check_say(c, KV_CORRUPT, line);
}

static kv_status check_ref(struct check *c, const struct ts_chunk_key *key, struct kv_err *err)
{
    if (c->ref == key->ref && c->series > 0)
        return KV_OK;
    struct ts_label *labels;
    size_t n;
    kv_arena_release(&c->arena);
    kv_status rc = ts_registry_labels(c->registry, NULL, key->ref, &c->arena, &labels, &n, err);
    if (rc == KV_NOT_FOUND || rc == KV_CORRUPT)
        check_chunk_finding(c, key,
                            rc == KV_NOT_FOUND ? "its series is not in the registry"
                                               : "its series' labels are damaged");
    c->ref = key->ref;
    c->series++;
    return rc == KV_CORRUPT || rc >= 0 ? KV_OK : rc;
}

static kv_status check_chunk(struct check *c, kv_slice key_bytes, kv_slice value, struct kv_err *err)
{
    struct ts_chunk_key key;
    size_t n;
    c->chunks++;
    if (ts_key_chunk_read(key_bytes, &key) < 0) {
        check_say(c, KV_CORRUPT, "a key of the chunk space has the wrong length");
        return KV_OK;
    }
    kv_status rc =
        ts_chunk_decode(value, INT64_MIN, INT64_MAX, c->samples_of.times_ms, c->samples_of.values, &n);
    if (rc < 0) {
        check_chunk_finding(c, &key, kv_status_text(rc));
        return KV_OK;
    }
    const int64_t *times = c->samples_of.times_ms;
    struct ts_chunk_info info;
    struct ts_chunk_summary told, made;
    c->samples += n;
    bool ordered = true;
    for (size_t i = 1; i < n; i++)
        ordered &= times[i] > times[i - 1];
    if (n == 0 || times[0] != key.first_ms)
        check_chunk_finding(c, &key, "it does not begin at the time in its key");
    else if (!ordered)
        check_chunk_finding(c, &key, "its times do not increase");
    else if (ts_window_of(times[0]) != key.window || ts_window_of(times[n - 1]) != key.window)
        check_chunk_finding(c, &key, "it reaches out of its window");
    else if (ts_chunk_summary(value, &info, &told) == KV_OK &&
             !(ts_summary_make(c->samples_of.values, n, &made) && ts_summary_equal(&told, &made)))
        check_chunk_finding(c, &key, "its summary is not of its values");
    return check_ref(c, &key, err);
}

static kv_status check_chunks(struct check *c, struct kv_err *err)
{
    struct kv_iter *it = NULL;
    kv_status rc = kv_iter_open(c->kv, NULL, TS_SPACE_CHUNKS, (kv_slice){0}, (kv_slice){0}, &it);
    if (rc < 0)
        return rc;
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it))
        if ((rc = check_chunk(c, it->key, it->value, err)) < 0)
            break;
    kv_iter_close(it);
    return rc == KV_END ? KV_OK : rc;
}

static kv_status check_samples_record(struct check *c, uint64_t seq, kv_slice record)
{
    struct ts_record_reader reader;
    uint64_t ref;
    uint32_t n;
    kv_status rc = ts_registry_apply(c->registry, seq, &record);
    if (rc == KV_OK)
        rc = ts_record_open(record, &reader);
    if (rc < 0)
        return rc;
    while ((rc = ts_record_series(&reader, &ref, &n)) == KV_OK) {
        c->samples += n;
        while (n-- > 0)
            if ((rc = ts_record_sample(&reader)) < 0)
                return rc;
    }
    return rc;
}

static kv_status check_delete_record(kv_slice record)
{
    struct ts_record_delete reader;
    uint64_t ref;
    kv_status rc = ts_record_open_delete(record, &reader);
    while (rc == KV_OK)
        rc = ts_record_deleted(&reader, &ref);
    return rc;
}

static kv_status check_records(struct check *c, struct kv_err *err)
{
    struct kv_records *records = NULL;
    uint64_t seq;
    kv_slice record;
    kv_status rc = kv_records_open(c->kv, &records, err);
    if (rc < 0)
        return rc;
    while ((rc = kv_records_next(records, &seq, &record, err)) == KV_OK) {
        uint8_t kind = 0;
        c->records++;
        rc = kv_take_byte(&record, &kind);
        if (rc == KV_OK)
            rc = kind == TS_RECORD_SAMPLES  ? check_samples_record(c, seq, record)
                 : kind == TS_RECORD_DELETE ? check_delete_record(record)
                                            : KV_TOO_NEW;
        if (rc < 0) {
            char line[128];
            snprintf(line, sizeof line, "log record seq=%llu: %s", (unsigned long long)seq,
                     kv_status_text(rc));
            check_say(c, KV_CORRUPT, line);
        }
    }
    kv_records_close(records);
    return rc == KV_END ? KV_OK : rc;
}

static kv_status check_metadata(struct check *c, struct kv_err *err)
{
    struct ts_meta *meta = NULL;
    kv_status rc = ts_meta_new(&meta);
    if (rc == KV_OK)
        rc = ts_meta_load(meta, c->kv, err);
    if (rc == KV_CORRUPT) {
        check_say(c, KV_CORRUPT, err ? err->text : kv_status_text(rc));
        rc = KV_OK;
    }
    ts_meta_free(meta);
    return rc;
}

static kv_status check_exemplars(struct check *c, struct kv_err *err)
{
    struct ts_exemplars *exemplars = NULL;
    kv_status rc = ts_exemplars_new(TS_EXEMPLARS_MAX_DEFAULT, &exemplars);
    if (rc == KV_OK)
        rc = ts_exemplars_load(exemplars, c->kv, false, err);
    if (rc == KV_CORRUPT) {
        check_say(c, KV_CORRUPT, err ? err->text : kv_status_text(rc));
        rc = KV_OK;
    }
    ts_exemplars_free(exemplars);
    return rc;
}

kv_status ts_check(struct kv_env *env, const char *path,
                   void (*each)(void *ctx, kv_status severity, const char *line), void *ctx,
                   struct kv_err *err)
{
    struct check c = {.each = each, .ctx = ctx};
    struct kv_space_options spaces[TS_SPACES];
    ts_spaces_fill(spaces, NULL);
    const struct kv_options options = {
        .spaces = spaces, .n_spaces = TS_SPACES, .read_only = true, .must_exist = true};
    const struct ts_registry_options registry = {0};
    kv_status rc = kv_check(env, path, each, ctx, err);
    if (rc < 0)
        return rc;
    KV_TRY(ts_columns_reserve(&c.samples_of, TS_CHUNK_SAMPLES_MAX));
    KV_TRY(kv_open(env, path, &options, &c.kv, err));
    KV_TRY(ts_registry_open(c.kv, &registry, &c.registry, err));
    KV_TRY(check_records(&c, err));
    KV_TRY(check_chunks(&c, err));
    KV_TRY(check_metadata(&c, err));
    KV_TRY(check_exemplars(&c, err));
    char line[160];
    snprintf(line, sizeof line, "store: chunks=%llu records=%llu samples=%llu findings=%llu",
             (unsigned long long)c.chunks, (unsigned long long)c.records, (unsigned long long)c.samples,
             (unsigned long long)c.findings);
    check_say(&c, KV_OK, line);
    if (c.findings > 0)
        rc = kv_fail(err, KV_CORRUPT, 0, "%llu findings", (unsigned long long)c.findings);
out:
    ts_registry_close(c.registry);
    if (c.kv) {
        kv_status closed = kv_close(c.kv, rc < 0 ? NULL : err);
        if (rc >= 0)
            rc = closed;
    }
    ts_columns_release(&c.samples_of);
    kv_arena_release(&c.arena);
    return rc;
}
