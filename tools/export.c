/* export.c - `tidemark export`: stored samples of a directory or a server as text, in bounded memory. */
#include "http/export.h"
#include "kvcore/os/clock.h"
#include "tools/archive.h"
#include "tools/cli.h"
#include "tools/options.h"
#include "tools/progress.h"
#include "tools/remote.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SELECTORS_MAX = 64, WRITE_BYTES = 256 << 10 };

static const char export_usage[] =
    "usage: tidemark export ['SELECTOR'...] [--format json|prometheus|openmetrics] [--from T] [--to T] "
    "[--output FILE]\n"
    "                       [--url URL | --data DIR]\n"
    "Every sample as it is stored. json (the default): VictoriaMetrics' lines, nothing lost but NaN "
    "payloads; "
    "prometheus: the text format with times in\n"
    "milliseconds; openmetrics: what promtool tsdb create-blocks-from openmetrics reads. The last two leave "
    "stale markers out.\n"
    "SELECTOR: up{job=\"x\"}; none: everything. T: unix seconds, 2026-11-21T03:08:03Z, now, now-1h. DIR: "
    "of a stopped store;\n"
    "URL: of a running one, http://127.0.0.1:9430 or http://NAME:PASSWORD@HOST:PORT. FILE must not exist; "
    "without it: standard output\n";

struct job {
    char *format_name, *from, *to, *output, *url, *data;
    bool help;
    enum http_export_format format;
    struct ts_walk_options walk;
    kv_slice selectors[SELECTORS_MAX];
    char **selector_texts;
    FILE *out;
    struct progress progress;
    bool shows;
    uint64_t bytes, samples, left_out;
};

static kv_status job_write(void *ctx, kv_slice bytes, struct kv_err *err)
{
    struct job *job = ctx;
    const struct kv_sink sink = archive_sink(job->out);
    kv_status rc = sink.write(sink.ctx, bytes, err);
    job->bytes += bytes.len;
    if (rc == KV_OK && job->shows)
        rc = progress_show(&job->progress, &(struct kv_progress){.bytes_done = job->bytes});
    return rc;
}

/* ---- a directory --------------------------------------------------------------------------------------------------- */

static kv_status write_piece(struct job *job, const struct ts_series_points *piece, struct kv_buf *text,
                             struct kv_err *err)
{
    kv_status rc = KV_OK;
    for (size_t at = 0; at < piece->n && rc == KV_OK;) {
        size_t left = piece->n - at;
        size_t n = left < HTTP_EXPORT_LINE_SAMPLES ? left : HTTP_EXPORT_LINE_SAMPLES;
        rc = http_export_piece(job->format, piece, at, n, text, &job->left_out);
        at += n;
        if (rc == KV_OK && text->len >= WRITE_BYTES) {
            rc = job_write(job, kv_buf_slice(text), err);
            kv_buf_clear(text);
        }
    }
    job->samples += piece->n;
    return rc;
}

static kv_status export_pieces(struct job *job, struct ts_export *walk, struct kv_err *err)
{
    struct ts_series_points piece;
    struct kv_buf text = {0};
    kv_status rc;
    while ((rc = ts_export_next(walk, &piece, err)) == KV_OK)
        KV_TRY(write_piece(job, &piece, &text, err));
    if (rc == KV_END)
        rc = http_export_end(job->format, &text);
    if (rc == KV_OK)
        rc = job_write(job, kv_buf_slice(&text), err);
out:
    kv_buf_release(&text);
    return rc;
}

static kv_status export_directory(struct job *job, struct kv_err *err)
{
    const struct kv_env_options env_options = {.threads = KV_THREADS_NONE};
    const struct ts_options options = {.read_only = true, .must_exist = true, .retention_ms = INT64_MAX};
    struct ts_query_err query_err = {0};
    struct ts_export *walk = NULL;
    struct kv_env *env = NULL;
    struct ts_db *db = NULL;
    kv_status rc;
    KV_TRY(kv_env_open(&env_options, &env, err));
    KV_TRY(ts_open(env, job->data, &options, &db, err));
    rc = ts_export_open(db, &job->walk, &walk, &query_err);
    if (rc < 0)
        KV_TRY(kv_fail(err, rc, 0, "%.239s", query_err.text));
    rc = export_pieces(job, walk, err);
out:
    ts_export_close(walk);
    if (db)
        (void)ts_close_fast(db, NULL);
    kv_env_close(env);
    return rc;
}

