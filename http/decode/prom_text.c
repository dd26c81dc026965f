/*
 * prom_text.c - Prometheus' text format 0.0.4 and OpenMetrics 1.0, with the names in quotes that Prometheus 3 writes.
 *
 *     # HELP http_requests_total ...      # TYPE http_requests_total counter      # UNIT ...      # EOF
 *     http_requests_total{code="200",path="/"} 17 1700000000000
 *     {"http.requests",code="200"} 17 1700000000.000 # {trace_id="x"} 1
 *
 * The two differ in the unit of times alone: milliseconds, or seconds with a fraction (options->unit_ns). A sample without a time gets now. A
 * series' identity is its text from the name to the closing brace. Exemplars are counted and dropped.
 */
#include "http/decode/decoder.h"
#include "http/text.h"
#include "kvcore/base/mem.h"
#include "kvcore/base/number.h"

#include <math.h>
#include <stdio.h>

enum { LABELS_MAX = 1000, LINE_LEN_MAX = 1 << 20 };

struct prom_text {
    struct http_decoder base;
    struct kv_buf value; /* of a label, without its escapes */
    struct kv_buf name;  /* likewise */

    /* the family that is being described, borrowed from the body */
    kv_slice family, type, help, unit;

    const struct http_decode_options *options;
    struct http_decode_sink *sink;
    struct http_decode_report *report;
    const uint8_t *line, *at, *end;
    const char *why;
    uint32_t number;
};

static bool fault(struct prom_text *d, const char *why)
{
    d->why = why;
    return false;
}

static void blanks(struct prom_text *d)
{
    while (d->at < d->end && (*d->at == ' ' || *d->at == '\t'))
        d->at++;
}

static bool at_byte(const struct prom_text *d, uint8_t c)
{
    return d->at < d->end && *d->at == c;
}

/* ---- series ---------------------------------------------------------------------------------------------------------- */

static bool name_byte(uint8_t c, bool first, bool colons)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80 ||
           (colons && c == ':') || (!first && c >= '0' && c <= '9');
}

static kv_slice plain_name(struct prom_text *d, bool colons)
{
    const uint8_t *start = d->at;
    while (d->at < d->end && name_byte(*d->at, d->at == start, colons))
        d->at++;
    return kv_slice_of(start, (size_t)(d->at - start));
}

/* What stands between two quotes, escapes and all. */
static bool quoted(struct prom_text *d, kv_slice *raw)
{
    if (!at_byte(d, '"'))
        return fault(d, "expected '\"'");
    const uint8_t *start = ++d->at;
    for (; d->at < d->end && *d->at != '"'; d->at++)
        if (*d->at == '\\' && ++d->at == d->end)
            break;
    if (d->at == d->end)
        return fault(d, "unclosed quote");
    *raw = kv_slice_of(start, (size_t)(d->at - start));
    d->at++;
    return true;
}

/* One item of the braces: name="value", or a metric's name in quotes, which has no value (*value is then empty, *named false). */
static bool item(struct prom_text *d, kv_slice *name, kv_slice *value, bool *named)
{
    blanks(d);
    if (at_byte(d, '"')) {
        if (!quoted(d, name))
            return false;
    } else if ((*name = plain_name(d, false)).len == 0) {
        return fault(d, "expected a label's name");
    }
    bool in_quotes = d->at[-1] == '"';
    blanks(d);
    *named = at_byte(d, '=');
    if (!*named)
        return in_quotes || fault(d, "expected '=' behind a label's name");
    d->at++;
    blanks(d);
    if (!quoted(d, value))
        return false;
    blanks(d);
    return true;
}

/* name, {items}, or both: only the form is looked at. *series is its text. */
static bool series(struct prom_text *d, kv_slice *text)
{
    const uint8_t *start = d->at;
    kv_slice name = plain_name(d, true), part, value;
    const uint8_t *stop = d->at;
    bool has_name = name.len > 0, named;
    size_t n = 0;
    blanks(d);
    if (at_byte(d, '{')) {
        d->at++;
        for (blanks(d); !at_byte(d, '}'); n++) {
            if (n == LABELS_MAX)
                return fault(d, "more than 1000 labels");
            if (!item(d, &part, &value, &named))
                return false;
            if (!named && has_name)
                return fault(d, "a second name");
            has_name |= !named;
            if (at_byte(d, ','))
                d->at++;
            else if (!at_byte(d, '}'))
                return fault(d, "expected ',' or '}'");
            blanks(d);
        }
        stop = ++d->at;
    }
    d->at = stop;
    if (stop == start)
        return fault(d, "expected a metric's name");
    *text = kv_slice_of(start, (size_t)(stop - start));
    return true;
}

