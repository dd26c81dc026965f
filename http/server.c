/*
 * server.c - libmicrohttpd, and everything it does not do: an acceptor of our own (so that a connection over the cap gets an answer), the
 * gate, credentials and admission before the body is read, wall-clock deadlines, streamed and compressed replies. It is one module because
 * each part is a state of the same connection.
 *
 * Threads and locks
 *   acceptor    accept4, the cap, MHD_add_connection
 *   connection  one each, made by libmicrohttpd: runs every callback below and the handler
 *   watchdog    looks at each connection's phase a few times a second and shuts the sockets that are late down; the connection's own thread
 *               notices and cleans up
 *   server.mutex guards the list of connections; phase and since are atomic, written by the connection's thread only
 */
#include "http/server.h"
#include "http/admission.h"
#include "http/auth.h"
#include "http/gate.h"
#include "http/inflate.h"
#include "http/listen.h"
#include "http/metrics.h"
#include "http/text.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/list.h"
#include "kvcore/base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

enum {
    CONNECTIONS_DEFAULT = 2000,
    CONNECTIONS_SLACK = 64,      /* libmicrohttpd's own limit lies above ours, so that ours answers */
    CONNECTION_BYTES = 32 << 10, /* request line and headers must fit */
    CONNECTION_STACK_BYTES = 1 << 20,
    BODY_BYTES_FIRST = 16 << 10,
    BODY_BYTES_KEPT = 256 << 10, /* a connection keeps its buffer up to this */
    BUDGET_DEFAULT = 256 << 20,
    QUERIES_DEFAULT = 20,
    WATCHDOG_MS = 200,
    STREAM_BYTES = 64 << 10,
    GZIP_BYTES_MIN = 1024,
    LINGER_MS = 1000, /* how long and */
    LINGER_BYTES =
        8 << 20, /* how much is read behind a refusal in mid-body, so that its reply is not reset away */
};

/* What a connection is doing, and since when: the watchdog's only view of it. */
enum phase { PHASE_HEADERS, PHASE_BODY, PHASE_HANDLER, PHASE_REPLY, PHASE_IDLE };

struct connection;

/* One request on its way through. Embedded in its connection, which has one at a time. */
struct exchange {
    struct connection *connection;
    struct http_request request;
    struct http_reply reply;
    const struct http_route *route; /* NULL until found */
    kv_slice target;                /* as sent */
    struct kv_buf body;
    struct http_share share;
    uint64_t started_ns;
    bool begun, active, query_place, refused;
    bool hidden_bytes; /* the request line held a NUL */

    /* streaming */
    struct kv_buf piece;
    size_t piece_at;
    bool stream_ended, gzip_open;
    z_stream gzip;
};

struct connection {
    struct kv_list link; /* in server.connections */
    struct http_server *server;
    int fd;
    _Atomic int phase;
    _Atomic uint64_t since_ns;
    _Atomic bool cut; /* the watchdog shut it down */
    char remote[64];
    struct exchange exchange;
};

struct http_server {
    struct http_server_options options;
    struct http_address address;
    struct MHD_Daemon *daemon;
    struct MHD_Response *no_content; /* the reply of every accepted write */
    int listen_fd, wake_fd;
    struct http_pool budget, queries;
    kv_thread acceptor, watchdog;
    _Atomic bool stopping, watchdog_stop;
    _Atomic uint32_t active; /* requests between headers and the end of their reply */

    kv_mutex mutex;
    kv_cond watchdog_wake;
    struct kv_list connections;
    uint32_t n_connections;
};

static uint64_t now_ns(const struct http_server *server)
{
    return kv_clock_mono_ns(server->options.clock);
}

static void enter(struct connection *c, enum phase phase)
{
    atomic_store_explicit(&c->since_ns, now_ns(c->server), memory_order_relaxed);
    atomic_store_explicit(&c->phase, (int)phase, memory_order_release);
}

static uint32_t connections_open(struct http_server *server)
{
    kv_mutex_lock(&server->mutex);
    uint32_t n = server->n_connections;
    kv_mutex_unlock(&server->mutex);
    return n;
}

/* ---- replies ----------------------------------------------------------------------------------------------------- */

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    (void)MHD_add_response_header(response, name, value);
}

