/*
 * Hostile bytes where an encrypted database is expected, which is opened with the key of tests/golden/encrypted-1. The first byte says
 * how the rest is taken:
 *   0  a manifest file, published and loaded
 *   1  a table beside the golden manifest's keys: header, then blocks that no key has sealed
 *   2  the fields of an edit behind a snapshot with one data key: applied, and what they say of keys taken into a keyring
 *   3  a sealed piece: sealed anew for another offset it opens there, and nowhere else
 * Nothing may crash, hang, read outside its bytes, or open what the key has not sealed.
 */
#include "kvcore/base/assert.h"
#include "kvcore/db/log_read.h"
#include "kvcore/db/manifest.h"
#include "kvcore/sst/table.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t master[KV_MASTER_KEY_LEN] = "golden master key, not a secret.";
static const uint8_t uuid[KV_UUID_LEN] = "uuid of sixteen.";

static void use_manifest(kv_slice bytes)
{
    struct kv_vfs *vfs = kv_vfs_mem_new();
    struct kv_dir *dir = NULL;
    struct kv_file *file = NULL;
    struct kv_manifest manifest = {0};
    struct kv_key_source source = {.master_key = master};
    KV_ASSERT(vfs && kv_vfs_dir_open(vfs, "d", true, &dir, NULL) == KV_OK);
    KV_ASSERT(kv_dir_create(dir, "000001.man", &file, NULL) == KV_OK);
    KV_ASSERT(kv_file_append(file, 0, bytes, NULL) == KV_OK);
    KV_ASSERT(dir->ops->publish(dir, KV_STR("000001.man"), 0, NULL) == KV_OK);
    kv_file_close(file);
    kv_status rc = kv_manifest_load(&manifest, dir, kv_clock_system(), &source, NULL);
    KV_ASSERT(rc < 0 || (manifest.keys && manifest.state.n_spaces > 0)); /* plain ones are refused */
    kv_manifest_close(&manifest);
    kv_dir_close(dir);
    kv_vfs_mem_free(vfs);
}

static struct kv_keyring *keyring(struct kv_data_key *key)
{
    struct kv_keyring *keys = NULL;
    KV_ASSERT(kv_keyring_new(master, uuid, &keys) == KV_OK);
    KV_ASSERT(kv_keyring_make(keys, kv_clock_system(), key) == KV_OK);
    kv_keyring_use(keys, key->id);
    return keys;
}

static void use_table(kv_slice bytes)
{
    struct kv_vfs *vfs = kv_vfs_mem_new();
    struct kv_dir *dir = NULL;
    struct kv_file *file = NULL;
    struct kv_cache *cache = NULL;
    struct kv_table *table = NULL;
    struct kv_log_reader reader;
    struct kv_data_key key;
    struct kv_keyring *keys = keyring(&key);
    KV_ASSERT(vfs && kv_vfs_dir_open(vfs, "d", true, &dir, NULL) == KV_OK);
    KV_ASSERT(kv_cache_new(1 << 16, &cache) == KV_OK);
    KV_ASSERT(kv_dir_create(dir, "000001.log", &file, NULL) == KV_OK);
    KV_ASSERT(kv_file_append(file, 0, bytes, NULL) == KV_OK);
    kv_file_close(file);
    struct kv_table_open_options options = {
        .dir = dir, .name = "000001.log", .cache = cache, .keys = keys, .number = 1};
    KV_ASSERT(kv_table_open(&options, &table, NULL) < 0); /* nothing in it was sealed under this key */
    if (kv_log_reader_open(&reader, dir, 1, NULL, keys, NULL) == KV_OK) {
        struct kv_log_item item;
        struct kv_log_fragment fragment;
        KV_ASSERT(kv_log_reader_next(&reader, reader.header.first_seq, &item, NULL) != KV_OK);
        KV_ASSERT(kv_log_reader_resync(&reader, &fragment, NULL) == KV_END);
    }
    kv_log_reader_close(&reader);
    kv_cache_free(cache);
    kv_dir_close(dir);
    kv_vfs_mem_free(vfs);
    kv_keyring_free(keys);
}

static void use_fields(kv_slice fields)
{
    struct kv_manifest_state state = {0};
    struct kv_edit first = {0};
    struct kv_data_key key;
    struct kv_keyring *keys = keyring(&key), *found = NULL;
    static const uint8_t seed[KV_UUID_LEN] = {2};
    kv_edit_identity(&first, uuid, seed);
    kv_edit_space(&first, 0, "a", KV_STYLE_RUNS);
    kv_edit_data_key(&first, &key);
    KV_ASSERT(first.rc == KV_OK && kv_manifest_apply(&state, kv_buf_slice(&first.fields), NULL) == KV_OK);
    kv_status rc = kv_manifest_apply(&state, fields, NULL);
    for (size_t i = 1; rc == KV_OK && i < state.n_keys; i++)
        KV_ASSERT(state.keys[i - 1].id < state.keys[i].id);
    KV_ASSERT(kv_keyring_new(master, uuid, &found) == KV_OK);
    for (size_t i = 0; i < state.n_keys && i < 64; i++) {
        bool own = state.keys[i].id == key.id &&
                   memcmp(state.keys[i].wrapped, key.wrapped, sizeof key.wrapped) == 0 &&
                   memcmp(state.keys[i].salt, key.salt, sizeof key.salt) == 0;
        rc = kv_keyring_add(found, &state.keys[i], NULL);
        KV_ASSERT(own ? rc == KV_OK : rc == KV_CORRUPT); /* nobody else can wrap */
    }
    kv_keyring_free(found);
    kv_keyring_free(keys);
    kv_edit_release(&first);
    kv_manifest_state_release(&state);
}

static void use_piece(kv_slice bytes)
{
    struct kv_data_key key;
    struct kv_keyring *keys = keyring(&key);
    struct kv_cipher *cipher = NULL;
    struct kv_file_header header = {
        .kind = KV_FILE_TABLE, .format = 1, .key_id = key.id, .uid = "uid", .salt = "salt"};
    uint8_t raw[KV_FILE_HEADER_LEN];
    uint8_t *sealed = malloc(bytes.len + KV_CIPHER_TAG_LEN), *plain = malloc(bytes.len + KV_CIPHER_TAG_LEN);
    KV_ASSERT(sealed && plain);
    kv_file_header_encode(&header, raw);
    KV_ASSERT(kv_keyring_cipher(keys, raw, 1, "x", &cipher, NULL) == KV_OK && cipher);
    KV_ASSERT(kv_cipher_open(cipher, 128, KV_STR(""), bytes, plain) == KV_CORRUPT);
    KV_ASSERT(kv_cipher_seal(cipher, 128, KV_STR("also"), bytes, sealed) == KV_OK);
    kv_slice whole = kv_slice_of(sealed, bytes.len + KV_CIPHER_TAG_LEN);
    KV_ASSERT(kv_cipher_open(cipher, 129, KV_STR("also"), whole, plain) == KV_CORRUPT);
    KV_ASSERT(kv_cipher_open(cipher, 128, KV_STR("also"), whole, plain) == KV_OK);
    KV_ASSERT(bytes.len == 0 || memcmp(plain, bytes.data, bytes.len) == 0);
    kv_cipher_free(cipher);
    kv_keyring_free(keys);
    free(sealed);
    free(plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const uses[])(kv_slice bytes) = {use_manifest, use_table, use_fields, use_piece};
    if (size > 0)
        uses[data[0] % 4](kv_slice_of(data + 1, size - 1));
    return 0;
}
