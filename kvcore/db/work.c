/*
 * Work in the background and on demand: what is merged when, by whom, and what keeps clear of it.
 *
 * Under merge_mutex a view is pinned, a pick made, and claimed; then the mutex is left and the work done. A claim
 * ends after its result is installed, so whoever picks sees either the claim or the result.
 */
#include "kvcore/db/compact.h"
#include "kvcore/db/trace.h"
#include "kvcore/db/tree_iter.h"

enum { RANGE_TRIES = 100 };

static struct kv_pick_limits limits_now(struct kv_db *db)
{
    return (struct kv_pick_limits){.now_s = (uint64_t)kv_db_retention_now(db) / 1000,
                                   .oldest_txn = kv_db_oldest_txn(db)};
}

static bool has_hook(const struct kv_db *db, const struct kv_pick *pick)
{
    return pick->kind == KV_PICK_MERGE && pick->whole && db->spaces[pick->space].hook;
}

/* One merge with a hook at a time. merge_mutex is held. */
static bool hook_is_free(const struct kv_db *db, const struct kv_pick *pick)
{
    for (const struct kv_claim *c = has_hook(db, pick) ? db->claims : NULL; c; c = c->next)
        if (has_hook(db, &c->pick))
            return false;
    return true;
}

/* A bulk load may be installed and not be visible yet: readers of what is would miss what the merge leaves out.
 * And a hook may drop or change what it sees, so it sees nothing that a live transaction has yet to notice. */
static bool is_visible(struct kv_db *db, const struct kv_pick *pick, uint64_t visible)
{
    if (pick->kind == KV_PICK_MOVE)
        return true;
    if (has_hook(db, pick)) {
        uint64_t oldest_txn = kv_db_oldest_txn(db);
        visible = oldest_txn < visible ? oldest_txn : visible;
    }
    return pick->version_max <= visible;
}

/* What may be done now. A space whose most pressing work has to wait does not keep the others waiting. merge_mutex is held. */
static bool pick_now(struct kv_db *db, const struct kv_view *view, uint64_t visible, struct kv_pick *pick)
{
    struct kv_pick_limits limits = limits_now(db);
    while (kv_pick_work(view->version, db->spaces, &limits, db->claims, pick)) {
        if (is_visible(db, pick, visible) && hook_is_free(db, pick))
            return true;
        limits.blocked |= UINT32_C(1) << pick->space;
    }
    return false;
}

static void claim_begin(struct kv_db *db, struct kv_claim *claim)
{
    claim->next = db->claims;
    db->claims = claim;
}

static void claim_end(struct kv_db *db, struct kv_claim *claim)
{
    kv_mutex_lock(&db->merge_mutex);
    struct kv_claim **at = &db->claims;
    while (*at != claim)
        at = &(*at)->next;
    *at = claim->next;
    kv_cond_broadcast(&db->claims_changed);
    kv_mutex_unlock(&db->merge_mutex);
}

/* ---- a place for tables that come from elsewhere */

static uint32_t place_of(const struct kv_db *db, uint32_t space, const struct kv_tree *tree,
                         const struct kv_table_properties *p)
{
    uint32_t level = kv_pick_deepest(tree, &db->spaces[space], p->smallest, p->largest);
    while (level > 0 && !kv_pick_is_clear(db->claims, space, level, p->smallest, p->largest))
        level--;
    return level;
}

void kv_place_begin(struct kv_db *db, uint32_t space, struct kv_tree_add *adds, size_t n,
                    struct kv_claim *claim)
{
    const struct kv_table_properties *first = kv_table_properties(adds[0].table);
    const struct kv_table_properties *last = kv_table_properties(adds[n - 1].table);
    uint64_t visible;
    *claim = (struct kv_claim){.pick = {.kind = KV_PICK_MOVE,
                                        .space = space,
                                        .whole = true,
                                        .span_smallest = first->smallest,
                                        .span_largest = last->largest}};
    kv_mutex_lock(&db->merge_mutex);
    struct kv_view *view = kv_view_pin(db, &visible);
    for (size_t i = 0; db->spaces[space].style == KV_STYLE_LEVELLED && i < n; i++)
        adds[i].level = place_of(db, space, &view->version->trees[space], kv_table_properties(adds[i].table));
    claim_begin(db, claim);
    kv_mutex_unlock(&db->merge_mutex);
    kv_view_unref(view);
}

void kv_place_end(struct kv_db *db, struct kv_claim *claim)
{
    claim_end(db, claim);
}

/* ---- by itself */

static void merge_failed(struct kv_db *db, kv_status rc, const struct kv_err *err)
{
    KV_COUNT(db, merge_failures);
    kv_db_work_failed(db, KV_JOB_MERGE, err);
    if (rc == KV_CORRUPT || rc == KV_INVALID || rc == KV_TOO_NEW)
        db->merging_stopped = true; /* trying again would fail again; reads go on, damage stays where it is */
}

