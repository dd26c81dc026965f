/*
 * Commits that no thread waits for. They queue like all others and may be led by whoever leads; one thread of the committer,
 * started with the first of them, leads when nobody else does, and calls back. It is kept out of the lead while a callback
 * runs, so that a callback may commit itself. Without threads (KV_THREADS_NONE) a commit waits until a call leads, for itself
 * or by kv_committer_work, and that call calls back.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/commit_impl.h"

#include <inttypes.h>

struct kv_async {
    struct waiter waiter;
    struct kv_commit_options options;
    struct kv_buf batch, record;
    kv_committed_fn done;
    void *done_ctx;
    size_t bytes; /* counted in async_bytes */
};

/* ---- the lead */

void kv_async_pass_lead(struct kv_committer *c)
{
    struct waiter *next = NULL;
    c->leading = false;
    for (struct kv_list *link = c->queue.next; link != &c->queue && !next; link = link->next) {
        struct waiter *w = waiter_of(link);
        if (w->async && c->async_thread.started && !c->calling) {
            c->leading = c->async_leads = true;
            kv_cond_signal(&c->async_wake);
            return;
        }
        if (!w->async)
            next = w;
    }
    if (!next)
        return;
    c->leading = true;
    next->leads = true;
    kv_cond_signal(&next->wake);
}

/* Leads if something waits and nobody else does. */
static bool lead_waiting(struct kv_committer *c)
{
    if (!c->async_leads && (c->leading || kv_list_empty(&c->queue)))
        return false;
    c->async_leads = false;
    c->leading = true;
    kv_commit_lead(c);
    return true;
}

/* ---- callbacks */

void kv_async_finish(struct kv_committer *c, struct waiter *w)
{
    kv_list_push_back(&c->finished, &w->link);
    kv_cond_signal(&c->async_wake);
}

static void async_free(struct kv_async *async)
{
    kv_buf_release(&async->batch);
    kv_buf_release(&async->record);
    kv_free(async);
}

/* Calls the oldest finished one back, without the lock meanwhile. False: there is none, or one is being called. */
static bool call_one(struct kv_committer *c)
{
    if (c->calling || kv_list_empty(&c->finished))
        return false;
    struct waiter *w = waiter_of(c->finished.next);
    struct kv_async *async = w->async;
    kv_list_remove(&w->link);
    c->calling = true;
    kv_mutex_unlock(&c->lock);
    size_t bytes = async->bytes;
    kv_buf_release(&async->batch);
    async->done(async->done_ctx, w->rc, w->rc < 0 ? 0 : w->seq);
    async_free(async);
    kv_mutex_lock(&c->lock);
    c->calling = false;
    c->n_async--;
    c->async_bytes -= bytes;
    return true;
}

void kv_async_call_here(struct kv_committer *c)
{
    if (!c->options.no_thread)
        return;
    while (call_one(c))
        ;
}

static void async_main(void *ctx)
{
    struct kv_committer *c = ctx;
    kv_mutex_lock(&c->lock);
    for (;;) {
        if (lead_waiting(c) || call_one(c))
            continue;
        if (c->closed && c->callers == 0 && c->n_async == 0)
            break;
        kv_cond_wait(&c->async_wake, &c->lock);
    }
    kv_mutex_unlock(&c->lock);
}

void kv_async_close(struct kv_committer *c)
{
    kv_mutex_lock(&c->lock);
    while (c->options.no_thread && (lead_waiting(c) || call_one(c)))
        ;
    kv_cond_signal(&c->async_wake);
    kv_mutex_unlock(&c->lock);
    kv_thread_join(&c->async_thread);
    KV_ASSERT(c->n_async == 0);
}

kv_status kv_committer_work(struct kv_committer *c)
{
    if (!c->options.no_thread)
        return KV_END;
    kv_mutex_lock(&c->lock);
    c->callers++;
    bool any = lead_waiting(c);
    while (call_one(c))
        any = true;
    kv_commit_leave(c);
    return any ? KV_OK : KV_END;
}

/* ---- calls */

