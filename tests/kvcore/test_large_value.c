/* Values written and read in parts: what they are to readers, who keeps their segments, what removes them, failures. */
#include "kvcore/base/mem.h"
#include "kvcore/db/db.h"
#include "kvcore/vlog/large.h"
#include "tests/support/file_kit.h"
#include "tests/support/kv_kit.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/sweep.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

enum { LIMIT = 1000 }; /* large_value_bytes here, and the length of a block */

static const uint8_t master[KV_MASTER_KEY_LEN] = "a key of thirty-two bytes: large";

static void large_kit(struct kv_kit *kit, struct kv_vfs *vfs)
{
    kv_kit_init(kit, vfs);
    kit->options.large_value_bytes = LIMIT;
    kit->spaces[0].style = KV_STYLE_LEVELLED;
    kv_kit_must_open(kit);
}

/* Bytes that do not compress, and say which value they are of. */
static uint8_t byte_of(uint64_t i, int round)
{
    uint64_t x = (i / 8 + 1) * 0x9e3779b97f4a7c15u + (uint64_t)round * 0xbf58476d1ce4e5b9u;
    x ^= x >> 29;
    x *= 0x94d049bb133111ebu;
    return (uint8_t)(x >> (8 * (i % 8)));
}

static kv_status append_all(struct kv_kit *kit, struct kv_value_writer *writer, size_t len, int round)
{
    uint8_t part[700];
    size_t step = 1;
    kv_status rc = KV_OK;
    for (size_t at = 0; at < len && rc == KV_OK; step = step * 3 % sizeof part + 1) {
        size_t n = step < len - at ? step : len - at;
        for (size_t i = 0; i < n; i++)
            part[i] = byte_of(at + i, round);
        rc = kv_value_writer_append(writer, kv_slice_of(part, n), &kit->err);
        at += n;
    }
    return rc;
}

static kv_status try_write(struct kv_kit *kit, size_t len, int round, struct kv_value_writer **out)
{
    kv_status rc = kv_value_writer_open(kit->db, 0, out, &kit->err);
    if (rc == KV_OK)
        rc = append_all(kit, *out, len, round);
    return rc == KV_OK ? kv_value_writer_finish(*out, &kit->err) : rc;
}

static struct kv_value_writer *must_write(struct kv_kit *kit, size_t len, int round)
{
    struct kv_value_writer *writer = NULL;
    kv_status rc = try_write(kit, len, round, &writer);
    cr_assert_eq(rc, KV_OK, "%s", kit->err.text);
    return writer;
}

static kv_status try_put(struct kv_kit *kit, const char *key, size_t len, int round,
                         const struct kv_put_options *options)
{
    struct kv_value_writer *writer = NULL;
    struct kv_batch *batch = NULL;
    kv_status rc = try_write(kit, len, round, &writer);
    if (rc == KV_OK)
        rc = kv_batch_new(&batch);
    if (rc == KV_OK)
        rc = kv_batch_put_value(batch, 0, kv_slice_str(key), writer, options);
    kv_value_writer_free(writer); /* the batch has it now */
    if (rc == KV_OK)
        rc = kv_commit(kit->db, batch, NULL, NULL, &kit->err);
    kv_batch_free(batch);
    return rc;
}

static void put_large(struct kv_kit *kit, const char *key, size_t len, int round)
{
    kv_status rc = try_put(kit, key, len, round, NULL);
    cr_assert_eq(rc, KV_OK, "%s", kit->err.text);
}

static bool is_value(const uint8_t *bytes, uint64_t offset, size_t len, int round)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != byte_of(offset + i, round))
            return false;
    return true;
}

/* Reads of every kind. */
static void expect_large(struct kv_kit *kit, const struct kv_snapshot *snapshot, const char *key, size_t len,
                         int round)
{
    struct kv_value_reader *reader = NULL;
    struct kv_pinned pinned;
    uint8_t part[3 * LIMIT];
    size_t got;
    kv_status rc = kv_value_open(kit->db, snapshot, 0, kv_slice_str(key), &reader, &kit->err);
    cr_assert_eq(rc, KV_OK, "%s: %s", key, kit->err.text);
    cr_assert_eq(kv_value_info(reader)->bytes, len);
    for (uint64_t at = 0, step = 1; at < len; at += step, step = step * 5 % sizeof part + 1) {
        cr_assert_eq(kv_value_read_at(reader, at, (size_t)step, part, &got, &kit->err), KV_OK, "%s",
                     kit->err.text);
        cr_assert_eq(got, step < len - at ? step : len - at);
        cr_assert(is_value(part, at, got, round), "%s at %d", key, (int)at);
    }
    cr_assert(kv_value_read_at(reader, len, 5, part, &got, NULL) == KV_OK && got == 0);
    cr_assert(kv_value_read_at(reader, UINT64_MAX, 5, part, &got, NULL) == KV_OK && got == 0);
    kv_value_close(reader);
    rc = kv_get(kit->db, snapshot, 0, kv_slice_str(key), &pinned, &kit->err);
    cr_assert_eq(rc, KV_OK, "%s", kit->err.text);
    cr_assert(pinned.value.len == len && is_value(pinned.value.data, 0, len, round), "%s", key);
    kv_pinned_release(&pinned);
}

