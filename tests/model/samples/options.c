#include "tests/model/samples/options.h"
#include "kvcore/base/prng.h"
#include "tests/model/samples/naive.h"

void samples_options(uint32_t set, uint32_t made_under, struct ts_options *out, uint64_t *cache_bytes)
{
    static const int64_t retentions[] = {INT64_MAX,        INT64_MAX,        0,
                                         NAIVE_DAY_MS / 2, 2 * NAIVE_DAY_MS, 9 * NAIVE_DAY_MS};
    static const uint64_t log_bytes[] = {0, 0, 500, 2000, 10000, 100000};
    struct kv_prng prng, made;
    kv_prng_init(&prng, set);
    kv_prng_init(&made, ~(uint64_t)made_under);
    *out =
        (struct ts_options){.labels_max = SAMPLES_LABELS_MAX, .label_value_len_max = SAMPLES_VALUE_LEN_MAX};
    *cache_bytes = 1 << 20;
    /* Half of the lives keep their retention. */
    struct kv_prng *rule = kv_prng_below(&made, 2) ? &made : &prng;
    out->retention_ms = retentions[kv_prng_below(rule, sizeof retentions / sizeof *retentions)];
    if (set == 0)
        return;
    out->future_ms = kv_prng_below(&prng, 3) ? 0 : 40 * NAIVE_DAY_MS;
    out->series_max = kv_prng_below(&prng, 4) ? 0 : 1 + kv_prng_below(&prng, NAIVE_SERIES);
    out->head_log_bytes_max = log_bytes[kv_prng_below(&prng, sizeof log_bytes / sizeof *log_bytes)];
    out->head_bytes_max = kv_prng_below(&prng, 3) ? 0 : UINT64_C(65536) << kv_prng_below(&prng, 5);
    out->series_cache_bytes = kv_prng_below(&prng, 3) ? 0 : 1024u << kv_prng_below(&prng, 6);
    out->memtable_bytes = kv_prng_below(&prng, 3) ? 2048u << kv_prng_below(&prng, 8) : 0;
    out->durability =
        kv_prng_below(&prng, 4) ? KV_DURABILITY_GROUP : (enum kv_durability)kv_prng_below(&prng, 4);
    out->sync_interval_ms = out->durability == KV_DURABILITY_INTERVAL ? 1000 : 0;
    out->replay_in_background = kv_prng_below(&prng, 5) == 0;
    *cache_bytes = UINT64_C(4096) << kv_prng_below(&prng, 10);
}
