#include "kvcore/db/log_frame.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/crc32c.h"

uint32_t kv_log_uid_sum(const uint8_t uid[KV_FILE_UID_LEN])
{
    return kv_crc32c(0, kv_slice_of(uid, KV_FILE_UID_LEN));
}

/* crc32c over file uid, offset, header without the sum, payload and padding. */
static uint32_t fragment_sum(const uint8_t *fragment, size_t size, uint32_t uid_sum, uint64_t offset)
{
    uint8_t place[8];
    kv_put_fixed64(place, offset);
    uint32_t sum = kv_crc32c(uid_sum, kv_slice_of(place, sizeof place));
    sum = kv_crc32c(sum, kv_slice_of(fragment, KV_LOG_AT_CRC));
    return kv_crc32c(sum, kv_slice_of(fragment + KV_LOG_AT_SEQ, size - KV_LOG_AT_SEQ));
}

enum { PIECES = 3 }; /* a payload: prefix, batch, record */

/* Copies n bytes off the front of the pieces. */
static void pieces_take(kv_slice pieces[PIECES], uint8_t *to, size_t n)
{
    for (size_t i = 0; i < PIECES && n > 0; i++) {
        size_t step = pieces[i].len < n ? pieces[i].len : n;
        if (step)
            memcpy(to, pieces[i].data, step);
        pieces[i] = kv_slice_from(pieces[i], step);
        to += step;
        n -= step;
    }
}

static size_t frame_bytes(uint32_t total)
{
    size_t whole = total / KV_LOG_FRAGMENT_PAYLOAD_MAX;
    uint32_t rest = total % KV_LOG_FRAGMENT_PAYLOAD_MAX;
    return whole * KV_LOG_FRAGMENT_MAX + (rest ? kv_log_fragment_size(rest, 0) : 0);
}

static kv_status frame_pieces(struct kv_buf *buf, uint64_t seq, uint32_t total, kv_slice pieces[PIECES])
{
    uint8_t *at = kv_buf_extend(buf, frame_bytes(total));
    if (!at)
        return KV_NO_MEMORY;
    for (uint32_t place = 0; place < total; place += KV_LOG_FRAGMENT_PAYLOAD_MAX) {
        size_t size = kv_log_fragment_size(total, place);
        size_t payload =
            total - place < KV_LOG_FRAGMENT_PAYLOAD_MAX ? total - place : KV_LOG_FRAGMENT_PAYLOAD_MAX;
        kv_put_fixed32(at + KV_LOG_AT_MAGIC, KV_LOG_MAGIC);
        kv_put_fixed64(at + KV_LOG_AT_SEQ, seq);
        kv_put_fixed32(at + KV_LOG_AT_TOTAL, total);
        kv_put_fixed32(at + KV_LOG_AT_PLACE, place);
        pieces_take(pieces, at + KV_LOG_FRAGMENT_HEADER_LEN, payload);
        memset(at + KV_LOG_FRAGMENT_HEADER_LEN + payload, 0, size - KV_LOG_FRAGMENT_HEADER_LEN - payload);
        at += size;
    }
    return KV_OK;
}

kv_status kv_log_frame_add(struct kv_buf *buf, uint64_t seq, kv_slice batch, kv_slice record)
{
    if (batch.len > KV_COMMIT_BYTES_MAX || record.len > KV_COMMIT_BYTES_MAX - batch.len)
        return KV_LIMIT;
    uint8_t prefix[KV_LOG_PAYLOAD_PREFIX_MAX] = {KV_LOG_PAYLOAD_KIND_COMMIT};
    size_t prefix_len = 1 + kv_put_varint(prefix + 1, batch.len);
    kv_slice pieces[PIECES] = {kv_slice_of(prefix, prefix_len), batch, record};
    return frame_pieces(buf, seq, (uint32_t)(prefix_len + batch.len + record.len), pieces);
}

kv_status kv_log_frame_add_payload(struct kv_buf *buf, uint64_t seq, kv_slice payload)
{
    KV_ASSERT(payload.len > 0 && payload.len <= KV_LOG_PAYLOAD_MAX);
    kv_slice pieces[PIECES] = {payload, {0}, {0}};
    return frame_pieces(buf, seq, (uint32_t)payload.len, pieces);
}

static size_t fragment_size_at(const uint8_t *at)
{
    return kv_log_fragment_size(kv_get_fixed32(at + KV_LOG_AT_TOTAL), kv_get_fixed32(at + KV_LOG_AT_PLACE));
}

