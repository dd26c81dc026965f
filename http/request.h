/*
 * request.h - one HTTP request as handlers see it. Nothing here knows libmicrohttpd or a socket: the server
 * fills it from a connection, a test from literals (http_request_init, then fields).
 *
 * Threads    one at a time.
 * Ownership  everything borrowed lives until the handler's reply is drained; `arena` is the request's own and
 *            dies with it.
 * Failure    http_request_params answers KV_INVALID with the reason for a 400.
 */
#ifndef HTTP_REQUEST_H
#define HTTP_REQUEST_H

#include "kvcore/base/arena.h"
#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"
#include "kvcore/os/clock.h"

enum {
    HTTP_PARAMS_MAX = 1000,        /* of one request, query and form together; match[] may come as often */
    HTTP_PARAM_LEN_MAX = 16 << 10, /* decoded */
    HTTP_FORM_LEN_MAX = 1 << 20,   /* body of a form */
    HTTP_PATH_ARGS_MAX = 1,
};

enum http_method {
    HTTP_GET = 1,
    HTTP_HEAD = 2,
    HTTP_POST = 4,
    HTTP_PUT = 8,
    HTTP_OPTIONS = 16,
    HTTP_DELETE = 32,
    HTTP_OTHER = 64, /* known to HTTP, served by nothing here: TRACE, CONNECT, PATCH, FOO */
};

struct http_share;
struct http_pair {
    kv_slice name, value;
};

struct http_request {
    enum http_method method;
    kv_slice path;                   /* decoded, starts with '/' */
    kv_slice query;                  /* raw, behind the '?' */
    const struct http_pair *headers; /* values without surrounding blanks */
    size_t n_headers;
    kv_slice body;                          /* as it was sent, content coding and all */
    kv_slice path_args[HTTP_PATH_ARGS_MAX]; /* what {} in the route's pattern matched; set by the router */
    kv_slice remote;                        /* "127.0.0.1:4711", for logs */
    bool authenticated;

    struct http_pair *params; /* decoded; filled by http_request_params */
    size_t n_params;
    bool params_parsed;

    struct kv_arena arena;
    struct kv_clock *clock;
    struct http_share *share;    /* of the memory for bodies; NULL: unbounded */
    bool (*canceled)(void *ctx); /* true once the client is gone; NULL: never */
    void *canceled_ctx;
};

void http_request_init(struct http_request *request, enum http_method method, kv_slice path,
                       struct kv_clock *clock);
void http_request_release(struct http_request *request);

/* The value of the first header of that name (any case), or an empty slice with data NULL when absent. */
kv_slice http_request_header(const struct http_request *request, kv_slice name);
/* Decodes the query and, for a POST or PUT of a form, the body into params; once. */
KV_MUST kv_status http_request_params(struct http_request *request, struct kv_err *err);
/* The value of a parameter that is meant once. *out.data is NULL when absent. KV_INVALID when it came twice.
 */
KV_MUST kv_status http_request_param(struct http_request *request, const char *name, kv_slice *out,
                                     struct kv_err *err);
/* All values of a parameter that may repeat, e.g. "match[]"; the array lives in the arena. */
KV_MUST kv_status http_request_param_all(struct http_request *request, const char *name, kv_slice **out,
                                         size_t *n, struct kv_err *err);

#endif
