#include "tests/support/txn_history.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/prng.h"
#include "kvcore/os/clock.h"
#include "kvcore/os/thread.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { SPACES = 2, KEYS = 6, OPS_MAX = 7, THREADS_MAX = 8 };

enum op_kind { OP_GET, OP_SCAN, OP_PUT, OP_DELETE, OP_DELETE_RANGE, OP_MERGE };
struct op {
    enum op_kind kind;
    uint32_t space, key, upper; /* a scan's or range's keys: [key, upper) */
    uint32_t limit;             /* of a scan's entries */
    uint64_t value;             /* put, merge */
    uint64_t seen[KEYS];        /* get: [0]. scan: by key; 0: absent */
    uint32_t seen_to;           /* scan: keys below it are known */
};
struct txn {
    uint64_t version;
    _Atomic uint64_t *waiting; /* not NULL: its commit is not waited for, and counts there until it is made */
    bool wrote;
    uint32_t n_ops;
    struct op ops[OPS_MAX];
};
struct worker {
    const struct txn_history_options *options;
    struct kv_prng prng;
    uint32_t id;
    struct txn *txns; /* committed */
    size_t n;
    struct txn_history_stats stats;
    _Atomic uint64_t waiting; /* commits not called back */
    kv_thread thread;
};

static char complaint[400];
static _Atomic uint64_t values;

static kv_slice key_of(uint32_t key, char out[2])
{
    out[0] = (char)('a' + 2 * key);
    return kv_slice_of(out, 1);
}

static uint64_t value_of(kv_slice bytes)
{
    uint64_t value = 0;
    KV_ASSERT(bytes.len >= sizeof value);
    memcpy(&value, bytes.data, sizeof value);
    return value;
}

static kv_slice value_bytes(uint64_t value, char out[64])
{
    memset(out, 'v', 64);
    memcpy(out, &value, sizeof value);
    return kv_slice_of(out, 64);
}

/* Adds up. */
static kv_status operator_fold(void *ctx, kv_slice key, const kv_slice *value, const kv_slice *operands,
                               size_t n, struct kv_buf *out)
{
    char bytes[64];
    uint64_t sum = value ? value_of(*value) : 0;
    (void)ctx, (void)key;
    for (size_t i = 0; i < n; i++)
        sum += value_of(operands[i]);
    return kv_buf_append(out, value_bytes(sum, bytes));
}
const struct kv_merge_operator txn_history_operator = {NULL, operator_fold};

/* ---- running */

static kv_status run_scan(struct kv_txn *txn, struct op *op)
{
    struct kv_iter *it = NULL;
    char low[2], high[2];
    uint32_t n = 0;
    kv_status rc = kv_txn_iter_open(txn, op->space, key_of(op->key, low), key_of(op->upper, high), &it);
    KV_ASSERT(rc == KV_OK);
    op->seen_to = op->key;
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it)) {
        uint32_t key = (uint32_t)(it->key.data[0] - 'a') / 2;
        KV_ASSERT(key >= op->seen_to);
        op->seen[key] = value_of(it->value);
        op->seen_to = key + 1;
        if (++n == op->limit)
            break;
    }
    if (rc == KV_END)
        op->seen_to = op->upper;
    kv_iter_close(it);
    return rc < 0 ? rc : KV_OK;
}

static kv_status run_op(struct kv_txn *txn, struct op *op)
{
    char key[2], high[2], value[64];
    struct kv_pinned pinned;
    kv_status rc;
    switch (op->kind) {
    case OP_GET:
        rc = kv_txn_get(txn, op->space, key_of(op->key, key), &pinned, NULL);
        op->seen[0] = rc == KV_OK ? value_of(pinned.value) : 0;
        kv_pinned_release(&pinned);
        return rc;
    case OP_SCAN:
        return run_scan(txn, op);
    case OP_PUT:
        return kv_txn_put(txn, op->space, key_of(op->key, key), value_bytes(op->value, value), NULL);
    case OP_MERGE:
        return kv_txn_merge(txn, op->space, key_of(op->key, key), value_bytes(op->value, value), NULL);
    case OP_DELETE_RANGE:
        return kv_txn_delete_range(txn, op->space, key_of(op->key, key), key_of(op->upper, high), NULL);
    case OP_DELETE:
        break;
    }
    return kv_txn_delete(txn, op->space, key_of(op->key, key), NULL);
}

static struct op choose_op(struct worker *w, bool may_write)
{
    struct op op = {.kind = (enum op_kind)kv_prng_below(&w->prng, may_write ? 4 : 2)};
    if (op.kind == OP_DELETE && w->options->ranges && kv_prng_below(&w->prng, 3) == 0)
        op.kind = OP_DELETE_RANGE;
    if (op.kind == OP_PUT && w->options->merges && kv_prng_below(&w->prng, 2) == 0)
        op.kind = OP_MERGE;
    op.space = (uint32_t)kv_prng_below(&w->prng, SPACES);
    op.key = (uint32_t)kv_prng_below(&w->prng, KEYS);
    op.upper = op.key + 1 + (uint32_t)kv_prng_below(&w->prng, KEYS - op.key);
    op.limit = 1 + (uint32_t)kv_prng_below(&w->prng, 3);
    op.value = atomic_fetch_add(&values, 1) + 1;
    return op;
}

