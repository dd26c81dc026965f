/* Deletes: what came before them goes, what comes after stays. */
#include "tests/support/store_kit.h"
#include "tsdb/db.h"

#include <criterion/criterion.h>

static void put_five(struct store_kit *kit, int series)
{
    for (int i = 0; i < 5; i++)
        store_kit_put(kit, series, KIT_START_MS + i * 1000, i);
}

/* Where the samples are when the delete comes. */
static void delete_middle(struct store_kit *kit, int flushes)
{
    put_five(kit, 1);
    put_five(kit, 2);
    if (flushes > 0)
        cr_assert_eq(ts_flush(kit->db, flushes > 1, &kit->err), KV_OK, "%s", kit->err.text);
    cr_assert_eq(store_kit_delete(kit, 1, KIT_START_MS + 1000, KIT_START_MS + 3000), KV_OK, "%s",
                 kit->err.text);
}

static void expect(struct store_kit *kit, const char *what)
{
    cr_assert_str_eq(store_kit_text(kit, 1, 0, INT64_MAX), "0=0 2000=9 4000=4 ", "%s", what);
    cr_assert_str_eq(store_kit_text(kit, 2, 0, INT64_MAX), "0=0 1000=1 2000=2 3000=3 4000=4 ", "%s", what);
}

static void through_its_life(int flushes)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    delete_middle(&kit, flushes);
    cr_assert_str_eq(store_kit_text(&kit, 1, 0, INT64_MAX), "0=0 4000=4 ");
    store_kit_put(&kit, 1, KIT_START_MS + 2000, 9); /* written again after the delete */
    expect(&kit, "at once");
    store_kit_crash(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
    expect(&kit, "replayed");
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK, "%s", kit.err.text);
    expect(&kit, "flushed");
    store_kit_crash(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
    expect(&kit, "flushed and reopened");
    cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK, "%s", kit.err.text);
    expect(&kit, "merged");
    struct ts_head_pin pin;
    cr_assert_eq(ts_head_pin(kit.db->head, &pin), KV_OK);
    cr_assert_null(pin.tombstones, "a merge makes tombstones superfluous");
    ts_head_unpin(&pin);
    store_kit_crash(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
    expect(&kit, "merged and reopened");
    store_kit_release(&kit);
}

Test(delete, from_the_head_holds_for_ever)
{
    through_its_life(0);
}

Test(delete, from_tables_holds_for_ever)
{
    through_its_life(1);
}

Test(delete, from_merged_tables_holds_for_ever)
{
    through_its_life(2);
}

Test(delete, covers_late_samples_too)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    store_kit_put(&kit, 1, KIT_START_MS + 9000, 1);
    put_five(&kit, 1);
    cr_assert_eq(store_kit_delete(&kit, 1, KIT_START_MS + 1000, KIT_START_MS + 8000), KV_OK);
    cr_assert_str_eq(store_kit_text(&kit, 1, 0, INT64_MAX), "0=0 9000=1 ");
    cr_assert_eq(store_kit_delete(&kit, 1, INT64_MIN, INT64_MAX), KV_OK);
    cr_assert_str_eq(store_kit_text(&kit, 1, 0, INT64_MAX), "");
    store_kit_put(&kit, 1, KIT_START_MS + 500, 2);
    cr_assert_str_eq(store_kit_text(&kit, 1, 0, INT64_MAX), "500=2 ");
    store_kit_release(&kit);
}

Test(delete, by_selector_reaches_every_matching_series)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    for (int series = 0; series < 6; series++)
        put_five(&kit, series);
    kv_slice selectors[] = {KV_STR("{parity=\"odd\"}"), KV_STR("m0{i=~\"0|2\"}")};
    cr_assert_eq(ts_delete(kit.db, selectors, 2, KIT_START_MS, KIT_START_MS + 10000, &kit.err), KV_OK, "%s",
                 kit.err.text);
    for (int series = 0; series < 6; series++) {
        bool deleted = series % 2 == 1 || series == 0;
        cr_assert_eq(store_kit_text(&kit, series, 0, INT64_MAX)[0] == 0, deleted, "series %d", series);
    }
    store_kit_release(&kit);
}

Test(delete, a_selector_that_does_not_parse_is_refused_with_its_place)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    kv_slice selector = KV_STR("up{");
    cr_assert_eq(ts_delete(kit.db, &selector, 1, 0, 1, &kit.err), KV_INVALID);
    cr_assert_neq(strstr(kit.err.text, "parse error"), NULL, "%s", kit.err.text);
    store_kit_release(&kit);
}

Test(delete, a_selector_that_says_nothing_does_not_delete_everything)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    put_five(&kit, 1);
    const char *all[] = {"{}", "{nobody=~\".*\"}", "{nobody=\"\"}", "{parity!=\"even\"}"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        kv_slice selector = kv_slice_str(all[i]);
        cr_assert_eq(ts_delete(kit.db, &selector, 1, INT64_MIN, INT64_MAX, &kit.err), KV_INVALID, "%s",
                     all[i]);
        cr_assert_neq(strstr(kit.err.text, "at least one non-empty matcher"), NULL, "%s", kit.err.text);
    }
    cr_assert_neq(store_kit_text(&kit, 1, 0, INT64_MAX)[0], 0);
    kv_slice everything = KV_STR("{__name__=~\".+\"}");
    cr_assert_eq(ts_delete(kit.db, &everything, 1, INT64_MIN, INT64_MAX, &kit.err), KV_OK);
    cr_assert_eq(store_kit_text(&kit, 1, 0, INT64_MAX)[0], 0);
    store_kit_release(&kit);
}

Test(delete, of_nothing_changes_nothing)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    put_five(&kit, 1);
    uint64_t seq = kv_seq(ts_kv(kit.db));
    cr_assert_eq(store_kit_delete(&kit, 5, INT64_MIN, INT64_MAX), KV_OK);
    cr_assert_eq(store_kit_delete(&kit, 1, KIT_START_MS + KIT_DAY_MS, INT64_MAX), KV_OK);
    cr_assert_eq(kv_seq(ts_kv(kit.db)), seq);
    cr_assert_str_eq(store_kit_text(&kit, 1, 0, INT64_MAX), "0=0 1000=1 2000=2 3000=3 4000=4 ");
    store_kit_release(&kit);
}

/* A window whose samples all went while they were in the head never becomes a table that a merge could settle. */
Test(delete, of_everything_in_the_head_leaves_no_tombstone_for_ever)
{
    struct store_kit kit;
    struct ts_head_pin pin;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    put_five(&kit, 1);
    cr_assert_eq(store_kit_delete(&kit, 1, KIT_START_MS, KIT_START_MS + 4000), KV_OK, "%s", kit.err.text);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(ts_head_pin(kit.db->head, &pin), KV_OK);
    cr_assert_not_null(pin.tombstones, "not while a crash could replay the samples");
    ts_head_unpin(&pin);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK, "%s", kit.err.text);
    for (int life = 0; life < 2; life++) {
        cr_assert_eq(ts_head_pin(kit.db->head, &pin), KV_OK);
        cr_assert_null(pin.tombstones);
        ts_head_unpin(&pin);
        store_kit_crash(&kit);
        cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
        cr_assert_str_eq(store_kit_text(&kit, 1, 0, INT64_MAX), "");
    }
    store_kit_release(&kit);
}
