#include "tests/support/damage_kit.h"
#include "kvcore/base/assert.h"
#include "kvcore/db/commit.h"
#include "kvcore/db/log_read.h"
#include "kvcore/db/manifest.h"
#include "tests/support/kv_kit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { LONG = 100 }; /* values of this length lie in the value log */

static const uint8_t master[KV_MASTER_KEY_LEN] = "the master key of damaged files.";

/* ---- a directory as bytes */

static kv_status load_name(void *ctx, const char *name, uint64_t bytes)
{
    struct damage_dir *dir = ctx;
    dir->files = realloc(dir->files, (dir->n + 1) * sizeof *dir->files);
    KV_ASSERT(dir->files && strlen(name) < sizeof dir->files->name);
    struct damage_file *file = &dir->files[dir->n++];
    *file = (struct damage_file){.len = (size_t)bytes};
    memcpy(file->name, name, strlen(name) + 1);
    return KV_OK;
}

static int order_files(const void *a, const void *b)
{
    return strcmp(((const struct damage_file *)a)->name, ((const struct damage_file *)b)->name);
}

void damage_dir_load(struct damage_dir *dir, struct kv_vfs *vfs, const char *path)
{
    struct kv_dir *from = NULL;
    struct kv_file *file = NULL;
    struct kv_buf published = {0};
    *dir = (struct damage_dir){0};
    KV_ASSERT(kv_vfs_dir_open(vfs, path, false, &from, NULL) == KV_OK);
    KV_ASSERT(from->ops->list(from, load_name, dir, NULL) == KV_OK);
    for (size_t i = 0; i < dir->n; i++) {
        struct damage_file *at = &dir->files[i];
        at->bytes = malloc(at->len ? at->len : 1);
        KV_ASSERT(at->bytes && kv_dir_open_file(from, at->name, &file, NULL) == KV_OK);
        KV_ASSERT(kv_file_read_exact(file, 0, at->len, at->bytes, NULL) == KV_OK);
        kv_file_close(file);
    }
    if (dir->n > 1)
        qsort(dir->files, dir->n, sizeof *dir->files, order_files);
    KV_ASSERT(from->ops->published(from, &published, &dir->generation, NULL) >= 0);
    KV_ASSERT(published.len <= sizeof dir->published);
    if (published.len)
        memcpy(dir->published, published.data, published.len);
    dir->published_len = published.len;
    kv_buf_release(&published);
    kv_dir_close(from);
}

void damage_dir_store(const struct damage_dir *dir, struct kv_vfs *vfs, const char *path)
{
    struct kv_dir *to = NULL;
    struct kv_file *file = NULL;
    KV_ASSERT(kv_vfs_dir_open(vfs, path, true, &to, NULL) == KV_OK);
    for (size_t i = 0; i < dir->n; i++) {
        kv_slice bytes = kv_slice_of(dir->files[i].bytes, dir->files[i].len);
        KV_ASSERT(kv_dir_create(to, dir->files[i].name, &file, NULL) == KV_OK);
        KV_ASSERT(kv_file_append(file, 0, bytes, NULL) == KV_OK && kv_file_sync(file, NULL) == KV_OK);
        kv_file_close(file);
    }
    KV_ASSERT(kv_dir_sync_names(to, NULL) == KV_OK);
    if (dir->generation > 0)
        KV_ASSERT(to->ops->publish(to, kv_slice_of(dir->published, dir->published_len), 0, NULL) == KV_OK);
    kv_dir_close(to);
}

void damage_dir_copy(const struct damage_dir *dir, struct damage_dir *out)
{
    *out = *dir;
    out->files = calloc(dir->n ? dir->n : 1, sizeof *out->files);
    KV_ASSERT(out->files != NULL);
    for (size_t i = 0; i < dir->n; i++) {
        memcpy(out->files[i].name, dir->files[i].name, sizeof out->files[i].name);
        damage_file_set(&out->files[i], dir->files[i].bytes, dir->files[i].len);
    }
}

