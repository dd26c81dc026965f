/* Levelled spaces from outside: where entries come to lie, and that what nobody needs goes by itself. */
#include "kvcore/base/prng.h"
#include "kvcore/db/db.h"
#include "tests/support/kv_kit.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* Space 0 levelled, with levels of a few KiB. */
static void levelled(struct kv_kit *kit, struct kv_vfs *vfs)
{
    kv_kit_init(kit, vfs);
    kit->spaces[0].style = KV_STYLE_LEVELLED;
    kit->spaces[0].table_bytes = 2048;
    kit->spaces[0].level_base_bytes = 4096;
    kit->spaces[0].level_multiplier = 4;
    kit->spaces[0].block_bytes = 512;
    kit->spaces[0].compression = KV_COMPRESSION_NONE;
    kit->options.memtable_bytes = 64 << 10;
}

static void flush(struct kv_kit *kit)
{
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK, "%s", kit->err.text);
}

static const char *key_of(int n, char out[16])
{
    snprintf(out, 16, "key%06d", n);
    return out;
}

/* n keys from `first` on, `step` apart, in batches of 50; value NULL: deletes. */
static void put_many(struct kv_kit *kit, int first, int step, int n, const char *value)
{
    struct kv_batch *batch = NULL;
    char key[16];
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    for (int i = 0; i < n; i++) {
        kv_slice k = kv_slice_str(key_of(first + i * step, key));
        cr_assert_eq(value ? kv_batch_put(batch, 0, k, kv_slice_str(value)) : kv_batch_delete(batch, 0, k),
                     KV_OK);
        if (i % 50 == 49 || i == n - 1) {
            cr_assert_eq(kv_commit(kit->db, batch, NULL, NULL, &kit->err), KV_OK, "%s", kit->err.text);
            kv_batch_clear(batch);
        }
    }
    kv_batch_free(batch);
}

static uint64_t count_of(struct kv_kit *kit)
{
    struct kv_iter *it = NULL;
    uint64_t n = 0;
    kv_status rc = kv_iter_open(kit->db, NULL, 0, (kv_slice){0}, (kv_slice){0}, &it);
    cr_assert_eq(rc, KV_OK);
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it))
        n++;
    kv_iter_close(it);
    cr_assert_eq(rc, KV_END);
    return n;
}

static void stats_of(struct kv_kit *kit, struct kv_level_stats out[KV_LEVELS_MAX])
{
    cr_assert_eq(kv_levels(kit->db, 0, out), KV_OK);
}

static void must_be_sound(struct kv_kit *kit)
{
    struct kv_env *env = NULL;
    struct kv_env_options options = {.vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE};
    cr_assert_eq(kv_kit_close(kit), KV_OK);
    cr_assert_eq(kv_env_open(&options, &env, &kit->err), KV_OK);
    cr_assert_eq(kv_check(env, kit->path, NULL, NULL, &kit->err), KV_OK, "%s", kit->err.text);
    kv_env_close(env);
    kv_kit_must_open(kit);
}

Test(levels, what_is_written_in_the_order_of_its_keys_is_moved_and_never_rewritten)
{
    struct kv_kit kit;
    struct kv_level_stats levels[KV_LEVELS_MAX];
    levelled(&kit, NULL);
    kv_kit_must_open(&kit);
    for (int i = 0; i < 40; i++) {
        put_many(&kit, i * 50, 1, 50, "a value of a little length");
        flush(&kit);
        kv_kit_work_all(&kit);
    }
    stats_of(&kit, levels);
    cr_assert_eq(kv_kit_metric(&kit, "kv_merge_bytes_written_total"), 0);
    cr_assert(kv_kit_metric(&kit, "kv_moved_tables_total") >= 36);
    cr_assert(levels[KV_LEVELS_MAX - 1].tables > 0 && levels[0].tables < 4);
    cr_assert_eq(count_of(&kit), 2000);
    must_be_sound(&kit);
    cr_assert_eq(count_of(&kit), 2000, "moves are durable");
    kv_kit_release(&kit);
}

