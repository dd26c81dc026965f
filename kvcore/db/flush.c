/* Memtables become tables: making room for commits, and the flush itself. */
#include "kvcore/db/keep.h"
#include "kvcore/db/output.h"
#include "kvcore/db/pick.h"
#include "kvcore/db/trace.h"

#include <math.h>

/* ---- room: the leader asks before it logs a group */

static size_t immutables(struct kv_db *db)
{
    kv_mutex_lock(&db->view_mutex);
    size_t n = db->view->n_mem - 1;
    kv_mutex_unlock(&db->view_mutex);
    return n;
}

bool kv_flush_pending(struct kv_db *db)
{
    return immutables(db) > 0;
}

static kv_status room_wait(struct kv_db *db, struct kv_err *err)
{
    kv_status rc = KV_OK;
    if (db->env->n_threads == 0 || db->closing) {
        while (rc == KV_OK && immutables(db) >= KV_IMMUTABLE_MAX)
            rc = kv_flush_one(db, err);
        return rc < 0 ? rc : KV_OK;
    }
    kv_mutex_lock(&db->view_mutex);
    uint64_t failures = db->flush_failures;
    if (db->view->n_mem - 1 >= KV_IMMUTABLE_MAX) {
        KV_COUNT(db, stalls);
        kv_db_kick(db);
    }
    while (db->view->n_mem - 1 >= KV_IMMUTABLE_MAX && db->flush_failures == failures && !db->closing)
        kv_cond_wait(&db->view_changed, &db->view_mutex);
    if (db->flush_failures != failures && db->view->n_mem - 1 >= KV_IMMUTABLE_MAX)
        rc = kv_fail(err, db->work_err.code, db->work_err.sys,
                     "memtables are full and a flush failed: %.190s", db->work_err.text);
    kv_mutex_unlock(&db->view_mutex);
    return rc;
}

/* One memtable before commits would have to wait, each group gives the flush a moment: a slope, not a cliff. */
static void room_slow_for_flush(struct kv_db *db)
{
    enum { SLOW_NS = 1000000 };
    kv_mutex_lock(&db->view_mutex);
    if (db->view->n_mem - 1 >= KV_IMMUTABLE_MAX - 1) {
        KV_COUNT(db, slowdowns);
        kv_cond_wait_for(&db->view_changed, &db->view_mutex, SLOW_NS);
    }
    kv_mutex_unlock(&db->view_mutex);
}

/* Where merges fall behind each group pays for its bytes with time, as much as the pressure asks (pressure_of);
 * small sums are collected. A merge that is done may end the wait. */
static void room_slow_for_merges(struct kv_db *db, size_t bytes)
{
    const uint64_t worth_ns = 1000000, most_ns = 10000000000;
    uint64_t per_kib = atomic_load_explicit(&db->slow_ns_per_kib, memory_order_relaxed);
    if (per_kib == 0) {
        db->slow_owed_ns = 0;
        return;
    }
    db->slow_owed_ns += (bytes + 1023) / 1024 * per_kib;
    if (db->slow_owed_ns < worth_ns)
        return;
    uint64_t began = kv_clock_mono_ns(db->env->clock);
    uint64_t wait = db->slow_owed_ns < most_ns ? db->slow_owed_ns : most_ns;
    KV_COUNT(db, slowdowns);
    kv_mutex_lock(&db->view_mutex);
    for (uint64_t past = 0;
         past < wait && atomic_load_explicit(&db->slow_ns_per_kib, memory_order_relaxed) && !db->closing;
         past = kv_clock_mono_ns(db->env->clock) - began)
        if (!kv_cond_wait_for(&db->view_changed, &db->view_mutex, wait - past))
            break;
    kv_mutex_unlock(&db->view_mutex);
    KV_COUNT_BY(db, slowdown_ns, kv_clock_mono_ns(db->env->clock) - began);
    db->slow_owed_ns -= wait; /* forgiven if the pressure ended */
}

/* More than all databases' memtables may have: waits for flushes, whosever; a disk that refuses is not waited for long. */
static void room_in_budget(struct kv_db *db, size_t bytes)
{
    const uint64_t most_ns = 1000000000, look_ns = 1000000;
    struct kv_memory *memory = &db->env->memory;
    if (!kv_memory_full(memory, bytes))
        return;
    KV_COUNT(db, memory_stalls);
    if (db->env->n_threads == 0 || db->closing) {
        while (kv_memory_full(memory, bytes) && kv_flush_one(db, NULL) == KV_OK)
            ;
        return;
    }
    kv_mutex_lock(&db->view_mutex);
    for (uint64_t past = 0; past < most_ns && kv_memory_full(memory, bytes) && !db->closing; past += look_ns)
        kv_cond_wait_for(&db->view_changed, &db->view_mutex, look_ns);
    kv_mutex_unlock(&db->view_mutex);
}

