/*
 * Every file of a database damaged in every way (tests/support/damage_kit.h says what is right then): each bit flipped, cut at each byte,
 * zeroed, grown, removed, in another's place. `make test` takes a stride through the bits and bytes, `make check-long` (SWEEP_ALL=1) all.
 */
#include "tests/support/damage_kit.h"
#include "tests/support/sweep.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct damage_world world;
static uint64_t outcomes[4];

static void judge(const struct damage_dir *changed, const struct damage_done *done, const char *what,
                  const char *name, uint64_t at)
{
    const char *wrong = damage_judge(&world, changed, done);
    cr_assert_null(wrong, "%s%s %s %s at %llu: %s", world.encrypted ? "encrypted " : "",
                   world.crashed ? "crashed" : "closed", what, name, (unsigned long long)at, wrong);
    outcomes[damage_outcome()]++;
    static uint64_t n;
    if (n++ % 13)
        return;
    wrong = damage_repair(&world, changed);
    cr_assert_null(wrong, "%s%s %s %s at %llu: %s", world.encrypted ? "encrypted " : "",
                   world.crashed ? "crashed" : "closed", what, name, (unsigned long long)at, wrong);
}

static const char *suffix_of(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot : name;
}

/* ---- ways of damage. Each leaves `dir` as it was. */

static void flip(struct damage_dir *dir, struct damage_file *file, uint64_t bit)
{
    struct damage_done done = {.n = 0};
    file->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    damage_note(&done, &world, file->name, bit / 8, bit / 8 + 1);
    judge(dir, &done, "flip", file->name, bit);
    file->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
}

static void cut(struct damage_dir *dir, struct damage_file *file, size_t at)
{
    struct damage_done done = {.n = 0};
    size_t len = file->len;
    file->len = at;
    damage_note(&done, &world, file->name, at, len);
    judge(dir, &done, "cut", file->name, at);
    file->len = len;
}

static void zero(struct damage_dir *dir, struct damage_file *file, size_t from, size_t to)
{
    struct damage_done done = {.n = 0};
    struct damage_file before = {.bytes = NULL};
    damage_file_set(&before, file->bytes, file->len);
    memset(file->bytes + from, 0, to - from);
    damage_note(&done, &world, file->name, from, to);
    judge(dir, &done, "zero", file->name, from);
    damage_file_set(file, before.bytes, before.len);
    free(before.bytes);
}

static void grow(struct damage_dir *dir, struct damage_file *file, uint8_t byte, size_t n)
{
    struct damage_done done = {.n = 0};
    size_t len = file->len;
    uint8_t *longer = malloc(len + n);
    memcpy(longer, file->bytes, len);
    for (size_t i = 0; i < n; i++)
        longer[len + i] = (uint8_t)(byte * (i + 1));
    damage_file_set(file, longer, len + n);
    damage_note(&done, &world, file->name, len, len); /* nothing of it changed */
    judge(dir, &done, byte ? "garbage behind" : "zeros behind", file->name, n);
    damage_file_set(file, longer, len);
    free(longer);
}

static void take_away(const char *name)
{
    struct damage_done done = {.n = 0};
    struct damage_dir dir;
    damage_dir_copy(&world.now, &dir);
    damage_dir_remove(&dir, name);
    damage_note(&done, &world, name, 0, UINT64_MAX);
    judge(&dir, &done, "remove", name, 0);
    damage_dir_release(&dir);
}

/* `name` gets the bytes of another; both: that one gets its. */
static void replace(const char *name, struct damage_file *by, bool both, const char *what)
{
    struct damage_done done = {.n = 0};
    struct damage_dir dir;
    damage_dir_copy(&world.now, &dir);
    struct damage_file *file = damage_dir_file(&dir, name),
                       *with = both ? damage_dir_file(&dir, by->name) : NULL;
    size_t same = 0;
    while (same < file->len && same < by->len && file->bytes[same] == by->bytes[same])
        same++;
    damage_note(&done, &world, name, same, UINT64_MAX);
    if (with) {
        damage_note(&done, &world, by->name, same, UINT64_MAX);
        damage_file_set(with, file->bytes, file->len);
    }
    damage_file_set(file, by->bytes, by->len);
    judge(&dir, &done, what, name, same);
    damage_dir_release(&dir);
}

/* ---- every file, every place */

enum { WORLDS = 4 };

static void make_world(int i)
{
    damage_world_make(&world, i & 1, i & 2);
    memset(outcomes, 0, sizeof outcomes);
    struct damage_done none = {.n = 0};
    cr_assert_null(damage_judge(&world, &world.now, &none), "%s", damage_judge(&world, &world.now, &none));
    cr_assert_eq(damage_outcome(), DAMAGE_HARMLESS);
}

static void for_files(void (*each)(struct damage_dir *dir, struct damage_file *file))
{
    struct damage_dir dir;
    damage_dir_copy(&world.now, &dir);
    for (size_t i = 0; i < dir.n; i++)
        each(&dir, &dir.files[i]);
    damage_dir_release(&dir);
}

Test(bad_files, a_database_has_every_kind_of_file)
{
    static const char *const kinds[] = {".man", ".log", ".tbl", ".vlg", "reserve"};
    for (int i = 0; i < WORLDS; i++) {
        size_t bytes = 0;
        make_world(i);
        for (size_t kind = 0; kind < 5; kind++) {
            size_t n = 0;
            for (size_t f = 0; f < world.now.n; f++)
                n += strcmp(suffix_of(world.now.files[f].name), kinds[kind]) == 0;
            cr_assert_geq(n, kind == 0 || kind == 4 ? 1 : 2, "%zu %s", n, kinds[kind]);
        }
        for (size_t f = 0; f < world.now.n; f++)
            bytes += world.now.files[f].len;
        cr_assert_lt(bytes, 40000, "%zu bytes: too many to flip each bit", bytes);
        damage_world_release(&world);
    }
}

