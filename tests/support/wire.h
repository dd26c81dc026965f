/*
 * wire.h - what tests and benches need to speak to a running server: bodies of remote_write, a child process,
 * HTTP by libcurl. Every function exits the program with a message when something that cannot fail fails.
 */
#ifndef WIRE_H
#define WIRE_H

#include "kvcore/base/buf.h"

#include <curl/curl.h>
#include <sys/types.h>

/* One remote_write 1.0 TimeSeries appended to a WriteRequest. labels: name, value, name, value, ..., sorted
 * by name. */
void wire_rw_series(struct kv_buf *request, const char *const *labels, size_t n_labels,
                    const int64_t *times_ms, const double *values, size_t n);
/* The request as a snappy block. */
void wire_snappy(const struct kv_buf *request, struct kv_buf *out);

/* POSTs body (NULL: GET) with headers; appends the answer's body to *reply (NULL: thrown away). The HTTP
 * status, or 0 when there was none. */
long wire_http(CURL *curl, const char *url, struct curl_slist *headers, const struct kv_buf *body,
               struct kv_buf *reply);
struct curl_slist *wire_rw_headers(void);
/* Percent-encodes text for a query string. */
void wire_escape(const char *text, struct kv_buf *out);

/* A free port of 127.0.0.1, as the kernel picks it. */
unsigned wire_free_port(void);
/* Starts argv (NULL-terminated) with stdout and stderr appended to the file log. */
pid_t wire_spawn(char *const *argv, const char *log);
/* Asks url until it answers 200; false when the child ended or seconds passed. */
bool wire_wait_ready(const char *url, pid_t child, double seconds);
double wire_now(void); /* monotonic seconds */

#endif
