/*
 * A levelled space under everything at once: writers that put, delete and read back keys of their own, scans under snapshots, bulk
 * loads, merges on demand, four workers that merge side by side; small levels, so that all of them are always at work. At the end
 * every key is what its writer left it as, and the directory is sound.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/prng.h"
#include "kvcore/kv.h"
#include "kvcore/os/thread.h"
#include "kvcore/os/vfs.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WRITERS = 3, KEYS = 400, ROUNDS = 1500, BATCH = 12, LOADS = 40 };

static struct kv_db *db;
static _Atomic int working;
static uint32_t values[WRITERS][KEYS]; /* each writer's own; 0: absent */

static void must(kv_status rc, const struct kv_err *err)
{
    if (rc < 0) {
        printf("%s: %s\n", kv_status_name(rc), err->text);
        abort();
    }
}

static kv_slice key_of(size_t writer, size_t k, char out[16])
{
    return kv_slice_of(out, (size_t)snprintf(out, 16, "k%04zu.%zu", k * 7919 % KEYS, writer));
}

static void expect(const struct kv_snapshot *snapshot, size_t writer, size_t k, uint32_t value)
{
    struct kv_pinned found;
    struct kv_err err = {0};
    char key[16];
    kv_status rc = kv_get(db, snapshot, 0, key_of(writer, k, key), &found, &err);
    must(rc, &err);
    char text[32] = "0";
    if (rc == KV_OK)
        snprintf(text, sizeof text, "%.*s", KV_ARG(found.value));
    KV_ASSERT(strtoul(text, NULL, 10) == value);
    kv_pinned_release(&found);
}

static void write_all(void *ctx)
{
    size_t me = (size_t)(uintptr_t)ctx;
    struct kv_prng prng;
    struct kv_batch *batch = NULL;
    struct kv_err err = {0};
    char key[16], value[32];
    kv_prng_init(&prng, 77 + me);
    must(kv_batch_new(&batch), &err);
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        kv_batch_clear(batch);
        for (int i = 0; i < BATCH; i++) {
            size_t k = (size_t)kv_prng_below(&prng, KEYS);
            bool delete = kv_prng_below(&prng, 3) == 0;
            values[me][k] = delete ? 0 : round;
            kv_slice v = kv_slice_of(value, (size_t)snprintf(value, sizeof value, "%020u", (unsigned)round));
            must(delete ? kv_batch_delete(batch, 0, key_of(me, k, key))
                        : kv_batch_put(batch, 0, key_of(me, k, key), v),
                 &err);
        }
        must(kv_commit(db, batch, NULL, NULL, &err), &err);
        for (int i = 0; i < 4; i++) {
            size_t k = (size_t)kv_prng_below(&prng, KEYS);
            expect(NULL, me, k, values[me][k]);
        }
    }
    kv_batch_free(batch);
    atomic_fetch_sub(&working, 1);
}

/* Two walks of one snapshot see the same. */
static uint64_t walk(const struct kv_snapshot *snapshot)
{
    struct kv_iter *it = NULL;
    struct kv_err err = {0};
    uint64_t sum = 0;
    kv_status rc;
    must(kv_iter_open(db, snapshot, 0, (kv_slice){0}, (kv_slice){0}, &it), &err);
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it)) {
        sum = sum * 31 + it->key.data[it->key.len - 1] + it->value.len;
        for (size_t i = 0; i < it->value.len; i++)
            sum = sum * 31 + it->value.data[i];
    }
    must(rc, &err);
    kv_iter_close(it);
    return sum;
}

static void read_all(void *ctx)
{
    struct kv_err err = {0};
    (void)ctx;
    while (atomic_load(&working) > 0) {
        struct kv_snapshot *snapshot = NULL;
        must(kv_snapshot_open(db, &snapshot), &err);
        uint64_t first = walk(snapshot);
        KV_ASSERT(walk(snapshot) == first);
        kv_snapshot_close(snapshot);
    }
}

