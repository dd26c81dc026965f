/*
 * kv.h - kvcore: an embeddable, ordered, durable key-value store. This is its whole public face.
 *
 * A kv_env owns threads, caches, the memory budget, vfs and clock; one or more databases are opened in it. A
 * database has up to KV_SPACES_MAX named spaces with one log, one version order and atomic commits across
 * them.
 *
 * Bytes      keys: 1 to KV_KEY_LEN_MAX bytes, ordered as unsigned bytes. values: 0 to KV_VALUE_LEN_MAX; written and read
 *            in parts (large values) to KV_LARGE_VALUE_MAX.
 * Durability kv_commit answers KV_OK only after an fdatasync that began after the commit's bytes were written
 *            and returned 0 (unless the database was opened with a weaker durability).
 * Threads    every function may be called by any thread at once unless it says otherwise; a batch, iterator,
 *            cursor or bulk load belongs to one thread at a time.
 * Ownership  slices passed in are copied or used before return; slices handed out say how long they live.
 * Errors     negative statuses. KV_CORRUPT is damage (file and offset in the log and in *err); KV_READ_ONLY:
 *            the database stopped accepting writes (kv_health says why); KV_UNKNOWN_OUTCOME: a commit whose
 *            bytes may or may not survive a crash. err may be NULL everywhere.
 */
#ifndef KV_H
#define KV_H

#include "kvcore/base/buf.h"
#include "kvcore/base/limits.h"
#include "kvcore/base/logfmt.h"
#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

enum {
    KV_SPACES_MAX = 32,
    KV_LEVELS_MAX = 7, /* of a levelled space: 0 to 6 */
    KV_COMMIT_BYTES_MAX = 256 << 20,
    KV_MASTER_KEY_LEN = 32,
    KV_THREADS_NONE = -1,
    KV_MEMORY_BYTES_MIN = 8 << 20,
};
#define KV_VERSIONS_ALL UINT32_MAX

struct kv_vfs;
struct kv_clock;
struct kv_env;
struct kv_db;
struct kv_batch;
struct kv_snapshot;
struct kv_bulk;
struct kv_records;
struct kv_txn;
struct kv_sequence;
struct kv_writer;
struct kv_subscription;
struct kv_value_writer;
struct kv_value_reader;

/* ---- environment */

/* All zero is the default. */
struct kv_env_options {
    struct kv_vfs *vfs; /* NULL: the operating system */
    bool
        in_memory; /* databases live in the environment's memory, and are gone when it is closed; nothing else about
                       them differs. KV_INVALID together with vfs */
    struct kv_clock *clock; /* NULL: the system clock */
    struct kv_logger log;   /* sink NULL: silent. Copied; its ctx must outlive the environment */
    uint64_t cache_bytes;   /* decompressed blocks, filters and indexes of all databases. 0: 64 MiB, or with
                             memory_bytes all that memtables leave */
    uint64_t
        cache_bytes_most; /* what kv_env_set_cache_bytes may raise that to. 0: no more than it is at open */
    /* One budget for memtables and cache of all databases, 8 MiB or more: the cache has what memtables leave (an eighth
     * at least); when memtables being written have three eighths of it the largest is flushed early, whatever
     * memtable_bytes says; when all have three quarters commits wait for flushes. A commit or a value larger than an eighth may pass it for a moment. 0: none */
    uint64_t memory_bytes;
    int threads; /* background workers shared by all databases: one is kept for flushes, the others merge. 0: 2.
                    1: flushes and merges in turns. KV_THREADS_NONE: none; flushes and merges then run inside
                    kv_work (and inside a commit that finds no room), so that a test decides the order */
    /* What flushes and merges of all databases may write to the disk in a second, about. Flushes never wait for
     * it, merges do; where merges fall behind, commits are slowed down in the end. 0: no limit */
    uint64_t background_bytes_per_s;
};
KV_API KV_MUST kv_status kv_env_open(const struct kv_env_options *options, struct kv_env **out,
                                     struct kv_err *err);
/* Every database must be closed. NULL is fine. */
KV_API void kv_env_close(struct kv_env *env);
/* From now on the cache has at most so much: what is over it is dropped at once. Raised at most to what
 * cache_bytes_most said at open; with memory_bytes that bounds it, too. */
KV_API void kv_env_set_cache_bytes(struct kv_env *env, uint64_t bytes);
KV_API struct kv_clock *kv_env_clock(struct kv_env *env);
KV_API const struct kv_logger *kv_env_log(struct kv_env *env);
/* Background workers it runs; KV_THREADS_NONE when none. */
KV_API int kv_env_threads(const struct kv_env *env);

/* ---- database */

enum kv_style {
    KV_STYLE_RUNS = 0,     /* flushes and bulk loads are kept as overlapping runs; past KV_RUNS_MAX in one cut
                              they become one */
    KV_STYLE_LEVELLED = 1, /* flushes are merged down levels of disjoint tables, each `level_multiplier` times
                              the one above: for data that is overwritten and deleted in any order */
};
enum kv_compression { KV_COMPRESSION_ZSTD = 0, KV_COMPRESSION_NONE = 1, KV_COMPRESSION_SNAPPY = 2 };
enum kv_durability {
    KV_DURABILITY_GROUP = 0, /* commits that wait together share one fdatasync */
    KV_DURABILITY_ALWAYS,    /* one fdatasync each */
    KV_DURABILITY_INTERVAL,  /* answered before the sync; synced at least every sync_interval_ms */
    KV_DURABILITY_OS,        /* synced at roll and close only */
};
enum { KV_RUNS_MAX = 8 };

/* What a merge hands to a hook, and gets back. */
struct kv_hook_entry {
    kv_slice key, value; /* borrowed for the call */
    uint64_t version;
};
struct kv_hook_sink {
    /* Keys must increase and lie in the group. Copies. */
    kv_status (*add)(struct kv_hook_sink *sink, kv_slice key, kv_slice value);
};
/*
 * What a space's owner does to its entries while they are merged to the bottom. The hook sees whole groups,
 * in key order, newest version of each key only, deletions already applied. It does no I/O and does not call
 * kv_* of the same database. A commit that is still in memory when the merge runs stays newer than what the hook returns,
 * key by key: a hook that moves data from key to key wants deletions of whole groups (kv_batch_delete_range of the
 * group's prefix), for a deletion of one key knows nothing of where its data went meanwhile.
 */
struct kv_hook {
    void *ctx;
    /* The length of the key prefix that makes entries one group: 1 to key.len. */
    size_t (*group_len)(void *ctx, kv_slice key);
    /* A merge of [lower, upper) (empty slices: unbounded) starts, on the merging thread; *merge is handed to
     * the calls below. */
    kv_status (*begin)(void *ctx, kv_slice lower, kv_slice upper, void **merge);
    kv_status (*group)(void *merge, const struct kv_hook_entry *entries, size_t n, struct kv_hook_sink *sink);
    /* Called once after every successful begin. installed: the result became part of the database. */
    void (*end)(void *merge, bool installed);
};

/*
 * How operands are folded into a value: counters, sets, appending. Pure: called by readers and merges, on any
 * thread, any number of times for the same operands. Folding operands a, b into a value must give what folding
 * a and then b gives.
 */
struct kv_merge_operator {
    void *ctx;
    /* Appends the new value to *out. value: NULL when the key has none. operands: oldest first. A negative
     * answer fails the read, and keeps the operands as they are in a merge. */
    kv_status (*fold)(void *ctx, kv_slice key, const kv_slice *value, const kv_slice *operands, size_t n,
                      struct kv_buf *out);
};

/* All zero but name is the default space. */
struct kv_space_options {
    const char *name; /* 1 to 32 of [a-z0-9_] */
    enum kv_style style;
    enum kv_compression compression;
    uint32_t block_bytes; /* 0: 4096 */
    uint32_t
        block_bytes_most; /* how large a block may become if the one before it lost an eighth or more by compression: neighbours share more, a
                                  read of one entry unpacks more. 0: block_bytes; else block_bytes to 1 MiB */
    bool no_filter;       /* no bloom filter: for spaces that are only scanned */
    const struct kv_hook *hook;            /* NULL: none. Must outlive the database */
    const struct kv_merge_operator *merge; /* NULL: kv_batch_merge is refused. Must outlive the database */
    uint64_t
        value_separate_bytes; /* values from this length on are written to the value log by flushes and merges,
                                      and tables hold pointers: less is rewritten, scans read more. 64 to
                                      KV_VALUE_LEN_MAX; 0: never. May differ from open to open. Not with a hook */
    uint32_t versions_kept;   /* of each key at least, newest first, until a deletion. 0: 1. KV_VERSIONS_ALL.
                               More than 1 not together with a hook or a merge operator */
    /* The length of the key prefix that tables never straddle: 0 to key.len. NULL: 0, no cuts. */
    size_t (*cut_len)(kv_slice key);
    uint64_t
        table_bytes; /* merges split tables at about so much, between keys. 0: 64 MiB; levelled: 32 MiB */
    /* Levelled spaces only. */
    uint64_t level_base_bytes; /* the first level below level 0 holds at most about so much. 0: 256 MiB */
    uint32_t level_multiplier; /* each level to the one above. 0: 10; 2 to 100 */
    /* Deletions that have waited so long are merged down until they have met what they hide, however few they
     * are. 0: 7 days */
    uint32_t deletions_age_s;
    uint32_t level0_runs; /* so many flushes on level 0 are merged down. 0: 4; 1 to 64 */
};

