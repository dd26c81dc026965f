/*
 * lex.c - see lex.h. A hand-written scanner; a state is which of three sets of rules applies: braces,
 * durations, all else.
 */
#include "tsdb/promql/lex.h"

#include "kvcore/base/assert.h"
#include "tsdb/promql/quote.h"

#include <stdarg.h>
#include <stdio.h>

_Static_assert(TS_TOK_UNLESS - TS_TOK_ADD == TS_OP_UNLESS - TS_OP_ADD, "operators stand in one order");
_Static_assert(TS_TOK_LIMIT_RATIO - TS_TOK_SUM == TS_AGG_LIMIT_RATIO - TS_AGG_SUM,
               "aggregators stand in one order");

enum { END_OF_TEXT = -1 };

static const char *const tok_texts[] = {
#define X(name, text) text,
    TS_TOK_LIST(X)
#undef X
};

const char *ts_tok_text(enum ts_tok type)
{
    return tok_texts[type];
}

/* ---- characters */

static bool is_space(int c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}
static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}
static bool is_alpha(int c)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static bool is_alnum(int c)
{
    return is_alpha(c) || is_digit(c);
}

/* The byte at the cursor, or END_OF_TEXT. Every character that counts is ASCII; others only end up in strings
 * and messages. */
static int peek(const struct ts_lexer *lexer)
{
    return lexer->at < lexer->text.len ? lexer->text.data[lexer->at] : END_OF_TEXT;
}

/* Takes the next code point. */
static int32_t next_rune(struct ts_lexer *lexer)
{
    if (lexer->at >= lexer->text.len)
        return END_OF_TEXT;
    size_t width;
    uint32_t rune = ts_rune_decode(kv_slice_from(lexer->text, lexer->at), &width);
    lexer->at += (uint32_t)width;
    return (int32_t)rune;
}

static bool is_one_of(const struct ts_lexer *lexer, const char *set)
{
    int c = peek(lexer);
    return c > 0 && strchr(set, c) != NULL;
}

static bool accept(struct ts_lexer *lexer, const char *set)
{
    if (!is_one_of(lexer, set))
        return false;
    lexer->at++;
    return true;
}

static void accept_run(struct ts_lexer *lexer, const char *set)
{
    while (accept(lexer, set)) {
    }
}

/* ---- tokens */

static kv_slice pending(const struct ts_lexer *lexer)
{
    return kv_slice_of(lexer->text.data + lexer->start, lexer->at - lexer->start);
}

static void emit(struct ts_lexer *lexer, enum ts_tok type)
{
    lexer->last = (struct ts_token){.type = type, .start = lexer->start, .text = pending(lexer)};
    lexer->start = lexer->at;
}

/* Always false, so that a failing branch is one statement. */
static bool fail(struct ts_lexer *lexer, const char *format, ...) KV_PRINTF(2, 3);
static bool fail(struct ts_lexer *lexer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(lexer->error, sizeof lexer->error, format, args);
    va_end(args);
    lexer->last = (struct ts_token){.type = TS_TOK_ERROR, .start = lexer->start};
    lexer->ended = true;
    return false;
}

/* "what: 'r'" with r as Go's %q prints a character; the end of text shows as the replacement character. */
static bool fail_rune(struct ts_lexer *lexer, const char *what, int32_t rune, const char *rest)
{
    char quoted[TS_QUOTED_RUNE_MAX];
    size_t n = ts_quote_rune(rune < 0 ? TS_RUNE_BAD : (uint32_t)rune, '\'', quoted);
    return fail(lexer, "%s '%.*s'%s", what, (int)n, quoted, rest);
}

/* As Go's %#U: U+0063 'c'. */
static bool fail_unicode(struct ts_lexer *lexer, const char *before, int32_t rune, const char *after)
{
    char shown[8] = "";
    if (ts_rune_printable((uint32_t)rune)) {
        uint8_t utf8[4];
        size_t n = ts_rune_encode((uint32_t)rune, utf8);
        snprintf(shown, sizeof shown, " '%.*s'", (int)n, (char *)utf8);
    }
    return fail(lexer, "%s U+%04X%s%s", before, (unsigned)rune, shown, after);
}

