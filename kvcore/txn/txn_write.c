/*
 * What a transaction writes, kept twice: as it will be committed (a batch: of each key the last word), and in the order of
 * keys with one version for each write, so that it can be read like any memtable.
 */
#include "kvcore/base/mem.h"
#include "kvcore/txn/txn.h"

#include <inttypes.h>

enum {
    REBUILD_MIN = 1 << 20, /* of the ordered copy of the writes, before superseded ones are squeezed out */
    ENTRY_BYTES = 64,      /* about what an entry takes in it besides key and value */
};

struct write {
    uint32_t space;
    enum kv_kind kind;
    kv_slice key, value; /* value: of a merge the operand, of a range deletion its end */
    const struct kv_put_options *options;
};

static kv_status check_place(struct kv_txn *txn, const struct write *write, struct kv_err *err)
{
    if (!kv_space_known(txn->db, write->space) || write->key.len < 1 || write->key.len > KV_KEY_LEN_MAX)
        return kv_fail(err, KV_INVALID, 0, "space %" PRIu32 " or a key of %zu bytes does not exist",
                       write->space, write->key.len);
    const struct kv_space *space = &txn->db->spaces[txn->db->ids[write->space]];
    if (space->hook && write->kind == KV_KIND_RICH)
        return kv_fail(err, KV_INVALID, 0, "space %s has a hook: puts have no attributes there", space->name);
    if (!space->merge && write->kind == KV_KIND_MERGE)
        return kv_fail(err, KV_INVALID, 0, "space %s has no merge operator", space->name);
    if (write->kind == KV_KIND_RANGE &&
        (write->value.len > KV_KEY_LEN_MAX || kv_slice_compare(write->key, write->value) >= 0))
        return kv_fail(err, KV_INVALID, 0,
                       "the range to delete in space %s ends before it begins, or is too long", space->name);
    return KV_OK;
}

static kv_status write_check(struct kv_txn *txn, const struct write *write, struct kv_err *err)
{
    kv_status rc = kv_txn_check_open(txn, err);
    if (rc < 0)
        return rc;
    if (txn->read_only)
        return kv_fail(err, KV_INVALID, 0, "the transaction was begun read-only");
    if (txn->broken < 0)
        return kv_fail(err, txn->broken, 0, "an earlier call of the transaction failed half-way");
    rc = check_place(txn, write, err);
    if (rc < 0)
        return rc;
    if (write->value.len > KV_VALUE_LEN_MAX)
        return kv_fail(err, KV_LIMIT, 0, "a value of %zu bytes; at most %d", write->value.len,
                       KV_VALUE_LEN_MAX);
    size_t bytes = txn->batch ? kv_batch_payload(txn->batch) : 0;
    size_t entries = txn->batch ? kv_batch_count(txn->batch) : 0;
    if (bytes + write->key.len + write->value.len > txn->bytes_max)
        return kv_fail(err, KV_LIMIT, 0, "a transaction of more than %zu bytes (bytes_max)", txn->bytes_max);
    if (entries >= txn->entries_max)
        return kv_fail(err, KV_LIMIT, 0, "a transaction of more than %zu entries (entries_max)",
                       txn->entries_max);
    return KV_OK;
}

/* The ordered copy holds every write; once most are superseded it is made again from those that are not. */
static kv_status written_rebuild(struct kv_txn *txn)
{
    struct kv_memtable *fresh = NULL;
    struct kv_batch_entry entry;
    size_t live = kv_batch_payload(txn->batch) + kv_batch_count(txn->batch) * ENTRY_BYTES;
    size_t held = kv_memtable_bytes(txn->written);
    if (held < REBUILD_MIN || held / 4 < live)
        return KV_OK;
    kv_slice rest = kv_batch_bytes(txn->batch);
    kv_status rc = kv_memtable_new(txn->db->n_declared, &fresh);
    while (rc == KV_OK && (rc = kv_batch_next(&rest, &entry)) == KV_OK) {
        struct kv_entry copy = {entry.key, ++txn->newest, (enum kv_kind)entry.kind, entry.value};
        rc = kv_memtable_add(fresh, entry.space, &copy);
    }
    if (rc != KV_END) {
        kv_memtable_unref(fresh);
        return rc;
    }
    kv_memtable_unref(txn->written); /* open iterators keep theirs */
    txn->written = fresh;
    return KV_OK;
}

