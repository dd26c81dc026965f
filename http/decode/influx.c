/*
 * influx.c - InfluxDB line protocol (grammar: influxdata/line-protocol's EBNF).
 *
 *     measurement[,tag=value]* field=value[,field=value]* [timestamp]
 *
 * Metric = measurement "_" field; tags are labels. A row's identity is the raw bytes "measurement,tags" and
 * the raw field key, so lines of known series are never unescaped. A line is read to its end before its rows
 * go out, so a bad line leaves nothing behind.
 *
 * Where we part from InfluxDB, on purpose: an empty tag value is no label instead of an error (that is what
 * an empty label means in PromQL); string fields are skipped; times are floored to milliseconds.
 */
#include "http/decode/decoder.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/base/number.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include <math.h>
#include <stdio.h>

enum { LINE_LEN_MAX = 1 << 20, FIELDS_MAX = 1000, TAGS_MAX = 1000 };

/* Classes of bytes inside names. */
enum { C_COMMA = 1, C_SPACE = 2, C_EQUALS = 4, C_ESCAPE = 8, C_CONTROL = 16 };
static const uint8_t classes[256] = {
    [','] = C_COMMA,
    [' '] = C_SPACE,
    ['='] = C_EQUALS,
    ['\\'] = C_ESCAPE,
#define X4(i) [i] = C_CONTROL, [(i) + 1] = C_CONTROL, [(i) + 2] = C_CONTROL, [(i) + 3] = C_CONTROL
    X4(0),
    X4(4),
    X4(8),
    X4(12),
    X4(16),
    X4(20),
    X4(24),
    X4(28),
    [0x7f] = C_CONTROL,
#undef X4
};

struct field {
    kv_slice key;
    double value;
};

struct influx {
    struct http_decoder base;
    struct field fields[FIELDS_MAX];
    size_t n_fields;
    struct kv_buf text; /* unescaped name and labels, while a new series is introduced */

    /* of the body being read */
    const uint8_t *at, *end, *line;
    uint32_t line_number;
    const char *why; /* of the fault in this line */
    const uint8_t *where;
    const struct http_decode_options *options;
    struct http_decode_sink *sink;
    struct http_decode_report *report;
};

/* ---- labels of a new series
 * -------------------------------------------------------------------------------------- */

/* Appends raw without the backslashes that escape a byte of `specials`. */
static kv_status unescape(struct kv_buf *out, kv_slice raw, unsigned specials)
{
    if (raw.len == 0 || !memchr(raw.data, '\\', raw.len))
        return kv_buf_append(out, raw);
    for (size_t i = 0; i < raw.len; i++) {
        uint8_t c = raw.data[i];
        if (c == '\\' && i + 1 < raw.len && (classes[raw.data[i + 1]] & specials))
            c = raw.data[++i];
        kv_status rc = kv_buf_append_byte(out, c);
        if (rc < 0)
            return rc;
    }
    return KV_OK;
}

/* The first byte at or behind p that is of some class; end if there is none. */
static inline const uint8_t *next_special(const uint8_t *p, const uint8_t *end)
{
#ifdef __SSE2__ /* part of every x86-64 */
    const __m128i comma = _mm_set1_epi8(','), space = _mm_set1_epi8(' '), equals = _mm_set1_epi8('='),
                  escape = _mm_set1_epi8('\\'), rubout = _mm_set1_epi8(0x7f), control = _mm_set1_epi8(0x1f);
    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i hit = _mm_or_si128(_mm_cmpeq_epi8(v, comma), _mm_cmpeq_epi8(v, space));
        hit = _mm_or_si128(hit, _mm_or_si128(_mm_cmpeq_epi8(v, equals), _mm_cmpeq_epi8(v, escape)));
        hit = _mm_or_si128(
            hit, _mm_or_si128(_mm_cmpeq_epi8(v, rubout), _mm_cmpeq_epi8(_mm_max_epu8(v, control), control)));
        int bits = _mm_movemask_epi8(hit);
        if (bits)
            return p + __builtin_ctz((unsigned)bits);
    }
