/*
 * vfs.h - SEAM: every byte that reaches or leaves a disk. posix (vfs_posix), memory (vfs_mem), and in
 * tests/support the fault-injecting and crash-simulating ones. A later one keeps the same objects in Ceph
 * RADOS, hence what is missing here: no rename, no truncate, no overwrite, no writable mmap.
 *
 * A kv_dir is one flat namespace of files (one database, or one snapshot beside it). Names are
 * [A-Za-z0-9._-]{1,64}, not starting with '.'. A file is written once, front to back, by whoever created it;
 * after that it is only read.
 *
 * Durability is a method, never a hope: bytes are safe once kv_file_sync returned KV_OK *and* the file's name
 *            is safe, which it is once kv_dir_sync_names returned KV_OK after its creation. Closing promises
 *            nothing and cannot fail.
 *
 * Errors     KV_IO, KV_NO_SPACE, KV_MISSING, KV_EXISTS, KV_BUSY, KV_NO_MEMORY, KV_READ_ONLY (EACCES, EROFS,
 *            EPERM), KV_LIMIT (descriptors), KV_INVALID (a bad name); *err (may be NULL) says which system
 *            call on which path, and errno. Interrupted and short transfers are continued inside; a short
 *            append that cannot be completed is an error and the file's end is then unknown.
 * Threads    kv_dir and read_at: any. append, reserve, sync of one file: one at a time (read_at may run
 *            beside them).
 */
#ifndef KV_VFS_H
#define KV_VFS_H

#include "kvcore/base/buf.h"
#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

struct kv_vfs;
struct kv_dir;
struct kv_file;
struct kv_lease;

/* One range of a file to read: `len` bytes at `offset` into `into`; `got` is less than len only at the end of
 * the file. */
struct kv_read {
    uint64_t offset;
    size_t len;
    uint8_t *into;
    size_t got;
};

struct kv_space_info {
    uint64_t total_bytes, free_bytes; /* free: what this process may use */
};

struct kv_vfs_ops {
    /* Opens the directory at path; create: makes it (and syncs its parent) when missing. */
    kv_status (*dir_open)(struct kv_vfs *vfs, const char *path, bool create, struct kv_dir **out,
                          struct kv_err *err);
};
struct kv_vfs {
    const struct kv_vfs_ops *ops;
};

struct kv_dir_ops {
    void (*close)(struct kv_dir *dir); /* its files must be closed first */
    /* A new empty file, open for append and read. KV_EXISTS if the name is taken. */
    kv_status (*create_exclusive)(struct kv_dir *dir, const char *name, struct kv_file **out,
                                  struct kv_err *err);
    /* An existing file, read-only. KV_MISSING; KV_INVALID if it is not a regular file. */
    kv_status (*open)(struct kv_dir *dir, const char *name, struct kv_file **out, struct kv_err *err);
    /* Makes durable every name created or removed so far. */
    kv_status (*sync_names)(struct kv_dir *dir, struct kv_err *err);
    /* The same immutable, synced file under the same name in target (posix: hard link, or copy and sync
     * across devices). The caller syncs target's names. KV_EXISTS if the name is taken there. */
    kv_status (*link)(struct kv_dir *dir, const char *name, struct kv_dir *target, struct kv_err *err);
    /* Calls each(ctx, name, bytes) for every file, in no order; names are valid for the call. A negative
     * answer of each stops and is returned. Leases and the published name are not listed; a subdirectory or
     * other non-file is skipped. */
    kv_status (*list)(struct kv_dir *dir, kv_status (*each)(void *ctx, const char *name, uint64_t bytes),
                      void *ctx, struct kv_err *err);
    kv_status (*remove)(struct kv_dir *dir, const char *name,
                        struct kv_err *err); /* KV_MISSING when absent */
    /* Takes the directory's lock for this process, exclusive or shared. KV_BUSY when another holds it (the
     * text says by which pid, where known). Two leases of one process conflict like those of two. */
    kv_status (*lease)(struct kv_dir *dir, bool shared, struct kv_lease **out, struct kv_err *err);
    void (*lease_release)(struct kv_dir *dir, struct kv_lease *lease);
    kv_status (*space)(struct kv_dir *dir, struct kv_space_info *out, struct kv_err *err);
    /* Atomically and durably replaces the one published value of this directory (the name of the current
     * manifest) if its generation is still expected_generation (0: none published yet); the new generation is
     * expected + 1. KV_CONFLICT otherwise. bytes: at most 256. After an error the old or the new value may be
     * found; read it again. */
    kv_status (*publish)(struct kv_dir *dir, kv_slice bytes, uint64_t expected_generation,
                         struct kv_err *err);
    /* Appends the published value to *out. KV_NOT_FOUND (positive) with generation 0 when none. Damage is
     * KV_CORRUPT. */
    kv_status (*published)(struct kv_dir *dir, struct kv_buf *out, uint64_t *generation, struct kv_err *err);
};
struct kv_dir {
    const struct kv_dir_ops *ops;
};

