/* Select, label names and values against a naive model, in every place where series can be. */
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "tests/support/registry_kit.h"
#include "tsdb/index.h"
#include "tsdb/index_internal.h"
#include "tsdb/query/limits.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { SERIES = 3000, LABELS_MAX = 6, WINDOWS = 4 };

struct model_series {
    char text[160];
    struct ts_label labels[16];
    size_t n;
    uint64_t ref;
    bool active[WINDOWS];
};

struct world {
    struct registry_kit kit;
    struct model_series *series; /* SERIES */
    struct ts_activity *head;    /* NULL: all is in kvcore */
    struct kv_prng prng;
    uint64_t metrics; /* few, or more than are sought one by one */
};

static const char *const names[] = {"job", "instance", "zone", "path", "a"};

static void make_series(struct world *w, struct model_series *s, int i)
{
    int n = snprintf(s->text, sizeof s->text, "metric_%d i=%d", (int)kv_prng_below(&w->prng, w->metrics), i);
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        static const uint64_t values[] = {3, 700, 4, 40, 2};
        if (kv_prng_below(&w->prng, 5) == 0)
            continue;
        n += snprintf(s->text + n, sizeof s->text - (size_t)n, " %s=%c%d", names[k],
                      "vwx"[kv_prng_below(&w->prng, 3)], (int)kv_prng_below(&w->prng, values[k]));
    }
    s->n = registry_kit_labels(s->text, s->labels);
    for (int day = 0; day < WINDOWS; day++)
        s->active[day] = kv_prng_below(&w->prng, 3) > 0;
    s->active[3] = i % 7 == 0;
}

static void activity_add(struct world *w, struct ts_activity *activity)
{
    for (int i = 0; i < SERIES; i++)
        for (int day = 0; day < WINDOWS; day++)
            if (w->series[i].active[day])
                cr_assert_eq(ts_activity_add(activity, day - 1, w->series[i].ref), KV_OK);
}

static void world_open(struct world *w, uint64_t seed)
{
    *w = (struct world){.metrics = seed % 2 ? 4 : 20};
    kv_prng_init(&w->prng, seed);
    registry_kit_open(&w->kit);
    w->series = calloc(SERIES, sizeof *w->series);
    struct ts_resolver *r = NULL;
    cr_assert_eq(ts_resolver_new(w->kit.registry, &r), KV_OK);
    for (int i = 0, done = 0; i < SERIES; i++) {
        struct model_series *s = &w->series[i];
        make_series(w, s, i);
        cr_assert_eq(registry_kit_resolve(r, s->labels, s->n, 'a', &s->ref, NULL), KV_OK);
        if (kv_prng_below(&w->prng, 200) > 0 && i < SERIES - 1)
            continue;
        registry_kit_commit(&w->kit, r, NULL); /* a request of some hundred series */
        for (; done <= i; done++)
            w->series[done].ref = ts_resolver_ref(r, w->series[done].ref);
        ts_resolver_clear(r);
    }
    ts_resolver_free(r);
    cr_assert_eq(ts_activity_new(&w->head), KV_OK);
    activity_add(w, w->head);
}

static void world_close(struct world *w)
{
    ts_activity_free(w->head);
    registry_kit_close(&w->kit);
    free(w->series);
}

/* The head's activity to kvcore, as a flush does. */
static void world_flush(struct world *w)
{
    struct kv_batch *batch;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(ts_index_put_activity(w->kit.registry, w->head, batch, NULL), KV_OK);
    cr_assert_eq(kv_commit(w->kit.db, batch, &(struct kv_commit_options){0}, NULL, NULL), KV_OK);
    kv_batch_clear(batch);
    cr_assert_eq(ts_index_put_activity(w->kit.registry, w->head, batch, NULL), KV_OK);
    cr_expect_eq(kv_batch_count(batch), 0); /* nothing new, nothing written */
    kv_batch_free(batch);
    ts_activity_free(w->head);
    w->head = NULL;
}

/* ---- random questions ---------------------------------------------------------------------------------- */

struct question {
    struct ts_matcher matchers[4];
    char text[4][2][64]; /* name, pattern */
    struct ts_select select;
    const struct ts_activity *heads[1];
};

