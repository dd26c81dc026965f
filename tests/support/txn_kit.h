/* txn_kit.h - transactions on NUL-terminated keys and values, for tests. What is not asked about asserts. */
#ifndef TXN_KIT_H
#define TXN_KIT_H

#include "tests/support/kv_kit.h"

struct kv_txn *txn_kit_begin(struct kv_kit *kit);
struct kv_txn *txn_kit_begin_with(struct kv_kit *kit, const struct kv_txn_options *options);
/* Does it read so? value NULL: absent. */
bool txn_kit_is(struct kv_txn *txn, uint32_t space, const char *key, const char *value);
void txn_kit_put(struct kv_txn *txn, uint32_t space, const char *key, const char *value); /* NULL: delete */
/* "k=v k=v" of [lower, upper), at most n entries, into out. */
const char *txn_kit_scan(struct kv_txn *txn, uint32_t space, const char *lower, const char *upper, size_t n,
                         char *out, size_t size);
/* Commits and frees. */
kv_status txn_kit_commit(struct kv_txn *txn);

#endif
