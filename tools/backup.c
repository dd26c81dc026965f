/*
 * backup.c - `tidemark backup` and `tidemark restore`: a directory's store, or a running server's, into a repository or an archive and back.
 */
#include "kvcore/os/clock.h"
#include "tools/archive.h"
#include "tools/cli.h"
#include "tools/options.h"
#include "tools/progress.h"
#include "tools/remote.h"
#include "tsdb/ts.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#define POLL_NS UINT64_C(250000000)
enum { STATUS_BYTES_MAX = 16 << 20 };

static const char backup_usage[] =
    "usage: tidemark backup [--data DIR] [--keep N] [--plain] REPOSITORY   a stopped store into a directory "
    "of backups\n"
    "       tidemark backup [--data DIR | --url URL] --archive FILE|-      a stopped store or a server into "
    "one file\n"
    "       tidemark backup --url URL [--keep N]                           a server into its --backup-dir\n"
    "       tidemark backup --list REPOSITORY\n"
    "       tidemark backup --verify [--number N] REPOSITORY|ARCHIVE...    reads everything, checks every "
    "sum\n"
    "       tidemark backup --remove N REPOSITORY\n"
    "DIR: ./data. Only what the repository lacks is copied; --keep leaves the N newest backups; --plain "
    "compresses nothing;\n"
    "--flush-head (servers) puts samples into tables first. URL: http://127.0.0.1:9430, or "
    "http://NAME:PASSWORD@HOST:PORT\n";
static const char restore_usage[] =
    "usage: tidemark restore [--number N] REPOSITORY [--data DIR]      backup N of it, or the newest\n"
    "       tidemark restore ARCHIVE... [--data DIR]                   \"-\": standard input\n"
    "DIR: ./data; it must be missing or empty, and is a store once this has ended well\n";

static int usage(const char *text, bool asked)
{
    fputs(text, asked ? stdout : stderr);
    return asked ? 0 : 2;
}

#define NOT_ASKED UINT64_MAX
struct asked {
    char *data, *url, *archive;
    uint64_t keep, number, remove; /* remove: or NOT_ASKED; 0 is a number that no backup has */
    bool plain, flush_head, list, verify, help;
};

static int take_options(int argc, char **argv, struct asked *a)
{
    const struct tool_option options[] = {
        {.name = "--data", .text = &a->data},       {.name = "--url", .text = &a->url},
        {.name = "--archive", .text = &a->archive}, {.name = "--keep", .number = &a->keep},
        {.name = "--number", .number = &a->number}, {.name = "--remove", .number = &a->remove},
        {.name = "--plain", .flag = &a->plain},     {.name = "--flush-head", .flag = &a->flush_head},
        {.name = "--list", .flag = &a->list},       {.name = "--verify", .flag = &a->verify},
        {.name = "--help", .flag = &a->help},
    };
    return tool_options(argc, argv, options, sizeof options / sizeof *options);
}

static kv_status quiet_env(struct kv_env **env, struct kv_err *err)
{
    const struct kv_env_options options = {.threads = KV_THREADS_NONE};
    return kv_env_open(&options, env, err);
}

/* ---- a stopped store ----------------------------------------------------------------------------------------------- */

static int backup_directory(const struct asked *a, const char *to)
{
    struct kv_repository repository = {.path = to};
    struct progress progress;
    struct kv_backup_options options = {.compression = a->plain ? KV_COMPRESSION_NONE : KV_COMPRESSION_ZSTD,
                                        .keep = (uint32_t)a->keep,
                                        .progress = progress_show,
                                        .progress_ctx = &progress};
    struct kv_backup_info info;
    struct kv_sink sink;
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    FILE *file = NULL;
    kv_status rc;
    progress_begin(&progress, "backup");
    KV_TRY(quiet_env(&env, &err));
    if (a->archive) {
        KV_TRY(archive_open(a->archive, true, &file, &err));
        sink = archive_sink(file);
        options.archive = &sink;
    } else {
        options.repository = &repository;
        KV_TRY(archive_outside(to, a->data ? a->data : "./data", &err));
    }
    rc = ts_backup_closed(env, a->data ? a->data : "./data", &options, &info, &err);
    rc = archive_done(file, a->archive, rc, &err);
    progress_end(&progress);
    if (rc == KV_OK && file != stdout)
        archive_print_info(NULL, &info);
out:
    kv_env_close(env);
    return rc < 0 ? cli_failed(&err, rc) : 0;
}