/* What every reply carries. */
static void add_common_headers(const struct http_server *server, struct MHD_Response *response)
{
    add_header(response, "Access-Control-Allow-Origin", server->options.cors_origin);
    add_header(response, "Access-Control-Allow-Headers", "Accept, Authorization, Content-Type, Origin");
    add_header(response, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    add_header(response, "Access-Control-Expose-Headers", "Date");
    add_header(response, "Vary", "Origin, Accept-Encoding");
    add_header(response, "X-Content-Type-Options", "nosniff");
}

static kv_status gzip_begin(struct exchange *ex)
{
    enum { WINDOW_BITS = 15, GZIP_FORM = 16 };
    if (deflateInit2(&ex->gzip, 1, Z_DEFLATED, WINDOW_BITS + GZIP_FORM, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return KV_NO_MEMORY;
    ex->gzip_open = true;
    return KV_OK;
}

/* Compresses in behind ex->piece; last: ends the stream. */
static kv_status gzip_put(struct exchange *ex, kv_slice in, bool last)
{
    ex->gzip.next_in = (Bytef *)(uintptr_t)in.data;
    ex->gzip.avail_in = (uInt)in.len;
    for (;;) {
        kv_status rc = kv_buf_reserve(&ex->piece, STREAM_BYTES);
        if (rc < 0)
            return rc;
        size_t room = ex->piece.capacity - ex->piece.len;
        ex->gzip.next_out = ex->piece.data + ex->piece.len;
        ex->gzip.avail_out = (uInt)room;
        int z = deflate(&ex->gzip, last ? Z_FINISH : Z_NO_FLUSH);
        ex->piece.len += room - ex->gzip.avail_out;
        if (z == Z_STREAM_END || (!last && ex->gzip.avail_in == 0 && ex->gzip.avail_out > 0))
            return KV_OK;
        if (z != Z_OK && z != Z_BUF_ERROR)
            return KV_IO;
    }
}

/* The next piece of the body, coded if it is to be; KV_END once everything was made. */
static kv_status next_piece(struct exchange *ex)
{
    struct http_reply *reply = &ex->reply;
    kv_status rc;
    kv_buf_clear(&ex->piece);
    ex->piece_at = 0;
    if (ex->stream_ended)
        return KV_END;
    while (ex->piece.len == 0 && !ex->stream_ended) {
        struct kv_buf *to = ex->gzip_open ? &reply->body : &ex->piece;
        kv_buf_clear(to);
        rc = reply->next(reply->stream_ctx, to);
        if (rc < 0)
            return rc;
        ex->stream_ended = rc == KV_END;
        http_count(&ex->connection->server->options.metrics->reply_bytes, to->len);
        if (ex->gzip_open && (rc = gzip_put(ex, kv_buf_slice(to), ex->stream_ended)) < 0)
            return rc;
    }
    return ex->piece.len ? KV_OK : KV_END;
}

static ssize_t read_reply(void *cls, uint64_t at, char *to, size_t max)
{
    struct exchange *ex = cls;
    (void)at;
    if (ex->piece_at == ex->piece.len) {
        kv_status rc = next_piece(ex);
        if (rc == KV_END)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (rc < 0)
            return MHD_CONTENT_READER_END_WITH_ERROR; /* cuts the connection: a part must not pass for the whole */
        if (ex->reply.long_stream)
            enter(ex->connection, PHASE_REPLY);
    }
    size_t left = ex->piece.len - ex->piece_at, n = left < max ? left : max;
    memcpy(to, ex->piece.data + ex->piece_at, n);
    ex->piece_at += n;
    return (ssize_t)n;
}

static bool accepts_gzip(const struct exchange *ex)
{
    kv_slice header = http_request_header(&ex->request, KV_STR("Accept-Encoding"));
    while (header.len) {
        const uint8_t *comma = memchr(header.data, ',', header.len);
        kv_slice item = {header.data, comma ? (size_t)(comma - header.data) : header.len};
        header = kv_slice_from(header, item.len + (comma != NULL));
        const uint8_t *semicolon = memchr(item.data, ';', item.len);
        kv_slice name =
            http_trim((kv_slice){item.data, semicolon ? (size_t)(semicolon - item.data) : item.len});
        bool refused =
            semicolon && memmem(item.data, item.len, "q=0", 3) && !memmem(item.data, item.len, "q=0.", 4);
        if (!refused && (http_equal_nocase(name, KV_STR("gzip")) || http_equal_nocase(name, KV_STR("*"))))
            return true;
    }
    return false;
}

/* Makes short streams whole, so that they go out with a Content-Length; on return a stream is left only if the body is long. */
static void settle_body(struct exchange *ex)
{
    struct http_reply *reply = &ex->reply;
    while (reply->next && reply->body.len < STREAM_BYTES) {
        kv_status rc = reply->next(reply->stream_ctx, &reply->body);
        if (rc < 0)
            http_reply_failed(reply, rc, "the answer could not be built");
        else if (rc == KV_END)
            reply->next = NULL; /* done still runs at release */
    }
}

/* Moves the body, coded, into ex->piece; false when it stays as it is. */
static bool compress_body(struct exchange *ex)
{
    bool whole = !ex->reply.next;
    if (ex->reply.status != 200 || ex->reply.body.len < GZIP_BYTES_MIN || !accepts_gzip(ex) ||
        gzip_begin(ex) < 0)
        return false;
    kv_buf_clear(&ex->piece);
    ex->piece_at = 0;
    ex->stream_ended = whole;
    if (gzip_put(ex, kv_buf_slice(&ex->reply.body), whole) == KV_OK)
        return true;
    deflateEnd(&ex->gzip);
    ex->gzip_open = false;
    ex->stream_ended = false;
    return false;
}

/* Hands the bytes of buf over to a response. */
static struct MHD_Response *response_of(struct kv_buf *buf)
{
    struct MHD_Response *response =
        buf->len ? MHD_create_response_from_buffer_with_free_callback(buf->len, buf->data, kv_free)
                 : MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (response && buf->len)
        *buf = (struct kv_buf){0};
    return response;
}

static struct MHD_Response *make_response(struct exchange *ex)
{
    struct http_reply *reply = &ex->reply;
    settle_body(ex);
    http_count(&ex->connection->server->options.metrics->reply_bytes, reply->body.len);
    bool coded = compress_body(ex);
    struct MHD_Response *response;
    if (reply->next) {
        if (!coded) { /* what was made so far is the first piece */
            kv_buf_release(&ex->piece);
            ex->piece = reply->body;
            reply->body = (struct kv_buf){0};
            ex->piece_at = 0;
        }
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BYTES, read_reply, ex, NULL);
    } else {
        response = response_of(coded ? &ex->piece : &reply->body);
    }
    if (response && coded)
        add_header(response, "Content-Encoding", "gzip");
    return response;
}

static bool nearly_full(struct http_server *server)
{
    return connections_open(server) > server->options.connections_max / 5 * 4;
}

static size_t route_index(const struct exchange *ex)
{
    const struct http_server_options *o = &ex->connection->server->options;
    return ex->route ? (size_t)(ex->route - o->routes) : HTTP_METRIC_ROUTES_MAX;
}

/* InfluxDB's clients look for code and message, and for a header. */
static void add_influx_error(struct http_reply *reply)
{
    static const char open[] = "\"error\":";
    const uint8_t *at =
        reply->body.len ? memmem(reply->body.data, reply->body.len, open, sizeof open - 1) : NULL;
    if (!at || memmem(reply->body.data, reply->body.len, "\"message\":", 10))
        return;
    size_t from = (size_t)(at - reply->body.data) + sizeof open - 1, n = reply->body.len - 1 - from;
    char text[HTTP_REPLY_HEADER_LEN_MAX];
    snprintf(text, sizeof text, "%.*s", (int)(n > 2 ? n - 2 : 0), (const char *)reply->body.data + from + 1);
    http_reply_header(reply, "X-Influx-Error", text);
    if (kv_buf_reserve(&reply->body, n + 64) < 0)
        return;
    uint8_t *body = reply->body.data;
    const char *code = reply->status == 401  ? "unauthorized"
                       : reply->status < 500 ? "invalid"
                                             : "unavailable";
    int head = snprintf((char *)body + reply->body.len - 1, 64, ",\"code\":\"%s\",\"message\":", code);
    size_t end = reply->body.len - 1 + (size_t)head;
    memmove(body + end, body + from, n);
    body[end + n] = '}';
    reply->body.len = end + n + 1;
}

/* Queues ex->reply. */
static enum MHD_Result send_reply(struct exchange *ex, struct MHD_Connection *mhd)
{
    struct connection *c = ex->connection;
    struct http_server *server = c->server;
    struct http_reply *reply = &ex->reply;
    bool close_behind = reply->close || nearly_full(server) || server->stopping;
    unsigned status = reply->status ? reply->status : 503;
    http_metrics_request(server->options.metrics, route_index(ex), status,
                         (now_ns(server) - ex->started_ns) / 1000);
    enter(c, PHASE_REPLY);
    if (status == 204 && reply->n_headers == 0 && !close_behind)
        return MHD_queue_response(mhd, 204, server->no_content);
    if (ex->route && ex->route->influx && status >= 400)
        add_influx_error(reply);
    struct MHD_Response *response = make_response(ex);
    if (!response)
        return MHD_NO;
    add_common_headers(server, response);
    if (reply->content_type)
        add_header(response, "Content-Type", reply->content_type);
    for (size_t i = 0; i < reply->n_headers; i++)
        add_header(response, reply->headers[i].name, reply->headers[i].value);
    if (close_behind)
        add_header(response, "Connection", "close");
    enum MHD_Result queued = MHD_queue_response(mhd, reply->status, response);
    MHD_destroy_response(response); /* libmicrohttpd holds its own reference */
    return queued;
}

/* Refuses a request in the middle of its body, where libmicrohttpd takes no reply: writes one on the socket by hand and has the connection
 * closed, reading on for a moment so that the reply is not reset away. */
static enum MHD_Result refuse_mid_body(struct exchange *ex)
{
    struct connection *c = ex->connection;
    char head[256];
    struct http_reply *reply = &ex->reply;
    http_metrics_request(c->server->options.metrics, route_index(ex), reply->status,
                         (now_ns(c->server) - ex->started_ns) / 1000);
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\nContent-Length: "
                     "%zu\r\n%sConnection: close\r\n\r\n",
                     reply->status, reply->status == 413 ? "Content Too Large" : "Service Unavailable",
                     reply->body.len, reply->status == 503 ? "Retry-After: 5\r\n" : "");
    if (send(c->fd, head, (size_t)n, MSG_NOSIGNAL | MSG_MORE) == n &&
        send(c->fd, reply->body.data, reply->body.len, MSG_NOSIGNAL) == (ssize_t)reply->body.len)
        shutdown(c->fd, SHUT_WR);
    char sink[16 << 10];
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    uint64_t deadline = now_ns(c->server) + (uint64_t)LINGER_MS * 1000000;
    for (size_t read = 0;
         read < LINGER_BYTES && now_ns(c->server) < deadline && poll(&p, 1, LINGER_MS) > 0;) {
        ssize_t got = recv(c->fd, sink, sizeof sink, MSG_DONTWAIT);
        if (got <= 0)
            break;
        read += (size_t)got;
    }
    return MHD_NO;
}

/* ---- requests: before the body ----------------------------------------------------------------------------------- */

static bool client_gone(void *ctx)
{
    struct connection *c = ctx;
    struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
    return c->server->stopping || (poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)));
}

