/*
 * Damage found when a database is opened, or by a merge: told, contained, never widened. One of three tables with neighbours
 * on both sides is damaged in every way a table can be, on every kind of level; then the database is written, merged and
 * loaded over, and at last the good file comes back.
 */
#include "kvcore/db/db.h"
#include "kvcore/sst/table_private.h"
#include "tests/support/file_kit.h"
#include "tests/support/kv_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { KEYS = 40 };
#define LONG                                                                                                 \
    "a value that is long enough to be written to the value log, where it lies beside the others of the "    \
    "flush that it came from"

static const uint8_t master[KV_MASTER_KEY_LEN] = {7, 1, 2, 3};

/* ---- lines of the log */

struct lines {
    char text[1 << 16];
    size_t len;
};

static void keep_line(void *ctx, enum kv_log_level level, const char *line, size_t len)
{
    struct lines *lines = ctx;
    (void)level;
    if (lines->len + len + 2 > sizeof lines->text)
        return;
    memcpy(lines->text + lines->len, line, len);
    lines->len += len;
    lines->text[lines->len++] = '\n';
    lines->text[lines->len] = 0;
}

static size_t lines_with(const struct lines *lines, const char *event, const char *name)
{
    size_t n = 0;
    for (const char *at = lines->text; *at; at = strchr(at, '\n') + 1) {
        const char *end = strchr(at, '\n');
        const char *e = memmem(at, (size_t)(end - at), event, strlen(event));
        n += e && memmem(at, (size_t)(end - at), name, strlen(name));
    }
    return n;
}

/* ---- a database of three tables: keys a.., m.., z.. */

struct world {
    struct kv_kit kit;
    struct lines *lines;
    char name[32];   /* of the table of m.., */
    char values[32]; /* and of the segment its values lie in */
    struct kv_buf good;
    uint64_t footer, top, properties; /* where they lie in it */
};

static const char *key_of(char letter, int i, char out[8])
{
    snprintf(out, 8, "%c%02d", letter, i);
    return out;
}

static const char *value_of(char letter, int i, char out[200])
{
    snprintf(out, 200, "%c%d%s", letter, i, i % 2 ? LONG : "");
    return out;
}

static void flush_letter(struct kv_kit *kit, char letter)
{
    char key[8], value[200];
    for (int i = 0; i < KEYS; i++)
        kv_kit_put(kit, 0, key_of(letter, i, key), value_of(letter, i, value));
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK, "%s", kit->err.text);
}

static const struct kv_tree_item *item_at(struct kv_kit *kit, const char *key)
{
    const struct kv_tree *tree = &kit->db->view->version->trees[0];
    for (size_t i = 0; i < tree->n_items; i++)
        if (kv_slice_compare(tree->items[i].properties->smallest, kv_slice_str(key)) <= 0 &&
            kv_slice_compare(tree->items[i].properties->largest, kv_slice_str(key)) >= 0)
            return &tree->items[i];
    return NULL;
}

static void move_to(struct kv_kit *kit, const char *key, uint32_t level)
{
    struct kv_tree_move move = {item_at(kit, key)->number, level};
    struct kv_edit edit = {0};
    struct kv_change change = {.edit = &edit, .moves = &move, .n_moves = 1};
    kv_edit_move_table(&edit, move.number, level);
    cr_assert_eq(kv_db_change(kit->db, &change, &kit->err), KV_OK, "%s", kit->err.text);
    kv_edit_release(&edit);
}

