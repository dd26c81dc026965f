#include "http/gate.h"
#include "http/text.h"

static const struct http_verdict PASSES = {0};

static struct http_verdict refuse(unsigned status, const char *why)
{
    return (struct http_verdict){status, true, why};
}

enum http_method http_method_of(kv_slice name)
{
    static const struct {
        const char *name;
        enum http_method method;
    } methods[] = {{"GET", HTTP_GET}, {"POST", HTTP_POST},       {"HEAD", HTTP_HEAD},
                   {"PUT", HTTP_PUT}, {"OPTIONS", HTTP_OPTIONS}, {"DELETE", HTTP_DELETE}};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (kv_slice_equal(name, kv_slice_str(methods[i].name)))
            return methods[i].method;
    return HTTP_OTHER;
}

static bool is_token(kv_slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.data[i];
        if (c <= ' ' || c >= 0x7f || memchr("\"(),/:;<=>?@[\\]{}", c, 17))
            return false;
    }
    return s.len > 0;
}

static bool has_control(kv_slice s, bool tab_is_fine)
{
    for (size_t i = 0; i < s.len; i++)
        if ((s.data[i] < 0x20 && !(tab_is_fine && s.data[i] == '\t')) || s.data[i] == 0x7f)
            return true;
    return false;
}

