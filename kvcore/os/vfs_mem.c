/*
 * Files in memory. An inode knows how many of its bytes were synced; a directory keeps its names twice, as
 * they are and as they were at the last sync_names. A crash clone is made of the durable halves only.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/os/thread.h"
#include "kvcore/os/vfs_names.h"

#include <inttypes.h>

#define MEM_SPACE_BYTES (UINT64_C(1) << 40)

struct mem_inode {
    kv_rwlock lock;
    _Atomic uint32_t refs;
    uint8_t *data;
    size_t len, capacity;
    size_t synced; /* bytes a crash leaves */
};
struct mem_name {
    char name[KV_FILE_NAME_MAX + 1];
    struct mem_inode *inode;
};
struct mem_names {
    struct mem_name *items;
    size_t n, capacity;
};
struct mem_node { /* a directory */
    struct mem_node *next;
    struct mem_names now, durable;
    uint8_t published[KV_PUBLISH_MAX];
    size_t published_len;
    uint64_t generation; /* 0: nothing published */
    uint32_t readers;    /* shared leases */
    bool leased;         /* exclusively */
    char path[];
};
struct mem_vfs {
    struct kv_vfs base;
    kv_mutex lock; /* directories, names, leases */
    struct mem_node *nodes;
};
struct mem_dir {
    struct kv_dir base;
    struct mem_vfs *vfs;
    struct mem_node *node;
};
struct mem_file {
    struct kv_file base;
    struct mem_inode *inode;
    bool writable;
    char name[KV_FILE_NAME_MAX + 1];
};
struct kv_lease {
    bool shared;
};

static const struct kv_dir_ops mem_dir_ops;

/* ---- inodes and name lists */

static struct mem_inode *inode_new(void)
{
    struct mem_inode *inode = kv_zalloc(1, sizeof *inode);
    if (inode) {
        kv_rwlock_init(&inode->lock);
        inode->refs = 1;
    }
    return inode;
}

static struct mem_inode *inode_ref(struct mem_inode *inode)
{
    inode->refs++;
    return inode;
}

static void inode_unref(struct mem_inode *inode)
{
    if (!inode || --inode->refs > 0)
        return;
    kv_rwlock_release(&inode->lock);
    kv_free(inode->data);
    kv_free(inode);
}

static kv_status inode_append(struct mem_inode *inode, kv_slice bytes)
{
    if (bytes.len > inode->capacity - inode->len) {
        size_t capacity = inode->capacity ? inode->capacity : 4096;
        while (capacity - inode->len < bytes.len)
            capacity *= 2;
        uint8_t *data = kv_realloc(inode->data, capacity);
        if (!data)
            return KV_NO_MEMORY;
        inode->data = data;
        inode->capacity = capacity;
    }
    if (bytes.len)
        memcpy(inode->data + inode->len, bytes.data, bytes.len);
    inode->len += bytes.len;
    return KV_OK;
}

static struct mem_name *names_find(const struct mem_names *names, const char *name)
{
    for (size_t i = 0; i < names->n; i++)
        if (strcmp(names->items[i].name, name) == 0)
            return &names->items[i];
    return NULL;
}

/* Takes over one reference of inode on success. */
static kv_status names_add(struct mem_names *names, const char *name, struct mem_inode *inode)
{
    if (names->n == names->capacity) {
        size_t capacity = names->capacity ? names->capacity * 2 : 16;
        struct mem_name *items = kv_realloc(names->items, capacity * sizeof *items);
        if (!items)
            return KV_NO_MEMORY;
        names->items = items;
        names->capacity = capacity;
    }
    struct mem_name *item = &names->items[names->n++];
    memset(item->name, 0, sizeof item->name);
    strncpy(item->name, name, KV_FILE_NAME_MAX);
    item->inode = inode;
    return KV_OK;
}

static void names_release(struct mem_names *names)
{
    for (size_t i = 0; i < names->n; i++)
        inode_unref(names->items[i].inode);
    kv_free(names->items);
    *names = (struct mem_names){0};
}

static kv_status names_copy(const struct mem_names *from, struct mem_names *to)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < from->n && rc == KV_OK; i++) {
        rc = names_add(to, from->items[i].name, from->items[i].inode);
        if (rc == KV_OK)
            inode_ref(from->items[i].inode);
    }
    if (rc < 0)
        names_release(to);
    return rc;
}

/* ---- files */

