#include "kvcore/base/arena.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/base/hash.h"
#include "kvcore/base/list.h"
#include "kvcore/base/logfmt.h"
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "kvcore/base/sha256.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/sys_fault.h"

#include <criterion/criterion.h>
#include <errno.h>

/* ---- coding */

Test(coding, fixed_and_big_endian_have_their_byte_order)
{
    uint8_t p[8];
    kv_put_fixed64(p, 0x0102030405060708);
    cr_assert(p[0] == 8 && p[7] == 1 && kv_get_fixed64(p) == 0x0102030405060708);
    kv_put_be64(p, 0x0102030405060708);
    cr_assert(p[0] == 1 && p[7] == 8 && kv_get_be64(p) == 0x0102030405060708);
    kv_put_fixed32(p, 0x01020304);
    cr_assert(p[0] == 4 && kv_get_fixed32(p) == 0x01020304);
    kv_put_be32(p, 0x01020304);
    cr_assert(p[0] == 1 && kv_get_be32(p) == 0x01020304);
    kv_put_fixed16(p, 0x0102);
    cr_assert(p[0] == 2 && kv_get_fixed16(p) == 0x0102);
}

Test(coding, varints_come_back_at_every_length)
{
    for (int bits = 0; bits <= 64; bits++)
        for (int off = -1; off <= 1; off++) {
            uint64_t v = (bits == 64 ? 0 : (uint64_t)1 << bits) + (uint64_t)off, got;
            uint8_t p[KV_VARINT_LEN_MAX];
            size_t n = kv_put_varint(p, v);
            cr_assert_eq(n, kv_varint_len(v));
            kv_slice in = kv_slice_of(p, n);
            cr_assert_eq(kv_take_varint(&in, &got), KV_OK);
            cr_assert(got == v && in.len == 0);
            for (size_t cut = 0; cut < n; cut++) {
                in = kv_slice_of(p, cut);
                cr_assert_eq(kv_take_varint(&in, &got), KV_CORRUPT);
                cr_assert_eq(in.len, cut, "unchanged");
            }
        }
}

Test(coding, varints_over_64_bits_are_damage)
{
    static const uint8_t over[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02};
    static const uint8_t endless[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00};
    uint64_t v;
    kv_slice in = kv_slice_of(over, sizeof over);
    cr_assert_eq(kv_take_varint(&in, &v), KV_CORRUPT);
    in = kv_slice_of(endless, sizeof endless);
    cr_assert_eq(kv_take_varint(&in, &v), KV_CORRUPT);
}

