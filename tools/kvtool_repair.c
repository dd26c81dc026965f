/* kvtool repair. */
#include "tools/kvtool.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* "name[:levelled|:runs],..." in place. Answers how many; -1 after saying what is wrong. */
static int parse_spaces(char *text, struct kv_space_options spaces[KV_SPACES_MAX])
{
    int n = 0;
    char *rest = NULL;
    for (char *word = strtok_r(text, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        char *style = strchr(word, ':');
        if (style)
            *style++ = 0;
        bool levelled = style && strcmp(style, "levelled") == 0;
        if (n == KV_SPACES_MAX || !*word || strlen(word) > 32 ||
            (style && !levelled && strcmp(style, "runs") != 0)) {
            fprintf(stderr,
                    "kvtool: --spaces: NAME, NAME:runs or NAME:levelled, separated by commas, not %s%s%s\n",
                    word, style ? ":" : "", style ? style : "");
            return -1;
        }
        spaces[n++] =
            (struct kv_space_options){.name = word, .style = levelled ? KV_STYLE_LEVELLED : KV_STYLE_RUNS};
    }
    return n;
}

static void print_line(void *ctx, kv_status severity, const char *line)
{
    (void)ctx;
    printf("%s %s\n", severity < 0 ? "LOST " : "     ", line);
}

static void print_report(const struct kv_repair_report *report, const char *path)
{
    printf("%" PRIu64 " tables are as they were, %" PRIu64 " written anew, %" PRIu64 " lost\n",
           report->tables_kept, report->tables_rewritten, report->tables_lost);
    printf("lost: %" PRIu64 " entries of tables, %" PRIu64 " values, %" PRIu64 " commits of the log\n",
           report->entries_lost, report->values_lost, report->commits_lost);
    if (report->findings)
        printf("files that left the database are in %s.damaged\n", path);
    else
        printf("nothing had to be repaired\n");
}

int kvtool_repair(int argc, char **argv)
{
    struct kv_env_options environment = {.threads = KV_THREADS_NONE};
    struct kv_space_options spaces[KV_SPACES_MAX];
    struct kv_repair_options options = {.key = *kvtool_key(), .each = print_line};
    struct kv_repair_report report = {0};
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    char *named = NULL;
    const struct tool_option known[] = {{.name = "--spaces", .text = &named}};
    argc = tool_options(argc, argv, known, 1);
    if (argc != 1)
        return -1;
    int n = named ? parse_spaces(named, spaces) : 0;
    if (n < 0)
        return EXIT_TROUBLE;
    if (n > 0) {
        options.spaces = spaces;
        options.n_spaces = (size_t)n;
    }
    kv_status rc = kv_env_open(&environment, &env, &err);
    if (rc == KV_OK)
        rc = kv_repair(env, argv[0], &options, &report, &err);
    kv_env_close(env);
    if (rc < 0)
        return kvtool_trouble(&err, rc);
    print_report(&report, argv[0]);
    return report.findings ? EXIT_FINDINGS : 0;
}
