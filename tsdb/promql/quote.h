/*
 * quote.h - text as Go's %q prints it, for messages and canonical printing.
 *
 * Any thread; nothing allocates.
 */
#ifndef TS_PROMQL_QUOTE_H
#define TS_PROMQL_QUOTE_H

#include "kvcore/base/slice.h"

#define TS_RUNE_BAD UINT32_C(0xfffd)
enum { TS_QUOTED_RUNE_MAX = 10 }; /* \U0010ffff */

/* The code point at the front of text (len > 0) and its width; TS_RUNE_BAD and width 1 for invalid UTF-8. */
uint32_t ts_rune_decode(kv_slice text, size_t *width);
/* Writes rune in UTF-8 (1 to 4 bytes) and returns the length. */
size_t ts_rune_encode(uint32_t rune, uint8_t out[4]);
/* Whether Go prints it as itself (ASCII and common scripts exactly; rare unassigned code points count as
 * printable). */
bool ts_rune_printable(uint32_t rune);
/* One code point as it stands inside quotes; returns the length. */
size_t ts_quote_rune(uint32_t rune, char quote, char out[TS_QUOTED_RUNE_MAX]);
/* text in double quotes, at most runes_max code points of it, cut to fit size (> 2); NUL-terminated; returns
 * out. */
const char *ts_quote(kv_slice text, size_t runes_max, char *out, size_t size);

#endif
