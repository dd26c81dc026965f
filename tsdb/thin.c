#include "tsdb/thin.h"
#include "kvcore/base/mem.h"
#include "tsdb/db.h"

enum { THIN_STEP = 4096 }; /* series looked at while flushes wait */

kv_status ts_thin_take(struct ts_db *db, const struct ts_rules *rules, const struct ts_select *select,
                       size_t class, struct ts_refset *rest, struct ts_refset *members, struct kv_err *err)
{
    struct ts_select rule = {.snapshot = select->snapshot, .budget = select->budget};
    kv_status rc;
    if (class + 1 == ts_rules_classes(rules)) {
        *members = *rest;
        *rest = (struct ts_refset){0};
        return KV_OK;
    }
    rule.matchers = ts_rules_matchers(rules, class, &rule.n_matchers);
    KV_TRY(ts_refset_or(members, rest));
    KV_TRY(ts_index_filter(db->registry, &rule, members, err));
    ts_refset_andnot(rest, members);
out:
    return rc;
}

uint64_t ts_thin_passed(struct ts_db *db, int32_t window)
{
    int64_t end_ms = ts_window_start_ms(window) + TS_WINDOW_MS, clock_ms = atomic_load(&db->clock_ms);
    uint64_t passed = 0;
    for (size_t c = 0; c < ts_rules_classes(db->rules); c++)
        if (ts_rules_floor_ms(db->rules, c, clock_ms) >= end_ms)
            passed |= UINT64_C(1) << c;
    return passed;
}

static kv_status thin_classes(struct ts_db *db, struct ts_thin *thin, const struct ts_select *select,
                              struct ts_refset *rest, struct kv_err *err)
{
    struct ts_refset members = {0};
    int64_t clock_ms = atomic_load(&db->clock_ms);
    kv_status rc = KV_OK;
    for (size_t c = 0; c < ts_rules_classes(db->rules) && ts_refset_count(rest) > 0; c++) {
        int64_t floor_ms = ts_rules_floor_ms(db->rules, c, clock_ms);
        KV_TRY(ts_thin_take(db, db->rules, select, c, rest, &members, err));
        uint64_t n = ts_refset_count(&members);
        if (n == 0 || floor_ms <= select->from_ms) {
            ts_refset_release(&members);
            continue;
        }
        if (thin->passed >> c & 1)
            thin->expired += n;
        thin->classes[thin->n++] = (struct ts_thin_class){floor_ms, members};
        members = (struct ts_refset){0};
    }
out:
    ts_refset_release(&members);
    return rc;
}

kv_status ts_thin_new(struct ts_db *db, int32_t window, struct ts_thin **out, struct kv_err *err)
{
    struct ts_thin *thin = kv_zalloc(1, sizeof *thin);
    struct ts_refset rest = {0};
    struct kv_snapshot *snapshot = NULL;
    int64_t start_ms = ts_window_start_ms(window);
    kv_status rc = KV_NO_MEMORY;
    if (!thin)
        goto out;
    thin->refs = 1;
    thin->window = window;
    thin->passed = ts_thin_passed(db, window);
    if (ts_rules_highest_ms(db->rules, atomic_load(&db->clock_ms)) > start_ms) {
        KV_TRY(kv_snapshot_open(db->kv, &snapshot));
        const struct ts_select select = {
            .from_ms = start_ms, .to_ms = start_ms + TS_WINDOW_MS - 1, .snapshot = snapshot};
        KV_TRY(ts_index_select_refs(db->registry, &select, &rest, err));
        thin->series = ts_refset_count(&rest);
        KV_TRY(thin_classes(db, thin, &select, &rest, err));
    }
    *out = thin;
    thin = NULL;
    rc = KV_OK;
out:
    ts_refset_release(&rest);
    kv_snapshot_close(snapshot);
    ts_thin_unref(thin);
    return rc;
}

struct ts_thin *ts_thin_ref(struct ts_thin *thin)
{
    if (thin)
        __atomic_fetch_add(&thin->refs, 1, __ATOMIC_RELAXED);
    return thin;
}

