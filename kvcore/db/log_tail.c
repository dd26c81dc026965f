#include "kvcore/db/log_tail.h"

#include <inttypes.h>

void kv_log_tail_release(struct kv_log_tail *tail)
{
    if (tail->open)
        kv_log_reader_close(&tail->reader);
    tail->open = false;
    tail->number = tail->seq = tail->last_seq = 0;
}

static kv_status damage(const struct kv_log_tail *tail, uint64_t offset, const char *what, struct kv_err *err)
{
    return kv_fail(err, KV_CORRUPT, 0,
                   "acknowledged data is damaged: %.60s/%06" PRIu64 ".log at offset %" PRIu64 ": %.80s",
                   tail->path, tail->number, offset, what);
}

static bool is_current(const struct kv_log_known *known, const struct kv_log_reader *reader, uint64_t number)
{
    return number == known->current &&
           (!known->current_uid || memcmp(reader->header.uid, known->current_uid, KV_FILE_UID_LEN) == 0);
}

bool kv_log_tail_fits(const struct kv_log_tail *tail, const struct kv_log_known *known)
{
    if (!tail->open)
        return true; /* the file before was compared with its seal */
    const struct kv_log_seal *seal = kv_log_known_seal(known, tail->number);
    if (!seal)
        return is_current(known, &tail->reader, tail->number);
    return seal->valid_len >= tail->reader.offset && seal->last_seq + 1 >= tail->seq;
}

/* The next file that may hold something wanted: sealed ones by number, then the current one. 0: there is none. */
static uint64_t next_file(const struct kv_log_tail *tail, const struct kv_log_known *known)
{
    for (size_t i = 0; i < known->n_seals; i++) {
        const struct kv_log_seal *seal = &known->seals[i];
        if (seal->number > tail->number && (tail->number || seal->last_seq >= known->puts_from))
            return seal->number;
    }
    return known->current > tail->number ? known->current : 0;
}

static kv_status check_header(struct kv_log_tail *tail, const struct kv_log_known *known, bool first,
                              bool sealed, struct kv_err *err)
{
    const struct kv_file_header *header = &tail->reader.header;
    if (header->first_seq == 0)
        return damage(tail, 0, "its header has no first sequence", err);
    if (header->edit > known->edit)
        return damage(tail, 0, "it was begun under a later edit than the manifest's last", err);
    if (!sealed && !is_current(known, &tail->reader, tail->number))
        return damage(tail, 0, "another log file stands under this name", err);
    if (!first && header->first_seq > tail->last_seq + 1)
        return damage(tail, 0, "sequences are missing before it", err);
    return KV_OK;
}

/* KV_END: all files were read. */
static kv_status open_next(struct kv_log_tail *tail, const struct kv_log_known *known, struct kv_err *err)
{
    uint64_t number = next_file(tail, known), before = tail->number;
    if (number == 0)
        return KV_END;
    kv_status rc = kv_log_reader_open(&tail->reader, tail->dir, number, tail->uuid, tail->keys, err);
    tail->number = number;
    if (rc == KV_MISSING)
        rc = damage(tail, 0, "the file is missing", err);
    if (rc == KV_OK)
        rc = check_header(tail, known, before == 0, kv_log_known_seal(known, number) != NULL, err);
    if (rc < 0) {
        kv_log_reader_close(&tail->reader);
        tail->number = before;
        return rc;
    }
    tail->open = true;
    tail->seq = tail->reader.header.first_seq;
    if (before == 0)
        tail->last_seq = tail->seq - 1;
    return KV_OK;
}