/* Loads of keys that nobody else writes, here and there between the others. */
static void load_all(void *ctx)
{
    struct kv_err err = {0};
    char key[16];
    (void)ctx;
    for (int load = 0; load < LOADS; load++) {
        struct kv_bulk *bulk = NULL;
        must(kv_bulk_open(db, 0, &bulk, &err), &err);
        for (int k = 0; k < 10; k++) {
            kv_slice at = kv_slice_of(key, (size_t)snprintf(key, sizeof key, "k%04d.load", load * 10 + k));
            must(kv_bulk_add(bulk, at, KV_STR("loaded"), &err), &err);
        }
        must(kv_bulk_install(bulk, 0, NULL, &err), &err);
    }
    atomic_fetch_sub(&working, 1);
}

static void maintain(void *ctx)
{
    struct kv_prng prng;
    struct kv_err err = {0};
    (void)ctx;
    kv_prng_init(&prng, 5);
    while (atomic_load(&working) > 0) {
        struct kv_level_stats levels[KV_LEVELS_MAX];
        char low[16], high[16];
        kv_slice lower =
            kv_slice_of(low, (size_t)snprintf(low, sizeof low, "k%04d", (int)kv_prng_below(&prng, KEYS)));
        kv_slice upper =
            kv_slice_of(high, (size_t)snprintf(high, sizeof high, "k%04d", (int)kv_prng_below(&prng, KEYS)));
        must(kv_merge_range(db, 0, lower, upper, &err), &err);
        must(kv_drop_tables(db, 0, KV_STR("x"), KV_STR("y"), NULL, &err), &err);
        must(kv_levels(db, 0, levels), &err);
    }
}

struct work {
    double merges, moves;
};

static void count_work(void *ctx, const char *name, const char *help, bool counter, double value)
{
    struct work *work = ctx;
    (void)help, (void)counter;
    if (strcmp(name, "kv_merges_total") == 0)
        work->merges = value;
    if (strcmp(name, "kv_moved_tables_total") == 0)
        work->moves = value;
}

int main(void)
{
    struct kv_vfs *vfs = kv_vfs_mem_new();
    struct kv_env_options env_options = {.vfs = vfs, .threads = 4, .background_bytes_per_s = 64 << 20};
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    struct kv_space_options space = {.name = "a",
                                     .style = KV_STYLE_LEVELLED,
                                     .block_bytes = 512,
                                     .table_bytes = 2048,
                                     .level_base_bytes = 4096,
                                     .level_multiplier = 3,
                                     .level0_runs = 2};
    struct kv_options options = {.spaces = &space,
                                 .n_spaces = 1,
                                 .memtable_bytes = 16 << 10,
                                 .log_file_bytes = 64 << 10,
                                 .disk_reserve_bytes = 4096};
    kv_thread threads[WRITERS + 4] = {0};
    must(kv_env_open(&env_options, &env, &err), &err);
    must(kv_open(env, "db", &options, &db, &err), &err);
    atomic_store(&working, WRITERS + 1);
    for (size_t i = 0; i < WRITERS; i++)
        must(kv_thread_start(&threads[i], "writer", 0, write_all, (void *)(uintptr_t)i), &err);
    must(kv_thread_start(&threads[WRITERS], "reader", 0, read_all, NULL), &err);
    must(kv_thread_start(&threads[WRITERS + 1], "loader", 0, load_all, NULL), &err);
    must(kv_thread_start(&threads[WRITERS + 2], "keeper", 0, maintain, NULL), &err);
    must(kv_thread_start(&threads[WRITERS + 3], "keeper2", 0, maintain, NULL), &err);
    for (size_t i = 0; i < WRITERS + 4; i++)
        kv_thread_join(&threads[i]);
    struct work work = {0};
    kv_metrics(db, count_work, &work);
    KV_ASSERT(work.merges > 50 && work.moves > 5); /* else nothing was tried */
    for (int reopened = 0; reopened < 2; reopened++) {
        for (size_t w = 0; w < WRITERS; w++)
            for (size_t k = 0; k < KEYS; k++)
                expect(NULL, w, k, values[w][k]);
        must(kv_close(db, &err), &err);
        must(kv_check(env, "db", NULL, NULL, &err), &err);
        if (!reopened)
            must(kv_open(env, "db", &options, &db, &err), &err);
    }
    kv_env_close(env);
    kv_vfs_mem_free(vfs);
    puts("ok");
    return 0;
}
