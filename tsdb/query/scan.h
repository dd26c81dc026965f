/*
 * scan.h - the leaf of every query: the samples of the series that matchers choose, one series at a time, in
 * columns.
 *
 * A scan pins head generations first, then the kvcore snapshot, so it sees one consistent state. Late
 * samples, overwrites, deletions, retention and duplicate chunks are resolved here: what comes out has
 * strictly increasing times and is what the store holds. Stale markers are samples like any other; range
 * functions and look-back skip them.
 *
 * Threads    a scan belongs to one thread at a time; several scans may run at once.
 * Ownership  ts_scan_next lends; good until the next call or close. Labels live until close.
 */
#ifndef TS_SCAN_H
#define TS_SCAN_H

#include "tsdb/query/condense.h"
#include "tsdb/query/limits.h"
#include "tsdb/ts.h"

struct ts_head_pin;
struct ts_matcher;
struct ts_refset;
struct ts_scan;
struct ts_select;

/* Labels by name, in any order. */
struct ts_label_choice {
    const kv_slice *names;
    size_t n;
};
struct ts_scan_options {
    const struct ts_matcher *matchers; /* compiled; borrowed until close */
    size_t n_matchers;
    int64_t from_ms, to_ms; /* both inclusive */
    bool labels_only;       /* series with data on the range's days, of which retention and deletes leave some
                         (prove.h); samples are not lent */
    const struct ts_label_choice *labels; /* borrowed until close. Only these and "__name__" are kept
                         and lent: for a reader that groups by them. NULL: all */
    struct ts_condense condense;          /* the only windows that matter, and what of them */
};
/* Samples that are not lent: so many before the one at at_ms (condense.h). */
struct ts_scan_gap {
    int64_t at_ms;
    uint32_t missing;
};
struct ts_scan_series {
    const struct ts_label *labels; /* sorted by name, "__name__" included */
    size_t n_labels;
    uint64_t ref;
    const int64_t *times_ms; /* strictly increasing */
    const double *values;
    size_t n; /* 0 is possible: the series is in the index but has no sample in the range */
    const struct ts_scan_gap *gaps; /* in time order */
    size_t n_gaps;
};
/* Finds the series. budget is borrowed until close; samples are counted as they are decoded. */
KV_MUST kv_status ts_scan_open(struct ts_db *db, const struct ts_scan_options *options,
                               struct ts_budget *budget, struct ts_scan **out, struct kv_err *err);
/* How many series it will yield, at most (those without samples included). */
size_t ts_scan_count(const struct ts_scan *scan);
/* The next series, in ref order (metric by metric). KV_OK, KV_END or negative. */
KV_MUST kv_status ts_scan_next(struct ts_scan *scan, struct ts_scan_series *out, struct kv_err *err);
/* The series that was lent last again, with every sample. */
KV_MUST kv_status ts_scan_again(struct ts_scan *scan, struct ts_scan_series *out, struct kv_err *err);
/* Adds to *absent those of n sorted refs that have no sample in [from_ms, select->to_ms], as pin and
 * select->snapshot show them; retention is not applied. */
KV_MUST kv_status ts_scan_absent(struct ts_db *db, const struct ts_head_pin *pin,
                                 const struct ts_select *select, const uint64_t *refs, size_t n,
                                 int64_t from_ms, struct ts_refset *absent, struct kv_err *err);
void ts_scan_close(struct ts_scan *scan); /* NULL is fine */

#endif
