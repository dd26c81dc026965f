/* Tables and segments of a database that is being repaired: what can be read of them. */
#include "kvcore/base/mem.h"
#include "kvcore/db/repair.h"
#include "kvcore/sst/attrs.h"
#include "kvcore/sst/table_salvage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Out of memory, failing disks and missing keys are not findings about the database: they end the repair. */
static bool ends_repair(kv_status rc)
{
    return rc < 0 && rc != KV_CORRUPT && rc != KV_MISSING;
}

/* ---- what lies there */

static kv_status look_header(struct kv_repair *r, const char *name, uint64_t number,
                             enum kv_file_kind_name kind)
{
    uint8_t raw[KV_FILE_HEADER_LEN];
    struct kv_file *file = NULL;
    struct kv_file_header header;
    struct kv_file_expect expect = {.name = name, .format_max = UINT16_MAX, .encrypted = true};
    static const enum kv_file_kind kinds[] = {KV_FILE_LOG, KV_FILE_TABLE, KV_FILE_MANIFEST, KV_FILE_VLOG};
    kv_status rc = kv_dir_open_file(r->dir, name, &file, r->err);
    if (rc < 0)
        return rc;
    rc = kv_file_read_exact(file, 0, sizeof raw, raw, NULL);
    kv_file_close(file);
    if (rc < 0)
        return KV_OK; /* what is wrong with it is told when it is read */
    expect.kind = kinds[kind];
    rc = kv_file_header_check(kv_slice_of(raw, sizeof raw), &expect, &header, NULL);
    if (rc < 0 && kv_header_mend(raw))
        rc = kv_file_header_check(kv_slice_of(raw, sizeof raw), &expect, &header, NULL);
    if (rc < 0)
        return KV_OK;
    if (!r->uuid_known) {
        memcpy(r->uuid, header.uuid, KV_UUID_LEN);
        r->uuid_known = true;
    }
    if (memcmp(r->uuid, header.uuid, KV_UUID_LEN) != 0)
        return KV_OK;
    r->edit_max = header.edit > r->edit_max ? header.edit : r->edit_max;
    if (kind != KV_NAME_MANIFEST && header.edit > r->edit_seen)
        r->edit_seen = header.edit;
    r->epoch_max = header.owner_epoch > r->epoch_max ? header.owner_epoch : r->epoch_max;
    r->sealed_files = r->sealed_files || (header.key_id && kind != KV_NAME_MANIFEST);
    (void)number;
    return KV_OK;
}

struct names {
    struct kv_buf names; /* NUL-terminated, one behind another */
};

static kv_status look_name(void *ctx, const char *name, uint64_t bytes)
{
    struct names *names = ctx;
    (void)bytes;
    return kv_buf_append(&names->names, kv_slice_of(name, strlen(name) + 1));
}

static int order_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void sort_numbers(struct kv_buf *numbers)
{
    size_t n = numbers->len / sizeof(uint64_t);
    if (n > 1)
        qsort(numbers->data, n, sizeof(uint64_t), order_numbers);
}

kv_status kv_repair_look(struct kv_repair *r)
{
    struct names names = {{0}};
    kv_status rc = r->dir->ops->list(r->dir, look_name, &names, r->err);
    for (size_t at = 0; rc >= 0 && at < names.names.len; at += strlen((char *)names.names.data + at) + 1) {
        const char *name = (char *)names.names.data + at;
        uint64_t number;
        enum kv_file_kind_name kind;
        if (!kv_file_name_parse(name, &number, &kind))
            continue;
        r->number_max = number > r->number_max ? number : r->number_max;
        r->logs += kind == KV_NAME_LOG;
        kv_slice bytes = kv_slice_of(&number, sizeof number);
        if (kind == KV_NAME_TABLE)
            rc = kv_buf_append(&r->tables, bytes);
        else if (kind == KV_NAME_SEGMENT)
            rc = kv_buf_append(&r->segments, bytes);
        if (rc >= 0)
            rc = look_header(r, name, number, kind);
    }
    sort_numbers(&r->tables);
    sort_numbers(&r->segments);
    kv_buf_release(&names.names);
    return rc < 0 ? rc : KV_OK;
}

