/* What happens to the database as a whole: opened, closed, copied, cut off from power. */
#include "kvcore/base/mem.h"
#include "kvcore/db/db.h"
#include "tests/model/player.h"
#include "tests/support/file_kit.h"

#include <inttypes.h>

/* ---- opening */

static const uint8_t masters[2][KV_MASTER_KEY_LEN] = {"the first of two master keys, 32",
                                                      "the other one of two master keys"};

static kv_status key_of(void *ctx, uint64_t id, uint8_t key[KV_MASTER_KEY_LEN])
{
    const struct player *p = ctx;
    uint64_t called = 0;
    for (int i = 0; i < 2; i++) {
        kv_status rc = kv_master_key_id(masters[i], &called);
        if (rc < 0)
            return rc;
        if (id == 0 ? i == p->master : id == called) {
            memcpy(key, masters[i], KV_MASTER_KEY_LEN);
            return KV_OK;
        }
    }
    return KV_MISSING;
}

/* kv_options.apply: only what was just committed, with its own sequence. */
static void apply_record(void *ctx, uint64_t seq, kv_slice record, void *commit_ctx)
{
    struct player *p = ctx;
    uint8_t bytes[16];
    (void)commit_ctx;
    if (!p->record_expected || !kv_slice_equal(record, player_record(p->record_n, bytes)))
        player_fail(p, "a record is applied that was not committed");
    p->record_expected = false;
    p->record_seq = seq;
}

static void key_source(struct player *p, struct kv_key_source *out)
{
    *out = p->encrypted ? (struct kv_key_source){.key_of = key_of, .ctx = p, .allow_plain = true}
                        : (struct kv_key_source){0};
}

static void some_env_open(struct player *p, int threads, struct kv_env **out)
{
    struct kv_env_options options = {.vfs = p->crash ? vfs_crash_as_vfs(p->crash) : p->memory,
                                     .clock = &p->clock.base,
                                     .cache_bytes = p->set.cache_bytes,
                                     .threads = threads ? threads : KV_THREADS_NONE};
    player_must(p, "kv_env_open", kv_env_open(&options, out, &p->err), KV_OK);
}

static void env_open(struct player *p)
{
    some_env_open(p, p->threads, &p->env);
}

static void base_options(const struct player *p, struct kv_options *options)
{
    *options = p->set.options;
    options->spaces = p->set.spaces;
    options->n_spaces = MODEL_SPACES;
}

static kv_status db_open(struct player *p, const char *path, bool read_only, struct kv_db **out)
{
    struct kv_options options;
    base_options(p, &options);
    p->encrypted = p->encrypted || p->set.encrypted; /* once it is, it stays so */
    options.read_only = read_only;
    options.must_exist = p->model.version > 0 && p->n_marks == 0 && p->crash == NULL;
    options.apply = apply_record;
    options.apply_ctx = p;
    key_source(p, &options.key);
    return kv_open(p->env, path, &options, out, &p->err);
}

void player_unfollow(struct player *p)
{
    if (!p->follower_env)
        return;
    player_must(p, "closing a follower", kv_close(p->follower, &p->err), KV_OK);
    kv_env_close(p->follower_env);
    p->follower = NULL;
    p->follower_env = NULL;
}

struct kv_db *player_follow(struct player *p)
{
    struct kv_options options;
    kv_status rc = p->follower ? kv_follow_refresh(p->follower, NULL, &p->err) : KV_WRONG_KEY;
    if (rc != KV_WRONG_KEY) { /* another master key, or the first */
        player_must(p, "kv_follow_refresh", rc, KV_OK);
        return p->follower;
    }
    player_unfollow(p);
    base_options(p, &options);
    options.follow = true;
    key_source(p, &options.key);
    some_env_open(p, 0, &p->follower_env);
    player_must(p, "opening a follower", kv_open(p->follower_env, p->path, &options, &p->follower, &p->err),
                KV_OK);
    return p->follower;
}

void player_open(struct player *p, bool read_only)
{
    env_open(p);
    player_must(p, "kv_open", db_open(p, p->path, read_only, &p->db), KV_OK);
}

