/*
 * regex_unicode.h - what regular expressions need of Unicode: general categories, scripts, simple case
 * folding. Made by tools/unicode_tables.pl. Static; any thread.
 */
#ifndef TS_REGEX_UNICODE_H
#define TS_REGEX_UNICODE_H

#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"

typedef kv_status (*ts_unicode_range_fn)(void *ctx, uint32_t lo, uint32_t hi); /* both inclusive */

/* Calls add for the ranges of a category ("L", "Lu") or script ("Greek"), increasing. KV_NOT_FOUND: no such
 * name. */
KV_MUST kv_status ts_unicode_class(kv_slice name, ts_unicode_range_fn add, void *ctx);

/* lo, lo + stride, ... (n of them) fold to themselves + delta. Sorted by lo. */
struct ts_unicode_fold {
    uint32_t lo;
    uint16_t n, stride;
    int32_t delta;
};
extern const struct ts_unicode_fold ts_unicode_folds[];
extern const size_t ts_unicode_n_folds;

#endif
