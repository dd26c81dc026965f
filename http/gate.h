/*
 * gate.h - what a request line and its headers must be before anything else looks at them. libmicrohttpd 0.9.75 accepts a good deal that
 * lets two parties disagree about where a request ends; none of it passes here. Pure: strings in, verdict out.
 *
 * Threads    any; nothing allocates.
 */
#ifndef HTTP_GATE_H
#define HTTP_GATE_H

#include "http/request.h"

enum { HTTP_HEADERS_MAX = 200 };

struct http_gate {
    kv_slice method, target, version; /* as they were sent */
    const struct http_pair *headers;  /* names and values as they were sent */
    size_t n_headers;
};
struct http_verdict {
    unsigned status; /* 0: passes */
    bool close;      /* where the request ends is in doubt: close behind the reply */
    const char *why; /* static */
};

struct http_verdict http_gate_check(const struct http_gate *gate);
/* GET, HEAD, ... or HTTP_OTHER; methods are told apart by case. */
enum http_method http_method_of(kv_slice name);

#endif
