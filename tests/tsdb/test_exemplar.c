/* Exemplars: stored with the samples they come with, bounded, read back as Prometheus does. */
#include "tests/support/malloc_fault.h"
#include "tests/support/store_kit.h"
#include "tsdb/exemplar.h"
#include "tsdb/key.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct store_kit kit;

static void begin(void)
{
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
}
static void end(void)
{
    store_kit_release(&kit);
}
TestSuite(exemplar, .init = begin, .fini = end);

static kv_status give_labels(void *ctx, const struct ts_row *row, struct ts_label_sink *sink)
{
    (void)row;
    kv_status rc = sink->add(sink, KV_STR("__name__"), KV_STR("m"));
    return rc < 0 ? rc : sink->add(sink, KV_STR("i"), kv_slice_str(ctx));
}

/* One exemplar {id=ID} of series m{i=SERIES}, with a sample at its time or alone. */
static kv_status try_add(const char *series, const char *id, int64_t at_ms, double value, bool with_sample)
{
    const struct ts_label label = {KV_STR("id"), kv_slice_str(id)};
    const struct ts_exemplar e = {KIT_START_MS + at_ms, value, &label, id[0] ? 1 : 0};
    const struct ts_row row = {.protocol = TS_PROTOCOL_LABELS,
                               .position = 1,
                               .identity = {KV_STR("exemplar"), kv_slice_str(series)},
                               .labels = give_labels,
                               .labels_ctx = (void *)(uintptr_t)series,
                               .times_ms = &e.time_ms,
                               .values = &value,
                               .n = with_sample,
                               .exemplars = &e,
                               .n_exemplars = 1};
    return ts_append_row(kit.appender, &row, &kit.err);
}

static void add(const char *series, const char *id, int64_t at_ms, double value)
{
    cr_assert_eq(try_add(series, id, at_ms, value, true), KV_OK, "%s", kit.err.text);
}
static void add_alone(const char *series, const char *id, int64_t at_ms, double value)
{
    cr_assert_eq(try_add(series, id, at_ms, value, false), KV_OK, "%s", kit.err.text);
}
static void commit(void)
{
    cr_assert_eq(store_kit_commit(&kit), KV_OK, "%s", kit.err.text);
    cr_assert_eq(kit.result.rejected, 0);
}

static kv_status print(void *ctx, const struct ts_label *labels, size_t n_labels,
                       const struct ts_exemplar *exemplars, size_t n)
{
    char *out = ctx;
    size_t len = strlen(out);
    cr_assert_eq(n_labels, 2);
    len += (size_t)sprintf(out + len, "%.*s:", KV_ARG(labels[1].value));
    for (size_t i = 0; i < n; i++)
        len += (size_t)sprintf(out + len, " %.*s@%lld=%g",
                               exemplars[i].n_labels ? (int)exemplars[i].labels[0].value.len : 0,
                               exemplars[i].n_labels ? (const char *)exemplars[i].labels[0].value.data : "",
                               (long long)(exemplars[i].time_ms - KIT_START_MS), exemplars[i].value);
    sprintf(out + len, "; ");
    return KV_OK;
}

static const char *ask_in(const char *expr, int64_t from_ms, int64_t to_ms)
{
    static char out[4000];
    struct ts_query_err err;
    out[0] = 0;
    cr_assert_eq(ts_query_exemplars(kit.db, kv_slice_str(expr), from_ms, to_ms, print, out, &err), KV_OK,
                 "%s", err.text);
    return out;
}
static const char *ask(const char *expr)
{
    return ask_in(expr, INT64_MIN, INT64_MAX);
}
static uint64_t dropped(void)
{
    struct ts_stats stats;
    ts_stats(kit.db, &stats);
    return stats.exemplars_dropped;
}

static void reopen(bool crash)
{
    if (crash)
        store_kit_crash(&kit);
    else
        cr_assert_eq(store_kit_close(&kit, false), KV_OK, "%s", kit.err.text);
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
}

