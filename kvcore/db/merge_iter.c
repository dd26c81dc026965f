#include "kvcore/db/merge_iter.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/list.h"
#include "kvcore/base/mem.h"

/* ---- several sources as one */

struct merge_source {
    struct kv_entry_iter *it;
    uint32_t age; /* as given: smaller is newer data, and wins ties */
};

struct merge_iter {
    struct kv_entry_iter it;
    struct merge_source *heap; /* the first `live` are a heap, what comes next on top; behind them those that
                                  ended */
    uint32_t n, live;
    bool backward;
    kv_status failed;  /* KV_OK, or what every next answers until a seek */
    struct kv_buf key; /* of the shown entry, while sources are moved to the other side of it */
};

/* Does a come before b on the way the merge goes? */
static inline bool merge_less(const struct merge_iter *merge, const struct merge_source *a,
                              const struct merge_source *b)
{
    int c = kv_entry_compare(a->it->key, a->it->version, b->it->key, b->it->version);
    return c ? (c < 0) != merge->backward : a->age < b->age;
}

static void merge_sink(struct merge_iter *merge, uint32_t at)
{
    struct merge_source moving = merge->heap[at];
    for (uint32_t child; (child = 2 * at + 1) < merge->live; at = child) {
        if (child + 1 < merge->live && merge_less(merge, &merge->heap[child + 1], &merge->heap[child]))
            child++;
        if (!merge_less(merge, &merge->heap[child], &moving))
            break;
        merge->heap[at] = merge->heap[child];
    }
    merge->heap[at] = moving;
}

/* The source at `at` has ended: it changes places with the last live one. */
static void merge_retire(struct merge_iter *merge, uint32_t at)
{
    struct merge_source ended = merge->heap[at];
    merge->live--;
    merge->heap[at] = merge->heap[merge->live];
    merge->heap[merge->live] = ended;
}

static kv_status merge_show(struct merge_iter *merge)
{
    if (merge->live == 0)
        return KV_END;
    const struct kv_entry_iter *top = merge->heap[0].it;
    merge->it.key = top->key;
    merge->it.value = top->value;
    merge->it.version = top->version;
    merge->it.kind = top->kind;
    return KV_OK;
}

static kv_status merge_fail(struct merge_iter *merge, kv_status rc)
{
    merge->failed = rc;
    merge->live = 0;
    return rc;
}

/* Puts every source at (key, version), or in front of it, and shows what comes first on the way. */
static kv_status merge_place(struct merge_iter *merge, bool backward, kv_slice key, uint64_t version)
{
    merge->failed = KV_OK;
    merge->backward = backward;
    merge->live = merge->n;
    for (uint32_t i = 0; i < merge->live;) {
        struct kv_entry_iter *it = merge->heap[i].it;
        kv_status rc =
            backward ? kv_entry_iter_seek_before(it, key, version) : kv_entry_iter_seek(it, key, version);
        if (rc < 0)
            return merge_fail(merge, rc);
        if (rc == KV_END)
            merge_retire(merge, i);
        else
            i++;
    }
    for (uint32_t i = merge->live / 2; i-- > 0;)
        merge_sink(merge, i);
    return merge_show(merge);
}

static kv_status merge_seek(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    return merge_place(KV_CONTAINER(it, struct merge_iter, it), false, key, version);
}

static kv_status merge_seek_before(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    return merge_place(KV_CONTAINER(it, struct merge_iter, it), true, key, version);
}

/* Moves the top source on and restores the heap. */
static kv_status merge_step(const struct merge_iter *merge, struct kv_entry_iter *it)
{
    return merge->backward ? kv_entry_iter_prev(it) : kv_entry_iter_next(it);
}

static kv_status merge_step_top(struct merge_iter *merge)
{
    kv_status rc = merge_step(merge, merge->heap[0].it);
    if (rc < 0)
        return merge_fail(merge, rc);
    if (rc == KV_END)
        merge_retire(merge, 0);
    if (merge->live > 1)
        merge_sink(merge, 0);
    return KV_OK;
}

