#include "tests/support/log_kit.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/crc32c.h"
#include "kvcore/base/mem.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void log_kit_die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}

/* ---- content */

static size_t record_len_of(uint64_t id)
{
    if (id % 7 == 3)
        return 0;
    if (id % 97 == 5)
        return 70000; /* three fragments */
    return 8 + (size_t)(id * 37 % 300);
}

static size_t puts_of(uint64_t id)
{
    return id % 5 == 0 && record_len_of(id) ? 0 : 1 + id % 3;
}

static void fill(uint8_t *at, size_t len, uint64_t id)
{
    for (size_t i = 0; i < len; i++)
        at[i] = (uint8_t)(id * 131 + i * 7);
    if (len >= 8)
        kv_put_fixed64(at, id);
}

/* The kit's own allocations are not what a test wants to see fail. */
static bool (*faults_pause(void))(size_t)
{
    bool (*paused)(size_t) = kv_mem_should_fail;
    if (paused)
        kv_mem_should_fail = NULL;
    return paused;
}

static void faults_resume(bool (*paused)(size_t))
{
    if (paused)
        kv_mem_should_fail = paused;
}

void log_kit_batch(struct kv_batch *batch, uint64_t id)
{
    uint8_t key[12], value[64];
    kv_batch_clear(batch);
    for (size_t i = 0; i < puts_of(id); i++) {
        kv_put_be64(key, id);
        kv_put_be32(key + 8, (uint32_t)i);
        fill(value, sizeof value, id + i);
        kv_status rc = i == 2 ? kv_batch_delete(batch, 1, kv_slice_of(key, sizeof key))
                              : kv_batch_put(batch, (uint32_t)(i & 1), kv_slice_of(key, sizeof key),
                                             kv_slice_of(value, sizeof value - i));
        if (rc < 0)
            log_kit_die("batch: %s", kv_status_text(rc));
    }
}

kv_slice log_kit_record(struct kv_buf *buf, uint64_t id)
{
    size_t len = record_len_of(id);
    kv_buf_clear(buf);
    uint8_t *at = kv_buf_extend(buf, len);
    if (len && !at)
        log_kit_die("no memory for a record");
    fill(at, len, id);
    return kv_slice_of(at, len);
}

uint64_t log_kit_check(kv_slice batch, kv_slice record)
{
    kv_slice rest = batch;
    struct kv_batch_entry entry;
    uint64_t id = 0;
    if (record.len == 0 && batch.len == 0)
        return 0;
    if (record.len >= 8)
        id = kv_get_fixed64(record.data);
    else if (kv_batch_next(&rest, &entry) == KV_OK && entry.key.len == 12)
        id = kv_get_be64(entry.key.data);
    struct kv_batch *expect;
    struct kv_buf buf = {0};
    bool (*paused)(size_t) = faults_pause();
    if (kv_batch_new(&expect) < 0)
        log_kit_die("no memory");
    log_kit_batch(expect, id);
    if (!kv_slice_equal(kv_batch_bytes(expect), batch) || !kv_slice_equal(log_kit_record(&buf, id), record))
        log_kit_die("commit %" PRIu64 " came back with other bytes", id);
    kv_batch_free(expect);
    kv_buf_release(&buf);
    faults_resume(paused);
    return id;
}

/* ---- the manifest: edit, current, next number, last sequence, floor, seals, crc; a new file each time, then published */

enum { MANIFEST_FIXED = 5 * 8, MANIFEST_SEAL = 4 * 8 };