Test(exemplar, those_of_what_an_expression_selects_are_answered_and_survive)
{
    add("b", "x", 0, 1);
    add("b", "y", 1000, 2);
    add("a", "z", 500, 3);
    cr_expect_str_eq(ask("m"), "", "not before the commit");
    commit();
    for (int round = 0; round < 3; round++) {
        cr_expect_str_eq(ask("m"), "a: z@500=3; b: x@0=1 y@1000=2; ");
        cr_expect_str_eq(ask("sum(rate(m{i=\"a\"}[5m])) / up"), "a: z@500=3; ");
        cr_expect_str_eq(ask("m{i=\"a\"} + m{i!=\"a\"}"), "a: z@500=3; b: x@0=1 y@1000=2; ");
        cr_expect_str_eq(ask("up"), "");
        cr_expect_str_eq(ask("1 + 1"), "");
        cr_expect_str_eq(ask_in("m", KIT_START_MS + 500, KIT_START_MS + 999), "a: z@500=3; ");
        reopen(round == 0);
    }
    struct ts_query_err err;
    char out[10] = "";
    cr_expect_eq(ts_query_exemplars(kit.db, KV_STR("m{"), 0, 1, print, out, &err), KV_INVALID);
    cr_expect_eq(err.type, TS_QUERY_BAD_DATA);
}

Test(exemplar, only_what_comes_after_a_series_newest_is_kept)
{
    add("a", "x", 1000, 2);
    add_alone("a", "x", 1000, 2); /* a repeat */
    add_alone("a", "z", 999, 9);  /* older */
    add_alone("a", "w", 1000, 2); /* its labels come before */
    add_alone("a", "y", 1000, 2); /* behind */
    add_alone("a", "y", 1000, 1); /* a smaller value */
    add_alone("a", "a", 1000, 3);
    commit();
    cr_expect_str_eq(ask("m"), "a: x@1000=2 y@1000=2 a@1000=3; ");
    cr_expect_eq(dropped(), 4);
    reopen(false);
    add_alone("a", "a", 1000, 3);
    add_alone("a", "", 1001, 0);
    commit();
    cr_expect_str_eq(ask("m"), "a: x@1000=2 y@1000=2 a@1000=3 @1001=0; ");
    cr_expect_eq(dropped(), 1);
}

Test(exemplar, alone_they_need_a_series_that_is_there)
{
    add_alone("a", "lost", 0, 1);
    commit();
    cr_expect_eq(dropped(), 1);
    cr_expect_eq(kit.result.series_created, 0);
    cr_expect_eq(kit.result.seq, 0, "nothing to commit");
    add("a", "x", 0, 1);
    add_alone("a", "y", 1, 1); /* new in this request */
    commit();
    add_alone("a", "z", 2, 1); /* a commit without samples */
    commit();
    cr_expect_gt(kit.result.seq, 0);
    add_alone("a", "z", 2, 1);
    commit();
    reopen(true);
    cr_expect_str_eq(ask("m"), "a: x@0=1 y@1=1 z@2=1; ");
    add_alone("a", "u", 3, 1); /* not in the cache */
    commit();
    cr_expect_str_eq(ask("m"), "a: x@0=1 y@1=1 z@2=1 u@3=1; ");
}

Test(exemplar, bytes_are_as_documented)
{
    static const uint8_t behind_time[] = {0, 0, 0, 0, 0, 0, 0xe0, 0x3f, 2, 'i', 'd', 1, 'x'};
    uint8_t expected[16 + sizeof behind_time] = {0, 0, 0, 1, 0, 0, 0, 0};
    struct kv_pinned got = {0};
    add("a", "x", 0, 0.5);
    commit();
    for (int i = 0; i < 8; i++)
        expected[8 + i] = (uint8_t)((uint64_t)KIT_START_MS >> 8 * i);
    memcpy(expected + 16, behind_time, sizeof behind_time);
    cr_assert_eq(kv_get(ts_kv(kit.db), NULL, TS_SPACE_SERIES, KV_STR("x\0\0\0\0\0\0\0\1"), &got, NULL),
                 KV_OK);
    cr_expect(kv_slice_equal(got.value, kv_slice_of(expected, sizeof expected)));
    kv_pinned_release(&got);
}

