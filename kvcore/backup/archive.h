/*
 * archive.h - a backup as one stream, read back; and the receipt of an archive, which the next one builds upon. Bytes:
 * kvcore/docs/backup.md.
 *
 * Threads    one at a time.
 *
 * Ownership  what an event lends is good for the call.
 *
 * Failure    what an event answers; KV_CORRUPT, KV_TOO_NEW with name and offset.
 */
#ifndef KV_ARCHIVE_H
#define KV_ARCHIVE_H

#include "kvcore/backup/set.h"

/* What is met, in this order. Lengths and sums of files are checked by the reader. A negative answer ends the reading. */
struct kv_archive_events {
    void *ctx;
    /* What it is a backup of; its files are not known yet. */
    kv_status (*begin)(void *ctx, const struct kv_backup_set *about, const uint8_t uid[KV_FILE_UID_LEN],
                       struct kv_err *err);
    /* A file, of which identity, name and length are known. KV_NOT_FOUND: not wanted; its data is passed over. */
    kv_status (*file)(void *ctx, const struct kv_backup_file *file, struct kv_err *err);
    kv_status (*data)(void *ctx, kv_slice bytes, struct kv_err *err);
    /* It is whole; its sum is known now. Not for files passed over. */
    kv_status (*file_end)(void *ctx, const struct kv_backup_file *file, struct kv_err *err);
    /* All of it: the list of files, of which those of form KV_FORM_ARCHIVE were met, with these sums. */
    kv_status (*set)(void *ctx, struct kv_backup_set *set, struct kv_err *err);
};
/* To its end, which is checked. name is for texts. */
KV_MUST kv_status kv_archive_read(const struct kv_source *source, const char *name,
                                  const struct kv_archive_cipher *cipher,
                                  const struct kv_archive_events *events, struct kv_err *err);

/* set->self: the archive it is of. Appends to *out. */
KV_MUST kv_status kv_receipt_encode(const struct kv_backup_set *set, const struct kv_archive_cipher *cipher,
                                    struct kv_clock *clock, struct kv_buf *out, struct kv_err *err);
KV_MUST kv_status kv_receipt_decode(kv_slice receipt, const struct kv_archive_cipher *cipher,
                                    struct kv_backup_set *out, struct kv_err *err);

#endif
