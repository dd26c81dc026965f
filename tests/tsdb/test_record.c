/* The sample coding, and the bodies and deletes made of it. */
#include "tsdb/record.h"
#include "kvcore/base/prng.h"

#include <criterion/criterion.h>
#include <math.h>

static const double odd_values[] = {0.0,
                                    -0.0,
                                    1.0,
                                    -1.0,
                                    0.1,
                                    1e308,
                                    -1e308,
                                    5e-324,
                                    INFINITY,
                                    -INFINITY,
                                    1e15,
                                    9007199254740992.0,
                                    -9007199254740992.0,
                                    9007199254740993.0,
                                    127.0,
                                    128.0,
                                    -129.0,
                                    32767.0,
                                    32768.0,
                                    8388607.0,
                                    8388608.0,
                                    2147483648.0,
                                    140737488355328.0,
                                    3.0,
                                    3.5};
enum { N_ODD = sizeof odd_values / sizeof odd_values[0] };

static uint64_t random_bits(struct kv_prng *prng, uint64_t before)
{
    int64_t i;
    switch (kv_prng_below(prng, 6)) {
    case 0:
        return before;
    case 1:
        return kv_prng_next(prng); /* any bits: NaNs with payloads among them */
    case 2:
        return ts_double_bits(odd_values[kv_prng_below(prng, N_ODD)]);
    case 3:
        return before ^ (kv_prng_next(prng) >> kv_prng_below(prng, 64) << kv_prng_below(prng, 32));
    default:
        ts_sample_integer(before, &i);
        return ts_double_bits((double)(i + (int64_t)kv_prng_below(prng, 41) - 20));
    }
}

static int64_t random_time(struct kv_prng *prng, const struct ts_sample_state *state)
{
    switch (kv_prng_below(prng, 5)) {
    case 0:
        return (int64_t)((uint64_t)state->time_ms + 1 + kv_prng_below(prng, 300));
    case 1:
        return (int64_t)((uint64_t)state->time_ms + (uint64_t)state->delta_ms + kv_prng_below(prng, 70000) -
                         35000);
    case 2:
        return (int64_t)kv_prng_next(prng);
    default:
        return (int64_t)((uint64_t)state->time_ms + (uint64_t)state->delta_ms);
    }
}

Test(record, any_sample_comes_back_to_the_bit)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 1);
    enum { N = 20000 };
    static int64_t times[N];
    static uint64_t bits[N];
    static uint8_t bytes[N * TS_SAMPLE_LEN_MAX];
    struct ts_sample_state state = {0};
    size_t len = 0;
    for (int i = 0; i < N; i++) {
        times[i] = random_time(&prng, &state);
        bits[i] = random_bits(&prng, state.bits);
        len += ts_sample_put(&state, times[i], bits[i], bytes + len);
    }
    state = (struct ts_sample_state){0};
    const uint8_t *p = bytes;
    for (int i = 0; i < N; i++) {
        p = ts_sample_take(&state, p, bytes + len);
        cr_assert(p, "sample %d", i);
        cr_assert_eq(state.time_ms, times[i], "time %d", i);
        cr_assert_eq(state.bits, bits[i], "value %d", i);
    }
    cr_assert_eq(p, bytes + len);
}

Test(record, a_small_step_of_a_regular_integer_is_one_byte)
{
    struct ts_sample_state state = {.time_ms = 1000, .delta_ms = 10, .bits = ts_double_bits(500)};
    uint8_t bytes[TS_SAMPLE_LEN_MAX];
    cr_assert_eq(ts_sample_put(&state, 1010, ts_double_bits(507), bytes), 1);
    cr_assert_eq(ts_sample_put(&state, 1020, ts_double_bits(497), bytes), 1);
    cr_assert_eq(ts_sample_put(&state, 1030, ts_double_bits(508), bytes), 2);
}

Test(record, samples_that_end_early_are_refused)
{
    struct ts_sample_state state = {0};
    uint8_t bytes[TS_SAMPLE_LEN_MAX];
    size_t len = ts_sample_put(&state, INT64_C(1) << 60, ts_double_bits(0.1), bytes);
    for (size_t cut = 0; cut < len; cut++) {
        state = (struct ts_sample_state){0};
        cr_assert_null(ts_sample_take(&state, bytes, bytes + cut), "%zu of %zu", cut, len);
    }
    uint8_t unknown[TS_SAMPLE_PAD] = {63};
    state = (struct ts_sample_state){0};
    cr_assert_null(ts_sample_take(&state, unknown, unknown + sizeof unknown));
}

enum { BODY_SERIES = 500, BODY_SAMPLES = 7 };

static kv_slice build_body(struct kv_buf *buf, struct kv_prng *prng, uint64_t refs[BODY_SERIES],
                           uint32_t *n_new)
{
    struct ts_record_writer writer = {0};
    cr_assert_not_null(kv_buf_extend(buf, TS_RECORD_BODY_HEADER_LEN));
    *n_new = 0;
    for (uint32_t s = 0; s < BODY_SERIES; s++) {
        bool is_new = kv_prng_below(prng, 4) == 0;
        refs[s] =
            (kv_prng_below(prng, 5) + 1) << 32 | (kv_prng_next(prng) >> 32 & (s & 1 ? 0xffffffff : 0xff));
        int64_t times[BODY_SAMPLES];
        double values[BODY_SAMPLES];
        for (int i = 0; i < BODY_SAMPLES; i++) {
            times[i] = 1000000 + (int64_t)(s % 3) * 5 + i * 10;
            values[i] = s * 100.0 + i;
        }
        cr_assert_eq(ts_record_put(&writer, buf, is_new ? *n_new : refs[s], is_new, times, values,
                                   BODY_SAMPLES, NULL, BODY_SAMPLES),
                     KV_OK);
        if (is_new) {
            refs[s] |= UINT64_C(9) << 40;
            (*n_new)++;
        }
    }
    ts_record_finish(&writer, buf->data, *n_new);
    for (uint32_t s = 0; s < BODY_SERIES; s++)
        if (refs[s] >> 40)
            cr_assert_eq(kv_buf_append_fixed64(buf, refs[s]), KV_OK);
    return kv_buf_slice(buf);
}

