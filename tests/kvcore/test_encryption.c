/*
 * An encrypted database as its user sees it, and as whoever holds the disk does: what can be read without the key, what is refused with
 * another one, what no swapped, older, cut or changed file gets past, and that nothing is ever sealed twice under one nonce.
 */
#include "kvcore/base/file_header.h"
#include "kvcore/base/mem.h"
#include "kvcore/db/keys.h"
#include "kvcore/db/manifest.h"
#include "kvcore/db/salvage.h"
#include "tests/support/kv_kit.h"
#include "tests/support/sst_kit.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { DAY_MS = 24 * 3600 * 1000, TEXT_MAX = 4000 };
#define CANARY "CANARY-that-must-not-be-found"

static const uint8_t key_1[KV_MASTER_KEY_LEN] = "the first master key, 32 bytes..",
                     key_2[KV_MASTER_KEY_LEN] = "another master key of 32 bytes..";

static void kit_init(struct kv_kit *kit, struct kv_vfs *vfs)
{
    kv_kit_init(kit, vfs);
    kit->options.key.master_key = key_1;
    kit->options.log_file_bytes = 4096;
}

/* ---- all files of the database's directory, as bytes */

struct file_image {
    char name[72];
    uint8_t *bytes;
    size_t len;
};
struct image {
    struct file_image files[64];
    size_t n;
    struct kv_dir *dir;
};

static kv_status image_add(void *ctx, const char *name, uint64_t bytes)
{
    struct image *image = ctx;
    struct kv_file *file = NULL;
    cr_assert_lt(image->n, 64);
    struct file_image *f = &image->files[image->n++];
    snprintf(f->name, sizeof f->name, "%s", name);
    f->len = (size_t)bytes;
    f->bytes = malloc(f->len + 1);
    cr_assert_eq(kv_dir_open_file(image->dir, name, &file, NULL), KV_OK);
    cr_assert_eq(kv_file_read_exact(file, 0, f->len, f->bytes, NULL), KV_OK);
    kv_file_close(file);
    return KV_OK;
}

static void image_take(struct image *image, struct kv_vfs *vfs, const char *path)
{
    *image = (struct image){0};
    cr_assert_eq(kv_vfs_dir_open(vfs, path, false, &image->dir, NULL), KV_OK);
    cr_assert_eq(image->dir->ops->list(image->dir, image_add, image, NULL), KV_OK);
    kv_dir_close(image->dir);
}

static void image_free(struct image *image)
{
    for (size_t i = 0; i < image->n; i++)
        free(image->files[i].bytes);
}

static struct file_image *image_find(struct image *image, const char *suffix)
{
    for (size_t i = 0; i < image->n; i++)
        if (strstr(image->files[i].name, suffix) && image->files[i].len > KV_FILE_HEADER_LEN)
            return &image->files[i];
    cr_assert(false, "no %s", suffix);
    return NULL;
}

static size_t image_count(const struct image *image, const void *bytes, size_t len)
{
    size_t found = 0;
    for (size_t i = 0; i < image->n; i++)
        found += memmem(image->files[i].bytes, image->files[i].len, bytes, len) != NULL;
    return found;
}

/* Puts other bytes in a file's place. */
static void file_replace(struct kv_vfs *vfs, const char *name, const void *bytes, size_t len)
{
    struct kv_dir *dir = NULL;
    struct kv_file *file = NULL;
    cr_assert_eq(kv_vfs_dir_open(vfs, "db", false, &dir, NULL), KV_OK);
    cr_assert_eq(kv_dir_remove(dir, name, NULL), KV_OK);
    cr_assert_eq(kv_dir_create(dir, name, &file, NULL), KV_OK);
    cr_assert_eq(kv_file_append(file, 0, kv_slice_of(bytes, len), NULL), KV_OK);
    cr_assert_eq(kv_file_sync(file, NULL), KV_OK);
    cr_assert_eq(kv_dir_sync_names(dir, NULL), KV_OK);
    kv_file_close(file);
    kv_dir_close(dir);
}

static kv_status check(struct kv_kit *kit, const uint8_t *master)
{
    struct kv_env_options options = {.vfs = kit->vfs, .clock = &kit->clock.base, .threads = KV_THREADS_NONE};
    struct kv_key_source source = {.master_key = master};
    struct kv_env *env = NULL;
    cr_assert_eq(kv_env_open(&options, &env, &kit->err), KV_OK);
    kv_status rc = kv_check_with_key(env, kit->path, master ? &source : NULL, NULL, NULL, &kit->err);
    kv_env_close(env);
    return rc;
}

static void fill(struct kv_kit *kit, const char *value)
{
    char key[48];
    for (int i = 0; i < 30; i++) {
        snprintf(key, sizeof key, CANARY "-key-%02d", i);
        kv_kit_put(kit, (uint32_t)i % 2, key, value);
    }
}

static void expect_filled(struct kv_kit *kit, const char *value)
{
    char key[48];
    for (int i = 0; i < 30; i++) {
        snprintf(key, sizeof key, CANARY "-key-%02d", i);
        cr_assert(kv_kit_is(kit, NULL, (uint32_t)i % 2, key, value));
    }
}

/* ---- what is on the disk */

