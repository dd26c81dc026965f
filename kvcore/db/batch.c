#include "kvcore/db/batch.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/hash.h"
#include "kvcore/base/mem.h"

enum {
    ENTRY_DELETE = 0, /* the numbers of enum kv_kind */
    ENTRY_PUT = 1,
    /* Superseded; never leave this file. Odd kinds have a value, as above. */
    ENTRY_DEAD_DELETE = 0xfe,
    ENTRY_DEAD_PUT = 0xff,
    BATCH_SLOTS_MIN = 16,
    BATCH_BYTES_KEPT = 1 << 20, /* by a clear; emptying more slots than these would cost more than it saves */
    BATCH_SLOTS_KEPT = 1 << 16,
};

struct kv_batch {
    struct kv_buf bytes;
    size_t count, dead, payload;
    uint32_t spaces;
    /* Open addressing over live entries: offset + 1 of each, 0 empty. Stale after a squeeze, until the next
     * put. */
    uint32_t *slots;
    size_t n_slots; /* power of two, or 0 */
    bool stale;
};
_Static_assert(KV_COMMIT_BYTES_MAX < UINT32_MAX, "offsets fit a slot");

kv_status kv_batch_new(struct kv_batch **out)
{
    struct kv_batch *batch = kv_zalloc(1, sizeof *batch);
    if (!batch)
        return KV_NO_MEMORY;
    kv_buf_init(&batch->bytes, KV_COMMIT_BYTES_MAX);
    *out = batch;
    return KV_OK;
}

void kv_batch_free(struct kv_batch *batch)
{
    if (!batch)
        return;
    kv_buf_release(&batch->bytes);
    kv_free(batch->slots);
    kv_free(batch);
}

void kv_batch_clear(struct kv_batch *batch)
{
    kv_buf_clear_keep(&batch->bytes, BATCH_BYTES_KEPT);
    batch->count = batch->dead = batch->payload = 0;
    batch->spaces = 0;
    if (batch->n_slots > BATCH_SLOTS_KEPT) {
        kv_free(batch->slots);
        batch->slots = NULL;
        batch->n_slots = 0;
    }
    if (batch->n_slots)
        memset(batch->slots, 0, batch->n_slots * sizeof *batch->slots);
    batch->stale = false;
}

size_t kv_batch_count(const struct kv_batch *batch)
{
    return batch->count;
}

size_t kv_batch_payload(const struct kv_batch *batch)
{
    return batch->payload;
}

uint32_t kv_batch_spaces(const struct kv_batch *batch)
{
    return batch->spaces;
}

static bool entry_dead(const struct kv_batch_entry *entry)
{
    return entry->kind >= ENTRY_DEAD_DELETE;
}

/* Takes an entry of any kind, superseded ones included. */
static kv_status entry_take(kv_slice *rest, struct kv_batch_entry *entry)
{
    kv_slice at = *rest;
    uint8_t space, kind;
    if (at.len == 0)
        return KV_END;
    if (kv_take_byte(&at, &space) < 0 || kv_take_byte(&at, &kind) < 0 || space >= KV_SPACES_MAX)
        return KV_CORRUPT;
    *entry = (struct kv_batch_entry){.space = space, .kind = kind};
    if (kv_take_lp(&at, &entry->key) < 0 || entry->key.len == 0 || entry->key.len > KV_KEY_LEN_MAX)
        return KV_CORRUPT;
    if ((kind & 1) && (kv_take_lp(&at, &entry->value) < 0 || entry->value.len > KV_VALUE_LEN_MAX))
        return KV_CORRUPT;
    *rest = at;
    return KV_OK;
}

kv_status kv_batch_next(kv_slice *rest, struct kv_batch_entry *entry)
{
    if (rest->len >= 2 && rest->data[1] > ENTRY_PUT)
        return KV_TOO_NEW; /* its layout is unknown, so nothing behind it can be read either */
    return entry_take(rest, entry);
}

static struct kv_batch_entry entry_at(const struct kv_batch *batch, size_t offset)
{
    kv_slice rest = kv_slice_from(kv_buf_slice(&batch->bytes), offset);
    struct kv_batch_entry entry = {0};
    kv_status rc = entry_take(&rest, &entry);
    KV_ASSERT(rc == KV_OK); /* our own bytes */
    return entry;
}

