/* promqltest_compare.h - one eval of a test file: what is expected, and whether a result is it. */
#ifndef TESTS_PROMQLTEST_COMPARE_H
#define TESTS_PROMQLTEST_COMPARE_H

#include "promqltest_series.h"

enum expect_kind { EXPECT_WARN, EXPECT_NO_WARN, EXPECT_INFO, EXPECT_NO_INFO, EXPECT_FAIL, EXPECT_KINDS };
struct expect_text {
    enum expect_kind kind;
    bool any, is_regex;
    kv_slice text;
};
struct eval_case {
    int line;
    kv_slice query;
    bool range, ordered;
    int64_t start_ms, end_ms,
        step_ms;    /* instant: end is the time; start and step only of an expected range vector */
    bool is_matrix; /* an instant query whose answer is a range vector */
    bool wants_string, wants_scalar;
    kv_slice string;
    double scalar;
    struct series_line *series;
    size_t n_series, series_capacity;
    struct expect_text *texts;
    size_t n_texts, texts_capacity;
};
/* Each answers true, or false with expected and got in why (size 1024). */
bool eval_compare(const struct eval_case *eval, const struct ts_result *result, char why[1024]);
/* The value at one time of a range query's result stands for the instant result. */
bool eval_compare_middle(const struct eval_case *eval, const struct ts_result *result, int64_t time_ms,
                         char why[1024]);
bool eval_compare_notes(const struct eval_case *eval, const struct ts_result *result, char why[1024]);
bool eval_compare_failure(const struct eval_case *eval, const char *text, char why[1024]);
bool eval_expects(const struct eval_case *eval, enum expect_kind kind);

#endif
