#include "tests/model/samples/options.h"
#include "kvcore/base/prng.h"
#include "tests/model/samples/naive.h"

#include <stdio.h>

static int64_t pick_retention(struct kv_prng *prng)
{
    static const int64_t retentions[] = {INT64_MAX,        INT64_MAX,        0,
                                         NAIVE_DAY_MS / 2, 2 * NAIVE_DAY_MS, 9 * NAIVE_DAY_MS};
    return retentions[kv_prng_below(prng, sizeof retentions / sizeof *retentions)];
}

static void pick_rules(struct kv_prng *prng, struct samples_options *out)
{
    uint64_t left = UINT64_MAX;
    size_t n = kv_prng_below(prng, 2) ? 0 : 1 + kv_prng_below(prng, SAMPLES_RULES_MAX);
    for (size_t i = 0; i < n; i++) {
        kv_slice text;
        uint32_t which = (uint32_t)kv_prng_below(prng, NAIVE_SELECTORS),
                 series = (uint32_t)kv_prng_below(prng, NAIVE_SERIES);
        uint64_t matched = naive_select(which, series, &text);
        int64_t keep_ms = pick_retention(prng);
        out->series[i] = matched & left;
        left &= ~matched;
        snprintf(out->selectors[i], sizeof out->selectors[i], "%.*s", KV_ARG(text));
        out->rules[i] = (struct ts_retention_rule){kv_slice_str(out->selectors[i]),
                                                   keep_ms ? keep_ms : 30 * NAIVE_DAY_MS};
    }
    out->series[n] = left;
    out->store.retention_rules = out->rules;
    out->store.n_retention_rules = n;
}

/* Of series of a metric, new series a second, samples of a request, bytes on disk. */
static void pick_limits(uint32_t set, struct ts_options *store)
{
    struct kv_prng prng;
    kv_prng_init(&prng, set ^ 0x11f75);
    store->metric_series_max =
        kv_prng_below(&prng, 3) ? 0 : 1 + kv_prng_below(&prng, NAIVE_SERIES / NAIVE_METRICS);
    store->series_per_s_max = kv_prng_below(&prng, 3) ? 0 : 1 + (uint32_t)kv_prng_below(&prng, 3);
    store->request_samples_max = kv_prng_below(&prng, 3) ? 0 : 1 + kv_prng_below(&prng, 3000);
    store->retention_bytes = kv_prng_below(&prng, 2) ? 0 : UINT64_C(5000) << kv_prng_below(&prng, 8);
}

void samples_options_for_workers(struct samples_options *options)
{
    options->store.metric_series_max = options->store.series_per_s_max = 0;
    options->store.retention_bytes = 0;
}

void samples_options(uint32_t set, uint32_t made_under, struct samples_options *out)
{
    static const uint64_t log_bytes[] = {0, 0, 500, 2000, 10000, 100000};
    struct kv_prng prng, made;
    struct ts_options *store = &out->store;
    kv_prng_init(&prng, set);
    kv_prng_init(&made, ~(uint64_t)made_under);
    *out = (struct samples_options){.cache_bytes = 1 << 20};
    store->labels_max = SAMPLES_LABELS_MAX;
    store->label_value_len_max = SAMPLES_VALUE_LEN_MAX;
    /* Half of the lives keep their retention. */
    bool keeps = kv_prng_below(&made, 2);
    store->retention_ms = pick_retention(keeps ? &made : &prng);
    /* What is new draws from a place of its own, so that set numbers in kept histories mean what they meant. */
    kv_prng_init(&made, (keeps ? made_under : set) ^ 0x5eed);
    pick_rules(&made, out);
    if (set == 0)
        return;
    store->future_ms = kv_prng_below(&prng, 3) ? 0 : 40 * NAIVE_DAY_MS;
    store->series_max = kv_prng_below(&prng, 4) ? 0 : 1 + kv_prng_below(&prng, NAIVE_SERIES);
    store->head_log_bytes_max = log_bytes[kv_prng_below(&prng, sizeof log_bytes / sizeof *log_bytes)];
    store->head_bytes_max = kv_prng_below(&prng, 3) ? 0 : UINT64_C(65536) << kv_prng_below(&prng, 5);
    store->series_cache_bytes = kv_prng_below(&prng, 3) ? 0 : 1024u << kv_prng_below(&prng, 6);
    store->memtable_bytes = kv_prng_below(&prng, 3) ? 2048u << kv_prng_below(&prng, 8) : 0;
    store->durability =
        kv_prng_below(&prng, 4) ? KV_DURABILITY_GROUP : (enum kv_durability)kv_prng_below(&prng, 4);
    store->sync_interval_ms = store->durability == KV_DURABILITY_INTERVAL ? 1000 : 0;
    store->replay_in_background = kv_prng_below(&prng, 5) == 0;
    out->cache_bytes = UINT64_C(4096) << kv_prng_below(&prng, 10);
    if (made_under >= SAMPLES_LIMITED_FROM)
        pick_limits(set, store);
}