#endif
    while (p < end && !classes[*p])
        p++;
    return p;
}

/* Where the name that starts at p ends: at the first unescaped byte of `stops`. A run of backslashes takes
 * the next byte with it. */
static const uint8_t *name_end(const uint8_t *p, const uint8_t *end, unsigned stops)
{
    while ((p = next_special(p, end)) < end) {
        unsigned class = classes[*p];
        if (class == C_ESCAPE) {
            while (p < end && *p == '\\')
                p++;
            if (p == end || classes[*p] == C_CONTROL)
                return p;
        } else if (class & (stops | C_CONTROL)) {
            return p;
        }
        p++;
    }
    return p;
}

/* One label: both parts unescaped into d->text behind `base`. */
static kv_status label_add(struct influx *d, struct ts_label_sink *sink, kv_slice key, kv_slice value)
{
    enum { SPECIALS = C_COMMA | C_SPACE | C_EQUALS };
    kv_buf_clear(&d->text);
    kv_status rc = unescape(&d->text, key, SPECIALS);
    size_t n = d->text.len;
    if (rc == KV_OK)
        rc = unescape(&d->text, value, SPECIALS);
    if (rc < 0)
        return rc;
    return sink->add(sink, kv_slice_of(d->text.data, n), kv_slice_of(d->text.data + n, d->text.len - n));
}

static kv_status labels_parse(void *ctx, const struct ts_row *row, struct ts_label_sink *sink)
{
    struct influx *d = ctx;
    const uint8_t *p = row->identity[0].data, *end = p + row->identity[0].len;
    const uint8_t *stop = name_end(p, end, C_COMMA);
    kv_status rc;
    kv_buf_clear(&d->text);
    KV_TRY(unescape(&d->text, kv_slice_of(p, (size_t)(stop - p)), C_COMMA | C_SPACE));
    KV_TRY(kv_buf_append_byte(&d->text, '_'));
    KV_TRY(unescape(&d->text, row->identity[1], C_COMMA | C_SPACE | C_EQUALS));
    KV_TRY(sink->add(sink, KV_STR("__name__"), kv_buf_slice(&d->text)));
    while (stop < end) {
        p = stop + 1;
        const uint8_t *equals = name_end(p, end, C_EQUALS);
        KV_ASSERT(equals < end); /* the line was read before */
        stop = name_end(equals + 1, end, C_COMMA);
        KV_TRY(label_add(d, sink, kv_slice_of(p, (size_t)(equals - p)),
                         kv_slice_of(equals + 1, (size_t)(stop - equals - 1))));
    }
out:
    return rc;
}

/* ---- one line
 * ---------------------------------------------------------------------------------------------------- */

static bool fault(struct influx *d, const uint8_t *where, const char *why)
{
    d->where = where;
    d->why = why;
    return false;
}

static bool at_line_end(const struct influx *d, const uint8_t *p)
{
    return p == d->end || *p == '\n' || (*p == '\r' && (p + 1 == d->end || p[1] == '\n'));
}

static void skip_spaces(struct influx *d)
{
    while (d->at < d->end && *d->at == ' ')
        d->at++;
}

/* A byte that ends a name where it should not. */
static bool bad_name_end(struct influx *d, const uint8_t *p, const char *missing)
{
    if (at_line_end(d, p) || classes[*p] != C_CONTROL)
        return fault(d, p, missing);
    return fault(d, p, *p == 0 ? "NUL byte" : "control byte in a name");
}

