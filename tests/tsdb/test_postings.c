#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "tsdb/key.h"
#include "tsdb/postings.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static size_t bits_list(const uint64_t *bits, uint16_t *out)
{
    size_t n = 0;
    for (uint32_t i = 0; i < TS_BATCH_SIZE; i++)
        if (bits[i / 64] >> (i % 64) & 1)
            out[n++] = (uint16_t)i;
    return n;
}

/* Members with gaps below `gap` on average, in runs of up to `run`. */
static size_t random_members(struct kv_prng *prng, uint64_t gap, uint64_t run, size_t max, uint16_t *out)
{
    size_t n = 0;
    uint32_t next = (uint32_t)kv_prng_below(prng, gap + 1);
    while (n < max && next < TS_BATCH_SIZE) {
        for (uint64_t r = 1 + kv_prng_below(prng, run); r > 0 && n < max && next < TS_BATCH_SIZE; r--)
            out[n++] = (uint16_t)next++;
        next += 1 + (uint32_t)kv_prng_below(prng, gap + 1);
    }
    return n;
}

Test(postings, every_form_comes_back)
{
    static uint16_t in[TS_BATCH_SIZE], out[TS_BATCH_SIZE];
    static uint64_t bits[TS_BATCH_WORDS];
    static const struct {
        uint64_t gap, run;
        size_t max;
        uint8_t form;
    } shapes[] = {
        {60000, 1, 1, 1}, {900, 1, 60000, 1}, {3, 1, 60000, 3}, {100, 400, 60000, 2}, {0, 70000, 60000, 2}};
    struct kv_prng prng;
    kv_prng_init(&prng, 5);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        for (int i = 0; i < 50; i++) {
            struct kv_buf bytes = {0};
            size_t n = random_members(&prng, shapes[s].gap, shapes[s].run, shapes[s].max, in);
            if (n == 0)
                continue;
            memset(bits, 0, sizeof bits);
            cr_assert_eq(ts_postings_encode(in, n, &bytes), KV_OK);
            cr_assert_leq(bytes.len, TS_BATCH_BYTES_MAX);
            if (n > 2)
                cr_expect_eq(bytes.data[0], shapes[s].form, "shape %zu", s);
            cr_assert_eq(ts_postings_decode(kv_buf_slice(&bytes), bits), KV_OK);
            cr_assert_eq(bits_list(bits, out), n);
            cr_assert_eq(memcmp(in, out, n * sizeof *in), 0);
            kv_buf_release(&bytes);
        }
    }
}

Test(postings, damage_is_refused)
{
    static uint64_t bits[TS_BATCH_WORDS];
    static uint8_t empty_bitmap[TS_BATCH_BYTES_MAX] = {3};
    const kv_slice bad[] = {
        KV_STR(""),
        KV_STR("\1"),                 /* nothing in it */
        KV_STR("\0\1"),               /* no such form */
        KV_STR("\4\1"),               /* nor such */
        KV_STR("\1\x80"),             /* cut varint */
        KV_STR("\1\x80\x80\x04"),     /* 65536 */
        KV_STR("\1\xff\xff\x03\x00"), /* something behind 65535 */
        KV_STR("\2\1"),               /* a run without its length */
        KV_STR("\2\x00\x80\x80\x04"), /* a run of 65537 */
        KV_STR("\3short"),
        {empty_bitmap, sizeof empty_bitmap},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ts_refset set = {0};
        bool meets;
        cr_expect_eq(ts_postings_decode(bad[i], bits), KV_CORRUPT, "%zu", i);
        cr_expect_eq(ts_refset_add_encoded(&set, 1, 0, bad[i]), KV_CORRUPT, "%zu", i);
        ts_refset_release(&set);
        (void)!ts_refset_meets_encoded(&set, 1, 0, bad[i], &meets);
        uint32_t count;
        cr_expect_eq(ts_postings_count(bad[i], &count), KV_CORRUPT, "%zu", i);
    }
}

/* ---- sets against a sorted array ----------------------------------------------------------------------- */

struct model {
    uint64_t refs[40000];
    size_t n;
};

static int u64_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool model_has(const struct model *m, uint64_t ref)
{
    return m->n > 0 && bsearch(&ref, m->refs, m->n, sizeof ref, u64_order);
}

