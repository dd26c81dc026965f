/* parse_primary.c - what operators stand between: literals, parentheses, selectors, calls, aggregations. */
#include "tsdb/promql/parse_int.h"

#include "tsdb/promql/quote.h"

static const struct ts_parse_context in_grouping = {"grouping opts", "\"(\""};
static const struct ts_parse_context in_grouping_label = {"grouping opts", "label"};
static const struct ts_parse_context in_grouping_next = {"grouping opts", "\",\" or \")\""};
static const struct ts_parse_context in_match = {"label matching", "identifier or \"}\""};
static const struct ts_parse_context in_match_op = {"label matching", "label matching operator"};
static const struct ts_parse_context in_match_value = {"label matching", "string"};
static const struct ts_parse_context in_match_next = {"label matching", "\",\" or \"}\""};

/* ---- lists of labels */

/* Words that may be label names although they mean something elsewhere. */
static bool is_label_word(enum ts_tok type)
{
    if (type == TS_TOK_WITHOUT)
        return false;
    return type == TS_TOK_IDENTIFIER || type == TS_TOK_METRIC_IDENTIFIER || type == TS_TOK_ATAN2 ||
           (type >= TS_TOK_AND && type <= TS_TOK_UNLESS) || type >= TS_TOK_SUM;
}

static bool parse_grouping_label(struct ts_parser *p, kv_slice *label)
{
    enum ts_tok type = ts_parse_peek(p);
    if (type != TS_TOK_STRING && !is_label_word(type))
        return ts_parse_unexpected(p, in_grouping_label);
    struct ts_token token = ts_parse_take(p);
    *label = token.text;
    if (type == TS_TOK_STRING && !ts_parse_unquote(p, token, label))
        return false;
    if (label->len == 0 || !ts_utf8_valid(*label)) {
        char quoted[900];
        return ts_parse_fail(p, token.start, "invalid label name for grouping: %s",
                             ts_quote(*label, SIZE_MAX, quoted, sizeof quoted));
    }
    return true;
}

bool ts_parse_grouping(struct ts_parser *p, kv_slice **labels, size_t *n)
{
    *n = 0;
    if (ts_parse_peek(p) != TS_TOK_LEFT_PAREN)
        return ts_parse_unexpected(p, in_grouping);
    ts_parse_take(p);
    while (ts_parse_peek(p) != TS_TOK_RIGHT_PAREN) {
        if (!(*labels = ts_parse_grow(p, *labels, *n, sizeof **labels)) ||
            !parse_grouping_label(p, &(*labels)[*n]))
            return false;
        *n += 1;
        if (ts_parse_peek(p) == TS_TOK_COMMA)
            ts_parse_take(p);
        else if (p->token.type != TS_TOK_RIGHT_PAREN)
            return ts_parse_unexpected(p, in_grouping_next);
    }
    ts_parse_take(p);
    return true;
}

/* ---- selectors */

static bool parse_add_matcher(struct ts_parser *p, struct ts_vector_selector *selector, enum ts_match_op op,
                              kv_slice name, kv_slice value, uint32_t at)
{
    struct kv_err why = {0};
    struct ts_matcher *matchers =
        ts_parse_grow(p, selector->matchers, selector->n_matchers, sizeof *matchers);
    if (!matchers)
        return false;
    selector->matchers = matchers;
    struct ts_regex **regexes = ts_parse_grow(p, p->tree->regexes, p->tree->n_regexes, sizeof(void *));
    if (!regexes)
        return false;
    p->tree->regexes = regexes;
    struct ts_matcher *matcher = &matchers[selector->n_matchers];
    kv_status rc = ts_matcher_init(matcher, op, name, value, &why);
    if (rc == KV_NO_MEMORY)
        return ts_parse_no_memory(p);
    if (rc < 0)
        return ts_parse_fail(p, at, "%s", why.text[0] ? why.text : kv_status_text(rc));
    if (matcher->regex)
        p->tree->regexes[p->tree->n_regexes++] = matcher->regex;
    selector->n_matchers++;
    return true;
}

