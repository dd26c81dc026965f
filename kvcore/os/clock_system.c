#include "kvcore/base/assert.h"
#include "kvcore/os/clock.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

enum { NS_PER_S = 1000000000, NS_PER_MS = 1000000, MS_PER_S = 1000 };

static int64_t system_wall_ms(struct kv_clock *clock)
{
    (void)clock;
    struct timespec t;
    KV_ASSERT(clock_gettime(CLOCK_REALTIME, &t) == 0);
    return (int64_t)t.tv_sec * MS_PER_S + t.tv_nsec / NS_PER_MS;
}

static uint64_t system_mono_ns(struct kv_clock *clock)
{
    (void)clock;
    struct timespec t;
    KV_ASSERT(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void system_sleep_ns(struct kv_clock *clock, uint64_t ns)
{
    (void)clock;
    struct timespec left = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
        ;
}

static void system_entropy(struct kv_clock *clock, void *out, size_t len)
{
    (void)clock;
    uint8_t *at = out;
    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);
        KV_ASSERT(got > 0 ||
                  errno == EINTR); /* the kernel has the call since 3.17 and it does not fail otherwise */
        if (got > 0) {
            at += got;
            len -= (size_t)got;
        }
    }
}

struct kv_clock *kv_clock_system(void)
{
    static const struct kv_clock_ops ops = {system_wall_ms, system_mono_ns, system_sleep_ns, system_entropy};
    static struct kv_clock clock = {&ops};
    return &clock;
}
