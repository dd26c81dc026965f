#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/commit_impl.h"

#include <inttypes.h>

enum {
    GROUP_BYTES_MAX = 16 << 20, /* one group takes commits until their bytes pass this */
    UNSYNCED_BYTES_MAX =
        8 << 20, /* KV_DURABILITY_INTERVAL syncs early past this: what is unsynced is kept in memory */
    QUEUE_BYTES_MAX = 512 << 20, /* commits wait outside the queue past this */
    NS_PER_MS = 1000000,
    FLOOR_STRIDE = 256 << 10,
    FLOOR_PLENTY = 64, /* strides above the floor */
};

/* The committer this thread leads right now, so that a hook's sync does not wait for itself. */
static _Thread_local const struct kv_committer *leading_here;

/* ---- the disk's floor and the reserve file */

static uint64_t reserve_bytes(const struct kv_committer *c)
{
    uint64_t bytes = c->options.disk_reserve_bytes / 4;
    return bytes < KV_RESERVE_BYTES_MAX ? bytes : KV_RESERVE_BYTES_MAX;
}

static void reserve_take(struct kv_committer *c)
{
    struct kv_file *file = NULL;
    (void)c->options.dir->ops->remove(c->options.dir, KV_RESERVE_NAME, NULL); /* an earlier run's */
    if (c->options.dir->ops->create_exclusive(c->options.dir, KV_RESERVE_NAME, &file, NULL) < 0)
        return;
    if (file->ops->reserve(file, reserve_bytes(c), NULL) < 0) {
        kv_file_close(file);
        (void)c->options.dir->ops->remove(c->options.dir, KV_RESERVE_NAME, NULL);
        return;
    }
    c->reserve = file;
}

static void reserve_give(struct kv_committer *c)
{
    if (!c->reserve)
        return;
    kv_file_close(c->reserve);
    c->reserve = NULL;
    (void)c->options.dir->ops->remove(c->options.dir, KV_RESERVE_NAME, NULL);
}

void kv_committer_release_reserve(struct kv_committer *c)
{
    kv_mutex_lock(&c->lock);
    reserve_give(c);
    kv_mutex_unlock(&c->lock);
}

/* A change of health is told once. Without the lock. */
static void health_set(struct kv_committer *c, kv_status code, const struct kv_err *err)
{
    kv_mutex_lock(&c->lock);
    bool changed = c->health != code;
    c->health = code;
    c->health_err = err ? *err : (struct kv_err){0};
    struct kv_err told = c->health_err;
    kv_mutex_unlock(&c->lock);
    if (!changed)
        return;
    kv_logf(c->options.logger, code == KV_OK ? KV_LOG_INFO : KV_LOG_ERROR,
            code == KV_OK ? "writes_resumed" : "writes_stopped", "status=%s error=%s", kv_status_name(code),
            KV_LOGQ(told.text));
    if (c->options.hooks.health)
        c->options.hooks.health(c->options.hooks.ctx, code, told.text);
}

/* Is there room above the floor? */
static kv_status floor_check(const struct kv_committer *c, uint64_t *free_bytes, struct kv_err *err)
{
    struct kv_space_info space;
    uint64_t floor = c->options.disk_reserve_bytes;
    *free_bytes = UINT64_MAX;
    if (floor == 0 || c->options.dir->ops->space(c->options.dir, &space, NULL) < 0)
        return KV_OK; /* unknown: the write itself will tell */
    *free_bytes = space.free_bytes;
    if (space.free_bytes < floor)
        return kv_fail(err, KV_NO_SPACE, 0, "the disk has %" PRIu64 " bytes free, writes stop below %" PRIu64,
                       space.free_bytes, floor);
    return KV_OK;
}

kv_status kv_committer_floor(const struct kv_committer *c, struct kv_err *err)
{
    uint64_t free_bytes;
    return floor_check(c, &free_bytes, err);
}

static kv_status health_get(struct kv_committer *c, struct kv_err *err)
{
    kv_mutex_lock(&c->lock);
    kv_status code = c->health;
    if (code < 0)
        kv_err_copy(err, &c->health_err);
    kv_mutex_unlock(&c->lock);
    return code;
}

/* ---- a group */