struct header_list {
    struct exchange *ex;
    struct http_pair *pairs;
    size_t n, max;
};

static enum MHD_Result each_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len,
                                   const char *value, size_t value_len)
{
    struct header_list *list = cls;
    (void)kind;
    if (list->n < list->max)
        list->pairs[list->n] =
            (struct http_pair){{(const uint8_t *)name, name_len}, {(const uint8_t *)value, value_len}};
    list->n++;
    return MHD_YES;
}

static bool read_headers(struct exchange *ex, struct MHD_Connection *mhd)
{
    struct header_list list = {.ex = ex, .max = HTTP_HEADERS_MAX + 1};
    list.pairs = kv_arena_alloc(&ex->request.arena, list.max * sizeof *list.pairs);
    if (!list.pairs)
        return false;
    MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, each_header, &list);
    ex->request.headers = list.pairs;
    ex->request.n_headers = list.n < list.max ? list.n : list.max;
    return true;
}

/* A NUL cuts libmicrohttpd's strings short: whether [from, to), from behind a string to where the next begins, holds more than the string's
 * end. Both lie in the buffer the headers were read into; anything else is not looked at. */
static bool hides_bytes(const char *from, const char *to)
{
    bool ended = false;
    if (to < from || to - from > CONNECTION_BYTES)
        return false;
    for (; from < to; from++) {
        if (ended && *from && !strchr(" \t\r\n", *from))
            return true;
        ended |= *from == 0;
    }
    return false;
}

