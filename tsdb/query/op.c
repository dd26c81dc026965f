/* op.c - what all operators share: failure in the query's words, counted memory, whole inputs, keys. */
#include "tsdb/query/op.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/hash.h"
#include "kvcore/base/mem.h"
#include "tsdb/promql/parse.h"

#include <stdarg.h>
#include <stdio.h>

void ts_operator_close(struct ts_operator *op)
{
    if (op)
        op->ops->close(op);
}

void ts_column_fill(double *values, size_t n, double value)
{
    for (size_t i = 0; i < n; i++)
        values[i] = value;
}

bool ts_column_empty(const double *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!ts_is_absent(values[i]))
            return false;
    return true;
}

/* ---- failure */

kv_status ts_run_fail(struct ts_run *run, enum ts_query_errtype type, kv_status code, const char *format, ...)
{
    va_list args;
    if (!run->err || run->err->code != KV_OK)
        return code;
    run->err->type = type;
    run->err->code = code;
    va_start(args, format);
    (void)vsnprintf(run->err->text, sizeof(run->err->text), format, args);
    va_end(args);
    return code;
}

static kv_status run_fail_limit(struct ts_run *run)
{
    char text[160];
    ts_budget_limit_text(&run->budget, text, sizeof text);
    return ts_run_fail(run, TS_QUERY_EXECUTION, KV_LIMIT, "%s", text);
}

kv_status ts_run_status(struct ts_run *run, kv_status status, const struct kv_err *err)
{
    if (status >= 0)
        return status;
    if (run->budget.failed == KV_LIMIT)
        return run_fail_limit(run);
    if (status == KV_TIMEOUT || run->budget.failed == KV_TIMEOUT)
        return ts_run_fail(run, TS_QUERY_TIMEOUT, KV_TIMEOUT, "query timed out in expression evaluation");
    if (status == KV_CANCELED || run->budget.failed == KV_CANCELED)
        return ts_run_fail(run, TS_QUERY_CANCELED, KV_CANCELED,
                           "query was canceled in expression evaluation");
    enum ts_query_errtype type =
        status == KV_INVALID || status == KV_LIMIT ? TS_QUERY_EXECUTION : TS_QUERY_INTERNAL;
    return ts_run_fail(run, type, status, "%s", err && err->text[0] ? err->text : kv_status_text(status));
}

kv_status ts_run_samples(struct ts_run *run, uint64_t n)
{
    return ts_run_status(run, ts_budget_samples(&run->budget, n), NULL);
}

/* ---- memory */

static void run_give_back(struct ts_run *run, size_t bytes)
{
    kv_status rc = ts_budget_bytes(&run->budget, -(int64_t)bytes);
    KV_ASSERT(rc == KV_OK); /* giving back cannot fail */
}

void ts_pool_init(struct ts_pool *pool, struct ts_run *run)
{
    *pool = (struct ts_pool){.run = run};
}

void ts_pool_release(struct ts_pool *pool)
{
    kv_arena_release(&pool->arena);
    if (pool->run && pool->counted)
        run_give_back(pool->run, pool->counted);
    pool->counted = 0;
}

/* Counts what the arena took from the heap since the last time. */
static bool pool_count(struct ts_pool *pool)
{
    size_t used = pool->arena.used;
    if (used == pool->counted)
        return true;
    kv_status rc = ts_budget_bytes(&pool->run->budget, (int64_t)used - (int64_t)pool->counted);
    if (rc < 0) {
        pool->status = ts_run_status(pool->run, rc, NULL);
        return false;
    }
    pool->counted = used;
    return true;
}

void *ts_pool_alloc(struct ts_pool *pool, size_t size)
{
    const struct ts_budget *budget = &pool->run->budget;
    if (size > budget->bytes_max - budget->bytes) { /* not even asked for */
        pool->status = ts_run_status(pool->run, ts_budget_bytes(&pool->run->budget, INT64_MAX), NULL);
        return NULL;
    }
    void *memory = kv_arena_alloc(&pool->arena, size);
    if (!memory) {
        pool->status = ts_run_status(pool->run, KV_NO_MEMORY, NULL);
        return NULL;
    }
    return pool_count(pool) ? memory : NULL;
}

