/* A repository of backups: whose names are whose, containers that stand for another, and everything with each failure. */
#include "kvcore/base/mem.h"
#include "tests/support/box_kit.h"
#include "tests/support/file_kit.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

static const struct kv_repository repo = {.path = "backups"};

Test(repository, a_repository_knows_its_names)
{
    static const struct {
        const char *name;
        bool ours;
    } rows[] = {
        {"000001.bak", true},
        {"1234567890.cat", true},
        {"0123456789abcdef0123456789abcdef-1f.copy", true},
        {"0123456789abcdef0123456789abcdef-1f.pack", true},
        {"0123456789abcdef0123456789abcdef-1f.zip", false},
        {"0123456789abcdef0123456789abcdef-01f.copy", false},
        {"0123456789abcdef0123456789abcdef-.copy", false},
        {"0123456789abcdef0123456789abcdef-1g.copy", false},
        {"0123456789abcdef0123456789abcdef-1234567890123456a.copy", false},
        {"0123456789Abcdef0123456789abcdef-1f.copy", false},
        {"0123456789.bcdef0123456789abcdef-1f.copy", false},
        {"0123456789abcdef_123456789abcdef-1f.copy", false},
        {"0123456789abcdef0123456789abcde-1f.copy", false},
        {"0123456789abcdef0123456789abcdef-1f-copy", false},
        {"01.bak", false},
        {"000001.bak2", false},
        {"99999999999999999999999999.cat", false},
        {"readme.txt", false},
        {"README", false},
        {"0000000000000000000000000000000000000000000000000000000000000000", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct kv_kit kit;
        kv_kit_init(&kit, NULL);
        kv_kit_must_open(&kit);
        struct kv_dir *dir = NULL;
        kv_kit_put(&kit, 0, "k", "v");
        cr_assert_eq(kv_vfs_dir_open(kit.vfs, "backups", true, &dir, NULL), KV_OK);
        kv_dir_close(dir);
        file_kit_write(kit.vfs, "backups", rows[i].name, KV_STR("left here"));
        kv_status rc = backup_to(&kit, &repo, NULL);
        cr_assert_eq(rc, rows[i].ours ? KV_OK : KV_INVALID, "%s: %s", rows[i].name, kit.err.text);
        if (!rows[i].ours) {
            cr_assert(strstr(kit.err.text, "holds something else than backups") &&
                          strstr(kit.err.text, rows[i].name),
                      "%s", kit.err.text);
            /* where backups are already, it is let be */
            file_kit_remove(kit.vfs, "backups", rows[i].name);
            cr_assert_eq(backup_to(&kit, &repo, NULL), KV_OK, "%s", kit.err.text);
            file_kit_write(kit.vfs, "backups", rows[i].name, KV_STR("left here"));
            cr_assert_eq(backup_to(&kit, &repo, NULL), KV_OK, "%s", kit.err.text);
        }
        cr_assert_eq(file_kit_has(kit.vfs, "backups", rows[i].name) && i > 0, !rows[i].ours, "%s",
                     rows[i].name);
        cr_assert_eq(backup_verify(&kit, &repo), KV_OK, "%s", kit.err.text);
        kv_kit_release(&kit);
    }
}

Test(repository, what_no_backup_needs_goes_with_the_next_change)
{
    static const char *const leftovers[] = {"000000.bak", "000077.bak", "000099.cat",
                                            "0123456789abcdef0123456789abcdef-1f.copy"};
    struct kv_kit kit;
    struct kv_buf names = {0};
    char other[80];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "k", "v");
    cr_assert_eq(backup_to(&kit, &repo, NULL), KV_OK);
    for (size_t i = 0; i < sizeof leftovers / sizeof *leftovers; i++)
        file_kit_write(kit.vfs, "backups", leftovers[i], KV_STR("left here"));
    cr_assert_gt(file_kit_list(kit.vfs, "backups", ".pack", &names), 0);
    snprintf(other, sizeof other, "%s", (const char *)names.data);
    memcpy(other + strlen(other) - 4, "copy", 4); /* the same content in another form */
    file_kit_write(kit.vfs, "backups", other, KV_STR("left here"));
    kv_kit_put(&kit, 0, "k", "w");
    cr_assert_eq(backup_to(&kit, &repo, NULL), KV_OK, "%s", kit.err.text);
    for (size_t i = 0; i < sizeof leftovers / sizeof *leftovers; i++)
        cr_assert_not(file_kit_has(kit.vfs, "backups", leftovers[i]), "%s", leftovers[i]);
    cr_assert_not(file_kit_has(kit.vfs, "backups", other));
    cr_assert_eq(backup_verify(&kit, &repo), KV_OK, "%s", kit.err.text);
    kv_buf_release(&names);
    kv_kit_release(&kit);
}

