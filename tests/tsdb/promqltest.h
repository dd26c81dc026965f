/*
 * promqltest.h - runs test files written in Prometheus's PromQL test language (load, clear, eval ... with what is expected) against the
 * C API of tsdb/ts.h, over files in memory.
 *
 * Each eval is one case. As there, an instant eval is also asked with "@ TIME" on every selector at other evaluation times, and as the middle
 * of a range query.
 */
#ifndef TESTS_PROMQLTEST_H
#define TESTS_PROMQLTEST_H

#include "kvcore/base/slice.h"

enum promqltest_outcome { PROMQLTEST_PASSED, PROMQLTEST_FAILED, PROMQLTEST_NOT_YET };

struct promqltest_case {
    const char *file; /* base name */
    int line;         /* of the eval, from 1 */
    const char *query;
    enum promqltest_outcome outcome;
    char why[1024]; /* FAILED: expected and got; NOT_YET: the function or feature that is missing */
};
/* Runs one file; each gets every case, in order. False: the file cannot be read or is not in the language (why, on stderr). */
bool promqltest_run(const char *path, void (*each)(void *ctx, const struct promqltest_case *one), void *ctx);
/* The same for text at hand. */
bool promqltest_run_text(const char *name, kv_slice text,
                         void (*each)(void *ctx, const struct promqltest_case *one), void *ctx);

/* The cases that are known not to pass: lines "FILE:LINE" under "# reason" comments. */
struct promqltest_list {
    char (*keys)[96];
    size_t n, capacity;
};
bool promqltest_list_read(const char *path, struct promqltest_list *out);
bool promqltest_list_has(const struct promqltest_list *list, const char *file, int line);
void promqltest_list_release(struct promqltest_list *list);

#endif
