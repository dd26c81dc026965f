#include "kvcore/base/file_header.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/block.h"
#include "kvcore/sst/format.h"
#include "tests/support/sst_kit.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static const struct sst_shape table_shapes[] = {
    {0},
    {.versions = 6, .deletes = true, .key_len_max = 5},
    {.key_len_max = 200, .alphabet = 1, .versions = 9},
    {.key_len_max = KV_KEY_LEN_MAX, .alphabet = 256, .versions = 1000},
    {.key_len_max = 20, .value_len_max = 9000, .versions = 3},
};
enum { SHAPES = sizeof table_shapes / sizeof table_shapes[0] };

static void expect_gets(struct kv_table *table, const struct sst_data *data, const struct sst_shape *shape,
                        uint64_t seed, int n)
{
    struct kv_prng prng;
    struct kv_arena arena = {0};
    kv_prng_init(&prng, seed);
    for (int i = 0; i < n; i++) {
        kv_slice key = i % 2 && data->n ? data->entries[kv_prng_below(&prng, data->n)].key
                                        : sst_key_random(&arena, &prng, shape);
        uint64_t version = i % 3 ? kv_prng_below(&prng, shape->versions + 2) : KV_VERSION_MAX;
        const struct kv_entry *e = sst_model_get(data, key, version);
        struct kv_found found;
        kv_status rc = kv_table_get(table, key, version, &found, NULL);
        cr_assert_eq(rc, e ? KV_OK : KV_NOT_FOUND);
        if (e) {
            cr_assert(kv_slice_equal(found.value, e->value));
            cr_assert_eq(found.version, e->version);
            cr_assert_eq(found.kind, e->kind);
            kv_block_unref(found.block);
        }
    }
    kv_arena_release(&arena);
}

static void expect_walks(struct kv_table *table, const struct sst_data *data, const struct sst_shape *shape,
                         uint64_t seed, int n)
{
    struct kv_prng prng;
    struct kv_arena arena = {0};
    kv_prng_init(&prng, seed);
    for (int i = 0; i < n; i++) {
        struct kv_table_iter_options options = {.no_fill = i % 2};
        struct kv_entry_iter *it = NULL;
        if (i % 3)
            options.lower = sst_key_random(&arena, &prng, shape);
        if (i % 5)
            options.upper = sst_key_random(&arena, &prng, shape);
        cr_assert_eq(kv_table_iter_open(table, &options, &it), KV_OK);
        size_t from = sst_model_seek(data, options.lower, KV_VERSION_MAX);
        size_t to = options.upper.len ? sst_model_seek(data, options.upper, KV_VERSION_MAX) : data->n;
        sst_expect_walk(it, KV_STR(""), KV_VERSION_MAX, data, from, to, 0);
        for (int again = 0; again < 3; again++) {
            kv_slice key = sst_key_random(&arena, &prng, shape);
            uint64_t version = kv_prng_below(&prng, shape->versions + 2);
            size_t at = sst_model_seek(data, key, version);
            sst_expect_walk(it, key, version, data, at > from ? at : from, to, 0);
        }
        kv_entry_iter_close(it);
    }
    kv_arena_release(&arena);
}

static void answers_as_an_array(bool sealed)
{
    struct sst_kit kit;
    sst_kit_init(&kit, 1 << 20);
    if (sealed)
        sst_kit_encrypt(&kit);
    for (size_t s = 0; s < SHAPES; s++) {
        for (uint32_t block_bytes = 64; block_bytes <= 4096; block_bytes *= 8) {
            struct sst_data data;
            struct kv_table *table = NULL;
            struct sst_build how = {.name = "1.tbl",
                                    .codec = (enum kv_codec)((s + block_bytes / 64) % 3),
                                    .block_bytes = block_bytes,
                                    .no_filter = s == 1};
            sst_data_random(&data, s + block_bytes, 700, &table_shapes[s]);
            cr_assert_eq(sst_build(&kit, &how, &data, NULL, NULL), KV_OK);
            cr_assert_eq(sst_open(&kit, "1.tbl", 0, &table, NULL), KV_OK);
            cr_assert_eq(kv_table_verify(table, NULL), KV_OK);
            expect_gets(table, &data, &table_shapes[s], s, 1500);
            expect_walks(table, &data, &table_shapes[s], s, 40);
            kv_table_unref(table);
            cr_assert_eq(kv_dir_remove(kit.dir, "1.tbl", NULL), KV_OK);
            sst_data_release(&data);
        }
    }
    sst_kit_release(&kit);
}

Test(table, answers_what_a_sorted_array_answers)
{
    answers_as_an_array(false);
    answers_as_an_array(true);
}

