#include "tests/support/vfs_fault.h"
#include "kvcore/os/thread.h"
#include "tests/support/fault_sites.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>

/* What is remembered of a file beyond what the base knows, by directory and name. */
struct fault_node {
    struct fault_node *next;
    char *path, *name;
    uint64_t len, synced; /* bytes in it; bytes that were in it at its last good sync */
    bool dead;            /* a sync failed: later ones do nothing */
    bool late;            /* the next sync fails */
    bool reverted;        /* reads end at `synced` */
};
struct vfs_fault {
    struct kv_vfs base;
    struct kv_vfs *under;
    kv_mutex lock;
    kv_cond changed;
    struct vfs_fault_plan plan;
    uint64_t matched;
    bool fired;
    uint64_t counts[16];
    uint64_t free_bytes, capacity, used;
    void (*watch)(void *ctx, const char *name, uint64_t offset, kv_slice bytes);
    void *watch_ctx;
    bool stall;
    int stalled;
    struct fault_node *nodes;
};
struct fault_dir {
    struct kv_dir base;
    struct kv_dir *under;
    struct vfs_fault *fault;
    char *path;
};
struct fault_file {
    struct kv_file base;
    struct kv_file *under;
    struct vfs_fault *fault;
    struct fault_node *node;
};

static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

/* Counts an operation and says whether it is the one to fail. */
static bool fault_hits(struct vfs_fault *fault, enum vfs_op op, const char *name)
{
    kv_mutex_lock(&fault->lock);
    fault->counts[__builtin_ctz((unsigned)op)]++;
    struct vfs_fault_plan *plan = &fault->plan;
    bool hit = false;
    if ((plan->nth || plan->sites) && (plan->ops & (uint32_t)op) &&
        (!plan->glob || (name && fnmatch(plan->glob, name, 0) == 0))) {
        fault->matched++;
        if (plan->sites)
            hit = fault->fired ? plan->sticky : fault_sites_meet(plan->sites);
        else
            hit = plan->sticky ? fault->matched >= plan->nth : fault->matched == plan->nth;
        fault->fired |= hit;
    }
    kv_mutex_unlock(&fault->lock);
    return hit;
}

static kv_status fault_status(const struct vfs_fault *fault)
{
    enum vfs_fault_kind kind = fault->plan.kind;
    return kind == VFS_FAULT_ENOSPC || kind == VFS_FAULT_SHORT_ENOSPC ? KV_NO_SPACE : KV_IO;
}

static kv_status fault_fail(struct vfs_fault *fault, const char *op, const char *name, struct kv_err *err)
{
    return kv_fail(err, fault_status(fault), 0, "injected failure of %s %s", op, name ? name : "");
}

static struct fault_node *node_of(struct fault_dir *dir, const char *name)
{
    struct vfs_fault *fault = dir->fault;
    kv_mutex_lock(&fault->lock);
    struct fault_node *node = fault->nodes;
    while (node && (strcmp(node->name, name) != 0 || strcmp(node->path, dir->path) != 0))
        node = node->next;
    if (!node) {
        node = must(calloc(1, sizeof *node));
        node->path = must(strdup(dir->path));
        node->name = must(strdup(name));
        node->next = fault->nodes;
        fault->nodes = node;
    }
    kv_mutex_unlock(&fault->lock);
    return node;
}

/* ---- files */

static void fault_file_close(struct kv_file *base)
{
    struct fault_file *file = (struct fault_file *)base;
    kv_file_close(file->under);
    free(file);
}

static kv_status fault_read_at(struct kv_file *base, struct kv_read *ranges, size_t n, struct kv_err *err)
{
    struct fault_file *file = (struct fault_file *)base;
    if (fault_hits(file->fault, VFS_OP_READ, file->node->name))
        return fault_fail(file->fault, "read", file->node->name, err);
    kv_status rc = file->under->ops->read_at(file->under, ranges, n, err);
    kv_mutex_lock(&file->fault->lock);
    bool reverted = file->node->reverted;
    uint64_t end = file->node->synced;
    kv_mutex_unlock(&file->fault->lock);
    for (size_t i = 0; i < n && rc == KV_OK && reverted; i++) {
        uint64_t there = ranges[i].offset < end ? end - ranges[i].offset : 0;
        if (ranges[i].got > there)
            ranges[i].got = (size_t)there;
    }
    return rc;
}