Test(exemplar, what_will_not_do_costs_no_sample)
{
    char id[200];
    memset(id, 'x', sizeof id);
    id[127] = 0;
    add("a", id, 0, 1); /* "id" and 127: one too many */
    id[126] = 0;
    add("a", id, 1, 1);
    for (int i = 0; i < 252; i += 2) /* as many characters, twice the bytes */
        id[i % 198] = '\xc3', id[i % 198 + 1] = '\xa9';
    id[198] = 0;
    add("a", id, 2, 1);
    add("a", "\xff", 3, 1);
    commit();
    cr_expect_eq(kit.result.accepted, 4);
    cr_expect_eq(dropped(), 2);
    struct ts_stats stats;
    ts_stats(kit.db, &stats);
    cr_expect_eq(stats.exemplars, 2);
    cr_expect_eq(stats.exemplars_appended, 2);
    add("b", "old", -KIT_DAY_MS * 10000, 1);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_expect_eq(kit.result.rejected, 1);
    cr_expect_eq(dropped(), 3);
}

Test(exemplar, the_newest_are_kept_in_memory_and_on_disk)
{
    char id[20];
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    kit.options.exemplars_max = 5;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    for (int i = 0; i < 23; i++) {
        snprintf(id, sizeof id, "%d", i);
        add(i % 7 ? "a" : "b", id, i, 0);
        if (i % 4 == 0)
            commit();
    }
    commit();
    cr_expect_str_eq(ask("m"), "a: 18@18=0 19@19=0 20@20=0 22@22=0; b: 21@21=0; ");
    reopen(false);
    cr_expect_str_eq(ask("m"), "a: 18@18=0 19@19=0 20@20=0 22@22=0; b: 21@21=0; ");
    uint64_t n = 0;
    struct ts_key lower, upper;
    ts_key_kind(&lower, 'x');
    ts_key_kind(&upper, 'y');
    cr_assert_eq(
        kv_count(ts_kv(kit.db), NULL, TS_SPACE_SERIES, ts_key_slice(&lower), ts_key_slice(&upper), &n, NULL),
        KV_OK);
    cr_expect_eq(n, 5);
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    kit.options.exemplars_max = 2;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_expect_str_eq(ask("m"), "a: 22@22=0; b: 21@21=0; ");
    cr_assert_eq(
        kv_count(ts_kv(kit.db), NULL, TS_SPACE_SERIES, ts_key_slice(&lower), ts_key_slice(&upper), &n, NULL),
        KV_OK);
    cr_expect_eq(n, 2);
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    kit.options.exemplars_max = 1000;
    kit.options.exemplars_off = true;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    add("a", "off", 100, 0);
    commit();
    cr_expect_str_eq(ask("m"), "a: 22@22=0; b: 21@21=0; ");
}

