#include "tests/support/file_kit.h"
#include "kvcore/base/assert.h"

#include <stdlib.h>
#include <string.h>

static struct kv_dir *dir_of(struct kv_vfs *vfs, const char *path)
{
    struct kv_dir *dir = NULL;
    kv_status rc = kv_vfs_dir_open(vfs, path, false, &dir, NULL);
    KV_ASSERT(rc == KV_OK);
    return dir;
}

bool file_kit_has(struct kv_vfs *vfs, const char *path, const char *name)
{
    struct kv_dir *dir = dir_of(vfs, path);
    struct kv_file *file = NULL;
    kv_status rc = kv_dir_open_file(dir, name, &file, NULL);
    KV_ASSERT(rc == KV_OK || rc == KV_MISSING);
    kv_file_close(file);
    kv_dir_close(dir);
    return rc == KV_OK;
}

void file_kit_read(struct kv_vfs *vfs, const char *path, const char *name, struct kv_buf *out)
{
    struct kv_dir *dir = dir_of(vfs, path);
    struct kv_file *file = NULL;
    uint64_t size = 0;
    kv_status rc = kv_dir_open_file(dir, name, &file, NULL);
    KV_ASSERT(rc == KV_OK);
    rc = kv_file_size(file, &size, NULL);
    KV_ASSERT(rc == KV_OK);
    kv_buf_clear(out);
    uint8_t *at = kv_buf_extend(out, (size_t)size);
    KV_ASSERT(at != NULL || size == 0);
    rc = size ? kv_file_read_exact(file, 0, (size_t)size, at, NULL) : KV_OK;
    KV_ASSERT(rc == KV_OK);
    kv_file_close(file);
    kv_dir_close(dir);
}

void file_kit_write(struct kv_vfs *vfs, const char *path, const char *name, kv_slice bytes)
{
    struct kv_dir *dir = dir_of(vfs, path);
    struct kv_file *file = NULL;
    kv_status rc = kv_dir_remove(dir, name, NULL);
    KV_ASSERT(rc == KV_OK || rc == KV_MISSING);
    rc = kv_dir_create(dir, name, &file, NULL);
    KV_ASSERT(rc == KV_OK);
    rc = kv_file_append(file, 0, bytes, NULL);
    KV_ASSERT(rc == KV_OK);
    rc = kv_file_sync(file, NULL);
    KV_ASSERT(rc == KV_OK);
    rc = kv_dir_sync_names(dir, NULL);
    KV_ASSERT(rc == KV_OK);
    kv_file_close(file);
    kv_dir_close(dir);
}

void file_kit_remove(struct kv_vfs *vfs, const char *path, const char *name)
{
    struct kv_dir *dir = dir_of(vfs, path);
    kv_status rc = kv_dir_remove(dir, name, NULL);
    KV_ASSERT(rc == KV_OK);
    rc = kv_dir_sync_names(dir, NULL);
    KV_ASSERT(rc == KV_OK);
    kv_dir_close(dir);
}

static kv_status name_add(void *ctx, const char *name, uint64_t bytes)
{
    (void)bytes;
    return kv_buf_append(ctx, kv_slice_of(name, strlen(name) + 1));
}

void file_kit_empty(struct kv_vfs *vfs, const char *path)
{
    struct kv_dir *dir = dir_of(vfs, path);
    struct kv_buf names = {0};
    kv_status rc = dir->ops->list(dir, name_add, &names, NULL);
    for (size_t at = 0; rc == KV_OK && at < names.len; at += strlen((const char *)names.data + at) + 1)
        rc = kv_dir_remove(dir, (const char *)names.data + at, NULL);
    KV_ASSERT(rc == KV_OK);
    rc = kv_dir_sync_names(dir, NULL);
    KV_ASSERT(rc == KV_OK);
    kv_buf_release(&names);
    kv_dir_close(dir);
}

struct listing {
    const char *suffix;
    char names[512][72];
    size_t n;
};

static kv_status take_name(void *ctx, const char *name, uint64_t bytes)
{
    struct listing *list = ctx;
    size_t len = strlen(name), tail = strlen(list->suffix);
    (void)bytes;
    if (len < tail || strcmp(name + len - tail, list->suffix) != 0)
        return KV_OK;
    KV_ASSERT(list->n < 512 && len < sizeof list->names[0]);
    memcpy(list->names[list->n++], name, len + 1);
    return KV_OK;
}

static int order_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

size_t file_kit_list(struct kv_vfs *vfs, const char *path, const char *suffix, struct kv_buf *out)
{
    struct kv_dir *dir = dir_of(vfs, path);
    struct listing list = {.suffix = suffix};
    kv_status rc = dir->ops->list(dir, take_name, &list, NULL);
    KV_ASSERT(rc >= 0);
    kv_dir_close(dir);
    qsort(list.names, list.n, sizeof list.names[0], order_names);
    kv_buf_clear(out);
    for (size_t i = 0; i < list.n; i++) {
        rc = kv_buf_append(out, kv_slice_of(list.names[i], strlen(list.names[i]) + 1));
        KV_ASSERT(rc == KV_OK);
    }
    return list.n;
}

void file_kit_flip(struct kv_vfs *vfs, const char *path, const char *name, uint64_t offset)
{
    struct kv_buf bytes = {0};
    file_kit_read(vfs, path, name, &bytes);
    KV_ASSERT(offset < bytes.len);
    bytes.data[offset] ^= 1;
    file_kit_write(vfs, path, name, kv_buf_slice(&bytes));
    kv_buf_release(&bytes);
}

uint64_t file_kit_size(struct kv_vfs *vfs, const char *path, const char *name)
{
    struct kv_buf bytes = {0};
    file_kit_read(vfs, path, name, &bytes);
    uint64_t size = bytes.len;
    kv_buf_release(&bytes);
    return size;
}
