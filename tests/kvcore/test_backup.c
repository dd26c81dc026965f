/* Backups that work: what is in them, what they share, what restoring them gives. What fails: test_backup_faults.c. */
#include "tests/support/backup_kit.h"
#include "kvcore/os/vfs.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { TEXT = 4000 };
static const struct kv_repository repo = {.path = "backups"};

static void must(struct kv_kit *kit, kv_status rc)
{
    cr_assert_eq(rc, KV_OK, "%s: %s", kv_status_name(rc), kit->err.text);
}

static void flush(struct kv_kit *kit)
{
    must(kit, kv_flush(kit->db, &kit->err));
}

static void fill(struct kv_kit *kit)
{
    kv_kit_put(kit, 0, "table", "1");
    flush(kit);
    kv_kit_put(kit, 0, "log", "2");
    kv_kit_put(kit, 1, "other", "3");
}

Test(backup, holds_everything_answered_before_it_and_nothing_after)
{
    struct kv_kit kit;
    struct kv_backup_info info;
    char text[TEXT];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    uint64_t version = kv_seq(kit.db);
    must(&kit, backup_to(&kit, &repo, &info));
    cr_assert(info.number == 1 && info.version == version && info.added_files == info.files &&
              info.bytes > 0);
    kv_kit_put(&kit, 0, "later", "4");
    kv_kit_delete(&kit, 0, "table");
    kv_kit_close(&kit);
    must(&kit, backup_verify(&kit, &repo));
    must(&kit, backup_restore(&kit, &repo, 1, "copy"));
    backup_check(&kit, "copy");
    cr_assert_str_eq(backup_content_of(&kit, "copy", text, sizeof text), "a:log=2 table=1 b:other=3");
    cr_assert_str_eq(backup_content_of(&kit, "db", text, sizeof text), "a:later=4 log=2 b:other=3");
    backup_check(&kit, "copy");
    kv_kit_release(&kit);
}

Test(backup, a_restored_database_is_the_same_one_with_a_new_owner)
{
    struct kv_kit kit;
    uint8_t uuid[16], again[16];
    struct kv_records *cursor = NULL;
    kv_slice record;
    uint64_t seq, version;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    must(&kit, kv_kit_try_record(&kit, "record", &version));
    kv_uuid(kit.db, uuid);
    must(&kit, backup_to(&kit, &repo, NULL));
    kv_kit_close(&kit);
    must(&kit, backup_restore(&kit, &repo, 0, "copy"));
    kit.path = "copy";
    kv_kit_must_open(&kit);
    kv_uuid(kit.db, again);
    cr_assert_arr_eq(uuid, again, sizeof uuid);
    cr_assert_eq(kv_seq(kit.db), version);
    must(&kit, kv_records_open(kit.db, &cursor, &kit.err));
    must(&kit, kv_records_next(cursor, &seq, &record, &kit.err));
    cr_assert(seq == version && kv_slice_equal(record, KV_STR("record")));
    kv_records_close(cursor);
    kv_kit_put(&kit, 0, "written", "to the copy");
    kv_kit_reopen(&kit);
    cr_assert(kv_kit_is(&kit, NULL, 0, "written", "to the copy"));
    kv_kit_release(&kit);
}

Test(backup, an_incremental_copies_only_what_the_repository_lacks)
{
    struct kv_kit kit;
    struct kv_backup_info first, second, third;
    char text[TEXT];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    must(&kit, backup_to(&kit, &repo, &first));
    must(&kit, backup_to(&kit, &repo, &second));
    cr_assert(second.number == 2 && second.added_files == 1 && /* its manifest */
              second.files == first.files);
    kv_kit_put(&kit, 1, "more", "5");
    must(&kit, backup_to(&kit, &repo, &third));
    cr_assert(third.added_files == 2 && third.files == first.files + 1);
    kv_kit_close(&kit);
    for (uint64_t n = 1; n <= 3; n++) {
        char path[16];
        snprintf(path, sizeof path, "copy%d", (int)n);
        must(&kit, backup_restore(&kit, &repo, n, path));
        backup_content_of(&kit, path, text, sizeof text);
        cr_assert_str_eq(text, n < 3 ? "a:log=2 table=1 b:other=3" : "a:log=2 table=1 b:more=5 other=3");
    }
    kv_kit_release(&kit);
}

