#include "tests/support/log_kit.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/vfs_crash.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static const struct log_kit_options group_options = {.durability = KV_DURABILITY_GROUP};

/* ---- one committer, nothing fails */

Test(commit, answers_in_sequence_and_applies_what_it_logged)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct log_kit kit;
    struct kv_err err = {0};
    cr_assert_eq(log_kit_open(&kit, disk, &group_options, &err), KV_OK, "%s", err.text);
    for (uint64_t id = 1; id <= 20; id++) {
        uint64_t seq = 0;
        cr_assert_eq(log_kit_commit(&kit, id, &seq, &err), KV_OK, "%s", err.text);
        cr_assert_eq(seq, id);
        cr_assert_eq(kv_committer_visible(kit.committer), id);
        cr_assert_eq(kit.applied.n, id);
        cr_assert_eq(kit.applied.ids[id - 1], id);
    }
    cr_assert_eq(log_kit_close(&kit, &err), KV_OK, "%s", err.text);
    cr_assert_eq(log_kit_open(&kit, disk, &group_options, &err), KV_OK, "%s", err.text);
    cr_assert_eq(kit.recovered.n, 20);
    cr_assert_eq(kv_committer_visible(kit.committer), 20);
    cr_assert_eq(log_kit_close(&kit, &err), KV_OK);
    kv_vfs_mem_free(disk);
}

Test(commit, refuses_what_it_could_not_replay)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct log_kit kit;
    struct kv_batch *batch;
    struct kv_err err;
    cr_assert_eq(log_kit_open(&kit, disk, &group_options, NULL), KV_OK);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_committer_commit(kit.committer, batch, NULL, NULL, &err), KV_INVALID);
    cr_assert_eq(kv_committer_commit(kit.committer, NULL, NULL, NULL, &err), KV_INVALID);
    cr_assert_eq(kv_batch_put(batch, 7, KV_STR("k"), KV_STR("v")), KV_OK);
    cr_assert_eq(kv_committer_commit(kit.committer, batch, NULL, NULL, &err), KV_INVALID);
    kv_batch_clear(batch);
    struct kv_commit_options huge = {.record = kv_slice_of("", (size_t)KV_COMMIT_BYTES_MAX + 1)};
    cr_assert_eq(kv_committer_commit(kit.committer, NULL, &huge, NULL, &err), KV_LIMIT,
                 "before a byte is read");
    uint64_t seq;
    cr_assert_eq(log_kit_commit(&kit, 1, &seq, NULL), KV_OK);
    cr_assert_eq(seq, 1, "refused commits use no sequence");
    kv_batch_free(batch);
    cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
    kv_vfs_mem_free(disk);
}

struct prepare_ctx {
    uint64_t seq;
    kv_status answer;
    int undone;
    kv_slice record;
};

static kv_status prepare_put(void *ctx, uint64_t seq, struct kv_batch *batch, kv_slice *record)
{
    struct prepare_ctx *p = ctx;
    p->seq = seq;
    log_kit_batch(batch, 21);
    *record = p->record;
    return p->answer;
}

static void prepare_undo(void *ctx)
{
    ((struct prepare_ctx *)ctx)->undone++;
}

Test(commit, prepare_knows_the_sequence_and_may_fill_batch_and_record)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct log_kit kit;
    struct kv_batch *batch;
    struct kv_buf buf = {0};
    struct prepare_ctx p = {.record = log_kit_record(&buf, 21), .answer = KV_LIMIT};
    struct kv_commit_options options = {.prepare = prepare_put, .undo = prepare_undo, .ctx = &p};
    uint64_t seq;
    cr_assert_eq(log_kit_open(&kit, disk, &group_options, NULL), KV_OK);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_committer_commit(kit.committer, batch, &options, &seq, NULL), KV_LIMIT);
    cr_assert_eq(p.undone, 0, "prepare itself refused");
    p.answer = KV_OK;
    cr_assert_eq(kv_committer_commit(kit.committer, batch, &options, &seq, NULL), KV_OK);
    cr_assert(p.seq == 1 && seq == 1);
    kit.room_answer = KV_BUSY;
    cr_assert_eq(kv_committer_commit(kit.committer, batch, &options, &seq, NULL), KV_BUSY);
    cr_assert_eq(p.undone, 1);
    kit.room_answer = KV_OK;
    cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
    cr_assert_eq(log_kit_open(&kit, disk, &group_options, NULL), KV_OK);
    cr_assert(kit.recovered.n == 1 && kit.recovered.ids[0] == 21);
    cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
    kv_batch_free(batch);
    kv_buf_release(&buf);
    kv_vfs_mem_free(disk);
}

struct run_ctx {
    struct log_kit *kit;
    uint64_t seq, visible;
    kv_status answer;
};

