/* The value log through the whole engine: separation at flush and merge, reading, collecting, crashes, damage. */
#include "kvcore/base/mem.h"
#include "kvcore/db/db.h"
#include "tests/support/kv_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { LONG = 2000 };

/* A value that says whose it is; long ones go to the value log. */
static kv_slice value_of(int i, int round, size_t len, uint8_t *out)
{
    memset(out, 'a' + i % 26, len);
    int n = snprintf((char *)out, len, "%d/%d/", i, round);
    out[n] = '.';
    return kv_slice_of(out, len);
}

static void put_value(struct kv_kit *kit, int i, int round, size_t len)
{
    struct kv_batch *batch = NULL;
    uint8_t *bytes = kv_alloc(len);
    char key[16];
    snprintf(key, sizeof key, "k%04d", i);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put(batch, 0, kv_slice_str(key), value_of(i, round, len, bytes)), KV_OK);
    cr_assert_eq(kv_commit(kit->db, batch, NULL, NULL, &kit->err), KV_OK);
    kv_batch_free(batch);
    kv_free(bytes);
}

static void expect_value(struct kv_kit *kit, const struct kv_snapshot *snapshot, int i, int round, size_t len)
{
    struct kv_pinned got;
    uint8_t *bytes = kv_alloc(len);
    char key[16];
    snprintf(key, sizeof key, "k%04d", i);
    cr_assert_eq(kv_get(kit->db, snapshot, 0, kv_slice_str(key), &got, &kit->err), KV_OK, "%s: %s", key,
                 kit->err.text);
    cr_assert(kv_slice_equal(got.value, value_of(i, round, len, bytes)), "%s", key);
    kv_pinned_release(&got);
    kv_free(bytes);
}

static void values_kit(struct kv_kit *kit)
{
    kv_kit_init(kit, NULL);
    kit->spaces[0].value_separate_bytes = 1000;
    kit->spaces[0].compression = KV_COMPRESSION_NONE;
    kv_kit_must_open(kit);
}

static uint64_t log_bytes(struct kv_kit *kit)
{
    uint64_t bytes = 0;
    const struct kv_values *values = &kit->db->view->version->values;
    for (size_t i = 0; i < values->n; i++)
        bytes += kv_segment_bytes(values->list[i].segment);
    return bytes;
}

Test(value_log, long_values_lie_apart_and_read_as_any_other)
{
    struct kv_kit kit;
    values_kit(&kit);
    for (int i = 0; i < 40; i++)
        put_value(&kit, i, 0, i % 2 ? LONG : 50);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_files(&kit, ".vlg"), 1);
    cr_assert_eq(kit.db->view->version->trees[0].items[0].properties->rich, 20);
    for (int stage = 0; stage < 3; stage++) {
        struct kv_iter *it = NULL;
        int n = 0;
        kv_status rc;
        for (int i = 0; i < 40; i++)
            expect_value(&kit, NULL, i, 0, i % 2 ? LONG : 50);
        cr_assert_eq(kv_iter_open(kit.db, NULL, 0, (kv_slice){0}, (kv_slice){0}, &it), KV_OK);
        for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it), n++)
            cr_assert_eq(it->value.len, n % 2 ? LONG : 50);
        cr_assert(rc == KV_END && n == 40);
        for (rc = kv_iter_seek_before(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_prev(it), n--)
            cr_assert_eq(it->value.len, n % 2 ? 50 : LONG);
        cr_assert(rc == KV_END && n == 0);
        kv_iter_close(it);
        if (stage == 0)
            cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
        if (stage == 1)
            kv_kit_reopen(&kit);
    }
    cr_assert_eq(kv_kit_files(&kit, ".vlg"), 1, "a merge moves pointers, not values");
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    struct kv_env_options options = {.vfs = kit.vfs, .clock = &kit.clock.base, .threads = KV_THREADS_NONE};
    struct kv_env *env = NULL;
    cr_assert_eq(kv_env_open(&options, &env, &kit.err), KV_OK);
    cr_assert_eq(kv_check(env, kit.path, NULL, NULL, &kit.err), KV_OK, "%s", kit.err.text);
    kv_env_close(env);
    kv_kit_release(&kit);
}

