#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "tests/support/clock_manual.h"
#include "tests/support/registry_kit.h"
#include "tsdb/series_internal.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct ts_resolver *resolver_of(struct registry_kit *kit)
{
    struct ts_resolver *r = NULL;
    cr_assert_eq(ts_resolver_new(kit->registry, &r), KV_OK);
    return r;
}

static uint64_t resolve(struct ts_resolver *r, const char *text, char variant)
{
    struct ts_label labels[16];
    uint64_t ref = 0;
    cr_assert_eq(registry_kit_resolve(r, labels, registry_kit_labels(text, labels), variant, &ref, NULL),
                 KV_OK);
    return ref;
}

static struct ts_registry_stats stats_of(struct registry_kit *kit)
{
    struct ts_registry_stats stats;
    ts_registry_stats(kit->registry, &stats);
    return stats;
}

static void expect_labels(struct registry_kit *kit, uint64_t ref, const char *text)
{
    struct kv_arena arena = {0};
    struct ts_label want[16], *got;
    size_t n, n_want = registry_kit_labels(text, want);
    cr_assert_eq(ts_registry_labels(kit->registry, NULL, ref, &arena, &got, &n, NULL), KV_OK, "%s", text);
    cr_expect_eq(ts_labels_compare(want, n_want, got, n), 0, "%s", text);
    kv_arena_release(&arena);
}

Test(series, refs_are_given_in_order_and_kept)
{
    struct registry_kit kit = {0};
    registry_kit_open(&kit);
    cr_expect_eq(registry_kit_add(&kit, "up job=a"), ts_ref_of(1, 0));
    cr_expect_eq(registry_kit_add(&kit, "up job=b"), ts_ref_of(1, 1));
    cr_expect_eq(registry_kit_add(&kit, "down job=a"), ts_ref_of(2, 0));
    cr_expect_eq(registry_kit_add(&kit, "up job=a"), ts_ref_of(1, 0));
    cr_expect_eq(stats_of(&kit).series, 3);
    registry_kit_reopen(&kit);
    cr_expect_eq(stats_of(&kit).series, 3);
    cr_expect_eq(registry_kit_add(&kit, "up job=b"), ts_ref_of(1, 1));
    cr_expect_eq(registry_kit_add(&kit, "up"), ts_ref_of(1, 2));
    cr_expect_eq(registry_kit_add(&kit, "new x=y"), ts_ref_of(3, 0));
    expect_labels(&kit, ts_ref_of(1, 1), "up job=b");
    expect_labels(&kit, ts_ref_of(3, 0), "new x=y");

    struct kv_arena arena = {0};
    struct ts_label *labels;
    size_t n;
    cr_expect_eq(ts_registry_labels(kit.registry, NULL, ts_ref_of(3, 1), &arena, &labels, &n, NULL),
                 KV_NOT_FOUND);
    uint32_t metric, next;
    cr_expect_eq(ts_registry_metric(kit.registry, NULL, KV_STR("up"), &metric, &next, NULL), KV_OK);
    cr_expect(metric == 1 && next == 3);
    cr_expect_eq(ts_registry_metric(kit.registry, NULL, KV_STR("nope"), &metric, NULL, NULL), KV_NOT_FOUND);
    uint64_t ref;
    struct ts_label given[16];
    cr_expect_eq(ts_registry_find(kit.registry, given, registry_kit_labels("new x=y", given), &ref, NULL),
                 KV_OK);
    cr_expect_eq(ref, ts_ref_of(3, 0));
    cr_expect_eq(ts_registry_find(kit.registry, given, registry_kit_labels("new x=z", given), &ref, NULL),
                 KV_NOT_FOUND);
    registry_kit_close(&kit);
}

Test(series, two_spellings_of_one_series_share_its_ref)
{
    struct registry_kit kit = {0};
    registry_kit_open(&kit);
    struct ts_resolver *r = resolver_of(&kit);
    uint64_t a = resolve(r, "up job=a", 'x'), b = resolve(r, "up job=a", 'y'),
             c = resolve(r, "up job=a", 'x');
    cr_expect(ts_ref_is_new(a) && a == b && b == c);
    cr_expect_eq(ts_resolver_new_count(r), 1);
    registry_kit_commit(&kit, r, NULL);
    cr_expect_eq(ts_resolver_created(r), 1);
    cr_expect_eq(ts_resolver_ref(r, a), ts_ref_of(1, 0));
    ts_resolver_clear(r);
    cr_expect_eq(resolve(r, "up job=a", 'x'), ts_ref_of(1, 0));
    cr_expect_eq(resolve(r, "up job=a", 'y'), ts_ref_of(1, 0));
    cr_expect_eq(resolve(r, "up job=a", 'z'), ts_ref_of(1, 0)); /* from the registry */
    ts_resolver_clear(r);
    cr_expect_eq(stats_of(&kit).missed, 3);
    ts_resolver_free(r);
    registry_kit_close(&kit);
}

