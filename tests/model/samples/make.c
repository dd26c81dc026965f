/* Random histories. Each has its own taste: what happens often, rarely or never, which series and days are hot, what values are like. */
#include "kvcore/base/prng.h"
#include "tests/model/samples/naive.h"
#include "tests/model/samples/ops.h"

enum action {
    ACT_REQUEST,
    ACT_DELETE,
    ACT_RAW,
    ACT_RANGE,
    ACT_LIST,
    ACT_FLUSH,
    ACT_SETTLE,
    ACT_MAINTAIN,
    ACT_WORK,
    ACT_CLOCK,
    ACT_CLOCK_STEP,
    ACT_SNAPSHOT,
    ACT_BACKUP,
    ACT_READ_ONLY,
    ACT_CHECK,
    ACT_REOPEN,
    ACT_CRASH,
    ACT_VERIFY,
    ACTIONS
};
static const uint32_t usual[ACTIONS] = {
    [ACT_REQUEST] = 3000,  [ACT_DELETE] = 300,  [ACT_RAW] = 1500,     [ACT_RANGE] = 700,    [ACT_LIST] = 500,
    [ACT_FLUSH] = 120,     [ACT_SETTLE] = 30,   [ACT_MAINTAIN] = 200, [ACT_WORK] = 100,     [ACT_CLOCK] = 400,
    [ACT_CLOCK_STEP] = 30, [ACT_SNAPSHOT] = 20, [ACT_BACKUP] = 15,    [ACT_READ_ONLY] = 10, [ACT_CHECK] = 10,
    [ACT_REOPEN] = 60,     [ACT_CRASH] = 120,   [ACT_VERIFY] = 80,
};
enum { TODAY_S = 40 * 86400 + 43200 };

struct maker {
    struct history *history;
    struct kv_prng prng;
    uint32_t weights[ACTIONS], total;
    uint32_t hot_series, hot_count, hot_day, days; /* late data goes to a hot day, or that far back */
    uint32_t rows_max, samples_max, kind, late, step;
    uint32_t next[NAIVE_SERIES]; /* where a series goes on */
    uint32_t now_s;              /* nearly what the clock says */
};

static uint32_t pick(struct maker *m, uint32_t n)
{
    return (uint32_t)kv_prng_below(&m->prng, n);
}

static uint32_t pick_series(struct maker *m)
{
    return pick(m, 6) ? (m->hot_series + pick(m, m->hot_count)) % NAIVE_SERIES : pick(m, NAIVE_SERIES);
}

/* A second of the past, sometimes of the future. */
static uint32_t pick_at(struct maker *m)
{
    uint32_t day = m->now_s / 86400;
    switch (pick(m, 8)) {
    case 0:
        return m->now_s + 7200 - pick(m, 10000);
    case 1:
        return pick(m, 86400 * (day + 2));
    case 2:
    case 3:
        return m->hot_day * 86400 + pick(m, 86400);
    case 4: /* near midnight */
        return (day - pick(m, m->days < day ? m->days : day)) * 86400 + 60 - pick(m, 120);
    default:
        return m->now_s - pick(m, m->days * 86400 < m->now_s ? m->days * 86400 : m->now_s);
    }
}

static void emit(struct maker *m, const struct op *op)
{
    history_add(m->history, op);
}

static void add_put(struct maker *m)
{
    struct op op = {.kind = OP_put, .series = pick_series(m)};
    op.n = 1 + pick(m, m->samples_max);
    op.step = pick(m, 4) ? m->step : 1 + pick(m, pick(m, 2) ? 2000 : 3600000);
    op.meta = pick(m, 3) ? m->kind : pick(m, 10);
    op.len = pick(m, 1u << 30);
    op.how = (pick(m, 3) == 0) | (pick(m, 12) ? 0 : 2);
    uint64_t length_s = (uint64_t)op.n * op.step / 1000 + 1;
    if (pick(m, 100) < m->late) {
        op.at = pick_at(m);
    } else {
        uint32_t *next = &m->next[op.series];
        if (*next + 86400 < m->now_s || *next > m->now_s)
            *next = m->now_s - pick(m, 43200);
        op.at = *next;
        *next += (uint32_t)length_s;
    }
    if (op.at + length_s > m->now_s + 5000 && pick(m, 8))
        op.at = m->now_s > length_s ? m->now_s - (uint32_t)length_s : 0;
    emit(m, &op);
    if (pick(m, 20) == 0) { /* the same again */
        op.len += pick(m, 2);
        emit(m, &op);
    }
}

static void add_request(struct maker *m)
{
    for (uint32_t n = 1 + pick(m, m->rows_max); n > 0; n--) {
        uint32_t what = pick(m, 60);
        if (what == 0)
            emit(m, &(struct op){.kind = OP_bad, .n = pick(m, BAD_ROWS)});
        else if (what == 1)
            emit(m, &(struct op){.kind = OP_edge,
                                 .series = pick_series(m),
                                 .n = pick(m, EDGES),
                                 .at = pick_at(m),
                                 .len = pick(m, 1000)});
        else
            add_put(m);
    }
    emit(m, &(struct op){.kind = pick(m, 40) ? OP_commit : OP_abort});
}

static uint32_t pick_length(struct maker *m)
{
    switch (pick(m, 5)) {
    case 0:
        return 86400 * (1 + pick(m, 20));
    case 1:
        return 86400;
    case 2:
        return pick(m, 100);
    default:
        return pick(m, 20000);
    }
}

