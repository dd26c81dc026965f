/*
 * The iterator of a read-write transaction: what the database holds at its version with the transaction's own
 * writes, as they were when the iterator was opened, on top; and a note of what was walked.
 *
 * What is noted is exactly what the caller learned: from where it seeked to the key it stands on, or to the end
 * of the range once it was told that nothing follows. While it moves one way nothing is written down: the part
 * being walked is [from, the key shown] forward, [the key shown, from) backward, and it becomes a range of the read set when the iterator seeks, turns round, is closed, or the
 * transaction commits.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/txn/txn.h"

enum walk { WALK_NONE, WALK_AT_KEY, WALK_ENDED, WALK_UNKNOWN };

struct txn_iter {
    struct kv_iter it;
    struct kv_list link; /* in txn->iters */
    struct kv_txn *txn;  /* held */
    uint32_t space;
    struct kv_iter *base;      /* of the database */
    struct kv_entry_iter *own; /* NULL: nothing was written before it was opened */
    uint64_t own_max;          /* writes made later are not seen */
    kv_status base_rc, own_rc; /* KV_OK: stands on an entry */
    bool base_shown, own_shown;
    struct kv_buf lower, upper, from, end;
    enum walk walk;
    bool backward;
    kv_status stopped; /* what it answered last, when it stands on no key */
};

static struct txn_iter *iter_of(struct kv_iter *it)
{
    return KV_CONTAINER(it, struct txn_iter, it);
}

/* ---- what was walked */

/* The walk so far becomes a range of the read set; it goes on from where it stands. */
static kv_status iter_note(struct txn_iter *iter)
{
    kv_slice from = kv_buf_slice(&iter->from), end = kv_buf_slice(&iter->upper);
    if (iter->walk == WALK_NONE)
        return KV_OK;
    if (iter->backward) {
        end = from.len ? from : end;
        from = iter->walk == WALK_AT_KEY ? iter->it.key : kv_buf_slice(&iter->lower);
    } else if (iter->walk == WALK_AT_KEY) {
        kv_buf_clear(&iter->end);
        kv_status rc = kv_buf_append(&iter->end, iter->it.key);
        if (rc == KV_OK)
            rc = kv_buf_append_byte(&iter->end, 0); /* the first key behind the one shown */
        if (rc < 0)
            return rc;
        end = kv_buf_slice(&iter->end);
    } /* else all of the range: nothing follows, or a failure hides how far it came */
    return kv_read_set_add_range(&iter->txn->reads, iter->space, from, end);
}

kv_status kv_txn_iters_note(struct kv_txn *txn)
{
    kv_status rc = KV_OK;
    for (struct kv_list *link = txn->iters.next; link != &txn->iters && rc == KV_OK; link = link->next)
        rc = iter_note(KV_CONTAINER(link, struct txn_iter, link));
    return rc;
}

/* ---- its own writes */

static kv_status own_settle(struct txn_iter *iter, kv_status rc)
{
    while (rc == KV_OK && iter->own->version > iter->own_max)
        rc = kv_entry_iter_next(iter->own);
    return rc;
}

static kv_status own_seek(struct txn_iter *iter, kv_slice target)
{
    return iter->own ? own_settle(iter, kv_entry_iter_seek(iter->own, target, KV_VERSION_MAX)) : KV_END;
}

/* To the next key. */
static kv_status own_next(struct txn_iter *iter)
{
    kv_slice key = iter->own->key; /* in the arena: it stays */
    kv_status rc;
    do
        rc = own_settle(iter, kv_entry_iter_next(iter->own));
    while (rc == KV_OK && kv_slice_equal(iter->own->key, key));
    return rc;
}

