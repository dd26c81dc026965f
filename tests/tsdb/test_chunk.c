#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "tsdb/chunk/chunk.h"
#include "tsdb/chunk/huffman.h"
#include "tsdb/chunk/kernel.h"
#include "tsdb/chunk/pack.h"
#include "tsdb/ts.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = TS_CHUNK_SAMPLES_MAX };
static int64_t times[N], got_times[N];
static double values[N], got_values[N];

/* ---- kinds of series: each fills n samples */

static double bits_double(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static void fill_times(struct kv_prng *prng, unsigned kind, size_t n)
{
    int64_t at = 1795224223311;
    for (size_t i = 0; i < n; i++) {
        times[i] = at;
        switch (kind % 4) {
        case 0:
            at += 10000;
            break;
        case 1:
            at += 14990 + (int64_t)kv_prng_below(prng, 20);
            break;
        case 2:
            at += 1 + (int64_t)(kv_prng_next(prng) >> (kv_prng_below(prng, 40) + 20));
            break;
        default:
            at += kv_prng_below(prng, 50) ? 15000 : 3600000;
            break;
        }
    }
}

static double next_value(struct kv_prng *prng, unsigned kind, double last)
{
    static const double special[] = {0.0, -0.0, INFINITY, -INFINITY, 5e-324, -5e-324, 1.7976931348623157e308};
    switch (kind % 10) {
    case 0:
        return 42;
    case 1:
        return last + (double)kv_prng_below(prng, 3) - 1;
    case 2:
        return last + (double)kv_prng_below(prng, 1000);
    case 3:
        return (double)kv_prng_below(prng, 100000) / 100;
    case 4:
        return 4096.0 * (double)kv_prng_below(prng, 1 << 20);
    case 5:
        return kv_prng_unit(prng);
    case 6:
        return bits_double(kv_prng_next(prng));
    case 7:
        return special[kv_prng_below(prng, 7)];
    case 8:
        return kv_prng_below(prng, 60) ? last + 1 : bits_double(TS_STALE_NAN);
    default:
        return -9007199254740992.0 +
               (double)kv_prng_below(prng, 1u << 30) * (double)kv_prng_below(prng, 1u << 24);
    }
}

static void fill(struct kv_prng *prng, unsigned kind, size_t n)
{
    fill_times(prng, kind / 10, n);
    double last = 50;
    for (size_t i = 0; i < n; i++) {
        values[i] = next_value(prng, kind, last);
        last = isfinite(values[i]) ? values[i] : last;
    }
}

static enum ts_chunk_effort effort_of(unsigned round)
{
    return round % 2 ? TS_CHUNK_SMALL : TS_CHUNK_QUICK;
}

static void assert_same(size_t begin, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        cr_assert(got_times[i] == times[begin + i], "time %zu: %" PRId64 " not %" PRId64, i, got_times[i],
                  times[begin + i]);
        cr_assert(memcmp(&got_values[i], &values[begin + i], 8) == 0, "value %zu: %a not %a", i,
                  got_values[i], values[begin + i]);
    }
}

Test(chunk, every_kind_of_series_comes_back_to_the_bit)
{
    static const size_t sizes[] = {1, 2, 3, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1000, 1025, 4096};
    struct kv_prng prng;
    kv_prng_init(&prng, 1);
    for (unsigned round = 0; round < 80; round++) {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            struct kv_buf out = {0};
            struct ts_chunk_info info;
            size_t taken, n;
            fill(&prng, round / 2, sizes[s]);
            cr_assert_eq(ts_chunk_encode(times, values, sizes[s], effort_of(round), &out, &taken), KV_OK);
            cr_assert(taken >= 1 && taken <= sizes[s] && out.len <= TS_CHUNK_BYTES_MAX);
            cr_assert(taken == sizes[s] || out.len > TS_CHUNK_BYTES_MAX / 3, "stopped early for no reason");
            cr_assert_eq(ts_chunk_info(kv_buf_slice(&out), &info), KV_OK);
            cr_assert(info.count == taken && info.first_ms == times[0] && info.last_ms == times[taken - 1]);
            cr_assert_eq(ts_chunk_decode(kv_buf_slice(&out), INT64_MIN, INT64_MAX, got_times, got_values, &n),
                         KV_OK);
            cr_assert_eq(n, taken);
            assert_same(0, n);
            kv_buf_release(&out);
        }
    }
}

