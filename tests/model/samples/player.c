#include "tests/model/samples/player.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "tsdb/db.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

const char *const history_op_names[] = {
#define O(name, what) #name,
    SAMPLES_OPS(O)
#undef O
        NULL};

void player_fail(struct player *p, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "operation %zu: ", p->at);
    if (p->at < p->history->n)
        history_print_op(&p->history->ops[p->at], stderr);
    fprintf(stderr, "  version %" PRIu64 ": ", p->version);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

void player_options(struct player *p, uint32_t set)
{
    samples_options(set, p->made_under, &p->options);
    if (p->threads)
        samples_options_for_workers(&p->options);
}

void player_must(struct player *p, const char *what, kv_status rc, kv_status expected)
{
    if (rc != expected)
        player_fail(p, "%s answered %s instead of %s: %s", what, kv_status_name(rc), kv_status_name(expected),
                    rc < 0 ? p->err.text : "");
}

void player_must_ask(struct player *p, const char *what, kv_status rc)
{
    if (rc < 0)
        player_fail(p, "%s answered %s: %s", what, kv_status_name(rc), p->query_err.text);
}

void *player_grown(void *old, size_t *capacity, size_t n, size_t size)
{
    void *more = kv_grow(old, capacity, n + 1, size);
    KV_ASSERT(more != NULL);
    return more;
}

bool player_snap(const struct player *p, const struct op *op, uint32_t further, int64_t *first_ms,
                 int64_t *last_ms)
{
    const struct naive_series *series = &p->naive.series[op->series % NAIVE_SERIES];
    if (series->n == 0)
        return false;
    size_t first = op->at % series->n, last = first + further < series->n ? first + further : series->n - 1;
    *first_ms = series->samples[first].time_ms;
    *last_ms = series->samples[last].time_ms;
    return true;
}

static int64_t keep_of(const struct player *p, size_t class)
{
    const struct ts_options *store = &p->options.store;
    if (class < store->n_retention_rules)
        return p->options.rules[class].keep_ms;
    return store->retention_ms ? store->retention_ms : 30 * NAIVE_DAY_MS;
}

int64_t player_floor(const struct player *p, uint32_t series, int64_t clock_ms)
{
    size_t class = 0;
    while (!(p->options.series[class] >> series & 1))
        class ++;
    int64_t keep_ms = keep_of(p, class);
    return keep_ms == INT64_MAX ? INT64_MIN : clock_ms - keep_ms;
}

int64_t player_floor_now(struct player *p, uint32_t series)
{
    return player_floor(p, series, kv_retention_clock_ms(ts_kv(p->db)));
}

void player_expire(struct player *p)
{
    int64_t clock_ms = kv_retention_clock_ms(ts_kv(p->db));
    for (size_t class = 0; class <= p->options.store.n_retention_rules; class ++) {
        int64_t keep_ms = keep_of(p, class);
        if (keep_ms != INT64_MAX && p->options.series[class])
            naive_add(&p->naive, &(struct naive_event){.kind = NAIVE_FLOOR,
                                                       .series = p->options.series[class],
                                                       .to_ms = clock_ms - keep_ms});
    }
}

/* It follows the monotonic clock, an eighth faster or slower at most, whatever the wall clock says. */
static void judge_clock(struct player *p)
{
    uint64_t mono_ns = kv_clock_mono_ns(&p->clock.base);
    int64_t now = kv_retention_clock_ms(ts_kv(p->db)),
            passed = (int64_t)((mono_ns - p->clock_mono_ns) / 1000000);
    int64_t went = now - p->clock_ms;
    if (went < passed - passed / 8 - 2 || went > passed + passed / 8 + 2)
        player_fail(p, "the retention clock went %" PRId64 " ms in %" PRId64, went, passed);
    p->clock_ms = now;
    p->clock_mono_ns = mono_ns;
}

/* ---- one operation */

static void work(struct player *p, const struct op *op)
{
    kv_status rc = p->threads ? KV_END : KV_OK;
    for (uint32_t i = 0; i < op->n && rc == KV_OK; i++)
        rc = kv_work(ts_kv(p->db), &p->err);
    if (rc != KV_OK && rc != KV_END)
        player_must(p, "kv_work", rc, KV_OK);
}

/* A store that is too large drops days, whole, the oldest of those in tables; never the newest. What is gone with one is gone before
 * any crash that comes. */