static size_t segments(struct kv_kit *kit)
{
    size_t n = kit->db->view->version->values.n;
    cr_assert_eq(kv_kit_files(kit, ".vlg"), n, "no file too many");
    return n;
}

static void check_closed(struct kv_kit *kit, kv_status expected)
{
    struct kv_env_options options = {.vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE};
    struct kv_key_source key = kit->options.key;
    struct kv_env *env = NULL;
    cr_assert_eq(kv_env_open(&options, &env, &kit->err), KV_OK);
    kv_status rc = kv_check_with_key(env, kit->path, key.master_key ? &key : NULL, NULL, NULL, &kit->err);
    cr_assert_eq(rc, expected, "%s", kit->err.text);
    kv_env_close(env);
}

/* ---- what they are */

static const size_t lengths[] = {0, 1, LIMIT - 1, LIMIT, LIMIT + 1, 2 * LIMIT, 5000, 70001};
enum { N_LENGTHS = sizeof lengths / sizeof *lengths, N_LARGE = 4 };

static void any_other_value(const struct kv_key_source *key)
{
    struct kv_kit kit;
    struct kv_iter *it = NULL;
    char name[8] = "k0";
    kv_status rc;
    kv_kit_init(&kit, NULL);
    kit.options.large_value_bytes = LIMIT;
    kit.options.key = key ? *key : (struct kv_key_source){0};
    kv_kit_must_open(&kit);
    for (int i = 0; i < N_LENGTHS; i++, name[1]++)
        put_large(&kit, name, lengths[i], i);
    for (int stage = 0; stage < 6; stage++) {
        size_t n = 0;
        name[1] = '0';
        for (int i = 0; i < N_LENGTHS; i++, name[1]++)
            expect_large(&kit, NULL, name, lengths[i], i);
        cr_assert_eq(kv_iter_open(kit.db, NULL, 0, (kv_slice){0}, (kv_slice){0}, &it), KV_OK);
        for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it), n++)
            cr_assert(it->value.len == lengths[n] && !it->large_bytes &&
                      is_value(it->value.data, 0, it->value.len, (int)n));
        cr_assert(rc == KV_END && n == N_LENGTHS);
        for (rc = kv_iter_seek_before(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_prev(it))
            cr_assert(--n < N_LENGTHS && is_value(it->value.data, 0, it->value.len, (int)n));
        cr_assert(rc == KV_END && n == 0);
        kv_iter_close(it);
        cr_assert_eq(segments(&kit), N_LARGE);
        if (stage == 0 || stage == 3)
            kv_kit_reopen(&kit);
        else if (stage == 1)
            cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        else if (stage == 2)
            cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
        else if (stage == 4)
            kv_kit_crash(&kit);
    }
    for (size_t i = 0; i < N_LARGE; i++) {
        const struct kv_value_segment *at = &kit.db->view->version->values.list[i];
        cr_assert_eq(at->live, kv_segment_bytes(at->segment) - KV_FILE_HEADER_LEN, "what is live is exact");
    }
    cr_assert_eq(kv_kit_metric(&kit, "kv_value_log_bytes_moved_total"), 0);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    check_closed(&kit, KV_OK);
    kv_kit_release(&kit);
}

Test(large_value, reads_as_any_other_in_the_log_in_tables_and_after_a_crash)
{
    any_other_value(NULL);
}

Test(large_value, reads_as_any_other_under_encryption)
{
    struct kv_key_source key = {.master_key = master};
    any_other_value(&key);
}

Test(large_value, attributes_versions_and_snapshots)
{
    struct kv_kit kit;
    struct kv_snapshot *snapshot = NULL;
    struct kv_value_reader *reader = NULL;
    struct kv_iter *it = NULL;
    kv_kit_init(&kit, NULL);
    kit.options.large_value_bytes = LIMIT;
    kit.spaces[0].versions_kept = 2;
    kit.spaces[0].style = KV_STYLE_LEVELLED;
    kv_kit_must_open(&kit);
    uint64_t now_s = (uint64_t)kv_retention_clock_ms(kit.db) / 1000;
    struct kv_put_options options = {.expires_at_s = now_s + 60, .meta = 9};
    put_large(&kit, "k", 3000, 1);
    cr_assert_eq(kv_snapshot_open(kit.db, &snapshot), KV_OK);
    cr_assert_eq(try_put(&kit, "k", 4000, 2, &options), KV_OK);
    for (int stage = 0; stage < 2; stage++) {
        expect_large(&kit, NULL, "k", 4000, 2);
        expect_large(&kit, snapshot, "k", 3000, 1);
        cr_assert_eq(kv_value_open(kit.db, NULL, 0, KV_STR("k"), &reader, NULL), KV_OK);
        cr_assert(kv_value_info(reader)->meta == 9 && kv_value_info(reader)->expires_at_s == now_s + 60 &&
                  kv_value_info(reader)->version == 2);
        kv_value_close(reader);
        struct kv_iter_options all = {.all_versions = true};
        cr_assert_eq(kv_iter_open_with(kit.db, 0, &all, &it), KV_OK);
        cr_assert(kv_iter_seek(it, (kv_slice){0}) == KV_OK && it->value.len == 4000 && it->meta == 9);
        cr_assert(kv_iter_next(it) == KV_OK && it->value.len == 3000);
        cr_assert_eq(kv_iter_next(it), KV_END);
        kv_iter_close(it);
        cr_assert_eq(segments(&kit), 2, "both versions are kept");
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    }
    clock_manual_advance_ms(&kit.clock, 61000);
    cr_assert_eq(kv_value_open(kit.db, NULL, 0, KV_STR("k"), &reader, NULL), KV_NOT_FOUND);
    cr_assert_null(reader);
    kv_snapshot_close(snapshot);
    cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
    kv_kit_work_all(&kit);
    cr_assert_eq(segments(&kit), 0, "expired, and older versions with it");
    kv_kit_release(&kit);
}