Test(table, an_index_of_two_levels_answers_the_same)
{
    const struct sst_shape shape = {.key_len_max = 40, .versions = 3, .deletes = true};
    struct sst_kit kit;
    struct sst_data data;
    struct kv_table *table = NULL;
    sst_kit_init(&kit, 256 << 10); /* smaller than the table: blocks come and go */
    sst_data_random(&data, 11, 20000, &shape);
    struct sst_build how = {.name = "1.tbl", .block_bytes = 64, .codec = KV_CODEC_SNAPPY};
    cr_assert_eq(sst_build(&kit, &how, &data, NULL, NULL), KV_OK);
    cr_assert_eq(sst_open(&kit, "1.tbl", 0, &table, NULL), KV_OK);
    cr_assert_eq(kv_table_verify(table, NULL), KV_OK);
    struct kv_cache_stats stats;
    kv_cache_stats(kit.cache, &stats);
    cr_assert_lt(stats.bytes_pinned, 64 << 10, "the top index is small when there are partitions");
    expect_gets(table, &data, &shape, 1, 300);
    expect_walks(table, &data, &shape, 1, 10);
    kv_table_unref(table);
    sst_data_release(&data);
    sst_kit_release(&kit);
}

Test(table, blocks_grow_where_compression_pays_and_only_there)
{
    const struct sst_shape shape = {.key_len_max = 40, .alphabet = 2, .versions = 3};
    struct sst_kit kit;
    struct sst_data data;
    uint64_t blocks[2][2] = {{0}}; /* [compressed][may grow] */
    sst_kit_init(&kit, 1 << 20);
    sst_data_random(&data, 12, 20000, &shape);
    for (int compressed = 0; compressed < 2; compressed++)
        for (int grow = 0; grow < 2; grow++) {
            struct kv_table_properties built;
            struct kv_table *table = NULL;
            struct sst_build how = {.name = "1.tbl",
                                    .block_bytes = 1024,
                                    .block_bytes_most = grow ? 8192 : 0,
                                    .codec = compressed ? KV_CODEC_ZSTD : KV_CODEC_PLAIN};
            cr_assert_eq(sst_build(&kit, &how, &data, &built, NULL), KV_OK);
            blocks[compressed][grow] = built.data_blocks;
            cr_assert_eq(sst_open(&kit, "1.tbl", 0, &table, NULL), KV_OK);
            cr_assert_eq(kv_table_verify(table, NULL), KV_OK);
            expect_gets(table, &data, &shape, 2, 100);
            expect_walks(table, &data, &shape, 2, 5);
            kv_table_unref(table);
            cr_assert_eq(kv_dir_remove(kit.dir, "1.tbl", NULL), KV_OK);
        }
    cr_assert_eq(blocks[0][0], blocks[0][1], "stored plain: all of them end at block_bytes");
    cr_assert_eq(blocks[1][0], blocks[0][0]);
    cr_assert(blocks[1][1] > blocks[1][0] / 10 && blocks[1][1] < blocks[1][0] / 5, "%d of %d",
              (int)blocks[1][1], (int)blocks[1][0]);
    sst_data_release(&data);
    sst_kit_release(&kit);
}

Test(table, says_what_it_holds)
{
    const struct sst_shape shape = {.versions = 9, .deletes = true};
    struct sst_kit kit;
    struct sst_data data;
    struct kv_table *table = NULL;
    struct kv_table_properties built;
    uint64_t deletes = 0, keys = 0, min = UINT64_MAX, max = 0;
    sst_kit_init(&kit, 1 << 20);
    sst_data_random(&data, 12, 300, &shape);
    for (size_t i = 0; i < data.n; i++) {
        const struct kv_entry *e = &data.entries[i];
        deletes += e->kind == KV_KIND_DELETE;
        keys += i == 0 || !kv_slice_equal(e->key, e[-1].key);
        min = e->version < min ? e->version : min;
        max = e->version > max ? e->version : max;
    }
    struct sst_build how = {.name = "1.tbl", .codec = KV_CODEC_ZSTD};
    cr_assert_eq(sst_build(&kit, &how, &data, &built, NULL), KV_OK);
    cr_assert_eq(sst_open(&kit, "1.tbl", 0, &table, NULL), KV_OK);
    const struct kv_table_properties *p = kv_table_properties(table);
    cr_assert(kv_slice_equal(p->smallest, data.entries[0].key));
    cr_assert(kv_slice_equal(p->largest, data.entries[data.n - 1].key));
    cr_assert(kv_slice_equal(p->space_name, KV_STR("chunks")));
    cr_assert_eq(p->space, 3);
    cr_assert(p->entries == data.n && p->deletes == deletes && p->keys == keys);
    cr_assert(p->version_min == min && p->version_max == max);
    cr_assert_eq(p->file_bytes, built.file_bytes);
    cr_assert_arr_eq(p->uid, built.uid, 16);
    kv_table_unref(table);
    sst_data_release(&data);
    sst_kit_release(&kit);
}

static void gone_count(void *ctx, uint64_t number)
{
    *(uint64_t *)ctx += number;
}

