/* What is read of a damaged table: by salvaging it, and by the handle in its place. */
#include "kvcore/base/coding.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/table_salvage.h"
#include "tests/support/sst_forge.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdlib.h>

struct saved {
    size_t entries, lost_bytes, holes;
    kv_status refuse_with; /* the third entry */
};

static kv_status save_entry(void *ctx, const struct kv_entry *entry)
{
    struct saved *saved = ctx;
    cr_assert(entry->key.len > 0);
    saved->entries++;
    return saved->entries == 3 ? saved->refuse_with : KV_OK;
}

static void note_lost(void *ctx, uint64_t offset, uint64_t bytes, kv_slice after, kv_slice before)
{
    struct saved *saved = ctx;
    (void)after, (void)before;
    cr_assert_geq(offset, KV_FILE_HEADER_LEN);
    saved->lost_bytes += bytes;
    saved->holes++;
}

static kv_status salvage(struct sst_kit *kit, struct kv_table_salvage how, struct saved *saved,
                         struct kv_table_salvaged *said, struct kv_err *err)
{
    *saved = (struct saved){.refuse_with = saved->refuse_with};
    *said = (struct kv_table_salvaged){0};
    how.dir = how.dir ? how.dir : kit->dir;
    how.name = "1.tbl";
    how.number = 12;
    how.keys = kit->keys;
    how.ctx = saved;
    return kv_table_salvage(&how, said, err);
}

static const struct kv_table_salvage listen = {.entry = save_entry, .lost = note_lost};

static void salvage_with(bool sealed)
{
    struct sst_kit kit;
    struct kv_err err = {0};
    struct kv_buf bytes = {0};
    struct saved saved = {0};
    struct kv_table_salvaged said;
    struct kv_table *table = NULL;
    uint8_t uid[16];
    sst_kit_init(&kit, 1 << 20);
    if (sealed)
        sst_kit_encrypt(&kit);
    cr_assert_eq(sst_build_all(&kit, KV_CODEC_ZSTD, 300, 64, &err), KV_OK, "%s", err.text);
    sst_file_read(&kit, "1.tbl", &bytes);
    cr_assert_eq(sst_open(&kit, "1.tbl", 0, &table, NULL), KV_OK);
    memcpy(uid, kv_table_properties(table)->uid, sizeof uid);
    kv_table_unref(table);
    cr_assert_eq(salvage(&kit, listen, &saved, &said, &err), KV_OK, "%s", err.text);
    cr_assert(saved.entries == 300 && saved.lost_bytes == 0 && said.known && said.written_after == 5);
    cr_assert_eq(salvage(&kit, (struct kv_table_salvage){0}, &saved, &said, &err), KV_OK, "nobody listens");
    saved.refuse_with = KV_LIMIT;
    cr_assert_eq(salvage(&kit, listen, &saved, &said, &err), KV_LIMIT);
    cr_assert_eq(saved.entries, 3);
    saved.refuse_with = KV_OK;

    /* the header: one bit of it, all of it, another file's */
    struct kv_table_salvage known = listen;
    known.uid = uid;
    bytes.data[30] ^= 1;
    sst_file_write(&kit, "1.tbl", kv_buf_slice(&bytes));
    cr_assert_eq(salvage(&kit, listen, &saved, &said, &err), KV_OK, "%s", err.text);
    cr_assert_eq(saved.entries, 300);
    bytes.data[31] ^= 1;
    sst_file_write(&kit, "1.tbl", kv_buf_slice(&bytes));
    cr_assert_eq(salvage(&kit, listen, &saved, &said, &err), KV_CORRUPT);
    cr_assert_eq(salvage(&kit, known, &saved, &said, &err), sealed ? KV_CORRUPT : KV_OK, "%s", err.text);
    cr_assert_eq(saved.entries, sealed ? 0 : 300, "where a uid is all that is needed");
    bytes.data[30] ^= 1;
    bytes.data[31] ^= 1;
    sst_file_write(&kit, "1.tbl", kv_buf_slice(&bytes));
    uid[3] ^= 1;
    cr_assert_eq(salvage(&kit, known, &saved, &said, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "another file than the one"), "%s", err.text);
    uid[3] ^= 1;
    cr_assert_eq(salvage(&kit, known, &saved, &said, &err), KV_OK, "%s", err.text);

    /* no footer, so no index: each block is found by where its sum comes out */
    memset(bytes.data + bytes.len - 20, 0, 20);
    sst_file_write(&kit, "1.tbl", kv_buf_slice(&bytes));
    cr_assert_eq(salvage(&kit, listen, &saved, &said, &err), KV_OK, "%s", err.text);
    cr_assert(saved.entries == 300 && said.known && saved.holes == 1, "%zu entries", saved.entries);
    sst_file_write(&kit, "1.tbl", kv_slice_of(bytes.data, bytes.len / 2));
    cr_assert_eq(salvage(&kit, listen, &saved, &said, &err), KV_OK, "%s", err.text);
    cr_assert(saved.entries > 50 && saved.entries < 300 && !said.known);
    sst_file_write(&kit, "1.tbl", kv_slice_of(bytes.data, 100));
    cr_assert_eq(salvage(&kit, listen, &saved, &said, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "1.tbl has 100 bytes, less than a header"), "%s", err.text);
    sst_file_write(&kit, "1.tbl", KV_STR(""));
    cr_assert_eq(salvage(&kit, listen, &saved, &said, &err), KV_CORRUPT);
    kv_buf_release(&bytes);
    sst_kit_release(&kit);
}

