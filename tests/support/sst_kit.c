#include "tests/support/sst_kit.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/attrs.h"

#include <stdio.h>
#include <stdlib.h>

const uint8_t sst_uuid[16] = "0123456789abcdef";

static int64_t clock_wall_ms(struct kv_clock *clock)
{
    (void)clock;
    return 0;
}
static uint64_t clock_mono_ns(struct kv_clock *clock)
{
    (void)clock;
    return 0;
}
static void clock_sleep_ns(struct kv_clock *clock, uint64_t ns)
{
    (void)clock;
    (void)ns;
}
static void clock_entropy(struct kv_clock *clock, void *out, size_t len)
{
    struct sst_clock *seeded = (struct sst_clock *)clock;
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)out)[i] = (uint8_t)kv_prng_next(&seeded->prng);
}

void sst_clock_init(struct sst_clock *clock, uint64_t seed)
{
    static const struct kv_clock_ops ops = {clock_wall_ms, clock_mono_ns, clock_sleep_ns, clock_entropy};
    clock->clock.ops = &ops;
    kv_prng_init(&clock->prng, seed);
}

void sst_kit_init(struct sst_kit *kit, uint64_t cache_bytes)
{
    kit->vfs = kv_vfs_mem_new();
    KV_ASSERT(kit->vfs);
    KV_ASSERT(kv_vfs_dir_open(kit->vfs, "db", true, &kit->dir, NULL) == KV_OK);
    KV_ASSERT(kv_cache_new(cache_bytes, &kit->cache) == KV_OK);
    sst_clock_init(&kit->clock, 7);
    kit->keys = NULL;
}

void sst_kit_encrypt(struct sst_kit *kit)
{
    static const uint8_t master[KV_CIPHER_KEY_LEN] = "a master key of thirty-two bytes";
    struct kv_data_key key;
    KV_ASSERT(kv_keyring_new(master, sst_uuid, &kit->keys) == KV_OK);
    KV_ASSERT(kv_keyring_make(kit->keys, &kit->clock.clock, &key) == KV_OK);
    kv_keyring_use(kit->keys, key.id);
}

void sst_kit_release(struct sst_kit *kit)
{
    kv_cache_free(kit->cache);
    kv_keyring_free(kit->keys);
    kv_dir_close(kit->dir);
    kv_vfs_mem_free(kit->vfs);
}

kv_slice sst_key_random(struct kv_arena *arena, struct kv_prng *prng, const struct sst_shape *shape)
{
    size_t len_max = shape->key_len_max ? shape->key_len_max : 12;
    uint64_t alphabet = shape->alphabet ? (uint64_t)shape->alphabet : 4;
    size_t len = 1 + (size_t)kv_prng_below(prng, len_max);
    uint8_t *key = kv_arena_alloc(arena, len);
    KV_ASSERT(key);
    for (size_t i = 0; i < len; i++)
        key[i] = (uint8_t)(alphabet == 256 ? kv_prng_next(prng) : 'a' + kv_prng_below(prng, alphabet));
    return kv_slice_of(key, len);
}

static kv_slice value_random(struct kv_arena *arena, struct kv_prng *prng, size_t len_max)
{
    size_t len = (size_t)kv_prng_below(prng, len_max + 1);
    uint8_t *value = kv_arena_alloc(arena, len);
    KV_ASSERT(value);
    bool noise = kv_prng_below(prng, 2);
    for (size_t i = 0; i < len; i++)
        value[i] = noise ? (uint8_t)kv_prng_next(prng) : (uint8_t)(i / 16);
    return kv_slice_of(value, len);
}

static int entry_order(const void *a, const void *b)
{
    const struct kv_entry *x = a, *y = b;
    return kv_entry_compare(x->key, x->version, y->key, y->version);
}