static void world_make_with(struct world *w, enum kv_style style, uint32_t level, bool encrypted,
                            bool separate)
{
    *w = (struct world){.lines = calloc(1, sizeof(struct lines))};
    kv_kit_init(&w->kit, NULL);
    struct kv_kit *kit = &w->kit;
    kit->log = (struct kv_logger){.sink = keep_line, .ctx = w->lines, .level = KV_LOG_WARN};
    kit->spaces[0].style = style;
    kit->spaces[0].value_separate_bytes = separate ? 64 : 0;
    kit->spaces[0].compression = KV_COMPRESSION_NONE;
    kit->spaces[0].level0_runs = style == KV_STYLE_LEVELLED ? 4 : 0;
    if (encrypted)
        kit->options.key.master_key = master;
    kv_kit_must_open(kit);
    static const char letters[] = "amz";
    for (int i = 0; i < 3; i++) {
        char key[8];
        flush_letter(kit, letters[i]);
        if (level)
            move_to(kit, key_of(letters[i], 5, key), level);
    }
    const struct kv_tree_item *item = item_at(kit, "m05");
    kv_file_name(w->name, item->number, KV_NAME_TABLE);
    kv_slice refs = item->properties->value_refs;
    uint64_t segment = 0;
    cr_assert_eq(kv_take_varint(&refs, &segment) == KV_OK, separate);
    kv_file_name(w->values, segment, KV_NAME_SEGMENT);
    w->footer = item->table->footer_offset;
    w->top = item->table->top_handle.offset;
    w->properties = item->table->properties_handle.offset;
    cr_assert_eq(kv_kit_close(kit), KV_OK);
    file_kit_read(kit->vfs, "db", w->name, &w->good);
}

static void world_make(struct world *w, enum kv_style style, uint32_t level, bool encrypted)
{
    world_make_with(w, style, level, encrypted, true);
}

static void world_free(struct world *w)
{
    kv_kit_release(&w->kit);
    kv_buf_release(&w->good);
    free(w->lines);
}

enum kind { HEADER, UID, FOOTER, INDEX, PROPERTIES, CUT, SHORT, EMPTY, MISSING, KINDS };

static void world_damage(struct world *w, enum kind kind)
{
    struct kv_buf bad = {0};
    cr_assert_eq(kv_buf_append(&bad, kv_buf_slice(&w->good)), KV_OK);
    uint64_t at = kind == HEADER       ? 9
                  : kind == UID        ? KV_FILE_HEADER_AT_UID
                  : kind == FOOTER     ? w->footer + 3
                  : kind == INDEX      ? w->top + 3
                  : kind == PROPERTIES ? w->properties + 3
                                       : 0;
    if (at)
        bad.data[at] ^= 0x20;
    size_t len = kind == CUT ? bad.len - 1 : kind == SHORT ? 50 : kind == EMPTY ? 0 : bad.len;
    if (kind == MISSING)
        file_kit_remove(w->kit.vfs, "db", w->name);
    else
        file_kit_write(w->kit.vfs, "db", w->name, kv_slice_of(bad.data, len));
    kv_buf_release(&bad);
}

/* ---- what is answered */

static kv_status get(struct kv_kit *kit, const char *key)
{
    struct kv_pinned found;
    kit->err = (struct kv_err){0};
    kv_status rc = kv_get(kit->db, NULL, 0, kv_slice_str(key), &found, &kit->err);
    kv_pinned_release(&found);
    return rc;
}

static void expect_letter(struct kv_kit *kit, char letter)
{
    char key[8], value[200];
    for (int i = 0; i < KEYS; i++)
        cr_assert(kv_kit_is(kit, NULL, 0, key_of(letter, i, key), value_of(letter, i, value)), "%s: %s", key,
                  kit->err.text);
}

/* Keys shown, and how the walk ended. */
static kv_status walk(struct kv_kit *kit, const char *lower, const char *upper, bool backward, int *shown)
{
    struct kv_iter *it = NULL;
    *shown = 0;
    cr_assert_eq(kv_iter_open(kit->db, NULL, 0, kv_slice_str(lower), kv_slice_str(upper), &it), KV_OK);
    kv_status rc = backward ? kv_iter_seek_before(it, (kv_slice){0}) : kv_iter_seek(it, (kv_slice){0});
    for (; rc == KV_OK; rc = backward ? kv_iter_prev(it) : kv_iter_next(it))
        *shown += 1;
    kv_iter_close(it);
    return rc;
}

