#include "kvcore/base/crc32c.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/values.h"
#include "kvcore/sst/format.h"
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
