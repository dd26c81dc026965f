/*
 * stress_server.c - the server under load: writers of both protocols, readers, a flusher and clients that go away in mid-answer, all at once
 * for a few seconds, then a stop in the middle of it. Exit 0: every accepted sample is there, every answer was whole. Run under TSan by
 * `make check-tsan`.
 */
#include "kvcore/base/assert.h"
#include "kvcore/os/thread.h"
#include "tests/support/http_world.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { WRITERS = 4, READERS = 3, SECONDS = 3, LINES = 50 };

static struct http_world world;
static uint16_t port;
static _Atomic bool stop;
static _Atomic uint64_t answered[WRITERS]; /* bodies answered 204, of each writer */
static _Atomic uint64_t queries, bad;

static void complain(const char *what, const struct raw_reply *reply)
{
    fprintf(stderr, "%s: %u %.200s\n", what, reply->status,
            reply->status ? (const char *)reply->body.data : "");
    atomic_fetch_add(&bad, 1);
}

static void send_request(int fd, const char *line, const char *headers, kv_slice body)
{
    struct kv_buf text = {0};
    KV_ASSERT(kv_buf_printf(&text, "%s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n%s\r\n", line, body.len,
                            headers) == KV_OK);
    KV_ASSERT(kv_buf_append(&text, body) == KV_OK);
    raw_send(fd, text.data, text.len);
    kv_buf_release(&text);
}

static void make_lines(struct kv_buf *out, unsigned writer, uint64_t round, int64_t now)
{
    kv_buf_clear(out);
    for (int i = 0; i < LINES; i++)
        KV_ASSERT(kv_buf_printf(out, "load,writer=%u,i=%d v=%" PRIu64 " %" PRId64 "\n", writer, i, round,
                                now) == KV_OK);
}

static void make_series(struct kv_buf *out, unsigned writer, uint64_t round, int64_t now)
{
    struct pb_writer w = {0};
    double value = (double)round;
    for (int i = 0; i < LINES; i++) {
        char labels[80];
        snprintf(labels, sizeof labels, "__name__=load_v,i=%d,writer=%u", i, writer);
        pb_series(&w, labels, &now, &value, 1);
    }
    snappy_of(kv_buf_slice(&w.out), out);
    kv_buf_release(&w.out);
}

static void write_load(void *ctx)
{
    unsigned me = (unsigned)(uintptr_t)ctx;
    struct kv_buf body = {0};
    struct raw_reply reply;
    int fd = raw_connect(port);
    for (uint64_t round = 1; !stop; round++) {
        int64_t now = kv_clock_wall_ms(kv_clock_system());
        if (me % 2)
            make_lines(&body, me, round, now);
        else
            make_series(&body, me, round, now);
        send_request(fd, me % 2 ? "POST /write?precision=ms" : "POST /api/v1/write", "", kv_buf_slice(&body));
        raw_receive(fd, &reply, false, 0);
        if (reply.status == 204)
            atomic_store(&answered[me], round);
        else if (!stop)
            complain("write", &reply);
        raw_reply_release(&reply);
    }
    close(fd);
    kv_buf_release(&body);
}

static void read_load(void *ctx)
{
    static const char *const targets[] = {"GET /api/v1/query?query=sum%20by%20(writer)%20(load_v)",
                                          "GET /api/v1/query?query=count(load_v)",
                                          "GET /api/v1/labels",
                                          "GET /api/v1/label/i/values",
                                          "GET /metrics",
                                          "GET /api/v1/series?match[]=load_v",
                                          "GET /api/v1/query?query=load_v[1m]"};
    struct raw_reply reply;
    for (size_t i = (size_t)(uintptr_t)ctx; !stop; i++) {
        bool leave = i % 11 == 0;
        int fd = raw_connect(port); /* a connection each: threads come and go */
        send_request(fd, targets[i % 7], i % 2 ? "Accept-Encoding: gzip\r\n" : "", (kv_slice){0});
        if (!leave) {
            raw_receive(fd, &reply, false, 0);
            if (reply.status != 200 && !stop)
                complain(targets[i % 7], &reply);
            atomic_fetch_add(&queries, 1);
            raw_reply_release(&reply);
        }
        close(fd);
    }
}

static void flush_load(void *ctx)
{
    struct raw_reply reply;
    (void)ctx;
    while (!stop) {
        raw_request(port, "POST /api/v1/admin/flush", "", (kv_slice){0}, &reply);
        if (reply.status != 204 && !stop)
            complain("flush", &reply);
        raw_reply_release(&reply);
        kv_clock_sleep_ns(kv_clock_system(), 200000000);
    }
}

int main(void)
{
    kv_thread threads[WRITERS + READERS + 1] = {0};
    size_t n = 0;
    http_world_open(&world, NULL, 0);
    port = http_world_serve(&world, NULL);
    for (uintptr_t i = 0; i < WRITERS; i++)
        KV_ASSERT(kv_thread_start(&threads[n++], "writer", 0, write_load, (void *)i) == KV_OK);
    for (uintptr_t i = 0; i < READERS; i++)
        KV_ASSERT(kv_thread_start(&threads[n++], "reader", 0, read_load, (void *)i) == KV_OK);
    KV_ASSERT(kv_thread_start(&threads[n++], "flusher", 0, flush_load, NULL) == KV_OK);
    kv_clock_sleep_ns(kv_clock_system(), SECONDS * UINT64_C(1000000000));
    stop = true;
    http_server_stop(world.server, 2000); /* with requests under way */
    for (size_t i = 0; i < n; i++)
        kv_thread_join(&threads[i]);
    http_server_free(world.server);
    world.server = NULL;
    for (unsigned i = 0; i < WRITERS; i++) {
        char expr[80];
        snprintf(expr, sizeof expr, "min(load_v{writer=\"%u\"})", i);
        double stored = http_world_value(&world, expr);
        if (!(stored >= (double)answered[i])) {
            fprintf(stderr, "writer %u: %" PRIu64 " answered, %g stored\n", i, (uint64_t)answered[i], stored);
            bad++;
        }
        printf("writer %u: %" PRIu64 " bodies of %d samples\n", i, (uint64_t)answered[i], LINES);
    }
    printf("%" PRIu64 " reads, %" PRIu64 " bad\n", (uint64_t)queries, (uint64_t)bad);
    http_world_close(&world);
    return bad != 0;
}
