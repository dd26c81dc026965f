/*
 * kernel_neon.c - the kernels of kernel.h for AArch64, whose NEON every such processor has.
 */
#include "tsdb/chunk/kernel_internal.h"

#if defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
#include <string.h>

/* Four numbers of `width` bits lie within 16 bytes: a table look-up brings the four bytes around each into its lane, a shift aligns them. Of eight
 * numbers, which are `width` bytes, the second four begin at byte 4 * width / 8, maybe in its middle. */
struct neon_layout {
    size_t half; /* where the second four begin */
    uint8x16_t bytes[2];
    int32x4_t shift[2]; /* to the right, so negative */
    uint32x4_t mask;
};

static struct neon_layout neon_layout(unsigned width)
{
    struct neon_layout out = {.half = 4 * width / 8, .mask = vdupq_n_u32((1u << width) - 1)};
    for (unsigned side = 0; side < 2; side++) {
        uint8_t bytes[16];
        int32_t shift[4];
        for (unsigned i = 0; i < 4; i++) {
            unsigned bit = (4 * side + i) * width - side * 8 * (unsigned)out.half;
            for (unsigned k = 0; k < 4; k++)
                bytes[4 * i + k] = (uint8_t)(bit / 8 + k);
            shift[i] = -(int32_t)(bit % 8);
        }
        out.bytes[side] = vld1q_u8(bytes);
        out.shift[side] = vld1q_s32(shift);
    }
    return out;
}

static inline uint32x4_t neon_four(const uint8_t *bytes, const struct neon_layout *layout, unsigned side)
{
    uint32x4_t v = vreinterpretq_u32_u8(vqtbl1q_u8(vld1q_u8(bytes), layout->bytes[side]));
    return vandq_u32(vshlq_u32(v, layout->shift[side]), layout->mask);
}

/* The groups of eight that begin in [0, n) and whose loads stay inside len bytes; how many numbers that is. */
static size_t neon_groups(const struct neon_layout *layout, const uint8_t *bytes, size_t len, unsigned width,
                          uint32_t *numbers, size_t n)
{
    size_t i = 0;
    for (size_t byte = 0; i < n && byte + layout->half + 16 <= len; i += 8, byte += width) {
        vst1q_u32(numbers + i, neon_four(bytes + byte, layout, 0));
        vst1q_u32(numbers + i + 4, neon_four(bytes + byte + layout->half, layout, 1));
    }
    return i;
}

static void neon_unpack(kv_slice bits, unsigned width, uint32_t *numbers, size_t n)
{
    uint8_t rest[64] = {0}; /* fewer bytes than one group's loads reach, and zeros for the loads to end in */
    struct neon_layout layout = neon_layout(width);
    size_t done = neon_groups(&layout, bits.data, bits.len, width, numbers, n);
    if (done >= n)
        return;
    size_t byte = done / 8 * width;
    memcpy(rest, bits.data + byte, bits.len - byte);
    neon_groups(&layout, rest, sizeof rest, width, numbers + done, n - done);
}

static void neon_widen(const uint8_t *bytes, uint32_t *numbers, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        uint16x8_t eight = vmovl_u8(vld1_u8(bytes + i));
        vst1q_u32(numbers + i, vmovl_u16(vget_low_u16(eight)));
        vst1q_u32(numbers + i + 4, vmovl_high_u16(eight));
    }
}

static inline uint32x4_t neon_unfolded(uint32x4_t v)
{
    uint32x4_t sign = vsubq_u32(vdupq_n_u32(0), vandq_u32(v, vdupq_n_u32(1)));
    return veorq_u32(vshrq_n_u32(v, 1), sign);
}

struct neon_step_of {
    uint32x4_t least, base; /* not zigzag: both are in base */
};

static struct neon_step_of neon_step_of(const struct ts_step_of *of)
{
    uint32_t least = of->zigzag ? of->least : 0;
    return (struct neon_step_of){vdupq_n_u32(least), vdupq_n_u32((uint32_t)of->base + of->least - least)};
}

/* The sums of the steps before each of four numbers. *before: the sum of all steps up to here, in every lane; it goes on. */
static inline uint32x4_t neon_sums(const uint32_t *numbers, bool zigzag, const struct neon_step_of *of,
                                   uint32x4_t *before)
{
    uint32x4_t v = vld1q_u32(numbers), none = vdupq_n_u32(0);
    if (zigzag)
        v = neon_unfolded(vaddq_u32(v, of->least));
    v = vaddq_u32(v, of->base);
    uint32x4_t sums = vaddq_u32(v, vextq_u32(none, v, 3));
    sums = vaddq_u32(sums, vextq_u32(none, sums, 2));
    uint32x4_t out = vaddq_u32(*before, vsubq_u32(sums, v));
    *before = vaddq_u32(*before, vdupq_laneq_u32(sums, 3));
    return out;
}

static void neon_sum(uint32_t *numbers, size_t n, const struct ts_step_of *of)
{
    const struct neon_step_of all = neon_step_of(of);
    uint32x4_t before = vdupq_n_u32(0);
    for (size_t i = 0; i < n; i += 4)
        vst1q_u32(numbers + i, neon_sums(numbers + i, of->zigzag, &all, &before));
}