Test(coding, zigzag_keeps_order_of_magnitude)
{
    static const int64_t values[] = {0, -1, 1, -2, 2, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        cr_assert_eq(kv_unzigzag(kv_zigzag(values[i])), values[i]);
    cr_assert(kv_zigzag(-1) == 1 && kv_zigzag(1) == 2 && kv_zigzag(INT64_MIN) == UINT64_MAX);
}

Test(coding, takers_stop_at_the_end)
{
    kv_slice in = KV_STR("\x03"
                         "abcd"),
             got;
    uint32_t v32;
    uint64_t v64;
    uint8_t byte;
    cr_assert_eq(kv_take_lp(&in, &got), KV_OK);
    cr_assert(kv_slice_equal(got, KV_STR("abc")) && in.len == 1);
    cr_assert_eq(kv_take_fixed32(&in, &v32), KV_CORRUPT);
    cr_assert_eq(kv_take_fixed64(&in, &v64), KV_CORRUPT);
    cr_assert_eq(kv_take_byte(&in, &byte), KV_OK);
    cr_assert_eq(kv_take_byte(&in, &byte), KV_CORRUPT);
    in = KV_STR("\x05"
                "abcd");
    cr_assert_eq(kv_take_lp(&in, &got), KV_CORRUPT);
    cr_assert_eq(in.len, 5);
    cr_assert_eq(kv_take_bytes(&in, 6, &got), KV_CORRUPT);
    cr_assert_eq(kv_take_fixed32(&in, &v32), KV_OK);
    cr_assert(v32 == 0x63626105 && in.len == 1);
    in = KV_STR("\x80");
    cr_assert_eq(kv_take_lp(&in, &got), KV_CORRUPT, "no whole length");
    cr_assert_eq(in.len, 1);
}

/* ---- buf */

Test(buf, grows_to_its_maximum_and_not_past_it)
{
    struct kv_buf buf;
    kv_buf_init(&buf, 100);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(kv_buf_append_byte(&buf, (uint8_t)i), KV_OK);
    cr_assert_eq(kv_buf_append_byte(&buf, 1), KV_LIMIT);
    cr_assert_eq(kv_buf_reserve(&buf, SIZE_MAX), KV_LIMIT);
    cr_assert_null(kv_buf_extend(&buf, 1));
    cr_assert(buf.len == 100 && buf.data[99] == 99);
    kv_buf_release(&buf);
    kv_buf_release(&buf);
    cr_assert(buf.max == 100 && buf.len == 0);
}

Test(buf, a_failed_allocation_leaves_it_unchanged)
{
    struct kv_buf buf = {0};
    cr_assert_eq(kv_buf_append(&buf, KV_STR("abc")), KV_OK);
    malloc_fault_arm(1, true);
    cr_assert_eq(kv_buf_reserve(&buf, 1 << 20), KV_NO_MEMORY);
    cr_assert(malloc_fault_disarm());
    cr_assert(kv_slice_equal(kv_buf_slice(&buf), KV_STR("abc")));
    kv_buf_release(&buf);
}

Test(buf, what_cannot_be_appended_leaves_it_unchanged)
{
    struct kv_buf buf = {0};
    struct kv_arena arena = {0};
    uint8_t byte = 0;
    cr_assert_eq(kv_buf_append(&buf, KV_STR("abc")), KV_OK);
    cr_assert_eq(kv_buf_append_lp(&buf, kv_slice_of(&byte, SIZE_MAX)), KV_LIMIT,
                 "with its length no size at all");
    static const wchar_t no_character[] = {(wchar_t)0x7fffffff, 0};
    cr_assert_eq(kv_buf_printf(&buf, "%ls", no_character), KV_INVALID);
    cr_assert_null(kv_arena_printf(&arena, "%ls", no_character));
    cr_assert_null(kv_arena_alloc(&arena, SIZE_MAX));
    malloc_fault_arm(1, true);
    cr_assert_null(kv_arena_printf(&arena, "%d", 1));
    cr_assert_null(kv_arena_zalloc(&arena, 1, 1));
    cr_assert(malloc_fault_disarm());
    cr_assert(kv_slice_equal(kv_buf_slice(&buf), KV_STR("abc")));
    kv_arena_release(&arena);
    kv_buf_release(&buf);
}

Test(buf, formats_and_prefixes)
{
    struct kv_buf buf = {0};
    cr_assert_eq(kv_buf_append_lp(&buf, KV_STR("hi")), KV_OK);
    cr_assert_eq(kv_buf_append_varint(&buf, 300), KV_OK);
    cr_assert_eq(kv_buf_append_fixed32(&buf, 7), KV_OK);
    cr_assert_eq(kv_buf_printf(&buf, "%d-%s", 5, "x"), KV_OK);
    cr_assert(kv_slice_equal(kv_buf_slice(&buf), KV_STR("\x02hi\xac\x02\x07\0\0\0"
                                                        "5-x")));
    kv_buf_release(&buf);
}

/* ---- arena */

Test(arena, gives_aligned_memory_up_to_its_maximum)
{
    struct kv_arena arena;
    kv_arena_init(&arena, 64 << 10);
    size_t got = 0;
    for (size_t size = 1;; size = size % 700 + 13) {
        uint8_t *p = kv_arena_alloc(&arena, size);
        if (!p)
            break;
        cr_assert_eq((uintptr_t)p % 16, 0);
        memset(p, 0xee, size);
        got += size;
    }
    cr_assert(got > 40 << 10 && arena.used <= 64 << 10);
    kv_arena_release(&arena);
    kv_slice copy = kv_arena_copy(&arena, KV_STR("text"));
    cr_assert(kv_slice_equal(copy, KV_STR("text")) && copy.data[4] == 0);
    cr_assert_str_eq(kv_arena_printf(&arena, "%s=%d", "a", 1), "a=1");
    uint64_t *zeros = kv_arena_zalloc(&arena, 10, 8);
    cr_assert(zeros && zeros[0] == 0 && zeros[9] == 0);
    cr_assert_null(kv_arena_zalloc(&arena, SIZE_MAX / 4, 8), "the product overflows");
    cr_assert_not_null(kv_arena_zalloc(&arena, 0, 8));
    kv_arena_release(&arena);
}

/* A block that would be too large is made as small as what is asked for, as long as that fits. */
Test(arena, the_last_block_is_as_large_as_what_is_left)
{
    struct kv_arena arena;
    kv_arena_init(&arena, 6000);
    cr_assert_not_null(kv_arena_alloc(&arena, 3000));
    cr_assert_not_null(kv_arena_alloc(&arena, 1600));
    cr_assert_leq(arena.used, 6000);
    cr_assert_null(kv_arena_alloc(&arena, 4000), "more than is left");
    cr_assert_null(kv_arena_alloc(&arena, 7000), "more than there ever was");
    kv_arena_release(&arena);
}

Test(arena, a_large_one_comes_to_whole_large_pages_and_stays_as_it_was_told)
{
    struct kv_arena arena = {.large = true};
    size_t used = 0, pages = 0;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 9000; i++) {
            uint8_t *p = kv_arena_alloc(&arena, 1000);
            cr_assert_not_null(p);
            memset(p, i, 1000);
            pages += arena.used - used == KV_LARGE_PAGE && (uintptr_t)arena.blocks % KV_LARGE_PAGE == 0;
            used = arena.used;
        }
        cr_assert_geq(pages, 3);
        kv_arena_release(&arena);
        cr_assert(arena.large && arena.used == 0);
        used = pages = 0;
    }
}

