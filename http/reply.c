#include "http/reply.h"
#include "http/json.h"

#include <stdarg.h>
#include <stdio.h>

void http_reply_init(struct http_reply *reply)
{
    reply->status = 0;
    reply->content_type = NULL;
    reply->body = (struct kv_buf){0};
    reply->close = false;
    reply->n_headers = 0;
    reply->next = NULL;
    reply->done = NULL;
    reply->stream_ctx = NULL;
}

static void stream_drop(struct http_reply *reply)
{
    if (reply->done)
        reply->done(reply->stream_ctx);
    reply->next = NULL;
    reply->done = NULL;
}

void http_reply_release(struct http_reply *reply)
{
    stream_drop(reply);
    kv_buf_release(&reply->body);
}

void http_reply_header(struct http_reply *reply, const char *name, const char *value)
{
    if (reply->n_headers == HTTP_REPLY_HEADERS_MAX)
        return;
    reply->headers[reply->n_headers].name = name;
    char *to = reply->headers[reply->n_headers++].value;
    snprintf(to, HTTP_REPLY_HEADER_LEN_MAX, "%s", value);
    for (; *to; to++)
        if ((unsigned char)*to < 0x20 || *to == 0x7f)
            *to = ' ';
}

void http_reply_retry_after(struct http_reply *reply, unsigned seconds)
{
    char text[16];
    snprintf(text, sizeof text, "%u", seconds);
    http_reply_header(reply, "Retry-After", text);
}

static void start_anew(struct http_reply *reply, unsigned status, const char *content_type)
{
    stream_drop(reply);
    kv_buf_clear(&reply->body);
    reply->status = status;
    reply->content_type = content_type;
}

void http_reply_text(struct http_reply *reply, unsigned status, const char *text)
{
    start_anew(reply, status, "text/plain; charset=utf-8");
    if (kv_buf_append(&reply->body, kv_slice_str(text)) < 0)
        reply->status = 503;
}

void http_reply_error(struct http_reply *reply, unsigned status, const char *type, const char *format, ...)
{
    char text[4608];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    start_anew(reply, status, "application/json");
    struct http_json json;
    http_json_init(&json, &reply->body);
    HTTP_JSON_RAW(&json, "{\"status\":\"error\",\"errorType\":");
    http_json_str(&json, type);
    HTTP_JSON_RAW(&json, ",\"error\":");
    http_json_str(&json, text);
    HTTP_JSON_RAW(&json, "}");
    if (json.failed < 0) {
        kv_buf_clear(&reply->body);
        reply->status = 503;
    }
}

void http_reply_failed(struct http_reply *reply, kv_status code, const char *text)
{
    switch (code) {
    case KV_INVALID:
        http_reply_error(reply, 400, "bad_data", "%s", text);
        break;
    case KV_LIMIT:
        http_reply_error(reply, 413, "bad_data", "%s", text);
        break;
    case KV_UNSUPPORTED:
        http_reply_error(reply, 422, "execution", "%s", text);
        break;
    case KV_NO_MEMORY:
    case KV_BUSY:
    case KV_TIMEOUT:
    case KV_NO_SPACE: /* writing resumes by itself once there is room */
        http_reply_error(reply, 503, "unavailable", "%s", text);
        http_reply_retry_after(reply, HTTP_RETRY_SECONDS);
        break;
    default:
        http_reply_error(reply, 503, "internal", "%s", text);
    }
}

kv_status http_reply_drain(struct http_reply *reply, struct kv_buf *out)
{
    kv_status rc = kv_buf_append(out, kv_buf_slice(&reply->body));
    while (rc == KV_OK && reply->next) {
        rc = reply->next(reply->stream_ctx, out);
        if (rc == KV_END)
            stream_drop(reply);
        if (rc > 0)
            rc = KV_OK;
    }
    return rc;
}