static void expect_walk(struct kv_kit *kit, const char *lower, const char *upper, bool backward, kv_status rc,
                        int n)
{
    int shown;
    kv_status got = walk(kit, lower, upper, backward, &shown);
    cr_assert(got == rc && shown == n, "[%s, %s)%s: %s after %d, not %s after %d", lower, upper,
              backward ? " backward" : "", kv_status_name(got), shown, kv_status_name(rc), n);
}

static void expect_named(struct kv_kit *kit, kv_status rc, const char *name)
{
    cr_assert_eq(rc, KV_CORRUPT, "%s: %s", kv_status_name(rc), kit->err.text);
    cr_assert(strstr(kit->err.text, name), "%s: %s", name, kit->err.text);
}

static kv_status send_nothing(void *ctx, const struct kv_stream_batch *batch, struct kv_err *err)
{
    (void)err;
    *(size_t *)ctx += batch->n;
    return KV_OK;
}

/* Nothing was written since: the damaged range refuses, beside it all is as always. */
static void expect_contained(struct world *w)
{
    struct kv_kit *kit = &w->kit;
    uint64_t n;
    size_t sent = 0;
    struct kv_stream_options stream = {.threads = 1, .send = send_nothing, .ctx = &sent};
    cr_assert_eq(kv_kit_metric(kit, "kv_damaged_files"), 1);
    expect_letter(kit, 'a');
    expect_letter(kit, 'z');
    expect_named(kit, get(kit, "m00"), w->name);
    expect_named(kit, get(kit, "m005"), w->name);
    expect_named(kit, get(kit, "m39"), w->name);
    cr_assert_eq(get(kit, "lzz"), KV_NOT_FOUND);
    cr_assert_eq(get(kit, "m391"), KV_NOT_FOUND);
    cr_assert_eq(get(kit, "n"), KV_NOT_FOUND);
    expect_walk(kit, "a", "m00", false, KV_END, KEYS);
    expect_walk(kit, "a", "m00", true, KV_END, KEYS);
    expect_walk(kit, "m391", "", false, KV_END, KEYS);
    expect_walk(kit, "m391", "", true, KV_END, KEYS);
    expect_walk(kit, "", "", false, KV_CORRUPT, KEYS);
    expect_walk(kit, "", "", true, KV_CORRUPT, KEYS);
    expect_walk(kit, "m05", "", false, KV_CORRUPT, 0);
    expect_walk(kit, "", "m05", true, KV_CORRUPT, 0);
    cr_assert_eq(kv_count(kit->db, NULL, 0, KV_STR("a"), KV_STR("b"), &n, &kit->err), KV_OK);
    cr_assert_eq(n, KEYS);
    expect_named(kit, kv_count(kit->db, NULL, 0, (kv_slice){0}, (kv_slice){0}, &n, &kit->err), w->name);
    expect_named(kit, kv_stream(kit->db, &stream, NULL, &kit->err), w->name);
    stream.lower = KV_STR("n");
    sent = 0;
    cr_assert_eq(kv_stream(kit->db, &stream, NULL, &kit->err), KV_OK);
    cr_assert_eq(sent, KEYS);
}

static kv_status check(struct kv_kit *kit, void (*each)(void *, kv_status, const char *), void *ctx)
{
    struct kv_env_options options = {.vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE};
    struct kv_env *env = NULL;
    cr_assert_eq(kv_env_open(&options, &env, &kit->err), KV_OK);
    kv_status rc = kv_check_with_key(env, kit->path, &kit->options.key, each, ctx, &kit->err);
    kv_env_close(env);
    return rc;
}

/* ---- work above the damage, and what is right afterwards */

