#include "kvcore/db/merge_iter.h"
#include "kvcore/base/list.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/memtable.h"
#include "kvcore/db/view_iter.h"
#include "tests/support/sst_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { SOURCES_MAX = 9 };

/* A source over an array, which can be told to fail at its n-th step. */
struct array_iter {
    struct kv_entry_iter it;
    const struct sst_data *data;
    size_t at;
    int fail_in; /* 0: never */
    int *closed;
};

static kv_status array_show(struct array_iter *iter)
{
    if (iter->fail_in > 0 && --iter->fail_in == 0)
        return KV_CORRUPT;
    if (iter->at >= iter->data->n)
        return KV_END;
    const struct kv_entry *e = &iter->data->entries[iter->at];
    iter->it.key = e->key;
    iter->it.value = e->value;
    iter->it.version = e->version;
    iter->it.kind = e->kind;
    return KV_OK;
}
static kv_status array_seek(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    struct array_iter *iter = KV_CONTAINER(it, struct array_iter, it);
    iter->at = sst_model_seek(iter->data, key, version);
    return array_show(iter);
}
static kv_status array_next(struct kv_entry_iter *it)
{
    struct array_iter *iter = KV_CONTAINER(it, struct array_iter, it);
    iter->at++;
    return array_show(iter);
}
static kv_status array_before(struct array_iter *iter, size_t at)
{
    iter->at = at - 1;
    return at == 0 ? KV_END : array_show(iter);
}
static kv_status array_seek_before(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    struct array_iter *iter = KV_CONTAINER(it, struct array_iter, it);
    return array_before(iter, key.len ? sst_model_seek(iter->data, key, version) : iter->data->n);
}
static kv_status array_prev(struct kv_entry_iter *it)
{
    struct array_iter *iter = KV_CONTAINER(it, struct array_iter, it);
    return array_before(iter, iter->at);
}
static void array_close(struct kv_entry_iter *it)
{
    struct array_iter *iter = KV_CONTAINER(it, struct array_iter, it);
    if (iter->closed)
        ++*iter->closed;
    free(iter);
}
static struct kv_entry_iter *array_open(const struct sst_data *data, int fail_in, int *closed)
{
    static const struct kv_entry_iter_ops ops = {array_seek, array_next, array_seek_before, array_prev,
                                                 array_close};
    struct array_iter *iter = calloc(1, sizeof *iter);
    iter->it.ops = &ops;
    iter->it.version_max = UINT64_MAX;
    iter->data = data;
    iter->fail_in = fail_in;
    iter->closed = closed;
    return &iter->it;
}

/* Deals the entries of all to n parts, some to two; each part stays in order. */
static void deal(const struct sst_data *all, struct sst_data *parts, size_t n, struct kv_prng *prng)
{
    for (size_t i = 0; i < n; i++)
        parts[i] = (struct sst_data){.entries = calloc(all->n + 1, sizeof *all->entries)};
    for (size_t i = 0; i < all->n; i++) {
        size_t a = (size_t)kv_prng_below(prng, n), b = (size_t)kv_prng_below(prng, n);
        parts[a].entries[parts[a].n++] = all->entries[i];
        if (b != a && kv_prng_below(prng, 4) == 0)
            parts[b].entries[parts[b].n++] = all->entries[i];
    }
}

static kv_status fill_source(struct sst_kit *kit, const struct sst_data *part, size_t which,
                             struct kv_entry_iter **out)
{
    if (which % 3 == 0) {
        *out = array_open(part, 0, NULL);
        return KV_OK;
    }
    if (which % 3 == 1) {
        struct kv_memtable *memtable = NULL;
        cr_assert_eq(kv_memtable_new(1, &memtable), KV_OK);
        for (size_t i = 0; i < part->n; i++)
            cr_assert_eq(kv_memtable_add(memtable, 0, &part->entries[i]), KV_OK);
        kv_status rc = kv_memtable_iter_open(memtable, 0, KV_STR(""), KV_STR(""), out);
        kv_memtable_unref(memtable);
        return rc;
    }
    char name[32];
    struct kv_table *table = NULL;
    struct kv_table_iter_options all = {0};
    snprintf(name, sizeof name, "%zu.tbl", which);
    struct sst_build how = {.name = name, .block_bytes = 256};
    cr_assert(kv_dir_remove(kit->dir, name, NULL) <= 0);
    cr_assert_eq(sst_build(kit, &how, part, NULL, NULL), KV_OK);
    cr_assert_eq(sst_open(kit, name, 0, &table, NULL), KV_OK);
    kv_status rc = kv_table_iter_open(table, &all, out);
    kv_table_unref(table);
    return rc;
}

