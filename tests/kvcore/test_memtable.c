#include "kvcore/db/memtable.h"
#include "kvcore/base/mem.h"
#include "tests/support/sst_kit.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct kv_memtable *memtable_new(uint32_t spaces)
{
    struct kv_memtable *memtable = NULL;
    cr_assert_eq(kv_memtable_new(spaces, &memtable), KV_OK);
    return memtable;
}

/* Adds the data in an order of its own. */
static void add_shuffled(struct kv_memtable *memtable, uint32_t space, const struct sst_data *data,
                         uint64_t seed)
{
    struct kv_prng prng;
    size_t *order = kv_alloc((data->n + 1) * sizeof *order);
    kv_prng_init(&prng, seed);
    for (size_t i = 0; i < data->n; i++) {
        size_t j = (size_t)kv_prng_below(&prng, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (size_t i = 0; i < data->n; i++)
        cr_assert_eq(kv_memtable_add(memtable, space, &data->entries[order[i]]), KV_OK);
    kv_free(order);
}

static void expect_sorted_array(size_t filter_bytes)
{
    const struct sst_shape shape = {.versions = 5, .deletes = true, .key_len_max = 6};
    struct sst_data data;
    struct kv_prng prng;
    struct kv_memtable *memtable = memtable_new(3);
    size_t without = kv_memtable_bytes(memtable);
    kv_memtable_filter(memtable, filter_bytes);
    cr_assert_eq(kv_memtable_bytes(memtable), without + filter_bytes / 64 * 64);
    kv_prng_init(&prng, 2);
    sst_data_random(&data, 1, 3000, &shape);
    add_shuffled(memtable, 1, &data, 9);
    add_shuffled(memtable, 1, &data, 10); /* a log replayed twice */
    cr_assert_eq(kv_memtable_entries(memtable, 1), data.n);
    cr_assert_eq(kv_memtable_entries_all(memtable), data.n);
    for (int i = 0; i < 5000; i++) {
        kv_slice key = sst_key_random(&data.arena, &prng, &shape);
        uint64_t version = i % 3 ? kv_prng_below(&prng, 7) : KV_VERSION_MAX;
        const struct kv_entry *e = sst_model_get(&data, key, version);
        struct kv_found found;
        cr_assert_eq(kv_memtable_get(memtable, 1, key, version, &found), e ? KV_OK : KV_NOT_FOUND);
        cr_assert(!e || (found.version == e->version && found.kind == e->kind &&
                         kv_slice_equal(found.value, e->value) && !found.block));
        cr_assert_eq(kv_memtable_get(memtable, 0, key, version, &found), KV_NOT_FOUND, "another space");
    }
    for (int i = 0; i < 60; i++) {
        kv_slice lower = i % 3 ? sst_key_random(&data.arena, &prng, &shape) : KV_STR("");
        kv_slice upper = i % 4 ? sst_key_random(&data.arena, &prng, &shape) : KV_STR("");
        struct kv_entry_iter *it = NULL;
        cr_assert_eq(kv_memtable_iter_open(memtable, 1, lower, upper, &it), KV_OK);
        size_t from = sst_model_seek(&data, lower, KV_VERSION_MAX);
        size_t to = upper.len ? sst_model_seek(&data, upper, KV_VERSION_MAX) : data.n;
        sst_expect_walk(it, KV_STR(""), KV_VERSION_MAX, &data, from, to, 0);
        kv_slice key = sst_key_random(&data.arena, &prng, &shape);
        size_t at = sst_model_seek(&data, key, 2);
        sst_expect_walk(it, key, 2, &data, at > from ? at : from, to, 0);
        cr_assert_eq(kv_memtable_touches(memtable, 1, lower, upper), from < to);
        kv_entry_iter_close(it);
    }
    kv_memtable_unref(memtable);
    sst_data_release(&data);
}

Test(memtable, answers_what_a_sorted_array_answers)
{
    const size_t filters[] = {0, 64, 1000, 1 << 16, 4 << 20}; /* full of keys to nearly empty */
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++)
        expect_sorted_array(filters[i]);
}

Test(memtable, without_memory_for_its_filter_it_has_none)
{
    struct kv_memtable *memtable = memtable_new(1);
    struct kv_entry e = {KV_STR("k"), 9, KV_KIND_PUT, KV_STR("v")};
    struct kv_found found;
    size_t without = kv_memtable_bytes(memtable);
    sst_malloc_fail_nth(1);
    kv_memtable_filter(memtable, 1 << 16);
    cr_assert(sst_malloc_failed());
    sst_malloc_fail_nth(0);
    cr_assert_eq(kv_memtable_bytes(memtable), without);
    cr_assert_eq(kv_memtable_add(memtable, 0, &e), KV_OK);
    cr_assert_eq(kv_memtable_get(memtable, 0, e.key, KV_VERSION_MAX, &found), KV_OK);
    kv_memtable_unref(memtable);
}

Test(memtable, knows_the_versions_and_bytes_it_holds)
{
    struct kv_memtable *memtable = memtable_new(2);
    cr_assert_eq(kv_memtable_version_oldest(memtable), 0, "an empty one has no floor");
    size_t empty = kv_memtable_bytes(memtable);
    struct kv_entry e = {KV_STR("k"), 9, KV_KIND_PUT, KV_STR("v")};
    cr_assert_eq(kv_memtable_add(memtable, 0, &e), KV_OK);
    e.version = 12;
    cr_assert_eq(kv_memtable_add(memtable, 1, &e), KV_OK);
    e.version = 5;
    cr_assert_eq(kv_memtable_add(memtable, 1, &e), KV_OK);
    cr_assert_eq(kv_memtable_version_oldest(memtable), 5);
    cr_assert_eq(kv_memtable_version_newest(memtable), 12);
    uint8_t *large = kv_zalloc(1, 1 << 20);
    e.key = KV_STR("large");
    e.value = kv_slice_of(large, 1 << 20);
    cr_assert_eq(kv_memtable_add(memtable, 0, &e), KV_OK);
    cr_assert_geq(kv_memtable_bytes(memtable), empty + (1 << 20));
    kv_free(large);
    kv_memtable_unref(memtable);
}

Test(memtable, an_iterator_keeps_it_alive)
{
    struct kv_memtable *memtable = memtable_new(1);
    struct kv_entry_iter *it = NULL;
    struct kv_entry e = {KV_STR("k"), 9, KV_KIND_PUT, KV_STR("v")};
    cr_assert_eq(kv_memtable_add(memtable, 0, &e), KV_OK);
    cr_assert_eq(kv_memtable_iter_open(memtable, 0, KV_STR(""), KV_STR(""), &it), KV_OK);
    kv_memtable_unref(memtable);
    cr_assert_eq(kv_entry_iter_seek(it, KV_STR(""), KV_VERSION_MAX), KV_OK);
    cr_assert(kv_slice_equal(it->value, KV_STR("v")));
    cr_assert_eq(kv_entry_iter_next(it), KV_END);
    kv_entry_iter_close(it);
}

Test(memtable, after_reserve_the_adds_cannot_fail)
{
    const struct sst_shape shape = {.versions = 50, .value_len_max = 3000};
    struct sst_data data;
    struct kv_memtable *memtable = memtable_new(1);
    size_t bytes = 0;
    sst_data_random(&data, 4, 2000, &shape);
    for (size_t i = 0; i < data.n; i++)
        bytes += data.entries[i].key.len + data.entries[i].value.len;
    cr_assert_eq(kv_memtable_reserve(memtable, data.n, bytes), KV_OK);
    sst_malloc_fail_nth(1);
    for (size_t i = 0; i < data.n; i++)
        cr_assert_eq(kv_memtable_add(memtable, 0, &data.entries[i]), KV_OK);
    cr_assert_not(sst_malloc_failed());
    cr_assert_eq(kv_memtable_reserve(memtable, 1 << 20, 1 << 20), KV_NO_MEMORY);
    sst_malloc_fail_nth(0);
    cr_assert_eq(kv_memtable_reserve(memtable, SIZE_MAX / 2, 1), KV_NO_MEMORY);
    cr_assert_eq(kv_memtable_entries(memtable, 0), data.n);
    kv_memtable_unref(memtable);
    sst_data_release(&data);
}

Test(memtable, a_failed_allocation_changes_nothing)
{
    struct kv_memtable *memtable = memtable_new(1);
    uint8_t *large = kv_zalloc(1, 2 << 20);
    struct kv_entry e = {KV_STR("k"), 9, KV_KIND_PUT, kv_slice_of(large, 2 << 20)};
    struct kv_found found;
    sst_malloc_fail_nth(1);
    cr_assert_eq(kv_memtable_add(memtable, 0, &e), KV_NO_MEMORY);
    sst_malloc_fail_nth(0);
    cr_assert_eq(kv_memtable_get(memtable, 0, e.key, KV_VERSION_MAX, &found), KV_NOT_FOUND);
    cr_assert_eq(kv_memtable_add(memtable, 0, &e), KV_OK);
    kv_memtable_unref(memtable);
    kv_free(large);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        sst_malloc_fail_nth(nth);
        cr_assert_eq(kv_memtable_new(4, &memtable), KV_NO_MEMORY);
        sst_malloc_fail_nth(0);
    }
}