static kv_status note_run(void *ctx, uint64_t seq, struct kv_err *err)
{
    struct run_ctx *run = ctx;
    run->seq = seq;
    run->visible = kv_committer_visible(run->kit->committer);
    return run->answer < 0 ? kv_fail(err, run->answer, 0, "as asked") : run->answer;
}

Test(commit, exclusive_burns_a_logged_sequence_that_shows_after_its_run)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct log_kit kit;
    cr_assert_eq(log_kit_open(&kit, disk, &group_options, NULL), KV_OK);
    struct run_ctx run = {.kit = &kit};
    cr_assert_eq(log_kit_commit(&kit, 1, NULL, NULL), KV_OK);
    cr_assert_eq(kv_committer_exclusive(kit.committer, true, note_run, &run, NULL), KV_OK);
    cr_assert(run.seq == 2 && run.visible == 1);
    cr_assert_eq(kv_committer_visible(kit.committer), 2);
    run.answer = KV_BUSY;
    cr_assert_eq(kv_committer_exclusive(kit.committer, true, note_run, &run, NULL), KV_BUSY);
    cr_assert_eq(kv_committer_visible(kit.committer), 3, "used up all the same");
    cr_assert_eq(kv_committer_exclusive(kit.committer, false, note_run, &run, NULL), KV_BUSY);
    cr_assert_eq(run.seq, 0);
    uint64_t seq;
    log_kit_seen_release(&kit.applied);
    cr_assert_eq(log_kit_commit(&kit, 2, &seq, NULL), KV_OK);
    cr_assert_eq(seq, 4);
    cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
    cr_assert_eq(log_kit_open(&kit, disk, &group_options, NULL), KV_OK);
    cr_assert_eq(kit.recovered.n, 4, "gapless: burned sequences are replayed as commits of nothing");
    cr_assert(kit.recovered.ids[1] == 0 && kit.recovered.ids[2] == 0 && kit.recovered.ids[3] == 2);
    cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
    kv_vfs_mem_free(disk);
}

/* ---- several threads */

struct sender {
    kv_thread thread;
    struct log_kit *kit;
    uint64_t id, seq;
    kv_status answer;
    _Atomic bool done;
    int undone_as;
};

static _Atomic int prepared_count, undone_count;

static kv_status count_prepare(void *ctx, uint64_t seq, struct kv_batch *batch, kv_slice *record)
{
    struct sender *sender = ctx;
    (void)batch, (void)record;
    sender->seq = seq;
    atomic_fetch_add(&prepared_count, 1);
    return KV_OK;
}

static void count_undo(void *ctx)
{
    ((struct sender *)ctx)->undone_as = atomic_fetch_add(&undone_count, 1) + 1;
}

static void sender_main(void *ctx)
{
    struct sender *sender = ctx;
    struct kv_batch *batch;
    struct kv_buf buf = {0};
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    log_kit_batch(batch, sender->id);
    struct kv_commit_options options = {.record = log_kit_record(&buf, sender->id),
                                        .prepare = count_prepare,
                                        .undo = count_undo,
                                        .ctx = sender};
    sender->answer = kv_committer_commit(sender->kit->committer, batch, &options, NULL, NULL);
    sender->done = true;
    kv_batch_free(batch);
    kv_buf_release(&buf);
}

static void sender_start(struct sender *sender, struct log_kit *kit, uint64_t id)
{
    *sender = (struct sender){.kit = kit, .id = id};
    cr_assert_eq(kv_thread_start(&sender->thread, "sender", 0, sender_main, sender), KV_OK);
}

static void wait_prepared(int n)
{
    while (atomic_load(&prepared_count) < n)
        kv_clock_sleep_ns(kv_clock_system(), 100000);
}

/* One group is held in its sync, others wait behind it. */
static void hold_group(struct vfs_fault *fault, struct log_kit *kit, struct sender *senders, int n)
{
    vfs_fault_stall_syncs(fault, true);
    sender_start(&senders[0], kit, 1);
    vfs_fault_wait_stalled(fault);
    for (int i = 1; i < n; i++) {
        sender_start(&senders[i], kit, (uint64_t)i + 1);
        wait_prepared(i + 1);
    }
}

