/* Operators between scalars and vectors, joins and set operators, through the whole query. */
#include "query_kit.h"

#include <criterion/criterion.h>

static struct query_kit kit;

static void open_metrics(void)
{
    kit_open(&kit);
    kit_load(&kit, "a{x=\"1\", y=\"p\"}", 60000, "1 2 3");
    kit_load(&kit, "a{x=\"2\", y=\"p\"}", 60000, "10 20 stale");
    kit_load(&kit, "b{x=\"1\", y=\"p\"}", 60000, "5 5 5");
    kit_load(&kit, "b{x=\"3\", y=\"p\"}", 60000, "7 7 7");
    kit_load(&kit, "info{x=\"1\", version=\"v1\"}", 60000, "1 1 1");
    kit_load(&kit, "info{x=\"2\", version=\"v2\"}", 60000, "1 1 1");
}
static void close_metrics(void)
{
    kit_close(&kit);
}
TestSuite(binary, .init = open_metrics, .fini = close_metrics);

#define INSTANT(query, expected) cr_assert_str_eq(kit_instant(&kit, (query), 0), (expected))
#define RANGE(query, expected)   cr_assert_str_eq(kit_range(&kit, (query), 0, 120000, 60000), (expected))

Test(binary, scalars)
{
    INSTANT("1 + 2 * 3 ^ 2", "19\n");
    INSTANT("-7 % 4", "-3\n");
    INSTANT("1 / 0 - 1 / 0", "NaN\n");
    INSTANT("3 > bool 2", "1\n");
    INSTANT("atan2(1)", "error bad_data: 1:1: parse error: unexpected <op:atan2>\n");
    RANGE("time() / 60", "{} 0@0 1@60000 2@120000\n");
}

Test(binary, a_scalar_meets_every_sample_of_a_vector)
{
    INSTANT("a * 2", "{x=\"1\", y=\"p\"} 2\n{x=\"2\", y=\"p\"} 20\n");
    INSTANT("2 - a", "{x=\"1\", y=\"p\"} 1\n{x=\"2\", y=\"p\"} -8\n");
    INSTANT("a > 5", "{__name__=\"a\", x=\"2\", y=\"p\"} 10\n");
    INSTANT("5 < a", "{__name__=\"a\", x=\"2\", y=\"p\"} 10\n"); /* the vector's value, whichever side */
    INSTANT("a > bool 5", "{x=\"1\", y=\"p\"} 0\n{x=\"2\", y=\"p\"} 1\n");
    INSTANT("-a", "{x=\"1\", y=\"p\"} -1\n{x=\"2\", y=\"p\"} -10\n");
    RANGE("a >= 2", "{__name__=\"a\", x=\"1\", y=\"p\"} 2@60000 3@120000\n"
                    "{__name__=\"a\", x=\"2\", y=\"p\"} 10@0 20@60000\n");
}

Test(binary, one_to_one_joins_what_agrees)
{
    INSTANT("a + b", "{x=\"1\", y=\"p\"} 6\n");
    INSTANT("a + on(x) b", "{x=\"1\"} 6\n");
    INSTANT("a + ignoring(y) b", "{x=\"1\"} 6\n");
    INSTANT("a < b", "{__name__=\"a\", x=\"1\", y=\"p\"} 1\n");
    INSTANT("a < on(x) b", "{x=\"1\"} 1\n");
    INSTANT("a < bool b", "{x=\"1\", y=\"p\"} 1\n");
    INSTANT("a + none", "");
    RANGE("a - a", "{x=\"1\", y=\"p\"} 0@0 0@60000 0@120000\n{x=\"2\", y=\"p\"} 0@0 0@60000\n");
}

Test(binary, many_to_one_takes_labels_from_the_one)
{
    INSTANT("a * on(x) group_left(version) info",
            "{version=\"v1\", x=\"1\", y=\"p\"} 1\n{version=\"v2\", x=\"2\", y=\"p\"} 10\n");
    INSTANT("info * on(x) group_right(version) a",
            "{version=\"v1\", x=\"1\", y=\"p\"} 1\n{version=\"v2\", x=\"2\", y=\"p\"} 10\n");
    INSTANT("a * on(x) group_left(nothing) info", "{x=\"1\", y=\"p\"} 1\n{x=\"2\", y=\"p\"} 10\n");
    INSTANT("a * ignoring(x, version) group_left sum(b)", "");
    INSTANT("a / on() group_left sum(b)",
            "{x=\"1\", y=\"p\"} 0.08333333333333333\n{x=\"2\", y=\"p\"} 0.8333333333333334\n");
}

