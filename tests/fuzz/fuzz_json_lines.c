/* JSON lines: any bytes; labels of every row are asked for. */
#include "tests/fuzz/rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_decoder *decoder;
    if (!decoder && http_json_lines_new(&decoder) < 0)
        return 0;
    return fuzz_lines(decoder, 0, fuzz_row, data, size);
}
