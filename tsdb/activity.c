#include "kvcore/base/mem.h"
#include "kvcore/os/thread.h"
#include "tsdb/key.h"
#include "tsdb/postings.h"

struct window {
    int32_t window;
    bool unknown; /* memory ran out: any series may be active */
    struct ts_refset set;
};
struct ts_activity {
    kv_mutex lock;
    struct window *windows; /* sorted */
    size_t n, capacity;
    bool unknown_windows; /* not even a window could be added */
};

kv_status ts_activity_new(struct ts_activity **out)
{
    struct ts_activity *a = kv_zalloc(1, sizeof *a);
    if (!a)
        return KV_NO_MEMORY;
    kv_mutex_init(&a->lock);
    *out = a;
    return KV_OK;
}

void ts_activity_free(struct ts_activity *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->n; i++)
        ts_refset_release(&a->windows[i].set);
    kv_free(a->windows);
    kv_mutex_release(&a->lock);
    kv_free(a);
}

/* The first window at or after `window`. */
static size_t window_place(const struct ts_activity *a, int32_t window)
{
    size_t lo = 0, hi = a->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (a->windows[mid].window < window)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static struct window *window_make(struct ts_activity *a, int32_t window)
{
    size_t at = window_place(a, window);
    if (at < a->n && a->windows[at].window == window)
        return &a->windows[at];
    struct window *grown = kv_grow(a->windows, &a->capacity, a->n + 1, sizeof *grown);
    if (!grown)
        return NULL;
    a->windows = grown;
    memmove(a->windows + at + 1, a->windows + at, (a->n - at) * sizeof *a->windows);
    a->n++;
    a->windows[at] = (struct window){.window = window};
    return &a->windows[at];
}

kv_status ts_activity_add(struct ts_activity *a, int32_t window, uint64_t ref)
{
    kv_mutex_lock(&a->lock);
    struct window *w = window_make(a, window);
    kv_status rc = w ? ts_refset_add(&w->set, ref, NULL) : KV_NO_MEMORY;
    if (rc < 0) {
        if (w)
            w->unknown = true;
        else
            a->unknown_windows = true;
    }
    kv_mutex_unlock(&a->lock);
    return rc;
}

/* Locking changes nothing that a caller of a const function can see. */
static struct ts_activity *locked(const struct ts_activity *a)
{
    struct ts_activity *mutable = (struct ts_activity *)(uintptr_t)a;
    kv_mutex_lock(&mutable->lock);
    return mutable;
}

size_t ts_activity_windows(const struct ts_activity *activity, int32_t *out, size_t max)
{
    struct ts_activity *a = locked(activity);
    size_t n = a->n;
    for (size_t i = 0; i < n && i < max; i++)
        out[i] = a->windows[i].window;
    kv_mutex_unlock(&a->lock);
    return n;
}

uint64_t ts_activity_bytes(const struct ts_activity *activity)
{
    struct ts_activity *a = locked(activity);
    uint64_t bytes = sizeof *a + a->capacity * sizeof *a->windows;
    for (size_t i = 0; i < a->n; i++)
        bytes += a->windows[i].set.bytes;
    kv_mutex_unlock(&a->lock);
    return bytes;
}

kv_status ts_activity_collect(const struct ts_activity *activity, int32_t from, int32_t to, uint32_t metric,
                              struct ts_refset *set, bool *all)
{
    struct ts_activity *a = locked(activity);
    kv_status rc = KV_OK;
    if (a->unknown_windows)
        *all = true;
    for (size_t i = window_place(a, from); rc == KV_OK && i < a->n && a->windows[i].window <= to; i++) {
        struct window *w = &a->windows[i];
        if (w->unknown)
            *all = true;
        rc = metric ? ts_refset_or_metric(set, &w->set, metric) : ts_refset_or(set, &w->set);
    }
    kv_mutex_unlock(&a->lock);
    return rc;
}

struct each_window {
    int32_t window;
    kv_status (*each)(void *ctx, int32_t window, uint32_t metric, uint16_t batch, const uint16_t *members,
                      size_t n);
    void *ctx;
};

static kv_status each_batch(void *ctx, uint32_t metric, uint16_t batch, const uint16_t *members, size_t n)
{
    struct each_window *e = ctx;
    return e->each(e->ctx, e->window, metric, batch, members, n);
}

kv_status ts_activity_each(const struct ts_activity *activity,
                           kv_status (*each)(void *ctx, int32_t window, uint32_t metric, uint16_t batch,
                                             const uint16_t *members, size_t n),
                           void *ctx)
{
    struct ts_activity *a = locked(activity);
    kv_status rc = a->unknown_windows ? KV_NO_MEMORY : KV_OK;
    for (size_t i = 0; rc == KV_OK && i < a->n; i++) {
        struct each_window e = {a->windows[i].window, each, ctx};
        rc = a->windows[i].unknown ? KV_NO_MEMORY : ts_refset_each(&a->windows[i].set, each_batch, &e);
    }
    kv_mutex_unlock(&a->lock);
    return rc;
}