void sst_data_random(struct sst_data *data, uint64_t seed, size_t n, const struct sst_shape *shape)
{
    struct kv_prng prng;
    kv_prng_init(&prng, seed);
    *data = (struct sst_data){0};
    data->entries = kv_arena_zalloc(&data->arena, n ? n : 1, sizeof *data->entries);
    KV_ASSERT(data->entries);
    for (size_t i = 0; i < n; i++) {
        struct kv_entry *e = &data->entries[i];
        e->key = sst_key_random(&data->arena, &prng, shape);
        e->version = shape->versions ? 1 + kv_prng_below(&prng, shape->versions) : 0;
        e->kind = shape->deletes && kv_prng_below(&prng, 5) == 0 ? KV_KIND_DELETE : KV_KIND_PUT;
        e->value = e->kind == KV_KIND_PUT
                       ? value_random(&data->arena, &prng, shape->value_len_max ? shape->value_len_max : 20)
                       : KV_STR("");
    }
    qsort(data->entries, n, sizeof *data->entries, entry_order);
    for (size_t i = 0; i < n; i++)
        if (data->n == 0 || entry_order(&data->entries[data->n - 1], &data->entries[i]) < 0)
            data->entries[data->n++] = data->entries[i];
}

void sst_data_release(struct sst_data *data)
{
    kv_arena_release(&data->arena);
}

size_t sst_model_seek(const struct sst_data *data, kv_slice key, uint64_t version)
{
    size_t i = 0;
    while (i < data->n && kv_entry_compare(data->entries[i].key, data->entries[i].version, key, version) < 0)
        i++;
    return i;
}

const struct kv_entry *sst_model_get(const struct sst_data *data, kv_slice key, uint64_t version)
{
    size_t i = sst_model_seek(data, key, version);
    return i < data->n && kv_slice_equal(data->entries[i].key, key) ? &data->entries[i] : NULL;
}

kv_status sst_build(struct sst_kit *kit, const struct sst_build *how, const struct sst_data *data,
                    struct kv_table_properties *properties, struct kv_err *err)
{
    struct kv_table_build *build = NULL;
    struct kv_table_build_options options = {.dir = kit->dir,
                                             .name = how->name,
                                             .db_uuid = sst_uuid,
                                             .owner_epoch = 1,
                                             .clock = &kit->clock.clock,
                                             .keys = kit->keys,
                                             .space = 3,
                                             .space_name = "chunks",
                                             .codec = how->codec,
                                             .block_bytes = how->block_bytes,
                                             .block_bytes_most = how->block_bytes_most,
                                             .no_filter = how->no_filter,
                                             .cut_len = how->cut_len};
    kv_status rc = kv_table_build_open(&options, &build, err);
    for (size_t i = 0; rc == KV_OK && i < data->n; i++)
        rc = kv_table_build_add(build, &data->entries[i], err);
    if (rc == KV_OK)
        rc = kv_table_build_finish(build, properties, err);
    kv_table_build_free(build);
    if (properties) /* they lived in the builder */
        properties->smallest = properties->largest = properties->cut = properties->space_name = KV_STR("");
    return rc;
}

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

