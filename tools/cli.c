/* cli.c - which command, and the small ones: check, version, help. */
#include "tools/cli.h"
#include "http/params.h"
#include "kvcore/os/clock.h"
#include "version.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t log_now(void *ctx)
{
    (void)ctx;
    return kv_clock_wall_ms(kv_clock_system());
}

static void log_line(void *ctx, enum kv_log_level level, const char *line, size_t len)
{
    (void)ctx;
    (void)level;
    fprintf(stderr, "%.*s\n", (int)len, line);
}

void cli_logger(struct kv_logger *log, enum kv_log_level level)
{
    *log = (struct kv_logger){.sink = log_line, .level = level, .now_ms = log_now};
}

int cli_failed(const struct kv_err *err, kv_status rc)
{
    fprintf(stderr, "tidemark: %s\n", err->text[0] ? err->text : kv_status_text(rc));
    return 1;
}

void cli_cut_advice(char *text)
{
    char *advice = strstr(text, "; raise ts_options.");
    if (!advice)
        advice = strstr(text, ", or raise ts_options.");
    if (advice)
        *advice = 0;
}

const char *cli_time_text(int64_t ms, char out[40])
{
    time_t seconds = (time_t)(ms >= 0 ? ms / 1000 : (ms - 999) / 1000);
    int fraction = (int)(ms - (int64_t)seconds * 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    size_t n = strftime(out, 40, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, 40 - n, fraction ? ".%03dZ" : "Z", fraction);
    return out;
}

bool cli_time(const char *text, int64_t now_ms, int64_t *out)
{
    int64_t back;
    if (strncmp(text, "now", 3) == 0)
        text += 3;
    else if (http_parse_time(kv_slice_str(text), out) == KV_OK && text[0] != '-')
        return true;
    *out = now_ms;
    if (*text == 0)
        return true;
    if (*text != '-' || http_parse_duration(kv_slice_str(text + 1), &back) < 0)
        return false;
    *out = now_ms - back;
    return true;
}

kv_status cli_series_text(const struct ts_label *labels, size_t n, struct kv_buf *out)
{
    bool any = false;
    kv_status rc = KV_OK;
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        if (kv_slice_equal(labels[i].name, KV_STR("__name__")))
            rc = kv_buf_append(out, labels[i].value);
    for (size_t i = 0; i < n && rc == KV_OK; i++) {
        if (kv_slice_equal(labels[i].name, KV_STR("__name__")))
            continue;
        rc = kv_buf_printf(out, "%s%.*s=\"%.*s\"", any ? ", " : "{", KV_ARG(labels[i].name),
                           KV_ARG(labels[i].value));
        any = true;
    }
    if (rc == KV_OK && (any || n == 0))
        rc = kv_buf_append(out, any ? KV_STR("}") : KV_STR("{}"));
    return rc;
}

static void check_line(void *ctx, kv_status severity, const char *line)
{
    (void)ctx;
    fprintf(severity < 0 ? stderr : stdout, "%s\n", line);
}

static int cli_check(int argc, char **argv)
{
    struct kv_err err = {0};
    struct kv_env *env;
    struct kv_env_options options = {0};
    const char *path = "./data";
    if (argc == 2 && strcmp(argv[0], "--data") == 0)
        path = argv[1];
    else if (argc == 1 && argv[0][0] != '-')
        path = argv[0];
    else if (argc != 0) {
        fprintf(stderr, "usage: tidemark check [--data DIR]\n");
        return 2;
    }
    kv_status rc = kv_env_open(&options, &env, &err);
    if (rc == KV_OK) {
        rc = ts_check(env, path, check_line, NULL, &err);
        kv_env_close(env);
    }
    if (rc < 0)
        return cli_failed(&err, rc);
    printf("%s is sound\n", path);
    return 0;
}

static int cli_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("tidemark " TIDEMARK_VERSION "\n");
    return 0;
}

static const struct {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"serve", "run the server (serve --help lists its settings)", cli_serve},
    {"query",
     "ask a server or a directory: query 'PROMQL' [--at T | --from T --to T --step D] [--url URL | --data "
     "DIR]",
     cli_query},
    {"check", "read every file of a store that is not open and check it: check [--data DIR]", cli_check},
    {"backup",
     "copy a store, whole or what has changed, while it runs or not: backup [--data DIR | --url URL] TO "
     "(--help says more)",
     cli_backup},
    {"restore", "make a store of a backup: restore [--number N] FROM... [--data DIR]", cli_restore},
    {"export",
     "write stored samples as text: export ['SELECTOR'...] [--format json|prometheus|openmetrics] [--from T] "
     "[--to T] [--url URL | --data "
     "DIR]",
     cli_export},
    {"import", "read such text, or line protocol: import [--format F] [FILE...] [--url URL | --data DIR]",
     cli_import},
    {"chunk",
     "explain the chunks of series: chunk ['SELECTOR'...] [--from T] [--to T] [--data DIR] (--help says "
     "more)",
     cli_chunk},
    {"version", "print the version", cli_version},
};

static void usage(FILE *to)
{
    fprintf(to, "tidemark " TIDEMARK_VERSION ", a metrics database\n\nusage: tidemark COMMAND ...\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].help);
}

int cli_main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(name, "--version") == 0)
        return cli_version(0, NULL);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc - 2, argv + 2);
    if (*name)
        fprintf(stderr, "tidemark: unknown command \"%.60s\"\n\n", name);
    usage(stderr);
    return 2;
}
