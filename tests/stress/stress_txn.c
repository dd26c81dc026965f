/*
 * Transactions under threads, flushes, merges and bulk loads, judged by executing what was committed one after another (tests/support/
 * txn_history.h). Exit 0: every history was serial.
 */
#include "kvcore/os/vfs.h"
#include "tests/support/txn_history.h"

#include <stdio.h>
#include <stdlib.h>

static int run(uint64_t seed, enum kv_style style)
{
    bool merges = seed % 5 > 2;
    const struct kv_merge_operator *merge = merges ? &txn_history_operator : NULL;
    struct kv_space_options spaces[] = {{.name = "a", .style = style, .merge = merge},
                                        {.name = "b", .style = style, .merge = merge}};
    struct kv_options options = {.spaces = spaces, .n_spaces = 2, .memtable_bytes = 8 << 10};
    struct kv_vfs *vfs = kv_vfs_mem_new();
    struct kv_env_options env_options = {.vfs = vfs, .threads = 2};
    struct kv_env *env = NULL;
    struct kv_db *db = NULL;
    struct kv_err err = {0};
    struct txn_history_stats stats;
    if (!vfs || kv_env_open(&env_options, &env, &err) < 0 || kv_open(env, "db", &options, &db, &err) < 0) {
        fprintf(stderr, "open: %s\n", err.text);
        return 1;
    }
    struct txn_history_options how = {.db = db,
                                      .seed = seed,
                                      .threads = 4,
                                      .per_thread = 1000,
                                      .loads = seed % 2,
                                      .ranges = seed % 4 > 1,
                                      .async = seed % 3 > 0,
                                      .merges = merges};
    const char *wrong = txn_history_run(&how, &stats);
    printf("seed %llu: %llu committed, %llu conflicts, %llu read only, %llu blind: %s\n",
           (unsigned long long)seed, (unsigned long long)stats.committed, (unsigned long long)stats.conflicts,
           (unsigned long long)stats.read_only, (unsigned long long)stats.blind, wrong ? wrong : "serial");
    if (kv_close(db, &err) < 0) {
        fprintf(stderr, "close: %s\n", err.text);
        return 1;
    }
    kv_env_close(env);
    kv_vfs_mem_free(vfs);
    return wrong != NULL;
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1,
             n = argc > 2 ? strtoull(argv[2], NULL, 10) : 4;
    int failed = 0;
    for (uint64_t seed = first; seed < first + n; seed++)
        failed |= run(seed, seed % 3 ? KV_STYLE_RUNS : KV_STYLE_LEVELLED);
    return failed;
}
