#include "kvcore/base/compress.h"
#include "kvcore/os/clock.h"
#include "kvcore/os/secret.h"
#include "kvcore/os/thread.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/sys_fault.h"

#include <criterion/criterion.h>
#include <errno.h>

/* ---- compress */

static uint8_t text[3000];

static kv_slice make_text(void)
{
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)("tidemark"[i % 8] ^ (int)(i / 100 % 3));
    return kv_slice_of(text, sizeof text);
}

Test(compress, bytes_come_back_and_nothing_else_does)
{
    static const enum kv_codec codecs[] = {KV_CODEC_SNAPPY, KV_CODEC_ZSTD};
    kv_slice in = make_text();
    uint8_t back[sizeof text + 1];
    for (int i = 0; i < 2; i++) {
        struct kv_buf out = {0};
        cr_assert_eq(kv_compress(codecs[i], in, &out), KV_OK);
        cr_assert_lt(out.len, in.len / 4);
        kv_slice packed = kv_buf_slice(&out);
        cr_assert_eq(kv_inflate(codecs[i], packed, back, in.len), KV_OK);
        cr_assert(memcmp(back, text, in.len) == 0);
        cr_assert_eq(kv_inflate(codecs[i], packed, back, in.len + 1), KV_CORRUPT, "another length");
        cr_assert_eq(kv_inflate(codecs[i], packed, back, in.len - 1), KV_CORRUPT);
        cr_assert_eq(kv_inflate(codecs[i], kv_slice_of(packed.data, packed.len - 1), back, in.len),
                     KV_CORRUPT, "cut");
        cr_assert_eq(kv_inflate(codecs[i], KV_STR(""), back, 0), KV_CORRUPT, "no frame at all");
        out.data[out.len / 2] ^= 0xff;
        out.data[out.len / 2 + 1] ^= 0xff;
        kv_status rc = kv_inflate(codecs[i], packed, back, in.len);
        cr_assert(rc == KV_CORRUPT || memcmp(back, text, in.len) != 0, "neither has a sum");
        kv_buf_release(&out);
    }
    cr_assert_eq(kv_inflate(KV_CODEC_PLAIN, in, back, in.len), KV_OK);
    cr_assert(memcmp(back, text, in.len) == 0);
    cr_assert_eq(kv_inflate(KV_CODEC_PLAIN, in, back, in.len - 1), KV_CORRUPT);
    cr_assert_eq(kv_inflate(KV_CODEC_PLAIN, KV_STR(""), NULL, 0), KV_OK);
    cr_assert_eq(kv_inflate(9, in, back, in.len), KV_TOO_NEW);
}

Test(compress, what_cannot_be_compressed_leaves_the_buffer)
{
    struct kv_buf out = {0};
    kv_slice in = make_text(), endless = kv_slice_of(text, SIZE_MAX);
    cr_assert_eq(kv_compress(KV_CODEC_PLAIN, in, &out), KV_INVALID);
    cr_assert_eq(kv_compress(KV_CODEC_ZSTD, endless, &out), KV_INVALID);
    for (int codec = KV_CODEC_SNAPPY; codec <= KV_CODEC_ZSTD; codec++) {
        malloc_fault_arm(1, true);
        cr_assert_eq(kv_compress((enum kv_codec)codec, in, &out), KV_NO_MEMORY);
        cr_assert(malloc_fault_disarm());
    }
    static const char *const calls[] = {"ZSTD_createCCtx", "ZSTD_compressCCtx"};
    for (int i = 0; i < 2; i++) {
        sys_fault_arm(calls[i], 1, 0);
        cr_assert_eq(kv_compress(KV_CODEC_ZSTD, in, &out), KV_NO_MEMORY);
        cr_assert(sys_fault_disarm());
    }
    cr_assert_eq(out.len, 0);
    cr_assert_eq(kv_compress(KV_CODEC_ZSTD, in, &out), KV_OK);
    sys_fault_arm("ZSTD_createDCtx", 1, 0);
    cr_assert_eq(kv_inflate(KV_CODEC_ZSTD, kv_buf_slice(&out), text, sizeof text), KV_NO_MEMORY);
    cr_assert(sys_fault_disarm());
    cr_assert_eq(kv_inflate(KV_CODEC_ZSTD, kv_buf_slice(&out), text, sizeof text), KV_OK);
    kv_buf_release(&out);
}

