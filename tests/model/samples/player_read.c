/* Questions, and what the naive store says to them. */
#include "kvcore/base/mem.h"
#include "tests/model/samples/player.h"
#include "tsdb/db.h"
#include "tsdb/promql/parse.h"
#include "tsdb/query/scan.h"
#include "tsdb/sample.h"

#include <inttypes.h>
#include <stdlib.h>

/* Which series it is that has these labels; fails where none has just these. */
static uint32_t series_of(struct player *p, const struct ts_label *labels, size_t n)
{
    struct ts_label expected[NAIVE_LABELS_MAX];
    char text[8] = "";
    for (size_t i = 0; i < n; i++)
        if (kv_slice_equal(labels[i].name, KV_STR("i")))
            snprintf(text, sizeof text, "%.*s", KV_ARG(labels[i].value));
    uint32_t series = (uint32_t)strtoul(text, NULL, 10);
    bool same = text[0] && series < NAIVE_SERIES && naive_labels(series, expected) == n;
    for (size_t i = 0; same && i < n; i++)
        same = kv_slice_equal(labels[i].name, expected[i].name) &&
               kv_slice_equal(labels[i].value, expected[i].value);
    if (!same)
        player_fail(p, "a series that is none, i=\"%s\", %zu labels", text, n);
    return series;
}

static bool is_stale(uint64_t bits)
{
    return bits == TS_STALE_NAN;
}

/* ---- samples */

struct span {
    const char *what;
    int64_t from_ms, to_ms; /* inclusive */
    bool stale;             /* stale markers are answered too */
};

/* What was found must be all of the series in the span; what retention once hid may be missing. */
static void compare(struct player *p, const struct span *span, uint32_t s, const int64_t *times,
                    const double *values, size_t n)
{
    const struct naive_series *series = &p->naive.series[s];
    int64_t floor_ms = player_floor_now(p, s);
    int64_t from_ms = span->from_ms > floor_ms ? span->from_ms : floor_ms;
    size_t at = 0;
    for (size_t i = naive_find(series, from_ms); i < series->n && series->samples[i].time_ms <= span->to_ms;
         i++) {
        const struct naive_sample *sample = &series->samples[i];
        bool there = at < n && times[at] == sample->time_ms;
        if (!span->stale && is_stale(sample->bits))
            continue;
        if (!there && sample->maybe)
            continue;
        if (!there)
            player_fail(p,
                        "%s: series %u lost its sample at %" PRId64 " (%+" PRId64
                        " ms to the beginning); instead %" PRId64 " of %zu",
                        span->what, s, sample->time_ms, sample->time_ms - NAIVE_ORIGIN_MS,
                        at < n ? times[at] : 0, n);
        if (ts_double_bits(values[at]) != sample->bits)
            player_fail(p, "%s: series %u has %016" PRIx64 " instead of %016" PRIx64 " at %" PRId64 "%s",
                        span->what, s, ts_double_bits(values[at]), sample->bits, sample->time_ms,
                        sample->maybe ? ", which was expired" : "");
        at++;
    }
    if (at < n)
        player_fail(p,
                    "%s: series %u has a sample too many at %" PRId64 " (%+" PRId64
                    " ms to the beginning), value %016" PRIx64,
                    span->what, s, times[at], times[at] - NAIVE_ORIGIN_MS, ts_double_bits(values[at]));
}

/* Those that were not answered have nothing. */
static void compare_missing(struct player *p, const struct span *span, uint64_t missing)
{
    for (uint32_t s = 0; s < NAIVE_SERIES; s++)
        if (missing >> s & 1)
            compare(p, span, s, NULL, NULL, 0);
}

static void answered(struct player *p, const char *what, uint64_t *missing, uint32_t s)
{
    if (!(*missing >> s & 1))
        player_fail(p, "%s: series %u is answered twice, or was not asked for", what, s);
    *missing &= ~((uint64_t)1 << s);
}

static void scan(struct player *p, uint32_t which, uint32_t series, const struct span *span)
{
    struct ts_budget budget = {.samples_max = UINT64_MAX,
                               .bytes_max = UINT64_MAX / 4,
                               .deadline_mono_ns = UINT64_MAX,
                               .clock = &p->clock.base};
    struct kv_arena arena;
    struct ts_tree tree = {0};
    struct ts_scan *scan = NULL;
    struct ts_scan_series found;
    kv_slice text;
    player_expire(p);
    uint64_t missing = naive_select(which, series, &text);
    kv_arena_init(&arena, (size_t)1 << 20);
    player_must_ask(p, "ts_parse_selector", ts_parse_selector(text, &arena, &tree, &p->query_err));
    const struct ts_scan_options options = {.matchers = tree.root->vector.matchers,
                                            .n_matchers = tree.root->vector.n_matchers,
                                            .from_ms = span->from_ms,
                                            .to_ms = span->to_ms};
    player_must(p, "ts_scan_open", ts_scan_open(p->db, &options, &budget, &scan, &p->err), KV_OK);
    kv_status rc;
    while ((rc = ts_scan_next(scan, &found, &p->err)) == KV_OK) {
        uint32_t s = series_of(p, found.labels, found.n_labels);
        answered(p, span->what, &missing, s);
        compare(p, span, s, found.times_ms, found.values, found.n);
    }
    player_must(p, "ts_scan_next", rc, KV_END);
    ts_scan_close(scan);
    ts_tree_release(&tree);
    kv_arena_release(&arena);
    compare_missing(p, span, missing);
}