Test(encryption, neither_data_nor_keys_are_found_in_any_file)
{
    for (int plain = 0; plain < 2; plain++) {
        struct kv_kit kit;
        struct image image;
        kit_init(&kit, NULL);
        if (plain)
            kit.options.key = (struct kv_key_source){0};
        kit.spaces[0].compression = kit.spaces[1].compression = KV_COMPRESSION_NONE;
        kv_kit_must_open(&kit);
        fill(&kit, CANARY);
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        fill(&kit, CANARY "2");
        cr_assert_eq(kv_kit_try_record(&kit, CANARY, NULL), KV_OK);
        cr_assert_eq(kv_checkpoint(kit.db, "copy", &kit.err), KV_OK);
        const char *paths[] = {"db", "copy"};
        for (int p = 0; p < 2; p++) {
            image_take(&image, kit.vfs, paths[p]);
            image_find(&image, ".tbl"), image_find(&image, ".man"), image_find(&image, ".log");
            if (plain) /* or the search would prove nothing */
                cr_assert_geq(image_count(&image, CANARY, sizeof CANARY - 1), 3);
            else
                cr_assert_eq(image_count(&image, CANARY, sizeof CANARY - 1), 0);
            cr_assert_eq(image_count(&image, key_1, 8), 0);
            image_free(&image);
        }
        kv_kit_reopen(&kit);
        expect_filled(&kit, CANARY "2");
        kit.path = "copy";
        kv_kit_reopen(&kit);
        expect_filled(&kit, CANARY "2");
        kv_kit_release(&kit);
        kit.path = "db";
    }
}

Test(encryption, every_file_has_its_key_in_its_header_and_no_two_share_uid_and_salt)
{
    struct kv_kit kit;
    struct image image;
    kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit, "v");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    fill(&kit, "w");
    image_take(&image, kit.vfs, "db");
    uint64_t master = 0;
    cr_assert_eq(kv_master_key_id(key_1, &master), KV_OK);
    for (size_t i = 0; i < image.n; i++) {
        struct kv_file_header header;
        if (image.files[i].len < KV_FILE_HEADER_LEN || strstr(image.files[i].name, "reserve"))
            continue;
        kv_file_header_decode(image.files[i].bytes, &header);
        cr_assert_eq(header.key_id, strstr(image.files[i].name, ".man") ? master : 1, "%s",
                     image.files[i].name);
        for (size_t k = 0; k < i; k++)
            cr_assert(image.files[k].len < KV_FILE_HEADER_LEN ||
                      memcmp(image.files[i].bytes + KV_FILE_HEADER_AT_UID,
                             image.files[k].bytes + KV_FILE_HEADER_AT_UID,
                             KV_FILE_UID_LEN + KV_FILE_SALT_LEN) != 0);
    }
    image_free(&image);
    kv_kit_release(&kit);
}

/* ---- keys that fit and do not */

Test(encryption, another_key_no_key_and_a_key_too_many_are_refused_and_change_nothing)
{
    struct kv_kit kit;
    kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit, "v");
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    for (int read_only = 0; read_only < 2; read_only++) {
        kit.options.read_only = read_only;
        kit.options.key.master_key = key_2;
        cr_assert_eq(kv_kit_open(&kit), KV_WRONG_KEY);
        cr_assert(strstr(kit.err.text, "is encrypted with master key") &&
                      strstr(kit.err.text, "the key given is"),
                  "%s", kit.err.text);
        kit.options.key.master_key = NULL;
        cr_assert_eq(kv_kit_open(&kit), KV_WRONG_KEY);
        cr_assert(strstr(kit.err.text, "is encrypted and no key was given"), "%s", kit.err.text);
        kit.options.key.master_key = key_1;
        kv_kit_must_open(&kit);
        expect_filled(&kit, "v");
        cr_assert_eq(kv_kit_close(&kit), KV_OK);
    }
    cr_assert_eq(check(&kit, key_1), KV_OK, "%s", kit.err.text);
    cr_assert_eq(check(&kit, key_2), KV_WRONG_KEY);
    cr_assert_eq(check(&kit, NULL), KV_WRONG_KEY);
    kv_kit_release(&kit);

    kv_kit_init(&kit, NULL); /* a plain one */
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.options.key.master_key = key_1;
    cr_assert_eq(kv_kit_open(&kit), KV_WRONG_KEY);
    cr_assert(strstr(kit.err.text, "is not encrypted, but a key was given"), "%s", kit.err.text);
    cr_assert_eq(check(&kit, key_1), KV_WRONG_KEY);
    kv_kit_release(&kit);
}

static kv_status never_called(void *ctx, uint64_t id, uint8_t key[KV_MASTER_KEY_LEN])
{
    (void)ctx, (void)id, (void)key;
    return KV_MISSING;
}

static kv_status key_by_id(void *ctx, uint64_t id, uint8_t key[KV_MASTER_KEY_LEN])
{
    *(uint64_t *)ctx = id;
    memcpy(key, key_1, KV_MASTER_KEY_LEN);
    return KV_OK;
}

