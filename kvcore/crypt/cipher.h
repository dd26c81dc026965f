/*
 * cipher.h - the bytes of one encrypted file: AES-256-GCM over each of its pieces (a block of a table, a fragment of
 * the log, a frame of the manifest, a record of the value log). Why it is safe: kvcore/docs/encryption.md.
 *
 * A file has a key of its own, derived from a data key and the file's header (HKDF-SHA256), so two files never share
 * one. The nonce of a piece is its offset in the file; files are written front to back once, so no offset is sealed
 * with two contents. What is authenticated with a piece: kind and uid of the file, the offset, the length, and what
 * the caller adds. So a piece of another file, another place, or cut short does not open.
 *
 * The caller's duty: under one cipher an offset is sealed once. Where an append failed the file is given up, and what
 * is written again goes into a new file, with a new header and so a new key.
 *
 * Threads    seal and open: any, side by side. A pool keeps OpenSSL's contexts for the next call, at most
 *            KV_CIPHER_SLOTS of them, so a piece costs no allocation.
 * Ownership  ciphers are freed before their pool.
 * Failure    KV_CORRUPT: the piece is not what was sealed under this key at this place; nothing of it is handed out.
 *            KV_NO_MEMORY. KV_LIMIT: longer than KV_CIPHER_PLAIN_MAX.
 */
#ifndef KV_CIPHER_H
#define KV_CIPHER_H

#include "kvcore/base/slice.h"
#include "kvcore/base/status.h"

#include <stdatomic.h>

enum {
    KV_CIPHER_KEY_LEN = 32,
    KV_CIPHER_NONCE_LEN = 12,
    KV_CIPHER_TAG_LEN = 16, /* a sealed piece is so much longer */
    KV_CIPHER_UID_LEN = 16,
    KV_CIPHER_PLAIN_MAX = 1 << 30,
    KV_CIPHER_SLOTS = 32,
};

struct kv_cipher;
struct kv_cipher_pool;

KV_MUST kv_status kv_cipher_pool_new(struct kv_cipher_pool **out);
void kv_cipher_pool_free(struct kv_cipher_pool *pool); /* NULL is fine; its contexts are zeroed */

/* key, uid: copied. sealed: counts the pieces sealed, and outlives the cipher; NULL: nobody counts. */
KV_MUST kv_status kv_cipher_new(struct kv_cipher_pool *pool, const uint8_t key[KV_CIPHER_KEY_LEN],
                                uint16_t kind, const uint8_t uid[KV_CIPHER_UID_LEN], _Atomic uint64_t *sealed,
                                struct kv_cipher **out);
void kv_cipher_free(struct kv_cipher *cipher); /* NULL is fine; zeroes the key */

/* Writes plain.len + KV_CIPHER_TAG_LEN bytes to out, which may be where plain lies, but not overlap it otherwise.
 * also: authenticated with it, stored by the caller. */
KV_MUST kv_status kv_cipher_seal(struct kv_cipher *cipher, uint64_t offset, kv_slice also, kv_slice plain,
                                 uint8_t *out);
/* Writes sealed.len - KV_CIPHER_TAG_LEN bytes to out, which may be where sealed lies. After KV_CORRUPT out holds
 * zeros. */
KV_MUST kv_status kv_cipher_open(struct kv_cipher *cipher, uint64_t offset, kv_slice also, kv_slice sealed,
                                 uint8_t *out);

/* ---- what it is made of */

/* HKDF-SHA256: len bytes from key, salt and info. */
KV_MUST kv_status kv_hkdf(kv_slice key, kv_slice salt, kv_slice info, uint8_t *out, size_t len);
/* AES-256-GCM under a key and nonce of the caller's, who never gives the same two for another plain. */
KV_MUST kv_status kv_gcm_seal(const uint8_t key[KV_CIPHER_KEY_LEN], const uint8_t nonce[KV_CIPHER_NONCE_LEN],
                              kv_slice also, kv_slice plain, uint8_t *out);
KV_MUST kv_status kv_gcm_open(const uint8_t key[KV_CIPHER_KEY_LEN], const uint8_t nonce[KV_CIPHER_NONCE_LEN],
                              kv_slice also, kv_slice sealed, uint8_t *out);

#endif