/* As in kernel_avx2.c: one multiplication and addition, then the division by a power of ten in three steps, which is exact (see there). */
struct neon_scale {
    float64x2_t first, factor, power, inverse;
};

static struct neon_scale neon_scale(const struct ts_scale *scale)
{
    return (struct neon_scale){vdupq_n_f64(scale->start * scale->factor + scale->offset),
                               vdupq_n_f64(scale->factor), vdupq_n_f64(scale->power),
                               vdupq_n_f64(1 / scale->power)};
}

static inline float64x2_t neon_value(int64x2_t number, bool divide, const struct neon_scale *scale)
{
    float64x2_t v = vfmaq_f64(scale->first, vcvtq_f64_s64(number), scale->factor);
    if (!divide)
        return v;
    float64x2_t r = vmulq_f64(v, scale->inverse);
    return vfmaq_f64(r, vfmsq_f64(v, r, scale->power), scale->inverse);
}

static inline void neon_put_values(uint32x4_t four, bool divide, const struct neon_scale *scale,
                                   double *values)
{
    int32x4_t numbers = vreinterpretq_s32_u32(four);
    vst1q_f64(values, neon_value(vmovl_s32(vget_low_s32(numbers)), divide, scale));
    vst1q_f64(values + 2, neon_value(vmovl_high_s32(numbers), divide, scale));
}

static void neon_values(const uint32_t *numbers, size_t n, const struct ts_scale *scale, double *values)
{
    const struct neon_scale s = neon_scale(scale);
    bool divide = scale->power != 1;
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        neon_put_values(vld1q_u32(numbers + i), divide, &s, values + i);
    ts_kernels_plain.values(numbers + i, n - i, scale, values + i);
}

static void neon_sum_values(const uint32_t *numbers, size_t n, const struct ts_step_of *of,
                            const struct ts_scale *scale, double *values)
{
    const struct neon_step_of step = neon_step_of(of);
    const struct neon_scale s = neon_scale(scale);
    bool divide = scale->power != 1;
    uint32x4_t before = vdupq_n_u32(0);
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        neon_put_values(neon_sums(numbers + i, of->zigzag, &step, &before), divide, &s, values + i);
    if (i < n) {
        double rest[4];
        neon_put_values(neon_sums(numbers + i, of->zigzag, &step, &before), divide, &s, rest);
        memcpy(values + i, rest, (n - i) * sizeof rest[0]);
    }
}

static void neon_unfold(uint32_t *numbers, size_t n)
{
    for (size_t i = 0; i < n; i += 4)
        vst1q_u32(numbers + i, neon_unfolded(vld1q_u32(numbers + i)));
}

static void neon_steps(int64_t first_ms, int64_t step_ms, int64_t *times_ms, size_t n)
{
    int64_t two[2];
    ts_kernels_plain.steps(first_ms, step_ms, two, 2);
    int64x2_t at = vld1q_s64(two), more = vdupq_n_s64((int64_t)(2 * (uint64_t)step_ms));
    size_t i = 0;
    for (; i + 2 <= n; i += 2, at = vaddq_s64(at, more))
        vst1q_s64(times_ms + i, at);
    ts_kernels_plain.steps((int64_t)((uint64_t)first_ms + i * (uint64_t)step_ms), step_ms, times_ms + i,
                           n - i);
}

static void neon_late_steps(int64_t first_ms, int64_t step_ms, const uint32_t *late, int64_t *times_ms,
                            size_t n)
{
    int64_t two[2];
    ts_kernels_plain.steps(first_ms, step_ms, two, 2);
    int64x2_t at = vld1q_s64(two), more = vdupq_n_s64((int64_t)(2 * (uint64_t)step_ms));
    size_t i = 0;
    for (; i + 2 <= n; i += 2, at = vaddq_s64(at, more))
        vst1q_s64(times_ms + i, vaddw_s32(at, vreinterpret_s32_u32(vld1_u32(late + i))));
    ts_kernels_plain.late_steps((int64_t)((uint64_t)first_ms + i * (uint64_t)step_ms), step_ms, late + i,
                                times_ms + i, n - i);
}

static bool neon_rising(const int64_t *times_ms, size_t n)
{
    uint64x2_t rising = vdupq_n_u64(UINT64_MAX);
    size_t i = 1;
    for (; i + 2 <= n; i += 2)
        rising = vandq_u64(rising, vcgtq_s64(vld1q_s64(times_ms + i), vld1q_s64(times_ms + i - 1)));
    return vgetq_lane_u64(rising, 0) && vgetq_lane_u64(rising, 1) &&
           (i >= n || ts_kernels_plain.rising(times_ms + i - 1, n - i + 1));
}

const struct ts_kernels ts_kernels_neon = {"neon",          neon_unpack,     neon_widen,  neon_sum,
                                           neon_values,     neon_sum_values, neon_unfold, neon_steps,
                                           neon_late_steps, neon_rising};
#else
typedef int kernel_neon_is_empty; /* no translation unit may be */
#endif
