/* Maintenance by the clock: compaction, checks and backups, each when it is due and not before. */
#include "kvcore/base/mem.h"
#include "kvcore/db/db.h"
#include "tests/support/backup_kit.h"
#include "tests/support/file_kit.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { HOUR_S = 3600, DAY_S = 24 * HOUR_S };

static struct kv_job_report job_of(struct kv_kit *kit, enum kv_job job)
{
    struct kv_health_report report;
    kv_health_report(kit->db, &report);
    return report.jobs[job];
}

static void advance_s(struct kv_kit *kit, int64_t s)
{
    clock_manual_advance_ms(&kit->clock, s * 1000);
    while (kv_work(kit->db, &kit->err) != KV_END) /* what fails is in the report */
        ;
}

static void schedule(struct kv_kit *kit, const struct kv_maintenance_options *options)
{
    cr_assert_eq(kv_schedule(kit->db, options, &kit->err), KV_OK, "%s", kit->err.text);
}

static void fill(struct kv_kit *kit, int from, int n)
{
    char key[16];
    for (int i = from; i < from + n; i++) {
        snprintf(key, sizeof key, "k%05d", i);
        kv_kit_put(kit, 0, key, "a value of some length");
    }
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
}

Test(schedule, a_task_runs_once_a_period_and_not_before)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit, 0, 10);
    fill(&kit, 0, 10);
    advance_s(&kit, 10 * DAY_S);
    cr_assert_eq(job_of(&kit, KV_JOB_COMPACT).runs, 0, "nothing by itself");
    schedule(&kit, &(struct kv_maintenance_options){.compact_every_s = DAY_S});
    int64_t next_ms = job_of(&kit, KV_JOB_COMPACT).next_ms;
    cr_assert(next_ms >= kit.clock.wall_ms && next_ms <= kit.clock.wall_ms + DAY_S * 100, "never: soon");
    advance_s(&kit, DAY_S / 10 + 1);
    cr_assert_eq(job_of(&kit, KV_JOB_COMPACT).runs, 1);
    cr_assert_eq(kv_kit_stats(&kit, 0).tables, 1, "it was merged");
    advance_s(&kit, DAY_S * 8 / 10);
    cr_assert_eq(job_of(&kit, KV_JOB_COMPACT).runs, 1, "not before nine tenths of the period");
    advance_s(&kit, DAY_S * 2 / 10);
    cr_assert_eq(job_of(&kit, KV_JOB_COMPACT).runs, 2);
    for (int day = 0; day < 20; day++)
        advance_s(&kit, DAY_S);
    cr_assert_eq(job_of(&kit, KV_JOB_COMPACT).runs, 22);
    advance_s(&kit, 20 * DAY_S);
    cr_assert_eq(job_of(&kit, KV_JOB_COMPACT).runs, 23, "missed runs are made once");
    schedule(&kit, &(struct kv_maintenance_options){0});
    advance_s(&kit, 20 * DAY_S);
    cr_assert(job_of(&kit, KV_JOB_COMPACT).runs == 23 && job_of(&kit, KV_JOB_COMPACT).next_ms == 0);
    kv_kit_release(&kit);
}

Test(schedule, a_period_goes_on_over_a_restart)
{
    struct kv_kit kit;
    const struct kv_maintenance_options daily = {.compact_every_s = DAY_S};
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    schedule(&kit, &daily);
    advance_s(&kit, DAY_S / 10 + 1);
    cr_assert_eq(job_of(&kit, KV_JOB_COMPACT).runs, 1);
    clock_manual_advance_ms(&kit.clock, (int64_t)12 * HOUR_S * 1000);
    kv_kit_crash(&kit);
    schedule(&kit, &daily);
    advance_s(&kit, 9 * HOUR_S);
    cr_assert_eq(job_of(&kit, KV_JOB_COMPACT).runs, 0, "21 hours of 24, at least 21.6 it waits");
    advance_s(&kit, 3 * HOUR_S + 1);
    cr_assert_eq(job_of(&kit, KV_JOB_COMPACT).runs, 1);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    clock_manual_advance_ms(&kit.clock, (int64_t)100 * DAY_S * 1000); /* it was off for long */
    kv_kit_must_open(&kit);
    schedule(&kit, &daily);
    advance_s(&kit, DAY_S / 10 + 1);
    cr_assert_eq(job_of(&kit, KV_JOB_COMPACT).runs, 1, "what was missed is made once, soon");
    /* A wall clock that went back by a year delays by a period at most. */
    clock_manual_set_wall_ms(&kit.clock, kit.clock.wall_ms - (int64_t)365 * DAY_S * 1000);
    schedule(&kit, &daily);
    advance_s(&kit, DAY_S + 1);
    cr_assert_eq(job_of(&kit, KV_JOB_COMPACT).runs, 2);
    kv_kit_release(&kit);
}

