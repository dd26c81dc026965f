#include "kvcore/db/batch.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/hash.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/large.h"

enum {
    /* Superseded; never leave this file: one for kinds without a value, one for those with. */
    ENTRY_DEAD_DELETE = 0xfe,
    ENTRY_DEAD_PUT = 0xff,
    BATCH_SLOTS_MIN = 16,
    BATCH_DEAD_BYTES_MAX = 1 << 20, /* and half of all: superseded bytes are squeezed out past both */
    BATCH_BYTES_KEPT = 1 << 20, /* by a clear; emptying more slots than these would cost more than it saves */
    BATCH_SLOTS_KEPT = 1 << 16,
};

struct kv_batch {
    struct kv_buf bytes;
    size_t count, dead, dead_bytes, payload;
    uint32_t spaces;
    struct kv_batch_kinds kinds;
    /* Open addressing over live entries: offset + 1 of each, 0 empty. Stale after a squeeze, until the next
     * put. */
    uint32_t *slots;
    size_t n_slots; /* power of two, or 0 */
    bool stale;
    struct kv_value_writer **values; /* large ones that it holds */
    size_t n_values, values_capacity;
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

static void values_give_back(struct kv_batch *batch)
{
    while (batch->n_values > 0)
        kv_value_give_back(batch->values[--batch->n_values]);
}

void kv_batch_free(struct kv_batch *batch)
{
    if (!batch)
        return;
    values_give_back(batch);
    kv_free(batch->values);
    kv_buf_release(&batch->bytes);
    kv_free(batch->slots);
    kv_free(batch);
}

void kv_batch_clear(struct kv_batch *batch)
{
    values_give_back(batch);
    kv_buf_clear_keep(&batch->bytes, BATCH_BYTES_KEPT);
    batch->count = batch->dead = batch->dead_bytes = batch->payload = 0;
    batch->spaces = 0;
    batch->kinds = (struct kv_batch_kinds){0};
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

struct kv_batch_kinds kv_batch_kinds(const struct kv_batch *batch)
{
    return batch->kinds;
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
    bool has_value = kind != KV_KIND_DELETE && kind != ENTRY_DEAD_DELETE;
    if (has_value && (kv_take_lp(&at, &entry->value) < 0 || entry->value.len > KV_VALUE_LEN_MAX))
        return KV_CORRUPT;
    if (kind == KV_KIND_RANGE &&
        (entry->value.len > KV_KEY_LEN_MAX || kv_slice_compare(entry->key, entry->value) >= 0))
        return KV_CORRUPT;
    *rest = at;
    return KV_OK;
}

/* Of pointers a batch holds those to large values alone. */
static kv_status pointer_check(kv_slice value)
{
    struct kv_attrs attrs;
    struct kv_pointer pointer = {0};
    kv_status rc = kv_attrs_take(&value, &attrs);
    if (rc == KV_OK)
        rc = kv_pointer_take(&value, &pointer);
    return rc < 0                                                                 ? rc
           : value.len == 0 && pointer.value_len && (attrs.flags & KV_ATTR_LARGE) ? KV_OK
                                                                                  : KV_CORRUPT;
}

kv_status kv_batch_next(kv_slice *rest, struct kv_batch_entry *entry)
{
    if (rest->len >= 2 && rest->data[1] > KV_KIND_KNOWN_MAX)
        return KV_TOO_NEW; /* its layout is unknown, so nothing behind it can be read either */
    kv_slice at = *rest;
    kv_status rc = entry_take(&at, entry);
    if (rc == KV_OK && entry->kind == KV_KIND_POINTER)
        rc = pointer_check(entry->value);
    if (rc == KV_OK)
        *rest = at;
    return rc;
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
        if (!entry_dead(&entry) && entry.kind != KV_KIND_RANGE)
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
    batch->dead_bytes += 2 + old.key.len + old.value.len;
    batch->bytes.data[offset + 1] = old.kind == KV_KIND_DELETE ? ENTRY_DEAD_DELETE : ENTRY_DEAD_PUT;
}

/* Appends an entry whose value is head and value; room was made. */
static void entry_append(struct kv_batch *batch, uint32_t space, uint8_t kind, kv_slice key, kv_slice head,
                         kv_slice value)
{
    uint8_t *p = batch->bytes.data + batch->bytes.len;
    *p++ = (uint8_t)space;
    *p++ = kind;
    p += kv_put_varint(p, key.len);
    memcpy(p, key.data, key.len);
    p += key.len;
    if (kind != KV_KIND_DELETE) {
        p += kv_put_varint(p, head.len + value.len);
        if (head.len)
            memcpy(p, head.data, head.len);
        p += head.len;
        if (value.len)
            memcpy(p, value.data, value.len);
        p += value.len;
    }
    batch->bytes.len = (size_t)(p - batch->bytes.data);
    batch->count++;
    batch->payload += key.len + head.len + value.len;
    if (space >= batch->spaces)
        batch->spaces = space + 1;
}

static kv_status entry_admit(struct kv_batch *batch, uint32_t space, kv_slice key, size_t value_len)
{
    if (space >= KV_SPACES_MAX || key.len == 0 || key.len > KV_KEY_LEN_MAX)
        return KV_INVALID;
    if (value_len > KV_VALUE_LEN_MAX)
        return KV_LIMIT;
    if (batch->dead_bytes > BATCH_DEAD_BYTES_MAX && batch->dead_bytes > batch->bytes.len / 2)
        (void)kv_batch_bytes(batch);
    return kv_buf_reserve(&batch->bytes, 2 + 2 * KV_VARINT_LEN_MAX + key.len + value_len);
}

static kv_status entry_add(struct kv_batch *batch, uint32_t space, uint8_t kind, kv_slice key, kv_slice head,
                           kv_slice value)
{
    kv_status rc = entry_admit(batch, space, key, head.len + value.len);
    if (rc == KV_OK)
        rc = index_reserve(batch);
    if (rc < 0)
        return rc;
    uint32_t *slot = slot_of(batch, space, key);
    if (*slot)
        entry_supersede(batch, *slot - 1);
    *slot = (uint32_t)batch->bytes.len + 1;
    entry_append(batch, space, kind, key, head, value);
    return KV_OK;
}

kv_status kv_batch_put(struct kv_batch *batch, uint32_t space, kv_slice key, kv_slice value)
{
    return entry_add(batch, space, KV_KIND_PUT, key, (kv_slice){0}, value);
}

struct kv_attrs kv_put_attrs(const struct kv_put_options *options)
{
    if (!options)
        return (struct kv_attrs){0};
    return (struct kv_attrs){.expires_at_s = options->expires_at_s,
                             .meta = options->meta,
                             .flags = options->ends_history ? KV_ATTR_ENDS_HISTORY : 0};
}

kv_status kv_batch_put_with(struct kv_batch *batch, uint32_t space, kv_slice key, kv_slice value,
                            const struct kv_put_options *options)
{
    struct kv_attrs attrs = kv_put_attrs(options);
    uint8_t head[KV_ATTRS_LEN_MAX];
    if (kv_attrs_plain(&attrs))
        return kv_batch_put(batch, space, key, value);
    kv_status rc =
        entry_add(batch, space, KV_KIND_RICH, key, kv_slice_of(head, kv_attrs_put(head, &attrs)), value);
    if (rc == KV_OK)
        batch->kinds.rich |= (uint32_t)1 << space;
    return rc;
}

kv_status kv_batch_delete(struct kv_batch *batch, uint32_t space, kv_slice key)
{
    return entry_add(batch, space, KV_KIND_DELETE, key, (kv_slice){0}, (kv_slice){0});
}

kv_status kv_batch_find(struct kv_batch *batch, uint32_t space, kv_slice key, struct kv_batch_entry *out)
{
    if (batch->n_slots == 0)
        return KV_NOT_FOUND;
    if (batch->stale)
        index_fill(batch);
    const uint32_t *slot = slot_of(batch, space, key);
    if (*slot == 0)
        return KV_NOT_FOUND;
    *out = entry_at(batch, *slot - 1);
    return KV_OK;
}

/* ---- large values */

static kv_status values_reserve(struct kv_batch *batch)
{
    struct kv_value_writer **grown = kv_grow(batch->values, &batch->values_capacity, batch->n_values + 1,
                                             sizeof(struct kv_value_writer *));
    if (!grown)
        return KV_NO_MEMORY;
    batch->values = grown;
    return KV_OK;
}

kv_status kv_batch_put_value(struct kv_batch *batch, uint32_t space, kv_slice key,
                             struct kv_value_writer *writer, const struct kv_put_options *options)
{
    uint8_t head[KV_ATTRS_LEN_MAX + KV_POINTER_LEN_MAX];
    kv_slice value;
    if (kv_value_inline(writer, space, &value))
        return kv_batch_put_with(batch, space, key, value, options);
    kv_status rc = values_reserve(batch);
    if (rc == KV_OK)
        rc = kv_value_take(writer, space);
    if (rc < 0)
        return rc;
    struct kv_attrs attrs = kv_put_attrs(options);
    attrs.flags |= KV_ATTR_LARGE;
    size_t n = kv_attrs_put(head, &attrs);
    n += kv_pointer_put(head + n, kv_value_pointer(writer));
    rc = entry_add(batch, space, KV_KIND_POINTER, key, kv_slice_of(head, n), (kv_slice){0});
    if (rc < 0) {
        kv_value_give_back(writer);
        return rc;
    }
    batch->kinds.rich |= (uint32_t)1 << space;
    batch->values[batch->n_values++] = writer;
    return KV_OK;
}

kv_status kv_batch_check_values(const struct kv_batch *batch, const void *db, bool async, struct kv_err *err)
{
    if (async && batch->n_values > 0)
        return kv_fail(err, KV_INVALID, 0, "a commit of a large value is waited for: kv_commit");
    for (size_t i = 0; i < batch->n_values; i++) {
        if (kv_value_db(batch->values[i]) != db)
            return kv_fail(err, KV_INVALID, 0, "a large value that was written to another database");
        if (kv_value_committed(batch->values[i]))
            return kv_fail(err, KV_INVALID, 0, "a large value that was committed before: clear the batch");
    }
    return KV_OK;
}

/* ---- operands */

/* What a merge entry begins with, given what the batch holds of the key so far: attributes, and earlier
 * operands. */
static kv_status merge_head(const struct kv_batch_entry *before, struct kv_buf *out)
{
    uint8_t bytes[KV_ATTRS_LEN_MAX];
    struct kv_attrs attrs = {0};
    kv_slice value = before->value;
    if (before->kind == KV_KIND_MERGE)
        return kv_buf_append(out, value);
    if (before->kind == KV_KIND_DELETE) {
        attrs.flags = KV_ATTR_NO_BASE;
        return kv_buf_append(out, kv_slice_of(bytes, kv_attrs_put(bytes, &attrs)));
    }
    if (before->kind == KV_KIND_RICH) {
        kv_status rc = kv_attrs_take(&value, &attrs);
        KV_ASSERT(rc == KV_OK); /* our own bytes */
    }
    attrs.flags |= KV_ATTR_BASE;
    kv_status rc = kv_buf_append(out, kv_slice_of(bytes, kv_attrs_put(bytes, &attrs)));
    return rc < 0 ? rc : kv_buf_append_lp(out, value);
}

kv_status kv_batch_merge(struct kv_batch *batch, uint32_t space, kv_slice key, kv_slice operand)
{
    struct kv_buf value = {0};
    kv_status rc = entry_admit(batch, space, key, operand.len);
    if (rc == KV_OK)
        rc = index_reserve(batch);
    if (rc < 0)
        return rc;
    uint32_t *slot = slot_of(batch, space, key);
    if (*slot) {
        struct kv_batch_entry before = entry_at(batch, *slot - 1);
        rc = before.kind == KV_KIND_POINTER ? KV_INVALID
                                            : merge_head(&before, &value); /* no operands on large values */
        KV_TRY(rc);
    } else {
        KV_TRY(kv_buf_append_byte(&value, 0));
    }
    KV_TRY(kv_buf_append_lp(&value, operand));
    KV_TRY(entry_add(batch, space, KV_KIND_MERGE, key, kv_buf_slice(&value), (kv_slice){0}));
    batch->kinds.merge |= (uint32_t)1 << space;
out:
    kv_buf_release(&value);
    return rc;
}

kv_status kv_batch_delete_range(struct kv_batch *batch, uint32_t space, kv_slice lower, kv_slice upper)
{
    if (upper.len == 0 || upper.len > KV_KEY_LEN_MAX || kv_slice_compare(lower, upper) >= 0)
        return KV_INVALID;
    kv_status rc = entry_admit(batch, space, lower, upper.len);
    if (rc < 0)
        return rc;
    /* What the batch wrote to the range before is undone: within one version a range covers nothing. */
    kv_slice all = kv_buf_slice(&batch->bytes), rest = all;
    struct kv_batch_entry entry;
    for (size_t offset = 0; entry_take(&rest, &entry) == KV_OK; offset = all.len - rest.len)
        if (!entry_dead(&entry) && entry.kind != KV_KIND_RANGE && entry.space == space &&
            kv_slice_compare(entry.key, lower) >= 0 && kv_slice_compare(entry.key, upper) < 0) {
            entry_supersede(batch, offset);
            batch->stale = true;
        }
    entry_append(batch, space, KV_KIND_RANGE, lower, (kv_slice){0}, upper);
    batch->kinds.range |= (uint32_t)1 << space;
    return KV_OK;
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
    batch->dead = batch->dead_bytes = 0;
    batch->stale = true;
    return kv_buf_slice(&batch->bytes);
}

void kv_batch_take(struct kv_batch *batch, struct kv_buf *out)
{
    kv_slice bytes = kv_batch_bytes(batch);
    KV_ASSERT(out->capacity == 0);
    if (bytes.len > batch->bytes.capacity / 2 || kv_buf_append(out, bytes) < 0) {
        kv_buf_release(out);
        *out = batch->bytes;
        kv_buf_init(&batch->bytes, KV_COMMIT_BYTES_MAX);
    }
    kv_batch_clear(batch);
}
