/* Tables when memory or the disk fails, and files of them checked by their sums while they are copied. */
#include "kvcore/base/coding.h"
#include "kvcore/base/file_header.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/attrs.h"
#include "kvcore/sst/block.h"
#include "kvcore/sst/table_sums.h"
#include "tests/support/sst_forge.h"
#include "tests/support/sys_fault.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- a table of every kind of entry, with every property */

enum { ALL_KEYS = 60 };

static bool is_memory(kv_status rc) /* the memory vfs calls its own missing memory a full disk */
{
    return rc == KV_NO_MEMORY || rc == KV_NO_SPACE;
}

static void build_without_memory(bool sealed, enum kv_codec codec)
{
    struct sst_kit kit;
    struct kv_err err = {0};
    sst_kit_init(&kit, 1 << 20);
    if (sealed)
        sst_kit_encrypt(&kit);
    kv_mem_exact = true;
    bool failed = true;
    for (uint64_t nth = 1; failed; nth++) {
        sst_malloc_fail_nth(nth);
        kv_status rc = sst_build_all(&kit, codec, ALL_KEYS, 64, &err);
        failed = sst_malloc_failed();
        sst_malloc_fail_nth(0);
        cr_assert(failed ? is_memory(rc) : rc == KV_OK, "%d: %s", (int)nth, kv_status_name(rc));
        cr_assert_lt(nth, 5000);
    }
    kv_mem_exact = false;
    struct kv_table *table = NULL;
    cr_assert_eq(sst_open(&kit, "1.tbl", 0, &table, &err), KV_OK, "%s", err.text);
    cr_assert_eq(kv_table_verify(table, &err), KV_OK, "%s", err.text);
    const struct kv_table_properties *p = kv_table_properties(table);
    cr_assert(p->entries == ALL_KEYS && p->rich == 36 && p->deletes == 12 && p->ranges_applied == 3 &&
              p->deletes_since_s == 4 && p->written_after == 5 && p->expiring > 0 && p->cut.len == 3);
    kv_table_unref(table);
    sst_kit_release(&kit);
}

Test(table_faults, memory_runs_out_anywhere_in_a_build)
{
    build_without_memory(false, KV_CODEC_PLAIN);
    build_without_memory(false, KV_CODEC_ZSTD);
    build_without_memory(true, KV_CODEC_SNAPPY);
}

Test(table_faults, memory_runs_out_building_an_empty_one)
{
    struct sst_kit kit;
    struct kv_err err = {0};
    sst_kit_init(&kit, 1 << 20);
    kv_mem_exact = true;
    for (uint64_t nth = 1;; nth++) {
        sst_malloc_fail_nth(nth);
        kv_status rc = sst_build_all(&kit, KV_CODEC_PLAIN, 0, 64, &err);
        bool failed = sst_malloc_failed();
        sst_malloc_fail_nth(0);
        cr_assert(failed ? is_memory(rc) : rc == KV_OK, "%d: %s", (int)nth, kv_status_name(rc));
        if (!failed)
            break;
    }
    kv_mem_exact = false;
    sst_kit_release(&kit);
}