Test(chunk, a_range_gives_exactly_its_samples)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 2);
    for (unsigned round = 0; round < 400; round++) {
        struct kv_buf out = {0};
        size_t n = 1 + kv_prng_below(&prng, 1700), taken, got;
        fill(&prng, (unsigned)kv_prng_below(&prng, 40), n);
        cr_assert_eq(ts_chunk_encode(times, values, n, effort_of(round), &out, &taken), KV_OK);
        cr_assert(taken == n || out.len > TS_CHUNK_BYTES_MAX / 3);
        n = taken;
        size_t a = kv_prng_below(&prng, n), b = kv_prng_below(&prng, n);
        int64_t from = times[a] + (int64_t)kv_prng_below(&prng, 3) - 1,
                to = times[b] + (int64_t)kv_prng_below(&prng, 3) - 1;
        size_t begin = 0, end = n;
        while (begin < n && times[begin] < from)
            begin++;
        while (end > 0 && times[end - 1] > to)
            end--;
        cr_assert_eq(ts_chunk_decode(kv_buf_slice(&out), from, to, got_times, got_values, &got), KV_OK);
        cr_assert_eq(got, end > begin ? end - begin : 0);
        assert_same(begin, got);
        kv_buf_release(&out);
    }
}

Test(chunk, the_codec_suits_the_series)
{
    static const struct {
        unsigned kind;
        enum ts_chunk_effort effort;
        enum ts_time_codec time_codec;
        enum ts_value_codec codec;
        double bytes_max; /* a sample, times included, 4096 samples */
    } rows[] = {{0, TS_CHUNK_SMALL, TS_TIME_STEP, TS_VALUE_CONST, 0.01},
                {1, TS_CHUNK_QUICK, TS_TIME_STEP, TS_VALUE_INT, 0.40},
                {1, TS_CHUNK_SMALL, TS_TIME_STEP, TS_VALUE_HUFFMAN, 0.23}, /* entropy 0.198 */
                {2, TS_CHUNK_QUICK, TS_TIME_STEP, TS_VALUE_INT, 1.45},
                {2, TS_CHUNK_SMALL, TS_TIME_STEP, TS_VALUE_HUFFMAN, 1.28}, /* entropy 1.246 */
                {3, TS_CHUNK_QUICK, TS_TIME_STEP, TS_VALUE_INT, 2.4},
                {4, TS_CHUNK_QUICK, TS_TIME_STEP, TS_VALUE_INT, 2.8},
                {8, TS_CHUNK_QUICK, TS_TIME_STEP, TS_VALUE_INT, 0.6},
                {8, TS_CHUNK_SMALL, TS_TIME_STEP, TS_VALUE_INT, 0.3},
                {6, TS_CHUNK_SMALL, TS_TIME_STEP, TS_VALUE_RAW, 8.1},
                {10, TS_CHUNK_QUICK, TS_TIME_DELTA, TS_VALUE_CONST, 0.72},
                {10, TS_CHUNK_SMALL, TS_TIME_JITTER, TS_VALUE_CONST, 0.6}, /* entropy 0.540 */
                {30, TS_CHUNK_QUICK, TS_TIME_DELTA, TS_VALUE_CONST, 0.2},
                {30, TS_CHUNK_SMALL, TS_TIME_DELTA, TS_VALUE_CONST, 0.2}};
    struct kv_prng prng;
    kv_prng_init(&prng, 3);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kv_buf out = {0};
        struct ts_chunk_info info;
        size_t taken;
        fill(&prng, rows[i].kind, N);
        cr_assert_eq(ts_chunk_encode(times, values, N, rows[i].effort, &out, &taken), KV_OK);
        cr_assert_eq(ts_chunk_info(kv_buf_slice(&out), &info), KV_OK);
        cr_assert(info.value_codec == rows[i].codec && info.time_codec == rows[i].time_codec,
                  "row %zu took %s, times %d: %.3f bytes a sample", i, ts_value_codec_name(info.value_codec),
                  info.time_codec, (double)out.len / (double)taken);
        cr_assert((double)out.len / (double)taken <= rows[i].bytes_max, "kind %u: %.3f bytes a sample",
                  rows[i].kind, (double)out.len / (double)taken);
        kv_buf_release(&out);
    }
}

