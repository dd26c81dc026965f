#include "kvcore/db/keep.h"
#include "kvcore/sst/block.h"

enum { KEEP_COMBINED_MAX = 1 << 20 }; /* operands are put together up to this, then stay apart */

void kv_keep_release(struct kv_keep *keep)
{
    kv_buf_release(&keep->key);
    kv_buf_release(&keep->value);
    kv_fold_release(&keep->fold);
}

static kv_status keep_emit(struct kv_keep *keep, const struct kv_entry *entry)
{
    bool first = keep->kept == 0;
    keep->kept++;
    return keep->emit(keep->ctx, entry, first);
}

static bool keep_older(struct kv_keep *keep, uint64_t version)
{
    return keep->older && keep->older(keep->ctx, kv_buf_slice(&keep->key), version);
}

/* ---- operands */

static kv_status fold_emit_all(struct kv_keep *keep)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < keep->fold.n && rc == KV_OK; i++) {
        struct kv_entry entry = {.key = kv_buf_slice(&keep->key)};
        kv_fold_entry(&keep->fold, i, &entry);
        rc = keep_emit(keep, &entry);
    }
    return rc;
}

/* The folded value under the newest operand's version. */
static kv_status fold_emit_value(struct kv_keep *keep, const struct kv_attrs *attrs, kv_slice value)
{
    struct kv_entry entry;
    kv_fold_entry(&keep->fold, 0, &entry);
    entry.key = kv_buf_slice(&keep->key);
    kv_status rc = kv_attrs_entry(attrs, value, &keep->value, &entry);
    return rc < 0 ? rc : keep_emit(keep, &entry);
}

/* Everything collected as one merge entry under the newest version. */
static kv_status fold_emit_combined(struct kv_keep *keep)
{
    struct kv_entry entry;
    kv_slice value;
    if (keep->fold.bytes.len > KEEP_COMBINED_MAX)
        return fold_emit_all(keep);
    kv_status rc = kv_fold_combine(&keep->fold, &value);
    kv_fold_entry(&keep->fold, 0, &entry);
    entry.key = kv_buf_slice(&keep->key);
    entry.kind = KV_KIND_MERGE;
    entry.value = value;
    return rc == KV_OK ? keep_emit(keep, &entry) : rc;
}

/* The key's operands are all here. complete: what they apply to is too, or is known to be nothing. */
static kv_status fold_end(struct kv_keep *keep, bool complete)
{
    struct kv_attrs attrs = {0};
    struct kv_entry oldest;
    kv_slice value;
    kv_status rc;
    keep->folding = false;
    kv_fold_entry(&keep->fold, keep->fold.n - 1, &oldest);
    if (complete || !keep_older(keep, oldest.version)) {
        rc = keep->how->merge ? kv_fold_run(&keep->fold, keep->how->merge, kv_buf_slice(&keep->key),
                                            keep->now_s, &attrs, &value)
                              : KV_UNSUPPORTED;
        if (rc == KV_OK && attrs.expires_at_s)
            rc = fold_emit_combined(keep); /* once the value has expired they count without it */
        else if (rc == KV_OK && value.len <= KV_VALUE_LEN_MAX - KV_ATTRS_LEN_MAX)
            rc = fold_emit_value(keep, &attrs, value);
        else if (rc != KV_NO_MEMORY)
            rc = fold_emit_all(keep); /* the operator failed: nothing is lost by it */
    } else {
        rc = fold_emit_combined(keep);
    }
    kv_fold_clear(&keep->fold);
    return rc;
}

/* ---- a key, newest entry first */

static kv_status keep_deletion(struct kv_keep *keep, const struct kv_entry *entry)
{
    keep->ended = true;
    if (keep->folding)
        return fold_end(keep, true);
    if (entry->version <= keep->oldest_txn && !keep_older(keep, entry->version))
        return KV_OK;
    struct kv_entry deletion = {.key = entry->key, .version = entry->version, .kind = KV_KIND_DELETE};
    return keep_emit(keep, &deletion);
}

