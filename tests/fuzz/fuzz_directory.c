/*
 * A small database (tests/support/damage_kit.h) whose directory is changed, opened, and read in every way: an error that names a changed
 * file, or exactly what was stored. Then it is repaired, and opens, and no key has what it never had. The first byte chooses the database (bit 0 encrypted, bit 1 never closed), then come up to four
 * changes: kind:u8 file:u8 place:u16 more:u16, kinds below. Bytes of the input's own are written only into the encrypted ones: a
 * fuzzer that sees comparisons can make a crc right, and then the database says what it was told.
 */
#include "kvcore/base/assert.h"
#include "kvcore/base/coding.h"
#include "tests/support/damage_kit.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CHANGES_MAX = 4, CHANGE_LEN = 6 };
enum change { FLIP, CUT, ZERO, GROW, REMOVE, EXCHANGE, OLDER, OTHER, WRITE, CHANGES };

static struct damage_world *world_of(int which)
{
    static struct damage_world *worlds[4];
    if (!worlds[which]) {
        worlds[which] = calloc(1, sizeof *worlds[which]);
        KV_ASSERT(worlds[which] != NULL);
        damage_world_make(worlds[which], which & 1, which & 2);
    }
    return worlds[which];
}

static void put_file(struct damage_dir *dir, struct damage_done *done, const struct damage_world *world,
                     const char *name, const struct damage_file *by)
{
    struct damage_file *file = damage_dir_file(dir, name);
    size_t same = 0;
    while (same < file->len && same < by->len && file->bytes[same] == by->bytes[same])
        same++;
    if (same == file->len && same == by->len)
        return;
    damage_note(done, world, name, same, UINT64_MAX);
    damage_file_set(file, by->bytes, by->len);
}

static void from_other(struct damage_dir *dir, struct damage_done *done, struct damage_world *world,
                       struct damage_file *file, const struct damage_dir *other, size_t pick)
{
    if (other->n > 0)
        put_file(dir, done, world, file->name, &other->files[pick % other->n]);
}

static void exchange(struct damage_dir *dir, struct damage_done *done, const struct damage_world *world,
                     struct damage_file *a, struct damage_file *b)
{
    struct damage_file copy = {.bytes = NULL};
    if (a == b)
        return;
    damage_file_set(&copy, a->bytes, a->len);
    put_file(dir, done, world, a->name, b);
    put_file(dir, done, world, b->name, &copy);
    free(copy.bytes);
}

static void grow(struct damage_file *file, uint8_t byte, size_t n)
{
    uint8_t *longer = malloc(file->len + n);
    KV_ASSERT(longer != NULL);
    if (file->len)
        memcpy(longer, file->bytes, file->len);
    memset(longer + file->len, byte, n);
    damage_file_set(file, longer, file->len + n);
    free(longer);
}

static void change(struct damage_world *world, struct damage_dir *dir, struct damage_done *done,
                   const uint8_t *how)
{
    if (dir->n == 0)
        return;
    struct damage_file *file = &dir->files[how[1] % dir->n];
    size_t place = file->len ? kv_get_fixed16(how + 2) % file->len : 0, more = kv_get_fixed16(how + 4);
    size_t end = place + more % 600 < file->len ? place + more % 600 : file->len;
    switch ((enum change)(how[0] % CHANGES)) {
    case FLIP:
        if (file->len == 0)
            return;
        file->bytes[place] ^= (uint8_t)(1 << more % 8);
        damage_note(done, world, file->name, place, place + 1);
        break;
    case CUT:
        damage_note(done, world, file->name, place, UINT64_MAX);
        file->len = place;
        break;
    case ZERO:
        memset(file->bytes + place, 0, end - place);
        damage_note(done, world, file->name, place, end);
        break;
    case GROW:
        damage_note(done, world, file->name, file->len, file->len);
        grow(file, (uint8_t)place, more % 600);
        break;
    case REMOVE:
        damage_note(done, world, file->name, 0, UINT64_MAX);
        damage_dir_remove(dir, file->name);
        break;
    case EXCHANGE:
        exchange(dir, done, world, file, &dir->files[more % dir->n]);
        break;
    case OLDER:
        from_other(dir, done, world, file, &world->older, more);
        break;
    case OTHER:
        from_other(dir, done, world, file, &world->other, more);
        break;
    default:
        for (size_t i = place; i < end && world->encrypted; i++)
            file->bytes[i] = (uint8_t)(file->bytes[i] + how[0] + i);
        if (world->encrypted)
            damage_note(done, world, file->name, place, end);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct damage_world *world = world_of(data[0] & 3);
    struct damage_dir dir;
    struct damage_done done = {.n = 0};
    damage_dir_copy(&world->now, &dir);
    for (size_t i = 0; i < CHANGES_MAX && 1 + (i + 1) * CHANGE_LEN <= size; i++)
        change(world, &dir, &done, data + 1 + i * CHANGE_LEN);
    const char *wrong = damage_judge(world, &dir, &done);
    if (!wrong)
        wrong = damage_repair(world, &dir);
    if (wrong) {
        fprintf(stderr, "%s\n", wrong);
        for (size_t i = 0; i < done.n; i++)
            fprintf(stderr, "changed: %s\n", done.names[i]);
        abort();
    }
    damage_dir_release(&dir);
    return 0;
}
