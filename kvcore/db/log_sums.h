/*
 * log_sums.h - checks a sealed log file's bytes as they pass by, front to back: for copies, which must not carry damage on. Header, every
 * fragment's sum, gapless sequences, and at the end exactly what the seal says.
 *
 * Threads    one at a time.
 *
 * Ownership  kv_log_sums_release; {0} and twice are fine.
 *
 * Failure    KV_CORRUPT with file and offset: stop there. KV_TOO_NEW; KV_NO_MEMORY.
 */
#ifndef KV_LOG_SUMS_H
#define KV_LOG_SUMS_H

#include "kvcore/crypt/keyring.h"
#include "kvcore/db/log_frame.h"

struct kv_log_sums {
    const char *name; /* of the file, for texts */
    const uint8_t *uuid;
    struct kv_keyring *keys;  /* NULL: the database has none */
    struct kv_cipher *cipher; /* of the file, owned; NULL: it is not encrypted */
    uint8_t *plain;           /* a fragment opened */
    struct kv_log_seal seal;
    struct kv_buf pending; /* a header or fragment that is not whole yet */
    uint64_t offset;       /* of pending */
    bool begun;            /* the header was checked */
    uint32_t uid_sum;
    uint64_t seq;          /* of the record being read or to come */
    uint64_t synced;       /* of its fragments so far */
    uint32_t total, place; /* payload bytes the record has, and has been seen to have */
};
/* name, uuid (KV_UUID_LEN bytes the header must hold) and keys are borrowed. */
void kv_log_sums_init(struct kv_log_sums *sums, const char *name, const uint8_t *uuid,
                      struct kv_keyring *keys, const struct kv_log_seal *seal);
/* The next bytes of the file, in pieces of any size. */
KV_MUST kv_status kv_log_sums_add(struct kv_log_sums *sums, kv_slice bytes, struct kv_err *err);
/* After the last. */
KV_MUST kv_status kv_log_sums_end(struct kv_log_sums *sums, struct kv_err *err);
void kv_log_sums_release(struct kv_log_sums *sums);

#endif
