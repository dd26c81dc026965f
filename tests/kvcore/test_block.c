#include "kvcore/base/crc32c.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/block.h"
#include "kvcore/sst/format.h"
#include "tests/support/sst_kit.h"

#include <criterion/criterion.h>

enum { UID_SUM = 77, OFFSET = 4096 };

/* The stored form of the data, at OFFSET. */
static void store(const struct sst_data *data, enum kv_codec codec, struct kv_buf *out)
{
    struct kv_block_build build = {0};
    kv_slice payload;
    for (size_t i = 0; i < data->n; i++)
        cr_assert_eq(kv_block_build_add(&build, &data->entries[i]), KV_OK);
    cr_assert_eq(kv_block_build_finish(&build, &payload), KV_OK);
    cr_assert_eq(kv_block_store(payload, codec, UID_SUM, NULL, OFFSET, out), KV_OK);
    kv_block_build_release(&build);
}

static kv_status open_copy(kv_slice stored, struct kv_block **out)
{
    uint8_t *copy = kv_alloc(stored.len);
    memcpy(copy, stored.data, stored.len);
    kv_status rc = kv_block_open(copy, stored.len, UID_SUM, NULL, OFFSET, out);
    kv_free(copy);
    return rc;
}

static void expect_same(const struct kv_block *block, const struct sst_data *data)
{
    uint8_t key_buf[KV_KEY_LEN_MAX], run_buf[KV_KEY_LEN_MAX];
    struct kv_entry_iter it = {.run.key_buf = run_buf};
    cr_assert_eq(block->n, data->n);
    for (uint32_t i = 0; i < block->n; i++) {
        struct kv_entry e;
        kv_block_entry(block, i, key_buf, &e);
        if (i % 5 == 0) /* a walk may begin anywhere in a group */
            kv_block_run(block, i, &it.run);
        kv_run_take(&it);
        cr_assert(kv_slice_equal(e.key, data->entries[i].key));
        cr_assert(kv_slice_equal(e.value, data->entries[i].value));
        cr_assert_eq(e.version, data->entries[i].version);
        cr_assert_eq(e.kind, data->entries[i].kind);
        cr_assert(kv_slice_equal(e.key, it.key) && kv_slice_equal(e.value, it.value));
        cr_assert(e.version == it.version && e.kind == it.kind);
    }
}

Test(block, entries_come_back_under_every_codec)
{
    const struct sst_shape shapes[] = {
        {0},
        {.versions = 5, .deletes = true},
        {.key_len_max = 300, .alphabet = 1, .versions = KV_VERSION_STORED_MAX},
        {.key_len_max = KV_KEY_LEN_MAX, .alphabet = 256, .value_len_max = 40000}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        for (size_t n = 0; n < 120; n += 17) {
            for (int codec = KV_CODEC_PLAIN; codec <= KV_CODEC_ZSTD; codec++) {
                struct sst_data data;
                struct kv_buf stored = {0};
                struct kv_block *block = NULL;
                sst_data_random(&data, s * 1000 + n, n, &shapes[s]);
                store(&data, (enum kv_codec)codec, &stored);
                cr_assert_eq(open_copy(kv_buf_slice(&stored), &block), KV_OK);
                expect_same(block, &data);
                kv_block_unref(block);
                kv_buf_release(&stored);
                sst_data_release(&data);
            }
        }
    }
}

/* Behind a shared prefix; and of the letters a, b, c the bytes 0, 7f and ff, so that hints meet their limits. The order
 * of keys stays. */
static kv_slice reshape(struct kv_arena *arena, kv_slice key, size_t prefix_len, bool extreme)
{
    static const uint8_t bytes[3] = {0, 0x7f, 0xff};
    uint8_t *out = kv_arena_alloc(arena, prefix_len + key.len);
    cr_assert_not_null(out);
    memset(out, 'p', prefix_len);
    for (size_t i = 0; i < key.len; i++)
        out[prefix_len + i] = extreme ? bytes[key.data[i] - 'a'] : key.data[i];
    return kv_slice_of(out, prefix_len + key.len);
}

static void expect_found(const struct kv_block *block, const struct sst_data *data, kv_slice key,
                         uint64_t version)
{
    struct kv_entry got;
    const struct kv_entry *wanted = sst_model_get(data, key, version);
    cr_assert_eq(kv_block_seek(block, key, version), sst_model_seek(data, key, version));
    bool found = kv_block_get(block, key, version, &got);
    cr_assert_eq(found, wanted != NULL);
    if (wanted) {
        cr_assert(got.version == wanted->version && got.kind == wanted->kind);
        cr_assert(kv_slice_equal(got.value, wanted->value));
    }
}