Test(commit, answers_nothing_before_its_sync_returned_and_shares_syncs)
{
    enum { N = 6 };
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(disk);
    struct sender senders[N];
    struct log_kit kit;
    cr_assert_eq(
        log_kit_open(&kit, vfs_fault_as_vfs(fault), &(struct log_kit_options){.file_bytes = 1 << 20}, NULL),
        KV_OK);
    uint64_t before = vfs_fault_count(fault, VFS_OP_SYNC);
    hold_group(fault, &kit, senders, N);
    for (int i = 0; i < N; i++)
        cr_assert(!senders[i].done);
    cr_assert_eq(kv_committer_visible(kit.committer), 0);
    vfs_fault_stall_syncs(fault, false);
    for (int i = 0; i < N; i++) {
        kv_thread_join(&senders[i].thread);
        cr_assert_eq(senders[i].answer, KV_OK);
        cr_assert_eq(senders[i].seq, (uint64_t)i + 1);
    }
    cr_assert_eq(vfs_fault_count(fault, VFS_OP_SYNC) - before, 2,
                 "one for the first, one for all that waited");
    struct kv_committer_stats stats;
    kv_committer_stats(kit.committer, &stats);
    cr_assert(stats.commits == N && stats.groups == 2 && stats.group_max == N - 1);
    cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
    vfs_fault_free(fault);
    kv_vfs_mem_free(disk);
}

Test(commit, failed_group_is_undone_newest_first_with_all_behind_it)
{
    enum { N = 5 };
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(disk);
    struct sender senders[N];
    struct log_kit kit;
    cr_assert_eq(log_kit_open(&kit, vfs_fault_as_vfs(fault), &group_options, NULL), KV_OK);
    hold_group(fault, &kit, senders, N);
    vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = 1, .ops = VFS_OP_SYNC, .sticky = true});
    vfs_fault_stall_syncs(fault, false);
    for (int i = 0; i < N; i++) {
        kv_thread_join(&senders[i].thread);
        cr_assert_eq(senders[i].undone_as, N - i);
        cr_assert_eq(senders[i].answer, i == 0 ? KV_UNKNOWN_OUTCOME : KV_READ_ONLY);
    }
    struct kv_err err;
    cr_assert_eq(kv_committer_health(kit.committer, &err), KV_READ_ONLY);
    cr_assert_eq(log_kit_commit(&kit, 9, NULL, &err), KV_READ_ONLY);
    cr_assert_eq(kv_committer_visible(kit.committer), 0);
    vfs_fault_plan(fault, NULL);
    log_kit_abandon(&kit);
    vfs_fault_free(fault);
    kv_vfs_mem_free(disk);
}

static void run_failed_sync_is_survived_by_writing_the_group_again_elsewhere(void)
{
    for (int kind = VFS_FAULT_SYNC_KEEPS; kind <= VFS_FAULT_SYNC_REVERTS; kind++) {
        struct kv_vfs *disk = kv_vfs_mem_new();
        struct vfs_fault *fault = vfs_fault_new(disk);
        struct log_kit kit;
        cr_assert_eq(log_kit_open(&kit, vfs_fault_as_vfs(fault), &group_options, NULL), KV_OK);
        cr_assert_eq(log_kit_commit(&kit, 1, NULL, NULL), KV_OK);
        vfs_fault_plan(
            fault, &(struct vfs_fault_plan){.nth = 1, .glob = "*.log", .kind = (enum vfs_fault_kind)kind});
        uint64_t seq;
        cr_assert_eq(log_kit_commit(&kit, 2, &seq, NULL), KV_OK);
        cr_assert(vfs_fault_fired(fault) && seq == 2);
        struct kv_log_stats stats;
        kv_log_stats(kit.log, &stats);
        cr_assert_eq(stats.rewrites, 1);
        cr_assert_eq(log_kit_commit(&kit, 3, NULL, NULL), KV_OK);
        struct kv_vfs *crashed = kv_vfs_mem_crash_clone(disk);
        struct log_kit again;
        struct kv_err err = {0};
        cr_assert_eq(log_kit_open(&again, crashed, &group_options, &err), KV_OK, "%s", err.text);
        cr_assert_eq(again.recovered.n, 3);
        cr_assert_eq(log_kit_close(&again, NULL), KV_OK);
        kv_vfs_mem_free(crashed);
        cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
        vfs_fault_free(fault);
        kv_vfs_mem_free(disk);
    }
}

Test(commit, failed_sync_is_survived_by_writing_the_group_again_elsewhere)
{
    run_failed_sync_is_survived_by_writing_the_group_again_elsewhere();
}

Test(commit, failed_sync_of_an_encrypted_log_is_survived)
{
    log_kit_encrypt();
    run_failed_sync_is_survived_by_writing_the_group_again_elsewhere();
}

