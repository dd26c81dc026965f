/* Every option has its bounds, and says so: the option, the value, what is allowed. */
#include "kvcore/db/options.h"
#include "kvcore/base/limits.h"
#include "tests/support/kv_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct kv_space_options spaces[KV_SPACES_MAX + 1];
static struct kv_options options;
static struct kv_err err;

static void fresh(void)
{
    memset(spaces, 0, sizeof spaces);
    spaces[0].name = "first";
    spaces[1] = (struct kv_space_options){.name = "second", .style = KV_STYLE_LEVELLED};
    options = (struct kv_options){.spaces = spaces, .n_spaces = 2};
    err.text[0] = 0;
}

static kv_status resolve(void)
{
    struct kv_options resolved;
    return kv_options_resolve(&options, &resolved, &err);
}

/* The options as they are now are refused, and the text has all of it; afterwards they are the default again. */
static void refused(const char *what, const char *bound)
{
    cr_assert_eq(resolve(), KV_INVALID, "%s", what);
    cr_assert(strstr(err.text, what) && strstr(err.text, bound), "\"%s\" lacks \"%s\" or \"%s\"", err.text,
              what, bound);
    fresh();
}

static void accepted(const char *what)
{
    cr_assert_eq(resolve(), KV_OK, "%s: %s", what, err.text);
    fresh();
}

Test(options, numbers_of_a_space_have_bounds_and_zero_is_the_default)
{
    fresh();
    accepted("nothing");
    for (int at = 0; at < 2; at++) {
        spaces[at].table_bytes = 1023, refused("table_bytes 1023", "1024 to 4294967296");
        spaces[at].table_bytes = 4294967297, refused("table_bytes 4294967297", "1024 to 4294967296");
        spaces[at].table_bytes = 1024, accepted("table_bytes");
        spaces[at].table_bytes = 4294967296, accepted("table_bytes");
        spaces[at].block_bytes = 511, refused("block_bytes 511", "512 to 1048576");
        spaces[at].block_bytes = 1048577, refused("block_bytes 1048577", "512 to 1048576");
        spaces[at].block_bytes = 512, accepted("block_bytes");
        spaces[at].block_bytes = 1048576, accepted("block_bytes");
        spaces[at].value_separate_bytes = 63, refused("value_separate_bytes 63", "64 to ");
        spaces[at].value_separate_bytes = (uint64_t)KV_VALUE_LEN_MAX + 1,
        refused("value_separate_bytes", "64 to ");
        spaces[at].value_separate_bytes = 64, accepted("value_separate_bytes");
        spaces[at].value_separate_bytes = KV_VALUE_LEN_MAX, accepted("value_separate_bytes");
    }
    spaces[1].level_base_bytes = 1023, refused("level_base_bytes 1023", "1024 to 4398046511104");
    spaces[1].level_base_bytes = 4398046511105, refused("level_base_bytes 4398046511105", "1024 to");
    spaces[1].level_base_bytes = 1024, accepted("level_base_bytes");
    spaces[1].level_multiplier = 1, refused("level_multiplier 1", "2 to 100");
    spaces[1].level_multiplier = 101, refused("level_multiplier 101", "2 to 100");
    spaces[1].level_multiplier = 100, accepted("level_multiplier");
    spaces[1].level0_runs = 65, refused("level0_runs 65", "1 to 64");
    spaces[1].level0_runs = 64, accepted("level0_runs");
    spaces[1].deletions_age_s = 1, accepted("deletions_age_s");
}

Test(options, what_is_for_levels_is_refused_where_there_are_none)
{
    fresh();
    spaces[0].level_base_bytes = 4096, refused("space first", "for levelled spaces");
    spaces[0].level_multiplier = 10, refused("space first", "for levelled spaces");
    spaces[0].level0_runs = 4, refused("space first", "for levelled spaces");
    spaces[0].deletions_age_s = 60, refused("space first", "for levelled spaces");
}

