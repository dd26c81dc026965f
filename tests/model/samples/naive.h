/*
 * naive.h - the store as anyone would write it who had time and memory: sorted arrays, and a log of all that was done to them.
 *
 * A sample is `maybe` once retention has hidden it: then the store may keep it or not, and a longer retention or a clock that was wrong
 * may show it again, as it was, or not.
 *
 * Series n < NAIVE_SERIES: {__name__="m<n % 5>", i="<n>", parity="even"|"odd"}, and zone="z<n % 4>" for every third.
 *
 * Threads    one.  Ownership  {0} is empty; naive_release frees.  Failure  aborts when out of memory.
 */
#ifndef SAMPLES_NAIVE_H
#define SAMPLES_NAIVE_H

#include "tsdb/ts.h"

#define NAIVE_ORIGIN_MS INT64_C(1700006400000) /* 2023-11-15, midnight UTC */
#define NAIVE_DAY_MS    INT64_C(86400000)
enum { NAIVE_SERIES = 40, NAIVE_METRICS = 5, NAIVE_LABELS_MAX = 4, NAIVE_SELECTORS = 8 };

/* Labels, sorted by name; their texts are static. Answers how many. */
size_t naive_labels(uint32_t series, struct ts_label out[NAIVE_LABELS_MAX]);
/* The series that selector number `which`, about `series`, means: a bit each; and its text, static. */
uint64_t naive_select(uint32_t which, uint32_t series, kv_slice *text);

struct naive_sample {
    int64_t time_ms;
    uint64_t bits;
    bool maybe;
};
struct naive_series {
    bool known; /* a commit created it */
    struct naive_sample *samples;
    size_t n, capacity;
};
enum naive_kind { NAIVE_PUT, NAIVE_DELETE, NAIVE_FLOOR };
struct naive_event {
    enum naive_kind kind;
    uint64_t version;       /* of the store behind it; a floor has none: it stays */
    uint64_t series;        /* put: number; delete and floor: a bit each */
    int64_t from_ms, to_ms; /* delete: inclusive; floor: to_ms is the oldest that is shown */
    size_t n;               /* put: */
    struct naive_sample *samples;
};
struct naive {
    struct naive_series series[NAIVE_SERIES];
    struct naive_event *events;
    size_t n, capacity;
};
void naive_release(struct naive *naive);
/* Takes event over, its samples (kv_alloc) too. */
void naive_add(struct naive *naive, const struct naive_event *event);
/* What is younger than version never was. */
void naive_roll_back(struct naive *naive, uint64_t version);
/* The first sample at or after time. */
size_t naive_find(const struct naive_series *series, int64_t time_ms);
/* Was a sample of the series ever put into [from, to], whatever became of it? */
bool naive_ever(const struct naive *naive, uint32_t series, int64_t from_ms, int64_t to_ms);
size_t naive_known(const struct naive *naive);
/* Is there a sample in [from, to] that cannot be gone? */
bool naive_has(const struct naive *naive, int64_t from_ms, int64_t to_ms);

#endif
