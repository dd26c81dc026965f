/* Chunks of what there is: every special double, random bits, the load generator's profiles, a snapshot of a Prometheus, scrapes of a
 * node_exporter. Each is written with either effort and read by every kernel of this processor: the same bits. */
#include "bench/loadgen_values.h"
#include "kvcore/base/mem.h"
#include "tsdb/chunk/chunk.h"
#include "tsdb/chunk/kernel.h"
#include "tsdb/sample.h"
#include "tsdb/ts.h"

#include <criterion/criterion.h>
#include <glob.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = TS_CHUNK_SAMPLES_MAX };
static int64_t times[N], got_times[N];
static double values[N], got_values[N];

/* ---- the round trip */

/* What a chunk gives must be taken samples from begin on, whoever reads it. */
static void assert_read(kv_slice chunk, size_t begin, size_t taken, const char *what)
{
    size_t kinds, n;
    const struct ts_kernels *const *all = ts_kernels_all(&kinds);
    for (size_t k = 0; k < kinds; k++) {
        memset(got_values, 0x5a, taken * sizeof *got_values);
        ts_kernels_use(all[k]);
        kv_status rc = ts_chunk_decode(chunk, INT64_MIN, INT64_MAX, got_times, got_values, &n);
        ts_kernels_use(NULL);
        cr_assert_eq(rc, KV_OK, "%s: %s", what, all[k]->name);
        cr_assert_eq(n, taken, "%s", what);
        cr_assert(memcmp(got_times, times + begin, n * sizeof *times) == 0, "%s: times by %s", what,
                  all[k]->name);
        for (size_t i = 0; i < n; i++)
            cr_assert_eq(ts_double_bits(got_values[i]), ts_double_bits(values[begin + i]),
                         "%s: value %zu of %zu by %s is %016" PRIx64 " instead of %016" PRIx64, what, i, n,
                         all[k]->name, ts_double_bits(got_values[i]), ts_double_bits(values[begin + i]));
    }
}

/* What the header says of the values is what is to be said of them. */
static void assert_summary(kv_slice chunk, enum ts_chunk_effort effort, size_t begin, size_t taken,
                           const char *what)
{
    const double *v = values + begin;
    struct ts_chunk_info info;
    struct ts_chunk_summary got;
    size_t low = 0, high = 0;
    bool nan = false, rises = true, whole = true;
    int64_t sum = 0;
    for (size_t i = 0; i < taken; i++) {
        nan |= isnan(v[i]);
        low = v[i] < v[low] ? i : low;
        high = v[i] > v[high] ? i : high;
        rises &= i == 0 || !(v[i] < v[i - 1]);
        whole &= fabs(v[i]) < 0x1p40 && floor(v[i]) == v[i];
        sum += fabs(v[i]) < 0x1p40 ? (int64_t)v[i] : 0;
    }
    kv_status rc = ts_chunk_summary(chunk, &info, &got);
    cr_assert_eq(info.count, taken, "%s", what);
    bool wanted = !nan && (info.value_codec == TS_VALUE_CONST || (effort == TS_CHUNK_SMALL && taken >= 512));
    cr_assert_eq(rc, wanted ? KV_OK : KV_END, "%s: %s", what, kv_status_text(rc));
    if (!wanted)
        return;
    cr_assert_eq(ts_double_bits(got.first), ts_double_bits(v[0]), "%s: first", what);
    cr_assert_eq(ts_double_bits(got.last), ts_double_bits(v[taken - 1]), "%s: last", what);
    cr_assert_eq(ts_double_bits(got.min), ts_double_bits(v[low]), "%s: min", what);
    cr_assert_eq(ts_double_bits(got.max), ts_double_bits(v[high]), "%s: max", what);
    cr_assert_eq(got.rises, rises, "%s: rises", what);
    cr_assert(!got.whole || (whole && got.sum == sum), "%s: sum %" PRId64 " of %" PRId64, what, got.sum, sum);
    cr_assert(got.whole || !whole || signbit(v[0]) || signbit(v[taken - 1]) || signbit(v[low]) ||
                  signbit(v[high]),
              "%s: whole", what);
}

/* All n samples, as many chunks as it takes; bytes by quick and by small. */
static void round_trip(size_t n, const char *what, uint64_t bytes[2])
{
    for (int effort = 0; effort < 2; effort++)
        for (size_t begin = 0, taken; begin < n; begin += taken) {
            struct kv_buf out = {0};
            cr_assert_eq(ts_chunk_encode(times + begin, values + begin, n - begin,
                                         effort ? TS_CHUNK_SMALL : TS_CHUNK_QUICK, &out, &taken),
                         KV_OK, "%s", what);
            cr_assert(taken >= 1 && taken <= n - begin, "%s", what);
            assert_read(kv_buf_slice(&out), begin, taken, what);
            assert_summary(kv_buf_slice(&out), effort ? TS_CHUNK_SMALL : TS_CHUNK_QUICK, begin, taken, what);
            bytes[effort] += out.len;
            kv_buf_release(&out);
        }
}