Test(series, a_repeated_body_is_foretold)
{
    struct registry_kit kit = {0};
    registry_kit_open(&kit);
    struct ts_resolver *r = resolver_of(&kit);
    char text[32];
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 100; i++) {
            (void)snprintf(text, sizeof text, "m%d i=%d", i % 3, i);
            (void)resolve(r, text, 'a');
        }
        if (round == 0)
            registry_kit_commit(&kit, r, NULL);
        ts_resolver_clear(r);
    }
    struct ts_registry_stats stats = stats_of(&kit);
    cr_expect_eq(stats.missed, 100);
    cr_expect_eq(stats.found,
                 2); /* the very first, and what follows the last row; the order itself is that of creation */
    cr_expect_eq(stats.predicted, 298);
    cr_expect_eq(stats.cache_series, 100);
    ts_resolver_free(r);
    registry_kit_close(&kit);
}

Test(series, requests_under_way_do_not_make_a_series_twice)
{
    struct registry_kit kit = {0};
    registry_kit_open(&kit);
    struct ts_resolver *a = resolver_of(&kit), *b = resolver_of(&kit);
    uint64_t ra = resolve(a, "up job=a", 'x'), rb = resolve(b, "up job=a", 'y'),
             rc = resolve(b, "up job=b", 'y');
    cr_expect(ts_ref_is_new(ra) && ts_ref_is_new(rb) && ts_ref_is_new(rc));
    registry_kit_commit(&kit, a, NULL);
    registry_kit_commit(&kit, b, NULL);
    cr_expect_eq(ts_resolver_ref(a, ra), ts_resolver_ref(b, rb));
    cr_expect_eq(ts_resolver_created(b), 1);
    ts_resolver_free(a);
    ts_resolver_free(b);
    cr_expect_eq(stats_of(&kit).series, 2);
    registry_kit_close(&kit);
}

Test(series, prepare_reads_when_the_memory_of_creations_is_too_short)
{
    struct registry_kit kit = {0};
    registry_kit_open(&kit);
    struct ts_resolver *late = resolver_of(&kit);
    uint64_t provisional = resolve(late, "up job=a", 'x');
    uint64_t ref = registry_kit_add(&kit, "up job=a");
    struct ts_resolver *many = resolver_of(&kit);
    char text[32];
    for (int part = 0; part < 2; part++) {
        for (int i = 0; i < TS_RECENT_MAX; i++) {
            (void)snprintf(text, sizeof text, "m i=%d-%d", part, i);
            (void)resolve(many, text, 'a');
        }
        registry_kit_commit(&kit, many, NULL);
        ts_resolver_clear(many);
    }
    cr_assert_gt(kit.registry->recent_floor, 0);
    registry_kit_commit(&kit, late, NULL);
    cr_expect_eq(ts_resolver_ref(late, provisional), ref);
    ts_resolver_free(late);
    ts_resolver_free(many);
    registry_kit_close(&kit);
}