void kv_log_frame_stamp(uint8_t *bytes, size_t len, uint32_t uid_sum, uint64_t offset, uint64_t synced)
{
    for (size_t done = 0; done < len;) {
        uint8_t *at = bytes + done;
        size_t size = fragment_size_at(at);
        KV_ASSERT(size <= len - done);
        kv_put_fixed64(at + KV_LOG_AT_SYNCED, synced);
        kv_put_fixed32(at + KV_LOG_AT_CRC, fragment_sum(at, size, uid_sum, offset + done));
        done += size;
    }
}

/* The header's fields, and that they are possible. */
static bool fragment_header(kv_slice bytes, struct kv_log_fragment *out)
{
    const uint8_t *at = bytes.data;
    if (bytes.len < KV_LOG_FRAGMENT_HEADER_LEN || kv_get_fixed32(at + KV_LOG_AT_MAGIC) != KV_LOG_MAGIC)
        return false;
    *out = (struct kv_log_fragment){
        .seq = kv_get_fixed64(at + KV_LOG_AT_SEQ),
        .synced = kv_get_fixed64(at + KV_LOG_AT_SYNCED),
        .total = kv_get_fixed32(at + KV_LOG_AT_TOTAL),
        .place = kv_get_fixed32(at + KV_LOG_AT_PLACE),
    };
    if (out->total > KV_LOG_PAYLOAD_MAX || out->place >= out->total ||
        out->place % KV_LOG_FRAGMENT_PAYLOAD_MAX != 0 || out->synced >= out->seq)
        return false;
    out->size = kv_log_fragment_size(out->total, out->place);
    size_t left = out->total - out->place;
    out->payload = kv_slice_of(at + KV_LOG_FRAGMENT_HEADER_LEN,
                               left < KV_LOG_FRAGMENT_PAYLOAD_MAX ? left : KV_LOG_FRAGMENT_PAYLOAD_MAX);
    return true;
}

bool kv_log_fragment_valid(kv_slice bytes, uint32_t uid_sum, uint64_t offset, struct kv_log_fragment *out)
{
    return fragment_header(bytes, out) && out->size <= bytes.len &&
           fragment_sum(bytes.data, out->size, uid_sum, offset) == kv_get_fixed32(bytes.data + KV_LOG_AT_CRC);
}

size_t kv_log_sealed_len(const uint8_t *bytes, size_t len)
{
    size_t fragments = 0;
    for (size_t done = 0; done < len; done += fragment_size_at(bytes + done))
        fragments++;
    return len + fragments * KV_CIPHER_TAG_LEN;
}

/* The header is authenticated, its place for the sum zero; payload and padding are sealed. */
kv_status kv_log_fragment_seal(const uint8_t **bytes, struct kv_cipher *cipher, uint64_t offset,
                               uint64_t synced, uint8_t *out, size_t *size)
{
    enum { HEADER = KV_LOG_FRAGMENT_HEADER_LEN };
    size_t plain = fragment_size_at(*bytes);
    memcpy(out, *bytes, HEADER);
    kv_put_fixed32(out + KV_LOG_AT_CRC, 0);
    kv_put_fixed64(out + KV_LOG_AT_SYNCED, synced);
    kv_status rc = kv_cipher_seal(cipher, offset, kv_slice_of(out, HEADER),
                                  kv_slice_of(*bytes + HEADER, plain - HEADER), out + HEADER);
    *bytes += plain;
    *size = plain + KV_CIPHER_TAG_LEN;
    return rc;
}

kv_status kv_log_fragment_open(kv_slice bytes, struct kv_cipher *cipher, uint64_t offset, uint8_t *plain,
                               struct kv_log_fragment *out)
{
    enum { HEADER = KV_LOG_FRAGMENT_HEADER_LEN };
    if (!fragment_header(bytes, out) || out->size + KV_CIPHER_TAG_LEN > bytes.len)
        return KV_CORRUPT;
    out->size += KV_CIPHER_TAG_LEN;
    out->payload.data = plain;
    return kv_cipher_open(cipher, offset, kv_slice_of(bytes.data, HEADER),
                          kv_slice_of(bytes.data + HEADER, out->size - HEADER), plain);
}

kv_status kv_log_payload_split(kv_slice payload, kv_slice *batch, kv_slice *record)
{
    uint8_t kind;
    if (kv_take_byte(&payload, &kind) < 0)
        return KV_CORRUPT;
    if (kind != KV_LOG_PAYLOAD_KIND_COMMIT)
        return KV_TOO_NEW;
    if (kv_take_lp(&payload, batch) < 0)
        return KV_CORRUPT;
    *record = payload;
    return KV_OK;
}
