/* How many series there are, of what, and which are new, against counts made by hand. */
#include "tests/support/malloc_fault.h"
#include "tests/support/store_kit.h"
#include "tsdb/key.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct store_kit kit;

static void begin(void)
{
    store_kit_init(&kit);
    kit.options.retention_ms = INT64_MAX;
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
}
static void end(void)
{
    store_kit_release(&kit);
}
TestSuite(cardinality, .init = begin, .fini = end);

/* Day 0 is the day of KIT_START_MS, as times go backwards from there. */
static int64_t day_ms(int day)
{
    return KIT_START_MS + day * KIT_DAY_MS;
}

/* labels: "name k=v k=v". */
static void add(const char *labels, int day)
{
    char copy[400], *rest = copy;
    struct ts_label at[8] = {{KV_STR("__name__"), {0}}};
    size_t n = 0;
    snprintf(copy, sizeof copy, "%s", labels);
    for (char *word; (word = strsep(&rest, " ")); n++) {
        char *equals = strchr(word, '=');
        at[n].value = kv_slice_str(equals ? equals + 1 : word);
        if (equals) {
            *equals = 0;
            at[n].name = kv_slice_str(word);
        }
    }
    cr_assert_eq(ts_append(kit.appender, at, n, day_ms(day), 1, &kit.err), KV_OK, "%s", kit.err.text);
}

static void commit(void)
{
    cr_assert_eq(store_kit_commit(&kit), KV_OK, "%s", kit.err.text);
    cr_assert_eq(kit.result.rejected, 0, "%s", kit.result.rejects[0].text);
}

static const char *text_of(const struct ts_count_list *list, size_t n_days)
{
    static char out[4][4000];
    static int at;
    char *text = out[at++ % 4];
    size_t n = 0;
    text[0] = 0;
    for (size_t i = 0; i < list->n; i++) {
        const struct ts_count *c = &list->at[i];
        n += (size_t)snprintf(text + n, 4000 - n, "%.*s%s%.*s:%llu", KV_ARG(c->name), c->value.len ? "=" : "",
                              KV_ARG(c->value), (unsigned long long)c->count);
        for (size_t d = 0; c->by_day && d < n_days; d++)
            n += (size_t)snprintf(text + n, 4000 - n, "%s%llu", d ? "," : "[",
                                  (unsigned long long)c->by_day[d]);
        n += (size_t)snprintf(text + n, 4000 - n, c->by_day ? "] " : " ");
    }
    return text;
}

static struct ts_cardinality *ask(const struct ts_cardinality_options *options)
{
    struct ts_cardinality *c = NULL;
    struct ts_query_err err;
    cr_assert_eq(ts_cardinality(kit.db, options, &c, &err), KV_OK, "%s", err.text);
    return c;
}

Test(cardinality, of_all_series_by_name_label_and_pair)
{
    add("up job=a inst=1", 0);
    add("up job=a inst=2", 0);
    add("up job=b", 0);
    commit();
    add("down job=a inst=10", -5);
    commit();
    for (int flushed = 0; flushed < 3; flushed++) {
        struct ts_cardinality *c = ask(NULL);
        cr_expect_eq(c->series, 4);
        cr_expect_eq(c->label_pairs, 7);
        cr_expect_str_eq(text_of(&c->series_by_metric, 0), "up:3 down:1 ");
        cr_expect_str_eq(text_of(&c->values_by_label, 0), "inst:3 __name__:2 job:2 ");
        cr_expect_str_eq(text_of(&c->bytes_by_label, 0), "__name__:10 inst:4 job:4 ");
        cr_expect_str_eq(text_of(&c->series_by_pair, 0),
                         "__name__=up:3 job=a:3 __name__=down:1 inst=1:1 inst=10:1 inst=2:1 job=b:1 ");
        cr_expect(c->n_days == 0 && c->new_by_pair.n == 0);
        ts_cardinality_free(c);
        c = ask(&(struct ts_cardinality_options){.top = 2});
        cr_expect_str_eq(text_of(&c->series_by_pair, 0), "__name__=up:3 job=a:3 ");
        cr_expect_str_eq(text_of(&c->values_by_label, 0), "inst:3 __name__:2 ");
        cr_expect_eq(c->label_pairs, 7);
        ts_cardinality_free(c);
        cr_assert_eq(ts_flush(kit.db, flushed == 1, &kit.err), KV_OK);
    }
}

