/*
 * Reading on in a manifest, over files made by hand: edits with right checksums that do not follow, files that went, were exchanged or belong
 * to another database. Each has its text, and the state stays at the last edit that was good.
 */
#include "tests/support/file_kit.h"
#include "tests/support/hook_dir.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/manifest_forge.h"

#include <criterion/criterion.h>
#include <stdio.h>

static const uint8_t master[KV_MASTER_KEY_LEN] = {5};

struct world {
    struct kv_vfs *vfs;
    struct kv_dir *under, *other; /* of "db" and "db2" */
    struct hook_dir hook;
    struct manifest_forge file, second;
    struct kv_manifest manifest;
    int calls; /* of a hook */
};

/* Edit 2 was read; edit 3 comes. */
static void world_init(struct world *w)
{
    *w = (struct world){.vfs = kv_vfs_mem_new()};
    cr_assert_eq(kv_vfs_dir_open(w->vfs, "db", true, &w->under, NULL), KV_OK);
    cr_assert_eq(kv_vfs_dir_open(w->vfs, "db2", true, &w->other, NULL), KV_OK);
    hook_dir_init(&w->hook, w->under);
    w->hook.ctx = w;
    manifest_forge_begin(&w->file, 1);
    manifest_forge_snapshot(&w->file, 1, 10);
    manifest_forge_seq(&w->file, 2, 20);
    manifest_forge_store(&w->file, w->vfs, "db", "000001.man");
    manifest_forge_publish(w->under, "000001.man");
    cr_assert_eq(kv_manifest_load(&w->manifest, &w->hook.base, NULL, NULL, NULL), KV_OK);
    cr_assert_eq(w->manifest.state.edit, 2);
    manifest_forge_begin(&w->second, 2);
    manifest_forge_snapshot(&w->second, 5, 10);
    manifest_forge_seq(&w->second, 6, 60);
}

static void world_release(struct world *w)
{
    kv_manifest_close(&w->manifest);
    manifest_forge_release(&w->file);
    manifest_forge_release(&w->second);
    kv_dir_close(w->under);
    kv_dir_close(w->other);
    kv_vfs_mem_free(w->vfs);
}

static void store(struct world *w)
{
    manifest_forge_store(&w->file, w->vfs, "db", "000001.man");
}

static void publish_second(struct world *w)
{
    manifest_forge_store(&w->second, w->vfs, "db", "000002.man");
    manifest_forge_publish(w->under, "000002.man");
}

/* ---- what comes between the load and the look */

static void nothing(struct world *w)
{
    (void)w;
}

static void an_edit(struct world *w)
{
    manifest_forge_seq(&w->file, 3, 30);
    store(w);
}

static void half_an_edit(struct world *w)
{
    manifest_forge_seq(&w->file, 3, 30);
    manifest_forge_seq(&w->file, 4, 40);
    w->file.bytes.len--;
    store(w);
}

static void a_gap(struct world *w)
{
    manifest_forge_seq(&w->file, 3, 30);
    manifest_forge_seq(&w->file, 5, 50);
    store(w);
}

static void an_edit_that_does_not_fit(struct world *w)
{
    struct kv_edit edit = {0};
    kv_edit_drop_table(&edit, 99);
    manifest_forge_seq(&w->file, 3, 30);
    manifest_forge_edit(&w->file, 4, &edit);
    store(w);
}

static void an_edit_of_a_newer_version(struct world *w)
{
    manifest_forge_frame(&w->file, 3, KV_STR("\x7e\x00"));
    store(w);
}

static void a_damaged_edit(struct world *w)
{
    manifest_forge_seq(&w->file, 3, 30);
    size_t at = w->file.bytes.len;
    manifest_forge_seq(&w->file, 4, 40);
    manifest_forge_seq(&w->file, 5, 50);
    w->file.bytes.data[at + 20] ^= 1;
    store(w);
}