Test(chunk, damage_is_an_error_or_bounded_samples_and_never_a_crash)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 4);
    for (unsigned round = 0; round < 80; round++) {
        struct kv_buf out = {0};
        size_t taken, n, count = round % 2 ? 600 : 200;
        fill(&prng, round / 2, count);
        cr_assert_eq(ts_chunk_encode(times, values, count, effort_of(round), &out, &taken), KV_OK);
        for (size_t bit = 0; bit<out.len * 8; bit += out.len> 400 && bit > 1600
                                 ? 7
                                 : 1) { /* every bit of what is not the blocks */
            out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            kv_status rc =
                ts_chunk_decode(kv_buf_slice(&out), INT64_MIN, INT64_MAX, got_times, got_values, &n);
            cr_assert(rc == KV_OK || rc == KV_CORRUPT || rc == KV_TOO_NEW);
            for (size_t i = 1; rc == KV_OK && i < n; i++)
                cr_assert(got_times[i] > got_times[i - 1], "times out of order after damage");
            out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t len = 0; len<out.len; len += out.len> 400 && len > 200 ? 5 : 1) {
            uint8_t *cut = kv_alloc(len);
            memcpy(cut, out.data, len);
            cr_assert(
                ts_chunk_decode(kv_slice_of(cut, len), INT64_MIN, INT64_MAX, got_times, got_values, &n) < 0);
            kv_free(cut);
        }
        kv_buf_release(&out);
    }
}

/* Free bytes of a disk: they move in pages, from where they are not a multiple of one. */
Test(chunk, a_common_factor_of_the_steps_is_divided_out)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 10);
    for (int sign = -1; sign <= 1; sign += 2)
        for (int tenths = 0; tenths < 2; tenths++) {
            struct kv_buf out = {0};
            size_t taken, n;
            int64_t at = sign * 123456789;
            fill_times(&prng, 0, N);
            for (size_t i = 0; i < N; i++, at -= 4096 * (int64_t)kv_prng_below(&prng, 100))
                values[i] = tenths ? (double)at / 10 : (double)at;
            cr_assert_eq(ts_chunk_encode(times, values, N, TS_CHUNK_SMALL, &out, &taken), KV_OK);
            cr_assert_eq(taken, N);
            cr_assert_lt((double)out.len / N, 0.88, "%.3f bytes a sample, entropy 0.83", (double)out.len / N);
            cr_assert_eq(ts_chunk_decode(kv_buf_slice(&out), INT64_MIN, INT64_MAX, got_times, got_values, &n),
                         KV_OK);
            cr_assert_eq(n, N);
            assert_same(0, n);
            kv_buf_release(&out);
        }
}

enum { GOLDEN_MAX = 8192 };

/* The file gives the first n of times and values; tests/golden/README.md says what they are. Returns its length. */
static size_t assert_golden_read(const char *path, uint8_t *bytes, size_t count)
{
    size_t n;
    FILE *f = fopen(path, "rb");
    cr_assert(f != NULL, "%s", path);
    size_t len = fread(bytes, 1, GOLDEN_MAX, f);
    fclose(f);
    cr_assert_eq(ts_chunk_decode(kv_slice_of(bytes, len), INT64_MIN, INT64_MAX, got_times, got_values, &n),
                 KV_OK);
    cr_assert_eq(n, count);
    assert_same(0, n);
    return len;
}

/* And it holds exactly what they become. */
static void assert_golden(const char *path, size_t count, enum ts_chunk_effort effort,
                          enum ts_time_codec time_codec, enum ts_value_codec value_codec)
{
    struct kv_buf out = {0};
    struct ts_chunk_info info;
    size_t taken;
    uint8_t bytes[GOLDEN_MAX];
    cr_assert_eq(ts_chunk_encode(times, values, count, effort, &out, &taken), KV_OK);
    cr_assert_eq(taken, count);
    cr_assert_eq(ts_chunk_info(kv_buf_slice(&out), &info), KV_OK);
    cr_assert(info.time_codec == time_codec && info.value_codec == value_codec);
    if (getenv("TIDEMARK_WRITE_GOLDEN")) {
        FILE *f = fopen(path, "wb");
        cr_assert(f != NULL);
        fwrite(out.data, 1, out.len, f);
        fclose(f);
    }
    size_t len = assert_golden_read(path, bytes, count);
    cr_assert(len == out.len && memcmp(bytes, out.data, len) == 0);
    kv_buf_release(&out);
}

Test(chunk, the_golden_one_of_integers_is_still_written_and_read)
{
    for (int64_t i = 0; i < 200; i++) {
        times[i] = 1795224000000 + i * 15000 + i * 7 % 11;
        values[i] = i % 50 == 20 ? -0.0 : i == 150 ? bits_double(TS_STALE_NAN) : (double)(i * i % 997) / 100;
    }
    assert_golden("tests/golden/chunk-int.bin", 200, TS_CHUNK_QUICK, TS_TIME_DELTA, TS_VALUE_INT);
}