/* Each letter's keys 10 to 19 are written again and 20 to 24 deleted, flush after flush, and merged as far as that goes. */
static void write_over(struct world *w)
{
    struct kv_kit *kit = &w->kit;
    static const char letters[] = "amz";
    char key[8];
    for (int round = 0; round < 12; round++) {
        for (int l = 0; l < 3; l++)
            for (int i = 10; i < 25; i++)
                if (i < 20)
                    kv_kit_put(kit, 0, key_of(letters[l], i, key), "new");
                else
                    kv_kit_delete(kit, 0, key_of(letters[l], i, key));
        cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK, "%s", kit->err.text);
        kv_kit_work_all(kit);
    }
    expect_named(kit, kv_merge_range(kit->db, 0, (kv_slice){0}, (kv_slice){0}, &kit->err), w->name);
    expect_named(kit, kv_merge_range(kit->db, 0, KV_STR("m39"), KV_STR("n"), &kit->err), w->name);
    cr_assert_eq(kv_merge_range(kit->db, 0, KV_STR("a"), KV_STR("b"), &kit->err), KV_OK, "%s", kit->err.text);
    kv_kit_work_all(kit);
    struct kv_space_stats stats = kv_kit_stats(kit, 0);
    cr_assert_leq(stats.tables, 5, "%d tables: merges went on beside the damage", (int)stats.tables);
    static const char *const keys[] = {"m30", "m31"};
    kv_kit_bulk(kit, 0, keys, 2, "loaded", 0);
    kv_kit_work_all(kit);
}

static void expect_written(struct kv_kit *kit, char letter, bool old)
{
    char key[8], value[200];
    for (int i = 0; i < KEYS; i++) {
        bool loaded = letter == 'm' && (i == 30 || i == 31);
        key_of(letter, i, key);
        if (i >= 10 && i < 25)
            cr_assert(kv_kit_is(kit, NULL, 0, key, i < 20 ? "new" : NULL), "%s", kit->err.text);
        else if (loaded)
            cr_assert(kv_kit_is(kit, NULL, 0, key, "loaded"), "%s", kit->err.text);
        else if (old)
            cr_assert(kv_kit_is(kit, NULL, 0, key, value_of(letter, i, value)), "%s", kit->err.text);
        else
            cr_assert_eq(get(kit, key), KV_CORRUPT, "%s", key);
    }
}

static void damaged_and_healed(enum kv_style style, uint32_t level, bool encrypted, enum kind kind)
{
    struct world w;
    world_make(&w, style, level, encrypted);
    struct kv_kit *kit = &w.kit;
    world_damage(&w, kind);
    kit->options.read_only = true;
    kv_kit_must_open(kit);
    expect_contained(&w);
    cr_assert_eq(kv_kit_close(kit), KV_OK);
    kit->options.read_only = false;
    for (int round = 0; round < 2; round++) {
        memset(w.lines, 0, sizeof *w.lines);
        kv_kit_must_open(kit);
        cr_assert_eq(lines_with(w.lines, "table_put_aside", w.name), 1, "%s", w.lines->text);
        expect_contained(&w);
        if (round == 0)
            cr_assert_eq(kv_kit_close(kit), KV_OK);
    }
    write_over(&w);
    expect_written(kit, 'a', true);
    expect_written(kit, 'm', false);
    expect_written(kit, 'z', true);
    cr_assert_eq(kv_kit_close(kit), KV_OK);
    expect_named(kit, check(kit, NULL, NULL), w.name);
    file_kit_write(kit->vfs, "db", w.name, kv_buf_slice(&w.good));
    for (int round = 0; round < 2; round++) {
        cr_assert_eq(check(kit, NULL, NULL), KV_OK, "%s", kit->err.text);
        kv_kit_must_open(kit);
        cr_assert_eq(kv_kit_metric(kit, "kv_damaged_files"), 0);
        for (const char *letter = "amz"; *letter; letter++)
            expect_written(kit, *letter, true);
        cr_assert_eq(kv_merge_range(kit->db, 0, (kv_slice){0}, (kv_slice){0}, &kit->err), KV_OK, "%s",
                     kit->err.text);
        cr_assert_eq(kv_kit_close(kit), KV_OK);
    }
    world_free(&w);
}

