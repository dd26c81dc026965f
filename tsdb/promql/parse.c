/*
 * parse.c - the entry, errors and tokens, and operators by precedence climbing (Richards, "The Tree-walking
 * Compiler"; Clarke 1986).
 *
 * Order of reports: a bad token is reported when it is first looked at, a bad construct when its last token
 * is taken or, where its end can only be seen by looking ahead, after that look. That is the order of an
 * LALR(1) parser, hence of Prometheus.
 */
#include "tsdb/promql/parse_int.h"

#include "kvcore/base/mem.h"
#include "tsdb/promql/quote.h"
#include "tsdb/regex.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- failing */

kv_status ts_query_fail(struct ts_query_err *err, enum ts_query_errtype type, kv_status code,
                        const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        err->type = type;
        err->code = code;
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
    }
    return code;
}

void ts_position(kv_slice text, uint32_t at, uint32_t *line, uint32_t *column)
{
    uint32_t line_start = 0;
    *line = 1;
    for (uint32_t i = 0; i < at && i < text.len; i++)
        if (text.data[i] == '\n') {
            line_start = i + 1;
            *line += 1;
        }
    *column = at - line_start + 1;
}

bool ts_parse_fail(struct ts_parser *p, uint32_t at, const char *format, ...)
{
    if (p->rc < 0)
        return false;
    p->rc = KV_INVALID;
    if (!p->err)
        return false;
    char where[32] = "unknown position"; /* what Prometheus says of an empty query */
    if (p->lexer.text.len > 0) {
        uint32_t line, column;
        ts_position(p->lexer.text, at, &line, &column);
        snprintf(where, sizeof where, "%u:%u", line, column);
    }
    char text[3072];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ts_query_fail(p->err, TS_QUERY_BAD_DATA, KV_INVALID, "%s: parse error: %s", where, text);
    return false;
}

bool ts_parse_no_memory(struct ts_parser *p)
{
    if (p->rc >= 0)
        p->rc = ts_query_fail(p->err, TS_QUERY_INTERNAL, KV_NO_MEMORY,
                              "out of memory while parsing the expression");
    return false;
}

/* As Prometheus shows a token in messages. */
static const char *token_shown(struct ts_token token, char *out, size_t size)
{
    char quoted[900];
    const char *shown = (const char *)token.text.data;
    int n = token.text.len < 900 ? (int)token.text.len : 900;
    bool cut = false;
    if (token.type == TS_TOK_EOF)
        snprintf(out, size, "end of input");
    else if (token.type >= TS_TOK_BOOL && token.type <= TS_TOK_ANCHORED)
        snprintf(out, size, "<%.*s>", n, shown);
    else if (token.type >= TS_TOK_ADD && token.type <= TS_TOK_AT)
        snprintf(out, size, "<op:%.*s>", n, shown);
    else if (token.type >= TS_TOK_SUM && token.type <= TS_TOK_LIMIT_RATIO)
        snprintf(out, size, "<aggr:%.*s>", n, shown);
    else {
        static const char *const kinds[] = {
            [TS_TOK_IDENTIFIER] = "identifier ", [TS_TOK_METRIC_IDENTIFIER] = "metric identifier ",
            [TS_TOK_STRING] = "string ",         [TS_TOK_NUMBER] = "number ",
            [TS_TOK_DURATION] = "duration ",
        };
        const char *kind = token.type <= TS_TOK_DURATION && kinds[token.type] ? kinds[token.type] : "";
        cut =
            token.type != TS_TOK_IDENTIFIER && token.type != TS_TOK_METRIC_IDENTIFIER && token.text.len > 10;
        snprintf(out, size, "%s%s%s", kind, ts_quote(token.text, cut ? 10 : SIZE_MAX, quoted, sizeof quoted),
                 cut ? "..." : "");
    }
    return out;
}

bool ts_parse_unexpected(struct ts_parser *p, struct ts_parse_context in)
{
    char shown[1024];
    ts_parse_peek(p);
    return ts_parse_fail(p, p->token.start, "unexpected %s%s%s%s%s",
                         token_shown(p->token, shown, sizeof shown), in.context ? " in " : "",
                         in.context ? in.context : "", in.expected ? ", expected " : "",
                         in.expected ? in.expected : "");
}

