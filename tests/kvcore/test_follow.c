/* A follower beside a writer: what it shows, when, and what can go wrong. */
#include "kvcore/db/db.h"
#include "tests/support/file_kit.h"
#include "tests/support/follow_kit.h"
#include "tests/support/fault_arm.h"
#include "tests/support/sweep.h"

#include <criterion/criterion.h>
#include <stdio.h>

static const uint8_t key_1[KV_MASTER_KEY_LEN] = "the first master key, 32 bytes..",
                     key_2[KV_MASTER_KEY_LEN] = "another master key of 32 bytes..";

#define WRITES                                                                                               \
    (VFS_OP_CREATE | VFS_OP_APPEND | VFS_OP_RESERVE | VFS_OP_SYNC | VFS_OP_SYNC_NAMES | VFS_OP_LINK |        \
     VFS_OP_REMOVE | VFS_OP_LEASE | VFS_OP_PUBLISH)

static void put_many(struct kv_kit *kit, uint32_t space, int from, int to, const char *value)
{
    char key[16];
    for (int i = from; i < to; i++) {
        snprintf(key, sizeof key, "k%05d", i);
        kv_kit_put(kit, space, key, value);
    }
}

/* ---- what it shows */

Test(follow, a_refresh_shows_what_was_answered_before_it_and_only_then)
{
    struct follow_kit kit;
    follow_kit_init(&kit);
    kv_kit_must_open(&kit.writer);
    kv_kit_put(&kit.writer, 0, "k", "1");
    follow_kit_open(&kit);
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k", "1"));
    kv_kit_put(&kit.writer, 0, "k", "2");
    kv_kit_put(&kit.writer, 1, "other", "x");
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k", "1"));
    cr_assert(kv_kit_is(&kit.follower, NULL, 1, "other", NULL));
    cr_assert_eq(follow_kit_refresh(&kit), kv_seq(kit.writer.db));
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k", "2"));
    cr_assert(kv_kit_is(&kit.follower, NULL, 1, "other", "x"));
    kv_kit_delete(&kit.writer, 0, "k");
    follow_kit_same(&kit);
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k", NULL));
    cr_assert_eq(vfs_fault_count(kit.reads, WRITES), 0, "a follower writes nothing");
    follow_kit_release(&kit);
}

Test(follow, it_opens_without_a_writer_and_outlives_many)
{
    struct follow_kit kit;
    follow_kit_init(&kit);
    kit.writer.options.memtable_bytes = 64 << 10;
    kv_kit_must_open(&kit.writer);
    kv_kit_put(&kit.writer, 0, "k", "0");
    kv_kit_close(&kit.writer);
    cr_assert_eq(follow_kit_try_open(&kit), KV_OK, "%s", kit.follower.err.text);
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k", "0"));
    for (int life = 1; life < 6; life++) {
        char value[16];
        snprintf(value, sizeof value, "%d", life);
        kv_kit_must_open(&kit.writer);
        kv_kit_put(&kit.writer, 0, "k", value);
        if (life % 2)
            follow_kit_same(&kit);
        put_many(&kit.writer, 1, 0, 300 * life, value);
        kv_kit_close(&kit.writer);
        cr_assert_eq(follow_kit_try_refresh(&kit), KV_OK, "%s", kit.follower.err.text);
        cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k", value));
        cr_assert(kv_kit_is(&kit.follower, NULL, 1, "k00299", value));
    }
    follow_kit_release(&kit);
}

Test(follow, what_was_pinned_keeps_its_moment_while_the_writer_flushes_merges_and_drops)
{
    struct follow_kit kit;
    struct kv_snapshot *snapshot = NULL;
    struct kv_iter *it = NULL;
    follow_kit_init(&kit);
    kv_kit_must_open(&kit.writer);
    put_many(&kit.writer, 0, 0, 100, "old");
    cr_assert_eq(kv_flush(kit.writer.db, NULL), KV_OK);
    put_many(&kit.writer, 0, 50, 150, "mid");
    follow_kit_open(&kit);
    cr_assert_eq(kv_snapshot_open(kit.follower.db, &snapshot), KV_OK);
    cr_assert_eq(kv_iter_open(kit.follower.db, NULL, 0, (kv_slice){0}, (kv_slice){0}, &it), KV_OK);
    put_many(&kit.writer, 0, 0, 200, "new");
    cr_assert_eq(kv_flush(kit.writer.db, NULL), KV_OK);
    cr_assert_eq(kv_merge_range(kit.writer.db, 0, (kv_slice){0}, (kv_slice){0}, NULL), KV_OK);
    kv_kit_work_all(&kit.writer);
    follow_kit_same(&kit);
    cr_assert_eq(kv_drop_all(kit.writer.db, 0, NULL), KV_OK);
    kv_kit_work_all(&kit.writer);
    follow_kit_same(&kit);
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k00010", NULL));
    cr_assert_eq(kv_kit_files(&kit.writer, ".tbl"), 0, "the writer does not wait with removing files");
    cr_assert(kv_kit_is(&kit.follower, snapshot, 0, "k00010", "old"));
    cr_assert(kv_kit_is(&kit.follower, snapshot, 0, "k00149", "mid"));
    cr_assert(kv_kit_is(&kit.follower, snapshot, 0, "k00150", NULL));
    int n = 0;
    for (kv_status rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it), n++)
        cr_assert(kv_slice_equal(it->value, n < 50 ? KV_STR("old") : KV_STR("mid")));
    cr_assert_eq(n, 150);
    kv_iter_close(it);
    kv_snapshot_close(snapshot);
    follow_kit_release(&kit);
}

