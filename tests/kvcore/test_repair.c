/* kv_repair: from whatever is left, a database that opens, that kv_check finds sound, and that has all that can be read. */
#include "kvcore/base/prng.h"
#include "kvcore/db/db.h"
#include "kvcore/sst/table_private.h"
#include "tests/support/file_kit.h"
#include "tests/support/kv_kit.h"
#include "tests/support/sweep.h"
#include "tests/support/vfs_crash.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#define LONG                                                                                                 \
    "a value that is long enough to be written to the value log, where it lies beside the others of the "    \
    "flush that it came from"

static const uint8_t master[KV_MASTER_KEY_LEN] = {7, 1, 2, 3};

/* ---- a database, and what it holds */

static void kit_make(struct kv_kit *kit, struct kv_vfs *vfs, bool encrypted)
{
    kv_kit_init(kit, vfs);
    kit->spaces[0].style = KV_STYLE_LEVELLED;
    kit->spaces[0].value_separate_bytes = 64;
    kit->spaces[0].block_bytes = 512;
    kit->spaces[1].compression = KV_COMPRESSION_NONE;
    if (encrypted)
        kit->options.key.master_key = master;
}

/* Everything, both spaces. Appended with its NUL. */
static void contents(struct kv_kit *kit, struct kv_buf *out)
{
    kv_buf_clear(out);
    for (uint32_t space = 0; space < 2; space++) {
        struct kv_iter *it = NULL;
        cr_assert_eq(kv_iter_open(kit->db, NULL, space, (kv_slice){0}, (kv_slice){0}, &it), KV_OK);
        kv_status rc = kv_iter_seek(it, (kv_slice){0});
        for (; rc == KV_OK; rc = kv_iter_next(it))
            cr_assert_eq(kv_buf_printf(out, "%u %.*s=%.*s\n", space, KV_ARG(it->key), KV_ARG(it->value)),
                         KV_OK);
        cr_assert_eq(rc, KV_END, "%s", kv_status_name(rc));
        kv_iter_close(it);
    }
    cr_assert_eq(kv_buf_append_byte(out, 0), KV_OK);
}

/* Of all kinds: levels and runs, long values, deletions, a bulk load, and a log behind them. */
static void fill(struct kv_kit *kit)
{
    char key[16], value[200];
    kv_kit_must_open(kit);
    for (int round = 0; round < 3; round++) {
        for (int i = round; i < 60; i += round + 1) {
            snprintf(key, sizeof key, "k%03d", i);
            snprintf(value, sizeof value, "%d.%d%s", round, i, i % 3 ? "" : LONG);
            kv_kit_put(kit, 0, key, value);
            kv_kit_put(kit, 1, key, value);
        }
        kv_kit_delete(kit, 0, "k005");
        kv_kit_delete(kit, 1, "k007");
        cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
        if (round == 1)
            cr_assert_eq(kv_merge_range(kit->db, 0, (kv_slice){0}, (kv_slice){0}, &kit->err), KV_OK);
    }
    static const char *const loaded[] = {"k010", "k011", "x1"};
    kv_kit_bulk(kit, 1, loaded, 3, "loaded", 0);
    kv_kit_put(kit, 1, "k011", "after the load");
    kv_kit_put(kit, 0, "in the log", LONG);
    kv_kit_delete(kit, 0, "k020");
}

struct found {
    char text[1 << 14];
    size_t len;
};

static void keep_line(void *ctx, kv_status severity, const char *line)
{
    struct found *found = ctx;
    int n = snprintf(found->text + found->len, sizeof found->text - found->len, "%s %s\n",
                     severity < 0 ? "!" : " ", line);
    found->len += (size_t)n < sizeof found->text - found->len ? (size_t)n : 0;
}

static kv_status repair(struct kv_kit *kit, struct kv_repair_report *report, struct found *found)
{
    struct kv_env_options how = {.vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE};
    struct kv_repair_options options = {.spaces = kit->spaces,
                                        .n_spaces = kit->options.n_spaces,
                                        .key = kit->options.key,
                                        .each = keep_line,
                                        .ctx = found};
    struct kv_env *env = NULL;
    *found = (struct found){{0}, 0};
    cr_assert_eq(kv_env_open(&how, &env, &kit->err), KV_OK);
    kv_status rc = kv_repair(env, kit->path, &options, report, &kit->err);
    kv_env_close(env);
    return rc;
}