/* ---- words */

static bool word_is(kv_slice word, const char *keyword)
{
    size_t i = 0;
    for (; i < word.len && keyword[i]; i++) {
        uint8_t c = word.data[i];
        if ((char)(c >= 'A' && c <= 'Z' ? c + 32 : c) != keyword[i])
            return false;
    }
    return i == word.len && !keyword[i];
}

/* TS_TOK_IDENTIFIER when it is none. */
static enum ts_tok word_keyword(kv_slice word)
{
    if (word_is(word, "inf") || word_is(word, "nan"))
        return TS_TOK_NUMBER;
    for (enum ts_tok type = TS_TOK_ADD; type < TS_TOKS; type++)
        if (is_alpha(tok_texts[type][0]) && word_is(word, tok_texts[type]))
            return type;
    return TS_TOK_IDENTIFIER;
}

static bool paren_follows(const struct ts_lexer *lexer)
{
    uint32_t at = lexer->at;
    while (at < lexer->text.len && is_space(lexer->text.data[at]))
        at++;
    return at < lexer->text.len && lexer->text.data[at] == '(';
}

static bool scan_word(struct ts_lexer *lexer)
{
    bool colon = lexer->text.data[lexer->start] == ':';
    for (int c = peek(lexer); is_alnum(c) || c == ':'; c = peek(lexer)) {
        colon |= c == ':';
        lexer->at++;
    }
    enum ts_tok type = word_keyword(pending(lexer));
    /* fill(1) modifies an operator; any other fill is a name, as it was before that existed */
    if (type >= TS_TOK_FILL && type <= TS_TOK_FILL_RIGHT && !paren_follows(lexer))
        type = TS_TOK_IDENTIFIER;
    if (type == TS_TOK_IDENTIFIER && colon)
        type = TS_TOK_METRIC_IDENTIFIER;
    emit(lexer, type);
    return true;
}

static bool is_duration_word_start(int c)
{
    return c == 's' || c == 'r' || c == 'm' || c == 'S' || c == 'R' || c == 'M';
}

/* step, range, min_of, max_of. False: the word is none of them; nothing was emitted. */
static bool scan_duration_word(struct ts_lexer *lexer)
{
    while (is_alpha(peek(lexer)))
        lexer->at++;
    for (enum ts_tok type = TS_TOK_STEP; type <= TS_TOK_MAX_OF; type++)
        if (word_is(pending(lexer), tok_texts[type])) {
            emit(lexer, type);
            return true;
        }
    return false;
}

/* ---- numbers */

/* The exponent or underscore just taken must be followed by something else than another mark. */
static bool number_goes_on(struct ts_lexer *lexer)
{
    return !accept(lexer, "._eE") && peek(lexer) != END_OF_TEXT;
}

/* Takes the longest thing that looks like a number. False: it is none (5m, 1..2, 0x1.8); the cursor stands
 * where that showed. */
static bool scan_number(struct ts_lexer *lexer)
{
    const char *digits = "0123456789", *going = "0123456789._eE";
    uint32_t from = lexer->at;
    bool hex = false, dot = false, exponent = false;
    if (accept(lexer, "0") && accept(lexer, "xX")) {
        accept(lexer, "_");
        hex = true;
        digits = "0123456789abcdefABCDEF";
        going = "0123456789abcdefABCDEF._";
    }
    accept(lexer, ".");
    accept(lexer, digits);
    while (is_one_of(lexer, going)) {
        if ((dot && is_one_of(lexer, ".")) || (exponent && is_one_of(lexer, "eE"))) {
            lexer->at++;
            return false;
        }
        if (accept(lexer, ".")) {
            dot = true;
            if (accept(lexer, "_.") || hex)
                return false;
        } else if (accept(lexer, "eE")) {
            exponent = true;
            accept(lexer, "+-");
            if (!number_goes_on(lexer))
                return false;
        } else if (accept(lexer, "_")) {
            if (!number_goes_on(lexer))
                return false;
        } else {
            accept_run(lexer, digits);
        }
    }
    return lexer->at > from && !is_alnum(peek(lexer));
}

