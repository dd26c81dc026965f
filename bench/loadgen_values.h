/*
 * loadgen_values.h - what the generator's series are like: its profiles, a series' first value and each next one. Tests of codecs take
 * them, too.
 *
 * Threads    pure but for the generator that is passed.
 */
#ifndef LOADGEN_VALUES_H
#define LOADGEN_VALUES_H

#include "kvcore/base/prng.h"

#include <math.h>
#include <stddef.h>

enum { FIELDS_MAX = 16 };
enum kind {
    WALK,
    REQUESTS,
    ERRORS,
    SECONDS,
    RX,
    TX,
    TEMPERATURE,
    LOAD,
    RATIO,
    MEMORY,
    DISK,
    LATENCY,
    CONSTANT,
    UP
};

struct profile {
    const char *name, *measurement;
    size_t n;
    struct {
        const char *field;
        enum kind kind;
    } fields[FIELDS_MAX];
};

static const struct profile profiles[] = {
    {"cpu",
     "cpu",
     10,
     {{"usage_user", WALK},
      {"usage_system", WALK},
      {"usage_idle", WALK},
      {"usage_nice", WALK},
      {"usage_iowait", WALK},
      {"usage_irq", WALK},
      {"usage_softirq", WALK},
      {"usage_steal", WALK},
      {"usage_guest", WALK},
      {"usage_guest_nice", WALK}}},
    {"mixed",
     "node",
     16,
     {{"requests_total", REQUESTS},
      {"errors_total", ERRORS},
      {"cpu_seconds_total", SECONDS},
      {"rx_bytes_total", RX},
      {"tx_bytes_total", TX},
      {"temperature_celsius", TEMPERATURE},
      {"load1", LOAD},
      {"load5", LOAD},
      {"cache_ratio", RATIO},
      {"memory_bytes", MEMORY},
      {"disk_free_bytes", DISK},
      {"latency_p50", LATENCY},
      {"latency_p99", LATENCY},
      {"limit", CONSTANT},
      {"version", CONSTANT},
      {"up", UP}}},
};

static inline double gauss(struct kv_prng *prng) /* Box and Muller 1958 */
{
    double u = 1 - kv_prng_unit(prng), v = kv_prng_unit(prng);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static inline double clamp(double v, double low, double high)
{
    return v < low ? low : v > high ? high : v;
}

static inline double start_value(enum kind kind, struct kv_prng *prng)
{
    switch (kind) {
    case WALK:
        return floor(kv_prng_unit(prng) * 101);
    case TEMPERATURE:
        return 40 + floor(kv_prng_unit(prng) * 2000) / 100;
    case RATIO:
        return floor(kv_prng_unit(prng) * 1000) / 1000;
    case MEMORY:
        return 4096 * floor(kv_prng_unit(prng) * 4e6);
    case DISK:
        return floor(kv_prng_unit(prng) * 5e11);
    case LATENCY:
        return 0.001 + kv_prng_unit(prng);
    case CONSTANT:
        return floor(kv_prng_unit(prng) * 64);
    case UP:
        return 1;
    default:
        return floor(kv_prng_unit(prng) * 1e6);
    }
}

static inline double next_value(enum kind kind, double v, struct kv_prng *prng)
{
    switch (kind) {
    case WALK:
        return clamp(nearbyint(v + gauss(prng)), 0, 100);
    case REQUESTS:
        return v + floor(kv_prng_unit(prng) * 250);
    case ERRORS:
        return v + (kv_prng_below(prng, 50) == 0);
    case SECONDS:
        return nearbyint((v + kv_prng_unit(prng) * 10) * 100) / 100;
    case RX:
    case TX:
        return v + floor(kv_prng_unit(prng) * 4e6);
    case TEMPERATURE:
        return clamp(nearbyint((v + gauss(prng) * 0.3) * 100) / 100, 20, 95);
    case LOAD:
        return clamp(nearbyint((v > 100 ? 1 : v + gauss(prng) * 0.1) * 100) / 100, 0, 32);
    case RATIO:
        return clamp(nearbyint((v + gauss(prng) * 0.01) * 1000) / 1000, 0, 1);
    case MEMORY:
        return clamp(v + 4096 * nearbyint(gauss(prng) * 500), 0, 16e9);
    case DISK:
        return clamp(v - 4096 * floor(kv_prng_unit(prng) * 100), 0, 5e11);
    case LATENCY:
        return fabs(v * 0.9 + kv_prng_unit(prng) * 0.1 + 1e-4);
    case UP:
        return kv_prng_below(prng, 2000) ? 1 : 0;
    case CONSTANT:
        return v;
    }
    return v;
}

#endif
