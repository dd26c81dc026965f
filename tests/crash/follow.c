/*
 * follow DIR [SECONDS [SEED]]: a writer and followers in processes of their own, and kill -9 of either side, for a while.
 *
 * Commit i puts i under "n", and under one of KEYS keys of another space, in turns: so who sees n sees of every key exactly what it
 * must be. A follower must see at least what was answered before its refresh began, at most what had been begun when it ended,
 * never less than before, and in one snapshot a whole prefix. Exit 0: it was so.
 */
#include "kvcore/base/prng.h"
#include "kvcore/kv.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KEYS = 64, FOLLOWERS = 2 };

/* Seen by all processes. */
static struct shared {
    _Atomic uint64_t begun, answered; /* commits */
    _Atomic uint64_t refreshes, shown;
} * shared;
static const char *path;
static enum kv_durability durability; /* of the next writer: a kill takes nothing of either from the kernel */

static void must(kv_status rc, const char *what, const struct kv_err *err)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "process %ld: %s: %s: %s\n", (long)getpid(), what, kv_status_name(rc), err->text);
    _exit(2);
}

static void wrong(const char *what, uint64_t a, uint64_t b)
{
    fprintf(stderr, "process %ld: %s: %llu, %llu\n", (long)getpid(), what, (unsigned long long)a,
            (unsigned long long)b);
    _exit(3);
}

static struct kv_db *db_open(bool follow, struct kv_env **env)
{
    static const struct kv_space_options spaces[] = {{.name = "n"},
                                                     {.name = "keys", .style = KV_STYLE_LEVELLED}};
    struct kv_options options = {.spaces = spaces,
                                 .n_spaces = 2,
                                 .memtable_bytes = 128 << 10,
                                 .log_file_bytes = 64 << 10,
                                 .durability = durability,
                                 .disk_reserve_bytes = 4096,
                                 .follow = follow};
    struct kv_env_options env_options = {.threads = follow ? KV_THREADS_NONE : 2};
    struct kv_err err = {0};
    struct kv_db *db = NULL;
    kv_status rc = kv_env_open(&env_options, env, &err);
    must(rc, "kv_env_open", &err);
    do
        rc = kv_open(*env, path, &options, &db, &err);
    while (rc == KV_BUSY); /* the one killed before may not be gone yet */
    must(rc, "kv_open", &err);
    return db;
}

static uint64_t number_of(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t space, kv_slice key)
{
    struct kv_pinned found = {0};
    struct kv_err err = {0};
    uint64_t n = 0;
    kv_status rc = kv_get(db, snapshot, space, key, &found, &err);
    must(rc, "kv_get", &err);
    if (rc == KV_OK)
        memcpy(&n, found.value.data, sizeof n); /* longer than that: the rest is padding */
    kv_pinned_release(&found);
    return n;
}

/* ---- the writer */

static void write_on(void)
{
    struct kv_env *env;
    struct kv_db *db = db_open(false, &env);
    struct kv_batch *batch = NULL;
    struct kv_err err = {0};
    uint8_t value[200] = {0};
    must(kv_batch_new(&batch), "kv_batch_new", &err);
    uint64_t n = number_of(db, NULL, 0, KV_STR("n"));
    if (n < atomic_load(&shared->answered))
        wrong("the writer has lost what was answered", n, atomic_load(&shared->answered));
    for (;;) {
        uint8_t key = (uint8_t)(++n % KEYS);
        memcpy(value, &n, sizeof n);
        kv_batch_clear(batch);
        must(kv_batch_put(batch, 0, KV_STR("n"), kv_slice_of(value, sizeof n)), "put", &err);
        must(kv_batch_put(batch, 1, kv_slice_of(&key, 1), kv_slice_of(value, sizeof value)), "put", &err);
        atomic_store(&shared->begun, n);
        must(kv_commit(db, batch, NULL, NULL, &err), "kv_commit", &err);
        atomic_store(&shared->answered, n);
        if (n % 500 == 0)
            must(kv_flush(db, &err), "kv_flush", &err);
        if (n % 1500 == 0)
            must(kv_merge_range(db, 1, (kv_slice){0}, (kv_slice){0}, &err), "kv_merge_range", &err);
    }
}