static kv_status manifest_parse(struct log_kit_manifest *m, kv_slice all)
{
    uint64_t *const fields[] = {&m->edit, &m->current, &m->next_number, &m->last_seq, &m->floor};
    if (all.len < MANIFEST_FIXED + 4 || (all.len - MANIFEST_FIXED - 4) % MANIFEST_SEAL != 0 ||
        kv_crc32c(0, kv_slice_of(all.data, all.len - 4)) != kv_get_fixed32(all.data + all.len - 4))
        return KV_CORRUPT;
    for (size_t i = 0; i < 5; i++)
        *fields[i] = kv_get_fixed64(all.data + 8 * i);
    m->n_seals = (all.len - MANIFEST_FIXED - 4) / MANIFEST_SEAL;
    for (size_t i = 0; i < m->n_seals; i++) {
        const uint8_t *at = all.data + MANIFEST_FIXED + i * MANIFEST_SEAL;
        m->seals[i] = (struct kv_log_seal){kv_get_fixed64(at), kv_get_fixed64(at + 8),
                                           kv_get_fixed64(at + 16), kv_get_fixed64(at + 24)};
    }
    return KV_OK;
}

kv_status log_kit_manifest_load(struct log_kit_manifest *m, struct kv_dir *dir, struct kv_err *err)
{
    struct kv_buf name = {0}, all = {0};
    struct kv_file *file = NULL;
    uint64_t size;
    m->dir = dir;
    m->next_number = 1;
    m->floor = 1;
    kv_status rc = dir->ops->published(dir, &name, &m->generation, err);
    if (rc != KV_OK) {
        kv_buf_release(&name);
        return rc;
    }
    KV_TRY(kv_buf_append_byte(&name, 0));
    m->stored_as = strtoull((char *)name.data, NULL, 10);
    KV_TRY(kv_dir_open_file(dir, (char *)name.data, &file, err));
    KV_TRY(kv_file_size(file, &size, err));
    uint8_t *at = kv_buf_extend(&all, (size_t)size);
    KV_TRY(at ? KV_OK : KV_NO_MEMORY);
    KV_TRY(kv_file_read_exact(file, 0, (size_t)size, at, err));
    rc = manifest_parse(m, kv_buf_slice(&all));
    if (rc < 0)
        rc = kv_fail(err, rc, 0, "the kit's manifest is damaged");
out:
    kv_file_close(file);
    kv_buf_release(&name);
    kv_buf_release(&all);
    return rc;
}

kv_status log_kit_manifest_store(struct log_kit_manifest *m, struct kv_err *err)
{
    struct kv_buf all = {0};
    struct kv_file *file = NULL;
    char name[32], old[32];
    uint64_t number;
    kv_status rc;
    if (m->loose)
        return KV_OK;
    number = m->next_number++;
    const uint64_t fields[] = {m->edit, m->current, m->next_number, m->last_seq, m->floor};
    for (size_t i = 0; i < 5; i++)
        KV_TRY(kv_buf_append_fixed64(&all, fields[i]));
    for (size_t i = 0; i < m->n_seals; i++) {
        KV_TRY(kv_buf_append_fixed64(&all, m->seals[i].number));
        KV_TRY(kv_buf_append_fixed64(&all, m->seals[i].valid_len));
        KV_TRY(kv_buf_append_fixed64(&all, m->seals[i].last_seq));
        KV_TRY(kv_buf_append_fixed64(&all, m->seals[i].last_record_seq));
    }
    KV_TRY(kv_buf_append_fixed32(&all, kv_crc32c(0, kv_buf_slice(&all))));
    snprintf(name, sizeof name, "%06" PRIu64 ".kit", number);
    snprintf(old, sizeof old, "%06" PRIu64 ".kit", m->stored_as);
    while ((rc = kv_dir_create(m->dir, name, &file, err)) == KV_EXISTS) { /* a leftover of a crash */
        number = m->next_number++;
        snprintf(name, sizeof name, "%06" PRIu64 ".kit", number);
    }
    KV_TRY(rc);
    KV_TRY(kv_file_append(file, 0, kv_buf_slice(&all), err));
    KV_TRY(kv_file_sync(file, err));
    KV_TRY(kv_dir_sync_names(m->dir, err));
    KV_TRY(m->dir->ops->publish(m->dir, kv_slice_str(name), m->generation, err));
    m->generation++;
    if (m->stored_as)
        (void)m->dir->ops->remove(m->dir, old, NULL);
    m->stored_as = number;
out:
    kv_file_close(file);
    kv_buf_release(&all);
    return rc;
}

