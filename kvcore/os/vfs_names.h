/*
 * vfs_names.h - what the vfs implementations share: which names are files, and copying a file between any two
 * directories.
 */
#ifndef KV_VFS_NAMES_H
#define KV_VFS_NAMES_H

#include "kvcore/os/vfs.h"

enum { KV_FILE_NAME_MAX = 64, KV_PUBLISH_MAX = 256 };

/* [A-Za-z0-9._-]{1,64}, not starting with '.'. */
bool kv_vfs_name_valid(const char *name);
/* KV_INVALID with a text unless the name is valid. */
KV_MUST kv_status kv_vfs_name_check(const char *name, struct kv_err *err);
/* The file's bytes under the same name in target, synced; on failure nothing is left there. */
KV_MUST kv_status kv_dir_copy_file(struct kv_dir *dir, const char *name, struct kv_dir *target,
                                   struct kv_err *err);

#endif
