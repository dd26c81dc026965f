/* parse_literal.c - numbers, durations and strings as they are written. */
#include "tsdb/promql/parse_int.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/number.h"
#include "tsdb/promql/quote.h"

#include <math.h>

enum {
    NUMBER_LEN_MAX = 2048
}; /* digits beyond would be refused as out of range or are noise; bounded for the stack's sake */

/* ---- numbers, as Go reads them: 017 is octal, 0x1F hexadecimal, _ may stand between digits and behind 0x */

/* Copies without underscores. False: one does not stand between digits. */
static bool strip_underscores(kv_slice text, char out[NUMBER_LEN_MAX])
{
    bool hex = text.len > 2 && text.data[0] == '0' && (text.data[1] | 32) == 'x';
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c != '_') {
            out[n++] = (char)c;
            continue;
        }
        uint8_t before = i ? text.data[i - 1] : 0, after = i + 1 < text.len ? text.data[i + 1] : 0;
        bool digit_before = (before >= '0' && before <= '9') || (hex && i == 2) ||
                            (hex && (before | 32) >= 'a' && (before | 32) <= 'f');
        bool digit_after =
            (after >= '0' && after <= '9') || (hex && (after | 32) >= 'a' && (after | 32) <= 'f');
        if (!digit_before || !digit_after)
            return false;
    }
    out[n] = '\0';
    return true;
}

static bool number_error(struct ts_parser *p, struct ts_token token, const char *why)
{
    char quoted[2400];
    return ts_parse_fail(p, token.start, "error parsing number: strconv.ParseFloat: parsing %s: %s",
                         ts_quote(token.text, SIZE_MAX, quoted, sizeof quoted), why);
}

/* Digits alone or with 0x. KV_NOT_FOUND: not that; KV_INVALID: more than 63 bits. */
static kv_status take_integer(const char *text, double *value)
{
    bool prefixed = text[0] == '0' && text[1] != '\0', hex = prefixed && (text[1] | 32) == 'x';
    uint64_t base = hex ? 16 : prefixed ? 8 : 10, integer = 0;
    size_t i = hex ? 2 : 0;
    if (text[i] == '\0')
        return KV_NOT_FOUND;
    for (; text[i]; i++) {
        char c = text[i];
        uint64_t digit = 99;
        if (c >= '0' && c <= '9')
            digit = (uint64_t)(c - '0');
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            digit = (uint64_t)(c | 32) - 'a' + 10;
        if (digit >= base)
            return KV_NOT_FOUND; /* 08, 1.5, 1e3: perhaps a float */
        if (__builtin_mul_overflow(integer, base, &integer) ||
            __builtin_add_overflow(integer, digit, &integer) || integer > INT64_MAX)
            return KV_INVALID;
    }
    *value = (double)(int64_t)integer;
    return KV_OK;
}

static bool parse_plain_number(struct ts_parser *p, struct ts_token token, double *value)
{
    char text[NUMBER_LEN_MAX];
    if (token.text.len >= sizeof text || !strip_underscores(token.text, text))
        return number_error(p, token, "invalid syntax");
    if (token.text.len == 3 && (text[0] | 32) == 'i') { /* the lexer lets nothing else begin with i or n */
        *value = INFINITY;
        return true;
    }
    if (token.text.len == 3 && (text[0] | 32) == 'n') {
        *value = NAN;
        return true;
    }
    if (take_integer(text, value) == KV_OK)
        return true;
    /* a float in hexadecimal would need its p exponent, which the lexer does not take */
    size_t n = strlen(text);
    if (kv_double_parse(kv_slice_of(text, n), value) != n)
        return number_error(p, token, "invalid syntax");
    if (isinf(*value))
        return number_error(p, token, "value out of range");
    return true;
}

/* ---- durations: 1h30m, largest unit first, each once */

static const struct duration_unit {
    const char *name;
    int rank;
    uint64_t ms;
} duration_units[] = {
    {"y", 1, UINT64_C(365) * 24 * 3600 * 1000},
    {"w", 2, UINT64_C(7) * 24 * 3600 * 1000},
    {"d", 3, UINT64_C(24) * 3600 * 1000},
    {"h", 4, UINT64_C(3600) * 1000},
    {"m", 5, UINT64_C(60) * 1000},
    {"s", 6, 1000},
    {"ms", 7, 1},
};