static void flip_byte(struct kv_kit *kit, const char *name, double where)
{
    uint64_t size = file_kit_size(kit->vfs, kit->path, name);
    file_kit_flip(kit->vfs, kit->path, name, (uint64_t)((double)size * where));
}

Test(schedule, a_check_reads_every_table_at_its_pace_and_tells_what_is_damaged)
{
    struct kv_kit kit;
    char name[32];
    kv_kit_init(&kit, NULL);
    kit.spaces[0].compression = KV_COMPRESSION_NONE;
    kv_kit_must_open(&kit);
    for (int i = 0; i < 4; i++)
        fill(&kit, i * 1000, 1000);
    uint64_t bytes = kv_kit_stats(&kit, 0).table_bytes;
    kv_file_name(name, kit.db->view->version->trees[0].items[1].number, KV_NAME_TABLE);
    const struct kv_maintenance_options daily = {.check_every_s = DAY_S, .check_bytes_per_s = bytes / 100};
    schedule(&kit, &daily);
    advance_s(&kit, DAY_S / 10 + 1);
    uint64_t first = kv_kit_metric(&kit, "kv_check_bytes_total");
    cr_assert(first > 0 && first < bytes / 2, "a table, then a pause");
    advance_s(&kit, 1);
    cr_assert_eq(kv_kit_metric(&kit, "kv_check_bytes_total"), first);
    for (int s = 0; s < 120; s++)
        advance_s(&kit, 1);
    cr_assert_eq(kv_kit_metric(&kit, "kv_check_bytes_total"), bytes);
    cr_assert_eq(kv_kit_metric(&kit, "kv_checks_total"), 1);
    cr_assert(job_of(&kit, KV_JOB_CHECK).error == KV_OK && job_of(&kit, KV_JOB_CHECK).last_ok_ms > 0);

    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    flip_byte(&kit, name, 0.4);
    kv_kit_must_open(&kit);
    schedule(&kit, &daily);
    for (int hour = 0; hour < 25; hour++)
        for (int i = 0; i < 36; i++)
            advance_s(&kit, 100);
    struct kv_job_report report = job_of(&kit, KV_JOB_CHECK);
    cr_assert_eq(report.error, KV_CORRUPT);
    cr_assert(strstr(report.text, "1 damaged tables") && strstr(report.text, name), "%s", report.text);
    cr_assert_geq(kv_kit_metric(&kit, "kv_check_findings_total"), 1);
    cr_assert_geq(kv_kit_metric(&kit, "kv_check_bytes_total"), bytes, "the others are read all the same");
    cr_assert(kv_kit_is(&kit, NULL, 0, "k03500", "a value of some length"));
    kv_kit_release(&kit);
}

Test(schedule, a_check_reads_values_apart_too)
{
    struct kv_kit kit;
    char name[32], value[2000];
    memset(value, 'v', sizeof value);
    value[sizeof value - 1] = 0;
    kv_kit_init(&kit, NULL);
    kit.spaces[0].compression = KV_COMPRESSION_NONE;
    kit.spaces[0].value_separate_bytes = 1000;
    kv_kit_must_open(&kit);
    for (int i = 0; i < 10; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%d", i);
        kv_kit_put(&kit, 0, key, value);
    }
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    kv_file_name(name, kv_segment_number(kit.db->view->version->values.list[0].segment), KV_NAME_SEGMENT);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    flip_byte(&kit, name, 0.5);
    kv_kit_must_open(&kit);
    schedule(&kit, &(struct kv_maintenance_options){.check_every_s = HOUR_S});
    advance_s(&kit, HOUR_S);
    advance_s(&kit, 1); /* its pace */
    cr_assert_eq(job_of(&kit, KV_JOB_CHECK).error, KV_CORRUPT);
    cr_assert(strstr(job_of(&kit, KV_JOB_CHECK).text, name), "%s", job_of(&kit, KV_JOB_CHECK).text);
    kv_kit_release(&kit);
}

static void count_backup(void *ctx, const struct kv_backup_info *info)
{
    uint64_t *n = ctx;
    (void)info;
    ++*n;
}

