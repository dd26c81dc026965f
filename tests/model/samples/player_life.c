/* What happens to the store as a whole: opened, closed, copied, cut off from power. */
#include "kvcore/base/mem.h"
#include "kvcore/base/prng.h"
#include "tests/model/samples/player.h"
#include "tests/support/file_kit.h"
#include "tsdb/db.h"

#include <inttypes.h>

/* ---- opening */

static void env_open(struct player *p)
{
    const struct kv_env_options options = {.vfs = p->crash ? vfs_crash_as_vfs(p->crash) : p->memory,
                                           .clock = &p->clock.base,
                                           .cache_bytes = p->options.cache_bytes,
                                           .threads = p->threads ? p->threads : KV_THREADS_NONE};
    player_must(p, "kv_env_open", kv_env_open(&options, &p->env, &p->err), KV_OK);
}

/* At an open the clock takes over a wall clock that is ahead by a week at most, and goes nowhere else but back to what was stored. */
static void judge_clock_of_open(struct player *p)
{
    int64_t wall = kv_clock_wall_ms(&p->clock.base), now = kv_retention_clock_ms(ts_kv(p->db));
    uint64_t mono_ns = kv_clock_mono_ns(&p->clock.base);
    int64_t most = p->clock_ms + (int64_t)((mono_ns - p->clock_mono_ns) / 1000000) * 9 / 8 + 2;
    if (wall > most && wall - most <= 7 * NAIVE_DAY_MS)
        most = wall;
    if (p->clock_ms && now > most)
        player_fail(p, "the retention clock is %" PRId64 " ms too far at the open", now - most);
    p->clock_ms = now;
    p->clock_mono_ns = mono_ns;
}

static struct ts_db *db_open(struct player *p, const char *path, bool read_only)
{
    struct ts_options options = p->options.store;
    struct ts_db *db = NULL;
    options.read_only = read_only;
    options.must_exist = p->version > 0 && p->n_marks == 0 && p->crash == NULL;
    player_must(p, "ts_open", ts_open(p->env, path, &options, &db, &p->err), KV_OK);
    return db;
}

void player_open(struct player *p, bool read_only)
{
    env_open(p);
    p->db = db_open(p, p->path, read_only);
    player_must(p, "ts_appender_new", ts_appender_new(p->db, &p->appender), KV_OK);
    p->rate_ns = 0;
    judge_clock_of_open(p);
}

/* Whatever it answers: power may be lost. */
static kv_status close_it(struct player *p, bool fast)
{
    ts_appender_free(p->appender);
    p->appender = NULL;
    player_abort(p);
    kv_status rc = fast ? ts_close_fast(p->db, &p->err) : ts_close(p->db, &p->err);
    p->db = NULL;
    kv_env_close(p->env);
    p->env = NULL;
    return rc;
}

void player_close(struct player *p, bool fast)
{
    kv_status rc = close_it(p, fast);
    player_must(p, "closing", rc, KV_OK);
}

/* ---- what it lies on */

void player_clear_marks(struct player *p)
{
    p->n_marks = 0;
    if (!p->crash)
        return;
    p->marks = player_grown(p->marks, &p->marks_capacity, 0, sizeof *p->marks);
    p->marks[p->n_marks++] = (struct mark){0, vfs_crash_ops(p->crash), p->version, p->version};
}

/* The store is closed: from now on its disk remembers every change, or does not. */
static void lay_on(struct player *p, struct kv_vfs *disk, bool recorded)
{
    const char *paths[] = {p->path, "backups", NULL};
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
    player_options(p, p->made_under + set);
}

/* What is there is there for good. */
static void opened_clean(struct player *p)
{
    player_must(p, "replay", ts_wait_ready(p->db, &p->err), KV_OK); /* it may commit */
    p->version = p->durable = kv_seq(ts_kv(p->db));
    player_clear_marks(p);
    player_verify(p);
}

static void reopen(struct player *p, const struct op *op)
{
    player_close(p, op->how & 2);
    lay_on(p, disk_now(p), op->how & 1);
    set_options(p, op->n);
    player_open(p, false);
    if (!(op->how & 4) || p->crash)
        opened_clean(p);
}

/* ---- power is lost */

static struct kv_vfs *power_lost(struct player *p, const struct op *op, struct kv_prng *prng,
                                 struct mark *least, struct mark *most)
{
    enum { NEAR = 40 };
    *least = *most = (struct mark){.version = p->version, .durable = p->durable};
    if (!p->crash)
        return kv_vfs_mem_crash_clone(p->memory);
    uint64_t end = vfs_crash_ops(p->crash) + 1, begin = p->marks[0].done + 1, cut = end;
    if (!(op->how & 2) && !p->threads && end > begin)
        cut = kv_prng_below(prng, 2) ? end - kv_prng_below(prng, end - begin < NEAR ? end - begin : NEAR)
                                     : end - kv_prng_below(prng, end - begin);
    *most = *least = p->marks[0];
    for (size_t i = 0; i < p->n_marks; i++) {
        if (p->marks[i].done < cut)
            *least = p->marks[i];
        if (p->marks[i].began <= cut)
            *most = p->marks[i];
    }
    if (cut == end) {
        most->version = p->version;
        least->durable = p->durable;
    }
    uint64_t seed = kv_prng_below(prng, 4);
    seed = seed < 3 ? seed : kv_prng_next(prng);
    return vfs_crash_at(p->crash, cut, seed, (enum vfs_crash_profile)(op->meta % VFS_CRASH_PROFILES));
}

/* What was recovered lies between what was durable and what was begun; the naive store becomes the same. It is looked at without a
 * write: an open for writing may commit. */
