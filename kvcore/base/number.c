#include "kvcore/base/number.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/number_pow10.h"

#include <math.h>
#include <stdlib.h>

typedef unsigned __int128 u128;

enum { SIGNIFICAND_BITS = 52, EXPONENT_BIAS = 1075 };
static const uint64_t HIDDEN_BIT = UINT64_C(1) << SIGNIFICAND_BITS;

/* ---- format */

static int32_t floor_log2_pow10(int32_t e)
{
    return (e * 1741647) >> 19; /* exact for |e| <= 1233 */
}

/* The upper 64 of the 192 bits of g * cp, with the last bit set if anything was cut off (one unit of g's
 * rounding aside). */
static uint64_t round_to_odd(const uint64_t g[2], uint64_t cp)
{
    u128 x = (u128)g[1] * cp;
    u128 y = (u128)g[0] * cp + (uint64_t)(x >> 64);
    return (uint64_t)(y >> 64) | ((uint64_t)y > 1);
}

/* Schubfach: of the decimals with exponent k or k + 1 in the rounding interval of significand * 2^q, the
 * shortest, then the closest. */
static uint64_t shortest_digits(uint64_t significand, int32_t q, bool lower_is_closer, int *exponent)
{
    bool odd = significand & 1;
    uint64_t cb = 4 * significand;
    uint64_t cbl = cb - 2 + lower_is_closer;
    uint64_t cbr = cb + 2;
    int32_t k = (q * 1262611 - (lower_is_closer ? 524031 : 0)) >> 22; /* floor(log10(2^q or 3/4 * 2^q)) */
    int32_t h = q + floor_log2_pow10(-k) + 1;
    const uint64_t *g = kv_pow10[-k - KV_POW10_MIN];
    uint64_t vbl = round_to_odd(g, cbl << h);
    uint64_t vb = round_to_odd(g, cb << h);
    uint64_t vbr = round_to_odd(g, cbr << h);
    uint64_t lower = vbl + odd, upper = vbr - odd;
    uint64_t s = vb / 4;
    if (s >= 10) {
        uint64_t sp = s / 10;
        bool up_inside = lower <= 40 * sp, wp_inside = 40 * sp + 40 <= upper;
        if (up_inside != wp_inside) {
            *exponent = k + 1;
            return sp + wp_inside;
        }
    }
    *exponent = k;
    bool u_inside = lower <= 4 * s, w_inside = 4 * s + 4 <= upper;
    if (u_inside != w_inside)
        return s + w_inside;
    uint64_t middle = 4 * s + 2;
    return s + (vb > middle || (vb == middle && (s & 1)));
}

/* Decimals of at most 15 digits are told apart by every double, so one that reads back is the shortest there
 * is. */
static bool short_decimal(double v, uint64_t *digits, int *exponent)
{
    static const double scales[] = {1, 1e3, 1e6};
    for (int i = 0; i < 3; i++) {
        double scaled = v * scales[i];
        if (scaled >= 1e15)
            return false;
        uint64_t whole = (uint64_t)scaled;
        if ((double)whole == scaled && whole && (double)whole / scales[i] == v) {
            *digits = whole;
            *exponent = -3 * i;
            return true;
        }
    }
    return false;
}

void kv_double_shortest(double v, uint64_t *digits, int *exponent)
{
    v = fabs(v);
    KV_ASSERT(v > 0 && v <= 1.7976931348623157e308);
    if (!short_decimal(v, digits, exponent)) {
        uint64_t bits;
        memcpy(&bits, &v, sizeof bits);
        uint64_t fraction = bits & (HIDDEN_BIT - 1);
        int32_t biased = (int32_t)(bits >> SIGNIFICAND_BITS);
        uint64_t significand = biased ? fraction | HIDDEN_BIT : fraction;
        int32_t q = (biased ? biased : 1) - EXPONENT_BIAS;
        *digits = shortest_digits(significand, q, fraction == 0 && biased > 1, exponent);
    }
    while (*digits % 10 == 0) {
        *digits /= 10;
        *exponent += 1;
    }
}

