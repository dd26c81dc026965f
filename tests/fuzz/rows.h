/* rows.h - what the fuzz targets of decoders share: a sink that asks for every row's labels and looks at each byte of them. */
#ifndef TEST_FUZZ_ROWS_H
#define TEST_FUZZ_ROWS_H

#include "http/decode/decoder.h"
#include "kvcore/base/assert.h"

static inline kv_status fuzz_label(struct ts_label_sink *sink, kv_slice name, kv_slice value)
{
    (void)sink;
    volatile uint8_t touch = 0;
    for (size_t i = 0; i < name.len; i++)
        touch ^= name.data[i];
    for (size_t i = 0; i < value.len; i++)
        touch ^= value.data[i];
    return KV_OK;
}

static inline kv_status fuzz_row(struct http_decode_sink *sink, const struct ts_row *r)
{
    struct ts_label_sink labels = {fuzz_label};
    (void)sink;
    KV_ASSERT(r->n > 0 && r->position > 0 && r->identity[0].len > 0);
    return r->labels(r->labels_ctx, r, &labels);
}

static inline void fuzz_reject(struct http_decode_sink *sink, uint32_t position, enum ts_reject_reason reason,
                               uint64_t samples, const char *text)
{
    (void)sink;
    (void)samples;
    KV_ASSERT(position > 0 && reason != TS_REJECT_NONE && text);
}

/* row: fuzz_row, or one that asserts more and calls it. */
static inline int fuzz_lines(struct http_decoder *decoder, int64_t unit_ns,
                             kv_status (*row)(struct http_decode_sink *sink, const struct ts_row *r),
                             const uint8_t *data, size_t size)
{
    struct http_decode_options options = {.now_ms = 1, .unit_ns = unit_ns};
    struct http_decode_sink sink = {row, fuzz_reject, NULL};
    struct http_decode_report report;
    struct kv_err err;
    kv_status rc = http_decode(decoder, kv_slice_of(data, size), &options, &sink, &report, &err);
    KV_ASSERT(rc == KV_OK || rc == KV_INVALID);
    return 0;
}

#endif