static bool has_hidden_bytes(struct exchange *ex, struct MHD_Connection *mhd, const char *url,
                             const char *method, const char *version)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    const char *end = method + (info ? info->header_size : 0);
    if (url < method || version < url || version > end || hides_bytes(url + ex->target.len, version))
        return version >= url && url >= method && version <= end;
    if (ex->request.n_headers > HTTP_HEADERS_MAX)
        return false; /* not all are known; refused for that */
    for (size_t i = 0; i < ex->request.n_headers; i++) {
        const kv_slice value = ex->request.headers[i].value;
        const char *from = (const char *)value.data + value.len;
        const char *to =
            i + 1 < ex->request.n_headers ? (const char *)ex->request.headers[i + 1].name.data : end;
        if (from > version && from <= end && to <= end && hides_bytes(from, to))
            return true;
    }
    return false;
}

/* The gate; false with the reply made when the request does not pass. */
static bool pass_gate(struct exchange *ex, const char *method, const char *version)
{
    struct http_gate gate = {kv_slice_str(method), ex->target, kv_slice_str(version), ex->request.headers,
                             ex->request.n_headers};
    struct http_verdict verdict = http_gate_check(&gate);
    if (ex->hidden_bytes)
        verdict = (struct http_verdict){400, true, "NUL byte or folded header in the request"};
    struct http_pair *headers = (struct http_pair *)(uintptr_t)ex->request.headers;
    for (size_t i = 0; i < ex->request.n_headers; i++)
        headers[i].value = http_trim(headers[i].value);
    if (!verdict.status)
        return true;
    http_count(&ex->connection->server->options.metrics->gate_refused, 1);
    http_reply_error(&ex->reply, verdict.status, verdict.status == 401 ? "unauthorized" : "bad_data", "%s",
                     verdict.why);
    ex->reply.close = verdict.close;
    return false;
}

/* Decodes the path and splits the query off. */
static bool read_target(struct exchange *ex)
{
    const char *why = NULL;
    const uint8_t *mark = memchr(ex->target.data, '?', ex->target.len);
    kv_slice path = {ex->target.data, mark ? (size_t)(mark - ex->target.data) : ex->target.len};
    ex->request.query = kv_slice_from(ex->target, path.len + (mark != NULL));
    kv_status rc = http_unescape(&ex->request.arena, path, false, &ex->request.path, &why);
    if (rc < 0)
        http_reply_failed(&ex->reply, rc, why ? why : "out of memory reading the request");
    else if (!http_utf8_valid(ex->request.path))
        http_reply_error(&ex->reply, 400, "bad_data", "the path is not valid UTF-8");
    else
        return true;
    return false;
}

static bool find_route(struct exchange *ex)
{
    const struct http_server_options *o = &ex->connection->server->options;
    char allow[64];
    ex->route = http_route_find(o->routes, o->n_routes, ex->request.path, &ex->request.path_args[0]);
    if (ex->request.method == HTTP_OPTIONS) {
        ex->reply.status = 204;
        return false;
    }
    if (!ex->route) {
        http_reply_text(&ex->reply, 404, "404 page not found\n");
        return false;
    }
    unsigned methods = ex->route->methods;
    unsigned asked = ex->request.method == HTTP_HEAD ? HTTP_GET : ex->request.method;
    if (methods & asked)
        return true;
    http_route_allow(methods, allow);
    http_reply_error(&ex->reply, 405, "bad_data", "this path takes %s", allow);
    http_reply_header(&ex->reply, "Allow", allow);
    return false;
}

static bool authenticate(struct exchange *ex)
{
    const struct http_server_options *o = &ex->connection->server->options;
    if (!o->auth || ex->route->kind == HTTP_ROUTE_HEALTH)
        return true;
    if (http_auth_check(o->auth, http_request_header(&ex->request, KV_STR("Authorization")))) {
        ex->request.authenticated = true;
        return true;
    }
    http_reply_error(&ex->reply, 401, "unauthorized", "no credentials, or not the right ones");
    http_reply_header(&ex->reply, "WWW-Authenticate", "Basic realm=\"tidemark\", charset=\"UTF-8\"");
    return false;
}

