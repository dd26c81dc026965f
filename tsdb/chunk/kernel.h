/*
 * kernel.h - the inner loops of reading a chunk, each in plain C and in the instructions of processors that have better ones: AVX2 with FMA
 * (kernel_avx2.c), NEON (kernel_neon.c). Which, is decided once when the program runs. All give the same bits: everything is integers up to 2^53 in
 * doubles, and one correctly rounded division.
 *
 * Threads    pure functions over the caller's memory; any thread.
 */
#ifndef TS_KERNEL_H
#define TS_KERNEL_H

#include "kvcore/base/slice.h"

enum { TS_KERNEL_WIDTH_MAX = 25, TS_KERNEL_SLACK = 8 };

/* value = ((start + number, signed) * factor + offset) / power; all of it exact until the division. */
struct ts_scale {
    double start, factor, offset, power;
};

/* step = unfolded(number + least) + base, or number + least + base; modulo 2^32. */
struct ts_step_of {
    bool zigzag;
    uint32_t least;
    int32_t base;
};

/* A signed number out of one that was folded by zigzag. */
static inline uint32_t ts_unfolded(uint32_t v)
{
    return (v >> 1) ^ (0 - (v & 1));
}

struct ts_kernels {
    const char *name; /* for people: "plain", "avx2", "neon" */
    /* n numbers of `width` bits (1 to TS_KERNEL_WIDTH_MAX) out of bits that fill bytes from the low end. numbers has room for
     * TS_KERNEL_SLACK more, which may be overwritten. bits holds all of them. */
    void (*unpack)(kv_slice bits, unsigned width, uint32_t *numbers, size_t n);
    /* Each byte a number. bytes may be read and numbers overwritten TS_KERNEL_SLACK further. */
    void (*widen)(const uint8_t *bytes, uint32_t *numbers, size_t n);
    /* numbers[i] = the sum of the steps of those before it; so numbers[0] = 0, and the last one counts for nothing. Modulo 2^32. Up to
     * TS_KERNEL_SLACK numbers behind them may be overwritten. */
    void (*sum)(uint32_t *numbers, size_t n, const struct ts_step_of *of);
    void (*values)(const uint32_t *numbers, size_t n, const struct ts_scale *scale, double *values);
    /* Both at once: the values of the sums. numbers stay as they are; the last one and TS_KERNEL_SLACK more may be read and count for nothing. */
    void (*sum_values)(const uint32_t *numbers, size_t n, const struct ts_step_of *of,
                       const struct ts_scale *scale, double *values);
    /* numbers[i] = unfolded. Up to TS_KERNEL_SLACK numbers behind them may be overwritten. */
    void (*unfold)(uint32_t *numbers, size_t n);
    /* times_ms[i] = first_ms + i * step_ms, late: + late[i], which is signed. */
    void (*steps)(int64_t first_ms, int64_t step_ms, int64_t *times_ms, size_t n);
    void (*late_steps)(int64_t first_ms, int64_t step_ms, const uint32_t *late, int64_t *times_ms, size_t n);
    /* Whether each is above the one before it. */
    bool (*rising)(const int64_t *times_ms, size_t n);
};
/* The best that this processor has. */
const struct ts_kernels *ts_kernels(void);
/* For tests: those of this processor, *n of them. */
const struct ts_kernels *const *ts_kernels_all(size_t *n);
/* For tests: ts_kernels answers this one from now on; NULL: the best again. While no other thread reads chunks. */
void ts_kernels_use(const struct ts_kernels *kernels);

#endif
