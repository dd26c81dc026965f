#include "tests/support/vfs_crash.h"
#include "kvcore/base/prng.h"
#include "kvcore/os/thread.h"

#include <stdio.h>
#include <stdlib.h>

enum { BLOCK = 4096, SECTOR = 512 };

enum crash_op_kind { OP_CREATE, OP_APPEND, OP_SYNC, OP_SYNC_NAMES, OP_LINK, OP_REMOVE, OP_PUBLISH, OP_MKDIR };

struct crash_op {
    enum crash_op_kind kind;
    int dir, inode; /* indexes */
    char *name;
    uint8_t *bytes; /* appended or published */
    size_t len;
};
struct vfs_crash {
    struct kv_vfs base;
    struct kv_vfs *live; /* what the program under test sees */
    kv_mutex lock;
    struct crash_op *ops;
    size_t n_ops, capacity;
    uint64_t hidden; /* changes that a base was loaded with: not counted */
    uint64_t die_at;
    char **paths;
    int n_paths, n_inodes;
};
struct crash_dir {
    struct kv_dir base;
    struct kv_dir *under;
    struct vfs_crash *crash;
    int index;
};
struct crash_file {
    struct kv_file base;
    struct kv_file *under;
    struct vfs_crash *crash;
    int inode;
};

static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

/* Records a change before it happens. False: the disk is dead. With the lock. */
static bool record(struct vfs_crash *crash, enum crash_op_kind kind, int dir, int inode, const char *name)
{
    if (crash->n_ops - crash->hidden >= crash->die_at)
        return false;
    if (crash->n_ops == crash->capacity) {
        crash->capacity = crash->capacity ? crash->capacity * 2 : 256;
        crash->ops = must(realloc(crash->ops, crash->capacity * sizeof *crash->ops));
    }
    crash->ops[crash->n_ops++] =
        (struct crash_op){.kind = kind, .dir = dir, .inode = inode, .name = name ? must(strdup(name)) : NULL};
    return true;
}

static kv_status dead(struct kv_err *err)
{
    return kv_fail(err, KV_IO, 0, "the disk died");
}

/* The inode a name stands for after all changes so far; -1: none. With the lock. */
static int inode_of(const struct vfs_crash *crash, int dir, const char *name)
{
    for (size_t i = crash->n_ops; i-- > 0;) {
        const struct crash_op *op = &crash->ops[i];
        if (op->name && op->dir == dir && strcmp(op->name, name) == 0)
            return op->kind == OP_REMOVE ? -1 : op->inode;
    }
    return -1;
}

/* ---- files */

static void crash_file_close(struct kv_file *base)
{
    kv_file_close(((struct crash_file *)base)->under);
    free(base);
}

static kv_status crash_read_at(struct kv_file *base, struct kv_read *ranges, size_t n, struct kv_err *err)
{
    struct crash_file *file = (struct crash_file *)base;
    return file->under->ops->read_at(file->under, ranges, n, err);
}

static kv_status crash_append(struct kv_file *base, uint64_t expected_offset, const kv_slice *pieces,
                              size_t n, struct kv_err *err)
{
    struct crash_file *file = (struct crash_file *)base;
    struct vfs_crash *crash = file->crash;
    size_t len = 0, at = 0;
    for (size_t i = 0; i < n; i++)
        len += pieces[i].len;
    kv_mutex_lock(&crash->lock);
    bool alive = record(crash, OP_APPEND, -1, file->inode, NULL);
    kv_status rc = alive ? file->under->ops->append(file->under, expected_offset, pieces, n, err) : dead(err);
    if (alive && rc == KV_OK) {
        struct crash_op *op = &crash->ops[crash->n_ops - 1];
        op->bytes = must(malloc(len ? len : 1));
        op->len = len;
        for (size_t i = 0; i < n; at += pieces[i++].len)
            if (pieces[i].len)
                memcpy(op->bytes + at, pieces[i].data, pieces[i].len);
    }
    kv_mutex_unlock(&crash->lock);
    return rc;
}

static kv_status crash_reserve(struct kv_file *base, uint64_t bytes, struct kv_err *err)
{
    (void)base, (void)bytes, (void)err;
    return KV_OK;
}

