#include "http/inflate.h"

#include <criterion/criterion.h>
#include <snappy-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

static struct http_inflater *inflater;
static struct kv_buf out;
static struct kv_err err;
static uint8_t packed[1 << 20];

static void begin(void)
{
    cr_assert_eq(http_inflater_new(&inflater), KV_OK);
}
static void end(void)
{
    http_inflater_free(inflater);
    kv_buf_release(&out);
}
TestSuite(inflate, .init = begin, .fini = end);

enum { FORM_GZIP = 31, FORM_ZLIB = 15, FORM_RAW = -15 };

static size_t deflated(int window_bits, kv_slice in, uint8_t *to, size_t room)
{
    z_stream z = {0};
    cr_assert_eq(deflateInit2(&z, 6, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)in.data;
    z.avail_in = (uInt)in.len;
    z.next_out = to;
    z.avail_out = (uInt)room;
    cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t n = room - z.avail_out;
    deflateEnd(&z);
    return n;
}

static size_t packed_as(enum http_coding coding, kv_slice in)
{
    size_t n = sizeof packed;
    switch (coding) {
    case HTTP_GZIP:
        return deflated(FORM_GZIP, in, packed, sizeof packed);
    case HTTP_DEFLATE:
        return deflated(FORM_ZLIB, in, packed, sizeof packed);
    case HTTP_SNAPPY:
        cr_assert_eq(snappy_compress((const char *)in.data, in.len, (char *)packed, &n), SNAPPY_OK);
        return n;
    default:
        n = ZSTD_compress(packed, sizeof packed, in.data, in.len, 3);
        cr_assert(!ZSTD_isError(n));
        return n;
    }
}

static kv_status inflated(enum http_coding coding, size_t n, size_t max)
{
    err = (struct kv_err){0};
    return http_inflate(inflater, coding, kv_slice_of(packed, n), max, NULL, &out, &err);
}

static const enum http_coding codings[] = {HTTP_GZIP, HTTP_DEFLATE, HTTP_SNAPPY, HTTP_ZSTD};

Test(inflate, every_coding_gives_back_what_went_in)
{
    static uint8_t bytes[300000];
    for (size_t size = 0; size <= sizeof bytes; size = size * 3 + 1) {
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)(i * i >> 3);
        for (size_t c = 0; c < 4; c++) {
            size_t n = packed_as(codings[c], kv_slice_of(bytes, size));
            cr_assert_eq(inflated(codings[c], n, 1 << 20), KV_OK, "coding %zu size %zu: %s", c, size,
                         err.text);
            cr_assert(kv_slice_equal(kv_buf_slice(&out), kv_slice_of(bytes, size)));
            cr_assert_eq(inflated(codings[c], n, size), KV_OK, "exactly at the limit: %s", err.text);
            if (size)
                cr_assert_eq(inflated(codings[c], n, size - 1), KV_LIMIT, "one over: %s", err.text);
        }
    }
}

Test(inflate, truncated_bodies_are_refused_at_every_length)
{
    for (size_t c = 0; c < 4; c++) {
        size_t n = packed_as(codings[c],
                             KV_STR("some text that is long enough to be worth packing, packing, packing"));
        for (size_t cut = 0; cut < n; cut++)
            cr_assert_eq(inflated(codings[c], cut, 1 << 20), KV_INVALID, "coding %zu cut at %zu", c, cut);
    }
}

Test(inflate, bytes_behind_the_end_are_refused)
{
    for (size_t c = 0; c < 4; c++) {
        size_t n = packed_as(codings[c], KV_STR("some text, some text, some text"));
        memset(packed + n, 'x', 10);
        cr_assert_eq(inflated(codings[c], n + 10, 1 << 20), KV_INVALID, "coding %zu", c);
    }
}

