#include "kvcore/txn/read_set.h"
#include "kvcore/base/prng.h"
#include "kvcore/db/batch.h"
#include "kvcore/txn/validate.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* Keys of one letter, or two: few enough to ask for each of them. */
enum { LETTERS = 6, UNIVERSE = LETTERS * (LETTERS + 1), SPACES = 3, MANY = 4 << 20 };

static kv_slice key_of(int i, char out[2])
{
    out[0] = (char)('a' + i / (LETTERS + 1));
    out[1] = (char)('a' + i % (LETTERS + 1) - 1);
    return kv_slice_of(out, i % (LETTERS + 1) ? 2 : 1);
}

struct naive {
    bool read[SPACES][UNIVERSE];
};

static void naive_range(struct naive *naive, uint32_t space, int from, int to)
{
    for (int i = from; i < to; i++)
        naive->read[space][i] = true;
}

static void add(struct kv_read_set *set, struct naive *naive, struct kv_prng *prng)
{
    char a[2], b[2];
    uint32_t space = (uint32_t)kv_prng_below(prng, SPACES);
    int from = (int)kv_prng_below(prng, UNIVERSE), to = from + 1 + (int)kv_prng_below(prng, 8);
    if (kv_prng_below(prng, 2)) {
        cr_assert_eq(kv_read_set_add_key(set, space, key_of(from, a)), KV_OK);
        naive->read[space][from] = true;
        return;
    }
    bool no_lower = kv_prng_below(prng, 40) == 0, no_upper = kv_prng_below(prng, 40) == 0 || to >= UNIVERSE;
    cr_assert_eq(kv_read_set_add_range(set, space, no_lower ? (kv_slice){0} : key_of(from, a),
                                       no_upper ? (kv_slice){0} : key_of(to, b)),
                 KV_OK);
    naive_range(naive, space, no_lower ? 0 : from, no_upper ? UNIVERSE : to);
}

static void compare(struct kv_read_set *set, const struct naive *naive, struct kv_prng *prng)
{
    char a[2], b[2];
    kv_read_set_seal(set);
    for (uint32_t space = 0; space < SPACES; space++)
        for (int i = 0; i < UNIVERSE; i++)
            cr_assert_eq(kv_read_set_has_key(set, space, key_of(i, a)), naive->read[space][i],
                         "space %u, key %.*s", space, KV_ARG(key_of(i, a)));
    for (int n = 0; n < 60; n++) {
        uint32_t space = (uint32_t)kv_prng_below(prng, SPACES);
        int from = (int)kv_prng_below(prng, UNIVERSE), to = from + (int)kv_prng_below(prng, 10);
        bool none = to >= UNIVERSE, touched = false;
        for (int i = from; i < (none ? UNIVERSE : to); i++)
            touched |= naive->read[space][i];
        if (none || from < to) /* a range may also be touched between the keys there are */
            cr_assert(
                kv_read_set_touches(set, space, key_of(from, a), none ? (kv_slice){0} : key_of(to, b)) ||
                !touched);
    }
}

Test(read_set, knows_what_was_read_and_nothing_else)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 20);
    for (int round = 0; round < 120; round++) {
        struct kv_read_set set;
        struct naive naive = {0};
        kv_read_set_init(&set, MANY);
        for (int i = 0; i < round; i++)
            add(&set, &naive, &prng);
        compare(&set, &naive, &prng);
        add(&set, &naive, &prng); /* also after it was asked */
        compare(&set, &naive, &prng);
        cr_assert_eq(set.coarsened, 0);
        kv_read_set_release(&set);
    }
}

Test(read_set, the_same_places_read_again_stay_few_ranges)
{
    struct kv_read_set set;
    char a[2], b[2];
    kv_read_set_init(&set, MANY);
    for (int i = 0; i < 5000; i++)
        cr_assert_eq(kv_read_set_add_range(&set, 0, key_of(i % 20, a), key_of(i % 20 + 3, b)), KV_OK);
    cr_assert_lt(set.n_ranges, 1000);
    kv_read_set_seal(&set);
    cr_assert_eq(set.n_ranges, 1);
    kv_read_set_release(&set);
}

