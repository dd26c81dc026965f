/*
 * The store under failing files, failing memory and lost power: over a script that appends, overwrites, deletes, flushes, merges,
 * expires and reopens, every answered change is found again, none that was refused, none that was deleted.
 */
#include "kvcore/base/mem.h"
#include "tests/support/sweep.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/store_kit.h"
#include "tests/support/vfs_crash.h"
#include "tests/support/vfs_fault.h"
#include "tsdb/db.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>

/* ---- the script -------------------------------------------------------------------------------------------------- */

enum { SERIES = 4, TIMES = 40 };
#define GRID_MS INT64_C(1800000) /* half an hour: the grid covers 20 hours, two windows */

/* The last series' rule has passed the first window, grid times below EXPIRES, once the clock was advanced. */
enum { EXPIRES = 16 };
static const struct ts_retention_rule rule = {{(const uint8_t *)"{i=\"3\"}", 7}, KIT_DAY_MS + KIT_DAY_MS / 2};

struct state {
    bool
        expired; /* what the rule has passed may be there or not: a store found again may have an older clock */
    bool present[SERIES][TIMES];
    double value[SERIES][TIMES];
};

enum op_kind { OP_PUT, OP_DELETE, OP_FLUSH, OP_SETTLE, OP_MAINTAIN, OP_REOPEN, OP_REOPEN_FAST, OP_ADVANCE };
struct op {
    enum op_kind kind;
    int series, from, to; /* put: from series to the last, at times [from, to]; delete: of series */
    double value;
};

static const struct op script[] = {
    {OP_PUT, 0, 0, 9, 1},         {OP_PUT, 1, 10, 12, 2},
    {OP_PUT, 0, 5, 6, 3}, /* late and overwriting */
    {OP_DELETE, 1, 8, 10, 0},     {OP_PUT, 1, 9, 9, 4},
    {OP_FLUSH, 0, 0, 0, 0},       {OP_PUT, 0, 3, 13, 5},
    {OP_REOPEN_FAST, 0, 0, 0, 0}, {OP_DELETE, 2, 0, 12, 0},
    {OP_PUT, 2, 11, 15, 6},       {OP_FLUSH, 0, 0, 0, 0},
    {OP_SETTLE, 0, 0, 0, 0},      {OP_PUT, 3, 1, 2, 7},
    {OP_DELETE, 3, 0, 39, 0},     {OP_PUT, 3, 2, 2, 8},
    {OP_SETTLE, 0, 0, 0, 0},      {OP_REOPEN, 0, 0, 0, 0},
    {OP_PUT, 0, 16, 20, 9},       {OP_ADVANCE, 0, 0, 0, 0},
    {OP_MAINTAIN, 0, 0, 0, 0},    {OP_PUT, 0, 20, 22, 10},
    {OP_REOPEN_FAST, 0, 0, 0, 0},
};
enum { OPS = sizeof script / sizeof script[0] };

static int64_t grid(int at)
{
    return KIT_START_MS - KIT_DAY_MS / 2 - 8 * 3600000 + at * GRID_MS;
}

static void state_apply(struct state *s, const struct op *op)
{
    if (op->kind == OP_PUT) {
        for (int series = op->series; series < SERIES; series++)
            for (int at = op->from; at <= op->to; at++) {
                s->present[series][at] = true;
                s->value[series][at] = op->value + at;
            }
    }
    if (op->kind == OP_ADVANCE)
        s->expired = true;
    if (op->kind == OP_DELETE)
        for (int at = op->from; at <= op->to; at++)
            s->present[op->series][at] = false;
}

static kv_status run_put(struct store_kit *kit, const struct op *op)
{
    int64_t times[TIMES];
    double values[TIMES];
    size_t n = 0;
    for (int at = op->from; at <= op->to; at++, n++) {
        times[n] = grid(at);
        values[n] = op->value + at;
    }
    kv_status rc = KV_OK;
    for (int series = op->series; series < SERIES && rc == KV_OK; series++)
        rc = store_kit_add_many(kit, series, times, values, n);
    if (rc < 0) {
        ts_append_abort(kit->appender);
        return rc;
    }
    rc = store_kit_commit(kit);
    cr_assert(rc < 0 || kit->result.rejected == 0, "%s", kit->result.rejects[0].text);
    return rc;
}

