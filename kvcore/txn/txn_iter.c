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
    struct kv_iter *at; /* the snapshot, with its own writes laid over it */
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

/* ---- walking */

/* rc: of the step that brought the iterator below to where it stands. */
static kv_status iter_show(struct txn_iter *iter, kv_status rc)
{
    const struct kv_iter *at = iter->at;
    if (rc != KV_OK) {
        iter->walk = rc == KV_END ? WALK_ENDED : WALK_UNKNOWN;
        return iter->stopped = rc;
    }
    iter->it.key = at->key;
    iter->it.value = at->value;
    iter->it.version = at->version > iter->txn->version ? 0 : at->version; /* its own writes have none yet */
    iter->it.expires_at_s = at->expires_at_s;
    iter->it.meta = at->meta;
    iter->it.large_bytes = at->large_bytes;
    iter->walk = WALK_AT_KEY;
    return KV_OK;
}

/* A walk ends here and another begins at from, which is taken over whatever is answered. */
static kv_status iter_turn(struct txn_iter *iter, bool backward, struct kv_buf *from)
{
    kv_status rc = iter_note(iter);
    if (rc < 0) {
        kv_buf_release(from);
        return rc;
    }
    kv_buf_release(&iter->from);
    iter->from = *from;
    iter->walk = WALK_UNKNOWN;
    iter->backward = backward;
    return KV_OK;
}

static kv_status iter_seek(struct kv_iter *it, kv_slice target)
{
    struct txn_iter *iter = iter_of(it);
    struct kv_buf from = {0};
    kv_slice lower = kv_buf_slice(&iter->lower);
    kv_status rc = kv_txn_check_open(iter->txn, NULL);
    if (rc == KV_OK) /* a copy: the target may be the key that was shown */
        rc = kv_buf_append(&from, kv_slice_compare(target, lower) < 0 ? lower : target);
    if (rc == KV_OK)
        rc = iter_turn(iter, false, &from);
    return rc < 0 ? rc : iter_show(iter, kv_iter_seek(iter->at, kv_buf_slice(&iter->from)));
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
    if (rc == KV_OK)
        rc = iter_turn(iter, true, &from);
    return rc < 0 ? rc : iter_show(iter, kv_iter_seek_before(iter->at, kv_buf_slice(&iter->from)));
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
    if (iter->backward != backward) {
        rc = kv_buf_append(&from, iter->it.key);
        if (rc == KV_OK && !backward)
            rc = kv_buf_append_byte(&from, 0); /* the first key behind it */
        if (rc < 0)
            kv_buf_release(&from);
        else
            rc = iter_turn(iter, backward, &from);
        if (rc < 0)
            return rc;
    }
    return iter_show(iter, backward ? kv_iter_prev(iter->at) : kv_iter_next(iter->at));
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
    kv_iter_close(iter->at);
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

static bool wrote_to(const struct kv_txn *txn, uint32_t space)
{
    return txn->written && kv_space_known(txn->db, space) &&
           kv_memtable_entries(txn->written, space) + kv_memtable_range_count(txn->written, space) > 0;
}

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
    iter->stopped = KV_INVALID; /* not positioned */
    txn->refs++;
    kv_list_push_back(&txn->iters, &iter->link);
    KV_TRY(kv_buf_append(&iter->lower, lower));
    KV_TRY(kv_buf_append(&iter->upper, upper));
    struct kv_iter_options options = {.snapshot = txn->snapshot, .lower = lower, .upper = upper};
    struct kv_overlay own = {txn->written, space, txn->newest};
    KV_TRY(kv_iter_open_over(txn->db, space, &options, wrote_to(txn, space) ? &own : NULL, &iter->at, NULL));
    *out = &iter->it;
    return KV_OK;
out:
    iter_free(iter);
    return rc;
}