/* What scan_number left over may be a duration: 5m, 1h30m. Whether its units are in order is the parser's
 * matter. */
static bool scan_rest_of_duration(struct ts_lexer *lexer)
{
    if (!accept(lexer, "smhdwy"))
        return false;
    accept(lexer, "s");
    while (accept(lexer, "0123456789")) {
        accept_run(lexer, "0123456789");
        if (!accept(lexer, "smhdw"))
            return false;
        accept(lexer, "s");
    }
    if (!is_alnum(peek(lexer)))
        return true;
    lexer->at++; /* the message shows it */
    return false;
}

static bool scan_number_or_duration(struct ts_lexer *lexer)
{
    if (scan_number(lexer))
        emit(lexer, TS_TOK_NUMBER);
    else if (scan_rest_of_duration(lexer))
        emit(lexer, TS_TOK_DURATION);
    else {
        char quoted[900];
        return fail(lexer, "bad number or duration syntax: %s",
                    ts_quote(pending(lexer), SIZE_MAX, quoted, sizeof quoted));
    }
    lexer->in_duration = false;
    return true;
}

/* ---- strings */

static int digit_value(int32_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return 16;
}

/* Behind a backslash. */
static bool scan_escape(struct ts_lexer *lexer, int quote)
{
    int32_t c = next_rune(lexer);
    int n, base = 16;
    uint32_t max = 0x10ffff, value = 0;
    if (c == quote || (c > 0 && c < 0x80 && strchr("abfnrtv\\", c)))
        return true;
    if (c >= '0' && c <= '7') {
        n = 3, base = 8, max = 255;
    } else if (c == 'x' || c == 'u' || c == 'U') {
        n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        if (c == 'x')
            max = 255;
        c = next_rune(lexer);
    } else if (c == END_OF_TEXT) {
        return fail(lexer, "escape sequence not terminated");
    } else {
        return fail_unicode(lexer, "unknown escape sequence", c, "");
    }
    for (;; c = next_rune(lexer)) {
        if (c == END_OF_TEXT)
            return fail(lexer, "escape sequence not terminated");
        if (digit_value(c) >= base)
            return fail_unicode(lexer, "illegal character", c, " in escape sequence");
        value = value * (uint32_t)base + (uint32_t)digit_value(c);
        if (--n == 0)
            break;
    }
    if (value > max || (value >= 0xd800 && value < 0xe000))
        return fail(lexer, "escape sequence is an invalid Unicode code point");
    return true;
}

/* Behind the opening quote; ` has no escapes and may hold newlines. */
static bool scan_string(struct ts_lexer *lexer, int quote)
{
    for (;;) {
        int32_t c = next_rune(lexer);
        if (c == (int32_t)TS_RUNE_BAD)
            return fail(lexer, "invalid UTF-8 rune");
        if (c == END_OF_TEXT || (c == '\n' && quote != '`'))
            return fail(lexer, quote == '`' ? "unterminated raw string" : "unterminated quoted string");
        if (c == quote)
            break;
        if (c == '\\' && quote != '`' && !scan_escape(lexer, quote))
            return false;
    }
    emit(lexer, TS_TOK_STRING);
    return true;
}

/* ---- the three states. Each takes one token (true) or fails (false). White space and comments are gone
 * already. */

