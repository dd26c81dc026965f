/* Metadata of metric families. */
#include "tests/support/store_kit.h"
#include "tsdb/key.h"
#include "tsdb/meta.h"

#include <criterion/criterion.h>
#include <stdio.h>

static kv_status collect(void *ctx, kv_slice family, kv_slice type, kv_slice help, kv_slice unit)
{
    char *out = ctx;
    sprintf(out + strlen(out), "%.*s/%.*s/%.*s/%.*s ", KV_ARG(family), KV_ARG(type), KV_ARG(help),
            KV_ARG(unit));
    return KV_OK;
}

Test(meta, the_last_report_of_a_family_wins_and_families_come_by_name)
{
    struct ts_meta *meta;
    char out[256] = "";
    cr_assert_eq(ts_meta_new(&meta), KV_OK);
    cr_assert_eq(ts_meta_set(meta, KV_STR("b"), KV_STR("gauge"), KV_STR("old"), KV_STR("")), KV_OK);
    cr_assert_eq(ts_meta_set(meta, KV_STR("a"), KV_STR("counter"), KV_STR("x"), KV_STR("s")), KV_OK);
    cr_assert_eq(ts_meta_set(meta, KV_STR("b"), KV_STR("gauge"), KV_STR("new"), KV_STR("")), KV_OK);
    cr_assert_eq(ts_meta_each(meta, KV_STR(""), collect, out), KV_OK);
    cr_assert_str_eq(out, "a/counter/x/s b/gauge/new/ ");
    out[0] = 0;
    cr_assert_eq(ts_meta_each(meta, KV_STR("b"), collect, out), KV_OK);
    cr_assert_str_eq(out, "b/gauge/new/ ");
    ts_meta_free(meta);
}

Test(meta, families_and_text_are_bounded)
{
    struct ts_meta *meta;
    static uint8_t text[TS_META_TEXT_MAX + 10];
    char name[32], out[TS_META_TEXT_MAX + 64] = "";
    memset(text, 'x', sizeof text);
    memcpy(text + TS_META_TEXT_MAX - 1, "\xc3\xa9", 2); /* a character over the cut */
    cr_assert_eq(ts_meta_new(&meta), KV_OK);
    cr_assert_eq(ts_meta_set(meta, KV_STR("m"), KV_STR("gauge"), kv_slice_of(text, sizeof text), KV_STR("")),
                 KV_OK);
    cr_assert_eq(ts_meta_each(meta, KV_STR("m"), collect, out), KV_OK);
    cr_assert_eq(strlen(out), strlen("m/gauge// ") + TS_META_TEXT_MAX - 1);
    kv_status rc = KV_OK;
    for (int i = 1; i < TS_META_FAMILIES_MAX && rc == KV_OK; i++) {
        snprintf(name, sizeof name, "f%d", i);
        rc = ts_meta_set(meta, kv_slice_str(name), KV_STR("gauge"), KV_STR(""), KV_STR(""));
    }
    cr_assert_eq(rc, KV_OK);
    cr_assert_eq(ts_meta_set(meta, KV_STR("one more"), KV_STR("gauge"), KV_STR(""), KV_STR("")), KV_LIMIT);
    cr_assert_eq(ts_meta_set(meta, KV_STR("f7"), KV_STR("counter"), KV_STR(""), KV_STR("")), KV_OK);
    ts_meta_free(meta);
}

static const char *all_of(struct ts_db *db)
{
    static char out[TS_META_TEXT_MAX];
    out[0] = 0;
    cr_assert_eq(ts_metadata_each(db, KV_STR(""), collect, out), KV_OK);
    return out;
}

