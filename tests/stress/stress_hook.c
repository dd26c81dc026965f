/*
 * A space whose hook merges neighbours, under everything at once: writers that add to groups of their own and delete them by
 * range, readers under snapshots, merges on demand and by themselves, reopens. The hook makes one entry of a group, whose value
 * is the sum of all: so a group's sum never changes by a merge, whatever it met, and every writer knows what its groups come to.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/prng.h"
#include "kvcore/kv.h"
#include "kvcore/os/thread.h"
#include "kvcore/os/vfs.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WRITERS = 3, GROUPS = 24, ROUNDS = 2500, GROUP_LEN = 4, LIVES = 2 };

static struct kv_db *db;
static _Atomic int working;
static _Atomic uint64_t merged; /* entries that the hook made one of */
static uint64_t sums[WRITERS][GROUPS], next_key[WRITERS];

static void must(kv_status rc, const struct kv_err *err)
{
    if (rc < 0) {
        printf("%s: %s\n", kv_status_name(rc), err->text);
        abort();
    }
}

/* ---- the hook */

static size_t group_len(void *ctx, kv_slice key)
{
    (void)ctx;
    return key.len < GROUP_LEN ? key.len : GROUP_LEN;
}

static kv_status sum_begin(void *ctx, kv_slice lower, kv_slice upper, void **merge)
{
    (void)lower, (void)upper;
    *merge = ctx;
    return KV_OK;
}

static kv_status sum_group(void *merge, const struct kv_hook_entry *entries, size_t n,
                           struct kv_hook_sink *sink)
{
    uint64_t sum = 0;
    uint8_t value[8];
    (void)merge;
    for (size_t i = 0; i < n; i++) {
        KV_ASSERT(memcmp(entries[i].key.data, entries[0].key.data, GROUP_LEN) == 0);
        sum += kv_get_fixed64(entries[i].value.data);
    }
    atomic_fetch_add(&merged, n - 1);
    kv_put_fixed64(value, sum);
    return sink->add(sink, entries[n - 1].key, kv_slice_of(value, sizeof value));
}

static void sum_end(void *merge, bool installed)
{
    (void)merge, (void)installed;
}

/* ---- at work */

static kv_slice prefix_of(size_t writer, size_t group, char out[16])
{
    return kv_slice_of(out, (size_t)snprintf(out, 16, "%zu.%02zu", writer, group));
}

/* What the group comes to in the snapshot. */
static uint64_t sum_of(const struct kv_snapshot *snapshot, size_t writer, size_t group)
{
    struct kv_iter *it = NULL;
    struct kv_err err = {0};
    struct kv_buf upper = {0};
    char text[16];
    kv_slice prefix = prefix_of(writer, group, text);
    uint64_t sum = 0;
    kv_status rc;
    must(kv_prefix_end(prefix, &upper), &err);
    must(kv_iter_open(db, snapshot, 0, prefix, kv_buf_slice(&upper), &it), &err);
    for (rc = kv_iter_seek(it, prefix); rc == KV_OK; rc = kv_iter_next(it))
        sum += kv_get_fixed64(it->value.data);
    must(rc, &err);
    kv_iter_close(it);
    kv_buf_release(&upper);
    return sum;
}

static void add_to(struct kv_batch *batch, size_t me, size_t group, uint64_t number)
{
    struct kv_err err = {0};
    char text[48];
    uint8_t value[8];
    kv_put_fixed64(value, number);
    int n = snprintf(text, sizeof text, "%zu.%02zu/%010llu", me, group, (unsigned long long)next_key[me]++);
    must(kv_batch_put(batch, 0, kv_slice_of(text, (size_t)n), kv_slice_of(value, sizeof value)), &err);
    sums[me][group] += number;
}

static void delete_group(struct kv_batch *batch, size_t me, size_t group)
{
    struct kv_err err = {0};
    struct kv_buf upper = {0};
    char text[16];
    kv_slice prefix = prefix_of(me, group, text);
    must(kv_prefix_end(prefix, &upper), &err);
    must(kv_batch_delete_range(batch, 0, prefix, kv_buf_slice(&upper)), &err);
    kv_buf_release(&upper);
    sums[me][group] = 0;
}