Test(series, undo_takes_refs_back_newest_first)
{
    struct registry_kit kit = {0};
    registry_kit_open(&kit);
    (void)registry_kit_add(&kit, "up job=first");
    struct ts_resolver *a = resolver_of(&kit), *b = resolver_of(&kit);
    struct kv_batch *batch;
    struct kv_buf section = {0};
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    uint64_t ra = resolve(a, "up job=a", 'x'), rb = resolve(b, "other job=b", 'x');
    (void)resolve(b, "up job=a", 'x'); /* created by a, which is under way */
    cr_assert_eq(ts_resolver_stage(a), KV_OK);
    cr_assert_eq(ts_resolver_stage(b), KV_OK);
    cr_assert_eq(ts_resolver_prepare(a, 100, batch, &section), KV_OK);
    cr_assert_eq(ts_resolver_prepare(b, 101, batch, &section), KV_OK);
    cr_expect_eq(ts_resolver_ref(a, ra), ts_ref_of(1, 1));
    cr_expect_eq(ts_resolver_ref(b, rb), ts_ref_of(2, 0));
    cr_expect_eq(stats_of(&kit).series, 3);
    ts_resolver_undo(b);
    ts_resolver_undo(a);
    ts_resolver_undo(a); /* twice is fine */
    ts_resolver_clear(a);
    ts_resolver_clear(b);
    cr_expect_eq(stats_of(&kit).series, 1);
    cr_expect_eq(registry_kit_add(&kit, "third job=c"), ts_ref_of(2, 0));
    cr_expect_eq(registry_kit_add(&kit, "up job=a"), ts_ref_of(1, 1));
    kv_batch_free(batch);
    kv_buf_release(&section);
    ts_resolver_free(a);
    ts_resolver_free(b);
    registry_kit_close(&kit);
}

Test(series, rows_that_cannot_be_series_are_refused_with_a_reason)
{
#define L(n, v)                                                                                              \
    {                                                                                                        \
        KV_STR(n), KV_STR(v)                                                                                 \
    }
    static const struct {
        struct ts_label labels[4];
        size_t n;
        enum ts_reject_reason reason;
        const char *text;
    } cases[] = {
        {{L("job", "a")}, 1, TS_REJECT_LABEL_MISSING_NAME, "there is no metric name (label __name__)"},
        {{L("__name__", "")}, 1, TS_REJECT_LABEL_MISSING_NAME, "there is no metric name (label __name__)"},
        {{L("__name__", "up"), L("", "a")}, 2, TS_REJECT_LABEL_INVALID, "a label has an empty name"},
        {{L("__name__", "up"), L("a", "1"), L("a", "2")},
         3,
         TS_REJECT_LABEL_DUPLICATE,
         "label \"a\" is given twice"},
        {{L("__name__", "u\xff")},
         1,
         TS_REJECT_LABEL_INVALID,
         "the value of label \"__name__\" is not UTF-8 without NUL"},
        {{L("__name__", "up"), L("a\0b", "1")},
         2,
         TS_REJECT_LABEL_INVALID,
         "label name \"a\" is not UTF-8 without NUL"},
        {{L("__name__", "up"), L("123456789", "1")},
         2,
         TS_REJECT_LABEL_LIMIT,
         "label name \"123456789...\" has 9 bytes, at most 8 are accepted; raise "
         "ts_options.label_name_len_max"},
        {{L("__name__", "up"), L("a", "12345678901")},
         2,
         TS_REJECT_LABEL_LIMIT,
         "the value of label \"a\" has 11 bytes, at most 10 are accepted; raise "
         "ts_options.label_value_len_max"},
        {{L("__name__", "up"), L("a", "1"), L("b", "2"), L("c", "3")},
         4,
         TS_REJECT_LABEL_LIMIT,
         "a series of metric \"up\" has more than 3 labels (\"c\" is one too many); raise "
         "ts_options.labels_max"},
    };
    struct registry_kit kit = {
        .options = {.labels_max = 3, .label_name_len_max = 8, .label_value_len_max = 10}};
    registry_kit_open(&kit);
    struct ts_resolver *r = resolver_of(&kit);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ts_refusal why;
        uint64_t ref;
        cr_expect_eq(registry_kit_resolve(r, cases[i].labels, cases[i].n, 'a', &ref, &why), KV_INVALID, "%zu",
                     i);
        cr_expect_eq(why.reason, cases[i].reason, "%zu", i);
        cr_expect_str_eq(why.text, cases[i].text);
    }
    struct ts_label fine[] = {L("b", "2"), L("__name__", "up"), L("empty", "")};
    uint64_t ref;
    cr_expect_eq(registry_kit_resolve(r, fine, 3, 'a', &ref, NULL), KV_OK);
    registry_kit_commit(&kit, r, NULL);
    expect_labels(&kit, ts_resolver_ref(r, ref), "up b=2");
    ts_resolver_free(r);
    registry_kit_close(&kit);
}

