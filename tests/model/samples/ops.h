/*
 * ops.h - the operations of the model of samples, in the form of tests/model/history.h.
 *
 * Times: `at` counts seconds from NAIVE_ORIGIN_MS. Of delete, raw and range, how 16: times of samples that there are (player_snap). Series, selectors: naive.h. Values and jitter come from the seed `len`.
 */
#ifndef SAMPLES_OPS_H
#define SAMPLES_OPS_H

#include "tests/model/history.h"

/* O(name, what) */
#define SAMPLES_OPS(O)                                                                                       \
    O(put, "a row into the request: n samples of series from at, step ms apart, meta: kind of values;"       \
           " how 1: jittered, 2: backward")                                                                  \
    O(edge, "a row of one sample at a time that is an edge: n of enum edge")                                 \
    O(bad, "a row that must be refused: n of enum bad_row")                                                  \
    O(commit, "the request")                                                                                 \
    O(abort, "")                                                                                             \
    O(delete, "of selector meta of series, from at, n seconds; how 1: of two selectors, 2: a ms less,"       \
              " 4: from the beginning, 8: to the end")                                                       \
    O(raw, "selector meta of series as a range vector of n seconds ending at at")                            \
    O(range, "selector meta of series at n steps of step ms from at")                                        \
    O(series, "that there are in n seconds from at by selector meta of series")                              \
    O(values, "of label number step, likewise")                                                              \
    O(flush, "")                                                                                             \
    O(settle, "")                                                                                            \
    O(maintain, "")                                                                                          \
    O(work, "n pieces of kvcore's")                                                                          \
    O(clock, "n milliseconds on")                                                                            \
    O(clock_step, "the wall clock alone, n seconds; how 1: back, 2: accepted, 4: given back at once")        \
    O(snapshot, "how 0: looked at, 1: goes on there, 2: the head is not flushed")                            \
    O(backup, "how 0: only taken, 1: restored and looked at, 2: goes on there, 4: the head is flushed, 8: "  \
              "of the closed store")                                                                         \
    O(read_only, "reopened so, looked at, reopened")                                                         \
    O(check, "closed, every key and chunk checked, reopened")                                                \
    O(reopen,                                                                                                \
      "with option set n; how 1: then power can be lost at any change; 2: closed fast; 4: not looked at")    \
    O(crash, "n: when and how; meta: profile; how 1: as reopen, 2: nothing in flight, 4: again in recovery") \
    O(verify, "everything")

enum samples_op {
#define O(name, what) OP_##name,
    SAMPLES_OPS(O)
#undef O
        OP_KINDS
};

enum edge { /* times beside the bounds */
            EDGE_FLOOR,
            EDGE_BEFORE_FLOOR,
            EDGE_FUTURE,
            EDGE_PAST_FUTURE,
            EDGE_OLDEST,
            EDGE_BEFORE_OLDEST,
            EDGE_ZERO,
            EDGE_MINUS_ONE,
            EDGE_NEWEST,
            EDGE_PAST_NEWEST,
            EDGE_INT64_MIN,
            EDGE_INT64_MAX,
            EDGE_MIDNIGHT,
            EDGE_BEFORE_MIDNIGHT,
            EDGES
};
enum bad_row { BAD_NO_NAME, BAD_DUPLICATE, BAD_NAME, BAD_UTF8, BAD_MANY_LABELS, BAD_LONG_VALUE, BAD_ROWS };

/* n operations. */
void samples_make(struct history *history, uint64_t seed, size_t n);

#endif
