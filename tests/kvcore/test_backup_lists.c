/* Frames, lists, catalogs and receipts with right sums and wrong contents: the rules of kvcore/docs/backup.md, each broken alone. */
#include "kvcore/backup/archive.h"
#include "kvcore/base/coding.h"
#include "kvcore/base/mem.h"
#include "tests/support/box_kit.h"
#include "tests/support/malloc_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* ---- frames */

static kv_status read_all(struct box *box, const struct kv_archive_cipher *cipher)
{
    struct kv_source source = backup_bytes_source(&box->out);
    struct kv_frame_reader reader = {.cipher = cipher};
    struct kv_frame frame;
    kv_status rc = kv_frame_reader_open(&reader, &source, "the box", sst_uuid, &box->err);
    while (rc == KV_OK)
        rc = kv_frame_next(&reader, &frame, &box->err);
    if (rc == KV_END)
        cr_assert_eq(kv_frame_next(&reader, &frame, NULL), KV_END, "it stays at its end");
    kv_frame_reader_release(&reader);
    return rc;
}

Test(backup_lists, frames_are_of_known_kinds_and_flags)
{
    static const struct {
        const char *what;
        uint8_t kind, flags, zero_1, zero_2;
        kv_slice payload;
        kv_status rc;
        const char *said;
    } rows[] = {
        {"a plain one", 3, 0, 0, 0, {(const uint8_t *)"abc", 3}, KV_END, ""},
        {"an empty one", 3, 0, 0, 0, {(const uint8_t *)"", 0}, KV_END, ""},
        {"an optional kind", 200, 0, 0, 0, {(const uint8_t *)"abc", 3}, KV_END, ""},
        {"no kind", 0, 0, 0, 0, {(const uint8_t *)"abc", 3}, KV_TOO_NEW, "a frame of a newer version"},
        {"a kind of a newer version",
         11,
         0,
         0,
         0,
         {(const uint8_t *)"abc", 3},
         KV_TOO_NEW,
         "a frame of a newer version"},
        {"a flag of a newer version",
         3,
         4,
         0,
         0,
         {(const uint8_t *)"abc", 3},
         KV_TOO_NEW,
         "a frame of a newer version"},
        {"a reserved byte",
         3,
         0,
         1,
         0,
         {(const uint8_t *)"abc", 3},
         KV_TOO_NEW,
         "a frame of a newer version"},
        {"another reserved byte",
         3,
         0,
         0,
         1,
         {(const uint8_t *)"abc", 3},
         KV_TOO_NEW,
         "a frame of a newer version"},
        {"sealed, without a cipher",
         3,
         2,
         0,
         0,
         {(const uint8_t *)"abc", 3},
         KV_UNSUPPORTED,
         "no cipher was given"},
        {"packed nothing", 3, 1, 0, 0, {(const uint8_t *)"", 0}, KV_CORRUPT, "a packed frame that cannot be"},
        {"packed without a length",
         3,
         1,
         0,
         0,
         {(const uint8_t *)"\2abc", 4},
         KV_CORRUPT,
         "a packed frame that cannot be"},
        {"packed to nothing",
         3,
         1,
         0,
         0,
         {(const uint8_t *)"\2\0\0\0\0x", 6},
         KV_CORRUPT,
         "a packed frame that cannot be"},
        {"packed to two gigabytes",
         3,
         1,
         0,
         0,
         {(const uint8_t *)"\2\0\0\0\x80x", 6},
         KV_CORRUPT,
         "a packed frame that cannot be"},
        {"packed plainly",
         3,
         1,
         0,
         0,
         {(const uint8_t *)"\0\1\0\0\0x", 6},
         KV_CORRUPT,
         "a packed frame that cannot be"},
        {"packed by nobody", 3, 1, 0, 0, {(const uint8_t *)"\2\1\0\0\0x", 6}, KV_CORRUPT, "does not inflate"},
        {"packed by a newer version",
         3,
         1,
         0,
         0,
         {(const uint8_t *)"\7\1\0\0\0x", 6},
         KV_TOO_NEW,
         "newer version"},
        {"an end that counts nothing",
         10,
         0,
         0,
         0,
         {(const uint8_t *)"", 0},
         KV_CORRUPT,
         "frames are missing before the end"},
        {"an end that counts twice",
         10,
         0,
         0,
         0,
         {(const uint8_t *)"\1\1", 2},
         KV_CORRUPT,
         "frames are missing before the end"},
        {"an end that counts wrongly",
         10,
         0,
         0,
         0,
         {(const uint8_t *)"\2", 1},
         KV_CORRUPT,
         "frames are missing before the end"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct box box;
        box_open(&box);
        box_put(&box, KV_FRAME_DATA, KV_STR("before"));
        box_put_raw(&box, rows[i].kind, rows[i].flags, rows[i].zero_1, rows[i].zero_2, rows[i].payload);
        box_finish(&box);
        cr_assert_eq(read_all(&box, NULL), rows[i].rc, "%s: %s", rows[i].what, box.err.text);
        cr_assert(strstr(box.err.text, rows[i].said), "%s: %s", rows[i].what, box.err.text);
        cr_assert(rows[i].rc == KV_END || strstr(box.err.text, "the box at offset 150"), "%s", box.err.text);
        box_release(&box);
    }
    struct box box;
    box_open(&box);
    struct kv_err err = {0};
    cr_assert_eq(
        kv_frame_put(&box.frames, KV_FRAME_DATA, kv_slice_of(&box, (size_t)KV_FRAME_LEN_MAX + 1), &err),
        KV_LIMIT);
    cr_assert(strstr(err.text, "134217729 bytes at offset 128"), "%s", err.text);
    box_release(&box);
}

static kv_status seal_too_long(void *ctx, kv_slice place, kv_slice plain, struct kv_buf *sealed)
{
    (void)ctx, (void)place, (void)plain;
    sealed->len = (size_t)KV_FRAME_LEN_MAX + 1;
    return KV_OK;
}

static kv_status seal_no_memory(void *ctx, kv_slice place, kv_slice plain, struct kv_buf *sealed)
{
    (void)ctx, (void)place, (void)plain, (void)sealed;
    return KV_NO_MEMORY;
}

Test(backup_lists, what_a_cipher_answers_is_told)
{
    static const uint8_t key[16] = "key", other[16] = "other";
    struct kv_archive_cipher cipher = backup_cipher(key), wrong = backup_cipher(other), failing = cipher;
    struct box box;
    box_open(&box);
    box.frames.cipher = &cipher;
    box_put(&box, KV_FRAME_DATA, KV_STR("secret"));
    box_finish(&box);
    cr_assert_eq(read_all(&box, &cipher), KV_END, "%s", box.err.text);
    cr_assert_eq(read_all(&box, &wrong), KV_CORRUPT);
    cr_assert(strstr(box.err.text, "another key, or changed"), "%s", box.err.text);
    failing.open = seal_no_memory;
    cr_assert_eq(read_all(&box, &failing), KV_NO_MEMORY);
    cr_assert(strstr(box.err.text, "out of memory"), "%s", box.err.text);
    failing.seal = seal_too_long;
    box.frames.cipher = &failing;
    cr_assert_eq(kv_frame_put(&box.frames, KV_FRAME_DATA, KV_STR("x"), &box.err), KV_LIMIT);
    box.frames.sealed.len = 0;
    failing.seal = seal_no_memory;
    cr_assert_eq(kv_frame_put(&box.frames, KV_FRAME_DATA, KV_STR("x"), &box.err), KV_NO_MEMORY);
    box_release(&box);
}

/* ---- lists of files */

static kv_status decode_set(kv_slice in, struct kv_err *err)
{
    struct kv_backup_set out;
    kv_status rc = kv_set_decode(in, true, &out, err);
    kv_set_release(&out);
    return rc;
}

Test(backup_lists, a_list_cut_at_any_byte_is_none)
{
    struct kv_backup_set set, again;
    struct kv_buf bytes = {0};
    struct kv_err err = {0};
    box_set(&set, KV_FORM_PLAIN);
    set.has_base = set.has_self = true;
    memset(set.base, 1, sizeof set.base);
    memset(set.self, 2, sizeof set.self);
    cr_assert_eq(kv_set_encode(&set, true, &bytes), KV_OK);
    for (size_t len = 0; len < bytes.len; len++) {
        cr_assert_eq(decode_set(kv_slice_of(bytes.data, len), &err), KV_CORRUPT, "cut at %zu", len);
        cr_assert(strstr(err.text, "the list of a backup's files cannot be read"), "%s", err.text);
    }
    cr_assert_eq(kv_set_decode(kv_buf_slice(&bytes), true, &again, &err), KV_OK, "%s", err.text);
    cr_assert(again.n_files == 2 && again.number == 3 && again.time_ms == -7 && again.has_base &&
              again.self[3] == 2);
    kv_set_release(&again);
    kv_set_release(&set);
    /* a field's own bytes cut, its length right */
    struct kv_backup_file file = box_file("000001.log", "x", KV_FORM_PLAIN), decoded;
    bytes.len = 0;
    cr_assert_eq(kv_set_encode_file(&file, &bytes), KV_OK);
    for (size_t len = 0; len < bytes.len; len++)
        cr_assert_eq(kv_set_decode_file(kv_slice_of(bytes.data, len), &decoded), KV_CORRUPT, "cut at %zu",
                     len);
    cr_assert_eq(kv_set_decode_file(kv_buf_slice(&bytes), &decoded), KV_OK);
    kv_buf_release(&bytes);
}

Test(backup_lists, lists_name_files_of_a_database_in_order)
{
    static const struct {
        const char *what, *first, *second;
        kv_status rc;
    } rows[] = {{"as it should be", "000001.log", "000002.man", KV_OK},
                {"twice the same name", "000002.man", "000002.man", KV_CORRUPT},
                {"not in order", "000002.man", "000001.log", KV_CORRUPT},
                {"a way out of the directory", "../../1.log", "000002.man", KV_CORRUPT},
                {"no name of a file", "CURRENT", "000002.man", KV_CORRUPT},
                {"no manifest", "000001.log", "000002.tbl", KV_CORRUPT},
                {"two manifests", "000001.man", "000002.man", KV_CORRUPT}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct kv_backup_set set = {.number = 1};
        struct kv_buf bytes = {0};
        struct kv_err err = {0};
        struct kv_backup_file a = box_file(rows[i].first, "a", KV_FORM_PLAIN),
                              b = box_file(rows[i].second, "b", KV_FORM_PLAIN);
        cr_assert_eq(kv_set_add(&set, &a), KV_OK);
        cr_assert_eq(kv_set_add(&set, &b), KV_OK);
        cr_assert_eq(kv_set_encode(&set, true, &bytes), KV_OK);
        cr_assert_eq(decode_set(kv_buf_slice(&bytes), &err), rows[i].rc, "%s: %s", rows[i].what, err.text);
        kv_buf_release(&bytes);
        kv_set_release(&set);
    }
}

Test(backup_lists, fields_of_a_list_are_known_or_may_be_skipped)
{
    static const struct {
        const char *what;
        uint64_t tag;
        size_t len; /* of a body of ones */
        kv_status rc;
    } rows[] = {{"an odd one", 77, 3, KV_OK},
                {"an even one", 78, 3, KV_TOO_NEW},
                {"a base too short", 8, 15, KV_CORRUPT},
                {"a base too long", 8, 17, KV_CORRUPT},
                {"a self too short", 10, 15, KV_CORRUPT},
                {"a backup with more", 2, 20, KV_TOO_NEW},
                {"a backup with less", 2, 18, KV_CORRUPT},
                {"a backup of no numbers", 2, 2, KV_CORRUPT},
                {"a file of a newer form", 4, 60, KV_TOO_NEW}};
    uint8_t ones[64];
    memset(ones, 1, sizeof ones);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct kv_backup_set set;
        struct kv_buf bytes = {0};
        struct kv_err err = {0};
        box_set(&set, KV_FORM_PLAIN);
        ones[2] = rows[i].tag == 4 ? 4 : 1;
        box_put_field(&bytes, rows[i].tag, kv_slice_of(ones, rows[i].len));
        cr_assert_eq(kv_set_encode(&set, true, &bytes), KV_OK);
        cr_assert_eq(decode_set(kv_buf_slice(&bytes), &err), rows[i].rc, "%s: %s", rows[i].what, err.text);
        kv_buf_release(&bytes);
        kv_set_release(&set);
    }
    struct kv_backup_file decoded;
    struct kv_backup_file file = box_file("000001.log", "x", KV_FORM_PLAIN);
    struct kv_buf bytes = {0};
    cr_assert_eq(kv_set_encode_file(&file, &bytes), KV_OK);
    cr_assert_eq(kv_buf_append(&bytes, KV_STR("\0behind a NUL")), KV_OK);
    cr_assert_eq(kv_set_decode_file(kv_buf_slice(&bytes), &decoded), KV_CORRUPT);
    bytes.len -= 13;
    for (int i = 0; i < 40; i++)
        cr_assert_eq(kv_buf_append_byte(&bytes, '0'), KV_OK);
    cr_assert_eq(kv_set_decode_file(kv_buf_slice(&bytes), &decoded), KV_CORRUPT, "longer than any name");
    kv_buf_release(&bytes);
}

