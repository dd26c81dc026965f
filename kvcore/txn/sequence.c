/*
 * Numbers that never repeat: handed out from memory, leased from the database in blocks.
 *
 * The value of the sequence's key is the first number nobody has leased (8 bytes, little-endian). A lease moves it
 * ahead in a transaction that is durable before the first number of the block is handed out, so after a crash the
 * numbers go on behind the block; those that were not used are lost. Several handles, also of several processes
 * one after another, lease blocks of their own.
 */
#include "kvcore/base/coding.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/db.h"

#include <inttypes.h>

enum { SEQUENCE_TRIES = 1000, SEQUENCE_VALUE_LEN = 8 };

struct kv_sequence {
    struct kv_db *db;
    uint32_t space;
    struct kv_buf key;
    uint64_t lease;
    kv_mutex mutex;
    uint64_t next, end; /* [next, end) is ours */
};

static kv_status stored_next(struct kv_sequence *sequence, struct kv_txn *txn, uint64_t *next,
                             struct kv_err *err)
{
    struct kv_pinned pinned;
    *next = 0;
    kv_status rc = kv_txn_get(txn, sequence->space, kv_buf_slice(&sequence->key), &pinned, err);
    if (rc != KV_OK)
        return rc < 0 ? rc : KV_OK;
    if (pinned.value.len == SEQUENCE_VALUE_LEN)
        *next = kv_get_fixed64(pinned.value.data);
    else
        rc = kv_fail(err, KV_INVALID, 0, "the key of the sequence holds %zu bytes that are none",
                     pinned.value.len);
    kv_pinned_release(&pinned);
    return rc;
}

static kv_status store_next(struct kv_sequence *sequence, struct kv_txn *txn, uint64_t next,
                            struct kv_err *err)
{
    uint8_t value[SEQUENCE_VALUE_LEN];
    kv_put_fixed64(value, next);
    return kv_txn_put(txn, sequence->space, kv_buf_slice(&sequence->key), kv_slice_of(value, sizeof value),
                      err);
}

struct lease {
    struct kv_sequence *sequence;
    uint64_t from;
};

static kv_status lease_run(void *ctx, struct kv_txn *txn, struct kv_err *err)
{
    struct lease *lease = ctx;
    kv_status rc = stored_next(lease->sequence, txn, &lease->from, err);
    if (rc < 0)
        return rc;
    if (lease->from > UINT64_MAX - lease->sequence->lease)
        return kv_fail(err, KV_LIMIT, 0, "the sequence has no numbers left behind %" PRIu64, lease->from);
    return store_next(lease->sequence, txn, lease->from + lease->sequence->lease, err);
}

/* With the mutex. */
static kv_status sequence_lease(struct kv_sequence *sequence, struct kv_err *err)
{
    struct lease lease = {.sequence = sequence};
    kv_status rc = kv_txn_run(sequence->db, NULL, SEQUENCE_TRIES, lease_run, &lease, NULL, err);
    if (rc >= 0 && sequence->db->options.durability >= KV_DURABILITY_INTERVAL)
        rc = kv_sync(sequence->db, err); /* a lease that a crash takes back would be given out again */
    if (rc < 0)
        return rc;
    sequence->next = lease.from;
    sequence->end = lease.from + sequence->lease;
    return KV_OK;
}

static kv_status give_back_run(void *ctx, struct kv_txn *txn, struct kv_err *err)
{
    struct kv_sequence *sequence = ctx;
    uint64_t stored;
    kv_status rc = stored_next(sequence, txn, &stored, err);
    if (rc < 0 || stored != sequence->end)
        return rc; /* somebody leased behind us: the rest is lost */
    return store_next(sequence, txn, sequence->next, err);
}

kv_status kv_sequence_open(struct kv_db *db, uint32_t space, kv_slice key, uint64_t lease,
                           struct kv_sequence **out, struct kv_err *err)
{
    if (!kv_space_known(db, space) || key.len < 1 || key.len > KV_KEY_LEN_MAX)
        return kv_fail(err, KV_INVALID, 0, "space %" PRIu32 " or a key of %zu bytes does not exist", space,
                       key.len);
    if (lease == 0)
        return kv_fail(err, KV_INVALID, 0, "lease: a block of 0 numbers");
    if (!db->committer)
        return kv_fail(err, KV_READ_ONLY, 0, "the database is open read-only");
    struct kv_sequence *sequence = kv_zalloc(1, sizeof *sequence);
    if (!sequence)
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory opening a sequence");
    sequence->db = db;
    sequence->space = space;
    sequence->lease = lease;
    if (kv_buf_append(&sequence->key, key) < 0) {
        kv_free(sequence);
        return kv_fail(err, KV_NO_MEMORY, 0, "out of memory opening a sequence");
    }
    kv_mutex_init(&sequence->mutex);
    atomic_fetch_add_explicit(&db->pins, 1, memory_order_relaxed);
    *out = sequence;
    return KV_OK;
}

kv_status kv_sequence_next(struct kv_sequence *sequence, uint64_t *number, struct kv_err *err)
{
    kv_mutex_lock(&sequence->mutex);
    kv_status rc = sequence->next == sequence->end ? sequence_lease(sequence, err) : KV_OK;
    if (rc >= 0)
        *number = sequence->next++;
    kv_mutex_unlock(&sequence->mutex);
    return rc < 0 ? rc : KV_OK;
}

kv_status kv_sequence_close(struct kv_sequence *sequence, struct kv_err *err)
{
    kv_status rc = KV_OK;
    if (!sequence)
        return KV_OK;
    if (sequence->next != sequence->end)
        rc = kv_txn_run(sequence->db, NULL, SEQUENCE_TRIES, give_back_run, sequence, NULL, err);
    atomic_fetch_sub_explicit(&sequence->db->pins, 1, memory_order_relaxed);
    kv_mutex_release(&sequence->mutex);
    kv_buf_release(&sequence->key);
    kv_free(sequence);
    return rc < 0 ? rc : KV_OK;
}