/* A file system that kept half of a refused group: its whole records must not come back once it was refused. */
Test(commit, refused_records_that_reached_the_file_are_sealed_off)
{
    enum { N = 7 };
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(disk);
    struct sender senders[N];
    struct log_kit kit;
    struct log_kit_history history = {0};
    struct kv_err err = {0};
    cr_assert_eq(
        log_kit_open(&kit, vfs_fault_as_vfs(fault), &(struct log_kit_options){.file_bytes = 1 << 20}, NULL),
        KV_OK);
    hold_group(fault, &kit, senders, N);
    vfs_fault_plan(fault,
                   &(struct vfs_fault_plan){.nth = 1, .ops = VFS_OP_APPEND, .kind = VFS_FAULT_SHORT_ENOSPC});
    vfs_fault_stall_syncs(fault, false);
    for (int i = 0; i < N; i++) {
        kv_thread_join(&senders[i].thread);
        cr_assert_eq(senders[i].answer, i == 0 ? KV_OK : KV_NO_SPACE, "%s",
                     kv_status_name(senders[i].answer));
        log_kit_history_add(&history,
                            (struct log_kit_sent){senders[i].id, senders[i].seq, 0, senders[i].answer});
    }
    struct log_kit_sent sent = {.id = 50, .answer = log_kit_commit(&kit, 50, &sent.seq, &err)};
    cr_assert(sent.answer == KV_OK && sent.seq == 2, "%s", err.text);
    log_kit_history_add(&history, sent);
    struct log_kit again;
    cr_assert_eq(log_kit_open(&again, disk, &group_options, &err), KV_OK, "%s", err.text);
    const char *wrong = log_kit_judge(&again.recovered, &history, UINT64_MAX, 0);
    cr_assert_null(wrong, "%s", wrong);
    cr_assert_eq(again.recovered.n, 2);
    log_kit_abandon(&again);
    log_kit_abandon(&kit);
    log_kit_history_release(&history);
    vfs_fault_free(fault);
    kv_vfs_mem_free(disk);
}

Test(commit, log_files_have_durable_names_before_an_answer)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct log_kit kit;
    struct kv_file *file;
    struct kv_dir *dir;
    cr_assert_eq(
        log_kit_open(&kit, disk, &(struct log_kit_options){.loose_manifest = true, .file_bytes = 1}, NULL),
        KV_OK);
    for (uint64_t id = 1; id <= 3; id++)
        cr_assert_eq(log_kit_commit(&kit, id, NULL, NULL), KV_OK);
    struct kv_vfs *crashed = kv_vfs_mem_crash_clone(disk);
    cr_assert_eq(kv_vfs_dir_open(crashed, "db", false, &dir, NULL), KV_OK);
    for (uint64_t number = 1; number <= 3; number++) {
        char name[KV_LOG_NAME_MAX];
        kv_log_name(name, number);
        cr_assert_eq(kv_dir_open_file(dir, name, &file, NULL), KV_OK, "%s", name);
        kv_file_close(file);
    }
    kv_dir_close(dir);
    kv_vfs_mem_free(crashed);
    cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
    kv_vfs_mem_free(disk);
}

/* ---- the disk's floor */

Test(commit, below_the_floor_refuses_but_takes_deletes_and_resumes_by_itself)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(disk);
    struct log_kit kit;
    struct kv_err err;
    struct kv_batch *batch;
    uint64_t seq;
    cr_assert_eq(log_kit_open(&kit, vfs_fault_as_vfs(fault),
                              &(struct log_kit_options){.disk_reserve_bytes = 1 << 20}, NULL),
                 KV_OK);
    cr_assert_eq(log_kit_commit(&kit, 1, NULL, NULL), KV_OK);
    vfs_fault_set_free_bytes(fault, (1 << 20) - 1);
    cr_assert_eq(log_kit_commit(&kit, 2, NULL, &err), KV_NO_SPACE);
    cr_assert(strstr(err.text, "1048575 bytes free") && strstr(err.text, "1048576"), "%s", err.text);
    cr_assert_eq(kv_committer_health(kit.committer, NULL), KV_NO_SPACE);
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    log_kit_batch(batch, 3);
    struct kv_commit_options urgent = {.past_floor = true};
    cr_assert_eq(kv_committer_commit(kit.committer, batch, &urgent, &seq, NULL), KV_OK);
    cr_assert_eq(seq, 2, "the refused one gave its sequence back");
    cr_assert_eq(log_kit_commit(&kit, 4, NULL, &err), KV_NO_SPACE);
    vfs_fault_set_free_bytes(fault, 1 << 30);
    cr_assert_eq(kv_committer_tick(kit.committer, NULL), KV_OK);
    cr_assert_eq(kv_committer_health(kit.committer, NULL), KV_OK);
    cr_assert_eq(log_kit_commit(&kit, 5, &seq, NULL), KV_OK);
    cr_assert_eq(seq, 3);
    cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
    kv_batch_free(batch);
    vfs_fault_free(fault);
    kv_vfs_mem_free(disk);
}

