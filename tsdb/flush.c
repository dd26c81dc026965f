/*
 * From a frozen generation to tables: one sorted run of chunks, window by window and series by series,
 * installed together with the floor that says its log is not needed any more. Page: tsdb/docs/head.md.
 */
#include "kvcore/base/mem.h"
#include "tsdb/db.h"

#include <stdlib.h>

struct flush_slot {
    uint64_t ref;
    uint32_t slot;
};

struct flush {
    struct ts_db *db;
    struct ts_generation *generation;
    uint64_t seq; /* of every chunk it makes: the generation's last */
    struct flush_slot *slots;
    size_t n_slots;
    struct ts_head_cursor *cursors; /* by slot; NULL where all samples lie in one window */
    struct ts_window_add *windows;
    size_t n_windows;
    struct kv_bulk *bulk;
    struct kv_buf encoded;
    struct ts_columns samples;
    struct ts_head_scratch scratch;
    struct ts_window_add *add; /* the window at hand */
    struct kv_err *err;
};

static int flush_by_ref(const void *a, const void *b)
{
    uint64_t x = ((const struct flush_slot *)a)->ref, y = ((const struct flush_slot *)b)->ref;
    return (x > y) - (x < y);
}

static kv_status flush_prepare(struct flush *f)
{
    size_t n = f->n_slots = ts_generation_series(f->generation);
    f->slots = kv_alloc(n * sizeof *f->slots);
    const struct ts_activity *activity = ts_generation_activity(f->generation);
    f->n_windows = ts_activity_windows(activity, NULL, 0);
    f->windows = kv_zalloc(f->n_windows, sizeof *f->windows);
    f->cursors = f->n_windows > 1 ? kv_zalloc(n, sizeof *f->cursors) : NULL;
    int32_t *numbers = kv_alloc(f->n_windows * sizeof *numbers);
    if (!f->slots || (f->n_windows > 1 && !f->cursors) || !f->windows || !numbers) {
        kv_free(numbers);
        return KV_NO_MEMORY;
    }
    (void)ts_activity_windows(activity, numbers, f->n_windows);
    for (size_t i = 0; i < f->n_windows; i++) {
        f->windows[i].window = numbers[i];
        f->windows[i].finished = ts_window_finished(numbers[i], atomic_load(&f->db->clock_ms));
    }
    kv_free(numbers);
    for (uint32_t i = 0; i < n; i++)
        f->slots[i] = (struct flush_slot){ts_generation_ref(f->generation, i), i};
    if (n > 1)
        qsort(f->slots, n, sizeof *f->slots, flush_by_ref);
    return KV_OK;
}

static kv_status flush_add(void *ctx, kv_slice key, kv_slice value)
{
    struct flush *f = ctx;
    f->add->chunks++;
    f->add->bytes += value.len;
    return kv_bulk_add(f->bulk, key, value, f->err);
}

static void flush_note_times(struct ts_window_add *add, int64_t first_ms, int64_t last_ms)
{
    if (add->chunks == 0 || first_ms < add->first_ms)
        add->first_ms = first_ms;
    if (add->chunks == 0 || last_ms > add->last_ms)
        add->last_ms = last_ms;
}

static kv_status flush_window(struct flush *f, struct ts_window_add *add)
{
    int64_t start = ts_window_start_ms(add->window);
    f->add = add;
    for (size_t i = 0; i < f->n_slots; i++) {
        const struct flush_slot *slot = &f->slots[i];
        struct ts_head_cursor whole = {.at = 0};
        f->samples.n = 0;
        kv_status rc =
            ts_generation_walk(f->generation, slot->slot, start, start + TS_WINDOW_MS - 1,
                               f->cursors ? &f->cursors[slot->slot] : &whole, &f->scratch, &f->samples);
        if (rc == KV_OK && f->samples.n > 0)
            flush_note_times(add, f->samples.times_ms[0], f->samples.times_ms[f->samples.n - 1]);
        if (rc == KV_OK)
            rc = ts_window_encode(&f->samples, add->window, slot->ref, f->seq, add->finished, &f->encoded,
                                  flush_add, f);
        if (rc < 0)
            return rc;
    }
    return KV_OK;
}

/* Activity and facts first, so that a crash in between leaves more of them than there is, never less. */
static kv_status flush_commit_index(struct flush *f)
{
    struct kv_batch *batch = NULL;
    kv_status rc;
    KV_TRY(kv_batch_new(&batch));
    KV_TRY(ts_index_put_activity(f->db->registry, ts_generation_activity(f->generation), batch, f->err));
    KV_TRY(ts_windows_stage(f->db->windows, f->windows, f->n_windows, batch));
    if (kv_batch_count(batch) > 0)
        KV_TRY(kv_commit(f->db->kv, batch, NULL, NULL, f->err));
out:
    kv_batch_free(batch);
    return rc;
}

/* Windows of which nothing is left after deletes. */
static void flush_forget_empty(struct flush *f)
{
    size_t n = 0;
    for (size_t i = 0; i < f->n_windows; i++) {
        atomic_fetch_add(&f->db->counters.chunks_flushed, f->windows[i].chunks);
        if (f->windows[i].chunks > 0)
            f->windows[n++] = f->windows[i];
    }
    f->n_windows = n;
}

static kv_status flush_generation(struct ts_db *db, struct ts_head *head, struct ts_generation *generation,
                                  struct kv_err *err)
{
    struct flush f = {
        .db = db, .generation = generation, .seq = ts_generation_last_seq(generation), .err = err};
    kv_status rc;
    if (err)
        *err = (struct kv_err){0};
    KV_TRY(flush_prepare(&f));
    KV_TRY(kv_bulk_open(db->kv, TS_SPACE_CHUNKS, &f.bulk, err));
    for (size_t i = 0; i < f.n_windows; i++)
        KV_TRY(flush_window(&f, &f.windows[i]));
    flush_forget_empty(&f);
    KV_TRY(flush_commit_index(&f));
    struct kv_bulk *bulk = f.bulk;
    f.bulk = NULL; /* freed by the install, whatever it answers */
    KV_TRY(kv_bulk_install(bulk, f.seq + 1, NULL, err));
    ts_windows_added(db->windows, f.windows, f.n_windows);
    ts_head_drop(head, generation);
    atomic_fetch_add(&db->counters.flushes, 1);
out:
    kv_bulk_abort(f.bulk);
    kv_free(f.slots);
    kv_free(f.cursors);
    kv_free(f.windows);
    kv_buf_release(&f.encoded);
    ts_columns_release(&f.samples);
    ts_head_scratch_release(&f.scratch);
    if (rc < 0 && err && err->code == KV_OK)
        (void)kv_fail(err, rc, 0, "flushing the head: %s", kv_status_text(rc));
    return rc;
}

kv_status ts_flush_frozen_of(struct ts_db *db, struct ts_head *head, struct kv_err *err)
{
    kv_status rc = KV_OK;
    struct ts_generation *g;
    (void)ts_retention_clock_ms(db);
    if ((rc = ts_head_failed(head)) <
        0) /* a generation may lack part of a record: only the log has it whole */
        return kv_fail(err, rc, 0, "the head has failed (%s); nothing is flushed from it",
                       kv_status_text(rc));
    while (rc >= 0 && (g = ts_head_oldest(head)) != NULL) {
        rc = flush_generation(db, head, g, err);
        ts_generation_unpin(g);
    }
    return rc < 0 ? rc : KV_OK;
}

kv_status ts_flush_frozen(struct ts_db *db, struct kv_err *err)
{
    return ts_flush_frozen_of(db, db->head, err);
}
