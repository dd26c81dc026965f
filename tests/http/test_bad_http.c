/*
 * test_bad_http.c - bad HTTP, byte by byte, against a server on loopback: what is answered and whether the connection ends. libmicrohttpd
 * 0.9.75 hides some of it from us (bare LF, LF in chunked bodies, long chunk extensions, forbidden trailers): those stand here with what it does.
 */
#include "http/auth.h"
#include "tests/support/http_world.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

static struct http_world world;
static uint16_t port;

static void start(const struct http_server_options *options)
{
    http_world_open(&world, NULL, KV_THREADS_NONE);
    port = http_world_serve(&world, options);
}
static void begin(void)
{
    struct http_server_options options = {
        .header_ms = 300, .body_ms = 300, .idle_ms = 300, .reply_ms = 2000, .admission_ms = 50};
    start(&options);
}
static void end(void)
{
    http_world_close(&world);
}
TestSuite(bad_http, .init = begin, .fini = end);
TestSuite(server, .fini = end); /* those that start it with options of their own */

enum end { OPEN, CLOSED, EITHER };

#define LINE       "HTTP/1.1\r\nHost: x\r\n"
#define POST_QUERY "POST /api/v1/query " LINE "Content-Type: application/x-www-form-urlencoded\r\n"
#define BODY       "query=1*2"
static const struct bad_request {
    const char *name; /* its number in the list of bad inputs, and what it is */
    const char *bytes;
    size_t n;
    unsigned status; /* 0: closed without a reply */
    enum end end;
    const char *text; /* in the body */
} requests[] = {
#define CASE(name, bytes, status, end, text)                                                                 \
    {                                                                                                        \
        name, bytes, sizeof(bytes) - 1, status, end, text                                                    \
    }
    CASE("0 a good one", POST_QUERY "Content-Length: 9\r\n\r\n" BODY, 200, OPEN, "\"2\""),
    CASE("1 length and chunked",
         POST_QUERY "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, CLOSED,
         "both Content-Length and Transfer-Encoding"),
    CASE("1 chunked and length",
         POST_QUERY "Transfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n0\r\n\r\n", 400, CLOSED,
         "both Content-Length and Transfer-Encoding"),
    CASE("2 two lengths", POST_QUERY "Content-Length: 9\r\nContent-Length: 5\r\n\r\n" BODY, 400, CLOSED,
         "more than one Content-Length"),
    CASE("3 the same length twice", POST_QUERY "Content-Length: 9\r\nContent-Length: 9\r\n\r\n" BODY, 400,
         CLOSED, "more than one Content-Length"),
    CASE("4 a list of lengths", POST_QUERY "Content-Length: 9, 9\r\n\r\n" BODY, 400, CLOSED, ""),
    CASE("5 negative length", POST_QUERY "Content-Length: -1\r\n\r\n" BODY, 400, CLOSED, ""),
    CASE("5 signed length", POST_QUERY "Content-Length: +9\r\n\r\n" BODY, 400, CLOSED, ""),
    CASE("5 hexadecimal length", POST_QUERY "Content-Length: 0x9\r\n\r\n" BODY, 400, CLOSED, ""),
    CASE("5 empty length", POST_QUERY "Content-Length: \r\n\r\n" BODY, 400, CLOSED, ""),
    CASE("5 blank in the length", POST_QUERY "Content-Length: 9 9\r\n\r\n" BODY, 400, CLOSED, ""),
    CASE("6 length 2^63", POST_QUERY "Content-Length: 9223372036854775808\r\n\r\n" BODY, 413, CLOSED,
         "too large"),
    CASE("6 length 2^64", POST_QUERY "Content-Length: 18446744073709551616\r\n\r\n" BODY, 413, CLOSED, ""),
    CASE("7 blank before the colon of a length", POST_QUERY "Content-Length : 9\r\n\r\n" BODY, 400, CLOSED,
         "bad header name"),
    CASE("8 blank before the colon of an encoding", POST_QUERY "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
         400, CLOSED, "bad header name"),
    CASE("9 unknown encoding", POST_QUERY "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, CLOSED,
         "only the transfer encoding"),
    CASE("9 gzip, chunked", POST_QUERY "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, CLOSED,
         "only the transfer encoding"),
    CASE("9 identity", POST_QUERY "Transfer-Encoding: identity\r\n\r\n", 501, CLOSED,
         "only the transfer encoding"),
    CASE("10 chunked twice",
         POST_QUERY "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, CLOSED,
         "more than one Transfer-Encoding"),
    CASE("11 chunked on HTTP/1.0",
         "POST /api/v1/query HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, CLOSED,
         "Transfer-Encoding on HTTP/1.0"),
    CASE("12 folded header", "GET /-/healthy " LINE "X-A: b\r\n c\r\n\r\n", 400, CLOSED, "folded header"),
    CASE("13 header without a colon", "GET /-/healthy " LINE "Broken\r\n\r\n", 400, CLOSED, ""),
    CASE("14 bare LF (0.9.75 takes it)", "GET /-/healthy HTTP/1.1\nHost: x\n\n", 200, OPEN, "Healthy"),
    CASE("15 LF in chunked lines (0.9.75 takes it)",
         POST_QUERY "Transfer-Encoding: chunked\r\n\r\n9\n" BODY "\n0\n\n", 200, OPEN, "\"2\""),
    CASE("16 negative chunk size", POST_QUERY "Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n", 400,
         CLOSED, ""),
    CASE("16 chunk size 0x1", POST_QUERY "Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n", 400,
         CLOSED, ""),
    CASE("16 chunk size of 17 digits",
         POST_QUERY "Transfer-Encoding: chunked\r\n\r\n11111111111111111\r\nx\r\n0\r\n\r\n", 413, CLOSED, ""),
    CASE(
        "16 chunk extension (0.9.75 takes it)",
        POST_QUERY
        "Transfer-Encoding: chunked\r\n\r\n9;"
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
        "0123456789012345678901234567890123456789012345678901234567890123456789=b\r\n" BODY "\r\n0\r\n\r\n",
        200, OPEN, "\"2\""),
    CASE("17 chunk without its end",
         POST_QUERY "Transfer-Encoding: chunked\r\n\r\n9\r\n" BODY "XX\r\n0\r\n\r\n", 400, CLOSED, ""),
    CASE("18 a length among trailers (0.9.75 hides it; it changes nothing)",
         POST_QUERY "Transfer-Encoding: chunked\r\n\r\n9\r\n" BODY "\r\n0\r\nContent-Length: 3\r\n\r\n", 200,
         OPEN, "\"2\""),
    CASE("19 NUL in a header", "GET /-/healthy " LINE "X-A: b\0c\r\nX-B: d\r\n\r\n", 400, CLOSED, "NUL byte"),
    CASE("19 NUL in the last header", "GET /-/healthy " LINE "X-A: b\0c\r\n\r\n", 400, CLOSED, "NUL byte"),
    CASE("19 NUL in a header's name", "GET /-/healthy " LINE "X\0A: b\r\n\r\n", 400, CLOSED, ""),
    CASE("19 control byte in a header", "GET /-/healthy " LINE "X-A: b\x01\r\n\r\n", 400, CLOSED,
         "control byte in a header"),
    CASE("20 NUL in the path", "GET /-/healthy\0x " LINE "\r\n", 400, CLOSED, "NUL byte"),
    CASE("20 NUL in the query", "GET /api/v1/query?query=1\0+1 " LINE "\r\n", 400, CLOSED, "NUL byte"),
    CASE("20 %00 in the path", "GET /-/healthy%00 " LINE "\r\n", 400, CLOSED, "escaped control byte"),
    CASE("20 %00 in the query", "GET /api/v1/query?query=1%00 " LINE "\r\n", 400, OPEN, "without NUL"),
    CASE("21 control byte in the path", "GET /-/heal\x01thy " LINE "\r\n", 400, CLOSED, "control byte"),
    CASE("21 %0d%0a in the path", "GET /-/healthy%0d%0aSet-Cookie:x " LINE "\r\n", 400, CLOSED,
         "escaped control byte"),
    CASE("22 %zz", "GET /-/healthy%zz " LINE "\r\n", 400, CLOSED, "bad percent escape"),
    CASE("22 %2", "GET /-/healthy%2 " LINE "\r\n", 400, CLOSED, "bad percent escape"),
    CASE("22 %zz in the query", "GET /api/v1/query?query=%zz " LINE "\r\n", 400, OPEN, "bad percent escape"),
    CASE("23 path not UTF-8", "GET /-/healthy%ff " LINE "\r\n", 400, EITHER, "not valid UTF-8"),
    CASE("23 overlong path", "GET /%c0%ae%c0%ae/ " LINE "\r\n", 400, EITHER, "not valid UTF-8"),
    CASE("23 query not UTF-8", "GET /api/v1/query?query=%ff " LINE "\r\n", 400, OPEN, "not valid UTF-8"),
    CASE("24 ../", "GET /../../etc/passwd " LINE "\r\n", 404, OPEN, "404 page not found"),
    CASE("24 %2e%2e%2f", "GET /%2e%2e%2f%2e%2e%2fetc/passwd " LINE "\r\n", 404, OPEN, "404 page not found"),
    CASE("24 ..%5c", "GET /..%5cetc " LINE "\r\n", 404, OPEN, "404 page not found"),
    CASE("24 //", "GET //-/healthy " LINE "\r\n", 404, OPEN, "404 page not found"),
    CASE("24 /./", "GET /./-/healthy " LINE "\r\n", 404, OPEN, "404 page not found"),
    CASE("25 absolute target", "GET http://x/-/healthy " LINE "\r\n", 400, CLOSED, "must be a path"),
    CASE("26 no Host", "GET /-/healthy HTTP/1.1\r\n\r\n", 400, CLOSED, ""),
    CASE("27 two Hosts", "GET /-/healthy " LINE "Host: y\r\n\r\n", 400, CLOSED, "more than one Host"),
    CASE("28 Host with a blank", "GET /-/healthy HTTP/1.1\r\nHost: x y\r\n\r\n", 400, CLOSED, "bad Host"),
    CASE("28 Host with port 99999", "GET /-/healthy HTTP/1.1\r\nHost: x:99999\r\n\r\n", 400, CLOSED,
         "bad port"),
    CASE("29 HTTP/0.9", "GET /-/healthy\r\n\r\n", 400, CLOSED, ""),
    CASE("29 lower case", "GET /-/healthy http/1.1\r\nHost: x\r\n\r\n", 400, CLOSED, ""),
    CASE("29 HTTP/9.9", "GET /-/healthy HTTP/9.9\r\nHost: x\r\n\r\n", 505, CLOSED, ""),
    CASE("30 FOO", "FOO /-/healthy " LINE "\r\n", 501, CLOSED, "this method is not known here"),
    CASE("30 TRACE", "TRACE /-/healthy " LINE "\r\n", 405, CLOSED, "this method is not known here"),
    CASE("30 CONNECT", "CONNECT /-/healthy " LINE "\r\n", 501, CLOSED, "this method is not known here"),
    CASE("30 CONNECT host", "CONNECT x:80 " LINE "\r\n", 501, CLOSED, "this method is not known here"),
    CASE("31 GET on a write", "GET /api/v1/write " LINE "\r\n", 405, OPEN, "this path takes POST, OPTIONS"),
    CASE("31 POST on a read", "POST /api/v1/rules " LINE "Content-Length: 0\r\n\r\n", 405, OPEN,
         "this path takes GET, HEAD, OPTIONS"),
    CASE("32 unknown path", "GET /nope " LINE "\r\n", 404, OPEN, "404 page not found"),
    CASE("32 what Grafana looks for", "GET /api/v1/rules/test/test " LINE "\r\n", 404, OPEN,
         "page not found"),
    CASE("35 Expect: 999", POST_QUERY "Expect: 999\r\nContent-Length: 9\r\n\r\n" BODY, 417, CLOSED,
         "only Expect: 100-continue"),
    CASE("36 100-continue to what will be refused",
         "POST /nope " LINE "Expect: 100-continue\r\nContent-Length: 9\r\n\r\n", 404, CLOSED,
         "404 page not found"),
    CASE("36 100-continue to what is too large",
         POST_QUERY "Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n", 413, CLOSED,
         "over the limit of 1048576"),
    CASE("37 announced body over the limit", "POST /api/v1/write " LINE "Content-Length: 70000000\r\n\r\n",
         413, CLOSED, "the body of 70000000 bytes is over the limit of 67108864"),
    CASE("38 br", "POST /write " LINE "Content-Encoding: br\r\nContent-Length: 1\r\n\r\nx", 415, CLOSED,
         "unknown Content-Encoding"),
    CASE("38 gzip, gzip", "POST /write " LINE "Content-Encoding: gzip, gzip\r\nContent-Length: 1\r\n\r\nx",
         415, CLOSED, "unknown Content-Encoding"),
    CASE("38 two headers",
         "POST /write " LINE "Content-Encoding: gzip\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
         415, CLOSED, "more than one Content-Encoding"),
    CASE("39 not gzip", "POST /write " LINE "Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", 400, OPEN,
         "not valid gzip"),
    CASE("39 not zstd", "POST /write " LINE "Content-Encoding: zstd\r\nContent-Length: 5\r\n\r\nxxxxx", 400,
         OPEN, "not valid zstd"),
    CASE("41 snappy claiming 2 GiB",
         "POST /api/v1/write " LINE
         "Content-Encoding: snappy\r\nContent-Length: 5\r\n\r\n\x80\x80\x80\x80\x08",
         413, OPEN, "over the limit of 67108864"),
    CASE("41 no snappy at all",
         "POST /api/v1/write " LINE "Content-Encoding: snappy\r\nContent-Length: 0\r\n\r\n", 400, OPEN,
         "the body is empty"),
    CASE("42 a form to remote_write",
         "POST /api/v1/write " LINE
         "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1\r\n\r\nx",
         415, OPEN, "not a remote_write request"),
    CASE("43 charset latin1",
         "POST /write " LINE "Content-Type: text/plain; charset=latin1\r\nContent-Length: 1\r\n\r\nx", 415,
         CLOSED, "only charset=utf-8"),
    CASE("43 charset UTF-8 in quotes",
         "POST /write " LINE "Content-Type: text/plain; charset=\"UTF-8\"\r\nContent-Length: 5\r\n\r\nm v=1",
         204, OPEN, ""),
    CASE("44 a parameter twice", "GET /api/v1/query?query=1&query=2 " LINE "\r\n", 400, OPEN,
         "given more than once"),
    CASE("47 a body on GET is ignored", "GET /-/healthy " LINE "Content-Length: 3\r\n\r\nxyz", 200, OPEN,
         "Healthy"),
    CASE("49 TLS on the plain port",
         "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
         "abcdefghijklmnopqrstuvwxyz",
         0, CLOSED, ""),
    CASE("51 slow headers", "GET /-/hea", 0, CLOSED, ""),
    CASE("51 slow body", POST_QUERY "Content-Length: 9\r\n\r\nquery", 0, CLOSED, ""),
    CASE("58 Range and If-* are ignored",
         "GET /-/healthy " LINE "Range: bytes=0-1\r\nIf-None-Match: *\r\n\r\n", 200, OPEN, "Healthy"),
    CASE("60 Upgrade is ignored",
         "GET /-/healthy " LINE
         "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
         200, OPEN, "Healthy"),
    CASE("OPTIONS", "OPTIONS /api/v1/query " LINE "\r\n", 204, OPEN, ""),
    CASE("OPTIONS *", "OPTIONS * " LINE "\r\n", 204, OPEN, ""),
    CASE("fragment", "GET /-/healthy#x " LINE "\r\n", 400, CLOSED, "fragment"),
};