/* ---- a running server ---------------------------------------------------------------------------------------------- */

/* Counts what goes by on its way into the archive. */
struct counted {
    struct kv_sink to;
    struct progress progress;
    uint64_t bytes;
};

static kv_status counted_write(void *ctx, kv_slice bytes, struct kv_err *err)
{
    struct counted *c = ctx;
    c->bytes += bytes.len;
    kv_status rc = c->to.write(c->to.ctx, bytes, err);
    return rc < 0 ? rc : progress_show(&c->progress, &(struct kv_progress){.bytes_done = c->bytes});
}

static kv_status fetch_archive(const struct asked *a, struct remote *remote, struct kv_err *err)
{
    struct counted counted = {0};
    const struct kv_sink sink = {counted_write, &counted};
    const struct remote_request request = {.method = "POST",
                                           .path = a->flush_head ? "/api/v1/admin/backup/archive?flush_head=1"
                                                                 : "/api/v1/admin/backup/archive",
                                           .to = &sink,
                                           .endless = true};
    FILE *file = NULL;
    kv_status rc = archive_open(a->archive, true, &file, err);
    if (rc < 0)
        return rc;
    counted.to = archive_sink(file);
    progress_begin(&counted.progress, "backup");
    rc = remote_call(remote, &request, err);
    progress_end(&counted.progress);
    rc = archive_done(file, a->archive, rc, err);
    if (rc == KV_OK && file != stdout)
        printf("bytes=%llu\n", (unsigned long long)counted.bytes);
    return rc;
}

static uint64_t number_in(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItem(object, name);
    return cJSON_IsNumber(item) && item->valuedouble > 0 ? (uint64_t)item->valuedouble : 0;
}

static void print_backup(const cJSON *json)
{
    const cJSON *time = cJSON_GetObjectItem(json, "time");
    const struct kv_backup_info info = {
        .number = number_in(json, "number"),
        .time_ms = cJSON_IsNumber(time) ? (int64_t)(time->valuedouble * 1000) : 0,
        .version = number_in(json, "version"),
        .files = number_in(json, "files"),
        .bytes = number_in(json, "bytes"),
        .added_files = number_in(json, "addedFiles"),
        .added_bytes = number_in(json, "addedBytes"),
    };
    archive_print_info(NULL, &info);
}

/* What the server says of its backup: KV_OK when it is made (and printed), KV_BUSY while it is not. */
static kv_status look_at(const struct kv_buf *answer, struct progress *progress, struct kv_err *err)
{
    cJSON *json = cJSON_ParseWithLength((const char *)answer->data, answer->len);
    const cJSON *data = cJSON_GetObjectItem(json, "data");
    const char *state = cJSON_GetStringValue(cJSON_GetObjectItem(data, "state"));
    const char *error = cJSON_GetStringValue(cJSON_GetObjectItem(data, "error"));
    kv_status rc = KV_OK;
    if (!state) {
        rc = kv_fail(err, KV_IO, 0, "the server's answer is not that of a Tidemark");
    } else if (strcmp(state, "running") == 0) {
        const struct kv_progress at = {number_in(data, "filesDone"), number_in(data, "files"),
                                       number_in(data, "bytesDone"), number_in(data, "bytes")};
        if (at.bytes)
            (void)!progress_show(progress, &at);
        rc = KV_BUSY;
    } else {
        progress_end(progress);
        if (strcmp(state, "failed") == 0)
            rc = kv_fail(err, KV_IO, 0, "%s", error ? error : "the server's backup failed");
        else
            print_backup(cJSON_GetObjectItem(data, "backup"));
    }
    cJSON_Delete(json);
    return rc;
}

static kv_status backup_there(const struct asked *a, struct remote *remote, struct kv_err *err)
{
    struct kv_buf answer = {.max = STATUS_BYTES_MAX};
    struct progress progress;
    char path[100] = "/api/v1/admin/backup?";
    size_t n = strlen(path);
    kv_status rc;
    if (a->keep)
        n += (size_t)snprintf(path + n, sizeof path - n, "keep=%llu&", (unsigned long long)a->keep);
    snprintf(path + n, sizeof path - n, "flush_head=%d", a->flush_head);
    progress_begin(&progress, "backup");
    KV_TRY(
        remote_call(remote, &(struct remote_request){.method = "POST", .path = path, .out = &answer}, err));
    while ((rc = look_at(&answer, &progress, err)) == KV_BUSY) {
        kv_clock_sleep_ns(kv_clock_system(), POLL_NS);
        KV_TRY(remote_call(
            remote,
            &(struct remote_request){.method = "GET", .path = "/api/v1/status/backup", .out = &answer}, err));
    }
out:
    kv_buf_release(&answer);
    return rc;
}