/* ---- catalogs */

static void put_catalog_entry(struct kv_buf *out, uint64_t number, size_t extra)
{
    struct kv_buf body = {0};
    cr_assert_eq(kv_buf_append_varint(&body, number), KV_OK);
    for (size_t i = 0; i < 6 + KV_FILE_UID_LEN + extra; i++)
        cr_assert_eq(kv_buf_append_byte(&body, 1), KV_OK);
    box_put_field(out, 4, kv_buf_slice(&body));
    kv_buf_release(&body);
}

Test(backup_lists, a_catalog_has_one_beginning_and_numbers_that_grow)
{
    static const struct {
        const char *what;
        uint64_t next; /* 0: nothing begins it */
        size_t head_extra;
        uint64_t numbers[2];
        size_t entry_extra;
        uint64_t tag; /* of a field behind it; 0: none */
        kv_status rc;
    } rows[] = {{"sound", 9, 0, {3, 4}, 0, 0, KV_OK},
                {"nothing", 0, 0, {0, 0}, 0, 0, KV_CORRUPT},
                {"entries without a beginning", 0, 0, {1, 2}, 0, 0, KV_CORRUPT},
                {"a beginning with more", 9, 1, {3, 4}, 0, 0, KV_TOO_NEW},
                {"number 0", 9, 0, {0, 4}, 0, 0, KV_CORRUPT},
                {"a number to come", 4, 0, {3, 4}, 0, 0, KV_CORRUPT},
                {"the same number", 9, 0, {3, 3}, 0, 0, KV_CORRUPT},
                {"an entry with more", 9, 0, {3, 4}, 1, 0, KV_TOO_NEW},
                {"an odd field", 9, 0, {3, 4}, 0, 77, KV_OK},
                {"an even field", 9, 0, {3, 4}, 0, 78, KV_TOO_NEW},
                {"a second beginning", 9, 0, {3, 4}, 0, 2, KV_CORRUPT}};
    uint8_t head[KV_VARINT_LEN_MAX + KV_UUID_LEN + 1] = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct kv_buf bytes = {0};
        struct kv_catalog catalog;
        struct kv_err err = {0};
        size_t n = kv_put_varint(head, rows[i].next);
        if (rows[i].next)
            box_put_field(&bytes, 2, kv_slice_of(head, n + KV_UUID_LEN + rows[i].head_extra));
        for (int j = 0; j < 2 && (rows[i].numbers[0] || rows[i].numbers[1]); j++)
            put_catalog_entry(&bytes, rows[i].numbers[j], rows[i].entry_extra);
        if (rows[i].tag)
            box_put_field(&bytes, rows[i].tag, kv_slice_of(head, n + KV_UUID_LEN));
        kv_status rc = kv_catalog_decode(kv_buf_slice(&bytes), &catalog, &err);
        cr_assert_eq(rc, rows[i].rc, "%s: %s", rows[i].what, err.text);
        cr_assert(rc == KV_OK || strstr(err.text, "the catalog of backups cannot be read"), "%s", err.text);
        kv_catalog_release(&catalog);
        if (i == 0)
            for (size_t len = 0; len < bytes.len; len++) {
                rc = kv_catalog_decode(kv_slice_of(bytes.data, len), &catalog, &err);
                cr_assert(rc == KV_CORRUPT || (rc == KV_OK && catalog.n < 2), "cut at %zu", len);
                kv_catalog_release(&catalog);
            }
        kv_buf_release(&bytes);
    }
    for (size_t len = 0; len <= KV_UUID_LEN; len++) { /* a beginning cut, its length right */
        struct kv_buf bytes = {0};
        struct kv_catalog catalog;
        kv_put_varint(head, 9);
        box_put_field(&bytes, 2, kv_slice_of(head, len));
        cr_assert_eq(kv_catalog_decode(kv_buf_slice(&bytes), &catalog, NULL), KV_CORRUPT);
        kv_catalog_release(&catalog);
        kv_buf_release(&bytes);
    }
    struct kv_buf bytes = {0};
    struct kv_catalog catalog;
    kv_put_varint(head, 0);
    box_put_field(&bytes, 2, kv_slice_of(head, 1 + KV_UUID_LEN));
    cr_assert_eq(kv_catalog_decode(kv_buf_slice(&bytes), &catalog, NULL), KV_CORRUPT, "no next number");
    kv_catalog_release(&catalog);
    kv_buf_release(&bytes);
}

