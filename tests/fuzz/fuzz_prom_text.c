/* Prometheus text and OpenMetrics: any bytes; labels of every row are asked for. */
#include "kvcore/base/assert.h"
#include "http/decode/decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static kv_status add(struct ts_label_sink *sink, kv_slice name, kv_slice value)
{
    (void)sink;
    volatile uint8_t touch = 0;
    for (size_t i = 0; i < name.len; i++)
        touch ^= name.data[i];
    for (size_t i = 0; i < value.len; i++)
        touch ^= value.data[i];
    return KV_OK;
}

static kv_status row(struct http_decode_sink *sink, const struct ts_row *r)
{
    struct ts_label_sink labels = {add};
    (void)sink;
    KV_ASSERT(r->n > 0 && r->position > 0 && r->identity[0].len > 0);
    return r->labels(r->labels_ctx, r, &labels);
}

static void reject(struct http_decode_sink *sink, uint32_t position, enum ts_reject_reason reason,
                   uint64_t samples, const char *text)
{
    (void)sink;
    (void)samples;
    KV_ASSERT(position > 0 && reason != TS_REJECT_NONE && text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_decoder *decoder;
    static const int64_t units[] = {1000000, 1000000000, 1000000000};
    if (!decoder && http_prom_text_new(&decoder) < 0)
        return 0;
    struct http_decode_options options = {.now_ms = 1, .unit_ns = units[size % 3]};
    struct http_decode_sink sink = {row, reject, NULL};
    struct http_decode_report report;
    struct kv_err err;
    kv_status rc = http_decode(decoder, kv_slice_of(data, size), &options, &sink, &report, &err);
    KV_ASSERT(rc == KV_OK || rc == KV_INVALID);
    return 0;
}