static void must_repair(struct kv_kit *kit, struct kv_repair_report *report, struct found *found)
{
    kv_status rc = repair(kit, report, found);
    cr_assert_eq(rc, KV_OK, "%s: %s\n%s", kv_status_name(rc), kit->err.text, found->text);
}

/* And once more: nothing is left to do. */
static void expect_settled(struct kv_kit *kit)
{
    struct kv_repair_report report;
    struct found found;
    struct kv_buf before = {0}, after = {0};
    file_kit_list(kit->vfs, kit->path, "", &before);
    must_repair(kit, &report, &found);
    cr_assert_eq(report.findings, 0, "%s", found.text);
    file_kit_list(kit->vfs, kit->path, "", &after);
    cr_assert(kv_slice_equal(kv_buf_slice(&before), kv_buf_slice(&after)), "no file comes or goes");
    kv_buf_release(&before);
    kv_buf_release(&after);
}

static void expect_contents(struct kv_kit *kit, const struct kv_buf *want, const char *what)
{
    struct kv_buf got = {0};
    kv_kit_must_open(kit);
    for (int round = 0; round < 2; round++) {
        contents(kit, &got);
        cr_assert_str_eq((char *)got.data, (char *)want->data, "%s", what);
        if (round == 0) {
            cr_assert_eq(kv_merge_range(kit->db, 0, (kv_slice){0}, (kv_slice){0}, &kit->err), KV_OK, "%s",
                         kit->err.text);
            cr_assert_eq(kv_merge_range(kit->db, 1, (kv_slice){0}, (kv_slice){0}, &kit->err), KV_OK);
        }
    }
    cr_assert_eq(kv_kit_close(kit), KV_OK);
    kv_buf_release(&got);
}

static void first_name(struct kv_kit *kit, const char *suffix, char out[32])
{
    struct kv_buf names = {0};
    cr_assert_geq(file_kit_list(kit->vfs, kit->path, suffix, &names), 1);
    snprintf(out, 32, "%s", (char *)names.data);
    kv_buf_release(&names);
}

/* ---- nothing to repair */

Test(repair, a_sound_database_stays_as_it_is)
{
    struct kv_kit kit;
    struct kv_repair_report report;
    struct found found;
    struct kv_buf want = {0};
    kit_make(&kit, NULL, false);
    fill(&kit);
    contents(&kit, &want);
    cr_assert_eq(repair(&kit, &report, &found), KV_BUSY);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    expect_settled(&kit);
    must_repair(&kit, &report, &found);
    cr_assert(!report.manifest_rebuilt && report.tables_kept > 3 && !report.tables_rewritten);
    expect_contents(&kit, &want, "sound");
    kv_buf_release(&want);
    kv_kit_release(&kit);
}

Test(repair, says_what_is_no_database)
{
    struct kv_kit kit;
    struct kv_repair_report report;
    struct found found;
    struct kv_dir *dir = NULL;
    kit_make(&kit, NULL, false);
    cr_assert_eq(repair(&kit, &report, &found), KV_MISSING);
    cr_assert_eq(kv_vfs_dir_open(kit.vfs, "db", true, &dir, NULL), KV_OK);
    kv_dir_close(dir);
    cr_assert_eq(repair(&kit, &report, &found), KV_MISSING, "%s", kit.err.text);
    kv_kit_release(&kit);
}

/* ---- the manifest */