static void fill_golden_of_huffman(void)
{
    for (int64_t i = 0; i < 1300; i++) {
        times[i] = 1795224000000 + i * 15000 + i * i % 13;
        values[i] = i == 700 ? bits_double(TS_STALE_NAN) : (double)(40000 + i * i % 23 - i % 7) / 100;
    }
}

Test(chunk, the_golden_one_of_jittered_times_is_still_written_and_read)
{
    fill_golden_of_huffman();
    assert_golden("tests/golden/chunk-jitter.bin", 1300, TS_CHUNK_SMALL, TS_TIME_JITTER, TS_VALUE_HUFFMAN);
}

/* Its times, between the values of each block, are no longer written. */
Test(chunk, the_golden_one_of_huffman_is_still_read_and_its_damage_noticed_or_bounded)
{
    uint8_t bytes[GOLDEN_MAX];
    size_t n;
    fill_golden_of_huffman();
    size_t len = assert_golden_read("tests/golden/chunk-huffman.bin", bytes, 1300);
    for (size_t begin = 0; begin < 1300; begin += 97) {
        cr_assert_eq(ts_chunk_decode(kv_slice_of(bytes, len), times[begin], times[begin + 2], got_times,
                                     got_values, &n),
                     KV_OK);
        cr_assert_eq(n, 3);
        assert_same(begin, n);
    }
    for (size_t bit = 0; bit < len * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        kv_status rc =
            ts_chunk_decode(kv_slice_of(bytes, len), INT64_MIN, INT64_MAX, got_times, got_values, &n);
        cr_assert(rc == KV_OK || rc == KV_CORRUPT || rc == KV_TOO_NEW);
        for (size_t i = 1; rc == KV_OK && i < n; i++)
            cr_assert(got_times[i] > got_times[i - 1], "times out of order after damage");
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *part = kv_alloc(cut);
        memcpy(part, bytes, cut);
        cr_assert(ts_chunk_decode(kv_slice_of(part, cut), INT64_MIN, INT64_MAX, got_times, got_values, &n) <
                  0);
        kv_free(part);
    }
}

/* Series of one scrape, and now and then of another, in ranges of every kind, through one memo: always what the chunk says. */
Test(chunk, a_memo_of_times_changes_nothing)
{
    enum { SERIES = 5, EACH = 1700 };
    static int64_t all_times[SERIES][EACH];
    static double all_values[SERIES][EACH];
    struct kv_buf chunks[SERIES] = {{0}};
    struct ts_chunk_memo memo = {.bytes = 0};
    size_t most = 0;
    struct kv_prng prng;
    size_t taken, n;
    kv_prng_init(&prng, 12);
    for (size_t s = 0; s < SERIES; s++) {
        fill(&prng, 10 + (unsigned)s % 4, EACH);
        for (size_t i = 0; i < EACH && s % 2; i++) /* the times of series 1 and 3 are those of 0 */
            times[i] = all_times[0][i];
        if (s == 4) { /* the same bytes of times but the last, from the same first time on */
            memcpy(times, all_times[0], sizeof all_times[0]);
            times[EACH - 2]++;
        }
        memcpy(all_times[s], times, sizeof all_times[s]);
        memcpy(all_values[s], values, sizeof all_values[s]);
        cr_assert_eq(ts_chunk_encode(times, values, EACH, TS_CHUNK_SMALL, &chunks[s], &taken), KV_OK);
        struct ts_chunk_info info;
        cr_assert_eq(ts_chunk_info(kv_buf_slice(&chunks[s]), &info), KV_OK);
        cr_assert(taken == EACH && info.time_codec == TS_TIME_JITTER);
    }
    for (unsigned round = 0; round < 3000; round++) {
        size_t s = kv_prng_below(&prng, SERIES), a = kv_prng_below(&prng, EACH),
               b = a + kv_prng_below(&prng, EACH - a);
        if (round % 3 == 0)
            a = 0, b = EACH - 1;
        cr_assert_eq(ts_chunk_decode_next(kv_buf_slice(&chunks[s]), all_times[s][a], all_times[s][b], &memo,
                                          got_times, got_values, &n),
                     KV_OK);
        most = memo.bytes > most ? memo.bytes : most;
        cr_assert_eq(n, b - a + 1);
        cr_assert(memcmp(got_times, all_times[s] + a, n * sizeof got_times[0]) == 0);
        cr_assert(memcmp(got_values, all_values[s] + a, n * sizeof got_values[0]) == 0);
    }
    cr_assert(most > EACH * sizeof(int64_t) && most <= TS_CHUNK_MEMO * (size_t)40 * 1024, "%zu", most);
    ts_chunk_memo_release(&memo);
    cr_assert_eq(memo.bytes, 0);
    for (size_t s = 0; s < SERIES; s++)
        kv_buf_release(&chunks[s]);
}

