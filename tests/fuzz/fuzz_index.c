/* What the index reads back from tables: postings, mixed ones, canonical labels, texts in keys. The first byte says which. */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "tsdb/key.h"
#include "tsdb/label.h"
#include "tsdb/postings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static kv_status reencode(void *ctx, uint32_t metric, uint16_t batch, const uint16_t *members, size_t n)
{
    (void)metric, (void)batch;
    return ts_postings_encode(members, n, ctx);
}

/* Decoded two ways, encoded and decoded again: the same members. */
static void fuzz_postings(kv_slice in)
{
    static uint64_t bits[TS_BATCH_WORDS], again[TS_BATCH_WORDS];
    struct ts_refset set = {0};
    struct kv_buf bytes = {0};
    bool meets;
    memset(bits, 0, sizeof bits);
    memset(again, 0, sizeof again);
    kv_status rc = ts_postings_decode(in, bits);
    KV_ASSERT(rc == ts_refset_add_encoded(&set, 1, 0, in));
    if (rc == KV_OK) {
        KV_ASSERT(ts_refset_meets_encoded(&set, 1, 0, in, &meets) == KV_OK && meets);
        KV_ASSERT(ts_refset_each(&set, reencode, &bytes) == KV_OK);
        KV_ASSERT(bytes.len <= in.len || bytes.len <= TS_BATCH_BYTES_MAX);
        KV_ASSERT(ts_postings_decode(kv_buf_slice(&bytes), again) == KV_OK);
        KV_ASSERT(memcmp(bits, again, sizeof bits) == 0);
    }
    ts_refset_release(&set);
    kv_buf_release(&bytes);
}

/* Read part by part, written again and read: the same bytes, for what a reader takes has one form only but for its lists. */
static void fuzz_mixed(kv_slice in)
{
    static uint16_t members[TS_BATCH_SIZE];
    struct ts_mixed_writer written[2] = {{.first = 0}};
    kv_status rc = KV_OK;
    ts_mixed_begin(&written[0]);
    ts_mixed_begin(&written[1]);
    for (int i = 0; i < 2 && rc == KV_OK; i++) {
        struct ts_mixed_reader r;
        struct ts_mixed_part part = {0};
        size_t n;
        rc = ts_mixed_open(&r, i ? kv_buf_slice(&written[0].bytes) : in);
        while (rc == KV_OK && (rc = ts_mixed_next(&r, &part)) == KV_OK &&
               (rc = ts_postings_members(ts_mixed_list(&part), members, &n)) == KV_OK)
            KV_ASSERT(ts_mixed_add(&written[i], part.metric, part.batch, members, n) == KV_OK);
        KV_ASSERT(i == 0 || rc == KV_END);
        rc = rc == KV_END ? KV_OK : rc;
    }
    KV_ASSERT(rc < 0 || kv_slice_equal(kv_buf_slice(&written[0].bytes), kv_buf_slice(&written[1].bytes)));
    ts_mixed_release(&written[0]);
    ts_mixed_release(&written[1]);
}

static void fuzz_labels(kv_slice in)
{
    struct kv_arena arena = {0};
    struct kv_buf bytes = {0};
    struct ts_label *labels;
    size_t n;
    if (ts_labels_decode(in, &arena, &labels, &n) == KV_OK) {
        KV_ASSERT(ts_labels_sort(labels, n));
        KV_ASSERT(ts_labels_encode(labels, n, &bytes) == KV_OK);
        struct ts_label *again;
        size_t n_again;
        KV_ASSERT(ts_labels_decode(kv_buf_slice(&bytes), &arena, &again, &n_again) == KV_OK);
        KV_ASSERT(ts_labels_compare(labels, n, again, n_again) == 0);
    }
    kv_buf_release(&bytes);
    kv_arena_release(&arena);
}

static void fuzz_text(kv_slice in)
{
    uint8_t text[TS_KEY_TEXT_LEN_MAX];
    struct ts_key key;
    kv_slice raw;
    size_t len;
    bool cut;
    if (ts_key_take_text(&in, &raw, text, &len, &cut) < 0 || cut)
        return;
    ts_key_kind(&key, 'm');
    ts_key_add_text(&key, kv_slice_of(text, len));
    KV_ASSERT(kv_slice_equal(kv_slice_from(ts_key_slice(&key), 1), raw));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    kv_slice in = {data + 1, size - 1};
    if (data[0] == 255)
        fuzz_mixed(in);
    else if (data[0] % 3 == 0)
        fuzz_postings(in);
    else if (data[0] % 3 == 1)
        fuzz_labels(in);
    else
        fuzz_text(in);
    return 0;
}
