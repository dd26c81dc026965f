#include "kvcore/db/view_iter.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/list.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/fold.h"
#include "kvcore/db/merge_iter.h"
#include "kvcore/sst/block.h"

struct view_iter {
    struct kv_iter it;
    struct kv_entry_iter *source; /* owned */
    struct kv_entry_iter *at;     /* the source, or the one source left in it */
    struct kv_view_options how;
    uint64_t now_s; /* as of the last seek or change of direction */
    bool backward;
    bool ahead;           /* `at` stands behind what is shown already: */
    kv_status ahead_rc;   /* with this answer */
    struct kv_buf target; /* of a seek: the caller's key may be one that is lent */
    struct kv_buf passed; /* the user key whose other versions are passed over */
    struct kv_buf value;  /* backward: of the entry to be shown */
    struct kv_fold fold;
    struct kv_block *held; /* of the value log: what is shown lies in it */
};

static kv_status view_next_unique(struct kv_iter *it);
static kv_status view_prev_unique(struct kv_iter *it);
static kv_status view_next(struct kv_iter *it);
static kv_status view_prev(struct kv_iter *it);
static kv_status view_seek(struct kv_iter *it, kv_slice target);
static kv_status view_seek_before(struct kv_iter *it, kv_slice target);
static void view_close(struct kv_iter *it);

/* A table of calls for each way to walk; the view changes its ops as sources end. */
static const struct kv_iter_ops view_ops = {view_seek, view_next, view_seek_before, view_prev, view_close};
static const struct kv_iter_ops view_ops_unique = {view_seek, view_next_unique, view_seek_before, view_prev,
                                                   view_close};
static const struct kv_iter_ops view_ops_unique_back = {view_seek, view_next, view_seek_before,
                                                        view_prev_unique, view_close};

/* Once one source is left on the way it is walked directly. The view stands on an entry of that source then, so
 * nothing of it has been passed over unseen. True: it promises that there is nothing to hide, so it may be walked
 * without looking at keys and versions. */
static bool view_walk_unique(struct view_iter *view)
{
    struct kv_entry_iter *sole = view->source->merging > 1 ? NULL : kv_merge_iter_sole(view->source);
    if (!sole)
        return false;
    view->at = sole;
    return sole->unique_puts && sole->version_max <= view->how.version && !view->how.covered &&
           !view->how.since && !view->how.keys_only;
}

static kv_status view_step(struct view_iter *view)
{
    return view->backward ? kv_entry_iter_prev(view->at) : kv_entry_iter_next(view->at);
}

/* ---- showing an entry */

static inline void view_show(struct view_iter *view, kv_slice key, uint64_t version, kv_slice value,
                             const struct kv_attrs *attrs)
{
    view->it.key = key;
    view->it.value = value;
    if (view->how.keys_only) {
        view->it.stored_bytes = value.len;
        view->it.value = kv_slice_of(NULL, 0);
    }
    view->it.version = version;
    view->it.expires_at_s = attrs->expires_at_s;
    view->it.meta = attrs->meta;
    view->it.deleted = false;
    view->it.large_bytes = 0;
}

static bool view_covered(struct view_iter *view, kv_slice key, uint64_t version)
{
    return view->how.covered && view->how.covered(view->how.ctx, key, view->how.version) > version;
}

/* *value, a pointer, becomes the value it leads to, good until the next call, or *large its length; with keys alone its
 * stored length and no bytes. */
static kv_status view_fetch(struct view_iter *view, kv_slice *value, uint64_t *large)
{
    struct kv_pointer pointer;
    kv_slice rest = *value;
    kv_block_unref(view->held);
    view->held = NULL;
    if (view->how.keys_only) {
        kv_status taken = kv_pointer_take(value, &pointer);
        *value = kv_slice_of(NULL, (size_t)pointer.len);
        return taken;
    }
    if (view->how.large_values && kv_pointer_take(&rest, &pointer) == KV_OK &&
        pointer.value_len > KV_VALUE_LEN_MAX) {
        *large = pointer.value_len;
        *value = (kv_slice){0};
        return KV_OK;
    }
    kv_status rc = view->how.fetch(view->how.ctx, *value, &view->held);
    if (rc == KV_OK)
        *value = view->held->bytes;
    return rc;
}

