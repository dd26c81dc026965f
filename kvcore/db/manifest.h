/*
 * manifest.h - the durable list of what the database consists of. Bytes: kvcore/docs/manifest.md.
 *
 * A manifest file is a header, one snapshot and numbered edits behind it. An edit counts once it is appended
 * and synced. A file whose append or sync failed is never written again: the next edit starts a new file
 * (snapshot + edit), made current by the vfs's publish. So does every open, and a file whose edits outgrow
 * its snapshot.
 *
 * Threads    kv_manifest_*: one at a time (the database's manifest lock). States and edits: their owner's.
 * Ownership  a state owns its tables' descriptions; an edit owns its bytes.
 * Failure    a commit that fails has not changed the state; whether the edit is found after a crash is
 *            unknown until a later commit succeeds, so files it names must be kept. Commits may be tried
 *            again.
 */
#ifndef KV_MANIFEST_H
#define KV_MANIFEST_H

#include "kvcore/base/file_header.h"
#include "kvcore/crypt/keyring.h"
#include "kvcore/db/log.h"
#include "kvcore/kv.h"
#include "kvcore/os/clock.h"
#include "kvcore/os/vfs.h"

enum { KV_SPACE_NAME_MAX = 32, KV_MANIFEST_FORMAT = 1 };

/* One table as the manifest knows it. */
struct kv_table_meta {
    uint64_t number;                   /* its file: %06llu.tbl */
    uint64_t run;                      /* tables of one flush, load or merge share it */
    uint64_t bulk_version;             /* the version of every entry; 0: entries carry their own */
    uint64_t version_min, version_max; /* of its entries, bulk_version applied */
    uint64_t entries, deletions, bytes;
    uint32_t space;
    uint32_t level;               /* 0 to KV_LEVELS_MAX - 1; always 0 in a space of style runs */
    uint8_t uid[KV_FILE_UID_LEN]; /* of the file's header: another file under the same name is damage */
    kv_slice smallest, largest;   /* user keys; those of a state lie behind the struct */
};

/* One segment of the value log as the manifest knows it. */
struct kv_segment_meta {
    uint64_t number; /* its file: %06llu.vlg */
    uint64_t bytes;
    uint8_t uid[KV_FILE_UID_LEN];
};

/* A range deletion that tables still have to be read through. */
struct kv_range_meta {
    uint32_t space;
    uint64_t version;
    kv_slice lower, upper; /* those of a state lie behind the struct */
};

struct kv_manifest_space {
    char name[KV_SPACE_NAME_MAX + 1];
    enum kv_style style;
};

struct kv_manifest_state {
    uint8_t uuid[KV_UUID_LEN], hash_seed[KV_UUID_LEN];
    uint64_t edit;        /* number of the newest edit */
    uint64_t owner_epoch; /* grows with every writable open */
    uint64_t next_file;
    uint64_t last_seq;  /* a lower bound of the newest sequence: nothing at or below it is handed out again */
    uint64_t log_floor; /* commits below it have all their puts in tables */
    uint64_t log_first; /* log files below this number are not needed */
    uint64_t
        log_current;     /* the log file written now; 0: none (closed cleanly, or never opened for writing) */
    uint64_t log_uid_of; /* the log file whose uid follows */
    uint8_t log_uid[KV_FILE_UID_LEN];
    uint64_t app_floor; /* application records below it are not needed */
    int64_t retention_ms;
    int64_t job_done_ms[KV_JOBS]; /* when the last run of a job ended well, unix ms; 0: never */
    struct kv_manifest_space spaces[KV_SPACES_MAX];
    uint32_t n_spaces;
    /* The ids of the spaces in the order the writer declared them: batches in the log name spaces by that
     * place. Changed only when no put of the log is needed any more. */
    uint8_t order[KV_SPACES_MAX];
    uint32_t n_order;
    uint64_t plain_below;     /* files below this number may be plain, in a database that is encrypted */
    struct kv_data_key *keys; /* by id; wrapped */
    size_t n_keys, keys_capacity;
    struct kv_log_seal *seals; /* by number */
    size_t n_seals, seals_capacity;
    struct kv_table_meta **tables; /* by number */
    size_t n_tables, tables_capacity;
    struct kv_segment_meta *segments; /* by number */
    size_t n_segments, segments_capacity;
    struct kv_range_meta **ranges; /* in the order they came */
    size_t n_ranges, ranges_capacity;
    uint32_t app_version; /* of what the application stores; 0: none was said */
    struct kv_buf bans;   /* prefixes that are not written to (bans.h) */
};
void kv_manifest_state_release(struct kv_manifest_state *state); /* {0} and twice are fine */
const struct kv_table_meta *kv_manifest_table(const struct kv_manifest_state *state,
                                              uint64_t number); /* or NULL */
const struct kv_segment_meta *kv_manifest_segment(const struct kv_manifest_state *state,
                                                  uint64_t number); /* or NULL */
const struct kv_log_seal *kv_manifest_seal_of(const struct kv_manifest_state *state,
                                              uint64_t number); /* or NULL */