static struct kv_entry_iter *open_merge(struct sst_kit *kit, const struct sst_data *parts, size_t n)
{
    struct kv_entry_iter *sources[SOURCES_MAX], *merge = NULL;
    for (size_t i = 0; i < n; i++)
        cr_assert_eq(fill_source(kit, &parts[i], i, &sources[i]), KV_OK);
    cr_assert_eq(kv_merge_iter_open(sources, n, &merge), KV_OK);
    return merge;
}

/* What a reader at version sees of the sorted entries. */
static void visible(const struct sst_data *all, uint64_t version, struct sst_data *out)
{
    *out = (struct sst_data){.entries = calloc(all->n + 1, sizeof *all->entries)};
    const struct kv_entry *shown = NULL;
    for (size_t i = 0; i < all->n; i++) {
        const struct kv_entry *e = &all->entries[i];
        if (e->version > version || (shown && kv_slice_equal(shown->key, e->key)))
            continue;
        shown = e;
        if (e->kind == KV_KIND_PUT)
            out->entries[out->n++] = *e;
    }
}

static void expect_view(struct kv_iter *it, kv_slice target, const struct sst_data *seen)
{
    kv_status rc = kv_iter_seek(it, target);
    for (size_t i = sst_model_seek(seen, target, KV_VERSION_MAX); i < seen->n; i++) {
        cr_assert_eq(rc, KV_OK);
        cr_assert(kv_slice_equal(it->key, seen->entries[i].key), "%.*s, not %.*s", KV_ARG(it->key),
                  KV_ARG(seen->entries[i].key));
        cr_assert(kv_slice_equal(it->value, seen->entries[i].value));
        rc = kv_iter_next(it);
    }
    cr_assert_eq(rc, KV_END);
    rc = kv_iter_seek_before(it, target);
    for (size_t i = target.len ? sst_model_seek(seen, target, KV_VERSION_MAX) : seen->n; i > 0; i--) {
        cr_assert_eq(rc, KV_OK);
        cr_assert(kv_slice_equal(it->key, seen->entries[i - 1].key), "%.*s, not %.*s", KV_ARG(it->key),
                  KV_ARG(seen->entries[i - 1].key));
        cr_assert(kv_slice_equal(it->value, seen->entries[i - 1].value));
        rc = kv_iter_prev(it);
    }
    cr_assert_eq(rc, KV_END);
}

/* From somewhere, to and fro. */
static void expect_zigzag(struct kv_iter *it, const struct sst_data *seen, struct kv_prng *prng)
{
    for (int round = 0; round < 8 && seen->n; round++) {
        size_t at = (size_t)kv_prng_below(prng, seen->n);
        kv_status rc = kv_iter_seek(it, seen->entries[at].key);
        for (int step = 0; rc == KV_OK && step < 14; step++) {
            cr_assert(kv_slice_equal(it->key, seen->entries[at].key), "%.*s, not %.*s", KV_ARG(it->key),
                      KV_ARG(seen->entries[at].key));
            cr_assert(kv_slice_equal(it->value, seen->entries[at].value));
            cr_assert_eq(it->version, seen->entries[at].version);
            bool forward = kv_prng_below(prng, 2) == 0;
            rc = forward ? kv_iter_next(it) : kv_iter_prev(it);
            cr_assert_eq(rc == KV_END, forward ? at + 1 == seen->n : at == 0);
            at = forward ? at + 1 : at - 1;
        }
        cr_assert(rc >= 0);
    }
}