Test(table, a_bulk_loaded_table_has_the_version_its_opener_gives)
{
    const struct sst_shape shape = {0};
    struct sst_kit kit;
    struct sst_data data;
    struct kv_table *table = NULL;
    struct kv_entry_iter *it = NULL;
    struct kv_found found;
    uint64_t gone = 0;
    sst_kit_init(&kit, 1 << 20);
    sst_data_random(&data, 13, 500, &shape);
    struct sst_build how = {.name = "1.tbl", .block_bytes = 128};
    cr_assert_eq(sst_build(&kit, &how, &data, NULL, NULL), KV_OK);
    struct kv_table_open_options options = {.dir = kit.dir,
                                            .name = "1.tbl",
                                            .cache = kit.cache,
                                            .version = 40,
                                            .gone = gone_count,
                                            .gone_ctx = &gone,
                                            .number = 17};
    cr_assert_eq(kv_table_open(&options, &table, NULL), KV_OK);
    cr_assert_eq(kv_table_number(table), 17);
    cr_assert_eq(kv_table_properties(table)->version_min, 40);
    for (size_t i = 0; i < data.n; i++) {
        kv_slice key = data.entries[i].key;
        cr_assert_eq(kv_table_get(table, key, 39, &found, NULL), KV_NOT_FOUND);
        cr_assert_eq(kv_table_get(table, key, 40 + i % 2, &found, NULL), KV_OK);
        cr_assert_eq(found.version, 40);
        kv_block_unref(found.block);
    }
    struct kv_table_iter_options all = {0};
    cr_assert_eq(kv_table_iter_open(table, &all, &it), KV_OK);
    cr_assert(it->unique_puts);
    cr_assert_eq(it->version_max, 40);
    sst_expect_walk(it, KV_STR(""), KV_VERSION_MAX, &data, 0, data.n, 40);
    for (size_t i = 0; i < data.n; i += 7) {
        sst_expect_walk(it, data.entries[i].key, 40, &data, i, data.n, 40);
        sst_expect_walk(it, data.entries[i].key, 39, &data, i + 1, data.n, 40);
    }
    kv_table_unref(table);
    cr_assert_eq(gone, 0, "the iterator still holds the table");
    kv_entry_iter_close(it);
    cr_assert_eq(gone, 17);
    sst_data_release(&data);

    const struct sst_shape versioned = {.versions = 2};
    sst_data_random(&data, 13, 10, &versioned);
    how.name = "2.tbl";
    cr_assert_eq(sst_build(&kit, &how, &data, NULL, NULL), KV_OK);
    cr_assert_eq(sst_open(&kit, "2.tbl", 40, &table, NULL), KV_CORRUPT, "it has versions of its own");
    sst_data_release(&data);
    sst_kit_release(&kit);
}

Test(table, large_values_are_lent_from_the_cached_block)
{
    struct sst_kit kit;
    struct kv_table *table = NULL;
    struct kv_entry entries[20];
    struct sst_data data = {.entries = entries, .n = 20};
    static uint8_t value[32768];
    sst_kit_init(&kit, 4 << 20);
    for (size_t i = 0; i < data.n; i++) {
        static char names[20][2];
        names[i][0] = 'k';
        names[i][1] = (char)('a' + i);
        entries[i] =
            (struct kv_entry){kv_slice_of(names[i], 2), 0, KV_KIND_PUT, kv_slice_of(value, sizeof value)};
    }
    struct sst_build how = {.name = "1.tbl", .codec = KV_CODEC_PLAIN};
    cr_assert_eq(sst_build(&kit, &how, &data, NULL, NULL), KV_OK);
    cr_assert_eq(sst_open(&kit, "1.tbl", 5, &table, NULL), KV_OK);
    cr_assert_eq(kv_table_properties(table)->data_blocks, 20, "a value that fills a block stands alone");
    for (size_t i = 0; i < data.n; i++) {
        struct kv_found once, twice;
        struct kv_entry_iter *it = NULL;
        struct kv_table_iter_options all = {0};
        cr_assert_eq(kv_table_get(table, entries[i].key, 9, &once, NULL), KV_OK);
        cr_assert_eq(kv_table_get(table, entries[i].key, 9, &twice, NULL), KV_OK);
        cr_assert_eq(kv_table_iter_open(table, &all, &it), KV_OK);
        cr_assert_eq(kv_entry_iter_seek(it, entries[i].key, 9), KV_OK);
        cr_assert(once.value.data == twice.value.data && once.value.data == it->value.data);
        kv_entry_iter_close(it);
        kv_block_unref(once.block);
        kv_table_unref(kv_table_ref(table));
        cr_assert_eq(memcmp(twice.value.data, value, sizeof value), 0);
        kv_block_unref(twice.block);
    }
    kv_table_unref(table);
    sst_kit_release(&kit);
}