Test(encryption, a_key_comes_from_a_call_too_and_bad_options_are_named)
{
    struct kv_kit kit;
    uint64_t asked = 77, called = 0;
    kit_init(&kit, NULL);
    kit.options.key = (struct kv_key_source){.key_of = key_by_id, .ctx = &asked};
    kv_kit_must_open(&kit);
    cr_assert_eq(asked, 0, "a new database asks for any key");
    kv_kit_reopen(&kit);
    cr_assert_eq(kv_master_key_id(key_1, &called), KV_OK);
    cr_assert_eq(asked, called);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.options.key.key_of = never_called;
    cr_assert_eq(kv_kit_open(&kit), KV_MISSING);
    cr_assert(strstr(kit.err.text, "was not given"), "%s", kit.err.text);
    kit.options.key.master_key = key_1;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID);
    cr_assert(strstr(kit.err.text, "both"), "%s", kit.err.text);
    kit.options.key.key_of = NULL;
    kit.options.data_key_days = 3651;
    cr_assert_eq(kv_kit_open(&kit), KV_INVALID);
    cr_assert(strstr(kit.err.text, "data_key_days 3651 is not 1 to 3650"), "%s", kit.err.text);
    kv_kit_release(&kit);
}

/* ---- a plain database becomes an encrypted one */

Test(encryption, a_plain_database_is_encrypted_from_then_on_when_that_is_asked_for)
{
    struct kv_kit kit;
    struct image image;
    kv_kit_init(&kit, NULL);
    kit.spaces[0].compression = kit.spaces[1].compression = KV_COMPRESSION_NONE;
    kv_kit_must_open(&kit);
    fill(&kit, CANARY);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    fill(&kit, "older"); /* in the log alone */
    kit.options.key = (struct kv_key_source){.master_key = key_1, .allow_plain = true};
    kv_kit_reopen(&kit);
    expect_filled(&kit, "older");
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.options.key.allow_plain = false; /* it is encrypted now */
    kv_kit_must_open(&kit);
    expect_filled(&kit, "older");
    cr_assert_eq(check(&kit, key_1), KV_BUSY);
    fill(&kit, "newer " CANARY);
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    image_take(&image, kit.vfs, "db");
    cr_assert_eq(image_count(&image, CANARY, sizeof CANARY - 1), 2, "the two old tables");
    image_free(&image);
    for (uint32_t space = 0; space < 2; space++)
        cr_assert_eq(kv_merge_range(kit.db, space, KV_STR(""), KV_STR(""), &kit.err), KV_OK);
    kv_kit_reopen(&kit);
    expect_filled(&kit, "newer " CANARY);
    image_take(&image, kit.vfs, "db");
    cr_assert_eq(image_count(&image, CANARY, sizeof CANARY - 1), 0, "merged, and so encrypted");
    image_free(&image);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    cr_assert_eq(check(&kit, key_1), KV_OK, "%s", kit.err.text);
    kv_kit_release(&kit);
}

/* ---- whoever holds the disk */

/* What a database answers whose one file was changed: refused, or (never silently) everything as before. */
static kv_status open_changed(const struct kv_kit *whole, const char *name, const uint8_t *bytes, size_t len,
                              char *text)
{
    struct kv_kit kit;
    kit_init(&kit, kv_vfs_mem_crash_clone(whole->vfs));
    kit.options.log_file_bytes = whole->options.log_file_bytes;
    file_replace(kit.vfs, name, bytes, len);
    kv_status rc = kv_kit_open(&kit);
    snprintf(text, TEXT_MAX, "%s", rc < 0 ? kit.err.text : "");
    if (rc == KV_OK) {
        size_t n = 0;
        uint64_t counted;
        for (uint32_t space = 0; space < 2; space++) {
            struct kv_iter *it = NULL;
            rc = kv_iter_open(kit.db, NULL, space, (kv_slice){0}, (kv_slice){0}, &it);
            cr_assert_eq(rc, KV_OK);
            for (rc = kv_iter_seek(it, (kv_slice){0}); rc == KV_OK; rc = kv_iter_next(it))
                n += (size_t)snprintf(text + n, TEXT_MAX - n, "%.*s=%.*s ", KV_ARG(it->key),
                                      KV_ARG(it->value));
            kv_iter_close(it);
            if (rc < 0 && kv_count(kit.db, NULL, space, (kv_slice){0}, (kv_slice){0}, &counted, &kit.err) < 0)
                snprintf(text, TEXT_MAX, "%s", kit.err.text);
            if (rc < 0)
                break;
        }
        kv_kit_close(&kit);
    }
    struct kv_vfs *clone = kit.vfs;
    kv_kit_release(&kit);
    kv_vfs_mem_free(clone);
    return rc == KV_END ? KV_OK : rc;
}

static void small_database(struct kv_kit *kit, struct image *image)
{
    kit_init(kit, NULL);
    kv_kit_must_open(kit);
    kv_kit_put(kit, 0, "a", "1");
    kv_kit_put(kit, 1, "b", "2");
    cr_assert_eq(kv_flush(kit->db, &kit->err), KV_OK);
    kv_kit_put(kit, 0, "c", "3");
    kv_kit_put(kit, 0, "d", "4");
    cr_assert_eq(kv_kit_close(kit), KV_OK);
    image_take(image, kit->vfs, "db");
}

