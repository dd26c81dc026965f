#include "tsdb/matcher.h"

#include <criterion/criterion.h>

static bool matches(enum ts_match_op op, const char *pattern, const char *value)
{
    struct ts_matcher m = {0};
    struct kv_err err = {0};
    cr_assert_eq(ts_matcher_init(&m, op, KV_STR("x"), kv_slice_str(pattern), &err), KV_OK, "%s", err.text);
    bool yes = ts_matcher_matches(&m, kv_slice_str(value));
    ts_matcher_release(&m);
    ts_matcher_release(&m);
    return yes;
}

Test(matcher, the_four_operators)
{
    cr_expect(matches(TS_MATCH_EQ, "a", "a"));
    cr_expect_not(matches(TS_MATCH_EQ, "a", "A"));
    cr_expect(matches(TS_MATCH_EQ, "", ""));
    cr_expect(matches(TS_MATCH_NE, "a", ""));
    cr_expect_not(matches(TS_MATCH_NE, "a", "a"));
    cr_expect(matches(TS_MATCH_RE, "a.*|b", "axx"));
    cr_expect_not(matches(TS_MATCH_RE, "a.*|b", "bxx")); /* anchored around the whole alternation */
    cr_expect(matches(TS_MATCH_RE, "a.b", "a\nb"));      /* dot matches newline */
    cr_expect(matches(TS_MATCH_NRE, "a", "b"));
    cr_expect_not(matches(TS_MATCH_NRE, ".*", ""));
}

Test(matcher, a_bad_pattern_says_what_go_says)
{
    struct ts_matcher m = {0};
    struct kv_err err = {0};
    cr_assert_eq(ts_matcher_init(&m, TS_MATCH_NRE, KV_STR("x"), KV_STR("a("), &err), KV_INVALID);
    cr_expect_str_eq(err.text, "error parsing regexp: missing closing ): `a(`");
    ts_matcher_release(&m);
}