/* A closed store stays closed when it cannot be opened; then every operation fails. */
static kv_status run_op(struct store_kit *kit, const struct op *op)
{
    kv_status closed = KV_OK, rc;
    if (!kit->db) {
        rc = store_kit_open(kit);
        if (rc < 0)
            return rc;
    }
    switch (op->kind) {
    case OP_PUT:
        return run_put(kit, op);
    case OP_DELETE:
        return store_kit_delete(kit, op->series, grid(op->from), grid(op->to));
    case OP_FLUSH:
        return ts_flush(kit->db, false, &kit->err);
    case OP_SETTLE:
        return ts_flush(kit->db, true, &kit->err);
    case OP_MAINTAIN:
        return ts_maintain(kit->db, &kit->err);
    case OP_ADVANCE:
        clock_manual_advance_ms(&kit->clock, KIT_DAY_MS);
        return KV_OK;
    case OP_REOPEN:
    case OP_REOPEN_FAST:
        closed = store_kit_close(kit, op->kind == OP_REOPEN_FAST);
        rc = store_kit_open(kit);
        return rc < 0 ? rc : closed;
    }
    return KV_INVALID;
}

/* Whether the store answers exactly `s`. KV_OK, KV_END (it does not), or the error of reading. */
static kv_status matches(struct store_kit *kit, const struct state *s)
{
    struct ts_columns columns = {0};
    kv_status rc = KV_OK;
    for (int series = 0; series < SERIES && rc == KV_OK; series++) {
        size_t at = 0;
        rc = store_kit_read(kit, series, INT64_MIN, INT64_MAX, &columns);
        for (int t = 0; t < TIMES && rc == KV_OK; t++) {
            if (!s->present[series][t])
                continue;
            bool optional = s->expired && series == SERIES - 1 && t < EXPIRES;
            if (optional && (at >= columns.n || columns.times_ms[at] != grid(t)))
                continue;
            if (at >= columns.n || columns.times_ms[at] != grid(t) ||
                columns.values[at] != s->value[series][t])
                rc = KV_END;
            at++;
        }
        if (rc == KV_OK && at != columns.n)
            rc = KV_END;
    }
    ts_columns_release(&columns);
    return rc;
}

static void start(struct store_kit *kit, struct kv_vfs *vfs)
{
    store_kit_init(kit);
    kv_vfs_mem_free(kit->vfs);
    kit->vfs = vfs;
    kit->options.retention_ms = INT64_MAX;
    kit->options.retention_rules = &rule;
    kit->options.n_retention_rules = 1;
    kit->options.head_log_bytes_max = 400; /* generations change in mid-script */
}

/* The vfs stays its owner's. */
static void finish(struct store_kit *kit)
{
    (void)store_kit_close(kit, true);
    kit->vfs = NULL;
    store_kit_release(kit);
}

Test(store_crash, the_script_itself_works)
{
    struct store_kit kit;
    struct state s = {0};
    struct kv_vfs *vfs = kv_vfs_mem_new();
    int advanced = 0;
    start(&kit, vfs);
    for (int i = 0; i < OPS; i++) {
        cr_assert_eq(run_op(&kit, &script[i]), KV_OK, "operation %d: %s", i, kit.err.text);
        state_apply(&s, &script[i]);
        cr_assert_eq(matches(&kit, &s), KV_OK, "after operation %d", i);
        if (script[i].kind == OP_ADVANCE)
            advanced = i;
    }
    struct ts_columns columns = {0}; /* the rule was applied, and its window thinned */
    cr_assert_eq(store_kit_read(&kit, SERIES - 1, INT64_MIN, INT64_MAX, &columns), KV_OK);
    cr_assert(advanced > 0 && columns.n > 0 && columns.times_ms[0] >= grid(EXPIRES));
    ts_columns_release(&columns);
    const struct ts_select first = {.from_ms = grid(0), .to_ms = grid(EXPIRES) - 1};
    uint64_t *refs;
    size_t n;
    cr_assert_eq(ts_index_select(kit.db->registry, &first, &refs, &n, NULL), KV_OK);
    cr_assert_eq(n, SERIES - 1);
    kv_free(refs);
    finish(&kit);
    kv_vfs_mem_free(vfs);
}

/* ---- lost power -------------------------------------------------------------------------------------------------- */

struct trace {
    struct vfs_crash *crash;
    uint64_t acked[OPS];          /* changes asked for when the operation was answered */
    struct state states[OPS + 1]; /* before each operation, and at the end */
};

