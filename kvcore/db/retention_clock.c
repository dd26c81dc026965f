#include "kvcore/db/retention_clock.h"

static int64_t step_of(int64_t now_ms, int64_t wall_ms)
{
    int64_t ahead = wall_ms - now_ms;
    return ahead > KV_RETENTION_AHEAD_MAX_MS || ahead < -KV_RETENTION_BEHIND_MAX_MS ? ahead : 0;
}

void kv_retention_clock_init(struct kv_retention_clock *rc, struct kv_clock *clock, int64_t stored_ms)
{
    int64_t wall = kv_clock_wall_ms(clock);
    *rc = (struct kv_retention_clock){
        .clock = clock, .mono_ns = kv_clock_mono_ns(clock), .now_ms = stored_ms, .stored_ms = stored_ms};
    kv_mutex_init(&rc->mutex);
    if (stored_ms == 0 || (wall > stored_ms && step_of(stored_ms, wall) == 0))
        rc->now_ms = wall;
    rc->step_ms = step_of(rc->now_ms, wall);
}

void kv_retention_clock_follow(struct kv_retention_clock *rc, int64_t stored_ms)
{
    int64_t now = kv_retention_clock_now(rc, NULL), wall = kv_clock_wall_ms(rc->clock);
    kv_mutex_lock(&rc->mutex);
    if (stored_ms > now || stored_ms < rc->stored_ms) {
        rc->now_ms = wall > stored_ms && step_of(stored_ms, wall) == 0 ? wall : stored_ms;
        rc->mono_ns = kv_clock_mono_ns(rc->clock);
        rc->step_ms = step_of(rc->now_ms, wall);
    }
    rc->stored_ms = stored_ms;
    kv_mutex_unlock(&rc->mutex);
}

void kv_retention_clock_release(struct kv_retention_clock *rc)
{
    if (rc->clock)
        kv_mutex_release(&rc->mutex);
    rc->clock = NULL;
}

/* Part of the passed time, in whole milliseconds, that moves this clock towards the wall clock. */
static int64_t slew(struct kv_retention_clock *rc, int64_t passed_ms, int64_t wall_ms)
{
    int64_t off = wall_ms - (rc->now_ms + passed_ms);
    rc->slew_rest += passed_ms;
    int64_t most = rc->slew_rest / 8;
    rc->slew_rest %= 8;
    return off > most ? most : off < -most ? -most : off;
}

int64_t kv_retention_clock_now(struct kv_retention_clock *rc, int64_t *step_ms)
{
    kv_mutex_lock(&rc->mutex);
    int64_t wall = kv_clock_wall_ms(rc->clock);
    uint64_t mono = kv_clock_mono_ns(rc->clock);
    int64_t passed = mono > rc->mono_ns ? (int64_t)((mono - rc->mono_ns) / 1000000) : 0;
    rc->mono_ns += (uint64_t)passed * 1000000;
    rc->step_ms = step_of(rc->now_ms + passed, wall);
    rc->now_ms += passed + (rc->step_ms ? 0 : slew(rc, passed, wall));
    int64_t now = rc->now_ms;
    if (step_ms)
        *step_ms = rc->step_ms;
    kv_mutex_unlock(&rc->mutex);
    return now;
}

int64_t kv_retention_clock_take(struct kv_retention_clock *rc)
{
    kv_mutex_lock(&rc->mutex);
    rc->now_ms = kv_clock_wall_ms(rc->clock);
    rc->mono_ns = kv_clock_mono_ns(rc->clock);
    rc->step_ms = 0;
    int64_t now = rc->now_ms;
    kv_mutex_unlock(&rc->mutex);
    return now;
}
