/* Archives and exports with right sums and wrong contents: the rules of kvcore/docs/backup.md, each broken alone. */
#include "kvcore/base/mem.h"
#include "tests/support/box_kit.h"
#include "tests/support/malloc_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* ---- archives */

enum tweak {
    AS_IT_IS,
    LISTED_PLAIN,
    LISTED_LONGER,
    LISTED_UID,
    LISTED_SUM,
    LISTED_IN_NO_BASE,
    LISTED_IN_BASE,
    LISTED_MORE
};

static void put_list(struct box *box, enum tweak tweak)
{
    struct kv_backup_set set;
    struct kv_buf fields = {0};
    box_set(&set, KV_FORM_ARCHIVE);
    set.has_base = tweak == LISTED_IN_BASE;
    struct kv_backup_file *log = &set.files[0];
    if (tweak == LISTED_PLAIN)
        log->form = KV_FORM_PLAIN;
    if (tweak == LISTED_LONGER)
        log->bytes++;
    if (tweak == LISTED_UID)
        log->uid[0]++;
    if (tweak == LISTED_SUM)
        log->sha256[0]++;
    if (tweak == LISTED_IN_NO_BASE || tweak == LISTED_IN_BASE)
        log->form = KV_FORM_BASE;
    if (tweak == LISTED_MORE) {
        struct kv_backup_file more = box_file("000003.tbl", "more", KV_FORM_ARCHIVE);
        cr_assert_eq(kv_set_add(&set, &more), KV_OK);
    }
    cr_assert_eq(kv_set_encode(&set, true, &fields), KV_OK);
    /* in two frames, which are one */
    box_put(box, KV_FRAME_MANIFEST, kv_slice_of(fields.data, 10));
    box_put(box, KV_FRAME_MANIFEST, kv_slice_from(kv_buf_slice(&fields), 10));
    kv_buf_release(&fields);
    kv_set_release(&set);
}

/* A: the beginning; 1, 2: a file's name; d, m: bytes of them; e, n: their ends; L: the list; others below. */
static void put_script(struct box *box, const char *script, enum tweak tweak)
{
    struct kv_backup_file log = box_file("000001.log", "log bytes", KV_FORM_ARCHIVE);
    struct kv_backup_file man = box_file("000002.man", "manifest", KV_FORM_ARCHIVE);
    struct kv_backup_set about;
    struct kv_buf fields = {0};
    box_set(&about, KV_FORM_ARCHIVE);
    for (; *script; script++) {
        kv_buf_clear(&fields);
        switch (*script) {
        case 'A':
            cr_assert_eq(kv_set_encode(&about, false, &fields), KV_OK);
            box_put(box, KV_FRAME_ARCHIVE, kv_buf_slice(&fields));
            break;
        case 'a': /* one that cannot be read */
            box_put(box, KV_FRAME_ARCHIVE, KV_STR("\4"));
            break;
        case '1':
        case '2':
            cr_assert_eq(kv_set_encode_file(*script == '1' ? &log : &man, &fields), KV_OK);
            box_put(box, KV_FRAME_FILE, kv_buf_slice(&fields));
            break;
        case '3': /* one that cannot be */
            box_put(box, KV_FRAME_FILE, KV_STR("x"));
            break;
        case 'd':
            box_put(box, KV_FRAME_DATA, KV_STR("log bytes"));
            break;
        case 'm':
            box_put(box, KV_FRAME_DATA, KV_STR("manifest"));
            break;
        case 'e':
        case 'n':
            box_put(box, KV_FRAME_FILE_END,
                    kv_slice_of(*script == 'e' ? log.sha256 : man.sha256, KV_SHA256_LEN));
            break;
        case 's': /* too short a sum */
            box_put(box, KV_FRAME_FILE_END, kv_slice_of(log.sha256, KV_SHA256_LEN - 1));
            break;
        case 'L':
            put_list(box, tweak);
            break;
        case 'l': /* one that cannot be read */
            box_put(box, KV_FRAME_MANIFEST, KV_STR("\4"));
            break;
        default:
            box_put(box, KV_FRAME_CATALOG, KV_STR("elsewhere"));
        }
    }
    kv_buf_release(&fields);
    kv_set_release(&about);
}