static bool lex_in_braces(struct ts_lexer *lexer)
{
    int32_t c = next_rune(lexer);
    switch (c) {
    case END_OF_TEXT:
        return fail(lexer, "unexpected end of input inside braces");
    case ',':
        emit(lexer, TS_TOK_COMMA);
        return true;
    case '"':
    case '\'':
    case '`':
        return scan_string(lexer, c);
    case '=':
        emit(lexer, accept(lexer, "~") ? TS_TOK_EQL_REGEX : TS_TOK_EQL);
        return true;
    case '!':
        c = next_rune(lexer);
        if (c != '~' && c != '=')
            return fail_rune(lexer, "unexpected character after '!' inside braces:", c, "");
        emit(lexer, c == '~' ? TS_TOK_NEQ_REGEX : TS_TOK_NEQ);
        return true;
    case '{':
        return fail(lexer, "unexpected left brace '{'");
    case '}':
        emit(lexer, TS_TOK_RIGHT_BRACE);
        lexer->brace_open = false;
        return true;
    default:
        break;
    }
    if (!is_alpha(c))
        return fail_rune(lexer, "unexpected character inside braces:", c, "");
    while (is_alnum(peek(lexer)))
        lexer->at++;
    emit(lexer, TS_TOK_IDENTIFIER);
    return true;
}

static bool lex_paren(struct ts_lexer *lexer, int32_t c)
{
    emit(lexer, c == '(' ? TS_TOK_LEFT_PAREN : TS_TOK_RIGHT_PAREN);
    lexer->paren_depth += c == '(' ? 1 : -1;
    return lexer->paren_depth >= 0 || fail(lexer, "unexpected right parenthesis ')'");
}

/* +, -, *, /, %, ^ and comma: the same everywhere. TS_TOK_EOF: c is none of them. */
static enum ts_tok simple_token(int32_t c)
{
    switch (c) {
    case '+':
        return TS_TOK_ADD;
    case '-':
        return TS_TOK_SUB;
    case '*':
        return TS_TOK_MUL;
    case '/':
        return TS_TOK_DIV;
    case '%':
        return TS_TOK_MOD;
    case '^':
        return TS_TOK_POW;
    case ',':
        return TS_TOK_COMMA;
    default:
        return TS_TOK_EOF;
    }
}

static bool lex_in_duration(struct ts_lexer *lexer)
{
    int32_t c = next_rune(lexer);
    if (simple_token(c) != TS_TOK_EOF) {
        emit(lexer, simple_token(c));
        return true;
    }
    if (c == END_OF_TEXT)
        return fail(lexer, "unexpected end of input in duration expression");
    if (c == '(' || c == ')')
        return lex_paren(lexer, c);
    if (c == ']') {
        emit(lexer, TS_TOK_RIGHT_BRACKET);
        lexer->bracket_open = lexer->got_colon = lexer->in_duration = false;
        return true;
    }
    if (c == ':') {
        emit(lexer, TS_TOK_COLON);
        if (!lexer->got_duration)
            return fail(lexer, "unexpected colon before duration in duration expression");
        if (lexer->got_colon)
            return fail(lexer, "unexpected repeated colon in duration expression");
        lexer->got_colon = true;
        return true;
    }
    if (is_digit(c) || (c == '.' && is_digit(peek(lexer)))) {
        lexer->at--;
        lexer->got_duration = true;
        return scan_number_or_duration(lexer);
    }
    if (is_duration_word_start(c) && scan_duration_word(lexer))
        return true;
    return fail_rune(lexer, "unexpected character in duration expression:", c, "");
}

/* <, <=, </, =, ==, and their kin. */
static bool lex_comparison(struct ts_lexer *lexer, int32_t c)
{
    switch (c) {
    case '=':
        if (peek(lexer) == '~')
            return fail(lexer, "unexpected character after '=': '~'");
        emit(lexer, accept(lexer, "=") ? TS_TOK_EQLC : TS_TOK_EQL);
        return true;
    case '!':
        c = next_rune(lexer);
        if (c != '=')
            return fail_rune(lexer, "unexpected character after '!':", c, "");
        emit(lexer, TS_TOK_NEQ);
        return true;
    case '<':
        emit(lexer, accept(lexer, "=") ? TS_TOK_LTE : accept(lexer, "/") ? TS_TOK_TRIM_UPPER : TS_TOK_LSS);
        return true;
    default:
        emit(lexer, accept(lexer, "=") ? TS_TOK_GTE : accept(lexer, "/") ? TS_TOK_TRIM_LOWER : TS_TOK_GTR);
        return true;
    }
}

