/*
 * text.h - small things about bytes on the wire: UTF-8, percent escapes, ASCII case, decimal integers.
 * Threads    any; nothing allocates unless it takes an arena.
 */
#ifndef HTTP_TEXT_H
#define HTTP_TEXT_H

#include "kvcore/base/arena.h"
#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

/* Bytes of the valid UTF-8 character that text begins with (RFC 3629); 0 when it is none. */
size_t http_utf8_len(kv_slice text);
bool http_utf8_valid(kv_slice text);
/* Undoes %XX (and, for forms, + as blank). KV_INVALID: a bad escape; *why says which. The result is text
 * itself when nothing was escaped, else a copy in arena. */
KV_MUST kv_status http_unescape(struct kv_arena *arena, kv_slice text, bool plus_is_blank, kv_slice *out,
                                const char **why);
bool http_equal_nocase(kv_slice a, kv_slice b);
/* Decimal digits only, no sign. False when empty, not digits, or past max. */
bool http_parse_uint(kv_slice text, uint64_t max, uint64_t *out);
kv_slice http_trim(kv_slice text); /* blanks and tabs at both ends */

#endif
