/* Requests and deletes. */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "tests/model/samples/player.h"
#include "tsdb/db.h"
#include "tsdb/label.h"
#include "tsdb/sample.h"

#include <inttypes.h>
#include <math.h>

enum { ROW_SAMPLES_MAX = 2000 };

/* ---- values */

static double special(struct kv_prng *prng)
{
    static const uint64_t bits[] = {
        0,
        UINT64_C(1) << 63,
        1,
        UINT64_C(0x8000000000000001),
        UINT64_C(0x000fffffffffffff),
        UINT64_C(0x0010000000000000),
        UINT64_C(0x7fefffffffffffff),
        UINT64_C(0xffefffffffffffff),
        UINT64_C(0x7ff0000000000000),
        UINT64_C(0xfff0000000000000),
        UINT64_C(0x7ff8000000000000),
        UINT64_C(0x7ff8000000000001),
        UINT64_C(0xfff8000000000000),
        UINT64_C(0x7ff0000000000001),
        UINT64_C(0xffffffffffffffff),
        TS_STALE_NAN,
        UINT64_C(0x4340000000000000),
        UINT64_C(0xc340000000000001),
    };
    return ts_double_of(bits[kv_prng_below(prng, sizeof bits / sizeof *bits)]);
}

static double next_value(struct kv_prng *prng, uint32_t kind, double last)
{
    switch (kind % 10) {
    case 0:
        return last;
    case 1:
        return last + (double)kv_prng_below(prng, 100);
    case 2:
        return last + (double)kv_prng_below(prng, 3) - 1;
    case 3:
        return (double)kv_prng_below(prng, 100000) / 100;
    case 4:
        return kv_prng_unit(prng);
    case 5:
        return ts_double_of(kv_prng_next(prng));
    case 6:
        return special(prng);
    case 7:
        return kv_prng_below(prng, 10) ? last + 1 : ts_double_of(TS_STALE_NAN);
    case 8:
        return last - 4096 * (double)kv_prng_below(prng, 1000);
    default:
        return last;
    }
}

/* ---- rows */

static kv_status give_labels(void *ctx, const struct ts_row *row, struct ts_label_sink *sink)
{
    struct ts_label labels[NAIVE_LABELS_MAX];
    size_t n = naive_labels(*(const uint32_t *)ctx, labels);
    kv_status rc = KV_OK;
    (void)row;
    for (size_t i = n; i > 0 && rc >= 0; i--)
        rc = sink->add(sink, labels[i - 1].name, labels[i - 1].value);
    return rc;
}

/* The first row of a request says which times all of it may have. */
static void start(struct player *p)
{
    int64_t wall = kv_clock_wall_ms(&p->clock.base), clock = kv_retention_clock_ms(ts_kv(p->db));
    int64_t future = p->options.store.future_ms ? p->options.store.future_ms : 3600000;
    if (p->started)
        return;
    p->started = true;
    p->clock_then_ms = clock;
    p->high_ms = (wall > clock ? wall : clock) + future;
    p->high_ms = p->high_ms > -TS_TIME_MIN ? -TS_TIME_MIN : p->high_ms;
}

static int64_t low_of(const struct player *p, uint32_t series)
{
    int64_t floor_ms = player_floor(p, series, p->clock_then_ms);
    return floor_ms < TS_TIME_MIN ? TS_TIME_MIN : floor_ms;
}

/* A series of which nothing is left may leave the registry whenever the store likes; then it is new again. */
static bool in_registry(struct player *p, uint32_t series)
{
    struct ts_label labels[NAIVE_LABELS_MAX];
    size_t n = naive_labels(series, labels);
    uint64_t ref;
    if (!p->naive.series[series].known)
        return false;
    KV_ASSERT(ts_labels_sort(labels, n));
    kv_status rc = ts_registry_find(p->db->registry, labels, n, &ref, &p->err);
    if (rc != KV_OK && rc != KV_NOT_FOUND)
        player_must(p, "ts_registry_find", rc, KV_OK);
    return rc == KV_OK;
}

/* Series of the metric that there are, or will be. */
static uint64_t of_metric(struct player *p, uint32_t series)
{
    uint64_t n = 0;
    for (uint32_t s = series % NAIVE_METRICS; s < NAIVE_SERIES; s += NAIVE_METRICS)
        n += p->fresh[s] || in_registry(p, s);
    return n;
}