static bool lex_bracket(struct ts_lexer *lexer, int32_t c)
{
    if (c == '[') {
        if (lexer->bracket_open)
            return fail(lexer, "unexpected left bracket '['");
        emit(lexer, TS_TOK_LEFT_BRACKET);
        lexer->bracket_open = lexer->in_duration = true;
        lexer->got_colon = false;
        return true;
    }
    if (!lexer->bracket_open)
        return fail(lexer, "unexpected right bracket ']'");
    emit(lexer, TS_TOK_RIGHT_BRACKET);
    lexer->bracket_open = false;
    return true;
}

/* A word or a colon; inside [ ] only the colon and the words of durations. c is taken already. */
static bool lex_word(struct ts_lexer *lexer, int32_t c)
{
    if (!lexer->bracket_open)
        return scan_word(lexer);
    if (c == ':') {
        if (lexer->got_colon)
            return fail(lexer, "unexpected colon ':'");
        emit(lexer, TS_TOK_COLON);
        lexer->got_colon = true;
        return true;
    }
    if (is_duration_word_start(c) && scan_duration_word(lexer))
        return true;
    return fail_rune(lexer, "unexpected character:", c, ", expected ':'");
}

static bool lex_end(struct ts_lexer *lexer)
{
    if (lexer->paren_depth != 0)
        return fail(lexer, "unclosed left parenthesis");
    if (lexer->bracket_open)
        return fail(lexer, "unclosed left bracket");
    emit(lexer, TS_TOK_EOF);
    lexer->ended = true;
    return true;
}

static bool lex_statement(struct ts_lexer *lexer)
{
    int32_t c = next_rune(lexer);
    if (simple_token(c) != TS_TOK_EOF) {
        emit(lexer, simple_token(c));
        return true;
    }
    switch (c) {
    case END_OF_TEXT:
        return lex_end(lexer);
    case '=':
    case '!':
    case '<':
    case '>':
        return lex_comparison(lexer, c);
    case '"':
    case '\'':
    case '`':
        return scan_string(lexer, c);
    case '(':
    case ')':
        return lex_paren(lexer, c);
    case '[':
    case ']':
        return lex_bracket(lexer, c);
    case '{':
        emit(lexer, TS_TOK_LEFT_BRACE);
        lexer->brace_open = true;
        return true;
    case '@':
        emit(lexer, TS_TOK_AT);
        return true;
    default:
        break;
    }
    if (is_digit(c) || (c == '.' && is_digit(peek(lexer)))) {
        lexer->at--;
        return scan_number_or_duration(lexer);
    }
    if (is_alpha(c) || c == ':')
        return lex_word(lexer, c);
    return fail_rune(lexer, "unexpected character:", c, "");
}

/* Behind [ a '#' is no comment. */
static void skip_blanks(struct ts_lexer *lexer)
{
    for (;;) {
        while (is_space(peek(lexer)))
            lexer->at++;
        lexer->start = lexer->at;
        if (peek(lexer) != '#' || lexer->in_duration)
            return;
        while (peek(lexer) != '\n' && peek(lexer) != '\r' && peek(lexer) != END_OF_TEXT)
            lexer->at++;
    }
}

void ts_lexer_init(struct ts_lexer *lexer, kv_slice text)
{
    KV_ASSERT(text.len <= UINT32_MAX);
    *lexer = (struct ts_lexer){.text = text};
}

void ts_lexer_next(struct ts_lexer *lexer, struct ts_token *out)
{
    if (!lexer->ended) {
        skip_blanks(lexer);
        if (++lexer->n_tokens > TS_TOKENS_MAX)
            fail(lexer, "the expression has more than %d tokens", TS_TOKENS_MAX);
        else if (lexer->brace_open)
            lex_in_braces(lexer);
        else if (lexer->in_duration)
            lex_in_duration(lexer);
        else
            lex_statement(lexer);
    }
    *out = lexer->last;
}