/* ---- receipts */

Test(backup_lists, a_receipt_is_a_list_of_an_archive)
{
    static const struct {
        bool self;
        int kind;
        const char *said;
    } rows[] = {{true, KV_FRAME_MANIFEST, NULL},
                {false, KV_FRAME_MANIFEST, "it is no receipt of an archive"},
                {true, KV_FRAME_CATALOG, "the receipt at offset 128"}};
    struct kv_err err = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct box box;
        struct kv_backup_set set, again;
        struct kv_buf fields = {0};
        box_set(&set, KV_FORM_ARCHIVE);
        set.has_self = rows[i].self;
        cr_assert_eq(kv_set_encode(&set, true, &fields), KV_OK);
        box_open(&box);
        box_put(&box, rows[i].kind, kv_buf_slice(&fields));
        box_finish(&box);
        kv_status rc = kv_receipt_decode(kv_buf_slice(&box.out.bytes), NULL, &again, &err);
        cr_assert_eq(rc == KV_OK, rows[i].said == NULL, "row %zu: %s", i, err.text);
        cr_assert(rc == KV_OK || strstr(err.text, rows[i].said), "row %zu: %s", i, err.text);
        kv_set_release(&again);
        kv_buf_release(&fields);
        kv_set_release(&set);
        box_release(&box);
    }
    struct kv_backup_set again;
    struct box box;
    box_open(&box);
    box_put(&box, KV_FRAME_MANIFEST, KV_STR("\4"));
    box_finish(&box);
    cr_assert_eq(kv_receipt_decode(kv_buf_slice(&box.out.bytes), NULL, &again, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "the receipt: the list of a backup's files cannot be read"), "%s", err.text);
    kv_set_release(&again);
    box_release(&box);
}