Test(levels, overwriting_at_random_fills_levels_within_their_targets)
{
    struct kv_kit kit;
    struct kv_level_stats levels[KV_LEVELS_MAX];
    struct kv_prng prng;
    char key[16], value[32];
    static int model[1000];
    levelled(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_prng_init(&prng, 3);
    for (int round = 1; round <= 60; round++) {
        for (int i = 0; i < 60; i++) {
            int k = (int)kv_prng_below(&prng, 1000);
            model[k] = round * 100 + i;
            snprintf(value, sizeof value, "%026d", model[k]);
            kv_kit_put(&kit, 0, key_of(k, key), value);
        }
        flush(&kit);
        kv_kit_work_all(&kit);
    }
    stats_of(&kit, levels);
    size_t used = 0;
    uint64_t in = 0, out = 0;
    for (int i = 0; i < KV_LEVELS_MAX; i++) {
        used += levels[i].tables > 0;
        in += levels[i].bytes_written;
        out += levels[i].merges;
        cr_assert(levels[i].score < 1, "level %d: %f", i, levels[i].score);
        cr_assert(i == 0 || i == KV_LEVELS_MAX - 1 || levels[i].bytes <= levels[i].target_bytes);
    }
    cr_assert(used >= 3 && in > 0 && out > 0, "%d levels", (int)used);
    must_be_sound(&kit);
    for (int k = 0; k < 1000; k++) {
        snprintf(value, sizeof value, "%026d", model[k]);
        cr_assert(kv_kit_is(&kit, NULL, 0, key_of(k, key), model[k] ? value : NULL));
    }
    kv_kit_release(&kit);
}

/* Theme "Deletes/TTL do not free space": without any manual call. */
Test(levels, after_deleting_half_the_space_comes_back_by_itself)
{
    struct kv_kit kit;
    levelled(&kit, NULL);
    kv_kit_must_open(&kit);
    put_many(&kit, 0, 7, 1000, "a value that takes some room, as values do, so that it is seen");
    put_many(&kit, 1, 7, 1000, "a value that takes some room, as values do, so that it is seen");
    flush(&kit);
    kv_kit_work_all(&kit);
    uint64_t before = kv_kit_stats(&kit, 0).table_bytes;
    put_many(&kit, 0, 7, 1000, NULL);
    flush(&kit);
    kv_kit_work_all(&kit);
    uint64_t after = kv_kit_stats(&kit, 0).table_bytes;
    cr_assert(after * 10 < before * 6, "%d of %d", (int)after, (int)before);
    cr_assert_eq(count_of(&kit), 1000);
    put_many(&kit, 1, 7, 1000, NULL);
    flush(&kit);
    kv_kit_work_all(&kit);
    cr_assert_eq(kv_kit_stats(&kit, 0).tables, 0, "nothing is left of nothing");
    kv_kit_crash(&kit);
    cr_assert_eq(count_of(&kit), 0);
    kv_kit_release(&kit);
}

/* The same with deletions that are few enough to stay in memory. */
Test(levels, deletions_that_hide_much_do_not_wait_for_a_full_memtable)
{
    struct kv_kit kit;
    struct kv_batch *batch = NULL;
    levelled(&kit, NULL);
    kit.options.memtable_bytes = 256 << 10;
    kv_kit_must_open(&kit);
    put_many(&kit, 0, 1, 2000, "a value that takes some room, as values do, so that it is seen");
    flush(&kit);
    kv_kit_work_all(&kit);
    uint64_t before = kv_kit_stats(&kit, 0).table_bytes;
    for (int i = 0; i < 1900; i += 100) {
        put_many(&kit, i, 1, 100, NULL);
        kv_kit_work_all(&kit);
    }
    uint64_t after = kv_kit_stats(&kit, 0).table_bytes;
    cr_assert(after * 2 < before, "%d of %d", (int)after, (int)before);
    cr_assert_eq(count_of(&kit), 100);
    put_many(&kit, 0, 1, 2000, "a value that takes some room, as values do, so that it is seen");
    flush(&kit);
    kv_kit_work_all(&kit);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_delete_range(batch, 0, KV_STR("key000010"), KV_STR("key001990")), KV_OK);
    cr_assert_eq(kv_commit(kit.db, batch, NULL, NULL, &kit.err), KV_OK, "%s", kit.err.text);
    kv_batch_free(batch);
    kv_kit_work_all(&kit);
    after = kv_kit_stats(&kit, 0).table_bytes;
    cr_assert(after * 10 < before, "%d of %d", (int)after, (int)before);
    cr_assert_eq(count_of(&kit), 20);
    must_be_sound(&kit);
    cr_assert_eq(count_of(&kit), 20);
    kv_kit_release(&kit);
}

