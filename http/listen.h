/*
 * listen.h - a listening TCP socket from "HOST:PORT". Threads  one. Failure  *err says which address and why.
 */
#ifndef HTTP_LISTEN_H
#define HTTP_LISTEN_H

#include "kvcore/base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* Resolved: what to bind. */
struct http_address {
    char text[80]; /* "127.0.0.1:9430", "[::1]:9430" */
    uint16_t port;
    bool loopback;
    uint8_t raw[28]; /* struct sockaddr_in or _in6 */
    uint32_t raw_len;
};
/* "127.0.0.1:9430", "[::1]:9430", "localhost:9430", ":9430" (every address, both families). */
KV_MUST kv_status http_address_parse(const char *text, struct http_address *out, struct kv_err *err);
/* Binds and listens, close-on-exec and non-blocking; updates port and text to what was bound. */
KV_MUST kv_status http_listen(struct http_address *address, int *fd, struct kv_err *err);

#endif