/* Nothing is to be done now: a worker looks again when time may have changed that. */
static void wait_for_time(struct kv_db *db, const struct kv_version *version, uint64_t now_s)
{
    const uint64_t ns_per_s = 1000000000, most_s = 3600; /* the retention clock may be slewed meanwhile */
    uint64_t next = kv_pick_next_s(version, db->spaces, now_s), at = 0;
    if (next != UINT64_MAX) {
        uint64_t wait = next > now_s ? next - now_s : 1;
        at = kv_clock_mono_ns(db->env->clock) + (wait < most_s ? wait : most_s) * ns_per_s;
    }
    kv_env_job_at(db->env, &db->merge_job, at);
}

kv_status kv_merge_one(struct kv_db *db, struct kv_err *err)
{
    struct kv_claim claim;
    struct kv_err local = {0};
    uint64_t visible;
    if (db->merging_stopped || db->closing)
        return KV_END;
    kv_mutex_lock(&db->merge_mutex);
    struct kv_view *view = kv_view_pin(db, &visible);
    bool found = pick_now(db, view, visible, &claim.pick);
    if (found)
        claim_begin(db, &claim);
    kv_mutex_unlock(&db->merge_mutex);
    kv_status rc = KV_END; /* what is not visible or free yet: whoever changes that kicks us again */
    if (found) {
        kv_db_kick(db); /* another worker may find something else */
        struct kv_trace_span span;
        kv_trace_begin(db, &span, "merge", claim.pick.space, (kv_slice){0}, 0);
        rc = kv_trace_end(db, &span, kv_pick_do(db, view, &claim.pick, &local));
        claim_end(db, &claim);
    } else {
        wait_for_time(db, view->version, limits_now(db).now_s);
    }
    kv_view_unref(view);
    if (rc == KV_CONFLICT)
        return KV_OK;
    if (rc < 0 && rc != KV_CANCELED)
        merge_failed(db, rc, &local);
    if (rc < 0)
        kv_err_copy(err, &local);
    return rc;
}

/* ---- on demand */

struct range_merge {
    struct kv_db *db;
    uint32_t space;
    kv_slice lower, upper;
    uint64_t version;   /* what is newer came later and is left alone */
    struct kv_buf from; /* spaces of style runs, or with a hook: cut by cut, this is where the next begins */
    struct kv_buf next; /* and this the one behind the one at hand; empty: none */
    bool by_cuts;
    struct kv_err *err;
};

/* The first cut at or behind `from` that begins below upper. */
static kv_status range_pick_cut(struct range_merge *r, const struct kv_view *view, struct kv_pick *pick)
{
    const struct kv_tree *tree = &view->version->trees[r->space];
    const struct kv_space *how = &r->db->spaces[r->space];
    uint32_t to = how->style == KV_STYLE_LEVELLED ? KV_LEVELS_MAX - 1 : 0;
    size_t first, last;
    kv_tree_cut_range(tree, kv_buf_slice(&r->from), r->upper, &first, &last);
    for (; first < last; first++) {
        const struct kv_cut *cut = &tree->cuts[first];
        kv_status rc = cut->prefix.len ? kv_prefix_end(cut->prefix, &r->next) : KV_OK;
        size_t runs = kv_pick_runs(how, cut);
        if (rc < 0 || runs > 1 || (runs && how->hook))
            return rc < 0 ? rc : kv_pick_whole(view->version, r->space, first, to, r->db->claims, pick);
    }
    return KV_END;
}

static kv_status range_pick(struct range_merge *r, const struct kv_view *view, uint64_t visible,
                            struct kv_pick *pick)
{
    struct kv_db *db = r->db;
    struct kv_pick_limits limits = limits_now(db);
    kv_buf_clear(&r->next);
    kv_status rc = r->by_cuts ? range_pick_cut(r, view, pick)
                              : kv_pick_range(view->version, r->space, &db->spaces[r->space], r->lower,
                                              r->upper, r->version, &limits, db->claims, pick);
    if (rc == KV_OK && !hook_is_free(db, pick))
        return KV_BUSY;
    return rc == KV_OK && !is_visible(db, pick, visible) ? KV_CONFLICT : rc;
}

/* One step, after work that is in the way. KV_END: nothing is left to do. KV_CONFLICT: try again. */
static kv_status range_step(struct range_merge *r)
{
    struct kv_db *db = r->db;
    struct kv_claim claim;
    struct kv_view *view = NULL;
    kv_status rc = KV_BUSY;
    kv_mutex_lock(&db->merge_mutex);
    while (rc == KV_BUSY) {
        uint64_t visible;
        view = kv_view_pin(db, &visible);
        rc = range_pick(r, view, visible, &claim.pick);
        if (rc == KV_BUSY) {
            kv_view_unref(view);
            kv_cond_wait(&db->claims_changed, &db->merge_mutex);
        }
    }
    if (rc == KV_OK)
        claim_begin(db, &claim);
    kv_mutex_unlock(&db->merge_mutex);
    if (rc == KV_OK) {
        rc = kv_pick_do(db, view, &claim.pick, r->err);
        claim_end(db, &claim);
    }
    kv_view_unref(view);
    return rc;
}

