/* Tables made outside of any database: what their writer refuses, and tables that no such writer made. */
#include "kvcore/base/mem.h"
#include "kvcore/sst/table_build.h"
#include "tests/support/backup_kit.h"
#include "tests/support/malloc_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct kv_dir *outside(struct kv_kit *kit)
{
    struct kv_dir *dir = NULL;
    kv_kit_init(kit, NULL);
    kv_kit_must_open(kit);
    cr_assert_eq(kv_vfs_dir_open(kit->vfs, "outside", true, &dir, NULL), KV_OK);
    return dir;
}

static const char *const names[] = {"t.tbl"};

Test(ingest, any_compression_and_block_size_is_taken)
{
    static const enum kv_compression all[] = {KV_COMPRESSION_NONE, KV_COMPRESSION_SNAPPY,
                                              KV_COMPRESSION_ZSTD};
    size_t bytes[3] = {0};
    for (int i = 0; i < 3; i++) {
        struct kv_kit kit;
        struct kv_dir *dir = outside(&kit);
        struct kv_table_writer_options options = {.compression = all[i], .block_bytes = 1024};
        struct kv_table_writer *writer = NULL;
        struct kv_file *file = NULL;
        uint64_t size = 0;
        char key[16], value[200];
        memset(value, 'v', sizeof value);
        cr_assert_eq(kv_table_writer_open(kit.env, "outside", names[0], &options, &writer, &kit.err), KV_OK);
        for (int k = 0; k < 100; k++) {
            snprintf(key, sizeof key, "k%03d", k);
            cr_assert_eq(kv_table_writer_add(writer, kv_slice_str(key), kv_slice_of(value, sizeof value),
                                             NULL, &kit.err),
                         KV_OK);
        }
        cr_assert_eq(kv_table_writer_finish(writer, &kit.err), KV_OK);
        cr_assert_eq(kv_dir_open_file(dir, names[0], &file, NULL), KV_OK);
        cr_assert_eq(kv_file_size(file, &size, NULL), KV_OK);
        bytes[i] = (size_t)size;
        kv_file_close(file);
        cr_assert_eq(kv_ingest(kit.db, 0, "outside", names, 1, NULL, &kit.err), KV_OK, "%s", kit.err.text);
        cr_assert_eq(kv_kit_stats(&kit, 0).tables, 1);
        kv_dir_close(dir);
        kv_kit_release(&kit);
    }
    cr_assert(bytes[0] > 20000 && bytes[1] < bytes[0] / 2 && bytes[2] < bytes[0] / 2);
}

Test(ingest, the_writer_refuses_what_no_database_takes)
{
    struct kv_kit kit;
    struct kv_dir *dir = outside(&kit);
    struct kv_table_writer *writer = NULL;
    kv_slice long_key = kv_slice_of(&kit, KV_KEY_LEN_MAX + 1),
             long_value = kv_slice_of(&kit, (size_t)KV_VALUE_LEN_MAX + 1);
    cr_assert_eq(kv_table_writer_open(kit.env, "nowhere", names[0], NULL, &writer, &kit.err), KV_MISSING);
    cr_assert_eq(kv_table_writer_open(kit.env, "outside", names[0], NULL, &writer, &kit.err), KV_OK);
    cr_assert_eq(kv_table_writer_add(writer, KV_STR(""), KV_STR("v"), NULL, &kit.err), KV_INVALID);
    cr_assert_eq(kv_table_writer_add(writer, long_key, KV_STR("v"), NULL, &kit.err), KV_INVALID);
    cr_assert_eq(kv_table_writer_add(writer, KV_STR("k"), long_value, NULL, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "out of range"), "%s", kit.err.text);
    cr_assert_eq(kv_table_writer_add(writer, KV_STR("k"), KV_STR("v"), NULL, &kit.err), KV_OK);
    cr_assert_eq(kv_table_writer_add(writer, KV_STR("k"), KV_STR("v"), NULL, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "must increase"), "%s", kit.err.text);
    kv_table_writer_abort(writer);
    struct kv_file *file = NULL;
    cr_assert_eq(kv_dir_open_file(dir, names[0], &file, NULL), KV_MISSING, "what is aborted is gone");
    kv_dir_close(dir);
    kv_kit_release(&kit);
}

