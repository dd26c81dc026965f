/* Each thread has keys of its own and writes the numbers 1, 2, 3 ... to one of them after the other; a number divisible by seven is a
 * deletion. All of them also add to one counter by transactions. */
#include "tests/model/committers.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/prng.h"
#include "kvcore/os/clock.h"
#include "kvcore/os/thread.h"
#include "kvcore/os/vfs.h"
#include "tests/model/options.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 4, KEYS = MODEL_KEYS / THREADS, GONE_EVERY = 7, CLONES = 3 };
static const uint32_t written_spaces[] = {SPACE_RUNS, SPACE_LEVELS, SPACE_VERSIONS};
enum { WRITTEN = sizeof written_spaces / sizeof *written_spaces };

struct shared {
    struct kv_db *db;
    uint64_t seed, commits;
    _Atomic uint64_t acked[WRITTEN][MODEL_KEYS], begun[WRITTEN][MODEL_KEYS]; /* numbers */
    _Atomic uint64_t added, adding; /* to the counter: answered, begun */
    _Atomic int running;
};
struct committer {
    struct shared *shared;
    uint32_t number;
};

static _Noreturn void fail(const char *what, kv_status rc, const struct kv_err *err, uint64_t found,
                           uint64_t least, uint64_t most)
{
    fprintf(stderr, "%s: %s: %s (found %" PRIu64 ", %" PRIu64 " to %" PRIu64 ")\n", what, kv_status_name(rc),
            rc < 0 ? err->text : "", found, least, most);
    exit(1);
}

/* Is it a number from least (acknowledged) to most (begun)? */
static void check_key(struct kv_db *db, uint32_t at, uint32_t key, uint64_t least, uint64_t most)
{
    struct kv_pinned got;
    struct kv_err err;
    char text[32] = "";
    kv_status rc = kv_get(db, NULL, written_spaces[at], model_key(key), &got, &err);
    if (rc == KV_OK)
        snprintf(text, sizeof text, "%.*s", (int)got.value.len, (const char *)got.value.data);
    uint64_t found = strtoull(text, NULL, 10);
    bool gone = least == 0; /* or a number that deletes lies in between */
    for (uint64_t n = least; n <= most && !gone; n++)
        gone = n % GONE_EVERY == 0;
    if (rc == KV_OK ? found < least || found > most || found % GONE_EVERY == 0 : rc != KV_NOT_FOUND || !gone)
        fail("a key of one thread", rc, &err, found, least, most);
    kv_pinned_release(&got);
}

static void commit_one(struct committer *me, struct kv_batch *batch, struct kv_prng *prng)
{
    struct shared *shared = me->shared;
    struct kv_err err;
    uint32_t key = me->number * KEYS + (uint32_t)kv_prng_below(prng, KEYS),
             at = (uint32_t)kv_prng_below(prng, WRITTEN);
    uint64_t n = atomic_load(&shared->acked[at][key]) + 1;
    char text[32];
    kv_slice value = kv_slice_of(text, (size_t)snprintf(text, sizeof text, "%" PRIu64, n));
    kv_batch_clear(batch);
    kv_status rc = n % GONE_EVERY ? kv_batch_put(batch, written_spaces[at], model_key(key), value)
                                  : kv_batch_delete(batch, written_spaces[at], model_key(key));
    atomic_store(&shared->begun[at][key], n);
    if (rc == KV_OK)
        rc = kv_commit(shared->db, batch, NULL, NULL, &err);
    if (rc != KV_OK)
        fail("a commit", rc, &err, 0, n, n);
    atomic_store(&shared->acked[at][key], n);
    check_key(shared->db, at, key, n, n);
}

static kv_status add_one(void *ctx, struct kv_txn *txn, struct kv_err *err)
{
    struct kv_pinned got;
    char text[32] = "0";
    (void)ctx;
    kv_status rc = kv_txn_get(txn, SPACE_MERGE, model_key(0), &got, err);
    if (rc == KV_OK)
        snprintf(text, sizeof text, "%.*s", (int)got.value.len, (const char *)got.value.data);
    kv_pinned_release(&got);
    if (rc < 0)
        return rc;
    uint64_t n = strtoull(text, NULL, 10) + 1;
    return kv_txn_put(txn, SPACE_MERGE, model_key(0),
                      kv_slice_of(text, (size_t)snprintf(text, sizeof text, "%" PRIu64, n)), err);
}

static void add(struct shared *shared)
{
    struct kv_err err;
    atomic_fetch_add(&shared->adding, 1);
    kv_status rc = kv_txn_run(shared->db, NULL, 1000000, add_one, NULL, NULL, &err);
    if (rc != KV_OK)
        fail("a transaction", rc, &err, 0, 0, 0);
    atomic_fetch_add(&shared->added, 1);
}

static void commit_all(void *ctx)
{
    struct committer *me = ctx;
    struct kv_batch *batch = NULL;
    struct kv_prng prng;
    kv_prng_init(&prng, me->shared->seed * THREADS + me->number);
    kv_status rc = kv_batch_new(&batch);
    KV_ASSERT(rc == KV_OK);
    for (uint64_t i = 0; i < me->shared->commits; i++)
        if (kv_prng_below(&prng, 4))
            commit_one(me, batch, &prng);
        else
            add(me->shared);
    kv_batch_free(batch);
    atomic_fetch_sub(&me->shared->running, 1);
}

