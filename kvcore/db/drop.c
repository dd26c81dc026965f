/* Deleting by prefix, by space, and everything: one commit with range deletions, and a flush that lets whole tables go. */
#include "kvcore/base/mem.h"
#include "kvcore/db/db.h"

/* Every key behind `lower` (the smallest there is, or longer) of the space. No key is larger than the longest one of
 * bytes 0xff, which a range cannot name as something below its end: it is deleted by itself. */
static kv_status delete_to_the_end(struct kv_batch *batch, uint32_t space, kv_slice lower)
{
    uint8_t last[KV_KEY_LEN_MAX];
    memset(last, 0xff, sizeof last);
    kv_slice end = kv_slice_of(last, sizeof last);
    kv_status rc = kv_slice_equal(lower, end) ? KV_OK : kv_batch_delete_range(batch, space, lower, end);
    return rc < 0 ? rc : kv_batch_delete(batch, space, end);
}

static kv_status delete_prefix(struct kv_batch *batch, uint32_t space, kv_slice prefix)
{
    struct kv_buf upper = {0};
    kv_slice lower = prefix.len ? prefix : KV_STR("\0");
    kv_status rc = kv_prefix_end(prefix, &upper);
    if (rc == KV_OK)
        rc = upper.len ? kv_batch_delete_range(batch, space, lower, kv_buf_slice(&upper))
                       : delete_to_the_end(batch, space, lower);
    kv_buf_release(&upper);
    return rc;
}

static kv_status drop(struct kv_db *db, uint32_t first, uint32_t end, kv_slice prefix, struct kv_err *err)
{
    struct kv_commit_options options = {.past_floor = true};
    struct kv_batch *batch = NULL;
    struct kv_err later;
    kv_status rc;
    KV_TRY(kv_batch_new(&batch));
    for (uint32_t space = first; space < end; space++)
        KV_TRY(delete_prefix(batch, space, prefix));
    rc = kv_commit(db, batch, &options, NULL, err);
    kv_batch_free(batch);
    if (rc == KV_OK && kv_flush(db, &later) < 0)
        kv_logf(&db->env->log, KV_LOG_WARN, "drop_flush_failed", "error=%s", KV_LOGQ(later.text));
    return rc;
out:
    kv_batch_free(batch);
    return kv_fail(err, rc, 0, "out of memory dropping keys");
}

kv_status kv_drop_prefix(struct kv_db *db, uint32_t space, kv_slice prefix, struct kv_err *err)
{
    if (!kv_space_known(db, space))
        return kv_fail(err, KV_INVALID, 0, "space %u does not exist", space);
    if (prefix.len > KV_KEY_LEN_MAX)
        return kv_fail(err, KV_INVALID, 0, "a prefix of %zu bytes, at most %d", prefix.len, KV_KEY_LEN_MAX);
    return drop(db, space, space + 1, prefix, err);
}

kv_status kv_drop_all(struct kv_db *db, uint32_t space, struct kv_err *err)
{
    if (space == KV_SPACE_ALL)
        return drop(db, 0, db->n_declared, (kv_slice){0}, err);
    return kv_drop_prefix(db, space, (kv_slice){0}, err);
}