/* Every visible version by itself, both ways. */
static void expect_all_versions(struct kv_iter *it, const struct sst_data *all, uint64_t version)
{
    kv_status rc = kv_iter_seek(it, KV_STR(""));
    for (size_t i = 0; i < all->n; i++) {
        const struct kv_entry *e = &all->entries[i];
        if (e->version > version)
            continue;
        cr_assert_eq(rc, KV_OK);
        cr_assert(kv_slice_equal(it->key, e->key) && it->version == e->version);
        cr_assert_eq(it->deleted, e->kind == KV_KIND_DELETE);
        rc = kv_iter_next(it);
    }
    cr_assert_eq(rc, KV_END);
    rc = kv_iter_seek_before(it, KV_STR(""));
    for (size_t i = all->n; i > 0; i--) {
        const struct kv_entry *e = &all->entries[i - 1];
        if (e->version > version)
            continue;
        cr_assert_eq(rc, KV_OK);
        cr_assert(kv_slice_equal(it->key, e->key) && it->version == e->version);
        rc = kv_iter_prev(it);
    }
    cr_assert_eq(rc, KV_END);
}

static void count_closed(void *ctx)
{
    ++*(int *)ctx;
}

Test(merge_iter, many_sources_read_as_one_sorted_array)
{
    const struct sst_shape shape = {.versions = 6, .deletes = true, .key_len_max = 5};
    struct sst_kit kit;
    struct kv_prng prng;
    sst_kit_init(&kit, 1 << 20);
    kv_prng_init(&prng, 3);
    for (uint64_t round = 0; round < 60; round++) {
        struct sst_data all, parts[SOURCES_MAX], seen;
        size_t n = 1 + (size_t)(round % SOURCES_MAX);
        sst_data_random(&all, round, round * 7, &shape);
        deal(&all, parts, n, &prng);
        struct kv_entry_iter *merge = open_merge(&kit, parts, n);
        sst_expect_walk(merge, KV_STR(""), KV_VERSION_MAX, &all, 0, all.n, 0);
        for (int i = 0; i < 10; i++) {
            kv_slice key = sst_key_random(&all.arena, &prng, &shape);
            uint64_t version = kv_prng_below(&prng, 8);
            sst_expect_walk(merge, key, version, &all, sst_model_seek(&all, key, version), all.n, 0);
        }
        uint64_t at = kv_prng_below(&prng, 8);
        struct kv_iter *view = NULL;
        int closed = 0;
        struct kv_view_options options = {.version = at, .closed = count_closed, .ctx = &closed};
        cr_assert_eq(kv_view_iter_open(merge, &options, &view), KV_OK);
        visible(&all, at, &seen);
        expect_view(view, KV_STR(""), &seen);
        for (int i = 0; i < 10; i++)
            expect_view(view, sst_key_random(&all.arena, &prng, &shape), &seen);
        expect_zigzag(view, &seen, &prng);
        kv_iter_close(view);
        cr_assert_eq(closed, 1);
        merge = open_merge(&kit, parts, n);
        options.all_versions = true;
        cr_assert_eq(kv_view_iter_open(merge, &options, &view), KV_OK);
        expect_all_versions(view, &all, at);
        kv_iter_close(view);
        for (size_t i = 0; i < n; i++)
            free(parts[i].entries);
        free(seen.entries);
        sst_data_release(&all);
    }
    sst_kit_release(&kit);
}

Test(merge_iter, a_lone_bulk_table_is_seen_whole_or_not_at_all)
{
    const struct sst_shape shape = {0};
    struct sst_kit kit;
    struct sst_data data;
    struct kv_table *table = NULL;
    sst_kit_init(&kit, 1 << 20);
    sst_data_random(&data, 3, 3000, &shape);
    struct sst_build how = {.name = "1.tbl", .block_bytes = 512};
    cr_assert_eq(sst_build(&kit, &how, &data, NULL, NULL), KV_OK);
    cr_assert_eq(sst_open(&kit, "1.tbl", 50, &table, NULL), KV_OK);
    for (uint64_t version = 49; version <= 51; version++) {
        struct sst_data seen = {.entries = data.entries, .n = version < 50 ? 0 : data.n};
        struct kv_table_iter_options all = {0};
        struct kv_entry_iter *source = NULL;
        struct kv_iter *view = NULL;
        struct kv_view_options options = {.version = version};
        cr_assert_eq(kv_table_iter_open(table, &all, &source), KV_OK);
        cr_assert_eq(kv_view_iter_open(source, &options, &view), KV_OK);
        expect_view(view, KV_STR(""), &seen);
        expect_view(view, KV_STR("b"), &seen);
        /* A key it lent may be the next target. */
        if (seen.n) {
            cr_assert_eq(kv_iter_seek(view, seen.entries[9].key), KV_OK);
            cr_assert_eq(kv_iter_seek(view, view->key), KV_OK);
            cr_assert(kv_slice_equal(view->key, seen.entries[9].key));
        }
        kv_iter_close(view);
    }
    kv_table_unref(table);
    sst_data_release(&data);
    sst_kit_release(&kit);
}