struct group {
    struct kv_list waiters; /* in queue order, which is sequence order */
    size_t commits, entries, bytes;
    uint64_t first_seq, last_seq; /* 0: nothing to log */
    bool sync;                    /* somebody needs a sync */
    bool past_floor;              /* its members may pass the floor */
};

static bool waiter_past_floor(const struct waiter *w)
{
    return w->kind != WAITER_COMMIT || w->options->past_floor;
}

/* Syncs and deletes go in groups of their own, so that a full disk does not refuse them with the others. */
static bool group_full(const struct kv_committer *c, const struct group *group, const struct waiter *next)
{
    if (kv_list_empty(&group->waiters))
        return false;
    const struct waiter *first = waiter_of(group->waiters.next);
    if (next->kind != first->kind || next->kind == WAITER_EXCLUSIVE ||
        waiter_past_floor(next) != waiter_past_floor(first))
        return true;
    if (c->options.durability == KV_DURABILITY_ALWAYS && next->kind == WAITER_COMMIT)
        return true;
    return group->bytes + next->bytes + next->record.len > GROUP_BYTES_MAX;
}

/* Takes what one append and sync will carry off the queue. With the lock. */
static void group_take(struct kv_committer *c, struct group *group)
{
    *group = (struct group){0};
    kv_list_init(&group->waiters);
    while (!kv_list_empty(&c->queue)) {
        struct waiter *w = waiter_of(c->queue.next);
        if (group_full(c, group, w))
            break;
        group->past_floor = waiter_past_floor(w);
        kv_list_remove(&w->link);
        kv_list_push_back(&group->waiters, &w->link);
        c->queue_bytes -= w->batch.len + w->record.len;
        group->entries += w->entries;
        group->bytes += w->bytes + w->record.len;
        group->sync |= w->kind == WAITER_SYNC || w->kind == WAITER_EXCLUSIVE;
        if (w->seq) {
            group->commits++;
            group->last_seq = w->seq;
            if (!group->first_seq)
                group->first_seq = w->seq;
        }
    }
    kv_cond_broadcast(&c->room);
}

static bool sync_due(const struct kv_committer *c, const struct group *group)
{
    switch (c->options.durability) {
    case KV_DURABILITY_GROUP:
    case KV_DURABILITY_ALWAYS:
        return true;
    case KV_DURABILITY_INTERVAL:
        return group->sync || c->unsynced_bytes + group->bytes > UNSYNCED_BYTES_MAX ||
               kv_clock_mono_ns(c->options.clock) - c->synced_ns >=
                   (uint64_t)c->options.sync_interval_ms * NS_PER_MS;
    case KV_DURABILITY_OS:
        break;
    }
    return group->sync;
}

static kv_status group_add(struct kv_committer *c, struct group *group, struct kv_err *err)
{
    for (struct kv_list *link = group->waiters.next; link != &group->waiters; link = link->next) {
        struct waiter *w = waiter_of(link);
        if (!w->seq)
            continue;
        kv_status rc = kv_log_add(c->options.log, w->seq, w->batch, w->record);
        if (rc < 0) {
            kv_log_drop(c->options.log);
            return kv_fail(err, rc, 0, "no memory for a commit of %zu bytes", w->batch.len + w->record.len);
        }
    }
    return KV_OK;
}

/* What the leader asks before a group, and the time to take the reserve again. The system is asked each time, which is
 * cheap beside a sync; groups that are not synced are let through a stride at a time while there is plenty. */
static kv_status leader_floor_check(struct kv_committer *c, const struct group *group, bool sync,
                                    struct kv_err *err)
{
    uint64_t free_bytes;
    if (!sync && group->bytes < c->floor_stride) {
        c->floor_stride -= group->bytes;
        return KV_OK;
    }
    kv_status rc = floor_check(c, &free_bytes, group->past_floor ? NULL : err);
    bool plenty = rc == KV_OK && free_bytes > c->options.disk_reserve_bytes &&
                  free_bytes - c->options.disk_reserve_bytes > (uint64_t)FLOOR_PLENTY * FLOOR_STRIDE;
    c->floor_stride = 0;
    if (rc < 0)
        return group->past_floor ? KV_OK : rc;
    kv_mutex_lock(&c->lock);
    if (!c->reserve && reserve_bytes(c) && free_bytes >= c->options.disk_reserve_bytes + 2 * reserve_bytes(c))
        reserve_take(c);
    if (plenty && c->reserve)
        c->floor_stride = FLOOR_STRIDE;
    kv_mutex_unlock(&c->lock);
    return KV_OK;
}