struct kv_file_ops {
    void (*close)(
        struct kv_file *file); /* NULL-safe through kv_file_close; removing an open file is allowed */
    /* Reads n ranges. Short only at the end of the file. */
    kv_status (*read_at)(struct kv_file *file, struct kv_read *ranges, size_t n, struct kv_err *err);
    /* Writes the pieces one behind another at the end, which must be expected_offset (KV_INVALID otherwise,
     * nothing written). */
    kv_status (*append)(struct kv_file *file, uint64_t expected_offset, const kv_slice *pieces, size_t n,
                        struct kv_err *err);
    /* A hint that the file will grow to `bytes`; does not change its size. Failing is harmless but reported
     * (KV_NO_SPACE). */
    kv_status (*reserve)(struct kv_file *file, uint64_t bytes, struct kv_err *err);
    /* Everything appended so far is on stable storage. After a failure the file must not be synced again. */
    kv_status (*sync)(struct kv_file *file, struct kv_err *err);
    kv_status (*size)(struct kv_file *file, uint64_t *bytes, struct kv_err *err);
};
struct kv_file {
    const struct kv_file_ops *ops;
};

/* The operating system's files. Static: never freed. */
struct kv_vfs *kv_vfs_posix(void);

/* Files in memory: for in-memory databases and tests. Synced and unsynced bytes are told apart, so that
 * crash_clone can lose what was not. Freed by kv_vfs_mem_free after every dir is closed. NULL: out of memory.
 */
struct kv_vfs *kv_vfs_mem_new(void);
void kv_vfs_mem_free(struct kv_vfs *vfs); /* NULL is fine */
/* What a machine would find after power was lost now: only synced bytes under synced names. The original is
 * untouched and may still have files open. */
struct kv_vfs *kv_vfs_mem_crash_clone(struct kv_vfs *vfs);

/* Short forms. */
static inline KV_MUST kv_status kv_vfs_dir_open(struct kv_vfs *vfs, const char *path, bool create,
                                                struct kv_dir **out, struct kv_err *err)
{
    return vfs->ops->dir_open(vfs, path, create, out, err);
}
static inline void kv_dir_close(struct kv_dir *dir)
{
    if (dir)
        dir->ops->close(dir);
}
static inline KV_MUST kv_status kv_dir_create(struct kv_dir *dir, const char *name, struct kv_file **out,
                                              struct kv_err *err)
{
    return dir->ops->create_exclusive(dir, name, out, err);
}
static inline KV_MUST kv_status kv_dir_open_file(struct kv_dir *dir, const char *name, struct kv_file **out,
                                                 struct kv_err *err)
{
    return dir->ops->open(dir, name, out, err);
}
static inline KV_MUST kv_status kv_dir_sync_names(struct kv_dir *dir, struct kv_err *err)
{
    return dir->ops->sync_names(dir, err);
}
static inline KV_MUST kv_status kv_dir_remove(struct kv_dir *dir, const char *name, struct kv_err *err)
{
    return dir->ops->remove(dir, name, err);
}
static inline void kv_file_close(struct kv_file *file)
{
    if (file)
        file->ops->close(file);
}
/* One range; KV_CORRUPT with a text when the file ends before it. */
KV_MUST kv_status kv_file_read_exact(struct kv_file *file, uint64_t offset, size_t len, uint8_t *into,
                                     struct kv_err *err);
static inline KV_MUST kv_status kv_file_append(struct kv_file *file, uint64_t expected_offset, kv_slice bytes,
                                               struct kv_err *err)
{
    return file->ops->append(file, expected_offset, &bytes, 1, err);
}
static inline KV_MUST kv_status kv_file_sync(struct kv_file *file, struct kv_err *err)
{
    return file->ops->sync(file, err);
}
static inline KV_MUST kv_status kv_file_size(struct kv_file *file, uint64_t *bytes, struct kv_err *err)
{
    return file->ops->size(file, bytes, err);
}

#endif