static bool is_there(const struct kv_buf *numbers, uint64_t number)
{
    return numbers->len && bsearch(&number, numbers->data, numbers->len / sizeof number, sizeof number,
                                   order_numbers) != NULL;
}

/* ---- segments */

/* uid and size of one that no manifest knows, as its header says. */
static kv_status segment_meta(struct kv_repair *r, const char *name, struct kv_segment_meta *meta)
{
    uint8_t raw[KV_FILE_HEADER_LEN];
    struct kv_file *file = NULL;
    struct kv_file_header header;
    kv_status rc;
    KV_TRY(kv_dir_open_file(r->dir, name, &file, NULL));
    KV_TRY(kv_file_size(file, &meta->bytes, NULL));
    KV_TRY(kv_file_read_exact(file, 0, sizeof raw, raw, NULL));
    kv_file_header_decode(raw, &header);
    memcpy(meta->uid, header.uid, sizeof meta->uid);
out:
    kv_file_close(file);
    return rc;
}

static kv_status segment_take(struct kv_repair *r, uint64_t number)
{
    const struct kv_segment_meta *known = kv_manifest_segment(&r->manifest.state, number);
    struct kv_segment_meta meta = {.number = number};
    struct kv_value_segment *at = &r->values.list[r->values.n];
    struct kv_err why = {0};
    char name[32];
    kv_file_name(name, number, KV_NAME_SEGMENT);
    kv_status rc = KV_OK;
    if (known)
        meta = *known;
    else
        rc = segment_meta(r, name, &meta);
    struct kv_segment_open_options options = {.dir = r->dir,
                                              .name = name,
                                              .cache = r->env->cache,
                                              .keys = r->manifest.keys,
                                              .db_uuid = r->uuid,
                                              .uid = meta.uid,
                                              .file_bytes = meta.bytes,
                                              .number = number};
    if (rc == KV_OK)
        rc = kv_segment_open(&options, &at->segment, &why);
    if (rc == KV_OK) {
        r->values.n++;
        return kv_buf_append(&r->metas, kv_slice_of(&meta, sizeof meta));
    }
    if (rc == KV_CORRUPT && known) {
        kv_repair_say(r, rc, "%s: %.200s: its values are lost", name, why.text);
        r->changed = true;
        return kv_repair_set_aside(r, name);
    }
    if (ends_repair(rc) && r->err)
        *r->err = why;
    return ends_repair(rc) ? rc : KV_OK;
}

kv_status kv_repair_segments(struct kv_repair *r)
{
    size_t n = r->segments.len / sizeof(uint64_t);
    const uint64_t *numbers = (const uint64_t *)(const void *)r->segments.data;
    const struct kv_manifest_state *state = &r->manifest.state;
    kv_status rc = KV_OK;
    r->values.list = kv_zalloc(n + 1, sizeof *r->values.list);
    if (!r->values.list)
        return KV_NO_MEMORY;
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        if (!r->exact || kv_manifest_segment(state, numbers[i]))
            rc = segment_take(r, numbers[i]);
    for (size_t i = 0; i < state->n_segments && rc == KV_OK; i++)
        if (r->exact && !is_there(&r->segments, state->segments[i].number)) {
            r->changed = true;
            kv_repair_say(r, KV_CORRUPT, "%06" PRIu64 ".vlg: is missing: its values are lost",
                          state->segments[i].number);
        }
    return rc;
}

/* ---- tables that are sound */

static kv_status item_add(struct kv_repair *r, const struct kv_table_meta *meta, bool placed)
{
    struct kv_repair_table *grown = kv_grow(r->items, &r->items_capacity, r->n_items + 1, sizeof *grown);
    if (!grown)
        return KV_NO_MEMORY;
    r->items = grown;
    struct kv_repair_table *item = &r->items[r->n_items];
    *item = (struct kv_repair_table){.meta = *meta, .placed = placed};
    item->keys = kv_alloc(meta->smallest.len + meta->largest.len);
    if (!item->keys)
        return KV_NO_MEMORY;
    memcpy(item->keys, meta->smallest.data, meta->smallest.len);
    memcpy(item->keys + meta->smallest.len, meta->largest.data, meta->largest.len);
    item->meta.smallest = kv_slice_of(item->keys, meta->smallest.len);
    item->meta.largest = kv_slice_of(item->keys + meta->smallest.len, meta->largest.len);
    r->n_items++;
    return KV_OK;
}

