/* Content codings: the first byte chooses one, the rest is the body; output is bounded to 1 MiB. */
#include "kvcore/base/assert.h"
#include "http/inflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MAX = 1 << 20 };
    static struct http_inflater *inflater;
    static struct kv_buf out;
    if (size == 0 || (!inflater && http_inflater_new(&inflater) < 0))
        return 0;
    enum http_coding coding = (enum http_coding)(HTTP_GZIP + data[0] % 4);
    struct kv_err err;
    kv_status rc = http_inflate(inflater, coding, kv_slice_of(data + 1, size - 1), MAX, NULL, &out, &err);
    KV_ASSERT(rc == KV_OK || rc == KV_INVALID || rc == KV_LIMIT || rc == KV_NO_MEMORY);
    KV_ASSERT(rc != KV_OK || out.len <= MAX);
    return 0;
}