void ts_thin_unref(struct ts_thin *thin)
{
    if (!thin || __atomic_fetch_sub(&thin->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    for (size_t i = 0; i < thin->n; i++)
        ts_refset_release(&thin->classes[i].refs);
    ts_refset_release(&thin->kept);
    kv_free(thin);
}

int64_t ts_thin_floor_ms(const struct ts_thin *thin, uint64_t ref, int64_t lowest_ms)
{
    for (size_t i = 0; thin && i < thin->n; i++)
        if (ts_refset_has(&thin->classes[i].refs, ref))
            return thin->classes[i].floor_ms > lowest_ms ? thin->classes[i].floor_ms : lowest_ms;
    return lowest_ms;
}

/* ---- activity after a merge -------------------------------------------------------------------------------------- */

/* care_lock held, so that no flush is between its activity and its chunks. Those of n sorted refs that have no chunk in
 * the window are added to *gone. */
static kv_status thin_find_gone(struct ts_db *db, int32_t window, const uint64_t *refs, size_t n,
                                struct ts_refset *gone)
{
    struct kv_iter *it = NULL;
    struct ts_chunk_key chunk = {0};
    struct ts_key lower, upper, at;
    bool placed = false;
    ts_key_chunk_window(&lower, window);
    upper = lower;
    bool bounded = ts_key_successor(&upper);
    kv_status rc = kv_iter_open(db->kv, NULL, TS_SPACE_CHUNKS, ts_key_slice(&lower),
                                bounded ? ts_key_slice(&upper) : (kv_slice){0}, &it);
    for (size_t i = 0; i < n && rc >= 0; i++) {
        if (rc != KV_END && !(placed && chunk.ref >= refs[i])) {
            ts_key_chunk_series(&at, window, refs[i]);
            rc = kv_iter_seek(it, ts_key_slice(&at));
            if (rc == KV_OK)
                rc = ts_key_chunk_read(it->key, &chunk);
            placed = rc == KV_OK;
        }
        if (rc == KV_END || (rc == KV_OK && chunk.ref != refs[i])) {
            kv_status added = ts_refset_add(gone, refs[i], NULL);
            rc = added < 0 ? added : rc;
        }
    }
    kv_iter_close(it);
    return rc < 0 ? rc : KV_OK;
}

static kv_status thin_step(struct ts_db *db, int32_t window, const uint64_t *refs, size_t n,
                           struct kv_err *err)
{
    struct ts_refset gone = {0};
    struct kv_batch *batch = NULL;
    kv_status rc;
    kv_mutex_lock(&db->care_lock);
    KV_TRY(kv_batch_new(&batch));
    KV_TRY(thin_find_gone(db, window, refs, n, &gone));
    KV_TRY(ts_index_cut_activity(db->registry, window, &gone, batch, err));
    if (kv_batch_count(batch) > 0)
        rc = kv_commit(db->kv, batch, &(struct kv_commit_options){.past_floor = true}, NULL, err);
    if (ts_refset_count(&gone) > 0)
        atomic_store(&db->leave.wanted, true);
out:
    kv_mutex_unlock(&db->care_lock);
    kv_batch_free(batch);
    ts_refset_release(&gone);
    return rc < 0 ? rc : KV_OK;
}

kv_status ts_thin_settle(struct ts_db *db, const struct ts_thin *thin, struct kv_err *err)
{
    struct ts_refset doubtful = {0};
    uint64_t *refs = NULL;
    size_t n = 0;
    int64_t start_ms = ts_window_start_ms(thin->window);
    const struct ts_select select = {.from_ms = start_ms, .to_ms = start_ms + TS_WINDOW_MS - 1};
    kv_status rc;
    KV_TRY(ts_index_select_refs(db->registry, &select, &doubtful, err));
    ts_refset_andnot(&doubtful, &thin->kept);
    KV_TRY(ts_refset_refs(&doubtful, &refs, &n));
    for (size_t at = 0; at < n; at += THIN_STEP) {
        if (atomic_load(&db->closing))
            KV_TRY(KV_CANCELED);
        KV_TRY(thin_step(db, thin->window, refs + at, n - at < THIN_STEP ? n - at : THIN_STEP, err));
    }
out:
    kv_free(refs);
    ts_refset_release(&doubtful);
    return rc;
}
