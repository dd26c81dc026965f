/*
 * json_lines.c - samples as lines of JSON, in the form VictoriaMetrics exports and imports them:
 *
 *     {"metric":{"__name__":"up","job":"x"},"values":[1,null,"Infinity"],"timestamps":[1700000000000,...]}
 *
 * Members may come in any order, unknown ones are skipped. A value is a number, null (the stale marker), or one of the strings NaN, Infinity,
 * Inf with an optional sign, in either case. A series' identity is the text of its metric object.
 */
#include "http/decode/decoder.h"
#include "http/text.h"
#include "kvcore/base/mem.h"
#include "kvcore/base/number.h"

#include <math.h>
#include <stdio.h>

enum { LINE_SAMPLES_MAX = 1 << 20, DEPTH_MAX = 32, LABELS_MAX = 1000 };

struct json_lines {
    struct http_decoder base;
    int64_t *times;
    double *values;
    size_t n_times, n_values, times_capacity, values_capacity;
    struct kv_buf name, value; /* labels without their escapes */

    /* of the line being read */
    const uint8_t *line, *at, *end;
    const char *why;
    kv_slice metric;
    uint32_t number;
};

/* ---- tokens: false leaves why and at where it is wrong --------------------------------------------------------------- */

static bool fault(struct json_lines *d, const char *why)
{
    d->why = why;
    return false;
}

static void blanks(struct json_lines *d)
{
    while (d->at < d->end && (*d->at == ' ' || *d->at == '\t' || *d->at == '\r'))
        d->at++;
}

/* Over the byte c, with blanks around it. */
static bool take(struct json_lines *d, uint8_t c)
{
    blanks(d);
    if (d->at == d->end || *d->at != c)
        return false;
    d->at++;
    blanks(d);
    return true;
}

/* A string, as it stands between its quotes. */
static bool string(struct json_lines *d, kv_slice *raw)
{
    blanks(d);
    if (d->at == d->end || *d->at != '"')
        return fault(d, "expected a string");
    const uint8_t *start = ++d->at;
    for (; d->at < d->end && *d->at != '"'; d->at++) {
        if (*d->at < 0x20)
            return fault(d, "control byte in a string");
        if (*d->at == '\\' && ++d->at == d->end)
            break;
    }
    if (d->at == d->end)
        return fault(d, "unclosed string");
    *raw = kv_slice_of(start, (size_t)(d->at - start));
    d->at++;
    return true;
}

static bool word(struct json_lines *d, const char *text)
{
    size_t n = strlen(text);
    if ((size_t)(d->end - d->at) < n || memcmp(d->at, text, n) != 0)
        return false;
    d->at += n;
    return true;
}

/* Over any value: nesting is bounded, and no stack grows with it. */
static bool skip_value(struct json_lines *d)
{
    int depth = 0;
    double number;
    kv_slice raw;
    do {
        blanks(d);
        if (d->at == d->end)
            return fault(d, "the line ends within a value");
        uint8_t c = *d->at;
        if (c == '{' || c == '[') {
            if (++depth > DEPTH_MAX)
                return fault(d, "nested too deeply");
            d->at++;
        } else if (c == '}' || c == ']') {
            if (--depth < 0)
                return fault(d, "expected a value");
            d->at++;
        } else if (c == ',' || c == ':') {
            if (depth == 0)
                return fault(d, "expected a value");
            d->at++;
        } else if (c == '"') {
            if (!string(d, &raw))
                return false;
        } else if (!word(d, "true") && !word(d, "false") && !word(d, "null")) {
            size_t n = kv_double_parse(kv_slice_of(d->at, (size_t)(d->end - d->at)), &number);
            if (n == 0)
                return fault(d, "expected a value");
            d->at += n;
        }
    } while (depth > 0);
    return true;
}

/* ---- strings without their escapes ----------------------------------------------------------------------------------- */

static bool hex4(kv_slice text, uint32_t *out)
{
    *out = 0;
    for (size_t i = 0; i < 4; i++) {
        uint8_t c = i < text.len ? text.data[i] : 0, lower = c | 0x20;
        uint32_t digit = c >= '0' && c <= '9'           ? (uint32_t)c - '0'
                         : lower >= 'a' && lower <= 'f' ? (uint32_t)lower - 'a' + 10
                                                        : 16;
        if (digit == 16)
            return false;
        *out = *out << 4 | digit;
    }
    return true;
}