/* A closed database: every log is sealed and the manifest's last edit was never answered behind, so only it may be missed. */
Test(encryption, every_flipped_bit_of_every_file_is_refused_or_harmless, .timeout = 240)
{
    struct kv_kit kit;
    struct image image;
    char whole[TEXT_MAX], text[TEXT_MAX];
    small_database(&kit, &image);
    for (size_t f = 0; f < image.n; f++) {
        struct file_image *file = &image.files[f];
        if (strstr(file->name, "reserve"))
            continue;
        cr_assert_eq(open_changed(&kit, file->name, file->bytes, file->len, whole), KV_OK);
        size_t refused = 0;
        for (size_t bit = 0; bit < 8 * file->len; bit += 3) {
            file->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            kv_status rc = open_changed(&kit, file->name, file->bytes, file->len, text);
            refused += rc != KV_OK;
            cr_assert(rc == KV_CORRUPT || rc == KV_WRONG_KEY || rc == KV_TOO_NEW ||
                          (rc == KV_OK && !strcmp(text, whole)),
                      "%s bit %d: %s \"%s\"", file->name, (int)bit, kv_status_name(rc), text);
            file->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        cr_assert_gt(refused, 2 * file->len, "%s: %d of %d", file->name, (int)refused,
                     (int)(8 * file->len / 3));
    }
    image_free(&image);
    kv_kit_release(&kit);
}

Test(encryption, files_that_changed_places_and_files_of_another_life_are_refused)
{
    struct kv_kit kit, other;
    struct image image, theirs;
    char text[TEXT_MAX];
    small_database(&kit, &image);
    kit_init(&other, NULL); /* the same master key, another database */
    clock_manual_release(&other.clock);
    clock_manual_init(&other.clock, 1700000000000, 8);
    kv_kit_must_open(&other);
    kv_kit_put(&other, 0, "a", "9");
    cr_assert_eq(kv_flush(other.db, &other.err), KV_OK);
    cr_assert_eq(kv_kit_close(&other), KV_OK);
    image_take(&theirs, other.vfs, "db");
    int pairs = 0;
    for (size_t i = 0; i < image.n; i++)
        for (size_t k = 0; k < image.n + theirs.n; k++) {
            const struct file_image *mine = &image.files[i];
            const struct file_image *file = k < image.n ? &image.files[k] : &theirs.files[k - image.n];
            if (mine == file || strstr(mine->name, "reserve") || strstr(file->name, "reserve"))
                continue;
            kv_status rc = open_changed(&kit, mine->name, file->bytes, file->len, text);
            cr_assert(rc == KV_CORRUPT || rc == KV_WRONG_KEY, "%s as %s: %s", file->name, mine->name,
                      kv_status_name(rc));
            pairs++;
        }
    cr_assert_gt(pairs, 10);
    image_free(&image);
    image_free(&theirs);
    kv_kit_release(&kit);
    kv_kit_release(&other);
}

/* A plain file under the header of an encrypted one: what it is refused for is that it is plain, not a sum that could be made right. */
Test(encryption, a_forged_plain_file_is_refused)
{
    struct kv_kit kit, plain;
    struct image image, forged;
    char text[TEXT_MAX];
    small_database(&kit, &image);
    kv_kit_init(&plain, NULL); /* the same clock, so the same uids in the same places */
    kv_kit_must_open(&plain);
    kv_kit_put(&plain, 0, "a", "forged");
    cr_assert_eq(kv_flush(plain.db, &plain.err), KV_OK);
    kv_kit_put(&plain, 0, "c", "forged");
    cr_assert_eq(kv_kit_close(&plain), KV_OK);
    image_take(&forged, plain.vfs, "db");
    static const char *const suffixes[] = {".tbl", ".log", ".man"};
    static const char *const reasons[] = {"is not encrypted, in a database that is",
                                          "it is plain, or under a key",
                                          "is not encrypted, but a key was given"};
    for (int s = 0; s < 3; s++) {
        struct file_image *mine = image_find(&image, suffixes[s]), *theirs = image_find(&forged, suffixes[s]);
        struct kv_file_header header, found;
        kv_file_header_decode(mine->bytes, &header);
        kv_file_header_decode(theirs->bytes, &found);
        header.key_id = 0;
        header.first_seq = found.first_seq;
        kv_file_header_encode(&header, theirs->bytes);
        kv_status rc = open_changed(&kit, mine->name, theirs->bytes, theirs->len, text);
        cr_assert_eq(rc, s == 2 ? KV_WRONG_KEY : KV_CORRUPT);
        cr_assert(strstr(text, reasons[s]), "%s", text);
    }
    image_free(&image);
    image_free(&forged);
    kv_kit_release(&kit);
    kv_kit_release(&plain);
}

/* ---- keys that change */

static uint64_t table_keys(struct kv_kit *kit, uint64_t *logs)
{
    struct image image;
    uint64_t seen = 0;
    *logs = 0;
    image_take(&image, kit->vfs, "db");
    for (size_t i = 0; i < image.n; i++) {
        struct kv_file_header header;
        if (!strstr(image.files[i].name, ".tbl") && !strstr(image.files[i].name, ".log"))
            continue;
        kv_file_header_decode(image.files[i].bytes, &header);
        *(strstr(image.files[i].name, ".tbl") ? &seen : logs) |= UINT64_C(1) << header.key_id;
    }
    image_free(&image);
    return seen;
}

Test(encryption, data_keys_change_with_time_and_with_use_and_old_files_stay_readable)
{
    struct kv_kit kit;
    uint64_t logs;
    kit_init(&kit, NULL);
    kit.options.data_key_days = 2;
    kv_kit_must_open(&kit);
    fill(&kit, "1");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    clock_manual_advance_ms(&kit.clock, 2 * DAY_MS - 1);
    fill(&kit, "2");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(table_keys(&kit, &logs), 1 << 1);
    clock_manual_advance_ms(&kit.clock, 1);
    fill(&kit, "3");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(table_keys(&kit, &logs), 1 << 1 | 1 << 2);
    expect_filled(&kit, "3");
    cr_assert_eq(kv_kit_metric(&kit, "kv_data_key"), 2);
    cr_assert_gt(kv_kit_metric(&kit, "kv_data_key_sealed"), 4);
    uint64_t old = kv_kit_metric(&kit, "kv_old_key_table_bytes");
    cr_assert(old > 0 && old < kv_kit_metric(&kit, "kv_table_bytes"));
    clock_manual_advance_ms(&kit.clock, 2 * DAY_MS);
    kv_kit_reopen(&kit); /* an open looks at the time too */
    cr_assert(table_keys(&kit, &logs) == (1 << 1 | 1 << 2) && logs == 1 << 3, "%d", (int)logs);
    expect_filled(&kit, "3");
    cr_assert_eq(kv_rotate_data_key(kit.db, &kit.err), KV_OK);
    fill(&kit, "4");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(table_keys(&kit, &logs), 1 << 1 | 1 << 2 | 1 << 4);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.options.data_key_days = 0;
    kit.options.data_key_blocks = 40; /* the log of one fill and its tables are more */
    kv_kit_must_open(&kit);
    for (int i = 0; i < 3; i++) {
        fill(&kit, "5");
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    }
    cr_assert_geq(table_keys(&kit, &logs), 1 << 6, "by use");
    kv_kit_reopen(&kit);
    expect_filled(&kit, "5");
    for (uint32_t space = 0; space < 2; space++)
        cr_assert_eq(kv_merge_range(kit.db, space, KV_STR(""), KV_STR(""), &kit.err), KV_OK);
    kv_kit_reopen(&kit);
    cr_assert_eq(table_keys(&kit, &logs) & 0x3e, 0, "merged files have the newest key");
    cr_assert_eq(kv_kit_metric(&kit, "kv_old_key_table_bytes"), 0);
    expect_filled(&kit, "5");
    kv_kit_release(&kit);
}

/* What was sealed under a key is counted across reopens, from the edits. */
Test(encryption, the_use_of_a_data_key_is_counted_across_opens)
{
    struct kv_kit kit;
    uint64_t logs;
    kit_init(&kit, NULL);
    kit.options.data_key_blocks = 150;
    for (int i = 0; i < 8; i++) {
        kv_kit_must_open(&kit);
        fill(&kit, "v");
        cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
        cr_assert_eq(kv_kit_close(&kit), KV_OK);
    }
    uint64_t keys = table_keys(&kit, &logs);
    cr_assert(keys & 1 << 1 && keys & 1 << 2 && keys < 1 << 5, "%d", (int)keys);
    kv_kit_release(&kit);
}

Test(encryption, the_master_key_changes_while_the_database_is_open)
{
    struct kv_kit kit;
    struct image image;
    kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit, "1");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_rotate_master_key(kit.db, key_1, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "is the master key in use"), "%s", kit.err.text);
    cr_assert_eq(kv_rotate_master_key(kit.db, key_2, &kit.err), KV_OK, "%s", kit.err.text);
    fill(&kit, "2");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_checkpoint(kit.db, "copy", &kit.err), KV_OK);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    cr_assert_eq(kv_kit_files(&kit, ".man"), 1, "the file under the old key is gone");
    cr_assert_eq(kv_kit_open(&kit), KV_WRONG_KEY);
    kit.options.key.master_key = key_2;
    kv_kit_must_open(&kit);
    expect_filled(&kit, "2");
    kit.path = "copy";
    kv_kit_reopen(&kit);
    expect_filled(&kit, "2");
    kit.path = "db";
    kv_kit_reopen(&kit);
    image_take(&image, kit.vfs, "db");
    cr_assert_eq(image_count(&image, key_2, 8) + image_count(&image, key_1, 8), 0);
    image_free(&image);
    kv_kit_release(&kit);
}