Test(bad_http, each_request_is_answered_and_leaves_the_server_well)
{
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        const struct bad_request *c = &requests[i];
        struct raw_reply reply;
        raw_exchange(port, c->bytes, c->n, &reply);
        cr_expect_eq(reply.status, c->status, "%s: %u %s", c->name, reply.status,
                     reply.status ? (char *)reply.body.data : "");
        if (c->end != EITHER)
            cr_expect_eq(reply.closed, c->end == CLOSED, "%s: the connection is %s", c->name,
                         reply.closed ? "closed" : "open");
        if (reply.status)
            cr_expect(strstr((char *)reply.body.data, c->text), "%s: %s", c->name, (char *)reply.body.data);
        raw_reply_release(&reply);
    }
    struct raw_reply reply;
    raw_request(port, "GET /-/healthy", "", (kv_slice){0}, &reply);
    cr_assert_eq(reply.status, 200);
    raw_reply_release(&reply);
    cr_assert(world.metrics.gate_refused > 20);
    cr_assert(world.metrics.deadline_headers >= 1 && world.metrics.deadline_body >= 1);
}

static unsigned status_of(const char *line, const char *headers, kv_slice body)
{
    struct raw_reply reply;
    raw_request(port, line, headers, body, &reply);
    unsigned status = reply.status;
    raw_reply_release(&reply);
    return status;
}