Test(badger_themes, backups_do_not_resurrect_keys)
{
    /* badger 521, 739, 401: a key deleted between two backups came back with the second. 2060: what was written right after the first
     * was missing from it. */
    struct kv_kit kit;
    char text[TEXT];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "kept", "1");
    kv_kit_put(&kit, 0, "deleted", "1");
    kv_kit_put(&kit, 0, "deleted and merged", "1");
    flush(&kit);
    must(&kit, backup_to(&kit, &repo, NULL));
    kv_kit_put(&kit, 0, "right after", "2");
    kv_kit_delete(&kit, 0, "deleted and merged");
    flush(&kit);
    must(&kit, kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""),
                              &kit.err)); /* no tombstone is left to be exported */
    kv_kit_delete(&kit, 0, "deleted");
    must(&kit, backup_to(&kit, &repo, NULL));
    kv_kit_close(&kit);
    must(&kit, backup_restore(&kit, &repo, 2, "copy"));
    cr_assert_str_eq(backup_content_of(&kit, "copy", text, sizeof text), "a:kept=1 right after=2 b:");
    must(&kit, backup_restore(&kit, &repo, 1, "older"));
    cr_assert_str_eq(backup_content_of(&kit, "older", text, sizeof text),
                     "a:deleted=1 deleted and merged=1 kept=1 b:");
    kv_kit_release(&kit);
}

static size_t files_of(struct kv_kit *kit, const char *suffix)
{
    const char *own = kit->path;
    kit->path = repo.path;
    size_t n = kv_kit_files(kit, suffix);
    kit->path = own;
    return n;
}

struct listing {
    char text[200];
};

static void list_one(void *ctx, const struct kv_backup_info *info)
{
    struct listing *list = ctx;
    size_t n = strlen(list->text);
    snprintf(list->text + n, sizeof list->text - n, "%d@%d ", (int)info->number, (int)info->version);
}

static const char *list(struct kv_kit *kit, struct listing *out)
{
    out->text[0] = 0;
    must(kit, kv_backup_list(kit->env, &repo, list_one, out, &kit->err));
    return out->text;
}

Test(backup, removing_one_leaves_the_files_that_others_need)
{
    struct kv_kit kit;
    struct listing text;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    for (int i = 0; i < 5; i++) {
        kv_kit_put(&kit, 0, (char[]){(char)('a' + i), 0}, "1");
        flush(&kit);
        must(&kit, backup_to(&kit, &repo, NULL));
    }
    cr_assert_str_eq(list(&kit, &text), "1@1 2@2 3@3 4@4 5@5 ");
    must(&kit, kv_backup_remove(kit.env, &repo, 3, &kit.err));
    cr_assert_eq(kv_backup_remove(kit.env, &repo, 3, &kit.err), KV_MISSING);
    cr_assert_str_eq(list(&kit, &text), "1@1 2@2 4@4 5@5 ");
    must(&kit, backup_verify(&kit, &repo));
    must(&kit, kv_backup_keep(kit.env, &repo, 2, &kit.err));
    must(&kit, kv_backup_keep(kit.env, &repo, 7, &kit.err));
    cr_assert_str_eq(list(&kit, &text), "4@4 5@5 ");
    must(&kit, backup_verify(&kit, &repo));
    must(&kit, kv_backup_remove(kit.env, &repo, 4, &kit.err));
    must(&kit, kv_backup_remove(kit.env, &repo, 5, &kit.err));
    cr_assert_eq(files_of(&kit, "pack"), 0);
    cr_assert_eq(files_of(&kit, ""), 1); /* a catalog of nothing, so that no number is used again */
    struct kv_backup_info info;
    must(&kit, backup_to(&kit, &repo, &info));
    cr_assert_eq(info.number, 6);
    cr_assert_eq(kv_backup_remove(kit.env, &repo, 0, &kit.err), KV_INVALID);
    cr_assert_eq(kv_backup_keep(kit.env, &repo, 0, &kit.err), KV_INVALID);
    kv_kit_release(&kit);
}

