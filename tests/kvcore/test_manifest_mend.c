/*
 * What can still be known of a damaged or lost manifest, over files made by hand: each rule of manifest_mend.h, with what is said of it and
 * up to which edit the state goes.
 */
#include "kvcore/db/manifest_mend.h"
#include "tests/support/file_kit.h"
#include "tests/support/hook_dir.h"
#include "tests/support/kv_kit.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/manifest_forge.h"

#include <criterion/criterion.h>
#include <stdio.h>

static const uint8_t key_1[KV_MASTER_KEY_LEN] = {1}, key_2[KV_MASTER_KEY_LEN] = {2};

struct world {
    struct kv_vfs *vfs;
    struct kv_dir *under;
    struct hook_dir hook;
    struct clock_manual clock;
    struct manifest_forge first, second; /* 000001.man to edit 2, 000002.man to edit 6 */
    struct kv_manifest manifest;
    char said[2048];
    int calls; /* of a hook */
};

/* The published name is of a file that is not there. */
static void world_init(struct world *w)
{
    *w = (struct world){.vfs = kv_vfs_mem_new()};
    clock_manual_init(&w->clock, 1700000000000, 1);
    cr_assert_eq(kv_vfs_dir_open(w->vfs, "db", true, &w->under, NULL), KV_OK);
    hook_dir_init(&w->hook, w->under);
    w->hook.ctx = w;
    manifest_forge_publish(w->under, "000009.man");
    manifest_forge_begin(&w->first, 1);
    manifest_forge_snapshot(&w->first, 1, 10);
    manifest_forge_seq(&w->first, 2, 20);
    manifest_forge_begin(&w->second, 2);
    manifest_forge_snapshot(&w->second, 5, 50);
    manifest_forge_seq(&w->second, 6, 60);
}

static void world_release(struct world *w)
{
    kv_manifest_close(&w->manifest);
    manifest_forge_release(&w->first);
    manifest_forge_release(&w->second);
    kv_dir_close(w->under);
    clock_manual_release(&w->clock);
    kv_vfs_mem_free(w->vfs);
}

static void store(struct world *w)
{
    manifest_forge_store(&w->first, w->vfs, "db", "000001.man");
    manifest_forge_store(&w->second, w->vfs, "db", "000002.man");
}

static void keep_line(void *ctx, const char *line)
{
    struct world *w = ctx;
    size_t at = strlen(w->said);
    snprintf(w->said + at, sizeof w->said - at, "%s\n", line);
}

static kv_status mend(struct world *w, const uint8_t *master, struct kv_err *err)
{
    const struct kv_key_source source = {.master_key = master};
    bool exact = true;
    w->said[0] = 0;
    kv_status rc =
        kv_manifest_mend(&w->manifest, &w->hook.base, &w->clock.base, &source, &exact, keep_line, w, err);
    cr_expect_not(exact);
    return rc;
}

/* ---- content */

static void whole(struct world *w)
{
    (void)w;
}

static void newer_numbers_in_the_older_file(struct world *w)
{
    manifest_forge_begin(&w->first, 1);
    manifest_forge_snapshot(&w->first, 8, 80);
    manifest_forge_seq(&w->first, 9, 90);
}

static void edits_without_a_snapshot(struct world *w)
{
    manifest_forge_begin(&w->first, 1);
    manifest_forge_begin(&w->second, 2);
    manifest_forge_seq(&w->second, 3, 30);
}

static void edits_in_front_of_the_snapshot(struct world *w)
{
    manifest_forge_begin(&w->first, 1);
    manifest_forge_seq(&w->first, 3, 30);
    manifest_forge_snapshot(&w->first, 4, 40);
    manifest_forge_begin(&w->second, 2);
}

static void an_edit_twice(struct world *w)
{
    manifest_forge_seq(&w->second, 6, 66);
}

static void an_edit_missing(struct world *w)
{
    manifest_forge_seq(&w->second, 8, 80);
}

static void an_edit_that_does_not_fit(struct world *w)
{
    struct kv_edit edit = {0};
    kv_edit_drop_table(&edit, 99);
    manifest_forge_edit(&w->second, 7, &edit);
}