static kv_status async_new(kv_committed_fn done, void *done_ctx, const struct kv_commit_options *options,
                           struct kv_async **out, struct kv_err *err)
{
    struct kv_async *async = kv_zalloc(1, sizeof *async);
    if (!async)
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory for a commit that is not waited for");
    async->waiter.kind = WAITER_COMMIT;
    async->waiter.async = async;
    if (options)
        async->options = *options;
    async->waiter.options = &async->options;
    async->done = done;
    async->done_ctx = done_ctx;
    *out = async;
    return KV_OK;
}

/* Is there room for one more, and a thread that will call it back? */
static kv_status async_admit(struct kv_committer *c, size_t bytes, struct kv_err *err)
{
    if (c->n_async >= KV_ASYNC_COMMITS_MAX || (c->n_async > 0 && c->async_bytes + bytes > KV_ASYNC_BYTES_MAX))
        return kv_fail(err, KV_BUSY, 0,
                       "%zu commits of %zu bytes wait for their callbacks, at most %d and %d: wait for some",
                       c->n_async, c->async_bytes, KV_ASYNC_COMMITS_MAX, KV_ASYNC_BYTES_MAX);
    if (c->options.no_thread || c->async_thread.started)
        return KV_OK;
    kv_status rc = kv_thread_start(&c->async_thread, "kv-commits", 0, async_main, c);
    return rc < 0 ? kv_fail(err, rc, 0, "starting the thread of commits that are not waited for") : KV_OK;
}

/* What is to be logged becomes the commit's own: the record is copied, the batch's bytes change hands. */
static kv_status async_take(struct kv_async *async, struct kv_batch *batch, struct kv_err *err)
{
    struct waiter *w = &async->waiter;
    if (kv_buf_append(&async->record, w->record) < 0) {
        if (w->prepared && w->options->undo)
            w->options->undo(w->options->ctx);
        return kv_fail(err, KV_NO_MEMORY, 0, "no memory for a record of %zu bytes", w->record.len);
    }
    w->record = kv_buf_slice(&async->record);
    if (batch)
        kv_batch_take(batch, &async->batch);
    w->batch = kv_buf_slice(&async->batch);
    async->bytes = async->batch.capacity + async->record.capacity + sizeof *async;
    return KV_OK;
}

static void async_enqueue(struct kv_committer *c, struct kv_async *async)
{
    c->n_async++;
    c->async_bytes += async->bytes;
    c->next_seq++;
    kv_commit_enqueue(c, &async->waiter);
    if (!c->leading)
        kv_async_pass_lead(c);
}

kv_status kv_committer_commit_async(struct kv_committer *c, struct kv_batch *batch,
                                    const struct kv_commit_options *options,
                                    const struct kv_commit_guard *guard, kv_committed_fn done, void *done_ctx,
                                    struct kv_err *err)
{
    struct kv_async *async = NULL;
    size_t bytes = (batch ? kv_batch_payload(batch) : 0) + (options ? options->record.len : 0);
    kv_status rc = async_new(done, done_ctx, options, &async, err);
    if (rc < 0)
        return rc;
    KV_ASSERT(async != NULL);
    rc = kv_commit_enter(c, err);
    if (rc == KV_OK)
        rc = async_admit(c, bytes, err);
    if (rc == KV_OK)
        rc = kv_commit_admit(c, async->options.past_floor, err);
    if (rc == KV_OK) {
        async->waiter.guard = guard;
        rc = kv_commit_prepare(c, &async->waiter, batch, err);
    }
    if (rc == KV_OK)
        rc = async_take(async, batch, err);
    if (rc == KV_OK)
        async_enqueue(c, async);
    else
        async_free(async);
    kv_commit_leave(c);
    return rc;
}

kv_status kv_committer_call_async(struct kv_committer *c, kv_committed_fn done, void *done_ctx,
                                  uint64_t version, struct kv_err *err)
{
    struct kv_async *async = NULL;
    kv_status rc = async_new(done, done_ctx, NULL, &async, err);
    if (rc < 0)
        return rc;
    KV_ASSERT(async != NULL);
    rc = kv_commit_enter(c, err);
    if (rc == KV_OK)
        rc = async_admit(c, sizeof *async, err);
    if (rc == KV_OK) {
        async->bytes = sizeof *async;
        async->waiter.seq = version;
        c->n_async++;
        c->async_bytes += async->bytes;
        kv_async_finish(c, &async->waiter);
    } else {
        async_free(async);
    }
    kv_commit_leave(c);
    return rc;
}
