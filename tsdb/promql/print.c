/* print.c - see print.h. Recursion is bounded by TS_EXPR_HEIGHT_MAX. */
#include "tsdb/promql/print.h"

#include "kvcore/base/number.h"
#include "tsdb/promql/func_table.h"
#include "tsdb/promql/parse.h"
#include "tsdb/promql/quote.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

static kv_status put(struct kv_buf *out, const char *text)
{
    return kv_buf_append(out, kv_slice_str(text));
}

/* ---- literals */

kv_status ts_print_quoted(kv_slice text, struct kv_buf *out)
{
    kv_status rc;
    KV_TRY(kv_buf_append_byte(out, '"'));
    while (text.len > 0) {
        char piece[TS_QUOTED_RUNE_MAX];
        size_t width;
        uint32_t rune = ts_rune_decode(text, &width);
        if (rune == TS_RUNE_BAD && width == 1)
            KV_TRY(kv_buf_printf(out, "\\x%02x", text.data[0]));
        else if (rune == TS_RUNE_BAD)
            KV_TRY(
                put(out, "\\ufffd")); /* the lexer takes no plain one, so that what is printed can be read */
        else
            KV_TRY(kv_buf_append(out, kv_slice_of(piece, ts_quote_rune(rune, '"', piece))));
        text = kv_slice_from(text, width);
    }
    rc = kv_buf_append_byte(out, '"');
out:
    return rc;
}

kv_status ts_print_float(double value, struct kv_buf *out)
{
    uint64_t digits;
    int exponent;
    kv_status rc;
    if (isnan(value) || isinf(value))
        return put(out, isnan(value) ? "NaN" : value < 0 ? "-Inf" : "+Inf");
    if (signbit(value))
        KV_TRY(kv_buf_append_byte(out, '-'));
    if (value == 0)
        return kv_buf_append_byte(out, '0');
    kv_double_shortest(value, &digits, &exponent);
    char text[24];
    int n = snprintf(text, sizeof text, "%" PRIu64, digits);
    if (exponent >= 0)
        return kv_buf_printf(out, "%s%.*d", text, exponent, 0);
    int whole = n + exponent;
    if (whole > 0)
        return kv_buf_printf(out, "%.*s.%s", whole, text, text + whole);
    return whole == 0 ? kv_buf_printf(out, "0.%s", text) : kv_buf_printf(out, "0.%.*d%s", -whole, 0, text);
out:
    return rc;
}

kv_status ts_print_duration(int64_t ms, struct kv_buf *out)
{
    static const struct {
        const char *unit;
        int64_t ms;
        bool exact; /* years and weeks only when nothing is left: 90d says more than 12w6d */
    } units[] = {
        {"y", INT64_C(31536000000), true},
        {"w", 604800000, true},
        {"d", 86400000, false},
        {"h", 3600000, false},
        {"m", 60000, false},
        {"s", 1000, false},
        {"ms", 1, false},
    };
    if (ms == 0)
        return put(out, "0s");
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        int64_t count = ms / units[i].ms;
        if (count == 0 || (units[i].exact && ms % units[i].ms != 0))
            continue;
        kv_status rc = kv_buf_printf(out, "%" PRId64 "%s", count, units[i].unit);
        if (rc < 0)
            return rc;
        ms -= count * units[i].ms;
    }
    return KV_OK;
}

static kv_status print_seconds(double seconds, bool is_duration, struct kv_buf *out)
{
    if (!is_duration || !(fabs(seconds) < 1e15))
        return ts_print_float(seconds, out);
    kv_status rc = seconds < 0 ? kv_buf_append_byte(out, '-') : KV_OK;
    return rc < 0 ? rc : ts_print_duration((int64_t)round(fabs(seconds) * 1000), out);
}

/* ---- durations */

static const char *duration_op_text(enum ts_duration_op op)
{
    static const char *const texts[] = {
        [TS_DUR_ADD] = " + ", [TS_DUR_SUB] = " - ", [TS_DUR_MUL] = " * ",
        [TS_DUR_DIV] = " / ", [TS_DUR_MOD] = " % ", [TS_DUR_POW] = " ^ ",
    };
    return texts[op];
}

static kv_status print_duration_expr(const struct ts_duration_expr *expr, struct kv_buf *out);

static kv_status print_duration_pair(const struct ts_duration_expr *expr, const char *before,
                                     const char *between, const char *after, struct kv_buf *out)
{
    kv_status rc;
    KV_TRY(put(out, before));
    KV_TRY(print_duration_expr(expr->left, out));
    KV_TRY(put(out, between));
    KV_TRY(print_duration_expr(expr->right, out));
    rc = put(out, after);
out:
    return rc;
}

