/*
 * A follower with readers of its own beside a writer of the same process: commit i puts i under "n" and under one of KEYS keys, so a
 * snapshot that shows n shows of every key exactly what it must be. The writer flushes and merges in the background. Exit 0: every
 * snapshot was one moment, and none was older than the one before.
 */
#include "kvcore/base/assert.h"
#include "kvcore/kv.h"
#include "kvcore/os/thread.h"
#include "kvcore/os/vfs.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { KEYS = 32, READERS = 2, COMMITS = 30000 };

static struct kv_db *db, *follower;
static _Atomic uint64_t answered;
static _Atomic bool ended;

static void must(kv_status rc, const struct kv_err *err)
{
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", kv_status_name(rc), err->text);
        abort();
    }
}

static struct kv_db *open_one(struct kv_vfs *vfs, int threads, bool follow, struct kv_env **env)
{
    static const struct kv_space_options spaces[] = {{.name = "n"},
                                                     {.name = "keys", .style = KV_STYLE_LEVELLED}};
    struct kv_options options = {.spaces = spaces,
                                 .n_spaces = 2,
                                 .memtable_bytes = 64 << 10,
                                 .log_file_bytes = 64 << 10,
                                 .disk_reserve_bytes = 4096,
                                 .follow = follow};
    struct kv_err err = {0};
    struct kv_db *out = NULL;
    must(kv_env_open(&(struct kv_env_options){.vfs = vfs, .threads = threads}, env, &err), &err);
    must(kv_open(*env, "db", &options, &out, &err), &err);
    return out;
}

static void write_all(void *ctx)
{
    struct kv_batch *batch = NULL;
    struct kv_err err = {0};
    uint64_t value[16] = {0};
    (void)ctx;
    must(kv_batch_new(&batch), &err);
    for (uint64_t n = 1; n <= COMMITS; n++) {
        uint8_t key = (uint8_t)(n % KEYS);
        value[0] = n;
        kv_batch_clear(batch);
        must(kv_batch_put(batch, 0, KV_STR("n"), kv_slice_of(value, sizeof *value)), &err);
        must(kv_batch_put(batch, 1, kv_slice_of(&key, 1), kv_slice_of(value, sizeof value)), &err);
        must(kv_commit(db, batch, NULL, NULL, &err), &err);
        answered = n;
    }
    kv_batch_free(batch);
    ended = true;
}

static uint64_t number_of(const struct kv_snapshot *snapshot, uint32_t space, kv_slice key)
{
    struct kv_pinned found = {0};
    struct kv_err err = {0};
    uint64_t n = 0;
    kv_status rc = kv_get(follower, snapshot, space, key, &found, &err);
    must(rc, &err);
    if (rc == KV_OK)
        memcpy(&n, found.value.data, sizeof n);
    kv_pinned_release(&found);
    return n;
}

static void read_all(void *ctx)
{
    struct kv_err err = {0};
    uint64_t before = 0;
    (void)ctx;
    while (!ended) {
        struct kv_snapshot *snapshot = NULL;
        must(kv_snapshot_open(follower, &snapshot), &err);
        uint64_t n = number_of(snapshot, 0, KV_STR("n"));
        KV_ASSERT(n >= before);
        for (uint64_t k = 0; k < KEYS; k++) {
            uint8_t key = (uint8_t)k;
            uint64_t seen = number_of(snapshot, 1, kv_slice_of(&key, 1));
            KV_ASSERT(seen == (n < k ? 0 : n - (n - k) % KEYS));
        }
        before = n;
        kv_snapshot_close(snapshot);
    }
}

static void refresh_all(void *ctx)
{
    struct kv_err err = {0};
    (void)ctx;
    for (bool last = false; !last;) {
        last = ended;
        uint64_t least = answered;
        must(kv_follow_refresh(follower, NULL, &err), &err);
        KV_ASSERT(number_of(NULL, 0, KV_STR("n")) >= least);
    }
}

int main(void)
{
    struct kv_vfs *vfs = kv_vfs_mem_new();
    struct kv_env *env, *follower_env;
    kv_thread threads[READERS + 3];
    size_t n = 0;
    struct kv_err err = {0};
    KV_ASSERT(vfs != NULL);
    db = open_one(vfs, 2, false, &env);
    follower = open_one(vfs, KV_THREADS_NONE, true, &follower_env);
    must(kv_thread_start(&threads[n++], "write", 0, write_all, NULL), &err);
    must(kv_thread_start(&threads[n++], "refresh", 0, refresh_all, NULL), &err);
    must(kv_thread_start(&threads[n++], "refresh", 0, refresh_all, NULL), &err);
    for (int i = 0; i < READERS; i++)
        must(kv_thread_start(&threads[n++], "read", 0, read_all, NULL), &err);
    while (n > 0)
        kv_thread_join(&threads[--n]);
    KV_ASSERT(kv_seq(follower) == kv_seq(db));
    must(kv_close(follower, &err), &err);
    must(kv_close(db, &err), &err);
    kv_env_close(follower_env);
    kv_env_close(env);
    kv_vfs_mem_free(vfs);
    puts("a follower beside a writer: fine");
    return 0;
}
