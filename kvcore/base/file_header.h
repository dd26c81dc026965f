/*
 * file_header.h - the first 128 bytes of every file kvcore writes: what it is, whose it is, and the random
 * identity that its checksums (and later keys) are bound to, so that a block of another file is never taken
 * for one of this. Bytes: kvcore/docs/file-header.md.
 *
 * Pure functions; any thread. Failure: see kv_file_header_check.
 */
#ifndef KV_FILE_HEADER_H
#define KV_FILE_HEADER_H

#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

enum {
    KV_FILE_HEADER_LEN = 128,
    KV_FILE_UID_LEN = 16,
    KV_UUID_LEN = 16,
    KV_FILE_SALT_LEN = 16,
    KV_FILE_HEADER_AT_UID = 40, /* where the uid stands, for a salvage that has no whole header */
};

/* Stored numbers: add, never renumber. */
enum kv_file_kind {
    KV_FILE_LOG = 1,
    KV_FILE_MANIFEST = 2,
    KV_FILE_TABLE = 3,
    KV_FILE_VLOG = 4, /* taken, not yet written */
    KV_FILE_KEYS = 5, /* taken, not yet written */
    KV_FILE_BACKUP = 6,
};

struct kv_file_header {
    uint16_t kind;                  /* enum kv_file_kind */
    uint16_t format;                /* version of that kind's format, from 1 */
    uint8_t uuid[KV_UUID_LEN];      /* of the database */
    uint64_t owner_epoch;           /* which writable open made it */
    uint8_t uid[KV_FILE_UID_LEN];   /* random, of this file alone */
    uint8_t salt[KV_FILE_SALT_LEN]; /* random, for key derivation */
    uint64_t key_id;                /* 0: not encrypted */
    uint64_t edit;                  /* the newest durable manifest edit when it was created */
    uint64_t first_seq;             /* logs: the sequence its first record has or will have; others 0 */
};

void kv_file_header_encode(const struct kv_file_header *header, uint8_t out[KV_FILE_HEADER_LEN]);

/* What the reader of a file expects. */
struct kv_file_expect {
    enum kv_file_kind kind;
    uint16_t format_max; /* newest format this program reads */
    const uint8_t *uuid; /* KV_UUID_LEN bytes; NULL: any database's */
    const char *name;    /* of the file, for texts */
    bool encrypted;      /* the caller sees to key_id itself; false: encrypted files are KV_UNSUPPORTED */
};
/*
 * Decodes and checks the first bytes of a file. Each fault has its own text:
 * KV_CORRUPT: shorter than a header; not a kvcore file (magic); damaged header (crc); another kind of file;
 * another database's file. KV_TOO_NEW: a newer format. KV_UNSUPPORTED: encrypted. *out is filled in whenever
 * magic and crc are right.
 */
KV_MUST kv_status kv_file_header_check(kv_slice bytes, const struct kv_file_expect *expect,
                                       struct kv_file_header *out, struct kv_err *err);
/* The fields of a header that was checked, or encoded, before. */
void kv_file_header_decode(const uint8_t raw[KV_FILE_HEADER_LEN], struct kv_file_header *out);

#endif