Test(table, the_largest_key_and_value_and_an_empty_value_fit)
{
    struct sst_kit kit;
    struct kv_table *table = NULL;
    struct kv_found found;
    sst_kit_init(&kit, 1 << 20);
    uint8_t *key = kv_zalloc(1, KV_KEY_LEN_MAX + 1), *value = kv_zalloc(1, KV_VALUE_LEN_MAX + 1);
    struct kv_entry entries[2] = {
        {kv_slice_of(key, 1), 0, KV_KIND_PUT, KV_STR("")},
        {kv_slice_of(key, KV_KEY_LEN_MAX), 0, KV_KIND_PUT, kv_slice_of(value, KV_VALUE_LEN_MAX)}};
    struct sst_data data = {.entries = entries, .n = 2};
    struct sst_build how = {.name = "1.tbl"};
    cr_assert_eq(sst_build(&kit, &how, &data, NULL, NULL), KV_OK);
    cr_assert_eq(sst_open(&kit, "1.tbl", 0, &table, NULL), KV_OK);
    cr_assert_eq(kv_table_get(table, entries[1].key, 0, &found, NULL), KV_OK);
    cr_assert_eq(found.value.len, KV_VALUE_LEN_MAX);
    kv_block_unref(found.block);
    cr_assert_eq(kv_table_get(table, entries[0].key, 0, &found, NULL), KV_OK);
    cr_assert_eq(found.value.len, 0);
    kv_block_unref(found.block);
    kv_table_unref(table);
    entries[1].value.len++;
    how.name = "2.tbl";
    cr_assert_eq(sst_build(&kit, &how, &data, NULL, NULL), KV_INVALID);
    entries[1].value.len = 1;
    entries[1].key.len++;
    cr_assert_eq(sst_build(&kit, &how, &data, NULL, NULL), KV_INVALID);
    entries[1].key.len = 0;
    cr_assert_eq(sst_build(&kit, &how, &data, NULL, NULL), KV_INVALID);
    entries[1] = entries[0];
    cr_assert_eq(sst_build(&kit, &how, &data, NULL, NULL), KV_INVALID, "twice the same");
    kv_free(key);
    kv_free(value);
    sst_kit_release(&kit);
}

Test(table, an_empty_one_holds_nothing)
{
    struct sst_kit kit;
    struct kv_table *table = NULL;
    struct sst_data data = {.n = 0};
    struct kv_found found;
    struct sst_build how = {.name = "1.tbl"};
    sst_kit_init(&kit, 1 << 20);
    cr_assert_eq(sst_build(&kit, &how, &data, NULL, NULL), KV_OK);
    cr_assert_eq(sst_open(&kit, "1.tbl", 0, &table, NULL), KV_OK);
    cr_assert_eq(kv_table_verify(table, NULL), KV_OK);
    cr_assert_eq(kv_table_get(table, KV_STR("a"), 1, &found, NULL), KV_NOT_FOUND);
    expect_walks(table, &data, &table_shapes[0], 1, 3);
    kv_table_unref(table);
    sst_kit_release(&kit);
}

static kv_status count_file(void *ctx, const char *name, uint64_t bytes)
{
    (void)name;
    (void)bytes;
    ++*(int *)ctx;
    return KV_OK;
}

Test(table, an_unfinished_file_is_removed_and_an_existing_one_never_overwritten)
{
    struct sst_kit kit;
    struct kv_table_build *build = NULL;
    struct kv_entry entry = {KV_STR("a"), 1, KV_KIND_PUT, KV_STR("b")};
    struct kv_err err = {0};
    int files = 0;
    sst_kit_init(&kit, 1 << 20);
    struct kv_table_build_options options = {
        .dir = kit.dir, .name = "1.tbl", .db_uuid = sst_uuid, .clock = &kit.clock.clock, .space_name = "s"};
    cr_assert_eq(kv_table_build_open(&options, &build, NULL), KV_OK);
    cr_assert_eq(kv_table_build_add(build, &entry, NULL), KV_OK);
    cr_assert_eq(kv_table_build_add(build, &entry, &err), KV_INVALID);
    kv_table_build_free(build);
    cr_assert_eq(kit.dir->ops->list(kit.dir, count_file, &files, NULL), KV_OK);
    cr_assert_eq(files, 0);
    cr_assert_eq(kv_table_build_open(&options, &build, NULL), KV_OK);
    cr_assert_eq(kv_table_build_finish(build, NULL, NULL), KV_OK);
    kv_table_build_free(build);
    cr_assert_eq(kv_table_build_open(&options, &build, &err), KV_EXISTS);
    options.name = "2.tbl";
    options.block_bytes = KV_BLOCK_BYTES_MAX + 1;
    cr_assert_eq(kv_table_build_open(&options, &build, &err), KV_INVALID);
    sst_kit_release(&kit);
}

/* ---- damage */

