/*
 * log.h - the one log: what was acknowledged survives a crash. Bytes: kvcore/docs/log.md.
 *
 * A record is one commit: its sequence, its puts and at most one application record. Sequences are gapless. A log file is
 * written front to back by one open and never opened for append again; when it gets no more bytes a durable manifest edit
 * seals it with its valid length and last sequence. The manifest's owner does that through kv_log_hooks.
 *
 * Life       kv_log_open reads what is there, replays it, decides torn tail or damage, writes nothing. kv_log_start begins
 *            a new file: it writes into it again every replayed commit that is not known to be synced, syncs, and has all
 *            older files sealed in one edit; afterwards everything replayed is durable, whatever the page cache claimed.
 *            Then kv_log_add and kv_log_write; kv_log_close seals the last file.
 *
 * Threads    open, start, add, write, sync, roll, close: one at a time (the committer's leader). trim, files, records,
 *            stats: any thread.
 *
 * Ownership  kv_log_open lends what kv_log_close takes back; the directory must outlive it; added bytes are copied.
 *
 * Failure    an append or sync that failed abandons its file for good: the records of it that are not known synced are
 *            written again from memory into a new file, once. If that fails too the log is dead: every later call answers
 *            KV_READ_ONLY.
 */
#ifndef KV_LOG_H
#define KV_LOG_H

#include "kvcore/base/file_header.h"
#include "kvcore/crypt/keyring.h"
#include "kvcore/kv.h"
#include "kvcore/os/clock.h"
#include "kvcore/os/vfs.h"

enum {
    KV_LOG_FORMAT = 1,
    KV_LOG_MAGIC = 0x52474c9e, /* every fragment begins with it: 9e 4c 47 52 */
    KV_LOG_FRAGMENT_HEADER_LEN = 32,
    KV_LOG_FRAGMENT_MAX = 32 * 1024, /* header and payload */
    KV_LOG_NAME_MAX = 32,
};

struct kv_log;

/* A log file that gets no more bytes: what lies past valid_len is ignored, a shortfall before it is damage.
 */
struct kv_log_seal {
    uint64_t number, valid_len;
    uint64_t last_seq; /* of the newest commit in it, or before it when it holds none */
    uint64_t
        last_record_seq; /* of the newest commit in it that carries an application record; 0: none does */
};

/* Called by whoever leads (or by kv_log_start and kv_log_close), never under a lock of the log. */
struct kv_log_hooks {
    void *ctx;
    /* A number for a new log file, above all earlier ones, and the number of the newest durable manifest edit
     * (for its header). */
    kv_status (*new_file)(void *ctx, uint64_t *number, uint64_t *edit, struct kv_err *err);
    /* Makes durable, in one manifest edit: these files are sealed so, and `current` (0: none), whose header has this
     * uid, is the file written from now on. Before the first answer out of `current`. When this fails the seals may be found
     * later or not; both are right. */
    kv_status (*seal)(void *ctx, const struct kv_log_seal *seals, size_t n, uint64_t current,
                      const uint8_t current_uid[KV_FILE_UID_LEN], struct kv_err *err);
};

struct kv_log_options {
    struct kv_dir *dir;
    const char *path; /* of the directory, for texts; copied */
    struct kv_clock *clock;
    const struct kv_logger *log; /* may be NULL */
    uint8_t uuid[KV_UUID_LEN];
    uint64_t owner_epoch;
    uint64_t file_bytes; /* roll past this. 0: 64 MiB */
    struct kv_keyring
        *keys;            /* encrypts new files and opens old ones; outlives the log. NULL: not encrypted */
    bool forget_unsynced; /* KV_DURABILITY_OS: do not keep unsynced records in memory; a failed sync is then
                             the end */
    struct kv_log_hooks hooks; /* may be empty when nothing is ever written */
};

/* What the manifest knows when the log is opened. */
struct kv_log_known {
    const struct kv_log_seal
        *seals; /* by number; every file still needed that was sealed. A missing one is damage */
    size_t n_seals;
    uint64_t first;             /* files numbered below it are needed no more */
    uint64_t current;           /* the file that was being written: 0 none. A missing one is damage */
    const uint8_t *current_uid; /* and its uid; NULL: not known */
    uint64_t edit; /* newest edit found: a log file created under a later one shows that the manifest lost its
                      end */
    uint64_t last_seq;     /* at least this was handed out (0: nothing yet) */
    uint64_t puts_from;    /* first sequence whose puts are wanted (the memtable floor) */
    uint64_t records_from; /* first sequence whose application record is wanted (the application floor) */
    bool salvage; /* instead of refusing damage, report it to the logger and go on with every later valid
                     record */
};

/* The seal of a file; NULL: it has none. */
static inline const struct kv_log_seal *kv_log_known_seal(const struct kv_log_known *known, uint64_t number)
{
    for (size_t i = 0; i < known->n_seals; i++)
        if (known->seals[i].number == number)
            return &known->seals[i];
    return NULL;
}

