/* Range functions on plain arrays: windows, and each kernel against a slow and plain reading of its
 * definition. */
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "tsdb/query/range_kernel.h"

#include <criterion/criterion.h>
#include <math.h>

enum { SAMPLES_MAX = 600, STEPS_MAX = 200 };

struct fixture {
    int64_t times[SAMPLES_MAX];
    double values[SAMPLES_MAX], scratch[SAMPLES_MAX + 1], out[STEPS_MAX], params[2][STEPS_MAX];
    uint32_t marks[SAMPLES_MAX + 1], lo[STEPS_MAX], hi[STEPS_MAX];
    struct ts_grid grid;
    struct ts_range_in in;
    struct ts_query_err err;
    struct ts_run run;
};

static void prepare(struct fixture *f, size_t n, int64_t start_ms, int64_t step_ms, size_t steps,
                    int64_t range_ms)
{
    f->grid = (struct ts_grid){start_ms, step_ms, steps};
    f->run.err = &f->err;
    f->in = (struct ts_range_in){
        .times = f->times,
        .values = f->values,
        .n = n,
        .lo = f->lo,
        .hi = f->hi,
        .steps = steps,
        .end_ms = start_ms,
        .end_step_ms = step_ms,
        .range_ms = range_ms,
        .grid = &f->grid,
        .params = {f->params[0], f->params[1]},
        .scratch = f->scratch,
        .marks = f->marks,
        .run = &f->run,
    };
    ts_range_windows(&f->in, 0, 0, f->lo, f->hi);
    ts_column_fill(f->out, steps, ts_absent());
}

static double *call(struct fixture *f, enum ts_func_id id)
{
    ts_column_fill(f->out, f->in.steps, ts_absent());
    cr_assert_eq(ts_range_kernel_of(id)(&f->in, f->out), KV_OK);
    return f->out;
}

/* One window over everything: times 0, 10, 20, ... s and these values. */
static double once(struct fixture *f, enum ts_func_id id, const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        f->times[i] = (int64_t)i * 10000;
        f->values[i] = values[i];
    }
    prepare(f, n, 60000, 1, 1, 120000);
    return call(f, id)[0];
}

#define ONCE(f, id, ...)                                                                                     \
    once((f), (id), (const double[]){__VA_ARGS__}, sizeof((const double[]){__VA_ARGS__}) / sizeof(double))

Test(range_kernel, windows_are_open_on_the_left_and_closed_on_the_right)
{
    static struct fixture f;
    for (int64_t i = 0; i < 10; i++)
        f.times[i] = i * 10;
    prepare(&f, 10, 20, 10, 8, 20);
    cr_assert_eq(f.lo[0], 1); /* 0 is on the edge: not in (0, 20] */
    cr_assert_eq(f.hi[0], 3);
    cr_assert_eq(f.lo[7], 8);
    cr_assert_eq(f.hi[7], 10);
}

Test(range_kernel, windows_agree_with_a_plain_count_for_any_times_and_steps)
{
    static struct fixture f;
    struct kv_prng prng;
    kv_prng_init(&prng, 7);
    for (int round = 0; round < 300; round++) {
        size_t n = kv_prng_next(&prng) % 60, steps = 1 + kv_prng_next(&prng) % 40;
        int64_t t = (int64_t)(kv_prng_next(&prng) % 50) - 100;
        for (size_t i = 0; i < n; i++)
            f.times[i] = t += 1 + (int64_t)(kv_prng_next(&prng) % 9);
        prepare(&f, n, (int64_t)(kv_prng_next(&prng) % 100) - 50, 1 + (int64_t)(kv_prng_next(&prng) % 20),
                steps, 1 + (int64_t)(kv_prng_next(&prng) % 40));
        for (size_t s = 0; s < steps; s++) {
            int64_t end = ts_range_end(&f.in, s);
            size_t inside = 0;
            for (size_t i = 0; i < n; i++)
                inside += f.times[i] > end - f.in.range_ms && f.times[i] <= end;
            cr_assert_eq(f.hi[s] - f.lo[s], inside, "round %d step %zu", round, s);
            cr_assert(inside == 0 || f.times[f.lo[s]] > end - f.in.range_ms);
        }
    }
}

