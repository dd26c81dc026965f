#include "tsdb/matcher.h"

#include "tsdb/regex.h"

kv_status ts_matcher_init(struct ts_matcher *out, enum ts_match_op op, kv_slice name, kv_slice value,
                          struct kv_err *err)
{
    *out = (struct ts_matcher){.op = op, .name = name, .value = value};
    if (op == TS_MATCH_EQ || op == TS_MATCH_NE)
        return KV_OK;
    return ts_regex_compile(value, &out->regex, err);
}

void ts_matcher_release(struct ts_matcher *matcher)
{
    ts_regex_free(matcher->regex);
    *matcher = (struct ts_matcher){0};
}

bool ts_matcher_matches(const struct ts_matcher *matcher, kv_slice value)
{
    switch (matcher->op) {
    case TS_MATCH_EQ:
        return kv_slice_equal(matcher->value, value);
    case TS_MATCH_NE:
        return !kv_slice_equal(matcher->value, value);
    case TS_MATCH_RE:
        return ts_regex_matches(matcher->regex, value);
    case TS_MATCH_NRE:
        return !ts_regex_matches(matcher->regex, value);
    }
    return false;
}