double *ts_pool_column(struct ts_pool *pool, size_t n)
{
    if (n > SIZE_MAX / sizeof(double)) {
        pool->status = ts_run_status(pool->run, KV_NO_MEMORY, NULL);
        return NULL;
    }
    return ts_pool_alloc(pool, n * sizeof(double));
}

struct ts_label *ts_pool_labels(struct ts_pool *pool, const struct ts_label *labels, size_t n)
{
    struct ts_label *copy = ts_pool_alloc(pool, (n ? n : 1) * sizeof(*copy));
    if (copy && n)
        memcpy(copy, labels, n * sizeof(*copy));
    return copy;
}

kv_slice ts_pool_copy(struct ts_pool *pool, kv_slice bytes)
{
    uint8_t *copy = ts_pool_alloc(pool, bytes.len ? bytes.len : 1);
    if (!copy)
        return (kv_slice){NULL, 0};
    if (bytes.len)
        memcpy(copy, bytes.data, bytes.len);
    return kv_slice_of(copy, bytes.len);
}

kv_status ts_run_grow(struct ts_run *run, void **array, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity)
        return KV_OK;
    size_t want = *capacity + *capacity / 2;
    want = want < need ? need : want;
    want = want < 8 ? 8 : want;
    if (want > SIZE_MAX / 2 / size)
        return ts_run_status(run, KV_NO_MEMORY, NULL);
    kv_status rc = ts_budget_bytes(&run->budget, (int64_t)((want - *capacity) * size));
    if (rc < 0)
        return ts_run_status(run, rc, NULL);
    void *bigger = kv_realloc(*array, want * size);
    if (!bigger) {
        run_give_back(run, (want - *capacity) * size);
        return ts_run_status(run, KV_NO_MEMORY, NULL);
    }
    *array = bigger;
    *capacity = want;
    return KV_OK;
}

void ts_run_shrink(struct ts_run *run, void **array, size_t *capacity, size_t size)
{
    kv_free(*array);
    if (run)
        run_give_back(run, *capacity * size);
    *array = NULL;
    *capacity = 0;
}

/* ---- whole inputs */

void ts_rows_init(struct ts_rows *rows, struct ts_run *run)
{
    *rows = (struct ts_rows){0};
    ts_pool_init(&rows->pool, run);
}

void ts_rows_release(struct ts_rows *rows)
{
    ts_run_shrink(rows->pool.run, (void **)&rows->items, &rows->capacity, sizeof(*rows->items));
    ts_pool_release(&rows->pool);
    rows->n = 0;
}

kv_status ts_rows_add(struct ts_rows *rows, const struct ts_column *column, size_t n)
{
    kv_status rc = ts_run_grow(rows->pool.run, (void **)&rows->items, &rows->capacity, rows->n + 1,
                               sizeof(*rows->items));
    if (rc < 0)
        return rc;
    struct ts_column *row = &rows->items[rows->n];
    struct ts_label *labels = ts_pool_labels(&rows->pool, column->labels, column->n_labels);
    double *values = labels ? ts_pool_column(&rows->pool, n) : NULL;
    if (!values)
        return ts_pool_status(&rows->pool);
    memcpy(values, column->values, n * sizeof(*values));
    *row = (struct ts_column){labels, column->n_labels, column->drop_name, values};
    rows->n++;
    return KV_OK;
}

kv_status ts_rows_collect(struct ts_rows *rows, struct ts_operator *op)
{
    struct ts_column column;
    kv_status rc;
    while ((rc = ts_operator_next(op, &column)) == KV_OK) {
        if (ts_column_empty(column.values, op->grid.n))
            continue;
        KV_TRY(ts_rows_add(rows, &column, op->grid.n));
    }
out:
    return rc < 0 ? rc : KV_OK;
}