static void run_full_disk_in_the_middle_of_a_write_stores_nothing_and_is_survived(void)
{
    for (uint64_t capacity = 0; capacity < 3000; capacity += 40) {
        struct kv_vfs *disk = kv_vfs_mem_new();
        struct vfs_fault *fault = vfs_fault_new(disk);
        struct log_kit kit;
        struct kv_err err = {0};
        struct log_kit_history history = {0};
        cr_assert_eq(log_kit_open(&kit, vfs_fault_as_vfs(fault), &group_options, NULL), KV_OK);
        vfs_fault_set_capacity(fault, 1000 + capacity);
        for (uint64_t id = 1; id <= 30; id++) {
            struct log_kit_sent sent = {.id = id};
            if (id == 20)
                vfs_fault_set_capacity(fault, 0);
            sent.answer = log_kit_commit(&kit, id, &sent.seq, &err);
            cr_assert(sent.answer == KV_OK || sent.answer == KV_NO_SPACE ||
                          sent.answer == KV_UNKNOWN_OUTCOME || sent.answer == KV_READ_ONLY,
                      "%s: %s", kv_status_name(sent.answer), err.text);
            log_kit_history_add(&history, sent);
        }
        bool dead = kv_committer_health(kit.committer, NULL) == KV_READ_ONLY;
        cr_assert(dead || history.items[29].answer == KV_OK, "writing resumes by itself");
        log_kit_abandon(&kit);
        struct kv_vfs *crashed = kv_vfs_mem_crash_clone(disk);
        cr_assert_eq(log_kit_open(&kit, crashed, &group_options, &err), KV_OK, "%s", err.text);
        const char *wrong = log_kit_judge(&kit.recovered, &history, UINT64_MAX, 0);
        cr_assert_null(wrong, "capacity %" PRIu64 ": %s", capacity, wrong);
        cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
        log_kit_history_release(&history);
        kv_vfs_mem_free(crashed);
        vfs_fault_free(fault);
        kv_vfs_mem_free(disk);
    }
}

Test(commit, full_disk_in_the_middle_of_a_write_stores_nothing_and_is_survived)
{
    run_full_disk_in_the_middle_of_a_write_stores_nothing_and_is_survived();
}

Test(commit, full_disk_under_an_encrypted_log_stores_nothing)
{
    log_kit_encrypt();
    run_full_disk_in_the_middle_of_a_write_stores_nothing_and_is_survived();
}

/* ---- weaker durabilities */

Test(commit, interval_answers_before_the_sync_and_syncs_when_due)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(disk);
    struct log_kit kit;
    const struct log_kit_options options = {.durability = KV_DURABILITY_INTERVAL,
                                            .sync_interval_ms = 1000,
                                            .no_thread = true,
                                            .file_bytes = 1 << 20};
    cr_assert_eq(log_kit_open(&kit, vfs_fault_as_vfs(fault), &options, NULL), KV_OK);
    uint64_t syncs = vfs_fault_count(fault, VFS_OP_SYNC);
    for (uint64_t id = 1; id <= 4; id++)
        cr_assert_eq(log_kit_commit(&kit, id, NULL, NULL), KV_OK);
    cr_assert_eq(kv_committer_tick(kit.committer, NULL), KV_OK);
    cr_assert_eq(vfs_fault_count(fault, VFS_OP_SYNC), syncs);
    clock_manual_advance_ms(&kit.clock, 1000);
    cr_assert_eq(kv_committer_tick(kit.committer, NULL), KV_OK);
    cr_assert_eq(vfs_fault_count(fault, VFS_OP_SYNC), syncs + 1);
    cr_assert_eq(log_kit_commit(&kit, 5, NULL, NULL), KV_OK);
    /* A failed sync takes what was answered since the last one along. */
    vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = 1, .kind = VFS_FAULT_SYNC_KEEPS});
    cr_assert_eq(kv_committer_sync(kit.committer, NULL), KV_OK);
    cr_assert(vfs_fault_fired(fault));
    struct kv_vfs *crashed = kv_vfs_mem_crash_clone(disk);
    struct log_kit again;
    cr_assert_eq(log_kit_open(&again, crashed, &options, NULL), KV_OK);
    cr_assert_eq(again.recovered.n, 5);
    cr_assert_eq(log_kit_close(&again, NULL), KV_OK);
    kv_vfs_mem_free(crashed);
    cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
    vfs_fault_free(fault);
    kv_vfs_mem_free(disk);
}

