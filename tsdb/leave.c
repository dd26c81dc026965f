#include "kvcore/base/mem.h"
#include "tsdb/db.h"

enum {
    LEAVE_STEP = 4096, /* series of one commit */
    LEAVE_LISTS_MIN =
        4096, /* so many have left, and a quarter of what there is, before all lists are merged */
    LEAVE_LISTS_SHARE = 4,
};

void ts_leave_release(struct ts_leave *leave)
{
    ts_refset_release(&leave->refs);
}

/* Every series that has left and that lists may still name: the hook leaves it out from now on. */
static kv_status leave_read(struct ts_db *db, struct kv_err *err)
{
    struct ts_refset left = {0};
    kv_status rc = ts_index_left(db->registry, NULL, &left, err);
    if (rc == KV_OK && ts_refset_count(&left) > 0)
        rc = ts_left_add(db->left, &left);
    ts_refset_release(&left);
    return rc;
}

kv_status ts_leave_load(struct ts_db *db, struct kv_err *err)
{
    atomic_store(&db->leave.wanted, true);
    return leave_read(db, err);
}

/* Series to which nothing refers now. */
static kv_status leave_find(struct ts_db *db, struct ts_refset *set, struct kv_err *err)
{
    const struct ts_activity *heads[TS_GENERATIONS_MAX];
    struct ts_head_pin pin = {0};
    struct kv_snapshot *snapshot = NULL;
    kv_status rc;
    kv_mutex_lock(&db->care_lock); /* no flush takes something from the head behind the snapshot's back */
    rc = kv_snapshot_open(db->kv, &snapshot);
    if (rc == KV_OK)
        rc = ts_head_pin(db->head, &pin); /* behind the snapshot: the series it shows have reached the head */
    kv_mutex_unlock(&db->care_lock);
    for (size_t i = 0; i < pin.n; i++)
        heads[i] = ts_generation_activity(pin.generations[i]);
    if (rc == KV_OK)
        rc = ts_index_unused(db->registry, snapshot, heads, pin.n, set, err);
    ts_head_unpin(&pin);
    kv_snapshot_close(snapshot);
    return rc;
}

static kv_status leave_doom(struct ts_db *db, struct kv_err *err)
{
    struct ts_refset set = {0}, copy = {0};
    atomic_store(&db->leave.wanted, false); /* what comes after this look is another round's */
    kv_status rc;
    KV_TRY(leave_find(db, &set, err));
    if (ts_refset_count(&set) == 0)
        goto out;
    KV_TRY(ts_refset_or(&copy, &set));
    KV_TRY(ts_registry_doom(db->registry, &set));
    db->leave.refs = copy;
    copy = (struct ts_refset){0};
    db->leave.state = TS_LEAVE_DOOMED;
out:
    if (rc < 0)
        atomic_store(&db->leave.wanted, true);
    ts_refset_release(&set);
    ts_refset_release(&copy);
    return rc;
}

/* Removes what is still unused; *gone: all that was tried, left or not. */
static kv_status leave_remove(struct ts_db *db, struct ts_refset *gone, uint64_t *n_gone, struct kv_err *err)
{
    struct ts_refset unused = {0}, left = {0};
    uint64_t *refs = NULL;
    size_t n = 0;
    kv_status rc;
    KV_TRY(leave_find(db, &unused, err));
    ts_refset_and(&unused, &db->leave.refs);
    KV_TRY(ts_refset_or(gone, &unused));
    KV_TRY(ts_refset_refs(&unused, &refs, &n));
    for (size_t at = 0, step; at < n; at += LEAVE_STEP) {
        if (atomic_load(&db->closing))
            KV_TRY(KV_CANCELED);
        step = n - at < LEAVE_STEP ? n - at : LEAVE_STEP;
        KV_TRY(ts_registry_remove(db->registry, refs + at, &step, err));
        *n_gone += step;
        for (size_t i = 0; i < step && rc == KV_OK; i++)
            rc = ts_refset_add(&left, refs[at + i], NULL);
        KV_TRY(rc);
    }
out:
    if (ts_refset_count(&left) > 0) { /* once, for it copies all that have left */
        kv_status added = ts_left_add(db->left, &left);
        rc = rc < 0 ? rc : added;
    }
    kv_free(refs);
    ts_refset_release(&left);
    ts_refset_release(&unused);
    return rc;
}

