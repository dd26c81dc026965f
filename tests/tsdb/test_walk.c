/* Everything that is stored, as it is: ts_export_* beside what scans answer, and the facts of chunks. */
#include "kvcore/base/prng.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/store_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SERIES = 7 };

static void must(struct store_kit *kit, kv_status rc)
{
    cr_assert_eq(rc, KV_OK, "%s: %s", kv_status_name(rc), kit->err.text);
}

/* Six days of appends, overwrites, late samples, deletes, flushes and merges; some of it stays in the head. */
static void fill(struct store_kit *kit)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 11);
    store_kit_init(kit);
    must(kit, store_kit_open(kit));
    for (int round = 0; round < 60; round++) {
        for (int i = 0; i < 40; i++) {
            int64_t back = (int64_t)kv_prng_below(&prng, (60 - (uint64_t)round) * 144) * 60000;
            must(kit, store_kit_add(kit, (int)kv_prng_below(&prng, SERIES), KIT_START_MS - back,
                                    (double)kv_prng_below(&prng, 1000)));
        }
        must(kit, store_kit_commit(kit));
        if (round % 7 == 3) {
            int64_t from = KIT_START_MS - (int64_t)kv_prng_below(&prng, 8640) * 60000;
            must(kit, store_kit_delete(kit, (int)kv_prng_below(&prng, SERIES), from, from + 6 * 3600000));
        }
        if (round % 11 == 5)
            must(kit, ts_flush(kit->db, round == 27, &kit->err));
    }
}

static struct ts_export *export_of(struct store_kit *kit, const struct ts_walk_options *options)
{
    struct ts_export *walk = NULL;
    struct ts_query_err err = {0};
    cr_assert_eq(ts_export_open(kit->db, options, &walk, &err), KV_OK, "%s", err.text);
    return walk;
}

static int number_of(const struct ts_series_points *p)
{
    cr_assert_eq(p->n_labels, 3);
    return atoi((const char *)p->labels[1].value.data);
}

/* The pieces of an export, put together, are what scans answer; a piece lies in one day, days go up, a series comes once. */
static void expect_all(struct store_kit *kit, const struct ts_walk_options *options, bool odd_only)
{
    struct ts_export *walk = export_of(kit, options);
    struct ts_series_points piece;
    struct ts_columns whole = {0};
    bool seen[SERIES] = {false};
    int at = -1;
    size_t i = 0;
    kv_status rc;
    while ((rc = ts_export_next(walk, &piece, &kit->err)) == KV_OK) {
        int series = number_of(&piece);
        if (series != at) {
            cr_assert(at < 0 || i == whole.n, "series %d: %zu of %zu samples", at, i, whole.n);
            cr_assert(!seen[series], "series %d came twice", series);
            must(kit, store_kit_read(kit, series, options->from_ms, options->to_ms, &whole));
            seen[series] = true;
            at = series;
            i = 0;
        }
        cr_assert_gt(piece.n, 0);
        cr_assert_eq(piece.times_ms[0] / KIT_DAY_MS, piece.times_ms[piece.n - 1] / KIT_DAY_MS);
        cr_assert_leq(i + piece.n, whole.n, "series %d has more than a scan finds", series);
        cr_assert_eq(memcmp(piece.times_ms, whole.times_ms + i, piece.n * sizeof *piece.times_ms), 0);
        cr_assert_eq(memcmp(piece.values, whole.values + i, piece.n * sizeof *piece.values), 0);
        i += piece.n;
    }
    cr_assert_eq(rc, KV_END, "%s", kit->err.text);
    cr_assert_eq(i, whole.n);
    for (int series = 0; series < SERIES; series++) {
        must(kit, store_kit_read(kit, series, options->from_ms, options->to_ms, &whole));
        cr_assert_eq(seen[series], whole.n > 0 && (!odd_only || series % 2), "series %d", series);
    }
    cr_assert_eq(ts_export_next(walk, &piece, &kit->err), KV_END);
    ts_columns_release(&whole);
    ts_export_close(walk);
}

