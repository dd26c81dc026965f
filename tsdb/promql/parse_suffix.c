/* parse_suffix.c - what stands behind a selector or subquery: [5m], [1h:5m], offset, @, anchored, smoothed.
 */
#include "tsdb/promql/parse_int.h"

#include <math.h>

#define DURATIONS "number, duration, step(), or range()"
static const struct ts_parse_context in_range = {"subquery or range selector", DURATIONS};
static const struct ts_parse_context in_range_end = {"subquery or range", "\":\" or \"]\""};
static const struct ts_parse_context in_step = {"subquery selector",
                                                "number, duration, step(), range(), or \"]\""};
static const struct ts_parse_context in_step_end = {"subquery selector", "\"]\""};
static const struct ts_parse_context in_at = {"@", "timestamp"};

/* Times far outside anything stored stay exact in doubles when printed and read again. */
static const double at_ms_max = (double)((int64_t)1 << 52);

/* ---- ranges */

static struct ts_expr *matrix_node(struct ts_parser *p, struct ts_expr *expr, uint32_t bracket,
                                   struct ts_duration range)
{
    const char *wrong = NULL;
    if (expr->kind != TS_EXPR_VECTOR)
        wrong = "ranges only allowed for vector selectors";
    else if (expr->vector.shift.offset.ms != 0 || expr->vector.shift.offset.expression)
        wrong = "no offset modifiers allowed before range";
    else if (expr->vector.shift.at != TS_AT_NONE)
        wrong = "no @ modifiers allowed before range";
    if (wrong) {
        ts_parse_fail(p, bracket, "%s", wrong);
        return NULL;
    }
    struct ts_expr *node = ts_parse_node(p, TS_EXPR_MATRIX, TS_TYPE_MATRIX, expr->start, p->end);
    if (!node || !ts_parse_adopt(p, node, expr))
        return NULL;
    node->matrix = (struct ts_matrix_selector){.vector = expr, .range = range};
    return node;
}

/* Behind the range's colon. */
static struct ts_expr *parse_subquery(struct ts_parser *p, struct ts_expr *expr, struct ts_duration range)
{
    struct ts_duration step = {0};
    p->context = in_step;
    if (ts_parse_peek(p) != TS_TOK_RIGHT_BRACKET) {
        if (!ts_parse_range(p, &step))
            return NULL;
        if (ts_parse_peek(p) != TS_TOK_RIGHT_BRACKET) {
            ts_parse_unexpected(p, in_step_end);
            return NULL;
        }
    }
    ts_parse_take(p);
    struct ts_expr *node = ts_parse_node(p, TS_EXPR_SUBQUERY, TS_TYPE_MATRIX, expr->start, p->end);
    if (!node || !ts_parse_adopt(p, node, expr))
        return NULL;
    node->subquery = (struct ts_subquery){.expr = expr, .range = range, .step = step};
    return node;
}

static struct ts_expr *parse_bracket(struct ts_parser *p, struct ts_expr *expr)
{
    struct ts_token bracket = ts_parse_take(p);
    struct ts_duration range;
    p->context = in_range;
    if (!ts_parse_range(p, &range))
        return NULL;
    switch (ts_parse_peek(p)) {
    case TS_TOK_COLON:
        ts_parse_take(p);
        return parse_subquery(p, expr, range);
    case TS_TOK_RIGHT_BRACKET:
        ts_parse_take(p);
        return matrix_node(p, expr, bracket.start, range);
    default:
        ts_parse_unexpected(p, in_range_end);
        return NULL;
    }
}

/* ---- offset and @ */

/* Where a modifier behind expr is kept, or NULL when it may not stand there. */
static struct ts_time_shift *shift_of(struct ts_expr *expr)
{
    if (expr->kind == TS_EXPR_VECTOR)
        return &expr->vector.shift;
    if (expr->kind == TS_EXPR_MATRIX)
        return &expr->matrix.vector->vector.shift;
    return expr->kind == TS_EXPR_SUBQUERY ? &expr->subquery.shift : NULL;
}

static bool parse_offset(struct ts_parser *p, struct ts_expr *expr)
{
    struct ts_duration offset;
    ts_parse_take(p);
    if (!ts_parse_offset(p, &offset))
        return false;
    struct ts_time_shift *shift = shift_of(expr);
    if (!shift)
        return ts_parse_fail(
            p, expr->start,
            "offset modifier must be preceded by an instant vector selector or range vector selector "
            "or a subquery");
    if (shift->offset.ms != 0 || shift->offset.expression)
        return ts_parse_fail(p, expr->start, "offset may not be set multiple times");
    shift->offset = offset;
    expr->end = p->end;
    return true;
}

