#include "kvcore/db/log.h"
#include "kvcore/base/assert.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/log_impl.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    RESERVE_STEP_BYTES = 4 << 20,
    BUF_KEEP_BYTES = 8 << 20,
    SEALED_BYTES = 1 << 20, /* of an encrypted file, appended at a time */
    NUMBER_TRIES = 100000
};

/* ---- names */

void kv_log_name(char out[KV_LOG_NAME_MAX], uint64_t number)
{
    snprintf(out, KV_LOG_NAME_MAX, "%06" PRIu64 ".log", number);
}

bool kv_log_name_parse(const char *name, uint64_t *number)
{
    uint64_t v = 0;
    size_t digits = 0;
    for (; name[digits] >= '0' && name[digits] <= '9'; digits++) {
        if (v > (UINT64_MAX - 9) / 10)
            return false;
        v = v * 10 + (uint64_t)(name[digits] - '0');
    }
    char again[KV_LOG_NAME_MAX];
    kv_log_name(again, v);
    *number = v;
    return v > 0 && strcmp(name, again) == 0; /* one spelling for one number */
}

/* ---- the list of files */

kv_status kv_log_files_reserve(struct kv_log *log)
{
    struct log_file *files = kv_grow(log->files, &log->files_capacity, log->n_files + 1, sizeof *files);
    if (!files)
        return KV_NO_MEMORY;
    log->files = files;
    return KV_OK;
}

kv_status kv_log_doom(struct kv_log *log, uint64_t number)
{
    uint64_t *doomed = kv_grow(log->doomed, &log->doomed_capacity, log->n_doomed + 1, sizeof *doomed);
    if (!doomed)
        return KV_NO_MEMORY;
    log->doomed = doomed;
    log->doomed[log->n_doomed++] = number;
    return KV_OK;
}

/* Leftovers are harmless: one that cannot be removed now is found again at the next open. */
static void remove_doomed(struct kv_log *log)
{
    for (size_t i = 0; i < log->n_doomed; i++) {
        char name[KV_LOG_NAME_MAX];
        struct kv_err err = {0};
        kv_log_name(name, log->doomed[i]);
        kv_status rc = kv_dir_remove(log->options.dir, name, &err);
        if (rc < 0 && rc != KV_MISSING)
            kv_logf(log->options.log, KV_LOG_WARN, "log_remove_failed", "file=%s error=%s", name,
                    KV_LOGQ(err.text));
    }
    log->n_doomed = 0;
}

/* Brings the current file's entry of the list up to what is written (or, once it is bad, to what is known
 * synced). */
static void file_note(struct kv_log *log)
{
    kv_mutex_lock(&log->lock);
    struct log_file *file = &log->files[log->n_files - 1];
    KV_ASSERT(file->seal.number == log->number);
    bool synced_only = log->file_bad && !log->options.forget_unsynced;
    uint64_t record = synced_only ? log->synced_record : log->written_record;
    log->stats.file_bytes -= file->seal.valid_len;
    file->seal.valid_len = synced_only ? log->synced_end : log->end;
    file->seal.last_seq = synced_only ? log->synced_seq : log->written_seq;
    file->seal.last_record_seq = record >= file->first_seq ? record : 0;
    log->stats.file_bytes += file->seal.valid_len;
    log->stats.last_seq = log->written_seq;
    log->stats.synced_seq = log->synced_seq;
    kv_mutex_unlock(&log->lock);
}

/* ---- seals */

/*
 * One manifest edit: every unsealed file but `current` is sealed, or forgotten when it holds no record.
 * KV_OK: the edit is durable. After a failure the old files must not be written again (the edit may be
 * found), and this is tried again before any answer.
 */