/* Shows a put of whichever kind. KV_NOT_FOUND: it has expired; it is set to be shown as a deletion then. */
static kv_status view_show_put(struct view_iter *view, const struct kv_entry *entry)
{
    struct kv_attrs attrs = {0};
    kv_slice value = entry->value;
    uint64_t large = 0;
    kv_status rc = KV_OK;
    if (entry->kind == KV_KIND_RICH || entry->kind == KV_KIND_POINTER)
        rc = kv_attrs_take(&value, &attrs);
    else if (entry->kind != KV_KIND_PUT)
        rc = KV_UNSUPPORTED;
    bool expired = kv_attrs_expired(&attrs, view->now_s);
    if (rc == KV_OK && entry->kind == KV_KIND_POINTER && !expired)
        rc = view_fetch(view, &value, &large);
    if (rc < 0)
        return rc;
    view_show(view, entry->key, entry->version, value, &attrs);
    view->it.deleted = expired;
    view->it.large_bytes = large;
    return expired ? KV_NOT_FOUND : KV_OK;
}

static kv_status view_fold_add(struct view_iter *view, const struct kv_entry_iter *at)
{
    if (at->kind != KV_KIND_POINTER)
        return kv_fold_add(&view->fold, at->version, at->kind, at->value);
    struct kv_attrs attrs;
    kv_slice pointer = at->value, value;
    struct kv_block *block = NULL;
    kv_status rc = kv_attrs_take(&pointer, &attrs);
    if (rc == KV_OK)
        rc = view->how.fetch(view->how.ctx, pointer, &block);
    if (rc < 0)
        return rc;
    value = block->bytes;
    rc = kv_fold_add_base(&view->fold, at->version, &attrs, value);
    kv_block_unref(block);
    return rc;
}

/* `at` stands on the newest visible entry of the key in `passed`, a merge entry: takes the operands with what
 * they apply to, and shows what they come to. `at` then stands behind them. */
static kv_status view_show_folded(struct view_iter *view, uint64_t version)
{
    kv_slice key = kv_buf_slice(&view->passed), value = {0};
    struct kv_attrs attrs;
    kv_status rc = KV_OK;
    if (!view->how.merge)
        return KV_UNSUPPORTED;
    kv_fold_clear(&view->fold);
    do {
        const struct kv_entry_iter *at = view->at;
        if (at->kind == KV_KIND_DELETE || view_covered(view, key, at->version))
            break;
        rc = view_fold_add(view, at);
        if (rc == KV_OK)
            rc = kv_entry_iter_next(view->at);
        else if (rc == KV_END)
            break;
    } while (rc == KV_OK && kv_slice_equal(view->at->key, key));
    if (rc < 0)
        return rc;
    rc = kv_fold_run(&view->fold, view->how.merge, key, view->now_s, &attrs, &value);
    if (rc == KV_OK)
        view_show(view, key, version, value, &attrs);
    return rc;
}

/* ---- forward */

/* `at` stands on the newest visible entry of a key, which is in `passed`. KV_NOT_FOUND: nothing to be seen. */
static kv_status view_resolve(struct view_iter *view)
{
    const struct kv_entry_iter *at = view->at;
    if (at->kind == KV_KIND_DELETE || at->version <= view->how.since ||
        view_covered(view, at->key, at->version))
        return KV_NOT_FOUND;
    if (KV_LIKELY(at->kind == KV_KIND_PUT)) {
        view_show(view, at->key, at->version, at->value, &(struct kv_attrs){0});
        return KV_OK;
    }
    if (at->kind != KV_KIND_MERGE) {
        struct kv_entry entry = {at->key, at->version, at->kind, at->value};
        return view_show_put(view, &entry);
    }
    kv_status rc = view_show_folded(view, at->version);
    /* The source may have ended or stand on another key: found out when the next step asks it. */
    view->ahead = rc == KV_OK;
    return rc;
}

/* rc: of the step that brought `at` to where it stands. Goes on to the first entry that is to be seen. */
static kv_status view_settle(struct view_iter *view, kv_status rc)
{
    for (; rc == KV_OK; rc = kv_entry_iter_next(view->at)) {
        const struct kv_entry_iter *at = view->at;
        if (at->version > view->how.version)
            continue; /* too new; an older one may follow */
        if (view->passed.len && kv_slice_equal(kv_buf_slice(&view->passed), at->key))
            continue; /* a newer one of this key was shown or is a deletion */
        kv_buf_clear(&view->passed);
        rc = kv_buf_append(&view->passed, at->key);
        if (rc == KV_OK)
            rc = view_resolve(view);
        if (rc != KV_NOT_FOUND)
            return rc;
    }
    return rc;
}

