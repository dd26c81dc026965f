/* The structural check, and copies of a store. */
#include "tests/support/store_kit.h"
#include "tsdb/chunk/chunk.h"
#include "tsdb/db.h"

#include <criterion/criterion.h>
#include <stdio.h>

struct findings {
    int n;
    char text[2048];
};

static void collect(void *ctx, kv_status severity, const char *line)
{
    struct findings *f = ctx;
    size_t len = strlen(f->text);
    if (severity >= 0)
        return;
    f->n++;
    snprintf(f->text + len, sizeof f->text - len, "%s\n", line);
}

static kv_status check(struct store_kit *kit, const char *path, struct findings *f)
{
    const struct kv_env_options options = {
        .vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE};
    struct kv_env *env;
    *f = (struct findings){0};
    cr_assert_eq(kv_env_open(&options, &env, NULL), KV_OK);
    kv_status rc = ts_check(env, path, collect, f, &kit->err);
    kv_env_close(env);
    return rc;
}

static void fill(struct store_kit *kit)
{
    store_kit_init(kit);
    cr_assert_eq(store_kit_open(kit), KV_OK);
    for (int i = 0; i < 20; i++)
        store_kit_put(kit, i % 4, KIT_START_MS + i * 1000, i);
    cr_assert_eq(ts_flush(kit->db, false, &kit->err), KV_OK);
    store_kit_put(kit, 1, KIT_START_MS + 50000, 50);
    cr_assert_eq(store_kit_delete(kit, 2, KIT_START_MS, KIT_START_MS + 5000), KV_OK);
}

Test(check, a_sound_store_has_no_findings_with_and_without_a_log_to_replay)
{
    struct store_kit kit;
    struct findings f;
    fill(&kit);
    cr_assert_eq(store_kit_close(&kit, true), KV_OK);
    cr_assert_eq(check(&kit, "db", &f), KV_OK, "%s: %s", kit.err.text, f.text);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    cr_assert_eq(check(&kit, "db", &f), KV_OK, "%s: %s", kit.err.text, f.text);
    store_kit_release(&kit);
}

/* A chunk put behind the store's back. */
static void plant(struct store_kit *kit, struct ts_chunk_key chunk, const int64_t *times, size_t n,
                  size_t cut)
{
    double values[4] = {1, 2, 3, 4};
    struct kv_buf value = {0};
    struct kv_bulk *bulk;
    struct ts_key key;
    size_t taken;
    cr_assert_eq(ts_chunk_encode(times, values, n, TS_CHUNK_QUICK, &value, &taken), KV_OK);
    ts_key_chunk(&key, &chunk);
    cr_assert_eq(kv_bulk_open(ts_kv(kit->db), TS_SPACE_CHUNKS, &bulk, NULL), KV_OK);
    cr_assert_eq(kv_bulk_add(bulk, ts_key_slice(&key), (kv_slice){value.data, value.len - cut}, NULL), KV_OK);
    cr_assert_eq(kv_bulk_install(bulk, 0, NULL, &kit->err), KV_OK, "%s", kit->err.text);
    kv_buf_release(&value);
}

Test(check, names_every_chunk_that_is_wrong)
{
    struct store_kit kit;
    struct findings f;
    fill(&kit);
    int32_t window = ts_window_of(KIT_START_MS);
    int64_t times[] = {KIT_START_MS, KIT_START_MS + 1, KIT_START_MS + 2, KIT_START_MS + KIT_DAY_MS};
    plant(&kit, (struct ts_chunk_key){window, ts_ref_of(77, 1), times[0], 3}, times, 3, 0);
    plant(&kit, (struct ts_chunk_key){window, ts_ref_of(1, 1), times[0] + 9, 3}, times, 3, 0);
    plant(&kit, (struct ts_chunk_key){window, ts_ref_of(1, 1), times[0], 4}, times, 4, 0);
    plant(&kit, (struct ts_chunk_key){window, ts_ref_of(1, 1), times[0], 5}, times, 3, 1);
    cr_assert_eq(store_kit_close(&kit, true), KV_OK);
    cr_assert_eq(check(&kit, "db", &f), KV_CORRUPT);
    cr_assert_eq(f.n, 4, "%s", f.text);
    cr_assert_not_null(strstr(f.text, "not in the registry"), "%s", f.text);
    cr_assert_not_null(strstr(f.text, "does not begin"), "%s", f.text);
    cr_assert_not_null(strstr(f.text, "out of its window"), "%s", f.text);
    cr_assert_not_null(strstr(f.text, "seq=5: stored bytes are damaged"), "%s", f.text);
    store_kit_release(&kit);
}

