/* A reader whose thread stands still between the head and the files, while the series it looks for leave. */
#include "kvcore/base/mem.h"
#include "tests/support/store_kit.h"
#include "tsdb/db.h"

#include <criterion/criterion.h>

/* ---- what happens in between: on allocating its snapshot, the reader lets all this happen first */

static struct store_kit *between_kit;
static int between_times; /* still to come */
static size_t snapshot_bytes;

static bool note_bytes(size_t size)
{
    snapshot_bytes = size;
    return false;
}

static void leave_all(struct store_kit *kit)
{
    uint64_t left = atomic_load(&kit->db->counters.series_left);
    for (int series = 0; series < 10; series++)
        cr_assert_eq(store_kit_delete(kit, series, INT64_MIN, INT64_MAX), KV_OK, "%s", kit->err.text);
    cr_assert_eq(ts_flush(kit->db, true, &kit->err), KV_OK, "%s", kit->err.text);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(ts_maintain(kit->db, &kit->err), KV_OK, "%s", kit->err.text);
    cr_assert_gt(atomic_load(&kit->db->counters.series_left), left);
}

static bool between(size_t size)
{
    static bool inside;
    if (inside || size != snapshot_bytes || between_times == 0)
        return false;
    inside = true;
    between_times--;
    leave_all(between_kit);
    store_kit_put(between_kit, between_times, KIT_START_MS, 1);
    inside = false;
    return false;
}

static void begin(struct store_kit *kit, int times)
{
    store_kit_init(kit);
    cr_assert_eq(store_kit_open(kit), KV_OK, "%s", kit->err.text);
    store_kit_put(kit, 9, KIT_START_MS, 1);
    struct kv_snapshot *snapshot;
    kv_mem_should_fail = note_bytes;
    cr_assert_eq(kv_snapshot_open(kit->db->kv, &snapshot), KV_OK);
    kv_snapshot_close(snapshot);
    between_kit = kit;
    between_times = times;
    kv_mem_should_fail = between;
}

static void end(struct store_kit *kit)
{
    kv_mem_should_fail = NULL;
    cr_assert_eq(between_times, 0, "nothing happened in between");
    store_kit_release(kit);
}

/* ---- */

static kv_status count_series(void *ctx, const struct ts_label *labels, size_t n)
{
    (void)labels, (void)n;
    ++*(size_t *)ctx;
    return KV_OK;
}

static kv_status count_text(void *ctx, kv_slice text)
{
    (void)text;
    ++*(size_t *)ctx;
    return KV_OK;
}

Test(moment, a_query_begins_again_when_series_left_meanwhile)
{
    for (int times = 1; times <= 3; times++) {
        struct store_kit kit;
        struct ts_result *result = NULL;
        struct ts_query_err err;
        begin(&kit, times);
        const struct ts_query_options options = {.end_ms = KIT_START_MS};
        kv_status rc = ts_query(kit.db, KV_STR("{i=~\".+\"}"), &options, &result, &err);
        cr_assert_eq(rc, KV_OK, "%s", err.text);
        cr_assert_eq(ts_result_count(result), 1, "the one that came last");
        ts_result_free(result);
        end(&kit);
    }
}

Test(moment, so_does_an_export)
{
    struct store_kit kit;
    struct ts_export *exp = NULL;
    struct ts_series_points points;
    struct ts_query_err err;
    begin(&kit, 1);
    const struct ts_walk_options options = {.from_ms = INT64_MIN, .to_ms = INT64_MAX};
    cr_assert_eq(ts_export_open(kit.db, &options, &exp, &err), KV_OK, "%s", err.text);
    cr_assert_eq(ts_export_next(exp, &points, &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(points.n, 1);
    cr_assert_eq(ts_export_next(exp, &points, &kit.err), KV_END, "%s", kit.err.text);
    ts_export_close(exp);
    end(&kit);
}

Test(moment, and_listings)
{
    struct store_kit kit;
    struct ts_query_err err;
    struct ts_cardinality *cardinality = NULL;
    size_t n = 0;
    begin(&kit, 1);
    cr_assert_eq(ts_series(kit.db, NULL, 0, INT64_MIN, INT64_MAX, 0, NULL, count_series, &n, &err), KV_OK,
                 "%s", err.text);
    cr_assert_eq(n, 1);
    end(&kit);
    begin(&kit, 1);
    n = 0;
    cr_assert_eq(
        ts_label_values(kit.db, KV_STR("i"), NULL, 0, INT64_MIN, INT64_MAX, 0, NULL, count_text, &n, &err),
        KV_OK, "%s", err.text);
    cr_assert_eq(n, 1);
    end(&kit);
    begin(&kit, 1);
    const struct ts_cardinality_options options = {0};
    cr_assert_eq(ts_cardinality(kit.db, &options, &cardinality, &err), KV_OK, "%s", err.text);
    cr_assert_eq(cardinality->series, 1);
    ts_cardinality_free(cardinality);
    end(&kit);
}
