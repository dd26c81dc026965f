/* Streams out of a database and into one: parallel ranges, sorted streams, tables made elsewhere, exports. */
#include "kvcore/os/vfs.h"
#include "tests/support/backup_kit.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/sweep.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { KEYS = 3000, RANGES_MAX = 64 };

static void must(struct kv_kit *kit, kv_status rc)
{
    cr_assert_eq(rc, KV_OK, "%s: %s", kv_status_name(rc), kit->err.text);
}

static kv_slice key_of(char buf[16], int i)
{
    return kv_slice_of(buf, (size_t)snprintf(buf, 16, "key%06d", i));
}

/* KEYS keys in several tables, each with its number as value; every seventh deleted, the first ten in memory alone. */
static void fill(struct kv_kit *kit)
{
    struct kv_batch *batch = NULL;
    char key[16], value[16];
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    for (int part = 9; part >= 0; part--) {
        for (int i = part * KEYS / 10; i < (part + 1) * KEYS / 10; i++) {
            snprintf(value, sizeof value, "%d", i);
            cr_assert_eq(kv_batch_put(batch, 0, key_of(key, i), kv_slice_str(value)), KV_OK);
            if (i % 7 == 0)
                cr_assert_eq(kv_batch_delete(batch, 0, key_of(key, i)), KV_OK);
        }
        must(kit, kv_commit(kit->db, batch, NULL, NULL, &kit->err));
        kv_batch_clear(batch);
        if (part > 0)
            must(kit, kv_flush(kit->db, &kit->err));
    }
    kv_batch_free(batch);
}

struct seen {
    int n[RANGES_MAX], batches, done, ranges;
    char last[RANGES_MAX][16];
    char first[RANGES_MAX][16];
    bool found[KEYS];
    int fail_at;
};

static kv_status look(void *ctx, const struct kv_stream_batch *batch, struct kv_err *err)
{
    struct seen *seen = ctx;
    char text[16];
    cr_assert(batch->range < RANGES_MAX);
    if (++seen->batches == seen->fail_at)
        return kv_fail(err, KV_LIMIT, 0, "enough");
    if ((int)batch->range + 1 > seen->ranges)
        seen->ranges = (int)batch->range + 1;
    seen->done += batch->done;
    for (size_t i = 0; i < batch->n; i++) {
        const struct kv_stream_entry *e = &batch->entries[i];
        snprintf(text, sizeof text, "%.*s", KV_ARG(e->key));
        char value[16];
        snprintf(value, sizeof value, "%.*s", KV_ARG(e->value));
        int number = atoi(text + 3);
        cr_assert(strcmp(text, seen->last[batch->range]) > 0, "range %d: %s", (int)batch->range, text);
        cr_assert(!seen->found[number] && atoi(value) == number);
        cr_assert(e->version > 0 && !e->deleted);
        seen->found[number] = true;
        if (!seen->n[batch->range]++)
            memcpy(seen->first[batch->range], text, sizeof text);
        memcpy(seen->last[batch->range], text, sizeof text);
    }
    return KV_OK;
}

static struct seen *stream(struct kv_kit *kit, struct kv_stream_options how)
{
    static struct seen seen;
    memset(&seen, 0, sizeof seen);
    how.send = look;
    how.ctx = &seen;
    must(kit, kv_stream(kit->db, &how, NULL, &kit->err));
    cr_assert_eq(seen.done, seen.ranges);
    for (int r = 1; r < seen.ranges; r++)
        if (seen.n[r] && seen.n[r - 1])
            cr_assert(strcmp(seen.first[r], seen.last[r - 1]) > 0);
    return &seen;
}

Test(stream, every_key_comes_once_and_sorted_within_its_range)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    for (int threads = 1; threads <= 8; threads *= 2) {
        struct seen *seen = stream(&kit, (struct kv_stream_options){.threads = threads, .batch_bytes = 300});
        for (int i = 0; i < KEYS; i++)
            cr_assert_eq(seen->found[i], i % 7 != 0, "%d threads: key %d", threads, i);
        cr_assert(threads == 1 ? seen->ranges == 1 : seen->ranges > 4, "%d threads: %d ranges", threads,
                  seen->ranges);
        cr_assert(seen->batches > 50);
    }
    kv_kit_release(&kit);
}

static bool even(void *ctx, kv_slice key)
{
    (void)ctx;
    return key.data[key.len - 1] % 2 == 0;
}