static kv_status add_numbers(void *ctx, kv_slice key, const kv_slice *value, const kv_slice *operands,
                             size_t n, struct kv_buf *out)
{
    (void)ctx, (void)key;
    kv_status rc = value ? kv_buf_append(out, *value) : KV_OK;
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        rc = kv_buf_append(out, operands[i]);
    return rc;
}

/* What a flush took is in tables and, if the follower kept it, in its memtables. */
Test(follow, what_was_flushed_is_not_met_twice)
{
    static const struct kv_merge_operator append = {.fold = add_numbers};
    struct follow_kit kit;
    struct kv_batch *batch = NULL;
    char text[64] = "";
    follow_kit_init(&kit);
    kit.writer.spaces[1].merge = &append;
    kit.writer.spaces[0].versions_kept = 3;
    follow_kit_open(&kit);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    for (int i = 0; i < 20; i++) {
        char digit[2] = {(char)('a' + i), 0};
        cr_assert_eq(kv_batch_merge(batch, 1, KV_STR("sum"), kv_slice_str(digit)), KV_OK);
        cr_assert_eq(kv_batch_put(batch, 0, KV_STR("versions"), kv_slice_str(digit)), KV_OK);
        cr_assert_eq(kv_commit(kit.writer.db, batch, NULL, NULL, NULL), KV_OK);
        kv_batch_clear(batch);
        strcat(text, digit);
        if (i % 3 == 0)
            follow_kit_refresh(&kit);
        if (i % 4 == 0)
            cr_assert_eq(kv_flush(kit.writer.db, NULL), KV_OK);
        if (i % 5 == 0)
            kv_kit_work_all(&kit.writer);
        follow_kit_same(&kit);
        cr_assert(kv_kit_is(&kit.follower, NULL, 1, "sum", text));
    }
    kv_batch_free(batch);
    follow_kit_release(&kit);
}

/* A key that was deleted and merged away for good is not in the tables any more; its put must not come back from memory. */
Test(follow, what_was_merged_away_does_not_come_back)
{
    struct follow_kit kit;
    follow_kit_init(&kit);
    follow_kit_open(&kit);
    kv_kit_put(&kit.writer, 0, "gone", "x");
    follow_kit_same(&kit);
    kv_kit_delete(&kit.writer, 0, "gone");
    kv_kit_put(&kit.writer, 0, "stays", "x");
    cr_assert_eq(kv_flush(kit.writer.db, NULL), KV_OK);
    kv_kit_put(&kit.writer, 0, "later", "x");
    follow_kit_same(&kit);
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "gone", NULL));
    follow_kit_release(&kit);
}

/* The floor lies within what the follower has in one memtable: only what is above stays, and the log is not read again. */
Test(follow, a_floor_in_the_middle_of_a_memtable)
{
    struct follow_kit kit;
    follow_kit_init(&kit);
    kit.writer.options.memtable_bytes = 64 << 10;
    follow_kit_open(&kit);
    kit.follower.options.memtable_bytes = 0;
    for (int round = 0; round < 12; round++) {
        put_many(&kit.writer, (uint32_t)round % 2, 10 * round, 10 * round + 300, "some value of some length");
        struct kv_batch *batch = NULL;
        cr_assert_eq(kv_batch_new(&batch), KV_OK);
        cr_assert_eq(kv_batch_delete_range(batch, 1, KV_STR("k00020"), KV_STR("k00030")), KV_OK);
        cr_assert_eq(kv_batch_put(batch, 1, KV_STR("k00025"), KV_STR("in the range")), KV_OK);
        cr_assert_eq(kv_commit(kit.writer.db, batch, NULL, NULL, NULL), KV_OK);
        kv_batch_free(batch);
        follow_kit_same(&kit);
        while (kv_work(kit.writer.db, NULL) == KV_OK)
            follow_kit_same(&kit);
    }
    cr_assert_gt(kv_kit_metric(&kit.writer, "kv_flushes_total"), 3);
    follow_kit_release(&kit);
}

