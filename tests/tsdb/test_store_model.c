/* Random histories on the store and on a naive map: in order, late, repeated, overwritten, deleted, written again, flushed, merged, closed,
 * crashed, reopened, with a clock that moves on. After every few steps both must answer the same. */
#include "kvcore/base/prng.h"
#include "tests/support/store_kit.h"
#include "tsdb/db.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

struct history {
    struct store_kit kit;
    struct store_model *model;
    struct kv_prng prng;
    size_t newest[MODEL_SERIES]; /* grid index behind the newest sample */
    uint64_t seed;
    char last[128];
};

static uint64_t below(struct history *h, uint64_t n)
{
    return kv_prng_below(&h->prng, n);
}

static double random_value(struct history *h)
{
    static const double odd[] = {NAN, INFINITY, -0.0, 0.1, 1e300, 5e-324};
    switch (below(h, 8)) {
    case 0:
        return odd[below(h, 6)];
    case 1:
        return kv_prng_unit(&h->prng);
    case 2: {
        uint64_t stale = TS_STALE_NAN;
        double v;
        memcpy(&v, &stale, sizeof v);
        return v;
    }
    default:
        return (double)below(h, 20);
    }
}

static void step_add(struct history *h, int series, size_t at)
{
    struct store_model *m = h->model;
    double value =
        m->present[series][at] && below(h, 4) == 0 ? ts_double_of(m->bits[series][at]) : random_value(h);
    int64_t time_ms = store_model_time(m, at);
    cr_assert_eq(store_kit_add(&h->kit, series, time_ms, value), KV_OK, "%s", h->kit.err.text);
    if (time_ms < ts_retention_floor_ms(h->kit.db))
        return; /* too old: rejected */
    m->present[series][at] = true;
    m->bits[series][at] = ts_double_bits(value);
    if (at >= h->newest[series])
        h->newest[series] = at + 1;
}

static void step_write(struct history *h)
{
    size_t now = (size_t)((h->kit.clock.wall_ms - h->model->start_ms) / h->model->step_ms);
    for (uint64_t rows = 1 + below(h, 12); rows > 0; rows--) {
        int series = (int)below(h, MODEL_SERIES);
        uint64_t kind = below(h, 10);
        size_t n = 1 + below(h, 6);
        size_t at = kind < 6 ? h->newest[series] + (below(h, 5) == 0 ? below(h, 20) : 0) : below(h, now + 1);
        for (size_t i = 0; i < n; i++)
            if (at + i <= now && at + i < MODEL_TIMES)
                step_add(h, series, at + i);
    }
    cr_assert_eq(store_kit_commit(&h->kit), KV_OK, "%s", h->kit.err.text);
}

static void step_delete(struct history *h)
{
    int series = (int)below(h, MODEL_SERIES);
    size_t from = below(h, MODEL_TIMES), to = from + below(h, below(h, 3) == 0 ? MODEL_TIMES : 40);
    int64_t from_ms = store_model_time(h->model, from), to_ms = store_model_time(h->model, to);
    cr_assert_eq(store_kit_delete(&h->kit, series, from_ms, to_ms), KV_OK, "%s", h->kit.err.text);
    for (size_t at = from; at <= to && at < MODEL_TIMES; at++)
        h->model->present[series][at] = false;
}

static void step_reopen(struct history *h, int how)
{
    if (how == 0)
        cr_assert_eq(store_kit_close(&h->kit, false), KV_OK, "%s", h->kit.err.text);
    else if (how == 1)
        cr_assert_eq(store_kit_close(&h->kit, true), KV_OK, "%s", h->kit.err.text);
    else
        store_kit_crash(&h->kit);
    cr_assert_eq(store_kit_open(&h->kit), KV_OK, "seed %" PRIu64 ": %s", h->seed, h->kit.err.text);
}

/* What retention hid stays hidden: a later, longer look must not bring it back. */
static void forget_expired(struct history *h)
{
    int64_t floor_ms = ts_retention_floor_ms(h->kit.db);
    for (size_t at = 0; at < MODEL_TIMES && store_model_time(h->model, at) < floor_ms; at++)
        for (int s = 0; s < MODEL_SERIES; s++)
            h->model->present[s][at] = false;
}

