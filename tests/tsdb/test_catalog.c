/* ts_series, ts_label_names, ts_label_values. */
#include "query_kit.h"
#include "tsdb/query/labelset.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct query_kit kit;
static struct kv_buf seen;

static void open_store(void)
{
    kit_open(&kit);
    kit_load(&kit, "up{job=\"a\", i=\"1\"}", 60000, "1 1 1");
    kit_load(&kit, "up{job=\"b\", i=\"2\"}", 60000, "1 1 1");
    kit_load(&kit, "down{job=\"a\", zone=\"x\"}", 60000, "0");
    kit_load(&kit, "late{job=\"c\"}", 86400000, "_ _ _ 1"); /* three days on */
}
static void close_store(void)
{
    kit_close(&kit);
    kv_buf_release(&seen);
}
TestSuite(catalog, .init = open_store, .fini = close_store);

static kv_status each_text(void *ctx, kv_slice text)
{
    (void)ctx;
    return kv_buf_printf(&seen, "%.*s ", KV_ARG(text));
}
static kv_status each_series(void *ctx, const struct ts_label *labels, size_t n)
{
    (void)ctx;
    kv_status rc = ts_labels_print(labels, n, &seen);
    return rc < 0 ? rc : kv_buf_append_byte(&seen, ' ');
}

static const char *taken(kv_status rc)
{
    static char text[1024];
    cr_assert_eq(rc, KV_OK);
    (void)snprintf(text, sizeof(text), "%.*s", KV_ARG(kv_buf_slice(&seen)));
    kv_buf_clear(&seen);
    return text;
}

#define SELECT(...)                                                                                          \
    (const kv_slice[]){__VA_ARGS__}, sizeof((const kv_slice[]){__VA_ARGS__}) / sizeof(kv_slice)

static void check_all(void)
{
    bool cut;
    cr_assert_str_eq(
        taken(ts_series(kit.db, SELECT(KV_STR("up")), 0, 200000, 0, &cut, each_series, NULL, NULL)),
        "{__name__=\"up\", i=\"1\", job=\"a\"} {__name__=\"up\", i=\"2\", job=\"b\"} ");
    cr_assert_not(cut);
    cr_assert_str_eq(taken(ts_series(kit.db, SELECT(KV_STR("{job=\"a\"}"), KV_STR("up{i=\"1\"}")), 0, 200000,
                                     0, &cut, each_series, NULL, NULL)),
                     "{__name__=\"down\", job=\"a\", zone=\"x\"} {__name__=\"up\", i=\"1\", job=\"a\"} ");
    cr_assert_str_eq(
        taken(ts_series(kit.db, SELECT(KV_STR("{job!=\"\"}")), 0, 200000, 2, &cut, each_series, NULL, NULL)),
        "{__name__=\"down\", job=\"a\", zone=\"x\"} {__name__=\"up\", i=\"1\", job=\"a\"} ");
    cr_assert(cut);
    cr_assert_str_eq(taken(ts_label_names(kit.db, NULL, 0, 0, 200000, 0, NULL, each_text, NULL, NULL)),
                     "__name__ i job zone ");
    cr_assert_str_eq(
        taken(ts_label_names(kit.db, SELECT(KV_STR("down")), 0, 200000, 0, NULL, each_text, NULL, NULL)),
        "__name__ job zone ");
    cr_assert_str_eq(taken(ts_label_values(kit.db, KV_STR("job"), NULL, 0, 0, INT64_MAX / 2, 0, NULL,
                                           each_text, NULL, NULL)),
                     "a b c ");
    cr_assert_str_eq(taken(ts_label_values(kit.db, KV_STR("__name__"), NULL, 0, 0, 200000, 2, &cut, each_text,
                                           NULL, NULL)),
                     "down up ");
    cr_assert_not(cut);
    cr_assert_str_eq(taken(ts_label_values(kit.db, KV_STR("job"), SELECT(KV_STR("up{i=\"2\"}")), 0, 200000, 0,
                                           NULL, each_text, NULL, NULL)),
                     "b ");
}

Test(catalog, what_is_listed_is_sorted_once_each_and_has_data_in_the_range)
{
    struct kv_err err = {0};
    check_all();
    cr_assert_eq(ts_flush(kit.db, true, &err), KV_OK, "%s", err.text);
    check_all();
}

Test(catalog, a_bad_selector_is_refused)
{
    struct ts_query_err err;
    cr_assert_eq(ts_series(kit.db, SELECT(KV_STR("up{")), 0, 1, 0, NULL, each_series, NULL, &err),
                 KV_INVALID);
    cr_assert_eq(err.type, TS_QUERY_BAD_DATA);
    cr_assert_neq(err.text[0], 0);
    cr_assert_eq(ts_series(kit.db, SELECT(KV_STR("{job=~\".*\"}")), 0, 1, 0, NULL, each_series, NULL, &err),
                 KV_INVALID);
    cr_assert_str_eq(err.text, "match[] must contain at least one non-empty matcher");
}

static kv_status stop_at_once(void *ctx, kv_slice text)
{
    (void)text;
    ++*(int *)ctx;
    return KV_CLOSED;
}

Test(catalog, a_negative_answer_stops)
{
    int calls = 0;
    cr_assert_eq(ts_label_names(kit.db, NULL, 0, 0, 200000, 0, NULL, stop_at_once, &calls, NULL), KV_CLOSED);
    cr_assert_eq(calls, 1);
}

/* A query's own bound does not reach listings and exports: the store's does. */
Test(catalog, memory_is_bounded_by_the_store_and_the_error_names_the_option)
{
    struct query_kit small;
    struct ts_query_err err;
    struct ts_export *exp = NULL;
    struct ts_result *result = NULL;
    kit_open(&small);
    for (int i = 0; i < 2000; i++) {
        char series[64];
        (void)snprintf(series, sizeof series, "up{i=\"%d\"}", i);
        kit_add(&small, series, 0, 1);
    }
    kit_commit(&small);
    small.query_memory_max = 10000;
    kit_reopen(&small, false);
    static const char expected[] =
        "query processing would use more than 10000 bytes of memory in query execution; "
        "raise ts_options.query_memory_max";
    cr_assert_eq(ts_series(small.db, SELECT(KV_STR("up")), 0, 10, 0, NULL, each_series, NULL, &err),
                 KV_LIMIT);
    cr_assert_str_eq(err.text, expected);
    cr_assert_eq(ts_label_values(small.db, KV_STR("i"), NULL, 0, 0, 10, 0, NULL, each_text, NULL, &err),
                 KV_LIMIT);
    cr_assert_str_eq(err.text, expected);
    const struct ts_walk_options walk = {.from_ms = 0, .to_ms = 10};
    cr_assert_eq(ts_export_open(small.db, &walk, &exp, &err), KV_LIMIT);
    cr_assert_str_eq(err.text, expected);
    cr_assert_eq(ts_query(small.db, KV_STR("up"), &(struct ts_query_options){0}, &result, &err), KV_LIMIT);
    cr_assert_str_eq(err.text, expected);
    const struct ts_query_options own = {.memory_max = 10 << 20};
    cr_assert_eq(ts_query(small.db, KV_STR("up"), &own, &result, &err), KV_OK, "%s", err.text);
    ts_result_free(result);
    kit_close(&small);
}
