#include "kvcore/crypt/keyring.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/mem.h"
#include "kvcore/os/secret.h"
#include "kvcore/os/thread.h"

#include <inttypes.h>

/* What keys are derived for; no two uses share a text. */
#define INFO_MASTER_ID "kvcore master key id"
#define INFO_WRAP      "kvcore data key"
#define INFO_FILE      "kvcore file"

enum { MASTERS = 2 };

struct entry {
    uint64_t id;
    int64_t created_ms;
    _Atomic uint64_t sealed;
    uint8_t *key; /* secret */
};

struct kv_keyring {
    struct kv_cipher_pool *pool;
    uint8_t uuid[KV_UUID_LEN];
    uint8_t *masters[MASTERS]; /* secret; [0] is the one in use */
    uint64_t master_ids[MASTERS];
    _Atomic uint64_t plain_below;
    kv_mutex hold;          /* of the master key */
    kv_mutex mutex;         /* guards what follows */
    struct entry **entries; /* by id; they never move */
    size_t n, capacity;
    struct entry *current; /* NULL: none */
};

kv_status kv_master_key_id(const uint8_t master[KV_CIPHER_KEY_LEN], uint64_t *id)
{
    uint8_t bytes[8];
    kv_status rc = kv_hkdf(kv_slice_of(master, KV_CIPHER_KEY_LEN), KV_STR(INFO_MASTER_ID),
                           KV_STR(INFO_MASTER_ID), bytes, sizeof bytes);
    if (rc < 0)
        return rc;
    uint64_t named = kv_get_fixed64(bytes);
    *id = named + (named == 0); /* never 0 */
    return KV_OK;
}

kv_status kv_keyring_new(const uint8_t master[KV_CIPHER_KEY_LEN], const uint8_t uuid[KV_UUID_LEN],
                         struct kv_keyring **out)
{
    struct kv_keyring *keys = kv_zalloc(1, sizeof *keys);
    kv_status rc = KV_NO_MEMORY;
    if (!keys)
        return rc;
    kv_mutex_init(&keys->mutex);
    kv_mutex_init(&keys->hold);
    memcpy(keys->uuid, uuid, KV_UUID_LEN);
    for (int i = 0; i < MASTERS; i++) {
        keys->masters[i] = kv_secret_alloc(KV_CIPHER_KEY_LEN);
        if (!keys->masters[i])
            goto out;
    }
    memcpy(keys->masters[0], master, KV_CIPHER_KEY_LEN);
    KV_TRY(kv_master_key_id(master, &keys->master_ids[0]));
    KV_TRY(kv_cipher_pool_new(&keys->pool));
    *out = keys;
    return KV_OK;
out:
    kv_keyring_free(keys);
    return rc;
}

static void entry_free(struct entry *entry)
{
    if (!entry)
        return;
    kv_secret_free(entry->key);
    kv_free(entry);
}

void kv_keyring_free(struct kv_keyring *keys)
{
    if (!keys)
        return;
    for (size_t i = 0; i < keys->n; i++)
        entry_free(keys->entries[i]);
    for (int i = 0; i < MASTERS; i++)
        kv_secret_free(keys->masters[i]);
    kv_free(keys->entries);
    kv_cipher_pool_free(keys->pool);
    kv_mutex_release(&keys->mutex);
    kv_mutex_release(&keys->hold);
    kv_free(keys);
}

/* ---- data keys */

static struct entry *entry_of(struct kv_keyring *keys, uint64_t id)
{
    struct entry *found = NULL;
    kv_mutex_lock(&keys->mutex);
    for (size_t i = keys->n; i-- > 0 && !found;)
        if (keys->entries[i]->id == id)
            found = keys->entries[i];
    kv_mutex_unlock(&keys->mutex);
    return found;
}

static struct entry *entry_current(struct kv_keyring *keys)
{
    kv_mutex_lock(&keys->mutex);
    struct entry *entry = keys->current;
    kv_mutex_unlock(&keys->mutex);
    return entry;
}

/* The key that wraps one data key: of the master key, a random salt, the database and the data key's id. */
static kv_status wrap_key(const struct kv_keyring *keys, const struct kv_data_key *key,
                          uint8_t out[KV_CIPHER_KEY_LEN])
{
    uint8_t info[sizeof INFO_WRAP - 1 + KV_UUID_LEN + 8], *at = info;
    memcpy(at, INFO_WRAP, sizeof INFO_WRAP - 1);
    at += sizeof INFO_WRAP - 1;
    memcpy(at, keys->uuid, KV_UUID_LEN);
    kv_put_fixed64(at + KV_UUID_LEN, key->id);
    return kv_hkdf(kv_slice_of(keys->masters[0], KV_CIPHER_KEY_LEN), kv_slice_of(key->salt, sizeof key->salt),
                   kv_slice_of(info, sizeof info), out, KV_CIPHER_KEY_LEN);
}

/* The wrapping key is used this once, so its nonce may be what it likes. */
static const uint8_t wrap_nonce[KV_CIPHER_NONCE_LEN];