static bool is_match_op(enum ts_tok type, enum ts_match_op *op)
{
    switch (type) {
    case TS_TOK_EQL:
        *op = TS_MATCH_EQ;
        return true;
    case TS_TOK_NEQ:
        *op = TS_MATCH_NE;
        return true;
    case TS_TOK_EQL_REGEX:
        *op = TS_MATCH_RE;
        return true;
    case TS_TOK_NEQ_REGEX:
        *op = TS_MATCH_NRE;
        return true;
    default:
        return false;
    }
}

/* a="b", "a.b"=~"c", or "metric.name" alone. */
static bool parse_matcher(struct ts_parser *p, struct ts_vector_selector *selector)
{
    enum ts_tok type = ts_parse_peek(p);
    if (type != TS_TOK_IDENTIFIER && type != TS_TOK_STRING)
        return ts_parse_unexpected(p, in_match);
    struct ts_token first = ts_parse_take(p);
    kv_slice name = first.text, value;
    if (type == TS_TOK_STRING && !ts_parse_unquote(p, first, &name))
        return false;
    enum ts_match_op op;
    if (!is_match_op(ts_parse_peek(p), &op)) {
        if (type == TS_TOK_IDENTIFIER)
            return ts_parse_unexpected(p, in_match_op);
        return parse_add_matcher(p, selector, TS_MATCH_EQ, TS_METRIC_NAME, name, first.start);
    }
    ts_parse_take(p);
    if (ts_parse_peek(p) != TS_TOK_STRING)
        return ts_parse_unexpected(p, in_match_value);
    return ts_parse_unquote(p, ts_parse_take(p), &value) &&
           parse_add_matcher(p, selector, op, name, value, first.start);
}

/* Behind the brace. */
static bool parse_matchers(struct ts_parser *p, struct ts_vector_selector *selector)
{
    while (ts_parse_peek(p) != TS_TOK_RIGHT_BRACE) {
        if (!parse_matcher(p, selector))
            return false;
        if (ts_parse_peek(p) == TS_TOK_COMMA)
            ts_parse_take(p);
        else if (p->token.type != TS_TOK_RIGHT_BRACE)
            return ts_parse_unexpected(p, in_match_next);
    }
    ts_parse_take(p);
    return true;
}

/* name, name{...} or {...}; the name was taken. */
static struct ts_expr *parse_vector(struct ts_parser *p, struct ts_token name)
{
    struct ts_vector_selector selector = {.name = name.text};
    if (ts_parse_peek(p) == TS_TOK_LEFT_BRACE) {
        ts_parse_take(p);
        if (!parse_matchers(p, &selector))
            return NULL;
    }
    if (p->rc < 0)
        return NULL;
    if (selector.name.len > 0 &&
        !parse_add_matcher(p, &selector, TS_MATCH_EQ, TS_METRIC_NAME, selector.name, name.start))
        return NULL;
    struct ts_expr *node = ts_parse_node(p, TS_EXPR_VECTOR, TS_TYPE_VECTOR, name.start, p->end);
    if (node)
        node->vector = selector;
    return node;
}

/* Words that may be metric names although they mean something elsewhere. */
static bool is_metric_word(enum ts_tok type)
{
    switch (type) {
    case TS_TOK_BOOL:
    case TS_TOK_ON:
    case TS_TOK_IGNORING:
    case TS_TOK_GROUP_LEFT:
    case TS_TOK_GROUP_RIGHT:
        return false;
    default:
        return type == TS_TOK_IDENTIFIER || type == TS_TOK_METRIC_IDENTIFIER ||
               (type >= TS_TOK_AND && type <= TS_TOK_UNLESS) || type >= TS_TOK_SUM;
    }
}

struct ts_expr *ts_parse_selector_only(struct ts_parser *p)
{
    enum ts_tok type = ts_parse_peek(p);
    if (is_metric_word(type))
        return parse_vector(p, ts_parse_take(p));
    if (type == TS_TOK_LEFT_BRACE)
        return parse_vector(p, (struct ts_token){.start = p->token.start});
    ts_parse_unexpected(p, p->context);
    return NULL;
}