static void expect_seeks(const struct sst_shape *shape, size_t n, size_t prefix_len, bool extreme)
{
    struct sst_data data;
    struct kv_buf stored = {0};
    struct kv_block *block = NULL;
    struct kv_prng prng;
    kv_prng_init(&prng, 5);
    sst_data_random(&data, n, n, shape);
    for (size_t i = 0; i < data.n; i++)
        data.entries[i].key = reshape(&data.arena, data.entries[i].key, prefix_len, extreme);
    store(&data, KV_CODEC_PLAIN, &stored);
    cr_assert_eq(open_copy(kv_buf_slice(&stored), &block), KV_OK);
    for (int i = 0; i < 2000; i++) {
        kv_slice key = reshape(&data.arena, sst_key_random(&data.arena, &prng, shape), prefix_len, extreme);
        uint64_t version = i % 7 ? kv_prng_below(&prng, 6) : KV_VERSION_MAX;
        expect_found(block, &data, key, version);
        if (i % 5 == 0) /* before, inside and behind the shared prefix */
            expect_found(block, &data, kv_slice_of("pppppppppq", (size_t)(1 + i / 5 % 10)), version);
    }
    for (size_t i = 0; i < data.n; i++)
        expect_found(block, &data, data.entries[i].key, data.entries[i].version);
    cr_assert_eq(kv_block_seek(block, KV_STR(""), 0), 0);
    cr_assert_eq(kv_block_seek(block, KV_STR("zzz"), 0), sst_model_seek(&data, KV_STR("zzz"), 0));
    kv_block_unref(block);
    kv_buf_release(&stored);
    sst_data_release(&data);
}