static kv_status print_duration_bare(const struct ts_duration_expr *expr, struct kv_buf *out)
{
    kv_status rc;
    switch (expr->op) {
    case TS_DUR_NUMBER:
        return print_seconds(expr->seconds, expr->is_duration, out);
    case TS_DUR_STEP:
        return put(out, "step()");
    case TS_DUR_RANGE:
        return put(out, "range()");
    case TS_DUR_MIN_OF:
        return print_duration_pair(expr, "min_of(", ", ", ")", out);
    case TS_DUR_MAX_OF:
        return print_duration_pair(expr, "max_of(", ", ", ")", out);
    case TS_DUR_PLUS:
        return print_duration_expr(expr->right, out);
    case TS_DUR_MINUS:
        rc = kv_buf_append_byte(out, '-');
        return rc < 0 ? rc : print_duration_expr(expr->right, out);
    default:
        return print_duration_pair(expr, "", duration_op_text(expr->op), "", out);
    }
}

static kv_status print_duration_expr(const struct ts_duration_expr *expr, struct kv_buf *out)
{
    kv_status rc;
    if (!expr->wrapped)
        return print_duration_bare(expr, out);
    KV_TRY(put(out, expr->plus ? "+(" : "("));
    KV_TRY(print_duration_bare(expr, out));
    rc = kv_buf_append_byte(out, ')');
out:
    return rc;
}

static kv_status print_length(const struct ts_duration *duration, struct kv_buf *out)
{
    if (duration->expression)
        return print_duration_expr(duration->expression, out);
    kv_status rc = duration->ms < 0 ? kv_buf_append_byte(out, '-') : KV_OK;
    return rc < 0 ? rc : ts_print_duration(duration->ms < 0 ? -duration->ms : duration->ms, out);
}

static kv_status print_mode(enum ts_range_mode mode, struct kv_buf *out)
{
    return put(out, mode == TS_RANGE_PLAIN ? "" : mode == TS_RANGE_ANCHORED ? " anchored" : " smoothed");
}

static kv_status print_at(const struct ts_time_shift *shift, struct kv_buf *out)
{
    if (shift->at == TS_AT_TIME)
        return kv_buf_printf(out, " @ %.3f", (double)shift->at_ms / 1000);
    return put(out, shift->at == TS_AT_NONE ? "" : shift->at == TS_AT_START ? " @ start()" : " @ end()");
}

static kv_status print_offset(const struct ts_time_shift *shift, struct kv_buf *out)
{
    if (shift->offset.ms == 0 && !shift->offset.expression)
        return KV_OK;
    kv_status rc = put(out, " offset ");
    return rc < 0 ? rc : print_length(&shift->offset, out);
}

/* Prometheus prints @ first. An offset that is an expression must not end the selector, though: an operator behind it would read as
 * part of the offset. */
static kv_status print_shift(const struct ts_time_shift *shift, struct kv_buf *out)
{
    bool offset_first = shift->offset.expression != NULL;
    kv_status rc;
    if (offset_first)
        KV_TRY(print_offset(shift, out));
    KV_TRY(print_at(shift, out));
    if (!offset_first)
        KV_TRY(print_offset(shift, out));
    rc = KV_OK;
out:
    return rc;
}

/* ---- names and selectors */

static bool is_plain_label(kv_slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];
        bool letter = c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(i > 0 && c >= '0' && c <= '9'))
            return false;
    }
    return name.len > 0;
}

/* Words which by (...) would not read as labels again. */
static bool is_taken_word(kv_slice name)
{
    static const char *const words[] = {"without", "inf", "nan"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (name.len == strlen(words[i]) && strncasecmp((const char *)name.data, words[i], name.len) == 0)
            return true;
    return false;
}

static kv_status print_labels(const char *before, const kv_slice *labels, size_t n, const char *after,
                              struct kv_buf *out)
{
    kv_status rc;
    KV_TRY(put(out, before));
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            KV_TRY(put(out, ", "));
        bool plain = is_plain_label(labels[i]) && !is_taken_word(labels[i]);
        KV_TRY(plain ? kv_buf_append(out, labels[i]) : ts_print_quoted(labels[i], out));
    }
    rc = put(out, after);
out:
    return rc;
}

static kv_status print_matcher(const struct ts_matcher *matcher, struct kv_buf *out)
{
    static const char *const ops[] = {"=", "!=", "=~", "!~"};
    kv_status rc;
    KV_TRY(is_plain_label(matcher->name) ? kv_buf_append(out, matcher->name)
                                         : ts_print_quoted(matcher->name, out));
    KV_TRY(put(out, ops[matcher->op]));
    rc = ts_print_quoted(matcher->value, out);
out:
    return rc;
}

