/*
 * import.c - `tidemark import`: lines of text into a directory's store or a running server, a piece of some MiB at a time. What is sent again
 * changes nothing, so an import that was cut short is simply repeated.
 */
#include "http/decode/decoder.h"
#include "kvcore/base/mem.h"
#include "kvcore/os/clock.h"
#include "tools/archive.h"
#include "tools/cli.h"
#include "tools/options.h"
#include "tools/progress.h"
#include "tools/remote.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { PIECE_BYTES = 4 << 20, LINE_BYTES_MAX = 48 << 20, TRIES = 30, COMPLAINTS_MAX = 10 };
#define TRY_AGAIN_NS UINT64_C(1000000000)

static const char import_usage[] =
    "usage: tidemark import [--format json|prometheus|openmetrics|influx] [--precision ns|us|ms|s] [FILE...] "
    "[--url URL | --data DIR]\n"
    "Lines of text from files, or standard input. json: what tidemark export and VictoriaMetrics write; "
    "prometheus: the text format, times in\n"
    "milliseconds; openmetrics: times in seconds; influx: line protocol (--precision of its times; ns). "
    "Without --format json is recognised.\n"
    "URL: of a running server (http://127.0.0.1:9430), or http://NAME:PASSWORD@HOST:PORT; DIR: of a stopped "
    "store, made when missing.\n"
    "Lines that are refused are told and counted, the others stored; the exit status is 1 then.\n";

enum format { FORMAT_JSON, FORMAT_PROMETHEUS, FORMAT_OPENMETRICS, FORMAT_INFLUX, FORMATS };
static const char *const format_names[FORMATS] = {"json", "prometheus", "openmetrics", "influx"};

struct import {
    struct http_decode_sink sink; /* first: decoders hand it back */
    char *format_name, *precision, *url, *data;
    bool help, known;
    enum format format;
    struct http_decode_options decode;

    struct remote *remote; /* of a server */
    char path[64];
    struct kv_env *env; /* of a directory */
    struct ts_db *db;
    struct ts_appender *appender;
    struct http_decoder *decoder;

    struct kv_buf lines; /* read, not yet stored */
    struct progress progress;
    struct kv_progress at;
    uint64_t line; /* in front of `lines`, counted from 0 */
    uint64_t samples, rejected, series, complaints;
    struct kv_err *err;
};

static void complain(struct import *in, const char *text)
{
    if (in->complaints++ >= COMPLAINTS_MAX)
        return;
    progress_end(&in->progress);
    if (in->line)
        fprintf(stderr, "tidemark: (lines counted from %llu) %s\n", (unsigned long long)in->line + 1, text);
    else
        fprintf(stderr, "tidemark: %s\n", text);
}

/* ---- into a directory ---------------------------------------------------------------------------------------------- */

static kv_status sink_row(struct http_decode_sink *sink, const struct ts_row *row)
{
    struct import *in = (struct import *)sink;
    return ts_append_row(in->appender, row, in->err);
}

static void sink_reject(struct http_decode_sink *sink, uint32_t position, enum ts_reject_reason reason,
                        uint64_t samples, const char *text)
{
    struct import *in = (struct import *)sink;
    ts_append_reject(in->appender, position, reason, samples, text);
}

static kv_status sink_metadata(struct http_decode_sink *sink, kv_slice family, kv_slice type, kv_slice help,
                               kv_slice unit)
{
    struct import *in = (struct import *)sink;
    kv_status rc = ts_metadata_set(in->db, family, type, help, unit);
    return rc == KV_LIMIT || rc == KV_INVALID ? KV_OK : rc; /* metadata never costs samples */
}

/* What a decoder refuses begins with its place, what the store refuses does not. */
static void complain_of(struct import *in, const struct ts_reject *reject)
{
    char text[320];
    snprintf(text, sizeof text, "line %u: ", reject->position);
    size_t n = strncmp(reject->text, "line ", 5) == 0 ? 0 : strlen(text);
    snprintf(text + n, sizeof text - n, "%s", reject->text);
    cli_cut_advice(text);
    complain(in, text);
}

static kv_status store_piece(struct import *in, kv_slice lines)
{
    struct http_decode_report report;
    struct ts_append_result result = {0};
    kv_status rc = http_decode(in->decoder, lines, &in->decode, &in->sink, &report, in->err);
    if (rc == KV_OK)
        rc = ts_commit(in->appender, &result, in->err);
    if (rc < 0)
        return rc;
    in->samples += result.accepted;
    in->rejected += result.rejected;
    in->series += result.series_created;
    for (size_t i = 0; i < result.n_rejects; i++)
        complain_of(in, &result.rejects[i]);
    return KV_OK;
}

static kv_status open_directory(struct import *in)
{
    /* What is too old for the server that will serve it is hidden by that, not lost here. */
    const struct ts_options options = {.retention_ms = INT64_MAX};
    kv_status rc;
    KV_TRY(kv_env_open(NULL, &in->env, in->err));
    KV_TRY(ts_open(in->env, in->data, &options, &in->db, in->err));
    KV_TRY(ts_appender_new(in->db, &in->appender));
out:
    return rc;
}

