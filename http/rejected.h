/*
 * rejected.h - what was refused lately, by whom it was sent and why: a ring of fixed size, so its memory is bounded
 * whatever is refused. It is what an operator reads when samples are missing; nothing is logged.
 *
 * Threads    any; one lock, held to copy one entry.
 * Ownership  everything is copied, and cut to fit.
 */
#ifndef HTTP_REJECTED_H
#define HTTP_REJECTED_H

#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"
#include "tsdb/ts.h"

enum { HTTP_REJECTED_KEPT = 1024 }; /* 512 bytes each: half a MiB in all, taken with the first one */

struct http_rejection {
    uint64_t number; /* counted from 1, never again */
    int64_t time_ms;
    uint64_t samples;
    const char *protocol; /* static: "prom_write", "influx" */
    enum ts_reject_reason reason;
    uint32_t position; /* of the line or series in its body, from 1; 0: the whole body */
    char sender[64], agent[160], text[240];
};

struct http_rejected;
KV_MUST kv_status http_rejected_new(struct http_rejected **out);
void http_rejected_free(struct http_rejected *rejected); /* NULL is fine */
/* Keeps a copy, in the oldest one's place if there is none free; number is set. Without memory it is only counted. */
void http_rejected_add(struct http_rejected *rejected, const struct http_rejection *rejection);
/* The newest with a number below `before` (UINT64_MAX: any) and that reason (TS_REJECT_NONE: any). False: none. */
bool http_rejected_before(struct http_rejected *rejected, uint64_t before, enum ts_reject_reason reason,
                          struct http_rejection *out);
uint64_t http_rejected_count(struct http_rejected *rejected); /* ever added */
/* out, cut inside no character, NUL behind. */
void http_rejected_text(kv_slice text, char *out, size_t size);

#endif