static void add_asking(struct maker *m, enum samples_op kind)
{
    struct op op = {.kind = kind, .series = pick_series(m), .at = pick_at(m), .n = pick_length(m)};
    op.meta = pick(m, 3) ? 0 : pick(m, NAIVE_SELECTORS);
    if (kind == OP_range) {
        op.step = pick(m, 2) ? 1000 * (1 + pick(m, 600)) : 1 + pick(m, 100000);
        op.n = pick(m, 4) ? pick(m, 60) : 0;
    }
    if (kind == OP_series || kind == OP_values) {
        op.meta = pick(m, NAIVE_SELECTORS);
        op.step = kind == OP_values ? pick(m, 4) : 0;
    }
    if (kind != OP_series && kind != OP_values)
        op.how = pick(m, 3) ? 0 : 16;
    if (kind == OP_delete) {
        op.how |= (pick(m, 6) == 0) | (pick(m, 3) ? 0 : 2) | (pick(m, 12) ? 0 : 4) | (pick(m, 12) ? 0 : 8);
        op.meta = pick(m, 8) && op.meta == 5 ? 0 : op.meta;
    }
    emit(m, &op);
}

static void add_clock(struct maker *m, enum samples_op kind)
{
    struct op op = {.kind = kind};
    if (kind == OP_clock) {
        op.n = pick(m, 3) ? pick(m, 600000) : pick(m, 86400000);
        if (pick(m, 10) == 0)
            op.n += 86400000 * pick(m, 12);
        m->now_s += op.n / 1000;
    } else {
        op.n = pick(m, 2) ? pick(m, 86400) : pick(m, 86400 * 20);
        op.how = pick(m, 2) | (pick(m, 4) ? 4 : pick(m, 3) ? 0 : 2);
    }
    emit(m, &op);
}

static void add_whole(struct maker *m, enum samples_op kind)
{
    struct op op = {.kind = kind};
    if (kind == OP_reopen || kind == OP_crash) {
        op.how = (pick(m, 3) != 0) | (pick(m, 2) ? 2 : 0);
        op.n = 1 + pick(m, 1u << 20);
    }
    if (kind == OP_reopen && pick(m, 4) == 0)
        op.how |= 4;
    if (kind == OP_crash) {
        op.meta = pick(m, 3);
        op.how = (op.how & 1) | (pick(m, 4) ? 0u : 2u) | (pick(m, 4) ? 0u : 4u);
    }
    if (kind == OP_snapshot)
        op.how = pick(m, 4);
    if (kind == OP_backup)
        op.how = pick(m, 3) | (pick(m, 3) ? 0 : 4) | (pick(m, 5) ? 0 : 8);
    if (kind == OP_work)
        op.n = 1 + pick(m, 20);
    emit(m, &op);
}

static void add_action(struct maker *m, enum action action)
{
    static const enum samples_op whole[ACTIONS] = {
        [ACT_FLUSH] = OP_flush,         [ACT_SETTLE] = OP_settle,     [ACT_MAINTAIN] = OP_maintain,
        [ACT_WORK] = OP_work,           [ACT_SNAPSHOT] = OP_snapshot, [ACT_BACKUP] = OP_backup,
        [ACT_READ_ONLY] = OP_read_only, [ACT_CHECK] = OP_check,       [ACT_REOPEN] = OP_reopen,
        [ACT_CRASH] = OP_crash,         [ACT_VERIFY] = OP_verify,
    };
    if (action == ACT_REQUEST)
        add_request(m);
    else if (action == ACT_DELETE)
        add_asking(m, OP_delete);
    else if (action == ACT_RAW)
        add_asking(m, OP_raw);
    else if (action == ACT_RANGE)
        add_asking(m, OP_range);
    else if (action == ACT_LIST)
        add_asking(m, pick(m, 2) ? OP_series : OP_values);
    else if (action == ACT_CLOCK)
        add_clock(m, OP_clock);
    else if (action == ACT_CLOCK_STEP)
        add_clock(m, OP_clock_step);
    else
        add_whole(m, whole[action]);
}

static void choose_taste(struct maker *m)
{
    static const uint32_t times_four[] = {0, 1, 4, 4, 4, 4, 12};
    static const uint32_t steps[] = {1000, 10000, 15000, 15000, 60000, 600000};
    for (size_t i = 0; i < ACTIONS; i++) {
        m->weights[i] = usual[i] * times_four[pick(m, sizeof times_four / sizeof *times_four)];
        m->total += m->weights[i];
    }
    m->weights[ACT_REQUEST] += 1000;
    m->total += 1000;
    m->hot_series = pick(m, NAIVE_SERIES);
    m->hot_count = 1 + pick(m, pick(m, 2) ? 4 : 30);
    m->hot_day = 40 - pick(m, pick(m, 2) ? 3 : 35);
    m->days = 1 + pick(m, pick(m, 2) ? 3 : 39);
    m->rows_max = 1 + pick(m, pick(m, 2) ? 4 : 30);
    m->samples_max = 1 + pick(m, pick(m, 4) ? 30 : 600);
    m->kind = pick(m, 10);
    m->late = pick(m, 2) ? pick(m, 20) : pick(m, 101);
    m->step = steps[pick(m, sizeof steps / sizeof *steps)];
    m->now_s = TODAY_S;
}

void samples_make(struct history *history, uint64_t seed, size_t n)
{
    struct maker m = {.history = history};
    kv_prng_init(&m.prng, seed);
    choose_taste(&m);
    while (history->n < n) {
        uint32_t at = pick(&m, m.total), i = 0;
        while (at >= m.weights[i])
            at -= m.weights[i++];
        add_action(&m, (enum action)i);
    }
}