void damage_dir_release(struct damage_dir *dir)
{
    for (size_t i = 0; i < dir->n; i++)
        free(dir->files[i].bytes);
    free(dir->files);
    *dir = (struct damage_dir){0};
}

struct damage_file *damage_dir_file(struct damage_dir *dir, const char *name)
{
    for (size_t i = 0; i < dir->n; i++)
        if (strcmp(dir->files[i].name, name) == 0)
            return &dir->files[i];
    return NULL;
}

void damage_file_set(struct damage_file *file, const void *bytes, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    KV_ASSERT(copy != NULL);
    if (len)
        memcpy(copy, bytes, len);
    free(file->bytes);
    file->bytes = copy;
    file->len = len;
}

void damage_dir_remove(struct damage_dir *dir, const char *name)
{
    struct damage_file *file = damage_dir_file(dir, name);
    KV_ASSERT(file != NULL);
    free(file->bytes);
    size_t at = (size_t)(file - dir->files);
    memmove(file, file + 1, (dir->n - at - 1) * sizeof *file);
    dir->n--;
}

/* ---- a database's life */

/* Operands are put behind the value. */
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

static void kit_init(struct kv_kit *kit, struct kv_vfs *vfs, bool encrypted)
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
                                               .value_separate_bytes = 64};
    kit->spaces[1].compression = KV_COMPRESSION_ZSTD;
    kit->spaces[2] = (struct kv_space_options){
        .name = "c", .compression = KV_COMPRESSION_SNAPPY, .merge = &append_operator};
    kit->options.n_spaces = DAMAGE_SPACES;
    kit->options.log_file_bytes = 1024;
    if (encrypted)
        kit->options.key.master_key = master;
}

struct life {
    struct damage_world *world;
    struct kv_kit kit;
    struct kv_batch *batch;
    struct damage_state next;
    int counter;
};

static void life_key(int key, char out[4])
{
    snprintf(out, 4, "k%02d", key % 100);
}

static uint16_t life_value(struct life *life, const char *text, uint8_t meta)
{
    struct damage_world *w = life->world;
    KV_ASSERT(w->n_values < DAMAGE_VALUES);
    struct damage_value *value = &w->values[w->n_values++];
    value->len = strlen(text);
    value->meta = meta;
    KV_ASSERT(value->len < sizeof value->text);
    memcpy(value->text, text, value->len + 1);
    return (uint16_t)w->n_values;
}

static void life_put(struct life *life, uint32_t space, int key, bool is_long, uint8_t meta)
{
    char name[4], text[LONG + 1];
    struct kv_put_options options = {.meta = meta};
    int n = snprintf(text, sizeof text, "value %d of %d", life->counter++, key);
    if (is_long) {
        memset(text + n, 'a' + life->counter % 26, LONG - (size_t)n);
        text[LONG] = 0;
    }
    life_key(key, name);
    KV_ASSERT(kv_batch_put_with(life->batch, space, kv_slice_str(name), kv_slice_str(text),
                                meta ? &options : NULL) == KV_OK);
    life->next.at[space][key] = life_value(life, text, meta);
}

static void life_operand(struct life *life, int key)
{
    char name[4], text[160], operand[16];
    uint16_t old = life->next.at[2][key];
    life_key(key, name);
    snprintf(operand, sizeof operand, "+%d", life->counter++);
    KV_ASSERT(kv_batch_merge(life->batch, 2, kv_slice_str(name), kv_slice_str(operand)) == KV_OK);
    snprintf(text, sizeof text, "%.130s%s", old ? life->world->values[old - 1].text : "", operand);
    life->next.at[2][key] = life_value(life, text, 0);
}

static void life_delete(struct life *life, uint32_t space, int key)
{
    char name[4];
    life_key(key, name);
    KV_ASSERT(kv_batch_delete(life->batch, space, kv_slice_str(name)) == KV_OK);
    life->next.at[space][key] = 0;
}