Test(encryption, keys_of_plain_and_of_read_only_databases_cannot_be_changed)
{
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_rotate_master_key(kit.db, key_2, &kit.err), KV_UNSUPPORTED);
    cr_assert_eq(kv_rotate_data_key(kit.db, &kit.err), KV_UNSUPPORTED);
    kv_kit_release(&kit);
    kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    kit.options.read_only = true;
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_rotate_master_key(kit.db, key_2, &kit.err), KV_READ_ONLY);
    kv_kit_release(&kit);
}

/* Whatever fails, exactly one of the two keys opens it, and the one that was answered OK is right. */
Test(encryption, a_rotation_that_fails_anywhere_leaves_one_key_that_opens)
{
    static const enum vfs_fault_kind kinds[] = {VFS_FAULT_EIO, VFS_FAULT_SHORT_EIO, VFS_FAULT_SYNC_KEEPS,
                                                VFS_FAULT_SYNC_REVERTS};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int sticky = 0; sticky < 2; sticky++) {
            bool fired = true;
            for (uint64_t nth = 1; fired; nth++) {
                struct kv_vfs *memory = kv_vfs_mem_new();
                struct vfs_fault *fault = vfs_fault_new(memory);
                struct kv_kit kit;
                kit_init(&kit, vfs_fault_as_vfs(fault));
                kv_kit_must_open(&kit);
                fill(&kit, "1");
                vfs_fault_plan(fault,
                               &(struct vfs_fault_plan){.nth = nth, .kind = kinds[k], .sticky = sticky});
                kv_status rc = kv_rotate_master_key(kit.db, key_2, &kit.err);
                fired = vfs_fault_fired(fault);
                cr_assert(fired || rc == KV_OK);
                struct kv_vfs *lost = kv_vfs_mem_crash_clone(memory);
                vfs_fault_plan(fault, NULL);
                if (!sticky)
                    kv_kit_put(&kit, 0, "after", "it");
                kv_kit_close(&kit);
                struct kv_vfs *disks[] = {memory, lost};
                for (int d = 0; d < 2; d++) {
                    kit.vfs = disks[d];
                    kit.options.key.master_key = key_1;
                    kv_status old = kv_kit_open(&kit);
                    if (old == KV_OK)
                        expect_filled(&kit, "1");
                    kv_kit_close(&kit);
                    kit.options.key.master_key = key_2;
                    kv_status new = kv_kit_open(&kit);
                    if (new == KV_OK)
                        expect_filled(&kit, "1");
                    kv_kit_close(&kit);
                    cr_assert((old == KV_OK && new == KV_WRONG_KEY) || (old == KV_WRONG_KEY && new == KV_OK),
                              "kind %d, operation %d, disk %d: old %s, new %s", (int)k, (int)nth, d,
                              kv_status_name(old), kv_status_name(new));
                    cr_assert(rc < 0 || new == KV_OK);
                }
                kv_vfs_mem_free(lost);
                kv_kit_release(&kit);
                vfs_fault_free(fault);
                kv_vfs_mem_free(memory);
            }
        }
}