/* ---- what os/ asks of the system */

static void set_flag(void *ctx)
{
    *(int *)ctx = 1;
}

Test(thread, the_system_may_refuse_one)
{
    static const struct {
        const char *call;
        int sys;
        kv_status rc;
    } cases[] = {{"pthread_attr_init", ENOMEM, KV_NO_MEMORY},
                 {"pthread_create", EAGAIN, KV_LIMIT},
                 {"pthread_create", ENOMEM, KV_NO_MEMORY}};
    kv_thread thread;
    int ran = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sys_fault_arm(cases[i].call, 1, cases[i].sys);
        cr_assert_eq(kv_thread_start(&thread, "refused", 0, set_flag, &ran), cases[i].rc);
        cr_assert(sys_fault_disarm());
        kv_thread_join(&thread);
    }
    malloc_fault_arm(1, true);
    cr_assert_eq(kv_thread_start(&thread, "refused", 0, set_flag, &ran), KV_NO_MEMORY);
    cr_assert(malloc_fault_disarm() && ran == 0);
    cr_assert_eq(kv_thread_start(&thread, "a name that is too long", 1, set_flag, &ran), KV_OK,
                 "a stack of its own");
    kv_thread_join(&thread);
    kv_thread_join(&thread);
    cr_assert_eq(ran, 1);
}

struct meeting {
    kv_mutex mutex;
    kv_cond cond;
    bool there;
};

static void arrive(void *ctx)
{
    struct meeting *meeting = ctx;
    kv_mutex_lock(&meeting->mutex);
    meeting->there = true;
    kv_cond_signal(&meeting->cond);
    kv_mutex_unlock(&meeting->mutex);
}

Test(thread, a_wait_of_centuries_ends_when_it_is_woken)
{
    struct meeting meeting = {.there = false};
    kv_thread thread;
    kv_mutex_init(&meeting.mutex);
    kv_cond_init(&meeting.cond);
    kv_mutex_lock(&meeting.mutex);
    cr_assert_eq(kv_thread_start(&thread, "arrive", 0, arrive, &meeting), KV_OK);
    while (!meeting.there)
        cr_assert(kv_cond_wait_for(&meeting.cond, &meeting.mutex, UINT64_MAX));
    kv_mutex_unlock(&meeting.mutex);
    kv_thread_join(&thread);
    kv_cond_release(&meeting.cond);
    kv_mutex_release(&meeting.mutex);
}

Test(clock, interrupted_calls_are_made_again)
{
    struct kv_clock *clock = kv_clock_system();
    uint8_t out[40] = {0}, zero[20] = {0};
    sys_fault_arm("clock_nanosleep", 1, EINTR);
    clock->ops->sleep_ns(clock, 1000);
    cr_assert(sys_fault_disarm());
    sys_fault_arm("getrandom", 1, EINTR);
    kv_clock_entropy(clock, out, 20);
    cr_assert(sys_fault_disarm());
    cr_assert(memcmp(out, zero, 20) != 0 && memcmp(out + 20, zero, 20) == 0);
    sys_fault_arm_short("getrandom", 1, 8);
    kv_clock_entropy(clock, out + 20, 20);
    cr_assert(sys_fault_disarm());
    cr_assert(memcmp(out + 28, zero, 12) != 0, "what came short is filled up");
}

Test(secret, none_is_given_where_memory_cannot_be_locked_away)
{
    sys_fault_arm("sodium_init", 1, 0);
    cr_assert_null(kv_secret_alloc(32));
    cr_assert(sys_fault_disarm());
    malloc_fault_arm(1, true);
    cr_assert_null(kv_secret_alloc(32));
    cr_assert(malloc_fault_disarm());
    uint8_t *secret = kv_secret_alloc(32);
    cr_assert_not_null(secret);
    secret[31] = 1;
    kv_secret_wipe(secret, 32);
    cr_assert_eq(secret[31], 0);
    kv_secret_free(secret);
}
