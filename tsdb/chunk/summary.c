#include "tsdb/chunk/summary.h"

#include "kvcore/base/coding.h"
#include "tsdb/chunk/codec.h"

#include <math.h>
#include <stddef.h>

_Static_assert(offsetof(struct ts_chunk_summary, max) == 3 * sizeof(double), "four values side by side");

enum { SUMMARY_BITS = 15, SUMMARY_RISES = 16, SUMMARY_WHOLE = 32 };

/* Scaled numbers are exact below it, and so are their differences. */
static const double SUMMARY_NUMBER_MAX = 4503599627370496.0; /* 2^52 */

static bool summary_is_whole(double value)
{
    return fabs(value) < 0x1p40 && (double)(int64_t)value == value;
}

bool ts_summary_make(const double *values, size_t n, struct ts_chunk_summary *out)
{
    struct ts_chunk_summary s = {values[0], values[n - 1], values[0], values[0], true, true, 0};
    for (size_t i = 0; i < n; i++) {
        if (isnan(values[i]))
            return false;
        s.min = values[i] < s.min ? values[i] : s.min;
        s.max = values[i] > s.max ? values[i] : s.max;
        s.rises &= i == 0 || values[i] >= values[i - 1];
        s.whole = s.whole && summary_is_whole(values[i]);
        s.sum += s.whole ? (int64_t)values[i] : 0;
    }
    s.sum = s.whole ? s.sum : 0;
    *out = s;
    return true;
}

void ts_summary_const(double value, size_t n, struct ts_chunk_summary *out)
{
    bool whole = summary_is_whole(value);
    *out = (struct ts_chunk_summary){
        value, value, value, value, true, whole, whole ? (int64_t)value * (int64_t)n : 0};
}

bool ts_summary_equal(const struct ts_chunk_summary *told, const struct ts_chunk_summary *made)
{
    uint64_t a[4], b[4];
    memcpy(a, &told->first, sizeof a);
    memcpy(b, &made->first, sizeof b);
    return memcmp(a, b, sizeof a) == 0 && told->rises == made->rises &&
           (!told->whole || (made->whole && told->sum == made->sum));
}

static double summary_power(unsigned exponent)
{
    static const double powers[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12};
    return powers[exponent];
}

static double summary_value(int64_t number, unsigned exponent)
{
    return (double)number / summary_power(exponent);
}

/* The number that stands for value. False: none does, to the bit. */
static bool summary_number(double value, unsigned exponent, int64_t *number)
{
    double scaled = round(value * summary_power(exponent));
    if (!(fabs(scaled) < SUMMARY_NUMBER_MAX))
        return false;
    *number = (int64_t)scaled;
    double back = summary_value(*number, exponent);
    return back == value && signbit(back) == signbit(value);
}

/* The least exponent with which all four are numbers; SUMMARY_BITS if none is. */
static unsigned summary_exponent(const double *values, int64_t *numbers)
{
    for (unsigned exponent = 0; exponent <= TS_INT_EXPONENT_MAX; exponent++) {
        unsigned k = 0;
        while (k < 4 && summary_number(values[k], exponent, &numbers[k]))
            k++;
        if (k == 4)
            return exponent;
    }
    return SUMMARY_BITS;
}

static kv_status summary_put_bits(const double *values, struct kv_buf *out)
{
    kv_status rc = KV_OK;
    for (unsigned k = 0; k < 4 && rc == KV_OK; k++) {
        uint64_t bits;
        memcpy(&bits, &values[k], sizeof bits);
        rc = kv_buf_append_fixed64(out, bits);
    }
    return rc;
}

