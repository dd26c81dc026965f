#include "kvcore/crypt/keyring.h"
#include "tests/support/clock_manual.h"
#include "tests/support/sst_kit.h"
#include "tests/support/sys_fault.h"

#include <criterion/criterion.h>

static const uint8_t master_1[KV_CIPHER_KEY_LEN] = {1}, master_2[KV_CIPHER_KEY_LEN] = {2};
static const uint8_t uuid_1[KV_UUID_LEN] = {1}, uuid_2[KV_UUID_LEN] = {2};

struct world {
    struct clock_manual clock;
    struct kv_keyring *keys;
    struct kv_err err;
};

static void world_init(struct world *w)
{
    *w = (struct world){0};
    clock_manual_init(&w->clock, 1000, 3);
    cr_assert_eq(kv_keyring_new(master_1, uuid_1, &w->keys), KV_OK);
}

static void world_release(struct world *w)
{
    kv_keyring_free(w->keys);
    clock_manual_release(&w->clock);
}

static struct kv_data_key must_make(struct world *w)
{
    struct kv_data_key key;
    uint64_t before = kv_keyring_current(w->keys);
    cr_assert_eq(kv_keyring_make(w->keys, &w->clock.base, &key), KV_OK);
    cr_assert_eq(kv_keyring_current(w->keys), before, "not before it is durable");
    kv_keyring_use(w->keys, key.id);
    return key;
}

static struct kv_file_header header_of(struct world *w, enum kv_file_kind kind)
{
    struct kv_file_header header = {.kind = (uint16_t)kind, .format = 1, .edit = 9, .owner_epoch = 2};
    header.key_id = kv_keyring_key_for(w->keys, kind);
    kv_clock_entropy(&w->clock.base, header.uid, sizeof header.uid);
    kv_clock_entropy(&w->clock.base, header.salt, sizeof header.salt);
    return header;
}

static kv_status cipher_of(struct kv_keyring *keys, const struct kv_file_header *header,
                           struct kv_cipher **out, struct kv_err *err)
{
    uint8_t raw[KV_FILE_HEADER_LEN];
    kv_file_header_encode(header, raw);
    return kv_keyring_cipher(keys, raw, 12, "file", out, err);
}

Test(keyring, a_key_is_called_by_a_fingerprint)
{
    uint64_t a = 0, b = 0, again = 0;
    cr_assert_eq(kv_master_key_id(master_1, &a), KV_OK);
    cr_assert_eq(kv_master_key_id(master_2, &b), KV_OK);
    cr_assert_eq(kv_master_key_id(master_1, &again), KV_OK);
    cr_assert(a != 0 && b != 0 && a != b && a == again);
}

Test(keyring, the_newest_data_key_is_in_use_and_old_ones_stay)
{
    struct world w;
    struct kv_cipher *first = NULL, *again = NULL;
    uint8_t out[4 + KV_CIPHER_TAG_LEN], back[4];
    world_init(&w);
    cr_assert_eq(kv_keyring_current(w.keys), 0);
    cr_assert(kv_keyring_due(w.keys, 1000, 10, 10));
    must_make(&w);
    cr_assert_eq(kv_keyring_current(w.keys), 1);
    struct kv_file_header header = header_of(&w, KV_FILE_TABLE);
    cr_assert_eq(header.key_id, 1);
    cr_assert_eq(cipher_of(w.keys, &header, &first, &w.err), KV_OK);
    cr_assert_eq(kv_cipher_seal(first, 128, KV_STR(""), KV_STR("text"), out), KV_OK);
    struct kv_data_key second = must_make(&w);
    cr_assert_eq(second.id, 2);
    cr_assert_eq(header_of(&w, KV_FILE_LOG).key_id, 2);
    cr_assert_eq(cipher_of(w.keys, &header, &again, &w.err), KV_OK);
    cr_assert_eq(kv_cipher_open(again, 128, KV_STR(""), kv_slice_of(out, sizeof out), back), KV_OK);
    kv_cipher_free(first);
    kv_cipher_free(again);
    world_release(&w);
}