static void mem_file_close(struct kv_file *base)
{
    inode_unref(((struct mem_file *)base)->inode);
    kv_free(base);
}

static kv_status mem_file_read_at(struct kv_file *base, struct kv_read *ranges, size_t n, struct kv_err *err)
{
    struct mem_inode *inode = ((struct mem_file *)base)->inode;
    (void)err;
    kv_rwlock_read(&inode->lock);
    for (size_t i = 0; i < n; i++) {
        struct kv_read *r = &ranges[i];
        size_t there = r->offset < inode->len ? inode->len - (size_t)r->offset : 0;
        r->got = r->len < there ? r->len : there;
        if (r->got)
            memcpy(r->into, inode->data + r->offset, r->got);
    }
    kv_rwlock_unlock(&inode->lock);
    return KV_OK;
}

static kv_status mem_file_append(struct kv_file *base, uint64_t expected_offset, const kv_slice *pieces,
                                 size_t n, struct kv_err *err)
{
    struct mem_file *file = (struct mem_file *)base;
    struct mem_inode *inode = file->inode;
    if (!file->writable)
        return kv_fail(err, KV_INVALID, 0, "append to %s, which is open for reading", file->name);
    kv_status rc = KV_OK;
    kv_rwlock_write(&inode->lock);
    size_t before = inode->len;
    if (expected_offset != before)
        rc = kv_fail(err, KV_INVALID, 0, "append to %s at %" PRIu64 ", but it ends at %zu", file->name,
                     expected_offset, before);
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        rc = inode_append(inode, pieces[i]);
    if (rc == KV_NO_MEMORY) {
        inode->len = before;
        rc = kv_fail(err, KV_NO_SPACE, 0, "append to %s: no memory for it", file->name);
    }
    kv_rwlock_unlock(&inode->lock);
    return rc;
}

static kv_status mem_file_reserve(struct kv_file *file, uint64_t bytes, struct kv_err *err)
{
    (void)file, (void)bytes, (void)err;
    return KV_OK;
}

static kv_status mem_file_sync(struct kv_file *base, struct kv_err *err)
{
    struct mem_inode *inode = ((struct mem_file *)base)->inode;
    (void)err;
    kv_rwlock_write(&inode->lock);
    inode->synced = inode->len;
    kv_rwlock_unlock(&inode->lock);
    return KV_OK;
}

static kv_status mem_file_size(struct kv_file *base, uint64_t *bytes, struct kv_err *err)
{
    struct mem_inode *inode = ((struct mem_file *)base)->inode;
    (void)err;
    kv_rwlock_read(&inode->lock);
    *bytes = inode->len;
    kv_rwlock_unlock(&inode->lock);
    return KV_OK;
}

static const struct kv_file_ops mem_file_ops = {
    .close = mem_file_close,
    .read_at = mem_file_read_at,
    .append = mem_file_append,
    .reserve = mem_file_reserve,
    .sync = mem_file_sync,
    .size = mem_file_size,
};

/* Takes over one reference of inode on success. */
static kv_status mem_file_new(struct mem_inode *inode, const char *name, bool writable, struct kv_file **out)
{
    struct mem_file *file = kv_zalloc(1, sizeof *file);
    if (!file)
        return KV_NO_MEMORY;
    *file = (struct mem_file){.base.ops = &mem_file_ops, .inode = inode, .writable = writable};
    strncpy(file->name, name, KV_FILE_NAME_MAX);
    *out = &file->base;
    return KV_OK;
}

/* ---- directories */

static void mem_dir_close(struct kv_dir *dir)
{
    kv_free(dir);
}

static kv_status create_locked(struct mem_node *node, const char *name, struct kv_file **out,
                               struct kv_err *err)
{
    if (names_find(&node->now, name))
        return kv_fail(err, KV_EXISTS, 0, "create %s/%s: it exists", node->path, name);
    struct mem_inode *inode = inode_new();
    struct kv_file *file = NULL;
    kv_status rc = inode ? mem_file_new(inode, name, true, &file) : KV_NO_MEMORY;
    if (rc == KV_OK)
        rc = names_add(&node->now, name, inode);
    if (rc == KV_OK) {
        inode_ref(inode); /* one for the file, one for the name */
        *out = file;
        return KV_OK;
    }
    if (file)
        kv_file_close(file);
    else
        inode_unref(inode);
    return kv_fail(err, rc, 0, "create %s/%s", node->path, name);
}

