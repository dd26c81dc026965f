/* Backups of a store: what is in them, also of the head; what was restored answers the same; crashes while one is made. */
#include "tests/support/store_kit.h"
#include "tests/support/sweep.h"
#include "tests/support/vfs_crash.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { SERIES = 5, TEXT = 8000 };
static const struct kv_repository repo = {.path = "backups"};
static const struct kv_backup_options to_repo = {.repository = &repo};

static int64_t at(int minute)
{
    return KIT_START_MS - 2 * KIT_DAY_MS + minute * INT64_C(60000);
}

/* Everything the open store answers, as text. */
static void content(struct store_kit *kit, char out[TEXT])
{
    size_t n = 0;
    for (int series = 0; series < SERIES; series++)
        n += (size_t)snprintf(out + n, TEXT - n, "%d: %s\n", series,
                              store_kit_text(kit, series, INT64_MIN, INT64_MAX));
    cr_assert_lt(n, TEXT);
}

static void must(struct store_kit *kit, kv_status rc)
{
    cr_assert_eq(rc, KV_OK, "%s: %s", kv_status_name(rc), kit->err.text);
}

/* Backup number, restored to a new place, opened: what it answers. stats may be NULL. */
static void restored(struct store_kit *kit, uint64_t number, const char *path, char out[TEXT],
                     struct ts_stats *stats)
{
    struct store_kit copy = *kit;
    must(kit, ts_restore(kit->env, path, &(struct kv_restore_options){.repository = &repo, .number = number},
                         NULL, &kit->err));
    must(kit, ts_check(kit->env, path, NULL, NULL, &kit->err));
    must(kit, ts_open(kit->env, path, &kit->options, &copy.db, &kit->err));
    content(&copy, out);
    if (stats)
        ts_stats(copy.db, stats);
    must(kit, ts_close(copy.db, &kit->err));
}

static void begin(struct store_kit *kit)
{
    store_kit_init(kit);
    must(kit, store_kit_open(kit));
    for (int series = 0; series < SERIES; series++)
        for (int minute = 0; minute < 20; minute++)
            cr_assert_eq(store_kit_add(kit, series, at(minute), series + minute / 8.0), KV_OK);
    must(kit, store_kit_commit(kit));
}

Test(backup, holds_what_is_only_in_the_head_and_nothing_that_came_after)
{
    struct store_kit kit;
    struct kv_backup_info info;
    struct ts_stats stats;
    char then[TEXT], copy[TEXT];
    begin(&kit);
    must(&kit, ts_flush(kit.db, false, &kit.err));
    store_kit_put(&kit, 0, at(30), 30);
    must(&kit, store_kit_delete(&kit, 1, at(3), at(9)));
    content(&kit, then);
    must(&kit, ts_backup(kit.db, &to_repo, false, &info, &kit.err));
    cr_assert(info.number == 1 && info.added_files == info.files);
    store_kit_put(&kit, 0, at(31), 31);
    must(&kit, store_kit_delete(&kit, 0, at(0), at(30)));
    restored(&kit, 1, "copy", copy, &stats);
    cr_assert_str_eq(copy, then);
    cr_assert_eq(stats.head_samples, 1, "the log travelled along");
    store_kit_release(&kit);
}

Test(backup, of_a_flushed_head_leaves_nothing_to_read_back)
{
    struct store_kit kit;
    struct ts_stats stats;
    char then[TEXT], copy[TEXT];
    begin(&kit);
    content(&kit, then);
    must(&kit, ts_backup(kit.db, &to_repo, true, NULL, &kit.err));
    restored(&kit, 1, "copy", copy, &stats);
    cr_assert_str_eq(copy, then);
    cr_assert_eq(stats.head_samples, 0);
    store_kit_release(&kit);
}

