#include "kvcore/base/coding.h"
#include "kvcore/db/log_frame.h"
#include "kvcore/db/log_read.h"
#include "kvcore/db/log_sums.h"
#include "tests/support/log_kit.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const struct log_kit_options one_file = {.file_bytes = 1 << 20};

/* ---- framing */

Test(log, fragments_of_any_payload_come_back)
{
    static const size_t lens[] = {0,     1,     5,     6,     7,     8,     32730, 32733,
                                  32734, 32735, 32736, 65470, 65472, 70000, 300000};
    static uint8_t payload[300000];
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 31 + i / 256);
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        struct kv_buf buf = {0};
        struct kv_log_fragment f;
        kv_slice batch = kv_slice_of(payload, lens[i] / 3),
                 record = kv_slice_of(payload + lens[i] / 3, lens[i] - lens[i] / 3);
        cr_assert_eq(kv_log_frame_add(&buf, 42, batch, record), KV_OK);
        cr_assert_eq(buf.len % KV_LOG_ALIGN, 0);
        kv_log_frame_stamp(buf.data, buf.len, 99, 4096, 41);
        size_t at = 0, joined_len = 0;
        uint8_t *joined = malloc(lens[i] + 32);
        while (at < buf.len) {
            cr_assert(kv_log_fragment_valid(kv_slice_from(kv_buf_slice(&buf), at), 99, 4096 + at, &f));
            cr_assert(f.seq == 42 && f.synced == 41 && f.place == joined_len &&
                      f.size <= KV_LOG_FRAGMENT_MAX);
            cr_assert_not(kv_log_fragment_valid(kv_slice_from(kv_buf_slice(&buf), at), 99, 4096 + at + 8, &f),
                          "the sum knows its place");
            cr_assert_not(kv_log_fragment_valid(kv_slice_from(kv_buf_slice(&buf), at), 98, 4096 + at, &f),
                          "the sum knows its file");
            cr_assert(kv_log_fragment_valid(kv_slice_from(kv_buf_slice(&buf), at), 99, 4096 + at, &f));
            memcpy(joined + joined_len, f.payload.data, f.payload.len);
            joined_len += f.payload.len;
            at += f.size;
        }
        kv_slice got_batch, got_record;
        cr_assert_eq(kv_log_payload_split(kv_slice_of(joined, joined_len), &got_batch, &got_record), KV_OK);
        cr_assert(kv_slice_equal(got_batch, batch) && kv_slice_equal(got_record, record), "length %zu",
                  lens[i]);
        free(joined);
        kv_buf_release(&buf);
    }
}