static int backup_server(const struct asked *a)
{
    struct remote *remote = NULL;
    struct kv_err err = {0};
    kv_status rc = remote_open(a->url, &remote, &err);
    if (rc == KV_OK)
        rc = a->archive ? fetch_archive(a, remote, &err) : backup_there(a, remote, &err);
    remote_close(remote);
    return rc < 0 ? cli_failed(&err, rc) : 0;
}

/* ---- repositories -------------------------------------------------------------------------------------------------- */

static void print_finding(void *ctx, kv_status severity, const char *line)
{
    (void)ctx;
    fprintf(severity < 0 ? stderr : stdout, "%s\n", line);
}

static int look_into_repository(const struct asked *a, const char *path)
{
    const struct kv_repository repository = {.path = path};
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    kv_status rc = quiet_env(&env, &err);
    if (rc == KV_OK)
        rc = a->list ? kv_backup_list(env, &repository, archive_print_info, NULL, &err)
                     : kv_backup_remove(env, &repository, a->remove, &err);
    kv_env_close(env);
    return rc < 0 ? cli_failed(&err, rc) : 0;
}

/* verify: every finding is a line; otherwise into directory. */
static int read_backup(const struct asked *a, int n, char **paths, const char *directory)
{
    struct archive_from from = {0};
    struct progress progress;
    struct kv_restore_options options = {
        .number = a->number, .progress = progress_show, .progress_ctx = &progress};
    struct kv_backup_info info;
    struct kv_env *env = NULL;
    struct kv_err err = {0};
    kv_status rc;
    progress_begin(&progress, directory ? "restore" : "verify");
    KV_TRY(archive_from_open(&from, n, paths, &options, &err));
    KV_TRY(quiet_env(&env, &err));
    if (directory)
        rc = ts_restore(env, directory, &options, &info, &err);
    else
        rc = kv_backup_verify(env, &options, print_finding, NULL, &err);
    progress_end(&progress);
    if (rc == KV_OK && directory)
        archive_print_info(NULL, &info);
    else if (rc == KV_OK)
        puts("sound");
out:
    kv_env_close(env);
    archive_from_close(&from);
    return rc < 0 ? cli_failed(&err, rc) : 0;
}

/* ---- commands ------------------------------------------------------------------------------------------------------ */

int cli_backup(int argc, char **argv)
{
    struct asked a = {.remove = NOT_ASKED};
    int n = take_options(argc, argv, &a);
    if (a.help || n < 0)
        return a.help ? usage(backup_usage, true) : 2;
    bool removes = a.remove != NOT_ASKED, writes = !a.list && !a.verify && !removes;
    bool sources = a.data || a.url || a.archive || a.keep || a.plain || a.flush_head;
    if (a.keep > UINT32_MAX || a.list + a.verify + removes > 1 || (!writes && sources) ||
        (a.number && !a.verify) || (a.data && a.url) || (a.url && a.plain) || (a.flush_head && !a.url) ||
        (a.archive && a.keep))
        return usage(backup_usage, false);
    if (a.verify)
        return n > 0 ? read_backup(&a, n, argv, NULL) : usage(backup_usage, false);
    if (n != (a.archive || a.url ? 0 : 1)) {
        if (a.url && n == 1)
            fprintf(
                stderr,
                "tidemark: a server makes backups in the directory of its --backup-dir; name none, or take "
                "--archive FILE\n");
        return usage(backup_usage, false);
    }
    if (!writes)
        return look_into_repository(&a, argv[0]);
    return a.url ? backup_server(&a) : backup_directory(&a, a.archive ? NULL : argv[0]);
}

int cli_restore(int argc, char **argv)
{
    struct asked a = {0};
    const struct tool_option options[] = {{.name = "--data", .text = &a.data},
                                          {.name = "--number", .number = &a.number},
                                          {.name = "--help", .flag = &a.help}};
    int n = tool_options(argc, argv, options, sizeof options / sizeof *options);
    if (a.help || n < 0)
        return a.help ? usage(restore_usage, true) : 2;
    if (n < 1)
        return usage(restore_usage, false);
    return read_backup(&a, n, argv, a.data ? a.data : "./data");
}