/* The last key before target (empty: of all) that has a write to be seen; the newest of them is stood on. */
static kv_status own_seek_before(struct txn_iter *iter, kv_slice target)
{
    if (!iter->own)
        return KV_END;
    kv_status rc = kv_entry_iter_seek_before(iter->own, target, KV_VERSION_MAX);
    while (rc == KV_OK) {
        kv_slice key = iter->own->key; /* in the arena: it stays */
        rc = kv_entry_iter_seek(iter->own, key, iter->own_max);
        if (rc < 0 || (rc == KV_OK && kv_slice_equal(iter->own->key, key)))
            return rc;
        rc = kv_entry_iter_seek_before(iter->own, key, KV_VERSION_MAX); /* all its writes came later */
    }
    return rc;
}

/* ---- both as one */

static kv_status iter_step_base(struct txn_iter *iter)
{
    return iter->backward ? kv_iter_prev(iter->base) : kv_iter_next(iter->base);
}

static kv_status iter_step_own(struct txn_iter *iter)
{
    return iter->backward ? own_seek_before(iter, iter->own->key) : own_next(iter);
}

static kv_status iter_fail(struct txn_iter *iter, kv_status rc)
{
    iter->walk = WALK_UNKNOWN;
    iter->stopped = rc;
    return rc;
}

/* From where both stand to the first key to be shown. */
static kv_status iter_show(struct txn_iter *iter)
{
    for (;;) {
        if (iter->base_rc < 0 || iter->own_rc < 0)
            return iter_fail(iter, iter->base_rc < 0 ? iter->base_rc : iter->own_rc);
        bool base = iter->base_rc == KV_OK, own = iter->own_rc == KV_OK;
        if (!base && !own) {
            iter->walk = WALK_ENDED;
            return iter->stopped = KV_END;
        }
        int order = !own ? -1 : !base ? 1 : kv_slice_compare(iter->base->key, iter->own->key);
        if (base && own && iter->backward)
            order = -order;
        iter->base_shown = order <= 0;
        iter->own_shown = order >= 0;
        if (order < 0 || iter->own->kind != KV_KIND_DELETE)
            break;
        if (iter->base_shown)
            iter->base_rc = iter_step_base(iter);
        iter->own_rc = iter_step_own(iter);
    }
    const struct kv_iter *base = iter->base;
    iter->it.key = iter->own_shown ? iter->own->key : base->key;
    iter->it.value = iter->own_shown ? iter->own->value : base->value;
    iter->it.version = iter->own_shown ? 0 : base->version;
    iter->it.expires_at_s = iter->own_shown ? 0 : base->expires_at_s;
    iter->it.meta = iter->own_shown ? 0 : base->meta;
    iter->walk = WALK_AT_KEY;
    return KV_OK;
}

/* Begins a walk at from, which is taken over whatever is answered. */
static kv_status iter_begin(struct txn_iter *iter, bool backward, struct kv_buf *from)
{
    kv_status rc = iter_note(iter);
    if (rc < 0) {
        kv_buf_release(from);
        return rc;
    }
    kv_buf_release(&iter->from);
    iter->from = *from;
    kv_slice target = kv_buf_slice(&iter->from);
    iter->walk = WALK_UNKNOWN;
    iter->backward = backward;
    iter->base_rc = backward ? kv_iter_seek_before(iter->base, target) : kv_iter_seek(iter->base, target);
    iter->own_rc = backward ? own_seek_before(iter, target) : own_seek(iter, target);
    return iter_show(iter);
}

static kv_status iter_seek(struct kv_iter *it, kv_slice target)
{
    struct txn_iter *iter = iter_of(it);
    struct kv_buf from = {0};
    kv_slice lower = kv_buf_slice(&iter->lower);
    kv_status rc = kv_txn_check_open(iter->txn, NULL);
    if (rc == KV_OK) /* a copy: the target may be the key that was shown */
        rc = kv_buf_append(&from, kv_slice_compare(target, lower) < 0 ? lower : target);
    return rc < 0 ? rc : iter_begin(iter, false, &from);
}

