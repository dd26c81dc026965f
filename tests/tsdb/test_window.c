/* Merging the chunks of a day. */
#include "kvcore/base/mem.h"
#include "kvcore/db/db.h"
#include "tests/support/file_kit.h"
#include "tests/support/store_kit.h"
#include "tsdb/chunk/chunk.h"
#include "tsdb/db.h"

#include <criterion/criterion.h>

static struct ts_window the_window(struct store_kit *kit, int64_t time_ms)
{
    struct ts_window *windows, found;
    size_t n;
    cr_assert_eq(
        ts_windows_copy(kit->db->windows, ts_window_of(time_ms), ts_window_of(time_ms), &windows, &n), KV_OK);
    cr_assert_eq(n, 1);
    found = windows[0];
    kv_free(windows);
    return found;
}

/* A sample a minute from start, flushed every `every`. */
static void fill(struct store_kit *kit, int64_t start_ms, int n, int every)
{
    for (int i = 0; i < n; i++) {
        for (int series = 0; series < 3; series++)
            cr_assert_eq(store_kit_add(kit, series, start_ms + i * 60000, i), KV_OK);
        cr_assert_eq(store_kit_commit(kit), KV_OK);
        if (i % every == every - 1)
            cr_assert_eq(ts_flush(kit->db, false, &kit->err), KV_OK, "%s", kit->err.text);
    }
}

/* How many chunks of the store were written so. */
static size_t efforts(struct store_kit *kit, enum ts_chunk_effort effort)
{
    struct kv_iter *it = NULL;
    size_t n = 0;
    cr_assert_eq(kv_iter_open(kit->db->kv, NULL, TS_SPACE_CHUNKS, (kv_slice){0}, (kv_slice){0}, &it), KV_OK);
    for (kv_status rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it)) {
        struct ts_chunk_info info;
        cr_assert_eq(ts_chunk_info(it->value, &info), KV_OK);
        n += info.effort == effort;
    }
    kv_iter_close(it);
    return n;
}

static size_t count(struct store_kit *kit, int series)
{
    struct ts_columns columns = {0};
    cr_assert_eq(store_kit_read(kit, series, INT64_MIN, INT64_MAX, &columns), KV_OK, "%s", kit->err.text);
    size_t n = columns.n;
    ts_columns_release(&columns);
    return n;
}

Test(window, an_unfinished_one_keeps_chunks_inside_two_hour_slots)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    fill(&kit, KIT_START_MS - 5 * 3600000, 300, 300); /* from 07:00 to 12:00: slots 06, 08, 10 */
    cr_assert_eq(the_window(&kit, KIT_START_MS).chunks, 3 * 3);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK);
    cr_assert_eq(the_window(&kit, KIT_START_MS).chunks, 3 * 3, "not finished: left alone");
    store_kit_release(&kit);
}

Test(window, a_finished_one_is_merged_once_and_its_chunks_joined)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    fill(&kit, KIT_START_MS - 5 * 3600000, 300, 100);
    clock_manual_advance_ms(&kit.clock, 14 * 3600000 - 60000);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK);
    cr_assert_not(the_window(&kit, KIT_START_MS).merged, "a minute early");
    clock_manual_advance_ms(&kit.clock, 60000);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK, "%s", kit.err.text);
    struct ts_window window = the_window(&kit, KIT_START_MS);
    cr_assert(window.merged);
    cr_assert_eq(window.chunks, 3);
    cr_assert_eq(window.runs, 1);
    cr_assert_eq(count(&kit, 1), 300);
    struct ts_stats before, after;
    ts_stats(kit.db, &before);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK);
    ts_stats(kit.db, &after);
    cr_assert_eq(before.merges, after.merges, "once");
    cr_assert_eq(store_kit_close(&kit, false), KV_OK);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    cr_assert(the_window(&kit, KIT_START_MS).merged, "and it is remembered");
    store_kit_release(&kit);
}

/* A chunk to itself in its slot is joined with nothing, and yet coded as small as can be: once. */
Test(window, a_chunk_alone_is_written_anew_when_its_window_is_finished)
{
    struct store_kit kit;
    struct ts_stats before, after;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    fill(&kit, KIT_START_MS - KIT_START_MS % TS_SLOT_MS - TS_SLOT_MS, 100, 100);
    cr_assert_eq(the_window(&kit, KIT_START_MS).chunks, 3);
    cr_assert_eq(efforts(&kit, TS_CHUNK_QUICK), 3);
    clock_manual_advance_ms(&kit.clock, 14 * 3600000);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(the_window(&kit, KIT_START_MS).chunks, 3);
    cr_assert_eq(efforts(&kit, TS_CHUNK_SMALL), 3);
    cr_assert_eq(count(&kit, 1), 100);
    ts_stats(kit.db, &before);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK);
    ts_stats(kit.db, &after);
    cr_assert_eq(before.merges, after.merges, "once");
    store_kit_release(&kit);
}