static void life_delete_range(struct life *life, int from, int to)
{
    char lower[4], upper[4];
    life_key(from, lower);
    life_key(to, upper);
    KV_ASSERT(kv_batch_delete_range(life->batch, 0, kv_slice_str(lower), kv_slice_str(upper)) == KV_OK);
    for (int key = from; key < to; key++)
        life->next.at[0][key] = 0;
}

static void life_reached(struct life *life, uint64_t seq)
{
    KV_ASSERT(seq < DAMAGE_SEQS && seq > life->world->last_seq);
    for (uint64_t s = life->world->last_seq + 1; s < seq; s++)
        life->world->states[s] = life->world->states[life->world->last_seq];
    life->next.known = true;
    life->world->states[seq] = life->next;
    life->world->last_seq = seq;
}

static void life_commit(struct life *life, bool record)
{
    struct kv_commit_options options = {0};
    char text[24];
    uint64_t seq = 0;
    if (record) {
        snprintf(text, sizeof text, "record %" PRIu64, kv_seq(life->kit.db) + 1);
        options.record = kv_slice_str(text);
    }
    KV_ASSERT(kv_commit(life->kit.db, life->batch, &options, &seq, &life->kit.err) == KV_OK);
    kv_batch_clear(life->batch);
    if (record) {
        KV_ASSERT(life->world->n_records < DAMAGE_RECORDS);
        life->world->record_seqs[life->world->n_records++] = seq;
    }
    life_reached(life, seq);
}

static void life_flush(struct life *life)
{
    KV_ASSERT(kv_flush(life->kit.db, &life->kit.err) == KV_OK);
}

static void life_bulk(struct life *life, uint32_t space, int from, int to)
{
    struct kv_bulk *bulk = NULL;
    uint64_t seq = 0;
    KV_ASSERT(kv_bulk_open(life->kit.db, space, &bulk, &life->kit.err) == KV_OK);
    for (int key = from; key < to; key++) {
        char name[4], text[32];
        life_key(key, name);
        snprintf(text, sizeof text, "loaded %d", life->counter++);
        KV_ASSERT(kv_bulk_add(bulk, kv_slice_str(name), kv_slice_str(text), &life->kit.err) == KV_OK);
        life->next.at[space][key] = life_value(life, text, 0);
    }
    KV_ASSERT(kv_bulk_install(bulk, 0, &seq, &life->kit.err) == KV_OK);
    life_reached(life, seq);
}

static void life_first_half(struct life *life)
{
    for (int key = 0; key < DAMAGE_KEYS; key++) {
        life_put(life, 0, key, key % 2 == 0, (uint8_t)key);
        life_put(life, 1, key, false, 0);
        if (key % 3)
            life_put(life, 2, key, false, 0);
        life_commit(life, key % 4 == 1);
    }
    life_flush(life);
    kv_kit_work_all(&life->kit);
    life_bulk(life, 1, 2, 5);
    for (int key = 1; key < DAMAGE_KEYS; key += 2) {
        life_put(life, 0, key, key % 4 == 1, 0);
        life_delete(life, 1, key);
        life_operand(life, key - 1);
        life_commit(life, false);
    }
    life_flush(life);
}

/* Ends with memtables, and with a range deletion that tables are read through. */
static void life_second_half(struct life *life)
{
    life_operand(life, 0);
    life_operand(life, 5);
    life_commit(life, true);
    kv_kit_work_all(&life->kit);
    life_delete_range(life, 2, 4);
    life_commit(life, false);
    life_put(life, 0, 3, true, 7);
    life_commit(life, true);
    life_flush(life);
    life_bulk(life, 0, 6, 7);
    for (int i = 0; i < 4; i++) {
        life_put(life, (uint32_t)i % 2, i, i == 2, 0);
        life_operand(life, 2);
        life_commit(life, i % 2 == 0);
    }
}

/* A crash may leave the file that keeps space; nothing in it is ever read. */
static void add_reserve(struct damage_dir *dir)
{
    struct damage_file *file = damage_dir_file(dir, KV_RESERVE_NAME);
    static const uint8_t zeros[64];
    if (!file) {
        load_name(dir, KV_RESERVE_NAME, 0);
        file = &dir->files[dir->n - 1];
    }
    damage_file_set(file, zeros, sizeof zeros);
}

