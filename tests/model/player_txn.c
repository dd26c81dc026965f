#include "tests/model/player.h"
#include "kvcore/base/mem.h"

#include <inttypes.h>

static void txn_begin(struct player *p, struct player_txn *txn, const struct op *op)
{
    const struct player_snapshot *at =
        op->snap && (op->how & 1) ? &p->snapshots[(op->snap - 1) % SNAP_SLOTS] : NULL;
    struct kv_txn_options options = {.read_only = op->how & 1, .snapshot = at ? at->snapshot : NULL};
    struct txn_range *ranges = txn->ranges;
    size_t capacity = txn->ranges_capacity;
    kv_txn_abort(txn->txn);
    *txn = (struct player_txn){.ranges = ranges, .ranges_capacity = capacity, .read_only = op->how & 1};
    player_must(p, "kv_txn_begin", kv_txn_begin(p->db, &options, &txn->txn, &p->err), KV_OK);
    txn->version = kv_txn_version(txn->txn);
    txn->stamp = options.snapshot ? at->stamp : p->model.stamp;
    txn->expires_ns = kv_clock_mono_ns(&p->clock.base) + (uint64_t)KV_TXN_AGE_MS_DEFAULT * 1000000;
    if (!options.snapshot && txn->version != p->model.version)
        player_fail(p, "a transaction begins at %" PRIu64, txn->version);
}

static void own_found(const struct own_write *own, struct model_found *out)
{
    *out = (struct model_found){.value = {0}};
    out->value = model_value(own->n, own->len, out->bytes);
}

/* What the transaction sees of a key. */
static bool txn_sees(struct player *p, struct player_txn *txn, uint32_t space, uint32_t key,
                     struct model_found *out)
{
    const struct own_write *own = &txn->own[space][key];
    if (own->kind == OWN_NONE)
        return model_get(&p->model, txn->stamp, player_now_s(p), space, key, out);
    if (own->kind == OWN_PUT)
        own_found(own, out);
    return own->kind == OWN_PUT;
}

static void txn_get(struct player *p, struct player_txn *txn, uint32_t space, uint32_t key)
{
    struct model_found expected;
    struct kv_pinned got;
    bool has = txn_sees(p, txn, space, key, &expected);
    kv_status rc = kv_txn_get(txn->txn, space, model_key(key), &got, &p->err);
    if (txn->own[space][key].kind == OWN_NONE)
        txn->read[space][key] = true;
    player_compare(p, "a transaction's get", rc, has ? &expected : NULL, got.value, got.version,
                   got.expires_at_s, got.meta);
    kv_pinned_release(&got);
}

static void txn_write(struct player *p, struct player_txn *txn, const struct op *op, uint32_t space,
                      uint32_t key)
{
    uint8_t bytes[MODEL_VALUE_MAX];
    bool put = op->kind == OP_txn_put;
    kv_slice value = model_value(op->n, op->len, bytes);
    kv_status rc = put ? kv_txn_put(txn->txn, space, model_key(key), value, &p->err)
                       : kv_txn_delete(txn->txn, space, model_key(key), &p->err);
    player_must(p, "a transaction's write", rc, txn->read_only ? KV_INVALID : KV_OK);
    if (rc < 0)
        return;
    txn->wrote = true;
    txn->own[space][key] = (struct own_write){put ? OWN_PUT : OWN_DELETE, op->n, op->len};
}

/* ---- walking */

static void walked(struct player_txn *txn, uint32_t space, uint32_t lower, uint32_t upper)
{
    txn->ranges = player_grown(txn->ranges, &txn->ranges_capacity, txn->n_ranges, sizeof *txn->ranges);
    txn->ranges[txn->n_ranges++] = (struct txn_range){space, lower, upper};
}

/* Seeks and makes so many steps. */
static void txn_walk(struct player *p, struct player_txn *txn, struct kv_iter *it, uint32_t space,
                     const struct op *op, uint32_t target)
{
    uint32_t lower = op->lower ? (op->lower - 1) % model_points() : 0;
    uint32_t upper = op->upper ? (op->upper - 1) % model_points() : MODEL_POINTS;
    uint32_t from = target ? (target - 1) % model_points() : 0;
    from = from < lower ? lower : from;
    uint32_t k = model_point_first_key(from), end = model_bound_end(op->upper), steps = op->n;
    kv_status rc = kv_iter_seek(it, model_bound(target));
    for (;; k++, steps--) {
        struct model_found expected;
        while (k < end && !txn_sees(p, txn, space, k, &expected))
            k++;
        if (rc != KV_OK && rc != KV_END)
            player_must(p, "a transaction's iterator", rc, KV_OK);
        if ((rc == KV_OK) != (k < end))
            player_fail(p, "a transaction's iterator: %s where key %u should be (%u is the end)",
                        kv_status_name(rc), k, end);
        player_note(p, (uint64_t)rc);
        if (rc == KV_END)
            break;
        if (!kv_slice_equal(it->key, model_key(k)) || !kv_slice_equal(it->value, expected.value))
            player_fail(p, "a transaction's iterator shows key %d with %zu bytes instead of %u with %zu",
                        model_find_key(it->key), it->value.len, k, expected.value.len);
        player_note_slice(p, it->value);
        if (steps == 0)
            break;
        rc = kv_iter_next(it);
    }
    if (!txn->read_only)
        walked(txn, space, from, rc == KV_OK ? model_key_point(k) + 1 : upper);
}

