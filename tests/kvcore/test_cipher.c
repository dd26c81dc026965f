#include "kvcore/base/mem.h"
#include "kvcore/crypt/cipher.h"
#include "tests/support/sst_kit.h"
#include "tests/support/sys_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t n = 0;
    for (unsigned byte; sscanf(hex + 2 * n, "%2x", &byte) == 1; n++)
        out[n] = (uint8_t)byte;
    return n;
}

/* AES-256 cases 13 to 16 of McGrew and Viega's GCM, which NIST SP 800-38D takes over. */
#define KEY_A "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
#define PLAIN_A                                                                                              \
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aed" \
    "f5aa0de657ba637b39"
#define SEALED_A                                                                                             \
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e" \
    "6393ba7a0abcc9f662"

static const struct {
    const char *key, *nonce, *also, *plain, *sealed, *tag;
} answers[] = {
    {"0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000", "", "",
     "", "530f8afbc74536b9a963b4f1c4cb738b"},
    {"0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000", "",
     "00000000000000000000000000000000", "cea7403d4d606b6e074ec5d3baf39d18",
     "d0d1c8a799996bf0265b98b5d48ab919"},
    {KEY_A, "cafebabefacedbaddecaf888", "", PLAIN_A "1aafd255", SEALED_A "898015ad",
     "b094dac5d93471bdec1a502270e3cc6c"},
    {KEY_A, "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2", PLAIN_A, SEALED_A,
     "76fc6ece0f4e1768cddf8853bb2d551b"},
};

Test(cipher, gcm_gives_the_known_answers)
{
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        uint8_t key[32], nonce[12], also[32], plain[64], expected[80], sealed[80], back[64];
        cr_assert_eq(unhex(answers[i].key, key), 32);
        cr_assert_eq(unhex(answers[i].nonce, nonce), 12);
        kv_slice a = kv_slice_of(also, unhex(answers[i].also, also));
        kv_slice p = kv_slice_of(plain, unhex(answers[i].plain, plain));
        size_t n = unhex(answers[i].sealed, expected);
        n += unhex(answers[i].tag, expected + n);
        cr_assert_eq(n, p.len + KV_CIPHER_TAG_LEN);
        cr_assert_eq(kv_gcm_seal(key, nonce, a, p, sealed), KV_OK);
        cr_assert_eq(memcmp(sealed, expected, n), 0, "case %d", (int)i);
        cr_assert_eq(kv_gcm_open(key, nonce, a, kv_slice_of(sealed, n), back), KV_OK);
        cr_assert_eq(memcmp(back, plain, p.len), 0);
        sealed[n - 1] ^= 1;
        cr_assert_eq(kv_gcm_open(key, nonce, a, kv_slice_of(sealed, n), back), KV_CORRUPT);
    }
}

/* RFC 5869, test case 1. */
Test(cipher, hkdf_gives_the_known_answer)
{
    uint8_t key[22], salt[13], info[10], expected[42], out[42];
    unhex("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", key);
    unhex("000102030405060708090a0b0c", salt);
    unhex("f0f1f2f3f4f5f6f7f8f9", info);
    unhex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865", expected);
    cr_assert_eq(kv_hkdf(kv_slice_of(key, sizeof key), kv_slice_of(salt, sizeof salt),
                         kv_slice_of(info, sizeof info), out, sizeof out),
                 KV_OK);
    cr_assert_eq(memcmp(out, expected, sizeof out), 0);
}

struct world {
    struct kv_cipher_pool *pool;
    struct kv_cipher *cipher;
    _Atomic uint64_t sealed;
};
static const uint8_t key_1[KV_CIPHER_KEY_LEN] = {1}, key_2[KV_CIPHER_KEY_LEN] = {2};
static const uint8_t uid_1[KV_CIPHER_UID_LEN] = {1}, uid_2[KV_CIPHER_UID_LEN] = {2};

static void world_init(struct world *w)
{
    cr_assert_eq(kv_cipher_pool_new(&w->pool), KV_OK);
    atomic_init(&w->sealed, 0);
    cr_assert_eq(kv_cipher_new(w->pool, key_1, 3, uid_1, &w->sealed, &w->cipher), KV_OK);
}

static void world_release(struct world *w)
{
    kv_cipher_free(w->cipher);
    kv_cipher_pool_free(w->pool);
}