static bool read_tags(struct influx *d)
{
    size_t n = 0;
    while (d->at < d->end && *d->at == ',') {
        const uint8_t *key = d->at + 1;
        const uint8_t *p = name_end(key, d->end, C_COMMA | C_SPACE | C_EQUALS);
        if (p == key)
            return bad_name_end(d, p, "empty tag key");
        if (p == d->end || *p != '=')
            return bad_name_end(d, p, "expected '=' after a tag key");
        const uint8_t *value = p + 1;
        p = name_end(value, d->end, C_COMMA | C_SPACE | C_EQUALS);
        if (p < d->end && *p == '=')
            return fault(d, p, "unescaped '=' in a tag value");
        if (++n > TAGS_MAX)
            return fault(d, key, "more than 1000 tags");
        d->at = p;
    }
    return true;
}

/* measurement and tags; *head is their raw text. */
static bool read_head(struct influx *d, kv_slice *head)
{
    const uint8_t *start = d->at;
    d->at = name_end(start, d->end, C_COMMA | C_SPACE);
    if (d->at == start)
        return bad_name_end(d, start, "no measurement");
    if (!read_tags(d))
        return false;
    *head = kv_slice_of(start, (size_t)(d->at - start));
    if (d->at == d->end || *d->at != ' ')
        return bad_name_end(d, d->at, "no fields");
    return true;
}

/* Behind the closing quote; NULL when there is none in this line's reach. */
static const uint8_t *string_end(const struct influx *d, const uint8_t *p)
{
    for (p++; p < d->end && *p != '"'; p++)
        if (*p == '\\' && p + 1 < d->end)
            p++;
    return p < d->end ? p + 1 : NULL;
}

static bool read_boolean(struct influx *d, double *value)
{
    static const struct {
        const char *text;
        double value;
    } words[] = {{"true", 1},  {"True", 1}, {"TRUE", 1}, {"false", 0}, {"False", 0},
                 {"FALSE", 0}, {"t", 1},    {"T", 1},    {"f", 0},     {"F", 0}};
    kv_slice rest = kv_slice_of(d->at, (size_t)(d->end - d->at));
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        kv_slice word = kv_slice_str(words[i].text);
        if (kv_slice_has_prefix(rest, word)) {
            d->at += word.len;
            *value = words[i].value;
            return true;
        }
    }
    return fault(d, d->at, "expected a field value");
}

/* digits "i" or "u", already known to be all digits up to `suffix`. */
static bool read_integer(struct influx *d, const uint8_t *digits, const uint8_t *suffix, bool negative,
                         double *value)
{
    uint64_t max = *suffix == 'u' ? UINT64_MAX : (uint64_t)INT64_MAX + negative;
    uint64_t v = 0;
    if (*suffix == 'u' && negative)
        return fault(d, d->at, "an unsigned value cannot be negative");
    for (const uint8_t *p = digits; p < suffix; p++) {
        unsigned digit = (unsigned)*p - '0';
        if (v > (max - digit) / 10)
            return fault(d, d->at,
                         *suffix == 'u' ? "unsigned value out of range" : "integer value out of range");
        v = v * 10 + digit;
    }
    *value = negative ? -(double)v : (double)v;
    d->at = suffix + 1;
    return true;
}

static bool read_number(struct influx *d, double *value)
{
    const uint8_t *start = d->at;
    bool negative = start < d->end && *start == '-';
    const uint8_t *digits = start + negative, *p = digits;
    uint64_t v = 0;
    while (p < d->end && (unsigned)*p - '0' <= 9)
        v = v * 10 + ((unsigned)*p++ - '0');
    if (p > digits && p < d->end && (*p == 'i' || *p == 'u'))
        return read_integer(d, digits, p, negative, value);
    bool plain = p > digits && p - digits <= 15 && (p == d->end || (*p != '.' && (*p | 0x20) != 'e'));
    if (plain) {
        *value = negative ? -(double)v : (double)v;
        d->at = p;
        return true;
    }
    if (*start == '+')
        return fault(d, start, "a number does not start with '+'");
    size_t n = kv_double_parse(kv_slice_of(start, (size_t)(d->end - start)), value);
    if (n == 0)
        return fault(d, start, "expected a field value");
    if (isinf(*value))
        return fault(d, start, "number out of range");
    d->at = start + n;
    return true;
}