/* True when a child of the top holds the very entry the top shows. */
static bool merge_top_repeats(const struct merge_iter *merge)
{
    const struct kv_entry_iter *top = merge->heap[0].it;
    for (uint32_t child = 1; child <= 2 && child < merge->live; child++) {
        const struct kv_entry_iter *other = merge->heap[child].it;
        if (other->version == top->version && kv_slice_equal(other->key, top->key))
            return true;
    }
    return false;
}

/* Passes over the other copies of the shown entry while the top still stands on it. */
static kv_status merge_skip_copies(struct merge_iter *merge)
{
    while (merge_top_repeats(merge)) {
        uint32_t child = 1;
        if (merge->live > 2 && merge_less(merge, &merge->heap[2], &merge->heap[1]))
            child = 2;
        kv_status rc = merge_step(merge, merge->heap[child].it);
        if (rc < 0)
            return merge_fail(merge, rc);
        if (rc == KV_END)
            merge_retire(merge, child);
        if (child < merge->live)
            merge_sink(merge, child);
    }
    return KV_OK;
}

static kv_status merge_go(struct merge_iter *merge)
{
    if (merge->failed < 0)
        return merge->failed;
    if (merge->live == 0)
        return KV_END;
    kv_status rc = merge_skip_copies(merge);
    if (rc == KV_OK)
        rc = merge_step_top(merge);
    return rc < 0 ? rc : merge_show(merge);
}

/* The shown entry's key, where no source's move can touch it. */
static kv_status merge_hold_key(struct merge_iter *merge)
{
    kv_buf_clear(&merge->key);
    kv_status rc = kv_buf_append(&merge->key, merge->it.key);
    return rc < 0 ? merge_fail(merge, rc) : rc;
}

static kv_status merge_next(struct kv_entry_iter *it)
{
    struct merge_iter *merge = KV_CONTAINER(it, struct merge_iter, it);
    if (merge->backward && merge->failed == KV_OK) {
        kv_status rc = merge_hold_key(merge);
        if (rc == KV_OK)
            rc = merge_place(merge, false, kv_buf_slice(&merge->key), it->version);
        if (rc < 0)
            return rc;
    }
    return merge_go(merge);
}

static kv_status merge_prev(struct kv_entry_iter *it)
{
    struct merge_iter *merge = KV_CONTAINER(it, struct merge_iter, it);
    if (merge->backward || merge->failed < 0)
        return merge_go(merge);
    kv_status rc = merge_hold_key(merge);
    return rc < 0 ? rc : merge_place(merge, true, kv_buf_slice(&merge->key), it->version);
}

static void merge_close(struct kv_entry_iter *it)
{
    struct merge_iter *merge = KV_CONTAINER(it, struct merge_iter, it);
    for (uint32_t i = 0; i < merge->n; i++)
        kv_entry_iter_close(merge->heap[i].it);
    kv_buf_release(&merge->key);
    kv_free(merge->heap);
    kv_free(merge);
}

static const struct kv_entry_iter_ops merge_ops = {merge_seek, merge_next, merge_seek_before, merge_prev,
                                                   merge_close};

kv_status kv_merge_iter_open(struct kv_entry_iter **sources, size_t n, struct kv_entry_iter **out)
{
    if (n == 1) {
        *out = sources[0];
        return KV_OK;
    }
    if (n > KV_MERGE_SOURCES_MAX)
        return KV_LIMIT;
    struct merge_iter *merge = kv_zalloc(1, sizeof *merge);
    struct merge_source *heap = kv_zalloc(n, sizeof *heap);
    if (!merge || !heap) {
        kv_free(merge);
        kv_free(heap);
        return KV_NO_MEMORY;
    }
    merge->it.ops = &merge_ops;
    merge->heap = heap;
    merge->n = (uint32_t)n;
    for (uint32_t i = 0; i < merge->n; i++) {
        heap[i] = (struct merge_source){sources[i], i};
        if (sources[i]->version_max > merge->it.version_max)
            merge->it.version_max = sources[i]->version_max;
    }
    *out = &merge->it;
    return KV_OK;
}

struct kv_entry_iter *kv_merge_iter_sole(struct kv_entry_iter *it)
{
    if (it->ops != &merge_ops)
        return it;
    struct merge_iter *merge = KV_CONTAINER(it, struct merge_iter, it);
    return merge->live == 1 && merge->failed == KV_OK ? merge->heap[0].it : NULL;
}
