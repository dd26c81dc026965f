/* number_pow10.h - the table behind number.c; see number_pow10.c. */
#ifndef KV_NUMBER_POW10_H
#define KV_NUMBER_POW10_H

#include <stdint.h>

enum { KV_POW10_MIN = -292, KV_POW10_MAX = 324 };
extern const uint64_t kv_pow10[KV_POW10_MAX - KV_POW10_MIN + 1][2];

#endif