void player_let_go(struct player *p)
{
    if (p->holds_large) {
        kv_batch_clear(p->batch);
        p->n_pending = 0;
        p->holds_large = false;
    }
    for (size_t i = 0; i < ITER_SLOTS; i++) {
        kv_iter_close(p->iters[i].it);
        p->iters[i].it = NULL;
    }
    for (size_t i = 0; i < TXN_SLOTS; i++) {
        kv_txn_abort(p->txns[i].txn);
        p->txns[i].txn = NULL;
    }
    for (size_t i = 0; i < SNAP_SLOTS; i++) {
        kv_snapshot_close(p->snapshots[i].snapshot);
        p->snapshots[i].snapshot = NULL;
    }
    for (size_t i = 0; i < LOAD_SLOTS; i++) {
        kv_bulk_abort(p->loads[i].bulk);
        p->loads[i].bulk = NULL;
    }
}

void player_close(struct player *p)
{
    player_let_go(p);
    player_must(p, "kv_close", kv_close(p->db, &p->err), KV_OK);
    p->db = NULL;
    kv_env_close(p->env);
    p->env = NULL;
    p->durable = p->model.version;
}

/* Compares the records that are found with those at or above a floor that is one of two. */
void player_records(struct player *p, uint64_t floor_min, uint64_t floor_max)
{
    struct kv_records *records = NULL;
    uint64_t seq = 0;
    kv_slice record;
    uint8_t bytes[16];
    player_must(p, "kv_records_open", kv_records_open(p->db, &records, &p->err), KV_OK);
    kv_status rc = kv_records_next(records, &seq, &record, &p->err);
    size_t i = 0;
    while (i < p->model.n_records && p->model.records[i].seq < floor_min)
        i++;
    bool higher = i < p->model.n_records && (rc == KV_END || seq != p->model.records[i].seq);
    p->floor = higher ? floor_max : floor_min;
    while (higher && i < p->model.n_records && p->model.records[i].seq < floor_max)
        i++;
    for (; rc == KV_OK; rc = kv_records_next(records, &seq, &record, &p->err), i++)
        if (i >= p->model.n_records || seq != p->model.records[i].seq ||
            !kv_slice_equal(record, player_record(p->model.records[i].n, bytes)))
            player_fail(p, "record %" PRIu64 " is found where %" PRIu64 " is expected (0: none)", seq,
                        i < p->model.n_records ? p->model.records[i].seq : 0);
    player_must(p, "kv_records_next", rc, KV_END);
    if (i < p->model.n_records)
        player_fail(p, "record %" PRIu64 " is missing", p->model.records[i].seq);
    kv_records_close(records);
}

/* It was opened: everything is there. */
static void opened(struct player *p)
{
    player_records(p, p->floor, p->floor);
    player_verify(p);
}

/* ---- what it lies on */

void player_clear_marks(struct player *p)
{
    p->n_marks = 0;
    if (!p->crash)
        return;
    p->marks = player_grown(p->marks, &p->marks_capacity, 0, sizeof *p->marks);
    p->marks[p->n_marks++] =
        (struct mark){0, vfs_crash_ops(p->crash), p->model.version, p->model.version, p->floor, 0};
}

/* The database is closed: from now on its disk remembers every change, or does not. */
static void lay_on(struct player *p, struct kv_vfs *disk, bool recorded)
{
    const char *paths[] = {p->path, "backups", NULL};
    if (p->crash || recorded || disk != p->memory)
        player_unfollow(p);
    vfs_crash_free(p->crash);
    p->crash = NULL;
    if (disk != p->memory)
        kv_vfs_mem_free(p->memory);
    p->memory = disk;
    if (recorded)
        p->crash = vfs_crash_new_from(p->memory, paths);
    player_clear_marks(p);
}

static struct kv_vfs *disk_now(struct player *p)
{
    return p->crash ? vfs_crash_at(p->crash, vfs_crash_ops(p->crash) + 1, 1, VFS_CRASH_POSIX_MIN) : p->memory;
}

static void set_options(struct player *p, uint32_t set)
{
    option_set_make(p->made_under + set, p->made_under, &p->set);
}

static void reopen(struct player *p, const struct op *op)
{
    player_close(p);
    lay_on(p, disk_now(p), op->how & 1);
    set_options(p, op->n);
    player_open(p, false);
    opened(p);
}

/* ---- power is lost */

