#include "tests/model/player.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/hash.h"
#include "kvcore/base/mem.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

void player_fail(struct player *p, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "operation %zu: ", p->at);
    if (p->at < p->history->n)
        history_print_op(&p->history->ops[p->at], stderr);
    fprintf(stderr, "  version %" PRIu64 ": ", p->model.version);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

void player_must(struct player *p, const char *what, kv_status rc, kv_status expected)
{
    if (rc != expected)
        player_fail(p, "%s answered %s instead of %s: %s", what, kv_status_name(rc), kv_status_name(expected),
                    rc < 0 ? p->err.text : "");
}

void player_note(struct player *p, uint64_t answer)
{
    p->hash = (p->hash ^ answer) * 0x9e3779b97f4a7c15u;
    p->hash ^= p->hash >> 29;
}

void player_note_slice(struct player *p, kv_slice answer)
{
    player_note(p, kv_hash64(answer, 1));
}

uint64_t player_now_s(struct player *p)
{
    return (uint64_t)kv_clock_wall_ms(&p->clock.base) / 1000;
}

void *player_grown(void *old, size_t *capacity, size_t n, size_t size)
{
    if (n < *capacity)
        return old;
    *capacity = *capacity ? *capacity * 2 : 16;
    void *more = kv_realloc(old, *capacity * size);
    KV_ASSERT(more != NULL);
    return more;
}

kv_slice player_record(uint32_t n, uint8_t out[16])
{
    return kv_slice_of(out, (size_t)snprintf((char *)out, 16, "r%u", n));
}

/* ---- one operation */

static void sync_all(struct player *p)
{
    player_must(p, "kv_sync", kv_sync(p->db, &p->err), KV_OK);
    p->durable = p->model.version;
}

static void snapshot(struct player *p, const struct op *op)
{
    struct player_snapshot *slot = &p->snapshots[op->slot % SNAP_SLOTS];
    kv_snapshot_close(slot->snapshot);
    *slot = (struct player_snapshot){0};
    if (op->kind == OP_unsnapshot)
        return;
    player_must(p, "kv_snapshot_open", kv_snapshot_open(p->db, &slot->snapshot), KV_OK);
    slot->stamp = p->model.stamp;
    if (kv_snapshot_seq(slot->snapshot) != p->model.version)
        player_fail(p, "a snapshot at %" PRIu64, kv_snapshot_seq(slot->snapshot));
}

static void work(struct player *p, const struct op *op)
{
    kv_status rc = p->threads ? KV_END : KV_OK;
    for (uint32_t i = 0; i < op->n && rc == KV_OK; i++)
        rc = kv_work(p->db, &p->err);
    if (rc != KV_OK && rc != KV_END)
        player_must(p, "kv_work", rc, KV_OK);
}

static void merge(struct player *p, const struct op *op)
{
    uint32_t space = op->space % MODEL_SPACES;
    bool held_back = false; /* the hook may not see what a live transaction has yet to notice */
    for (size_t i = 0; i < TXN_SLOTS; i++)
        held_back = held_back || (p->txns[i].txn && !p->txns[i].read_only && space == SPACE_HOOK);
    kv_status rc = kv_merge_range(p->db, space, model_bound(op->lower), model_bound(op->upper), &p->err);
    if (rc != KV_CONFLICT || !held_back)
        player_must(p, "kv_merge_range", rc, KV_OK);
}

static void play(struct player *p, const struct op *op)
{
    switch (op->kind) {
    case OP_put:
    case OP_delete:
    case OP_delete_range:
    case OP_operand:
        player_batch(p, op);
        break;
    case OP_commit:
        player_commit(p, op);
        break;
    case OP_get:
        player_get(p, op);
        break;
    case OP_scan:
        player_scan(p, op);
        break;
    case OP_versions:
        player_versions(p, op);
        break;
    case OP_snapshot:
    case OP_unsnapshot:
        snapshot(p, op);
        break;
    case OP_iter:
    case OP_seek:
    case OP_seek_before:
    case OP_next:
    case OP_prev:
    case OP_iter_close:
        player_iter(p, op);
        break;
    case OP_begin:
    case OP_txn_get:
    case OP_txn_put:
    case OP_txn_delete:
    case OP_txn_operand:
    case OP_txn_delete_range:
    case OP_txn_scan:
    case OP_txn_commit:
    case OP_abort:
        player_txn(p, op);
        break;
    case OP_load:
    case OP_install:
    case OP_load_abort:
        player_load(p, op);
        break;
    case OP_flush:
        player_must(p, "kv_flush", kv_flush(p->db, &p->err), KV_OK);
        break;
    case OP_work:
        work(p, op);
        break;
    case OP_merge:
        merge(p, op);
        break;
    case OP_drop:
        player_drop(p, op);
        break;
    case OP_sync:
        sync_all(p);
        break;
    case OP_verify:
        player_verify(p);
        break;
    default:
        player_life(p, op);
    }
}

static void mark(struct player *p, uint64_t began)
{
    uint64_t now = vfs_crash_ops(p->crash);
    if (now == began && p->n_marks > 0)
        return;
    p->marks = player_grown(p->marks, &p->marks_capacity, p->n_marks, sizeof *p->marks);
    p->marks[p->n_marks++] = (struct mark){began, now, p->model.version, p->durable, p->floor, p->loading};
}

uint64_t player_run(const struct history *history, uint64_t *played)
{
    struct player *p = kv_zalloc(1, sizeof *p);
    KV_ASSERT(p != NULL);
    *p = (struct player){.history = history, .made_under = history->options, .path = "db"};
    p->threads = history->threads;
    p->memory = kv_vfs_mem_new();
    KV_ASSERT(p->memory != NULL && kv_batch_new(&p->batch) == KV_OK);
    clock_manual_init(&p->clock, 1700000000000, history->options + 1);
    option_set_make(history->options, p->made_under, &p->set);
    player_open(p, false);
    for (; p->at < history->n; p->at++, *played += 1) {
        bool recorded = p->crash != NULL;
        uint64_t began = recorded ? vfs_crash_ops(p->crash) : 0;
        p->loading = 0;
        play(p, &history->ops[p->at]);
        if (p->set.options.durability <= KV_DURABILITY_ALWAYS)
            p->durable = p->model.version;
        if (recorded && p->crash)
            mark(p, began);
    }
    player_verify(p);
    player_life(p, &(struct op){.kind = OP_settle});
    player_close(p);
    player_unfollow(p);
    uint64_t hash = p->hash;
    vfs_crash_free(p->crash);
    kv_vfs_mem_free(p->memory);
    clock_manual_release(&p->clock);
    model_release(&p->model);
    kv_batch_free(p->batch);
    kv_free(p->pending);
    kv_free(p->marks);
    for (size_t i = 0; i < TXN_SLOTS; i++)
        player_txn_release(&p->txns[i]);
    kv_free(p);
    return hash;
}