Test(commit, interval_thread_syncs_without_being_asked)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(disk);
    struct log_kit kit;
    const struct log_kit_options options = {
        .durability = KV_DURABILITY_INTERVAL, .sync_interval_ms = 10, .file_bytes = 1 << 20};
    cr_assert_eq(log_kit_open(&kit, vfs_fault_as_vfs(fault), &options, NULL), KV_OK);
    uint64_t syncs = vfs_fault_count(fault, VFS_OP_SYNC);
    cr_assert_eq(log_kit_commit(&kit, 1, NULL, NULL), KV_OK);
    while (vfs_fault_count(fault, VFS_OP_SYNC) == syncs)
        kv_clock_sleep_ns(kv_clock_system(), 1000000);
    cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
    vfs_fault_free(fault);
    kv_vfs_mem_free(disk);
}

static void run_os_syncs_at_roll_and_close_only_and_always_syncs_each(void)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(disk);
    struct log_kit kit;
    struct kv_log_stats stats;
    cr_assert_eq(log_kit_open(&kit, vfs_fault_as_vfs(fault),
                              &(struct log_kit_options){.durability = KV_DURABILITY_OS, .file_bytes = 4000},
                              NULL),
                 KV_OK);
    for (uint64_t id = 6; id <= 60; id++)
        cr_assert_eq(log_kit_commit(&kit, id, NULL, NULL), KV_OK);
    kv_log_stats(kit.log, &stats);
    cr_assert(stats.rolls > 2 && stats.syncs == stats.rolls, "%" PRIu64 " rolls, %" PRIu64 " syncs",
              stats.rolls, stats.syncs);
    cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
    struct kv_vfs *crashed = kv_vfs_mem_crash_clone(disk);
    cr_assert_eq(
        log_kit_open(&kit, crashed, &(struct log_kit_options){.durability = KV_DURABILITY_ALWAYS}, NULL),
        KV_OK);
    cr_assert_eq(kit.recovered.n, 55);
    cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
    kv_vfs_mem_free(crashed);
    vfs_fault_free(fault);
    kv_vfs_mem_free(disk);
}

Test(commit, os_syncs_at_roll_and_close_only_and_always_syncs_each)
{
    run_os_syncs_at_roll_and_close_only_and_always_syncs_each();
}

Test(commit, an_encrypted_log_syncs_as_a_plain_one)
{
    log_kit_encrypt();
    run_os_syncs_at_roll_and_close_only_and_always_syncs_each();
}

/* ---- everything that may fail, at every place */

enum { SCENARIO_COMMITS = 24 };

/* Moves the floor up in a durable edit, then removes what is below. */
static void scenario_trim(struct log_kit *kit, uint64_t floor)
{
    uint64_t before = kit->manifest.floor;
    kit->manifest.floor = floor;
    uint64_t first = kv_log_first_needed(kit->log, floor, floor);
    struct log_kit_manifest *m = &kit->manifest;
    size_t gone = 0;
    while (gone < m->n_seals && m->seals[gone].number < first)
        gone++;
    struct kv_log_seal *kept = malloc((m->n_seals + 1) * sizeof *kept);
    size_t n = m->n_seals;
    if (!kept) {
        m->floor = before;
        return;
    }
    memcpy(kept, m->seals, n * sizeof *kept);
    memmove(m->seals, m->seals + gone, (n - gone) * sizeof *kept);
    m->n_seals -= gone;
    m->edit++;
    if (log_kit_manifest_store(m, NULL) == KV_OK) {
        kv_status rc = kv_log_trim_below(kit->log, first, NULL);
        (void)rc; /* what could not be removed is a leftover */
    } else {
        m->floor = before;
        m->n_seals = n;
        memcpy(m->seals, kept, n * sizeof *kept);
    }
    free(kept);
}

/* Commits, trims, closes and opens again, whatever fails; notes every answer. */
static void scenario(struct kv_vfs *vfs, struct vfs_crash *crash, uint64_t first_id,
                     struct log_kit_history *history)
{
    struct log_kit kit;
    if (log_kit_open(&kit, vfs, &group_options, NULL) < 0)
        return;
    for (uint64_t id = first_id; id < first_id + SCENARIO_COMMITS; id++) {
        struct log_kit_sent sent = {.id = id};
        sent.answer = log_kit_commit(&kit, id, &sent.seq, NULL);
        sent.ops = crash ? vfs_crash_ops(crash) : 0;
        log_kit_history_add(history, sent);
        if (id == first_id + 12 && sent.answer == KV_OK && sent.seq > 4)
            scenario_trim(&kit, sent.seq - 4);
        if (id == first_id + 17 || sent.answer == KV_UNKNOWN_OUTCOME) {
            (void)log_kit_close(&kit, NULL);
            if (log_kit_open(&kit, vfs, &group_options, NULL) < 0)
                return;
        }
    }
    (void)log_kit_close(&kit, NULL);
}