static void an_edit_of_nothing(struct world *w)
{
    manifest_forge_frame(&w->second, 7, (kv_slice){0});
}

static void an_edit_of_a_newer_version(struct world *w)
{
    manifest_forge_frame(&w->second, 7, KV_STR("\x7e\x00"));
}

static void half_a_snapshot(struct world *w)
{
    manifest_forge_frame(&w->second, 7, KV_STR("\x02\x01x"));
}

static void a_snapshot_of_a_newer_version(struct world *w)
{
    struct kv_edit edit = {0};
    kv_edit_identity(&edit, w->second.header.uuid, w->second.header.uuid);
    cr_assert_eq(kv_buf_append(&edit.fields, KV_STR("\x7e\x00")), KV_OK);
    manifest_forge_edit(&w->second, 7, &edit);
}

static void add_hole(struct world *w, const char *bytes, size_t len)
{
    cr_assert_eq(kv_buf_append(&w->second.bytes, kv_slice_of(bytes, len)), KV_OK);
    manifest_forge_seq(&w->second, 7, 70);
    manifest_forge_seq(&w->second, 8, 80);
}

static void a_hole(struct world *w)
{
    add_hole(w, "Ks and other bytes, K", 21);
}

static void a_hole_at_the_end(struct world *w)
{
    cr_assert_eq(kv_buf_append(&w->second.bytes, KV_STR("no such letter")), KV_OK);
}

static void the_last_edit_damaged(struct world *w)
{
    w->second.bytes.data[w->second.bytes.len - 1] ^= 1;
}

static const struct row {
    const char *what;
    void (*change)(struct world *w);
    kv_status expect;
    const char *text; /* of what was said, or of the error */
    uint64_t edit, seq;
} rows[] = {
    {"whole", whole, KV_OK, "000001.man: read up to edit 2\n000002.man: read up to edit 6\n", 6, 60},
    {"newer numbers in the older file", newer_numbers_in_the_older_file, KV_OK,
     "000001.man: read up to edit 9\n000002.man: read up to edit 9\n", 9, 90},
    {"edits without a snapshot", edits_without_a_snapshot, KV_OK, "000002.man: read up to edit 0\n", 0, 0},
    {"edits in front of the snapshot", edits_in_front_of_the_snapshot, KV_OK,
     "000001.man: read up to edit 4\n", 4, 0},
    {"an edit twice", an_edit_twice, KV_OK, "000002.man: read up to edit 6\n", 6, 60},
    {"an edit missing", an_edit_missing, KV_OK,
     "000002.man: read up to edit 8, with edits missing in between\n", 8, 80},
    {"an edit that does not fit", an_edit_that_does_not_fit, KV_OK,
     "000002.man: read up to edit 6, and some that do not fit what is known\n", 6, 60},
    {"an edit of nothing", an_edit_of_nothing, KV_OK, "000002.man: read up to edit 7\n", 7, 60},
    {"an edit of a newer version", an_edit_of_a_newer_version, KV_TOO_NEW,
     "000002.man: offset 216: manifest field 126 was written by a newer version", 6, 60},
    {"half a snapshot", half_a_snapshot, KV_OK, "000002.man: read up to edit 6\n", 6, 60},
    {"a snapshot of a newer version", a_snapshot_of_a_newer_version, KV_TOO_NEW,
     "000002.man: offset 216: manifest field 126 was written by a newer version", 6, 60},
    {"a hole", a_hole, KV_OK, "000002.man: read up to edit 8\n", 8, 80},
    {"a hole at the end", a_hole_at_the_end, KV_OK, "000002.man: read up to edit 6\n", 6, 60},
    {"the last edit damaged", the_last_edit_damaged, KV_OK, "000002.man: read up to edit 5\n", 5, 0},
};