static kv_status wrap(const struct kv_keyring *keys, struct kv_clock *clock, const uint8_t *plain,
                      struct kv_data_key *key)
{
    uint8_t wrapper[KV_CIPHER_KEY_LEN];
    kv_clock_entropy(clock, key->salt, sizeof key->salt);
    kv_status rc = wrap_key(keys, key, wrapper);
    if (rc == KV_OK)
        rc =
            kv_gcm_seal(wrapper, wrap_nonce, KV_STR(""), kv_slice_of(plain, KV_CIPHER_KEY_LEN), key->wrapped);
    kv_secret_wipe(wrapper, sizeof wrapper);
    return rc;
}

kv_status kv_keyring_wrap(struct kv_keyring *keys, struct kv_clock *clock, struct kv_data_key *key)
{
    struct entry *entry = entry_of(keys, key->id);
    KV_ASSERT(entry != NULL);
    return wrap(keys, clock, entry->key, key);
}

static kv_status unwrap(const struct kv_keyring *keys, const struct kv_data_key *key, uint8_t *plain)
{
    uint8_t wrapper[KV_CIPHER_KEY_LEN];
    kv_status rc = wrap_key(keys, key, wrapper);
    if (rc == KV_OK)
        rc = kv_gcm_open(wrapper, wrap_nonce, KV_STR(""), kv_slice_of(key->wrapped, sizeof key->wrapped),
                         plain);
    kv_secret_wipe(wrapper, sizeof wrapper);
    return rc;
}

static kv_status entry_insert(struct kv_keyring *keys, struct entry *entry)
{
    kv_mutex_lock(&keys->mutex);
    struct entry **grown = kv_grow(keys->entries, &keys->capacity, keys->n + 1, sizeof(struct entry *));
    if (grown) {
        keys->entries = grown;
        size_t at = keys->n++;
        for (; at > 0 && keys->entries[at - 1]->id > entry->id; at--)
            keys->entries[at] = keys->entries[at - 1];
        keys->entries[at] = entry;
    }
    kv_mutex_unlock(&keys->mutex);
    return grown ? KV_OK : KV_NO_MEMORY;
}

static struct entry *entry_new(const struct kv_data_key *key)
{
    struct entry *entry = kv_zalloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    entry->id = key->id;
    entry->created_ms = key->created_ms;
    atomic_init(&entry->sealed, key->sealed);
    entry->key = kv_secret_alloc(KV_CIPHER_KEY_LEN);
    if (entry->key)
        return entry;
    kv_free(entry);
    return NULL;
}

/* Made and not yet in use, or NULL. */
static struct entry *entry_made(struct kv_keyring *keys)
{
    kv_mutex_lock(&keys->mutex);
    struct entry *newest = keys->n ? keys->entries[keys->n - 1] : NULL;
    struct entry *entry = newest == keys->current ? NULL : newest;
    kv_mutex_unlock(&keys->mutex);
    return entry;
}

kv_status kv_keyring_make(struct kv_keyring *keys, struct kv_clock *clock, struct kv_data_key *out)
{
    struct entry *entry = entry_made(keys);
    *out = (struct kv_data_key){.id = kv_keyring_current(keys) + 1, .created_ms = kv_clock_wall_ms(clock)};
    if (!entry) {
        entry = entry_new(out);
        if (!entry)
            return KV_NO_MEMORY;
        kv_clock_entropy(clock, entry->key, KV_CIPHER_KEY_LEN);
        kv_status rc = entry_insert(keys, entry);
        if (rc < 0) {
            entry_free(entry);
            return rc;
        }
    }
    out->created_ms = entry->created_ms;
    return wrap(keys, clock, entry->key, out);
}

void kv_keyring_use(struct kv_keyring *keys, uint64_t id)
{
    struct entry *entry = entry_of(keys, id);
    KV_ASSERT(entry != NULL);
    kv_mutex_lock(&keys->mutex);
    keys->current = entry;
    kv_mutex_unlock(&keys->mutex);
}

kv_status kv_keyring_add(struct kv_keyring *keys, const struct kv_data_key *key, struct kv_err *err)
{
    struct entry *entry = entry_new(key);
    kv_status rc = KV_NO_MEMORY;
    if (!entry)
        goto out;
    KV_TRY(unwrap(keys, key, entry->key));
    KV_TRY(entry_insert(keys, entry));
    if (key->id > kv_keyring_current(keys))
        kv_keyring_use(keys, key->id);
    return KV_OK;
out:
    entry_free(entry);
    return rc == KV_CORRUPT
               ? kv_fail(err, rc, 0, "data key %" PRIu64 " of the manifest is damaged", key->id)
               : kv_fail(err, rc, 0, "taking in data key %" PRIu64 ": %s", key->id, kv_status_text(rc));
}

uint64_t kv_keyring_current(struct kv_keyring *keys)
{
    struct entry *entry = entry_current(keys);
    return entry ? entry->id : 0;
}

uint64_t kv_keyring_sealed(struct kv_keyring *keys)
{
    struct entry *entry = entry_current(keys);
    return entry ? atomic_load_explicit(&entry->sealed, memory_order_relaxed) : 0;
}

