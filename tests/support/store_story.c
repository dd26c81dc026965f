#include "tests/support/store_story.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define HOUR_MS INT64_C(3600000)
#define GRID_MS                                                                                              \
    INT64_C(                                                                                                 \
        1800000) /* half an hour: the grid covers 20 hours, two windows; its last time is half an hour ago */

const struct story stories[STORIES] = {
    /* In the end a rule has passed the first day of the last series, which is thinned. */
    {"life",
     INT64_MAX,
     36 * HOUR_MS,
     {
         {STORY_PUT, 0, 0, 9, 1},         {STORY_PUT, 1, 10, 12, 2},
         {STORY_PUT, 0, 5, 6, 3}, /* late and overwriting */
         {STORY_DELETE, 1, 8, 10, 0},     {STORY_PUT, 1, 9, 9, 4},
         {STORY_FLUSH, 0, 0, 0, 0},       {STORY_PUT, 0, 3, 13, 5},
         {STORY_REOPEN_FAST, 0, 0, 0, 0}, {STORY_DELETE, 2, 0, 12, 0},
         {STORY_PUT, 2, 11, 15, 6},       {STORY_FLUSH, 0, 0, 0, 0},
         {STORY_SETTLE, 0, 0, 0, 0},      {STORY_PUT, 3, 1, 2, 7},
         {STORY_DELETE, 3, 0, 39, 0},     {STORY_SETTLE, 0, 0, 0, 0}, /* it leaves, and returns */
         {STORY_PUT, 3, 2, 2, 8},         {STORY_SETTLE, 0, 0, 0, 0},
         {STORY_REOPEN, 0, 0, 0, 0},      {STORY_PUT, 0, 16, 20, 9},
         {STORY_ADVANCE, 0, 0, 0, 24},    {STORY_MAINTAIN, 0, 0, 0, 0},
         {STORY_PUT, 0, 20, 22, 10},      {STORY_REOPEN_FAST, 0, 0, 0, 0},
     }},
    /* An unfinished day: run upon run, merged by the engine in tiers, while deletes and late samples reach into what was merged. */
    {"tiers",
     INT64_MAX,
     0,
     {
         {STORY_PUT, 0, 20, 21, 1},       {STORY_FLUSH, 0, 0, 0, 0},  {STORY_PUT, 1, 22, 23, 2},
         {STORY_FLUSH, 0, 0, 0, 0},       {STORY_PUT, 0, 21, 22, 3},  {STORY_FLUSH, 0, 0, 0, 0},
         {STORY_DELETE, 2, 20, 22, 0},    {STORY_PUT, 0, 24, 24, 4},  {STORY_FLUSH, 0, 0, 0, 0},
         {STORY_PUT, 2, 25, 26, 5},       {STORY_FLUSH, 0, 0, 0, 0},  {STORY_PUT, 0, 27, 27, 6},
         {STORY_FLUSH, 0, 0, 0, 0},       {STORY_PUT, 0, 28, 28, 7},  {STORY_FLUSH, 0, 0, 0, 0},
         {STORY_WORK, 0, 0, 0, 0},        {STORY_PUT, 1, 29, 29, 8},  {STORY_FLUSH, 0, 0, 0, 0},
         {STORY_DELETE, 0, 27, 29, 0},    {STORY_PUT, 0, 28, 30, 9},  {STORY_FLUSH, 0, 0, 0, 0},
         {STORY_PUT, 0, 20, 20, 10},      {STORY_FLUSH, 0, 0, 0, 0},  {STORY_WORK, 0, 0, 0, 0},
         {STORY_REOPEN_FAST, 0, 0, 0, 0}, {STORY_PUT, 0, 31, 31, 11}, {STORY_FLUSH, 0, 0, 0, 0},
         {STORY_WORK, 0, 0, 0, 0},        {STORY_SETTLE, 0, 0, 0, 0},
     }},
    /* The first day expires whole, then half of the second; at 12 hours what is before time 24 is gone. */
    {"retention",
     20 * HOUR_MS,
     0,
     {
         {STORY_PUT, 0, 2, 12, 1},     {STORY_FLUSH, 0, 0, 0, 0},    {STORY_PUT, 0, 14, 30, 2},
         {STORY_DELETE, 1, 5, 20, 0},  {STORY_FLUSH, 0, 0, 0, 0},    {STORY_SETTLE, 0, 0, 0, 0},
         {STORY_PUT, 2, 3, 3, 3},      {STORY_DELETE, 3, 2, 26, 0},  {STORY_ADVANCE, 0, 0, 0, 10},
         {STORY_MAINTAIN, 0, 0, 0, 0}, {STORY_PUT, 0, 27, 33, 4},    {STORY_FLUSH, 0, 0, 0, 0},
         {STORY_ADVANCE, 0, 0, 0, 2},  {STORY_MAINTAIN, 0, 0, 0, 0}, {STORY_REOPEN_FAST, 0, 0, 0, 0},
         {STORY_DELETE, 0, 20, 28, 0}, {STORY_SETTLE, 0, 0, 0, 0},   {STORY_ADVANCE, 0, 0, 0, 20},
         {STORY_MAINTAIN, 0, 0, 0, 0}, {STORY_REOPEN, 0, 0, 0, 0},
     }},
    {"copies",
     INT64_MAX,
     0,
     {
         {STORY_PUT, 0, 0, 9, 1},
         {STORY_FLUSH, 0, 0, 0, 0},
         {STORY_PUT, 1, 8, 22, 2},
         {STORY_BACKUP, 0, 0, 0, 0},
         {STORY_DELETE, 2, 5, 12, 0},
         {STORY_SNAPSHOT, 0, 0, 0, 0},
         {STORY_PUT, 2, 12, 13, 3},
         {STORY_SETTLE, 0, 0, 0, 0},
         {STORY_BACKUP, 0, 0, 0, 1}, /* the head is flushed */
         {STORY_PUT, 0, 23, 23, 4},
         {STORY_REOPEN_FAST, 0, 0, 0, 0},
         {STORY_BACKUP, 0, 0, 0, 0},
     }},
};