/* An edit that may or may not be found names the key; the next one must name the same. */
Test(keyring, until_it_is_in_use_the_same_key_is_made_again)
{
    struct world w;
    struct kv_keyring *later = NULL;
    struct kv_data_key first, again;
    struct kv_cipher *cipher = NULL, *found = NULL;
    uint8_t out[4 + KV_CIPHER_TAG_LEN], back[4];
    world_init(&w);
    cr_assert_eq(kv_keyring_make(w.keys, &w.clock.base, &first), KV_OK);
    cr_assert_eq(kv_keyring_make(w.keys, &w.clock.base, &again), KV_OK);
    cr_assert(first.id == 1 && again.id == 1 && memcmp(first.salt, again.salt, sizeof first.salt) != 0);
    kv_keyring_use(w.keys, 1);
    struct kv_file_header header = header_of(&w, KV_FILE_TABLE);
    cr_assert_eq(cipher_of(w.keys, &header, &cipher, &w.err), KV_OK);
    cr_assert_eq(kv_cipher_seal(cipher, 128, KV_STR(""), KV_STR("text"), out), KV_OK);
    cr_assert_eq(kv_keyring_new(master_1, uuid_1, &later), KV_OK);
    cr_assert_eq(kv_keyring_add(later, &first, &w.err), KV_OK);
    cr_assert_eq(cipher_of(later, &header, &found, &w.err), KV_OK);
    cr_assert_eq(kv_cipher_open(found, 128, KV_STR(""), kv_slice_of(out, sizeof out), back), KV_OK);
    kv_cipher_free(cipher);
    kv_cipher_free(found);
    kv_keyring_free(later);
    world_release(&w);
}

Test(keyring, a_data_key_is_due_by_age_and_by_pieces)
{
    struct world w;
    struct kv_cipher *cipher = NULL;
    uint8_t out[4 + KV_CIPHER_TAG_LEN];
    world_init(&w);
    must_make(&w); /* at 1000 ms */
    cr_assert_not(kv_keyring_due(w.keys, 1009, 10, 3));
    cr_assert(kv_keyring_due(w.keys, 1010, 10, 3));
    cr_assert_not(kv_keyring_due(w.keys, -5000, 10, 3), "a clock that went back");
    struct kv_file_header header = header_of(&w, KV_FILE_TABLE);
    cr_assert_eq(cipher_of(w.keys, &header, &cipher, &w.err), KV_OK);
    for (uint64_t i = 0; i < 3; i++) {
        cr_assert_not(kv_keyring_due(w.keys, 1000, 10, 3));
        cr_assert_eq(kv_cipher_seal(cipher, i, KV_STR(""), KV_STR("text"), out), KV_OK);
    }
    cr_assert(kv_keyring_due(w.keys, 1000, 10, 3));
    cr_assert_eq(kv_keyring_sealed(w.keys), 3);
    kv_cipher_free(cipher);
    world_release(&w);
}

/* Another master key, another database, another id, another bit: none unwraps it. */
Test(keyring, a_wrapped_key_is_bound_to_master_database_and_id)
{
    struct world w;
    struct kv_keyring *other = NULL;
    world_init(&w);
    struct kv_data_key key = must_make(&w), changed = key;
    cr_assert_eq(kv_keyring_new(master_2, uuid_1, &other), KV_OK);
    cr_assert_eq(kv_keyring_add(other, &key, &w.err), KV_CORRUPT);
    kv_keyring_free(other);
    cr_assert_eq(kv_keyring_new(master_1, uuid_2, &other), KV_OK);
    cr_assert_eq(kv_keyring_add(other, &key, &w.err), KV_CORRUPT);
    kv_keyring_free(other);
    cr_assert_eq(kv_keyring_new(master_1, uuid_1, &other), KV_OK);
    changed.id = 2;
    cr_assert_eq(kv_keyring_add(other, &changed, &w.err), KV_CORRUPT);
    for (size_t bit = 0; bit < 8 * (sizeof key.salt + sizeof key.wrapped); bit++) {
        changed = key;
        uint8_t *at = bit < 8 * sizeof key.salt ? changed.salt + bit / 8
                                                : changed.wrapped + (bit / 8 - sizeof key.salt);
        *at ^= (uint8_t)(1 << bit % 8);
        cr_assert_eq(kv_keyring_add(other, &changed, &w.err), KV_CORRUPT);
    }
    cr_assert_eq(kv_keyring_current(other), 0);
    cr_assert_eq(kv_keyring_add(other, &key, &w.err), KV_OK);
    kv_keyring_free(other);
    world_release(&w);
}