/* A tenth of the connections is kept for reads and health: over that, writers are sent away. */
static bool admit_connection(struct exchange *ex)
{
    struct http_server *server = ex->connection->server;
    uint32_t max = server->options.connections_max;
    uint32_t mine = ex->route->kind == HTTP_ROUTE_WRITE ? max - max / 10 : max;
    if (server->stopping)
        http_reply_error(&ex->reply, 503, "unavailable", "the server is stopping");
    else if (ex->route->kind != HTTP_ROUTE_HEALTH && connections_open(server) > mine)
        http_reply_error(&ex->reply, 503, "unavailable", "the limit of %u connections is reached", mine);
    else
        return true;
    http_reply_retry_after(&ex->reply, HTTP_RETRY_SECONDS);
    ex->reply.close = true;
    return false;
}

static size_t body_max(const struct exchange *ex)
{
    return ex->route->body_max ? ex->route->body_max : HTTP_FORM_LEN_MAX;
}

/* What the headers say about the body, before a byte of it is asked for. */
static bool admit_body(struct exchange *ex)
{
    uint64_t length;
    enum http_coding coding;
    kv_slice text = http_request_header(&ex->request, KV_STR("Content-Length"));
    if (http_coding_parse(http_request_header(&ex->request, KV_STR("Content-Encoding")), &coding) < 0)
        http_reply_error(&ex->reply, 415, "bad_data",
                         "unknown Content-Encoding; known are gzip, deflate, snappy, zstd, one at a time");
    else if (text.len && http_parse_uint(text, UINT64_MAX / 16, &length) && length > body_max(ex))
        http_reply_error(&ex->reply, 413, "bad_data", "the body of %llu bytes is over the limit of %zu",
                         (unsigned long long)length, body_max(ex));
    else
        return true;
    ex->reply.close = true;
    return false;
}

static bool has_body(const struct exchange *ex)
{
    kv_slice length = http_request_header(&ex->request, KV_STR("Content-Length"));
    return (length.len && !kv_slice_equal(length, KV_STR("0"))) ||
           http_request_header(&ex->request, KV_STR("Transfer-Encoding")).len;
}

/* Everything between the headers and the first byte of the body. */
static enum MHD_Result begin(struct exchange *ex, struct MHD_Connection *mhd, const char *url,
                             const char *method, const char *version)
{
    struct connection *c = ex->connection;
    ex->begun = true;
    ex->active = true;
    atomic_fetch_add(&c->server->active, 1);
    ex->request.method = http_method_of(kv_slice_str(method));
    ex->request.canceled = client_gone;
    ex->request.canceled_ctx = c;
    ex->request.share = &ex->share;
    ex->request.remote = kv_slice_str(c->remote);
    bool passes = false;
    if (!read_headers(ex, mhd)) {
        http_reply_failed(&ex->reply, KV_NO_MEMORY, "out of memory reading the request");
    } else {
        ex->hidden_bytes = has_hidden_bytes(ex, mhd, url, method, version);
        passes = pass_gate(ex, method, version) && read_target(ex) && find_route(ex) && authenticate(ex) &&
                 admit_connection(ex) && admit_body(ex);
    }
    ex->refused = !passes;
    if (passes || !has_body(ex)) {
        /* A reply queued now would close the connection; one queued at the next call, behind an empty body, need not. */
        enter(c, PHASE_BODY);
        return MHD_YES;
    }
    ex->reply.close = true;
    return send_reply(ex, mhd);
}

/* ---- requests: the body, the handler ----------------------------------------------------------------------------- */

static enum MHD_Result take_body(struct exchange *ex, const char *data, size_t *size)
{
    size_t n = *size, need = ex->body.len + n;
    kv_status rc = KV_OK;
    if (need > body_max(ex)) {
        http_reply_error(&ex->reply, 413, "bad_data", "the body is over the limit of %zu bytes",
                         body_max(ex));
        return refuse_mid_body(ex);
    }
    if (need > ex->share.held) { /* the share grows as the buffer does */
        size_t grown = ex->body.capacity > BODY_BYTES_FIRST ? ex->body.capacity : BODY_BYTES_FIRST;
        while (grown < need)
            grown *= 2;
        rc = http_share_grow(&ex->share, grown);
    }
    if (rc == KV_OK)
        rc = kv_buf_append(&ex->body, kv_slice_of(data, n));
    if (rc < 0) {
        http_reply_error(&ex->reply, 503, "unavailable", "no memory for the body was free within %u ms",
                         ex->share.wait_ms);
        return refuse_mid_body(ex);
    }
    *size = 0;
    return MHD_YES;
}

static bool take_query_place(struct exchange *ex)
{
    struct http_server *server = ex->connection->server;
    if (ex->route->kind != HTTP_ROUTE_QUERY)
        return true;
    kv_status rc = http_pool_take(&server->queries, 1, server->options.admission_ms, server->options.clock,
                                  client_gone, ex->connection);
    ex->query_place = rc == KV_OK;
    if (rc == KV_OK)
        return true;
    http_reply_error(&ex->reply, 503, "unavailable", "%u queries are running and none ended within %u ms",
                     server->options.queries_max, server->options.admission_ms);
    http_reply_retry_after(&ex->reply, HTTP_RETRY_SECONDS);
    return false;
}

