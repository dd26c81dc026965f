#include "query_kit.h"

#include "kvcore/base/number.h"
#include "kvcore/kv.h"
#include "kvcore/os/vfs.h"
#include "tsdb/promql/parse.h"
#include "tsdb/query/labelset.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdlib.h>

static int64_t clock_wall_ms(struct kv_clock *clock)
{
    (void)clock;
    return 1000000000; /* 1970-01-12 */
}
static uint64_t clock_mono_ns(struct kv_clock *clock)
{
    return ((struct kit_clock *)clock)->mono_ns;
}
static void clock_sleep_ns(struct kv_clock *clock, uint64_t ns)
{
    ((struct kit_clock *)clock)->mono_ns += ns;
}
static void clock_entropy(struct kv_clock *clock, void *out, size_t len)
{
    (void)clock;
    memset(out, 0x5a, len);
}
static const struct kv_clock_ops clock_ops = {clock_wall_ms, clock_mono_ns, clock_sleep_ns, clock_entropy};

static void open_store(struct query_kit *kit)
{
    struct kv_err err = {0};
    struct kv_env_options env = {.vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE};
    struct ts_options options = {.retention_ms = INT64_MAX, .query_memory_max = kit->query_memory_max};
    cr_assert_eq(kv_env_open(&env, &kit->env, &err), KV_OK, "%s", err.text);
    cr_assert_eq(ts_open(kit->env, "store", &options, &kit->db, &err), KV_OK, "%s", err.text);
    cr_assert_eq(ts_appender_new(kit->db, &kit->appender), KV_OK);
}

static void close_store(struct query_kit *kit, bool flush)
{
    struct kv_err err = {0};
    ts_appender_free(kit->appender);
    kv_status rc = flush ? ts_close(kit->db, &err) : ts_close_fast(kit->db, &err);
    cr_assert_eq(rc, KV_OK, "%s", err.text);
    kv_env_close(kit->env);
}

void kit_open(struct query_kit *kit)
{
    *kit = (struct query_kit){.vfs = kv_vfs_mem_new()};
    kit->clock = (struct kit_clock){{&clock_ops}, 1000000000};
    cr_assert(kit->vfs);
    open_store(kit);
}

void kit_close(struct query_kit *kit)
{
    close_store(kit, false);
    kv_vfs_mem_free(kit->vfs);
    kv_buf_release(&kit->text);
}

void kit_reopen(struct query_kit *kit, bool flush)
{
    close_store(kit, flush);
    open_store(kit);
}

void kit_add(struct query_kit *kit, const char *series, int64_t time_ms, double value)
{
    struct kv_arena arena = {0};
    struct ts_tree tree = {0};
    struct ts_label labels[32];
    struct kv_err err = {0};
    size_t n = 0;
    cr_assert_eq(ts_parse_selector(kv_slice_str(series), &arena, &tree, &kit->err), KV_OK, "%s",
                 kit->err.text);
    for (size_t i = 0; i < tree.root->vector.n_matchers; i++) {
        labels[n].name = tree.root->vector.matchers[i].name;
        labels[n++].value = tree.root->vector.matchers[i].value;
    }
    cr_assert_eq(ts_append(kit->appender, labels, n, time_ms, value, &err), KV_OK, "%s", err.text);
    ts_tree_release(&tree);
    kv_arena_release(&arena);
}

void kit_commit(struct query_kit *kit)
{
    struct ts_append_result result;
    struct kv_err err = {0};
    cr_assert_eq(ts_commit(kit->appender, &result, &err), KV_OK, "%s", err.text);
    cr_assert_eq(result.rejected, 0, "%s", result.rejects[0].text);
}

void kit_load(struct query_kit *kit, const char *series, int64_t step_ms, const char *values)
{
    for (int64_t i = 0; *values; i++) {
        char *end = NULL;
        if (*values == '_')
            end = (char *)values + 1;
        else if (strncmp(values, "stale", 5) == 0)
            end = (char *)values + 5;
        double value = end ? ts_absent() : strtod(values, &end);
        if (*values != '_')
            kit_add(kit, series, i * step_ms, value);
        cr_assert(end > values, "values: %s", values);
        values = end + strspn(end, " ");
    }
    kit_commit(kit);
}

static void print_value(struct kv_buf *out, double value)
{
    char text[KV_DOUBLE_LEN_MAX];
    cr_assert_eq(kv_buf_append(out, kv_slice_of(text, kv_double_format(value, text))), KV_OK);
}

static void print_series(struct kv_buf *out, const struct ts_result *result, size_t i)
{
    struct ts_series_points series;
    ts_result_series(result, i, &series);
    if (ts_result_type(result) == TS_RESULT_SCALAR) {
        print_value(out, series.values[0]);
    } else {
        cr_assert_eq(ts_labels_print(series.labels, series.n_labels, out), KV_OK);
        for (size_t k = 0; k < series.n; k++) {
            cr_assert_eq(kv_buf_printf(out, " "), KV_OK);
            print_value(out, series.values[k]);
            if (ts_result_type(result) == TS_RESULT_MATRIX)
                cr_assert_eq(kv_buf_printf(out, "@%" PRId64, series.times_ms[k]), KV_OK);
        }
    }
    cr_assert_eq(kv_buf_printf(out, "\n"), KV_OK);
}

static void print_result(struct kv_buf *out, const struct ts_result *result)
{
    if (ts_result_type(result) == TS_RESULT_STRING)
        cr_assert_eq(kv_buf_printf(out, "\"%.*s\"\n", KV_ARG(ts_result_string(result, NULL))), KV_OK);
    for (size_t i = 0; i < ts_result_count(result); i++)
        print_series(out, result, i);
    for (size_t i = 0; i < ts_result_warnings(result); i++)
        cr_assert_eq(kv_buf_printf(out, "%.*s\n", KV_ARG(ts_result_warning(result, i))), KV_OK);
    for (size_t i = 0; i < ts_result_infos(result); i++)
        cr_assert_eq(kv_buf_printf(out, "%.*s\n", KV_ARG(ts_result_info(result, i))), KV_OK);
}

const char *kit_ask(struct query_kit *kit, const char *query, const struct ts_query_options *options)
{
    static const char *const types[] = {"", "bad_data", "execution", "timeout", "canceled", "internal"};
    struct ts_result *result = NULL;
    kv_buf_clear(&kit->text);
    kv_status rc = ts_query(kit->db, kv_slice_str(query), options, &result, &kit->err);
    cr_assert_eq(rc == KV_OK, result != NULL);
    struct ts_result_stats stats = {0};
    if (result)
        ts_result_stats(result, &stats);
    kit->samples = stats.samples;
    if (rc == KV_OK)
        print_result(&kit->text, result);
    else
        cr_assert_eq(kv_buf_printf(&kit->text, "error %s: %s\n", types[kit->err.type], kit->err.text), KV_OK);
    ts_result_free(result);
    cr_assert_eq(kv_buf_append_byte(&kit->text, 0), KV_OK);
    return (const char *)kit->text.data;
}

const char *kit_instant(struct query_kit *kit, const char *query, int64_t at_ms)
{
    struct ts_query_options options = {.end_ms = at_ms};
    return kit_ask(kit, query, &options);
}

const char *kit_range(struct query_kit *kit, const char *query, int64_t start_ms, int64_t end_ms,
                      int64_t step_ms)
{
    struct ts_query_options options = {
        .range = true, .start_ms = start_ms, .end_ms = end_ms, .step_ms = step_ms};
    return kit_ask(kit, query, &options);
}