Test(levels, a_few_deletions_go_down_when_they_are_old)
{
    struct kv_kit kit;
    struct kv_level_stats levels[KV_LEVELS_MAX];
    levelled(&kit, NULL);
    kit.spaces[0].deletions_age_s = 3600;
    kv_kit_must_open(&kit);
    put_many(&kit, 0, 1, 1000, "a value that takes some room");
    flush(&kit);
    kv_kit_work_all(&kit);
    put_many(&kit, 0, 300, 3, NULL);
    put_many(&kit, 1, 300, 3, "a value that takes some more room");
    flush(&kit);
    kv_kit_work_all(&kit);
    stats_of(&kit, levels);
    cr_assert_eq(levels[0].deletions, 3);
    kv_kit_reopen(&kit);
    clock_manual_advance_ms(&kit.clock, 3590 * 1000);
    cr_assert_eq(kv_work(kit.db, &kit.err), KV_END);
    clock_manual_advance_ms(&kit.clock, 20 * 1000);
    kv_kit_work_all(&kit);
    stats_of(&kit, levels);
    for (int i = 0; i < KV_LEVELS_MAX; i++)
        cr_assert_eq(levels[i].deletions, 0);
    cr_assert_eq(count_of(&kit), 997);
    kv_kit_release(&kit);
}

Test(levels, tables_of_expired_entries_are_dropped_unread)
{
    struct kv_kit kit;
    struct kv_batch *batch = NULL;
    char key[16];
    levelled(&kit, NULL);
    kv_kit_must_open(&kit);
    uint64_t now = (uint64_t)kv_retention_clock_ms(kit.db) / 1000;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    for (int i = 0; i < 400; i++) {
        struct kv_put_options with = {.expires_at_s = now + 60};
        cr_assert_eq(
            kv_batch_put_with(batch, 0, kv_slice_str(key_of(i, key)), KV_STR("a session of somebody"), &with),
            KV_OK);
    }
    cr_assert_eq(kv_commit(kit.db, batch, NULL, NULL, &kit.err), KV_OK);
    kv_batch_free(batch);
    put_many(&kit, 400, 1, 100, "stays");
    flush(&kit);
    kv_kit_work_all(&kit);
    cr_assert_eq(count_of(&kit), 500);
    uint64_t merged = kv_kit_metric(&kit, "kv_merge_bytes_written_total");
    clock_manual_advance_ms(&kit.clock, 61 * 1000);
    cr_assert_eq(count_of(&kit), 100);
    kv_kit_work_all(&kit);
    cr_assert(kv_kit_metric(&kit, "kv_dropped_tables_total") >= 4);
    cr_assert(kv_kit_metric(&kit, "kv_merge_bytes_written_total") - merged < 8192,
              "but for the one that has both");
    cr_assert_eq(kv_kit_stats(&kit, 0).entries, 100);
    must_be_sound(&kit);
    cr_assert_eq(count_of(&kit), 100);
    kv_kit_release(&kit);
}