Test(window, a_head_that_holds_its_samples_puts_the_merge_off)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    fill(&kit, KIT_START_MS - 3600000, 60, 30);
    clock_manual_advance_ms(&kit.clock, KIT_DAY_MS);
    store_kit_put(&kit, 0, KIT_START_MS + 1, 1);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK);
    cr_assert_not(the_window(&kit, KIT_START_MS).merged);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK);
    cr_assert(the_window(&kit, KIT_START_MS).merged);
    cr_assert_eq(count(&kit, 0), 61);
    store_kit_release(&kit);
}

Test(window, late_data_lies_beside_it_until_it_is_worth_a_merge)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    int64_t start_ms = KIT_START_MS - 2 * KIT_DAY_MS;
    for (int i = 0; i < 600; i++)
        cr_assert_eq(store_kit_add(&kit, 0, start_ms + i * 60000, i * 0.37), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK);
    store_kit_put(&kit, 0, start_ms + 30000, -1);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK);
    cr_assert_eq(the_window(&kit, start_ms).runs, 2, "one late sample is left beside");
    cr_assert_eq(count(&kit, 0), 601);
    for (int i = 0; i < 600; i++)
        cr_assert_eq(store_kit_add(&kit, 0, start_ms + i * 60000 + 1000, i * 0.41), KV_OK);
    cr_assert_eq(store_kit_commit(&kit), KV_OK);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_OK);
    cr_assert_eq(the_window(&kit, start_ms).runs, 1, "many are merged in");
    cr_assert_eq(the_window(&kit, start_ms).side_bytes, 0);
    cr_assert_eq(count(&kit, 0), 1201);
    store_kit_release(&kit);
}

Test(window, runs_past_eight_are_merged_by_the_engine_and_precedence_holds)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    for (int i = 0; i < 24; i++) {
        store_kit_put(&kit, 0, KIT_START_MS, i);
        store_kit_put(&kit, 0, KIT_START_MS + 1000 + i, i);
        cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK, "%s", kit.err.text);
        while (kv_work(ts_kv(kit.db), &kit.err) == KV_OK)
            ;
        struct ts_columns columns = {0};
        cr_assert_eq(store_kit_read(&kit, 0, INT64_MIN, INT64_MAX, &columns), KV_OK, "%s", kit.err.text);
        cr_assert_eq(columns.n, 2 + i);
        cr_assert_eq(columns.values[0], i, "flush %d", i);
        ts_columns_release(&columns);
    }
    struct kv_space_stats stats;
    cr_assert_eq(kv_space_stats(ts_kv(kit.db), TS_SPACE_CHUNKS, &stats), KV_OK);
    cr_assert_leq(stats.runs_max, KV_RUNS_MAX + 1);
    store_kit_release(&kit);
}

Test(window, settling_merges_whatever_there_is)
{
    struct store_kit kit;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    fill(&kit, KIT_START_MS - 30 * 3600000, 1800, 100);
    cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(the_window(&kit, KIT_START_MS - KIT_DAY_MS).chunks, 3);
    cr_assert_eq(the_window(&kit, KIT_START_MS).chunks, 3);
    cr_assert_eq(count(&kit, 2), 1800);
    struct kv_space_stats stats;
    cr_assert_eq(kv_space_stats(ts_kv(kit.db), TS_SPACE_CHUNKS, &stats), KV_OK);
    cr_assert_eq(stats.runs_max, 1);
    store_kit_release(&kit);
}

Test(window, a_damaged_one_keeps_no_other_from_being_merged_and_no_series_from_leaving)
{
    struct store_kit kit;
    struct kv_buf value = {0};
    struct kv_bulk *bulk;
    struct ts_key key;
    struct ts_stats stats;
    size_t taken;
    int64_t first_ms = KIT_START_MS - 4 * KIT_DAY_MS, second_ms = KIT_START_MS - 3 * KIT_DAY_MS;
    double one = 1;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    fill(&kit, first_ms, 20, 10);
    fill(&kit, second_ms, 20, 10);
    store_kit_put(&kit, 9, second_ms, 1);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    cr_assert_eq(store_kit_delete(&kit, 9, INT64_MIN, INT64_MAX), KV_OK);
    const struct ts_chunk_key chunk = {ts_window_of(first_ms), ts_ref_of(1, 0), first_ms, 1};
    cr_assert_eq(ts_chunk_encode(&first_ms, &one, 1, TS_CHUNK_QUICK, &value, &taken), KV_OK);
    ts_key_chunk(&key, &chunk);
    cr_assert_eq(kv_bulk_open(ts_kv(kit.db), TS_SPACE_CHUNKS, &bulk, NULL), KV_OK);
    cr_assert_eq(kv_bulk_add(bulk, ts_key_slice(&key), kv_slice_of(value.data, value.len - 1), NULL), KV_OK);
    cr_assert_eq(kv_bulk_install(bulk, 0, NULL, &kit.err), KV_OK, "%s", kit.err.text);
    kv_buf_release(&value);
    cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK);
    cr_assert_eq(ts_maintain(kit.db, &kit.err), KV_CORRUPT);
    cr_assert_neq(kit.err.text[0], 0);
    cr_assert_gt(the_window(&kit, first_ms).runs, 1);
    cr_assert_eq(the_window(&kit, second_ms).runs, 1);
    ts_stats(kit.db, &stats);
    cr_assert_eq(stats.series, 3);
    cr_assert_eq(count(&kit, 1), 40);
    store_kit_release(&kit);
}

