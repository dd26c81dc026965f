/* What stands in a request before any handler: the gate, parameters, times and durations, credentials. The input is a target, then lines of
 * headers, then an empty line and a form. */
#include "kvcore/base/assert.h"
#include "http/auth.h"
#include "http/gate.h"
#include "http/params.h"
#include "http/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static kv_slice take_line(kv_slice *in)
{
    const uint8_t *newline = in->len ? memchr(in->data, '\n', in->len) : NULL;
    kv_slice line = {in->data, newline ? (size_t)(newline - in->data) : in->len};
    *in = kv_slice_from(*in, line.len + (newline != NULL));
    return line;
}

static void try_params(struct http_request *request)
{
    struct kv_err err;
    kv_slice value, *all;
    size_t n;
    int64_t ms;
    uint64_t limit;
    bool flag;
    if (http_request_params(request, &err) < 0)
        return;
    for (size_t i = 0; i < request->n_params; i++)
        KV_ASSERT(http_utf8_valid(request->params[i].value));
    if (http_request_param(request, "query", &value, &err) == KV_OK && value.len)
        (void)!http_parse_duration(value, &ms);
    (void)!http_request_param_all(request, "match[]", &all, &n, &err);
    (void)!http_param_time(request, "time", 0, &ms, &err);
    (void)!http_param_duration(request, "step", 0, &ms, &err);
    (void)!http_param_limit(request, "limit", 0, &limit, &err);
    (void)!http_param_bool(request, "settle", &flag, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { HEADERS_MAX = 16 };
    static struct http_auth *auth;
    struct http_pair headers[HEADERS_MAX];
    struct http_request request;
    kv_slice in = {data, size}, target;
    target = take_line(&in);
    http_request_init(&request, HTTP_POST, KV_STR("/"), NULL);
    for (kv_slice line = take_line(&in); line.len && request.n_headers < HEADERS_MAX; line = take_line(&in)) {
        const uint8_t *colon = memchr(line.data, ':', line.len);
        size_t n = colon ? (size_t)(colon - line.data) : line.len;
        headers[request.n_headers++] =
            (struct http_pair){{line.data, n}, kv_slice_from(line, n + (colon != NULL))};
    }
    struct http_gate gate = {KV_STR("POST"), target, KV_STR("HTTP/1.1"), headers, request.n_headers};
    struct http_verdict verdict = http_gate_check(&gate);
    KV_ASSERT(verdict.status == 0 || (verdict.status >= 400 && verdict.status < 600 && verdict.why));
    for (size_t i = 0; i < request.n_headers; i++)
        headers[i].value = http_trim(headers[i].value);
    const uint8_t *mark = target.len ? memchr(target.data, '?', target.len) : NULL;
    request.query = mark ? kv_slice_from(target, (size_t)(mark + 1 - target.data)) : (kv_slice){0};
    request.headers = headers;
    request.body = in;
    try_params(&request);
    if (auth || http_auth_new(KV_STR("basic a:b\nbearer c\n"), &auth, NULL) == KV_OK)
        (void)http_auth_check(auth, http_request_header(&request, KV_STR("Authorization")));
    http_request_release(&request);
    return 0;
}
