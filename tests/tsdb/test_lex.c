#include "tsdb/promql/lex.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* Tokens of text as "TYPE:text TYPE:text", or the error. */
static void lex(const char *text, size_t len, char out[2048])
{
    static const char *const names[] = {
#define X(name, canonical) #name,
        TS_TOK_LIST(X)
#undef X
    };
    struct ts_lexer lexer;
    struct ts_token token;
    size_t n = 0;
    ts_lexer_init(&lexer, kv_slice_of(text, len));
    out[0] = '\0';
    for (ts_lexer_next(&lexer, &token); token.type != TS_TOK_EOF; ts_lexer_next(&lexer, &token)) {
        if (token.type == TS_TOK_ERROR) {
            snprintf(out, 2048, "%u: %s", token.start, lexer.error);
            return;
        }
        n += (size_t)snprintf(out + n, 2048 - n, "%s%s:%.*s", n ? " " : "", names[token.type],
                              KV_ARG(token.text));
    }
}

struct row {
    const char *text, *tokens;
};

static void check(const struct row *rows, size_t n)
{
    char got[2048];
    for (size_t i = 0; i < n; i++) {
        lex(rows[i].text, strlen(rows[i].text), got);
        cr_expect_str_eq(got, rows[i].tokens, "%s\n  got      %s\n  expected %s", rows[i].text, got,
                         rows[i].tokens);
    }
}
#define CHECK(rows) check(rows, sizeof(rows) / sizeof((rows)[0]))

Test(lex, numbers_and_durations_are_told_apart)
{
    static const struct row rows[] = {
        {"1 .5 1. 1e3 1E-3", "NUMBER:1 NUMBER:.5 NUMBER:1. NUMBER:1e3 NUMBER:1E-3"},
        {"0x3d 0X1F 0x_ff 1_000", "NUMBER:0x3d NUMBER:0X1F NUMBER:0x_ff NUMBER:1_000"},
        {"inf NaN -INF", "NUMBER:inf NUMBER:NaN SUB:- NUMBER:INF"},
        {"5m 1h30m 250ms 1y2w3d", "DURATION:5m DURATION:1h30m DURATION:250ms DURATION:1y2w3d"},
        {"5m1 ", "0: bad number or duration syntax: \"5m1\""},
        {"1..2", "0: bad number or duration syntax: \"1..\""},
        {"1_e5", "0: bad number or duration syntax: \"1_e\""},
        {"1__0", "0: bad number or duration syntax: \"1__\""},
        {"1_", "0: bad number or duration syntax: \"1_\""},
        {"1e", "0: bad number or duration syntax: \"1e\""},
        {"1e+e", "0: bad number or duration syntax: \"1e+e\""},
        {"0x1.8", "0: bad number or duration syntax: \"0x1.\""},
        {"1foo", "0: bad number or duration syntax: \"1\""},
        {"  3x", "2: bad number or duration syntax: \"3\""},
    };
    CHECK(rows);
}

Test(lex, words_are_keywords_in_any_case_and_names_elsewhere)
{
    static const struct row rows[] = {
        {"SUM By OFFSET oN", "SUM:SUM BY:By OFFSET:OFFSET ON:oN"},
        {"foo foo:bar :x _", "IDENTIFIER:foo METRIC_IDENTIFIER:foo:bar METRIC_IDENTIFIER::x IDENTIFIER:_"},
        {"{sum=\"x\"}", "LEFT_BRACE:{ IDENTIFIER:sum EQL:= STRING:\"x\" RIGHT_BRACE:}"},
        {"fill fill (1)", "IDENTIFIER:fill FILL:fill LEFT_PAREN:( NUMBER:1 RIGHT_PAREN:)"},
        {"start end step range min_of max_of",
         "START:start END:end STEP:step RANGE:range MIN_OF:min_of MAX_OF:max_of"},
        {"atan2 and or unless", "ATAN2:atan2 AND:and OR:or UNLESS:unless"},
    };
    CHECK(rows);
}

Test(lex, operators_take_the_longest)
{
    static const struct row rows[] = {
        {"== != <= < >= > </ >/", "EQLC:== NEQ:!= LTE:<= LSS:< GTE:>= GTR:> TRIM_UPPER:</ TRIM_LOWER:>/"},
        {"+-*/%^@,", "ADD:+ SUB:- MUL:* DIV:/ MOD:% POW:^ AT:@ COMMA:,"},
        {"{a=~\"b\",c!~'d',e!=`f`}",
         "LEFT_BRACE:{ IDENTIFIER:a EQL_REGEX:=~ STRING:\"b\" COMMA:, IDENTIFIER:c "
         "NEQ_REGEX:!~ STRING:'d' COMMA:, IDENTIFIER:e NEQ:!= STRING:`f` RIGHT_BRACE:}"},
        {"a =~ b", "2: unexpected character after '=': '~'"},
        {"a ! b", "2: unexpected character after '!': ' '"},
        {"!", "0: unexpected character after '!': '\xef\xbf\xbd'"},
        {"$", "0: unexpected character: '$'"},
        {"{a ! b}", "3: unexpected character after '!' inside braces: ' '"},
        {"{1}", "1: unexpected character inside braces: '1'"},
        {"{a{", "2: unexpected left brace '{'"},
    };
    CHECK(rows);
}