/* Milliseconds of a counter as a program makes seconds of them. */
Test(chunk, the_golden_one_of_multiplied_integers_is_still_written_and_read)
{
    int64_t ms = 1833562;
    for (int64_t i = 0; i < 700; i++) {
        times[i] = 1795224000000 + i * 15000;
        values[i] = i == 600 ? bits_double(TS_STALE_NAN) : (double)ms * 0.001;
        ms += 5 + i * i % 23;
    }
    assert_golden("tests/golden/chunk-multiplied.bin", 700, TS_CHUNK_SMALL, TS_TIME_STEP, TS_VALUE_HUFFMAN);
}

Test(chunk, integers_are_found_however_programs_scale_them)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 13);
    for (unsigned round = 0; round < 400; round++) {
        struct kv_buf out = {0};
        struct ts_chunk_info info;
        size_t taken, n = 60 + kv_prng_below(&prng, round % 2 ? 100 : 2000), got;
        int64_t m = (int64_t)kv_prng_below(&prng, 1 << 30) - (1 << 29);
        fill_times(&prng, 0, n);
        for (size_t i = 0; i < n; i++, m += (int64_t)kv_prng_below(&prng, 2000) - (round % 3 ? 0 : 1000)) {
            double ways[] = {(double)m * 0.001, (double)m / 1000 / 1000, (double)m * 1e-6, (double)m * 1e-9,
                             (double)m / 1000};
            values[i] = i % 50 == 49 ? bits_double(TS_STALE_NAN) : ways[round % 5];
        }
        cr_assert_eq(ts_chunk_encode(times, values, n, effort_of(round / 5), &out, &taken), KV_OK);
        cr_assert_eq(taken, n);
        cr_assert_eq(ts_chunk_info(kv_buf_slice(&out), &info), KV_OK);
        cr_assert(info.value_codec == TS_VALUE_INT || info.value_codec == TS_VALUE_HUFFMAN, "round %u: %s",
                  round, ts_value_codec_name(info.value_codec));
        cr_assert_lt((double)out.len, 1.9 * (double)n + 60, "round %u: %zu bytes", round, out.len);
        cr_assert_eq(
            ts_chunk_decode(kv_buf_slice(&out), times[n / 3], INT64_MAX, got_times, got_values, &got), KV_OK);
        cr_assert_eq(got, n - n / 3);
        assert_same(n / 3, got);
        kv_buf_release(&out);
    }
}

Test(chunk, the_golden_one_of_bits_is_still_written_and_read)
{
    double v = 0.5;
    for (int64_t i = 0; i < 700; i++) {
        times[i] = 1795224000000 + i * 15000;
        v = v * 0.875 + (double)(i * i % 127) / 1024 + 1.0 / 3;
        values[i] = i == 600 ? bits_double(TS_STALE_NAN) : i == 10 ? -v : v;
    }
    assert_golden("tests/golden/chunk-bits.bin", 700, TS_CHUNK_SMALL, TS_TIME_STEP, TS_VALUE_BITS);
}

Test(chunk, the_golden_ones_of_the_plain_codecs_are_still_written_and_read)
{
    for (int64_t i = 0; i < 300; i++) {
        times[i] = 1795224000000 + i * 15000;
        values[i] = 0.1;
    }
    assert_golden("tests/golden/chunk-const.bin", 300, TS_CHUNK_QUICK, TS_TIME_STEP, TS_VALUE_CONST);
    for (int64_t i = 0; i < 300; i++)
        values[i] = i == 200 ? bits_double(TS_STALE_NAN)
                             : bits_double(((uint64_t)i + 1) * UINT64_C(0x9e3779b97f4a7c15));
    assert_golden("tests/golden/chunk-raw.bin", 300, TS_CHUNK_QUICK, TS_TIME_STEP, TS_VALUE_RAW);
    for (int64_t i = 0; i < 300; i++) {
        times[i] = 1795224000000 + i * 15000 + i * 7 % 11;
        values[i] = i == 200 ? bits_double(TS_STALE_NAN) : 1 + (double)(i * i % 97) / 3e6;
    }
    assert_golden("tests/golden/chunk-xor.bin", 300, TS_CHUNK_QUICK, TS_TIME_DELTA, TS_VALUE_XOR);
}

