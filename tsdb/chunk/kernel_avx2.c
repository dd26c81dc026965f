/*
 * kernel_avx2.c - the kernels of kernel.h for processors with AVX2 and FMA.
 */
#include "tsdb/chunk/kernel_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2,fma")))

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

AVX2 static inline __m256i avx2_unfolded(__m256i v)
{
    __m256i sign = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_and_si256(v, _mm256_set1_epi32(1)));
    return _mm256_xor_si256(_mm256_srli_epi32(v, 1), sign);
}

struct avx2_step_of {
    __m256i least, base; /* not zigzag: both are in base */
};

AVX2 static inline struct avx2_step_of avx2_step_of(const struct ts_step_of *of)
{
    uint32_t least = of->zigzag ? of->least : 0;
    return (struct avx2_step_of){_mm256_set1_epi32((int)least),
                                 _mm256_set1_epi32((int)((uint32_t)of->base + of->least - least))};
}

/* The sums of the steps before each of eight numbers, four by four. */
struct avx2_sums {
    __m128i low, high;
};

/* *before: the sum of all steps up to here, in every lane; it goes on, and is all that waits for the eight before. Sums of four are two steps. */
AVX2 static inline __attribute__((always_inline)) struct avx2_sums
avx2_sums(const uint32_t *numbers, bool zigzag, const struct avx2_step_of *of, __m128i *before)
{
    __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)numbers);
    if (zigzag) {
        v = _mm256_add_epi32(v, of->least);
        v = avx2_unfolded(v);
    }
    v = _mm256_add_epi32(v, of->base);
    __m256i sums = _mm256_add_epi32(v, _mm256_slli_si256(v, 4));
    sums = _mm256_add_epi32(sums, _mm256_slli_si256(sums, 8));
    __m256i fours = _mm256_shuffle_epi32(sums, 0xFF);
    sums = _mm256_sub_epi32(sums, v);
    __m128i middle = _mm_add_epi32(*before, _mm256_castsi256_si128(fours));
    struct avx2_sums out = {_mm_add_epi32(*before, _mm256_castsi256_si128(sums)),
                            _mm_add_epi32(middle, _mm256_extracti128_si256(sums, 1))};
    *before = _mm_add_epi32(middle, _mm256_extracti128_si256(fours, 1));
    return out;
}

AVX2 static void avx2_sum(uint32_t *numbers, size_t n, const struct ts_step_of *of)
{
    struct avx2_step_of all = avx2_step_of(of);
    __m128i before = _mm_setzero_si128();
    for (size_t i = 0; i < n; i += 8) {
        struct avx2_sums sums = avx2_sums(numbers + i, of->zigzag, &all, &before);
        _mm_storeu_si128((__m128i *)(void *)(numbers + i), sums.low);
        _mm_storeu_si128((__m128i *)(void *)(numbers + i + 4), sums.high);
    }
}

/* value = (first + number * factor) / power: the same integer before the division as in plain C. */
struct avx2_scale {
    __m256d first, factor, power, inverse;
};

AVX2 static inline struct avx2_scale avx2_scale(const struct ts_scale *scale)
{
    return (struct avx2_scale){_mm256_set1_pd(scale->start * scale->factor + scale->offset),
                               _mm256_set1_pd(scale->factor), _mm256_set1_pd(scale->power),
                               _mm256_set1_pd(1 / scale->power)};
}

/* The division a / power, correctly rounded, for an integer |a| <= 2^53 and a power of ten up to 10^22, in three steps that take a third of its time:
 * r = a * (1 / power) is within 1.5 units of its last place (u) of the quotient; a - r * power is exact, for it is a multiple of u's part in power and
 * small; the sum below, before it is rounded, is within 1.5 * 2^-53 u of the quotient. Rounding it can only differ if a midpoint lies between, but no
 * quotient is a midpoint (5^e does not divide 2^k), and none is nearer to one than u / 2 / power. (Markstein, "Computation of elementary functions on
 * the IBM RISC System/6000 processor", 1990.) */
AVX2 static inline __m256d avx2_divided(__m256d a, const struct avx2_scale *scale)
{
    __m256d r = _mm256_mul_pd(a, scale->inverse);
    return _mm256_fmadd_pd(_mm256_fnmadd_pd(r, scale->power, a), scale->inverse, r);
}

AVX2 static inline void avx2_put_values(__m128i four, bool divide, const struct avx2_scale *scale,
                                        double *values)
{
    __m256d v = _mm256_fmadd_pd(_mm256_cvtepi32_pd(four), scale->factor, scale->first);
    _mm256_storeu_pd(values, divide ? avx2_divided(v, scale) : v);
}

AVX2 static void avx2_values(const uint32_t *numbers, size_t n, const struct ts_scale *scale, double *values)
{
    const struct avx2_scale s = avx2_scale(scale);
    bool divide = scale->power != 1;
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        avx2_put_values(_mm_loadu_si128((const __m128i *)(const void *)(numbers + i)), divide, &s,
                        values + i);
    ts_kernels_plain.values(numbers + i, n - i, scale, values + i);
}