/* ---- who keeps the segment, and when it goes */

Test(large_value, what_no_commit_names_is_removed)
{
    struct kv_kit kit;
    struct kv_value_writer *writer = NULL;
    struct kv_batch *batch = NULL;
    large_kit(&kit, NULL);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_value_writer_open(kit.db, 0, &writer, NULL), KV_OK);
    cr_assert_eq(append_all(&kit, writer, 5000, 1), KV_OK);
    cr_assert_eq(kv_kit_files(&kit, ".vlg"), 1);
    kv_value_writer_free(writer);
    cr_assert_eq(segments(&kit), 0, "not finished");

    writer = must_write(&kit, 5000, 1);
    cr_assert_eq(segments(&kit), 1);
    kv_value_writer_free(writer);
    cr_assert_eq(segments(&kit), 0, "finished, and not put");

    writer = must_write(&kit, 5000, 1);
    cr_assert_eq(kv_batch_put_value(batch, 0, KV_STR("k"), writer, NULL), KV_OK);
    kv_value_writer_free(writer);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(segments(&kit), 1, "the batch holds it");
    kv_batch_clear(batch);
    cr_assert_eq(segments(&kit), 0, "put, and not committed");

    writer = must_write(&kit, 5000, 1);
    cr_assert_eq(kv_batch_put_value(batch, 0, KV_STR("k"), writer, NULL), KV_OK);
    cr_assert_eq(kv_batch_put(batch, 0, KV_STR("k"), KV_STR("short")), KV_OK);
    cr_assert_eq(kv_commit(kit.db, batch, NULL, NULL, &kit.err), KV_OK);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", "short"));
    kv_batch_clear(batch);
    cr_assert_eq(segments(&kit), 1, "replaced within its batch: the writer still has it");
    kv_value_writer_free(writer);
    cr_assert_eq(segments(&kit), 0);

    writer = must_write(&kit, 5000, 1); /* and a crash takes what nobody let go of */
    struct kv_vfs *clone = kv_vfs_mem_crash_clone(kit.own);
    kv_value_writer_free(writer);
    kv_batch_free(batch);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.vfs = clone;
    check_closed(&kit, KV_OK);
    kv_kit_must_open(&kit);
    cr_assert_eq(segments(&kit), 0);
    kv_kit_close(&kit);
    kv_vfs_mem_free(clone);
    kv_kit_release(&kit);
}

static void end_by_overwriting(struct kv_kit *kit)
{
    put_large(kit, "k", 2000, 8);
}

static void end_by_deleting(struct kv_kit *kit)
{
    kv_kit_delete(kit, 0, "k");
}

static void end_by_range(struct kv_kit *kit)
{
    struct kv_batch *batch = NULL;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_delete_range(batch, 0, KV_STR("j"), KV_STR("l")), KV_OK);
    cr_assert_eq(kv_commit(kit->db, batch, NULL, NULL, &kit->err), KV_OK);
    kv_batch_free(batch);
}

static void end_by_drop_all(struct kv_kit *kit)
{
    cr_assert_eq(kv_drop_all(kit->db, 0, &kit->err), KV_OK);
}

static const struct {
    void (*end)(struct kv_kit *kit);
    size_t left;
} ends[] = {{end_by_overwriting, 1}, {end_by_deleting, 0}, {end_by_range, 0}, {end_by_drop_all, 0}};

/* Its end comes while it is in the log alone, or in tables; at once with the flush or merge, the file goes. A reader keeps it. */
Test(large_value, the_file_goes_with_the_value_and_a_reader_keeps_it)
{
    for (size_t way = 0; way < sizeof ends / sizeof *ends; way++)
        for (int flushed = 0; flushed < 3; flushed++) {
            struct kv_kit kit;
            struct kv_value_reader *reader = NULL;
            uint8_t part[100];
            size_t got;
            large_kit(&kit, NULL);
            put_large(&kit, "k", 9000, 4);
            if (flushed > 0)
                cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
            if (flushed > 1)
                kv_kit_reopen(&kit);
            cr_assert_eq(kv_value_open(kit.db, NULL, 0, KV_STR("k"), &reader, NULL), KV_OK);
            ends[way].end(&kit);
            cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
            cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
            kv_kit_work_all(&kit);
            cr_assert_eq(kit.db->view->version->values.n, ends[way].left, "way %d, %d", (int)way, flushed);
            cr_assert_eq(kv_kit_files(&kit, ".vlg"), ends[way].left + 1);
            cr_assert_eq(kv_value_read_at(reader, 8950, 100, part, &got, NULL), KV_OK);
            cr_assert(got == 50 && is_value(part, 8950, 50, 4));
            kv_value_close(reader);
            cr_assert_eq(segments(&kit), ends[way].left);
            kv_kit_reopen(&kit);
            cr_assert_eq(segments(&kit), ends[way].left);
            kv_kit_release(&kit);
        }
}

