/*
 * kv_backend.h - what kv_bench asks of a store: one file a store behind it, each by its library's C interface
 * and by the habits its own manual advises (prepared cursors, pinned reads, write batches).
 *
 * Threads    a store may be used by any thread, a session and its iterators by one.
 * Failure    there is none: a store that fails ends the program with a line that says what and where.
 */
#ifndef BENCH_KV_BACKEND_H
#define BENCH_KV_BACKEND_H

#include "kvcore/base/slice.h"

struct bench_options {
    const char *dir; /* exists */
    uint64_t cache_bytes, memtable_bytes;
    uint64_t data_bytes; /* about how much will be stored: for stores that reserve address space */
    bool sync;           /* a write is on disk before it is answered; otherwise it is when the system likes */
    bool read;           /* opened for reading what an earlier process left */
};

struct bench_entry {
    kv_slice key, value; /* value.data NULL: a deletion */
};

struct bench_backend {
    const char *name;
    void *(*open)(const struct bench_options *options);
    void (*close)(void *store);
    /* What else a reader of the table should know of this run (a style, a mode); "" when nothing. */
    const char *(*note)(void *store);
    /* Everything into its final shape by hand: a full compaction where the store has one. NULL: has none. */
    void (*compact)(void *store);

    void *(*session)(void *store);
    void (*session_end)(void *session);
    /* One atomic write, durable as bench_options.sync says. */
    void (*write)(void *session, const struct bench_entry *entries, size_t n);
    /* What is there now; *value is good until the session's next call. False: no such key. */
    bool (*get)(void *session, kv_slice key, kv_slice *value);

    /* What is there now in [lower, upper); empty slices: unbounded. A store without bounds ignores them: callers
     * check keys themselves. Slices are good until the iterator's next call. */
    void *(*iter)(void *session, kv_slice lower, kv_slice upper);
    bool (*seek)(void *iter, kv_slice target, struct bench_entry *out); /* first entry >= target */
    bool (*next)(void *iter, struct bench_entry *out);
    bool (*last)(void *iter, struct bench_entry *out); /* NULL, like prev: the store cannot walk backwards */
    bool (*prev)(void *iter, struct bench_entry *out);
    void (*iter_end)(void *iter);
};

extern const struct bench_backend bench_tidemark, bench_rocksdb, bench_leveldb, bench_lmdb, bench_wiredtiger;

/* Ends the program: "kv_bench: STORE: WHAT: WHY". */
_Noreturn void bench_die(const char *store, const char *what, const char *why);

#endif
