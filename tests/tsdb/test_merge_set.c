/* Pieces of a series into one run. */
#include "tsdb/merge_set.h"
#include "kvcore/base/prng.h"

#include <criterion/criterion.h>

enum { TIMES = 300 };

static void add_piece(struct ts_merge_set *set, const int64_t *times, const double *values, size_t n,
                      uint64_t seq, const struct ts_tombstone *tombs, size_t n_tombs)
{
    size_t start = set->samples.n;
    cr_assert_eq(ts_columns_reserve(&set->samples, n), KV_OK);
    for (size_t i = 0; i < n; i++) {
        set->samples.times_ms[start + i] = times[i];
        set->samples.values[start + i] = values[i];
    }
    set->samples.n += n;
    cr_assert_eq(ts_merge_set_piece(set, start, seq, tombs, n_tombs), KV_OK);
}

Test(merge_set, pieces_in_order_are_left_as_they_are)
{
    struct ts_merge_set set = {0};
    add_piece(&set, (int64_t[]){1, 2}, (double[]){1, 2}, 2, 9, NULL, 0);
    add_piece(&set, (int64_t[]){3, 4}, (double[]){3, 4}, 2, 3, NULL, 0);
    cr_assert_not(set.overlap);
    cr_assert_eq(ts_merge_set_resolve(&set), KV_OK);
    cr_assert_eq(set.samples.n, 4);
    cr_assert_eq(set.n_pieces, 2);
    ts_merge_set_release(&set);
}

Test(merge_set, a_tombstone_covers_only_what_came_before_it)
{
    struct ts_merge_set set = {0};
    struct ts_tombstone tomb = {.seq = 5, .from_ms = 2, .to_ms = 3};
    add_piece(&set, (int64_t[]){1, 2, 3, 4}, (double[]){1, 2, 3, 4}, 4, 4, &tomb, 1);
    cr_assert_eq(set.samples.n, 2);
    add_piece(&set, (int64_t[]){2, 3}, (double[]){20, 30}, 2, 5, &tomb, 1);
    cr_assert_eq(ts_merge_set_resolve(&set), KV_OK);
    cr_assert_eq(set.samples.n, 4);
    cr_assert_eq(set.samples.values[1], 20);
    ts_merge_set_release(&set);
}

Test(merge_set, the_higher_sequence_wins_whatever_the_order_of_pieces)
{
    struct kv_prng prng;
    struct ts_merge_set set = {0};
    kv_prng_init(&prng, 4);
    for (int round = 0; round < 500; round++) {
        double expected[TIMES];
        uint64_t by[TIMES] = {0};
        ts_merge_set_clear(&set);
        for (int piece = 0, n_pieces = 1 + (int)kv_prng_below(&prng, 8); piece < n_pieces; piece++) {
            int64_t times[TIMES];
            double values[TIMES];
            size_t n = 0;
            uint64_t seq = 1 + kv_prng_below(&prng, 5), from = kv_prng_below(&prng, TIMES);
            for (uint64_t t = from; t < TIMES && n < 40; t += 1 + kv_prng_below(&prng, 4)) {
                times[n] = (int64_t)t;
                values[n++] = round * 1000 + piece;
                if (seq >= by[t]) { /* of equal ones the last piece */
                    by[t] = seq;
                    expected[t] = values[n - 1];
                }
            }
            add_piece(&set, times, values, n, seq, NULL, 0);
        }
        cr_assert_eq(ts_merge_set_resolve(&set), KV_OK);
        size_t at = 0;
        for (int64_t t = 0; t < TIMES; t++) {
            if (!by[t])
                continue;
            cr_assert_lt(at, set.samples.n);
            cr_assert_eq(set.samples.times_ms[at], t, "round %d", round);
            cr_assert_eq(set.samples.values[at], expected[t], "round %d time %d", round, (int)t);
            at++;
        }
        cr_assert_eq(at, set.samples.n);
    }
    ts_merge_set_release(&set);
}