Test(cardinality, of_chosen_series_and_days)
{
    add("up job=a", 0);
    add("up job=b", -1);
    add("down job=a", -1);
    commit();
    const kv_slice selectors[] = {KV_STR("up{job=\"a\"}"), KV_STR("{job=\"a\"}")};
    struct ts_cardinality *c =
        ask(&(struct ts_cardinality_options){.selectors = selectors, .n_selectors = 2});
    cr_expect_eq(c->series, 2);
    cr_expect_str_eq(text_of(&c->series_by_pair, 0), "job=a:2 __name__=down:1 __name__=up:1 ");
    ts_cardinality_free(c);
    c = ask(&(struct ts_cardinality_options){.ranged = true, .from_ms = day_ms(-1), .to_ms = day_ms(-1)});
    cr_expect_eq(c->series, 2);
    cr_expect_str_eq(text_of(&c->series_by_metric, 0), "down:1 up:1 ");
    ts_cardinality_free(c);
}

Test(cardinality, growth_is_by_the_first_day_with_samples_whatever_the_order_of_arrival)
{
    const struct ts_cardinality_options options = {
        .ranged = true, .from_ms = day_ms(-2), .to_ms = day_ms(0), .growth = true};
    add("up i=1", -3); /* before the range: not new in it */
    add("up i=1", -1);
    add("up i=2", -2);
    add("up i=2", 0);
    add("up i=3", 0);
    add("down i=3", -1);
    commit();
    struct ts_cardinality *c = ask(&options);
    cr_expect_eq(c->first_day_ms, day_ms(-2) - 12 * 3600000);
    cr_assert_eq(c->n_days, 3);
    cr_expect(c->new_by_day[0] == 1 && c->new_by_day[1] == 1 && c->new_by_day[2] == 1);
    cr_expect_str_eq(text_of(&c->new_by_metric, 3), "up:2[1,0,1] down:1[0,1,0] ");
    cr_expect_str_eq(text_of(&c->new_by_pair, 3),
                     "__name__=up:2[1,0,1] i=3:2[0,1,1] __name__=down:1[0,1,0] i=2:1[1,0,0] ");
    cr_expect_eq(c->series, 4, "old ones that were active count as series");
    ts_cardinality_free(c);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    add("up i=3", -1); /* late: it was there a day earlier */
    add("late i=4", -2);
    commit();
    c = ask(&options);
    cr_expect_str_eq(text_of(&c->new_by_metric, 3), "up:2[1,1,0] down:1[0,1,0] late:1[1,0,0] ");
    ts_cardinality_free(c);
}

/* The same through the labels of the chosen and through the whole index. */
Test(cardinality, both_ways_of_counting_agree_with_a_plain_count)
{
    enum { SERIES = 6000, DAYS = 92 };
    static uint64_t days[DAYS], first_metric[DAYS];
    static const char pairs[] = "__name__=m0:2000 __name__=m1:2000 __name__=m2:2000 five=0:1200 five=1:1200 "
                                "five=2:1200 five=3:1200 five=4:1200 rare=yes:546 i=0:1 i=1:1 i=10:1 ";
    char labels[200];
    for (int i = 0; i < SERIES; i++) {
        snprintf(labels, sizeof labels, "m%d i=%d five=%d%s", i % 3, i, i % 5, i % 11 ? "" : " rare=yes");
        add(labels, -(i % DAYS));
        if (i % 2)
            add(labels, 0);
        days[DAYS - 1 - i % DAYS]++;
        first_metric[DAYS - 1 - i % DAYS] += i % 3 == 0;
        if (i == SERIES / 2) {
            commit();
            cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
        }
    }
    commit();
    const kv_slice all = KV_STR("{__name__=~\".+\"}");
    struct ts_cardinality *c[3] = {
        ask(&(struct ts_cardinality_options){.top = 100}), /* the index, no sets */
        ask(&(struct ts_cardinality_options){.top = 100, .selectors = &all, .n_selectors = 1}), /* labels */
        ask(&(struct ts_cardinality_options){/* the index against sets: too many counts for the other way */
                                             .top = 100,
                                             .ranged = true,
                                             .from_ms = day_ms(1 - DAYS),
                                             .to_ms = day_ms(0),
                                             .growth = true}),
    };
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(c[i]->series, SERIES);
        cr_expect_eq(c[i]->label_pairs, 3 + SERIES + 5 + 1);
        cr_expect_str_eq(text_of(&c[i]->series_by_metric, 0), "m0:2000 m1:2000 m2:2000 ");
        cr_expect_str_eq(text_of(&c[i]->values_by_label, 0), "i:6000 five:5 __name__:3 rare:1 ");
        cr_expect_str_eq(text_of(&c[i]->bytes_by_label, 0), "i:22890 __name__:12000 five:6000 rare:1638 ");
        cr_expect_eq(c[i]->series_by_pair.n, 100);
        cr_expect_eq(strncmp(text_of(&c[i]->series_by_pair, 0), pairs, strlen(pairs)), 0, "%s",
                     text_of(&c[i]->series_by_pair, 0));
    }
    cr_assert_eq(c[2]->n_days, DAYS);
    cr_expect_arr_eq(c[2]->new_by_day, days, sizeof days);
    cr_assert_eq(c[2]->new_by_metric.n, 3);
    cr_expect(kv_slice_equal(c[2]->new_by_metric.at[0].name, KV_STR("m0")));
    cr_expect_arr_eq(c[2]->new_by_metric.at[0].by_day, first_metric, sizeof first_metric);
    for (int i = 0; i < 3; i++)
        ts_cardinality_free(c[i]);
}

