/* Eight threads commit to one log while others sync, trim, read its counters and run exclusive sections; then it is opened again and
 * everything answered must be there, once, in order. Exit 0: fine. */
#include "tests/support/log_kit.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 8, COMMITS = 400 };

struct worker {
    kv_thread thread;
    struct log_kit *kit;
    uint64_t first_id;
    uint64_t seqs[COMMITS];
};

static _Atomic bool stop;

static void worker_main(void *ctx)
{
    struct worker *worker = ctx;
    for (uint64_t i = 0; i < COMMITS; i++) {
        struct kv_err err = {0};
        if (log_kit_commit(worker->kit, worker->first_id + i, &worker->seqs[i], &err) < 0)
            log_kit_die("commit: %s", err.text);
        if (kv_committer_visible(worker->kit->committer) < worker->seqs[i])
            log_kit_die("answered before it is visible");
    }
}

static kv_status run_nothing(void *ctx, uint64_t seq, struct kv_err *err)
{
    (void)err;
    *(uint64_t *)ctx = seq;
    return KV_OK;
}

static kv_status each_file(void *ctx, const struct kv_log_seal *file, bool sealed)
{
    (void)ctx, (void)file, (void)sealed;
    return KV_OK;
}

static void meddler_main(void *ctx)
{
    struct log_kit *kit = ctx;
    while (!stop) {
        struct kv_log_stats log;
        struct kv_committer_stats stats;
        uint64_t seq;
        kv_log_stats(kit->log, &log);
        kv_committer_stats(kit->committer, &stats);
        if (kv_committer_sync(kit->committer, NULL) < 0 || kv_committer_tick(kit->committer, NULL) < 0 ||
            kv_committer_exclusive(kit->committer, false, run_nothing, &seq, NULL) < 0 ||
            kv_log_files(kit->log, each_file, NULL) < 0)
            log_kit_die("meddling failed");
        kv_clock_sleep_ns(kv_clock_system(), 200000);
    }
}

static void check(const struct log_kit_seen *seen, struct worker *workers)
{
    if (seen->n != (uint64_t)THREADS * COMMITS)
        log_kit_die("%zu commits came back, %d were answered", seen->n, THREADS * COMMITS);
    for (int t = 0; t < THREADS; t++)
        for (uint64_t i = 0; i < COMMITS; i++) {
            uint64_t seq = workers[t].seqs[i];
            if (seq == 0 || seq > seen->n || seen->ids[seq - 1] != workers[t].first_id + i)
                log_kit_die("commit %" PRIu64 " is not where it was answered", workers[t].first_id + i);
        }
}

static void run(enum kv_durability durability)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    static struct log_kit kit; /* large */
    struct worker *workers = calloc(THREADS, sizeof *workers);
    kv_thread meddler;
    struct kv_err err = {0};
    struct log_kit_options options = {.durability = durability,
                                      .sync_interval_ms = 10,
                                      .file_bytes = 64 << 10,
                                      .disk_reserve_bytes = 1 << 20};
    if (!disk || !workers || log_kit_open(&kit, disk, &options, &err) < 0)
        log_kit_die("open: %s", err.text);
    stop = false;
    if (kv_thread_start(&meddler, "meddler", 0, meddler_main, &kit) < 0)
        log_kit_die("no thread");
    for (int t = 0; t < THREADS; t++) {
        workers[t].kit = &kit;
        workers[t].first_id = 1 + (uint64_t)t * 100000;
        if (kv_thread_start(&workers[t].thread, "worker", 0, worker_main, &workers[t]) < 0)
            log_kit_die("no thread");
    }
    for (int t = 0; t < THREADS; t++)
        kv_thread_join(&workers[t].thread);
    stop = true;
    kv_thread_join(&meddler);
    check(&kit.applied, workers);
    if (log_kit_close(&kit, &err) < 0)
        log_kit_die("close: %s", err.text);
    if (log_kit_open(&kit, disk, &options, &err) < 0)
        log_kit_die("open again: %s", err.text);
    check(&kit.recovered, workers);
    if (log_kit_close(&kit, &err) < 0)
        log_kit_die("close again: %s", err.text);
    free(workers);
    kv_vfs_mem_free(disk);
}

int main(void)
{
    static const enum kv_durability all[] = {KV_DURABILITY_GROUP, KV_DURABILITY_ALWAYS,
                                             KV_DURABILITY_INTERVAL, KV_DURABILITY_OS};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        run(all[i]);
    printf("%d commits by %d threads in each durability\n", THREADS * COMMITS, THREADS);
    return 0;
}
