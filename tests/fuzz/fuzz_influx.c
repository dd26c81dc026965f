/* Line protocol: any bytes, three precisions; labels of every row are asked for. */
#include "tests/fuzz/rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static kv_status row(struct http_decode_sink *sink, const struct ts_row *r)
{
    KV_ASSERT(r->n == 1 && r->identity[1].len > 0);
    return fuzz_row(sink, r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_decoder *decoder;
    static const int64_t units[] = {1, 1000000, 3600000000000};
    if (!decoder && http_influx_new(&decoder) < 0)
        return 0;
    return fuzz_lines(decoder, units[size % 3], row, data, size);
}
