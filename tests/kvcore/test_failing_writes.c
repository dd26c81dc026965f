/*
 * Everything that changes a database, or takes part in changes, with each place that allocates failing in turn, and each operation on the
 * disk: the answer says so, and the database holds what it held, or what it was to hold.
 *
 * The world: `a` levelled with history, expiry and values apart; `b` levelled with operands; `c` runs with cuts and a hook; `d` runs with
 * cuts, values apart and range deletions. All of them have several tables, and entries in memory.
 */
#include "kvcore/os/vfs.h"
#include "tests/support/failing_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { KEYS = 24, LONG = 200 };

static struct damage_dir files;
static const uint8_t master[KV_MASTER_KEY_LEN] = {7, 1, 4};
static bool encrypted;
static enum kv_durability durability;
static bool quiet;        /* nobody asks for texts */
static bool sticky, full; /* see failing_kit.h */

#define ERR (quiet ? NULL : &kit->err)

/* ---- the world */

static kv_status fold_text(void *ctx, kv_slice key, const kv_slice *value, const kv_slice *operands, size_t n,
                           struct kv_buf *out)
{
    kv_status rc = value ? kv_buf_append(out, *value) : KV_OK;
    (void)ctx, (void)key;
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        rc = kv_buf_append(out, operands[i]);
    return rc;
}
static const struct kv_merge_operator append_operator = {.fold = fold_text};

static size_t group_len(void *ctx, kv_slice key)
{
    (void)ctx;
    return key.len < 2 ? key.len : 2;
}

static kv_status hook_begin(void *ctx, kv_slice lower, kv_slice upper, void **merge)
{
    (void)lower, (void)upper;
    *merge = ctx;
    return KV_OK;
}

/* Every entry as it is: what a merge did shows nowhere. */
static kv_status hook_group(void *merge, const struct kv_hook_entry *entries, size_t n,
                            struct kv_hook_sink *sink)
{
    kv_status rc = KV_OK;
    (void)merge;
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        rc = sink->add(sink, entries[i].key, entries[i].value);
    return rc;
}

static void hook_end(void *merge, bool installed)
{
    (void)merge, (void)installed;
}
static const struct kv_hook same_hook = {NULL, group_len, hook_begin, hook_group, hook_end};

static size_t cut_len(kv_slice key)
{
    return key.len < 2 ? key.len : 2;
}

static void kit_of_world(struct kv_kit *kit, struct kv_vfs *vfs)
{
    kv_kit_init(kit, vfs);
    kit->spaces[0] = (struct kv_space_options){.name = "a",
                                               .style = KV_STYLE_LEVELLED,
                                               .compression = KV_COMPRESSION_NONE,
                                               .block_bytes = 512,
                                               .table_bytes = 1024,
                                               .level_base_bytes = 1024,
                                               .level_multiplier = 2,
                                               .level0_runs = 1,
                                               .versions_kept = 2,
                                               .value_separate_bytes = 64};
    kit->spaces[1] = kit->spaces[0];
    kit->spaces[1].name = "b";
    kit->spaces[1].merge = &append_operator;
    kit->spaces[1].versions_kept = 1;
    kit->spaces[2] = (struct kv_space_options){
        .name = "c", .block_bytes = 512, .hook = &same_hook, .cut_len = cut_len, .table_bytes = 1024};
    kit->spaces[3] = (struct kv_space_options){.name = "d",
                                               .compression = KV_COMPRESSION_SNAPPY,
                                               .block_bytes = 512,
                                               .cut_len = cut_len,
                                               .value_separate_bytes = 64};
    kit->options.n_spaces = 4;
    kit->options.log_file_bytes = 4096;
    kit->options.large_value_bytes = 256;
    kit->options.durability = durability;
    if (durability == KV_DURABILITY_INTERVAL)
        kit->options.sync_interval_ms = 1000;
    if (encrypted)
        kit->options.key.master_key = master;
}

static kv_slice key_of(int i, char out[8])
{
    snprintf(out, 8, "k%02d", i % 100);
    return kv_slice_str(out);
}

