/* limits.c - one query's budget. The first limit hit stays: whoever asks again gets the same answer. */
#include "tsdb/query/limits.h"

#include <inttypes.h>
#include <stdio.h>

enum { CHECK_EVERY = 4096 };

static kv_status budget_fail(struct ts_budget *budget, kv_status code)
{
    if (budget->failed == KV_OK)
        budget->failed = code;
    return budget->failed;
}

kv_status ts_budget_check(struct ts_budget *budget)
{
    if (budget->failed != KV_OK)
        return budget->failed;
    budget->until_check = CHECK_EVERY;
    if (budget->canceled && budget->canceled(budget->canceled_ctx))
        return budget_fail(budget, KV_CANCELED);
    if (budget->clock && budget->deadline_mono_ns &&
        kv_clock_mono_ns(budget->clock) >= budget->deadline_mono_ns)
        return budget_fail(budget, KV_TIMEOUT);
    return KV_OK;
}

/* As many units of work nearer to the next check. */
static kv_status budget_work(struct ts_budget *budget, uint64_t n)
{
    if (n < budget->until_check) {
        budget->until_check -= n;
        return KV_OK;
    }
    return ts_budget_check(budget);
}

kv_status ts_budget_step(struct ts_budget *budget)
{
    return budget->failed != KV_OK ? budget->failed : budget_work(budget, 1);
}

kv_status ts_budget_samples(struct ts_budget *budget, uint64_t n)
{
    if (budget->failed != KV_OK)
        return budget->failed;
    if (n > budget->samples_max - budget->samples) {
        budget->samples = budget->samples_max;
        return budget_fail(budget, KV_LIMIT);
    }
    budget->samples += n;
    return budget_work(budget, n);
}

kv_status ts_budget_bytes(struct ts_budget *budget, int64_t delta)
{
    if (delta <= 0) { /* giving back always works, so that a failed query can be taken apart */
        uint64_t back = (uint64_t)0 - (uint64_t)delta;
        budget->bytes = back > budget->bytes ? 0 : budget->bytes - back;
        return KV_OK;
    }
    if (budget->failed != KV_OK)
        return budget->failed;
    if ((uint64_t)delta > budget->bytes_max - budget->bytes)
        return budget_fail(budget, KV_LIMIT);
    budget->bytes += (uint64_t)delta;
    if (budget->bytes > budget->bytes_peak)
        budget->bytes_peak = budget->bytes;
    return KV_OK;
}

void ts_budget_limit_text(const struct ts_budget *budget, char *out, size_t size)
{
    if (budget->samples >= budget->samples_max)
        (void)snprintf(out, size,
                       "query processing would load too many samples into memory in query execution");
    else
        (void)snprintf(out, size,
                       "query processing would use more than %" PRIu64
                       " bytes of memory in query execution; raise ts_options.query_memory_max",
                       budget->bytes_max);
}
