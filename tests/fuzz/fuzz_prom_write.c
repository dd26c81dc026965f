/* remote_write 1.0: any bytes as an inflated WriteRequest; labels of every row are asked for. */
#include "tests/fuzz/rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static kv_status row(struct http_decode_sink *sink, const struct ts_row *r)
{
    struct ts_label_sink labels = {fuzz_label};
    (void)sink;
    volatile double sum = 0;
    for (size_t i = 0; i < r->n; i++)
        sum += r->values[i] + (double)r->times_ms[i];
    for (size_t i = 0; i < r->n_exemplars; i++)
        for (size_t k = 0; k < r->exemplars[i].n_labels; k++)
            (void)fuzz_label(&labels, r->exemplars[i].labels[k].name, r->exemplars[i].labels[k].value);
    kv_status rc = r->labels(r->labels_ctx, r, &labels);
    return rc == KV_INVALID ? KV_OK : rc; /* a row's own fault */
}

static void reject(struct http_decode_sink *sink, uint32_t position, enum ts_reject_reason reason,
                   uint64_t samples, const char *text)
{
    (void)sink;
    (void)reason;
    KV_ASSERT(position > 0 && samples > 0 && text);
}

static kv_status metadata(struct http_decode_sink *sink, kv_slice family, kv_slice type, kv_slice help,
                          kv_slice unit)
{
    (void)sink;
    (void)help;
    (void)unit;
    KV_ASSERT(family.len && type.len);
    return KV_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_decoder *decoder;
    if (!decoder && http_prom_write_new(&decoder) < 0)
        return 0;
    struct http_decode_options options = {.now_ms = 1};
    struct http_decode_sink sink = {row, reject, metadata};
    struct http_decode_report report;
    struct kv_err err;
    kv_status rc = http_decode(decoder, kv_slice_of(data, size), &options, &sink, &report, &err);
    KV_ASSERT(rc == KV_OK || rc == KV_INVALID || rc == KV_LIMIT || rc == KV_NO_MEMORY);
    return 0;
}