/* Tables of the right database, nobody's, but not of that writer. */
Test(ingest, tables_with_versions_or_deletions_are_refused)
{
    static const struct {
        struct kv_entry entry;
        const char *said;
    } rows[] = {
        {{.key = {(const uint8_t *)"k", 1}, .kind = KV_KIND_PUT, .version = 3},
         "a table with versions of its own"},
        {{.key = {(const uint8_t *)"k", 1}, .kind = KV_KIND_DELETE}, "an entry of kind 0"},
        {{.key = {(const uint8_t *)"k", 1}, .kind = KV_KIND_MERGE, .value = {(const uint8_t *)"\0\1x", 3}},
         "an entry of kind 5"},
        {{.key = {(const uint8_t *)"k", 1},
          .kind = KV_KIND_POINTER,
          .value = {(const uint8_t *)"\0\1\2\3", 4}},
         "an entry of kind 3"},
    };
    static const uint8_t nobody[KV_UUID_LEN];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct kv_kit kit;
        struct kv_dir *dir = outside(&kit);
        struct kv_table_build *build = NULL;
        struct kv_table_build_options options = {.dir = dir,
                                                 .name = names[0],
                                                 .db_uuid = nobody,
                                                 .clock = &kit.clock.base,
                                                 .space_name = "",
                                                 .no_filter = true};
        cr_assert_eq(kv_table_build_open(&options, &build, NULL), KV_OK);
        cr_assert_eq(kv_table_build_add(build, &rows[i].entry, &kit.err), KV_OK, "%s", kit.err.text);
        cr_assert_eq(kv_table_build_finish(build, NULL, NULL), KV_OK);
        kv_table_build_free(build);
        cr_assert_eq(kv_ingest(kit.db, 0, "outside", names, 1, NULL, &kit.err), KV_CORRUPT, "row %zu", i);
        cr_assert(strstr(kit.err.text, rows[i].said), "row %zu: %s", i, kit.err.text);
        cr_assert(kv_seq(kit.db) == 0 && kv_kit_files(&kit, ".tbl") == 0, "nothing was loaded");
        kv_dir_close(dir);
        kv_kit_release(&kit);
    }
}

static kv_status write_and_ingest(struct kv_kit *kit)
{
    struct kv_table_writer *writer = NULL;
    kv_status rc = kv_table_writer_open(kit->env, "outside", names[0], NULL, &writer, &kit->err);
    if (rc < 0)
        return rc;
    rc =
        kv_table_writer_add(writer, KV_STR("a"), KV_STR("1"), &(struct kv_put_options){.meta = 3}, &kit->err);
    if (rc == KV_OK)
        rc = kv_table_writer_add(writer, KV_STR("longer"), KV_STR("12"),
                                 &(struct kv_put_options){.expires_at_s = UINT32_MAX}, &kit->err);
    if (rc < 0) {
        kv_table_writer_abort(writer);
        return rc;
    }
    rc = kv_table_writer_finish(writer, &kit->err);
    return rc < 0 ? rc : kv_ingest(kit->db, 1, "outside", names, 1, NULL, &kit->err);
}

Test(ingest, memory_runs_out_anywhere, .timeout = 120)
{
    for (uint64_t nth = 1;; nth++) {
        struct kv_kit kit;
        struct kv_dir *dir = outside(&kit);
        kv_kit_put(&kit, 1, "before", "1");
        kv_mem_exact = true;
        malloc_fault_arm(nth, false);
        kv_status rc = write_and_ingest(&kit);
        bool fired = malloc_fault_disarm();
        kv_mem_exact = false;
        cr_assert(rc == KV_OK || (fired && kit.err.text[0]), "%d: %s: %s", (int)nth, kv_status_name(rc),
                  kit.err.text);
        cr_assert(kv_kit_is(&kit, NULL, 1, "before", "1"));
        cr_assert(rc < 0 || (kv_kit_is(&kit, NULL, 1, "a", "1") && kv_kit_is(&kit, NULL, 1, "longer", "12")));
        kv_kit_reopen(&kit);
        kv_dir_close(dir);
        kv_kit_release(&kit);
        if (!fired)
            break;
    }
}
