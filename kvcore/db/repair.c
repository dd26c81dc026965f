/*
 * kv_repair: a damaged database becomes one that opens, with all in it that can be read.
 *
 * (1) Everything is looked at: the manifest (or, when it is damaged or lost, every whole frame of every manifest file), the
 *     header of every other file. (2) Segments are opened, every table read whole; of a damaged one the readable blocks become
 *     a new table. (3) A new manifest says what there is, and is published: up to here nothing was changed but by adding files,
 *     and linking into PATH.damaged what leaves the database. (4) If the log cannot be opened, it is salvaged. (5) kv_check.
 *
 * Without a whole manifest: tables that are there are taken in, each of them, for merges remove theirs; that an entry is there
 * twice does no harm, versions decide. Levels are given anew so that tables are disjoint. The log is read from its beginning: what
 * tables have already comes with the same versions.
 */
#include "kvcore/db/repair.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/batch.h"
#include "kvcore/db/logged.h"
#include "kvcore/db/manifest_mend.h"
#include "kvcore/db/salvage.h"
#include "kvcore/db/target.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

void kv_repair_say(struct kv_repair *r, kv_status severity, const char *format, ...)
{
    char line[500];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    r->report->findings += severity < 0;
    if (r->options->each)
        r->options->each(r->options->ctx, severity, line);
}

kv_status kv_repair_set_aside(struct kv_repair *r, const char *name)
{
    struct kv_buf path = {0};
    kv_status rc = KV_OK;
    if (!r->aside) {
        KV_TRY(kv_buf_printf(&path, "%s.damaged", r->path));
        KV_TRY(kv_buf_append_byte(&path, 0));
        KV_TRY(kv_vfs_dir_open(r->env->vfs, (char *)path.data, true, &r->aside, r->err));
    }
    rc = r->dir->ops->link(r->dir, name, r->aside, r->err);
    if (rc == KV_EXISTS)
        rc = KV_OK;
out:
    kv_buf_release(&path);
    return rc;
}

/* ---- what is known */

static void say_manifest(void *ctx, const char *line)
{
    struct kv_repair *r = ctx;
    kv_repair_say(r, KV_OK, "%s", line);
}

static kv_status repair_known(struct kv_repair *r)
{
    const struct kv_manifest_state *state = &r->manifest.state;
    kv_status rc;
    KV_TRY(kv_manifest_mend(&r->manifest, r->dir, r->env->clock, &r->options->key, &r->exact, say_manifest, r,
                            r->err));
    if (state->n_spaces) {
        memcpy(r->uuid, state->uuid, KV_UUID_LEN);
        r->uuid_known = true;
    }
    KV_TRY(kv_repair_look(r));
    if (r->manifest.next_file <= r->number_max)
        r->manifest.next_file = r->number_max + 1;
    /* Files were begun under later edits; or it ends before the order of spaces, without which nothing is committed. */
    if (r->exact && (r->edit_seen > state->edit || state->n_order < state->n_spaces)) {
        kv_repair_say(r, KV_OK, "the manifest %s lost its end: it has edit %" PRIu64, r->manifest.name,
                      state->edit);
        r->exact = false;
    }
    r->changed = !r->exact;
    r->report->manifest_rebuilt = !r->exact;
    r->epoch_max = state->owner_epoch > r->epoch_max ? state->owner_epoch : r->epoch_max;
    if (!r->uuid_known)
        rc = kv_fail(r->err, KV_MISSING, 0, "%s holds no database", r->path);
    else if (r->sealed_files && state->n_keys == 0)
        rc = kv_fail(r->err, KV_CORRUPT, 0,
                     "%s is encrypted, and its data keys are lost with its manifest: nothing of it can be "
                     "read; only a "
                     "backup helps",
                     r->path);
    else if (!r->exact)
        kv_repair_say(r, KV_CORRUPT, "the manifest is %s: it is made again from the files",
                      state->n_spaces ? "damaged, or not the newest" : "lost");
out:
    return rc;
}

/* ---- spaces */