/*
 * Live application records go to one apply function: in sequence order, after their commit's sync and puts,
 * before the commit's version is visible, one call at a time, on whichever committing thread leads.
 * commit_ctx is the commit's own (kv_commit_options.ctx). It must not call kv_commit. It cannot fail: what
 * could fail is checked before the commit.
 */
typedef void (*kv_apply_fn)(void *ctx, uint64_t seq, kv_slice record, void *commit_ctx);

/*
 * Encryption at rest (kvcore/docs/encryption.md): where a database gets its master key. All zero: it is not
 * encrypted. The key is copied into locked memory at open, and never written anywhere.
 */
struct kv_key_source {
    const uint8_t *master_key; /* KV_MASTER_KEY_LEN secret random bytes; used during kv_open only */
    /* Or: writes the master key that kv_master_key_id calls id, of which there may be several while one is
     * rotated; id 0: the one a new database begins with. A negative answer fails the open. */
    kv_status (*key_of)(void *ctx, uint64_t id, uint8_t key[KV_MASTER_KEY_LEN]);
    void *ctx;
    bool allow_plain; /* a database that is not encrypted is taken too, instead of KV_WRONG_KEY; opened for
                         writing, it is encrypted from then on: new files at once, old ones as they are merged */
};

/* ---- tracing */

/* One operation, as a tracer sees it. Strings are static or the database's. */
struct kv_trace_op {
    const char *system; /* "kvcore": OpenTelemetry's db.system */
    const char *
        operation; /* db.operation: get, scan (from an iterator's opening to its closing), commit, txn_commit,
                              commit_async and txn_commit_async (until they are queued), sync, flush, merge, merge_range */
    const char *space; /* its name; NULL: of no single one */
    kv_slice key;      /* get: the key; scan: the lower bound; good for the call. Empty otherwise */
    uint64_t entries;  /* commit: of the batch */
    /* From here on known at the end only. */
    uint64_t value_bytes; /* get: of the value found; commit: keys, values and record */
    bool found;           /* get */
    kv_status status;
    uint64_t duration_ns;
};
/*
 * Called around operations, on the thread that runs them; flushes and merges on background threads too. Both must be
 * quick, call no kv_* of the same database, and may not be NULL. Without a tracer an operation costs one branch more.
 */
struct kv_trace {
    void *ctx;
    void *(*begin)(void *ctx, const struct kv_trace_op *op); /* what it answers is handed to its end */
    void (*end)(void *ctx, void *span, const struct kv_trace_op *op);
};

struct kv_options {
    const struct kv_space_options
        *spaces;     /* at least one; copied. Every space the database has must be declared, in any order; */
    size_t n_spaces; /* new names are added */
    uint64_t memtable_bytes; /* all spaces together, before a flush starts. 0: 32 MiB */
    uint64_t log_bytes_max;  /* a memtable whose oldest entry is further behind the log's end is flushed. 0:
                                512 MiB */
    uint64_t
        log_file_bytes; /* a log file is rolled past this. 0: memtable_bytes, at least 1 and at most 64 MiB */
    enum kv_durability durability;
    uint32_t sync_interval_ms; /* KV_DURABILITY_INTERVAL: 10 to 60000 */
    uint64_t
        disk_reserve_bytes; /* writes stop below this much free space (plus the reserve file). 0: 64 MiB */
    /* A value that kv_value_writer_* writes and that is longer goes to a segment of its own; shorter ones are put as any
     * other. 0: 1 MiB; 256 to 32 MiB */
    uint64_t large_value_bytes;
    bool read_only; /* shared lease, replay into memory, writes nothing */
    bool
        follow; /* read-only beside a writer, of this process or another: see kv_follow_refresh. No lease, no file is
                    written */
    bool must_exist; /* KV_MISSING instead of creating */
    uint32_t
        app_version; /* the application's own, of what it stores: kept when the database is created, and asked for
                               at every open. One with another is refused, KV_TOO_NEW if its is higher and KV_INVALID
                               if it is lower. 0: not asked for */
    kv_apply_fn apply; /* NULL: commits may carry no record */
    void *apply_ctx;
    const struct kv_trace *trace; /* NULL: none. Must outlive the database */
    struct kv_key_source key;
    uint32_t data_key_days;   /* a new key for new files when the last one is so old. 0: 10; at most 3650 */
    uint64_t data_key_blocks; /* or has encrypted so many blocks. 0: 2^32 */
};
/*
 * Opens or creates the database in the directory path: takes its lease, reads the manifest, replays the log's
 * puts, seals older log files. Application records at or above the application floor are not applied: the
 * application reads them with kv_records_open. A table or a segment of the value log that is damaged, missing or another
 * file does not refuse the open: it is told in the log (file, offset, which keys, what to run) and counted by the metric
 * kv_damaged_files; whatever asks for its keys is answered KV_CORRUPT, everything else goes on (kvcore/docs/tree.md).
 * KV_BUSY: held by another process (err says which); KV_CORRUPT: manifest or log is damaged (err: file, offset, what to run); KV_TOO_NEW; KV_INVALID: options out of
 * range, or path holds something else; KV_WRONG_KEY: it is encrypted under another key than the one given, or
 * there is a key too many or too few.
 */
KV_API KV_MUST kv_status kv_open(struct kv_env *env, const char *path, const struct kv_options *options,
                                 struct kv_db **out, struct kv_err *err);
/* Waits for commits under way, puts what an open would have to replay into tables (unless that is little), stops
 * background work, seals the log. The database is closed whatever is
 * answered; an error says that the next open will have to recover (nothing answered is lost). Iterators,
 * snapshots, cursors and bulk loads must be gone. */
KV_API kv_status kv_close(struct kv_db *db, struct kv_err *err);

/* The place of a space: index into kv_options.spaces as given at open. All calls below take it as `space`. */

/* ---- following: kvcore/docs/follower.md */

/*
 * A follower (kv_options.follow) shows a database that another process has open for writing, or none has, as it was at one
 * moment: kv_open's, or the last refresh's. Any number of them may be beside one writer, which does not know of them and never waits.
 * A refresh shows what has come since: everything that was answered before it began (to commits, and edits of the tree), in
 * the order of versions without a gap, and nothing that a recovery of the writer's files at that moment would not find. *seq
 * (may be NULL): the newest version that is visible now, also after a failure. It can fall behind where it was only when
 * the writer's disk failed, or the machine under it, and took back what had not been answered. Snapshots, iterators and
 * transactions keep the moment they began at, and their files, as open descriptors, even when the writer has removed them.
 *
 * Not on a follower: writing and kv_checkpoint (KV_READ_ONLY), kv_backup and kv_records_open (KV_UNSUPPORTED).
 * KV_OK; else everything stays as it was, and it may be tried again: KV_CORRUPT, KV_IO, KV_NO_MEMORY, KV_LIMIT (descriptors);
 * KV_WRONG_KEY: the master key was changed, KV_INVALID: the writer has declared a new space, or another database lies there: open it
 * anew; KV_MISSING: nothing lies there any more. KV_INVALID too: db is no follower.
 */
KV_API KV_MUST kv_status kv_follow_refresh(struct kv_db *db, uint64_t *seq, struct kv_err *err);

/* ---- writing */

KV_API KV_MUST kv_status kv_batch_new(struct kv_batch **out);
KV_API void kv_batch_free(struct kv_batch *batch); /* NULL is fine */
KV_API void
kv_batch_clear(struct kv_batch *batch); /* keeps its memory for the next use, unless it is large */
/* A later put or delete of the same key in the same space replaces the earlier one. */
KV_API KV_MUST kv_status kv_batch_put(struct kv_batch *batch, uint32_t space, kv_slice key, kv_slice value);
KV_API KV_MUST kv_status kv_batch_delete(struct kv_batch *batch, uint32_t space, kv_slice key);
/* All zero: a plain put. */
struct kv_put_options {
    uint64_t expires_at_s; /* unix seconds by the retention clock; from then on the key is absent. 0: never */
    uint8_t meta;          /* the caller's own; handed back with the value */
    bool ends_history;     /* older versions of the key are not kept, whatever versions_kept says */
};
/* As kv_batch_put, with attributes (NULL: none). Not in a space with a hook. */
KV_API KV_MUST kv_status kv_batch_put_with(struct kv_batch *batch, uint32_t space, kv_slice key,
                                           kv_slice value, const struct kv_put_options *options);
