/*
 * regex.h - RE2-syntax regular expressions in time linear in the text (Thompson NFA with a bounded lazy DFA;
 * Cox, "Regular Expression Matching Can Be Simple And Fast", 2007), anchored at both ends, with short cuts
 * for literals, prefixes, suffixes, containment and alternations of literals. Nothing callable from C in
 * Debian offers this; libre2 is the oracle in tests.
 *
 * Bounds     pattern 4 KiB, program 10,000 instructions, repeat 1000, nesting 100; DFA cache 1 MiB, then NFA.
 * Threads    compile and free: one at a time; matching with one compiled expression: any number at once.
 */
#ifndef TS_REGEX_H
#define TS_REGEX_H

#include "kvcore/base/buf.h"
#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

struct ts_regex;
/* KV_INVALID: the text is what Go's regexp/syntax says, "error parsing regexp: ...". KV_LIMIT names the
 * bound. */
KV_MUST kv_status ts_regex_compile(kv_slice pattern, struct ts_regex **out, struct kv_err *err);
void ts_regex_free(struct ts_regex *regex); /* NULL is fine */
/* Whether the whole text matches. */
bool ts_regex_matches(const struct ts_regex *regex, kv_slice text);

/* Groups for label_replace: group 0 is the whole match. Slices of text; an unmatched group has data NULL. */
enum { TS_REGEX_GROUPS_MAX = 64 };
/* Leftmost-first (Perl) submatches of the whole text. False: no match. groups beyond the pattern's are left
 * empty. */
bool ts_regex_groups(const struct ts_regex *regex, kv_slice text, kv_slice *groups, size_t n_groups);
/* Go's Expand: $1 ${1} $name ${name} $$; unknown names and groups are empty. Appends to *out. */
KV_MUST kv_status ts_regex_expand(const struct ts_regex *regex, kv_slice template, const kv_slice *groups,
                                  size_t n_groups, struct kv_buf *out);

/* What the index can use: the set of literals if the pattern is an alternation of literals (n > 0), and a
 * literal prefix. */
struct ts_regex_hint {
    const kv_slice *literals;
    size_t n_literals;
    kv_slice prefix;
    bool any;      /* matches every text, the empty one perhaps excepted */
    bool nullable; /* matches the empty text */
};
void ts_regex_hint(const struct ts_regex *regex, struct ts_regex_hint *out);

#endif