Test(damage, a_table_damaged_in_any_way_is_contained_and_heals, .timeout = 120)
{
    for (enum kind kind = 0; kind < KINDS; kind++)
        damaged_and_healed(KV_STYLE_LEVELLED, 0, false, kind);
}

Test(damage, a_table_of_any_level_is_contained_and_heals, .timeout = 120)
{
    for (uint32_t level = 1; level < KV_LEVELS_MAX; level++)
        damaged_and_healed(KV_STYLE_LEVELLED, level, level % 2, level % 2 ? FOOTER : MISSING);
}

Test(damage, a_table_of_a_space_of_runs_is_contained_and_heals, .timeout = 120)
{
    for (enum kind kind = 0; kind < KINDS; kind++)
        damaged_and_healed(KV_STYLE_RUNS, 0, kind % 2, kind);
}

/* ---- the ways out */

Test(damage, a_range_deletion_over_all_of_it_is_a_way_out)
{
    for (int way = 0; way < 4; way++) {
        struct world w;
        uint64_t bytes = 0;
        world_make(&w, KV_STYLE_LEVELLED, way % 2 ? 6 : 0, false);
        struct kv_kit *kit = &w.kit;
        world_damage(&w, way % 2 ? MISSING : FOOTER);
        kv_kit_must_open(kit);
        struct kv_batch *batch = NULL;
        cr_assert_eq(kv_batch_new(&batch), KV_OK);
        cr_assert_eq(kv_batch_delete_range(batch, 0, KV_STR("m"), KV_STR("n")), KV_OK);
        kv_status rc = way == 0   ? kv_drop_prefix(kit->db, 0, KV_STR("m"), &kit->err)
                       : way == 1 ? kv_commit(kit->db, batch, NULL, NULL, &kit->err)
                       : way == 2 ? kv_drop_tables(kit->db, 0, KV_STR("m"), KV_STR("n"), &bytes, &kit->err)
                                  : kv_drop_all(kit->db, 0, &kit->err);
        cr_assert_eq(rc, KV_OK, "%s", kit->err.text);
        kv_batch_free(batch);
        cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
        kv_kit_work_all(kit);
        cr_assert_eq(kv_kit_metric(kit, "kv_damaged_files"), 0);
        cr_assert_eq(get(kit, "m05"), KV_NOT_FOUND);
        expect_walk(kit, "", "", false, KV_END, way == 3 ? 0 : 2 * KEYS);
        cr_assert(!file_kit_has(kit->vfs, "db", w.name), "its file has gone");
        cr_assert(!file_kit_has(kit->vfs, "db", w.values), "and its values");
        cr_assert_eq(kv_kit_close(kit), KV_OK);
        cr_assert_eq(check(kit, NULL, NULL), KV_OK, "%s", kit->err.text);
        world_free(&w);
    }
}

/* The segment that only the damaged table points into stays, also when every other value has left it. */
Test(damage, no_value_is_lost_while_nobody_knows_what_a_table_points_at)
{
    struct world w;
    char key[8];
    world_make(&w, KV_STYLE_LEVELLED, 0, false);
    struct kv_kit *kit = &w.kit;
    world_damage(&w, INDEX);
    kv_kit_must_open(kit);
    size_t segments = kv_kit_files(kit, ".vlg");
    for (int i = 0; i < KEYS; i++) {
        kv_kit_delete(kit, 0, key_of('a', i, key));
        kv_kit_delete(kit, 0, key_of('z', i, key));
    }
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
    kv_kit_work_all(kit);
    expect_named(kit, kv_merge_range(kit->db, 0, (kv_slice){0}, (kv_slice){0}, &kit->err), w.name);
    cr_assert_eq(kv_kit_files(kit, ".vlg"), segments);
    cr_assert_eq(kv_kit_close(kit), KV_OK);
    file_kit_write(kit->vfs, "db", w.name, kv_buf_slice(&w.good));
    kv_kit_must_open(kit);
    expect_letter(kit, 'm');
    kv_kit_put(kit, 0, "x", "any change lets go of what nobody needs");
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
    cr_assert_eq(kv_kit_files(kit, ".vlg"), 1, "%d", (int)kv_kit_files(kit, ".vlg"));
    expect_letter(kit, 'm');
    world_free(&w);
}