/* ---- crc32c, hash, prng */

Test(crc32c, known_answers_and_both_forms_agree)
{
    static uint8_t bytes[4096];
    struct kv_prng prng;
    cr_assert_eq(kv_crc32c(0, KV_STR("123456789")), 0xe3069283);
    cr_assert_eq(kv_crc32c(0, kv_slice_of(bytes, 32)), 0x8a9136aa, "RFC 3720, 32 zeros");
    kv_prng_init(&prng, 1);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)kv_prng_next(&prng);
    for (size_t i = 0; i < 3000; i++) {
        size_t from = (size_t)kv_prng_below(&prng, 64), len = (size_t)kv_prng_below(&prng, sizeof bytes - 64);
        kv_slice s = kv_slice_of(bytes + from, len);
        uint32_t sum = kv_crc32c(0, s);
        cr_assert_eq(sum, kv_crc32c_portable(0, s));
        size_t cut = len ? (size_t)kv_prng_below(&prng, len) : 0;
        cr_assert_eq(kv_crc32c(kv_crc32c(0, kv_slice_of(s.data, cut)), kv_slice_from(s, cut)), sum);
    }
}

Test(hash, is_that_of_xxh3_and_depends_on_seed_and_secret)
{
    uint8_t a[KV_HASH_SECRET_LEN], b[KV_HASH_SECRET_LEN];
    cr_assert_eq(kv_hash64(KV_STR(""), 0), 0x2d06800538d394c2, "XXH3_64bits of nothing");
    cr_assert_neq(kv_hash64(KV_STR("x"), 0), kv_hash64(KV_STR("x"), 1));
    kv_hash_secret(KV_STR("sixteen bytes ok"), a);
    kv_hash_secret(KV_STR("sixteen bytes no"), b);
    cr_assert(kv_hash128_equal(kv_hash128_keyed(KV_STR("x"), a), kv_hash128_keyed(KV_STR("x"), a)));
    cr_assert_not(kv_hash128_equal(kv_hash128_keyed(KV_STR("x"), a), kv_hash128_keyed(KV_STR("x"), b)));
}

Test(prng, a_seed_replays_and_bounds_hold)
{
    struct kv_prng a, b;
    kv_prng_init(&a, 9);
    kv_prng_init(&b, 9);
    for (int i = 0; i < 1000; i++) {
        cr_assert_eq(kv_prng_next(&a), kv_prng_next(&b));
        cr_assert_lt(kv_prng_below(&a, 7), 7);
        (void)kv_prng_below(&b, 7);
        double u = kv_prng_unit(&a);
        (void)kv_prng_unit(&b);
        cr_assert(u >= 0 && u < 1);
    }
}