/* Opens and reads everything: either an error, or exactly the data. */
static kv_status read_all(struct sst_kit *kit, const char *name, const struct sst_data *data)
{
    struct kv_table *table = NULL;
    struct kv_entry_iter *it = NULL;
    struct kv_err err = {0};
    kv_status rc = sst_open(kit, name, 0, &table, &err);
    if (rc < 0) {
        cr_assert_neq(err.text[0], 0);
        return rc;
    }
    kv_status verified = kv_table_verify(table, NULL);
    struct kv_table_iter_options all = {.err = &err};
    cr_assert_eq(kv_table_iter_open(table, &all, &it), KV_OK);
    size_t i = 0;
    kv_status walked = kv_entry_iter_seek(it, KV_STR(""), KV_VERSION_MAX);
    for (; walked == KV_OK; walked = kv_entry_iter_next(it), i++) {
        cr_assert_lt(i, data->n);
        cr_assert(kv_slice_equal(it->key, data->entries[i].key));
        cr_assert(kv_slice_equal(it->value, data->entries[i].value));
        cr_assert_eq(it->version, data->entries[i].version);
    }
    if (walked == KV_END)
        cr_assert_eq(i, data->n, "entries were skipped silently");
    else
        cr_assert_neq(err.text[0], 0);
    kv_entry_iter_close(it);
    for (i = 0; i < data->n; i++) {
        struct kv_found found;
        rc = kv_table_get(table, data->entries[i].key, data->entries[i].version, &found, &err);
        cr_assert(rc < 0 || (rc == KV_OK && kv_slice_equal(found.value, data->entries[i].value)));
        if (rc == KV_OK)
            kv_block_unref(found.block);
    }
    kv_table_unref(table);
    return verified < 0 ? verified : walked < 0 ? walked : KV_OK;
}

static void small_table_sealed(struct sst_kit *kit, struct sst_data *data, struct kv_buf *bytes, bool sealed)
{
    const struct sst_shape shape = {.versions = 3, .deletes = true};
    struct sst_build how = {.name = "1.tbl", .block_bytes = 64, .codec = KV_CODEC_SNAPPY};
    sst_kit_init(kit, 1 << 20);
    if (sealed)
        sst_kit_encrypt(kit);
    sst_data_random(data, 14, 30, &shape);
    cr_assert_eq(sst_build(kit, &how, data, NULL, NULL), KV_OK);
    sst_file_read(kit, "1.tbl", bytes);
    cr_assert_eq(read_all(kit, "1.tbl", data), KV_OK);
}

static void small_table(struct sst_kit *kit, struct sst_data *data, struct kv_buf *bytes)
{
    small_table_sealed(kit, data, bytes, false);
}

static void flip_every_bit(bool sealed)
{
    struct sst_kit kit;
    struct sst_data data;
    struct kv_buf bytes = {0};
    small_table_sealed(&kit, &data, &bytes, sealed);
    for (size_t bit = 0; bit < bytes.len * 8; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        sst_file_write(&kit, "2.tbl", kv_buf_slice(&bytes));
        bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        kv_status rc = read_all(&kit, "2.tbl", &data);
        cr_assert(rc == KV_CORRUPT || rc == KV_TOO_NEW || rc == KV_UNSUPPORTED, "bit %zu: %s", bit,
                  kv_status_name(rc));
    }
    kv_buf_release(&bytes);
    sst_data_release(&data);
    sst_kit_release(&kit);
}

Test(table, every_flipped_bit_is_found, .timeout = 120)
{
    flip_every_bit(false);
}

Test(table, every_flipped_bit_of_an_encrypted_one_is_found, .timeout = 120)
{
    flip_every_bit(true);
}

static void cut_everywhere(bool sealed)
{
    struct sst_kit kit;
    struct sst_data data;
    struct kv_buf bytes = {0};
    small_table_sealed(&kit, &data, &bytes, sealed);
    size_t whole = bytes.len;
    for (size_t len = 0; len < whole; len++) {
        sst_file_write(&kit, "2.tbl", kv_slice_of(bytes.data, len));
        cr_assert_eq(read_all(&kit, "2.tbl", &data), KV_CORRUPT, "cut at %zu", len);
    }
    for (size_t extra = 1; extra < 200; extra++) {
        cr_assert_eq(kv_buf_append_byte(&bytes, (uint8_t)(extra & 1 ? 0 : bytes.data[extra])), KV_OK);
        sst_file_write(&kit, "2.tbl", kv_buf_slice(&bytes));
        cr_assert_eq(read_all(&kit, "2.tbl", &data), KV_CORRUPT);
    }
    kv_buf_release(&bytes);
    sst_data_release(&data);
    sst_kit_release(&kit);
}

Test(table, every_cut_and_anything_appended_is_found)
{
    cut_everywhere(false);
    cut_everywhere(true);
}

