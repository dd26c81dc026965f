/* Random histories. Each has its own taste: what happens often, rarely or never, which spaces and keys are hot, how long values are. */
#include "kvcore/base/prng.h"
#include "tests/model/kv_ops.h"
#include "tests/model/model.h"

const char *const history_op_names[] = {
#define O(name, what) #name,
    HISTORY_OPS(O)
#undef O
        NULL};

enum action {
    ACT_COMMIT,
    ACT_GET,
    ACT_SCAN,
    ACT_VERSIONS,
    ACT_SNAPSHOT,
    ACT_ITER,
    ACT_TXN,
    ACT_LOAD,
    ACT_FLUSH,
    ACT_WORK,
    ACT_MERGE,
    ACT_DROP,
    ACT_CLOCK,
    ACT_CLOCK_STEP,
    ACT_SYNC,
    ACT_ROTATE,
    ACT_CHECKPOINT,
    ACT_BACKUP,
    ACT_READ_ONLY,
    ACT_CHECK,
    ACT_REOPEN,
    ACT_CRASH,
    ACT_VERIFY,
    ACT_SETTLE,
    ACTIONS
};
static const uint32_t usual[ACTIONS] = {
    [ACT_COMMIT] = 3000, [ACT_GET] = 2200,     [ACT_SCAN] = 400,  [ACT_VERSIONS] = 80,  [ACT_SNAPSHOT] = 150,
    [ACT_ITER] = 1400,   [ACT_TXN] = 2000,     [ACT_LOAD] = 100,  [ACT_FLUSH] = 80,     [ACT_WORK] = 250,
    [ACT_MERGE] = 50,    [ACT_DROP] = 15,      [ACT_CLOCK] = 80,  [ACT_CLOCK_STEP] = 3, [ACT_SYNC] = 20,
    [ACT_ROTATE] = 8,    [ACT_CHECKPOINT] = 3, [ACT_BACKUP] = 3,  [ACT_READ_ONLY] = 3,  [ACT_CHECK] = 3,
    [ACT_REOPEN] = 8,    [ACT_CRASH] = 22,     [ACT_VERIFY] = 10, [ACT_SETTLE] = 5,
};

struct maker {
    struct history *history;
    struct kv_prng prng;
    uint32_t weights[ACTIONS], total;
    uint32_t space_weights[MODEL_SPACES], space_total;
    uint32_t hot_from, hot_count; /* keys */
    uint32_t commit_max, long_values;
    uint32_t n; /* of the last value */
    bool sweep;
    bool iters[ITER_SLOTS], txns[TXN_SLOTS], loads[LOAD_SLOTS];
};

static uint32_t pick(struct maker *m, uint32_t n)
{
    return (uint32_t)kv_prng_below(&m->prng, n);
}

static uint32_t pick_weighted(struct maker *m, const uint32_t *weights, uint32_t total)
{
    uint32_t at = pick(m, total), i = 0;
    while (at >= weights[i])
        at -= weights[i++];
    return i;
}

static uint32_t pick_space(struct maker *m)
{
    return pick_weighted(m, m->space_weights, m->space_total);
}

static uint32_t pick_key(struct maker *m)
{
    return pick(m, 3) ? (m->hot_from + pick(m, m->hot_count)) % MODEL_KEYS : pick(m, MODEL_KEYS);
}

static uint32_t pick_bound(struct maker *m)
{
    if (pick(m, 4) == 0)
        return 0;
    return pick(m, 2) ? model_key_point(pick_key(m)) + 1 : pick(m, model_points()) + 1;
}

static void pick_range(struct maker *m, struct op *op)
{
    uint32_t a = pick(m, model_points()), b = pick(m, 3) ? a + 1 + pick(m, 8) : pick(m, model_points());
    if (b >= model_points())
        b = model_points() - 1;
    if (a == b)
        a = b ? b - 1 : b, b = a + 1;
    op->lower = (a < b ? a : b) + 1;
    op->upper = (a < b ? b : a) + 1;
}