/* ---- a server ------------------------------------------------------------------------------------------------------ */

static kv_status add_time(struct remote *remote, struct kv_buf *form, const char *name, int64_t ms)
{
    char text[40];
    if (ms == INT64_MIN || ms == INT64_MAX)
        return KV_OK;
    snprintf(text, sizeof text, "%s%lld.%03lld", ms < 0 ? "-" : "", (long long)(ms < 0 ? -ms : ms) / 1000,
             (long long)(ms < 0 ? -ms : ms) % 1000);
    return remote_param(remote, form, name, text);
}

static kv_status export_server(struct job *job, struct kv_err *err)
{
    const struct kv_sink sink = {job_write, job};
    struct remote *remote = NULL;
    struct kv_buf form = {0};
    kv_status rc;
    KV_TRY(remote_open(job->url ? job->url : REMOTE_URL_DEFAULT, &remote, err));
    for (size_t i = 0; i < job->walk.n_selectors; i++)
        KV_TRY(remote_param(remote, &form, "match[]", job->selector_texts[i]));
    KV_TRY(add_time(remote, &form, "start", job->walk.from_ms));
    KV_TRY(add_time(remote, &form, "end", job->walk.to_ms));
    KV_TRY(remote_param(remote, &form, "format", job->format_name ? job->format_name : "json"));
    KV_TRY(remote_call(remote,
                       &(struct remote_request){.method = "POST",
                                                .path = "/api/v1/export",
                                                .body = kv_buf_slice(&form),
                                                .to = &sink,
                                                .endless = true},
                       err));
out:
    kv_buf_release(&form);
    remote_close(remote);
    return rc;
}

/* ---- the command --------------------------------------------------------------------------------------------------- */

static bool read_arguments(int argc, char **argv, struct job *job)
{
    const struct tool_option options[] = {{.name = "--format", .text = &job->format_name},
                                          {.name = "--from", .text = &job->from},
                                          {.name = "--to", .text = &job->to},
                                          {.name = "--output", .text = &job->output},
                                          {.name = "--url", .text = &job->url},
                                          {.name = "--data", .text = &job->data},
                                          {.name = "--help", .flag = &job->help}};
    int n = tool_options(argc, argv, options, sizeof options / sizeof *options);
    int64_t now = kv_clock_wall_ms(kv_clock_system());
    if (n < 0 || job->help)
        return n >= 0;
    if (!http_export_named(kv_slice_str(job->format_name ? job->format_name : ""), &job->format)) {
        fprintf(stderr, "tidemark: --format takes json, prometheus or openmetrics\n");
        return false;
    }
    if ((job->from && !cli_time(job->from, now, &job->walk.from_ms)) ||
        (job->to && !cli_time(job->to, now, &job->walk.to_ms))) {
        fprintf(stderr,
                "tidemark: --from and --to take a time: unix seconds, 2026-11-21T03:08:03Z, now-1h\n");
        return false;
    }
    if (job->walk.to_ms < job->walk.from_ms) {
        fprintf(stderr, "tidemark: --to is before --from\n");
        return false;
    }
    if (n > SELECTORS_MAX || (job->url && job->data)) {
        fputs(export_usage, stderr);
        return false;
    }
    for (int i = 0; i < n; i++)
        job->selectors[i] = kv_slice_str(argv[i]);
    job->selector_texts = argv;
    job->walk.selectors = job->selectors;
    job->walk.n_selectors = (size_t)n;
    return true;
}

int cli_export(int argc, char **argv)
{
    struct job job = {.walk = {.from_ms = INT64_MIN, .to_ms = INT64_MAX}};
    struct kv_err err = {0};
    if (!read_arguments(argc, argv, &job))
        return 2;
    if (job.help) {
        fputs(export_usage, stdout);
        return 0;
    }
    const char *path = job.output ? job.output : "-";
    kv_status rc = archive_open(path, true, &job.out, &err);
    if (rc < 0)
        return cli_failed(&err, rc);
    job.shows = job.out != stdout || !isatty(STDOUT_FILENO);
    progress_begin(&job.progress, "export");
    rc = job.data ? export_directory(&job, &err) : export_server(&job, &err);
    rc = archive_done(job.out, path, rc, &err);
    progress_end(&job.progress);
    if (rc < 0)
        return cli_failed(&err, rc);
    if (job.left_out)
        fprintf(stderr, "tidemark: %llu stale markers were left out: the format has none\n",
                (unsigned long long)job.left_out);
    return 0;
}