Test(encryption, the_master_key_of_a_closed_database_changes_without_reading_its_data)
{
    struct kv_kit kit;
    struct kv_env *env = NULL;
    struct kv_key_source source = {.master_key = key_1};
    kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit, "1");
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    struct kv_env_options options = {.vfs = kit.vfs, .clock = &kit.clock.base, .threads = KV_THREADS_NONE};
    cr_assert_eq(kv_env_open(&options, &env, &kit.err), KV_OK);
    cr_assert_eq(kv_rotate_closed(env, "db", &source, key_1, &kit.err), KV_INVALID);
    cr_assert_eq(kv_rotate_closed(env, "db", &source, key_2, &kit.err), KV_OK, "%s", kit.err.text);
    cr_assert_eq(kv_rotate_closed(env, "db", &source, key_2, &kit.err), KV_WRONG_KEY);
    cr_assert_eq(kv_rotate_closed(env, "none", &source, key_2, &kit.err), KV_MISSING);
    kv_env_close(env);
    kit.options.key.master_key = key_2;
    kv_kit_must_open(&kit);
    expect_filled(&kit, "1");
    kv_kit_release(&kit);
}

/* ---- a damaged log under encryption */

Test(encryption, a_salvage_keeps_every_record_but_the_damaged_one)
{
    struct kv_kit kit;
    struct image image;
    struct kv_salvage_report report = {0};
    struct kv_key_source source = {.master_key = key_1};
    struct kv_env *env = NULL;
    kit_init(&kit, NULL);
    kit.options.log_file_bytes = 1 << 20;
    kv_kit_must_open(&kit);
    for (int i = 0; i < 9; i++)
        kv_kit_put(&kit, 0, (char[]){(char)('a' + i), 0}, CANARY);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    image_take(&image, kit.vfs, "db");
    struct file_image *log = image_find(&image, ".log");
    log->bytes[KV_FILE_HEADER_LEN + 150] ^= 1;
    file_replace(kit.vfs, log->name, log->bytes, log->len);
    cr_assert_eq(kv_kit_open(&kit), KV_CORRUPT);
    struct kv_env_options options = {.vfs = kit.vfs, .clock = &kit.clock.base, .threads = KV_THREADS_NONE};
    cr_assert_eq(kv_env_open(&options, &env, &kit.err), KV_OK);
    cr_assert_eq(kv_salvage(env, "db", NULL, &report, &kit.err), KV_WRONG_KEY);
    cr_assert_eq(kv_salvage(env, "db", &source, &report, &kit.err), KV_OK, "%s", kit.err.text);
    kv_env_close(env);
    cr_assert(report.lost == 1 && report.kept == 8, "%d lost, %d kept", (int)report.lost, (int)report.kept);
    image_free(&image);
    image_take(&image, kit.vfs, "db");
    cr_assert_eq(image_count(&image, CANARY, sizeof CANARY - 1), 0, "what was saved is encrypted again");
    image_free(&image);
    kv_kit_must_open(&kit);
    char text[TEXT_MAX];
    kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text);
    cr_assert(strstr(text, "a=") && strstr(text, "i=") && !strstr(text, "b=") == !strstr(text, "b="), "%s",
              text);
    kv_kit_release(&kit);
}

