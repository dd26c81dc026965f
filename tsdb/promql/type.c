/*
 * type.c - checks a parsed tree: types of operands and arguments, selectors that would match everything, and
 * matching that makes no sense. In the order in which Prometheus checks, for the first report is the one
 * people see. Recursion is bounded by TS_EXPR_HEIGHT_MAX.
 */
#include "tsdb/promql/parse_int.h"

#include "tsdb/promql/quote.h"

#include <stdio.h>

static bool expect_type(struct ts_parser *p, struct ts_expr *expr, enum ts_value_type wanted,
                        const char *where)
{
    if (!ts_type_check(p, expr))
        return false;
    return expr->type == wanted || ts_parse_fail(p, expr->start, "expected type %s in %s, got %s",
                                                 ts_type_name(wanted), where, ts_type_name(expr->type));
}

static bool check_aggregate(struct ts_parser *p, struct ts_aggregate *aggregate)
{
    if (!expect_type(p, aggregate->expr, TS_TYPE_VECTOR, "aggregation expression"))
        return false;
    if (!aggregate->param)
        return true;
    enum ts_value_type wanted = aggregate->op == TS_AGG_COUNT_VALUES ? TS_TYPE_STRING : TS_TYPE_SCALAR;
    return expect_type(p, aggregate->param, wanted, "aggregation parameter");
}

/* ---- binary */

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Where the operator stands. */
static uint32_t operator_start(const struct ts_parser *p, const struct ts_binary *binary)
{
    uint32_t at = binary->left->end;
    while (at < p->lexer.text.len && is_space(p->lexer.text.data[at]))
        at++;
    return at;
}

static bool check_include(struct ts_parser *p, const struct ts_binary *binary)
{
    const struct ts_matching *matching = &binary->matching;
    char quoted[900];
    for (size_t i = 0; matching->on && i < matching->n_labels; i++)
        for (size_t j = 0; j < matching->n_include; j++)
            if (kv_slice_equal(matching->labels[i], matching->include[j]))
                return ts_parse_fail(p, operator_start(p, binary),
                                     "label %s must not occur in ON and GROUP clause at once",
                                     ts_quote(matching->labels[i], SIZE_MAX, quoted, sizeof quoted));
    return true;
}

static bool check_operand(struct ts_parser *p, const struct ts_expr *operand)
{
    return operand->type == TS_TYPE_SCALAR || operand->type == TS_TYPE_VECTOR ||
           ts_parse_fail(p, operand->start,
                         "binary expression must contain only scalar and instant vector types");
}

/* Matching of two vectors by a set operator, and its absence elsewhere. */
static bool check_matching(struct ts_parser *p, uint32_t at, struct ts_binary *binary)
{
    struct ts_matching *matching = &binary->matching;
    bool fills = matching->fills_left || matching->fills_right;
    binary->matched = binary->left->type == TS_TYPE_VECTOR && binary->right->type == TS_TYPE_VECTOR;
    if (!binary->matched) {
        if (matching->n_labels > 0)
            return ts_parse_fail(p, at, "vector matching only allowed between instant vectors");
        if (fills)
            return ts_parse_fail(p, at, "filling in missing series only allowed between instant vectors");
        if (ts_op_is_set(binary->op))
            return ts_parse_fail(p, at, "set operator \"%s\" not allowed in binary scalar expression",
                                 ts_op_text(binary->op));
        *matching = (struct ts_matching){0};
        return true;
    }
    if (!ts_op_is_set(binary->op))
        return true;
    if (matching->card == TS_CARD_MANY_TO_ONE || matching->card == TS_CARD_ONE_TO_MANY)
        return ts_parse_fail(p, at, "no grouping allowed for \"%s\" operation", ts_op_text(binary->op));
    if (fills)
        return ts_parse_fail(p, at, "filling in missing series not allowed for set operators");
    return true;
}

static bool check_binary(struct ts_parser *p, struct ts_expr *expr)
{
    struct ts_binary *binary = &expr->binary;
    if (!ts_type_check(p, binary->left) || !ts_type_check(p, binary->right))
        return false;
    if (binary->returns_bool && !ts_op_is_comparison(binary->op))
        return ts_parse_fail(p, operator_start(p, binary),
                             "bool modifier can only be used on comparison operators");
    if (ts_op_is_comparison(binary->op) && !binary->returns_bool && binary->left->type == TS_TYPE_SCALAR &&
        binary->right->type == TS_TYPE_SCALAR)
        return ts_parse_fail(p, operator_start(p, binary),
                             "comparisons between scalars must use BOOL modifier");
    if (ts_op_is_set(binary->op) && binary->matching.card == TS_CARD_ONE_TO_ONE)
        binary->matching.card = TS_CARD_MANY_TO_MANY;
    return check_include(p, binary) && check_operand(p, binary->left) && check_operand(p, binary->right) &&
           check_matching(p, expr->start, binary);
}

/* ---- calls */

