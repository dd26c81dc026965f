/* Stream writer, table writer, ingest: sorted entries from anywhere become one bulk load. */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/bulk.h"
#include "kvcore/db/db.h"
#include "kvcore/sst/attrs.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- several streams */

struct kv_stream_writer {
    struct kv_db *db;
    uint32_t space;
    kv_mutex mutex; /* guards the pointers, not what they lead to */
    struct kv_bulk *streams[KV_STREAMS_MAX];
};

kv_status kv_stream_writer_open(struct kv_db *db, uint32_t space, struct kv_stream_writer **out,
                                struct kv_err *err)
{
    struct kv_bulk *first = NULL;
    kv_status rc = kv_bulk_open(db, space, &first, err); /* says what is wrong with db and space */
    if (rc < 0)
        return rc;
    struct kv_stream_writer *writer = kv_zalloc(1, sizeof *writer);
    if (!writer) {
        kv_bulk_abort(first);
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory opening a stream writer");
    }
    writer->db = db;
    writer->space = space;
    writer->streams[0] = first;
    kv_mutex_init(&writer->mutex);
    *out = writer;
    return KV_OK;
}

static kv_status writer_stream(struct kv_stream_writer *writer, uint32_t stream, struct kv_bulk **out,
                               struct kv_err *err)
{
    kv_status rc = KV_OK;
    if (stream >= KV_STREAMS_MAX)
        return kv_fail(err, KV_INVALID, 0, "stream %" PRIu32 ": there are at most %d", stream,
                       KV_STREAMS_MAX);
    kv_mutex_lock(&writer->mutex);
    if (!writer->streams[stream])
        rc = kv_bulk_open(writer->db, writer->space, &writer->streams[stream], err);
    *out = writer->streams[stream];
    kv_mutex_unlock(&writer->mutex);
    return rc;
}

kv_status kv_stream_writer_add(struct kv_stream_writer *writer, uint32_t stream, kv_slice key, kv_slice value,
                               const struct kv_put_options *options, struct kv_err *err)
{
    struct kv_bulk *bulk = NULL;
    kv_status rc = writer_stream(writer, stream, &bulk, err);
    return rc < 0 ? rc : kv_bulk_add_with(bulk, key, value, options, err);
}

kv_status kv_stream_writer_batch(struct kv_stream_writer *writer, const struct kv_stream_batch *batch,
                                 struct kv_err *err)
{
    struct kv_bulk *bulk = NULL;
    kv_status rc = batch->n ? writer_stream(writer, batch->range, &bulk, err) : KV_OK;
    for (size_t i = 0; i < batch->n && rc == KV_OK; i++) {
        const struct kv_stream_entry *entry = &batch->entries[i];
        struct kv_put_options how = {.expires_at_s = entry->expires_at_s, .meta = entry->meta};
        rc = entry->deleted ? kv_fail(err, KV_INVALID, 0, "a stream with deletions cannot be loaded")
                            : kv_bulk_add_with(bulk, entry->key, entry->value, &how, err);
    }
    return rc;
}

static void writer_free(struct kv_stream_writer *writer)
{
    for (size_t i = 0; i < KV_STREAMS_MAX; i++)
        kv_bulk_abort(writer->streams[i]);
    kv_mutex_release(&writer->mutex);
    kv_free(writer);
}

kv_status kv_stream_writer_install(struct kv_stream_writer *writer, uint64_t *seq, struct kv_err *err)
{
    struct kv_bulk *all = writer->streams[0];
    kv_status rc = KV_OK;
    writer->streams[0] = NULL;
    for (size_t i = 1; i < KV_STREAMS_MAX && rc == KV_OK; i++) {
        struct kv_bulk *next = writer->streams[i];
        writer->streams[i] = NULL;
        if (next)
            rc = kv_bulk_join(all, next, err);
    }
    if (rc == KV_OK)
        rc = kv_bulk_settle(all, err);
    if (rc == KV_OK) {
        rc = kv_bulk_install(all, 0, seq, err);
        all = NULL;
    }
    kv_bulk_abort(all);
    writer_free(writer);
    return rc;
}