Test(large_value, the_log_keeps_it_over_reopens_until_the_flush)
{
    struct kv_kit kit;
    large_kit(&kit, NULL);
    kv_kit_put(&kit, 1, "older", "x");
    put_large(&kit, "k", 9000, 4);
    for (int i = 0; i < 3; i++) {
        kv_kit_put(&kit, 1, "newer", "x");
        if (i % 2)
            kv_kit_reopen(&kit);
        else
            kv_kit_crash(&kit);
        expect_large(&kit, NULL, "k", 9000, 4);
        cr_assert_eq(segments(&kit), 1);
    }
    kv_kit_delete(&kit, 0, "k"); /* both are in the log: a flush takes them, and with them the segment */
    kv_kit_reopen(&kit);
    cr_assert_eq(segments(&kit), 1);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(segments(&kit), 0);
    kv_kit_release(&kit);
}

/* ---- misuse */

static kv_status cancel(void *ctx, uint64_t seq, struct kv_batch *batch, kv_slice *record)
{
    (void)ctx, (void)seq, (void)batch, (void)record;
    return KV_CANCELED;
}

static void never_called(void *ctx, kv_status rc, uint64_t version)
{
    (void)ctx, (void)rc, (void)version;
    cr_assert_fail();
}

Test(large_value, a_value_is_committed_once)
{
    struct kv_kit kit;
    struct kv_batch *one = NULL, *two = NULL;
    struct kv_commit_options refused = {.prepare = cancel};
    large_kit(&kit, NULL);
    cr_assert(kv_batch_new(&one) == KV_OK && kv_batch_new(&two) == KV_OK);
    struct kv_value_writer *writer = must_write(&kit, 3000, 1);
    cr_assert_eq(kv_batch_put_value(one, 1, KV_STR("k"), writer, NULL), KV_INVALID, "another space");
    cr_assert_eq(kv_batch_put_value(one, 0, KV_STR("k"), writer, NULL), KV_OK);
    cr_assert_eq(kv_batch_put_value(one, 0, KV_STR("l"), writer, NULL), KV_BUSY);
    cr_assert_eq(kv_batch_put_value(two, 0, KV_STR("k"), writer, NULL), KV_BUSY);
    cr_assert_eq(kv_batch_count(one), 1);
    cr_assert_eq(kv_batch_merge(one, 0, KV_STR("k"), KV_STR("operand")), KV_INVALID);
    cr_assert_eq(kv_commit(kit.db, one, &refused, NULL, NULL), KV_CANCELED);
    kv_batch_clear(one);
    cr_assert_eq(segments(&kit), 1, "it may be tried again");
    cr_assert_eq(kv_batch_put_value(two, 0, KV_STR("k"), writer, NULL), KV_OK);
    cr_assert_eq(kv_commit(kit.db, two, &refused, NULL, NULL), KV_CANCELED);
    cr_assert_eq(kv_commit_async(kit.db, two, NULL, never_called, NULL, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "waited for"), "%s", kit.err.text);
    cr_assert_eq(kv_batch_count(two), 1);
    cr_assert_eq(kv_commit(kit.db, two, NULL, NULL, &kit.err), KV_OK);
    cr_assert_eq(kv_commit(kit.db, two, NULL, NULL, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "committed before"), "%s", kit.err.text);
    kv_batch_clear(two);
    cr_assert_eq(kv_batch_put_value(two, 0, KV_STR("l"), writer, NULL), KV_EXISTS);
    cr_assert_eq(kv_value_writer_append(writer, KV_STR("x"), NULL), KV_CLOSED);
    kv_value_writer_free(writer);
    expect_large(&kit, NULL, "k", 3000, 1);
    kv_batch_free(one);
    kv_batch_free(two);
    kv_kit_release(&kit);
}

static kv_status no_fold(void *ctx, kv_slice key, const kv_slice *value, const kv_slice *operands, size_t n,
                         struct kv_buf *out)
{
    (void)ctx, (void)key, (void)operands;
    uint8_t count = (uint8_t)('0' + n);
    kv_status rc = kv_buf_append(out, value ? kv_slice_of(value->data, 3) : KV_STR("---"));
    return rc < 0 ? rc : kv_buf_append_byte(out, count);
}

static size_t whole_key(void *ctx, kv_slice key)
{
    (void)ctx;
    return key.len;
}

static kv_status hook_begin(void *ctx, kv_slice lower, kv_slice upper, void **merge)
{
    (void)lower, (void)upper;
    *merge = ctx;
    return KV_OK;
}

static kv_status hook_group(void *merge, const struct kv_hook_entry *entries, size_t n,
                            struct kv_hook_sink *sink)
{
    (void)merge, (void)entries, (void)n, (void)sink;
    return KV_OK;
}

static void hook_end(void *merge, bool installed)
{
    (void)merge, (void)installed;
}

