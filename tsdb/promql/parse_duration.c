/* parse_duration.c - lengths of time behind [, : and offset: literals, and expressions of them; and their
 * values once a query's times are known. */
#include "tsdb/promql/parse_int.h"

#include "kvcore/base/assert.h"

#include <math.h>

static const struct ts_parse_context in_offset = {"offset", "number, duration, step(), or range()"};
static const double seconds_max = 0x1p63 / 1e9; /* what nanoseconds in 63 bits can hold */

/* ---- nodes */

static struct ts_duration_expr *duration_node(struct ts_parser *p, enum ts_duration_op op, uint32_t start)
{
    struct ts_duration_expr *node = ts_parse_alloc(p, sizeof *node);
    if (node)
        *node = (struct ts_duration_expr){.op = op, .start = start, .end = p->end, .height = 1};
    return node;
}

/* Sets the operands; NULL when one is missing or the tree grows too high. */
static struct ts_duration_expr *duration_join(struct ts_parser *p, struct ts_duration_expr *node,
                                              struct ts_duration_expr *left, struct ts_duration_expr *right)
{
    if (!node || !right)
        return NULL;
    uint32_t below = left && left->height > right->height ? left->height : right->height;
    if (below >= TS_EXPR_HEIGHT_MAX) {
        ts_parse_fail(p, right->start, "the expression is a tree of more than %d levels", TS_EXPR_HEIGHT_MAX);
        return NULL;
    }
    node->left = left;
    node->right = right;
    node->height = below + 1;
    node->end = right->end;
    if (left)
        node->start = left->start;
    return node;
}

/* Anything but a literal is experimental. */
static bool allowed(struct ts_parser *p, uint32_t at)
{
    if (p->syntax & TS_SYNTAX_NO_DURATION_EXPRESSIONS)
        return ts_parse_fail(p, at, "experimental duration expression is not enabled");
    return true;
}

static struct ts_duration_expr *duration_literal(struct ts_parser *p)
{
    struct ts_token token = ts_parse_take(p);
    struct ts_duration_expr *node = duration_node(p, TS_DUR_NUMBER, token.start);
    if (!node || !ts_parse_number(p, token, &node->seconds))
        return NULL;
    node->is_duration = token.type == TS_TOK_DURATION;
    return node;
}

static bool in_bounds(double seconds)
{
    return seconds <= seconds_max && seconds >= -seconds_max; /* NaN is not */
}

static struct ts_duration_expr *check_bounds(struct ts_parser *p, struct ts_duration_expr *literal,
                                             uint32_t at)
{
    /* NaN passes here, as it does in Prometheus, and is refused where it is used */
    if (!isnan(literal->seconds) && !in_bounds(literal->seconds)) {
        ts_parse_fail(p, at, "duration out of range");
        return NULL;
    }
    return literal;
}

static struct ts_duration_expr *wrap(struct ts_parser *p, struct ts_duration_expr *inner, uint32_t start,
                                     uint32_t end)
{
    if (inner->op == TS_DUR_NUMBER) {
        inner = duration_join(p, duration_node(p, TS_DUR_PLUS, start), NULL, inner);
        if (!inner)
            return NULL;
        inner->end = end;
    }
    inner->wrapped = true;
    return inner;
}

/* ---- grammar */

/* step(), range(): the word is the look-ahead. */
static struct ts_duration_expr *duration_word(struct ts_parser *p)
{
    struct ts_token word = ts_parse_take(p);
    if (!ts_parse_expect(p, TS_TOK_LEFT_PAREN) || !ts_parse_expect(p, TS_TOK_RIGHT_PAREN) ||
        !allowed(p, word.start))
        return NULL;
    return duration_node(p, word.type == TS_TOK_STEP ? TS_DUR_STEP : TS_DUR_RANGE, word.start);
}

static struct ts_duration_expr *duration_expr(struct ts_parser *p, int level);