Test(lex, strings_know_their_quotes_and_escapes)
{
    static const struct row rows[] = {
        {"\"a\\\"b\" 'c\\'d' `e\\`", "STRING:\"a\\\"b\" STRING:'c\\'d' STRING:`e\\`"},
        {"\"\\a\\b\\f\\n\\r\\t\\v\\\\\\x41\\101\\u00e4\\U0001F600\"",
         "STRING:\"\\a\\b\\f\\n\\r\\t\\v\\\\\\x41\\101\\u00e4\\U0001F600\""},
        {"`a\nb`", "STRING:`a\nb`"},
        {"\"abc", "0: unterminated quoted string"},
        {" 'a\nb'", "1: unterminated quoted string"},
        {"`abc", "0: unterminated raw string"},
        {"\"\\c\"", "0: unknown escape sequence U+0063 'c'"},
        {"'\\\"'", "0: unknown escape sequence U+0022 '\"'"},
        {"\"\\x.1\"", "0: illegal character U+002E '.' in escape sequence"},
        {"\"\\ud800\"", "0: escape sequence is an invalid Unicode code point"},
        {"\"\\U00110000\"", "0: escape sequence is an invalid Unicode code point"},
        {"\"\\400\"", "0: escape sequence is an invalid Unicode code point"},
        {"\"\\", "0: escape sequence not terminated"},
        {"\"\\x4", "0: escape sequence not terminated"},
        {"\"\xff\"", "0: invalid UTF-8 rune"},
        {"`\xc3(`", "0: invalid UTF-8 rune"},
    };
    CHECK(rows);
}

Test(lex, brackets_hold_durations_only)
{
    static const struct row rows[] = {
        {"a[5m]", "IDENTIFIER:a LEFT_BRACKET:[ DURATION:5m RIGHT_BRACKET:]"},
        {"a[ 1h : 5m ]", "IDENTIFIER:a LEFT_BRACKET:[ DURATION:1h COLON:: DURATION:5m RIGHT_BRACKET:]"},
        {"a[step()*2:]",
         "IDENTIFIER:a LEFT_BRACKET:[ STEP:step LEFT_PAREN:( RIGHT_PAREN:) MUL:* NUMBER:2 COLON:: "
         "RIGHT_BRACKET:]"},
        {"a[:5m]", "3: unexpected colon before duration in duration expression"},
        {"a[5m::", "5: unexpected colon ':'"},
        {"a[", "2: unexpected end of input in duration expression"},
        {"a[5m", "4: unclosed left bracket"},
        {"a[5m[", "4: unexpected left bracket '['"},
        {"a]", "1: unexpected right bracket ']'"},
        {"a[foo]", "2: unexpected character in duration expression: 'f'"},
        {"a[5m foo]", "5: unexpected character: 'f', expected ':'"},
        {"a[\"5m\"]", "2: unexpected character in duration expression: '\"'"},
        {"a[# 5m", "2: unexpected character in duration expression: '#'"},
    };
    CHECK(rows);
}

Test(lex, blanks_and_comments_are_skipped)
{
    static const struct row rows[] = {
        {"", ""},
        {" \t\r\n", ""},
        {"# nothing", ""},
        {"a # b\n+ # c\r d", "IDENTIFIER:a ADD:+ IDENTIFIER:d"},
        {"{ # x }\n}", "LEFT_BRACE:{ RIGHT_BRACE:}"},
        {"\"# no comment\"", "STRING:\"# no comment\""},
    };
    CHECK(rows);
}

Test(lex, what_is_opened_must_be_closed)
{
    static const struct row rows[] = {
        {"(1", "2: unclosed left parenthesis"},
        {"1)", "2: unexpected right parenthesis ')'"},
        {"{a", "2: unexpected end of input inside braces"},
        {"{", "1: unexpected end of input inside braces"},
    };
    CHECK(rows);
}

Test(lex, bytes_that_are_no_text_are_refused)
{
    char got[2048];
    lex("a\0b", 3, got);
    cr_expect_str_eq(got, "1: unexpected character: '\\x00'");
    lex("\xff", 1, got);
    cr_expect_str_eq(got, "0: unexpected character: '\xef\xbf\xbd'");
    lex("\xe2\x80\x9cx\xe2\x80\x9d", 7, got); /* quotes of a word processor */
    cr_expect_str_eq(got, "0: unexpected character: '\xe2\x80\x9c'");
}

Test(lex, an_end_is_an_end_and_tokens_are_bounded)
{
    struct ts_lexer lexer;
    struct ts_token token;
    static char many[2 * TS_TOKENS_MAX + 64];
    ts_lexer_init(&lexer, KV_STR("a"));
    for (int i = 0; i < 5; i++)
        ts_lexer_next(&lexer, &token);
    cr_expect_eq(token.type, TS_TOK_EOF);
    memset(many, '+', sizeof many);
    ts_lexer_init(&lexer, kv_slice_of(many, sizeof many));
    for (size_t i = 0; i <= sizeof many; i++)
        ts_lexer_next(&lexer, &token);
    cr_expect_eq(token.type, TS_TOK_ERROR);
    cr_expect_eq(lexer.n_tokens, TS_TOKENS_MAX + 1);
}