Test(options, spaces_have_names_styles_and_codecs_that_exist)
{
    fresh();
    spaces[1].name = NULL, refused("name", "1 to 32 bytes");
    spaces[1].name = "", refused("name", "1 to 32 bytes");
    spaces[1].name = "a_name_of_thirty_three_characters", refused("name", "1 to 32 bytes");
    spaces[1].name = "a_name_of_thirty_two_characters_", accepted("32 bytes");
    spaces[1].name = "Upper", refused("\"Upper\"", "only a-z, 0-9 and _");
    spaces[1].name = "first", refused("space first", "declared twice");
    spaces[1].style = (enum kv_style)2, refused("space second", "unknown style 2");
    spaces[0].compression = (enum kv_compression)3, refused("space first", "unknown compression 3");
    spaces[0].compression = (enum kv_compression) - 1, refused("space first", "unknown compression -1");
    spaces[0].compression = KV_COMPRESSION_SNAPPY, accepted("snappy");
    options.n_spaces = 0, refused("1 to 32 spaces", "needs");
    options.n_spaces = KV_SPACES_MAX + 1, refused("1 to 32 spaces", "needs");
    options.spaces = NULL, refused("1 to 32 spaces", "needs");
    cr_assert_eq(kv_options_resolve(NULL, &options, &err), KV_INVALID);
}

static size_t group_len(void *ctx, kv_slice key)
{
    (void)ctx;
    return key.len;
}
static kv_status begin(void *ctx, kv_slice lower, kv_slice upper, void **merge)
{
    (void)ctx, (void)lower, (void)upper, (void)merge;
    return KV_OK;
}
static kv_status group(void *merge, const struct kv_hook_entry *entries, size_t n, struct kv_hook_sink *sink)
{
    (void)merge, (void)entries, (void)n, (void)sink;
    return KV_OK;
}
static void end(void *merge, bool installed)
{
    (void)merge, (void)installed;
}
static kv_status fold(void *ctx, kv_slice key, const kv_slice *value, const kv_slice *operands, size_t n,
                      struct kv_buf *out)
{
    (void)ctx, (void)key, (void)value, (void)operands, (void)n, (void)out;
    return KV_OK;
}
static void *trace_begin(void *ctx, const struct kv_trace_op *op)
{
    (void)ctx, (void)op;
    return NULL;
}
static void trace_end(void *ctx, void *span, const struct kv_trace_op *op)
{
    (void)ctx, (void)span, (void)op;
}
static kv_status key_of(void *ctx, uint64_t id, uint8_t key[KV_MASTER_KEY_LEN])
{
    (void)ctx, (void)id, (void)key;
    return KV_MISSING;
}

Test(options, functions_come_complete_and_only_together_with_what_they_allow)
{
    static const struct kv_hook whole = {NULL, group_len, begin, group, end};
    static const struct kv_hook parts[] = {{NULL, NULL, begin, group, end},
                                           {NULL, group_len, NULL, group, end},
                                           {NULL, group_len, begin, NULL, end},
                                           {NULL, group_len, begin, group, NULL}};
    static const struct kv_merge_operator merge = {.fold = fold}, nothing = {.fold = NULL};
    static const struct kv_trace traces[] = {{NULL, NULL, trace_end}, {NULL, trace_begin, NULL}},
                                 trace = {NULL, trace_begin, trace_end};
    fresh();
    spaces[0].hook = &whole, accepted("a hook");
    for (size_t i = 0; i < 4; i++)
        spaces[0].hook = &parts[i], refused("space first", "the hook lacks a function");
    spaces[0].merge = &merge, accepted("a merge operator");
    spaces[0].merge = &nothing, refused("space first", "the merge operator lacks its function");
    spaces[0].hook = &whole, spaces[0].merge = &merge,
    refused("space first", "both a hook and a merge operator");
    spaces[0].hook = &whole, spaces[0].versions_kept = 2, refused("versions_kept 2", "keeps 1");
    spaces[0].merge = &merge, spaces[0].versions_kept = KV_VERSIONS_ALL, refused("versions_kept", "keeps 1");
    spaces[0].merge = &merge, spaces[0].versions_kept = 1, accepted("one version");
    spaces[0].versions_kept = 3, accepted("three versions");
    spaces[0].hook = &whole, spaces[0].value_separate_bytes = 64,
    refused("space first", "a space with a hook");
    for (size_t i = 0; i < 2; i++)
        options.trace = &traces[i], refused("trace", "begin and end");
    options.trace = &trace, accepted("a tracer");
}