static void txn_scan(struct player *p, struct player_txn *txn, const struct op *op)
{
    struct kv_iter *it = NULL;
    uint32_t space = op->space % MODEL_SPACES;
    player_must(p, "kv_txn_iter_open",
                kv_txn_iter_open(txn->txn, space, model_bound(op->lower), model_bound(op->upper), &it),
                KV_OK);
    txn_walk(p, txn, it, space, op, op->since);
    if (op->how & 1)
        txn_walk(p, txn, it, space, op, op->lower);
    kv_iter_close(it);
}

/* ---- committing */

static bool conflicts(struct player *p, const struct player_txn *txn)
{
    for (uint32_t s = 0; s < MODEL_SPACES; s++)
        for (uint32_t k = 0; k < MODEL_KEYS; k++)
            if (txn->read[s][k] && model_key_changed(&p->model, s, k, txn->version))
                return true;
    for (size_t i = 0; i < txn->n_ranges; i++)
        if (model_range_changed(&p->model, txn->ranges[i].space, txn->ranges[i].lower, txn->ranges[i].upper,
                                txn->version))
            return true;
    return false;
}

static void apply_own(struct player *p, const struct player_txn *txn)
{
    for (uint32_t s = 0; s < MODEL_SPACES; s++)
        for (uint32_t k = 0; k < MODEL_KEYS; k++) {
            const struct own_write *own = &txn->own[s][k];
            struct event event = {
                .kind = own->kind == OWN_PUT ? EVENT_PUT : EVENT_DELETE, .n = own->n, .len = own->len};
            if (own->kind != OWN_NONE)
                model_add(&p->model, s, k, &event);
        }
}

static void txn_commit(struct player *p, struct player_txn *txn, const struct op *op)
{
    uint8_t bytes[16];
    bool record = (op->how & 1) && !txn->read_only, checks = (op->how & 2) && !txn->read_only;
    bool writes = txn->wrote || record;
    struct kv_txn_commit_options options = {.check_reads = op->how & 2};
    uint64_t version = 0;
    kv_status expected = KV_OK;
    if (record)
        options.record = player_record(op->n, bytes);
    if ((writes || checks) && kv_clock_mono_ns(&p->clock.base) >= txn->expires_ns)
        expected = KV_TOO_OLD;
    else if ((writes || checks) && conflicts(p, txn))
        expected = KV_CONFLICT;
    p->record_expected = record;
    p->record_n = op->n;
    player_must(p, "kv_txn_commit", kv_txn_commit(txn->txn, &options, &version, &p->err), expected);
    p->record_expected = false;
    player_note(p, (uint64_t)expected);
    if (expected == KV_OK && writes) {
        if (version != p->model.version + 1 || kv_seq(p->db) != version)
            player_fail(p, "the transaction is %" PRIu64 " and %" PRIu64 " is visible", version,
                        kv_seq(p->db));
        p->model.version = version;
        p->model.stamp++;
        if (record)
            model_add_record(&p->model, version, op->n);
        apply_own(p, txn);
    } else if (expected == KV_OK && version != txn->version) {
        player_fail(p, "a transaction that wrote nothing is %" PRIu64, version);
    }
    kv_txn_abort(txn->txn);
    txn->txn = NULL;
}

void player_txn(struct player *p, const struct op *op)
{
    struct player_txn *txn = &p->txns[op->slot % TXN_SLOTS];
    uint32_t space = op->space % MODEL_SPACES, key = op->key % MODEL_KEYS;
    if (op->kind == OP_begin) {
        txn_begin(p, txn, op);
    } else if (!txn->txn) {
        return;
    } else if (op->kind == OP_txn_get) {
        txn_get(p, txn, space, key);
    } else if (op->kind == OP_txn_put || op->kind == OP_txn_delete) {
        txn_write(p, txn, op, space, key);
    } else if (op->kind == OP_txn_scan) {
        txn_scan(p, txn, op);
    } else if (op->kind == OP_txn_commit) {
        txn_commit(p, txn, op);
    } else {
        kv_txn_abort(txn->txn);
        txn->txn = NULL;
    }
}