static void model_fill(struct model *m, struct ts_refset *set, struct kv_prng *prng)
{
    uint64_t ranges[] = {4, 300, 9000, 200000}; /* sparse and dense batches */
    m->n = 0;
    for (uint32_t metric = 1; metric <= 3; metric++) {
        uint64_t range = ranges[kv_prng_below(prng, 4)];
        size_t many = (size_t)kv_prng_below(prng, 9000);
        for (size_t i = 0; i < many; i++) {
            uint64_t ref = ts_ref_of(metric, (uint32_t)kv_prng_below(prng, range));
            bool added;
            cr_assert_eq(ts_refset_add(set, ref, &added), KV_OK);
            if (added)
                m->refs[m->n++] = ref;
        }
    }
    qsort(m->refs, m->n, sizeof *m->refs, u64_order);
}

static void expect_same(const struct ts_refset *set, const struct model *m)
{
    uint64_t *refs;
    size_t n;
    cr_assert_eq(ts_refset_refs(set, &refs, &n), KV_OK);
    cr_assert_eq(n, m->n);
    cr_assert_eq(ts_refset_count(set), n);
    cr_assert(n == 0 || memcmp(refs, m->refs, n * sizeof *refs) == 0);
    for (size_t i = 0; i < n; i += 97)
        cr_assert(ts_refset_has(set, refs[i]));
    kv_free(refs);
}

Test(postings, sets_do_what_sorted_arrays_do)
{
    static struct model a, b, want;
    struct kv_prng prng;
    kv_prng_init(&prng, 11);
    for (int round = 0; round < 60; round++) {
        struct ts_refset sa = {0}, sb = {0};
        model_fill(&a, &sa, &prng);
        model_fill(&b, &sb, &prng);
        expect_same(&sa, &a);
        want.n = 0;
        int op = round % 4;
        for (size_t i = 0; i < a.n; i++)
            if (op == 0 || op == 3 || model_has(&b, a.refs[i]) == (op == 1))
                want.refs[want.n++] = a.refs[i];
        for (size_t i = 0; i < b.n; i++)
            if ((op == 0 || (op == 3 && ts_ref_metric(b.refs[i]) == 2)) && !model_has(&a, b.refs[i]))
                want.refs[want.n++] = b.refs[i];
        qsort(want.refs, want.n, sizeof *want.refs, u64_order);
        if (op == 0)
            cr_assert_eq(ts_refset_or(&sa, &sb), KV_OK);
        else if (op == 1)
            ts_refset_and(&sa, &sb);
        else if (op == 2)
            ts_refset_andnot(&sa, &sb);
        else
            cr_assert_eq(ts_refset_or_metric(&sa, &sb, 2), KV_OK);
        expect_same(&sa, &want);
        ts_refset_release(&sa);
        ts_refset_release(&sb);
    }
}

Test(postings, encoded_lists_join_and_meet_sets)
{
    static uint16_t members[TS_BATCH_SIZE];
    struct kv_prng prng;
    kv_prng_init(&prng, 17);
    for (int round = 0; round < 200; round++) {
        struct ts_refset set = {0}, other = {0};
        struct kv_buf bytes = {0};
        bool meets, expected = false;
        size_t n = random_members(&prng, 1 + kv_prng_below(&prng, 3000), 1 + kv_prng_below(&prng, 100),
                                  TS_BATCH_SIZE, members);
        if (n == 0)
            continue;
        for (int i = 0; i < 5; i++) {
            uint32_t series = 3u << 16 | (uint32_t)kv_prng_below(&prng, TS_BATCH_SIZE);
            cr_assert_eq(ts_refset_add(&other, ts_ref_of(1, series), NULL), KV_OK);
        }
        cr_assert_eq(ts_postings_encode(members, n, &bytes), KV_OK);
        cr_assert_eq(ts_refset_add_encoded(&set, 1, 3, kv_buf_slice(&bytes)), KV_OK);
        cr_assert_eq(ts_refset_count(&set), n);
        for (size_t i = 0; i < n; i++)
            expected = expected || ts_refset_has(&other, ts_ref_of(1, 3u << 16 | members[i]));
        cr_assert_eq(ts_refset_meets_encoded(&other, 1, 3, kv_buf_slice(&bytes), &meets), KV_OK);
        cr_expect_eq(meets, expected);
        cr_assert_eq(ts_refset_meets_encoded(&other, 1, 2, kv_buf_slice(&bytes), &meets), KV_OK);
        cr_expect_not(meets);
        kv_buf_release(&bytes);
        ts_refset_release(&set);
        ts_refset_release(&other);
    }
}

