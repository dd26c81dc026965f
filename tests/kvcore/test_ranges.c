#include "kvcore/db/ranges.h"
#include "kvcore/base/prng.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { RANGES = 40, KEYS = 26 };

/* Bounds are one or two letters; the answers of a plain walk over all ranges are compared with. */
struct naive {
    char lower[RANGES][3], upper[RANGES][3];
    struct kv_range list[RANGES];
    size_t n;
};

static void naive_fill(struct naive *naive, struct kv_prng *prng, size_t n)
{
    naive->n = 0;
    while (naive->n < n) {
        size_t i = naive->n;
        char a = (char)('a' + kv_prng_below(prng, KEYS)), b = (char)('a' + kv_prng_below(prng, KEYS));
        snprintf(naive->lower[i], 3, kv_prng_below(prng, 2) ? "%c" : "%cm", a);
        snprintf(naive->upper[i], 3, kv_prng_below(prng, 2) ? "%c" : "%cm", b);
        if (strcmp(naive->lower[i], naive->upper[i]) >= 0)
            continue;
        naive->list[i] = (struct kv_range){kv_slice_str(naive->lower[i]), kv_slice_str(naive->upper[i]),
                                           kv_prng_below(prng, 30) + 1};
        naive->n++;
    }
}

static uint64_t naive_over(const struct naive *naive, const char *first, const char *last, uint64_t max)
{
    uint64_t best = 0;
    for (size_t i = 0; i < naive->n; i++)
        if (strcmp(naive->lower[i], first) <= 0 && strcmp(naive->upper[i], last) > 0 &&
            naive->list[i].version <= max && naive->list[i].version > best)
            best = naive->list[i].version;
    return best;
}

static bool naive_touch(const struct naive *naive, const char *lower, const char *upper, uint64_t version)
{
    for (size_t i = 0; i < naive->n; i++)
        if (naive->list[i].version > version && strcmp(naive->upper[i], lower) > 0 &&
            (!upper[0] || strcmp(naive->lower[i], upper) < 0))
            return true;
    return false;
}

Test(ranges, answers_as_a_walk_over_all_of_them_would)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 7);
    for (int round = 0; round < 300; round++) {
        struct naive naive;
        struct kv_ranges *set = NULL;
        naive_fill(&naive, &prng, kv_prng_below(&prng, RANGES));
        cr_assert_eq(kv_ranges_new(naive.list, naive.n, &set), KV_OK);
        cr_assert_eq(kv_ranges_count(set), naive.n);
        for (int i = 0; i < 60; i++) {
            char first[3], last[3];
            snprintf(first, sizeof first, "%c%s", (char)('a' + kv_prng_below(&prng, KEYS)),
                     kv_prng_below(&prng, 2) ? "" : "m");
            snprintf(last, sizeof last, "%c", (char)('a' + kv_prng_below(&prng, KEYS)));
            if (strcmp(first, last) > 0)
                snprintf(last, sizeof last, "%s", first);
            uint64_t max = kv_prng_below(&prng, 35);
            cr_assert_eq(kv_ranges_newest(set, kv_slice_str(first), max),
                         naive_over(&naive, first, first, max));
            cr_assert_eq(kv_ranges_newest_over(set, kv_slice_str(first), kv_slice_str(last), max),
                         naive_over(&naive, first, last, max));
            cr_assert_eq(kv_ranges_touch(set, kv_slice_str(first), kv_slice_str(last), max),
                         naive_touch(&naive, first, last, max));
            cr_assert_eq(kv_ranges_touch(set, kv_slice_str(first), (kv_slice){0}, max),
                         naive_touch(&naive, first, "", max));
        }
        kv_ranges_unref(set);
    }
}

Test(ranges, no_set_covers_nothing)
{
    cr_assert_eq(kv_ranges_newest(NULL, KV_STR("a"), UINT64_MAX), 0);
    cr_assert(!kv_ranges_touch(NULL, KV_STR("a"), KV_STR("b"), 0));
    cr_assert_eq(kv_ranges_count(NULL), 0);
    kv_ranges_unref(NULL);
}
