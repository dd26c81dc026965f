#include "kvcore/db/db.h"
#include "kvcore/db/pick.h"

typedef void (*metric_each)(void *ctx, const char *name, const char *help, bool counter, double value);

static void metrics_log(struct kv_db *db, metric_each each, void *ctx)
{
    struct kv_log_stats s;
    kv_log_stats(db->log, &s);
    each(ctx, "kv_log_appends_total", "append calls on log files", true, (double)s.appends);
    each(ctx, "kv_log_syncs_total", "fdatasync calls on log files", true, (double)s.syncs);
    each(ctx, "kv_log_rolls_total", "log files begun because the one before was full", true, (double)s.rolls);
    each(ctx, "kv_log_rewrites_total", "log files begun because an append or sync failed", true,
         (double)s.rewrites);
    each(ctx, "kv_log_files", "log files present", false, (double)s.files);
    each(ctx, "kv_log_file_bytes", "bytes of log files present", false, (double)s.file_bytes);
    each(ctx, "kv_log_torn_bytes", "bytes behind the last valid record found at open", false,
         (double)s.torn_bytes);
}

static void metrics_commit(struct kv_db *db, metric_each each, void *ctx)
{
    struct kv_committer_stats s = {0};
    if (db->committer)
        kv_committer_stats(db->committer, &s);
    each(ctx, "kv_commits_total", "commits answered", true, (double)s.commits);
    each(ctx, "kv_commit_groups_total", "groups of commits that shared an append and a sync", true,
         (double)s.groups);
    each(ctx, "kv_commit_group_max", "most commits in one group", false, (double)s.group_max);
    each(ctx, "kv_commit_record_bytes_total", "bytes of application records committed", true,
         (double)s.record_bytes);
    each(ctx, "kv_commit_batch_bytes_total", "bytes of batches committed", true, (double)s.batch_bytes);
    each(ctx, "kv_commits_refused_no_space_total", "commits refused because the disk is full", true,
         (double)s.refused_no_space);
}

static void metrics_cache(struct kv_db *db, metric_each each, void *ctx)
{
    struct kv_cache_stats s;
    kv_cache_stats(db->env->cache, &s);
    each(ctx, "kv_cache_bytes_max", "budget of the block cache", false, (double)s.bytes_max);
    each(ctx, "kv_cache_bytes", "bytes in the block cache, indexes and filters included", false,
         (double)s.bytes_used);
    each(ctx, "kv_cache_pinned_bytes", "bytes of indexes and filters", false, (double)s.bytes_pinned);
    each(ctx, "kv_cache_blocks", "blocks in the cache", false, (double)s.blocks);
    each(ctx, "kv_cache_hits_total", "blocks found in the cache", true, (double)s.hits);
    each(ctx, "kv_cache_misses_total", "blocks read from files", true, (double)s.misses);
    each(ctx, "kv_cache_evictions_total", "blocks dropped to make room", true, (double)s.evictions);
}

/* Of the environment: the same for each of its databases. */
static void metrics_memory(struct kv_db *db, metric_each each, void *ctx)
{
    struct kv_memory *memory = &db->env->memory;
    uint64_t memtables = atomic_load_explicit(&memory->memtables, memory_order_relaxed);
    each(ctx, "kv_memory_bytes_max", "budget of memtables and cache of all databases; 0: none", false,
         (double)memory->bytes_max);
    each(ctx, "kv_memory_bytes", "bytes of memtables and cache of all databases", false,
         (double)(memtables + kv_cache_bytes_used(memory->cache)));
    each(ctx, "kv_memory_peak_bytes", "most of that, with a budget", false,
         (double)atomic_load_explicit(&memory->peak, memory_order_relaxed));
    each(ctx, "kv_memory_memtable_bytes", "of that, memtables, those included that only readers hold", false,
         (double)memtables);
}

static void metrics_reads(struct kv_db *db, metric_each each, void *ctx)
{
    struct kv_reads_sum s;
    struct kv_reads_level_sum tables;
    kv_reads_total(&db->reads, &s);
    kv_reads_level_total(&db->reads, 0, db->reads.n_levels, &tables);
    each(ctx, "kv_gets_total", "kv_get calls", true, (double)s.gets);
    each(ctx, "kv_gets_found_total", "kv_get calls that found a value", true, (double)s.found);
    each(ctx, "kv_memtable_gets_total", "memtables asked by kv_get", true, (double)s.memtables);
    each(ctx, "kv_memtable_hits_total", "kv_get calls that a memtable had an entry for", true,
         (double)s.memtable_hits);
    each(ctx, "kv_table_gets_total", "tables asked by kv_get", true,
         (double)(tables.filtered + tables.asked));
    each(ctx, "kv_table_gets_filtered_total", "of those, answered by the filter alone", true,
         (double)tables.filtered);
    each(ctx, "kv_table_gets_found_total", "of those, with an entry of the key", true, (double)tables.found);
    each(ctx, "kv_blocks_read_total", "blocks read from table files for reads", true, (double)s.blocks);
    each(ctx, "kv_block_bytes_read_total", "bytes of those blocks, as stored", true, (double)s.bytes);
    each(ctx, "kv_value_log_reads_total", "values of the value log read", true, (double)s.values);
    each(ctx, "kv_value_log_bytes_read_total", "bytes of those values", true, (double)s.value_bytes);
}

