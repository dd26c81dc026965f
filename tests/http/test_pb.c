#include "http/pb.h"

#include <criterion/criterion.h>

Test(pb, walks_fields_of_every_type)
{
    static const uint8_t bytes[] = {0x08, 0x96, 0x01, 0x11, 1,   2,   3,    4, 5, 6, 7,
                                    8,    0x1a, 3,    'a',  'b', 'c', 0x25, 1, 0, 0, 0};
    struct http_pb pb;
    struct http_pb_field f;
    http_pb_init(&pb, kv_slice_of(bytes, sizeof bytes));
    cr_assert_eq(http_pb_next(&pb, &f), KV_OK);
    cr_assert(f.number == 1 && f.type == HTTP_PB_VARINT && f.value == 150);
    cr_assert_eq(http_pb_next(&pb, &f), KV_OK);
    cr_assert(f.number == 2 && f.type == HTTP_PB_FIXED64 && f.value == 0x0807060504030201);
    cr_assert_eq(http_pb_next(&pb, &f), KV_OK);
    cr_assert(f.number == 3 && kv_slice_equal(f.bytes, KV_STR("abc")));
    cr_assert_eq(http_pb_next(&pb, &f), KV_OK);
    cr_assert(f.number == 4 && f.type == HTTP_PB_FIXED32 && f.value == 1);
    cr_assert_eq(http_pb_next(&pb, &f), KV_END);
    cr_assert_eq(http_pb_next(&pb, &f), KV_END);
}

Test(pb, says_what_is_wrong_and_where)
{
#define CASE(why, text)                                                                                      \
    {                                                                                                        \
        why, (const uint8_t *)("" text), sizeof(text) - 1                                                    \
    }
    static const struct {
        const char *why;
        const uint8_t *bytes;
        size_t n;
    } cases[] = {
        CASE("truncated varint", "\x08"),
        CASE("truncated varint", "\x08\x80"),
        CASE("varint longer than 10 bytes", "\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
        CASE("varint longer than 10 bytes", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
        CASE("length beyond the end of the message", "\x0a\x05"
                                                     "abc"),
        CASE("length beyond the end of the message", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        CASE("truncated number", "\x09\x01\x02"),
        CASE("truncated number", "\x0d\x01"),
        CASE("group (wire type 3 or 4)", "\x0b\x0c"),
        CASE("group (wire type 3 or 4)", "\x0c"),
        CASE("unknown wire type", "\x0e"),
        CASE("unknown wire type", "\x0f"),
        CASE("field number out of range", "\x00"),
        CASE("field number out of range", "\x80\x80\x80\x80\x10\x00"),
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct http_pb pb;
        struct http_pb_field f;
        http_pb_init(&pb, kv_slice_of(cases[i].bytes, cases[i].n));
        cr_assert_eq(http_pb_next(&pb, &f), KV_INVALID, "case %zu", i);
        cr_assert_str_eq(pb.why, cases[i].why, "case %zu", i);
        cr_assert(http_pb_offset(&pb) <= cases[i].n);
    }
}