int story_len(const struct story *story)
{
    int n = 0;
    while (story->ops[n].kind != STORY_END)
        n++;
    return n;
}

double story_hours(const struct story *story, int n)
{
    double hours = 0;
    for (int i = 0; i < n; i++)
        hours += story->ops[i].kind == STORY_ADVANCE ? story->ops[i].value : 0;
    return hours;
}

static int64_t grid(int at)
{
    return KIT_START_MS - 20 * HOUR_MS + at * GRID_MS;
}

void story_apply(struct story_state *state, const struct story_op *op)
{
    for (int at = op->from; at <= op->to; at++) {
        for (int series = op->series; op->kind == STORY_PUT && series < STORY_SERIES; series++) {
            state->present[series][at] = true;
            state->value[series][at] = op->value + at;
        }
        if (op->kind == STORY_DELETE)
            state->present[op->series][at] = false;
    }
}

void story_begin(struct store_kit *kit, const struct story *story, struct kv_vfs *vfs, double hours)
{
    store_kit_init(kit);
    kv_vfs_mem_free(kit->vfs);
    kit->vfs = vfs;
    kit->options.retention_ms = story->retention_ms;
    if (story->rule_ms > 0) {
        kit->rule = (struct ts_retention_rule){KV_STR("{i=\"3\"}"), story->rule_ms};
        kit->options.retention_rules = &kit->rule;
        kit->options.n_retention_rules = 1;
    }
    kit->options.head_log_bytes_max = 400; /* generations change in mid-story */
    clock_manual_advance_ms(&kit->clock, (int64_t)(hours * HOUR_MS));
}

void story_finish(struct store_kit *kit)
{
    (void)store_kit_close(kit, true);
    kit->vfs = NULL;
    store_kit_release(kit);
}

/* ---- playing */

static kv_status play_put(struct store_kit *kit, const struct story_op *op)
{
    int64_t times[STORY_TIMES];
    double values[STORY_TIMES];
    size_t n = 0;
    for (int at = op->from; at <= op->to; at++, n++) {
        times[n] = grid(at);
        values[n] = op->value + at;
    }
    kv_status rc = KV_OK;
    for (int series = op->series; series < STORY_SERIES && rc == KV_OK; series++)
        rc = store_kit_add_many(kit, series, times, values, n);
    if (rc < 0) {
        ts_append_abort(kit->appender);
        return rc;
    }
    rc = store_kit_commit(kit);
    cr_assert(rc < 0 || kit->result.rejected == 0, "%s", kit->result.rejects[0].text);
    return rc;
}

static kv_status play_work(struct store_kit *kit)
{
    kv_status rc;
    while ((rc = kv_work(ts_kv(kit->db), &kit->err)) == KV_OK)
        ;
    return rc == KV_END ? KV_OK : rc;
}

static kv_status play_reopen(struct store_kit *kit, bool fast)
{
    kv_status closed = store_kit_close(kit, fast), rc = store_kit_open(kit);
    return rc < 0 ? rc : closed;
}

