/*
 * Backups and streams beside writers, flushes and merges. Every commit writes one number under two keys, of two spaces; so does a restored
 * backup hold equal numbers under both, and none older than what was answered before it began. A stream by several threads sees one
 * moment: every writer's keys carry no more than one number. Exit 0: all of that held.
 */
#include "kvcore/base/assert.h"
#include "kvcore/kv.h"
#include "kvcore/os/thread.h"
#include "kvcore/os/vfs.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { WRITERS = 2, KEYS = 50, COMMITS = 400, BACKUPS = 12 };

static struct kv_env *env;
static struct kv_db *db;
static _Atomic int working;
static _Atomic uint64_t acked[WRITERS];
static const struct kv_space_options spaces[] = {{.name = "a"}, {.name = "b", .style = KV_STYLE_LEVELLED}};

static void must(kv_status rc, const struct kv_err *err)
{
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", kv_status_name(rc), err->text);
        abort();
    }
}

static kv_slice key_of(size_t writer, int i, char out[16])
{
    return kv_slice_of(out, (size_t)snprintf(out, 16, "w%zu-%02d", writer, i));
}

/* All keys of a writer get the same number in one commit. */
static void write_all(void *ctx)
{
    size_t me = (size_t)(uintptr_t)ctx;
    struct kv_batch *batch = NULL;
    struct kv_err err = {0};
    char key[16], value[64];
    must(kv_batch_new(&batch), &err);
    for (uint64_t n = 1; n <= COMMITS; n++) {
        kv_slice v =
            kv_slice_of(value, (size_t)snprintf(value, sizeof value, "%040llu", (unsigned long long)n));
        kv_batch_clear(batch);
        for (int i = 0; i < KEYS; i++) {
            must(kv_batch_put(batch, 0, key_of(me, i, key), v), &err);
            must(kv_batch_put(batch, 1, key_of(me, i, key), v), &err);
        }
        must(kv_commit(db, batch, NULL, NULL, &err), &err);
        atomic_store(&acked[me], n);
        if (n % 50 == 0)
            must(kv_flush(db, &err), &err);
    }
    kv_batch_free(batch);
    atomic_fetch_sub(&working, 1);
}

/* ---- one moment */

struct moment {
    uint64_t number[WRITERS];
    int keys[WRITERS];
};

static kv_status look(void *ctx, const struct kv_stream_batch *batch, struct kv_err *err)
{
    struct moment *moment = ctx;
    (void)err;
    for (size_t i = 0; i < batch->n; i++) {
        char text[64];
        snprintf(text, sizeof text, "%.*s", KV_ARG(batch->entries[i].value));
        size_t writer = (size_t)(batch->entries[i].key.data[1] - '0');
        uint64_t n = strtoull(text, NULL, 10);
        KV_ASSERT(moment->keys[writer] == 0 || moment->number[writer] == n);
        moment->number[writer] = n;
        moment->keys[writer]++;
    }
    return KV_OK;
}

static void stream_moment(struct kv_db *of, uint32_t space, struct moment *out)
{
    struct kv_err err = {0};
    struct kv_stream_options options = {
        .space = space, .threads = 3, .batch_bytes = 500, .send = look, .ctx = out};
    *out = (struct moment){0};
    must(kv_stream(of, &options, NULL, &err), &err);
    for (size_t w = 0; w < WRITERS; w++)
        KV_ASSERT(out->keys[w] == 0 || out->keys[w] == KEYS);
}

static void check_restored(const char *path, const uint64_t at_least[WRITERS])
{
    struct kv_options options = {.spaces = spaces, .n_spaces = 2, .read_only = true};
    struct kv_db *copy = NULL;
    struct kv_err err = {0};
    struct moment a, b;
    must(kv_open(env, path, &options, &copy, &err), &err);
    stream_moment(copy, 0, &a);
    stream_moment(copy, 1, &b);
    for (size_t w = 0; w < WRITERS; w++) {
        KV_ASSERT(a.number[w] == b.number[w]);
        KV_ASSERT(a.number[w] >= at_least[w]);
    }
    must(kv_close(copy, &err), &err);
}

int main(void)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct kv_env_options env_options = {.vfs = disk, .threads = 2};
    struct kv_options options = {
        .spaces = spaces, .n_spaces = 2, .memtable_bytes = 256 << 10, .log_file_bytes = 64 << 10};
    struct kv_repository repository = {.path = "backups"};
    struct kv_err err = {0};
    kv_thread threads[WRITERS];
    must(kv_env_open(&env_options, &env, &err), &err);
    must(kv_open(env, "db", &options, &db, &err), &err);
    working = WRITERS;
    for (size_t w = 0; w < WRITERS; w++)
        must(kv_thread_start(&threads[w], "writer", 0, write_all, (void *)(uintptr_t)w), &err);
    int backups = 0;
    do {
        struct kv_backup_options how = {.repository = &repository, .keep = 3};
        struct kv_restore_options back = {.repository = &repository};
        struct moment moment;
        uint64_t before[WRITERS];
        char path[24];
        for (size_t w = 0; w < WRITERS; w++)
            before[w] = acked[w];
        must(kv_backup(db, &how, NULL, &err), &err);
        snprintf(path, sizeof path, "copy%d", backups);
        must(kv_restore(env, path, &back, NULL, &err), &err);
        check_restored(path, before);
        stream_moment(db, 0, &moment);
        for (size_t w = 0; w < WRITERS; w++)
            KV_ASSERT(moment.number[w] >= before[w]);
    } while (++backups < BACKUPS || working > 0);
    for (size_t w = 0; w < WRITERS; w++)
        kv_thread_join(&threads[w]);
    must(kv_backup_verify(env, &(struct kv_restore_options){.repository = &repository}, NULL, NULL, &err),
         &err);
    must(kv_close(db, &err), &err);
    kv_env_close(env);
    kv_vfs_mem_free(disk);
    printf("%d backups beside %d commits of %d writers\n", backups, COMMITS, WRITERS);
    return 0;
}