/* ---- segments of the value log */

Test(damage, a_segment_damaged_in_any_way_takes_its_values_alone_and_heals)
{
    for (enum kind kind = 0; kind < KINDS; kind++) {
        struct world w;
        struct kv_buf good = {0};
        char key[8], value[200];
        world_make(&w, KV_STYLE_LEVELLED, kind % 2 ? 6 : 0, kind % 2);
        struct kv_kit *kit = &w.kit;
        file_kit_read(kit->vfs, "db", w.values, &good);
        if (kind == MISSING)
            file_kit_remove(kit->vfs, "db", w.values);
        else if (kind == EMPTY || kind == SHORT || kind == CUT)
            file_kit_write(kit->vfs, "db", w.values,
                           kv_slice_of(good.data, kind == EMPTY   ? 0
                                                  : kind == SHORT ? 50
                                                                  : good.len - 1));
        else {
            good.data[kind == UID ? KV_FILE_HEADER_AT_UID : 9 + kind] ^= 1;
            file_kit_write(kit->vfs, "db", w.values, kv_buf_slice(&good));
            good.data[kind == UID ? KV_FILE_HEADER_AT_UID : 9 + kind] ^= 1;
        }
        kv_kit_must_open(kit);
        cr_assert_eq(kv_kit_metric(kit, "kv_damaged_files"), 1);
        cr_assert_eq(lines_with(w.lines, "segment_put_aside", w.values), 1, "%s", w.lines->text);
        for (int round = 0; round < 2; round++) {
            expect_letter(kit, 'a');
            expect_letter(kit, 'z');
            for (int i = 0; i < KEYS; i++)
                if (i % 2)
                    expect_named(kit, get(kit, key_of('m', i, key)), w.values);
                else
                    cr_assert(kv_kit_is(kit, NULL, 0, key_of('m', i, key), value_of('m', i, value)));
            for (int n = 0; n < 6; n++) {
                kv_kit_put(kit, 0, "m000", "in between");
                cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
            }
            kv_kit_work_all(kit);
            cr_assert_eq(kv_merge_range(kit->db, 0, (kv_slice){0}, (kv_slice){0}, &kit->err), KV_OK,
                         "pointers are written on: %s", kit->err.text);
        }
        cr_assert_eq(kv_kit_close(kit), KV_OK);
        file_kit_write(kit->vfs, "db", w.values, kv_buf_slice(&good));
        cr_assert_eq(check(kit, NULL, NULL), KV_OK, "%s", kit->err.text);
        kv_kit_must_open(kit);
        expect_letter(kit, 'm');
        kv_buf_release(&good);
        world_free(&w);
    }
}

/* ---- damage that a merge meets */

/* A block of data, in a table that opens. */
static void damage_data(struct world *w)
{
    struct kv_buf bad = {0};
    cr_assert_eq(kv_buf_append(&bad, kv_buf_slice(&w->good)), KV_OK);
    bad.data[KV_FILE_HEADER_LEN + 20] ^= 4;
    file_kit_write(w->kit.vfs, "db", w->name, kv_buf_slice(&bad));
    kv_buf_release(&bad);
}

