#include "kvcore/base/crc32c.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/values.h"
#include "kvcore/sst/format.h"
#include "kvcore/vlog/large.h"
#include "tests/support/clock_manual.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { VALUES = 4 };

static const uint8_t uuid[KV_UUID_LEN] = "uuid of sixteen.";
static const char *const name = "000007.vlg";

struct kit {
    struct kv_vfs *vfs;
    struct vfs_fault *fault;
    struct kv_dir *dir;
    struct kv_cache *cache;
    struct clock_manual clock;
    struct kv_pointer at[VALUES];
    uint8_t uid[KV_FILE_UID_LEN];
    uint64_t bytes;
    struct kv_err err;
};

static void kit_init(struct kit *kit)
{
    *kit = (struct kit){.vfs = kv_vfs_mem_new()};
    kit->fault = vfs_fault_new(kit->vfs);
    clock_manual_init(&kit->clock, 1700000000000, 7);
    cr_assert_eq(kv_vfs_dir_open(vfs_fault_as_vfs(kit->fault), "d", true, &kit->dir, NULL), KV_OK);
    cr_assert_eq(kv_cache_new(1 << 20, &kit->cache), KV_OK);
}

static void kit_release(struct kit *kit)
{
    kv_cache_free(kit->cache);
    kv_dir_close(kit->dir);
    vfs_fault_free(kit->fault);
    kv_vfs_mem_free(kit->vfs);
    clock_manual_release(&kit->clock);
}

/* Nothing, a line, a line many times over, and what no compressor makes shorter. */
static kv_slice value_of(int i, char *room)
{
    size_t len = 0;
    for (int n = 0; i > 0 && i < 3 && n < (i == 1 ? 1 : 60); n++)
        len += (size_t)sprintf(room + len, "value %d of a golden segment;", i);
    for (uint32_t n = 0, x = 1; i == 3 && n < 500; n++, x = x * 1664525 + 1013904223)
        room[len++] = (char)(x >> 24);
    return kv_slice_of(room, len);
}

static kv_status build(struct kit *kit, enum kv_codec codec)
{
    struct kv_segment_build *build = NULL;
    char room[4096];
    struct kv_segment_build_options options = {.dir = kit->dir,
                                               .name = name,
                                               .number = 7,
                                               .db_uuid = uuid,
                                               .owner_epoch = 3,
                                               .clock = &kit->clock.base};
    kv_status rc = kv_segment_build_open(&options, &build, &kit->err);
    for (int i = 0; i < VALUES && rc == KV_OK; i++)
        rc = kv_segment_build_add(build, value_of(i, room), codec, &kit->at[i], &kit->err);
    if (rc == KV_OK) {
        kit->bytes = kv_segment_build_bytes(build);
        rc = kv_segment_build_finish(build, kit->uid, &kit->err);
    }
    kv_segment_build_free(build);
    return rc;
}

static kv_status open_in(struct kit *kit, struct kv_dir *dir, const char *called, struct kv_segment **out)
{
    struct kv_segment_open_options options = {.dir = dir,
                                              .name = called,
                                              .cache = kit->cache,
                                              .db_uuid = uuid,
                                              .uid = kit->uid,
                                              .file_bytes = kit->bytes,
                                              .number = 7};
    return kv_segment_open(&options, out, &kit->err);
}

static void read_values(struct kit *kit, struct kv_segment *segment)
{
    char room[4096];
    for (int twice = 0; twice < 2; twice++)
        for (int i = 0; i < VALUES; i++) {
            struct kv_block *block = NULL;
            cr_assert_eq(kv_segment_read(segment, &kit->at[i], true, &block, &kit->err), KV_OK, "%s",
                         kit->err.text);
            cr_assert(kv_slice_equal(block->bytes, value_of(i, room)));
            kv_block_unref(block);
        }
}