Test(value_log, attributes_stay_with_the_pointer)
{
    struct kv_kit kit;
    struct kv_batch *batch = NULL;
    struct kv_pinned got;
    uint8_t bytes[LONG];
    values_kit(&kit);
    uint64_t now_s = (uint64_t)kv_retention_clock_ms(kit.db) / 1000;
    struct kv_put_options options = {.expires_at_s = now_s + 60, .meta = 5};
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put_with(batch, 0, KV_STR("k"), value_of(1, 1, LONG, bytes), &options), KV_OK);
    cr_assert_eq(kv_commit(kit.db, batch, NULL, NULL, &kit.err), KV_OK);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_files(&kit, ".vlg"), 1);
    cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("k"), &got, NULL), KV_OK);
    cr_assert(got.meta == 5 && got.expires_at_s == now_s + 60 && got.value.len == LONG);
    kv_pinned_release(&got);
    clock_manual_advance_ms(&kit.clock, 61000);
    cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("k"), &got, NULL), KV_NOT_FOUND);
    kv_kit_work_all(&kit);
    cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_files(&kit, ".vlg"), 0, "the segment goes with its last pointer");
    kv_batch_free(batch);
    kv_kit_release(&kit);
}

Test(value_log, sparse_segments_are_collected_by_themselves_and_readers_keep_theirs)
{
    struct kv_kit kit;
    struct kv_snapshot *snapshot = NULL;
    values_kit(&kit);
    for (int i = 0; i < 50; i++)
        put_value(&kit, i, 0, LONG);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_snapshot_open(kit.db, &snapshot), KV_OK);
    uint64_t full = log_bytes(&kit);
    for (int round = 1; round <= 5; round++) {
        for (int i = 0; i < 35; i++)
            put_value(&kit, i, round, LONG);
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
        kv_kit_work_all(&kit);
        cr_assert_lt(log_bytes(&kit), 2 * full + 4096, "round %d", round);
    }
    cr_assert_gt(kv_kit_metric(&kit, "kv_value_log_bytes_moved_total"), 0);
    for (int i = 0; i < 50; i++) {
        expect_value(&kit, NULL, i, i < 35 ? 5 : 0, LONG);
        expect_value(&kit, snapshot, i, 0, LONG);
    }
    kv_snapshot_close(snapshot);
    cr_assert_eq(kv_kit_files(&kit, ".vlg"), kit.db->view->version->values.n,
                 "what no table points into is gone");
    kv_kit_crash(&kit);
    for (int i = 0; i < 50; i++)
        expect_value(&kit, NULL, i, i < 35 ? 5 : 0, LONG);
    cr_assert_eq(kv_kit_files(&kit, ".vlg"), kit.db->view->version->values.n);
    kv_kit_release(&kit);
}

Test(value_log, the_threshold_may_change_from_open_to_open)
{
    struct kv_kit kit;
    values_kit(&kit);
    for (int i = 0; i < 10; i++)
        put_value(&kit, i, 0, LONG);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.spaces[0].value_separate_bytes = 0;
    kv_kit_must_open(&kit);
    for (int i = 0; i < 10; i++)
        expect_value(&kit, NULL, i, 0, LONG);
    for (int i = 0; i < 6; i++) /* most of the segment dies: the rest moves into tables */
        put_value(&kit, i, 1, LONG);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_merge_range(kit.db, 0, (kv_slice){0}, (kv_slice){0}, &kit.err), KV_OK);
    kv_kit_work_all(&kit);
    cr_assert_eq(kv_kit_files(&kit, ".vlg"), 0);
    for (int i = 0; i < 10; i++)
        expect_value(&kit, NULL, i, i < 6, LONG);
    kv_kit_release(&kit);
}