Test(bad_http, long_targets_and_headers_are_refused)
{
    char *text = calloc(1, 200000);
    size_t n = (size_t)sprintf(text, "GET /");
    memset(text + n, 'a', 40 << 10);
    cr_assert_eq(status_of(text, "", (kv_slice){0}), 414, "33: a target of 40 KiB");
    n = (size_t)sprintf(text, "X-A: ");
    memset(text + n, 'a', 40 << 10);
    strcpy(text + n + (40 << 10), "\r\n");
    cr_assert_eq(status_of("GET /-/healthy", text, (kv_slice){0}), 431, "34: a header of 40 KiB");
    char *p = text;
    for (int i = 0; i < 5000; i++)
        p += sprintf(p, "X-%d: a\r\n", i);
    cr_assert_eq(status_of("GET /-/healthy", text, (kv_slice){0}), 431, "34: 5,000 headers");
    p = text;
    for (int i = 0; i < 210; i++)
        p += sprintf(p, "X-%d: a\r\n", i);
    unsigned many = status_of("GET /-/healthy", text, (kv_slice){0});
    cr_assert_eq(many, 431, "34: 210 headers: %u", many);
    free(text);
}

Test(bad_http, a_chunked_body_over_the_limit_is_refused_while_it_arrives)
{
    int fd = raw_connect(port);
    struct raw_reply reply;
    static const char head[] = POST_QUERY "Transfer-Encoding: chunked\r\n\r\n";
    static char chunk[65536 + 16];
    size_t n = (size_t)sprintf(chunk, "10000\r\n");
    memset(chunk + n, 'a', 65536);
    memcpy(chunk + n + 65536, "\r\n", 2);
    raw_send(fd, head, sizeof head - 1);
    for (int i = 0; i < 17; i++)
        raw_send(fd, chunk, n + 65538);
    raw_receive(fd, &reply, false, 2000);
    cr_assert_eq(reply.status, 413);
    cr_assert(strstr((char *)reply.body.data, "over the limit of 1048576 bytes"));
    cr_assert(reply.closed);
    raw_reply_release(&reply);
    close(fd);
}

