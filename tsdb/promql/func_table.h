/*
 * func_table.h - one row per PromQL function: its name, argument types and result, for the type checker, the
 * printer and the evaluator alike. Whether a function is built is the evaluator's knowledge (its own table,
 * indexed by id).
 *
 * Arguments, one letter each: v instant vector, m range vector, s scalar, t string.
 * variadic: 0 takes exactly these; n > 0: the last may be left out or repeated, up to (args - 1 + n) in all;
 * -1: any number of the last.
 */
#ifndef TS_PROMQL_FUNC_TABLE_H
#define TS_PROMQL_FUNC_TABLE_H

#include "tsdb/promql/ast.h"

/* X(id, name, args, variadic, returns, experimental), sorted by name */
#define TS_FUNC_LIST(X)                                                                                      \
    X(ABS, "abs", "v", 0, VECTOR, 0)                                                                         \
    X(ABSENT, "absent", "v", 0, VECTOR, 0)                                                                   \
    X(ABSENT_OVER_TIME, "absent_over_time", "m", 0, VECTOR, 0)                                               \
    X(ACOS, "acos", "v", 0, VECTOR, 0)                                                                       \
    X(ACOSH, "acosh", "v", 0, VECTOR, 0)                                                                     \
    X(ASIN, "asin", "v", 0, VECTOR, 0)                                                                       \
    X(ASINH, "asinh", "v", 0, VECTOR, 0)                                                                     \
    X(ATAN, "atan", "v", 0, VECTOR, 0)                                                                       \
    X(ATANH, "atanh", "v", 0, VECTOR, 0)                                                                     \
    X(AVG_OVER_TIME, "avg_over_time", "m", 0, VECTOR, 0)                                                     \
    X(CEIL, "ceil", "v", 0, VECTOR, 0)                                                                       \
    X(CHANGES, "changes", "m", 0, VECTOR, 0)                                                                 \
    X(CLAMP, "clamp", "vss", 0, VECTOR, 0)                                                                   \
    X(CLAMP_MAX, "clamp_max", "vs", 0, VECTOR, 0)                                                            \
    X(CLAMP_MIN, "clamp_min", "vs", 0, VECTOR, 0)                                                            \
    X(COS, "cos", "v", 0, VECTOR, 0)                                                                         \
    X(COSH, "cosh", "v", 0, VECTOR, 0)                                                                       \
    X(COUNT_OVER_TIME, "count_over_time", "m", 0, VECTOR, 0)                                                 \
    X(DAY_OF_MONTH, "day_of_month", "v", 1, VECTOR, 0)                                                       \
    X(DAY_OF_WEEK, "day_of_week", "v", 1, VECTOR, 0)                                                         \
    X(DAY_OF_YEAR, "day_of_year", "v", 1, VECTOR, 0)                                                         \
    X(DAYS_IN_MONTH, "days_in_month", "v", 1, VECTOR, 0)                                                     \
    X(DEG, "deg", "v", 0, VECTOR, 0)                                                                         \
    X(DELTA, "delta", "m", 0, VECTOR, 0)                                                                     \
    X(DERIV, "deriv", "m", 0, VECTOR, 0)                                                                     \
    X(DOUBLE_EXPONENTIAL_SMOOTHING, "double_exponential_smoothing", "mss", 0, VECTOR, 1)                     \
    X(END, "end", "", 0, SCALAR, 1)                                                                          \
    X(EXP, "exp", "v", 0, VECTOR, 0)                                                                         \
    X(FIRST_OVER_TIME, "first_over_time", "m", 0, VECTOR, 0)                                                 \
    X(FLOOR, "floor", "v", 0, VECTOR, 0)                                                                     \
    X(HISTOGRAM_AVG, "histogram_avg", "v", 0, VECTOR, 0)                                                     \
    X(HISTOGRAM_COUNT, "histogram_count", "v", 0, VECTOR, 0)                                                 \
    X(HISTOGRAM_FRACTION, "histogram_fraction", "ssv", 0, VECTOR, 0)                                         \
    X(HISTOGRAM_QUANTILE, "histogram_quantile", "sv", 0, VECTOR, 0)                                          \
    X(HISTOGRAM_QUANTILES, "histogram_quantiles", "vtss", 9, VECTOR, 1)                                      \
    X(HISTOGRAM_STDDEV, "histogram_stddev", "v", 0, VECTOR, 0)                                               \
    X(HISTOGRAM_STDVAR, "histogram_stdvar", "v", 0, VECTOR, 0)                                               \
    X(HISTOGRAM_SUM, "histogram_sum", "v", 0, VECTOR, 0)                                                     \
    X(HOLT_WINTERS, "holt_winters", "mss", 0, VECTOR, 1) /* 2.x's name of double_exponential_smoothing */    \
    X(HOUR, "hour", "v", 1, VECTOR, 0)                                                                       \
    X(IDELTA, "idelta", "m", 0, VECTOR, 0)                                                                   \
    X(INCREASE, "increase", "m", 0, VECTOR, 0)                                                               \
    X(INFO, "info", "vv", 1, VECTOR, 1)                                                                      \
    X(IRATE, "irate", "m", 0, VECTOR, 0)                                                                     \
    X(LABEL_JOIN, "label_join", "vttt", -1, VECTOR, 0)                                                       \
    X(LABEL_REPLACE, "label_replace", "vtttt", 0, VECTOR, 0)                                                 \
    X(LAST_OVER_TIME, "last_over_time", "m", 0, VECTOR, 0)                                                   \
    X(LN, "ln", "v", 0, VECTOR, 0)                                                                           \
    X(LOG10, "log10", "v", 0, VECTOR, 0)                                                                     \
    X(LOG2, "log2", "v", 0, VECTOR, 0)                                                                       \
    X(MAD_OVER_TIME, "mad_over_time", "m", 0, VECTOR, 1)                                                     \
    X(MAX_OF, "max_of", "ss", 0, SCALAR, 1)                                                                  \
    X(MAX_OVER_TIME, "max_over_time", "m", 0, VECTOR, 0)                                                     \
    X(MIN_OF, "min_of", "ss", 0, SCALAR, 1)                                                                  \
    X(MIN_OVER_TIME, "min_over_time", "m", 0, VECTOR, 0)                                                     \
    X(MINUTE, "minute", "v", 1, VECTOR, 0)                                                                   \
    X(MONTH, "month", "v", 1, VECTOR, 0)                                                                     \
    X(PI, "pi", "", 0, SCALAR, 0)                                                                            \
    X(PREDICT_LINEAR, "predict_linear", "ms", 0, VECTOR, 0)                                                  \
    X(PRESENT_OVER_TIME, "present_over_time", "m", 0, VECTOR, 0)                                             \
    X(QUANTILE_OVER_TIME, "quantile_over_time", "sm", 0, VECTOR, 0)                                          \
    X(RAD, "rad", "v", 0, VECTOR, 0)                                                                         \
    X(RANGE, "range", "", 0, SCALAR, 1)                                                                      \
    X(RATE, "rate", "m", 0, VECTOR, 0)                                                                       \
    X(RESETS, "resets", "m", 0, VECTOR, 0)                                                                   \
    X(ROUND, "round", "vs", 1, VECTOR, 0)                                                                    \
    X(SCALAR, "scalar", "v", 0, SCALAR, 0)                                                                   \
    X(SGN, "sgn", "v", 0, VECTOR, 0)                                                                         \
    X(SIN, "sin", "v", 0, VECTOR, 0)                                                                         \
    X(SINH, "sinh", "v", 0, VECTOR, 0)                                                                       \
    X(SORT, "sort", "v", 0, VECTOR, 0)                                                                       \
    X(SORT_BY_LABEL, "sort_by_label", "vt", -1, VECTOR, 1)                                                   \
    X(SORT_BY_LABEL_DESC, "sort_by_label_desc", "vt", -1, VECTOR, 1)                                         \
    X(SORT_DESC, "sort_desc", "v", 0, VECTOR, 0)                                                             \
    X(SQRT, "sqrt", "v", 0, VECTOR, 0)                                                                       \
    X(START, "start", "", 0, SCALAR, 1)                                                                      \
    X(START_TIMESTAMP, "start_timestamp", "v", 0, VECTOR, 1)                                                 \
    X(STDDEV_OVER_TIME, "stddev_over_time", "m", 0, VECTOR, 0)                                               \
    X(STDVAR_OVER_TIME, "stdvar_over_time", "m", 0, VECTOR, 0)                                               \
    X(STEP, "step", "", 0, SCALAR, 1)                                                                        \
    X(SUM_OVER_TIME, "sum_over_time", "m", 0, VECTOR, 0)                                                     \
    X(TAN, "tan", "v", 0, VECTOR, 0)                                                                         \
    X(TANH, "tanh", "v", 0, VECTOR, 0)                                                                       \
    X(TIME, "time", "", 0, SCALAR, 0)                                                                        \
    X(TIMESTAMP, "timestamp", "v", 0, VECTOR, 0)                                                             \
    X(TS_OF_FIRST_OVER_TIME, "ts_of_first_over_time", "m", 0, VECTOR, 1)                                     \
    X(TS_OF_LAST_OVER_TIME, "ts_of_last_over_time", "m", 0, VECTOR, 1)                                       \
    X(TS_OF_MAX_OVER_TIME, "ts_of_max_over_time", "m", 0, VECTOR, 1)                                         \
    X(TS_OF_MIN_OVER_TIME, "ts_of_min_over_time", "m", 0, VECTOR, 1)                                         \
    X(VECTOR, "vector", "s", 0, VECTOR, 0)                                                                   \
    X(YEAR, "year", "v", 1, VECTOR, 0)

enum ts_func_id {
#define X(id, name, args, variadic, returns, experimental) TS_FUNC_##id,
    TS_FUNC_LIST(X)
#undef X
        TS_FUNCS
};

struct ts_func {
    enum ts_func_id id;
    const char *name;
    const char *args; /* letters as above */
    int variadic;
    enum ts_value_type returns;
    bool experimental;
};

/* NULL: there is no function of this name (names are case-sensitive). */
const struct ts_func *ts_func_find(kv_slice name);
const struct ts_func *ts_func_get(enum ts_func_id id);
enum ts_value_type ts_func_arg_type(char letter);

#endif