Test(chunk, the_golden_ones_with_a_summary_are_still_written_and_read)
{
    for (int64_t i = 0; i < 600; i++) {
        times[i] = 1795224000000 + i * 15000;
        values[i] = (double)(1000 + i * i % 97);
    }
    assert_golden("tests/golden/chunk-summary.bin", 600, TS_CHUNK_SMALL, TS_TIME_STEP, TS_VALUE_HUFFMAN);
    for (int64_t i = 0; i < 600; i++)
        values[i] = (double)i / 3;
    assert_golden("tests/golden/chunk-summary-bits.bin", 600, TS_CHUNK_SMALL, TS_TIME_STEP, TS_VALUE_BITS);
}

/* Whatever a summary's bytes are, it is refused or does not contradict itself. */
Test(chunk, a_summary_that_is_damaged_is_refused_or_fits_together)
{
    struct kv_prng prng;
    size_t refused = 0, rounds = 20000;
    kv_prng_init(&prng, 11);
    for (size_t round = 0; round < rounds; round++) {
        struct kv_buf out = {0};
        struct ts_chunk_summary made, got;
        double v[8];
        for (size_t i = 0; i < 8; i++)
            v[i] = round % 3 ? (double)kv_prng_below(&prng, 1000) : (double)kv_prng_next(&prng) / 3e9;
        cr_assert(ts_summary_make(v, 8, &made));
        cr_assert_eq(ts_summary_put(&made, 8, &out), KV_OK);
        out.data[kv_prng_below(&prng, out.len)] ^= (uint8_t)(1u << kv_prng_below(&prng, 8));
        kv_slice in =
            kv_slice_of(out.data, kv_prng_below(&prng, 4) ? out.len : kv_prng_below(&prng, out.len));
        kv_status rc = ts_summary_take(&in, 8, &got);
        cr_assert(rc == KV_OK || rc == KV_CORRUPT || rc == KV_TOO_NEW);
        refused += rc != KV_OK;
        if (rc == KV_OK) {
            cr_assert(got.min <= got.first && got.first <= got.max && got.min <= got.last &&
                      got.last <= got.max);
            cr_assert(!got.rises || (got.first == got.min && got.last == got.max));
            cr_assert(!got.whole || ((double)got.sum >= 8 * got.min && (double)got.sum <= 8 * got.max));
        }
        kv_buf_release(&out);
    }
    cr_assert(refused > rounds / 4 && refused < rounds, "%zu", refused);
}

Test(chunk, packing_keeps_every_number_and_its_own_length)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 5);
    for (unsigned round = 0; round < 3000; round++) {
        uint64_t numbers[TS_CHUNK_BLOCK], back[TS_CHUNK_BLOCK];
        size_t n = kv_prng_below(&prng, TS_CHUNK_BLOCK + 1);
        unsigned shift = (unsigned)kv_prng_below(&prng, 64);
        for (size_t i = 0; i < n; i++)
            numbers[i] = kv_prng_next(&prng) >> (kv_prng_below(&prng, 30) ? shift : 0);
        struct kv_buf out = {0};
        cr_assert_eq(ts_pack(numbers, n, &out), KV_OK);
        cr_assert_eq(out.len, ts_pack_len(numbers, n));
        kv_slice in = kv_buf_slice(&out);
        cr_assert_eq(ts_unpack(&in, back, n), KV_OK);
        cr_assert_eq(in.len, 0);
        cr_assert(n == 0 || memcmp(numbers, back, n * sizeof numbers[0]) == 0);
        kv_buf_release(&out);
    }
}

/* ---- huffman */

static uint64_t number_like(struct kv_prng *prng, unsigned kind)
{
    switch (kind % 6) {
    case 0:
        return 7;
    case 1:
        return kv_prng_below(prng, 16);
    case 2:
        return (uint64_t)__builtin_ctzll(kv_prng_next(prng) |
                                         1ull << 40); /* each half as often as the one before */
    case 3:
        return kv_prng_next(prng) >> kv_prng_below(prng, 64);
    case 4:
        return (uint64_t)1 << 40;
    default:
        return kv_prng_below(prng, 300) ? kv_prng_below(prng, 3) : kv_prng_next(prng);
    }
}