/* The same entries in two files under one data key: no block of one is one of the other, nor of another place in its own. */
Test(table, blocks_of_an_encrypted_one_open_in_their_own_file_and_place_only)
{
    struct sst_kit kit;
    struct sst_data data;
    struct kv_buf bytes = {0}, other = {0}, mixed = {0};
    small_table_sealed(&kit, &data, &bytes, true);
    struct sst_build how = {.name = "3.tbl", .block_bytes = 64, .codec = KV_CODEC_SNAPPY};
    cr_assert_eq(sst_build(&kit, &how, &data, NULL, NULL), KV_OK);
    sst_file_read(&kit, "3.tbl", &other);
    cr_assert_eq(bytes.len, other.len);
    size_t same = 0;
    for (size_t i = KV_FILE_HEADER_LEN; i < bytes.len - 8; i++)
        same += bytes.data[i] == other.data[i];
    cr_assert_lt(same, bytes.len / 32, "nothing in them is alike");
    for (size_t i = 0; i < data.n; i++)
        for (size_t at = KV_FILE_HEADER_LEN;
             data.entries[i].value.len >= 6 && at + data.entries[i].value.len <= bytes.len; at++)
            cr_assert_neq(memcmp(bytes.data + at, data.entries[i].value.data, data.entries[i].value.len), 0);
    /* header of one, rest of the other; and one's block in the other */
    cr_assert_eq(kv_buf_append(&mixed, kv_buf_slice(&bytes)), KV_OK);
    memcpy(mixed.data, other.data, KV_FILE_HEADER_LEN);
    sst_file_write(&kit, "2.tbl", kv_buf_slice(&mixed));
    cr_assert_eq(read_all(&kit, "2.tbl", &data), KV_CORRUPT);
    memcpy(mixed.data, bytes.data, mixed.len);
    memcpy(mixed.data + KV_FILE_HEADER_LEN, other.data + KV_FILE_HEADER_LEN, 60);
    sst_file_write(&kit, "2.tbl", kv_buf_slice(&mixed));
    cr_assert_eq(read_all(&kit, "2.tbl", &data), KV_CORRUPT);
    kv_buf_release(&bytes);
    kv_buf_release(&other);
    kv_buf_release(&mixed);
    sst_data_release(&data);
    sst_kit_release(&kit);
}

Test(table, an_encrypted_one_needs_its_key_and_a_plain_one_is_no_replacement)
{
    struct sst_kit kit;
    struct sst_data data;
    struct kv_buf bytes = {0};
    struct kv_table *table = NULL;
    struct kv_err err = {0};
    small_table_sealed(&kit, &data, &bytes, true);
    struct kv_keyring *keys = kit.keys;
    kit.keys = NULL;
    cr_assert_eq(sst_open(&kit, "1.tbl", 0, &table, &err), KV_WRONG_KEY);
    cr_assert(strstr(err.text, "1.tbl is encrypted"), "%s", err.text);
    struct sst_build how = {.name = "3.tbl"};
    cr_assert_eq(sst_build(&kit, &how, &data, NULL, NULL), KV_OK);
    kit.keys = keys;
    cr_assert_eq(sst_open(&kit, "3.tbl", 0, &table, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "3.tbl is not encrypted"), "%s", err.text);
    kv_keyring_plain_below(keys, 13);
    cr_assert_eq(sst_open(&kit, "3.tbl", 0, &table, &err), KV_OK);
    cr_assert_eq(kv_table_properties(table)->key_id, 0);
    kv_table_unref(table);
    kv_buf_release(&bytes);
    sst_data_release(&data);
    sst_kit_release(&kit);
}

Test(table, another_database_or_another_file_under_its_name_is_refused)
{
    struct sst_kit kit;
    struct sst_data data;
    struct kv_buf bytes = {0};
    struct kv_table *table = NULL;
    struct kv_err err = {0};
    uint8_t uid[16] = {1}, uuid[16] = {2};
    small_table(&kit, &data, &bytes);
    struct kv_table_open_options options = {.dir = kit.dir, .name = "1.tbl", .cache = kit.cache, .uid = uid};
    cr_assert_eq(kv_table_open(&options, &table, &err), KV_CORRUPT);
    options.uid = NULL;
    options.db_uuid = uuid;
    cr_assert_eq(kv_table_open(&options, &table, &err), KV_CORRUPT);
    options.db_uuid = NULL;
    options.file_bytes = bytes.len + 1;
    cr_assert_eq(kv_table_open(&options, &table, &err), KV_CORRUPT);
    options.file_bytes = bytes.len;
    cr_assert_eq(kv_table_open(&options, &table, &err), KV_OK);
    kv_table_unref(table);
    options.name = "9.tbl";
    cr_assert_eq(kv_table_open(&options, &table, &err), KV_MISSING);
    kv_buf_release(&bytes);
    sst_data_release(&data);
    sst_kit_release(&kit);
}

static void count_line(void *ctx, enum kv_log_level level, const char *line, size_t len)
{
    (void)len;
    cr_assert_eq(level, KV_LOG_ERROR);
    cr_assert_not_null(strstr(line, "file=2.tbl"));
    ++*(int *)ctx;
}

Test(table, damage_is_named_and_stays_local)
{
    struct sst_kit kit;
    struct sst_data data;
    struct kv_buf bytes = {0};
    struct kv_table *table = NULL;
    int lines = 0;
    struct kv_logger log = {.sink = count_line, .ctx = &lines};
    small_table(&kit, &data, &bytes);
    bytes.data[KV_FILE_HEADER_LEN + 20] ^= 1; /* in the first data block */
    sst_file_write(&kit, "2.tbl", kv_buf_slice(&bytes));
    struct kv_table_open_options options = {.dir = kit.dir, .name = "2.tbl", .cache = kit.cache, .log = &log};
    cr_assert_eq(kv_table_open(&options, &table, NULL), KV_OK);
    int damaged = 0;
    for (size_t i = 0; i < data.n; i++) {
        struct kv_found found;
        struct kv_err err = {0};
        kv_status rc = kv_table_get(table, data.entries[i].key, data.entries[i].version, &found, &err);
        if (rc == KV_OK) {
            kv_block_unref(found.block);
            continue;
        }
        char place[40];
        snprintf(place, sizeof place, "2.tbl, offset %d:", KV_FILE_HEADER_LEN);
        cr_assert_eq(rc, KV_CORRUPT);
        cr_assert_not_null(strstr(err.text, place), "%s", err.text);
        damaged++;
    }
    cr_assert(damaged > 0 && (size_t)damaged < data.n / 2);
    cr_assert_eq(lines, damaged);
    kv_table_unref(table);
    kv_buf_release(&bytes);
    sst_data_release(&data);
    sst_kit_release(&kit);
}

