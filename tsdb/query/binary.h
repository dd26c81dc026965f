/* binary.h - what binary.c and join.c share. */
#ifndef TS_BINARY_H
#define TS_BINARY_H

#include "tsdb/query/operators.h"

/* out[i] = left[i] op right[i] where both have a value, absent elsewhere. A comparison that does not return
 * bools keeps kept[i] where it holds. out may be any of the inputs. */
void ts_columns_binary(enum ts_op op, bool returns_bool, const double *left, const double *right,
                       const double *kept, double *out, size_t n);
/* Two vectors: joins and set operators. */
KV_MUST kv_status ts_op_join(struct ts_run *run, struct ts_grid grid, const struct ts_expr *expr,
                             struct ts_operator *left, struct ts_operator *right, struct ts_operator **out);

#endif