Test(segment, values_come_back_whatever_the_codec)
{
    for (enum kv_codec codec = KV_CODEC_PLAIN; codec <= KV_CODEC_ZSTD; codec++) {
        struct kit kit;
        struct kv_segment *segment = NULL;
        kit_init(&kit);
        cr_assert_eq(build(&kit, codec), KV_OK);
        cr_assert_eq(open_in(&kit, kit.dir, name, &segment), KV_OK, "%s", kit.err.text);
        cr_assert_eq(kv_segment_number(segment), 7);
        cr_assert_eq(kv_segment_bytes(segment), kit.bytes);
        cr_assert(memcmp(kv_segment_uid(segment), kit.uid, sizeof kit.uid) == 0);
        cr_assert(codec == KV_CODEC_PLAIN ? kit.at[2].len > 1000 : kit.at[2].len < 200);
        read_values(&kit, segment);
        kv_segment_unref(segment);
        kit_release(&kit);
    }
}

Test(segment, a_pointer_that_leads_elsewhere_is_damage_with_its_offset)
{
    struct kit kit;
    struct kv_segment *segment = NULL;
    kit_init(&kit);
    cr_assert_eq(build(&kit, KV_CODEC_SNAPPY), KV_OK);
    cr_assert_eq(open_in(&kit, kit.dir, name, &segment), KV_OK);
    uint64_t last = kit.at[VALUES - 1].offset, len = kit.at[VALUES - 1].len;
    const struct {
        uint64_t segment, offset, len;
    } bad[] = {
        {7, 0, 20},
        {7, KV_FILE_HEADER_LEN - 1, 20},
        {7, kit.bytes, 1},
        {7, kit.bytes + 1, 0},
        {7, UINT64_MAX, 1},
        {7, last, len + 1},
        {7, last, UINT64_MAX},
        {7, last, len - 1},
        {7, last + 1, len - 1},
        {7, last - 1, len},
        {7, last, 0},
        {7, last, KV_BLOCK_TRAILER_LEN - 1},
        {7, kit.at[1].offset, kit.at[1].len + kit.at[2].len},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct kv_block *block = NULL;
        struct kv_pointer pointer = {.segment = bad[i].segment, .offset = bad[i].offset, .len = bad[i].len};
        char offset[32];
        snprintf(offset, sizeof offset, "offset %llu", (unsigned long long)bad[i].offset);
        cr_assert_eq(kv_segment_read(segment, &pointer, true, &block, &kit.err), KV_CORRUPT, "%zu", i);
        cr_assert_null(block);
        cr_assert(strstr(kit.err.text, name) && strstr(kit.err.text, offset), "%s", kit.err.text);
    }
    read_values(&kit, segment);
    kv_segment_unref(segment);
    kit_release(&kit);
}

Test(segment, what_is_not_the_segment_asked_for_is_refused)
{
    struct kit kit;
    struct kv_segment *segment = NULL;
    kit_init(&kit);
    cr_assert_eq(build(&kit, KV_CODEC_PLAIN), KV_OK);
    kit.bytes++;
    cr_assert_eq(open_in(&kit, kit.dir, name, &segment), KV_CORRUPT);
    cr_assert(strstr(kit.err.text, "not as long"), "%s", kit.err.text);
    kit.bytes--;
    kit.uid[0] ^= 1;
    cr_assert_eq(open_in(&kit, kit.dir, name, &segment), KV_CORRUPT);
    cr_assert(strstr(kit.err.text, "another file"), "%s", kit.err.text);
    kit.uid[0] ^= 1;
    cr_assert_eq(open_in(&kit, kit.dir, "000008.vlg", &segment), KV_MISSING);
    cr_assert(strstr(kit.err.text, "000008.vlg"), "%s", kit.err.text);
    cr_assert_null(segment);
    kit_release(&kit);
}

static void count_gone(void *ctx, uint64_t number)
{
    uint64_t *gone = ctx;
    *gone += number;
}