static const struct kv_space_options *space_asked(const struct kv_repair *r, const char *name)
{
    for (size_t i = 0; i < r->options->n_spaces; i++)
        if (strcmp(r->options->spaces[i].name, name) == 0)
            return &r->options->spaces[i];
    return NULL;
}

static kv_status spaces_unknown(struct kv_repair *r)
{
    char names[160] = "";
    size_t n = 0;
    for (uint32_t i = 0; i < KV_SPACES_MAX && n < sizeof names - 40; i++)
        if (r->names[i][0])
            n += (size_t)snprintf(names + n, sizeof names - n, " %s", r->names[i]);
    return kv_fail(r->err, KV_INVALID, 0,
                   "what spaces %s has is lost with its manifest: give all of them, in the order they are "
                   "opened with, and "
                   "their styles (tables name:%s)",
                   r->path, n ? names : " none");
}

static void space_set(struct kv_manifest_state *state, uint32_t id, const char *name, enum kv_style style)
{
    snprintf(state->spaces[id].name, sizeof state->spaces[id].name, "%s", name);
    state->spaces[id].style = style;
}

/* The spaces of the state, those that only tables know, and those that are only asked for; and their order. */
static kv_status repair_spaces(struct kv_repair *r)
{
    struct kv_manifest_state *state = &r->manifest.state;
    uint32_t most = state->n_spaces;
    if (r->exact)
        return KV_OK;
    kv_status rc = kv_repair_names(r);
    if (rc < 0)
        return rc;
    for (uint32_t i = most; i < KV_SPACES_MAX; i++)
        most = r->names[i][0] ? i + 1 : most;
    for (uint32_t i = state->n_spaces; i < most; i++) {
        const struct kv_space_options *asked = r->names[i][0] ? space_asked(r, r->names[i]) : NULL;
        if (r->names[i][0] && !asked)
            return spaces_unknown(r);
        if (asked)
            space_set(state, i, asked->name, asked->style);
    }
    bool whole = state->n_spaces > 0 && most == state->n_spaces &&
                 (state->n_order == most || r->options->n_spaces == 0);
    for (size_t i = 0; i < r->options->n_spaces; i++) {
        const struct kv_space_options *asked = &r->options->spaces[i];
        uint32_t id = 0;
        while (id < most && strcmp(state->spaces[id].name, asked->name) != 0)
            id++;
        if (id == most && !whole) { /* into a gap, or behind all */
            for (id = state->n_spaces; id < most && state->spaces[id].name[0];)
                id++;
            if (id == KV_SPACES_MAX)
                return spaces_unknown(r);
            most = id == most ? most + 1 : most;
            space_set(state, id, asked->name, asked->style);
        }
        if (!whole)
            state->order[i] = (uint8_t)id;
    }
    for (uint32_t i = 0; i < most; i++)
        if (!state->spaces[i].name[0])
            return spaces_unknown(r);
    if (most == 0 || (!whole && r->options->n_spaces != most))
        return spaces_unknown(r);
    if (!whole)
        state->n_order = (uint32_t)r->options->n_spaces;
    if (state->n_order < most) {
        kv_repair_say(r, KV_OK, "the order of spaces is lost: taken to be that in which they were made");
        for (uint32_t i = 0; i < most; i++)
            state->order[i] = (uint8_t)i;
        state->n_order = most;
    }
    state->n_spaces = most;
    return KV_OK;
}

/* ---- where tables lie */

static int order_items(const void *a, const void *b)
{
    const struct kv_repair_table *x = a, *y = b;
    if (x->meta.space != y->meta.space)
        return x->meta.space < y->meta.space ? -1 : 1;
    int c = kv_slice_compare(x->meta.smallest, y->meta.smallest);
    return c ? c : x->meta.number < y->meta.number ? -1 : 1;
}

/* A layer of tables that do not overlap. */
struct layer {
    kv_slice largest;
    uint64_t run;
};

/* Each table goes to the first layer that ends before it begins: the fewest there can be. The first layers of a levelled
 * space are levels, from the deepest on; the others runs on level 0. */
