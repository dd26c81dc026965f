/*
 * kv_log_open: which files count, what is in them, and whether what is missing was ever acknowledged. Rules:
 * kvcore/docs/log.md.
 *
 * Two passes. The first (kv_log_open) checks and replays every record, once each in sequence order, and
 * learns the newest sequence known to be synced. The second (kv_log_start) goes over unsealed files again: it
 * finds where each is to be sealed (behind its last record known synced) and loads the records after that, to
 * be written again.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/log_impl.h"
#include "kvcore/db/log_read.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define TAIL_BYTES_MAX ((size_t)4 << 30)
enum { SALVAGE_LOST_MAX = 1 << 24 }; /* commits of nothing a salvage writes, 40 bytes each */

struct recovery {
    struct kv_log *log;
    const struct kv_log_known *known;
    const struct kv_log_replay *replay;
    uint64_t *numbers; /* of the log files in the directory */
    size_t n_numbers, numbers_capacity;
    uint64_t last_seq;   /* newest delivered */
    uint64_t proven_seq; /* newest known synced */
    bool based;          /* a first file set where sequences begin */
    uint64_t base_seq;   /* there */
    int damages;         /* told in a salvage */
};

/* What to run when acknowledged data is damaged. */
static kv_status damage(const struct recovery *r, uint64_t number, uint64_t offset, const char *what,
                        struct kv_err *err)
{
    return kv_fail(err, KV_CORRUPT, 0,
                   "acknowledged data is damaged: %.60s/%06" PRIu64 ".log at offset %" PRIu64
                   ": %.60s; to keep all other "
                   "records run: kvtool salvage %.60s",
                   r->log->path, number, offset, what, r->log->path);
}

/* In a salvage damage is told and survived. */
static kv_status damage_or_salvage(struct recovery *r, uint64_t number, uint64_t offset, const char *what,
                                   struct kv_err *err)
{
    if (!r->known->salvage)
        return damage(r, number, offset, what, err);
    r->damages++;
    kv_logf(r->log->options.log, KV_LOG_ERROR, "log_damage",
            "file=%06" PRIu64 ".log offset=%" PRIu64 " what=%s", number, offset, KV_LOGQ(what));
    return KV_OK;
}

/* ---- which files */