static void put_large(struct kv_kit *kit, const char *key, char fill, size_t len)
{
    struct kv_value_writer *writer = NULL;
    struct kv_batch *batch = NULL;
    uint8_t piece[256];
    memset(piece, fill, sizeof piece);
    cr_assert_eq(kv_value_writer_open(kit->db, 0, &writer, NULL), KV_OK);
    for (size_t at = 0; at < len; at += sizeof piece)
        cr_assert_eq(kv_value_writer_append(writer, kv_slice_of(piece, sizeof piece), NULL), KV_OK);
    cr_assert_eq(kv_value_writer_finish(writer, NULL), KV_OK);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put_value(batch, 0, kv_slice_str(key), writer, NULL), KV_OK);
    cr_assert_eq(kv_commit(kit->db, batch, NULL, NULL, NULL), KV_OK);
    kv_batch_free(batch);
    kv_value_writer_free(writer);
}

static void write_everything(struct kv_kit *kit, int round)
{
    static const char *const loaded[] = {"bulk1", "bulk2", "bulk3"};
    struct kv_batch *batch = NULL;
    struct kv_put_options soon = {.expires_at_s = 1700000000 + 60, .meta = 7};
    char value[300];
    memset(value, 'a' + round % 26, sizeof value - 1);
    value[sizeof value - 1] = 0;
    put_many(kit, 1, round, round + 20, value); /* separated by the flush */
    put_large(kit, "large", (char)('A' + round % 26), 4096);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put_with(batch, 0, KV_STR("mortal"), KV_STR("v"), &soon), KV_OK);
    cr_assert_eq(kv_batch_delete_range(batch, 1, KV_STR("k00005"), KV_STR("k00010")), KV_OK);
    cr_assert_eq(kv_commit(kit->db, batch, NULL, NULL, NULL), KV_OK);
    kv_batch_free(batch);
    kv_kit_bulk(kit, 0, loaded, 3, round % 2 ? "odd" : "even", 0);
}

static void follow_everything(struct follow_kit *kit)
{
    kit->writer.spaces[1].value_separate_bytes = 128;
    kit->writer.spaces[1].style = KV_STYLE_LEVELLED;
    kit->writer.options.large_value_bytes = 1024;
    kit->writer.options.log_file_bytes = 8 << 10;
    follow_kit_open(kit);
    for (int round = 0; round < 10; round++) {
        write_everything(&kit->writer, round);
        follow_kit_same(kit);
        if (round % 3 == 1)
            cr_assert_eq(kv_flush(kit->writer.db, NULL), KV_OK);
        if (round % 4 == 3)
            kv_kit_work_all(&kit->writer);
        if (round == 6)
            kv_kit_reopen(&kit->writer);
        follow_kit_same(kit);
        cr_assert(kv_kit_is(&kit->follower, NULL, 0, "bulk2", round % 2 ? "odd" : "even"));
        cr_assert(kv_kit_is(&kit->follower, NULL, 0, "mortal", "v"));
    }
    clock_manual_advance_ms(&kit->writer.clock, 61000);
    clock_manual_advance_ms(&kit->follower.clock, 61000);
    cr_assert(kv_kit_is(&kit->follower, NULL, 0, "mortal", NULL));
    follow_kit_same(kit);
}

Test(follow, every_kind_of_entry_through_log_tables_and_value_log)
{
    struct follow_kit kit;
    follow_kit_init(&kit);
    follow_everything(&kit);
    follow_kit_release(&kit);
}

Test(follow, an_encrypted_database_with_new_data_keys)
{
    struct follow_kit kit;
    follow_kit_init(&kit);
    kit.writer.options.key.master_key = key_1;
    follow_everything(&kit);
    cr_assert_eq(kv_rotate_data_key(kit.writer.db, NULL), KV_OK);
    write_everything(&kit.writer, 11);
    cr_assert_eq(kv_flush(kit.writer.db, NULL), KV_OK);
    follow_kit_same(&kit);
    kv_kit_reopen(&kit.writer);
    kv_kit_put(&kit.writer, 0, "k", "v");
    follow_kit_same(&kit);
    follow_kit_release(&kit);
}