static void regular_times(size_t n)
{
    for (size_t i = 0; i < n; i++)
        times[i] = INT64_C(1795224000000) + (int64_t)i * 15000;
}

/* ---- doubles */

/* Every corner of a double: zeros, subnormals, the edges of exponents, what integers and decimals end at, infinities, NaNs of each kind. */
static const uint64_t specials[] = {
    0x0000000000000000, 0x8000000000000000, 0x0000000000000001, 0x8000000000000001, 0x000fffffffffffff,
    0x800fffffffffffff, 0x0010000000000000, 0x8010000000000000, 0x7fefffffffffffff, 0xffefffffffffffff,
    0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0xfff8000000000000, 0x7ff0000000000001,
    0xfff0000000000001, 0x7ff0000000000002, 0x7ff8000000000001, 0x7fffffffffffffff, 0xffffffffffffffff,
    0x3ff0000000000000, 0xbff0000000000000, 0x3fefffffffffffff, 0x3ff0000000000001, 0x4340000000000000,
    0xc340000000000000, 0x433fffffffffffff, 0x4340000000000001, 0x43e0000000000000, 0xc3e0000000000000,
    0x43dfffffffffffff, 0x43f0000000000000, 0x41dfffffffc00000, 0x41efffffffe00000, 0x3fb999999999999a,
    0x3fb9999999999999, 0x3fd5555555555555, 0x3eb0c6f7a0b5ed8d, 0x426d1a94a2000000, 0x444b1ae4d6e2ef50};
enum { SPECIALS = sizeof specials / sizeof *specials };

Test(chunk_data, every_pair_of_special_doubles_comes_back)
{
    uint64_t bytes[2] = {0};
    regular_times(N);
    for (size_t a = 0; a < SPECIALS; a++)
        for (size_t b = 0; b < SPECIALS; b++) {
            char what[64];
            size_t n = 1 + (a * SPECIALS + b) % 300;
            snprintf(what, sizeof what, "%016" PRIx64 " and %016" PRIx64, specials[a], specials[b]);
            for (size_t i = 0; i < n; i++)
                values[i] = ts_double_of(specials[i % 7 == 3 ? b : a]);
            round_trip(n, what, bytes);
        }
}

/* Numbers that decimals and integers would take, with a special one here and there: exceptions. */
Test(chunk_data, special_doubles_among_plain_numbers_come_back)
{
    struct kv_prng prng;
    uint64_t bytes[2] = {0};
    kv_prng_init(&prng, 21);
    for (unsigned round = 0; round < 400; round++) {
        char what[32];
        size_t n = 1 + kv_prng_below(&prng, 1500), rare = 2 + kv_prng_below(&prng, 100);
        double scale = round % 3 ? 100 : 1, last = 500;
        snprintf(what, sizeof what, "round %u", round);
        regular_times(n);
        for (size_t i = 0; i < n; i++) {
            last += (double)kv_prng_below(&prng, 9) - 4;
            values[i] = kv_prng_below(&prng, rare) ? last / scale
                                                   : ts_double_of(specials[kv_prng_below(&prng, SPECIALS)]);
        }
        round_trip(n, what, bytes);
    }
}

Test(chunk_data, random_bits_come_back)
{
    struct kv_prng prng;
    uint64_t bytes[2] = {0};
    kv_prng_init(&prng, 22);
    for (unsigned round = 0; round < 300; round++) {
        char what[32];
        size_t n = 1 + kv_prng_below(&prng, round % 10 ? 700 : N);
        unsigned same = (unsigned)kv_prng_below(&prng, 64); /* high bits that all have */
        uint64_t high = kv_prng_next(&prng);
        int64_t at = (int64_t)kv_prng_next(&prng) >> 17;
        snprintf(what, sizeof what, "round %u", round);
        for (size_t i = 0; i < n; i++) {
            times[i] = at +=
                1 + (int64_t)(kv_prng_next(&prng) >> (round % 3 ? 60 : 25 + kv_prng_below(&prng, 38)));
            values[i] = ts_double_of(same ? (high & ~(UINT64_MAX >> same)) | kv_prng_next(&prng) >> same
                                          : kv_prng_next(&prng));
        }
        round_trip(n, what, bytes);
    }
}

/* ---- the load generator */

