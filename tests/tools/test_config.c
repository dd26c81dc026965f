/* test_config.c - settings: one table for flags, environment and file, and what is said when one will not do. */
#include "tools/config.h"
#include "kvcore/kv.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct config config;
static struct kv_err err;
static const char *environment[8][2];

static void end(void)
{
    config_release(&config);
    memset(environment, 0, sizeof environment);
}
TestSuite(config, .fini = end);

static char *from_environment(const char *name)
{
    for (size_t i = 0; i < 8 && environment[i][0]; i++)
        if (strcmp(environment[i][0], name) == 0)
            return (char *)(uintptr_t)environment[i][1];
    return NULL;
}

/* args: as on a command line, separated by single blanks. */
static kv_status load(const char *args)
{
    static char text[2000];
    char *argv[32];
    int argc = 0;
    bool help;
    snprintf(text, sizeof text, "%s", args);
    for (char *p = strtok(text, " "); p; p = strtok(NULL, " "))
        argv[argc++] = p;
    config_release(&config);
    err = (struct kv_err){0};
    return config_load(argc, argv, from_environment, &config, &help, &err);
}

Test(config, defaults_are_understood)
{
    cr_assert_eq(load(""), KV_OK, "%s", err.text);
    cr_assert_str_eq(config.listen.text, "127.0.0.1:9430");
    cr_assert_eq(config.retention_ms.number, 30 * 86400000LL);
    cr_assert_eq(config.self_metrics_ms.number, 15000);
    cr_assert_eq(config.body_budget_bytes.number, 256 << 20);
    cr_assert_eq(config.durability.number, KV_DURABILITY_GROUP);
    cr_assert_eq(config.insecure_listen.number, 0);
    cr_assert(config.metric_series_max.number == 0 && config.series_per_s_max.number == 0);
}

Test(config, values_of_every_kind)
{
    cr_assert_eq(load("--retention inf --self-metrics=off --durability interval=1s --insecure-listen --cache "
                      "2GiB --queries-max 5 --metric-series-max 7 --new-series-rate off --log-level warn"),
                 KV_OK, "%s", err.text);
    cr_assert_eq(config.retention_ms.number, INT64_MAX);
    cr_assert_eq(config.self_metrics_ms.number, 0);
    cr_assert(config.durability.number == KV_DURABILITY_INTERVAL && config.durability.extra == 1000);
    cr_assert_eq(config.insecure_listen.number, 1);
    cr_assert_eq(config.cache_bytes.number, 2LL << 30);
    cr_assert_eq(config.queries_max.number, 5);
    cr_assert(config.metric_series_max.number == 7 && config.series_per_s_max.number == 0);
    cr_assert_eq(config.log_level.number, KV_LOG_WARN);
}

static char *file_with(const char *text)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/tidemark-config-XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return path;
}

Test(config, a_flag_wins_over_the_environment_and_that_over_the_file)
{
    char args[200];
    char *path = file_with("retention: 1d\nqueries_max: 7\nlookback: 1m # a comment\n");
    environment[0][0] = "TIDEMARK_RETENTION";
    environment[0][1] = "2d";
    environment[1][0] = "TIDEMARK_QUERIES_MAX";
    environment[1][1] = "8";
    snprintf(args, sizeof args, "--config %s --retention 3d", path);
    cr_assert_eq(load(args), KV_OK, "%s", err.text);
    cr_assert_eq(config.retention_ms.number, 3 * 86400000LL);
    cr_assert_eq(config.queries_max.number, 8);
    cr_assert_eq(config.lookback_ms.number, 60000);
    unlink(path);
}

