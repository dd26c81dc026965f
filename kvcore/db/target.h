/*
 * target.h - a directory that is being made a copy of a database: by a restore, or by a checkpoint.
 *
 * A copy that was cut short has tables and no manifest, and nothing in them says what is missing; a repair would make a database
 * of the half. So the directory is marked, durably, before the first file comes: by the file `unfinished`. It goes, durably, once the
 * manifest that names everything is published. Whoever opens, checks, salvages, repairs or follows a directory asks
 * kv_target_refuse first; a copy into a marked directory removes what the one before it left, and starts over.
 *
 * Order    lease; mark, sync, sync names; files (the caller's, each synced); sync names; publish; remove the mark, sync names.
 *          When it fails: remove the files, sync names; then the mark. What was published cannot be taken back: then the mark stays.
 * Threads  one at a time.
 */
#ifndef KV_TARGET_H
#define KV_TARGET_H

#include "kvcore/os/vfs.h"

#define KV_TARGET_MARK "unfinished"

/* {0} may be ended. */
struct kv_target {
    struct kv_dir *dir; /* the caller makes its files here, under names of a database (manifest.h) */
    struct kv_lease *lease;
    uint64_t generation; /* what is published, by the one before */
    bool marked;
};
/* Of a directory that is missing, empty, or marked. KV_EXISTS: it holds something else; nothing of it was touched. */
KV_MUST kv_status kv_target_open(struct kv_vfs *vfs, const char *path, struct kv_target *target,
                                 struct kv_err *err);
/* All files are there and synced: the database comes into being. */
KV_MUST kv_status kv_target_publish(struct kv_target *target, const char *manifest, struct kv_err *err);
/* Closes it; unless it was published, the directory is as empty as it was, or marked. */
void kv_target_end(struct kv_target *target);

/* KV_INVALID with what to do when dir, at path, is marked. */
KV_MUST kv_status kv_target_refuse(struct kv_dir *dir, const char *path, struct kv_err *err);

#endif