static kv_status verify(struct box *box, struct kv_kit *kit)
{
    struct kv_source source = backup_bytes_source(&box->out);
    struct kv_restore_options options = {.archives = &source, .n_archives = 1};
    box->err = (struct kv_err){0};
    return kv_backup_verify(kit->env, &options, NULL, NULL, &box->err);
}

Test(backup_content, an_archive_is_frames_in_their_order)
{
    static const struct {
        const char *script;
        enum tweak tweak;
        const char *said; /* NULL: sound */
    } rows[] = {
        {"A1de2mnL", AS_IT_IS, NULL},
        {"A2mn1deL", AS_IT_IS, NULL},
        {"", AS_IT_IS, "it ends before its list of files"},
        {"A", AS_IT_IS, "it ends before its list of files"},
        {"A1de2mn", AS_IT_IS, "it ends before its list of files"},
        {"A1de2m", AS_IT_IS, "it ends before its list of files"},
        {"A1de2mnL1d", AS_IT_IS, "a frame out of place"},
        {"L", AS_IT_IS, "this is no archive of a backup"},
        {"1deL", AS_IT_IS, "this is no archive of a backup"},
        {"d", AS_IT_IS, "this is no archive of a backup"},
        {"e", AS_IT_IS, "this is no archive of a backup"},
        {"c", AS_IT_IS, "this is no archive of a backup"},
        {"AA", AS_IT_IS, "a frame out of place"},
        {"Ac", AS_IT_IS, "a frame out of place"},
        {"Ad", AS_IT_IS, "a frame out of place"},
        {"Ae", AS_IT_IS, "a frame out of place"},
        {"A1d2", AS_IT_IS, "a frame out of place"},
        {"A1dL", AS_IT_IS, "a frame out of place"},
        {"A1deL2mn", AS_IT_IS, "a frame out of place"},
        {"a", AS_IT_IS, "cannot be read"},
        {"A3", AS_IT_IS, "a file that cannot be"},
        {"A1dd", AS_IT_IS, "a file longer than announced"},
        {"A1e", AS_IT_IS, "a file of another length or sum"},
        {"A1ds", AS_IT_IS, "a file of another length or sum"},
        {"A1dn", AS_IT_IS, "a file of another length or sum"},
        {"A1de2mnl", AS_IT_IS, "cannot be read"},
        {"A2mnL", AS_IT_IS, "a listed file is not in the archive"},
        {"A1de2mnL", LISTED_PLAIN, "a listed file is not in the archive"},
        {"A1de2mnL", LISTED_LONGER, "a listed file is not in the archive"},
        {"A1de2mnL", LISTED_UID, "a listed file is not in the archive"},
        {"A1de2mnL", LISTED_SUM, "a listed file is not in the archive"},
        {"A1de2mnL", LISTED_IN_NO_BASE, "a listed file is not in the archive"},
        {"A1de2mnL", LISTED_MORE, "a listed file is not in the archive"},
        {"A1de2mnL", LISTED_IN_BASE, "the archive holds files that are not listed"},
        {"A1de1de2mnL", AS_IT_IS, "the archive holds files that are not listed"},
    };
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct box box;
        box_open(&box);
        put_script(&box, rows[i].script, rows[i].tweak);
        box_finish(&box);
        kv_status rc = verify(&box, &kit);
        cr_assert_eq(rc, rows[i].said ? KV_CORRUPT : KV_OK, "row %zu, %s: %s", i, rows[i].script,
                     box.err.text);
        cr_assert(!rows[i].said || strstr(box.err.text, rows[i].said), "row %zu, %s: %s", i, rows[i].script,
                  box.err.text);
        box_release(&box);
    }
    kv_kit_release(&kit);
}

Test(backup_content, memory_runs_out_reading_an_archive)
{
    struct kv_kit kit;
    struct box box;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    box_open(&box);
    put_script(&box, "A1de2mnL", AS_IT_IS);
    box_finish(&box);
    kv_mem_exact = true;
    for (uint64_t nth = 1;; nth++) {
        malloc_fault_arm(nth, false);
        kv_status rc = verify(&box, &kit);
        bool fired = malloc_fault_disarm();
        cr_assert_eq(rc, fired ? KV_NO_MEMORY : KV_OK, "%d: %s", (int)nth, box.err.text);
        if (!fired)
            break;
    }
    kv_mem_exact = false;
    box_release(&box);
    kv_kit_release(&kit);
}

