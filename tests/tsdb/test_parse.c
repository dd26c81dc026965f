#include "tsdb/promql/func_table.h"
#include "tsdb/promql/parse.h"

#include "kvcore/base/mem.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct ts_query_err err;

/* Parses and forgets; answers the status, the text is in err. */
static kv_status try_bytes(const char *text, size_t len, uint32_t syntax)
{
    struct kv_arena arena = {0};
    struct ts_tree tree;
    memset(&err, 0, sizeof err);
    kv_status rc = ts_parse(kv_slice_of(text, len), syntax, &arena, &tree, &err);
    ts_tree_release(&tree);
    ts_tree_release(&tree); /* twice is fine */
    kv_arena_release(&arena);
    return rc;
}

struct bad {
    const char *query, *error;
};

static void refuse(const struct bad *rows, size_t n, uint32_t syntax)
{
    for (size_t i = 0; i < n; i++) {
        kv_status rc = try_bytes(rows[i].query, strlen(rows[i].query), syntax);
        cr_expect_eq(rc, KV_INVALID, "%s: %s", rows[i].query, kv_status_name(rc));
        cr_expect_str_eq(err.text, rows[i].error, "%s\n  got      %s\n  expected %s", rows[i].query, err.text,
                         rows[i].error);
        cr_expect_eq(err.type, TS_QUERY_BAD_DATA);
    }
}
#define REFUSE(rows) refuse(rows, sizeof(rows) / sizeof((rows)[0]), 0)

static void accept_all(const char *const *queries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        kv_status rc = try_bytes(queries[i], strlen(queries[i]), 0);
        cr_expect_eq(rc, KV_OK, "%s: %s", queries[i], err.text);
    }
}
#define ACCEPT(queries) accept_all(queries, sizeof(queries) / sizeof((queries)[0]))

/* ---- what is refused, with text and place */

Test(parse, empty_input_is_no_expression)
{
    static const struct bad rows[] = {
        {"", "unknown position: parse error: no expression found in input"},
        {" \n ", "1:1: parse error: no expression found in input"},
        {"# only this", "1:1: parse error: no expression found in input"},
    };
    REFUSE(rows);
}

Test(parse, unfinished_input_says_what_is_open)
{
    static const struct bad rows[] = {
        {"1 + ", "1:5: parse error: unexpected end of input"},
        {"foo +", "1:6: parse error: unexpected end of input"},
        {"-", "1:2: parse error: unexpected end of input"},
        {"(", "1:2: parse error: unclosed left parenthesis"},
        {"(1", "1:3: parse error: unclosed left parenthesis"},
        {"sum(foo", "1:8: parse error: unclosed left parenthesis"},
        {"foo{", "1:5: parse error: unexpected end of input inside braces"},
        {"foo{a=", "1:7: parse error: unexpected end of input inside braces"},
        {"foo[", "1:5: parse error: unexpected end of input in duration expression"},
        {"foo[5m ", "1:8: parse error: unclosed left bracket"},
        {"\"abc", "1:1: parse error: unterminated quoted string"},
        {"`abc", "1:1: parse error: unterminated raw string"},
        {"foo offset", "1:11: parse error: unexpected end of input in offset, expected number, duration, "
                       "step(), or range()"},
        {"foo @", "1:6: parse error: unexpected end of input in @, expected timestamp"},
        {"sum", NULL}, /* a name */
    };
    refuse(rows, sizeof rows / sizeof rows[0] - 1, 0);
    cr_expect_eq(try_bytes("sum", 3, 0), KV_OK);
}