static kv_status keep_fold_add(struct kv_keep *keep, const struct kv_entry *entry,
                               const struct kv_attrs *attrs)
{
    struct kv_block *block = NULL;
    struct kv_attrs ignored;
    kv_slice pointer = entry->value;
    if (entry->kind != KV_KIND_POINTER)
        return kv_fold_add(&keep->fold, entry->version, entry->kind, entry->value);
    kv_status rc = kv_attrs_take(&pointer, &ignored);
    if (rc == KV_OK)
        rc = keep->fetch(keep->ctx, pointer, &block);
    if (rc == KV_OK)
        rc = kv_fold_add_base(&keep->fold, entry->version, attrs, block->bytes);
    kv_block_unref(block);
    return rc;
}

static kv_status keep_value(struct kv_keep *keep, const struct kv_entry *entry, const struct kv_attrs *attrs)
{
    kv_status rc;
    if (keep->folding && (attrs->flags & KV_ATTR_LARGE)) {
        rc = fold_emit_combined(keep);
        keep->folding = false;
        kv_fold_clear(&keep->fold);
        if (rc < 0)
            return rc;
    }
    if (entry->kind == KV_KIND_MERGE || keep->folding) {
        rc = keep_fold_add(keep, entry, attrs);
        if (rc < 0)
            return rc;
        keep->folding = true;
        keep->ended = rc == KV_END;
        return rc == KV_END ? fold_end(keep, true) : KV_OK;
    }
    rc = keep_emit(keep, entry);
    keep->ended = keep->kept >= keep->how->versions_kept || (attrs->flags & KV_ATTR_ENDS_HISTORY);
    return rc;
}

/* A bulk load may lie between what one memtable holds, and so may a run that a merge of others leaves out. */
static bool fold_has_gap(struct kv_keep *keep, uint64_t version)
{
    struct kv_entry oldest;
    kv_fold_entry(&keep->fold, keep->fold.n - 1, &oldest);
    return keep->between && keep->between(keep->ctx, kv_buf_slice(&keep->key), oldest.version, version);
}

static kv_status keep_entry(struct kv_keep *keep, const struct kv_entry *entry)
{
    struct kv_attrs attrs = {0};
    if (keep->folding && fold_has_gap(keep, entry->version)) {
        kv_status rc = fold_end(keep, false);
        if (rc < 0)
            return rc;
    }
    if (keep->ranges && kv_ranges_newest(keep->ranges, entry->key, UINT64_MAX) > entry->version) {
        keep->dropped_covered++;
        keep->ended = true;
        return keep->folding ? fold_end(keep, true) : KV_OK;
    }
    if (entry->kind == KV_KIND_DELETE)
        return keep_deletion(keep, entry);
    if (entry->kind != KV_KIND_PUT) {
        kv_slice value = entry->value;
        kv_status rc = kv_attrs_take(&value, &attrs);
        if (rc < 0)
            return rc;
    }
    if (entry->kind != KV_KIND_MERGE && kv_attrs_expired(&attrs, keep->now_s)) {
        keep->dropped_expired++;
        return keep_deletion(keep, entry);
    }
    return keep_value(keep, entry, &attrs);
}

kv_status kv_keep_run(struct kv_keep *keep, struct kv_entry_iter *source)
{
    kv_status rc;
    for (rc = kv_entry_iter_seek(source, (kv_slice){0}, KV_VERSION_MAX); rc == KV_OK;
         rc = kv_entry_iter_next(source)) {
        if (keep->pause)
            KV_TRY(keep->pause(keep->ctx));
        if (!keep->any || !kv_slice_equal(source->key, kv_buf_slice(&keep->key))) {
            if (keep->folding)
                KV_TRY(fold_end(keep, false));
            keep->any = true;
            keep->ended = false;
            keep->kept = 0;
            kv_buf_clear(&keep->key);
            KV_TRY(kv_buf_append(&keep->key, source->key));
        } else if (keep->ended) {
            continue;
        }
        struct kv_entry entry = {source->key, source->version, source->kind, source->value};
        KV_TRY(keep_entry(keep, &entry));
    }
    if (rc == KV_END)
        rc = keep->folding ? fold_end(keep, false) : KV_OK;
out:
    return rc;
}
