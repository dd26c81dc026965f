#include "tests/support/file_kit.h"
#include "tests/support/kv_kit.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

Test(db_open, a_new_database_is_empty_and_stays_itself)
{
    struct kv_kit kit;
    uint8_t uuid[16], again[16];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_seq(kit.db), 0);
    kv_uuid(kit.db, uuid);
    kv_kit_put(&kit, 0, "k", "v");
    kv_kit_reopen(&kit);
    kv_uuid(kit.db, again);
    cr_assert_arr_eq(uuid, again, 16);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", "v"));
    cr_assert_eq(kv_seq(kit.db), 1);
    kv_kit_release(&kit);
}

/* Removed names that were not synced come back with the power: not all of them, so there are gaps between their sequences. */
Test(db_open, log_files_that_are_needed_no_more_may_come_back)
{
    struct kv_kit kit;
    struct kv_buf first = {0}, last = {0}, names = {0};
    char first_name[32] = "", last_name[32] = "";
    kv_kit_init(&kit, NULL);
    kit.options.log_file_bytes = 1024;
    kv_kit_must_open(&kit);
    for (int i = 0; i < 40; i++)
        kv_kit_put(&kit, 0, i % 2 ? "k" : "l", "a value that fills the files of the log, one after another");
    size_t n = file_kit_list(kit.vfs, "db", ".log", &names);
    cr_assert_gt(n, 3);
    for (const char *name = (char *)names.data; n-- > 1; name += strlen(name) + 1) {
        if (!first_name[0]) {
            snprintf(first_name, sizeof first_name, "%s", name);
            file_kit_read(kit.vfs, "db", name, &first);
        }
        snprintf(last_name, sizeof last_name, "%s", name);
    }
    file_kit_read(kit.vfs, "db", last_name, &last);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    cr_assert(!file_kit_has(kit.vfs, "db", first_name) && !file_kit_has(kit.vfs, "db", last_name));
    file_kit_write(kit.vfs, "db", first_name, kv_buf_slice(&first));
    file_kit_write(kit.vfs, "db", last_name, kv_buf_slice(&last));
    cr_assert_eq(kv_kit_open(&kit), KV_OK, "%s", kit.err.text);
    cr_assert_eq(kv_seq(kit.db), 40);
    cr_assert(!file_kit_has(kit.vfs, "db", first_name) && !file_kit_has(kit.vfs, "db", last_name));
    kv_buf_release(&first);
    kv_buf_release(&last);
    kv_buf_release(&names);
    kv_kit_release(&kit);
}

Test(db_open, what_must_exist_is_not_created)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kit.options.must_exist = true;
    cr_assert_eq(kv_kit_open(&kit), KV_MISSING);
    kit.options.must_exist = false;
    kit.options.read_only = true;
    cr_assert_eq(kv_kit_open(&kit), KV_MISSING);
    kit.options.read_only = false;
    kv_kit_must_open(&kit);
    kv_kit_release(&kit);
}

Test(db_open, bad_options_are_refused_with_a_reason)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    const char *names[] = {"", "Upper", "a b", "123456789012345678901234567890123", "b"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        kit.spaces[0].name = names[i];
        cr_assert_eq(kv_kit_open(&kit), KV_INVALID, "%s", names[i]);
        cr_assert(kit.err.text[0]);
    }
    kit.spaces[0].name = "a";
    kit.spaces[0].level_multiplier = 10;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID, "it is for levelled spaces");
    kit.spaces[0].style = KV_STYLE_LEVELLED;
    kit.spaces[0].level_multiplier = 1;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID);
    cr_assert(strstr(kit.err.text, "level_multiplier 1 is not 0 or 2 to 100"), "%s", kit.err.text);
    kit.spaces[0].level_multiplier = 0;
    kit.spaces[0].table_bytes = 1;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID);
    kit.spaces[0].table_bytes = 0;
    kit.spaces[0].style = KV_STYLE_RUNS;
    kit.spaces[0].block_bytes = 1;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID);
    kit.spaces[0].block_bytes = 4096;
    kit.spaces[0].block_bytes_most = 4095;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID);
    cr_assert(strstr(kit.err.text, "block_bytes_most 4095 is not block_bytes (4096) to"), "%s", kit.err.text);
    kit.spaces[0].block_bytes = 0; /* 4096 */
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID);
    kit.spaces[0].block_bytes_most = (1 << 20) + 1;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID);
    kit.spaces[0].block_bytes = kit.spaces[0].block_bytes_most = 0;
    kit.options.durability = KV_DURABILITY_INTERVAL;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID, "an interval is missing");
    kit.options.durability = KV_DURABILITY_GROUP;
    kit.options.n_spaces = 0;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID);
    kv_kit_release(&kit);
}

Test(db_open, two_writers_exclude_each_other)
{
    struct kv_kit kit;
    struct kv_db *other = NULL;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_open(kit.env, kit.path, &kit.options, &other, &kit.err), KV_BUSY);
    kv_kit_release(&kit);
}

Test(db_open, every_stored_space_must_be_declared)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_close(&kit);
    kit.options.n_spaces = 1;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID);
    cr_assert(strstr(kit.err.text, "space b"));
    kv_kit_release(&kit);
}