Test(postings, encoded_lists_are_counted_alone_and_against_sets)
{
    static uint16_t members[TS_BATCH_SIZE];
    static uint64_t bits[TS_BATCH_WORDS];
    struct kv_prng prng;
    kv_prng_init(&prng, 23);
    for (int round = 0; round < 300; round++) {
        struct ts_refset set = {0};
        struct kv_buf bytes = {0}, own = {0};
        uint32_t common, expected = 0, count;
        /* a set of any density, from an encoded list itself */
        size_t n = random_members(&prng, 1 + kv_prng_below(&prng, round % 2 ? 8 : 3000),
                                  1 + kv_prng_below(&prng, round % 3 ? 100 : 9000), TS_BATCH_SIZE, members);
        if (n == 0)
            continue;
        cr_assert_eq(ts_postings_encode(members, n, &own), KV_OK);
        cr_assert_eq(ts_refset_add_encoded(&set, 1, 3, kv_buf_slice(&own)), KV_OK);
        cr_assert_eq(ts_refset_count(&set), n);
        memset(bits, 0, sizeof bits);
        cr_assert_eq(ts_postings_decode(kv_buf_slice(&own), bits), KV_OK);
        n = random_members(&prng, 1 + kv_prng_below(&prng, round % 5 ? 3000 : 3),
                           1 + kv_prng_below(&prng, round % 7 ? 100 : 9000), TS_BATCH_SIZE, members);
        if (n > 0) {
            cr_assert_eq(ts_postings_encode(members, n, &bytes), KV_OK);
            for (size_t i = 0; i < n; i++)
                expected += (uint32_t)(bits[members[i] / 64] >> (members[i] % 64) & 1);
            cr_assert_eq(ts_postings_count(kv_buf_slice(&bytes), &count), KV_OK);
            cr_expect_eq(count, n);
            cr_assert_eq(ts_refset_common_encoded(&set, 1, 3, kv_buf_slice(&bytes), &common), KV_OK);
            cr_expect_eq(common, expected, "round %d", round);
            cr_assert_eq(ts_refset_common_encoded(&set, 1, 2, kv_buf_slice(&bytes), &common), KV_OK);
            cr_expect_eq(common, 0);
            uint64_t before = ts_refset_count(&set); /* joined afterwards, each member once */
            cr_assert_eq(ts_refset_add_encoded(&set, 1, 3, kv_buf_slice(&bytes)), KV_OK);
            cr_expect_eq(ts_refset_count(&set), before + n - expected);
        }
        kv_buf_release(&bytes);
        kv_buf_release(&own);
        ts_refset_release(&set);
    }
}

/* ---- activity ------------------------------------------------------------------------------------------ */

static bool out_of_memory(size_t size)
{
    (void)size;
    return true;
}

Test(postings, activity_collects_windows)
{
    struct ts_activity *activity;
    struct ts_refset set = {0};
    bool all = false;
    int32_t windows[4];
    cr_assert_eq(ts_activity_new(&activity), KV_OK);
    for (int32_t w = 5; w >= -5; w -= 5)
        for (uint32_t s = 0; s < 10; s++)
            cr_assert_eq(ts_activity_add(activity, w, ts_ref_of(s % 2 + 1, s)), KV_OK);
    cr_assert_eq(ts_activity_windows(activity, windows, 4), 3);
    cr_expect(windows[0] == -5 && windows[1] == 0 && windows[2] == 5);
    cr_assert_eq(ts_activity_collect(activity, -4, 4, 0, &set, &all), KV_OK);
    cr_expect(!all && ts_refset_count(&set) == 10);
    ts_refset_release(&set);
    cr_assert_eq(ts_activity_collect(activity, 0, 4, 2, &set, &all), KV_OK);
    cr_expect(!all && ts_refset_count(&set) == 5);
    ts_refset_release(&set);
    cr_assert_eq(ts_activity_collect(activity, 6, 100, 0, &set, &all), KV_OK);
    cr_expect_eq(ts_refset_count(&set), 0);
    ts_activity_free(activity);
}

Test(postings, activity_without_memory_answers_all)
{
    struct ts_activity *activity;
    struct ts_refset set = {0};
    bool all = false;
    cr_assert_eq(ts_activity_new(&activity), KV_OK);
    cr_assert_eq(ts_activity_add(activity, 1, ts_ref_of(1, 1)), KV_OK);
    kv_mem_should_fail = out_of_memory;
    kv_status rc = ts_activity_add(activity, 1, ts_ref_of(2, 1));
    kv_mem_should_fail = NULL;
    cr_assert_eq(rc, KV_NO_MEMORY);
    cr_assert_eq(ts_activity_collect(activity, 2, 2, 0, &set, &all), KV_OK);
    cr_expect_not(all);
    cr_assert_eq(ts_activity_collect(activity, 1, 1, 0, &set, &all), KV_OK);
    cr_expect(all);
    ts_refset_release(&set);
    ts_activity_free(activity);
}

/* ---- mixed lists ---- */

struct mixed_in {
    uint32_t metric;
    uint16_t batch;
    size_t n;
    uint16_t members[3000];
};

