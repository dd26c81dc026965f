/* The application record behind its section: bodies and deletes, and the sample coding inside. */
#include "tsdb/record.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_body(kv_slice body)
{
    struct ts_record_reader reader;
    uint64_t ref;
    uint32_t n;
    if (ts_record_open(body, &reader) < 0)
        return;
    while (ts_record_series(&reader, &ref, &n) == KV_OK)
        while (n-- > 0)
            if (ts_record_sample(&reader) < 0)
                return;
}

static void walk_delete(kv_slice record)
{
    struct ts_record_delete reader;
    uint64_t ref, before = 0;
    if (ts_record_open_delete(record, &reader) < 0)
        return;
    while (ts_record_deleted(&reader, &ref) == KV_OK) {
        if (ref <= before)
            abort();
        before = ref;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    kv_slice rest = {data + 1, size - 1};
    if (data[0] == TS_RECORD_DELETE)
        walk_delete(rest);
    else
        walk_body(rest);
    return 0;
}
