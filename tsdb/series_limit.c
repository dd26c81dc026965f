/* Limits on new series: how many there may be, of one metric too, and how many a second (docs/limits.md). */
#include "tsdb/series_internal.h"

#include <stdio.h>

/* What one more series moves the bucket's level by. */
static uint64_t rate_step_ns(const struct ts_registry *registry)
{
    uint32_t rate = registry->options.series_per_s_max;
    return rate > 0 ? (1000000000 + (uint64_t)rate - 1) / rate : 0;
}

/*
 * A token bucket kept as one number: when all series so far would have come had they come at the rate. A bucket
 * that holds B seconds' worth lets it run B seconds ahead of the clock. Above 0: so many ns are missing.
 */
static uint64_t rate_take(struct ts_registry *registry)
{
    const uint64_t burst_ns = (uint64_t)TS_RATE_BURST_S * 1000000000;
    uint64_t step_ns = rate_step_ns(registry), next;
    if (step_ns == 0)
        return 0;
    uint64_t now_ns = kv_clock_mono_ns(registry->options.clock), level = atomic_load(&registry->rate_ns);
    do {
        next = (level > now_ns ? level : now_ns) + step_ns;
        if (next - now_ns > burst_ns)
            return next - now_ns - burst_ns;
    } while (!atomic_compare_exchange_weak(&registry->rate_ns, &level, next));
    return 0;
}

static kv_status refuse(struct ts_refusal *why, enum ts_reject_reason reason, const struct kv_err *err)
{
    why->reason = reason;
    (void)snprintf(why->text, sizeof why->text, "%s", err->text);
    return KV_INVALID;
}

kv_status ts_registry_reserve(struct ts_registry *registry, struct ts_metric *metric, struct ts_refusal *why)
{
    const struct ts_registry_options *o = &registry->options;
    uint64_t reserved = atomic_fetch_add(&registry->reserved, 1) + 1;
    uint64_t of_metric = (uint64_t)atomic_fetch_add(&metric->reserved, 1) + 1 + atomic_load(&metric->next);
    int name_len = metric->name_len > 64 ? 64 : (int)metric->name_len;
    struct kv_err err; /* its text is kept printable */
    kv_status rc = KV_OK;
    if (of_metric > o->metric_series_max)
        of_metric -= ts_registry_n_left(registry, metric->number);
    if (of_metric > o->metric_series_max) {
        (void)kv_fail(&err, KV_INVALID, 0,
                      "a new series of metric \"%.*s\", which has %llu, the most one metric may have; raise "
                      "ts_options.metric_series_max",
                      name_len, (const char *)metric->name, (unsigned long long)o->metric_series_max);
        rc = refuse(why, TS_REJECT_METRIC_LIMIT, &err);
    } else if (atomic_load(&registry->series) + reserved > o->series_max) {
        (void)kv_fail(
            &err, KV_INVALID, 0,
            "a new series of metric \"%.*s\", but there are %llu series, the most there may be; raise "
            "ts_options.series_max",
            name_len, (const char *)metric->name, (unsigned long long)o->series_max);
        rc = refuse(why, TS_REJECT_SERIES_LIMIT, &err);
    } else {
        uint64_t missing_ns = rate_take(registry);
        if (missing_ns > 0) {
            (void)kv_fail(&err, KV_INVALID, 0,
                          "a new series of metric \"%.*s\", and more than %u a second have come; raise "
                          "ts_options.series_per_s_max",
                          name_len, (const char *)metric->name, o->series_per_s_max);
            rc = refuse(why, TS_REJECT_SERIES_RATE, &err);
            why->retry_in_ms = (uint32_t)(missing_ns / 1000000 + 1);
        }
    }
    if (rc < 0)
        ts_registry_unreserve(registry, metric, false);
    return rc;
}

void ts_registry_unreserve(struct ts_registry *registry, struct ts_metric *metric, bool give_back)
{
    atomic_fetch_sub(&metric->reserved, 1);
    atomic_fetch_sub(&registry->reserved, 1);
    if (give_back)
        atomic_fetch_sub(&registry->rate_ns, rate_step_ns(registry));
}