Test(log, names_have_one_spelling)
{
    char name[KV_LOG_NAME_MAX];
    uint64_t number;
    kv_log_name(name, 12);
    cr_assert_str_eq(name, "000012.log");
    cr_assert(kv_log_name_parse("000012.log", &number) && number == 12);
    cr_assert(kv_log_name_parse("1234567.log", &number) && number == 1234567);
    static const char *const bad[] = {
        "12.log",      "0000012.log", "000000.log", "000012.tbl",
        "000012.log2", ".log",        "",           "99999999999999999999999.log",
        "00001a.log"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_not(kv_log_name_parse(bad[i], &number), "%s", bad[i]);
}

/* ---- a log on a memory disk whose bytes can be changed */

struct image {
    struct kv_vfs *disk;
    char name[KV_LOG_NAME_MAX];
    uint8_t *bytes;
    size_t len;
};

static void read_all(struct kv_dir *dir, const char *name, uint8_t **bytes, size_t *len)
{
    struct kv_file *file;
    uint64_t size;
    cr_assert_eq(kv_dir_open_file(dir, name, &file, NULL), KV_OK);
    cr_assert_eq(kv_file_size(file, &size, NULL), KV_OK);
    *bytes = malloc((size_t)size + 1);
    *len = (size_t)size;
    cr_assert_eq(kv_file_read_exact(file, 0, *len, *bytes, NULL), KV_OK);
    kv_file_close(file);
}

/* n commits in one unsealed file, as a kill leaves them. */
static void image_make(struct image *image, uint64_t n)
{
    struct log_kit kit;
    image->disk = kv_vfs_mem_new();
    cr_assert_eq(log_kit_open(&kit, image->disk, &one_file, NULL), KV_OK);
    for (uint64_t id = 1; id <= n; id++)
        cr_assert_eq(log_kit_commit(&kit, id == 5 ? 6 : id, NULL, NULL), KV_OK); /* not the long one */
    kv_log_name(image->name, kit.manifest.current);
    read_all(kit.dir, image->name, &image->bytes, &image->len);
    log_kit_abandon(&kit);
}

static void image_free(struct image *image)
{
    free(image->bytes);
    kv_vfs_mem_free(image->disk);
}

/* Opens the database with other bytes in its log file. */
static kv_status image_open(const struct image *image, const uint8_t *bytes, size_t len, struct log_kit *kit,
                            struct kv_vfs **disk, struct kv_err *err)
{
    struct kv_dir *dir;
    struct kv_file *file;
    *disk = kv_vfs_mem_crash_clone(image->disk);
    cr_assert_eq(kv_vfs_dir_open(*disk, "db", false, &dir, NULL), KV_OK);
    cr_assert_eq(kv_dir_remove(dir, image->name, NULL), KV_OK);
    if (bytes) {
        cr_assert_eq(kv_dir_create(dir, image->name, &file, NULL), KV_OK);
        cr_assert_eq(kv_file_append(file, 0, kv_slice_of(bytes, len), NULL), KV_OK);
        kv_file_close(file);
    }
    kv_dir_close(dir);
    return log_kit_open(kit, *disk, &one_file, err);
}

/* What is left when all is well: the first `n` commits and nothing wrong. */
static void expect_prefix(const struct log_kit *kit, size_t n)
{
    cr_assert_eq(kit->recovered.n, n);
    for (size_t i = 0; i < n; i++)
        cr_assert_eq(kit->recovered.ids[i], i + 1 == 5 ? 6 : i + 1);
}

static uint64_t record_offset(const struct image *image, uint64_t seq)
{
    for (size_t at = KV_FILE_HEADER_LEN; at < image->len;) {
        const uint8_t *p = image->bytes + at;
        if (kv_get_fixed64(p + KV_LOG_AT_SEQ) == seq)
            return at;
        at += kv_log_fragment_size(kv_get_fixed32(p + KV_LOG_AT_TOTAL), kv_get_fixed32(p + KV_LOG_AT_PLACE));
        at += kv_get_fixed64(image->bytes + 72) ? KV_CIPHER_TAG_LEN : 0; /* the header's key id */
    }
    return image->len;
}

/* With one commit a sync, record n says that n - 1 was synced: any damage but to the last group is seen as such. */
static void run_any_flipped_bit_is_damage_or_the_unprovable_last_group(void)
{
    enum { N = 6 };
    struct image image;
    image_make(&image, N);
    uint64_t last = record_offset(&image, N);
    for (size_t bit = 0; bit < image.len * 8; bit++) {
        struct log_kit kit;
        struct kv_vfs *disk;
        struct kv_err err = {0};
        image.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        kv_status rc = image_open(&image, image.bytes, image.len, &kit, &disk, &err);
        if (bit / 8 < last) {
            cr_assert_eq(rc, KV_CORRUPT, "bit %zu: %s", bit, kv_status_name(rc));
            cr_assert(strstr(err.text, image.name) && strstr(err.text, "offset"), "%s", err.text);
        } else {
            cr_assert_eq(rc, KV_OK, "bit %zu: %s", bit, err.text);
            expect_prefix(&kit, N - 1);
            struct kv_log_stats stats;
            kv_log_stats(kit.log, &stats);
            cr_assert(stats.tail_unproven && stats.torn_bytes == image.len - last);
            log_kit_abandon(&kit);
        }
        kv_vfs_mem_free(disk);
        image.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    image_free(&image);
}

Test(log, any_flipped_bit_is_damage_or_the_unprovable_last_group)
{
    run_any_flipped_bit_is_damage_or_the_unprovable_last_group();
}

Test(log, any_flipped_bit_of_an_encrypted_file_is_damage_or_the_unprovable_last_group)
{
    log_kit_encrypt();
    run_any_flipped_bit_is_damage_or_the_unprovable_last_group();
}

static void run_file_cut_anywhere_is_a_torn_tail(void)
{
    enum { N = 6 };
    struct image image;
    image_make(&image, N);
    for (size_t len = KV_FILE_HEADER_LEN; len <= image.len; len++) {
        struct log_kit kit;
        struct kv_vfs *disk;
        struct kv_err err = {0};
        cr_assert_eq(image_open(&image, image.bytes, len, &kit, &disk, &err), KV_OK, "length %zu: %s", len,
                     err.text);
        size_t whole = 0;
        while (whole < N && (whole + 1 < N ? record_offset(&image, whole + 2) : image.len) <= len)
            whole++;
        expect_prefix(&kit, whole);
        log_kit_abandon(&kit);
        kv_vfs_mem_free(disk);
    }
    image_free(&image);
}

Test(log, file_cut_anywhere_is_a_torn_tail)
{
    run_file_cut_anywhere_is_a_torn_tail();
}

Test(log, an_encrypted_file_cut_anywhere_is_a_torn_tail)
{
    log_kit_encrypt();
    run_file_cut_anywhere_is_a_torn_tail();
}

static void run_zeros_and_garbage_behind_the_end_are_a_torn_tail(void)
{
    struct image image;
    image_make(&image, 4);
    uint8_t *longer = calloc(1, image.len + 5000);
    memcpy(longer, image.bytes, image.len);
    for (int round = 0; round < 3; round++) {
        struct log_kit kit;
        struct kv_vfs *disk;
        cr_assert_eq(image_open(&image, longer, image.len + 5000, &kit, &disk, NULL), KV_OK);
        expect_prefix(&kit, 4);
        log_kit_abandon(&kit);
        kv_vfs_mem_free(disk);
        /* then bytes; then old records of the same file, out of their place */
        for (size_t i = 0; i < 5000; i++)
            longer[image.len + i] = round ? longer[KV_FILE_HEADER_LEN + i % 300] : (uint8_t)(i * 7);
    }
    free(longer);
    image_free(&image);
}

Test(log, zeros_and_garbage_behind_the_end_are_a_torn_tail)
{
    run_zeros_and_garbage_behind_the_end_are_a_torn_tail();
}

Test(log, zeros_and_garbage_behind_an_encrypted_end_are_a_torn_tail)
{
    log_kit_encrypt();
    run_zeros_and_garbage_behind_the_end_are_a_torn_tail();
}

Test(log, missing_and_foreign_files_are_told_apart)
{
    struct image image;
    struct log_kit kit;
    struct kv_vfs *disk;
    struct kv_err err;
    image_make(&image, 3);
    cr_assert_eq(image_open(&image, NULL, 0, &kit, &disk, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "is missing") && strstr(err.text, "kvtool salvage db"), "%s", err.text);
    kv_vfs_mem_free(disk);
    cr_assert_eq(image_open(&image, image.bytes, 60, &kit, &disk, &err), KV_CORRUPT,
                 "announced, so its header was durable");
    kv_vfs_mem_free(disk);

    struct kv_file_header header;
    struct kv_file_expect expect = {.kind = KV_FILE_LOG, .format_max = KV_LOG_FORMAT, .name = "x"};
    cr_assert_eq(kv_file_header_check(kv_slice_of(image.bytes, image.len), &expect, &header, NULL), KV_OK);
    struct kv_file_header changed = header;
    changed.uuid[0] ^= 1;
    kv_file_header_encode(&changed, image.bytes);
    cr_assert_eq(image_open(&image, image.bytes, image.len, &kit, &disk, &err), KV_CORRUPT);
    kv_vfs_mem_free(disk);
    changed = header;
    changed.format = KV_LOG_FORMAT + 1;
    kv_file_header_encode(&changed, image.bytes);
    cr_assert_eq(image_open(&image, image.bytes, image.len, &kit, &disk, &err), KV_TOO_NEW);
    kv_vfs_mem_free(disk);
    changed = header;
    changed.edit = 1000;
    kv_file_header_encode(&changed, image.bytes);
    cr_assert_eq(image_open(&image, image.bytes, image.len, &kit, &disk, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "manifest lost its end"), "%s", err.text);
    kv_vfs_mem_free(disk);
    image_free(&image);
}

/* ---- right checksums, wrong content: one row for each rule of what follows what */

enum { TWISTED_PAYLOAD = 70000 }; /* three fragments */
static const struct twisted {
    const char *what;
    int fragment, field; /* whose, and where; -1: none */
    uint32_t by;
    int first; /* the first fragment written */
    uint64_t seq, synced;
} twisted[] = {
    {"a sequence too far", -1, 0, 0, 0, 5, 3},
    {"a sequence there was", -1, 0, 0, 0, 3, 2},
    {"a record without its first fragment", -1, 0, 0, 1, 4, 3},
    {"a fragment of another record", 1, KV_LOG_AT_SEQ, 1, 0, 4, 3},
    {"a fragment of a longer record", 1, KV_LOG_AT_TOTAL, 8, 0, 4, 3},
    {"a fragment of another place", 1, KV_LOG_AT_PLACE, KV_LOG_FRAGMENT_PAYLOAD_MAX, 0, 4, 3},
    {"a fragment that was written later", 2, KV_LOG_AT_SYNCED, 1, 0, 4, 2},
};

static struct kv_file_header image_header(const struct image *image)
{
    struct kv_file_header header;
    struct kv_file_expect expect = {.kind = KV_FILE_LOG, .format_max = KV_LOG_FORMAT, .name = "x"};
    cr_assert_eq(kv_file_header_check(kv_slice_of(image->bytes, image->len), &expect, &header, NULL), KV_OK);
    return header;
}

/* Behind the image's own records the twisted one, and one that follows it and says what was synced. */
static void twisted_file(const struct image *image, const struct twisted *t, bool proof, struct kv_buf *out)
{
    static uint8_t payload[TWISTED_PAYLOAD];
    struct kv_buf frames = {0};
    uint32_t sum = kv_log_uid_sum(image_header(image).uid);
    kv_buf_clear(out);
    cr_assert_eq(kv_buf_append(out, kv_slice_of(image->bytes, image->len)), KV_OK);
    payload[0] = KV_LOG_PAYLOAD_KIND_COMMIT;
    cr_assert_eq(kv_log_frame_add_payload(&frames, t->seq, kv_slice_of(payload, sizeof payload)), KV_OK);
    size_t at = 0;
    for (int i = 0; at < frames.len; i++) {
        uint8_t *frame = frames.data + at;
        size_t size = kv_log_fragment_size(kv_get_fixed32(frame + KV_LOG_AT_TOTAL),
                                           kv_get_fixed32(frame + KV_LOG_AT_PLACE));
        at += size;
        if (i < t->first)
            continue;
        bool here = i == t->fragment;
        if (here && t->field != KV_LOG_AT_SYNCED)
            kv_put_fixed32(frame + t->field, kv_get_fixed32(frame + t->field) + t->by);
        size = kv_log_fragment_size(kv_get_fixed32(frame + KV_LOG_AT_TOTAL),
                                    kv_get_fixed32(frame + KV_LOG_AT_PLACE));
        kv_log_frame_stamp(frame, size, sum, out->len,
                           t->synced + (here && t->field == KV_LOG_AT_SYNCED ? t->by : 0));
        cr_assert_eq(kv_buf_append(out, kv_slice_of(frame, size)), KV_OK);
    }
    kv_buf_clear(&frames);
    cr_assert_eq(kv_log_frame_add(&frames, 5, KV_STR(""), KV_STR("behind it")), KV_OK);
    kv_log_frame_stamp(frames.data, frames.len, sum, out->len, proof ? 4 : 3);
    cr_assert_eq(kv_buf_append(out, kv_buf_slice(&frames)), KV_OK);
    kv_buf_release(&frames);
}

Test(log, a_record_that_does_not_follow_is_a_torn_end_or_damage_if_it_was_synced)
{
    struct image image;
    image_make(&image, 3);
    for (size_t i = 0; i < 2 * (sizeof twisted / sizeof *twisted); i++) {
        struct kv_buf bytes = {0};
        struct log_kit kit;
        struct kv_vfs *disk;
        struct kv_err err = {0};
        twisted_file(&image, &twisted[i / 2], i % 2, &bytes);
        kv_status rc = image_open(&image, bytes.data, bytes.len, &kit, &disk, &err);
        cr_expect_eq(rc, i % 2 ? KV_CORRUPT : KV_OK, "%s: %s: %s", twisted[i / 2].what, kv_status_name(rc),
                     err.text);
        if (rc == KV_OK) {
            cr_expect_eq(kit.recovered.n, 3, "%s", twisted[i / 2].what);
            log_kit_abandon(&kit);
        }
        kv_vfs_mem_free(disk);
        kv_buf_release(&bytes);
    }
    image_free(&image);
}

Test(log, copies_check_that_records_follow)
{
    struct image image;
    image_make(&image, 3);
    const struct kv_file_header header = image_header(&image);
    struct kv_log_seal seal = {1, image.len, 3, 0};
    for (size_t i = 0; i < sizeof twisted / sizeof *twisted + 4; i++) {
        struct kv_buf bytes = {0};
        struct kv_log_sums sums;
        struct kv_err err = {0};
        bool twist = i >= 4;
        twisted_file(&image, &twisted[twist ? i - 4 : 0], false, &bytes);
        size_t len = twist ? bytes.len : image.len;
        struct kv_log_seal say = seal;
        say.valid_len += i == 1 ? 8 : 0;
        say.last_seq += i == 2 ? 1 : 0;
        len -= i == 3 ? 8 : 0;
        kv_log_sums_init(&sums, "x", header.uuid, NULL, &say);
        kv_status rc = KV_OK;
        for (size_t at = 0; at < len && rc == KV_OK; at += 100)
            rc = kv_log_sums_add(&sums, kv_slice_of(bytes.data + at, len - at < 100 ? len - at : 100), &err);
        if (rc == KV_OK)
            rc = kv_log_sums_end(&sums, &err);
        cr_expect_eq(rc, i == 0 ? KV_OK : KV_CORRUPT, "case %zu: %s: %s", i, kv_status_name(rc), err.text);
        const char *text = i == 0   ? ""
                           : i == 2 ? "last record"
                           : twist  ? "does not follow"
                                    : "before its seal";
        cr_expect(strstr(err.text, text) != NULL, "case %zu: %s", i, err.text);
        kv_log_sums_release(&sums);
        kv_buf_release(&bytes);
    }
    image_free(&image);
}

Test(log, payloads_are_taken_apart_whole_or_not_at_all)
{
    static const struct {
        kv_slice payload;
        kv_status rc;
    } rules[] = {
        {{0}, KV_CORRUPT},
        {KV_STR("\x01"), KV_CORRUPT},
        {KV_STR("\x01\x05"
                "abc"),
         KV_CORRUPT},
        {KV_STR("\x02\x00"), KV_TOO_NEW},
        {KV_STR("\x01\x00"), KV_OK},
        {KV_STR("\x01\x01"
                "arecord"),
         KV_OK},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        kv_slice batch, record;
        cr_expect_eq(kv_log_payload_split(rules[i].payload, &batch, &record), rules[i].rc, "%zu", i);
    }
}

/* ---- sealed files */

struct file_count {
    uint64_t sealed, open;
};

static kv_status count_files(void *ctx, const struct kv_log_seal *file, bool sealed)
{
    struct file_count *count = ctx;
    cr_assert_eq(count->open, 0, "the one being written is the last");
    count->sealed += sealed;
    count->open += !sealed;
    return file->valid_len >= KV_FILE_HEADER_LEN ? KV_OK : KV_CORRUPT;
}

static void run_rolls_and_close_seal_and_a_shortfall_before_a_seal_is_damage(void)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct log_kit kit;
    struct kv_err err = {0};
    cr_assert_eq(log_kit_open(&kit, disk, &(struct log_kit_options){.file_bytes = 700}, NULL), KV_OK);
    for (uint64_t id = 6; id < 30; id++)
        cr_assert_eq(log_kit_commit(&kit, id, NULL, NULL), KV_OK);
    struct log_kit_manifest m = kit.manifest;
    struct kv_log_stats stats;
    kv_log_stats(kit.log, &stats);
    cr_assert(stats.rolls > 3 && m.n_seals == stats.rolls && stats.files == stats.rolls + 1);
    cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
    for (size_t s = 0; s < m.n_seals; s++) {
        char name[KV_LOG_NAME_MAX];
        uint8_t *bytes;
        size_t len;
        struct kv_dir *dir;
        struct kv_file *file;
        struct kv_vfs *copy = kv_vfs_mem_crash_clone(disk);
        kv_log_name(name, m.seals[s].number);
        cr_assert_eq(kv_vfs_dir_open(copy, "db", false, &dir, NULL), KV_OK);
        read_all(dir, name, &bytes, &len);
        cr_assert_eq(len, m.seals[s].valid_len);
        cr_assert_eq(kv_dir_remove(dir, name, NULL), KV_OK);
        cr_assert_eq(kv_dir_create(dir, name, &file, NULL), KV_OK);
        cr_assert_eq(kv_file_append(file, 0, kv_slice_of(bytes, s % 2 ? len - 1 : len), NULL), KV_OK);
        cr_assert_eq(kv_file_append(file, s % 2 ? len - 1 : len, KV_STR("more behind it"), NULL), KV_OK);
        kv_file_close(file);
        kv_dir_close(dir);
        free(bytes);
        kv_status rc = log_kit_open(&kit, copy, &one_file, &err);
        cr_assert_eq(rc, s % 2 ? KV_CORRUPT : KV_OK,
                     "bytes past a seal are ignored, a byte before it is missed: %s", err.text);
        if (rc == KV_OK) {
            cr_assert_eq(kit.recovered.n, 24);
            log_kit_abandon(&kit);
        } else {
            cr_assert(strstr(err.text, name) && strstr(err.text, "before the seal"), "%s", err.text);
        }
        kv_vfs_mem_free(copy);
    }
    cr_assert_eq(log_kit_open(&kit, disk, &one_file, &err), KV_OK);
    cr_assert_eq(kit.recovered.n, 24);
    cr_assert_eq(kv_log_roll(kit.log, NULL), KV_OK, "a file without a record need not be rolled");
    cr_assert_eq(log_kit_commit(&kit, 40, NULL, NULL), KV_OK);
    uint64_t seals = kit.manifest.n_seals;
    cr_assert_eq(kv_log_roll(kit.log, NULL), KV_OK);
    cr_assert_eq(kit.manifest.n_seals, seals + 1);
    struct file_count count = {0};
    cr_assert_eq(kv_log_files(kit.log, count_files, &count), KV_OK);
    cr_assert(count.sealed == seals + 1 && count.open == 1);
    cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
    kv_vfs_mem_free(disk);
}

Test(log, rolls_and_close_seal_and_a_shortfall_before_a_seal_is_damage)
{
    run_rolls_and_close_seal_and_a_shortfall_before_a_seal_is_damage();
}

Test(log, encrypted_files_are_sealed_too_and_a_shortfall_is_damage)
{
    log_kit_encrypt();
    run_rolls_and_close_seal_and_a_shortfall_before_a_seal_is_damage();
}

Test(log, opening_and_closing_leaves_no_files_behind)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct log_kit kit;
    for (int i = 0; i < 5; i++) {
        struct kv_log_stats stats;
        cr_assert_eq(log_kit_open(&kit, disk, &one_file, NULL), KV_OK);
        kv_log_stats(kit.log, &stats);
        cr_assert_eq(stats.files, 1);
        cr_assert_eq(kit.manifest.n_seals, 0);
        if (i % 2)
            log_kit_abandon(&kit);
        else
            cr_assert_eq(log_kit_close(&kit, NULL), KV_OK);
    }
    kv_vfs_mem_free(disk);
}