static kv_status leave_finish(struct ts_db *db, struct kv_err *err)
{
    struct ts_refset gone = {0};
    uint64_t n_gone = 0;
    kv_status rc = leave_remove(db, &gone, &n_gone, err);
    ts_registry_undoom(db->registry, &gone);
    db->leave.state = TS_LEAVE_GONE;
    ts_refset_release(&db->leave.refs);
    ts_refset_release(&gone);
    if (rc < 0)
        atomic_store(&db->leave.wanted, true);
    if (n_gone > 0)
        kv_logf(db->log, KV_LOG_INFO, "series_left", "series=%llu", (unsigned long long)n_gone);
    atomic_fetch_add(&db->counters.series_left, n_gone);
    return rc;
}

/* Merges every list, so that none names what has left; then the notes go. Nothing leaves meanwhile. */
static kv_status leave_lists(struct ts_db *db, struct kv_err *err)
{
    struct kv_iter *it = NULL;
    struct kv_batch *batch = NULL;
    struct ts_key lower, upper;
    kv_status rc;
    KV_TRY(leave_read(db, err)); /* memory may have been short when some of them left */
    ts_key_kind(&lower, 'p');
    upper = lower;
    (void)ts_key_successor(&upper); /* no letter is FF */
    KV_TRY(kv_merge_range(db->kv, TS_SPACE_INDEX, ts_key_slice(&lower), ts_key_slice(&upper), err));
    ts_key_kind(&lower, 'g');
    upper = lower;
    (void)ts_key_successor(&upper);
    KV_TRY(kv_batch_new(&batch));
    KV_TRY(kv_iter_open(db->kv, NULL, TS_SPACE_INDEX, ts_key_slice(&lower), ts_key_slice(&upper), &it));
    for (rc = kv_iter_seek(it, ts_key_slice(&lower)); rc == KV_OK; rc = kv_iter_next(it))
        KV_TRY(kv_batch_delete(batch, TS_SPACE_INDEX, it->key));
    if (rc != KV_END)
        goto out;
    KV_TRY(kv_commit(db->kv, batch, &(struct kv_commit_options){.past_floor = true}, NULL, err));
    ts_left_clear(db->left);
out:
    kv_iter_close(it);
    kv_batch_free(batch);
    return rc;
}

/* One look, and one step after the other as far as requests under way allow. */
static kv_status leave_steps(struct ts_db *db, struct kv_err *err)
{
    struct ts_leave *leave = &db->leave;
    kv_status rc = KV_OK;
    for (bool looked = false; rc == KV_OK;) {
        if (leave->state != TS_LEAVE_IDLE && !ts_registry_quiet(db->registry))
            return KV_OK;
        switch (leave->state) {
        case TS_LEAVE_IDLE:
            if (looked || !atomic_load(&leave->wanted))
                return KV_OK;
            looked = true;
            rc = leave_doom(db, err);
            break;
        case TS_LEAVE_DOOMED:
            rc = leave_finish(db, err);
            break;
        case TS_LEAVE_GONE:
            ts_registry_unmark(db->registry);
            leave->state = TS_LEAVE_UNMARKED;
            break;
        case TS_LEAVE_UNMARKED:
            ts_registry_rest(db->registry);
            leave->state = TS_LEAVE_IDLE;
            break;
        }
    }
    return rc;
}

kv_status ts_leave_round(struct ts_db *db, bool all, struct kv_err *err)
{
    struct ts_registry_stats registry;
    kv_status rc = leave_steps(db, err);
    if (rc < 0)
        return rc;
    uint64_t left = ts_left_count(db->left);
    ts_registry_stats(db->registry, &registry);
    if (left > 0 && (all || (left >= LEAVE_LISTS_MIN && left >= registry.series / LEAVE_LISTS_SHARE)))
        rc = leave_lists(db, err);
    return rc < 0 ? rc : KV_OK;
}
