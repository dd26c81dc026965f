/*
 * vfs_fault.h - a vfs over another one in which a chosen operation fails.
 *
 * A plan says which: the n-th operation of some kinds on files whose names match a glob, once or from then on. Every operation
 * is counted, also without a plan, so a sweep can run until its fault no longer fires.
 *
 * Threads    any.  Ownership  the base vfs must outlive the wrapper; free after every directory is closed.
 */
#ifndef VFS_FAULT_H
#define VFS_FAULT_H

#include "kvcore/os/vfs.h"

enum vfs_op {
    VFS_OP_DIR_OPEN = 1 << 0,
    VFS_OP_CREATE = 1 << 1,
    VFS_OP_OPEN = 1 << 2,
    VFS_OP_READ = 1 << 3,
    VFS_OP_APPEND = 1 << 4,
    VFS_OP_RESERVE = 1 << 5,
    VFS_OP_SYNC = 1 << 6,
    VFS_OP_SYNC_NAMES = 1 << 7,
    VFS_OP_LINK = 1 << 8,
    VFS_OP_LIST = 1 << 9,
    VFS_OP_REMOVE = 1 << 10,
    VFS_OP_LEASE = 1 << 11,
    VFS_OP_SPACE = 1 << 12,
    VFS_OP_PUBLISH = 1 << 13,
    VFS_OP_PUBLISHED = 1 << 14,
    VFS_OP_SIZE = 1 << 15,
    VFS_OP_ALL = (1 << 16) - 1,
};

enum vfs_fault_kind {
    VFS_FAULT_EIO,          /* nothing happened */
    VFS_FAULT_ENOSPC,       /* nothing happened */
    VFS_FAULT_SHORT_EIO,    /* an append wrote the first half */
    VFS_FAULT_SHORT_ENOSPC, /* likewise */
    /* Failing syncs, as file systems do them. The bytes of the failed sync never become durable. */
    VFS_FAULT_SYNC_KEEPS, /* ext4: EIO; reads show the new bytes; the next sync of the file answers 0 and does nothing */
    VFS_FAULT_SYNC_REVERTS, /* btrfs: EIO; reads show the file as it was at its last sync */
    VFS_FAULT_SYNC_LATE,    /* this sync answers 0 and does nothing; the next one answers EIO */
    VFS_FAULT_SYNC_CLOSE,   /* only close would say it, which nobody asks: the sync works */
};

struct vfs_fault_plan {
    uint64_t nth; /* from 1, among matching operations; 0: never */
    uint32_t ops; /* enum vfs_op; 0: VFS_OP_ALL, but for VFS_FAULT_SYNC_* VFS_OP_SYNC */
    const char
        *glob; /* fnmatch over file names; NULL: any, also operations without a file. Must outlive the plan */
    enum vfs_fault_kind kind;
    bool sticky; /* every matching one from the n-th on */
    /* Not NULL: instead of the n-th, the first matching one of a place that has not failed yet; of one thread only */
    struct fault_sites *sites;
};

struct vfs_fault;
struct vfs_fault *
vfs_fault_new(struct kv_vfs *base); /* aborts when out of memory, like all of tests/support */
void vfs_fault_free(struct vfs_fault *fault);
struct kv_vfs *vfs_fault_as_vfs(struct vfs_fault *fault);

/* Called with every append's bytes before anything is done with them, also those that will fail. NULL: nobody is. Set while
 * nothing runs. */
void vfs_fault_watch(struct vfs_fault *fault,
                     void (*watch)(void *ctx, const char *name, uint64_t offset, kv_slice bytes), void *ctx);
void vfs_fault_plan(struct vfs_fault *fault,
                    const struct vfs_fault_plan *plan); /* NULL: none. Counts begin again */
bool vfs_fault_fired(struct vfs_fault *fault);
uint64_t vfs_fault_count(struct vfs_fault *fault,
                         uint32_t ops); /* operations of these kinds since vfs_fault_new */

/* What kv_dir space answers as free; UINT64_MAX: what the base says. */
void vfs_fault_set_free_bytes(struct vfs_fault *fault, uint64_t free_bytes);
/* Appends answer KV_NO_SPACE (half written) past so many bytes in all files; removing files gives space back. 0: no bound. */
void vfs_fault_set_capacity(struct vfs_fault *fault, uint64_t bytes);
/* Holds every sync before it begins, until released; waits until at least one is held. */
void vfs_fault_stall_syncs(struct vfs_fault *fault, bool stall);
void vfs_fault_wait_stalled(struct vfs_fault *fault);

#endif