bool kv_keyring_due(struct kv_keyring *keys, int64_t now_ms, int64_t age_ms, uint64_t sealed_max)
{
    struct entry *entry = entry_current(keys);
    return !entry || now_ms - entry->created_ms >= age_ms || kv_keyring_sealed(keys) >= sealed_max;
}

/* ---- the master key */

uint64_t kv_keyring_master(const struct kv_keyring *keys)
{
    return keys->master_ids[0];
}

kv_status kv_keyring_next_master(struct kv_keyring *keys, const uint8_t master[KV_CIPHER_KEY_LEN])
{
    memcpy(keys->masters[1], master, KV_CIPHER_KEY_LEN);
    return kv_master_key_id(master, &keys->master_ids[1]);
}

void kv_keyring_swap_master(struct kv_keyring *keys)
{
    uint8_t *master = keys->masters[0];
    uint64_t id = keys->master_ids[0];
    keys->masters[0] = keys->masters[1];
    keys->master_ids[0] = keys->master_ids[1];
    keys->masters[1] = master;
    keys->master_ids[1] = id;
}

void kv_keyring_hold_master(struct kv_keyring *keys)
{
    if (keys)
        kv_mutex_lock(&keys->hold);
}

void kv_keyring_let_master(struct kv_keyring *keys)
{
    if (keys)
        kv_mutex_unlock(&keys->hold);
}

void kv_keyring_drop_next(struct kv_keyring *keys)
{
    kv_secret_wipe(keys->masters[1], KV_CIPHER_KEY_LEN);
    keys->master_ids[1] = 0;
}

/* ---- files */

uint64_t kv_keyring_key_for(struct kv_keyring *keys, enum kv_file_kind kind)
{
    return !keys ? 0 : kind == KV_FILE_MANIFEST ? kv_keyring_master(keys) : kv_keyring_current(keys);
}

void kv_keyring_plain_below(struct kv_keyring *keys, uint64_t number)
{
    atomic_store(&keys->plain_below, number);
}

/* The whole header is in it, its sum included. */
static kv_status file_key(const uint8_t *parent, const uint8_t raw[KV_FILE_HEADER_LEN], kv_slice salt,
                          uint8_t out[KV_CIPHER_KEY_LEN])
{
    uint8_t info[sizeof INFO_FILE - 1 + KV_FILE_HEADER_LEN];
    memcpy(info, INFO_FILE, sizeof INFO_FILE - 1);
    memcpy(info + sizeof INFO_FILE - 1, raw, KV_FILE_HEADER_LEN);
    return kv_hkdf(kv_slice_of(parent, KV_CIPHER_KEY_LEN), salt, kv_slice_of(info, sizeof info), out,
                   KV_CIPHER_KEY_LEN);
}

bool kv_keyring_may_be_plain(const struct kv_keyring *keys, uint64_t number)
{
    return !keys || number == 0 || number < atomic_load(&keys->plain_below);
}

static kv_status cipher_plain(const struct kv_keyring *keys, uint64_t number, const char *name,
                              struct kv_err *err)
{
    if (!kv_keyring_may_be_plain(keys, number))
        return kv_fail(err, KV_CORRUPT, 0, "%s is not encrypted, in a database that is: not the file it was",
                       name);
    return KV_OK;
}

kv_status kv_keyring_cipher(struct kv_keyring *keys, const uint8_t raw[KV_FILE_HEADER_LEN], uint64_t number,
                            const char *name, struct kv_cipher **out, struct kv_err *err)
{
    struct kv_file_header header;
    uint8_t key[KV_CIPHER_KEY_LEN];
    const uint8_t *parent;
    _Atomic uint64_t *sealed = NULL;
    kv_file_header_decode(raw, &header);
    *out = NULL;
    if (header.key_id == 0)
        return cipher_plain(keys, number, name, err);
    if (!keys)
        return kv_fail(err, KV_WRONG_KEY, 0, "%s is encrypted and no key was given", name);
    if (header.kind == KV_FILE_MANIFEST) {
        if (header.key_id != kv_keyring_master(keys))
            return kv_fail(err, KV_WRONG_KEY, 0,
                           "%s is encrypted with master key %016" PRIx64 ", the key given is %016" PRIx64,
                           name, header.key_id, kv_keyring_master(keys));
        parent = keys->masters[0];
    } else {
        struct entry *entry = entry_of(keys, header.key_id);
        if (!entry)
            return kv_fail(err, KV_CORRUPT, 0,
                           "%s is encrypted with data key %" PRIu64 ", which the manifest lacks", name,
                           header.key_id);
        parent = entry->key;
        sealed = &entry->sealed;
    }
    kv_status rc = file_key(parent, raw, kv_slice_of(header.salt, sizeof header.salt), key);
    if (rc == KV_OK)
        rc = kv_cipher_new(keys->pool, key, header.kind, header.uid, sealed, out);
    kv_secret_wipe(key, sizeof key);
    return rc < 0 ? kv_fail(err, rc, 0, "%s: out of memory making its key", name) : KV_OK;
}