Test(range_kernel, rate_extrapolates_to_both_ends)
{
    static struct fixture f;
    for (int i = 0; i < 7; i++) { /* 1 a second, samples at 5, 15, ..., 65 s, far above zero */
        f.times[i] = 5000 + i * 10000;
        f.values[i] = 1000 + i * 10;
    }
    prepare(&f, 7, 65000, 1, 1, 60000); /* (5, 65]: six samples, 15 to 65 */
    cr_assert_float_eq(call(&f, TS_FUNC_RATE)[0], 1, 1e-12);
    cr_assert_float_eq(call(&f, TS_FUNC_INCREASE)[0], 60, 1e-12);
    cr_assert_float_eq(call(&f, TS_FUNC_DELTA)[0], 60, 1e-12);
}

Test(range_kernel, rate_adds_what_was_lost_at_each_reset)
{
    static struct fixture f;
    /* 50 + 20 + (reset) 10 + 30: the increase between first and last is 110 over 50 s; both ends lie 10 s or
     * less away */
    double increase = ONCE(&f, TS_FUNC_INCREASE, 100, 150, 170, 10, 40, 41);
    double plain = (41.0 - 100.0) + 170.0;
    cr_assert_float_eq(increase, plain * ((50.0 + 5.0 + 10.0) / 50.0), 1e-9);
    cr_assert(isnan(ONCE(&f, TS_FUNC_RATE, 1)) && ts_is_absent(f.out[0]));
}

Test(range_kernel, a_counter_is_not_extrapolated_below_zero)
{
    static struct fixture f;
    f.times[0] = 50000, f.values[0] = 2;
    f.times[1] = 60000, f.values[1] = 12;
    prepare(&f, 2, 60000, 1, 1, 20000); /* (40, 60]: start is 10 s away, but zero is only 2 s away */
    cr_assert_float_eq(call(&f, TS_FUNC_INCREASE)[0], 10.0 * (10.0 + 2.0) / 10.0, 1e-12);
    cr_assert_float_eq(call(&f, TS_FUNC_DELTA)[0], 10.0 * (10.0 + 10.0) / 10.0, 1e-12);
}

Test(range_kernel, irate_and_idelta_look_at_the_last_two)
{
    static struct fixture f;
    cr_assert_float_eq(ONCE(&f, TS_FUNC_IRATE, 1, 2, 50), 4.8, 1e-12);
    cr_assert_float_eq(ONCE(&f, TS_FUNC_IRATE, 1, 50, 20), 2, 1e-12); /* reset: began at zero */
    cr_assert_float_eq(ONCE(&f, TS_FUNC_IDELTA, 1, 50, 20), -30, 1e-12);
}

Test(range_kernel, changes_and_resets_count_steps_inside_the_window)
{
    static struct fixture f;
    cr_assert_eq(ONCE(&f, TS_FUNC_CHANGES, 1, 1, 2, NAN, NAN, 3), 3);
    cr_assert_eq(ONCE(&f, TS_FUNC_RESETS, 1, 0, 2, NAN, 1, 0), 2);
    cr_assert_eq(ONCE(&f, TS_FUNC_CHANGES, 5), 0);
}

Test(range_kernel, sums_are_compensated)
{
    static struct fixture f;
    cr_assert_eq(ONCE(&f, TS_FUNC_SUM_OVER_TIME, 1, 1e100, 1, -1e100), 2);
    cr_assert_eq(ONCE(&f, TS_FUNC_AVG_OVER_TIME, 1, 1e100, 1, -1e100), 0.5);
    cr_assert_float_eq(ONCE(&f, TS_FUNC_SUM_OVER_TIME, 0.1, 0.2, 0.3), 0.6, 1e-15);
}

Test(range_kernel, a_mean_survives_sums_that_overflow)
{
    static struct fixture f;
    double big = 1.7e308;
    cr_assert_float_eq(ONCE(&f, TS_FUNC_AVG_OVER_TIME, big, big, big) / big, 1, 1e-12);
    cr_assert(isinf(ONCE(&f, TS_FUNC_SUM_OVER_TIME, big, big, big)));
    cr_assert(isinf(ONCE(&f, TS_FUNC_AVG_OVER_TIME, INFINITY, 1)));
    cr_assert(isnan(ONCE(&f, TS_FUNC_AVG_OVER_TIME, INFINITY, -INFINITY)));
    cr_assert(isnan(ONCE(&f, TS_FUNC_SUM_OVER_TIME, 1, NAN)));
}

