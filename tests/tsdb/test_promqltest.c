#include "promqltest.h"

#include <criterion/criterion.h>
#include <glob.h>
#include <stdio.h>

static const char conformance[] = "../shared/conformance/promqltest/*.test";
static const char list_path[] = "tests/tsdb/promqltest_not_yet.txt";

/* ---- the runner itself: what it must tell apart */

static struct {
    int passed, failed, not_yet;
} tally;

static void count(void *ctx, const struct promqltest_case *one)
{
    (void)ctx;
    tally.passed += one->outcome == PROMQLTEST_PASSED;
    tally.failed += one->outcome == PROMQLTEST_FAILED;
    tally.not_yet += one->outcome == PROMQLTEST_NOT_YET;
    if (one->outcome == PROMQLTEST_FAILED)
        fprintf(stderr, "%s:%d: %s\n", one->file, one->line, one->why);
}

static void run(const char *text, int passed, int failed, int not_yet)
{
    memset(&tally, 0, sizeof tally);
    cr_assert(promqltest_run_text("inline", kv_slice_str(text), count, NULL));
    cr_expect_eq(tally.passed, passed, "%s\npassed %d", text, tally.passed);
    cr_expect_eq(tally.failed, failed, "%s\nfailed %d", text, tally.failed);
    cr_expect_eq(tally.not_yet, not_yet, "%s\nnot yet %d", text, tally.not_yet);
}

#define LOAD "load 1m\n  m{a=\"1\"} 1 2+3x2 _ stale\n  m{a=\"2\"} 10x5\n\n"

Test(promqltest, right_answers_pass)
{
    run(LOAD
        "eval instant at 1m m\n  m{a=\"1\"} 2\n  m{a=\"2\"} 10\n\n"
        "eval range from 0 to 4m step 1m m{a=\"1\"}\n  m{a=\"1\"} 1 2 5 8 8\n\n"
        "eval instant at 5m m\n  m{a=\"2\"} 10\n\n"
        "eval instant at 1m 1 + 2\n  3\n\n"
        "eval instant at 1m \"x\"\n  expect string \"x\"\n\n"
        "eval instant at 2m m{a=\"1\"}[2m]\n  expect range vector from 1m to 2m step 1m\n  m{a=\"1\"} 2 5\n\n"
        "eval instant at 1m nope\n\n"
        "eval instant at 1m m + on() m\n  expect fail\n\n"
        "clear\neval instant at 1m m\n",
        9, 0, 0);
}

Test(promqltest, wrong_answers_fail)
{
    run(LOAD "eval instant at 1m m\n  m{a=\"1\"} 2\n\n"                                  /* one too many */
             "eval instant at 1m m\n  m{a=\"1\"} 2\n  m{a=\"2\"} 10\n  m{a=\"3\"} 1\n\n" /* one missing */
             "eval instant at 1m m{a=\"1\"}\n  m{a=\"1\"} 2.001\n\n"
             "eval range from 0 to 3m step 1m m{a=\"1\"}\n  m{a=\"1\"} 1 2 5\n\n"
             "eval instant at 1m m{a=\"1\"}\n  expect fail\n\n"
             "eval instant at 1m m + on() m\n  expect fail msg: other words\n\n"
             "eval instant at 1m m{a=\"1\"}\n  expect warn\n  m{a=\"1\"} 2\n\n"
             "eval instant at 1m sort_desc(m)\n  expect ordered\n  m{a=\"1\"} 2\n  m{a=\"2\"} 10\n\n"
             "eval instant at 1m 1 + 2\n  4\n",
        0, 9, 0);
}

Test(promqltest, what_the_language_does_not_know_is_not_run)
{
    cr_expect_not(promqltest_run_text("inline", KV_STR("evil instant at 1m m\n"), count, NULL));
    cr_expect_not(promqltest_run_text("inline", KV_STR("load 1m\n  m 1 x 2\n"), count, NULL));
    cr_expect_not(promqltest_run_text("inline", KV_STR("eval instant at noon m\n"), count, NULL));
}

/* ---- our own files: all of them pass */

static int own_passed;

static void must_pass(void *ctx, const struct promqltest_case *one)
{
    (void)ctx;
    cr_expect_eq(one->outcome, PROMQLTEST_PASSED, "%s:%d: %s\n    %s", one->file, one->line, one->query,
                 one->why);
    own_passed += one->outcome == PROMQLTEST_PASSED;
}

Test(promqltest, every_case_of_ours_passes, .timeout = 120)
{
    glob_t files = {0};
    cr_assert_eq(glob("tests/data/promql/*.test", 0, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc; i++)
        cr_expect(promqltest_run(files.gl_pathv[i], must_pass, NULL), "%s", files.gl_pathv[i]);
    globfree(&files);
    cr_expect_geq(own_passed, 60);
}

/* ---- the conformance files, against the list of what is known not to pass */

static struct promqltest_list list;
static int wrong, surprises;

static void hold_against_list(void *ctx, const struct promqltest_case *one)
{
    bool listed = promqltest_list_has(&list, one->file, one->line);
    (void)ctx;
    if (one->outcome == PROMQLTEST_PASSED && listed) {
        printf("passes now, take it off %s: %s:%d\n", list_path, one->file, one->line);
        surprises++;
    }
    if (one->outcome != PROMQLTEST_PASSED && !listed) {
        printf("%s:%d: %s\n    %s\n", one->file, one->line, one->query, one->why);
        wrong++;
    }
    tally.passed += one->outcome == PROMQLTEST_PASSED;
    tally.failed += one->outcome == PROMQLTEST_FAILED;
    tally.not_yet += one->outcome == PROMQLTEST_NOT_YET;
}

Test(promqltest, every_conformance_case_passes_or_is_listed, .timeout = 600)
{
    glob_t files = {0};
    if (glob(conformance, 0, NULL, &files) != 0) {
        fprintf(stderr, "SKIPPED: %s is not there\n", conformance);
        return;
    }
    cr_assert(promqltest_list_read(list_path, &list));
    for (size_t i = 0; i < files.gl_pathc; i++) {
        memset(&tally, 0, sizeof tally);
        cr_expect(promqltest_run(files.gl_pathv[i], hold_against_list, NULL), "%s", files.gl_pathv[i]);
        printf("%-56s %5d passed %5d failed %5d not yet\n", files.gl_pathv[i], tally.passed, tally.failed,
               tally.not_yet);
    }
    globfree(&files);
    promqltest_list_release(&list);
    fflush(stdout);
    cr_expect_eq(wrong, 0, "%d cases fail that passed before", wrong);
}
