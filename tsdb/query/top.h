/*
 * top.h - the largest of many counts, in bounded memory: a heap with the least of those kept on top.
 *
 * Threads    one at a time.
 * Ownership  texts and days are copied; a list goes with ts_top_release, or lives on after ts_top_take.
 * Failure    KV_NO_MEMORY, or KV_LIMIT of the budget.
 */
#ifndef TS_TOP_H
#define TS_TOP_H

#include "tsdb/query/limits.h"

/* {.max = n, .budget = b} is a valid empty one. */
struct ts_top {
    struct ts_count *at;
    size_t n, capacity, max;
    struct ts_budget *budget;
};
/* days: n_days numbers, or NULL. A count of 0 is never kept. */
KV_MUST kv_status ts_top_offer(struct ts_top *top, kv_slice name, kv_slice value, uint64_t count,
                               const uint64_t *days, size_t n_days);
/* What was kept, largest first; top is empty then. */
struct ts_count_list ts_top_take(struct ts_top *top);
void ts_top_release(struct ts_top *top);
void ts_count_list_release(struct ts_count_list *list);

#endif