Test(backup, keeps_the_newest_n_when_asked)
{
    struct kv_kit kit;
    struct listing text;
    struct kv_backup_options options = {.repository = &repo, .keep = 2};
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    for (int i = 0; i < 5; i++) {
        kv_kit_put(&kit, 0, "key", (char[]){(char)('0' + i), 0});
        flush(&kit);
        must(&kit, kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""), &kit.err));
        must(&kit, kv_backup(kit.db, &options, NULL, &kit.err));
    }
    cr_assert_str_eq(list(&kit, &text), "4@4 5@5 ");
    cr_assert_eq(files_of(&kit, "bak"), 2);
    cr_assert_eq(files_of(&kit, "cat"), 1);
    must(&kit, backup_verify(&kit, &repo));
    kv_kit_release(&kit);
}

Test(backup, plain_copies_are_the_files_themselves)
{
    struct kv_kit kit;
    struct kv_backup_info info;
    struct kv_backup_options options = {.repository = &repo, .compression = KV_COMPRESSION_NONE};
    char text[TEXT];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    must(&kit, kv_backup(kit.db, &options, &info, &kit.err));
    cr_assert_eq(info.added_bytes, info.bytes);
    cr_assert_eq(files_of(&kit, "copy"), info.files);
    must(&kit, backup_to(&kit, &repo, &info)); /* another compression changes nothing about what is there */
    cr_assert_eq(info.added_files, 1);
    must(&kit, backup_verify(&kit, &repo));
    kv_kit_close(&kit);
    must(&kit, backup_restore(&kit, &repo, 2, "copy"));
    cr_assert_str_eq(backup_content_of(&kit, "copy", text, sizeof text), "a:log=2 table=1 b:other=3");
    kv_kit_release(&kit);
}

Test(backup, a_repository_may_live_on_another_vfs_and_under_a_cipher)
{
    struct kv_kit kit;
    struct kv_vfs *elsewhere = kv_vfs_mem_new();
    static const uint8_t key[16] = "sixteen letters", other_key[16] = "sixteen lettres";
    struct kv_archive_cipher cipher = backup_cipher(key), wrong = backup_cipher(other_key);
    struct kv_repository sealed = {.path = "safe", .vfs = elsewhere, .cipher = &cipher};
    char text[TEXT];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    must(&kit, backup_to(&kit, &sealed, NULL));
    kv_kit_close(&kit);
    must(&kit, backup_restore(&kit, &sealed, 0, "copy"));
    cr_assert_str_eq(backup_content_of(&kit, "copy", text, sizeof text), "a:log=2 table=1 b:other=3");
    sealed.cipher = NULL;
    cr_assert_eq(backup_restore(&kit, &sealed, 0, "copy2"), KV_UNSUPPORTED);
    sealed.cipher = &wrong;
    cr_assert_eq(backup_restore(&kit, &sealed, 0, "copy2"), KV_CORRUPT);
    kv_kit_release(&kit);
    kv_vfs_mem_free(elsewhere);
}