/* Opens disk, judges, writes a little more, closes, opens and judges again. NULL: sound. */
static const char *recovers(struct kv_vfs *disk, const struct log_kit_history *history, uint64_t ops)
{
    static char text[400];
    struct log_kit kit;
    struct kv_err err = {0};
    if (log_kit_open(&kit, disk, &group_options, &err) < 0) {
        snprintf(text, sizeof text, "does not open: %s", err.text);
        return text;
    }
    const char *wrong = log_kit_judge(&kit.recovered, history, ops, kit.manifest.floor);
    uint64_t last = kv_committer_visible(kit.committer);
    for (uint64_t id = 501; id <= 503 && !wrong; id++)
        if (log_kit_commit(&kit, id, NULL, &err) < 0)
            wrong = err.text;
    if (log_kit_close(&kit, &err) < 0 && !wrong)
        wrong = err.text;
    if (!wrong && log_kit_open(&kit, disk, &group_options, &err) < 0)
        return "does not open a second time";
    if (wrong) {
        snprintf(text, sizeof text, "%s", wrong);
        return text;
    }
    uint64_t end = kit.recovered.first + kit.recovered.n;
    if (kit.recovered.n < 3 || end != last + 4 || kit.recovered.ids[kit.recovered.n - 1] != 503)
        wrong = "what was written after the recovery is lost";
    if (!wrong)
        wrong = log_kit_judge(&kit.recovered, history, ops, kit.manifest.floor);
    (void)log_kit_close(&kit, NULL);
    return wrong;
}

static void run_any_failing_operation_loses_nothing_answered(void)
{
    static const struct vfs_fault_plan plans[] = {
        {.kind = VFS_FAULT_EIO},          {.kind = VFS_FAULT_EIO, .sticky = true},
        {.kind = VFS_FAULT_ENOSPC},       {.kind = VFS_FAULT_ENOSPC, .sticky = true},
        {.kind = VFS_FAULT_SHORT_EIO},    {.kind = VFS_FAULT_SHORT_ENOSPC},
        {.kind = VFS_FAULT_SYNC_KEEPS},   {.kind = VFS_FAULT_SYNC_KEEPS, .sticky = true},
        {.kind = VFS_FAULT_SYNC_REVERTS}, {.kind = VFS_FAULT_SYNC_CLOSE},
        {.kind = VFS_FAULT_SYNC_LATE},
    };
    for (size_t p = 0; p < sizeof plans / sizeof plans[0]; p++) {
        bool fired = true;
        for (uint64_t nth = 1; fired; nth++) {
            struct kv_vfs *disk = kv_vfs_mem_new();
            struct vfs_fault *fault = vfs_fault_new(disk);
            struct log_kit_history history = {0};
            struct vfs_fault_plan plan = plans[p];
            plan.nth = nth;
            vfs_fault_plan(fault, &plan);
            scenario(vfs_fault_as_vfs(fault), NULL, 1, &history);
            fired = vfs_fault_fired(fault);
            vfs_fault_plan(fault, NULL);
            struct kv_vfs *crashed = kv_vfs_mem_crash_clone(disk);
            const char *wrong = recovers(crashed, &history, UINT64_MAX);
            /* A sync that lied cannot be survived with one copy: it must be noticed. */
            if (plan.kind == VFS_FAULT_SYNC_LATE && wrong && strstr(wrong, "does not open"))
                wrong = NULL;
            cr_assert_null(wrong, "plan %zu, operation %" PRIu64 ", power lost: %s", p, nth, wrong);
            if (plan.kind != VFS_FAULT_SYNC_REVERTS && plan.kind != VFS_FAULT_SYNC_LATE)
                wrong = recovers(disk, &history, UINT64_MAX);
            cr_assert_null(wrong, "plan %zu, operation %" PRIu64 ", killed: %s", p, nth, wrong);
            /* What a killed process left in the page cache was replayed: now it must be durable. */
            kv_vfs_mem_free(crashed);
            crashed = kv_vfs_mem_crash_clone(disk);
            if (plan.kind != VFS_FAULT_SYNC_REVERTS && plan.kind != VFS_FAULT_SYNC_LATE) {
                struct log_kit kit;
                struct kv_err err = {0};
                cr_assert_eq(log_kit_open(&kit, crashed, &group_options, &err), KV_OK,
                             "plan %zu, operation %" PRIu64 ", killed, power lost: %s", p, nth, err.text);
                (void)log_kit_close(&kit, NULL);
            }
            log_kit_history_release(&history);
            kv_vfs_mem_free(crashed);
            vfs_fault_free(fault);
            kv_vfs_mem_free(disk);
        }
    }
}

Test(commit, any_failing_operation_loses_nothing_answered, .timeout = 120)
{
    run_any_failing_operation_loses_nothing_answered();
}

