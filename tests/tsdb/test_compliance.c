/* Every query of the PromQL compliance list is evaluated over a store with its metrics; those that must fail do. What they answer is
 * compared with a real server elsewhere (tests/e2e). Skipped, loudly, where the list is not beside the checkout. */
#include "query_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>

static const char list_path[] = "../shared/conformance/promql-compliance/queries.txt";

enum { SAMPLES = 120, STEP_MS = 15000 };

static void add_all(struct query_kit *kit, const char *name, const char *const *extra, size_t n_extra,
                    double slope)
{
    char series[256];
    for (int host = 0; host < 3; host++)
        for (size_t i = 0; i < n_extra; i++) {
            (void)snprintf(series, sizeof(series),
                           "%s{instance=\"demo.promlabs.com:1000%d\", job=\"demo\"%s%s}", name, host,
                           *extra[i] ? ", " : "", extra[i]);
            for (int k = 0; k < SAMPLES; k++)
                kit_add(kit, series, (int64_t)k * STEP_MS, slope * k * (host + 1) + (double)(i * 7));
        }
    kit_commit(kit);
}
#define ADD(name, slope, ...)                                                                                \
    add_all(&kit, (name), (const char *const[]){__VA_ARGS__},                                                \
            sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *), (slope))

static void check_query(struct query_kit *kit, const char *line)
{
    bool must_fail = strncmp(line, "!fail ", 6) == 0, may_fail = strncmp(line, "!fail2 ", 7) == 0;
    const char *query = line + (must_fail ? 6 : may_fail ? 7 : 0);
    const char *answer = kit_range(kit, query, 600000, 1500000, 60000);
    bool failed = strncmp(answer, "error", 5) == 0;
    cr_expect(may_fail || failed == must_fail, "%s\n%s", query, answer);
}

Test(compliance, every_query_of_the_list_is_answered_or_refused_as_it_should)
{
    static struct query_kit kit;
    char line[4096];
    int n = 0;
    FILE *list = fopen(list_path, "r");
    if (!list) {
        cr_skip_test("no %s: the compliance queries were NOT run", list_path);
        return;
    }
    kit_open(&kit);
    ADD("demo_memory_usage_bytes", 1000, "type=\"free\"", "type=\"used\"", "type=\"buffers\"",
        "type=\"cached\"");
    ADD("demo_cpu_usage_seconds_total", 0.25, "mode=\"idle\"", "mode=\"user\"", "mode=\"system\"");
    ADD("demo_num_cpus", 0, "");
    ADD("demo_disk_usage_bytes", 500, "");
    ADD("demo_disk_total_bytes", 0, "");
    ADD("demo_batch_last_success_timestamp_seconds", 15, "");
    ADD("demo_intermittent_metric", 1, "");
    ADD("demo_api_request_duration_seconds_bucket", 1, "le=\"0.1\"", "le=\"0.5\"", "le=\"1\"", "le=\"+Inf\"");
    while (fgets(line, sizeof(line), list)) {
        line[strcspn(line, "\n")] = 0;
        if (*line == 0 || *line == '#')
            continue;
        check_query(&kit, line);
        n++;
    }
    cr_assert_geq(n, 500);
    (void)fclose(list);
    kit_close(&kit);
}
