#include "kvcore/db/output.h"
#include "kvcore/base/mem.h"

void kv_output_init(struct kv_output *output, struct kv_db *db)
{
    *output = (struct kv_output){.db = db};
}

static kv_status output_begin(struct kv_output *output, uint32_t space, kv_slice key, struct kv_err *err)
{
    struct kv_db *db = output->db;
    const struct kv_space *how = &db->spaces[space];
    char name[32];
    kv_slice cut = kv_space_cut(how, key);
    output->space = space;
    output->number = kv_manifest_take_number(&db->manifest);
    if (!output->run)
        output->run = output->number;
    kv_buf_clear(&output->cut);
    if (kv_buf_append(&output->cut, cut) < 0)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory writing a table");
    kv_file_name(name, output->number, KV_NAME_TABLE);
    struct kv_table_build_options options = {.dir = db->dir,
                                             .name = name,
                                             .db_uuid = db->uuid,
                                             .owner_epoch = db->owner_epoch,
                                             .clock = db->env->clock,
                                             .keys = db->manifest.keys,
                                             .space = space,
                                             .space_name = how->name,
                                             .codec = how->codec,
                                             .block_bytes = how->block_bytes,
                                             .no_filter = how->no_filter,
                                             .ranges_applied = output->ranges_applied,
                                             .cut_len = cut.len};
    return kv_table_build_open(&options, &output->build, err);
}

static kv_status output_end(struct kv_output *output, struct kv_err *err)
{
    struct kv_table_properties p;
    kv_status rc;
    if (!output->build)
        return KV_OK;
    if (output->n_adds == output->adds_capacity) {
        size_t capacity = output->adds_capacity ? 2 * output->adds_capacity : 8;
        struct kv_tree_add *grown = kv_realloc(output->adds, capacity * sizeof *grown);
        if (!grown)
            return kv_fail(err, KV_NO_MEMORY, 0, "out of memory writing a table");
        output->adds = grown;
        output->adds_capacity = capacity;
    }
    KV_TRY(kv_table_build_finish(output->build, &p, err));
    struct kv_table_meta meta = {.number = output->number, .space = output->space, .bytes = p.file_bytes};
    memcpy(meta.uid, p.uid, sizeof meta.uid);
    struct kv_table *table = NULL;
    KV_TRY(kv_db_open_table(output->db, &meta, &table, err));
    output->adds[output->n_adds++] = (struct kv_tree_add){output->space, output->level, output->run, table};
    output->bytes += p.file_bytes;
    atomic_fetch_add_explicit(&output->db->level_counters[output->space][output->level].bytes_written,
                              p.file_bytes, memory_order_relaxed);
    kv_table_build_free(output->build);
    output->build = NULL;
out:
    return rc;
}

uint64_t kv_output_bytes(const struct kv_output *output)
{
    return output->bytes + (output->build ? kv_table_build_bytes(output->build) : 0);
}

/* Follows the keys along the level below. True: with this key the open table would span too much of it. */
static bool output_spans_too_much(struct kv_output *output, kv_slice key, uint64_t table_bytes)
{
    const struct kv_tree_run *below = output->below;
    while (below && output->below_at < below->n) {
        const struct kv_table_properties *p = below->items[output->below_at].properties;
        if (kv_slice_compare(p->largest, key) >= 0)
            break;
        output->below_bytes += output->build ? p->file_bytes : 0;
        output->below_at++;
    }
    return output->below_bytes > KV_OUTPUT_BELOW_MAX * table_bytes;
}

kv_status kv_output_add(struct kv_output *output, uint32_t space, const struct kv_entry *entry,
                        bool may_split, struct kv_err *err)
{
    const struct kv_space *how = &output->db->spaces[space];
    kv_status rc;
    bool wide = output_spans_too_much(output, entry->key, how->table_bytes);
    if (output->build) {
        bool other = space != output->space ||
                     !kv_slice_equal(kv_buf_slice(&output->cut), kv_space_cut(how, entry->key));
        if (other || (may_split && (wide || kv_table_build_bytes(output->build) >= how->table_bytes))) {
            KV_TRY(output_end(output, err));
            output->below_bytes = 0;
        }
    }
    if (!output->build)
        KV_TRY(output_begin(output, space, entry->key, err));
    KV_TRY(kv_table_build_add(output->build, entry, err));
out:
    return rc;
}

kv_status kv_output_finish(struct kv_output *output, struct kv_err *err)
{
    kv_status rc = output_end(output, err);
    return rc < 0 || output->n_adds == 0 ? rc : kv_dir_sync_names(output->db->dir, err);
}

kv_status kv_output_join(struct kv_output *into, struct kv_output *from, struct kv_err *err)
{
    kv_status rc;
    KV_TRY(output_end(into, err));
    KV_TRY(output_end(from, err));
    if (from->n_adds == 0)
        goto out;
    size_t n = into->n_adds + from->n_adds;
    struct kv_tree_add *grown = kv_realloc(into->adds, n * sizeof *grown);
    if (!grown) {
        rc = kv_fail(err, KV_NO_MEMORY, 0, "out of memory joining bulk loads");
        goto out;
    }
    into->adds = grown;
    into->adds_capacity = n;
    if (!into->run)
        into->run = from->run;
    for (size_t i = 0; i < from->n_adds; i++) {
        from->adds[i].run = into->run;
        into->adds[into->n_adds++] = from->adds[i];
    }
    into->bytes += from->bytes;
    from->n_adds = 0;
out:
    return rc;
}

void kv_output_install(struct kv_output *output, struct kv_change *change, uint64_t bulk_version)
{
    for (size_t i = 0; i < output->n_adds; i++) {
        struct kv_tree_add *add = &output->adds[i];
        if (bulk_version)
            kv_table_set_version(add->table, bulk_version);
        const struct kv_table_properties *p = kv_table_properties(add->table);
        struct kv_table_meta meta = {.number = kv_table_number(add->table),
                                     .run = add->run,
                                     .bulk_version = bulk_version,
                                     .version_min = p->version_min,
                                     .version_max = p->version_max,
                                     .entries = p->entries,
                                     .deletions = p->deletes,
                                     .bytes = p->file_bytes,
                                     .space = add->space,
                                     .level = add->level,
                                     .smallest = p->smallest,
                                     .largest = p->largest};
        memcpy(meta.uid, p->uid, sizeof meta.uid);
        kv_edit_add_table(change->edit, &meta);
    }
    change->adds = output->adds;
    change->n_adds = output->n_adds;
}

void kv_output_release(struct kv_output *output)
{
    if (!output->db)
        return;
    kv_table_build_free(output->build);
    /* Without room to remember them they stay as orphans, which the next open removes. */
    bool forget = !output->keep && kv_obsolete_reserve(output->db, output->n_adds) == KV_OK;
    for (size_t i = 0; i < output->n_adds; i++) {
        if (forget)
            kv_obsolete_add(output->db, kv_table_number(output->adds[i].table));
        kv_table_unref(output->adds[i].table);
    }
    kv_free(output->adds);
    kv_buf_release(&output->cut);
    *output = (struct kv_output){0};
}