/* A bucket of ten seconds' worth (tsdb/docs/limits.md), as the time when all new ones so far would have come at the rate. */
static uint64_t rate_step_ns(const struct player *p)
{
    uint64_t rate = p->options.store.series_per_s_max;
    return rate ? (1000000000 + rate - 1) / rate : 0;
}

static bool rate_allows(struct player *p)
{
    uint64_t now_ns = kv_clock_mono_ns(&p->clock.base), step_ns = rate_step_ns(p);
    uint64_t next = (p->rate_ns > now_ns ? p->rate_ns : now_ns) + step_ns;
    if (step_ns && next - now_ns > UINT64_C(10000000000))
        return false;
    p->rate_ns = next;
    return true;
}

/* Whether the registry has room for the series of n samples, should it be new. */
static bool room(struct player *p, uint32_t series, size_t n)
{
    struct ts_stats stats;
    if (p->fresh[series] || in_registry(p, series))
        return true;
    ts_stats(p->db, &stats);
    if (stats.series > naive_known(&p->naive))
        player_fail(p, "%" PRIu64 " series, %zu were ever there", stats.series, naive_known(&p->naive));
    if (p->options.store.metric_series_max && of_metric(p, series) >= p->options.store.metric_series_max)
        return false;
    if (p->options.store.series_max && stats.series + p->n_fresh >= p->options.store.series_max)
        return false;
    if (!rate_allows(p)) {
        p->rate_refused += n;
        return false;
    }
    p->fresh[series] = true;
    p->n_fresh++;
    return true;
}

/* A row that makes the request too large ends it. */
static bool too_many(struct player *p, const struct ts_row *row)
{
    uint64_t max = p->options.store.request_samples_max;
    if (!max || p->accepted + p->rejected + row->n <= max)
        return false;
    player_must(p, "ts_append_row past the bound", ts_append_row(p->appender, row, &p->err), KV_LIMIT);
    ts_append_abort(p->appender);
    player_abort(p);
    return true;
}

static void add_row(struct player *p, uint32_t series, const int64_t *times, const double *values, size_t n)
{
    char identity[16];
    snprintf(identity, sizeof identity, "%u", series);
    const struct ts_row row = {.protocol = TS_PROTOCOL_PROM_WRITE,
                               .position = 1,
                               .identity = {{0}, kv_slice_str(identity)},
                               .labels = give_labels,
                               .labels_ctx = &series,
                               .times_ms = times,
                               .values = values,
                               .n = n};
    struct naive_event event = {.kind = NAIVE_PUT, .series = series};
    start(p);
    if (too_many(p, &row))
        return;
    int64_t low_ms = low_of(p, series);
    event.samples = kv_alloc(n * sizeof *event.samples);
    KV_ASSERT(event.samples != NULL);
    for (size_t i = 0; i < n; i++)
        if (times[i] >= low_ms && times[i] <= p->high_ms)
            event.samples[event.n++] =
                (struct naive_sample){.time_ms = times[i], .bits = ts_double_bits(values[i])};
    if (event.n > 0 && !room(p, series, event.n))
        event.n = 0;
    player_must(p, "ts_append_row", ts_append_row(p->appender, &row, &p->err), KV_OK);
    p->accepted += event.n;
    p->rejected += n - event.n;
    if (event.n == 0) {
        kv_free(event.samples);
        return;
    }
    p->pending = player_grown(p->pending, &p->pending_capacity, p->n_pending, sizeof *p->pending);
    p->pending[p->n_pending++] = event;
}