static kv_status make_decoder(struct import *in)
{
    return in->format == FORMAT_JSON     ? http_json_lines_new(&in->decoder)
           : in->format == FORMAT_INFLUX ? http_influx_new(&in->decoder)
                                         : http_prom_text_new(&in->decoder);
}

/* ---- into a server ------------------------------------------------------------------------------------------------- */

/* The server says how many of a request it refused, and why some of them; the rest it stored. */
static bool was_partial(struct import *in, const char *text)
{
    unsigned long long rejected;
    if (sscanf(text, "partial write: %llu ", &rejected) != 1)
        return false;
    in->rejected += rejected;
    complain(in, text);
    return true;
}

static kv_status send_piece(struct import *in, kv_slice lines)
{
    const struct remote_request request = {
        .method = "POST",
        .path = in->path,
        .body = lines,
        .content_type = in->format == FORMAT_OPENMETRICS ? "application/openmetrics-text" : "text/plain"};
    kv_status rc = KV_BUSY;
    for (int i = 0; i < TRIES && rc == KV_BUSY; i++) {
        if (i > 0)
            kv_clock_sleep_ns(kv_clock_system(), TRY_AGAIN_NS);
        rc = remote_call(in->remote, &request, in->err);
    }
    return rc == KV_INVALID && was_partial(in, in->err->text) ? KV_OK : rc;
}

/* ---- from files ---------------------------------------------------------------------------------------------------- */

/* A JSON object begins with a string and a colon; a series in braces has something else behind its first string. */
static bool looks_like_json(kv_slice text)
{
    size_t i = 0;
    while (i < text.len && strchr(" \t\r\n", text.data[i]) && text.data[i])
        i++;
    if (i == text.len || text.data[i] != '{')
        return false;
    for (i++; i < text.len && text.data[i] == ' ';)
        i++;
    if (i == text.len || text.data[i] != '"')
        return false;
    for (i++; i < text.len && text.data[i] != '"';)
        i++;
    for (i++; i < text.len && text.data[i] == ' ';)
        i++;
    return i < text.len && text.data[i] == ':';
}

/* Once the first bytes are there. */
static kv_status settle_format(struct import *in)
{
    static const char *const paths[FORMATS] = {"/api/v1/import", "/api/v1/import/prometheus",
                                               "/api/v1/import/prometheus", "/write"};
    if (kv_slice_has_prefix(kv_buf_slice(&in->lines), KV_STR("\x1f\x8b")) ||
        kv_slice_has_prefix(kv_buf_slice(&in->lines), KV_STR("\x28\xb5\x2f\xfd")))
        return kv_fail(in->err, KV_INVALID, 0,
                       "this is compressed, not text: zcat FILE | tidemark import (zstdcat for .zst)");
    if (!in->known && !looks_like_json(kv_buf_slice(&in->lines)))
        return kv_fail(
            in->err, KV_INVALID, 0,
            "what form the lines have cannot be seen: say --format prometheus (times in milliseconds), "
            "openmetrics (in seconds), influx or json");
    in->known = true;
    in->decode.unit_ns = in->format == FORMAT_PROMETHEUS    ? 1000000
                         : in->format == FORMAT_OPENMETRICS ? 1000000000
                                                            : in->decode.unit_ns;
    if (in->remote) {
        snprintf(in->path, sizeof in->path, "%s%s%s", paths[in->format],
                 in->format == FORMAT_INFLUX ? "?precision=" : "",
                 in->format == FORMAT_INFLUX ? (in->precision ? in->precision : "ns") : "");
        return KV_OK;
    }
    return in->decoder ? KV_OK : make_decoder(in);
}

/* Stores the first n bytes of what was read. */
static kv_status take_piece(struct import *in, size_t n)
{
    kv_slice lines = kv_slice_of(in->lines.data, n);
    kv_status rc = settle_format(in);
    if (rc == KV_OK && n)
        rc = in->remote ? send_piece(in, lines) : store_piece(in, lines);
    if (rc < 0)
        return rc;
    for (const uint8_t *p = lines.data; n && (p = memchr(p, '\n', (size_t)(lines.data + n - p))) != NULL;
         p++) {
        in->line++;
        if (p + 1 == lines.data + n)
            break;
    }
    memmove(in->lines.data, in->lines.data + n, in->lines.len - n);
    in->lines.len -= n;
    in->at.bytes_done += n;
    return progress_show(&in->progress, &in->at);
}

