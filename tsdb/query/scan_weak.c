/* scan_weak.c - lets the unit tests link until tsdb/query/scan.c is there; it is removed then. */
#include "tsdb/query/scan.h"

#define WEAK __attribute__((weak))

WEAK kv_status ts_scan_open(struct ts_db *db, const struct ts_scan_options *options, struct ts_budget *budget,
                            struct ts_scan **out, struct kv_err *err)
{
    (void)db;
    (void)options;
    (void)budget;
    *out = NULL;
    return kv_fail(err, KV_UNSUPPORTED, 0, "no scan in this build");
}
WEAK kv_status ts_scan_next(struct ts_scan *scan, struct ts_scan_series *out, struct kv_err *err)
{
    (void)scan;
    (void)out;
    return kv_fail(err, KV_UNSUPPORTED, 0, "no scan in this build");
}
WEAK void ts_scan_close(struct ts_scan *scan)
{
    (void)scan;
}
