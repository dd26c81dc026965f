/*
 * metrics.h - what an open database counts. One list makes the fields, the names and the help texts.
 * Threads    any: relaxed atomics.
 */
#ifndef KV_METRICS_H
#define KV_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

/* field, metric name, help */
#define KV_DB_COUNTERS(X)                                                                                    \
    X(iterators, "kv_iterators_total", "iterators opened")                                                   \
    X(snapshots, "kv_snapshots_total", "snapshots opened")                                                   \
    X(flushes, "kv_flushes_total", "memtables turned into tables")                                           \
    X(flush_bytes, "kv_flush_bytes_total", "bytes of tables written by flushes")                             \
    X(flush_failures, "kv_flush_failures_total", "flushes that failed and will be tried again")              \
    X(merges, "kv_merges_total", "merges installed")                                                         \
    X(merge_bytes_in, "kv_merge_bytes_read_total", "bytes of tables merged")                                 \
    X(merge_bytes_out, "kv_merge_bytes_written_total", "bytes of tables written by merges")                  \
    X(moves, "kv_moved_tables_total", "tables moved down a level without rewriting")                         \
    X(merge_failures, "kv_merge_failures_total", "merges that failed")                                       \
    X(bulk_loads, "kv_bulk_loads_total", "bulk loads installed")                                             \
    X(bulk_bytes, "kv_bulk_bytes_total", "bytes of tables written by bulk loads")                            \
    X(value_log_values, "kv_value_log_writes_total", "values written to the value log")                      \
    X(value_log_bytes, "kv_value_log_bytes_written_total", "bytes of value log segments written")            \
    X(value_log_moved, "kv_value_log_bytes_moved_total", "bytes of values moved out of sparse segments")     \
    X(drops, "kv_dropped_tables_total", "tables dropped whole")                                              \
    X(slowdowns, "kv_slowdowns_total", "commit groups held back to let flushes and merges keep up")          \
    X(slowdown_ns, "kv_slowdown_nanoseconds_total", "time they were held back for merges")                   \
    X(stalls, "kv_stalls_total", "commit groups that waited for a flush")                                    \
    X(early_flushes, "kv_early_flushes_total",                                                               \
      "memtables flushed before they were full, for the memory budget")                                      \
    X(memory_stalls, "kv_memory_stalls_total", "commit groups that waited for the memory budget")            \
    X(checks, "kv_checks_total", "scheduled checks of all tables that came to their end")                    \
    X(check_bytes, "kv_check_bytes_total", "bytes they read")                                                \
    X(check_findings, "kv_check_findings_total", "damaged tables they found")                                \
    X(obsolete_removed, "kv_obsolete_files_removed_total", "files removed because nothing refers to them")   \
    X(checkpoints, "kv_checkpoints_total", "checkpoints made")                                               \
    X(txns, "kv_txns_total", "transactions begun")                                                           \
    X(txn_commits, "kv_txn_commits_total", "transactions that committed something")                          \
    X(txn_conflicts, "kv_txn_conflicts_total", "transactions refused because what they read was changed")    \
    X(txn_too_old, "kv_txns_too_old_total", "transactions refused because they were past their age")         \
    X(txn_coarsened, "kv_txns_coarsened_total", "transactions whose reads were remembered coarsely")

struct kv_db_counters {
#define X(field, name, help) _Atomic uint64_t field;
    KV_DB_COUNTERS(X)
#undef X
};
/* Of one level of one space. */
struct kv_level_counters {
    _Atomic uint64_t merges, moves, bytes_read, bytes_written;
};
#define KV_COUNT(db, field) atomic_fetch_add_explicit(&(db)->counters.field, 1, memory_order_relaxed)
#define KV_COUNT_BY(db, field, by)                                                                           \
    atomic_fetch_add_explicit(&(db)->counters.field, (by), memory_order_relaxed)

#endif
