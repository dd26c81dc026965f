/*
 * Appends, scans, deletes, flushes and merges at once, on one store. Writers write each series in order, value = time, and say what was
 * acknowledged; the deleter cuts series from the front and says what it asked for and what was done. A scan must find every time
 * between what may be deleted and what was acknowledged before it began, and nothing of what was deleted before it began.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/prng.h"
#include "kvcore/os/thread.h"
#include "kvcore/os/vfs.h"
#include "tsdb/db.h"
#include "tsdb/matcher.h"
#include "tsdb/query/scan.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    WRITERS = 2,
    SERIES_EACH = 40,
    SERIES = WRITERS * SERIES_EACH,
    SCANNERS = 2,
    COMMITS = 400,
    STEP_MS = 20000
};

static struct {
    struct kv_vfs *vfs;
    struct kv_env *env;
    struct ts_db *db;
    int64_t start_ms, first_step;
    _Atomic int64_t acked[SERIES];   /* times below it are acknowledged; counted in steps */
    _Atomic int64_t cutting[SERIES]; /* a delete of times below it was asked for */
    _Atomic int64_t cut[SERIES];     /* and answered */
    _Atomic int running;
    _Atomic uint64_t scans, samples;
} run;

static void must(kv_status rc, const struct kv_err *err)
{
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", kv_status_name(rc), err->text);
        abort();
    }
}

struct label_of {
    char i[16];
};

static kv_status give_labels(void *ctx, const struct ts_row *row, struct ts_label_sink *sink)
{
    struct label_of *label = ctx;
    (void)row;
    kv_status rc = sink->add(sink, KV_STR("__name__"), KV_STR("m"));
    return rc < 0 ? rc : sink->add(sink, KV_STR("i"), kv_slice_str(label->i));
}

static void write_step(struct ts_appender *appender, int series, int64_t step, struct kv_err *err)
{
    struct label_of label;
    int64_t time_ms = run.start_ms + step * STEP_MS;
    double value = (double)step;
    snprintf(label.i, sizeof label.i, "%d", series);
    const struct ts_row row = {.protocol = TS_PROTOCOL_PROM_WRITE,
                               .identity = {{0}, kv_slice_str(label.i)},
                               .labels = give_labels,
                               .labels_ctx = &label,
                               .times_ms = &time_ms,
                               .values = &value,
                               .n = 1};
    must(ts_append_row(appender, &row, err), err);
}

static void writer(void *ctx)
{
    int first = *(const int *)ctx * SERIES_EACH;
    struct ts_appender *appender;
    struct ts_append_result result;
    struct kv_err err = {0};
    must(ts_appender_new(run.db, &appender), &err);
    for (int64_t step = run.first_step; step < run.first_step + COMMITS; step++) {
        for (int s = first; s < first + SERIES_EACH; s++) {
            write_step(appender, s, step, &err);
            if (step > 10 &&
                step % 7 == 0) /* again, and so late: changes nothing unless it was deleted meanwhile */
                write_step(appender, s, step - 1, &err);
        }
        must(ts_commit(appender, &result, &err), &err);
        KV_ASSERT(result.rejected == 0);
        for (int s = first; s < first + SERIES_EACH; s++)
            atomic_store(&run.acked[s], step + 1);
    }
    ts_appender_free(appender);
    atomic_fetch_sub(&run.running, 1);
}

static void check_series(const struct ts_scan_series *found, int series, int64_t cut, int64_t cutting,
                         int64_t acked)
{
    int64_t next = -1;
    for (size_t i = 0; i < found->n; i++) {
        int64_t step = (found->times_ms[i] - run.start_ms) / STEP_MS;
        KV_ASSERT(found->values[i] == (double)step);
        KV_ASSERT(step >= cut);
        if (next >= 0 && next >= cutting && next < acked && step != next) {
            fprintf(stderr, "series %d: step %lld is missing (cut %lld cutting %lld acked %lld)\n", series,
                    (long long)next, (long long)cut, (long long)cutting, (long long)acked);
            abort();
        }
        next = step + 1;
    }
    if (acked > cutting && (found->n == 0 || next < acked)) {
        fprintf(stderr, "series %d: ends at step %lld of %lld\n", series, (long long)next, (long long)acked);
        abort();
    }
}

static void scan_once(int series)
{
    struct kv_err err = {0};
    struct label_of label;
    struct ts_matcher matcher;
    snprintf(label.i, sizeof label.i, "%d", series);
    must(ts_matcher_init(&matcher, TS_MATCH_EQ, KV_STR("i"), kv_slice_str(label.i), &err), &err);
    struct ts_budget budget = {.samples_max = UINT64_MAX,
                               .bytes_max = UINT64_MAX / 4,
                               .deadline_mono_ns = UINT64_MAX,
                               .clock = kv_clock_system()};
    const struct ts_scan_options options = {
        .matchers = &matcher, .n_matchers = 1, .from_ms = INT64_MIN, .to_ms = INT64_MAX};
    struct ts_scan *scan;
    struct ts_scan_series found = {0};
    int64_t acked = atomic_load(&run.acked[series]), cut = atomic_load(&run.cut[series]);
    must(ts_scan_open(run.db, &options, &budget, &scan, &err), &err);
    kv_status rc = ts_scan_next(scan, &found, &err);
    must(rc, &err);
    check_series(&found, series, cut, atomic_load(&run.cutting[series]), acked);
    atomic_fetch_add(&run.scans, 1);
    atomic_fetch_add(&run.samples, found.n);
    ts_scan_close(scan);
    ts_matcher_release(&matcher);
}