Test(keyring, a_file_opens_only_with_every_bit_of_its_header)
{
    struct world w;
    struct kv_cipher *cipher = NULL;
    uint8_t raw[KV_FILE_HEADER_LEN], out[4 + KV_CIPHER_TAG_LEN], back[4];
    world_init(&w);
    must_make(&w);
    struct kv_file_header header = header_of(&w, KV_FILE_LOG);
    kv_file_header_encode(&header, raw);
    cr_assert_eq(kv_keyring_cipher(w.keys, raw, 12, "file", &cipher, &w.err), KV_OK);
    cr_assert_eq(kv_cipher_seal(cipher, 128, KV_STR(""), KV_STR("text"), out), KV_OK);
    kv_cipher_free(cipher);
    for (size_t bit = 0; bit < 8 * sizeof raw; bit++) {
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
        kv_status rc = kv_keyring_cipher(w.keys, raw, 12, "file", &cipher, &w.err);
        if (rc == KV_OK && cipher)
            rc = kv_cipher_open(cipher, 128, KV_STR(""), kv_slice_of(out, sizeof out), back);
        cr_assert(rc == KV_CORRUPT || rc == KV_WRONG_KEY, "bit %d: %s", (int)bit, kv_status_name(rc));
        kv_cipher_free(cipher);
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    world_release(&w);
}

Test(keyring, files_without_a_key_and_keys_without_a_file_are_told_apart)
{
    struct world w;
    struct kv_cipher *cipher = NULL;
    world_init(&w);
    must_make(&w);
    struct kv_file_header plain = {.kind = KV_FILE_TABLE, .format = 1}, table = header_of(&w, KV_FILE_TABLE),
                          manifest = header_of(&w, KV_FILE_MANIFEST);
    cr_assert_eq(cipher_of(NULL, &plain, &cipher, &w.err), KV_OK);
    cr_assert_null(cipher);
    cr_assert_eq(cipher_of(NULL, &table, &cipher, &w.err), KV_WRONG_KEY);
    cr_assert(strstr(w.err.text, "file is encrypted and no key was given"), "%s", w.err.text);
    cr_assert_eq(cipher_of(w.keys, &plain, &cipher, &w.err), KV_CORRUPT, "a plain file slipped in");
    kv_keyring_plain_below(w.keys, 13);
    cr_assert_eq(cipher_of(w.keys, &plain, &cipher, &w.err), KV_OK, "of before it was encrypted");
    cr_assert_null(cipher);
    table.key_id = 77;
    cr_assert_eq(cipher_of(w.keys, &table, &cipher, &w.err), KV_CORRUPT);
    cr_assert(strstr(w.err.text, "data key 77"), "%s", w.err.text);
    manifest.key_id ^= 1;
    cr_assert_eq(cipher_of(w.keys, &manifest, &cipher, &w.err), KV_WRONG_KEY);
    cr_assert(strstr(w.err.text, "the key given is"), "%s", w.err.text);
    world_release(&w);
}

Test(keyring, the_master_key_is_swapped_forth_and_back)
{
    struct world w;
    struct kv_keyring *later = NULL;
    world_init(&w);
    struct kv_data_key key = must_make(&w), fresh = key;
    uint64_t before = kv_keyring_master(w.keys);
    cr_assert_eq(kv_keyring_next_master(w.keys, master_2), KV_OK);
    cr_assert_eq(kv_keyring_master(w.keys), before);
    kv_keyring_swap_master(w.keys);
    cr_assert_neq(kv_keyring_master(w.keys), before);
    cr_assert_eq(kv_keyring_wrap(w.keys, &w.clock.base, &fresh), KV_OK);
    cr_assert_eq(kv_keyring_new(master_2, uuid_1, &later), KV_OK);
    cr_assert_eq(kv_keyring_add(later, &key, &w.err), KV_CORRUPT);
    cr_assert_eq(kv_keyring_add(later, &fresh, &w.err), KV_OK);
    kv_keyring_swap_master(w.keys);
    kv_keyring_drop_next(w.keys);
    cr_assert_eq(kv_keyring_master(w.keys), before);
    kv_keyring_free(later);
    world_release(&w);
}

Test(keyring, memory_that_runs_out_is_said)
{
    struct world made;
    world_init(&made);
    struct kv_data_key key = must_make(&made);
    struct kv_file_header header = header_of(&made, KV_FILE_TABLE);
    for (uint64_t nth = 1;; nth++) {
        struct kv_keyring *keys = NULL;
        struct kv_cipher *cipher = NULL;
        sst_malloc_fail_nth(nth);
        kv_status rc = kv_keyring_new(master_1, uuid_1, &keys);
        struct kv_data_key next;
        if (rc == KV_OK)
            rc = kv_keyring_add(keys, &key, &made.err);
        if (rc == KV_OK)
            rc = kv_keyring_make(keys, &made.clock.base, &next);
        if (rc == KV_OK)
            rc = cipher_of(keys, &header, &cipher, &made.err);
        kv_cipher_free(cipher);
        kv_keyring_free(keys);
        keys = NULL;
        if (rc == KV_OK)
            rc = kv_keyring_new(master_1, uuid_1, &keys);
        if (rc == KV_OK)
            rc = kv_keyring_make(keys, &made.clock.base, &next);
        bool failed = sst_malloc_failed();
        sst_malloc_fail_nth(0);
        cr_assert_eq(rc, failed ? KV_NO_MEMORY : KV_OK);
        kv_keyring_free(keys);
        if (!failed)
            break;
    }
    world_release(&made);
}

Test(keyring, keys_found_in_any_order_are_the_same_ring)
{
    struct world made;
    struct kv_keyring *keys = NULL;
    struct kv_data_key key[12];
    world_init(&made);
    cr_assert_eq(kv_keyring_sealed(made.keys), 0, "no key has sealed anything");
    cr_assert_eq(kv_keyring_current(made.keys), 0);
    for (int i = 0; i < 12; i++)
        key[i] = must_make(&made);
    cr_assert_eq(kv_keyring_new(master_1, uuid_1, &keys), KV_OK);
    for (int i = 0; i < 12; i++) {
        cr_assert_eq(kv_keyring_add(keys, &key[(i * 5 + 7) % 12], &made.err), KV_OK, "%s", made.err.text);
        struct kv_file_header header = header_of(&made, KV_FILE_TABLE);
        struct kv_cipher *cipher = NULL;
        header.key_id = key[(i * 5 + 7) % 12].id;
        cr_assert_eq(cipher_of(keys, &header, &cipher, &made.err), KV_OK, "%s", made.err.text);
        kv_cipher_free(cipher);
    }
    cr_assert_eq(kv_keyring_current(keys), key[11].id, "the newest, whenever it was found");
    kv_keyring_plain_below(keys, 3);
    cr_assert(kv_keyring_may_be_plain(NULL, 9) && kv_keyring_may_be_plain(keys, 0) &&
              kv_keyring_may_be_plain(keys, 2));
    cr_assert_not(kv_keyring_may_be_plain(keys, 3));
    kv_keyring_free(keys);
    world_release(&made);
}

/* Deriving, wrapping and unwrapping go through OpenSSL, which allocates. */
Test(keyring, any_call_of_openssl_may_fail)
{
    static const char *const calls[] = {"EVP_KDF_fetch", "EVP_KDF_CTX_new", "EVP_CIPHER_CTX_new",
                                        "EVP_CIPHER_fetch"};
    struct world made;
    world_init(&made);
    struct kv_data_key key = must_make(&made);
    struct kv_file_header header = header_of(&made, KV_FILE_TABLE);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        for (uint64_t nth = 1;; nth++) {
            struct kv_keyring *keys = NULL;
            struct kv_cipher *cipher = NULL;
            struct kv_data_key again = key, next;
            sys_fault_arm(calls[i], nth, 0);
            kv_status rc;
            KV_TRY(kv_keyring_new(master_1, uuid_1, &keys));
            KV_TRY(kv_keyring_add(keys, &key, &made.err));
            KV_TRY(kv_keyring_wrap(keys, &made.clock.base, &again));
            KV_TRY(kv_keyring_make(keys, &made.clock.base, &next));
            KV_TRY(kv_keyring_next_master(keys, master_2));
            rc = cipher_of(keys, &header, &cipher, &made.err);
        out:;
            bool fired = sys_fault_disarm();
            cr_assert_eq(rc, fired ? KV_NO_MEMORY : KV_OK, "%s %d", calls[i], (int)nth);
            kv_cipher_free(cipher);
            kv_keyring_free(keys);
            if (!fired)
                break;
        }
    world_release(&made);
}
