/*
 * limits.h - what one query may use, checked as it runs: samples, bytes, time, and whether its client is
 * still there.
 *
 * Threads    one query, one thread at a time.
 */
#ifndef TS_LIMITS_H
#define TS_LIMITS_H

#include "kvcore/os/clock.h"
#include "tsdb/ts.h"

struct ts_budget {
    uint64_t samples, samples_max; /* decoded or produced so far */
    uint64_t bytes, bytes_peak, bytes_max;
    uint64_t deadline_mono_ns;
    struct kv_clock *clock;
    bool (*canceled)(void *ctx);
    void *canceled_ctx;
    uint64_t until_check; /* samples until clock and client are asked again */
    kv_status failed;     /* the first limit hit; sticky */
};

/* Counts n samples; every 4096 asks the clock and the client. KV_LIMIT (samples), KV_TIMEOUT or KV_CANCELED,
 * sticky. */
KV_MUST kv_status ts_budget_samples(struct ts_budget *budget, uint64_t n);
/* Counts bytes taken (+) or given back (-). KV_LIMIT past bytes_max. */
KV_MUST kv_status ts_budget_bytes(struct ts_budget *budget, int64_t delta);
/* Counts work that yields no sample (a chunk passed by, a series without samples): asks as ts_budget_samples does. */
KV_MUST kv_status ts_budget_step(struct ts_budget *budget);
/* Takes back n samples counted before: their work is done again. */
static inline void ts_budget_uncount(struct ts_budget *budget, uint64_t n)
{
    budget->samples -= n;
}
/* Asks the clock and the client now. */
KV_MUST kv_status ts_budget_check(struct ts_budget *budget);
/* Which limit a KV_LIMIT was, in Prometheus's words, and what raises it. */
void ts_budget_limit_text(const struct ts_budget *budget, char *out, size_t size);

#endif