Test(manifest_mend, every_rule_of_what_fits_what)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *row = &rows[i];
        struct world w;
        struct kv_err err = {0};
        world_init(&w);
        row->change(&w);
        store(&w);
        kv_status rc = mend(&w, NULL, &err);
        cr_expect_eq(rc, row->expect, "%s: %s: %s", row->what, kv_status_name(rc), err.text);
        cr_expect(strstr(w.said, "the manifest: 000009.man is published but missing\n"), "%s: %s", row->what,
                  w.said);
        cr_expect(strstr(rc == KV_OK ? w.said : err.text, row->text) != NULL, "%s: %s%s", row->what, w.said,
                  err.text);
        cr_expect_eq(w.manifest.state.edit, row->edit, "%s: %d", row->what, (int)w.manifest.state.edit);
        cr_expect_eq(w.manifest.state.last_seq, row->seq, "%s", row->what);
        world_release(&w);
    }
}

/* ---- headers */

static void header_damaged(struct world *w)
{
    manifest_forge_store(&w->second, w->vfs, "db", "000002.man");
    file_kit_flip(w->vfs, "db", "000002.man", 60);
}

static void header_gone(struct world *w)
{
    memset(w->second.bytes.data, 'x', KV_FILE_HEADER_LEN);
    file_kit_write(w->vfs, "db", "000002.man", kv_buf_slice(&w->second.bytes));
}

static void header_short(struct world *w)
{
    file_kit_write(w->vfs, "db", "000002.man", kv_slice_of(w->second.bytes.data, 100));
}

static void header_of_a_table(struct world *w)
{
    w->second.header.kind = KV_FILE_TABLE;
    manifest_forge_store(&w->second, w->vfs, "db", "000002.man");
}

static void header_too_new(struct world *w)
{
    w->second.header.format = KV_MANIFEST_FORMAT + 1;
    manifest_forge_store(&w->second, w->vfs, "db", "000002.man");
}

static void header_encrypted(struct world *w)
{
    w->second.header.key_id = 77;
    manifest_forge_store(&w->second, w->vfs, "db", "000002.man");
}

Test(manifest_mend, headers_that_can_and_cannot_be_read)
{
    static const struct row headers[] = {
        {"one bit wrong", header_damaged, KV_OK, "000002.man: read up to edit 6\n", 6, 0},
        {"gone", header_gone, KV_OK, "000002.man: cannot be read: 000002.man does not begin with", 2, 0},
        {"short", header_short, KV_OK, "000002.man: cannot be read: 000002.man has 100 bytes", 2, 0},
        {"of a table", header_of_a_table, KV_OK, "000002.man: cannot be read: 000002.man is a table file", 2,
         0},
        {"of a newer format", header_too_new, KV_TOO_NEW, "000002.man has manifest format 2", 2, 0},
        {"encrypted", header_encrypted, KV_WRONG_KEY, "000002.man is encrypted and no key was given", 2, 0},
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        const struct row *row = &headers[i];
        struct world w;
        struct kv_err err = {0};
        world_init(&w);
        manifest_forge_store(&w.first, w.vfs, "db", "000001.man");
        row->change(&w);
        kv_status rc = mend(&w, NULL, &err);
        cr_expect_eq(rc, row->expect, "%s: %s: %s", row->what, kv_status_name(rc), err.text);
        cr_expect(strstr(rc == KV_OK ? w.said : err.text, row->text) != NULL, "%s: %s%s", row->what, w.said,
                  err.text);
        cr_expect_eq(w.manifest.state.edit, row->edit, "%s", row->what);
        world_release(&w);
    }
}

/* ---- the published name */

static kv_status name_damaged(void *ctx, enum vfs_op op, const char *name, struct kv_err *err)
{
    (void)ctx;
    (void)name;
    return op == VFS_OP_PUBLISHED ? kv_fail(err, KV_CORRUPT, 0, "CURRENT is damaged") : KV_OK;
}

Test(manifest_mend, a_published_name_that_cannot_be_read_is_said_and_how_to_go_on)
{
    struct world w;
    struct kv_err err = {0};
    world_init(&w);
    store(&w);
    w.hook.before = name_damaged;
    cr_assert_eq(mend(&w, NULL, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "CURRENT is damaged: remove it, and repair again"), "%s", err.text);
    cr_assert_eq(w.manifest.state.n_spaces, 0);
    w.hook.before = NULL;
    manifest_forge_publish(w.under, "no manifest"); /* a name, but not one of ours */
    cr_assert_eq(mend(&w, NULL, &err), KV_OK, "%s", err.text);
    cr_assert_eq(w.manifest.state.edit, 6);
    cr_assert_eq(w.manifest.generation, 2, "the next publish follows it");
    cr_assert_eq(w.manifest.next_file, 50);
    world_release(&w);
}