Test(series, the_limit_counts_series_and_those_under_way)
{
    struct registry_kit kit = {.options = {.series_max = 3}};
    registry_kit_open(&kit);
    struct ts_resolver *a = resolver_of(&kit), *b = resolver_of(&kit);
    struct ts_label labels[16];
    struct ts_refusal why;
    uint64_t ref;
    (void)registry_kit_add(&kit, "up i=0");
    (void)resolve(a, "up i=1", 'x');
    (void)resolve(b, "up i=2", 'x');
    size_t n = registry_kit_labels("up i=3", labels);
    cr_expect_eq(registry_kit_resolve(b, labels, n, 'x', &ref, &why), KV_INVALID);
    cr_expect_eq(why.reason, TS_REJECT_SERIES_LIMIT);
    cr_expect_str_eq(why.text,
                     "a new series of metric \"up\", but there are 3 series, the most there may be; raise "
                     "ts_options.series_max");
    cr_expect_eq(resolve(b, "up i=0", 'x'), ts_ref_of(1, 0)); /* known ones go on */
    ts_resolver_clear(a);                                     /* given up: room for another */
    cr_expect_eq(registry_kit_resolve(b, labels, n, 'x', &ref, &why), KV_OK);
    registry_kit_commit(&kit, b, NULL);
    ts_resolver_clear(b);
    cr_expect_eq(stats_of(&kit).series, 3);
    cr_expect_eq(registry_kit_resolve(b, labels, registry_kit_labels("up i=4", labels), 'x', &ref, &why),
                 KV_INVALID);
    ts_resolver_free(a);
    ts_resolver_free(b);
    registry_kit_close(&kit);
}

/* The reason why a series is refused, TS_REJECT_NONE when it is not; why may be NULL. */
static enum ts_reject_reason refused(struct ts_resolver *r, const char *text, struct ts_refusal *why)
{
    struct ts_refusal own;
    struct ts_label labels[16];
    uint64_t ref;
    why = why ? why : &own;
    return registry_kit_resolve(r, labels, registry_kit_labels(text, labels), 'x', &ref, why) == KV_OK
               ? TS_REJECT_NONE
               : why->reason;
}

Test(series, the_limit_of_a_metric_counts_its_own_series_and_those_under_way)
{
    struct registry_kit kit = {.options = {.metric_series_max = 2}};
    registry_kit_open(&kit);
    struct ts_resolver *a = resolver_of(&kit), *b = resolver_of(&kit);
    struct ts_refusal why;
    (void)registry_kit_add(&kit, "up i=0");
    (void)registry_kit_add(&kit, "down i=0");
    (void)resolve(a, "up i=1", 'x');
    cr_expect_eq(refused(b, "up i=2", &why), TS_REJECT_METRIC_LIMIT);
    cr_expect_str_eq(why.text,
                     "a new series of metric \"up\", which has 2, the most one metric may have; raise "
                     "ts_options.metric_series_max");
    cr_expect_eq(refused(b, "down i=1", NULL), TS_REJECT_NONE, "another metric");
    cr_expect_eq(refused(b, "up i=0", NULL), TS_REJECT_NONE, "a known series");
    ts_resolver_clear(a);
    cr_expect_eq(refused(b, "up i=2", NULL), TS_REJECT_NONE, "room was given back");
    registry_kit_commit(&kit, b, NULL);
    ts_resolver_clear(b);
    cr_expect_eq(refused(b, "up i=3", NULL), TS_REJECT_METRIC_LIMIT);
    ts_resolver_free(a);
    ts_resolver_free(b);
    registry_kit_reopen(&kit);
    a = resolver_of(&kit);
    cr_expect_eq(refused(a, "up i=3", NULL), TS_REJECT_METRIC_LIMIT, "counted from disk");
    ts_resolver_free(a);
    registry_kit_close(&kit);
}

/* How many new series of the metric are let through before one is refused. */
static int let_through(struct ts_resolver *r, const char *metric, struct ts_refusal *why)
{
    char text[40];
    for (int i = 0;; i++) {
        (void)snprintf(text, sizeof text, "%s i=%d", metric, i);
        enum ts_reject_reason reason = refused(r, text, why);
        if (reason == TS_REJECT_NONE && i < 1000)
            continue;
        cr_assert_eq(reason, TS_REJECT_SERIES_RATE);
        return i;
    }
}