/* ---- archives that build upon one another */

enum { TOP_SOUND, BELOW_OTHER, BELOW_CHANGED, BELOW_LACKS };

/* The upper one has the manifest and names the log file as one of the lower. */
static kv_status verify_two(struct kv_kit *kit, int what, struct kv_err *err)
{
    struct box below, top;
    struct kv_backup_set set;
    struct kv_buf fields = {0};
    struct kv_source sources[2];
    struct kv_restore_options options = {.archives = sources, .n_archives = 2};
    box_open(&below);
    if (what == BELOW_CHANGED) { /* whole in itself: as many other bytes under the same identity */
        struct kv_backup_file changed = box_file("000001.log", "log BYTES", KV_FORM_ARCHIVE);
        box_set(&set, KV_FORM_ARCHIVE);
        set.files[0] = changed;
        put_script(&below, "A2mn1", AS_IT_IS);
        box_put(&below, KV_FRAME_DATA, KV_STR("log BYTES"));
        box_put(&below, KV_FRAME_FILE_END, kv_slice_of(changed.sha256, sizeof changed.sha256));
        cr_assert_eq(kv_set_encode(&set, true, &fields), KV_OK);
        box_put(&below, KV_FRAME_MANIFEST, kv_buf_slice(&fields));
        kv_set_release(&set);
    } else if (what == BELOW_LACKS) {
        box_set(&set, KV_FORM_ARCHIVE);
        set.files[0] = set.files[1];
        set.n_files = 1;
        put_script(&below, "A2mn", AS_IT_IS);
        cr_assert_eq(kv_set_encode(&set, true, &fields), KV_OK);
        box_put(&below, KV_FRAME_MANIFEST, kv_buf_slice(&fields));
        kv_set_release(&set);
    } else {
        put_script(&below, "A1de2mnL", AS_IT_IS);
    }
    box_finish(&below);
    box_open(&top);
    box_set(&set, KV_FORM_ARCHIVE);
    set.has_base = true;
    memcpy(set.base, below.frames.uid, sizeof set.base);
    set.base[0] ^= what == BELOW_OTHER;
    set.files[0].form = KV_FORM_BASE;
    kv_buf_clear(&fields);
    cr_assert_eq(kv_set_encode(&set, false, &fields), KV_OK);
    box_put(&top, KV_FRAME_ARCHIVE, kv_buf_slice(&fields));
    put_script(&top, "2mn", AS_IT_IS);
    kv_buf_clear(&fields);
    cr_assert_eq(kv_set_encode(&set, true, &fields), KV_OK);
    box_put(&top, KV_FRAME_MANIFEST, kv_buf_slice(&fields));
    box_finish(&top);
    sources[0] = backup_bytes_source(&below.out);
    sources[1] = backup_bytes_source(&top.out);
    kv_status rc = kv_backup_verify(kit->env, &options, NULL, NULL, err);
    kv_buf_release(&fields);
    kv_set_release(&set);
    box_release(&below);
    box_release(&top);
    return rc;
}

Test(backup_content, an_archive_below_has_what_the_one_above_left_out)
{
    static const struct {
        int what;
        kv_status rc;
        const char *said;
    } rows[] = {{TOP_SOUND, KV_OK, ""},
                {BELOW_OTHER, KV_INVALID, "is not the one that the next builds upon"},
                {BELOW_CHANGED, KV_CORRUPT, "file 000001.log has another sum in the archive below"},
                {BELOW_LACKS, KV_CORRUPT, "file 000001.log is in none of the archives"}};
    struct kv_kit kit;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct kv_err err = {0};
        cr_assert_eq(verify_two(&kit, rows[i].what, &err), rows[i].rc, "row %zu: %s", i, err.text);
        cr_assert(strstr(err.text, rows[i].said), "row %zu: %s", i, err.text);
    }
    kv_kit_release(&kit);
}

/* ---- exports */

static kv_status import(struct box *box, struct kv_kit *kit, uint64_t *entries)
{
    struct kv_source source = backup_bytes_source(&box->out);
    box->err = (struct kv_err){0};
    return kv_import(kit->db, &source, NULL, entries, &box->err);
}

