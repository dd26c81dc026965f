/*
 * remote.h - a running server, asked over HTTP: one connection for several requests.
 *
 * Threads    one at a time.  Failure  a status over 299 is a failure too, its text what the server says.
 */
#ifndef TOOLS_REMOTE_H
#define TOOLS_REMOTE_H

#include "kvcore/kv.h"

#define REMOTE_URL_DEFAULT "http://127.0.0.1:9430"

struct remote;
/* url: of the server, with credentials if it wants some (http://ann:secret@host:9430); copied. */
KV_MUST kv_status remote_open(const char *url, struct remote **out, struct kv_err *err);
void remote_close(struct remote *remote); /* NULL is fine */

struct remote_request {
    const char *method, *path; /* "POST", "/api/v1/query" with its query, if any */
    kv_slice body;
    const char *content_type; /* of the body. NULL: application/x-www-form-urlencoded */
    const struct kv_sink *to; /* gets the answer in pieces; NULL: see out */
    struct kv_buf *out;       /* the answer replaces it, up to its max. May be NULL */
    bool endless;             /* it may take as long as bytes come */
};
/* The answer of a request that failed goes into *err: KV_BUSY for 429 and 503, KV_INVALID for other 4xx, KV_IO when there was none. */
KV_MUST kv_status remote_call(struct remote *remote, const struct remote_request *request,
                              struct kv_err *err);
/* Appends NAME=VALUE to a query or form, escaped, behind an "&" unless *out is empty or ends in "?". */
KV_MUST kv_status remote_param(struct remote *remote, struct kv_buf *out, const char *name,
                               const char *value);

#endif