static kv_status kit_new_file(void *ctx, uint64_t *number, uint64_t *edit, struct kv_err *err)
{
    struct log_kit_manifest *m = ctx;
    (void)err;
    *number = m->next_number++;
    *edit = m->edit;
    return KV_OK;
}

static kv_status kit_seal(void *ctx, const struct kv_log_seal *seals, size_t n, uint64_t current,
                          const uint8_t current_uid[KV_FILE_UID_LEN], struct kv_err *err)
{
    struct log_kit_manifest *m = ctx;
    size_t n_before = m->n_seals;
    (void)current_uid;
    uint64_t current_before = m->current, last_before = m->last_seq;
    for (size_t i = 0; i < n; i++) {
        if (m->n_seals && m->seals[m->n_seals - 1].number >= seals[i].number)
            log_kit_die("log %" PRIu64 " is sealed twice or out of order", seals[i].number);
        if (m->n_seals == LOG_KIT_SEALS_MAX)
            log_kit_die("too many seals for the kit");
        m->seals[m->n_seals++] = seals[i];
        m->last_seq = seals[i].last_seq;
    }
    m->current = current;
    m->edit++;
    kv_status rc = m->dead ? KV_IO : log_kit_manifest_store(m, err);
    if (rc < 0) {
        m->n_seals = n_before;
        m->current = current_before;
        m->last_seq = last_before;
        m->edit--;
    } else if (m->sealed) {
        m->sealed(m->sealed_ctx);
    }
    return rc;
}

struct kv_log_hooks log_kit_hooks(struct log_kit_manifest *manifest)
{
    return (struct kv_log_hooks){manifest, kit_new_file, kit_seal};
}

/* ---- seen */

void log_kit_seen_release(struct log_kit_seen *seen)
{
    free(seen->ids);
    *seen = (struct log_kit_seen){0};
}

void log_kit_seen_add(struct log_kit_seen *seen, uint64_t seq, uint64_t id)
{
    if (seen->n == 0)
        seen->first = seq;
    if (seq != seen->first + seen->n)
        log_kit_die("sequence %" PRIu64 " after %" PRIu64, seq, seen->first + seen->n - 1);
    if (seen->n == seen->capacity) {
        seen->capacity = seen->capacity ? seen->capacity * 2 : 64;
        seen->ids = realloc(seen->ids, seen->capacity * sizeof *seen->ids);
        if (!seen->ids)
            log_kit_die("no memory");
    }
    seen->ids[seen->n++] = id;
}

static kv_status seen_commit(void *ctx, uint64_t seq, kv_slice batch, kv_slice record, struct kv_err *err)
{
    struct log_kit_seen *seen = ctx;
    (void)err;
    seen->record_bytes += record.len;
    log_kit_seen_add(seen, seq, log_kit_check(batch, record));
    return KV_OK;
}

struct kv_log_replay log_kit_replay(struct log_kit_seen *seen)
{
    return (struct kv_log_replay){.ctx = seen, .commit = seen_commit};
}

/* ---- a running one */

static kv_status kit_room(void *ctx, uint64_t first_seq, size_t entries, size_t bytes, struct kv_err *err)
{
    struct log_kit *kit = ctx;
    (void)first_seq, (void)entries, (void)bytes, (void)err;
    return kit->room_answer;
}

/* The apply hooks note the id under the sequence once: batch first, then record of the same commit. */
static kv_status kit_apply(void *ctx, uint64_t seq, kv_slice batch)
{
    struct log_kit *kit = ctx;
    struct kv_batch_entry entry;
    if (kv_batch_next(&batch, &entry) != KV_OK)
        return KV_CORRUPT;
    log_kit_seen_add(&kit->applied, seq, kv_get_be64(entry.key.data));
    return KV_OK;
}

