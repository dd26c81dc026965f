/* RocksDB behind kv_backend.h, by its C interface: levelled, snappy, full bloom filters, pinned reads. */
#include "bench/kv_backend.h"

#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>

struct store {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    bool sync;
};
struct session {
    struct store *store;
    rocksdb_writebatch_t *batch;
    rocksdb_writeoptions_t *write;
    rocksdb_readoptions_t *read;
    rocksdb_pinnableslice_t *pinned;
};
struct iter {
    rocksdb_iterator_t *it;
    rocksdb_readoptions_t *read;
};

static void must(char *err, const char *what)
{
    if (err)
        bench_die("rocksdb", what, err);
}

static void *store_open(const struct bench_options *o)
{
    enum { JOBS = 2, BLOOM_BITS = 10, BLOCK_BYTES = 4096 };
    struct store *s = calloc(1, sizeof *s);
    char *err = NULL;
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    s->options = rocksdb_options_create();
    s->sync = o->sync;
    s->cache = rocksdb_cache_create_lru(o->cache_bytes);
    rocksdb_block_based_options_set_block_cache(table, s->cache);
    rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS));
    rocksdb_block_based_options_set_block_size(table, BLOCK_BYTES);
    rocksdb_block_based_options_set_format_version(table, 5);
    rocksdb_options_set_block_based_table_factory(s->options, table);
    rocksdb_options_set_create_if_missing(s->options, 1);
    rocksdb_options_set_write_buffer_size(s->options, o->memtable_bytes);
    rocksdb_options_set_max_background_jobs(s->options, JOBS);
    rocksdb_options_set_compression(s->options, rocksdb_snappy_compression);
    s->db = rocksdb_open(s->options, o->dir, &err);
    must(err, "open");
    rocksdb_block_based_options_destroy(table);
    return s;
}

static void store_close(void *p)
{
    struct store *s = p;
    rocksdb_close(s->db);
    rocksdb_options_destroy(s->options);
    rocksdb_cache_destroy(s->cache);
    free(s);
}

static const char *store_note(void *store)
{
    (void)store;
    return "";
}

static void store_compact(void *p)
{
    rocksdb_compact_range(((struct store *)p)->db, NULL, 0, NULL, 0);
}

static void *session(void *p)
{
    struct session *s = calloc(1, sizeof *s);
    s->store = p;
    s->batch = rocksdb_writebatch_create();
    s->write = rocksdb_writeoptions_create();
    s->read = rocksdb_readoptions_create();
    rocksdb_writeoptions_set_sync(s->write, s->store->sync);
    return s;
}

static void read_end(struct session *s)
{
    if (s->pinned)
        rocksdb_pinnableslice_destroy(s->pinned);
    s->pinned = NULL;
}

static void session_end(void *p)
{
    struct session *s = p;
    read_end(s);
    rocksdb_writebatch_destroy(s->batch);
    rocksdb_writeoptions_destroy(s->write);
    rocksdb_readoptions_destroy(s->read);
    free(s);
}

static void session_write(void *p, const struct bench_entry *entries, size_t n)
{
    struct session *s = p;
    char *err = NULL;
    rocksdb_writebatch_clear(s->batch);
    for (size_t i = 0; i < n; i++) {
        kv_slice k = entries[i].key, v = entries[i].value;
        if (v.data)
            rocksdb_writebatch_put(s->batch, (const char *)k.data, k.len, (const char *)v.data, v.len);
        else
            rocksdb_writebatch_delete(s->batch, (const char *)k.data, k.len);
    }
    rocksdb_write(s->store->db, s->write, s->batch, &err);
    must(err, "write");
}

static bool session_get(void *p, kv_slice key, kv_slice *value)
{
    struct session *s = p;
    char *err = NULL;
    read_end(s);
    s->pinned = rocksdb_get_pinned(s->store->db, s->read, (const char *)key.data, key.len, &err);
    must(err, "get");
    if (!s->pinned)
        return false;
    const char *data = rocksdb_pinnableslice_value(s->pinned, &value->len);
    value->data = (const uint8_t *)data;
    return data != NULL;
}

static void *iter_open(void *p, kv_slice lower, kv_slice upper)
{
    struct session *s = p;
    struct iter *it = calloc(1, sizeof *it);
    it->read = rocksdb_readoptions_create();
    if (lower.len)
        rocksdb_readoptions_set_iterate_lower_bound(it->read, (const char *)lower.data, lower.len);
    if (upper.len)
        rocksdb_readoptions_set_iterate_upper_bound(it->read, (const char *)upper.data, upper.len);
    it->it = rocksdb_create_iterator(s->store->db, it->read);
    return it;
}

static bool iter_show(struct iter *it, struct bench_entry *out)
{
    char *err = NULL;
    if (!rocksdb_iter_valid(it->it)) {
        rocksdb_iter_get_error(it->it, &err);
        must(err, "iterator");
        return false;
    }
    size_t len;
    const char *data = rocksdb_iter_key(it->it, &len);
    out->key = kv_slice_of(data, len);
    data = rocksdb_iter_value(it->it, &len);
    out->value = kv_slice_of(data, len);
    return true;
}

static bool iter_seek(void *p, kv_slice target, struct bench_entry *out)
{
    struct iter *it = p;
    if (target.len)
        rocksdb_iter_seek(it->it, (const char *)target.data, target.len);
    else
        rocksdb_iter_seek_to_first(it->it);
    return iter_show(it, out);
}

static bool iter_next(void *p, struct bench_entry *out)
{
    rocksdb_iter_next(((struct iter *)p)->it);
    return iter_show(p, out);
}

static bool iter_last(void *p, struct bench_entry *out)
{
    rocksdb_iter_seek_to_last(((struct iter *)p)->it);
    return iter_show(p, out);
}

static bool iter_prev(void *p, struct bench_entry *out)
{
    rocksdb_iter_prev(((struct iter *)p)->it);
    return iter_show(p, out);
}

static void iter_end(void *p)
{
    struct iter *it = p;
    rocksdb_iter_destroy(it->it);
    rocksdb_readoptions_destroy(it->read);
    free(it);
}

const struct bench_backend bench_rocksdb = {.name = "rocksdb",
                                            .open = store_open,
                                            .close = store_close,
                                            .note = store_note,
                                            .compact = store_compact,
                                            .session = session,
                                            .session_end = session_end,
                                            .write = session_write,
                                            .get = session_get,
                                            .iter = iter_open,
                                            .seek = iter_seek,
                                            .next = iter_next,
                                            .last = iter_last,
                                            .prev = iter_prev,
                                            .iter_end = iter_end};
