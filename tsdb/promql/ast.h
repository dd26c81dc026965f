/*
 * ast.h - the tree of a PromQL expression: what the parser makes, the type checker completes and the
 * evaluator reads.
 *
 * Threads    immutable once ts_parse returned (ts_durations_resolve apart); any number of readers.
 * Ownership  every node, list and string lives in the arena given to ts_parse; the compiled regular
 *            expressions of matchers are freed by ts_tree_release, before the arena.
 * Bounds     a tree is at most TS_EXPR_HEIGHT_MAX nodes high, so that walking it by recursion is safe.
 */
#ifndef TS_PROMQL_AST_H
#define TS_PROMQL_AST_H

#include "kvcore/base/arena.h"
#include "tsdb/matcher.h"

enum {
    TS_QUERY_LEN_MAX = 16 * 1024, /* bytes of one expression */
    TS_TOKENS_MAX = 4096,         /* tokens of one expression */
    TS_NESTING_MAX = 128,         /* parentheses, calls, signs and powers inside one another */
    TS_EXPR_HEIGHT_MAX =
        512, /* nodes from the root to the deepest leaf (a + b + c + ... is as high as it is long) */
};

enum ts_value_type { TS_TYPE_NONE = 0, TS_TYPE_SCALAR, TS_TYPE_STRING, TS_TYPE_VECTOR, TS_TYPE_MATRIX };
/* As messages word it: "scalar", "string", "instant vector", "range vector". */
const char *ts_type_name(enum ts_value_type type);

/* Operators of binary and unary expressions. */
#define TS_OP_LIST(X)                                                                                        \
    X(TS_OP_ADD, "+")                                                                                        \
    X(TS_OP_SUB, "-")                                                                                        \
    X(TS_OP_MUL, "*")                                                                                        \
    X(TS_OP_DIV, "/")                                                                                        \
    X(TS_OP_MOD, "%")                                                                                        \
    X(TS_OP_POW, "^")                                                                                        \
    X(TS_OP_ATAN2, "atan2")                                                                                  \
    X(TS_OP_EQ, "==")                                                                                        \
    X(TS_OP_NE, "!=")                                                                                        \
    X(TS_OP_LT, "<")                                                                                         \
    X(TS_OP_LE, "<=")                                                                                        \
    X(TS_OP_GT, ">")                                                                                         \
    X(TS_OP_GE, ">=")                                                                                        \
    X(TS_OP_TRIM_UPPER, "</")                                                                                \
    X(TS_OP_TRIM_LOWER, ">/")                                                                                \
    X(TS_OP_AND, "and")                                                                                      \
    X(TS_OP_OR, "or")                                                                                        \
    X(TS_OP_UNLESS, "unless")
enum ts_op {
#define X(name, text) name,
    TS_OP_LIST(X)
#undef X
        TS_OPS
};
const char *ts_op_text(enum ts_op op);
static inline bool ts_op_is_comparison(enum ts_op op)
{
    return op >= TS_OP_EQ && op <= TS_OP_GE;
}
static inline bool ts_op_is_set(enum ts_op op)
{
    return op >= TS_OP_AND && op <= TS_OP_UNLESS;
}

#define TS_AGG_LIST(X)                                                                                       \
    X(TS_AGG_SUM, "sum")                                                                                     \
    X(TS_AGG_AVG, "avg")                                                                                     \
    X(TS_AGG_COUNT, "count")                                                                                 \
    X(TS_AGG_MIN, "min")                                                                                     \
    X(TS_AGG_MAX, "max")                                                                                     \
    X(TS_AGG_GROUP, "group")                                                                                 \
    X(TS_AGG_STDDEV, "stddev")                                                                               \
    X(TS_AGG_STDVAR, "stdvar")                                                                               \
    X(TS_AGG_TOPK, "topk")                                                                                   \
    X(TS_AGG_BOTTOMK, "bottomk")                                                                             \
    X(TS_AGG_COUNT_VALUES, "count_values")                                                                   \
    X(TS_AGG_QUANTILE, "quantile")                                                                           \
    X(TS_AGG_LIMITK, "limitk")                                                                               \
    X(TS_AGG_LIMIT_RATIO, "limit_ratio")
enum ts_agg {
#define X(name, text) name,
    TS_AGG_LIST(X)
#undef X
        TS_AGGS
};
const char *ts_agg_text(enum ts_agg agg);
static inline bool ts_agg_has_param(enum ts_agg agg)
{
    return agg >= TS_AGG_TOPK;
}

/* A length of time. Literals are known at once; expression stays NULL. Others (step() * 2) are known once the
 * query's times are: ts_durations_resolve computes ms before evaluation. */
