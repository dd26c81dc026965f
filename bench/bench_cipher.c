/*
 * bench_cipher.c - what encryption costs: sealing and opening a piece beside the checksum a plain one has, opening a file's key, and a
 * whole table built and walked. CPU time of one thread, medians of nine rounds. Prints one line of JSON each. Seeded: the same bytes
 * every time.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "kvcore/sst/block.h"
#include "kvcore/sst/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 9, ENTRIES = 60000, VALUE_LEN = 150 };

static const uint8_t master[KV_CIPHER_KEY_LEN] = "bench", uuid[16] = "bench";

static double cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *rounds)
{
    qsort(rounds, ROUNDS, sizeof *rounds, compare);
    return rounds[ROUNDS / 2];
}

static struct kv_cipher *cipher_new(struct kv_keyring *keys)
{
    struct kv_file_header header = {.kind = KV_FILE_TABLE, .format = 1, .key_id = kv_keyring_current(keys)};
    uint8_t raw[KV_FILE_HEADER_LEN];
    struct kv_cipher *cipher = NULL;
    kv_clock_entropy(kv_clock_system(), header.uid, sizeof header.uid);
    kv_file_header_encode(&header, raw);
    KV_ASSERT(kv_keyring_cipher(keys, raw, 0, "bench", &cipher, NULL) == KV_OK);
    return cipher;
}

/* others: ciphers that take turns, so that contexts change keys all the time. */
static void pieces(struct kv_keyring *keys, size_t len, size_t others)
{
    enum { CIPHERS_MAX = 1000 };
    static struct kv_cipher *ciphers[CIPHERS_MAX];
    double seal[ROUNDS], open[ROUNDS], sum[ROUNDS];
    size_t n = 20000000 / (len + 2000);
    uint8_t *plain = kv_zalloc(1, len), *sealed = kv_zalloc(1, len + KV_CIPHER_TAG_LEN);
    uint32_t crc = 0;
    KV_ASSERT(plain && sealed && others <= CIPHERS_MAX);
    for (size_t i = 0; i < others; i++)
        ciphers[i] = cipher_new(keys);
    for (int r = 0; r < ROUNDS; r++) {
        double from = cpu_ns();
        for (size_t i = 0; i < n; i++)
            KV_ASSERT(kv_cipher_seal(ciphers[i % others], i, KV_STR(""), kv_slice_of(plain, len), sealed) ==
                      KV_OK);
        seal[r] = (cpu_ns() - from) / (double)n;
        for (size_t i = 0; i < others; i++)
            KV_ASSERT(kv_cipher_seal(ciphers[i], 0, KV_STR(""), kv_slice_of(plain, len), sealed) == KV_OK);
        kv_slice last = kv_slice_of(sealed, len + KV_CIPHER_TAG_LEN);
        from = cpu_ns();
        for (size_t i = 0; i < n; i++) /* all but the last one's fail, after the same work */
            (void)!kv_cipher_open(ciphers[i % others], 0, KV_STR(""), last, plain);
        open[r] = (cpu_ns() - from) / (double)n;
        from = cpu_ns();
        for (size_t i = 0; i < n; i++)
            crc += kv_block_sum((uint32_t)i, i, kv_slice_of(plain, len));
        sum[r] = (cpu_ns() - from) / (double)n;
    }
    __asm__ volatile("" : : "r"(crc));
    printf("{\"bench\": \"piece\", \"bytes\": %zu, \"files\": %zu, \"seal_ns\": %.0f, \"open_ns\": %.0f, "
           "\"crc32c_ns\": %.0f}\n",
           len, others, median(seal), median(open), median(sum));
    for (size_t i = 0; i < others; i++)
        kv_cipher_free(ciphers[i]);
    kv_free(plain);
    kv_free(sealed);
}

static void file_keys(struct kv_keyring *keys)
{
    enum { N = 2000 };
    double rounds[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) {
        double from = cpu_ns();
        for (int i = 0; i < N; i++)
            kv_cipher_free(cipher_new(keys));
        rounds[r] = (cpu_ns() - from) / N;
    }
    printf("{\"bench\": \"file key\", \"ns\": %.0f}\n", median(rounds));
}