/* ---- tokens */

enum ts_tok ts_parse_peek(struct ts_parser *p)
{
    if (!p->have_token) {
        ts_lexer_next(&p->lexer, &p->token);
        p->have_token = true;
        if (p->token.type == TS_TOK_ERROR)
            ts_parse_fail(p, p->token.start, "%s", p->lexer.error);
    }
    return p->token.type;
}

struct ts_token ts_parse_take(struct ts_parser *p)
{
    ts_parse_peek(p);
    p->have_token = false;
    p->end = p->token.start + (uint32_t)p->token.text.len;
    return p->token;
}

bool ts_parse_expect(struct ts_parser *p, enum ts_tok type)
{
    if (ts_parse_peek(p) != type)
        return ts_parse_unexpected(p, p->context);
    ts_parse_take(p);
    return true;
}

bool ts_parse_enter(struct ts_parser *p)
{
    if (p->nesting >= TS_NESTING_MAX) {
        ts_parse_peek(p);
        return ts_parse_fail(p, p->token.start, "the expression is nested more than %d levels deep",
                             TS_NESTING_MAX);
    }
    p->nesting++;
    return true;
}

void ts_parse_leave(struct ts_parser *p)
{
    p->nesting--;
}

/* ---- nodes */

void *ts_parse_alloc(struct ts_parser *p, size_t size)
{
    void *memory = kv_arena_zalloc(p->arena, 1, size);
    if (!memory)
        ts_parse_no_memory(p);
    return memory;
}

void *ts_parse_grow(struct ts_parser *p, void *array, size_t n, size_t element_size)
{
    if (n != 0 && (n < 4 || (n & (n - 1)) != 0))
        return array;
    void *bigger = kv_arena_zalloc(p->arena, n ? n * 2 : 4, element_size);
    if (!bigger)
        ts_parse_no_memory(p);
    else if (n)
        memcpy(bigger, array, n * element_size);
    return bigger;
}

struct ts_expr *ts_parse_node(struct ts_parser *p, enum ts_expr_kind kind, enum ts_value_type type,
                              uint32_t start, uint32_t end)
{
    struct ts_expr *node = ts_parse_alloc(p, sizeof *node);
    if (!node)
        return NULL;
    node->kind = kind;
    node->type = type;
    node->start = start;
    node->end = end;
    node->height = 1;
    node->id = (uint32_t)p->tree->n_exprs++;
    return node;
}

bool ts_parse_adopt(struct ts_parser *p, struct ts_expr *parent, const struct ts_expr *child)
{
    if (child->height >= TS_EXPR_HEIGHT_MAX)
        return ts_parse_fail(p, child->start, "the expression is a tree of more than %d levels",
                             TS_EXPR_HEIGHT_MAX);
    if (parent->height <= child->height)
        parent->height = child->height + 1;
    return true;
}

/* ---- operators */

int ts_parse_level(enum ts_tok type)
{
    switch (type) {
    case TS_TOK_OR:
        return TS_LEVEL_OR;
    case TS_TOK_AND:
    case TS_TOK_UNLESS:
        return TS_LEVEL_AND;
    case TS_TOK_ADD:
    case TS_TOK_SUB:
        return TS_LEVEL_ADD;
    case TS_TOK_MUL:
    case TS_TOK_DIV:
    case TS_TOK_MOD:
    case TS_TOK_ATAN2:
        return TS_LEVEL_MUL;
    case TS_TOK_POW:
        return TS_LEVEL_POW;
    default:
        return type >= TS_TOK_EQLC && type <= TS_TOK_TRIM_LOWER ? TS_LEVEL_COMPARE : 0;
    }
}

/* (5), (-5m): the value behind fill. */
static bool parse_fill_value(struct ts_parser *p, double *value)
{
    bool negative = false;
    if (!ts_parse_expect(p, TS_TOK_LEFT_PAREN))
        return false;
    if (ts_parse_peek(p) == TS_TOK_ADD || p->token.type == TS_TOK_SUB)
        negative = ts_parse_take(p).type == TS_TOK_SUB;
    if (ts_parse_peek(p) != TS_TOK_NUMBER && p->token.type != TS_TOK_DURATION)
        return ts_parse_unexpected(p, p->context);
    if (!ts_parse_number(p, ts_parse_take(p), value))
        return false;
    if (negative)
        *value = -*value;
    return ts_parse_expect(p, TS_TOK_RIGHT_PAREN);
}

