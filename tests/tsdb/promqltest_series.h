/* promqltest_series.h - series notation: metric{label="value"} 1 2+3x4 _ stale {{schema:1}} */
#ifndef TESTS_PROMQLTEST_SERIES_H
#define TESTS_PROMQLTEST_SERIES_H

#include "kvcore/base/arena.h"
#include "tsdb/ts.h"

struct series_value {
    double value;
    bool omitted, histogram; /* a histogram is only known to be one */
};
struct series_line {
    struct kv_arena *arena;  /* owns all below */
    struct ts_label *labels; /* sorted, without empty values */
    size_t n_labels;
    struct series_value *values;
    size_t n_values;
    bool start_times, has_histogram; /* NAME@st: the values are offsets of start times, not read */
};
/* False with a reason in why (size 256). */
bool series_line_parse(kv_slice line, struct kv_arena *arena, struct series_line *out, char why[256]);
/* "1h30m", "0": ms. */
bool series_duration_parse(kv_slice text, int64_t *ms);
/* The whole of text is a number. */
bool series_number_parse(kv_slice text, double *value);

#endif