static void room_slow_down(struct kv_db *db, size_t bytes)
{
    if (db->env->n_threads == 0)
        return;
    room_slow_for_flush(db);
    room_slow_for_merges(db, bytes);
}

/* 0: none. 1: level 0 has grown to 9 times its trigger, or what lies above targets to 64 times base_bytes. */
static double pressure_of(const struct kv_tree *tree, uint32_t space, const struct kv_space *how)
{
    enum { RUNS_SLOW = 3, RUNS_FULL = 9, EXCESS_SLOW = 16, EXCESS_FULL = 64 };
    struct kv_pick_levels levels;
    kv_pick_levels(tree, space, how, NULL, &levels);
    double runs = (double)levels.level0_runs / how->level0_runs,
           excess = (double)levels.excess / (double)how->base_bytes;
    double by_runs = (runs - RUNS_SLOW) / (RUNS_FULL - RUNS_SLOW);
    double by_excess = (excess - EXCESS_SLOW) / (EXCESS_FULL - EXCESS_SLOW);
    double most = by_runs > by_excess ? by_runs : by_excess;
    return most > 0 ? most : 0;
}

enum { HIDES_SHARE = 10, HIDES_MEMTABLE_SHARE = 8 };

static void measure_entries(struct kv_db *db, const struct kv_tree *tree, uint32_t space)
{
    uint64_t puts = tree->entries - tree->deletes, least = db->options.memtable_bytes / HIDES_MEMTABLE_SHARE;
    uint64_t share = tree->bytes / HIDES_SHARE;
    atomic_store_explicit(&db->mean_bytes[space], puts ? tree->bytes / puts + 1 : 0, memory_order_relaxed);
    atomic_store_explicit(&db->hides_max[space], share > least ? share : least, memory_order_relaxed);
}

/* From nothing to about 64 KiB/s at pressure 1, and on: it doubles every tenth. */
void kv_db_press(struct kv_db *db, const struct kv_version *version)
{
    enum { FREE_NS_PER_KIB = 15000 };
    double pressure = 0, ns = 0;
    for (uint32_t i = 0; i < version->n_spaces; i++)
        if (db->spaces[i].style == KV_STYLE_LEVELLED) {
            measure_entries(db, &version->trees[i], i);
            double here = pressure_of(&version->trees[i], i, &db->spaces[i]);
            pressure = here > pressure ? here : pressure;
        }
    if (pressure > 0)
        ns = FREE_NS_PER_KIB * exp2(10 * (pressure < 2 ? pressure : 2));
    atomic_store_explicit(&db->slow_ns_per_kib, (uint64_t)ns, memory_order_relaxed);
}

/* ---- deletions */

void kv_db_note_deletion(struct kv_db *db, uint32_t space)
{
    db->active_hides[space] += atomic_load_explicit(&db->mean_bytes[space], memory_order_relaxed);
}

void kv_db_note_range(struct kv_db *db, uint32_t space, kv_slice lower, kv_slice upper)
{
    uint64_t visible;
    if (db->spaces[space].style != KV_STYLE_LEVELLED)
        return;
    struct kv_view *view = kv_view_pin(db, &visible);
    const struct kv_tree *tree = &view->version->trees[space];
    for (size_t i = 0; i < tree->n_items; i++) {
        const struct kv_table_properties *p = tree->items[i].properties;
        if (kv_slice_compare(p->largest, lower) >= 0 &&
            (upper.len == 0 || kv_slice_compare(p->smallest, upper) < 0))
            db->active_hides[space] += p->file_bytes;
    }
    kv_view_unref(view);
}

void kv_db_published(void *ctx, uint64_t seq)
{
    struct kv_db *db = ctx;
    bool much = false;
    (void)seq;
    for (uint32_t i = 0; i < db->n_spaces && !much; i++)
        much = db->active_hides[i] &&
               db->active_hides[i] > atomic_load_explicit(&db->hides_max[i], memory_order_relaxed);
    if (!much || immutables(db) >= KV_IMMUTABLE_MAX - 1)
        return;
    kv_status rc = kv_db_switch_memtable(db, NULL);
    if (rc < 0) /* then it is flushed when it is full */
        memset(db->active_hides, 0, sizeof db->active_hides);
}

