#include "kvcore/db/bans.h"
#include "kvcore/db/db.h"

#include <inttypes.h>

void kv_bans_init(struct kv_bans *bans)
{
    kv_mutex_init(&bans->mutex);
    kv_mutex_init(&bans->changing);
    atomic_init(&bans->n, 0);
    bans->list = (struct kv_buf){0};
}

void kv_bans_release(struct kv_bans *bans)
{
    kv_buf_release(&bans->list);
    kv_mutex_release(&bans->mutex);
    kv_mutex_release(&bans->changing);
}

kv_status kv_bans_next(kv_slice *list, uint32_t *space, kv_slice *prefix)
{
    uint8_t id;
    if (list->len == 0)
        return KV_END;
    if (kv_take_byte(list, &id) < 0 || kv_take_lp(list, prefix) < 0 || prefix->len > KV_KEY_LEN_MAX)
        return KV_CORRUPT;
    *space = id;
    return KV_OK;
}

static uint32_t count(kv_slice list)
{
    uint32_t n = 0, space;
    kv_slice prefix;
    while (kv_bans_next(&list, &space, &prefix) == KV_OK)
        n++;
    return n;
}

kv_status kv_bans_load(struct kv_bans *bans, kv_slice list)
{
    kv_status rc = kv_buf_append(&bans->list, list);
    atomic_store(&bans->n, count(list));
    return rc;
}

/* ---- asking */

/* With the lock. */
static kv_status check_locked(struct kv_db *db, uint32_t space, kv_slice key, struct kv_err *err)
{
    kv_slice rest = kv_buf_slice(&db->bans.list), prefix;
    uint32_t of;
    while (kv_bans_next(&rest, &of, &prefix) == KV_OK) {
        char shown[100];
        if (of == space && kv_slice_has_prefix(key, prefix))
            return kv_fail(err, KV_READ_ONLY, 0,
                           "space %s: keys that begin with %s are banned (kv_ban_prefix): nothing is written "
                           "there until kv_unban_prefix",
                           db->spaces[space].name, kv_log_quote(prefix, shown, sizeof shown));
    }
    return KV_OK;
}

kv_status kv_bans_check_key(struct kv_db *db, uint32_t space, kv_slice key, struct kv_err *err)
{
    if (__builtin_expect(atomic_load_explicit(&db->bans.n, memory_order_relaxed) == 0, 1))
        return KV_OK;
    kv_mutex_lock(&db->bans.mutex);
    kv_status rc = check_locked(db, space, key, err);
    kv_mutex_unlock(&db->bans.mutex);
    return rc;
}

kv_status kv_bans_check_batch(void *ctx, kv_slice batch, struct kv_err *err)
{
    struct kv_db *db = ctx;
    struct kv_batch_entry entry;
    kv_status rc = KV_OK;
    kv_mutex_lock(&db->bans.mutex);
    while (rc == KV_OK && kv_batch_next(&batch, &entry) == KV_OK)
        if (entry.kind != KV_KIND_DELETE && entry.kind != KV_KIND_RANGE)
            rc = check_locked(db, db->ids[entry.space], entry.key, err);
    kv_mutex_unlock(&db->bans.mutex);
    return rc;
}

/* ---- changing: one at a time, by bans.changing */

static kv_status list_add(struct kv_buf *list, uint32_t space, kv_slice prefix)
{
    kv_status rc = kv_buf_append_byte(list, (uint8_t)space);
    return rc < 0 ? rc : kv_buf_append_lp(list, prefix);
}

/* The list without the prefix, and *had: whether it was there. */
static kv_status list_without(kv_slice list, uint32_t space, kv_slice prefix, struct kv_buf *out, bool *had)
{
    kv_status rc = KV_OK;
    kv_slice of;
    uint32_t id;
    *had = false;
    while (rc == KV_OK && kv_bans_next(&list, &id, &of) == KV_OK) {
        if (id == space && kv_slice_equal(of, prefix))
            *had = true;
        else
            rc = list_add(out, id, of);
    }
    return rc;
}

/* Makes *list the list, on disk and then in memory. */
static kv_status bans_replace(struct kv_db *db, struct kv_buf *list, struct kv_err *err)
{
    struct kv_edit edit = {0};
    kv_edit_bans(&edit, kv_buf_slice(list));
    kv_status rc = kv_db_commit_edit(db, &edit, err);
    kv_edit_release(&edit);
    if (rc < 0)
        return rc;
    kv_mutex_lock(&db->bans.mutex);
    struct kv_buf old = db->bans.list;
    db->bans.list = *list;
    *list = old;
    atomic_store(&db->bans.n, count(kv_buf_slice(&db->bans.list)));
    kv_mutex_unlock(&db->bans.mutex);
    return KV_OK;
}

static kv_status bans_change(struct kv_db *db, uint32_t declared, kv_slice prefix, bool ban,
                             struct kv_err *err)
{
    struct kv_buf list = {0};
    bool had;
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    if (!kv_space_known(db, declared) || prefix.len > KV_KEY_LEN_MAX)
        return kv_fail(err, KV_INVALID, 0, "space %" PRIu32 " or a prefix of %zu bytes does not exist",
                       declared, prefix.len);
    uint32_t space = db->ids[declared];
    kv_mutex_lock(&db->bans.changing);
    kv_status rc = list_without(kv_buf_slice(&db->bans.list), space, prefix, &list, &had);
    if (rc == KV_OK && ban && !had && atomic_load(&db->bans.n) >= KV_BANS_MAX)
        rc = kv_fail(err, KV_LIMIT, 0, "%d prefixes are banned, no more can be", KV_BANS_MAX);
    if (rc == KV_OK && ban)
        rc = list_add(&list, space, prefix);
    if (rc == KV_OK && ban != had)
        rc = bans_replace(db, &list, err);
    kv_mutex_unlock(&db->bans.changing);
    kv_buf_release(&list);
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "out of memory changing the banned prefixes");
    if (rc == KV_OK && ban) /* what was queued before is visible when this is answered */
        rc = kv_committer_exclusive(db->committer, false, NULL, NULL, err);
    return rc == KV_OK && !ban && !had ? KV_NOT_FOUND : rc;
}

kv_status kv_ban_prefix(struct kv_db *db, uint32_t space, kv_slice prefix, struct kv_err *err)
{
    return bans_change(db, space, prefix, true, err);
}

kv_status kv_unban_prefix(struct kv_db *db, uint32_t space, kv_slice prefix, struct kv_err *err)
{
    return bans_change(db, space, prefix, false, err);
}

static uint32_t declared_of(const struct kv_db *db, uint32_t id)
{
    uint32_t at = 0;
    while (at < db->n_declared && db->ids[at] != id)
        at++;
    return at;
}

kv_status kv_banned(struct kv_db *db, void (*each)(void *ctx, uint32_t space, kv_slice prefix), void *ctx)
{
    struct kv_buf copy = {0};
    kv_slice prefix;
    uint32_t space;
    kv_mutex_lock(&db->bans.mutex);
    kv_status rc = kv_buf_append(&copy, kv_buf_slice(&db->bans.list));
    kv_mutex_unlock(&db->bans.mutex);
    kv_slice rest = kv_buf_slice(&copy);
    while (rc == KV_OK && kv_bans_next(&rest, &space, &prefix) == KV_OK)
        each(ctx, declared_of(db, space), prefix);
    kv_buf_release(&copy);
    return rc;
}