static int hex(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The path's escapes, undone in place of a copy: bytes are only looked at. */
static struct http_verdict check_escapes(kv_slice path)
{
    for (size_t i = 0; i < path.len; i++) {
        if (path.data[i] != '%')
            continue;
        if (path.len - i < 3 || hex(path.data[i + 1]) < 0 || hex(path.data[i + 2]) < 0)
            return refuse(400, "bad percent escape in the path");
        int byte = hex(path.data[i + 1]) * 16 + hex(path.data[i + 2]);
        if (byte < 0x20 || byte == 0x7f)
            return refuse(400, "escaped control byte in the path");
    }
    return PASSES;
}

static struct http_verdict check_target(const struct http_gate *gate)
{
    kv_slice target = gate->target;
    if (kv_slice_equal(target, KV_STR("*")) && kv_slice_equal(gate->method, KV_STR("OPTIONS")))
        return PASSES;
    if (target.len == 0 || target.data[0] != '/')
        return refuse(400, "the request target must be a path");
    if (has_control(target, false))
        return refuse(400, "control byte in the request target");
    if (memchr(target.data, ' ', target.len))
        return refuse(400, "blank in the request target");
    if (memchr(target.data, '#', target.len))
        return refuse(400, "fragment in the request target");
    const uint8_t *query = memchr(target.data, '?', target.len);
    return check_escapes((kv_slice){target.data, query ? (size_t)(query - target.data) : target.len});
}

static struct http_verdict check_host(kv_slice host)
{
    uint64_t port;
    host = http_trim(host);
    if (memchr(host.data, ' ', host.len) || has_control(host, false) || memchr(host.data, '/', host.len) ||
        memchr(host.data, '@', host.len))
        return refuse(400, "bad Host header");
    const uint8_t *colon = NULL;
    for (size_t i = 0; i < host.len; i++) {
        if (host.data[i] == ':')
            colon = host.data + i;
        else if (host.data[i] == ']')
            colon = NULL; /* those before were an IPv6 address's */
    }
    if (colon && !http_parse_uint(kv_slice_from(host, (size_t)(colon + 1 - host.data)), 65535, &port) &&
        colon + 1 != host.data + host.len)
        return refuse(400, "bad port in the Host header");
    return PASSES;
}

static struct http_verdict check_length(kv_slice value)
{
    uint64_t length;
    value = http_trim(value);
    if (value.len == 0)
        return refuse(400, "empty Content-Length");
    for (size_t i = 0; i < value.len; i++)
        if (value.data[i] < '0' || value.data[i] > '9')
            return refuse(400, "Content-Length is not a number");
    return http_parse_uint(value, INT64_MAX, &length) ? PASSES : refuse(413, "Content-Length is too large");
}

static bool is(kv_slice name, const char *known)
{
    return http_equal_nocase(name, kv_slice_str(known));
}

/* Each of these may come once. */
enum { H_HOST, H_LENGTH, H_ENCODING, H_AUTHORIZATION, H_CODING, H_TYPE, H_EXPECT, H_KINDS };
struct seen {
    size_t count[H_KINDS];
    kv_slice value[H_KINDS];
};

static struct http_verdict collect(const struct http_gate *gate, struct seen *seen)
{
    static const char *const names[H_KINDS] = {"Host",          "Content-Length",   "Transfer-Encoding",
                                               "Authorization", "Content-Encoding", "Content-Type",
                                               "Expect"};
    if (gate->n_headers > HTTP_HEADERS_MAX)
        return refuse(431, "more than 200 header fields");
    for (size_t i = 0; i < gate->n_headers; i++) {
        const struct http_pair *h = &gate->headers[i];
        if (!is_token(h->name))
            return refuse(400, "bad header name (blank before the colon?)");
        if (has_control(h->value, true))
            return refuse(400, "control byte in a header");
        for (size_t k = 0; k < H_KINDS; k++) {
            if (is(h->name, names[k])) {
                seen->count[k]++;
                seen->value[k] = h->value;
            }
        }
    }
    return PASSES;
}

/* Where the body ends must be said once and in one way. */
static struct http_verdict check_framing(const struct http_gate *gate, const struct seen *seen)
{
    if (seen->count[H_LENGTH] > 1)
        return refuse(400, "more than one Content-Length");
    if (seen->count[H_ENCODING] && seen->count[H_LENGTH])
        return refuse(400, "both Content-Length and Transfer-Encoding");
    if (seen->count[H_ENCODING] > 1)
        return refuse(400, "more than one Transfer-Encoding");
    if (seen->count[H_ENCODING] && is(gate->version, "HTTP/1.0"))
        return refuse(400, "Transfer-Encoding on HTTP/1.0");
    if (seen->count[H_ENCODING] && !is(http_trim(seen->value[H_ENCODING]), "chunked"))
        return refuse(501, "only the transfer encoding \"chunked\" is known");
    return seen->count[H_LENGTH] ? check_length(seen->value[H_LENGTH]) : PASSES;
}

/* Only utf-8 (and its subset) is read. */
static struct http_verdict check_charset(kv_slice type)
{
    for (size_t i = 0; i + 8 <= type.len; i++) {
        if (!http_equal_nocase(kv_slice_of(type.data + i, 8), KV_STR("charset=")))
            continue;
        kv_slice value = kv_slice_from(type, i + 8);
        const uint8_t *end = memchr(value.data, ';', value.len);
        value.len = end ? (size_t)(end - value.data) : value.len;
        value = http_trim(value);
        if (value.len >= 2 && value.data[0] == '"' && value.data[value.len - 1] == '"')
            value = kv_slice_of(value.data + 1, value.len - 2);
        if (!is(value, "utf-8") && !is(value, "utf8") && !is(value, "us-ascii"))
            return (struct http_verdict){415, false, "only charset=utf-8 is read"};
    }
    return PASSES;
}

struct http_verdict http_gate_check(const struct http_gate *gate)
{
    struct seen seen = {0};
    struct http_verdict v;
    if (!kv_slice_equal(gate->version, KV_STR("HTTP/1.1")) &&
        !kv_slice_equal(gate->version, KV_STR("HTTP/1.0")))
        return refuse(505, "only HTTP/1.0 and HTTP/1.1 are spoken");
    if (http_method_of(gate->method) == HTTP_OTHER)
        return refuse(kv_slice_equal(gate->method, KV_STR("TRACE")) ? 405 : 501,
                      "this method is not known here");
    if ((v = check_target(gate)).status || (v = collect(gate, &seen)).status)
        return v;
    if ((v = check_framing(gate, &seen)).status)
        return v;
    if (seen.count[H_HOST] > 1)
        return refuse(400, "more than one Host header");
    if (seen.count[H_HOST] == 0 && kv_slice_equal(gate->version, KV_STR("HTTP/1.1")))
        return refuse(400, "no Host header");
    if (seen.count[H_HOST] && (v = check_host(seen.value[H_HOST])).status)
        return v;
    if (seen.count[H_AUTHORIZATION] > 1)
        return refuse(401, "more than one Authorization header");
    if (seen.count[H_CODING] > 1)
        return (struct http_verdict){415, false, "more than one Content-Encoding"};
    if (seen.count[H_EXPECT] && !is(http_trim(seen.value[H_EXPECT]), "100-continue"))
        return (struct http_verdict){417, true, "only Expect: 100-continue is known"};
    return seen.count[H_TYPE] ? check_charset(seen.value[H_TYPE]) : PASSES;
}