/* Nobody has to listen. */
Test(manifest_mend, without_a_listener)
{
    struct world w;
    bool exact = true;
    world_init(&w);
    store(&w);
    cr_assert_eq(kv_manifest_mend(&w.manifest, &w.hook.base, &w.clock.base, NULL, &exact, NULL, NULL, NULL),
                 KV_OK);
    cr_assert(!exact && w.manifest.state.edit == 6);
    world_release(&w);
}

/* ---- keys */

/* The newest manifest of an encrypted database, in a file of the world's. */
static void copy_encrypted(struct world *w, const uint8_t *master, const char *name)
{
    struct kv_kit kit;
    struct kv_buf names = {0}, bytes = {0};
    kv_kit_init(&kit, NULL);
    kit.options.key.master_key = master;
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    cr_assert_eq(file_kit_list(kit.own, "db", ".man", &names), 1);
    file_kit_read(kit.own, "db", (char *)names.data, &bytes);
    file_kit_write(w->vfs, "db", name, kv_buf_slice(&bytes));
    kv_buf_release(&names);
    kv_buf_release(&bytes);
    kv_kit_release(&kit);
}

Test(manifest_mend, files_under_another_master_key_are_passed_over)
{
    struct world w;
    struct kv_err err = {0};
    world_init(&w);
    copy_encrypted(&w, key_1, "000001.man");
    copy_encrypted(&w, key_2, "000002.man");
    cr_assert_eq(mend(&w, key_2, &err), KV_WRONG_KEY, "the first one must open");
    cr_assert_gt(strlen(err.text), 0);
    kv_manifest_close(&w.manifest);
    cr_assert_eq(mend(&w, key_1, &err), KV_OK, "%s", err.text);
    cr_assert(strstr(w.said, "000001.man: read up to edit"), "%s", w.said);
    cr_assert(strstr(w.said, "000002.man: under another master key\n"), "%s", w.said);
    cr_assert_eq(w.manifest.state.n_spaces, 2);
    cr_assert_gt(kv_keyring_current(w.manifest.keys), 0, "and its data keys are there");
    world_release(&w);
}

/* ---- each operation and each allocation failing */

static kv_status fail_nth(void *ctx, enum vfs_op op, const char *name, struct kv_err *err)
{
    struct world *w = ctx;
    (void)op;
    return --w->calls == 0 ? kv_fail(err, KV_IO, 5, "%s: the disk is gone", name ? name : "") : KV_OK;
}

static void sweep(bool memory, bool encrypted)
{
    const uint8_t *master = encrypted ? key_1 : NULL;
    bool fired = true;
    for (int nth = 1; fired; nth++) {
        struct world w;
        struct kv_err err = {0};
        world_init(&w);
        store(&w);
        if (encrypted) {
            copy_encrypted(&w, key_1, "000001.man");
            copy_encrypted(&w, key_1, "000002.man");
        }
        w.calls = nth;
        w.hook.before = memory ? NULL : fail_nth;
        if (memory)
            malloc_fault_arm((uint64_t)nth, false);
        kv_status rc = mend(&w, master, &err);
        fired = memory ? malloc_fault_disarm() : w.calls <= 0;
        if (fired) {
            cr_assert_eq(rc, memory ? KV_NO_MEMORY : KV_IO, "%d: %s", nth, kv_status_name(rc));
            cr_assert(memory ? err.text[0] != 0 : strstr(err.text, "the disk is gone") != NULL, "%d: %s", nth,
                      err.text);
        }
        w.hook.before = NULL;
        kv_manifest_close(&w.manifest);
        cr_assert_eq(mend(&w, master, &err), KV_OK, "%d: %s", nth, err.text);
        cr_assert_gt(w.manifest.state.edit, 1);
        world_release(&w);
    }
}

Test(manifest_mend, each_operation_fails)
{
    sweep(false, false);
}

Test(manifest_mend, each_allocation_fails)
{
    sweep(true, false);
    sweep(true, true);
}