static kv_status collect_number(void *ctx, const char *name, uint64_t bytes)
{
    struct recovery *r = ctx;
    uint64_t number;
    (void)bytes;
    if (!kv_log_name_parse(name, &number))
        return KV_OK;
    uint64_t *numbers = kv_grow(r->numbers, &r->numbers_capacity, r->n_numbers + 1, sizeof *numbers);
    if (!numbers)
        return KV_NO_MEMORY;
    r->numbers = numbers;
    r->numbers[r->n_numbers++] = number;
    return KV_OK;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool have_number(const struct recovery *r, uint64_t number)
{
    return r->n_numbers && bsearch(&number, r->numbers, r->n_numbers, sizeof number, compare_numbers) != NULL;
}

static kv_status check_present(struct recovery *r, struct kv_err *err)
{
    kv_status rc = KV_OK;
    for (size_t i = 0; i < r->known->n_seals && rc == KV_OK; i++)
        if (!have_number(r, r->known->seals[i].number))
            rc = damage_or_salvage(r, r->known->seals[i].number, 0, "the file is missing", err);
    if (rc == KV_OK && r->known->current && !have_number(r, r->known->current))
        rc = damage_or_salvage(r, r->known->current, 0, "the file is missing", err);
    return rc;
}

/* ---- the first pass */

/* Keeps a record that will be written again. */
static kv_status load_item(struct kv_log *log, const struct kv_log_item *item, struct kv_err *err)
{
    if (item->payload.len == 0)
        return KV_OK;
    kv_status rc = kv_log_frame_add_payload(&log->buf, item->seq, item->payload);
    return rc < 0 ? kv_fail(err, rc, 0, "keeping %zu bytes of the log's tail", item->payload.len) : rc;
}

/* The same, with what its owner makes of the batch. */
static kv_status load_mended(struct recovery *r, const struct kv_log_item *item, struct kv_err *err)
{
    kv_slice batch = {0}, record = {0};
    struct kv_buf mended = {0};
    kv_status rc = KV_NOT_FOUND;
    if (item->payload.len && r->replay && r->replay->mend && item->seq >= r->known->puts_from) {
        rc = kv_log_payload_split(item->payload, &batch, &record);
        if (rc == KV_OK)
            rc = r->replay->mend(r->replay->ctx, item->seq, batch, &mended, err);
    }
    if (rc == KV_NOT_FOUND) {
        rc = load_item(r->log, item, err);
    } else if (rc == KV_OK) {
        rc = kv_log_frame_add(&r->log->buf, item->seq, kv_buf_slice(&mended), record);
        if (rc < 0)
            kv_fail(err, rc, 0, "keeping commit %" PRIu64 " of the log", item->seq);
    }
    kv_buf_release(&mended);
    return rc;
}

/* Salvage: everything that is kept will be written again; commits of nothing stand in for what is lost. */
static kv_status salvage_keep(struct recovery *r, const struct kv_log_item *item, struct kv_err *err)
{
    if (item->seq - r->last_seq - 1 > SALVAGE_LOST_MAX - r->log->stats.lost)
        return kv_fail(err, KV_LIMIT, 0,
                       "sequences jump from %" PRIu64 " to %" PRIu64 ": too far to be filled", r->last_seq,
                       item->seq);
    for (uint64_t seq = r->last_seq + 1; seq < item->seq; seq++) {
        kv_status rc = kv_log_frame_add(&r->log->buf, seq, (kv_slice){0}, (kv_slice){0});
        if (rc < 0)
            return kv_fail(err, rc, 0, "filling a gap in the log of %s", r->log->path);
        r->log->stats.lost++;
    }
    return load_mended(r, item, err);
}

static kv_status deliver(struct recovery *r, uint64_t number, const struct kv_log_item *item,
                         struct log_file *file, struct kv_err *err)
{
    kv_slice batch = {0}, record = {0};
    struct kv_log *log = r->log;
    kv_status rc = kv_log_payload_split(item->payload, &batch, &record);
    if (rc == KV_TOO_NEW)
        return kv_fail(err, rc, 0, "%s/%06" PRIu64 ".log at offset %" PRIu64 ": a record of a newer version",
                       log->path, number, item->offset);
    if (rc < 0)
        return damage(r, number, item->offset, "a record with a right checksum is malformed", err);
    file->seal.last_seq = item->seq;
    file->seal.valid_len = item->end;
    if (record.len)
        file->seal.last_record_seq = item->seq;
    if (item->synced > r->proven_seq)
        r->proven_seq = item->synced;
    if (item->seq <= r->last_seq)
        return KV_OK; /* written again after a failed sync or an interrupted open: the same commit */
    if (r->known->salvage && (rc = salvage_keep(r, item, err)) < 0)
        return rc;
    r->last_seq = item->seq;
    if (record.len) {
        log->written_record = item->seq;
        if (item->seq >= r->known->records_from)
            log->record_bytes += record.len;
    }
    uint64_t from =
        r->known->puts_from < r->known->records_from ? r->known->puts_from : r->known->records_from;
    if (item->seq < from || !r->replay || !r->replay->commit)
        return KV_OK;
    return r->replay->commit(r->replay->ctx, item->seq, batch, record, err);
}

/* Is there, behind the bad record at the reader's offset, a valid one that says its sequence was synced? */
static kv_status proves_damage(struct kv_log_reader *reader, uint64_t seq, bool *damaged, struct kv_err *err)
{
    struct kv_log_fragment fragment;
    kv_status rc;
    *damaged = false;
    while (!*damaged && (rc = kv_log_reader_resync(reader, &fragment, err)) != KV_END) {
        if (rc < 0)
            return rc;
        *damaged = fragment.synced >= seq;
    }
    return KV_OK;
}

/* Salvage: on to the next whole record with a later sequence. KV_END: there is none. */
static kv_status skip_damage(struct kv_log_reader *reader, uint64_t *seq, struct kv_err *err)
{
    struct kv_log_fragment fragment;
    struct kv_log_item item;
    kv_status rc;
    while ((rc = kv_log_reader_resync(reader, &fragment, err)) == KV_OK) {
        uint64_t at = reader->offset;
        if (fragment.place != 0 || fragment.seq < *seq)
            continue;
        rc = kv_log_reader_next(reader, fragment.seq, &item, err);
        reader->offset = at;
        if (rc == KV_OK) {
            *seq = fragment.seq;
            return KV_OK;
        }
        if (rc != KV_CORRUPT)
            return rc;
    }
    return rc;
}

/* A bad record: damage, or the torn end of what was never acknowledged? KV_END: torn, the file ends here.
 * KV_OK: *seq is next. */
static kv_status judge_bad(struct recovery *r, struct kv_log_reader *reader, const struct log_file *file,
                           uint64_t *seq, struct kv_err *err)
{
    uint64_t at = reader->offset;
    bool damaged = file->sealed;
    kv_status rc = damaged ? KV_OK : proves_damage(reader, *seq, &damaged, err);
    reader->offset = at;
    if (rc < 0)
        return rc;
    if (!damaged) {
        r->log->stats.torn_bytes += reader->limit - at;
        r->log->stats.tail_unproven = true;
        kv_logf(r->log->options.log, KV_LOG_INFO, "log_torn_tail",
                "file=%06" PRIu64 ".log offset=%" PRIu64 " bytes=%" PRIu64 " sequence=%" PRIu64,
                file->seal.number, at, reader->limit - at, *seq);
        return KV_END;
    }
    rc = damage_or_salvage(r, file->seal.number, at,
                           file->sealed ? "a bad record before the seal"
                                        : "a bad record that "
                                          "was synced",
                           err);
    return rc < 0 ? rc : skip_damage(reader, seq, err);
}

static kv_status scan_records(struct recovery *r, struct kv_log_reader *reader, struct log_file *file,
                              struct kv_err *err)
{
    struct kv_log_item item;
    uint64_t seq = file->first_seq;
    for (;;) {
        kv_status rc = kv_log_reader_next(reader, seq, &item, err);
        if (rc == KV_OK) {
            rc = deliver(r, file->seal.number, &item, file, err);
            seq++;
        } else if (rc == KV_CORRUPT) {
            rc = judge_bad(r, reader, file, &seq, err);
        }
        if (rc != KV_OK)
            return rc == KV_END ? KV_OK : rc;
    }
}

/* Sequences go on from file to file without a gap. */
static kv_status check_joins(struct recovery *r, const struct log_file *file, struct kv_err *err)
{
    char text[96];
    if (!r->based) {
        r->based = true;
        r->base_seq = file->first_seq;
        r->last_seq = file->first_seq - 1;
    }
    if (file->first_seq <= r->last_seq + 1)
        return KV_OK;
    snprintf(text, sizeof text, "sequences %" PRIu64 " to %" PRIu64 " are missing before it", r->last_seq + 1,
             file->first_seq - 1);
    return damage_or_salvage(r, file->seal.number, 0, text, err);
}

static kv_status check_seal(struct recovery *r, const struct log_file *file, const struct kv_log_seal *seal,
                            struct kv_err *err)
{
    if (file->seal.last_seq == seal->last_seq && file->seal.valid_len == seal->valid_len)
        return KV_OK;
    return damage_or_salvage(r, file->seal.number, file->seal.valid_len, "it ends before its seal", err);
}

/* Nothing in it is wanted: its seal is enough. */
static bool seal_suffices(const struct recovery *r, const struct kv_log_seal *seal)
{
    return !r->known->salvage && seal->last_seq < r->known->puts_from &&
           (seal->last_record_seq == 0 || seal->last_record_seq < r->known->records_from);
}

/* Salvage without a first file: sequences begin where something is wanted. */
static void salvage_base(struct recovery *r)
{
    uint64_t from =
        r->known->puts_from < r->known->records_from ? r->known->puts_from : r->known->records_from;
    r->based = true;
    r->base_seq = from ? from : 1;
    r->last_seq = r->base_seq - 1;
}

/* A salvage of a file whose header is damaged: its uid may be right all the same, and then its records are. */
static kv_status salvage_headless(struct recovery *r, struct kv_log_reader *reader, uint64_t number,
                                  struct kv_err *err)
{
    if (!r->based)
        salvage_base(r);
    struct log_file file = {.first_seq = r->last_seq + 1, .sealed = true, .seal.number = number};
    return reader->size < KV_FILE_HEADER_LEN ? KV_OK : scan_records(r, reader, &file, err);
}

/* The header of an unannounced file may be torn: nothing was ever written behind it then. */
static kv_status header_failed(struct recovery *r, struct kv_log_reader *reader, uint64_t number,
                               kv_status rc, struct kv_err *err)
{
    bool found = true;
    if (rc != KV_CORRUPT || !reader->window)
        return rc;
    bool announced = number <= r->known->current || kv_log_known_seal(r->known, number);
    if (!announced) {
        rc = kv_log_reader_has_magic(reader, &found, err);
        if (rc < 0)
            return rc;
    }
    if (!announced && !found)
        return kv_log_doom(r->log, number);
    bool read = reader->header.kind == KV_FILE_LOG; /* it is the key that was refused */
    rc = damage_or_salvage(
        r, number, 0, read ? "it is plain, or under a key the manifest lacks" : "its header is unreadable",
        err);
    return rc < 0 ? rc : salvage_headless(r, reader, number, err);
}

static kv_status scan_opened(struct recovery *r, struct kv_log_reader *reader, uint64_t number,
                             struct kv_err *err)
{
    struct kv_log *log = r->log;
    const struct kv_log_seal *seal = kv_log_known_seal(r->known, number);
    struct log_file file = {.first_seq = reader->header.first_seq, .sealed = seal != NULL};
    file.seal = (struct kv_log_seal){
        .number = number, .valid_len = KV_FILE_HEADER_LEN, .last_seq = file.first_seq - 1};
    kv_status rc = KV_OK;
    if (file.first_seq == 0)
        return damage(r, number, 0, "its header has no first sequence", err);
    if (reader->header.edit > r->known->edit && !r->known->salvage)
        return kv_fail(err, KV_CORRUPT, 0,
                       "the manifest lost its end: %.80s/%06" PRIu64 ".log was begun under edit %" PRIu64
                       ", the manifest "
                       "ends at %" PRIu64,
                       log->path, number, reader->header.edit, r->known->edit);
    if (number == r->known->current && r->known->current_uid &&
        memcmp(reader->header.uid, r->known->current_uid, KV_FILE_UID_LEN) != 0)
        KV_TRY(damage_or_salvage(r, number, 0, "another log file stands under this name", err));
    KV_TRY(check_joins(r, &file, err));
    if (file.first_seq - 1 > r->proven_seq)
        r->proven_seq = file.first_seq - 1; /* a file is begun only when all before it is synced */
    if (seal && seal_suffices(r, seal)) {
        file.seal = *seal;
        r->last_seq = seal->last_seq > r->last_seq ? seal->last_seq : r->last_seq;
    } else {
        if (seal)
            reader->limit = seal->valid_len;
        KV_TRY(scan_records(r, reader, &file, err));
        if (seal)
            KV_TRY(check_seal(r, &file, seal, err));
    }
    if (seal && r->proven_seq < seal->last_seq)
        r->proven_seq = seal->last_seq;
    KV_TRY(kv_log_files_reserve(log));
    log->files[log->n_files++] = file;
out:
    return rc;
}

static kv_status scan_file(struct recovery *r, uint64_t number, struct kv_err *err)
{
    struct kv_log_reader reader;
    kv_status rc = kv_log_reader_open(&reader, r->log->options.dir, number, r->log->options.uuid,
                                      r->log->options.keys, err);
    if (rc == KV_OK)
        rc = scan_opened(r, &reader, number, err);
    else
        rc = header_failed(r, &reader, number, rc, err);
    kv_log_reader_close(&reader);
    return rc;
}

static kv_status first_pass(struct recovery *r, struct kv_err *err)
{
    const struct kv_log_known *known = r->known;
    kv_status rc = KV_OK;
    for (size_t i = 0; i < r->n_numbers && rc == KV_OK; i++) {
        uint64_t number = r->numbers[i];
        bool leftover =
            number < known->first || (number < known->current && !kv_log_known_seal(known, number));
        for (size_t s = 0; s < known->n_seals && !known->current && !leftover; s++)
            leftover = number < known->seals[s].number && !kv_log_known_seal(known, number);
        rc = leftover ? kv_log_doom(r->log, number) : scan_file(r, number, err);
    }
    if (rc == KV_OK && r->based && r->last_seq < known->last_seq)
        rc = damage_or_salvage(r, r->numbers[r->n_numbers - 1], 0,
                               "the log ends before what the manifest knows", err);
    if (rc == KV_NO_MEMORY)
        rc = kv_fail(err, rc, 0, "reading the log of %s", r->log->path);
    return rc;
}

/* ---- the second pass */

/* Loads the records behind the newest one known synced, each once, and cuts the file's entry back to that
 * one. */
static kv_status load_tail_of(struct kv_log *log, struct log_file *file, uint64_t *loaded_seq,
                              struct kv_err *err)
{
    struct kv_log_reader reader;
    struct kv_log_item item;
    struct kv_log_seal cut = {
        .number = file->seal.number, .valid_len = KV_FILE_HEADER_LEN, .last_seq = file->first_seq - 1};
    kv_status rc;
    KV_TRY(kv_log_reader_open(&reader, log->options.dir, file->seal.number, log->options.uuid,
                              log->options.keys, err));
    reader.limit = file->seal.valid_len;
    for (uint64_t seq = file->first_seq; (rc = kv_log_reader_next(&reader, seq, &item, err)) == KV_OK;
         seq++) {
        kv_slice batch, record;
        KV_TRY(kv_log_payload_split(item.payload, &batch, &record));
        if (seq <= log->synced_seq) {
            cut.valid_len = item.end;
            cut.last_seq = seq;
            if (record.len)
                cut.last_record_seq = seq;
        } else if (seq > *loaded_seq) {
            KV_TRY(load_item(log, &item, err));
            *loaded_seq = seq;
        }
    }
    if (rc == KV_CORRUPT)
        rc = kv_fail(err, KV_IO, 0, "%s/%06" PRIu64 ".log changed while it was read", log->path,
                     file->seal.number);
    if (rc == KV_END) {
        rc = KV_OK;
        file->seal = cut;
    }
out:
    kv_log_reader_close(&reader);
    return rc;
}

kv_status kv_log_load_tail(struct kv_log *log, struct kv_err *err)
{
    uint64_t loaded = log->synced_seq;
    kv_status rc = KV_OK;
    if (log->salvage) { /* everything is in buf, and the old files are given up */
        kv_mutex_lock(&log->lock);
        log->n_files = 0;
        log->stats.file_bytes = 0;
        kv_mutex_unlock(&log->lock);
    }
    for (size_t i = 0; i < log->n_files && rc == KV_OK; i++)
        if (!log->files[i].sealed)
            rc = load_tail_of(log, &log->files[i], &loaded, err);
    if (rc == KV_OK && log->buf.len == 0)
        log->synced_seq = log->recovered_seq;
    log->written_seq = log->synced_seq;
    return rc;
}

/* ---- opening */

static kv_status note_found(struct recovery *r, struct kv_err *err)
{
    struct kv_log *log = r->log;
    log->salvage = r->known->salvage;
    if (r->damages > 0 && !r->based)
        salvage_base(r);
    if (log->salvage && r->based) {
        struct kv_log_item end = {
            .seq = (r->last_seq > r->known->last_seq ? r->last_seq : r->known->last_seq) + 1};
        kv_status rc = salvage_keep(r, &end, err);
        if (rc < 0)
            return rc;
        r->proven_seq = r->base_seq - 1;
    }
    if (r->last_seq < r->known->last_seq)
        r->last_seq = r->known->last_seq;
    log->recovered_seq = r->last_seq;
    log->records_from = r->known->records_from;
    log->next_seq = r->last_seq + 1;
    log->synced_seq = r->proven_seq;
    log->stats.last_seq = r->last_seq;
    log->stats.synced_seq = r->proven_seq;
    log->stats.files = log->n_files;
    for (size_t i = 0; i < log->n_files; i++)
        log->stats.file_bytes += log->files[i].seal.valid_len;
    log->stats.bytes_ever = log->stats.file_bytes;
    return KV_OK;
}

static kv_status recover(struct recovery *r, struct kv_err *err)
{
    kv_status rc;
    struct kv_dir *dir = r->log->options.dir;
    KV_TRY(dir->ops->list(dir, collect_number, r, err));
    if (r->n_numbers)
        qsort(r->numbers, r->n_numbers, sizeof *r->numbers, compare_numbers);
    r->log->highest = r->n_numbers ? r->numbers[r->n_numbers - 1] : 0;
    KV_TRY(check_present(r, err));
    KV_TRY(first_pass(r, err));
    KV_TRY(note_found(r, err));
out:
    kv_free(r->numbers);
    return rc;
}

static kv_status log_new(const struct kv_log_options *options, struct kv_log **out)
{
    struct kv_log *log = kv_zalloc(1, sizeof *log);
    if (!log)
        return KV_NO_MEMORY;
    log->options = *options;
    if (log->options.file_bytes == 0)
        log->options.file_bytes = 64 << 20;
    log->path = kv_dup_str(options->path ? options->path : "");
    log->options.path = log->path;
    if (!log->path) {
        kv_free(log);
        return KV_NO_MEMORY;
    }
    kv_mutex_init(&log->lock);
    kv_buf_init(&log->buf, TAIL_BYTES_MAX);
    *out = log;
    return KV_OK;
}

kv_status kv_log_open(const struct kv_log_options *options, const struct kv_log_known *known,
                      const struct kv_log_replay *replay, struct kv_log **out, struct kv_err *err)
{
    struct kv_log *log;
    kv_status rc = log_new(options, &log);
    if (rc < 0)
        return kv_fail(err, rc, 0, "opening the log");
    struct recovery r = {.log = log, .known = known, .replay = replay};
    rc = recover(&r, err);
    if (rc < 0) {
        (void)kv_log_close(log, NULL); /* not started: writes nothing */
        return rc;
    }
    *out = log;
    return KV_OK;
}
