#include "tests/support/store_kit.h"
#include "tsdb/db.h"
#include "tsdb/matcher.h"
#include "tsdb/query/scan.h"

#include <criterion/criterion.h>
#include <stdio.h>

void store_kit_init(struct store_kit *kit)
{
    *kit = (struct store_kit){0};
    kit->vfs = kv_vfs_mem_new();
    cr_assert_not_null(kit->vfs);
    clock_manual_init(&kit->clock, KIT_START_MS, 7);
}

kv_status store_kit_open(struct store_kit *kit)
{
    const struct kv_env_options env = {
        .vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE};
    kv_status rc = kv_env_open(&env, &kit->env, &kit->err);
    if (rc == KV_OK)
        rc = ts_open(kit->env, "db", &kit->options, &kit->db, &kit->err);
    if (rc == KV_OK)
        rc = ts_appender_new(kit->db, &kit->appender);
    if (rc < 0)
        (void)store_kit_close(kit, true);
    return rc;
}

kv_status store_kit_close(struct store_kit *kit, bool fast)
{
    kv_status rc = KV_OK;
    ts_appender_free(kit->appender);
    kit->appender = NULL;
    if (kit->db)
        rc = fast ? ts_close_fast(kit->db, &kit->err) : ts_close(kit->db, &kit->err);
    kit->db = NULL;
    kv_env_close(kit->env);
    kit->env = NULL;
    return rc;
}

void store_kit_crash(struct store_kit *kit)
{
    struct kv_vfs *found = kv_vfs_mem_crash_clone(kit->vfs);
    cr_assert_not_null(found);
    (void)store_kit_close(kit, true);
    kv_vfs_mem_free(kit->vfs);
    kit->vfs = found;
}

void store_kit_release(struct store_kit *kit)
{
    (void)store_kit_close(kit, true);
    kv_vfs_mem_free(kit->vfs);
    kit->vfs = NULL;
    clock_manual_release(&kit->clock);
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static kv_status kit_labels(void *ctx, const struct ts_row *row, struct ts_label_sink *sink)
{
    int series = *(const int *)ctx;
    char name[16], i[16];
    (void)row;
    snprintf(name, sizeof name, "m%d", series % 3);
    snprintf(i, sizeof i, "%d", series);
    kv_status rc = sink->add(sink, KV_STR("__name__"), kv_slice_str(name));
    if (rc == KV_OK)
        rc = sink->add(sink, KV_STR("i"), kv_slice_str(i));
    if (rc == KV_OK)
        rc = sink->add(sink, KV_STR("parity"), series % 2 ? KV_STR("odd") : KV_STR("even"));
    return rc;
}

kv_status store_kit_add_many(struct store_kit *kit, int series, const int64_t *times_ms, const double *values,
                             size_t n)
{
    char identity[32];
    snprintf(identity, sizeof identity, "series %d", series);
    const struct ts_row row = {.protocol = TS_PROTOCOL_PROM_WRITE,
                               .position = 1,
                               .identity = {{0}, kv_slice_str(identity)},
                               .labels = kit_labels,
                               .labels_ctx = &series,
                               .times_ms = times_ms,
                               .values = values,
                               .n = n};
    return ts_append_row(kit->appender, &row, &kit->err);
}

kv_status store_kit_add(struct store_kit *kit, int series, int64_t time_ms, double value)
{
    return store_kit_add_many(kit, series, &time_ms, &value, 1);
}

kv_status store_kit_commit(struct store_kit *kit)
{
    return ts_commit(kit->appender, &kit->result, &kit->err);
}

void store_kit_put(struct store_kit *kit, int series, int64_t time_ms, double value)
{
    cr_assert_eq(store_kit_add(kit, series, time_ms, value), KV_OK, "%s", kit->err.text);
    cr_assert_eq(store_kit_commit(kit), KV_OK, "%s", kit->err.text);
    cr_assert_eq(kit->result.accepted, 1, "%s", kit->result.rejects[0].text);
}

struct kit_matcher {
    char value[16];
    struct ts_matcher matcher;
};

static void kit_match(int series, struct kit_matcher *out)
{
    snprintf(out->value, sizeof out->value, "%d", series);
    cr_assert_eq(ts_matcher_init(&out->matcher, TS_MATCH_EQ, KV_STR("i"), kv_slice_str(out->value), NULL),
                 KV_OK);
}

kv_status store_kit_delete(struct store_kit *kit, int series, int64_t from_ms, int64_t to_ms)
{
    struct kit_matcher m;
    kit_match(series, &m);
    kv_status rc = ts_erase(kit->db, &m.matcher, 1, from_ms, to_ms, &kit->err);
    ts_matcher_release(&m.matcher);
    return rc;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

kv_status store_kit_read(struct store_kit *kit, int series, int64_t from_ms, int64_t to_ms,
                         struct ts_columns *out)
{
    struct kit_matcher m;
    struct ts_budget budget = {.samples_max = UINT64_MAX,
                               .bytes_max = UINT64_MAX / 4,
                               .deadline_mono_ns = UINT64_MAX,
                               .clock = &kit->clock.base};
    struct ts_scan *scan;
    struct ts_scan_series found;
    kit_match(series, &m);
    const struct ts_scan_options options = {
        .matchers = &m.matcher, .n_matchers = 1, .from_ms = from_ms, .to_ms = to_ms};
    out->n = 0;
    kv_status rc = ts_scan_open(kit->db, &options, &budget, &scan, &kit->err);
    if (rc == KV_OK) {
        while ((rc = ts_scan_next(scan, &found, &kit->err)) == KV_OK) {
            cr_assert_eq(out->n, 0, "one series only");
            if ((rc = ts_columns_reserve(out, found.n)) < 0)
                break; /* a test may be failing allocations */
            for (size_t i = 0; i < found.n; i++) {
                cr_assert(i == 0 || found.times_ms[i] > found.times_ms[i - 1], "times increase");
                out->times_ms[i] = found.times_ms[i];
                out->values[i] = found.values[i];
            }
            out->n = found.n;
        }
        ts_scan_close(scan);
    }
    ts_matcher_release(&m.matcher);
    return rc == KV_END ? KV_OK : rc;
}

const char *store_kit_text(struct store_kit *kit, int series, int64_t from_ms, int64_t to_ms)
{
    static char text[8192];
    struct ts_columns columns = {0};
    size_t len = 0;
    cr_assert_eq(store_kit_read(kit, series, from_ms, to_ms, &columns), KV_OK, "%s", kit->err.text);
    text[0] = 0;
    for (size_t i = 0; i < columns.n && len < sizeof text - 64; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%lld=%g ",
                                (long long)(columns.times_ms[i] - KIT_START_MS), columns.values[i]);
    ts_columns_release(&columns);
    return text;
}
