/* The head alone: records in, samples out. */
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "tests/support/clock_manual.h"
#include "tsdb/head.h"

#include <criterion/criterion.h>

struct rig {
    struct clock_manual clock;
    struct ts_head *head;
    struct kv_buf body;
    struct ts_record_writer writer;
    uint64_t seq;
    struct ts_head_scratch scratch;
    struct ts_columns out;
};

static void rig_init(struct rig *r, uint64_t log_bytes_max)
{
    *r = (struct rig){0};
    clock_manual_init(&r->clock, 0, 1);
    const struct ts_head_options options = {.bytes_max = UINT64_C(1) << 40,
                                            .log_bytes_max = log_bytes_max,
                                            .age_ns_max = UINT64_C(1) << 60,
                                            .next_seq = 1,
                                            .clock = &r->clock.base};
    cr_assert_eq(ts_head_new(&options, &r->head), KV_OK);
}

static void rig_release(struct rig *r)
{
    ts_head_free(r->head);
    kv_buf_release(&r->body);
    ts_head_scratch_release(&r->scratch);
    ts_columns_release(&r->out);
    clock_manual_release(&r->clock);
}

/* Metric 0 is never handed out. */
static uint64_t real(uint64_t ref)
{
    return ref >> 32 ? ref : ref | UINT64_C(1) << 32;
}

static void add(struct rig *r, uint64_t ref, int64_t time_ms, double value)
{
    if (r->body.len == 0)
        cr_assert_not_null(kv_buf_extend(&r->body, TS_RECORD_BODY_HEADER_LEN));
    cr_assert_eq(ts_record_put(&r->writer, &r->body, real(ref), false, &time_ms, &value, 1, NULL, 1), KV_OK);
}

static void apply(struct rig *r)
{
    ts_record_finish(&r->writer, r->body.data, 0);
    cr_assert_eq(ts_head_samples(r->head, ++r->seq, kv_buf_slice(&r->body)), KV_OK);
    kv_buf_clear(&r->body);
    r->writer = (struct ts_record_writer){0};
}

static void put(struct rig *r, uint64_t ref, int64_t time_ms, double value)
{
    add(r, ref, time_ms, value);
    apply(r);
}

static void erase(struct rig *r, uint64_t ref, int64_t from_ms, int64_t to_ms)
{
    struct kv_buf record = {0};
    ref = real(ref);
    cr_assert_eq(ts_record_put_delete(&record, &ref, 1, from_ms, to_ms), KV_OK);
    cr_assert_eq(ts_head_delete(r->head, ++r->seq, kv_slice_from(kv_buf_slice(&record), 1), NULL), KV_OK);
    kv_buf_release(&record);
}

/* All samples of the newest generation. */
static const struct ts_columns *read_range(struct rig *r, uint64_t ref, int64_t from_ms, int64_t to_ms)
{
    struct ts_head_pin pin;
    uint32_t slot;
    ref = real(ref);
    cr_assert_eq(ts_head_pin(r->head, &pin), KV_OK);
    struct ts_generation *g = pin.generations[pin.n - 1];
    ts_generation_find(g, &ref, 1, &slot);
    r->out.n = 0;
    if (slot != TS_SLOT_NONE)
        cr_assert_eq(ts_generation_read(g, slot, from_ms, to_ms, &r->scratch, &r->out), KV_OK);
    ts_head_unpin(&pin);
    return &r->out;
}
static const struct ts_columns *read_all(struct rig *r, uint64_t ref)
{
    return read_range(r, ref, INT64_MIN, INT64_MAX);
}

Test(head, samples_in_order_come_back_in_order)
{
    struct rig r;
    rig_init(&r, UINT64_MAX);
    for (int i = 0; i < 2000; i++)
        put(&r, 7, i * 10, i * 0.1);
    const struct ts_columns *c = read_all(&r, 7);
    cr_assert_eq(c->n, 2000);
    for (int i = 0; i < 2000; i++) {
        cr_assert_eq(c->times_ms[i], i * 10);
        cr_assert_eq(c->values[i], i * 0.1);
    }
    for (int from = -5; from < 20000; from += 7) { /* from wherever a checkpoint may stand */
        c = read_range(&r, 7, from, from + 15);
        int first = from <= 0 ? 0 : (from + 9) / 10, last = (from + 15) / 10 > 1999 ? 1999 : (from + 15) / 10;
        cr_assert_eq(c->n, last - first + 1, "from %d", from);
        for (int i = first; i <= last; i++) {
            cr_assert_eq(c->times_ms[i - first], i * 10);
            cr_assert_eq(c->values[i - first], i * 0.1);
        }
    }
    cr_assert_eq(read_all(&r, 8)->n, 0);
    rig_release(&r);
}

Test(head, late_repeated_and_overwritten_samples_equal_a_map)
{
    enum { TIMES = 500 };
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct rig r;
        struct kv_prng prng;
        bool present[TIMES] = {0};
        double value[TIMES];
        rig_init(&r, UINT64_MAX);
        kv_prng_init(&prng, seed);
        for (int i = 0; i < 3000; i++) {
            uint64_t t = kv_prng_below(&prng, 3) ? kv_prng_below(&prng, TIMES)
                                                 : kv_prng_below(&prng, (uint64_t)i / 6 + 1);
            value[t] = (double)kv_prng_below(&prng, 3);
            present[t] = true;
            put(&r, 3, (int64_t)t, value[t]);
            if (kv_prng_below(&prng, 200) == 0) {
                uint64_t from = kv_prng_below(&prng, TIMES), to = from + kv_prng_below(&prng, 50);
                erase(&r, 3, (int64_t)from, (int64_t)to);
                for (uint64_t d = from; d <= to && d < TIMES; d++)
                    present[d] = false;
            }
            if (kv_prng_below(&prng, 100) != 0)
                continue;
            const struct ts_columns *c = read_all(&r, 3); /* settles late samples now and then */
            size_t at = 0;
            for (int d = 0; d < TIMES; d++) {
                if (!present[d])
                    continue;
                cr_assert_lt(at, c->n, "seed %d", (int)seed);
                cr_assert_eq(c->times_ms[at], d, "seed %d", (int)seed);
                cr_assert_eq(c->values[at++], value[d], "seed %d", (int)seed);
            }
            cr_assert_eq(at, c->n);
        }
        rig_release(&r);
    }
}

