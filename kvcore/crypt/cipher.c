#include "kvcore/crypt/cipher.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/mem.h"
#include "kvcore/os/secret.h"

#include <openssl/evp.h>
#include <openssl/kdf.h>

/* kind:u16 uid[16] offset:u64 plain_len:u64 */
enum { PLACE_LEN = 2 + KV_CIPHER_UID_LEN + 8 + 8, PLACE_AT_OFFSET = 2 + KV_CIPHER_UID_LEN };

/* An OpenSSL context and whose key is in it. */
struct context {
    EVP_CIPHER_CTX *evp;
    uint64_t keyed_for; /* kv_cipher.number; 0: nobody's */
};

struct kv_cipher_pool {
    EVP_CIPHER *gcm;
    _Atomic uint64_t ciphers; /* made so far */
    _Atomic(struct context *) slots[KV_CIPHER_SLOTS];
};

struct kv_cipher {
    struct kv_cipher_pool *pool;
    uint64_t number; /* in the pool, from 1 */
    _Atomic uint64_t *sealed;
    uint8_t key[KV_CIPHER_KEY_LEN];
    uint8_t place[PLACE_AT_OFFSET]; /* kind and uid */
};

/* ---- one operation */

struct piece {
    const uint8_t *nonce;
    kv_slice place, also; /* authenticated, one behind the other */
    kv_slice in;          /* without the tag */
    uint8_t *out, *tag;
};

/* The context has its key. */
static kv_status gcm_run(EVP_CIPHER_CTX *evp, bool seal, const struct piece *piece)
{
    int n = 0, rest = 0, encrypt = seal ? 1 : 0;
    if (EVP_CipherInit_ex(evp, NULL, NULL, NULL, piece->nonce, encrypt) != 1)
        return KV_NO_MEMORY;
    if (!seal && EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_SET_TAG, KV_CIPHER_TAG_LEN, piece->tag) != 1)
        return KV_NO_MEMORY;
    if (piece->place.len && EVP_CipherUpdate(evp, NULL, &n, piece->place.data, (int)piece->place.len) != 1)
        return KV_NO_MEMORY;
    if (piece->also.len && EVP_CipherUpdate(evp, NULL, &n, piece->also.data, (int)piece->also.len) != 1)
        return KV_NO_MEMORY;
    n = 0;
    if (piece->in.len && EVP_CipherUpdate(evp, piece->out, &n, piece->in.data, (int)piece->in.len) != 1)
        return KV_NO_MEMORY;
    if (EVP_CipherFinal_ex(evp, piece->out + n, &rest) != 1) { /* GCM holds nothing back: it writes nothing */
        memset(piece->out, 0, piece->in.len);
        return KV_CORRUPT;
    }
    if (seal && EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_GET_TAG, KV_CIPHER_TAG_LEN, piece->tag) != 1)
        return KV_NO_MEMORY;
    return KV_OK;
}

static bool key_context(EVP_CIPHER_CTX *evp, const EVP_CIPHER *gcm, const uint8_t *key)
{
    return EVP_CipherInit_ex(evp, gcm, NULL, key, NULL, 1) == 1;
}

/* ---- contexts */

kv_status kv_cipher_pool_new(struct kv_cipher_pool **out)
{
    struct kv_cipher_pool *pool = kv_zalloc(1, sizeof *pool);
    if (!pool)
        return KV_NO_MEMORY;
    pool->gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    if (!pool->gcm) {
        kv_free(pool);
        return KV_NO_MEMORY;
    }
    *out = pool;
    return KV_OK;
}

static void context_free(struct context *context)
{
    if (!context)
        return;
    EVP_CIPHER_CTX_free(context->evp); /* zeroes the key */
    kv_free(context);
}

void kv_cipher_pool_free(struct kv_cipher_pool *pool)
{
    if (!pool)
        return;
    for (size_t i = 0; i < KV_CIPHER_SLOTS; i++)
        context_free(atomic_load(&pool->slots[i]));
    EVP_CIPHER_free(pool->gcm);
    kv_free(pool);
}

/* Its own last one if nobody has it now, else any, else a new one. */
static struct context *context_take(struct kv_cipher *cipher)
{
    struct kv_cipher_pool *pool = cipher->pool;
    struct context *context = NULL;
    for (size_t i = 0; i < KV_CIPHER_SLOTS && !context; i++)
        context = atomic_exchange_explicit(&pool->slots[(cipher->number + i) % KV_CIPHER_SLOTS], NULL,
                                           memory_order_acq_rel);
    if (!context) {
        context = kv_zalloc(1, sizeof *context);
        if (!context)
            return NULL;
        context->evp = EVP_CIPHER_CTX_new();
    }
    if (context->keyed_for != cipher->number) {
        /* Naming the algorithm again costs a set-up of its own. */
        const EVP_CIPHER *gcm = context->keyed_for ? NULL : pool->gcm;
        if (!context->evp || !key_context(context->evp, gcm, cipher->key)) {
            context_free(context);
            return NULL;
        }
        context->keyed_for = cipher->number;
    }
    return context;
}

static void context_give(struct kv_cipher *cipher, struct context *context)
{
    for (size_t i = 0; i < KV_CIPHER_SLOTS; i++) {
        struct context *expected = NULL;
        if (atomic_compare_exchange_strong_explicit(
                &cipher->pool->slots[(cipher->number + i) % KV_CIPHER_SLOTS], &expected, context,
                memory_order_acq_rel, memory_order_relaxed))
            return;
    }
    context_free(context);
}

/* ---- a file's cipher */

