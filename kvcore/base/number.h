/*
 * number.h - doubles to decimal text and back, exactly.
 *
 * Format: the shortest digits that read back to the same double, and among those the closest (Raffaello
 * Giulietti, "The Schubfach way to render doubles", 2020), laid out as Prometheus and Go's strconv do. Parse:
 * correctly rounded, ties to even. Up to 19 digits and |exponent| up to 19 are one 128-bit multiplication or
 * division with its remainder as sticky bit (Clinger 1990 for the 53-bit case); the rest is strtod's. Threads
 * any; nothing allocates.
 */
#ifndef KV_NUMBER_H
#define KV_NUMBER_H

#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

enum { KV_DOUBLE_LEN_MAX = 32 };

/* Writes v without NUL and returns the length: "1", "0.001", "1e-07", "1e+21", "-0", "NaN", "+Inf", "-Inf".
 * Plain digits for 1e-6 <= |v| < 1e21 and 0, else an exponent of at least two digits. (Prometheus's JSON
 * values.) */
size_t kv_double_format(double v, char out[KV_DOUBLE_LEN_MAX]);
/* The same with Go's %v / 'g' rule: an exponent below 1e-4 and from 1e21 on. (count_values labels and texts:
 * use what they need.) */
size_t kv_double_format_g(double v, char out[KV_DOUBLE_LEN_MAX]);
/* Decimal digits and exponent: |v| = digits * 10^exponent, v finite and not 0, no trailing zeros. */
void kv_double_shortest(double v, uint64_t *digits, int *exponent);

/* Reads [+-] digits [. digits] [eE [+-] digits] off the front of text, at least one digit in the mantissa.
 * Returns the bytes read, 0 if there is no number. Values too large become infinity, too small 0; the caller
 * decides. Neither "inf" nor hexadecimal. */
size_t kv_double_parse(kv_slice text, double *v);

#endif