Test(commit, any_failing_operation_under_an_encrypted_log_loses_nothing_answered, .timeout = 120)
{
    log_kit_encrypt();
    run_any_failing_operation_loses_nothing_answered();
}

static void run_any_failing_allocation_loses_nothing_answered(void)
{
    for (int sticky = 0; sticky < 2; sticky++) {
        bool fired = true;
        for (uint64_t nth = 1; fired; nth += sticky ? 7 : 1) {
            struct kv_vfs *disk = kv_vfs_mem_new();
            struct log_kit_history history = {0};
            malloc_fault_arm(nth, sticky);
            scenario(disk, NULL, 1, &history);
            fired = malloc_fault_disarm();
            struct kv_vfs *crashed = kv_vfs_mem_crash_clone(disk);
            const char *wrong = recovers(crashed, &history, UINT64_MAX);
            cr_assert_null(wrong, "allocation %" PRIu64 ": %s", nth, wrong);
            log_kit_history_release(&history);
            kv_vfs_mem_free(crashed);
            kv_vfs_mem_free(disk);
        }
    }
}

Test(commit, any_failing_allocation_loses_nothing_answered, .timeout = 120)
{
    run_any_failing_allocation_loses_nothing_answered();
}

Test(commit, any_failing_allocation_under_an_encrypted_log_loses_nothing_answered, .timeout = 120)
{
    log_kit_encrypt();
    run_any_failing_allocation_loses_nothing_answered();
}

static void run_power_lost_anywhere_loses_nothing_answered(void)
{
    enum { SEEDS = 8 };
    struct vfs_crash *crash = vfs_crash_new();
    struct log_kit_history history = {0};
    scenario(vfs_crash_as_vfs(crash), crash, 1, &history);
    uint64_t end = vfs_crash_ops(crash) + 1;
    for (int profile = 0; profile < VFS_CRASH_PROFILES; profile++)
        for (uint64_t k = 0; k <= end; k++)
            for (uint64_t seed = 0; seed < SEEDS; seed++) {
                struct kv_vfs *disk = vfs_crash_at(crash, k, seed, (enum vfs_crash_profile)profile);
                const char *wrong = recovers(disk, &history, k);
                cr_assert_null(wrong, "profile %d, change %" PRIu64 ", seed %" PRIu64 ": %s", profile, k,
                               seed, wrong);
                kv_vfs_mem_free(disk);
            }
    log_kit_history_release(&history);
    vfs_crash_free(crash);
}

Test(commit, power_lost_anywhere_loses_nothing_answered, .timeout = 120)
{
    run_power_lost_anywhere_loses_nothing_answered();
}

Test(commit, power_lost_anywhere_loses_nothing_answered_of_an_encrypted_log, .timeout = 120)
{
    log_kit_encrypt();
    run_power_lost_anywhere_loses_nothing_answered();
}

static void run_power_lost_again_in_recovery_loses_nothing_answered(void)
{
    static const char *const paths[] = {"db", NULL};
    struct vfs_crash *crash = vfs_crash_new();
    struct log_kit_history history = {0};
    scenario(vfs_crash_as_vfs(crash), crash, 1, &history);
    uint64_t end = vfs_crash_ops(crash) + 1;
    for (int profile = 0; profile < VFS_CRASH_PROFILES; profile++)
        for (uint64_t k = 5; k <= end; k += 11) {
            struct kv_vfs *disk = vfs_crash_at(crash, k, 1 + k % 5, (enum vfs_crash_profile)profile);
            struct vfs_crash *second = vfs_crash_new_from(disk, paths);
            struct log_kit kit;
            if (log_kit_open(&kit, vfs_crash_as_vfs(second), &group_options, NULL) == KV_OK)
                log_kit_abandon(&kit);
            for (uint64_t j = 0; j <= vfs_crash_ops(second) + 1; j++) {
                struct kv_vfs *again = vfs_crash_at(second, j, j % 6, (enum vfs_crash_profile)profile);
                const char *wrong = recovers(again, &history, k);
                cr_assert_null(wrong, "profile %d, change %" PRIu64 ", then %" PRIu64 ": %s", profile, k, j,
                               wrong);
                kv_vfs_mem_free(again);
            }
            vfs_crash_free(second);
            kv_vfs_mem_free(disk);
        }
    log_kit_history_release(&history);
    vfs_crash_free(crash);
}

Test(commit, power_lost_again_in_recovery_loses_nothing_answered, .timeout = 120)
{
    run_power_lost_again_in_recovery_loses_nothing_answered();
}

Test(commit, power_lost_again_loses_nothing_answered_of_an_encrypted_log, .timeout = 120)
{
    log_kit_encrypt();
    run_power_lost_again_in_recovery_loses_nothing_answered();
}