static enum MHD_Result handle(struct exchange *ex, struct MHD_Connection *mhd)
{
    struct http_server *server = ex->connection->server;
    ex->request.body = kv_buf_slice(&ex->body);
    http_count(&server->options.metrics->body_bytes, ex->body.len);
    enter(ex->connection, PHASE_HANDLER);
    if (take_query_place(ex))
        ex->route->handle(server->options.app, &ex->request, &ex->reply);
    http_share_give(&ex->share);
    return send_reply(ex, mhd);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                  const char *version, const char *upload_data, size_t *upload_size,
                                  void **con_cls)
{
    struct exchange *ex = *con_cls;
    (void)cls;
    if (!ex)
        return MHD_NO; /* the request line was not even reported */
    if (!ex->begun)
        return begin(ex, mhd, url, method, version);
    if (ex->refused)
        return *upload_size ? MHD_NO : send_reply(ex, mhd);
    if (*upload_size)
        return take_body(ex, upload_data, upload_size);
    return handle(ex, mhd);
}

/* ---- connections ------------------------------------------------------------------------------------------------- */

static void exchange_reset(struct exchange *ex)
{
    struct connection *c = ex->connection;
    if (ex->query_place)
        http_pool_give(&c->server->queries, 1);
    http_share_give(&ex->share);
    http_request_release(&ex->request);
    http_reply_release(&ex->reply);
    if (ex->gzip_open)
        deflateEnd(&ex->gzip);
    kv_buf_release(&ex->piece);
    if (ex->body.capacity > BODY_BYTES_KEPT)
        kv_buf_release(&ex->body);
    kv_buf_clear(&ex->body);
    if (ex->active)
        atomic_fetch_sub(&c->server->active, 1);
    ex->active = ex->begun = ex->refused = ex->query_place = ex->gzip_open = ex->stream_ended =
        ex->hidden_bytes = false;
    ex->route = NULL;
    ex->piece_at = 0;
}

/* The request line was read: a request begins. uri is the target as it was sent, up to its first NUL. */
static void *on_target(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    (void)cls;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct connection *c = info ? info->socket_context : NULL;
    if (!c)
        return NULL;
    struct exchange *ex = &c->exchange;
    exchange_reset(ex);
    http_request_init(&ex->request, HTTP_OTHER, (kv_slice){0}, c->server->options.clock);
    http_reply_init(&ex->reply);
    ex->share =
        (struct http_share){&c->server->budget, 0, c->server->options.admission_ms, c->server->options.clock};
    ex->started_ns = now_ns(c->server);
    ex->target = kv_arena_copy(&ex->request.arena, kv_slice_str(uri));
    enter(c, PHASE_HEADERS);
    return ex->target.data ? ex : NULL;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                         enum MHD_RequestTerminationCode code)
{
    struct exchange *ex = *con_cls;
    (void)cls;
    (void)mhd;
    (void)code;
    if (!ex)
        return;
    exchange_reset(ex);
    enter(ex->connection, PHASE_IDLE);
    *con_cls = NULL;
}

static void name_remote(struct connection *c, const struct sockaddr *address)
{
    char host[48] = "?";
    unsigned port = 0;
    if (address && address->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof in);
        inet_ntop(AF_INET, &in.sin_addr, host, sizeof host);
        port = ntohs(in.sin_port);
    } else if (address && address->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address, sizeof in6);
        inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof host);
        port = ntohs(in6.sin6_port);
    }
    snprintf(c->remote, sizeof c->remote, "%s:%u", host, port);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = cls;
    struct connection *c;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (!(c = *socket_context))
            return;
        kv_mutex_lock(&server->mutex);
        kv_list_remove(&c->link);
        server->n_connections--;
        kv_mutex_unlock(&server->mutex);
        exchange_reset(&c->exchange);
        kv_buf_release(&c->exchange.body);
        kv_free(c);
        *socket_context = NULL;
        return;
    }
    if (!(c = kv_zalloc(1, sizeof *c)))
        return; /* on_target finds no context, on_request refuses */
    const union MHD_ConnectionInfo *fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    const union MHD_ConnectionInfo *address =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    c->server = server;
    c->fd = fd->connect_fd;
    c->exchange.connection = c;
    name_remote(c, address ? address->client_addr : NULL);
    enter(c, PHASE_HEADERS);
    *socket_context = c;
    kv_mutex_lock(&server->mutex);
    kv_list_push_back(&server->connections, &c->link);
    server->n_connections++;
    kv_mutex_unlock(&server->mutex);
}

/* libmicrohttpd decodes nothing: targets stay as they were sent. */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

static void mhd_log(void *cls, const char *format, va_list args)
{
    struct http_server *server = cls;
    char text[256];
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = 0;
    kv_logf(server->options.log, KV_LOG_DEBUG, "http_library", "text=%s", KV_LOGQ(text));
}

/* ---- the watchdog ------------------------------------------------------------------------------------------------ */

static void cut(struct connection *c, _Atomic uint64_t *counter)
{
    if (atomic_exchange(&c->cut, true))
        return;
    http_count(counter, 1);
    shutdown(c->fd, SHUT_RDWR); /* its thread wakes, sees the end and cleans up */
}