static struct kv_vfs *power_lost(struct player *p, const struct op *op, struct kv_prng *prng,
                                 struct mark *least, struct mark *most)
{
    enum { NEAR = 40 };
    *least = *most = (struct mark){.version = p->model.version, .durable = p->durable, .floor = p->floor};
    if (!p->crash)
        return kv_vfs_mem_crash_clone(p->memory);
    uint64_t end = vfs_crash_ops(p->crash) + 1, begin = p->marks[0].done + 1, cut = end;
    if (!(op->how & 2) && end > begin)
        cut = kv_prng_below(prng, 2) ? end - kv_prng_below(prng, end - begin < NEAR ? end - begin : NEAR)
                                     : end - kv_prng_below(prng, end - begin);
    *most = *least = p->marks[0];
    for (size_t i = 0; i < p->n_marks; i++) {
        if (p->marks[i].done < cut)
            *least = p->marks[i];
        if (p->marks[i].began <= cut)
            *most = p->marks[i];
    }
    if (cut == end && least->durable < p->durable)
        least->durable = p->durable;
    uint64_t seed = kv_prng_below(prng, 4);
    seed = seed < 3 ? seed : kv_prng_next(prng);
    return vfs_crash_at(p->crash, cut, seed, (enum vfs_crash_profile)(op->meta % VFS_CRASH_PROFILES));
}

/* Was the load, which nothing had answered yet, found? By a key that nothing touched since. */
static bool load_found(struct player *p, uint64_t version)
{
    for (uint32_t s = 0; s < MODEL_SPACES; s++)
        for (uint32_t k = 0; k < MODEL_KEYS; k++) {
            const struct events *events = &p->model.keys[s][k];
            const struct event *newest = events->n ? &events->at[events->n - 1] : NULL;
            struct kv_pinned got;
            if (!newest || newest->version != version || newest->kind != EVENT_LOADED)
                continue;
            kv_status rc = kv_get(p->db, NULL, s, model_key(k), &got, &p->err);
            bool found = rc == KV_OK && got.version == version;
            kv_pinned_release(&got);
            return found;
        }
    return true;
}

/* What was recovered lies between what was durable and what was begun: the model becomes the same. */
static void recovered(struct player *p, const struct mark *least, const struct mark *most)
{
    uint64_t found = kv_seq(p->db);
    if (found < least->durable || found > most->version)
        player_fail(p, "recovered %" PRIu64 ", answered for good %" PRIu64 ", begun %" PRIu64, found,
                    least->durable, most->version);
    model_roll_back(&p->model, found);
    for (size_t i = 0; i < p->n_marks; i++)
        if (p->marks[i].load > least->version && p->marks[i].load <= found &&
            !load_found(p, p->marks[i].load))
            model_forget_load(&p->model, p->marks[i].load);
    p->durable = found;
    p->model.stamp++;
    player_records(p, least->floor, most->floor);
    player_verify(p);
    player_note(p, found);
}

/* Recovery itself is cut short after any of its changes. */
static struct kv_vfs *power_lost_again(struct player *p, const struct op *op, struct kv_prng *prng,
                                       struct kv_vfs *disk)
{
    const char *paths[] = {p->path, "backups", NULL};
    struct vfs_crash *before = p->crash;
    p->crash = vfs_crash_new_from(disk, paths);
    player_open(p, false);
    uint64_t cut = kv_prng_below(prng, vfs_crash_ops(p->crash) + 1), seed = kv_prng_next(prng);
    kv_status rc = kv_close(p->db, &p->err);
    player_must(p, "kv_close", rc, KV_OK);
    kv_env_close(p->env);
    struct kv_vfs *again =
        vfs_crash_at(p->crash, cut, seed, (enum vfs_crash_profile)(op->meta % VFS_CRASH_PROFILES));
    vfs_crash_free(p->crash);
    kv_vfs_mem_free(disk);
    p->crash = before;
    return again;
}