static kv_status place_items(struct kv_repair *r)
{
    struct kv_buf bytes = {0};
    kv_status rc = KV_OK;
    if (r->n_items > 1)
        qsort(r->items, r->n_items, sizeof *r->items, order_items);
    for (size_t i = 0; i < r->n_items && rc == KV_OK; i++) {
        struct kv_table_meta *meta = &r->items[i].meta;
        if (r->items[i].placed)
            continue;
        if (i > 0 && r->items[i - 1].meta.space != meta->space)
            kv_buf_clear(&bytes);
        size_t n = bytes.len / sizeof(struct layer), at = 0;
        struct layer *layers = (struct layer *)(void *)bytes.data;
        while (at < n && kv_slice_compare(layers[at].largest, meta->smallest) >= 0)
            at++;
        struct layer layer = {meta->largest, at < n ? layers[at].run : meta->number};
        if (at < n)
            layers[at] = layer;
        else
            rc = kv_buf_append(&bytes, kv_slice_of(&layer, sizeof layer));
        bool levelled = r->manifest.state.spaces[meta->space].style == KV_STYLE_LEVELLED;
        meta->level = levelled && at < KV_LEVELS_MAX - 1 ? (uint32_t)(KV_LEVELS_MAX - 1 - at) : 0;
        meta->run = layer.run;
    }
    kv_buf_release(&bytes);
    return rc;
}

/* ---- the new manifest */

static uint64_t version_max(const struct kv_repair *r)
{
    uint64_t most = r->manifest.state.last_seq;
    for (size_t i = 0; i < r->n_items; i++)
        most = r->items[i].meta.version_max > most ? r->items[i].meta.version_max : most;
    return most;
}

static bool log_is_there(struct kv_repair *r, uint64_t number)
{
    char name[32];
    struct kv_file *file = NULL;
    kv_file_name(name, number, KV_NAME_LOG);
    kv_status rc = kv_dir_open_file(r->dir, name, &file, NULL);
    kv_file_close(file);
    return rc != KV_MISSING;
}

/* Of an older manifest only what still holds: a file that has gone was needed no more. */
static void state_log(struct kv_repair *r, struct kv_edit *edit)
{
    const struct kv_manifest_state *state = &r->manifest.state;
    kv_edit_log_floor(edit, state->log_floor, state->log_first);
    kv_edit_app_floor(edit, state->app_floor);
    bool current = state->log_current && (r->exact || log_is_there(r, state->log_current));
    kv_edit_log_current(edit, current ? state->log_current : 0);
    if (current && kv_manifest_log_uid(state))
        kv_edit_log_uid(edit, state->log_current, state->log_uid);
    for (size_t i = 0; i < state->n_seals; i++)
        if (r->exact || log_is_there(r, state->seals[i].number))
            kv_edit_seal(edit, &state->seals[i]);
}

static void state_files(struct kv_repair *r, struct kv_edit *edit)
{
    const struct kv_segment_meta *metas = (const struct kv_segment_meta *)(const void *)r->metas.data;
    for (size_t i = 0; i < r->n_items; i++)
        kv_edit_add_table(edit, &r->items[i].meta);
    for (size_t i = 0; i < r->metas.len / sizeof *metas; i++)
        kv_edit_add_segment(edit, &metas[i]);
}

static void state_edit(struct kv_repair *r, struct kv_edit *edit)
{
    const struct kv_manifest_state *state = &r->manifest.state;
    uint8_t seed[KV_UUID_LEN];
    kv_clock_entropy(r->env->clock, seed, sizeof seed);
    kv_edit_identity(edit, r->uuid, state->edit ? state->hash_seed : seed);
    kv_edit_owner_epoch(edit, r->epoch_max + 1);
    kv_edit_next_file(edit, r->manifest.next_file + 1);
    kv_edit_last_seq(edit, version_max(r));
    kv_edit_retention(edit, state->edit ? state->retention_ms : kv_clock_wall_ms(r->env->clock));
    for (uint32_t i = 0; i < state->n_spaces; i++)
        kv_edit_space(edit, i, state->spaces[i].name, state->spaces[i].style);
    kv_edit_space_order(edit, state->order, state->n_order);
    if (state->plain_below)
        kv_edit_plain_below(edit, state->plain_below);
    for (size_t i = 0; i < state->n_keys; i++) {
        kv_edit_data_key(edit, &state->keys[i]);
        if (state->keys[i].sealed)
            kv_edit_key_sealed(edit, state->keys[i].id, state->keys[i].sealed);
    }
    state_log(r, edit);
    state_files(r, edit);
    for (size_t i = 0; i < state->n_ranges; i++)
        kv_edit_add_range(edit, state->ranges[i]);
}

