#include "http/json.h"
#include "http/text.h"
#include "kvcore/base/number.h"

#include <math.h>

static uint8_t *room(struct http_json *json, size_t n)
{
    if (json->failed < 0)
        return NULL;
    kv_status rc = kv_buf_reserve(json->out, n);
    if (rc < 0) {
        json->failed = rc;
        return NULL;
    }
    return json->out->data + json->out->len;
}

void http_json_raw(struct http_json *json, kv_slice bytes)
{
    uint8_t *p = room(json, bytes.len);
    if (p && bytes.len) {
        memcpy(p, bytes.data, bytes.len);
        json->out->len += bytes.len;
    }
}

static bool is_plain(uint8_t c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&';
}

/* One byte that may not stand as it is. */
static uint8_t *escape(uint8_t *p, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    char letter = c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\t' ? 't' : c == '"' || c == '\\' ? (char)c : 0;
    *p++ = '\\';
    if (letter) {
        *p++ = (uint8_t)letter;
        return p;
    }
    memcpy(p, "u00", 3);
    p[3] = (uint8_t)hex[c >> 4];
    p[4] = (uint8_t)hex[c & 15];
    return p + 5;
}

void http_json_string(struct http_json *json, kv_slice text)
{
    enum { WORST = 6 }; /* bytes made of one */
    if (text.len > (SIZE_MAX - 2) / WORST) {
        json->failed = KV_LIMIT;
        return;
    }
    HTTP_JSON_RAW(json, "\"");
    while (text.len) {
        size_t n = text.len < 1024 ? text.len : 1024, used = 0;
        uint8_t *p = room(json, (n + 4) * WORST);
        if (!p)
            return;
        uint8_t *start = p;
        while (used < n) {
            uint8_t c = text.data[used];
            if (is_plain(c)) {
                *p++ = c;
                used++;
            } else if (c < 0x80) {
                p = escape(p, c);
                used++;
            } else {
                size_t len = http_utf8_len(kv_slice_from(text, used));
                memcpy(p, len ? text.data + used : (const uint8_t *)"\xef\xbf\xbd", len ? len : 3);
                p += len ? len : 3;
                used += len ? len : 1;
            }
        }
        json->out->len += (size_t)(p - start);
        text = kv_slice_from(text, used);
    }
    HTTP_JSON_RAW(json, "\"");
}

void http_json_str(struct http_json *json, const char *text)
{
    http_json_string(json, kv_slice_str(text));
}

static uint8_t *write_uint(uint8_t *p, uint64_t v)
{
    uint8_t digits[20];
    size_t n = 0;
    do {
        digits[n++] = (uint8_t)('0' + v % 10);
        v /= 10;
    } while (v);
    while (n)
        *p++ = digits[--n];
    return p;
}

void http_json_uint(struct http_json *json, uint64_t v)
{
    uint8_t *p = room(json, 20);
    if (p)
        json->out->len += (size_t)(write_uint(p, v) - p);
}

void http_json_int(struct http_json *json, int64_t v)
{
    if (v < 0)
        HTTP_JSON_RAW(json, "-");
    http_json_uint(json, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

static uint8_t *write_value(uint8_t *p, double v)
{
    *p++ = '"';
    p += kv_double_format(v, (char *)p);
    *p++ = '"';
    return p;
}

static uint8_t *write_time(uint8_t *p, int64_t ms)
{
    uint64_t magnitude = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;
    unsigned fraction = (unsigned)(magnitude % 1000);
    if (ms < 0)
        *p++ = '-';
    p = write_uint(p, magnitude / 1000);
    if (fraction) {
        *p++ = '.';
        *p++ = (uint8_t)('0' + fraction / 100);
        *p++ = (uint8_t)('0' + fraction / 10 % 10);
        *p++ = (uint8_t)('0' + fraction % 10);
    }
    return p;
}

void http_json_number(struct http_json *json, double v)
{
    uint8_t *p = room(json, KV_DOUBLE_LEN_MAX);
    if (p)
        json->out->len += kv_double_format(isfinite(v) ? v : 0, (char *)p);
}

void http_json_time(struct http_json *json, int64_t ms)
{
    uint8_t *p = room(json, 24);
    if (p)
        json->out->len += (size_t)(write_time(p, ms) - p);
}

void http_json_point(struct http_json *json, int64_t ms, double v)
{
    uint8_t *start = room(json, 24 + KV_DOUBLE_LEN_MAX + 5);
    if (!start)
        return;
    uint8_t *p = start;
    *p++ = '[';
    p = write_time(p, ms);
    *p++ = ',';
    p = write_value(p, v);
    *p++ = ']';
    json->out->len += (size_t)(p - start);
}
