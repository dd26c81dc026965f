/* write.c - the ingest endpoints: undo the content coding, decode into an appender, commit, say what was refused. */
#include "http/admission.h"
#include "http/api/app.h"
#include "http/json.h"
#include "http/text.h"

#include <inttypes.h>
#include <stdio.h>

enum ingest_protocol { INGEST_PROM_WRITE, INGEST_INFLUX, INGEST_JSON_LINES, INGEST_PROM_TEXT };

/* The decoders' sink: straight into the appender. */
struct ingest {
    struct http_decode_sink sink;
    struct http_app *app;
    struct http_session *session;
    const struct http_request *request;
    struct kv_err *err;
    enum ingest_protocol protocol;
    bool influx; /* the form of errors */
    struct http_decoder *decoder;
};

static kv_status ingest_row(struct http_decode_sink *sink, const struct ts_row *row)
{
    struct ingest *in = (struct ingest *)sink;
    return ts_append_row(in->session->appender, row, in->err);
}

static void ingest_reject(struct http_decode_sink *sink, uint32_t position, enum ts_reject_reason reason,
                          uint64_t samples, const char *text)
{
    struct ingest *in = (struct ingest *)sink;
    ts_append_reject(in->session->appender, position, reason, samples, text);
}

static kv_status ingest_metadata(struct http_decode_sink *sink, kv_slice family, kv_slice type, kv_slice help,
                                 kv_slice unit)
{
    struct ingest *in = (struct ingest *)sink;
    kv_status rc = ts_metadata_set(in->app->db, family, type, help, unit);
    return rc == KV_LIMIT || rc == KV_INVALID ? KV_OK : rc; /* metadata never costs samples */
}

/* ---- replies ----------------------------------------------------------------------------------------------------- */

static const char *influx_code(unsigned status)
{
    switch (status) {
    case 400:
        return "invalid";
    case 401:
        return "unauthorized";
    case 404:
        return "not found";
    case 413:
        return "request too large";
    case 415:
        return "unsupported media type";
    case 429:
        return "too many requests";
    case 503:
        return "unavailable";
    default:
        return "internal error";
    }
}

/* Our error shape with InfluxDB's keys beside it; line 0: none. */
static void influx_error(struct http_reply *reply, unsigned status, uint32_t line, const char *text)
{
    http_reply_error(reply, status, status < 500 && status != 429 ? "bad_data" : "unavailable", "%s", text);
    if (reply->status != status || reply->body.len == 0)
        return;
    reply->body.len--; /* the closing brace */
    struct http_json json;
    http_json_init(&json, &reply->body);
    HTTP_JSON_RAW(&json, ",\"code\":");
    http_json_str(&json, influx_code(status));
    HTTP_JSON_RAW(&json, ",\"message\":");
    http_json_str(&json, text);
    if (line) {
        HTTP_JSON_RAW(&json, ",\"line\":");
        http_json_uint(&json, line);
    }
    HTTP_JSON_RAW(&json, "}");
    http_reply_header(reply, "X-Influx-Error", text);
}

/* For GET /api/v1/rejected. text: as it is answered. */
static void ingest_remember(struct ingest *in, const struct ts_reject *reject, const char *text)
{
    static const char *const names[] = {"prom_write", "influx", "json_lines", "prom_text"};
    struct http_rejection r = {.time_ms = kv_clock_wall_ms(in->app->clock),
                               .samples = reject->samples,
                               .protocol = names[in->protocol],
                               .reason = reject->reason,
                               .position = reject->position};
    http_rejected_text(in->request->remote, r.sender, sizeof r.sender);
    http_rejected_text(http_request_header(in->request, KV_STR("User-Agent")), r.agent, sizeof r.agent);
    http_rejected_text(kv_slice_str(text), r.text, sizeof r.text);
    http_rejected_add(in->app->rejected, &r);
}

static void ingest_failed(struct ingest *in, struct http_reply *reply, kv_status code, const char *text)
{
    const struct ts_reject whole = {.reason =
                                        code == KV_LIMIT ? TS_REJECT_REQUEST_LIMIT : TS_REJECT_MALFORMED};
    char named[512];
    http_api_option_names(in->app, text, named, sizeof named);
    if (code == KV_LIMIT || code == KV_INVALID)
        ingest_remember(in, &whole, named);
    http_reply_failed(reply, code, named);
    if (in->influx)
        influx_error(reply, reply->status, 0, named);
}

/* 400 with the first rejects and the count of all; what was accepted is stored and synced. 429 if nothing was stored and
 * waiting is all it takes. */