Test(parse, unexpected_tokens_are_named_with_their_kind)
{
    static const struct bad rows[] = {
        {"foo bar", "1:5: parse error: unexpected identifier \"bar\""},
        {"foo a:b", "1:5: parse error: unexpected metric identifier \"a:b\""},
        {"foo 5", "1:5: parse error: unexpected number \"5\""},
        {"foo 5m", "1:5: parse error: unexpected duration \"5m\""},
        {"foo \"x\"", "1:5: parse error: unexpected string \"\\\"x\\\"\""},
        {"foo \"a long string\"", "1:5: parse error: unexpected string \"\\\"a long st\"..."},
        {"foo {", "1:6: parse error: unexpected end of input inside braces"},
        {"foo = 1", "1:5: parse error: unexpected \"=\""},
        {"* foo", "1:1: parse error: unexpected <op:*>"},
        {"foo + * bar", "1:7: parse error: unexpected <op:*>"},
        {"foo BY (x)", "1:5: parse error: unexpected <BY>"},
        {"foo sum", "1:5: parse error: unexpected <aggr:sum>"},
        {"foo start", "1:5: parse error: unexpected \"start\""},
        {"foo(5 5)", "1:7: parse error: unexpected number \"5\""},
        {"sum(5 5)", "1:7: parse error: unexpected number \"5\" in aggregation"},
        {"sum(abs(a b))", "1:11: parse error: unexpected identifier \"b\" in aggregation"},
        {"sum by (x) foo", "1:12: parse error: unexpected identifier \"foo\" in aggregation"},
        {"sum foo by (x)", "1:5: parse error: unexpected identifier \"foo\""},
        {"foo) ", "1:5: parse error: unexpected right parenthesis ')'"},
        {"a + on(x) bool b", "1:11: parse error: unexpected <bool>"},
        {"a group_left b", "1:3: parse error: unexpected <group_left>"},
        {"bool", "1:1: parse error: unexpected <bool>"},
        {"1 +\n 2 +\n  * 3", "3:3: parse error: unexpected <op:*>"},
        {"foo $", "1:5: parse error: unexpected character: '$'"},
        {"foo offset bar", "1:12: parse error: unexpected identifier \"bar\" in offset, expected number, "
                           "duration, step(), or range()"},
        {"foo @ bar", "1:7: parse error: unexpected identifier \"bar\" in @, expected timestamp"},
        {"foo @ start", "1:12: parse error: unexpected end of input in @, expected timestamp"},
        {"foo[5m 5]",
         "1:8: parse error: unexpected number \"5\" in subquery or range, expected \":\" or \"]\""},
        {"foo[]", "1:5: parse error: unexpected \"]\" in subquery or range selector, expected number, "
                  "duration, step(), or range()"},
        {"foo[5m:5m 5]", "1:11: parse error: unexpected number \"5\" in subquery selector, expected \"]\""},
        {"foo[5m:*]", "1:8: parse error: unexpected <op:*> in subquery selector, expected number, duration, "
                      "step(), range(), or \"]\""},
        {"foo[5m + ]", "1:10: parse error: unexpected \"]\" in subquery or range selector, expected number, "
                       "duration, step(), or range()"},
    };
    REFUSE(rows);
}

Test(parse, matchers_say_what_they_miss)
{
    static const struct bad rows[] = {
        {"{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"},
        {"{a=~\".*\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"},
        {"{a=\"\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"},
        {"{a!=\"x\",b!~\"y\"}",
         "1:1: parse error: vector selector must contain at least one non-empty matcher"},
        {"sum({a=~\".*\"})", "1:5: parse error: vector selector must contain at least one non-empty matcher"},
        {"foo{__name__=\"bar\"}", "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\""},
        {"foo{\"bar\"}", "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\""},
        {"foo{a}", "1:6: parse error: unexpected \"}\" in label matching, expected label matching operator"},
        {"foo{a=}", "1:7: parse error: unexpected \"}\" in label matching, expected string"},
        {"foo{a=b}", "1:7: parse error: unexpected identifier \"b\" in label matching, expected string"},
        {"foo{a=\"b\" c}",
         "1:11: parse error: unexpected identifier \"c\" in label matching, expected \",\" or \"}\""},
        {"foo{,}", "1:5: parse error: unexpected \",\" in label matching, expected identifier or \"}\""},
        {"foo{a=\"b\",,}",
         "1:11: parse error: unexpected \",\" in label matching, expected identifier or \"}\""},
        {"foo{=\"b\"}", "1:5: parse error: unexpected \"=\" in label matching, expected identifier or \"}\""},
        {"foo{a==\"b\"}", "1:7: parse error: unexpected \"=\" in label matching, expected string"},
        {"foo{a>\"b\"}", "1:6: parse error: unexpected character inside braces: '>'"},
        {"foo{a=~\"(\"}", "1:5: parse error: error parsing regexp: missing closing ): `(`"},
        {"foo{a=~\"a{2000}\"}", "1:5: parse error: error parsing regexp: invalid repeat count: `{2000}`"},
        {"foo{a=~\"a{1,0}\"}", "1:5: parse error: error parsing regexp: invalid repeat count: `{1,0}`"},
        {"foo{a=~\"\\\\1\"}", "1:5: parse error: error parsing regexp: invalid escape sequence: `\\1`"},
        {"foo{a=\"\xff\"}", "1:7: parse error: invalid UTF-8 rune"},
    };
    REFUSE(rows);
}

Test(parse, patterns_that_would_explode_are_refused)
{
    static const char *const queries[] = {"foo{a=~\"(?=x)\"}", "foo{a=~\"((a{0,1000}){0,1000}){0,1000}\"}"};
    for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++)
        cr_expect_eq(try_bytes(queries[i], strlen(queries[i]), 0), KV_INVALID, "%s", queries[i]);
    static char long_pattern[6000];
    size_t n = (size_t)snprintf(long_pattern, sizeof long_pattern, "foo{a=~\"");
    memset(long_pattern + n, 'x', 5 * 1024);
    memcpy(long_pattern + n + 5 * 1024, "\"}", 3);
    cr_expect_eq(try_bytes(long_pattern, strlen(long_pattern), 0), KV_INVALID);
}