/* ---- looking at all of it */

struct bounds {
    uint64_t least[WRITTEN][MODEL_KEYS], most[WRITTEN][MODEL_KEYS], counter_least, counter_most;
};

static void take(uint64_t out[WRITTEN][MODEL_KEYS], _Atomic uint64_t from[WRITTEN][MODEL_KEYS])
{
    for (size_t s = 0; s < WRITTEN; s++)
        for (size_t k = 0; k < MODEL_KEYS; k++)
            out[s][k] = atomic_load(&from[s][k]);
}

static void check_all(struct kv_db *db, const struct bounds *bounds)
{
    struct kv_pinned got;
    struct kv_err err;
    char text[32] = "";
    for (uint32_t s = 0; s < WRITTEN; s++)
        for (uint32_t k = 0; k < MODEL_KEYS; k++)
            check_key(db, s, k, bounds->least[s][k], bounds->most[s][k]);
    kv_status rc = kv_get(db, NULL, SPACE_MERGE, model_key(0), &got, &err);
    if (rc == KV_OK)
        snprintf(text, sizeof text, "%.*s", (int)got.value.len, (const char *)got.value.data);
    uint64_t found = strtoull(text, NULL, 10);
    if (rc < 0 || found < bounds->counter_least || found > bounds->counter_most)
        fail("the counter", rc, &err, found, bounds->counter_least, bounds->counter_most);
    kv_pinned_release(&got);
}

static void open_on(struct kv_vfs *vfs, struct option_set *set, struct kv_env **env, struct kv_db **db)
{
    struct kv_env_options how = {.vfs = vfs, .cache_bytes = set->cache_bytes, .threads = 2};
    struct kv_err err;
    set->options.spaces = set->spaces;
    set->options.n_spaces = MODEL_SPACES;
    kv_status rc = kv_env_open(&how, env, &err);
    if (rc == KV_OK)
        rc = kv_open(*env, "db", &set->options, db, &err);
    if (rc != KV_OK)
        fail("kv_open", rc, &err, 0, 0, 0);
}

static void check_on(struct kv_vfs *vfs, struct option_set *set, const struct bounds *bounds)
{
    struct kv_env *env = NULL;
    struct kv_db *db = NULL;
    struct kv_err err;
    open_on(vfs, set, &env, &db);
    check_all(db, bounds);
    kv_status rc = kv_close(db, &err);
    if (rc != KV_OK)
        fail("kv_close", rc, &err, 0, 0, 0);
    kv_env_close(env);
}

/* Power is lost for a copy of the disk while everybody goes on. */
static void lose_power(struct shared *shared, struct kv_vfs *vfs, struct option_set *set)
{
    static struct bounds bounds;
    take(bounds.least, shared->acked);
    bounds.counter_least = atomic_load(&shared->added);
    struct kv_vfs *clone = kv_vfs_mem_crash_clone(vfs);
    KV_ASSERT(clone != NULL);
    take(bounds.most, shared->begun);
    bounds.counter_most = atomic_load(&shared->adding);
    check_on(clone, set, &bounds);
    kv_vfs_mem_free(clone);
}

uint64_t committers_run(uint64_t seed, uint32_t options, uint64_t commits)
{
    static struct shared shared;
    static struct bounds bounds;
    struct option_set set;
    struct committer committers[THREADS];
    kv_thread threads[THREADS] = {0};
    struct kv_env *env = NULL;
    struct kv_err err;
    struct kv_vfs *vfs = kv_vfs_mem_new();
    KV_ASSERT(vfs != NULL);
    memset(&shared, 0, sizeof shared);
    shared.seed = seed;
    shared.commits = commits;
    shared.running = THREADS;
    option_set_make(options, options, &set);
    set.options.durability =
        set.options.durability == KV_DURABILITY_ALWAYS ? KV_DURABILITY_ALWAYS : KV_DURABILITY_GROUP;
    set.options.sync_interval_ms = 0;
    set.options.data_key_blocks = 0;
    open_on(vfs, &set, &env, &shared.db);
    for (uint32_t i = 0; i < THREADS; i++) {
        committers[i] = (struct committer){&shared, i};
        kv_status rc = kv_thread_start(&threads[i], "committer", 0, commit_all, &committers[i]);
        KV_ASSERT(rc == KV_OK);
    }
    for (int i = 0; i < CLONES && atomic_load(&shared.running) > 0; i++) {
        kv_clock_sleep_ns(kv_clock_system(), 2000000);
        lose_power(&shared, vfs, &set);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        kv_thread_join(&threads[i]);
    take(bounds.least, shared.acked);
    take(bounds.most, shared.acked);
    bounds.counter_least = bounds.counter_most = shared.added;
    check_all(shared.db, &bounds);
    kv_status rc = kv_close(shared.db, &err);
    if (rc != KV_OK)
        fail("kv_close", rc, &err, 0, 0, 0);
    kv_env_close(env);
    check_on(vfs, &set, &bounds);
    kv_vfs_mem_free(vfs);
    return commits * THREADS;
}
