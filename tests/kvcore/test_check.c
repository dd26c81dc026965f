#include "kvcore/base/mem.h"
#include "kvcore/db/manifest.h"
#include "kvcore/os/vfs.h"
#include "tests/support/damage_kit.h"
#include "tests/support/kv_kit.h"

#include <criterion/criterion.h>
#include <stdio.h>

struct names {
    char name[16][72];
    size_t n;
};

static kv_status keep_name(void *ctx, const char *name, uint64_t bytes)
{
    struct names *names = ctx;
    (void)bytes;
    snprintf(names->name[names->n++], sizeof names->name[0], "%s", name);
    return KV_OK;
}

static void make(struct kv_kit *kit)
{
    char key[16];
    kv_kit_init(kit, NULL);
    kit->options.disk_reserve_bytes = 1;
    kv_kit_must_open(kit);
    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof key, "%03d", i);
        kv_kit_put(kit, (uint32_t)i % 2, key, "some value");
    }
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
    kv_kit_put(kit, 0, "zz", "in the log");
    cr_assert_eq(kv_kit_try_record(kit, "record", NULL), KV_OK);
    kv_kit_put(kit, 0, "zzz", "in the log");
    cr_assert_eq(kv_kit_close(kit), KV_OK);
}

static kv_status run_check(struct kv_kit *kit, void (*each)(void *, kv_status, const char *), void *ctx)
{
    struct kv_env_options options = {.vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE};
    cr_assert_eq(kv_env_open(&options, &kit->env, &kit->err), KV_OK);
    kv_status rc = kv_check(kit->env, kit->path, each, ctx, &kit->err);
    kv_env_close(kit->env);
    kit->env = NULL;
    return rc;
}

static void count_lines(void *ctx, kv_status severity, const char *line)
{
    size_t *counts = ctx;
    (void)line;
    counts[severity < 0]++;
}

Test(check, a_sound_database_has_no_findings_and_stays_as_it_was)
{
    struct kv_kit kit;
    size_t counts[2] = {0, 0};
    make(&kit);
    cr_assert_eq(run_check(&kit, count_lines, counts), KV_OK, "%s", kit.err.text);
    cr_assert_gt(counts[0], 4);
    cr_assert_eq(counts[1], 0);
    kv_kit_must_open(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "zzz", "in the log"));
    cr_assert_eq(kv_check(kit.env, kit.path, NULL, NULL, &kit.err), KV_BUSY);
    kv_kit_release(&kit);
}

Test(check, nothing_there_is_told)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    cr_assert_eq(run_check(&kit, NULL, NULL), KV_MISSING);
    kv_kit_release(&kit);
}

/* A file again, with one byte changed, or shortened. */
static void rewrite(struct kv_dir *dir, const char *name, size_t at, bool cut, struct kv_err *err)
{
    struct kv_file *file = NULL;
    uint64_t size;
    cr_assert_eq(kv_dir_open_file(dir, name, &file, err), KV_OK);
    cr_assert_eq(kv_file_size(file, &size, err), KV_OK);
    uint8_t *bytes = kv_alloc(size + 1);
    cr_assert_eq(kv_file_read_exact(file, 0, size, bytes, err), KV_OK);
    kv_file_close(file);
    cr_assert_eq(kv_dir_remove(dir, name, err), KV_OK);
    bytes[at % size] ^= 0x20;
    cr_assert_eq(kv_dir_create(dir, name, &file, err), KV_OK);
    cr_assert_eq(kv_file_append(file, 0, kv_slice_of(bytes, cut ? at % size : size), err), KV_OK);
    cr_assert_eq(kv_file_sync(file, err), KV_OK);
    cr_assert_eq(kv_dir_sync_names(dir, err), KV_OK);
    kv_file_close(file);
    kv_free(bytes);
}

static uint64_t size_of(struct kv_dir *dir, const char *name, struct kv_err *err)
{
    struct kv_file *file = NULL;
    uint64_t size;
    cr_assert_eq(kv_dir_open_file(dir, name, &file, err), KV_OK);
    cr_assert_eq(kv_file_size(file, &size, err), KV_OK);
    kv_file_close(file);
    return size;
}

/* Every byte of every file of a cleanly closed database is covered by some check, but for the last edit of the manifest, whose loss
 * cannot be told from a crash by itself (and shows in what it named). */
Test(check, any_changed_byte_and_any_lost_end_is_found)
{
    struct kv_kit kit;
    struct kv_dir *dir = NULL;
    struct names names = {.n = 0};
    make(&kit);
    cr_assert_eq(kv_vfs_dir_open(kit.vfs, kit.path, false, &dir, &kit.err), KV_OK);
    cr_assert_eq(dir->ops->list(dir, keep_name, &names, &kit.err), KV_OK);
    for (size_t i = 0; i < names.n; i++) {
        if (strcmp(names.name[i], "reserve") == 0)
            continue;
        uint64_t size = size_of(dir, names.name[i], &kit.err);
        bool manifest = strstr(names.name[i], ".man") != NULL;
        for (size_t at = 0; at < size; at += manifest ? 13 : 7) {
            for (int cut = 0; cut < 2; cut++) {
                struct kv_vfs *clone = kv_vfs_mem_crash_clone(kit.own);
                struct kv_dir *copy = NULL;
                kit.vfs = clone;
                cr_assert_eq(kv_vfs_dir_open(clone, kit.path, false, &copy, &kit.err), KV_OK);
                rewrite(copy, names.name[i], at, cut, &kit.err);
                kv_dir_close(copy);
                kv_status rc = run_check(&kit, NULL, NULL);
                if (!manifest)
                    cr_assert(rc == KV_CORRUPT || rc == KV_TOO_NEW || rc == KV_UNSUPPORTED,
                              "%s byte %zu cut %d: %d", names.name[i], at, cut, rc);
                kv_vfs_mem_free(clone);
            }
        }
    }
    kv_dir_close(dir);
    kv_kit_release(&kit);
}

