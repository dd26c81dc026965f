#include "kvcore/base/coding.h"
#include "kvcore/base/prng.h"
#include "kvcore/db/batch.h"
#include "kvcore/base/mem.h"
#include "tests/support/malloc_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct kv_batch *batch_new(void)
{
    struct kv_batch *batch;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    return batch;
}

static kv_slice key_of(uint8_t out[4], uint64_t n)
{
    kv_put_be32(out, (uint32_t)n);
    return kv_slice_of(out, 4);
}

Test(batch, entries_come_back_in_order)
{
    struct kv_batch *batch = batch_new();
    cr_assert_eq(kv_batch_put(batch, 3, KV_STR("a"), KV_STR("one")), KV_OK);
    cr_assert_eq(kv_batch_delete(batch, 0, KV_STR("a")), KV_OK);
    cr_assert_eq(kv_batch_put(batch, 0, KV_STR("b"), KV_STR("")), KV_OK);
    cr_assert(kv_batch_count(batch) == 3 && kv_batch_spaces(batch) == 4 && kv_batch_payload(batch) == 6);
    kv_slice rest = kv_batch_bytes(batch);
    struct kv_batch_entry e;
    cr_assert_eq(kv_batch_next(&rest, &e), KV_OK);
    cr_assert(e.space == 3 && e.kind == 1 && kv_slice_equal(e.value, KV_STR("one")));
    cr_assert_eq(kv_batch_next(&rest, &e), KV_OK);
    cr_assert(e.space == 0 && e.kind == 0 && kv_slice_equal(e.key, KV_STR("a")) && e.value.len == 0);
    cr_assert_eq(kv_batch_next(&rest, &e), KV_OK);
    cr_assert(e.kind == 1 && kv_slice_equal(e.key, KV_STR("b")) && e.value.len == 0);
    cr_assert_eq(kv_batch_next(&rest, &e), KV_END);
    kv_batch_clear(batch);
    cr_assert(kv_batch_count(batch) == 0 && kv_batch_bytes(batch).len == 0 && kv_batch_payload(batch) == 0);
    kv_batch_free(batch);
    kv_batch_free(NULL);
}

Test(batch, a_later_write_of_a_key_replaces_the_earlier_one)
{
    enum { KEYS = 50, SPACES = 3, WRITES = 5000 };
    struct kv_batch *batch = batch_new();
    int64_t model[SPACES][KEYS]; /* -2 absent, -1 deleted, else the value */
    struct kv_prng prng;
    kv_prng_init(&prng, 7);
    for (int round = 0; round < 3; round++) {
        size_t live = 0;
        memset(model, 0xff, sizeof model);
        for (int s = 0; s < SPACES; s++)
            for (int k = 0; k < KEYS; k++)
                model[s][k] = -2;
        for (int i = 0; i < WRITES; i++) {
            uint8_t key[4], value[8];
            uint32_t s = (uint32_t)kv_prng_below(&prng, SPACES);
            uint64_t k = kv_prng_below(&prng, KEYS);
            live += model[s][k] == -2;
            if (kv_prng_below(&prng, 3) == 0) {
                cr_assert_eq(kv_batch_delete(batch, s, key_of(key, k)), KV_OK);
                model[s][k] = -1;
            } else {
                kv_put_fixed64(value, (uint64_t)i);
                cr_assert_eq(kv_batch_put(batch, s, key_of(key, k), kv_slice_of(value, 1 + (size_t)i % 8)),
                             KV_OK);
                model[s][k] = i;
            }
            cr_assert_eq(kv_batch_count(batch), live);
            if (i % 1000 == 500)
                (void)kv_batch_bytes(batch); /* squeezes in the middle */
        }
        kv_slice rest = kv_batch_bytes(batch);
        struct kv_batch_entry e;
        size_t seen = 0, payload = 0;
        for (; kv_batch_next(&rest, &e) == KV_OK; seen++) {
            int64_t expect = model[e.space][kv_get_be32(e.key.data)];
            cr_assert_eq(e.kind, expect >= 0);
            payload += e.key.len + e.value.len;
            if (e.kind) {
                cr_assert_eq(e.value.len, 1 + (size_t)expect % 8);
                cr_assert_eq(e.value.data[0], (uint8_t)expect);
            }
        }
        cr_assert(seen == live && rest.len == 0 && payload == kv_batch_payload(batch));
        kv_batch_clear(batch);
    }
    kv_batch_free(batch);
}

