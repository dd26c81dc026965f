/* Decoding arbitrary bytes stays inside the arrays and yields rising times; what decodes encodes back to the
 * same samples, and with a summary of just them. */
#include "kvcore/base/assert.h"
#include "tsdb/chunk/chunk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int64_t times[TS_CHUNK_SAMPLES_MAX], again_times[TS_CHUNK_SAMPLES_MAX];
    static double values[TS_CHUNK_SAMPLES_MAX], again_values[TS_CHUNK_SAMPLES_MAX];
    size_t n, taken, again;
    struct ts_chunk_info info;
    struct ts_chunk_summary told, made;
    kv_status rc = ts_chunk_summary(kv_slice_of(data, size), &info, &told);
    KV_ASSERT(rc < 0 || rc == KV_END || (told.min <= told.first && told.last <= told.max));
    if (ts_chunk_decode(kv_slice_of(data, size), INT64_MIN, INT64_MAX, times, values, &n) < 0 || n == 0)
        return 0;
    for (size_t i = 1; i < n; i++)
        KV_ASSERT(times[i] > times[i - 1]);
    struct kv_buf out = {0};
    KV_ASSERT(ts_chunk_encode(times, values, n, TS_CHUNK_SMALL, &out, &taken) == KV_OK);
    KV_ASSERT(ts_chunk_decode(kv_buf_slice(&out), INT64_MIN, INT64_MAX, again_times, again_values, &again) ==
              KV_OK);
    KV_ASSERT(again == taken);
    KV_ASSERT(memcmp(times, again_times, again * sizeof times[0]) == 0);
    KV_ASSERT(memcmp(values, again_values, again * sizeof values[0]) == 0);
    rc = ts_chunk_summary(kv_buf_slice(&out), &info, &told);
    KV_ASSERT(rc == KV_OK || rc == KV_END);
    KV_ASSERT(rc == KV_END || (ts_summary_make(values, taken, &made) && ts_summary_equal(&told, &made)));
    kv_buf_release(&out);
    return 0;
}
