#include "kvcore/db/records.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/log_impl.h"
#include "kvcore/db/log_read.h"

#include <inttypes.h>

struct kv_records {
    struct kv_log *log;
    struct log_file *files; /* a copy of the list, as it was at open */
    size_t n_files, at;     /* at: the file being read, or to be read next */
    bool reading;
    struct kv_log_reader reader;
    uint64_t seq;      /* of the next record of the file being read */
    uint64_t seen_seq; /* newest handed out or passed over */
    uint64_t last_seq, from, bytes_left;
};

kv_status kv_log_records_open(struct kv_log *log, struct kv_records **out)
{
    struct kv_records *records = kv_zalloc(1, sizeof *records);
    if (!records)
        return KV_NO_MEMORY;
    kv_mutex_lock(&log->lock);
    records->files = kv_alloc((log->n_files + 1) * sizeof *records->files);
    if (records->files && log->n_files)
        memcpy(records->files, log->files, log->n_files * sizeof *records->files);
    records->n_files = log->n_files;
    kv_mutex_unlock(&log->lock);
    if (!records->files) {
        kv_free(records);
        return KV_NO_MEMORY;
    }
    records->log = log;
    records->last_seq = log->recovered_seq;
    records->from = log->records_from;
    records->bytes_left = log->record_bytes;
    *out = records;
    return KV_OK;
}

void kv_records_close(struct kv_records *records)
{
    if (!records)
        return;
    if (records->reading)
        kv_log_reader_close(&records->reader);
    kv_free(records->files);
    kv_free(records);
}

uint64_t kv_records_bytes_left(const struct kv_records *records)
{
    return records->bytes_left;
}

/* The sealed file holds no record that is wanted. */
static bool file_skipped(const struct kv_records *records, const struct log_file *file)
{
    return file->sealed && (file->seal.last_record_seq == 0 || file->seal.last_record_seq < records->from);
}

/* Moves to the next file that may hold a wanted record. KV_END: there is none. */
static kv_status records_file(struct kv_records *records, struct kv_err *err)
{
    while (records->at < records->n_files && file_skipped(records, &records->files[records->at]))
        records->at++;
    if (records->at == records->n_files || records->seen_seq >= records->last_seq)
        return KV_END;
    const struct log_file *file = &records->files[records->at];
    const struct kv_log_options *options = &records->log->options;
    kv_status rc = kv_log_reader_open(&records->reader, options->dir, file->seal.number, options->uuid,
                                      options->keys, err);
    if (rc < 0) {
        kv_log_reader_close(&records->reader);
        return rc;
    }
    records->reader.limit = file->seal.valid_len;
    records->seq = file->first_seq;
    records->reading = true;
    return KV_OK;
}

/* The next commit that was recovered, each once. */
static kv_status records_item(struct kv_records *records, struct kv_log_item *item, struct kv_err *err)
{
    for (;;) {
        kv_status rc = KV_OK;
        if (!records->reading && (rc = records_file(records, err)) != KV_OK)
            return rc;
        rc = kv_log_reader_next(&records->reader, records->seq, item, err);
        if (rc == KV_OK) {
            records->seq++;
            if (item->seq > records->last_seq)
                return KV_END; /* committed since */
            if (item->seq > records->seen_seq)
                return KV_OK;
            continue;
        }
        if (rc == KV_CORRUPT)
            return kv_fail(
                err, rc, 0,
                "%s/%06" PRIu64 ".log at offset %" PRIu64 ": a record that was good at open is damaged",
                records->log->path, records->files[records->at].seal.number, records->reader.offset);
        if (rc < 0)
            return rc;
        kv_log_reader_close(&records->reader);
        records->reading = false;
        records->at++;
    }
}

kv_status kv_records_next(struct kv_records *records, uint64_t *seq, kv_slice *record, struct kv_err *err)
{
    struct kv_log_item item;
    kv_status rc;
    while ((rc = records_item(records, &item, err)) == KV_OK) {
        kv_slice batch;
        rc = kv_log_payload_split(item.payload, &batch, record);
        if (rc < 0)
            return kv_fail(err, rc, 0, "a malformed record with sequence %" PRIu64, item.seq);
        records->seen_seq = item.seq;
        if (record->len == 0 || item.seq < records->from)
            continue;
        records->bytes_left -= record->len < records->bytes_left ? record->len : records->bytes_left;
        *seq = item.seq;
        return KV_OK;
    }
    return rc;
}