/* Adds an operand for the space's merge operator, behind what the batch did to the key before. */
KV_API KV_MUST kv_status kv_batch_merge(struct kv_batch *batch, uint32_t space, kv_slice key,
                                        kv_slice operand);
/* Deletes every key of [lower, upper), both not empty, that was written before: by earlier commits, or
 * earlier into this batch. O(1) for the database, whatever lies in the range. KV_INVALID: lower is not below
 * upper. */
KV_API KV_MUST kv_status kv_batch_delete_range(struct kv_batch *batch, uint32_t space, kv_slice lower,
                                               kv_slice upper);
KV_API size_t kv_batch_count(const struct kv_batch *batch);

struct kv_commit_options {
    kv_slice record; /* opaque application record, logged under the commit's sequence and sync; empty: none */
    /* Called under the commit lock once the sequence is known, in sequence order: may add to the batch and
     * replace *record (bytes must live until kv_commit returns). Reads made here see everything enqueued
     * before only through the caller's own state, not through kv_get. A negative answer cancels the commit:
     * nothing is logged, no sequence is used. NULL: none. */
    kv_status (*prepare)(void *ctx, uint64_t seq, struct kv_batch *batch, kv_slice *record);
    /* Called under the commit lock if the commit failed after prepare answered KV_OK; newest first. NULL:
     * none. */
    void (*undo)(void *ctx);
    void *ctx;
    bool
        past_floor; /* taken even while the disk is below its floor: for deletes, which free space in the end */
    uint64_t
        version; /* not 0: the version it must get, which is the next one, or KV_CONFLICT: so that several
                         databases fed from one ordered log have the same versions */
};
/*
 * Logs, syncs, applies and publishes. batch may be NULL or empty if there is a record. *seq (may be NULL):
 * the commit's version. KV_READ_ONLY, KV_NO_SPACE: nothing stored. KV_UNKNOWN_OUTCOME: the disk failed in
 * between, the database is read-only from now on. KV_LIMIT: over KV_COMMIT_BYTES_MAX.
 */
KV_API KV_MUST kv_status kv_commit(struct kv_db *db, struct kv_batch *batch,
                                   const struct kv_commit_options *options, uint64_t *seq,
                                   struct kv_err *err);
/*
 * kv_commit that does not wait: KV_OK once the commit has its place in the order of versions, and *batch is empty and free
 * for the next. done is then called exactly once, with what kv_commit would have answered, and the version; it becomes
 * visible to all before that. Any other answer: nothing has happened, done is not called, the batch is as it was. So
 * KV_CLOSED, KV_INVALID, KV_LIMIT, KV_READ_ONLY, KV_NO_SPACE as far as they are known now, and KV_BUSY: KV_ASYNC_COMMITS_MAX
 * commits or KV_ASYNC_BYTES_MAX bytes wait for their callbacks; it never waits for room.
 * options: as kv_commit, copied, the record too; ctx must live until done. prepare is called now.
 * Threads    callbacks come in the order of the calls, one at a time, from one thread of the database's own (it is started
 *            by the first such commit). They must be quick: later ones wait. They may call everything but kv_close,
 *            kv_commit included. With KV_THREADS_NONE a commit waits until kv_work, kv_commit, kv_sync or whatever
 *            else commits is called; that call makes it and calls back before it returns.
 * kv_sync answers when all of them have been made; kv_close when all have been called back.
 */
enum { KV_ASYNC_COMMITS_MAX = 65536, KV_ASYNC_BYTES_MAX = 64 << 20 };
typedef void (*kv_committed_fn)(void *ctx, kv_status rc, uint64_t version);
KV_API KV_MUST kv_status kv_commit_async(struct kv_db *db, struct kv_batch *batch,
                                         const struct kv_commit_options *options, kv_committed_fn done,
                                         void *done_ctx, struct kv_err *err);
/* Makes everything answered so far durable, whatever the durability option. */
KV_API KV_MUST kv_status kv_sync(struct kv_db *db, struct kv_err *err);

/* ---- reading */

/* Pins what is visible now; its files stay until it is closed. */
KV_API KV_MUST kv_status kv_snapshot_open(struct kv_db *db, struct kv_snapshot **out);
KV_API void kv_snapshot_close(struct kv_snapshot *snapshot); /* NULL is fine */
KV_API uint64_t kv_snapshot_seq(const struct kv_snapshot *snapshot);

/* A value lent by kv_get: data lives until kv_pinned_release (release before the snapshot or database is
 * closed). */
struct kv_pinned {
    kv_slice value;
    uint64_t version;
    uint64_t expires_at_s; /* 0: never */
    uint8_t meta;
    void *pin; /* private */
    int kind;  /* private */
};
/* snapshot NULL: what is visible now. KV_NOT_FOUND (positive) leaves *out empty. */
KV_API KV_MUST kv_status kv_get(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t space,
                                kv_slice key, struct kv_pinned *out, struct kv_err *err);
KV_API void kv_pinned_release(struct kv_pinned *pinned); /* {0} and twice are fine */
/* What a value takes where it lies: its length, or of one in the value log, which is not read, the bytes stored there,
 * compressed, and 9. KV_NOT_FOUND. */
KV_API KV_MUST kv_status kv_stored_bytes(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t space,
                                         kv_slice key, uint64_t *bytes, struct kv_err *err);

/* key, value and the rest are plain fields, so reading them costs no call; they are good until the iterator's
 * next call. */
struct kv_iter {
    const struct kv_iter_ops *ops;
    kv_slice key, value;
    uint64_t version;
    uint64_t expires_at_s; /* 0: never */
    uint8_t meta;
    bool deleted;          /* all_versions only: a deletion, or expired */
    uint64_t stored_bytes; /* keys_only: what the value takes where it lies, see kv_stored_bytes */
    uint64_t
        large_bytes; /* kv_iter_options.large_values only: the length of a value too long to be lent; value is empty.
                             0: it is not */
};
struct kv_iter_ops {
    kv_status (*seek)(struct kv_iter *it, kv_slice target);
    kv_status (*next)(struct kv_iter *it);
    kv_status (*seek_before)(struct kv_iter *it, kv_slice target);
    kv_status (*prev)(struct kv_iter *it);
    void (*close)(struct kv_iter *it);
};
/* All zero: every key, what is visible now. */
struct kv_iter_options {
    const struct kv_snapshot *snapshot; /* NULL: one is taken for the iterator's life */
    kv_slice lower, upper; /* [lower, upper), copied; empty: unbounded. A prefix is lower = prefix and upper =
                              what kv_prefix_end makes of it */
    uint64_t since;        /* only keys (with all_versions: versions) written after this version. Deletions
                              cannot be seen without all_versions, and merges forget them: not a backup */
    bool all_versions;     /* each version that is kept, newest first, deletions and expired ones too (see
                          deleted); what a range deletion covers is gone. KV_INVALID with a merge operator */
    bool keys_only;        /* values stay empty, and separated ones are not read */
    bool no_fill;          /* blocks read do not go into the cache */
    bool
        large_values; /* values over KV_VALUE_LEN_MAX are shown (large_bytes) and not read; without it, and without
                              keys_only, to meet one answers KV_LIMIT */
};
/* Not positioned: seek first. KV_INVALID: space or bounds; KV_NO_MEMORY. */
KV_API KV_MUST kv_status kv_iter_open_with(struct kv_db *db, uint32_t space,
                                           const struct kv_iter_options *options, struct kv_iter **out);
KV_API KV_MUST kv_status kv_iter_open(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t space,
                                      kv_slice lower, kv_slice upper, struct kv_iter **out);
/* The first key >= target (empty: the lower bound): KV_OK, KV_END or negative. */
static inline KV_MUST kv_status kv_iter_seek(struct kv_iter *it, kv_slice target)
{
    return it->ops->seek(it, target);
}
/* The last key < target (empty: the upper bound). */
static inline KV_MUST kv_status kv_iter_seek_before(struct kv_iter *it, kv_slice target)
{
    return it->ops->seek_before(it, target);
}
/* After KV_OK of whichever call: directions may be changed. After KV_END, asked again, it is KV_END again. */
static inline KV_MUST kv_status kv_iter_next(struct kv_iter *it)
{
    return it->ops->next(it);
}
static inline KV_MUST kv_status kv_iter_prev(struct kv_iter *it)
{
    return it->ops->prev(it);
}
static inline void kv_iter_close(struct kv_iter *it)
{
    if (it)
        it->ops->close(it);
}
/* The first key behind every key that begins with prefix replaces *out (empty: there is none). */
KV_API KV_MUST kv_status kv_prefix_end(kv_slice prefix, struct kv_buf *out);

