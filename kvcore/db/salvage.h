/*
 * salvage.h - what to run when acknowledged data of the log is damaged and the database refuses to open.
 *
 * Every record that can still be read is written into a new log file; commits of nothing stand in for the lost ones, so
 * sequences stay gapless. A key whose large value (kv_value_writer) cannot be read, and no table has yet, is deleted instead. The old
 * log files, and segments of such values, are linked into the directory PATH.damaged before anything is changed. Tables are
 * not touched. What was lost is told to the environment's logger (log_damage lines) and counted.
 *
 * Threads    one; the database must be closed.
 *
 * Failure    nothing has changed unless KV_OK is answered, or the manifest says so: it may be run again.
 */
#ifndef KV_SALVAGE_H
#define KV_SALVAGE_H

#include "kvcore/kv.h"

struct kv_salvage_report {
    uint64_t kept, lost; /* commits */
    uint64_t values_lost;
};
/* key: of an encrypted database, else NULL. */
KV_MUST kv_status kv_salvage(struct kv_env *env, const char *path, const struct kv_key_source *key,
                             struct kv_salvage_report *report, struct kv_err *err);

#endif