Test(follow, the_writers_clock_is_followed_when_it_takes_a_step)
{
    struct follow_kit kit;
    struct kv_batch *batch = NULL;
    struct kv_put_options later = {.expires_at_s = 1700000000 + 30 * 86400};
    const int64_t later_ms = 1700000000000 + (int64_t)40 * 86400 * 1000;
    follow_kit_init(&kit);
    follow_kit_open(&kit);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put_with(batch, 0, KV_STR("mortal"), KV_STR("v"), &later), KV_OK);
    cr_assert_eq(kv_commit(kit.writer.db, batch, NULL, NULL, NULL), KV_OK);
    kv_batch_free(batch);
    follow_kit_refresh(&kit);
    clock_manual_set_wall_ms(&kit.writer.clock, later_ms);
    clock_manual_set_wall_ms(&kit.follower.clock, later_ms);
    follow_kit_refresh(&kit);
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "mortal", "v"), "a step deletes nothing");
    cr_assert_eq(kv_retention_clock_accept(kit.writer.db, NULL), KV_OK);
    cr_assert_eq(kv_flush(kit.writer.db, NULL), KV_OK);
    follow_kit_refresh(&kit);
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "mortal", NULL));
    follow_kit_release(&kit);
}

/* ---- what it costs */

Test(follow, a_refresh_with_nothing_new_reads_the_published_name_and_two_sizes)
{
    struct follow_kit kit;
    follow_kit_init(&kit);
    follow_kit_open(&kit);
    put_many(&kit.writer, 0, 0, 50, "v");
    follow_kit_refresh(&kit);
    uint64_t all = vfs_fault_count(kit.reads, VFS_OP_ALL);
    follow_kit_refresh(&kit);
    cr_assert_eq(vfs_fault_count(kit.reads, VFS_OP_ALL) - all, 3);
    kv_kit_put(&kit.writer, 0, "k", "v");
    uint64_t reads = vfs_fault_count(kit.reads, VFS_OP_READ);
    follow_kit_refresh(&kit);
    cr_assert_eq(vfs_fault_count(kit.reads, VFS_OP_READ) - reads, 1, "and one with one commit: its bytes");
    follow_kit_release(&kit);
}

/* ---- the writer's failures */

/* The disk refuses a group after the follower has seen it, and its sequences go to other commits. */
Test(follow, what_a_failed_sync_took_back_goes)
{
    struct follow_kit kit;
    follow_kit_init(&kit);
    follow_kit_open(&kit);
    kv_kit_put(&kit.writer, 0, "k", "1");
    uint64_t before = follow_kit_refresh(&kit);
    /* The record is written, its sync fails, and no new file can be made: the group is refused as a whole. */
    vfs_fault_plan(kit.writes, &(struct vfs_fault_plan){.nth = 1,
                                                        .ops = VFS_OP_SYNC | VFS_OP_CREATE,
                                                        .glob = "*.log",
                                                        .kind = VFS_FAULT_EIO,
                                                        .sticky = true});
    kv_status rc = kv_kit_try_put(&kit.writer, 0, "k", "refused");
    cr_assert(rc < 0 && rc != KV_UNKNOWN_OUTCOME, "%s", kv_status_name(rc));
    vfs_fault_plan(kit.writes, NULL);
    cr_assert_eq(follow_kit_refresh(&kit), before);
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k", "1"));
    kv_kit_put(&kit.writer, 0, "k", "2");
    follow_kit_same(&kit);
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k", "2"));
    follow_kit_release(&kit);
}

struct peek {
    struct follow_kit *kit;
    uint64_t shown;
};

/* Called within the writer's appends: the follower looks at what is there so far. */
static void peek_look(void *ctx, const char *name, uint64_t offset, kv_slice bytes)
{
    struct peek *peek = ctx;
    uint64_t seq = 0;
    (void)name, (void)offset, (void)bytes;
    kv_status rc = kv_follow_refresh(peek->kit->follower.db, &seq, &peek->kit->follower.err);
    cr_assert_eq(rc, KV_OK, "%s", peek->kit->follower.err.text);
    peek->shown = seq;
}

Test(follow, the_record_of_a_failed_sync_was_seen_and_is_another_one_then)
{
    struct follow_kit kit;
    follow_kit_init(&kit);
    follow_kit_open(&kit);
    kv_kit_put(&kit.writer, 0, "k", "1");
    uint64_t before = follow_kit_refresh(&kit);
    struct peek peek = {&kit, 0};
    /* The edit that seals the old file is the next append after the group's: by then the group is in the file. */
    vfs_fault_watch(kit.writes, peek_look, &peek);
    vfs_fault_plan(kit.writes, &(struct vfs_fault_plan){.nth = 1,
                                                        .ops = VFS_OP_SYNC | VFS_OP_CREATE,
                                                        .glob = "*.log",
                                                        .kind = VFS_FAULT_EIO,
                                                        .sticky = true});
    cr_assert_lt(kv_kit_try_put(&kit.writer, 0, "k", "refused"), 0);
    vfs_fault_watch(kit.writes, NULL, NULL);
    vfs_fault_plan(kit.writes, NULL);
    cr_assert_eq(peek.shown, before + 1, "a recovery of that moment would have found it");
    kv_kit_put(&kit.writer, 0, "k", "2");
    cr_assert_eq(kv_seq(kit.writer.db), before + 1, "its sequence is another commit's");
    follow_kit_same(&kit);
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k", "2"));
    follow_kit_release(&kit);
}