/* min_of(a, b), max_of(a, b) */
static struct ts_duration_expr *duration_call(struct ts_parser *p)
{
    struct ts_token word = ts_parse_take(p);
    struct ts_duration_expr *left, *right;
    if (!ts_parse_expect(p, TS_TOK_LEFT_PAREN) || !(left = duration_expr(p, TS_LEVEL_ADD)) ||
        !ts_parse_expect(p, TS_TOK_COMMA) || !(right = duration_expr(p, TS_LEVEL_ADD)) ||
        !ts_parse_expect(p, TS_TOK_RIGHT_PAREN) || !allowed(p, word.start))
        return NULL;
    enum ts_duration_op op = word.type == TS_TOK_MIN_OF ? TS_DUR_MIN_OF : TS_DUR_MAX_OF;
    struct ts_duration_expr *node = duration_join(p, duration_node(p, op, word.start), left, right);
    if (node) {
        node->start = word.start;
        node->end = p->end;
    }
    return node;
}

static struct ts_duration_expr *duration_paren(struct ts_parser *p)
{
    struct ts_token open = ts_parse_take(p);
    struct ts_duration_expr *inner = duration_expr(p, TS_LEVEL_ADD);
    if (!inner || !ts_parse_expect(p, TS_TOK_RIGHT_PAREN) || !allowed(p, inner->start))
        return NULL;
    return wrap(p, inner, open.start, p->end);
}

/* A sign before anything: literals take it in, + before others says nothing. */
static struct ts_duration_expr *duration_signed(struct ts_parser *p, struct ts_token sign,
                                                struct ts_duration_expr *operand)
{
    if (!operand)
        return NULL;
    if (operand->op == TS_DUR_NUMBER) {
        if (sign.type == TS_TOK_SUB)
            operand->seconds = -operand->seconds;
        operand->start = sign.start;
        return check_bounds(p, operand, sign.start);
    }
    if (sign.type == TS_TOK_ADD)
        return operand;
    return duration_join(p, duration_node(p, TS_DUR_MINUS, sign.start), NULL, operand);
}

static struct ts_duration_expr *duration_operand(struct ts_parser *p)
{
    struct ts_duration_expr *literal;
    switch (ts_parse_peek(p)) {
    case TS_TOK_NUMBER:
    case TS_TOK_DURATION:
        literal = duration_literal(p);
        return literal ? check_bounds(p, literal, literal->start) : NULL;
    case TS_TOK_ADD:
    case TS_TOK_SUB: {
        struct ts_token sign = ts_parse_take(p);
        return duration_signed(p, sign, duration_expr(p, TS_LEVEL_POW));
    }
    case TS_TOK_STEP:
    case TS_TOK_RANGE:
        return duration_word(p);
    case TS_TOK_MIN_OF:
    case TS_TOK_MAX_OF:
        return duration_call(p);
    case TS_TOK_LEFT_PAREN:
        return duration_paren(p);
    default:
        ts_parse_unexpected(p, p->context);
        return NULL;
    }
}

static bool duration_op(enum ts_tok type, enum ts_duration_op *op)
{
    switch (type) {
    case TS_TOK_ADD:
        *op = TS_DUR_ADD;
        return true;
    case TS_TOK_SUB:
        *op = TS_DUR_SUB;
        return true;
    case TS_TOK_MUL:
        *op = TS_DUR_MUL;
        return true;
    case TS_TOK_DIV:
        *op = TS_DUR_DIV;
        return true;
    case TS_TOK_MOD:
        *op = TS_DUR_MOD;
        return true;
    case TS_TOK_POW:
        *op = TS_DUR_POW;
        return true;
    default:
        return false;
    }
}

