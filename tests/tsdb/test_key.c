#include "kvcore/base/prng.h"
#include "tsdb/key.h"

#include <criterion/criterion.h>

Test(key, chunk_keys_order_by_window_series_time_and_sequence)
{
    const struct ts_chunk_key sorted[] = {
        {INT32_MIN, 1, 0, 0},        {-1, ts_ref_of(9, 9), INT64_MAX, 9}, {0, ts_ref_of(1, 2), INT64_MIN, 7},
        {0, ts_ref_of(1, 2), -1, 7}, {0, ts_ref_of(1, 2), 0, 7},          {0, ts_ref_of(1, 2), 0, 8},
        {0, ts_ref_of(1, 3), -5, 1}, {0, ts_ref_of(2, 0), -5, 1},         {1, ts_ref_of(1, 0), 0, 0},
        {INT32_MAX, 0, 0, 0},
    };
    struct ts_key before, key;
    for (size_t i = 0; i < sizeof sorted / sizeof sorted[0]; i++) {
        struct ts_chunk_key back;
        ts_key_chunk(&key, &sorted[i]);
        cr_expect_eq(key.len, TS_KEY_CHUNK_LEN);
        cr_assert_eq(ts_key_chunk_read(ts_key_slice(&key), &back), KV_OK);
        cr_expect(back.window == sorted[i].window && back.ref == sorted[i].ref &&
                  back.first_ms == sorted[i].first_ms && back.seq == sorted[i].seq);
        cr_expect_eq(ts_key_chunk_cut_len(ts_key_slice(&key)), 4);
        if (i > 0)
            cr_expect_lt(kv_slice_compare(ts_key_slice(&before), ts_key_slice(&key)), 0, "%zu", i);
        before = key;
    }
    cr_expect_eq(ts_key_chunk_read(kv_slice_of(key.bytes, key.len - 1u), &(struct ts_chunk_key){0}),
                 KV_CORRUPT);
}

Test(key, windows_are_floored_days)
{
    cr_expect_eq(ts_window_of(0), 0);
    cr_expect_eq(ts_window_of(-1), -1);
    cr_expect_eq(ts_window_of(TS_WINDOW_MS - 1), 0);
    cr_expect_eq(ts_window_of(TS_WINDOW_MS), 1);
    cr_expect_eq(ts_window_of(-TS_WINDOW_MS), -1);
    cr_expect_eq(ts_window_of(-TS_WINDOW_MS - 1), -2);
    cr_expect_eq(ts_window_of(INT64_MAX), INT32_MAX);
    cr_expect_eq(ts_window_of(INT64_MIN), INT32_MIN);
    cr_expect_eq(ts_window_start_ms(-2), -2 * TS_WINDOW_MS);
}

Test(key, texts_come_back_and_keep_their_order)
{
    struct kv_prng prng;
    kv_prng_init(&prng, 3);
    for (int i = 0; i < 20000; i++) {
        uint8_t text[2][8], back[TS_KEY_TEXT_LEN_MAX];
        struct ts_key key[2];
        kv_slice s[2];
        for (int k = 0; k < 2; k++) {
            s[k] = kv_slice_of(text[k], kv_prng_below(&prng, 8));
            for (size_t b = 0; b < s[k].len; b++)
                text[k][b] = (uint8_t)(kv_prng_below(&prng, 3) * 127 + (kv_prng_below(&prng, 2) ? 1 : 0));
            ts_key_kind(&key[k], 'm');
            ts_key_add_text(&key[k], s[k]);
            ts_key_add_u32(&key[k], 77); /* something behind */
            kv_slice in = kv_slice_from(ts_key_slice(&key[k]), 1), raw = {0};
            size_t len = 0;
            bool cut;
            cr_assert_eq(ts_key_take_text(&in, &raw, back, &len, &cut), KV_OK);
            cr_assert(!cut && in.len == 4 && raw.len + 5 == key[k].len);
            cr_assert(kv_slice_equal(kv_slice_of(back, len), s[k]));
        }
        int order = kv_slice_compare(s[0], s[1]),
            keys = kv_slice_compare(ts_key_slice(&key[0]), ts_key_slice(&key[1]));
        cr_assert_eq((order > 0) - (order < 0), (keys > 0) - (keys < 0));
    }
}

