#include "http/listen.h"
#include "http/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static void name_address(struct http_address *a)
{
    char host[INET6_ADDRSTRLEN];
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    memcpy(&in, a->raw, sizeof in);
    memcpy(&in6, a->raw, sizeof in6);
    if (in.sin_family == AF_INET) {
        inet_ntop(AF_INET, &in.sin_addr, host, sizeof host);
        a->port = ntohs(in.sin_port);
        a->loopback = ntohl(in.sin_addr.s_addr) >> 24 == 127;
        snprintf(a->text, sizeof a->text, "%s:%u", host, a->port);
    } else {
        inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof host);
        a->port = ntohs(in6.sin6_port);
        a->loopback = IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
        snprintf(a->text, sizeof a->text, "[%s]:%u", host, a->port);
    }
}

kv_status http_address_parse(const char *text, struct http_address *out, struct kv_err *err)
{
    kv_slice all = kv_slice_str(text);
    const char *colon = strrchr(text, ':');
    uint64_t port;
    char host[64];
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    *out = (struct http_address){0};
    if (!colon || !http_parse_uint(kv_slice_from(all, (size_t)(colon + 1 - text)), 65535, &port))
        return kv_fail(err, KV_INVALID, 0,
                       "listen address \"%.80s\": expected HOST:PORT with a port from 0 to 65535", text);
    size_t n = (size_t)(colon - text);
    bool bracketed = n >= 2 && text[0] == '[' && text[n - 1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(bracketed ? n - 2 : n), text + bracketed);
    in.sin_port = in6.sin6_port = htons((uint16_t)port);
    if (n == 0)
        in6.sin6_addr = in6addr_any;
    else if (!bracketed && strcmp(host, "localhost") == 0)
        in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else if (bracketed ? inet_pton(AF_INET6, host, &in6.sin6_addr) != 1
                       : inet_pton(AF_INET, host, &in.sin_addr) != 1)
        return kv_fail(err, KV_INVALID, 0,
                       "listen address \"%.80s\": \"%s\" is not an IP address (IPv6 stands in [])", text,
                       host);
    bool six = bracketed || n == 0;
    out->raw_len = six ? sizeof in6 : sizeof in;
    if (six)
        memcpy(out->raw, &in6, sizeof in6);
    else
        memcpy(out->raw, &in, sizeof in);
    name_address(out);
    return KV_OK;
}

/* A socket bound to the address and listening, or -1 with errno and *step set. */
static int bound_socket(const struct http_address *a, const char **step)
{
    struct sockaddr_storage storage = {0};
    int yes = 1, no = 0;
    memcpy(&storage, a->raw, a->raw_len);
    *step = "socket";
    int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (storage.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    *step = "bind";
    if (bind(fd, (struct sockaddr *)&storage, a->raw_len) == 0) {
        *step = "listen";
        if (listen(fd, SOMAXCONN) == 0)
            return fd;
    }
    int keep = errno;
    close(fd);
    errno = keep;
    return -1;
}

kv_status http_listen(struct http_address *address, int *fd, struct kv_err *err)
{
    const char *step;
    int s = bound_socket(address, &step);
    if (s < 0 && errno == EAFNOSUPPORT && strncmp(address->text, "[::]", 4) == 0) {
        /* every address, on a machine without IPv6 */
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(address->port)};
        memcpy(address->raw, &in, sizeof in);
        address->raw_len = sizeof in;
        s = bound_socket(address, &step);
    }
    if (s < 0)
        return kv_fail(err, KV_IO, errno, "cannot listen on %s: %s: %s", address->text, step,
                       strerror(errno));
    struct sockaddr_storage storage = {0};
    socklen_t len = sizeof storage;
    if (getsockname(s, (struct sockaddr *)&storage, &len) == 0 && len <= sizeof address->raw) {
        memcpy(address->raw, &storage, len);
        name_address(address);
    }
    *fd = s;
    return KV_OK;
}