static const struct duration_unit *duration_unit(kv_slice name)
{
    for (size_t i = 0; i < sizeof duration_units / sizeof duration_units[0]; i++)
        if (kv_slice_equal(kv_slice_str(duration_units[i].name), name))
            return &duration_units[i];
    return NULL;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* Takes digits off the front. False: none, or more than 64 bits. */
static bool take_digits(kv_slice *rest, uint64_t *value)
{
    size_t i = 0;
    *value = 0;
    for (; i < rest->len && is_digit(rest->data[i]); i++)
        if (__builtin_mul_overflow(*value, UINT64_C(10), value) ||
            __builtin_add_overflow(*value, (uint64_t)(rest->data[i] - '0'), value))
            return false;
    *rest = kv_slice_from(*rest, i);
    return i > 0;
}

static bool parse_duration_text(struct ts_parser *p, struct ts_token token, double *seconds)
{
    static const uint64_t ms_max = INT64_MAX / 1000000; /* Prometheus counts nanoseconds in 63 bits */
    char quoted[900], unit_quoted[64];
    kv_slice rest = token.text;
    uint64_t total = 0;
    int rank = 0;
    while (rest.len > 0) {
        uint64_t value;
        size_t n = 0;
        bool ok = take_digits(&rest, &value);
        while (n < rest.len && !is_digit(rest.data[n]))
            n++;
        const struct duration_unit *unit = duration_unit(kv_slice_of(rest.data, n));
        if (ok && n > 0 && !unit)
            return ts_parse_fail(
                p, token.start, "unknown unit %s in duration %s",
                ts_quote(kv_slice_of(rest.data, n), SIZE_MAX, unit_quoted, sizeof unit_quoted),
                ts_quote(token.text, SIZE_MAX, quoted, sizeof quoted));
        if (!ok || n == 0 || unit->rank <= rank)
            return ts_parse_fail(p, token.start, "not a valid duration string: %s",
                                 ts_quote(token.text, SIZE_MAX, quoted, sizeof quoted));
        rank = unit->rank;
        if (value > ms_max / unit->ms || (total += value * unit->ms) > ms_max)
            return ts_parse_fail(p, token.start, "duration out of range");
        rest = kv_slice_from(rest, n);
    }
    uint64_t whole = total / 1000;
    *seconds = (double)whole + (double)(total % 1000) / 1e3;
    return true;
}

bool ts_parse_number(struct ts_parser *p, struct ts_token token, double *value)
{
    *value = 0;
    return token.type == TS_TOK_DURATION ? parse_duration_text(p, token, value)
                                         : parse_plain_number(p, token, value);
}

/* ---- strings. The lexer has checked quotes and escapes. */

static uint32_t take_code(const uint8_t *at, size_t n, uint32_t base)
{
    uint32_t value = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = at[i];
        value = value * base + (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return value;
}

/* Writes what the escape behind a backslash stands for; returns the bytes of text it took. */
static size_t unescape(const uint8_t *at, uint8_t *out, size_t *n)
{
    static const char letters[] = "abtnvfr"; /* 7 to 13 */
    const char *letter = strchr(letters, *at);
    if (*at >= '0' && *at <= '7') {
        out[(*n)++] = (uint8_t)take_code(at, 3, 8);
        return 3;
    }
    if (*at == 'x') {
        out[(*n)++] = (uint8_t)take_code(at + 1, 2, 16);
        return 3;
    }
    if (*at == 'u' || *at == 'U') {
        size_t digits = *at == 'u' ? 4 : 8;
        *n += ts_rune_encode(take_code(at + 1, digits, 16), out + *n);
        return 1 + digits;
    }
    out[(*n)++] = letter ? (uint8_t)(7 + (letter - letters)) : *at;
    return 1;
}

bool ts_parse_unquote(struct ts_parser *p, struct ts_token token, kv_slice *out)
{
    KV_ASSERT(token.text.len >= 2);
    kv_slice inner = kv_slice_of(token.text.data + 1, token.text.len - 2);
    *out = inner;
    if (token.text.data[0] == '`' || inner.len == 0 || !memchr(inner.data, '\\', inner.len))
        return true;
    uint8_t *plain = ts_parse_alloc(p, inner.len + 4);
    if (!plain)
        return false;
    size_t n = 0;
    for (size_t i = 0; i < inner.len;) {
        if (inner.data[i] != '\\')
            plain[n++] = inner.data[i++];
        else
            i += 1 + unescape(inner.data + i + 1, plain, &n);
    }
    *out = kv_slice_of(plain, n);
    return true;
}
