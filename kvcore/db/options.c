#include "kvcore/db/options.h"
#include "kvcore/sst/format.h"
#include "kvcore/vlog/large.h"

#include <inttypes.h>
#include <stdio.h>

enum { BLOCK_BYTES_MIN = 512, SEPARATE_BYTES_MIN = 64, BLOCK_BYTES_MAX = 1 << 20, DATA_KEY_DAYS_MAX = 3650 };
enum { LARGE_VALUE_BYTES_DEFAULT = 1 << 20, LARGE_VALUE_BYTES_MAX = 32 << 20 };
/* Of kv_space_options, and their bounds. */
#define TABLE_BYTES_MIN    ((uint64_t)1 << 10)
#define TABLE_BYTES_MAX    ((uint64_t)1 << 32)
#define TABLE_BYTES_RUNS   ((uint64_t)64 << 20)
#define TABLE_BYTES_LEVELS ((uint64_t)32 << 20)
#define BASE_BYTES_MIN     ((uint64_t)1 << 10)
#define BASE_BYTES_MAX     ((uint64_t)1 << 42)
#define BASE_BYTES         ((uint64_t)256 << 20)
enum {
    MULTIPLIER_MIN = 2,
    MULTIPLIER_MAX = 100,
    MULTIPLIER = 10,
    LEVEL0_RUNS_MAX = 64,
    LEVEL0_RUNS = 4,
    DELETIONS_AGE_S = 7 * 86400
};

static kv_status name_check(const char *name, struct kv_err *err)
{
    size_t len = name ? strlen(name) : 0;
    if (len < 1 || len > KV_SPACE_NAME_MAX)
        return kv_fail(err, KV_INVALID, 0, "a space's name must have 1 to %d bytes", KV_SPACE_NAME_MAX);
    if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != len)
        return kv_fail(err, KV_INVALID, 0, "space name \"%s\": only a-z, 0-9 and _ are allowed", name);
    return KV_OK;
}

static kv_status bytes_check(const char *space, const char *what, uint64_t value, uint64_t min, uint64_t max,
                             struct kv_err *err)
{
    if (value == 0 || (value >= min && value <= max))
        return KV_OK;
    return kv_fail(err, KV_INVALID, 0, "space %s: %s %" PRIu64 " is not 0 or %" PRIu64 " to %" PRIu64, space,
                   what, value, min, max);
}

/* What shapes the tree. */
static kv_status tree_check(const struct kv_space_options *space, struct kv_err *err)
{
    kv_status rc;
    bool levelled = space->style == KV_STYLE_LEVELLED;
    if (!levelled &&
        (space->level_base_bytes || space->level_multiplier || space->level0_runs || space->deletions_age_s))
        return kv_fail(err, KV_INVALID, 0,
                       "space %s: level_*, level0_* and deletions_age_s are for levelled spaces",
                       space->name);
    KV_TRY(
        bytes_check(space->name, "table_bytes", space->table_bytes, TABLE_BYTES_MIN, TABLE_BYTES_MAX, err));
    KV_TRY(bytes_check(space->name, "level_base_bytes", space->level_base_bytes, BASE_BYTES_MIN,
                       BASE_BYTES_MAX, err));
    KV_TRY(bytes_check(space->name, "level_multiplier", space->level_multiplier, MULTIPLIER_MIN,
                       MULTIPLIER_MAX, err));
    KV_TRY(bytes_check(space->name, "level0_runs", space->level0_runs, 1, LEVEL0_RUNS_MAX, err));
out:
    return rc;
}