static void must(struct history *h, kv_status rc)
{
    cr_assert_eq(rc, KV_OK, "seed %" PRIu64 ": %s", h->seed, h->kit.err.text);
}

static const char *step(struct history *h)
{
    struct ts_db *db = h->kit.db;
    uint64_t kind = below(h, 100);
    if (kind < 62)
        return step_write(h), "write";
    if (kind < 72)
        return step_delete(h), "delete";
    if (kind < 82)
        return must(h, ts_flush(db, false, &h->kit.err)), "flush";
    if (kind < 85)
        return must(h, ts_flush(db, true, &h->kit.err)), "settle";
    if (kind < 91)
        return must(h, ts_maintain(db, &h->kit.err)), "maintain";
    if (kind < 93) { /* what a worker would do: merges of its own choice */
        kv_status rc;
        while ((rc = kv_work(ts_kv(db), &h->kit.err)) == KV_OK)
            ;
        return must(h, rc == KV_END ? KV_OK : rc), "work";
    }
    if (kind < 96)
        return clock_manual_advance_ms(&h->kit.clock, (int64_t)below(h, KIT_DAY_MS / 3)), "advance";
    return step_reopen(h, (int)below(h, 3)), "reopen";
}

static void compare(struct history *h, const char *what)
{
    char text[160];
    snprintf(text, sizeof text, "seed %" PRIu64 ", %s", h->seed, what);
    forget_expired(h);
    store_model_compare(h->model, &h->kit, INT64_MIN, INT64_MAX, text);
    int64_t a = store_model_time(h->model, below(h, MODEL_TIMES)),
            b = store_model_time(h->model, below(h, MODEL_TIMES));
    store_model_compare(h->model, &h->kit, a < b ? a : b, a < b ? b : a, text);
}

static void run_history(uint64_t seed, int steps)
{
    struct history *h = calloc(1, sizeof *h);
    h->model = calloc(1, sizeof *h->model);
    h->seed = seed;
    kv_prng_init(&h->prng, seed);
    store_kit_init(&h->kit);
    h->model->step_ms = 60000 * (int64_t)(1 + below(h, 3));
    h->model->start_ms = KIT_START_MS - KIT_DAY_MS;
    h->kit.options.retention_ms = below(h, 2) ? INT64_MAX : 2 * KIT_DAY_MS;
    h->kit.options.head_log_bytes_max = below(h, 3) ? 0 : 2000;
    h->kit.options.replay_in_background = below(h, 2);
    cr_assert_eq(store_kit_open(&h->kit), KV_OK, "%s", h->kit.err.text);
    char trail[256] = "";
    for (int i = 0; i < steps; i++) {
        const char *what = step(h);
        size_t len = strlen(trail);
        if (len > 200) {
            memmove(trail, trail + 100, len - 99);
            len -= 100;
        }
        snprintf(trail + len, sizeof trail - len, " %s", what);
        if (below(h, 3) == 0)
            compare(h, trail);
    }
    cr_assert_eq(ts_flush(h->kit.db, true, &h->kit.err), KV_OK, "%s", h->kit.err.text);
    compare(h, "settled at the end");
    cr_assert_eq(store_kit_close(&h->kit, false), KV_OK, "%s", h->kit.err.text);
    const struct kv_env_options env_options = {
        .vfs = h->kit.vfs, .clock = &h->kit.clock.base, .threads = KV_THREADS_NONE};
    struct kv_env *env;
    cr_assert_eq(kv_env_open(&env_options, &env, NULL), KV_OK);
    cr_assert_eq(ts_check(env, "db", NULL, NULL, &h->kit.err), KV_OK, "seed %" PRIu64 ": %s", seed,
                 h->kit.err.text);
    kv_env_close(env);
    store_kit_release(&h->kit);
    free(h->model);
    free(h);
}

Test(store_model, random_histories_answer_like_a_map)
{
    for (uint64_t seed = 1; seed <= 12; seed++)
        run_history(seed, 150);
}
