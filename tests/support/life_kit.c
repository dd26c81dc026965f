#include "tests/support/life_kit.h"
#include "kvcore/base/assert.h"

#include <stdio.h>

static size_t group_len(void *ctx, kv_slice key)
{
    (void)ctx;
    return key.len;
}

static kv_status merge_begin(void *ctx, kv_slice lower, kv_slice upper, void **merge)
{
    (void)lower, (void)upper;
    *merge = ctx;
    return KV_OK;
}

/* Keeps everything but values that begin with "x". */
static kv_status merge_group(void *merge, const struct kv_hook_entry *entries, size_t n,
                             struct kv_hook_sink *sink)
{
    kv_status rc = KV_OK;
    (void)merge;
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        if (!kv_slice_has_prefix(entries[i].value, KV_STR("x")))
            rc = sink->add(sink, entries[i].key, entries[i].value);
    return rc;
}

static void merge_end(void *merge, bool installed)
{
    (void)merge, (void)installed;
}

static const struct kv_hook hook = {NULL, group_len, merge_begin, merge_group, merge_end};

/* The newest operand is the value. */
static kv_status fold_newest(void *ctx, kv_slice key, const kv_slice *value, const kv_slice *operands,
                             size_t n, struct kv_buf *out)
{
    (void)ctx, (void)key, (void)value;
    return kv_buf_append(out, operands[n - 1]);
}

static const struct kv_merge_operator newest = {.fold = fold_newest};

/* ---- the same under encryption, with keys that change */

static const uint8_t masters[2][KV_MASTER_KEY_LEN] = {"the first of two master keys, 32",
                                                      "the other one of two master keys"};

static kv_status key_of(void *ctx, uint64_t id, uint8_t key[KV_MASTER_KEY_LEN])
{
    (void)ctx;
    for (int i = 0; i < 2; i++) {
        uint64_t called = 0;
        KV_ASSERT(kv_master_key_id(masters[i], &called) == KV_OK);
        if (id == 0 || id == called) {
            memcpy(key, masters[i], KV_MASTER_KEY_LEN);
            return KV_OK;
        }
    }
    return KV_MISSING;
}

static const struct kv_key_source key_source = {.key_of = key_of};

void life_init(struct life *life, struct kv_vfs *vfs, bool encrypted)
{
    *life = (struct life){.encrypted = encrypted};
    kv_kit_init(&life->kit, vfs);
    if (encrypted)
        life->kit.options.key = key_source;
    life->kit.spaces[0].style = KV_STYLE_LEVELLED;
    life->kit.spaces[0].table_bytes = 1024;
    life->kit.spaces[0].level_base_bytes = 1024;
    life->kit.spaces[0].level_multiplier = 2;
    life->kit.spaces[0].level0_runs = 1; /* every flush is worth a move or a merge */
    life->kit.spaces[0].value_separate_bytes = 64;
    life->kit.spaces[0].merge = &newest;
    life->kit.spaces[1].hook = &hook;
    life->kit.options.log_file_bytes = 1024;
    life->kit.options.large_value_bytes = 256;
}

const char *life_text(const struct life_model *m, char *out)
{
    size_t n = 0;
    out[0] = 0;
    for (int space = 0; space < 2; space++)
        for (int k = 0; k < LIFE_KEYS; k++)
            if (m->values[space][k][0])
                n += (size_t)snprintf(out + n, LIFE_TEXT - n, "%c/k%d=%s ", 'a' + space, k,
                                      m->values[space][k]);
    for (int i = 0; i < m->n_records; i++)
        if (m->record_seqs[i] >= m->app_floor)
            n += (size_t)snprintf(out + n, LIFE_TEXT - n, "r%d ", m->records[i]);
    return out;
}

/* A value that begins with L is written with so many dashes behind it: it goes to the value log. */
/* One that begins with G is written in parts, to a segment of its own. */
enum { DASHES = 80, LARGE_DASHES = 700 };

