/*
 * history.h - operations on a database: made from a seed, written as text and read back, shrunk.
 *
 * Text: one operation a line, its name and the fields that are not 0, e.g. "put space=2 key=17 n=9 len=40"; '#' begins a comment;
 * "options N" says under which option set it is played (options.h), "threads N" with how many background workers. An operation that
 * makes no sense where it stands (a step of an iterator that is not there) does nothing: so operations may be left out.
 *
 * Threads    one at a time.  Ownership  {0} is empty; history_release frees.  Failure  aborts when out of memory.
 */
#ifndef HISTORY_H
#define HISTORY_H

#include "kvcore/base/prng.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { ITER_SLOTS = 3, TXN_SLOTS = 3, SNAP_SLOTS = 4, LOAD_SLOTS = 2 };

/* F(name): the fields. */
#define HISTORY_FIELDS(F)                                                                                    \
    F(space) F(key) F(lower) F(upper) F(slot) F(snap) F(n) F(len) F(ttl) F(meta) F(since) F(how)
/* O(name, what): a batch is filled by put, delete, delete_range, operand, and then committed. */
#define HISTORY_OPS(O)                                                                                       \
    O(put,                                                                                                   \
      "into the batch; ttl: seconds + 1 from now; how 1: ends history, 2: with attributes, 4: in parts")     \
    O(delete, "into the batch")                                                                              \
    O(delete_range, "into the batch")                                                                        \
    O(operand, "into the batch")                                                                             \
    O(commit, "the batch; how 1: with a record n, 2: not waited for")                                        \
    O(get, "at a snapshot, if snap is not 0")                                                                \
    O(scan, "how 1: backward, 2: keys only, 4: no fill")                                                     \
    O(versions, "all versions, forward, backward and to and fro")                                            \
    O(snapshot, "into a slot")                                                                               \
    O(unsnapshot, "")                                                                                        \
    O(iter, "opens one in a slot; how 2: keys only")                                                         \
    O(seek, "")                                                                                              \
    O(seek_before, "")                                                                                       \
    O(next, "")                                                                                              \
    O(prev, "")                                                                                              \
    O(iter_close, "")                                                                                        \
    O(begin, "a transaction; how 1: read-only, at a snapshot if snap is not 0")                              \
    O(txn_get, "")                                                                                           \
    O(txn_put, "as put")                                                                                     \
    O(txn_delete, "")                                                                                        \
    O(txn_operand, "")                                                                                       \
    O(txn_delete_range, "")                                                                                  \
    O(txn_scan, "from a bound, n steps; how 1: seeks again half-way, 2: backward")                           \
    O(txn_commit, "how 1: with a record n, 2: checks its reads, 4: not waited for")                          \
    O(abort, "")                                                                                             \
    O(load, "opens a bulk load of every len-th key of the range")                                            \
    O(install, "how 1: with a floor, meta percent of what is visible")                                       \
    O(load_abort, "")                                                                                        \
    O(flush, "")                                                                                             \
    O(work, "n pieces")                                                                                      \
    O(merge, "a range")                                                                                      \
    O(drop, "tables of a range")                                                                             \
    O(clock, "n milliseconds on")                                                                            \
    O(clock_step, "the wall clock alone; how 1: accepted")                                                   \
    O(sync, "")                                                                                              \
    O(rotate, "how 0: data key, 1: master key")                                                              \
    O(checkpoint, "how 0: looked at, 1: goes on there")                                                      \
    O(backup, "how 0: only taken, 1: restored and looked at, 2: goes on there")                              \
    O(read_only, "reopened so, looked at, reopened")                                                         \
    O(check, "closed, every file checked, reopened")                                                         \
    O(reopen, "with option set n; how 1: then power can be lost at any change")                              \
    O(crash, "n: when and how; meta: profile; how 1: as reopen, 2: nothing in flight, 4: again in recovery") \
    O(verify, "everything")                                                                                  \
    O(settle, "flushed, merged, no file too many")

enum op_kind {
#define O(name, what) OP_##name,
    HISTORY_OPS(O)
#undef O
        OP_KINDS
};
struct op {
    enum op_kind kind;
#define F(name) uint32_t name;
    HISTORY_FIELDS(F)
#undef F
};
struct history {
    uint32_t options;
    int threads; /* 0: none */
    struct op *ops;
    size_t n, capacity;
};
void history_release(struct history *history);
void history_add(struct history *history, const struct op *op);
/* n operations. sweep: only those whose answers are the same under all option sets. */
void history_make(struct history *history, uint64_t seed, size_t n, bool sweep);
void history_print(const struct history *history, FILE *out);
void history_print_op(const struct op *op, FILE *out);
bool history_read(struct history *history, const char *path); /* false: said why on stderr */

/*
 * Leaves out operations as long as fails(history) stays true, ddmin: chunks of half, a quarter, ... down to single ones, again until
 * none can go (Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, 2002). At most `tries` calls.
 */
void history_shrink(struct history *history, bool (*fails)(const struct history *history), size_t tries);

#endif