static void no_file(struct world *w)
{
    file_kit_remove(w->vfs, "db", "000001.man");
}

static void another_file(struct world *w)
{
    manifest_forge_store(&w->second, w->vfs, "db", "000001.man");
}

static void half_a_header(struct world *w)
{
    file_kit_write(w->vfs, "db", "000001.man", kv_slice_of(w->file.bytes.data, 100));
}

static void an_encrypted_header(struct world *w)
{
    w->file.header.key_id = 77;
    store(w);
}

static void another_published(struct world *w)
{
    publish_second(w);
}

static void another_published_that_is_missing(struct world *w)
{
    manifest_forge_publish(w->under, "000002.man");
}

static void another_databases(struct world *w)
{
    manifest_forge_begin(&w->second, 2);
    w->second.header.uuid[0] ^= 1;
    manifest_forge_snapshot(&w->second, 5, 10);
    publish_second(w);
}

/* As old as this one, under another name. */
static void another_directory(struct world *w)
{
    manifest_forge_store(&w->second, w->vfs, "db2", "000002.man");
    manifest_forge_publish(w->other, "000002.man");
    w->hook.under = w->other;
}

static void nothing_published(struct world *w)
{
    w->hook.under = w->other;
}

/* Between the first look at the published name and the second. */
static kv_status goes_then(void *ctx, enum vfs_op op, const char *name, struct kv_err *err)
{
    struct world *w = ctx;
    (void)name;
    (void)err;
    if (op == VFS_OP_PUBLISHED && ++w->calls == 2)
        w->hook.under = w->other;
    return KV_OK;
}

static void another_published_that_goes(struct world *w)
{
    publish_second(w);
    w->hook.before = goes_then;
}

static const struct row {
    const char *what;
    void (*change)(struct world *w);
    kv_status expect;
    const char *text;
    uint64_t edit, seq; /* of the state then */
} rows[] = {
    {"nothing", nothing, KV_OK, "", 2, 20},
    {"an edit", an_edit, KV_OK, "", 3, 30},
    {"half an edit", half_an_edit, KV_OK, "", 3, 30},
    {"a gap", a_gap, KV_CORRUPT, "000001.man: edit 5 follows edit 3 at offset 239", 3, 30},
    {"an edit that does not fit", an_edit_that_does_not_fit, KV_CORRUPT,
     "000001.man: offset 239: the manifest drops table 000099, which it does not have", 3, 30},
    {"an edit of a newer version", an_edit_of_a_newer_version, KV_TOO_NEW,
     "000001.man: offset 216: manifest field 126 was written by a newer version", 2, 20},
    {"a damaged edit", a_damaged_edit, KV_CORRUPT,
     "000001.man: the manifest is damaged at offset 239: a valid edit follows at 262", 3, 30},
    {"no file", no_file, KV_CORRUPT, "000001.man is published but missing", 2, 20},
    {"another file", another_file, KV_CORRUPT, "000001.man: another file has taken its place", 2, 20},
    {"half a header", half_a_header, KV_CORRUPT,
     "the file ends at offset 100, 28 bytes short of what must be there", 2, 20},
    {"an encrypted header", an_encrypted_header, KV_WRONG_KEY, "000001.man is encrypted and no key was given",
     2, 20},
    {"another published", another_published, KV_OK, "", 6, 60},
    {"another published that is missing", another_published_that_is_missing, KV_CORRUPT,
     "000002.man is published but missing", 2, 20},
    {"another database's", another_databases, KV_INVALID, "000002.man is another database's", 2, 20},
    {"another directory", another_directory, KV_OK, "", 6, 60},
    {"nothing published", nothing_published, KV_MISSING, "no manifest is published any more", 2, 20},
    {"another published that goes", another_published_that_goes, KV_MISSING,
     "no manifest is published any more", 2, 20},
};