static void life_run(struct damage_world *world, bool other)
{
    struct life life = {.world = world};
    world->states[0].known = true;
    kit_init(&life.kit, NULL, world->encrypted);
    if (other) { /* another uuid, uids and salts */
        clock_manual_release(&life.kit.clock);
        clock_manual_init(&life.kit.clock, 1700000000000, 8);
    }
    kv_kit_must_open(&life.kit);
    KV_ASSERT(kv_batch_new(&life.batch) == KV_OK);
    life_first_half(&life);
    if (!other)
        damage_dir_load(&world->older, life.kit.own, "db");
    life_second_half(&life);
    struct kv_vfs *clone = world->crashed ? kv_vfs_mem_crash_clone(life.kit.own) : NULL;
    kv_batch_free(life.batch);
    KV_ASSERT(kv_kit_close(&life.kit) == KV_OK);
    struct damage_dir *into = other ? &world->other : &world->now;
    damage_dir_load(into, clone ? clone : life.kit.own, "db");
    add_reserve(into);
    kv_vfs_mem_free(clone);
    kv_kit_release(&life.kit);
}

/* Where the records of the log file that has no seal end, and the edits of the manifest. */
static void find_ends(struct damage_world *world)
{
    struct kv_kit kit;
    struct kv_dir *dir = NULL;
    struct kv_manifest manifest;
    struct kv_log_reader reader;
    struct kv_log_item item;
    kit_init(&kit, NULL, world->encrypted);
    damage_dir_store(&world->now, kit.own, "db");
    KV_ASSERT(kv_vfs_dir_open(kit.own, "db", false, &dir, NULL) == KV_OK);
    KV_ASSERT(kv_manifest_load(&manifest, dir, &kit.clock.base, &kit.options.key, NULL) == KV_OK);
    if (manifest.state.log_current) {
        kv_file_name(world->log.name, manifest.state.log_current, KV_NAME_LOG);
        KV_ASSERT(kv_log_reader_open(&reader, dir, manifest.state.log_current, NULL, manifest.keys, NULL) ==
                  KV_OK);
        world->log.begin = reader.offset;
        world->log.seq_before = reader.header.first_seq - 1;
        for (uint64_t seq = reader.header.first_seq; kv_log_reader_next(&reader, seq, &item, NULL) == KV_OK;
             seq++) {
            world->log.seq[world->log.n] = seq;
            world->log.at[world->log.n++] = item.end;
        }
        kv_log_reader_close(&reader);
    }
    struct damage_file *file = damage_dir_file(&world->now, manifest.name);
    memcpy(world->manifest.name, manifest.name, sizeof manifest.name);
    world->manifest.begin = KV_FILE_HEADER_LEN;
    /* frame: magic crc len number fields (tag of a seal) */
    for (size_t at = KV_FILE_HEADER_LEN; at + 20 < file->len;) {
        at += 20 + kv_get_fixed32(file->bytes + at + 8) + (world->encrypted ? 16 : 0);
        world->manifest.at[world->manifest.n++] = at;
    }
    KV_ASSERT(world->manifest.n > 3 && world->manifest.at[world->manifest.n - 1] == file->len);
    kv_manifest_close(&manifest);
    kv_dir_close(dir);
    kv_kit_release(&kit);
}

void damage_world_make(struct damage_world *world, bool encrypted, bool crashed)
{
    struct damage_world *aside = calloc(1, sizeof *aside);
    KV_ASSERT(aside != NULL);
    *world = (struct damage_world){.encrypted = encrypted, .crashed = crashed};
    *aside = *world;
    life_run(world, false);
    life_run(aside, true);
    world->other = aside->other;
    free(aside);
    find_ends(world);
    KV_ASSERT((world->log.n > 0) == crashed);
}