static void write_all(void *ctx)
{
    size_t me = (size_t)(uintptr_t)ctx;
    struct kv_prng prng;
    struct kv_batch *batch = NULL;
    struct kv_err err = {0};
    kv_prng_init(&prng, 31 + me);
    must(kv_batch_new(&batch), &err);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        size_t group = (size_t)kv_prng_below(&prng, GROUPS);
        kv_batch_clear(batch);
        if (kv_prng_below(&prng, 16) == 0)
            delete_group(batch, me, group);
        else
            for (uint64_t n = 1 + kv_prng_below(&prng, 4); n > 0; n--)
                add_to(batch, me, group, 1 + kv_prng_below(&prng, 1000));
        must(kv_commit(db, batch, NULL, NULL, &err), &err);
        size_t other = (size_t)kv_prng_below(&prng, GROUPS);
        KV_ASSERT(sum_of(NULL, me, group) == sums[me][group] && sum_of(NULL, me, other) == sums[me][other]);
    }
    kv_batch_free(batch);
    atomic_fetch_sub(&working, 1);
}

/* A snapshot's sums stay, whatever is merged and deleted beside it. */
static void read_all(void *ctx)
{
    struct kv_err err = {0};
    (void)ctx;
    while (atomic_load(&working) > 0) {
        struct kv_snapshot *snapshot = NULL;
        uint64_t first[WRITERS][GROUPS];
        must(kv_snapshot_open(db, &snapshot), &err);
        for (int again = 0; again < 2; again++)
            for (size_t w = 0; w < WRITERS; w++)
                for (size_t g = 0; g < GROUPS; g++) {
                    uint64_t sum = sum_of(snapshot, w, g);
                    KV_ASSERT(!again || sum == first[w][g]);
                    first[w][g] = sum;
                }
        kv_snapshot_close(snapshot);
    }
}

static void maintain(void *ctx)
{
    struct kv_err err = {0};
    (void)ctx;
    while (atomic_load(&working) > 0)
        must(kv_merge_range(db, 0, (kv_slice){0}, (kv_slice){0}, &err), &err);
}

int main(void)
{
    static const struct kv_hook hook = {NULL, group_len, sum_begin, sum_group, sum_end};
    struct kv_vfs *vfs = kv_vfs_mem_new();
    struct kv_env_options env_options = {.vfs = vfs, .threads = 3};
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    struct kv_space_options space = {.name = "a", .hook = &hook, .block_bytes = 512, .table_bytes = 4096};
    struct kv_options options = {
        .spaces = &space, .n_spaces = 1, .memtable_bytes = 16 << 10, .disk_reserve_bytes = 4096};
    must(kv_env_open(&env_options, &env, &err), &err);
    for (int life = 0; life < LIVES; life++) {
        kv_thread threads[WRITERS + 2] = {0};
        must(kv_open(env, "db", &options, &db, &err), &err);
        atomic_store(&working, WRITERS);
        for (size_t i = 0; i < WRITERS; i++)
            must(kv_thread_start(&threads[i], "writer", 0, write_all, (void *)(uintptr_t)i), &err);
        must(kv_thread_start(&threads[WRITERS], "reader", 0, read_all, NULL), &err);
        must(kv_thread_start(&threads[WRITERS + 1], "keeper", 0, maintain, NULL), &err);
        for (size_t i = 0; i < WRITERS + 2; i++)
            kv_thread_join(&threads[i]);
        for (size_t w = 0; w < WRITERS; w++)
            for (size_t g = 0; g < GROUPS; g++)
                KV_ASSERT(sum_of(NULL, w, g) == sums[w][g]);
        must(kv_close(db, &err), &err);
        must(kv_check(env, "db", NULL, NULL, &err), &err);
    }
    KV_ASSERT(atomic_load(&merged) > 1000); /* else nothing was tried */
    kv_env_close(env);
    kv_vfs_mem_free(vfs);
    printf("%llu entries became one with a neighbour\n", (unsigned long long)atomic_load(&merged));
    return 0;
}