/* ---- large values */

/*
 * A value that is too long to be in memory whole, up to KV_LARGE_VALUE_MAX: written piece by piece, then put by a batch like any
 * other, atomically with what else is in it; read from any place of it, with only the blocks verified that are touched.
 * Long ones (kv_options.large_value_bytes) are written once, to a file of their own, which is removed when the value is
 * overwritten, deleted or has expired, and nobody reads it any more.
 *
 * kv_get and iterators give such a value whole up to KV_VALUE_LEN_MAX, and answer KV_LIMIT for a longer one (iterators: but see
 * large_values); so do kv_stream and kv_export. Checkpoints and backups have them all. Not in a space with a hook. Operands are
 * folded into one when it is read, by kv_get up to KV_VALUE_LEN_MAX; not within one batch (KV_INVALID).
 *
 * Its commit is waited for: kv_commit_async refuses it (KV_INVALID).
 *
 * Threads    a writer or reader belongs to one thread at a time.
 * Ownership  kv_value_writer_free whenever the caller likes: what was committed stays, a batch that holds the value still has
 *            it, and what neither is is removed. Writers, readers and batches that hold values go before kv_close.
 */
KV_API KV_MUST kv_status kv_value_writer_open(struct kv_db *db, uint32_t space, struct kv_value_writer **out,
                                              struct kv_err *err);
/* After a failure, of finish too, only free. KV_LIMIT: too long; KV_NO_SPACE: the disk is below its floor. */
KV_API KV_MUST kv_status kv_value_writer_append(struct kv_value_writer *writer, kv_slice bytes,
                                                struct kv_err *err);
/* The value is whole, and durable if it has a file of its own: it may be put. */
KV_API KV_MUST kv_status kv_value_writer_finish(struct kv_value_writer *writer, struct kv_err *err);
KV_API void kv_value_writer_free(struct kv_value_writer *writer); /* NULL is fine */
/* Puts the value (options NULL: without attributes) in the space it was written for. It can be committed once, and one batch at
 * a time holds it, until it is cleared or freed: a commit that failed may be tried again, with this batch or another.
 * KV_INVALID: not finished, or of another space; KV_BUSY: a batch holds it; KV_EXISTS: it was committed. */
KV_API KV_MUST kv_status kv_batch_put_value(struct kv_batch *batch, uint32_t space, kv_slice key,
                                            struct kv_value_writer *writer,
                                            const struct kv_put_options *options);

struct kv_value_info {
    uint64_t bytes, version;
    uint64_t expires_at_s; /* 0: never */
    uint8_t meta;
};
/* Opens the value of a key as of now or of a snapshot, of whatever length, and keeps it, whatever happens to the key. KV_NOT_FOUND
 * (positive). */
KV_API KV_MUST kv_status kv_value_open(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t space,
                                       kv_slice key, struct kv_value_reader **out, struct kv_err *err);
KV_API const struct kv_value_info *kv_value_info(const struct kv_value_reader *reader);
/* Up to len bytes from offset on; *got is less than len only at the end. KV_CORRUPT: a block of the range is damaged; others
 * may be read. */
KV_API KV_MUST kv_status kv_value_read_at(struct kv_value_reader *reader, uint64_t offset, size_t len,
                                          void *into, size_t *got, struct kv_err *err);
KV_API void kv_value_close(struct kv_value_reader *reader); /* NULL is fine */

/* ---- transactions */

/*
 * A transaction reads one moment and commits at a later one, as if it had run there alone: serializable, in the
 * order of versions. It is optimistic: nothing is locked, and the commit is refused with KV_CONFLICT when anything
 * that was read (keys found, keys not found, the parts of ranges walked) was changed since, by whatever means:
 * a transaction, a batch, a bulk load. (kv_drop_tables and hooks work on data that transactions leave alone.)
 * What and why: kvcore/docs/transactions.md.
 *
 * Threads    one at a time for a transaction and its iterators.
 * Ownership  kv_txn_abort frees, after a commit too, so `out:` may always call it. Iterators may be closed after
 *            it. Values lent live until kv_pinned_release, also beyond the transaction.
 * Errors     a transaction that was committed, or whose commit failed, answers KV_CLOSED from then on.
 */
enum {
    KV_TXN_AGE_MS_DEFAULT = 10 * 60 * 1000,
    KV_TXN_AGE_MS_MAX = 24 * 60 * 60 * 1000,
    KV_TXN_TRIES_DEFAULT = 16,
};
/* All zero is the default. */
struct kv_txn_options {
    bool read_only;                     /* never conflicts, costs no lock; has no age */
    const struct kv_snapshot *snapshot; /* read_only: reads there; may be closed before. NULL: now */
    uint64_t
        bytes_max; /* keys and values written; past it kv_txn_put answers KV_LIMIT. 0: KV_COMMIT_BYTES_MAX */
    uint32_t entries_max; /* keys and ranges written. 0: no bound of its own */
    uint32_t age_max_ms;  /* from begin; past it commit answers KV_TOO_OLD. 0: KV_TXN_AGE_MS_DEFAULT */
    uint64_t
        reads_bytes_max; /* memory for what was read; past it all reads of a space are taken for one range.
                                 0: 16 MiB; at least 64 KiB */
};
KV_API KV_MUST kv_status kv_txn_begin(struct kv_db *db, const struct kv_txn_options *options,
                                      struct kv_txn **out, struct kv_err *err);
/* The version it reads at. */
KV_API uint64_t kv_txn_version(const struct kv_txn *txn);
/* Its own writes first. KV_NOT_FOUND (positive) leaves *out empty. */
KV_API KV_MUST kv_status kv_txn_get(struct kv_txn *txn, uint32_t space, kv_slice key, struct kv_pinned *out,
                                    struct kv_err *err);
/* Copies. After an error nothing was written and the transaction goes on, unless kv_txn_commit says so. */
KV_API KV_MUST kv_status kv_txn_put(struct kv_txn *txn, uint32_t space, kv_slice key, kv_slice value,
                                    struct kv_err *err);
KV_API KV_MUST kv_status kv_txn_delete(struct kv_txn *txn, uint32_t space, kv_slice key, struct kv_err *err);
/* As kv_batch_put_with. Own puts that have expired are read as absent. */
KV_API KV_MUST kv_status kv_txn_put_with(struct kv_txn *txn, uint32_t space, kv_slice key, kv_slice value,
                                         const struct kv_put_options *options, struct kv_err *err);
/*
 * Adds an operand for the space's merge operator (KV_INVALID: it has none), behind what the transaction did to the key
 * before. Blind, as every write: two transactions that add operands to one key do not conflict, and both count. Reading
 * the key folds the operands over the snapshot's value, which is then something read.
 */
KV_API KV_MUST kv_status kv_txn_merge(struct kv_txn *txn, uint32_t space, kv_slice key, kv_slice operand,
                                      struct kv_err *err);
/*
 * Deletes what [lower, upper) holds when the transaction commits, keys of later commits than its snapshot among them, and
 * what the transaction wrote there before. It reads nothing, so it does not conflict with who writes there; who has read
 * of the range, keys that were not there included, conflicts with it. O(own writes), whatever lies in the range. Bounds as
 * kv_batch_delete_range.
 */
KV_API KV_MUST kv_status kv_txn_delete_range(struct kv_txn *txn, uint32_t space, kv_slice lower,
                                             kv_slice upper, struct kv_err *err);
/* As kv_iter_open, with the transaction's own writes as they are now. Several may be open. Steps answer
 * KV_CLOSED once the transaction has ended. */
KV_API KV_MUST kv_status kv_txn_iter_open(struct kv_txn *txn, uint32_t space, kv_slice lower, kv_slice upper,
                                          struct kv_iter **out);

struct kv_txn_commit_options {
    kv_slice record;  /* as kv_commit_options.record */
    void *record_ctx; /* handed to kv_options.apply */
    bool past_floor;  /* as there */
    uint64_t version; /* as there */
    bool check_reads; /* answers KV_CONFLICT also when nothing was written: what was read holds now, too */
    /* Called once with the outcome, unless the call was refused (KV_CLOSED, KV_INVALID). NULL: none. */
    kv_committed_fn done;
    void *done_ctx;
};
/*
 * *version (may be NULL): the commit's, or the one it read at if it wrote nothing: then it is always answered
 * KV_OK. KV_CONFLICT: begin again (kv_txn_run does). KV_TOO_OLD; otherwise as kv_commit. The transaction has
 * ended whatever is answered.
 */
KV_API KV_MUST kv_status kv_txn_commit(struct kv_txn *txn, const struct kv_txn_commit_options *options,
                                       uint64_t *version, struct kv_err *err);
/*
 * kv_txn_commit that does not wait, as kv_commit_async: what was read is validated now (KV_CONFLICT, KV_TOO_OLD), and with
 * KV_OK it is certain to be committed unless the disk fails: options->done, which must be there, is told. After KV_BUSY the
 * transaction goes on and can be committed again; after any other answer it has ended.
 */
