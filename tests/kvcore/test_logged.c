/* Large values that the log names and that cannot be read any more: what becomes of the commit, and what is no matter of the value. */
#include "kvcore/base/coding.h"
#include "kvcore/db/batch.h"
#include "kvcore/db/log_read.h"
#include "kvcore/db/logged.h"
#include "tests/support/file_kit.h"
#include "tests/support/hook_dir.h"
#include "tests/support/kv_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { LONG_LEN = 5000 };

struct world {
    struct kv_kit kit;
    struct kv_env *env;
    struct kv_dir *under;
    struct hook_dir hook;
    struct kv_manifest manifest;
    struct kv_buf batch, out; /* a short value, a long one, a short one; and what comes of it */
    char segment[32];
    size_t lost;
    uint64_t lost_in;
    char why[240];
    kv_status answer; /* of each */
};

static void read_batch(struct world *w)
{
    struct kv_log_reader reader;
    struct kv_log_item item;
    struct kv_buf names = {0};
    uint64_t number;
    kv_slice batch, record;
    cr_assert_eq(file_kit_list(w->kit.vfs, "db", ".log", &names), 1);
    cr_assert(kv_log_name_parse((char *)names.data, &number));
    cr_assert_eq(kv_log_reader_open(&reader, w->under, number, NULL, NULL, NULL), KV_OK);
    cr_assert_eq(kv_log_reader_next(&reader, reader.header.first_seq, &item, NULL), KV_OK);
    cr_assert_eq(kv_log_payload_split(item.payload, &batch, &record), KV_OK);
    cr_assert_eq(kv_buf_append(&w->batch, batch), KV_OK);
    kv_log_reader_close(&reader);
    kv_buf_release(&names);
}

static void world_init(struct world *w)
{
    static char value[LONG_LEN];
    struct kv_buf names = {0};
    struct kv_value_writer *writer = NULL;
    struct kv_batch *batch = NULL;
    *w = (struct world){.answer = KV_OK};
    kv_kit_init(&w->kit, NULL);
    w->kit.options.large_value_bytes = 1024;
    kv_kit_must_open(&w->kit);
    memset(value, 'v', sizeof value);
    cr_assert_eq(kv_value_writer_open(w->kit.db, 1, &writer, NULL), KV_OK);
    cr_assert_eq(kv_value_writer_append(writer, kv_slice_of(value, sizeof value), NULL), KV_OK);
    cr_assert_eq(kv_value_writer_finish(writer, NULL), KV_OK);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put(batch, 0, KV_STR("a"), KV_STR("1")), KV_OK);
    cr_assert_eq(kv_batch_put_value(batch, 1, KV_STR("long"), writer, NULL), KV_OK);
    cr_assert_eq(kv_batch_put(batch, 0, KV_STR("z"), KV_STR("2")), KV_OK);
    cr_assert_eq(kv_commit(w->kit.db, batch, NULL, NULL, NULL), KV_OK);
    kv_batch_free(batch);
    kv_value_writer_free(writer);
    cr_assert_eq(kv_kit_close(&w->kit), KV_OK);
    struct kv_env_options how = {.vfs = w->kit.vfs, .clock = &w->kit.clock.base, .threads = KV_THREADS_NONE};
    cr_assert_eq(kv_env_open(&how, &w->env, NULL), KV_OK);
    cr_assert_eq(kv_vfs_dir_open(w->kit.vfs, "db", false, &w->under, NULL), KV_OK);
    hook_dir_init(&w->hook, w->under);
    cr_assert_eq(kv_manifest_load(&w->manifest, w->under, &w->kit.clock.base, NULL, NULL), KV_OK);
    cr_assert_eq(file_kit_list(w->kit.vfs, "db", ".vlg", &names), 1);
    snprintf(w->segment, sizeof w->segment, "%s", (char *)names.data);
    read_batch(w);
    kv_buf_release(&names);
}

static void world_release(struct world *w)
{
    kv_manifest_close(&w->manifest);
    kv_dir_close(w->under);
    kv_env_close(w->env);
    kv_buf_release(&w->batch);
    kv_buf_release(&w->out);
    kv_kit_release(&w->kit);
}

static kv_status keep_lost(void *ctx, kv_slice key, uint64_t segment, const char *why, struct kv_err *err)
{
    struct world *w = ctx;
    cr_assert(kv_slice_equal(key, KV_STR("long")));
    w->lost++;
    w->lost_in = segment;
    snprintf(w->why, sizeof w->why, "%s", why);
    return w->answer < 0 ? kv_fail(err, w->answer, 0, "no more of this") : KV_OK;
}

static kv_status mend(struct world *w, bool tell, struct kv_err *err)
{
    const struct kv_logged_mend how = {w->env, &w->hook.base, &w->manifest, tell ? keep_lost : NULL, w};
    kv_buf_clear(&w->out);
    w->lost = 0;
    return kv_logged_mend_batch(&how, kv_buf_slice(&w->batch), &w->out, err);
}

