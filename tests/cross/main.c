/* Runs the suites that are linked with it; see criterion/criterion.h. */
#include "tsdb/chunk/kernel.h"

#include <criterion/criterion.h>

struct cross_test *cross_tests;

int main(int argc, char **argv)
{
    size_t kinds, n = 0;
    const struct ts_kernels *const *all = ts_kernels_all(&kinds);
    if (argc > 1 && strcmp(all[kinds - 1]->name, argv[1]) != 0) {
        fprintf(stderr, "the best kernels here are %s, not %s\n", all[kinds - 1]->name, argv[1]);
        return 1;
    }
    for (const struct cross_test *test = cross_tests; test; test = test->next, n++) {
        fprintf(stderr, "%s/%s\n", test->suite, test->name);
        test->run();
    }
    printf("%zu tests of chunks with kernels plain and %s\n", n, all[kinds - 1]->name);
    return n > 0 ? 0 : 1;
}
