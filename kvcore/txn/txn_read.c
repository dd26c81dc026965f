/*
 * A get in a transaction: its own writes first, then the snapshot. What the snapshot was asked for is noted, found or not.
 *
 * Own operands are folded over whatever lies under them: an own put or deletion, nothing where an own range deletion came
 * before them, or else the snapshot's value, which only then is something read.
 */
#include "kvcore/base/assert.h"
#include "kvcore/db/fold.h"
#include "kvcore/txn/txn.h"

#include <inttypes.h>

static kv_status get_stored(struct kv_txn *txn, uint32_t space, kv_slice key, struct kv_pinned *out,
                            struct kv_err *err)
{
    if (!txn->read_only) {
        kv_status rc = kv_read_set_add_key(&txn->reads, space, key); /* absence is something read, too */
        if (rc < 0)
            return kv_fail(err, rc, 0, "out of memory remembering what the transaction read");
    }
    return kv_get(txn->db, txn->snapshot, space, key, out, err);
}

static uint64_t now_s(struct kv_txn *txn)
{
    return (uint64_t)kv_db_retention_now(txn->db) / 1000;
}

/* Adds what is stored under the own operands. */
static kv_status fold_stored(struct kv_txn *txn, uint32_t space, kv_slice key, struct kv_fold *fold,
                             struct kv_err *err)
{
    struct kv_pinned stored = {0};
    kv_status rc = get_stored(txn, space, key, &stored, err);
    if (rc == KV_OK) {
        struct kv_attrs attrs = {.expires_at_s = stored.expires_at_s, .meta = stored.meta};
        rc = kv_fold_add_base(fold, stored.version, &attrs, stored.value);
    }
    kv_pinned_release(&stored);
    return rc;
}

/* The newest own write of the key is an operand. covered: an own range deletion came before the operands. */
static kv_status get_folded(struct kv_txn *txn, uint32_t space, kv_slice key, bool covered,
                            struct kv_pinned *out, struct kv_err *err)
{
    struct kv_batch_entry own;
    struct kv_fold fold = {0};
    struct kv_attrs attrs = {0};
    kv_slice value = {0};
    kv_status rc = kv_batch_find(txn->batch, space, key, &own);
    KV_ASSERT(rc == KV_OK && own.kind == KV_KIND_MERGE);
    rc = kv_fold_add(&fold, txn->version, (enum kv_kind)own.kind, own.value);
    if (rc == KV_OK && !covered && (rc = fold_stored(txn, space, key, &fold, err)) < 0)
        goto out; /* with an error of its own */
    if (rc >= 0)
        rc = kv_fold_run(&fold, txn->db->spaces[txn->db->ids[space]].merge, key, now_s(txn), &attrs, &value);
    if (rc >= 0)
        rc = kv_pinned_copy(value, out);
    if (rc == KV_OK) {
        out->expires_at_s = attrs.expires_at_s;
        out->meta = attrs.meta;
    } else {
        kv_fail(err, rc, 0, "space %s: the operands of the key could not be folded: %s",
                txn->db->spaces[txn->db->ids[space]].name, kv_status_text(rc));
    }
out:
    kv_fold_release(&fold);
    return rc;
}

/* KV_END: the transaction has not touched the key. */
static kv_status get_own(struct kv_txn *txn, uint32_t space, kv_slice key, struct kv_pinned *out,
                         struct kv_err *err)
{
    struct kv_found found;
    struct kv_attrs attrs = {0};
    uint64_t covered = kv_memtable_range_newest(txn->written, space, key, KV_VERSION_MAX);
    if (kv_memtable_get(txn->written, space, key, KV_VERSION_MAX, &found) != KV_OK)
        return covered ? KV_NOT_FOUND : KV_END;
    if (found.kind == KV_KIND_DELETE || covered > found.version)
        return KV_NOT_FOUND;
    if (found.kind == KV_KIND_MERGE)
        return get_folded(txn, space, key, covered > 0, out, err);
    if (found.kind == KV_KIND_RICH) {
        kv_status rc = kv_attrs_take(&found.value, &attrs);
        if (rc < 0)
            return kv_fail(err, rc, 0, "attributes of the transaction's own write: %s", kv_status_text(rc));
        if (attrs.expires_at_s && kv_attrs_expired(&attrs, now_s(txn)))
            return KV_NOT_FOUND;
    }
    kv_pinned_memtable(txn->written, found.value, out);
    out->expires_at_s = attrs.expires_at_s;
    out->meta = attrs.meta;
    return KV_OK;
}

kv_status kv_txn_get(struct kv_txn *txn, uint32_t space, kv_slice key, struct kv_pinned *out,
                     struct kv_err *err)
{
    *out = (struct kv_pinned){0};
    kv_status rc = kv_txn_check_open(txn, err);
    if (rc < 0)
        return rc;
    if (!kv_space_known(txn->db, space) || key.len < 1 || key.len > KV_KEY_LEN_MAX)
        return kv_fail(err, KV_INVALID, 0, "space %" PRIu32 " or a key of %zu bytes does not exist", space,
                       key.len);
    rc = txn->written ? get_own(txn, space, key, out, err) : KV_END;
    return rc == KV_END ? get_stored(txn, space, key, out, err) : rc;
}
