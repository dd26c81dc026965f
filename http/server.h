/*
 * server.h - the HTTP server: sockets, connections, deadlines, admission. libmicrohttpd lives in server.c and
 * nowhere else.
 *
 * A request passes, in this order: the gate (http/gate.h: what 0.9.75 lets through), routing, credentials,
 * admission (connections, byte budget, concurrent queries), the body, the handler (http/api), the reply.
 * Threads    one per connection, an acceptor and a watchdog that keeps wall-clock deadlines. start and stop
 *            from one thread.
 * Failure    http_server_start says in *err which address or limit was refused.
 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include "http/router.h"
#include "kvcore/base/logfmt.h"

struct http_auth;
struct http_metrics;
struct http_server;

/* All zero but app, routes and metrics is the default. */
struct http_server_options {
    const char *listen;         /* "127.0.0.1:9430", "[::1]:9430", ":9430" (every address). Port 0: the system
                                   chooses. NULL: 127.0.0.1:9430 */
    bool insecure_listen;       /* allow an address beyond loopback without credentials */
    uint32_t connections_max;   /* 0: 2000, or a third of the descriptor and thread limits if that is less */
    uint64_t body_budget_bytes; /* raw and inflated bodies together. 0: 256 MiB */
    uint32_t header_ms, body_ms, reply_ms, idle_ms; /* 0: 10 s, 60 s, 60 s, 30 s */
    uint32_t admission_ms;        /* wait for a share of the budget or a place among the queries. 0: 10 s */
    uint32_t queries_max;         /* at once. 0: 20 */
    const char *cors_origin;      /* Access-Control-Allow-Origin. NULL: "*" */
    const struct http_auth *auth; /* NULL: no credentials */
    struct http_app *app;
    const struct http_route *routes;
    size_t n_routes;
    struct http_metrics *metrics;
    const struct kv_logger *log;
    struct kv_clock *clock; /* NULL: the system's */
};
KV_MUST kv_status http_server_start(const struct http_server_options *options, struct http_server **out,
                                    struct kv_err *err);
/* The port it listens on. */
uint16_t http_server_port(const struct http_server *server);
/* "127.0.0.1:9430" as it was bound. Lives as long as the server. */
const char *http_server_address(const struct http_server *server);
/* Stops accepting, lets requests under way finish (at most drain_ms), closes every connection. */
void http_server_stop(struct http_server *server, uint32_t drain_ms);
void http_server_free(struct http_server *server); /* after stop; NULL is fine */

#endif