Test(repair, a_lost_manifest_is_made_again_from_the_files)
{
    for (int crashed = 0; crashed < 2; crashed++) {
        struct kv_kit kit;
        struct kv_repair_report report;
        struct found found;
        struct kv_buf want = {0};
        char name[32];
        kit_make(&kit, NULL, false);
        fill(&kit);
        contents(&kit, &want);
        struct kv_vfs *clone = crashed ? kv_vfs_mem_crash_clone(kit.own) : NULL;
        cr_assert_eq(kv_kit_close(&kit), KV_OK);
        if (crashed)
            kit.vfs = clone;
        first_name(&kit, ".man", name);
        file_kit_remove(kit.vfs, "db", name);
        cr_assert_eq(kv_kit_open(&kit), KV_CORRUPT);
        size_t n = kit.options.n_spaces;
        kit.options.n_spaces = 0;
        cr_assert_eq(repair(&kit, &report, &found), KV_INVALID);
        cr_assert(strstr(kit.err.text, "tables name: a b"), "%s", kit.err.text);
        kit.options.n_spaces = n;
        must_repair(&kit, &report, &found);
        cr_assert(report.manifest_rebuilt && report.findings == 1, "%s", found.text);
        expect_settled(&kit);
        expect_contents(&kit, &want, crashed ? "crashed" : "closed");
        kv_buf_release(&want);
        kv_kit_release(&kit);
        kv_vfs_mem_free(clone);
    }
}

/* One flipped bit, anywhere in it: nothing at all is lost, but what the last edits said is not always known. */
Test(repair, a_manifest_damaged_anywhere_costs_nothing_that_is_in_files, .timeout = 120)
{
    for (int encrypted = 0; encrypted < 2; encrypted++) {
        struct kv_kit kit;
        struct kv_repair_report report;
        struct found found;
        struct kv_buf want = {0}, good = {0};
        char name[32];
        size_t repaired = 0;
        kit_make(&kit, NULL, encrypted);
        fill(&kit);
        contents(&kit, &want);
        cr_assert_eq(kv_kit_close(&kit), KV_OK);
        first_name(&kit, ".man", name);
        file_kit_read(kit.vfs, "db", name, &good);
        /* in an encrypted one the snapshot has the keys: only what follows it can be done without */
        for (size_t at = encrypted ? 700 : 0; at < good.len; at += sweep_stride(encrypted ? 97 : 41)) {
            kit.vfs = kv_vfs_mem_crash_clone(kit.own);
            good.data[at] ^= 0x10;
            file_kit_write(kit.vfs, "db", name, kv_buf_slice(&good));
            good.data[at] ^= 0x10;
            must_repair(&kit, &report, &found);
            repaired += report.manifest_rebuilt;
            expect_settled(&kit);
            expect_contents(&kit, &want, found.text);
            kv_vfs_mem_free(kit.vfs);
        }
        cr_assert_gt(repaired, 3);
        kit.vfs = kit.own;
        kv_buf_release(&want);
        kv_buf_release(&good);
        kv_kit_release(&kit);
    }
}

/* Behind any frame: what is left looks whole, and is not when files were begun under edits that it lacks. Nothing is lost then. */
Test(repair, a_manifest_that_lost_its_end_is_made_again, .timeout = 120)
{
    struct kv_kit kit;
    struct kv_repair_report report;
    struct found found;
    struct kv_buf want = {0}, good = {0};
    char name[32];
    size_t rebuilt = 0;
    kit_make(&kit, NULL, false);
    kit.options.log_file_bytes = 1024;
    fill(&kit);
    contents(&kit, &want);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    first_name(&kit, ".man", name);
    file_kit_read(kit.vfs, "db", name, &good);
    for (size_t at = KV_FILE_HEADER_LEN; at < good.len;) {
        at += 20 + kv_get_fixed32(good.data + at + 8); /* magic crc len number, and the fields */
        kit.vfs = kv_vfs_mem_crash_clone(kit.own);
        file_kit_write(kit.vfs, "db", name, kv_slice_of(good.data, at));
        must_repair(&kit, &report, &found);
        expect_settled(&kit);
        rebuilt += report.manifest_rebuilt;
        if (report.manifest_rebuilt || at == good.len)
            expect_contents(&kit, &want, found.text);
        kv_vfs_mem_free(kit.vfs);
    }
    cr_assert_gt(rebuilt, 3);
    kit.vfs = kit.own;
    kv_buf_release(&want);
    kv_buf_release(&good);
    kv_kit_release(&kit);
}

