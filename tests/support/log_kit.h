/*
 * log_kit.h - a small database around log and committer for their tests: a manifest of its own (one file, published), commits whose
 * bytes follow from a number, and the judgement of what a recovery found.
 *
 * One thread unless said otherwise. Aborts the test (cr_assert is not used, so that stress programs can use it) by log_kit_die.
 */
#ifndef LOG_KIT_H
#define LOG_KIT_H

#include "kvcore/db/commit.h"
#include "kvcore/db/records.h"
#include "tests/support/clock_manual.h"

/* Log files are encrypted from now on, for the rest of the process. */
void log_kit_encrypt(void);

_Noreturn void log_kit_die(const char *format, ...) KV_PRINTF(1, 2);

/* ---- content: what commit number `id` writes */
void log_kit_batch(struct kv_batch *batch, uint64_t id);  /* fills; some ids have none */
kv_slice log_kit_record(struct kv_buf *buf, uint64_t id); /* empty for some ids that have a batch */
uint64_t log_kit_check(kv_slice batch, kv_slice record);  /* the id, after comparing every byte */

/* ---- the manifest: seals, current file, floors */
enum { LOG_KIT_SEALS_MAX = 4096 };
struct log_kit_manifest {
    struct kv_dir *dir;
    uint64_t edit, current, next_number, generation, last_seq, floor;
    struct kv_log_seal seals[LOG_KIT_SEALS_MAX];
    size_t n_seals;
    uint64_t stored_as;        /* number of the file it was last stored in */
    bool dead;                 /* seals fail from now on */
    bool loose;                /* kept in memory alone, for benches and stress on real disks */
    void (*sealed)(void *ctx); /* NULL, or called after each durable seal edit */
    void *sealed_ctx;
};
KV_MUST kv_status log_kit_manifest_load(struct log_kit_manifest *manifest, struct kv_dir *dir,
                                        struct kv_err *err);
KV_MUST kv_status log_kit_manifest_store(struct log_kit_manifest *manifest, struct kv_err *err);
struct kv_log_hooks log_kit_hooks(struct log_kit_manifest *manifest);

/* ---- what was recovered or applied: ids by sequence */
struct log_kit_seen {
    uint64_t *ids; /* ids[i] is of sequence first + i; 0: an empty commit */
    size_t n, capacity;
    uint64_t first;
    uint64_t record_bytes;
};
void log_kit_seen_release(struct log_kit_seen *seen);
void log_kit_seen_add(struct log_kit_seen *seen, uint64_t seq, uint64_t id); /* dies on a gap */
struct kv_log_replay log_kit_replay(struct log_kit_seen *seen);

/* ---- a running one */
struct log_kit_options {
    enum kv_durability durability;
    uint32_t sync_interval_ms;
    uint64_t file_bytes; /* 0: 700, so that rolls are frequent */
    uint64_t disk_reserve_bytes;
    bool no_thread;
    struct kv_clock *clock; /* NULL: the kit's own manual one */
    bool loose_manifest;
};
struct log_kit {
    struct log_kit_options options;
    struct clock_manual clock;
    struct kv_dir *dir;
    struct log_kit_manifest manifest;
    struct kv_log *log;
    struct kv_committer *committer;
    struct log_kit_seen recovered; /* by kv_log_open */
    struct log_kit_seen applied;   /* by the committer's hooks since */
    kv_status room_answer;         /* what the room hook answers */
};
/* Opens directory "db" of vfs: manifest, log, committer. On failure everything is closed again. */
KV_MUST kv_status log_kit_open(struct log_kit *kit, struct kv_vfs *vfs, const struct log_kit_options *options,
                               struct kv_err *err);
kv_status log_kit_close(struct log_kit *kit, struct kv_err *err);
void log_kit_abandon(struct log_kit *kit); /* frees without a clean close, as a crash would: writes nothing */
KV_MUST kv_status log_kit_commit(struct log_kit *kit, uint64_t id, uint64_t *seq,
                                 struct kv_err *err); /* any thread */

/* ---- what was sent, and how it was answered */
struct log_kit_sent {
    uint64_t id, seq;
    uint64_t ops; /* vfs changes when it was answered */
    kv_status answer;
};
struct log_kit_history {
    struct log_kit_sent *items;
    size_t n, capacity;
};
void log_kit_history_release(struct log_kit_history *history);
void log_kit_history_add(struct log_kit_history *history, struct log_kit_sent sent);
/* Everything answered KV_OK before `ops` changes (UINT64_MAX: all) is among seen under its sequence; what seen holds was sent, at most once,
 * and was not refused. NULL: sound, else what is wrong (static buffer). floor: sequences below need not be there. */
const char *log_kit_judge(const struct log_kit_seen *seen, const struct log_kit_history *history,
                          uint64_t ops, uint64_t floor);

#endif