static kv_status crash_sync(struct kv_file *base, struct kv_err *err)
{
    struct crash_file *file = (struct crash_file *)base;
    kv_mutex_lock(&file->crash->lock);
    bool alive = record(file->crash, OP_SYNC, -1, file->inode, NULL);
    kv_mutex_unlock(&file->crash->lock);
    return alive ? KV_OK : dead(err);
}

static kv_status crash_size(struct kv_file *base, uint64_t *bytes, struct kv_err *err)
{
    struct crash_file *file = (struct crash_file *)base;
    return file->under->ops->size(file->under, bytes, err);
}

static const struct kv_file_ops crash_file_ops = {
    crash_file_close, crash_read_at, crash_append, crash_reserve, crash_sync, crash_size,
};

static void crash_file_new(struct vfs_crash *crash, int inode, struct kv_file *under, struct kv_file **out)
{
    struct crash_file *file = must(calloc(1, sizeof *file));
    *file = (struct crash_file){{&crash_file_ops}, under, crash, inode};
    *out = &file->base;
}

/* ---- directories */

static void crash_dir_close(struct kv_dir *base)
{
    kv_dir_close(((struct crash_dir *)base)->under);
    free(base);
}

static kv_status crash_create(struct kv_dir *base, const char *name, struct kv_file **out, struct kv_err *err)
{
    struct crash_dir *dir = (struct crash_dir *)base;
    struct vfs_crash *crash = dir->crash;
    struct kv_file *under = NULL;
    kv_mutex_lock(&crash->lock);
    kv_status rc = crash->n_ops - crash->hidden < crash->die_at ? KV_OK : dead(err);
    if (rc == KV_OK)
        rc = dir->under->ops->create_exclusive(dir->under, name, &under, err);
    if (rc == KV_OK) {
        record(crash, OP_CREATE, dir->index, crash->n_inodes, name);
        crash_file_new(crash, crash->n_inodes++, under, out);
    }
    kv_mutex_unlock(&crash->lock);
    return rc;
}

static kv_status crash_open(struct kv_dir *base, const char *name, struct kv_file **out, struct kv_err *err)
{
    struct crash_dir *dir = (struct crash_dir *)base;
    struct kv_file *under;
    kv_mutex_lock(&dir->crash->lock);
    kv_status rc = dir->under->ops->open(dir->under, name, &under, err);
    if (rc == KV_OK)
        crash_file_new(dir->crash, inode_of(dir->crash, dir->index, name), under, out);
    kv_mutex_unlock(&dir->crash->lock);
    return rc;
}

static kv_status crash_sync_names(struct kv_dir *base, struct kv_err *err)
{
    struct crash_dir *dir = (struct crash_dir *)base;
    kv_mutex_lock(&dir->crash->lock);
    bool alive = record(dir->crash, OP_SYNC_NAMES, dir->index, -1, NULL);
    kv_mutex_unlock(&dir->crash->lock);
    return alive ? KV_OK : dead(err);
}

static kv_status crash_link(struct kv_dir *base, const char *name, struct kv_dir *target_base,
                            struct kv_err *err)
{
    struct crash_dir *dir = (struct crash_dir *)base, *target = (struct crash_dir *)target_base;
    struct vfs_crash *crash = dir->crash;
    kv_mutex_lock(&crash->lock);
    kv_status rc = crash->n_ops - crash->hidden < crash->die_at ? KV_OK : dead(err);
    if (rc == KV_OK)
        rc = dir->under->ops->link(dir->under, name, target->under, err);
    if (rc == KV_OK)
        record(crash, OP_LINK, target->index, inode_of(crash, dir->index, name), name);
    kv_mutex_unlock(&crash->lock);
    return rc;
}

static kv_status crash_list(struct kv_dir *base,
                            kv_status (*each)(void *ctx, const char *name, uint64_t bytes), void *ctx,
                            struct kv_err *err)
{
    struct crash_dir *dir = (struct crash_dir *)base;
    return dir->under->ops->list(dir->under, each, ctx, err);
}