static bool read_field_value(struct influx *d, kv_slice key)
{
    double value = 0;
    if (d->at == d->end || at_line_end(d, d->at) || *d->at == ' ' || *d->at == ',')
        return fault(d, d->at, "no value behind a field key");
    uint8_t c = *d->at;
    if (c == '"') {
        const uint8_t *behind = string_end(d, d->at);
        if (!behind)
            return fault(d, d->at, "unclosed quote");
        d->at = behind;
        d->report->strings_skipped++;
    } else if ((c >= '0' && c <= '9') || c == '-' || c == '.' || c == '+') {
        if (!read_number(d, &value))
            return false;
    } else if (!read_boolean(d, &value)) {
        return false;
    }
    if (d->at < d->end && *d->at != ',' && *d->at != ' ' && !at_line_end(d, d->at))
        return fault(d, d->at, "unexpected byte behind a field value");
    if (c == '"')
        return true;
    if (d->n_fields == FIELDS_MAX)
        return fault(d, key.data, "more than 1000 fields");
    d->fields[d->n_fields++] = (struct field){key, value};
    return true;
}

static bool read_fields(struct influx *d)
{
    d->n_fields = 0;
    do {
        const uint8_t *key = d->at;
        const uint8_t *p = name_end(key, d->end, C_COMMA | C_SPACE | C_EQUALS);
        if (p == key)
            return bad_name_end(d, p, d->at == d->end || *p == '\n' ? "no fields" : "empty field key");
        if (p == d->end || *p != '=')
            return bad_name_end(d, p, "expected '=' after a field key");
        d->at = p + 1;
        if (!read_field_value(d, kv_slice_of(key, (size_t)(p - key))))
            return false;
    } while (d->at < d->end && *d->at == ',' && d->at++);
    return true;
}

/* digits * unit_ns nanoseconds, floored to milliseconds. */
static bool time_to_ms(int64_t v, int64_t unit_ns, int64_t *ms)
{
    enum { NS_PER_MS = 1000000 };
    if (unit_ns >= NS_PER_MS)
        return !__builtin_mul_overflow(v, unit_ns / NS_PER_MS, ms);
    int64_t per_ms = NS_PER_MS / unit_ns;
    *ms = v / per_ms - (v % per_ms < 0);
    return true;
}

static bool read_time(struct influx *d, int64_t *time_ms)
{
    const uint8_t *start = d->at, *p = start;
    uint64_t v = 0;
    bool negative = *p == '-';
    p += negative;
    const uint8_t *digits = p;
    uint64_t max = (uint64_t)INT64_MAX + negative;
    for (; p < d->end && (unsigned)*p - '0' <= 9; p++) {
        unsigned digit = (unsigned)*p - '0';
        if (v > (max - digit) / 10)
            return fault(d, start, "timestamp out of range");
        v = v * 10 + digit;
    }
    if (p == digits)
        return fault(d, p, "expected a timestamp");
    d->at = p;
    int64_t signed_v = negative ? (int64_t)(0 - v) : (int64_t)v;
    if (!time_to_ms(signed_v, d->options->unit_ns ? d->options->unit_ns : 1, time_ms))
        return fault(d, start, "timestamp out of range in this precision");
    return true;
}

/* A whole line up to, not over, its newline. */
static bool read_line(struct influx *d, kv_slice *head, int64_t *time_ms)
{
    if (!read_head(d, head))
        return false;
    skip_spaces(d);
    if (!read_fields(d))
        return false;
    skip_spaces(d);
    if (!at_line_end(d, d->at) && !read_time(d, time_ms))
        return false;
    skip_spaces(d);
    if (!at_line_end(d, d->at))
        return fault(d, d->at, "unexpected byte at the end of the line");
    if (d->at - d->line > LINE_LEN_MAX)
        return fault(d, d->line, "line longer than 1 MiB");
    return true;
}