static kv_slice value_of(int i, char out[LONG])
{
    int n = snprintf(out, LONG, "value %d", i);
    memset(out + n, 'a' + i % 26, LONG - (size_t)n);
    return kv_slice_of(out, i % 3 == 0 ? LONG : (size_t)n);
}

static void fill(struct kv_kit *kit, int from, int to, int step, int salt)
{
    struct kv_batch *batch = NULL;
    char key[8], value[LONG];
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    for (int i = from; i < to; i += step) {
        struct kv_put_options with = {.expires_at_s = i % 7 == 1 ? 1700000000u + 3600u : 0,
                                      .meta = (uint8_t)i};
        cr_assert_eq(kv_batch_put_with(batch, 0, key_of(i, key), value_of(i + salt, value), &with), KV_OK);
        cr_assert_eq(i % 2 ? kv_batch_put(batch, 1, key_of(i, key), value_of(i + salt, value))
                           : kv_batch_merge(batch, 1, key_of(i, key), KV_STR("+operand")),
                     KV_OK);
        cr_assert_eq(kv_batch_put(batch, 2, key_of(i, key), value_of(i + salt, value)), KV_OK);
        cr_assert_eq(kv_batch_put(batch, 3, key_of(i, key), value_of(i + salt, value)), KV_OK);
    }
    struct kv_commit_options options = {.record = KV_STR("record")};
    cr_assert_eq(kv_commit(kit->db, batch, &options, NULL, &kit->err), KV_OK, "%s", kit->err.text);
    kv_batch_free(batch);
}

static void delete_range(struct kv_kit *kit, uint32_t space, const char *lower, const char *upper)
{
    struct kv_batch *batch = NULL;
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_delete_range(batch, space, kv_slice_str(lower), kv_slice_str(upper)), KV_OK);
    cr_assert_eq(kv_commit(kit->db, batch, NULL, NULL, &kit->err), KV_OK);
    kv_batch_free(batch);
}

static void life(struct kv_kit *kit)
{
    fill(kit, 0, KEYS, 1, 0);
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
    kv_kit_work_all(kit);
    fill(kit, 0, KEYS, 3, 5);
    kv_kit_delete(kit, 0, "k04");
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
    kv_kit_work_all(kit);
    kv_kit_bulk(kit, 3, (const char *const[]){"k07", "k08", "k09", "k11"}, 4, "loaded", 0);
    delete_range(kit, 3, "k05", "k08");
    delete_range(kit, 0, "k10", "k12");
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
    fill(kit, 2, KEYS, 5, 9);
    kv_kit_delete(kit, 1, "k05");
    delete_range(kit, 3, "k14", "k16");
    delete_range(kit, 0, "k15", "k17");
    cr_assert_eq(kv_ban_prefix(kit->db, 0, KV_STR("banned"), &kit->err), KV_OK);
}

static void world_make(void)
{
    struct kv_kit kit;
    kit_of_world(&kit, NULL);
    kv_kit_must_open(&kit);
    life(&kit);
    struct kv_vfs *clone = kv_vfs_mem_crash_clone(kit.own);
    damage_dir_load(&files, clone, "db");
    kv_vfs_mem_free(clone);
    kv_kit_release(&kit);
}

/* ---- deeds */

static kv_status do_commit(struct kv_kit *kit)
{
    struct kv_batch *batch = NULL;
    char value[LONG];
    struct kv_put_options with = {.expires_at_s = 1700000000u + 99, .meta = 3};
    struct kv_commit_options options = {.record = KV_STR("a record")};
    kv_status rc;
    KV_TRY(kv_batch_new(&batch));
    KV_TRY(kv_batch_put_with(batch, 0, KV_STR("k01"), value_of(3, value), &with));
    KV_TRY(kv_batch_put(batch, 0, KV_STR("k02"), KV_STR("")));
    KV_TRY(kv_batch_put(batch, 0, KV_STR("k02"), KV_STR("again")));
    KV_TRY(kv_batch_merge(batch, 1, KV_STR("k03"), KV_STR("+1")));
    KV_TRY(kv_batch_merge(batch, 1, KV_STR("k03"), KV_STR("+2")));
    KV_TRY(kv_batch_delete(batch, 2, KV_STR("k04")));
    KV_TRY(kv_batch_delete_range(batch, 3, KV_STR("k00"), KV_STR("k03")));
    KV_TRY(kv_commit(kit->db, batch, &options, NULL, ERR));
out:
    kv_batch_free(batch);
    return rc;
}

