/*
 * clock_manual.h - a clock that a test moves. Sleeping moves it too; entropy is seeded, so a run replays exactly.
 * Any thread.
 */
#ifndef CLOCK_MANUAL_H
#define CLOCK_MANUAL_H

#include "kvcore/base/prng.h"
#include "kvcore/os/clock.h"
#include "kvcore/os/thread.h"

struct clock_manual {
    struct kv_clock base; /* hand &clock.base to the code under test */
    kv_mutex lock;
    int64_t wall_ms;
    uint64_t mono_ns;
    struct kv_prng prng;
};

void clock_manual_init(struct clock_manual *clock, int64_t wall_ms, uint64_t seed);
void clock_manual_release(struct clock_manual *clock);
void clock_manual_advance_ms(struct clock_manual *clock, int64_t ms); /* both clocks */
void clock_manual_set_wall_ms(struct clock_manual *clock,
                              int64_t wall_ms); /* a step of the wall clock alone */

#endif
