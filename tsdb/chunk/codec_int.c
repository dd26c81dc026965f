#include "tsdb/chunk/codec.h"

#include "kvcore/base/coding.h"
#include "tsdb/chunk/kernel.h"
#include "tsdb/chunk/pack.h"

#include <math.h>

#define INT_NEAR_MAX      INT32_MAX          /* sums that fit 32 bits */
#define INT_MAGNITUDE_MAX 9007199254740992.0 /* 2^53: every integer below is a double */

static const double int_powers[TS_INT_EXPONENT_MAX + 1] = {1e0, 1e1, 1e2, 1e3,  1e4,  1e5, 1e6,
                                                           1e7, 1e8, 1e9, 1e10, 1e11, 1e12};

static const double int_inverses[TS_INT_EXPONENT_MAX + 1] = {1e0,  1e-1, 1e-2, 1e-3,  1e-4,  1e-5, 1e-6,
                                                             1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12};

/* How a block's integers are turned into small unsigned numbers. */
enum int_mode { INT_DELTA = 0, INT_DELTA_ZIGZAG = 1, INT_DELTA2 = 2, INT_DELTA2_ZIGZAG = 3, INT_MODES = 4 };

static uint64_t int_bits(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static double int_scaled(int64_t m, enum ts_int_how how, unsigned exponent)
{
    if (how == TS_INT_MULTIPLIED)
        return (double)m * int_inverses[exponent];
    return how == TS_INT_DIVIDED ? (double)m / int_powers[exponent] : (double)m / 1000 / 1000;
}

/* Whether v is exactly an integer m scaled so; -0 and NaN are not. */
static bool int_exact(double v, enum ts_int_how how, unsigned exponent, int64_t *m)
{
    double scaled = v * int_powers[exponent];
    if (!(fabs(scaled) <= INT_MAGNITUDE_MAX))
        return false;
    *m = (int64_t)nearbyint(scaled);
    return int_bits(int_scaled(*m, how, exponent)) == int_bits(v);
}

/* The smallest exponent that suits v, not below `from`; past the maximum when none does. */
static unsigned int_exponent(double v, unsigned from)
{
    int64_t m;
    unsigned e = from;
    while (e <= TS_INT_EXPONENT_MAX && !int_exact(v, TS_INT_DIVIDED, e, &m))
        e++;
    return e;
}

/* The smallest exponent of divided integers that suits all but `allowed` values. False: there is none. */
static bool int_divided(const double *values, size_t n, size_t allowed, struct ts_int_params *params)
{
    unsigned exponent = 0;
    size_t misses = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned e = int_exponent(values[i], exponent);
        if (e <= TS_INT_EXPONENT_MAX)
            exponent = e;
        else if (++misses > allowed)
            return false;
    }
    *params = (struct ts_int_params){.exponent = (uint8_t)exponent};
    return true;
}

/* Whether all but `allowed` values are integers scaled as programs scale milli-, micro- and nanoseconds, by an exponent below `below`. */
static bool int_scaled_otherwise(const double *values, size_t n, size_t allowed, unsigned below,
                                 struct ts_int_params *params)
{
    static const struct {
        enum ts_int_how how;
        uint8_t exponent;
    } ways[] = {
        {TS_INT_MULTIPLIED, 3}, {TS_INT_DIVIDED_TWICE, 6}, {TS_INT_MULTIPLIED, 6}, {TS_INT_MULTIPLIED, 9}};
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        size_t misses = ways[w].exponent < below ? 0 : n;
        int64_t m;
        for (size_t i = 0; i < n && misses <= allowed; i++)
            misses += !int_exact(values[i], ways[w].how, ways[w].exponent, &m);
        if (misses <= allowed) {
            *params = (struct ts_int_params){.how = ways[w].how, .exponent = ways[w].exponent};
            return true;
        }
    }
    return false;
}