Test(segment, its_last_reader_announces_that_it_is_gone)
{
    struct kit kit;
    struct kv_segment *segment = NULL;
    uint64_t gone = 0;
    kit_init(&kit);
    cr_assert_eq(build(&kit, KV_CODEC_PLAIN), KV_OK);
    struct kv_segment_open_options options = {.dir = kit.dir,
                                              .name = name,
                                              .cache = kit.cache,
                                              .db_uuid = uuid,
                                              .uid = kit.uid,
                                              .file_bytes = kit.bytes,
                                              .number = 7,
                                              .gone = count_gone,
                                              .gone_ctx = &gone};
    cr_assert_eq(kv_segment_open(&options, &segment, &kit.err), KV_OK);
    kv_segment_unref(kv_segment_ref(segment));
    cr_assert_eq(gone, 0);
    kv_segment_unref(segment);
    cr_assert_eq(gone, 7);
    options.file_bytes++;
    cr_assert_eq(kv_segment_open(&options, &segment, &kit.err), KV_CORRUPT);
    cr_assert_eq(gone, 7, "one that did not open is not gone");
    kit_release(&kit);
}

/* Building, opening, reading: each operation and each allocation fails in turn. */
static kv_status all_of_it(struct kit *kit)
{
    struct kv_segment *segment = NULL;
    kv_status rc = build(kit, KV_CODEC_SNAPPY);
    if (rc == KV_OK)
        rc = open_in(kit, kit->dir, name, &segment);
    for (int i = 0; i < VALUES && rc == KV_OK; i++) {
        struct kv_block *block = NULL;
        rc = kv_segment_read(segment, &kit->at[i], i % 2, &block, &kit->err);
        kv_block_unref(block);
    }
    kv_segment_unref(segment);
    return rc;
}

static kv_status count_files(void *ctx, const char *file, uint64_t bytes)
{
    size_t *n = ctx;
    (void)file, (void)bytes;
    ++*n;
    return KV_OK;
}

Test(segment, any_failing_operation_is_reported_and_an_unfinished_file_removed)
{
    for (uint64_t nth = 1;; nth++) {
        struct kit kit;
        size_t files = 0;
        kit_init(&kit);
        struct vfs_fault_plan plan = {.nth = nth, .kind = VFS_FAULT_SHORT_EIO};
        vfs_fault_plan(kit.fault, &plan);
        kv_status rc = all_of_it(&kit);
        bool fired = vfs_fault_fired(kit.fault);
        cr_assert_eq(rc, fired ? KV_IO : KV_OK, "operation %llu: %d", (unsigned long long)nth, rc);
        vfs_fault_plan(kit.fault, NULL);
        if (fired && kit.bytes == 0) {
            cr_assert_eq(kit.dir->ops->list(kit.dir, count_files, &files, NULL), KV_OK);
            cr_assert_eq(files, 0, "operation %llu left a file", (unsigned long long)nth);
        }
        kit_release(&kit);
        if (!fired)
            break;
        cr_assert_lt(nth, 40);
    }
}

Test(segment, any_failing_allocation_is_reported)
{
    for (uint64_t nth = 1;; nth++) {
        struct kit kit;
        kit_init(&kit);
        malloc_fault_arm(nth, false);
        kv_status rc = all_of_it(&kit);
        bool fired = malloc_fault_disarm();
        cr_assert(fired ? rc == KV_NO_MEMORY || rc == KV_NO_SPACE || rc == KV_OK : rc == KV_OK,
                  "allocation %llu: %d", (unsigned long long)nth,
                  rc); /* the cache does without; files in memory have no space then */
        kit_release(&kit);
        if (!fired)
            break;
        cr_assert_lt(nth, 200);
    }
}

/* ---- golden: a file of format 1, read by every later version */

static void read_file(struct kv_dir *dir, const char *called, struct kv_buf *out)
{
    struct kv_file *file = NULL;
    uint64_t size = 0;
    cr_assert_eq(kv_dir_open_file(dir, called, &file, NULL), KV_OK);
    cr_assert_eq(kv_file_size(file, &size, NULL), KV_OK);
    cr_assert_eq(kv_file_read_exact(file, 0, (size_t)size, kv_buf_extend(out, (size_t)size), NULL), KV_OK);
    kv_file_close(file);
}