static void days_cut(struct player *p, const struct ts_window *before, size_t n_before, uint64_t may_go)
{
    struct ts_window now;
    size_t gone = 0;
    for (size_t i = n_before; i > 0; i--) {
        int64_t from_ms = ts_window_start_ms(before[i - 1].window), to_ms = from_ms + TS_WINDOW_MS - 1;
        bool there = ts_windows_find(p->db->windows, before[i - 1].window, &now) ||
                     ts_head_has_window(p->db->head, before[i - 1].window);
        bool had = naive_has(&p->naive, from_ms, to_ms);
        if (!there && had && (i == n_before || ++gone > may_go))
            player_fail(p, "the day of %" PRId64 " is gone, %zu of %zu; %" PRIu64 " were cut", from_ms, i,
                        n_before, may_go);
        if (!there && had)
            naive_add(&p->naive, &(struct naive_event){.kind = NAIVE_DELETE,
                                                       .version = kv_seq(ts_kv(p->db)),
                                                       .series = UINT64_MAX,
                                                       .from_ms = from_ms,
                                                       .to_ms = to_ms});
        if (there && had && gone > 0)
            player_fail(p, "the day of %" PRId64 " stays, and a younger one was cut", from_ms);
    }
    if (gone == 0)
        return;
    player_must(p, "kv_sync", kv_sync(ts_kv(p->db), &p->err), KV_OK);
    p->version = p->durable = kv_seq(ts_kv(p->db));
    player_clear_marks(p);
    player_verify(p);
}

static void care(struct player *p, bool settle)
{
    struct ts_window *before = NULL;
    size_t n = 0;
    uint64_t cut = atomic_load(&p->db->counters.windows_cut);
    /* What is flushed now counts as well: first, so that it is known. */
    if (p->options.store.retention_bytes)
        player_must(p, "ts_flush", ts_flush(p->db, false, &p->err), KV_OK);
    player_expire(p);
    player_must(p, "windows", ts_windows_copy(p->db->windows, INT32_MIN, INT32_MAX, &before, &n), KV_OK);
    player_must(p, settle ? "ts_flush to settle" : "ts_maintain",
                settle ? ts_flush(p->db, true, &p->err) : ts_maintain(p->db, &p->err), KV_OK);
    cut = atomic_load(&p->db->counters.windows_cut) - cut;
    if (cut > 0 && !p->options.store.retention_bytes)
        player_fail(p, "%" PRIu64 " days were cut, and there is no bound", cut);
    if (cut > 0)
        days_cut(p, before, n, cut);
    kv_free(before);
}

static void play_read(struct player *p, const struct op *op)
{
    switch (op->kind) {
    case OP_raw:
        player_raw(p, op);
        break;
    case OP_range:
        player_range(p, op);
        break;
    case OP_series:
    case OP_values:
        player_catalog(p, op);
        break;
    default:
        player_life(p, op);
    }
}

static void play(struct player *p, const struct op *op)
{
    switch (op->kind) {
    case OP_put:
    case OP_edge:
    case OP_bad:
        player_row(p, op);
        break;
    case OP_commit:
        player_commit(p);
        break;
    case OP_abort:
        ts_append_abort(p->appender);
        player_abort(p);
        break;
    case OP_delete:
        player_delete(p, op);
        break;
    case OP_flush:
        player_must(p, "ts_flush", ts_flush(p->db, false, &p->err), KV_OK);
        break;
    case OP_settle:
    case OP_maintain:
        care(p, op->kind == OP_settle);
        break;
    case OP_work:
        work(p, op);
        break;
    case OP_verify:
        player_verify(p);
        break;
    default:
        play_read(p, op);
    }
}

static void mark(struct player *p, uint64_t began)
{
    uint64_t now = vfs_crash_ops(p->crash);
    if (now == began && p->n_marks > 0)
        return;
    p->marks = player_grown(p->marks, &p->marks_capacity, p->n_marks, sizeof *p->marks);
    p->marks[p->n_marks++] = (struct mark){began, now, p->version, p->durable};
}

static void play_marked(struct player *p, const struct op *op)
{
    bool recorded = p->crash != NULL;
    uint64_t began = recorded ? vfs_crash_ops(p->crash) : 0;
    play(p, op);
    player_expire(p);
    judge_clock(p);
    p->version = kv_seq(ts_kv(p->db));
    if (p->options.store.durability <= KV_DURABILITY_ALWAYS)
        p->durable = p->version;
    if (recorded && p->crash)
        mark(p, began);
}

void player_run(const struct history *history, volatile uint64_t *played)
{
    struct player *p = kv_zalloc(1, sizeof *p);
    KV_ASSERT(p != NULL);
    *p = (struct player){.history = history, .made_under = history->options, .path = "db"};
    p->threads = history->threads;
    p->memory = kv_vfs_mem_new();
    KV_ASSERT(p->memory != NULL);
    clock_manual_init(&p->clock, NAIVE_ORIGIN_MS + 40 * NAIVE_DAY_MS + NAIVE_DAY_MS / 2,
                      history->options + 1);
    player_options(p, history->options);
    player_open(p, false);
    for (; p->at < history->n; p->at++, *played += 1)
        play_marked(p, &history->ops[p->at]);
    player_verify(p);
    play_marked(p, &(struct op){.kind = OP_settle});
    play_marked(p, &(struct op){.kind = OP_check});
    player_close(p, false);
    vfs_crash_free(p->crash);
    kv_vfs_mem_free(p->memory);
    clock_manual_release(&p->clock);
    naive_release(&p->naive);
    kv_free(p->pending);
    kv_free(p->marks);
    kv_free(p);
}