Test(large_value, where_it_cannot_be)
{
    static const struct kv_hook nothing = {NULL, whole_key, hook_begin, hook_group, hook_end};
    static const struct kv_merge_operator operator= {.fold = no_fold};
    struct kv_kit kit, other;
    struct kv_value_writer *writer = NULL;
    struct kv_value_reader *reader = NULL;
    struct kv_batch *batch = NULL;
    struct kv_pinned pinned;
    large_kit(&kit, NULL);
    large_kit(&other, NULL);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_value_writer_open(kit.db, 7, &writer, NULL), KV_INVALID);
    cr_assert_eq(kv_value_open(kit.db, NULL, 7, KV_STR("k"), &reader, NULL), KV_INVALID);
    cr_assert_eq(kv_value_writer_open(kit.db, 0, &writer, NULL), KV_OK);
    cr_assert_eq(kv_batch_put_value(batch, 0, KV_STR("k"), writer, NULL), KV_INVALID, "not finished");
    kv_value_writer_free(writer);
    writer = must_write(&other, 3000, 1);
    cr_assert_eq(kv_batch_put_value(batch, 0, KV_STR("k"), writer, NULL), KV_OK);
    cr_assert_eq(kv_commit(kit.db, batch, NULL, NULL, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "another database"), "%s", kit.err.text);
    cr_assert_eq(kv_health(kit.db, NULL), KV_OK);
    kv_batch_clear(batch);
    kv_value_writer_free(writer);
    kv_kit_release(&other);

    /* A space with a merge operator: operands are folded into what is read, not into what is stored. */
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.spaces[0].merge = &operator;
    kit.spaces[1].hook = &nothing;
    kv_kit_must_open(&kit);
    put_large(&kit, "k", 3000, 1);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_value_writer_open(kit.db, 1, &writer, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "hook"), "%s", kit.err.text);
    for (int i = 1; i < 4; i++) {
        cr_assert_eq(kv_batch_merge(batch, 0, KV_STR("k"), KV_STR("o")), KV_OK);
        cr_assert_eq(kv_commit(kit.db, batch, NULL, NULL, &kit.err), KV_OK);
        kv_batch_clear(batch);
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK, "%s",
                     kit.err.text);
        cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("k"), &pinned, &kit.err), KV_OK, "%s", kit.err.text);
        cr_assert(pinned.value.len == 4 && pinned.value.data[3] == '0' + i &&
                  is_value(pinned.value.data, 0, 3, 1));
        kv_pinned_release(&pinned);
        cr_assert_eq(kv_value_open(kit.db, NULL, 0, KV_STR("k"), &reader, NULL), KV_OK);
        cr_assert_eq(kv_value_info(reader)->bytes, 4);
        kv_value_close(reader);
        cr_assert_eq(segments(&kit), 1);
    }
    kv_batch_free(batch);
    kv_kit_release(&kit);
}

Test(large_value, a_read_only_open_reads_it_out_of_the_log)
{
    struct kv_kit kit;
    struct kv_value_writer *writer = NULL;
    large_kit(&kit, NULL);
    put_large(&kit, "k", 3000, 1);
    struct kv_value_writer *left = must_write(&kit, 3000, 2);
    struct kv_vfs *clone = kv_vfs_mem_crash_clone(kit.own);
    kv_value_writer_free(left);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.vfs = clone;
    kit.options.read_only = true;
    kv_kit_must_open(&kit);
    expect_large(&kit, NULL, "k", 3000, 1);
    cr_assert_eq(kv_value_writer_open(kit.db, 0, &writer, NULL), KV_READ_ONLY);
    cr_assert_eq(kv_kit_files(&kit, ".vlg"), 2, "nothing is removed");
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kv_vfs_mem_free(clone);
    kv_kit_release(&kit);
}

/* ---- too long to be lent */

static kv_status send_nothing(void *ctx, const struct kv_stream_batch *batch, struct kv_err *err)
{
    (void)ctx, (void)batch, (void)err;
    return KV_OK;
}

static kv_status write_nothing(void *ctx, kv_slice bytes, struct kv_err *err)
{
    (void)err;
    *(uint64_t *)ctx += bytes.len;
    return KV_OK;
}

