/* What readers pin, and the one way it changes. */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/db.h"

#include <inttypes.h>

uint64_t kv_db_visible(struct kv_db *db)
{
    return db->committer ? kv_committer_visible(db->committer) : db->recovered_seq;
}

/* Both under the lock: what is visible was entered into memtables of the view that was current then, and
 * later views have it too. */
struct kv_view *kv_view_pin(struct kv_db *db, uint64_t *visible)
{
    kv_mutex_lock(&db->view_mutex);
    struct kv_view *view = kv_view_ref(db->view);
    *visible = kv_db_visible(db);
    kv_mutex_unlock(&db->view_mutex);
    return view;
}

struct kv_view *kv_view_ref(struct kv_view *view)
{
    atomic_fetch_add_explicit(&view->refs, 1, memory_order_relaxed);
    return view;
}

void kv_view_unref(struct kv_view *view)
{
    if (!view || atomic_fetch_sub_explicit(&view->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (view->db) {
        kv_mutex_lock(&view->db->view_mutex);
        kv_list_remove(&view->left);
        kv_mutex_unlock(&view->db->view_mutex);
    }
    for (size_t i = 0; i < view->n_mem; i++)
        kv_memtable_unref(view->mem[i]);
    kv_version_unref(view->version);
    kv_free(view);
}

/* Room for n_mem memtables; none are in it yet. */
static struct kv_view *view_new(size_t n_mem)
{
    struct kv_view *view = kv_zalloc(1, sizeof *view + n_mem * sizeof(struct kv_memtable *));
    if (view)
        view->refs = 1;
    return view;
}

static void view_fill(struct kv_view *view, struct kv_version *version, struct kv_memtable *first,
                      const struct kv_view *rest, const struct kv_memtable *without)
{
    view->version = kv_version_ref(version);
    if (first)
        view->mem[view->n_mem++] = kv_memtable_ref(first);
    for (size_t i = 0; rest && i < rest->n_mem; i++)
        if (rest->mem[i] != without)
            view->mem[view->n_mem++] = kv_memtable_ref(rest->mem[i]);
}

kv_status kv_view_first(struct kv_version *version, struct kv_memtable *memtable, struct kv_view **out)
{
    struct kv_view *view = view_new(1);
    if (!view)
        return KV_NO_MEMORY;
    view_fill(view, version, memtable, NULL, NULL);
    *out = view;
    return KV_OK;
}

/* The new view becomes current; the old one is the caller's to give back. view_mutex is held. */
static struct kv_view *view_swap(struct kv_db *db, struct kv_view *view)
{
    struct kv_view *old = db->view;
    db->view = view;
    old->db = db;
    old->left_ns = kv_clock_mono_ns(db->env->clock);
    kv_list_push_back(&db->views_left, &old->left);
    kv_cond_broadcast(&db->view_changed);
    return old;
}

kv_status kv_db_memtable_new(struct kv_db *db, struct kv_memtable **out)
{
    enum { FILTER_SHARE = 64 }; /* at some 100 bytes an entry a dozen bits each */
    kv_status rc = kv_memtable_new(db->n_spaces, out);
    if (rc == KV_OK)
        kv_memtable_filter(*out, (size_t)(db->options.memtable_bytes / FILTER_SHARE));
    if (rc == KV_OK)
        kv_memtable_account(*out, &db->env->memory.memtables);
    return rc;
}

kv_status kv_db_switch_memtable(struct kv_db *db, struct kv_err *err)
{
    struct kv_memtable *fresh = NULL;
    struct kv_view *view = NULL, *old = NULL;
    kv_status rc;
    if (db->committer && db->options.durability >= KV_DURABILITY_INTERVAL)
        KV_TRY(kv_committer_sync(db->committer, err)); /* no table is synced before the log it came from */
    KV_TRY(kv_db_memtable_new(db, &fresh));
    /* Only the leader (or recovery) adds memtables, so their number can only shrink meanwhile. */
    kv_mutex_lock(&db->view_mutex);
    size_t n = db->view->n_mem;
    kv_mutex_unlock(&db->view_mutex);
    if (n >= KV_MEMTABLES_MAX && !db->recovering) {
        rc = kv_fail(err, KV_BUSY, 0, "%zu memtables wait to be flushed", n);
        goto out;
    }
    view = view_new(n + 1);
    rc = view ? KV_OK : KV_NO_MEMORY;
    if (rc < 0)
        goto out;
    kv_mutex_lock(&db->view_mutex);
    view_fill(view, db->view->version, fresh, db->view, NULL);
    old = view_swap(db, view);
    db->active = fresh;
    memset(db->active_hides, 0, sizeof db->active_hides);
    kv_mutex_unlock(&db->view_mutex);
out:
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory for a new memtable");
    kv_memtable_unref(fresh);
    kv_view_unref(old);
    if (rc == KV_OK)
        kv_db_kick(db);
    return rc;
}

kv_status kv_view_follow(struct kv_db *db, struct kv_version *version, struct kv_memtable *const *mem,
                         size_t n_mem, uint64_t seq)
{
    struct kv_view *view = view_new(n_mem), *old = NULL;
    if (!view)
        return KV_NO_MEMORY;
    view->version = kv_version_ref(version);
    for (size_t i = 0; i < n_mem; i++)
        view->mem[view->n_mem++] = kv_memtable_ref(mem[i]);
    kv_mutex_lock(&db->view_mutex);
    if (db->view)
        old = view_swap(db, view);
    else
        db->view = view;
    db->recovered_seq = seq;
    kv_mutex_unlock(&db->view_mutex);
    kv_view_unref(old);
    return KV_OK;
}

/* ---- range deletions of a view */

uint64_t kv_view_range_newest(const struct kv_view *view, uint32_t space, kv_slice key, uint64_t version_max)
{
    uint64_t best = kv_ranges_newest(view->version->trees[space].ranges, key, version_max);
    for (size_t i = 0; i < view->n_mem; i++) {
        if (kv_memtable_range_count(view->mem[i], space) == 0)
            continue;
        uint64_t version = kv_memtable_range_newest(view->mem[i], space, key, version_max);
        best = version > best ? version : best;
    }
    return best;
}

bool kv_view_has_ranges(const struct kv_view *view, uint32_t space)
{
    for (size_t i = 0; i < view->n_mem; i++)
        if (kv_memtable_range_count(view->mem[i], space) > 0)
            return true;
    return view->version->trees[space].ranges != NULL;
}

/* Every put below this sequence is in tables, `leaving` (may be NULL) counted as one. Commits above `visible`
 * may still be on their way into a memtable, so `visible` is read first. */
uint64_t kv_db_log_floor(struct kv_db *db, const struct kv_memtable *leaving)
{
    kv_mutex_lock(&db->view_mutex);
    uint64_t floor = kv_db_visible(db) + 1;
    for (size_t i = 0; i < db->view->n_mem; i++) {
        uint64_t oldest = db->view->mem[i] == leaving ? 0 : kv_memtable_version_oldest(db->view->mem[i]);
        if (oldest && oldest < floor)
            floor = oldest;
    }
    kv_mutex_unlock(&db->view_mutex);
    return floor;
}

/* A step of the wall clock is told once, when it is first noticed. */
int64_t kv_db_retention_now(struct kv_db *db)
{
    int64_t step_ms;
    int64_t now = kv_retention_clock_now(&db->retention, &step_ms);
    bool stepped = step_ms != 0;
    if (atomic_exchange(&db->step_told, stepped) != stepped && stepped)
        kv_logf(&db->env->log, KV_LOG_WARN, "clock_step", "path=%s step_ms=%" PRId64 " what=%s",
                KV_LOGQ(db->path), step_ms,
                "\"the wall clock stepped; nothing expires by it until it is accepted\"");
    return now;
}

/* Answers the log floor. */
static uint64_t edit_add_floors(struct kv_db *db, struct kv_change *change)
{
    const struct kv_manifest_state *state = &db->manifest.state;
    uint64_t floor = kv_db_log_floor(db, change->flushed);
    struct kv_log_stats log;
    kv_log_stats(db->log, &log);
    if (floor > log.synced_seq + 1) /* what a crash takes back gives its sequences to other commits */
        floor = log.synced_seq + 1;
    uint64_t app = change->app_floor > state->app_floor ? change->app_floor : state->app_floor;
    if (floor < state->log_floor)
        floor = state->log_floor;
    uint64_t first = kv_log_first_needed(db->log, floor, app);
    kv_edit_log_floor(change->edit, floor, first > state->log_first ? first : state->log_first);
    kv_edit_app_floor(change->edit, app);
    kv_edit_retention(change->edit, kv_db_retention_now(db));
    return floor;
}

/* Does nothing of the new version point into segment i of the old one? */
static bool segment_left(const struct kv_version *old, const struct kv_version *version, size_t i)
{
    return !kv_values_find(&version->values, kv_segment_number(old->values.list[i].segment));
}

static kv_status change_commit(struct kv_db *db, struct kv_change *change, struct kv_view **old,
                               struct kv_err *err)
{
    struct kv_version *base = NULL, *version = NULL;
    struct kv_view *view = NULL;
    struct kv_range_plan plan = {0};
    size_t reserved = 0;
    kv_status rc;
    KV_ASSERT(!db->recovering);
    for (size_t i = 0; i < change->n_drops; i++)
        if (!kv_manifest_table(&db->manifest.state, change->drops[i]))
            return kv_fail(err, KV_CONFLICT, 0, "table %06" PRIu64 " is gone already", change->drops[i]);
    for (size_t i = 0; i < change->n_moves; i++)
        if (!kv_manifest_table(&db->manifest.state, change->moves[i].number))
            return kv_fail(err, KV_CONFLICT, 0, "table %06" PRIu64 " is gone already",
                           change->moves[i].number);
    kv_mutex_lock(&db->view_mutex);
    base = kv_version_ref(db->view->version); /* only changed here, under manifest_mutex; views come and go */
    size_t n = db->view->n_mem;               /* and others may come meanwhile */
    kv_mutex_unlock(&db->view_mutex);
    KV_TRY(kv_range_plan_begin(&plan, base, change->ranges, change->n_ranges, change->drops, change->n_drops,
                               change->edit));
    const uint64_t *drops = (const uint64_t *)(const void *)plan.drops.data;
    size_t n_drops = plan.drops.len / sizeof *drops;
    size_t segments = base->values.n + change->n_segments; /* at most so many leave */
    KV_TRY(kv_obsolete_reserve(db, n_drops + segments));
    reserved = n_drops + segments;
    struct kv_tree_change tree = {.adds = change->adds,
                                  .n_adds = change->n_adds,
                                  .drops = drops,
                                  .n_drops = n_drops,
                                  .moves = change->moves,
                                  .n_moves = change->n_moves,
                                  .segments = change->segments,
                                  .n_segments = change->n_segments,
                                  .log_floor = edit_add_floors(db, change)};
    KV_TRY(kv_version_make(base, db->n_spaces, db->spaces, &tree, &version, err));
    KV_TRY(kv_range_plan_finish(&plan, version, kv_db_oldest_txn(db), change->edit));
    for (size_t i = 0; i < base->values.n; i++)
        if (segment_left(base, version, i))
            kv_edit_drop_segment(change->edit, kv_segment_number(base->values.list[i].segment));
    view = view_new(n > KV_MEMTABLES_MAX ? n : KV_MEMTABLES_MAX);
    rc = view ? KV_OK : KV_NO_MEMORY;
    if (rc < 0)
        goto out;
    KV_TRY(kv_manifest_commit(&db->manifest, change->edit, err));
    for (size_t i = 0; i < n_drops; i++)
        kv_obsolete_add(db, drops[i]);
    reserved -= n_drops;
    for (size_t i = 0; i < base->values.n; i++)
        if (segment_left(base, version, i)) {
            kv_obsolete_add(db, kv_segment_number(base->values.list[i].segment));
            reserved--;
        }
    kv_db_press(db, version);
    KV_COUNT_BY(db, drops, plan.n_covered);
    kv_mutex_lock(&db->view_mutex);
    view_fill(view, version, NULL, db->view, change->flushed);
    *old = view_swap(db, view);
    view = NULL;
    kv_mutex_unlock(&db->view_mutex);
out:
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory changing the tree");
    kv_free(view); /* never filled */
    kv_obsolete_unreserve(db, reserved);
    kv_range_plan_release(&plan);
    kv_version_unref(base);
    kv_version_unref(version);
    return rc;
}

kv_status kv_db_change(struct kv_db *db, struct kv_change *change, struct kv_err *err)
{
    struct kv_view *old = NULL;
    kv_mutex_lock(&db->manifest_mutex);
    kv_status rc = change_commit(db, change, &old, err);
    kv_mutex_unlock(&db->manifest_mutex);
    kv_view_unref(old);
    if (rc == KV_OK)
        kv_obsolete_trim_log(db);
    return rc;
}

kv_status kv_db_commit_edit(struct kv_db *db, struct kv_edit *edit, struct kv_err *err)
{
    kv_edit_retention(edit, kv_db_retention_now(db));
    kv_mutex_lock(&db->manifest_mutex);
    kv_status rc = kv_manifest_commit(&db->manifest, edit, err);
    kv_mutex_unlock(&db->manifest_mutex);
    return rc;
}