/* Whenever it looks, it sees all that was answered, and at most what is under way. */
static void look_in_between(void *ctx, const char *name, uint64_t offset, kv_slice bytes)
{
    struct peek *peek = ctx;
    struct follow_kit *kit = peek->kit;
    char key[32];
    peek_look(ctx, name, offset, bytes);
    uint64_t answered = kv_seq(kit->writer.db);
    cr_assert(peek->shown >= answered && peek->shown <= answered + 1);
    if (peek->shown == 0)
        return;
    snprintf(key, sizeof key, "seq%llu", (unsigned long long)peek->shown);
    struct kv_pinned newest = {0};
    kv_status rc = kv_get(kit->follower.db, NULL, 1, KV_STR("newest"), &newest, NULL);
    cr_assert(rc == KV_NOT_FOUND || newest.version <= peek->shown);
    kv_pinned_release(&newest);
}

Test(follow, in_the_middle_of_everything_the_writer_writes)
{
    struct follow_kit kit;
    follow_kit_init(&kit);
    kit.writer.options.memtable_bytes = 64 << 10;
    kit.writer.options.log_file_bytes = 8 << 10;
    kit.writer.options.large_value_bytes = 1024;
    kit.writer.spaces[1].value_separate_bytes = 128;
    kit.writer.spaces[1].style = KV_STYLE_LEVELLED;
    follow_kit_open(&kit);
    struct peek peek = {&kit, 0};
    vfs_fault_watch(kit.writes, look_in_between, &peek);
    for (int round = 0; round < 6; round++) {
        put_many(&kit.writer, 0, 0, 100, "value");
        kv_kit_put(&kit.writer, 1, "newest", "x");
        write_everything(&kit.writer, round);
        cr_assert_eq(kv_flush(kit.writer.db, NULL), KV_OK);
        kv_kit_work_all(&kit.writer);
        cr_assert_eq(kv_merge_range(kit.writer.db, 0, (kv_slice){0}, (kv_slice){0}, NULL), KV_OK);
    }
    vfs_fault_watch(kit.writes, NULL, NULL);
    follow_kit_same(&kit);
    follow_kit_release(&kit);
}

/* ---- torn tails, and damage */

/* All files of the database, in a vfs of their own. */
static struct kv_vfs *copy_all(struct kv_vfs *from)
{
    struct kv_vfs *to = kv_vfs_mem_crash_clone(from);
    cr_assert(to != NULL);
    return to;
}

/* Every length that the last log file may have when a writer is in the middle of it: what is whole is shown, and nothing is damage. */
Test(follow, a_torn_tail_is_not_there_yet)
{
    struct follow_kit kit;
    struct kv_buf names = {0}, bytes = {0};
    char big[3000];
    follow_kit_init(&kit);
    kv_kit_must_open(&kit.writer);
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    for (int i = 0; i < 5; i++)
        kv_kit_put(&kit.writer, 0, "k", i == 3 ? big : "small");
    struct kv_vfs *disk = copy_all(kit.writer.own);
    kv_kit_close(&kit.writer);
    size_t n = file_kit_list(disk, "db", ".log", &names);
    const char *last = (char *)names.data;
    for (size_t i = 1; i < n; i++)
        last += strlen(last) + 1;
    file_kit_read(disk, "db", last, &bytes);
    uint64_t before = 0;
    for (size_t len = KV_FILE_HEADER_LEN; len <= bytes.len; len += len + 40 > bytes.len ? 1 : 9) {
        uint64_t seq = 0;
        file_kit_write(disk, "db", last, kv_slice_of(bytes.data, len));
        kit.follower.vfs = disk;
        cr_assert_eq(follow_kit_try_open(&kit), KV_OK, "%zu: %s", len, kit.follower.err.text);
        cr_assert_eq(kv_follow_refresh(kit.follower.db, &seq, NULL), KV_OK);
        cr_assert(seq == before || seq == before + 1, "%zu", len);
        before = seq;
        kv_kit_close(&kit.follower);
    }
    cr_assert_eq(before, 5);
    kv_vfs_mem_free(disk);
    kv_buf_release(&names);
    kv_buf_release(&bytes);
    follow_kit_release(&kit);
}