Test(backup, of_an_encrypted_database_holds_nothing_plain_and_needs_its_key_to_be_opened)
{
    struct kv_kit kit;
    static const uint8_t master[KV_MASTER_KEY_LEN] = "a master key of thirty-two bytes";
    struct backup_bytes a = {0};
    struct kv_sink sink = backup_bytes_sink(&a);
    struct kv_backup_options plain = {.repository = &repo, .compression = KV_COMPRESSION_NONE};
    char text[TEXT];
    kv_kit_init(&kit, NULL);
    kit.options.key.master_key = master;
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "a secret key", "a secret value");
    flush(&kit);
    kv_kit_put(&kit, 0, "a secret key in the log", "a secret value");
    must(&kit, kv_backup(kit.db, &plain, NULL, &kit.err));
    must(&kit,
         kv_backup(kit.db, &(struct kv_backup_options){.archive = &sink, .compression = KV_COMPRESSION_NONE},
                   NULL, &kit.err));
    cr_assert_null(memmem(a.bytes.data, a.bytes.len, "secret", 6));
    kv_kit_close(&kit);
    must(&kit, backup_verify(&kit, &repo));
    must(&kit, backup_restore(&kit, &repo, 0, "copy"));
    cr_assert_str_eq(backup_content_of(&kit, "copy", text, sizeof text),
                     "a:a secret key=a secret value a secret key in the log=a secret value b:");
    kit.options.key.master_key = NULL;
    kit.path = "copy";
    cr_assert_eq(kv_kit_open(&kit), KV_WRONG_KEY);
    backup_bytes_release(&a);
    kv_kit_release(&kit);
}

/* ---- archives */

static kv_status archive(struct kv_kit *kit, struct backup_bytes *out, kv_slice base, struct kv_buf *receipt)
{
    struct kv_sink sink = backup_bytes_sink(out);
    struct kv_backup_options options = {.archive = &sink, .base = base, .receipt = receipt};
    return kv_backup(kit->db, &options, NULL, &kit->err);
}

static kv_status unarchive(struct kv_kit *kit, struct backup_bytes *const *from, size_t n, const char *path)
{
    struct kv_source sources[4];
    struct kv_restore_options options = {.archives = sources, .n_archives = n};
    for (size_t i = 0; i < n; i++)
        sources[i] = backup_bytes_source(from[i]);
    struct kv_env *env = backup_env(kit);
    kv_status rc = kv_restore(env, path, &options, NULL, &kit->err);
    if (env != kit->env)
        kv_env_close(env);
    return rc;
}

Test(backup, an_archive_is_one_stream_of_everything)
{
    struct kv_kit kit;
    struct backup_bytes a = {.read_max = 7};
    char text[TEXT];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    must(&kit, archive(&kit, &a, (kv_slice){0}, NULL));
    kv_kit_close(&kit);
    must(&kit, unarchive(&kit, (struct backup_bytes *[]){&a}, 1, "copy"));
    backup_check(&kit, "copy");
    cr_assert_str_eq(backup_content_of(&kit, "copy", text, sizeof text), "a:log=2 table=1 b:other=3");
    backup_bytes_release(&a);
    kv_kit_release(&kit);
}

Test(backup, archives_build_upon_one_another)
{
    struct kv_kit kit;
    struct backup_bytes a = {0}, b = {0}, c = {0};
    struct kv_buf ra = {0}, rb = {0};
    char text[TEXT];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    must(&kit, archive(&kit, &a, (kv_slice){0}, &ra));
    kv_kit_put(&kit, 0, "second", "2");
    must(&kit, archive(&kit, &b, kv_buf_slice(&ra), &rb));
    kv_kit_delete(&kit, 0, "table");
    flush(&kit);
    must(&kit, kv_merge_range(kit.db, 0, KV_STR(""), KV_STR(""), &kit.err));
    kv_kit_put(&kit, 0, "third", "3");
    must(&kit, archive(&kit, &c, kv_buf_slice(&rb), NULL));
    kv_kit_close(&kit);
    must(&kit, unarchive(&kit, (struct backup_bytes *[]){&a, &b, &c}, 3, "c"));
    cr_assert_str_eq(backup_content_of(&kit, "c", text, sizeof text), "a:log=2 second=2 third=3 b:other=3");
    backup_check(&kit, "c");
    must(&kit, unarchive(&kit, (struct backup_bytes *[]){&a, &b}, 2, "b"));
    cr_assert_str_eq(backup_content_of(&kit, "b", text, sizeof text), "a:log=2 second=2 table=1 b:other=3");
    must(&kit, unarchive(&kit, (struct backup_bytes *[]){&a}, 1, "a"));
    cr_assert_eq(unarchive(&kit, (struct backup_bytes *[]){&b}, 1, "x"), KV_INVALID);
    cr_assert_eq(unarchive(&kit, (struct backup_bytes *[]){&a, &c}, 2, "x"), KV_INVALID);
    cr_assert_eq(unarchive(&kit, (struct backup_bytes *[]){&b, &a}, 2, "x"), KV_INVALID);
    must(&kit, unarchive(&kit, (struct backup_bytes *[]){&a}, 1, "x")); /* the failures left nothing behind */
    kv_buf_release(&ra);
    kv_buf_release(&rb);
    backup_bytes_release(&a);
    backup_bytes_release(&b);
    backup_bytes_release(&c);
    kv_kit_release(&kit);
}