Test(options, numbers_of_a_database_have_bounds_and_zero_is_the_default)
{
    static const uint8_t key[KV_MASTER_KEY_LEN];
    fresh();
    options.data_key_days = 3651, refused("data_key_days 3651", "1 to 3650");
    options.data_key_days = 3650, accepted("data_key_days");
    options.key = (struct kv_key_source){.master_key = key, .key_of = key_of},
    refused("master_key", "key_of");
    options.key = (struct kv_key_source){.key_of = key_of}, accepted("key_of");
    options.durability = (enum kv_durability)4, refused("unknown durability", "4");
    options.durability = (enum kv_durability) - 1, refused("unknown durability", "-1");
    options.durability = KV_DURABILITY_INTERVAL, refused("sync_interval_ms 0", "10 to 60000");
    options.durability = KV_DURABILITY_INTERVAL, options.sync_interval_ms = 9,
    refused("sync_interval_ms 9", "10 to");
    options.durability = KV_DURABILITY_INTERVAL, options.sync_interval_ms = 60001,
    refused("60001", "to 60000");
    options.durability = KV_DURABILITY_INTERVAL, options.sync_interval_ms = 10, accepted("10 ms");
    options.durability = KV_DURABILITY_OS, accepted("the system's");
    struct kv_options resolved;
    cr_assert_eq(kv_options_resolve(&options, &resolved, &err), KV_OK);
    cr_assert(resolved.memtable_bytes && resolved.log_bytes_max && resolved.log_file_bytes &&
              resolved.disk_reserve_bytes && resolved.data_key_days && resolved.data_key_blocks);
    options = resolved; /* what is given stays */
    options.memtable_bytes = 1, options.log_bytes_max = 2, options.log_file_bytes = 3,
    options.disk_reserve_bytes = 4;
    cr_assert_eq(kv_options_resolve(&options, &resolved, &err), KV_OK);
    cr_assert(resolved.memtable_bytes == 1 && resolved.log_bytes_max == 2 && resolved.log_file_bytes == 3 &&
              resolved.disk_reserve_bytes == 4);
}

Test(options, a_database_keeps_the_styles_and_the_number_of_its_spaces)
{
    struct kv_kit kit;
    char names[KV_SPACES_MAX][8];
    fresh();
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.spaces[1].style = KV_STYLE_LEVELLED;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID);
    cr_assert(strstr(kit.err.text, "space b has another style on disk"), "%s", kit.err.text);
    kit.spaces[1].style = KV_STYLE_RUNS;
    kit.options.n_spaces = 1;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID);
    cr_assert(strstr(kit.err.text, "space b that is not declared"), "%s", kit.err.text);
    struct kv_env_options env = {.vfs = kit.vfs, .clock = &kit.clock.base, .threads = KV_THREADS_NONE};
    for (int i = 0; i < KV_SPACES_MAX; i++) {
        snprintf(names[i], sizeof names[i], "s%d", i);
        spaces[i] = (struct kv_space_options){.name = names[i]};
    }
    options = (struct kv_options){.spaces = spaces, .n_spaces = KV_SPACES_MAX, .disk_reserve_bytes = 4096};
    cr_assert_eq(kv_env_open(&env, &kit.env, &kit.err), KV_OK);
    cr_assert_eq(kv_open(kit.env, "other", &options, &kit.db, &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(kv_close(kit.db, &kit.err), KV_OK);
    kit.db = NULL;
    spaces[0].name = "one_more";
    cr_assert_eq(kv_open(kit.env, "other", &options, &kit.db, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "at most 32 spaces"), "%s", kit.err.text);
    kit.db = NULL;
    kv_kit_release(&kit);
}
