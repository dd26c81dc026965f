#include "kvcore/db/records.h"
#include "kvcore/base/file_header.h"
#include "tests/support/file_kit.h"
#include "tests/support/log_kit.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>

static const struct log_kit_options one_file = {.file_bytes = 1 << 20};

Test(records, records_are_read_in_order_through_a_cursor_while_commits_go_on)
{
    for (uint64_t floor = 1; floor < 40; floor += 13) {
        struct kv_vfs *disk = kv_vfs_mem_new();
        struct log_kit kit;
        struct kv_records *records;
        struct kv_buf buf = {0};
        struct kv_err err = {0};
        uint64_t seq, next = floor;
        kv_slice record;
        cr_assert_eq(log_kit_open(&kit, disk, &(struct log_kit_options){.file_bytes = 900}, NULL), KV_OK);
        for (uint64_t id = 1; id <= 40; id++)
            cr_assert_eq(log_kit_commit(&kit, id, NULL, NULL), KV_OK);
        kit.manifest.floor = floor;
        cr_assert_eq(log_kit_manifest_store(&kit.manifest, NULL), KV_OK);
        log_kit_abandon(&kit);
        cr_assert_eq(log_kit_open(&kit, disk, &(struct log_kit_options){.file_bytes = 900}, NULL), KV_OK);
        cr_assert_eq(kv_log_records_open(kit.log, &records), KV_OK);
        uint64_t left = kv_records_bytes_left(records);
        while (kv_records_next(records, &seq, &record, &err) == KV_OK) {
            for (; next < seq; next++)
                cr_assert_eq(log_kit_record(&buf, next).len, 0,
                             "only commits without a record are passed over");
            cr_assert(kv_slice_equal(record, log_kit_record(&buf, seq)));
            left -= record.len;
            cr_assert_eq(kv_records_bytes_left(records), left);
            next = seq + 1;
            cr_assert_eq(log_kit_commit(&kit, 100 + seq, NULL, NULL), KV_OK);
        }
        cr_assert_eq(next, 41, "%s", err.text);
        cr_assert_eq(left, 0);
        kv_records_close(records);
        kv_records_close(NULL);
        cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
        kv_buf_release(&buf);
        kv_vfs_mem_free(disk);
    }
}

Test(records, cursor_reports_damage_that_came_after_the_open)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(disk);
    struct log_kit kit;
    struct kv_records *records;
    struct kv_err err;
    uint64_t seq;
    kv_slice record;
    cr_assert_eq(log_kit_open(&kit, vfs_fault_as_vfs(fault), &one_file, NULL), KV_OK);
    cr_assert_eq(log_kit_commit(&kit, 1, NULL, NULL), KV_OK);
    log_kit_abandon(&kit);
    cr_assert_eq(log_kit_open(&kit, vfs_fault_as_vfs(fault), &one_file, NULL), KV_OK);
    cr_assert_eq(kv_log_records_open(kit.log, &records), KV_OK);
    vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = 1, .ops = VFS_OP_READ});
    cr_assert_eq(kv_records_next(records, &seq, &record, &err), KV_IO);
    kv_records_close(records);
    log_kit_abandon(&kit);
    vfs_fault_free(fault);
    kv_vfs_mem_free(disk);
}

Test(records, a_record_that_goes_bad_after_the_open_is_damage_with_its_place)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct log_kit kit;
    struct kv_records *records;
    struct kv_buf names = {0};
    struct kv_err err = {0};
    uint64_t seq;
    kv_slice record;
    cr_assert_eq(log_kit_open(&kit, disk, &one_file, NULL), KV_OK);
    for (uint64_t id = 1; id <= 3; id++)
        cr_assert_eq(log_kit_commit(&kit, id, NULL, NULL), KV_OK);
    log_kit_abandon(&kit);
    cr_assert_eq(log_kit_open(&kit, disk, &one_file, NULL), KV_OK);
    cr_assert_eq(kv_log_records_open(kit.log, &records), KV_OK);
    cr_assert_geq(file_kit_list(disk, "db", ".log", &names), 1);
    file_kit_flip(disk, "db", (char *)names.data, KV_FILE_HEADER_LEN + 40);
    cr_assert_eq(kv_records_next(records, &seq, &record, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, (char *)names.data) && strstr(err.text, "was good at open is damaged"), "%s",
              err.text);
    kv_records_close(records);
    log_kit_abandon(&kit);
    kv_buf_release(&names);
    kv_vfs_mem_free(disk);
}

Test(records, a_database_opened_for_reading_has_them_too)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct log_kit kit;
    struct kv_log *log;
    struct kv_records *records;
    struct kv_buf buf = {0};
    uint64_t seq, expect = 1;
    kv_slice record;
    cr_assert_eq(log_kit_open(&kit, disk, &one_file, NULL), KV_OK);
    for (uint64_t id = 1; id <= 2; id++)
        cr_assert_eq(log_kit_commit(&kit, id, NULL, NULL), KV_OK);
    /* As another process would: the same directory, nothing started, the file unsealed. */
    struct kv_log_options options = {
        .dir = kit.dir, .path = "db", .clock = kv_clock_system(), .uuid = "the test's uuid"};
    struct kv_log_known known = {
        .current = kit.manifest.current, .edit = 1000, .puts_from = 1, .records_from = 1};
    cr_assert_eq(kv_log_open(&options, &known, NULL, &log, NULL), KV_OK);
    cr_assert_eq(log_kit_commit(&kit, 4, NULL, NULL), KV_OK);
    cr_assert_eq(kv_log_records_open(log, &records), KV_OK);
    while (kv_records_next(records, &seq, &record, NULL) == KV_OK) {
        cr_assert_eq(seq, expect++);
        cr_assert(kv_slice_equal(record, log_kit_record(&buf, seq)));
    }
    cr_assert_eq(expect, 3, "what was there when it was opened");
    kv_records_close(records);
    cr_assert_eq(kv_log_close(log, NULL), KV_OK);
    cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
    kv_buf_release(&buf);
    kv_vfs_mem_free(disk);
}
