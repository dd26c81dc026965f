#include "kvcore/db/output.h"
#include "kvcore/base/mem.h"
#include "kvcore/sst/attrs.h"

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
                                             .block_bytes_most = how->block_bytes_most,
                                             .no_filter = how->no_filter,
                                             .ranges_applied = output->ranges_applied,
                                             .deletes_since_s = output->deletes_since_s,
                                             .written_after = output->loads ? kv_db_visible(db) : 0,
                                             .cut_len = cut.len};
    return kv_table_build_open(&options, &output->build, err);
}

static kv_status output_end(struct kv_output *output, struct kv_err *err)
{
    struct kv_table_properties p;
    kv_status rc;
    if (!output->build)
        return KV_OK;
    struct kv_tree_add *grown =
        kv_grow(output->adds, &output->adds_capacity, output->n_adds + 1, sizeof *grown);
    if (!grown)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory writing a table");
    output->adds = grown;
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

/* ---- the value log */

static kv_status segment_begin(struct kv_output *output, struct kv_err *err)
{
    struct kv_db *db = output->db;
    char name[32];
    output->values_number = kv_manifest_take_number(&db->manifest);
    kv_file_name(name, output->values_number, KV_NAME_SEGMENT);
    struct kv_segment_build_options options = {.dir = db->dir,
                                               .name = name,
                                               .number = output->values_number,
                                               .db_uuid = db->uuid,
                                               .owner_epoch = db->owner_epoch,
                                               .clock = db->env->clock,
                                               .keys = db->manifest.keys};
    return kv_segment_build_open(&options, &output->values, err);
}

static kv_status segment_end(struct kv_output *output, struct kv_err *err)
{
    struct kv_segment_meta meta = {.number = output->values_number};
    kv_status rc;
    if (!output->values)
        return KV_OK;
    struct kv_segment **grown = kv_grow(output->segments, &output->segments_capacity, output->n_segments + 1,
                                        sizeof(struct kv_segment *));
    if (!grown)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory writing the value log");
    output->segments = grown;
    meta.bytes = kv_segment_build_bytes(output->values);
    KV_TRY(kv_segment_build_finish(output->values, meta.uid, err));
    KV_TRY(kv_db_open_segment(output->db, &meta, &output->segments[output->n_segments], err));
    output->n_segments++;
    output->bytes += meta.bytes;
    KV_COUNT_BY(output->db, value_log_bytes, meta.bytes);
    kv_segment_build_free(output->values);
    output->values = NULL;
out:
    return rc;
}

/* Writes the value apart; *entry becomes its pointer. */
static kv_status output_separate(struct kv_output *output, struct kv_entry *entry,
                                 const struct kv_attrs *attrs, kv_slice value, struct kv_err *err)
{
    struct kv_pointer pointer = {0};
    uint8_t bytes[KV_ATTRS_LEN_MAX + 3 * KV_VARINT_LEN_MAX];
    kv_status rc = KV_OK;
    if (output->values && kv_segment_build_bytes(output->values) >= KV_SEGMENT_BYTES)
        rc = segment_end(output, err);
    if (rc == KV_OK && !output->values)
        rc = segment_begin(output, err);
    if (rc == KV_OK)
        rc = kv_segment_build_add(output->values, value, output->db->spaces[output->value_space].codec,
                                  &pointer, err);
    if (rc < 0)
        return rc;
    size_t n = kv_attrs_put(bytes, attrs);
    n += kv_pointer_put(bytes + n, &pointer);
    kv_buf_clear(&output->pointer);
    rc = kv_buf_append(&output->pointer, kv_slice_of(bytes, n));
    KV_COUNT(output->db, value_log_values);
    entry->kind = KV_KIND_POINTER;
    entry->value = kv_buf_slice(&output->pointer);
    return rc < 0 ? kv_fail(err, rc, 0, "out of memory writing the value log") : rc;
}

/* A value that lies in a sparse segment: *held is the block it is in, *value the value; else *held stays NULL. */
static kv_status output_collect(struct kv_output *output, kv_slice pointer, struct kv_block **held,
                                struct kv_err *err)
{
    struct kv_pointer at;
    kv_slice rest = pointer;
    *held = NULL;
    if (kv_pointer_take(&rest, &at) < 0)
        return kv_fail(err, KV_CORRUPT, 0, "a malformed pointer into the value log");
    if (at.value_len)
        return KV_OK; /* it has its segment for itself: never sparse */
    if (!output->source)
        return kv_fail(err, KV_CORRUPT, 0, "a pointer into the value log where there can be none");
    const struct kv_value_segment *segment = kv_values_find(output->source, at.segment);
    if (segment && !kv_value_segment_sparse(segment))
        return KV_OK;
    return kv_values_fetch(output->source, pointer, false, held, err);
}

/* Long values go to the value log, and those that have to move there move. *held is given back by the caller. */
static kv_status output_place_value(struct kv_output *output, struct kv_entry *entry, struct kv_block **held,
                                    struct kv_err *err)
{
    const struct kv_space *how = &output->db->spaces[output->value_space];
    struct kv_attrs attrs = {0};
    kv_slice value = entry->value;
    kv_status rc;
    if (entry->kind == KV_KIND_PUT && (!how->separate_bytes || value.len < how->separate_bytes))
        return KV_OK;
    if (entry->kind == KV_KIND_RICH || entry->kind == KV_KIND_POINTER) {
        rc = kv_attrs_take(&value, &attrs);
        if (rc < 0)
            return kv_fail(err, rc, 0, "an entry with bad attributes");
    }
    if (entry->kind == KV_KIND_POINTER) {
        rc = output_collect(output, value, held, err);
        if (rc < 0 || !*held)
            return rc;
        value = (*held)->bytes;
        KV_COUNT_BY(output->db, value_log_moved, value.len);
    } else if (entry->kind != KV_KIND_PUT && entry->kind != KV_KIND_RICH) {
        return KV_OK;
    }
    if (how->separate_bytes && value.len >= how->separate_bytes)
        return output_separate(output, entry, &attrs, value, err);
    if (entry->kind == KV_KIND_RICH)
        return KV_OK;
    rc = kv_attrs_entry(&attrs, value, &output->pointer, entry);
    return rc < 0 ? kv_fail(err, rc, 0, "out of memory writing a table") : rc;
}

/* ---- all of it */

kv_status kv_output_add(struct kv_output *output, uint32_t space, const struct kv_entry *entry,
                        bool may_split, struct kv_err *err)
{
    struct kv_entry placed = *entry;
    struct kv_block *held = NULL;
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
    output->value_space = space;
    KV_TRY(output_place_value(output, &placed, &held, err));
    KV_TRY(kv_table_build_add(output->build, &placed, err));
out:
    kv_block_unref(held);
    return rc;
}

kv_status kv_output_finish(struct kv_output *output, struct kv_err *err)
{
    kv_status rc = output_end(output, err);
    if (rc == KV_OK)
        rc = segment_end(output, err);
    return rc < 0 || output->n_adds == 0 ? rc : kv_dir_sync_names(output->db->dir, err);
}

/* Room in `into` for what `from` holds. */
static kv_status join_room(struct kv_output *into, const struct kv_output *from)
{
    size_t n = into->n_adds + from->n_adds, segments = into->n_segments + from->n_segments;
    struct kv_tree_add *adds = kv_grow(into->adds, &into->adds_capacity, n, sizeof *adds);
    if (!adds)
        return KV_NO_MEMORY;
    into->adds = adds;
    struct kv_segment **values =
        kv_grow(into->segments, &into->segments_capacity, segments, sizeof(struct kv_segment *));
    if (!values)
        return KV_NO_MEMORY;
    into->segments = values;
    return KV_OK;
}

kv_status kv_output_join(struct kv_output *into, struct kv_output *from, struct kv_err *err)
{
    kv_status rc;
    KV_TRY(kv_output_finish(into, err));
    KV_TRY(kv_output_finish(from, err));
    rc = join_room(into, from);
    if (rc < 0) {
        kv_fail(err, rc, 0, "out of memory joining bulk loads");
        goto out;
    }
    if (!into->run)
        into->run = from->run;
    for (size_t i = 0; i < from->n_adds; i++) {
        from->adds[i].run = into->run;
        into->adds[into->n_adds++] = from->adds[i];
    }
    for (size_t i = 0; i < from->n_segments; i++)
        into->segments[into->n_segments++] = from->segments[i];
    into->bytes += from->bytes;
    from->n_adds = from->n_segments = 0;
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
    for (size_t i = 0; i < output->n_segments; i++) {
        const struct kv_segment *segment = output->segments[i];
        struct kv_segment_meta meta = {.number = kv_segment_number(segment),
                                       .bytes = kv_segment_bytes(segment)};
        memcpy(meta.uid, kv_segment_uid(segment), sizeof meta.uid);
        kv_edit_add_segment(change->edit, &meta);
    }
    change->adds = output->adds;
    change->n_adds = output->n_adds;
    change->segments = output->segments;
    change->n_segments = output->n_segments;
}

void kv_output_release(struct kv_output *output)
{
    if (!output->db)
        return;
    kv_table_build_free(output->build);
    /* Without room to remember them they stay as orphans, which the next open removes. */
    kv_segment_build_free(output->values);
    bool forget =
        !output->keep && kv_obsolete_reserve(output->db, output->n_adds + output->n_segments) == KV_OK;
    for (size_t i = 0; i < output->n_segments; i++) {
        if (forget)
            kv_obsolete_add(output->db, kv_segment_number(output->segments[i]));
        kv_segment_unref(output->segments[i]);
    }
    kv_free(output->segments);
    kv_buf_release(&output->pointer);
    for (size_t i = 0; i < output->n_adds; i++) {
        if (forget)
            kv_obsolete_add(output->db, kv_table_number(output->adds[i].table));
        kv_table_unref(output->adds[i].table);
    }
    kv_free(output->adds);
    kv_buf_release(&output->cut);
    *output = (struct kv_output){0};
}