/* start() or end() behind @. */
static bool parse_at_word(struct ts_parser *p, struct ts_time_shift *at)
{
    at->at = ts_parse_take(p).type == TS_TOK_START ? TS_AT_START : TS_AT_END;
    if (ts_parse_peek(p) != TS_TOK_LEFT_PAREN)
        return ts_parse_unexpected(p, in_at);
    ts_parse_take(p);
    if (ts_parse_peek(p) != TS_TOK_RIGHT_PAREN)
        return ts_parse_unexpected(p, in_at);
    ts_parse_take(p);
    return true;
}

static bool parse_at_time(struct ts_parser *p, uint32_t expr_start, struct ts_time_shift *at)
{
    bool negative = false;
    double seconds;
    if (ts_parse_peek(p) == TS_TOK_ADD || p->token.type == TS_TOK_SUB)
        negative = ts_parse_take(p).type == TS_TOK_SUB;
    if (ts_parse_peek(p) != TS_TOK_NUMBER && p->token.type != TS_TOK_DURATION)
        return ts_parse_unexpected(p, in_at);
    if (!ts_parse_number(p, ts_parse_take(p), &seconds))
        return false;
    if (negative)
        seconds = -seconds;
    if (isnan(seconds))
        return ts_parse_fail(p, expr_start, "timestamp out of bounds for @ modifier: NaN");
    if (isinf(seconds))
        return ts_parse_fail(p, expr_start, "timestamp out of bounds for @ modifier: %cInf",
                             negative ? '-' : '+');
    if (fabs(seconds) >= 0x1p63)
        return ts_parse_fail(p, expr_start, "timestamp out of bounds for @ modifier: %f", seconds);
    at->at = TS_AT_TIME;
    at->at_ms = (int64_t)fmax(-at_ms_max, fmin(at_ms_max, round(seconds * 1000)));
    return true;
}

static bool parse_at(struct ts_parser *p, struct ts_expr *expr)
{
    struct ts_time_shift at = {0};
    ts_parse_take(p);
    enum ts_tok type = ts_parse_peek(p);
    bool word = type == TS_TOK_START || type == TS_TOK_END;
    if (word ? !parse_at_word(p, &at) : !parse_at_time(p, expr->start, &at))
        return false;
    struct ts_time_shift *shift = shift_of(expr);
    if (!shift)
        return ts_parse_fail(
            p, expr->start,
            "@ modifier must be preceded by an instant vector selector or range vector selector or a "
            "subquery");
    if (shift->at != TS_AT_NONE)
        return ts_parse_fail(p, expr->start, "@ <timestamp> may not be set multiple times");
    shift->at = at.at;
    shift->at_ms = at.at_ms;
    expr->end = p->end;
    return true;
}

/* ---- anchored and smoothed */

static bool parse_mode(struct ts_parser *p, struct ts_expr *expr)
{
    struct ts_token word = ts_parse_take(p);
    enum ts_range_mode mode = word.type == TS_TOK_ANCHORED ? TS_RANGE_ANCHORED : TS_RANGE_SMOOTHED;
    const char *name = ts_tok_text(word.type);
    if (p->syntax & TS_SYNTAX_NO_EXTENDED_RANGES)
        return ts_parse_fail(p, expr->start, "%s modifier is experimental and not enabled", name);
    if (expr->kind == TS_EXPR_SUBQUERY)
        return ts_parse_fail(p, expr->start, "%s modifier is not supported for subqueries", name);
    if (expr->kind != TS_EXPR_VECTOR && expr->kind != TS_EXPR_MATRIX)
        return ts_parse_fail(p, expr->start, "%s modifier not implemented", name);
    struct ts_vector_selector *vector =
        expr->kind == TS_EXPR_VECTOR ? &expr->vector : &expr->matrix.vector->vector;
    if (vector->mode != TS_RANGE_PLAIN && vector->mode != mode)
        return ts_parse_fail(p, expr->start, "anchored and smoothed modifiers cannot be used together");
    vector->mode = mode;
    return true;
}

struct ts_expr *ts_parse_suffixes(struct ts_parser *p, struct ts_expr *expr)
{
    struct ts_parse_context outer = p->context;
    while (expr) {
        switch (ts_parse_peek(p)) {
        case TS_TOK_LEFT_BRACKET:
            expr = parse_bracket(p, expr);
            p->context = outer;
            break;
        case TS_TOK_OFFSET:
            expr = parse_offset(p, expr) ? expr : NULL;
            break;
        case TS_TOK_AT:
            expr = parse_at(p, expr) ? expr : NULL;
            break;
        case TS_TOK_ANCHORED:
        case TS_TOK_SMOOTHED:
            expr = parse_mode(p, expr) ? expr : NULL;
            break;
        default:
            return p->rc >= 0 ? expr : NULL;
        }
    }
    return NULL;
}
