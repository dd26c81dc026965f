/*
 * The operating system's files. Everything is relative to one directory descriptor, opened once, and no
 * symbolic link is followed below it. Hidden names are this file's own: .lease (flock) and .current (the
 * published value).
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/base/mem.h"
#include "kvcore/os/vfs_names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#define LEASE_NAME    ".lease"
#define CURRENT_NAME  ".current"
#define CURRENT_TEMP  ".current.new"
#define CURRENT_MAGIC "KVCURR\x01\n"
enum { CURRENT_HEADER_LEN = 8 + 8 + 4, CURRENT_CRC_LEN = 4 };
enum { APPEND_PIECES = 64 };
_Static_assert(APPEND_PIECES <= IOV_MAX, "one pwritev takes them");

struct posix_dir {
    struct kv_dir base;
    int fd;
    char path[]; /* for texts */
};
struct posix_file {
    struct kv_file base;
    int fd;
    bool writable, failed;
    uint64_t end, reserved;
    const struct posix_dir *dir;
    char name[KV_FILE_NAME_MAX + 1];
};
struct kv_lease {
    int fd;
};

static const struct kv_dir_ops posix_dir_ops;
static const struct kv_file_ops posix_file_ops;

static kv_status status_of_errno(int sys)
{
    switch (sys) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return KV_NO_SPACE;
    case ENOENT:
        return KV_MISSING;
    case EEXIST:
        return KV_EXISTS;
    case ENOMEM:
        return KV_NO_MEMORY;
    case EACCES:
    case EPERM:
    case EROFS:
        return KV_READ_ONLY;
    case EMFILE:
    case ENFILE:
        return KV_LIMIT;
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
        return KV_INVALID;
    default:
        return KV_IO;
    }
}

/* Reports the system call that just failed on path/name (name may be ""). */
static kv_status posix_fail(struct kv_err *err, const char *call, const char *path, const char *name)
{
    int sys = errno;
    char text[128];
    return kv_fail(err, status_of_errno(sys), sys, "%s %s%s%s: %s", call, path, name[0] ? "/" : "", name,
                   strerror_r(sys, text, sizeof text));
}

static kv_status file_fail(struct kv_err *err, const char *call, const struct posix_file *file)
{
    return posix_fail(err, call, file->dir->path, file->name);
}

static int retry_fsync(int fd, bool data_only)
{
    int rc;
    do
        rc = data_only ? fdatasync(fd) : fsync(fd);
    while (rc < 0 && errno == EINTR);
    return rc;
}

static int retry_openat(int dir, const char *name, int flags, mode_t mode)
{
    int fd;
    do
        fd = openat(dir, name, flags | O_CLOEXEC | O_NOFOLLOW, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* ---- files */

static void posix_file_close(struct kv_file *base)
{
    struct posix_file *file = (struct posix_file *)base;
    /* Gives back what reserve took past the end. Not when the end is unknown: nothing may touch such a file
     * again. */
    if (file->writable && !file->failed && file->reserved > file->end &&
        ftruncate(file->fd, (off_t)file->end) < 0)
        file->reserved = 0;
    close(file->fd);
    kv_free(file);
}

static kv_status posix_read_one(struct posix_file *file, struct kv_read *range, struct kv_err *err)
{
    range->got = 0;
    while (range->got < range->len) {
        if (range->offset > INT64_MAX - range->len)
            return kv_fail(err, KV_INVALID, 0, "read %s/%s: offset %" PRIu64 " is out of range",
                           file->dir->path, file->name, range->offset);
        ssize_t n = pread(file->fd, range->into + range->got, range->len - range->got,
                          (off_t)(range->offset + range->got));
        if (n == 0)
            break;
        if (n < 0 && errno != EINTR)
            return file_fail(err, "read", file);
        if (n > 0)
            range->got += (size_t)n;
    }
    return KV_OK;
}

static kv_status posix_file_read_at(struct kv_file *base, struct kv_read *ranges, size_t n,
                                    struct kv_err *err)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        rc = posix_read_one((struct posix_file *)base, &ranges[i], err);
    return rc;
}

/* Writes all of iov at the end. A short write is continued; an error leaves the end unknown. */
static kv_status append_vector(struct posix_file *file, struct iovec *iov, int n, struct kv_err *err)
{
    while (n > 0) {
        ssize_t put = pwritev(file->fd, iov, n, (off_t)file->end);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            file->failed = true;
            if (put == 0)
                errno = EIO;
            return file_fail(err, "write", file);
        }
        file->end += (uint64_t)put;
        size_t left = (size_t)put;
        for (; n > 0 && left >= iov->iov_len; iov++, n--)
            left -= iov->iov_len;
        if (n > 0) {
            iov->iov_base = (uint8_t *)iov->iov_base + left;
            iov->iov_len -= left;
        }
    }
    return KV_OK;
}

