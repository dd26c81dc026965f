/* Chunks answered from their headers: two stores are told the same, one keeps it in its head, the other in settled days; no answer may differ
 * by a bit. */
#include "kvcore/base/prng.h"
#include "query_kit.h"
#include "tsdb/chunk/chunk.h"
#include "tsdb/query/condense.h"
#include "tsdb/sample.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum { DAYS = 4, KINDS = 12, STEP_MS = 60000, DAY_SAMPLES = 1440 };
static const int64_t DAY_MS = 86400000, BEGIN_MS = 5 * (int64_t)86400000;

static struct query_kit head, settled;

/* Sample i of series `kind`. */
static double value_of(struct kv_prng *prng, int kind, int i, double before)
{
    double step = (double)(int64_t)kv_prng_below(prng, 7);
    switch (kind) {
    case 0: /* a gauge of whole numbers */
        return before + step - 3;
    case 1: /* a counter */
        return before + step;
    case 2: /* a counter that is reset once a day and a half */
        return i % 2100 == 2000 ? 1 : before + step;
    case 3: /* decimals */
        return (double)(int64_t)kv_prng_below(prng, 100000) / 100;
    case 4: /* all bits */
        return sin(i * 0.001) + (double)kv_prng_below(prng, 1000) / 3e5;
    case 5:
        return 42;
    case 6: /* zeros of both signs */
        return kv_prng_below(prng, 2) ? 0.0 : -0.0;
    case 7: /* whole on some days only */
        return (double)(int64_t)kv_prng_below(prng, 1000) / (i / DAY_SAMPLES % 2 ? 7 : 1);
    case 8: /* a NaN now and then, on one day */
        return i > 2900 && i % 50 == 0 ? NAN : before + step;
    case 9: /* stale now and then, on one day */
        return i < 900 && i % 100 == 7 ? ts_double_of(TS_STALE_NAN) : (double)i;
    case 10: /* large */
        return ldexp((double)kv_prng_below(prng, 1000), 40);
    default: /* infinite in places */
        return i % 1000 == 999 ? INFINITY : -step;
    }
}

static void add(int kind, int64_t time_ms, double value)
{
    char series[64];
    snprintf(series, sizeof series, "m%d_total{kind=\"%d\"}", kind % 2, kind);
    kit_add(&head, series, time_ms, value);
    kit_add(&settled, series, time_ms, value);
}

static void commit(void)
{
    kit_commit(&head);
    kit_commit(&settled);
}

static void settle(void)
{
    struct kv_err err = {0};
    cr_assert_eq(ts_flush(settled.db, true, &err), KV_OK, "%s", err.text);
}

static void fill(struct kv_prng *prng)
{
    kit_open(&head);
    kit_open(&settled);
    for (int kind = 0; kind < KINDS; kind++) {
        double before = 1000;
        for (int i = 0; i < DAYS * DAY_SAMPLES; i++) {
            double value = value_of(prng, kind, i, before);
            before = isnan(value) ? before : value;
            add(kind, BEGIN_MS + (int64_t)i * STEP_MS + (kind % 3 ? (int64_t)kv_prng_below(prng, 9) : 0),
                value);
        }
        commit();
    }
    settle();
}

static void release(void)
{
    kit_close(&head);
    kit_close(&settled);
}

static const char *const functions[] = {"rate",
                                        "increase",
                                        "delta",
                                        "resets",
                                        "changes",
                                        "count_over_time",
                                        "sum_over_time",
                                        "avg_over_time",
                                        "min_over_time",
                                        "max_over_time",
                                        "first_over_time",
                                        "last_over_time",
                                        "irate",
                                        "stddev_over_time",
                                        "present_over_time",
                                        "absent_over_time",
                                        "deriv",
                                        "ts_of_last_over_time",
                                        "ts_of_first_over_time",
                                        "ts_of_max_over_time",
                                        "idelta",
                                        "mad_over_time"};
enum { FUNCTIONS = sizeof functions / sizeof functions[0] };

static void assert_alike(const char *query, const struct ts_query_options *options)
{
    const char *expected = kit_ask(&head, query, options);
    cr_assert_str_eq(kit_ask(&settled, query, options), expected,
                     "%s from %" PRId64 " to %" PRId64 " by %" PRId64, query, options->start_ms,
                     options->end_ms, options->step_ms);
}

/* A random question: windows of minutes to days, one or many, far apart or overlapping. */
static void ask(struct kv_prng *prng)
{
    static const int64_t ranges[] = {5, 60, 600, 1440, 2000, 2880, 4000, 8000};
    static const int64_t steps[] = {1, 60, 777, 1440, 2880, 4000};
    char query[128];
    int64_t range = ranges[kv_prng_below(prng, 8)] * STEP_MS - (int64_t)kv_prng_below(prng, 2);
    struct ts_query_options options = {.features = (uint32_t)TS_PROMQL_ALL};
    options.end_ms = BEGIN_MS + (int64_t)kv_prng_below(prng, (uint64_t)((DAYS + 1) * DAY_MS) / 60000) * 60000;
    if (kv_prng_below(prng, 3)) {
        options.range = true;
        options.step_ms = steps[kv_prng_below(prng, 6)] * STEP_MS;
        options.start_ms = options.end_ms - options.step_ms * (int64_t)kv_prng_below(prng, 5);
    }
    snprintf(query, sizeof query, "%s({__name__=~\"m.*\"}[%" PRId64 "ms]%s)",
             functions[kv_prng_below(prng, FUNCTIONS)], range,
             kv_prng_below(prng, 5)   ? ""
             : kv_prng_below(prng, 2) ? " offset 7h"
                                      : " @ end()");
    assert_alike(query, &options);
}

