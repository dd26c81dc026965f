/*
 * schedule.h - what a database is asked to do from time to time (kv_schedule): compaction, checks, backups.
 *
 * One job of the environment's maintenance thread does it in pieces: a space, a table, a backup. The job is kicked at the
 * time the next piece is due; nothing polls. What is due is decided by the monotonic clock; where a period begins after an
 * open, by when the manifest says the task last ended well (health.h) and the wall clock: one that was missed runs once,
 * and a wall clock that went back delays by one period at most. Each period is shortened, and each task that is due at
 * open put off, by up to a tenth of it, at random, so that many databases do not do the same at the same moment.
 *
 * Threads    the job, kv_schedule and kv_schedule_work: one at a time, by its mutex, which is held while a piece runs and
 *            taken outside of all others.
 */
#ifndef KV_DB_SCHEDULE_H
#define KV_DB_SCHEDULE_H

#include "kvcore/base/prng.h"
#include "kvcore/db/env.h"

enum { KV_TASKS = 3 };

struct kv_schedule {
    kv_mutex mutex;
    struct kv_env_job job;
    struct kv_maintenance_options options; /* its repository is ours: */
    struct kv_repository repository;
    char *path;
    uint64_t due_ns[KV_TASKS]; /* compact, check, backup; 0: never */
    struct kv_prng prng;
    /* A check under way: tables by number, so that those of merges meanwhile are not chased. */
    bool checking;
    uint64_t check_at, check_last; /* number of the last table read, of the last to be read */
    uint64_t check_next_ns;        /* not before, for its pace */
    uint64_t check_findings;
    struct kv_err check_first; /* finding */
    /* A compaction under way. */
    bool compacting;
    uint32_t compact_space; /* the next */
};

void kv_schedule_init(struct kv_db *db);
void kv_schedule_release(struct kv_db *db);
/* Waits for the piece under way. */
void kv_schedule_stop(struct kv_db *db);
/* Does one piece that is due. KV_END: none is. */
KV_MUST kv_status kv_schedule_work(struct kv_db *db, struct kv_err *err);

#endif