static kv_status mem_create(struct kv_dir *base, const char *name, struct kv_file **out, struct kv_err *err)
{
    struct mem_dir *dir = (struct mem_dir *)base;
    kv_status rc = kv_vfs_name_check(name, err);
    if (rc < 0)
        return rc;
    kv_mutex_lock(&dir->vfs->lock);
    rc = create_locked(dir->node, name, out, err);
    kv_mutex_unlock(&dir->vfs->lock);
    return rc;
}

static kv_status mem_open(struct kv_dir *base, const char *name, struct kv_file **out, struct kv_err *err)
{
    struct mem_dir *dir = (struct mem_dir *)base;
    kv_status rc = kv_vfs_name_check(name, err);
    if (rc < 0)
        return rc;
    kv_mutex_lock(&dir->vfs->lock);
    struct mem_name *found = names_find(&dir->node->now, name);
    if (!found)
        rc = kv_fail(err, KV_MISSING, 0, "open %s/%s: no such file", dir->node->path, name);
    else if ((rc = mem_file_new(found->inode, name, false, out)) == KV_OK)
        inode_ref(found->inode);
    else
        rc = kv_fail(err, rc, 0, "open %s/%s: out of memory", dir->node->path, name);
    kv_mutex_unlock(&dir->vfs->lock);
    return rc;
}

static kv_status mem_sync_names(struct kv_dir *base, struct kv_err *err)
{
    struct mem_dir *dir = (struct mem_dir *)base;
    struct mem_names copy = {0};
    kv_mutex_lock(&dir->vfs->lock);
    kv_status rc = names_copy(&dir->node->now, &copy);
    if (rc == KV_OK) {
        names_release(&dir->node->durable);
        dir->node->durable = copy;
    }
    kv_mutex_unlock(&dir->vfs->lock);
    return rc == KV_OK ? KV_OK : kv_fail(err, KV_IO, 0, "sync of %s: out of memory", dir->node->path);
}

static kv_status link_locked(struct mem_dir *dir, const char *name, struct mem_dir *target,
                             struct kv_err *err)
{
    struct mem_name *from = names_find(&dir->node->now, name);
    if (!from)
        return kv_fail(err, KV_MISSING, 0, "link %s/%s: no such file", dir->node->path, name);
    if (names_find(&target->node->now, name))
        return kv_fail(err, KV_EXISTS, 0, "link %s/%s: it exists", target->node->path, name);
    struct mem_inode *inode = from->inode;
    kv_status rc = names_add(&target->node->now, name, inode);
    if (rc < 0)
        return kv_fail(err, rc, 0, "link %s/%s", target->node->path, name);
    inode_ref(inode);
    return KV_OK;
}

static kv_status mem_link(struct kv_dir *base, const char *name, struct kv_dir *target, struct kv_err *err)
{
    struct mem_dir *dir = (struct mem_dir *)base;
    kv_status rc = kv_vfs_name_check(name, err);
    if (rc < 0)
        return rc;
    if (target->ops != &mem_dir_ops || ((struct mem_dir *)target)->vfs != dir->vfs)
        return kv_dir_copy_file(base, name, target, err);
    kv_mutex_lock(&dir->vfs->lock);
    rc = link_locked(dir, name, (struct mem_dir *)target, err);
    kv_mutex_unlock(&dir->vfs->lock);
    return rc;
}

/* Lists a copy, so that each may create and remove. */
static kv_status mem_list(struct kv_dir *base, kv_status (*each)(void *ctx, const char *name, uint64_t bytes),
                          void *ctx, struct kv_err *err)
{
    struct mem_dir *dir = (struct mem_dir *)base;
    struct mem_names copy = {0};
    kv_mutex_lock(&dir->vfs->lock);
    kv_status rc = names_copy(&dir->node->now, &copy);
    kv_mutex_unlock(&dir->vfs->lock);
    if (rc < 0)
        return kv_fail(err, rc, 0, "listing %s", dir->node->path);
    for (size_t i = 0; i < copy.n && rc >= 0; i++) {
        struct mem_inode *inode = copy.items[i].inode;
        kv_rwlock_read(&inode->lock);
        uint64_t bytes = inode->len;
        kv_rwlock_unlock(&inode->lock);
        rc = each(ctx, copy.items[i].name, bytes);
    }
    names_release(&copy);
    return rc < 0 ? rc : KV_OK;
}