static kv_status seal_others(struct kv_log *log, uint64_t current, struct kv_err *err)
{
    size_t n = 0, doomed_before = log->n_doomed;
    kv_mutex_lock(&log->lock);
    struct kv_log_seal *seals = kv_alloc((log->n_files + 1) * sizeof *seals);
    kv_status rc = seals ? KV_OK : KV_NO_MEMORY;
    for (size_t i = 0; i < log->n_files && rc == KV_OK; i++) {
        struct log_file *file = &log->files[i];
        if (file->sealed || file->seal.number == current)
            continue;
        if (file->seal.last_seq >= file->first_seq)
            seals[n++] = file->seal;
        else
            rc = kv_log_doom(log, file->seal.number);
    }
    kv_mutex_unlock(&log->lock);
    rc = rc < 0 ? kv_fail(err, rc, 0, "sealing log files")
                : log->options.hooks.seal(log->options.hooks.ctx, seals, n, current, log->uid, err);
    kv_free(seals);
    if (rc < 0) {
        log->n_doomed = doomed_before;
        return rc;
    }
    kv_mutex_lock(&log->lock);
    size_t kept = 0;
    for (size_t i = 0; i < log->n_files; i++) {
        struct log_file *file = &log->files[i];
        if (file->seal.number != current && !file->sealed && file->seal.last_seq < file->first_seq) {
            log->stats.file_bytes -= file->seal.valid_len;
            continue;
        }
        file->sealed = file->seal.number != current;
        log->files[kept++] = *file;
    }
    log->n_files = kept;
    log->stats.files = kept;
    kv_mutex_unlock(&log->lock);
    log->announced = true;
    remove_doomed(log);
    return KV_OK;
}

/* ---- files */

static void file_close(struct kv_log *log)
{
    kv_file_close(log->file);
    kv_cipher_free(log->cipher);
    log->file = NULL;
    log->cipher = NULL;
    log->file_bad = false;
    log->reserved = 0;
}

/* A number above every log file's that is there: one left over by a crash may have a number that the manifest never heard of. */
static kv_status number_take(struct kv_log *log, uint64_t *number, uint64_t *edit, struct kv_err *err)
{
    for (int tries = 0; tries < NUMBER_TRIES; tries++) {
        kv_status rc = log->options.hooks.new_file(log->options.hooks.ctx, number, edit, err);
        if (rc < 0)
            return rc;
        if (*number > log->highest) {
            log->highest = *number;
            return KV_OK;
        }
    }
    return kv_fail(err, KV_EXISTS, 0,
                   "%s/%06" PRIu64 ".log is in the way: its number is far above any in use", log->path,
                   log->highest);
}

/* A new file whose header and name are durable, so that a record in it is never without them. */
static kv_status file_create(struct kv_log *log, uint64_t first_seq, struct kv_file **out, uint64_t *number,
                             uint8_t uid[KV_FILE_UID_LEN], struct kv_cipher **cipher, struct kv_err *err)
{
    struct kv_dir *dir = log->options.dir;
    struct kv_file_header header = {.kind = KV_FILE_LOG,
                                    .format = KV_LOG_FORMAT,
                                    .owner_epoch = log->options.owner_epoch,
                                    .first_seq = first_seq};
    uint8_t raw[KV_FILE_HEADER_LEN];
    char name[KV_LOG_NAME_MAX];
    struct kv_file *file = NULL;
    kv_status rc;
    *cipher = NULL;
    KV_TRY(number_take(log, number, &header.edit, err));
    memcpy(header.uuid, log->options.uuid, sizeof header.uuid);
    kv_clock_entropy(log->options.clock, header.uid, sizeof header.uid);
    kv_clock_entropy(log->options.clock, header.salt, sizeof header.salt);
    header.key_id = kv_keyring_key_for(log->options.keys, KV_FILE_LOG);
    kv_file_header_encode(&header, raw);
    kv_log_name(name, *number);
    KV_TRY(kv_keyring_cipher(log->options.keys, raw, *number, name, cipher, err));
    KV_TRY(kv_dir_create(dir, name, &file, err));
    KV_TRY(kv_file_append(file, 0, kv_slice_of(raw, sizeof raw), err));
    KV_TRY(kv_file_sync(file, err));
    KV_TRY(kv_dir_sync_names(dir, err));
    *out = file;
    memcpy(uid, header.uid, KV_FILE_UID_LEN);
out:
    if (rc < 0) {
        kv_cipher_free(*cipher);
        *cipher = NULL;
    }
    if (rc < 0 && file) {
        kv_file_close(file);
        (void)dir->ops->remove(dir, name, NULL); /* else a leftover: it has no record and nobody knows it */
    }
    return rc;
}