/* Theme "Deleted data comes back". */
Test(levels, a_deletion_stays_while_something_older_lies_outside_the_merge)
{
    struct kv_kit kit;
    struct kv_level_stats levels[KV_LEVELS_MAX];
    levelled(&kit, NULL);
    kit.spaces[0].level0_runs = 2;
    kv_kit_must_open(&kit);
    put_many(&kit, 0, 1, 600, "a value that makes several levels of tables out of six hundred");
    flush(&kit);
    kv_kit_work_all(&kit);
    for (int round = 0; round < 8; round++) {
        put_many(&kit, 40 * round, 3, 3, NULL);
        put_many(&kit, 1000 + round, 1, 1, "x");
        flush(&kit);
        while (kv_work(kit.db, &kit.err) == KV_OK) /* at every step of the way down */
            cr_assert_eq(count_of(&kit), (uint64_t)(600 - 3 * (round + 1) + round + 1));
    }
    stats_of(&kit, levels);
    kv_kit_crash(&kit);
    cr_assert_eq(count_of(&kit), 600 - 24 + 8);
    kv_kit_release(&kit);
}

Test(levels, a_bulk_load_goes_to_the_deepest_level_with_nothing_of_it_there_or_above)
{
    struct kv_kit kit;
    struct kv_level_stats levels[KV_LEVELS_MAX];
    levelled(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_bulk(&kit, 0, (const char *const[]){"d", "m"}, 2, "1", 0);
    stats_of(&kit, levels);
    cr_assert_eq(levels[6].tables, 1);
    kv_kit_bulk(&kit, 0, (const char *const[]){"e", "f"}, 2, "2", 0);
    stats_of(&kit, levels);
    cr_assert(levels[5].tables == 1 && levels[6].tables == 1, "it lies between d and m");
    kv_kit_bulk(&kit, 0, (const char *const[]){"n", "z"}, 2, "3", 0);
    stats_of(&kit, levels);
    cr_assert(levels[6].tables == 2);
    kv_kit_put(&kit, 0, "p", "4");
    flush(&kit);
    kv_kit_bulk(&kit, 0, (const char *const[]){"o", "p"}, 2, "5", 0);
    stats_of(&kit, levels);
    cr_assert(levels[0].tables == 2, "a flush lies above");
    kv_kit_crash(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "p", "5") && kv_kit_is(&kit, NULL, 0, "e", "2"));
    kv_kit_work_all(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "p", "5") && kv_kit_is(&kit, NULL, 0, "z", "3"));
    kv_kit_release(&kit);
}

Test(levels, a_range_is_merged_to_the_bottom_and_the_rest_stays)
{
    struct kv_kit kit;
    struct kv_level_stats levels[KV_LEVELS_MAX];
    levelled(&kit, NULL);
    kv_kit_must_open(&kit);
    for (int i = 0; i < 3; i++) {
        put_many(&kit, 0, 1, 100, i == 2 ? NULL : "v");
        put_many(&kit, 5000, 1, 100, "v");
        flush(&kit);
    }
    cr_assert_eq(kv_merge_range(kit.db, 0, KV_STR("key004999"), (kv_slice){0}, &kit.err), KV_OK);
    stats_of(&kit, levels);
    cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
    stats_of(&kit, levels);
    cr_assert(levels[0].tables == 0 && levels[6].entries == 100 && levels[6].deletions == 0);
    uint64_t merges = kv_kit_metric(&kit, "kv_merges_total");
    cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_metric(&kit, "kv_merges_total"), merges, "it is there already");
    cr_assert_eq(count_of(&kit), 100);
    kv_kit_release(&kit);
}

Test(levels, tables_are_dropped_whole_on_every_level)
{
    struct kv_kit kit;
    uint64_t bytes;
    levelled(&kit, NULL);
    kv_kit_must_open(&kit);
    for (int i = 0; i < 4; i++) {
        put_many(&kit, i * 200, 1, 200, "some value");
        flush(&kit);
        kv_kit_work_all(&kit);
    }
    size_t tables = kv_kit_stats(&kit, 0).tables;
    cr_assert_eq(kv_drop_tables(kit.db, 0, KV_STR("key000200"), KV_STR("key000600"), &bytes, &kit.err),
                 KV_OK);
    cr_assert(bytes > 0 && kv_kit_stats(&kit, 0).tables < tables);
    cr_assert(count_of(&kit) >= 400 && count_of(&kit) < 800);
    must_be_sound(&kit);
    kv_kit_release(&kit);
}

