#include "tests/model/player.h"
#include "kvcore/os/clock.h"

#include <inttypes.h>
#include <stdatomic.h>

/* ---- a batch */

static void remember(struct player *p, const struct op *op, uint64_t expires_at_s)
{
    p->pending = player_grown(p->pending, &p->pending_capacity, p->n_pending, sizeof *p->pending);
    p->pending[p->n_pending++] = (struct pending){*op, expires_at_s};
}

/* Written in parts; where it is long for the options, it gets a segment of its own. */
static kv_status batch_put_large(struct player *p, const struct op *op, kv_slice key, kv_slice value,
                                 const struct kv_put_options *options)
{
    struct kv_value_writer *writer = NULL;
    size_t first = value.len / 3;
    kv_status rc = kv_value_writer_open(p->db, op->space, &writer, &p->err);
    if (rc == KV_OK)
        rc = kv_value_writer_append(writer, kv_slice_of(value.data, first), &p->err);
    if (rc == KV_OK)
        rc = kv_value_writer_append(writer, kv_slice_from(value, first), &p->err);
    if (rc == KV_OK)
        rc = kv_value_writer_finish(writer, &p->err);
    if (rc == KV_OK)
        rc = kv_batch_put_value(p->batch, op->space, key, writer, options);
    kv_value_writer_free(writer);
    p->holds_large = true;
    return rc;
}

static kv_status batch_put(struct player *p, struct op *op, kv_slice key, uint64_t *expires)
{
    uint8_t bytes[MODEL_VALUE_MAX];
    kv_slice value = model_value(op->n, op->len, bytes);
    bool large = (op->how & 4) && op->space != SPACE_HOOK && !space_merges(op->space);
    if (op->space == SPACE_HOOK || !(op->how & 2)) {
        op->how = op->meta = 0;
        return large ? batch_put_large(p, op, key, value, NULL)
                     : kv_batch_put(p->batch, op->space, key, value);
    }
    *expires = op->ttl ? player_now_s(p) + op->ttl - 1 : 0;
    op->meta &= 0xff;
    struct kv_put_options options = {*expires, (uint8_t)op->meta, op->how & 1};
    return large ? batch_put_large(p, op, key, value, &options)
                 : kv_batch_put_with(p->batch, op->space, key, value, &options);
}

void player_batch(struct player *p, const struct op *asked)
{
    struct op op = *asked;
    uint64_t expires = 0;
    uint8_t bytes[16];
    op.space %= MODEL_SPACES;
    op.key %= MODEL_KEYS;
    kv_slice key = model_key(op.key);
    kv_status rc = KV_OK;
    if (op.kind == OP_put) {
        rc = batch_put(p, &op, key, &expires);
    } else if (op.kind == OP_delete) {
        rc = kv_batch_delete(p->batch, op.space, key);
    } else if (op.kind == OP_operand) {
        if (!space_merges(op.space))
            return;
        rc = kv_batch_merge(p->batch, op.space, key, model_operand(op.n, bytes));
    } else {
        op.lower = (op.lower ? op.lower - 1 : 0) % model_points();
        op.upper = (op.upper ? op.upper - 1 : 0) % model_points();
        if (op.lower >= op.upper)
            return;
        rc = kv_batch_delete_range(p->batch, op.space, model_point(op.lower), model_point(op.upper));
    }
    player_must(p, "filling a batch", rc, KV_OK);
    remember(p, &op, expires);
}

static void apply_pending(struct player *p)
{
    for (size_t i = 0; i < p->n_pending; i++) {
        const struct op *op = &p->pending[i].op;
        struct event event = {.n = op->n, .len = op->len, .meta = (uint8_t)op->meta, .ends = op->how & 1};
        event.expires_at_s = p->pending[i].expires_at_s;
        event.kind = op->kind == OP_put ? EVENT_PUT : op->kind == OP_delete ? EVENT_DELETE : EVENT_OPERAND;
        if (op->kind == OP_delete_range)
            model_add_range(&p->model, op->space, op->lower, op->upper);
        else
            model_add(&p->model, op->space, op->key, &event);
    }
    p->n_pending = 0;
}

void player_told(void *ctx, kv_status rc, uint64_t version)
{
    struct answer *answer = ctx;
    answer->rc = rc;
    answer->version = version;
    atomic_store(&answer->there, true);
}

void player_wait(struct player *p, struct answer *answer)
{
    while (!atomic_load(&answer->there)) {
        if (p->threads > 0) {
            kv_clock_sleep_ns(kv_clock_system(), 10000);
            continue;
        }
        kv_status rc = kv_work(p->db, &p->err);
        if (rc < 0 || (rc == KV_END && !atomic_load(&answer->there))) /* a sync that is due makes it, too */
            player_fail(p, "kv_work of a commit that is not waited for: %s: %s", kv_status_name(rc),
                        p->err.text);
    }
}

/* Waited for, or not. */
static kv_status commit(struct player *p, const struct op *op, const struct kv_commit_options *options,
                        uint64_t *seq)
{
    struct answer answer = {0};
    if (!(op->how & 2) || p->holds_large) /* those are waited for */
        return kv_commit(p->db, p->batch, options, seq, &p->err);
    kv_status rc = kv_commit_async(p->db, p->batch, options, player_told, &answer, &p->err);
    if (rc < 0)
        return rc;
    player_wait(p, &answer);
    *seq = answer.version;
    return answer.rc;
}