static kv_status space_check(const struct kv_options *asked, size_t at, struct kv_err *err)
{
    const struct kv_space_options *space = &asked->spaces[at];
    kv_status rc = name_check(space->name, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < at; i++)
        if (strcmp(asked->spaces[i].name, space->name) == 0)
            return kv_fail(err, KV_INVALID, 0, "space %s is declared twice", space->name);
    if (space->style != KV_STYLE_RUNS && space->style != KV_STYLE_LEVELLED)
        return kv_fail(err, KV_INVALID, 0, "space %s: unknown style %d", space->name, (int)space->style);
    if (space->compression < KV_COMPRESSION_ZSTD || space->compression > KV_COMPRESSION_SNAPPY)
        return kv_fail(err, KV_INVALID, 0, "space %s: unknown compression %d", space->name,
                       (int)space->compression);
    if (space->block_bytes && (space->block_bytes < BLOCK_BYTES_MIN || space->block_bytes > BLOCK_BYTES_MAX))
        return kv_fail(err, KV_INVALID, 0, "space %s: block_bytes %u is not %d to %d", space->name,
                       space->block_bytes, BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
    uint32_t block_bytes = space->block_bytes ? space->block_bytes : KV_BLOCK_BYTES_DEFAULT;
    if (space->block_bytes_most &&
        (space->block_bytes_most < block_bytes || space->block_bytes_most > BLOCK_BYTES_MAX))
        return kv_fail(err, KV_INVALID, 0, "space %s: block_bytes_most %u is not block_bytes (%u) to %d",
                       space->name, space->block_bytes_most, block_bytes, BLOCK_BYTES_MAX);
    rc = tree_check(space, err);
    if (rc < 0)
        return rc;
    if (space->hook &&
        !(space->hook->group_len && space->hook->begin && space->hook->group && space->hook->end))
        return kv_fail(err, KV_INVALID, 0, "space %s: the hook lacks a function", space->name);
    if (space->merge && !space->merge->fold)
        return kv_fail(err, KV_INVALID, 0, "space %s: the merge operator lacks its function", space->name);
    if (space->versions_kept > 1 && (space->hook || space->merge))
        return kv_fail(err, KV_INVALID, 0,
                       "space %s: versions_kept %u, but a space with a hook or a merge operator keeps 1",
                       space->name, space->versions_kept);
    if (space->value_separate_bytes &&
        (space->value_separate_bytes < SEPARATE_BYTES_MIN || space->value_separate_bytes > KV_VALUE_LEN_MAX))
        return kv_fail(err, KV_INVALID, 0, "space %s: value_separate_bytes %llu is not %d to %d", space->name,
                       (unsigned long long)space->value_separate_bytes, SEPARATE_BYTES_MIN, KV_VALUE_LEN_MAX);
    if (space->hook && space->value_separate_bytes)
        return kv_fail(err, KV_INVALID, 0, "space %s: values cannot be separated in a space with a hook",
                       space->name);
    if (space->hook && space->merge)
        return kv_fail(err, KV_INVALID, 0, "space %s has both a hook and a merge operator", space->name);
    return KV_OK;
}

/* About what a memtable's entries take, so that a flush mostly frees a file. */
static uint64_t default_log_file_bytes(uint64_t memtable_bytes)
{
    const uint64_t least = (uint64_t)1 << 20, most = (uint64_t)64 << 20;
    return memtable_bytes < least ? least : memtable_bytes > most ? most : memtable_bytes;
}

kv_status kv_options_resolve(const struct kv_options *asked, struct kv_options *resolved, struct kv_err *err)
{
    if (!asked || !asked->spaces || asked->n_spaces < 1 || asked->n_spaces > KV_SPACES_MAX)
        return kv_fail(err, KV_INVALID, 0, "a database needs 1 to %d spaces", KV_SPACES_MAX);
    for (size_t i = 0; i < asked->n_spaces; i++) {
        kv_status rc = space_check(asked, i, err);
        if (rc < 0)
            return rc;
    }
    if (asked->trace && !(asked->trace->begin && asked->trace->end))
        return kv_fail(err, KV_INVALID, 0, "trace lacks a function: begin and end must be given");
    *resolved = *asked;
    resolved->read_only = asked->read_only || asked->follow;
    if (!resolved->memtable_bytes)
        resolved->memtable_bytes = (uint64_t)32 << 20;
    if (!resolved->log_bytes_max)
        resolved->log_bytes_max = (uint64_t)512 << 20;
    if (!resolved->log_file_bytes)
        resolved->log_file_bytes = default_log_file_bytes(resolved->memtable_bytes);
    if (!resolved->large_value_bytes)
        resolved->large_value_bytes = LARGE_VALUE_BYTES_DEFAULT;
    if (resolved->large_value_bytes < KV_LARGE_BLOCK_BYTES_MIN ||
        resolved->large_value_bytes > LARGE_VALUE_BYTES_MAX)
        return kv_fail(err, KV_INVALID, 0, "large_value_bytes %llu is not %d to %d",
                       (unsigned long long)resolved->large_value_bytes, KV_LARGE_BLOCK_BYTES_MIN,
                       LARGE_VALUE_BYTES_MAX);
    if (!resolved->disk_reserve_bytes)
        resolved->disk_reserve_bytes = (uint64_t)64 << 20;
    if (!resolved->data_key_days)
        resolved->data_key_days = 10;
    if (!resolved->data_key_blocks)
        resolved->data_key_blocks = (uint64_t)1 << 32;
    if (resolved->data_key_days > DATA_KEY_DAYS_MAX)
        return kv_fail(err, KV_INVALID, 0, "data_key_days %u is not 1 to %d", resolved->data_key_days,
                       DATA_KEY_DAYS_MAX);
    if (resolved->key.master_key && resolved->key.key_of)
        return kv_fail(err, KV_INVALID, 0, "key: master_key and key_of are both given");
    if (resolved->durability < KV_DURABILITY_GROUP || resolved->durability > KV_DURABILITY_OS)
        return kv_fail(err, KV_INVALID, 0, "unknown durability %d", (int)resolved->durability);
    if (resolved->durability == KV_DURABILITY_INTERVAL &&
        (resolved->sync_interval_ms < 10 || resolved->sync_interval_ms > 60000))
        return kv_fail(err, KV_INVALID, 0, "sync_interval_ms %u is not 10 to 60000",
                       resolved->sync_interval_ms);
    return KV_OK;
}

static enum kv_codec codec_of(enum kv_compression compression)
{
    return compression == KV_COMPRESSION_NONE     ? KV_CODEC_PLAIN
           : compression == KV_COMPRESSION_SNAPPY ? KV_CODEC_SNAPPY
                                                  : KV_CODEC_ZSTD;
}

static uint32_t id_of(const struct kv_manifest_state *state, const char *name)
{
    uint32_t id = 0;
    while (id < state->n_spaces && strcmp(state->spaces[id].name, name) != 0)
        id++;
    return id;
}

static void tree_options(const struct kv_space_options *asked, struct kv_space *space)
{
    bool levelled = asked->style == KV_STYLE_LEVELLED;
    space->table_bytes = asked->table_bytes ? asked->table_bytes
                         : levelled         ? TABLE_BYTES_LEVELS
                                            : TABLE_BYTES_RUNS;
    space->base_bytes = asked->level_base_bytes ? asked->level_base_bytes : BASE_BYTES;
    space->multiplier = asked->level_multiplier ? asked->level_multiplier : MULTIPLIER;
    space->deletions_age_s = asked->deletions_age_s ? asked->deletions_age_s : DELETIONS_AGE_S;
    space->level0_runs = asked->level0_runs ? asked->level0_runs : LEVEL0_RUNS;
}

kv_status kv_options_match_spaces(const struct kv_options *options, const struct kv_manifest_state *state,
                                  uint8_t ids[KV_SPACES_MAX], struct kv_space spaces[KV_SPACES_MAX],
                                  struct kv_edit *edit, struct kv_err *err)
{
    uint32_t n = state->n_spaces, matched = 0;
    for (size_t i = 0; i < options->n_spaces; i++) {
        const struct kv_space_options *asked = &options->spaces[i];
        uint32_t id = id_of(state, asked->name);
        if (id < state->n_spaces) {
            matched++;
            if (state->spaces[id].style != asked->style)
                return kv_fail(err, KV_INVALID, 0, "space %s has another style on disk", asked->name);
        } else {
            if (n == KV_SPACES_MAX)
                return kv_fail(err, KV_INVALID, 0, "a database has at most %d spaces", KV_SPACES_MAX);
            id = n++;
            kv_edit_space(edit, id, asked->name, asked->style);
        }
        ids[i] = (uint8_t)id;
        spaces[id] = (struct kv_space){.codec = codec_of(asked->compression),
                                       .block_bytes = asked->block_bytes,
                                       .block_bytes_most = asked->block_bytes_most,
                                       .no_filter = asked->no_filter,
                                       .hook = asked->hook,
                                       .merge = asked->merge,
                                       .separate_bytes = asked->value_separate_bytes,
                                       .versions_kept = asked->versions_kept ? asked->versions_kept : 1,
                                       .cut_len = asked->cut_len,
                                       .style = asked->style};
        tree_options(asked, &spaces[id]);
        snprintf(spaces[id].name, sizeof spaces[id].name, "%s", asked->name);
    }
    if (matched < state->n_spaces)
        for (uint32_t id = 0; id < state->n_spaces; id++)
            if (!spaces[id].name[0])
                return kv_fail(err, KV_INVALID, 0, "the database has a space %s that is not declared",
                               state->spaces[id].name);
    return KV_OK;
}
