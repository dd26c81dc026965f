/*
 * retention_clock.h - the clock that decides what is old enough to be deleted. A wall clock that is wrong for
 * a moment must not delete years.
 *
 * At open it takes the wall clock over if that is ahead of the stored value by at most 7 days. While running
 * it follows the monotonic clock and is slewed to the wall clock by at most an eighth of the time that
 * passes. A step (backward, or ahead by more) is reported once and changes nothing until accepted. Threads
 * any (own mutex, innermost).
 */
#ifndef KV_RETENTION_CLOCK_H
#define KV_RETENTION_CLOCK_H

#include "kvcore/os/clock.h"
#include "kvcore/os/thread.h"

#include <stdbool.h>

#define KV_RETENTION_AHEAD_MAX_MS  ((int64_t)7 * 24 * 3600 * 1000)
#define KV_RETENTION_BEHIND_MAX_MS ((int64_t)60 * 1000) /* a wall clock behind by more has stepped */

struct kv_retention_clock {
    struct kv_clock *clock;
    kv_mutex mutex;
    int64_t now_ms;
    int64_t stored_ms; /* what it began with, or followed last */
    uint64_t mono_ns;  /* when now_ms was right; its remainder below a millisecond is kept */
    int64_t slew_rest; /* eighths of a millisecond not yet slewed */
    int64_t step_ms;   /* wall minus this clock, when they differ by a step; else 0 */
};
/* stored_ms 0: a new database; it starts at the wall clock. */
void kv_retention_clock_init(struct kv_retention_clock *rc, struct kv_clock *clock, int64_t stored_ms);
void kv_retention_clock_release(struct kv_retention_clock *rc);
/* *step_ms (may be NULL): the step that is waiting to be accepted, or 0. */
int64_t kv_retention_clock_now(struct kv_retention_clock *rc, int64_t *step_ms);
/* For a follower: stored_ms is what the clock of the writer said when it wrote last. Where that is ahead of this one, or the
 * writer's was set back, this one begins there as at an open. */
void kv_retention_clock_follow(struct kv_retention_clock *rc, int64_t stored_ms);
/* Takes the wall clock over and returns it. */
int64_t kv_retention_clock_take(struct kv_retention_clock *rc);

#endif
