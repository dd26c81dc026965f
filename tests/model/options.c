#include "tests/model/options.h"
#include "kvcore/base/prng.h"

/* ---- the hook: keeps everything, and says so if a group is not whole */

static size_t one_byte(kv_slice key)
{
    return key.len < 1 ? key.len : 1;
}

static size_t group_one_byte(void *ctx, kv_slice key)
{
    (void)ctx;
    return one_byte(key);
}

static kv_status hook_begin(void *ctx, kv_slice lower, kv_slice upper, void **merge)
{
    (void)lower, (void)upper;
    *merge = ctx;
    return KV_OK;
}

static kv_status hook_group(void *merge, const struct kv_hook_entry *entries, size_t n,
                            struct kv_hook_sink *sink)
{
    kv_status rc = KV_OK;
    (void)merge;
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        rc = entries[i].key.data[0] == entries[0].key.data[0]
                 ? sink->add(sink, entries[i].key, entries[i].value)
                 : KV_CORRUPT;
    return rc;
}

static void hook_end(void *merge, bool installed)
{
    (void)merge, (void)installed;
}

static const struct kv_hook keep_all = {NULL, group_one_byte, hook_begin, hook_group, hook_end};

static void make_space(struct kv_prng *prng, struct kv_prng *shape, uint32_t at, struct kv_space_options *out)
{
    static const char *const names[MODEL_SPACES] = {"hook", "runs",     "levels",
                                                    "sums", "versions", "sums_levels"};
    bool levelled = kv_prng_below(shape, 2), cut = kv_prng_below(shape, 2);
    if (at == SPACE_RUNS || at == SPACE_LEVELS || at == SPACE_MERGE_LEVELS)
        levelled = at != SPACE_RUNS;
    *out = (struct kv_space_options){
        .name = names[at],
        .style = levelled ? KV_STYLE_LEVELLED : KV_STYLE_RUNS,
        .hook = at == SPACE_HOOK ? &keep_all : NULL,
        .merge = space_merges(at) ? &model_operator : NULL,
        .versions_kept = at == SPACE_VERSIONS ? MODEL_VERSIONS_KEPT : 0,
        .cut_len = cut ? one_byte : NULL,
    };
    if (!prng)
        return;
    out->compression = (enum kv_compression)kv_prng_below(prng, 3);
    out->block_bytes = 512u << kv_prng_below(prng, 4);
    out->no_filter = kv_prng_below(prng, 4) == 0;
    out->table_bytes = 1024u << kv_prng_below(prng, 4);
    if (levelled) {
        out->level_base_bytes = 1024u << kv_prng_below(prng, 3);
        out->level_multiplier = 2 + (uint32_t)kv_prng_below(prng, 3);
        out->level0_runs = 1 + (uint32_t)kv_prng_below(prng, 4);
    }
}

void option_set_make(uint32_t set, uint32_t made_under, struct option_set *out)
{
    struct kv_prng prng, shape;
    kv_prng_init(&prng, set);
    kv_prng_init(&shape, ~(uint64_t)made_under);
    *out = (struct option_set){.options.disk_reserve_bytes = 4096, .cache_bytes = 1 << 20};
    for (uint32_t at = 0; at < MODEL_SPACES; at++)
        make_space(set ? &prng : NULL, &shape, at, &out->spaces[at]);
    if (set == 0)
        return;
    /* What is new draws from a place of its own, so that set numbers in kept histories mean what they meant. */
    kv_prng_init(&shape, set ^ 0x5eed);
    for (uint32_t at = 0; at < MODEL_SPACES; at++)
        if (!out->spaces[at].hook && kv_prng_below(&shape, 2))
            out->spaces[at].value_separate_bytes = 64u << kv_prng_below(&shape, 4);
    out->options.large_value_bytes = 256u << kv_prng_below(&shape, 5);
    out->options.memtable_bytes = kv_prng_below(&prng, 5) ? 2048u << kv_prng_below(&prng, 6) : 4u << 20;
    out->options.log_file_bytes = 1024u << kv_prng_below(&prng, 7);
    out->options.log_bytes_max = 8192u << kv_prng_below(&prng, 6);
    out->options.durability =
        kv_prng_below(&prng, 3) ? KV_DURABILITY_GROUP : (enum kv_durability)kv_prng_below(&prng, 4);
    out->options.sync_interval_ms = out->options.durability == KV_DURABILITY_INTERVAL ? 1000 : 0;
    out->cache_bytes = (uint64_t)4096 << kv_prng_below(&prng, 10);
    out->encrypted = kv_prng_below(&prng, 3) == 0;
    out->options.data_key_blocks = out->encrypted ? 1 + kv_prng_below(&prng, 300) : 0;
}
