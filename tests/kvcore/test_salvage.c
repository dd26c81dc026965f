#include "kvcore/db/log.h"
#include "kvcore/db/salvage.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { COMMITS = 6 };

static const struct kv_space_options one_space = {.name = "s"};

static kv_status open_db(struct kv_env *env, struct kv_db **db, struct kv_err *err)
{
    struct kv_options options = {.spaces = &one_space, .n_spaces = 1, .disk_reserve_bytes = 1};
    return kv_open(env, "db", &options, db, err);
}

static void make_db(struct kv_env *env)
{
    struct kv_db *db;
    struct kv_batch *batch;
    struct kv_err err = {0};
    cr_assert_eq(open_db(env, &db, &err), KV_OK, "%s", err.text);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    for (int i = 0; i < COMMITS; i++) {
        uint8_t key = (uint8_t)('a' + i);
        kv_batch_clear(batch);
        cr_assert_eq(kv_batch_put(batch, 0, kv_slice_of(&key, 1),
                                  KV_STR("a value of some length, so that it fills a record")),
                     KV_OK);
        cr_assert_eq(kv_commit(db, batch, NULL, NULL, &err), KV_OK, "%s", err.text);
    }
    kv_batch_free(batch);
    cr_assert_eq(kv_close(db, &err), KV_OK, "%s", err.text);
}

struct damage {
    struct kv_dir *dir;
    size_t offset; /* in the log file that holds the commits */
    bool done;
};

static kv_status damage_file(void *ctx, const char *name, uint64_t bytes)
{
    struct damage *damage = ctx;
    uint64_t number;
    struct kv_file *file;
    if (!kv_log_name_parse(name, &number) || bytes <= damage->offset || damage->done)
        return KV_OK;
    uint8_t *all = malloc(bytes);
    char copy[KV_LOG_NAME_MAX];
    kv_log_name(copy, number);
    cr_assert_eq(kv_dir_open_file(damage->dir, copy, &file, NULL), KV_OK);
    cr_assert_eq(kv_file_read_exact(file, 0, bytes, all, NULL), KV_OK);
    kv_file_close(file);
    all[damage->offset] ^= 0x10;
    cr_assert_eq(kv_dir_remove(damage->dir, copy, NULL), KV_OK);
    cr_assert_eq(kv_dir_create(damage->dir, copy, &file, NULL), KV_OK);
    cr_assert_eq(kv_file_append(file, 0, kv_slice_of(all, bytes), NULL), KV_OK);
    kv_file_close(file);
    free(all);
    damage->done = true;
    return KV_OK;
}

static int count_keys(struct kv_env *env)
{
    struct kv_db *db;
    struct kv_err err = {0};
    int found = 0;
    cr_assert_eq(open_db(env, &db, &err), KV_OK, "%s", err.text);
    for (int i = 0; i < COMMITS; i++) {
        uint8_t key = (uint8_t)('a' + i);
        struct kv_pinned value = {0};
        found += kv_get(db, NULL, 0, kv_slice_of(&key, 1), &value, NULL) == KV_OK;
        kv_pinned_release(&value);
    }
    cr_assert_eq(kv_close(db, &err), KV_OK, "%s", err.text);
    return found;
}

/* One flipped bit anywhere in the log: refused with the command's name, and the command loses at most the record it hit. */
Test(salvage, keeps_every_record_but_the_damaged_one)
{
    for (size_t offset = 0; offset < KV_FILE_HEADER_LEN + COMMITS * 96; offset += 5) {
        struct kv_vfs *vfs = kv_vfs_mem_new();
        struct kv_env *env;
        struct kv_db *db;
        struct kv_err err = {0};
        struct kv_salvage_report report;
        struct damage damage = {.offset = offset};
        struct kv_env_options options = {.vfs = vfs, .threads = KV_THREADS_NONE};
        cr_assert_eq(kv_env_open(&options, &env, NULL), KV_OK);
        make_db(env);
        cr_assert_eq(kv_vfs_dir_open(vfs, "db", false, &damage.dir, NULL), KV_OK);
        cr_assert_eq(damage.dir->ops->list(damage.dir, damage_file, &damage, NULL), KV_OK);
        kv_dir_close(damage.dir);
        if (damage.done) {
            cr_assert_eq(open_db(env, &db, &err), KV_CORRUPT, "offset %zu: %s", offset, err.text);
            cr_assert(strstr(err.text, "kvtool salvage db"), "%s", err.text);
        }
        cr_assert_eq(kv_salvage(env, "db", NULL, &report, &err), KV_OK, "offset %zu: %s", offset, err.text);
        bool uid_hit = offset >= KV_FILE_HEADER_AT_UID && offset < KV_FILE_HEADER_AT_UID + KV_FILE_UID_LEN;
        uint64_t lost = !damage.done || (offset < KV_FILE_HEADER_LEN && !uid_hit) ? 0 : uid_hit ? COMMITS : 1;
        cr_assert(report.lost == lost && report.kept == COMMITS - lost, "offset %zu: %d kept, %d lost",
                  offset, (int)report.kept, (int)report.lost);
        cr_assert_eq(count_keys(env), (int)(COMMITS - lost));
        cr_assert_eq(count_keys(env), (int)(COMMITS - lost), "and stays so");
        cr_assert_eq(kv_salvage(env, "db", NULL, &report, &err), KV_OK, "%s", err.text);
        cr_assert_eq(report.lost, 0, "offset %zu: %d kept, %d lost", offset, (int)report.kept,
                     (int)report.lost);
        kv_env_close(env);
        kv_vfs_mem_free(vfs);
    }
}

Test(salvage, refuses_what_is_no_database_or_is_open)
{
    struct kv_vfs *vfs = kv_vfs_mem_new();
    struct kv_env *env;
    struct kv_db *db;
    struct kv_dir *dir;
    struct kv_salvage_report report;
    struct kv_env_options options = {.vfs = vfs, .threads = KV_THREADS_NONE};
    cr_assert_eq(kv_env_open(&options, &env, NULL), KV_OK);
    cr_assert_eq(kv_salvage(env, "db", NULL, &report, NULL), KV_MISSING);
    cr_assert_eq(kv_vfs_dir_open(vfs, "empty", true, &dir, NULL), KV_OK);
    kv_dir_close(dir);
    cr_assert_eq(kv_salvage(env, "empty", NULL, &report, NULL), KV_MISSING);
    cr_assert_eq(open_db(env, &db, NULL), KV_OK);
    cr_assert_eq(kv_salvage(env, "db", NULL, &report, NULL), KV_BUSY);
    cr_assert_eq(kv_close(db, NULL), KV_OK);
    kv_env_close(env);
    kv_vfs_mem_free(vfs);
}
