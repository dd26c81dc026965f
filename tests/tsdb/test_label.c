#include "tsdb/label.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define L(n, v)                                                                                              \
    {                                                                                                        \
        KV_STR(n), KV_STR(v)                                                                                 \
    }

Test(label, sorting_orders_by_name_and_finds_duplicates)
{
    struct ts_label labels[] = {L("b", "1"), L("a", "2"), L("ab", "3"), L("", "4")};
    cr_assert(ts_labels_sort(labels, 4));
    cr_expect_eq(labels[0].name.len, 0);
    cr_expect(kv_slice_equal(labels[1].name, KV_STR("a")));
    cr_expect(kv_slice_equal(labels[2].name, KV_STR("ab")));
    struct ts_label twice[] = {L("x", "1"), L("a", "2"), L("x", "3")};
    cr_expect_not(ts_labels_sort(twice, 3));
    struct ts_label many[200];
    char names[200][8];
    for (size_t i = 0; i < 200; i++) {
        int n = snprintf(names[i], sizeof names[i], "n%03zu", (i * 77) % 200);
        many[i] = (struct ts_label){kv_slice_of(names[i], (size_t)n), KV_STR("v")};
    }
    cr_expect(ts_labels_sort(many, 200));
    for (size_t i = 1; i < 200; i++)
        cr_expect_lt(kv_slice_compare(many[i - 1].name, many[i].name), 0);
}

Test(label, comparing_goes_label_by_label)
{
    struct ts_label a[] = {L("a", "1"), L("b", "2")}, b[] = {L("a", "1"), L("c", "0")}, c[] = {L("a", "2")};
    cr_expect_lt(ts_labels_compare(a, 2, b, 2), 0);
    cr_expect_lt(ts_labels_compare(a, 1, a, 2), 0);
    cr_expect_lt(ts_labels_compare(b, 2, c, 1), 0);
    cr_expect_eq(ts_labels_compare(a, 2, a, 2), 0);
    cr_expect(kv_slice_equal(ts_labels_get(a, 2, KV_STR("b")), KV_STR("2")));
    cr_expect_eq(ts_labels_get(a, 2, KV_STR("z")).len, 0);
}

Test(label, canonical_bytes_come_back)
{
    struct ts_label in[] = {L("__name__", "up"), L("job", "x")}, *out;
    struct kv_buf bytes = {0};
    struct kv_arena arena = {0};
    size_t n;
    cr_assert_eq(ts_labels_encode(in, 2, &bytes), KV_OK);
    cr_assert_eq(ts_labels_decode(kv_buf_slice(&bytes), &arena, &out, &n), KV_OK);
    cr_expect_eq(n, 2);
    cr_expect_eq(ts_labels_compare(in, 2, out, n), 0);
    kv_arena_release(&arena);
    kv_buf_release(&bytes);
}

Test(label, bytes_that_are_not_canonical_are_damage)
{
    static const kv_slice bad[] = {
        KV_STR("\1a"),                                          /* no value */
        KV_STR("\1a\0"),                                        /* empty value */
        KV_STR("\0\1x"),                                        /* empty name */
        KV_STR("\1b\1x\1a\1x"),                                 /* not sorted */
        KV_STR("\1a\1x\1a\1y"),                                 /* twice */
        KV_STR("\5a\1x"),                                       /* past the end */
        KV_STR("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), /* no varint */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct kv_arena arena = {0};
        struct ts_label *out;
        size_t n;
        cr_expect_eq(ts_labels_decode(bad[i], &arena, &out, &n), KV_CORRUPT, "%zu", i);
        kv_arena_release(&arena);
    }
}

Test(label, utf8_is_checked_as_rfc_3629_says)
{
    static const kv_slice good[] = {KV_STR(""),
                                    KV_STR("a"),
                                    KV_STR("\xc2\x80"),
                                    KV_STR("\xe0\xa0\x80"),
                                    KV_STR("\xed\x9f\xbf"),
                                    KV_STR("\xee\x80\x80"),
                                    KV_STR("\xf0\x90\x80\x80"),
                                    KV_STR("\xf4\x8f\xbf\xbf")};
    static const kv_slice bad[] = {KV_STR("\0"),
                                   KV_STR("\x80"),
                                   KV_STR("\xc0\x80"),
                                   KV_STR("\xc1\xbf"),
                                   KV_STR("\xc2"),
                                   KV_STR("\xe0\x9f\xbf"),
                                   KV_STR("\xed\xa0\x80"),
                                   KV_STR("\xf0\x8f\xbf\xbf"),
                                   KV_STR("\xf4\x90\x80\x80"),
                                   KV_STR("\xf5\x80\x80\x80"),
                                   KV_STR("\xff"),
                                   KV_STR("a\xe2\x82")};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        cr_expect(ts_utf8_valid(good[i]), "%zu", i);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect_not(ts_utf8_valid(bad[i]), "%zu", i);
}
