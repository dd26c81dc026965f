/* LMDB behind kv_backend.h. Its cache is the page cache; without sync it is opened MDB_NOSYNC. */
#include "bench/kv_backend.h"

#include <lmdb.h>
#include <stdlib.h>

struct session {
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *read; /* reset between reads, so that nothing old is pinned */
    bool reading;
};
struct iter {
    struct session *session;
    MDB_cursor *cursor;
};

static void must(int rc, const char *what)
{
    if (rc)
        bench_die("lmdb", what, mdb_strerror(rc));
}

static MDB_val val(kv_slice s)
{
    return (MDB_val){s.len, (void *)(uintptr_t)s.data};
}

static void *store_open(const struct bench_options *o)
{
    MDB_env *env;
    must(mdb_env_create(&env), "mdb_env_create");
    must(mdb_env_set_mapsize(env, (size_t)o->data_bytes * 4 + ((size_t)4 << 30)), "mdb_env_set_mapsize");
    must(mdb_env_open(env, o->dir, MDB_NOTLS | (o->sync ? 0 : MDB_NOSYNC), 0644), "mdb_env_open");
    return env;
}

static void store_close(void *env)
{
    mdb_env_close(env);
}

static const char *store_note(void *store)
{
    (void)store;
    return "";
}

static void *session(void *env)
{
    struct session *s = calloc(1, sizeof *s);
    MDB_txn *txn;
    s->env = env;
    must(mdb_txn_begin(env, NULL, 0, &txn), "mdb_txn_begin");
    must(mdb_dbi_open(txn, NULL, 0, &s->dbi), "mdb_dbi_open");
    must(mdb_txn_commit(txn), "mdb_txn_commit");
    must(mdb_txn_begin(env, NULL, MDB_RDONLY, &s->read), "mdb_txn_begin");
    mdb_txn_reset(s->read);
    return s;
}

static void read_end(struct session *s)
{
    if (s->reading)
        mdb_txn_reset(s->read);
    s->reading = false;
}

static void read_begin(struct session *s)
{
    read_end(s);
    must(mdb_txn_renew(s->read), "mdb_txn_renew");
    s->reading = true;
}

static void session_end(void *p)
{
    struct session *s = p;
    mdb_txn_abort(s->read);
    free(s);
}

static void session_write(void *p, const struct bench_entry *entries, size_t n)
{
    struct session *s = p;
    MDB_txn *txn;
    read_end(s);
    must(mdb_txn_begin(s->env, NULL, 0, &txn), "mdb_txn_begin");
    for (size_t i = 0; i < n; i++) {
        MDB_val key = val(entries[i].key), value = val(entries[i].value);
        int rc = value.mv_data ? mdb_put(txn, s->dbi, &key, &value, 0) : mdb_del(txn, s->dbi, &key, NULL);
        if (rc != MDB_NOTFOUND)
            must(rc, "mdb_put");
    }
    must(mdb_txn_commit(txn), "mdb_txn_commit");
}

static bool session_get(void *p, kv_slice key, kv_slice *value)
{
    struct session *s = p;
    MDB_val k = val(key), v;
    read_begin(s);
    int rc = mdb_get(s->read, s->dbi, &k, &v);
    if (rc == MDB_NOTFOUND)
        return false;
    must(rc, "mdb_get");
    *value = kv_slice_of(v.mv_data, v.mv_size);
    return true;
}

static void *iter_open(void *p, kv_slice lower, kv_slice upper)
{
    struct iter *it = calloc(1, sizeof *it);
    (void)lower;
    (void)upper;
    it->session = p;
    read_begin(it->session);
    must(mdb_cursor_open(it->session->read, it->session->dbi, &it->cursor), "mdb_cursor_open");
    return it;
}

static bool iter_to(void *p, kv_slice target, MDB_cursor_op op, struct bench_entry *out)
{
    MDB_val k = val(target), v;
    int rc = mdb_cursor_get(((struct iter *)p)->cursor, &k, &v, op);
    if (rc == MDB_NOTFOUND)
        return false;
    must(rc, "mdb_cursor_get");
    *out = (struct bench_entry){kv_slice_of(k.mv_data, k.mv_size), kv_slice_of(v.mv_data, v.mv_size)};
    return true;
}

static bool iter_seek(void *it, kv_slice target, struct bench_entry *out)
{
    return iter_to(it, target, target.len ? MDB_SET_RANGE : MDB_FIRST, out);
}

static bool iter_next(void *it, struct bench_entry *out)
{
    return iter_to(it, (kv_slice){0}, MDB_NEXT, out);
}

static bool iter_last(void *it, struct bench_entry *out)
{
    return iter_to(it, (kv_slice){0}, MDB_LAST, out);
}

static bool iter_prev(void *it, struct bench_entry *out)
{
    return iter_to(it, (kv_slice){0}, MDB_PREV, out);
}

static void iter_end(void *p)
{
    struct iter *it = p;
    mdb_cursor_close(it->cursor);
    read_end(it->session);
    free(it);
}

const struct bench_backend bench_lmdb = {.name = "lmdb",
                                         .open = store_open,
                                         .close = store_close,
                                         .note = store_note,
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