static struct trace *trace_new(void)
{
    struct trace *t = calloc(1, sizeof *t);
    struct store_kit kit;
    t->crash = vfs_crash_new();
    start(&kit, vfs_crash_as_vfs(t->crash));
    for (int i = 0; i < OPS; i++) {
        cr_assert_eq(run_op(&kit, &script[i]), KV_OK, "operation %d: %s", i, kit.err.text);
        t->states[i + 1] = t->states[i];
        state_apply(&t->states[i + 1], &script[i]);
        t->acked[i] = vfs_crash_ops(t->crash);
    }
    finish(&kit);
    return t;
}

/* After power was lost at k changes: every answered operation, and the one under way wholly or not at all. */
static void expect_recovered(const struct trace *t, struct store_kit *kit, uint64_t k, const char *what)
{
    int sure = 0;
    while (sure < OPS && t->acked[sure] < k)
        sure++;
    kv_status rc = store_kit_open(kit);
    cr_assert_eq(rc, KV_OK, "%s: %s", what, kit->err.text);
    rc = matches(kit, &t->states[sure]);
    for (int next = sure; rc == KV_END && next < OPS; next++) {
        rc = matches(kit, &t->states[next + 1]);
        if (t->acked[next] > k)
            break;
    }
    cr_assert_eq(rc, KV_OK, "%s: neither the state before operation %d nor the one after it (%s)", what, sure,
                 rc == KV_END ? "it differs" : kit->err.text);
}

Test(store_crash, power_lost_at_any_change_loses_nothing_answered, .timeout = 3000)
{
    struct trace *t = trace_new();
    uint64_t n = vfs_crash_ops(t->crash);
    for (uint64_t k = 0; k <= n + 1; k++) {
        for (int profile = 0; profile < VFS_CRASH_PROFILES; profile++) {
            struct store_kit kit;
            char what[96];
            uint64_t seed = k % 4 == 3 ? k : k % 4;
            struct kv_vfs *disk = vfs_crash_at(t->crash, k, seed, (enum vfs_crash_profile)profile);
            snprintf(what, sizeof what, "power lost at change %" PRIu64 " of %" PRIu64 ", profile %d", k, n,
                     profile);
            start(&kit, disk);
            expect_recovered(t, &kit, k, what);
            /* It is a whole store: it takes a write, a delete and a merge, and keeps them. */
            if (k % 16 == 0) {
                store_kit_put(&kit, 0, grid(39), 77);
                cr_assert_eq(store_kit_delete(&kit, 0, grid(0), grid(38)), KV_OK, "%s: %s", what,
                             kit.err.text);
                cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK, "%s: %s", what, kit.err.text);
                struct ts_columns columns = {0};
                cr_assert_eq(store_kit_read(&kit, 0, INT64_MIN, INT64_MAX, &columns), KV_OK);
                cr_assert_eq(columns.n, 1, "%s", what);
                ts_columns_release(&columns);
            }
            finish(&kit);
            kv_vfs_mem_free(disk);
        }
    }
    vfs_crash_free(t->crash);
    free(t);
}

Test(store_crash, power_lost_again_during_recovery_loses_nothing_answered, .timeout = 3000)
{
    static const char *const paths[] = {"db", NULL};
    struct trace *t = trace_new();
    uint64_t n = vfs_crash_ops(t->crash);
    for (uint64_t k = 5; k <= n + 1; k += sweep_stride(n / 12)) {
        struct kv_vfs *first = vfs_crash_at(t->crash, k, k, VFS_CRASH_POSIX_MIN);
        struct vfs_crash *again = vfs_crash_new_from(first, paths);
        struct store_kit kit;
        start(&kit, vfs_crash_as_vfs(again));
        cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
        finish(&kit);
        for (uint64_t j = 0; j <= vfs_crash_ops(again) + 1; j++) {
            char what[96];
            struct kv_vfs *disk = vfs_crash_at(again, j, j, (enum vfs_crash_profile)(j % VFS_CRASH_PROFILES));
            snprintf(what, sizeof what,
                     "power lost at change %" PRIu64 ", then at change %" PRIu64 " of recovery", k, j);
            start(&kit, disk);
            expect_recovered(t, &kit, k, what);
            finish(&kit);
            kv_vfs_mem_free(disk);
        }
        vfs_crash_free(again);
        kv_vfs_mem_free(first);
    }
    vfs_crash_free(t->crash);
    free(t);
}

/* ---- failing files ----------------------------------------------------------------------------------------------- */

/* Runs the script while the plan's operation fails. Answers what the store must hold: `sure`, or with an outcome unknown also `other`. */
struct outcome {
    struct state sure, other;
    bool unknown;
};