static void metrics_value_log(struct kv_db *db, metric_each each, void *ctx)
{
    uint64_t visible, bytes = 0, live = 0;
    struct kv_view *view = kv_view_pin(db, &visible);
    const struct kv_values *values = &view->version->values;
    for (size_t i = 0; i < values->n; i++) {
        bytes += kv_segment_bytes(values->list[i].segment);
        live += values->list[i].live;
    }
    size_t n = values->n;
    kv_view_unref(view);
    each(ctx, "kv_value_log_segments", "segments of the value log", false, (double)n);
    each(ctx, "kv_value_log_bytes", "bytes of those segments", false, (double)bytes);
    each(ctx, "kv_value_log_live_bytes", "of those, bytes that tables point at", false, (double)live);
}

static void metrics_tree(struct kv_db *db, metric_each each, void *ctx)
{
    uint64_t level0_runs = 0, excess = 0, damaged = 0;
    uint64_t visible, tables = 0, bytes = 0, entries = 0, runs_max = 0, memory = 0;
    struct kv_view *view = kv_view_pin(db, &visible);
    for (uint32_t i = 0; i < view->version->n_spaces; i++) {
        const struct kv_tree *tree = &view->version->trees[i];
        tables += tree->n_items;
        bytes += tree->bytes;
        entries += tree->entries;
        struct kv_pick_levels levels = {0};
        if (db->spaces[i].style == KV_STYLE_LEVELLED)
            kv_pick_levels(tree, i, &db->spaces[i], NULL, &levels);
        level0_runs = levels.level0_runs > level0_runs ? levels.level0_runs : level0_runs;
        excess += levels.excess;
        for (size_t k = 0; k < tree->n_cuts; k++)
            if (tree->cuts[k].n_runs > runs_max)
                runs_max = tree->cuts[k].n_runs;
    }
    for (size_t i = 0; i < view->n_mem; i++)
        memory += kv_memtable_bytes(view->mem[i]);
    size_t waiting = view->n_mem - 1;
    (void)kv_version_damaged(view->version, &damaged);
    kv_view_unref(view);
    each(ctx, "kv_seq", "version of the newest visible commit", false, (double)visible);
    each(ctx, "kv_tables", "tables", false, (double)tables);
    each(ctx, "kv_table_bytes", "bytes of tables", false, (double)bytes);
    each(ctx, "kv_table_entries", "entries in tables", false, (double)entries);
    each(ctx, "kv_runs_max", "most runs in one cut", false, (double)runs_max);
    each(ctx, "kv_level0_runs", "most runs on level 0 of one cut of a levelled space", false,
         (double)level0_runs);
    each(ctx, "kv_merge_waiting_bytes", "bytes on levels above their targets", false, (double)excess);
    each(ctx, "kv_merges_running", "merges at work", false,
         (double)atomic_load_explicit(&db->merges_running, memory_order_relaxed));
    each(ctx, "kv_damaged_files",
         "tables that lie aside, segments of the value log that could not be opened: reads of them fail",
         false, (double)damaged);
    each(ctx, "kv_memtable_bytes", "heap bytes of memtables", false, (double)memory);
    each(ctx, "kv_memtables_waiting", "memtables that wait to be flushed", false, (double)waiting);
}

/* How far re-encryption has come, which rides on merges: plain tables count as having an old key. */
static void metrics_keys(struct kv_db *db, metric_each each, void *ctx)
{
    struct kv_keyring *keys = db->manifest.keys;
    uint64_t visible, old = 0, current = keys ? kv_keyring_current(keys) : 0;
    struct kv_view *view = keys ? kv_view_pin(db, &visible) : NULL;
    for (uint32_t i = 0; view && i < view->version->n_spaces; i++) {
        const struct kv_tree *tree = &view->version->trees[i];
        for (size_t k = 0; k < tree->n_items; k++) {
            const struct kv_table_properties *p = tree->items[k].properties;
            old += p->key_id != current ? p->file_bytes : 0;
        }
    }
    kv_view_unref(view);
    each(ctx, "kv_data_key", "id of the data key that new files get; 0: the database is not encrypted", false,
         (double)current);
    each(ctx, "kv_data_key_sealed", "pieces sealed under that data key", false,
         current ? (double)kv_keyring_sealed(keys) : 0);
    each(ctx, "kv_old_key_table_bytes", "bytes of tables that are plain or under an older data key", false,
         (double)old);
}

void kv_metrics(struct kv_db *db, metric_each each, void *ctx)
{
#define X(field, name, help)                                                                                 \
    each(ctx, name, help, true, (double)atomic_load_explicit(&db->counters.field, memory_order_relaxed));
    KV_DB_COUNTERS(X)
#undef X
    metrics_log(db, each, ctx);
    metrics_commit(db, each, ctx);
    metrics_cache(db, each, ctx);
    metrics_memory(db, each, ctx);
    metrics_reads(db, each, ctx);
    metrics_value_log(db, each, ctx);
    metrics_tree(db, each, ctx);
    metrics_keys(db, each, ctx);
    kv_mutex_lock(&db->manifest_mutex);
    uint64_t files = db->manifest.files_started, edits = db->manifest.edits_committed;
    kv_mutex_unlock(&db->manifest_mutex);
    each(ctx, "kv_manifest_files_total", "manifest files started", true, (double)files);
    each(ctx, "kv_manifest_edits_total", "manifest edits committed", true, (double)edits);
}