Test(levels, any_single_failure_of_the_disk_leaves_everything_as_it_was)
{
    bool fired = true;
    for (uint64_t nth = 1; fired; nth++) {
        struct kv_kit kit;
        struct kv_err err;
        levelled(&kit, NULL);
        struct vfs_fault *fault = vfs_fault_new(kit.own);
        kit.vfs = vfs_fault_as_vfs(fault);
        kv_kit_must_open(&kit);
        put_many(&kit, 0, 2, 100, "1");
        flush(&kit);
        put_many(&kit, 0, 4, 50, NULL);
        flush(&kit);
        put_many(&kit, 500, 1, 10, "1");
        flush(&kit);
        vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = nth});
        kv_status rc = KV_OK;
        while (rc == KV_OK)
            rc = kv_work(kit.db, &err);
        if (rc == KV_END) {
            rc = kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &err);
            rc = rc == KV_OK ? KV_END : rc;
        }
        fired = vfs_fault_fired(fault);
        vfs_fault_plan(fault, NULL);
        cr_assert(fired || rc == KV_END, "%s", err.text);
        cr_assert_eq(count_of(&kit), 60, "operation %d", (int)nth);
        kv_kit_reopen(&kit);
        kv_kit_work_all(&kit);
        cr_assert_eq(count_of(&kit), 60, "operation %d", (int)nth);
        cr_assert_eq(kv_kit_files(&kit, ".tbl"), kv_kit_stats(&kit, 0).tables, "operation %d", (int)nth);
        kv_kit_close(&kit);
        vfs_fault_free(fault);
        kv_kit_release(&kit);
    }
}

Test(levels, merges_keep_the_pace_that_was_asked_for_and_flushes_do_not_wait)
{
    struct kv_kit kit;
    struct kv_env_options options = {.threads = KV_THREADS_NONE, .background_bytes_per_s = 10000};
    levelled(&kit, NULL);
    options.vfs = kit.vfs;
    options.clock = &kit.clock.base;
    kit.options.spaces = kit.spaces;
    cr_assert_eq(kv_env_open(&options, &kit.env, &kit.err), KV_OK);
    cr_assert_eq(kv_open(kit.env, kit.path, &kit.options, &kit.db, &kit.err), KV_OK);
    uint64_t began = kv_clock_mono_ns(&kit.clock.base);
    for (int i = 0; i < 4; i++) {
        put_many(&kit, i, 4, 2000, "v");
        flush(&kit);
    }
    cr_assert_eq(kv_clock_mono_ns(&kit.clock.base), began);
    kv_kit_work_all(&kit);
    uint64_t ms = (kv_clock_mono_ns(&kit.clock.base) - began) / 1000000;
    uint64_t bytes =
        kv_kit_metric(&kit, "kv_flush_bytes_total") + kv_kit_metric(&kit, "kv_merge_bytes_written_total");
    cr_assert(bytes > 50000);
    cr_assert(ms > bytes / 10 / 2 && ms < bytes / 10 + 500, "%d bytes in %d ms", (int)bytes, (int)ms);
    kv_kit_release(&kit);
}

/* Theme "Stalls, compaction": slower before it stands still, never a cliff. */
Test(levels, commits_are_slowed_more_and_more_as_merges_fall_behind)
{
    struct kv_kit kit;
    levelled(&kit, NULL);
    kv_kit_must_open(&kit);
    uint64_t last = 0;
    for (int runs = 1; runs <= 40; runs++) {
        kv_kit_put(&kit, 0, "a", "1");
        kv_kit_put(&kit, 0, "z", "1");
        flush(&kit);
        uint64_t now = kit.db->slow_ns_per_kib;
        cr_assert(runs > 12 || now == 0, "%d runs", runs);
        cr_assert(runs <= 13 || now > last, "%d runs", runs);
        cr_assert(runs <= 14 || now < 2 * last, "%d runs", runs);
        last = now;
    }
    cr_assert_eq(kv_kit_metric(&kit, "kv_level0_runs"), 40);
    kv_kit_work_all(&kit);
    cr_assert_eq(kit.db->slow_ns_per_kib, 0);
    kv_kit_release(&kit);
}