KV_API KV_MUST kv_status kv_txn_commit_async(struct kv_txn *txn, const struct kv_txn_commit_options *options,
                                             struct kv_err *err);
KV_API void kv_txn_abort(struct kv_txn *txn); /* NULL is fine */

/* Does its work with txn and leaves commit and abort to kv_txn_run. Negative: abort, and that is the answer. It may be called
 * several times: what it does elsewhere must bear that. */
typedef kv_status (*kv_txn_fn)(void *ctx, struct kv_txn *txn, struct kv_err *err);
/* Begins, runs, commits; again on KV_CONFLICT, with a random and growing pause, at most `tries` times (0:
 * KV_TXN_TRIES_DEFAULT). *version: as kv_txn_commit; may be NULL. */
KV_API KV_MUST kv_status kv_txn_run(struct kv_db *db, const struct kv_txn_options *options, uint32_t tries,
                                    kv_txn_fn run, void *ctx, uint64_t *version, struct kv_err *err);

/* ---- sequences, split writes, subscriptions */

/*
 * Numbers from 0 that are never handed out twice, not by another handle and not after a crash; those of a lease that a crash
 * cuts short are skipped. lease: how many are taken from the database at once (one durable commit each time), at
 * least 1. The key holds the first number not leased (8 bytes, little-endian) and belongs to sequences alone. Any
 * thread. Close gives back what was not used, if nobody leased behind it, and frees; NULL is fine.
 */
KV_API KV_MUST kv_status kv_sequence_open(struct kv_db *db, uint32_t space, kv_slice key, uint64_t lease,
                                          struct kv_sequence **out, struct kv_err *err);
KV_API KV_MUST kv_status kv_sequence_next(struct kv_sequence *sequence, uint64_t *number, struct kv_err *err);
KV_API kv_status kv_sequence_close(struct kv_sequence *sequence, struct kv_err *err);

/*
 * Any number of writes, committed whenever commit_bytes or commit_entries are together: each commit is atomic, all
 * together are not. The first failure is kept: every later call answers it. One thread at a time.
 */
struct kv_writer_options {
    uint64_t commit_bytes;   /* keys and values. 0: 4 MiB; at most KV_COMMIT_BYTES_MAX */
    uint32_t commit_entries; /* 0: no bound of its own */
};
KV_API KV_MUST kv_status kv_writer_open(struct kv_db *db, const struct kv_writer_options *options,
                                        struct kv_writer **out, struct kv_err *err);
KV_API KV_MUST kv_status kv_writer_put(struct kv_writer *writer, uint32_t space, kv_slice key, kv_slice value,
                                       struct kv_err *err);
KV_API KV_MUST kv_status kv_writer_put_with(struct kv_writer *writer, uint32_t space, kv_slice key,
                                            kv_slice value, const struct kv_put_options *options,
                                            struct kv_err *err);
KV_API KV_MUST kv_status kv_writer_delete(struct kv_writer *writer, uint32_t space, kv_slice key,
                                          struct kv_err *err);
/* Commits what is waiting. *version (may be NULL): of the last commit; everything written is at or below it. */
KV_API KV_MUST kv_status kv_writer_flush(struct kv_writer *writer, uint64_t *version, struct kv_err *err);
/* Forgets what is waiting; later calls answer KV_CANCELED. What was committed stays. */
KV_API void kv_writer_cancel(struct kv_writer *writer);
/* Flushes and frees. NULL is fine. */
KV_API KV_MUST kv_status kv_writer_close(struct kv_writer *writer, struct kv_err *err);

/* What subscribers hear: each commit's entries in the order of versions, once they are visible. */
enum kv_event_kind {
    KV_EVENT_PUT = 1,
    KV_EVENT_DELETE,
    KV_EVENT_MERGE,        /* an operand was added; read the key */
    KV_EVENT_DELETE_RANGE, /* [key, value) */
    KV_EVENT_LOADED,       /* a bulk load of keys from key to value, both included; read them */
    KV_EVENT_LOST,         /* events of versions from `version` to `version_last` did not fit the queue */
};
struct kv_event {
    enum kv_event_kind kind;
    uint32_t space;
    uint64_t version, version_last;
    kv_slice key, value; /* good until the subscription's next call */
    uint64_t expires_at_s;
    uint8_t meta;         /* both of a put: struct kv_put_options */
    uint64_t large_bytes; /* of a put of a large value: its length; value is empty. 0: it is not */
};
struct kv_prefix {
    uint32_t space;
    kv_slice prefix; /* empty: the whole space */
};
/*
 * From now on (*version, may be NULL: everything later is heard of), commits that touch a key with one of the prefixes
 * (1 to 65536 of them, copied) are queued, up to queue_bytes (0: 1 MiB; 4 KiB to 1 GiB; taken at once) of them. Writers never wait:
 * what does not fit is dropped and shows as one KV_EVENT_LOST in its place.
 */
KV_API KV_MUST kv_status kv_subscribe(struct kv_db *db, const struct kv_prefix *prefixes, size_t n,
                                      uint64_t queue_bytes, struct kv_subscription **out, uint64_t *version,
                                      struct kv_err *err);
/* The next event, waiting at most so long (real time; UINT32_MAX: for ever): KV_OK, KV_TIMEOUT, or KV_CLOSED once stopped. One
 * thread at a time. */
KV_API KV_MUST kv_status kv_subscription_next(struct kv_subscription *subscription, uint32_t timeout_ms,
                                              struct kv_event *event);
KV_API void kv_subscription_stop(struct kv_subscription *subscription);  /* wakes next; any thread */
KV_API void kv_subscription_close(struct kv_subscription *subscription); /* NULL is fine */

/* ---- bulk load, merge, drop */

/* A sorted run that becomes tables without passing the log. Keys strictly increase. Nothing is visible before
 * install. */
KV_API KV_MUST kv_status kv_bulk_open(struct kv_db *db, uint32_t space, struct kv_bulk **out,
                                      struct kv_err *err);
KV_API KV_MUST kv_status kv_bulk_add(struct kv_bulk *bulk, kv_slice key, kv_slice value, struct kv_err *err);
/* With expiry and meta; options NULL: none. */
KV_API KV_MUST kv_status kv_bulk_add_with(struct kv_bulk *bulk, kv_slice key, kv_slice value,
                                          const struct kv_put_options *options, struct kv_err *err);
/*
 * Finishes, syncs and installs the tables in one manifest edit, with a version assigned under the commit lock
 * (*seq, may be NULL), and moves the application floor to app_floor in the same edit (0: leaves it):
 * application records below it are never asked for again. An empty bulk installs only the floor. On failure
 * nothing is installed. The bulk is freed either way.
 */
KV_API KV_MUST kv_status kv_bulk_install(struct kv_bulk *bulk, uint64_t app_floor, uint64_t *seq,
                                         struct kv_err *err);
KV_API void kv_bulk_abort(struct kv_bulk *bulk); /* NULL is fine */

/*
 * Merges [lower, upper) (empty: unbounded), on this thread. Memtables are flushed first if they hold a key of
 * the range. Spaces of style runs, or with a hook: every run of each cut the range touches into one, through the
 * hook. Other levelled spaces: everything of the range that was visible at the call goes to the bottom level,
 * and what is dead there goes: in one step if it is little, else level by level and table by table. For all of
 * the space that is what others call compact or flatten. Never needed for space to come back. KV_CORRUPT: a damaged table
 * lies in the range; all that can be merged without it was. KV_CONFLICT: the space has a hook, and a read-write
 * transaction is live that began before something of the range was written.
 */
KV_API KV_MUST kv_status kv_merge_range(struct kv_db *db, uint32_t space, kv_slice lower, kv_slice upper,
                                        struct kv_err *err);
/* Drops every table that lies wholly in [lower, upper), by one manifest edit; other entries stay. *bytes (may
 * be NULL): of the files dropped. Snapshots opened before keep theirs. */
KV_API KV_MUST kv_status kv_drop_tables(struct kv_db *db, uint32_t space, kv_slice lower, kv_slice upper,
                                        uint64_t *bytes, struct kv_err *err);
#define KV_SPACE_ALL UINT32_MAX
/*
 * Deletes every key that begins with prefix (empty: every key), or every key of a space or of all of them
 * (KV_SPACE_ALL), as one commit: O(1), beside readers and writers, who never wait for it. What was written before is gone,
 * what is written after stays; snapshots opened before keep what they see. Then memtables are flushed, so that
 * tables which hold nothing else go at once and whole; the rest goes with merges. (A flush that fails now is
 * made later: the deletion stands.) Taken on a full disk, too. Errors as kv_commit; KV_INVALID: a space with a
 * hook (kv_drop_tables).
 */