Test(table_salvage, what_is_readable_of_a_damaged_table_is_saved, .timeout = 120)
{
    salvage_with(false);
    salvage_with(true);
}

/* A file that cannot be read as a whole is read in pieces; where those fail, there are zeros. */
static void salvage_without(bool sealed, bool memory)
{
    struct sst_kit kit;
    struct kv_err err = {0};
    struct saved saved = {0};
    struct kv_table_salvaged said;
    sst_kit_init(&kit, 1 << 20);
    if (sealed)
        sst_kit_encrypt(&kit);
    cr_assert_eq(sst_build_all(&kit, KV_CODEC_PLAIN, 1200, 64, &err), KV_OK, "%s", err.text);
    size_t whole = 0;
    kv_mem_exact = memory;
    bool failed = true;
    for (uint64_t nth = 1; failed; nth += nth < 40 ? 1 : 1 + nth / 4) {
        struct vfs_fault *fault = vfs_fault_new(kit.vfs);
        struct vfs_fault_plan plan = {
            .nth = nth, .ops = VFS_OP_OPEN | VFS_OP_READ | VFS_OP_SIZE, .sticky = nth % 2};
        struct kv_table_salvage how = listen;
        cr_assert_eq(kv_vfs_dir_open(vfs_fault_as_vfs(fault), "db", false, &how.dir, NULL), KV_OK);
        if (memory)
            sst_malloc_fail_nth(nth);
        else
            vfs_fault_plan(fault, &plan);
        kv_status rc = salvage(&kit, how, &saved, &said, &err);
        failed = memory ? sst_malloc_failed() : vfs_fault_fired(fault);
        sst_malloc_fail_nth(0);
        if (memory) /* the index may be done without */
            cr_assert(failed ? rc == KV_NO_MEMORY || saved.entries > 1000 : rc == KV_OK, "%d: %s", (int)nth,
                      err.text);
        else
            cr_assert(rc == KV_OK || (failed && (rc == KV_IO || rc == KV_CORRUPT)), "%d: %s", (int)nth,
                      err.text);
        whole += rc == KV_OK && saved.entries == 1200;
        kv_dir_close(how.dir);
        vfs_fault_free(fault);
    }
    kv_mem_exact = false;
    cr_assert_geq(whole, memory ? 1 : 2, "one failure of a read of everything costs nothing");
    sst_kit_release(&kit);
}