Test(walk, exports_what_scans_answer)
{
    struct store_kit kit;
    fill(&kit);
    expect_all(&kit, &(struct ts_walk_options){.from_ms = INT64_MIN, .to_ms = INT64_MAX}, false);
    expect_all(&kit,
               &(struct ts_walk_options){.from_ms = KIT_START_MS - 3 * KIT_DAY_MS + 12345,
                                         .to_ms = KIT_START_MS - KIT_DAY_MS / 2},
               false);
    must(&kit, store_kit_close(&kit, true)); /* everything not flushed is read back into the head */
    must(&kit, store_kit_open(&kit));
    expect_all(&kit, &(struct ts_walk_options){.from_ms = INT64_MIN, .to_ms = INT64_MAX}, false);
    must(&kit, ts_flush(kit.db, true, &kit.err));
    expect_all(&kit, &(struct ts_walk_options){.from_ms = INT64_MIN, .to_ms = INT64_MAX}, false);
    store_kit_release(&kit);
}

Test(walk, a_series_that_several_selectors_match_comes_once)
{
    const kv_slice selectors[] = {KV_STR("{parity=\"odd\"}"), KV_STR("m1{parity!=\"even\"}"),
                                  KV_STR("{i=~\"[1357]\"}"), KV_STR("nothing")};
    struct store_kit kit;
    fill(&kit);
    expect_all(&kit,
               &(struct ts_walk_options){
                   .selectors = selectors, .n_selectors = 4, .from_ms = INT64_MIN, .to_ms = INT64_MAX},
               true);
    store_kit_release(&kit);
}

Test(walk, what_retention_hides_does_not_come)
{
    struct ts_series_points piece;
    struct store_kit kit;
    size_t n = 0;
    fill(&kit);
    must(&kit, store_kit_close(&kit, false));
    const struct ts_retention_rule rule = {.selector = KV_STR("m0"), .keep_ms = KIT_DAY_MS};
    kit.options.retention_ms = 3 * KIT_DAY_MS;
    kit.options.retention_rules = &rule;
    kit.options.n_retention_rules = 1;
    must(&kit, store_kit_open(&kit));
    expect_all(&kit, &(struct ts_walk_options){.from_ms = INT64_MIN, .to_ms = INT64_MAX}, false);
    struct ts_export *walk =
        export_of(&kit, &(struct ts_walk_options){.from_ms = INT64_MIN, .to_ms = INT64_MAX});
    uint64_t done, series;
    ts_export_progress(walk, &done, &series);
    cr_assert_eq(done, 0);
    cr_assert_geq(series, 1);
    for (; ts_export_next(walk, &piece, &kit.err) == KV_OK; n += piece.n)
        cr_assert_geq(piece.times_ms[0],
                      KIT_START_MS - (number_of(&piece) % 3 == 0 ? KIT_DAY_MS : 3 * KIT_DAY_MS));
    cr_assert_gt(n, 100);
    ts_export_progress(walk, &done, &series);
    cr_assert_eq(done, series);
    ts_export_close(walk);
    walk = export_of(&kit,
                     &(struct ts_walk_options){.from_ms = INT64_MIN, .to_ms = KIT_START_MS - 4 * KIT_DAY_MS});
    cr_assert_eq(ts_export_next(walk, &piece, &kit.err), KV_END);
    ts_export_close(walk);
    store_kit_release(&kit);
}

static bool stop(void *ctx)
{
    (void)ctx;
    return true;
}

Test(walk, refuses_what_is_no_selector_and_ends_when_it_is_told_to)
{
    const kv_slice bad = KV_STR("rate(m0[5m])");
    struct ts_query_err err;
    struct ts_export *walk = NULL;
    struct ts_series_points piece;
    struct store_kit kit;
    kv_status rc = KV_OK;
    fill(&kit);
    cr_assert_eq(
        ts_export_open(kit.db, &(struct ts_walk_options){.selectors = &bad, .n_selectors = 1}, &walk, &err),
        KV_INVALID);
    cr_assert(err.type == TS_QUERY_BAD_DATA && err.text[0] && !walk);
    for (int i = 0; i < 2000; i++) /* past what is counted between two looks at the clock */
        must(&kit, store_kit_add(&kit, i % SERIES, KIT_START_MS - i * 1000, i));
    must(&kit, store_kit_commit(&kit));
    rc = ts_export_open(kit.db,
                        &(struct ts_walk_options){.from_ms = INT64_MIN, .to_ms = INT64_MAX, .canceled = stop},
                        &walk, &err);
    while (rc == KV_OK)
        rc = ts_export_next(walk, &piece, &kit.err);
    cr_assert_eq(rc, KV_CANCELED, "%s", kv_status_name(rc));
    ts_export_close(walk);
    store_kit_release(&kit);
}