static kv_status crash_remove(struct kv_dir *base, const char *name, struct kv_err *err)
{
    struct crash_dir *dir = (struct crash_dir *)base;
    struct vfs_crash *crash = dir->crash;
    kv_mutex_lock(&crash->lock);
    kv_status rc = crash->n_ops - crash->hidden < crash->die_at ? KV_OK : dead(err);
    if (rc == KV_OK)
        rc = dir->under->ops->remove(dir->under, name, err);
    if (rc == KV_OK)
        record(crash, OP_REMOVE, dir->index, inode_of(crash, dir->index, name), name);
    kv_mutex_unlock(&crash->lock);
    return rc;
}

static kv_status crash_lease(struct kv_dir *base, bool shared, struct kv_lease **out, struct kv_err *err)
{
    struct crash_dir *dir = (struct crash_dir *)base;
    return dir->under->ops->lease(dir->under, shared, out, err);
}

static void crash_lease_release(struct kv_dir *base, struct kv_lease *lease)
{
    struct crash_dir *dir = (struct crash_dir *)base;
    dir->under->ops->lease_release(dir->under, lease);
}

static kv_status crash_space(struct kv_dir *base, struct kv_space_info *out, struct kv_err *err)
{
    struct crash_dir *dir = (struct crash_dir *)base;
    return dir->under->ops->space(dir->under, out, err);
}

static kv_status crash_publish(struct kv_dir *base, kv_slice bytes, uint64_t expected, struct kv_err *err)
{
    struct crash_dir *dir = (struct crash_dir *)base;
    struct vfs_crash *crash = dir->crash;
    kv_mutex_lock(&crash->lock);
    kv_status rc = crash->n_ops - crash->hidden < crash->die_at ? KV_OK : dead(err);
    if (rc == KV_OK)
        rc = dir->under->ops->publish(dir->under, bytes, expected, err);
    if (rc == KV_OK) {
        record(crash, OP_PUBLISH, dir->index, -1, NULL);
        struct crash_op *op = &crash->ops[crash->n_ops - 1];
        op->bytes = must(malloc(bytes.len ? bytes.len : 1));
        op->len = bytes.len;
        if (bytes.len)
            memcpy(op->bytes, bytes.data, bytes.len);
    }
    kv_mutex_unlock(&crash->lock);
    return rc;
}

static kv_status crash_published(struct kv_dir *base, struct kv_buf *out, uint64_t *generation,
                                 struct kv_err *err)
{
    struct crash_dir *dir = (struct crash_dir *)base;
    return dir->under->ops->published(dir->under, out, generation, err);
}

static const struct kv_dir_ops crash_dir_ops = {
    crash_dir_close, crash_create, crash_open,          crash_sync_names, crash_link,    crash_list,
    crash_remove,    crash_lease,  crash_lease_release, crash_space,      crash_publish, crash_published,
};

static int path_index(struct vfs_crash *crash, const char *path)
{
    for (int i = 0; i < crash->n_paths; i++)
        if (strcmp(crash->paths[i], path) == 0)
            return i;
    crash->paths = must(realloc(crash->paths, (size_t)(crash->n_paths + 1) * sizeof *crash->paths));
    crash->paths[crash->n_paths] = must(strdup(path));
    record(crash, OP_MKDIR, crash->n_paths, -1, NULL); /* durable by itself, as dir_open promises */
    return crash->n_paths++;
}

static kv_status crash_dir_open(struct kv_vfs *base, const char *path, bool create, struct kv_dir **out,
                                struct kv_err *err)
{
    struct vfs_crash *crash = (struct vfs_crash *)base;
    struct kv_dir *under;
    kv_mutex_lock(&crash->lock);
    kv_status rc = kv_vfs_dir_open(crash->live, path, create, &under, err);
    if (rc == KV_OK && crash->n_ops - crash->hidden >= crash->die_at) {
        kv_dir_close(under);
        rc = dead(err);
    }
    if (rc == KV_OK) {
        struct crash_dir *dir = must(calloc(1, sizeof *dir));
        *dir = (struct crash_dir){{&crash_dir_ops}, under, crash, path_index(crash, path)};
        *out = &dir->base;
    }
    kv_mutex_unlock(&crash->lock);
    return rc;
}

