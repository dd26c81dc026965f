/* info(): labels of info series joined by job and instance. */
#include "query_kit.h"

#include <criterion/criterion.h>

static struct query_kit kit;

static void open_store(void)
{
    kit_open(&kit);
    kit_load(&kit, "m{instance=\"a\", job=\"1\", l=\"x\"}", 60000, "0 1 2");
    kit_load(&kit, "m{instance=\"b\", job=\"1\", l=\"x\"}", 60000, "5 6 7");
    kit_load(&kit, "target_info{instance=\"a\", job=\"1\", data=\"one\", l=\"other\"}", 60000, "1 1 stale");
    kit_load(&kit, "target_info{instance=\"a\", job=\"1\", data=\"two\"}", 60000, "_ _ 1");
    kit_load(&kit, "build_info{instance=\"a\", job=\"1\", build=\"7\"}", 60000, "1 1 1");
}
static void close_store(void)
{
    kit_close(&kit);
}
TestSuite(info, .init = open_store, .fini = close_store);

#define RANGE(query, expected) cr_assert_str_eq(kit_range(&kit, (query), 0, 120000, 60000), (expected))

Test(info, adds_the_labels_of_target_info_as_they_are_at_each_step)
{
    RANGE("info(m)", "{__name__=\"m\", data=\"one\", instance=\"a\", job=\"1\", l=\"x\"} 0@0 1@60000\n"
                     "{__name__=\"m\", data=\"two\", instance=\"a\", job=\"1\", l=\"x\"} 2@120000\n"
                     "{__name__=\"m\", instance=\"b\", job=\"1\", l=\"x\"} 5@0 6@60000 7@120000\n");
}

Test(info, a_selector_chooses_labels_and_may_demand_them)
{
    RANGE("info(m, {data=~\".+\"})",
          "{__name__=\"m\", data=\"one\", instance=\"a\", job=\"1\", l=\"x\"} 0@0 1@60000\n"
          "{__name__=\"m\", data=\"two\", instance=\"a\", job=\"1\", l=\"x\"} 2@120000\n");
    RANGE("info(m, {data=\"two\"})",
          "{__name__=\"m\", data=\"two\", instance=\"a\", job=\"1\", l=\"x\"} 2@120000\n");
    RANGE("info(m{instance=\"a\"}, {__name__=\"build_info\"})",
          "{__name__=\"m\", build=\"7\", instance=\"a\", job=\"1\", l=\"x\"} 0@0 1@60000 2@120000\n");
    RANGE("info(m{instance=\"a\"}, {__name__=~\".+_info\", build=~\".*\"})",
          "{__name__=\"m\", build=\"7\", instance=\"a\", job=\"1\", l=\"x\"} 0@0 1@60000 2@120000\n");
}

Test(info, info_series_and_series_without_identity_stay_as_they_are)
{
    kit_load(&kit, "plain", 60000, "1");
    cr_assert_str_eq(kit_instant(&kit, "info(plain)", 0), "{__name__=\"plain\"} 1\n");
    cr_assert_str_eq(kit_instant(&kit, "info(target_info)", 0),
                     "{__name__=\"target_info\", data=\"one\", instance=\"a\", job=\"1\", l=\"other\"} 1\n");
    RANGE("info(m{instance=\"a\"} @ 0)",
          "{__name__=\"m\", data=\"one\", instance=\"a\", job=\"1\", l=\"x\"} 0@0 0@60000 "
          "0@120000\n");
}
