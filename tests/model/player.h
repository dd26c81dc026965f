/*
 * player.h - plays a history on a database and on the model, and compares every answer.
 *
 * A difference ends the process: the operation and what was expected go to stderr, exit status 1. So a player that must survive is
 * a child process.
 *
 * Threads    one at a time (the database may have workers).
 */
#ifndef PLAYER_H
#define PLAYER_H

#include "tests/model/kv_ops.h"
#include "tests/model/options.h"
#include "tests/support/clock_manual.h"
#include "tests/support/vfs_crash.h"

struct txn_range {
    uint32_t space, lower, upper; /* points */
};
struct player_txn {
    struct kv_txn *txn;
    uint64_t stamp, version, expires_ns;
    bool read_only, wrote;
    bool read[MODEL_SPACES][MODEL_KEYS];
    struct events own[MODEL_SPACES][MODEL_KEYS]; /* what it did */
    struct txn_range *ranges, *deleted;          /* that it walked; that it deleted */
    size_t n_ranges, ranges_capacity, n_deleted, deleted_capacity;
};
struct player_iter {
    struct kv_iter *it;
    uint32_t space;
    uint64_t stamp, now_s, since;
    int first, end; /* keys of its range */
    int at;         /* the key it stands on; -1: none */
    bool backward, keys_only;
};
struct player_snapshot {
    struct kv_snapshot *snapshot;
    uint64_t stamp;
};
struct player_load {
    struct kv_bulk *bulk;
    struct op op; /* that opened it */
};
/* A write that waits in the batch. */
struct pending {
    struct op op;
    uint64_t expires_at_s;
};
/* How far the disk was when an operation began and when it was answered. */
struct mark {
    uint64_t began, done;
    uint64_t version, durable; /* after it: newest, and what no crash may take */
    uint64_t floor;            /* of application records */
    uint64_t load;             /* version of what it loaded; 0: nothing */
};

struct player {
    const struct history *history;
    size_t at; /* the operation being played */
    uint64_t hash;
    struct option_set set;
    uint32_t made_under;
    int threads;

    struct kv_vfs *memory;   /* what the database lies on, or what `crash` began with */
    struct vfs_crash *crash; /* NULL: not recorded */
    struct clock_manual clock;
    struct kv_env *env;
    struct kv_db *db;
    struct kv_env *follower_env; /* of: */
    struct kv_db *follower; /* beside db, as of its last refresh; NULL: not opened since the disk changed */
    struct kv_err err;
    char path[32];
    uint32_t next_path;
    bool encrypted;
    int master; /* the key new databases begin with, or were rotated to */

    struct model model;
    uint64_t floor;   /* of application records */
    uint64_t durable; /* version no crash may take */
    uint64_t loading; /* version of the load this operation installed */
    struct mark *marks;
    size_t n_marks, marks_capacity;

    struct kv_batch *batch;
    bool holds_large; /* values written in parts: the batch goes before the database does */
    struct pending *pending;
    size_t n_pending, pending_capacity;
    bool record_expected;
    uint32_t record_n;
    uint64_t record_seq;

    struct player_snapshot snapshots[SNAP_SLOTS];
    struct player_iter iters[ITER_SLOTS];
    struct player_txn txns[TXN_SLOTS];
    struct player_load loads[LOAD_SLOTS];
};
/* Plays it from an empty disk to a clean end; answers a hash of all answers that no option may change. */
uint64_t player_run(const struct history *history, uint64_t *played);

/* ---- inside */

_Noreturn void player_fail(struct player *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void player_must(struct player *p, const char *what, kv_status rc, kv_status expected);
void player_note(struct player *p, uint64_t answer); /* into the hash */
void player_note_slice(struct player *p, kv_slice answer);
uint64_t player_now_s(struct player *p);
/* Room for one more of size bytes. */
void *player_grown(void *old, size_t *capacity, size_t n, size_t size);
kv_slice player_record(uint32_t n, uint8_t out[16]);

/* What a commit that is not waited for was called back with. */
struct answer {
    _Atomic bool there;
    kv_status rc;
    uint64_t version;
};
void player_told(void *answer, kv_status rc, uint64_t version); /* kv_committed_fn */
void player_wait(struct player *p, struct answer *answer);

/* player_write.c */
void player_batch(struct player *p, const struct op *op); /* put, delete, delete_range, operand */
void player_commit(struct player *p, const struct op *op);
void player_load(struct player *p, const struct op *op); /* load, install, load_abort */
void player_drop(struct player *p, const struct op *op);
/* player_read.c */
void player_get(struct player *p, const struct op *op);
void player_scan(struct player *p, const struct op *op);
void player_versions(struct player *p, const struct op *op);
void player_iter(struct player *p, const struct op *op); /* iter, seek, seek_before, next, prev, iter_close */
/* Everything that can be seen, at now and at every snapshot. */
void player_verify(struct player *p);
void player_compare(struct player *p, const char *what, kv_status rc, const struct model_found *expected,
                    kv_slice value, uint64_t version, uint64_t expires_at_s, uint8_t meta);
/* player_txn.c */
void player_txn(struct player *p, const struct op *op);
void player_txn_release(struct player_txn *txn);
/* player_life.c */
void player_open(struct player *p, bool read_only);
void player_close(struct player *p);
void player_let_go(struct player *p); /* of everything that pins the database */
/* The follower, opened if need be, refreshed: what it shows must be what the database does. */
struct kv_db *player_follow(struct player *p);
void player_unfollow(struct player *p);    /* before the disk is another */
void player_clear_marks(struct player *p); /* what has happened cannot be undone by a crash any more */
void player_life(struct player *p, const struct op *op);
void player_records(struct player *p, uint64_t floor_min, uint64_t floor_max);

#endif