Test(repair, keys_that_are_lost_with_the_manifest_are_said_to_be)
{
    struct kv_kit kit;
    struct kv_repair_report report;
    struct found found;
    struct kv_buf before = {0}, after = {0};
    char name[32];
    kit_make(&kit, NULL, true);
    fill(&kit);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    first_name(&kit, ".man", name);
    kit.options.key.master_key = NULL;
    cr_assert_eq(repair(&kit, &report, &found), KV_WRONG_KEY);
    kit.options.key.master_key = master;
    file_kit_remove(kit.vfs, "db", name);
    file_kit_list(kit.vfs, "db", "", &before);
    cr_assert_eq(repair(&kit, &report, &found), KV_CORRUPT);
    cr_assert(strstr(kit.err.text, "data keys are lost"), "%s", kit.err.text);
    file_kit_list(kit.vfs, "db", "", &after);
    cr_assert(kv_slice_equal(kv_buf_slice(&before), kv_buf_slice(&after)));
    kv_buf_release(&before);
    kv_buf_release(&after);
    kv_kit_release(&kit);
}

/* ---- tables */

struct place {
    uint64_t footer, top, properties;
    uint32_t levels;
    uint64_t entries;
};

static struct place place_of(struct kv_kit *kit, const char *name)
{
    const struct kv_version *version = kit->db->view->version;
    struct place place = {0};
    for (uint32_t s = 0; s < version->n_spaces; s++)
        for (size_t i = 0; i < version->trees[s].n_items; i++) {
            char other[32];
            const struct kv_tree_item *item = &version->trees[s].items[i];
            kv_file_name(other, item->number, KV_NAME_TABLE);
            if (strcmp(name, other) == 0)
                place = (struct place){item->table->footer_offset, item->table->top_handle.offset,
                                       item->table->properties_handle.offset, item->table->levels,
                                       item->properties->entries};
        }
    return place;
}

static size_t count_lines(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

/* Whatever cannot be read in a table but its entries costs nothing; a block of entries costs what is in it. */
static void every_table(bool encrypted)
{
    struct kv_kit kit;
    struct kv_repair_report report;
    struct found found;
    struct kv_buf want = {0}, names = {0}, got = {0};
    kit_make(&kit, NULL, encrypted);
    fill(&kit);
    contents(&kit, &want);
    size_t n = file_kit_list(kit.vfs, "db", ".tbl", &names);
    for (const char *name = (char *)names.data; n--; name += strlen(name) + 1) {
        struct kv_buf good = {0};
        struct place place = place_of(&kit, name);
        if (!place.entries)
            continue;
        file_kit_read(kit.vfs, "db", name, &good);
        struct kv_vfs *clone = kv_vfs_mem_crash_clone(kit.own);
        const uint64_t at[] = {
            9, 70, place.footer + 5, place.top + 3, place.properties + 3, KV_FILE_HEADER_LEN + 8};
        for (size_t i = 0; i < 6; i++) {
            struct kv_kit copy = kit;
            copy.vfs = kv_vfs_mem_crash_clone(clone);
            copy.env = NULL;
            copy.db = NULL;
            good.data[at[i]] ^= 0x20;
            file_kit_write(copy.vfs, "db", name, kv_buf_slice(&good));
            good.data[at[i]] ^= 0x20;
            must_repair(&copy, &report, &found);
            cr_assert_eq(report.tables_rewritten + report.tables_lost, 1, "%s", found.text);
            expect_settled(&copy);
            if (i < 5 && !(encrypted && (i == 2 || i == 3) && false)) {
                cr_assert_eq(report.entries_lost, 0, "%s byte %d: %s", name, (int)at[i], found.text);
                expect_contents(&copy, &want, name);
            } else {
                cr_assert_gt(report.entries_lost, 0, "%s", found.text);
                kv_kit_must_open(&copy);
                contents(&copy, &got);
                cr_assert_geq(count_lines((char *)got.data) + report.entries_lost + 2,
                              count_lines((char *)want.data), "%s", found.text);
                cr_assert_eq(kv_kit_close(&copy), KV_OK);
            }
            cr_assert(file_kit_has(copy.vfs, "db.damaged", name), "the damaged one is kept");
            kv_vfs_mem_free(copy.vfs);
        }
        kv_vfs_mem_free(clone);
        kv_buf_release(&good);
    }
    kv_buf_release(&want);
    kv_buf_release(&names);
    kv_buf_release(&got);
    kv_kit_release(&kit);
}

Test(repair, of_a_damaged_table_every_readable_block_is_kept, .timeout = 120)
{
    every_table(false);
}

Test(repair, and_of_an_encrypted_one, .timeout = 120)
{
    every_table(true);
}

Test(repair, a_missing_table_is_told_with_its_keys)
{
    struct kv_kit kit;
    struct kv_repair_report report;
    struct found found;
    char name[32];
    kit_make(&kit, NULL, false);
    fill(&kit);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    first_name(&kit, ".tbl", name);
    file_kit_remove(kit.vfs, "db", name);
    must_repair(&kit, &report, &found);
    cr_assert(report.tables_lost == 1 && report.entries_lost > 0 && strstr(found.text, "is missing"), "%s",
              found.text);
    expect_settled(&kit);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_kit_metric(&kit, "kv_damaged_files"), 0);
    kv_kit_release(&kit);
}