Test(condense, no_answer_differs_from_that_of_samples)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 20261129);
    fill(&prng);
    for (int i = 0; i < 400; i++)
        ask(&prng);
    release();
}

/* Samples written later into settled days, over what is there and between, and deletes. */
Test(condense, late_samples_and_deletes_are_in_every_answer)
{
    struct kv_prng prng;
    struct kv_err err = {0};
    kv_prng_init(&prng, 20261130);
    fill(&prng);
    for (int round = 0; round < 12; round++) {
        int kind = (int)kv_prng_below(&prng, KINDS), n = 1 + (int)kv_prng_below(&prng, 40);
        int64_t at = BEGIN_MS + (int64_t)kv_prng_below(&prng, DAYS * DAY_SAMPLES) * STEP_MS;
        if (round % 4 == 3) {
            char selector[64];
            snprintf(selector, sizeof selector, "{kind=\"%d\"}", kind);
            kv_slice s = kv_slice_str(selector);
            cr_assert_eq(ts_delete(head.db, &s, 1, at, at + n * STEP_MS, &err), KV_OK, "%s", err.text);
            cr_assert_eq(ts_delete(settled.db, &s, 1, at, at + n * STEP_MS, &err), KV_OK, "%s", err.text);
        } else {
            for (int i = 0; i < n; i++)
                add(kind, at + i * (round % 3 ? STEP_MS : 7),
                    (double)(int64_t)kv_prng_below(&prng, 5000) - 2000);
            commit();
        }
        if (round % 3 == 1)
            cr_assert_eq(ts_flush(settled.db, false, &err), KV_OK, "%s", err.text);
        if (round % 6 == 5)
            settle();
        for (int i = 0; i < 40; i++)
            ask(&prng);
    }
    release();
}

/* Asked over all days at once, functions that a summary answers read some samples a chunk. */
Test(condense, a_window_of_days_reads_headers)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 20261131);
    fill(&prng);
    struct ts_query_options options = {.end_ms = BEGIN_MS + DAYS * DAY_MS + 3600000};
    static const char *const queries[] = {
        "increase(m1_total{kind=\"1\"}[5d])",         "max_over_time(m1_total{kind=\"3\"}[5d])",
        "min_over_time(m0_total{kind=\"4\"}[5d])",    "avg_over_time(m0_total{kind=\"0\"}[5d])",
        "count_over_time(m1_total{kind=\"11\"}[5d])", "changes(m1_total{kind=\"5\"}[5d])",
        "sum_over_time(m1_total{kind=\"5\"}[5d])"};
    for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++) {
        assert_alike(queries[i], &options);
        cr_assert_geq(head.samples, DAYS * DAY_SAMPLES);
        cr_assert_leq(settled.samples, DAYS * 2 * TS_CONDENSED_MAX + 2, "%s took %" PRIu64, queries[i],
                      settled.samples);
    }
    /* Half a chunk more at either end is decoded, the days between are not. */
    options.end_ms = BEGIN_MS + 3 * DAY_MS + 12 * 3600000;
    assert_alike("increase(m1_total{kind=\"1\"}[3d])", &options);
    cr_assert(settled.samples > DAY_SAMPLES / 2 && settled.samples < 3 * DAY_SAMPLES, "%" PRIu64,
              settled.samples);
    /* Windows an hour long, a day apart, between chunks: only those are read. */
    options = (struct ts_query_options){
        .range = true, .start_ms = BEGIN_MS + DAY_MS, .end_ms = BEGIN_MS + 4 * DAY_MS, .step_ms = 2 * DAY_MS};
    assert_alike("stddev_over_time(m0_total{kind=\"4\"}[1h])", &options);
    cr_assert_leq(settled.samples, 2 * DAY_SAMPLES + 1000, "%" PRIu64, settled.samples);
    release();
}

/* A sum that strays past 2^53 inside a chunk is rounded there, and the average shows it: all its parts are added, not what they come to. */
Test(condense, a_sum_that_strays_inside_a_chunk_is_added_in_order)
{
    struct kv_err err = {0};
    kit_open(&head);
    kit_open(&settled);
    add(0, BEGIN_MS - 1, 0x1p53 - 0x1p50);
    for (int i = 0; i < TS_CHUNK_SAMPLES_MAX; i++)
        add(0, BEGIN_MS + (int64_t)i * 15000,
            i < TS_CHUNK_SAMPLES_MAX / 2 ? 0x1p40 - 1 - 2 * (i % 2) : 1 - 0x1p40);
    add(0, BEGIN_MS + DAY_MS, -451);
    commit();
    cr_assert_eq(ts_flush(settled.db, true, &err), KV_OK, "%s", err.text);
    struct ts_query_options options = {.end_ms = BEGIN_MS + DAY_MS};
    assert_alike("avg_over_time(m0_total[5d])", &options);
    cr_assert_str_eq(kit_ask(&settled, "avg_over_time(m0_total[5d])", &options),
                     "{kind=\"0\"} 1923206283039.4998\n");
    assert_alike("sum_over_time(m0_total[5d])", &options);
    release();
}