/* ---- the recorder */

struct vfs_crash *vfs_crash_new(void)
{
    static const struct kv_vfs_ops ops = {crash_dir_open};
    struct vfs_crash *crash = must(calloc(1, sizeof *crash));
    crash->base.ops = &ops;
    crash->live = must(kv_vfs_mem_new());
    crash->die_at = UINT64_MAX;
    kv_mutex_init(&crash->lock);
    return crash;
}

void vfs_crash_free(struct vfs_crash *crash)
{
    if (!crash)
        return;
    for (size_t i = 0; i < crash->n_ops; i++) {
        free(crash->ops[i].name);
        free(crash->ops[i].bytes);
    }
    for (int i = 0; i < crash->n_paths; i++)
        free(crash->paths[i]);
    free(crash->ops);
    free(crash->paths);
    kv_mutex_release(&crash->lock);
    kv_vfs_mem_free(crash->live);
    free(crash);
}

struct kv_vfs *vfs_crash_as_vfs(struct vfs_crash *crash)
{
    return &crash->base;
}

uint64_t vfs_crash_ops(struct vfs_crash *crash)
{
    kv_mutex_lock(&crash->lock);
    uint64_t n = crash->n_ops - crash->hidden;
    kv_mutex_unlock(&crash->lock);
    return n;
}

void vfs_crash_die_at(struct vfs_crash *crash, uint64_t n)
{
    kv_mutex_lock(&crash->lock);
    crash->die_at = n;
    kv_mutex_unlock(&crash->lock);
}

struct load {
    struct kv_dir *from, *to;
};

static kv_status load_file(void *ctx, const char *name, uint64_t bytes)
{
    struct load *load = ctx;
    struct kv_file *from, *to;
    uint8_t *data = must(malloc(bytes ? bytes : 1));
    kv_status rc = kv_dir_open_file(load->from, name, &from, NULL);
    if (rc < 0 || kv_file_read_exact(from, 0, bytes, data, NULL) < 0 ||
        kv_dir_create(load->to, name, &to, NULL) < 0 ||
        kv_file_append(to, 0, kv_slice_of(data, bytes), NULL) < 0 || kv_file_sync(to, NULL) < 0)
        abort();
    kv_file_close(from);
    kv_file_close(to);
    free(data);
    return KV_OK;
}

struct vfs_crash *vfs_crash_new_from(struct kv_vfs *base, const char *const *paths)
{
    struct vfs_crash *crash = vfs_crash_new();
    for (; *paths; paths++) {
        struct load load;
        struct kv_buf published = {0};
        uint64_t generation = 0;
        if (kv_vfs_dir_open(base, *paths, false, &load.from, NULL) < 0)
            continue;
        if (kv_vfs_dir_open(&crash->base, *paths, true, &load.to, NULL) < 0 ||
            load.from->ops->list(load.from, load_file, &load, NULL) < 0 ||
            kv_dir_sync_names(load.to, NULL) < 0 ||
            load.from->ops->published(load.from, &published, &generation, NULL) < 0)
            abort();
        for (uint64_t g = 0; g < generation; g++)
            if (load.to->ops->publish(load.to, kv_buf_slice(&published), g, NULL) < 0)
                abort();
        kv_buf_release(&published);
        kv_dir_close(load.from);
        kv_dir_close(load.to);
    }
    crash->hidden = crash->n_ops;
    return crash;
}

/* ---- what is found after a crash */

struct sim_inode {
    uint8_t *data;
    size_t len, synced; /* asked for; sure */
    size_t found;       /* size after the crash */
};
struct sim_name {
    int dir, inode;
    const char *name;
};
struct sim_names {
    struct sim_name *items;
    size_t n;
};
struct sim {
    struct vfs_crash *crash;
    size_t n_ops;
    size_t completed; /* changes before this index had returned */
    uint64_t seed;
    enum vfs_crash_profile profile;
    struct kv_prng prng;
    struct sim_inode *inodes;
    size_t *named_at; /* per directory: changes before this index are durable names */
    bool *kept;       /* per change of names: did it survive? */
};