Test(record, a_body_gives_back_refs_times_and_values)
{
    struct kv_prng prng;
    struct kv_buf buf = {0};
    uint64_t refs[BODY_SERIES], ref;
    uint32_t n_new, n;
    kv_prng_init(&prng, 2);
    kv_slice body = build_body(&buf, &prng, refs, &n_new);
    struct ts_record_reader reader;
    cr_assert_eq(ts_record_open(body, &reader), KV_OK);
    for (uint32_t s = 0; s < BODY_SERIES; s++) {
        cr_assert_eq(ts_record_series(&reader, &ref, &n), KV_OK);
        cr_assert_eq(ref, refs[s], "series %u", s);
        cr_assert_eq(n, BODY_SAMPLES);
        for (int i = 0; i < BODY_SAMPLES; i++) {
            cr_assert_eq(ts_record_sample(&reader), KV_OK);
            cr_assert_eq(reader.state.time_ms, 1000000 + (int64_t)(s % 3) * 5 + i * 10);
            cr_assert_eq(reader.state.bits, ts_double_bits(s * 100.0 + i));
        }
    }
    cr_assert_eq(ts_record_series(&reader, &ref, &n), KV_END);
    kv_buf_release(&buf);
}

Test(record, only_taken_samples_are_written)
{
    struct ts_record_writer writer = {0};
    struct kv_buf buf = {0};
    int64_t times[] = {10, 20, 30};
    double values[] = {1, 2, 3};
    bool take[] = {false, true, false};
    uint64_t ref;
    uint32_t n;
    cr_assert_not_null(kv_buf_extend(&buf, TS_RECORD_BODY_HEADER_LEN));
    cr_assert_eq(ts_record_put(&writer, &buf, 77, false, times, values, 3, take, 1), KV_OK);
    ts_record_finish(&writer, buf.data, 0);
    struct ts_record_reader reader;
    cr_assert_eq(ts_record_open(kv_buf_slice(&buf), &reader), KV_OK);
    cr_assert_eq(ts_record_series(&reader, &ref, &n), KV_OK);
    cr_assert_eq(n, 1);
    cr_assert_eq(ts_record_sample(&reader), KV_OK);
    cr_assert_eq(reader.state.time_ms, 20);
    cr_assert_eq(ts_record_series(&reader, &ref, &n), KV_END);
    kv_buf_release(&buf);
}

static kv_status walk_body(kv_slice body)
{
    struct ts_record_reader reader;
    uint64_t ref;
    uint32_t n;
    kv_status rc = ts_record_open(body, &reader);
    if (rc < 0)
        return rc;
    while ((rc = ts_record_series(&reader, &ref, &n)) == KV_OK)
        while (n-- > 0)
            if ((rc = ts_record_sample(&reader)) < 0)
                return rc;
    return rc == KV_END ? KV_OK : rc;
}

Test(record, a_body_cut_anywhere_is_damage)
{
    struct kv_prng prng;
    struct kv_buf buf = {0};
    uint64_t refs[BODY_SERIES];
    uint32_t n_new;
    kv_prng_init(&prng, 3);
    kv_slice body = build_body(&buf, &prng, refs, &n_new);
    cr_assert_eq(walk_body(body), KV_OK);
    for (size_t cut = 0; cut < body.len; cut += 1 + cut / 64) {
        uint8_t *copy = malloc(cut + 1); /* of its own, so that reading past its end is seen */
        memcpy(copy, body.data, cut);
        cr_assert_eq(walk_body(kv_slice_of(copy, cut)), KV_CORRUPT, "cut at %zu", cut);
        free(copy);
    }
    kv_buf_release(&buf);
}

Test(record, a_delete_gives_back_its_range_and_refs)
{
    struct kv_buf buf = {0};
    uint64_t refs[] = {UINT64_C(1) << 32, UINT64_C(1) << 32 | 5, UINT64_C(7) << 32 | UINT32_MAX}, ref;
    cr_assert_eq(ts_record_put_delete(&buf, refs, 3, -5, 1000), KV_OK);
    cr_assert_eq(buf.data[0], TS_RECORD_DELETE);
    struct ts_record_delete reader;
    cr_assert_eq(ts_record_open_delete(kv_slice_from(kv_buf_slice(&buf), 1), &reader), KV_OK);
    cr_assert_eq(reader.from_ms, -5);
    cr_assert_eq(reader.to_ms, 1000);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(ts_record_deleted(&reader, &ref), KV_OK);
        cr_assert_eq(ref, refs[i]);
    }
    cr_assert_eq(ts_record_deleted(&reader, &ref), KV_END);
    kv_buf_release(&buf);
}