Test(large_value, one_that_is_too_long_to_be_lent, .timeout = 120)
{
    enum { PIECE = 1 << 20, PIECES = 65 };
    struct kv_kit kit;
    struct kv_value_writer *writer = NULL;
    struct kv_value_reader *reader = NULL;
    struct kv_batch *batch = NULL;
    struct kv_pinned pinned;
    struct kv_iter *it = NULL;
    uint8_t *piece = kv_zalloc(1, PIECE), last = 0;
    uint64_t exported = 0;
    size_t got = 0;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "j", "before");
    kv_kit_put(&kit, 0, "l", "after");
    cr_assert_eq(kv_value_writer_open(kit.db, 0, &writer, NULL), KV_OK);
    for (int i = 0; i < PIECES; i++)
        cr_assert_eq(kv_value_writer_append(writer, kv_slice_of(piece, PIECE), &kit.err), KV_OK);
    cr_assert_eq(kv_value_writer_append(writer, KV_STR("!"), &kit.err), KV_OK);
    cr_assert_eq(kv_value_writer_append(writer, (kv_slice){piece, KV_LARGE_VALUE_MAX}, &kit.err), KV_LIMIT,
                 "longer than a value may be; its bytes are not looked at");
    kv_value_writer_free(writer);
    cr_assert_eq(kv_kit_files(&kit, ".vlg"), 0);
    cr_assert_eq(kv_value_writer_open(kit.db, 0, &writer, NULL), KV_OK);
    for (int i = 0; i < PIECES; i++)
        cr_assert_eq(kv_value_writer_append(writer, kv_slice_of(piece, PIECE), &kit.err), KV_OK);
    cr_assert_eq(kv_value_writer_append(writer, KV_STR("!"), &kit.err), KV_OK);
    cr_assert_eq(kv_value_writer_finish(writer, &kit.err), KV_OK);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put_value(batch, 0, KV_STR("k"), writer, NULL), KV_OK);
    cr_assert_eq(kv_commit(kit.db, batch, NULL, NULL, &kit.err), KV_OK);
    kv_batch_free(batch);
    kv_value_writer_free(writer);
    uint64_t length = (uint64_t)PIECES * PIECE + 1;
    for (int stage = 0; stage < 2; stage++) {
        cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("k"), &pinned, &kit.err), KV_LIMIT);
        cr_assert(strstr(kit.err.text, "kv_value_open"), "%s", kit.err.text);
        cr_assert_eq(kv_iter_open(kit.db, NULL, 0, (kv_slice){0}, (kv_slice){0}, &it), KV_OK);
        cr_assert(kv_iter_seek(it, (kv_slice){0}) == KV_OK && kv_iter_next(it) == KV_LIMIT);
        kv_iter_close(it);
        for (int keys_only = 0; keys_only < 2; keys_only++) {
            struct kv_iter_options how = {.large_values = !keys_only, .keys_only = keys_only};
            cr_assert_eq(kv_iter_open_with(kit.db, 0, &how, &it), KV_OK);
            cr_assert(kv_iter_seek(it, (kv_slice){0}) == KV_OK && it->large_bytes == 0);
            cr_assert(kv_iter_next(it) == KV_OK && it->value.len == 0);
            cr_assert_eq(it->large_bytes, keys_only ? 0 : length);
            cr_assert(kv_iter_next(it) == KV_OK && it->large_bytes == 0);
            kv_iter_close(it);
        }
        cr_assert_eq(kv_value_open(kit.db, NULL, 0, KV_STR("k"), &reader, NULL), KV_OK);
        cr_assert_eq(kv_value_info(reader)->bytes, length);
        cr_assert_eq(kv_value_read_at(reader, length - 1, 2, &last, &got, NULL), KV_OK);
        cr_assert(got == 1 && last == '!');
        kv_value_close(reader);
        struct kv_stream_options stream = {.send = send_nothing};
        cr_assert_eq(kv_stream(kit.db, &stream, NULL, &kit.err), KV_LIMIT);
        cr_assert(strstr(kit.err.text, "key k:"), "%s", kit.err.text);
        struct kv_sink sink = {write_nothing, &exported};
        struct kv_export_options export = {0};
        cr_assert_eq(kv_export(kit.db, &export, &sink, NULL, &kit.err), KV_LIMIT, "%s", kit.err.text);
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    }
    kv_free(piece);
    kv_kit_release(&kit);
}

/* ---- copies */

Test(large_value, checkpoints_and_backups_have_it_from_the_log_on)
{
    for (int flushed = 0; flushed < 2; flushed++) {
        struct kv_kit kit;
        large_kit(&kit, NULL);
        put_large(&kit, "k", 9000, 4);
        struct kv_value_writer *left = must_write(&kit, 3000, 2);
        if (flushed)
            cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        struct kv_repository repository = {.path = "backups"};
        struct kv_backup_options backup = {.repository = &repository};
        struct kv_restore_options restore = {.repository = &repository};
        cr_assert_eq(kv_checkpoint(kit.db, "copy", &kit.err), KV_OK, "%s", kit.err.text);
        cr_assert_eq(kv_backup(kit.db, &backup, NULL, &kit.err), KV_OK, "%s", kit.err.text);
        cr_assert_eq(kv_restore(kit.env, "restored", &restore, NULL, &kit.err), KV_OK, "%s", kit.err.text);
        kv_value_writer_free(left);
        cr_assert_eq(kv_kit_close(&kit), KV_OK);
        for (int i = 0; i < 2; i++) {
            kit.path = i ? "copy" : "restored";
            check_closed(&kit, KV_OK);
            kv_kit_must_open(&kit);
            expect_large(&kit, NULL, "k", 9000, 4);
            cr_assert_eq(segments(&kit), 1);
            cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
            expect_large(&kit, NULL, "k", 9000, 4);
            cr_assert_eq(kv_kit_close(&kit), KV_OK);
        }
        kv_kit_release(&kit);
    }
}

Test(large_value, a_subscriber_hears_its_length)
{
    struct kv_kit kit;
    struct kv_subscription *subscription = NULL;
    struct kv_prefix all = {0};
    struct kv_event event;
    struct kv_put_options options = {.meta = 3};
    large_kit(&kit, NULL);
    cr_assert_eq(kv_subscribe(kit.db, &all, 1, 0, &subscription, NULL, &kit.err), KV_OK);
    cr_assert_eq(try_put(&kit, "k", 9000, 4, &options), KV_OK);
    kv_kit_put(&kit, 0, "l", "v");
    cr_assert_eq(kv_subscription_next(subscription, 0, &event), KV_OK);
    cr_assert(event.kind == KV_EVENT_PUT && event.large_bytes == 9000 && event.value.len == 0 &&
              event.meta == 3);
    cr_assert_eq(kv_subscription_next(subscription, 0, &event), KV_OK);
    cr_assert(event.large_bytes == 0 && event.value.len == 1);
    kv_subscription_close(subscription);
    kv_kit_release(&kit);
}

