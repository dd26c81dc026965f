/*
 * bench_table.c - one table, everything cached: CPU time of building it, of a walk, of point lookups, with nothing above and with the
 * reader's view on top. Prints one line of JSON per shape. Seeded: the same entries every time.
 *
 *   bench_table [ENTRIES]
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "kvcore/db/merge_iter.h"
#include "kvcore/db/view_iter.h"
#include "kvcore/sst/block.h"
#include "kvcore/sst/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct shape {
    const char *name;
    enum kv_codec codec;
    size_t value_len;
    size_t entries_divisor; /* larger values, fewer of them */
};

static double cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static kv_slice key_of(uint8_t out[24], uint64_t i)
{
    kv_put_be32(out, 0x80005001);
    kv_put_be32(out + 4, (uint32_t)(i / 100000));
    kv_put_be64(out + 8, i / 4);
    kv_put_be64(out + 16, i * 7200000);
    return kv_slice_of(out, 24);
}

static void build(struct kv_dir *dir, const struct shape *shape, uint64_t n)
{
    struct kv_table_build *b = NULL;
    uint8_t uuid[16] = {1}, key[24], *value = kv_alloc(shape->value_len);
    struct kv_prng prng;
    kv_prng_init(&prng, 1);
    KV_ASSERT(value);
    struct kv_table_build_options options = {.dir = dir,
                                             .name = "t",
                                             .db_uuid = uuid,
                                             .clock = kv_clock_system(),
                                             .space_name = "bench",
                                             .codec = shape->codec};
    KV_ASSERT(kv_table_build_open(&options, &b, NULL) == KV_OK);
    for (uint64_t i = 0; i < n; i++) {
        for (size_t k = 0; k < shape->value_len; k++)
            value[k] = k % 4 ? (uint8_t)k : (uint8_t)kv_prng_next(&prng);
        struct kv_entry e = {key_of(key, i), 0, KV_KIND_PUT, kv_slice_of(value, shape->value_len)};
        KV_ASSERT(kv_table_build_add(b, &e, NULL) == KV_OK);
    }
    KV_ASSERT(kv_table_build_finish(b, NULL, NULL) == KV_OK);
    kv_table_build_free(b);
    kv_free(value);
}

static double walk_ns(struct kv_table *table, uint64_t n)
{
    struct kv_table_iter_options all = {0};
    struct kv_entry_iter *it = NULL;
    uint64_t seen = 0, sum = 0;
    KV_ASSERT(kv_table_iter_open(table, &all, &it) == KV_OK);
    double start = cpu_ns();
    kv_status rc = kv_entry_iter_seek(it, KV_STR(""), KV_VERSION_MAX);
    for (; rc == KV_OK; rc = kv_entry_iter_next(it), seen++)
        sum += it->key.data[it->key.len - 1] + it->value.data[0];
    double took = cpu_ns() - start;
    KV_ASSERT(seen == n && sum != 1);
    kv_entry_iter_close(it);
    return took / (double)n;
}

/* through_merge: beside an empty source, so that the walk begins in a heap and leaves it. */
static double view_ns(struct kv_table *table, uint64_t n, bool through_merge)
{
    struct kv_table_iter_options all = {0}, none = {.upper = KV_STR("\1")};
    struct kv_entry_iter *sources[2], *merge = NULL;
    struct kv_view_options options = {.version = 100};
    struct kv_iter *it = NULL;
    uint64_t seen = 0, sum = 0;
    KV_ASSERT(kv_table_iter_open(table, &all, &sources[0]) == KV_OK);
    if (through_merge)
        KV_ASSERT(kv_table_iter_open(table, &none, &sources[1]) == KV_OK);
    KV_ASSERT(kv_merge_iter_open(sources, through_merge ? 2 : 1, &merge) == KV_OK);
    KV_ASSERT(kv_view_iter_open(merge, &options, &it) == KV_OK);
    double start = cpu_ns();
    kv_status rc = kv_iter_seek(it, KV_STR(""));
    for (; rc == KV_OK; rc = kv_iter_next(it), seen++)
        sum += it->key.data[it->key.len - 1] + it->value.data[0];
    double took = cpu_ns() - start;
    KV_ASSERT(seen == n && sum != 1);
    kv_iter_close(it);
    return took / (double)n;
}

static double get_ns(struct kv_table *table, uint64_t n, bool present)
{
    enum { GETS = 300000 };
    struct kv_prng prng;
    kv_prng_init(&prng, 2);
    double start = cpu_ns();
    for (int i = 0; i < GETS; i++) {
        uint8_t key[24];
        struct kv_found found;
        kv_slice k = key_of(key, kv_prng_below(&prng, n));
        if (!present)
            key[23] ^= 1;
        kv_status rc = kv_table_get(table, k, 100, &found, NULL);
        KV_ASSERT(rc == (present ? KV_OK : KV_NOT_FOUND));
        kv_block_unref(found.block);
    }
    return (cpu_ns() - start) / GETS;
}

static void run(const struct shape *shape, uint64_t n)
{
    struct kv_vfs *vfs = kv_vfs_mem_new();
    struct kv_dir *dir = NULL;
    struct kv_cache *cache = NULL;
    struct kv_table *table = NULL;
    KV_ASSERT(vfs && kv_vfs_dir_open(vfs, "d", true, &dir, NULL) == KV_OK);
    KV_ASSERT(kv_cache_new((uint64_t)2 << 30, &cache) == KV_OK);
    n /= shape->entries_divisor;
    double start = cpu_ns();
    build(dir, shape, n);
    double built = (cpu_ns() - start) / (double)n;
    struct kv_table_open_options options = {.dir = dir, .name = "t", .cache = cache, .version = 9};
    KV_ASSERT(kv_table_open(&options, &table, NULL) == KV_OK);
    double cold = walk_ns(table, n), warm = walk_ns(table, n);
    double view = view_ns(table, n, false), merged = view_ns(table, n, true);
    double hit = get_ns(table, n, true), miss = get_ns(table, n, false);
    printf("{\"shape\":\"%s\",\"entries\":%llu,\"file_bytes\":%llu,\"build_ns\":%.1f,\"walk_first_ns\":%.1f,"
           "\"walk_ns\":%.1f,"
           "\"view_ns\":%.1f,\"view_after_merge_ns\":%.1f,\"get_ns\":%.1f,\"get_absent_ns\":%.1f}\n",
           shape->name, (unsigned long long)n, (unsigned long long)kv_table_properties(table)->file_bytes,
           built, cold, warm, view, merged, hit, miss);
    kv_table_unref(table);
    kv_cache_free(cache);
    kv_dir_close(dir);
    kv_vfs_mem_free(vfs);
}

int main(int argc, char **argv)
{
    static const struct shape shapes[] = {{"small-zstd", KV_CODEC_ZSTD, 16, 1},
                                          {"small-plain", KV_CODEC_PLAIN, 16, 1},
                                          {"chunk-1k-plain", KV_CODEC_PLAIN, 1024, 8},
                                          {"chunk-16k-plain", KV_CODEC_PLAIN, 16384, 100}};
    uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        run(&shapes[i], n);
    return 0;
}
