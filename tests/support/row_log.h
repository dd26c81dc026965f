/*
 * row_log.h - a decode sink that writes down what it was given, one line a row, reject or family, so tests
 * compare text:
 *
 *     1 {__name__="cpu_idle",host="a"} 1500@12.5 1501@13
 *     reject 2 malformed 1 line 2:4: ...
 *     metadata up gauge "help" "unit"
 *
 * A row's exemplars follow its samples: #{id="x"}1500@12.5.
 * Labels are sorted by name, __name__ first; samples stand in the row's order. Label sets a store would
 * refuse end in BAD LABELS.
 */
#ifndef ROW_LOG_H
#define ROW_LOG_H

#include "http/decode/decoder.h"

struct row_log {
    struct http_decode_sink sink;
    struct kv_buf text;
    struct http_decode_report report;
    struct kv_err err;
    size_t fail_at; /* the n-th row answers KV_NO_MEMORY; 0: none */
    size_t rows;
};

void row_log_init(struct row_log *log);
void row_log_release(struct row_log *log);
/* Decodes body and returns the log as NUL-terminated text; good until the next call. *rc may be NULL. */
const char *row_log_decode(struct row_log *log, struct http_decoder *decoder, kv_slice body,
                           const struct http_decode_options *options, kv_status *rc);

#endif