Test(log, trimming_keeps_what_the_floors_need)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct log_kit kit;
    cr_assert_eq(log_kit_open(&kit, disk, &(struct log_kit_options){.file_bytes = 1}, NULL), KV_OK);
    for (uint64_t id = 1; id <= 9; id++) /* a file each; id 3 has no record */
        cr_assert_eq(log_kit_commit(&kit, id, NULL, NULL), KV_OK);
    uint64_t first = kv_log_first_needed(kit.log, 1, 1);
    cr_assert_eq(kv_log_first_needed(kit.log, 4, 1), first, "application records from 1 on");
    cr_assert_eq(kv_log_first_needed(kit.log, 1, 4), first, "puts from 1 on");
    cr_assert_eq(kit.manifest.seals[2].last_record_seq, 0, "commit 3 carries none");
    uint64_t third = kv_log_first_needed(kit.log, 3, 3), fourth = kv_log_first_needed(kit.log, 4, 3);
    cr_assert(first < third && third < fourth);
    cr_assert_eq(kv_log_trim_below(kit.log, fourth, NULL), KV_OK);
    cr_assert_eq(kv_log_first_needed(kit.log, 1, 1), fourth);
    cr_assert_eq(kv_log_first_needed(kit.log, 100, 100), kit.manifest.current,
                 "the file being written stays");
    log_kit_abandon(&kit);
    kv_vfs_mem_free(disk);
}

