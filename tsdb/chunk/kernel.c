#include "tsdb/chunk/kernel.h"

#include "kvcore/base/coding.h"

/* ---- plain */

static void plain_unpack(kv_slice bits, unsigned width, uint32_t *numbers, size_t n)
{
    uint64_t mask = ((uint64_t)1 << width) - 1;
    for (size_t i = 0; i < n; i++) {
        size_t at = i * width, byte = at / 8, left = bits.len - byte;
        uint64_t word = 0;
        if (left >= 8)
            word = kv_get_fixed64(bits.data + byte);
        else
            for (size_t k = 0; k < left; k++)
                word |= (uint64_t)bits.data[byte + k] << (8 * k);
        numbers[i] = (uint32_t)(word >> (at % 8) & mask);
    }
}

static void plain_widen(const uint8_t *bytes, uint32_t *numbers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        numbers[i] = bytes[i];
}

static void plain_sum(uint32_t *numbers, size_t n, bool zigzag, int32_t base)
{
    uint32_t at = 0;
    if (zigzag)
        for (size_t i = 0; i < n; i++)
            numbers[i] = at += ts_unfolded(numbers[i]) + (uint32_t)base;
    else
        for (size_t i = 0; i < n; i++)
            numbers[i] = at += numbers[i] + (uint32_t)base;
}

static void plain_values(const uint32_t *numbers, size_t n, const struct ts_scale *scale, double *values)
{
    for (size_t i = 0; i < n; i++)
        values[i] = (scale->start + (double)(int32_t)numbers[i]) * scale->factor + scale->offset;
    if (scale->power != 1)
        for (size_t i = 0; i < n; i++)
            values[i] /= scale->power;
}

static void plain_sum_values(const uint32_t *numbers, size_t n, bool zigzag, int32_t base,
                             const struct ts_scale *scale, double *values)
{
    uint32_t at = 0;
    for (size_t i = 0; i < n; i++) {
        at += (zigzag ? ts_unfolded(numbers[i]) : numbers[i]) + (uint32_t)base;
        plain_values(&at, 1, scale, values + i);
    }
}

static void plain_steps(int64_t first_ms, int64_t step_ms, int64_t *times_ms, size_t n)
{
    for (size_t i = 0; i < n; i++)
        times_ms[i] = first_ms + (int64_t)i * step_ms;
}

static const struct ts_kernels plain = {"plain",      plain_unpack,     plain_widen, plain_sum,
                                        plain_values, plain_sum_values, plain_steps};

/* ---- AVX2 */

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2")))

/* Eight numbers of `width` bits are `width` bytes. The first four lie within the 16 bytes from the first on, the other four within
 * the 16 from byte 4 * width / 8 on: one shuffle brings the four bytes around each number into its lane, one shift aligns them. */
struct avx2_layout {
    size_t half; /* where the other four begin */
    __m256i shuffle, shift, mask;
};

AVX2 static inline struct avx2_layout avx2_layout(unsigned width)
{
    int half = (int)(4 * width / 8);
    __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i skipped = _mm256_blend_epi32(_mm256_setzero_si256(), _mm256_set1_epi32(8 * half), 0xF0);
    __m256i bit = _mm256_sub_epi32(_mm256_mullo_epi32(lanes, _mm256_set1_epi32((int)width)), skipped);
    __m256i byte = _mm256_mullo_epi32(_mm256_srli_epi32(bit, 3), _mm256_set1_epi32(0x01010101));
    return (struct avx2_layout){.half = (size_t)half,
                                .shuffle = _mm256_add_epi32(byte, _mm256_set1_epi32(0x03020100)),
                                .shift = _mm256_and_si256(bit, _mm256_set1_epi32(7)),
                                .mask = _mm256_set1_epi32((int)((1u << width) - 1))};
}

