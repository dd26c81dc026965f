/*
 * hook_dir.h - a directory as a reader sees it, with a look at each operation: what comes between two operations, what one answers
 * instead, what a read or a size finds.
 *
 * Only what readers do: open, read, size, list, published. Threads one. Ownership the directory underneath is the caller's.
 */
#ifndef HOOK_DIR_H
#define HOOK_DIR_H

#include "tests/support/vfs_fault.h"

struct hook_dir {
    struct kv_dir base;   /* give this away; closing it does nothing */
    struct kv_vfs vfs;    /* or this one: every directory of it is the base */
    struct kv_dir *under; /* may be exchanged between two operations */
    void *ctx;
    /* Before an operation (VFS_OP_OPEN, _READ, _SIZE, _LIST, _PUBLISHED; name NULL for the last two). Anything but KV_OK is its
     * answer instead. NULL: nothing. */
    kv_status (*before)(void *ctx, enum vfs_op op, const char *name, struct kv_err *err);
    void (*found)(void *ctx, struct kv_read *range); /* after a read. NULL: nothing */
    void (*sized)(void *ctx, uint64_t *bytes);       /* after a size. NULL: nothing */
};
void hook_dir_init(struct hook_dir *hook, struct kv_dir *under);

#endif