static const char DIGIT_PAIRS[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
    "8081828384858687888990919293949596979899";

/* Writes v in decimal so that it ends at `end`; returns where it begins. */
static char *write_digits(char *end, uint64_t v)
{
    while (v >= 100) {
        end -= 2;
        memcpy(end, DIGIT_PAIRS + 2 * (v % 100), 2);
        v /= 100;
    }
    if (v >= 10) {
        end -= 2;
        memcpy(end, DIGIT_PAIRS + 2 * v, 2);
    } else {
        *--end = (char)('0' + v);
    }
    return end;
}

/* d.ddde+XX */
static size_t write_exponent(char *out, const char *digits, int n, int exponent)
{
    char *p = out;
    *p++ = digits[0];
    if (n > 1) {
        *p++ = '.';
        memcpy(p, digits + 1, (size_t)(n - 1));
        p += n - 1;
    }
    int e = exponent + n - 1;
    *p++ = 'e';
    *p++ = e < 0 ? '-' : '+';
    e = e < 0 ? -e : e;
    if (e >= 100)
        *p++ = (char)('0' + e / 100);
    memcpy(p, DIGIT_PAIRS + 2 * (e % 100), 2);
    return (size_t)(p + 2 - out);
}

/* Plain digits with a point where it belongs. */
static size_t write_plain(char *out, const char *digits, int n, int exponent)
{
    int point = n + exponent; /* digits before the point */
    if (exponent >= 0) {
        memcpy(out, digits, (size_t)n);
        memset(out + n, '0', (size_t)exponent);
        return (size_t)point;
    }
    if (point > 0) {
        memcpy(out, digits, (size_t)point);
        out[point] = '.';
        memcpy(out + point + 1, digits + point, (size_t)(n - point));
        return (size_t)n + 1;
    }
    memcpy(out, "0.", 2);
    memset(out + 2, '0', (size_t)-point);
    memcpy(out + 2 - point, digits, (size_t)n);
    return 2 + (size_t)-point + (size_t)n;
}

static size_t format(double v, char *out, int exponent_below)
{
    if (!isfinite(v)) {
        const char *text = isnan(v) ? "NaN" : v > 0 ? "+Inf" : "-Inf";
        memcpy(out, text, 4);
        return isnan(v) ? 3 : 4;
    }
    size_t sign = signbit(v) ? 1 : 0;
    out[0] = '-';
    if (v == 0) {
        out[sign] = '0';
        return sign + 1;
    }
    uint64_t digits;
    int exponent;
    kv_double_shortest(v, &digits, &exponent);
    char text[20];
    char *first = write_digits(text + sizeof text, digits);
    int n = (int)(text + sizeof text - first);
    int magnitude = n + exponent - 1; /* |v| = d.ddd * 10^magnitude */
    if (magnitude < exponent_below || magnitude >= 21)
        return sign + write_exponent(out + sign, first, n, exponent);
    return sign + write_plain(out + sign, first, n, exponent);
}

size_t kv_double_format(double v, char out[KV_DOUBLE_LEN_MAX])
{
    return format(v, out, -6);
}

size_t kv_double_format_g(double v, char out[KV_DOUBLE_LEN_MAX])
{
    return format(v, out, -4);
}

/* ---- parse */

static const uint64_t POW10_U64[] = {
    1u,
    10u,
    100u,
    1000u,
    10000u,
    100000u,
    1000000u,
    10000000u,
    100000000u,
    1000000000u,
    10000000000u,
    100000000000u,
    1000000000000u,
    10000000000000u,
    100000000000000u,
    1000000000000000u,
    10000000000000000u,
    100000000000000000u,
    1000000000000000000u,
    10000000000000000000u,
};
static const double POW10_DOUBLE[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                      1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
enum { PARSE_DIGITS_MAX = 19, PARSE_TEXT_DIGITS_MAX = 780 };

/* value * 2^shift, rounded to 53 bits, ties to even; sticky: a bit below value's lowest is set. value has its
 * top bit (127) set. */
static double round_u128(u128 value, int shift, bool sticky)
{
    uint64_t top = (uint64_t)(value >> 75); /* 53 bits */
    u128 rest = value & (((u128)1 << 75) - 1);
    u128 half = (u128)1 << 74;
    if (rest > half || (rest == half && (sticky || (top & 1))))
        top++;
    return ldexp((double)top, shift + 75);
}

static int leading_zeros(u128 v)
{
    uint64_t high = (uint64_t)(v >> 64);
    return high ? __builtin_clzll(high) : 64 + __builtin_clzll((uint64_t)v);
}

/* w * 10^e, exactly rounded, for w > 0 and |e| <= 19: both sides fit in 128 bits. The result is far from the
 * subnormal range. */
static double scale_exact(uint64_t w, int e)
{
    if (e >= 0) {
        u128 product = (u128)w * POW10_U64[e];
        int zeros = leading_zeros(product);
        return round_u128(product << zeros, -zeros, false);
    }
    int up = __builtin_clzll(w);
    u128 numerator = (u128)(w << up) << 64;
    uint64_t divisor = POW10_U64[-e];
    u128 quotient =
        numerator / divisor; /* at least 63 bits, so what is below 53 decides together with the remainder */
    bool sticky = quotient * divisor != numerator;
    int zeros = leading_zeros(quotient);
    return round_u128(quotient << zeros, -zeros - up - 64, sticky);
}

/* What was read of a number. */
struct parts {
    const uint8_t *digits; /* the mantissa's text, point included */
    size_t len;
    uint64_t mantissa; /* of the first PARSE_DIGITS_MAX significant digits */
    int significant;   /* digits from the first that is not 0 */
    int64_t exponent;  /* of the last digit of the text */
    bool negative;
};

/* strtod on a text of bounded length: digits past what can decide a tie become one that says "and more". */
static double parse_slow(const struct parts *parts)
{
    char text[PARSE_TEXT_DIGITS_MAX + 40];
    size_t n = 0;
    int64_t exponent = parts->exponent;
    bool more = false;
    int dropped = 0;
    for (size_t i = 0; i < parts->len; i++) {
        uint8_t c = parts->digits[i];
        if (c == '.' || (c == '0' && n == 0))
            continue;
        if (n < PARSE_TEXT_DIGITS_MAX) {
            text[n++] = (char)c;
        } else {
            more |= c != '0';
            dropped++;
        }
    }
    exponent += dropped;
    if (more) {
        text[n++] = '1';
        exponent -= 1;
    }
    exponent = exponent > 100000 ? 100000 : exponent < -100000 ? -100000 : exponent;
    text[n++] = 'e';
    if (exponent < 0)
        text[n++] = '-';
    char number[24];
    char *first = write_digits(number + sizeof number, (uint64_t)(exponent < 0 ? -exponent : exponent));
    size_t len = (size_t)(number + sizeof number - first);
    memcpy(text + n, first, len);
    text[n + len] = 0;
    return strtod(text, NULL);
}

static double parse_value(const struct parts *parts)
{
    if (parts->significant == 0)
        return 0;
    if (parts->significant > PARSE_DIGITS_MAX)
        return parse_slow(parts);
    int64_t e = parts->exponent;
    uint64_t w = parts->mantissa;
    if (w <= HIDDEN_BIT * 2 && e >= -22 && e <= 22)
        return e < 0 ? (double)w / POW10_DOUBLE[-e] : (double)w * POW10_DOUBLE[e];
    if (e >= -PARSE_DIGITS_MAX && e <= PARSE_DIGITS_MAX)
        return scale_exact(w, (int)e);
    return parse_slow(parts);
}

/* The digits and the point; returns where they end, or NULL without a digit. */
static const uint8_t *parse_mantissa(const uint8_t *p, const uint8_t *end, struct parts *parts)
{
    bool any = false, point = false;
    parts->digits = p;
    for (; p < end; p++) {
        unsigned digit = (unsigned)*p - '0';
        if (digit <= 9) {
            any = true;
            parts->exponent -= point;
            if (digit || parts->significant) {
                if (parts->significant < PARSE_DIGITS_MAX)
                    parts->mantissa = parts->mantissa * 10 + digit;
                parts->significant += parts->significant < 1 << 30;
            }
        } else if (*p == '.' && !point) {
            point = true;
        } else {
            break;
        }
    }
    parts->len = (size_t)(p - parts->digits);
    return any ? p : NULL;
}

size_t kv_double_parse(kv_slice text, double *v)
{
    struct parts parts = {0};
    const uint8_t *p = text.data, *end = text.data + text.len;
    if (p < end && (*p == '-' || *p == '+'))
        parts.negative = *p++ == '-';
    p = parse_mantissa(p, end, &parts);
    if (!p)
        return 0;
    if (p < end && (*p | 0x20) == 'e') {
        const uint8_t *q = p + 1;
        bool negative = q < end && *q == '-';
        if (q < end && (*q == '-' || *q == '+'))
            q++;
        int64_t e = 0;
        const uint8_t *first = q;
        for (; q < end && (unsigned)*q - '0' <= 9; q++)
            e = e < 1000000000 ? e * 10 + (*q - '0') : e;
        if (q > first) {
            parts.exponent += negative ? -e : e;
            p = q;
        }
    }
    double value = parse_value(&parts);
    *v = parts.negative ? -value : value;
    return (size_t)(p - text.data);
}