void vfs_fault_watch(struct vfs_fault *fault,
                     void (*watch)(void *ctx, const char *name, uint64_t offset, kv_slice bytes), void *ctx)
{
    fault->watch = watch;
    fault->watch_ctx = ctx;
}

/* Writes the first `len` bytes of the pieces. */
static kv_status append_some(struct fault_file *file, uint64_t at, const kv_slice *pieces, size_t n,
                             size_t len)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < n && len > 0 && rc == KV_OK; i++) {
        size_t take = pieces[i].len < len ? pieces[i].len : len;
        rc = kv_file_append(file->under, at, kv_slice_of(pieces[i].data, take), NULL);
        at += take;
        len -= take;
        file->node->len += take;
    }
    return rc;
}

static kv_status fault_append(struct kv_file *base, uint64_t expected_offset, const kv_slice *pieces,
                              size_t n, struct kv_err *err)
{
    struct fault_file *file = (struct fault_file *)base;
    struct vfs_fault *fault = file->fault;
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        if (fault->watch)
            fault->watch(fault->watch_ctx, file->node->name, expected_offset + len, pieces[i]);
        len += pieces[i].len;
    }
    bool hit = fault_hits(fault, VFS_OP_APPEND, file->node->name);
    kv_mutex_lock(&fault->lock);
    uint64_t room = fault->capacity ? fault->capacity - fault->used : UINT64_MAX;
    bool full = fault->capacity && room < len;
    enum vfs_fault_kind kind = fault->plan.kind;
    size_t part = full ? (size_t)room : len / 2;
    fault->used += hit || full ? 0 : len;
    kv_mutex_unlock(&fault->lock);
    if (hit && kind != VFS_FAULT_SHORT_EIO && kind != VFS_FAULT_SHORT_ENOSPC)
        return fault_fail(fault, "append", file->node->name, err);
    if (hit || full) {
        kv_status rc = append_some(file, expected_offset, pieces, n, part);
        kv_mutex_lock(&fault->lock);
        fault->used += part;
        kv_mutex_unlock(&fault->lock);
        if (rc < 0)
            return rc;
        return full ? kv_fail(err, KV_NO_SPACE, 0, "injected full disk")
                    : fault_fail(fault, "append", file->node->name, err);
    }
    kv_status rc = file->under->ops->append(file->under, expected_offset, pieces, n, err);
    if (rc == KV_OK)
        file->node->len += len;
    return rc;
}

static kv_status fault_reserve(struct kv_file *base, uint64_t bytes, struct kv_err *err)
{
    struct fault_file *file = (struct fault_file *)base;
    if (fault_hits(file->fault, VFS_OP_RESERVE, file->node->name))
        return fault_fail(file->fault, "reserve", file->node->name, err);
    return file->under->ops->reserve(file->under, bytes, err);
}

static void stall_here(struct vfs_fault *fault)
{
    kv_mutex_lock(&fault->lock);
    if (fault->stall) {
        fault->stalled++;
        kv_cond_broadcast(&fault->changed);
        while (fault->stall)
            kv_cond_wait(&fault->changed, &fault->lock);
        fault->stalled--;
    }
    kv_mutex_unlock(&fault->lock);
}

static kv_status sync_failing(struct fault_file *file, struct kv_err *err)
{
    struct vfs_fault *fault = file->fault;
    kv_status rc = KV_IO;
    kv_mutex_lock(&fault->lock);
    switch (fault->plan.kind) {
    case VFS_FAULT_SYNC_REVERTS:
        file->node->reverted = true;
        file->node->dead = true;
        break;
    case VFS_FAULT_SYNC_LATE:
        file->node->late = true;
        rc = KV_OK;
        break;
    case VFS_FAULT_SYNC_CLOSE:
        rc = KV_END; /* do it */
        break;
    default:
        file->node->dead = true;
        break;
    }
    kv_mutex_unlock(&fault->lock);
    return rc < 0 ? fault_fail(fault, "sync", file->node->name, err) : rc;
}

