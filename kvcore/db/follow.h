/*
 * follow.h - a database that another process writes, followed: kv_options.follow. How and why it is sound: kvcore/docs/follower.md.
 *
 * Threads    refreshes: one at a time, by a mutex of their own, which is outside of all others. Readers go on beside them.
 * Ownership  of the database.
 */
#ifndef KV_FOLLOW_H
#define KV_FOLLOW_H

#include "kvcore/db/db.h"

/* Before anything is read. */
KV_MUST kv_status kv_follow_new(struct kv_db *db, struct kv_follow **out);
void kv_follow_free(struct kv_follow *follow); /* NULL is fine; before db->dir is closed */
/* kv_manifest_load beside a writer. */
KV_MUST kv_status kv_follow_load(struct kv_manifest *manifest, struct kv_dir *dir, struct kv_clock *clock,
                                 const struct kv_key_source *source, struct kv_err *err);

/* ---- of open.c, shared */

/* The range deletions that the manifest knows become those of a version nobody has seen yet. */
KV_MUST kv_status kv_open_ranges(const struct kv_manifest_state *state, struct kv_version *version);
/* A commit of the log goes into a memtable. version: whose value log it may point into. */
KV_MUST kv_status kv_open_enter(struct kv_db *db, struct kv_memtable *memtable,
                                const struct kv_version *version, uint64_t seq, kv_slice batch,
                                struct kv_err *err);

#endif
