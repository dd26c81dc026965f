#include "kvcore/base/coding.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/base/file_header.h"

#include <criterion/criterion.h>

static const uint8_t our_uuid[KV_UUID_LEN] = "0123456789abcde";

static struct kv_file_header sample(void)
{
    struct kv_file_header h = {.kind = KV_FILE_TABLE,
                               .format = 3,
                               .owner_epoch = 0x1122334455667788,
                               .uid = "a file's own uid",
                               .salt = "sixteen of salt!",
                               .edit = 77,
                               .first_seq = 1234567890123};
    memcpy(h.uuid, our_uuid, sizeof our_uuid);
    return h;
}

static kv_status check(const uint8_t *raw, size_t len, enum kv_file_kind kind, uint16_t format_max,
                       const uint8_t *uuid, struct kv_err *err)
{
    struct kv_file_header out;
    struct kv_file_expect expect = {
        .kind = kind, .format_max = format_max, .uuid = uuid, .name = "000012.tbl"};
    return kv_file_header_check(kv_slice_of(raw, len), &expect, &out, err);
}

Test(file_header, comes_back_as_it_was)
{
    uint8_t raw[KV_FILE_HEADER_LEN];
    struct kv_file_header h = sample(), out;
    struct kv_file_expect expect = {.kind = KV_FILE_TABLE, .format_max = 3, .uuid = our_uuid, .name = "x"};
    kv_file_header_encode(&h, raw);
    cr_assert_eq(kv_file_header_check(kv_slice_of(raw, sizeof raw), &expect, &out, NULL), KV_OK);
    cr_assert(out.kind == h.kind && out.format == h.format && out.owner_epoch == h.owner_epoch &&
              out.edit == h.edit);
    cr_assert(out.first_seq == h.first_seq && out.key_id == 0);
    cr_assert(memcmp(out.uid, h.uid, sizeof h.uid) == 0 && memcmp(out.salt, h.salt, sizeof h.salt) == 0);
    expect.uuid = NULL;
    cr_assert_eq(kv_file_header_check(kv_slice_of(raw, sizeof raw), &expect, &out, NULL), KV_OK,
                 "any database's");
}

Test(file_header, every_fault_has_its_own_answer)
{
    uint8_t raw[KV_FILE_HEADER_LEN];
    struct kv_file_header h = sample();
    struct kv_err err;
    kv_file_header_encode(&h, raw);
    cr_assert_eq(check(raw, KV_FILE_HEADER_LEN - 1, KV_FILE_TABLE, 3, our_uuid, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "127 bytes"));
    cr_assert_eq(check(raw, sizeof raw, KV_FILE_TABLE, 2, our_uuid, &err), KV_TOO_NEW);
    cr_assert(strstr(err.text, "format 3") && strstr(err.text, "up to 2"));
    cr_assert_eq(check(raw, sizeof raw, KV_FILE_LOG, 3, our_uuid, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "is a table file") && strstr(err.text, "log is expected"));
    cr_assert_eq(check(raw, sizeof raw, KV_FILE_TABLE, 3, (const uint8_t *)"another database", &err),
                 KV_CORRUPT);
    cr_assert(strstr(err.text, "another database"));
    raw[0] = 0;
    cr_assert_eq(check(raw, sizeof raw, KV_FILE_TABLE, 3, our_uuid, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "magic"));
    h.key_id = 9;
    kv_file_header_encode(&h, raw);
    cr_assert_eq(check(raw, sizeof raw, KV_FILE_TABLE, 3, our_uuid, &err), KV_UNSUPPORTED);
    h = sample();
    h.format = 0;
    kv_file_header_encode(&h, raw);
    cr_assert_eq(check(raw, sizeof raw, KV_FILE_TABLE, 3, our_uuid, &err), KV_CORRUPT);
}

Test(file_header, a_file_of_another_kind_is_called_what_it_is)
{
    static const struct {
        uint16_t kind;
        const char *said;
    } kinds[] = {{KV_FILE_LOG, "is a log file"},        {KV_FILE_MANIFEST, "is a manifest file"},
                 {KV_FILE_VLOG, "is a value log file"}, {KV_FILE_KEYS, "is a key registry file"},
                 {KV_FILE_BACKUP, "is a backup file"},  {99, "is a unknown file (kind 99)"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        uint8_t raw[KV_FILE_HEADER_LEN];
        struct kv_file_header h = sample();
        struct kv_err err;
        h.kind = kinds[i].kind;
        kv_file_header_encode(&h, raw);
        cr_assert_eq(check(raw, sizeof raw, KV_FILE_TABLE, 3, our_uuid, &err), KV_CORRUPT);
        cr_assert(strstr(err.text, kinds[i].said) && strstr(err.text, "where a table is expected"), "%s",
                  err.text);
    }
}

Test(file_header, any_flipped_bit_is_seen)
{
    uint8_t raw[KV_FILE_HEADER_LEN];
    struct kv_file_header h = sample();
    kv_file_header_encode(&h, raw);
    for (size_t bit = 0; bit < sizeof raw * 8; bit++) {
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert_lt(check(raw, sizeof raw, KV_FILE_TABLE, 3, our_uuid, NULL), 0, "bit %zu", bit);
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

/* The page's worked bytes (kvcore/docs/file-header.md). */
Test(file_header, bytes_are_those_of_its_page)
{
    uint8_t raw[KV_FILE_HEADER_LEN];
    struct kv_file_header h = sample();
    static const uint8_t begin[] = {0x9e, 'K', 'V', 'C', 0x0d, 0x0a, 0x1a, 0x0a, 3, 0, 3, 0, 0, 0, 0, 0};
    kv_file_header_encode(&h, raw);
    cr_assert(memcmp(raw, begin, sizeof begin) == 0);
    cr_assert(memcmp(raw + 16, our_uuid, 16) == 0 && memcmp(raw + 40, h.uid, 16) == 0);
    cr_assert_eq(kv_get_fixed64(raw + 80), 77);
    cr_assert_eq(kv_get_fixed32(raw + 124), kv_crc32c(0, kv_slice_of(raw, 124)));
}