kv_status ts_scalar_read(struct ts_operator *op, double *values)
{
    struct ts_column column;
    kv_status rc = ts_operator_next(op, &column);
    if (rc < 0)
        return rc;
    if (rc == KV_END)
        ts_column_fill(values, op->grid.n, ts_absent());
    else
        memcpy(values, column.values, op->grid.n * sizeof(*values));
    return KV_OK;
}

/* ---- keys */

struct ts_key_entry {
    uint64_t hash;
    kv_slice key;
};

void ts_keys_init(struct ts_keys *keys, struct ts_run *run)
{
    *keys = (struct ts_keys){0};
    ts_pool_init(&keys->pool, run);
}

void ts_keys_release(struct ts_keys *keys)
{
    struct ts_run *run = keys->pool.run;
    ts_run_shrink(run, (void **)&keys->slots, &keys->n_slots, sizeof(*keys->slots));
    ts_run_shrink(run, (void **)&keys->entries, &keys->capacity, sizeof(*keys->entries));
    ts_pool_release(&keys->pool);
    kv_buf_release(&keys->scratch);
    keys->n = 0;
}

/* The slot that holds key, or the free one where it belongs. There is always a free one. */
static size_t keys_slot(const struct ts_keys *keys, kv_slice key, uint64_t hash)
{
    size_t mask = keys->n_slots - 1;
    size_t at = (size_t)hash & mask;
    while (keys->slots[at]) {
        const struct ts_key_entry *entry = &keys->entries[keys->slots[at] - 1];
        if (entry->hash == hash && kv_slice_equal(entry->key, key))
            break;
        at = (at + 1) & mask;
    }
    return at;
}

static kv_status keys_rehash(struct ts_keys *keys)
{
    struct ts_run *run = keys->pool.run;
    size_t want = keys->n_slots ? keys->n_slots * 2 : 64;
    uint32_t *slots = NULL;
    size_t n_slots = 0;
    if (want > UINT32_MAX)
        return ts_run_status(run, KV_LIMIT, NULL);
    kv_status rc = ts_run_grow(run, (void **)&slots, &n_slots, want, sizeof(*slots));
    if (rc < 0)
        return rc;
    KV_ASSERT(slots);
    memset(slots, 0, n_slots * sizeof(*slots));
    ts_run_shrink(run, (void **)&keys->slots, &keys->n_slots, sizeof(*keys->slots));
    keys->slots = slots;
    keys->n_slots = n_slots;
    for (size_t i = 0; i < keys->n; i++)
        slots[keys_slot(keys, keys->entries[i].key, keys->entries[i].hash)] = (uint32_t)i + 1;
    return KV_OK;
}

kv_status ts_keys_put(struct ts_keys *keys, kv_slice key, size_t *index, bool *is_new)
{
    kv_status rc;
    if ((keys->n + 1) * 2 > keys->n_slots && (rc = keys_rehash(keys)) < 0)
        return rc;
    uint64_t hash = kv_hash64(key, 0);
    size_t at = keys_slot(keys, key, hash);
    *is_new = keys->slots[at] == 0;
    if (!*is_new) {
        *index = keys->slots[at] - 1;
        return KV_OK;
    }
    rc = ts_run_grow(keys->pool.run, (void **)&keys->entries, &keys->capacity, keys->n + 1,
                     sizeof(*keys->entries));
    if (rc < 0)
        return rc;
    kv_slice copy = ts_pool_copy(&keys->pool, key);
    if (!copy.data)
        return ts_pool_status(&keys->pool);
    keys->entries[keys->n] = (struct ts_key_entry){hash, copy};
    *index = keys->n++;
    keys->slots[at] = (uint32_t)keys->n;
    return KV_OK;
}

bool ts_keys_find(const struct ts_keys *keys, kv_slice key, size_t *index)
{
    if (!keys->n)
        return false;
    size_t at = keys_slot(keys, key, kv_hash64(key, 0));
    if (!keys->slots[at])
        return false;
    *index = keys->slots[at] - 1;
    return true;
}