static void scanner(void *ctx)
{
    struct kv_prng prng;
    kv_prng_init(&prng, (uint64_t) * (const int *)ctx);
    while (atomic_load(&run.running) > 0)
        scan_once((int)kv_prng_below(&prng, SERIES));
}

static void deleter(void *ctx)
{
    struct kv_prng prng;
    struct kv_err err = {0};
    (void)ctx;
    kv_prng_init(&prng, 99);
    while (atomic_load(&run.running) > 0) {
        int series = (int)kv_prng_below(&prng, SERIES);
        int64_t acked = atomic_load(&run.acked[series]), to = atomic_load(&run.cut[series]) + 10;
        if (to + 20 > acked) { /* what a writer may still repeat is left alone */
            kv_clock_sleep_ns(kv_clock_system(), 1000000);
            continue;
        }
        char text[64];
        snprintf(text, sizeof text, "m{i=\"%d\"}", series);
        kv_slice selector = kv_slice_str(text);
        atomic_store(&run.cutting[series], to);
        must(ts_delete(run.db, &selector, 1, INT64_MIN, run.start_ms + to * STEP_MS - 1, &err), &err);
        atomic_store(&run.cut[series], to);
    }
}

static void carer(void *ctx)
{
    struct kv_err err = {0};
    (void)ctx;
    for (int round = 0; atomic_load(&run.running) > 0; round++) {
        must(ts_flush(run.db, round % 3 == 2, &err), &err);
        must(ts_maintain(run.db, &err), &err);
        struct ts_stats stats;
        ts_stats(run.db, &stats);
        kv_clock_sleep_ns(kv_clock_system(), 2000000);
    }
}

static void start(kv_thread *thread, const char *name, void (*body)(void *ctx), void *ctx)
{
    struct kv_err err = {.text = "thread"};
    must(kv_thread_start(thread, name, 1 << 20, body, ctx), &err);
}

int main(void)
{
    static int numbers[] = {0, 1, 2, 3};
    struct kv_err err = {0};
    run.vfs = kv_vfs_mem_new();
    run.start_ms = kv_clock_wall_ms(kv_clock_system()) - 3 * 86400000;
    const struct kv_env_options env = {.vfs = run.vfs};
    const struct ts_options options = {.head_log_bytes_max = 20000};
    must(kv_env_open(&env, &run.env, &err), &err);
    must(ts_open(run.env, "db", &options, &run.db, &err), &err);
    atomic_store(&run.running, WRITERS);
    kv_thread writers[WRITERS] = {0}, scanners[SCANNERS] = {0}, other[2] = {0};
    for (int i = 0; i < WRITERS; i++)
        start(&writers[i], "writer", writer, &numbers[i]);
    for (int i = 0; i < SCANNERS; i++)
        start(&scanners[i], "scanner", scanner, &numbers[i]);
    start(&other[0], "deleter", deleter, NULL);
    start(&other[1], "carer", carer, NULL);
    for (int i = 0; i < WRITERS; i++)
        kv_thread_join(&writers[i]);
    for (int i = 0; i < SCANNERS; i++)
        kv_thread_join(&scanners[i]);
    kv_thread_join(&other[0]);
    kv_thread_join(&other[1]);
    for (int s = 0; s < SERIES; s++)
        scan_once(s);
    must(ts_close(run.db, &err), &err);
    must(ts_open(run.env, "db", &options, &run.db, &err), &err);
    for (int s = 0; s < SERIES; s++)
        scan_once(s);
    /* The log is read back while writers go on. */
    for (int round = 1; round <= 3; round++) {
        const struct ts_options behind = {.replay_in_background = true};
        must(ts_close_fast(run.db, &err), &err);
        must(ts_open(run.env, "db", &behind, &run.db, &err), &err);
        run.first_step = (int64_t)round * COMMITS;
        atomic_store(&run.running, WRITERS);
        for (int i = 0; i < WRITERS; i++)
            start(&writers[i], "writer", writer, &numbers[i]);
        for (int s = 0; s < SERIES; s++)
            scan_once(s);
        for (int i = 0; i < WRITERS; i++)
            kv_thread_join(&writers[i]);
    }
    for (int s = 0; s < SERIES; s++)
        scan_once(s);
    printf("stress_head: %llu scans, %llu samples read\n", (unsigned long long)atomic_load(&run.scans),
           (unsigned long long)atomic_load(&run.samples));
    must(ts_close(run.db, &err), &err);
    kv_env_close(run.env);
    kv_vfs_mem_free(run.vfs);
    return 0;
}
