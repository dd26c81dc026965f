/*
 * criterion.h - as much of Criterion as the suites of chunks use, for processors that Criterion is not installed for: each test runs in the one
 * process, a failed assertion prints itself and ends it with status 1. tests/cross/run.sh builds with it.
 */
#ifndef CROSS_CRITERION_H
#define CROSS_CRITERION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cross_test {
    const char *suite, *name;
    void (*run)(void);
    struct cross_test *next;
};
extern struct cross_test *cross_tests; /* the last one first */

#define Test(suite_, name_)                                                                                  \
    static void suite_##_##name_(void);                                                                      \
    __attribute__((constructor)) static void suite_##_##name_##_listed(void)                                 \
    {                                                                                                        \
        static struct cross_test test = {#suite_, #name_, suite_##_##name_, NULL};                           \
        test.next = cross_tests;                                                                             \
        cross_tests = &test;                                                                                 \
    }                                                                                                        \
    static void suite_##_##name_(void)

/* What Criterion's message would say, without a message too: the first argument may be missing. */
#define cross_assert(holds, text, ...)                                                                       \
    do {                                                                                                     \
        if (!(holds)) {                                                                                      \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, text);                                        \
            fprintf(stderr, "  " __VA_ARGS__);                                                               \
            fputc('\n', stderr);                                                                             \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)
#define cr_assert(holds, ...)      cross_assert(holds, #holds, __VA_ARGS__)
#define cr_assert_eq(a, b, ...)    cross_assert((a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...)    cross_assert((a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...)    cross_assert((a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...)   cross_assert((a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_not_null(a, ...) cross_assert((a) != NULL, #a, __VA_ARGS__)

#endif