Test(bad_http, a_bomb_is_refused)
{
    uint8_t *zeros = calloc(1, 100 << 20), *packed = malloc(200000);
    z_stream z = {.next_in = zeros, .avail_in = 100 << 20, .next_out = packed, .avail_out = 200000};
    deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY);
    cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    cr_assert_eq(
        status_of("POST /write", "Content-Encoding: gzip\r\n", kv_slice_of(packed, 200000 - z.avail_out)),
        413);
    deflateEnd(&z);
    free(zeros);
    free(packed);
}

Test(bad_http, continue_is_sent_before_a_good_body)
{
    int fd = raw_connect(port);
    struct raw_reply reply;
    static const char head[] = POST_QUERY "Expect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    raw_send(fd, head, sizeof head - 1);
    raw_receive(fd, &reply, true, 0);
    cr_assert_eq(reply.status, 100);
    raw_reply_release(&reply);
    raw_send(fd, BODY, 9);
    raw_receive(fd, &reply, false, 0);
    cr_assert_eq(reply.status, 200);
    raw_reply_release(&reply);
    close(fd);
}

Test(bad_http, pipelined_requests_are_answered_in_order)
{
    enum { N = 200 };
    int fd = raw_connect(port);
    struct kv_buf in = {0};
    for (int i = 0; i < N; i++)
        cr_assert_eq(kv_buf_printf(&in, "GET /api/v1/query?query=%d HTTP/1.1\r\nHost: x\r\n\r\n", i), KV_OK);
    raw_send(fd, in.data, in.len);
    kv_buf_release(&in);
    char bytes[65536];
    for (ssize_t got; (got = recv(fd, bytes, sizeof bytes, 0)) > 0;) {
        cr_assert_eq(kv_buf_append(&in, kv_slice_of(bytes, (size_t)got)), KV_OK);
        char last[32];
        int n = snprintf(last, sizeof last, ",\"%d\"]", N - 1);
        if (memmem(in.data, in.len, last, (size_t)n))
            break;
    }
    cr_assert_eq(kv_buf_append_byte(&in, 0), KV_OK);
    const char *at = (const char *)in.data;
    for (int i = 0; i < N; i++) {
        char value[32];
        snprintf(value, sizeof value, ",\"%d\"]", i);
        at = strstr(at, value);
        cr_assert(at, "answer %d is missing or out of order", i);
    }
    kv_buf_release(&in);
    close(fd);
}