/* The groups of eight that begin in [0, n) and whose loads stay inside len bytes; how many numbers that is. */
AVX2 static size_t avx2_groups(const struct avx2_layout *layout, const uint8_t *bytes, size_t len,
                               unsigned width, uint32_t *numbers, size_t n)
{
    size_t i = 0;
    for (size_t byte = 0; i < n && byte + layout->half + 16 <= len; i += 8, byte += width) {
        __m128i low = _mm_loadu_si128((const __m128i *)(const void *)(bytes + byte));
        __m128i high = _mm_loadu_si128((const __m128i *)(const void *)(bytes + byte + layout->half));
        __m256i eight = _mm256_shuffle_epi8(_mm256_set_m128i(high, low), layout->shuffle);
        eight = _mm256_and_si256(_mm256_srlv_epi32(eight, layout->shift), layout->mask);
        _mm256_storeu_si256((__m256i *)(void *)(numbers + i), eight);
    }
    return i;
}

AVX2 static void avx2_unpack(kv_slice bits, unsigned width, uint32_t *numbers, size_t n)
{
    uint8_t rest[64] = {0}; /* fewer bytes than one group's loads reach, and zeros for the loads to end in */
    struct avx2_layout layout = avx2_layout(width);
    size_t done = avx2_groups(&layout, bits.data, bits.len, width, numbers, n);
    if (done >= n)
        return;
    size_t byte = done / 8 * width;
    memcpy(rest, bits.data + byte, bits.len - byte);
    avx2_groups(&layout, rest, sizeof rest, width, numbers + done, n - done);
}

AVX2 static void avx2_widen(const uint8_t *bytes, uint32_t *numbers, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        __m128i eight = _mm_loadl_epi64((const __m128i *)(const void *)(bytes + i));
        _mm256_storeu_si256((__m256i *)(void *)(numbers + i), _mm256_cvtepu8_epi32(eight));
    }
}

/* Eight numbers, unfolded if so asked, + base each, and to each the sum of those before it among the eight: sums of four in two steps,
 * then the first four's sum is added to the second four. */
AVX2 static inline __m256i avx2_sums(const uint32_t *numbers, bool zigzag, __m256i bases)
{
    __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)numbers);
    if (zigzag)
        v = _mm256_xor_si256(
            _mm256_srli_epi32(v, 1),
            _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_and_si256(v, _mm256_set1_epi32(1))));
    v = _mm256_add_epi32(v, bases);
    v = _mm256_add_epi32(v, _mm256_slli_si256(v, 4));
    v = _mm256_add_epi32(v, _mm256_slli_si256(v, 8));
    __m256i four = _mm256_permutevar8x32_epi32(v, _mm256_set1_epi32(3));
    return _mm256_add_epi32(v, _mm256_blend_epi32(_mm256_setzero_si256(), four, 0xF0));
}

AVX2 static inline __m256i avx2_last(__m256i sums)
{
    return _mm256_permutevar8x32_epi32(sums, _mm256_set1_epi32(7));
}

AVX2 static void avx2_sum(uint32_t *numbers, size_t n, bool zigzag, int32_t base)
{
    __m256i bases = _mm256_set1_epi32(base), before = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += 8) {
        __m256i sums = avx2_sums(numbers + i, zigzag, bases);
        _mm256_storeu_si256((__m256i *)(void *)(numbers + i), _mm256_add_epi32(sums, before));
        before =
            _mm256_add_epi32(before, avx2_last(sums)); /* the only step that waits for the eight before */
    }
}

struct avx2_scale {
    __m256d start, factor, offset, power;
    bool whole, plain; /* no division; only the start is added */
};

AVX2 static inline struct avx2_scale avx2_scale(const struct ts_scale *scale)
{
    return (struct avx2_scale){_mm256_set1_pd(scale->start),
                               _mm256_set1_pd(scale->factor),
                               _mm256_set1_pd(scale->offset),
                               _mm256_set1_pd(scale->power),
                               scale->power == 1,
                               scale->power == 1 && scale->factor == 1 && scale->offset == 0};
}

AVX2 static inline void avx2_put_values(__m128i four, const struct avx2_scale *scale, double *values)
{
    __m256d v = _mm256_add_pd(_mm256_cvtepi32_pd(four), scale->start);
    if (!scale->plain)
        v = _mm256_add_pd(_mm256_mul_pd(v, scale->factor), scale->offset);
    if (!scale->whole)
        v = _mm256_div_pd(v, scale->power);
    _mm256_storeu_pd(values, v);
}

