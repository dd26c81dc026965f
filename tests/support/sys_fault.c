#include "tests/support/sys_fault.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>
#include <sodium.h>
#include <time.h>
#include <zstd.h>

struct plan {
    const char *call; /* NULL: none */
    uint64_t nth, calls;
    int sys;
    bool is_short, fired;
    size_t bytes;
};
static _Thread_local struct plan plan;

void sys_fault_arm(const char *call, uint64_t nth, int sys)
{
    plan = (struct plan){.call = call, .nth = nth, .sys = sys};
}

void sys_fault_arm_short(const char *call, uint64_t nth, size_t bytes)
{
    plan = (struct plan){.call = call, .nth = nth, .is_short = true, .bytes = bytes};
}

bool sys_fault_disarm(void)
{
    bool fired = plan.fired;
    plan = (struct plan){0};
    return fired;
}

static bool hits(const char *call)
{
    if (!plan.call || strcmp(plan.call, call) != 0 || ++plan.calls != plan.nth)
        return false;
    plan.fired = true;
    if (plan.sys)
        errno = plan.sys;
    return true;
}

/* The function that would have been called without this file. */
static void *next_of(const char *call)
{
    void *next = dlsym(RTLD_NEXT, call);
    if (!next) {
        fprintf(stderr, "sys_fault: no %s\n", call);
        abort();
    }
    return next;
}

#define FAILABLE(type, name, params, args, failed)                                                           \
    type name params                                                                                         \
    {                                                                                                        \
        static type(*next) params;                                                                           \
        if (!next)                                                                                           \
            *(void **)&next = next_of(#name);                                                                \
        return hits(#name) ? (failed) : next args;                                                           \
    }

/* `limit` bounds the bytes before the call is made. */
#define SHORTENABLE(name, params, args, limit)                                                               \
    ssize_t name params                                                                                      \
    {                                                                                                        \
        static ssize_t(*next) params;                                                                        \
        if (!next)                                                                                           \
            *(void **)&next = next_of(#name);                                                                \
        if (hits(#name)) {                                                                                   \
            if (!plan.is_short)                                                                              \
                return -1;                                                                                   \
            limit;                                                                                           \
        }                                                                                                    \
        return next args;                                                                                    \
    }

static void limit_vector(const struct iovec **iov, int *n)
{
    static _Thread_local struct iovec first;
    first = (*iov)[0];
    if (first.iov_len > plan.bytes)
        first.iov_len = plan.bytes;
    *iov = &first;
    *n = 1;
}

SHORTENABLE(pread, (int fd, void *into, size_t n, off_t at), (fd, into, n, at),
            n = plan.bytes < n ? plan.bytes : n)
SHORTENABLE(pwrite, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at),
            n = plan.bytes < n ? plan.bytes : n)
SHORTENABLE(getrandom, (void *into, size_t n, unsigned flags), (into, n, flags),
            n = plan.bytes < n ? plan.bytes : n)
SHORTENABLE(pwritev, (int fd, const struct iovec *iov, int n, off_t at), (fd, iov, n, at),
            limit_vector(&iov, &n))

static mode_t mode_of(int flags, va_list args)
{
    return flags & O_CREAT ? va_arg(args, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    static int (*next)(const char *, int, ...);
    if (!next)
        *(void **)&next = next_of("open");
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return hits("open") ? -1 : next(path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
    static int (*next)(int, const char *, int, ...);
    if (!next)
        *(void **)&next = next_of("openat");
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return hits("openat") ? -1 : next(dir, path, flags, mode);
}

FAILABLE(int, fsync, (int fd), (fd), -1)
FAILABLE(int, fdatasync, (int fd), (fd), -1)
FAILABLE(int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n), -1)
FAILABLE(int, ftruncate, (int fd, off_t n), (fd, n), -1)
FAILABLE(int, fstat, (int fd, struct stat *st), (fd, st), -1)
FAILABLE(int, fstatat, (int dir, const char *path, struct stat *st, int flags), (dir, path, st, flags), -1)
FAILABLE(int, fstatvfs, (int fd, struct statvfs *st), (fd, st), -1)
FAILABLE(int, flock, (int fd, int how), (fd, how), -1)
FAILABLE(int, mkdir, (const char *path, mode_t mode), (path, mode), -1)
FAILABLE(int, linkat, (int from, const char *a, int to, const char *b, int flags), (from, a, to, b, flags),
         -1)
FAILABLE(int, renameat, (int from, const char *a, int to, const char *b), (from, a, to, b), -1)
FAILABLE(int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags), -1)
FAILABLE(DIR *, fdopendir, (int fd), (fd), NULL)
FAILABLE(struct dirent *, readdir, (DIR * dir), (dir), NULL)
FAILABLE(int, clock_nanosleep,
         (clockid_t clock, int flags, const struct timespec *want, struct timespec *left),
         (clock, flags, want, left), plan.sys)
FAILABLE(int, sodium_init, (void), (), -1)
FAILABLE(int, pthread_attr_init, (pthread_attr_t * attr), (attr), plan.sys)
FAILABLE(int, pthread_create,
         (pthread_t *restrict t, const pthread_attr_t *restrict attr, void *(*run)(void *),
          void *restrict arg),
         (t, attr, run, arg), plan.sys)
FAILABLE(int, posix_memalign, (void **memory, size_t alignment, size_t size), (memory, alignment, size),
         plan.sys)

FAILABLE(EVP_CIPHER *, EVP_CIPHER_fetch, (OSSL_LIB_CTX * ctx, const char *name, const char *how),
         (ctx, name, how), NULL)
FAILABLE(EVP_CIPHER_CTX *, EVP_CIPHER_CTX_new, (void), (), NULL)
FAILABLE(int, EVP_CipherInit_ex,
         (EVP_CIPHER_CTX * ctx, const EVP_CIPHER *cipher, ENGINE *engine, const unsigned char *key,
          const unsigned char *iv, int enc),
         (ctx, cipher, engine, key, iv, enc), 0)
FAILABLE(int, EVP_CipherUpdate,
         (EVP_CIPHER_CTX * ctx, unsigned char *out, int *out_len, const unsigned char *in, int in_len),
         (ctx, out, out_len, in, in_len), 0)
FAILABLE(int, EVP_CIPHER_CTX_ctrl, (EVP_CIPHER_CTX * ctx, int type, int arg, void *ptr),
         (ctx, type, arg, ptr), 0)
FAILABLE(EVP_MD_CTX *, EVP_MD_CTX_new, (void), (), NULL)
FAILABLE(int, EVP_DigestInit_ex, (EVP_MD_CTX * ctx, const EVP_MD *type, ENGINE *engine), (ctx, type, engine),
         0)
FAILABLE(EVP_KDF *, EVP_KDF_fetch, (OSSL_LIB_CTX * ctx, const char *name, const char *how), (ctx, name, how),
         NULL)
FAILABLE(EVP_KDF_CTX *, EVP_KDF_CTX_new, (EVP_KDF * kdf), (kdf), NULL)
FAILABLE(ZSTD_CCtx *, ZSTD_createCCtx, (void), (), NULL)
FAILABLE(ZSTD_DCtx *, ZSTD_createDCtx, (void), (), NULL)
FAILABLE(size_t, ZSTD_compressCCtx,
         (ZSTD_CCtx * ctx, void *into, size_t room, const void *from, size_t n, int level),
         (ctx, into, room, from, n, level), (size_t)-1)