Test(meta, it_survives_a_restart_and_a_crash_after_a_round_of_care)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_assert_eq(ts_metadata_set(kit.db, KV_STR("a"), KV_STR("counter"), KV_STR("x"), KV_STR("s")), KV_OK);
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_assert_str_eq(all_of(kit.db), "a/counter/x/s ");
    uint64_t before = kv_seq(ts_kv(kit.db));
    cr_assert_eq(ts_metadata_set(kit.db, KV_STR("a"), KV_STR("counter"), KV_STR("x"), KV_STR("s")), KV_OK);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_seq(ts_kv(kit.db)), before, "what is known already is not stored again");
    cr_assert_eq(ts_metadata_set(kit.db, KV_STR("a"), KV_STR("counter"), KV_STR("y"), KV_STR("s")), KV_OK);
    cr_assert_eq(ts_metadata_set(kit.db, KV_STR("b"), KV_STR("gauge"), KV_STR(""), KV_STR("")), KV_OK);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK);
    cr_assert_eq(ts_metadata_set(kit.db, KV_STR("c"), KV_STR("gauge"), KV_STR(""), KV_STR("")), KV_OK);
    store_kit_crash(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
    cr_assert_str_eq(all_of(kit.db), "a/counter/y/s b/gauge// ");
    store_kit_release(&kit);
}

Test(meta, names_too_long_for_a_key_are_stored_whole)
{
    struct store_kit kit;
    static uint8_t name[2000];
    memset(name, 'n', sizeof name);
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    for (size_t len = 1999; len <= 2000; len++) /* the same 1500 bytes in front */
        cr_assert_eq(ts_metadata_set(kit.db, kv_slice_of(name, len), KV_STR("gauge"), KV_STR(""), KV_STR("")),
                     KV_OK);
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_assert_eq(strlen(all_of(kit.db)), 1999 + 2000 + 2 * strlen("/gauge// "));
    store_kit_release(&kit);
}

Test(meta, a_save_that_fails_is_made_up_for)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    kit.options.read_only = true;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    struct ts_meta *meta;
    char out[256] = "";
    cr_assert_eq(ts_meta_new(&meta), KV_OK);
    cr_assert_eq(ts_meta_set(meta, KV_STR("a"), KV_STR("gauge"), KV_STR(""), KV_STR("")), KV_OK);
    cr_assert_eq(ts_meta_save(meta, ts_kv(kit.db), NULL), KV_READ_ONLY);
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    kit.options.read_only = false;
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_assert_eq(ts_meta_save(meta, ts_kv(kit.db), NULL), KV_OK);
    ts_meta_free(meta);
    cr_assert_eq(ts_meta_new(&meta), KV_OK);
    cr_assert_eq(ts_meta_load(meta, ts_kv(kit.db), NULL), KV_OK);
    cr_assert_eq(ts_meta_each(meta, KV_STR(""), collect, out), KV_OK);
    cr_assert_str_eq(out, "a/gauge// ");
    ts_meta_free(meta);
    store_kit_release(&kit);
}

Test(meta, damage_is_reported_and_costs_no_more_than_metadata)
{
    struct store_kit kit;
    struct kv_batch *batch = NULL;
    struct ts_key key;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    store_kit_put(&kit, 1, KIT_START_MS, 1);
    ts_key_family(&key, KV_STR("a"));
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put(batch, TS_SPACE_SERIES, ts_key_slice(&key), KV_STR("\5gau")), KV_OK);
    cr_assert_eq(kv_commit(ts_kv(kit.db), batch, NULL, NULL, NULL), KV_OK);
    kv_batch_free(batch);
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    const struct kv_env_options options = {
        .vfs = kit.vfs, .clock = &kit.clock.base, .threads = KV_THREADS_NONE};
    struct kv_env *env;
    cr_assert_eq(kv_env_open(&options, &env, NULL), KV_OK);
    cr_assert_eq(ts_check(env, "db", NULL, NULL, &kit.err), KV_CORRUPT);
    kv_env_close(env);
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
    cr_assert_str_eq(store_kit_text(&kit, 1, 0, INT64_MAX), "0=1 ");
    cr_assert_str_eq(all_of(kit.db), "");
    store_kit_release(&kit);
}
