/*
 * life_kit.h - one scripted life of a database, for sweeps that cut it short or make it fail: commits of all kinds, transactions, operands,
 * range deletions, long and large values, flushes, merges, loads, drops, checkpoints, backups and reopens, in LIFE_STEPS steps. Beside it
 * goes a model that says what must be found.
 *
 *     struct life life;
 *     life_init(&life, vfs, encrypted);
 *     kv_kit_must_open(&life.kit);
 *     for (int i = 0; i < LIFE_STEPS; i++)
 *         if (life_step(&life, i) < 0)
 *             ...life.now is what was answered, life.next what may be there besides...
 *     kv_kit_close(&life.kit);
 *     kv_kit_release(&life.kit);
 *
 * Under encryption data keys and master keys change on the way. One thread. What the kit itself needs to succeed asserts.
 */
#ifndef LIFE_KIT_H
#define LIFE_KIT_H

#include "tests/support/kv_kit.h"
#include "tests/support/vfs_crash.h"

enum { LIFE_KEYS = 8, LIFE_RECORDS = 16, LIFE_TEXT = 400, LIFE_STEPS = 107 };

struct life_model {
    char values[2][LIFE_KEYS][8]; /* "": absent */
    int records[LIFE_RECORDS];
    uint64_t record_seqs[LIFE_RECORDS];
    int n_records;
    uint64_t app_floor;
};

struct life {
    struct kv_kit kit;
    struct life_model now, next; /* next: when the step under way has happened */
    bool encrypted;
    int counter;
    int rotations; /* of the master key */
    int made;      /* tables */
};

/* vfs as in kv_kit_init. */
void life_init(struct life *life, struct kv_vfs *vfs, bool encrypted);
/* Step i, which is entered into `now` when it answers KV_OK. KV_CLOSED: a reopen failed before. */
KV_MUST kv_status life_step(struct life *life, int i);
const char *life_step_name(int i);
/* A failure other than KV_UNKNOWN_OUTCOME promises that nothing was stored. */
bool life_step_exact(int i);
bool life_step_reopens(int i);

/* Each writes one line to out[LIFE_TEXT] and answers it: what the model has; what an open database has, by scans; and of one that was
 * just opened also the records the application would read. */
const char *life_text(const struct life_model *m, char *out);
const char *life_values(struct kv_kit *kit, char *out);
const char *life_found(struct kv_kit *kit, char *out);
/* kv_check of the closed database. */
KV_MUST kv_status life_check(struct life *life);

/* ---- the whole of it, on a disk that loses power */

struct life_history {
    char texts[LIFE_STEPS + 1][LIFE_TEXT]; /* after so many steps */
    uint64_t began[LIFE_STEPS + 1], done[LIFE_STEPS + 1];
};

/* From the opening to a clean close. */
void life_record(struct life_history *history, struct vfs_crash *crash, bool encrypted);
/* Is text a state that may be found after `ops` changes? Else says on stderr what is. */
bool life_may_be_found(const struct life_history *history, uint64_t ops, const char *text);

#endif