Test(parse, grouping_lists_say_what_they_miss)
{
    static const struct bad rows[] = {
        {"sum by x (foo)", "1:8: parse error: unexpected identifier \"x\" in grouping opts, expected \"(\""},
        {"sum by (5) (foo)", "1:9: parse error: unexpected number \"5\" in grouping opts, expected label"},
        {"sum by (,) (foo)", "1:9: parse error: unexpected \",\" in grouping opts, expected label"},
        {"sum by (a b) (foo)",
         "1:11: parse error: unexpected identifier \"b\" in grouping opts, expected \",\" or \")\""},
        {"sum by (a,,) (foo)", "1:11: parse error: unexpected \",\" in grouping opts, expected label"},
        {"sum by (without) (foo)", "1:9: parse error: unexpected <without> in grouping opts, expected label"},
        {"sum by (\"\") (foo)", "1:9: parse error: invalid label name for grouping: \"\""},
        {"a + on(==) b", "1:8: parse error: unexpected <op:==> in grouping opts, expected label"},
        {"sum(foo) by test",
         "1:13: parse error: unexpected identifier \"test\" in grouping opts, expected \"(\""},
    };
    REFUSE(rows);
}

Test(parse, calls_and_aggregations_check_their_arguments)
{
    static const struct bad rows[] = {
        {"x(1)", "1:1: parse error: unknown function with name \"x\""},
        {"1 + nope(foo)", "1:5: parse error: unknown function with name \"nope\""},
        {"ABS(foo)", "1:1: parse error: unknown function with name \"ABS\""},
        {"abs()", "1:1: parse error: expected 1 argument(s) in call to \"abs\", got 0"},
        {"floor(a, b)", "1:1: parse error: expected 1 argument(s) in call to \"floor\", got 2"},
        {"label_join(a, \"b\")",
         "1:1: parse error: expected at least 3 argument(s) in call to \"label_join\", got 2"},
        {"round(a, 1, 2)", "1:1: parse error: expected at most 2 argument(s) in call to \"round\", got 3"},
        {"year(a, b)", "1:1: parse error: expected at most 1 argument(s) in call to \"year\", got 2"},
        {"abs(foo[5m])",
         "1:5: parse error: expected type instant vector in call to function \"abs\", got range vector"},
        {"rate(foo)",
         "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector"},
        {"rate(sum(foo))",
         "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector"},
        {"vector(\"x\")",
         "1:8: parse error: expected type scalar in call to function \"vector\", got string"},
        {"label_replace(a, 1, \"\", \"\", \"\")",
         "1:18: parse error: expected type string in call to function \"label_replace\", got scalar"},
        {"abs(foo,)", "1:8: parse error: trailing commas not allowed in function call args"},
        {"sum(foo,)", "1:8: parse error: trailing commas not allowed in function call args"},
        {"sum()", "1:1: parse error: no arguments for aggregate expression provided"},
        {"topk(foo)",
         "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1"},
        {"sum(a, b)",
         "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 1, got 2"},
        {"sum(foo[5m])",
         "1:5: parse error: expected type instant vector in aggregation expression, got range vector"},
        {"sum(1)", "1:5: parse error: expected type instant vector in aggregation expression, got scalar"},
        {"topk(\"a\", x)", "1:6: parse error: expected type scalar in aggregation parameter, got string"},
        {"topk(x, x)", "1:6: parse error: expected type scalar in aggregation parameter, got instant vector"},
        {"count_values(5, x)",
         "1:14: parse error: expected type string in aggregation parameter, got scalar"},
        {"info(a, b)", "1:9: parse error: expected label selectors only, got vector selector instead"},
        {"info(a, 1)",
         "1:1: parse error: expected type instant vector in call to function \"info\", got scalar"},
        {"info(a, sum(b))", "1:9: parse error: expected label selectors only"},
    };
    REFUSE(rows);
}