/* One of the things that happen to a store between two backups. */
static void happen(struct store_kit *kit, int step)
{
    switch (step) {
    case 0:
        store_kit_put(kit, 2, at(3), 77); /* overwritten */
        break;
    case 1:
        must(kit, store_kit_delete(kit, 3, at(0), at(10)));
        break;
    case 2:
        must(kit, ts_flush(kit->db, false, &kit->err));
        break;
    case 3:
        store_kit_put(kit, 3, at(5), 5); /* again after its delete */
        store_kit_put(kit, 4, KIT_START_MS, 1);
        break;
    case 4:
        must(kit, ts_flush(kit->db, true, &kit->err));
        break;
    case 5:
        must(kit, store_kit_close(kit, true));
        must(kit, store_kit_open(kit));
        break;
    default:
        clock_manual_advance_ms(&kit->clock, KIT_DAY_MS);
        must(kit, ts_maintain(kit->db, &kit->err));
    }
}

Test(backup, each_of_a_row_answers_as_the_store_did_then)
{
    enum { STEPS = 7 };
    static char then[STEPS][TEXT], copy[TEXT];
    struct store_kit kit;
    struct kv_backup_info info;
    char path[16];
    begin(&kit);
    for (int step = 0; step < STEPS; step++) {
        happen(&kit, step);
        content(&kit, then[step]);
        must(&kit, ts_backup(kit.db, &to_repo, false, &info, &kit.err));
        cr_assert_eq(info.number, step + 1);
        cr_assert((step != 1 && step != 3) || info.added_files < info.files, "step %d copied everything",
                  step);
    }
    must(&kit,
         kv_backup_verify(kit.env, &(struct kv_restore_options){.repository = &repo}, NULL, NULL, &kit.err));
    for (int step = 0; step < STEPS; step++) {
        snprintf(path, sizeof path, "copy%d", step);
        restored(&kit, (uint64_t)step + 1, path, copy, NULL);
        cr_assert_str_eq(copy, then[step], "after step %d", step);
    }
    must(&kit, kv_backup_keep(kit.env, &repo, 2, &kit.err));
    restored(&kit, STEPS - 1, "kept", copy, NULL);
    cr_assert_str_eq(copy, then[STEPS - 2]);
    store_kit_release(&kit);
}

Test(backup, of_a_store_that_nobody_has_open_changes_nothing_of_it)
{
    struct store_kit kit;
    char then[TEXT], copy[TEXT];
    begin(&kit);
    content(&kit, then);
    must(&kit, store_kit_close(&kit, true)); /* its samples are in the log alone */
    must(&kit,
         kv_env_open(
             &(struct kv_env_options){.vfs = kit.vfs, .clock = &kit.clock.base, .threads = KV_THREADS_NONE},
             &kit.env, &kit.err));
    must(&kit, ts_backup_closed(kit.env, "db", &to_repo, NULL, &kit.err));
    restored(&kit, 1, "copy", copy, NULL);
    cr_assert_str_eq(copy, then);
    cr_assert_eq(ts_backup_closed(kit.env, "nothing", &to_repo, NULL, &kit.err), KV_MISSING);
    kv_env_close(kit.env);
    must(&kit, store_kit_open(&kit));
    content(&kit, copy);
    cr_assert_str_eq(copy, then);
    cr_assert_eq(ts_backup_closed(kit.env, "db", &to_repo, NULL, &kit.err), KV_BUSY);
    store_kit_release(&kit);
}

Test(backup, of_a_store_open_read_only_takes_the_log_along)
{
    struct store_kit kit;
    char then[TEXT], copy[TEXT];
    begin(&kit);
    content(&kit, then);
    must(&kit, store_kit_close(&kit, true));
    kit.options.read_only = true;
    must(&kit, store_kit_open(&kit));
    cr_assert_eq(ts_backup(kit.db, &to_repo, true, NULL, &kit.err), KV_READ_ONLY);
    must(&kit, ts_backup(kit.db, &to_repo, false, NULL, &kit.err));
    kit.options.read_only = false;
    restored(&kit, 0, "copy", copy, NULL);
    cr_assert_str_eq(copy, then);
    store_kit_release(&kit);
}