/* ---- calls and aggregations */

static bool starts_expr(enum ts_tok type)
{
    return is_metric_word(type) || type == TS_TOK_NUMBER || type == TS_TOK_DURATION ||
           type == TS_TOK_STRING || type == TS_TOK_LEFT_PAREN || type == TS_TOK_LEFT_BRACE ||
           type == TS_TOK_ADD || type == TS_TOK_SUB;
}

/* ( expr, expr ): the parenthesis is the look-ahead, or unexpected. */
static bool parse_args(struct ts_parser *p, struct ts_expr ***args, size_t *n)
{
    *n = 0;
    if (!ts_parse_expect(p, TS_TOK_LEFT_PAREN))
        return false;
    if (ts_parse_peek(p) == TS_TOK_RIGHT_PAREN) {
        ts_parse_take(p);
        return true;
    }
    for (;;) {
        struct ts_expr *arg = ts_parse_expr(p);
        if (!arg || !(*args = ts_parse_grow(p, *args, *n, sizeof(void *))))
            return false;
        (*args)[(*n)++] = arg;
        if (ts_parse_peek(p) != TS_TOK_COMMA)
            return ts_parse_expect(p, TS_TOK_RIGHT_PAREN);
        struct ts_token comma = ts_parse_take(p);
        if (!starts_expr(ts_parse_peek(p)))
            return ts_parse_fail(p, comma.start, "trailing commas not allowed in function call args");
    }
}

static struct ts_expr *parse_call(struct ts_parser *p, struct ts_token name)
{
    struct ts_expr **args = NULL;
    size_t n_args;
    char quoted[900];
    if (!parse_args(p, &args, &n_args))
        return NULL;
    const struct ts_func *func = ts_func_find(name.text);
    if (!func) {
        ts_parse_fail(p, name.start, "unknown function with name %s",
                      ts_quote(name.text, SIZE_MAX, quoted, sizeof quoted));
        return NULL;
    }
    if (func->experimental && (p->syntax & TS_SYNTAX_NO_EXPERIMENTAL_FUNCTIONS)) {
        ts_parse_fail(p, name.start, "function %s is not enabled",
                      ts_quote(name.text, SIZE_MAX, quoted, sizeof quoted));
        return NULL;
    }
    struct ts_expr *node = ts_parse_node(p, TS_EXPR_CALL, func->returns, name.start, p->end);
    for (size_t i = 0; node && i < n_args; i++)
        if (!ts_parse_adopt(p, node, args[i]))
            return NULL;
    if (node)
        node->call = (struct ts_call){.func = func, .args = args, .n_args = n_args};
    return node;
}

/* by (...) or without (...): the word is the look-ahead. */
static bool parse_aggregate_modifier(struct ts_parser *p, struct ts_aggregate *aggregate)
{
    aggregate->without = ts_parse_take(p).type == TS_TOK_WITHOUT;
    return ts_parse_grouping(p, &aggregate->grouping, &aggregate->n_grouping);
}

static bool is_aggregate_modifier(enum ts_tok type)
{
    return type == TS_TOK_BY || type == TS_TOK_WITHOUT;
}

static struct ts_expr *aggregate_node(struct ts_parser *p, struct ts_token name,
                                      struct ts_aggregate *aggregate, struct ts_expr **args, size_t n_args)
{
    size_t wanted = ts_agg_has_param(aggregate->op) ? 2 : 1;
    if (n_args == 0) {
        ts_parse_fail(p, name.start, "no arguments for aggregate expression provided");
    } else if (aggregate->op >= TS_AGG_LIMITK && (p->syntax & TS_SYNTAX_NO_EXPERIMENTAL_FUNCTIONS)) {
        ts_parse_fail(
            p, name.start,
            "%s() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
            ts_agg_text(aggregate->op));
    } else if (n_args != wanted) {
        ts_parse_fail(p, name.start,
                      "wrong number of arguments for aggregate expression provided, expected %zu, got %zu",
                      wanted, n_args);
    } else {
        struct ts_expr *node = ts_parse_node(p, TS_EXPR_AGGREGATE, TS_TYPE_VECTOR, name.start, p->end);
        aggregate->expr = args[wanted - 1];
        aggregate->param = wanted == 2 ? args[0] : NULL;
        if (!node || !ts_parse_adopt(p, node, aggregate->expr) ||
            (aggregate->param && !ts_parse_adopt(p, node, aggregate->param)))
            return NULL;
        node->aggregate = *aggregate;
        return node;
    }
    return NULL;
}