void kv_repair_release_items(struct kv_repair *r)
{
    for (size_t i = 0; i < r->n_items; i++)
        kv_free(r->items[i].keys);
    kv_free(r->items);
}

static kv_status item_keep(struct kv_repair *r, const struct kv_table_properties *p, uint64_t number,
                           uint64_t bulk_version, const struct kv_table_meta *place)
{
    struct kv_table_meta meta = {.number = number,
                                 .run = place ? place->run : number,
                                 .level = place ? place->level : 0,
                                 .bulk_version = bulk_version,
                                 .version_min = bulk_version ? bulk_version : p->version_min,
                                 .version_max = bulk_version ? bulk_version : p->version_max,
                                 .entries = p->entries,
                                 .deletions = p->deletes,
                                 .bytes = p->file_bytes,
                                 .space = p->space,
                                 .smallest = p->smallest,
                                 .largest = p->largest};
    memcpy(meta.uid, p->uid, sizeof meta.uid);
    return item_add(r, &meta, r->exact && place);
}

/* The version of a load whose manifest entry is lost: the one behind everything that was visible when it was written, which
 * is right if nothing else was committed while it was. */
static uint64_t bulk_version_of(const struct kv_table_properties *p)
{
    return p->version_max ? 0 : p->written_after + 1;
}

/* ---- tables that are not */

struct rewrite {
    struct kv_repair *r;
    const struct kv_table_meta *known;
    uint64_t bulk_version; /* of entries that are stored with none */
    uint32_t space;
    uint64_t number;
    struct kv_table_build *build;
    uint64_t entries, values_lost;
    const char *name; /* of the damaged one */
};

static kv_status rewrite_begin(struct rewrite *w)
{
    struct kv_repair *r = w->r;
    char name[32];
    w->number = kv_manifest_take_number(&r->manifest);
    kv_file_name(name, w->number, KV_NAME_TABLE);
    struct kv_table_build_options options = {.dir = r->dir,
                                             .name = name,
                                             .db_uuid = r->uuid,
                                             .owner_epoch = r->epoch_max + 1,
                                             .clock = r->env->clock,
                                             .keys = r->manifest.keys,
                                             .space = w->space,
                                             .space_name = r->manifest.state.spaces[w->space].name,
                                             .codec = KV_CODEC_ZSTD};
    return kv_table_build_open(&options, &w->build, r->err);
}

/* kv_table_salvage.entry. A value that is lost is a deletion: nothing older comes to light in its place. */
static kv_status rewrite_entry(void *ctx, const struct kv_entry *entry)
{
    struct rewrite *w = ctx;
    struct kv_repair *r = w->r;
    struct kv_entry put = *entry;
    char key[48];
    kv_status rc = w->build ? KV_OK : rewrite_begin(w);
    if (put.version == 0)
        put.version = w->bulk_version ? w->bulk_version : 1; /* no manifest knows it */
    if (rc == KV_OK && entry->kind == KV_KIND_POINTER) {
        struct kv_attrs attrs;
        kv_slice pointer = entry->value;
        rc = kv_attrs_take(&pointer, &attrs);
        if (rc == KV_OK)
            rc = kv_values_verify(&r->values, pointer, r->err);
        if (rc == KV_CORRUPT) {
            kv_repair_say(r, rc, "%s: the value of key %s, version %" PRIu64 ", is lost", w->name,
                          kv_log_quote(entry->key, key, sizeof key), put.version);
            w->values_lost++;
            put.kind = KV_KIND_DELETE;
            put.value = (kv_slice){0};
            rc = KV_OK;
        }
    }
    if (rc == KV_OK)
        rc = kv_table_build_add(w->build, &put, r->err);
    w->entries++;
    return rc;
}