Test(range_kernel, extremes_ignore_nan_unless_all_are)
{
    static struct fixture f;
    cr_assert_eq(ONCE(&f, TS_FUNC_MAX_OVER_TIME, NAN, 3, 5, NAN, 4), 5);
    cr_assert_eq(ONCE(&f, TS_FUNC_MIN_OVER_TIME, NAN, 3, 5, NAN, 4), 3);
    cr_assert(isnan(ONCE(&f, TS_FUNC_MAX_OVER_TIME, NAN, NAN)) && !ts_is_absent(f.out[0]));
    cr_assert_eq(ONCE(&f, TS_FUNC_TS_OF_MAX_OVER_TIME, 1, 5, 5, 2), 20);
    cr_assert_eq(ONCE(&f, TS_FUNC_TS_OF_MIN_OVER_TIME, 1, 5, 5, 1), 30);
}

Test(range_kernel, spread_and_quantiles)
{
    static struct fixture f;
    cr_assert_float_eq(ONCE(&f, TS_FUNC_STDVAR_OVER_TIME, 0, 8, 8, 2, 3), 10.56, 1e-12);
    cr_assert_float_eq(ONCE(&f, TS_FUNC_STDDEV_OVER_TIME, 0, 8, 8, 2, 3), 3.249615361854384, 1e-12);
    cr_assert_float_eq(ONCE(&f, TS_FUNC_MAD_OVER_TIME, 4, 6, 2, 1, 999, 1, 2), 1, 1e-12);
    double values[] = {3, 1, 2, NAN};
    cr_assert_eq(ts_quantile(0, values, 3), 1);
    cr_assert_eq(ts_quantile(1, values, 3), 3);
    cr_assert_eq(ts_quantile(0.25, values, 3), 1.5);
    cr_assert(isnan(ts_quantile(0.5, values, 0)));
    cr_assert_eq(ts_quantile(2, values, 3), INFINITY);
    cr_assert_eq(ts_quantile(1, values, 4), 3); /* NaN comes first */
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

Test(range_kernel, quantiles_agree_with_sorting)
{
    static double values[500], sorted[500];
    struct kv_prng prng;
    kv_prng_init(&prng, 11);
    for (int round = 0; round < 400; round++) {
        size_t n = 1 + kv_prng_next(&prng) % 500, spread = 1 + kv_prng_next(&prng) % 300;
        double q = (double)(kv_prng_next(&prng) % 101) / 100;
        for (size_t i = 0; i < n; i++)
            sorted[i] = values[i] = (double)(kv_prng_next(&prng) % spread);
        qsort(sorted, n, sizeof(double), compare_double);
        double rank = q * (double)(n - 1), weight = rank - floor(rank);
        size_t low = (size_t)rank, high = low + 1 < n ? low + 1 : n - 1;
        cr_assert_eq(ts_quantile(q, values, n), sorted[low] * (1 - weight) + sorted[high] * weight);
    }
}

Test(range_kernel, trends)
{
    static struct fixture f;
    cr_assert_float_eq(ONCE(&f, TS_FUNC_DERIV, 0, 10, 20, 30), 1, 1e-12);
    cr_assert_eq(ONCE(&f, TS_FUNC_DERIV, 7, 7, 7), 0);
    cr_assert(isnan(ONCE(&f, TS_FUNC_DERIV, INFINITY, INFINITY)));
    f.params[0][0] = 100; /* from the step's time, 60 s, not from the last sample */
    cr_assert_float_eq(ONCE(&f, TS_FUNC_PREDICT_LINEAR, 0, 10, 20, 30), 160, 1e-9);
    f.params[0][0] = 0.5;
    f.params[1][0] = 0.1;
    cr_assert_float_eq(ONCE(&f, TS_FUNC_DOUBLE_EXPONENTIAL_SMOOTHING, 0, 10, 20, 30), 30, 1e-9);
}

/* The same answer whether windows overlap (queues, prefix sums) or are asked one by one. */
static void check_sliding(struct kv_prng *prng, bool whole)
{
    static struct fixture f, single;
    static const enum ts_func_id ids[] = {
        TS_FUNC_SUM_OVER_TIME,    TS_FUNC_AVG_OVER_TIME, TS_FUNC_MAX_OVER_TIME, TS_FUNC_MIN_OVER_TIME,
        TS_FUNC_COUNT_OVER_TIME,  TS_FUNC_RATE,          TS_FUNC_INCREASE,      TS_FUNC_CHANGES,
        TS_FUNC_RESETS,           TS_FUNC_DERIV,         TS_FUNC_IRATE,         TS_FUNC_LAST_OVER_TIME,
        TS_FUNC_STDVAR_OVER_TIME, TS_FUNC_DELTA,
    };
    size_t n = 2 + kv_prng_next(prng) % (SAMPLES_MAX - 2), steps = 1 + kv_prng_next(prng) % STEPS_MAX;
    int64_t t = 0;
    for (size_t i = 0; i < n; i++) {
        f.times[i] = t += 1 + (int64_t)(kv_prng_next(prng) % 20);
        f.values[i] = (double)(kv_prng_next(prng) % 50) + (whole ? 0 : 0.1);
        if (!whole && kv_prng_next(prng) % 40 == 0)
            f.values[i] = NAN;
    }
    int64_t step = 1 + (int64_t)(kv_prng_next(prng) % 40), range = 1 + (int64_t)(kv_prng_next(prng) % 400);
    for (size_t k = 0; k < sizeof(ids) / sizeof(*ids); k++) {
        prepare(&f, n, 0, step, steps, range);
        call(&f, ids[k]);
        memcpy(single.times, f.times, sizeof(f.times));
        memcpy(single.values, f.values, sizeof(f.values));
        for (size_t i = 0; i < steps; i++) {
            prepare(&single, n, (int64_t)i * step, 1, 1, range);
            double expected = call(&single, ids[k])[0], got = f.out[i];
            cr_assert(memcmp(&expected, &got, 8) == 0 ||
                          (isnan(expected) && isnan(got) && !ts_is_absent(expected)),
                      "%s: %.17g, alone %.17g", ts_func_get(ids[k])->name, got, expected);
        }
    }
}

Test(range_kernel, an_answer_does_not_depend_on_the_windows_beside_it)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 42);
    for (int round = 0; round < 60; round++)
        check_sliding(&prng, round % 2 == 0);
}

