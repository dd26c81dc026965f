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
    uint32_t n, live;
    bool backward;
    bool copies;       /* two sources were seen to stand on one and the same entry since the last seek */
    kv_status failed;  /* KV_OK, or what every next answers until a seek */
    struct kv_buf key; /* of the shown entry, while sources are moved to the other side of it */
    struct merge_source sources[]; /* the first `live` in the order they come on the way; behind them those
                                      that ended */
};

/* Does a come before b on the way the merge goes? */
static inline bool merge_less(struct merge_iter *merge, const struct merge_source *a,
                              const struct merge_source *b)
{
    int c = kv_entry_compare(a->it->key, a->it->version, b->it->key, b->it->version);
    if (KV_LIKELY(c != 0))
        return (c < 0) != merge->backward;
    merge->copies = true;
    return a->age < b->age;
}

/* The sources behind `at` are in order: it is put in its place among them. Mostly it is where it was, for sources are
 * of very different size. It is compared with both its neighbours to be, so that copies are not missed. */
static inline void merge_sort_in(struct merge_iter *merge, uint32_t at)
{
    struct merge_source moving = merge->sources[at];
    uint32_t low = at + 1, high = merge->live;
    if (low >= high || merge_less(merge, &moving, &merge->sources[low]))
        return;
    low++;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (merge_less(merge, &moving, &merge->sources[middle]))
            high = middle;
        else
            low = middle + 1;
    }
    for (uint32_t i = at; i + 1 < low; i++)
        merge->sources[i] = merge->sources[i + 1];
    merge->sources[low - 1] = moving;
}

/* The source at `at` has ended: those behind it close up. */
static void merge_retire(struct merge_iter *merge, uint32_t at)
{
    struct merge_source ended = merge->sources[at];
    merge->live--;
    for (uint32_t i = at; i < merge->live; i++)
        merge->sources[i] = merge->sources[i + 1];
    merge->sources[merge->live] = ended;
}

static kv_status merge_show(struct merge_iter *merge)
{
    if (merge->live == 0)
        return KV_END;
    const struct kv_entry_iter *top = merge->sources[0].it;
    merge->it.merging = merge->live;
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
    merge->copies = false;
    merge->live = merge->n;
    for (uint32_t i = 0; i < merge->live;) {
        struct kv_entry_iter *it = merge->sources[i].it;
        kv_status rc =
            backward ? kv_entry_iter_seek_before(it, key, version) : kv_entry_iter_seek(it, key, version);
        if (rc < 0)
            return merge_fail(merge, rc);
        if (rc == KV_END)
            merge_retire(merge, i);
        else
            i++;
    }
    for (uint32_t i = merge->live; i-- > 0;)
        merge_sort_in(merge, i);
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

/* Moves the source at `at` on, and to its place. */
static inline kv_status merge_step(struct merge_iter *merge, uint32_t at)
{
    struct kv_entry_iter *it = merge->sources[at].it;
    kv_status rc = merge->backward ? kv_entry_iter_prev(it) : kv_entry_iter_next(it);
    if (KV_LIKELY(rc == KV_OK))
        merge_sort_in(merge, at);
    else if (rc == KV_END)
        merge_retire(merge, at);
    else
        return merge_fail(merge, rc);
    return KV_OK;
}

/* Passes over the other copies of the shown entry while its source still stands on it. */
static kv_status merge_skip_copies(struct merge_iter *merge)
{
    while (merge->live > 1) {
        const struct kv_entry_iter *shown = merge->sources[0].it, *other = merge->sources[1].it;
        if (other->version != shown->version || !kv_slice_equal(other->key, shown->key))
            break;
        kv_status rc = merge_step(merge, 1);
        if (rc < 0)
            return rc;
    }
    return KV_OK;
}

static kv_status merge_go(struct merge_iter *merge)
{
    kv_status rc = merge->failed;
    if (rc < 0)
        return rc;
    if (merge->live == 0)
        return KV_END;
    if (merge->copies)
        rc = merge_skip_copies(merge);
    if (rc == KV_OK)
        rc = merge_step(merge, 0);
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
        kv_entry_iter_close(merge->sources[i].it);
    kv_buf_release(&merge->key);
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
    struct merge_iter *merge = kv_zalloc(1, sizeof *merge + n * sizeof(struct merge_source));
    if (!merge)
        return KV_NO_MEMORY;
    merge->it.ops = &merge_ops;
    merge->n = (uint32_t)n;
    for (uint32_t i = 0; i < merge->n; i++) {
        merge->sources[i] = (struct merge_source){sources[i], i};
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
    return merge->live == 1 && merge->failed == KV_OK ? merge->sources[0].it : NULL;
}
