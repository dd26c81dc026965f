/*
 * A database under everything at once: commits, gets, scans, flushes, merges, bulk loads, drops, checkpoints, metrics. Every commit writes
 * the same number under one key in two spaces; every bulk load one generation under all its keys. A reader that sees two numbers in one
 * snapshot, or a number go back, has found a bug. Then the same again in an encrypted database whose keys change all the time. Exit 0:
 * none did.
 */
#include "kvcore/base/assert.h"
#include "kvcore/kv.h"
#include "kvcore/os/thread.h"
#include "kvcore/os/vfs.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { WRITERS = 3, READERS = 2, COMMITS = 1500, LOADS = 25, LOADED_KEYS = 40, CHECKPOINTS = 4 };

static struct kv_db *db;
static bool encrypted;
static const uint8_t masters[2][KV_MASTER_KEY_LEN] = {"one master key", "another"};
static _Atomic int working;
static _Atomic uint64_t records, acked[WRITERS];

static void must(kv_status rc, const struct kv_err *err)
{
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", kv_status_name(rc), err->text);
        abort();
    }
}

static void on_record(void *ctx, uint64_t seq, kv_slice record, void *commit_ctx)
{
    (void)ctx, (void)seq, (void)record, (void)commit_ctx;
    atomic_fetch_add(&records, 1);
}

static kv_slice writer_key(size_t writer, char out[8])
{
    return kv_slice_of(out, (size_t)snprintf(out, 8, "w%zu", writer));
}

static void write_all(void *ctx)
{
    size_t me = (size_t)(uintptr_t)ctx;
    struct kv_batch *batch = NULL;
    struct kv_err err = {0};
    char key[8], value[64];
    must(kv_batch_new(&batch), &err);
    for (uint64_t i = 1; i <= COMMITS; i++) {
        kv_slice k = writer_key(me, key),
                 v = kv_slice_of(value,
                                 (size_t)snprintf(value, sizeof value, "%030llu", (unsigned long long)i));
        struct kv_commit_options options = {.record = i % 8 ? (kv_slice){0} : v};
        kv_batch_clear(batch);
        must(kv_batch_put(batch, 0, k, v), &err);
        must(kv_batch_put(batch, 1, k, v), &err);
        if (i % 5 == 0)
            must(kv_batch_delete(batch, 1, KV_STR("never")), &err);
        must(kv_commit(db, batch, &options, NULL, &err), &err);
        atomic_store(&acked[me], i);
    }
    kv_batch_free(batch);
    atomic_fetch_sub(&working, 1);
}

static uint64_t number_at(const struct kv_snapshot *snapshot, uint32_t space, kv_slice key)
{
    struct kv_pinned found;
    struct kv_err err = {0};
    kv_status rc = kv_get(db, snapshot, space, key, &found, &err);
    must(rc, &err);
    char text[64] = "0";
    if (rc == KV_OK)
        snprintf(text, sizeof text, "%.*s", KV_ARG(found.value));
    kv_pinned_release(&found);
    return strtoull(text, NULL, 10);
}

/* All loaded keys have one generation. */
static uint64_t generation_of(const struct kv_snapshot *snapshot)
{
    struct kv_iter *it = NULL;
    struct kv_err err = {0};
    kv_status rc;
    uint64_t generation = 0, n = 0;
    must(kv_iter_open(db, snapshot, 0, KV_STR("load"), KV_STR("loae"), &it), &err);
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it), n++) {
        char text[32];
        snprintf(text, sizeof text, "%.*s", KV_ARG(it->value));
        uint64_t here = strtoull(text, NULL, 10);
        KV_ASSERT(n == 0 || here == generation);
        generation = here;
    }
    must(rc, &err);
    KV_ASSERT(n == 0 || n == LOADED_KEYS);
    kv_iter_close(it);
    return generation;
}

static void read_all(void *ctx)
{
    uint64_t seen[WRITERS] = {0}, generation = 0;
    struct kv_err err = {0};
    char key[8];
    (void)ctx;
    while (atomic_load(&working) > 0) {
        struct kv_snapshot *snapshot = NULL;
        uint64_t before[WRITERS];
        for (size_t w = 0; w < WRITERS; w++)
            before[w] = atomic_load(&acked[w]);
        must(kv_snapshot_open(db, &snapshot), &err);
        for (size_t w = 0; w < WRITERS; w++) {
            uint64_t a = number_at(snapshot, 0, writer_key(w, key)),
                     b = number_at(snapshot, 1, writer_key(w, key));
            KV_ASSERT(a == b);
            KV_ASSERT(a >= seen[w]);
            KV_ASSERT(a >= before[w]);
            seen[w] = a;
        }
        uint64_t now = generation_of(snapshot);
        KV_ASSERT(now >= generation);
        generation = now;
        kv_snapshot_close(snapshot);
    }
}

static void load_all(void *ctx)
{
    struct kv_err err = {0};
    (void)ctx;
    for (int load = 1; load <= LOADS; load++) {
        struct kv_bulk *bulk = NULL;
        char key[16], value[16];
        int n = snprintf(value, sizeof value, "%d", load);
        must(kv_bulk_open(db, 0, &bulk, &err), &err);
        for (int k = 0; k < LOADED_KEYS; k++)
            must(kv_bulk_add(bulk, kv_slice_of(key, (size_t)snprintf(key, sizeof key, "load%03d", k)),
                             kv_slice_of(value, (size_t)n), &err),
                 &err);
        must(kv_bulk_install(bulk, load % 3 ? 0 : kv_seq(db), NULL, &err), &err);
    }
    atomic_fetch_sub(&working, 1);
}