kv_status sst_build_all(struct sst_kit *kit, enum kv_codec codec, int keys, uint32_t block_bytes,
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

kv_status sst_open(struct sst_kit *kit, const char *name, uint64_t version, struct kv_table **out,
                   struct kv_err *err)
{
    struct kv_table_open_options options = {.dir = kit->dir,
                                            .name = name,
                                            .cache = kit->cache,
                                            .db_uuid = sst_uuid,
                                            .version = version,
                                            .keys = kit->keys,
                                            .number = 12};
    return kv_table_open(&options, out, err);
}

void sst_file_read(struct sst_kit *kit, const char *name, struct kv_buf *out)
{
    struct kv_file *file = NULL;
    uint64_t bytes = 0;
    KV_ASSERT(kv_dir_open_file(kit->dir, name, &file, NULL) == KV_OK);
    KV_ASSERT(kv_file_size(file, &bytes, NULL) == KV_OK);
    kv_buf_clear(out);
    uint8_t *at = kv_buf_extend(out, (size_t)bytes);
    KV_ASSERT(at);
    KV_ASSERT(kv_file_read_exact(file, 0, (size_t)bytes, at, NULL) == KV_OK);
    kv_file_close(file);
}

void sst_file_write(struct sst_kit *kit, const char *name, kv_slice bytes)
{
    struct kv_file *file = NULL;
    kv_status rc = kv_dir_remove(kit->dir, name, NULL);
    KV_ASSERT(rc == KV_OK || rc == KV_MISSING);
    KV_ASSERT(kv_dir_create(kit->dir, name, &file, NULL) == KV_OK);
    KV_ASSERT(kv_file_append(file, 0, bytes, NULL) == KV_OK);
    kv_file_close(file);
}

static void expect_at(const struct kv_entry_iter *it, const struct sst_data *data, size_t i, uint64_t version)
{
    const struct kv_entry *e = &data->entries[i];
    KV_ASSERT(kv_slice_equal(it->key, e->key));
    KV_ASSERT(kv_slice_equal(it->value, e->value));
    KV_ASSERT(it->version == (version ? version : e->version));
    KV_ASSERT(it->kind == e->kind);
}

/* Backward over [from, to), all that the iterator has; then to and fro at random. */
static void expect_zigzag(struct kv_entry_iter *it, const struct sst_data *data, size_t from, size_t to,
                          uint64_t version)
{
    struct kv_prng prng;
    kv_status rc = kv_entry_iter_seek_before(it, (kv_slice){0}, KV_VERSION_MAX);
    for (size_t i = to; i > from; i--) {
        KV_ASSERT(rc == KV_OK);
        expect_at(it, data, i - 1, version);
        rc = kv_entry_iter_prev(it);
    }
    KV_ASSERT(rc == KV_END);
    kv_prng_init(&prng, to + from);
    for (int round = 0; round < 20 && from < to; round++) {
        size_t at = from + (size_t)kv_prng_below(&prng, to - from);
        const struct kv_entry *e = &data->entries[at];
        uint64_t asked = version ? version : e->version;
        rc = round % 2 ? kv_entry_iter_seek(it, e->key, asked) : kv_entry_iter_seek_before(it, e->key, asked);
        KV_ASSERT((rc == KV_END) == (round % 2 == 0 && at == from));
        at -= round % 2 == 0;
        for (int step = 0; rc == KV_OK && step < 12; step++) {
            expect_at(it, data, at, version);
            bool forward = kv_prng_below(&prng, 2) == 0;
            rc = forward ? kv_entry_iter_next(it) : kv_entry_iter_prev(it);
            KV_ASSERT((rc == KV_END) == (forward ? at + 1 == to : at == from));
            at = forward ? at + 1 : at - 1;
        }
    }
}

void sst_expect_walk(struct kv_entry_iter *it, kv_slice key, uint64_t seek_version,
                     const struct sst_data *data, size_t from, size_t to, uint64_t version)
{
    kv_status rc = kv_entry_iter_seek(it, key, seek_version);
    for (size_t i = from; i < to; i++) {
        KV_ASSERT(rc == KV_OK);
        expect_at(it, data, i, version);
        rc = kv_entry_iter_next(it);
    }
    KV_ASSERT(rc == KV_END);
    if (key.len == 0)
        expect_zigzag(it, data, from, to, version);
}

static uint64_t malloc_left; /* 0: off */
static bool malloc_failed;

static bool malloc_should_fail(size_t size)
{
    (void)size;
    if (malloc_left == 0 || --malloc_left > 0)
        return false;
    malloc_failed = true;
    return true;
}

void sst_malloc_fail_nth(uint64_t nth)
{
    malloc_left = nth;
    malloc_failed = false;
    kv_mem_should_fail = nth ? malloc_should_fail : NULL;
}

bool sst_malloc_failed(void)
{
    return malloc_failed;
}
