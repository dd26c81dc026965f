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

static void plain_steps(int64_t first_ms, int64_t step_ms, int64_t *times_ms, size_t n)
{
    for (size_t i = 0; i < n; i++)
        times_ms[i] = first_ms + (int64_t)i * step_ms;
}

static const struct ts_kernels plain = {"plain",   plain_unpack, plain_widen,
                                        plain_sum, plain_values, plain_steps};

/* ---- AVX2 */

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2")))

/* Eight numbers of `width` bits are `width` bytes. The first four lie within the 16 bytes from the first on, the other four within
 * the 16 from byte 4 * width / 8 on: one shuffle brings the four bytes around each number into its lane, one shift aligns them. */
AVX2 static void avx2_unpack(kv_slice bits, unsigned width, uint32_t *numbers, size_t n)
{
    uint8_t where[32];
    uint32_t shifts[8];
    size_t half = 4 * width / 8, last = half + 16, i = 0;
    for (unsigned lane = 0; lane < 8; lane++) {
        unsigned bit = lane * width - (lane < 4 ? 0 : (unsigned)half * 8);
        for (unsigned k = 0; k < 4; k++)
            where[4 * lane + k] = (uint8_t)(bit / 8 + k);
        shifts[lane] = bit % 8;
    }
    __m256i shuffle = _mm256_loadu_si256((const __m256i *)(const void *)where);
    __m256i shift = _mm256_loadu_si256((const __m256i *)(const void *)shifts);
    __m256i mask = _mm256_set1_epi32((int)((1u << width) - 1));
    for (size_t byte = 0; i < n && byte + last <= bits.len; i += 8, byte += width) {
        __m128i low = _mm_loadu_si128((const __m128i *)(const void *)(bits.data + byte));
        __m128i high = _mm_loadu_si128((const __m128i *)(const void *)(bits.data + byte + half));
        __m256i lanes = _mm256_shuffle_epi8(_mm256_set_m128i(high, low), shuffle);
        lanes = _mm256_and_si256(_mm256_srlv_epi32(lanes, shift), mask);
        _mm256_storeu_si256((__m256i *)(void *)(numbers + i), lanes);
    }
    if (i < n)
        plain_unpack(kv_slice_of(bits.data + i / 8 * width, bits.len - i / 8 * width), width, numbers + i,
                     n - i);
}

AVX2 static void avx2_widen(const uint8_t *bytes, uint32_t *numbers, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        __m128i eight = _mm_loadl_epi64((const __m128i *)(const void *)(bytes + i));
        _mm256_storeu_si256((__m256i *)(void *)(numbers + i), _mm256_cvtepu8_epi32(eight));
    }
}

/* Sums of each four in two steps, the first four's sum added to the second, the eight before added to all. */
AVX2 static void avx2_sum(uint32_t *numbers, size_t n, bool zigzag, int32_t base)
{
    __m256i bases = _mm256_set1_epi32(base), before = _mm256_setzero_si256(), one = _mm256_set1_epi32(1);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(numbers + i));
        if (zigzag)
            v = _mm256_xor_si256(_mm256_srli_epi32(v, 1),
                                 _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_and_si256(v, one)));
        v = _mm256_add_epi32(v, bases);
        v = _mm256_add_epi32(v, _mm256_slli_si256(v, 4));
        v = _mm256_add_epi32(v, _mm256_slli_si256(v, 8));
        __m256i four = _mm256_permutevar8x32_epi32(v, _mm256_set1_epi32(3));
        v = _mm256_add_epi32(v, _mm256_blend_epi32(_mm256_setzero_si256(), four, 0xF0));
        v = _mm256_add_epi32(v, before);
        before = _mm256_permutevar8x32_epi32(v, _mm256_set1_epi32(7));
        _mm256_storeu_si256((__m256i *)(void *)(numbers + i), v);
    }
    uint32_t at = i ? numbers[i - 1] : 0;
    for (; i < n; i++)
        numbers[i] = at += (zigzag ? ts_unfolded(numbers[i]) : numbers[i]) + (uint32_t)base;
}

AVX2 static void avx2_values(const uint32_t *numbers, size_t n, const struct ts_scale *scale, double *values)
{
    __m256d start = _mm256_set1_pd(scale->start), factor = _mm256_set1_pd(scale->factor);
    __m256d offset = _mm256_set1_pd(scale->offset), power = _mm256_set1_pd(scale->power);
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        __m256d v = _mm256_cvtepi32_pd(_mm_loadu_si128((const __m128i *)(const void *)(numbers + i)));
        v = _mm256_add_pd(_mm256_mul_pd(_mm256_add_pd(v, start), factor), offset);
        if (scale->power != 1)
            v = _mm256_div_pd(v, power);
        _mm256_storeu_pd(values + i, v);
    }
    plain_values(numbers + i, n - i, scale, values + i);
}

AVX2 static void avx2_steps(int64_t first_ms, int64_t step_ms, int64_t *times_ms, size_t n)
{
    int64_t four[4];
    plain_steps(first_ms, step_ms, four, 4);
    __m256i at = _mm256_loadu_si256((const __m256i *)(const void *)four),
            more = _mm256_set1_epi64x(4 * step_ms);
    size_t i = 0;
    for (; i + 4 <= n; i += 4, at = _mm256_add_epi64(at, more))
        _mm256_storeu_si256((__m256i *)(void *)(times_ms + i), at);
    plain_steps(first_ms + (int64_t)i * step_ms, step_ms, times_ms + i, n - i);
}

static const struct ts_kernels avx2 = {"avx2", avx2_unpack, avx2_widen, avx2_sum, avx2_values, avx2_steps};
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

const struct ts_kernels *ts_kernels(void)
{
    size_t n;
    const struct ts_kernels *const *all = ts_kernels_all(&n);
    return all[n - 1];
}