Test(segment, a_file_of_the_first_version_is_read)
{
    struct kit kit;
    struct kv_dir *golden = NULL;
    struct kv_file *file = NULL;
    struct kv_segment *segment = NULL;
    struct kv_buf now = {0}, then = {0};
    kit_init(&kit);
    cr_assert_eq(build(&kit, KV_CODEC_SNAPPY), KV_OK);
    read_file(kit.dir, name, &now);
    cr_assert_eq(kv_vfs_dir_open(kv_vfs_posix(), "tests/golden", false, &golden, NULL), KV_OK);
    if (getenv("TIDEMARK_WRITE_GOLDEN")) {
        kv_status removed = kv_dir_remove(golden, "vlog-1.vlg", NULL);
        (void)removed;
        cr_assert_eq(kv_dir_create(golden, "vlog-1.vlg", &file, NULL), KV_OK);
        cr_assert_eq(kv_file_append(file, 0, kv_buf_slice(&now), NULL), KV_OK);
        kv_file_close(file);
    }
    read_file(golden, "vlog-1.vlg", &then);
    memcpy(kit.uid, then.data + KV_FILE_HEADER_AT_UID, sizeof kit.uid);
    kit.bytes = then.len;
    cr_assert_eq(open_in(&kit, golden, "vlog-1.vlg", &segment), KV_OK, "%s", kit.err.text);
    read_values(&kit, segment); /* the clock is seeded and snappy's output old: the same places */
    kv_segment_unref(segment);
    kv_dir_close(golden);
    kv_buf_release(&now);
    kv_buf_release(&then);
    kit_release(&kit);
}

/* ---- large values whose index has the right sum and says something else */

enum { LARGE_BLOCK = 256, LARGE_LEN = 2 * LARGE_BLOCK + 100 };

struct large_kit {
    struct kit kit;
    struct kv_segment *segment;
    struct kv_pointer blocks[3], index;
};

static void large_bytes(uint8_t out[LARGE_LEN])
{
    for (size_t i = 0; i < LARGE_LEN; i++)
        out[i] = (uint8_t)(i * 7 + i / 100);
}

/* Three blocks of the value, the last of last_len, and the index given. */
static void large_make(struct large_kit *large, size_t last_len, kv_slice index)
{
    struct kit *kit = &large->kit;
    struct kv_segment_build *build = NULL;
    uint8_t bytes[LARGE_LEN];
    large_bytes(bytes);
    kit_init(kit);
    struct kv_segment_build_options options = {.dir = kit->dir,
                                               .name = name,
                                               .number = 7,
                                               .db_uuid = uuid,
                                               .owner_epoch = 3,
                                               .clock = &kit->clock.base};
    cr_assert_eq(kv_segment_build_open(&options, &build, NULL), KV_OK);
    for (size_t i = 0; i < 3; i++) {
        kv_slice part = kv_slice_of(bytes + i * LARGE_BLOCK, i < 2 ? LARGE_BLOCK : last_len);
        cr_assert_eq(kv_segment_build_add(build, part, KV_CODEC_PLAIN, &large->blocks[i], NULL), KV_OK);
    }
    cr_assert_eq(kv_segment_build_add(build, index, KV_CODEC_PLAIN, &large->index, NULL), KV_OK);
    kit->bytes = kv_segment_build_bytes(build);
    cr_assert_eq(kv_segment_build_finish(build, kit->uid, NULL), KV_OK);
    kv_segment_build_free(build);
    cr_assert_eq(open_in(kit, kit->dir, name, &large->segment), KV_OK, "%s", kit->err.text);
}

static struct kv_pointer large_pointer(const struct large_kit *large)
{
    return (struct kv_pointer){.segment = 7,
                               .offset = large->blocks[0].offset,
                               .len = large->index.offset + large->index.len - large->blocks[0].offset,
                               .value_len = LARGE_LEN,
                               .index_len = large->index.len};
}

static kv_status large_read(struct large_kit *large, const struct kv_pointer *pointer, bool *right)
{
    uint8_t bytes[LARGE_LEN];
    struct kv_block *block = NULL;
    kv_status rc = kv_large_read_whole(large->segment, pointer, &block, &large->kit.err);
    large_bytes(bytes);
    *right = rc == KV_OK && kv_slice_equal(block->bytes, kv_slice_of(bytes, sizeof bytes));
    kv_block_unref(block);
    return rc;
}

static void large_release(struct large_kit *large)
{
    kv_segment_unref(large->segment);
    kit_release(&large->kit);
}