static kv_status append_check(const struct posix_file *file, uint64_t expected_offset, struct kv_err *err)
{
    if (!file->writable)
        return kv_fail(err, KV_INVALID, 0, "append to %s/%s, which is open for reading", file->dir->path,
                       file->name);
    if (file->failed)
        return kv_fail(err, KV_IO, 0, "append to %s/%s, which failed before", file->dir->path, file->name);
    if (expected_offset != file->end)
        return kv_fail(err, KV_INVALID, 0, "append to %s/%s at %" PRIu64 ", but it ends at %" PRIu64,
                       file->dir->path, file->name, expected_offset, file->end);
    return KV_OK;
}

static kv_status posix_file_append(struct kv_file *base, uint64_t expected_offset, const kv_slice *pieces,
                                   size_t n, struct kv_err *err)
{
    struct posix_file *file = (struct posix_file *)base;
    kv_status rc = append_check(file, expected_offset, err);
    for (size_t done = 0; done < n && rc == KV_OK;) {
        struct iovec iov[APPEND_PIECES];
        int used = 0;
        for (; done < n && used < APPEND_PIECES; done++)
            if (pieces[done].len > 0)
                iov[used++] = (struct iovec){(void *)(uintptr_t)pieces[done].data, pieces[done].len};
        rc = append_vector(file, iov, used, err);
    }
    return rc;
}