Test(binary, ambiguous_matches_are_refused_in_prometheus_words)
{
    INSTANT("a + on(y) b", "error execution: found duplicate series for the match group {y=\"p\"} on the "
                           "right hand-side of the operation: "
                           "[{__name__=\"b\", x=\"1\", y=\"p\"}, {__name__=\"b\", x=\"3\", "
                           "y=\"p\"}];many-to-many matching not allowed: "
                           "matching labels must be unique on one side\n");
    INSTANT("a + on(y) group_right b", "error execution: found duplicate series for the match group "
                                       "{y=\"p\"} on the left hand-side of the operation: "
                                       "[{__name__=\"a\", x=\"1\", y=\"p\"}, {__name__=\"a\", x=\"2\", "
                                       "y=\"p\"}];many-to-many matching not allowed: "
                                       "matching labels must be unique on one side\n");
    INSTANT("a + on(y) sum by (y) (b)", "error execution: multiple matches for labels: many-to-one matching "
                                        "must be explicit (group_left/group_right)\n");
    INSTANT("label_replace(a, \"x\", \"same\", \"\", \"\") * on(y) group_left a",
            "error execution: vector cannot contain metrics with the same labelset\n");
    INSTANT("a * on(y) group_left(x) sum by (y) (b)",
            "error execution: multiple matches for labels: grouping labels must ensure unique matches\n");
    /* no conflict while the other side has nothing */
    INSTANT("none + on(y) b", "");
}

Test(binary, series_that_follow_each_other_are_one_match)
{
    kit_load(&kit, "left{x=\"1\"}", 60000, "1 1 1 1 1 1 1 1");
    kit_load(&kit, "right{x=\"1\", pod=\"old\"}", 60000, "3 stale");
    kit_load(&kit, "right{x=\"1\", pod=\"new\"}", 60000, "_ 4 4 4");
    cr_assert_str_eq(kit_range(&kit, "left + on(x) right", 0, 180000, 60000),
                     "{x=\"1\"} 4@0 5@60000 5@120000 5@180000\n");
}

Test(binary, set_operators)
{
    INSTANT("a and b", "{__name__=\"a\", x=\"1\", y=\"p\"} 1\n");
    INSTANT("a unless b", "{__name__=\"a\", x=\"2\", y=\"p\"} 10\n");
    INSTANT("a or b", "{__name__=\"a\", x=\"1\", y=\"p\"} 1\n{__name__=\"a\", x=\"2\", y=\"p\"} 10\n"
                      "{__name__=\"b\", x=\"3\", y=\"p\"} 7\n");
    INSTANT("a or on(y) b", "{__name__=\"a\", x=\"1\", y=\"p\"} 1\n{__name__=\"a\", x=\"2\", y=\"p\"} 10\n");
    INSTANT("a and on() vector(1)",
            "{__name__=\"a\", x=\"1\", y=\"p\"} 1\n{__name__=\"a\", x=\"2\", y=\"p\"} 10\n");
    RANGE("a and a > 1.5", "{__name__=\"a\", x=\"1\", y=\"p\"} 2@60000 3@120000\n"
                           "{__name__=\"a\", x=\"2\", y=\"p\"} 10@0 20@60000\n");
    RANGE("a{x=\"2\"} * 1 or b{x=\"3\"} * 1 or label_replace(a{x=\"1\"} * 1, \"x\", \"2\", \"\", \"\")",
          "{x=\"2\", y=\"p\"} 10@0 20@60000 3@120000\n{x=\"3\", y=\"p\"} 7@0 7@60000 7@120000\n");
}

Test(binary, names_that_vanish_may_collide)
{
    INSTANT("{__name__=~\"a|b\", x=\"1\"} * 2",
            "error execution: vector cannot contain metrics with the same labelset\n");
    INSTANT("rate({__name__=~\"a|b\", x=\"1\"}[5m])", "");
    cr_assert_str_eq(kit_instant(&kit, "rate({__name__=~\"a|b\", x=\"1\"}[5m])", 120000),
                     "error execution: vector cannot contain metrics with the same labelset\n");
    INSTANT("absent_over_time({__name__=~\"a|b\", x=\"1\"}[5m])", "");
    cr_assert_str_eq(kit_instant(&kit, "last_over_time({__name__=~\"a|b\", x=\"1\"}[5m])", 120000),
                     "{__name__=\"a\", x=\"1\", y=\"p\"} 3\n{__name__=\"b\", x=\"1\", y=\"p\"} 5\n");
}