/* fill(x), fill_left(x), fill_right(x), or the latter two in any order. */
static bool parse_fills(struct ts_parser *p, struct ts_matching *matching)
{
    for (int i = 0; i < 2; i++) {
        double value = 0;
        enum ts_tok type = ts_parse_peek(p);
        bool left = type == TS_TOK_FILL || type == TS_TOK_FILL_LEFT;
        bool right = type == TS_TOK_FILL || type == TS_TOK_FILL_RIGHT;
        if ((!left && !right) || (left && matching->fills_left) || (right && matching->fills_right))
            break;
        ts_parse_take(p);
        if (!parse_fill_value(p, &value))
            return false;
        if (left)
            matching->fill_left = value;
        if (right)
            matching->fill_right = value;
        matching->fills_left |= left;
        matching->fills_right |= right;
    }
    return p->rc >= 0;
}

/* bool, on (...) / ignoring (...), group_left / group_right, fill. */
static bool parse_modifiers(struct ts_parser *p, struct ts_binary *binary)
{
    struct ts_matching *matching = &binary->matching;
    if (ts_parse_peek(p) == TS_TOK_BOOL) {
        ts_parse_take(p);
        binary->returns_bool = true;
    }
    if (ts_parse_peek(p) == TS_TOK_ON || p->token.type == TS_TOK_IGNORING) {
        matching->on = ts_parse_take(p).type == TS_TOK_ON;
        if (!ts_parse_grouping(p, &matching->labels, &matching->n_labels))
            return false;
        if (ts_parse_peek(p) == TS_TOK_GROUP_LEFT || p->token.type == TS_TOK_GROUP_RIGHT) {
            matching->card =
                ts_parse_take(p).type == TS_TOK_GROUP_LEFT ? TS_CARD_MANY_TO_ONE : TS_CARD_ONE_TO_MANY;
            if (ts_parse_peek(p) == TS_TOK_LEFT_PAREN &&
                !ts_parse_grouping(p, &matching->include, &matching->n_include))
                return false;
        }
    }
    return parse_fills(p, matching);
}

static struct ts_expr *parse_level(struct ts_parser *p, int level);

static struct ts_expr *parse_unary(struct ts_parser *p)
{
    struct ts_token op = ts_parse_take(p);
    if (!ts_parse_enter(p))
        return NULL;
    struct ts_expr *operand = parse_level(p, TS_LEVEL_POW); /* -1 ^ 2 is -(1 ^ 2) */
    ts_parse_leave(p);
    if (!operand)
        return NULL;
    if (operand->kind == TS_EXPR_NUMBER) {
        if (op.type == TS_TOK_SUB)
            operand->number.value = -operand->number.value;
        operand->start = op.start;
        return operand;
    }
    struct ts_expr *node = ts_parse_node(p, TS_EXPR_UNARY, operand->type, op.start, operand->end);
    if (!node || !ts_parse_adopt(p, node, operand))
        return NULL;
    node->unary = (struct ts_unary){.op = op.type == TS_TOK_SUB ? TS_OP_SUB : TS_OP_ADD, .expr = operand};
    return node;
}

static struct ts_expr *parse_operand(struct ts_parser *p)
{
    enum ts_tok type = ts_parse_peek(p);
    if (type == TS_TOK_ADD || type == TS_TOK_SUB)
        return parse_unary(p);
    struct ts_expr *expr = ts_parse_primary(p);
    return expr ? ts_parse_suffixes(p, expr) : NULL;
}

