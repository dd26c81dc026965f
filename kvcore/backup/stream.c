/*
 * kv_stream: one moment is pinned and its key range cut where tables begin, into about four ranges of equal bytes a thread; each thread
 * takes the next range nobody has, walks it, and sends full batches, one thread at a time.
 */
#include "kvcore/base/mem.h"
#include "kvcore/db/db.h"

#include <inttypes.h>
#include <stdlib.h>

enum { RANGES_PER_THREAD = 4 };

struct stream {
    struct kv_db *db;
    const struct kv_stream_options *options;
    const struct kv_snapshot *snapshot;
    struct kv_view *view; /* holds what the cuts point into */
    kv_slice *cuts;       /* between ranges */
    size_t n_cuts;
    size_t batch_bytes;
    _Atomic uint32_t next; /* range */
    _Atomic bool stop;
    kv_mutex mutex; /* guards what follows; held while sending */
    kv_status rc;   /* the first failure */
    struct kv_err err;
};

/* A batch being filled. Entries lie in bytes one behind another, so their places follow from their lengths. */
struct filling {
    struct kv_buf bytes;
    struct kv_stream_entry *entries;
    size_t n, capacity;
};

static void stream_failed(struct stream *s, kv_status rc, const struct kv_err *err)
{
    kv_mutex_lock(&s->mutex);
    if (s->rc == KV_OK) {
        s->rc = rc;
        s->err = *err;
    }
    s->stop = true;
    kv_mutex_unlock(&s->mutex);
}

static kv_status filling_add(struct filling *f, const struct kv_iter *it)
{
    kv_status rc;
    struct kv_stream_entry *grown = kv_grow(f->entries, &f->capacity, f->n + 1, sizeof *grown);
    if (!grown)
        return KV_NO_MEMORY;
    f->entries = grown;
    KV_TRY(kv_buf_append(&f->bytes, it->key));
    KV_TRY(kv_buf_append(&f->bytes, it->value));
    f->entries[f->n++] = (struct kv_stream_entry){.key.len = it->key.len,
                                                  .value.len = it->value.len,
                                                  .version = it->version,
                                                  .expires_at_s = it->expires_at_s,
                                                  .meta = it->meta,
                                                  .deleted = it->deleted};
out:
    return rc;
}

static kv_status filling_send(struct stream *s, struct filling *f, uint32_t range, bool done,
                              struct kv_err *err)
{
    const uint8_t *at = f->bytes.data;
    for (size_t i = 0; i < f->n; i++) {
        f->entries[i].key.data = at;
        f->entries[i].value.data = at + f->entries[i].key.len;
        at += f->entries[i].key.len + f->entries[i].value.len;
    }
    struct kv_stream_batch batch = {.range = range, .done = done, .entries = f->entries, .n = f->n};
    kv_mutex_lock(&s->mutex);
    kv_status rc = s->rc == KV_OK ? s->options->send(s->options->ctx, &batch, err)
                                  : KV_CANCELED; /* another thread failed */
    kv_mutex_unlock(&s->mutex);
    f->n = 0;
    kv_buf_clear_keep(&f->bytes, 2 * s->batch_bytes);
    return rc < 0 ? rc : KV_OK;
}

static kv_status walk(struct stream *s, struct kv_iter *it, uint32_t range, struct filling *f,
                      struct kv_err *err)
{
    const struct kv_stream_options *o = s->options;
    kv_status rc;
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK && !s->stop; rc = kv_iter_next(it)) {
        if (o->choose && !o->choose(o->ctx, it->key))
            continue;
        if (it->large_bytes)
            return kv_fail(err, KV_LIMIT, 0,
                           "key %.*s%s: a value of %" PRIu64
                           " bytes, over %d, cannot be streamed or exported; checkpoints and backups have it",
                           it->key.len < 80 ? (int)it->key.len : 80, (const char *)it->key.data,
                           it->key.len < 80 ? "" : "...", it->large_bytes, KV_VALUE_LEN_MAX);
        if (filling_add(f, it) < 0)
            return kv_fail(err, KV_NO_MEMORY, 0, "out of memory streaming");
        if (f->bytes.len >= s->batch_bytes) {
            rc = filling_send(s, f, range, false, err);
            if (rc < 0)
                return rc;
        }
    }
    if (rc == KV_CORRUPT && kv_db_aside_in(s->db, s->db->ids[o->space], o->lower, o->upper, err) < 0)
        return rc;
    if (rc < 0)
        return kv_fail(err, rc, 0, "reading range %" PRIu32 " of a stream: %s", range, kv_status_text(rc));
    return s->stop ? KV_CANCELED : filling_send(s, f, range, true, err);
}

static kv_status stream_range(struct stream *s, uint32_t range, struct filling *f, struct kv_err *err)
{
    const struct kv_stream_options *o = s->options;
    struct kv_iter_options how = {.snapshot = s->snapshot,
                                  .lower = range > 0 ? s->cuts[range - 1] : o->lower,
                                  .upper = range < s->n_cuts ? s->cuts[range] : o->upper,
                                  .since = o->since,
                                  .all_versions = o->all_versions,
                                  .keys_only = o->keys_only,
                                  .large_values = true,
                                  .no_fill = true};
    struct kv_iter *it = NULL;
    kv_status rc = kv_iter_open_with(s->db, o->space, &how, &it);
    rc = rc < 0 ? kv_fail(err, rc, 0, "opening range %" PRIu32 " of a stream: %s", range, kv_status_text(rc))
                : walk(s, it, range, f, err);
    kv_iter_close(it);
    return rc;
}