static void random_pattern(struct kv_prng *prng, const char *name, bool regex, char *out, size_t size)
{
    static const char *const patterns[] = {".*",     ".+",        "v.*", "",       "v1|w2|x3",
                                           "v1|",    "[vw]\\d+",  ".*1", "v(1|2)", "w1.*|v.",
                                           "(?i)V1", "nothing.*", "x",   "v.?",    ".*[02468]"};
    bool metric = name[0] == '_';
    if (regex && metric)
        (void)snprintf(out, size, "%s", kv_prng_below(prng, 2) ? "metric_[12]" : "metric_1|metric_3|other");
    else if (metric)
        (void)snprintf(out, size, "metric_%d", (int)kv_prng_below(prng, 5));
    else if (regex)
        (void)snprintf(out, size, "%s", patterns[kv_prng_below(prng, sizeof patterns / sizeof patterns[0])]);
    else if (kv_prng_below(prng, 5) == 0)
        out[0] = 0;
    else
        (void)snprintf(out, size, "%c%d", "vwx"[kv_prng_below(prng, 3)], (int)kv_prng_below(prng, 4));
}

static void ask(struct world *w, struct question *q)
{
    struct kv_prng *prng = &w->prng;
    *q = (struct question){0};
    q->select.n_matchers = kv_prng_below(prng, 4);
    for (size_t i = 0; i < q->select.n_matchers; i++) {
        uint64_t which = kv_prng_below(prng, 9);
        enum ts_match_op op = (enum ts_match_op)kv_prng_below(prng, 4);
        const char *name = which < 5 ? names[which] : which == 5 ? "absent" : which == 6 ? "i" : "__name__";
        (void)snprintf(q->text[i][0], sizeof q->text[i][0], "%s", name);
        random_pattern(prng, name, op >= TS_MATCH_RE, q->text[i][1], sizeof q->text[i][1]);
        cr_assert_eq(ts_matcher_init(&q->matchers[i], op, kv_slice_str(q->text[i][0]),
                                     kv_slice_str(q->text[i][1]), NULL),
                     KV_OK);
    }
    int64_t from = (int64_t)kv_prng_below(prng, WINDOWS + 2) - 2, to = from + (int64_t)kv_prng_below(prng, 3);
    q->select.matchers = q->matchers;
    q->select.from_ms = from * TS_WINDOW_MS + (int64_t)kv_prng_below(prng, TS_WINDOW_MS);
    q->select.to_ms = to * TS_WINDOW_MS + (int64_t)kv_prng_below(prng, TS_WINDOW_MS);
    if (kv_prng_below(prng, 5) == 0) {
        q->select.from_ms = INT64_MIN;
        q->select.to_ms = INT64_MAX;
    }
    q->heads[0] = w->head;
    q->select.heads = q->heads;
    q->select.n_heads = w->head ? 1 : 0;
}

static void forget(struct question *q)
{
    for (size_t i = 0; i < q->select.n_matchers; i++)
        ts_matcher_release(&q->matchers[i]);
}

static bool fits(const struct question *q, const struct model_series *s)
{
    bool active = false;
    for (int day = 0; day < WINDOWS; day++)
        active = active || (s->active[day] && day - 1 >= ts_window_of(q->select.from_ms) &&
                            day - 1 <= ts_window_of(q->select.to_ms));
    for (size_t i = 0; active && i < q->select.n_matchers; i++)
        active = ts_matcher_matches(&q->matchers[i], ts_labels_get(s->labels, s->n, q->matchers[i].name));
    return active && q->select.from_ms <= q->select.to_ms;
}

static int u64_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static const char *show(const struct question *q)
{
    static char out[400];
    int n = snprintf(out, sizeof out, "{");
    for (size_t i = 0; i < q->select.n_matchers; i++)
        n += snprintf(out + n, sizeof out - (size_t)n, "%s%s\"%s\" ", q->text[i][0],
                      (const char *const[]){"=", "!=", "=~", "!~"}[q->matchers[i].op], q->text[i][1]);
    (void)snprintf(out + n, sizeof out - (size_t)n, "} days %d to %d", ts_window_of(q->select.from_ms),
                   ts_window_of(q->select.to_ms));
    return out;
}

