/*
 * Series that leave the registry (series.h has the steps).
 *
 * Why no request ever commits a ref that has left. A resolver counts itself into in_use[epoch & 1] and looks at the
 * epoch again, so that whoever raises the epoch afterwards either sees the count or is seen. Those who came before the
 * doom was set may have resolved a doomed series unseen: quiet waits for them, and then the series they used are in the
 * head or in tables, where the driver looks once more. Those who came after ask ts_registry_use about each ref they
 * find: before its removal that keeps it, afterwards the ref counts as not found. Removal and its mark (left) are one
 * step under the commit lock: a commit that creates the series anew comes behind it, and its 'h' overwrites the
 * deletion. Whoever came before the cache had forgotten the ref may have read it, there or in an 'h', and ask late: the
 * mark stays until they are gone (undoom, quiet, unmark).
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "tsdb/index.h"
#include "tsdb/series_internal.h"

struct ts_leaving {
    struct ts_refset doomed; /* does not change */
    struct ts_refset kept;   /* these three: leave_lock. Resolved meanwhile */
    struct ts_refset left;   /* removed: not those doomed that turned out to be in use */
    bool keep_all;           /* no memory to write one down: nothing more goes */
};

/* ---- requests ---------------------------------------------------------------------------------------------------- */

void ts_registry_enter(struct ts_registry *registry, int *entered)
{
    for (;;) {
        uint64_t epoch = atomic_load(&registry->epoch);
        atomic_fetch_add(&registry->in_use[epoch & 1], 1);
        if (atomic_load(&registry->epoch) == epoch) {
            *entered = 1 + (int)(epoch & 1);
            return;
        }
        atomic_fetch_sub(&registry->in_use[epoch & 1], 1);
    }
}

void ts_registry_exit(struct ts_registry *registry, int *entered)
{
    if (*entered)
        atomic_fetch_sub(&registry->in_use[*entered - 1], 1);
    *entered = 0;
}

static bool leaving_use(struct ts_registry *registry, struct ts_leaving *l, uint64_t ref)
{
    kv_mutex_lock(&registry->leave_lock);
    bool kept = ts_refset_has(&l->kept, ref), left = !kept && ts_refset_has(&l->left, ref);
    if (!kept && !left && !l->keep_all && ts_refset_add(&l->kept, ref, NULL) < 0)
        l->keep_all = true;
    kv_mutex_unlock(&registry->leave_lock);
    return !left;
}