static void rewrite_lost(void *ctx, uint64_t offset, uint64_t bytes, kv_slice after, kv_slice before)
{
    struct rewrite *w = ctx;
    char from[48], to[48];
    if (w->known) {
        after = after.len ? after : w->known->smallest;
        before = before.len ? before : w->known->largest;
    }
    kv_repair_say(w->r, KV_CORRUPT,
                  "%s: %" PRIu64 " bytes at offset %" PRIu64
                  " cannot be read: keys between %s and %s may be lost, or "
                  "be as they were before",
                  w->name, bytes, offset, after.len ? kv_log_quote(after, from, sizeof from) : "the first",
                  before.len ? kv_log_quote(before, to, sizeof to) : "the last");
}

/* The space of a table that no manifest knows: what it says itself, or the only one there is. */
static bool rewrite_space(struct rewrite *w, struct kv_table_salvage *how)
{
    const struct kv_manifest_state *state = &w->r->manifest.state;
    struct kv_table_salvaged said = {0};
    if (w->known) {
        w->space = w->known->space;
        return true;
    }
    struct kv_table_salvage first = *how;
    first.entry = NULL;
    first.lost = NULL;
    if (kv_table_salvage(&first, &said, NULL) < 0)
        return state->n_spaces == 1; /* and why is told when it is read again */
    w->space = said.known ? said.space : 0;
    w->bulk_version = said.written_after + 1;
    return said.known ? said.space < state->n_spaces : state->n_spaces == 1;
}

static kv_status rewrite_end(struct rewrite *w)
{
    struct kv_repair *r = w->r;
    struct kv_table_properties p;
    kv_status rc = KV_OK;
    if (!w->build)
        return KV_OK;
    KV_TRY(kv_table_build_finish(w->build, &p, r->err));
    p.space = w->space;
    rc = item_keep(r, &p, w->number, 0, w->known);
out:
    return rc;
}

static kv_status table_rewrite(struct kv_repair *r, uint64_t number, const struct kv_table_meta *known)
{
    char name[32], from[48], to[48];
    struct kv_table_salvaged said;
    struct kv_err why = {0};
    struct rewrite w = {
        .r = r, .known = known, .bulk_version = known ? known->bulk_version : 0, .name = name};
    kv_file_name(name, number, KV_NAME_TABLE);
    struct kv_table_salvage how = {.dir = r->dir,
                                   .name = name,
                                   .number = number,
                                   .keys = r->manifest.keys,
                                   .uuid = r->uuid,
                                   .uid = known ? known->uid : NULL,
                                   .entry = rewrite_entry,
                                   .lost = rewrite_lost,
                                   .ctx = &w};
    r->changed = true;
    kv_status rc = kv_repair_set_aside(r, name);
    if (rc < 0)
        return rc;
    if (!rewrite_space(&w, &how))
        rc = kv_fail(&why, KV_CORRUPT, 0, "its space cannot be told");
    else
        rc = kv_table_salvage(&how, &said, &why);
    if (rc == KV_OK)
        rc = rewrite_end(&w);
    kv_table_build_free(w.build);
    if (ends_repair(rc)) {
        if (r->err && why.code)
            *r->err = why;
        return rc;
    }
    r->report->values_lost += w.values_lost;
    if (rc == KV_CORRUPT || w.entries == 0) {
        r->report->tables_lost++;
        r->report->entries_lost += known ? known->entries : 0;
        kv_repair_say(r, KV_CORRUPT, "%s: nothing of it can be read%s%.200s; keys between %s and %s are lost",
                      name, why.text[0] ? ": " : "", why.text,
                      known ? kv_log_quote(known->smallest, from, sizeof from) : "?",
                      known ? kv_log_quote(known->largest, to, sizeof to) : "?");
        return KV_OK;
    }
    r->report->tables_rewritten++;
    if (known && w.entries < known->entries)
        r->report->entries_lost += known->entries - w.entries;
    kv_repair_say(r, KV_OK, "%s: %" PRIu64 " entries%s are now in %06" PRIu64 ".tbl", name, w.entries,
                  known && w.entries == known->entries ? ", all of them," : "", w.number);
    return KV_OK;
}

/* ---- all of them */

static void take_name(struct kv_repair *r, const struct kv_table_properties *p)
{
    if (p->space < KV_SPACES_MAX && p->space_name.len && p->space_name.len <= KV_SPACE_NAME_MAX) {
        memcpy(r->names[p->space], p->space_name.data, p->space_name.len);
        r->names[p->space][p->space_name.len] = 0;
    }
}