Test(batch, refuses_bad_keys_and_stays_as_it_was)
{
    static const uint8_t big[KV_KEY_LEN_MAX + 1];
    struct kv_batch *batch = batch_new();
    cr_assert_eq(kv_batch_put(batch, 0, KV_STR(""), KV_STR("v")), KV_INVALID);
    cr_assert_eq(kv_batch_put(batch, 0, kv_slice_of(big, sizeof big), KV_STR("v")), KV_INVALID);
    cr_assert_eq(kv_batch_put(batch, KV_SPACES_MAX, KV_STR("k"), KV_STR("v")), KV_INVALID);
    cr_assert_eq(kv_batch_put(batch, 0, KV_STR("k"), kv_slice_of(big, (size_t)KV_VALUE_LEN_MAX + 1)),
                 KV_LIMIT);
    cr_assert_eq(kv_batch_put(batch, 31, kv_slice_of(big, KV_KEY_LEN_MAX), KV_STR("v")), KV_OK);
    cr_assert(kv_batch_count(batch) == 1 && kv_batch_spaces(batch) == 32);
    kv_batch_free(batch);
}

Test(batch, a_failed_allocation_leaves_it_unchanged)
{
    for (uint64_t nth = 1;; nth++) {
        struct kv_batch *batch = batch_new();
        kv_status rc = KV_OK;
        size_t done = 0;
        uint8_t key[4];
        malloc_fault_arm(nth, false);
        for (; done < 300 && rc == KV_OK; done += rc == KV_OK)
            rc = kv_batch_put(batch, 0, key_of(key, done), KV_STR("some value"));
        bool fired = malloc_fault_disarm();
        cr_assert_eq(rc, fired ? KV_NO_MEMORY : KV_OK);
        cr_assert_eq(kv_batch_count(batch), done);
        kv_slice rest = kv_batch_bytes(batch);
        struct kv_batch_entry e;
        size_t seen = 0;
        while (kv_batch_next(&rest, &e) == KV_OK)
            cr_assert_eq(kv_get_be32(e.key.data), seen++);
        cr_assert_eq(seen, done);
        kv_batch_free(batch);
        if (!fired)
            break;
    }
}

Test(batch, malformed_bytes_are_damage_and_unknown_kinds_are_new)
{
    static const struct {
        const char *bytes;
        size_t len;
        kv_status expect;
    } cases[] = {
        {"\x00", 1, KV_CORRUPT},               /* no kind */
        {"\x20\x01\x01k\x01v", 6, KV_CORRUPT}, /* space 32 */
        {"\x00\x01\x00\x01v", 5, KV_CORRUPT},  /* empty key */
        {"\x00\x01\x05k", 4, KV_CORRUPT},      /* key runs out */
        {"\x00\x01\x01k", 4, KV_CORRUPT},      /* no value */
        {"\x00\x01\x01k\x05v", 6, KV_CORRUPT}, /* value runs out */
        {"\x00\x01\x81\x20k", 5, KV_CORRUPT},  /* key over 4096 */
        {"\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7fk", 13, KV_CORRUPT},
        {"\x00\x06\x01k\x01v", 6, KV_TOO_NEW},                         /* a kind to come */
        {"\x00\x03\x01k\x01v", 6, KV_TOO_NEW},                         /* a pointer with a flag to come */
        {"\x00\x03\x01k\x04\x00\x01\x02\x03", 9, KV_CORRUPT},          /* one to a value that is not large */
        {"\x00\x03\x01k\x06\x00\x01\x02\x03\x04\x01", 11, KV_CORRUPT}, /* its attributes do not say so */
        {"\x00\x03\x01k\x06\x20\x01\x02\x03\x04\x01", 11, KV_OK},
        {"\x00\x03\x01k\x06\x20\x01\x02\x03\x04\x04", 11, KV_CORRUPT}, /* more index than there is of it */
        {"\x00\x03\x01k\x07\x20\x01\x02\x03\x04\x01\x00", 12, KV_CORRUPT},
        {"\x00\x02\x01k\x01k", 6, KV_CORRUPT}, /* a range of nothing */
        {"\x00\x02\x01k\x01l", 6, KV_OK},
        {"\x00\xff\x01k\x01v", 6, KV_TOO_NEW}, /* what a batch uses inside */
        {"\x00\x00\x01k", 4, KV_OK},           /* a delete */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kv_slice rest = kv_slice_of(cases[i].bytes, cases[i].len), before = rest;
        struct kv_batch_entry e;
        cr_assert_eq(kv_batch_next(&rest, &e), cases[i].expect, "case %zu", i);
        cr_assert(cases[i].expect == KV_OK || rest.data == before.data);
    }
}

