#include "promqltest_compare.h"

#include "tsdb/label.h"
#include "tsdb/query/labelset.h"
#include "tsdb/regex.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static const double epsilon = 1e-6; /* relative */

/* As Prometheus compares in tests: the difference is less than the sum times epsilon. */
static bool almost_equal(double a, double b)
{
    uint64_t a_bits, b_bits;
    memcpy(&a_bits, &a, 8);
    memcpy(&b_bits, &b, 8);
    if (a_bits == TS_STALE_NAN || b_bits == TS_STALE_NAN)
        return a_bits == b_bits;
    if (a == b || (isnan(a) && isnan(b)))
        return true;
    double sum = fabs(a) + fabs(b), diff = fabs(a - b);
    if (a == 0 || b == 0 || sum < 0x1p-1022)
        return diff < epsilon * 0x1p-1022;
    return diff / fmin(sum, 0x1.fffffffffffffp+1023) < epsilon;
}

/* ---- texts */

static bool text_matches(const struct expect_text *expect, kv_slice text)
{
    struct ts_regex *regex = NULL;
    struct kv_buf pattern = {0};
    bool matches = false;
    if (expect->any)
        return true;
    if (!expect->is_regex)
        return kv_slice_equal(expect->text, text);
    if (kv_buf_printf(&pattern, "(?s:.*)(?:%.*s)(?s:.*)", KV_ARG(expect->text)) == KV_OK &&
        ts_regex_compile(kv_buf_slice(&pattern), &regex, NULL) == KV_OK)
        matches = ts_regex_matches(regex, text);
    ts_regex_free(regex);
    kv_buf_release(&pattern);
    return matches;
}

bool eval_expects(const struct eval_case *eval, enum expect_kind kind)
{
    for (size_t i = 0; i < eval->n_texts; i++)
        if (eval->texts[i].kind == kind)
            return true;
    return false;
}

bool eval_compare_failure(const struct eval_case *eval, const char *text, char why[1024])
{
    for (size_t i = 0; i < eval->n_texts; i++)
        if (eval->texts[i].kind == EXPECT_FAIL && !text_matches(&eval->texts[i], kv_slice_str(text))) {
            snprintf(why, 1024, "expected the error \"%.*s\", got \"%s\"", KV_ARG(eval->texts[i].text), text);
            return false;
        }
    return true;
}

static bool compare_kind(const struct eval_case *eval, const struct ts_result *result, enum expect_kind kind,
                         char why[1024])
{
    bool warn = kind == EXPECT_WARN;
    const char *name = warn ? "warning" : "info";
    size_t n = warn ? ts_result_warnings(result) : ts_result_infos(result);
    enum expect_kind none = warn ? EXPECT_NO_WARN : EXPECT_NO_INFO;
    for (size_t i = 0; i < eval->n_texts; i++) {
        bool found = eval->texts[i].kind != kind;
        for (size_t j = 0; j < n && !found; j++)
            found = text_matches(&eval->texts[i],
                                 warn ? ts_result_warning(result, j) : ts_result_info(result, j));
        if (!found) {
            kv_slice got = n == 0 ? KV_STR("none")
                           : warn ? ts_result_warning(result, 0)
                                  : ts_result_info(result, 0);
            snprintf(why, 1024, "expected the %s \"%.*s\", got \"%.*s\"", name, KV_ARG(eval->texts[i].text),
                     KV_ARG(got));
            return false;
        }
    }
    for (size_t j = 0; j < n; j++) {
        kv_slice got = warn ? ts_result_warning(result, j) : ts_result_info(result, j);
        bool found = !eval_expects(eval, kind) && !eval_expects(eval, none);
        for (size_t i = 0; i < eval->n_texts && !found; i++)
            found = eval->texts[i].kind == kind && text_matches(&eval->texts[i], got);
        if (!found) {
            snprintf(why, 1024, "unexpected %s \"%.*s\"", name, KV_ARG(got));
            return false;
        }
    }
    return true;
}

bool eval_compare_notes(const struct eval_case *eval, const struct ts_result *result, char why[1024])
{
    return compare_kind(eval, result, EXPECT_WARN, why) && compare_kind(eval, result, EXPECT_INFO, why);
}

/* ---- values */

static const char *labels_shown(const struct ts_label *labels, size_t n, char out[512])
{
    struct kv_buf text = {0};
    if (ts_labels_print(labels, n, &text) < 0)
        snprintf(out, 512, "?");
    else
        snprintf(out, 512, "%.*s", KV_ARG(kv_buf_slice(&text)));
    kv_buf_release(&text);
    return out;
}

static size_t find_series(const struct eval_case *eval, const struct ts_series_points *got)
{
    for (size_t i = eval->n_series; i-- > 0;) /* the last of equal ones counts */
        if (ts_labels_compare(eval->series[i].labels, eval->series[i].n_labels, got->labels, got->n_labels) ==
            0)
            return i;
    return eval->n_series;
}

static bool compare_points(const struct eval_case *eval, const struct series_line *expected,
                           const struct ts_series_points *got, char why[1024])
{
    char shown[512];
    size_t at = 0;
    for (size_t i = 0; i < expected->n_values; i++) {
        int64_t time_ms = eval->start_ms + (int64_t)i * eval->step_ms;
        if (expected->values[i].omitted)
            continue;
        if (at >= got->n || got->times_ms[at] != time_ms) {
            snprintf(why, 1024, "%s: expected %g at %" PRId64 " ms, there is no value",
                     labels_shown(got->labels, got->n_labels, shown), expected->values[i].value, time_ms);
            return false;
        }
        if (!almost_equal(got->values[at], expected->values[i].value)) {
            snprintf(why, 1024, "%s: expected %.17g at %" PRId64 " ms, got %.17g",
                     labels_shown(got->labels, got->n_labels, shown), expected->values[i].value, time_ms,
                     got->values[at]);
            return false;
        }
        at++;
    }
    if (at < got->n) {
        snprintf(why, 1024, "%s: unexpected %.17g at %" PRId64 " ms",
                 labels_shown(got->labels, got->n_labels, shown), got->values[at], got->times_ms[at]);
        return false;
    }
    return true;
}

