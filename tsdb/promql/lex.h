/*
 * lex.h - PromQL text to tokens, with Prometheus's rules and messages.
 *
 * Context decides: inside { } words are names, inside [ ] durations. A token borrows its text. After
 * TS_TOK_ERROR or TS_TOK_EOF the same token comes again.
 *
 * Threads    one at a time.
 * Failure    none but TS_TOK_ERROR, with its text in the lexer.
 */
#ifndef TS_PROMQL_LEX_H
#define TS_PROMQL_LEX_H

#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"
#include "tsdb/promql/ast.h"

/* X(token, canonical text or NULL) - the text is how messages name the token. */
#define TS_TOK_LIST(X)                                                                                       \
    X(EOF, NULL)                                                                                             \
    X(ERROR, NULL)                                                                                           \
    X(IDENTIFIER, NULL)                                                                                      \
    X(METRIC_IDENTIFIER, NULL)                                                                               \
    X(STRING, NULL)                                                                                          \
    X(NUMBER, NULL)                                                                                          \
    X(DURATION, NULL)                                                                                        \
    X(LEFT_PAREN, "(")                                                                                       \
    X(RIGHT_PAREN, ")")                                                                                      \
    X(LEFT_BRACE, "{")                                                                                       \
    X(RIGHT_BRACE, "}")                                                                                      \
    X(LEFT_BRACKET, "[")                                                                                     \
    X(RIGHT_BRACKET, "]")                                                                                    \
    X(COMMA, ",")                                                                                            \
    X(EQL, "=")                                                                                              \
    X(COLON, ":")                                                                                            \
    /* operators, in the order of enum ts_op */                                                              \
    X(ADD, "+")                                                                                              \
    X(SUB, "-")                                                                                              \
    X(MUL, "*")                                                                                              \
    X(DIV, "/")                                                                                              \
    X(MOD, "%")                                                                                              \
    X(POW, "^")                                                                                              \
    X(ATAN2, "atan2")                                                                                        \
    X(EQLC, "==")                                                                                            \
    X(NEQ, "!=")                                                                                             \
    X(LSS, "<")                                                                                              \
    X(LTE, "<=")                                                                                             \
    X(GTR, ">")                                                                                              \
    X(GTE, ">=")                                                                                             \
    X(TRIM_UPPER, "</")                                                                                      \
    X(TRIM_LOWER, ">/")                                                                                      \
    X(AND, "and")                                                                                            \
    X(OR, "or")                                                                                              \
    X(UNLESS, "unless")                                                                                      \
    X(EQL_REGEX, "=~")                                                                                       \
    X(NEQ_REGEX, "!~")                                                                                       \
    X(AT, "@")                                                                                               \
    /* aggregators, in the order of enum ts_agg */                                                           \
    X(SUM, "sum")                                                                                            \
    X(AVG, "avg")                                                                                            \
    X(COUNT, "count")                                                                                        \
    X(MIN, "min")                                                                                            \
    X(MAX, "max")                                                                                            \
    X(GROUP, "group")                                                                                        \
    X(STDDEV, "stddev")                                                                                      \
    X(STDVAR, "stdvar")                                                                                      \
    X(TOPK, "topk")                                                                                          \
    X(BOTTOMK, "bottomk")                                                                                    \
    X(COUNT_VALUES, "count_values")                                                                          \
    X(QUANTILE, "quantile")                                                                                  \
    X(LIMITK, "limitk")                                                                                      \
    X(LIMIT_RATIO, "limit_ratio")                                                                            \
    /* keywords */                                                                                           \
    X(BOOL, "bool")                                                                                          \
    X(BY, "by")                                                                                              \
    X(WITHOUT, "without")                                                                                    \
    X(ON, "on")                                                                                              \
    X(IGNORING, "ignoring")                                                                                  \
    X(GROUP_LEFT, "group_left")                                                                              \
    X(GROUP_RIGHT, "group_right")                                                                            \
    X(FILL, "fill")                                                                                          \
    X(FILL_LEFT, "fill_left")                                                                                \
    X(FILL_RIGHT, "fill_right")                                                                              \
    X(OFFSET, "offset")                                                                                      \
    X(SMOOTHED, "smoothed")                                                                                  \
    X(ANCHORED, "anchored")                                                                                  \
    /* words that are functions too */                                                                       \
    X(START, "start")                                                                                        \
    X(END, "end")                                                                                            \
    X(STEP, "step")                                                                                          \
    X(RANGE, "range")                                                                                        \
    X(MIN_OF, "min_of")                                                                                      \
    X(MAX_OF, "max_of")

enum ts_tok {
#define X(name, text) TS_TOK_##name,
    TS_TOK_LIST(X)
#undef X
        TS_TOKS
};

struct ts_token {
    enum ts_tok type;
    uint32_t start; /* byte of the text */
    kv_slice text;  /* as written; strings with their quotes */
};

struct ts_lexer {
    kv_slice text;
    uint32_t at, start;
    int paren_depth;
    bool brace_open, bracket_open;
    bool got_colon, got_duration; /* inside [ ] */
    bool in_duration;             /* behind [, before the first number: only duration expressions */
    bool ended;
    struct ts_token last; /* of type EOF or ERROR once ended */
    uint32_t n_tokens;
    char error[1024]; /* of TS_TOK_ERROR; cut */
};

void ts_lexer_init(struct ts_lexer *lexer, kv_slice text);
/* The next token; comments and white space are skipped. */
void ts_lexer_next(struct ts_lexer *lexer, struct ts_token *out);
/* The canonical text of a keyword or operator, or NULL. */
const char *ts_tok_text(enum ts_tok type);

#endif