static bool name_op(const struct crash_op *op)
{
    return op->kind == OP_CREATE || op->kind == OP_LINK || op->kind == OP_REMOVE;
}

/* Per inode: all its bytes and how many are sure. Per directory: how far names are sure. */
static void sim_collect(struct sim *sim)
{
    const struct vfs_crash *crash = sim->crash;
    for (size_t i = 0; i < sim->n_ops; i++) {
        const struct crash_op *op = &crash->ops[i];
        bool completed = i < sim->completed;
        if (op->kind == OP_APPEND && op->len) {
            struct sim_inode *inode = &sim->inodes[op->inode];
            inode->data = must(realloc(inode->data, inode->len + op->len));
            memcpy(inode->data + inode->len, op->bytes, op->len);
            inode->len += op->len;
        } else if (op->kind == OP_SYNC && completed && op->inode >= 0) {
            sim->inodes[op->inode].synced = sim->inodes[op->inode].len;
            for (size_t j = 0; j < i && sim->profile == VFS_CRASH_EXT4_ORDERED; j++)
                if (crash->ops[j].kind == OP_CREATE && crash->ops[j].inode == op->inode &&
                    sim->named_at[crash->ops[j].dir] <= j)
                    sim->named_at[crash->ops[j].dir] = j + 1;
        } else if (op->kind == OP_SYNC_NAMES && completed) {
            sim->named_at[op->dir] = i;
        }
    }
}

static void sim_names_survive(struct sim *sim)
{
    bool cut[64] = {false};
    for (size_t i = 0; i < sim->n_ops; i++) {
        const struct crash_op *op = &sim->crash->ops[i];
        if (!name_op(op))
            continue;
        bool survives = sim->seed == 0 ? false : sim->seed <= 2 ? true : kv_prng_below(&sim->prng, 2);
        if (i < sim->named_at[op->dir])
            survives = true;
        else if (sim->profile != VFS_CRASH_POSIX_MIN) {
            survives = survives && !cut[op->dir % 64];
            cut[op->dir % 64] |= !survives;
        }
        sim->kept[i] = survives;
    }
}

static void damage_block(struct sim *sim, uint8_t *block, size_t len)
{
    switch (kv_prng_below(&sim->prng, 5)) {
    case 0:
    case 1:
        break; /* survived */
    case 2:
        memset(block, 0, len);
        break;
    case 3: { /* torn: sectors survive one by one */
        for (size_t at = 0; at < len; at += SECTOR)
            if (kv_prng_below(&sim->prng, 2))
                memset(block + at, 0, len - at < SECTOR ? len - at : SECTOR);
        break;
    }
    default:
        for (size_t i = 0; i < len; i++)
            block[i] = (uint8_t)kv_prng_next(&sim->prng);
        break;
    }
}

static void zero_block(struct sim *sim, uint8_t *block, size_t len)
{
    if (kv_prng_below(&sim->prng, 2))
        memset(block, 0, len);
}

/* What became of the pending bytes of one file. */
static void sim_inode_survives(struct sim *sim, struct sim_inode *inode)
{
    size_t pending = inode->len - inode->synced;
    inode->found = inode->synced;
    if (sim->seed == 0 || pending == 0)
        return;
    inode->found = inode->len;
    if (sim->seed == 1)
        return;
    if (sim->seed == 2) {
        memset(inode->data + inode->synced, 0, pending);
        return;
    }
    inode->found = inode->synced + (size_t)kv_prng_below(&sim->prng, pending + 1);
    if (kv_prng_below(&sim->prng, 2))
        inode->found = inode->len;
    bool zeros = false;
    for (size_t at = inode->synced; at < inode->found;) {
        size_t end = (at / BLOCK + 1) * BLOCK;
        if (end > inode->found)
            end = inode->found;
        if (sim->profile == VFS_CRASH_POSIX_MIN) {
            damage_block(sim, inode->data + at, end - at);
        } else if (sim->profile == VFS_CRASH_EXT4_ORDERED) {
            zero_block(sim, inode->data + at, end - at);
        } else {
            zeros |= kv_prng_below(&sim->prng, 3) == 0;
            if (zeros)
                memset(inode->data + at, 0, end - at);
        }
        at = end;
    }
}