/* Makes a new file the current one. On failure the old one stays. It is not announced: see seal_others. */
static kv_status file_begin(struct kv_log *log, uint64_t first_seq, struct kv_err *err)
{
    struct kv_file *file = NULL;
    uint64_t number = 0;
    uint8_t uid[KV_FILE_UID_LEN];
    struct kv_cipher *cipher = NULL;
    kv_mutex_lock(&log->lock);
    kv_status rc = kv_log_files_reserve(log);
    kv_mutex_unlock(&log->lock);
    if (rc < 0)
        return kv_fail(err, rc, 0, "beginning a log file");
    rc = file_create(log, first_seq, &file, &number, uid, &cipher, err);
    if (rc < 0)
        return rc;
    file_close(log);
    log->file = file;
    log->number = number;
    memcpy(log->uid, uid, sizeof log->uid);
    log->uid_sum = kv_log_uid_sum(uid);
    log->cipher = cipher;
    log->end = log->synced_end = KV_FILE_HEADER_LEN;
    log->announced = false;
    kv_mutex_lock(&log->lock);
    KV_ASSERT(log->n_files == 0 || log->files[log->n_files - 1].seal.number < number);
    log->files[log->n_files++] = (struct log_file){
        .seal = {.number = number, .valid_len = KV_FILE_HEADER_LEN, .last_seq = first_seq - 1},
        .first_seq = first_seq};
    log->stats.files = log->n_files;
    log->stats.file_bytes += KV_FILE_HEADER_LEN;
    log->stats.bytes_ever += KV_FILE_HEADER_LEN;
    kv_mutex_unlock(&log->lock);
    return KV_OK;
}

/* ---- appending and syncing the current file */

/* Space taken ahead makes the sync cheaper, and a full disk shows before anything is written. */
static kv_status reserve_ahead(struct kv_log *log, size_t len, struct kv_err *err)
{
    uint64_t need = log->end + len;
    if (need <= log->reserved)
        return KV_OK;
    if (log->file->ops->reserve(log->file, need + RESERVE_STEP_BYTES, NULL) == KV_OK) {
        log->reserved = need + RESERVE_STEP_BYTES;
        return KV_OK;
    }
    kv_status rc = log->file->ops->reserve(log->file, need, err);
    return rc == KV_NO_SPACE ? rc : KV_OK; /* otherwise only a hint */
}

/* Into an encrypted file. What lies in buf stays as it is: after a failure it is sealed anew for another file. An offset
 * is sealed a second time under no cipher, for whatever fails here makes the file bad. */
static kv_status append_sealed(struct kv_log *log, const uint8_t *at, const uint8_t *end, struct kv_err *err)
{
    uint64_t offset = log->end;
    while (at < end) {
        size_t sealed = 0, size = 0;
        do {
            kv_status rc = kv_log_fragment_seal(&at, log->cipher, offset + sealed, log->synced_seq,
                                                log->sealed.data + sealed, &size);
            if (rc < 0)
                return kv_fail(err, rc, 0, "encrypting the log");
            sealed += size;
        } while (at < end && sealed < SEALED_BYTES);
        kv_status rc = kv_file_append(log->file, offset, kv_slice_of(log->sealed.data, sealed), err);
        if (rc < 0)
            return rc;
        offset += sealed;
    }
    return KV_OK;
}

static kv_status append_bytes(struct kv_log *log, uint8_t *bytes, size_t len, struct kv_err *err)
{
    if (log->cipher)
        return append_sealed(log, bytes, bytes + len, err);
    kv_log_frame_stamp(bytes, len, log->uid_sum, log->end, log->synced_seq);
    return kv_file_append(log->file, log->end, kv_slice_of(bytes, len), err);
}

/* Appends buf from `from` on. On failure the file is bad, or nothing was written. */
static kv_status append_from(struct kv_log *log, size_t from, struct kv_err *err)
{
    size_t plain = log->buf.len - from, len = plain;
    if (log->cipher) {
        if (kv_buf_reserve(&log->sealed, SEALED_BYTES + KV_LOG_FRAGMENT_SEALED_MAX) < 0)
            return kv_fail(err, KV_NO_MEMORY, 0, "out of memory encrypting the log");
        len = kv_log_sealed_len(log->buf.data + from, plain);
    }
    kv_status rc = reserve_ahead(log, len, err);
    if (rc < 0)
        return rc;
    rc = append_bytes(log, log->buf.data + from, plain, err);
    if (rc < 0) {
        log->file_bad = true;
        return rc;
    }
    log->end += len;
    log->written_seq = log->next_seq - 1;
    if (log->added_record)
        log->written_record = log->added_record;
    log->written = log->buf.len;
    if (log->options.forget_unsynced) {
        kv_buf_clear(&log->buf);
        log->written = 0;
    }
    kv_mutex_lock(&log->lock);
    log->stats.appends++;
    log->stats.bytes_ever += len;
    log->stats.records += log->n_added;
    kv_mutex_unlock(&log->lock);
    log->n_added = 0;
    log->added_record = 0;
    return KV_OK;
}