kv_status kv_cipher_new(struct kv_cipher_pool *pool, const uint8_t key[KV_CIPHER_KEY_LEN], uint16_t kind,
                        const uint8_t uid[KV_CIPHER_UID_LEN], _Atomic uint64_t *sealed,
                        struct kv_cipher **out)
{
    struct kv_cipher *cipher = kv_alloc(sizeof *cipher);
    if (!cipher)
        return KV_NO_MEMORY;
    *cipher = (struct kv_cipher){.pool = pool, .sealed = sealed};
    cipher->number = atomic_fetch_add(&pool->ciphers, 1) + 1;
    memcpy(cipher->key, key, KV_CIPHER_KEY_LEN);
    kv_put_fixed16(cipher->place, kind);
    memcpy(cipher->place + 2, uid, KV_CIPHER_UID_LEN);
    *out = cipher;
    return KV_OK;
}

void kv_cipher_free(struct kv_cipher *cipher)
{
    if (!cipher)
        return;
    kv_secret_wipe(cipher, sizeof *cipher);
    kv_free(cipher);
}

static kv_status cipher_run(struct kv_cipher *cipher, bool seal, uint64_t offset, const struct piece *piece)
{
    uint8_t nonce[KV_CIPHER_NONCE_LEN] = {0}, place[PLACE_LEN];
    if (piece->in.len > KV_CIPHER_PLAIN_MAX)
        return KV_LIMIT;
    kv_put_fixed64(nonce, offset);
    memcpy(place, cipher->place, PLACE_AT_OFFSET);
    kv_put_fixed64(place + PLACE_AT_OFFSET, offset);
    kv_put_fixed64(place + PLACE_AT_OFFSET + 8, piece->in.len);
    struct piece placed = *piece;
    placed.nonce = nonce;
    placed.place = kv_slice_of(place, sizeof place);
    struct context *context = context_take(cipher);
    if (!context)
        return KV_NO_MEMORY;
    kv_status rc = gcm_run(context->evp, seal, &placed);
    if (rc == KV_NO_MEMORY)
        context_free(context); /* in an unknown state */
    else
        context_give(cipher, context);
    return rc;
}

kv_status kv_cipher_seal(struct kv_cipher *cipher, uint64_t offset, kv_slice also, kv_slice plain,
                         uint8_t *out)
{
    struct piece piece = {.also = also, .in = plain, .out = out, .tag = out + plain.len};
    if (cipher->sealed)
        atomic_fetch_add_explicit(cipher->sealed, 1, memory_order_relaxed);
    return cipher_run(cipher, true, offset, &piece);
}

kv_status kv_cipher_open(struct kv_cipher *cipher, uint64_t offset, kv_slice also, kv_slice sealed,
                         uint8_t *out)
{
    uint8_t tag[KV_CIPHER_TAG_LEN];
    if (sealed.len < sizeof tag)
        return KV_CORRUPT;
    struct piece piece = {
        .also = also, .in = kv_slice_of(sealed.data, sealed.len - sizeof tag), .out = out, .tag = tag};
    memcpy(tag, sealed.data + piece.in.len, sizeof tag);
    return cipher_run(cipher, false, offset, &piece);
}

/* ---- what it is made of */

static kv_status gcm_once(const uint8_t key[KV_CIPHER_KEY_LEN], bool seal, const struct piece *piece)
{
    if (piece->in.len > KV_CIPHER_PLAIN_MAX)
        return KV_LIMIT;
    EVP_CIPHER_CTX *evp = EVP_CIPHER_CTX_new();
    kv_status rc = KV_NO_MEMORY;
    if (evp && key_context(evp, EVP_aes_256_gcm(), key))
        rc = gcm_run(evp, seal, piece);
    EVP_CIPHER_CTX_free(evp);
    return rc;
}

kv_status kv_gcm_seal(const uint8_t key[KV_CIPHER_KEY_LEN], const uint8_t nonce[KV_CIPHER_NONCE_LEN],
                      kv_slice also, kv_slice plain, uint8_t *out)
{
    struct piece piece = {.nonce = nonce, .also = also, .in = plain, .out = out, .tag = out + plain.len};
    return gcm_once(key, true, &piece);
}

kv_status kv_gcm_open(const uint8_t key[KV_CIPHER_KEY_LEN], const uint8_t nonce[KV_CIPHER_NONCE_LEN],
                      kv_slice also, kv_slice sealed, uint8_t *out)
{
    uint8_t tag[KV_CIPHER_TAG_LEN];
    if (sealed.len < sizeof tag)
        return KV_CORRUPT;
    struct piece piece = {.nonce = nonce,
                          .also = also,
                          .in = kv_slice_of(sealed.data, sealed.len - sizeof tag),
                          .out = out,
                          .tag = tag};
    memcpy(tag, sealed.data + piece.in.len, sizeof tag);
    return gcm_once(key, false, &piece);
}

kv_status kv_hkdf(kv_slice key, kv_slice salt, kv_slice info, uint8_t *out, size_t len)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string("digest", (char *)(uintptr_t) "SHA256", 0),
        OSSL_PARAM_construct_octet_string("key", (void *)(uintptr_t)key.data, key.len),
        OSSL_PARAM_construct_octet_string("salt", (void *)(uintptr_t)salt.data, salt.len),
        OSSL_PARAM_construct_octet_string("info", (void *)(uintptr_t)info.data, info.len),
        OSSL_PARAM_construct_end(),
    };
    int done = ctx ? EVP_KDF_derive(ctx, out, len, params) : 0;
    EVP_KDF_CTX_free(ctx); /* zeroes the key */
    EVP_KDF_free(kdf);
    return done == 1 ? KV_OK : KV_NO_MEMORY;
}