void kv_stream_writer_abort(struct kv_stream_writer *writer)
{
    if (writer)
        writer_free(writer);
}

/* ---- tables of no database: uuid and space are zero, versions too */

struct kv_table_writer {
    struct kv_dir *dir;
    struct kv_table_build *build;
    struct kv_buf last_key, rich;
    bool any;
};

static const uint8_t no_uuid[KV_UUID_LEN];

kv_status kv_table_writer_open(struct kv_env *env, const char *path, const char *name,
                               const struct kv_table_writer_options *options, struct kv_table_writer **out,
                               struct kv_err *err)
{
    static const struct kv_table_writer_options defaults;
    const struct kv_table_writer_options *o = options ? options : &defaults;
    struct kv_table_writer *writer = kv_zalloc(1, sizeof *writer);
    kv_status rc;
    if (!writer)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory opening a table writer");
    KV_TRY(kv_vfs_dir_open(env->vfs, path, false, &writer->dir, err));
    struct kv_table_build_options how = {.dir = writer->dir,
                                         .name = name,
                                         .db_uuid = no_uuid,
                                         .clock = env->clock,
                                         .space_name = "",
                                         .codec = o->compression == KV_COMPRESSION_ZSTD     ? KV_CODEC_ZSTD
                                                  : o->compression == KV_COMPRESSION_SNAPPY ? KV_CODEC_SNAPPY
                                                                                            : KV_CODEC_PLAIN,
                                         .block_bytes = o->block_bytes,
                                         .no_filter = true};
    KV_TRY(kv_table_build_open(&how, &writer->build, err));
    *out = writer;
    return KV_OK;
out:
    kv_table_writer_abort(writer);
    return rc;
}

static kv_status writer_rich(struct kv_table_writer *writer, const struct kv_put_options *options,
                             struct kv_entry *entry)
{
    struct kv_attrs attrs = {.expires_at_s = options->expires_at_s, .meta = options->meta};
    uint8_t head[KV_ATTRS_LEN_MAX];
    if (kv_attrs_plain(&attrs))
        return KV_OK;
    kv_buf_clear(&writer->rich);
    kv_status rc = kv_buf_append(&writer->rich, kv_slice_of(head, kv_attrs_put(head, &attrs)));
    if (rc == KV_OK)
        rc = kv_buf_append(&writer->rich, entry->value);
    entry->kind = KV_KIND_RICH;
    entry->value = kv_buf_slice(&writer->rich);
    return rc;
}

kv_status kv_table_writer_add(struct kv_table_writer *writer, kv_slice key, kv_slice value,
                              const struct kv_put_options *options, struct kv_err *err)
{
    struct kv_entry entry = {key, 0, KV_KIND_PUT, value};
    if (key.len < 1 || key.len > KV_KEY_LEN_MAX || value.len > KV_VALUE_LEN_MAX)
        return kv_fail(err, KV_INVALID, 0, "a key of %zu or a value of %zu bytes is out of range", key.len,
                       value.len);
    if (writer->any && kv_slice_compare(key, kv_buf_slice(&writer->last_key)) <= 0)
        return kv_fail(err, KV_INVALID, 0, "the keys of a table must increase");
    writer->any = true;
    kv_buf_clear(&writer->last_key);
    if (kv_buf_append(&writer->last_key, key) < 0 || (options && writer_rich(writer, options, &entry) < 0))
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory writing a table");
    return kv_table_build_add(writer->build, &entry, err);
}

kv_status kv_table_writer_finish(struct kv_table_writer *writer, struct kv_err *err)
{
    kv_status rc = kv_table_build_finish(writer->build, NULL, err);
    if (rc == KV_OK)
        rc = kv_dir_sync_names(writer->dir, err);
    kv_table_writer_abort(writer);
    return rc;
}

void kv_table_writer_abort(struct kv_table_writer *writer)
{
    if (!writer)
        return;
    kv_table_build_free(writer->build);
    kv_dir_close(writer->dir);
    kv_buf_release(&writer->last_key);
    kv_buf_release(&writer->rich);
    kv_free(writer);
}

/* ---- ingest */