Test(head, the_same_sample_again_takes_no_memory)
{
    struct rig r;
    struct ts_head_stats before, after;
    rig_init(&r, UINT64_MAX);
    put(&r, 1, 1000, 5);
    ts_head_stats(r.head, &before);
    for (int i = 0; i < 1000; i++)
        put(&r, 1, 1000, 5);
    ts_head_stats(r.head, &after);
    cr_assert_eq(before.bytes, after.bytes);
    cr_assert_eq(read_all(&r, 1)->n, 1);
    rig_release(&r);
}

Test(head, a_series_is_found_whatever_the_order_of_arrival)
{
    struct rig r;
    struct kv_prng prng;
    enum { SERIES = 5000 };
    rig_init(&r, UINT64_MAX);
    kv_prng_init(&prng, 9);
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < SERIES; i++)
            add(&r, (round == 1 ? SERIES - i : i + 1) << 32 | kv_prng_below(&prng, 3), round * 10, (double)i);
        apply(&r);
    }
    size_t samples = 0;
    for (uint64_t i = 1; i <= SERIES; i++)
        for (uint64_t s = 0; s < 3; s++)
            samples += read_all(&r, i << 32 | s)->n;
    cr_assert_eq(samples, 3 * SERIES);
    rig_release(&r);
}

Test(head, a_full_generation_is_frozen_and_the_next_takes_over)
{
    struct rig r;
    struct ts_head_stats stats;
    rig_init(&r, 200);
    for (int i = 0; i < 40; i++)
        put(&r, 1, i, i);
    ts_head_stats(r.head, &stats);
    cr_assert_gt(stats.frozen, 1);
    cr_assert_eq(stats.samples, 40);
    cr_assert_eq(stats.time_min_ms, 0);
    cr_assert_eq(stats.time_max_ms, 39);
    cr_assert_eq(ts_head_floor(r.head), 1);
    struct ts_generation *g = ts_head_oldest(r.head);
    uint64_t last = ts_generation_last_seq(g);
    ts_head_drop(r.head, g);
    ts_generation_unpin(g);
    cr_assert_eq(ts_head_floor(r.head), last + 1);
    rig_release(&r);
}

Test(head, a_pin_keeps_what_was_dropped)
{
    struct rig r;
    struct ts_head_pin pin;
    uint64_t ref = real(1);
    uint32_t slot;
    rig_init(&r, UINT64_MAX);
    put(&r, 1, 5, 5);
    cr_assert_eq(ts_head_pin(r.head, &pin), KV_OK);
    cr_assert_eq(pin.seqs[0], UINT64_MAX, "active");
    cr_assert_eq(ts_head_rotate(r.head, true), KV_OK);
    struct ts_generation *g = ts_head_oldest(r.head);
    ts_head_drop(r.head, g);
    ts_generation_unpin(g);
    ts_generation_find(pin.generations[0], &ref, 1, &slot);
    cr_assert_eq(ts_generation_read(pin.generations[0], slot, 0, 10, &r.scratch, &r.out), KV_OK);
    cr_assert_eq(r.out.n, 1);
    ts_head_unpin(&pin);
    cr_assert_eq(read_all(&r, 1)->n, 0);
    rig_release(&r);
}

Test(head, walking_by_windows_yields_what_reading_does)
{
    struct rig r;
    struct kv_prng prng;
    rig_init(&r, UINT64_MAX);
    kv_prng_init(&prng, 5);
    for (int i = 0; i < 3000; i++)
        put(&r, 1, (int64_t)kv_prng_below(&prng, 4000) + i, i);
    cr_assert_eq(ts_head_rotate(r.head, true), KV_OK);
    struct ts_generation *g = ts_head_oldest(r.head);
    struct ts_columns all = {0}, walked = {0};
    struct ts_head_cursor cursor = {0};
    cr_assert_eq(ts_generation_read(g, 0, INT64_MIN, INT64_MAX, &r.scratch, &all), KV_OK);
    for (int64_t from = 0; from < 8000; from += 1000)
        cr_assert_eq(ts_generation_walk(g, 0, from, from + 999, &cursor, &r.scratch, &walked), KV_OK);
    cr_assert_eq(all.n, walked.n);
    for (size_t i = 0; i < all.n; i++) {
        cr_assert_eq(all.times_ms[i], walked.times_ms[i]);
        cr_assert_eq(all.values[i], walked.values[i]);
    }
    ts_columns_release(&all);
    ts_columns_release(&walked);
    ts_generation_unpin(g);
    rig_release(&r);
}

Test(head, a_body_that_is_none_fails_the_head_for_good)
{
    struct rig r;
    struct ts_head_pin pin;
    rig_init(&r, UINT64_MAX);
    put(&r, 1, 5, 5);
    cr_assert_eq(ts_head_samples(r.head, 2, KV_STR("nonsense")), KV_CORRUPT);
    cr_assert_eq(ts_head_failed(r.head), KV_CORRUPT);
    cr_assert_eq(ts_head_pin(r.head, &pin), KV_CORRUPT);
    rig_release(&r);
}