/* ---- the value log */

Test(repair, a_value_that_is_lost_is_a_deleted_key_and_no_older_value)
{
    struct kv_kit kit;
    struct kv_repair_report report;
    struct found found;
    char name[32];
    kit_make(&kit, NULL, false);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "k", "older");
    kv_kit_put(&kit, 0, "short", "stays");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    kv_kit_put(&kit, 0, "k", LONG);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    first_name(&kit, ".vlg", name);
    file_kit_remove(kit.vfs, "db", name);
    must_repair(&kit, &report, &found);
    cr_assert_eq(report.values_lost, 1, "%s", found.text);
    expect_settled(&kit);
    kv_kit_must_open(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k", NULL));
    cr_assert(kv_kit_is(&kit, NULL, 0, "short", "stays"));
    kv_kit_release(&kit);
}

/* ---- the log */

Test(repair, a_log_is_read_past_its_holes)
{
    struct kv_kit kit;
    struct kv_repair_report report;
    struct found found;
    struct kv_buf log = {0}, names = {0};
    char key[8];
    kit_make(&kit, NULL, false);
    kv_kit_must_open(&kit);
    for (int i = 0; i < 9; i++) {
        snprintf(key, sizeof key, "k%d", i);
        kv_kit_put(&kit, 0, key, LONG);
    }
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    size_t n = file_kit_list(kit.vfs, "db", ".log", &names);
    for (const char *name = (char *)names.data; n--; name += strlen(name) + 1) {
        file_kit_read(kit.vfs, "db", name, &log);
        if (log.len < 1000)
            continue;
        log.data[600] ^= 1;
        file_kit_write(kit.vfs, "db", name, kv_buf_slice(&log));
    }
    cr_assert_eq(kv_kit_open(&kit), KV_CORRUPT);
    must_repair(&kit, &report, &found);
    cr_assert_eq(report.commits_lost, 1, "%s", found.text);
    expect_settled(&kit);
    kv_kit_must_open(&kit);
    uint64_t count;
    cr_assert_eq(kv_count(kit.db, NULL, 0, (kv_slice){0}, (kv_slice){0}, &count, &kit.err), KV_OK);
    cr_assert_eq(count, 8);
    kv_buf_release(&log);
    kv_buf_release(&names);
    kv_kit_release(&kit);
}

/* ---- power lost in the middle of it */

static struct kv_vfs *damaged_world(struct kv_buf *want)
{
    struct kv_kit kit;
    struct kv_buf table = {0};
    char name[32];
    kit_make(&kit, NULL, false);
    fill(&kit);
    contents(&kit, want);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    struct kv_vfs *disk = kv_vfs_mem_crash_clone(kit.own);
    first_name(&kit, ".man", name);
    file_kit_remove(disk, "db", name);
    first_name(&kit, ".tbl", name);
    file_kit_read(disk, "db", name, &table);
    table.data[table.len - 20] ^= 1; /* its footer */
    file_kit_write(disk, "db", name, kv_buf_slice(&table));
    kv_buf_release(&table);
    kv_kit_release(&kit);
    return disk;
}