static void emit(struct maker *m, const struct op *op)
{
    history_add(m->history, op);
}

static uint32_t pick_len(struct maker *m)
{
    if (pick(m, 100) < m->long_values)
        return pick(m, 8) ? 200 + pick(m, 600) : 1000 + pick(m, 6000);
    return pick(m, 3) ? pick(m, 40) : 0;
}

/* A put's value and attributes. */
static void pick_value(struct maker *m, struct op *op)
{
    op->len = pick_len(m);
    if (op->space != SPACE_HOOK && pick(m, 4) == 0) {
        op->how = 2 | (pick(m, 4) == 0);
        op->ttl = pick(m, 2) ? 1 + pick(m, pick(m, 2) ? 30 : 3000) : 0;
        op->meta = pick(m, 2) ? pick(m, 256) : 0;
    }
}

static void add_write(struct maker *m)
{
    struct op op = {.space = pick_space(m), .key = pick_key(m)};
    uint32_t what = pick(m, 100);
    op.kind = what < 70 ? OP_put : what < 92 ? OP_delete : OP_delete_range;
    if (space_merges(op.space) && pick(m, 2))
        op.kind = OP_operand;
    if (op.kind == OP_delete_range) {
        op.key = 0;
        pick_range(m, &op);
    }
    if (op.kind == OP_put)
        pick_value(m, &op);
    if (op.kind == OP_put || op.kind == OP_operand)
        op.n = ++m->n;
    if (op.kind == OP_put && op.n % 4 == 0)
        op.how |= 4; /* in parts */
    emit(m, &op);
}

static void add_commit(struct maker *m)
{
    struct op commit = {.kind = OP_commit};
    for (uint32_t n = 1 + pick(m, m->commit_max); n > 0; n--)
        add_write(m);
    if (pick(m, 8) == 0) {
        commit.how = 1;
        commit.n = ++m->n;
    }
    if (pick(m, 8) == 0)
        commit.how |= 2;
    emit(m, &commit);
}

static uint32_t pick_snap(struct maker *m)
{
    return pick(m, 3) ? 0 : 1 + pick(m, SNAP_SLOTS);
}

static void add_read(struct maker *m, enum op_kind kind)
{
    struct op op = {.kind = kind, .space = pick_space(m), .snap = pick_snap(m)};
    if (kind == OP_versions)
        op.space = pick(m, 2) ? SPACE_VERSIONS : op.space;
    if (kind == OP_get) {
        op.key = pick_key(m);
    } else {
        op.lower = pick_bound(m);
        op.upper = pick_bound(m);
        op.since = pick(m, 4) ? 0 : 1 + pick(m, 100);
        op.n = pick(m, 1000);
        op.how = kind == OP_scan ? pick(m, 2) | (pick(m, 6) ? 0 : 2) | (pick(m, 6) ? 0 : 4) : 0;
    }
    emit(m, &op);
}

static void add_iter(struct maker *m)
{
    uint32_t slot = pick(m, ITER_SLOTS);
    struct op op = {.slot = slot};
    if (!m->iters[slot]) {
        m->iters[slot] = true;
        op.kind = OP_iter;
        op.space = pick_space(m);
        op.snap = pick_snap(m);
        op.lower = pick(m, 2) ? pick_bound(m) : 0;
        op.upper = pick(m, 2) ? pick_bound(m) : 0;
        op.since = pick(m, 5) ? 0 : 1 + pick(m, 100);
        op.how = pick(m, 8) ? 0 : 2;
        emit(m, &op);
        return;
    }
    switch (pick(m, 12)) {
    case 0:
        op.kind = OP_iter_close;
        m->iters[slot] = false;
        break;
    case 1:
    case 2:
        op.kind = pick(m, 2) ? OP_seek : OP_seek_before;
        op.lower = pick_bound(m);
        break;
    default:
        op.kind = pick(m, 2) ? OP_next : OP_prev;
        for (uint32_t more = pick(m, 4); more > 0; more--)
            emit(m, &op);
    }
    emit(m, &op);
}