const char *life_values(struct kv_kit *kit, char *out)
{
    char text[LIFE_TEXT + LIFE_KEYS * LARGE_DASHES];
    size_t n = 0;
    out[0] = 0;
    for (uint32_t space = 0; space < 2; space++) {
        kv_kit_scan(kit, NULL, space, "", "", text, sizeof text);
        for (char *at = strtok(text, " "); at; at = strtok(NULL, " ")) {
            char *dashes = strchr(at, '-');
            if (dashes) {
                KV_ASSERT(strspn(dashes, "-") == (*(strchr(at, '=') + 1) == 'G' ? LARGE_DASHES : DASHES));
                *dashes = 0;
            }
            n += (size_t)snprintf(out + n, LIFE_TEXT - n, "%c/%s ", 'a' + (int)space, at);
        }
    }
    return out;
}

/* Of a database just opened: values, and the records the application would read. */
const char *life_found(struct kv_kit *kit, char *out)
{
    struct kv_records *cursor = NULL;
    kv_slice record;
    uint64_t seq;
    kv_status rc;
    size_t n = strlen(life_values(kit, out));
    KV_ASSERT(kv_records_open(kit->db, &cursor, &kit->err) == KV_OK);
    while ((rc = kv_records_next(cursor, &seq, &record, &kit->err)) == KV_OK)
        n += (size_t)snprintf(out + n, LIFE_TEXT - n, "r%.*s ", KV_ARG(record));
    KV_ASSERT(rc == KV_END);
    kv_records_close(cursor);
    return out;
}

/* ---- steps */

static kv_status step_commit(struct life *life, const char *puts_a, const char *puts_b, const char *deletes_a,
                             bool record, const char *prefix)
{
    struct kv_batch *batch = NULL;
    struct kv_commit_options options = {0};
    char text[16], key[3] = "k0";
    uint64_t seq = 0;
    kv_status rc;
    KV_TRY(kv_batch_new(&batch));
    for (int space = 0; space < 2; space++)
        for (const char *k = space ? puts_b : puts_a; *k; k++) {
            char *value = life->next.values[space][*k - '0'];
            snprintf(value, sizeof life->next.values[0][0], "%s%d", prefix, life->counter % 1000);
            key[1] = *k;
            char written[sizeof life->next.values[0][0] + DASHES + 1];
            int n = snprintf(written, sizeof written, "%s", value);
            memset(written + n, '-', DASHES);
            kv_slice whole = kv_slice_of(written, (size_t)n + (prefix[0] == 'L' ? DASHES : 0));
            KV_TRY(kv_batch_put(batch, (uint32_t)space, kv_slice_str(key), whole));
        }
    for (const char *k = deletes_a; *k; k++) {
        life->next.values[0][*k - '0'][0] = 0;
        key[1] = *k;
        KV_TRY(kv_batch_delete(batch, 0, kv_slice_str(key)));
    }
    if (record) {
        snprintf(text, sizeof text, "%d", life->counter);
        options.record = kv_slice_str(text);
        life->next.records[life->next.n_records] = life->counter;
        life->next.record_seqs[life->next.n_records++] = kv_seq(life->kit.db) + 1;
    }
    rc = kv_commit(life->kit.db, batch, &options, &seq, &life->kit.err);
out:
    kv_batch_free(batch);
    return rc;
}

static kv_status step_put(struct life *life)
{
    return step_commit(life, (char[]){(char)('0' + life->counter % LIFE_KEYS), 0}, "", "", false, "v");
}

static kv_status step_both_spaces(struct life *life)
{
    return step_commit(life, "0123", "0123", "", false, "v");
}

static kv_status step_doomed(struct life *life)
{
    return step_commit(life, "", "45", "", false, "x");
}

static kv_status step_long(struct life *life)
{
    return step_commit(life, "257", "", "", false, "L");
}