/* ---- nonces */

/* What was ever handed to the disk for one file: its key is of its header, its nonces are the offsets. */
struct written {
    uint8_t *header; /* NULL until it came */
    uint8_t *bytes;
    size_t len;
    char name[72];
};
struct recorder {
    struct written files[4096];
    size_t n;
    uint64_t appends, repeats;
};

/* Every append, also those that fail: bytes at an offset of one file are only ever the same bytes. */
static void record_append(void *ctx, const char *name, uint64_t offset, kv_slice bytes)
{
    struct recorder *r = ctx;
    struct written *file = NULL;
    if (bytes.len == 0 || strstr(name, "reserve"))
        return;
    r->appends++;
    for (size_t i = r->n; i-- > 0 && !file;)
        if (strcmp(r->files[i].name, name) == 0)
            file = &r->files[i];
    if (offset == 0) { /* a new file; a name may come again after a crash */
        cr_assert_lt(r->n, 4096);
        file = &r->files[r->n++];
        *file = (struct written){0};
        snprintf(file->name, sizeof file->name, "%s", name);
    }
    cr_assert_not_null(file, "%s begins at %d", name, (int)offset);
    cr_assert_leq(offset, file->len, "%s has a hole", name);
    if (offset + bytes.len > file->len) {
        file->bytes = realloc(file->bytes, offset + bytes.len);
        memcpy(file->bytes + file->len, bytes.data + (file->len - offset), offset + bytes.len - file->len);
    }
    size_t again = file->len > offset ? (size_t)(file->len - offset) : 0;
    again = again < bytes.len ? again : bytes.len;
    cr_assert_eq(memcmp(file->bytes + offset, bytes.data, again), 0, "%s: two contents at offset %d", name,
                 (int)offset);
    r->repeats += again > 0;
    if (offset + bytes.len > file->len)
        file->len = offset + bytes.len;
}

/* Headers make keys: no two are the same. */
static void expect_distinct_headers(const struct recorder *r)
{
    for (size_t i = 0; i < r->n; i++) {
        cr_assert_geq(r->files[i].len, KV_FILE_HEADER_LEN);
        for (size_t k = 0; k < i; k++)
            cr_assert(memcmp(r->files[i].bytes, r->files[k].bytes, KV_FILE_HEADER_LEN) != 0,
                      "%s and %s share a key", r->files[i].name, r->files[k].name);
    }
}

static void nonce_life(struct recorder *r, uint64_t seed, enum vfs_fault_kind kind, uint64_t nth)
{
    struct kv_vfs *memory = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(memory);
    struct kv_kit kit;
    kit_init(&kit, vfs_fault_as_vfs(fault));
    clock_manual_release(&kit.clock);
    clock_manual_init(&kit.clock, 1700000000000, seed);
    kit.options.log_file_bytes = 700;
    kit.options.memtable_bytes = 4096;
    kit.options.data_key_blocks = 60;
    vfs_fault_watch(fault, record_append, r);
    kv_kit_must_open(&kit);
    vfs_fault_plan(fault,
                   &(struct vfs_fault_plan){.nth = nth, .ops = VFS_OP_APPEND | VFS_OP_SYNC, .kind = kind});
    for (int i = 0; i < 40; i++) {
        char value[400];
        memset(value, 'a' + i % 26, sizeof value - 1);
        value[i % 7 ? 20 : sizeof value - 1] = 0;
        kv_status rc = kit.db ? kv_kit_try_put(&kit, 0, (char[]){(char)('a' + i % 9), 0}, value) : KV_CLOSED;
        if (kit.db && i % 9 == 4)
            (void)!kv_flush(kit.db, &kit.err);
        if (kit.db && i % 13 == 12)
            (void)!kv_rotate_master_key(kit.db, i % 2 ? key_1 : key_2, &kit.err);
        if (rc == KV_READ_ONLY || rc == KV_CLOSED || rc == KV_UNKNOWN_OUTCOME || i == 20) {
            kv_kit_close(&kit);
            for (int k = 0; k < 2 && !kit.db; k++) {
                kit.options.key.master_key = k ? key_2 : key_1;
                rc = kv_kit_open(&kit);
            }
        }
    }
    kv_kit_close(&kit);
    vfs_fault_free(fault);
    kv_kit_release(&kit);
    kv_vfs_mem_free(memory);
}

Test(encryption, no_offset_of_a_file_is_ever_sealed_with_two_contents, .timeout = 120)
{
    static const enum vfs_fault_kind kinds[] = {VFS_FAULT_EIO, VFS_FAULT_ENOSPC, VFS_FAULT_SHORT_EIO,
                                                VFS_FAULT_SHORT_ENOSPC, VFS_FAULT_SYNC_KEEPS};
    struct recorder *r = calloc(1, sizeof *r);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (uint64_t nth = 1; nth < 90; nth += 2) {
            nonce_life(r, nth * 8 + k, kinds[k], nth);
            expect_distinct_headers(r);
            for (size_t i = 0; i < r->n; i++)
                free(r->files[i].bytes);
            cr_assert_gt(r->appends, 40);
            memset(r, 0, sizeof *r);
        }
    free(r);
}

/* ---- memory */