Test(huffman, every_number_comes_back_and_as_many_bytes_as_were_said)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 6);
    for (unsigned round = 0; round < 3000; round++) {
        uint64_t numbers[TS_HUFFMAN_NUMBERS_MAX], back[TS_HUFFMAN_NUMBERS_MAX];
        size_t n = 1 + kv_prng_below(&prng, round % 3 ? 40 : TS_HUFFMAN_NUMBERS_MAX);
        struct ts_huffman_counts counts = {.low_bits = 0};
        struct ts_huffman_code code;
        struct ts_huffman_table table;
        struct kv_buf out = {0};
        for (size_t i = 0; i < n; i++)
            numbers[i] = number_like(&prng, round);
        ts_huffman_count(&counts, numbers, n);
        size_t said = ts_huffman_make(&counts, &code);
        cr_assert_eq(ts_huffman_put_code(&code, &out), KV_OK);
        cr_assert_eq(ts_huffman_put(&code, numbers, n, &out), KV_OK);
        cr_assert_eq(out.len, said);
        kv_slice in = kv_buf_slice(&out);
        cr_assert_eq(ts_huffman_take_code(&in, round % 5, &table), KV_OK);
        cr_assert_eq(ts_huffman_take(&in, 1, &table, (uint64_t *[]){back}, n), KV_OK);
        cr_assert_eq(in.len, 0);
        cr_assert(memcmp(numbers, back, n * sizeof numbers[0]) == 0, "round %u", round);
        kv_buf_release(&out);
    }
}

Test(huffman, a_code_is_within_a_tenth_of_the_entropy_where_no_symbol_rules)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 7);
    for (unsigned spread = 3; spread < 4000; spread += spread / 3) {
        uint64_t numbers[TS_HUFFMAN_NUMBERS_MAX];
        struct ts_huffman_counts counts = {.low_bits = 0};
        struct ts_huffman_code code;
        size_t n = 8192;
        for (size_t done = 0; done < n; done += TS_HUFFMAN_NUMBERS_MAX) {
            for (size_t i = 0; i < TS_HUFFMAN_NUMBERS_MAX; i++) /* a triangle */
                numbers[i] = kv_prng_below(&prng, spread) + kv_prng_below(&prng, spread);
            ts_huffman_count(&counts, numbers, TS_HUFFMAN_NUMBERS_MAX);
        }
        double entropy = 0;
        for (unsigned v = 0; v < 2 * spread - 1; v++) {
            double p = (v < spread ? v + 1 : 2 * spread - 1 - v) / ((double)spread * spread);
            entropy -= p * log2(p);
        }
        double bits = 8 * (double)ts_huffman_make(&counts, &code) / (double)n;
        cr_assert(bits < 1.1 * entropy, "spread %u: %.3f bits, entropy %.3f", spread, bits, entropy);
    }
}

Test(huffman, a_code_that_is_none_is_refused)
{
    static const struct {
        const char *what;
        uint8_t bytes[8];
        size_t len;
        kv_status rc;
    } rows[] = {{"two symbols of one bit", {0, 2, 0x11}, 3, KV_OK},
                {"a lone symbol", {5, 1}, 2, KV_OK},
                {"nothing", {0}, 0, KV_CORRUPT},
                {"no count", {0}, 1, KV_CORRUPT},
                {"no symbol", {0, 0}, 2, KV_CORRUPT},
                {"past the last symbol", {135, 2, 0x11}, 3, KV_CORRUPT},
                {"cut short", {0, 3, 0x21}, 3, KV_CORRUPT},
                {"codes left over", {0, 2, 0x21}, 3, KV_CORRUPT},
                {"too many codes", {0, 3, 0x11, 0x01}, 4, KV_CORRUPT},
                {"ten bits", {0, 2, 0xA1}, 3, KV_CORRUPT},
                {"the first symbol does not occur", {0, 3, 0x10, 0x01}, 4, KV_CORRUPT},
                {"the last symbol does not occur", {0, 3, 0x11, 0x00}, 4, KV_CORRUPT},
                {"bits behind the last length", {0, 3, 0x21, 0x12}, 4, KV_CORRUPT}};
    struct ts_huffman_table table;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        kv_slice in = kv_slice_of(rows[i].bytes, rows[i].len);
        cr_assert_eq(ts_huffman_take_code(&in, true, &table), rows[i].rc, "%s", rows[i].what);
        cr_assert(rows[i].rc < 0 || in.len == 0, "%s", rows[i].what);
    }
}

/* ---- kernels: every one gives what plain C gives */

Test(kernel, unpacking_is_the_same_at_every_width_and_length)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 8);
    size_t kinds;
    const struct ts_kernels *const *all = ts_kernels_all(&kinds);
    for (unsigned width = 1; width <= TS_KERNEL_WIDTH_MAX; width++)
        for (size_t n = 0; n <= 150; n++) {
            size_t len = (n * width + 7) / 8;
            uint8_t *bits = kv_alloc(len); /* of exactly this length, for the address sanitizer */
            uint32_t want[150 + TS_KERNEL_SLACK], got[150 + TS_KERNEL_SLACK];
            for (size_t i = 0; i < len; i++)
                bits[i] = (uint8_t)kv_prng_next(&prng);
            all[0]->unpack(kv_slice_of(bits, len), width, want, n);
            for (size_t k = 1; k < kinds; k++) {
                all[k]->unpack(kv_slice_of(bits, len), width, got, n);
                cr_assert(memcmp(want, got, n * sizeof want[0]) == 0, "%s, width %u, %zu numbers",
                          all[k]->name, width, n);
            }
            kv_free(bits);
        }
}