/* ---- a database that is open read-only, or was not closed */

Test(backup, a_database_that_crashed_can_be_backed_up_without_writing_to_it)
{
    struct kv_kit kit;
    char text[TEXT];
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    struct kv_vfs *clone = kv_vfs_mem_crash_clone(kit.own);
    kv_kit_close(&kit);
    kv_vfs_mem_free(kit.own);
    kit.own = kit.vfs = clone;
    kit.options.read_only = true;
    kv_kit_must_open(&kit);
    must(&kit, backup_to(&kit, &repo, NULL));
    kv_kit_close(&kit);
    kit.options.read_only = false;
    must(&kit, backup_restore(&kit, &repo, 0, "copy"));
    backup_check(&kit, "copy");
    cr_assert_str_eq(backup_content_of(&kit, "copy", text, sizeof text), "a:log=2 table=1 b:other=3");
    kv_kit_release(&kit);
}

/* ---- progress, options */

struct watch {
    struct kv_progress last;
    uint64_t calls, cancel_at;
};

static kv_status watch_progress(void *ctx, const struct kv_progress *progress)
{
    struct watch *watch = ctx;
    cr_assert(progress->bytes_done >= watch->last.bytes_done &&
              progress->files_done >= watch->last.files_done);
    watch->last = *progress;
    return ++watch->calls == watch->cancel_at ? KV_CANCELED : KV_OK;
}

Test(backup, progress_ends_at_its_total_and_may_cancel)
{
    struct kv_kit kit;
    struct watch watch = {0};
    struct kv_backup_options options = {
        .repository = &repo, .progress = watch_progress, .progress_ctx = &watch};
    struct kv_restore_options back = {
        .repository = &repo, .progress = watch_progress, .progress_ctx = &watch};
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    watch.cancel_at = 2;
    cr_assert_eq(kv_backup(kit.db, &options, NULL, &kit.err), KV_CANCELED);
    cr_assert_eq(
        kv_backup_verify(kit.env, &(struct kv_restore_options){.repository = &repo}, NULL, NULL, &kit.err),
        KV_OK);
    watch = (struct watch){0};
    must(&kit, kv_backup(kit.db, &options, NULL, &kit.err));
    cr_assert(watch.last.bytes_done == watch.last.bytes && watch.last.files > 0);
    watch = (struct watch){.cancel_at = 2};
    cr_assert_eq(kv_restore(kit.env, "copy", &back, NULL, &kit.err), KV_CANCELED);
    watch = (struct watch){0};
    must(&kit, kv_restore(kit.env, "copy", &back, NULL, &kit.err));
    cr_assert_eq(watch.last.bytes_done, watch.last.bytes);
    kv_kit_release(&kit);
}