static int compare_slices(const void *a, const void *b)
{
    return kv_slice_compare(*(const kv_slice *)a, *(const kv_slice *)b);
}

/* The matchers but the one that the name in front says, sorted as texts. */
static kv_status print_matchers(const struct ts_vector_selector *vector, struct kv_buf *out)
{
    struct kv_arena texts = {0};
    struct kv_buf text = {0};
    size_t n = 0;
    kv_status rc = KV_NO_MEMORY;
    kv_slice *sorted = kv_arena_alloc(&texts, (vector->n_matchers + 1) * sizeof *sorted);
    if (!sorted)
        goto out;
    for (size_t i = 0; i < vector->n_matchers; i++) {
        const struct ts_matcher *matcher = &vector->matchers[i];
        if (vector->name.len > 0 && matcher->op == TS_MATCH_EQ &&
            kv_slice_equal(matcher->name, TS_METRIC_NAME) && kv_slice_equal(matcher->value, vector->name))
            continue;
        kv_buf_clear(&text);
        KV_TRY(print_matcher(matcher, &text));
        sorted[n] = kv_arena_copy(&texts, kv_buf_slice(&text));
        if (!sorted[n++].data) {
            rc = KV_NO_MEMORY;
            goto out;
        }
    }
    qsort(sorted, n, sizeof *sorted, compare_slices);
    for (size_t i = 0; i < n; i++) {
        KV_TRY(kv_buf_append_byte(out, i == 0 ? '{' : ','));
        KV_TRY(kv_buf_append(out, sorted[i]));
    }
    rc = n > 0 ? kv_buf_append_byte(out, '}') : KV_OK;
    if (rc >= 0 && n == 0 && vector->name.len == 0) /* info()'s second argument alone */
        rc = put(out, "{}");
out:
    kv_arena_release(&texts);
    kv_buf_release(&text);
    return rc;
}

static kv_status print_vector(const struct ts_vector_selector *vector, struct kv_buf *out)
{
    kv_status rc;
    KV_TRY(kv_buf_append(out, vector->name));
    KV_TRY(print_matchers(vector, out));
    if (!vector->shift.offset.expression)
        KV_TRY(print_at(&vector->shift, out));
    KV_TRY(print_mode(vector->mode, out));
    rc = vector->shift.offset.expression ? print_shift(&vector->shift, out)
                                         : print_offset(&vector->shift, out);
out:
    return rc;
}

static kv_status print_matrix(const struct ts_matrix_selector *matrix, struct kv_buf *out)
{
    const struct ts_vector_selector *vector = &matrix->vector->vector;
    kv_status rc;
    KV_TRY(kv_buf_append(out, vector->name));
    KV_TRY(print_matchers(vector, out));
    KV_TRY(kv_buf_append_byte(out, '['));
    KV_TRY(print_length(&matrix->range, out));
    KV_TRY(kv_buf_append_byte(out, ']'));
    KV_TRY(print_mode(vector->mode, out));
    rc = print_shift(&vector->shift, out);
out:
    return rc;
}

static kv_status print_subquery(const struct ts_subquery *subquery, struct kv_buf *out)
{
    kv_status rc;
    KV_TRY(ts_print(subquery->expr, out));
    KV_TRY(kv_buf_append_byte(out, '['));
    KV_TRY(print_length(&subquery->range, out));
    KV_TRY(kv_buf_append_byte(out, ':'));
    if (subquery->step.ms != 0 || subquery->step.expression)
        KV_TRY(print_length(&subquery->step, out));
    KV_TRY(kv_buf_append_byte(out, ']'));
    rc = print_shift(&subquery->shift, out);
out:
    return rc;
}

/* ---- calls, aggregations, operators */

static kv_status print_call(const struct ts_call *call, struct kv_buf *out)
{
    kv_status rc;
    KV_TRY(put(out, call->func->name));
    KV_TRY(kv_buf_append_byte(out, '('));
    for (size_t i = 0; i < call->n_args; i++) {
        if (i > 0)
            KV_TRY(put(out, ", "));
        KV_TRY(ts_print(call->args[i], out));
    }
    rc = kv_buf_append_byte(out, ')');
out:
    return rc;
}