static void count_metric(void *ctx, const char *name, const char *help, bool counter, double value)
{
    (void)name, (void)help, (void)counter, (void)value;
    *(int *)ctx += 1;
}

static kv_status key_of(void *ctx, uint64_t id, uint8_t key[KV_MASTER_KEY_LEN])
{
    uint64_t first = 0;
    (void)ctx;
    kv_status rc = kv_master_key_id(masters[0], &first);
    memcpy(key, masters[id && id != first], KV_MASTER_KEY_LEN);
    return rc;
}

static void rotate(int round)
{
    struct kv_err err = {0};
    must(kv_rotate_data_key(db, &err), &err);
    if (round % 2)
        must(kv_rotate_master_key(db, masters[(round + 1) / 2 % 2], &err), &err);
}

static void maintain(void *ctx)
{
    struct kv_err err = {0};
    uint64_t bytes;
    int metrics = 0, copies = 0;
    (void)ctx;
    for (int round = 0; atomic_load(&working) > 0; round++) {
        char path[16];
        must(kv_flush(db, &err), &err);
        if (encrypted)
            rotate(round);
        if (round % 3 == 0)
            must(kv_merge_range(db, (uint32_t)(round % 2), (kv_slice){0}, (kv_slice){0}, &err), &err);
        must(kv_drop_tables(db, 1, KV_STR("x"), KV_STR("y"), &bytes, &err), &err);
        kv_metrics(db, count_metric, &metrics);
        KV_ASSERT(kv_disk_bytes(db) > 0 && kv_health(db, &err) == KV_OK && kv_retention_clock_ms(db) > 0);
        if (round % 10 == 0 && copies < CHECKPOINTS) {
            snprintf(path, sizeof path, "copy%d", copies++);
            must(kv_checkpoint(db, path, &err), &err);
        }
    }
}

static void check_copy(struct kv_env *env, const struct kv_options *options, const char *path)
{
    struct kv_err err = {0};
    char key[8];
    if (kv_open(env, path, options, &db, &err) == KV_MISSING)
        return;
    for (size_t w = 0; w < WRITERS; w++)
        KV_ASSERT(number_at(NULL, 0, writer_key(w, key)) == number_at(NULL, 1, writer_key(w, key)));
    generation_of(NULL);
    must(kv_close(db, &err), &err);
    must(kv_check_with_key(env, path, &options->key, NULL, NULL, &err), &err);
}

static void live(void)
{
    struct kv_vfs *vfs = kv_vfs_mem_new();
    struct kv_env_options env_options = {.vfs = vfs, .threads = 2};
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    struct kv_space_options spaces[] = {{.name = "a"}, {.name = "b"}};
    struct kv_options options = {.spaces = spaces,
                                 .n_spaces = 2,
                                 .memtable_bytes = 16 << 10,
                                 .log_file_bytes = 32 << 10,
                                 .disk_reserve_bytes = 4096,
                                 .apply = on_record};
    if (encrypted)
        options.key.key_of = key_of;
    atomic_store(&records, 0);
    for (size_t w = 0; w < WRITERS; w++)
        atomic_store(&acked[w], 0);
    kv_thread writers[WRITERS] = {0}, readers[READERS] = {0}, loader = {0}, keeper = {0};
    char path[16], key[8];
    must(kv_env_open(&env_options, &env, &err), &err);
    must(kv_open(env, "db", &options, &db, &err), &err);
    atomic_store(&working, WRITERS + 1);
    for (size_t i = 0; i < WRITERS; i++)
        must(kv_thread_start(&writers[i], "writer", 0, write_all, (void *)(uintptr_t)i), &err);
    for (size_t i = 0; i < READERS; i++)
        must(kv_thread_start(&readers[i], "reader", 0, read_all, NULL), &err);
    must(kv_thread_start(&loader, "loader", 0, load_all, NULL), &err);
    must(kv_thread_start(&keeper, "keeper", 0, maintain, NULL), &err);
    for (size_t i = 0; i < WRITERS; i++)
        kv_thread_join(&writers[i]);
    for (size_t i = 0; i < READERS; i++)
        kv_thread_join(&readers[i]);
    kv_thread_join(&loader);
    kv_thread_join(&keeper);
    KV_ASSERT(atomic_load(&records) == WRITERS * (COMMITS / 8));
    for (size_t w = 0; w < WRITERS; w++)
        KV_ASSERT(number_at(NULL, 1, writer_key(w, key)) == COMMITS);
    must(kv_close(db, &err), &err);
    must(kv_check_with_key(env, "db", &options.key, NULL, NULL, &err), &err);
    for (int i = 0; i < CHECKPOINTS; i++) {
        snprintf(path, sizeof path, "copy%d", i);
        struct kv_options existing = options;
        existing.must_exist = true;
        check_copy(env, &existing, path);
    }
    kv_env_close(env);
    kv_vfs_mem_free(vfs);
}

int main(void)
{
    live();
    encrypted = true;
    live();
    puts("ok");
    return 0;
}
