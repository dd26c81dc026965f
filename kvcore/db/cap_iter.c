#include "kvcore/db/cap_iter.h"
#include "kvcore/base/list.h"
#include "kvcore/base/mem.h"

struct cap_iter {
    struct kv_entry_iter it;
    struct kv_entry_iter *source;
    uint64_t version;
};

static struct cap_iter *cap_of(struct kv_entry_iter *it)
{
    return KV_CONTAINER(it, struct cap_iter, it);
}

/* rc: of the step that brought the source to where it stands. */
static kv_status cap_settle(struct cap_iter *cap, kv_status rc, bool backward)
{
    struct kv_entry_iter *source = cap->source;
    while (rc == KV_OK && source->version > cap->version)
        rc = backward ? kv_entry_iter_prev(source) : kv_entry_iter_next(source);
    if (rc != KV_OK)
        return rc;
    cap->it.key = source->key;
    cap->it.value = source->value;
    cap->it.version = source->version;
    cap->it.kind = source->kind;
    return KV_OK;
}

static kv_status cap_seek(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    struct cap_iter *cap = cap_of(it);
    return cap_settle(cap, kv_entry_iter_seek(cap->source, key, version), false);
}

static kv_status cap_next(struct kv_entry_iter *it)
{
    struct cap_iter *cap = cap_of(it);
    return cap_settle(cap, kv_entry_iter_next(cap->source), false);
}

static kv_status cap_seek_before(struct kv_entry_iter *it, kv_slice key, uint64_t version)
{
    struct cap_iter *cap = cap_of(it);
    return cap_settle(cap, kv_entry_iter_seek_before(cap->source, key, version), true);
}

static kv_status cap_prev(struct kv_entry_iter *it)
{
    struct cap_iter *cap = cap_of(it);
    return cap_settle(cap, kv_entry_iter_prev(cap->source), true);
}

static void cap_close(struct kv_entry_iter *it)
{
    struct cap_iter *cap = cap_of(it);
    kv_entry_iter_close(cap->source);
    kv_free(cap);
}

kv_status kv_cap_iter_open(struct kv_entry_iter *source, uint64_t version, struct kv_entry_iter **out)
{
    static const struct kv_entry_iter_ops ops = {cap_seek, cap_next, cap_seek_before, cap_prev, cap_close};
    *out = source;
    if (source->version_max <= version)
        return KV_OK;
    struct cap_iter *cap = kv_zalloc(1, sizeof *cap);
    if (!cap)
        return KV_NO_MEMORY;
    cap->it.ops = &ops;
    cap->it.version_max = version;
    cap->source = source;
    cap->version = version;
    *out = &cap->it;
    return KV_OK;
}