Test(chunk_data, the_generators_profiles_come_back)
{
    for (size_t p = 0; p < sizeof profiles / sizeof *profiles; p++)
        for (size_t f = 0; f < profiles[p].n; f++)
            for (uint64_t host = 0; host < 3; host++) {
                enum kind kind = profiles[p].fields[f].kind;
                struct kv_prng prng;
                uint64_t bytes[2] = {0};
                kv_prng_init(&prng, host * 100 + f);
                regular_times(N);
                values[0] = start_value(kind, &prng);
                for (size_t i = 1; i < N; i++)
                    values[i] = next_value(kind, values[i - 1], &prng);
                round_trip(N, profiles[p].fields[f].field, bytes);
                cr_assert_leq(bytes[1], bytes[0] + N / 100, "%s: %" PRIu64 " bytes small, %" PRIu64 " quick",
                              profiles[p].fields[f].field, bytes[1], bytes[0]);
            }
}

/* ---- a Prometheus snapshot: the first sample of each of its chunks */

static uint64_t take_varint(const uint8_t **p)
{
    uint64_t v = 0;
    for (unsigned shift = 0;; shift += 7, ++*p) {
        v |= (uint64_t)(**p & 0x7f) << shift;
        if (**p < 0x80) {
            ++*p;
            return v;
        }
    }
}

/* A segment of chunks: 8 bytes of header; each chunk is a length, an encoding (1: XOR), that many bytes and a checksum of 4; these
 * bytes begin with the number of samples (2), the first time (zigzag varint) and the first value (8, high byte first). */
static size_t take_segment(const uint8_t *bytes, size_t len)
{
    size_t n = 0;
    const uint8_t *p = bytes + 8;
    while (p + 16 < bytes + len && n < N) {
        uint64_t chunk_len = take_varint(&p), folded, bits = 0;
        const uint8_t *at = p + 3, *encoding = p;
        p += 1 + chunk_len + 4;
        if (*encoding != 1)
            continue;
        folded = take_varint(&at);
        for (int i = 0; i < 8; i++)
            bits = bits << 8 | at[i];
        int64_t time_ms = (int64_t)(folded >> 1) ^ -(int64_t)(folded & 1);
        times[n] = n > 0 && time_ms <= times[n - 1] ? times[n - 1] + 1 : time_ms; /* as if of one series */
        values[n++] = ts_double_of(bits);
    }
    return n;
}

Test(chunk_data, values_of_a_prometheus_come_back)
{
    static const char pattern[] = "../shared/conformance/prometheus-snapshot/snapshots/*/*/chunks/*";
    glob_t files;
    if (glob(pattern, 0, NULL, &files) != 0) {
        fprintf(stderr, "SKIPPED: %s is not there\n", pattern);
        return;
    }
    size_t all = 0;
    for (size_t f = 0; f < files.gl_pathc; f++) {
        static uint8_t bytes[4 << 20];
        uint64_t written[2] = {0};
        FILE *in = fopen(files.gl_pathv[f], "rb");
        cr_assert_not_null(in);
        size_t len = fread(bytes, 1, sizeof bytes - 16, in), n;
        fclose(in);
        cr_assert(len > 8 && memcmp(bytes, "\x85\xbd\x40\xdd\x01", 5) == 0, "%s", files.gl_pathv[f]);
        n = take_segment(bytes, len);
        round_trip(n, files.gl_pathv[f], written);
        for (size_t i = 0; i < n; i++) { /* and each as the series of one sample that it is */
            times[0] = times[i];
            values[0] = values[i];
            round_trip(1, files.gl_pathv[f], written);
        }
        all += n;
    }
    globfree(&files);
    cr_assert_gt(all, 1000);
}

/* ---- scrapes, as tests/e2e/test_chunk_scrapes.sh takes them: lines of "time_ms series value", ordered by series, then time */

Test(chunk_data, scrapes_of_a_node_exporter_come_back)
{
    static char line[4096], series[4096], last[4096];
    const char *path = getenv("CHUNK_SCRAPES");
    if (!path) {
        fprintf(stderr, "SKIPPED: no scrapes here; tests/e2e/test_chunk_scrapes.sh takes some\n");
        return;
    }
    FILE *in = fopen(path, "r");
    uint64_t bytes[2] = {0}, n_series = 0, samples = 0;
    size_t n = 0;
    cr_assert_not_null(in);
    while (fgets(line, sizeof line, in)) {
        char value[400];
        int64_t time_ms;
        cr_assert_eq(sscanf(line, "%" SCNd64 " %4095s %399s", &time_ms, series, value), 3, "%s", line);
        if (strcmp(series, last) != 0 || n == N) {
            n_series += n > 0;
            round_trip(n, last, bytes);
            n = 0;
            memcpy(last, series, sizeof last);
        }
        times[n] = time_ms;
        values[n++] = strtod(value, NULL);
        samples++;
    }
    round_trip(n, last, bytes);
    fclose(in);
    cr_assert_gt(n_series, 200);
    printf("%" PRIu64 " samples of %" PRIu64 " series: %.3f bytes a sample quick, %.3f small\n", samples,
           n_series + 1, (double)bytes[0] / (double)samples, (double)bytes[1] / (double)samples);
}
