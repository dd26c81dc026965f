/*
 * Reading on in a log, over files made by hand: every rule of kvcore/docs/log.md (Recovery) and follower.md that a file with right checksums
 * and wrong content can break. What was handed out before stays handed out.
 */
#include "kvcore/db/log_tail.h"
#include "tests/support/file_kit.h"
#include "tests/support/hook_dir.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { SEALED = 5, CURRENT = 6, RECORDS = 3, EDIT = 10, GOT_MAX = 16 };
static const uint8_t uuid[KV_UUID_LEN] = {1, 2, 3};

/* ---- two files: three records in a sealed one, three in the current one */

struct file {
    uint64_t number;
    struct kv_file_header header;
    struct kv_buf bytes;
};

struct world {
    struct kv_vfs *vfs;
    struct kv_dir *under;
    struct hook_dir hook;
    struct file files[2];
    struct kv_log_seal seals[2];
    struct kv_log_known known;
    struct kv_log_tail tail;
    uint64_t got[GOT_MAX]; /* sequences handed out */
    size_t n_got;
    int calls; /* of a hook */
};

static void file_begin(struct file *file, uint64_t number, uint64_t first_seq)
{
    kv_buf_clear(&file->bytes);
    file->number = number;
    file->header = (struct kv_file_header){
        .kind = KV_FILE_LOG, .format = KV_LOG_FORMAT, .edit = EDIT, .first_seq = first_seq};
    memcpy(file->header.uuid, uuid, sizeof uuid);
    memset(file->header.uid, (int)number, sizeof file->header.uid);
    cr_assert(kv_buf_extend(&file->bytes, KV_FILE_HEADER_LEN) != NULL);
}

static void file_payload(struct file *file, uint64_t seq, kv_slice payload)
{
    struct kv_buf frames = {0};
    cr_assert_eq(kv_log_frame_add_payload(&frames, seq, payload), KV_OK);
    kv_log_frame_stamp(frames.data, frames.len, kv_log_uid_sum(file->header.uid), file->bytes.len, seq - 1);
    cr_assert_eq(kv_buf_append(&file->bytes, kv_buf_slice(&frames)), KV_OK);
    kv_buf_release(&frames);
}

static void file_record(struct file *file, uint64_t seq)
{
    file_payload(file, seq, KV_STR("\x01\x03put"));
}

static void world_store(struct world *w)
{
    for (int i = 0; i < 2; i++) {
        char name[KV_LOG_NAME_MAX];
        kv_log_name(name, w->files[i].number);
        kv_file_header_encode(&w->files[i].header, w->files[i].bytes.data);
        file_kit_write(w->vfs, "db", name, kv_buf_slice(&w->files[i].bytes));
    }
}

static void world_init(struct world *w)
{
    *w = (struct world){.vfs = kv_vfs_mem_new()};
    cr_assert_eq(kv_vfs_dir_open(w->vfs, "db", true, &w->under, NULL), KV_OK);
    hook_dir_init(&w->hook, w->under);
    w->hook.ctx = w;
    for (int i = 0; i < 2; i++) {
        file_begin(&w->files[i], SEALED + (uint64_t)i, (uint64_t)(1 + i * RECORDS));
        for (int k = 1; k <= RECORDS; k++)
            file_record(&w->files[i], (uint64_t)(i * RECORDS + k));
        w->seals[i] =
            (struct kv_log_seal){w->files[i].number, w->files[i].bytes.len, (uint64_t)(1 + i) * RECORDS, 0};
    }
    w->known = (struct kv_log_known){.seals = w->seals,
                                     .n_seals = 1,
                                     .current = CURRENT,
                                     .current_uid = w->files[1].header.uid,
                                     .edit = EDIT,
                                     .last_seq = 2 * RECORDS,
                                     .puts_from = 1};
    w->tail = (struct kv_log_tail){.dir = &w->hook.base, .path = "db", .uuid = uuid};
    world_store(w);
}

static void world_release(struct world *w)
{
    kv_log_tail_release(&w->tail);
    kv_buf_release(&w->files[0].bytes);
    kv_buf_release(&w->files[1].bytes);
    kv_dir_close(w->under);
    kv_vfs_mem_free(w->vfs);
}

static kv_status got_commit(void *ctx, uint64_t seq, kv_slice batch, kv_slice record, struct kv_err *err)
{
    struct world *w = ctx;
    (void)err;
    cr_assert(kv_slice_equal(batch, KV_STR("put")) && record.len == 0 && w->n_got < GOT_MAX);
    w->got[w->n_got++] = seq;
    return KV_OK;
}