static kv_status deliver(struct kv_log_tail *tail, const struct kv_log_known *known,
                         const struct kv_log_item *item, const struct kv_log_replay *replay,
                         struct kv_err *err)
{
    kv_slice batch = {0}, record = {0};
    kv_status rc = kv_log_payload_split(item->payload, &batch, &record);
    if (rc == KV_TOO_NEW)
        return kv_fail(err, rc, 0, "%s/%06" PRIu64 ".log at offset %" PRIu64 ": a record of a newer version",
                       tail->path, tail->number, item->offset);
    if (rc < 0)
        return damage(tail, item->offset, "a record with a right checksum is malformed", err);
    tail->seq = item->seq + 1;
    if (item->seq <= tail->last_seq)
        return KV_OK; /* written again into a later file: the same commit */
    tail->last_seq = item->seq;
    return item->seq < known->puts_from ? KV_OK : replay->commit(replay->ctx, item->seq, batch, record, err);
}

/* The bytes of the window may be older than those of the file by now. */
static kv_status look_anew(struct kv_log_tail *tail, const struct kv_log_seal *seal, struct kv_err *err)
{
    kv_status rc = kv_file_size(tail->reader.file, &tail->reader.size, err);
    tail->reader.len = 0;
    tail->reader.limit = seal ? seal->valid_len : tail->reader.size;
    return rc;
}

/*
 * No whole record where the next one is expected: not there yet, unless a valid one behind it says that it was synced; and
 * then, too, it may have come since it was looked at. KV_OK: *item is it. KV_END: not yet.
 */
static kv_status judge_bad(struct kv_log_tail *tail, const struct kv_log_seal *seal, struct kv_log_item *item,
                           struct kv_err *err)
{
    struct kv_log_fragment fragment;
    struct kv_log_reader *reader = &tail->reader;
    uint64_t at = reader->offset;
    bool synced = seal != NULL;
    kv_status rc = KV_OK;
    while (!synced && (rc = kv_log_reader_resync(reader, &fragment, err)) == KV_OK)
        synced = fragment.synced >= tail->seq;
    reader->offset = at;
    if (rc < 0 || !synced)
        return rc;
    rc = look_anew(tail, seal, err);
    if (rc == KV_OK)
        rc = kv_log_reader_next(reader, tail->seq, item, err);
    return rc == KV_CORRUPT || rc == KV_END
               ? damage(tail, at, seal ? "a bad record before the seal" : "a bad record that was synced", err)
               : rc;
}

/* The rest of the open file; it is closed if it has ended. */
static kv_status read_file(struct kv_log_tail *tail, const struct kv_log_known *known,
                           const struct kv_log_replay *replay, bool *any, struct kv_err *err)
{
    const struct kv_log_seal *seal = kv_log_known_seal(known, tail->number);
    struct kv_log_item item;
    kv_status rc = look_anew(tail, seal, err);
    while (rc == KV_OK) {
        rc = kv_log_reader_next(&tail->reader, tail->seq, &item, err);
        if (rc == KV_CORRUPT)
            rc = judge_bad(tail, seal, &item, err);
        if (rc == KV_OK) {
            *any = true;
            rc = deliver(tail, known, &item, replay, err);
        }
    }
    if (rc != KV_END || !seal)
        return rc;
    if (tail->reader.offset != seal->valid_len || tail->seq != seal->last_seq + 1)
        return damage(tail, tail->reader.offset, "it ends before its seal", err);
    kv_log_reader_close(&tail->reader);
    tail->open = false;
    return KV_OK;
}

kv_status kv_log_tail_read(struct kv_log_tail *tail, const struct kv_log_known *known,
                           const struct kv_log_replay *replay, bool *any, struct kv_err *err)
{
    kv_status rc = KV_OK;
    *any = false;
    while (rc == KV_OK) {
        if (!tail->open)
            rc = open_next(tail, known, err);
        if (rc == KV_OK)
            rc = read_file(tail, known, replay, any, err);
    }
    if (rc < 0)
        return rc;
    if (tail->number && tail->last_seq < known->last_seq)
        return damage(tail, tail->open ? tail->reader.offset : 0,
                      "the log ends before what the manifest knows", err);
    return KV_OK;
}