/* A series that is read twice, since samples overlap or do not add up exactly, counts once. */
Test(condense, what_is_read_again_is_counted_once)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 20261133);
    fill(&prng);
    add(1, BEGIN_MS + DAY_MS + STEP_MS / 2, 1);
    commit();
    static const char *const queries[] = {"increase(m1_total{kind=\"1\"}[5d])",
                                          "sum_over_time(m1_total{kind=\"7\"}[5d])"};
    for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++) {
        struct ts_query_options options = {.end_ms = BEGIN_MS + DAYS * DAY_MS + 3600000};
        assert_alike(queries[i], &options);
        cr_assert_gt(head.samples, DAYS * DAY_SAMPLES);
        cr_assert_eq(settled.samples, head.samples);
        options.samples_max = head.samples;
        assert_alike(queries[i], &options);
        cr_assert_eq(settled.samples, head.samples);
    }
    release();
}

static bool count_call(void *ctx)
{
    ++*(int *)ctx;
    return false;
}

/* Chunks in no window are passed by without a sample, and still clock and client are asked. */
Test(condense, a_query_that_passes_chunks_by_can_be_canceled)
{
    enum { SERIES = 3 * 4096 };
    kit_open(&settled);
    for (int i = 0; i < SERIES; i++) {
        char series[64];
        snprintf(series, sizeof series, "m{i=\"%d\"}", i);
        kit_add(&settled, series, BEGIN_MS + DAY_MS / 2, 1);
    }
    kit_commit(&settled);
    settle();
    int few = 0, many = 0;
    struct ts_query_options options = {.range = true,
                                       .start_ms = BEGIN_MS,
                                       .end_ms = BEGIN_MS + DAY_MS,
                                       .step_ms = DAY_MS,
                                       .canceled = count_call,
                                       .canceled_ctx = &few};
    cr_assert_str_eq(kit_ask(&settled, "rate(m{i=\"1\"}[1m])", &options), "");
    options.canceled_ctx = &many;
    cr_assert_str_eq(kit_ask(&settled, "rate(m[1m])", &options), "");
    cr_assert_geq(many, few + SERIES / 4096, "%d and %d", many, few);
    kit_close(&settled);
}

/* Every window of every grid by itself: which samples it has. */
Test(condense, windows_and_chunks_meet_as_their_samples_do)
{
    struct kv_prng prng;
    size_t seen[3] = {0};
    kv_prng_init(&prng, 20261132);
    for (int round = 0; round < 20000; round++) {
        int64_t times[20], base = (int64_t)kv_prng_below(&prng, 40) - 20;
        double values[20];
        for (int64_t i = 0; i < 20; i++) {
            times[i] = base + 2 * i;
            values[i] = 7;
        }
        struct kv_buf chunk = {0};
        size_t taken;
        cr_assert_eq(ts_chunk_encode(times, values, 20, TS_CHUNK_SMALL, &chunk, &taken), KV_OK);
        const struct ts_condense how = {.kind = TS_CONDENSE_ENDS,
                                        .end_ms = (int64_t)kv_prng_below(&prng, 160) - 80,
                                        .step_ms = (int64_t)kv_prng_below(&prng, 90),
                                        .range_ms = 1 + (int64_t)kv_prng_below(&prng, 90),
                                        .steps = 1 + kv_prng_below(&prng, 4)};
        size_t inside = 0, cut = 0;
        for (size_t w = 0; w < how.steps; w++) {
            int64_t end = how.end_ms + (int64_t)w * how.step_ms;
            size_t behind_start = 0, behind_end = 0;
            for (size_t i = 0; i < 20; i++) {
                behind_start += times[i] > end - how.range_ms;
                behind_end += times[i] > end;
            }
            inside += behind_start == 20 && behind_end == 0;
            cut += behind_start % 20 > 0 || behind_end % 20 > 0;
        }
        struct ts_condensed made;
        kv_status rc = ts_condense(&how, kv_buf_slice(&chunk), &made);
        if (cut > 0)
            cr_assert_eq(rc, KV_END);
        else
            cr_assert_eq(rc, KV_OK);
        if (rc == KV_OK) {
            cr_assert_eq(made.n, inside ? 2 : 0);
            cr_assert_eq(made.n + made.missing, 20);
        }
        seen[cut ? 0 : inside ? 1 : 2]++;
        kv_buf_release(&chunk);
    }
    cr_assert(seen[0] > 500 && seen[1] > 500 && seen[2] > 500, "%zu %zu %zu", seen[0], seen[1], seen[2]);
}