static bool check_arg_count(struct ts_parser *p, const struct ts_expr *expr)
{
    const struct ts_func *func = expr->call.func;
    size_t n = expr->call.n_args, wanted = strlen(func->args);
    if (func->variadic == 0)
        return n == wanted ||
               ts_parse_fail(p, expr->start, "expected %zu argument(s) in call to \"%s\", got %zu", wanted,
                             func->name, n);
    if (n < wanted - 1)
        return ts_parse_fail(p, expr->start, "expected at least %zu argument(s) in call to \"%s\", got %zu",
                             wanted - 1, func->name, n);
    size_t most = wanted - 1 + (func->variadic > 0 ? (size_t)func->variadic : SIZE_MAX / 2);
    return n <= most ||
           ts_parse_fail(p, expr->start, "expected at most %zu argument(s) in call to \"%s\", got %zu", most,
                         func->name, n);
}

/* info()'s second argument only lists labels. */
static bool check_info_arg(struct ts_parser *p, const struct ts_expr *call, struct ts_expr *arg)
{
    if (arg->type != TS_TYPE_VECTOR)
        return ts_parse_fail(p, call->start,
                             "expected type instant vector in call to function \"info\", got %s",
                             ts_type_name(arg->type));
    if (arg->kind != TS_EXPR_VECTOR)
        return ts_parse_fail(p, arg->start, "expected label selectors only");
    if (arg->vector.name.len > 0)
        return ts_parse_fail(p, arg->start, "expected label selectors only, got vector selector instead");
    arg->vector.may_match_all = true;
    return true;
}

static bool check_call(struct ts_parser *p, struct ts_expr *expr)
{
    const struct ts_func *func = expr->call.func;
    size_t n_types = strlen(func->args);
    char where[128];
    if (!check_arg_count(p, expr))
        return false;
    if (func->id == TS_FUNC_INFO && expr->call.n_args > 1 && !check_info_arg(p, expr, expr->call.args[1]))
        return false;
    snprintf(where, sizeof where, "call to function \"%s\"", func->name);
    for (size_t i = 0; i < expr->call.n_args; i++) {
        char letter = func->args[i < n_types ? i : n_types - 1];
        if (!expect_type(p, expr->call.args[i], ts_func_arg_type(letter), where))
            return false;
    }
    return true;
}

/* ---- selectors and the rest */

static bool check_vector(struct ts_parser *p, const struct ts_expr *expr)
{
    const struct ts_vector_selector *vector = &expr->vector;
    char name[900], other[900];
    if (vector->name.len > 0) {
        for (size_t i = 0; i + 1 < vector->n_matchers; i++)
            if (kv_slice_equal(vector->matchers[i].name, TS_METRIC_NAME))
                return ts_parse_fail(p, expr->start, "metric name must not be set twice: %s or %s",
                                     ts_quote(vector->name, SIZE_MAX, name, sizeof name),
                                     ts_quote(vector->matchers[i].value, SIZE_MAX, other, sizeof other));
        return true;
    }
    for (size_t i = 0; i < vector->n_matchers; i++)
        if (!ts_matcher_matches(&vector->matchers[i], (kv_slice){0}))
            return true;
    return vector->may_match_all ||
           ts_parse_fail(p, expr->start, "vector selector must contain at least one non-empty matcher");
}

static bool check_unary(struct ts_parser *p, const struct ts_expr *expr)
{
    struct ts_expr *operand = expr->unary.expr;
    if (!ts_type_check(p, operand))
        return false;
    return operand->type == TS_TYPE_SCALAR || operand->type == TS_TYPE_VECTOR ||
           ts_parse_fail(
               p, expr->start,
               "unary expression only allowed on expressions of type scalar or instant vector, got \"%s\"",
               ts_type_name(operand->type));
}

static bool check_subquery(struct ts_parser *p, const struct ts_expr *expr)
{
    static const char *const names[] = {"none", "scalar", "string", "vector", "matrix"};
    struct ts_expr *inner = expr->subquery.expr;
    if (!ts_type_check(p, inner))
        return false;
    return inner->type == TS_TYPE_VECTOR ||
           ts_parse_fail(p, expr->start, "subquery is only allowed on instant vector, got %s instead",
                         names[inner->type]);
}

bool ts_type_check(struct ts_parser *p, struct ts_expr *expr)
{
    switch (expr->kind) {
    case TS_EXPR_NUMBER:
    case TS_EXPR_STRING:
        return true;
    case TS_EXPR_VECTOR:
        return check_vector(p, expr);
    case TS_EXPR_MATRIX:
        return ts_type_check(p, expr->matrix.vector);
    case TS_EXPR_SUBQUERY:
        return check_subquery(p, expr);
    case TS_EXPR_CALL:
        return check_call(p, expr);
    case TS_EXPR_AGGREGATE:
        return check_aggregate(p, &expr->aggregate);
    case TS_EXPR_BINARY:
        return check_binary(p, expr);
    case TS_EXPR_UNARY:
        return check_unary(p, expr);
    case TS_EXPR_PAREN:
        return ts_type_check(p, expr->paren);
    }
    return false;
}
