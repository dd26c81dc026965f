/*
 * rules.h - how long which series are kept: the rules of an open store, compiled, and what follows from them
 * at a time.
 *
 * Classes number the rules in order; the last class is the default. A series is of the first class whose
 * selector matches it: that never changes while the store is open. A class has a floor, the oldest time it
 * keeps by the retention clock. Page: tsdb/docs/retention.md.
 *
 * Threads    immutable once made; any.
 */
#ifndef TS_RULES_H
#define TS_RULES_H

#include "tsdb/label.h"

struct ts_matcher;
struct ts_rules;

enum { TS_RULES_MAX = 63 }; /* a set of classes fits 64 bits */

/* keep_ms: the default's. rules are copied. KV_INVALID: a selector does not parse, a time is not above 0;
 * KV_LIMIT: too many. */
KV_MUST kv_status ts_rules_new(int64_t keep_ms, const struct ts_retention_rule *rules, size_t n,
                               struct ts_rules **out, struct kv_err *err);
void ts_rules_free(struct ts_rules *rules); /* NULL is fine */

size_t ts_rules_classes(const struct ts_rules *rules); /* rules and the default: at least 1 */
/* The oldest time a class keeps; INT64_MIN: it keeps all. */
int64_t ts_rules_floor_ms(const struct ts_rules *rules, size_t class, int64_t clock_ms);
/* Of the class that keeps longest: whatever is older is kept by none. And of the one that keeps shortest:
 * whatever is not older is kept by each. */
int64_t ts_rules_lowest_ms(const struct ts_rules *rules, int64_t clock_ms);
int64_t ts_rules_highest_ms(const struct ts_rules *rules, int64_t clock_ms);
size_t ts_rules_class_of(const struct ts_rules *rules, const struct ts_label *labels, size_t n);
/* Of a rule (not of the default): its selector. */
const struct ts_matcher *ts_rules_matchers(const struct ts_rules *rules, size_t class, size_t *n);
/* For messages: `rule {job="x"}`, "retention" for the default. Lives as long as the rules. */
const char *ts_rules_name(const struct ts_rules *rules, size_t class);

#endif