static kv_status set_manifests_aside(void *ctx, const char *name, uint64_t bytes)
{
    struct kv_repair *r = ctx;
    uint64_t number;
    enum kv_file_kind_name kind;
    (void)bytes;
    bool ours = kv_file_name_parse(name, &number, &kind) && kind == KV_NAME_MANIFEST;
    return ours ? kv_repair_set_aside(r, name) : KV_OK;
}

static kv_status publish(struct kv_repair *r, const struct kv_manifest_state *state)
{
    struct kv_buf bytes = {0};
    struct kv_file *file = NULL;
    char name[32];
    kv_status rc;
    kv_file_name(name, kv_manifest_take_number(&r->manifest), KV_NAME_MANIFEST);
    KV_TRY(kv_manifest_build_copy(r->env->clock, r->manifest.keys, state, &bytes));
    KV_TRY(r->dir->ops->list(r->dir, set_manifests_aside, r, r->err));
    if (r->aside)
        KV_TRY(kv_dir_sync_names(r->aside, r->err));
    KV_TRY(kv_dir_create(r->dir, name, &file, r->err));
    KV_TRY(kv_file_append(file, 0, kv_buf_slice(&bytes), r->err));
    KV_TRY(kv_file_sync(file, r->err));
    KV_TRY(kv_dir_sync_names(r->dir, r->err));
    KV_TRY(r->dir->ops->publish(r->dir, kv_slice_str(name), r->manifest.generation, r->err));
out:
    kv_file_close(file);
    kv_buf_release(&bytes);
    return rc;
}

static kv_status repair_manifest(struct kv_repair *r)
{
    struct kv_manifest_state state = {0};
    struct kv_edit edit = {0};
    kv_status rc = KV_OK;
    if (!r->changed)
        return KV_OK;
    KV_TRY(place_items(r));
    state_edit(r, &edit);
    KV_TRY(edit.rc);
    KV_TRY(kv_manifest_apply(&state, kv_buf_slice(&edit.fields), r->err));
    state.edit = (r->manifest.state.edit > r->edit_max ? r->manifest.state.edit : r->edit_max) + 1;
    KV_TRY(publish(r, &state));
out:
    kv_edit_release(&edit);
    kv_manifest_state_release(&state);
    return rc;
}

/* ---- the log */

/* A large value that cannot be read is damage to the log that names it: kv_salvage makes a deletion of it. */
static kv_status log_values(void *ctx, uint64_t seq, kv_slice batch, kv_slice record, struct kv_err *err)
{
    struct kv_repair *r = ctx;
    struct kv_batch_entry entry;
    struct kv_err why = {0};
    kv_status rc = KV_OK;
    (void)record;
    while (rc == KV_OK && seq >= r->manifest.state.log_floor && kv_batch_next(&batch, &entry) == KV_OK) {
        uint64_t segment;
        if (entry.kind == KV_KIND_POINTER)
            rc = kv_logged_verify(r->env, r->dir, &r->manifest, entry.value, &segment, &why);
    }
    return rc < 0 ? kv_fail(err, rc, 0, "commit %" PRIu64 ": %.300s", seq, why.text) : KV_OK;
}