Test(stream, bounds_since_and_choose_leave_out_the_rest)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    uint64_t version = kv_seq(kit.db);
    struct kv_snapshot *snapshot = NULL;
    cr_assert_eq(kv_snapshot_open(kit.db, &snapshot), KV_OK);
    struct seen *seen =
        stream(&kit, (struct kv_stream_options){.lower = KV_STR("key000100"), .upper = KV_STR("key002000")});
    for (int i = 0; i < KEYS; i++)
        cr_assert_eq(seen->found[i], i >= 100 && i < 2000 && i % 7 != 0, "key %d", i);
    kv_kit_put(&kit, 0, "key000001", "1");
    kv_kit_put(&kit, 0, "key002999", "2999");
    seen = stream(&kit, (struct kv_stream_options){.since = version});
    for (int i = 0; i < KEYS; i++)
        cr_assert_eq(seen->found[i], i == 1 || i == 2999, "key %d", i);
    kv_kit_delete(&kit, 0, "key000002");
    must(&kit, kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""), &kit.err));
    seen = stream(&kit, (struct kv_stream_options){.snapshot = snapshot});
    cr_assert(seen->found[2]);
    struct seen chosen = {0};
    struct kv_stream_options how = {.choose = even, .send = look, .ctx = &chosen, .keys_only = false};
    must(&kit, kv_stream(kit.db, &how, NULL, &kit.err));
    for (int i = 3; i < KEYS; i++)
        cr_assert_eq(chosen.found[i], i % 2 == 0 && i % 7 != 0, "key %d", i);
    kv_snapshot_close(snapshot);
    kv_kit_release(&kit);
}

Test(stream, a_send_that_refuses_ends_it)
{
    struct kv_kit kit;
    struct seen seen = {.fail_at = 5};
    struct kv_stream_options how = {.send = look, .ctx = &seen, .batch_bytes = 200};
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    cr_assert_eq(kv_stream(kit.db, &how, NULL, &kit.err), KV_LIMIT);
    cr_assert_str_eq(kit.err.text, "enough");
    cr_assert_eq(seen.batches, 5);
    seen = (struct seen){.fail_at = 5};
    cr_assert_eq(kv_stream(kit.db, &how, NULL, NULL), KV_LIMIT, "nobody asks why");
    const struct kv_stream_options bad[] = {
        {0},
        {.send = look, .space = 7},
        {.send = look, .threads = 65},
        {.send = look, .threads = -1},
        {.send = look, .lower = {(const uint8_t *)"k", KV_KEY_LEN_MAX + 1}},
        {.send = look, .upper = {(const uint8_t *)"k", KV_KEY_LEN_MAX + 1}}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_eq(kv_stream(kit.db, &bad[i], NULL, &kit.err), KV_INVALID);
    kv_kit_release(&kit);
}

/* ---- into a database */

static kv_status into_writer(void *ctx, const struct kv_stream_batch *batch, struct kv_err *err)
{
    return kv_stream_writer_batch(ctx, batch, err);
}

Test(stream, a_database_streamed_into_another_is_the_same)
{
    struct kv_kit kit, other;
    struct kv_stream_writer *writer = NULL;
    static char one[KEYS * 20], two[KEYS * 20];
    struct kv_batch *batch = NULL;
    uint64_t seq;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put_with(batch, 0, KV_STR("key9 with meta"), KV_STR("9"),
                                   &(struct kv_put_options){.meta = 42, .expires_at_s = 4000000000}),
                 KV_OK);
    must(&kit, kv_commit(kit.db, batch, NULL, NULL, &kit.err));
    kv_batch_free(batch);
    kv_kit_init(&other, NULL);
    other.path = "other";
    kv_kit_must_open(&other);
    must(&other, kv_stream_writer_open(other.db, 0, &writer, &other.err));
    struct kv_stream_options how = {.send = into_writer, .ctx = writer, .batch_bytes = 400};
    must(&kit, kv_stream(kit.db, &how, NULL, &kit.err));
    cr_assert_eq(kv_kit_scan(&other, NULL, 0, "", "", two, sizeof two)[0],
                 0); /* nothing before the install */
    must(&other, kv_stream_writer_install(writer, &seq, &other.err));
    cr_assert_eq(seq, kv_seq(other.db));
    kv_kit_reopen(&other);
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", one, sizeof one),
                     kv_kit_scan(&other, NULL, 0, "", "", two, sizeof two));
    struct kv_pinned found;
    must(&other, kv_get(other.db, NULL, 0, KV_STR("key9 with meta"), &found, &other.err));
    cr_assert(found.meta == 42 && found.expires_at_s == 4000000000);
    kv_pinned_release(&found);
    cr_assert_eq(kv_kit_stats(&other, 0).runs_max, 1);
    kv_kit_release(&kit);
    kv_kit_release(&other);
}