Test(series, new_series_a_second_are_bounded_by_the_monotonic_clock)
{
    struct clock_manual clock;
    struct ts_refusal why;
    clock_manual_init(&clock, 1000, 1);
    struct registry_kit kit = {.options = {.series_per_s_max = 5, .clock = &clock.base}};
    registry_kit_open(&kit);
    struct ts_resolver *r = resolver_of(&kit);
    cr_expect_eq(let_through(r, "a", &why), 5 * TS_RATE_BURST_S, "ten seconds' worth at once");
    cr_expect(why.retry_in_ms >= 200 && why.retry_in_ms <= 201, "%u", why.retry_in_ms);
    cr_expect(strstr(why.text, "more than 5 a second") && strstr(why.text, "ts_options.series_per_s_max"),
              "%s", why.text);
    registry_kit_commit(&kit, r, NULL);
    ts_resolver_clear(r);
    clock_manual_set_wall_ms(&clock, 1000000);
    cr_expect_eq(let_through(r, "b", NULL), 0, "the wall clock does not matter");
    clock_manual_advance_ms(&clock, 1000);
    cr_expect_eq(let_through(r, "c", NULL), 5);
    ts_resolver_clear(r); /* not committed: they do not count */
    cr_expect_eq(let_through(r, "d", NULL), 5);
    registry_kit_commit(&kit, r, NULL);
    ts_resolver_clear(r);
    cr_expect_eq(refused(r, "a i=3", NULL), TS_REJECT_NONE, "known ones are never held up");
    clock_manual_advance_ms(&clock, 3600000);
    cr_expect_eq(let_through(r, "e", NULL), 5 * TS_RATE_BURST_S, "no more than that is saved up");
    ts_resolver_free(r);
    registry_kit_close(&kit);
    clock_manual_release(&clock);
}

Test(series, a_full_cache_evicts_and_stays_right)
{
    struct registry_kit kit = {.options = {.cache_bytes = 1}}; /* the least: 4096 entries */
    registry_kit_open(&kit);
    struct ts_resolver *r = resolver_of(&kit);
    enum { SERIES = 10000 };
    static uint64_t refs[SERIES];
    char text[32];
    for (int i = 0; i < SERIES; i++) {
        (void)snprintf(text, sizeof text, "m i=%d", i);
        refs[i] = resolve(r, text, 'a');
    }
    registry_kit_commit(&kit, r, NULL);
    for (int i = 0; i < SERIES; i++)
        refs[i] = ts_resolver_ref(r, refs[i]);
    ts_resolver_clear(r);
    struct kv_prng prng;
    kv_prng_init(&prng, 1);
    for (int k = 0; k < 3 * SERIES; k++) {
        uint64_t i = kv_prng_below(&prng, k % 2 ? SERIES : 500);
        (void)snprintf(text, sizeof text, "m i=%d", (int)i);
        cr_assert_eq(resolve(r, text, 'a'), refs[i]);
    }
    struct ts_registry_stats stats = stats_of(&kit);
    cr_expect_eq(stats.cache_series, 4096);
    cr_expect_gt(stats.cache_evicted, 5000);
    ts_resolver_free(r);
    registry_kit_close(&kit);
}

static kv_status give_number(void *ctx, const struct ts_row *row, struct ts_label_sink *sink)
{
    char number[16];
    int n = snprintf(number, sizeof number, "%u", row->position);
    (void)ctx;
    kv_status rc = sink->add(sink, TS_METRIC_NAME, KV_STR("m"));
    return rc < 0 ? rc : sink->add(sink, KV_STR("row"), kv_slice_of(number, (size_t)n));
}