Test(backup, impossible_options_are_refused_with_a_reason)
{
    struct kv_kit kit;
    struct backup_bytes a = {0};
    struct kv_sink sink = backup_bytes_sink(&a);
    struct kv_buf receipt = {0};
    const struct kv_repository on_db = {.path = "db"}, nowhere = {.path = "nowhere"};
    const struct kv_backup_options bad[] = {
        {0},
        {.repository = &repo, .archive = &sink},
        {.repository = &repo, .receipt = &receipt},
        {.archive = &sink, .keep = 1},
        {.archive = &sink,
         .base = KV_STR("not a receipt, but long enough for a header, which has one hundred and twenty "
                        "eight bytes, as every file of a database does")},
        {.archive = &sink, .compression = (enum kv_compression)3},
    };
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        kv_status rc = kv_backup(kit.db, &bad[i], NULL, &kit.err);
        cr_assert(rc == KV_INVALID || (i == 4 && rc == KV_CORRUPT), "options %d: %s", (int)i,
                  kv_status_name(rc));
        cr_assert(kit.err.text[0]);
    }
    cr_assert_eq(backup_to(&kit, &on_db, NULL), KV_BUSY); /* the database itself holds that lease */
    cr_assert_eq(kv_restore(kit.env, "copy", &(struct kv_restore_options){0}, NULL, &kit.err), KV_INVALID);
    cr_assert_eq(backup_restore(&kit, &nowhere, 0, "copy"), KV_MISSING);
    must(&kit, backup_to(&kit, &repo, NULL));
    cr_assert_eq(backup_restore(&kit, &repo, 9, "copy"), KV_MISSING);
    cr_assert_eq(backup_restore(&kit, &repo, 1, "backups"), KV_EXISTS);
    kv_kit_close(&kit);
    cr_assert_eq(backup_restore(&kit, &repo, 1, "db"), KV_EXISTS);
    cr_assert(strstr(kit.err.text, "db is not empty") != NULL, "%s", kit.err.text);
    kit.path = "second";
    kv_kit_must_open(&kit);
    cr_assert_eq(backup_to(&kit, &repo, NULL), KV_INVALID);
    cr_assert(strstr(kit.err.text, "another database") != NULL, "%s", kit.err.text);
    cr_assert_eq(backup_to(&kit, &on_db, NULL), KV_INVALID);
    cr_assert(strstr(kit.err.text, "something else") != NULL, "%s", kit.err.text);
    kv_kit_release(&kit);
    backup_bytes_release(&a);
}

/* ---- files of the first version */

#define GOLDEN "tests/golden/archive-1.kvb"

static void write_golden(void)
{
    struct kv_kit kit;
    struct backup_bytes a = {0};
    struct kv_sink sink = backup_bytes_sink(&a);
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit);
    kv_kit_delete(&kit, 0, "log");
    must(&kit,
         kv_backup(kit.db, &(struct kv_backup_options){.archive = &sink, .compression = KV_COMPRESSION_NONE},
                   NULL, &kit.err));
    FILE *f = fopen(GOLDEN, "wb");
    cr_assert(f && fwrite(a.bytes.data, 1, a.bytes.len, f) == a.bytes.len);
    fclose(f);
    backup_bytes_release(&a);
    kv_kit_release(&kit);
}

Test(backup, archives_of_the_first_version_are_read)
{
    struct kv_kit kit;
    struct backup_bytes a = {0};
    char text[TEXT];
    if (getenv("TIDEMARK_WRITE_GOLDEN"))
        write_golden();
    FILE *f = fopen(GOLDEN, "rb");
    cr_assert_not_null(f);
    for (int c; (c = fgetc(f)) != EOF;)
        cr_assert_eq(kv_buf_append_byte(&a.bytes, (uint8_t)c), KV_OK);
    fclose(f);
    kv_kit_init(&kit, NULL);
    must(&kit, unarchive(&kit, (struct backup_bytes *[]){&a}, 1, "copy"));
    backup_check(&kit, "copy");
    cr_assert_str_eq(backup_content_of(&kit, "copy", text, sizeof text), "a:table=1 b:other=3");
    backup_bytes_release(&a);
    kv_kit_release(&kit);
}