Test(stream, writers_refuse_streams_that_overlap_and_keys_that_do_not_increase)
{
    struct kv_kit kit;
    struct kv_stream_writer *writer = NULL;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    must(&kit, kv_stream_writer_open(kit.db, 0, &writer, &kit.err));
    must(&kit, kv_stream_writer_add(writer, 4, KV_STR("m"), KV_STR("1"), NULL, &kit.err));
    must(&kit, kv_stream_writer_add(writer, 4, KV_STR("z"), KV_STR("1"), NULL, &kit.err));
    must(&kit, kv_stream_writer_add(writer, 2, KV_STR("a"), KV_STR("1"), NULL, &kit.err));
    must(&kit, kv_stream_writer_add(writer, 2, KV_STR("n"), KV_STR("1"), NULL, &kit.err));
    cr_assert_eq(kv_stream_writer_add(writer, KV_STREAMS_MAX, KV_STR("n"), KV_STR("1"), NULL, &kit.err),
                 KV_INVALID);
    cr_assert_eq(kv_stream_writer_install(writer, NULL, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "goes on to n past m of another") != NULL, "%s", kit.err.text);
    must(&kit, kv_stream_writer_open(kit.db, 0, &writer, &kit.err));
    must(&kit, kv_stream_writer_add(writer, 0, KV_STR("b"), KV_STR("1"), NULL, &kit.err));
    cr_assert_eq(kv_stream_writer_add(writer, 0, KV_STR("a"), KV_STR("1"), NULL, &kit.err), KV_INVALID);
    cr_assert_eq(kv_stream_writer_install(writer, NULL, &kit.err), KV_INVALID);
    struct kv_stream_entry gone = {.key = KV_STR("a"), .deleted = true};
    must(&kit, kv_stream_writer_open(kit.db, 0, &writer, &kit.err));
    cr_assert_eq(
        kv_stream_writer_batch(writer, &(struct kv_stream_batch){.entries = &gone, .n = 1}, &kit.err),
        KV_INVALID);
    kv_stream_writer_abort(writer);
    cr_assert_eq(kv_stream_writer_open(kit.db, 9, &writer, &kit.err), KV_INVALID);
    cr_assert_eq(kv_seq(kit.db), 0);
    cr_assert_eq(kv_kit_files(&kit, ".tbl"), 0);
    kv_kit_release(&kit);
}

Test(stream, an_empty_writer_installs_nothing)
{
    struct kv_kit kit;
    struct kv_stream_writer *writer = NULL;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    must(&kit, kv_stream_writer_open(kit.db, 0, &writer, &kit.err));
    must(&kit, kv_stream_writer_install(writer, NULL, &kit.err));
    kv_stream_writer_abort(NULL);
    kv_kit_release(&kit);
}

static kv_status export_to(struct kv_kit *kit, struct backup_bytes *out, uint64_t *entries)
{
    struct kv_sink sink = backup_bytes_sink(out);
    struct kv_export_options options = {.threads = 2};
    return kv_export(kit->db, &options, &sink, entries, &kit->err);
}

Test(stream, streams_with_values_in_the_value_log_become_one_load_too)
{
    struct kv_kit kit;
    struct kv_stream_writer *writer = NULL;
    static char value[3][3000];
    struct backup_bytes bytes = {0};
    struct kv_repository repo = {.path = "backups"};
    kv_kit_init(&kit, NULL);
    kit.spaces[0].value_separate_bytes = 1024;
    kv_kit_must_open(&kit);
    must(&kit, kv_stream_writer_open(kit.db, 0, &writer, &kit.err));
    for (uint32_t i = 0; i < 3; i++) {
        memset(value[i], 'a' + (int)i, sizeof value[i] - 1);
        must(&kit, kv_stream_writer_add(writer, 2 - i, kv_slice_of(value[i], 1), kv_slice_str(value[i]), NULL,
                                        &kit.err));
    }
    must(&kit, kv_stream_writer_install(writer, NULL, &kit.err));
    must(&kit, export_to(&kit, &bytes, NULL));
    must(&kit, backup_to(&kit, &repo, NULL));
    cr_assert(kv_kit_files(&kit, ".vlg") > 0);
    kv_kit_reopen(&kit);
    for (int round = 0; round < 2; round++) {
        char key[2] = "a";
        for (; key[0] < 'd'; key[0]++)
            cr_assert(kv_kit_is(&kit, NULL, 0, key, value[key[0] - 'a']));
        if (round == 0) {
            kv_kit_close(&kit);
            must(&kit, backup_restore(&kit, &repo, 0, "copy"));
            kit.path = "copy";
            kv_kit_must_open(&kit);
        }
    }
    kv_kit_close(&kit);
    backup_check(&kit, "copy");
    backup_bytes_release(&bytes);
    kv_kit_release(&kit);
}