static kv_status emit_line(struct influx *d, kv_slice head, int64_t time_ms)
{
    struct ts_row row = {
        .protocol = TS_PROTOCOL_INFLUX,
        .position = d->line_number,
        .identity = {head},
        .labels = labels_parse,
        .labels_ctx = d,
        .times_ms = &time_ms,
        .n = 1,
    };
    for (size_t i = 0; i < d->n_fields; i++) {
        row.identity[1] = d->fields[i].key;
        row.values = &d->fields[i].value;
        kv_status rc = d->sink->row(d->sink, &row);
        if (rc < 0)
            return rc;
    }
    d->report->rows += d->n_fields;
    d->report->samples += d->n_fields;
    return KV_OK;
}

static void reject_line(struct influx *d)
{
    char text[160];
    text[0] = 0;
    if (d->report->rejected++ < TS_REJECTS_KEPT) /* past these nobody reads the text */
        snprintf(text, sizeof text, "line %u:%zu: %s", d->line_number, (size_t)(d->where - d->line) + 1,
                 d->why);
    d->sink->reject(d->sink, d->line_number, TS_REJECT_MALFORMED, 1, text);
}

/* Counts the newlines in [from, to): a string may hold some. */
static uint32_t newlines(const uint8_t *from, const uint8_t *to)
{
    uint32_t n = 0;
    while ((from = memchr(from, '\n', (size_t)(to - from))) && from < to) {
        n++;
        from++;
    }
    return n;
}

static kv_status line_decode(struct influx *d)
{
    kv_slice head = {0};
    int64_t time_ms = d->options->now_ms;
    uint64_t skipped_before = d->report->strings_skipped;
    d->line = d->at;
    skip_spaces(d);
    if (at_line_end(d, d->at))
        return KV_OK;
    if (*d->at == '#') {
        const uint8_t *newline = memchr(d->at, '\n', (size_t)(d->end - d->at));
        d->at = newline ? newline : d->end;
        return KV_OK;
    }
    if (read_line(d, &head, &time_ms)) {
        kv_status rc = emit_line(d, head, time_ms);
        if (d->report->strings_skipped != skipped_before)
            d->line_number += newlines(d->line, d->at);
        return rc;
    }
    reject_line(d);
    d->report->strings_skipped = skipped_before;
    /* The next line begins behind the first newline at or after the fault. */
    d->line_number += newlines(d->line, d->where);
    const uint8_t *newline = d->where < d->end ? memchr(d->where, '\n', (size_t)(d->end - d->where)) : NULL;
    d->at = newline ? newline : d->end;
    return KV_OK;
}

static kv_status influx_decode(struct http_decoder *decoder, kv_slice body,
                               const struct http_decode_options *options, struct http_decode_sink *sink,
                               struct http_decode_report *report, struct kv_err *err)
{
    struct influx *d = (struct influx *)decoder;
    *report = (struct http_decode_report){0};
    d->at = body.data;
    d->end = body.data + body.len;
    d->options = options;
    d->sink = sink;
    d->report = report;
    d->line_number = 1;
    if (kv_slice_has_prefix(body, KV_STR("\xef\xbb\xbf")))
        return kv_fail(err, KV_INVALID, 0, "line 1:1: the body starts with a byte order mark");
    while (d->at < d->end) {
        kv_status rc = line_decode(d);
        if (rc < 0)
            return rc;
        if (d->at < d->end && *d->at == '\r')
            d->at++;
        if (d->at < d->end) /* a newline, or the end */
            d->at++;
        d->line_number++;
    }
    return KV_OK;
}

static void influx_free(struct http_decoder *decoder)
{
    struct influx *d = (struct influx *)decoder;
    kv_buf_release(&d->text);
    kv_free(d);
}

kv_status http_influx_new(struct http_decoder **out)
{
    static const struct http_decoder_ops ops = {"influx", influx_decode, influx_free};
    struct influx *d = kv_zalloc(1, sizeof *d);
    if (!d)
        return KV_NO_MEMORY;
    d->base.ops = &ops;
    *out = &d->base;
    return KV_OK;
}