Test(segment, the_index_of_a_large_value_is_the_one_of_its_pointer)
{
    /* stored: 256 + 9, twice; 100 + 9 */
    static const struct {
        const char *what;
        kv_slice index;
        size_t last_len;
        const char *said; /* NULL: sound */
    } rows[] = {
        {"sound", {(const uint8_t *)"\x80\x02\x89\x02\x89\x02\x6d", 7}, 100, NULL},
        {"nothing", {(const uint8_t *)"", 0}, 100, "not the index of this value"},
        {"half a length", {(const uint8_t *)"\x80", 1}, 100, "not the index of this value"},
        {"blocks too small",
         {(const uint8_t *)"\xff\x01\x89\x02\x89\x02\x6d", 7},
         100,
         "not the index of this value"},
        {"blocks too large",
         {(const uint8_t *)"\x81\x80\x08\x7f\x7f\x7f", 6},
         100,
         "not the index of this value"},
        {"fewer blocks than it takes",
         {(const uint8_t *)"\x80\x02\x7f\x7f", 4},
         100,
         "not the index of this value"},
        {"half a block's length",
         {(const uint8_t *)"\x80\x02\x89\x02\x89\x82", 6},
         100,
         "not the index of this value"},
        {"a block past the end",
         {(const uint8_t *)"\x80\x02\x89\x02\x89\x02\x6e", 7},
         100,
         "not the index of this value"},
        {"blocks that end early",
         {(const uint8_t *)"\x80\x02\x89\x02\x89\x02\x6c", 7},
         100,
         "not the index of this value"},
        {"a byte more",
         {(const uint8_t *)"\x80\x02\x89\x02\x89\x02\x6d\0", 8},
         100,
         "not the index of this value"},
        {"a shorter block",
         {(const uint8_t *)"\x80\x02\x89\x02\x89\x02\x6c", 7},
         99,
         "a block of another length"},
        {"places that are none",
         {(const uint8_t *)"\x80\x02\x88\x02\x8a\x02\x6d", 7},
         100,
         "000007.vlg, offset 128"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct large_kit large;
        bool right;
        large_make(&large, rows[i].last_len, rows[i].index);
        struct kv_pointer pointer = large_pointer(&large);
        kv_status rc = large_read(&large, &pointer, &right);
        cr_assert_eq(rc, rows[i].said ? KV_CORRUPT : KV_OK, "%s: %s", rows[i].what, large.kit.err.text);
        cr_assert(rows[i].said ? strstr(large.kit.err.text, rows[i].said) != NULL : right, "%s: %s",
                  rows[i].what, large.kit.err.text);
        large_release(&large);
    }
}

Test(segment, a_pointer_to_a_large_value_stays_within_the_file)
{
    struct large_kit large;
    bool right;
    large_make(&large, 100, kv_slice_of("\x80\x02\x89\x02\x89\x02\x6d", 7));
    const struct kv_pointer sound = large_pointer(&large);
    struct kv_pointer bad[] = {sound, sound, sound, sound, sound, sound};
    bad[0].value_len = 0;
    bad[1].value_len = (uint64_t)KV_LARGE_VALUE_MAX + 1;
    bad[2].offset = large.kit.bytes + 1;
    bad[3].len++;
    bad[4].index_len = bad[4].len + 1;
    bad[5].value_len = (uint64_t)KV_VALUE_LEN_MAX + 1;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct kv_large *open = NULL;
        kv_status rc = kv_large_open(large.segment, &bad[i], &open, &large.kit.err);
        cr_assert_eq(rc, KV_CORRUPT, "%zu: %s", i, large.kit.err.text);
        cr_assert(strstr(large.kit.err.text, i < 5 ? "a large value outside the file" : "not the index"),
                  "%zu: %s", i, large.kit.err.text);
    }
    cr_assert_eq(large_read(&large, &bad[5], &right), KV_LIMIT, "too long to be read whole");
    kv_mem_exact = true;
    for (uint64_t nth = 1;; nth++) {
        malloc_fault_arm(nth, false);
        kv_status rc = large_read(&large, &sound, &right);
        bool fired = malloc_fault_disarm();
        cr_assert_eq(rc, fired ? KV_NO_MEMORY : KV_OK, "%d: %s", (int)nth, large.kit.err.text);
        cr_assert(fired || right);
        if (!fired)
            break;
    }
    kv_mem_exact = false;
    large_release(&large);
}

