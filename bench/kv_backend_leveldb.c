/* LevelDB behind kv_backend.h, by its C interface. */
#include "bench/kv_backend.h"

#include <leveldb/c.h>
#include <stdlib.h>

struct store {
    leveldb_t *db;
    leveldb_options_t *options;
    leveldb_cache_t *cache;
    leveldb_filterpolicy_t *filter;
    bool sync;
};
struct session {
    struct store *store;
    leveldb_writebatch_t *batch;
    leveldb_writeoptions_t *write;
    leveldb_readoptions_t *read;
    char *value;
};

static void must(char *err, const char *what)
{
    if (err)
        bench_die("leveldb", what, err);
}

static void *store_open(const struct bench_options *o)
{
    enum { BLOOM_BITS = 10, BLOCK_BYTES = 4096 };
    struct store *s = calloc(1, sizeof *s);
    char *err = NULL;
    s->sync = o->sync;
    s->options = leveldb_options_create();
    s->cache = leveldb_cache_create_lru(o->cache_bytes);
    s->filter = leveldb_filterpolicy_create_bloom(BLOOM_BITS);
    leveldb_options_set_create_if_missing(s->options, 1);
    leveldb_options_set_write_buffer_size(s->options, o->memtable_bytes);
    leveldb_options_set_cache(s->options, s->cache);
    leveldb_options_set_filter_policy(s->options, s->filter);
    leveldb_options_set_block_size(s->options, BLOCK_BYTES);
    leveldb_options_set_compression(s->options, leveldb_snappy_compression);
    s->db = leveldb_open(s->options, o->dir, &err);
    must(err, "open");
    return s;
}

static void store_close(void *p)
{
    struct store *s = p;
    leveldb_close(s->db);
    leveldb_options_destroy(s->options);
    leveldb_cache_destroy(s->cache);
    leveldb_filterpolicy_destroy(s->filter);
    free(s);
}

static const char *store_note(void *store)
{
    (void)store;
    return "";
}

static void store_compact(void *p)
{
    leveldb_compact_range(((struct store *)p)->db, NULL, 0, NULL, 0);
}

static void *session(void *p)
{
    struct session *s = calloc(1, sizeof *s);
    s->store = p;
    s->batch = leveldb_writebatch_create();
    s->write = leveldb_writeoptions_create();
    s->read = leveldb_readoptions_create();
    leveldb_writeoptions_set_sync(s->write, s->store->sync);
    return s;
}

static void session_end(void *p)
{
    struct session *s = p;
    leveldb_free(s->value);
    leveldb_writebatch_destroy(s->batch);
    leveldb_writeoptions_destroy(s->write);
    leveldb_readoptions_destroy(s->read);
    free(s);
}

static void session_write(void *p, const struct bench_entry *entries, size_t n)
{
    struct session *s = p;
    char *err = NULL;
    leveldb_writebatch_clear(s->batch);
    for (size_t i = 0; i < n; i++) {
        kv_slice k = entries[i].key, v = entries[i].value;
        if (v.data)
            leveldb_writebatch_put(s->batch, (const char *)k.data, k.len, (const char *)v.data, v.len);
        else
            leveldb_writebatch_delete(s->batch, (const char *)k.data, k.len);
    }
    leveldb_write(s->store->db, s->write, s->batch, &err);
    must(err, "write");
}

static bool session_get(void *p, kv_slice key, kv_slice *value)
{
    struct session *s = p;
    char *err = NULL;
    leveldb_free(s->value);
    s->value = leveldb_get(s->store->db, s->read, (const char *)key.data, key.len, &value->len, &err);
    must(err, "get");
    value->data = (const uint8_t *)s->value;
    return s->value != NULL;
}

static void *iter_open(void *p, kv_slice lower, kv_slice upper)
{
    struct session *s = p;
    (void)lower;
    (void)upper;
    return leveldb_create_iterator(s->store->db, s->read);
}

static bool iter_show(const leveldb_iterator_t *it, struct bench_entry *out)
{
    char *err = NULL;
    if (!leveldb_iter_valid(it)) {
        leveldb_iter_get_error(it, &err);
        must(err, "iterator");
        return false;
    }
    size_t len;
    const char *data = leveldb_iter_key(it, &len);
    out->key = kv_slice_of(data, len);
    data = leveldb_iter_value(it, &len);
    out->value = kv_slice_of(data, len);
    return true;
}

static bool iter_seek(void *it, kv_slice target, struct bench_entry *out)
{
    if (target.len)
        leveldb_iter_seek(it, (const char *)target.data, target.len);
    else
        leveldb_iter_seek_to_first(it);
    return iter_show(it, out);
}

static bool iter_next(void *it, struct bench_entry *out)
{
    leveldb_iter_next(it);
    return iter_show(it, out);
}

static bool iter_last(void *it, struct bench_entry *out)
{
    leveldb_iter_seek_to_last(it);
    return iter_show(it, out);
}

static bool iter_prev(void *it, struct bench_entry *out)
{
    leveldb_iter_prev(it);
    return iter_show(it, out);
}

static void iter_end(void *it)
{
    leveldb_iter_destroy(it);
}

const struct bench_backend bench_leveldb = {.name = "leveldb",
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