static kv_status sync_current(struct kv_log *log, struct kv_err *err)
{
    kv_status rc = kv_file_sync(log->file, err);
    if (rc < 0) {
        log->file_bad = true;
        return rc;
    }
    kv_mutex_lock(&log->lock);
    log->stats.syncs++;
    kv_mutex_unlock(&log->lock);
    /* What was added but not written stays, at the front. */
    size_t added = log->buf.len - log->written;
    if (added && log->written)
        memmove(log->buf.data, log->buf.data + log->written, added);
    log->buf.len = added;
    log->written = 0;
    log->synced_seq = log->written_seq;
    log->synced_end = log->end;
    log->synced_record = log->written_record;
    if (added == 0 && log->buf.capacity > BUF_KEEP_BYTES)
        kv_buf_release(&log->buf);
    return KV_OK;
}

/* Whatever was added or written and is not known synced is given up; its sequences are free again. */
static void forget_all(struct kv_log *log)
{
    kv_buf_clear(&log->buf);
    log->written = 0;
    log->n_added = 0;
    log->added_record = 0;
    log->written_seq = log->synced_seq;
    log->written_record = log->synced_record;
    log->next_seq = log->synced_seq + 1;
}

static kv_status log_die(struct kv_log *log, struct kv_err *err)
{
    struct kv_err why = err ? *err : (struct kv_err){0};
    log->dead = true;
    kv_buf_release(&log->buf);
    kv_logf(log->options.log, KV_LOG_ERROR, "log_dead", "synced_seq=%" PRIu64 " error=%s", log->synced_seq,
            KV_LOGQ(why.text));
    return kv_fail(err, KV_UNKNOWN_OUTCOME, why.sys,
                   "the log could not be written; its last records may or may not be found later: %.120s",
                   why.text);
}

/* No new file can be had. If the old one can at least be sealed where it was known good, nothing past that
 * will ever be found. */
static kv_status rewrite_refused(struct kv_log *log, size_t answered, kv_status code, struct kv_err *err)
{
    if (answered > 0 || seal_others(log, 0, NULL) < 0)
        return log_die(log, err);
    file_close(log);
    forget_all(log);
    return code;
}

/*
 * After a failed append or sync the current file is never touched again: what is in buf goes, once, into a
 * new file. `answered`: how many of its bytes belong to commits that were answered before. KV_OK: all of buf
 * is durable, and the old file is sealed where it was known good. KV_UNKNOWN_OUTCOME: the log is dead. Other:
 * all of buf is given up, nothing of it will be found.
 */
static kv_status log_rewrite(struct kv_log *log, size_t answered, struct kv_err *err)
{
    struct kv_err cause = err ? *err : (struct kv_err){0};
    kv_logf(log->options.log, KV_LOG_WARN, "log_rewrite",
            "file=%06" PRIu64 ".log synced_seq=%" PRIu64 " bytes=%zu error=%s", log->number, log->synced_seq,
            log->buf.len, KV_LOGQ(cause.text));
    log->written_seq = log->synced_seq;
    file_note(log);
    kv_status rc = file_begin(log, log->synced_seq + 1, err);
    if (rc < 0)
        return rewrite_refused(log, answered, rc, err);
    kv_mutex_lock(&log->lock);
    log->stats.rewrites++;
    kv_mutex_unlock(&log->lock);
    log->written = 0;
    if (log->buf.len > 0 && (append_from(log, 0, err) < 0 || sync_current(log, err) < 0))
        return log_die(log, err);
    file_note(log);
    return seal_others(log, log->number, err) < 0 ? log_die(log, err) : KV_OK;
}

static kv_status append_failed(struct kv_log *log, kv_status code, struct kv_err *err)
{
    size_t answered = log->written;
    if (log->options.forget_unsynced && log->written_seq > log->synced_seq) {
        /* Earlier records are in the file alone: its good part must become durable before it can be sealed.
         */
        size_t added = log->buf.len;
        log->buf.len = 0;
        if (sync_current(log, err) < 0)
            return log_die(log, err);
        log->buf.len = added;
        log->file_bad = true;
    }
    if (code != KV_NO_SPACE)
        return log_rewrite(log, answered, err);
    /* A full disk: the group is refused, what was answered before must live on. */
    struct kv_err full = err ? *err : (struct kv_err){0};
    log->buf.len = log->written;
    log->next_seq = log->written_seq + 1;
    log->n_added = 0;
    log->added_record = 0;
    kv_status rc = log_rewrite(log, answered, err);
    return rc == KV_UNKNOWN_OUTCOME ? rc : kv_fail(err, KV_NO_SPACE, full.sys, "%s", full.text);
}

