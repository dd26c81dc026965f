#include "http/request.h"
#include "http/text.h"

void http_request_init(struct http_request *request, enum http_method method, kv_slice path,
                       struct kv_clock *clock)
{
    enum { ARENA_MAX = 8 << 20 };
    *request = (struct http_request){.method = method, .path = path, .clock = clock};
    kv_arena_init(&request->arena, ARENA_MAX);
}

void http_request_release(struct http_request *request)
{
    kv_arena_release(&request->arena);
}

kv_slice http_request_header(const struct http_request *request, kv_slice name)
{
    for (size_t i = 0; i < request->n_headers; i++)
        if (http_equal_nocase(request->headers[i].name, name))
            return request->headers[i].value;
    return (kv_slice){0};
}

static size_t params_count(kv_slice text)
{
    size_t n = text.len > 0;
    for (size_t i = 0; i < text.len; i++)
        n += text.data[i] == '&';
    return n;
}

static kv_status param_decode(struct http_request *request, kv_slice raw, kv_slice *out, struct kv_err *err)
{
    const char *why = NULL;
    kv_status rc = http_unescape(&request->arena, raw, true, out, &why);
    if (rc == KV_NO_MEMORY)
        return kv_fail(err, rc, 0, "out of memory decoding parameters");
    if (rc < 0)
        return kv_fail(err, KV_INVALID, 0, "%s in parameter \"%.*s\"", why, raw.len > 80 ? 80 : (int)raw.len,
                       raw.data);
    if (out->len > HTTP_PARAM_LEN_MAX)
        return kv_fail(err, KV_LIMIT, 0, "a parameter is longer than the limit of %d bytes",
                       HTTP_PARAM_LEN_MAX);
    if (!http_utf8_valid(*out) || (out->len && memchr(out->data, 0, out->len)))
        return kv_fail(err, KV_INVALID, 0, "a parameter is not valid UTF-8 without NUL");
    return KV_OK;
}

static kv_status params_add(struct http_request *request, kv_slice text, struct kv_err *err)
{
    while (text.len) {
        const uint8_t *ampersand = memchr(text.data, '&', text.len);
        kv_slice pair = {text.data, ampersand ? (size_t)(ampersand - text.data) : text.len};
        text = kv_slice_from(text, pair.len + (ampersand != NULL));
        if (pair.len == 0)
            continue;
        const uint8_t *equals = memchr(pair.data, '=', pair.len);
        kv_slice name = {pair.data, equals ? (size_t)(equals - pair.data) : pair.len};
        kv_slice value = kv_slice_from(pair, equals ? name.len + 1 : name.len);
        struct http_pair *param = &request->params[request->n_params];
        kv_status rc = param_decode(request, name, &param->name, err);
        if (rc == KV_OK)
            rc = param_decode(request, value, &param->value, err);
        if (rc < 0)
            return rc;
        request->n_params++;
    }
    return KV_OK;
}

static bool is_form(const struct http_request *request)
{
    static const char form[] = "application/x-www-form-urlencoded";
    kv_slice type = http_request_header(request, KV_STR("Content-Type"));
    type.len = type.len > sizeof form - 1 ? sizeof form - 1 : type.len;
    return (request->method == HTTP_POST || request->method == HTTP_PUT) &&
           http_equal_nocase(type, kv_slice_str(form));
}

kv_status http_request_params(struct http_request *request, struct kv_err *err)
{
    if (request->params_parsed)
        return KV_OK;
    kv_slice form = is_form(request) ? request->body : (kv_slice){0};
    size_t n = params_count(request->query) + params_count(form);
    if (n > HTTP_PARAMS_MAX)
        return kv_fail(err, KV_INVALID, 0, "more than %d parameters", HTTP_PARAMS_MAX);
    request->params = kv_arena_zalloc(&request->arena, n ? n : 1, sizeof *request->params);
    if (!request->params)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory decoding parameters");
    kv_status rc = params_add(request, form, err); /* Go's order: the body's values come first */
    if (rc == KV_OK)
        rc = params_add(request, request->query, err);
    request->params_parsed = rc == KV_OK;
    return rc;
}

kv_status http_request_param_all(struct http_request *request, const char *name, kv_slice **out, size_t *n,
                                 struct kv_err *err)
{
    kv_status rc = http_request_params(request, err);
    *n = 0;
    *out = NULL;
    if (rc < 0)
        return rc;
    *out = kv_arena_alloc(&request->arena, (request->n_params + 1) * sizeof **out);
    if (!*out)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory decoding parameters");
    for (size_t i = 0; i < request->n_params; i++)
        if (kv_slice_equal(request->params[i].name, kv_slice_str(name)))
            (*out)[(*n)++] = request->params[i].value;
    return KV_OK;
}

kv_status http_request_param(struct http_request *request, const char *name, kv_slice *out,
                             struct kv_err *err)
{
    kv_slice *all;
    size_t n;
    *out = (kv_slice){0};
    kv_status rc = http_request_param_all(request, name, &all, &n, err);
    if (rc < 0 || n == 0)
        return rc;
    for (size_t i = 1; i < n; i++) /* a form that repeats its URL's value is harmless */
        if (!kv_slice_equal(all[0], all[i]))
            return kv_fail(err, KV_INVALID, 0, "parameter \"%s\" is given more than once", name);
    *out = all[0];
    return KV_OK;
}