static void crash(struct player *p, const struct op *op)
{
    struct kv_prng prng;
    struct mark least, most;
    kv_prng_init(&prng, op->n);
    player_let_go(p);
    if (p->threads) { /* what workers are at would go on behind the cut */
        kv_status rc = kv_close(p->db, &p->err);
        player_must(p, "kv_close", rc, KV_OK);
        kv_env_close(p->env);
        p->db = NULL;
    }
    struct kv_vfs *disk = power_lost(p, op, &prng, &least, &most);
    if (p->db) {
        (void)kv_close(p->db, &p->err);
        kv_env_close(p->env);
    }
    set_options(p, op->n);
    if (op->how & 4)
        disk = power_lost_again(p, op, &prng, disk);
    struct mark *marks = p->marks;
    size_t n_marks = p->n_marks;
    p->marks = NULL; /* still wanted when it is known what was recovered */
    p->marks_capacity = 0;
    lay_on(p, disk, op->how & 1);
    player_open(p, false);
    kv_free(p->marks);
    p->marks = marks;
    p->marks_capacity = n_marks;
    p->n_marks = n_marks;
    recovered(p, &least, &most);
    player_clear_marks(p);
    if (kv_prng_below(&prng, 3) == 0)
        reopen(p, &(struct op){.how = op->how & 1, .n = op->n}); /* a second recovery changes nothing */
}

/* ---- copies */

static void remove_all(struct player *p, const char *path)
{
    file_kit_empty(p->crash ? vfs_crash_as_vfs(p->crash) : p->memory, path);
}

/* A copy of this moment lies in path: looks at it, or goes on there. */
static void use_copy(struct player *p, const char *path, bool go_on)
{
    char old[sizeof p->path];
    struct kv_db *db = p->db, *copy = NULL;
    if (!go_on) {
        struct player_snapshot snapshots[SNAP_SLOTS];
        memcpy(snapshots, p->snapshots, sizeof snapshots);
        memset(p->snapshots, 0, sizeof p->snapshots); /* of the other database */
        player_must(p, "opening a copy", db_open(p, path, true, &copy), KV_OK);
        p->db = copy;
        player_verify(p);
        player_must(p, "closing a copy", kv_close(copy, &p->err), KV_OK);
        p->db = db;
        memcpy(p->snapshots, snapshots, sizeof snapshots);
        remove_all(p, path);
        return;
    }
    player_close(p);
    player_unfollow(p);
    snprintf(old, sizeof old, "%s", p->path);
    snprintf(p->path, sizeof p->path, "%s", path);
    env_open(p);
    remove_all(p, old);
    kv_env_close(p->env);
    player_open(p, false);
    player_clear_marks(p);
    opened(p);
}

static void checkpoint(struct player *p, const struct op *op)
{
    char path[32];
    snprintf(path, sizeof path, "copy%u", p->next_path++);
    player_must(p, "kv_checkpoint", kv_checkpoint(p->db, path, &p->err), KV_OK);
    use_copy(p, path, op->how & 1);
}

static void backup(struct player *p, const struct op *op)
{
    static const struct kv_repository repository = {.path = "backups"};
    struct kv_backup_options options = {.repository = &repository, .keep = 3};
    struct kv_backup_info info;
    char path[32];
    player_must(p, "kv_backup", kv_backup(p->db, &options, &info, &p->err), KV_OK);
    if (info.version != p->model.version)
        player_fail(p, "the backup holds version %" PRIu64, info.version);
    p->durable = p->model.version;
    if (op->how % 3 == 0)
        return;
    snprintf(path, sizeof path, "copy%u", p->next_path++);
    struct kv_restore_options restore = {.repository = &repository};
    player_must(p, "kv_restore", kv_restore(p->env, path, &restore, NULL, &p->err), KV_OK);
    use_copy(p, path, op->how % 3 == 2);
}

/* ---- looked at from outside */

static void read_only(struct player *p)
{
    uint64_t seq;
    player_close(p);
    player_open(p, true);
    opened(p);
    struct kv_commit_options record = {.record = KV_STR("none")};
    player_must(p, "a commit, read-only", kv_commit(p->db, NULL, &record, &seq, &p->err), KV_READ_ONLY);
    player_must(p, "a flush, read-only", kv_flush(p->db, &p->err), KV_READ_ONLY);
    player_close(p);
    player_open(p, false);
    opened(p);
}

static void check(struct player *p)
{
    struct kv_key_source key;
    key_source(p, &key);
    player_close(p);
    env_open(p);
    kv_status rc = kv_check_with_key(p->env, p->path, p->encrypted ? &key : NULL, NULL, NULL, &p->err);
    player_must(p, "kv_check", rc, KV_OK);
    kv_env_close(p->env);
    player_open(p, false);
    opened(p);
}