/* A current file that is announced and not full. On failure nothing that was added is stored. */
static kv_status file_ready(struct kv_log *log, struct kv_err *err)
{
    kv_status rc = KV_OK;
    bool full = log->file && log->end >= log->options.file_bytes && log->end > KV_FILE_HEADER_LEN;
    if (!log->file || full)
        rc = file_begin(log, log->written_seq + 1, err);
    if (rc == KV_OK && full) {
        kv_mutex_lock(&log->lock);
        log->stats.rolls++;
        kv_mutex_unlock(&log->lock);
    }
    if (rc == KV_OK && !log->announced)
        rc = seal_others(log, log->number, err);
    return rc;
}

static kv_status dead_fail(struct kv_err *err)
{
    return kv_fail(err, KV_READ_ONLY, 0, "the log failed earlier; restart to write again");
}

kv_status kv_log_add(struct kv_log *log, uint64_t seq, kv_slice batch, kv_slice record)
{
    KV_ASSERT(log->started && seq == log->next_seq);
    kv_status rc = kv_log_frame_add(&log->buf, seq, batch, record);
    if (rc < 0)
        return rc;
    log->next_seq++;
    log->n_added++;
    if (record.len)
        log->added_record = seq;
    return KV_OK;
}

void kv_log_drop(struct kv_log *log)
{
    log->buf.len = log->written;
    log->next_seq = log->written_seq + 1;
    log->n_added = 0;
    log->added_record = 0;
}

kv_status kv_log_sync(struct kv_log *log, struct kv_err *err)
{
    if (log->dead)
        return dead_fail(err);
    KV_ASSERT(log->n_added == 0);
    if (log->written_seq == log->synced_seq)
        return KV_OK;
    size_t answered = log->written;
    kv_status rc = sync_current(log, err);
    if (rc < 0)
        rc = log->options.forget_unsynced ? log_die(log, err) : log_rewrite(log, answered, err);
    else
        file_note(log);
    return rc;
}

/* The group is in buf behind what was written before. */
static kv_status write_group(struct kv_log *log, bool sync, struct kv_err *err)
{
    size_t answered = log->written;
    bool forget = log->options.forget_unsynced;
    kv_status rc = append_from(log, log->written, err);
    if (rc < 0 && !log->file_bad) {
        kv_log_drop(log);
        return rc;
    }
    if (rc < 0)
        return append_failed(log, rc, err);
    if (sync && sync_current(log, err) < 0)
        return forget ? log_die(log, err) : log_rewrite(log, answered, err);
    file_note(log);
    return KV_OK;
}

kv_status kv_log_write(struct kv_log *log, bool sync, struct kv_err *err)
{
    if (log->dead)
        return dead_fail(err);
    if (log->n_added == 0)
        return sync ? kv_log_sync(log, err) : KV_OK;
    kv_status rc = KV_OK;
    if (log->file && log->end >= log->options.file_bytes && log->written_seq > log->synced_seq) {
        /* A file is complete and synced before the next one begins. */
        size_t answered = log->written;
        rc = sync_current(log, err);
        if (rc < 0)
            return log->options.forget_unsynced ? log_die(log, err) : log_rewrite(log, answered, err);
        file_note(log);
    }
    rc = file_ready(log, err);
    if (rc < 0) {
        kv_log_drop(log);
        return rc;
    }
    return write_group(log, sync, err);
}

kv_status kv_log_roll(struct kv_log *log, struct kv_err *err)
{
    if (log->dead) /* what was added when it died stays added */
        return dead_fail(err);
    KV_ASSERT(log->n_added == 0);
    kv_status rc = kv_log_sync(log, err);
    if (rc == KV_OK && log->file && log->end > KV_FILE_HEADER_LEN)
        rc = file_begin(log, log->written_seq + 1, err);
    return rc == KV_OK ? file_ready(log, err) : rc;
}

uint64_t kv_log_next_seq(const struct kv_log *log)
{
    return log->next_seq;
}

bool kv_log_alive(const struct kv_log *log)
{
    return !log->dead;
}