/* Logs and syncs the group. On failure nothing of it is stored, or (KV_UNKNOWN_OUTCOME) nobody knows. */
static kv_status group_log(struct kv_committer *c, struct group *group, struct kv_err *err)
{
    const struct kv_committer_hooks *hooks = &c->options.hooks;
    kv_status rc = KV_OK;
    bool sync = sync_due(c, group);
    if (group->commits) {
        kv_status health = health_get(c, err);
        if (health != KV_OK && health != KV_NO_SPACE)
            return health;
        rc = leader_floor_check(c, group, sync, err);
        if (rc == KV_OK)
            rc = hooks->room(hooks->ctx, group->first_seq, group->entries, group->bytes, err);
        if (rc == KV_OK)
            rc = group_add(c, group, err);
        if (rc < 0)
            return rc;
    }
    uint64_t now = c->options.durability == KV_DURABILITY_INTERVAL ? kv_clock_mono_ns(c->options.clock) : 0;
    rc = kv_log_write(c->options.log, sync, err);
    if (rc == KV_OK) {
        c->unsynced_bytes = sync ? 0 : c->unsynced_bytes + group->bytes;
        c->unsynced = !sync && (c->unsynced || group->commits > 0);
        if (sync)
            c->synced_ns = now;
    }
    return rc;
}

/* Puts, then records, in sequence order. What is logged and cannot be applied is answered as unknown: it
 * comes back with a restart. */
static kv_status group_apply(struct kv_committer *c, struct group *group, struct kv_err *err)
{
    const struct kv_committer_hooks *hooks = &c->options.hooks;
    for (struct kv_list *link = group->waiters.next; link != &group->waiters; link = link->next) {
        struct waiter *w = waiter_of(link);
        kv_status rc = w->batch.len ? hooks->apply(hooks->ctx, w->seq, w->batch) : KV_OK;
        if (rc < 0)
            return kv_fail(err, KV_UNKNOWN_OUTCOME, 0,
                           "commit %" PRIu64 " is logged but could not be applied: %s", w->seq,
                           kv_status_text(rc));
        if (w->record.len)
            hooks->record(hooks->record_ctx, w->seq, w->record, w->options->ctx);
    }
    return KV_OK;
}

static struct kv_pending waiter_pending(const struct waiter *w)
{
    return (struct kv_pending){w->seq, w->batch, w->kind == WAITER_EXCLUSIVE, w->span};
}

static void group_publish(struct kv_committer *c, const struct group *group)
{
    const struct kv_committer_hooks *hooks = &c->options.hooks;
    atomic_store_explicit(&c->visible, group->last_seq, memory_order_release);
    if (hooks->published)
        hooks->published(hooks->ctx, group->last_seq);
    for (struct kv_list *link = group->waiters.next; hooks->committed && link != &group->waiters;
         link = link->next) {
        struct kv_pending pending = waiter_pending(waiter_of(link));
        if (pending.seq && !(pending.installs && waiter_of(link)->rc < 0))
            hooks->committed(hooks->ctx, &pending);
    }
}

/* The outcome of a group as its members get it. KV_READ_ONLY and the like stop later commits too. */
static kv_status group_run(struct kv_committer *c, struct group *group, struct kv_err *err)
{
    struct waiter *first = waiter_of(group->waiters.next);
    kv_status rc = KV_OK;
    if (group->commits || group->sync)
        rc = first->kind == WAITER_EXCLUSIVE && !first->seq ? KV_OK : group_log(c, group, err);
    if (rc == KV_OK)
        rc = group_apply(c, group, err);
    if (rc == KV_OK && first->kind == WAITER_EXCLUSIVE && first->run)
        first->rc = first->run(first->run_ctx, first->seq, &first->err);
    if (rc == KV_OK && group->last_seq)
        group_publish(c, group);
    if (rc == KV_UNKNOWN_OUTCOME)
        health_set(c, KV_READ_ONLY, err);
    else if (rc == KV_NO_SPACE)
        health_set(c, KV_NO_SPACE, err);
    if (rc < 0)
        c->floor_stride = 0;
    else if (group->commits && !group->past_floor && health_get(c, NULL) == KV_NO_SPACE)
        health_set(c, KV_OK, NULL);
    return rc;
}