Test(series, identities_of_other_pieces_or_protocols_are_others)
{
    struct registry_kit kit = {0};
    registry_kit_open(&kit);
    struct ts_resolver *r = resolver_of(&kit);
    static char big[600];
    memset(big, 'k', sizeof big);
    const kv_slice big600 = kv_slice_of(big, 600), big599 = kv_slice_of(big, 599),
                   big240 = kv_slice_of(big, 240);
    struct ts_row rows[] = {
        {.protocol = 1, .identity = {KV_STR("ab"), KV_STR("c")}},
        {.protocol = 1, .identity = {KV_STR("a"), KV_STR("bc")}},
        {.protocol = 1, .identity = {KV_STR("abc")}},
        {.protocol = 2, .identity = {KV_STR("abc")}},
        {.protocol = 1, .identity = {KV_STR("a"), big600}},
        {.protocol = 1, .identity = {KV_STR("a"), big599}},
        {.protocol = 1, .identity = {KV_STR("a"), big240}},
    };
    enum { ROWS = sizeof rows / sizeof rows[0] };
    uint64_t refs[ROWS];
    struct ts_refusal why;
    for (uint32_t i = 0; i < ROWS; i++) {
        rows[i].position = i;
        rows[i].labels = give_number;
        cr_assert_eq(ts_resolve(r, &rows[i], &refs[i], &why, NULL), KV_OK);
        cr_expect_eq(refs[i], ts_ref_of(TS_METRIC_NEW, i));
    }
    registry_kit_commit(&kit, r, NULL);
    for (uint32_t i = 0; i < ROWS; i++)
        refs[i] = ts_resolver_ref(r, refs[i]);
    ts_resolver_clear(r);
    for (uint32_t i = 0; i < ROWS; i++) {
        uint64_t ref;
        rows[i].labels = NULL; /* known: nobody asks */
        cr_assert_eq(ts_resolve(r, &rows[i], &ref, &why, NULL), KV_OK);
        cr_expect_eq(ref, refs[i]);
    }
    ts_resolver_free(r);
    registry_kit_close(&kit);
}

Test(series, a_damaged_section_is_refused)
{
    struct registry_kit kit = {0};
    registry_kit_open(&kit);
    static const kv_slice bad[] = {KV_STR(""), KV_STR("\x80"), KV_STR("\1short"),
                                   KV_STR("\xff\xff\xff\xff\x0f")};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        kv_slice in = bad[i];
        cr_expect_eq(ts_registry_apply(kit.registry, 1, &in), KV_CORRUPT, "%zu", i);
        cr_expect_eq(in.len, bad[i].len);
    }
    kv_slice in = KV_STR("\0rest");
    cr_expect_eq(ts_registry_apply(kit.registry, 1, &in), KV_OK);
    cr_expect(kv_slice_equal(in, KV_STR("rest")));
    registry_kit_close(&kit);
}

static void put_value(struct registry_kit *kit, const struct ts_key *key, kv_slice value)
{
    struct kv_batch *batch;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put(batch, TS_SPACE_SERIES, ts_key_slice(key), value), KV_OK);
    cr_assert_eq(kv_commit(kit->db, batch, &(struct kv_commit_options){0}, NULL, NULL), KV_OK);
    kv_batch_free(batch);
}

Test(series, metrics_beyond_what_lists_can_name_are_damage)
{
    struct registry_kit kit = {0};
    struct ts_registry *other;
    struct ts_key key;
    struct kv_err err;
    uint32_t metric;
    registry_kit_open(&kit);
    (void)registry_kit_add(&kit, "up job=a");
    ts_key_metric(&key, KV_STR("down"));
    put_value(&kit, &key, KV_STR("\x80\0\0\0\0\0\0\1"));
    cr_expect_eq(ts_registry_metric(kit.registry, NULL, KV_STR("down"), &metric, NULL, &err), KV_CORRUPT);
    put_value(&kit, &key, KV_STR("\x7f\xff\xff\xff\0\0\0\1"));
    cr_expect_eq(ts_registry_metric(kit.registry, NULL, KV_STR("down"), &metric, NULL, &err), KV_OK);
    ts_key_counters(&key);
    put_value(&kit, &key, KV_STR("\x80\0\0\1\0\0\0\0\0\0\0\1"));
    cr_expect_eq(ts_registry_open(kit.db, &kit.options, &other, &err), KV_CORRUPT);
    put_value(&kit, &key, KV_STR("\0\0\0\0\0\0\0\0\0\0\0\1"));
    cr_expect_eq(ts_registry_open(kit.db, &kit.options, &other, &err), KV_CORRUPT);
    put_value(&kit, &key, KV_STR("\x80\0\0\0\0\0\0\0\0\0\0\1")); /* the last one is given out */
    cr_expect_eq(ts_registry_open(kit.db, &kit.options, &other, &err), KV_OK);
    ts_registry_close(other);
    registry_kit_close(&kit);
}

