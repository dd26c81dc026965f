/*
 * trace.h - the tracing hook (struct kv_trace) around operations. Without a tracer: one predicted branch, at the place
 * that asks kv_tracing; the rest is only called behind it.
 */
#ifndef KV_DB_TRACE_H
#define KV_DB_TRACE_H

#include "kvcore/db/db.h"

struct kv_trace_span {
    struct kv_trace_op op;
    void *span; /* the tracer's */
    uint64_t began_ns;
};

static inline bool kv_tracing(const struct kv_db *db)
{
    return __builtin_expect(db->options.trace != NULL, 0);
}
/* space: an id; KV_SPACE_ALL: none. Both do nothing without a tracer. */
void kv_trace_begin(struct kv_db *db, struct kv_trace_span *span, const char *operation, uint32_t space,
                    kv_slice key, uint64_t entries);
/* op.value_bytes and op.found are set. Answers rc. */
kv_status kv_trace_end(struct kv_db *db, struct kv_trace_span *span, kv_status rc);

#endif