struct files {
    size_t tables, segments, manifests, logs;
};

static kv_status count_file(void *ctx, const char *name, uint64_t bytes)
{
    struct files *files = ctx;
    const char *suffix = strrchr(name, '.');
    (void)bytes;
    files->tables += suffix && strcmp(suffix, ".tbl") == 0;
    files->segments += suffix && strcmp(suffix, ".vlg") == 0;
    files->manifests += suffix && strcmp(suffix, ".man") == 0;
    files->logs += suffix && strcmp(suffix, ".log") == 0;
    return KV_OK;
}

/* After all work is done there are the files that are needed and no others. */
static void settle(struct player *p)
{
    struct files files = {0};
    struct kv_dir *dir = NULL;
    struct kv_vfs *vfs = p->crash ? vfs_crash_as_vfs(p->crash) : p->memory;
    uint64_t tables = 0;
    player_let_go(p);
    player_must(p, "kv_flush", kv_flush(p->db, &p->err), KV_OK);
    kv_status rc = p->threads ? KV_END : KV_OK;
    for (int i = 0; rc == KV_OK && i < 10000; i++)
        rc = kv_work(p->db, &p->err);
    player_must(p, "work", rc, KV_END);
    player_close(p);
    player_open(p, false);
    opened(p);
    for (uint32_t s = 0; s < MODEL_SPACES; s++) {
        struct kv_space_stats stats;
        player_must(p, "kv_space_stats", kv_space_stats(p->db, s, &stats), KV_OK);
        tables += stats.tables;
    }
    if (p->threads) /* a worker may be between writing a table and naming it */
        return;
    player_must(p, "opening a directory", kv_vfs_dir_open(vfs, p->path, false, &dir, &p->err), KV_OK);
    player_must(p, "listing", dir->ops->list(dir, count_file, &files, &p->err), KV_OK);
    kv_dir_close(dir);
    if (files.tables != tables || files.segments != p->db->manifest.state.n_segments || files.manifests != 1)
        player_fail(
            p, "%zu files of tables for %" PRIu64 " tables, %zu of segments for %zu, %zu manifests, %zu logs",
            files.tables, tables, files.segments, p->db->manifest.state.n_segments, files.manifests,
            files.logs);
}

/* ---- the rest */

static void step_clock(struct player *p, const struct op *op)
{
    const int64_t days = 8 * (int64_t)86400000;
    int64_t wall = kv_clock_wall_ms(&p->clock.base);
    clock_manual_set_wall_ms(&p->clock, op->how & 1 ? wall + days : wall - days);
    if (kv_retention_clock_ms(p->db) != wall)
        player_fail(p, "the retention clock followed a step of the wall clock");
    if (op->how & 1) {
        player_must(p, "kv_retention_clock_accept", kv_retention_clock_accept(p->db, &p->err), KV_OK);
        player_clear_marks(p);
    } else {
        clock_manual_set_wall_ms(&p->clock, wall);
    }
}

static void rotate(struct player *p, const struct op *op)
{
    if (!p->encrypted)
        return;
    if (!(op->how & 1)) {
        player_must(p, "kv_rotate_data_key", kv_rotate_data_key(p->db, &p->err), KV_OK);
        return;
    }
    kv_status rc = kv_rotate_master_key(p->db, masters[!p->master], &p->err);
    if (rc != KV_OK && rc != KV_INVALID) /* a crash may have brought the other one back */
        player_must(p, "kv_rotate_master_key", rc, KV_OK);
    p->master = !p->master;
}

void player_life(struct player *p, const struct op *op)
{
    switch (op->kind) {
    case OP_clock:
        clock_manual_advance_ms(&p->clock, op->n);
        break;
    case OP_clock_step:
        step_clock(p, op);
        break;
    case OP_rotate:
        rotate(p, op);
        break;
    case OP_checkpoint:
        checkpoint(p, op);
        break;
    case OP_backup:
        backup(p, op);
        break;
    case OP_read_only:
        read_only(p);
        break;
    case OP_check:
        check(p);
        break;
    case OP_reopen:
        reopen(p, op);
        break;
    case OP_crash:
        crash(p, op);
        break;
    default:
        settle(p);
    }
}