static kv_status asynced;

static void on_committed(void *ctx, kv_status rc, uint64_t version)
{
    (void)ctx, (void)version;
    asynced = rc;
}

static kv_status do_async(struct kv_kit *kit)
{
    struct kv_batch *batch = NULL;
    struct kv_commit_options options = {.record = KV_STR("a record")};
    kv_status rc;
    asynced = KV_OK;
    KV_TRY(kv_batch_new(&batch));
    KV_TRY(kv_batch_put(batch, 0, KV_STR("k01"), KV_STR("asynced")));
    KV_TRY(kv_commit_async(kit->db, batch, &options, on_committed, NULL, ERR));
    rc = kv_sync(kit->db, ERR);
    rc = asynced < 0 ? asynced : rc;
out:
    kv_batch_free(batch);
    return rc;
}

static kv_status txn_writes(struct kv_txn *txn, struct kv_err *err)
{
    struct kv_put_options with = {.meta = 9};
    kv_status rc;
    KV_TRY(kv_txn_put(txn, 0, KV_STR("k01"), KV_STR("mine"), err));
    KV_TRY(kv_txn_put_with(txn, 0, KV_STR("k03"), KV_STR("mine too"), &with, err));
    KV_TRY(kv_txn_merge(txn, 1, KV_STR("k02"), KV_STR("+txn"), err));
    KV_TRY(kv_txn_merge(txn, 1, KV_STR("k02"), KV_STR("+txn"), err));
    KV_TRY(kv_txn_delete(txn, 2, KV_STR("k05"), err));
    KV_TRY(kv_txn_delete_range(txn, 3, KV_STR("k08"), KV_STR("k10"), err));
out:
    return rc;
}

static kv_status txn_reads(struct kv_txn *txn, uint32_t space, struct kv_err *err)
{
    struct kv_iter *it = NULL;
    struct kv_pinned found = {0};
    char key[8];
    kv_status rc;
    for (int i = 0; i < KEYS; i += 2) {
        KV_TRY(kv_txn_get(txn, space, key_of(i, key), &found, err));
        kv_pinned_release(&found);
    }
    KV_TRY(kv_txn_iter_open(txn, space, KV_STR("k01"), KV_STR("k20"), &it));
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK;)
        rc = kv_iter_next(it);
    if (rc == KV_END)
        rc = kv_iter_seek_before(it, KV_STR("k18"));
    for (int i = 0; rc == KV_OK && i < 8; i++)
        rc = i < 6 ? kv_iter_prev(it) : kv_iter_next(it);
out:
    kv_iter_close(it);
    return rc == KV_END ? KV_OK : rc;
}

static kv_status do_txn(struct kv_kit *kit)
{
    struct kv_txn *txn = NULL;
    struct kv_txn_commit_options options = {.record = KV_STR("of a transaction"), .done = on_committed};
    kv_status rc;
    KV_TRY(kv_txn_begin(kit->db, NULL, &txn, ERR));
    for (uint32_t space = 0; space < 4; space++)
        KV_TRY(txn_reads(txn, space, ERR));
    KV_TRY(txn_writes(txn, ERR));
    for (uint32_t space = 0; space < 4; space++)
        KV_TRY(txn_reads(txn, space, ERR));
    KV_TRY(kv_txn_commit(txn, &options, NULL, ERR));
out:
    kv_txn_abort(txn);
    return rc;
}

