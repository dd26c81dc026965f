#include "promqltest_series.h"

#include "kvcore/base/number.h"
#include "tsdb/label.h"
#include "tsdb/promql/lex.h"
#include "tsdb/promql/parse.h"

#include <math.h>
#include <stdio.h>
#include <strings.h>

enum { VALUES_MAX = 1 << 20 };

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

/* ---- numbers and durations */

/* Takes an unsigned number off the front: digits, Inf, NaN. */
static bool take_number(kv_slice *rest, double *value)
{
    if (rest->len >= 3 && strncasecmp((const char *)rest->data, "inf", 3) == 0)
        *value = INFINITY;
    else if (rest->len >= 3 && strncasecmp((const char *)rest->data, "nan", 3) == 0)
        *value = NAN;
    else {
        size_t n = rest->len > 0 && (is_digit(rest->data[0]) || rest->data[0] == '.')
                       ? kv_double_parse(*rest, value)
                       : 0;
        *rest = kv_slice_from(*rest, n);
        return n > 0;
    }
    *rest = kv_slice_from(*rest, 3);
    return true;
}

/* Takes a sign (optional unless needed), then a number. */
static bool take_signed(kv_slice *rest, bool needs_sign, double *value)
{
    bool negative = rest->len > 0 && rest->data[0] == '-';
    bool sign = negative || (rest->len > 0 && rest->data[0] == '+');
    if (sign)
        *rest = kv_slice_from(*rest, 1);
    if ((needs_sign && !sign) || !take_number(rest, value))
        return false;
    if (negative)
        *value = -*value;
    return true;
}

bool series_number_parse(kv_slice text, double *value)
{
    return take_signed(&text, false, value) && text.len == 0;
}

bool series_duration_parse(kv_slice text, int64_t *ms)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"ms", 1},        {"y", INT64_C(31536000000)},
                 {"w", 604800000}, {"d", 86400000},
                 {"h", 3600000},   {"m", 60000},
                 {"s", 1000}};
    *ms = 0;
    if (kv_slice_equal(text, KV_STR("0")))
        return true;
    if (text.len == 0)
        return false;
    while (text.len > 0) {
        int64_t n = 0;
        size_t digits = 0, u = 0;
        for (; digits < text.len && is_digit(text.data[digits]); digits++)
            n = n * 10 + text.data[digits] - '0';
        text = kv_slice_from(text, digits);
        for (; u < 7 && !kv_slice_has_prefix(text, kv_slice_str(units[u].unit)); u++) {
        }
        if (digits == 0 || u == 7)
            return false;
        *ms += n * units[u].ms;
        text = kv_slice_from(text, strlen(units[u].unit));
    }
    return true;
}

/* ---- values */

static bool add_values(struct series_line *line, size_t *capacity, struct series_value value, double step,
                       uint64_t n)
{
    if (n > VALUES_MAX || line->n_values + n > VALUES_MAX)
        return false;
    if (line->n_values + n > *capacity) {
        *capacity = (line->n_values + n) * 2;
        struct series_value *bigger = kv_arena_alloc(line->arena, *capacity * sizeof *bigger);
        if (!bigger)
            return false;
        if (line->n_values)
            memcpy(bigger, line->values, line->n_values * sizeof *bigger);
        line->values = bigger;
    }
    for (uint64_t i = 0; i < n; i++, value.value += step)
        line->values[line->n_values++] = value;
    return true;
}

/* xN behind an item: N; none: -1; *ok false when it is neither. */
static int64_t take_times(kv_slice *rest, bool *ok)
{
    int64_t n = 0;
    size_t i = 1;
    *ok = true;
    if (rest->len == 0)
        return -1;
    for (; rest->data[0] == 'x' && i < rest->len && is_digit(rest->data[i]) && n < VALUES_MAX; i++)
        n = n * 10 + rest->data[i] - '0';
    *ok = i > 1 && i == rest->len;
    *rest = kv_slice_from(*rest, i);
    return n;
}

