/*
 * copy.h - the two ends of every copy in this folder: a file of a pinned database, checked byte for byte while it is read; and a new
 * file of a database being restored, proven by the sum its backup kept.
 *
 * Threads    one at a time.
 *
 * Failure    KV_CORRUPT names file and offset. What was written by then is the caller's to discard.
 */
#ifndef KV_COPY_H
#define KV_COPY_H

#include "kvcore/backup/set.h"
#include "kvcore/db/pin.h"

/* The identity in the file's header. */
KV_MUST kv_status kv_copy_uid(struct kv_db *db, const struct kv_pin_file *file, uint8_t uid[KV_FILE_UID_LEN],
                              struct kv_err *err);
/* The file's bytes to the sink, in pieces of at most KV_FRAME_PIECE, and their sum. */
KV_MUST kv_status kv_copy_out(struct kv_db *db, const struct kv_pin_file *file, const struct kv_sink *sink,
                              uint8_t sha256[KV_SHA256_LEN], struct kv_err *err);

/* A copy of `file` in dir under its name in the database. {0} may be discarded. */
struct kv_copy_in {
    struct kv_file_sink sink;
    struct kv_sha256 *sum;
    const struct kv_backup_file *file; /* its sha256 may be filled in until finish */
    const char *from;                  /* for texts: where the bytes come from */
};
KV_MUST kv_status kv_copy_in_open(struct kv_copy_in *in, struct kv_dir *dir,
                                  const struct kv_backup_file *file, const char *from, struct kv_err *err);
KV_MUST kv_status kv_copy_in_add(struct kv_copy_in *in, kv_slice bytes, struct kv_err *err);
/* Length and sum are right, and the file is synced. */
KV_MUST kv_status kv_copy_in_finish(struct kv_copy_in *in, struct kv_err *err);
void kv_copy_in_discard(struct kv_copy_in *in); /* after finish: only gives memory back */

#endif
