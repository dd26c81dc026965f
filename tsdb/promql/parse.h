/*
 * parse.h - PromQL text to a checked tree: Prometheus 3's whole language, its messages and its positions.
 *
 * A hand-written precedence parser over ts_lexer. The first error ends it. Nesting is bounded
 * (TS_NESTING_MAX), so is text and token count; time is linear in the text, regular expressions apart
 * (bounded by tsdb/regex.h).
 *
 * Threads    one parse at a time per arena.
 * Ownership  the tree lives in the arena; it keeps a copy of the text, so the caller's may go.
 * Failure    KV_INVALID with err->type TS_QUERY_BAD_DATA and a text like "1:5: parse error: unexpected end of
 *            input"; KV_LIMIT likewise, naming the limit; KV_NO_MEMORY. Nothing needs release after a failure
 *            but the arena.
 */
#ifndef TS_PROMQL_PARSE_H
#define TS_PROMQL_PARSE_H

#include "tsdb/promql/ast.h"

/* Experimental syntax, all on; a bit turns one off, with Prometheus's message. */
enum {
    TS_SYNTAX_NO_EXPERIMENTAL_FUNCTIONS = 1,
    TS_SYNTAX_NO_DURATION_EXPRESSIONS = 2,
    TS_SYNTAX_NO_EXTENDED_RANGES = 4, /* anchored, smoothed */
    TS_SYNTAX_NO_FILL = 8,
};

struct ts_tree {
    struct ts_expr *root;
    kv_slice text; /* in the arena */
    size_t n_exprs;
    struct ts_regex **regexes; /* every compiled one, for release; matchers point at the same */
    size_t n_regexes;
};

/* {0} is a valid empty tree. */
KV_MUST kv_status ts_parse(kv_slice text, uint32_t syntax, struct kv_arena *arena, struct ts_tree *out,
                           struct ts_query_err *err);
/* Only a selector, without offset and @: match[], deletes. root is a TS_EXPR_VECTOR. Matches everything if it
 * likes. */
KV_MUST kv_status ts_parse_selector(kv_slice text, struct kv_arena *arena, struct ts_tree *out,
                                    struct ts_query_err *err);
/* Frees compiled regular expressions; twice is fine. Before the arena goes. */
void ts_tree_release(struct ts_tree *tree);

/* Computes every duration that is an expression (step(), range(), 5m * 2) from the query's times: step_ms (0
 * in an instant query) and end_ms - start_ms. Call once before evaluation. KV_INVALID: a duration is not
 * positive or out of range. */
KV_MUST kv_status ts_durations_resolve(struct ts_tree *tree, int64_t start_ms, int64_t end_ms,
                                       int64_t step_ms, struct ts_query_err *err);

/* line:column of a byte, both from 1 (annotations: "(1:5)"). */
void ts_position(kv_slice text, uint32_t at, uint32_t *line, uint32_t *column);
/* Fills *err (may be NULL) and returns code. */
kv_status ts_query_fail(struct ts_query_err *err, enum ts_query_errtype type, kv_status code,
                        const char *format, ...) KV_PRINTF(4, 5);

#endif