/* ---- leading */

static void waiter_finish(struct kv_committer *c, struct waiter *w)
{
    w->done = true;
    if (w->async)
        kv_async_finish(c, w);
    else
        kv_cond_signal(&w->wake);
}

/* As waiter_finish, newest first: those that no thread waits for are gathered, so that they come oldest first. */
static void waiter_fail(struct kv_committer *c, struct waiter *w, kv_status rc, const struct kv_err *err,
                        struct kv_list *failed)
{
    if (w->prepared && w->options->undo)
        w->options->undo(w->options->ctx);
    w->rc = rc;
    w->err = *err;
    if (w->async)
        kv_list_push_front(failed, &w->link);
    else
        waiter_finish(c, w);
}

/* Newest first: everything queued behind the failed group was prepared on top of it, so it fails too. With
 * the lock. */
static void group_fail(struct kv_committer *c, struct group *group, kv_status rc, const struct kv_err *err)
{
    struct kv_list keep, failed; /* keep: of the queue what takes no sequence */
    kv_list_init(&keep);
    kv_list_init(&failed);
    kv_status behind = rc == KV_UNKNOWN_OUTCOME ? KV_READ_ONLY : rc;
    struct kv_err behind_err = *err;
    behind_err.code = behind;
    if (group->first_seq) {
        while (!kv_list_empty(&c->queue)) {
            struct waiter *w = waiter_of(c->queue.prev);
            kv_list_remove(&w->link);
            if (!w->seq) {
                kv_list_push_front(&keep, &w->link);
                continue;
            }
            c->queue_bytes -= w->batch.len + w->record.len;
            waiter_fail(c, w, behind, &behind_err, &failed);
        }
        c->next_seq = group->first_seq;
    }
    while (!kv_list_empty(&keep)) {
        struct kv_list *link = keep.next;
        kv_list_remove(link);
        kv_list_push_back(&c->queue, link);
    }
    while (!kv_list_empty(&group->waiters)) {
        struct waiter *w = waiter_of(group->waiters.prev);
        kv_list_remove(&w->link);
        waiter_fail(c, w, rc, err, &failed);
    }
    while (!kv_list_empty(&failed)) {
        struct waiter *w = waiter_of(failed.next);
        kv_list_remove(&w->link);
        waiter_finish(c, w);
    }
}

void kv_commit_lead(struct kv_committer *c)
{
    struct group group;
    struct kv_err err = {0};
    group_take(c, &group);
    c->under_way = &group;
    kv_mutex_unlock(&c->lock);
    const struct kv_committer *outer = leading_here;
    leading_here = c;
    kv_status rc = group_run(c, &group, &err);
    leading_here = outer;
    kv_mutex_lock(&c->lock);
    c->under_way = NULL;
    c->stats.groups++;
    if (group.commits > c->stats.group_max)
        c->stats.group_max = group.commits;
    if (rc < 0) {
        if (rc == KV_NO_SPACE)
            c->stats.refused_no_space += group.commits;
        group_fail(c, &group, rc, &err);
    } else {
        c->stats.commits += group.commits;
    }
    while (!kv_list_empty(&group.waiters)) {
        struct waiter *w = waiter_of(group.waiters.next);
        kv_list_remove(&w->link);
        c->stats.batch_bytes += w->batch.len;
        c->stats.record_bytes += w->record.len;
        waiter_finish(c, w);
    }
    kv_async_pass_lead(c);
    kv_cond_broadcast(&c->room);
}

void kv_commit_enqueue(struct kv_committer *c, struct waiter *w)
{
    kv_list_push_back(&c->queue, &w->link);
    c->queue_bytes += w->batch.len + w->record.len;
}

/* Waits in the queue until the call is answered, leading when it is its turn. With the lock. */
static void waiter_wait(struct kv_committer *c, struct waiter *w)
{
    kv_commit_enqueue(c, w);
    if (!c->leading) {
        c->leading = true;
        w->leads = true;
    }
    while (!w->done) {
        if (w->leads) {
            w->leads = false;
            kv_commit_lead(c); /* its first member is w, or a commit that no thread waits for */
        } else {
            kv_cond_wait(&w->wake, &c->lock);
        }
    }
}