void player_commit(struct player *p, const struct op *op)
{
    uint8_t bytes[16];
    struct kv_commit_options options = {0};
    uint64_t seq = 0;
    if (op->how & 1)
        options.record = player_record(op->n, bytes);
    if (p->n_pending == 0 && !(op->how & 1))
        return;
    p->record_expected = op->how & 1;
    p->record_n = op->n;
    player_must(p, "kv_commit", commit(p, op, &options, &seq), KV_OK);
    if (seq != p->model.version + 1 || kv_seq(p->db) != seq)
        player_fail(p, "the commit is %" PRIu64 " and %" PRIu64 " is visible", seq, kv_seq(p->db));
    p->model.version = seq;
    p->model.stamp++;
    if (op->how & 1) {
        if (p->record_expected || p->record_seq != seq)
            player_fail(p, "its record was not applied");
        model_add_record(&p->model, seq, op->n);
    }
    apply_pending(p);
    kv_batch_clear(p->batch);
    p->holds_large = false;
    player_note(p, seq);
}

/* ---- loads */

static uint32_t load_end(const struct op *op)
{
    return model_bound_end(op->upper);
}

static void load_open(struct player *p, struct player_load *load, const struct op *op)
{
    uint8_t bytes[MODEL_VALUE_MAX];
    kv_bulk_abort(load->bulk);
    *load = (struct player_load){.op = *op};
    load->op.space %= MODEL_SPACES;
    load->op.len += load->op.len == 0;
    player_must(p, "kv_bulk_open", kv_bulk_open(p->db, load->op.space, &load->bulk, &p->err), KV_OK);
    for (uint32_t k = model_bound_first(op->lower); k < load_end(op); k += load->op.len)
        player_must(p, "kv_bulk_add",
                    kv_bulk_add(load->bulk, model_key(k), model_value(op->n + k, k % 7 * 9, bytes), &p->err),
                    KV_OK);
}

static void install(struct player *p, struct player_load *load, const struct op *op)
{
    uint64_t floor = op->how & 1 ? p->model.version * (op->meta % 101) / 100 : 0, seq = 0;
    bool empty = model_bound_first(load->op.lower) >= load_end(&load->op);
    struct kv_bulk *bulk = load->bulk;
    load->bulk = NULL;
    player_must(p, "kv_bulk_install", kv_bulk_install(bulk, floor, &seq, &p->err), KV_OK);
    p->floor = floor > p->floor ? floor : p->floor;
    p->model.stamp++;
    if (empty) {
        p->model.version = kv_seq(p->db);
        return;
    }
    if (seq != p->model.version + 1 || kv_seq(p->db) != seq)
        player_fail(p, "the load is %" PRIu64 " and %" PRIu64 " is visible", seq, kv_seq(p->db));
    p->model.version = p->loading = seq;
    for (uint32_t k = model_bound_first(load->op.lower); k < load_end(&load->op); k += load->op.len) {
        struct event event = {.kind = EVENT_LOADED, .n = load->op.n + k, .len = k % 7 * 9};
        model_add(&p->model, load->op.space, k, &event);
    }
    player_note(p, seq);
}

void player_load(struct player *p, const struct op *op)
{
    struct player_load *load = &p->loads[op->slot % LOAD_SLOTS];
    if (op->kind == OP_load)
        load_open(p, load, op);
    else if (load->bulk && op->kind == OP_install)
        install(p, load, op);
    else {
        kv_bulk_abort(load->bulk);
        load->bulk = NULL;
    }
}

/* ---- drops: what goes depends on how the tables lie, what was deleted or overwritten must not come back */

static void drop_look(struct player *p, uint32_t space, uint32_t key)
{
    struct model_found expected;
    struct kv_pinned got;
    struct event event = {.kind = EVENT_DROPPED};
    bool had = model_get(&p->model, p->model.stamp - 1, player_now_s(p), space, key, &expected);
    kv_status rc = kv_get(p->db, NULL, space, model_key(key), &got, &p->err);
    if (rc == KV_NOT_FOUND && had)
        model_add(&p->model, space, key, &event);
    else
        player_compare(p, "after a drop, get", rc, had ? &expected : NULL, got.value, got.version,
                       got.expires_at_s, got.meta);
    kv_pinned_release(&got);
}

void player_drop(struct player *p, const struct op *op)
{
    uint32_t space = op->space % MODEL_SPACES;
    if (space_merges(space) || space == SPACE_VERSIONS)
        return; /* older entries that still count may go */
    for (size_t i = 0; i < TXN_SLOTS; i++)
        if (p->txns[i].txn)
            return; /* drops are not for data that transactions read */
    player_must(p, "kv_flush", kv_flush(p->db, &p->err), KV_OK);
    player_must(p, "kv_drop_tables",
                kv_drop_tables(p->db, space, model_bound(op->lower), model_bound(op->upper), NULL, &p->err),
                KV_OK);
    p->model.stamp++;
    for (uint32_t k = model_bound_first(op->lower); k < model_bound_end(op->upper); k++)
        drop_look(p, space, k);
    player_clear_marks(p);
}