static kv_status put_utf8(struct kv_buf *out, uint32_t c)
{
    uint8_t bytes[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; c >>= 6)
        bytes[i] = (uint8_t)(0x80 | (c & 0x3f));
    bytes[0] = (uint8_t)(lead[n] | c);
    return kv_buf_append(out, kv_slice_of(bytes, n));
}

/* What follows "\u" in *rest, with its second half if it is one of two. */
static kv_status unescape_u(kv_slice *rest, struct kv_buf *out)
{
    uint32_t c, low;
    if (!hex4(*rest, &c))
        return KV_INVALID;
    *rest = kv_slice_from(*rest, 4);
    if (c >= 0xdc00 && c < 0xe000)
        return KV_INVALID;
    if (c >= 0xd800 && c < 0xdc00) {
        if (rest->len < 6 || rest->data[0] != '\\' || rest->data[1] != 'u' ||
            !hex4(kv_slice_from(*rest, 2), &low) || low < 0xdc00 || low > 0xdfff)
            return KV_INVALID;
        *rest = kv_slice_from(*rest, 6);
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    return put_utf8(out, c);
}

/* Replaces *out. KV_INVALID: no such escape. */
static kv_status unescape(kv_slice raw, struct kv_buf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    kv_status rc = KV_OK;
    kv_buf_clear(out);
    while (raw.len && rc == KV_OK) {
        const uint8_t *escape = memchr(raw.data, '\\', raw.len);
        size_t n = escape ? (size_t)(escape - raw.data) : raw.len;
        rc = kv_buf_append(out, kv_slice_of(raw.data, n));
        raw = kv_slice_from(raw, n);
        if (!escape || rc < 0)
            continue;
        uint8_t c = raw.data[1]; /* a string never ends in a lone backslash */
        raw = kv_slice_from(raw, 2);
        const char *at = memchr(from, c, sizeof from - 1);
        if (c == 'u')
            rc = unescape_u(&raw, out);
        else if (at)
            rc = kv_buf_append_byte(out, (uint8_t)to[at - from]);
        else
            rc = KV_INVALID;
    }
    return rc;
}

/* ---- the metric object ----------------------------------------------------------------------------------------------- */

/* The label callback of ts_row: only for series that are not known yet. */
static kv_status labels_parse(void *ctx, const struct ts_row *row, struct ts_label_sink *sink)
{
    struct json_lines *d = ctx;
    struct json_lines in = {.at = row->identity[0].data, .end = row->identity[0].data + row->identity[0].len};
    kv_slice name, value;
    (void)take(&in, '{');
    if (take(&in, '}'))
        return KV_OK;
    do {
        if (!string(&in, &name) || !take(&in, ':') || !string(&in, &value))
            return KV_INVALID; /* it was read before */
        kv_status rc = unescape(name, &d->name);
        if (rc == KV_OK)
            rc = unescape(value, &d->value);
        if (rc == KV_OK)
            rc = sink->add(sink, kv_buf_slice(&d->name), kv_buf_slice(&d->value));
        if (rc < 0)
            return rc;
    } while (take(&in, ','));
    return KV_OK;
}

/* Strings by name; only the form is looked at. */
static bool metric(struct json_lines *d)
{
    size_t n = 0;
    kv_slice raw;
    blanks(d);
    const uint8_t *start = d->at;
    if (!take(d, '{'))
        return fault(d, "\"metric\" is not an object");
    if (!take(d, '}')) {
        do {
            if (!string(d, &raw))
                return false;
            if (!take(d, ':'))
                return fault(d, "expected ':'");
            if (d->at == d->end || *d->at != '"')
                return fault(d, "the value of a label is not a string");
            if (!string(d, &raw))
                return false;
            if (++n > LABELS_MAX)
                return fault(d, "more than 1000 labels");
        } while (take(d, ','));
        if (!take(d, '}'))
            return fault(d, "expected ',' or '}'");
    }
    const uint8_t *stop = d->at;
    while (stop[-1] != '}')
        stop--;
    d->metric = kv_slice_of(start, (size_t)(stop - start));
    return true;
}

/* ---- the two arrays -------------------------------------------------------------------------------------------------- */

static bool special_value(struct json_lines *d, double *out)
{
    kv_slice raw;
    if (!string(d, &raw))
        return false;
    bool minus = raw.len && raw.data[0] == '-';
    kv_slice text = kv_slice_from(raw, raw.len && (raw.data[0] == '-' || raw.data[0] == '+'));
    if (http_equal_nocase(text, KV_STR("inf")) || http_equal_nocase(text, KV_STR("infinity")))
        *out = minus ? -INFINITY : INFINITY;
    else if (http_equal_nocase(text, KV_STR("nan")))
        *out = NAN;
    else
        return fault(d, "a value is a number, null, \"NaN\", \"Infinity\" or \"-Infinity\"");
    return true;
}

static bool value(struct json_lines *d, double *out)
{
    static const uint64_t stale = TS_STALE_NAN;
    if (d->at < d->end && *d->at == '"')
        return special_value(d, out);
    if (word(d, "null")) {
        memcpy(out, &stale, sizeof *out);
        return true;
    }
    size_t n = kv_double_parse(kv_slice_of(d->at, (size_t)(d->end - d->at)), out);
    if (n == 0)
        return fault(d, "expected a number");
    if (isinf(*out))
        return fault(d, "number out of range");
    d->at += n;
    return true;
}

static bool timestamp(struct json_lines *d, int64_t *out)
{
    const uint8_t *start = d->at;
    bool minus = d->at < d->end && *d->at == '-';
    uint64_t v = 0;
    d->at += minus;
    const uint8_t *digits = d->at;
    for (; d->at < d->end && (unsigned)*d->at - '0' <= 9; d->at++) {
        unsigned digit = (unsigned)*d->at - '0';
        if (v > ((uint64_t)INT64_MAX - digit) / 10) {
            d->at = start;
            return fault(d, "timestamp out of range");
        }
        v = v * 10 + digit;
    }
    if (d->at == digits || (d->at < d->end && (*d->at == '.' || (*d->at | 0x20) == 'e')))
        return fault(d, "expected a timestamp in whole milliseconds");
    *out = minus ? -(int64_t)v : (int64_t)v;
    return true;
}

/* Room for one more in an array of 8 byte items. KV_LIMIT: too many in one line. */
static kv_status room(void **items, size_t n, size_t *capacity)
{
    if (n < *capacity)
        return KV_OK;
    if (n == LINE_SAMPLES_MAX)
        return KV_LIMIT;
    size_t more = *capacity ? *capacity * 2 : 64;
    void *moved = kv_realloc(*items, more * 8);
    if (!moved)
        return KV_NO_MEMORY;
    *items = moved;
    *capacity = more;
    return KV_OK;
}

/* values or timestamps. KV_INVALID: why says it. */
static kv_status array(struct json_lines *d, bool times)
{
    size_t *n = times ? &d->n_times : &d->n_values;
    *n = 0;
    if (!take(d, '['))
        return fault(d, times ? "\"timestamps\" is not an array" : "\"values\" is not an array"), KV_INVALID;
    if (take(d, ']'))
        return KV_OK;
    do {
        kv_status rc = times ? room((void **)&d->times, *n, &d->times_capacity)
                             : room((void **)&d->values, *n, &d->values_capacity);
        if (rc == KV_LIMIT)
            return fault(d, "more than 1048576 samples in one line"), KV_INVALID;
        if (rc < 0)
            return rc;
        if (!(times ? timestamp(d, &d->times[*n]) : value(d, &d->values[*n])))
            return KV_INVALID;
        ++*n;
    } while (take(d, ','));
    return take(d, ']') ? KV_OK : (fault(d, "expected ',' or ']'"), KV_INVALID);
}

/* ---- lines ----------------------------------------------------------------------------------------------------------- */

static kv_status member(struct json_lines *d)
{
    kv_slice name;
    if (!string(d, &name))
        return KV_INVALID;
    if (!take(d, ':'))
        return fault(d, "expected ':'"), KV_INVALID;
    if (kv_slice_equal(name, KV_STR("metric")))
        return metric(d) ? KV_OK : KV_INVALID;
    if (kv_slice_equal(name, KV_STR("values")))
        return array(d, false);
    if (kv_slice_equal(name, KV_STR("timestamps")))
        return array(d, true);
    return skip_value(d) ? KV_OK : KV_INVALID;
}

static kv_status read_line(struct json_lines *d)
{
    d->n_times = d->n_values = 0;
    d->metric = (kv_slice){0};
    if (!take(d, '{'))
        return fault(d, "expected a JSON object"), KV_INVALID;
    if (!take(d, '}')) {
        do {
            kv_status rc = member(d);
            if (rc < 0)
                return rc;
        } while (take(d, ','));
        if (!take(d, '}'))
            return fault(d, "expected ',' or '}'"), KV_INVALID;
    }
    if (d->at != d->end)
        return fault(d, "unexpected byte behind the object"), KV_INVALID;
    d->at = d->line;
    if (!d->metric.data)
        return fault(d, "no \"metric\""), KV_INVALID;
    if (d->n_times != d->n_values)
        return fault(d, "\"values\" and \"timestamps\" differ in length"), KV_INVALID;
    return KV_OK;
}

static kv_status emit(struct json_lines *d, struct http_decode_sink *sink, struct http_decode_report *report)
{
    const struct ts_row row = {
        .protocol = TS_PROTOCOL_JSON_LINES,
        .position = d->number,
        .identity = {d->metric},
        .labels = labels_parse,
        .labels_ctx = d,
        .times_ms = d->times,
        .values = d->values,
        .n = d->n_times,
    };
    if (d->n_times == 0)
        return KV_OK;
    report->rows++;
    report->samples += d->n_times;
    return sink->row(sink, &row);
}

static void reject_line(struct json_lines *d, struct http_decode_sink *sink,
                        struct http_decode_report *report)
{
    char text[160];
    text[0] = 0;
    if (report->rejected++ < TS_REJECTS_KEPT)
        snprintf(text, sizeof text, "line %u:%zu: %s", d->number, (size_t)(d->at - d->line) + 1, d->why);
    sink->reject(sink, d->number, TS_REJECT_MALFORMED, 1, text);
}

static kv_status json_decode(struct http_decoder *decoder, kv_slice body,
                             const struct http_decode_options *options, struct http_decode_sink *sink,
                             struct http_decode_report *report, struct kv_err *err)
{
    struct json_lines *d = (struct json_lines *)decoder;
    (void)options;
    *report = (struct http_decode_report){0};
    d->number = 0;
    while (body.len) {
        const uint8_t *newline = memchr(body.data, '\n', body.len);
        d->line = d->at = body.data;
        d->end = newline ? newline : body.data + body.len;
        d->number++;
        body = kv_slice_from(body, (size_t)(d->end - body.data) + (newline != NULL));
        blanks(d);
        if (d->at == d->end)
            continue;
        kv_status rc = read_line(d);
        if (rc == KV_OK)
            rc = emit(d, sink, report);
        else if (rc == KV_INVALID) {
            reject_line(d, sink, report);
            rc = KV_OK;
        } else {
            rc = kv_fail(err, rc, 0, "line %u: %s", d->number, kv_status_text(rc));
        }
        if (rc < 0)
            return rc;
    }
    return KV_OK;
}

static void json_free(struct http_decoder *decoder)
{
    struct json_lines *d = (struct json_lines *)decoder;
    kv_free(d->times);
    kv_free(d->values);
    kv_buf_release(&d->name);
    kv_buf_release(&d->value);
    kv_free(d);
}

kv_status http_json_lines_new(struct http_decoder **out)
{
    static const struct http_decoder_ops ops = {"json_lines", json_decode, json_free};
    struct json_lines *d = kv_zalloc(1, sizeof *d);
    if (!d)
        return KV_NO_MEMORY;
    d->base.ops = &ops;
    *out = &d->base;
    return KV_OK;
}
