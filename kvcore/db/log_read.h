/*
 * log_read.h - reads one log file record by record through a window, and finds the next valid record behind damage.
 * Private to kvcore/db/log*.c, records.c and kvtool.
 *
 * Threads    one at a time.
 *
 * Ownership  close always, also after a failed open. Slices are good until the next call.
 *
 * Failure    KV_CORRUPT is only ever about the record asked for, without a text: what it means depends on seals and syncs.
 */
#ifndef KV_LOG_READ_H
#define KV_LOG_READ_H

#include "kvcore/crypt/keyring.h"
#include "kvcore/db/log_frame.h"

struct kv_log_reader {
    struct kv_file *file; /* owned */
    struct kv_file_header header;
    uint32_t uid_sum;
    struct kv_cipher *cipher; /* owned; NULL: the file is not encrypted */
    uint8_t *plain;           /* the newest fragment of an encrypted one */
    uint64_t size;            /* of the file */
    uint64_t limit;           /* nothing is read past it: size, or a seal */
    uint64_t offset;          /* of the record that kv_log_reader_next reads */
    /* The window: bytes [base, base + len) of the file. */
    uint8_t *window;
    uint64_t base;
    size_t len;
    struct kv_buf joined; /* a payload of several fragments */
};

struct kv_log_item {
    uint64_t seq, synced, offset, end;
    kv_slice payload;
};

/* Opens the file and its header. err texts name it. KV_CORRUPT, KV_TOO_NEW: the header (size is set all the
 * same, if the file opened). uuid NULL: any database's. keys: of the database, NULL when it is not encrypted; KV_WRONG_KEY.
 */
KV_MUST kv_status kv_log_reader_open(struct kv_log_reader *reader, struct kv_dir *dir, uint64_t number,
                                     const uint8_t *uuid, struct kv_keyring *keys, struct kv_err *err);
void kv_log_reader_close(struct kv_log_reader *reader);

/* The record at reader->offset, whose sequence must be seq; moves behind it. KV_END at the limit. KV_CORRUPT:
 * no such valid record there; the offset stays. */
KV_MUST kv_status kv_log_reader_next(struct kv_log_reader *reader, uint64_t seq, struct kv_log_item *out,
                                     struct kv_err *err);
/* Moves to the next place behind reader->offset where a fragment is valid; *out: that fragment. KV_END: there
 * is none. */
KV_MUST kv_status kv_log_reader_resync(struct kv_log_reader *reader, struct kv_log_fragment *out,
                                       struct kv_err *err);
/* Does the magic stand anywhere an aligned fragment could begin? For files whose header is unreadable. */
KV_MUST kv_status kv_log_reader_has_magic(struct kv_log_reader *reader, bool *found, struct kv_err *err);

#endif