Test(range_kernel, anchored_and_smoothed_take_the_ends_from_neighbours)
{
    static struct fixture f;
    for (int i = 0; i < 4; i++) {
        f.times[i] = i * 10000;
        f.values[i] = i * 10;
    }
    prepare(&f, 4, 25000, 1, 1, 10000); /* (15, 25] */
    f.in.mode = TS_RANGE_SMOOTHED;
    ts_range_windows(&f.in, 100000, 100000, f.lo, f.hi);
    cr_assert_float_eq(call(&f, TS_FUNC_INCREASE)[0], 10, 1e-12);
    f.in.mode = TS_RANGE_ANCHORED;
    ts_range_windows(&f.in, 100000, 0, f.lo, f.hi);
    cr_assert_float_eq(call(&f, TS_FUNC_INCREASE)[0], 10,
                       1e-12); /* 10 at 10 s stands for 15 s, 20 at 20 s for 25 s */
    cr_assert_eq(call(&f, TS_FUNC_CHANGES)[0], 1);
}

Test(range_kernel, a_smoothing_factor_outside_zero_to_one_is_refused)
{
    static struct fixture f;
    f.times[0] = 1;
    prepare(&f, 1, 10, 1, 1, 100);
    f.params[0][0] = 1.5;
    cr_assert_eq(ts_range_kernel_of(TS_FUNC_HOLT_WINTERS)(&f.in, f.out), KV_INVALID);
    cr_assert_str_eq(f.err.text, "invalid smoothing factor. Expected: 0 < sf < 1, got: 1.500000");
}