/* A value in parts, and an ordinary one beside it. */
static kv_status step_large(struct life *life)
{
    struct kv_value_writer *writer = NULL;
    struct kv_batch *batch = NULL;
    char dashes[LARGE_DASHES], *large = life->next.values[0][6], *beside = life->next.values[0][1];
    memset(dashes, '-', sizeof dashes);
    snprintf(large, sizeof life->next.values[0][0], "G%d", life->counter % 1000);
    snprintf(beside, sizeof life->next.values[0][0], "v%d", life->counter % 1000);
    kv_status rc = kv_value_writer_open(life->kit.db, 0, &writer, &life->kit.err);
    if (rc == KV_OK)
        rc = kv_value_writer_append(writer, kv_slice_str(large), &life->kit.err);
    if (rc == KV_OK)
        rc = kv_value_writer_append(writer, kv_slice_of(dashes, sizeof dashes), &life->kit.err);
    if (rc == KV_OK)
        rc = kv_value_writer_finish(writer, &life->kit.err);
    if (rc == KV_OK)
        rc = kv_batch_new(&batch);
    if (rc == KV_OK)
        rc = kv_batch_put_value(batch, 0, KV_STR("k6"), writer, NULL);
    if (rc == KV_OK)
        rc = kv_batch_put(batch, 0, KV_STR("k1"), kv_slice_str(beside));
    if (rc == KV_OK)
        rc = kv_commit(life->kit.db, batch, NULL, NULL, &life->kit.err);
    kv_batch_free(batch);
    kv_value_writer_free(writer);
    return rc;
}

/* Covers k2, k3 and k4; k3 is put by the same commit. */
static kv_status step_range(struct life *life)
{
    struct kv_batch *batch = NULL;
    char *value = life->next.values[0][3];
    kv_status rc;
    KV_TRY(kv_batch_new(&batch));
    KV_TRY(kv_batch_delete_range(batch, 0, KV_STR("k2"), KV_STR("k5")));
    for (int k = 2; k < 5; k++)
        life->next.values[0][k][0] = 0;
    snprintf(value, sizeof life->next.values[0][0], "v%d", life->counter % 1000);
    KV_TRY(kv_batch_put(batch, 0, KV_STR("k3"), kv_slice_str(value)));
    rc = kv_commit(life->kit.db, batch, NULL, NULL, &life->kit.err);
out:
    kv_batch_free(batch);
    return rc;
}

static kv_status step_record(struct life *life)
{
    return step_commit(life, "", "", "", true, "v");
}

static kv_status step_put_and_record(struct life *life)
{
    return step_commit(life, "6", "6", "1", true, "v");
}

static kv_status step_delete(struct life *life)
{
    return step_commit(life, "", "", "03", false, "v");
}

static kv_status step_flush(struct life *life)
{
    return kv_flush(life->kit.db, &life->kit.err);
}

static kv_status step_bulk(struct life *life)
{
    struct kv_bulk *bulk = NULL;
    uint64_t floor = life->now.n_records ? life->now.record_seqs[life->now.n_records - 1] : 0;
    char value[8], key[3] = "k0";
    kv_status rc = kv_bulk_open(life->kit.db, 0, &bulk, &life->kit.err);
    snprintf(value, sizeof value, "b%d", life->counter % 1000);
    for (int k = 1; k < LIFE_KEYS && rc == KV_OK; k += 2) {
        key[1] = (char)('0' + k);
        memcpy(life->next.values[0][k], value, sizeof value);
        rc = kv_bulk_add(bulk, kv_slice_str(key), kv_slice_str(value), &life->kit.err);
    }
    if (bulk && rc < 0) {
        kv_bulk_abort(bulk);
        return rc;
    }
    if (floor > life->next.app_floor)
        life->next.app_floor = floor;
    return rc < 0 ? rc : kv_bulk_install(bulk, floor, NULL, &life->kit.err);
}

static kv_status step_floor(struct life *life)
{
    struct kv_bulk *bulk = NULL;
    kv_status rc = kv_bulk_open(life->kit.db, 0, &bulk, &life->kit.err);
    uint64_t floor = kv_seq(life->kit.db) + 1;
    life->next.app_floor = floor;
    return rc < 0 ? rc : kv_bulk_install(bulk, floor, NULL, &life->kit.err);
}

static kv_status step_merge_a(struct life *life)
{
    return kv_merge_range(life->kit.db, 0, KV_STR(""), KV_STR(""), &life->kit.err);
}