Test(check, a_damaged_chunk_is_an_error_of_the_query_not_a_gap)
{
    struct store_kit kit;
    fill(&kit);
    int64_t times[] = {KIT_START_MS, KIT_START_MS + 1, KIT_START_MS + 2};
    struct ts_columns columns = {0};
    plant(&kit, (struct ts_chunk_key){ts_window_of(KIT_START_MS), ts_ref_of(1, 1), times[0], 5}, times, 3, 1);
    kv_status rc = KV_OK;
    for (int series = 0; series < 4 && rc == KV_OK; series++)
        rc = store_kit_read(&kit, series, INT64_MIN, INT64_MAX, &columns);
    cr_assert_eq(rc, KV_CORRUPT);
    cr_assert_not_null(strstr(kit.err.text, "seq=5"), "%s", kit.err.text);
    ts_columns_release(&columns);
    store_kit_release(&kit);
}

Test(check, a_snapshot_is_a_store_of_its_own)
{
    struct store_kit kit;
    struct findings f;
    fill(&kit);
    cr_assert_eq(ts_snapshot(kit.db, "copy", false, &kit.err), KV_OK, "%s", kit.err.text);
    store_kit_put(&kit, 1, KIT_START_MS + 60000, 60);
    cr_assert_eq(ts_snapshot(kit.db, "copy2", true, &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(ts_snapshot(kit.db, "copy", true, &kit.err), KV_EXISTS);
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    cr_assert_eq(check(&kit, "copy", &f), KV_OK, "%s: %s", kit.err.text, f.text);
    cr_assert_eq(check(&kit, "copy2", &f), KV_OK, "%s: %s", kit.err.text, f.text);
    static const char *const expected[] = {"1000=1 5000=5 9000=9 13000=13 17000=17 50000=50 ",
                                           "1000=1 5000=5 9000=9 13000=13 17000=17 50000=50 60000=60 "};
    for (int i = 0; i < 2; i++) {
        const struct kv_env_options options = {
            .vfs = kit.vfs, .clock = &kit.clock.base, .threads = KV_THREADS_NONE};
        cr_assert_eq(kv_env_open(&options, &kit.env, NULL), KV_OK);
        cr_assert_eq(ts_open(kit.env, i ? "copy2" : "copy", &kit.options, &kit.db, &kit.err), KV_OK, "%s",
                     kit.err.text);
        cr_assert_str_eq(store_kit_text(&kit, 1, 0, INT64_MAX), expected[i]);
        cr_assert_str_eq(store_kit_text(&kit, 2, 0, INT64_MAX), "6000=6 10000=10 14000=14 18000=18 ");
        cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    }
    store_kit_release(&kit);
}

Test(check, a_read_only_store_answers_and_refuses_to_change)
{
    struct store_kit kit;
    fill(&kit);
    cr_assert_eq(store_kit_close(&kit, true), KV_OK);
    kit.options.read_only = true;
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
    cr_assert_str_eq(store_kit_text(&kit, 2, 0, INT64_MAX), "6000=6 10000=10 14000=14 18000=18 ");
    cr_assert_eq(store_kit_add(&kit, 1, KIT_START_MS, 1), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_READ_ONLY);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_READ_ONLY);
    cr_assert_eq(store_kit_delete(&kit, 2, KIT_START_MS, INT64_MAX), KV_READ_ONLY);
    store_kit_release(&kit);
}