static struct ts_result *ask(struct player *p, const char *query, const struct ts_query_options *options,
                             enum ts_result_type type)
{
    struct ts_result *result = NULL;
    player_must_ask(p, query, ts_query(p->db, kv_slice_str(query), options, &result, &p->query_err));
    if (ts_result_type(result) != type)
        player_fail(p, "%s: type %d", query, ts_result_type(result));
    return result;
}

#define DURATION_MS_MAX (INT64_MAX / 1000000) /* PromQL counts them in ns */

void player_raw(struct player *p, const struct op *op)
{
    char query[160];
    kv_slice text;
    uint64_t missing = naive_select(op->meta, op->series, &text);
    struct ts_query_options options = {.end_ms = player_time(op->at)};
    int64_t start_ms = options.end_ms - (int64_t)(op->n ? op->n : 1) * 1000;
    if ((op->how & 16) && player_snap(p, op, op->n % 16, &start_ms, &options.end_ms) &&
        start_ms == options.end_ms)
        start_ms--;
    if (options.end_ms - start_ms > DURATION_MS_MAX)
        start_ms = options.end_ms - DURATION_MS_MAX;
    const struct span span = {.what = query, .from_ms = start_ms + 1, .to_ms = options.end_ms};
    snprintf(query, sizeof query, "%.*s[%" PRId64 "ms]", KV_ARG(text), options.end_ms - start_ms);
    player_expire(p);
    struct ts_result *result = ask(p, query, &options, TS_RESULT_MATRIX);
    for (size_t i = 0; i < ts_result_count(result); i++) {
        struct ts_series_points points;
        ts_result_series(result, i, &points);
        uint32_t s = series_of(p, points.labels, points.n_labels);
        answered(p, query, &missing, s);
        compare(p, &span, s, points.times_ms, points.values, points.n);
        if (points.n == 0)
            player_fail(p, "%s: series %u is answered without samples", query, s);
    }
    ts_result_free(result);
    compare_missing(p, &span, missing);
}

void player_verify(struct player *p)
{
    const struct span all = {.what = "everything", .from_ms = INT64_MIN, .to_ms = INT64_MAX, .stale = true};
    scan(p, 5, 0, &all);
}

/* ---- a range query: the newest sample of the last five minutes, unless it is a stale marker */

enum { LOOKBACK_MS = 300000 };

/* Is this what the series may show at a time? value NULL: nothing. */
static bool may_show(const struct naive_series *series, int64_t at_ms, int64_t floor_ms, const double *value)
{
    int64_t from_ms = at_ms - LOOKBACK_MS + 1 > floor_ms ? at_ms - LOOKBACK_MS + 1 : floor_ms;
    for (size_t i = naive_find(series, at_ms + 1); i > 0; i--) {
        const struct naive_sample *sample = &series->samples[i - 1];
        if (sample->time_ms < from_ms)
            break;
        if (is_stale(sample->bits) ? !value : value && ts_double_bits(*value) == sample->bits)
            return true;
        if (!sample->maybe)
            return false;
    }
    return !value;
}

static void compare_steps(struct player *p, const struct ts_query_options *options, const char *query,
                          uint32_t s, const struct ts_series_points *points)
{
    int64_t floor_ms = player_floor_now(p, s);
    size_t at = 0;
    for (int64_t t = options->start_ms; t <= options->end_ms; t += options->step_ms) {
        bool there = at < points->n && points->times_ms[at] == t;
        if (!may_show(&p->naive.series[s], t, floor_ms, there ? &points->values[at] : NULL))
            player_fail(p, "%s: series %u shows %s at %" PRId64, query, s,
                        there ? "something else" : "nothing", t);
        at += there;
    }
    if (at != points->n)
        player_fail(p, "%s: series %u has points beside the steps", query, s);
}