static kv_status step_merge_b(struct life *life)
{
    for (int k = 0; k < LIFE_KEYS; k++)
        if (life->next.values[1][k][0] == 'x')
            life->next.values[1][k][0] = 0;
    return kv_merge_range(life->kit.db, 1, KV_STR(""), KV_STR(""), &life->kit.err);
}

static kv_status step_drop_b(struct life *life)
{
    uint64_t bytes;
    memset(life->next.values[1], 0, sizeof life->next.values[1]); /* after a flush: everything is in tables */
    return kv_drop_tables(life->kit.db, 1, KV_STR(""), KV_STR(""), &bytes, &life->kit.err);
}

static kv_status step_work(struct life *life)
{
    kv_status rc;
    while ((rc = kv_work(life->kit.db, &life->kit.err)) == KV_OK)
        ;
    return rc < 0 ? rc : KV_OK;
}

static kv_status step_reopen(struct life *life)
{
    kv_status closed = kv_kit_close(&life->kit), opened = kv_kit_open(&life->kit);
    return closed < 0 ? closed : opened;
}

/* Nothing that is stored changes by it. */
static kv_status step_data_key(struct life *life)
{
    return life->encrypted ? kv_rotate_data_key(life->kit.db, &life->kit.err) : KV_OK;
}

static kv_status step_master_key(struct life *life)
{
    if (!life->encrypted)
        return KV_OK;
    kv_status rc = kv_rotate_master_key(life->kit.db, masters[(life->rotations + 1) % 2], &life->kit.err);
    life->rotations += rc == KV_OK;
    return rc;
}

static kv_status step_checkpoint(struct life *life)
{
    char path[16];
    snprintf(path, sizeof path, "copy%d", life->counter);
    return kv_checkpoint(life->kit.db, path, &life->kit.err);
}

/* Reads a key and a range, writes what lies in both. */
static kv_status step_txn(struct life *life)
{
    struct kv_txn *txn = NULL;
    struct kv_iter *it = NULL;
    struct kv_pinned found = {0};
    char *value = life->next.values[0][5];
    kv_status rc;
    snprintf(value, sizeof life->next.values[0][0], "t%d", life->counter % 1000);
    life->next.values[0][2][0] = 0;
    KV_TRY(kv_txn_begin(life->kit.db, NULL, &txn, &life->kit.err));
    KV_TRY(kv_txn_get(txn, 0, KV_STR("k5"), &found, &life->kit.err));
    KV_TRY(kv_txn_iter_open(txn, 0, KV_STR("k1"), KV_STR("k4"), &it));
    for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK;)
        rc = kv_iter_next(it);
    KV_TRY(rc);
    KV_TRY(kv_txn_delete(txn, 0, KV_STR("k2"), &life->kit.err));
    KV_TRY(kv_txn_put(txn, 0, KV_STR("k5"), kv_slice_str(value), &life->kit.err));
    KV_TRY(kv_txn_commit(txn, NULL, NULL, &life->kit.err));
out:
    kv_pinned_release(&found);
    kv_iter_close(it);
    kv_txn_abort(txn);
    return rc;
}

static kv_status step_operand(struct life *life)
{
    struct kv_batch *batch = NULL;
    char *value = life->next.values[0][6];
    kv_status rc;
    snprintf(value, sizeof life->next.values[0][0], "m%d", life->counter % 1000);
    KV_TRY(kv_batch_new(&batch));
    KV_TRY(kv_batch_merge(batch, 0, KV_STR("k6"), KV_STR("not the last")));
    KV_TRY(kv_batch_merge(batch, 0, KV_STR("k6"), kv_slice_str(value)));
    KV_TRY(kv_commit(life->kit.db, batch, NULL, NULL, &life->kit.err));
out:
    kv_batch_free(batch);
    return rc;
}

