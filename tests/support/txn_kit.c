#include "tests/support/txn_kit.h"
#include "kvcore/base/assert.h"

#include <stdio.h>

struct kv_txn *txn_kit_begin_with(struct kv_kit *kit, const struct kv_txn_options *options)
{
    struct kv_txn *txn = NULL;
    kv_status rc = kv_txn_begin(kit->db, options, &txn, &kit->err);
    KV_ASSERT(rc == KV_OK);
    return txn;
}

struct kv_txn *txn_kit_begin(struct kv_kit *kit)
{
    return txn_kit_begin_with(kit, NULL);
}

bool txn_kit_is(struct kv_txn *txn, uint32_t space, const char *key, const char *value)
{
    struct kv_pinned pinned;
    kv_status rc = kv_txn_get(txn, space, kv_slice_str(key), &pinned, NULL);
    KV_ASSERT(rc >= 0);
    bool is = value ? rc == KV_OK && kv_slice_equal(pinned.value, kv_slice_str(value)) : rc == KV_NOT_FOUND;
    kv_pinned_release(&pinned);
    return is;
}

void txn_kit_put(struct kv_txn *txn, uint32_t space, const char *key, const char *value)
{
    kv_status rc = value ? kv_txn_put(txn, space, kv_slice_str(key), kv_slice_str(value), NULL)
                         : kv_txn_delete(txn, space, kv_slice_str(key), NULL);
    KV_ASSERT(rc == KV_OK);
}

const char *txn_kit_scan(struct kv_txn *txn, uint32_t space, const char *lower, const char *upper, size_t n,
                         char *out, size_t size)
{
    struct kv_iter *it = NULL;
    size_t len = 0;
    out[0] = 0;
    kv_status rc = kv_txn_iter_open(txn, space, kv_slice_str(lower), kv_slice_str(upper), &it);
    KV_ASSERT(rc == KV_OK);
    for (rc = n ? kv_iter_seek(it, (kv_slice){0}) : KV_END; rc == KV_OK;
         rc = --n ? kv_iter_next(it) : KV_END) {
        len += (size_t)snprintf(out + len, size - len, "%s%.*s=%.*s", len ? " " : "", KV_ARG(it->key),
                                KV_ARG(it->value));
        KV_ASSERT(len < size);
    }
    KV_ASSERT(rc == KV_END);
    kv_iter_close(it);
    return out;
}

kv_status txn_kit_commit(struct kv_txn *txn)
{
    kv_status rc = kv_txn_commit(txn, NULL, NULL, NULL);
    kv_txn_abort(txn);
    return rc;
}