Test(parse, operators_check_their_operands)
{
    static const struct bad rows[] = {
        {"1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"},
        {"1   >=   1", "1:5: parse error: comparisons between scalars must use BOOL modifier"},
        {"a + bool b", "1:3: parse error: bool modifier can only be used on comparison operators"},
        {"a or bool b", "1:3: parse error: bool modifier can only be used on comparison operators"},
        {"1 and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression"},
        {"a or 1", "1:1: parse error: set operator \"or\" not allowed in binary scalar expression"},
        {"a unless 1", "1:1: parse error: set operator \"unless\" not allowed in binary scalar expression"},
        {"a + on(x) 1", "1:1: parse error: vector matching only allowed between instant vectors"},
        {"a and on(x) group_left(y) b", "1:1: parse error: no grouping allowed for \"and\" operation"},
        {"a + on(x) group_left(x) b",
         "1:3: parse error: label \"x\" must not occur in ON and GROUP clause at once"},
        {"a or fill(0) b", "1:1: parse error: filling in missing series not allowed for set operators"},
        {"a + fill(0) 1", "1:1: parse error: filling in missing series only allowed between instant vectors"},
        {"a[5m] + b",
         "1:1: parse error: binary expression must contain only scalar and instant vector types"},
        {"a + \"x\"",
         "1:5: parse error: binary expression must contain only scalar and instant vector types"},
        {"-\"x\"", "1:1: parse error: unary expression only allowed on expressions of type scalar or instant "
                   "vector, got \"string\""},
        {"-foo[5m]", "1:1: parse error: unary expression only allowed on expressions of type scalar or "
                     "instant vector, got \"range vector\""},
        {"1 + (2 == 3)", "1:8: parse error: comparisons between scalars must use BOOL modifier"},
    };
    REFUSE(rows);
}

Test(parse, ranges_offsets_and_at_are_checked)
{
    static const struct bad rows[] = {
        {"foo[0s]", "1:5: parse error: duration must be greater than 0"},
        {"foo[-5m]", "1:5: parse error: duration must be greater than 0"},
        {"foo[0]", "1:5: parse error: duration must be greater than 0"},
        {"foo[5m:0s]", "1:8: parse error: duration must be greater than 0"},
        {"foo[1y1y]", "1:5: parse error: bad number or duration syntax: \"1y1\""},
        {"foo[5m1h]", "1:5: parse error: not a valid duration string: \"5m1h\""},
        {"foo[5m1m]", "1:5: parse error: not a valid duration string: \"5m1m\""},
        {"foo[1.5h]", "1:5: parse error: unknown unit \".\" in duration \"1.5h\""},
        {"foo[5hs]", "1:5: parse error: unknown unit \"hs\" in duration \"5hs\""},
        {"foo[300y]", "1:5: parse error: duration out of range"},
        {"foo[10000000000y]", "1:5: parse error: duration out of range"},
        {"foo[1e10]", "1:5: parse error: duration out of range"},
        {"foo[99999999999999999999999y]",
         "1:5: parse error: not a valid duration string: \"99999999999999999999999y\""},
        {"foo offset 1e10", "1:12: parse error: duration out of range"},
        {"foo[5m / 0]", "1:8: parse error: division by zero"},
        {"foo[5m % 0]", "1:8: parse error: modulo by zero"},
        {"sum(foo)[5m]", "1:9: parse error: ranges only allowed for vector selectors"},
        {"(foo)[5m]", "1:6: parse error: ranges only allowed for vector selectors"},
        {"foo[5m][5m]", "1:8: parse error: ranges only allowed for vector selectors"},
        {"foo offset 5m[5m]", "1:14: parse error: no offset modifiers allowed before range"},
        {"foo @ 5 [5m]", "1:9: parse error: no @ modifiers allowed before range"},
        {"foo offset 5m offset 5m", "1:1: parse error: offset may not be set multiple times"},
        {"foo @ 5 @ 6", "1:1: parse error: @ <timestamp> may not be set multiple times"},
        {"foo @ start() @ 6", "1:1: parse error: @ <timestamp> may not be set multiple times"},
        {"sum(foo) offset 5m", "1:1: parse error: offset modifier must be preceded by an instant vector "
                               "selector or range vector selector or a subquery"},
        {"sum(foo) @ 5", "1:1: parse error: @ modifier must be preceded by an instant vector selector or "
                         "range vector selector or a subquery"},
        {"foo @ nan", "1:1: parse error: timestamp out of bounds for @ modifier: NaN"},
        {"foo @ -inf", "1:1: parse error: timestamp out of bounds for @ modifier: -Inf"},
        {"foo @ 1e400",
         "1:7: parse error: error parsing number: strconv.ParseFloat: parsing \"1e400\": value out of range"},
        {"foo @ 1e20",
         "1:1: parse error: timestamp out of bounds for @ modifier: 100000000000000000000.000000"},
        {"foo[5m:][5m:]", "1:1: parse error: subquery is only allowed on instant vector, got matrix instead"},
        {"1[5m:]", "1:1: parse error: subquery is only allowed on instant vector, got scalar instead"},
        {"foo[5m:] anchored", "1:1: parse error: anchored modifier is not supported for subqueries"},
        {"foo anchored smoothed",
         "1:1: parse error: anchored and smoothed modifiers cannot be used together"},
        {"sum(foo) smoothed", "1:1: parse error: smoothed modifier not implemented"},
        {"1_0_", "1:1: parse error: bad number or duration syntax: \"1_0_\""},
        {"0xee", "1:1: parse error: bad number or duration syntax: \"0xee\""},
    };
    REFUSE(rows);
}