/* The entries of a batch as "space:key=value ", a deletion without "=". */
static void expect_out(struct world *w, const char *want)
{
    struct kv_batch_entry entry;
    kv_slice rest = kv_buf_slice(&w->out);
    char got[200] = "";
    kv_status rc;
    while ((rc = kv_batch_next(&rest, &entry)) == KV_OK)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%u:%.*s%s%.*s ", entry.space,
                 KV_ARG(entry.key), entry.kind == KV_KIND_DELETE ? "" : "=", KV_ARG(entry.value));
    cr_expect_eq(rc, KV_END);
    cr_expect_str_eq(got, want);
}

Test(logged, a_commit_whose_values_can_be_read_stays_as_it_is)
{
    struct world w;
    struct kv_err err = {0};
    world_init(&w);
    cr_assert_eq(mend(&w, true, &err), KV_NOT_FOUND, "%s", err.text);
    cr_assert(w.out.len == 0 && w.lost == 0);
    world_release(&w);
}

Test(logged, a_lost_value_is_a_deletion_and_the_rest_of_the_commit_stays)
{
    for (int how = 0; how < 3; how++) {
        static const char *const why[] = {"no such file", "", "is not part of the database"};
        struct world w;
        struct kv_err err = {0};
        world_init(&w);
        if (how == 0)
            file_kit_remove(w.kit.vfs, "db", w.segment);
        else if (how == 1)
            file_kit_flip(w.kit.vfs, "db", w.segment, KV_FILE_HEADER_LEN + 100);
        else
            kv_manifest_state_release(&w.manifest.state);
        cr_assert_eq(mend(&w, true, &err), KV_OK, "%d: %s", how, err.text);
        expect_out(&w, "0:a=1 1:long 0:z=2 ");
        cr_assert_eq(w.lost, 1);
        cr_assert_eq(w.lost_in, strtoull(w.segment, NULL, 10));
        cr_assert(w.why[0] && strstr(w.why, why[how]), "%d: %s", how, w.why);
        cr_assert_eq(mend(&w, false, &err), KV_OK, "nobody has to listen");
        expect_out(&w, "0:a=1 1:long 0:z=2 ");
        w.answer = KV_CANCELED;
        cr_assert_eq(mend(&w, true, &err), KV_CANCELED);
        cr_assert(strstr(err.text, "no more of this") && w.out.len == 0, "%s", err.text);
        world_release(&w);
    }
}

static kv_status no_disk(void *ctx, enum vfs_op op, const char *name, struct kv_err *err)
{
    (void)ctx;
    (void)op;
    return kv_fail(err, KV_IO, 5, "%s: the disk is gone", name);
}

Test(logged, what_is_no_matter_of_the_value_ends_it)
{
    struct world w;
    struct kv_err err = {0};
    world_init(&w);
    w.hook.before = no_disk;
    cr_assert_eq(mend(&w, true, &err), KV_IO);
    cr_assert(strstr(err.text, "the disk is gone") && strstr(err.text, w.segment), "%s", err.text);
    cr_assert(w.lost == 0 && w.out.len == 0);
    w.hook.before = NULL;
    w.batch.len--;
    cr_assert_eq(mend(&w, true, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "a commit of the log cannot be taken apart"), "%s", err.text);
    cr_assert_eq(w.out.len, 0);
    world_release(&w);
}

Test(logged, pointers_that_cannot_be_taken_apart)
{
    static const struct row {
        kv_slice value;
        kv_status expect;
    } rows[] = {
        {KV_STR("\x80\x01\x02\x03"), KV_TOO_NEW}, /* an unknown flag */
        {KV_STR("\x01\x80"), KV_CORRUPT},         /* half an expiry */
        {KV_STR("\x00\x05"), KV_CORRUPT},         /* a segment, and no place in it */
    };
    struct world w;
    world_init(&w);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct kv_err err = {0};
        uint64_t segment = 9;
        cr_expect_eq(kv_logged_verify(w.env, w.under, &w.manifest, rows[i].value, &segment, &err),
                     rows[i].expect, "%zu", i);
        cr_expect(strstr(err.text, "a malformed pointer into the value log"), "%zu: %s", i, err.text);
        cr_expect_eq(segment, 0, "%zu", i);
        kv_buf_clear(&w.batch);
        cr_assert(kv_buf_append(&w.batch, KV_STR("\x01\x03\x04long")) == KV_OK &&
                  kv_buf_append_lp(&w.batch, rows[i].value) == KV_OK);
        cr_expect_eq(mend(&w, true, &err), rows[i].expect, "%zu", i);
        cr_expect(strstr(err.text, "a commit of the log cannot be taken apart"), "%zu: %s", i, err.text);
        cr_expect(w.lost == 0 && w.out.len == 0, "%zu", i);
    }
    world_release(&w);
}