static void kit_record(void *ctx, uint64_t seq, kv_slice record, void *commit_ctx)
{
    struct log_kit *kit = ctx;
    (void)commit_ctx;
    if (kit->applied.n && seq == kit->applied.first + kit->applied.n - 1)
        return; /* its batch was noted */
    log_kit_seen_add(&kit->applied, seq, kv_get_fixed64(record.data));
}

static struct kv_keyring *log_kit_keys;

void log_kit_encrypt(void)
{
    static const uint8_t master[KV_CIPHER_KEY_LEN] = "a master key of thirty-two bytes";
    struct kv_data_key key;
    if (kv_keyring_new(master, (const uint8_t *)"the test's uuid", &log_kit_keys) < 0 ||
        kv_keyring_make(log_kit_keys, kv_clock_system(), &key) < 0)
        log_kit_die("no keyring");
    kv_keyring_use(log_kit_keys, key.id);
}

static kv_status kit_open_log(struct log_kit *kit, struct kv_err *err)
{
    struct log_kit_manifest *m = &kit->manifest;
    struct kv_log_options options = {.dir = kit->dir,
                                     .path = "db",
                                     .clock = kit->options.clock,
                                     .uuid = "the test's uuid",
                                     .owner_epoch = 1,
                                     .keys = log_kit_keys,
                                     .file_bytes = kit->options.file_bytes,
                                     .forget_unsynced = kit->options.durability == KV_DURABILITY_OS,
                                     .hooks = log_kit_hooks(m)};
    struct kv_log_known known = {.seals = m->seals,
                                 .n_seals = m->n_seals,
                                 .current = m->current,
                                 .edit = m->edit,
                                 .last_seq = m->last_seq,
                                 .puts_from = m->floor,
                                 .records_from = m->floor};
    struct kv_log_replay replay = log_kit_replay(&kit->recovered);
    kv_status rc = kv_log_open(&options, &known, &replay, &kit->log, err);
    return rc == KV_OK ? kv_log_start(kit->log, err) : rc;
}

kv_status log_kit_open(struct log_kit *kit, struct kv_vfs *vfs, const struct log_kit_options *options,
                       struct kv_err *err)
{
    *kit = (struct log_kit){.options = *options};
    clock_manual_init(&kit->clock, 1700000000000, 1);
    if (!kit->options.clock)
        kit->options.clock = &kit->clock.base;
    if (!kit->options.file_bytes)
        kit->options.file_bytes = 700;
    kv_status rc = kv_vfs_dir_open(vfs, "db", true, &kit->dir, err);
    if (rc == KV_OK && !options->loose_manifest)
        rc = log_kit_manifest_load(&kit->manifest, kit->dir, err);
    if (options->loose_manifest)
        kit->manifest =
            (struct log_kit_manifest){.dir = kit->dir, .next_number = 1, .floor = 1, .loose = true};
    /* Another uid for every open: the clock's entropy is seeded. */
    kv_prng_init(&kit->clock.prng, kit->manifest.next_number * 7919 + 1);
    if (rc >= 0)
        rc = kit_open_log(kit, err);
    if (rc >= 0) {
        struct kv_committer_options committer = {
            .log = kit->log,
            .dir = kit->dir,
            .clock = kit->options.clock,
            .durability = options->durability,
            .sync_interval_ms = options->sync_interval_ms,
            .disk_reserve_bytes = options->disk_reserve_bytes,
            .no_thread = options->no_thread,
            .n_spaces = 2,
            .hooks = {
                .ctx = kit, .room = kit_room, .apply = kit_apply, .record = kit_record, .record_ctx = kit}};
        rc = kv_committer_open(&committer, &kit->committer, err);
    }
    if (rc < 0)
        log_kit_abandon(kit);
    return rc < 0 ? rc : KV_OK;
}