/* Of the current log file's header. NULL: not known. */
static inline const uint8_t *kv_manifest_log_uid(const struct kv_manifest_state *state)
{
    return state->log_current && state->log_uid_of == state->log_current ? state->log_uid : NULL;
}

/* What the log is opened with. Good while the state is. */
static inline struct kv_log_known kv_manifest_log_known(const struct kv_manifest_state *state)
{
    return (struct kv_log_known){.first = state->log_first,
                                 .seals = state->seals,
                                 .n_seals = state->n_seals,
                                 .current = state->log_current,
                                 .current_uid = kv_manifest_log_uid(state),
                                 .edit = state->edit,
                                 .last_seq = state->last_seq,
                                 .puts_from = state->log_floor,
                                 .records_from = state->app_floor};
}

/* An edit under construction. {0} is empty; building cannot fail, the first failure is answered by the
 * commit. */
struct kv_edit {
    struct kv_buf fields;
    kv_status rc;
};
void kv_edit_release(struct kv_edit *edit);
void kv_edit_identity(struct kv_edit *edit, const uint8_t uuid[KV_UUID_LEN],
                      const uint8_t hash_seed[KV_UUID_LEN]);
void kv_edit_space(struct kv_edit *edit, uint32_t id, const char *name, enum kv_style style);
void kv_edit_space_order(struct kv_edit *edit, const uint8_t *ids, size_t n);
void kv_edit_add_table(struct kv_edit *edit, const struct kv_table_meta *meta);
void kv_edit_drop_table(struct kv_edit *edit, uint64_t number);
void kv_edit_move_table(struct kv_edit *edit, uint64_t number, uint32_t level);
void kv_edit_add_segment(struct kv_edit *edit, const struct kv_segment_meta *segment);
void kv_edit_drop_segment(struct kv_edit *edit, uint64_t number);
void kv_edit_add_range(struct kv_edit *edit, const struct kv_range_meta *range);
void kv_edit_drop_range(struct kv_edit *edit, const struct kv_range_meta *range);
void kv_edit_app_version(struct kv_edit *edit, uint32_t version);
void kv_edit_bans(struct kv_edit *edit, kv_slice list); /* takes the place of the list so far */
void kv_edit_seal(struct kv_edit *edit, const struct kv_log_seal *seal);
void kv_edit_log_floor(struct kv_edit *edit, uint64_t seq,
                       uint64_t first_file); /* drops the seals of files below */
void kv_edit_log_current(struct kv_edit *edit, uint64_t number);
void kv_edit_log_uid(struct kv_edit *edit, uint64_t number, const uint8_t uid[KV_FILE_UID_LEN]);
void kv_edit_app_floor(struct kv_edit *edit, uint64_t seq);
void kv_edit_next_file(struct kv_edit *edit, uint64_t number);
void kv_edit_last_seq(struct kv_edit *edit, uint64_t seq);
void kv_edit_retention(struct kv_edit *edit, int64_t unix_ms);
void kv_edit_job_done(struct kv_edit *edit, uint64_t job, int64_t unix_ms);
void kv_edit_owner_epoch(struct kv_edit *edit, uint64_t epoch);
void kv_edit_data_key(struct kv_edit *edit,
                      const struct kv_data_key *key); /* a new one, or one wrapped anew */
void kv_edit_key_sealed(struct kv_edit *edit, uint64_t id, uint64_t pieces);
void kv_edit_plain_below(struct kv_edit *edit, uint64_t number);
/* The fields that make state out of nothing, the edit number excepted. */
void kv_edit_snapshot(struct kv_edit *edit, const struct kv_manifest_state *state);

/* Applies an edit's fields to state, which is unchanged on failure. KV_CORRUPT: the edit contradicts itself
 * or the state (the text says how); KV_TOO_NEW: a field this version does not know and must not skip. */
struct kv_manifest_change;
KV_MUST kv_status kv_manifest_apply(struct kv_manifest_state *state, kv_slice fields, struct kv_err *err);

/* The same in two steps: what can fail, and what cannot. fields must live until the change is applied or
 * freed, and the state must not change in between. */
KV_MUST kv_status kv_manifest_prepare(struct kv_manifest_state *state, kv_slice fields,
                                      struct kv_manifest_change **out, struct kv_err *err);
void kv_manifest_change_apply(struct kv_manifest_state *state, struct kv_manifest_change *change);
const struct kv_manifest_state *
kv_manifest_change_next(const struct kv_manifest_change *change); /* without tables and seals */
void kv_manifest_change_free(struct kv_manifest_change *change);  /* NULL is fine */