static void put(struct player *p, const struct op *op)
{
    static int64_t times[ROW_SAMPLES_MAX];
    static double values[ROW_SAMPLES_MAX];
    uint32_t series = op->series % NAIVE_SERIES;
    const struct naive_series *there = &p->naive.series[series];
    size_t n = op->n % (ROW_SAMPLES_MAX + 1);
    struct kv_prng prng;
    kv_prng_init(&prng, op->len);
    double last = (double)kv_prng_below(&prng, 1000);
    for (size_t i = 0; i < n; i++) {
        size_t place = op->how & 2 ? n - 1 - i : i;
        int64_t jitter = op->how & 1 && op->step > 1 ? (int64_t)kv_prng_below(&prng, op->step) : 0;
        times[place] = player_time(op->at) + (int64_t)i * op->step + jitter;
        values[place] = next_value(&prng, op->meta, last);
        if (op->meta % 10 == 9) { /* what is there already */
            size_t found = naive_find(there, times[place]);
            if (found < there->n && there->samples[found].time_ms == times[place])
                values[place] = ts_double_of(there->samples[found].bits);
        }
        last = isfinite(values[place]) && fabs(values[place]) < 1e12 ? values[place] : last;
    }
    if (n > 0)
        add_row(p, series, times, values, n);
}

static int64_t edge_time(struct player *p, const struct op *op)
{
    start(p);
    switch ((enum edge)(op->n % EDGES)) {
    case EDGE_FLOOR:
        return low_of(p, op->series % NAIVE_SERIES);
    case EDGE_BEFORE_FLOOR:
        return low_of(p, op->series % NAIVE_SERIES) - 1;
    case EDGE_FUTURE:
        return p->high_ms;
    case EDGE_PAST_FUTURE:
        return p->high_ms + 1;
    case EDGE_OLDEST:
        return TS_TIME_MIN;
    case EDGE_BEFORE_OLDEST:
        return TS_TIME_MIN - 1;
    case EDGE_ZERO:
        return 0;
    case EDGE_MINUS_ONE:
        return -1;
    case EDGE_NEWEST:
        return -TS_TIME_MIN;
    case EDGE_PAST_NEWEST:
        return -TS_TIME_MIN + 1;
    case EDGE_INT64_MIN:
        return INT64_MIN;
    case EDGE_INT64_MAX:
        return INT64_MAX;
    case EDGE_MIDNIGHT:
        return NAIVE_ORIGIN_MS + op->at / 86400 * NAIVE_DAY_MS;
    default:
        return NAIVE_ORIGIN_MS + op->at / 86400 * NAIVE_DAY_MS - 1;
    }
}

static void edge(struct player *p, const struct op *op)
{
    int64_t time_ms = edge_time(p, op);
    double value = op->len;
    add_row(p, op->series % NAIVE_SERIES, &time_ms, &value, 1);
}

/* ---- rows that are refused */

static kv_status give_bad(void *ctx, const struct ts_row *row, struct ts_label_sink *sink)
{
    enum bad_row bad = *(const enum bad_row *)ctx;
    char text[SAMPLES_VALUE_LEN_MAX + 2];
    kv_status rc = KV_OK;
    (void)row;
    if (bad != BAD_NO_NAME)
        rc = sink->add(sink, KV_STR("__name__"), KV_STR("bad"));
    if (rc >= 0 && bad == BAD_DUPLICATE)
        rc = sink->add(sink, KV_STR("a"), KV_STR("1"));
    if (rc >= 0)
        rc = sink->add(sink, KV_STR("a"), KV_STR("1"));
    if (rc >= 0 && bad == BAD_NAME)
        rc = sink->add(sink, KV_STR(""), KV_STR("1"));
    if (rc >= 0 && bad == BAD_UTF8)
        rc = sink->add(sink, KV_STR("b"), KV_STR("\xff\xfe"));
    for (char name[2] = "b"; rc >= 0 && bad == BAD_MANY_LABELS && name[0] < 'b' + SAMPLES_LABELS_MAX;
         name[0]++)
        rc = sink->add(sink, kv_slice_str(name), KV_STR("1"));
    memset(text, 'x', sizeof text);
    if (rc >= 0 && bad == BAD_LONG_VALUE)
        rc = sink->add(sink, KV_STR("b"), kv_slice_of(text, SAMPLES_VALUE_LEN_MAX + 1));
    return rc;
}

