/* kv_ops.h - the operations of kvcore's model, in the form of history.h. */
#ifndef KV_OPS_H
#define KV_OPS_H

#include "tests/model/history.h"

enum { ITER_SLOTS = 3, TXN_SLOTS = 3, SNAP_SLOTS = 4, LOAD_SLOTS = 2 };

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
/* n operations. sweep: only those whose answers are the same under all option sets. */
void history_make(struct history *history, uint64_t seed, size_t n, bool sweep);
#endif