static void add_txn(struct maker *m)
{
    uint32_t slot = pick(m, TXN_SLOTS), what = pick(m, 100);
    struct op op = {.slot = slot, .space = pick_space(m), .key = pick_key(m)};
    if (!m->txns[slot]) {
        op = (struct op){.kind = OP_begin, .slot = slot, .how = pick(m, 8) == 0};
        op.snap = op.how ? pick_snap(m) : 0;
        m->txns[slot] = true;
    } else if (what < 35) {
        op.kind = OP_txn_get;
    } else if (what < 60) {
        op.kind = space_merges(op.space) && pick(m, 2) ? OP_txn_operand : OP_txn_put;
        op.n = ++m->n;
        if (op.kind == OP_txn_put)
            pick_value(m, &op);
    } else if (what < 68) {
        op.kind = pick(m, 3) == 0 ? OP_txn_delete_range : OP_txn_delete;
        if (op.kind == OP_txn_delete_range) {
            op.key = 0;
            pick_range(m, &op);
        }
    } else if (what < 82) {
        op.kind = OP_txn_scan;
        op.key = 0;
        op.lower = pick_bound(m);
        op.upper = pick_bound(m);
        op.since = pick_bound(m); /* where it seeks to */
        op.n = pick(m, 3) ? pick(m, 5) : 1000;
        op.how = (pick(m, 6) == 0) | (pick(m, 3) == 0 ? 2 : 0);
    } else {
        op = (struct op){.kind = what < 96 ? OP_txn_commit : OP_abort, .slot = slot};
        m->txns[slot] = false;
        if (op.kind == OP_txn_commit && pick(m, 6) == 0) {
            op.how = 1 + pick(m, 3);
            op.n = ++m->n;
        }
        if (op.kind == OP_txn_commit && pick(m, 4) == 0)
            op.how |= 4;
    }
    emit(m, &op);
}

static void add_load(struct maker *m)
{
    uint32_t slot = pick(m, LOAD_SLOTS);
    struct op op = {.slot = slot};
    if (!m->loads[slot]) {
        op.kind = OP_load;
        op.space = pick_space(m);
        pick_range(m, &op);
        op.len = 1 + pick(m, 5);
        op.n = m->n + 1;
        m->n += MODEL_KEYS;
        m->loads[slot] = true;
    } else if (pick(m, 10) == 0) {
        op.kind = OP_load_abort;
        m->loads[slot] = false;
    } else {
        op.kind = OP_install;
        op.how = pick(m, 3) == 0;
        op.meta = pick(m, 101);
        m->loads[slot] = false;
    }
    emit(m, &op);
}

static void reopened(struct maker *m)
{
    for (size_t i = 0; i < ITER_SLOTS; i++)
        m->iters[i] = false;
    for (size_t i = 0; i < TXN_SLOTS; i++)
        m->txns[i] = false;
    for (size_t i = 0; i < LOAD_SLOTS; i++)
        m->loads[i] = false;
}

static void add_whole(struct maker *m, enum op_kind kind)
{
    struct op op = {.kind = kind};
    if (kind == OP_reopen || kind == OP_crash) {
        op.how = pick(m, 3) != 0;
        op.n = 1 + pick(m, 1u << 20);
    }
    if (kind == OP_crash) {
        op.meta = pick(m, 3);
        op.how |= (pick(m, 4) ? 0u : 2u) | (pick(m, 4) ? 0u : 4u);
        if (m->sweep) {
            op.how |= 2;
            emit(m, &(struct op){.kind = OP_sync});
        }
    }
    if (kind == OP_checkpoint)
        op.how = pick(m, 2);
    if (kind == OP_backup)
        op.how = pick(m, 3);
    if (kind != OP_verify && !(kind == OP_checkpoint && !op.how) && !(kind == OP_backup && op.how < 2))
        reopened(m);
    emit(m, &op);
}

