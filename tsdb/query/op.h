/*
 * op.h - SEAM: an operator of a running query. It yields its series one by one, each with its whole column of
 * step values, so that what needs no neighbours (rate, abs, x * 2) streams and what folds (sum by) keeps only
 * its groups.
 *
 * A column has one value per step of the operator's grid. A step without a value holds the stale marker, bit
 * for bit (ts_is_absent): look-back and windows drop that pattern, and arithmetic cannot make it, so it is
 * free for the purpose and loops over columns need no second array.
 *
 * Threads    one query belongs to one thread.
 * Ownership  an operator owns its children. next lends the column: labels (the array) and values are good
 *            until the next call, the consumer may overwrite values until then; the bytes of names and values
 *            live until the operator is closed.
 * Failure    a negative status, with the reason in run->err. After a failure or KV_END next is not called
 *            again.
 */
#ifndef TS_OP_H
#define TS_OP_H

#include "kvcore/base/arena.h"
#include "kvcore/base/buf.h"
#include "tsdb/promql/ast.h"
#include "tsdb/query/limits.h"
#include "tsdb/query/notes.h"
#include "tsdb/sample.h"

struct ts_db;
struct ts_operator;

/* Steps start_ms, start_ms + step_ms, ...: n of them, n >= 1. */
struct ts_grid {
    int64_t start_ms, step_ms;
    size_t n;
};
static inline int64_t ts_grid_at(const struct ts_grid *grid, size_t i)
{
    return grid->start_ms + (int64_t)i * grid->step_ms;
}

/* One query while it runs. */
struct ts_run {
    struct ts_db *db;
    kv_slice text;
    struct ts_budget budget;
    struct ts_notes notes;
    struct ts_query_err *err;          /* filled by whoever fails first */
    int64_t start_ms, end_ms, step_ms; /* of the query; step 0: instant */
    int64_t lookback_ms;
    int64_t subquery_step_ms;
    bool delayed_names; /* __name__ is dropped only at the end of the query */
    uint64_t series;    /* yielded by scans so far */
};

struct ts_column {
    const struct ts_label *labels; /* sorted by name */
    size_t n_labels;
    bool drop_name; /* delayed name removal: the name goes at the end of the query */
    double *values; /* grid.n */
};

struct ts_operator_ops {
    /* KV_OK, KV_END or negative. No two series of one operator have equal labels unless names are dropped
     * late. */
    kv_status (*next)(struct ts_operator *op, struct ts_column *out);
    /* Frees op and its children. */
    void (*close)(struct ts_operator *op);
};

/* Embedded first in each operator. */
struct ts_operator {
    const struct ts_operator_ops *ops;
    struct ts_run *run;
    struct ts_grid grid;
    const struct ts_expr *expr; /* what it computes: and where annotations point. May be NULL */
    bool one_name; /* all its series share one name or have none: dropping names cannot make two series alike
                    */
};

static inline kv_status ts_operator_next(struct ts_operator *op, struct ts_column *out)
{
    return op->ops->next(op, out);
}
void ts_operator_close(struct ts_operator *op); /* NULL is fine */

/* ---- absent values */

static inline bool ts_is_absent(double v)
{
    return ts_double_bits(v) == TS_STALE_NAN;
}
static inline double ts_absent(void)
{
    return ts_double_of(TS_STALE_NAN);
}
void ts_column_fill(double *values, size_t n, double value);
bool ts_column_empty(const double *values, size_t n);

/* ---- failure */

/* Fills run->err unless it is filled already; returns code. */
kv_status ts_run_fail(struct ts_run *run, enum ts_query_errtype type, kv_status code, const char *format, ...)
    KV_PRINTF(4, 5);
/* Turns a negative status of a lower layer into the query's error: limits in Prometheus's words, the rest
 * with err's text (err may be NULL). Returns status. */
kv_status ts_run_status(struct ts_run *run, kv_status status, const struct kv_err *err);
/* Counts n samples held or produced. */
KV_MUST kv_status ts_run_samples(struct ts_run *run, uint64_t n);

/* ---- memory, counted in the budget */

/* Bulk memory of one operator. ts_pool_alloc answers NULL on failure; run->err is filled then and
 * ts_pool_status says why. */
struct ts_pool {
    struct ts_run *run;
    struct kv_arena arena;
    size_t counted;
    kv_status status;
};
void ts_pool_init(struct ts_pool *pool, struct ts_run *run);
void ts_pool_release(struct ts_pool *pool);
KV_MUST void *ts_pool_alloc(struct ts_pool *pool, size_t size);
KV_MUST double *ts_pool_column(struct ts_pool *pool, size_t n); /* uninitialised */
/* Copies the array, not the bytes the labels point to. */
KV_MUST struct ts_label *ts_pool_labels(struct ts_pool *pool, const struct ts_label *labels, size_t n);
KV_MUST kv_slice ts_pool_copy(struct ts_pool *pool, kv_slice bytes);
static inline kv_status ts_pool_status(const struct ts_pool *pool)
{
    return pool->status < 0 ? pool->status : KV_NO_MEMORY;
}

/* A growing array: room for `need` elements of `size` bytes; *array and *capacity are updated. */
KV_MUST kv_status ts_run_grow(struct ts_run *run, void **array, size_t *capacity, size_t need, size_t size);
void ts_run_shrink(struct ts_run *run, void **array, size_t *capacity, size_t size); /* frees it */

/* ---- whole inputs, for operators that need neighbours */

struct ts_rows {
    struct ts_column *items; /* labels and values in the pool */
    size_t n, capacity;
    struct ts_pool pool;
};
void ts_rows_init(struct ts_rows *rows, struct ts_run *run);
void ts_rows_release(struct ts_rows *rows);
/* Appends a copy of column (n values); its position is rows->n - 1. */
KV_MUST kv_status ts_rows_add(struct ts_rows *rows, const struct ts_column *column, size_t n);
/* Everything op yields, series without a value left out. Bytes of labels are still op's. */
KV_MUST kv_status ts_rows_collect(struct ts_rows *rows, struct ts_operator *op);
/* The one column of a scalar operator, copied into values (op->grid.n). */
KV_MUST kv_status ts_scalar_read(struct ts_operator *op, double *values);

/* ---- byte keys to dense numbers: groups, signatures, label sets */

struct ts_keys {
    struct ts_pool pool;
    uint32_t *slots; /* index + 1 of entries; a power of two of them */
    size_t n_slots;
    struct ts_key_entry *entries;
    size_t n, capacity;
    struct kv_buf scratch;
};
void ts_keys_init(struct ts_keys *keys, struct ts_run *run);
void ts_keys_release(struct ts_keys *keys);
/* The number of key, given in order of arrival. *is_new when it was not there before. */
KV_MUST kv_status ts_keys_put(struct ts_keys *keys, kv_slice key, size_t *index, bool *is_new);
/* As put without adding: false when it is not there. */
bool ts_keys_find(const struct ts_keys *keys, kv_slice key, size_t *index);

#endif
