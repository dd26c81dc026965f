#include "tests/support/raw_http.h"
#include "kvcore/base/assert.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

int raw_connect(uint16_t port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 5};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    KV_ASSERT(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    KV_ASSERT(connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
    return fd;
}

void raw_send(int fd, const void *bytes, size_t n)
{
    const char *p = bytes;
    while (n) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* the server closed already: what it said can still be read */
        p += sent;
        n -= (size_t)sent;
    }
}

static bool take_some(int fd, struct kv_buf *in)
{
    uint8_t bytes[16384];
    ssize_t got = recv(fd, bytes, sizeof bytes, 0);
    if (got <= 0)
        return false;
    KV_ASSERT(kv_buf_append(in, kv_slice_of(bytes, (size_t)got)) == KV_OK);
    return true;
}

static void drop_front(struct kv_buf *in, size_t n)
{
    memmove(in->data, in->data + n, in->len - n);
    in->len -= n;
}

static void end_text(struct kv_buf *buf)
{
    KV_ASSERT(kv_buf_append_byte(buf, 0) == KV_OK);
    buf->len--;
}

static bool take_line(int fd, struct kv_buf *in, char *line, size_t size)
{
    for (;;) {
        uint8_t *newline = in->len ? memchr(in->data, '\n', in->len) : NULL;
        if (newline) {
            size_t n = (size_t)(newline - in->data) + 1;
            snprintf(line, size, "%.*s", (int)n, (const char *)in->data);
            drop_front(in, n);
            return true;
        }
        if (!take_some(fd, in))
            return false;
    }
}

static bool take_exact(int fd, struct kv_buf *in, size_t n, struct kv_buf *out)
{
    while (in->len < n)
        if (!take_some(fd, in))
            return false;
    KV_ASSERT(kv_buf_append(out, kv_slice_of(in->data, n)) == KV_OK);
    drop_front(in, n);
    return true;
}

static void take_chunks(int fd, struct kv_buf *in, struct kv_buf *body)
{
    char line[128];
    while (take_line(fd, in, line, sizeof line)) {
        size_t n = strtoul(line, NULL, 16);
        if (n && !take_exact(fd, in, n, body))
            return;
        (void)take_line(fd, in, line, sizeof line);
        if (n == 0)
            return;
    }
}

const char *raw_header(const struct raw_reply *reply, const char *name)
{
    static _Thread_local char value[1024];
    const char *line = (const char *)reply->head.data;
    size_t n = strlen(name);
    while (line && (line = strchr(line, '\n'))) {
        line++;
        if (strncasecmp(line, name, n) == 0 && line[n] == ':') {
            snprintf(value, sizeof value, "%.*s", (int)strcspn(line + n + 2, "\r\n"), line + n + 2);
            return value;
        }
    }
    return NULL;
}

void raw_receive(int fd, struct raw_reply *reply, bool head_only, int wait_ms)
{
    struct kv_buf in = {0};
    *reply = (struct raw_reply){0};
    uint8_t *end = NULL;
    while (!(end = in.len ? memmem(in.data, in.len, "\r\n\r\n", 4) : NULL) && take_some(fd, &in))
        ;
    if (!end) {
        reply->closed = true;
        kv_buf_release(&in);
        return;
    }
    size_t head = (size_t)(end - in.data) + 4;
    KV_ASSERT(kv_buf_append(&reply->head, kv_slice_of(in.data, head)) == KV_OK);
    end_text(&reply->head);
    drop_front(&in, head);
    if (sscanf((const char *)reply->head.data, "HTTP/1.%*c %u", &reply->status) != 1)
        reply->status = 0;
    const char *length = raw_header(reply, "Content-Length");
    if (!head_only && length)
        (void)take_exact(fd, &in, strtoul(length, NULL, 10), &reply->body);
    else if (!head_only && raw_header(reply, "Transfer-Encoding"))
        take_chunks(fd, &in, &reply->body);
    end_text(&reply->body);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char byte;
    reply->closed = poll(&p, 1, wait_ms) > 0 && recv(fd, &byte, 1, MSG_PEEK) <= 0;
    kv_buf_release(&in);
}

void raw_reply_release(struct raw_reply *reply)
{
    kv_buf_release(&reply->head);
    kv_buf_release(&reply->body);
}

void raw_exchange(uint16_t port, const void *bytes, size_t n, struct raw_reply *reply)
{
    int fd = raw_connect(port);
    raw_send(fd, bytes, n);
    raw_receive(fd, reply, n > 5 && memcmp(bytes, "HEAD ", 5) == 0, 100);
    close(fd);
}

void raw_request(uint16_t port, const char *method_and_target, const char *headers, kv_slice body,
                 struct raw_reply *reply)
{
    struct kv_buf text = {0};
    char length[64] = "";
    if (body.len || strncmp(method_and_target, "P", 1) == 0)
        snprintf(length, sizeof length, "Content-Length: %zu\r\n", body.len);
    KV_ASSERT(kv_buf_printf(&text, "%s HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n", method_and_target, length,
                            headers) == KV_OK);
    KV_ASSERT(kv_buf_append(&text, body) == KV_OK);
    raw_exchange(port, text.data, text.len, reply);
    kv_buf_release(&text);
}
