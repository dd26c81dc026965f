/*
 * txn_history.h - an independent judge of transactions: threads run small random ones on few keys and write down what each read and wrote;
 * afterwards the committed ones are executed one after another, in the order of their versions, on an array. Whatever one read must be
 * what the array held then. It knows nothing of how the engine decides.
 *
 * Beside transactions there are batches, bulk loads and range deletes that write blindly, flushes and merges.
 */
#ifndef TXN_HISTORY_H
#define TXN_HISTORY_H

#include "kvcore/kv.h"

struct txn_history_options {
    struct kv_db *db; /* two spaces, both empty; no hook */
    uint64_t seed;
    uint32_t threads;    /* 1 to 8 */
    uint32_t per_thread; /* transactions of each */
    bool loads;          /* bulk loads too */
    bool ranges;         /* range deletions too, in transactions and without */
    bool async;          /* half of the commits are not waited for */
    bool merges;         /* operands too: both spaces have txn_history_operator */
};
extern const struct kv_merge_operator txn_history_operator;
struct txn_history_stats {
    uint64_t committed, conflicts, read_only, blind;
};
/* NULL: serializable. Otherwise what is wrong (static buffer). */
const char *txn_history_run(const struct txn_history_options *options, struct txn_history_stats *stats);

#endif
