#include "kvcore/db/manifest.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/mem.h"
#include "tests/support/clock_manual.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct kv_table_meta table(uint64_t number, const char *smallest, const char *largest)
{
    return (struct kv_table_meta){.number = number,
                                  .run = number,
                                  .version_min = 1,
                                  .version_max = 9,
                                  .entries = 3,
                                  .deletions = 1,
                                  .bytes = 1000,
                                  .uid = {1, 2, 3},
                                  .smallest = kv_slice_str(smallest),
                                  .largest = kv_slice_str(largest)};
}

static void edit_first(struct kv_edit *edit)
{
    static const uint8_t uuid[KV_UUID_LEN] = {1}, seed[KV_UUID_LEN] = {2};
    kv_edit_identity(edit, uuid, seed);
    kv_edit_space(edit, 0, "a", KV_STYLE_RUNS);
    kv_edit_space_order(edit, (const uint8_t[]){0}, 1);
    kv_edit_owner_epoch(edit, 1);
}

static void edit_rich(struct kv_edit *edit, uint64_t first_table)
{
    struct kv_table_meta one = table(first_table, "b", "m"), two = table(first_table + 1, "n", "n");
    kv_edit_add_table(edit, &one);
    kv_edit_add_table(edit, &two);
    kv_edit_seal(edit, &(struct kv_log_seal){first_table, 4096, 17, 12});
    kv_edit_log_floor(edit, first_table, first_table);
    kv_edit_app_floor(edit, first_table + 2);
    kv_edit_log_current(edit, first_table + 3);
    kv_edit_last_seq(edit, 17);
    kv_edit_retention(edit, -5);
}

static bool same_state(const struct kv_manifest_state *x, const struct kv_manifest_state *y)
{
    struct kv_edit a = {0}, b = {0};
    kv_edit_snapshot(&a, x);
    kv_edit_snapshot(&b, y);
    bool same = a.rc == KV_OK && b.rc == KV_OK && x->edit == y->edit &&
                kv_slice_equal(kv_buf_slice(&a.fields), kv_buf_slice(&b.fields));
    kv_edit_release(&a);
    kv_edit_release(&b);
    return same;
}

Test(manifest, a_snapshot_says_what_the_edits_before_it_said)
{
    struct kv_manifest_state state = {0}, again = {0};
    struct kv_edit edit = {0}, snapshot = {0};
    edit_first(&edit);
    edit_rich(&edit, 5);
    cr_assert_eq(edit.rc, KV_OK);
    cr_assert_eq(kv_manifest_apply(&state, kv_buf_slice(&edit.fields), NULL), KV_OK);
    kv_buf_clear(&edit.fields);
    kv_edit_drop_table(&edit, 5);
    kv_edit_move_table(&edit, 6, 3);
    kv_edit_next_file(&edit, 77);
    cr_assert_eq(kv_manifest_apply(&state, kv_buf_slice(&edit.fields), NULL), KV_OK);
    cr_assert(state.n_tables == 1 && state.tables[0]->number == 6 && state.tables[0]->deletions == 1);
    cr_assert_eq(state.tables[0]->level, 3);
    cr_assert(state.n_seals == 1 && state.seals[0].last_record_seq == 12);
    cr_assert(state.app_floor == 7 && state.log_floor == 5 && state.log_current == 8 && state.last_seq == 17);
    cr_assert(state.retention_ms == -5 && state.next_file == 77 && state.owner_epoch == 1);
    kv_edit_snapshot(&snapshot, &state);
    cr_assert_eq(kv_manifest_apply(&again, kv_buf_slice(&snapshot.fields), NULL), KV_OK);
    cr_assert(same_state(&state, &again));
    kv_edit_release(&edit);
    kv_edit_release(&snapshot);
    kv_manifest_state_release(&state);
    kv_manifest_state_release(&again);
}

Test(manifest, a_log_floor_forgets_the_seals_below_it)
{
    struct kv_manifest_state state = {0};
    struct kv_edit edit = {0};
    edit_first(&edit);
    for (uint64_t n = 3; n < 8; n++)
        kv_edit_seal(&edit, &(struct kv_log_seal){n, 100 * n, n, 0});
    kv_edit_seal(&edit, &(struct kv_log_seal){6, 601, 6, 0}); /* again, after a failed edit */
    kv_edit_log_floor(&edit, 5, 6);
    cr_assert_eq(kv_manifest_apply(&state, kv_buf_slice(&edit.fields), NULL), KV_OK);
    cr_assert(state.n_seals == 2 && state.seals[0].number == 6 && state.seals[0].valid_len == 601);
    cr_assert_null(kv_manifest_seal_of(&state, 5));
    kv_edit_release(&edit);
    kv_manifest_state_release(&state);
}