/* ---- calls */

kv_status kv_commit_enter(struct kv_committer *c, struct kv_err *err)
{
    KV_ASSERT(leading_here != c);
    kv_mutex_lock(&c->lock);
    c->callers++;
    return c->closed ? kv_fail(err, KV_CLOSED, 0, "the database is closed") : KV_OK;
}

void kv_commit_leave(struct kv_committer *c)
{
    kv_async_call_here(c);
    if (--c->callers == 0 && c->closed)
        kv_cond_broadcast(&c->room);
    kv_mutex_unlock(&c->lock);
}

kv_status kv_commit_admit(struct kv_committer *c, bool past_floor, struct kv_err *err)
{
    uint64_t free_bytes;
    if (c->health == KV_NO_SPACE && !past_floor)
        return floor_check(c, &free_bytes, err);
    if (c->health < 0 && c->health != KV_NO_SPACE) {
        kv_err_copy(err, &c->health_err);
        return c->health;
    }
    return KV_OK;
}

/* Waits until a commit of that size may enter. With the lock. */
static kv_status admit(struct kv_committer *c, size_t bytes, bool past_floor, struct kv_err *err)
{
    while (c->queue_bytes > 0 && c->queue_bytes + bytes > QUEUE_BYTES_MAX)
        kv_cond_wait(&c->room, &c->lock);
    return kv_commit_admit(c, past_floor, err);
}

static kv_status check_content(const struct kv_committer *c, const struct waiter *w,
                               const struct kv_batch *batch, kv_slice record, size_t bytes,
                               struct kv_err *err)
{
    if (record.len == 0 && (!batch || kv_batch_count(batch) == 0))
        return kv_fail(err, KV_INVALID, 0, "a commit of nothing");
    if (record.len && !c->options.hooks.record)
        return kv_fail(err, KV_INVALID, 0, "an application record, but the database has no apply function");
    if (batch && kv_batch_spaces(batch) > c->options.n_spaces)
        return kv_fail(err, KV_INVALID, 0, "space %u; the database has %u", kv_batch_spaces(batch) - 1,
                       c->options.n_spaces);
    kv_status rc = batch ? kv_batch_check_values(batch, c->options.hooks.ctx, w->async, err) : KV_OK;
    if (rc < 0)
        return rc;
    if (bytes > KV_COMMIT_BYTES_MAX)
        return kv_fail(err, KV_LIMIT, 0, "a commit of %zu bytes; at most %d", bytes, KV_COMMIT_BYTES_MAX);
    return KV_OK;
}

kv_status kv_commit_prepare(struct kv_committer *c, struct waiter *w, struct kv_batch *batch,
                            struct kv_err *err)
{
    static const struct kv_commit_options none;
    const struct kv_commit_options *options = w->options ? w->options : &none;
    w->options = options;
    w->seq = c->next_seq;
    w->record = options->record;
    if (options->version && options->version != w->seq)
        return kv_fail(err, KV_CONFLICT, 0,
                       "the commit asks for version %" PRIu64 ", the next one is %" PRIu64, options->version,
                       w->seq);
    if (w->guard) {
        kv_status valid = w->guard->validate(w->guard->ctx, err);
        if (valid < 0)
            return valid;
    }
    if (options->prepare) {
        kv_status rc = options->prepare(options->ctx, w->seq, batch, &w->record);
        if (rc < 0)
            return kv_fail(err, rc, 0, "the commit was refused: %s", kv_status_text(rc));
        w->prepared = true;
    }
    if (batch) {
        w->batch = kv_batch_bytes(batch);
        w->entries = kv_batch_count(batch);
        w->bytes = kv_batch_payload(batch);
    }
    size_t bytes = w->record.len > SIZE_MAX - w->batch.len ? SIZE_MAX : w->batch.len + w->record.len;
    kv_status rc = check_content(c, w, batch, w->record, bytes, err);
    const struct kv_committer_hooks *hooks = &c->options.hooks;
    if (rc == KV_OK && hooks->guarded && atomic_load_explicit(hooks->guarded, memory_order_relaxed))
        rc = hooks->check(hooks->ctx, w->batch, err);
    if (rc < 0 && w->prepared && options->undo)
        options->undo(options->ctx);
    return rc;
}