/* Replaces *out: \\ \" \n become what they mean, any other escape stays as it is. */
static kv_status unescape(kv_slice raw, struct kv_buf *out)
{
    kv_status rc = KV_OK;
    kv_buf_clear(out);
    while (raw.len && rc == KV_OK) {
        const uint8_t *escape = memchr(raw.data, '\\', raw.len);
        size_t n = escape ? (size_t)(escape - raw.data) : raw.len;
        rc = kv_buf_append(out, kv_slice_of(raw.data, n));
        raw = kv_slice_from(raw, n);
        if (!escape || rc < 0)
            continue;
        uint8_t c = raw.data[1]; /* what is quoted never ends in a lone backslash */
        if (c != 'n' && c != '"' && c != '\\')
            rc = kv_buf_append_byte(out, '\\');
        if (rc == KV_OK)
            rc = kv_buf_append_byte(out, c == 'n' ? '\n' : c);
        raw = kv_slice_from(raw, 2);
    }
    return rc;
}

/* The label callback of ts_row: only for series that are not known yet. */
static kv_status labels_parse(void *ctx, const struct ts_row *row, struct ts_label_sink *sink)
{
    struct prom_text *d = ctx;
    struct prom_text in = {.at = row->identity[0].data, .end = row->identity[0].data + row->identity[0].len};
    kv_slice name = plain_name(&in, true), value;
    kv_status rc = name.len ? sink->add(sink, KV_STR("__name__"), name) : KV_OK;
    bool named;
    blanks(&in);
    if (!at_byte(&in, '{'))
        return rc;
    in.at++;
    for (blanks(&in); rc == KV_OK && !at_byte(&in, '}'); blanks(&in)) {
        if (!item(&in, &name, &value, &named))
            return KV_INVALID; /* it was read before */
        rc = unescape(name, &d->name);
        if (rc == KV_OK && named)
            rc = unescape(value, &d->value);
        if (rc == KV_OK)
            rc = named ? sink->add(sink, kv_buf_slice(&d->name), kv_buf_slice(&d->value))
                       : sink->add(sink, KV_STR("__name__"), kv_buf_slice(&d->name));
        if (at_byte(&in, ','))
            in.at++;
    }
    return rc;
}

/* ---- a sample -------------------------------------------------------------------------------------------------------- */

/* Up to the next blank, or the line's end. */
static kv_slice token(struct prom_text *d)
{
    const uint8_t *start = d->at;
    while (d->at < d->end && *d->at != ' ' && *d->at != '\t')
        d->at++;
    return kv_slice_of(start, (size_t)(d->at - start));
}

static bool parse_value(kv_slice text, double *out)
{
    bool minus = text.len && text.data[0] == '-';
    kv_slice size = kv_slice_from(text, text.len && (text.data[0] == '-' || text.data[0] == '+'));
    if (http_equal_nocase(size, KV_STR("inf")) || http_equal_nocase(size, KV_STR("infinity")))
        *out = minus ? -INFINITY : INFINITY;
    else if (http_equal_nocase(size, KV_STR("nan")))
        *out = NAN;
    else
        return text.len > 0 && kv_double_parse(text, out) == text.len && !isinf(*out);
    return true;
}

/* Whole milliseconds, or seconds with a fraction: exact to the millisecond. */
static bool parse_time(kv_slice text, bool seconds, int64_t *ms)
{
    bool minus = text.len && text.data[0] == '-';
    kv_slice size = kv_slice_from(text, minus);
    const uint8_t *dot = seconds && size.len ? memchr(size.data, '.', size.len) : NULL;
    kv_slice whole = dot ? kv_slice_of(size.data, (size_t)(dot - size.data)) : size;
    kv_slice digits = dot ? kv_slice_from(size, whole.len + 1) : (kv_slice){0};
    uint64_t v, fraction = 0;
    double number;
    bool plain = http_parse_uint(whole, seconds ? INT64_MAX / 1000 - 1 : INT64_MAX, &v);
    for (size_t i = 0; i < digits.len; i++)
        plain &= digits.data[i] >= '0' && digits.data[i] <= '9';
    if (!plain) { /* 1.7e9 is a time, too */
        if (!seconds || kv_double_parse(text, &number) != text.len || text.len == 0 || fabs(number) > 9e15)
            return false;
        *ms = (int64_t)llround(number * 1000);
        return true;
    }
    for (size_t i = 0; i < 3; i++)
        fraction = fraction * 10 + (i < digits.len ? (uint64_t)digits.data[i] - '0' : 0);
    v = seconds ? v * 1000 + fraction : v;
    *ms = minus ? -(int64_t)v : (int64_t)v;
    return true;
}

/* Value, time, exemplar. */
static bool sample(struct prom_text *d, double *value, int64_t *time_ms)
{
    bool seconds = d->options->unit_ns == 1000000000;
    blanks(d);
    const uint8_t *start = d->at;
    if (!parse_value(token(d), value)) {
        d->at = start;
        return fault(d, "expected a number, NaN, +Inf or -Inf");
    }
    blanks(d);
    if (d->at < d->end && *d->at != '#') {
        start = d->at;
        if (!parse_time(token(d), seconds, time_ms)) {
            d->at = start;
            return fault(d, seconds ? "expected a time in seconds" : "expected a time in milliseconds");
        }
        blanks(d);
    }
    if (at_byte(d, '#')) {
        d->report->exemplars++;
        d->at = d->end;
    }
    return d->at == d->end || fault(d, "unexpected byte behind the sample");
}