Test(read_set, past_its_bound_it_is_coarser_and_never_smaller)
{
    struct kv_read_set set;
    struct naive naive = {0};
    char key[64], a[2], b[2];
    kv_read_set_init(&set, 64 << 10);
    for (int i = 0; i < 3000; i++) {
        uint32_t space = (uint32_t)i % SPACES;
        int from = i % 30;
        cr_assert_eq(kv_read_set_add_range(&set, space, key_of(from, a), key_of(from + 5, b)), KV_OK);
        naive_range(&naive, space, from, from + 5);
        snprintf(key, sizeof key, "many many many keys, of which this is %d", i);
        cr_assert_eq(kv_read_set_add_key(&set, space, kv_slice_str(key)), KV_OK);
    }
    cr_assert_gt(set.coarsened, 0);
    kv_read_set_seal(&set);
    for (uint32_t space = 0; space < SPACES; space++) {
        for (int i = 0; i < UNIVERSE; i++)
            cr_assert(kv_read_set_has_key(&set, space, key_of(i, a)) || !naive.read[space][i]);
        snprintf(key, sizeof key, "many many many keys, of which this is %u", space);
        cr_assert(kv_read_set_has_key(&set, space, kv_slice_str(key)));
        cr_assert_not(kv_read_set_has_key(&set, space, KV_STR("n"))); /* behind the last key that was read */
    }
    kv_read_set_release(&set);
}

/* ---- what has a version and is not published */

Test(read_set, what_is_pending_conflicts_with_what_it_touches)
{
    struct kv_read_set reads;
    struct kv_batch *batch = NULL;
    struct kv_err err;
    static const struct span {
        struct kv_key_span span;
        bool conflicts;
    } spans[] = {
        {{0, KV_STR("a"), KV_STR("b")}, false}, {{0, KV_STR("a"), KV_STR("c")}, true},
        {{0, KV_STR("c"), KV_STR("c")}, true},  {{0, KV_STR("d"), KV_STR("m")}, true},
        {{0, KV_STR("p"), KV_STR("q")}, false}, {{1, KV_STR("c"), KV_STR("c")}, false},
    };
    kv_read_set_init(&reads, MANY);
    cr_assert_eq(kv_read_set_add_key(&reads, 0, KV_STR("c")), KV_OK);
    cr_assert_eq(kv_read_set_add_range(&reads, 0, KV_STR("k"), KV_STR("n")), KV_OK);
    kv_read_set_seal(&reads);
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
        struct kv_pending pending = {.seq = 9, .installs = true, .span = &spans[i].span};
        cr_expect_eq(kv_validate_pending(&reads, &pending, &err), spans[i].conflicts ? KV_CONFLICT : KV_OK,
                     "%zu", i);
    }
    cr_expect_eq(kv_validate_pending(&reads, &(struct kv_pending){.seq = 9, .installs = true}, &err),
                 KV_CONFLICT);
    cr_expect(strstr(err.text, "unknown extent") != NULL, "%s", err.text);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert(kv_batch_put(batch, 0, KV_STR("b"), KV_STR("")) == KV_OK &&
              kv_batch_put(batch, 1, KV_STR("c"), KV_STR("")) == KV_OK &&
              kv_batch_delete_range(batch, 0, KV_STR("n"), KV_STR("z")) == KV_OK);
    struct kv_pending pending = {.seq = 9, .batch = kv_batch_bytes(batch)};
    cr_expect_eq(kv_validate_pending(&reads, &pending, &err), KV_OK);
    cr_assert_eq(kv_batch_delete_range(batch, 0, KV_STR("l"), KV_STR("m")), KV_OK);
    pending.batch = kv_batch_bytes(batch);
    cr_expect_eq(kv_validate_pending(&reads, &pending, &err), KV_CONFLICT);
    kv_batch_clear(batch);
    cr_assert_eq(kv_batch_delete(batch, 0, KV_STR("c")), KV_OK);
    pending.batch = kv_batch_bytes(batch);
    cr_expect_eq(kv_validate_pending(&reads, &pending, &err), KV_CONFLICT);
    kv_batch_free(batch);
    kv_read_set_release(&reads);
}