static kv_status mem_remove(struct kv_dir *base, const char *name, struct kv_err *err)
{
    struct mem_dir *dir = (struct mem_dir *)base;
    kv_status rc = kv_vfs_name_check(name, err);
    if (rc < 0)
        return rc;
    kv_mutex_lock(&dir->vfs->lock);
    struct mem_names *names = &dir->node->now;
    struct mem_name *found = names_find(names, name);
    if (found) {
        inode_unref(found->inode);
        *found = names->items[--names->n];
    } else {
        rc = kv_fail(err, KV_MISSING, 0, "remove %s/%s: no such file", dir->node->path, name);
    }
    kv_mutex_unlock(&dir->vfs->lock);
    return rc;
}

static kv_status mem_lease(struct kv_dir *base, bool shared, struct kv_lease **out, struct kv_err *err)
{
    struct mem_dir *dir = (struct mem_dir *)base;
    struct kv_lease *lease = kv_zalloc(1, sizeof *lease);
    if (!lease)
        return kv_fail(err, KV_NO_MEMORY, 0, "lease of %s", dir->node->path);
    lease->shared = shared;
    kv_mutex_lock(&dir->vfs->lock);
    struct mem_node *node = dir->node;
    bool busy = node->leased || (!shared && node->readers > 0);
    if (!busy && shared)
        node->readers++;
    else if (!busy)
        node->leased = true;
    kv_mutex_unlock(&dir->vfs->lock);
    if (busy) {
        kv_free(lease);
        return kv_fail(err, KV_BUSY, 0, "%s is in use by this process", node->path);
    }
    *out = lease;
    return KV_OK;
}

static void mem_lease_release(struct kv_dir *base, struct kv_lease *lease)
{
    struct mem_dir *dir = (struct mem_dir *)base;
    if (!lease)
        return;
    kv_mutex_lock(&dir->vfs->lock);
    if (lease->shared)
        dir->node->readers--;
    else
        dir->node->leased = false;
    kv_mutex_unlock(&dir->vfs->lock);
    kv_free(lease);
}

static kv_status mem_space(struct kv_dir *dir, struct kv_space_info *out, struct kv_err *err)
{
    (void)dir, (void)err;
    *out = (struct kv_space_info){.total_bytes = MEM_SPACE_BYTES, .free_bytes = MEM_SPACE_BYTES};
    return KV_OK;
}

static kv_status mem_publish(struct kv_dir *base, kv_slice bytes, uint64_t expected_generation,
                             struct kv_err *err)
{
    struct mem_dir *dir = (struct mem_dir *)base;
    struct mem_node *node = dir->node;
    if (bytes.len > KV_PUBLISH_MAX)
        return kv_fail(err, KV_INVALID, 0, "publish of %zu bytes; at most %d", bytes.len, KV_PUBLISH_MAX);
    kv_status rc = KV_OK;
    kv_mutex_lock(&dir->vfs->lock);
    if (node->generation != expected_generation) {
        rc = kv_fail(err, KV_CONFLICT, 0, "%s has generation %" PRIu64 ", expected %" PRIu64, node->path,
                     node->generation, expected_generation);
    } else {
        if (bytes.len)
            memcpy(node->published, bytes.data, bytes.len);
        node->published_len = bytes.len;
        node->generation++;
    }
    kv_mutex_unlock(&dir->vfs->lock);
    return rc;
}

static kv_status mem_published(struct kv_dir *base, struct kv_buf *out, uint64_t *generation,
                               struct kv_err *err)
{
    struct mem_dir *dir = (struct mem_dir *)base;
    kv_mutex_lock(&dir->vfs->lock);
    *generation = dir->node->generation;
    kv_status rc = KV_NOT_FOUND;
    if (*generation)
        rc = kv_buf_append(out, kv_slice_of(dir->node->published, dir->node->published_len));
    if (rc < 0)
        kv_fail(err, rc, 0, "%s: reading what is published: %s", dir->node->path, kv_status_text(rc));
    kv_mutex_unlock(&dir->vfs->lock);
    return rc;
}

static const struct kv_dir_ops mem_dir_ops = {
    .close = mem_dir_close,
    .create_exclusive = mem_create,
    .open = mem_open,
    .sync_names = mem_sync_names,
    .link = mem_link,
    .list = mem_list,
    .remove = mem_remove,
    .lease = mem_lease,
    .lease_release = mem_lease_release,
    .space = mem_space,
    .publish = mem_publish,
    .published = mem_published,
};