static kv_status fault_sync(struct kv_file *base, struct kv_err *err)
{
    struct fault_file *file = (struct fault_file *)base;
    struct vfs_fault *fault = file->fault;
    stall_here(fault);
    if (fault_hits(fault, VFS_OP_SYNC, file->node->name)) {
        kv_status rc = sync_failing(file, err);
        if (rc != KV_END)
            return rc;
    }
    kv_mutex_lock(&fault->lock);
    bool late = file->node->late, dead = file->node->dead;
    if (late) {
        file->node->late = false;
        file->node->dead = true;
    }
    uint64_t len = file->node->len;
    kv_mutex_unlock(&fault->lock);
    if (late)
        return fault_fail(fault, "sync", file->node->name, err);
    if (dead)
        return KV_OK;
    kv_status rc = file->under->ops->sync(file->under, err);
    if (rc == KV_OK) {
        kv_mutex_lock(&fault->lock);
        file->node->synced = len;
        kv_mutex_unlock(&fault->lock);
    }
    return rc;
}

static kv_status fault_size(struct kv_file *base, uint64_t *bytes, struct kv_err *err)
{
    struct fault_file *file = (struct fault_file *)base;
    if (fault_hits(file->fault, VFS_OP_SIZE, file->node->name))
        return fault_fail(file->fault, "size", file->node->name, err);
    kv_status rc = file->under->ops->size(file->under, bytes, err);
    if (rc == KV_OK && file->node->reverted && *bytes > file->node->synced)
        *bytes = file->node->synced;
    return rc;
}

static const struct kv_file_ops fault_file_ops = {
    fault_file_close, fault_read_at, fault_append, fault_reserve, fault_sync, fault_size,
};

static void fault_file_new(struct fault_dir *dir, const char *name, struct kv_file *under,
                           struct kv_file **out)
{
    struct fault_file *file = must(calloc(1, sizeof *file));
    *file = (struct fault_file){{&fault_file_ops}, under, dir->fault, node_of(dir, name)};
    *out = &file->base;
}

/* ---- directories */

static void fault_dir_close(struct kv_dir *base)
{
    struct fault_dir *dir = (struct fault_dir *)base;
    kv_dir_close(dir->under);
    free(dir->path);
    free(dir);
}

static kv_status fault_create(struct kv_dir *base, const char *name, struct kv_file **out, struct kv_err *err)
{
    struct fault_dir *dir = (struct fault_dir *)base;
    struct kv_file *under;
    if (fault_hits(dir->fault, VFS_OP_CREATE, name))
        return fault_fail(dir->fault, "create", name, err);
    kv_status rc = dir->under->ops->create_exclusive(dir->under, name, &under, err);
    if (rc == KV_OK)
        fault_file_new(dir, name, under, out);
    return rc;
}

static kv_status fault_open(struct kv_dir *base, const char *name, struct kv_file **out, struct kv_err *err)
{
    struct fault_dir *dir = (struct fault_dir *)base;
    struct kv_file *under;
    if (fault_hits(dir->fault, VFS_OP_OPEN, name))
        return fault_fail(dir->fault, "open", name, err);
    kv_status rc = dir->under->ops->open(dir->under, name, &under, err);
    if (rc == KV_OK)
        fault_file_new(dir, name, under, out);
    return rc;
}

static kv_status fault_sync_names(struct kv_dir *base, struct kv_err *err)
{
    struct fault_dir *dir = (struct fault_dir *)base;
    if (fault_hits(dir->fault, VFS_OP_SYNC_NAMES, NULL))
        return fault_fail(dir->fault, "sync_names", NULL, err);
    return dir->under->ops->sync_names(dir->under, err);
}