struct kv_log_replay {
    void *ctx;
    /* Every commit at or above min(puts_from, records_from), in sequence order, each once. batch: for
     * kv_batch_next; both are valid for the call. A negative answer stops and is returned. */
    kv_status (*commit)(void *ctx, uint64_t seq, kv_slice batch, kv_slice record, struct kv_err *err);
    /* In a salvage, of every commit at or above puts_from, before it is kept. May be NULL. KV_OK: this, which was appended to
     * the empty *out, is kept in the place of its batch; KV_NOT_FOUND: it is kept as it is; negative: as above. */
    kv_status (*mend)(void *ctx, uint64_t seq, kv_slice batch, struct kv_buf *out, struct kv_err *err);
};

/*
 * Files below the first sealed or current one or below `first`, and files numbered below `current` that the manifest does not
 * know, are leftovers: not read, removed by kv_log_start. KV_CORRUPT: acknowledged data is damaged; the text
 * names file, offset and what to run.
 */
KV_MUST kv_status kv_log_open(const struct kv_log_options *options, const struct kv_log_known *known,
                              const struct kv_log_replay *replay, struct kv_log **out, struct kv_err *err);
KV_MUST kv_status kv_log_start(struct kv_log *log, struct kv_err *err);
/* Syncs and seals the current file if there is one (not when dead), frees. NULL is fine. An error: the next
 * open will recover. */
kv_status kv_log_close(struct kv_log *log, struct kv_err *err);

/* Frames one commit behind those already added. seq must be kv_log_next_seq. KV_NO_MEMORY, KV_LIMIT: nothing
 * added. */
KV_MUST kv_status kv_log_add(struct kv_log *log, uint64_t seq, kv_slice batch, kv_slice record);
/* The sequence kv_log_add expects next. */
uint64_t kv_log_next_seq(const struct kv_log *log);
/*
 * Appends what was added in one call and, if sync, syncs it with everything before. Rolls first when the file
 * is full. KV_NO_SPACE, KV_NO_MEMORY, KV_LIMIT, KV_IO: nothing of it is stored or will be found later, and
 * its sequences are free again; the log lives on. KV_UNKNOWN_OUTCOME: it may or may not be found later; the
 * log is dead. KV_READ_ONLY: the log was dead, nothing stored.
 */
KV_MUST kv_status kv_log_write(struct kv_log *log, bool sync, struct kv_err *err);
/* Takes back what was added and not written. */
void kv_log_drop(struct kv_log *log);
/* Makes everything written durable. KV_UNKNOWN_OUTCOME, KV_READ_ONLY as above. */
KV_MUST kv_status kv_log_sync(struct kv_log *log, struct kv_err *err);
/* Syncs, seals the current file if it holds a record, and begins the next. Same answers as kv_log_write. */
KV_MUST kv_status kv_log_roll(struct kv_log *log, struct kv_err *err);
/* False after an unknown outcome. */
bool kv_log_alive(const struct kv_log *log);

/* ---- any thread */

/* Removes sealed files numbered below first, which a durable edit has declared not needed (by number, not by floors:
 * those could take in a file that was sealed since the edit). What cannot be removed is a leftover for the next open. */
KV_MUST kv_status kv_log_trim_below(struct kv_log *log, uint64_t first, struct kv_err *err);
/* The first file that holds puts at or above puts_from or application records at or above records_from, or is not
 * sealed: what the edit that moves the floors declares needed. */
uint64_t kv_log_first_needed(struct kv_log *log, uint64_t puts_from, uint64_t records_from);
/* Calls each for every file, oldest first; the last may be unsealed (sealed false: valid_len is what is
 * written so far). */
KV_MUST kv_status kv_log_files(struct kv_log *log,
                               kv_status (*each)(void *ctx, const struct kv_log_seal *file, bool sealed),
                               void *ctx);

struct kv_log_stats {
    uint64_t last_seq;   /* newest sequence written (or replayed) */
    uint64_t synced_seq; /* newest sequence known durable */
    uint64_t bytes_ever; /* log bytes since the oldest file at open: a position to measure distances by */
    uint64_t file_bytes; /* of all files present */
    uint64_t files, appends, syncs, rolls, rewrites, records,
        torn_bytes;     /* rewrites: new files after a failed append or sync */
    uint64_t lost;      /* sequences a salvage found no record for */
    bool tail_unproven; /* open found a last group of which a crash cannot be told from damage; for check */
};
void kv_log_stats(struct kv_log *log, struct kv_log_stats *out); /* log NULL: all zero */

/* "000012.log". */
void kv_log_name(char out[KV_LOG_NAME_MAX], uint64_t number);
bool kv_log_name_parse(const char *name, uint64_t *number); /* false: not the name of a log file */

#endif