/* Can the log be opened as the published manifest says, with all that it names? */
static kv_status log_opens(struct kv_repair *r, struct kv_err *why)
{
    struct kv_log *log = NULL;
    kv_manifest_close(&r->manifest);
    kv_status rc = kv_manifest_load(&r->manifest, r->dir, r->env->clock, &r->options->key, why);
    if (rc < 0)
        return rc;
    const struct kv_manifest_state *state = &r->manifest.state;
    struct kv_log_options options = {
        .dir = r->dir, .path = r->path, .clock = r->env->clock, .keys = r->manifest.keys};
    struct kv_log_known known = kv_manifest_log_known(state);
    struct kv_log_replay replay = {.ctx = r, .commit = log_values};
    memcpy(options.uuid, state->uuid, KV_UUID_LEN);
    rc = kv_log_open(&options, &known, &replay, &log, why);
    if (rc == KV_OK)
        rc = kv_log_close(log, NULL);
    return rc;
}

static void repair_close(struct kv_repair *r)
{
    kv_repair_release_items(r);
    kv_values_release(&r->values);
    kv_buf_release(&r->tables);
    kv_buf_release(&r->segments);
    kv_buf_release(&r->metas);
    kv_manifest_close(&r->manifest);
    if (r->lease)
        r->dir->ops->lease_release(r->dir, r->lease);
    kv_dir_close(r->aside);
    kv_dir_close(r->dir);
}

/* The lease has been given back, for kv_salvage takes its own. */
static kv_status repair_log(struct kv_repair *r)
{
    struct kv_salvage_report salvaged = {0};
    kv_status rc = kv_salvage(r->env, r->path, &r->options->key, &salvaged, r->err);
    if (rc < 0)
        return rc;
    r->report->commits_lost = salvaged.lost;
    r->report->values_lost += salvaged.values_lost;
    if (salvaged.values_lost)
        kv_repair_say(r, KV_CORRUPT, "log: %" PRIu64 " large values are lost: their keys are deleted",
                      salvaged.values_lost);
    kv_repair_say(r, salvaged.lost ? KV_CORRUPT : KV_OK,
                  "log: %" PRIu64 " commits kept, %" PRIu64 " lost (or in tables already)", salvaged.kept,
                  salvaged.lost);
    return KV_OK;
}

/* ---- all of it */

static void check_line(void *ctx, kv_status severity, const char *line)
{
    struct kv_repair *r = ctx;
    if (severity < 0)
        kv_repair_say(r, severity, "still: %s", line);
}

static kv_status repair_files(struct kv_repair *r, bool *salvage)
{
    struct kv_err why = {0};
    kv_status rc;
    KV_TRY(kv_vfs_dir_open(r->env->vfs, r->path, false, &r->dir, r->err));
    KV_TRY(r->dir->ops->lease(r->dir, false, &r->lease, r->err));
    KV_TRY(kv_target_refuse(r->dir, r->path, r->err));
    KV_TRY(repair_known(r));
    KV_TRY(repair_spaces(r));
    KV_TRY(kv_repair_segments(r));
    KV_TRY(kv_repair_tables(r));
    KV_TRY(repair_manifest(r));
    rc = log_opens(r, &why);
    *salvage = rc == KV_CORRUPT;
    if (*salvage) {
        kv_repair_say(r, rc, "log: %.300s", why.text);
        rc = KV_OK;
    } else if (rc < 0 && r->err) {
        *r->err = why;
    }
out:
    return rc;
}

kv_status kv_repair(struct kv_env *env, const char *path, const struct kv_repair_options *options,
                    struct kv_repair_report *report, struct kv_err *err)
{
    static const struct kv_repair_options plain;
    struct kv_repair_report unseen = {0};
    struct kv_repair r = {.env = env,
                          .path = path,
                          .options = options ? options : &plain,
                          .report = report ? report : &unseen,
                          .err = err};
    bool salvage = false;
    *r.report = (struct kv_repair_report){0};
    kv_status rc = repair_files(&r, &salvage);
    repair_close(&r);
    if (rc >= 0 && salvage)
        rc = repair_log(&r);
    if (rc == KV_NO_MEMORY)
        kv_fail(err, rc, 0, "%s: out of memory repairing it", path);
    return rc < 0 ? rc : kv_check_with_key(env, path, &r.options->key, check_line, &r, err);
}
