/*
 * parse_int.h - what the parser's files share: the state of one parse, and making nodes. Included by
 * tsdb/promql/{parse,type}*.c only.
 *
 * Every function that returns a pointer or bool answers NULL or false after a failure; the first failure is
 * kept in the parser.
 */
#ifndef TS_PROMQL_PARSE_INT_H
#define TS_PROMQL_PARSE_INT_H

#include "tsdb/promql/func_table.h"
#include "tsdb/promql/lex.h"
#include "tsdb/promql/parse.h"

/* What an unexpected token is reported as: "unexpected X in CONTEXT, expected EXPECTED". Each may be NULL. */
struct ts_parse_context {
    const char *context, *expected;
};

struct ts_parser {
    struct ts_lexer lexer;
    struct ts_token token; /* the look-ahead, when have_token */
    bool have_token;
    uint32_t end; /* where the token taken last ended */
    struct ts_parse_context context;
    int nesting;
    uint32_t syntax;
    struct kv_arena *arena;
    struct ts_tree *tree;
    kv_status rc;
    struct ts_query_err *err;
};

/* ---- failing (false or NULL, always) and tokens: parse.c */
bool ts_parse_fail(struct ts_parser *p, uint32_t at, const char *format, ...) KV_PRINTF(3, 4);
bool ts_parse_no_memory(struct ts_parser *p);
bool ts_parse_unexpected(struct ts_parser *p, struct ts_parse_context in);
/* The type of the next token. TS_TOK_ERROR has been reported already. */
enum ts_tok ts_parse_peek(struct ts_parser *p);
struct ts_token ts_parse_take(struct ts_parser *p);
/* Takes a token of this type; any other is unexpected in the current context. */
bool ts_parse_expect(struct ts_parser *p, enum ts_tok type);
bool ts_parse_enter(struct ts_parser *p); /* one level deeper */
void ts_parse_leave(struct ts_parser *p);

void *ts_parse_alloc(struct ts_parser *p, size_t size);
/* Room for one more behind n elements, growing by doubling (n is 0 or counts what was added so). NULL:
 * failed. */
void *ts_parse_grow(struct ts_parser *p, void *array, size_t n, size_t element_size);
struct ts_expr *ts_parse_node(struct ts_parser *p, enum ts_expr_kind kind, enum ts_value_type type,
                              uint32_t start, uint32_t end);
/* Accounts a child's height; false past the bound. */
bool ts_parse_adopt(struct ts_parser *p, struct ts_expr *parent, const struct ts_expr *child);

/* ---- expressions: parse.c (operators), parse_suffix.c ([..], offset, @), parse_primary.c (the rest) */
struct ts_expr *ts_parse_expr(struct ts_parser *p);
struct ts_expr *ts_parse_suffixes(struct ts_parser *p, struct ts_expr *expr);
struct ts_expr *ts_parse_primary(struct ts_parser *p);
struct ts_expr *ts_parse_selector_only(struct ts_parser *p);
/* Behind by, without, on, ignoring, group_left, group_right: (a, "b.c", ...) */
bool ts_parse_grouping(struct ts_parser *p, kv_slice **labels, size_t *n);

/* ---- literals and durations: parse_literal.c, parse_duration.c */
/* A NUMBER or DURATION token's value, in seconds for the latter. */
bool ts_parse_number(struct ts_parser *p, struct ts_token token, double *value);
bool ts_parse_unquote(struct ts_parser *p, struct ts_token token, kv_slice *out);
bool ts_parse_range(struct ts_parser *p, struct ts_duration *out);  /* greater than 0 */
bool ts_parse_offset(struct ts_parser *p, struct ts_duration *out); /* behind the word offset */

/* ---- type.c */
bool ts_type_check(struct ts_parser *p, struct ts_expr *expr);

/* Levels of operators; a larger one binds tighter. */
enum { TS_LEVEL_OR = 1, TS_LEVEL_AND, TS_LEVEL_COMPARE, TS_LEVEL_ADD, TS_LEVEL_MUL, TS_LEVEL_POW };
/* 0: not a binary operator. */
int ts_parse_level(enum ts_tok type);

#endif