static kv_status answer(const struct waiter *w, struct kv_err *err)
{
    if (w->rc < 0)
        kv_err_copy(err, &w->err);
    return w->rc;
}

kv_status kv_committer_commit(struct kv_committer *c, struct kv_batch *batch,
                              const struct kv_commit_options *options, uint64_t *seq, struct kv_err *err)
{
    return kv_committer_commit_guarded(c, batch, options, NULL, seq, err);
}

kv_status kv_committer_commit_guarded(struct kv_committer *c, struct kv_batch *batch,
                                      const struct kv_commit_options *options,
                                      const struct kv_commit_guard *guard, uint64_t *seq, struct kv_err *err)
{
    struct waiter w = {.kind = WAITER_COMMIT, .options = options, .guard = guard};
    kv_status rc = kv_commit_enter(c, err);
    size_t bytes = (batch ? kv_batch_payload(batch) : 0) + (options ? options->record.len : 0);
    if (rc == KV_OK)
        rc = admit(c, bytes, options && options->past_floor, err);
    if (rc == KV_OK)
        rc = kv_commit_prepare(c, &w, batch, err);
    if (rc == KV_OK) {
        c->next_seq++;
        kv_cond_init(&w.wake);
        waiter_wait(c, &w);
        rc = answer(&w, err);
    }
    kv_commit_leave(c);
    if (w.done)
        kv_cond_release(&w.wake);
    if (rc == KV_OK && seq)
        *seq = w.seq;
    return rc;
}

kv_status kv_committer_sync(struct kv_committer *c, struct kv_err *err)
{
    struct waiter w = {.kind = WAITER_SYNC};
    if (leading_here == c)
        return kv_log_sync(c->options.log, err);
    kv_status rc = kv_commit_enter(c, err);
    if (rc == KV_OK) {
        kv_cond_init(&w.wake);
        waiter_wait(c, &w);
        rc = answer(&w, err);
    }
    kv_commit_leave(c);
    if (w.done)
        kv_cond_release(&w.wake);
    return rc;
}

kv_status kv_committer_validate(struct kv_committer *c, const struct kv_commit_guard *guard,
                                struct kv_err *err)
{
    kv_status rc = kv_commit_enter(c, err);
    if (rc == KV_OK)
        rc = guard->validate(guard->ctx, err);
    kv_commit_leave(c);
    return rc;
}

static kv_status pending_in(const struct kv_list *waiters,
                            kv_status (*each)(void *ctx, const struct kv_pending *pending), void *ctx)
{
    kv_status rc = KV_OK;
    for (const struct kv_list *link = waiters->next; link != waiters && rc == KV_OK; link = link->next) {
        const struct waiter *w = waiter_of(link);
        struct kv_pending pending = waiter_pending(w);
        if (w->seq)
            rc = each(ctx, &pending);
    }
    return rc;
}

kv_status kv_committer_pending(struct kv_committer *c,
                               kv_status (*each)(void *ctx, const struct kv_pending *pending), void *ctx)
{
    kv_status rc = c->under_way ? pending_in(&c->under_way->waiters, each, ctx) : KV_OK;
    return rc == KV_OK ? pending_in(&c->queue, each, ctx) : rc;
}

static kv_status exclusive(struct kv_committer *c, bool burn, struct waiter *w, struct kv_err *err)
{
    kv_status rc = kv_commit_enter(c, err);
    if (rc == KV_OK && burn)
        rc = admit(c, 0, true, err);
    if (rc == KV_OK) {
        if (burn)
            w->seq = c->next_seq++;
        kv_cond_init(&w->wake);
        waiter_wait(c, w);
        rc = answer(w, err);
    }
    kv_commit_leave(c);
    if (w->done)
        kv_cond_release(&w->wake);
    return rc;
}

kv_status kv_committer_exclusive(struct kv_committer *c, bool burn,
                                 kv_status (*run)(void *ctx, uint64_t seq, struct kv_err *err), void *ctx,
                                 struct kv_err *err)
{
    struct waiter w = {.kind = WAITER_EXCLUSIVE, .run = run, .run_ctx = ctx};
    return exclusive(c, burn, &w, err);
}

kv_status kv_committer_install(struct kv_committer *c, const struct kv_key_span *span,
                               kv_status (*run)(void *ctx, uint64_t seq, struct kv_err *err), void *ctx,
                               struct kv_err *err)
{
    struct waiter w = {.kind = WAITER_EXCLUSIVE, .run = run, .run_ctx = ctx, .span = span};
    return exclusive(c, true, &w, err);
}