Test(block, seek_finds_what_a_linear_search_finds)
{
    const struct sst_shape shapes[] = {{.versions = 4, .key_len_max = 6, .alphabet = 2},
                                       {.versions = 4, .key_len_max = 12, .alphabet = 3, .deletes = true},
                                       {.key_len_max = 9, .alphabet = 1},
                                       {.key_len_max = 3, .alphabet = 3}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (size_t n = 1; n <= 200; n += n < 4 ? 1 : 39)
            for (size_t prefix_len = 0; prefix_len <= 9; prefix_len += 3) {
                expect_seeks(&shapes[s], n, prefix_len, false);
                expect_seeks(&shapes[s], n, prefix_len, true);
            }
}

Test(block, any_flipped_bit_and_any_cut_is_damage)
{
    for (int codec = KV_CODEC_PLAIN; codec <= KV_CODEC_ZSTD; codec++) {
        const struct sst_shape shape = {.versions = 3};
        struct sst_data data;
        struct kv_buf stored = {0};
        struct kv_block *block = NULL;
        sst_data_random(&data, 2, 40, &shape);
        store(&data, (enum kv_codec)codec, &stored);
        for (size_t bit = 0; bit < stored.len * 8; bit++) {
            stored.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            cr_assert_eq(open_copy(kv_buf_slice(&stored), &block), KV_CORRUPT);
            stored.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t len = 0; len < stored.len; len++)
            cr_assert_eq(open_copy(kv_slice_of(stored.data, len), &block), KV_CORRUPT);
        kv_buf_release(&stored);
        sst_data_release(&data);
    }
}

Test(block, the_same_bytes_at_another_place_or_in_another_file_are_damage)
{
    const struct sst_shape shape = {0};
    struct sst_data data;
    struct kv_buf stored = {0};
    struct kv_block *block = NULL;
    sst_data_random(&data, 2, 40, &shape);
    store(&data, KV_CODEC_PLAIN, &stored);
    for (int which = 0; which < 2; which++) {
        uint8_t *copy = kv_alloc(stored.len);
        memcpy(copy, stored.data, stored.len);
        kv_status rc = which ? kv_block_open(copy, stored.len, UID_SUM, NULL, OFFSET + 1, &block)
                             : kv_block_open(copy, stored.len, UID_SUM + 1, NULL, OFFSET, &block);
        kv_free(copy);
        cr_assert_eq(rc, KV_CORRUPT);
    }
    kv_buf_release(&stored);
    sst_data_release(&data);
}

/* Opens a payload written by hand, whose checksum is right. */
static kv_status open_crafted(const char *payload, size_t len, uint8_t codec, uint32_t inflated_len)
{
    struct kv_buf stored = {0};
    struct kv_block *block = NULL;
    cr_assert_eq(kv_buf_append(&stored, kv_slice_of(payload, len)), KV_OK);
    cr_assert_eq(kv_buf_append_byte(&stored, codec), KV_OK);
    cr_assert_eq(kv_buf_append_fixed32(&stored, inflated_len), KV_OK);
    cr_assert_eq(kv_buf_append_fixed32(&stored, kv_block_sum(UID_SUM, OFFSET, kv_buf_slice(&stored))), KV_OK);
    kv_status rc = open_copy(kv_buf_slice(&stored), &block);
    if (rc == KV_OK)
        kv_block_unref(block);
    kv_buf_release(&stored);
    return rc;
}
#define HEAD(n)                                                                                              \
    n "\0\0\0"                                                                                               \
      "\0\0\0\0\0\0\0\0"
#define CRAFTED(text) open_crafted(text, sizeof(text) - 1, KV_CODEC_PLAIN, sizeof(text) - 1)

Test(block, right_sums_over_wrong_contents_are_still_damage)
{
    cr_assert_eq(CRAFTED(HEAD("\1") "\0\1\1\1"
                                    "av"),
                 KV_OK);
    cr_assert_eq(CRAFTED(HEAD("\2") "\0\1\1\1"
                                    "av"
                                    "\1\1\0\1"
                                    "b"),
                 KV_OK);
    cr_assert_eq(CRAFTED("\0\0"), KV_CORRUPT, "shorter than its head");
    cr_assert_eq(CRAFTED(HEAD("\1") "\0\1\1\1"
                                    "avX"),
                 KV_CORRUPT, "bytes behind the last entry");
    cr_assert_eq(CRAFTED(HEAD("\2") "\0\1\1\1"
                                    "av"),
                 KV_CORRUPT, "an entry missing");
    cr_assert_eq(CRAFTED(HEAD("\1") "\0\1\2\1"
                                    "av"),
                 KV_CORRUPT, "a value past the end");
    cr_assert_eq(CRAFTED(HEAD("\1") "\0\3\0\1"
                                    "av"),
                 KV_CORRUPT, "a key past the end");
    cr_assert_eq(CRAFTED(HEAD("\1") "\0\0\1\1"
                                    "vv"),
                 KV_CORRUPT, "an empty key");
    cr_assert_eq(CRAFTED(HEAD("\1") "\1\1\0\1"
                                    "a"),
                 KV_CORRUPT, "a first key that shares");
    cr_assert_eq(CRAFTED(HEAD("\2") "\0\1\0\1"
                                    "a"
                                    "\2\1\0\1"
                                    "b"),
                 KV_CORRUPT, "shares more than there is");
    cr_assert_eq(CRAFTED(HEAD("\2") "\0\1\0\1"
                                    "b"
                                    "\0\1\0\1"
                                    "a"),
                 KV_CORRUPT, "out of order");
    cr_assert_eq(CRAFTED(HEAD("\2") "\0\1\0\1"
                                    "a"
                                    "\0\1\0\1"
                                    "a"),
                 KV_CORRUPT, "twice the same");
    cr_assert_eq(CRAFTED(HEAD("\1") "\0\1\0\2"
                                    "a"),
                 KV_TOO_NEW, "a kind of a newer version");
    cr_assert_eq(CRAFTED(HEAD("\1") "\0\1\0\x09"
                                    "a"),
                 KV_CORRUPT, "a version below zero");
    cr_assert_eq(CRAFTED("\xff\xff\xff\xff"
                         "\0\0\0\0\0\0\0\0"
                         "\0\1\0\1"
                         "a"),
                 KV_CORRUPT, "four billion entries");
    cr_assert_eq(CRAFTED(HEAD("\1") "\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\1\0\1"
                                    "a"),
                 KV_CORRUPT, "a huge key");
    cr_assert_eq(CRAFTED(HEAD("\1")), KV_CORRUPT, "no entry");
    cr_assert_eq(CRAFTED(HEAD("\1") "\0\0\0\x80"), KV_CORRUPT, "half a tag");
    cr_assert_eq(CRAFTED(HEAD("\1") "\0\0\x80\x80\x80"), KV_CORRUPT, "half a length of a value");
    cr_assert_eq(CRAFTED(HEAD("\1") "\0\x80\x80\x80\x80"), KV_CORRUPT, "half a length of a key");
    cr_assert_eq(CRAFTED(HEAD("\1") "\x80\x80\x80\x80\x80"), KV_CORRUPT, "half a length of what is the same");
    static char long_key[12 + 5 + KV_KEY_LEN_MAX + 1] = HEAD("\1") "\0\x81\x20\0\1";
    cr_assert_eq(open_crafted(long_key, sizeof long_key, KV_CODEC_PLAIN, sizeof long_key), KV_CORRUPT,
                 "a key too long");
    cr_assert_eq(open_crafted("abc", 3, KV_CODEC_PLAIN, 4), KV_CORRUPT, "lengths that differ");
    cr_assert_eq(open_crafted("abc", 3, KV_CODEC_ZSTD, UINT32_MAX), KV_CORRUPT, "inflates to four gigabytes");
    cr_assert_eq(open_crafted("abc", 3, KV_CODEC_SNAPPY, 1000), KV_CORRUPT, "not snappy");
    cr_assert_eq(open_crafted("abc", 3, KV_CODEC_ZSTD, 1000), KV_CORRUPT, "not zstd");
    cr_assert_eq(open_crafted("abc", 3, 9, 3), KV_TOO_NEW, "a codec of a newer version");
}

Test(block, what_compression_does_not_save_an_eighth_of_is_stored_plain)
{
    uint8_t noise[1000], zeros[1000] = {0};
    struct kv_prng prng;
    struct kv_buf stored = {0};
    kv_prng_init(&prng, 3);
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)kv_prng_next(&prng);
    cr_assert_eq(kv_block_store(kv_slice_of(noise, 1000), KV_CODEC_ZSTD, 0, NULL, 0, &stored), KV_OK);
    cr_assert_eq(stored.len, 1000 + KV_BLOCK_TRAILER_LEN);
    cr_assert_eq(stored.data[1000], KV_CODEC_PLAIN);
    kv_buf_clear(&stored);
    cr_assert_eq(kv_block_store(kv_slice_of(zeros, 1000), KV_CODEC_ZSTD, 0, NULL, 0, &stored), KV_OK);
    cr_assert_lt(stored.len, 100);
    kv_buf_release(&stored);
}