Test(parse, experimental_syntax_can_be_turned_off)
{
    static const struct bad functions[] = {
        {"mad_over_time(a[5m])", "1:1: parse error: function \"mad_over_time\" is not enabled"},
        {"1 + start()", "1:5: parse error: function \"start\" is not enabled"},
        {"limitk(1, a)", "1:1: parse error: limitk() is experimental and must be enabled with "
                         "--enable-feature=promql-experimental-functions"},
    };
    static const struct bad durations[] = {
        {"a[step()]", "1:3: parse error: experimental duration expression is not enabled"},
        {"a[5m + 1m]", "1:3: parse error: experimental duration expression is not enabled"},
        {"a offset (5m)", "1:11: parse error: experimental duration expression is not enabled"},
    };
    static const struct bad ranges[] = {
        {"a[5m] anchored", "1:1: parse error: anchored modifier is experimental and not enabled"},
        {"a smoothed", "1:1: parse error: smoothed modifier is experimental and not enabled"},
    };
    static const struct bad fills[] = {
        {"a + fill(0) b", "1:1: parse error: binop fill modifiers are experimental and not enabled"}};
    refuse(functions, 3, TS_SYNTAX_NO_EXPERIMENTAL_FUNCTIONS);
    refuse(durations, 3, TS_SYNTAX_NO_DURATION_EXPRESSIONS);
    refuse(ranges, 2, TS_SYNTAX_NO_EXTENDED_RANGES);
    refuse(fills, 1, TS_SYNTAX_NO_FILL);
    cr_expect_eq(try_bytes("a[5m] offset -1m", 16, UINT32_MAX), KV_OK);
}

/* ---- limits */

Test(parse, depth_and_length_are_bounded)
{
    static char text[200 * 1024];
    static const struct {
        const char *piece;
        size_t n;
    } rows[] = {{"(", 100000}, {"-", 10000},   {"1^", 10000},   {"(", 8000},  {"-", 4000},
                {"1^", 2000},  {"abs(", 4000}, {"a[5m:", 3000}, {"+ -", 1300}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t len = strlen(rows[i].piece);
        for (size_t k = 0; k < rows[i].n; k++)
            memcpy(text + k * len, rows[i].piece, len);
        text[rows[i].n * len] = '1';
        kv_status rc = try_bytes(text, rows[i].n * len + 1, 0);
        cr_expect(rc == KV_LIMIT || rc == KV_INVALID, "%s x %zu: %s", rows[i].piece, rows[i].n,
                  kv_status_name(rc));
        cr_expect_neq(err.text[0], '\0');
    }
    memset(text, ' ', sizeof text);
    text[0] = '1';
    cr_expect_eq(try_bytes(text, TS_QUERY_LEN_MAX, 0), KV_OK);
    cr_expect_eq(try_bytes(text, TS_QUERY_LEN_MAX + 1, 0), KV_LIMIT);
    cr_expect_str_eq(err.text, "the expression is 16385 bytes long; the limit is 16384 bytes");
}

Test(parse, nesting_works_up_to_its_limit)
{
    char text[1024];
    for (int n = 100; n < 140; n++) {
        memset(text, '(', (size_t)n);
        text[n] = '1';
        memset(text + n + 1, ')', (size_t)n);
        kv_status rc = try_bytes(text, (size_t)(2 * n + 1), 0);
        cr_expect_eq(rc, n < TS_NESTING_MAX ? KV_OK : KV_INVALID, "%d parentheses: %s", n, err.text);
    }
}

Test(parse, long_chains_work_up_to_their_limit)
{
    static char text[8192];
    size_t n = (size_t)snprintf(text, sizeof text, "a");
    for (int i = 0; i < 500; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, " or a");
    cr_expect_eq(try_bytes(text, n, 0), KV_OK, "%s", err.text);
    for (int i = 0; i < 20; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, " or a");
    cr_expect_eq(try_bytes(text, n, 0), KV_INVALID);
}

static int allocations_left;
static bool fail_when_spent(size_t size)
{
    (void)size;
    return allocations_left-- <= 0;
}

Test(parse, any_failed_allocation_is_reported)
{
    const char *query = "sum by (a, b) (rate(foo{x=~\"a.*b|c\",y!~\"d+\"}[5m] offset 1h)) / on(a) "
                        "group_left(q) \"\\x41\"[5m:]";
    kv_status rc = KV_NO_MEMORY;
    for (int n = 0; rc == KV_NO_MEMORY && n < 10000; n++) {
        allocations_left = n;
        kv_mem_should_fail = fail_when_spent;
        rc = try_bytes(query, strlen(query), 0);
        kv_mem_should_fail = NULL;
    }
    cr_expect_eq(rc, KV_INVALID, "%s", kv_status_name(rc)); /* a subquery of a string, in the end */
}