kv_status kv_db_room(void *ctx, uint64_t first_seq, size_t entries, size_t bytes, struct kv_err *err)
{
    struct kv_db *db = ctx;
    struct kv_log_stats log;
    kv_status rc;
    (void)first_seq;
    kv_log_stats(db->log, &log);
    struct kv_memtable *active = db->active; /* changed by the leader alone */
    bool empty = kv_memtable_entries_all(active) == 0;
    bool full = kv_memtable_bytes(active) + bytes > db->options.memtable_bytes;
    bool far = log.bytes_ever - db->active_log_at > db->options.log_bytes_max;
    bool early = entries > 0 && kv_memory_presses(&db->env->memory, &db->tenant, bytes);
    if (!empty && ((full && entries > 0) || far || early)) {
        if (early && !full && !far)
            KV_COUNT(db, early_flushes);
        KV_TRY(room_wait(db, err));
        KV_TRY(kv_db_switch_memtable(db, err));
        active = db->active;
        empty = true;
    } else if (entries > 0) {
        room_slow_down(db, bytes);
    }
    if (empty)
        db->active_log_at = log.bytes_ever;
    if (entries > 0)
        room_in_budget(db, bytes);
    rc = entries ? kv_memtable_reserve(active, entries, bytes) : KV_OK;
    if (rc < 0)
        kv_fail(err, rc, 0, "out of memory for %zu bytes in the memtable", bytes);
    atomic_store_explicit(&db->tenant.active, kv_memtable_bytes(active), memory_order_relaxed);
    kv_memory_settle(&db->env->memory);
out:
    return rc;
}

/* ---- flush */

struct flush_space {
    struct kv_db *db;
    const struct kv_view *view;
    uint32_t space;
    struct kv_output *output;
    struct kv_err *err;
};

static bool flush_older(void *ctx, kv_slice key, uint64_t version)
{
    struct flush_space *f = ctx;
    return kv_version_may_hold_older(f->view->version, f->space, &f->db->spaces[f->space], key, version);
}

static bool flush_between(void *ctx, kv_slice key, uint64_t newer, uint64_t older)
{
    struct flush_space *f = ctx;
    return kv_version_may_hold_between(f->view->version, f->space, &f->db->spaces[f->space], key, newer,
                                       older);
}

static kv_status flush_emit(void *ctx, const struct kv_entry *entry, bool first)
{
    struct flush_space *f = ctx;
    return kv_output_add(f->output, f->space, entry, first, f->err);
}

/* What nobody needs any more is left out: readers that want an older entry pin the memtable. */
static kv_status flush_space(struct kv_db *db, const struct kv_view *view, struct kv_memtable *memtable,
                             uint32_t space, const struct kv_ranges *ranges, struct kv_output *output,
                             struct kv_err *err)
{
    struct flush_space f = {db, view, space, output, err};
    struct kv_keep keep = {.how = &db->spaces[space],
                           .now_s = (uint64_t)kv_db_retention_now(db) / 1000,
                           .oldest_txn = kv_db_oldest_txn(db),
                           .ranges = ranges,
                           .older = flush_older,
                           .between = flush_between,
                           .emit = flush_emit,
                           .ctx = &f};
    struct kv_entry_iter *it = NULL;
    kv_status rc;
    KV_TRY(kv_memtable_iter_open(memtable, space, (kv_slice){0}, (kv_slice){0}, &it));
    it->err = err;
    KV_TRY(kv_keep_run(&keep, it));
out:
    kv_entry_iter_close(it);
    kv_keep_release(&keep);
    return rc;
}

/* The memtable's range deletions of a space: onto adds for the tree, and as a set for its own entries. */
static kv_status flush_ranges(struct kv_memtable *memtable, uint32_t space, struct kv_buf *adds,
                              struct kv_ranges **set)
{
    struct kv_buf list = {0};
    kv_status rc = kv_memtable_ranges(memtable, space, &list);
    size_t n = list.len / sizeof(struct kv_range);
    const struct kv_range *ranges = (const struct kv_range *)(const void *)list.data;
    if (rc == KV_OK && n > 0)
        rc = kv_ranges_new(ranges, n, set);
    for (size_t i = 0; rc == KV_OK && i < n; i++) {
        struct kv_range_add add = {space, ranges[i]};
        rc = kv_buf_append(adds, kv_slice_of(&add, sizeof add));
    }
    kv_buf_release(&list);
    return rc;
}