static kv_status world_read(struct world *w, bool *any, struct kv_err *err)
{
    const struct kv_log_replay replay = {.ctx = w, .commit = got_commit};
    return kv_log_tail_read(&w->tail, &w->known, &replay, any, err);
}

/* ---- what is changed before the reading */

static void as_it_is(struct world *w)
{
    (void)w;
}

static void no_first_sequence(struct world *w)
{
    w->files[1].header.first_seq = 0;
}

static void a_later_edit(struct world *w)
{
    w->files[1].header.edit = EDIT + 1;
}

static void another_uid(struct world *w)
{
    w->known.current_uid = w->files[0].header.uid;
}

static void uid_not_known(struct world *w)
{
    w->known.current_uid = NULL;
}

static void a_gap_between_files(struct world *w)
{
    w->files[1].header.first_seq = RECORDS + 2;
}

static void a_gap_in_a_file(struct world *w)
{
    file_record(&w->files[1], 8);
    file_record(&w->files[1], 9);
    w->known.last_seq = 9;
}

static void written_again(struct world *w)
{
    file_begin(&w->files[1], CURRENT, RECORDS - 1);
    for (uint64_t seq = RECORDS - 1; seq <= 2 * RECORDS; seq++)
        file_record(&w->files[1], seq);
}

static void a_newer_record(struct world *w)
{
    file_payload(&w->files[1], 7, KV_STR("\x02\x03put"));
}

static void a_malformed_record(struct world *w)
{
    file_payload(&w->files[1], 7, KV_STR("\x01\x7fput"));
}

static void fewer_records_than_the_seal_says(struct world *w)
{
    w->seals[0].last_seq = RECORDS + 1;
}

static void more_records_than_the_seal_says(struct world *w)
{
    w->seals[0].last_seq = RECORDS - 1;
}

static void a_seal_inside_a_record(struct world *w)
{
    w->seals[0].valid_len -= 8;
}

static void a_seal_past_the_end(struct world *w)
{
    w->seals[0].valid_len += 8;
}

static void more_known_than_there(struct world *w)
{
    w->known.last_seq = 7;
}

static void more_known_than_sealed(struct world *w)
{
    w->known =
        (struct kv_log_known){.seals = w->seals, .n_seals = 2, .edit = EDIT, .last_seq = 7, .puts_from = 1};
}

static void all_sealed(struct world *w)
{
    more_known_than_sealed(w);
    w->known.last_seq = 6;
}

static void no_log_at_all(struct world *w)
{
    w->known = (struct kv_log_known){.edit = EDIT, .last_seq = 7, .puts_from = 8};
}

static void the_sealed_one_in_tables(struct world *w)
{
    w->known.puts_from = RECORDS + 1;
    file_kit_remove(w->vfs, "db", "000005.log");
}

static void half_a_file_in_tables(struct world *w)
{
    w->known.puts_from = RECORDS;
}

static void a_torn_record(struct world *w)
{
    file_record(&w->files[1], 7);
    w->files[1].bytes.len -= 8;
}

static const struct row {
    const char *what;
    void (*change)(struct world *w);
    kv_status expect;
    const char *text;
    uint64_t first, last; /* sequences handed out; 0: none */
    bool gone;            /* `change` removes a file: after the storing */
} rows[] = {
    {"as it is", as_it_is, KV_OK, "", 1, 6, false},
    {"no first sequence", no_first_sequence, KV_CORRUPT,
     "db/000006.log at offset 0: its header has no first sequence", 1, 3, false},
    {"begun under a later edit", a_later_edit, KV_CORRUPT,
     "db/000006.log at offset 0: it was begun under a later edit than the manifest's last", 1, 3, false},
    {"another uid", another_uid, KV_CORRUPT,
     "db/000006.log at offset 0: another log file stands under this name", 1, 3, false},
    {"the uid is not known", uid_not_known, KV_OK, "", 1, 6, false},
    {"a gap between files", a_gap_between_files, KV_CORRUPT,
     "db/000006.log at offset 0: sequences are missing before it", 1, 3, false},
    {"a gap in a file", a_gap_in_a_file, KV_CORRUPT,
     "db/000006.log at offset 248: a bad record that was synced", 1, 6, false},
    {"records that were written again", written_again, KV_OK, "", 1, 6, false},
    {"a record of a newer version", a_newer_record, KV_TOO_NEW,
     "db/000006.log at offset 248: a record of a newer version", 1, 6, false},
    {"a malformed record", a_malformed_record, KV_CORRUPT,
     "db/000006.log at offset 248: a record with a right checksum is malformed", 1, 6, false},
    {"fewer records than the seal says", fewer_records_than_the_seal_says, KV_CORRUPT,
     "db/000005.log at offset 248: it ends before its seal", 1, 3, false},
    {"more records than the seal says", more_records_than_the_seal_says, KV_CORRUPT,
     "db/000005.log at offset 248: it ends before its seal", 1, 3, false},
    {"a seal inside a record", a_seal_inside_a_record, KV_CORRUPT,
     "db/000005.log at offset 208: a bad record before the seal", 1, 2, false},
    {"a seal past the end", a_seal_past_the_end, KV_CORRUPT,
     "db/000005.log at offset 248: a bad record before the seal", 1, 3, false},
    {"more known than there is", more_known_than_there, KV_CORRUPT,
     "db/000006.log at offset 248: the log ends before what the manifest knows", 1, 6, false},
    {"more known than was sealed", more_known_than_sealed, KV_CORRUPT,
     "db/000006.log at offset 0: the log ends before what the manifest knows", 1, 6, false},
    {"all sealed", all_sealed, KV_OK, "", 1, 6, false},
    {"no log at all", no_log_at_all, KV_OK, "", 0, 0, false},
    {"the sealed one in tables", the_sealed_one_in_tables, KV_OK, "", 4, 6, true},
    {"half a file in tables", half_a_file_in_tables, KV_OK, "", 3, 6, false},
    {"a torn record", a_torn_record, KV_OK, "", 1, 6, false},
};