/* ---- what is accepted */

Test(parse, the_language_is_taken)
{
    static const char *const queries[] = {
        "1",
        "+Inf",
        "-nan",
        "0x1F",
        "017",
        "1_000",
        "5m",
        "1h30m * 2",
        "\"x\"",

        "`raw`",
        "foo",
        "foo:bar",
        "sum",
        "by",
        "without",
        "offset",
        "and",
        "or",
        "unless",
        "start",
        "end",
        "step",
        "range",
        "min_of",
        "max_of",
        "anchored",
        "fill",
        "{\"http.requests\"}",
        "{\"http.requests\", \"label name\"=\"x\"}",
        "{__name__=~\"a.+\"}",
        "foo{}",
        "foo{a=\"b\",}",
        "foo{sum=\"x\",by='y',on=`z`,bool!=\"\"}",
        "foo{a=\"b\" , c!=\"d\" ,e=~\"f\",g!~\"h\"}",
        "foo[5m]",
        "foo[300]",
        "foo[1h30m]",
        "foo [ 5m ]",
        "foo{a=\"b\"}[5m] offset 1h @ 100",
        "foo[5m] @ start() offset -1h",
        "foo offset 300",
        "foo @ 1603774568",
        "foo @ -1.5",
        "foo @ +5",
        "foo @ end()",
        "foo[1h:5m]",
        "foo[1h:]",
        "sum(foo)[1h:5m] offset 5m @ 5",
        "rate(foo[5m])[1h:]",
        "foo[step()]",
        "foo[step() * 2 + 1m]",
        "foo[min_of(step(), 5m)]",
        "foo[(5m)]",
        "foo[-(-5m)]",
        "foo[2^3]",
        "foo offset step()",
        "foo offset -step()",
        "foo offset (5m + 1m)",
        "foo offset -(5m * 2)",
        "foo offset max_of(1m, range())",
        "foo[5m] anchored",
        "foo smoothed",
        "foo[5m] smoothed offset 5m",
        "-foo",
        "+foo",
        "--1",
        "- - foo",
        "-1^2",
        "2^-1",
        "2^3^4",
        "a + b * c ^ d",
        "a atan2 b",
        "a % b",
        "a </ 5",
        "a >/ 5",
        "a == bool b",
        "1 < bool 2",
        "a and b or c unless d",
        "a + on() b",
        "a + on(x,) b",
        "a + ignoring(x,y) group_left b",
        "a * on(x) group_right(y, \"z.z\") b",
        "a + fill(0) b",
        "a + fill_left(1) fill_right(-2) b",
        "a == bool on(x) fill_right(inf) b",
        "sum(a)",
        "sum by (x) (a)",
        "sum(a) by (x)",
        "sum without () (a)",
        "SUM(a) BY (x,)",
        "sum by (by, on, bool, \"a.b\") (a)",
        "topk(5, a)",
        "quantile(0.9, a)",
        "count_values(\"x\", a)",
        "limitk(2, a)",
        "limit_ratio(-0.5, a)",
        "topk(scalar(b), a)",
        "abs(a)",
        "time()",
        "pi()",
        "round(a)",
        "round(a, 5)",
        "hour()",
        "hour(a)",
        "label_join(a, \"b\", \"c\")",
        "label_join(a, \"b\", \"c\", \"d\", \"e\")",
        "histogram_quantile(0.9, sum by (le) (rate(a_bucket[5m])))",
        "info(a)",
        "info(a, {b=\"c\"})",
        "info(a, {})",
        "start() + end() + step() + range()",
        "min_of(1, 2)",
        "sort_by_label(a, \"x\", \"y\")",
        "holt_winters(a[5m], 0.5, 0.5)",
        "((a))",
        "(\"x\")",
        "a # comment\n+ b",
        "{\"a\",b=\"c\"}[5m]",
        "sum(sum(sum(a)))",
        "a or b",
        "vector(1) unless on() a",
        "(a[5m])",
    };
    ACCEPT(queries);
}

static struct kv_arena arena;
static struct ts_tree tree;

static struct ts_expr *parsed(const char *query)
{
    cr_assert_eq(ts_parse(kv_slice_str(query), 0, &arena, &tree, &err), KV_OK, "%s: %s", query, err.text);
    return tree.root;
}
static void done(void)
{
    ts_tree_release(&tree);
    kv_arena_release(&arena);
}

