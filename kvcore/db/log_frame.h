/*
 * log_frame.h - the bytes of a log record: one payload cut into fragments, each with a header and a checksum
 * bound to its file and place; in an encrypted file a seal instead of the checksum. Private to kvcore/db/log*.c, records.c and kvtool. Bytes: kvcore/docs/log.md.
 * Pure functions; any thread.
 */
#ifndef KV_LOG_FRAME_H
#define KV_LOG_FRAME_H

#include "kvcore/base/coding.h"
#include "kvcore/crypt/cipher.h"
#include "kvcore/db/log.h"

enum {
    KV_LOG_ALIGN = 8,
    KV_LOG_FRAGMENT_SEALED_MAX = KV_LOG_FRAGMENT_MAX + KV_CIPHER_TAG_LEN, /* in an encrypted file */
    KV_LOG_FRAGMENT_PAYLOAD_MAX = KV_LOG_FRAGMENT_MAX - KV_LOG_FRAGMENT_HEADER_LEN,
    KV_LOG_PAYLOAD_KIND_COMMIT = 1,
    KV_LOG_PAYLOAD_PREFIX_MAX = 1 + KV_VARINT_LEN_MAX,
    /* A payload: its prefix and what KV_COMMIT_BYTES_MAX allows. */
    KV_LOG_PAYLOAD_MAX = KV_COMMIT_BYTES_MAX + KV_LOG_PAYLOAD_PREFIX_MAX,
    /* Fragment header. */
    KV_LOG_AT_MAGIC = 0,
    KV_LOG_AT_CRC = 4,
    KV_LOG_AT_SEQ = 8,
    KV_LOG_AT_SYNCED = 16,
    KV_LOG_AT_TOTAL = 24, /* payload bytes of the whole record */
    KV_LOG_AT_PLACE = 28, /* payload bytes before this fragment */
};
_Static_assert(KV_CIPHER_TAG_LEN % KV_LOG_ALIGN == 0, "sealed fragments stay aligned");
_Static_assert(KV_LOG_PAYLOAD_MAX < UINT32_MAX, "total is stored in 32 bits");

struct kv_log_fragment {
    uint64_t seq, synced;
    uint32_t total, place;
    kv_slice payload;
    size_t size; /* in the file: header, payload, padding */
};

/* The checksum of what precedes every fragment's own bytes: start of kv_log_frame_sum. */
uint32_t kv_log_uid_sum(const uint8_t uid[KV_FILE_UID_LEN]);

/* Bytes in the file of the fragment at `place` of a record of `total` payload bytes; place < total. */
static inline size_t kv_log_fragment_size(uint32_t total, uint32_t place)
{
    size_t payload = total - place;
    if (payload > KV_LOG_FRAGMENT_PAYLOAD_MAX)
        payload = KV_LOG_FRAGMENT_PAYLOAD_MAX;
    return (KV_LOG_FRAGMENT_HEADER_LEN + payload + KV_LOG_ALIGN - 1) & ~(size_t)(KV_LOG_ALIGN - 1);
}

/* Appends the fragments of one commit, sums and synced sequence still open. KV_NO_MEMORY, KV_LIMIT: nothing
 * added. */
KV_MUST kv_status kv_log_frame_add(struct kv_buf *buf, uint64_t seq, kv_slice batch, kv_slice record);
/* The same of a payload that was read before. */
KV_MUST kv_status kv_log_frame_add_payload(struct kv_buf *buf, uint64_t seq, kv_slice payload);
/* Sets synced sequence and sum of all fragments in bytes, which will lie at offset of the file uid_sum is of.
 */
void kv_log_frame_stamp(uint8_t *bytes, size_t len, uint32_t uid_sum, uint64_t offset, uint64_t synced);
/* Checks everything about the fragment at the front of bytes except that its sequence and place are the
 * expected ones. */
bool kv_log_fragment_valid(kv_slice bytes, uint32_t uid_sum, uint64_t offset, struct kv_log_fragment *out);

/* ---- encrypted files: the fragments lie plain in memory, and sealed, each KV_CIPHER_TAG_LEN longer, in the file */

/* What so many bytes of fragments take up in an encrypted file. */
size_t kv_log_sealed_len(const uint8_t *bytes, size_t len);
/* Writes the fragment at *bytes, sealed for offset and with its synced sequence, to out, and moves *bytes behind it.
 * *size: what was written. */
KV_MUST kv_status kv_log_fragment_seal(const uint8_t **bytes, struct kv_cipher *cipher, uint64_t offset,
                                       uint64_t synced, uint8_t *out, size_t *size);
/* kv_log_fragment_valid for a sealed one; its payload lies in plain (KV_LOG_FRAGMENT_MAX of room). KV_CORRUPT: not valid.
 * KV_NO_MEMORY. */
KV_MUST kv_status kv_log_fragment_open(kv_slice bytes, struct kv_cipher *cipher, uint64_t offset,
                                       uint8_t *plain, struct kv_log_fragment *out);

/* Takes a whole payload apart. KV_CORRUPT, KV_TOO_NEW. */
KV_MUST kv_status kv_log_payload_split(kv_slice payload, kv_slice *batch, kv_slice *record);

#endif