static void run_failing(struct store_kit *kit, struct outcome *o, const char *what)
{
    for (int i = 0; i < OPS; i++) {
        struct state after = o->sure;
        state_apply(&after, &script[i]);
        kv_status rc = run_op(kit, &script[i]);
        if (rc >= 0) {
            o->sure = after;
        } else if (rc == KV_UNKNOWN_OUTCOME && !o->unknown) {
            o->unknown = true;
            o->other = after;
        }
        if (!kit->db)
            continue;
        rc = matches(kit, &o->sure);
        if (rc == KV_END && o->unknown)
            rc = matches(kit, &o->other);
        cr_assert_neq(rc, KV_END, "%s: operation %d left something wrong to read", what, i);
    }
}

static void sweep(enum vfs_fault_kind kind, bool sticky, uint64_t stride)
{
    bool fired = true;
    for (uint64_t nth = 1; fired; nth += sweep_stride(stride)) {
        struct kv_vfs *disk = kv_vfs_mem_new();
        struct vfs_fault *fault = vfs_fault_new(disk);
        const struct vfs_fault_plan plan = {.nth = nth, .kind = kind, .sticky = sticky};
        struct outcome *o = calloc(1, sizeof *o);
        struct store_kit kit;
        char what[96];
        snprintf(what, sizeof what, "fault %d, operation %" PRIu64 "%s", (int)kind, nth,
                 sticky ? " and all later ones" : "");
        start(&kit, vfs_fault_as_vfs(fault));
        vfs_fault_plan(fault, &plan);
        run_failing(&kit, o, what);
        fired = vfs_fault_fired(fault);
        finish(&kit);
        vfs_fault_plan(fault, NULL);
        start(&kit, disk); /* the disk works again */
        cr_assert_eq(store_kit_open(&kit), KV_OK, "%s: %s", what, kit.err.text);
        kv_status rc = matches(&kit, &o->sure);
        if (rc == KV_END && o->unknown)
            rc = matches(&kit, &o->other);
        cr_assert_eq(rc, KV_OK, "%s: %s", what, rc == KV_END ? "found something else" : kit.err.text);
        finish(&kit);
        free(o);
        vfs_fault_free(fault);
        kv_vfs_mem_free(disk);
    }
}

Test(store_crash, any_single_failing_operation_loses_nothing_answered, .timeout = 3000)
{
    sweep(VFS_FAULT_EIO, false, 1);
}

Test(store_crash, a_disk_that_fails_for_good_loses_nothing_answered, .timeout = 3000)
{
    sweep(VFS_FAULT_EIO, true, 3);
}

Test(store_crash, a_torn_append_loses_nothing_answered, .timeout = 3000)
{
    sweep(VFS_FAULT_SHORT_EIO, false, 1);
}

Test(store_crash, a_full_disk_loses_nothing_answered, .timeout = 3000)
{
    sweep(VFS_FAULT_ENOSPC, false, 2);
    sweep(VFS_FAULT_SHORT_ENOSPC, true, 5);
}

Test(store_crash, a_failed_sync_loses_nothing_answered, .timeout = 3000)
{
    sweep(VFS_FAULT_SYNC_KEEPS, false, 1);
    sweep(VFS_FAULT_SYNC_REVERTS, false, 1);
}

/* ---- failing memory ---------------------------------------------------------------------------------------------- */

Test(store_crash, any_single_failing_allocation_loses_nothing_answered, .timeout = 3000)
{
    bool fired = true;
    for (uint64_t nth = 1; fired; nth += 1 + nth / 40) {
        struct kv_vfs *disk = kv_vfs_mem_new();
        struct outcome *o = calloc(1, sizeof *o);
        struct store_kit kit;
        char what[96];
        snprintf(what, sizeof what, "allocation %" PRIu64, nth);
        start(&kit, disk);
        malloc_fault_arm(nth, false);
        run_failing(&kit, o, what);
        fired = malloc_fault_disarm();
        finish(&kit);
        start(&kit, disk);
        cr_assert_eq(store_kit_open(&kit), KV_OK, "%s: %s", what, kit.err.text);
        kv_status rc = matches(&kit, &o->sure);
        if (rc == KV_END && o->unknown)
            rc = matches(&kit, &o->other);
        cr_assert_eq(rc, KV_OK, "%s: %s", what, rc == KV_END ? "found something else" : kit.err.text);
        finish(&kit);
        free(o);
        kv_vfs_mem_free(disk);
    }
}