Test(manifest, unknown_odd_fields_are_skipped_and_even_ones_too_new)
{
    for (uint64_t tag = 1000; tag < 1002; tag++) {
        struct kv_manifest_state state = {0};
        struct kv_edit edit = {0};
        edit_first(&edit);
        cr_assert_eq(kv_buf_append_varint(&edit.fields, tag), KV_OK);
        cr_assert_eq(kv_buf_append_lp(&edit.fields, KV_STR("from the future")), KV_OK);
        kv_edit_app_floor(&edit, 9);
        cr_assert_eq(kv_manifest_apply(&state, kv_buf_slice(&edit.fields), NULL),
                     tag % 2 ? KV_OK : KV_TOO_NEW);
        cr_assert_eq(state.app_floor, tag % 2 ? 9 : 0);
        kv_edit_release(&edit);
        kv_manifest_state_release(&state);
    }
}

Test(manifest, edits_that_contradict_the_state_change_nothing)
{
    struct kv_manifest_state state = {0}, before = {0};
    struct kv_edit edit = {0}, good = {0};
    edit_first(&good);
    edit_rich(&good, 5);
    cr_assert_eq(kv_manifest_apply(&state, kv_buf_slice(&good.fields), NULL), KV_OK);
    cr_assert_eq(kv_manifest_apply(&before, kv_buf_slice(&good.fields), NULL), KV_OK);
    struct kv_table_meta twice = table(5, "a", "b"), swapped = table(9, "z", "b"), lost = table(9, "a", "b"),
                         empty = table(9, "a", "b"), bulk = table(9, "a", "b"), deep = table(9, "a", "b"),
                         fine = table(11, "a", "b");
    lost.space = 1;
    empty.entries = 0;
    bulk.bulk_version = 3;
    deep.level = KV_LEVELS_MAX;
    for (int how = 0; how < 13; how++) {
        struct kv_err err = {0};
        kv_edit_add_table(&edit, &fine); /* good in itself */
        if (how == 0)
            kv_edit_drop_table(&edit, 99);
        else if (how == 1)
            kv_edit_add_table(&edit, &twice);
        else if (how == 2)
            kv_edit_add_table(&edit, &swapped);
        else if (how == 3)
            kv_edit_add_table(&edit, &lost);
        else if (how == 4)
            kv_edit_add_table(&edit, &empty);
        else if (how == 5)
            kv_edit_add_table(&edit, &bulk);
        else if (how == 6)
            kv_edit_app_floor(&edit, 6);
        else if (how == 7)
            kv_edit_log_floor(&edit, 4, 5);
        else if (how == 8)
            kv_edit_space(&edit, 3, "c", KV_STYLE_RUNS);
        else if (how == 9)
            kv_edit_move_table(&edit, 99, 1);
        else if (how == 10)
            kv_edit_move_table(&edit, 5, KV_LEVELS_MAX);
        else if (how == 11)
            kv_edit_add_table(&edit, &deep);
        else
            kv_edit_add_table(&edit, &fine);
        cr_assert_eq(edit.rc, KV_OK);
        cr_assert_eq(kv_manifest_apply(&state, kv_buf_slice(&edit.fields), &err), KV_CORRUPT, "%d", how);
        cr_assert(err.text[0]);
        cr_assert(same_state(&state, &before), "%d", how);
        kv_edit_release(&edit);
    }
    kv_edit_release(&good);
    kv_manifest_state_release(&state);
    kv_manifest_state_release(&before);
}

/* ---- files */

struct files {
    struct kv_vfs *disk;
    struct vfs_fault *fault;
    struct kv_dir *dir;
    struct clock_manual clock;
    struct kv_manifest manifest;
    struct kv_err err;
};

static void files_open(struct files *f)
{
    *f = (struct files){.disk = kv_vfs_mem_new()};
    f->fault = vfs_fault_new(f->disk);
    clock_manual_init(&f->clock, 1, 1);
    cr_assert_eq(kv_vfs_dir_open(vfs_fault_as_vfs(f->fault), "db", true, &f->dir, &f->err), KV_OK);
    cr_assert_eq(kv_manifest_load(&f->manifest, f->dir, &f->clock.base, NULL, &f->err), KV_NOT_FOUND);
    struct kv_edit edit = {0};
    edit_first(&edit);
    cr_assert_eq(kv_manifest_commit(&f->manifest, &edit, &f->err), KV_OK);
    kv_edit_release(&edit);
}

static void files_close(struct files *f)
{
    kv_manifest_close(&f->manifest);
    kv_dir_close(f->dir);
    vfs_fault_free(f->fault);
    kv_vfs_mem_free(f->disk);
    clock_manual_release(&f->clock);
}