/* Times that are late, and whether they rise, also where one does not. */
static void assert_times_by(const struct ts_kernels *plain, const struct ts_kernels *k,
                            const uint32_t *numbers, size_t n, int64_t first_ms, int64_t step_ms)
{
    uint32_t want[512 + TS_KERNEL_SLACK], got[512 + TS_KERNEL_SLACK];
    static int64_t want_times[512];
    memcpy(want, numbers, n * sizeof want[0]);
    memcpy(got, numbers, n * sizeof got[0]);
    plain->unfold(want, n);
    k->unfold(got, n);
    cr_assert(memcmp(want, got, n * sizeof want[0]) == 0, "%s", k->name);
    plain->late_steps(first_ms, step_ms, want, want_times, n);
    k->late_steps(first_ms, step_ms, want, got_times, n);
    cr_assert(memcmp(want_times, got_times, n * sizeof want_times[0]) == 0, "%s", k->name);
    cr_assert_eq(k->rising(want_times, n), plain->rising(want_times, n), "%s", k->name);
    k->steps(first_ms, step_ms + 1, got_times, n);
    cr_assert(k->rising(got_times, n) && plain->rising(got_times, n), "%s", k->name);
    for (size_t i = 1; i < n; i++) {
        int64_t kept = got_times[i];
        got_times[i] = got_times[i - 1];
        cr_assert(!k->rising(got_times, n) && !plain->rising(got_times, n), "%s, %zu of %zu", k->name, i, n);
        got_times[i] = kept;
    }
}

Test(kernel, sums_values_and_times_are_the_same_to_the_bit)
{
    static const double powers[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12};
    struct kv_prng prng;
    kv_prng_init(&prng, 9);
    size_t kinds;
    const struct ts_kernels *const *all = ts_kernels_all(&kinds);
    for (unsigned round = 0; round < 2000; round++) {
        enum { MOST = 512 };
        uint8_t bytes[MOST + TS_KERNEL_SLACK];
        uint32_t want[MOST + TS_KERNEL_SLACK], got[MOST + TS_KERNEL_SLACK];
        size_t n = kv_prng_below(&prng, MOST + 1);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)kv_prng_next(&prng);
        int32_t base = (int32_t)kv_prng_next(&prng) >> kv_prng_below(&prng, 32);
        const struct ts_step_of of = {round % 2, (uint32_t)kv_prng_next(&prng) >> kv_prng_below(&prng, 32),
                                      base};
        uint64_t factor = round % 3 ? 1 : 1 + kv_prng_below(&prng, 1 << 20),
                 offset = kv_prng_below(&prng, factor);
        int64_t far = ((int64_t)1 << 53) / (int64_t)factor - INT32_MAX - 2,
                start = (int64_t)kv_prng_below(&prng, (uint64_t)(round % 2 ? far : 1000) + 1);
        int64_t first_ms = (int64_t)(kv_prng_next(&prng) >> 20),
                step_ms = (int64_t)kv_prng_below(&prng, 100000);
        all[0]->widen(bytes, want, n);
        all[0]->sum(want, n, &of);
        const struct ts_scale scale = {(double)(round % 5 ? start : -start), (double)factor, (double)offset,
                                       powers[kv_prng_below(&prng, 13)]};
        all[0]->values(want, n, &scale, values);
        all[0]->steps(first_ms, step_ms, times, n);
        for (size_t k = 0; k < kinds; k++) {
            all[k]->widen(bytes, got, n);
            all[k]->sum(got, n, &of);
            cr_assert(memcmp(want, got, n * sizeof want[0]) == 0, "%s, round %u", all[k]->name, round);
            all[k]->values(got, n, &scale, got_values);
            all[k]->steps(first_ms, step_ms, got_times, n);
            assert_same(0, n);
            all[k]->widen(bytes, got, n);
            memset(got_values, 0xAA, n * sizeof got_values[0]);
            all[k]->sum_values(got, n, &of, &scale, got_values);
            assert_same(0, n);
            assert_times_by(all[0], all[k], got, n, first_ms, step_ms);
        }
    }
}
