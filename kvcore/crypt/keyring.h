/*
 * keyring.h - the keys of one open database: the master key the application gave, and the data keys, which lie in the
 * manifest wrapped by it. Grammar and threats: kvcore/docs/encryption.md.
 *
 * Tables, logs and value logs are encrypted under a data key, manifest files under the master key; each file under a
 * key of its own that is derived from that one, its salt and its whole header, so a changed header opens nothing.
 * A new data key takes over when the last one is old or has sealed enough; old ones stay, for the files that use them.
 * The file functions take NULL for a database without keys: its files are plain.
 *
 * Threads    any; what makes, adds or changes keys: one at a time (the database's manifest lock).
 * Ownership  a keyring outlives its ciphers. Keys lie in locked memory (os/secret.h) and are zeroed when it is freed;
 *            those of single files in ordinary memory, zeroed too.
 * Failure    KV_WRONG_KEY: no key, or another one; KV_CORRUPT; KV_NO_MEMORY. Texts name ids of keys, never keys.
 */
#ifndef KV_KEYRING_H
#define KV_KEYRING_H

#include "kvcore/base/file_header.h"
#include "kvcore/crypt/cipher.h"
#include "kvcore/os/clock.h"

enum { KV_DATA_KEY_SALT_LEN = 16, KV_DATA_KEY_WRAPPED_LEN = KV_CIPHER_KEY_LEN + KV_CIPHER_TAG_LEN };

/* A data key as the manifest holds it. */
struct kv_data_key {
    uint64_t id; /* from 1; the newest is the one in use */
    int64_t created_ms;
    uint64_t sealed; /* pieces sealed under it, at least */
    uint8_t salt[KV_DATA_KEY_SALT_LEN];
    uint8_t wrapped[KV_DATA_KEY_WRAPPED_LEN];
};

struct kv_keyring;

/* What a key is called, a fingerprint of it: never 0. Public: kv.h. */
KV_API KV_MUST kv_status kv_master_key_id(const uint8_t master[KV_CIPHER_KEY_LEN], uint64_t *id);

KV_MUST kv_status kv_keyring_new(const uint8_t master[KV_CIPHER_KEY_LEN], const uint8_t uuid[KV_UUID_LEN],
                                 struct kv_keyring **out);
void kv_keyring_free(struct kv_keyring *keys); /* NULL is fine */

/* ---- data keys */

/* A new random key under the next id, wrapped. It is in use once kv_keyring_use says that it is durable; until then the
 * same one is made again, so that an edit whose fate is unknown never leaves two keys under one id. */
KV_MUST kv_status kv_keyring_make(struct kv_keyring *keys, struct kv_clock *clock, struct kv_data_key *out);
void kv_keyring_use(struct kv_keyring *keys, uint64_t id); /* made before */
/* One that was found: unwraps it; the one with the highest id is in use. */
KV_MUST kv_status kv_keyring_add(struct kv_keyring *keys, const struct kv_data_key *key, struct kv_err *err);
/* The id in use; 0: none yet. */
uint64_t kv_keyring_current(struct kv_keyring *keys);
/* Pieces sealed under the key in use, what kv_data_key said included. */
uint64_t kv_keyring_sealed(struct kv_keyring *keys);
/* There is no data key yet, or the one in use is older than age_ms, or has sealed so many pieces. */
bool kv_keyring_due(struct kv_keyring *keys, int64_t now_ms, int64_t age_ms, uint64_t sealed_max);
/* The same key wrapped anew under the master key of the moment. */
KV_MUST kv_status kv_keyring_wrap(struct kv_keyring *keys, struct kv_clock *clock, struct kv_data_key *key);

/* ---- the master key */

uint64_t kv_keyring_master(const struct kv_keyring *keys); /* its id */
/* Takes the next master key in; it becomes the master key by the swap, which cannot fail and undoes itself; the one
 * that is not in use in the end is dropped. */
KV_MUST kv_status kv_keyring_next_master(struct kv_keyring *keys, const uint8_t master[KV_CIPHER_KEY_LEN]);
void kv_keyring_swap_master(struct kv_keyring *keys);
void kv_keyring_drop_next(struct kv_keyring *keys);
/* Keeps the master key as it is while a copy of the manifest is made outside the manifest lock. Whoever swaps holds it
 * too, until it is settled. */
void kv_keyring_hold_master(struct kv_keyring *keys); /* NULL is fine */
void kv_keyring_let_master(struct kv_keyring *keys);

/* ---- files */

/* key_id for the header of a file about to be made; 0: plain. */
uint64_t kv_keyring_key_for(struct kv_keyring *keys, enum kv_file_kind kind);
/* From now on only files numbered below may be plain: those of before the database was encrypted. */
void kv_keyring_plain_below(struct kv_keyring *keys, uint64_t number);
/* May a file of this number be plain? */
bool kv_keyring_may_be_plain(const struct kv_keyring *keys, uint64_t number);
/* The cipher of the file whose checked header is raw, new or found; *out NULL: it is plain. number: of the file; 0: of
 * no matter. name is for texts. */
KV_MUST kv_status kv_keyring_cipher(struct kv_keyring *keys, const uint8_t raw[KV_FILE_HEADER_LEN],
                                    uint64_t number, const char *name, struct kv_cipher **out,
                                    struct kv_err *err);

#endif