AVX2 static void avx2_values(const uint32_t *numbers, size_t n, const struct ts_scale *scale, double *values)
{
    const struct avx2_scale s = avx2_scale(scale);
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        avx2_put_values(_mm_loadu_si128((const __m128i *)(const void *)(numbers + i)), &s, values + i);
    plain_values(numbers + i, n - i, scale, values + i);
}

/* Inlined once for each kind, so that nothing is asked for every eight. Returns the sum of the n / 8 * 8. */
AVX2 static inline __attribute__((always_inline)) __m256i
avx2_sum_values_of(const uint32_t *numbers, size_t n, bool zigzag, __m256i bases,
                   const struct avx2_scale *scale, __m256i before, double *values)
{
    for (size_t i = 0; i + 8 <= n; i += 8) {
        __m256i sums = avx2_sums(numbers + i, zigzag, bases), all = _mm256_add_epi32(sums, before);
        before = _mm256_add_epi32(before, avx2_last(sums));
        avx2_put_values(_mm256_castsi256_si128(all), scale, values + i);
        avx2_put_values(_mm256_extracti128_si256(all, 1), scale, values + i + 4);
    }
    return before;
}

AVX2 static void avx2_sum_values(const uint32_t *numbers, size_t n, bool zigzag, int32_t base,
                                 const struct ts_scale *scale, double *values)
{
    const struct avx2_scale s = avx2_scale(scale);
    const struct avx2_scale plain_scale = {.start = s.start, .whole = true, .plain = true};
    __m256i bases = _mm256_set1_epi32(base), before = _mm256_setzero_si256();
    double rest[8];
    if (s.plain && zigzag)
        before = avx2_sum_values_of(numbers, n, true, bases, &plain_scale, before, values);
    else if (s.plain)
        before = avx2_sum_values_of(numbers, n, false, bases, &plain_scale, before, values);
    else
        before = avx2_sum_values_of(numbers, n, zigzag, bases, &s, before, values);
    if (n % 8) {
        avx2_sum_values_of(numbers + n / 8 * 8, 8, zigzag, bases, &s, before, rest);
        memcpy(values + n / 8 * 8, rest, n % 8 * sizeof rest[0]);
    }
}

AVX2 static void avx2_steps(int64_t first_ms, int64_t step_ms, int64_t *times_ms, size_t n)
{
    int64_t four[4];
    plain_steps(first_ms, step_ms, four, 4);
    __m256i at = _mm256_loadu_si256((const __m256i *)(const void *)four),
            more = _mm256_set1_epi64x(4 * step_ms), twice = _mm256_add_epi64(more, more);
    size_t i = 0;
    for (; i + 8 <= n; i += 8, at = _mm256_add_epi64(at, twice)) {
        _mm256_storeu_si256((__m256i *)(void *)(times_ms + i), at);
        _mm256_storeu_si256((__m256i *)(void *)(times_ms + i + 4), _mm256_add_epi64(at, more));
    }
    plain_steps(first_ms + (int64_t)i * step_ms, step_ms, times_ms + i, n - i);
}

static const struct ts_kernels avx2 = {"avx2",      avx2_unpack,     avx2_widen, avx2_sum,
                                       avx2_values, avx2_sum_values, avx2_steps};
#endif

/* ---- which */

const struct ts_kernels *const *ts_kernels_all(size_t *n)
{
#if defined(__x86_64__)
    static const struct ts_kernels *const all[] = {&plain, &avx2};
    *n = __builtin_cpu_supports("avx2") ? 2 : 1;
#else
    static const struct ts_kernels *const all[] = {&plain};
    *n = 1;
#endif
    return all;
}

static const struct ts_kernels *kernels_used;

void ts_kernels_use(const struct ts_kernels *kernels)
{
    kernels_used = kernels;
}

const struct ts_kernels *ts_kernels(void)
{
    size_t n;
    if (kernels_used)
        return kernels_used;
    const struct ts_kernels *const *all = ts_kernels_all(&n);
    return all[n - 1];
}