/* Random parts, rising; members of some are many. */
static size_t random_parts(struct kv_prng *prng, struct mixed_in *parts, size_t max)
{
    uint64_t key = 1 << 16; /* metric << 16 | batch */
    size_t n = 1 + (size_t)kv_prng_below(prng, max);
    for (size_t i = 0; i < n; i++) {
        key += 1 + (kv_prng_below(prng, 3) ? kv_prng_below(prng, 3) << 16 : kv_prng_below(prng, 9));
        parts[i].metric = (uint32_t)(key >> 16);
        parts[i].batch = (uint16_t)key;
        size_t many = kv_prng_below(prng, 3)        ? 1
                      : kv_prng_below(prng, 2) == 0 ? 3000
                                                    : 1 + (size_t)kv_prng_below(prng, 20);
        parts[i].n = random_members(prng, many == 1 ? 60000 : 40, 1, many, parts[i].members);
        if (parts[i].n == 0)
            parts[i].members[parts[i].n++] = 65535;
    }
    return n;
}

Test(postings, mixed_lists_come_back)
{
    static struct mixed_in parts[40];
    static uint16_t members[TS_BATCH_SIZE];
    struct ts_mixed_writer w = {0};
    struct kv_prng prng;
    kv_prng_init(&prng, 8);
    for (int round = 0; round < 300; round++) {
        size_t n_parts = random_parts(&prng, parts, 40), n, i = 0;
        ts_mixed_begin(&w);
        for (size_t k = 0; k < n_parts; k++)
            cr_assert_eq(ts_mixed_add(&w, parts[k].metric, parts[k].batch, parts[k].members, parts[k].n),
                         KV_OK);
        cr_expect_eq(w.first,
                     ts_ref_of(parts[0].metric, (uint32_t)parts[0].batch << 16 | parts[0].members[0]));
        struct ts_mixed_reader r;
        struct ts_mixed_part part = {0};
        kv_status rc;
        cr_assert_eq(ts_mixed_open(&r, kv_buf_slice(&w.bytes)), KV_OK);
        while ((rc = ts_mixed_next(&r, &part)) == KV_OK) {
            cr_assert_lt(i, n_parts);
            cr_assert_eq(part.metric, parts[i].metric);
            cr_assert_eq(part.batch, parts[i].batch);
            cr_assert_eq(ts_postings_members(ts_mixed_list(&part), members, &n), KV_OK);
            cr_assert_eq(n, parts[i].n);
            cr_assert_eq(memcmp(members, parts[i].members, n * sizeof *members), 0);
            i++;
        }
        cr_assert_eq(rc, KV_END);
        cr_assert_eq(i, n_parts);
    }
    ts_mixed_release(&w);
}

Test(postings, a_mixed_list_of_lone_members_takes_two_bytes_each)
{
    struct ts_mixed_writer w = {0};
    ts_mixed_begin(&w);
    for (uint32_t metric = 1; metric <= 100; metric++)
        cr_assert_eq(ts_mixed_add(&w, metric, 0, (const uint16_t[]){7}, 1), KV_OK);
    cr_expect_eq(w.bytes.len, 201);
    cr_expect_eq(memcmp(w.bytes.data, "\4\3\x0e\3\0", 5), 0);
    ts_mixed_release(&w);
}

Test(postings, damaged_mixed_lists_are_refused)
{
    const kv_slice bad[] = {
        KV_STR(""),
        KV_STR("\4"),                       /* nothing in it */
        KV_STR("\1\3\0"),                   /* another form */
        KV_STR("\4\1\0"),                   /* metric 0 */
        KV_STR("\4\3"),                     /* cut */
        KV_STR("\4\3\1"),                   /* series -1 */
        KV_STR("\4\3\x80\x80\x80\x80\x40"), /* series beyond 32 bits */
        KV_STR("\4\x81\x80\x80\x80\x10\0"), /* metric beyond 31 bits */
        KV_STR("\4\3\0\1\0"),               /* the same batch again */
        KV_STR("\4\2\0\0"),                 /* an empty list */
        KV_STR("\4\2\0\5\1\0"),             /* a list cut short */
        KV_STR("\4\2\x80\x80\4\2\1\0"),     /* batch 65536 */
        KV_STR("\4\2\2\2\1\0\0\1\2\1\0"),   /* batches fall */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ts_mixed_reader r;
        struct ts_mixed_part part = {0};
        kv_status rc = ts_mixed_open(&r, bad[i]);
        while (rc == KV_OK)
            rc = ts_mixed_next(&r, &part);
        cr_expect_eq(rc, KV_CORRUPT, "%zu", i);
    }
}