static void add_plain(struct maker *m, enum op_kind kind)
{
    struct op op = {.kind = kind};
    if (kind == OP_work)
        op.n = 1 + pick(m, pick(m, 3) ? 3 : 30);
    if (kind == OP_merge || kind == OP_drop) {
        op.space = pick_space(m);
        op.lower = pick_bound(m);
        op.upper = pick_bound(m);
    }
    if (kind == OP_clock)
        op.n = pick(m, 10) ? pick(m, 20000) : pick(m, 5) ? pick(m, 200000) : 660000;
    if (kind == OP_clock_step)
        op.how = pick(m, 3) == 0;
    if (kind == OP_rotate)
        op.how = pick(m, 2);
    if (kind == OP_snapshot) {
        op.slot = pick(m, SNAP_SLOTS);
        op.kind = pick(m, 4) ? OP_snapshot : OP_unsnapshot;
    }
    emit(m, &op);
}

static void add_action(struct maker *m, enum action action)
{
    static const enum op_kind plain[ACTIONS] = {
        [ACT_SNAPSHOT] = OP_snapshot, [ACT_FLUSH] = OP_flush,
        [ACT_WORK] = OP_work,         [ACT_MERGE] = OP_merge,
        [ACT_DROP] = OP_drop,         [ACT_CLOCK] = OP_clock,
        [ACT_SYNC] = OP_sync,         [ACT_CLOCK_STEP] = OP_clock_step,
        [ACT_ROTATE] = OP_rotate,
    };
    static const enum op_kind whole[ACTIONS] = {
        [ACT_CHECKPOINT] = OP_checkpoint, [ACT_BACKUP] = OP_backup, [ACT_READ_ONLY] = OP_read_only,
        [ACT_CHECK] = OP_check,           [ACT_REOPEN] = OP_reopen, [ACT_CRASH] = OP_crash,
        [ACT_VERIFY] = OP_verify,         [ACT_SETTLE] = OP_settle,
    };
    if (action == ACT_COMMIT)
        add_commit(m);
    else if (action == ACT_GET)
        add_read(m, OP_get);
    else if (action == ACT_SCAN)
        add_read(m, OP_scan);
    else if (action == ACT_VERSIONS)
        add_read(m, OP_versions);
    else if (action == ACT_ITER)
        add_iter(m);
    else if (action == ACT_TXN)
        add_txn(m);
    else if (action == ACT_LOAD)
        add_load(m);
    else if (plain[action])
        add_plain(m, plain[action]);
    else
        add_whole(m, whole[action]);
}

static void choose_taste(struct maker *m)
{
    static const uint32_t times_four[] = {0, 1, 4, 4, 4, 4, 12};
    for (size_t i = 0; i < ACTIONS; i++) {
        m->weights[i] = usual[i] * times_four[pick(m, sizeof times_four / sizeof *times_four)];
        if (m->sweep && i == ACT_DROP)
            m->weights[i] = 0; /* what goes depends on how tables lie */
        m->total += m->weights[i];
    }
    m->weights[ACT_COMMIT] += 100;
    m->total += 100;
    for (size_t i = 0; i < MODEL_SPACES; i++) {
        m->space_weights[i] = times_four[pick(m, sizeof times_four / sizeof *times_four)] + 1;
        m->space_total += m->space_weights[i];
    }
    m->hot_from = pick(m, MODEL_KEYS);
    m->hot_count = 1 + pick(m, pick(m, 2) ? 5 : 30);
    m->commit_max = pick(m, 4) ? 4 : 40;
    m->long_values = pick(m, 3) ? pick(m, 15) : 0;
}

void history_make(struct history *history, uint64_t seed, size_t n, bool sweep)
{
    struct maker m = {.history = history, .sweep = sweep};
    kv_prng_init(&m.prng, seed);
    choose_taste(&m);
    while (history->n < n)
        add_action(&m, (enum action)pick_weighted(&m, m.weights, m.total));
}