Test(config, bad_flags_are_named)
{
    static const struct {
        const char *args, *why;
    } cases[] = {
        {"--retentoin 1d", "unknown flag --retentoin (nearest: --retention)"},
        {"serve", "unexpected argument \"serve\""},
        {"--retention", "flag --retention: a value is missing, it takes a time above 0, like 30d, or inf"},
        {"--retention 1d --retention 2d", "flag --retention is given more than once"},
        {"--retention 0", "flag --retention: \"0\" will not do"},
        {"--retention -1d", "will not do"},
        {"--retention 5mm",
         "flag --retention: \"5mm\" will not do, it takes a time above 0, like 30d, or inf"},
        {"--retention off", "will not do"},
        {"--self-metrics inf",
         "flag --self-metrics: \"inf\" will not do, it takes a time above 0, like 15s, or off"},
        {"--cache 0", "flag --cache: \"0\" will not do, it takes a size above 0, like 64MiB"},
        {"--cache 5XB", "will not do"},
        {"--cache -5", "will not do"},
        {"--cache 99999999999999999999", "will not do"},
        {"--queries-max 0",
         "flag --queries-max: \"0\" will not do, it takes a whole number from 1 to 4294967295"},
        {"--queries-max 1.5", "will not do"},
        {"--queries-max 4294967296", "will not do"},
        {"--durability sometimes", "it takes group|always|interval=TIME|os"},
        {"--durability interval=1h", "will not do"},
        {"--durability interval=1ms", "will not do"},
        {"--insecure-listen=maybe", "it takes true or false"},
        {"--log-level loud", "it takes debug|info|warn|error"},
        {"--data \xff", "it takes UTF-8 text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_assert_eq(load(cases[i].args), KV_INVALID, "%s", cases[i].args);
        cr_assert(strstr(err.text, cases[i].why), "%s: %s", cases[i].args, err.text);
    }
}

Test(config, a_bad_environment_is_named)
{
    environment[0][0] = "TIDEMARK_CACHE";
    environment[0][1] = "lots";
    cr_assert_eq(load(""), KV_INVALID);
    cr_assert(strstr(err.text, "environment TIDEMARK_CACHE: \"lots\" will not do"), "%s", err.text);
    environment[0][1] = "\xff";
    cr_assert_eq(load(""), KV_INVALID);
}

Test(config, bad_files_are_named_with_their_line)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"retention: 1d\nretentoin: 2d\n", ":2: unknown key \"retentoin\" (nearest: retention)"},
        {"self-metrics: off\n", ":1: unknown key \"self-metrics\" (nearest: self_metrics)"},
        {"config: other.yaml\n", "unknown key \"config\""},
        {"retention: 1d\nretention: 1d\n", ":2: retention is given more than once"},
        {"\nretention: 5 mm\n", ":2: retention: \"5 mm\" will not do"},
        {"retention: [1d]\n", "retention: expected one value"},
        {"retention:\n  nested: 1d\n", "retention: expected one value"},
        {"- a\n- b\n", "expected \"key: value\" lines"},
        {"just text\n", "expected \"key: value\" lines"},
        {"retention: \"1d\n", ""},
        {"retention:\t1d\n\tx: y\n", ""},
        {"? [a]\n: b\n", "expected a key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        config_release(&config);
        cr_assert_eq(config_read_yaml(&config, "x.yaml", kv_slice_str(cases[i].text), &err), KV_INVALID, "%s",
                     cases[i].text);
        cr_assert(strstr(err.text, "x.yaml:") && strstr(err.text, cases[i].why), "%s: %s", cases[i].text,
                  err.text);
    }
    static const char *const good[] = {"", "\n\n", "# only a comment\n",
                                       "\xef\xbb\xbfretention: 1d\r\nlookback: 1m\r\n",
                                       "---\nretention: 1d\n...\n"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        config_release(&config);
        cr_assert_eq(config_read_yaml(&config, "x.yaml", kv_slice_str(good[i]), &err), KV_OK, "%zu: %s", i,
                     err.text);
    }
}

Test(config, files_that_cannot_be_read_are_named)
{
    cr_assert_eq(load("--config /nonexistent/x.yaml"), KV_MISSING);
    cr_assert(strstr(err.text, "cannot read the configuration /nonexistent/x.yaml: No such file"), "%s",
              err.text);
    cr_assert_eq(load("--config /tmp"), KV_INVALID);
    cr_assert(strstr(err.text, "/tmp is not a file"), "%s", err.text);
}

Test(config, options_of_the_store_are_named_as_flags)
{
    cr_assert_str_eq(config_flag_of(KV_STR("series_max")), "--series-max");
    cr_assert_str_eq(config_flag_of(KV_STR("metric_series_max")), "--metric-series-max");
    cr_assert_str_eq(config_flag_of(KV_STR("series_per_s_max")), "--new-series-rate");
    cr_assert_str_eq(config_flag_of(KV_STR("request_samples_max")), "--request-samples-max");
    cr_assert_str_eq(config_flag_of(KV_STR("labels_max")), "--labels-max");
    cr_assert_str_eq(config_flag_of(KV_STR("label_name_len_max")), "--label-name-max");
    cr_assert_str_eq(config_flag_of(KV_STR("label_value_len_max")), "--label-value-max");
    cr_assert_str_eq(config_flag_of(KV_STR("future_ms")), "--future-max");
    cr_assert_str_eq(config_flag_of(KV_STR("retention_ms")), "--retention");
    cr_assert_null(config_flag_of(KV_STR("read_only")));
}