/* One snapshot or edit as found in a file, for dumps and checks. fields borrowed. */
struct kv_manifest_frame {
    uint64_t offset, number;
    kv_slice fields;
};
/* A walk over the frames of a file; begin with offset KV_FILE_HEADER_LEN. */
struct kv_manifest_walk {
    kv_slice file;            /* all of it, header included; or from base on */
    uint64_t base;            /* where the slice begins in the file */
    const uint8_t *uid;       /* of the header */
    struct kv_cipher *cipher; /* borrowed; NULL: the file is not encrypted */
    uint64_t offset;          /* behind the last frame */
    struct kv_buf plain;      /* a decrypted frame's fields; the caller releases it */
};
/* The frame at the offset, good until the next call. KV_END: nothing valid follows, torn bytes at most. KV_CORRUPT: a
 * damaged frame with a valid one behind it. */
KV_MUST kv_status kv_manifest_walk_next(struct kv_manifest_walk *walk, struct kv_manifest_frame *out,
                                        struct kv_err *err);
/* The state all frames of a plain file add up to; name is for texts. */
KV_MUST kv_status kv_manifest_replay(kv_slice file, const char *name, struct kv_manifest_state *state,
                                     struct kv_err *err);
/* Prints one line for each field of an edit. KV_TOO_NEW and KV_CORRUPT as for apply. */
KV_MUST kv_status kv_manifest_describe(kv_slice fields, void (*each)(void *ctx, const char *line), void *ctx);

struct kv_manifest {
    struct kv_dir *dir;     /* borrowed */
    struct kv_clock *clock; /* borrowed; for random identities */
    struct kv_manifest_state state;
    struct kv_keyring *keys;  /* owned; NULL: the database is not encrypted */
    struct kv_cipher *cipher; /* of file */
    struct kv_file *file;     /* NULL: the next commit starts a new file */
    struct kv_file_header header;
    char name[32]; /* the current file's, "" while none is published */
    uint64_t offset, generation;
    uint64_t snapshot_bytes, edit_bytes;
    _Atomic uint64_t next_file;              /* where the numbers of all the database's files come from */
    uint64_t files_started, edits_committed; /* metrics */
};
/* Reads what is published in dir, and makes its keyring if it is encrypted. source: NULL or all zero: no key is given.
 * KV_NOT_FOUND (positive): nothing is, the directory holds no database. KV_WRONG_KEY. Close it in any case. */
KV_MUST kv_status kv_manifest_load(struct kv_manifest *manifest, struct kv_dir *dir, struct kv_clock *clock,
                                   const struct kv_key_source *source, struct kv_err *err);
/*
 * What another process has committed since the manifest was loaded or followed last: edits behind those known, or, where another
 * file was published, all of that one. Only what is new is read. What changed is told by generation and state.edit.
 * A failure leaves the state as it was at some edit; it may be a matter of the moment (a file that went while it was opened): try
 * again. KV_MISSING: no database is there any more; KV_INVALID: it is another one; KV_WRONG_KEY: its master key was changed.
 */
KV_MUST kv_status kv_manifest_follow(struct kv_manifest *manifest, struct kv_err *err);
/* Gives a database that is new, or not encrypted yet, the source's key: what is written from now on is encrypted. The
 * next edit must make its first data key. */
KV_MUST kv_status kv_manifest_encrypt(struct kv_manifest *manifest, const struct kv_key_source *source,
                                      const uint8_t uuid[KV_UUID_LEN], struct kv_err *err);
/* Makes a data key and adds it to edit; it is in use once the edit is committed. */
KV_MUST kv_status kv_manifest_make_key(struct kv_manifest *manifest, struct kv_edit *edit,
                                       struct kv_err *err);
/* Puts another master key in the place of the one in use. */
KV_MUST kv_status kv_manifest_rekey(struct kv_manifest *manifest, const uint8_t master[KV_MASTER_KEY_LEN],
                                    struct kv_err *err);
/* Appends and syncs edit, or starts a new file with it. Adds next_file itself, and counts what was encrypted. */
KV_MUST kv_status kv_manifest_commit(struct kv_manifest *manifest, struct kv_edit *edit, struct kv_err *err);
/* A file number never used before in this database. Any thread. */
uint64_t kv_manifest_take_number(struct kv_manifest *manifest);
/* Appends the whole of a manifest file that says state, the description of a copy of the database. keys: of the database, NULL
 * when it is not encrypted; the copy has the master key of this moment. */
KV_MUST kv_status kv_manifest_build_copy(struct kv_clock *clock, struct kv_keyring *keys,
                                         const struct kv_manifest_state *state, struct kv_buf *bytes);
/* Writes such a file into target, durably; to be published under name. */
KV_MUST kv_status kv_manifest_write_copy(struct kv_dir *target, struct kv_clock *clock,
                                         struct kv_keyring *keys, const struct kv_manifest_state *state,
                                         uint64_t file_number, char name[32], struct kv_err *err);
void kv_manifest_close(struct kv_manifest *manifest);

/* "000012.log" and the like; false if name is none of ours. */
enum kv_file_kind_name { KV_NAME_LOG, KV_NAME_TABLE, KV_NAME_MANIFEST, KV_NAME_SEGMENT };
void kv_file_name(char out[32], uint64_t number, enum kv_file_kind_name kind);
bool kv_file_name_parse(const char *name, uint64_t *number, enum kv_file_kind_name *kind);

#endif
