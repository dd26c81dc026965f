/* The tracing hook: what it is told of each operation. */
#include "tests/support/kv_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>

struct seen {
    struct kv_trace_op op;
    char key[32];
    int open, n;
};

static void *on_begin(void *ctx, const struct kv_trace_op *op)
{
    struct seen *seen = ctx;
    cr_assert_str_eq(op->system, "kvcore");
    snprintf(seen->key, sizeof seen->key, "%.*s", (int)op->key.len, (const char *)op->key.data);
    seen->open++;
    return &seen->n;
}

static void on_end(void *ctx, void *span, const struct kv_trace_op *op)
{
    struct seen *seen = ctx;
    cr_assert_eq(span, &seen->n);
    seen->op = *op;
    seen->open--;
    seen->n++;
}

static void begin(struct kv_kit *kit, struct seen *seen, struct kv_trace *trace)
{
    *trace = (struct kv_trace){seen, on_begin, on_end};
    kv_kit_init(kit, NULL);
    kit->options.disk_reserve_bytes = 1;
    kit->options.trace = trace;
    kv_kit_must_open(kit);
}

Test(trace, each_operation_is_told_with_its_sizes_and_outcome)
{
    struct kv_kit kit;
    struct seen seen = {0};
    struct kv_trace trace;
    struct kv_pinned value;
    begin(&kit, &seen, &trace);
    kv_kit_put(&kit, 0, "key", "value");
    cr_assert_str_eq(seen.op.operation, "commit");
    cr_assert_eq(seen.op.entries, 1);
    cr_assert_eq(seen.op.value_bytes, 8);
    cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("key"), &value, NULL), KV_OK);
    kv_pinned_release(&value);
    cr_assert_str_eq(seen.op.operation, "get");
    cr_assert_str_eq(seen.op.space, "a");
    cr_assert_str_eq(seen.key, "key");
    cr_assert(seen.op.found && seen.op.value_bytes == 5 && seen.op.status == KV_OK);
    cr_assert_eq(kv_get(kit.db, NULL, 1, KV_STR("no"), &value, NULL), KV_NOT_FOUND);
    cr_assert(!seen.op.found && seen.op.status == KV_NOT_FOUND);
    cr_assert_eq(kv_get(kit.db, NULL, 9, KV_STR("no"), &value, NULL), KV_INVALID);
    cr_assert(seen.op.space == NULL && seen.op.status == KV_INVALID);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_str_eq(seen.op.operation, "flush");
    cr_assert_eq(seen.open, 0);
    kv_kit_release(&kit);
}

Test(trace, a_scan_lasts_from_opening_to_closing_and_a_transaction_ends_with_its_commit)
{
    struct kv_kit kit;
    struct seen seen = {0};
    struct kv_trace trace;
    struct kv_iter *it = NULL;
    struct kv_txn *txn = NULL;
    begin(&kit, &seen, &trace);
    cr_assert_eq(kv_iter_open(kit.db, NULL, 0, KV_STR("from"), (kv_slice){0}, &it), KV_OK);
    cr_assert_eq(seen.open, 1);
    cr_assert_str_eq(seen.key, "from");
    clock_manual_advance_ms(&kit.clock, 3);
    kv_iter_close(it);
    cr_assert_eq(seen.open, 0);
    cr_assert_str_eq(seen.op.operation, "scan");
    cr_assert_eq(seen.op.duration_ns, 3000000);
    cr_assert_eq(kv_txn_begin(kit.db, NULL, &txn, &kit.err), KV_OK);
    cr_assert_eq(kv_txn_put(txn, 0, KV_STR("k"), KV_STR("v"), &kit.err), KV_OK);
    cr_assert_eq(kv_txn_commit(txn, NULL, NULL, &kit.err), KV_OK);
    kv_txn_abort(txn);
    cr_assert_str_eq(seen.op.operation, "txn_commit");
    cr_assert_eq(seen.op.value_bytes, 2);
    kv_kit_release(&kit);
}

Test(trace, a_tracer_without_both_functions_is_refused)
{
    struct kv_kit kit;
    struct kv_trace trace = {.begin = on_begin};
    kv_kit_init(&kit, NULL);
    kit.options.trace = &trace;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID);
    kv_kit_release(&kit);
}