static void stream_run(void *ctx)
{
    struct stream *s = ctx;
    struct filling f = {0};
    struct kv_err err = {0};
    kv_status rc = KV_OK;
    while (rc == KV_OK && !s->stop) {
        uint32_t range = s->next++;
        if (range > s->n_cuts)
            break;
        rc = stream_range(s, range, &f, &err);
    }
    if (rc < 0)
        stream_failed(s, rc, &err);
    kv_buf_release(&f.bytes);
    kv_free(f.entries);
}

/* ---- where to cut */

static int compare_items(const void *a, const void *b)
{
    const struct kv_tree_item *const *x = a, *const *y = b;
    return kv_slice_compare((*x)->properties->smallest, (*y)->properties->smallest);
}

/* Where a table of the range begins, whenever enough bytes have gathered before it. */
static void choose_cuts(struct stream *s, const struct kv_tree_item **items, size_t n, size_t ranges)
{
    const struct kv_stream_options *o = s->options;
    uint64_t total = 0, gathered = 0;
    for (size_t i = 0; i < n; i++)
        total += items[i]->properties->file_bytes;
    for (size_t i = 0; i < n && s->n_cuts + 1 < ranges; i++) {
        kv_slice key = items[i]->properties->smallest;
        kv_slice last = s->n_cuts ? s->cuts[s->n_cuts - 1] : o->lower;
        if (gathered >= total / ranges && kv_slice_compare(key, last) > 0) {
            s->cuts[s->n_cuts++] = key;
            gathered = 0;
        }
        gathered += items[i]->properties->file_bytes;
    }
}

static kv_status stream_cut(struct stream *s, int threads)
{
    const struct kv_stream_options *o = s->options;
    const struct kv_tree *tree = &s->view->version->trees[s->db->ids[o->space]];
    size_t ranges = (size_t)threads * RANGES_PER_THREAD, n = 0;
    const struct kv_tree_item **items = kv_alloc((tree->n_items + 1) * sizeof(const struct kv_tree_item *));
    s->cuts = kv_alloc(ranges * sizeof *s->cuts);
    if (!items || !s->cuts) {
        kv_free(items);
        return KV_NO_MEMORY;
    }
    for (size_t i = 0; i < tree->n_items; i++) {
        const struct kv_table_properties *p = tree->items[i].properties;
        if (kv_slice_compare(p->largest, o->lower) >= 0 &&
            (!o->upper.len || kv_slice_compare(p->smallest, o->upper) < 0))
            items[n++] = &tree->items[i];
    }
    if (n > 1)
        qsort(items, n, sizeof(const struct kv_tree_item *), compare_items);
    if (threads > 1)
        choose_cuts(s, items, n, ranges);
    kv_free(items);
    return KV_OK;
}

static void stream_threads(struct stream *s, int threads)
{
    kv_thread others[KV_STREAM_THREADS_MAX];
    int started = 0;
    /* A thread that cannot be had is done without. */
    while (started + 1 < threads && (size_t)started < s->n_cuts &&
           kv_thread_start(&others[started], "kv-stream", 0, stream_run, s) == KV_OK)
        started++;
    stream_run(s);
    for (int i = 0; i < started; i++)
        kv_thread_join(&others[i]);
}

kv_status kv_stream(struct kv_db *db, const struct kv_stream_options *options, uint64_t *version,
                    struct kv_err *err)
{
    struct stream s = {.db = db, .options = options, .snapshot = options->snapshot};
    struct kv_snapshot *own = NULL;
    uint64_t at = 0;
    int threads = options->threads ? options->threads : 4;
    kv_status rc = KV_OK;
    if (!options->send || !kv_space_known(db, options->space) || threads < 1 ||
        threads > KV_STREAM_THREADS_MAX || options->lower.len > KV_KEY_LEN_MAX ||
        options->upper.len > KV_KEY_LEN_MAX)
        return kv_fail(err, KV_INVALID, 0,
                       "a stream needs a space that exists (not %" PRIu32
                       "), send, 1 to %d threads (not %d) and possible bounds",
                       options->space, KV_STREAM_THREADS_MAX, threads);
    s.batch_bytes = options->batch_bytes ? options->batch_bytes : KV_STREAM_BATCH_BYTES;
    if (!s.snapshot) {
        rc = kv_snapshot_open(db, &own);
        s.snapshot = own;
    }
    if (rc == KV_OK) {
        s.view = kv_snapshot_view(db, s.snapshot, &at);
        rc = stream_cut(&s, threads);
    }
    if (rc < 0) {
        kv_fail(err, rc, 0, "out of memory starting a stream");
    } else {
        kv_mutex_init(&s.mutex);
        stream_threads(&s, threads);
        kv_mutex_release(&s.mutex);
        rc = s.rc;
        if (rc < 0)
            kv_err_copy(err, &s.err);
        if (version)
            *version = at;
    }
    kv_view_unref(s.view);
    kv_snapshot_close(own);
    kv_free(s.cuts);
    return rc;
}