static void committed(void *ctx, kv_status rc, uint64_t version)
{
    struct txn *record = ctx;
    KV_ASSERT(rc == KV_OK);
    record->version = version;
    atomic_fetch_sub(record->waiting, 1);
}

/* Of a batch or a transaction, waited for or not. */
static kv_status run_commit(struct worker *w, struct txn *record, struct kv_txn *txn, struct kv_batch *batch,
                            struct kv_err *err)
{
    if (!w->options->async || kv_prng_below(&w->prng, 2))
        return txn ? kv_txn_commit(txn, NULL, &record->version, err)
                   : kv_commit(w->options->db, batch, NULL, &record->version, err);
    struct kv_txn_commit_options how = {.done = committed, .done_ctx = record};
    record->waiting = &w->waiting;
    atomic_fetch_add(&w->waiting, 1);
    kv_status rc = txn ? kv_txn_commit_async(txn, &how, err)
                       : kv_commit_async(w->options->db, batch, NULL, committed, record, err);
    if (rc < 0)
        atomic_fetch_sub(&w->waiting, 1);
    return rc;
}

static void run_transaction(struct worker *w, struct txn *record)
{
    struct kv_txn *txn = NULL;
    struct kv_err err = {0};
    bool read_only = kv_prng_below(&w->prng, 8) == 0;
    struct kv_txn_options options = {.read_only = read_only};
    *record = (struct txn){.n_ops = 1 + (uint32_t)kv_prng_below(&w->prng, OPS_MAX)};
    kv_status rc = kv_txn_begin(w->options->db, &options, &txn, &err);
    KV_ASSERT(rc == KV_OK);
    for (uint32_t i = 0; i < record->n_ops; i++) {
        record->ops[i] = choose_op(w, !read_only);
        record->wrote = record->wrote || record->ops[i].kind >= OP_PUT;
        rc = run_op(txn, &record->ops[i]);
        KV_ASSERT(rc >= 0);
        if (kv_prng_below(&w->prng, 4) == 0) /* so that others come in between, on one processor too */
            kv_clock_sleep_ns(kv_clock_system(), 1000);
    }
    rc = run_commit(w, record, txn, NULL, &err);
    kv_txn_abort(txn);
    if (rc == KV_OK) {
        w->n++;
        w->stats.committed += record->wrote;
        w->stats.read_only += !record->wrote;
    } else {
        KV_ASSERT(rc == KV_CONFLICT);
        KV_ASSERT(record->wrote);
        w->stats.conflicts++;
    }
}

/* A batch, or a load. */
static void run_blind(struct worker *w, struct txn *record)
{
    char key[2], high[2], value[64];
    struct kv_err err = {0};
    struct kv_batch *batch = NULL;
    struct op op = choose_op(w, true);
    op.kind = OP_PUT;
    *record = (struct txn){.n_ops = 1, .wrote = true};
    kv_status rc;
    if (w->options->loads && kv_prng_below(&w->prng, 4) == 0) {
        struct kv_bulk *bulk = NULL;
        rc = kv_bulk_open(w->options->db, op.space, &bulk, &err);
        KV_ASSERT(rc == KV_OK);
        rc = kv_bulk_add(bulk, key_of(op.key, key), value_bytes(op.value, value), &err);
        KV_ASSERT(rc == KV_OK);
        rc = kv_bulk_install(bulk, 0, &record->version, &err);
    } else {
        rc = kv_batch_new(&batch);
        KV_ASSERT(rc == KV_OK);
        if (w->options->ranges && kv_prng_below(&w->prng, 4) == 0) {
            op.kind = OP_DELETE_RANGE;
            rc = kv_batch_delete_range(batch, op.space, key_of(op.key, key), key_of(op.upper, high));
        } else if (w->options->merges && kv_prng_below(&w->prng, 2) == 0) {
            op.kind = OP_MERGE;
            rc = kv_batch_merge(batch, op.space, key_of(op.key, key), value_bytes(op.value, value));
        } else {
            rc = kv_batch_put(batch, op.space, key_of(op.key, key), value_bytes(op.value, value));
        }
        KV_ASSERT(rc == KV_OK);
        rc = run_commit(w, record, NULL, batch, &err);
        kv_batch_free(batch);
    }
    KV_ASSERT(rc == KV_OK);
    record->ops[0] = op;
    w->n++;
    w->stats.blind++;
}