static int compare_tables(const void *a, const void *b)
{
    const struct kv_table_properties *x = kv_table_properties(*(struct kv_table *const *)a);
    const struct kv_table_properties *y = kv_table_properties(*(struct kv_table *const *)b);
    return kv_slice_compare(x->smallest, y->smallest);
}

static kv_status ingest_open(struct kv_db *db, struct kv_dir *dir, const char *name, struct kv_table **out,
                             struct kv_err *err)
{
    struct kv_table_open_options options = {
        .dir = dir, .name = name, .cache = db->env->cache, .log = &db->env->log, .db_uuid = no_uuid};
    struct kv_table *table = NULL;
    kv_status rc = kv_table_open(&options, &table, err);
    if (rc < 0)
        return rc;
    KV_ASSERT(table != NULL);
    *out = table;
    if (kv_table_properties(table)->version_max != 0) {
        kv_table_unref(table);
        *out = NULL;
        rc = kv_fail(err, KV_CORRUPT, 0, "%s: a table with versions of its own cannot be ingested", name);
    }
    return rc;
}

static kv_status ingest_table(struct kv_bulk *bulk, struct kv_table *table, struct kv_err *err)
{
    struct kv_table_iter_options how = {.no_fill = true, .err = err};
    struct kv_entry_iter *it = NULL;
    kv_status rc = kv_table_iter_open(table, &how, &it);
    if (rc < 0)
        return kv_fail(err, rc, 0, "out of memory reading a table");
    for (rc = kv_entry_iter_seek(it, (kv_slice){0}, KV_VERSION_MAX); rc == KV_OK;
         rc = kv_entry_iter_next(it)) {
        struct kv_put_options put = {0};
        struct kv_attrs attrs = {0};
        kv_slice value = it->value;
        if (it->kind != KV_KIND_PUT && it->kind != KV_KIND_RICH)
            rc = kv_fail(err, KV_CORRUPT, 0, "a table to be ingested holds an entry of kind %d",
                         (int)it->kind);
        else if (it->kind == KV_KIND_RICH)
            rc = kv_attrs_take(&value, &attrs);
        put.expires_at_s = attrs.expires_at_s;
        put.meta = attrs.meta;
        if (rc == KV_OK)
            rc = kv_bulk_add_with(bulk, it->key, value, &put, err);
        if (rc < 0)
            break;
    }
    kv_entry_iter_close(it);
    return rc < 0 ? rc : KV_OK;
}

static kv_status ingest_disjoint(struct kv_table *const *tables, size_t n, struct kv_err *err)
{
    for (size_t i = 1; i < n; i++)
        if (kv_slice_compare(kv_table_properties(tables[i - 1])->largest,
                             kv_table_properties(tables[i])->smallest) >= 0)
            return kv_fail(err, KV_INVALID, 0, "two of the %zu tables overlap", n);
    return KV_OK;
}

kv_status kv_ingest(struct kv_db *db, uint32_t space, const char *path, const char *const *names, size_t n,
                    uint64_t *seq, struct kv_err *err)
{
    struct kv_table **tables = kv_zalloc(n + 1, sizeof(struct kv_table *));
    struct kv_dir *dir = NULL;
    struct kv_bulk *bulk = NULL;
    kv_status rc;
    if (!tables)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory ingesting %zu tables", n);
    KV_TRY(kv_vfs_dir_open(db->env->vfs, path, false, &dir, err));
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        rc = ingest_open(db, dir, names[i], &tables[i], err);
    KV_TRY(rc);
    if (n > 1)
        qsort(tables, n, sizeof(struct kv_table *), compare_tables);
    KV_TRY(ingest_disjoint(tables, n, err));
    KV_TRY(kv_bulk_open(db, space, &bulk, err));
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        rc = ingest_table(bulk, tables[i], err);
    KV_TRY(rc);
    rc = kv_bulk_install(bulk, 0, seq, err);
    bulk = NULL;
out:
    kv_bulk_abort(bulk);
    for (size_t i = 0; tables && i < n; i++)
        kv_table_unref(tables[i]);
    kv_free(tables);
    kv_dir_close(dir);
    return rc;
}
