#include "tests/support/clock_manual.h"

static int64_t manual_wall_ms(struct kv_clock *base)
{
    struct clock_manual *clock = (struct clock_manual *)base;
    kv_mutex_lock(&clock->lock);
    int64_t ms = clock->wall_ms;
    kv_mutex_unlock(&clock->lock);
    return ms;
}

static uint64_t manual_mono_ns(struct kv_clock *base)
{
    struct clock_manual *clock = (struct clock_manual *)base;
    kv_mutex_lock(&clock->lock);
    uint64_t ns = clock->mono_ns;
    kv_mutex_unlock(&clock->lock);
    return ns;
}

static void manual_sleep_ns(struct kv_clock *base, uint64_t ns)
{
    struct clock_manual *clock = (struct clock_manual *)base;
    kv_mutex_lock(&clock->lock);
    clock->mono_ns += ns;
    clock->wall_ms += (int64_t)(ns / 1000000);
    kv_mutex_unlock(&clock->lock);
}

static void manual_entropy(struct kv_clock *base, void *out, size_t len)
{
    struct clock_manual *clock = (struct clock_manual *)base;
    kv_mutex_lock(&clock->lock);
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)out)[i] = (uint8_t)kv_prng_next(&clock->prng);
    kv_mutex_unlock(&clock->lock);
}

void clock_manual_init(struct clock_manual *clock, int64_t wall_ms, uint64_t seed)
{
    static const struct kv_clock_ops ops = {manual_wall_ms, manual_mono_ns, manual_sleep_ns, manual_entropy};
    *clock = (struct clock_manual){.base.ops = &ops, .wall_ms = wall_ms, .mono_ns = 1000000000};
    kv_mutex_init(&clock->lock);
    kv_prng_init(&clock->prng, seed);
}

void clock_manual_release(struct clock_manual *clock)
{
    kv_mutex_release(&clock->lock);
}

void clock_manual_advance_ms(struct clock_manual *clock, int64_t ms)
{
    kv_mutex_lock(&clock->lock);
    clock->wall_ms += ms;
    clock->mono_ns += (uint64_t)ms * 1000000;
    kv_mutex_unlock(&clock->lock);
}

void clock_manual_set_wall_ms(struct clock_manual *clock, int64_t wall_ms)
{
    kv_mutex_lock(&clock->lock);
    clock->wall_ms = wall_ms;
    kv_mutex_unlock(&clock->lock);
}
