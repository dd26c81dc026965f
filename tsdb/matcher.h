/*
 * matcher.h - = != =~ !~ on one label. Regular expressions are RE2 syntax, anchored at both ends, '.' matches
 * newlines (Prometheus 3), in linear time (tsdb/regex.h).
 */
#ifndef TS_MATCHER_H
#define TS_MATCHER_H

#include "tsdb/label.h"

enum ts_match_op { TS_MATCH_EQ = 0, TS_MATCH_NE, TS_MATCH_RE, TS_MATCH_NRE };
struct ts_regex;
struct ts_matcher {
    enum ts_match_op op;
    kv_slice name, value;   /* borrowed from whoever made it */
    struct ts_regex *regex; /* RE and NRE only; owned */
};

/* Compiles. name and value are borrowed and must outlive *out. KV_INVALID with Prometheus's text for a bad
 * pattern
 * ("error parsing regexp: missing closing ): `(`"). */
KV_MUST kv_status ts_matcher_init(struct ts_matcher *out, enum ts_match_op op, kv_slice name, kv_slice value,
                                  struct kv_err *err);
void ts_matcher_release(struct ts_matcher *matcher);
/* value: the label's, empty when the series lacks it. Any thread may match with one matcher at once. */
bool ts_matcher_matches(const struct ts_matcher *matcher, kv_slice value);

#endif