kv_status ts_summary_put(const struct ts_chunk_summary *s, size_t count, struct kv_buf *out)
{
    const double values[] = {s->first, s->last, s->min, s->max};
    int64_t numbers[4];
    unsigned exponent = summary_exponent(values, numbers);
    bool whole = s->whole && exponent == 0; /* not so if one of the four is -0 */
    kv_status rc;
    KV_TRY(kv_buf_append_byte(
        out, (uint8_t)(exponent | (s->rises ? SUMMARY_RISES : 0) | (whole ? SUMMARY_WHOLE : 0))));
    if (exponent == SUMMARY_BITS)
        return summary_put_bits(values, out);
    KV_TRY(kv_buf_append_varint(out, kv_zigzag(numbers[0])));
    KV_TRY(kv_buf_append_varint(out, kv_zigzag(numbers[1] - numbers[0])));
    KV_TRY(kv_buf_append_varint(out, (uint64_t)(numbers[0] - numbers[2])));
    KV_TRY(kv_buf_append_varint(out, (uint64_t)(numbers[3] - numbers[0])));
    if (whole)
        KV_TRY(kv_buf_append_varint(out, kv_zigzag(s->sum - (int64_t)count * numbers[0])));
out:
    return rc;
}

static kv_status summary_take_bits(kv_slice *in, double *values)
{
    kv_status rc = KV_OK;
    for (unsigned k = 0; k < 4 && rc == KV_OK; k++) {
        uint64_t bits = 0;
        rc = kv_take_fixed64(in, &bits);
        memcpy(&values[k], &bits, sizeof bits);
    }
    return rc;
}

static kv_status summary_take_numbers(kv_slice *in, unsigned exponent, double *values, int64_t *first_number)
{
    const int64_t limit = (int64_t)SUMMARY_NUMBER_MAX;
    uint64_t first, last, low, high;
    kv_status rc;
    KV_TRY(kv_take_varint(in, &first));
    KV_TRY(kv_take_varint(in, &last));
    KV_TRY(kv_take_varint(in, &low));
    KV_TRY(kv_take_varint(in, &high));
    int64_t start = kv_unzigzag(first), step = kv_unzigzag(last);
    if (start <= -limit || start >= limit || step <= -2 * limit || step >= 2 * limit ||
        low >= (uint64_t)(start + limit) || high >= (uint64_t)(limit - start))
        return KV_CORRUPT;
    const int64_t numbers[] = {start, start + step, start - (int64_t)low, start + (int64_t)high};
    for (unsigned k = 0; k < 4; k++)
        values[k] = summary_value(numbers[k], exponent);
    *first_number = start;
out:
    return rc;
}

kv_status ts_summary_take(kv_slice *in, size_t count, struct ts_chunk_summary *out)
{
    uint8_t kind;
    double values[4];
    int64_t first = 0;
    uint64_t sum = 0;
    kv_status rc;
    KV_TRY(kv_take_byte(in, &kind));
    unsigned exponent = kind & 15;
    bool whole = kind & SUMMARY_WHOLE;
    if (kind >= 2 * SUMMARY_WHOLE || (exponent > TS_INT_EXPONENT_MAX && exponent != SUMMARY_BITS) ||
        (whole && exponent != 0))
        return KV_TOO_NEW;
    KV_TRY(exponent == SUMMARY_BITS ? summary_take_bits(in, values)
                                    : summary_take_numbers(in, exponent, values, &first));
    if (whole)
        KV_TRY(kv_take_varint(in, &sum));
    *out =
        (struct ts_chunk_summary){values[0], values[1], values[2], values[3], kind & SUMMARY_RISES, whole, 0};
    if (!(out->min <= out->first && out->first <= out->max && out->min <= out->last &&
          out->last <= out->max) ||
        (out->rises && (out->first != out->min || out->last != out->max)))
        return KV_CORRUPT;
    if (!whole)
        return KV_OK;
    int64_t rest = kv_unzigzag(sum), bound = (int64_t)count << 42;
    if (!summary_is_whole(out->min) || !summary_is_whole(out->max) || rest <= -bound || rest >= bound)
        return KV_CORRUPT;
    out->sum = rest + (int64_t)count * first;
    if ((double)out->sum < out->min * (double)count || (double)out->sum > out->max * (double)count)
        return KV_CORRUPT;
out:
    return rc;
}
