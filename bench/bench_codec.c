/*
 * bench_codec.c - chunks of one kind of series after another: bytes a sample, CPU time of writing and of reading, for both efforts, and of
 * reading the last five samples of a chunk. Seeded: the same samples every time. Prints the rows of a Markdown table.
 *
 *   bench_codec [CHUNKS]
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/prng.h"
#include "tsdb/chunk/chunk.h"
#include "tsdb/chunk/kernel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SAMPLES = 2160, READS = 10, ROUNDS = 4 }; /* six hours at ten seconds */

static int64_t times[SAMPLES], back_times[TS_CHUNK_SAMPLES_MAX];
static double values[SAMPLES], back[TS_CHUNK_SAMPLES_MAX];

static double cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double gauss(struct kv_prng *prng) /* Box and Muller 1958 */
{
    double u = 1 - kv_prng_unit(prng), v = kv_prng_unit(prng);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

struct shape {
    const char *name;
    bool jitter;
    bool memo; /* read as the series of a scrape are: its times were decoded with the one before */
    double (*next)(struct kv_prng *prng, double last);
};

static double next_constant(struct kv_prng *prng, double last)
{
    (void)prng;
    return last;
}

static double next_walk(struct kv_prng *prng, double last)
{
    double v = last + nearbyint(gauss(prng));
    return v < 0 ? 0 : v > 100 ? 100 : v;
}

static double next_counter(struct kv_prng *prng, double last)
{
    return last + floor(1000 + 30 * gauss(prng));
}

static double next_slow_counter(struct kv_prng *prng, double last)
{
    return last + (double)(kv_prng_below(prng, 8) == 0);
}

static double next_temperature(struct kv_prng *prng, double last)
{
    return nearbyint(100 * last + 20 * gauss(prng)) / 100;
}

static double next_noise(struct kv_prng *prng, double last)
{
    (void)last;
    return nearbyint(1000 * (40 + 3 * gauss(prng))) / 1000;
}

static double next_memory(struct kv_prng *prng, double last)
{
    return last + 4096 * nearbyint(200 * gauss(prng));
}

static double next_latency(struct kv_prng *prng, double last)
{
    (void)last;
    return 0.05 * exp(0.4 * gauss(prng));
}

static const struct shape shapes[] = {{"constant", false, false, next_constant},
                                      {"walk in 0 to 100", false, false, next_walk},
                                      {"walk, times with jitter", true, false, next_walk},
                                      {"the same, next of a scrape", true, true, next_walk},
                                      {"counter, 1000 +- 30", false, false, next_counter},
                                      {"counter, rarely +1", false, false, next_slow_counter},
                                      {"temperature, 2 decimals", false, false, next_temperature},
                                      {"noise, 3 decimals", false, false, next_noise},
                                      {"bytes in pages", false, false, next_memory},
                                      {"latency, all bits", false, false, next_latency}};

struct cost {
    double bytes, write_ns, read_ns, last_ns;
};

/* One read of a chunk from from_ms on, by the best of some rounds: the machine has other work too. */
static double read_ns(kv_slice chunk, int64_t from_ms, struct ts_chunk_memo *memo, size_t *n)
{
    double best = 1e18;
    for (int round = 0; round <= ROUNDS; round++) { /* the first one warms up */
        double start = cpu_ns();
        for (int i = 0; i < READS; i++)
            KV_ASSERT(ts_chunk_decode_next(chunk, from_ms, INT64_MAX, memo, back_times, back, n) == KV_OK);
        double ns = (cpu_ns() - start) / READS;
        best = round && ns < best ? ns : best;
    }
    return best;
}

static void measure(struct kv_prng *prng, const struct shape *shape, enum ts_chunk_effort effort,
                    struct cost *cost, struct ts_chunk_info *info)
{
    struct kv_buf out = {0};
    struct ts_chunk_memo memo = {.bytes = 0}, *with = shape->memo ? &memo : NULL;
    size_t taken, n;
    double last = 50;
    for (int i = 0; i < SAMPLES; i++) {
        times[i] = 1795224000000 + i * 10000 + (shape->jitter ? (int64_t)nearbyint(3 * gauss(prng)) : 0);
        values[i] = last = shape->next(prng, last);
    }
    double start = cpu_ns();
    KV_ASSERT(ts_chunk_encode(times, values, SAMPLES, effort, &out, &taken) == KV_OK);
    cost->write_ns += (cpu_ns() - start) / (double)taken;
    cost->bytes += (double)out.len / (double)taken;
    KV_ASSERT(ts_chunk_info(kv_buf_slice(&out), info) == KV_OK);
    cost->read_ns += read_ns(kv_buf_slice(&out), INT64_MIN, with, &n) / (double)taken;
    KV_ASSERT(n == taken && memcmp(back, values, n * sizeof back[0]) == 0 &&
              memcmp(back_times, times, n * sizeof times[0]) == 0);
    cost->last_ns += read_ns(kv_buf_slice(&out), times[taken - 5], with, &n);
    KV_ASSERT(n == 5);
    ts_chunk_memo_release(&memo);
    kv_buf_release(&out);
}

int main(int argc, char **argv)
{
    int chunks = argc > 1 ? atoi(argv[1]) : 500;
    if (chunks < 1)
        return 2;
    printf("kernels: %s; %d chunks of %d samples a row\n\n", ts_kernels()->name, chunks, SAMPLES);
    printf("| series | effort | times, values | B/sample | write ns/sample | read ns/sample | read M/s | "
           "last 5, ns |\n");
    printf("|---|---|---|---|---|---|---|---|\n");
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int effort = TS_CHUNK_QUICK; effort <= TS_CHUNK_SMALL; effort++) {
            struct cost cost = {0};
            struct ts_chunk_info info = {0};
            struct kv_prng prng;
            kv_prng_init(&prng, 1);
            for (int i = 0; i < chunks; i++)
                measure(&prng, &shapes[s], (enum ts_chunk_effort)effort, &cost, &info);
            printf("| %s | %s | %s, %s | %.3f | %.1f | %.2f | %.0f | %.0f |\n", shapes[s].name,
                   effort ? "small" : "quick", ts_time_codec_name(info.time_codec),
                   ts_value_codec_name(info.value_codec), cost.bytes / chunks, cost.write_ns / chunks,
                   cost.read_ns / chunks, 1e3 * chunks / cost.read_ns, cost.last_ns / chunks);
        }
    return 0;
}