Test(config, help_and_json_list_every_setting)
{
    struct kv_buf text = {0};
    cr_assert_eq(config_help(&text), KV_OK);
    cr_assert_eq(kv_buf_append_byte(&text, 0), KV_OK);
#define X(field, kind, flag, otherwise, takes, help)                                                         \
    cr_assert(strstr((char *)text.data, "--" flag " "), "%s", flag);
    CONFIG_LIST(X)
#undef X
    kv_buf_clear(&text);
    cr_assert_eq(load(""), KV_OK);
    cr_assert_eq(config_json(&config, &text), KV_OK);
    cr_assert(kv_slice_has_prefix(kv_buf_slice(&text),
                                  KV_STR("{\"data\":\"./data\",\"listen\":\"127.0.0.1:9430\"")));
    kv_buf_release(&text);
}

Test(config, promql_features_are_known_names)
{
    cr_assert_eq(load(""), KV_OK);
    cr_assert_eq(config.promql_features.number, 0);
    cr_assert_eq(load("--promql-features experimental-functions,,delayed-name-removal"), KV_OK, "%s",
                 err.text);
    cr_assert_eq(config.promql_features.number,
                 TS_PROMQL_EXPERIMENTAL_FUNCTIONS | TS_PROMQL_DELAYED_NAME_REMOVAL);
    cr_assert_eq(load("--promql-features all"), KV_OK);
    cr_assert_eq(config.promql_features.number, (uint32_t)TS_PROMQL_ALL);
    cr_assert_eq(load("--promql-features all,native"), KV_INVALID);
    cr_assert_not_null(strstr(err.text, "it takes all, or delayed-name-removal and "), "%s", err.text);
}

static void expect_rule(size_t at, const char *selector, int64_t keep_ms)
{
    struct ts_retention_rule rules[CONFIG_RULES_MAX];
    size_t n = config_rules(&config, rules);
    cr_assert_lt(at, n);
    cr_assert(kv_slice_equal(rules[at].selector, kv_slice_str(selector)), "%.*s", (int)rules[at].selector.len,
              (const char *)rules[at].selector.data);
    cr_assert_eq(rules[at].keep_ms, keep_ms);
}