static void crash_in_repair(enum vfs_crash_profile profile)
{
    static const char *const paths[] = {"db", NULL};
    struct kv_buf want = {0};
    struct kv_kit kit;
    struct kv_repair_report report;
    struct found found;
    struct kv_vfs *disk = damaged_world(&want);
    struct vfs_crash *crash = vfs_crash_new_from(disk, paths);
    kit_make(&kit, vfs_crash_as_vfs(crash), false);
    must_repair(&kit, &report, &found);
    cr_assert(report.manifest_rebuilt && report.tables_rewritten == 1);
    kv_kit_release(&kit);
    for (uint64_t k = 0; k <= vfs_crash_ops(crash) + 1; k++)
        for (uint64_t seed = 0; seed < 4; seed++) {
            struct kv_vfs *left = vfs_crash_at(crash, k, seed, profile);
            kit_make(&kit, left, false);
            must_repair(&kit, &report, &found);
            expect_settled(&kit);
            expect_contents(&kit, &want, found.text);
            kv_kit_release(&kit);
            kv_vfs_mem_free(left);
        }
    vfs_crash_free(crash);
    kv_vfs_mem_free(disk);
    kv_buf_release(&want);
}

Test(repair, power_lost_in_a_repair_leaves_it_to_be_done_again, .timeout = 240)
{
    for (int profile = 0; profile < VFS_CRASH_PROFILES; profile++)
        crash_in_repair((enum vfs_crash_profile)profile);
}

/* ---- whatever it holds */

static void random_life(struct kv_kit *kit, struct kv_prng *prng)
{
    char key[16], value[200];
    kv_kit_must_open(kit);
    for (int i = 0; i < 400; i++) {
        uint64_t what = kv_prng_below(prng, 40);
        uint32_t space = (uint32_t)kv_prng_below(prng, 2);
        snprintf(key, sizeof key, "k%02d", (int)kv_prng_below(prng, 60));
        snprintf(value, sizeof value, "v%d%s", i, kv_prng_below(prng, 3) ? "" : LONG);
        if (what < 26) {
            kv_kit_put(kit, space, key, value);
        } else if (what < 34) {
            kv_kit_delete(kit, space, key);
        } else if (what < 37) {
            cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
        } else if (what == 37) {
            const char *const keys[] = {key};
            kv_kit_bulk(kit, space, keys, 1, value, 0);
        } else if (what == 38) {
            kv_kit_work_all(kit);
        } else if (kv_prng_below(prng, 3) == 0) {
            cr_assert_eq(kv_merge_range(kit->db, space, (kv_slice){0}, (kv_slice){0}, &kit->err), KV_OK);
        } else {
            kv_kit_reopen(kit);
        }
    }
}

/* Everything that was settled: a load is as new as it was, for nobody wrote its keys while it was being made. */
Test(repair, any_database_without_its_manifest_comes_back, .timeout = 240)
{
    for (uint64_t seed = 1; seed <= (sweep_all() ? 400 : 30); seed++) {
        struct kv_kit kit;
        struct kv_prng prng;
        struct kv_repair_report report;
        struct found found;
        struct kv_buf want = {0};
        char name[32], what[64];
        kv_prng_init(&prng, seed);
        kit_make(&kit, NULL, false);
        random_life(&kit, &prng);
        contents(&kit, &want);
        cr_assert_eq(kv_kit_close(&kit), KV_OK);
        first_name(&kit, ".man", name);
        file_kit_remove(kit.vfs, "db", name);
        must_repair(&kit, &report, &found);
        cr_assert_eq(report.findings, 1, "seed %d: %s", (int)seed, found.text);
        snprintf(what, sizeof what, "seed %d", (int)seed);
        expect_contents(&kit, &want, what);
        expect_settled(&kit);
        kv_buf_release(&want);
        kv_kit_release(&kit);
    }
}