Test(value_log, damage_is_told_with_file_and_offset_and_touches_no_other_value)
{
    struct kv_kit kit;
    struct kv_pinned got;
    struct kv_dir *dir = NULL;
    struct kv_file *file = NULL;
    char name[32];
    values_kit(&kit);
    for (int i = 0; i < 3; i++)
        put_value(&kit, i, 0, LONG);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    uint64_t number = kv_segment_number(kit.db->view->version->values.list[0].segment);
    kv_file_name(name, number, KV_NAME_SEGMENT);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    /* One byte of the second value. */
    uint64_t size = 0;
    cr_assert_eq(kv_vfs_dir_open(kit.vfs, kit.path, false, &dir, NULL), KV_OK);
    cr_assert_eq(kv_dir_open_file(dir, name, &file, NULL), KV_OK);
    cr_assert_eq(kv_file_size(file, &size, NULL), KV_OK);
    uint8_t *bytes = kv_alloc((size_t)size);
    cr_assert_eq(kv_file_read_exact(file, 0, (size_t)size, bytes, NULL), KV_OK);
    kv_file_close(file);
    bytes[size / 2] ^= 1;
    cr_assert_eq(kv_dir_remove(dir, name, NULL), KV_OK);
    cr_assert_eq(kv_dir_create(dir, name, &file, NULL), KV_OK);
    cr_assert_eq(kv_file_append(file, 0, kv_slice_of(bytes, (size_t)size), NULL), KV_OK);
    cr_assert_eq(kv_file_sync(file, NULL), KV_OK);
    kv_file_close(file);
    kv_free(bytes);
    kv_dir_close(dir);

    kv_kit_must_open(&kit);
    expect_value(&kit, NULL, 0, 0, LONG);
    expect_value(&kit, NULL, 2, 0, LONG);
    cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("k0001"), &got, &kit.err), KV_CORRUPT);
    cr_assert(strstr(kit.err.text, name) && strstr(kit.err.text, "offset"), "%s", kit.err.text);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    struct kv_env_options options = {.vfs = kit.vfs, .clock = &kit.clock.base, .threads = KV_THREADS_NONE};
    struct kv_env *env = NULL;
    cr_assert_eq(kv_env_open(&options, &env, &kit.err), KV_OK);
    cr_assert_eq(kv_check(env, kit.path, NULL, NULL, &kit.err), KV_CORRUPT);
    kv_env_close(env);
    kv_kit_must_open(&kit);
    kv_kit_release(&kit);
}

Test(value_log, a_missing_segment_takes_its_values_alone)
{
    struct kv_kit kit;
    struct kv_dir *dir = NULL;
    struct kv_pinned got;
    char name[32];
    values_kit(&kit);
    put_value(&kit, 1, 0, LONG);
    kv_kit_put(&kit, 0, "short", "value");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    kv_file_name(name, kv_segment_number(kit.db->view->version->values.list[0].segment), KV_NAME_SEGMENT);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    cr_assert_eq(kv_vfs_dir_open(kit.vfs, kit.path, false, &dir, NULL), KV_OK);
    cr_assert_eq(kv_dir_remove(dir, name, NULL), KV_OK);
    kv_dir_close(dir);
    kv_kit_must_open(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "short", "value"));
    cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("k0001"), &got, &kit.err), KV_CORRUPT);
    cr_assert(strstr(kit.err.text, name), "%s", kit.err.text);
    kv_kit_release(&kit);
}

Test(value_log, a_checkpoint_has_its_segments)
{
    struct kv_kit kit;
    values_kit(&kit);
    for (int i = 0; i < 5; i++)
        put_value(&kit, i, 0, LONG);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_checkpoint(kit.db, "copy", &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.path = "copy";
    kv_kit_must_open(&kit);
    for (int i = 0; i < 5; i++)
        expect_value(&kit, NULL, i, 0, LONG);
    kv_kit_release(&kit);
}