static size_t allocations;

static bool count_allocation(size_t size)
{
    (void)size;
    allocations++;
    return false;
}

static size_t allocations_of_refill(struct kv_batch *batch, uint32_t n)
{
    allocations = 0;
    kv_batch_clear(batch);
    kv_mem_should_fail = count_allocation;
    for (uint32_t i = 0; i < n; i++)
        cr_assert_eq(kv_batch_put(batch, 0, kv_slice_of(&i, sizeof i), KV_STR("a value of some bytes")),
                     KV_OK);
    kv_mem_should_fail = NULL;
    return allocations;
}

Test(batch, a_clear_keeps_little_memory_and_gives_much_back)
{
    struct kv_batch *batch = NULL;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_gt(allocations_of_refill(batch, 100), 0);
    cr_assert_eq(allocations_of_refill(batch, 100), 0);
    cr_assert_gt(allocations_of_refill(batch, 200000), 0);
    cr_assert_gt(allocations_of_refill(batch, 100), 0, "of both, bytes and slots, nothing was left");
    kv_batch_free(batch);
}

/* "kind key=value" of each live entry, in order. */
static const char *batch_text(struct kv_batch *batch, char *out, size_t size)
{
    kv_slice rest = kv_batch_bytes(batch);
    struct kv_batch_entry e;
    size_t n = 0;
    out[0] = 0;
    while (kv_batch_next(&rest, &e) == KV_OK)
        n += (size_t)snprintf(out + n, size - n, "%s%d %.*s=%.*s", n ? " " : "", e.kind, KV_ARG(e.key),
                              KV_ARG(e.value));
    return out;
}

Test(batch, a_range_deletion_undoes_what_the_batch_wrote_to_the_range_before)
{
    struct kv_batch *batch = NULL;
    char text[200];
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put(batch, 0, KV_STR("a"), KV_STR("1")), KV_OK);
    cr_assert_eq(kv_batch_put(batch, 0, KV_STR("b"), KV_STR("2")), KV_OK);
    cr_assert_eq(kv_batch_put(batch, 1, KV_STR("b"), KV_STR("3")), KV_OK);
    cr_assert_eq(kv_batch_put(batch, 0, KV_STR("c"), KV_STR("4")), KV_OK);
    cr_assert_eq(kv_batch_delete_range(batch, 0, KV_STR("b"), KV_STR("c")), KV_OK);
    cr_assert_eq(kv_batch_put(batch, 0, KV_STR("bb"), KV_STR("5")), KV_OK);
    cr_assert_str_eq(batch_text(batch, text, sizeof text), "1 a=1 1 b=3 1 c=4 2 b=c 1 bb=5");
    cr_assert_eq(kv_batch_count(batch), 5);
    cr_assert_eq(kv_batch_delete_range(batch, 0, KV_STR("c"), KV_STR("c")), KV_INVALID);
    cr_assert_eq(kv_batch_delete_range(batch, 0, KV_STR("c"), KV_STR("")), KV_INVALID);
    cr_assert_eq(kv_batch_kinds(batch).range, 1);
    kv_batch_free(batch);
}