static void build(struct kv_dir *dir, struct kv_keyring *keys, enum kv_codec codec)
{
    struct kv_table_build *b = NULL;
    struct kv_prng prng;
    uint8_t key[8], value[VALUE_LEN];
    kv_prng_init(&prng, 1);
    struct kv_table_build_options options = {.dir = dir,
                                             .name = "t",
                                             .db_uuid = uuid,
                                             .clock = kv_clock_system(),
                                             .keys = keys,
                                             .space_name = "bench",
                                             .codec = codec};
    KV_ASSERT(kv_table_build_open(&options, &b, NULL) == KV_OK);
    for (uint64_t i = 0; i < ENTRIES; i++) {
        for (size_t k = 0; k < sizeof value; k++)
            value[k] = k % 4 ? (uint8_t)k : (uint8_t)kv_prng_next(&prng);
        kv_put_be64(key, i);
        struct kv_entry e = {
            .key = kv_slice_of(key, 8), .kind = KV_KIND_PUT, .value = kv_slice_of(value, sizeof value)};
        KV_ASSERT(kv_table_build_add(b, &e, NULL) == KV_OK);
    }
    KV_ASSERT(kv_table_build_finish(b, NULL, NULL) == KV_OK);
    kv_table_build_free(b);
}

/* Every block from the file: nothing is cached. */
static void walk(struct kv_dir *dir, struct kv_keyring *keys, struct kv_cache *cache)
{
    struct kv_table *table = NULL;
    struct kv_entry_iter *it = NULL;
    struct kv_table_open_options options = {.dir = dir, .name = "t", .cache = cache, .keys = keys};
    struct kv_table_iter_options all = {.no_fill = true};
    uint64_t n = 0;
    KV_ASSERT(kv_table_open(&options, &table, NULL) == KV_OK);
    KV_ASSERT(kv_table_iter_open(table, &all, &it) == KV_OK);
    for (kv_status rc = kv_entry_iter_seek(it, KV_STR(""), KV_VERSION_MAX); rc == KV_OK;
         rc = kv_entry_iter_next(it))
        n++;
    KV_ASSERT(n == ENTRIES);
    kv_entry_iter_close(it);
    kv_table_unref(table);
}

static void tables(struct kv_keyring *keys, enum kv_codec codec)
{
    double built[2][ROUNDS], walked[2][ROUNDS];
    struct kv_cache *cache = NULL;
    KV_ASSERT(kv_cache_new(1 << 20, &cache) == KV_OK);
    for (int r = 0; r < ROUNDS; r++)
        for (int sealed = 0; sealed < 2; sealed++) {
            struct kv_vfs *vfs = kv_vfs_mem_new();
            struct kv_dir *dir = NULL;
            KV_ASSERT(vfs && kv_vfs_dir_open(vfs, "db", true, &dir, NULL) == KV_OK);
            double from = cpu_ns();
            build(dir, sealed ? keys : NULL, codec);
            built[sealed][r] = (cpu_ns() - from) / ENTRIES;
            from = cpu_ns();
            walk(dir, sealed ? keys : NULL, cache);
            walked[sealed][r] = (cpu_ns() - from) / ENTRIES;
            kv_dir_close(dir);
            kv_vfs_mem_free(vfs);
        }
    printf("{\"bench\": \"table\", \"codec\": %d, \"build_ns\": [%.0f, %.0f], \"uncached_walk_ns\": [%.0f, "
           "%.0f]}\n",
           (int)codec, median(built[0]), median(built[1]), median(walked[0]), median(walked[1]));
    kv_cache_free(cache);
}

int main(void)
{
    static const size_t lens[] = {100, 1000, 4096, 16384, 65536};
    struct kv_keyring *keys = NULL;
    struct kv_data_key key;
    KV_ASSERT(kv_keyring_new(master, uuid, &keys) == KV_OK);
    KV_ASSERT(kv_keyring_make(keys, kv_clock_system(), &key) == KV_OK);
    kv_keyring_use(keys, key.id);
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++)
        pieces(keys, lens[i], 1);
    pieces(keys, 4096, 1000);
    file_keys(keys);
    tables(keys, KV_CODEC_PLAIN);
    tables(keys, KV_CODEC_ZSTD);
    kv_keyring_free(keys);
    return 0;
}