void player_range(struct player *p, const struct op *op)
{
    char query[160];
    kv_slice text;
    uint64_t missing = naive_select(op->meta, op->series, &text);
    struct ts_query_options options = {
        .range = true, .start_ms = player_time(op->at), .step_ms = op->step ? op->step : 1};
    if ((op->how & 16) && player_snap(p, op, 0, &options.start_ms, &options.end_ms))
        options.start_ms += op->n % 3 * (LOOKBACK_MS / 2);
    options.end_ms = options.start_ms + (int64_t)(op->n % 500) * options.step_ms;
    snprintf(query, sizeof query, "%.*s", KV_ARG(text));
    player_expire(p);
    struct ts_result *result = ask(p, query, &options, TS_RESULT_MATRIX);
    for (size_t i = 0; i < ts_result_count(result); i++) {
        struct ts_series_points points;
        ts_result_series(result, i, &points);
        uint32_t s = series_of(p, points.labels, points.n_labels);
        answered(p, query, &missing, s);
        compare_steps(p, &options, query, s, &points);
    }
    ts_result_free(result);
    for (uint32_t s = 0; s < NAIVE_SERIES; s++)
        if (missing >> s & 1)
            compare_steps(p, &options, query, s, &(struct ts_series_points){0});
}

/* ---- which series there are: at least those with samples in the range, at most those that ever had some on its days */

struct listing {
    struct player *p;
    int64_t from_ms, to_ms;
    uint64_t asked, missing;
    kv_slice label;
    struct kv_buf last;
};

static bool has(const struct listing *l, uint32_t s)
{
    const struct naive_series *series = &l->p->naive.series[s];
    int64_t floor_ms = player_floor_now(l->p, s);
    for (size_t i = naive_find(series, l->from_ms > floor_ms ? l->from_ms : floor_ms);
         i < series->n && series->samples[i].time_ms <= l->to_ms; i++)
        if (!series->samples[i].maybe)
            return true;
    return false;
}

static bool may_have(const struct listing *l, uint32_t s)
{
    int64_t day = NAIVE_DAY_MS, from = l->from_ms, to = l->to_ms;
    from -= from % day;
    to += day - 1 - to % day;
    return naive_ever(&l->p->naive, s, from, to);
}

static kv_status each_series(void *ctx, const struct ts_label *labels, size_t n)
{
    struct listing *l = ctx;
    uint32_t s = series_of(l->p, labels, n);
    if (!(l->asked >> s & 1) || !may_have(l, s))
        player_fail(l->p, "series %u is listed", s);
    answered(l->p, "the list", &l->asked, s);
    l->missing &= ~((uint64_t)1 << s);
    return KV_OK;
}

static kv_slice value_of(uint32_t s, kv_slice label)
{
    struct ts_label labels[NAIVE_LABELS_MAX];
    size_t n = naive_labels(s, labels);
    for (size_t i = 0; i < n; i++)
        if (kv_slice_equal(labels[i].name, label))
            return labels[i].value;
    return (kv_slice){0};
}

static kv_status each_value(void *ctx, kv_slice value)
{
    struct listing *l = ctx;
    bool may = false;
    if (l->last.len && kv_slice_compare(kv_buf_slice(&l->last), value) >= 0)
        player_fail(l->p, "value %.*s is listed behind %.*s", KV_ARG(value), KV_ARG(kv_buf_slice(&l->last)));
    kv_buf_clear(&l->last);
    player_must(l->p, "kv_buf_append", kv_buf_append(&l->last, value), KV_OK);
    for (uint32_t s = 0; s < NAIVE_SERIES; s++) {
        if (!kv_slice_equal(value_of(s, l->label), value))
            continue;
        may = may || ((l->asked >> s & 1) && may_have(l, s));
        l->missing &= ~((uint64_t)1 << s);
    }
    if (!may)
        player_fail(l->p, "value %.*s is listed", KV_ARG(value));
    return KV_OK;
}

void player_catalog(struct player *p, const struct op *op)
{
    static const char *const labels[] = {"__name__", "i", "parity", "zone"};
    kv_slice text;
    struct listing l = {.p = p,
                        .from_ms = player_time(op->at),
                        .to_ms = player_time(op->at) + (int64_t)op->n * 1000,
                        .label = kv_slice_str(labels[op->step % 4])};
    l.asked = naive_select(op->meta, op->series, &text);
    player_expire(p);
    for (uint32_t s = 0; s < NAIVE_SERIES; s++)
        if ((l.asked >> s & 1) && has(&l, s) && (op->kind == OP_series || value_of(s, l.label).len))
            l.missing |= (uint64_t)1 << s;
    kv_status rc = op->kind == OP_series ? ts_series(p->db, &text, 1, l.from_ms, l.to_ms, 0, NULL,
                                                     each_series, &l, &p->query_err)
                                         : ts_label_values(p->db, l.label, &text, 1, l.from_ms, l.to_ms, 0,
                                                           NULL, each_value, &l, &p->query_err);
    player_must_ask(p, "a listing", rc);
    if (l.missing)
        player_fail(p, "series %d is not listed", __builtin_ctzll(l.missing));
    kv_buf_release(&l.last);
}