#define BYTES(text)                                                                                          \
    {                                                                                                        \
        (const uint8_t *)(text), sizeof(text) - 1                                                            \
    }

Test(backup_content, an_export_is_frames_in_their_order)
{
    static const struct {
        const char *what;
        struct {
            int kind;
            kv_slice payload;
        } frames[3]; /* kind 0: none */
        kv_status rc;
        const char *said;
    } rows[] = {
        {"sound", {{7, BYTES("\4\1a\4\1b")}, {8, BYTES("\0\0\0\1k\1v")}, {9, BYTES("\0\0")}}, KV_OK, ""},
        {"no space at all", {{7, BYTES("\2\2\0\0")}}, KV_OK, ""},
        {"an odd field", {{7, BYTES("\4\1a\x4d\1x")}}, KV_OK, ""},
        {"expiry and meta",
         {{7, BYTES("\4\1a")}, {8, BYTES("\0\0\3\1k\1v\xff\xff\xff\xff\x0f\7")}},
         KV_OK,
         ""},
        {"nothing", {{0, BYTES("")}}, KV_CORRUPT, "this is no export"},
        {"entries first", {{8, BYTES("\0\0\0\1k\1v")}}, KV_CORRUPT, "this is no export"},
        {"a range's end first", {{9, BYTES("\0\0")}}, KV_CORRUPT, "this is no export"},
        {"a catalog", {{6, BYTES("x")}}, KV_CORRUPT, "this is no export"},
        {"begun twice", {{7, BYTES("\4\1a")}, {7, BYTES("\4\1a")}}, KV_CORRUPT, "a frame out of place"},
        {"another kind", {{7, BYTES("\4\1a")}, {3, BYTES("x")}}, KV_CORRUPT, "a frame out of place"},
        {"an even field", {{7, BYTES("\4\1a\x4e\1x")}}, KV_TOO_NEW, "its beginning cannot be read"},
        {"half a tag", {{7, BYTES("\x80")}}, KV_CORRUPT, "its beginning cannot be read"},
        {"half a field", {{7, BYTES("\4\2a")}}, KV_CORRUPT, "its beginning cannot be read"},
        {"a space that is not declared", {{7, BYTES("\4\1z")}}, KV_INVALID, "the export has a space z"},
        {"a long space that is not declared",
         {{7,
           BYTES("\4\x50zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz")}},
         KV_INVALID,
         "the export has a space zzzzz"},
        {"entries of nothing",
         {{7, BYTES("\4\1a")}, {8, BYTES("")}},
         KV_CORRUPT,
         "entries of no space or range"},
        {"entries of no range",
         {{7, BYTES("\4\1a")}, {8, BYTES("\0")}},
         KV_CORRUPT,
         "entries of no space or range"},
        {"entries of a space to come",
         {{7, BYTES("\4\1a")}, {8, BYTES("\1\0")}},
         KV_CORRUPT,
         "entries of no space or range"},
        {"entries of a range too far",
         {{7, BYTES("\4\1a")}, {8, BYTES("\0\x80\x20")}},
         KV_CORRUPT,
         "entries of no space or range"},
        {"flags of a newer version",
         {{7, BYTES("\4\1a")}, {8, BYTES("\0\0\4\1k\1v")}},
         KV_TOO_NEW,
         "an entry that cannot be read"},
        {"no key", {{7, BYTES("\4\1a")}, {8, BYTES("\0\0\0")}}, KV_CORRUPT, "an entry that cannot be read"},
        {"no value",
         {{7, BYTES("\4\1a")}, {8, BYTES("\0\0\0\1k")}},
         KV_CORRUPT,
         "an entry that cannot be read"},
        {"no expiry",
         {{7, BYTES("\4\1a")}, {8, BYTES("\0\0\1\1k\1v")}},
         KV_CORRUPT,
         "an entry that cannot be read"},
        {"no meta",
         {{7, BYTES("\4\1a")}, {8, BYTES("\0\0\2\1k\1v")}},
         KV_CORRUPT,
         "an entry that cannot be read"},
        {"an empty key", {{7, BYTES("\4\1a")}, {8, BYTES("\0\0\0\0\1v")}}, KV_INVALID, ""},
        {"keys that go back", {{7, BYTES("\4\1a")}, {8, BYTES("\0\0\0\1k\1v\0\1j\1v")}}, KV_INVALID, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct kv_kit kit;
        struct box box;
        uint64_t entries = 0;
        kv_kit_init(&kit, NULL);
        kv_kit_must_open(&kit);
        box_open(&box);
        for (int j = 0; j < 3 && rows[i].frames[j].kind; j++)
            box_put(&box, rows[i].frames[j].kind, rows[i].frames[j].payload);
        box_finish(&box);
        kv_status rc = import(&box, &kit, &entries);
        cr_assert_eq(rc, rows[i].rc, "%s: %s %s", rows[i].what, kv_status_name(rc), box.err.text);
        cr_assert(strstr(box.err.text, rows[i].said), "%s: %s", rows[i].what, box.err.text);
        cr_assert(rc == KV_OK || kv_seq(kit.db) == 0, "%s: nothing was loaded", rows[i].what);
        if (rc == KV_OK && entries)
            cr_assert(kv_kit_is(&kit, NULL, 0, "k", "v"), "%s", rows[i].what);
        box_release(&box);
        kv_kit_release(&kit);
    }
    struct kv_kit kit;
    struct box box;
    struct kv_buf many = {0};
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    for (int i = 0; i <= KV_SPACES_MAX; i++)
        box_put_field(&many, 4, KV_STR("a"));
    box_open(&box);
    box_put(&box, KV_FRAME_EXPORT, kv_buf_slice(&many));
    box_finish(&box);
    cr_assert_eq(import(&box, &kit, NULL), KV_CORRUPT, "more spaces than there can be");
    box_release(&box);
    kv_buf_release(&many);
    kv_kit_release(&kit);
}

/* Out and in again, of two spaces, with attributes and every option. */
static kv_status export_import(struct kv_kit *kit, struct kv_kit *other, enum kv_compression compression)
{
    static const uint32_t spaces[] = {1, 0};
    struct backup_bytes bytes = {0};
    struct kv_sink sink = backup_bytes_sink(&bytes);
    struct kv_export_options options = {.spaces = spaces,
                                        .n_spaces = 2,
                                        .compression = compression,
                                        .threads = 1,
                                        .lower = KV_STR("a"),
                                        .upper = KV_STR("zz")};
    uint64_t out = 0, in = 0;
    kv_status rc = kv_export(kit->db, &options, &sink, &out, &kit->err);
    if (rc == KV_OK) {
        struct kv_source source = backup_bytes_source(&bytes);
        rc = kv_import(other->db, &source, NULL, &in, &kit->err);
    }
    cr_assert(rc < 0 || (out == in && out == 4));
    backup_bytes_release(&bytes);
    return rc;
}

static void fill_spaces(struct kv_kit *kit)
{
    struct kv_batch *batch = NULL;
    char value[201];
    memset(value, 'v', sizeof value - 1);
    value[200] = 0;
    kv_kit_put(kit, 0, "k1", value);
    kv_kit_put(kit, 1, "k2", "short");
    cr_assert_eq(kv_batch_new(&batch), KV_OK);
    cr_assert_eq(kv_batch_put_with(batch, 0, KV_STR("k3"), KV_STR("v3"),
                                   &(struct kv_put_options){.expires_at_s = UINT32_MAX, .meta = 7}),
                 KV_OK);
    cr_assert_eq(kv_batch_put_with(batch, 1, KV_STR("k4"), KV_STR("v4"), &(struct kv_put_options){.meta = 7}),
                 KV_OK);
    cr_assert_eq(kv_commit(kit->db, batch, NULL, NULL, &kit->err), KV_OK);
    kv_batch_free(batch);
}

Test(backup_content, memory_runs_out_anywhere_in_an_export_or_import, .timeout = 120)
{
    static const enum kv_compression all[] = {KV_COMPRESSION_NONE, KV_COMPRESSION_SNAPPY,
                                              KV_COMPRESSION_ZSTD};
    int failed = 0;
    for (int i = 0; i < 3; i++)
        for (uint64_t nth = 1;; nth += nth < 150 ? 1 : 3) {
            struct kv_kit kit, other;
            kv_kit_init(&kit, NULL);
            kv_kit_init(&other, NULL);
            kv_kit_must_open(&kit);
            kv_kit_must_open(&other);
            fill_spaces(&kit);
            kv_mem_exact = true;
            malloc_fault_arm(i == 1 ? nth : 7 * nth, false);
            kv_status rc = export_import(&kit, &other, all[i]);
            bool fired = malloc_fault_disarm();
            kv_mem_exact = false;
            cr_assert(rc == KV_OK || (fired && kit.err.text[0]), "%d: %s: %s", (int)nth, kv_status_name(rc),
                      kit.err.text);
            cr_assert(fired || rc == KV_OK);
            cr_assert(kv_kit_is(&kit, NULL, 0, "k3", "v3"));
            if (rc == KV_OK)
                cr_assert(kv_kit_is(&other, NULL, 0, "k3", "v3") && kv_kit_is(&other, NULL, 1, "k4", "v4"));
            kv_kit_reopen(&other);
            kv_kit_release(&kit);
            kv_kit_release(&other);
            failed += fired;
            if (!fired)
                break;
        }
    cr_assert_geq(failed, 100);
}

Test(backup_content, an_export_of_a_space_that_is_not_there_is_refused)
{
    static const uint32_t spaces[] = {0, 9};
    struct kv_kit kit;
    struct backup_bytes bytes = {0};
    struct kv_sink sink = backup_bytes_sink(&bytes);
    struct kv_export_options options = {.spaces = spaces, .n_spaces = 2};
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_export(kit.db, &options, &sink, NULL, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "space 9 does not exist"), "%s", kit.err.text);
    for (uint64_t at = 1; at < 400; at += 9) { /* the sink fails at any frame */
        bytes.bytes.len = 0;
        bytes.fail_at = at;
        options.n_spaces = 1;
        kv_kit_put(&kit, 0, "k", "v");
        kv_status rc = kv_export(kit.db, &options, &sink, NULL, &kit.err);
        cr_assert(rc == KV_OK || (rc == KV_NO_SPACE && strstr(kit.err.text, "the archive is full")), "%s",
                  kit.err.text);
    }
    backup_bytes_release(&bytes);
    kv_kit_release(&kit);
}