/* A table made outside, loaded. */
static kv_status step_ingest(struct life *life)
{
    struct kv_table_writer *writer = NULL;
    struct kv_dir *dir = NULL;
    char name[24], value[8];
    const char *names[] = {name};
    kv_status rc;
    snprintf(name, sizeof name, "made%d.tbl", life->made++);
    snprintf(value, sizeof value, "i%d", life->counter % 1000);
    KV_TRY(kv_vfs_dir_open(life->kit.vfs, "made", true, &dir, &life->kit.err));
    KV_TRY(kv_table_writer_open(life->kit.env, "made", name, NULL, &writer, &life->kit.err));
    for (int k = 0; k < 2; k++) {
        memcpy(life->next.values[0][4 * k], value, sizeof value);
        KV_TRY(kv_table_writer_add(writer, k ? KV_STR("k4") : KV_STR("k0"), kv_slice_str(value), NULL,
                                   &life->kit.err));
    }
    rc = kv_table_writer_finish(writer, &life->kit.err);
    writer = NULL;
    if (rc == KV_OK)
        rc = kv_ingest(life->kit.db, 0, "made", names, 1, NULL, &life->kit.err);
out:
    kv_table_writer_abort(writer);
    kv_dir_close(dir);
    return rc;
}

static kv_status step_backup(struct life *life)
{
    struct kv_repository repository = {.path = "backups"};
    struct kv_backup_options options = {.repository = &repository, .keep = 1};
    struct kv_backup_info info;
    return kv_backup(life->kit.db, &options, &info, &life->kit.err);
}

static const struct step {
    const char *name;
    kv_status (*run)(struct life *life);
    bool exact; /* a failure other than KV_UNKNOWN_OUTCOME promises that nothing was stored */
} steps[] = {
    {"both", step_both_spaces, true},
    {"record", step_record, true},
    {"delete", step_delete, true},
    {"flush", step_flush, false},
    {"put", step_put, true},
    {"put and record", step_put_and_record, true},
    {"operand", step_operand, true},
    {"long", step_long, true},
    {"large", step_large, true},
    {"doomed", step_doomed, true},
    {"transaction", step_txn, true},
    {"bulk", step_bulk, false},
    {"put", step_put, true},
    {"delete", step_delete, true},
    {"range", step_range, true},
    {"merge b", step_merge_b, false},
    {"data key", step_data_key, false},
    {"record", step_record, true},
    {"master key", step_master_key, false},
    {"merge a", step_merge_a, false},
    {"reopen", step_reopen, false},
    {"both", step_both_spaces, true},
    {"put and record", step_put_and_record, true},
    {"bulk", step_bulk, false},
    {"checkpoint", step_checkpoint, false},
    {"backup", step_backup, false},
    {"operand", step_operand, true},
    {"ingest", step_ingest, false},
    {"large", step_large, true},
    {"long", step_long, true},
    {"put", step_put, true},
    {"put", step_put, true},
    {"put", step_put, true},
    {"large", step_large, true},
    {"range", step_range, true},
    {"flush", step_flush, false},
    {"drop b", step_drop_b, false},
    {"delete", step_delete, true},
    {"bulk", step_bulk, false},
    {"bulk", step_bulk, false},
    {"bulk", step_bulk, false},
    {"bulk", step_bulk, false},
    {"bulk", step_bulk, false},
    {"bulk", step_bulk, false},
    {"bulk", step_bulk, false},
    {"bulk", step_bulk, false},
    {"bulk", step_bulk, false},
    {"work", step_work, false},
    {"master key", step_master_key, false},
    {"put", step_put, true},
    {"data key", step_data_key, false},
    {"floor", step_floor, false},
    {"transaction", step_txn, true},
    {"record", step_record, true},
    {"both", step_both_spaces, true},
    {"operand", step_operand, true},
    {"reopen", step_reopen, false},
    {"operand", step_operand, true},
    {"delete", step_delete, true},
    {"both", step_both_spaces, true},
    {"record", step_record, true},
    {"delete", step_delete, true},
    {"flush", step_flush, false},
    {"work", step_work, false},
    {"both", step_both_spaces, true},
    {"flush", step_flush, false},
    {"work", step_work, false},
    {"put", step_put, true},
    {"put and record", step_put_and_record, true},
    {"doomed", step_doomed, true},
    {"bulk", step_bulk, false},
    {"put", step_put, true},
    {"delete", step_delete, true},
    {"merge b", step_merge_b, false},
    {"record", step_record, true},
    {"merge a", step_merge_a, false},
    {"reopen", step_reopen, false},
    {"both", step_both_spaces, true},
    {"put and record", step_put_and_record, true},
    {"bulk", step_bulk, false},
    {"checkpoint", step_checkpoint, false},
    {"put", step_put, true},
    {"put", step_put, true},
    {"put", step_put, true},
    {"flush", step_flush, false},
    {"work", step_work, false},
    {"delete", step_delete, true},
    {"flush", step_flush, false},
    {"work", step_work, false},
    {"drop b", step_drop_b, false},
    {"delete", step_delete, true},
    {"bulk", step_bulk, false},
    {"bulk", step_bulk, false},
    {"bulk", step_bulk, false},
    {"bulk", step_bulk, false},
    {"bulk", step_bulk, false},
    {"bulk", step_bulk, false},
    {"bulk", step_bulk, false},
    {"bulk", step_bulk, false},
    {"bulk", step_bulk, false},
    {"work", step_work, false},
    {"put", step_put, true},
    {"floor", step_floor, false},
    {"record", step_record, true},
    {"both", step_both_spaces, true},
    {"reopen", step_reopen, false},
    {"delete", step_delete, true},
};
_Static_assert(sizeof steps / sizeof *steps == LIFE_STEPS, "life_kit.h says how many steps there are");

