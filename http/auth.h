/*
 * auth.h - who may speak: basic and bearer credentials from a file.
 *
 *     # one a line
 *     basic NAME:PASSWORD
 *     bearer TOKEN                 (InfluxDB clients send it as "Token TOKEN")
 *
 * Secrets are kept as SHA-256 sums and compared in constant time, every entry each time, so neither the time nor the log says which
 * matched. Threads  any, once made. Failure  KV_INVALID with the line; an empty name, password or token is refused.
 */
#ifndef HTTP_AUTH_H
#define HTTP_AUTH_H

#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

struct http_auth;
KV_MUST kv_status http_auth_new(kv_slice file, struct http_auth **out, struct kv_err *err);
void http_auth_free(struct http_auth *auth); /* NULL is fine */
/* header: the value of Authorization, data NULL when absent. */
bool http_auth_check(const struct http_auth *auth, kv_slice header);

#endif