/* ---- damage */

Test(large_value, damage_in_the_middle_costs_its_block_alone)
{
    for (int flushed = 0; flushed < 2; flushed++) {
        struct kv_kit kit;
        struct kv_value_reader *reader = NULL;
        struct kv_pinned pinned;
        uint8_t part[2 * LIMIT];
        char name[32];
        size_t got;
        large_kit(&kit, NULL);
        put_large(&kit, "k", 10 * LIMIT, 4);
        if (flushed)
            cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        const struct kv_segment *segment = kit.db->view->version->values.list[0].segment;
        kv_file_name(name, kv_segment_number(segment), KV_NAME_SEGMENT);
        uint64_t end = kv_segment_bytes(segment);
        cr_assert_eq(kv_kit_close(&kit), KV_OK);
        file_kit_flip(kit.vfs, kit.path, name,
                      KV_FILE_HEADER_LEN + 4 * LIMIT + LIMIT / 2); /* nothing of it compresses: block 4 */
        check_closed(&kit, KV_CORRUPT);
        kv_kit_must_open(&kit);
        cr_assert_eq(kv_value_open(kit.db, NULL, 0, KV_STR("k"), &reader, &kit.err), KV_OK);
        for (int block = 0; block < 10; block++) {
            kv_status rc = kv_value_read_at(reader, (uint64_t)block * LIMIT, LIMIT, part, &got, &kit.err);
            cr_assert_eq(rc, block == 4 ? KV_CORRUPT : KV_OK, "block %d", block);
            cr_assert(rc < 0 ? got == 0 && strstr(kit.err.text, name) && strstr(kit.err.text, "offset")
                             : is_value(part, (uint64_t)block * LIMIT, LIMIT, 4));
        }
        cr_assert_eq(kv_value_read_at(reader, 5 * LIMIT - 1, 2, part, &got, NULL), KV_CORRUPT);
        cr_assert_eq(kv_value_read_at(reader, 5 * LIMIT, 2, part, &got, NULL), KV_OK);
        kv_value_close(reader);
        cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("k"), &pinned, &kit.err), KV_CORRUPT);
        cr_assert_eq(kv_kit_close(&kit), KV_OK);

        file_kit_flip(kit.vfs, kit.path, name,
                      end - 10); /* the index: nothing of the value can be found without it */
        kv_kit_must_open(&kit);
        cr_assert_eq(kv_value_open(kit.db, NULL, 0, KV_STR("k"), &reader, &kit.err), KV_CORRUPT);
        cr_assert(strstr(kit.err.text, name), "%s", kit.err.text);
        kv_kit_put(&kit, 0, "k", "mended");
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
        cr_assert_eq(segments(&kit), 0, "overwritten, it goes unread");
        kv_kit_release(&kit);
    }
}

/* ---- failures */

/* Opens, writes, commits, flushes, reads. Whatever fails, what was answered holds, and no file is too many afterwards. */
static kv_status scenario(struct kv_kit *kit, bool *answered)
{
    struct kv_value_reader *reader = NULL;
    uint8_t part[10];
    size_t got;
    *answered = false;
    kv_status rc = kv_kit_open(kit);
    if (rc == KV_OK)
        rc = try_put(kit, "k", 3000, 1, NULL);
    *answered = rc == KV_OK;
    if (rc == KV_OK)
        rc = kv_value_open(kit->db, NULL, 0, KV_STR("k"), &reader, &kit->err);
    if (rc == KV_OK)
        rc = kv_value_read_at(reader, 2000, 10, part, &got, &kit->err);
    kv_value_close(reader);
    if (rc == KV_OK)
        rc = kv_flush(kit->db, &kit->err);
    return rc;
}

static void after_failure(struct kv_kit *kit, bool answered, bool unknown, uint64_t nth)
{
    struct kv_pinned pinned;
    kv_kit_close(kit);
    kv_kit_must_open(kit);
    kv_status rc = kv_get(kit->db, NULL, 0, KV_STR("k"), &pinned, &kit->err);
    cr_assert(rc == KV_OK || (rc == KV_NOT_FOUND && !answered), "%d: %s", (int)nth, kit->err.text);
    cr_assert(rc == KV_NOT_FOUND || answered || unknown, "%d: there, though it was refused", (int)nth);
    kv_pinned_release(&pinned);
    cr_assert_eq(segments(kit), rc == KV_OK, "%d", (int)nth);
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
    cr_assert_eq(segments(kit), rc == KV_OK, "%d", (int)nth);
}

static void disk_fails(enum vfs_fault_kind kind, bool sticky)
{
    for (uint64_t nth = 1;; nth++) {
        struct kv_vfs *memory = kv_vfs_mem_new();
        struct vfs_fault *fault = vfs_fault_new(memory);
        struct vfs_fault_plan plan = {.nth = nth, .kind = kind, .sticky = sticky};
        struct kv_kit kit;
        bool answered;
        large_kit(&kit, vfs_fault_as_vfs(fault)); /* made before anything fails */
        cr_assert_eq(kv_kit_close(&kit), KV_OK);
        vfs_fault_plan(fault, &plan);
        kv_status rc = scenario(&kit, &answered);
        bool fired = vfs_fault_fired(fault);
        cr_assert(rc == KV_OK || fired, "%d: %s", (int)nth, kit.err.text);
        kv_kit_close(&kit);
        vfs_fault_plan(fault, NULL);
        after_failure(&kit, answered, rc == KV_UNKNOWN_OUTCOME, nth);
        kv_kit_release(&kit);
        vfs_fault_free(fault);
        kv_vfs_mem_free(memory);
        if (!fired)
            break;
    }
}

