/* WiredTiger behind kv_backend.h: a row-store btree with its log on, snappy blocks and log records. */
#include "bench/kv_backend.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <wiredtiger.h>

struct store {
    WT_CONNECTION *connection;
    bool sync;
};
struct session {
    struct store *store;
    WT_SESSION *wt;
    WT_CURSOR *cursor;
};

static void must(int rc, const char *what)
{
    if (rc)
        bench_die("wiredtiger", what, wiredtiger_strerror(rc));
}

static void *store_open(const struct bench_options *o)
{
    struct store *s = calloc(1, sizeof *s);
    char config[1024];
    uint64_t cache = o->cache_bytes > o->memtable_bytes ? o->cache_bytes : o->memtable_bytes;
    snprintf(config, sizeof config,
             "create,cache_size=%" PRIu64
             ",session_max=100,log=(enabled=true,compressor=snappy,file_max=64MB),"
             "transaction_sync=(enabled=%s,method=fsync),checkpoint=(log_size=256MB,wait=60),"
             "extensions=[libwiredtiger_snappy.so]",
             cache, o->sync ? "true" : "false");
    s->sync = o->sync;
    must(wiredtiger_open(o->dir, NULL, config, &s->connection), "wiredtiger_open");
    WT_SESSION *session;
    must(s->connection->open_session(s->connection, NULL, NULL, &session), "open_session");
    must(session->create(session, "table:kv",
                         "type=file,key_format=u,value_format=u,block_compressor=snappy,leaf_page_max=32KB"),
         "create");
    must(session->close(session, NULL), "session close");
    return s;
}

static void store_close(void *p)
{
    struct store *s = p;
    must(s->connection->close(s->connection, NULL), "close");
    free(s);
}

static const char *store_note(void *store)
{
    (void)store;
    return "";
}

static void *session(void *p)
{
    struct session *s = calloc(1, sizeof *s);
    s->store = p;
    must(s->store->connection->open_session(s->store->connection, NULL, "isolation=snapshot", &s->wt),
         "open_session");
    must(s->wt->open_cursor(s->wt, "table:kv", NULL, "overwrite=true", &s->cursor), "open_cursor");
    return s;
}

static void session_end(void *p)
{
    struct session *s = p;
    must(s->wt->close(s->wt, NULL), "session close");
    free(s);
}

static WT_ITEM item(kv_slice s)
{
    return (WT_ITEM){.data = s.data, .size = s.len};
}

static void session_write(void *p, const struct bench_entry *entries, size_t n)
{
    struct session *s = p;
    WT_CURSOR *c = s->cursor;
    if (n > 1)
        must(s->wt->begin_transaction(s->wt, NULL), "begin_transaction");
    for (size_t i = 0; i < n; i++) {
        WT_ITEM key = item(entries[i].key), value = item(entries[i].value);
        c->set_key(c, &key);
        if (value.data) {
            c->set_value(c, &value);
            must(c->insert(c), "insert");
        } else {
            int rc = c->remove(c);
            if (rc != WT_NOTFOUND)
                must(rc, "remove");
        }
    }
    if (n > 1)
        must(s->wt->commit_transaction(s->wt, NULL), "commit_transaction");
    must(c->reset(c), "reset");
}

static bool session_get(void *p, kv_slice key, kv_slice *value)
{
    struct session *s = p;
    WT_ITEM k = item(key), v;
    must(s->cursor->reset(s->cursor), "reset"); /* a cursor in its place pins old updates in the cache */
    s->cursor->set_key(s->cursor, &k);
    int rc = s->cursor->search(s->cursor);
    if (rc == WT_NOTFOUND)
        return false;
    must(rc, "search");
    must(s->cursor->get_value(s->cursor, &v), "get_value");
    *value = kv_slice_of(v.data, v.size);
    return true;
}

static void *iter_open(void *p, kv_slice lower, kv_slice upper)
{
    struct session *s = p;
    WT_CURSOR *c;
    (void)lower;
    (void)upper;
    must(s->wt->open_cursor(s->wt, "table:kv", NULL, NULL, &c), "open_cursor");
    return c;
}

static bool iter_show(WT_CURSOR *c, int rc, struct bench_entry *out)
{
    WT_ITEM k, v;
    if (rc == WT_NOTFOUND)
        return false;
    must(rc, "cursor");
    must(c->get_key(c, &k), "get_key");
    must(c->get_value(c, &v), "get_value");
    *out = (struct bench_entry){kv_slice_of(k.data, k.size), kv_slice_of(v.data, v.size)};
    return true;
}

static bool iter_next(void *p, struct bench_entry *out)
{
    WT_CURSOR *c = p;
    return iter_show(c, c->next(c), out);
}

static bool iter_prev(void *p, struct bench_entry *out)
{
    WT_CURSOR *c = p;
    return iter_show(c, c->prev(c), out);
}

static bool iter_seek(void *p, kv_slice target, struct bench_entry *out)
{
    WT_CURSOR *c = p;
    WT_ITEM k = item(target);
    int exact;
    if (!target.len) {
        must(c->reset(c), "reset");
        return iter_next(p, out);
    }
    c->set_key(c, &k);
    int rc = c->search_near(c, &exact);
    return rc == 0 && exact < 0 ? iter_next(p, out) : iter_show(c, rc, out);
}

static bool iter_last(void *p, struct bench_entry *out)
{
    WT_CURSOR *c = p;
    must(c->reset(c), "reset");
    return iter_prev(p, out);
}

static void iter_end(void *p)
{
    WT_CURSOR *c = p;
    must(c->close(c), "cursor close");
}

const struct bench_backend bench_wiredtiger = {.name = "wiredtiger",
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