/* The slot of (space, key), or the empty one where it belongs. */
static uint32_t *slot_of(const struct kv_batch *batch, uint32_t space, kv_slice key)
{
    size_t mask = batch->n_slots - 1;
    for (size_t i = (size_t)kv_hash64(key, space) & mask;; i = (i + 1) & mask) {
        uint32_t *slot = &batch->slots[i];
        if (*slot == 0)
            return slot;
        struct kv_batch_entry entry = entry_at(batch, *slot - 1);
        if (entry.space == space && kv_slice_equal(entry.key, key))
            return slot;
    }
}

static void index_fill(struct kv_batch *batch)
{
    memset(batch->slots, 0, batch->n_slots * sizeof *batch->slots);
    kv_slice all = kv_buf_slice(&batch->bytes), rest = all;
    struct kv_batch_entry entry;
    for (size_t offset = 0; entry_take(&rest, &entry) == KV_OK; offset = all.len - rest.len)
        if (!entry_dead(&entry))
            *slot_of(batch, entry.space, entry.key) = (uint32_t)offset + 1;
    batch->stale = false;
}

/* Room for one more key, at most two thirds full. */
static kv_status index_reserve(struct kv_batch *batch)
{
    if ((batch->count + 1) * 3 > batch->n_slots * 2) {
        size_t n = batch->n_slots ? batch->n_slots * 2 : BATCH_SLOTS_MIN;
        uint32_t *slots = kv_alloc(n * sizeof *slots);
        if (!slots)
            return KV_NO_MEMORY;
        kv_free(batch->slots);
        batch->slots = slots;
        batch->n_slots = n;
        batch->stale = true;
    }
    if (batch->stale)
        index_fill(batch);
    return KV_OK;
}

static void entry_supersede(struct kv_batch *batch, size_t offset)
{
    struct kv_batch_entry old = entry_at(batch, offset);
    batch->payload -= old.key.len + old.value.len;
    batch->count--;
    batch->dead++;
    batch->bytes.data[offset + 1] = old.kind == ENTRY_PUT ? ENTRY_DEAD_PUT : ENTRY_DEAD_DELETE;
}

static kv_status entry_add(struct kv_batch *batch, uint32_t space, uint8_t kind, kv_slice key, kv_slice value)
{
    if (space >= KV_SPACES_MAX || key.len == 0 || key.len > KV_KEY_LEN_MAX)
        return KV_INVALID;
    if (value.len > KV_VALUE_LEN_MAX)
        return KV_LIMIT;
    kv_status rc = kv_buf_reserve(&batch->bytes, 2 + 2 * KV_VARINT_LEN_MAX + key.len + value.len);
    if (rc == KV_OK)
        rc = index_reserve(batch);
    if (rc < 0)
        return rc;
    uint32_t *slot = slot_of(batch, space, key);
    if (*slot)
        entry_supersede(batch, *slot - 1);
    *slot = (uint32_t)batch->bytes.len + 1;
    uint8_t *p = batch->bytes.data + batch->bytes.len;
    *p++ = (uint8_t)space;
    *p++ = kind;
    p += kv_put_varint(p, key.len);
    memcpy(p, key.data, key.len);
    p += key.len;
    if (kind == ENTRY_PUT) {
        p += kv_put_varint(p, value.len);
        if (value.len)
            memcpy(p, value.data, value.len);
        p += value.len;
    }
    batch->bytes.len = (size_t)(p - batch->bytes.data);
    batch->count++;
    batch->payload += key.len + value.len;
    if (space >= batch->spaces)
        batch->spaces = space + 1;
    return KV_OK;
}

kv_status kv_batch_put(struct kv_batch *batch, uint32_t space, kv_slice key, kv_slice value)
{
    return entry_add(batch, space, ENTRY_PUT, key, value);
}

kv_status kv_batch_delete(struct kv_batch *batch, uint32_t space, kv_slice key)
{
    return entry_add(batch, space, ENTRY_DELETE, key, (kv_slice){0});
}

kv_slice kv_batch_bytes(struct kv_batch *batch)
{
    if (batch->dead == 0)
        return kv_buf_slice(&batch->bytes);
    kv_slice all = kv_buf_slice(&batch->bytes), rest = all;
    size_t kept = 0;
    struct kv_batch_entry entry;
    while (rest.len) {
        size_t from = all.len - rest.len;
        kv_status rc = entry_take(&rest, &entry);
        KV_ASSERT(rc == KV_OK);
        size_t len = all.len - rest.len - from;
        if (entry_dead(&entry))
            continue;
        memmove(batch->bytes.data + kept, batch->bytes.data + from, len);
        kept += len;
    }
    batch->bytes.len = kept;
    batch->dead = 0;
    batch->stale = true;
    return kv_buf_slice(&batch->bytes);
}