KV_API KV_MUST kv_status kv_drop_prefix(struct kv_db *db, uint32_t space, kv_slice prefix,
                                        struct kv_err *err);
KV_API KV_MUST kv_status kv_drop_all(struct kv_db *db, uint32_t space, struct kv_err *err);
/*
 * From now on nothing is put under the prefix (empty: the whole space): commits, transactions and bulk loads that would
 * answer KV_READ_ONLY and name it. Deletions are taken, so kv_drop_prefix frees it; what is there can be read. Kept in the
 * manifest, with an fsync. What was queued before is visible when it returns, and nothing later will be. Banning twice is
 * fine. At most KV_BANS_MAX prefixes (KV_LIMIT); each costs every commit a comparison an entry, none cost nothing.
 */
enum { KV_BANS_MAX = 256 };
KV_API KV_MUST kv_status kv_ban_prefix(struct kv_db *db, uint32_t space, kv_slice prefix, struct kv_err *err);
/* KV_NOT_FOUND: this very prefix is not banned. */
KV_API KV_MUST kv_status kv_unban_prefix(struct kv_db *db, uint32_t space, kv_slice prefix,
                                         struct kv_err *err);
KV_API KV_MUST kv_status kv_banned(struct kv_db *db, void (*each)(void *ctx, uint32_t space, kv_slice prefix),
                                   void *ctx);
/* The application's version of what it stores becomes another, durably: the last step of a migration. */
KV_API KV_MUST kv_status kv_set_app_version(struct kv_db *db, uint32_t version, struct kv_err *err);
KV_API uint32_t kv_app_version(struct kv_db *db); /* 0: none was said */
/* Moves memtables to tables; returns when they are durable. */
KV_API KV_MUST kv_status kv_flush(struct kv_db *db, struct kv_err *err);
/* KV_THREADS_NONE only: does one piece of waiting background work. KV_END when none waits. */
KV_API KV_MUST kv_status kv_work(struct kv_db *db, struct kv_err *err);

/* ---- application records */

/* Reads the application records from the application floor (at open) to the last one recovered, in sequence
 * order; files they live in stay until the application floor passes them. */
KV_API KV_MUST kv_status kv_records_open(struct kv_db *db, struct kv_records **out, struct kv_err *err);
/* record is good until the next call. KV_END after the last. */
KV_API KV_MUST kv_status kv_records_next(struct kv_records *records, uint64_t *seq, kv_slice *record,
                                         struct kv_err *err);
KV_API void kv_records_close(struct kv_records *records);
/* Sum of record bytes still to read, for progress. */
KV_API uint64_t kv_records_bytes_left(const struct kv_records *records);

/* ---- encryption */

/* What a master key is called in texts, and by kv_key_source.key_of: a fingerprint, not secret. */
KV_API KV_MUST kv_status kv_master_key_id(const uint8_t key[KV_MASTER_KEY_LEN], uint64_t *id);
/*
 * Makes key the master key: the data keys are wrapped anew and a new manifest file takes the old one's place, in one
 * step; no data is rewritten. After a failure, or a crash in between, the next open needs either the old key or
 * the new one: keep both until this answered KV_OK. Writers go on. KV_UNSUPPORTED: the database is not
 * encrypted; KV_INVALID: it is the key in use.
 */
KV_API KV_MUST kv_status kv_rotate_master_key(struct kv_db *db, const uint8_t key[KV_MASTER_KEY_LEN],
                                              struct kv_err *err);
/* New files get a new data key from now on, whatever the age of the last one. */
KV_API KV_MUST kv_status kv_rotate_data_key(struct kv_db *db, struct kv_err *err);

/* ---- insight */

/* The version of the newest visible commit. */
KV_API uint64_t kv_seq(struct kv_db *db);
/* 16 random bytes made when the database was created. */
KV_API void kv_uuid(struct kv_db *db, uint8_t uuid[16]);
/* The retention clock (unix ms): stored in the manifest; at open it advances to the wall clock if that is
 * ahead by at most 7 days; while running it follows the monotonic clock, slewed to the wall clock. A larger
 * or backward step is reported in the log and changes nothing until kv_retention_clock_accept takes the wall
 * clock over. */
KV_API int64_t kv_retention_clock_ms(struct kv_db *db);
KV_API KV_MUST kv_status kv_retention_clock_accept(struct kv_db *db, struct kv_err *err);
/* KV_OK while writes are accepted, else the code of what stopped them and its text in *err. */
KV_API kv_status kv_health(struct kv_db *db, struct kv_err *err);
/* Calls each for every counter and gauge, e.g. ("kv_log_syncs_total", "fdatasync calls on log files", true,
 * 42). */
KV_API void kv_metrics(struct kv_db *db,
                       void (*each)(void *ctx, const char *name, const char *help, bool counter,
                                    double value),
                       void *ctx);

/* ---- health report */

/* What a database does by itself, or is asked to do as a whole. */
enum kv_job { KV_JOB_FLUSH, KV_JOB_MERGE, KV_JOB_LOG_TRIM, KV_JOB_COMPACT, KV_JOB_CHECK, KV_JOB_BACKUP };
enum { KV_JOBS = 6 };
KV_API const char *kv_job_name(enum kv_job job);
struct kv_job_report {
    uint64_t runs, failures; /* since the database was opened; each merge, each flush, each whole check */
    /* Unix ms; 0: never, of compact, check and backup in all the database's life, of the others since it was opened */
    int64_t last_ok_ms, last_failed_ms;
    int64_t next_ms; /* scheduled (kv_schedule); 0: not */
    kv_status error; /* of the last run; KV_OK: it went well */
    char text[160];
};
enum kv_pressure {
    KV_PRESSURE_NONE,
    KV_PRESSURE_FLUSH,   /* one memtable before commits wait, each group gives the flush a moment */
    KV_PRESSURE_MERGE,   /* merges are behind: commits pay slow_ns_per_kib */
    KV_PRESSURE_STALLED, /* commits wait for a flush */
};
struct kv_health_report {
    bool sound; /* nothing of what follows asks for somebody's attention */
    /* Writing */
    kv_status writable;                         /* KV_OK, or what stopped it (kv_health), */
    char reason[200];                           /* in words */
    uint64_t disk_free_bytes, disk_total_bytes; /* of the file system; 0: unknown */
    uint64_t disk_floor_bytes;                  /* writes stop below so much free space */
    uint64_t disk_bytes;                        /* kv_disk_bytes */
    /* Pressure */
    enum kv_pressure pressure;
    uint64_t slow_ns_per_kib, memtables_waiting, level0_runs;
    uint64_t merges_running, merge_waiting_bytes; /* bytes on levels above their targets */
    bool merges_stopped;                          /* one met damage; until the next open */
    /* Log */
    uint64_t version; /* of the newest visible commit */
    uint64_t log_files, log_bytes;
    uint64_t log_commits; /* that are in memtables only: what an open after a crash replays */
    /* Readers and what they hold back */
    uint64_t pins;       /* snapshots, iterators, cursors, bulk loads, sequences, subscriptions, writers */
    uint64_t held_views; /* pictures of the tree that have been replaced and are still read */
    uint64_t held_ms;    /* since the oldest of them was replaced: some reader is at least so old */
    uint64_t held_files; /* that were dropped from the tree and go when their readers do */
    uint64_t txns;       /* live read-write transactions */
    uint64_t txn_oldest_version; /* what the oldest of them may still ask about is not forgotten */
    uint64_t txn_expires_ms;     /* and then it is; 0: it has no age, or there is none */
    /* Damage */
    uint64_t damaged_files; /* kv_damaged_files: tables and segments whose keys cannot be read */
    uint64_t damage_seen;   /* times that reads, merges or checks met damage in tables, since it was opened */
    /* Clocks */
    int64_t retention_ms, wall_ms;
    int64_t clock_step_ms; /* waits for kv_retention_clock_accept; 0: none */
    struct kv_job_report jobs[KV_JOBS];
};
/* A database opened read-only is sound though it is not writable. */
KV_API void kv_health_report(struct kv_db *db, struct kv_health_report *out);
/* Appends the report as lines of key=value, one subject a line, "sound=yes" or "sound=no" first. */
KV_API KV_MUST kv_status kv_health_text(const struct kv_health_report *report, struct kv_buf *out);

/* ---- maintenance */