static kv_status flush_memtable(struct kv_db *db, const struct kv_view *view, struct kv_memtable *memtable,
                                struct kv_err *err)
{
    struct kv_output output;
    struct kv_edit edit = {0};
    struct kv_change change = {.edit = &edit, .flushed = memtable};
    struct kv_buf adds = {0};
    kv_status rc = KV_OK;
    kv_output_init(&output, db);
    output.ranges_applied = kv_memtable_version_newest(memtable);
    output.deletes_since_s = (uint64_t)kv_db_retention_now(db) / 1000;
    for (uint32_t space = 0; space < db->n_spaces && rc == KV_OK; space++) {
        struct kv_ranges *ranges = NULL;
        if (kv_memtable_range_count(memtable, space) > 0)
            rc = flush_ranges(memtable, space, &adds, &ranges);
        if (rc == KV_OK && kv_memtable_entries(memtable, space) > 0)
            rc = flush_space(db, view, memtable, space, ranges, &output, err);
        kv_ranges_unref(ranges);
    }
    KV_TRY(rc);
    KV_TRY(kv_output_finish(&output, err));
    change.ranges = (const struct kv_range_add *)(const void *)adds.data;
    change.n_ranges = adds.len / sizeof(struct kv_range_add);
    kv_output_install(&output, &change, 0);
    kv_edit_last_seq(&edit, kv_memtable_version_newest(memtable));
    output.keep = true;
    KV_TRY(kv_db_change(db, &change, err));
    KV_COUNT(db, flushes);
    kv_job_ended(db, KV_JOB_FLUSH, KV_OK, NULL);
    KV_COUNT_BY(db, flush_bytes, output.bytes);
    kv_env_pace_take(db->env, output.bytes);
out:
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory flushing a memtable");
    kv_edit_release(&edit);
    kv_output_release(&output);
    kv_buf_release(&adds);
    return rc;
}

static void flush_failed(struct kv_db *db, const struct kv_err *err)
{
    KV_COUNT(db, flush_failures);
    kv_db_work_failed(db, KV_JOB_FLUSH, err);
    kv_mutex_lock(&db->view_mutex);
    db->flush_failures++;
    kv_cond_broadcast(&db->view_changed);
    kv_mutex_unlock(&db->view_mutex);
}

kv_status kv_flush_one(struct kv_db *db, struct kv_err *err)
{
    struct kv_err local = {0};
    uint64_t visible;
    kv_status rc = KV_END;
    kv_mutex_lock(&db->flush_mutex);
    struct kv_view *view = kv_view_pin(db, &visible);
    if (view->n_mem > 1) {
        struct kv_memtable *oldest = view->mem[view->n_mem - 1];
        kv_db_renew_data_key(db);
        struct kv_trace_span span;
        kv_trace_begin(db, &span, "flush", KV_SPACE_ALL, (kv_slice){0}, kv_memtable_entries_all(oldest));
        rc = flush_memtable(db, view, oldest, &local);
        if (rc == KV_NO_SPACE) { /* the reserve is for this */
            if (db->committer)
                kv_committer_release_reserve(db->committer);
            rc = flush_memtable(db, view, oldest, &local);
        }
        kv_trace_end(db, &span, rc);
    }
    kv_view_unref(view);
    kv_memory_settle(&db->env->memory);
    if (rc < 0)
        flush_failed(db, &local);
    kv_mutex_unlock(&db->flush_mutex);
    if (rc < 0)
        kv_err_copy(err, &local);
    return rc;
}

static kv_status switch_if_used(void *ctx, uint64_t seq, struct kv_err *err)
{
    struct kv_db *db = ctx;
    (void)seq;
    return kv_memtable_entries_all(db->active) ? kv_db_switch_memtable(db, err) : KV_OK;
}

/* True while a memtable that holds something at or below seq waits. */
static bool waits_below(struct kv_db *db, uint64_t seq)
{
    kv_mutex_lock(&db->view_mutex);
    size_t n = db->view->n_mem;
    bool waits = n > 1 && kv_memtable_version_oldest(db->view->mem[n - 1]) <= seq;
    kv_mutex_unlock(&db->view_mutex);
    return waits;
}

/* Is there no room for another memtable before one is flushed? */
static bool memtables_full(struct kv_db *db)
{
    kv_mutex_lock(&db->view_mutex);
    bool full = db->view->n_mem >= KV_MEMTABLES_MAX;
    kv_mutex_unlock(&db->view_mutex);
    return full;
}

kv_status kv_flush_give(struct kv_db *db, struct kv_err *err)
{
    if (!db->committer || !atomic_exchange(&db->give, false))
        return KV_END;
    KV_COUNT(db, early_flushes);
    return kv_committer_exclusive(db->committer, false, switch_if_used, db, err);
}

kv_status kv_flush(struct kv_db *db, struct kv_err *err)
{
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    uint64_t target = kv_db_visible(db);
    kv_status rc = KV_OK;
    while (rc == KV_OK && memtables_full(db)) /* recovery may have left so many */
        rc = kv_flush_one(db, err);
    if (rc >= 0)
        rc = kv_committer_exclusive(db->committer, false, switch_if_used, db, err);
    while (rc == KV_OK && waits_below(db, target))
        rc = kv_flush_one(db, err);
    if (rc >= 0)
        kv_obsolete_log(db);
    return rc < 0 ? rc : KV_OK;
}