void damage_world_kit(const struct damage_world *world, struct kv_kit *kit, struct kv_vfs *vfs)
{
    kit_init(kit, vfs, world->encrypted);
}

void damage_world_release(struct damage_world *world)
{
    damage_dir_release(&world->now);
    damage_dir_release(&world->older);
    damage_dir_release(&world->other);
}

/* ---- what a change may cost */

static void widen(uint64_t *from, uint64_t *to, uint64_t more_from, uint64_t more_to)
{
    if (*to == 0 || more_from < *from)
        *from = more_from;
    if (more_to > *to)
        *to = more_to;
}

void damage_note(struct damage_done *done, const struct damage_world *world, const char *name, uint64_t from,
                 uint64_t to)
{
    bool noted = false;
    for (size_t i = 0; i < done->n; i++)
        noted = noted || strcmp(done->names[i], name) == 0;
    if (!noted && done->n < 8)
        snprintf(done->names[done->n++], sizeof done->names[0], "%s", name);
    if (strcmp(name, world->log.name) == 0)
        widen(&done->log_from, &done->log_to, from, to);
    if (strcmp(name, world->manifest.name) == 0)
        widen(&done->manifest_from, &done->manifest_to, from, to);
}

/* The oldest state the log may fall back to. */
static uint64_t seq_min(const struct damage_world *world, const struct damage_done *done)
{
    const struct damage_ends *log = &world->log;
    uint64_t last_begin = log->n > 1 ? log->at[log->n - 2] : log->begin;
    if (done->log_to <= last_begin || log->n == 0 || done->log_from < KV_FILE_HEADER_LEN)
        return world->last_seq; /* a valid record behind it tells that it was synced; a header is needed */
    uint64_t seq = log->seq_before;
    for (size_t i = 0; i < log->n && log->at[i] <= done->log_from; i++)
        seq = log->seq[i];
    return seq;
}

/* Edits at the end of the manifest are lost: what is found may be old then. The last one of a closed database only seals the log. */
static bool edits_lost(const struct damage_world *world, const struct damage_done *done)
{
    const uint64_t *at = world->manifest.at;
    size_t n = world->manifest.n;
    return done->manifest_to > at[n - 2] && (world->crashed || done->manifest_from < at[n - 2]);
}

/* ---- judging */

struct judge {
    const struct damage_world *world;
    const struct damage_done *done;
    struct kv_kit kit;
    bool any_age; /* every key has a value it had once */
    bool lost;    /* the state is older than the newest */
    int errors;
    const struct damage_state *state;
    char wrong[600];
};
static enum damage_outcome last_outcome;

enum damage_outcome damage_outcome(void)
{
    return last_outcome;
}

static void wrong(struct judge *j, const char *format, ...) KV_PRINTF(2, 3);
static void wrong(struct judge *j, const char *format, ...)
{
    va_list args;
    if (j->wrong[0])
        return;
    va_start(args, format);
    vsnprintf(j->wrong, sizeof j->wrong, format, args);
    va_end(args);
}

static bool names_it(const struct judge *j, const char *text)
{
    const struct damage_done *done = j->done;
    for (size_t i = 0; i < done->n; i++) {
        char stem[72];
        snprintf(stem, sizeof stem, "%s", done->names[i]);
        if (strstr(text, stem))
            return true;
        /* A manifest that is not the newest names files that are gone, or misses what others tell of. */
        if (strstr(stem, ".man") && (strstr(text, "manifest") || strstr(text, ".tbl") ||
                                     strstr(text, ".vlg") || strstr(text, ".log")))
            return true;
        stem[strcspn(stem, ".")] = 0; /* "tables 000004 and 000007" */
        if (strstr(text, stem))
            return true;
    }
    return done->published &&
           (strstr(text, "manifest") || strstr(text, "published") || strstr(text, "holds no database"));
}