Test(damage, a_merge_that_meets_it_puts_the_table_aside_and_goes_on)
{
    for (int style = 0; style < 2; style++) {
        struct world w;
        world_make(&w, style ? KV_STYLE_LEVELLED : KV_STYLE_RUNS, 0, false);
        struct kv_kit *kit = &w.kit;
        damage_data(&w);
        kv_kit_must_open(kit);
        cr_assert_eq(kv_kit_metric(kit, "kv_damaged_files"), 0, "nobody has looked at it yet");
        write_over(&w);
        cr_assert_eq(kv_kit_metric(kit, "kv_damaged_files"), 1);
        cr_assert_eq(lines_with(w.lines, "table_put_aside", w.name), 1, "%s", w.lines->text);
        expect_written(kit, 'a', true);
        expect_written(kit, 'z', true);
        cr_assert_eq(kv_kit_close(kit), KV_OK);
        file_kit_write(kit->vfs, "db", w.name, kv_buf_slice(&w.good));
        cr_assert_eq(check(kit, NULL, NULL), KV_OK, "%s", kit->err.text);
        kv_kit_must_open(kit);
        for (const char *letter = "amz"; *letter; letter++)
            expect_written(kit, *letter, true);
        cr_assert_eq(kv_merge_range(kit->db, 0, (kv_slice){0}, (kv_slice){0}, &kit->err), KV_OK, "%s",
                     kit->err.text);
        world_free(&w);
    }
}

/* ---- hooks */

static size_t group_all(void *ctx, kv_slice key)
{
    (void)ctx;
    return key.len > 1 ? 1 : key.len;
}

static kv_status hook_begin(void *ctx, kv_slice lower, kv_slice upper, void **merge)
{
    (void)lower, (void)upper;
    *merge = ctx;
    return KV_OK;
}

static kv_status hook_group(void *merge, const struct kv_hook_entry *entries, size_t n,
                            struct kv_hook_sink *sink)
{
    kv_status rc = KV_OK;
    *(int *)merge += 1;
    for (size_t i = 0; i < n && rc == KV_OK; i++)
        rc = sink->add(sink, entries[i].key, entries[i].value);
    return rc;
}

static void hook_end(void *merge, bool installed)
{
    (void)merge, (void)installed;
}

static size_t cut_letter(kv_slice key)
{
    return key.len ? 1 : 0;
}

Test(damage, a_hook_sees_no_group_of_which_a_part_lies_aside)
{
    int groups = 0;
    struct kv_hook hook = {&groups, group_all, hook_begin, hook_group, hook_end};
    struct world w;
    struct kv_err err;
    world_make_with(&w, KV_STYLE_RUNS, 0, false, false);
    struct kv_kit *kit = &w.kit;
    world_damage(&w, FOOTER);
    kit->spaces[0].hook = &hook;
    kit->spaces[0].cut_len = cut_letter;
    kv_kit_must_open(kit);
    for (int n = 0; n < 12; n++) {
        kv_kit_put(kit, 0, "m001", "new");
        cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
        kv_kit_work_all(kit);
    }
    cr_assert_eq(groups, 0, "past eight runs, but not whole");
    expect_named(kit, kv_merge_range(kit->db, 0, (kv_slice){0}, (kv_slice){0}, &kit->err), w.name);
    cr_assert_eq(groups, 2, "a and z: %d", groups);
    cr_assert(kv_kit_is(kit, NULL, 0, "m001", "new"));
    cr_assert_eq(kv_merge_range(kit->db, 0, KV_STR("a"), KV_STR("b"), &err), KV_OK, "%s", err.text);
    cr_assert_eq(kv_kit_close(kit), KV_OK);
    file_kit_write(kit->vfs, "db", w.name, kv_buf_slice(&w.good));
    kv_kit_must_open(kit);
    kv_kit_work_all(kit);
    cr_assert_eq(kv_merge_range(kit->db, 0, KV_STR("m"), KV_STR("n"), &err), KV_OK, "%s", err.text);
    expect_letter(kit, 'm');
    world_free(&w);
}
