/* ast.c - names of operators and types, and walking the tree. */
#include "tsdb/promql/ast.h"

#include "tsdb/promql/func_table.h"

const char *ts_type_name(enum ts_value_type type)
{
    switch (type) {
    case TS_TYPE_SCALAR:
        return "scalar";
    case TS_TYPE_STRING:
        return "string";
    case TS_TYPE_VECTOR:
        return "instant vector";
    case TS_TYPE_MATRIX:
        return "range vector";
    case TS_TYPE_NONE:
        break;
    }
    return "none";
}

const char *ts_op_text(enum ts_op op)
{
    static const char *const texts[] = {
#define X(name, text) text,
        TS_OP_LIST(X)
#undef X
    };
    return texts[op];
}

const char *ts_agg_text(enum ts_agg agg)
{
    static const char *const texts[] = {
#define X(name, text) text,
        TS_AGG_LIST(X)
#undef X
    };
    return texts[agg];
}

struct ts_expr *ts_expr_unparen(struct ts_expr *expr)
{
    while (expr->kind == TS_EXPR_PAREN)
        expr = expr->paren;
    return expr;
}

struct ts_expr *ts_expr_child(const struct ts_expr *expr, size_t i)
{
    switch (expr->kind) {
    case TS_EXPR_NUMBER:
    case TS_EXPR_STRING:
    case TS_EXPR_VECTOR:
        return NULL;
    case TS_EXPR_MATRIX:
        return i == 0 ? expr->matrix.vector : NULL;
    case TS_EXPR_SUBQUERY:
        return i == 0 ? expr->subquery.expr : NULL;
    case TS_EXPR_CALL:
        return i < expr->call.n_args ? expr->call.args[i] : NULL;
    case TS_EXPR_AGGREGATE:
        if (!expr->aggregate.param)
            return i == 0 ? expr->aggregate.expr : NULL;
        return i == 0 ? expr->aggregate.param : i == 1 ? expr->aggregate.expr : NULL;
    case TS_EXPR_BINARY:
        return i == 0 ? expr->binary.left : i == 1 ? expr->binary.right : NULL;
    case TS_EXPR_UNARY:
        return i == 0 ? expr->unary.expr : NULL;
    case TS_EXPR_PAREN:
        return i == 0 ? expr->paren : NULL;
    }
    return NULL;
}
