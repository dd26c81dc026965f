/*
 * Segments of the value log from hostile bytes. The first byte's bits: 0 sums are made right; 1 the segment is one that was just built
 * of values cut from the input, which must come back. Otherwise: count:u8, as many pointers (offset:u16 len:u16), the file. Each is read
 * twice, and as the bytes of a table's entry; nothing may crash, hang or read outside its bytes, and what is answered is the same twice.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/base/file_header.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/values.h"
#include "kvcore/sst/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEADER_AT_UUID = 16, POINTERS_MAX = 15 }; /* few: each may claim to inflate to KV_BLOCK_INFLATED_MAX */
static const uint8_t uuid[KV_UUID_LEN] = "uuid of sixteen.";

struct world {
    struct kv_vfs *vfs;
    struct kv_dir *dir;
    struct kv_cache *cache;
    struct kv_values values;
    struct kv_value_segment one;
};

static void world_open(struct world *w)
{
    *w = (struct world){.vfs = kv_vfs_mem_new()};
    KV_ASSERT(w->vfs && kv_vfs_dir_open(w->vfs, "d", true, &w->dir, NULL) == KV_OK);
    KV_ASSERT(kv_cache_new(1 << 16, &w->cache) == KV_OK);
}

static void world_close(struct world *w)
{
    kv_segment_unref(w->one.segment);
    kv_cache_free(w->cache);
    kv_dir_close(w->dir);
    kv_vfs_mem_free(w->vfs);
}

static kv_status open_segment(struct world *w, const uint8_t *uid, uint64_t bytes)
{
    struct kv_segment_open_options options = {.dir = w->dir,
                                              .name = "000007.vlg",
                                              .cache = w->cache,
                                              .db_uuid = uuid,
                                              .uid = uid,
                                              .file_bytes = bytes,
                                              .number = 7};
    kv_status rc = kv_segment_open(&options, &w->one.segment, NULL);
    w->values = (struct kv_values){&w->one, 1};
    return rc;
}

/* Twice, by way of a table's bytes, the second time perhaps from the cache. */
static void read_at(struct world *w, const struct kv_pointer *pointer, const kv_slice *expect)
{
    uint8_t bytes[3 * KV_VARINT_LEN_MAX];
    struct kv_block *first = NULL, *second = NULL;
    size_t len = kv_pointer_put(bytes, pointer);
    kv_status rc = kv_values_fetch(&w->values, kv_slice_of(bytes, len), true, &first, NULL);
    kv_status again = kv_values_fetch(&w->values, kv_slice_of(bytes, len), false, &second, NULL);
    KV_ASSERT(rc == again && (rc == KV_OK) == (first != NULL));
    KV_ASSERT(!expect || (rc == KV_OK && kv_slice_equal(first->bytes, *expect)));
    if (rc == KV_OK)
        KV_ASSERT(kv_slice_equal(first->bytes, second->bytes) && first->bytes.len <= KV_BLOCK_INFLATED_MAX);
    kv_block_unref(first);
    kv_block_unref(second);
}

/* Values of lengths that the input says come back whatever the codec, and no pointer between two does. */
static void round_trip(kv_slice in)
{
    struct world w;
    struct kv_pointer pointers[8];
    kv_slice values[8];
    struct kv_segment_build *build = NULL;
    uint8_t uid[KV_FILE_UID_LEN];
    size_t n = 0;
    world_open(&w);
    struct kv_segment_build_options options = {
        .dir = w.dir, .name = "000007.vlg", .number = 7, .db_uuid = uuid, .clock = kv_clock_system()};
    KV_ASSERT(kv_segment_build_open(&options, &build, NULL) == KV_OK);
    for (; n < 8 && in.len > 1; n++) {
        enum kv_codec codec = (enum kv_codec)(in.data[0] % 3);
        size_t len = in.data[1] < in.len ? in.data[1] : in.len;
        values[n] = kv_slice_of(in.data, len);
        KV_ASSERT(kv_segment_build_add(build, values[n], codec, &pointers[n], NULL) == KV_OK);
        in = kv_slice_from(in, len ? len : 1);
    }
    uint64_t bytes = kv_segment_build_bytes(build);
    KV_ASSERT(kv_segment_build_finish(build, uid, NULL) == KV_OK);
    kv_segment_build_free(build);
    KV_ASSERT(open_segment(&w, uid, bytes) == KV_OK);
    for (size_t i = 0; i < n; i++) {
        struct kv_pointer beside = pointers[i];
        read_at(&w, &pointers[i], &values[i]);
        beside.len++;
        read_at(&w, &beside, NULL);
    }
    world_close(&w);
}

static void mend(uint8_t *file, size_t len, const struct kv_pointer *pointer)
{
    if (pointer->offset < KV_FILE_HEADER_LEN || pointer->offset > len ||
        pointer->len > len - pointer->offset || pointer->len < KV_BLOCK_TRAILER_LEN)
        return;
    uint8_t *at = file + pointer->offset;
    size_t body = (size_t)pointer->len - 4;
    uint32_t uid_sum = kv_crc32c(0, kv_slice_of(file + KV_FILE_HEADER_AT_UID, KV_FILE_UID_LEN));
    kv_put_fixed32(at + body, kv_block_sum(uid_sum, pointer->offset, kv_slice_of(at, body)));
}

static void hostile(kv_slice in, bool mended)
{
    struct world w;
    struct kv_pointer pointers[POINTERS_MAX];
    struct kv_file *out = NULL;
    size_t n = in.len ? in.data[0] % (POINTERS_MAX + 1) : 0;
    if (in.len < 1 + 4 * n + KV_FILE_HEADER_LEN)
        return;
    for (size_t i = 0; i < n; i++)
        pointers[i] = (struct kv_pointer){.segment = 7,
                                          .offset = kv_get_fixed16(in.data + 1 + 4 * i),
                                          .len = kv_get_fixed16(in.data + 3 + 4 * i)};
    in = kv_slice_from(in, 1 + 4 * n);
    uint8_t *file = kv_alloc(in.len);
    KV_ASSERT(file != NULL);
    memcpy(file, in.data, in.len);
    if (mended) {
        memcpy(file + HEADER_AT_UUID, uuid, sizeof uuid);
        kv_put_fixed32(file + KV_FILE_HEADER_LEN - 4,
                       kv_crc32c(0, kv_slice_of(file, KV_FILE_HEADER_LEN - 4)));
        for (size_t i = 0; i < n; i++)
            mend(file, in.len, &pointers[i]);
    }
    world_open(&w);
    KV_ASSERT(kv_dir_create(w.dir, "000007.vlg", &out, NULL) == KV_OK);
    KV_ASSERT(kv_file_append(out, 0, kv_slice_of(file, in.len), NULL) == KV_OK);
    kv_file_close(out);
    if (open_segment(&w, file + KV_FILE_HEADER_AT_UID, in.len) == KV_OK) {
        for (size_t i = 0; i < n; i++)
            read_at(&w, &pointers[i], NULL);
        struct kv_block *block = NULL; /* any bytes as a pointer */
        if (kv_values_fetch(&w.values, kv_slice_of(file, in.len), false, &block, NULL) == KV_OK)
            kv_block_unref(block);
    }
    world_close(&w);
    kv_free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    if (data[0] & 2)
        round_trip(kv_slice_of(data + 1, size - 1));
    else
        hostile(kv_slice_of(data + 1, size - 1), data[0] & 1);
    return 0;
}