/* Inlined once for each kind, so that nothing is asked for every eight. */
AVX2 static inline __attribute__((always_inline)) void
avx2_sum_values_of(const uint32_t *numbers, size_t n, bool zigzag, const struct ts_step_of *of, bool divide,
                   const struct ts_scale *scale, double *values)
{
    const struct avx2_step_of step = avx2_step_of(of);
    const struct avx2_scale s = avx2_scale(scale);
    __m128i before = _mm_setzero_si128();
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        struct avx2_sums sums = avx2_sums(numbers + i, zigzag, &step, &before);
        avx2_put_values(sums.low, divide, &s, values + i);
        avx2_put_values(sums.high, divide, &s, values + i + 4);
    }
    if (i < n) {
        struct avx2_sums sums = avx2_sums(numbers + i, zigzag, &step, &before);
        double rest[8];
        avx2_put_values(sums.low, divide, &s, rest);
        avx2_put_values(sums.high, divide, &s, rest + 4);
        memcpy(values + i, rest, (n - i) * sizeof rest[0]);
    }
}

AVX2 static void avx2_sum_values(const uint32_t *numbers, size_t n, const struct ts_step_of *of,
                                 const struct ts_scale *scale, double *values)
{
    bool divide = scale->power != 1;
    if (of->zigzag && divide)
        avx2_sum_values_of(numbers, n, true, of, true, scale, values);
    else if (of->zigzag)
        avx2_sum_values_of(numbers, n, true, of, false, scale, values);
    else if (divide)
        avx2_sum_values_of(numbers, n, false, of, true, scale, values);
    else
        avx2_sum_values_of(numbers, n, false, of, false, scale, values);
}

AVX2 static void avx2_steps(int64_t first_ms, int64_t step_ms, int64_t *times_ms, size_t n)
{
    int64_t four[4];
    ts_kernels_plain.steps(first_ms, step_ms, four, 4);
    __m256i at = _mm256_loadu_si256((const __m256i *)(const void *)four),
            more = _mm256_set1_epi64x(4 * step_ms), twice = _mm256_add_epi64(more, more);
    size_t i = 0;
    for (; i + 8 <= n; i += 8, at = _mm256_add_epi64(at, twice)) {
        _mm256_storeu_si256((__m256i *)(void *)(times_ms + i), at);
        _mm256_storeu_si256((__m256i *)(void *)(times_ms + i + 4), _mm256_add_epi64(at, more));
    }
    ts_kernels_plain.steps(first_ms + (int64_t)i * step_ms, step_ms, times_ms + i, n - i);
}

AVX2 static void avx2_unfold(uint32_t *numbers, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        __m256i *at = (__m256i *)(void *)(numbers + i);
        _mm256_storeu_si256(at, avx2_unfolded(_mm256_loadu_si256(at)));
    }
}

AVX2 static void avx2_late_steps(int64_t first_ms, int64_t step_ms, const uint32_t *late, int64_t *times_ms,
                                 size_t n)
{
    int64_t four[4];
    ts_kernels_plain.steps(first_ms, step_ms, four, 4);
    __m256i at = _mm256_loadu_si256((const __m256i *)(const void *)four),
            more = _mm256_set1_epi64x((int64_t)(4 * (uint64_t)step_ms));
    size_t i = 0;
    for (; i + 4 <= n; i += 4, at = _mm256_add_epi64(at, more)) {
        __m256i by = _mm256_cvtepi32_epi64(_mm_loadu_si128((const __m128i *)(const void *)(late + i)));
        _mm256_storeu_si256((__m256i *)(void *)(times_ms + i), _mm256_add_epi64(at, by));
    }
    ts_kernels_plain.late_steps((int64_t)((uint64_t)first_ms + i * (uint64_t)step_ms), step_ms, late + i,
                                times_ms + i, n - i);
}

AVX2 static bool avx2_rising(const int64_t *times_ms, size_t n)
{
    __m256i rising = _mm256_set1_epi64x(-1);
    size_t i = 1;
    for (; i + 4 <= n; i += 4) {
        __m256i before = _mm256_loadu_si256((const __m256i *)(const void *)(times_ms + i - 1));
        __m256i four = _mm256_loadu_si256((const __m256i *)(const void *)(times_ms + i));
        rising = _mm256_and_si256(rising, _mm256_cmpgt_epi64(four, before));
    }
    return _mm256_movemask_epi8(rising) == -1 &&
           (i >= n || ts_kernels_plain.rising(times_ms + i - 1, n - i + 1));
}

const struct ts_kernels ts_kernels_avx2 = {"avx2",          avx2_unpack,     avx2_widen,  avx2_sum,
                                           avx2_values,     avx2_sum_values, avx2_unfold, avx2_steps,
                                           avx2_late_steps, avx2_rising};
#else
typedef int kernel_avx2_is_empty; /* no translation unit may be */
#endif