static kv_status fault_link(struct kv_dir *base, const char *name, struct kv_dir *target, struct kv_err *err)
{
    struct fault_dir *dir = (struct fault_dir *)base;
    if (fault_hits(dir->fault, VFS_OP_LINK, name))
        return fault_fail(dir->fault, "link", name, err);
    return dir->under->ops->link(dir->under, name, ((struct fault_dir *)target)->under, err);
}

static kv_status fault_list(struct kv_dir *base,
                            kv_status (*each)(void *ctx, const char *name, uint64_t bytes), void *ctx,
                            struct kv_err *err)
{
    struct fault_dir *dir = (struct fault_dir *)base;
    if (fault_hits(dir->fault, VFS_OP_LIST, NULL))
        return fault_fail(dir->fault, "list", NULL, err);
    return dir->under->ops->list(dir->under, each, ctx, err);
}

static kv_status fault_remove(struct kv_dir *base, const char *name, struct kv_err *err)
{
    struct fault_dir *dir = (struct fault_dir *)base;
    if (fault_hits(dir->fault, VFS_OP_REMOVE, name))
        return fault_fail(dir->fault, "remove", name, err);
    kv_status rc = dir->under->ops->remove(dir->under, name, err);
    if (rc == KV_OK) {
        struct fault_node *node = node_of(dir, name);
        kv_mutex_lock(&dir->fault->lock);
        dir->fault->used -= node->len < dir->fault->used ? node->len : dir->fault->used;
        node->len = node->synced = 0;
        node->dead = node->late = node->reverted = false;
        kv_mutex_unlock(&dir->fault->lock);
    }
    return rc;
}

static kv_status fault_lease(struct kv_dir *base, bool shared, struct kv_lease **out, struct kv_err *err)
{
    struct fault_dir *dir = (struct fault_dir *)base;
    if (fault_hits(dir->fault, VFS_OP_LEASE, NULL))
        return fault_fail(dir->fault, "lease", NULL, err);
    return dir->under->ops->lease(dir->under, shared, out, err);
}

static void fault_lease_release(struct kv_dir *base, struct kv_lease *lease)
{
    struct fault_dir *dir = (struct fault_dir *)base;
    dir->under->ops->lease_release(dir->under, lease);
}

static kv_status fault_space(struct kv_dir *base, struct kv_space_info *out, struct kv_err *err)
{
    struct fault_dir *dir = (struct fault_dir *)base;
    if (fault_hits(dir->fault, VFS_OP_SPACE, NULL))
        return fault_fail(dir->fault, "space", NULL, err);
    kv_status rc = dir->under->ops->space(dir->under, out, err);
    kv_mutex_lock(&dir->fault->lock);
    if (rc == KV_OK && dir->fault->free_bytes != UINT64_MAX)
        out->free_bytes = dir->fault->free_bytes;
    else if (rc == KV_OK && dir->fault->capacity)
        out->free_bytes = dir->fault->capacity - dir->fault->used;
    kv_mutex_unlock(&dir->fault->lock);
    return rc;
}

static kv_status fault_publish(struct kv_dir *base, kv_slice bytes, uint64_t expected, struct kv_err *err)
{
    struct fault_dir *dir = (struct fault_dir *)base;
    if (fault_hits(dir->fault, VFS_OP_PUBLISH, NULL))
        return fault_fail(dir->fault, "publish", NULL, err);
    return dir->under->ops->publish(dir->under, bytes, expected, err);
}

static kv_status fault_published(struct kv_dir *base, struct kv_buf *out, uint64_t *generation,
                                 struct kv_err *err)
{
    struct fault_dir *dir = (struct fault_dir *)base;
    if (fault_hits(dir->fault, VFS_OP_PUBLISHED, NULL))
        return fault_fail(dir->fault, "published", NULL, err);
    return dir->under->ops->published(dir->under, out, generation, err);
}

static const struct kv_dir_ops fault_dir_ops = {
    fault_dir_close, fault_create, fault_open,          fault_sync_names, fault_link,    fault_list,
    fault_remove,    fault_lease,  fault_lease_release, fault_space,      fault_publish, fault_published,
};

