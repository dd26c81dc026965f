/*
 * Any bytes as a log file. The first byte says how: bit 0 sealed at the input's end, bit 1 as a file that may be torn at its
 * header. Bit 2: sums and header are made right first, so that the parser behind them is reached. What opens must open the same
 * way again, start, and keep its records.
 */
#include "kvcore/base/coding.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/db/batch.h"
#include "kvcore/db/log_frame.h"
#include "kvcore/db/records.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static kv_status new_file(void *ctx, uint64_t *number, uint64_t *edit, struct kv_err *err)
{
    (void)err;
    *number = ++*(uint64_t *)ctx;
    *edit = 5;
    return KV_OK;
}

static kv_status seal(void *ctx, const struct kv_log_seal *seals, size_t n, uint64_t current,
                      const uint8_t current_uid[KV_FILE_UID_LEN], struct kv_err *err)
{
    (void)ctx, (void)seals, (void)n, (void)current, (void)current_uid, (void)err;
    return KV_OK;
}

struct seen {
    uint64_t n, sum;
};

static kv_status replay(void *ctx, uint64_t seq, kv_slice batch, kv_slice record, struct kv_err *err)
{
    struct seen *seen = ctx;
    struct kv_batch_entry entry;
    (void)err;
    while (kv_batch_next(&batch, &entry) == KV_OK)
        seen->sum += kv_crc32c(0, entry.key) + entry.space + entry.kind;
    seen->sum += seq + kv_crc32c(0, record);
    seen->n++;
    return KV_OK;
}

/* Makes header and fragment sums right, following the lengths that the bytes claim. */
static void make_valid(uint8_t *bytes, size_t len)
{
    struct kv_file_header header = {
        .kind = KV_FILE_LOG, .format = 1, .uuid = "u", .uid = "uid", .first_seq = 1};
    if (len < KV_FILE_HEADER_LEN)
        return;
    header.first_seq = bytes[0] ? bytes[0] : 1;
    kv_file_header_encode(&header, bytes);
    for (size_t at = KV_FILE_HEADER_LEN; at + KV_LOG_FRAGMENT_HEADER_LEN <= len;) {
        uint32_t total = kv_get_fixed32(bytes + at + KV_LOG_AT_TOTAL),
                 place = kv_get_fixed32(bytes + at + KV_LOG_AT_PLACE);
        if (place >= total || kv_log_fragment_size(total, place) > len - at)
            break;
        size_t fragment = kv_log_fragment_size(total, place);
        uint64_t synced = kv_get_fixed64(bytes + at + KV_LOG_AT_SYNCED);
        kv_put_fixed32(bytes + at, KV_LOG_MAGIC);
        /* Far jumps cost a salvage up to its bound: a fuzzer has better things to do. */
        bytes[at + KV_LOG_AT_SEQ + 2] = 0;
        memset(bytes + at + KV_LOG_AT_SEQ + 3, 0, 5);
        kv_log_frame_stamp(bytes + at, fragment, kv_log_uid_sum(header.uid), at, synced);
        at += fragment;
    }
}

static void walk_records(struct kv_log *log)
{
    struct kv_records *records;
    uint64_t seq, last = 0;
    kv_slice record;
    if (kv_log_records_open(log, &records) < 0)
        abort();
    while (kv_records_next(records, &seq, &record, NULL) == KV_OK) {
        if (seq <= last)
            abort();
        last = seq;
    }
    kv_records_close(records);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    uint8_t how = data[0];
    size_t len = size - 1;
    uint8_t *bytes = malloc(len + 1);
    memcpy(bytes, data + 1, len);
    if (how & 4)
        make_valid(bytes, len);
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct kv_dir *dir;
    struct kv_file *file;
    if (kv_vfs_dir_open(disk, "d", true, &dir, NULL) < 0 ||
        kv_dir_create(dir, "000001.log", &file, NULL) < 0 ||
        kv_file_append(file, 0, kv_slice_of(bytes, len), NULL) < 0)
        abort();
    kv_file_close(file);
    uint64_t number = 1;
    struct kv_log_seal sealed = {.number = 1, .valid_len = len, .last_seq = 3, .last_record_seq = 3};
    struct kv_log_options options = {
        .dir = dir, .path = "d", .clock = kv_clock_system(), .uuid = "u", .hooks = {&number, new_file, seal}};
    struct kv_log_known known = {.edit = 5, .puts_from = 1, .records_from = 1};
    if (how & 1) {
        known.seals = &sealed;
        known.n_seals = 1;
    } else if (!(how & 2)) {
        known.current = 1;
    }
    struct seen first = {0}, second = {0};
    struct kv_log_replay into = {.ctx = &first, .commit = replay};
    struct kv_log *log;
    kv_status rc = kv_log_open(&options, &known, &into, &log, NULL);
    if (rc == KV_OK) {
        walk_records(log);
        if (kv_log_start(log, NULL) < 0)
            abort();
        walk_records(log);
        if (kv_log_close(log, NULL) < 0)
            abort();
    }
    into.ctx = &second;
    if (rc == KV_CORRUPT) { /* a salvage reads what it can of anything */
        known.salvage = true;
        if (kv_log_open(&options, &known, &into, &log, NULL) == KV_OK && kv_log_close(log, NULL) < 0)
            abort();
    }
    kv_dir_close(dir);
    kv_vfs_mem_free(disk);
    free(bytes);
    return 0;
}
