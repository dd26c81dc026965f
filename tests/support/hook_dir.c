#include "tests/support/hook_dir.h"
#include "kvcore/base/assert.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

struct hook_file {
    struct kv_file base;
    struct kv_file *under;
    struct hook_dir *dir;
    char name[72];
};

static kv_status before(struct hook_dir *dir, enum vfs_op op, const char *name, struct kv_err *err)
{
    return dir->before ? dir->before(dir->ctx, op, name, err) : KV_OK;
}

static void hook_file_close(struct kv_file *base)
{
    kv_file_close(((struct hook_file *)base)->under);
    free(base);
}

static kv_status hook_read_at(struct kv_file *base, struct kv_read *ranges, size_t n, struct kv_err *err)
{
    struct hook_file *file = (struct hook_file *)base;
    kv_status rc = before(file->dir, VFS_OP_READ, file->name, err);
    if (rc == KV_OK)
        rc = file->under->ops->read_at(file->under, ranges, n, err);
    for (size_t i = 0; i < n && rc == KV_OK && file->dir->found; i++)
        file->dir->found(file->dir->ctx, &ranges[i]);
    return rc;
}

static kv_status hook_size(struct kv_file *base, uint64_t *bytes, struct kv_err *err)
{
    struct hook_file *file = (struct hook_file *)base;
    kv_status rc = before(file->dir, VFS_OP_SIZE, file->name, err);
    if (rc == KV_OK)
        rc = kv_file_size(file->under, bytes, err);
    if (rc == KV_OK && file->dir->sized)
        file->dir->sized(file->dir->ctx, bytes);
    return rc;
}

static const struct kv_file_ops hook_file_ops = {
    .close = hook_file_close, .read_at = hook_read_at, .size = hook_size};

static kv_status hook_open(struct kv_dir *base, const char *name, struct kv_file **out, struct kv_err *err)
{
    struct hook_dir *dir = (struct hook_dir *)base;
    struct kv_file *under = NULL;
    kv_status rc = before(dir, VFS_OP_OPEN, name, err);
    if (rc == KV_OK)
        rc = kv_dir_open_file(dir->under, name, &under, err);
    if (rc != KV_OK)
        return rc;
    struct hook_file *file = calloc(1, sizeof *file);
    KV_ASSERT(file != NULL);
    *file = (struct hook_file){.base = {&hook_file_ops}, .under = under, .dir = dir};
    snprintf(file->name, sizeof file->name, "%s", name);
    *out = &file->base;
    return KV_OK;
}

static kv_status hook_list(struct kv_dir *base,
                           kv_status (*each)(void *ctx, const char *name, uint64_t bytes), void *ctx,
                           struct kv_err *err)
{
    struct hook_dir *dir = (struct hook_dir *)base;
    kv_status rc = before(dir, VFS_OP_LIST, NULL, err);
    return rc == KV_OK ? dir->under->ops->list(dir->under, each, ctx, err) : rc;
}

static kv_status hook_published(struct kv_dir *base, struct kv_buf *out, uint64_t *generation,
                                struct kv_err *err)
{
    struct hook_dir *dir = (struct hook_dir *)base;
    *generation = 0;
    kv_status rc = before(dir, VFS_OP_PUBLISHED, NULL, err);
    return rc == KV_OK ? dir->under->ops->published(dir->under, out, generation, err) : rc;
}

static void hook_close(struct kv_dir *base)
{
    (void)base;
}

static const struct kv_dir_ops hook_dir_ops = {
    .close = hook_close, .open = hook_open, .list = hook_list, .published = hook_published};

static kv_status hook_dir_open(struct kv_vfs *vfs, const char *path, bool create, struct kv_dir **out,
                               struct kv_err *err)
{
    (void)path, (void)create, (void)err;
    *out = &((struct hook_dir *)((char *)vfs - offsetof(struct hook_dir, vfs)))->base;
    return KV_OK;
}

static const struct kv_vfs_ops hook_vfs_ops = {.dir_open = hook_dir_open};

void hook_dir_init(struct hook_dir *hook, struct kv_dir *under)
{
    *hook = (struct hook_dir){.base = {&hook_dir_ops}, .vfs = {&hook_vfs_ops}, .under = under};
}