/* Damage of what was answered is told, and what was seen before stays. */
Test(follow, damage_in_the_log_is_an_error_and_the_old_view_stays)
{
    struct follow_kit kit;
    struct kv_buf names = {0}, good = {0};
    follow_kit_init(&kit);
    kit.writer.options.log_file_bytes = 4096;
    follow_kit_open(&kit);
    kv_kit_put(&kit.writer, 0, "k", "1");
    follow_kit_refresh(&kit);
    put_many(&kit.writer, 0, 0, 200, "through several log files");
    size_t n = file_kit_list(kit.writer.own, "db", ".log", &names);
    cr_assert_gt(n, 2);
    const char *second = (char *)names.data + strlen((char *)names.data) + 1;
    file_kit_read(kit.writer.own, "db", second, &good);
    file_kit_flip(kit.writer.own, "db", second, KV_FILE_HEADER_LEN + 80);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(follow_kit_try_refresh(&kit), KV_CORRUPT);
        cr_assert(strstr(kit.follower.err.text, "acknowledged data is damaged: db/") &&
                      strstr(kit.follower.err.text, second),
                  "%s", kit.follower.err.text);
        cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k", "1"));
        cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k00000", NULL));
    }
    file_kit_remove(kit.writer.own, "db", second);
    cr_assert_eq(follow_kit_try_refresh(&kit), KV_CORRUPT);
    cr_assert(strstr(kit.follower.err.text, "the file is missing"), "%s", kit.follower.err.text);
    file_kit_write(kit.writer.own, "db", second, kv_buf_slice(&good));
    follow_kit_same(&kit);
    kv_buf_release(&names);
    kv_buf_release(&good);
    follow_kit_release(&kit);
}

/* In the file being written only a later record that says it was synced makes a bad one damage. */
Test(follow, damage_in_the_current_log_file_refuses_the_open)
{
    struct follow_kit kit;
    struct kv_buf names = {0};
    follow_kit_init(&kit);
    kv_kit_must_open(&kit.writer);
    kv_kit_put(&kit.writer, 0, "k", "1");
    cr_assert_eq(file_kit_list(kit.writer.own, "db", ".log", &names), 1);
    uint64_t at = file_kit_size(kit.writer.own, "db", (char *)names.data) + 33;
    kv_kit_put(&kit.writer, 0, "k", "2");
    kv_kit_put(&kit.writer, 0, "k", "3");
    struct kv_vfs *disk = copy_all(kit.writer.own);
    file_kit_flip(disk, "db", (char *)names.data, at);
    kit.follower.vfs = disk;
    cr_assert_eq(follow_kit_try_open(&kit), KV_CORRUPT);
    cr_assert(strstr(kit.follower.err.text, "a bad record that was synced"), "%s", kit.follower.err.text);
    kv_vfs_mem_free(disk);
    kv_buf_release(&names);
    follow_kit_release(&kit);
}

Test(follow, a_damaged_table_is_put_aside_and_the_rest_goes_on)
{
    struct follow_kit kit;
    struct kv_buf names = {0};
    struct kv_pinned found = {0};
    follow_kit_init(&kit);
    follow_kit_open(&kit);
    kv_kit_put(&kit.writer, 0, "k", "1");
    follow_kit_refresh(&kit);
    cr_assert_eq(kv_flush(kit.writer.db, NULL), KV_OK);
    cr_assert_eq(file_kit_list(kit.writer.own, "db", ".tbl", &names), 1);
    file_kit_flip(kit.writer.own, "db", (char *)names.data, 10);
    kv_kit_put(&kit.writer, 1, "other", "2");
    cr_assert_eq(follow_kit_try_refresh(&kit), KV_OK, "%s", kit.follower.err.text);
    cr_assert_eq(kv_get(kit.follower.db, NULL, 0, KV_STR("k"), &found, NULL), KV_CORRUPT);
    cr_assert(kv_kit_is(&kit.follower, NULL, 1, "other", "2"));
    cr_assert_eq(kv_kit_metric(&kit.follower, "kv_damaged_files"), 1);
    kv_kit_put(&kit.writer, 1, "other", "3");
    cr_assert_eq(kv_flush(kit.writer.db, NULL), KV_OK);
    cr_assert_eq(follow_kit_try_refresh(&kit), KV_OK);
    cr_assert(kv_kit_is(&kit.follower, NULL, 1, "other", "3"));
    kv_buf_release(&names);
    follow_kit_release(&kit);
}

/* ---- refused */