/* Batches name spaces by their place in the declaration, so the log must not be read with another order. */
Test(db_open, spaces_may_be_declared_in_another_order)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "k", "in a");
    kv_kit_put(&kit, 1, "k", "in b");
    for (int round = 0; round < 4; round++) {
        const char *name = kit.spaces[0].name;
        kit.spaces[0].name = kit.spaces[1].name;
        kit.spaces[1].name = name;
        kv_kit_crash(&kit);
        int a = round % 2 == 0; /* where space a is now */
        cr_assert(kv_kit_is(&kit, NULL, (uint32_t)a, "k", "in a"));
        cr_assert(kv_kit_is(&kit, NULL, (uint32_t)!a, "k", "in b"));
        kv_kit_put(&kit, (uint32_t)a, "round", "in a too");
    }
    kit.spaces[2].name = "c";
    kit.options.n_spaces = 3;
    kv_kit_crash(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 2, "k", NULL));
    kv_kit_put(&kit, 2, "k", "in c");
    kv_kit_crash(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "round", "in a too"));
    cr_assert(kv_kit_is(&kit, NULL, 2, "k", "in c"));
    kv_kit_release(&kit);
}

static void plant(struct kv_kit *kit, const char *name)
{
    struct kv_dir *dir = NULL;
    struct kv_file *file = NULL;
    cr_assert_eq(kv_vfs_dir_open(kit->vfs, kit->path, true, &dir, &kit->err), KV_OK);
    cr_assert_eq(kv_dir_create(dir, name, &file, &kit->err), KV_OK);
    cr_assert_eq(kv_file_append(file, 0, KV_STR("hello"), &kit->err), KV_OK);
    kv_file_close(file);
    kv_dir_close(dir);
}

static kv_status remove_suffix(void *ctx, const char *name, uint64_t bytes)
{
    const char **wanted = ctx;
    size_t len = strlen(name);
    (void)bytes;
    if (len > 4 && strcmp(name + len - 4, wanted[0]) == 0 && !wanted[1][0])
        memcpy((char *)(uintptr_t)wanted[1], name, len + 1);
    return KV_OK;
}

static void remove_one(struct kv_kit *kit, const char *suffix)
{
    struct kv_dir *dir = NULL;
    char name[80] = "";
    const char *wanted[] = {suffix, name};
    cr_assert_eq(kv_vfs_dir_open(kit->vfs, kit->path, false, &dir, &kit->err), KV_OK);
    cr_assert_eq(dir->ops->list(dir, remove_suffix, wanted, &kit->err), KV_OK);
    cr_assert(name[0]);
    cr_assert_eq(kv_dir_remove(dir, name, &kit->err), KV_OK);
    kv_dir_close(dir);
}

Test(db_open, a_directory_of_something_else_is_left_alone)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    plant(&kit, "photo.jpg");
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID);
    cr_assert(strstr(kit.err.text, "photo.jpg"));
    kv_kit_release(&kit);
}

Test(db_open, a_creation_cut_short_is_done_again)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    plant(&kit, "000001.man");
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_kit_files(&kit, ".man"), 1);
    kv_kit_release(&kit);
}

Test(db_open, missing_files_are_damage_and_named)
{
    static const char *const suffixes[] = {".log", ".man"}; /* tables: test_damage.c */
    for (size_t i = 0; i < 2; i++) {
        struct kv_kit kit;
        kv_kit_init(&kit, NULL);
        kv_kit_must_open(&kit);
        kv_kit_put(&kit, 0, "k", "v");
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        kv_kit_put(&kit, 0, "k2", "v");
        kv_kit_close(&kit);
        remove_one(&kit, suffixes[i]);
        cr_assert_eq(kv_kit_open(&kit), KV_CORRUPT, "%s", suffixes[i]);
        cr_assert(strstr(kit.err.text, suffixes[i]), "%s", kit.err.text);
        kv_kit_release(&kit);
    }
}

Test(db_open, orphans_are_removed_and_their_numbers_not_used_again)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "k", "v");
    kv_kit_close(&kit);
    plant(&kit, "000777.tbl");
    plant(&kit, "000778.man");
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_kit_files(&kit, ".man"), 1);
    cr_assert_eq(kv_kit_files(&kit, ".tbl"), 0);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_files(&kit, ".tbl"), 1);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", "v"));
    kv_kit_release(&kit);
}

Test(db_open, a_read_only_open_reads_the_log_and_writes_nothing)
{
    struct kv_kit kit;
    struct vfs_fault *fault;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "k", "v");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    kv_kit_put(&kit, 0, "k2", "v2");
    kv_kit_close(&kit);
    fault = vfs_fault_new(kit.own);
    kit.vfs = vfs_fault_as_vfs(fault);
    kit.options.read_only = true;
    kv_kit_must_open(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", "v"));
    cr_assert(kv_kit_is(&kit, NULL, 0, "k2", "v2"));
    cr_assert_eq(kv_seq(kit.db), 2);
    cr_assert_eq(kv_kit_try_put(&kit, 0, "k", "w"), KV_READ_ONLY);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_READ_ONLY);
    cr_assert_eq(kv_health(kit.db, &kit.err), KV_READ_ONLY);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    cr_assert_eq(vfs_fault_count(fault, VFS_OP_CREATE | VFS_OP_APPEND | VFS_OP_SYNC | VFS_OP_SYNC_NAMES |
                                            VFS_OP_REMOVE | VFS_OP_PUBLISH | VFS_OP_LINK),
                 0);
    vfs_fault_free(fault);
    kv_kit_release(&kit);
}