static void expect_got(const struct world *w, const struct row *row)
{
    size_t n = row->first ? (size_t)(row->last - row->first + 1) : 0;
    cr_expect_eq(w->n_got, n, "%s: %zu commits", row->what, w->n_got);
    for (size_t i = 0; i < n && i < w->n_got; i++)
        cr_expect_eq(w->got[i], row->first + i, "%s: commit %zu", row->what, i);
}

Test(log_tail, every_rule_has_its_text_and_what_was_before_it_is_handed_out)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *row = &rows[i];
        struct world w;
        struct kv_err err = {0};
        bool any = false;
        world_init(&w);
        if (!row->gone)
            row->change(&w);
        world_store(&w);
        if (row->gone)
            row->change(&w);
        kv_status rc = world_read(&w, &any, &err);
        cr_expect_eq(rc, row->expect, "%s: %s: %s", row->what, kv_status_name(rc), err.text);
        cr_expect(strstr(err.text, row->text) != NULL, "%s: \"%s\"", row->what, err.text);
        cr_expect_eq(any, row->first != 0, "%s", row->what);
        expect_got(&w, row);
        world_release(&w);
    }
}

Test(log_tail, a_missing_file_that_comes_back_is_read_on)
{
    struct world w;
    struct kv_err err = {0};
    bool any;
    world_init(&w);
    file_kit_remove(w.vfs, "db", "000006.log");
    cr_assert_eq(world_read(&w, &any, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "db/000006.log at offset 0: the file is missing"), "%s", err.text);
    cr_assert_eq(w.n_got, 3);
    world_store(&w);
    cr_assert_eq(world_read(&w, &any, &err), KV_OK, "%s", err.text);
    cr_assert(any && w.n_got == 6 && w.got[5] == 6);
    cr_assert_eq(world_read(&w, &any, &err), KV_OK);
    cr_assert(!any && w.n_got == 6);
    world_release(&w);
}

/* ---- what a recovery would no longer find */

Test(log_tail, what_was_read_fits_what_is_known)
{
    static const uint8_t other[KV_FILE_UID_LEN] = {9};
    struct world w;
    bool any;
    world_init(&w);
    uint64_t len = w.files[0].bytes.len;
    const struct fit {
        const char *what;
        uint64_t current;
        const uint8_t *uid;
        struct kv_log_seal seal; /* number 0: none */
        bool fits;
    } fits[] = {
        {"still the current one", SEALED, w.files[0].header.uid, {0, 0, 0, 0}, true},
        {"the current one, of which no uid is known", SEALED, NULL, {0, 0, 0, 0}, true},
        {"another file under its number", SEALED, other, {0, 0, 0, 0}, false},
        {"forgotten", CURRENT, NULL, {0, 0, 0, 0}, false},
        {"sealed", CURRENT, NULL, {SEALED, len, 3, 0}, true},
        {"sealed further on", CURRENT, NULL, {SEALED, len + 40, 4, 0}, true},
        {"sealed shorter", CURRENT, NULL, {SEALED, len - 40, 2, 0}, false},
        {"sealed with fewer records", CURRENT, NULL, {SEALED, len, 2, 0}, false},
        {"another one sealed", CURRENT, NULL, {SEALED - 1, len, 3, 0}, false},
    };
    struct kv_log_known known = {.current = SEALED, .edit = EDIT, .last_seq = 3, .puts_from = 1};
    cr_assert(kv_log_tail_fits(&w.tail, &known), "nothing was read");
    w.known = known;
    cr_assert_eq(world_read(&w, &any, NULL), KV_OK);
    cr_assert_eq(w.n_got, 3);
    for (size_t i = 0; i < sizeof fits / sizeof *fits; i++) {
        known = (struct kv_log_known){.seals = &fits[i].seal,
                                      .n_seals = fits[i].seal.number != 0,
                                      .current = fits[i].current,
                                      .current_uid = fits[i].uid};
        cr_expect_eq(kv_log_tail_fits(&w.tail, &known), fits[i].fits, "%s", fits[i].what);
    }
    /* Who does not ask is told when the file ends. */
    struct kv_err err = {0};
    struct kv_log_seal shorter = {SEALED, len - 40, 2, 0};
    w.known =
        (struct kv_log_known){.seals = &shorter, .n_seals = 1, .edit = EDIT, .last_seq = 2, .puts_from = 1};
    cr_assert_eq(world_read(&w, &any, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "it ends before its seal"), "%s", err.text);
    world_release(&w);
}