static void failed(struct judge *j, kv_status rc, const char *text, const char *what)
{
    j->errors++;
    if (rc != KV_CORRUPT && rc != KV_TOO_NEW && rc != KV_UNSUPPORTED && rc != KV_WRONG_KEY &&
        rc != KV_MISSING)
        wrong(j, "%s: %s: %s", what, kv_status_name(rc), text ? text : "");
    else if (text && !names_it(j, text))
        wrong(j, "%s: the error names no changed file: %s", what, text);
}

/* Is it what the key holds? value NULL: absent. */
static bool fits(const struct judge *j, uint32_t space, int key, const kv_slice *value, uint8_t meta)
{
    const struct damage_world *w = j->world;
    for (uint64_t seq = 0; seq <= w->last_seq; seq++) {
        const struct damage_state *state = j->any_age ? &w->states[seq] : j->state;
        uint16_t at = state->at[space][key];
        const struct damage_value *is = at ? &w->values[at - 1] : NULL;
        if (!is ? !value
                : value && value->len == is->len && memcmp(value->data, is->text, is->len) == 0 &&
                      meta == is->meta)
            return true;
        if (!j->any_age)
            break;
    }
    return false;
}

static void judge_gets(struct judge *j)
{
    for (uint32_t space = 0; space < DAMAGE_SPACES; space++)
        for (int key = 0; key < DAMAGE_KEYS && !j->wrong[0]; key++) {
            char name[4];
            struct kv_pinned found = {0};
            life_key(key, name);
            j->kit.err.text[0] = 0;
            kv_status rc = kv_get(j->kit.db, NULL, space, kv_slice_str(name), &found, &j->kit.err);
            if (rc < 0)
                failed(j, rc, j->kit.err.text, "get");
            else if (!fits(j, space, key, rc == KV_OK ? &found.value : NULL, found.meta))
                wrong(j, "get of %u/%s: %s \"%.*s\"", space, name, kv_status_name(rc), KV_ARG(found.value));
            kv_pinned_release(&found);
        }
}

static int key_of_name(kv_slice name)
{
    int key = name.len == 3 && name.data[0] == 'k' ? (name.data[1] - '0') * 10 + name.data[2] - '0' : -1;
    return key >= 0 && key < DAMAGE_KEYS ? key : -1;
}

/* Every key in its order, until an error. */
static void judge_scan(struct judge *j, uint32_t space, bool back)
{
    struct kv_iter *it = NULL;
    int next = back ? DAMAGE_KEYS - 1 : 0, step = back ? -1 : 1;
    kv_status rc = kv_iter_open(j->kit.db, NULL, space, (kv_slice){0}, (kv_slice){0}, &it);
    if (rc == KV_OK)
        rc = back ? kv_iter_seek_before(it, (kv_slice){0}) : kv_iter_seek(it, (kv_slice){0});
    while (rc == KV_OK && !j->wrong[0]) {
        int key = key_of_name(it->key);
        if (key < 0 || (key - next) * step < 0) {
            wrong(j, "scan of %u: \"%.*s\" comes where %d is next", space, KV_ARG(it->key), next);
            break;
        }
        for (; next != key; next += step)
            if (!fits(j, space, next, NULL, 0))
                wrong(j, "scan of %u leaves out key %d", space, next);
        if (!fits(j, space, key, &it->value, it->meta))
            wrong(j, "scan of %u: key %d has \"%.*s\"", space, key, KV_ARG(it->value));
        next = key + step;
        rc = back ? kv_iter_prev(it) : kv_iter_next(it);
    }
    if (rc < 0)
        failed(j, rc, NULL, "scan");
    for (; rc == KV_END && next >= 0 && next < DAMAGE_KEYS; next += step)
        if (!fits(j, space, next, NULL, 0))
            wrong(j, "scan of %u ends before key %d", space, next);
    kv_iter_close(it);
}

