/*
 * result.h - a query's result while it is made, and what ts_result_* read.
 *
 * Ownership  everything a result points to lives in its own arena. Memory counts in the query's budget while
 *            it is made.
 */
#ifndef TS_RESULT_H
#define TS_RESULT_H

#include "tsdb/query/op.h"

struct ts_result {
    enum ts_result_type type;
    struct kv_arena arena;
    struct ts_series_points *series;
    size_t n;
    kv_slice string;
    int64_t time_ms; /* of a string */
    kv_slice *warnings, *infos;
    size_t n_warnings, n_infos;
    struct ts_result_stats stats;
};

struct ts_result_build {
    struct ts_run *run;
    struct ts_pool pool;    /* becomes the result's arena */
    struct ts_pool scratch; /* the caller's, between series */
    struct ts_series_points *series;
    size_t n, capacity;
    int64_t *grid_times; /* shared by series that have a value at every step */
    size_t n_grid_times;
    kv_slice string;
};
KV_MUST kv_status ts_result_build_init(struct ts_result_build *build, struct ts_run *run);
void ts_result_build_release(struct ts_result_build *build);
/* Copies. A series without points is left out. */
KV_MUST kv_status ts_result_add(struct ts_result_build *build, const struct ts_label *labels, size_t n_labels,
                                const int64_t *times, const double *values, size_t n);
KV_MUST kv_status ts_result_add_column(struct ts_result_build *build, const struct ts_column *column,
                                       const struct ts_grid *grid);
KV_MUST kv_status ts_result_set_string(struct ts_result_build *build, kv_slice string);
/* Sorts what is to be sorted, refuses equal label sets, prints the notes. */
KV_MUST kv_status ts_result_finish(struct ts_result_build *build, enum ts_result_type type,
                                   struct ts_result **out);

#endif
