/* kvcore behind kv_backend.h, by its public header alone. */
#include "bench/kv_backend.h"
#include "kvcore/kv.h"

#include <stdio.h>
#include <stdlib.h>

enum { STORE_THREADS = 2 };

struct store {
    struct kv_env *env;
    struct kv_db *db;
    const char *style;
};
struct session {
    struct store *store;
    struct kv_batch *batch;
    struct kv_pinned pinned;
};

static void must(kv_status rc, const char *what, const struct kv_err *err)
{
    if (rc < 0)
        bench_die("tidemark", what, err && err->text[0] ? err->text : kv_status_text(rc));
}

static kv_status open_style(struct store *store, const struct bench_options *o, enum kv_style style,
                            struct kv_err *err)
{
    struct kv_space_options space = {
        .name = "bench", .style = style, .compression = KV_COMPRESSION_SNAPPY, .block_bytes = 4096};
    struct kv_options options = {.spaces = &space,
                                 .n_spaces = 1,
                                 .memtable_bytes = o->memtable_bytes,
                                 .durability = o->sync ? KV_DURABILITY_GROUP : KV_DURABILITY_OS};
    char path[4096];
    snprintf(path, sizeof path, "%s/db", o->dir);
    return kv_open(store->env, path, &options, &store->db, err);
}

/* Levelled where the library has it and the directory was made so; runs otherwise. */
static void *store_open(const struct bench_options *o)
{
    struct store *store = calloc(1, sizeof *store);
    struct kv_env_options env = {.cache_bytes = o->cache_bytes, .threads = STORE_THREADS};
    struct kv_err err = {0};
    const char *style = getenv("KV_BENCH_STYLE");
    must(kv_env_open(&env, &store->env, &err), "kv_env_open", &err);
    store->style = "levelled";
    kv_status rc =
        style && strcmp(style, "runs") == 0 ? KV_UNSUPPORTED : open_style(store, o, KV_STYLE_LEVELLED, &err);
    if (rc < 0) {
        err = (struct kv_err){0};
        store->style = "runs";
        rc = open_style(store, o, KV_STYLE_RUNS, &err);
    }
    must(rc, "kv_open", &err);
    return store;
}

static void store_close(void *p)
{
    struct store *store = p;
    struct kv_err err = {0};
    must(kv_close(store->db, &err), "kv_close", &err);
    kv_env_close(store->env);
    free(store);
}

static const char *store_note(void *p)
{
    return ((struct store *)p)->style;
}

static void store_compact(void *p)
{
    struct kv_err err = {0};
    must(kv_merge_range(((struct store *)p)->db, 0, (kv_slice){0}, (kv_slice){0}, &err), "kv_merge_range",
         &err);
}

static void *session(void *p)
{
    struct session *s = calloc(1, sizeof *s);
    s->store = p;
    must(kv_batch_new(&s->batch), "kv_batch_new", NULL);
    return s;
}

static void session_end(void *p)
{
    struct session *s = p;
    kv_pinned_release(&s->pinned);
    kv_batch_free(s->batch);
    free(s);
}

static void session_write(void *p, const struct bench_entry *entries, size_t n)
{
    struct session *s = p;
    struct kv_err err = {0};
    kv_batch_clear(s->batch);
    for (size_t i = 0; i < n; i++)
        must(entries[i].value.data ? kv_batch_put(s->batch, 0, entries[i].key, entries[i].value)
                                   : kv_batch_delete(s->batch, 0, entries[i].key),
             "kv_batch", NULL);
    must(kv_commit(s->store->db, s->batch, NULL, NULL, &err), "kv_commit", &err);
}

static bool session_get(void *p, kv_slice key, kv_slice *value)
{
    struct session *s = p;
    struct kv_err err;
    kv_pinned_release(&s->pinned);
    kv_status rc = kv_get(s->store->db, NULL, 0, key, &s->pinned, &err);
    must(rc, "kv_get", &err);
    *value = s->pinned.value;
    return rc == KV_OK;
}

static void *iter_open(void *p, kv_slice lower, kv_slice upper)
{
    struct session *s = p;
    struct kv_iter *it;
    must(kv_iter_open(s->store->db, NULL, 0, lower, upper, &it), "kv_iter_open", NULL);
    return it;
}

static inline bool iter_show(struct kv_iter *it, kv_status rc, struct bench_entry *out)
{
    must(rc, "kv_iter", NULL);
    *out = (struct bench_entry){it->key, it->value};
    return rc == KV_OK;
}

static bool iter_seek(void *it, kv_slice target, struct bench_entry *out)
{
    return iter_show(it, kv_iter_seek(it, target), out);
}

static bool iter_next(void *it, struct bench_entry *out)
{
    return iter_show(it, kv_iter_next(it), out);
}

static bool iter_last(void *it, struct bench_entry *out)
{
    return iter_show(it, kv_iter_seek_before(it, (kv_slice){0}), out);
}

static bool iter_prev(void *it, struct bench_entry *out)
{
    return iter_show(it, kv_iter_prev(it), out);
}

static void iter_end(void *it)
{
    kv_iter_close(it);
}

const struct bench_backend bench_tidemark = {.name = "tidemark",
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