static kv_status iter_seek_before(struct kv_iter *it, kv_slice target)
{
    struct txn_iter *iter = iter_of(it);
    struct kv_buf from = {0};
    kv_slice upper = kv_buf_slice(&iter->upper);
    bool beyond = target.len == 0 || (upper.len && kv_slice_compare(target, upper) > 0);
    kv_status rc = kv_txn_check_open(iter->txn, NULL);
    if (rc == KV_OK)
        rc = kv_buf_append(&from, beyond ? upper : target);
    return rc < 0 ? rc : iter_begin(iter, true, &from);
}

/* One step, turning round if need be: what was walked so far is noted, and the walk begins anew beside the key. */
static kv_status iter_step(struct txn_iter *iter, bool backward)
{
    struct kv_buf from = {0};
    kv_status rc = kv_txn_check_open(iter->txn, NULL);
    if (rc < 0)
        return rc;
    if (iter->walk != WALK_AT_KEY)
        return iter->stopped;
    if (iter->backward == backward) {
        if (iter->base_shown)
            iter->base_rc = iter_step_base(iter);
        if (iter->own_shown)
            iter->own_rc = iter_step_own(iter);
        return iter_show(iter);
    }
    rc = kv_buf_append(&from, iter->it.key);
    if (rc == KV_OK && !backward)
        rc = kv_buf_append_byte(&from, 0); /* the first key behind it */
    if (rc < 0) {
        kv_buf_release(&from);
        return rc;
    }
    return iter_begin(iter, backward, &from);
}

static kv_status iter_next(struct kv_iter *it)
{
    return iter_step(iter_of(it), false);
}

static kv_status iter_prev(struct kv_iter *it)
{
    return iter_step(iter_of(it), true);
}

static void iter_free(struct txn_iter *iter)
{
    kv_list_remove(&iter->link);
    kv_iter_close(iter->base);
    kv_entry_iter_close(iter->own);
    kv_buf_release(&iter->lower);
    kv_buf_release(&iter->upper);
    kv_buf_release(&iter->from);
    kv_buf_release(&iter->end);
    kv_txn_unref(iter->txn);
    kv_free(iter);
}

static void iter_close(struct kv_iter *it)
{
    struct txn_iter *iter = iter_of(it);
    if (!iter->txn->ended) {
        kv_status rc = iter_note(iter);
        if (rc < 0 && iter->txn->broken == KV_OK)
            iter->txn->broken = rc; /* what was read could not be remembered: it must not commit */
    }
    iter_free(iter);
}

static const struct kv_iter_ops iter_ops = {iter_seek, iter_next, iter_seek_before, iter_prev, iter_close};

kv_status kv_txn_iter_open(struct kv_txn *txn, uint32_t space, kv_slice lower, kv_slice upper,
                           struct kv_iter **out)
{
    kv_status rc = kv_txn_check_open(txn, NULL);
    if (rc < 0)
        return rc;
    if (txn->read_only)
        return kv_iter_open(txn->db, txn->snapshot, space, lower, upper, out);
    struct txn_iter *iter = kv_zalloc(1, sizeof *iter);
    if (!iter)
        return KV_NO_MEMORY;
    iter->it.ops = &iter_ops;
    iter->txn = txn;
    iter->space = space;
    iter->own_max = txn->writes;
    iter->stopped = KV_INVALID; /* not positioned */
    txn->refs++;
    kv_list_push_back(&txn->iters, &iter->link);
    KV_TRY(kv_buf_append(&iter->lower, lower));
    KV_TRY(kv_buf_append(&iter->upper, upper));
    KV_TRY(kv_iter_open(txn->db, txn->snapshot, space, lower, upper, &iter->base));
    if (txn->written)
        KV_TRY(kv_memtable_iter_open(txn->written, space, kv_buf_slice(&iter->lower),
                                     kv_buf_slice(&iter->upper), &iter->own));
    *out = &iter->it;
    return KV_OK;
out:
    iter_free(iter);
    return rc;
}
