/*
 * generation.h - one generation of the head: a table of series in order of first arrival, their streams of samples, their late ones.
 *
 * Private to head.c and generation.c; everyone else knows head.h, which declares the reading half. Page: tsdb/docs/head.md.
 *
 * Threads    ts_generation_apply and _erase: one at a time (the head's apply lock). Fields say what guards them.
 */
#ifndef TS_GENERATION_H
#define TS_GENERATION_H

#include "kvcore/base/arena.h"
#include "kvcore/os/thread.h"
#include "tsdb/head.h"

#include <stdatomic.h>

enum { TS_STRIPES = 64 };
struct ts_head_series;

struct ts_generation {
    atomic_uint refs;
    bool frozen; /* these four: list lock */
    uint64_t first_seq, last_seq;
    uint64_t samples, log_bytes;
    int64_t min_ms, max_ms;
    uint64_t opened_ns; /* when its first record came */
    atomic_uint_least64_t bytes;
    struct ts_activity *activity;
    struct kv_arena arena; /* apply only */
    kv_rwlock table_lock;  /* pages, n_series, table: changed by apply only, so apply reads them without it */
    struct ts_head_series **pages;
    uint32_t n_series, n_pages, pages_capacity;
    uint32_t *table; /* slot + 1; open addressing */
    uint32_t table_size;
    kv_mutex stripes[TS_STRIPES]; /* what a page's series point to */
};

struct ts_generation *ts_generation_new(void); /* NULL: out of memory. One pin */
struct ts_generation *ts_generation_pin(struct ts_generation *g);
uint64_t ts_generation_bytes(const struct ts_generation *g); /* of memory; apply lock held */

/* What a record added. */
struct ts_applied {
    uint64_t samples;
    int64_t min_ms, max_ms;
};
KV_MUST kv_status ts_generation_apply(struct ts_generation *g, kv_slice body, struct ts_applied *applied);
/* record: a delete, behind its kind. */
KV_MUST kv_status ts_generation_erase(struct ts_generation *g, kv_slice record);

#endif
