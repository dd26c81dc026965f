/*
 * kernel_internal.h - the sets of kernels there are, for kernel.c, which chooses one.
 */
#ifndef TS_KERNEL_INTERNAL_H
#define TS_KERNEL_INTERNAL_H

#include "tsdb/chunk/kernel.h"

extern const struct ts_kernels ts_kernels_plain;
#if defined(__x86_64__)
extern const struct ts_kernels ts_kernels_avx2; /* needs AVX2 and FMA */
#endif
#if defined(__aarch64__) && defined(__ARM_NEON)
extern const struct ts_kernels ts_kernels_neon;
#endif

#endif
