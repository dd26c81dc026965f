/*
 * damage_kit.h - a small database whose files are changed behind its back, and the judgement of what it says then.
 *
 * A damage_world is made once: the bytes of every file of a database that had a life of all kinds of operations (levels and runs, value
 * log, range deletions, bulk loads, operands, attributes, records, several log files), with what it holds after each sequence. A test
 * copies `now`, changes bytes, and asks damage_judge.
 *
 * What is right: an error that names a changed file (or, of the manifest, what it misses), whether from opening or from reading what
 * the damage lies in; or exactly what was stored. Two things no store with a single copy can tell from a crash, and damage_lost says
 * how much of them a change may cost: the end of the log file that was being written, from the last group on that was still valid,
 * and edits at the end of the manifest.
 *
 * One thread. What the kit itself needs to succeed asserts.
 */
#ifndef DAMAGE_KIT_H
#define DAMAGE_KIT_H

#include "kvcore/kv.h"
#include "kvcore/os/vfs.h"
#include "tests/support/clock_manual.h"

/* ---- a directory as bytes */

struct damage_file {
    char name[72];
    uint8_t *bytes; /* malloced; NULL when empty */
    size_t len;
};
struct damage_dir {
    struct damage_file *files; /* by name */
    size_t n;
    uint8_t published[256];
    size_t published_len;
    uint64_t generation; /* 0: nothing is published */
};
void damage_dir_load(struct damage_dir *dir, struct kv_vfs *vfs, const char *path);
/* Every file, synced, in a directory that is made for it. */
void damage_dir_store(const struct damage_dir *dir, struct kv_vfs *vfs, const char *path);
void damage_dir_copy(const struct damage_dir *dir, struct damage_dir *out);
void damage_dir_release(struct damage_dir *dir);
struct damage_file *damage_dir_file(struct damage_dir *dir, const char *name); /* or NULL */
void damage_file_set(struct damage_file *file, const void *bytes, size_t len); /* copies; may be its own */
void damage_dir_remove(struct damage_dir *dir, const char *name);

/* ---- a database's life */

enum { DAMAGE_KEYS = 8, DAMAGE_SPACES = 3, DAMAGE_SEQS = 64, DAMAGE_VALUES = 512, DAMAGE_RECORDS = 24 };
struct damage_value {
    char text[160];
    size_t len;
    uint8_t meta;
};
struct damage_state { /* after one sequence: index + 1 into values; 0: absent */
    uint16_t at[DAMAGE_SPACES][DAMAGE_KEYS];
    bool known;
};
/* Places of the file that is still written to: where each of its records, or edits, ends. */
struct damage_ends {
    char name[72];
    uint64_t at[DAMAGE_SEQS];
    uint64_t seq[DAMAGE_SEQS]; /* logs: of the record */
    size_t n;
    uint64_t begin; /* of the first */
    uint64_t seq_before;
};
struct damage_world {
    bool encrypted, crashed; /* crashed: never closed, so the current log file has no seal */
    struct damage_dir now, older,
        other; /* older: the same in the middle of its life; other: another database */
    struct damage_value values[DAMAGE_VALUES];
    size_t n_values;
    struct damage_state states[DAMAGE_SEQS]; /* by sequence */
    uint64_t last_seq;
    uint64_t record_seqs[DAMAGE_RECORDS]; /* each record's text is its sequence */
    size_t n_records;
    struct damage_ends log, manifest; /* log: n == 0 unless crashed */
};
void damage_world_make(struct damage_world *world, bool encrypted, bool crashed);
void damage_world_release(struct damage_world *world);
struct kv_kit;
/* A kit (tests/support/kv_kit.h) with the options of the world's database, not opened. vfs as in kv_kit_init. */
void damage_world_kit(const struct damage_world *world, struct kv_kit *kit, struct kv_vfs *vfs);

/* ---- judging */

/* What was changed: names, and what it may cost. Zero: nothing was. */
struct damage_done {
    char names[8][72];
    size_t n;
    bool published;    /* what is published was changed, too */
    uint64_t log_from; /* bytes of the log file being written: [from, to) */
    uint64_t log_to;   /* 0: untouched */
    uint64_t manifest_from, manifest_to;
};
/* Notes that bytes [from, to) of the file are not what they were; UINT64_MAX: to its end, or that it is missing. */
void damage_note(struct damage_done *done, const struct damage_world *world, const char *name, uint64_t from,
                 uint64_t to);
/* Checks the changed directory, opens it, reads everything in every way, and once more after closing. NULL: as it should be; else what is
 * wrong (static buffer). */
const char *damage_judge(const struct damage_world *world, const struct damage_dir *changed,
                         const struct damage_done *done);
/* How the last judgement came about: for counting that a test meets all of it. */
enum damage_outcome { DAMAGE_REFUSED, DAMAGE_CONTAINED, DAMAGE_HARMLESS, DAMAGE_TAIL_LOST };
enum damage_outcome damage_outcome(void);
/* Repairs the changed directory, opens and reads it, twice, and repairs it again: a repair that answers KV_OK leaves a database that
 * opens, of which everything can be read, and no key has what it never had (operands may be lost one by one). NULL or text as above. */
const char *damage_repair(const struct damage_world *world, const struct damage_dir *changed);

#endif