/* ---- tables made elsewhere */

static void make_table(struct kv_kit *kit, const char *name, int from, int to)
{
    struct kv_table_writer *writer = NULL;
    struct kv_env *env = backup_env(kit);
    char key[16], value[16];
    must(kit, kv_table_writer_open(env, "outside", name, NULL, &writer, &kit->err));
    for (int i = from; i < to; i++) {
        struct kv_put_options how = {.meta = (uint8_t)(i % 3)};
        snprintf(value, sizeof value, "%d", i);
        must(kit, kv_table_writer_add(writer, key_of(key, i), kv_slice_str(value), &how, &kit->err));
    }
    must(kit, kv_table_writer_finish(writer, &kit->err));
    if (env != kit->env)
        kv_env_close(env);
}

static void outside(struct kv_kit *kit)
{
    struct kv_dir *dir = NULL;
    kv_kit_init(kit, NULL);
    cr_assert_eq(kv_vfs_dir_open(kit->own, "outside", true, &dir, &kit->err), KV_OK);
    kv_dir_close(dir);
}

Test(stream, tables_made_outside_are_ingested_under_one_version)
{
    struct kv_kit kit;
    uint64_t seq;
    static const char *const names[] = {"b", "a"};
    outside(&kit);
    make_table(&kit, "a", 0, 100);
    make_table(&kit, "b", 100, 150);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "key000010", "older");
    must(&kit, kv_ingest(kit.db, 0, "outside", names, 2, &seq, &kit.err));
    cr_assert_eq(seq, 2);
    kv_kit_put(&kit, 0, "key000011", "newer");
    kv_kit_reopen(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "key000010", "10"));
    cr_assert(kv_kit_is(&kit, NULL, 0, "key000011", "newer"));
    cr_assert(kv_kit_is(&kit, NULL, 0, "key000149", "149"));
    struct kv_pinned found;
    must(&kit, kv_get(kit.db, NULL, 0, KV_STR("key000005"), &found, &kit.err));
    cr_assert(found.meta == 2 && found.version == seq);
    kv_pinned_release(&found);
    cr_assert_eq(kv_kit_stats(&kit, 0).entries >= 150, true);
    must(&kit,
         kv_ingest(kit.db, 1, "outside", names, 1, NULL, &kit.err)); /* the files stay, and fit any space */
    cr_assert(kv_kit_is(&kit, NULL, 1, "key000120", "120"));
    kv_kit_release(&kit);
}

Test(stream, what_cannot_be_ingested_changes_nothing)
{
    struct kv_kit kit;
    struct kv_table_writer *writer = NULL;
    static const char *const overlap[] = {"a", "b"}, *const missing[] = {"a", "c"};
    outside(&kit);
    make_table(&kit, "a", 0, 100);
    make_table(&kit, "b", 99, 150);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_ingest(kit.db, 0, "outside", overlap, 2, NULL, &kit.err), KV_INVALID);
    cr_assert_eq(kv_ingest(kit.db, 0, "outside", missing, 2, NULL, &kit.err), KV_MISSING);
    cr_assert_eq(kv_ingest(kit.db, 5, "outside", overlap, 1, NULL, &kit.err), KV_INVALID);
    cr_assert_eq(kv_ingest(kit.db, 0, "nowhere", overlap, 1, NULL, &kit.err), KV_MISSING);
    must(&kit, kv_table_writer_open(kit.env, "outside", "d", NULL, &writer, &kit.err));
    must(&kit, kv_table_writer_add(writer, KV_STR("b"), KV_STR(""), NULL, &kit.err));
    cr_assert_eq(kv_table_writer_add(writer, KV_STR("a"), KV_STR(""), NULL, &kit.err), KV_INVALID);
    cr_assert_eq(kv_table_writer_add(writer, KV_STR(""), KV_STR(""), NULL, &kit.err), KV_INVALID);
    kv_table_writer_abort(writer);
    cr_assert_eq(kv_table_writer_open(kit.env, "outside", "a", NULL, &writer, &kit.err), KV_EXISTS);
    kv_kit_put(&kit, 0, "a", "1");
    must(&kit, kv_flush(kit.db, &kit.err));
    static const char *const own[] = {"000003.tbl"};
    cr_assert_eq(kv_ingest(kit.db, 0, "db", own, 1, NULL, &kit.err), KV_CORRUPT); /* a database's own table */
    cr_assert_eq(kv_seq(kit.db), 1);
    kv_kit_release(&kit);
}