Test(schedule, backups_are_made_and_the_newest_kept)
{
    struct kv_kit kit;
    uint64_t n = 0;
    char path[] = "backups";
    struct kv_repository repository = {.path = path};
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    schedule(&kit, &(struct kv_maintenance_options){
                       .backup_every_s = DAY_S, .repository = &repository, .backup_keep = 3});
    path[0] = 'x'; /* it was copied */
    for (int day = 0; day < 6; day++) {
        fill(&kit, day, 1);
        advance_s(&kit, DAY_S);
    }
    struct kv_job_report report = job_of(&kit, KV_JOB_BACKUP);
    cr_assert(report.runs >= 6 && report.failures == 0 && report.last_ok_ms && report.next_ms);
    cr_assert_eq(
        kv_backup_list(kit.env, &(struct kv_repository){.path = "backups"}, count_backup, &n, &kit.err),
        KV_OK);
    cr_assert_eq(n, 3);
    kv_kit_release(&kit);
}

Test(schedule, what_failed_is_told_and_tried_again_soon)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    struct vfs_fault *fault = vfs_fault_new(kit.own);
    kit.vfs = vfs_fault_as_vfs(fault);
    kv_kit_must_open(&kit);
    fill(&kit, 0, 1);
    schedule(&kit, &(struct kv_maintenance_options){
                       .backup_every_s = DAY_S, .repository = &(struct kv_repository){.path = "backups"}});
    vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = 1, .ops = VFS_OP_PUBLISH, .sticky = true});
    clock_manual_advance_ms(&kit.clock, DAY_S * 101);
    cr_assert_lt(kv_work(kit.db, &kit.err), 0);
    struct kv_job_report report = job_of(&kit, KV_JOB_BACKUP);
    cr_assert(report.failures == 1 && report.error == KV_IO && report.last_ok_ms == 0);
    cr_assert_eq(report.next_ms, kit.clock.wall_ms + DAY_S * 100);
    vfs_fault_plan(fault, NULL);
    advance_s(&kit, DAY_S / 10);
    report = job_of(&kit, KV_JOB_BACKUP);
    cr_assert(report.error == KV_OK && report.last_ok_ms > 0);
    kv_kit_close(&kit);
    vfs_fault_free(fault);
    kit.vfs = kit.own;
    kv_kit_release(&kit);
}

Test(schedule, impossible_ones_are_refused)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    cr_assert_eq(
        kv_schedule(kit.db, &(struct kv_maintenance_options){.check_every_s = 400 * DAY_S}, &kit.err),
        KV_INVALID);
    cr_assert(strstr(kit.err.text, "check_every_s: 34560000 is more than 31622400"), "%s", kit.err.text);
    cr_assert_eq(kv_schedule(kit.db, &(struct kv_maintenance_options){.backup_every_s = DAY_S}, &kit.err),
                 KV_INVALID);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.options.read_only = true;
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_schedule(kit.db, &(struct kv_maintenance_options){0}, &kit.err), KV_READ_ONLY);
    kv_kit_release(&kit);
}

Test(schedule, a_thread_of_the_environment_does_it_beside_writers, .timeout = 60)
{
    struct kv_env_options options = {.in_memory = true, .threads = 2};
    struct kv_space_options space = {.name = "a", .style = KV_STYLE_LEVELLED};
    struct kv_options how = {.spaces = &space, .n_spaces = 1, .disk_reserve_bytes = 1};
    const struct kv_repository repository = {.path = "backups"};
    const struct kv_maintenance_options all = {.compact_every_s = 1,
                                               .check_every_s = 1,
                                               .backup_every_s = 1,
                                               .repository = &repository,
                                               .backup_keep = 2};
    struct kv_kit kit = {0};
    struct kv_health_report report;
    cr_assert_eq(kv_env_open(&options, &kit.env, &kit.err), KV_OK);
    cr_assert_eq(kv_open(kit.env, "db", &how, &kit.db, &kit.err), KV_OK, "%s", kit.err.text);
    fill(&kit, 0, 100);
    schedule(&kit, &all);
    int i = 0;
    do {
        fill(&kit, i++ % 1000, 10);
        kv_health_report(kit.db, &report);
    } while (report.jobs[KV_JOB_COMPACT].runs < 2 || report.jobs[KV_JOB_CHECK].runs < 2 ||
             report.jobs[KV_JOB_BACKUP].runs < 2);
    cr_assert(report.jobs[KV_JOB_COMPACT].failures + report.jobs[KV_JOB_CHECK].failures +
                  report.jobs[KV_JOB_BACKUP].failures ==
              0);
    schedule(&kit, &all); /* again, under way */
    cr_assert_eq(kv_close(kit.db, &kit.err), KV_OK);
    kv_env_close(kit.env);
}