Test(series, names_too_long_for_keys_are_told_apart)
{
    struct registry_kit kit = {0};
    registry_kit_open(&kit);
    static char name[2][3000];
    struct ts_label labels[2] = {{TS_METRIC_NAME, {0}}, {KV_STR("a"), {0}}};
    uint64_t refs[2];
    struct ts_resolver *r = resolver_of(&kit);
    memset(name, 'n', sizeof name);
    name[1][2999] = 'm';
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 2; i++) {
            labels[0].value = labels[1].value = kv_slice_of(name[i], 3000);
            uint64_t ref;
            cr_assert_eq(registry_kit_resolve(r, labels, 2, 'a', &ref, NULL), KV_OK);
            cr_expect(round == 0 || ref == refs[i]);
            refs[i] = ref;
        }
        if (round == 0) {
            registry_kit_commit(&kit, r, NULL);
            for (int i = 0; i < 2; i++)
                refs[i] = ts_resolver_ref(r, refs[i]);
            ts_resolver_free(r);
            registry_kit_reopen(&kit);
            r = resolver_of(&kit);
        }
    }
    cr_expect_neq(ts_ref_metric(refs[0]), ts_ref_metric(refs[1]));
    ts_resolver_free(r);
    registry_kit_close(&kit);
}

static int allocations_left;
static bool fail_once(size_t size)
{
    (void)size;
    return allocations_left-- == 0;
}

Test(series, any_failing_allocation_leaves_a_registry_that_works)
{
    struct registry_kit kit = {0};
    registry_kit_open(&kit);
    struct ts_resolver *r = resolver_of(&kit);
    struct kv_batch *batch;
    struct kv_buf section = {0};
    struct ts_label labels[16];
    size_t n = registry_kit_labels("up job=a zone=b", labels);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    bool done = false;
    for (int nth = 0; !done && nth < 1000; nth++) {
        uint64_t ref = 0;
        allocations_left = nth;
        kv_mem_should_fail = fail_once;
        kv_status rc = registry_kit_resolve(r, labels, n, 'a', &ref, NULL);
        if (rc == KV_OK)
            rc = ts_resolver_stage(r);
        if (rc == KV_OK)
            rc = ts_resolver_prepare(r, 5, batch, &section);
        kv_mem_should_fail = NULL;
        done = rc == KV_OK && allocations_left >= 0;
        cr_assert(rc == KV_OK || rc == KV_NO_MEMORY, "%d", rc);
        if (rc == KV_OK)
            cr_expect_eq(ts_resolver_ref(r, ref), ts_ref_of(1, 0));
        ts_resolver_undo(r);
        ts_resolver_clear(r);
        kv_batch_clear(batch);
        kv_buf_clear(&section);
        cr_expect_eq(stats_of(&kit).series, 0);
        cr_expect_eq(atomic_load(&kit.registry->reserved), 0);
    }
    cr_expect(done);
    cr_expect_eq(registry_kit_add(&kit, "up job=a zone=b"), ts_ref_of(1, 0));
    kv_batch_free(batch);
    kv_buf_release(&section);
    ts_resolver_free(r);
    registry_kit_close(&kit);
}

Test(series, labels_of_many_refs_come_by_one_walk)
{
    struct registry_kit kit = {0};
    registry_kit_open(&kit);
    struct ts_resolver *r = resolver_of(&kit);
    char text[64];
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(text, sizeof text, "m%d i=%d", i % 2, i);
        (void)resolve(r, text, 'a');
    }
    registry_kit_commit(&kit, r, NULL);
    ts_resolver_free(r);
    static uint64_t refs[300];
    static struct ts_labels out[300];
    struct kv_arena arena = {0};
    for (size_t i = 0; i < 300; i++) /* near, far, absent */
        refs[i] = ts_ref_of(i < 150 ? 1 : 2, (uint32_t)(i < 100 ? i : i < 150 ? i * 3 : (i - 150) * 5));
    cr_assert_eq(ts_registry_labels_many(kit.registry, NULL, refs, 300, &arena, out, NULL), KV_OK);
    for (size_t i = 0; i < 300; i++) {
        uint32_t series = ts_ref_series(refs[i]);
        cr_assert_eq(out[i].labels != NULL, series < 500, "%zu", i);
        if (!out[i].labels)
            continue;
        (void)snprintf(text, sizeof text, "%u", series * 2 + (ts_ref_metric(refs[i]) - 1));
        cr_expect(kv_slice_equal(ts_labels_get(out[i].labels, out[i].n, KV_STR("i")), kv_slice_str(text)),
                  "%zu", i);
    }
    kv_arena_release(&arena);
    registry_kit_close(&kit);
}
