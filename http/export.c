#include "http/export.h"
#include "http/json.h"
#include "kvcore/base/number.h"

#include <math.h>

bool http_export_named(kv_slice name, enum http_export_format *out)
{
    static const char *const names[] = {"json", "prometheus", "openmetrics"};
    for (int i = 0; i < 3; i++)
        if (kv_slice_equal(name, kv_slice_str(names[i]))) {
            *out = (enum http_export_format)i;
            return true;
        }
    *out = HTTP_EXPORT_JSON;
    return name.len == 0;
}

const char *http_export_content_type(enum http_export_format format)
{
    static const char *const types[] = {"application/stream+json", "text/plain; version=0.0.4; charset=utf-8",
                                        "application/openmetrics-text; version=1.0.0; charset=utf-8"};
    return types[format];
}

static bool is_stale(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits == TS_STALE_NAN;
}

/* ---- JSON ---------------------------------------------------------------------------------------------------------- */

static void json_value(struct http_json *json, double value)
{
    char text[KV_DOUBLE_LEN_MAX];
    if (is_stale(value))
        HTTP_JSON_RAW(json, "null");
    else if (isnan(value))
        HTTP_JSON_RAW(json, "\"NaN\"");
    else if (isinf(value))
        http_json_raw(json, value > 0 ? KV_STR("\"Infinity\"") : KV_STR("\"-Infinity\""));
    else
        http_json_raw(json, kv_slice_of(text, kv_double_format(value, text)));
}

static void json_line(struct http_json *json, const struct ts_series_points *p, size_t from, size_t n)
{
    HTTP_JSON_RAW(json, "{\"metric\":{");
    for (size_t i = 0; i < p->n_labels; i++) {
        if (i)
            HTTP_JSON_RAW(json, ",");
        http_json_string(json, p->labels[i].name);
        HTTP_JSON_RAW(json, ":");
        http_json_string(json, p->labels[i].value);
    }
    HTTP_JSON_RAW(json, "},\"values\":[");
    for (size_t i = from; i < from + n; i++) {
        if (i > from)
            HTTP_JSON_RAW(json, ",");
        json_value(json, p->values[i]);
    }
    HTTP_JSON_RAW(json, "],\"timestamps\":[");
    for (size_t i = from; i < from + n; i++) {
        if (i > from)
            HTTP_JSON_RAW(json, ",");
        http_json_int(json, p->times_ms[i]);
    }
    HTTP_JSON_RAW(json, "]}\n");
}

/* ---- text ---------------------------------------------------------------------------------------------------------- */

/* A name that may stand without quotes. */
static bool is_plain_name(kv_slice name, bool colons)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c == ':' && colons);
        if (!letter && (i == 0 || c < '0' || c > '9'))
            return false;
    }
    return name.len > 0;
}

static kv_status quoted(kv_slice text, struct kv_buf *out)
{
    kv_status rc = kv_buf_append_byte(out, '"');
    while (rc == KV_OK && text.len) {
        size_t n = 0;
        while (n < text.len && text.data[n] != '"' && text.data[n] != '\\' && text.data[n] != '\n')
            n++;
        rc = kv_buf_append(out, kv_slice_of(text.data, n));
        text = kv_slice_from(text, n);
        if (rc == KV_OK && text.len) {
            uint8_t c = text.data[0];
            rc = kv_buf_append(out, c == '\n' ? KV_STR("\\n") : c == '"' ? KV_STR("\\\"") : KV_STR("\\\\"));
            text = kv_slice_from(text, 1);
        }
    }
    return rc == KV_OK ? kv_buf_append_byte(out, '"') : rc;
}

/* up{job="x"}; a name that is not of the old alphabet stands in the braces: {"http.requests",job="x"}. */
static kv_status text_series(const struct ts_series_points *p, struct kv_buf *out)
{
    kv_slice name = {0};
    kv_status rc = KV_OK;
    bool any = false;
    for (size_t i = 0; i < p->n_labels; i++)
        if (kv_slice_equal(p->labels[i].name, KV_STR("__name__")))
            name = p->labels[i].value;
    bool plain = is_plain_name(name, true);
    if (plain)
        KV_TRY(kv_buf_append(out, name));
    else if (name.len) {
        KV_TRY(kv_buf_append_byte(out, '{'));
        KV_TRY(quoted(name, out));
        any = true;
    }
    for (size_t i = 0; i < p->n_labels; i++) {
        const struct ts_label *label = &p->labels[i];
        if (kv_slice_equal(label->name, KV_STR("__name__")))
            continue;
        KV_TRY(kv_buf_append_byte(out, any ? ',' : '{'));
        KV_TRY(is_plain_name(label->name, false) ? kv_buf_append(out, label->name)
                                                 : quoted(label->name, out));
        KV_TRY(kv_buf_append_byte(out, '='));
        KV_TRY(quoted(label->value, out));
        any = true;
    }
    if (any)
        KV_TRY(kv_buf_append_byte(out, '}'));
out:
    return rc;
}

static kv_status text_samples(const struct ts_series_points *p, size_t from, size_t n, bool seconds,
                              struct kv_buf *out, uint64_t *left_out)
{
    struct kv_buf series = {0};
    char text[KV_DOUBLE_LEN_MAX];
    kv_status rc = text_series(p, &series);
    for (size_t i = from; i < from + n && rc == KV_OK; i++) {
        int64_t ms = p->times_ms[i];
        uint64_t size = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;
        if (is_stale(p->values[i])) {
            *left_out += 1;
            continue;
        }
        KV_TRY(kv_buf_append(out, kv_buf_slice(&series)));
        KV_TRY(kv_buf_append_byte(out, ' '));
        KV_TRY(kv_buf_append(out, kv_slice_of(text, kv_double_format(p->values[i], text))));
        rc = seconds ? kv_buf_printf(out, " %s%llu.%03u\n", ms < 0 ? "-" : "",
                                     (unsigned long long)(size / 1000), (unsigned)(size % 1000))
                     : kv_buf_printf(out, " %lld\n", (long long)ms);
    }
out:
    kv_buf_release(&series);
    return rc;
}

kv_status http_export_piece(enum http_export_format format, const struct ts_series_points *points,
                            size_t from, size_t n, struct kv_buf *out, uint64_t *left_out)
{
    struct http_json json;
    if (format != HTTP_EXPORT_JSON)
        return text_samples(points, from, n, format == HTTP_EXPORT_OPENMETRICS, out, left_out);
    http_json_init(&json, out);
    json_line(&json, points, from, n);
    return json.failed;
}

kv_status http_export_end(enum http_export_format format, struct kv_buf *out)
{
    return format == HTTP_EXPORT_OPENMETRICS ? kv_buf_append(out, KV_STR("# EOF\n")) : KV_OK;
}