static kv_status write_begin(struct kv_txn *txn)
{
    kv_status rc = txn->batch ? KV_OK : kv_batch_new(&txn->batch);
    if (rc == KV_OK && !txn->written)
        rc = kv_memtable_new(txn->db->n_declared, &txn->written);
    return rc == KV_OK ? written_rebuild(txn) : rc;
}

static kv_status write_batch(struct kv_batch *batch, const struct write *write)
{
    switch (write->kind) {
    case KV_KIND_DELETE:
        return kv_batch_delete(batch, write->space, write->key);
    case KV_KIND_RANGE:
        return kv_batch_delete_range(batch, write->space, write->key, write->value);
    case KV_KIND_MERGE:
        return kv_batch_merge(batch, write->space, write->key, write->value);
    default:
        return kv_batch_put_with(batch, write->space, write->key, write->value, write->options);
    }
}

/* The entry as a memtable holds it; *bytes is what its value lies in, if it is not the caller's. */
static kv_status write_entry(const struct write *write, struct kv_buf *bytes, struct kv_entry *entry)
{
    struct kv_attrs attrs = kv_put_attrs(write->options);
    *entry = (struct kv_entry){.key = write->key, .kind = write->kind, .value = write->value};
    if (write->kind == KV_KIND_RICH)
        return kv_attrs_entry(&attrs, write->value, bytes, entry);
    if (write->kind != KV_KIND_MERGE)
        return KV_OK;
    kv_status rc = kv_buf_append_byte(bytes, 0); /* no attributes */
    if (rc == KV_OK)
        rc = kv_buf_append_lp(bytes, write->value);
    entry->value = kv_buf_slice(bytes);
    return rc;
}

static kv_status txn_write(struct kv_txn *txn, const struct write *write, struct kv_err *err)
{
    struct kv_buf bytes = {0};
    struct kv_entry entry;
    kv_status rc = write_check(txn, write, err);
    if (rc < 0)
        return rc;
    KV_TRY(write_entry(write, &bytes, &entry));
    KV_TRY(write_begin(txn));
    KV_TRY(
        kv_memtable_reserve(txn->written, 1, entry.key.len + entry.value.len)); /* the add cannot fail then */
    KV_TRY(write_batch(txn->batch, write));
    entry.version = ++txn->newest;
    txn->broken = kv_memtable_add(txn->written, write->space, &entry);
    rc = txn->broken;
out:
    if (rc < 0)
        kv_fail(err, rc, 0, "writing in a transaction: %s", kv_status_text(rc));
    kv_buf_release(&bytes);
    return rc;
}

kv_status kv_txn_put(struct kv_txn *txn, uint32_t space, kv_slice key, kv_slice value, struct kv_err *err)
{
    return txn_write(txn, &(struct write){space, KV_KIND_PUT, key, value, NULL}, err);
}

kv_status kv_txn_put_with(struct kv_txn *txn, uint32_t space, kv_slice key, kv_slice value,
                          const struct kv_put_options *options, struct kv_err *err)
{
    struct kv_attrs attrs = kv_put_attrs(options);
    enum kv_kind kind = kv_attrs_plain(&attrs) ? KV_KIND_PUT : KV_KIND_RICH;
    return txn_write(txn, &(struct write){space, kind, key, value, options}, err);
}

kv_status kv_txn_delete(struct kv_txn *txn, uint32_t space, kv_slice key, struct kv_err *err)
{
    return txn_write(txn, &(struct write){space, KV_KIND_DELETE, key, {0}, NULL}, err);
}

kv_status kv_txn_merge(struct kv_txn *txn, uint32_t space, kv_slice key, kv_slice operand, struct kv_err *err)
{
    return txn_write(txn, &(struct write){space, KV_KIND_MERGE, key, operand, NULL}, err);
}

kv_status kv_txn_delete_range(struct kv_txn *txn, uint32_t space, kv_slice lower, kv_slice upper,
                              struct kv_err *err)
{
    return txn_write(txn, &(struct write){space, KV_KIND_RANGE, lower, upper, NULL}, err);
}