static uint64_t int_gcd(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

/* The common factor of all distances from the first, found with one division a value and none once it is 1. */
static uint64_t int_factor(const int64_t *m, size_t n)
{
    uint64_t factor = 0;
    for (size_t i = 1; i < n && factor != 1; i++) {
        uint64_t distance = (uint64_t)(m[i] < m[0] ? m[0] - m[i] : m[i] - m[0]);
        if (!factor || distance % factor)
            factor = int_gcd(distance, factor);
    }
    return factor ? factor : 1;
}

bool ts_int_analyse(const double *values, size_t n, int64_t *q, uint16_t *exceptions,
                    struct ts_int_params *params)
{
    size_t allowed = n / 16 + (n > 1);
    /* So many digits that every double is near enough to a decimal count for nothing: fewer ones in another way do. */
    bool divided = int_divided(values, n, allowed, params);
    unsigned below = divided ? params->exponent : UINT8_MAX;
    if (!int_scaled_otherwise(values, n, allowed, below, params) && !divided)
        return false;
    int64_t previous = 0;
    for (size_t i = 0; i < n; i++) {
        if (int_exact(values[i], params->how, params->exponent, &q[i])) {
            previous = q[i];
        } else {
            if (params->n_exceptions == allowed)
                return false;
            exceptions[params->n_exceptions++] = (uint16_t)i;
            q[i] = previous; /* costs a zero delta */
        }
    }
    params->factor = int_factor(q, n);
    if (params->factor > 1) {
        int64_t factor = (int64_t)params->factor, rest = q[0] % factor;
        rest = rest < 0 ? rest + factor : rest;
        params->offset = (uint64_t)rest;
        for (size_t i = 0; i < n; i++)
            q[i] = (q[i] - rest) / factor;
    }
    return true;
}

/* Differences of q, their zero subtracted: *base is added back by the reader. Returns how many. */
static size_t int_differences(const int64_t *q, size_t n, enum int_mode mode, uint64_t *out, int64_t *base)
{
    bool second = mode == INT_DELTA2 || mode == INT_DELTA2_ZIGZAG;
    size_t skip = second ? 2 : 1;
    if (n <= skip)
        return 0;
    int64_t d[TS_CHUNK_BLOCK], min = INT64_MAX;
    size_t k = 0;
    for (size_t i = skip; i < n; i++, k++) {
        d[k] = q[i] - q[i - 1];
        if (second)
            d[k] -= q[i - 1] - q[i - 2];
        min = d[k] < min ? d[k] : min;
    }
    bool zigzag = mode == INT_DELTA_ZIGZAG || mode == INT_DELTA2_ZIGZAG;
    *base = zigzag ? 0 : min;
    for (size_t i = 0; i < k; i++)
        out[i] = zigzag ? kv_zigzag(d[i]) : (uint64_t)d[i] - (uint64_t)min;
    return k;
}

kv_status ts_int_encode_block(const int64_t *q, size_t n, struct kv_buf *out)
{
    uint64_t numbers[INT_MODES][TS_CHUNK_BLOCK];
    int64_t base[INT_MODES] = {0};
    size_t k[INT_MODES], best_len = SIZE_MAX;
    unsigned best = 0;
    for (unsigned mode = 0; mode < INT_MODES; mode++) {
        k[mode] = int_differences(q, n, (enum int_mode)mode, numbers[mode], &base[mode]);
        size_t len = ts_pack_len(numbers[mode], k[mode]) + kv_varint_len(kv_zigzag(base[mode]));
        if (mode >= INT_DELTA2 && n > 1)
            len += kv_varint_len(kv_zigzag(q[1] - q[0]));
        if (len < best_len) {
            best_len = len;
            best = mode;
        }
    }
    kv_status rc;
    KV_TRY(kv_buf_append_byte(out, (uint8_t)best));
    KV_TRY(kv_buf_append_varint(out, kv_zigzag(q[0])));
    if (best >= INT_DELTA2)
        KV_TRY(kv_buf_append_varint(out, n > 1 ? kv_zigzag(q[1] - q[0]) : 0));
    KV_TRY(kv_buf_append_varint(out, kv_zigzag(base[best])));
    KV_TRY(ts_pack(numbers[best], k[best], out));
out:
    return rc;
}

/* Sums differences back to integers, q[from] on. Unsigned arithmetic: damaged bytes may overflow, defined and harmless. One loop a
 * mode, so that none branches on it for every sample. */
static void int_sum(const uint64_t *numbers, size_t n, unsigned mode, uint64_t start, uint64_t slope,
                    uint64_t base, uint64_t *q)
{
    uint64_t at = start;
    q[0] = at;
    switch (mode) {
    case INT_DELTA:
        for (size_t i = 1; i < n; i++)
            q[i] = at += numbers[i - 1] + base;
        return;
    case INT_DELTA_ZIGZAG:
        for (size_t i = 1; i < n; i++)
            q[i] = at += (uint64_t)kv_unzigzag(numbers[i - 1]) + base;
        return;
    default:
        break;
    }
    if (n > 1)
        q[1] = at += slope;
    for (size_t i = 2; i < n; i++) {
        uint64_t number = numbers[i - 2];
        slope += (mode == INT_DELTA2 ? number : (uint64_t)kv_unzigzag(number)) + base;
        q[i] = at += slope;
    }
}

/* By what integers are divided before ts_int_finish. */
static double int_power(const struct ts_int_params *params)
{
    return params->how == TS_INT_DIVIDED ? int_powers[params->exponent] : 1;
}

void ts_int_finish(const struct ts_int_params *params, double *values, size_t n)
{
    if (params->how == TS_INT_MULTIPLIED)
        for (size_t i = 0; i < n; i++)
            values[i] *= int_inverses[params->exponent];
    if (params->how == TS_INT_DIVIDED_TWICE)
        for (size_t i = 0; i < n; i++)
            values[i] = values[i] / 1000 / 1000;
}

void ts_int_values(const struct ts_int_params *params, int64_t *q, double *values, size_t n)
{
    if (params->factor != 1)
        for (size_t i = 0; i < n; i++)
            q[i] = (int64_t)((uint64_t)q[i] * params->factor + params->offset);
    double power = int_power(params);
    if (power == 1) {
        for (size_t i = 0; i < n; i++)
            values[i] = (double)q[i];
    } else {
        for (size_t i = 0; i < n; i++)
            values[i] = (double)q[i] / power;
    }
}

bool ts_int_scale(const struct ts_int_params *params, int64_t start, struct ts_scale *out)
{
    uint64_t far = (uint64_t)(start < 0 ? -(start + 1) : start), largest;
    if (far > (uint64_t)INT_MAGNITUDE_MAX ||
        __builtin_mul_overflow(far + INT_NEAR_MAX + 2, params->factor, &largest) ||
        largest > (uint64_t)INT_MAGNITUDE_MAX)
        return false;
    *out =
        (struct ts_scale){(double)start, (double)params->factor, (double)params->offset, int_power(params)};
    return true;
}

struct int_head {
    uint8_t mode;
    int64_t start, slope, base;
};

/* A block whose sums stay within 32 bits of its start; KV_END if it is none: nothing is taken then. */
static kv_status int_decode_near(kv_slice *in, const struct int_head *head,
                                 const struct ts_int_params *params, double *values, size_t n)
{
    _Alignas(32) uint32_t numbers[TS_CHUNK_BLOCK + TS_KERNEL_SLACK];
    struct ts_scale scale;
    kv_slice at = *in;
    bool second = head->mode >= INT_DELTA2, zigzag = head->mode % 2;
    size_t skip = second ? 2 : 1, kept = n > skip ? n - skip : 0;
    uint64_t min;
    uint32_t most;
    if (ts_unpack_small(&at, numbers, kept, &min, &most) != KV_OK)
        return KV_END;
    if (min > INT_NEAR_MAX || head->base > INT_NEAR_MAX || head->base < -INT_NEAR_MAX ||
        head->slope > INT_NEAR_MAX || head->slope < -INT_NEAR_MAX)
        return KV_END;
    /* How far a step, then a sum of n steps, can be from zero. */
    uint64_t reach = (most + min + (uint64_t)(head->base < 0 ? -head->base : head->base)) * n;
    if (second)
        reach = (reach + (uint64_t)(head->slope < 0 ? -head->slope : head->slope)) * n;
    if (reach > INT_NEAR_MAX || !ts_int_scale(params, head->start, &scale))
        return KV_END;
    struct ts_step_of of = {zigzag, (uint32_t)min, (int32_t)head->base};
    if (second) {
        ts_kernels()->sum(numbers, n - 1, &of);
        of = (struct ts_step_of){.base = (int32_t)head->slope};
    }
    ts_kernels()->sum_values(numbers, n, &of, &scale, values);
    *in = at;
    return KV_OK;
}

kv_status ts_int_decode_block(kv_slice *in, const struct ts_int_params *params, double *values, size_t n)
{
    uint64_t numbers[TS_CHUNK_BLOCK], q[TS_CHUNK_BLOCK], start, slope = 0, base;
    struct int_head head;
    if (kv_take_byte(in, &head.mode) < 0 || head.mode >= INT_MODES || kv_take_varint(in, &start) < 0)
        return KV_CORRUPT;
    if (head.mode >= INT_DELTA2 && kv_take_varint(in, &slope) < 0)
        return KV_CORRUPT;
    if (kv_take_varint(in, &base) < 0)
        return KV_CORRUPT;
    head.start = kv_unzigzag(start);
    head.slope = kv_unzigzag(slope);
    head.base = kv_unzigzag(base);
    if (int_decode_near(in, &head, params, values, n) == KV_OK)
        return KV_OK;
    size_t skip = head.mode >= INT_DELTA2 ? 2 : 1;
    kv_status rc = ts_unpack(in, numbers, n > skip ? n - skip : 0);
    if (rc < 0)
        return rc;
    int_sum(numbers, n, head.mode, (uint64_t)head.start, (uint64_t)head.slope, (uint64_t)head.base, q);
    ts_int_values(params, (int64_t *)q, values, n);
    return KV_OK;
}