bool ts_registry_use(struct ts_registry *registry, uint64_t ref)
{
    struct ts_leaving *l = atomic_load(&registry->leaving);
    return KV_LIKELY(!l) || !ts_refset_has(&l->doomed, ref) || leaving_use(registry, l, ref);
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

static void leaving_free(struct ts_leaving *l)
{
    if (!l)
        return;
    ts_refset_release(&l->doomed);
    ts_refset_release(&l->kept);
    ts_refset_release(&l->left);
    kv_free(l);
}

void ts_registry_free_leaving(struct ts_registry *registry)
{
    leaving_free(atomic_load(&registry->leaving));
    leaving_free(registry->rested);
    ts_hash_map_release(&registry->n_left);
}

kv_status ts_registry_doom(struct ts_registry *registry, struct ts_refset *set)
{
    struct ts_leaving *l = kv_zalloc(1, sizeof *l);
    if (!l)
        return KV_NO_MEMORY;
    l->doomed = *set;
    *set = (struct ts_refset){0};
    atomic_store(&registry->leaving, l);
    atomic_fetch_add(&registry->epoch, 1);
    return KV_OK;
}

bool ts_registry_quiet(struct ts_registry *registry)
{
    return atomic_load(&registry->in_use[(atomic_load(&registry->epoch) - 1) & 1]) == 0;
}

uint64_t ts_registry_removals(struct ts_registry *registry)
{
    return atomic_load(&registry->removals);
}

void ts_registry_undoom(struct ts_registry *registry, const struct ts_refset *gone)
{
    if (ts_refset_count(gone) > 0)
        ts_series_cache_forget(registry->cache, gone);
    atomic_fetch_add(&registry->epoch, 1);
}

void ts_registry_unmark(struct ts_registry *registry)
{
    registry->rested = atomic_exchange(&registry->leaving, NULL);
    atomic_fetch_add(&registry->epoch, 1);
}

void ts_registry_rest(struct ts_registry *registry)
{
    leaving_free(registry->rested);
    registry->rested = NULL;
}

/* ---- how many of a metric ---------------------------------------------------------------------------------------- */

static kv_hash128 metric_slot(uint32_t metric)
{
    return (kv_hash128){metric * UINT64_C(0x9e3779b97f4a7c15) >> 7, metric};
}

uint64_t ts_registry_n_left(struct ts_registry *registry, uint32_t metric)
{
    kv_mutex_lock(&registry->leave_lock);
    uint64_t n = ts_hash_map_get(&registry->n_left, metric_slot(metric));
    kv_mutex_unlock(&registry->leave_lock);
    return n;
}

kv_status ts_registry_load_left(struct ts_registry *registry, struct kv_err *err)
{
    struct kv_iter *it = NULL;
    struct ts_key lower, upper;
    ts_key_kind(&lower, 'l');
    upper = lower;
    (void)ts_key_successor(&upper); /* the letter is not FF */
    kv_status rc =
        kv_iter_open(registry->db, NULL, TS_SPACE_SERIES, ts_key_slice(&lower), ts_key_slice(&upper), &it);
    if (rc == KV_OK)
        rc = kv_iter_seek(it, ts_key_slice(&lower));
    while (rc == KV_OK) {
        uint32_t n = it->value.len == TS_LEFT_COUNT_VALUE_LEN ? kv_get_be32(it->value.data) : 0;
        if (it->key.len != TS_KEY_LEFT_COUNT_LEN || n == 0)
            rc = KV_CORRUPT;
        else
            rc = ts_hash_map_put(&registry->n_left, metric_slot(kv_get_be32(it->key.data + 1)), n);
        if (rc == KV_OK)
            rc = kv_iter_next(it);
    }
    kv_iter_close(it);
    return rc == KV_END || rc == KV_OK
               ? KV_OK
               : kv_fail(err, rc, 0, "cannot read how many series have left: %s", kv_status_text(rc));
}

/* ---- the commit -------------------------------------------------------------------------------------------------- */

struct removal {
    struct ts_registry *registry;
    const uint64_t *refs;
    size_t n;
    kv_hash128 *hashes; /* of the labels */
    struct ts_refset gone;
};

static KV_MUST kv_status removal_series(struct removal *r, size_t i, struct kv_batch *batch,
                                        struct kv_err *err)
{
    struct kv_pinned value = {0};
    struct ts_key key;
    uint64_t ref = 0;
    kv_status rc;
    ts_key_labels(&key, r->refs[i]);
    KV_TRY(kv_get(r->registry->db, NULL, TS_SPACE_SERIES, ts_key_slice(&key), &value, err));
    if (rc == KV_NOT_FOUND) {
        rc = kv_fail(err, KV_CORRUPT, 0, "series %016llx is in the index, but not in the registry",
                     (unsigned long long)r->refs[i]);
        goto out;
    }
    r->hashes[i] = ts_registry_hash(r->registry, value.value);
    kv_pinned_release(&value);
    KV_TRY(kv_batch_delete(batch, TS_SPACE_SERIES, ts_key_slice(&key)));
    ts_key_hash(&key, r->hashes[i]);
    KV_TRY(kv_get(r->registry->db, NULL, TS_SPACE_SERIES, ts_key_slice(&key), &value, err));
    if (rc == KV_OK)
        KV_TRY(ts_ref_value_read(value.value, &ref));
    rc = ref == r->refs[i] ? kv_batch_delete(batch, TS_SPACE_SERIES, ts_key_slice(&key)) : KV_OK;
    if (rc == KV_OK)
        rc = ts_refset_add(&r->gone, r->refs[i], NULL);
out:
    kv_pinned_release(&value);
    return rc;
}

/* count(metric, n more) for each metric of the refs, which are sorted. */
static KV_MUST kv_status removal_counts(struct removal *r, struct kv_batch *batch)
{
    kv_status rc = KV_OK;
    for (size_t i = 0, end; i < r->n && rc == KV_OK; i = end) {
        uint32_t metric = ts_ref_metric(r->refs[i]);
        uint8_t value[TS_LEFT_COUNT_VALUE_LEN];
        struct ts_key key;
        for (end = i; end < r->n && ts_ref_metric(r->refs[end]) == metric;)
            end++;
        uint64_t n = ts_registry_n_left(r->registry, metric) + (end - i);
        if (batch) {
            ts_key_left_count(&key, metric);
            kv_put_be32(value, (uint32_t)n);
            rc = kv_batch_put(batch, TS_SPACE_SERIES, ts_key_slice(&key), kv_slice_of(value, sizeof value));
            continue;
        }
        kv_mutex_lock(&r->registry->leave_lock);
        rc = ts_hash_map_put(&r->registry->n_left, metric_slot(metric), n);
        kv_mutex_unlock(&r->registry->leave_lock);
    }
    return rc;
}

static kv_status removal_prepare(void *ctx, uint64_t seq, struct kv_batch *batch, kv_slice *record)
{
    struct removal *r = ctx;
    struct ts_registry *registry = r->registry;
    struct ts_leaving *l = atomic_load(&registry->leaving);
    kv_status rc = KV_OK;
    (void)seq, (void)record;
    atomic_fetch_add(&registry->removals, 1); /* no reader sees the commit before this (moment.h) */
    kv_mutex_lock(&registry->leave_lock);
    for (size_t i = 0; i < r->n && rc == KV_OK; i++)
        if (l->keep_all || ts_refset_has(&l->kept, r->refs[i]))
            rc = KV_CONFLICT;
    if (rc == KV_OK && (rc = ts_refset_or(&l->left, &r->gone)) < 0)
        ts_refset_andnot(&l->left, &r->gone);
    kv_mutex_unlock(&registry->leave_lock);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < r->n;
         i++) { /* everyone can see them since long: no creation is told by it any more */
        uint64_t index = ts_hash_map_get(&registry->recent, r->hashes[i]);
        if (index && registry->recents[index - 1].ref == r->refs[i])
            ts_hash_map_remove(&registry->recent, r->hashes[i]);
    }
    atomic_fetch_sub(&registry->series, r->n);
    rc = ts_registry_put_counters(registry, batch);
    if (rc < 0) {
        atomic_fetch_add(&registry->series, r->n);
        kv_mutex_lock(&registry->leave_lock);
        ts_refset_andnot(&l->left, &r->gone);
        kv_mutex_unlock(&registry->leave_lock);
    }
    return rc;
}