/* ---- options */

Test(backup_content, options_that_go_with_archives_alone)
{
    static const struct {
        const char *what;
        bool base, receipt, cipher;
    } rows[] = {
        {"base", true, false, false}, {"receipt", false, true, false}, {"cipher", false, false, true}};
    struct kv_kit kit;
    struct kv_buf receipt = {0};
    struct kv_archive_cipher cipher = {.ctx = NULL};
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct kv_backup_options options = {.repository = &(struct kv_repository){.path = "backups"},
                                            .base = rows[i].base ? KV_STR("x") : KV_STR(""),
                                            .receipt = rows[i].receipt ? &receipt : NULL,
                                            .cipher = rows[i].cipher ? &cipher : NULL};
        cr_assert_eq(kv_backup(kit.db, &options, NULL, &kit.err), KV_INVALID, "%s", rows[i].what);
        cr_assert(strstr(kit.err.text, rows[i].what), "%s", kit.err.text);
    }
    /* a receipt of another database */
    struct backup_bytes bytes = {0};
    struct kv_sink sink = backup_bytes_sink(&bytes);
    struct kv_backup_options first = {.archive = &sink, .receipt = &receipt};
    cr_assert_eq(kv_backup(kit.db, &first, NULL, &kit.err), KV_OK, "%s", kit.err.text);
    struct kv_backup_options next = {.archive = &sink, .base = kv_buf_slice(&receipt)};
    kv_kit_close(&kit);
    kit.path = "second";
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_backup(kit.db, &next, NULL, &kit.err), KV_INVALID);
    cr_assert(strstr(kit.err.text, "another database"), "%s", kit.err.text);
    for (uint64_t at = 1; at < 4000; at += 61) { /* the sink fails at any frame */
        bytes.bytes.len = 0;
        bytes.fail_at = at;
        kv_status rc = kv_backup(kit.db, &(struct kv_backup_options){.archive = &sink}, NULL, &kit.err);
        cr_assert(rc == KV_OK || (rc == KV_NO_SPACE && strstr(kit.err.text, "the archive is full")), "%s",
                  kit.err.text);
    }
    backup_bytes_release(&bytes);
    kv_buf_release(&receipt);
    kv_kit_release(&kit);
}