Test(backup, is_not_restored_over_something_nor_taken_for_a_store_when_it_is_none)
{
    const struct kv_space_options space = {.name = "other"};
    const struct kv_options options = {.spaces = &space, .n_spaces = 1};
    const struct kv_repository others = {.path = "others"};
    struct store_kit kit;
    struct kv_db *other = NULL;
    begin(&kit);
    must(&kit, ts_backup(kit.db, &to_repo, false, NULL, &kit.err));
    const struct kv_restore_options newest = {.repository = &repo};
    must(&kit, ts_restore(kit.env, "taken", &newest, NULL, &kit.err));
    cr_assert_eq(ts_restore(kit.env, "taken", &newest, NULL, &kit.err), KV_EXISTS);
    cr_assert(strstr(kit.err.text, "not empty"), "%s", kit.err.text);
    cr_assert_eq(ts_restore(kit.env, "copy", &(struct kv_restore_options){.repository = &repo, .number = 9},
                            NULL, &kit.err),
                 KV_MISSING);
    must(&kit, kv_open(kit.env, "other", &options, &other, &kit.err));
    must(&kit, kv_backup(other, &(struct kv_backup_options){.repository = &others}, NULL, &kit.err));
    must(&kit, kv_close(other, &kit.err));
    cr_assert_lt(
        ts_restore(kit.env, "copy", &(struct kv_restore_options){.repository = &others}, NULL, &kit.err), 0);
    cr_assert(strstr(kit.err.text, "is no store of samples"), "%s", kit.err.text);
    store_kit_release(&kit);
}

/* ---- lost power ---------------------------------------------------------------------------------------------------- */

/* Opens what is found on disk. The store answers then[1] (all of it was acknowledged before the backup began); of the repository's backups
 * the first is there once it was answered, the second is whole or not there. */
static void after_crash(struct kv_vfs *disk, char then[2][TEXT], uint64_t acked, uint64_t k)
{
    struct store_kit kit;
    char text[TEXT];
    kv_status rc;
    store_kit_init(&kit);
    kv_vfs_mem_free(kit.vfs);
    kit.vfs = disk;
    must(&kit, store_kit_open(&kit));
    content(&kit, text);
    cr_assert_str_eq(text, then[1]);
    for (uint64_t number = 1; number <= 2; number++) {
        const struct kv_restore_options options = {.repository = &repo, .number = number};
        rc = kv_backup_verify(kit.env, &options, NULL, NULL, &kit.err);
        cr_assert(rc == KV_OK || (rc == KV_MISSING && number > acked), "k=%llu: backup %llu: %s",
                  (unsigned long long)k, (unsigned long long)number, kit.err.text);
        if (rc == KV_MISSING)
            continue;
        restored(&kit, number, number == 1 ? "one" : "two", text, NULL);
        cr_assert_str_eq(text, then[number - 1]);
    }
    must(&kit,
         ts_backup(kit.db, &to_repo, false, NULL, &kit.err)); /* the next one is made, whatever was left */
    restored(&kit, 0, "next", text, NULL);
    cr_assert_str_eq(text, then[1]);
    store_kit_release(&kit);
}

Test(backup, cut_short_by_lost_power_is_not_there_and_older_ones_are)
{
    static char then[2][TEXT];
    struct vfs_crash *crash = vfs_crash_new();
    struct store_kit kit;
    store_kit_init(&kit);
    kv_vfs_mem_free(kit.vfs);
    kit.vfs = vfs_crash_as_vfs(crash);
    must(&kit, store_kit_open(&kit));
    store_kit_put(&kit, 0, at(1), 1);
    content(&kit, then[0]);
    must(&kit, ts_backup(kit.db, &to_repo, true, NULL, &kit.err));
    store_kit_put(&kit, 1, at(2), 2);
    must(&kit, store_kit_delete(&kit, 0, at(1), at(1)));
    content(&kit, then[1]);
    uint64_t first = vfs_crash_ops(crash) + 1; /* the delete has returned */
    must(&kit, ts_backup(kit.db, &to_repo, true, NULL, &kit.err));
    uint64_t last = vfs_crash_ops(crash);
    for (uint64_t k = first; k <= last + 1; k += sweep_stride(3))
        for (int profile = 0; profile < VFS_CRASH_PROFILES; profile++)
            for (uint64_t seed = 0; seed < 4; seed++)
                after_crash(vfs_crash_at(crash, k, seed, (enum vfs_crash_profile)profile), then,
                            k > last ? 2 : 1, k);
    cr_assert_gt(last, first + 10);
    (void)store_kit_close(&kit, true);
    clock_manual_release(&kit.clock);
    vfs_crash_free(crash);
}
