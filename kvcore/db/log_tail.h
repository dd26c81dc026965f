/*
 * log_tail.h - reads on in a log that another process is writing: for a follower. Rules: kvcore/docs/follower.md.
 *
 * It reads the files that the manifest seals or calls current, in order, each record once, and remembers where it stopped. What is
 * not whole yet at the end of the current file comes another time. Everything it hands out a recovery of this moment would find.
 *
 * Threads    one at a time.
 * Ownership  borrows dir, path, uuid and keys; release takes the open file.
 * Failure    KV_CORRUPT with file and offset: damage, or the manifest that `known` comes of is older than the files: the caller reads
 *            that again and tries once more. KV_TOO_NEW, KV_IO, KV_NO_MEMORY, KV_WRONG_KEY.
 */
#ifndef KV_LOG_TAIL_H
#define KV_LOG_TAIL_H

#include "kvcore/db/log_read.h"

struct kv_log_tail {
    struct kv_dir *dir;
    const char *path; /* of the directory, for texts */
    const uint8_t *uuid;
    struct kv_keyring *keys; /* NULL: not encrypted */
    uint64_t last_seq;       /* newest handed out, or known to be before what was */
    /* private */
    struct kv_log_reader reader;
    bool open;       /* reader is: file `number` has not ended */
    uint64_t number; /* of the file read last; 0: none */
    uint64_t seq;    /* of its next record */
};
void kv_log_tail_release(struct kv_log_tail *tail); /* begins anew; {0} and twice are fine */
/* Is what was read still what a recovery would find? Not when a seal cuts the file shorter, or the manifest has forgotten it. */
bool kv_log_tail_fits(const struct kv_log_tail *tail, const struct kv_log_known *known);
/* Every commit at or above known->puts_from that was not handed out yet. *any: there was a record, wanted or not. */
KV_MUST kv_status kv_log_tail_read(struct kv_log_tail *tail, const struct kv_log_known *known,
                                   const struct kv_log_replay *replay, bool *any, struct kv_err *err);

#endif