static bool memtables_touch(struct kv_db *db, uint32_t space, kv_slice lower, kv_slice upper)
{
    uint64_t visible;
    struct kv_view *view = kv_view_pin(db, &visible);
    bool touches = false;
    for (size_t i = 0; i < view->n_mem && !touches; i++)
        touches = kv_memtable_touches(view->mem[i], space, lower, upper);
    kv_view_unref(view);
    return touches;
}

static kv_status range_run(struct range_merge *r)
{
    kv_status rc = KV_OK;
    if (memtables_touch(r->db, r->space, r->lower, r->upper))
        KV_TRY(kv_flush(r->db, r->err));
    r->version = kv_db_visible(r->db);
    KV_TRY(kv_buf_append(&r->from, r->lower));
    for (int tries = 0; rc == KV_OK;) {
        rc = range_step(r);
        if (rc == KV_CONFLICT && ++tries < RANGE_TRIES) { /* whatever was on its way is visible after this */
            rc = kv_committer_exclusive(r->db->committer, false, NULL, NULL, r->err);
            continue;
        }
        tries = 0;
        if (!r->by_cuts)
            continue;
        if (rc != KV_OK || r->next.len == 0)
            break;
        kv_buf_clear(&r->from);
        KV_TRY(kv_buf_append(&r->from, kv_buf_slice(&r->next)));
    }
    if (rc == KV_CONFLICT)
        kv_fail(r->err, rc, 0,
                "space %s: a live transaction may still have to notice what the hook would change",
                r->db->spaces[r->space].name);
    if (rc >= 0)
        rc = kv_db_aside_in(r->db, r->space, r->lower, r->upper, r->err);
out:
    return rc < 0 ? rc : KV_OK;
}

kv_status kv_merge_range(struct kv_db *db, uint32_t declared, kv_slice lower, kv_slice upper,
                         struct kv_err *err)
{
    if (!kv_space_known(db, declared))
        return kv_fail(err, KV_INVALID, 0, "space %u does not exist", declared);
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    struct range_merge r = {.db = db, .space = db->ids[declared], .lower = lower, .upper = upper, .err = err};
    r.by_cuts = db->spaces[r.space].style == KV_STYLE_RUNS || db->spaces[r.space].hook;
    struct kv_trace_span span;
    kv_trace_begin(db, &span, "merge_range", r.space, lower, 0);
    kv_status rc = kv_trace_end(db, &span, range_run(&r));
    kv_buf_release(&r.from);
    kv_buf_release(&r.next);
    kv_db_kick(db);
    return rc;
}

/* ---- insight */

static uint64_t counted(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

kv_status kv_levels(struct kv_db *db, uint32_t declared, struct kv_level_stats out[KV_LEVELS_MAX])
{
    struct kv_pick_levels levels = {0};
    uint64_t visible;
    if (!kv_space_known(db, declared))
        return KV_INVALID;
    uint32_t space = db->ids[declared];
    bool levelled = db->spaces[space].style == KV_STYLE_LEVELLED;
    kv_mutex_lock(&db->merge_mutex);
    struct kv_view *view = kv_view_pin(db, &visible);
    const struct kv_tree *tree = &view->version->trees[space];
    if (levelled)
        kv_pick_levels(tree, space, &db->spaces[space], db->claims, &levels);
    kv_mutex_unlock(&db->merge_mutex);
    for (uint32_t i = 0; i < KV_LEVELS_MAX; i++) {
        struct kv_level_counters *counters = &db->level_counters[space][i];
        out[i] = (struct kv_level_stats){.tables = tree->levels[i].tables,
                                         .bytes = tree->levels[i].bytes,
                                         .entries = tree->levels[i].entries,
                                         .deletions = tree->levels[i].deletes,
                                         .target_bytes = levels.target[i],
                                         .score = levels.score[i],
                                         .merges = counted(&counters->merges),
                                         .moves = counted(&counters->moves),
                                         .bytes_read = counted(&counters->bytes_read),
                                         .bytes_written = counted(&counters->bytes_written)};
        struct kv_reads_level_sum sum;
        kv_reads_level_total(&db->reads, (size_t)space * KV_LEVELS_MAX + i, 1, &sum);
        out[i].gets = sum.filtered + sum.asked;
        out[i].gets_filtered = sum.filtered;
        out[i].gets_found = sum.found;
    }
    kv_view_unref(view);
    return KV_OK;
}