static kv_status fault_dir_open(struct kv_vfs *base, const char *path, bool create, struct kv_dir **out,
                                struct kv_err *err)
{
    struct vfs_fault *fault = (struct vfs_fault *)base;
    struct kv_dir *under;
    if (fault_hits(fault, VFS_OP_DIR_OPEN, NULL))
        return fault_fail(fault, "dir_open", path, err);
    kv_status rc = kv_vfs_dir_open(fault->under, path, create, &under, err);
    if (rc < 0)
        return rc;
    struct fault_dir *dir = must(calloc(1, sizeof *dir));
    *dir = (struct fault_dir){{&fault_dir_ops}, under, fault, must(strdup(path))};
    *out = &dir->base;
    return KV_OK;
}

/* ---- the wrapper */

struct vfs_fault *vfs_fault_new(struct kv_vfs *base)
{
    static const struct kv_vfs_ops ops = {fault_dir_open};
    struct vfs_fault *fault = must(calloc(1, sizeof *fault));
    fault->base.ops = &ops;
    fault->under = base;
    fault->free_bytes = UINT64_MAX;
    kv_mutex_init(&fault->lock);
    kv_cond_init(&fault->changed);
    return fault;
}

void vfs_fault_free(struct vfs_fault *fault)
{
    for (struct fault_node *node = fault->nodes, *next; node; node = next) {
        next = node->next;
        free(node->path);
        free(node->name);
        free(node);
    }
    kv_cond_release(&fault->changed);
    kv_mutex_release(&fault->lock);
    free(fault);
}

struct kv_vfs *vfs_fault_as_vfs(struct vfs_fault *fault)
{
    return &fault->base;
}

void vfs_fault_plan(struct vfs_fault *fault, const struct vfs_fault_plan *plan)
{
    kv_mutex_lock(&fault->lock);
    fault->plan = plan ? *plan : (struct vfs_fault_plan){0};
    if (fault->plan.ops == 0)
        fault->plan.ops = fault->plan.kind >= VFS_FAULT_SYNC_KEEPS ? VFS_OP_SYNC : VFS_OP_ALL;
    fault->matched = 0;
    fault->fired = false;
    kv_mutex_unlock(&fault->lock);
}

bool vfs_fault_fired(struct vfs_fault *fault)
{
    kv_mutex_lock(&fault->lock);
    bool fired = fault->fired;
    kv_mutex_unlock(&fault->lock);
    return fired;
}

uint64_t vfs_fault_count(struct vfs_fault *fault, uint32_t ops)
{
    uint64_t sum = 0;
    kv_mutex_lock(&fault->lock);
    for (unsigned i = 0; i < 16; i++)
        if (ops & (1u << i))
            sum += fault->counts[i];
    kv_mutex_unlock(&fault->lock);
    return sum;
}

void vfs_fault_set_free_bytes(struct vfs_fault *fault, uint64_t free_bytes)
{
    kv_mutex_lock(&fault->lock);
    fault->free_bytes = free_bytes;
    kv_mutex_unlock(&fault->lock);
}

void vfs_fault_set_capacity(struct vfs_fault *fault, uint64_t bytes)
{
    kv_mutex_lock(&fault->lock);
    fault->capacity = bytes && bytes < fault->used ? fault->used : bytes;
    kv_mutex_unlock(&fault->lock);
}

void vfs_fault_stall_syncs(struct vfs_fault *fault, bool stall)
{
    kv_mutex_lock(&fault->lock);
    fault->stall = stall;
    kv_cond_broadcast(&fault->changed);
    kv_mutex_unlock(&fault->lock);
}

void vfs_fault_wait_stalled(struct vfs_fault *fault)
{
    kv_mutex_lock(&fault->lock);
    while (fault->stalled == 0)
        kv_cond_wait(&fault->changed, &fault->lock);
    kv_mutex_unlock(&fault->lock);
}