Test(manifest_follow, every_rule_has_its_text_and_the_state_stays_at_the_last_good_edit)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *row = &rows[i];
        struct world w;
        struct kv_err err = {0};
        world_init(&w);
        row->change(&w);
        kv_status rc = kv_manifest_follow(&w.manifest, &err);
        cr_expect_eq(rc, row->expect, "%s: %s: %s", row->what, kv_status_name(rc), err.text);
        cr_expect(strstr(err.text, row->text) != NULL, "%s: \"%s\"", row->what, err.text);
        cr_expect(rc == KV_OK || err.text[0], "%s", row->what);
        cr_expect_eq(w.manifest.state.edit, row->edit, "%s", row->what);
        cr_expect_eq(w.manifest.state.last_seq, row->seq, "%s", row->what);
        cr_expect_eq(w.manifest.state.n_spaces, 1, "%s", row->what);
        world_release(&w);
    }
}

/* A data key that no master key of ours has wrapped. */
Test(manifest_follow, a_data_key_that_cannot_be_unwrapped)
{
    struct world w;
    struct kv_err err = {0};
    struct kv_edit edit = {0};
    world_init(&w);
    cr_assert_eq(kv_manifest_follow(&w.manifest, &err), KV_OK, "%s", err.text);
    kv_manifest_close(&w.manifest);
    kv_edit_data_key(&edit, &(struct kv_data_key){.id = 1, .created_ms = 1});
    manifest_forge_edit(&w.file, 3, &edit);
    cr_assert_eq(kv_manifest_load(&w.manifest, &w.hook.base, NULL, NULL, NULL), KV_OK);
    store(&w);
    cr_assert_eq(kv_keyring_new(master, w.file.header.uuid, &w.manifest.keys), KV_OK);
    kv_status rc = kv_manifest_follow(&w.manifest, &err);
    cr_assert_eq(rc, KV_CORRUPT, "%s", kv_status_name(rc));
    cr_assert(strstr(err.text, "data key 1 of the manifest is damaged"), "%s", err.text);
    cr_assert_eq(w.manifest.state.n_spaces, 1);
    world_release(&w);
}

/* ---- each operation and each allocation failing; the next look finds it all */

static kv_status fail_nth(void *ctx, enum vfs_op op, const char *name, struct kv_err *err)
{
    struct world *w = ctx;
    (void)op;
    return --w->calls == 0 ? kv_fail(err, KV_IO, 5, "%s: the disk is gone", name ? name : "") : KV_OK;
}

static void sweep(void (*change)(struct world *w), uint64_t edit, bool memory)
{
    bool fired = true;
    for (int nth = 1; fired; nth++) {
        struct world w;
        struct kv_err err = {0};
        world_init(&w);
        change(&w);
        w.calls = nth;
        w.hook.before = memory ? NULL : fail_nth;
        if (memory)
            malloc_fault_arm((uint64_t)nth, false);
        kv_status rc = kv_manifest_follow(&w.manifest, &err);
        fired = memory ? malloc_fault_disarm() : w.calls <= 0;
        if (fired) {
            cr_assert_eq(rc, memory ? KV_NO_MEMORY : KV_IO, "%d: %s", nth, kv_status_name(rc));
            cr_assert(strstr(err.text, memory ? "memory" : "the disk is gone"), "%d: %s", nth, err.text);
        }
        w.hook.before = NULL;
        cr_assert(w.manifest.state.edit == 2 || w.manifest.state.edit == edit);
        cr_assert_eq(kv_manifest_follow(&w.manifest, &err), KV_OK, "%d: %s", nth, err.text);
        cr_assert_eq(w.manifest.state.edit, edit);
        world_release(&w);
    }
}

Test(manifest_follow, each_operation_fails)
{
    sweep(an_edit, 3, false);
    sweep(another_published, 6, false);
}

Test(manifest_follow, each_allocation_fails)
{
    sweep(an_edit, 3, true);
    sweep(another_published, 6, true);
}