static void judge_records(struct judge *j, uint64_t visible)
{
    struct kv_records *cursor = NULL;
    kv_slice record;
    uint64_t seq = 0;
    size_t n = 0;
    kv_status rc = kv_records_open(j->kit.db, &cursor, &j->kit.err);
    while (rc == KV_OK && (rc = kv_records_next(cursor, &seq, &record, &j->kit.err)) == KV_OK) {
        char text[24];
        if (n == j->world->n_records || seq != j->world->record_seqs[n]) {
            wrong(j, "record %zu has sequence %" PRIu64, n, seq);
            break;
        }
        snprintf(text, sizeof text, "record %" PRIu64, seq);
        if (!kv_slice_equal(record, kv_slice_str(text)))
            wrong(j, "record of %" PRIu64 ": \"%.*s\"", seq, KV_ARG(record));
        n++;
    }
    if (rc < 0)
        failed(j, rc, j->kit.err.text, "records");
    else if (!j->wrong[0] && n < j->world->n_records && j->world->record_seqs[n] <= visible)
        wrong(j, "record of %" PRIu64 " is missing", j->world->record_seqs[n]);
    kv_records_close(cursor);
}

/* Of an open database. */
static void judge_content(struct judge *j, uint64_t min)
{
    uint64_t visible = kv_seq(j->kit.db);
    j->lost = j->lost || visible < j->world->last_seq;
    if (visible > j->world->last_seq || visible < min) {
        wrong(j, "sequence %" PRIu64 ", not %" PRIu64 " to %" PRIu64, visible, min, j->world->last_seq);
        return;
    }
    j->state = &j->world->states[visible];
    judge_gets(j);
    for (uint32_t space = 0; space < DAMAGE_SPACES; space++) {
        judge_scan(j, space, false);
        judge_scan(j, space, true);
    }
    judge_records(j, visible);
}

static kv_status judge_check(struct judge *j)
{
    struct kv_env_options options = {
        .vfs = j->kit.vfs, .clock = &j->kit.clock.base, .threads = KV_THREADS_NONE, .cache_bytes = 1 << 20};
    struct kv_env *env = NULL;
    KV_ASSERT(kv_env_open(&options, &env, NULL) == KV_OK);
    j->kit.err.text[0] = 0;
    kv_status rc = kv_check_with_key(env, "db", &j->kit.options.key, NULL, NULL, &j->kit.err);
    if (rc < 0) {
        failed(j, rc, j->kit.err.text, "check");
        j->errors = 0;
    }
    kv_env_close(env);
    return rc;
}

const char *damage_judge(const struct damage_world *world, const struct damage_dir *changed,
                         const struct damage_done *done)
{
    static struct judge j;
    bool opened = false;
    j = (struct judge){.world = world, .done = done, .any_age = edits_lost(world, done)};
    kit_init(&j.kit, NULL, world->encrypted);
    damage_dir_store(changed, j.kit.own, "db");
    kv_status checked = judge_check(&j);
    uint64_t min = j.any_age ? 0 : seq_min(world, done);
    for (int round = 0; round < 3 && !j.wrong[0]; round++) { /* read-only, writing, and what that left */
        j.kit.options.read_only = round == 0;
        j.kit.err.text[0] = 0;
        kv_status rc = kv_kit_open(&j.kit);
        if (rc < 0) {
            failed(&j, rc, j.kit.err.text, "open");
            if (round == 2 && opened && j.errors == 1)
                wrong(&j, "opened once, and not again: %s", j.kit.err.text);
            if (round == 1)
                break;
            continue;
        }
        opened = true;
        judge_content(&j, min);
        rc = kv_kit_close(&j.kit);
        if (rc < 0 && j.errors == 0)
            wrong(&j, "close: %s: %s", kv_status_name(rc), j.kit.err.text);
    }
    if (checked == KV_OK && j.errors > 0 && !j.wrong[0])
        wrong(&j, "kv_check found nothing, reading did: %s", j.kit.err.text);
    last_outcome = !opened    ? DAMAGE_REFUSED
                   : j.errors ? DAMAGE_CONTAINED
                   : j.lost   ? DAMAGE_TAIL_LOST
                              : DAMAGE_HARMLESS;
    kv_kit_release(&j.kit);
    return j.wrong[0] ? j.wrong : NULL;
}
