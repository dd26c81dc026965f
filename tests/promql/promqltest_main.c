/*
 * Runs PromQL test files and reports each: promqltest [-v] [--write LIST] FILE.test...
 * -v also prints the cases that did not pass. --write makes the list of those, by reason.
 */
#include "tests/tsdb/promqltest.h"

#include <stdio.h>
#include <stdlib.h>

struct tally {
    bool verbose;
    int passed, failed, not_yet;
    struct promqltest_case *others; /* all that did not pass, of all files */
    size_t n, capacity;
};

static void count(void *ctx, const struct promqltest_case *one)
{
    struct tally *tally = ctx;
    tally->passed += one->outcome == PROMQLTEST_PASSED;
    tally->failed += one->outcome == PROMQLTEST_FAILED;
    tally->not_yet += one->outcome == PROMQLTEST_NOT_YET;
    if (one->outcome == PROMQLTEST_PASSED)
        return;
    if (tally->verbose)
        printf("%s:%d: %s: %s\n    %s\n", one->file, one->line,
               one->outcome == PROMQLTEST_FAILED ? "failed" : "not yet", one->query, one->why);
    if (tally->n == tally->capacity) {
        tally->capacity = tally->capacity ? tally->capacity * 2 : 256;
        tally->others = realloc(tally->others, tally->capacity * sizeof *tally->others);
        if (!tally->others)
            abort();
    }
    tally->others[tally->n] = *one;
    if (one->outcome == PROMQLTEST_FAILED)
        snprintf(tally->others[tally->n].why, sizeof one->why, "another answer than expected");
    tally->n++;
}

static int by_reason(const void *a, const void *b)
{
    const struct promqltest_case *x = a, *y = b;
    int c = strcmp(x->why, y->why);
    if (c == 0)
        c = strcmp(x->file, y->file);
    return c ? c : x->line - y->line;
}

static int write_list(struct tally *tally, const char *path)
{
    FILE *out = fopen(path, "w");
    if (!out) {
        perror(path);
        return 1;
    }
    fprintf(out, "# Cases of the conformance files that do not pass yet, by reason. Written by "
                 "build/MODE/tests/promql/promqltest_main --write.\n");
    qsort(tally->others, tally->n, sizeof *tally->others, by_reason);
    for (size_t i = 0; i < tally->n; i++) {
        if (i == 0 || strcmp(tally->others[i].why, tally->others[i - 1].why) != 0)
            fprintf(out, "\n# %s\n", tally->others[i].why);
        fprintf(out, "%s:%d\n", tally->others[i].file, tally->others[i].line);
    }
    return fclose(out) != 0;
}

int main(int argc, char **argv)
{
    struct tally all = {0};
    const char *list = NULL;
    int broken = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-v") == 0) {
            all.verbose = true;
        } else if (strcmp(argv[i], "--write") == 0 && i + 1 < argc) {
            list = argv[++i];
        } else {
            int passed = all.passed, failed = all.failed, not_yet = all.not_yet;
            bool ok = promqltest_run(argv[i], count, &all);
            printf("%-64s %5d passed %5d failed %5d not yet%s\n", argv[i], all.passed - passed,
                   all.failed - failed, all.not_yet - not_yet, ok ? "" : "  BROKEN OFF");
            broken += !ok;
        }
    }
    printf("%-64s %5d passed %5d failed %5d not yet\n", "all", all.passed, all.failed, all.not_yet);
    if (list)
        broken += write_list(&all, list);
    free(all.others);
    return broken || all.failed;
}
