#include "tsdb/head.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "tsdb/generation.h"

struct ts_head {
    struct ts_head_options options;
    kv_mutex apply_lock, list_lock;
    struct ts_generation *generations[TS_GENERATIONS_MAX]; /* these four: list lock */
    size_t n;
    struct ts_tombstones *tombstones;
    uint64_t next_seq;
    struct ts_generation *active; /* the last of generations; changed under both locks */
    atomic_int failed;
};

/* ---- applying ---------------------------------------------------------------------------------------- */

static kv_status head_fail(struct ts_head *head, kv_status rc)
{
    if (rc < 0)
        atomic_store(&head->failed, rc);
    return rc;
}

void ts_head_fail(struct ts_head *head, kv_status why)
{
    (void)head_fail(head, why);
}

kv_status ts_head_failed(const struct ts_head *head)
{
    return (kv_status)atomic_load(&((struct ts_head *)(uintptr_t)head)->failed);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* What all generations may take, and the records of one, while so many series are active. */
static uint64_t head_bytes_max(const struct ts_head *head, uint64_t series)
{
    return head->options.bytes_max ? head->options.bytes_max
                                   : larger(TS_HEAD_BYTES_DEFAULT, series * TS_HEAD_SERIES_BYTES);
}

static uint64_t head_log_bytes_max(const struct ts_head *head, uint64_t series)
{
    return head->options.log_bytes_max ? head->options.log_bytes_max
                                       : larger(TS_HEAD_BYTES_DEFAULT, series * TS_HEAD_SERIES_LOG_BYTES);
}

/* Apply lock held. */
static bool generation_full(const struct ts_head *head, struct ts_generation *g)
{
    return g->log_bytes >= head_log_bytes_max(head, g->n_series) ||
           atomic_load(&g->bytes) >= head_bytes_max(head, g->n_series) / 2 ||
           kv_clock_mono_ns(head->options.clock) - g->opened_ns >= head->options.age_ns_max;
}

/* Apply lock held. */
static kv_status head_rotate(struct ts_head *head)
{
    struct ts_generation *next = ts_generation_new();
    if (!next)
        return KV_NO_MEMORY;
    kv_mutex_lock(&head->list_lock);
    bool room = head->n < TS_GENERATIONS_MAX;
    if (room) {
        head->active->frozen = true;
        head->generations[head->n++] = head->active = next;
    }
    kv_mutex_unlock(&head->list_lock);
    if (!room)
        ts_generation_unpin(next);
    return room ? KV_OK : KV_BUSY;
}

kv_status ts_head_rotate(struct ts_head *head, bool force)
{
    kv_mutex_lock(&head->apply_lock);
    struct ts_generation *g = head->active;
    kv_status rc = ts_head_failed(head);
    if (rc == KV_OK && g->first_seq != 0 && (force || generation_full(head, g)))
        rc = head_rotate(head);
    kv_mutex_unlock(&head->apply_lock);
    return rc;
}

/* Apply lock held. What readers see of the whole generation. */
static void head_publish(struct ts_head *head, struct ts_generation *g, uint64_t seq, size_t log_bytes,
                         const struct ts_applied *applied)
{
    atomic_store(&g->bytes, ts_generation_bytes(g));
    kv_mutex_lock(&head->list_lock);
    if (g->first_seq == 0) {
        g->first_seq = seq;
        g->opened_ns = kv_clock_mono_ns(head->options.clock);
    }
    g->last_seq = seq;
    g->samples += applied->samples;
    g->log_bytes += log_bytes;
    if (applied->min_ms < g->min_ms)
        g->min_ms = applied->min_ms;
    if (applied->max_ms > g->max_ms)
        g->max_ms = applied->max_ms;
    head->next_seq = seq + 1;
    kv_mutex_unlock(&head->list_lock);
}

kv_status ts_head_samples(struct ts_head *head, uint64_t seq, kv_slice body)
{
    kv_status rc = ts_head_failed(head);
    if (rc < 0)
        return rc;
    kv_mutex_lock(&head->apply_lock);
    if (head->active->first_seq != 0 && generation_full(head, head->active))
        (void)head_rotate(head); /* no memory or no place for one more: the active one grows on, ts_head_room
                                    slows writers */
    struct ts_generation *g = head->active;
    struct ts_applied applied = {.min_ms = INT64_MAX, .max_ms = INT64_MIN};
    rc = head_fail(head, ts_generation_apply(g, body, &applied));
    head_publish(head, g, seq, body.len, &applied);
    kv_mutex_unlock(&head->apply_lock);
    return rc;
}

kv_status ts_head_delete(struct ts_head *head, uint64_t seq, kv_slice record,
                         struct ts_tombstones *tombstones)
{
    kv_status rc = ts_head_failed(head);
    kv_mutex_lock(&head->apply_lock);
    struct ts_generation *g = head->active;
    struct ts_applied none = {.min_ms = INT64_MAX, .max_ms = INT64_MIN};
    if (rc == KV_OK)
        rc = head_fail(head, ts_generation_erase(g, record));
    head_publish(head, g, seq, record.len, &none);
    kv_mutex_unlock(&head->apply_lock);
    if (tombstones) {
        kv_mutex_lock(&head->list_lock);
        struct ts_tombstones *old = head->tombstones;
        head->tombstones = tombstones;
        kv_mutex_unlock(&head->list_lock);
        ts_tombstones_unref(old);
    }
    return rc;
}

/* ---- the head's life --------------------------------------------------------------------------------- */

kv_status ts_head_new(const struct ts_head_options *options, struct ts_head **out)
{
    struct ts_head *head = kv_zalloc(1, sizeof *head);
    if (!head)
        return KV_NO_MEMORY;
    head->options = *options;
    kv_mutex_init(&head->apply_lock);
    kv_mutex_init(&head->list_lock);
    atomic_init(&head->failed, KV_OK);
    head->generations[0] = head->active = ts_generation_new();
    if (!head->active) {
        ts_head_free(head);
        return KV_NO_MEMORY;
    }
    head->n = 1;
    head->next_seq = options->next_seq;
    *out = head;
    return KV_OK;
}

void ts_head_free(struct ts_head *head)
{
    if (!head)
        return;
    for (size_t i = 0; i < head->n; i++)
        ts_generation_unpin(head->generations[i]);
    ts_tombstones_unref(head->tombstones);
    kv_mutex_release(&head->apply_lock);
    kv_mutex_release(&head->list_lock);
    kv_free(head);
}

kv_status ts_head_prepend(struct ts_head *head, struct ts_head *older)
{
    kv_status rc = ts_head_failed(older);
    if (rc < 0)
        return head_fail(head, rc);
    rc = ts_head_rotate(older, true);
    if (rc < 0)
        return rc;
    kv_mutex_lock(&head->apply_lock);
    kv_mutex_lock(&head->list_lock);
    size_t n = older->n - 1; /* its last one is empty */
    if (head->n + n > TS_GENERATIONS_MAX) {
        rc = KV_BUSY;
    } else {
        memmove(head->generations + n, head->generations, head->n * sizeof(struct ts_generation *));
        memcpy(head->generations, older->generations, n * sizeof(struct ts_generation *));
        head->n += n;
        older->generations[0] = older->generations[n];
        older->n = 1;
    }
    kv_mutex_unlock(&head->list_lock);
    kv_mutex_unlock(&head->apply_lock);
    return rc;
}

struct ts_generation *ts_head_oldest(struct ts_head *head)
{
    kv_mutex_lock(&head->list_lock);
    struct ts_generation *g = head->n > 1 ? ts_generation_pin(head->generations[0]) : NULL;
    kv_mutex_unlock(&head->list_lock);
    return g;
}

void ts_head_drop(struct ts_head *head, struct ts_generation *generation)
{
    kv_mutex_lock(&head->list_lock);
    KV_ASSERT(head->n > 1 && head->generations[0] == generation);
    memmove(head->generations, head->generations + 1, --head->n * sizeof(struct ts_generation *));
    kv_mutex_unlock(&head->list_lock);
    ts_generation_unpin(generation);
}

void ts_head_stats(struct ts_head *head, struct ts_head_stats *out)
{
    *out = (struct ts_head_stats){.time_min_ms = INT64_MAX, .time_max_ms = INT64_MIN};
    kv_mutex_lock(&head->list_lock);
    out->frozen = (uint32_t)head->n - 1;
    for (size_t i = 0; i < head->n; i++) {
        struct ts_generation *g = head->generations[i];
        uint32_t series = ts_generation_series(g);
        out->samples += g->samples;
        out->bytes += atomic_load(&g->bytes);
        if (series > out->series)
            out->series = series;
        if (g->min_ms < out->time_min_ms)
            out->time_min_ms = g->min_ms;
        if (g->max_ms > out->time_max_ms)
            out->time_max_ms = g->max_ms;
    }
    kv_mutex_unlock(&head->list_lock);
}

bool ts_head_room(struct ts_head *head, uint64_t bytes)
{
    kv_mutex_lock(&head->list_lock);
    uint64_t used = 0, series = 0;
    for (size_t i = 0; i < head->n; i++) {
        used += atomic_load(&head->generations[i]->bytes);
        series = larger(series, ts_generation_series(head->generations[i]));
    }
    /* With nothing frozen there is nothing to wait for. */
    bool room =
        head->n == 1 || (used + bytes <= head_bytes_max(head, series) && head->n < TS_GENERATIONS_MAX / 2);
    kv_mutex_unlock(&head->list_lock);
    return room;
}

uint64_t ts_head_floor(struct ts_head *head)
{
    kv_mutex_lock(&head->list_lock);
    uint64_t seq = head->next_seq;
    for (size_t i = 0; i < head->n; i++) {
        if (head->generations[i]->first_seq != 0) {
            seq = head->generations[i]->first_seq;
            break;
        }
    }
    kv_mutex_unlock(&head->list_lock);
    return seq;
}

bool ts_head_has_window(struct ts_head *head, int32_t window)
{
    bool has = false;
    kv_mutex_lock(&head->list_lock);
    for (size_t i = 0; i < head->n && !has; i++) {
        struct ts_generation *g = head->generations[i];
        has =
            g->min_ms <= g->max_ms && ts_window_of(g->min_ms) <= window && window <= ts_window_of(g->max_ms);
    }
    kv_mutex_unlock(&head->list_lock);
    return has;
}

/* ---- reading ----------------------------------------------------------------------------------------- */

kv_status ts_head_pin(struct ts_head *head, struct ts_head_pin *out)
{
    *out = (struct ts_head_pin){0};
    kv_status rc = ts_head_failed(head);
    if (rc < 0)
        return rc;
    kv_mutex_lock(&head->list_lock);
    for (size_t i = 0; i < head->n; i++) {
        struct ts_generation *g = head->generations[i];
        out->generations[out->n] = ts_generation_pin(g);
        out->seqs[out->n++] = g->frozen ? g->last_seq : UINT64_MAX;
    }
    out->tombstones = ts_tombstones_ref(head->tombstones);
    kv_mutex_unlock(&head->list_lock);
    return KV_OK;
}

void ts_head_unpin(struct ts_head_pin *pin)
{
    for (size_t i = 0; i < pin->n; i++)
        ts_generation_unpin(pin->generations[i]);
    ts_tombstones_unref(pin->tombstones);
    *pin = (struct ts_head_pin){0};
}

kv_status ts_head_edit_tombstones(struct ts_head *head,
                                  kv_status (*edit)(void *ctx, const struct ts_tombstones *now,
                                                    struct ts_tombstones **next),
                                  void *ctx)
{
    kv_mutex_lock(&head->list_lock);
    struct ts_tombstones *old = head->tombstones, *next = NULL;
    kv_status rc = edit(ctx, old, &next);
    if (rc == KV_OK)
        head->tombstones = next;
    kv_mutex_unlock(&head->list_lock);
    if (rc == KV_OK)
        ts_tombstones_unref(old);
    return rc;
}
