/* Parsing arbitrary bytes is safe, and what parses prints to something that parses and prints the same. */
#include "kvcore/base/assert.h"
#include "tsdb/promql/parse.h"
#include "tsdb/promql/print.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ts_query_err err;
    struct kv_arena arena = {0}, again_arena = {0};
    struct ts_tree tree, again = {0};
    struct kv_buf once = {0}, twice = {0};
    if (ts_parse_selector(kv_slice_of(data, size), &arena, &tree, &err) < 0)
        KV_ASSERT(err.text[0] != '\0');
    ts_tree_release(&tree);
    kv_status rc = ts_parse(kv_slice_of(data, size), 0, &arena, &tree, &err);
    if (rc < 0) {
        KV_ASSERT(err.text[0] != '\0');
    } else {
        KV_ASSERT(ts_print(tree.root, &once) == KV_OK);
        /* a canonical form may be longer than what was written: past the limit it is no query any more */
        rc = once.len <= TS_QUERY_LEN_MAX ? ts_parse(kv_buf_slice(&once), 0, &again_arena, &again, &err)
                                          : KV_LIMIT;
        KV_ASSERT(rc == KV_OK || once.len > TS_QUERY_LEN_MAX);
        if (rc == KV_OK) {
            KV_ASSERT(ts_print(again.root, &twice) == KV_OK);
            KV_ASSERT(kv_slice_equal(kv_buf_slice(&once), kv_buf_slice(&twice)));
        }
        rc = ts_durations_resolve(&tree, 0, 3600000, 15000, &err);
        KV_ASSERT(rc == KV_OK || err.text[0] != '\0');
    }
    ts_tree_release(&tree);
    ts_tree_release(&again);
    kv_arena_release(&arena);
    kv_arena_release(&again_arena);
    kv_buf_release(&once);
    kv_buf_release(&twice);
    return 0;
}