Test(config, retention_rules_are_a_repeated_flag_or_a_list_in_the_file)
{
    static char command[200];
    struct ts_retention_rule rules[CONFIG_RULES_MAX];
    cr_assert_eq(load(""), KV_OK);
    cr_assert_eq(config_rules(&config, rules), 0);
    cr_assert_eq(config.retention_bytes.number, 0);
    cr_assert_eq(load("--retention-rule {job=\"a=b\"}=7d --retention-rule=up=inf --retention-size 10GiB"),
                 KV_OK, "%s", err.text);
    cr_assert_eq(config_rules(&config, rules), 2);
    expect_rule(0, "{job=\"a=b\"}", 7 * 86400000LL);
    expect_rule(1, "up", INT64_MAX);
    cr_assert_eq(config.retention_bytes.number, 10LL << 30);
    char *path = file_with("retention_rule:\n  - '{job=\"x\"}=1h'\n  - up=2d\nretention_size: 1KiB\n");
    snprintf(command, sizeof command, "--config %s", path);
    cr_assert_eq(load(command), KV_OK, "%s", err.text);
    cr_assert_eq(config_rules(&config, rules), 2);
    expect_rule(0, "{job=\"x\"}", 3600000);
    expect_rule(1, "up", 2 * 86400000LL);
    snprintf(command, sizeof command, "--retention-rule down=3d --config %s", path);
    cr_assert_eq(load(command), KV_OK, "%s", err.text); /* the flags win whole: lists are not mixed */
    cr_assert_eq(config_rules(&config, rules), 1);
    expect_rule(0, "down", 3 * 86400000LL);
    unlink(path);
    environment[0][0] = "TIDEMARK_RETENTION_RULE";
    environment[0][1] = "a=1d\nb=2d";
    cr_assert_eq(load(""), KV_OK, "%s", err.text);
    expect_rule(1, "b", 2 * 86400000LL);
    environment[0][0] = NULL;
    static const char *const bad[] = {"--retention-rule up", "--retention-rule up=", "--retention-rule =1d",
                                      "--retention-rule up=0s",
                                      "--retention-rule up=1d --retention-rule up=x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert_eq(load(bad[i]), KV_INVALID, "%s", bad[i]);
        cr_assert_not_null(strstr(err.text, "it takes SELECTOR=TIME"), "%s", err.text);
    }
    cr_assert_eq(load("--retention-rule up=1d --retention-rule {job=\"a}=1d"), KV_INVALID);
    cr_assert_str_eq(err.text,
                     "flag --retention-rule: retention rule 2, {job=\"a}: 1:6: parse error: unterminated "
                     "quoted string");
    environment[0][1] = "rate(up[5m])=1d";
    environment[0][0] = "TIDEMARK_RETENTION_RULE";
    cr_assert_eq(load(""), KV_INVALID);
    cr_assert_not_null(strstr(err.text, "environment TIDEMARK_RETENTION_RULE: retention rule 1, "), "%s",
                       err.text);
    environment[0][0] = NULL;
    static const char *const bad_files[] = {"retention_rule: [[a]]\n", "retention_rule: {a: 1d}\n",
                                            "retention_rule: [up]\n", "retention_rule: ['up=1d'"};
    for (size_t i = 0; i < sizeof bad_files / sizeof *bad_files; i++) {
        config_release(&config);
        cr_assert_eq(config_read_yaml(&config, "x.yaml", kv_slice_str(bad_files[i]), &err), KV_INVALID, "%s",
                     bad_files[i]);
    }
}

Test(config, as_yaml_it_is_the_same_configuration)
{
    struct kv_buf once = {0}, twice = {0};
    struct config again = {0};
    cr_assert_eq(
        load("--data /var/lib/a\"b --retention-rule {job=\"a\\\\b\"}=7d --retention-rule up=inf --cache 1GiB "
             "--durability interval=2s --insecure-listen --promql-features all"),
        KV_OK, "%s", err.text);
    cr_assert_eq(config_yaml(&config, &once), KV_OK);
    cr_assert_eq(config_read_yaml(&again, "answer", kv_buf_slice(&once), &err), KV_OK, "%s", err.text);
    cr_assert_str_eq(again.data.text, "/var/lib/a\"b");
    cr_assert_str_eq(again.retention_rules.text, config.retention_rules.text);
    cr_assert_eq(again.cache_bytes.number, 1 << 30);
    cr_assert_eq(again.insecure_listen.number, 1);
    cr_assert_eq(config_yaml(&again, &twice), KV_OK);
    cr_assert(kv_slice_equal(kv_buf_slice(&once), kv_buf_slice(&twice)), "%.*s",
              KV_ARG(kv_buf_slice(&twice)));
    kv_buf_release(&once);
    kv_buf_release(&twice);
    config_release(&again);
}

Test(config, backups_may_not_lie_in_the_data_directory)
{
    char dir[] = "/tmp/tidemark-config-XXXXXX", link[64], command[300];
    cr_assert_not_null(mkdtemp(dir));
    snprintf(link, sizeof link, "%s-link", dir);
    cr_assert_eq(symlink(dir, link), 0);
    static const char *const inside[] = {"--data %s/a --backup-dir %s/a", "--data %s/a --backup-dir %s/a/b/c",
                                         "--data %s --backup-dir %s-link/b",
                                         "--data %s-link/ --backup-dir %s/./b"};
    static const char *const outside[] = {"--data %s/a --backup-dir %s/ab", "--data %s/a/b --backup-dir %s/a",
                                          "--data %s/a --backup-dir %s-link/b"};
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
        snprintf(command, sizeof command, inside[i], dir, dir);
        cr_assert_eq(load(command), KV_INVALID, "%s", command);
        cr_assert(strstr(err.text, "lies in the data directory"), "%s: %s", command, err.text);
    }
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        snprintf(command, sizeof command, outside[i], dir, dir);
        cr_assert_eq(load(command), KV_OK, "%s: %s", command, err.text);
    }
    unlink(link);
    rmdir(dir);
}