static void bad(struct player *p, const struct op *op)
{
    enum bad_row kind = op->n % BAD_ROWS;
    char identity[16];
    double value = 1;
    snprintf(identity, sizeof identity, "bad %d", kind);
    start(p);
    int64_t time_ms = p->high_ms - 1;
    const struct ts_row row = {.protocol = TS_PROTOCOL_PROM_WRITE,
                               .position = 1,
                               .identity = {{0}, kv_slice_str(identity)},
                               .labels = give_bad,
                               .labels_ctx = &kind,
                               .times_ms = &time_ms,
                               .values = &value,
                               .n = 1};
    if (too_many(p, &row))
        return;
    player_must(p, "ts_append_row", ts_append_row(p->appender, &row, &p->err), KV_OK);
    p->rejected++;
}

void player_row(struct player *p, const struct op *op)
{
    if (op->kind == OP_put)
        put(p, op);
    else if (op->kind == OP_edge)
        edge(p, op);
    else
        bad(p, op);
}

/* ---- requests */

static void request_clear(struct player *p)
{
    p->n_pending = 0;
    p->started = false;
    p->accepted = p->rejected = p->rate_refused = 0;
    memset(p->fresh, 0, sizeof p->fresh);
    p->n_fresh = 0;
}

void player_abort(struct player *p)
{
    for (size_t i = 0; i < p->n_pending; i++)
        kv_free(p->pending[i].samples);
    p->rate_ns -= p->n_fresh * rate_step_ns(p); /* they did not come */
    request_clear(p);
}

void player_commit(struct player *p)
{
    struct ts_append_result result = {0};
    player_must(p, "ts_commit", ts_commit(p->appender, &result, &p->err), KV_OK);
    if (result.accepted != p->accepted || result.rejected != p->rejected)
        player_fail(p,
                    "%" PRIu64 " accepted, %" PRIu64 " rejected; expected %" PRIu64 " and %" PRIu64 " (%s)",
                    result.accepted, result.rejected, p->accepted, p->rejected,
                    result.n_rejects ? result.rejects[0].text : "");
    bool later = p->accepted == 0 && p->rejected > 0 && p->rate_refused == p->rejected;
    if ((result.retry_in_ms > 0) != later)
        player_fail(p, "to be tried again in %u ms; %" PRIu64 " of %" PRIu64 " came too fast",
                    result.retry_in_ms, p->rate_refused, p->rejected);
    /* With workers one may have left between the look and its row. */
    if (result.series_created < p->n_fresh || (!p->threads && result.series_created != p->n_fresh))
        player_fail(p, "%" PRIu64 " series created, expected %zu", result.series_created, p->n_fresh);
    if ((result.seq != 0) != (p->accepted > 0))
        player_fail(p, "%" PRIu64 " accepted, but version %" PRIu64, p->accepted, result.seq);
    for (size_t i = 0; i < p->n_pending; i++) {
        p->pending[i].version = result.seq;
        naive_add(&p->naive, &p->pending[i]);
    }
    request_clear(p);
}

void player_delete(struct player *p, const struct op *op)
{
    kv_slice selectors[2], text;
    char texts[2][128];
    size_t n = op->how & 1 ? 2 : 1;
    struct naive_event event = {.kind = NAIVE_DELETE, .from_ms = player_time(op->at)};
    event.to_ms = event.from_ms + (int64_t)op->n * 1000 - (op->how & 2 ? 1 : 0);
    if (op->how & 16)
        (void)player_snap(p, op, op->n % 16, &event.from_ms, &event.to_ms);
    event.from_ms = op->how & 4 ? INT64_MIN : event.from_ms;
    event.to_ms = op->how & 8 ? INT64_MAX : event.to_ms;
    for (size_t i = 0; i < n; i++) {
        event.series |= naive_select(op->meta + (uint32_t)i, op->series, &text);
        snprintf(texts[i], sizeof texts[i], "%.*s", KV_ARG(text));
        selectors[i] = kv_slice_str(texts[i]);
    }
    if (event.to_ms < event.from_ms)
        return;
    player_must(p, "ts_delete", ts_delete(p->db, selectors, n, event.from_ms, event.to_ms, &p->err), KV_OK);
    event.version = kv_seq(ts_kv(p->db));
    naive_add(&p->naive, &event);
    if (n == 1)
        return;
    /* Two commits, of which a crash may leave the first: no crash reaches back here. */
    player_must(p, "kv_sync", kv_sync(ts_kv(p->db), &p->err), KV_OK);
    p->version = p->durable = event.version;
    player_clear_marks(p);
}
