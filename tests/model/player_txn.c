#include "tests/model/player.h"
#include "kvcore/base/mem.h"

#include <inttypes.h>

static void forget(struct player_txn *txn)
{
    for (size_t s = 0; s < MODEL_SPACES; s++)
        for (size_t k = 0; k < MODEL_KEYS; k++)
            txn->own[s][k].n = 0;
    memset(txn->read, 0, sizeof txn->read);
    txn->n_ranges = txn->n_deleted = 0;
    txn->wrote = false;
}

void player_txn_release(struct player_txn *txn)
{
    for (size_t s = 0; s < MODEL_SPACES; s++)
        for (size_t k = 0; k < MODEL_KEYS; k++)
            kv_free(txn->own[s][k].at);
    kv_free(txn->ranges);
    kv_free(txn->deleted);
}

static void txn_begin(struct player *p, struct player_txn *txn, const struct op *op)
{
    const struct player_snapshot *at =
        op->snap && (op->how & 1) ? &p->snapshots[(op->snap - 1) % SNAP_SLOTS] : NULL;
    struct kv_txn_options options = {.read_only = op->how & 1, .snapshot = at ? at->snapshot : NULL};
    kv_txn_abort(txn->txn);
    forget(txn);
    txn->read_only = op->how & 1;
    player_must(p, "kv_txn_begin", kv_txn_begin(p->db, &options, &txn->txn, &p->err), KV_OK);
    txn->version = kv_txn_version(txn->txn);
    txn->stamp = options.snapshot ? at->stamp : p->model.stamp;
    txn->expires_ns = kv_clock_mono_ns(&p->clock.base) + (uint64_t)KV_TXN_AGE_MS_DEFAULT * 1000000;
    if (!options.snapshot && txn->version != p->model.version)
        player_fail(p, "a transaction begins at %" PRIu64, txn->version);
}

/* What the transaction sees of a key. */
static bool txn_sees(struct player *p, struct player_txn *txn, uint32_t space, uint32_t key,
                     struct model_found *out, bool *reads)
{
    return model_get_over(&p->model, txn->stamp, player_now_s(p), space, key, &txn->own[space][key], out,
                          reads);
}

static void txn_get(struct player *p, struct player_txn *txn, uint32_t space, uint32_t key)
{
    struct model_found expected;
    struct kv_pinned got;
    bool reads, has = txn_sees(p, txn, space, key, &expected, &reads);
    kv_status rc = kv_txn_get(txn->txn, space, model_key(key), &got, &p->err);
    txn->read[space][key] |= reads;
    if (has && txn->own[space][key].n)
        got.version = expected.version = 0;
    player_compare(p, "a transaction's get", rc, has ? &expected : NULL, got.value, got.version,
                   got.expires_at_s, got.meta);
    kv_pinned_release(&got);
}

static void did(struct player_txn *txn, uint32_t space, uint32_t key, const struct event *event)
{
    events_add(&txn->own[space][key], event);
    txn->wrote = true;
}

static void txn_put(struct player *p, struct player_txn *txn, const struct op *op, uint32_t space,
                    uint32_t key)
{
    uint8_t bytes[MODEL_VALUE_MAX];
    kv_slice value = model_value(op->n, op->len, bytes);
    struct event event = {.kind = EVENT_PUT, .n = op->n, .len = op->len};
    struct kv_put_options options = {0};
    bool with = space != SPACE_HOOK && (op->how & 2);
    if (with) {
        event.expires_at_s = options.expires_at_s = op->ttl ? player_now_s(p) + op->ttl - 1 : 0;
        event.meta = options.meta = (uint8_t)op->meta;
        event.ends = options.ends_history = op->how & 1;
    }
    kv_status rc = with ? kv_txn_put_with(txn->txn, space, model_key(key), value, &options, &p->err)
                        : kv_txn_put(txn->txn, space, model_key(key), value, &p->err);
    player_must(p, "a transaction's put", rc, txn->read_only ? KV_INVALID : KV_OK);
    if (rc == KV_OK)
        did(txn, space, key, &event);
}

static void txn_delete_range(struct player *p, struct player_txn *txn, const struct op *op, uint32_t space)
{
    uint32_t lower = (op->lower ? op->lower - 1 : 0) % model_points();
    uint32_t upper = (op->upper ? op->upper - 1 : 0) % model_points();
    if (lower >= upper)
        return;
    kv_status rc = kv_txn_delete_range(txn->txn, space, model_point(lower), model_point(upper), &p->err);
    player_must(p, "a transaction's range deletion", rc, txn->read_only ? KV_INVALID : KV_OK);
    if (rc < 0)
        return;
    for (uint32_t k = model_point_first_key(lower); k < model_point_first_key(upper); k++)
        did(txn, space, k, &(struct event){.kind = EVENT_RANGE});
    txn->deleted = player_grown(txn->deleted, &txn->deleted_capacity, txn->n_deleted, sizeof *txn->deleted);
    txn->deleted[txn->n_deleted++] = (struct txn_range){space, lower, upper};
    txn->wrote = true;
}