Test(merge_iter, a_failing_source_ends_the_walk_and_nothing_is_skipped)
{
    const struct sst_shape shape = {.versions = 4, .deletes = true};
    struct sst_data all, parts[3];
    struct kv_prng prng;
    kv_prng_init(&prng, 8);
    sst_data_random(&all, 5, 300, &shape);
    deal(&all, parts, 3, &prng);
    for (int fail_in = 1; fail_in < 30; fail_in++) {
        struct kv_entry_iter *sources[3], *merge = NULL;
        int closed = 0;
        for (int i = 0; i < 3; i++)
            sources[i] = array_open(&parts[i], i == fail_in % 3 ? fail_in : 0, &closed);
        cr_assert_eq(kv_merge_iter_open(sources, 3, &merge), KV_OK);
        size_t n = 0;
        kv_status rc = kv_entry_iter_seek(merge, KV_STR(""), KV_VERSION_MAX);
        for (; rc == KV_OK; rc = kv_entry_iter_next(merge), n++)
            cr_assert(kv_slice_equal(merge->key, all.entries[n].key));
        cr_assert_eq(rc, KV_CORRUPT);
        cr_assert_eq(kv_entry_iter_next(merge), KV_CORRUPT, "it stays failed");
        sst_expect_walk(merge, KV_STR(""), KV_VERSION_MAX, &all, 0, all.n,
                        0); /* until a seek that succeeds */

        struct kv_iter *view = NULL;
        struct kv_view_options options = {.version = 3};
        cr_assert_eq(kv_view_iter_open(merge, &options, &view), KV_OK);
        struct array_iter *again = KV_CONTAINER(sources[fail_in % 3], struct array_iter, it);
        again->fail_in = fail_in;
        for (rc = kv_iter_seek(view, KV_STR("")); rc == KV_OK;)
            rc = kv_iter_next(view);
        cr_assert_eq(rc, KV_CORRUPT);
        kv_iter_close(view);
        cr_assert_eq(closed, 3);
    }
    for (int i = 0; i < 3; i++)
        free(parts[i].entries);
    sst_data_release(&all);
}

Test(merge_iter, no_source_is_an_empty_walk_and_failed_allocations_are_reported)
{
    struct sst_data none = {.n = 0};
    struct kv_entry_iter *merge = NULL,
                         *sources[2] = {array_open(&none, 0, NULL), array_open(&none, 0, NULL)};
    struct kv_iter *view = NULL;
    struct kv_view_options options = {0};
    sst_malloc_fail_nth(1);
    cr_assert_eq(kv_merge_iter_open(sources, 2, &merge), KV_NO_MEMORY);
    sst_malloc_fail_nth(1);
    cr_assert_eq(kv_view_iter_open(sources[0], &options, &view), KV_NO_MEMORY);
    sst_malloc_fail_nth(0);
    cr_assert_eq(kv_merge_iter_open(sources, 2, &merge), KV_OK);
    sst_expect_walk(merge, KV_STR(""), 0, &none, 0, 0, 0);
    kv_entry_iter_close(merge);
    cr_assert_eq(kv_merge_iter_open(NULL, 0, &merge), KV_OK);
    sst_expect_walk(merge, KV_STR(""), 0, &none, 0, 0, 0);
    kv_entry_iter_close(merge);
}