kv_status kv_log_start(struct kv_log *log, struct kv_err *err)
{
    KV_ASSERT(!log->started);
    kv_status rc;
    KV_TRY(kv_log_load_tail(log, err));
    KV_TRY(file_begin(log, log->synced_seq + 1, err));
    if (log->buf.len > 0) {
        KV_TRY(append_from(log, 0, err));
        KV_TRY(sync_current(log, err));
        file_note(log);
    }
    /* Only now may the older files be sealed before the records that were just written again. */
    KV_TRY(seal_others(log, log->number, err));
    file_note(log);
    log->started = true;
out:
    if (rc < 0)
        log->dead = true;
    return rc;
}

kv_status kv_log_close(struct kv_log *log, struct kv_err *err)
{
    kv_status rc = KV_OK;
    if (!log)
        return KV_OK;
    if (log->started && !log->dead) {
        kv_log_drop(log);
        rc = kv_log_sync(log, err);
        if (rc == KV_OK && log->file)
            rc = seal_others(log, 0, err);
    }
    file_close(log);
    kv_buf_release(&log->buf);
    kv_buf_release(&log->sealed);
    kv_mutex_release(&log->lock);
    kv_free(log->files);
    kv_free(log->doomed);
    kv_free(log->path);
    kv_free(log);
    return rc;
}

/* ---- floors, insight: any thread */

static bool file_needed(const struct log_file *file, uint64_t puts_from, uint64_t records_from)
{
    return !file->sealed || file->seal.last_seq >= puts_from ||
           (file->seal.last_record_seq > 0 && file->seal.last_record_seq >= records_from);
}

static size_t needed_from(const struct kv_log *log, uint64_t puts_from, uint64_t records_from)
{
    size_t i = 0;
    while (i < log->n_files && !file_needed(&log->files[i], puts_from, records_from))
        i++;
    return i;
}

uint64_t kv_log_first_needed(struct kv_log *log, uint64_t puts_from, uint64_t records_from)
{
    kv_mutex_lock(&log->lock);
    size_t i = needed_from(log, puts_from, records_from);
    uint64_t first = UINT64_MAX;
    if (i < log->n_files)
        first = log->files[i].seal.number;
    else if (log->n_files)
        first = log->files[log->n_files - 1].seal.number + 1;
    kv_mutex_unlock(&log->lock);
    return first == UINT64_MAX ? 0 : first;
}

/* Takes the oldest file off the list if it is sealed and numbered below first. */
static bool trim_take(struct kv_log *log, uint64_t first, uint64_t *number)
{
    kv_mutex_lock(&log->lock);
    bool take = log->n_files > 0 && log->files[0].sealed && log->files[0].seal.number < first;
    if (take) {
        *number = log->files[0].seal.number;
        log->stats.file_bytes -= log->files[0].seal.valid_len;
        log->n_files--;
        log->stats.files = log->n_files;
        memmove(log->files, log->files + 1, log->n_files * sizeof *log->files);
    }
    kv_mutex_unlock(&log->lock);
    return take;
}

kv_status kv_log_trim_below(struct kv_log *log, uint64_t first, struct kv_err *err)
{
    kv_status rc = KV_OK;
    uint64_t number;
    while (trim_take(log, first, &number)) {
        char name[KV_LOG_NAME_MAX];
        kv_log_name(name, number);
        kv_status removed = kv_dir_remove(log->options.dir, name, rc < 0 ? NULL : err);
        if (removed < 0 && removed != KV_MISSING && rc == KV_OK)
            rc = removed;
    }
    return rc;
}

kv_status kv_log_files(struct kv_log *log,
                       kv_status (*each)(void *ctx, const struct kv_log_seal *file, bool sealed), void *ctx)
{
    kv_status rc = KV_OK;
    kv_mutex_lock(&log->lock);
    size_t n = log->n_files;
    struct log_file *copy = kv_alloc((n + 1) * sizeof *copy);
    if (copy && n)
        memcpy(copy, log->files, n * sizeof *copy);
    kv_mutex_unlock(&log->lock);
    if (!copy)
        return KV_NO_MEMORY;
    for (size_t i = 0; i < n && rc >= 0; i++)
        rc = each(ctx, &copy[i].seal, copy[i].sealed);
    kv_free(copy);
    return rc < 0 ? rc : KV_OK;
}

void kv_log_stats(struct kv_log *log, struct kv_log_stats *out)
{
    *out = (struct kv_log_stats){0};
    if (!log)
        return;
    kv_mutex_lock(&log->lock);
    *out = log->stats;
    kv_mutex_unlock(&log->lock);
}