const char *life_step_name(int i)
{
    return steps[i].name;
}

bool life_step_exact(int i)
{
    return steps[i].exact;
}

bool life_step_reopens(int i)
{
    return steps[i].run == step_reopen;
}

kv_status life_step(struct life *life, int i)
{
    life->next = life->now;
    life->counter = i;
    if (!life->kit.db)
        return KV_CLOSED;
    kv_status rc = steps[i].run(life);
    if (rc == KV_OK)
        life->now = life->next;
    return rc;
}

/* ---- its history */

void life_record(struct life_history *history, struct vfs_crash *crash, bool encrypted)
{
    struct life life;
    life_init(&life, vfs_crash_as_vfs(crash), encrypted);
    kv_kit_must_open(&life.kit);
    history->began[0] = 0;
    history->done[0] = vfs_crash_ops(crash);
    for (int i = 0; i < LIFE_STEPS; i++) {
        life_text(&life.now, history->texts[i]);
        history->began[i + 1] = vfs_crash_ops(crash);
        kv_status rc = life_step(&life, i);
        KV_ASSERT(rc == KV_OK);
        history->done[i + 1] = vfs_crash_ops(crash);
    }
    life_text(&life.now, history->texts[LIFE_STEPS]);
    kv_kit_close(&life.kit);
    kv_kit_release(&life.kit);
}

bool life_may_be_found(const struct life_history *history, uint64_t ops, const char *text)
{
    int acked = 0, begun = 0;
    for (int i = 1; i <= LIFE_STEPS; i++) {
        if (history->done[i] < ops)
            acked = i;
        if (history->began[i] <= ops)
            begun = i;
    }
    for (int i = acked; i <= begun; i++)
        if (strcmp(history->texts[i], text) == 0)
            return true;
    fprintf(stderr, "after %d changes: found \"%s\"\n allowed, step %d (%s): \"%s\"\n to step %d: \"%s\"\n",
            (int)ops, text, acked, acked ? steps[acked - 1].name : "open", history->texts[acked], begun,
            history->texts[begun]);
    return false;
}

kv_status life_check(struct life *life)
{
    struct kv_kit *kit = &life->kit;
    struct kv_env_options options = {.vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE};
    KV_ASSERT(kv_env_open(&options, &kit->env, &kit->err) == KV_OK);
    kv_status rc =
        kv_check_with_key(kit->env, kit->path, life->encrypted ? &key_source : NULL, NULL, NULL, &kit->err);
    kv_env_close(kit->env);
    kit->env = NULL;
    return rc;
}