Test(block, a_failed_allocation_is_reported)
{
    const struct sst_shape shape = {0};
    struct sst_data data;
    struct kv_buf stored = {0};
    sst_data_random(&data, 2, 40, &shape);
    store(&data, KV_CODEC_SNAPPY, &stored);
    for (uint64_t nth = 1;; nth++) {
        struct kv_block *block = NULL;
        uint8_t *copy = kv_alloc(stored.len);
        memcpy(copy, stored.data, stored.len);
        sst_malloc_fail_nth(nth);
        kv_status rc = kv_block_open(copy, stored.len, UID_SUM, NULL, OFFSET, &block);
        bool failed = sst_malloc_failed();
        sst_malloc_fail_nth(0);
        kv_free(copy);
        cr_assert_eq(rc, failed ? KV_NO_MEMORY : KV_OK);
        if (rc == KV_OK)
            kv_block_unref(block);
        if (!failed)
            break;
        cr_assert_lt(nth, 10);
    }
    kv_buf_release(&stored);
    sst_data_release(&data);
}

Test(block, one_without_entries_finds_nothing)
{
    struct kv_buf stored = {0};
    struct kv_block *block = NULL;
    struct kv_entry found;
    cr_assert_eq(kv_block_store(kv_slice_of(HEAD("\0"), 12), KV_CODEC_PLAIN, UID_SUM, NULL, OFFSET, &stored),
                 KV_OK);
    cr_assert_eq(open_copy(kv_buf_slice(&stored), &block), KV_OK);
    cr_assert_eq(kv_block_seek(block, KV_STR("any"), 1), 0);
    cr_assert_not(kv_block_get(block, KV_STR("any"), 1, &found));
    kv_block_unref(block);
    cr_assert_eq(kv_block_store(kv_slice_of(stored.data, (size_t)KV_BLOCK_INFLATED_MAX + 1), KV_CODEC_PLAIN,
                                UID_SUM, NULL, OFFSET, &stored),
                 KV_LIMIT, "more than any block holds");
    kv_buf_release(&stored);
}

/* The bytes of a filter, of properties, of a value: taken over whatever comes of it. */
Test(block, bytes_without_memory_are_none)
{
    struct kv_buf stored = {0};
    char text[600];
    memset(text, 't', sizeof text);
    cr_assert_eq(
        kv_block_store(kv_slice_of(text, sizeof text), KV_CODEC_ZSTD, UID_SUM, NULL, OFFSET, &stored), KV_OK);
    for (uint64_t nth = 1;; nth++) {
        struct kv_block *block = NULL;
        uint8_t *copy = kv_alloc(stored.len);
        memcpy(copy, stored.data, stored.len);
        sst_malloc_fail_nth(nth);
        kv_status rc = kv_block_open_bytes(copy, stored.len, UID_SUM, NULL, OFFSET, &block);
        bool failed = sst_malloc_failed();
        sst_malloc_fail_nth(0);
        cr_assert_eq(rc, failed ? KV_NO_MEMORY : KV_OK);
        if (rc == KV_OK) {
            cr_assert(kv_slice_equal(block->bytes, kv_slice_of(text, sizeof text)));
            struct kv_block *again = kv_block_ref(block);
            kv_block_unref(block);
            kv_block_unref(again);
        }
        if (!failed)
            break;
    }
    kv_buf_release(&stored);
}