static void removal_undo(void *ctx)
{
    struct removal *r = ctx;
    struct ts_leaving *l = atomic_load(&r->registry->leaving);
    atomic_fetch_add(&r->registry->series, r->n);
    kv_mutex_lock(&r->registry->leave_lock);
    ts_refset_andnot(&l->left, &r->gone);
    l->keep_all = true; /* some may have been told that they had left: nothing more goes this time */
    kv_mutex_unlock(&r->registry->leave_lock);
}

/* Takes those kept out of refs. */
static void removal_sift(struct ts_registry *registry, uint64_t *refs, size_t *n)
{
    struct ts_leaving *l = atomic_load(&registry->leaving);
    size_t left = 0;
    kv_mutex_lock(&registry->leave_lock);
    for (size_t i = 0; i < *n; i++)
        if (!l->keep_all && !ts_refset_has(&l->kept, refs[i]))
            refs[left++] = refs[i];
    kv_mutex_unlock(&registry->leave_lock);
    *n = left;
}

static KV_MUST kv_status removal_try(struct removal *r, struct kv_err *err)
{
    const struct kv_commit_options options = {
        .prepare = removal_prepare, .undo = removal_undo, .ctx = r, .past_floor = true};
    struct kv_batch *batch = NULL;
    kv_status rc;
    ts_refset_release(&r->gone);
    KV_TRY(kv_batch_new(&batch));
    for (size_t i = 0; i < r->n; i++)
        KV_TRY(removal_series(r, i, batch, err));
    KV_TRY(ts_index_put_left(r->registry, &r->gone, batch, err));
    KV_TRY(removal_counts(r, batch));
    KV_TRY(kv_commit(r->registry->db, batch, &options, NULL, err));
    KV_TRY(kv_sync(r->registry->db, err)); /* merges act on it: power must not undo it */
    rc = removal_counts(r, NULL);
out:
    kv_batch_free(batch);
    return rc;
}

kv_status ts_registry_remove(struct ts_registry *registry, uint64_t *refs, size_t *n, struct kv_err *err)
{
    struct removal r = {.registry = registry, .refs = refs};
    kv_status rc = KV_CONFLICT;
    r.hashes = kv_alloc((*n + 1) * sizeof *r.hashes);
    if (!r.hashes)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory for series that leave");
    while (rc == KV_CONFLICT) { /* each time fewer are left */
        removal_sift(registry, refs, n);
        r.n = *n;
        rc = *n > 0 ? removal_try(&r, err) : KV_OK;
    }
    ts_refset_release(&r.gone);
    kv_free(r.hashes);
    return rc;
}