static kv_status large_build(struct kit *kit, struct kv_pointer *pointer)
{
    struct kv_segment_build *segment = NULL;
    struct kv_large_build *build = NULL;
    uint8_t bytes[LARGE_LEN];
    struct kv_segment_build_options options = {.dir = kit->dir,
                                               .name = name,
                                               .number = 7,
                                               .db_uuid = uuid,
                                               .owner_epoch = 3,
                                               .clock = &kit->clock.base};
    kv_status rc;
    large_bytes(bytes);
    KV_TRY(kv_segment_build_open(&options, &segment, &kit->err));
    KV_TRY(kv_large_build_open(segment, LARGE_BLOCK, KV_CODEC_ZSTD, &build));
    KV_TRY(kv_large_build_add(build, kv_slice_of(bytes, 10), &kit->err));
    KV_TRY(kv_large_build_add(build, kv_slice_of(bytes + 10, LARGE_LEN - 10), &kit->err));
    cr_assert_eq(kv_large_build_add(build, kv_slice_of(bytes, (size_t)KV_LARGE_VALUE_MAX), &kit->err),
                 KV_LIMIT);
    KV_TRY(kv_large_build_finish(build, pointer, &kit->err));
    kit->bytes = kv_segment_build_bytes(segment);
    KV_TRY(kv_segment_build_finish(segment, kit->uid, &kit->err));
out:
    kv_large_build_free(build);
    kv_segment_build_free(segment);
    return rc;
}

Test(segment, memory_runs_out_anywhere_in_writing_a_large_value)
{
    kv_mem_exact = true;
    for (uint64_t nth = 1;; nth++) {
        struct large_kit large = {.segment = NULL};
        struct kv_pointer pointer;
        bool right = false;
        kit_init(&large.kit);
        malloc_fault_arm(nth, false);
        kv_status rc = large_build(&large.kit, &pointer);
        bool fired = malloc_fault_disarm();
        cr_assert(fired ? rc == KV_NO_MEMORY || rc == KV_NO_SPACE : rc == KV_OK, "%d: %s", (int)nth,
                  kv_status_name(rc));
        if (rc == KV_OK) {
            cr_assert_eq(open_in(&large.kit, large.kit.dir, name, &large.segment), KV_OK);
            cr_assert(large_read(&large, &pointer, &right) == KV_OK && right);
            cr_assert_eq(pointer.value_len, LARGE_LEN);
        }
        large_release(&large);
        if (!fired)
            break;
    }
    kv_mem_exact = false;
}

Test(segment, a_stand_in_for_a_lost_one_refuses_with_the_reason)
{
    struct kit kit;
    struct kv_segment *segment = NULL;
    struct kv_block *block = NULL;
    kit_init(&kit);
    struct kv_segment_open_options options = {.dir = kit.dir,
                                              .name = name,
                                              .cache = kit.cache,
                                              .db_uuid = uuid,
                                              .uid = kit.uid,
                                              .file_bytes = 500,
                                              .number = 7};
    for (uint64_t nth = 1;; nth++) {
        malloc_fault_arm(nth, false);
        kv_status rc = kv_segment_open_damaged(&options, "000007.vlg is gone", &segment, &kit.err);
        bool fired = malloc_fault_disarm();
        cr_assert_eq(rc, fired ? KV_NO_MEMORY : KV_OK);
        if (!fired)
            break;
        cr_assert(strstr(kit.err.text, "no memory to stand in for 000007.vlg"), "%s", kit.err.text);
    }
    struct kv_pointer at = {.segment = 7, .offset = 128, .len = 20};
    cr_assert_eq(kv_segment_read(segment, &at, true, &block, &kit.err), KV_CORRUPT);
    cr_assert_str_eq(kit.err.text, "000007.vlg is gone");
    cr_assert_str_eq(kv_segment_damage(segment), "000007.vlg is gone");
    kv_segment_unref(segment);
    kit_release(&kit);
}
