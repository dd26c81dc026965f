/* agg.h - what the files of the aggregations share; makers as in operators.h. */
#ifndef TS_AGG_H
#define TS_AGG_H

#include "tsdb/query/operators.h"

/* topk, bottomk, limitk. */
KV_MUST kv_status ts_op_choose(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                               struct ts_operator *input, struct ts_operator *param,
                               struct ts_operator **out);
KV_MUST kv_status ts_op_limit_ratio(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                                    struct ts_operator *input, struct ts_operator *param,
                                    struct ts_operator **out);

/* Warns of quantiles outside [0, 1]. */
void ts_agg_note_quantile(struct ts_run *run, const struct ts_expr *expr, const double *params, size_t n);

#endif