Test(inflate, a_bad_checksum_is_refused)
{
    size_t n = packed_as(HTTP_GZIP, KV_STR("some text"));
    packed[n - 6] ^= 1; /* of the crc */
    cr_assert_eq(inflated(HTTP_GZIP, n, 1 << 20), KV_INVALID);
    n = packed_as(HTTP_DEFLATE, KV_STR("some text"));
    packed[n - 1] ^= 1; /* of the adler sum */
    cr_assert_eq(inflated(HTTP_DEFLATE, n, 1 << 20), KV_INVALID);
}

Test(inflate, gzip_members_follow_one_another)
{
    size_t n = deflated(FORM_GZIP, KV_STR("one,"), packed, sizeof packed);
    n += deflated(FORM_GZIP, KV_STR("two"), packed + n, sizeof packed - n);
    cr_assert_eq(inflated(HTTP_GZIP, n, 1 << 20), KV_OK);
    cr_assert(kv_slice_equal(kv_buf_slice(&out), KV_STR("one,two")));
    cr_assert_eq(inflated(HTTP_GZIP, n, 6), KV_LIMIT);
}

Test(inflate, deflate_may_come_without_its_header)
{
    size_t n = deflated(FORM_RAW, KV_STR("raw raw raw raw"), packed, sizeof packed);
    cr_assert_eq(inflated(HTTP_DEFLATE, n, 1 << 20), KV_OK);
    cr_assert(kv_slice_equal(kv_buf_slice(&out), KV_STR("raw raw raw raw")));
}

Test(inflate, bombs_stop_at_the_limit)
{
    enum { BOMB = 80 << 20, LIMIT = 1 << 20 };
    uint8_t *zeros = calloc(1, BOMB);
    size_t n = packed_as(HTTP_GZIP, kv_slice_of(zeros, BOMB));
    cr_assert(n < 100000);
    cr_assert_eq(inflated(HTTP_GZIP, n, LIMIT), KV_LIMIT);
    cr_assert(out.capacity <= 2 * LIMIT);
    n = packed_as(HTTP_ZSTD, kv_slice_of(zeros, BOMB));
    cr_assert_eq(inflated(HTTP_ZSTD, n, LIMIT), KV_LIMIT);
    cr_assert(out.capacity <= 2 * LIMIT);
    free(zeros);
}

Test(inflate, snappy_that_claims_too_much_is_refused_before_it_is_inflated)
{
    memcpy(packed, "\x80\x80\x80\x80\x08", 5); /* 2 GiB out of five bytes */
    cr_assert_eq(inflated(HTTP_SNAPPY, 5, 64 << 20), KV_LIMIT);
    memcpy(packed, "\x80\x80\x80\x01\x00", 5); /* 2 MiB out of five bytes */
    cr_assert_eq(inflated(HTTP_SNAPPY, 5, 64 << 20), KV_INVALID);
    cr_assert(strstr(err.text, "claims 2097152 bytes out of 5"), "%s", err.text);
    cr_assert_eq(out.capacity, 0);
}

Test(inflate, snappy_framing_is_told_apart)
{
    memcpy(packed, "\xff\x06\x00\x00sNaPpY", 10);
    cr_assert_eq(inflated(HTTP_SNAPPY, 10, 1 << 20), KV_INVALID);
    cr_assert(strstr(err.text, "framing"));
}

Test(inflate, zstd_with_a_dictionary_a_wide_window_or_skippable_frames_is_refused)
{
    memcpy(packed, "\x50\x2a\x4d\x18\x01\x00\x00\x00x", 9);
    cr_assert_eq(inflated(HTTP_ZSTD, 9, 1 << 20), KV_INVALID);
    cr_assert(strstr(err.text, "skippable"));
    memcpy(packed, "\x28\xb5\x2f\xfd\x21\x07\x01\x01\x00\x00x",
           11); /* one segment, dictionary 7, one raw byte */
    cr_assert_eq(inflated(HTTP_ZSTD, 11, 1 << 20), KV_INVALID);
    cr_assert(strstr(err.text, "dictionary"), "%s", err.text);
    ZSTD_CCtx *c = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, HTTP_ZSTD_WINDOW_LOG_MAX + 1);
    ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, 0);
    ZSTD_inBuffer in = {"text", 4, 0};
    ZSTD_outBuffer to = {packed, sizeof packed, 0};
    while (ZSTD_compressStream2(c, &to, &in, ZSTD_e_flush) != 0)
        ;
    while (ZSTD_compressStream2(c, &to, &in, ZSTD_e_end) != 0)
        ;
    ZSTD_freeCCtx(c);
    cr_assert_eq(inflated(HTTP_ZSTD, to.pos, 1 << 20), KV_INVALID);
}

