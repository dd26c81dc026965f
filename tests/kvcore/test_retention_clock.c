#include "kvcore/db/retention_clock.h"
#include "tests/support/clock_manual.h"
#include "tests/support/kv_kit.h"

#include <criterion/criterion.h>

enum { HOUR_MS = 3600 * 1000, DAY_MS = 24 * HOUR_MS };
#define T0 ((int64_t)1700000000000)

static int64_t opened_at(int64_t stored, int64_t wall, int64_t *step)
{
    struct clock_manual clock;
    struct kv_retention_clock rc;
    clock_manual_init(&clock, wall, 1);
    kv_retention_clock_init(&rc, &clock.base, stored);
    int64_t now = kv_retention_clock_now(&rc, step);
    kv_retention_clock_release(&rc);
    clock_manual_release(&clock);
    return now;
}

Test(retention_clock, at_open_it_takes_the_wall_clock_if_that_is_a_little_ahead)
{
    int64_t step;
    cr_assert_eq(opened_at(0, T0, &step), T0, "a new database");
    cr_assert(opened_at(T0, T0 + 7 * (int64_t)DAY_MS, &step) == T0 + 7 * (int64_t)DAY_MS && step == 0);
    cr_assert(opened_at(T0, T0 + 7 * (int64_t)DAY_MS + 1, &step) == T0 && step == 7 * (int64_t)DAY_MS + 1);
    cr_assert(opened_at(T0, T0 - HOUR_MS, &step) == T0 && step == -HOUR_MS);
    cr_assert(opened_at(T0, T0 - 1000, &step) == T0 && step == 0, "a little behind is no step");
}

Test(retention_clock, it_follows_the_monotonic_clock_and_is_slewed_to_the_wall)
{
    struct clock_manual clock;
    struct kv_retention_clock rc;
    int64_t step;
    clock_manual_init(&clock, T0, 1);
    kv_retention_clock_init(&rc, &clock.base, 0);
    clock_manual_advance_ms(&clock, 5000);
    cr_assert_eq(kv_retention_clock_now(&rc, &step), T0 + 5000);
    clock_manual_set_wall_ms(&clock, T0 + 5000 + 1000); /* a second ahead */
    clock_manual_advance_ms(&clock, 4000);
    cr_assert_eq(kv_retention_clock_now(&rc, &step), T0 + 5000 + 4000 + 500, "an eighth of what passed");
    clock_manual_advance_ms(&clock, 40000);
    cr_assert_eq(kv_retention_clock_now(&rc, &step), T0 + 50000);
    clock_manual_set_wall_ms(&clock, T0 + 50000 - 1000); /* a second behind: slower, never back */
    cr_assert_eq(kv_retention_clock_now(&rc, &step), T0 + 50000);
    clock_manual_advance_ms(&clock, 4000);
    cr_assert_eq(kv_retention_clock_now(&rc, &step), T0 + 53500);
    cr_assert_eq(step, 0);
    int64_t last = 0;
    for (int i = 0; i < 1000; i++) { /* millisecond by millisecond the slew is the same */
        clock_manual_advance_ms(&clock, 1);
        int64_t now = kv_retention_clock_now(&rc, &step);
        cr_assert_geq(now, last);
        last = now;
    }
    cr_assert_eq(last, T0 + 53500 + 1000 - 125);
    kv_retention_clock_release(&rc);
    clock_manual_release(&clock);
}

Test(retention_clock, a_step_changes_nothing_until_it_is_accepted)
{
    struct clock_manual clock;
    struct kv_retention_clock rc;
    int64_t step;
    clock_manual_init(&clock, T0, 1);
    kv_retention_clock_init(&rc, &clock.base, 0);
    clock_manual_set_wall_ms(&clock, T0 + 365 * (int64_t)DAY_MS);
    clock_manual_advance_ms(&clock, 1000);
    cr_assert_eq(kv_retention_clock_now(&rc, &step), T0 + 1000);
    cr_assert_eq(step, 365 * (int64_t)DAY_MS);
    cr_assert_eq(kv_retention_clock_take(&rc), T0 + 365 * (int64_t)DAY_MS + 1000);
    cr_assert_eq(kv_retention_clock_now(&rc, &step), T0 + 365 * (int64_t)DAY_MS + 1000);
    cr_assert_eq(step, 0);
    kv_retention_clock_release(&rc);
    clock_manual_release(&clock);
}

Test(retention_clock, the_database_keeps_it)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    int64_t start = kv_retention_clock_ms(kit.db);
    clock_manual_advance_ms(&kit.clock, HOUR_MS);
    cr_assert_eq(kv_retention_clock_ms(kit.db), start + HOUR_MS);
    kv_kit_close(&kit);
    clock_manual_set_wall_ms(&kit.clock, start - 100 * (int64_t)DAY_MS);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_retention_clock_ms(kit.db), start + HOUR_MS);
    cr_assert_eq(kv_retention_clock_accept(kit.db, &kit.err), KV_OK);
    kv_kit_crash(&kit);
    cr_assert_eq(kv_retention_clock_ms(kit.db), start - 100 * (int64_t)DAY_MS);
    kv_kit_release(&kit);
}