/* With the mutex held: cuts what is late. */
static void check_deadline(struct http_server *server, struct connection *c, uint64_t now)
{
    const struct http_server_options *o = &server->options;
    struct http_metrics *m = o->metrics;
    enum phase phase = (enum phase)atomic_load_explicit(&c->phase, memory_order_acquire);
    uint64_t since = atomic_load_explicit(&c->since_ns, memory_order_relaxed);
    uint64_t late_ms = now > since ? (now - since) / 1000000 : 0;
    if (phase == PHASE_HEADERS && late_ms > o->header_ms)
        cut(c, &m->deadline_headers);
    else if (phase == PHASE_BODY && late_ms > o->body_ms)
        cut(c, &m->deadline_body);
    else if (phase == PHASE_REPLY && late_ms > o->reply_ms)
        cut(c, &m->deadline_reply);
    else if (phase == PHASE_IDLE && late_ms > o->idle_ms)
        cut(c, &m->deadline_idle);
}

/* Above four fifths of the cap, with the mutex held: closes the longest idle until it is no longer so. A connection that has said nothing
 * yet is idle too, but gets a moment to begin. */
static void reap_idle(struct http_server *server, uint64_t now)
{
    enum { NEW_MS = 500 };
    uint32_t high = server->options.connections_max / 5 * 4;
    while (server->n_connections > high) {
        struct connection *longest = NULL;
        uint32_t uncut = 0;
        uint64_t oldest = UINT64_MAX;
        for (struct kv_list *l = server->connections.next; l != &server->connections; l = l->next) {
            struct connection *c = KV_CONTAINER(l, struct connection, link);
            int phase = atomic_load_explicit(&c->phase, memory_order_acquire);
            uint64_t since = atomic_load_explicit(&c->since_ns, memory_order_relaxed);
            if (c->cut)
                continue;
            uncut++;
            bool silent = phase == PHASE_HEADERS && now > since + (uint64_t)NEW_MS * 1000000;
            if ((phase == PHASE_IDLE || silent) && since < oldest) {
                oldest = since;
                longest = c;
            }
        }
        if (!longest || uncut <= high)
            return;
        cut(longest, &server->options.metrics->connections_reaped);
    }
}

static void watchdog_run(void *ctx)
{
    struct http_server *server = ctx;
    while (!server->watchdog_stop) {
        uint64_t now = now_ns(server);
        kv_mutex_lock(&server->mutex);
        for (struct kv_list *l = server->connections.next; l != &server->connections; l = l->next)
            check_deadline(server, KV_CONTAINER(l, struct connection, link), now);
        reap_idle(server, now);
        atomic_store(&server->options.metrics->connections, server->n_connections);
        atomic_store(&server->options.metrics->requests_active, server->active);
        if (!server->watchdog_stop)
            (void)kv_cond_wait_for(&server->watchdog_wake, &server->mutex, (uint64_t)WATCHDOG_MS * 1000000);
        kv_mutex_unlock(&server->mutex);
    }
}

/* ---- the acceptor ------------------------------------------------------------------------------------------------ */

/* Over the cap, a reply is all a connection gets: there is no thread for it. */
static void refuse_connection(struct http_server *server, int fd)
{
    static const char text[] =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 95\r\n"
        "Retry-After: 5\r\nConnection: close\r\n\r\n"
        "{\"status\":\"error\",\"errorType\":\"unavailable\",\"error\":\"the limit of open connections is "
        "reached\"}";
    _Static_assert(sizeof "{\"status\":\"error\",\"errorType\":\"unavailable\",\"error\":\"the limit of open "
                          "connections is "
                          "reached\"}" -
                           1 ==
                       95,
                   "Content-Length above");
    char sink[4096];
    http_count(&server->options.metrics->connections_refused, 1);
    (void)recv(fd, sink, sizeof sink, MSG_DONTWAIT); /* unread bytes would turn the close into a reset */
    (void)send(fd, text, sizeof text - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(fd, SHUT_WR);
    (void)recv(fd, sink, sizeof sink, MSG_DONTWAIT);
    close(fd);
}

static void accept_one(struct http_server *server)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    int fd = accept4(server->listen_fd, (struct sockaddr *)&address, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            kv_clock_sleep_ns(server->options.clock, 10000000);
        return;
    }
    if (connections_open(server) >= server->options.connections_max) {
        refuse_connection(server, fd);
        return;
    }
    http_count(&server->options.metrics->connections_total, 1);
    if (MHD_add_connection(server->daemon, fd, (struct sockaddr *)&address, len) != MHD_YES)
        kv_logf(server->options.log, KV_LOG_WARN, "connection_failed", "errno=%d",
                errno); /* the library closed it */
}

static void acceptor_run(void *ctx)
{
    struct http_server *server = ctx;
    struct pollfd p[2] = {{.fd = server->listen_fd, .events = POLLIN},
                          {.fd = server->wake_fd, .events = POLLIN}};
    while (!server->stopping) {
        if (poll(p, 2, -1) > 0 && (p[0].revents & POLLIN))
            accept_one(server);
    }
}

/* ---- start and stop ---------------------------------------------------------------------------------------------- */

static uint32_t limit_third(int resource, uint32_t most)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur / 3 > most)
        return most;
    return (uint32_t)(limit.rlim_cur / 3);
}

static void or_default(uint32_t *value, uint32_t otherwise)
{
    if (*value == 0)
        *value = otherwise;
}