Test(encryption, memory_that_runs_out_while_opening_or_rotating_is_said_and_loses_nothing)
{
    struct kv_kit kit;
    bool failed = true;
    kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    fill(&kit, "1");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_kit_close(&kit), KV_OK);
    for (uint64_t nth = 1; failed; nth += 1 + nth / 40) {
        sst_malloc_fail_nth(nth);
        kv_status rc = kv_kit_open(&kit), rotated = KV_OK;
        if (rc == KV_OK)
            rotated = kv_rotate_data_key(kit.db, &kit.err);
        if (rc == KV_OK && rotated == KV_OK)
            rotated =
                kv_rotate_master_key(kit.db, kit.options.key.master_key == key_1 ? key_2 : key_1, &kit.err);
        failed = sst_malloc_failed();
        sst_malloc_fail_nth(0);
        cr_assert(failed || (rc == KV_OK && rotated == KV_OK), "%s", kit.err.text);
        kv_kit_close(&kit);
        kv_status opened = KV_WRONG_KEY;
        for (int k = 0; k < 2 && opened == KV_WRONG_KEY; k++) {
            kit.options.key.master_key = k ? key_2 : key_1;
            opened = kv_kit_open(&kit);
        }
        cr_assert_eq(opened, KV_OK, "%s", kit.err.text);
        expect_filled(&kit, "1");
        cr_assert_eq(kv_kit_close(&kit), KV_OK);
    }
    kv_kit_release(&kit);
}

/* ---- golden: a database of the first version, read by every later one */

static const char golden_path[] = "tests/golden/encrypted-1";
static const uint8_t golden_key[KV_MASTER_KEY_LEN] = "golden master key, not a secret.";

static void golden_kit(struct kv_kit *kit)
{
    kit_init(kit, NULL);
    kit->options.key.master_key = golden_key;
    kit->spaces[0].compression = kit->spaces[1].compression = KV_COMPRESSION_NONE;
}

static void golden_write(void)
{
    struct kv_kit kit;
    struct image image;
    struct kv_dir *disk = NULL;
    golden_kit(&kit);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "apple", "red");
    kv_kit_put(&kit, 1, "leek", "green");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    cr_assert_eq(kv_rotate_data_key(kit.db, &kit.err), KV_OK);
    kv_kit_put(&kit, 0, "banana", "yellow");
    kv_kit_delete(&kit, 0, "apple");
    cr_assert_eq(kv_flush(kit.db, &kit.err), KV_OK);
    kv_kit_put(&kit, 0, "cherry", "red too");
    cr_assert_eq(kv_kit_try_record(&kit, "a record", NULL), KV_OK);
    image_take(&image, kit.vfs, "db");
    cr_assert_eq(kv_vfs_dir_open(kv_vfs_posix(), golden_path, true, &disk, NULL), KV_OK);
    for (size_t i = 0; i < image.n; i++) {
        struct kv_file *file = NULL;
        if (strstr(image.files[i].name, "reserve"))
            continue;
        cr_assert_eq(kv_dir_create(disk, image.files[i].name, &file, NULL), KV_OK);
        cr_assert_eq(kv_file_append(file, 0, kv_slice_of(image.files[i].bytes, image.files[i].len), NULL),
                     KV_OK);
        kv_file_close(file);
    }
    kv_dir_close(disk);
    image_free(&image);
    kv_kit_release(&kit);
}

Test(encryption, a_database_of_the_first_version_is_read)
{
    struct kv_kit kit;
    struct image image;
    struct kv_dir *dir = NULL;
    char text[TEXT_MAX];
    if (getenv("TIDEMARK_WRITE_GOLDEN"))
        golden_write();
    golden_kit(&kit);
    image_take(&image, kv_vfs_posix(), golden_path);
    cr_assert_eq(kv_vfs_dir_open(kit.vfs, "db", true, &dir, NULL), KV_OK);
    for (size_t i = 0; i < image.n; i++) {
        struct kv_file *file = NULL;
        cr_assert_eq(kv_dir_create(dir, image.files[i].name, &file, NULL), KV_OK);
        cr_assert_eq(kv_file_append(file, 0, kv_slice_of(image.files[i].bytes, image.files[i].len), NULL),
                     KV_OK);
        cr_assert_eq(kv_file_sync(file, NULL), KV_OK);
        kv_file_close(file);
    }
    cr_assert_eq(kv_dir_sync_names(dir, NULL), KV_OK);
    cr_assert_eq(dir->ops->publish(dir, kv_slice_str(image_find(&image, ".man")->name), 0, NULL), KV_OK);
    kv_dir_close(dir);
    image_free(&image);
    cr_assert_eq(check(&kit, golden_key), KV_OK, "%s", kit.err.text);
    for (int read_only = 1; read_only >= 0; read_only--) {
        kit.options.read_only = read_only;
        kv_kit_must_open(&kit);
        cr_assert_str_eq(kv_kit_scan(&kit, NULL, 0, "", "", text, sizeof text),
                         "banana=yellow cherry=red too");
        cr_assert_str_eq(kv_kit_scan(&kit, NULL, 1, "", "", text, sizeof text), "leek=green");
        cr_assert_eq(kv_kit_close(&kit), KV_OK);
    }
    kv_kit_release(&kit);
}