static void ingest_rejected(struct ingest *in, struct http_reply *reply,
                            const struct ts_append_result *result)
{
    char text[4096];
    size_t n = (size_t)snprintf(
        text, sizeof text, "partial write: %" PRIu64 " %s rejected, %" PRIu64 " samples stored",
        result->rejected, in->protocol == INGEST_PROM_WRITE ? "samples" : "lines or samples",
        result->accepted);
    const char *unit = in->protocol == INGEST_PROM_WRITE ? "time series" : "line";
    for (size_t i = 0; i < result->n_rejects && n < sizeof text; i++) {
        const struct ts_reject *r = &result->rejects[i];
        char place[40] = "", why[320]; /* the store knows no lines */
        http_api_option_names(in->app, r->text, why, sizeof why);
        ingest_remember(in, r, why);
        if (strncmp(r->text, unit, strlen(unit)) != 0)
            snprintf(place, sizeof place, " %s %" PRIu32 ":", unit, r->position);
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s %s (%s)", i ? ";" : ":", place, why,
                              ts_reject_name(r->reason));
    }
    if (result->n_rejects == TS_REJECTS_KEPT && n < sizeof text)
        snprintf(text + n, sizeof text - n, "; and so on");
    unsigned status = result->retry_in_ms > 0 ? 429 : 400;
    if (in->influx)
        influx_error(reply, status, result->n_rejects ? result->rejects[0].position : 0, text);
    else
        http_reply_error(reply, status, status == 429 ? "unavailable" : "bad_data", "%s", text);
    if (status == 429)
        http_reply_retry_after(reply, (result->retry_in_ms + 999) / 1000);
}

/* ---- one request ------------------------------------------------------------------------------------------------- */

static void count_report(struct http_metrics *m, enum ingest_protocol protocol,
                         const struct http_decode_report *report)
{
    http_count(protocol == INGEST_INFLUX       ? &m->samples_influx
               : protocol == INGEST_PROM_WRITE ? &m->samples_prom_write
                                               : &m->samples_imported,
               report->samples);
    http_count(&m->strings_skipped, report->strings_skipped);
    http_count(&m->histograms_rejected, report->histograms);
    http_count(&m->exemplars, report->exemplars);
}

static kv_status share_grow(void *ctx, size_t bytes)
{
    struct http_request *request = ctx;
    return http_share_grow(request->share, request->body.len + bytes);
}

/* The body without its content coding; borrowed from the request or the session. */
static kv_status body_decoded(struct ingest *in, struct http_request *request, enum http_coding coding,
                              kv_slice *out)
{
    struct http_inflate_account account = {share_grow, request};
    size_t max = in->app->inflated_bytes_max ? in->app->inflated_bytes_max : HTTP_INFLATED_MAX_DEFAULT;
    *out = request->body;
    if (coding == HTTP_IDENTITY)
        return KV_OK;
    kv_status rc = http_inflate(in->session->inflater, coding, request->body, max,
                                request->share ? &account : NULL, &in->session->inflated, in->err);
    *out = kv_buf_slice(&in->session->inflated);
    http_count(&in->app->metrics->inflated_bytes, out->len);
    return rc;
}

static void ingest_run(struct ingest *in, struct http_request *request, struct http_reply *reply,
                       enum http_coding coding, const struct http_decode_options *options)
{
    struct http_session *session = in->session;
    struct http_decode_report report = {0};
    struct ts_append_result result;
    kv_slice body;
    kv_status rc = body_decoded(in, request, coding, &body);
    if (rc == KV_OK)
        rc = http_decode(in->decoder, body, options, &in->sink, &report, in->err);
    if (rc < 0) {
        ts_append_abort(session->appender);
        http_count(&in->app->metrics->bodies_bad, 1);
        ingest_failed(in, reply, rc, in->err->text[0] ? in->err->text : kv_status_text(rc));
        return;
    }
    count_report(in->app->metrics, in->protocol, &report);
    rc = ts_commit(session->appender, &result, in->err);
    if (rc < 0) {
        ts_append_abort(session->appender);
        ingest_failed(in, reply, rc, in->err->text[0] ? in->err->text : kv_status_text(rc));
        return;
    }
    http_count(&in->app->metrics->rejected, result.rejected);
    if (result.rejected)
        ingest_rejected(in, reply, &result);
    else
        reply->status = 204;
}

static void ingest(struct http_app *app, struct http_request *request, struct http_reply *reply,
                   enum ingest_protocol protocol, enum http_coding coding, int64_t unit_ns)
{
    struct kv_err err = {0};
    struct ingest in = {.sink = {ingest_row, ingest_reject, ingest_metadata},
                        .app = app,
                        .request = request,
                        .err = &err,
                        .protocol = protocol,
                        .influx = protocol == INGEST_INFLUX};
    struct http_decode_options options = {kv_clock_wall_ms(app->clock), unit_ns};
    kv_status rc = http_app_session_take(app, &in.session);
    if (rc < 0) {
        ingest_failed(&in, reply, rc, "out of memory for one more writer");
        return;
    }
    struct http_decoder *const decoders[] = {in.session->prom_write, in.session->influx,
                                             in.session->json_lines, in.session->prom_text};
    in.decoder = decoders[protocol];
    ingest_run(&in, request, reply, coding, &options);
    http_app_session_give(app, in.session);
}