static void resolve_options(struct http_server_options *o)
{
    o->listen = o->listen ? o->listen : "127.0.0.1:9430";
    o->cors_origin = o->cors_origin ? o->cors_origin : "*";
    o->clock = o->clock ? o->clock : kv_clock_system();
    o->body_budget_bytes = o->body_budget_bytes ? o->body_budget_bytes : BUDGET_DEFAULT;
    or_default(&o->connections_max, CONNECTIONS_DEFAULT);
    or_default(&o->header_ms, 10000);
    or_default(&o->body_ms, 60000);
    or_default(&o->reply_ms, 60000);
    or_default(&o->idle_ms, 30000);
    or_default(&o->admission_ms, 10000);
    or_default(&o->queries_max, QUERIES_DEFAULT);
    uint32_t asked = o->connections_max;
    o->connections_max = limit_third(RLIMIT_NOFILE, limit_third(RLIMIT_NPROC, asked));
    if (o->connections_max < asked)
        kv_logf(o->log, KV_LOG_WARN, "connections_limited",
                "asked=%u allowed=%u why=\"a third of the descriptor or thread limit\"", asked,
                o->connections_max);
}

static kv_status start_daemon(struct http_server *server, struct kv_err *err)
{
    unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
                     MHD_USE_ITC | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
    server->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, server, MHD_OPTION_EXTERNAL_LOGGER, mhd_log, server,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)server->options.connections_max + CONNECTIONS_SLACK,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_CONNECTION_MEMORY_INCREMENT,
        (size_t)8192, MHD_OPTION_THREAD_STACK_SIZE, (size_t)CONNECTION_STACK_BYTES,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        server, MHD_OPTION_URI_LOG_CALLBACK, on_target, server, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes,
        server, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (!server->daemon)
        return kv_fail(err, KV_IO, errno, "the HTTP library did not start: %s", strerror(errno));
    server->no_content = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (!server->no_content)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory starting the server");
    add_common_headers(server, server->no_content);
    return KV_OK;
}

static kv_status check_address(struct http_server *server, struct kv_err *err)
{
    kv_status rc = http_address_parse(server->options.listen, &server->address, err);
    if (rc < 0)
        return rc;
    if (!server->address.loopback && !server->options.auth && !server->options.insecure_listen)
        return kv_fail(
            err, KV_INVALID, 0,
            "refusing to listen on %s without credentials: give --credentials FILE, or --insecure-listen to "
            "allow anyone",
            server->address.text);
    return KV_OK;
}

kv_status http_server_start(const struct http_server_options *options, struct http_server **out,
                            struct kv_err *err)
{
    struct http_server *server = kv_zalloc(1, sizeof *server);
    kv_status rc;
    if (!server)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory starting the server");
    KV_ASSERT(options->n_routes <= HTTP_METRIC_ROUTES_MAX);
    server->options = *options;
    server->listen_fd = server->wake_fd = -1;
    kv_list_init(&server->connections);
    kv_mutex_init(&server->mutex);
    kv_cond_init(&server->watchdog_wake);
    resolve_options(&server->options);
    http_pool_init(&server->budget, server->options.body_budget_bytes);
    http_pool_init(&server->queries, server->options.queries_max);
    KV_TRY(check_address(server, err));
    KV_TRY(http_listen(&server->address, &server->listen_fd, err));
    server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->wake_fd < 0)
        KV_TRY(kv_fail(err, KV_LIMIT, errno, "no descriptor left to start the server"));
    KV_TRY(start_daemon(server, err));
    KV_TRY(kv_thread_start(&server->watchdog, "http-watchdog", 0, watchdog_run, server));
    KV_TRY(kv_thread_start(&server->acceptor, "http-accept", 0, acceptor_run, server));
    *out = server;
    return KV_OK;
out:
    http_server_stop(server, 0);
    http_server_free(server);
    return rc;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->address.port;
}

const char *http_server_address(const struct http_server *server)
{
    return server->address.text;
}

static void wake(struct http_server *server)
{
    uint64_t one = 1;
    if (server->wake_fd >= 0 && write(server->wake_fd, &one, sizeof one) < 0)
        kv_logf(server->options.log, KV_LOG_DEBUG, "wake_failed", "errno=%d", errno);
}

void http_server_stop(struct http_server *server, uint32_t drain_ms)
{
    enum { STEP_MS = 5 };
    server->stopping = true;
    wake(server);
    kv_thread_join(&server->acceptor);
    if (server->listen_fd >= 0)
        close(server->listen_fd);
    server->listen_fd = -1;
    for (uint32_t waited = 0; waited < drain_ms && server->active; waited += STEP_MS)
        kv_clock_sleep_ns(server->options.clock, (uint64_t)STEP_MS * 1000000);
    kv_mutex_lock(&server->mutex);
    server->watchdog_stop = true;
    kv_cond_signal(&server->watchdog_wake);
    kv_mutex_unlock(&server->mutex);
    kv_thread_join(&server->watchdog);
    kv_mutex_lock(&server->mutex);
    for (struct kv_list *l = server->connections.next; l != &server->connections; l = l->next)
        shutdown(KV_CONTAINER(l, struct connection, link)->fd, SHUT_RDWR);
    kv_mutex_unlock(&server->mutex);
    if (server->daemon)
        MHD_stop_daemon(server->daemon);
    server->daemon = NULL;
}

void http_server_free(struct http_server *server)
{
    if (!server)
        return;
    if (server->no_content)
        MHD_destroy_response(server->no_content);
    if (server->wake_fd >= 0)
        close(server->wake_fd);
    http_pool_release(&server->budget);
    http_pool_release(&server->queries);
    kv_cond_release(&server->watchdog_wake);
    kv_mutex_release(&server->mutex);
    kv_free(server);
}