/* The operators behind left that bind at least as tightly as level. */
static struct ts_duration_expr *duration_operators(struct ts_parser *p, struct ts_duration_expr *left,
                                                   int level)
{
    enum ts_duration_op op;
    while (left && duration_op(ts_parse_peek(p), &op)) {
        int next = ts_parse_level(p->token.type);
        if (next < level)
            break;
        struct ts_token token = ts_parse_take(p);
        struct ts_duration_expr *right = duration_expr(p, next == TS_LEVEL_POW ? next : next + 1);
        if (!right || !allowed(p, left->start))
            return NULL;
        bool zero = right->op == TS_DUR_NUMBER && right->seconds == 0;
        if (zero && (op == TS_DUR_DIV || op == TS_DUR_MOD)) {
            ts_parse_fail(p, token.start, op == TS_DUR_DIV ? "division by zero" : "modulo by zero");
            return NULL;
        }
        left = duration_join(p, duration_node(p, op, left->start), left, right);
    }
    return p->rc >= 0 ? left : NULL;
}

static struct ts_duration_expr *duration_expr(struct ts_parser *p, int level)
{
    if (!ts_parse_enter(p))
        return NULL;
    struct ts_duration_expr *expr = duration_operators(p, duration_operand(p), level);
    ts_parse_leave(p);
    return expr;
}

/* ---- uses */

static int64_t literal_ms(double seconds)
{
    double ns = round(seconds * 1e9);
    if (!(fabs(ns) < 0x1p63)) /* the very edge of what is in bounds, and NaN */
        return ns > 0 ? INT64_MAX / 1000000 : 0;
    return (int64_t)ns / 1000000;
}

static void duration_set(struct ts_duration *out, struct ts_duration_expr *expr)
{
    bool literal = expr->op == TS_DUR_NUMBER;
    *out = (struct ts_duration){.ms = literal ? literal_ms(expr->seconds) : 0,
                                .expression = literal ? NULL : expr};
}

bool ts_parse_range(struct ts_parser *p, struct ts_duration *out)
{
    struct ts_duration_expr *expr = duration_expr(p, TS_LEVEL_ADD);
    if (!expr)
        return false;
    if (expr->op == TS_DUR_NUMBER && !(expr->seconds > 0))
        return ts_parse_fail(p, expr->start, "duration must be greater than 0");
    duration_set(out, expr);
    return true;
}

/* An offset takes one literal, word or call, signed or not; operators behind it belong to the query: a offset
 * 5m ^ 2 is (a offset 5m) ^ 2. Behind a parenthesis or a second sign they belong to the duration. */
static struct ts_duration_expr *offset_expr(struct ts_parser *p)
{
    struct ts_token sign = {0};
    enum ts_tok type = ts_parse_peek(p);
    if (type == TS_TOK_ADD || type == TS_TOK_SUB) {
        sign = ts_parse_take(p);
        type = ts_parse_peek(p);
    }
    bool greedy = type == TS_TOK_ADD || type == TS_TOK_SUB || (!sign.text.len && type == TS_TOK_LEFT_PAREN);
    struct ts_duration_expr *expr = duration_operand(p);
    if (sign.text.len > 0)
        expr = duration_signed(p, sign, expr);
    if (expr)
        expr->plus = sign.type == TS_TOK_ADD && expr->wrapped && !greedy;
    if (greedy)
        expr = duration_operators(p, expr, TS_LEVEL_ADD);
    return expr;
}

/* Only what begins with a parenthesis reads the same again without one around all of it. */
static bool offset_needs_parens(const struct ts_duration_expr *expr)
{
    if (expr->wrapped || expr->op < TS_DUR_ADD)
        return false;
    while (!expr->wrapped && expr->op >= TS_DUR_ADD)
        expr = expr->left;
    return !expr->wrapped;
}

bool ts_parse_offset(struct ts_parser *p, struct ts_duration *out)
{
    struct ts_parse_context outer = p->context;
    p->context = in_offset;
    struct ts_duration_expr *expr = offset_expr(p);
    p->context = outer;
    if (!expr)
        return false;
    if (offset_needs_parens(expr))
        expr->wrapped = true;
    duration_set(out, expr);
    return true;
}