/* ---- insight and background */

uint64_t kv_committer_visible(const struct kv_committer *c)
{
    return atomic_load_explicit(&c->visible, memory_order_acquire);
}

kv_status kv_committer_health(struct kv_committer *c, struct kv_err *err)
{
    return health_get(c, err);
}

void kv_committer_stats(struct kv_committer *c, struct kv_committer_stats *out)
{
    kv_mutex_lock(&c->lock);
    *out = c->stats;
    kv_mutex_unlock(&c->lock);
}

kv_status kv_committer_tick(struct kv_committer *c, struct kv_err *err)
{
    uint64_t free_bytes;
    if (leading_here == c)
        return KV_OK;
    if (health_get(c, NULL) == KV_NO_SPACE && floor_check(c, &free_bytes, NULL) == KV_OK)
        health_set(c, KV_OK, NULL);
    kv_mutex_lock(&c->lock);
    bool due = c->options.durability == KV_DURABILITY_INTERVAL && c->unsynced && !c->closed &&
               kv_clock_mono_ns(c->options.clock) - c->synced_ns >=
                   (uint64_t)c->options.sync_interval_ms * NS_PER_MS;
    kv_mutex_unlock(&c->lock);
    return due ? kv_committer_sync(c, err) : KV_OK;
}

static void syncer_main(void *ctx)
{
    struct kv_committer *c = ctx;
    kv_mutex_lock(&c->lock);
    while (!c->closed) {
        kv_cond_wait_for(&c->syncer_wake, &c->lock, (uint64_t)c->options.sync_interval_ms * NS_PER_MS);
        if (c->closed || !c->unsynced)
            continue;
        kv_mutex_unlock(&c->lock);
        kv_status rc = kv_committer_sync(c, NULL);
        (void)rc; /* a failure shows in the health */
        kv_mutex_lock(&c->lock);
    }
    kv_mutex_unlock(&c->lock);
}

static void committer_free(struct kv_committer *c)
{
    kv_cond_release(&c->syncer_wake);
    kv_cond_release(&c->async_wake);
    kv_cond_release(&c->room);
    kv_mutex_release(&c->lock);
    kv_free(c);
}

kv_status kv_committer_open(const struct kv_committer_options *options, struct kv_committer **out,
                            struct kv_err *err)
{
    struct kv_committer *c = kv_zalloc(1, sizeof *c);
    uint64_t free_bytes;
    if (!c)
        return kv_fail(err, KV_NO_MEMORY, 0, "opening the committer");
    c->options = *options;
    kv_mutex_init(&c->lock);
    kv_cond_init(&c->room);
    kv_cond_init(&c->syncer_wake);
    kv_cond_init(&c->async_wake);
    kv_list_init(&c->queue);
    kv_list_init(&c->finished);
    c->next_seq = kv_log_next_seq(options->log);
    atomic_init(&c->visible, c->next_seq - 1);
    c->synced_ns = kv_clock_mono_ns(options->clock);
    if (reserve_bytes(c) && floor_check(c, &free_bytes, NULL) == KV_OK)
        reserve_take(c);
    if (options->durability == KV_DURABILITY_INTERVAL && !options->no_thread) {
        kv_status rc = kv_thread_start(&c->syncer, "kv-syncer", 0, syncer_main, c);
        if (rc < 0) {
            reserve_give(c);
            committer_free(c);
            return kv_fail(err, rc, 0, "starting the log's syncing thread");
        }
    }
    *out = c;
    return KV_OK;
}

kv_status kv_committer_close(struct kv_committer *c, struct kv_err *err)
{
    if (!c)
        return KV_OK;
    kv_mutex_lock(&c->lock);
    c->closed = true;
    kv_cond_signal(&c->syncer_wake);
    while (c->callers > 0)
        kv_cond_wait(&c->room, &c->lock);
    kv_mutex_unlock(&c->lock);
    kv_thread_join(&c->syncer);
    kv_async_close(c);
    kv_status rc = kv_log_alive(c->options.log) ? kv_log_sync(c->options.log, err) : KV_OK;
    reserve_give(c);
    committer_free(c);
    return rc;
}