Test(stream, any_flipped_bit_of_a_table_made_outside_is_found)
{
    static const char *const names[] = {"a"};
    for (size_t at = 0;; at += sweep_stride(11)) {
        struct kv_kit kit;
        struct kv_dir *dir = NULL;
        struct kv_file *file = NULL;
        struct kv_buf bytes = {0};
        uint64_t size = 0;
        outside(&kit);
        make_table(&kit, "a", 0, 20);
        must(&kit, kv_vfs_dir_open(kit.own, "outside", false, &dir, &kit.err));
        must(&kit, kv_dir_open_file(dir, "a", &file, &kit.err));
        must(&kit, kv_file_size(file, &size, &kit.err));
        must(&kit, kv_file_read_exact(file, 0, (size_t)size, kv_buf_extend(&bytes, (size_t)size), &kit.err));
        kv_file_close(file);
        bool there = at < size;
        if (there) {
            bytes.data[at] ^= 8;
            must(&kit, kv_dir_remove(dir, "a", &kit.err));
            must(&kit, kv_dir_create(dir, "a", &file, &kit.err));
            must(&kit, kv_file_append(file, 0, kv_buf_slice(&bytes), &kit.err));
            kv_file_close(file);
            kv_kit_must_open(&kit);
            kv_status rc = kv_ingest(kit.db, 0, "outside", names, 1, NULL, &kit.err);
            cr_assert(rc == KV_CORRUPT || rc == KV_TOO_NEW || rc == KV_WRONG_KEY, "byte %d: %s", (int)at,
                      kv_status_name(rc));
            cr_assert_eq(kv_kit_stats(&kit, 0).tables, 0);
        }
        kv_dir_close(dir);
        kv_buf_release(&bytes);
        kv_kit_release(&kit);
        if (!there)
            break;
    }
}

/* ---- exports */

static kv_status import_from(struct kv_kit *kit, struct backup_bytes *in, uint64_t *entries)
{
    struct kv_source source = backup_bytes_source(in);
    return kv_import(kit->db, &source, NULL, entries, &kit->err);
}

Test(stream, an_export_imported_elsewhere_is_a_database_of_its_own)
{
    struct kv_kit kit, other;
    struct backup_bytes bytes = {.read_max = 1000};
    static char one[KEYS * 20], two[KEYS * 20];
    uint64_t out = 0, in = 0;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    kv_kit_put(&kit, 1, "in b", "too");
    must(&kit, export_to(&kit, &bytes, &out));
    kv_kit_init(&other, NULL);
    other.spaces[0].name = "b"; /* by name, not by place */
    other.spaces[1].name = "a";
    kv_kit_must_open(&other);
    kv_kit_put(&other, 1, "here before", "stays");
    must(&other, import_from(&other, &bytes, &in));
    cr_assert(out == in && out > 2000);
    cr_assert(kv_kit_is(&other, NULL, 0, "in b", "too") &&
              kv_kit_is(&other, NULL, 1, "here before", "stays"));
    cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "key", "", one, sizeof one),
                     kv_kit_scan(&other, NULL, 1, "key", "", two, sizeof two));
    kv_kit_release(&other);
    kv_kit_init(&other, NULL);
    other.options.n_spaces = 1;
    kv_kit_must_open(&other);
    cr_assert_eq(import_from(&other, &bytes, &in), KV_INVALID);
    cr_assert(strstr(other.err.text, "space b") != NULL, "%s", other.err.text);
    backup_bytes_release(&bytes);
    kv_kit_release(&kit);
    kv_kit_release(&other);
}

