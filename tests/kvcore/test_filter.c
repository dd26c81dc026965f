#include "kvcore/sst/filter.h"

#include "kvcore/base/coding.h"

#include <criterion/criterion.h>

static kv_slice number_key(uint8_t bytes[8], uint64_t n)
{
    kv_put_be64(bytes, n);
    return kv_slice_of(bytes, 8);
}

static void build(uint64_t keys, struct kv_buf *out)
{
    struct kv_filter_build filter = {0};
    uint8_t bytes[8];
    for (uint64_t i = 0; i < keys; i++) {
        cr_assert_eq(kv_filter_build_add(&filter, number_key(bytes, i * 3)), KV_OK);
        cr_assert_eq(kv_filter_build_add(&filter, number_key(bytes, i * 3)), KV_OK);
    }
    cr_assert_eq(kv_filter_build_finish(&filter, out), KV_OK);
    kv_filter_build_release(&filter);
}

Test(filter, holds_every_key_and_lets_few_others_pass)
{
    for (uint64_t keys = 1; keys <= 100000; keys *= 10) {
        struct kv_buf bits = {0};
        uint8_t bytes[8];
        uint64_t passed = 0;
        build(keys, &bits);
        kv_slice filter = kv_buf_slice(&bits);
        cr_assert_eq(kv_filter_check(filter), KV_OK);
        cr_assert_leq(filter.len, keys * KV_FILTER_BITS_PER_KEY / 8 + 80, "a key added twice counts once");
        for (uint64_t i = 0; i < keys; i++)
            cr_assert(kv_filter_may_hold(filter, number_key(bytes, i * 3)));
        for (uint64_t i = 0; i < 100000; i++)
            passed += kv_filter_may_hold(filter, number_key(bytes, i * 3 + 1));
        cr_assert_lt(passed, 2500, "%llu of 100000 absent keys pass with %llu keys",
                     (unsigned long long)passed, (unsigned long long)keys);
        kv_buf_release(&bits);
    }
}

Test(filter, bytes_of_another_shape_are_refused)
{
    struct kv_buf bits = {0};
    build(100, &bits);
    for (size_t len = 0; len < bits.len; len++) {
        kv_slice cut = kv_slice_of(bits.data, len);
        cr_assert_lt(kv_filter_check(cut), 0);
    }
    cr_assert_eq(kv_filter_check(kv_slice_of(bits.data, (size_t)KV_FILTER_BYTES_MAX + 64 + 2)), KV_CORRUPT,
                 "too long");
    bits.data[bits.len - 1]++;
    cr_assert_eq(kv_filter_check(kv_buf_slice(&bits)), KV_TOO_NEW);
    bits.data[bits.len - 1]--;
    bits.data[bits.len - 2]++;
    cr_assert_eq(kv_filter_check(kv_buf_slice(&bits)), KV_CORRUPT);
    kv_buf_release(&bits);
}

Test(filter, one_of_no_keys_is_a_filter)
{
    struct kv_buf bits = {0};
    build(0, &bits);
    cr_assert_eq(kv_filter_check(kv_buf_slice(&bits)), KV_OK);
    cr_assert_not(kv_filter_may_hold(kv_buf_slice(&bits), KV_STR("any")));
    kv_buf_release(&bits);
}
