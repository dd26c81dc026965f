#include "kvcore/base/file_header.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/crc32c.h"

#include <stdio.h>

/* Not text, and damaged by every transfer that changes line ends. */
static const uint8_t header_magic[8] = {0x9e, 'K', 'V', 'C', '\r', '\n', 0x1a, '\n'};

/* Offsets of the fields; what lies between them is zero. */
enum {
    AT_FORMAT = 8,
    AT_KIND = 10,
    AT_UUID = 16,
    AT_OWNER_EPOCH = 32,
    AT_UID = KV_FILE_HEADER_AT_UID,
    AT_SALT = 56,
    AT_KEY_ID = 72,
    AT_EDIT = 80,
    AT_FIRST_SEQ = 88,
    AT_CRC = 124,
};
_Static_assert(AT_CRC + 4 == KV_FILE_HEADER_LEN, "the sum closes the header");

void kv_file_header_encode(const struct kv_file_header *header, uint8_t out[KV_FILE_HEADER_LEN])
{
    memset(out, 0, KV_FILE_HEADER_LEN);
    memcpy(out, header_magic, sizeof header_magic);
    kv_put_fixed16(out + AT_FORMAT, header->format);
    kv_put_fixed16(out + AT_KIND, header->kind);
    memcpy(out + AT_UUID, header->uuid, KV_UUID_LEN);
    kv_put_fixed64(out + AT_OWNER_EPOCH, header->owner_epoch);
    memcpy(out + AT_UID, header->uid, KV_FILE_UID_LEN);
    memcpy(out + AT_SALT, header->salt, KV_FILE_SALT_LEN);
    kv_put_fixed64(out + AT_KEY_ID, header->key_id);
    kv_put_fixed64(out + AT_EDIT, header->edit);
    kv_put_fixed64(out + AT_FIRST_SEQ, header->first_seq);
    kv_put_fixed32(out + AT_CRC, kv_crc32c(0, kv_slice_of(out, AT_CRC)));
}

void kv_file_header_decode(const uint8_t raw[KV_FILE_HEADER_LEN], struct kv_file_header *out)
{
    *out = (struct kv_file_header){
        .kind = kv_get_fixed16(raw + AT_KIND),
        .format = kv_get_fixed16(raw + AT_FORMAT),
        .owner_epoch = kv_get_fixed64(raw + AT_OWNER_EPOCH),
        .key_id = kv_get_fixed64(raw + AT_KEY_ID),
        .edit = kv_get_fixed64(raw + AT_EDIT),
        .first_seq = kv_get_fixed64(raw + AT_FIRST_SEQ),
    };
    memcpy(out->uuid, raw + AT_UUID, KV_UUID_LEN);
    memcpy(out->uid, raw + AT_UID, KV_FILE_UID_LEN);
    memcpy(out->salt, raw + AT_SALT, KV_FILE_SALT_LEN);
}

static const char *kind_text(uint16_t kind)
{
    switch (kind) {
    case KV_FILE_LOG:
        return "log";
    case KV_FILE_MANIFEST:
        return "manifest";
    case KV_FILE_TABLE:
        return "table";
    case KV_FILE_VLOG:
        return "value log";
    case KV_FILE_KEYS:
        return "key registry";
    case KV_FILE_BACKUP:
        return "backup";
    default:
        return "unknown";
    }
}

static kv_status header_expect(const struct kv_file_header *header, const struct kv_file_expect *expect,
                               struct kv_err *err)
{
    if (header->kind != expect->kind)
        return kv_fail(err, KV_CORRUPT, 0, "%s is a %s file (kind %u) where a %s is expected", expect->name,
                       kind_text(header->kind), header->kind, kind_text((uint16_t)expect->kind));
    if (expect->uuid && memcmp(header->uuid, expect->uuid, KV_UUID_LEN) != 0)
        return kv_fail(err, KV_CORRUPT, 0, "%s belongs to another database", expect->name);
    if (header->format > expect->format_max)
        return kv_fail(err, KV_TOO_NEW, 0, "%s has %s format %u; this program reads up to %u", expect->name,
                       kind_text(header->kind), header->format, expect->format_max);
    if (header->format == 0)
        return kv_fail(err, KV_CORRUPT, 0, "%s has format 0, which does not exist", expect->name);
    if (header->key_id != 0 && !expect->encrypted)
        return kv_fail(err, KV_UNSUPPORTED, 0, "%s is encrypted, where no encrypted file is read",
                       expect->name);
    return KV_OK;
}

kv_status kv_file_header_check(kv_slice bytes, const struct kv_file_expect *expect,
                               struct kv_file_header *out, struct kv_err *err)
{
    if (bytes.len < KV_FILE_HEADER_LEN)
        return kv_fail(err, KV_CORRUPT, 0, "%s has %zu bytes, less than a file header (%d)", expect->name,
                       bytes.len, KV_FILE_HEADER_LEN);
    if (memcmp(bytes.data, header_magic, sizeof header_magic) != 0)
        return kv_fail(err, KV_CORRUPT, 0,
                       "%s does not begin with the kvcore magic: not a kvcore file, or damaged at "
                       "offset 0",
                       expect->name);
    if (kv_crc32c(0, kv_slice_of(bytes.data, AT_CRC)) != kv_get_fixed32(bytes.data + AT_CRC))
        return kv_fail(err, KV_CORRUPT, 0, "%s has a damaged file header (checksum at offset %d)",
                       expect->name, AT_CRC);
    kv_file_header_decode(bytes.data, out);
    return header_expect(out, expect, err);
}