static void kit_free(struct log_kit *kit)
{
    kv_dir_close(kit->dir);
    log_kit_seen_release(&kit->recovered);
    log_kit_seen_release(&kit->applied);
    clock_manual_release(&kit->clock);
    *kit = (struct log_kit){0};
}

kv_status log_kit_close(struct log_kit *kit, struct kv_err *err)
{
    kv_status rc = kv_committer_close(kit->committer, err);
    kv_status closed = kv_log_close(kit->log, rc == KV_OK ? err : NULL);
    kit_free(kit);
    return rc < 0 ? rc : closed;
}

void log_kit_abandon(struct log_kit *kit)
{
    kit->manifest.dead = true; /* so nothing that closing writes can count */
    (void)kv_committer_close(kit->committer, NULL);
    (void)kv_log_close(kit->log, NULL);
    kit_free(kit);
}

kv_status log_kit_commit(struct log_kit *kit, uint64_t id, uint64_t *seq, struct kv_err *err)
{
    struct kv_batch *batch;
    struct kv_buf buf = {0};
    bool (*paused)(size_t) = faults_pause();
    if (kv_batch_new(&batch) < 0)
        log_kit_die("no memory");
    log_kit_batch(batch, id);
    struct kv_commit_options options = {.record = log_kit_record(&buf, id)};
    faults_resume(paused);
    kv_status rc = kv_committer_commit(kit->committer, batch, &options, seq, err);
    kv_batch_free(batch);
    kv_buf_release(&buf);
    return rc;
}

/* ---- judgement */

void log_kit_history_release(struct log_kit_history *history)
{
    free(history->items);
    *history = (struct log_kit_history){0};
}

void log_kit_history_add(struct log_kit_history *history, struct log_kit_sent sent)
{
    if (history->n == history->capacity) {
        history->capacity = history->capacity ? history->capacity * 2 : 64;
        history->items = realloc(history->items, history->capacity * sizeof *history->items);
        if (!history->items)
            log_kit_die("no memory");
    }
    history->items[history->n++] = sent;
}

static const struct log_kit_sent *sent_of(const struct log_kit_history *history, uint64_t id)
{
    for (size_t i = 0; i < history->n; i++)
        if (history->items[i].id == id)
            return &history->items[i];
    return NULL;
}

const char *log_kit_judge(const struct log_kit_seen *seen, const struct log_kit_history *history,
                          uint64_t ops, uint64_t floor)
{
    static char text[160];
    for (size_t i = 0; i < history->n; i++) {
        const struct log_kit_sent *sent = &history->items[i];
        if (sent->answer != KV_OK || sent->ops >= ops || sent->seq < floor)
            continue;
        if (sent->seq < seen->first || sent->seq - seen->first >= seen->n ||
            seen->ids[sent->seq - seen->first] != sent->id) {
            snprintf(text, sizeof text, "commit %" PRIu64 ", answered as sequence %" PRIu64 ", is lost",
                     sent->id, sent->seq);
            return text;
        }
    }
    for (size_t i = 0; i < seen->n; i++) {
        const struct log_kit_sent *sent = seen->ids[i] ? sent_of(history, seen->ids[i]) : NULL;
        if (seen->ids[i] == 0)
            continue;
        if (sent && sent->answer < 0 && sent->answer != KV_UNKNOWN_OUTCOME && sent->ops < ops) {
            snprintf(text, sizeof text, "commit %" PRIu64 " was refused (%s) and is there", sent->id,
                     kv_status_name(sent->answer));
            return text;
        }
        for (size_t j = 0; j < i; j++)
            if (seen->ids[j] == seen->ids[i]) {
                snprintf(text, sizeof text, "commit %" PRIu64 " is there twice", seen->ids[i]);
                return text;
            }
    }
    return NULL;
}
