/*
 * sst_kit.h - what tests of tables and merging share: a directory in memory, seeded entries in tree order,
 * tables built from them, and a model that answers the same questions by walking an array. What fails in here
 * asserts.
 */
#ifndef SST_KIT_H
#define SST_KIT_H

#include "kvcore/base/arena.h"
#include "kvcore/base/prng.h"
#include "kvcore/os/vfs.h"
#include "kvcore/sst/cache.h"
#include "kvcore/sst/table.h"

/* A clock whose entropy is seeded, so that files come out the same every time. */
struct sst_clock {
    struct kv_clock clock;
    struct kv_prng prng;
};
void sst_clock_init(struct sst_clock *clock, uint64_t seed);

struct sst_kit {
    struct kv_vfs *vfs;
    struct kv_dir *dir;
    struct kv_cache *cache;
    struct sst_clock clock;
    struct kv_keyring *keys; /* NULL: tables are plain */
};
void sst_kit_init(struct sst_kit *kit, uint64_t cache_bytes);
void sst_kit_release(struct sst_kit *kit);
void sst_kit_encrypt(struct sst_kit *kit); /* tables are encrypted from now on */
extern const uint8_t sst_uuid[16];

struct sst_data {
    struct kv_arena arena;
    struct kv_entry *entries; /* in tree order */
    size_t n;
};
/* All zero: short keys over a small alphabet, so that prefixes and neighbours are common; one version a key.
 */
struct sst_shape {
    size_t key_len_max;   /* 0: 12 */
    int alphabet;         /* 0: 4 */
    size_t value_len_max; /* 0: 20 */
    uint64_t versions;    /* versions are 1 to this; 0: every version is 0, as in a bulk load */
    bool deletes;         /* one entry in five */
};
void sst_data_random(struct sst_data *data, uint64_t seed, size_t n, const struct sst_shape *shape);
void sst_data_release(struct sst_data *data);
/* A random key of the same shape, likely near those of the data. */
kv_slice sst_key_random(struct kv_arena *arena, struct kv_prng *prng, const struct sst_shape *shape);

/* The index of the first entry at or after (key, version). */
size_t sst_model_seek(const struct sst_data *data, kv_slice key, uint64_t version);
/* The newest entry of key at or below version; NULL. */
const struct kv_entry *sst_model_get(const struct sst_data *data, kv_slice key, uint64_t version);

struct sst_build {
    const char *name;
    enum kv_codec codec;
    uint32_t block_bytes, block_bytes_most;
    bool no_filter;
    size_t cut_len;
};
kv_status sst_build(struct sst_kit *kit, const struct sst_build *how, const struct sst_data *data,
                    struct kv_table_properties *properties, struct kv_err *err);
/* "1.tbl" of every kind of entry ("key 0000" and on, version 7) and with every property, of which a fifth each are puts, deletions,
 * puts with attributes, pointers and operands. */
kv_status sst_build_all(struct sst_kit *kit, enum kv_codec codec, int keys, uint32_t block_bytes,
                        struct kv_err *err);
kv_status sst_open(struct sst_kit *kit, const char *name, uint64_t version, struct kv_table **out,
                   struct kv_err *err);

/* The whole file; and a file of exactly these bytes. */
void sst_file_read(struct sst_kit *kit, const char *name, struct kv_buf *out);
void sst_file_write(struct sst_kit *kit, const char *name, kv_slice bytes);

/* Walks it from seek (key, version) to its end and compares with the entries [from, to); version: nonzero, of
 * every entry. With an empty key they are all it has: it is walked backward and to and fro as well. */
void sst_expect_walk(struct kv_entry_iter *it, kv_slice key, uint64_t seek_version,
                     const struct sst_data *data, size_t from, size_t to, uint64_t version);

/* kv_mem_should_fail's n-th failure. */
void sst_malloc_fail_nth(uint64_t nth); /* 0: none */
bool sst_malloc_failed(void);

#endif