static bool compare_one(const struct eval_case *eval, const struct ts_series_points *got, size_t position,
                        bool matrix, char why[1024])
{
    char shown[512];
    size_t at = find_series(eval, got);
    if (at == eval->n_series) {
        snprintf(why, 1024, "unexpected series %s with %zu values, the first %.17g",
                 labels_shown(got->labels, got->n_labels, shown), got->n, got->n ? got->values[0] : 0.0);
        return false;
    }
    if (matrix)
        return compare_points(eval, &eval->series[at], got, why);
    if (eval->ordered && at != position) {
        snprintf(why, 1024, "%s stands at place %zu, expected at %zu",
                 labels_shown(got->labels, got->n_labels, shown), position + 1, at + 1);
        return false;
    }
    double expected = eval->series[at].n_values ? eval->series[at].values[0].value : 0;
    if (got->n == 1 && almost_equal(got->values[0], expected))
        return true;
    snprintf(why, 1024, "%s: expected %.17g, got %.17g", labels_shown(got->labels, got->n_labels, shown),
             expected, got->n ? got->values[0] : NAN);
    return false;
}

static bool compare_scalar(const struct eval_case *eval, double got, char why[1024])
{
    if (!eval->wants_scalar)
        snprintf(why, 1024, "expected a vector, got the scalar %.17g", got);
    else if (almost_equal(eval->scalar, got))
        return true;
    else
        snprintf(why, 1024, "expected the scalar %.17g, got %.17g", eval->scalar, got);
    return false;
}

static bool has_labels(const struct ts_result *result, const struct series_line *line)
{
    struct ts_series_points got;
    for (size_t i = 0; i < ts_result_count(result); i++) {
        ts_result_series(result, i, &got);
        if (got.n > 0 && ts_labels_compare(line->labels, line->n_labels, got.labels, got.n_labels) == 0)
            return true;
    }
    return false;
}

static bool all_found(const struct eval_case *eval, const struct ts_result *result, char why[1024])
{
    char shown[512];
    for (size_t i = 0; i < eval->n_series; i++)
        if (!has_labels(result, &eval->series[i])) {
            snprintf(why, 1024, "expected series %s not found among %zu",
                     labels_shown(eval->series[i].labels, eval->series[i].n_labels, shown),
                     ts_result_count(result));
            return false;
        }
    return true;
}

static bool sorted_by_labels(const struct ts_result *result, char why[1024])
{
    struct ts_series_points before, got;
    for (size_t i = 1; i < ts_result_count(result); i++) {
        ts_result_series(result, i - 1, &before);
        ts_result_series(result, i, &got);
        if (ts_labels_compare(before.labels, before.n_labels, got.labels, got.n_labels) > 0) {
            snprintf(why, 1024, "the series of a matrix are not sorted by labels");
            return false;
        }
    }
    return true;
}

bool eval_compare(const struct eval_case *eval, const struct ts_result *result, char why[1024])
{
    enum ts_result_type type = ts_result_type(result);
    struct ts_series_points got;
    int64_t time_ms;
    if (type == TS_RESULT_STRING) {
        kv_slice text = ts_result_string(result, &time_ms);
        snprintf(why, 1024, "expected the string \"%.*s\", got \"%.*s\"", KV_ARG(eval->string), KV_ARG(text));
        return eval->wants_string && kv_slice_equal(text, eval->string);
    }
    if (type == TS_RESULT_SCALAR) {
        ts_result_series(result, 0, &got);
        return compare_scalar(eval, got.values[0], why);
    }
    if (eval->wants_scalar || eval->wants_string) {
        snprintf(why, 1024, "expected a scalar or string, got %zu series", ts_result_count(result));
        return false;
    }
    for (size_t i = 0; i < ts_result_count(result); i++) {
        ts_result_series(result, i, &got);
        if (!compare_one(eval, &got, i, type == TS_RESULT_MATRIX, why))
            return false;
    }
    return all_found(eval, result, why) && (type != TS_RESULT_MATRIX || sorted_by_labels(result, why));
}

bool eval_compare_middle(const struct eval_case *eval, const struct ts_result *result, int64_t time_ms,
                         char why[1024])
{
    struct ts_series_points got;
    size_t found = 0;
    for (size_t i = 0; i < ts_result_count(result); i++) {
        ts_result_series(result, i, &got);
        size_t at = 0;
        while (at < got.n && got.times_ms[at] != time_ms)
            at++;
        if (at == got.n)
            continue;
        found++;
        got.values += at;
        got.times_ms += at;
        got.n = 1;
        if (eval->wants_scalar ? !compare_scalar(eval, got.values[0], why)
                               : !compare_one(eval, &got, i, false, why))
            return false;
    }
    if (!sorted_by_labels(result, why))
        return false;
    if (found == (eval->wants_scalar ? 1 : eval->n_series))
        return true;
    snprintf(why, 1024, "expected %zu series in the middle of the range, got %zu", eval->n_series, found);
    return false;
}