static double stale(void)
{
    uint64_t bits = TS_STALE_NAN;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static bool parse_item(struct series_line *line, size_t *capacity, kv_slice item)
{
    struct series_value value = {0};
    double step = 0;
    bool ok;
    if (item.data[0] == '_') {
        item = kv_slice_from(item, 1);
        value.omitted = true;
        int64_t n = take_times(&item, &ok);
        return ok && add_values(line, capacity, value, 0, n < 0 ? 1 : (uint64_t)n);
    }
    if (kv_slice_has_prefix(item, KV_STR("{{"))) { /* what it says is not read yet */
        value.histogram = line->has_histogram = true;
        size_t end = item.len;
        while (end > 0 && item.data[end - 1] != '}')
            end--;
        item = kv_slice_from(item, end);
    } else if (kv_slice_has_prefix(item, KV_STR("stale"))) {
        value.value = stale();
        item = kv_slice_from(item, 5);
    } else if (!take_signed(&item, false, &value.value)) {
        return false;
    } else if (item.len > 0 && item.data[0] != 'x' && !take_signed(&item, true, &step)) {
        return false;
    }
    int64_t n = take_times(&item, &ok);
    return ok && add_values(line, capacity, value, step, n < 0 ? 1 : (uint64_t)n + 1);
}

/* Items stand between blanks; those inside {{ }} belong to the item. */
static bool parse_values(struct series_line *line, kv_slice rest, char why[256])
{
    size_t capacity = 0;
    while (rest.len > 0) {
        size_t n = 0;
        int depth = 0;
        if (rest.data[0] == ' ' || rest.data[0] == '\t') {
            rest = kv_slice_from(rest, 1);
            continue;
        }
        for (; n < rest.len && (depth > 0 || (rest.data[n] != ' ' && rest.data[n] != '\t')); n++)
            depth += (rest.data[n] == '{') - (rest.data[n] == '}');
        if (!parse_item(line, &capacity, kv_slice_of(rest.data, n))) {
            snprintf(why, 256, "bad series value \"%.*s\"", (int)(n < 100 ? n : 100),
                     (const char *)rest.data);
            return false;
        }
        rest = kv_slice_from(rest, n);
    }
    return true;
}

/* ---- the metric */

/* The length of the metric in front of a line: up to its closing brace, or of its name. */
static size_t metric_length(kv_slice line)
{
    struct ts_lexer lexer;
    struct ts_token token;
    size_t name = 0;
    ts_lexer_init(&lexer, line);
    ts_lexer_next(&lexer, &token);
    if (token.type != TS_TOK_LEFT_BRACE) {
        name = token.start + token.text.len;
        if (name >= line.len || line.data[name] != '{')
            return name;
        ts_lexer_next(&lexer, &token);
    }
    while (token.type != TS_TOK_RIGHT_BRACE && token.type != TS_TOK_EOF && token.type != TS_TOK_ERROR)
        ts_lexer_next(&lexer, &token);
    return token.type == TS_TOK_RIGHT_BRACE ? token.start + 1 : name;
}

static bool parse_metric(struct series_line *line, kv_slice text, char why[256])
{
    static struct ts_query_err err;
    struct ts_tree tree = {0};
    if (ts_parse_selector(text, line->arena, &tree, &err) < 0) {
        snprintf(why, 256, "%.250s", err.text);
        return false;
    }
    const struct ts_vector_selector *vector = &tree.root->vector;
    line->labels = kv_arena_alloc(line->arena, (vector->n_matchers + 1) * sizeof *line->labels);
    for (size_t i = 0; line->labels && i < vector->n_matchers; i++)
        if (vector->matchers[i].value.len > 0)
            line->labels[line->n_labels++] =
                (struct ts_label){vector->matchers[i].name, vector->matchers[i].value};
    ts_tree_release(&tree);
    return line->labels && ts_labels_sort(line->labels, line->n_labels);
}

bool series_line_parse(kv_slice text, struct kv_arena *arena, struct series_line *out, char why[256])
{
    snprintf(why, 256, "bad series");
    *out = (struct series_line){.arena = arena};
    size_t n = metric_length(text);
    if (!parse_metric(out, kv_slice_of(text.data, n), why))
        return false;
    kv_slice rest = kv_slice_from(text, n);
    if (kv_slice_has_prefix(rest, KV_STR("@st"))) {
        out->start_times = true;
        return true;
    }
    return parse_values(out, rest, why);
}