static kv_status print_aggregate(const struct ts_aggregate *aggregate, struct kv_buf *out)
{
    kv_status rc;
    KV_TRY(put(out, ts_agg_text(aggregate->op)));
    if (aggregate->without || aggregate->n_grouping > 0)
        KV_TRY(print_labels(aggregate->without ? " without (" : " by (", aggregate->grouping,
                            aggregate->n_grouping, ") ", out));
    KV_TRY(kv_buf_append_byte(out, '('));
    if (aggregate->param) {
        KV_TRY(ts_print(aggregate->param, out));
        KV_TRY(put(out, ", "));
    }
    KV_TRY(ts_print(aggregate->expr, out));
    rc = kv_buf_append_byte(out, ')');
out:
    return rc;
}

static kv_status print_fill(const char *word, double value, struct kv_buf *out)
{
    char text[KV_DOUBLE_LEN_MAX];
    size_t n = kv_double_format_g(value, text);
    return kv_buf_printf(out, " %s (%.*s)", word, (int)n, text);
}

static kv_status print_matching(const struct ts_matching *matching, struct kv_buf *out)
{
    bool grouped = matching->card == TS_CARD_MANY_TO_ONE || matching->card == TS_CARD_ONE_TO_MANY;
    kv_status rc = KV_OK;
    if (matching->n_labels > 0 || matching->on || grouped)
        KV_TRY(print_labels(matching->on ? " on (" : " ignoring (", matching->labels, matching->n_labels, ")",
                            out));
    if (grouped)
        KV_TRY(print_labels(matching->card == TS_CARD_MANY_TO_ONE ? " group_left (" : " group_right (",
                            matching->include, matching->n_include, ")", out));
    if (matching->fills_left && matching->fills_right && matching->fill_left == matching->fill_right)
        return print_fill("fill", matching->fill_left, out);
    if (matching->fills_left)
        KV_TRY(print_fill("fill_left", matching->fill_left, out));
    if (matching->fills_right)
        KV_TRY(print_fill("fill_right", matching->fill_right, out));
out:
    return rc;
}

static kv_status print_binary(const struct ts_binary *binary, struct kv_buf *out)
{
    const struct ts_expr *left = binary->left;
    kv_status rc;
    /* "+Inf ^ 1" would read as +(Inf ^ 1): the one place where a sign binds less than what follows. */
    if (binary->op == TS_OP_POW && left->kind == TS_EXPR_NUMBER && isinf(left->number.value) &&
        left->number.value > 0)
        KV_TRY(put(out, "Inf"));
    else
        KV_TRY(ts_print(left, out));
    KV_TRY(kv_buf_printf(out, " %s%s", ts_op_text(binary->op), binary->returns_bool ? " bool" : ""));
    KV_TRY(print_matching(&binary->matching, out));
    KV_TRY(kv_buf_append_byte(out, ' '));
    rc = ts_print(binary->right, out);
out:
    return rc;
}

static kv_status print_paren(const struct ts_expr *inner, struct kv_buf *out)
{
    kv_status rc;
    KV_TRY(kv_buf_append_byte(out, '('));
    KV_TRY(ts_print(inner, out));
    rc = kv_buf_append_byte(out, ')');
out:
    return rc;
}

kv_status ts_print(const struct ts_expr *expr, struct kv_buf *out)
{
    kv_status rc;
    switch (expr->kind) {
    case TS_EXPR_NUMBER:
        return print_seconds(expr->number.value, expr->number.is_duration, out);
    case TS_EXPR_STRING:
        return ts_print_quoted(expr->string, out);
    case TS_EXPR_VECTOR:
        return print_vector(&expr->vector, out);
    case TS_EXPR_MATRIX:
        return print_matrix(&expr->matrix, out);
    case TS_EXPR_SUBQUERY:
        return print_subquery(&expr->subquery, out);
    case TS_EXPR_CALL:
        return print_call(&expr->call, out);
    case TS_EXPR_AGGREGATE:
        return print_aggregate(&expr->aggregate, out);
    case TS_EXPR_BINARY:
        return print_binary(&expr->binary, out);
    case TS_EXPR_UNARY:
        rc = put(out, ts_op_text(expr->unary.op));
        return rc < 0 ? rc : ts_print(expr->unary.expr, out);
    case TS_EXPR_PAREN:
        return print_paren(expr->paren, out);
    }
    return KV_INVALID;
}

kv_status ts_format(kv_slice expr, struct kv_buf *out, struct ts_query_err *err)
{
    struct kv_arena arena = {0};
    struct ts_tree tree = {0};
    kv_status rc;
    KV_TRY(ts_parse(expr, 0, &arena, &tree, err));
    rc = ts_print(tree.root, out);
    if (rc < 0)
        ts_query_fail(err, TS_QUERY_INTERNAL, rc, "cannot print the expression: %s", kv_status_text(rc));
out:
    ts_tree_release(&tree);
    kv_arena_release(&arena);
    return rc;
}
