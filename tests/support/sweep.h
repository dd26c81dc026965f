/* sweep.h - how thorough a sweep is: every case in `make check-long` (SWEEP_ALL=1), every n-th in `make test`. */
#ifndef SWEEP_H
#define SWEEP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

static inline bool sweep_all(void)
{
    return getenv("SWEEP_ALL") != NULL;
}

static inline uint64_t sweep_stride(uint64_t usual)
{
    return sweep_all() ? 1 : usual;
}

#endif