/* ---- values */

struct resolver {
    double step, range; /* seconds */
    struct ts_query_err *err;
};

static bool resolve_fail(const struct resolver *r, const struct ts_duration_expr *expr, const char *what)
{
    ts_query_fail(r->err, TS_QUERY_BAD_DATA, KV_INVALID, "%u:%u: %s", expr->start, expr->end, what);
    return false;
}

/* Recursion is as deep as the expression is high: bounded by the parser. */
static bool resolve_seconds(const struct resolver *r, const struct ts_duration_expr *expr, double *out)
{
    double left = 0, right = 0;
    if ((expr->left && !resolve_seconds(r, expr->left, &left)) ||
        (expr->right && !resolve_seconds(r, expr->right, &right)))
        return false;
    switch (expr->op) {
    case TS_DUR_NUMBER:
        *out = expr->seconds;
        return true;
    case TS_DUR_STEP:
        *out = r->step;
        return true;
    case TS_DUR_RANGE:
        *out = r->range;
        return true;
    case TS_DUR_MIN_OF:
        *out = fmin(left, right);
        return true;
    case TS_DUR_MAX_OF:
        *out = fmax(left, right);
        return true;
    case TS_DUR_PLUS:
        *out = right;
        return true;
    case TS_DUR_MINUS:
        *out = -right;
        return true;
    case TS_DUR_ADD:
        *out = left + right;
        return true;
    case TS_DUR_SUB:
        *out = left - right;
        return true;
    case TS_DUR_MUL:
        *out = left * right;
        return true;
    case TS_DUR_DIV:
        *out = left / right;
        return right != 0 || resolve_fail(r, expr, "division by zero");
    case TS_DUR_MOD:
        *out = fmod(left, right);
        return right != 0 || resolve_fail(r, expr, "modulo by zero");
    case TS_DUR_POW:
        *out = pow(left, right);
        return true;
    }
    return false;
}

static bool resolve_duration(const struct resolver *r, struct ts_duration *duration, bool may_be_negative)
{
    double seconds;
    if (!duration->expression)
        return true;
    if (!resolve_seconds(r, duration->expression, &seconds))
        return false;
    if (isnan(seconds) || isinf(seconds))
        return resolve_fail(r, duration->expression, "duration is NaN or infinite");
    if (seconds <= 0 && !may_be_negative)
        return resolve_fail(r, duration->expression, "duration must be greater than 0");
    if (!in_bounds(seconds))
        return resolve_fail(r, duration->expression, "duration is out of range");
    duration->ms = (int64_t)(seconds * 1000);
    return true;
}

static bool resolve_expr(const struct resolver *r, struct ts_expr *expr)
{
    bool ok = true;
    if (expr->kind == TS_EXPR_VECTOR)
        ok = resolve_duration(r, &expr->vector.shift.offset, true);
    else if (expr->kind == TS_EXPR_MATRIX)
        ok = resolve_duration(r, &expr->matrix.range, false);
    else if (expr->kind == TS_EXPR_SUBQUERY)
        ok = resolve_duration(r, &expr->subquery.shift.offset, true) &&
             resolve_duration(r, &expr->subquery.step, false) &&
             resolve_duration(r, &expr->subquery.range, false);
    struct ts_expr *child;
    for (size_t i = 0; ok && (child = ts_expr_child(expr, i)); i++)
        ok = resolve_expr(r, child);
    return ok;
}

kv_status ts_durations_resolve(struct ts_tree *tree, int64_t start_ms, int64_t end_ms, int64_t step_ms,
                               struct ts_query_err *err)
{
    struct resolver r = {
        .step = (double)step_ms / 1000, .range = ((double)end_ms - (double)start_ms) / 1000, .err = err};
    KV_ASSERT(tree->root);
    return resolve_expr(&r, tree->root) ? KV_OK : KV_INVALID;
}
