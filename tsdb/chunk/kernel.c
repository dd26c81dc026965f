#include "tsdb/chunk/kernel_internal.h"

#include "kvcore/base/coding.h"

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

static inline uint32_t plain_step(uint32_t number, const struct ts_step_of *of)
{
    number += of->least;
    return (of->zigzag ? ts_unfolded(number) : number) + (uint32_t)of->base;
}

static void plain_sum(uint32_t *numbers, size_t n, const struct ts_step_of *of)
{
    uint32_t at = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t next = at + plain_step(numbers[i], of);
        numbers[i] = at;
        at = next;
    }
}

static void plain_values(const uint32_t *numbers, size_t n, const struct ts_scale *scale, double *values)
{
    for (size_t i = 0; i < n; i++)
        values[i] = (scale->start + (double)(int32_t)numbers[i]) * scale->factor + scale->offset;
    if (scale->power != 1)
        for (size_t i = 0; i < n; i++)
            values[i] /= scale->power;
}

static void plain_sum_values(const uint32_t *numbers, size_t n, const struct ts_step_of *of,
                             const struct ts_scale *scale, double *values)
{
    uint32_t at = 0;
    for (size_t i = 0; i < n; i++) {
        plain_values(&at, 1, scale, values + i);
        at += plain_step(numbers[i], of);
    }
}

static void plain_steps(int64_t first_ms, int64_t step_ms, int64_t *times_ms, size_t n)
{
    for (size_t i = 0; i < n; i++)
        times_ms[i] = (int64_t)((uint64_t)first_ms + i * (uint64_t)step_ms);
}

static void plain_unfold(uint32_t *numbers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        numbers[i] = ts_unfolded(numbers[i]);
}

static void plain_late_steps(int64_t first_ms, int64_t step_ms, const uint32_t *late, int64_t *times_ms,
                             size_t n)
{
    for (size_t i = 0; i < n; i++)
        times_ms[i] = (int64_t)((uint64_t)first_ms + i * (uint64_t)step_ms + (uint64_t)(int32_t)late[i]);
}

static bool plain_rising(const int64_t *times_ms, size_t n)
{
    bool rising = true;
    for (size_t i = 1; i < n; i++)
        rising &= times_ms[i - 1] < times_ms[i];
    return rising;
}

const struct ts_kernels ts_kernels_plain = {"plain",          plain_unpack,     plain_widen,  plain_sum,
                                            plain_values,     plain_sum_values, plain_unfold, plain_steps,
                                            plain_late_steps, plain_rising};

/* ---- which */

const struct ts_kernels *const *ts_kernels_all(size_t *n)
{
#if defined(__x86_64__)
    static const struct ts_kernels *const all[] = {&ts_kernels_plain, &ts_kernels_avx2};
    *n = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 2 : 1;
#elif defined(__aarch64__) && defined(__ARM_NEON)
    static const struct ts_kernels *const all[] = {&ts_kernels_plain, &ts_kernels_neon};
    *n = 2; /* every such processor has them */
#else
    static const struct ts_kernels *const all[] = {&ts_kernels_plain};
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
