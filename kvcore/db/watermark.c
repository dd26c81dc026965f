#include "kvcore/db/watermark.h"
#include "kvcore/base/assert.h"
#include "kvcore/db/db.h"

void kv_watermark_init(struct kv_watermark *watermark)
{
    kv_mutex_init(&watermark->mutex);
    kv_list_init(&watermark->live);
}

void kv_watermark_release(struct kv_watermark *watermark)
{
    KV_ASSERT(kv_list_empty(&watermark->live));
    kv_mutex_release(&watermark->mutex);
}

void kv_txn_slot_begin(struct kv_db *db, struct kv_txn_slot *slot, uint64_t expires_ns)
{
    struct kv_watermark *watermark = &db->watermark;
    kv_mutex_lock(&watermark->mutex);
    *slot = (struct kv_txn_slot){.version = kv_db_visible(db), .expires_ns = expires_ns};
    kv_list_push_back(&watermark->live, &slot->link);
    kv_mutex_unlock(&watermark->mutex);
}

void kv_txn_slot_end(struct kv_db *db, struct kv_txn_slot *slot)
{
    kv_mutex_lock(&db->watermark.mutex);
    kv_list_remove(&slot->link);
    kv_mutex_unlock(&db->watermark.mutex);
}

/* With the lock. */
static bool slot_expired(struct kv_txn_slot *slot, uint64_t now_ns)
{
    slot->expired = slot->expired || now_ns >= slot->expires_ns;
    return slot->expired;
}

bool kv_txn_slot_alive(struct kv_db *db, struct kv_txn_slot *slot)
{
    uint64_t now_ns = kv_clock_mono_ns(db->env->clock);
    kv_mutex_lock(&db->watermark.mutex);
    bool alive = !slot_expired(slot, now_ns);
    kv_mutex_unlock(&db->watermark.mutex);
    return alive;
}

uint64_t kv_db_oldest_txn(struct kv_db *db)
{
    uint64_t now_ns = kv_clock_mono_ns(db->env->clock);
    kv_mutex_lock(&db->watermark.mutex);
    uint64_t oldest = kv_db_visible(db);
    for (struct kv_list *link = db->watermark.live.next; link != &db->watermark.live; link = link->next) {
        struct kv_txn_slot *slot = KV_CONTAINER(link, struct kv_txn_slot, link);
        if (!slot_expired(slot, now_ns) && slot->version < oldest)
            oldest = slot->version;
    }
    kv_mutex_unlock(&db->watermark.mutex);
    return oldest;
}

uint64_t kv_db_txns(struct kv_db *db, uint64_t *oldest_version, uint64_t *expires_ns)
{
    uint64_t n = 0, now_ns = kv_clock_mono_ns(db->env->clock);
    *oldest_version = *expires_ns = 0;
    kv_mutex_lock(&db->watermark.mutex);
    for (struct kv_list *link = db->watermark.live.next; link != &db->watermark.live; link = link->next) {
        struct kv_txn_slot *slot = KV_CONTAINER(link, struct kv_txn_slot, link);
        if (slot_expired(slot, now_ns))
            continue;
        if (n++ == 0 || slot->version < *oldest_version) {
            *oldest_version = slot->version;
            *expires_ns = slot->expires_ns;
        }
    }
    kv_mutex_unlock(&db->watermark.mutex);
    return n;
}