static kv_status commit_rich(struct files *f, uint64_t first_table)
{
    struct kv_edit edit = {0};
    edit_rich(&edit, first_table);
    kv_status rc = kv_manifest_commit(&f->manifest, &edit, &f->err);
    kv_edit_release(&edit);
    return rc;
}

static kv_status reload(struct files *f, struct kv_manifest *out)
{
    return kv_manifest_load(out, f->dir, &f->clock.base, NULL, &f->err);
}

static struct kv_buf file_bytes(struct files *f, const char *name)
{
    struct kv_buf bytes = {0};
    struct kv_file *file = NULL;
    uint64_t size;
    cr_assert_eq(kv_dir_open_file(f->dir, name, &file, &f->err), KV_OK);
    cr_assert_eq(kv_file_size(file, &size, &f->err), KV_OK);
    cr_assert_eq(kv_file_read_exact(file, 0, size, kv_buf_extend(&bytes, size), &f->err), KV_OK);
    kv_file_close(file);
    return bytes;
}

Test(manifest, what_was_committed_is_loaded)
{
    struct files f;
    struct kv_manifest again;
    files_open(&f);
    for (uint64_t n = 1; n < 20; n++) {
        cr_assert_eq(commit_rich(&f, 4 * n), KV_OK);
        cr_assert_eq(reload(&f, &again), KV_OK);
        cr_assert(same_state(&f.manifest.state, &again.state));
        cr_assert_geq(kv_manifest_take_number(&again), kv_manifest_take_number(&f.manifest));
        kv_manifest_close(&again);
    }
    cr_assert_eq(f.manifest.files_started, 1);
    files_close(&f);
}

Test(manifest, edits_that_outgrow_the_snapshot_start_a_new_file)
{
    struct files f;
    struct kv_manifest again;
    files_open(&f);
    for (uint64_t n = 1; n < 3000; n++) {
        struct kv_edit edit = {0};
        struct kv_table_meta meta = table(n + 10, "a", "b");
        kv_edit_add_table(&edit, &meta);
        if (n > 3)
            kv_edit_drop_table(&edit, n + 9);
        cr_assert_eq(kv_manifest_commit(&f.manifest, &edit, &f.err), KV_OK);
        kv_edit_release(&edit);
    }
    cr_assert_gt(f.manifest.files_started, 1);
    cr_assert_lt(f.manifest.files_started, 10);
    cr_assert_eq(reload(&f, &again), KV_OK);
    cr_assert(same_state(&f.manifest.state, &again.state));
    kv_manifest_close(&again);
    files_close(&f);
}

Test(manifest, a_torn_end_is_cut_at_the_last_whole_edit)
{
    struct files f;
    uint64_t ends[6];
    files_open(&f);
    ends[0] = f.manifest.offset;
    for (uint64_t n = 1; n < 6; n++) {
        cr_assert_eq(commit_rich(&f, 4 * n), KV_OK);
        ends[n] = f.manifest.offset;
    }
    struct kv_buf bytes = file_bytes(&f, f.manifest.name);
    for (size_t len = 0; len <= bytes.len; len++) {
        struct kv_manifest_state state = {0};
        uint64_t whole = 0;
        for (uint64_t n = 0; n < 6; n++)
            whole += len >= ends[n];
        kv_status rc = kv_manifest_replay(kv_slice_of(bytes.data, len), "m", &state, &f.err);
        cr_assert_eq(rc, whole ? KV_OK : KV_CORRUPT, "%zu bytes", len);
        cr_assert(!whole || state.edit == whole);
        kv_manifest_state_release(&state);
    }
    kv_buf_release(&bytes);
    files_close(&f);
}

Test(manifest, damage_before_a_valid_edit_is_never_taken_for_a_torn_end)
{
    struct files f;
    files_open(&f);
    for (uint64_t n = 1; n < 4; n++)
        cr_assert_eq(commit_rich(&f, 4 * n), KV_OK);
    uint64_t last = f.manifest.offset;
    cr_assert_eq(commit_rich(&f, 40), KV_OK);
    struct kv_buf bytes = file_bytes(&f, f.manifest.name);
    for (size_t at = 0; at < bytes.len; at++) {
        struct kv_manifest_state state = {0};
        bytes.data[at] ^= 0x10;
        kv_status rc = kv_manifest_replay(kv_buf_slice(&bytes), "m", &state, &f.err);
        if (at < last)
            cr_assert(rc == KV_CORRUPT || rc == KV_TOO_NEW || rc == KV_UNSUPPORTED, "byte %zu: %d", at, rc);
        else
            cr_assert(rc == KV_OK && state.edit == 4, "byte %zu", at);
        bytes.data[at] ^= 0x10;
        kv_manifest_state_release(&state);
    }
    kv_buf_release(&bytes);
    files_close(&f);
}