static size_t check_select(struct world *w, const struct question *q)
{
    static uint64_t want[SERIES];
    uint64_t *refs;
    size_t n, n_want = 0;
    for (int i = 0; i < SERIES; i++)
        if (fits(q, &w->series[i]))
            want[n_want++] = w->series[i].ref;
    qsort(want, n_want, sizeof *want, u64_order);
    struct kv_err err = {0};
    cr_assert_eq(ts_index_select(w->kit.registry, &q->select, &refs, &n, &err), KV_OK, "%s: %s", show(q),
                 err.text);
    cr_assert_eq(n, n_want, "%s: %zu series, not %zu", show(q), n, n_want);
    cr_assert(n == 0 || memcmp(refs, want, n * sizeof *refs) == 0, "%s", show(q));
    kv_free(refs);
    return n;
}

struct listed {
    kv_slice at[SERIES * 2];
    size_t n;
    struct kv_arena arena;
};

static kv_status list_add(void *ctx, kv_slice text)
{
    struct listed *l = ctx;
    l->at[l->n] = kv_arena_copy(&l->arena, text);
    cr_assert(l->n == 0 || kv_slice_compare(l->at[l->n - 1], text) < 0, "not sorted or twice");
    l->n++;
    return KV_OK;
}

static bool list_has(const struct listed *l, kv_slice text)
{
    size_t lo = 0, hi = l->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (kv_slice_compare(l->at[mid], text) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < l->n && kv_slice_equal(l->at[lo], text);
}

static int slice_order(const void *a, const void *b)
{
    return kv_slice_compare(*(const kv_slice *)a, *(const kv_slice *)b);
}

/* Names of fitting series (name empty) or values of one label: as many, and each is there. */
static void check_list(struct world *w, const struct question *q, kv_slice name)
{
    static struct listed got;
    static kv_slice want[SERIES * 8];
    size_t n = 0, distinct = 0;
    got = (struct listed){0};
    if (name.len == 0)
        cr_assert_eq(ts_index_label_names(w->kit.registry, &q->select, list_add, &got, NULL), KV_OK);
    else
        cr_assert_eq(ts_index_label_values(w->kit.registry, &q->select, name, list_add, &got, NULL), KV_OK);
    for (int i = 0; i < SERIES; i++) {
        const struct model_series *s = &w->series[i];
        if (!fits(q, s))
            continue;
        for (size_t k = 0; k < s->n; k++)
            if (name.len == 0 || kv_slice_equal(s->labels[k].name, name))
                want[n++] = name.len == 0 ? s->labels[k].name : s->labels[k].value;
    }
    qsort(want, n, sizeof *want, slice_order);
    for (size_t i = 0; i < n; i++) {
        distinct += i == 0 || !kv_slice_equal(want[i], want[i - 1]);
        cr_assert(list_has(&got, want[i]), "%s lacks %.*s", show(q), KV_ARG(want[i]));
    }
    cr_assert_eq(got.n, distinct, "%s", show(q));
    kv_arena_release(&got.arena);
}

static void check_world(struct world *w, int questions)
{
    size_t large = 0;
    for (int i = 0; i < questions; i++) {
        struct question q;
        ask(w, &q);
        large += check_select(w, &q) > TS_INDEX_DIRECT_MAX;
        if (i % 10 == 0) {
            check_list(w, &q, KV_STR(""));
            check_list(w, &q, kv_slice_str(names[kv_prng_below(&w->prng, 5)]));
            check_list(w, &q, TS_METRIC_NAME);
            check_list(w, &q, KV_STR("absent"));
        }
        forget(&q);
    }
    cr_expect_gt(large, 5, "only small answers");
}

static void check_places(uint64_t seed)
{
    struct world w;
    world_open(&w, seed);
    check_world(&w, 300); /* in a head */
    world_flush(&w);
    check_world(&w, 300); /* in kvcore's memory */
    cr_assert_eq(kv_flush(w.kit.db, NULL), KV_OK);
    check_world(&w, 100); /* in tables */
    registry_kit_reopen(&w.kit);
    check_world(&w, 100);
    cr_assert_eq(kv_merge_range(w.kit.db, TS_SPACE_INDEX, KV_STR(""), KV_STR(""), NULL), KV_OK);
    check_world(&w, 300); /* lists united */
    world_close(&w);
}

Test(index, answers_as_the_model_does_wherever_series_are)
{
    check_places(41);
}

Test(index, answers_as_the_model_does_with_many_metrics)
{
    check_places(42);
}

Test(index, merging_makes_one_list_of_several)
{
    struct registry_kit kit = {0};
    registry_kit_open(&kit);
    char text[32];
    for (int i = 0; i < 50; i++) {
        (void)snprintf(text, sizeof text, "up job=a i=%d", i);
        (void)registry_kit_add(&kit, text);
    }
    struct kv_iter *it;
    struct ts_key key, behind;
    ts_key_postings_value(&key, KV_STR("job"), KV_STR("a"));
    behind = key;
    (void)ts_key_successor(&behind);
    size_t lists[2] = {0};
    for (int merged = 0; merged < 2; merged++) {
        if (merged)
            cr_assert_eq(kv_merge_range(kit.db, TS_SPACE_INDEX, KV_STR(""), KV_STR(""), NULL), KV_OK);
        cr_assert_eq(
            kv_iter_open(kit.db, NULL, TS_SPACE_INDEX, ts_key_slice(&key), ts_key_slice(&behind), &it),
            KV_OK);
        for (kv_status rc = kv_iter_seek(it, KV_STR("")); rc == KV_OK; rc = kv_iter_next(it))
            lists[merged]++;
        kv_iter_close(it);
    }
    cr_expect_eq(lists[0], 50);
    cr_expect_eq(lists[1], 1);
    registry_kit_close(&kit);
}

/* The tails of the lists of job="a", and how many lists there are. */
static size_t tails_of(struct registry_kit *kit, struct ts_postings_key *tails, size_t max)
{
    struct kv_iter *it;
    struct ts_key key, behind;
    size_t n = 0;
    ts_key_postings_value(&key, KV_STR("job"), KV_STR("a"));
    behind = key;
    (void)ts_key_successor(&behind);
    cr_assert_eq(kv_iter_open(kit->db, NULL, TS_SPACE_INDEX, ts_key_slice(&key), ts_key_slice(&behind), &it),
                 KV_OK);
    for (kv_status rc = kv_iter_seek(it, KV_STR("")); rc == KV_OK && n < max; rc = kv_iter_next(it))
        cr_assert_eq(ts_key_postings_tail_read(it->key, &tails[n++]), KV_OK);
    kv_iter_close(it);
    return n;
}

Test(index, merging_gives_much_of_one_metric_a_list_of_its_own)
{
    struct registry_kit kit = {0};
    struct ts_postings_key tails[8];
    registry_kit_open(&kit);
    char text[32];
    for (int i = 0; i < 100; i++) { /* 64 of m3, one each of m0 to m9 but 2 */
        (void)snprintf(text, sizeof text, "m%d job=a i=%d", i < 10 ? i : 3, i);
        if (i != 2 && i < 73)
            (void)registry_kit_add(&kit, text);
    }
    cr_assert_eq(kv_merge_range(kit.db, TS_SPACE_INDEX, KV_STR(""), KV_STR(""), NULL), KV_OK);
    cr_assert_eq(tails_of(&kit, tails, 8), 2);
    cr_expect_eq(tails[0].metric, 3, "by order of creation");
    cr_expect_eq(tails[0].first, 0);
    cr_expect_eq(tails[1].metric, TS_POSTINGS_MIXED | 1);
    for (int i = 100; i < 103; i++) { /* new ones beside merged ones, of metrics below, at and above it */
        (void)snprintf(text, sizeof text, "m%d job=a i=%d", i == 100 ? 0 : i == 101 ? 3 : 9, i);
        (void)registry_kit_add(&kit, text);
    }
    cr_assert_eq(tails_of(&kit, tails, 8), 5);
    for (int merged = 0; merged < 2; merged++) {
        struct ts_index_read read;
        struct ts_key key;
        cr_assert_eq(ts_index_read_open(kit.registry, NULL, NULL, NULL, &read), KV_OK);
        ts_key_postings_value(&key, KV_STR("job"), KV_STR("a"));
        for (uint32_t metric = 1; metric <= 9; metric++) {
            const struct ts_index_scope scope = {metric, metric, NULL};
            struct ts_refset set = {0};
            cr_assert_eq(ts_index_lists_add(&read, &key, &scope, &set), KV_OK);
            cr_expect_eq(ts_refset_count(&set),
                         metric == 3                  ? 65
                         : metric == 1 || metric == 9 ? 2
                                                      : 1,
                         "%u", metric);
            ts_refset_release(&set);
        }
        ts_index_read_close(&read);
        if (!merged)
            cr_assert_eq(kv_merge_range(kit.db, TS_SPACE_INDEX, KV_STR(""), KV_STR(""), NULL), KV_OK);
    }
    cr_assert_eq(tails_of(&kit, tails, 8), 2);
    registry_kit_close(&kit);
}

static kv_status count_text(void *ctx, kv_slice text)
{
    (void)text;
    ++*(size_t *)ctx;
    return KV_OK;
}

Test(index, values_of_a_label_that_churns_are_those_of_the_series)
{
    struct registry_kit kit = {0};
    struct ts_activity *head;
    size_t n = 0;
    char text[40];
    registry_kit_open(&kit);
    cr_assert_eq(ts_activity_new(&head), KV_OK);
    for (int i = 0; i < 2000;
         i++) { /* more values than are asked for one by one, more series than are always read */
        (void)snprintf(text, sizeof text, "up job=a pod=p%d", i);
        uint64_t ref = registry_kit_add(&kit, text);
        cr_assert_eq(ts_activity_add(head, i % 3 == 0, ref), KV_OK);
    }
    const struct ts_activity *heads[] = {head};
    struct ts_select select = {.heads = heads, .n_heads = 1, .from_ms = TS_WINDOW_MS, .to_ms = TS_WINDOW_MS};
    cr_assert_eq(ts_index_label_values(kit.registry, &select, KV_STR("pod"), count_text, &n, NULL), KV_OK);
    cr_expect_eq(n, 667);
    n = 0;
    select.from_ms = 0;
    cr_assert_eq(ts_index_label_values(kit.registry, &select, KV_STR("pod"), count_text, &n, NULL), KV_OK);
    cr_expect_eq(n, 2000);
    ts_activity_free(head);
    registry_kit_close(&kit);
}

Test(index, what_a_listing_holds_counts_in_its_budget_and_repeats_go)
{
    struct registry_kit kit = {0};
    struct ts_activity *head;
    char text[160];
    size_t n = 0;
    registry_kit_open(&kit);
    cr_assert_eq(ts_activity_new(&head), KV_OK);
    for (int i = 0; i < 8000; i++) { /* each value five times, too many values to be asked for one by one */
        (void)snprintf(text, sizeof text, "up job=j%d pod=%0100d", i, i % 1600);
        cr_assert_eq(ts_activity_add(head, 0, registry_kit_add(&kit, text)), KV_OK);
    }
    const struct ts_activity *heads[] = {head};
    struct ts_budget budget = {.samples_max = UINT64_MAX, .bytes_max = 1 << 20};
    struct ts_select select = {.heads = heads, .n_heads = 1, .budget = &budget};
    cr_assert_eq(ts_index_label_values(kit.registry, &select, KV_STR("pod"), count_text, &n, NULL), KV_OK);
    cr_expect_eq(n, 1600);
    cr_expect_eq(budget.bytes, 0, "given back");
    cr_expect_gt(budget.bytes_peak, 1600 * 100);
    cr_expect_lt(budget.bytes_peak, 8000 * 100, "%llu", (unsigned long long)budget.bytes_peak);
    budget.bytes_max = 1600 * 100;
    cr_expect_eq(ts_index_label_values(kit.registry, &select, KV_STR("pod"), count_text, &n, NULL), KV_LIMIT);
    cr_expect_eq(budget.bytes, 0, "given back after a failure, too");
    ts_activity_free(head);
    registry_kit_close(&kit);
}

Test(index, a_head_ahead_of_the_snapshot_adds_nothing_unknown)
{
    struct registry_kit kit = {0};
    struct ts_activity *head;
    struct kv_snapshot *snapshot;
    registry_kit_open(&kit);
    cr_assert_eq(ts_activity_new(&head), KV_OK);
    uint64_t before = registry_kit_add(&kit, "up i=1");
    cr_assert_eq(kv_snapshot_open(kit.db, &snapshot), KV_OK);
    uint64_t after = registry_kit_add(&kit, "up i=2"), other = registry_kit_add(&kit, "other i=2");
    cr_assert_eq(ts_activity_add(head, 0, before), KV_OK);
    cr_assert_eq(ts_activity_add(head, 0, after), KV_OK);
    cr_assert_eq(ts_activity_add(head, 0, other), KV_OK);
    const struct ts_activity *heads[] = {head};
    struct ts_select select = {.snapshot = snapshot, .heads = heads, .n_heads = 1};
    uint64_t *refs;
    size_t n;
    cr_assert_eq(ts_index_select(kit.registry, &select, &refs, &n, NULL), KV_OK);
    cr_assert_eq(n, 1);
    cr_expect_eq(refs[0], before);
    kv_free(refs);
    select.snapshot = NULL;
    cr_assert_eq(ts_index_select(kit.registry, &select, &refs, &n, NULL), KV_OK);
    cr_expect_eq(n, 3);
    kv_free(refs);
    kv_snapshot_close(snapshot);
    ts_activity_free(head);
    registry_kit_close(&kit);
}

Test(index, values_too_long_for_keys_are_matched_by_labels)
{
    struct registry_kit kit = {0};
    struct ts_activity *head;
    struct ts_resolver *r = NULL;
    static char value[3][4000];
    uint64_t refs[600], *found;
    size_t n;
    registry_kit_open(&kit);
    cr_assert_eq(ts_activity_new(&head), KV_OK);
    cr_assert_eq(ts_resolver_new(kit.registry, &r), KV_OK);
    memset(value, 'v', sizeof value);
    value[1][3999] = 'w';
    char number[16];
    for (size_t i = 0; i < 600; i++) {
        int len = snprintf(number, sizeof number, "%zu", i);
        struct ts_label labels[] = {{TS_METRIC_NAME, KV_STR("up")},
                                    {KV_STR("i"), kv_slice_of(number, (size_t)len)},
                                    {KV_STR("long"), kv_slice_of(value[i % 3], i % 3 == 2 ? 3 : 4000)}};
        cr_assert_eq(registry_kit_resolve(r, labels, 3, 'a', &refs[i], NULL), KV_OK);
    }
    registry_kit_commit(&kit, r, NULL);
    for (size_t i = 0; i < 600; i++)
        cr_assert_eq(ts_activity_add(head, 0, ts_resolver_ref(r, refs[i])), KV_OK);
    ts_resolver_free(r);
    const struct ts_activity *heads[] = {head};
    static const struct {
        enum ts_match_op op;
        const char *regex; /* NULL: the second long value */
        size_t n;
    } cases[] = {{TS_MATCH_EQ, NULL, 200},    {TS_MATCH_NE, NULL, 400},   {TS_MATCH_RE, "v.*w", 200},
                 {TS_MATCH_NRE, "v.*w", 400}, {TS_MATCH_RE, "vvv", 200},  {TS_MATCH_NRE, "v+", 200},
                 {TS_MATCH_NRE, "v*", 200},   {TS_MATCH_RE, "v{3}|", 200}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ts_matcher m;
        kv_slice pattern = cases[i].regex ? kv_slice_str(cases[i].regex) : kv_slice_of(value[1], 4000);
        cr_assert_eq(ts_matcher_init(&m, cases[i].op, KV_STR("long"), pattern, NULL), KV_OK);
        struct ts_select select = {.matchers = &m, .n_matchers = 1, .heads = heads, .n_heads = 1};
        cr_assert_eq(ts_index_select(kit.registry, &select, &found, &n, NULL), KV_OK);
        cr_expect_eq(n, cases[i].n, "case %zu: %zu", i, n);
        kv_free(found);
        ts_matcher_release(&m);
    }
    static struct listed got;
    struct ts_select select = {.heads = heads, .n_heads = 1};
    cr_assert_eq(ts_index_label_values(kit.registry, &select, KV_STR("long"), list_add, &got, NULL), KV_OK);
    cr_assert_eq(got.n, 3);
    cr_expect(kv_slice_equal(got.at[2], kv_slice_of(value[1], 4000)));
    kv_arena_release(&got.arena);
    ts_activity_free(head);
    registry_kit_close(&kit);
}

static kv_status count_metric(void *ctx, kv_slice name, uint32_t metric, uint32_t n_series)
{
    struct listed *l = ctx;
    cr_expect(metric > 0 && n_series > 0);
    return list_add(l, name);
}

Test(index, metrics_are_listed_and_windows_dropped)
{
    struct world w;
    world_open(&w, 7);
    world_flush(&w);
    static struct listed got;
    cr_assert_eq(ts_index_metrics(w.kit.registry, NULL, count_metric, &got, NULL), KV_OK);
    cr_expect_eq(got.n, 4);
    kv_arena_release(&got.arena);
    struct kv_batch *batch;
    size_t dropped;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(ts_index_drop_activity(w.kit.registry, INT32_MIN, 0, batch, &dropped, NULL), KV_OK);
    cr_expect_eq(dropped, 8); /* two windows of four metrics */
    cr_assert_eq(kv_commit(w.kit.db, batch, &(struct kv_commit_options){0}, NULL, NULL), KV_OK);
    kv_batch_free(batch);
    for (int i = 0; i < SERIES; i++)
        w.series[i].active[0] = w.series[i].active[1] = false;
    check_world(&w, 200);
    world_close(&w);
}

static bool always(void *ctx)
{
    (void)ctx;
    return true;
}

Test(index, budgets_stop_a_select)
{
    struct world w;
    world_open(&w, 8);
    world_flush(&w);
    struct ts_budget budget = {
        .bytes_max = 100, .samples_max = 1000, .clock = kv_clock_system(), .deadline_mono_ns = UINT64_MAX};
    struct ts_select select = {.from_ms = INT64_MIN, .to_ms = INT64_MAX, .budget = &budget};
    uint64_t *refs;
    size_t n;
    cr_expect_eq(ts_index_select(w.kit.registry, &select, &refs, &n, NULL), KV_LIMIT);
    struct ts_matcher m;
    cr_assert_eq(ts_matcher_init(&m, TS_MATCH_RE, KV_STR("instance"), KV_STR("[vw][0-9]+"), NULL), KV_OK);
    budget = (struct ts_budget){.bytes_max = 1 << 30,
                                .samples_max = 1000,
                                .clock = kv_clock_system(),
                                .deadline_mono_ns = UINT64_MAX,
                                .canceled = always};
    select.matchers = &m;
    select.n_matchers = 1;
    cr_expect_eq(ts_index_select(w.kit.registry, &select, &refs, &n, NULL), KV_CANCELED);
    cr_expect_eq(budget.bytes, 0);
    ts_matcher_release(&m);
    world_close(&w);
}

static uint64_t allocations_left;
static bool fail_once(size_t size)
{
    (void)size;
    return allocations_left-- == 0;
}

Test(index, any_failing_allocation_is_reported_never_a_wrong_answer)
{
    struct world w;
    struct ts_matcher m[2];
    const kv_slice name = KV_STR("instance");
    uint64_t *refs;
    size_t n, want;
    world_open(&w, 9);
    world_flush(&w);
    cr_assert_eq(ts_matcher_init(&m[0], TS_MATCH_NRE, name, KV_STR("[vw][0-9]+|x1"), NULL), KV_OK);
    cr_assert_eq(ts_matcher_init(&m[1], TS_MATCH_RE, TS_METRIC_NAME, KV_STR("metric_[0-2]"), NULL), KV_OK);
    struct ts_select select = {.matchers = m, .n_matchers = 2, .to_ms = TS_WINDOW_MS};
    cr_assert_eq(ts_index_select(w.kit.registry, &select, &refs, &want, NULL), KV_OK);
    cr_expect_gt(want, 0);
    kv_free(refs);
    bool done = false;
    for (uint64_t nth = 0; !done; nth++) {
        allocations_left = nth;
        kv_mem_should_fail = fail_once;
        kv_status rc = ts_index_select(w.kit.registry, &select, &refs, &n, NULL);
        kv_mem_should_fail = NULL;
        done = rc == KV_OK && allocations_left < UINT64_MAX / 2;
        cr_assert(rc == KV_OK ? n == want : rc == KV_NO_MEMORY, "allocation %d: %d", (int)nth, rc);
        kv_free(refs);
        nth += nth / 8;
    }
    ts_matcher_release(&m[0]);
    ts_matcher_release(&m[1]);
    world_close(&w);
}

Test(index, damaged_entries_are_reported)
{
    static const struct {
        uint32_t space;
        kv_slice key, value;
    } bad[] = {
        {TS_SPACE_INDEX, KV_STR("a\x80\0\0\0\0\0\0\1\0\7"), KV_STR("\1")}, /* activity: an empty list */
        {TS_SPACE_INDEX, KV_STR("a\x80\0\0\0\0"), KV_STR("\1\0")},         /* activity: a short key */
        {TS_SPACE_INDEX, KV_STR("pjob\0\0a\0\0\0\0\0\1\0\0\0\7"), KV_STR("\7")},
        {TS_SPACE_INDEX, KV_STR("pjob\0\0a"), KV_STR("\1\0")},
        {TS_SPACE_SERIES, KV_STR("mup\0\0"), KV_STR("short")},
        {TS_SPACE_SERIES, KV_STR("mup"), KV_STR("\0\0\0\1\0\0\0\1")},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct world w;
        struct kv_batch *batch;
        struct ts_matcher m[2];
        struct kv_err err = {0};
        uint64_t *refs;
        size_t n;
        world_open(&w, 11);
        world_flush(&w);
        cr_assert_eq(kv_batch_new(&batch), KV_OK);
        cr_assert_eq(kv_batch_put(batch, bad[i].space, bad[i].key, bad[i].value), KV_OK);
        cr_assert_eq(kv_commit(w.kit.db, batch, &(struct kv_commit_options){0}, NULL, NULL), KV_OK);
        kv_batch_free(batch);
        cr_assert_eq(ts_matcher_init(&m[0], TS_MATCH_RE, KV_STR("job"), KV_STR("[avwx].*"), NULL), KV_OK);
        cr_assert_eq(ts_matcher_init(&m[1], TS_MATCH_NE, TS_METRIC_NAME, KV_STR("nothing"), NULL), KV_OK);
        struct ts_select select = {.matchers = m, .n_matchers = 2, .to_ms = TS_WINDOW_MS};
        cr_expect_eq(ts_index_select(w.kit.registry, &select, &refs, &n, &err), KV_CORRUPT, "%zu", i);
        cr_expect(err.text[0] != 0);
        ts_matcher_release(&m[0]);
        ts_matcher_release(&m[1]);
        world_close(&w);
    }
}

/* Two entries of a group, for one alone is not looked into. */
static kv_status put_lists(struct registry_kit *kit, kv_slice label, uint32_t metric, kv_slice list)
{
    struct kv_batch *batch;
    struct ts_key key;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    for (uint16_t first = 0; first < 2; first++) {
        ts_key_postings_value(&key, label, KV_STR(""));
        ts_key_postings_tail(&key, &(struct ts_postings_key){.metric = metric, .first = first});
        cr_assert_eq(kv_batch_put(batch, TS_SPACE_INDEX, ts_key_slice(&key), list), KV_OK);
    }
    cr_assert_eq(kv_commit(kit->db, batch, &(struct kv_commit_options){0}, NULL, NULL), KV_OK);
    kv_batch_free(batch);
    return kv_merge_range(kit->db, TS_SPACE_INDEX, KV_STR(""), KV_STR(""), NULL);
}

Test(index, merging_refuses_lists_of_what_cannot_be)
{
    static const struct {
        const char *label;
        uint32_t metric;
        kv_slice list;
    } bad[] = {
        {"job", 0, KV_STR("\1\0")},                            /* metric 0 */
        {"", TS_POSTINGS_MIXED | 1, KV_STR("\4\3\0")},         /* all series are never mixed */
        {"job", TS_POSTINGS_MIXED | 1, KV_STR("\4\1\0")},      /* metric 0 in a mixed list */
        {"job", TS_POSTINGS_MIXED | 1, KV_STR("\4\2\0\2\1")},  /* cut */
        {"job", TS_POSTINGS_MIXED | 1, KV_STR("\4\2\0\2\7\0")} /* a list of no known form */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct registry_kit kit = {0};
        registry_kit_open(&kit);
        (void)registry_kit_add(&kit, "m0 job=a");
        (void)registry_kit_add(&kit, "m1 job=a");
        cr_expect_eq(put_lists(&kit, kv_slice_str(bad[i].label), bad[i].metric, bad[i].list), KV_CORRUPT,
                     "%zu", i);
        registry_kit_close(&kit);
    }
}