static void txn_write(struct player *p, struct player_txn *txn, const struct op *op, uint32_t space,
                      uint32_t key)
{
    uint8_t bytes[16];
    struct event event = {.kind = op->kind == OP_txn_delete ? EVENT_DELETE : EVENT_OPERAND, .n = op->n};
    if (op->kind == OP_txn_put) {
        txn_put(p, txn, op, space, key);
        return;
    }
    if (op->kind == OP_txn_delete_range) {
        txn_delete_range(p, txn, op, space);
        return;
    }
    if (op->kind == OP_txn_operand && !space_merges(space))
        return;
    kv_status rc = op->kind == OP_txn_delete
                       ? kv_txn_delete(txn->txn, space, model_key(key), &p->err)
                       : kv_txn_merge(txn->txn, space, model_key(key), model_operand(op->n, bytes), &p->err);
    player_must(p, "a transaction's write", rc, txn->read_only ? KV_INVALID : KV_OK);
    if (rc == KV_OK)
        did(txn, space, key, &event);
}

/* ---- walking */

static void walked(struct player_txn *txn, uint32_t space, uint32_t lower, uint32_t upper)
{
    txn->ranges = player_grown(txn->ranges, &txn->ranges_capacity, txn->n_ranges, sizeof *txn->ranges);
    txn->ranges[txn->n_ranges++] = (struct txn_range){space, lower, upper};
}

/* The key that is shown next on the way, from k on; -1: none in [first, end). */
static int txn_shown(struct player *p, struct player_txn *txn, uint32_t space, int k, int first, int end,
                     bool backward, struct model_found *expected)
{
    bool reads;
    for (; k >= first && k < end; k += backward ? -1 : 1)
        if (txn_sees(p, txn, space, (uint32_t)k, expected, &reads))
            return k;
    return -1;
}

static void txn_compare(struct player *p, const struct player_txn *txn, uint32_t space, int k,
                        const struct kv_iter *it, const struct model_found *expected)
{
    uint64_t version = txn->own[space][k].n ? 0 : expected->version;
    if (!kv_slice_equal(it->key, model_key((uint32_t)k)) || !kv_slice_equal(it->value, expected->value) ||
        it->version != version || it->expires_at_s != expected->expires_at_s || it->meta != expected->meta)
        player_fail(p,
                    "a transaction's iterator shows key %d with %zu bytes, version %" PRIu64
                    ", expiry %" PRIu64 ", meta %d instead of %d with %zu, %" PRIu64 ", %" PRIu64 ", %d",
                    model_find_key(it->key), it->value.len, it->version, it->expires_at_s, it->meta, k,
                    expected->value.len, version, expected->expires_at_s, expected->meta);
    player_note_slice(p, it->value);
}

/* Seeks and makes so many steps. */
static void txn_walk(struct player *p, struct player_txn *txn, struct kv_iter *it, uint32_t space,
                     const struct op *op, uint32_t target)
{
    bool backward = op->how & 2;
    uint32_t lower = op->lower ? (op->lower - 1) % model_points() : 0, steps = op->n;
    uint32_t upper = op->upper ? (op->upper - 1) % model_points() : MODEL_POINTS;
    uint32_t from = target ? (target - 1) % model_points() : backward ? MODEL_POINTS : 0;
    from = backward ? (from > upper ? upper : from) : (from < lower ? lower : from);
    int first = (int)model_point_first_key(lower), end = (int)model_bound_end(op->upper);
    int k = (int)model_point_first_key(from) - (backward ? 1 : 0);
    kv_status rc =
        backward ? kv_iter_seek_before(it, model_bound(target)) : kv_iter_seek(it, model_bound(target));
    for (;; k += backward ? -1 : 1, steps--) {
        struct model_found expected;
        k = txn_shown(p, txn, space, k, first, end, backward, &expected);
        if (rc != KV_OK && rc != KV_END)
            player_must(p, "a transaction's iterator", rc, KV_OK);
        if ((rc == KV_OK) != (k >= 0))
            player_fail(p, "a transaction's iterator: %s where key %d should be", kv_status_name(rc), k);
        player_note(p, (uint64_t)rc);
        if (rc == KV_END)
            break;
        txn_compare(p, txn, space, k, it, &expected);
        if (steps == 0)
            break;
        rc = backward ? kv_iter_prev(it) : kv_iter_next(it);
    }
    if (txn->read_only)
        return;
    if (backward)
        walked(txn, space, rc == KV_OK ? model_key_point((uint32_t)k) : lower, from);
    else
        walked(txn, space, from, rc == KV_OK ? model_key_point((uint32_t)k) + 1 : upper);
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
        for (uint32_t k = 0; k < MODEL_KEYS; k++)
            for (size_t i = 0; i < txn->own[s][k].n; i++)
                model_add(&p->model, s, k, &txn->own[s][k].at[i]);
    for (size_t i = 0; i < txn->n_deleted; i++)
        model_note_range(&p->model, txn->deleted[i].space, txn->deleted[i].lower, txn->deleted[i].upper);
}

/* Waited for, or not. */
static kv_status commit(struct player *p, struct player_txn *txn, const struct op *op,
                        struct kv_txn_commit_options *options, uint64_t *version)
{
    struct answer answer = {0};
    if (!(op->how & 4))
        return kv_txn_commit(txn->txn, options, version, &p->err);
    options->done = player_told;
    options->done_ctx = &answer;
    kv_status rc = kv_txn_commit_async(txn->txn, options, &p->err);
    if (rc < 0)
        return rc;
    player_wait(p, &answer);
    *version = answer.version;
    return answer.rc;
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
    player_must(p, "kv_txn_commit", commit(p, txn, op, &options, &version), expected);
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
    } else if (op->kind == OP_txn_put || op->kind == OP_txn_delete || op->kind == OP_txn_operand ||
               op->kind == OP_txn_delete_range) {
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
