/*
 * Tables from hostile bytes. The first byte says how the rest is taken:
 *   0  a whole file
 *   1  one block's payload; its codec is the second byte; sums are made right
 *   2  a file put together: pieces of (codec:u8 inflated_len:u32 len:u16 bytes) become blocks with right sums, of which the last three
 *      are top index, filter and properties, then a right footer. The second byte is the number of index levels
 * Whatever opens is walked, asked and verified; nothing may crash, hang or read outside its bytes.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/base/file_header.h"
#include "kvcore/base/mem.h"
#include "kvcore/os/vfs.h"
#include "kvcore/sst/block.h"
#include "kvcore/sst/cache.h"
#include "kvcore/sst/format.h"
#include "kvcore/sst/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEPS_MAX = 100000 };

static void ask(struct kv_table *table, kv_slice key, uint64_t version)
{
    struct kv_found found;
    kv_status rc = kv_table_get(table, key, version, &found, NULL);
    if (rc == KV_OK) {
        KV_ASSERT(found.value.len <= KV_BLOCK_INFLATED_MAX);
        kv_block_unref(found.block);
    }
}

static void walk(struct kv_table *table, kv_slice lower, kv_slice upper)
{
    struct kv_table_iter_options options = {.lower = lower, .upper = upper};
    struct kv_entry_iter *it = NULL;
    if (kv_table_iter_open(table, &options, &it) < 0)
        return;
    uint64_t sum = 0;
    kv_status rc = kv_entry_iter_seek(it, lower, KV_VERSION_MAX);
    for (int i = 0; rc == KV_OK && i < STEPS_MAX; rc = kv_entry_iter_next(it), i++)
        sum += kv_crc32c(kv_crc32c(0, it->key), it->value) + it->version + (uint64_t)it->kind;
    kv_entry_iter_close(it);
    __asm__ volatile("" : : "r"(sum));
}

static void use_file(kv_slice bytes)
{
    struct kv_vfs *vfs = kv_vfs_mem_new();
    struct kv_dir *dir = NULL;
    struct kv_file *file = NULL;
    struct kv_cache *cache = NULL;
    struct kv_table *table = NULL;
    KV_ASSERT(vfs && kv_vfs_dir_open(vfs, "d", true, &dir, NULL) == KV_OK);
    KV_ASSERT(kv_cache_new(1 << 16, &cache) == KV_OK);
    KV_ASSERT(kv_dir_create(dir, "t", &file, NULL) == KV_OK);
    KV_ASSERT(kv_file_append(file, 0, bytes, NULL) == KV_OK);
    kv_file_close(file);
    struct kv_table_open_options options = {
        .dir = dir, .name = "t", .cache = cache, .version = bytes.len % 3 == 0 ? 9 : 0};
    if (kv_table_open(&options, &table, NULL) == KV_OK) {
        const struct kv_table_properties *p = kv_table_properties(table);
        (void)!kv_table_verify(table, NULL);
        walk(table, KV_STR(""), KV_STR(""));
        walk(table, p->smallest, p->largest);
        ask(table, p->smallest, KV_VERSION_MAX);
        ask(table, p->largest, 1);
        ask(table, KV_STR("host=10"), 100);
        kv_table_unref(table);
    }
    kv_cache_free(cache);
    kv_dir_close(dir);
    kv_vfs_mem_free(vfs);
}

static void put_block(struct kv_buf *file, uint32_t uid_sum, uint8_t codec, uint32_t inflated_len,
                      kv_slice payload)
{
    size_t start = file->len;
    KV_ASSERT(kv_buf_append(file, payload) == KV_OK);
    KV_ASSERT(kv_buf_append_byte(file, codec) == KV_OK);
    KV_ASSERT(kv_buf_append_fixed32(file, inflated_len) == KV_OK);
    uint32_t sum = kv_block_sum(uid_sum, start, kv_slice_of(file->data + start, file->len - start));
    KV_ASSERT(kv_buf_append_fixed32(file, sum) == KV_OK);
}

static void use_block(uint8_t codec, kv_slice payload)
{
    struct kv_buf stored = {0};
    struct kv_block *block = NULL;
    uint32_t inflated_len = (uint32_t)payload.len;
    if (codec != KV_CODEC_PLAIN && kv_take_fixed32(&payload, &inflated_len) < 0)
        return;
    put_block(&stored, 0, codec, inflated_len, payload);
    kv_status rc = kv_block_open(stored.data, stored.len, 0, NULL, 0, &block);
    kv_buf_release(&stored);
    if (rc < 0)
        return;
    uint8_t *key_buf = kv_alloc(KV_KEY_LEN_MAX), *run_buf = kv_alloc(KV_KEY_LEN_MAX);
    KV_ASSERT(key_buf && run_buf);
    struct kv_entry_iter it = {.run.key_buf = run_buf};
    if (block->n)
        kv_block_run(block, 0, &it.run);
    for (uint32_t i = 0; i < block->n; i++) {
        struct kv_entry e;
        kv_block_entry(block, i, key_buf, &e);
        kv_run_take(&it);
        KV_ASSERT(kv_slice_equal(e.key, it.key) && kv_slice_equal(e.value, it.value) &&
                  e.version == it.version);
        KV_ASSERT(kv_block_seek(block, e.key, e.version) == i);
    }
    kv_free(key_buf);
    kv_free(run_buf);
    kv_block_unref(block);
}

static void use_pieces(uint8_t levels, kv_slice in)
{
    struct kv_buf file = {0};
    struct kv_file_header header = {.kind = KV_FILE_TABLE, .format = KV_TABLE_FORMAT};
    uint64_t places[3][2] = {{0, 0}}; /* of the last three blocks */
    uint32_t uid_sum = kv_crc32c(0, kv_slice_of(header.uid, sizeof header.uid));
    uint8_t *at = kv_buf_extend(&file, KV_FILE_HEADER_LEN);
    KV_ASSERT(at);
    kv_file_header_encode(&header, at);
    while (in.len >= 7) {
        size_t len = kv_get_fixed16(in.data + 5);
        size_t start = file.len;
        if (len > in.len - 7)
            len = in.len - 7;
        put_block(&file, uid_sum, in.data[0], kv_get_fixed32(in.data + 1), kv_slice_of(in.data + 7, len));
        memmove(places, places + 1, 2 * sizeof places[0]);
        places[2][0] = start;
        places[2][1] = file.len - start;
        in = kv_slice_from(in, 7 + len);
    }
    uint64_t offset = file.len;
    uint8_t *footer = kv_buf_extend(&file, KV_TABLE_FOOTER_LEN);
    KV_ASSERT(footer);
    for (int i = 0; i < 3; i++) {
        kv_put_fixed64(footer + 16 * i, places[i][0]);
        kv_put_fixed64(footer + 16 * i + 8, places[i][1]);
    }
    if (levels & 0x80) /* no filter */
        memset(footer + 16, 0, 16);
    kv_put_fixed64(footer + 48, file.len);
    kv_put_fixed32(footer + 56, levels & 0x7f);
    kv_put_fixed32(footer + 60, kv_block_sum(uid_sum, offset, kv_slice_of(footer, 60)));
    kv_put_fixed64(footer + 64, KV_TABLE_FOOTER_MAGIC);
    use_file(kv_buf_slice(&file));
    kv_buf_release(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    if (data[0] == 0)
        use_file(kv_slice_of(data + 1, size - 1));
    else if (data[0] == 1)
        use_block(data[1], kv_slice_of(data + 2, size - 2));
    else
        use_pieces(data[1], kv_slice_of(data + 2, size - 2));
    return 0;
}