/* ---- list, status, logfmt */

struct item {
    int n;
    struct kv_list link;
};

Test(list, keeps_order)
{
    struct kv_list list;
    struct item items[4] = {{.n = 0}, {.n = 1}, {.n = 2}, {.n = 3}};
    kv_list_init(&list);
    cr_assert(kv_list_empty(&list));
    kv_list_push_back(&list, &items[1].link);
    kv_list_push_back(&list, &items[2].link);
    kv_list_push_front(&list, &items[0].link);
    kv_list_push_back(&list, &items[3].link);
    kv_list_remove(&items[2].link);
    int expect[] = {0, 1, 3}, at = 0;
    for (struct kv_list *l = list.next; l != &list; l = l->next)
        cr_assert_eq(KV_CONTAINER(l, struct item, link)->n, expect[at++]);
    cr_assert_eq(at, 3);
}

Test(status, every_code_has_a_name_and_a_text)
{
#define X(name, code, text)                                                                                  \
    cr_assert_eq(name, code);                                                                                \
    cr_assert_str_eq(kv_status_name(name), #name);                                                           \
    cr_assert_str_eq(kv_status_text(name), text);
    KV_STATUS_LIST(X)
#undef X
    cr_assert_str_eq(kv_status_text((kv_status)-99), "unknown status");
    cr_assert_str_eq(kv_status_name((kv_status)-99), "unknown");
}

Test(status, failure_texts_are_cut_and_clean)
{
    struct kv_err err;
    char long_text[400];
    memset(long_text, 'x', sizeof long_text);
    long_text[399] = 0;
    long_text[3] = '\n';
    long_text[4] = 0x7f;
    cr_assert_eq(kv_fail(&err, KV_IO, 5, "%s", long_text), KV_IO);
    cr_assert(err.code == KV_IO && err.sys == 5 && strlen(err.text) == sizeof err.text - 1 &&
              err.text[3] == '?' && err.text[4] == '?' && err.text[5] == 'x');
    cr_assert_eq(kv_fail(NULL, KV_LIMIT, 0, "nobody listens"), KV_LIMIT);
}

static void keep_line(void *ctx, enum kv_log_level level, const char *line, size_t len)
{
    (void)level;
    cr_assert_eq(strlen(line), len);
    strcpy(ctx, line);
}

static int64_t fixed_ms(void *ctx)
{
    (void)ctx;
    return 1795230483123;
}

Test(logfmt, foreign_bytes_cannot_forge_a_line)
{
    char line[4096] = "";
    struct kv_logger log = {.sink = keep_line, .ctx = line, .level = KV_LOG_INFO, .now_ms = fixed_ms};
    kv_logf(&log, KV_LOG_WARN, "sync_failed", "file=%s n=%d", "a.log", 3);
    cr_assert_str_eq(line, "ts=2026-11-21T03:08:03.123Z level=warn event=sync_failed file=a.log n=3");
    log.now_ms = NULL;
    kv_logf(&log, KV_LOG_INFO, "x", "path=%s", KV_LOGQ("a b\"\n level=error"));
    cr_assert_str_eq(line, "level=info event=x path=\"a b\\\"\\x0a level=error\"");
    kv_logf(&log, KV_LOG_INFO, "x", "raw=%s", "a\nlevel=error");
    cr_assert_str_eq(line, "level=info event=x raw=a?level=error");
    kv_logf(&log, KV_LOG_INFO, "y", "%s", "");
    strcpy(line, "kept");
    kv_logf(&log, KV_LOG_DEBUG, "x", "%s", "");
    kv_logf(NULL, KV_LOG_ERROR, "x", "%s", "");
    cr_assert_str_eq(line, "kept", "below the level");
    char many[5000];
    memset(many, 'z', sizeof many);
    many[4999] = 0;
    kv_logf(&log, KV_LOG_INFO, "long", "v=%s", many);
    cr_assert_eq(strlen(line), 2047);
    cr_assert_str_eq(KV_LOGQ("plain"), "plain");
    cr_assert_str_eq(KV_LOGQ(""), "\"\"");
    kv_logf(&log, KV_LOG_INFO, "x", "raw=%s",
            "a\x7f"
            "b");
    cr_assert_str_eq(line, "level=info event=x raw=a?b");
    const char *nothing = "";
    kv_logf(&log, KV_LOG_INFO, "bare", nothing);
    cr_assert_str_eq(line, "level=info event=bare");
    static const wchar_t no_character[] = {(wchar_t)0x7fffffff, 0};
    kv_logf(&log, KV_LOG_INFO, "odd", "v=%ls", no_character);
    cr_assert(strncmp(line, "level=info event=odd", 20) == 0, "what cannot be written is left out: %s", line);
    kv_logf(&(struct kv_logger){.sink = NULL}, KV_LOG_ERROR, "x", "%s", "");
}

Test(logfmt, what_is_not_plain_is_quoted_and_a_long_text_is_cut)
{
    static const struct {
        const char *text, *quoted;
    } cases[] = {{"a b", "\"a b\""},
                 {"a=b", "\"a=b\""},
                 {"a\"b", "\"a\\\"b\""},
                 {"a\\b", "\"a\\\\b\""},
                 {"a\x7f"
                  "b",
                  "\"a\\x7fb\""},
                 {"a\tb", "\"a\\x09b\""},
                 {"\xc3\xa4", "\xc3\xa4"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_assert_str_eq(KV_LOGQ(cases[i].text), cases[i].quoted);
    char out[16];
    cr_assert_str_eq(kv_log_quote(KV_STR("0123456789abcdef"), out, sizeof out), "0123456789");
    cr_assert_str_eq(kv_log_quote(KV_STR("0 23456789abcdef"), out, sizeof out), "\"0 2345678\"");
}

Test(mem, overflowing_arrays_fail)
{
    cr_assert_null(kv_zalloc(SIZE_MAX / 2, 4));
    void *p = kv_alloc_aligned(64, 100);
    cr_assert_eq((uintptr_t)p % 64, 0);
    kv_free(p);
    kv_free(kv_alloc(0));
}

Test(mem, nothing_is_a_piece_of_its_own_and_refusals_are_null)
{
    void *a = kv_zalloc(0, 8), *b = kv_realloc(NULL, 0), *c = kv_alloc_aligned(64, 0);
    cr_assert(a && b && c && a != b && b != c);
    kv_free(a);
    kv_free(b);
    kv_free(c);
    kv_free(NULL);
    sys_fault_arm("posix_memalign", 1, ENOMEM);
    cr_assert_null(kv_alloc_large(KV_LARGE_PAGE));
    cr_assert(sys_fault_disarm());
    void *odd = kv_alloc_large(KV_LARGE_PAGE + 64);
    cr_assert(odd && (uintptr_t)odd % KV_LARGE_PAGE == 0);
    kv_free(odd);
    malloc_fault_arm(1, true);
    cr_assert_null(kv_alloc_large(KV_LARGE_PAGE));
    cr_assert_null(kv_realloc(NULL, 1));
    cr_assert_null(kv_dup_str("x"));
    cr_assert(malloc_fault_disarm());
}

Test(sha256, gives_the_known_answer_and_says_when_memory_is_out)
{
    static const uint8_t abc[] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea};
    uint8_t out[KV_SHA256_LEN];
    struct kv_sha256 *sum = NULL;
    cr_assert_eq(kv_sha256_new(&sum), KV_OK);
    kv_sha256_add(sum, KV_STR("a"));
    kv_sha256_add(sum, KV_STR(""));
    kv_sha256_add(sum, KV_STR("bc"));
    kv_sha256_take(sum, out);
    cr_assert(memcmp(out, abc, sizeof abc) == 0, "FIPS 180-2");
    kv_sha256_free(sum);
    kv_sha256_free(NULL);
    static const char *const calls[] = {"EVP_MD_CTX_new", "EVP_DigestInit_ex"};
    for (int i = 0; i < 2; i++) {
        sys_fault_arm(calls[i], 1, 0);
        cr_assert_eq(kv_sha256_new(&sum), KV_NO_MEMORY);
        cr_assert(sys_fault_disarm());
    }
    malloc_fault_arm(1, true);
    cr_assert_eq(kv_sha256_new(&sum), KV_NO_MEMORY);
    cr_assert(malloc_fault_disarm());
}
