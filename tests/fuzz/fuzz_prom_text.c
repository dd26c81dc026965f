/* Prometheus text and OpenMetrics: any bytes; labels of every row are asked for. */
#include "tests/fuzz/rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_decoder *decoder;
    if (!decoder && http_prom_text_new(&decoder) < 0)
        return 0;
    return fuzz_lines(decoder, size % 3 ? 1000000000 : 1000000, fuzz_row, data, size);
}