Test(stream, an_export_that_is_cut_or_changed_loads_nothing)
{
    struct kv_kit kit, other;
    struct backup_bytes bytes = {0};
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "a", "1");
    kv_kit_put(&kit, 1, "b", "2");
    must(&kit, export_to(&kit, &bytes, NULL));
    kv_kit_init(&other, NULL);
    kv_kit_must_open(&other);
    size_t len = bytes.bytes.len;
    for (bytes.bytes.len = 0; bytes.bytes.len < len; bytes.bytes.len++)
        cr_assert_eq(import_from(&other, &bytes, NULL), KV_CORRUPT, "cut to %d", (int)bytes.bytes.len);
    for (size_t bit = 0; bit < 8 * len; bit += sweep_stride(3)) {
        bytes.bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        kv_status rc = import_from(&other, &bytes, NULL);
        cr_assert(rc == KV_CORRUPT || rc == KV_TOO_NEW, "bit %d: %s", (int)bit, kv_status_name(rc));
        bytes.bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    cr_assert(kv_seq(other.db) == 0 && kv_kit_files(&other, ".tbl") == 0);
    must(&other, import_from(&other, &bytes, NULL));
    cr_assert(kv_kit_is(&other, NULL, 1, "b", "2"));
    backup_bytes_release(&bytes);
    kv_kit_release(&kit);
    kv_kit_release(&other);
}

/* ---- failures */

static kv_status round_trip(struct kv_kit *kit)
{
    struct backup_bytes bytes = {0};
    struct kv_table_writer *table = NULL;
    static const char *const names[] = {"t"};
    struct kv_dir *dir = NULL;
    kv_status rc = export_to(kit, &bytes, NULL);
    if (rc == KV_OK)
        rc = import_from(kit, &bytes, NULL);
    if (rc == KV_OK)
        rc = kv_vfs_dir_open(kit->vfs, "outside", true, &dir, &kit->err);
    if (rc == KV_OK)
        rc = kv_table_writer_open(kit->env, "outside", "t", NULL, &table, &kit->err);
    if (rc == KV_OK) {
        rc = kv_table_writer_add(table, KV_STR("t"), KV_STR("1"), &(struct kv_put_options){.meta = 1},
                                 &kit->err);
        if (rc == KV_OK)
            rc = kv_table_writer_finish(table, &kit->err);
        else
            kv_table_writer_abort(table);
    }
    if (rc == KV_OK)
        rc = kv_ingest(kit->db, 1, "outside", names, 1, NULL, &kit->err);
    kv_dir_close(dir);
    backup_bytes_release(&bytes);
    return rc;
}

Test(stream, any_failing_operation_is_reported_and_the_database_goes_on, .timeout = 120)
{
    bool fired = true;
    for (uint64_t nth = 1; fired; nth++) {
        struct kv_kit kit;
        kv_kit_init(&kit, NULL);
        struct vfs_fault *fault = vfs_fault_new(kit.own);
        kit.vfs = vfs_fault_as_vfs(fault);
        kv_kit_must_open(&kit);
        kv_kit_put(&kit, 0, "a", "1");
        must(&kit, kv_flush(kit.db, &kit.err));
        vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = nth});
        kv_status rc = round_trip(&kit);
        fired = vfs_fault_fired(fault);
        vfs_fault_plan(fault, NULL);
        cr_assert(fired || rc == KV_OK, "%s", kit.err.text);
        cr_assert(rc == KV_OK || kit.err.text[0]);
        cr_assert(kv_kit_is(&kit, NULL, 0, "a", "1"));
        kv_kit_reopen(&kit);
        cr_assert(kv_kit_is(&kit, NULL, 0, "a", "1"));
        kv_kit_close(&kit);
        vfs_fault_free(fault);
        kv_kit_release(&kit);
    }
}

Test(stream, any_failing_allocation_is_reported_and_the_database_goes_on, .timeout = 120)
{
    for (uint64_t nth = 1;; nth++) {
        struct kv_kit kit;
        kv_kit_init(&kit, NULL);
        kv_kit_must_open(&kit);
        kv_kit_put(&kit, 0, "a", "1");
        must(&kit, kv_flush(kit.db, &kit.err));
        malloc_fault_arm(nth, false);
        kv_status rc = round_trip(&kit);
        bool fired = malloc_fault_disarm();
        cr_assert(fired || rc == KV_OK, "%s", kit.err.text);
        cr_assert(kv_kit_is(&kit, NULL, 0, "a", "1"));
        kv_kit_reopen(&kit);
        kv_kit_release(&kit);
        if (!fired)
            break;
    }
}