static void names_set(struct sim_names *names, int dir, const char *name, int inode)
{
    for (size_t i = 0; i < names->n; i++)
        if (names->items[i].dir == dir && strcmp(names->items[i].name, name) == 0) {
            names->items[i] = names->items[--names->n];
            break;
        }
    if (inode >= 0)
        names->items[names->n++] = (struct sim_name){dir, inode, name};
}

static void write_file(struct kv_dir *dir, const char *name, const struct sim_inode *inode)
{
    struct kv_file *file;
    if (kv_dir_create(dir, name, &file, NULL) < 0 ||
        kv_file_append(file, 0, kv_slice_of(inode->data, inode->found), NULL) < 0 ||
        kv_file_sync(file, NULL) < 0)
        abort();
    kv_file_close(file);
}

static struct kv_vfs *sim_write(struct sim *sim)
{
    const struct vfs_crash *crash = sim->crash;
    struct kv_vfs *disk = must(kv_vfs_mem_new());
    struct kv_dir **dirs = must(calloc((size_t)crash->n_paths + 1, sizeof *dirs));
    uint64_t *generations = must(calloc((size_t)crash->n_paths + 1, sizeof *generations));
    struct sim_names names = {.items = must(calloc(sim->n_ops + 1, sizeof *names.items))};
    for (size_t i = 0; i < sim->n_ops; i++) {
        const struct crash_op *op = &crash->ops[i];
        if (op->kind == OP_MKDIR &&
            kv_vfs_dir_open(disk, crash->paths[op->dir], true, &dirs[op->dir], NULL) < 0)
            abort();
        if (name_op(op) && sim->kept[i])
            names_set(&names, op->dir, op->name, op->kind == OP_REMOVE ? -1 : op->inode);
        bool completed =
            i < sim->completed || (sim->seed != 0 && (sim->seed <= 2 || kv_prng_below(&sim->prng, 2)));
        if (op->kind == OP_PUBLISH && completed &&
            dirs[op->dir]->ops->publish(dirs[op->dir], kv_slice_of(op->bytes, op->len),
                                        generations[op->dir]++, NULL) < 0)
            abort();
    }
    for (size_t i = 0; i < names.n; i++)
        write_file(dirs[names.items[i].dir], names.items[i].name, &sim->inodes[names.items[i].inode]);
    for (int i = 0; i < crash->n_paths; i++) {
        if (dirs[i] && kv_dir_sync_names(dirs[i], NULL) < 0)
            abort();
        kv_dir_close(dirs[i]);
    }
    free(names.items);
    free(generations);
    free(dirs);
    return disk;
}

struct kv_vfs *vfs_crash_at(struct vfs_crash *crash, uint64_t ops, uint64_t seed,
                            enum vfs_crash_profile profile)
{
    struct sim sim = {.crash = crash, .seed = seed, .profile = profile};
    sim.n_ops = (size_t)(crash->hidden + ops);
    sim.completed = ops ? sim.n_ops - 1 : sim.n_ops; /* the last one asked for may have been in flight */
    if (sim.n_ops > crash->n_ops)
        sim.n_ops = crash->n_ops;
    kv_prng_init(&sim.prng, seed * 1000003 + ops);
    sim.inodes = must(calloc((size_t)crash->n_inodes + 1, sizeof *sim.inodes));
    sim.named_at = must(calloc((size_t)crash->n_paths + 1, sizeof *sim.named_at));
    sim.kept = must(calloc(sim.n_ops + 1, sizeof *sim.kept));
    sim_collect(&sim);
    sim_names_survive(&sim);
    for (int i = 0; i < crash->n_inodes; i++)
        sim_inode_survives(&sim, &sim.inodes[i]);
    struct kv_vfs *disk = sim_write(&sim);
    for (int i = 0; i < crash->n_inodes; i++)
        free(sim.inodes[i].data);
    free(sim.inodes);
    free(sim.named_at);
    free(sim.kept);
    return disk;
}