static bool contains(kv_slice text, const char *part)
{
    return text.len && memmem(text.data, text.len, part, strlen(part)) != NULL;
}

/* Whether the headers announce something else than a remote_write 1.0 body; *why then says what. */
static bool wrong_message(const struct http_request *request, kv_slice coding, const char **why)
{
    kv_slice type = http_request_header(request, KV_STR("Content-Type"));
    kv_slice version = http_request_header(request, KV_STR("X-Prometheus-Remote-Write-Version"));
    *why = "remote_write 2.0 is not spoken here; send 1.0 (prometheus.WriteRequest)";
    if (kv_slice_has_prefix(version, KV_STR("2.")) || contains(type, "proto=io.prometheus.write.v2.Request"))
        return true;
    *why = "Content-Type names a message other than prometheus.WriteRequest";
    if (contains(type, "proto=") && !contains(type, "proto=prometheus.WriteRequest"))
        return true;
    *why =
        "neither Content-Type application/x-protobuf nor Content-Encoding snappy: not a remote_write request";
    return coding.len == 0 && type.len && !contains(type, "application/x-protobuf") &&
           !contains(type, "application/octet-stream");
}

void http_api_prom_write(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    enum http_coding coding;
    kv_slice header = http_request_header(request, KV_STR("Content-Encoding"));
    const char *why;
    if (wrong_message(request, header, &why)) {
        http_reply_error(reply, 415, "bad_data", "%s", why);
        return;
    }
    if (http_coding_parse(header, &coding) < 0) {
        http_reply_error(reply, 415, "bad_data",
                         "unknown Content-Encoding; known are snappy, zstd, gzip, deflate");
        return;
    }
    if (request->body.len == 0) {
        http_reply_error(reply, 400, "bad_data", "the body is empty");
        return;
    }
    if (header.len == 0) /* the protocol knows no other */
        coding = HTTP_SNAPPY;
    ingest(app, request, reply, INGEST_PROM_WRITE, coding, 0);
}

static bool precision_unit(kv_slice name, int64_t *unit_ns)
{
    static const struct {
        const char *name;
        int64_t ns;
    } units[] = {{"", 1},
                 {"ns", 1},
                 {"n", 1},
                 {"us", 1000},
                 {"u", 1000},
                 {"\xc2\xb5", 1000},
                 {"ms", 1000000},
                 {"s", 1000000000},
                 {"m", 60000000000},
                 {"h", 3600000000000}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (kv_slice_equal(name, kv_slice_str(units[i].name))) {
            *unit_ns = units[i].ns;
            return true;
        }
    }
    return false;
}

void http_api_influx_write(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    enum http_coding coding;
    struct kv_err err = {0};
    kv_slice precision;
    int64_t unit_ns = 1;
    struct http_request query =
        *request; /* the body is lines, whatever its Content-Type says: only the URL has parameters */
    query.body = (kv_slice){0};
    kv_status rc = http_request_param(&query, "precision", &precision, &err);
    request->arena = query.arena;
    if (rc < 0)
        influx_error(reply, 400, 0, err.text);
    else if (!precision_unit(precision, &unit_ns))
        influx_error(reply, 400, 0, "invalid precision; known are ns, us, ms, s, m, h");
    else if (http_coding_parse(http_request_header(request, KV_STR("Content-Encoding")), &coding) < 0)
        influx_error(reply, 415, 0, "unknown Content-Encoding; known are gzip, deflate, zstd, snappy");
    else if (request->body.len == 0)
        reply->status = 204;
    else
        ingest(app, request, reply, INGEST_INFLUX, coding, unit_ns);
}

/* Lines of a file, whatever their Content-Type says. */
static void import(struct http_app *app, struct http_request *request, struct http_reply *reply,
                   enum ingest_protocol protocol, int64_t unit_ns)
{
    enum http_coding coding;
    if (http_coding_parse(http_request_header(request, KV_STR("Content-Encoding")), &coding) < 0)
        http_reply_error(reply, 415, "bad_data",
                         "unknown Content-Encoding; known are gzip, deflate, zstd, snappy");
    else if (request->body.len == 0)
        reply->status = 204;
    else
        ingest(app, request, reply, protocol, coding, unit_ns);
}

void http_api_import(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    import(app, request, reply, INGEST_JSON_LINES, 0);
}

void http_api_import_prometheus(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    bool seconds =
        contains(http_request_header(request, KV_STR("Content-Type")), "application/openmetrics-text");
    import(app, request, reply, INGEST_PROM_TEXT, seconds ? 1000000000 : 1000000);
}