Test(table_faults, entries_that_no_table_holds_are_refused)
{
    static const struct {
        const char *what;
        struct kv_entry entry;
        kv_status rc;
    } rows[] = {
        {"an empty key", {.key = {(const uint8_t *)"", 0}, .kind = KV_KIND_PUT}, KV_INVALID},
        {"a key that is too long",
         {.key = {(const uint8_t *)"k", KV_KEY_LEN_MAX + 1}, .kind = KV_KIND_PUT},
         KV_INVALID},
        {"a value that is too long",
         {.key = {(const uint8_t *)"k", 1},
          .kind = KV_KIND_PUT,
          .value = {(const uint8_t *)"", (size_t)KV_VALUE_LEN_MAX + 1}},
         KV_INVALID},
        {"a version that is none",
         {.key = {(const uint8_t *)"k", 1}, .kind = KV_KIND_PUT, .version = KV_VERSION_STORED_MAX + 1},
         KV_INVALID},
        {"a range", {.key = {(const uint8_t *)"k", 1}, .kind = KV_KIND_RANGE}, KV_INVALID},
        {"an unknown kind", {.key = {(const uint8_t *)"k", 1}, .kind = (enum kv_kind)6}, KV_INVALID},
        {"no attributes", {.key = {(const uint8_t *)"k", 1}, .kind = KV_KIND_RICH}, KV_CORRUPT},
        {"attributes of a newer version",
         {.key = {(const uint8_t *)"k", 1}, .kind = KV_KIND_RICH, .value = {(const uint8_t *)"\x80", 1}},
         KV_TOO_NEW},
        {"half an expiry",
         {.key = {(const uint8_t *)"k", 1}, .kind = KV_KIND_RICH, .value = {(const uint8_t *)"\1\x80", 2}},
         KV_CORRUPT},
        {"a meta that is missing",
         {.key = {(const uint8_t *)"k", 1}, .kind = KV_KIND_RICH, .value = {(const uint8_t *)"\2", 1}},
         KV_CORRUPT},
    };
    static const kv_slice pointers[] = {{(const uint8_t *)"\0", 1},
                                        {(const uint8_t *)"\0\1", 2},
                                        {(const uint8_t *)"\0\1\2", 3},
                                        {(const uint8_t *)"\0\1\2\3\x80", 5},
                                        {(const uint8_t *)"\0\1\2\3\4", 5},
                                        {(const uint8_t *)"\0\1\2\3\0\2", 6},
                                        {(const uint8_t *)"\0\1\2\3\4\0", 6},
                                        {(const uint8_t *)"\0\1\2\3\4\4", 6},
                                        {(const uint8_t *)"\0\1\2\3\4\2\0", 7},
                                        {(const uint8_t *)"\0\x80", 2}};
    struct sst_kit kit;
    sst_kit_init(&kit, 1 << 20);
    for (size_t i = 0; i < sizeof rows / sizeof *rows + sizeof pointers / sizeof *pointers; i++) {
        size_t past = i - sizeof rows / sizeof *rows;
        bool pointer = i >= sizeof rows / sizeof *rows;
        struct kv_entry entry = {.key = KV_STR("k"), .kind = KV_KIND_POINTER};
        struct kv_table_build *build = NULL;
        struct kv_err err = {0};
        struct kv_table_build_options options = {.dir = kit.dir,
                                                 .name = "1.tbl",
                                                 .db_uuid = sst_uuid,
                                                 .clock = &kit.clock.clock,
                                                 .space_name = "all"};
        if (pointer)
            entry.value = pointers[past];
        else
            entry = rows[i].entry;
        cr_assert_eq(kv_table_build_open(&options, &build, NULL), KV_OK);
        cr_assert_eq(kv_table_build_add(build, &entry, &err), pointer ? KV_CORRUPT : rows[i].rc, "%zu: %s", i,
                     err.text);
        cr_assert(strstr(err.text, "1.tbl"), "%s", err.text);
        kv_table_build_free(build);
    }
    sst_kit_release(&kit);
}

/* ---- reading: every allocation, every read */

static kv_status read_every_way(struct sst_kit *kit, struct kv_err *err)
{
    struct kv_table *table = NULL;
    struct kv_entry_iter *it = NULL;
    struct kv_found found = {0};
    uint64_t entries, bytes;
    struct kv_table_iter_options all = {.err = err};
    kv_status rc;
    KV_TRY(sst_open(kit, "1.tbl", 0, &table, err));
    KV_TRY(kv_table_get(table, KV_STR("key 0500"), KV_VERSION_MAX, &found, err));
    kv_block_unref(found.block);
    KV_TRY(kv_table_estimate(table, KV_STR("key 0100"), KV_STR("key 0700"), &entries, &bytes, err));
    KV_TRY(kv_table_iter_open(table, &all, &it));
    for (rc = kv_entry_iter_seek(it, KV_STR(""), 0); rc == KV_OK;)
        rc = kv_entry_iter_next(it);
    KV_TRY(rc);
    KV_TRY(kv_entry_iter_seek_before(it, KV_STR(""), 0));
    while (rc == KV_OK)
        rc = kv_entry_iter_prev(it);
    KV_TRY(rc);
    rc = kv_table_verify(table, err);
out:
    kv_entry_iter_close(it);
    kv_table_unref(table);
    return rc;
}