/* ---- what changes while it is looked at */

/* The bytes of the record of sequence 2 or 5 are not there yet when its file is read first. */
static void not_there_yet(void *ctx, struct kv_read *range)
{
    struct world *w = ctx;
    if (range->offset == KV_FILE_HEADER_LEN && w->calls++ < 1)
        range->into[40] ^= 1;
}

Test(log_tail, a_record_that_comes_behind_the_look_is_read_again)
{
    for (int sealed = 0; sealed < 2; sealed++) {
        struct world w;
        struct kv_err err = {0};
        bool any;
        world_init(&w);
        if (!sealed)
            w.known.puts_from = RECORDS + 1;
        w.hook.found = not_there_yet;
        cr_assert_eq(world_read(&w, &any, &err), KV_OK, "%s", err.text);
        cr_assert_eq(w.n_got, sealed ? 6 : 3);
        cr_assert_geq(w.calls, 1, "it was not there at first");
        world_release(&w);
    }
}

static void still_not_there(void *ctx, struct kv_read *range)
{
    (void)ctx;
    if (range->offset == KV_FILE_HEADER_LEN)
        range->into[40] ^= 1;
}

/* The second look at the current file finds it as short as what was read. */
static void shorter_now(void *ctx, uint64_t *bytes)
{
    struct world *w = ctx;
    if (w->calls++ == 2)
        *bytes = KV_FILE_HEADER_LEN + 40;
}

Test(log_tail, a_file_that_was_cut_is_damage)
{
    struct world w;
    struct kv_err err = {0};
    bool any;
    world_init(&w);
    w.known.puts_from = RECORDS + 1;
    w.hook.found = still_not_there;
    w.hook.sized = shorter_now;
    cr_assert_eq(world_read(&w, &any, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "db/000006.log at offset 168: a bad record that was synced"), "%s", err.text);
    cr_assert_eq(w.n_got, 1);
    world_release(&w);
}

/* ---- each operation failing */

static kv_status fail_nth(void *ctx, enum vfs_op op, const char *name, struct kv_err *err)
{
    struct world *w = ctx;
    (void)op;
    return --w->calls == 0 ? kv_fail(err, KV_IO, 5, "%s: the disk is gone", name) : KV_OK;
}

/* A bad record, so much behind it that it takes two reads, and then the one that says that it was synced. */
static void make_hole(struct world *w)
{
    struct file *file = &w->files[1];
    uint8_t *zeros = kv_buf_extend(&file->bytes, 600 << 10);
    cr_assert(zeros != NULL);
    memset(zeros, 0, 600 << 10);
    file_record(file, 8);
    world_store(w);
}

Test(log_tail, each_operation_fails_and_the_next_look_goes_on)
{
    for (int hole = 0; hole < 2; hole++) {
        bool fired = true;
        for (int nth = 1; fired; nth++) {
            struct world w;
            struct kv_err err = {0};
            bool any;
            world_init(&w);
            if (hole)
                make_hole(&w);
            w.hook.before = fail_nth;
            w.calls = nth;
            kv_status rc = world_read(&w, &any, &err);
            fired = w.calls <= 0;
            if (fired) {
                cr_assert_eq(rc, KV_IO, "%d: %s", nth, kv_status_name(rc));
                cr_assert(strstr(err.text, "the disk is gone"), "%s", err.text);
            }
            w.hook.before = NULL;
            rc = world_read(&w, &any, &err);
            cr_assert_eq(rc, hole ? KV_CORRUPT : KV_OK, "%d: %s", nth, err.text);
            cr_assert(w.n_got == 6 && w.got[0] == 1 && w.got[5] == 6);
            world_release(&w);
        }
    }
}