static void judge_disk(struct player *p, struct kv_vfs *disk, const struct mark *least,
                       const struct mark *most)
{
    struct vfs_crash *crash = p->crash;
    struct kv_vfs *memory = p->memory;
    p->crash = NULL;
    p->memory = disk;
    player_open(p, true);
    uint64_t found = kv_seq(ts_kv(p->db));
    if (found < least->durable || found > most->version)
        player_fail(p, "recovered %" PRIu64 ", answered for good %" PRIu64 ", begun %" PRIu64, found,
                    least->durable, most->version);
    naive_roll_back(&p->naive, found);
    p->version = found;
    player_verify(p);
    player_must(p, "closing", close_it(p, true), KV_OK);
    p->crash = crash;
    p->memory = memory;
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
    player_must(p, "closing", close_it(p, true), KV_OK);
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
    if (p->threads) { /* what workers are at would go on behind the cut */
        player_must(p, "closing", close_it(p, true), KV_OK);
    }
    struct kv_vfs *disk = power_lost(p, op, &prng, &least, &most);
    if (p->threads || p->options.store.replay_in_background)
        most.version = UINT64_MAX; /* workers commit when they like */
    if (!p->threads)
        (void)close_it(p, true);
    set_options(p, op->n);
    judge_disk(p, disk, &least, &most);
    if (op->how & 4)
        disk = power_lost_again(p, op, &prng, disk);
    lay_on(p, disk, op->how & 1);
    player_open(p, false);
    opened_clean(p);
    if (kv_prng_below(&prng, 3) == 0) /* a second recovery changes nothing */
        reopen(p, &(struct op){.how = (op->how & 1) | (op->n & 2), .n = op->n});
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
    if (!go_on) {
        struct ts_db *db = p->db;
        p->db = db_open(p, path, true);
        player_verify(p);
        player_must(p, "closing a copy", ts_close(p->db, &p->err), KV_OK);
        p->db = db;
        remove_all(p, path);
        return;
    }
    player_close(p, true);
    snprintf(old, sizeof old, "%s", p->path);
    snprintf(p->path, sizeof p->path, "%s", path);
    remove_all(p, old);
    player_open(p, false);
    opened_clean(p);
}

static void snapshot(struct player *p, const struct op *op)
{
    char path[32];
    snprintf(path, sizeof path, "copy%u", p->next_path++);
    player_must(p, "ts_snapshot", ts_snapshot(p->db, path, op->how & 2, &p->err), KV_OK);
    p->version = p->durable = kv_seq(ts_kv(p->db));
    use_copy(p, path, op->how & 1);
}

static void backup(struct player *p, const struct op *op)
{
    static const struct kv_repository repository = {.path = "backups"};
    const struct kv_backup_options options = {.repository = &repository, .keep = 3};
    const struct kv_restore_options restore = {.repository = &repository};
    struct kv_backup_info info;
    char path[32];
    if (op->how & 8) {
        player_close(p, true);
        env_open(p);
        player_must(p, "ts_backup_closed", ts_backup_closed(p->env, p->path, &options, &info, &p->err),
                    KV_OK);
        kv_env_close(p->env);
        player_open(p, false);
        opened_clean(p);
    } else {
        player_must(p, "ts_backup", ts_backup(p->db, &options, op->how & 4, &info, &p->err), KV_OK);
    }
    p->version = p->durable = kv_seq(ts_kv(p->db));
    if (!(op->how & 3))
        return;
    snprintf(path, sizeof path, "copy%u", p->next_path++);
    player_must(p, "ts_restore", ts_restore(p->env, path, &restore, NULL, &p->err), KV_OK);
    use_copy(p, path, op->how & 2);
}

/* ---- looked at from outside */

static void read_only(struct player *p)
{
    player_close(p, true);
    player_open(p, true);
    player_verify(p);
    player_must(p, "a flush, read-only", ts_flush(p->db, false, &p->err), KV_READ_ONLY);
    player_close(p, false);
    player_open(p, false);
    opened_clean(p);
}

static void say(void *ctx, kv_status severity, const char *line)
{
    (void)ctx;
    if (severity < 0)
        fprintf(stderr, "check: %s\n", line);
}

static void check(struct player *p)
{
    player_close(p, true);
    env_open(p);
    player_must(p, "ts_check", ts_check(p->env, p->path, say, NULL, &p->err), KV_OK);
    kv_env_close(p->env);
    player_open(p, false);
    opened_clean(p);
}

/* ---- clocks */

static void step_clock(struct player *p, const struct op *op)
{
    int64_t wall = kv_clock_wall_ms(&p->clock.base), step = (int64_t)op->n * 1000;
    clock_manual_set_wall_ms(&p->clock, op->how & 1 ? wall - step : wall + step);
    player_verify(p); /* nothing is gone */
    if (op->how & 2) {
        player_must(p, "kv_retention_clock_accept", kv_retention_clock_accept(ts_kv(p->db), &p->err), KV_OK);
        p->clock_ms = kv_retention_clock_ms(ts_kv(p->db));
        p->clock_mono_ns = kv_clock_mono_ns(&p->clock.base);
        p->version = kv_seq(ts_kv(p->db));
        player_must(p, "kv_sync", kv_sync(ts_kv(p->db), &p->err), KV_OK);
        player_clear_marks(p);
    } else if (op->how & 4) {
        clock_manual_set_wall_ms(&p->clock, wall);
    }
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
    case OP_snapshot:
        snapshot(p, op);
        break;
    case OP_backup:
        backup(p, op);
        break;
    case OP_read_only:
        read_only(p);
        break;
    case OP_reopen:
        reopen(p, op);
        break;
    case OP_crash:
        crash(p, op);
        break;
    default:
        check(p);
    }
}