Test(walk, any_allocation_that_fails_is_reported)
{
    const kv_slice selectors[] = {KV_STR("{i=~\"[0-3]\"}"), KV_STR("m1")};
    const struct ts_walk_options options = {
        .selectors = selectors, .n_selectors = 2, .from_ms = INT64_MIN, .to_ms = INT64_MAX};
    struct store_kit kit;
    uint64_t all = 0;
    fill(&kit);
    for (uint64_t nth = 0;; nth++) { /* 0: none fails */
        struct ts_export *walk = NULL;
        struct ts_series_points piece;
        struct ts_query_err err;
        uint64_t samples = 0;
        if (nth)
            malloc_fault_arm(nth, false);
        kv_status rc = ts_export_open(kit.db, &options, &walk, &err);
        while (rc == KV_OK && (rc = ts_export_next(walk, &piece, NULL)) == KV_OK)
            samples += piece.n;
        ts_export_close(walk);
        bool fired = nth && malloc_fault_disarm();
        all = nth ? all : samples;
        cr_assert(rc == KV_END ? samples == all : fired && rc == KV_NO_MEMORY,
                  "allocation %llu: %s, %llu samples", (unsigned long long)nth, kv_status_name(rc),
                  (unsigned long long)samples);
        if (nth && !fired)
            break;
    }
    cr_assert_gt(all, 500);
    store_kit_release(&kit);
}

/* ---- chunks -------------------------------------------------------------------------------------------------------- */

struct seen {
    uint64_t chunks, samples, bytes;
    bool codecs, in_day;
    kv_status answer;
};

static kv_status each_chunk(void *ctx, const struct ts_chunk_facts *facts)
{
    struct seen *seen = ctx;
    seen->chunks++;
    seen->samples += facts->samples;
    seen->bytes += facts->bytes;
    seen->codecs &= facts->time_codec[0] && facts->value_codec[0] && facts->seq > 0 && facts->n_labels == 3;
    seen->in_day &= facts->window_ms <= facts->first_ms && facts->first_ms <= facts->last_ms &&
                    facts->last_ms < facts->window_ms + KIT_DAY_MS;
    return seen->answer;
}

Test(walk, tells_of_every_chunk_in_tables)
{
    struct store_kit kit;
    struct seen seen = {.codecs = true, .in_day = true}, part = seen;
    struct ts_stats stats;
    struct ts_query_err err = {0};
    struct ts_columns whole = {0};
    uint64_t samples = 0;
    fill(&kit);
    must(&kit, ts_flush(kit.db, true, &kit.err));
    ts_stats(kit.db, &stats);
    cr_assert_eq(ts_chunks(kit.db, &(struct ts_walk_options){.from_ms = INT64_MIN, .to_ms = INT64_MAX},
                           each_chunk, &seen, &err),
                 KV_OK, "%s", err.text);
    for (int series = 0; series < SERIES; series++) {
        must(&kit, store_kit_read(&kit, series, INT64_MIN, INT64_MAX, &whole));
        samples += whole.n;
    }
    cr_assert_eq(seen.chunks, stats.chunks);
    cr_assert_eq(seen.samples, samples, "settled: no chunk overlaps another");
    cr_assert(seen.codecs && seen.in_day && seen.bytes > samples);
    const kv_slice one = KV_STR("m1{i=\"4\"}");
    cr_assert_eq(ts_chunks(kit.db,
                           &(struct ts_walk_options){.selectors = &one,
                                                     .n_selectors = 1,
                                                     .from_ms = KIT_START_MS - KIT_DAY_MS,
                                                     .to_ms = KIT_START_MS},
                           each_chunk, &part, &err),
                 KV_OK);
    cr_assert(part.chunks > 0 && part.chunks <= 2);
    part.answer = KV_CANCELED;
    cr_assert_eq(ts_chunks(kit.db, &(struct ts_walk_options){.from_ms = INT64_MIN, .to_ms = INT64_MAX},
                           each_chunk, &part, &err),
                 KV_CANCELED);
    ts_columns_release(&whole);
    store_kit_release(&kit);
}