/* ---- comments -------------------------------------------------------------------------------------------------------- */

/* Hands on what was said of the family before. */
static kv_status tell_family(struct prom_text *d)
{
    kv_status rc = KV_OK;
    if (d->family.len && d->sink->metadata) {
        d->report->metadata++;
        rc = d->sink->metadata(d->sink, d->family, d->type, d->help, d->unit);
    }
    d->family = d->type = d->help = d->unit = (kv_slice){0};
    return rc;
}

static kv_status comment(struct prom_text *d)
{
    kv_status rc = KV_OK;
    d->at++;
    blanks(d);
    kv_slice word = token(d), family;
    bool type = kv_slice_equal(word, KV_STR("TYPE")), help = kv_slice_equal(word, KV_STR("HELP"));
    if (!type && !help && !kv_slice_equal(word, KV_STR("UNIT")))
        return KV_OK;
    blanks(d);
    if (!at_byte(d, '"'))
        family = token(d);
    else if (!quoted(d, &family))
        return KV_OK; /* a comment is never a fault */
    blanks(d);
    kv_slice text = kv_slice_of(d->at, (size_t)(d->end - d->at));
    if (!kv_slice_equal(family, d->family)) {
        rc = tell_family(d);
        d->family = family;
    }
    if (type)
        d->type = http_trim(text);
    else if (help)
        d->help = text;
    else
        d->unit = http_trim(text);
    return rc;
}

/* ---- lines ----------------------------------------------------------------------------------------------------------- */

static kv_status read_line(struct prom_text *d)
{
    int64_t time_ms = d->options->now_ms;
    double value;
    struct ts_row row = {
        .protocol = TS_PROTOCOL_PROM_TEXT,
        .position = d->number,
        .labels = labels_parse,
        .labels_ctx = d,
        .times_ms = &time_ms,
        .values = &value,
        .n = 1,
    };
    if (d->end - d->line > LINE_LEN_MAX)
        return fault(d, "line longer than 1 MiB"), KV_INVALID;
    if (!series(d, &row.identity[0]))
        return KV_INVALID;
    if (d->at < d->end && *d->at != ' ' && *d->at != '\t')
        return fault(d, "expected a blank behind the series"), KV_INVALID;
    if (!sample(d, &value, &time_ms))
        return KV_INVALID;
    d->report->rows++;
    d->report->samples++;
    return d->sink->row(d->sink, &row);
}

static void reject_line(struct prom_text *d)
{
    char text[160];
    text[0] = 0;
    if (d->report->rejected++ < TS_REJECTS_KEPT)
        snprintf(text, sizeof text, "line %u:%zu: %s", d->number, (size_t)(d->at - d->line) + 1, d->why);
    d->sink->reject(d->sink, d->number, TS_REJECT_MALFORMED, 1, text);
}

static kv_status one_line(struct prom_text *d)
{
    blanks(d);
    if (d->at == d->end)
        return KV_OK;
    if (*d->at == '#')
        return comment(d);
    kv_status rc = tell_family(d);
    d->why = NULL;
    if (rc == KV_OK && (rc = read_line(d)) == KV_INVALID && d->why) {
        reject_line(d);
        rc = KV_OK;
    }
    return rc;
}

static kv_status text_decode(struct http_decoder *decoder, kv_slice body,
                             const struct http_decode_options *options, struct http_decode_sink *sink,
                             struct http_decode_report *report, struct kv_err *err)
{
    struct prom_text *d = (struct prom_text *)decoder;
    kv_status rc = KV_OK;
    (void)err;
    *report = (struct http_decode_report){0};
    d->family = d->type = d->help = d->unit = (kv_slice){0};
    d->options = options;
    d->sink = sink;
    d->report = report;
    d->number = 0;
    while (body.len && rc == KV_OK) {
        const uint8_t *newline = memchr(body.data, '\n', body.len);
        d->line = d->at = body.data;
        d->end = newline ? newline : body.data + body.len;
        d->number++;
        body = kv_slice_from(body, (size_t)(d->end - body.data) + (newline != NULL));
        if (d->end > d->line && d->end[-1] == '\r')
            d->end--;
        rc = one_line(d);
    }
    return rc < 0 ? rc : tell_family(d);
}

static void text_free(struct http_decoder *decoder)
{
    struct prom_text *d = (struct prom_text *)decoder;
    kv_buf_release(&d->value);
    kv_buf_release(&d->name);
    kv_free(d);
}

kv_status http_prom_text_new(struct http_decoder **out)
{
    static const struct http_decoder_ops ops = {"prom_text", text_decode, text_free};
    struct prom_text *d = kv_zalloc(1, sizeof *d);
    if (!d)
        return KV_NO_MEMORY;
    d->base.ops = &ops;
    *out = &d->base;
    return KV_OK;
}