Test(check, orphans_and_strangers_are_told_but_no_damage)
{
    struct kv_kit kit;
    struct kv_dir *dir = NULL;
    struct kv_file *file = NULL;
    size_t counts[2] = {0, 0}, sound[2] = {0, 0};
    make(&kit);
    cr_assert_eq(run_check(&kit, count_lines, sound), KV_OK);
    cr_assert_eq(kv_vfs_dir_open(kit.vfs, kit.path, false, &dir, &kit.err), KV_OK);
    cr_assert_eq(kv_dir_create(dir, "000999.tbl", &file, &kit.err), KV_OK);
    kv_file_close(file);
    cr_assert_eq(kv_dir_create(dir, "notes.txt", &file, &kit.err), KV_OK);
    kv_file_close(file);
    kv_dir_close(dir);
    cr_assert_eq(run_check(&kit, count_lines, counts), KV_OK, "%s", kit.err.text);
    cr_assert(counts[0] == sound[0] + 2 && counts[1] == 0);
    kv_kit_release(&kit);
}

/* ---- a manifest that is whole and says something else than the files */

enum twist {
    TWIST_NONE,
    TWIST_ENTRIES,
    TWIST_DELETIONS,
    TWIST_VERSION_MIN,
    TWIST_VERSION_MAX,
    TWIST_SMALLEST,
    TWIST_LARGEST,
    TWIST_SPACE,
    TWIST_OVERLAP,
    TWIST_NO_ORDER,
    TWISTS,
};

static void twist_state(struct kv_manifest_state *state, enum twist twist)
{
    struct kv_table_meta *table = state->tables[0], *last = state->tables[state->n_tables - 1];
    switch (twist) {
    case TWIST_ENTRIES:
        table->entries++;
        break;
    case TWIST_DELETIONS:
        table->deletions++;
        break;
    case TWIST_VERSION_MIN:
        table->version_min++;
        break;
    case TWIST_VERSION_MAX:
        table->version_max++;
        break;
    case TWIST_SMALLEST:
        table->smallest = KV_STR("0");
        break;
    case TWIST_LARGEST:
        table->largest = KV_STR("9");
        break;
    case TWIST_SPACE:
        table->space = 1 - table->space;
        break;
    case TWIST_OVERLAP:
        last->space = table->space;
        last->run = table->run;
        break;
    case TWIST_NO_ORDER:
        state->n_order = 0;
        break;
    case TWIST_NONE:
    case TWISTS:
        break;
    }
}

struct told {
    const char *look_for;
    bool found;
};

static void look_for(void *ctx, kv_status severity, const char *line)
{
    struct told *told = ctx;
    told->found |= severity < 0 && strstr(line, told->look_for) != NULL;
}

Test(check, what_the_manifest_says_of_a_table_is_compared_with_the_table)
{
    static const char *const texts[TWISTS] = {"",
                                              "number of entries",
                                              "number of deletions",
                                              "smallest version",
                                              "largest version",
                                              "smallest key",
                                              "largest key",
                                              "space",
                                              "overlap",
                                              "names space"};
    for (enum twist twist = TWIST_NONE; twist < TWISTS; twist++) {
        struct kv_kit kit;
        struct damage_dir files;
        struct kv_manifest manifest;
        struct kv_dir *dir = NULL;
        struct told told = {.look_for = texts[twist]};
        char name[32];
        make(&kit);
        damage_dir_load(&files, kit.vfs, "db");
        files.generation = 0; /* what is published is made below */
        cr_assert_eq(kv_vfs_dir_open(kit.vfs, "db", false, &dir, NULL), KV_OK);
        cr_assert_eq(kv_manifest_load(&manifest, dir, &kit.clock.base, NULL, &kit.err), KV_OK);
        kv_dir_close(dir);
        twist_state(&manifest.state, twist);
        kit.path = "twisted";
        damage_dir_store(&files, kit.vfs, kit.path);
        cr_assert_eq(kv_vfs_dir_open(kit.vfs, kit.path, false, &dir, NULL), KV_OK);
        cr_assert_eq(kv_manifest_write_copy(dir, &kit.clock.base, NULL, &manifest.state, 900, name, &kit.err),
                     KV_OK, "%s", kit.err.text);
        cr_assert_eq(dir->ops->publish(dir, kv_slice_str(name), 0, &kit.err), KV_OK);
        kv_dir_close(dir);
        kv_status rc = run_check(&kit, look_for, &told);
        cr_expect_eq(rc, twist == TWIST_NONE ? KV_OK : KV_CORRUPT, "%s: %s: %s", texts[twist],
                     kv_status_name(rc), kit.err.text);
        cr_expect(twist == TWIST_NONE || told.found, "nothing was said of %s: %s", texts[twist],
                  kit.err.text);
        kv_manifest_close(&manifest);
        damage_dir_release(&files);
        kv_kit_release(&kit);
    }
}