/* ---- the golden file: written by the first version, read by every later one */

static const char golden_path[] = "tests/golden/log-v1.log";

static kv_status golden_commit(void *ctx, uint64_t seq, kv_slice batch, kv_slice record, struct kv_err *err)
{
    uint64_t *next = ctx;
    (void)err;
    cr_assert_eq(seq, *next);
    cr_assert_eq(log_kit_check(batch, record), seq);
    ++*next;
    return KV_OK;
}

static void golden_write(void)
{
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct log_kit kit;
    uint8_t *bytes;
    size_t len;
    char name[KV_LOG_NAME_MAX];
    cr_assert_eq(log_kit_open(&kit, disk, &one_file, NULL), KV_OK);
    for (uint64_t id = 1; id <= 12; id++)
        cr_assert_eq(log_kit_commit(&kit, id, NULL, NULL), KV_OK);
    kv_log_name(name, kit.manifest.current);
    read_all(kit.dir, name, &bytes, &len);
    FILE *f = fopen(golden_path, "wb");
    cr_assert(f && fwrite(bytes, 1, len, f) == len && fclose(f) == 0);
    free(bytes);
    log_kit_abandon(&kit);
    kv_vfs_mem_free(disk);
}

Test(log, files_of_the_first_version_are_read)
{
    if (getenv("TIDEMARK_WRITE_GOLDEN"))
        golden_write();
    FILE *f = fopen(golden_path, "rb");
    cr_assert_not_null(f, "run from the root of the repository");
    static uint8_t bytes[1 << 17];
    size_t len = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    struct kv_vfs *disk = kv_vfs_mem_new();
    struct kv_dir *dir;
    struct kv_file *file;
    struct kv_log *log;
    struct kv_err err = {0};
    uint64_t next = 1;
    cr_assert_eq(kv_vfs_dir_open(disk, "db", true, &dir, NULL), KV_OK);
    cr_assert_eq(kv_dir_create(dir, "000001.log", &file, NULL), KV_OK);
    cr_assert_eq(kv_file_append(file, 0, kv_slice_of(bytes, len), NULL), KV_OK);
    kv_file_close(file);
    struct kv_log_options options = {
        .dir = dir, .path = "db", .clock = kv_clock_system(), .uuid = "the test's uuid"};
    struct kv_log_known known = {.current = 1, .edit = 1000, .puts_from = 1, .records_from = 1};
    struct kv_log_replay replay = {.ctx = &next, .commit = golden_commit};
    cr_assert_eq(kv_log_open(&options, &known, &replay, &log, &err), KV_OK, "%s", err.text);
    cr_assert_eq(next, 13);
    cr_assert_eq(kv_log_close(log, NULL), KV_OK, "a log that was only opened writes nothing");
    kv_dir_close(dir);
    kv_vfs_mem_free(disk);
}