Test(table_salvage, salvage_reads_past_what_the_disk_cannot, .timeout = 120)
{
    salvage_without(false, false);
    salvage_without(true, false);
}

Test(table_salvage, salvage_says_when_memory_is_out, .timeout = 240)
{
    salvage_without(false, true);
    salvage_without(true, true);
}

/* Values that look like the index, or nearly so, are values. */
Test(table_salvage, entries_are_told_from_the_index)
{
    uint8_t far[16];
    size_t far_len = kv_put_varint(far, 128);
    far_len += kv_put_varint(far + far_len, 1 << 20);
    const kv_slice values[] = {KV_STR(""),
                               KV_STR("\x80"),
                               KV_STR("\x80\1"),
                               KV_STR("\x80\1\x14\1"),
                               KV_STR("\5\x14"),
                               kv_slice_of(far, far_len),
                               KV_STR("\xff\x7f\x14"),
                               KV_STR("\x82\1\x14"),
                               KV_STR("\x80\1\x15")};
    struct sst_kit kit;
    struct kv_err err = {0};
    struct saved saved = {0};
    struct kv_table_salvaged said;
    sst_kit_init(&kit, 1 << 20);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        for (int footer = 0; footer < 2; footer++) {
            struct forge forge;
            struct kv_buf bytes = {0};
            forge_init(&forge);
            forge.entries[1][0].value = values[i];
            forge.entries[1][1].value = values[i];
            forge_write(&forge, &kit, "1.tbl");
            if (!footer) {
                sst_file_read(&kit, "1.tbl", &bytes);
                sst_file_write(&kit, "1.tbl", kv_slice_of(bytes.data, bytes.len - 1));
            }
            cr_assert_eq(salvage(&kit, listen, &saved, &said, &err), KV_OK, "%s", err.text);
            cr_assert_eq(saved.entries, 4, "value %zu, footer %d: %zu", i, footer, saved.entries);
            kv_buf_release(&bytes);
        }
    /* Blocks that stand where they were not written in order are not taken. */
    struct forge forge;
    forge_init(&forge);
    forge.entries[1][0].key = KV_STR("A");
    forge.entries[1][1].key = KV_STR("B");
    forge_write(&forge, &kit, "1.tbl");
    cr_assert_eq(salvage(&kit, listen, &saved, &said, &err), KV_OK);
    cr_assert_eq(saved.entries, 2);
    forge_init(&forge);
    forge.handle_raw[0] = KV_STR("\x80");
    forge.handle_raw[1] = KV_STR("\x80\x80\x80\x80\1\x14");
    forge.properties = KV_STR("\x26\1x");
    forge_write(&forge, &kit, "1.tbl");
    cr_assert_eq(salvage(&kit, listen, &saved, &said, &err), KV_OK);
    cr_assert(saved.entries >= 4 && !said.known, "an index that leads nowhere hides nothing");
    sst_kit_release(&kit);
}

/* ---- the handle in the place of a table that could not be opened */