/* ---- the vfs */

static struct mem_node *node_new(struct mem_vfs *vfs, const char *path)
{
    size_t size = strlen(path) + 1;
    struct mem_node *node = kv_zalloc(1, sizeof *node + size);
    if (!node)
        return NULL;
    memcpy(node->path, path, size);
    node->next = vfs->nodes;
    vfs->nodes = node;
    return node;
}

static kv_status mem_dir_open(struct kv_vfs *base, const char *path, bool create, struct kv_dir **out,
                              struct kv_err *err)
{
    struct mem_vfs *vfs = (struct mem_vfs *)base;
    struct mem_dir *dir = kv_zalloc(1, sizeof *dir);
    if (!dir)
        return kv_fail(err, KV_NO_MEMORY, 0, "opening %s", path);
    kv_mutex_lock(&vfs->lock);
    struct mem_node *node = vfs->nodes;
    while (node && strcmp(node->path, path) != 0)
        node = node->next;
    kv_status rc = node || create ? KV_OK : KV_MISSING;
    if (!node && create) {
        node = node_new(vfs, path);
        rc = node ? KV_OK : KV_NO_MEMORY;
    }
    kv_mutex_unlock(&vfs->lock);
    if (rc < 0) {
        kv_free(dir);
        return kv_fail(err, rc, 0, "open %s: %s", path, kv_status_text(rc));
    }
    *dir = (struct mem_dir){.base.ops = &mem_dir_ops, .vfs = vfs, .node = node};
    *out = &dir->base;
    return KV_OK;
}

struct kv_vfs *kv_vfs_mem_new(void)
{
    static const struct kv_vfs_ops ops = {mem_dir_open};
    struct mem_vfs *vfs = kv_zalloc(1, sizeof *vfs);
    if (!vfs)
        return NULL;
    vfs->base.ops = &ops;
    kv_mutex_init(&vfs->lock);
    return &vfs->base;
}

void kv_vfs_mem_free(struct kv_vfs *base)
{
    struct mem_vfs *vfs = (struct mem_vfs *)base;
    if (!vfs)
        return;
    for (struct mem_node *node = vfs->nodes, *next; node; node = next) {
        next = node->next;
        names_release(&node->now);
        names_release(&node->durable);
        kv_free(node);
    }
    kv_mutex_release(&vfs->lock);
    kv_free(vfs);
}

static kv_status clone_name(struct mem_names *to, const struct mem_name *from)
{
    struct mem_inode *inode = inode_new();
    if (!inode)
        return KV_NO_MEMORY;
    kv_rwlock_read(&from->inode->lock);
    kv_status rc = inode_append(inode, kv_slice_of(from->inode->data, from->inode->synced));
    kv_rwlock_unlock(&from->inode->lock);
    inode->synced = inode->len;
    if (rc == KV_OK)
        rc = names_add(to, from->name, inode);
    if (rc < 0)
        inode_unref(inode);
    return rc;
}

static kv_status clone_node(struct mem_vfs *vfs, const struct mem_node *from)
{
    struct mem_node *to = node_new(vfs, from->path);
    if (!to)
        return KV_NO_MEMORY;
    memcpy(to->published, from->published, from->published_len);
    to->published_len = from->published_len;
    to->generation = from->generation;
    kv_status rc = KV_OK;
    for (size_t i = 0; i < from->durable.n && rc == KV_OK; i++)
        rc = clone_name(&to->now, &from->durable.items[i]);
    return rc == KV_OK ? names_copy(&to->now, &to->durable) : rc;
}

struct kv_vfs *kv_vfs_mem_crash_clone(struct kv_vfs *base)
{
    struct mem_vfs *vfs = (struct mem_vfs *)base;
    struct kv_vfs *clone = kv_vfs_mem_new();
    kv_status rc = clone ? KV_OK : KV_NO_MEMORY;
    kv_mutex_lock(&vfs->lock);
    for (struct mem_node *node = vfs->nodes; node && rc == KV_OK; node = node->next)
        rc = clone_node((struct mem_vfs *)clone, node);
    kv_mutex_unlock(&vfs->lock);
    if (rc < 0) {
        kv_vfs_mem_free(clone);
        clone = NULL;
    }
    return clone;
}