Test(manifest, any_single_failing_operation_leaves_the_old_state_or_commits)
{
    for (int kind = VFS_FAULT_EIO; kind <= VFS_FAULT_SYNC_CLOSE; kind++) {
        bool fired = true;
        for (uint64_t nth = 1; fired; nth++) {
            struct files f;
            struct kv_manifest again;
            files_open(&f);
            cr_assert_eq(commit_rich(&f, 4), KV_OK);
            vfs_fault_plan(f.fault, &(struct vfs_fault_plan){.nth = nth, .kind = (enum vfs_fault_kind)kind});
            uint64_t before = f.manifest.state.edit;
            kv_status rc = commit_rich(&f, 8);
            fired = vfs_fault_fired(f.fault);
            vfs_fault_plan(f.fault, NULL);
            cr_assert(fired || rc == KV_OK);
            cr_assert(rc == KV_OK ? f.manifest.state.n_tables == 4
                                  : f.manifest.state.n_tables == 2 && f.manifest.state.edit == before);
            cr_assert_eq(commit_rich(&f, 12), KV_OK, "kind %d operation %d: it may be tried again", kind,
                         (int)nth);
            struct kv_vfs *clone = kv_vfs_mem_crash_clone(f.disk);
            struct kv_dir *dir = NULL;
            cr_assert_eq(kv_vfs_dir_open(clone, "db", false, &dir, &f.err), KV_OK);
            if (kind !=
                VFS_FAULT_SYNC_LATE) { /* a sync that lies: only detection can be asked, and here it is not */
                cr_assert_eq(kv_manifest_load(&again, dir, &f.clock.base, NULL, &f.err), KV_OK, "%s",
                             f.err.text);
                cr_assert(same_state(&f.manifest.state, &again.state), "kind %d operation %d", kind,
                          (int)nth);
                kv_manifest_close(&again);
            }
            kv_dir_close(dir);
            kv_vfs_mem_free(clone);
            files_close(&f);
        }
    }
}

Test(manifest, file_names_are_parsed_exactly)
{
    uint64_t number;
    enum kv_file_kind_name kind;
    char name[32];
    kv_file_name(name, 12, KV_NAME_TABLE);
    cr_assert_str_eq(name, "000012.tbl");
    cr_assert(kv_file_name_parse(name, &number, &kind) && number == 12 && kind == KV_NAME_TABLE);
    kv_file_name(name, 123456789012, KV_NAME_LOG);
    cr_assert(kv_file_name_parse(name, &number, &kind) && number == 123456789012 && kind == KV_NAME_LOG);
    static const char *const strangers[] = {"",           "12.tbl",      "0000012.tbl",
                                            "000012.tb",  "000012.tblx", "000012",
                                            "x00012.tbl", "000012.TBL",  "99999999999999999999.log"};
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
        cr_assert_not(kv_file_name_parse(strangers[i], &number, &kind), "%s", strangers[i]);
}

/* ---- the golden file: what format 1 looks like, for good */

static kv_status golden_state(struct kv_manifest_state *state)
{
    struct kv_edit edit = {0};
    edit_first(&edit);
    edit_rich(&edit, 5);
    kv_status rc = edit.rc == KV_OK ? kv_manifest_apply(state, kv_buf_slice(&edit.fields), NULL) : edit.rc;
    kv_edit_release(&edit);
    return rc;
}

Test(manifest, the_golden_file_is_read_and_written_byte_for_byte)
{
    struct files f;
    struct kv_manifest_state state = {0}, expected = {0};
    static uint8_t golden[4096];
    FILE *file = fopen("tests/golden/manifest-1.man", "rb");
    size_t n = file ? fread(golden, 1, sizeof golden, file) : 0;
    if (file)
        fclose(file);
    files_open(&f);
    cr_assert_eq(commit_rich(&f, 5), KV_OK);
    struct kv_buf written = file_bytes(&f, f.manifest.name);
    cr_assert_eq(golden_state(&expected), KV_OK);
    if (getenv("TIDEMARK_WRITE_GOLDEN")) {
        file = fopen("tests/golden/manifest-1.man", "wb");
        cr_assert(file && fwrite(written.data, 1, written.len, file) == written.len && fclose(file) == 0);
        memcpy(golden, written.data, n = written.len);
    }
    cr_assert(n > 0 && kv_slice_equal(kv_slice_of(golden, n), kv_buf_slice(&written)),
              "the format has changed");
    cr_assert_eq(kv_manifest_replay(kv_slice_of(golden, n), "golden", &state, &f.err), KV_OK, "%s",
                 f.err.text);
    expected.edit = state.edit;
    expected.next_file = state.next_file;
    cr_assert(state.edit == 2 && same_state(&state, &expected));
    kv_buf_release(&written);
    kv_manifest_state_release(&state);
    kv_manifest_state_release(&expected);
    files_close(&f);
}