/* ---- failures */

static void fail_every_allocation(bool sealed)
{
    struct sst_kit kit;
    struct sst_data data;
    struct kv_buf bytes = {0};
    small_table_sealed(&kit, &data, &bytes, sealed);
    bool failed = true;
    for (uint64_t nth = 1; failed; nth++) {
        struct sst_build how = {.name = "2.tbl", .block_bytes = 64, .codec = KV_CODEC_ZSTD};
        sst_malloc_fail_nth(nth);
        kv_status rc = sst_build(&kit, &how, &data, NULL, NULL);
        failed = sst_malloc_failed();
        sst_malloc_fail_nth(0);
        /* The memory vfs calls its own missing memory a full disk. */
        bool memory = rc == KV_NO_MEMORY || rc == KV_NO_SPACE;
        cr_assert(failed ? memory : rc == KV_OK, "allocation %d: %s", (int)nth, kv_status_name(rc));
        cr_assert_lt(nth, 1000);
        if (rc == KV_OK)
            cr_assert_eq(read_all(&kit, "2.tbl", &data), KV_OK);
    }
    failed = true;
    for (uint64_t nth = 1; failed; nth++) {
        struct kv_table *table = NULL;
        struct kv_entry_iter *it = NULL;
        struct kv_found found = {0};
        struct kv_table_iter_options all = {.lower = KV_STR("a"), .upper = KV_STR("zz")};
        sst_malloc_fail_nth(nth);
        kv_status rc = sst_open(&kit, "1.tbl", 0, &table, NULL);
        if (rc == KV_OK)
            rc = kv_table_get(table, data.entries[9].key, KV_VERSION_MAX, &found, NULL);
        if (rc == KV_OK)
            rc = kv_table_iter_open(table, &all, &it);
        if (rc == KV_OK)
            for (rc = kv_entry_iter_seek(it, KV_STR(""), 0); rc == KV_OK;)
                rc = kv_entry_iter_next(it);
        if (rc == KV_END)
            rc = kv_table_verify(table, NULL);
        failed = sst_malloc_failed();
        sst_malloc_fail_nth(0);
        cr_assert(failed ? rc == KV_NO_MEMORY : rc == KV_OK, "allocation %d: %s", (int)nth,
                  kv_status_name(rc));
        kv_entry_iter_close(it);
        kv_block_unref(found.block);
        kv_table_unref(table);
    }
    kv_buf_release(&bytes);
    sst_data_release(&data);
    sst_kit_release(&kit);
}

Test(table, any_failed_allocation_is_reported)
{
    fail_every_allocation(false);
    fail_every_allocation(true);
}

Test(table, any_failed_operation_of_a_build_is_reported_and_leaves_nothing_behind)
{
    static const enum vfs_fault_kind kinds[] = {VFS_FAULT_EIO, VFS_FAULT_ENOSPC, VFS_FAULT_SHORT_EIO,
                                                VFS_FAULT_SYNC_KEEPS, VFS_FAULT_SYNC_REVERTS};
    const struct sst_shape shape = {.versions = 3, .value_len_max = 3000};
    struct sst_kit kit;
    struct sst_data data;
    sst_kit_init(&kit, 1 << 20);
    sst_data_random(&data, 15, 1000, &shape); /* more than one append */
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        bool fired = true;
        for (uint64_t nth = 1; fired; nth++) {
            struct vfs_fault *fault = vfs_fault_new(kit.vfs);
            struct vfs_fault_plan plan = {
                .nth = nth, .kind = kinds[k], .ops = VFS_OP_ALL & ~(uint32_t)VFS_OP_DIR_OPEN};
            struct sst_kit faulty = kit;
            struct kv_err err = {0};
            int files = 0;
            if (kinds[k] == VFS_FAULT_SYNC_KEEPS || kinds[k] == VFS_FAULT_SYNC_REVERTS)
                plan.ops = VFS_OP_SYNC;
            cr_assert_eq(kv_vfs_dir_open(vfs_fault_as_vfs(fault), "db", false, &faulty.dir, NULL), KV_OK);
            vfs_fault_plan(fault, &plan);
            struct sst_build how = {.name = "1.tbl"};
            kv_status rc = sst_build(&faulty, &how, &data, NULL, &err);
            fired = vfs_fault_fired(fault);
            vfs_fault_plan(fault, NULL);
            cr_assert_eq(fired, rc < 0);
            cr_assert_eq(kit.dir->ops->list(kit.dir, count_file, &files, NULL), KV_OK);
            cr_assert_eq(files, fired ? 0 : 1);
            if (fired)
                cr_assert_neq(err.text[0], 0);
            else
                cr_assert_eq(read_all(&kit, "1.tbl", &data), KV_OK);
            cr_assert(kv_dir_remove(kit.dir, "1.tbl", NULL) <= 0);
            kv_dir_close(faulty.dir);
            vfs_fault_free(fault);
        }
    }
    sst_data_release(&data);
    sst_kit_release(&kit);
}

