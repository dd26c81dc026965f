/*
 * clock.h - SEAM: time, sleep and entropy. The system's (kv_clock_system) and, in tests, a manual one
 * (tests/support). Any thread.
 */
#ifndef KV_CLOCK_H
#define KV_CLOCK_H

#include <stddef.h>
#include <stdint.h>

struct kv_clock;
struct kv_clock_ops {
    int64_t (*wall_ms)(struct kv_clock *clock);  /* unix time; may step */
    uint64_t (*mono_ns)(struct kv_clock *clock); /* never goes back; origin undefined */
    void (*sleep_ns)(struct kv_clock *clock, uint64_t ns);
    void (*entropy)(struct kv_clock *clock, void *out,
                    size_t len); /* unpredictable bytes; a manual clock's are seeded */
};
struct kv_clock {
    const struct kv_clock_ops *ops;
};

/* The operating system's clock and getrandom(2). Static: never freed. */
struct kv_clock *kv_clock_system(void);

static inline int64_t kv_clock_wall_ms(struct kv_clock *clock)
{
    return clock->ops->wall_ms(clock);
}
static inline uint64_t kv_clock_mono_ns(struct kv_clock *clock)
{
    return clock->ops->mono_ns(clock);
}
static inline void kv_clock_sleep_ns(struct kv_clock *clock, uint64_t ns)
{
    clock->ops->sleep_ns(clock, ns);
}
static inline void kv_clock_entropy(struct kv_clock *clock, void *out, size_t len)
{
    clock->ops->entropy(clock, out, len);
}

#endif
