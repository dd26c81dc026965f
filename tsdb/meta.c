#include "tsdb/meta.h"
#include "kvcore/base/mem.h"
#include "kvcore/os/thread.h"
#include "tsdb/key.h"

enum { META_FIELDS = 4 }; /* family, type, help, unit */

struct meta_entry {
    size_t bytes;
    uint64_t stamp; /* of its last change */
    kv_slice field[META_FIELDS];
    uint8_t text[];
};

struct ts_meta {
    kv_mutex lock;
    struct meta_entry **entries; /* by family */
    size_t n, capacity, bytes;
    uint64_t stamp, saved; /* entries with a stamp above saved are not stored yet */
};

kv_status ts_meta_new(struct ts_meta **out)
{
    struct ts_meta *meta = kv_zalloc(1, sizeof *meta);
    if (!meta)
        return KV_NO_MEMORY;
    kv_mutex_init(&meta->lock);
    *out = meta;
    return KV_OK;
}

void ts_meta_free(struct ts_meta *meta)
{
    if (!meta)
        return;
    for (size_t i = 0; i < meta->n; i++)
        kv_free(meta->entries[i]);
    kv_free(meta->entries);
    kv_mutex_release(&meta->lock);
    kv_free(meta);
}

static size_t meta_lower(const struct ts_meta *meta, kv_slice family)
{
    size_t low = 0, high = meta->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (kv_slice_compare(meta->entries[mid]->field[0], family) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static bool meta_at(const struct ts_meta *meta, size_t i, kv_slice family)
{
    return i < meta->n && kv_slice_equal(meta->entries[i]->field[0], family);
}

static struct meta_entry *meta_entry_new(const kv_slice field[META_FIELDS])
{
    size_t len = 0;
    for (int i = 0; i < META_FIELDS; i++)
        len += field[i].len;
    struct meta_entry *entry = kv_alloc(sizeof *entry + len);
    if (!entry)
        return NULL;
    entry->bytes = sizeof *entry + len;
    uint8_t *at = entry->text;
    for (int i = 0; i < META_FIELDS; i++) {
        if (field[i].len)
            memcpy(at, field[i].data, field[i].len);
        entry->field[i] = kv_slice_of(at, field[i].len);
        at += field[i].len;
    }
    return entry;
}

static kv_status meta_room(struct ts_meta *meta)
{
    if (meta->n == TS_META_FAMILIES_MAX)
        return KV_LIMIT;
    struct meta_entry **entries =
        kv_grow(meta->entries, &meta->capacity, meta->n + 1, sizeof(struct meta_entry *));
    if (!entries)
        return KV_NO_MEMORY;
    meta->entries = entries;
    return KV_OK;
}

/* Not inside a character. */
static kv_slice meta_cut(kv_slice text)
{
    if (text.len <= TS_META_TEXT_MAX)
        return text;
    text.len = TS_META_TEXT_MAX;
    while (text.len > 0 && (text.data[text.len] & 0xc0) == 0x80)
        text.len--;
    return text;
}

kv_status ts_meta_set(struct ts_meta *meta, kv_slice family, kv_slice type, kv_slice help, kv_slice unit)
{
    kv_slice field[META_FIELDS] = {family, type, help, unit};
    if (family.len == 0 || family.len > TS_META_TEXT_MAX)
        return KV_INVALID;
    for (int i = 0; i < META_FIELDS; i++)
        field[i] = meta_cut(field[i]);
    kv_mutex_lock(&meta->lock);
    kv_status rc = KV_OK;
    size_t i = meta_lower(meta, family);
    struct meta_entry *old = meta_at(meta, i, family) ? meta->entries[i] : NULL;
    bool same = old != NULL;
    for (int f = 1; same && f < META_FIELDS; f++)
        same = kv_slice_equal(old->field[f], field[f]);
    if (!same) {
        struct meta_entry *entry = meta_entry_new(field);
        if (!entry)
            rc = KV_NO_MEMORY;
        else if (meta->bytes - (old ? old->bytes : 0) + entry->bytes > TS_META_BYTES_MAX)
            rc = KV_LIMIT;
        else if (!old)
            rc = meta_room(meta);
        if (rc < 0) {
            kv_free(entry);
        } else {
            if (!old) {
                memmove(meta->entries + i + 1, meta->entries + i,
                        (meta->n - i) * sizeof(struct meta_entry *));
                meta->n++;
            }
            meta->bytes = meta->bytes - (old ? old->bytes : 0) + entry->bytes;
            entry->stamp = ++meta->stamp;
            meta->entries[i] = entry;
            kv_free(old);
        }
    }
    kv_mutex_unlock(&meta->lock);
    return rc;
}

kv_status ts_meta_each(struct ts_meta *meta, kv_slice family,
                       kv_status (*each)(void *ctx, kv_slice family, kv_slice type, kv_slice help,
                                         kv_slice unit),
                       void *ctx)
{
    kv_status rc = KV_OK;
    kv_mutex_lock(&meta->lock);
    for (size_t i = family.len ? meta_lower(meta, family) : 0; i < meta->n && rc >= 0; i++) {
        const kv_slice *field = meta->entries[i]->field;
        if (family.len && !kv_slice_equal(field[0], family))
            break;
        rc = each(ctx, field[0], field[1], field[2], field[3]);
    }
    kv_mutex_unlock(&meta->lock);
    return rc < 0 ? rc : KV_OK;
}

/* ---- stored ------------------------------------------------------------------------------------------------ */

static kv_status meta_read(struct ts_meta *meta, kv_slice key, kv_slice value)
{
    uint8_t text[TS_KEY_TEXT_LEN_MAX];
    kv_slice in = kv_slice_from(key, 1), type, help, unit;
    size_t len;
    bool cut;
    if (ts_key_take_text(&in, NULL, text, &len, &cut) < 0 || in.len > 0 || kv_take_lp(&value, &type) < 0 ||
        kv_take_lp(&value, &help) < 0 || kv_take_lp(&value, &unit) < 0 || cut != (value.len > 0))
        return KV_CORRUPT;
    kv_status rc = ts_meta_set(meta, cut ? value : kv_slice_of(text, len), type, help, unit);
    return rc == KV_INVALID ? KV_CORRUPT : rc == KV_LIMIT ? KV_OK : rc;
}

kv_status ts_meta_load(struct ts_meta *meta, struct kv_db *kv, struct kv_err *err)
{
    struct kv_iter *it = NULL;
    struct ts_key lower, upper;
    kv_status rc;
    ts_key_kind(&lower, 'f');
    upper = lower;
    (void)ts_key_successor(&upper);
    KV_TRY(kv_iter_open(kv, NULL, TS_SPACE_SERIES, ts_key_slice(&lower), ts_key_slice(&upper), &it));
    for (rc = kv_iter_seek(it, KV_STR("")); rc == KV_OK; rc = kv_iter_next(it))
        KV_TRY(meta_read(meta, it->key, it->value));
    rc = rc == KV_END ? KV_OK : rc;
    meta->saved = meta->stamp;
out:
    if (rc == KV_CORRUPT)
        rc = kv_fail(err, rc, 0, "the metadata of a metric family is damaged");
    kv_iter_close(it);
    return rc;
}

static kv_status meta_put(const struct meta_entry *entry, struct kv_buf *value, struct kv_batch *batch)
{
    struct ts_key key;
    kv_status rc = KV_OK;
    kv_buf_clear(value);
    for (int f = 1; f < META_FIELDS; f++)
        KV_TRY(kv_buf_append_lp(value, entry->field[f]));
    if (entry->field[0].len > TS_KEY_TEXT_LEN_MAX)
        KV_TRY(kv_buf_append(value, entry->field[0]));
    ts_key_family(&key, entry->field[0]);
    rc = kv_batch_put(batch, TS_SPACE_SERIES, ts_key_slice(&key), kv_buf_slice(value));
out:
    return rc;
}

/* What is not stored yet; *stamp: up to where. */
static kv_status meta_collect(struct ts_meta *meta, struct kv_batch *batch, uint64_t *stamp)
{
    struct kv_buf value = {0};
    kv_status rc = KV_OK;
    kv_mutex_lock(&meta->lock);
    *stamp = meta->stamp;
    for (size_t i = 0; i < meta->n && rc == KV_OK; i++)
        if (meta->entries[i]->stamp > meta->saved)
            rc = meta_put(meta->entries[i], &value, batch);
    kv_mutex_unlock(&meta->lock);
    kv_buf_release(&value);
    return rc;
}

kv_status ts_meta_save(struct ts_meta *meta, struct kv_db *kv, struct kv_err *err)
{
    struct kv_batch *batch = NULL;
    uint64_t stamp;
    kv_status rc;
    kv_mutex_lock(&meta->lock);
    bool changed = meta->stamp > meta->saved;
    kv_mutex_unlock(&meta->lock);
    if (!changed)
        return KV_OK;
    KV_TRY(kv_batch_new(&batch));
    KV_TRY(meta_collect(meta, batch, &stamp));
    KV_TRY(kv_commit(kv, batch, NULL, NULL, err));
    kv_mutex_lock(&meta->lock);
    meta->saved = stamp;
    kv_mutex_unlock(&meta->lock);
out:
    if (rc == KV_NO_MEMORY)
        rc = kv_fail(err, rc, 0, "out of memory storing the metadata of metric families");
    kv_batch_free(batch);
    return rc;
}