Test(table, any_failed_read_is_reported_and_the_next_one_works)
{
    struct sst_kit kit;
    struct sst_data data;
    struct kv_buf bytes = {0};
    bool fired = true;
    small_table(&kit, &data, &bytes);
    for (uint64_t nth = 1; fired; nth++) {
        struct vfs_fault *fault = vfs_fault_new(kit.vfs);
        struct vfs_fault_plan plan = {.nth = nth, .ops = VFS_OP_OPEN | VFS_OP_READ | VFS_OP_SIZE};
        struct sst_kit faulty = kit;
        cr_assert_eq(kv_vfs_dir_open(vfs_fault_as_vfs(fault), "db", false, &faulty.dir, NULL), KV_OK);
        vfs_fault_plan(fault, &plan);
        kv_status rc = read_all(&faulty, "1.tbl", &data);
        fired = vfs_fault_fired(fault);
        cr_assert_eq(rc, fired ? KV_IO : KV_OK);
        vfs_fault_plan(fault, NULL);
        cr_assert_eq(read_all(&faulty, "1.tbl", &data), KV_OK, "nothing bad was cached");
        kv_dir_close(faulty.dir);
        vfs_fault_free(fault);
    }
    kv_buf_release(&bytes);
    sst_data_release(&data);
    sst_kit_release(&kit);
}

/* ---- golden: files of format 1, read by every later version */

/* 200 keys, the fifth of each ten a deletion, every third key in a second version. */
static void golden_data(struct sst_data *data)
{
    *data = (struct sst_data){0};
    data->entries = kv_arena_zalloc(&data->arena, 400, sizeof *data->entries);
    for (int i = 0; i < 200; i++) {
        char *key = kv_arena_printf(&data->arena, "host=%02d,cpu=%d", i / 4, i % 4);
        char *value = kv_arena_printf(&data->arena, "value %d of a golden file", i * i);
        struct kv_entry e = {kv_slice_str(key), (uint64_t)(100 + i), KV_KIND_PUT, kv_slice_str(value)};
        if (i % 10 == 4) {
            e.kind = KV_KIND_DELETE;
            e.value.len = 0;
        }
        data->entries[data->n++] = e;
        if (i % 3 == 0) {
            e.version = 7;
            e.kind = KV_KIND_PUT;
            e.value = KV_STR("older");
            data->entries[data->n++] = e;
        }
    }
}

Test(table, files_of_format_1_are_read)
{
    static const struct sst_build golden[] = {
        {.name = "table-1-plain.tbl", .block_bytes = 512, .cut_len = 5},
        {.name = "table-1-snappy.tbl", .block_bytes = 512, .codec = KV_CODEC_SNAPPY},
        {.name = "table-1-zstd.tbl", .block_bytes = 512, .codec = KV_CODEC_ZSTD, .no_filter = true}};
    struct sst_kit kit, disk;
    struct sst_data data;
    struct kv_buf now = {0}, then = {0};
    sst_kit_init(&kit, 1 << 20);
    disk = kit;
    cr_assert_eq(kv_vfs_dir_open(kv_vfs_posix(), "tests/golden", false, &disk.dir, NULL), KV_OK);
    golden_data(&data);
    for (size_t i = 0; i < 3; i++) {
        struct kv_table *table = NULL;
        cr_assert_eq(sst_build(&kit, &golden[i], &data, NULL, NULL), KV_OK);
        sst_file_read(&kit, golden[i].name, &now);
        if (getenv("TIDEMARK_WRITE_GOLDEN"))
            sst_file_write(&disk, golden[i].name, kv_buf_slice(&now));
        cr_assert_eq(read_all(&disk, golden[i].name, &data), KV_OK, "%s", golden[i].name);
        cr_assert_eq(sst_open(&disk, golden[i].name, 0, &table, NULL), KV_OK);
        cr_assert_eq(kv_table_properties(table)->cut.len, golden[i].cut_len);
        kv_table_unref(table);
        sst_file_read(&disk, golden[i].name, &then);
        if (golden[i].codec == KV_CODEC_PLAIN) /* a compressor may change its output, we may not */
            cr_assert(kv_slice_equal(kv_buf_slice(&now), kv_buf_slice(&then)));
    }
    kv_dir_close(disk.dir);
    kv_buf_release(&now);
    kv_buf_release(&then);
    sst_data_release(&data);
    sst_kit_release(&kit);
}