/* What is done from time to time, 1 s to 366 days; 0: never. All zero: nothing. */
struct kv_maintenance_options {
    uint32_t
        compact_every_s; /* kv_merge_range of every space without a hook: what is dead goes, levels become one */
    uint32_t
        check_every_s; /* every block of every table, and every value apart, is read from its file and verified, */
    uint64_t check_bytes_per_s; /* no faster than this on average. 0: 16 MiB */
    uint32_t
        backup_every_s; /* to this repository, of which the path is copied; vfs and cipher outlive the database */
    const struct kv_repository *repository;
    uint32_t backup_keep; /* the oldest are removed until so many are left. 0: all stay */
    enum kv_compression backup_compression;
};
/*
 * From now on, in place of what was asked before; to be called again after each open. Done by one thread of the
 * environment for all its databases (with KV_THREADS_NONE by kv_work), never by a worker that flushes or merges.
 * A period counts from when the task last ended well, also before a restart; a run that was missed is made once, soon;
 * periods are shortened by up to a tenth at random; what failed is tried again after a tenth of its period.
 * kv_health_report has the outcomes and next times. What a check finds is in the log, in kv_check_findings_total
 * and in its report; the data stays as it is. KV_INVALID: a period, or no repository; KV_READ_ONLY.
 */
KV_API KV_MUST kv_status kv_schedule(struct kv_db *db, const struct kv_maintenance_options *options,
                                     struct kv_err *err);

struct kv_space_stats {
    uint64_t tables, table_bytes, entries, runs_max; /* runs_max: over all cuts */
};
KV_API KV_MUST kv_status kv_space_stats(struct kv_db *db, uint32_t space, struct kv_space_stats *out);
struct kv_range_estimate {
    uint64_t entries; /* every version and every deletion; 0: certainly none */
    uint64_t bytes;   /* of table files as stored, of memtables as heap */
    uint64_t tables;  /* that reach into the range */
};
/* What [lower, upper) (empty: unbounded) holds, about: from the properties and indexes of tables and a walk over
 * high levels of the memtables' lists; no data block is read. Tables wholly in the range count exactly, others by
 * their blocks, give or take one at either end. KV_INVALID: no such space. KV_CORRUPT, KV_IO: an index. */
KV_API KV_MUST kv_status kv_estimate(struct kv_db *db, uint32_t space, kv_slice lower, kv_slice upper,
                                     struct kv_range_estimate *out, struct kv_err *err);
/* The keys of the range that a read at snapshot (NULL: now) finds, counted one by one. */
KV_API KV_MUST kv_status kv_count(struct kv_db *db, const struct kv_snapshot *snapshot, uint32_t space,
                                  kv_slice lower, kv_slice upper, uint64_t *count, struct kv_err *err);
struct kv_level_stats {
    uint64_t tables, bytes, entries, deletions;
    uint64_t target_bytes; /* what merges aim at. 0: nothing */
    double score;          /* of what no merge is at work on to its target; from 1 on it is merged down */
    /* Since the database was opened: merges that wrote to this level, tables moved to it; bytes read for merges
     * to it, bytes written to it (level 0: flushes and bulk loads too) */
    uint64_t merges, moves, bytes_read, bytes_written;
    /* Since then: tables asked by kv_get; how many of those a filter answered without a look; how many had an entry */
    uint64_t gets, gets_filtered, gets_found;
};
/* By level. A space of style runs has everything on level 0. */
KV_API KV_MUST kv_status kv_levels(struct kv_db *db, uint32_t space,
                                   struct kv_level_stats out[KV_LEVELS_MAX]);
/* Bytes of all files the database holds, by the manifest and the log. */
KV_API uint64_t kv_disk_bytes(struct kv_db *db);

/* A consistent copy of the database as it is now in a new sibling directory (must not exist): hard links to
 * tables and sealed log files, valid once its manifest is published. Writers are not stopped. What one leaves that was cut
 * short is what a restore does (kv_restore). */
KV_API KV_MUST kv_status kv_checkpoint(struct kv_db *db, const char *path, struct kv_err *err);
/* kv_check of an encrypted database. key may be NULL. */
KV_API KV_MUST kv_status kv_check_with_key(struct kv_env *env, const char *path,
                                           const struct kv_key_source *key,
                                           void (*each)(void *ctx, kv_status severity, const char *line),
                                           void *ctx, struct kv_err *err);
/* Reads every file of a closed database and checks every checksum, order and reference. each (may be NULL)
 * gets a line per finding and per file. KV_OK: sound. KV_CORRUPT: findings. */
KV_API KV_MUST kv_status kv_check(struct kv_env *env, const char *path,
                                  void (*each)(void *ctx, kv_status severity, const char *line), void *ctx,
                                  struct kv_err *err);

/* ---- repair: kvcore/docs/repair.md */

/* All zero: a database that is not encrypted, of which some manifest file can still be read. */
struct kv_repair_options {
    /* As for kv_open, in its order; name, style and cut_len count. Needed only when no manifest can be read any more, or one that
     * is older than a space: KV_INVALID says so, and the names that tables know. */
    const struct kv_space_options *spaces;
    size_t n_spaces;
    struct kv_key_source key;
    void (*each)(void *ctx, kv_status severity,
                 const char *line); /* findings (negative), and what was done. May be NULL */
    void *ctx;
};
struct kv_repair_report {
    bool manifest_rebuilt;
    uint64_t tables_kept, tables_rewritten;
    uint64_t tables_lost;  /* nothing of them could be read */
    uint64_t entries_lost; /* of tables, where their number is known */
    uint64_t values_lost;  /* of the value log: their keys are deleted */
    uint64_t commits_lost; /* of the log */
    uint64_t findings;     /* lines with a negative severity; 0: nothing was lost */
};
/*
 * Makes a closed database that is damaged one that kv_open takes and kv_check finds sound, with everything in it that can still
 * be read, and says what could not be: a lost manifest is made again from the files, which describe themselves; of a damaged
 * table the blocks that can be read become a new one; a log is read past its holes. Nothing is destroyed: files that leave
 * the database are in the directory PATH.damaged. What cannot come back, and what may: kvcore/docs/repair.md. Run again after a
 * crash, it begins anew; on a sound database it changes nothing. report may be NULL.
 * KV_MISSING: no file of a database is there; KV_WRONG_KEY; KV_BUSY; KV_INVALID: see kv_repair_options; KV_CORRUPT: it cannot be
 * repaired (an encrypted database whose data keys went with every manifest), nothing was changed; KV_IO, KV_NO_SPACE, KV_NO_MEMORY.
 */
KV_API KV_MUST kv_status kv_repair(struct kv_env *env, const char *path,
                                   const struct kv_repair_options *options, struct kv_repair_report *report,
                                   struct kv_err *err);

/* ---- backup, restore: kvcore/docs/backup.md */

/* Where bytes go to, front to back. A negative answer ends what was under way, which returns it. */
struct kv_sink {
    kv_status (*write)(void *ctx, kv_slice bytes, struct kv_err *err);
    void *ctx;
};
/* Where they come from: up to len bytes into `into`; *got 0 at the end. */
struct kv_source {
    kv_status (*read)(void *ctx, uint8_t *into, size_t len, size_t *got, struct kv_err *err);
    void *ctx;
};
/* Encrypts what is written to an archive or repository, on top of whatever the database's files are. Called by one thread at a
 * time. */
struct kv_archive_cipher {
    void *ctx;
    /* Appends the sealed form of plain to *out; place is authenticated with it and not stored. No place comes twice. */
    kv_status (*seal)(void *ctx, kv_slice place, kv_slice plain, struct kv_buf *out);
    /* Appends what was sealed. KV_CORRUPT: that place, with this key, was never sealed so. */
    kv_status (*open)(void *ctx, kv_slice place, kv_slice sealed, struct kv_buf *out);
};
struct kv_progress {
    uint64_t files_done, files, bytes_done, bytes;
};
/* A negative answer cancels, and is returned. */
typedef kv_status (*kv_progress_fn)(void *ctx, const struct kv_progress *progress);

/* A directory that holds the backups of one database: every file once, whoever of them needs it. */
struct kv_repository {
    const char *path;
    struct kv_vfs *vfs;                     /* NULL: the environment's */
    const struct kv_archive_cipher *cipher; /* NULL: none */
};

struct kv_backup_info {
    uint64_t number;                   /* in its repository, from 1; 0: an archive */
    int64_t time_ms;                   /* unix, when it was taken */
    uint64_t version;                  /* of the newest commit in it */
    uint64_t files, bytes;             /* of the database */
    uint64_t added_files, added_bytes; /* what had to be stored for it */
    uint8_t uuid[16];
};

/* One of repository and archive. */
struct kv_backup_options {
    const struct kv_repository *repository; /* made when missing; copies only the files it lacks */
    const struct kv_sink *archive;          /* one stream of everything; cipher: `cipher` */
    const struct kv_archive_cipher *cipher;
    /* Archives: only files that are not in the archive this receipt is of, nor in those below it. Empty: everything. */
    kv_slice base;
    struct kv_buf *receipt; /* archives: what the next one takes as its base is appended. May be NULL */
    enum kv_compression
        compression; /* of files on the way; a piece that saves less than an eighth is stored plain */
    uint32_t keep;   /* repositories: afterwards the oldest are removed until so many are left. 0: all stay */
    kv_progress_fn progress; /* may be NULL; on this thread */
    void *progress_ctx;
};
/*
 * A backup of the database as it is now: every file of a pinned moment, each checked while it is copied, and everything answered before
 * it began. Writers are not stopped. A repository has the new backup once this returns KV_OK (or, after a crash, not at all); older
 * ones are untouched whatever happens. The database may be open read-only.
 * KV_CORRUPT: a table or log file of the database is damaged (they are checked while they are copied), or the repository is; KV_INVALID: the directory holds
 * something else, or another database's backups; KV_BUSY: another process uses it; KV_NO_SPACE.
 */