Test(follow, what_a_follower_cannot_do_says_so)
{
    struct follow_kit kit;
    struct kv_records *records = NULL;
    struct kv_backup_options none = {0};
    follow_kit_init(&kit);
    follow_kit_open(&kit);
    kv_kit_put(&kit.writer, 0, "k", "v");
    follow_kit_refresh(&kit);
    struct kv_health_report report;
    kv_health_report(kit.follower.db, &report);
    cr_assert(report.sound && report.writable == KV_READ_ONLY);
    cr_assert_gt(kv_disk_bytes(kit.follower.db), 0);
    cr_assert_eq(kv_kit_try_put(&kit.follower, 0, "k", "v"), KV_READ_ONLY);
    cr_assert_eq(kv_flush(kit.follower.db, NULL), KV_READ_ONLY);
    cr_assert_eq(kv_records_open(kit.follower.db, &records, &kit.follower.err), KV_UNSUPPORTED);
    cr_assert_eq(kv_checkpoint(kit.follower.db, "copy", &kit.follower.err), KV_READ_ONLY);
    struct kv_repository repository = {.path = "backups"};
    none.repository = &repository;
    cr_assert_eq(kv_backup(kit.follower.db, &none, NULL, &kit.follower.err), KV_UNSUPPORTED);
    cr_assert_eq(kv_follow_refresh(kit.writer.db, NULL, &kit.writer.err), KV_INVALID);
    cr_assert(strstr(kit.writer.err.text, "follow"));
    cr_assert_eq(kv_work(kit.follower.db, NULL), KV_END);
    follow_kit_release(&kit);
}

Test(follow, nothing_there_another_database_a_new_space_and_a_new_master_key)
{
    struct follow_kit kit;
    follow_kit_init(&kit);
    cr_assert_eq(follow_kit_try_open(&kit), KV_MISSING);
    kit.writer.options.key.master_key = key_1;
    follow_kit_open(&kit);
    kv_kit_put(&kit.writer, 0, "k", "v");
    follow_kit_refresh(&kit);
    cr_assert_eq(kv_rotate_master_key(kit.writer.db, key_2, NULL), KV_OK);
    cr_assert_eq(follow_kit_try_refresh(&kit), KV_WRONG_KEY);
    cr_assert(strstr(kit.follower.err.text, "is encrypted with master key"), "%s", kit.follower.err.text);
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k", "v"));
    kv_kit_close(&kit.follower);
    kit.writer.options.key.master_key = key_2;
    follow_kit_open(&kit);
    kv_kit_close(&kit.writer);
    kit.writer.spaces[2].name = "new";
    kit.writer.options.n_spaces = 3;
    kv_kit_must_open(&kit.writer);
    cr_assert_eq(follow_kit_try_refresh(&kit), KV_INVALID);
    cr_assert(strstr(kit.follower.err.text, "space new"), "%s", kit.follower.err.text);
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k", "v"));
    kv_kit_close(&kit.follower);
    follow_kit_open(&kit);
    follow_kit_same(&kit);
    kv_kit_close(&kit.writer);
    kv_kit_close(&kit.follower);
    follow_kit_release(&kit);
}

Test(follow, spaces_declared_in_another_order)
{
    struct follow_kit kit;
    follow_kit_init(&kit);
    follow_kit_open(&kit);
    kv_kit_put(&kit.writer, 0, "k", "in a");
    kv_kit_put(&kit.writer, 1, "k", "in b");
    follow_kit_refresh(&kit);
    kv_kit_close(&kit.writer);
    kit.writer.spaces[0].name = "b";
    kit.writer.spaces[1].name = "a";
    kv_kit_must_open(&kit.writer);
    kv_kit_put(&kit.writer, 0, "k2", "in b");
    follow_kit_refresh(&kit);
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k", "in a"));
    cr_assert(kv_kit_is(&kit.follower, NULL, 1, "k", "in b"));
    cr_assert(kv_kit_is(&kit.follower, NULL, 1, "k2", "in b"));
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k2", NULL));
    follow_kit_release(&kit);
}

Test(follow, another_database_in_the_same_place_is_refused)
{
    struct follow_kit kit;
    struct kv_buf names = {0};
    follow_kit_init(&kit);
    follow_kit_open(&kit);
    kv_kit_put(&kit.writer, 0, "k", "v");
    follow_kit_refresh(&kit);
    kv_kit_close(&kit.writer);
    struct kv_kit other;
    kv_kit_init(&other, NULL);
    clock_manual_release(&other.clock);
    clock_manual_init(&other.clock, 1700000000000, 99);
    kv_kit_must_open(&other);
    kv_kit_put(&other, 0, "k", "of another");
    kv_kit_close(&other);
    /* Its manifest comes to stand where the first one's was. */
    struct kv_buf bytes = {0}, name = {0};
    uint64_t generation = 0;
    struct kv_dir *dir = NULL;
    cr_assert_eq(file_kit_list(other.own, "db", ".man", &names), 1);
    file_kit_read(other.own, "db", (char *)names.data, &bytes);
    file_kit_write(kit.writer.own, "db", "900000.man", kv_buf_slice(&bytes));
    cr_assert_eq(kv_vfs_dir_open(kit.writer.own, "db", false, &dir, NULL), KV_OK);
    cr_assert_eq(dir->ops->published(dir, &name, &generation, NULL), KV_OK);
    cr_assert_eq(dir->ops->publish(dir, KV_STR("900000.man"), generation, NULL), KV_OK);
    kv_dir_close(dir);
    cr_assert_eq(follow_kit_try_refresh(&kit), KV_INVALID);
    cr_assert(strstr(kit.follower.err.text, "another database"), "%s", kit.follower.err.text);
    cr_assert(kv_kit_is(&kit.follower, NULL, 0, "k", "v"));
    kv_buf_release(&names);
    kv_buf_release(&bytes);
    kv_buf_release(&name);
    kv_kit_release(&other);
    follow_kit_release(&kit);
}