Test(bad_http, head_has_the_length_and_no_body)
{
    struct raw_reply get, head;
    raw_request(port, "GET /-/healthy", "", (kv_slice){0}, &get);
    raw_request(port, "HEAD /-/healthy", "", (kv_slice){0}, &head);
    cr_assert_eq(head.status, 200);
    char length[32];
    snprintf(length, sizeof length, "%s", raw_header(&get, "Content-Length"));
    cr_assert_str_eq(raw_header(&head, "Content-Length"), length);
    cr_assert_eq(head.body.len, 0);
    raw_reply_release(&get);
    raw_reply_release(&head);
}

Test(bad_http, a_client_that_resets_does_no_harm)
{
    for (int i = 0; i < 20; i++) {
        int fd = raw_connect(port);
        struct linger hard = {1, 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        raw_send(fd, "GET /metrics " LINE "\r\n", sizeof "GET /metrics " LINE "\r\n" - 1);
        close(fd); /* a reset */
    }
    cr_assert_eq(status_of("GET /-/healthy", "", (kv_slice){0}), 200);
}

Test(bad_http, idle_connections_are_closed)
{
    int fd = raw_connect(port);
    struct raw_reply reply;
    static const char get[] = "GET /-/healthy " LINE "\r\n";
    raw_send(fd, get, sizeof get - 1);
    raw_receive(fd, &reply, false, 3000);
    cr_assert(reply.status == 200 && reply.closed);
    cr_assert_eq(world.metrics.deadline_idle, 1);
    raw_reply_release(&reply);
    close(fd);
}

Test(server, connections_over_the_cap_are_answered_503)
{
    enum { MAX = 10 };
    struct http_server_options options = {.connections_max = MAX};
    int fds[MAX];
    struct raw_reply reply;
    start(&options);
    for (int i = 0; i < MAX; i++) {
        fds[i] = raw_connect(port);
        raw_send(fds[i], "GET /", 5); /* busy with its headers, so not to be reaped at once */
    }
    unsigned refused = 0;
    for (int tries = 0; tries < 200 && !refused; tries++) {
        raw_request(port, "GET /-/healthy", "", (kv_slice){0}, &reply);
        if (reply.status == 503) {
            refused++;
            cr_assert(strstr((char *)reply.body.data, "the limit of open connections is reached"));
            cr_assert_str_eq(raw_header(&reply, "Retry-After"), "5");
            cr_assert(reply.closed);
        }
        raw_reply_release(&reply);
    }
    cr_assert(refused);
    for (int i = 0; i < MAX; i++)
        close(fds[i]);
}

Test(server, silent_connections_make_room)
{
    enum { MAX = 20 };
    struct http_server_options options = {.connections_max = MAX};
    int fds[MAX];
    unsigned status = 0;
    start(&options);
    for (int i = 0; i < MAX; i++)
        fds[i] = raw_connect(port);
    while (world.metrics.connections < MAX) /* until each has its thread */
        kv_clock_sleep_ns(kv_clock_system(), 1000000);
    /* All places are taken by clients that say nothing: the watchdog closes the oldest of them. */
    for (int tries = 0; tries < 2000 && status != 200; tries++) {
        status = status_of("GET /-/healthy", "", (kv_slice){0});
        if (status != 200)
            kv_clock_sleep_ns(kv_clock_system(), 5000000);
    }
    cr_assert_eq(status, 200);
    cr_assert(world.metrics.connections_reaped > 0);
    for (int i = 0; i < MAX; i++)
        close(fds[i]);
}

Test(server, replies_close_when_the_cap_is_near)
{
    enum { MAX = 10 };
    struct http_server_options options = {.connections_max = MAX};
    int fds[MAX - 1];
    struct raw_reply reply;
    start(&options);
    for (int i = 0; i < MAX - 1; i++) {
        fds[i] = raw_connect(port);
        raw_send(fds[i], "GET /-/healthy " LINE "\r\n", sizeof "GET /-/healthy " LINE "\r\n" - 1);
        raw_receive(fds[i], &reply, false, 0);
        cr_assert_eq(reply.status, 200);
        const char *connection = raw_header(&reply, "Connection");
        if (i == 0)
            cr_assert(!connection || strcmp(connection, "close") != 0);
        if (i == MAX - 2)
            cr_assert(connection && strcmp(connection, "close") == 0);
        raw_reply_release(&reply);
    }
    for (int i = 0; i < MAX - 1; i++)
        close(fds[i]);
}

Test(server, without_credentials_there_is_no_entry)
{
    struct http_auth *auth;
    cr_assert_eq(http_auth_new(KV_STR("basic ann:secret\nbearer t0ken\n"), &auth, NULL), KV_OK);
    struct http_server_options options = {.auth = auth};
    struct raw_reply reply;
    start(&options);
    raw_request(port, "POST /api/v1/write", "Expect: 100-continue\r\n", KV_STR("xxxx"), &reply);
    cr_assert_eq(reply.status, 401, "before the body is asked for");
    cr_assert(strncmp(raw_header(&reply, "WWW-Authenticate"), "Basic realm=", 12) == 0);
    raw_reply_release(&reply);
    cr_assert_eq(status_of("GET /api/v1/query?query=1", "", (kv_slice){0}), 401);
    cr_assert_eq(status_of("GET /metrics", "Authorization: Basic garbage!\r\n", (kv_slice){0}), 401);
    cr_assert_eq(status_of("GET /metrics", "Authorization: Bearer t0ken\r\nAuthorization: Bearer t0ken\r\n",
                           (kv_slice){0}),
                 401);
    cr_assert_eq(status_of("GET /metrics", "Authorization: Bearer t0ken\r\n", (kv_slice){0}), 200);
    cr_assert_eq(status_of("POST /write", "Authorization: Token t0ken\r\n", KV_STR("m v=1")), 204);
    cr_assert_eq(
        status_of("GET /api/v1/query?query=1", "Authorization: Basic YW5uOnNlY3JldA==\r\n", (kv_slice){0}),
        200);
    cr_assert_eq(status_of("GET /-/healthy", "", (kv_slice){0}), 200, "health is for everyone");
    cr_assert_eq(status_of("GET /nope", "", (kv_slice){0}), 404);
    http_world_close(&world);
    http_auth_free(auth);
    http_world_open(&world, NULL, KV_THREADS_NONE);
}

Test(server, an_open_address_needs_credentials_or_a_word)
{
    struct kv_err err = {0};
    struct http_server *server = NULL;
    http_world_open(&world, NULL, KV_THREADS_NONE);
    struct http_server_options options = {.listen = "0.0.0.0:0",
                                          .app = &world.app,
                                          .routes = http_routes,
                                          .n_routes = http_n_routes,
                                          .metrics = &world.metrics};
    cr_assert_eq(http_server_start(&options, &server, &err), KV_INVALID);
    cr_assert(strstr(err.text, "refusing to listen on 0.0.0.0:0 without credentials"), "%s", err.text);
    options.insecure_listen = true;
    cr_assert_eq(http_server_start(&options, &server, &err), KV_OK);
    char taken[80];
    snprintf(taken, sizeof taken, "127.0.0.1:%u", http_server_port(server));
    struct http_server_options second = options;
    struct http_server *other = NULL;
    second.listen = taken;
    cr_assert_eq(http_server_start(&second, &other, &err), KV_IO, "the same port twice");
    cr_assert(strstr(err.text, "Address already in use"), "%s", err.text);
    http_server_stop(server, 0);
    http_server_free(server);
    static const char *const bad[] = {
        "",       "9430",           "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:x", "300.0.0.1:1",
        "[::1:9", "example.org:80", "::1:9430"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        options.listen = bad[i];
        cr_assert_eq(http_server_start(&options, &server, &err), KV_INVALID, "%s", bad[i]);
        cr_assert(strstr(err.text, "listen address"), "%s", err.text);
    }
}

Test(server, bodies_share_one_budget)
{
    struct http_server_options options = {.body_budget_bytes = 100000, .admission_ms = 30};
    struct raw_reply reply;
    static char body[300000];
    memset(body, '#', sizeof body); /* a comment */
    start(&options);
    cr_assert_eq(status_of("POST /write", "", kv_slice_of(body, 30000)), 204);
    raw_request(port, "POST /write", "", kv_slice_of(body, sizeof body), &reply);
    cr_assert_eq(reply.status, 503);
    cr_assert(strstr((char *)reply.body.data, "no memory for the body was free within 30 ms"));
    cr_assert(raw_header(&reply, "Retry-After"));
    cr_assert(reply.closed);
    raw_reply_release(&reply);
    cr_assert_eq(status_of("POST /write", "", kv_slice_of(body, 30000)), 204, "the share was given back");
}