static void worker_main(void *ctx)
{
    struct worker *w = ctx;
    struct kv_err err = {0};
    for (uint32_t i = 0; i < w->options->per_thread; i++) {
        uint64_t dice = kv_prng_below(&w->prng, 100);
        if (dice < 8)
            run_blind(w, &w->txns[w->n]);
        else
            run_transaction(w, &w->txns[w->n]);
        kv_status rc = KV_OK;
        if (dice == 98)
            rc = kv_flush(w->options->db, &err);
        else if (dice == 99)
            rc = kv_merge_range(w->options->db, (uint32_t)kv_prng_below(&w->prng, SPACES), (kv_slice){0},
                                (kv_slice){0}, &err);
        KV_ASSERT(rc == KV_OK || rc == KV_BUSY || rc == KV_CONFLICT);
    }
    while (atomic_load(&w->waiting) > 0) { /* without threads the sync makes them */
        kv_status rc = kv_sync(w->options->db, &err);
        KV_ASSERT(rc == KV_OK);
        kv_clock_sleep_ns(kv_clock_system(), 100000);
    }
}

/* ---- judging */

struct model {
    uint64_t at[SPACES][KEYS];
};

static const char *complain(const struct txn *txn, const struct op *op, uint32_t key, uint64_t read,
                            uint64_t held)
{
    snprintf(complaint, sizeof complaint,
             "the %s of version %" PRIu64 " read %" PRIu64 " at key %" PRIu32 " of space %" PRIu32
             " by a %s, where in the order of versions it was %" PRIu64,
             txn->wrote ? "transaction" : "reader", txn->version, read, key, op->space,
             op->kind == OP_GET ? "get" : "scan", held);
    return complaint;
}

/* Executes txn on *model, after comparing what it read. */
static const char *judge_one(const struct txn *txn, struct model *model)
{
    for (uint32_t i = 0; i < txn->n_ops; i++) {
        const struct op *op = &txn->ops[i];
        uint64_t *held = model->at[op->space];
        switch (op->kind) {
        case OP_GET:
            if (op->seen[0] != held[op->key])
                return complain(txn, op, op->key, op->seen[0], held[op->key]);
            break;
        case OP_SCAN:
            for (uint32_t key = op->key; key < op->seen_to; key++)
                if (op->seen[key] != held[key])
                    return complain(txn, op, key, op->seen[key], held[key]);
            break;
        case OP_PUT:
            held[op->key] = op->value;
            break;
        case OP_MERGE:
            held[op->key] += op->value;
            break;
        case OP_DELETE:
            held[op->key] = 0;
            break;
        case OP_DELETE_RANGE:
            for (uint32_t key = op->key; key < op->upper; key++)
                held[key] = 0;
            break;
        }
    }
    return NULL;
}

/* By version; of one version the commit first, then those that read it. */
static int order_txns(const void *a, const void *b)
{
    const struct txn *x = *(const struct txn *const *)a, *y = *(const struct txn *const *)b;
    if (x->version != y->version)
        return x->version < y->version ? -1 : 1;
    return (int)y->wrote - (int)x->wrote;
}

static const char *judge(const struct worker *workers, uint32_t n_workers)
{
    size_t n = 0, at = 0;
    struct model model = {0};
    const char *wrong = NULL;
    for (uint32_t i = 0; i < n_workers; i++)
        n += workers[i].n;
    const struct txn **all = calloc(n + 1, sizeof *all);
    KV_ASSERT(all != NULL);
    for (uint32_t i = 0; i < n_workers; i++)
        for (size_t k = 0; k < workers[i].n; k++)
            all[at++] = &workers[i].txns[k];
    qsort(all, n, sizeof *all, order_txns);
    for (size_t i = 0; i < n && !wrong; i++) {
        if (i > 0 && all[i]->wrote && all[i]->version == all[i - 1]->version) {
            snprintf(complaint, sizeof complaint, "version %" PRIu64 " was given twice", all[i]->version);
            wrong = complaint;
        } else {
            struct model private = model; /* a reader's copy */
            wrong = judge_one(all[i], all[i]->wrote ? &model : &private);
        }
    }
    free(all);
    return wrong;
}

const char *txn_history_run(const struct txn_history_options *options, struct txn_history_stats *stats)
{
    struct worker workers[THREADS_MAX] = {0};
    const char *wrong;
    KV_ASSERT(options->threads >= 1 && options->threads <= THREADS_MAX);
    *stats = (struct txn_history_stats){0};
    for (uint32_t i = 0; i < options->threads; i++) {
        workers[i] = (struct worker){.options = options, .id = i};
        kv_prng_init(&workers[i].prng, options->seed * 131 + i);
        workers[i].txns = calloc(options->per_thread + 1, sizeof *workers[i].txns);
        KV_ASSERT(workers[i].txns != NULL);
    }
    for (uint32_t i = 0; i < options->threads; i++) {
        kv_status rc = kv_thread_start(&workers[i].thread, "history", 0, worker_main, &workers[i]);
        KV_ASSERT(rc == KV_OK);
    }
    for (uint32_t i = 0; i < options->threads; i++)
        kv_thread_join(&workers[i].thread);
    wrong = judge(workers, options->threads);
    for (uint32_t i = 0; i < options->threads; i++) {
        stats->committed += workers[i].stats.committed;
        stats->conflicts += workers[i].stats.conflicts;
        stats->read_only += workers[i].stats.read_only;
        stats->blind += workers[i].stats.blind;
        free(workers[i].txns);
    }
    return wrong;
}
