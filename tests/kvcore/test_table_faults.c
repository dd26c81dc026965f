/* Tables when memory or the disk fails, and what is read of a damaged one: by its sums, by salvaging it, by the handle in its place. */
#include "kvcore/base/coding.h"
#include "kvcore/base/file_header.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/attrs.h"
#include "kvcore/sst/block.h"
#include "kvcore/sst/table_salvage.h"
#include "kvcore/sst/table_sums.h"
#include "tests/support/sst_forge.h"
#include "tests/support/sys_fault.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- a table of every kind of entry, with every property */

enum { ALL_KEYS = 60 };

static kv_status add_all(struct kv_table_build *build, int keys, struct kv_err *err)
{
    kv_status rc = KV_OK;
    for (int i = 0; i < keys && rc == KV_OK; i++) {
        uint8_t value[KV_ATTRS_LEN_MAX + KV_POINTER_LEN_MAX];
        char key[16];
        int len = snprintf(key, sizeof key, "key %04d", i);
        struct kv_attrs attrs = {.expires_at_s = i % 7 == 0 ? 1000u + (unsigned)(97 * i % 50) : 0,
                                 .meta = i % 2 ? 5 : 0};
        struct kv_pointer pointer = {.segment = (uint64_t)(9 - i % 3), .offset = 128, .len = 50};
        size_t n = kv_attrs_put(value, &attrs);
        static const enum kv_kind kinds[] = {KV_KIND_PUT, KV_KIND_DELETE, KV_KIND_RICH, KV_KIND_POINTER,
                                             KV_KIND_MERGE};
        struct kv_entry entry = {.key = kv_slice_of(key, (size_t)len), .version = 7, .kind = kinds[i % 5]};
        if (entry.kind == KV_KIND_POINTER)
            n += kv_pointer_put(value + n, &pointer);
        if (entry.kind == KV_KIND_MERGE) {
            memcpy(value + n, "\2op", 3);
            n += 3;
        }
        if (entry.kind != KV_KIND_DELETE)
            entry.value = kv_slice_of(value, n);
        rc = kv_table_build_add(build, &entry, err);
    }
    return rc;
}

static kv_status build_all(struct sst_kit *kit, enum kv_codec codec, int keys, uint32_t block_bytes,
                           struct kv_err *err)
{
    struct kv_table_build *build = NULL;
    struct kv_table_build_options options = {.dir = kit->dir,
                                             .name = "1.tbl",
                                             .db_uuid = sst_uuid,
                                             .clock = &kit->clock.clock,
                                             .keys = kit->keys,
                                             .space_name = "all",
                                             .codec = codec,
                                             .block_bytes = block_bytes,
                                             .ranges_applied = 3,
                                             .deletes_since_s = 4,
                                             .written_after = 5,
                                             .cut_len = 3};
    kv_status rc = kv_table_build_open(&options, &build, err);
    if (rc == KV_OK)
        rc = add_all(build, keys, err);
    if (rc == KV_OK)
        rc = kv_table_build_finish(build, NULL, err);
    kv_table_build_free(build);
    return rc;
}

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
        kv_status rc = build_all(&kit, codec, ALL_KEYS, 64, &err);
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
    cr_assert_eq(build_all(&kit, KV_CODEC_ZSTD, 1200, 64, &err), KV_OK, "%s", err.text);
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
    cr_assert_eq(build_all(&kit, KV_CODEC_PLAIN, 1200, 64, &err), KV_OK, "%s", err.text);
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

/* ---- salvage */

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
    cr_assert_eq(build_all(&kit, KV_CODEC_ZSTD, 300, 64, &err), KV_OK, "%s", err.text);
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

Test(table_faults, what_is_readable_of_a_damaged_table_is_saved, .timeout = 120)
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
    cr_assert_eq(build_all(&kit, KV_CODEC_PLAIN, 1200, 64, &err), KV_OK, "%s", err.text);
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

Test(table_faults, salvage_reads_past_what_the_disk_cannot, .timeout = 120)
{
    salvage_without(false, false);
    salvage_without(true, false);
}

Test(table_faults, salvage_says_when_memory_is_out, .timeout = 240)
{
    salvage_without(false, true);
    salvage_without(true, true);
}

/* Values that look like the index, or nearly so, are values. */
Test(table_faults, entries_are_told_from_the_index)
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

Test(table_faults, a_stand_in_answers_around_its_keys_and_refuses_within)
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