static const struct kv_repository repository = {.path = "backups"};

static kv_status play_copy(struct store_kit *kit, const struct story *story, int i,
                           const struct story_state *state)
{
    const struct kv_backup_options options = {.repository = &repository};
    const struct story_op *op = &story->ops[i];
    char path[24], to[24];
    struct kv_backup_info info;
    snprintf(path, sizeof path, "copy%d", i);
    snprintf(to, sizeof to, "restored%d", i);
    kv_status rc = op->kind == STORY_SNAPSHOT ? ts_snapshot(kit->db, path, false, &kit->err)
                                              : ts_backup(kit->db, &options, op->value > 0, &info, &kit->err);
    if (rc == KV_OK)
        rc = story_copy_matches(kit, story, i, to, state);
    cr_assert_neq(rc, KV_END, "%s: the copy of operation %d holds something else", story->name, i);
    return rc;
}

kv_status story_play(struct store_kit *kit, const struct story *story, int i, const struct story_state *state)
{
    const struct story_op *op = &story->ops[i];
    if (op->kind == STORY_ADVANCE)
        clock_manual_advance_ms(&kit->clock, (int64_t)(op->value * HOUR_MS));
    if (!kit->db) {
        kv_status rc = store_kit_open(kit);
        if (rc < 0)
            return rc;
    }
    switch (op->kind) {
    case STORY_PUT:
        return play_put(kit, op);
    case STORY_DELETE:
        return store_kit_delete(kit, op->series, grid(op->from), grid(op->to));
    case STORY_FLUSH:
        return ts_flush(kit->db, false, &kit->err);
    case STORY_SETTLE:
        return ts_flush(kit->db, true, &kit->err);
    case STORY_MAINTAIN:
        return ts_maintain(kit->db, &kit->err);
    case STORY_WORK:
        return play_work(kit);
    case STORY_REOPEN:
    case STORY_REOPEN_FAST:
        return play_reopen(kit, op->kind == STORY_REOPEN_FAST);
    case STORY_SNAPSHOT:
    case STORY_BACKUP:
        return play_copy(kit, story, i, state);
    default:
        return KV_OK;
    }
}

/* ---- looking */

int64_t story_floor_ms(struct store_kit *kit, int series)
{
    bool ruled = kit->options.n_retention_rules > 0 && series == STORY_SERIES - 1;
    int64_t keep_ms = ruled ? kit->options.retention_rules->keep_ms : kit->options.retention_ms;
    return keep_ms == INT64_MAX ? INT64_MIN : kv_retention_clock_ms(ts_kv(kit->db)) - keep_ms;
}

kv_status story_matches(struct store_kit *kit, const struct story_state *state)
{
    struct ts_columns columns = {0};
    kv_status rc = KV_OK;
    for (int series = 0; series < STORY_SERIES && rc == KV_OK; series++) {
        size_t at = 0;
        int64_t floor_ms = story_floor_ms(kit, series);
        rc = store_kit_read(kit, series, INT64_MIN, INT64_MAX, &columns);
        for (int t = 0; t < STORY_TIMES && rc == KV_OK; t++) {
            if (!state->present[series][t] || grid(t) < floor_ms)
                continue;
            if (at >= columns.n || columns.times_ms[at] != grid(t) ||
                columns.values[at] != state->value[series][t])
                rc = KV_END;
            at++;
        }
        if (rc == KV_OK && at != columns.n)
            rc = KV_END;
    }
    ts_columns_release(&columns);
    return rc;
}

kv_status story_copy_matches(struct store_kit *kit, const struct story *story, int i, const char *to,
                             const struct story_state *state)
{
    const struct kv_restore_options restore = {.repository = &repository};
    struct store_kit copy = *kit;
    char path[24];
    snprintf(path, sizeof path, "copy%d", i);
    copy.db = NULL;
    copy.options.read_only = copy.options.must_exist = true;
    kv_status rc = KV_OK;
    if (story->ops[i].kind == STORY_BACKUP)
        rc = ts_restore(kit->env, to, &restore, NULL, &kit->err);
    if (rc == KV_OK)
        rc = ts_open(kit->env, story->ops[i].kind == STORY_BACKUP ? to : path, &copy.options, &copy.db,
                     &kit->err);
    if (rc < 0)
        return rc;
    rc = story_matches(&copy, state);
    kit->err = copy.err;
    kv_status closed = ts_close(copy.db, &kit->err);
    return rc != KV_OK ? rc : closed;
}