struct ts_duration_expr;
struct ts_duration {
    int64_t ms; /* may be negative in an offset */
    struct ts_duration_expr *expression;
};
enum ts_duration_op {
    TS_DUR_NUMBER, /* seconds */
    TS_DUR_STEP,
    TS_DUR_RANGE,
    TS_DUR_MIN_OF,
    TS_DUR_MAX_OF,
    TS_DUR_PLUS, /* unary: right only */
    TS_DUR_MINUS,
    TS_DUR_ADD,
    TS_DUR_SUB,
    TS_DUR_MUL,
    TS_DUR_DIV,
    TS_DUR_MOD,
    TS_DUR_POW,
};
struct ts_duration_expr {
    enum ts_duration_op op;
    bool wrapped; /* printed in parentheses */
    bool plus; /* an offset written +(...): operators behind it are not its own, as they are behind (...) */
    bool is_duration; /* NUMBER: written 5m, not 300 */
    uint32_t start, end;
    uint32_t height;
    double seconds; /* NUMBER */
    struct ts_duration_expr *left, *right;
};

enum ts_at_kind { TS_AT_NONE = 0, TS_AT_TIME, TS_AT_START, TS_AT_END };
/* offset and @, directly behind a selector or subquery. With @ the offset is relative to the @ time. */
struct ts_time_shift {
    struct ts_duration offset; /* as written: positive looks back */
    enum ts_at_kind at;
    int64_t at_ms; /* TS_AT_TIME */
};

enum ts_expr_kind {
    TS_EXPR_NUMBER = 1,
    TS_EXPR_STRING,
    TS_EXPR_VECTOR,   /* a selector */
    TS_EXPR_MATRIX,   /* selector[5m] */
    TS_EXPR_SUBQUERY, /* expr[1h:5m] */
    TS_EXPR_CALL,
    TS_EXPR_AGGREGATE,
    TS_EXPR_BINARY,
    TS_EXPR_UNARY,
    TS_EXPR_PAREN,
};

enum ts_range_mode { TS_RANGE_PLAIN = 0, TS_RANGE_ANCHORED, TS_RANGE_SMOOTHED };
struct ts_vector_selector {
    kv_slice name;               /* of name{...}; empty when it was not written outside the braces */
    struct ts_matcher *matchers; /* name included, as the last one; borrowed strings live in the arena */
    size_t n_matchers;
    struct ts_time_shift shift; /* also of the matrix selector around it */
    enum ts_range_mode mode;
    bool may_match_all; /* info()'s second argument: no non-empty matcher needed */
};
struct ts_matrix_selector {
    struct ts_expr *vector; /* kind TS_EXPR_VECTOR: holds shift and mode */
    struct ts_duration range;
};
struct ts_subquery {
    struct ts_expr *expr;
    struct ts_duration range;
    struct ts_duration step; /* ms 0 and no expression: the default step */
    struct ts_time_shift shift;
};
struct ts_func;
struct ts_call {
    const struct ts_func *func;
    struct ts_expr **args;
    size_t n_args;
};
struct ts_aggregate {
    enum ts_agg op;
    struct ts_expr *expr;
    struct ts_expr *param; /* NULL unless ts_agg_has_param */
    kv_slice *grouping;    /* as written, repeats included, not sorted */
    size_t n_grouping;
    bool without;
};
enum ts_card { TS_CARD_ONE_TO_ONE = 0, TS_CARD_MANY_TO_ONE, TS_CARD_ONE_TO_MANY, TS_CARD_MANY_TO_MANY };
/* How two vectors are joined. Meaningful only when both sides are vectors (binary.matched). */
struct ts_matching {
    enum ts_card card; /* MANY_TO_ONE: group_left; MANY_TO_MANY: set operators */
    bool on;           /* labels are those that must agree; false: those that are ignored */
    kv_slice *labels;
    size_t n_labels;
    kv_slice *include; /* group_left(...) / group_right(...) */
    size_t n_include;
    bool fills_left, fills_right; /* fill(x), fill_left(x), fill_right(x) */
    double fill_left, fill_right;
};
struct ts_binary {
    enum ts_op op;
    struct ts_expr *left, *right;
    bool returns_bool;
    bool matched; /* both sides are vectors: matching counts */
    struct ts_matching matching;
};
struct ts_unary {
    enum ts_op op; /* ADD or SUB */
    struct ts_expr *expr;
};
struct ts_number {
    double value;
    bool is_duration; /* written 5m: printed so */
};

struct ts_expr {
    enum ts_expr_kind kind;
    enum ts_value_type type;
    uint32_t start, end; /* bytes of the query text; annotations name start as line:column (ts_position) */
    uint32_t height;     /* 1 for a leaf */
    uint32_t id;         /* 0 .. tree.n_exprs - 1, children before parents */
    union {
        struct ts_number number;
        kv_slice string; /* unquoted; any bytes */
        struct ts_vector_selector vector;
        struct ts_matrix_selector matrix;
        struct ts_subquery subquery;
        struct ts_call call;
        struct ts_aggregate aggregate;
        struct ts_binary binary;
        struct ts_unary unary;
        struct ts_expr *paren;
    };
};

/* The expression inside any parentheses. */
struct ts_expr *ts_expr_unparen(struct ts_expr *expr);
/* The i-th child in reading order (a matrix selector's vector, an aggregate's parameter before its operand),
 * or NULL past the last. */
struct ts_expr *ts_expr_child(const struct ts_expr *expr, size_t i);

#endif