Test(inflate, zstd_without_a_size_in_its_header_is_read)
{
    ZSTD_CCtx *c = ZSTD_createCCtx();
    ZSTD_inBuffer in = {"text text text", 14, 0};
    ZSTD_outBuffer to = {packed, sizeof packed, 0};
    while (ZSTD_compressStream2(c, &to, &in, ZSTD_e_flush) != 0)
        ;
    while (ZSTD_compressStream2(c, &to, &in, ZSTD_e_end) != 0)
        ;
    ZSTD_freeCCtx(c);
    cr_assert_eq(inflated(HTTP_ZSTD, to.pos, 14), KV_OK);
    cr_assert_eq(inflated(HTTP_ZSTD, to.pos, 13), KV_LIMIT);
}

struct payer {
    size_t paid, may;
};
static kv_status pay(void *ctx, size_t bytes)
{
    struct payer *payer = ctx;
    if (bytes > payer->may)
        return KV_TIMEOUT;
    payer->paid = bytes > payer->paid ? bytes : payer->paid;
    return KV_OK;
}

Test(inflate, output_is_paid_for_before_it_grows)
{
    static uint8_t bytes[100000];
    for (size_t c = 0; c < 4; c++) {
        struct payer payer = {0, 1 << 20};
        struct http_inflate_account account = {pay, &payer};
        size_t n = packed_as(codings[c], kv_slice_of(bytes, sizeof bytes));
        kv_buf_release(&out);
        cr_assert_eq(
            http_inflate(inflater, codings[c], kv_slice_of(packed, n), 1 << 20, &account, &out, &err), KV_OK);
        cr_assert(payer.paid >= sizeof bytes && payer.paid <= 4 * sizeof bytes + (256 << 10),
                  "coding %zu paid %zu", c, payer.paid);
        payer.may = 1000;
        cr_assert_eq(
            http_inflate(inflater, codings[c], kv_slice_of(packed, n), 1 << 20, &account, &out, &err),
            KV_TIMEOUT);
    }
}

Test(inflate, codings_are_named_as_in_http)
{
    enum http_coding c;
    cr_assert(http_coding_parse(KV_STR(""), &c) == KV_OK && c == HTTP_IDENTITY);
    cr_assert(http_coding_parse(KV_STR(" GZip "), &c) == KV_OK && c == HTTP_GZIP);
    cr_assert(http_coding_parse(KV_STR("zstd"), &c) == KV_OK && c == HTTP_ZSTD);
    cr_assert_eq(http_coding_parse(KV_STR("br"), &c), KV_UNSUPPORTED);
    cr_assert_eq(http_coding_parse(KV_STR("gzip, gzip"), &c), KV_UNSUPPORTED);
}

Test(inflate, corrupt_snappy_of_its_authors_is_refused)
{
    for (int i = 1; i <= 3; i++) {
        char path[80];
        snprintf(path, sizeof path, "../shared/conformance/snappy/baddata%d.snappy", i);
        FILE *f = fopen(path, "rb");
        if (!f) {
            fprintf(stderr, "SKIPPED: corrupt snappy: ../shared/conformance/snappy is not there\n");
            cr_skip_test("no data");
        }
        size_t n = fread(packed, 1, sizeof packed, f);
        fclose(f);
        cr_assert(inflated(HTTP_SNAPPY, n, 64 << 20) < 0, "%s", path);
    }
}
