/* Metadata of metric families. */
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