/* Few bytes for what is read: it becomes ranges. Another commit is between. */
static kv_status do_txn_few(struct kv_kit *kit)
{
    struct kv_txn_options few = {.reads_bytes_max = 64 << 10};
    struct kv_txn *txn = NULL;
    struct kv_pinned found = {0};
    kv_status rc;
    KV_TRY(kv_txn_begin(kit->db, &few, &txn, ERR));
    for (int i = 0; i < 3000; i++) {
        char key[40];
        snprintf(key, sizeof key, "missing in the middle of nowhere %d", i);
        KV_TRY(kv_txn_get(txn, (uint32_t)i % 4, kv_slice_str(key), &found, ERR));
        kv_pinned_release(&found);
    }
    KV_TRY(kv_txn_put(txn, 0, KV_STR("k01"), KV_STR("mine"), ERR));
    KV_TRY(kv_txn_commit(txn, NULL, NULL, ERR));
out:
    kv_txn_abort(txn);
    return rc;
}

static kv_status do_txn_async(struct kv_kit *kit)
{
    struct kv_txn *txn = NULL;
    struct kv_txn_commit_options options = {.done = on_committed, .record = KV_STR("r")};
    kv_status rc;
    asynced = KV_OK;
    KV_TRY(kv_txn_begin(kit->db, NULL, &txn, ERR));
    KV_TRY(txn_reads(txn, 0, ERR));
    KV_TRY(txn_writes(txn, ERR));
    KV_TRY(kv_txn_commit_async(txn, &options, ERR));
    rc = kv_sync(kit->db, ERR);
    rc = asynced < 0 ? asynced : rc;
out:
    kv_txn_abort(txn);
    return rc;
}

static kv_status run_put(void *ctx, struct kv_txn *txn, struct kv_err *err)
{
    (void)ctx;
    return kv_txn_put(txn, 3, KV_STR("k00"), KV_STR("run"), err);
}

static kv_status do_txn_run(struct kv_kit *kit)
{
    return kv_txn_run(kit->db, NULL, 3, run_put, NULL, NULL, ERR);
}

static kv_status do_sequence(struct kv_kit *kit)
{
    struct kv_sequence *sequence = NULL;
    uint64_t number;
    kv_status rc;
    KV_TRY(kv_sequence_open(kit->db, 1, KV_STR("sequence"), 2, &sequence, ERR));
    for (int i = 0; i < 3; i++)
        KV_TRY(kv_sequence_next(sequence, &number, ERR));
    rc = kv_sequence_close(sequence, ERR);
    return rc;
out:
    (void)kv_sequence_close(sequence, NULL);
    return rc;
}

static kv_status do_writer(struct kv_kit *kit)
{
    struct kv_writer_options options = {.commit_entries = 3};
    struct kv_put_options with = {.meta = 1};
    struct kv_writer *writer = NULL;
    char key[8], value[LONG];
    kv_status rc;
    KV_TRY(kv_writer_open(kit->db, &options, &writer, ERR));
    for (int i = 0; i < 8; i++) {
        KV_TRY(kv_writer_put_with(writer, 3, key_of(i, key), value_of(i, value), &with, ERR));
        KV_TRY(kv_writer_delete(writer, 2, key_of(i, key), ERR));
    }
    KV_TRY(kv_writer_flush(writer, NULL, ERR));
    KV_TRY(kv_writer_put(writer, 3, KV_STR("k30"), KV_STR("last"), ERR));
    return kv_writer_close(writer, ERR);
out:
    if (writer)
        kv_writer_cancel(writer);
    (void)!kv_writer_close(writer, NULL);
    return rc;
}

static kv_status do_subscribe(struct kv_kit *kit)
{
    struct kv_prefix prefixes[] = {{0, KV_STR("k0")}, {0, KV_STR("k1")}, {3, KV_STR("")}, {2, KV_STR("k04")}};
    struct kv_subscription *subscription = NULL;
    struct kv_event event;
    int heard = 0;
    kv_status rc;
    KV_TRY(kv_subscribe(kit->db, prefixes, 4, 0, &subscription, NULL, ERR));
    KV_TRY(do_commit(kit));
    while ((rc = kv_subscription_next(subscription, 0, &event)) == KV_OK)
        heard++;
    cr_assert_eq(rc, KV_TIMEOUT);
    cr_assert_eq(heard, 4);
    rc = KV_OK;
out:
    kv_subscription_close(subscription);
    return rc;
}