Test(window, times_of_what_is_stored_are_known_to_the_millisecond)
{
    struct store_kit kit;
    struct ts_stats stats;
    store_kit_init(&kit);
    cr_assert_eq(store_kit_open(&kit), KV_OK);
    ts_stats(kit.db, &stats);
    cr_assert_gt(stats.time_min_ms, stats.time_max_ms);
    store_kit_put(&kit, 1, KIT_START_MS - 3 * KIT_DAY_MS + 7, 1);
    store_kit_put(&kit, 2, KIT_START_MS - 9, 1);
    store_kit_put(&kit, 1, KIT_START_MS - 5, 1);
    for (int i = 0; i < 4; i++) {
        ts_stats(kit.db, &stats);
        cr_assert_eq(stats.time_min_ms, KIT_START_MS - 3 * KIT_DAY_MS + 7, "%d", i);
        cr_assert_eq(stats.time_max_ms, KIT_START_MS - (i < 3 ? 5 : 2), "%d", i);
        if (i == 1) {
            cr_assert_eq(store_kit_close(&kit, false), KV_OK);
            cr_assert_eq(store_kit_open(&kit), KV_OK);
        } else {
            if (i == 2)
                store_kit_put(&kit, 2, KIT_START_MS - 2, 1);
            cr_assert_eq(ts_flush(kit.db, i == 2, &kit.err), KV_OK);
        }
    }
    store_kit_release(&kit);
}

/* The name of the table that holds chunks of the window at time_ms. */
static void chunk_table(struct store_kit *kit, int64_t time_ms, char name[32])
{
    const struct kv_tree *tree = &ts_kv(kit->db)->view->version->trees[TS_SPACE_CHUNKS];
    struct ts_key key;
    ts_key_chunk_window(&key, ts_window_of(time_ms));
    for (size_t i = 0; i < tree->n_items; i++)
        if (kv_slice_has_prefix(tree->items[i].properties->smallest, ts_key_slice(&key)))
            kv_file_name(name, tree->items[i].number, KV_NAME_TABLE);
}

Test(window, damaged_tables_keep_the_store_open_and_their_windows_known)
{
    enum { DAYS = 5 };
    for (unsigned damaged = 1; damaged < 1U << DAYS; damaged++) {
        struct store_kit kit;
        char names[DAYS][32] = {{0}};
        struct ts_columns out = {0};
        store_kit_init(&kit);
        cr_assert_eq(store_kit_open(&kit), KV_OK);
        for (int day = 0; day < DAYS; day++)
            store_kit_put(&kit, 1, KIT_START_MS - day * KIT_DAY_MS, day);
        cr_assert_eq(ts_flush(kit.db, true, &kit.err), KV_OK, "%s", kit.err.text);
        for (int day = 0; day < DAYS; day++)
            chunk_table(&kit, KIT_START_MS - day * KIT_DAY_MS, names[day]);
        cr_assert_eq(store_kit_close(&kit, false), KV_OK);
        for (int day = 0; day < DAYS; day++)
            if (damaged >> day & 1)
                file_kit_flip(kit.vfs, "db", names[day], KV_FILE_HEADER_AT_UID);
        cr_assert_eq(store_kit_open(&kit), KV_OK, "%s", kit.err.text);
        for (int day = 0; day < DAYS; day++) {
            int64_t at = KIT_START_MS - day * KIT_DAY_MS;
            cr_assert_eq(the_window(&kit, at).chunks, 1, "%x: day %d", damaged, day);
            kv_status rc = store_kit_read(&kit, 1, at, at, &out);
            cr_assert_eq(rc, damaged >> day & 1 ? KV_CORRUPT : KV_OK, "%x: day %d: %s", damaged, day,
                         kv_status_name(rc));
            cr_assert(rc < 0 || out.n == 1);
        }
        store_kit_put(&kit, 1, KIT_START_MS + 1, 7); /* it goes on */
        cr_assert_eq(ts_flush(kit.db, false, &kit.err), KV_OK, "%s", kit.err.text);
        ts_columns_release(&out);
        store_kit_release(&kit);
    }
}
