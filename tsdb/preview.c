/* What retention rules would remove: a dry run over what is in tables. Nothing is changed. */
#include "kvcore/base/mem.h"
#include "tsdb/chunk/chunk.h"
#include "tsdb/columns.h"
#include "tsdb/db.h"
#include "tsdb/thin.h"

struct preview {
    struct ts_db *db;
    const struct ts_rules *rules;
    int64_t clock_ms;
    kv_status (*each)(void *ctx, const struct ts_retention_preview *row);
    void *ctx;
    struct kv_err *err;
    struct ts_columns scratch; /* room for one chunk */
    struct preview_class {
        struct ts_refset refs; /* of the window at hand */
        uint64_t last;         /* ref that was counted last; 0: none */
        struct ts_retention_preview row;
    } classes[TS_RULES_MAX + 1];
};

static kv_status preview_classes(struct preview *p, const struct ts_select *select, struct ts_refset *rest)
{
    kv_status rc = KV_OK;
    for (size_t c = 0; c < ts_rules_classes(p->rules); c++) {
        struct preview_class *class = &p->classes[c];
        ts_refset_release(&class->refs);
        class->last = 0;
        class->row = (struct ts_retention_preview){.start_ms = select->from_ms,
                                                   .end_ms = select->to_ms + 1,
                                                   .rule = ts_rules_name(p->rules, c),
                                                   .floor_ms = ts_rules_floor_ms(p->rules, c, p->clock_ms)};
        KV_TRY(ts_thin_take(p->db, p->rules, select, c, rest, &class->refs, p->err));
        if (class->row.floor_ms <= select->from_ms)
            ts_refset_release(&class->refs); /* it takes nothing of the window */
    }
out:
    return rc;
}

static kv_status preview_chunk(struct preview *p, const struct ts_chunk_key *key, kv_slice chunk)
{
    struct ts_chunk_info info;
    size_t c = 0, n = 0;
    while (c < ts_rules_classes(p->rules) && !ts_refset_has(&p->classes[c].refs, key->ref))
        c++;
    if (c == ts_rules_classes(p->rules))
        return KV_OK;
    struct preview_class *class = &p->classes[c];
    kv_status rc = ts_chunk_info(chunk, &info);
    if (rc < 0 || info.first_ms >= class->row.floor_ms)
        return rc;
    if (info.last_ms < class->row.floor_ms)
        n = info.count;
    else if ((rc = ts_chunk_decode(chunk, INT64_MIN, class->row.floor_ms - 1, p->scratch.times_ms,
                                   p->scratch.values, &n)) < 0)
        return rc;
    class->row.series += class->last != key->ref;
    class->last = key->ref;
    class->row.samples += n;
    class->row.bytes += (TS_KEY_CHUNK_LEN + chunk.len) * n / info.count;
    return KV_OK;
}

static kv_status preview_window(struct preview *p, int32_t window)
{
    struct ts_refset rest = {0};
    struct kv_snapshot *snapshot = NULL;
    struct kv_iter *it = NULL;
    struct ts_key lower, upper;
    struct ts_chunk_key key;
    int64_t start_ms = ts_window_start_ms(window);
    kv_status rc;
    ts_key_chunk_window(&lower, window);
    upper = lower;
    bool bounded = ts_key_successor(&upper);
    KV_TRY(kv_snapshot_open(p->db->kv, &snapshot));
    const struct ts_select select = {
        .from_ms = start_ms, .to_ms = start_ms + TS_WINDOW_MS - 1, .snapshot = snapshot};
    KV_TRY(ts_index_select_refs(p->db->registry, &select, &rest, p->err));
    KV_TRY(preview_classes(p, &select, &rest));
    KV_TRY(kv_iter_open(p->db->kv, snapshot, TS_SPACE_CHUNKS, ts_key_slice(&lower),
                        bounded ? ts_key_slice(&upper) : (kv_slice){0}, &it));
    for (rc = kv_iter_seek(it, ts_key_slice(&lower)); rc == KV_OK; rc = kv_iter_next(it)) {
        KV_TRY(ts_key_chunk_read(it->key, &key));
        KV_TRY(preview_chunk(p, &key, it->value));
    }
    if (rc == KV_END)
        rc = KV_OK;
    for (size_t c = 0; c < ts_rules_classes(p->rules) && rc == KV_OK; c++)
        if (p->classes[c].row.series > 0)
            rc = p->each(p->ctx, &p->classes[c].row);
out:
    kv_iter_close(it);
    ts_refset_release(&rest);
    kv_snapshot_close(snapshot);
    return rc;
}

static kv_status preview_run(struct preview *p)
{
    struct ts_window *windows = NULL;
    size_t n = 0;
    int64_t highest_ms = ts_rules_highest_ms(p->rules, p->clock_ms);
    kv_status rc;
    KV_TRY(ts_columns_reserve(&p->scratch, TS_CHUNK_SAMPLES_MAX));
    if (highest_ms > INT64_MIN)
        KV_TRY(ts_windows_copy(p->db->windows, INT32_MIN, ts_window_of(highest_ms - 1), &windows, &n));
    for (size_t i = 0; i < n; i++)
        KV_TRY(preview_window(p, windows[i].window));
out:
    kv_free(windows);
    return rc;
}

kv_status ts_retention_dry_run(struct ts_db *db, int64_t keep_ms, const struct ts_retention_rule *rules,
                               size_t n, kv_status (*each)(void *ctx, const struct ts_retention_preview *row),
                               void *ctx, struct kv_err *err)
{
    struct ts_rules *asked = NULL;
    struct preview *p = kv_zalloc(1, sizeof *p);
    kv_status rc = KV_NO_MEMORY;
    if (err)
        *err = (struct kv_err){0};
    if (!p)
        goto out;
    KV_TRY(ts_wait_ready(db, err));
    if (rules)
        KV_TRY(ts_rules_new(keep_ms > 0 ? keep_ms : db->options.retention_ms, rules, n, &asked, err));
    p->db = db;
    p->rules = asked ? asked : db->rules;
    p->clock_ms = ts_retention_clock_ms(db);
    p->each = each;
    p->ctx = ctx;
    p->err = err;
    rc = preview_run(p);
out:
    for (size_t c = 0; p && c <= TS_RULES_MAX; c++)
        ts_refset_release(&p->classes[c].refs);
    if (p)
        ts_columns_release(&p->scratch);
    kv_free(p);
    ts_rules_free(asked);
    if (rc < 0 && err && err->code == KV_OK)
        (void)kv_fail(err, rc, 0, "dry run of retention: %s", kv_status_text(rc));
    return rc;
}