Test(batch, operands_join_what_the_batch_knows_of_the_key)
{
    static const struct kv_put_options expiring = {.expires_at_s = 5};
    struct kv_batch *batch = NULL;
    struct kv_batch_entry e;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_merge(batch, 0, KV_STR("a"), KV_STR("x")), KV_OK);
    cr_assert_eq(kv_batch_merge(batch, 0, KV_STR("a"), KV_STR("y")), KV_OK);
    cr_assert_eq(kv_batch_put(batch, 0, KV_STR("b"), KV_STR("v")), KV_OK);
    cr_assert_eq(kv_batch_merge(batch, 0, KV_STR("b"), KV_STR("x")), KV_OK);
    cr_assert_eq(kv_batch_delete(batch, 0, KV_STR("c")), KV_OK);
    cr_assert_eq(kv_batch_merge(batch, 0, KV_STR("c"), KV_STR("x")), KV_OK);
    cr_assert_eq(kv_batch_put_with(batch, 0, KV_STR("d"), KV_STR("v"), &expiring), KV_OK);
    cr_assert_eq(kv_batch_merge(batch, 0, KV_STR("d"), KV_STR("x")), KV_OK);
    static const char *const values[] = {"\0\1x\1y", "\10\1v\1x", "\20\1x", "\11\5\1v\1x"};
    static const size_t lens[] = {5, 5, 3, 6};
    kv_slice rest = kv_batch_bytes(batch);
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(kv_batch_next(&rest, &e), KV_OK);
        cr_assert(e.kind == 5 && kv_slice_equal(e.value, kv_slice_of(values[i], lens[i])), "%zu", i);
    }
    cr_assert_eq(kv_batch_next(&rest, &e), KV_END);
    kv_batch_free(batch);
}

Test(batch, a_key_written_over_and_over_does_not_fill_it)
{
    struct kv_batch *batch = NULL;
    uint8_t *value = kv_zalloc(1, 100000);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    for (int i = 0; i < 6000; i++) /* 600 MB in all, and a batch holds 256 */
        cr_assert_eq(kv_batch_put(batch, 0, i % 2 ? KV_STR("a") : KV_STR("b"), kv_slice_of(value, 100000)),
                     KV_OK);
    cr_assert_eq(kv_batch_count(batch), 2);
    kv_free(value);
    kv_batch_free(batch);
}

static char long_key[KV_KEY_LEN_MAX + 1];

/* space, kind, key, value */
static void entry_bytes(struct kv_buf *out, const char *head, kv_slice key, const kv_slice *value)
{
    kv_buf_clear(out);
    cr_assert_eq(kv_buf_append(out, kv_slice_of(head, 2)), KV_OK);
    cr_assert_eq(kv_buf_append_lp(out, key), KV_OK);
    if (value)
        cr_assert_eq(kv_buf_append_lp(out, *value), KV_OK);
}

Test(batch, bytes_that_break_a_rule_are_damage)
{
    const kv_slice v = KV_STR("v"), z = KV_STR("z"), longest = kv_slice_of(long_key, sizeof long_key);
    struct kv_buf bytes = {0};
    const struct {
        const char *what, *head;
        kv_slice key;
        const kv_slice *value;
        size_t cut; /* from the end */
        kv_status rc;
    } rules[] = {
        {"a put", "\0\1", KV_STR("k"), &v, 0, KV_OK},
        {"a delete", "\0\0", KV_STR("k"), NULL, 0, KV_OK},
        {"a range", "\0\2", KV_STR("k"), &v, 0, KV_OK},
        {"a space alone", "\0\1", KV_STR("k"), NULL, 3, KV_CORRUPT},
        {"a space there cannot be", "\x20\1", KV_STR("k"), &v, 0, KV_CORRUPT},
        {"no key", "\0\1", {0}, &v, 0, KV_CORRUPT},
        {"a key cut short", "\0\0", KV_STR("k"), NULL, 1, KV_CORRUPT},
        {"a key too long", "\0\0", longest, NULL, 0, KV_CORRUPT},
        {"no value", "\0\1", KV_STR("k"), NULL, 0, KV_CORRUPT},
        {"a value cut short", "\0\1", KV_STR("k"), &v, 1, KV_CORRUPT},
        {"a range backwards", "\0\2", KV_STR("zz"), &z, 0, KV_CORRUPT},
        {"a range of nothing", "\0\2", KV_STR("z"), &z, 0, KV_CORRUPT},
        {"a range too long", "\0\2", KV_STR("z"), &longest, 0, KV_CORRUPT},
    };
    memset(long_key, '~', sizeof long_key);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        struct kv_batch_entry entry;
        entry_bytes(&bytes, rules[i].head, rules[i].key, rules[i].value);
        kv_slice rest = kv_slice_of(bytes.data, bytes.len - rules[i].cut);
        kv_status rc = kv_batch_next(&rest, &entry);
        cr_expect_eq(rc, rules[i].rc, "%s: %s", rules[i].what, kv_status_name(rc));
    }
    kv_buf_release(&bytes);
}