Test(large_value, the_disk_fails_at_every_operation, .timeout = 120)
{
    disk_fails(VFS_FAULT_EIO, false);
    disk_fails(VFS_FAULT_EIO, true);
    disk_fails(VFS_FAULT_SHORT_ENOSPC, false);
    disk_fails(VFS_FAULT_SYNC_KEEPS, false);
}

Test(large_value, memory_fails_at_every_allocation, .timeout = 240)
{
    for (uint64_t nth = 1;; nth += sweep_stride(1)) {
        struct kv_kit kit;
        bool answered;
        large_kit(&kit, NULL);
        cr_assert_eq(kv_kit_close(&kit), KV_OK);
        malloc_fault_arm(nth, false);
        kv_status rc = scenario(&kit, &answered);
        bool fired = malloc_fault_disarm();
        cr_assert(rc == KV_OK || fired, "%d: %s", (int)nth, kit.err.text);
        after_failure(&kit, answered, rc == KV_UNKNOWN_OUTCOME, nth);
        kv_kit_release(&kit);
        if (!fired)
            break;
    }
}

Test(large_value, a_full_disk_is_noticed_before_it_is_full)
{
    struct kv_vfs *memory = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(memory);
    struct kv_kit kit;
    struct kv_value_writer *writer = NULL;
    uint8_t *piece = kv_zalloc(1, 1 << 20);
    kv_kit_init(&kit, vfs_fault_as_vfs(fault));
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_value_writer_open(kit.db, 0, &writer, NULL), KV_OK);
    cr_assert_eq(kv_value_writer_append(writer, kv_slice_of(piece, 1 << 20), NULL), KV_OK);
    cr_assert_eq(kv_value_writer_append(writer, kv_slice_of(piece, 1 << 20), NULL), KV_OK);
    vfs_fault_set_free_bytes(fault, 1000);
    cr_assert_eq(kv_value_writer_append(writer, kv_slice_of(piece, 1 << 20), &kit.err), KV_NO_SPACE);
    cr_assert_eq(kv_value_writer_finish(writer, &kit.err), KV_NO_SPACE);
    kv_value_writer_free(writer);
    cr_assert_eq(kv_kit_files(&kit, ".vlg"), 0, "its space comes back at once");
    kv_free(piece);
    kv_kit_release(&kit);
    vfs_fault_free(fault);
    kv_vfs_mem_free(memory);
}

/* ---- memory */

static size_t heap_now(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

Test(large_value, writing_and_reading_take_bounded_memory, .timeout = 120)
{
    enum { PIECE = 64 << 10, BYTES = 48 << 20, BOUND = 6 << 20 };
    char directory[] = "/tmp/large_value_XXXXXX";
    struct kv_kit kit;
    struct kv_value_writer *writer = NULL;
    struct kv_value_reader *reader = NULL;
    struct kv_batch *batch = NULL;
    uint8_t *piece = kv_alloc(PIECE);
    size_t got, most = 0, before = 0;
    cr_assert_not_null(mkdtemp(directory));
    char path[64];
    snprintf(path, sizeof path, "%s/db", directory);
    kv_kit_init(&kit, kv_vfs_posix());
    kit.path = path;
    kv_kit_must_open(&kit);
    for (size_t i = 0; i < PIECE; i++)
        piece[i] = byte_of(i, 5);
    before = heap_now();
    cr_assert_eq(kv_value_writer_open(kit.db, 0, &writer, NULL), KV_OK);
    for (size_t at = 0; at < BYTES; at += PIECE) {
        cr_assert_eq(kv_value_writer_append(writer, kv_slice_of(piece, PIECE), &kit.err), KV_OK);
        most = heap_now() > most ? heap_now() : most;
    }
    cr_assert_eq(kv_value_writer_finish(writer, &kit.err), KV_OK);
    cr_assert_lt(most, before + BOUND, "%zu bytes to write it", most - before);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put_value(batch, 0, KV_STR("k"), writer, NULL), KV_OK);
    cr_assert_eq(kv_commit(kit.db, batch, NULL, NULL, &kit.err), KV_OK);
    kv_batch_free(batch);
    kv_value_writer_free(writer);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    before = heap_now();
    most = 0;
    cr_assert_eq(kv_value_open(kit.db, NULL, 0, KV_STR("k"), &reader, NULL), KV_OK);
    for (uint64_t at = 0; at < BYTES; at += PIECE) {
        cr_assert_eq(kv_value_read_at(reader, at, PIECE, piece, &got, NULL), KV_OK);
        cr_assert_eq(got, PIECE);
        most = heap_now() > most ? heap_now() : most;
    }
    cr_assert_lt(most, before + BOUND, "%zu bytes to read it", most - before);
    kv_value_close(reader);
    kv_kit_delete(&kit, 0, "k");
    kv_kit_release(&kit);
    kv_free(piece);
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", directory);
    cr_assert_eq(system(command), 0);
}