/* ---- a follower */

static void look(struct kv_db *db, uint64_t n)
{
    struct kv_snapshot *snapshot = NULL;
    struct kv_err err = {0};
    must(kv_snapshot_open(db, &snapshot), "kv_snapshot_open", &err);
    if (number_of(db, snapshot, 0, KV_STR("n")) != n)
        wrong("a snapshot is another moment", number_of(db, snapshot, 0, KV_STR("n")), n);
    for (uint64_t k = 0; k < KEYS; k++) {
        uint8_t key = (uint8_t)k;
        uint64_t last = n < k ? 0 : n - (n - k) % KEYS;
        uint64_t seen = number_of(db, snapshot, 1, kv_slice_of(&key, 1));
        if (seen != last)
            wrong("a key of another moment", seen, last);
    }
    kv_snapshot_close(snapshot);
}

static void follow_on(void)
{
    struct kv_env *env;
    struct kv_db *db = db_open(true, &env);
    struct kv_err err = {0};
    for (uint64_t before = 0;;) {
        uint64_t answered = atomic_load(&shared->answered);
        must(kv_follow_refresh(db, NULL, &err), "kv_follow_refresh", &err);
        uint64_t n = number_of(db, NULL, 0, KV_STR("n")), begun = atomic_load(&shared->begun);
        if (n < answered || n < before)
            wrong("a refresh shows too little", n, n < answered ? answered : before);
        if (n > begun)
            wrong("a refresh shows what never was", n, begun);
        look(db, n);
        before = n;
        atomic_fetch_add(&shared->refreshes, 1);
        atomic_store(&shared->shown, n);
    }
}

/* ---- all of them */

static pid_t start(void (*run)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        run();
        _exit(0);
    }
    if (pid < 0) {
        perror("fork");
        exit(2);
    }
    return pid;
}

/* Nobody ends by itself but by what it has found wrong. */
static int kill_one(pid_t pid)
{
    int status = 0;
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return 0;
    fprintf(stderr, "process %ld ended with status %d\n", (long)pid, status);
    return 1;
}

static void pause_ms(uint64_t ms)
{
    struct timespec for_so_long = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&for_so_long, NULL);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    path = argv[1];
    int seconds = argc > 2 ? atoi(argv[2]) : 4, failed = 0, kills = 0;
    struct kv_prng prng;
    kv_prng_init(&prng, argc > 3 ? strtoull(argv[3], NULL, 10) : 1);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 2;
    time_t end = time(NULL) + seconds;
    pid_t writer = start(write_on), followers[FOLLOWERS];
    while (atomic_load(&shared->answered) == 0 && time(NULL) < end + 60)
        pause_ms(10);
    for (int i = 0; i < FOLLOWERS; i++)
        followers[i] = start(follow_on);
    while (!failed && time(NULL) < end) {
        pause_ms(50 + kv_prng_below(&prng, 250));
        if (kv_prng_below(&prng, 2)) {
            failed |= kill_one(writer);
            pause_ms(kv_prng_below(&prng, 40)); /* followers go on without one */
            durability = durability ? KV_DURABILITY_GROUP : KV_DURABILITY_OS;
            writer = start(write_on);
        } else {
            failed |= kill_one(followers[0]);
            followers[0] = start(follow_on);
        }
        kills++;
    }
    failed |= kill_one(writer);
    uint64_t refreshes = atomic_load(&shared->refreshes);
    pause_ms(100);
    for (int i = 0; i < FOLLOWERS; i++)
        failed |= kill_one(followers[i]);
    printf("%d kills, %llu commits, %llu refreshes\n", kills,
           (unsigned long long)atomic_load(&shared->answered),
           (unsigned long long)atomic_load(&shared->refreshes));
    return failed || refreshes == 0;
}