static kv_status posix_file_reserve(struct kv_file *base, uint64_t bytes, struct kv_err *err)
{
    struct posix_file *file = (struct posix_file *)base;
    if (!file->writable || file->failed || bytes <= file->end || bytes > INT64_MAX)
        return KV_OK;
    int rc;
    do
        rc = fallocate(file->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes);
    while (rc < 0 && errno == EINTR);
    if (rc < 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
        return KV_OK; /* only a hint */
    if (rc < 0)
        return file_fail(err, "fallocate", file);
    file->reserved = bytes;
    return KV_OK;
}

static kv_status posix_file_sync(struct kv_file *base, struct kv_err *err)
{
    struct posix_file *file = (struct posix_file *)base;
    if (file->failed)
        return kv_fail(err, KV_IO, 0, "sync of %s/%s, which failed before", file->dir->path, file->name);
    if (retry_fsync(file->fd, true) == 0)
        return KV_OK;
    file->failed = true;
    return file_fail(err, "fdatasync", file);
}

static kv_status posix_file_size(struct kv_file *base, uint64_t *bytes, struct kv_err *err)
{
    struct posix_file *file = (struct posix_file *)base;
    struct stat st;
    if (fstat(file->fd, &st) < 0)
        return file_fail(err, "fstat", file);
    *bytes = (uint64_t)st.st_size;
    return KV_OK;
}

static const struct kv_file_ops posix_file_ops = {
    .close = posix_file_close,
    .read_at = posix_file_read_at,
    .append = posix_file_append,
    .reserve = posix_file_reserve,
    .sync = posix_file_sync,
    .size = posix_file_size,
};

static kv_status posix_file_new(struct posix_dir *dir, const char *name, int fd, bool writable,
                                struct kv_file **out, struct kv_err *err)
{
    struct posix_file *file = kv_zalloc(1, sizeof *file);
    if (!file)
        return kv_fail(err, KV_NO_MEMORY, 0, "opening %s/%s", dir->path, name);
    file->base.ops = &posix_file_ops;
    file->fd = fd;
    file->writable = writable;
    file->dir = dir;
    strncpy(file->name, name, KV_FILE_NAME_MAX);
    *out = &file->base;
    return KV_OK;
}

/* ---- directories */

static void posix_dir_close(struct kv_dir *base)
{
    close(((struct posix_dir *)base)->fd);
    kv_free(base);
}

static kv_status posix_create(struct kv_dir *base, const char *name, struct kv_file **out, struct kv_err *err)
{
    struct posix_dir *dir = (struct posix_dir *)base;
    kv_status rc = kv_vfs_name_check(name, err);
    if (rc < 0)
        return rc;
    int fd = retry_openat(dir->fd, name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
        return posix_fail(err, "create", dir->path, name);
    rc = posix_file_new(dir, name, fd, true, out, err);
    if (rc < 0) {
        close(fd);
        (void)unlinkat(dir->fd, name, 0);
    }
    return rc;
}

static kv_status posix_open(struct kv_dir *base, const char *name, struct kv_file **out, struct kv_err *err)
{
    struct posix_dir *dir = (struct posix_dir *)base;
    kv_status rc = kv_vfs_name_check(name, err);
    if (rc < 0)
        return rc;
    /* O_NONBLOCK: a FIFO of that name must not hang us. */
    int fd = retry_openat(dir->fd, name, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return posix_fail(err, "open", dir->path, name);
    struct stat st;
    if (fstat(fd, &st) < 0)
        rc = posix_fail(err, "fstat", dir->path, name);
    else if (!S_ISREG(st.st_mode))
        rc = kv_fail(err, KV_INVALID, 0, "open %s/%s: not a regular file", dir->path, name);
    else
        rc = posix_file_new(dir, name, fd, false, out, err);
    if (rc < 0)
        close(fd);
    return rc;
}

static kv_status posix_sync_names(struct kv_dir *base, struct kv_err *err)
{
    struct posix_dir *dir = (struct posix_dir *)base;
    return retry_fsync(dir->fd, false) == 0 ? KV_OK : posix_fail(err, "fsync", dir->path, "");
}

static kv_status posix_link(struct kv_dir *base, const char *name, struct kv_dir *target, struct kv_err *err)
{
    struct posix_dir *dir = (struct posix_dir *)base;
    kv_status rc = kv_vfs_name_check(name, err);
    if (rc < 0)
        return rc;
    if (target->ops == &posix_dir_ops) {
        if (linkat(dir->fd, name, ((struct posix_dir *)target)->fd, name, 0) == 0)
            return KV_OK;
        if (errno != EXDEV && errno != EPERM && errno != EOPNOTSUPP && errno != EMLINK)
            return posix_fail(err, "link", dir->path, name);
    }
    return kv_dir_copy_file(base, name, target, err);
}

static kv_status list_entry(struct posix_dir *dir, const char *name,
                            kv_status (*each)(void *ctx, const char *name, uint64_t bytes), void *ctx,
                            struct kv_err *err)
{
    struct stat st;
    if (!kv_vfs_name_valid(name))
        return KV_OK; /* ours have valid names; anything else cannot be opened through here either */
    if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? KV_OK : posix_fail(err, "stat", dir->path, name);
    return S_ISREG(st.st_mode) ? each(ctx, name, (uint64_t)st.st_size) : KV_OK;
}

static kv_status posix_list(struct kv_dir *base,
                            kv_status (*each)(void *ctx, const char *name, uint64_t bytes), void *ctx,
                            struct kv_err *err)
{
    struct posix_dir *dir = (struct posix_dir *)base;
    int fd = retry_openat(dir->fd, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (!stream) {
        kv_status failed = posix_fail(err, "opendir", dir->path, "");
        if (fd >= 0)
            close(fd);
        return failed;
    }
    kv_status rc = KV_OK;
    while (rc >= 0) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (!entry) {
            if (errno != 0)
                rc = posix_fail(err, "readdir", dir->path, "");
            break;
        }
        rc = list_entry(dir, entry->d_name, each, ctx, err);
    }
    closedir(stream);
    return rc < 0 ? rc : KV_OK;
}

static kv_status posix_remove(struct kv_dir *base, const char *name, struct kv_err *err)
{
    struct posix_dir *dir = (struct posix_dir *)base;
    kv_status rc = kv_vfs_name_check(name, err);
    if (rc == KV_OK && unlinkat(dir->fd, name, 0) < 0)
        rc = posix_fail(err, "unlink", dir->path, name);
    return rc;
}

/* ---- lease: an flock, which conflicts between two descriptors of one process too, and dies with its process
 */

static kv_status lease_busy(struct posix_dir *dir, int fd, struct kv_err *err)
{
    char pid[24] = {0};
    ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
    for (ssize_t i = 0; i < n; i++)
        if (pid[i] < '0' || pid[i] > '9')
            pid[i] = 0;
    if (n > 0 && pid[0])
        return kv_fail(err, KV_BUSY, 0, "%s is in use by process %s", dir->path, pid);
    return kv_fail(err, KV_BUSY, 0, "%s is in use by another process", dir->path);
}

static kv_status lease_take(struct posix_dir *dir, int fd, bool shared, struct kv_err *err)
{
    int rc;
    do
        rc = flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return errno == EWOULDBLOCK ? lease_busy(dir, fd, err)
                                    : posix_fail(err, "flock", dir->path, LEASE_NAME);
    if (!shared) {
        /* For the texts of others only: whoever cannot read it says "another process". */
        char pid[24];
        int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
        if (ftruncate(fd, 0) == 0 && pwrite(fd, pid, (size_t)n, 0) < n)
            errno = 0;
    }
    return KV_OK;
}

static kv_status posix_lease(struct kv_dir *base, bool shared, struct kv_lease **out, struct kv_err *err)
{
    struct posix_dir *dir = (struct posix_dir *)base;
    struct kv_lease *lease = kv_zalloc(1, sizeof *lease);
    if (!lease)
        return kv_fail(err, KV_NO_MEMORY, 0, "lease of %s", dir->path);
    lease->fd = retry_openat(dir->fd, LEASE_NAME, O_RDWR | O_CREAT, 0600);
    if (lease->fd < 0 && shared && (errno == EROFS || errno == EACCES))
        lease->fd = retry_openat(dir->fd, LEASE_NAME, O_RDONLY, 0);
    kv_status rc = lease->fd < 0 ? posix_fail(err, "open", dir->path, LEASE_NAME)
                                 : lease_take(dir, lease->fd, shared, err);
    if (rc == KV_OK) {
        *out = lease;
        return KV_OK;
    }
    if (lease->fd >= 0)
        close(lease->fd);
    kv_free(lease);
    return rc;
}

static void posix_lease_release(struct kv_dir *dir, struct kv_lease *lease)
{
    (void)dir;
    if (lease) {
        close(lease->fd);
        kv_free(lease);
    }
}

static kv_status posix_space(struct kv_dir *base, struct kv_space_info *out, struct kv_err *err)
{
    struct posix_dir *dir = (struct posix_dir *)base;
    struct statvfs st;
    int rc;
    do
        rc = fstatvfs(dir->fd, &st);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return posix_fail(err, "statvfs", dir->path, "");
    *out = (struct kv_space_info){.total_bytes = (uint64_t)st.f_blocks * st.f_frsize,
                                  .free_bytes = (uint64_t)st.f_bavail * st.f_frsize};
    return KV_OK;
}

/* ---- the published value: magic, generation u64, length u32, bytes, crc32c of all before; written beside
 * and renamed over */

static kv_status read_whole(struct posix_dir *dir, const char *name, uint8_t *into, size_t size, size_t *got,
                            struct kv_err *err)
{
    int fd = retry_openat(dir->fd, name, O_RDONLY, 0);
    if (fd < 0)
        return posix_fail(err, "open", dir->path, name);
    struct posix_file file = {.fd = fd, .dir = dir};
    strncpy(file.name, name, KV_FILE_NAME_MAX);
    struct kv_read range = {.len = size, .into = into};
    kv_status rc = posix_read_one(&file, &range, err);
    close(fd);
    *got = range.got;
    return rc;
}

static kv_status posix_published(struct kv_dir *base, struct kv_buf *out, uint64_t *generation,
                                 struct kv_err *err)
{
    struct posix_dir *dir = (struct posix_dir *)base;
    uint8_t raw[CURRENT_HEADER_LEN + KV_PUBLISH_MAX + CURRENT_CRC_LEN + 1];
    size_t got = 0;
    struct kv_err failure = {0};
    kv_status rc = read_whole(dir, CURRENT_NAME, raw, sizeof raw, &got, &failure);
    *generation = 0;
    if (rc == KV_MISSING)
        return KV_NOT_FOUND;
    if (rc < 0)
        return kv_fail(err, rc, failure.sys, "%s", failure.text);
    size_t len = got >= CURRENT_HEADER_LEN ? kv_get_fixed32(raw + 16) : SIZE_MAX;
    if (len > KV_PUBLISH_MAX || got != CURRENT_HEADER_LEN + len + CURRENT_CRC_LEN ||
        memcmp(raw, CURRENT_MAGIC, 8) != 0 ||
        kv_crc32c(0, kv_slice_of(raw, got - CURRENT_CRC_LEN)) != kv_get_fixed32(raw + got - CURRENT_CRC_LEN))
        return kv_fail(err, KV_CORRUPT, 0, "%s/%s is damaged (%zu bytes)", dir->path, CURRENT_NAME, got);
    rc = kv_buf_append(out, kv_slice_of(raw + CURRENT_HEADER_LEN, len));
    if (rc < 0)
        return kv_fail(err, rc, 0, "%s/%s: %s", dir->path, CURRENT_NAME, kv_status_text(rc));
    *generation = kv_get_fixed64(raw + 8);
    return KV_OK;
}

static kv_status publish_write(struct posix_dir *dir, kv_slice raw, struct kv_err *err)
{
    int fd = retry_openat(dir->fd, CURRENT_TEMP, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        return posix_fail(err, "create", dir->path, CURRENT_TEMP);
    struct posix_file file = {.fd = fd, .dir = dir, .writable = true, .name = CURRENT_TEMP};
    struct iovec iov = {(void *)(uintptr_t)raw.data, raw.len};
    kv_status rc = append_vector(&file, &iov, 1, err);
    if (rc == KV_OK && retry_fsync(fd, false) < 0)
        rc = file_fail(err, "fsync", &file);
    close(fd);
    if (rc == KV_OK && renameat(dir->fd, CURRENT_TEMP, dir->fd, CURRENT_NAME) < 0)
        rc = posix_fail(err, "rename", dir->path, CURRENT_TEMP);
    return rc == KV_OK ? posix_sync_names(&dir->base, err) : rc;
}

static kv_status posix_publish(struct kv_dir *base, kv_slice bytes, uint64_t expected_generation,
                               struct kv_err *err)
{
    struct posix_dir *dir = (struct posix_dir *)base;
    struct kv_buf before = {0};
    uint64_t generation;
    if (bytes.len > KV_PUBLISH_MAX)
        return kv_fail(err, KV_INVALID, 0, "publish of %zu bytes; at most %d", bytes.len, KV_PUBLISH_MAX);
    kv_status rc = posix_published(base, &before, &generation, err);
    kv_buf_release(&before);
    if (rc < 0)
        return rc;
    if (generation != expected_generation)
        return kv_fail(err, KV_CONFLICT, 0, "%s/%s has generation %" PRIu64 ", expected %" PRIu64, dir->path,
                       CURRENT_NAME, generation, expected_generation);
    uint8_t raw[CURRENT_HEADER_LEN + KV_PUBLISH_MAX + CURRENT_CRC_LEN];
    size_t len = CURRENT_HEADER_LEN;
    memcpy(raw, CURRENT_MAGIC, 8);
    kv_put_fixed64(raw + 8, generation + 1);
    kv_put_fixed32(raw + 16, (uint32_t)bytes.len);
    if (bytes.len)
        memcpy(raw + len, bytes.data, bytes.len);
    len += bytes.len;
    kv_put_fixed32(raw + len, kv_crc32c(0, kv_slice_of(raw, len)));
    return publish_write(dir, kv_slice_of(raw, len + CURRENT_CRC_LEN), err);
}

static const struct kv_dir_ops posix_dir_ops = {
    .close = posix_dir_close,
    .create_exclusive = posix_create,
    .open = posix_open,
    .sync_names = posix_sync_names,
    .link = posix_link,
    .list = posix_list,
    .remove = posix_remove,
    .lease = posix_lease,
    .lease_release = posix_lease_release,
    .space = posix_space,
    .publish = posix_publish,
    .published = posix_published,
};

/* ---- the vfs */

/* A directory made by us is durable before anything is put into it. */
static kv_status make_dir(const char *path, struct kv_err *err)
{
    if (mkdir(path, 0700) < 0)
        return errno == EEXIST ? KV_OK : posix_fail(err, "mkdir", path, "");
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    while (len > 0 && path[len - 1] != '/')
        len--;
    char *parent = kv_alloc(len + 2);
    if (!parent)
        return kv_fail(err, KV_NO_MEMORY, 0, "mkdir %s", path);
    memcpy(parent, len ? path : ".", len ? len : 1);
    parent[len ? len : 1] = 0;
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    kv_status rc = fd < 0 || retry_fsync(fd, false) < 0 ? posix_fail(err, "fsync", parent, "") : KV_OK;
    if (fd >= 0)
        close(fd);
    kv_free(parent);
    return rc;
}

static kv_status posix_dir_open(struct kv_vfs *vfs, const char *path, bool create, struct kv_dir **out,
                                struct kv_err *err)
{
    (void)vfs;
    kv_status rc = create ? make_dir(path, err) : KV_OK;
    if (rc < 0)
        return rc;
    size_t size = strlen(path) + 1;
    struct posix_dir *dir = kv_zalloc(1, sizeof *dir + size);
    if (!dir)
        return kv_fail(err, KV_NO_MEMORY, 0, "opening %s", path);
    dir->base.ops = &posix_dir_ops;
    memcpy(dir->path, path, size);
    do
        dir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (dir->fd < 0 && errno == EINTR);
    if (dir->fd < 0) {
        rc = posix_fail(err, "open", path, "");
        kv_free(dir);
        return rc;
    }
    *out = &dir->base;
    return KV_OK;
}

struct kv_vfs *kv_vfs_posix(void)
{
    static const struct kv_vfs_ops ops = {posix_dir_open};
    static struct kv_vfs vfs = {&ops};
    return &vfs;
}
