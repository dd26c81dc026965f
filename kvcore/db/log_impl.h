/*
 * log_impl.h - the inside of struct kv_log, for log.c (writing), log_recover.c (opening) and records.c.
 *
 * Locks      `lock` guards files and stats; everything else belongs to the leader.
 */
#ifndef KV_LOG_IMPL_H
#define KV_LOG_IMPL_H

#include "kvcore/db/log_frame.h"
#include "kvcore/os/thread.h"

struct log_file {
    struct kv_log_seal seal; /* unsealed: what is written so far */
    uint64_t first_seq;      /* of its first record, or of the one it would have had */
    bool sealed;
};

struct kv_log {
    struct kv_log_options options;
    char *path;

    kv_mutex lock;
    struct log_file *files; /* by number; the one being written is the last */
    size_t n_files, files_capacity;
    struct kv_log_stats stats;

    /* Leftovers to remove once the next seal edit is durable. */
    uint64_t *doomed;
    size_t n_doomed, doomed_capacity;

    struct kv_file *file; /* being written; NULL: the next write begins one */
    uint32_t uid_sum;
    uint8_t uid[KV_FILE_UID_LEN];
    struct kv_cipher *cipher; /* of the file; NULL: it is not encrypted */
    struct kv_buf sealed;     /* fragments on their way into an encrypted file */
    uint64_t number, end, reserved;
    uint64_t highest; /* number of any log file seen in the directory or begun */
    bool announced;   /* the manifest knows file `number` and every seal before it */
    bool file_bad;    /* append or sync of it failed */

    /* [0, written): records written but not known synced; behind them those added. With forget_unsynced only
     * the latter. */
    struct kv_buf buf;
    size_t written;
    uint64_t next_seq, written_seq, synced_seq;
    uint64_t synced_end; /* of the current file */
    /* Newest application record among those added, written, synced; 0: none. */
    uint64_t added_record, written_record, synced_record;
    size_t n_added;
    bool dead, started, salvage;

    /* What kv_log_open found, for the cursor. */
    uint64_t records_from, recovered_seq, record_bytes;
};

/* Room for one more file, so that adding it cannot fail half-way. */
KV_MUST kv_status kv_log_files_reserve(struct kv_log *log);
/* Before the first write: loads into buf what kv_log_start must write again, and cuts unsealed files back to
 * what is known synced. */
KV_MUST kv_status kv_log_load_tail(struct kv_log *log, struct kv_err *err);
/* Remembers a leftover file for removal. */
KV_MUST kv_status kv_log_doom(struct kv_log *log, uint64_t number);

#endif