static kv_status do_large(struct kv_kit *kit)
{
    struct kv_value_writer *writer = NULL;
    struct kv_value_reader *reader = NULL;
    struct kv_batch *batch = NULL;
    uint8_t piece[4000] = {1}, back[100];
    size_t got;
    kv_status rc;
    KV_TRY(kv_value_writer_open(kit->db, 0, &writer, ERR));
    for (int i = 0; i < 20; i++)
        KV_TRY(kv_value_writer_append(writer, kv_slice_of(piece, 200), ERR));
    KV_TRY(kv_value_writer_finish(writer, ERR));
    KV_TRY(kv_batch_new(&batch));
    KV_TRY(kv_batch_put_value(batch, 0, KV_STR("k01"), writer, NULL));
    KV_TRY(kv_commit(kit->db, batch, NULL, NULL, ERR));
    KV_TRY(kv_value_open(kit->db, NULL, 0, KV_STR("k01"), &reader, ERR));
    KV_TRY(kv_value_read_at(reader, 300, sizeof back, back, &got, ERR));
    cr_assert_eq(got, sizeof back);
    kv_value_close(reader);
    reader = NULL;
    KV_TRY(kv_value_open(kit->db, NULL, 3, KV_STR("k00"), &reader, ERR)); /* one that is not large */
    KV_TRY(kv_value_read_at(reader, 0, sizeof back, back, &got, ERR));
out:
    kv_value_close(reader);
    kv_batch_free(batch);
    kv_value_writer_free(writer);
    return rc;
}

static kv_status do_bulk(struct kv_kit *kit)
{
    struct kv_put_options with = {.meta = 5, .expires_at_s = 1700000000u + 500};
    struct kv_bulk *bulk = NULL;
    char key[8], value[LONG];
    kv_status rc;
    KV_TRY(kv_bulk_open(kit->db, 3, &bulk, ERR));
    for (int i = 0; i < KEYS; i++)
        KV_TRY(i % 2 ? kv_bulk_add(bulk, key_of(i, key), value_of(i + 1, value), ERR)
                     : kv_bulk_add_with(bulk, key_of(i, key), value_of(i + 1, value), &with, ERR));
    rc = kv_bulk_install(bulk, 2, NULL, ERR);
    return rc;
out:
    kv_bulk_abort(bulk);
    return rc;
}

static kv_status do_streams(struct kv_kit *kit)
{
    struct kv_stream_writer *writer = NULL;
    char key[8], value[LONG];
    kv_status rc;
    KV_TRY(kv_stream_writer_open(kit->db, 0, &writer, ERR));
    for (int i = 0; i < KEYS; i++)
        KV_TRY(
            kv_stream_writer_add(writer, i < 10 ? 1 : 0, key_of(i, key), value_of(i + 2, value), NULL, ERR));
    rc = kv_stream_writer_install(writer, NULL, ERR);
    return rc;
out:
    kv_stream_writer_abort(writer);
    return rc;
}

static kv_status do_drop_prefix(struct kv_kit *kit)
{
    return kv_drop_prefix(kit->db, 0, KV_STR("k0"), ERR);
}

static kv_status do_drop_all(struct kv_kit *kit)
{
    return kv_drop_all(kit->db, 3, ERR);
}

static kv_status do_drop_tables(struct kv_kit *kit)
{
    uint64_t bytes;
    return kv_drop_tables(kit->db, 2, KV_STR("k0"), KV_STR("k1"), &bytes, ERR);
}

static kv_status do_ban(struct kv_kit *kit)
{
    return kv_ban_prefix(kit->db, 3, KV_STR("k09"), ERR);
}

static kv_status do_unban(struct kv_kit *kit)
{
    return kv_unban_prefix(kit->db, 0, KV_STR("banned"), ERR);
}

static kv_status do_app_version(struct kv_kit *kit)
{
    return kv_set_app_version(kit->db, 8, ERR);
}

