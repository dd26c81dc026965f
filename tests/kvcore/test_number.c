#include "kvcore/base/number.h"
#include "kvcore/base/prng.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static bool same_bits(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static const char *formatted(double v, char out[KV_DOUBLE_LEN_MAX + 1])
{
    out[kv_double_format(v, out)] = 0;
    return out;
}

static double parsed(const char *text)
{
    double v = -12345;
    cr_assert_eq(kv_double_parse(kv_slice_str(text), &v), strlen(text), "%s", text);
    return v;
}

/* A double of a kind chosen by i: any bits, decimals, near powers of two, of all magnitudes. */
static double some_double(struct kv_prng *prng, unsigned i)
{
    uint64_t bits = kv_prng_next(prng);
    double v;
    switch (i % 4) {
    case 0:
        return (double)(int64_t)(bits % 2000000000000) / pow(10, (double)(i / 4 % 6));
    case 1:
        return kv_prng_unit(prng) * pow(10, (double)(bits % 40) - 20);
    case 2:
        bits = (bits & 0xfff0000000000000u) + kv_prng_next(prng) % 5 - 2;
        break;
    default:
        break;
    }
    memcpy(&v, &bits, sizeof v);
    return isfinite(v) ? v : 0.1;
}

Test(number, formats_as_prometheus_does)
{
    static const struct {
        double v;
        const char *text;
    } cases[] = {
        {1, "1"},
        {0, "0"},
        {-0.0, "-0"},
        {0.1, "0.1"},
        {-0.5, "-0.5"},
        {100, "100"},
        {1e20, "100000000000000000000"},
        {1e21, "1e+21"},
        {-1.5e300, "-1.5e+300"},
        {1e-6, "0.000001"},
        {1e-7, "1e-07"},
        {1.25e-7, "1.25e-07"},
        {5e-324, "5e-324"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {123456789012345680000.0, "123456789012345680000"},
        {9007199254740993.0, "9007199254740992"},
        {1234.5678, "1234.5678"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {(double)INFINITY, "+Inf"},
        {-(double)INFINITY, "-Inf"},
        {(double)NAN, "NaN"},
        {1.0 / 3, "0.3333333333333333"},
    };
    char text[KV_DOUBLE_LEN_MAX + 1];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_assert_str_eq(formatted(cases[i].v, text), cases[i].text);
    text[kv_double_format_g(0.00001, text)] = 0;
    cr_assert_str_eq(text, "1e-05");
    text[kv_double_format_g(1e20, text)] = 0;
    cr_assert_str_eq(text, "100000000000000000000");
}

Test(number, every_double_reads_back_to_the_bit)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 7);
    for (unsigned i = 0; i < 300000; i++) {
        double v = some_double(&prng, i), back;
        char text[KV_DOUBLE_LEN_MAX + 1];
        formatted(v, text);
        cr_assert(strlen(text) < KV_DOUBLE_LEN_MAX);
        cr_assert(same_bits(strtod(text, NULL), v), "%s is not %.17g", text, v);
        cr_assert_eq(kv_double_parse(kv_slice_str(text), &back), strlen(text));
        cr_assert(same_bits(back, v), "%s parsed as %.17g", text, back);
    }
}

/* The n-digit decimal closest to v, as digits * 10^exponent. */
static uint64_t closest_digits(double v, int n, int *exponent)
{
    char text[40], digits[40];
    size_t len = 0;
    snprintf(text, sizeof text, "%.*e", n - 1, v);
    char *c = text;
    for (; *c != 'e'; c++)
        if (*c != '.')
            digits[len++] = *c;
    digits[len] = 0;
    *exponent = (int)strtol(c + 1, NULL, 10) - (n - 1);
    return strtoull(digits, NULL, 10);
}

static bool reads_back(uint64_t digits, int exponent, double v)
{
    char text[40];
    snprintf(text, sizeof text, "%" PRIu64 "e%d", digits, exponent);
    return same_bits(strtod(text, NULL), v);
}

Test(number, no_shorter_digits_read_back_and_none_as_short_is_closer)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 8);
    for (unsigned i = 0; i < 60000; i++) {
        double v = fabs(some_double(&prng, i));
        if (v == 0)
            continue;
        uint64_t digits;
        int exponent, e, n = 0;
        kv_double_shortest(v, &digits, &exponent);
        cr_assert(reads_back(digits, exponent, v));
        for (uint64_t d = digits; d; d /= 10)
            n++;
        /* Near a power of two the interval is lopsided: a neighbour of the closest decimal may read back
         * where it does not. */
        uint64_t same = closest_digits(v, n, &e);
        cr_assert(e != exponent || same == digits || !reads_back(same, e, v), "%.17g", v);
        if (n == 1)
            continue;
        uint64_t shorter = closest_digits(v, n - 1, &e);
        for (uint64_t d = shorter - 1; d <= shorter + 1; d++)
            cr_assert(!reads_back(d, e, v), "%.17g", v);
    }
}

Test(number, parses_as_strtod_does)
{
    static const char *const cases[] = {
        "0",
        "-0",
        "+1",
        "1.",
        ".5",
        "1e3",
        "1E-3",
        "9007199254740993",
        "9007199254740993.0000000000000000000000001",
        "18446744073709551615",
        "1e400",
        "-1e400",
        "1e-400",
        "4.9e-324",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "1.7976931348623158e308",
        "1.7976931348623159e308",
        "123456789.123456789e-5",
        "0.000000000000000000000000000001",
        "8.5e19",
        "12345678901234567890123",
        "1e22",
        "1e23",
        "5e-20",
        "7205759403792793199999e-5",
        "0e999999999999",
        "1e-99999999999999",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_assert(same_bits(parsed(cases[i]), strtod(cases[i], NULL)), "%s", cases[i]);
    struct kv_prng prng;
    kv_prng_init(&prng, 9);
    for (unsigned i = 0; i < 200000; i++) {
        char text[64];
        if (i & 1)
            snprintf(text, sizeof text, "%" PRIu64 "e%d", kv_prng_next(&prng) >> (i % 11),
                     (int)(i % 47) - 23);
        else
            snprintf(text, sizeof text, "%u.%" PRIu64 "e%d", i % 1000, kv_prng_next(&prng),
                     (int)(i % 29) - 14);
        cr_assert(same_bits(parsed(text), strtod(text, NULL)), "%s", text);
    }
}

Test(number, hundreds_of_digits_round_correctly)
{
    char text[2000] = "0.";
    memset(text + 2, '3', 400);
    text[402] = 0;
    cr_assert(same_bits(parsed(text), strtod(text, NULL)));
    /* One bit past the tie, 1500 digits behind the point. */
    strcpy(text, "9007199254740993.");
    memset(text + 17, '0', 1500);
    strcpy(text + 1517, "1");
    cr_assert_eq(parsed(text), 9007199254740994.0);
    text[1517] = '0';
    cr_assert_eq(parsed(text), 9007199254740992.0);
}

Test(number, reads_only_what_is_a_number)
{
    static const struct {
        const char *text;
        size_t n;
    } cases[] = {{"", 0},    {"-", 0},     {".", 0},    {"e5", 0},  {"nan", 0}, {"inf", 0}, {"1e", 1},
                 {"1e+", 1}, {"1.2.3", 3}, {"0x10", 1}, {"1_0", 1}, {"5i", 1},  {"--1", 0}};
    double v;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_assert_eq(kv_double_parse(kv_slice_str(cases[i].text), &v), cases[i].n, "%s", cases[i].text);
}
