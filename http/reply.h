/*
 * reply.h - one HTTP answer. A handler fills status and body, or hands over a stream that makes the body
 * piece by piece while it is being sent; nothing here knows a socket, so tests drain a reply into a buffer.
 *
 * Threads    one at a time.
 * Ownership  the reply owns its body and, through done, its stream. Header values are copied.
 * Failure    a body that cannot be built turns the reply into 503; a stream that fails half-way cuts the
 *            connection, so that a client cannot take the part for the whole.
 */
#ifndef HTTP_REPLY_H
#define HTTP_REPLY_H

#include "kvcore/base/buf.h"
#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

enum { HTTP_REPLY_HEADERS_MAX = 8, HTTP_REPLY_HEADER_LEN_MAX = 256, HTTP_RETRY_SECONDS = 5 };

struct http_reply {
    unsigned status;
    const char *content_type; /* static; NULL: none */
    struct kv_buf body;
    bool close; /* say Connection: close and mean it */
    struct {
        const char *name; /* static */
        char value[HTTP_REPLY_HEADER_LEN_MAX];
    } headers[HTTP_REPLY_HEADERS_MAX];
    size_t n_headers;

    /* When next is set, the whole body is `body` followed by what next appends, call by call (64 KiB or so
     * each), until it answers KV_END. */
    kv_status (*next)(void *ctx, struct kv_buf *out);
    void (*done)(void *ctx); /* called once, also when next never was */
    bool
        long_stream; /* the time a reply may take is counted anew with every piece: for what is as large as the store */
    void *stream_ctx;
};

void http_reply_init(struct http_reply *reply);
void http_reply_release(struct http_reply *reply);
/* Value is cut at HTTP_REPLY_HEADER_LEN_MAX - 1 and has its control bytes replaced; headers past the maximum
 * are dropped. */
void http_reply_header(struct http_reply *reply, const char *name, const char *value);
/* 503 only for what waiting cures: adds Retry-After. */
void http_reply_retry_after(struct http_reply *reply, unsigned seconds);
/* Starts the body anew as plain text. */
void http_reply_text(struct http_reply *reply, unsigned status, const char *text);
/* {"status":"error","errorType":TYPE,"error":TEXT}, starting the body anew. */
void http_reply_error(struct http_reply *reply, unsigned status, const char *type, const char *format, ...)
    KV_PRINTF(4, 5);
/* The answer for a failed call into the store: 503 for what is not the client's fault (with Retry-After where
 * waiting cures it), 413 for KV_LIMIT, 400 for KV_INVALID. text: what failed. */
void http_reply_failed(struct http_reply *reply, kv_status code, const char *text);
/* Runs the stream to its end and appends everything to *out. For tests and tools. */
KV_MUST kv_status http_reply_drain(struct http_reply *reply, struct kv_buf *out);

#endif