static void flip_bits(struct damage_dir *dir, struct damage_file *file)
{
    static uint64_t start; /* another bit of the byte each time */
    for (uint64_t bit = start++ % 97; bit < file->len * 8; bit += sweep_stride(97))
        flip(dir, file, bit);
}

Test(bad_files, any_flipped_bit_is_found_or_harmless, .timeout = 7200)
{
    for (int i = 0; i < WORLDS; i++) {
        make_world(i);
        for_files(flip_bits);
        cr_assert(outcomes[DAMAGE_REFUSED] > 0 && outcomes[DAMAGE_CONTAINED] > 0 &&
                  outcomes[DAMAGE_HARMLESS] > 0);
        damage_world_release(&world);
    }
}

static void cut_bytes(struct damage_dir *dir, struct damage_file *file)
{
    for (size_t at = 0; at < file->len; at += sweep_stride(at < 136 ? 17 : 29))
        cut(dir, file, at);
}

Test(bad_files, a_file_cut_at_any_byte_is_found_or_loses_an_unsealed_end, .timeout = 7200)
{
    for (int i = 0; i < WORLDS; i++) {
        make_world(i);
        for_files(cut_bytes);
        cr_assert(!world.crashed || outcomes[DAMAGE_TAIL_LOST] > 0);
        damage_world_release(&world);
    }
}

static void zero_ranges(struct damage_dir *dir, struct damage_file *file)
{
    static const size_t lens[] = {8, 64, 512};
    for (size_t l = 0; l < 3; l++)
        for (size_t at = 0; at < file->len; at += sweep_all() ? lens[l] / 2 : 4 * lens[l] + 96)
            zero(dir, file, at, at + lens[l] < file->len ? at + lens[l] : file->len);
    zero(dir, file, 0, file->len);
}

Test(bad_files, zeroed_ranges_are_found_or_harmless, .timeout = 7200)
{
    for (int i = 0; i < WORLDS; i++) {
        make_world(i);
        for_files(zero_ranges);
        damage_world_release(&world);
    }
}

static void grow_and_remove(struct damage_dir *dir, struct damage_file *file)
{
    static const size_t lens[] = {1, 16, 700};
    for (size_t l = 0; l < 3; l++) {
        grow(dir, file, 0, lens[l]);
        grow(dir, file, 0x55, lens[l]);
    }
    take_away(file->name);
}

Test(bad_files, bytes_behind_the_end_and_missing_files_are_found_or_harmless, .timeout = 600)
{
    for (int i = 0; i < WORLDS; i++) {
        make_world(i);
        for_files(grow_and_remove);
        damage_world_release(&world);
    }
}

/* The files of another directory of this one's kind: of the same number, and by place. */
static void replace_from(struct damage_file *file, struct damage_dir *other, const char *what)
{
    for (size_t i = 0; i < other->n; i++)
        if (strcmp(suffix_of(other->files[i].name), suffix_of(file->name)) == 0)
            replace(file->name, &other->files[i], false, what);
}

static void exchange(struct damage_dir *dir, struct damage_file *file)
{
    for (size_t i = 0; i < dir->n; i++)
        if (strcmp(dir->files[i].name, file->name) > 0)
            replace(file->name, &dir->files[i], true, "exchange");
    replace_from(file, &world.older, "older");
    replace_from(file, &world.other, "of another database");
}

Test(bad_files, files_in_anothers_place_are_found, .timeout = 600)
{
    for (int i = 0; i < WORLDS; i++) {
        make_world(i);
        for_files(exchange);
        damage_world_release(&world);
    }
}

/* What is published names the manifest: in memory it is a value beside the files. */
Test(bad_files, another_published_name_is_found, .timeout = 600)
{
    static const char *const names[] = {"",        "x",          "000001.man",      "999999.man",
                                        "reserve", "000002.tbl", "../db/000001.man"};
    for (int i = 0; i < WORLDS; i++) {
        make_world(i);
        struct damage_dir dir;
        struct damage_done done = {.published = true};
        damage_dir_copy(&world.now, &dir);
        for (size_t bit = 0; bit < world.now.published_len * 8; bit++) {
            dir.published[bit / 8] ^= (uint8_t)(1 << bit % 8);
            judge(&dir, &done, "flip", "published", bit);
            dir.published[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t at = 0; at < sizeof names / sizeof *names; at++) {
            dir.published_len = strlen(names[at]);
            memcpy(dir.published, names[at], dir.published_len);
            judge(&dir, &done, "name", names[at], 0);
        }
        dir.generation = 0;
        judge(&dir, &done, "remove", "published", 0);
        damage_dir_release(&dir);
        damage_world_release(&world);
    }
}

/* All files of the database as they were once: that is a sound database of that time, and nobody can say it is not. */
Test(bad_files, an_older_directory_is_a_sound_one)
{
    make_world(0);
    struct damage_done done = {.n = 0};
    damage_note(&done, &world, world.manifest.name, 0, UINT64_MAX);
    cr_assert_null(damage_judge(&world, &world.older, &done), "%s",
                   damage_judge(&world, &world.older, &done));
    cr_assert_eq(damage_outcome(), DAMAGE_TAIL_LOST);
    damage_world_release(&world);
}