/* With an index of two levels. */
static void read_with_failures(bool sealed, bool memory)
{
    struct sst_kit kit;
    struct kv_err err = {0};
    sst_kit_init(&kit, 0); /* no cache, so everything is read again */
    if (sealed)
        sst_kit_encrypt(&kit);
    cr_assert_eq(sst_build_all(&kit, KV_CODEC_ZSTD, 1200, 64, &err), KV_OK, "%s", err.text);
    bool failed = true;
    for (uint64_t nth = 1; failed; nth += nth < 20 ? 1 : 1 + nth / 9) {
        struct vfs_fault *fault = vfs_fault_new(kit.vfs);
        struct sst_kit faulty = kit;
        struct vfs_fault_plan plan = {.nth = nth, .ops = VFS_OP_OPEN | VFS_OP_READ | VFS_OP_SIZE};
        cr_assert_eq(kv_vfs_dir_open(vfs_fault_as_vfs(fault), "db", false, &faulty.dir, NULL), KV_OK);
        if (memory)
            sst_malloc_fail_nth(nth);
        else
            vfs_fault_plan(fault, &plan);
        kv_status rc = read_every_way(&faulty, &err);
        failed = memory ? sst_malloc_failed() : vfs_fault_fired(fault);
        sst_malloc_fail_nth(0);
        cr_assert_eq(rc, failed ? memory ? KV_NO_MEMORY : KV_IO : KV_OK, "%d: %s", (int)nth, err.text);
        kv_dir_close(faulty.dir);
        vfs_fault_free(fault);
    }
    cr_assert_eq(read_every_way(&kit, &err), KV_OK, "%s", err.text);
    sst_kit_release(&kit);
}

Test(table_faults, memory_runs_out_anywhere_in_reading, .timeout = 120)
{
    read_with_failures(false, true);
    read_with_failures(true, true);
}

Test(table_faults, any_read_fails, .timeout = 120)
{
    read_with_failures(false, false);
    read_with_failures(true, false);
}

/* ---- sums: a file checked while it is copied */

static kv_status sum_file(struct sst_kit *kit, kv_slice bytes, size_t piece, struct kv_err *err)
{
    struct kv_table *table = NULL;
    struct kv_table_sums *sums = NULL;
    kv_status rc;
    KV_TRY(sst_open(kit, "1.tbl", 0, &table, err));
    KV_TRY(kv_table_sums_new(table, &sums, err));
    while (bytes.len) {
        size_t n = bytes.len < piece ? bytes.len : piece;
        KV_TRY(kv_table_sums_add(sums, kv_slice_of(bytes.data, n), err));
        bytes = kv_slice_from(bytes, n);
    }
    rc = kv_table_sums_end(sums, err);
out:
    kv_table_sums_free(sums);
    kv_table_unref(table);
    return rc;
}