/* Whole lines go as soon as there are PIECE_BYTES of them, the rest when the file ends. */
static kv_status import_file(struct import *in, const char *path)
{
    FILE *file = NULL;
    kv_status rc;
    in->line = 0;
    kv_buf_clear(&in->lines);
    KV_TRY(archive_open(path, false, &file, in->err));
    for (bool end = false; !end;) {
        uint8_t *to = kv_buf_extend(&in->lines, PIECE_BYTES);
        if (!to)
            KV_TRY(kv_fail(in->err, KV_LIMIT, 0, "%s: a line of more than %d bytes", path, LINE_BYTES_MAX));
        size_t got = fread(to, 1, PIECE_BYTES, file);
        in->lines.len -= PIECE_BYTES - got;
        end = got < PIECE_BYTES;
        if (end && ferror(file))
            KV_TRY(kv_fail(in->err, KV_IO, errno, "reading %s: %s", path, strerror(errno)));
        const uint8_t *newline = memrchr(in->lines.data, '\n', in->lines.len);
        size_t whole = end ? in->lines.len : newline ? (size_t)(newline + 1 - in->lines.data) : 0;
        if (whole || (end && in->lines.len))
            KV_TRY(take_piece(in, whole));
    }
out:
    if (file && file != stdin)
        fclose(file);
    return rc;
}

static uint64_t bytes_of(int n, char **paths)
{
    uint64_t all = 0;
    struct stat st;
    for (int i = 0; i < n; i++) {
        if (stat(paths[i], &st) != 0 || !S_ISREG(st.st_mode))
            return 0;
        all += (uint64_t)st.st_size;
    }
    return all;
}

/* ---- the command --------------------------------------------------------------------------------------------------- */

static bool read_format(struct import *in)
{
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {{"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}};
    size_t i = 0;
    while (in->format_name && i < FORMATS && strcmp(in->format_name, format_names[i]) != 0)
        i++;
    if (i == FORMATS) {
        fprintf(stderr, "tidemark: --format takes json, prometheus, openmetrics or influx\n");
        return false;
    }
    in->format = (enum format)i;
    in->known = in->format_name != NULL;
    for (i = 0; in->precision && i < 4 && strcmp(in->precision, units[i].name) != 0;)
        i++;
    if (i == 4 || (in->precision && in->format != FORMAT_INFLUX)) {
        fprintf(stderr, "tidemark: --precision takes ns, us, ms or s, and goes with --format influx\n");
        return false;
    }
    in->decode.unit_ns = units[i].ns;
    return true;
}

static kv_status run(struct import *in, int n, char **paths)
{
    static char dash[] = "-";
    kv_status rc = KV_OK;
    if (in->data)
        KV_TRY(open_directory(in));
    else
        KV_TRY(remote_open(in->url ? in->url : REMOTE_URL_DEFAULT, &in->remote, in->err));
    in->at.bytes = bytes_of(n, paths);
    progress_begin(&in->progress, "import");
    for (int i = 0; i < (n ? n : 1) && rc == KV_OK; i++)
        rc = import_file(in, n ? paths[i] : dash);
    progress_end(&in->progress);
out:
    return rc;
}

/* What was stored is durable; closing makes tables of it. */
static kv_status finish(struct import *in, kv_status rc)
{
    remote_close(in->remote);
    http_decoder_free(in->decoder);
    ts_appender_free(in->appender);
    kv_status closed = in->db ? ts_close(in->db, rc < 0 ? NULL : in->err) : KV_OK;
    kv_env_close(in->env);
    kv_buf_release(&in->lines);
    return rc < 0 ? rc : closed;
}

int cli_import(int argc, char **argv)
{
    struct kv_err err = {0};
    struct import in = {.sink = {sink_row, sink_reject, sink_metadata},
                        .lines = {.max = LINE_BYTES_MAX + PIECE_BYTES},
                        .err = &err};
    const struct tool_option options[] = {{.name = "--format", .text = &in.format_name},
                                          {.name = "--precision", .text = &in.precision},
                                          {.name = "--url", .text = &in.url},
                                          {.name = "--data", .text = &in.data},
                                          {.name = "--help", .flag = &in.help}};
    int n = tool_options(argc, argv, options, sizeof options / sizeof *options);
    if (in.help || n < 0 || (in.url && in.data)) {
        fputs(n < 0 ? "" : import_usage, in.help ? stdout : stderr);
        return in.help ? 0 : 2;
    }
    if (!read_format(&in))
        return 2;
    in.decode.now_ms = kv_clock_wall_ms(kv_clock_system());
    kv_status rc = finish(&in, run(&in, n, argv));
    if (rc < 0)
        return cli_failed(&err, rc);
    if (in.complaints > COMPLAINTS_MAX)
        fprintf(stderr, "tidemark: and %llu complaints more\n",
                (unsigned long long)(in.complaints - COMPLAINTS_MAX));
    if (in.data)
        printf("bytes=%llu samples=%llu rejected=%llu series_created=%llu\n",
               (unsigned long long)in.at.bytes_done, (unsigned long long)in.samples,
               (unsigned long long)in.rejected, (unsigned long long)in.series);
    else
        printf("bytes=%llu rejected=%llu\n", (unsigned long long)in.at.bytes_done,
               (unsigned long long)in.rejected);
    return in.rejected > 0;
}