Test(key, long_texts_are_cut_and_told_apart)
{
    static uint8_t text[2][5000];
    struct ts_key key[2];
    memset(text, 'x', sizeof text);
    text[1][4999] = 'y';
    for (int k = 0; k < 2; k++)
        ts_key_postings_value(&key[k], kv_slice_of(text[k], 5000), kv_slice_of(text[k], 5000));
    cr_expect_leq(key[0].len + TS_KEY_POSTINGS_TAIL_LEN, KV_KEY_LEN_MAX);
    cr_expect_neq(kv_slice_compare(ts_key_slice(&key[0]), ts_key_slice(&key[1])), 0);
    kv_slice in = kv_slice_from(ts_key_slice(&key[0]), 1);
    size_t len;
    bool cut;
    cr_assert_eq(ts_key_take_text(&in, NULL, NULL, &len, &cut), KV_OK);
    cr_expect(cut && len == TS_KEY_TEXT_LEN_MAX);
    /* The longest text that is not cut. */
    ts_key_kind(&key[0], 'm');
    ts_key_add_text(&key[0], kv_slice_of(text[0], TS_KEY_TEXT_LEN_MAX));
    in = kv_slice_from(ts_key_slice(&key[0]), 1);
    cr_assert_eq(ts_key_take_text(&in, NULL, NULL, &len, &cut), KV_OK);
    cr_expect(!cut && len == TS_KEY_TEXT_LEN_MAX && in.len == 0);
}

Test(key, damaged_texts_are_refused)
{
    static const kv_slice bad[] = {KV_STR(""),
                                   KV_STR("a"),
                                   KV_STR("a\0"),
                                   KV_STR("a\0\x02"),
                                   KV_STR("a\0\1hash..."),
                                   KV_STR("a\0\1sixteen bytes ..")};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        kv_slice in = bad[i];
        size_t len;
        bool cut;
        cr_expect_eq(ts_key_take_text(&in, NULL, NULL, &len, &cut), KV_CORRUPT, "%zu", i);
    }
}

Test(key, successors_bound_a_prefix)
{
    struct ts_key key = {3, {'p', 0x01, 0xff}}, none = {2, {0xff, 0xff}};
    cr_assert(ts_key_successor(&key));
    cr_expect(kv_slice_equal(ts_key_slice(&key), KV_STR("p\x02")));
    cr_expect_not(ts_key_successor(&none));
    cr_expect_eq(none.len, 0);
}

Test(key, tombstones_and_index_keys_come_back)
{
    struct ts_tombstone in = {-3, ts_ref_of(4, 5), 99, -1000, 2000}, out;
    struct ts_key key;
    uint8_t value[TS_TOMBSTONE_VALUE_LEN];
    ts_key_tombstone(&key, &in);
    ts_tombstone_value(value, &in);
    cr_assert_eq(ts_tombstone_read(ts_key_slice(&key), kv_slice_of(value, sizeof value), &out), KV_OK);
    cr_expect(out.window == -3 && out.ref == in.ref && out.seq == 99 && out.from_ms == -1000 &&
              out.to_ms == 2000);
    in.from_ms = 3000;
    ts_tombstone_value(value, &in);
    cr_expect_eq(ts_tombstone_read(ts_key_slice(&key), kv_slice_of(value, sizeof value), &out), KV_CORRUPT);

    struct ts_activity_key a = {-7, 12, 3}, a2;
    ts_key_activity(&key, &a);
    cr_assert_eq(ts_key_activity_read(ts_key_slice(&key), &a2), KV_OK);
    cr_expect(a2.window == -7 && a2.metric == 12 && a2.batch == 3);

    struct ts_postings_key p = {5, 6, 7}, p2;
    ts_key_postings_value(&key, KV_STR("job"), KV_STR("x"));
    ts_key_postings_tail(&key, &p);
    cr_assert_eq(ts_key_postings_tail_read(ts_key_slice(&key), &p2), KV_OK);
    cr_expect(p2.metric == 5 && p2.batch == 6 && p2.first == 7);
    uint64_t ref;
    ts_key_labels(&key, ts_ref_of(8, 9));
    cr_assert_eq(ts_key_labels_read(ts_key_slice(&key), &ref), KV_OK);
    cr_expect_eq(ref, ts_ref_of(8, 9));
}