/* A container of the repository forged under the identity the catalog or the list knows. */
static void forge_container(struct kv_kit *kit, const char *name, bool other_uid, int kind, kv_slice payload)
{
    struct kv_buf before = {0};
    struct kv_file_header header;
    struct box box;
    file_kit_read(kit->vfs, "backups", name, &before);
    kv_file_header_decode(before.data, &header);
    box_open(&box);
    header.uid[0] ^= other_uid;
    memcpy(box.frames.uid, header.uid, sizeof header.uid);
    kv_file_header_encode(&header, box.out.bytes.data);
    box_put(&box, kind, payload);
    box_finish(&box);
    file_kit_write(kit->vfs, "backups", name, kv_buf_slice(&box.out.bytes));
    box_release(&box);
    kv_buf_release(&before);
}

Test(repository, containers_of_a_repository_are_what_they_stand_for)
{
    static const struct {
        const char *suffix, *said;
        int kind;    /* -1: the file is removed */
        bool listed; /* its payload is a list, of another backup */
        bool other_uid;
    } rows[] = {
        {".bak", "a frame that does not belong here", KV_FRAME_CATALOG, false, false},
        {".bak", "is not the file the catalog knows", KV_FRAME_MANIFEST, true, true},
        {".bak", "it is another backup's", KV_FRAME_MANIFEST, true, false},
        {".bak", "the list of a backup's files cannot be read", KV_FRAME_MANIFEST, false, false},
        {".bak", "is missing", -1, false, false},
        {".cat", "is missing", -1, false, false},
        {".cat", "a frame that does not belong here", KV_FRAME_MANIFEST, false, false},
        {".cat", "the catalog of backups cannot be read", KV_FRAME_CATALOG, false, false},
        {".pack", "a frame out of place", KV_FRAME_MANIFEST, false, false},
        {".pack", "another length or sum", KV_FRAME_DATA, false, false},
        {".pack", "is missing: the copy of", -1, false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct kv_kit kit;
        struct kv_buf names = {0}, fields = {0};
        struct kv_backup_set set;
        kv_kit_init(&kit, NULL);
        kv_kit_must_open(&kit);
        kv_kit_put(&kit, 0, "k", "v");
        cr_assert_eq(backup_to(&kit, &repo, NULL), KV_OK);
        cr_assert_gt(file_kit_list(kit.vfs, "backups", rows[i].suffix, &names), 0);
        const char *name = (const char *)names.data;
        box_set(&set, KV_FORM_PLAIN);
        cr_assert_eq(kv_set_encode(&set, true, &fields), KV_OK);
        if (rows[i].kind < 0)
            file_kit_remove(kit.vfs, "backups", name);
        else
            forge_container(&kit, name, rows[i].other_uid, rows[i].kind,
                            rows[i].listed ? kv_buf_slice(&fields) : KV_STR("\4"));
        cr_assert_eq(backup_verify(&kit, &repo), KV_CORRUPT, "row %zu", i);
        cr_assert(strstr(kit.err.text, rows[i].said), "row %zu: %s", i, kit.err.text);
        cr_assert_eq(backup_restore(&kit, &repo, 1, "copy"), KV_CORRUPT, "row %zu", i);
        if (rows[i].kind != KV_FRAME_DATA) /* a restore may say it in other words */
            cr_assert(strstr(kit.err.text, rows[i].said), "row %zu: %s", i, kit.err.text);
        cr_assert_neq(backup_restore(&kit, &repo, 1, "copy"), KV_EXISTS, "nothing stays of it");
        cr_assert_eq(backup_to(&kit, &repo, NULL) == KV_OK, rows[i].suffix[1] == 'p', "row %zu: %s", i,
                     kit.err.text);
        kv_set_release(&set);
        kv_buf_release(&fields);
        kv_buf_release(&names);
        kv_kit_release(&kit);
    }
}

static void count_line(void *ctx, kv_status severity, const char *line)
{
    size_t *counts = ctx;
    cr_assert(line[0]);
    counts[severity < 0]++;
}

static void count_backup(void *ctx, const struct kv_backup_info *info)
{
    *(size_t *)ctx += info->number;
}

Test(repository, verifying_listing_and_removing_by_number)
{
    struct kv_kit kit;
    struct kv_restore_options options = {.repository = &repo};
    struct kv_archive_cipher cipher = {.ctx = NULL};
    size_t counts[2] = {0}, sum = 0;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_backup_list(kit.env, &repo, count_backup, &sum, &kit.err), KV_MISSING);
    cr_assert_eq(kv_backup_keep(kit.env, &(struct kv_repository){.path = "db"}, 1, &kit.err), KV_BUSY);
    for (int i = 0; i < 3; i++) {
        kv_kit_put(&kit, 0, "k", "v");
        cr_assert_eq(backup_to(&kit, &repo, NULL), KV_OK);
    }
    for (options.number = 0; options.number <= 3; options.number++) {
        counts[0] = counts[1] = 0;
        cr_assert_eq(kv_backup_verify(kit.env, &options, count_line, counts, &kit.err), KV_OK, "%s",
                     kit.err.text);
        cr_assert(counts[0] > 0 && counts[1] == 0);
    }
    cr_assert_eq(kv_backup_verify(kit.env, &options, count_line, counts, &kit.err), KV_MISSING);
    cr_assert(strstr(kit.err.text, "has no backup 4"), "%s", kit.err.text);
    cr_assert_eq(kv_backup_verify(kit.env, &options, count_line, counts, NULL), KV_MISSING,
                 "nobody asks why");
    options.cipher = &cipher;
    cr_assert_eq(kv_backup_verify(kit.env, &options, count_line, counts, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "cipher is for archives"), "%s", kit.err.text);
    options.cipher = NULL;
    /* two damaged copies are two findings */
    struct kv_buf names = {0};
    size_t n = file_kit_list(kit.vfs, "backups", ".pack", &names);
    cr_assert_geq(n, 3);
    const char *name = (const char *)names.data;
    for (int i = 0; i < 2; i++, name += strlen(name) + 1)
        file_kit_flip(kit.vfs, "backups", name, 150);
    counts[0] = counts[1] = 0;
    options.number = 0;
    cr_assert_eq(kv_backup_verify(kit.env, &options, count_line, counts, &kit.err), KV_CORRUPT);
    cr_assert(counts[1] == 2 && counts[0] == n - 2 && strstr(kit.err.text, "2 findings, the first: "), "%s",
              kit.err.text);
    cr_assert_eq(kv_backup_verify(kit.env, &options, NULL, NULL, NULL), KV_CORRUPT);
    kv_buf_release(&names);
    cr_assert_eq(kv_backup_remove(kit.env, &repo, 0, &kit.err), KV_INVALID);
    cr_assert_eq(kv_backup_remove(kit.env, &repo, 9, &kit.err), KV_MISSING);
    cr_assert_eq(kv_backup_keep(kit.env, &repo, 0, &kit.err), KV_INVALID);
    cr_assert_eq(kv_backup_keep(kit.env, &repo, 9, &kit.err), KV_OK);
    cr_assert_eq(kv_backup_list(kit.env, &repo, count_backup, &sum, &kit.err), KV_OK);
    cr_assert_eq(sum, 6);
    for (uint64_t number = 1; number <= 3; number++)
        cr_assert_eq(kv_backup_remove(kit.env, &repo, number, &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(backup_restore(&kit, &repo, 0, "copy"), KV_MISSING);
    cr_assert(strstr(kit.err.text, "has no backups"), "%s", kit.err.text);
    kv_kit_release(&kit);
}

/* Everything that is done to a repository, with each operation of the disk and each allocation failing. */
static kv_status all_of_it(struct kv_kit *kit, const struct kv_repository *where)
{
    struct kv_restore_options options = {.repository = where};
    size_t sum = 0;
    kv_status rc;
    KV_TRY(backup_to(kit, where, NULL));
    KV_TRY(kv_backup_verify(kit->env, &options, NULL, NULL, &kit->err));
    options.number = 1;
    KV_TRY(kv_backup_verify(kit->env, &options, NULL, NULL, &kit->err));
    KV_TRY(kv_backup_list(kit->env, where, count_backup, &sum, &kit->err));
    KV_TRY(kv_restore(kit->env, "copy", &options, NULL, &kit->err));
    KV_TRY(kv_backup_keep(kit->env, where, 1, &kit->err));
out:
    return rc;
}

static void repository_with_failures(bool memory, bool plain)
{
    for (uint64_t nth = 1;; nth += nth < 150 ? 1 : 1 + nth / 40) {
        struct kv_kit kit;
        struct kv_vfs *disk = kv_vfs_mem_new();
        struct vfs_fault *fault = vfs_fault_new(disk);
        struct kv_repository where = {.path = "backups", .vfs = vfs_fault_as_vfs(fault)};
        struct kv_backup_options first = {.repository = &where,
                                          .compression = plain ? KV_COMPRESSION_NONE : KV_COMPRESSION_ZSTD};
        kv_kit_init(&kit, NULL);
        kv_kit_must_open(&kit);
        kv_kit_put(&kit, 0, "k", "v");
        cr_assert_eq(kv_backup(kit.db, &first, NULL, &kit.err), KV_OK);
        kv_mem_exact = memory;
        if (memory)
            malloc_fault_arm(nth, false);
        else
            vfs_fault_plan(fault, &(struct vfs_fault_plan){.nth = nth, .kind = VFS_FAULT_SHORT_EIO});
        kv_status rc = all_of_it(&kit, &where);
        bool fired = memory ? malloc_fault_disarm() : vfs_fault_fired(fault);
        kv_mem_exact = false;
        vfs_fault_plan(fault, NULL);
        cr_assert(rc == KV_OK || (fired && kit.err.text[0]), "%d: %s: %s", (int)nth, kv_status_name(rc),
                  kit.err.text);
        cr_assert_eq(backup_verify(&kit, &where), KV_OK, "%d: %s", (int)nth, kit.err.text);
        cr_assert_eq(kv_backup(kit.db, &first, NULL, &kit.err), KV_OK, "%d: %s", (int)nth, kit.err.text);
        kv_kit_release(&kit);
        vfs_fault_free(fault);
        kv_vfs_mem_free(disk);
        if (!fired)
            break;
    }
}

Test(repository, any_operation_on_a_repository_fails, .timeout = 120)
{
    repository_with_failures(false, false);
    repository_with_failures(false, true);
}

Test(repository, memory_runs_out_anywhere_with_a_repository, .timeout = 240)
{
    repository_with_failures(true, false);
    repository_with_failures(true, true);
}