KV_API KV_MUST kv_status kv_backup(struct kv_db *db, const struct kv_backup_options *options,
                                   struct kv_backup_info *info, struct kv_err *err);

/* One of repository and archives. */
struct kv_restore_options {
    const struct kv_repository *repository;
    uint64_t number; /* in the repository. 0: the newest */
    const struct kv_source
        *archives; /* the full one first, then those that build upon it; the last is what is restored */
    size_t n_archives;
    const struct kv_archive_cipher *cipher; /* of archives */
    kv_progress_fn progress;                /* may be NULL; on this thread */
    void *progress_ctx;
};
/*
 * Makes a backup a database in the directory path, which must be missing or empty (KV_EXISTS): to replace a database, restore beside it
 * and swap the directories while it is closed. Everything is verified on the way; the database is there once this returns KV_OK, and
 * after a failure the directory is empty again. If not even that worked, or the process was killed, a file `unfinished` lies in it: all else
 * refuses such a directory (KV_INVALID), and the next restore starts over. It keeps its uuid (see kvcore/docs/backup.md for what that means with two of them
 * alive) and gets a new owner epoch. An encrypted database's backup needs no key here, only when it is opened. info may be NULL.
 */
KV_API KV_MUST kv_status kv_restore(struct kv_env *env, const char *path,
                                    const struct kv_restore_options *options, struct kv_backup_info *info,
                                    struct kv_err *err);
/* Reads a backup whole and checks every sum; number 0: all of the repository. each (may be NULL) gets a line per file and finding.
 * KV_OK: sound. KV_CORRUPT: findings. */
KV_API KV_MUST kv_status kv_backup_verify(struct kv_env *env, const struct kv_restore_options *options,
                                          void (*each)(void *ctx, kv_status severity, const char *line),
                                          void *ctx, struct kv_err *err);
/* Oldest first. */
KV_API KV_MUST kv_status kv_backup_list(struct kv_env *env, const struct kv_repository *repository,
                                        void (*each)(void *ctx, const struct kv_backup_info *info), void *ctx,
                                        struct kv_err *err);
/* The backup and the files only it needs. KV_MISSING: there is none of that number. */
KV_API KV_MUST kv_status kv_backup_remove(struct kv_env *env, const struct kv_repository *repository,
                                          uint64_t number, struct kv_err *err);
/* Removes the oldest until n are left; n at least 1. */
KV_API KV_MUST kv_status kv_backup_keep(struct kv_env *env, const struct kv_repository *repository,
                                        uint32_t n, struct kv_err *err);

/* ---- stream, ingest, export, import: kvcore/docs/backup.md */

struct kv_stream_entry {
    kv_slice key, value;
    uint64_t version;
    uint64_t expires_at_s; /* 0: never */
    uint8_t meta;
    bool deleted; /* all_versions only */
};
/* Entries of one range, in key order, the next of which come with later batches of the same range. Good for the call. */
struct kv_stream_batch {
    uint32_t range; /* from 0, by key: all keys of a range come before those of the next */
    bool done;      /* the range's last one; n may be 0 */
    const struct kv_stream_entry *entries;
    size_t n;
};
enum { KV_STREAM_THREADS_MAX = 64, KV_STREAM_BATCH_BYTES = 1 << 20 };
/* All zero but send is everything of space 0. */
struct kv_stream_options {
    uint32_t space;
    const struct kv_snapshot *snapshot; /* NULL: one is taken */
    kv_slice lower, upper;              /* [lower, upper); empty: unbounded */
    uint64_t since; /* only what was written after this version: an export, not a backup, for it cannot show
                                           removals */
    bool all_versions, keys_only;            /* as kv_iter_options */
    int threads;                             /* that read, this one among them. 0: 4 */
    size_t batch_bytes;                      /* keys and values of a batch, about. 0: KV_STREAM_BATCH_BYTES */
    bool (*choose)(void *ctx, kv_slice key); /* keys wanted; by any of the threads. NULL: all */
    /* One call at a time, by any of the threads. A negative answer ends the stream, and is returned. */
    kv_status (*send)(void *ctx, const struct kv_stream_batch *batch, struct kv_err *err);
    void *ctx;
};
/* Everything of a range at one moment, read by several threads side by side, split where tables end. *version (may be NULL): of the
 * moment. On failure some batches were sent. */
KV_API KV_MUST kv_status kv_stream(struct kv_db *db, const struct kv_stream_options *options,
                                   uint64_t *version, struct kv_err *err);

/*
 * Several sorted streams, disjoint, become one bulk load: tables in the deepest level that fits, visible at once.
 * Threads    different streams may be written side by side.
 */
struct kv_stream_writer;
enum { KV_STREAMS_MAX = 4096 };
KV_API KV_MUST kv_status kv_stream_writer_open(struct kv_db *db, uint32_t space,
                                               struct kv_stream_writer **out, struct kv_err *err);
/* Keys of one stream (a number below KV_STREAMS_MAX) increase. options NULL: neither expiry nor meta. */
KV_API KV_MUST kv_status kv_stream_writer_add(struct kv_stream_writer *writer, uint32_t stream, kv_slice key,
                                              kv_slice value, const struct kv_put_options *options,
                                              struct kv_err *err);
/* A batch of kv_stream: its range is the stream. Versions are not kept; deletions are refused (KV_INVALID). */
KV_API KV_MUST kv_status kv_stream_writer_batch(struct kv_stream_writer *writer,
                                                const struct kv_stream_batch *batch, struct kv_err *err);
/* Installs everything under one version (*seq, may be NULL). KV_INVALID: two streams overlap. Freed either way. */
KV_API KV_MUST kv_status kv_stream_writer_install(struct kv_stream_writer *writer, uint64_t *seq,
                                                  struct kv_err *err);
KV_API void kv_stream_writer_abort(struct kv_stream_writer *writer); /* NULL is fine */

/* A table made outside of any database, to be ingested by one: another process or machine may do the work. */
struct kv_table_writer;
struct kv_table_writer_options {
    enum kv_compression compression;
    uint32_t block_bytes; /* 0: 4096 */
};
/* A new file `name` in the directory path of env's vfs, which must exist. options may be NULL. */
KV_API KV_MUST kv_status kv_table_writer_open(struct kv_env *env, const char *path, const char *name,
                                              const struct kv_table_writer_options *options,
                                              struct kv_table_writer **out, struct kv_err *err);
/* Keys increase. options NULL: neither expiry nor meta. */
KV_API KV_MUST kv_status kv_table_writer_add(struct kv_table_writer *writer, kv_slice key, kv_slice value,
                                             const struct kv_put_options *options, struct kv_err *err);
/* The file and its name are durable. Freed either way; after a failure the file is gone. */
KV_API KV_MUST kv_status kv_table_writer_finish(struct kv_table_writer *writer, struct kv_err *err);
KV_API void kv_table_writer_abort(struct kv_table_writer *writer); /* NULL is fine */
/*
 * Loads such files, disjoint, in any order, into a space, under one version (*seq, may be NULL), all or nothing. Every block is
 * verified; the files are read, not taken: they stay the caller's. KV_CORRUPT, KV_MISSING: names the file; KV_INVALID: they overlap.
 */
KV_API KV_MUST kv_status kv_ingest(struct kv_db *db, uint32_t space, const char *path,
                                   const char *const *names, size_t n, uint64_t *seq, struct kv_err *err);

struct kv_export_options {
    const uint32_t *spaces; /* NULL: all */
    size_t n_spaces;
    kv_slice lower, upper;
    uint64_t since;
    int threads;
    enum kv_compression compression;
    const struct kv_archive_cipher *cipher;
};
/* Entries of one moment as one stream of frames, for another database: keys, values, expiry, meta, of each key the newest version. */
KV_API KV_MUST kv_status kv_export(struct kv_db *db, const struct kv_export_options *options,
                                   const struct kv_sink *sink, uint64_t *entries, struct kv_err *err);
/* Loads such a stream: each space into the one of the same name, which must be declared (KV_INVALID), as one bulk load each. Nothing is
 * loaded unless the stream is whole. */
KV_API KV_MUST kv_status kv_import(struct kv_db *db, const struct kv_source *source,
                                   const struct kv_archive_cipher *cipher, uint64_t *entries,
                                   struct kv_err *err);

#endif