static kv_status do_rotate(struct kv_kit *kit)
{
    kv_status rc = encrypted ? kv_rotate_data_key(kit->db, ERR) : KV_OK;
    return rc == KV_OK ? do_commit(kit) : rc;
}

static kv_status do_work(struct kv_kit *kit)
{
    kv_status rc = kv_flush(kit->db, ERR);
    while (rc == KV_OK)
        rc = kv_work(kit->db, ERR);
    return rc == KV_END ? KV_OK : rc;
}

static kv_status do_merge(struct kv_kit *kit)
{
    kv_status rc = KV_OK;
    for (uint32_t space = 0; space < 4 && rc == KV_OK; space++)
        rc = kv_merge_range(kit->db, space, KV_STR("k02"), space % 2 ? KV_STR("k20") : (kv_slice){0}, ERR);
    return rc;
}

static kv_status do_gets(struct kv_kit *kit)
{
    struct kv_snapshot *snapshot = NULL;
    struct kv_pinned found = {0};
    uint64_t bytes;
    char key[8];
    kv_status rc;
    KV_TRY(kv_snapshot_open(kit->db, &snapshot));
    for (int i = 0; i < KEYS; i++)
        for (uint32_t space = 0; space < 4; space++) {
            KV_TRY(kv_get(kit->db, snapshot, space, key_of(i, key), &found, ERR));
            kv_pinned_release(&found);
            KV_TRY(kv_stored_bytes(kit->db, snapshot, space, key_of(i, key), &bytes, ERR));
        }
    rc = KV_OK;
out:
    kv_snapshot_close(snapshot);
    return rc;
}

static kv_status do_walks(struct kv_kit *kit)
{
    struct kv_iter *it = NULL;
    kv_status rc = KV_OK;
    for (int way = 0; way < 32 && rc == KV_OK; way++) {
        uint32_t space = (uint32_t)way % 4;
        struct kv_iter_options options = {.all_versions = way & 4 && space != 1,
                                          .keys_only = way & 8,
                                          .since = way & 16 ? 2 : 0,
                                          .lower = KV_STR("k01"),
                                          .upper = way & 8 ? KV_STR("k21") : (kv_slice){0}};
        KV_TRY(kv_iter_open_with(kit->db, space, &options, &it));
        for (rc = kv_iter_seek(it, KV_STR("k06")); rc == KV_OK;)
            rc = kv_iter_next(it);
        if (rc == KV_END)
            rc = kv_iter_seek_before(it, KV_STR("k12"));
        for (int i = 0; i < 6 && rc == KV_OK; i++)
            rc = i % 3 == 2 ? kv_iter_next(it) : kv_iter_prev(it);
        kv_iter_close(it);
        it = NULL;
        rc = rc == KV_END ? KV_OK : rc;
    }
out:
    kv_iter_close(it);
    return rc;
}

static kv_status do_report(struct kv_kit *kit)
{
    struct kv_health_report report;
    struct kv_range_estimate estimate;
    struct kv_buf text = {0};
    uint64_t n;
    kv_status rc = KV_OK;
    kv_health_report(kit->db, &report);
    KV_TRY(kv_health_text(&report, &text));
    for (uint32_t space = 0; space < 4; space++) {
        KV_TRY(kv_estimate(kit->db, space, KV_STR("k03"), KV_STR("k17"), &estimate, ERR));
        KV_TRY(kv_count(kit->db, NULL, space, KV_STR("k03"), (kv_slice){0}, &n, ERR));
    }
out:
    kv_buf_release(&text);
    return rc;
}

static kv_status do_reopen(struct kv_kit *kit)
{
    kv_status closed = kv_kit_close(kit), opened = kv_kit_open(kit);
    return closed < 0 ? closed : opened;
}

/* The spaces in another order. */
static kv_status do_open_grown(struct kv_kit *kit)
{
    struct kv_env_options how = {.vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE};
    struct kv_space_options spaces[] = {kit->spaces[3], kit->spaces[1], kit->spaces[0], kit->spaces[2]};
    struct kv_options options = kit->options;
    struct kv_env *env = NULL;
    struct kv_db *db = NULL;
    kv_status rc;
    options.spaces = spaces;
    options.n_spaces = 4;
    KV_TRY(kv_kit_close(kit));
    KV_TRY(kv_env_open(&how, &env, ERR));
    KV_TRY(kv_open(env, kit->path, &options, &db, ERR));
    rc = kv_close(db, ERR);
out:
    kv_env_close(env);
    return rc;
}