Test(cipher, what_was_sealed_opens_also_in_place_and_is_counted)
{
    struct world w;
    uint8_t plain[1000], out[1000 + KV_CIPHER_TAG_LEN], back[1000];
    world_init(&w);
    for (size_t len = 0; len <= sizeof plain; len += 1 + len / 3) {
        for (size_t i = 0; i < len; i++)
            plain[i] = (uint8_t)(i * 7 + len);
        cr_assert_eq(kv_cipher_seal(w.cipher, len, KV_STR("also"), kv_slice_of(plain, len), out), KV_OK);
        cr_assert(len < 16 || memcmp(out, plain, len) != 0);
        kv_slice sealed = kv_slice_of(out, len + KV_CIPHER_TAG_LEN);
        cr_assert_eq(kv_cipher_open(w.cipher, len, KV_STR("also"), sealed, back), KV_OK);
        cr_assert_eq(memcmp(back, plain, len), 0);
        uint8_t again[sizeof out];
        memcpy(again, plain, len);
        cr_assert_eq(kv_cipher_seal(w.cipher, len, KV_STR("also"), kv_slice_of(again, len), again), KV_OK);
        cr_assert_eq(memcmp(again, out, sealed.len), 0, "in place gives the same");
        cr_assert_eq(kv_cipher_open(w.cipher, len, KV_STR("also"), sealed, out), KV_OK);
        cr_assert_eq(memcmp(out, plain, len), 0);
    }
    cr_assert_gt(atomic_load(&w.sealed), 10);
    world_release(&w);
}

/* Every way in which a piece can be another one than was asked for. */
Test(cipher, a_piece_opens_only_under_its_key_kind_file_place_length_and_companion)
{
    struct world w;
    uint8_t out[100 + KV_CIPHER_TAG_LEN], back[100 + KV_CIPHER_TAG_LEN];
    const uint8_t plain[100] = "a hundred bytes";
    world_init(&w);
    cr_assert_eq(kv_cipher_seal(w.cipher, 128, KV_STR("h"), kv_slice_of(plain, 100), out), KV_OK);
    struct kv_cipher *others[3];
    cr_assert_eq(kv_cipher_new(w.pool, key_2, 3, uid_1, NULL, &others[0]), KV_OK);
    cr_assert_eq(kv_cipher_new(w.pool, key_1, 1, uid_1, NULL, &others[1]), KV_OK);
    cr_assert_eq(kv_cipher_new(w.pool, key_1, 3, uid_2, NULL, &others[2]), KV_OK);
    kv_slice sealed = kv_slice_of(out, sizeof out);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(kv_cipher_open(others[i], 128, KV_STR("h"), sealed, back), KV_CORRUPT, "%d", i);
        kv_cipher_free(others[i]);
    }
    cr_assert_eq(kv_cipher_open(w.cipher, 136, KV_STR("h"), sealed, back), KV_CORRUPT);
    cr_assert_eq(kv_cipher_open(w.cipher, 128, KV_STR(""), sealed, back), KV_CORRUPT);
    cr_assert_eq(kv_cipher_open(w.cipher, 128, KV_STR("g"), sealed, back), KV_CORRUPT);
    for (size_t len = 0; len < sizeof out; len++)
        cr_assert_eq(kv_cipher_open(w.cipher, 128, KV_STR("h"), kv_slice_of(out, len), back), KV_CORRUPT);
    for (size_t bit = 0; bit < 8 * sizeof out; bit++) {
        out[bit / 8] ^= (uint8_t)(1 << bit % 8);
        memset(back, 0xff, sizeof back);
        cr_assert_eq(kv_cipher_open(w.cipher, 128, KV_STR("h"), sealed, back), KV_CORRUPT);
        for (size_t i = 0; i < 100; i++)
            cr_assert_eq(back[i], 0, "nothing of it is handed out");
        out[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    cr_assert_eq(kv_cipher_open(w.cipher, 128, KV_STR("h"), sealed, back), KV_OK);
    world_release(&w);
}

/* Contexts of the pool go from one cipher to another, for sealing and for opening. */
Test(cipher, many_ciphers_share_one_pool)
{
    enum { N = 3 * KV_CIPHER_SLOTS };
    struct world w;
    struct kv_cipher *ciphers[N];
    uint8_t out[N][40 + KV_CIPHER_TAG_LEN], key[KV_CIPHER_KEY_LEN] = {0}, back[40];
    const uint8_t plain[40] = "forty";
    world_init(&w);
    for (int i = 0; i < N; i++) {
        key[0] = (uint8_t)i;
        cr_assert_eq(kv_cipher_new(w.pool, key, 3, uid_1, NULL, &ciphers[i]), KV_OK);
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++)
            cr_assert_eq(
                kv_cipher_seal(ciphers[i], (uint64_t)round, KV_STR(""), kv_slice_of(plain, 40), out[i]),
                KV_OK);
        for (int i = N; i-- > 0;) {
            kv_slice sealed = kv_slice_of(out[i], sizeof out[i]);
            cr_assert_eq(kv_cipher_open(ciphers[i], (uint64_t)round, KV_STR(""), sealed, back), KV_OK);
            cr_assert_eq(kv_cipher_open(ciphers[(i + 1) % N], (uint64_t)round, KV_STR(""), sealed, back),
                         KV_CORRUPT);
        }
    }
    for (int i = 0; i < N; i++)
        kv_cipher_free(ciphers[i]);
    world_release(&w);
}

