#include "kvcore/db/merge_iter.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/list.h"
#include "kvcore/base/mem.h"

/* ---- several sources as one */

struct merge_source {
    struct kv_entry_iter *it;
    uint32_t age; /* as given: smaller is newer data, and wins ties */
};

struct merge_iter {
    struct kv_entry_iter it;
    struct merge_source *heap; /* the first `live` are a heap, smallest first; behind them those that ended */
    uint32_t n, live;
    kv_status failed; /* KV_OK, or what every next answers until a seek */
};

static bool merge_less(const struct merge_source *a, const struct merge_source *b)
{
    int c = kv_entry_compare(a->it->key, a->it->version, b->it->key, b->it->version);
    return c ? c < 0 : a->age < b->age;
}

static void merge_sink(struct merge_iter *merge, uint32_t at)
{
    struct merge_source moving = merge->heap[at];
    for (uint32_t child; (child = 2 * at + 1) < merge->live; at = child) {
        if (child + 1 < merge->live && merge_less(&merge->heap[child + 1], &merge->heap[child]))
            child++;
        if (!merge_less(&merge->heap[child], &moving))
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

static kv_status merge_seek(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    struct merge_iter *merge = KV_CONTAINER(it, struct merge_iter, it);
    merge->failed = KV_OK;
    merge->live = merge->n;
    for (uint32_t i = 0; i < merge->live;) {
        kv_status rc = kv_entry_iter_seek(merge->heap[i].it, key, version);
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

/* Moves the top source on and restores the heap. */
static kv_status merge_step_top(struct merge_iter *merge)
{
    kv_status rc = kv_entry_iter_next(merge->heap[0].it);
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
        if (merge->live > 2 && merge_less(&merge->heap[2], &merge->heap[1]))
            child = 2;
        kv_status rc = kv_entry_iter_next(merge->heap[child].it);
        if (rc < 0)
            return merge_fail(merge, rc);
        if (rc == KV_END)
            merge_retire(merge, child);
        if (child < merge->live)
            merge_sink(merge, child);
    }
    return KV_OK;
}

static kv_status merge_next(struct kv_entry_iter *it)
{
    struct merge_iter *merge = KV_CONTAINER(it, struct merge_iter, it);
    if (merge->failed < 0)
        return merge->failed;
    if (merge->live == 0)
        return KV_END;
    kv_status rc = merge_skip_copies(merge);
    if (rc == KV_OK)
        rc = merge_step_top(merge);
    return rc < 0 ? rc : merge_show(merge);
}

static void merge_close(struct kv_entry_iter *it)
{
    struct merge_iter *merge = KV_CONTAINER(it, struct merge_iter, it);
    for (uint32_t i = 0; i < merge->n; i++)
        kv_entry_iter_close(merge->heap[i].it);
    kv_free(merge->heap);
    kv_free(merge);
}

static const struct kv_entry_iter_ops merge_ops = {merge_seek, merge_next, merge_close};

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

/* The only source left in a merge, standing on the entry the merge shows; NULL while there are several. */
static struct kv_entry_iter *merge_sole(struct kv_entry_iter *it)
{
    if (it->ops != &merge_ops)
        return it;
    struct merge_iter *merge = KV_CONTAINER(it, struct merge_iter, it);
    return merge->live == 1 && merge->failed == KV_OK ? merge->heap[0].it : NULL;
}

/* ---- what a reader sees */

struct view_iter {
    struct kv_iter it;
    struct kv_entry_iter *source; /* owned */
    struct kv_entry_iter *at;     /* the source, or the one source left in it */
    uint64_t version;
    struct kv_buf target;
    struct kv_buf passed; /* the user key whose other versions are passed over */
    void (*closed)(void *ctx);
    void *closed_ctx;
};

static kv_status view_next_unique(struct kv_iter *it);
static kv_status view_next_sole(struct kv_iter *it);
static kv_status view_next(struct kv_iter *it);
static kv_status view_seek(struct kv_iter *it, kv_slice target);
static void view_close(struct kv_iter *it);

/* One table of `next` for each way to walk; the view changes its ops as sources end. */
static const struct kv_iter_ops view_ops = {view_seek, view_next, view_close};
static const struct kv_iter_ops view_ops_sole = {view_seek, view_next_sole, view_close};
static const struct kv_iter_ops view_ops_unique = {view_seek, view_next_unique, view_close};

/* Once one source is left it is walked directly, and without looking at keys and versions if it promises that
 * there is nothing to hide. The view stands on an entry of that source then, so nothing of it has been passed
 * over unseen. */
static void view_choose(struct view_iter *view)
{
    struct kv_entry_iter *sole = merge_sole(view->source);
    if (!sole)
        return;
    view->at = sole;
    view->it.ops =
        sole->unique_puts && sole->version_max <= view->version ? &view_ops_unique : &view_ops_sole;
}

static inline kv_status view_show(struct view_iter *view)
{
    view->it.key = view->at->key;
    view->it.value = view->at->value;
    return KV_OK;
}

/* rc: of the step that brought `at` to where it stands. Goes on to the first entry that is to be seen. */
static kv_status view_settle(struct view_iter *view, kv_status rc)
{
    for (; rc == KV_OK; rc = kv_entry_iter_next(view->at)) {
        const struct kv_entry_iter *at = view->at;
        if (at->version > view->version)
            continue; /* too new; an older one may follow */
        if (view->passed.len && kv_slice_equal(kv_buf_slice(&view->passed), at->key))
            continue; /* a newer one of this key was shown or is a deletion */
        kv_buf_clear(&view->passed);
        rc = kv_buf_append(&view->passed, at->key);
        if (rc < 0)
            return rc;
        if (at->kind == KV_KIND_PUT)
            return view_show(view);
    }
    return rc;
}

static kv_status view_next_unique(struct kv_iter *it)
{
    struct view_iter *view = KV_CONTAINER(it, struct view_iter, it);
    kv_status rc = kv_entry_iter_next(view->at);
    return rc == KV_OK ? view_show(view) : rc;
}

static kv_status view_next_sole(struct kv_iter *it)
{
    struct view_iter *view = KV_CONTAINER(it, struct view_iter, it);
    return view_settle(view, kv_entry_iter_next(view->at));
}

static kv_status view_next(struct kv_iter *it)
{
    struct view_iter *view = KV_CONTAINER(it, struct view_iter, it);
    kv_status rc = view_settle(view, kv_entry_iter_next(view->at));
    if (rc == KV_OK)
        view_choose(view);
    return rc;
}

static kv_status view_seek(struct kv_iter *it, kv_slice target)
{
    struct view_iter *view = KV_CONTAINER(it, struct view_iter, it);
    /* A copy: the target may be a key this iterator lent, and the sources move one after another. */
    kv_buf_clear(&view->target);
    kv_status rc = kv_buf_append(&view->target, target);
    if (rc < 0)
        return rc;
    kv_buf_clear(&view->passed);
    view->at = view->source;
    view->it.ops = &view_ops;
    rc = view_settle(view, kv_entry_iter_seek(view->source, kv_buf_slice(&view->target), KV_VERSION_MAX));
    if (rc == KV_OK)
        view_choose(view);
    return rc;
}

static void view_close(struct kv_iter *it)
{
    struct view_iter *view = KV_CONTAINER(it, struct view_iter, it);
    kv_entry_iter_close(view->source);
    if (view->closed)
        view->closed(view->closed_ctx);
    kv_buf_release(&view->target);
    kv_buf_release(&view->passed);
    kv_free(view);
}

kv_status kv_view_iter_open(struct kv_entry_iter *source, const struct kv_view_options *options,
                            struct kv_iter **out)
{
    struct view_iter *view = kv_zalloc(1, sizeof *view);
    if (!view)
        return KV_NO_MEMORY;
    view->it.ops = &view_ops;
    view->source = view->at = source;
    view->version = options->version;
    view->closed = options->closed;
    view->closed_ctx = options->closed_ctx;
    *out = &view->it;
    return KV_OK;
}