/* The operator is the look-ahead. */
static struct ts_expr *parse_binary(struct ts_parser *p, struct ts_expr *left)
{
    struct ts_token op = ts_parse_take(p);
    struct ts_binary binary = {.op = (enum ts_op)(op.type - TS_TOK_ADD + TS_OP_ADD), .left = left};
    int level = ts_parse_level(op.type);
    if (!parse_modifiers(p, &binary))
        return NULL;
    if (level == TS_LEVEL_POW) { /* the one that groups to the right */
        if (!ts_parse_enter(p))
            return NULL;
        binary.right = parse_level(p, TS_LEVEL_POW);
        ts_parse_leave(p);
    } else {
        binary.right = parse_level(p, level + 1);
    }
    if (!binary.right)
        return NULL;
    bool scalar = left->type == TS_TYPE_SCALAR && binary.right->type == TS_TYPE_SCALAR;
    struct ts_expr *node = ts_parse_node(p, TS_EXPR_BINARY, scalar ? TS_TYPE_SCALAR : TS_TYPE_VECTOR,
                                         left->start, binary.right->end);
    if (!node || !ts_parse_adopt(p, node, left) || !ts_parse_adopt(p, node, binary.right))
        return NULL;
    node->binary = binary;
    if ((p->syntax & TS_SYNTAX_NO_FILL) && (binary.matching.fills_left || binary.matching.fills_right)) {
        ts_parse_fail(p, node->start, "binop fill modifiers are experimental and not enabled");
        return NULL;
    }
    return node;
}

/* An operand and every operator behind it that binds at least as tightly as level. */
static struct ts_expr *parse_level(struct ts_parser *p, int level)
{
    struct ts_expr *left = parse_operand(p);
    while (left) {
        int next = ts_parse_level(ts_parse_peek(p));
        if (next == 0 || next < level)
            break;
        left = parse_binary(p, left);
    }
    return p->rc >= 0 ? left : NULL;
}

struct ts_expr *ts_parse_expr(struct ts_parser *p)
{
    if (!ts_parse_enter(p))
        return NULL;
    struct ts_expr *expr = parse_level(p, TS_LEVEL_OR);
    ts_parse_leave(p);
    return expr;
}

/* ---- the entry */

static bool parse_begin(struct ts_parser *p, kv_slice text)
{
    if (text.len > TS_QUERY_LEN_MAX) {
        p->rc = ts_query_fail(p->err, TS_QUERY_BAD_DATA, KV_LIMIT,
                              "the expression is %zu bytes long; the limit is %d bytes", text.len,
                              TS_QUERY_LEN_MAX);
        return false;
    }
    kv_slice copy = kv_arena_copy(p->arena, text);
    if (!copy.data)
        return ts_parse_no_memory(p);
    p->tree->text = copy;
    ts_lexer_init(&p->lexer, copy);
    return true;
}

static kv_status parse_finish(struct ts_parser *p, struct ts_expr *root, bool check)
{
    if (root && ts_parse_peek(p) != TS_TOK_EOF)
        ts_parse_unexpected(p, (struct ts_parse_context){0});
    if (root && p->rc >= 0 && check)
        ts_type_check(p, root);
    if (p->rc < 0)
        ts_tree_release(p->tree);
    else
        p->tree->root = root;
    return p->rc;
}

kv_status ts_parse(kv_slice text, uint32_t syntax, struct kv_arena *arena, struct ts_tree *out,
                   struct ts_query_err *err)
{
    struct ts_parser p = {.syntax = syntax, .arena = arena, .tree = out, .err = err};
    struct ts_expr *root = NULL;
    *out = (struct ts_tree){0};
    if (parse_begin(&p, text)) {
        if (ts_parse_peek(&p) == TS_TOK_EOF)
            ts_parse_fail(&p, 0, "no expression found in input");
        else
            root = ts_parse_expr(&p);
    }
    return parse_finish(&p, root, true);
}

kv_status ts_parse_selector(kv_slice text, struct kv_arena *arena, struct ts_tree *out,
                            struct ts_query_err *err)
{
    struct ts_parser p = {.arena = arena, .tree = out, .err = err};
    *out = (struct ts_tree){0};
    struct ts_expr *root = parse_begin(&p, text) ? ts_parse_selector_only(&p) : NULL;
    return parse_finish(&p, root, false);
}

void ts_tree_release(struct ts_tree *tree)
{
    for (size_t i = 0; i < tree->n_regexes; i++)
        ts_regex_free(tree->regexes[i]);
    tree->regexes = NULL;
    tree->n_regexes = 0;
    tree->root = NULL;
}
