/* test_server.c - what the server does around a handler: places for queries, clients that leave or read slowly, streams that fail. Its
 * handlers are this file's own. */
#include "http/metrics.h"
#include "http/server.h"
#include "kvcore/os/clock.h"
#include "kvcore/os/thread.h"
#include "tests/support/raw_http.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct http_server *server;
static struct http_metrics metrics;
static _Atomic bool release_slow, saw_cancel;
static _Atomic int inside;

static void pause_ms(unsigned ms)
{
    kv_clock_sleep_ns(kv_clock_system(), (uint64_t)ms * 1000000);
}

/* Answers once the test lets it. */
static void slow(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    (void)app;
    (void)request;
    inside++;
    while (!release_slow)
        pause_ms(1);
    http_reply_text(reply, 200, "slow");
}

/* Works until its client is gone. */
static void endless(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    (void)app;
    inside++;
    for (int i = 0; i < 5000 && !saw_cancel; i++) {
        saw_cancel = request->canceled(request->canceled_ctx);
        pause_ms(1);
    }
    http_reply_text(reply, 499, "canceled");
}

static kv_status more_forever(void *ctx, struct kv_buf *out)
{
    (void)ctx;
    uint8_t *p = kv_buf_extend(out, 64 << 10);
    if (p)
        memset(p, 'x', 64 << 10);
    return p ? KV_OK : KV_NO_MEMORY;
}

static _Atomic int dones;
static void count_done(void *ctx)
{
    (void)ctx;
    dones++;
}

static void stream(struct http_reply *reply, kv_status (*next)(void *ctx, struct kv_buf *out))
{
    reply->status = 200;
    reply->content_type = "text/plain";
    reply->next = next;
    reply->done = count_done;
}

static void forever(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    (void)app;
    (void)request;
    stream(reply, more_forever);
}

static _Atomic int pieces;
static kv_status fail_later(void *ctx, struct kv_buf *out)
{
    return ++pieces > 4 ? KV_CORRUPT : more_forever(ctx, out);
}

static kv_status fail_at_once(void *ctx, struct kv_buf *out)
{
    (void)ctx;
    (void)out;
    return KV_CORRUPT;
}

static void broken(struct http_app *app, struct http_request *request, struct http_reply *reply)
{
    (void)app;
    stream(reply, request->query.len ? fail_at_once : fail_later);
}

static const struct http_route routes[] = {
    {"/slow", HTTP_GET, HTTP_ROUTE_QUERY, slow, 0, false},
    {"/endless", HTTP_GET, HTTP_ROUTE_QUERY, endless, 0, false},
    {"/forever", HTTP_GET, HTTP_ROUTE_READ, forever, 0, false},
    {"/broken", HTTP_GET, HTTP_ROUTE_READ, broken, 0, false},
};

static uint16_t start(struct http_server_options options)
{
    struct kv_err err = {0};
    options.listen = "127.0.0.1:0";
    options.routes = routes;
    options.n_routes = sizeof routes / sizeof *routes;
    options.metrics = &metrics;
    cr_assert_eq(http_server_start(&options, &server, &err), KV_OK, "%s", err.text);
    return http_server_port(server);
}

static void end(void)
{
    release_slow = true;
    if (server)
        http_server_stop(server, 2000);
    http_server_free(server);
}
TestSuite(serving, .fini = end);

static int ask(uint16_t port, const char *path)
{
    char text[200];
    int fd = raw_connect(port);
    int n = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    raw_send(fd, text, (size_t)n);
    return fd;
}

Test(serving, queries_over_the_limit_wait_and_then_are_sent_away)
{
    uint16_t port = start((struct http_server_options){.queries_max = 1, .admission_ms = 50});
    struct raw_reply reply;
    int first = ask(port, "/slow");
    while (!inside)
        pause_ms(1);
    int second = ask(port, "/slow");
    raw_receive(second, &reply, false, 0);
    cr_assert_eq(reply.status, 503);
    cr_assert(strstr((char *)reply.body.data, "1 queries are running and none ended within 50 ms"), "%s",
              (char *)reply.body.data);
    cr_assert_str_eq(raw_header(&reply, "Retry-After"), "5");
    raw_reply_release(&reply);
    release_slow = true;
    raw_receive(first, &reply, false, 0);
    cr_assert_eq(reply.status, 200);
    raw_reply_release(&reply);
    close(first);
    first = ask(port, "/slow");
    raw_receive(first, &reply, false, 0);
    cr_assert_eq(reply.status, 200, "the place was given back");
    raw_reply_release(&reply);
    close(first);
    close(second);
}

Test(serving, a_query_hears_that_its_client_is_gone)
{
    uint16_t port = start((struct http_server_options){0});
    int fd = ask(port, "/endless");
    while (!inside)
        pause_ms(1);
    cr_assert_not(saw_cancel);
    close(fd);
    for (int i = 0; i < 2000 && !saw_cancel; i++)
        pause_ms(1);
    cr_assert(saw_cancel);
}

Test(serving, stopping_cancels_queries_under_way)
{
    uint16_t port = start((struct http_server_options){0});
    int fd = ask(port, "/endless");
    while (!inside)
        pause_ms(1);
    http_server_stop(server, 2000);
    cr_assert(saw_cancel);
    http_server_free(server);
    server = NULL;
    close(fd);
}

Test(serving, a_reply_nobody_reads_is_cut)
{
    uint16_t port = start((struct http_server_options){.reply_ms = 300});
    int fd = ask(port, "/forever");
    for (int i = 0; i < 3000 && !metrics.deadline_reply; i++)
        pause_ms(1);
    cr_assert_eq(metrics.deadline_reply, 1);
    for (int i = 0; i < 2000 && !dones; i++)
        pause_ms(1);
    cr_assert_eq(dones, 1, "the stream was let go");
    close(fd);
}

Test(serving, a_stream_that_fails_half_way_does_not_end_well)
{
    uint16_t port = start((struct http_server_options){0});
    struct kv_buf all = {0};
    int fd = ask(port, "/broken");
    char bytes[65536];
    for (ssize_t got; (got = recv(fd, bytes, sizeof bytes, 0)) > 0;)
        cr_assert_eq(kv_buf_append(&all, kv_slice_of(bytes, (size_t)got)), KV_OK);
    cr_assert(all.len > 100000, "some of it came");
    cr_assert(memcmp(all.data + all.len - 5, "0\r\n\r\n", 5) != 0, "but never the last chunk");
    kv_buf_release(&all);
    close(fd);
    pause_ms(20);
    cr_assert_eq(dones, 1);
}

Test(serving, a_stream_that_fails_at_once_is_a_503)
{
    uint16_t port = start((struct http_server_options){0});
    struct raw_reply reply;
    int fd = ask(port, "/broken?now");
    raw_receive(fd, &reply, false, 0);
    cr_assert_eq(reply.status, 503);
    raw_reply_release(&reply);
    close(fd);
    cr_assert_eq(dones, 1);
}