static struct ts_expr *parse_aggregate(struct ts_parser *p, struct ts_token name)
{
    struct ts_aggregate aggregate = {.op = (enum ts_agg)(name.type - TS_TOK_SUM + TS_AGG_SUM)};
    struct ts_parse_context outer = p->context;
    struct ts_expr **args = NULL;
    size_t n_args = 0;
    bool modified = false, ok = true;
    p->context = (struct ts_parse_context){.context = "aggregation"};
    if (is_aggregate_modifier(ts_parse_peek(p))) {
        modified = true;
        ok = parse_aggregate_modifier(p, &aggregate);
    }
    ok = ok && parse_args(p, &args, &n_args);
    if (ok && !modified && is_aggregate_modifier(ts_parse_peek(p)))
        ok = parse_aggregate_modifier(p, &aggregate);
    p->context = outer;
    return ok && p->rc >= 0 ? aggregate_node(p, name, &aggregate, args, n_args) : NULL;
}

/* ---- the choice */

static struct ts_expr *parse_paren(struct ts_parser *p)
{
    struct ts_token open = ts_parse_take(p);
    struct ts_expr *inner = ts_parse_expr(p);
    if (!inner || !ts_parse_expect(p, TS_TOK_RIGHT_PAREN))
        return NULL;
    struct ts_expr *node = ts_parse_node(p, TS_EXPR_PAREN, inner->type, open.start, p->end);
    if (!node || !ts_parse_adopt(p, node, inner))
        return NULL;
    node->paren = inner;
    return node;
}

static struct ts_expr *parse_literal(struct ts_parser *p)
{
    struct ts_token token = ts_parse_take(p);
    bool text = token.type == TS_TOK_STRING;
    struct ts_expr *node = ts_parse_node(p, text ? TS_EXPR_STRING : TS_EXPR_NUMBER,
                                         text ? TS_TYPE_STRING : TS_TYPE_SCALAR, token.start, p->end);
    if (!node)
        return NULL;
    if (text)
        return ts_parse_unquote(p, token, &node->string) ? node : NULL;
    node->number.is_duration = token.type == TS_TOK_DURATION;
    return ts_parse_number(p, token, &node->number.value) ? node : NULL;
}

static struct ts_expr *parse_word(struct ts_parser *p)
{
    struct ts_token name = ts_parse_take(p);
    enum ts_tok next = ts_parse_peek(p);
    if (name.type >= TS_TOK_SUM && name.type <= TS_TOK_LIMIT_RATIO) {
        if (next == TS_TOK_LEFT_PAREN || is_aggregate_modifier(next))
            return parse_aggregate(p, name);
    } else if ((name.type == TS_TOK_IDENTIFIER || name.type >= TS_TOK_START) && next == TS_TOK_LEFT_PAREN) {
        return parse_call(p, name);
    }
    return parse_vector(p, name);
}

struct ts_expr *ts_parse_primary(struct ts_parser *p)
{
    enum ts_tok type = ts_parse_peek(p);
    if (type == TS_TOK_LEFT_PAREN)
        return parse_paren(p);
    if (type == TS_TOK_NUMBER || type == TS_TOK_DURATION || type == TS_TOK_STRING)
        return parse_literal(p);
    if (type == TS_TOK_LEFT_BRACE)
        return ts_parse_selector_only(p);
    if (is_metric_word(type))
        return parse_word(p);
    ts_parse_unexpected(p, p->context);
    return NULL;
}
