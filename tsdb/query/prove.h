/*
 * prove.h - which of the selected series really have a sample in a range. Activity says on which days; it does not
 * know that retention hides the first part of a day, that a rule hides more of one series than of another, or
 * what was deleted. Only the series for which that matters are looked at: few, or none.
 *
 * Threads    one at a time. Failure  those of reading.
 */
#ifndef TS_PROVE_H
#define TS_PROVE_H

#include "tsdb/head.h"
#include "tsdb/index.h"

struct ts_prove {
    struct ts_db *db;
    const struct ts_head_pin *pin; /* taken before select's snapshot */
    int64_t clock_ms;              /* the retention clock */
    struct kv_err *err;
};
/* For ts_select.refine, ctx a ts_prove: takes out of *set the series of which retention and deletes leave nothing
 * in [select->from_ms, select->to_ms]. from_ms is not below what the longest rule keeps. */
KV_MUST kv_status ts_prove(void *ctx, const struct ts_select *select, struct ts_refset *set);

#endif