/* ---- each operation and each allocation failing */

/* The follower has seen round 0, and then rounds 1 and 2 have come, through new log, table, value log and manifest files. */
static void sweep_begin(struct follow_kit *kit)
{
    follow_kit_init(kit);
    kit->writer.options.large_value_bytes = 1024;
    kit->writer.options.log_file_bytes = 8 << 10;
    kit->writer.spaces[1].value_separate_bytes = 128;
    follow_kit_open(kit);
    write_everything(&kit->writer, 0);
    follow_kit_refresh(kit);
    write_everything(&kit->writer, 1);
    cr_assert_eq(kv_flush(kit->writer.db, NULL), KV_OK);
    write_everything(&kit->writer, 2);
    kv_kit_reopen(&kit->writer);
    kv_kit_put(&kit->writer, 0, "bulk1", "newer");
}

static void sweep_end(struct follow_kit *kit, kv_status rc, uint64_t nth)
{
    cr_assert(rc == KV_OK || rc == KV_IO || rc == KV_NO_MEMORY, "%llu: %s", (unsigned long long)nth,
              kit->follower.err.text);
    if (rc < 0) {
        cr_assert(kit->follower.err.text[0] != 0);
        cr_assert(kv_kit_is(&kit->follower, NULL, 0, "bulk1", "even"), "%llu", (unsigned long long)nth);
        cr_assert(kv_kit_is(&kit->follower, NULL, 1, "k00005", NULL));
        cr_assert(kv_kit_is(&kit->follower, NULL, 1, "k00020", NULL), "of round 1");
    }
    follow_kit_same(kit);
    follow_kit_release(kit);
}

Test(follow, each_operation_of_a_refresh_fails, .timeout = 600)
{
    for (uint64_t nth = 1;; nth++) {
        struct follow_kit kit;
        sweep_begin(&kit);
        vfs_fault_plan(kit.reads, &(struct vfs_fault_plan){.nth = nth});
        kv_status rc = follow_kit_try_refresh(&kit);
        bool fired = vfs_fault_fired(kit.reads);
        cr_assert(fired == (rc < 0));
        vfs_fault_plan(kit.reads, NULL);
        sweep_end(&kit, rc, nth);
        if (!fired)
            break;
    }
}

Test(follow, each_operation_of_an_open_fails, .timeout = 600)
{
    for (uint64_t nth = 1;; nth++) {
        struct follow_kit kit;
        sweep_begin(&kit);
        kv_kit_close(&kit.follower);
        vfs_fault_plan(kit.reads, &(struct vfs_fault_plan){.nth = nth});
        kv_status rc = follow_kit_try_open(&kit);
        bool fired = vfs_fault_fired(kit.reads);
        cr_assert(fired == (rc < 0) && (rc == KV_OK || rc == KV_IO), "%s", kit.follower.err.text);
        vfs_fault_plan(kit.reads, NULL);
        if (rc < 0)
            follow_kit_open(&kit);
        follow_kit_same(&kit);
        follow_kit_release(&kit);
        if (!fired)
            break;
    }
}

/* Each place once (with SWEEP_ALL=1 each allocation), a growth of anything too. */
static void allocations_fail(bool open)
{
    struct fault_sites *sites = fault_sites_new();
    bool fired = true;
    for (uint64_t nth = 1; fired; nth++) {
        struct follow_kit kit;
        sweep_begin(&kit);
        if (open)
            kv_kit_close(&kit.follower);
        fault_arm(NULL, NULL, sweep_all() ? NULL : sites, nth);
        kv_status rc = open ? follow_kit_try_open(&kit) : follow_kit_try_refresh(&kit);
        fired = fault_disarm(NULL, NULL);
        if (!open) {
            sweep_end(&kit, rc, nth);
            continue;
        }
        cr_assert(rc == KV_OK || (rc == KV_NO_MEMORY && fired), "%s", kit.follower.err.text);
        if (rc < 0)
            follow_kit_open(&kit);
        follow_kit_same(&kit);
        follow_kit_release(&kit);
    }
    fault_sites_free(sites);
}

Test(follow, each_allocation_of_a_refresh_fails, .timeout = 600)
{
    allocations_fail(false);
}

Test(follow, each_allocation_of_an_open_fails, .timeout = 600)
{
    allocations_fail(true);
}
