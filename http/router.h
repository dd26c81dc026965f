/*
 * router.h - which handler answers a path and a method. One table (api/routes.c) is all there is; a path with
 * one {} segment matches any single non-empty segment there.
 *
 * Threads    any: tables are const.
 */
#ifndef HTTP_ROUTER_H
#define HTTP_ROUTER_H

#include "http/reply.h"
#include "http/request.h"

enum http_route_kind {
    HTTP_ROUTE_HEALTH, /* always answered, even over the connection limit and before the store is ready; needs
                          no credentials */
    HTTP_ROUTE_READ,
    HTTP_ROUTE_QUERY, /* READ that takes a place among the concurrent queries */
    HTTP_ROUTE_WRITE,
    HTTP_ROUTE_ADMIN,
    HTTP_ROUTE_KINDS,
};

struct http_app;
struct http_route {
    const char *pattern;
    unsigned methods; /* of enum http_method; HEAD goes with GET */
    enum http_route_kind kind;
    void (*handle)(struct http_app *app, struct http_request *request, struct http_reply *reply);
    size_t body_max; /* 0: a form, HTTP_FORM_LEN_MAX */
    bool influx;     /* errors also carry {"code","message"} and X-Influx-Error */
};

/* The route of a path, whatever the method; NULL when there is none. *arg is what {} matched. */
const struct http_route *http_route_find(const struct http_route *routes, size_t n, kv_slice path,
                                         kv_slice *arg);
/* "GET, HEAD, POST, OPTIONS" of a mask, for Allow. */
void http_route_allow(unsigned methods, char out[64]);

#endif