static kv_status lists_round_trip(struct kv_backup_set *set, struct kv_catalog *catalog,
                                  struct sst_clock *clock)
{
    struct kv_buf list = {0}, numbers = {0}, receipt = {0};
    struct kv_backup_set a = {0}, b = {0};
    struct kv_catalog c = {0};
    struct kv_err err = {0};
    kv_status rc;
    KV_TRY(kv_set_encode(set, true, &list));
    KV_TRY(kv_set_decode(kv_buf_slice(&list), true, &a, &err));
    KV_TRY(kv_receipt_encode(set, NULL, &clock->clock, &receipt, &err));
    KV_TRY(kv_receipt_decode(kv_buf_slice(&receipt), NULL, &b, &err));
    KV_TRY(kv_catalog_encode(catalog, &numbers));
    KV_TRY(kv_catalog_decode(kv_buf_slice(&numbers), &c, &err));
    cr_assert(a.n_files == set->n_files && b.n_files == set->n_files && c.n == catalog->n);
out:
    cr_assert(rc == KV_OK || receipt.len == 0 || b.n_files || a.n_files,
              "what failed leaves no half receipt");
    kv_buf_release(&list);
    kv_buf_release(&numbers);
    kv_buf_release(&receipt);
    kv_set_release(&a);
    kv_set_release(&b);
    kv_catalog_release(&c);
    return rc;
}

Test(backup_lists, memory_runs_out_anywhere_in_a_list)
{
    struct kv_backup_set set;
    struct kv_catalog catalog = {.next = 9};
    struct sst_clock clock;
    sst_clock_init(&clock, 3);
    box_set(&set, KV_FORM_ARCHIVE);
    set.has_base = set.has_self = true;
    for (uint64_t i = 1; i < 4; i++)
        cr_assert_eq(kv_catalog_add(&catalog, &(struct kv_catalog_entry){.number = i}), KV_OK);
    kv_mem_exact = true;
    for (uint64_t nth = 1;; nth++) {
        malloc_fault_arm(nth, false);
        kv_status rc = lists_round_trip(&set, &catalog, &clock);
        bool fired = malloc_fault_disarm();
        cr_assert_eq(rc, fired ? KV_NO_MEMORY : KV_OK, "%d", (int)nth);
        if (!fired)
            break;
    }
    kv_mem_exact = false;
    kv_catalog_release(&catalog);
    kv_set_release(&set);
}
