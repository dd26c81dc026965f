#include "kvcore/db/trace.h"

void kv_trace_begin(struct kv_db *db, struct kv_trace_span *span, const char *operation, uint32_t space,
                    kv_slice key, uint64_t entries)
{
    const struct kv_trace *trace = db->options.trace;
    *span = (struct kv_trace_span){
        .op = {.system = "kvcore", .operation = operation, .key = key, .entries = entries}};
    if (!trace)
        return;
    if (space < db->n_spaces)
        span->op.space = db->spaces[space].name;
    span->began_ns = kv_clock_mono_ns(db->env->clock);
    span->span = trace->begin(trace->ctx, &span->op);
}

kv_status kv_trace_end(struct kv_db *db, struct kv_trace_span *span, kv_status rc)
{
    const struct kv_trace *trace = db->options.trace;
    if (!trace)
        return rc;
    span->op.status = rc;
    span->op.duration_ns = kv_clock_mono_ns(db->env->clock) - span->began_ns;
    trace->end(trace->ctx, span->span, &span->op);
    return rc;
}