Test(parse, numbers_are_read_as_go_reads_them)
{
    static const struct {
        const char *text;
        double value;
    } rows[] = {{"1", 1},
                {".5", .5},
                {"1.", 1},
                {"1e3", 1000},
                {"1E-3", .001},
                {"0x3d", 61},
                {"0X1F", 31},
                {"0x_ff", 255},
                {"1_000", 1000},
                {"017", 15},
                {"08", 8},
                {"1_0.2_5", 10.25},
                {"5m", 300},
                {"1h30m", 5400},
                {"250ms", .25},
                {"-5m", -300},
                {"--2", 2},
                {"1y", 31536000},
                {"9223372036854775807", 9223372036854775807.0},
                {"9223372036854775808", 9223372036854775808.0},
                {"1e-400", 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ts_expr *root = parsed(rows[i].text);
        cr_assert_eq(root->kind, TS_EXPR_NUMBER);
        cr_expect_eq(root->number.value, rows[i].value, "%s: %.17g", rows[i].text, root->number.value);
        done();
    }
}

Test(parse, strings_are_unescaped)
{
    struct ts_expr *root = parsed("\"\\a\\b\\f\\n\\r\\t\\v\\\\\\\"\\x41\\101\\u00e4\\U0001F600\\xff\"");
    cr_expect(kv_slice_equal(root->string, KV_STR("\a\b\f\n\r\t\v\\\"AA\xc3\xa4\xf0\x9f\x98\x80\xff")));
    done();
    cr_expect(kv_slice_equal(parsed("`a\\n`")->string, KV_STR("a\\n")));
    done();
    cr_expect(kv_slice_equal(parsed("'\\''")->string, KV_STR("'")));
    done();
}

Test(parse, precedence_makes_the_tree)
{
    struct ts_expr *root = parsed("a + b * c ^ d ^ e or f");
    cr_assert_eq(root->binary.op, TS_OP_OR);
    struct ts_expr *sum = root->binary.left, *product = sum->binary.right, *power = product->binary.right;
    cr_expect_eq(sum->binary.op, TS_OP_ADD);
    cr_expect_eq(product->binary.op, TS_OP_MUL);
    cr_expect_eq(power->binary.op, TS_OP_POW);
    cr_expect_eq(power->binary.right->binary.op, TS_OP_POW); /* to the right */
    cr_expect_eq(root->height, 6);
    done();
    root = parsed("a - b - c");
    cr_expect_eq(root->binary.left->kind, TS_EXPR_BINARY); /* to the left */
    done();
    root = parsed("-1 ^ 2");
    cr_expect_eq(root->kind, TS_EXPR_UNARY);
    done();
    root = parsed("-a * b");
    cr_expect_eq(root->kind, TS_EXPR_BINARY);
    done();
    root = parsed("a offset 5m ^ 2"); /* the offset is 5m */
    cr_assert_eq(root->kind, TS_EXPR_BINARY);
    cr_expect_eq(root->binary.left->vector.shift.offset.ms, 300000);
    done();
}

Test(parse, selectors_carry_everything)
{
    struct ts_expr *root = parsed("foo{a=\"b\",c=~\"d|e\"}[5m] offset -1h @ 12.345 anchored");
    cr_assert_eq(root->kind, TS_EXPR_MATRIX);
    const struct ts_vector_selector *vector = &root->matrix.vector->vector;
    cr_expect_eq(root->matrix.range.ms, 300000);
    cr_expect_eq(vector->shift.offset.ms, -3600000);
    cr_expect_eq(vector->shift.at, TS_AT_TIME);
    cr_expect_eq(vector->shift.at_ms, 12345);
    cr_expect_eq(vector->mode, TS_RANGE_ANCHORED);
    cr_assert_eq(vector->n_matchers, 3);
    cr_expect(ts_matcher_matches(&vector->matchers[1], KV_STR("e")));
    cr_expect(kv_slice_equal(vector->matchers[2].value, KV_STR("foo"))); /* the name comes last */
    cr_expect_eq(tree.n_regexes, 1);
    done();
}

Test(parse, matching_carries_everything)
{
    struct ts_expr *root = parsed("a == bool on(x, \"y.y\") group_left(z) fill_left(1) b");
    const struct ts_matching *matching = &root->binary.matching;
    cr_expect(root->binary.returns_bool && root->binary.matched && matching->on);
    cr_expect_eq(matching->card, TS_CARD_MANY_TO_ONE);
    cr_expect_eq(matching->n_labels, 2);
    cr_expect(kv_slice_equal(matching->labels[1], KV_STR("y.y")));
    cr_expect_eq(matching->n_include, 1);
    cr_expect(matching->fills_left && !matching->fills_right && matching->fill_left == 1);
    done();
    cr_expect_eq(parsed("a and b")->binary.matching.card, TS_CARD_MANY_TO_MANY);
    done();
    cr_expect_not(parsed("a + 1")->binary.matched);
    done();
}

Test(parse, positions_span_the_text)
{
    struct ts_expr *root = parsed("  sum by (x) ( foo ) + -(bar offset 5m)");
    cr_expect_eq(root->start, 2);
    cr_expect_eq(root->end, 39);
    cr_expect_eq(root->binary.left->start, 2);
    cr_expect_eq(root->binary.left->end, 20);
    cr_expect_eq(root->binary.left->aggregate.expr->start, 15);
    cr_expect_eq(root->binary.right->start, 23);
    uint32_t line, column;
    ts_position(KV_STR("a\nbc"), 3, &line, &column);
    cr_expect_eq(line, 2);
    cr_expect_eq(column, 2);
    done();
}

Test(parse, durations_are_resolved_from_the_query)
{
    struct ts_expr *root = parsed(
        "sum_over_time(a[step() * 2 + 1m] offset -(range() / 2)) + sum_over_time(b[min_of(1h, 7):2^3])");
    cr_assert_eq(ts_durations_resolve(&tree, 1000, 601000, 30000, &err), KV_OK, "%s", err.text);
    struct ts_expr *matrix = root->binary.left->call.args[0], *subquery = root->binary.right->call.args[0];
    cr_expect_eq(matrix->matrix.range.ms, 120000);
    cr_expect_eq(matrix->matrix.vector->vector.shift.offset.ms, -300000);
    cr_expect_eq(subquery->subquery.range.ms, 7000);
    cr_expect_eq(subquery->subquery.step.ms, 8000);
    done();
    parsed("a[5m - 10m]");
    cr_expect_eq(ts_durations_resolve(&tree, 0, 0, 0, &err), KV_INVALID);
    cr_expect_str_eq(err.text, "2:10: duration must be greater than 0");
    done();
    parsed("a[5m / step()]");
    cr_expect_eq(ts_durations_resolve(&tree, 0, 0, 0, &err), KV_INVALID);
    cr_expect_str_eq(err.text, "2:13: division by zero");
    done();
    parsed("a[10 ^ 10]");
    cr_expect_eq(ts_durations_resolve(&tree, 0, 0, 0, &err), KV_INVALID);
    done();
}

Test(parse, a_selector_alone_is_a_selector)
{
    cr_assert_eq(ts_parse_selector(KV_STR("foo{a=\"b\"}"), &arena, &tree, &err), KV_OK);
    cr_expect_eq(tree.root->vector.n_matchers, 2);
    done();
    cr_expect_eq(ts_parse_selector(KV_STR("{}"), &arena, &tree, &err), KV_OK);
    done();
    static const struct bad rows[] = {{"foo[5m]", "1:4: parse error: unexpected \"[\""},
                                      {"foo offset 5m", "1:5: parse error: unexpected <offset>"},
                                      {"sum(foo)", "1:4: parse error: unexpected \"(\""},
                                      {"", "unknown position: parse error: unexpected end of input"},
                                      {"foo + bar", "1:5: parse error: unexpected <op:+>"},
                                      {"5", "1:1: parse error: unexpected number \"5\""}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_expect_eq(ts_parse_selector(kv_slice_str(rows[i].query), &arena, &tree, &err), KV_INVALID);
        cr_expect_str_eq(err.text, rows[i].error, "%s: %s", rows[i].query, err.text);
        done();
    }
}

Test(parse, every_function_is_found_by_its_name)
{
    for (int id = 0; id < TS_FUNCS; id++) {
        const struct ts_func *func = ts_func_get((enum ts_func_id)id);
        cr_expect_eq(func->id, id);
        cr_expect_eq(ts_func_find(kv_slice_str(func->name)), func);
        for (const char *arg = func->args; *arg; arg++)
            cr_expect_neq(ts_func_arg_type(*arg), TS_TYPE_NONE);
    }
    cr_expect_null(ts_func_find(KV_STR("")));
    cr_expect_null(ts_func_find(KV_STR("absx")));
}

/* Lines of a conformance file, if it is there. */
Test(parse, every_compliance_query_is_answered_as_its_mark_says)
{
    FILE *file = fopen("../shared/conformance/promql-compliance/queries.txt", "r");
    char line[4096];
    size_t n = 0;
    if (!file) {
        fprintf(stderr, "SKIPPED: ../shared/conformance/promql-compliance is not there\n");
        return;
    }
    while (fgets(line, sizeof line, file)) {
        size_t len = strcspn(line, "\n");
        const char *query = line;
        if (len == 0 || line[0] == '#')
            continue;
        line[len] = '\0';
        bool may_fail = line[0] == '!'; /* most are refused when they run, not here */
        if (may_fail)
            query = strchr(line, ' ') + 1;
        kv_status rc = try_bytes(query, strlen(query), 0);
        cr_expect(rc == KV_OK || (may_fail && rc == KV_INVALID), "%s: %s", query, err.text);
        n++;
    }
    fclose(file);
    cr_expect_geq(n, 500);
}