/* ---- backward */

/* `at` stands on some entry, behind which (on the way) are all newer ones of its key. Copies the newest visible
 * one to `passed` and `value`, and leaves `at` on the key in front. *found: there is one. */
static kv_status view_gather(struct view_iter *view, struct kv_entry *newest, bool *found)
{
    kv_buf_clear(&view->passed);
    kv_status rc = kv_buf_append(&view->passed, view->at->key);
    *found = false;
    for (; rc == KV_OK && kv_slice_equal(view->at->key, kv_buf_slice(&view->passed));
         rc = kv_entry_iter_prev(view->at)) {
        if (view->at->version > view->how.version)
            continue;
        *found = true;
        newest->version = view->at->version;
        newest->kind = view->at->kind;
        kv_buf_clear(&view->value);
        rc = kv_buf_append(&view->value, view->at->value);
        if (rc < 0)
            break;
    }
    newest->key = kv_buf_slice(&view->passed);
    newest->value = kv_buf_slice(&view->value);
    return rc;
}

/* The newest entry is of the kind that needs the older ones: they are walked forward, then the way is taken up
 * again. */
static kv_status view_fold_back(struct view_iter *view, const struct kv_entry *newest, kv_status *ahead)
{
    view->at = view->source;
    kv_status rc = kv_entry_iter_seek(view->source, newest->key, newest->version);
    if (rc == KV_OK)
        rc = view_show_folded(view, newest->version);
    if (rc < 0)
        return rc;
    *ahead = kv_entry_iter_seek_before(view->source, newest->key, KV_VERSION_MAX);
    return *ahead < 0 ? *ahead : rc;
}

static kv_status view_settle_back(struct view_iter *view, kv_status rc)
{
    if (rc == KV_OK && view_walk_unique(view)) {
        view_show(view, view->at->key, view->at->version, view->at->value, &(struct kv_attrs){0});
        return KV_OK;
    }
    while (rc == KV_OK) {
        struct kv_entry newest = {0};
        bool found;
        rc = view_gather(view, &newest, &found);
        if (rc < 0)
            return rc;
        if (!found || newest.kind == KV_KIND_DELETE || newest.version <= view->how.since ||
            view_covered(view, newest.key, newest.version))
            continue;
        kv_status ahead = rc;
        kv_status shown = newest.kind == KV_KIND_MERGE ? view_fold_back(view, &newest, &ahead)
                                                       : view_show_put(view, &newest);
        rc = ahead;
        if (shown == KV_NOT_FOUND)
            continue;
        view->ahead = true;
        view->ahead_rc = ahead;
        return shown;
    }
    return rc;
}

/* ---- each entry by itself */

static kv_status view_settle_all(struct view_iter *view, kv_status rc)
{
    for (; rc == KV_OK; rc = view_step(view)) {
        const struct kv_entry_iter *at = view->at;
        struct kv_entry entry = {at->key, at->version, at->kind, at->value};
        if (entry.version > view->how.version || entry.version <= view->how.since ||
            view_covered(view, entry.key, entry.version))
            continue;
        if (entry.kind == KV_KIND_DELETE) {
            view_show(view, entry.key, entry.version, (kv_slice){0}, &(struct kv_attrs){0});
            view->it.deleted = true;
            return KV_OK;
        }
        rc = view_show_put(view, &entry);
        return rc == KV_NOT_FOUND ? KV_OK : rc;
    }
    return rc;
}

/* ---- calls */

/* The source's answer is `rc`: shows what is to be shown from there on. */
static kv_status view_arrive(struct view_iter *view, kv_status rc)
{
    view->ahead = false;
    if (view->how.all_versions)
        rc = view_settle_all(view, rc);
    else
        rc = view->backward ? view_settle_back(view, rc) : view_settle(view, rc);
    if (rc == KV_OK && view_walk_unique(view) && !view->ahead)
        view->it.ops = view->backward ? &view_ops_unique_back : &view_ops_unique;
    return rc;
}