static kv_status do_open_reading(struct kv_kit *kit)
{
    struct kv_env_options how = {.vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE};
    struct kv_options options = kit->options;
    struct kv_env *env = NULL;
    struct kv_db *db = NULL;
    kv_status rc;
    options.read_only = true;
    KV_TRY(kv_kit_close(kit));
    KV_TRY(kv_env_open(&how, &env, ERR));
    KV_TRY(kv_open(env, kit->path, &options, &db, ERR));
    struct kv_db *was = kit->db;
    kit->db = db;
    rc = do_gets(kit);
    rc = rc < 0 ? rc : do_walks(kit);
    kit->db = was;
    (void)kv_close(db, NULL);
out:
    kv_env_close(env);
    return rc;
}

static const struct failing_deed deeds[] = {
    {"commit", do_commit, false},
    {"async", do_async, false},
    {"txn", do_txn, false},
    {"txn_few", do_txn_few, false},
    {"txn_async", do_txn_async, false},
    {"txn_run", do_txn_run, false},
    {"sequence", do_sequence, true},
    {"writer", do_writer, true},
    {"subscribe", do_subscribe, true},
    {"large", do_large, true},
    {"bulk", do_bulk, false},
    {"streams", do_streams, false},
    {"drop_prefix", do_drop_prefix, false},
    {"drop_all", do_drop_all, false},
    {"drop_tables", do_drop_tables, false},
    {"ban", do_ban, false},
    {"unban", do_unban, false},
    {"app_version", do_app_version, false},
    {"rotate", do_rotate, false},
    {"work", do_work, false},
    {"merge", do_merge, false},
    {"gets", do_gets, false},
    {"walks", do_walks, false},
    {"report", do_report, false},
    {"reopen", do_reopen, false},
    {"open_grown", do_open_grown, false},
    {"open_reading", do_open_reading, false},
};

static void sweep(bool memory)
{
    struct failing_world start = {.files = &files, .kit = kit_of_world, .sticky = sticky, .full = full};
    world_make();
    failing_sweep(&start, deeds, sizeof deeds / sizeof *deeds, memory);
    damage_dir_release(&files);
}

Test(failing_writes, any_allocation_fails, .timeout = 1200)
{
    sweep(true);
}

Test(failing_writes, any_operation_fails, .timeout = 1200)
{
    sweep(false);
}

Test(failing_writes, any_operation_fails_under_encryption, .timeout = 1200)
{
    encrypted = true;
    sweep(false);
}

Test(failing_writes, any_operation_fails_and_nobody_asks_why, .timeout = 1200)
{
    quiet = true;
    durability = KV_DURABILITY_ALWAYS;
    sweep(false);
}

Test(failing_writes, any_operation_fails_where_syncs_come_by_the_clock, .timeout = 1200)
{
    durability = KV_DURABILITY_INTERVAL;
    sweep(false);
}

Test(failing_writes, any_operation_fails_where_nothing_is_synced, .timeout = 1200)
{
    durability = KV_DURABILITY_OS;
    sweep(false);
}

Test(failing_writes, any_allocation_fails_and_all_that_come_after_it, .timeout = 1200)
{
    sticky = true;
    sweep(true);
}

Test(failing_writes, the_disk_fails_from_some_operation_on, .timeout = 1200)
{
    sticky = true;
    sweep(false);
}

Test(failing_writes, the_disk_fails_from_some_operation_on_where_nothing_is_synced, .timeout = 1200)
{
    sticky = true;
    quiet = true;
    durability = KV_DURABILITY_OS;
    sweep(false);
}

Test(failing_writes, the_disk_is_full_from_some_operation_on, .timeout = 1200)
{
    sticky = full = true;
    sweep(false);
}