Test(cipher, memory_that_runs_out_is_said)
{
    for (uint64_t nth = 1;; nth++) {
        struct kv_cipher_pool *pool = NULL;
        struct kv_cipher *cipher = NULL;
        uint8_t out[4 + KV_CIPHER_TAG_LEN];
        sst_malloc_fail_nth(nth);
        kv_status rc = kv_cipher_pool_new(&pool);
        if (rc == KV_OK)
            rc = kv_cipher_new(pool, key_1, 1, uid_1, NULL, &cipher);
        if (rc == KV_OK)
            rc = kv_cipher_seal(cipher, 0, KV_STR(""), KV_STR("text"), out);
        bool failed = sst_malloc_failed();
        sst_malloc_fail_nth(0);
        cr_assert_eq(rc, failed ? KV_NO_MEMORY : KV_OK);
        kv_cipher_free(cipher);
        kv_cipher_pool_free(pool);
        if (!failed)
            break;
    }
}

Test(cipher, what_is_too_long_or_too_short_is_refused)
{
    struct world w;
    struct kv_cipher *cipher = NULL;
    uint8_t byte[KV_CIPHER_TAG_LEN] = {0}, nonce[KV_CIPHER_NONCE_LEN] = {0};
    kv_slice too_long = kv_slice_of(byte, (size_t)KV_CIPHER_PLAIN_MAX + 1);
    kv_slice too_short = kv_slice_of(byte, KV_CIPHER_TAG_LEN - 1);
    world_init(&w);
    cr_assert_eq(kv_cipher_new(w.pool, key_1, 1, uid_1, NULL, &cipher), KV_OK);
    cr_assert_eq(kv_cipher_seal(cipher, 0, KV_STR(""), too_long, byte), KV_LIMIT);
    cr_assert_eq(kv_gcm_seal(key_1, nonce, KV_STR(""), too_long, byte), KV_LIMIT);
    cr_assert_eq(kv_cipher_open(cipher, 0, KV_STR(""), too_short, byte), KV_CORRUPT);
    cr_assert_eq(kv_gcm_open(key_1, nonce, KV_STR(""), too_short, byte), KV_CORRUPT);
    kv_cipher_free(cipher);
    kv_cipher_free(NULL);
    world_release(&w);
    kv_cipher_pool_free(NULL);
}

static kv_status every_call(void)
{
    struct kv_cipher_pool *pool = NULL;
    struct kv_cipher *cipher = NULL;
    uint8_t out[4 + KV_CIPHER_TAG_LEN] = {0}, back[4], nonce[KV_CIPHER_NONCE_LEN] = {0},
                    key[KV_CIPHER_KEY_LEN];
    kv_slice sealed = kv_slice_of(out, sizeof out);
    kv_status rc;
    KV_TRY(kv_cipher_pool_new(&pool));
    KV_TRY(kv_cipher_new(pool, key_1, 1, uid_1, NULL, &cipher));
    KV_TRY(kv_cipher_seal(cipher, 0, KV_STR("also"), KV_STR("text"), out));
    KV_TRY(kv_cipher_open(cipher, 0, KV_STR("also"), sealed, back));
    cr_assert(memcmp(back, "text", 4) == 0);
    KV_TRY(kv_hkdf(KV_STR("key"), KV_STR("salt"), KV_STR("info"), key, sizeof key));
    KV_TRY(kv_gcm_seal(key, nonce, KV_STR(""), KV_STR("text"), out));
    KV_TRY(kv_gcm_open(key, nonce, KV_STR(""), sealed, back));
    cr_assert(memcmp(back, "text", 4) == 0);
out:
    kv_cipher_free(cipher);
    kv_cipher_pool_free(pool);
    return rc;
}

/* OpenSSL allocates inside: whatever of it fails is memory that ran out, and the next call works. */
Test(cipher, any_call_of_openssl_may_fail)
{
    static const char *const calls[] = {"EVP_CIPHER_fetch", "EVP_CIPHER_CTX_new",  "EVP_CipherInit_ex",
                                        "EVP_CipherUpdate", "EVP_CIPHER_CTX_ctrl", "EVP_KDF_fetch",
                                        "EVP_KDF_CTX_new"};
    int failed = 0;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        for (uint64_t nth = 1;; nth++) {
            sys_fault_arm(calls[i], nth, 0);
            kv_status rc = every_call();
            bool fired = sys_fault_disarm();
            cr_assert_eq(rc, fired ? KV_NO_MEMORY : KV_OK, "%s %d", calls[i], (int)nth);
            failed += fired;
            if (!fired)
                break;
        }
    cr_assert_geq(failed, 20);
}