Test(exemplar, a_commit_that_fails_takes_its_numbers_back)
{
    struct ts_exemplars *ex;
    struct ts_exemplar_list a = {0}, b = {0};
    struct kv_batch *batch;
    struct kv_arena arena = {0};
    struct ts_exemplar e = {.time_ms = 1, .value = 1}, *got;
    size_t n;
    cr_assert_eq(ts_exemplars_new(4, &ex), KV_OK);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(ts_exemplar_list_add(&a, 7, &e), KV_OK);
    cr_assert_eq(ts_exemplars_prepare(ex, &a, NULL, batch), KV_OK);
    ts_exemplars_publish(ex, &a);
    ts_exemplar_list_clear(&a, 0);
    for (int i = 2; i < 4; i++) {
        e.time_ms = i;
        cr_assert_eq(ts_exemplar_list_add(i == 2 ? &a : &b, 7, &e), KV_OK);
    }
    cr_assert_eq(ts_exemplars_prepare(ex, &a, NULL, batch), KV_OK);
    cr_assert_eq(ts_exemplars_prepare(ex, &b, NULL, batch), KV_OK);
    cr_assert_eq(ts_exemplars_of(ex, 7, 0, 10, &arena, &got, &n), KV_OK);
    cr_expect_eq(n, 1, "what is under way is not seen");
    ts_exemplars_undo(ex, &b);
    ts_exemplars_undo(ex, &a);
    cr_expect_eq(ts_exemplars_count(ex), 1);
    cr_assert_eq(ts_exemplars_prepare(ex, &a, NULL, batch), KV_OK); /* again: it is no repeat */
    cr_expect_eq(a.taken, 1);
    cr_expect_eq(a.first, 2);
    ts_exemplars_publish(ex, &a);
    cr_assert_eq(ts_exemplars_of(ex, 7, 0, 10, &arena, &got, &n), KV_OK);
    cr_expect(n == 2 && got[0].time_ms == 1 && got[1].time_ms == 2);
    kv_arena_release(&arena);
    kv_batch_free(batch);
    ts_exemplar_list_release(&a);
    ts_exemplar_list_release(&b);
    ts_exemplars_free(ex);
}

Test(exemplar, any_failing_allocation_stores_all_of_a_request_or_nothing)
{
    char id[160];
    int64_t at = 0;
    for (uint64_t nth = 1, fired = true; fired; nth++, at++) {
        static char out[40000];
        struct ts_query_err err;
        struct ts_stats stats;
        snprintf(id, sizeof id, "%llu", (unsigned long long)nth);
        malloc_fault_arm(nth, false);
        kv_status rc = try_add(id, id, at, 1, true);
        if (rc == KV_OK)
            rc = try_add(id, id, at + 1, 2, false);
        if (rc == KV_OK)
            rc = ts_commit(kit.appender, &kit.result, &kit.err);
        fired = malloc_fault_disarm();
        cr_assert(rc == KV_OK || fired, "%s", kit.err.text);
        ts_stats(kit.db, &stats);
        cr_assert_eq(stats.exemplars_appended, rc == KV_OK ? 2 : 0, "allocation %llu",
                     (unsigned long long)nth);
        reopen(true); /* the head may have failed */
        out[0] = 0;
        cr_assert_eq(ts_query_exemplars(kit.db, KV_STR("m"), INT64_MIN, INT64_MAX, print, out, &err), KV_OK);
        snprintf(id, sizeof id, "%llu: %llu@%lld=1 %llu@%lld=2; ", (unsigned long long)nth,
                 (unsigned long long)nth, (long long)at, (unsigned long long)nth, (long long)at + 1);
        cr_assert_eq(strstr(out, id) != NULL, rc == KV_OK, "allocation %llu: %s", (unsigned long long)nth,
                     out);
    }
}

Test(exemplar, damage_is_found_and_costs_no_more_than_exemplars)
{
    struct kv_batch *batch;
    struct ts_key key;
    add("a", "x", 0, 1);
    commit();
    ts_key_exemplar(&key, 1);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put(batch, TS_SPACE_SERIES, ts_key_slice(&key), KV_STR("short")), KV_OK);
    cr_assert_eq(kv_commit(ts_kv(kit.db), batch, NULL, NULL, NULL), KV_OK);
    kv_batch_free(batch);
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    const struct kv_env_options options = {
        .vfs = kit.vfs, .clock = &kit.clock.base, .threads = KV_THREADS_NONE};
    struct kv_env *env;
    cr_assert_eq(kv_env_open(&options, &env, NULL), KV_OK);
    cr_expect_eq(ts_check(env, "db", NULL, NULL, &kit.err), KV_CORRUPT);
    kv_env_close(env);
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
    cr_expect_str_eq(ask("m"), "");
}
