/*
 * raw_http.h - a client that sends exactly the bytes it is given, to a server on loopback.
 */
#ifndef RAW_HTTP_H
#define RAW_HTTP_H

#include "kvcore/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct raw_reply {
    unsigned status;    /* 0: no reply, the connection was closed */
    bool closed;        /* the server closed behind the reply */
    struct kv_buf head; /* status line and headers, NUL behind */
    struct kv_buf body; /* chunks put together, NUL behind, not counted */
};

/* A connected socket with a receive timeout of 5 s. */
int raw_connect(uint16_t port);
void raw_send(int fd, const void *bytes, size_t n);
/* One reply off the socket (head_only: a reply to HEAD). closed is set if the end was seen within wait_ms behind it. */
void raw_receive(int fd, struct raw_reply *reply, bool head_only, int wait_ms);
void raw_reply_release(struct raw_reply *reply);
/* Connect, send, receive one reply, close. */
void raw_exchange(uint16_t port, const void *bytes, size_t n, struct raw_reply *reply);
/* "METHOD target" with a Host, headers ("A: b\r\n..." or "") and a body. */
void raw_request(uint16_t port, const char *method_and_target, const char *headers, kv_slice body,
                 struct raw_reply *reply);
/* The value of a header of the reply, or NULL; good until the next call. */
const char *raw_header(const struct raw_reply *reply, const char *name);

#endif