static void sums_of(bool sealed)
{
    struct sst_kit kit;
    struct kv_err err = {0};
    struct kv_buf bytes = {0};
    sst_kit_init(&kit, 1 << 20);
    if (sealed)
        sst_kit_encrypt(&kit);
    cr_assert_eq(sst_build_all(&kit, KV_CODEC_PLAIN, 1200, 64, &err), KV_OK, "%s", err.text);
    sst_file_read(&kit, "1.tbl", &bytes);
    for (size_t piece = 1; piece < bytes.len * 2; piece = piece * 5 + 2)
        cr_assert_eq(sum_file(&kit, kv_buf_slice(&bytes), piece, &err), KV_OK, "pieces of %zu: %s", piece,
                     err.text);
    /* one bit, anywhere */
    for (size_t at = 0; at < bytes.len; at += at < 200 || at + 100 > bytes.len ? 1 : 211) {
        bytes.data[at] ^= 4;
        cr_assert_eq(sum_file(&kit, kv_buf_slice(&bytes), 1000, &err), KV_CORRUPT, "byte %zu", at);
        cr_assert(strstr(err.text, "1.tbl"), "%s", err.text);
        bytes.data[at] ^= 4;
    }
    cr_assert_eq(sum_file(&kit, kv_slice_of(bytes.data, bytes.len - 1), 1000, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "the file ends early"), "%s", err.text);
    cr_assert_eq(kv_buf_append_byte(&bytes, 0), KV_OK);
    cr_assert_eq(sum_file(&kit, kv_buf_slice(&bytes), 1000, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "bytes behind the footer"), "%s", err.text);
    bytes.len--;
    /* another file's header, in itself a good one */
    for (int which = 0; which < 2; which++) {
        struct kv_file_header header;
        uint8_t before[KV_FILE_HEADER_LEN];
        memcpy(before, bytes.data, sizeof before);
        kv_file_header_decode(before, &header);
        if (which)
            header.key_id ^= 1;
        else
            header.uid[0] ^= 1;
        kv_file_header_encode(&header, bytes.data);
        cr_assert_eq(sum_file(&kit, kv_buf_slice(&bytes), 1000, &err), KV_CORRUPT);
        cr_assert(strstr(err.text, "its identity changed"), "%s", err.text);
        memcpy(bytes.data, before, sizeof before);
    }
    kv_mem_exact = true;
    bool failed = true;
    for (uint64_t nth = 1; failed; nth += nth < 30 ? 1 : 1 + nth / 5) {
        sst_malloc_fail_nth(nth);
        kv_status rc = sum_file(&kit, kv_buf_slice(&bytes), 300, &err);
        failed = sst_malloc_failed();
        sst_malloc_fail_nth(0);
        cr_assert_eq(rc, failed ? KV_NO_MEMORY : KV_OK, "%d: %s", (int)nth, err.text);
    }
    for (uint64_t nth = 3; sealed && nth < 9; nth++) {
        sys_fault_arm("EVP_CipherUpdate", nth, 0);
        kv_status rc = sum_file(&kit, kv_buf_slice(&bytes), 300, &err);
        cr_assert(sys_fault_disarm() && rc == KV_NO_MEMORY, "%s", err.text);
    }
    kv_mem_exact = false;
    kv_buf_release(&bytes);
    sst_kit_release(&kit);
}

Test(table_faults, sums_find_what_changed_on_the_way, .timeout = 120)
{
    sums_of(false);
    sums_of(true);
}

Test(table_faults, sums_are_of_blocks_that_lie_one_behind_another)
{
    struct sst_kit kit;
    struct forge forge;
    struct kv_err err = {0};
    struct kv_buf bytes = {0};
    sst_kit_init(&kit, 1 << 20);
    static const struct {
        bool same;
        size_t gap;
        const char *said;
    } rows[] = {{true, 0, "blocks overlap"}, {false, 3, "blocks overlap"}, {false, 20, "a damaged block"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        forge_init(&forge);
        forge.same_block = rows[i].same;
        forge.gap = rows[i].gap;
        forge_write(&forge, &kit, "1.tbl");
        sst_file_read(&kit, "1.tbl", &bytes);
        cr_assert_eq(sum_file(&kit, kv_buf_slice(&bytes), 100, &err), KV_CORRUPT);
        cr_assert(strstr(err.text, rows[i].said), "%s", err.text);
    }
    for (uint32_t levels = 1; levels <= 2; levels++) {
        forge_init(&forge);
        forge.levels = forge.levels_said = levels;
        forge.no_filter = true;
        forge_write(&forge, &kit, "1.tbl");
        sst_file_read(&kit, "1.tbl", &bytes);
        cr_assert_eq(sum_file(&kit, kv_buf_slice(&bytes), 100, &err), KV_OK, "%s", err.text);
        forge.handle_raw[0] = KV_STR("\x80");
        forge_write(&forge, &kit, "1.tbl");
        sst_file_read(&kit, "1.tbl", &bytes);
        cr_assert_eq(sum_file(&kit, kv_buf_slice(&bytes), 100, &err), KV_CORRUPT);
        cr_assert(strstr(err.text, "a bad index entry"), "%s", err.text);
        forge.handle_raw[0] = KV_STR("\x05\x14");
        forge_write(&forge, &kit, "1.tbl");
        sst_file_read(&kit, "1.tbl", &bytes);
        cr_assert_eq(sum_file(&kit, kv_buf_slice(&bytes), 100, &err), KV_CORRUPT);
    }
    kv_buf_release(&bytes);
    sst_kit_release(&kit);
}