static bool canceled(void *ctx)
{
    return ++*(int *)ctx > 1;
}

Test(cardinality, what_is_asked_wrong_or_too_much_is_refused)
{
    struct ts_cardinality *c = NULL;
    struct ts_query_err err;
    const kv_slice bad = KV_STR("up{"), none = KV_STR("nothing");
    char labels[40];
    int asked = 0;
    for (int i = 0; i < 4000; i++) {
        snprintf(labels, sizeof labels, "m i=%d", i);
        add(labels, 0);
    }
    commit();
    cr_expect_eq(ts_cardinality(kit.db, &(struct ts_cardinality_options){.selectors = &bad, .n_selectors = 1},
                                &c, &err),
                 KV_INVALID);
    cr_expect_eq(err.type, TS_QUERY_BAD_DATA);
    cr_expect_eq(ts_cardinality(kit.db, &(struct ts_cardinality_options){.growth = true}, &c, &err),
                 KV_INVALID);
    cr_expect_eq(ts_cardinality(kit.db,
                                &(struct ts_cardinality_options){
                                    .growth = true, .ranged = true, .from_ms = 0, .to_ms = 92 * KIT_DAY_MS},
                                &c, &err),
                 KV_INVALID);
    cr_expect(strstr(err.text, "at most 92 days"), "%s", err.text);
    cr_expect_eq(ts_cardinality(kit.db, &(struct ts_cardinality_options){.top = 10001}, &c, &err),
                 KV_INVALID);
    cr_expect_eq(
        ts_cardinality(kit.db, &(struct ts_cardinality_options){.canceled = canceled, .canceled_ctx = &asked},
                       &c, &err),
        KV_CANCELED);
    cr_expect_eq(err.type, TS_QUERY_CANCELED);
    cr_expect_eq(
        ts_cardinality(kit.db, &(struct ts_cardinality_options){.memory_max = 1000, .top = 10000}, &c, &err),
        KV_LIMIT);
    cr_expect_eq(
        ts_cardinality(kit.db, &(struct ts_cardinality_options){.memory_max = 1000, .top = 10000}, &c, NULL),
        KV_LIMIT);
    cr_expect_null(c);
    c = ask(&(struct ts_cardinality_options){.selectors = &none, .n_selectors = 1});
    cr_expect(c->series == 0 && c->series_by_pair.n == 0 && c->values_by_label.n == 0);
    ts_cardinality_free(c);
}

Test(cardinality, every_failed_allocation_is_reported)
{
    const kv_slice all = KV_STR("{i=~\".+\"}");
    const struct ts_cardinality_options asked[] = {
        {.top = 3},
        {.selectors = &all,
         .n_selectors = 1,
         .ranged = true,
         .from_ms = day_ms(-3),
         .to_ms = day_ms(0),
         .growth = true},
    };
    add("up i=1", -3);
    add("up i=2", -2);
    commit();
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    add("up i=3", -1);
    add("down i=3", 0);
    commit();
    for (size_t i = 0; i < 2; i++) {
        for (uint64_t nth = 1, fired = true; fired; nth++) {
            struct ts_cardinality *c = NULL;
            struct ts_query_err err;
            malloc_fault_arm(nth, false);
            kv_status rc = ts_cardinality(kit.db, &asked[i], &c, &err);
            fired = malloc_fault_disarm();
            cr_assert(rc == KV_OK || (fired && rc == KV_NO_MEMORY && !c), "%llu: %s", (unsigned long long)nth,
                      err.text);
            if (rc == KV_OK)
                cr_assert(c->series == 4 && c->label_pairs == 5);
            ts_cardinality_free(c);
        }
    }
}