Test(table_salvage, a_stand_in_answers_around_its_keys_and_refuses_within)
{
    struct sst_kit kit;
    struct kv_err err = {0};
    struct kv_table *table = NULL;
    struct kv_entry_iter *it = NULL;
    struct kv_found found;
    uint64_t entries, bytes;
    const struct kv_table_properties known = {.smallest = KV_STR("f"),
                                              .largest = KV_STR("m"),
                                              .version_min = 4,
                                              .version_max = 8,
                                              .entries = 9,
                                              .deletes = 2};
    struct kv_table_open_options options = {.name = "1.tbl", .number = 1};
    sst_kit_init(&kit, 1 << 20);
    options.dir = kit.dir;
    options.cache = kit.cache;
    bool failed = true;
    for (uint64_t nth = 1; failed; nth++) {
        struct kv_table_iter_options bounds = {.lower = KV_STR("a"), .upper = KV_STR("z"), .err = &err};
        table = NULL;
        it = NULL;
        sst_malloc_fail_nth(nth);
        kv_status rc = kv_table_open_damaged(&options, &known, "1.tbl is gone", &table, &err);
        if (rc == KV_OK)
            rc = kv_table_iter_open(table, &bounds, &it);
        failed = sst_malloc_failed();
        sst_malloc_fail_nth(0);
        cr_assert_eq(rc, failed ? KV_NO_MEMORY : KV_OK);
        cr_assert(!failed || strstr(err.text, "no memory"), "%s", err.text);
        kv_entry_iter_close(it);
        if (failed)
            kv_table_unref(table);
    }
    cr_assert_str_eq(kv_table_damage(table), "1.tbl is gone");
    cr_assert_eq(kv_table_get(table, KV_STR("e"), 9, &found, &err), KV_NOT_FOUND);
    cr_assert_eq(kv_table_get(table, KV_STR("n"), 9, &found, &err), KV_NOT_FOUND);
    cr_assert_eq(kv_table_get(table, KV_STR("g"), 3, &found, &err), KV_NOT_FOUND, "older than all of it");
    cr_assert_eq(kv_table_get(table, KV_STR("g"), 9, &found, &err), KV_CORRUPT);
    cr_assert_str_eq(err.text, "1.tbl is gone");
    cr_assert_eq(kv_table_estimate(table, KV_STR("n"), KV_STR(""), &entries, &bytes, &err), KV_OK);
    cr_assert_eq(kv_table_estimate(table, KV_STR(""), KV_STR("z"), &entries, &bytes, &err), KV_CORRUPT);
    cr_assert_eq(kv_table_verify(table, &err), KV_CORRUPT);
    static const struct {
        const char *lower, *upper, *key;
        uint64_t version;
        kv_status forward, backward; /* KV_OK: stands at an entry that nobody sees; a step from it fails */
    } rows[] = {
        {"", "", "", KV_VERSION_MAX, KV_OK, KV_OK},
        {"", "", "a", KV_VERSION_MAX, KV_OK, KV_END},
        {"", "", "g", KV_VERSION_MAX, KV_CORRUPT, KV_CORRUPT},
        {"", "", "n", KV_VERSION_MAX, KV_END, KV_OK},
        {"g", "", "a", KV_VERSION_MAX, KV_CORRUPT, KV_END},
        {"", "g", "", KV_VERSION_MAX, KV_OK, KV_CORRUPT},
        {"", "f", "a", KV_VERSION_MAX, KV_END, KV_END},
        {"", "z", "zz", KV_VERSION_MAX, KV_END, KV_OK},
        {"n", "", "zz", KV_VERSION_MAX, KV_END, KV_END},
        {"", "z", "p", KV_VERSION_MAX, KV_END, KV_OK},
        {"", "", "f", 8, KV_OK, KV_END},
        {"", "", "f", 7, KV_CORRUPT, KV_CORRUPT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct kv_table_iter_options bounds = {
            .lower = kv_slice_str(rows[i].lower), .upper = kv_slice_str(rows[i].upper), .err = &err};
        kv_slice key = kv_slice_str(rows[i].key);
        cr_assert_eq(kv_table_iter_open(table, &bounds, &it), KV_OK);
        kv_status rc = kv_entry_iter_seek(it, key, rows[i].version);
        cr_assert_eq(rc, rows[i].forward, "row %zu: %s", i, kv_status_name(rc));
        if (rc == KV_OK)
            cr_assert_eq(kv_entry_iter_next(it), KV_CORRUPT);
        rc = kv_entry_iter_seek_before(it, key, rows[i].version);
        cr_assert_eq(rc, rows[i].backward, "row %zu backward: %s", i, kv_status_name(rc));
        if (rc == KV_OK)
            cr_assert_eq(kv_entry_iter_prev(it), KV_CORRUPT);
        kv_entry_iter_close(it);
    }
    kv_table_unref(table);
    sst_kit_release(&kit);
}