static kv_status table_open(struct kv_repair *r, uint64_t number, const struct kv_table_meta *known,
                            struct kv_table **table, struct kv_err *why)
{
    char name[32];
    kv_file_name(name, number, KV_NAME_TABLE);
    struct kv_table_open_options options = {.dir = r->dir,
                                            .name = name,
                                            .cache = r->env->cache,
                                            .keys = r->manifest.keys,
                                            .db_uuid = r->uuid,
                                            .uid = known ? known->uid : NULL,
                                            .file_bytes = known ? known->bytes : 0,
                                            .version = known ? known->bulk_version : 0,
                                            .number = number};
    return kv_table_open(&options, table, why);
}

static kv_status table_take(struct kv_repair *r, uint64_t number, const struct kv_table_meta *known)
{
    struct kv_table *table = NULL;
    struct kv_err why = {0};
    kv_status rc = table_open(r, number, known, &table, &why);
    const struct kv_table_properties *p = rc == KV_OK ? kv_table_properties(table) : NULL;
    if (rc == KV_OK && p->space >= r->manifest.state.n_spaces)
        rc = kv_fail(&why, KV_CORRUPT, 0, "it names space %" PRIu32 ", which does not exist", p->space);
    if (rc == KV_OK)
        rc = kv_table_verify(table, &why);
    if (rc == KV_OK)
        rc = kv_values_verify_table(&r->values, table, NULL, &why);
    if (rc == KV_OK && p->entries > 0) {
        r->report->tables_kept++;
        r->changed = r->changed || !known;
        rc = item_keep(r, p, number, known ? known->bulk_version : bulk_version_of(p), known);
    }
    kv_table_unref(table);
    if (rc == KV_OK)
        return rc;
    if (ends_repair(rc)) {
        if (r->err)
            *r->err = why;
        return rc;
    }
    kv_repair_say(r, rc, "%06" PRIu64 ".tbl: %.200s", number, why.text);
    return table_rewrite(r, number, known);
}

/* A table of the manifest that is not there. */
static void table_gone(struct kv_repair *r, const struct kv_table_meta *known)
{
    char from[48], to[48];
    r->changed = true;
    if (!r->exact) {
        kv_repair_say(r, KV_OK, "%06" PRIu64 ".tbl: is no longer there: merged since, or lost",
                      known->number);
        return;
    }
    r->report->tables_lost++;
    r->report->entries_lost += known->entries;
    kv_repair_say(r, KV_CORRUPT,
                  "%06" PRIu64 ".tbl: is missing: %" PRIu64 " entries of space %s between %s and %s are lost",
                  known->number, known->entries, r->manifest.state.spaces[known->space].name,
                  kv_log_quote(known->smallest, from, sizeof from),
                  kv_log_quote(known->largest, to, sizeof to));
}

kv_status kv_repair_names(struct kv_repair *r)
{
    size_t n = r->tables.len / sizeof(uint64_t);
    const uint64_t *numbers = (const uint64_t *)(const void *)r->tables.data;
    for (size_t i = 0; i < n; i++) {
        struct kv_table *table = NULL;
        kv_status rc = table_open(r, numbers[i], NULL, &table, r->err);
        if (ends_repair(rc))
            return rc;
        if (rc == KV_OK)
            take_name(r, kv_table_properties(table));
        kv_table_unref(table);
    }
    return KV_OK;
}

kv_status kv_repair_tables(struct kv_repair *r)
{
    const struct kv_manifest_state *state = &r->manifest.state;
    size_t n = r->tables.len / sizeof(uint64_t);
    const uint64_t *numbers = (const uint64_t *)(const void *)r->tables.data;
    kv_status rc = KV_OK;
    for (size_t i = 0; i < state->n_tables; i++)
        if (!is_there(&r->tables, state->tables[i]->number))
            table_gone(r, state->tables[i]);
    for (size_t i = 0; i < n && rc == KV_OK; i++) {
        const struct kv_table_meta *known = kv_manifest_table(state, numbers[i]);
        if (known || !r->exact)
            rc = table_take(r, numbers[i], known);
    }
    return rc;
}