static kv_status view_on(struct view_iter *view)
{
    if (view->ahead && view->backward)
        return view_arrive(view, view->ahead_rc);
    return view_arrive(view, view_step(view));
}

/* Begins a walk: to the target, or in front of it. version: of the source's seek. */
static kv_status view_begin(struct view_iter *view, bool backward, kv_slice target, uint64_t version)
{
    view->at = view->source;
    view->it.ops = &view_ops;
    view->backward = backward;
    view->now_s = view->how.now_ms ? (uint64_t)view->how.now_ms(view->how.ctx) / 1000 : 0;
    return backward ? kv_entry_iter_seek_before(view->source, target, version)
                    : kv_entry_iter_seek(view->source, target, version);
}

/* A copy: the target may be a key this iterator lent, and the sources move one after another. */
static kv_status view_hold(struct view_iter *view, kv_slice target)
{
    kv_buf_clear(&view->target);
    return kv_buf_append(&view->target, target);
}

static kv_status view_next_unique(struct kv_iter *it)
{
    struct view_iter *view = KV_CONTAINER(it, struct view_iter, it);
    kv_status rc = kv_entry_iter_next(view->at);
    it->key = view->at->key;
    it->value = view->at->value;
    it->version = view->at->version;
    return rc;
}

static kv_status view_prev_unique(struct kv_iter *it)
{
    struct view_iter *view = KV_CONTAINER(it, struct view_iter, it);
    kv_status rc = kv_entry_iter_prev(view->at);
    it->key = view->at->key;
    it->value = view->at->value;
    it->version = view->at->version;
    return rc;
}

static kv_status view_next(struct kv_iter *it)
{
    struct view_iter *view = KV_CONTAINER(it, struct view_iter, it);
    if (!view->backward) {
        if (!view->ahead)
            return view_on(view);
        /* Behind folded operands: the rest of the key is passed over where `at` stands. */
        kv_status rc = view_hold(view, it->key);
        return rc < 0 ? rc : view_arrive(view, kv_entry_iter_seek(view->at, kv_buf_slice(&view->target), 0));
    }
    kv_status rc = view_hold(view, it->key);
    if (rc < 0)
        return rc;
    kv_slice key = kv_buf_slice(&view->target);
    if (view->how.all_versions) {
        rc = view_begin(view, false, key, it->version);
        return rc < 0 ? rc : view_on(view); /* from where it stands */
    }
    kv_buf_clear(&view->passed);
    rc = kv_buf_append(&view->passed, key);
    return rc < 0 ? rc : view_arrive(view, view_begin(view, false, key, 0));
}

static kv_status view_prev(struct kv_iter *it)
{
    struct view_iter *view = KV_CONTAINER(it, struct view_iter, it);
    if (view->backward)
        return view_on(view);
    kv_status rc = view_hold(view, it->key);
    if (rc < 0)
        return rc;
    uint64_t version = view->how.all_versions ? it->version : KV_VERSION_MAX;
    return view_arrive(view, view_begin(view, true, kv_buf_slice(&view->target), version));
}

static kv_status view_seek(struct kv_iter *it, kv_slice target)
{
    struct view_iter *view = KV_CONTAINER(it, struct view_iter, it);
    kv_status rc = view_hold(view, target);
    if (rc < 0)
        return rc;
    kv_buf_clear(&view->passed);
    return view_arrive(view, view_begin(view, false, kv_buf_slice(&view->target), KV_VERSION_MAX));
}

static kv_status view_seek_before(struct kv_iter *it, kv_slice target)
{
    struct view_iter *view = KV_CONTAINER(it, struct view_iter, it);
    kv_status rc = view_hold(view, target);
    return rc < 0 ? rc
                  : view_arrive(view, view_begin(view, true, kv_buf_slice(&view->target), KV_VERSION_MAX));
}

static void view_close(struct kv_iter *it)
{
    struct view_iter *view = KV_CONTAINER(it, struct view_iter, it);
    kv_entry_iter_close(view->source);
    if (view->how.closed)
        view->how.closed(view->how.ctx);
    kv_buf_release(&view->target);
    kv_buf_release(&view->passed);
    kv_buf_release(&view->value);
    kv_fold_release(&view->fold);
    kv_block_unref(view->held);
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
    view->how = *options;
    *out = &view->it;
    return KV_OK;
}
