/* One suite for every vfs: the operating system's, the memory's, and both behind the fault wrapper (which must change nothing). */
#include "kvcore/os/vfs.h"
#include "tests/support/vfs_crash.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum which { POSIX, MEM, FAULT_POSIX, FAULT_MEM, CRASH, WHICH_END };
static const char *const which_names[] = {"posix", "mem", "fault over posix", "fault over mem", "crash"};

struct place {
    struct kv_vfs *vfs, *mem;
    struct vfs_fault *fault;
    struct vfs_crash *crash;
    char path[64], sibling[80];
    bool on_disk;
};

static void place_open(struct place *place, enum which which)
{
    *place = (struct place){.on_disk = which == POSIX || which == FAULT_POSIX};
    snprintf(place->path, sizeof place->path, "%s", "place");
    if (place->on_disk) {
        snprintf(place->path, sizeof place->path, "%s", "/tmp/test_vfs.XXXXXX");
        cr_assert_not_null(mkdtemp(place->path));
        place->vfs = kv_vfs_posix();
    } else if (which == CRASH) {
        place->crash = vfs_crash_new();
        place->vfs = vfs_crash_as_vfs(place->crash);
    } else {
        place->vfs = place->mem = kv_vfs_mem_new();
    }
    if (which == FAULT_POSIX || which == FAULT_MEM) {
        place->fault = vfs_fault_new(place->vfs);
        place->vfs = vfs_fault_as_vfs(place->fault);
    }
    snprintf(place->sibling, sizeof place->sibling, "%s/sibling", place->path);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void place_close(struct place *place)
{
    if (place->on_disk)
        nftw(place->path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    if (place->fault)
        vfs_fault_free(place->fault);
    if (place->crash)
        vfs_crash_free(place->crash);
    kv_vfs_mem_free(place->mem);
}

static struct kv_dir *dir_open(struct place *place)
{
    struct kv_dir *dir;
    struct kv_err err = {0};
    cr_assert_eq(kv_vfs_dir_open(place->vfs, place->path, true, &dir, &err), KV_OK, "%s", err.text);
    return dir;
}

static void write_file(struct kv_dir *dir, const char *name, kv_slice bytes)
{
    struct kv_file *file;
    cr_assert_eq(kv_dir_create(dir, name, &file, NULL), KV_OK);
    cr_assert_eq(kv_file_append(file, 0, bytes, NULL), KV_OK);
    cr_assert_eq(kv_file_sync(file, NULL), KV_OK);
    kv_file_close(file);
}

static void expect_file(struct kv_dir *dir, const char *name, kv_slice bytes)
{
    struct kv_file *file;
    uint8_t got[256];
    uint64_t size;
    cr_assert_eq(kv_dir_open_file(dir, name, &file, NULL), KV_OK);
    cr_assert_eq(kv_file_size(file, &size, NULL), KV_OK);
    cr_assert_eq(size, bytes.len);
    cr_assert_eq(kv_file_read_exact(file, 0, bytes.len, got, NULL), KV_OK);
    cr_assert(kv_slice_equal(kv_slice_of(got, bytes.len), bytes));
    kv_file_close(file);
}

/* ---- the cases, each on every vfs */

static void case_append_and_read(struct place *place)
{
    struct kv_dir *dir = dir_open(place);
    struct kv_file *file, *reader;
    struct kv_err err;
    cr_assert_eq(kv_dir_create(dir, "a.log", &file, &err), KV_OK);
    cr_assert_eq(file->ops->reserve(file, 1 << 16, &err), KV_OK);
    const kv_slice pieces[] = {KV_STR("hello"), KV_STR(""), KV_STR(", "), KV_STR("world")};
    cr_assert_eq(file->ops->append(file, 0, pieces, 4, &err), KV_OK);
    cr_assert_eq(kv_file_append(file, 5, KV_STR("!"), &err), KV_INVALID, "not at the end");
    cr_assert_eq(kv_file_append(file, 13, KV_STR("!"), &err), KV_INVALID, "past the end");
    cr_assert_eq(kv_file_append(file, 12, KV_STR("!"), &err), KV_OK);
    uint64_t size;
    cr_assert_eq(kv_file_size(file, &size, &err), KV_OK);
    cr_assert_eq(size, 13, "reserving does not change the size");
    cr_assert_eq(kv_file_sync(file, &err), KV_OK);
    uint8_t a[5], b[8];
    struct kv_read ranges[] = {{.offset = 7, .len = 5, .into = a},
                               {.offset = 9, .len = 8, .into = b},
                               {.offset = 99, .len = 1, .into = a}};
    cr_assert_eq(kv_dir_open_file(dir, "a.log", &reader, &err), KV_OK);
    cr_assert_eq(reader->ops->read_at(reader, ranges, 3, &err), KV_OK);
    cr_assert(ranges[0].got == 5 && ranges[1].got == 4 && ranges[2].got == 0);
    cr_assert(memcmp(a, "world", 5) == 0 && memcmp(b, "rld!", 4) == 0);
    cr_assert_eq(kv_file_read_exact(reader, 9, 8, b, &err), KV_CORRUPT);
    cr_assert(strstr(err.text, "offset 13"), "%s", err.text);
    cr_assert_eq(kv_file_append(reader, 13, KV_STR("x"), &err), KV_INVALID, "open for reading");
    kv_file_close(reader);
    kv_file_close(file);
    kv_file_close(NULL);
    kv_dir_close(dir);
}

static void case_many_pieces(struct place *place)
{
    enum { N = 1000 };
    struct kv_dir *dir = dir_open(place);
    struct kv_file *file;
    kv_slice pieces[N];
    for (int i = 0; i < N; i++)
        pieces[i] = i % 3 ? KV_STR("ab") : KV_STR("");
    cr_assert_eq(kv_dir_create(dir, "many", &file, NULL), KV_OK);
    cr_assert_eq(file->ops->append(file, 0, pieces, N, NULL), KV_OK);
    uint64_t size;
    cr_assert_eq(kv_file_size(file, &size, NULL), KV_OK);
    cr_assert_eq(size, 2 * 666);
    kv_file_close(file);
    kv_dir_close(dir);
}

static void case_names(struct place *place)
{
    static const char *const bad[] = {
        "",    ".",    "..",       ".hidden",
        "a/b", "a b",  "a{b",      "a[b",
        "a:b", "a\nb", "\xc3\xa4", "0123456789012345678901234567890123456789012345678901234567890123x"};
    struct kv_dir *dir = dir_open(place);
    struct kv_file *file;
    struct kv_err err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert_eq(kv_dir_create(dir, bad[i], &file, &err), KV_INVALID, "%s", bad[i]);
        cr_assert_eq(kv_dir_open_file(dir, bad[i], &file, &err), KV_INVALID);
        cr_assert_eq(kv_dir_remove(dir, bad[i], &err), KV_INVALID);
    }
    write_file(dir, "0123456789012345678901234567890123456789012345678901234567890123", KV_STR("x"));
    write_file(dir, "A-b_c.9", KV_STR("y"));
    cr_assert_eq(kv_dir_create(dir, "A-b_c.9", &file, &err), KV_EXISTS);
    cr_assert_eq(kv_dir_open_file(dir, "absent", &file, &err), KV_MISSING);
    cr_assert_eq(kv_dir_remove(dir, "absent", &err), KV_MISSING);
    cr_assert_eq(kv_dir_sync_names(dir, &err), KV_OK);
    kv_dir_close(dir);
}

static kv_status count_file(void *ctx, const char *name, uint64_t bytes)
{
    uint64_t *sum = ctx;
    *sum += 1000 + bytes;
    return strcmp(name, "stop") == 0 ? KV_BUSY : KV_OK;
}

static void case_list_and_remove(struct place *place)
{
    struct kv_dir *dir = dir_open(place);
    struct kv_lease *lease;
    struct kv_file *open_file;
    uint64_t sum = 0;
    write_file(dir, "one", KV_STR("1"));
    write_file(dir, "two", KV_STR("22"));
    cr_assert_eq(dir->ops->lease(dir, false, &lease, NULL), KV_OK);
    cr_assert_eq(dir->ops->publish(dir, KV_STR("m"), 0, NULL), KV_OK);
    if (place->on_disk) {
        char path[128];
        snprintf(path, sizeof path, "%s/folder", place->path);
        cr_assert_eq(mkdir(path, 0700), 0);
        struct kv_err err;
        struct kv_file *file;
        cr_assert_eq(kv_dir_open_file(dir, "folder", &file, &err), KV_INVALID, "%s", err.text);
        snprintf(path, sizeof path, "%s/fifo", place->path);
        cr_assert_eq(mkfifo(path, 0600), 0);
        cr_assert_eq(kv_dir_open_file(dir, "fifo", &file, &err), KV_INVALID);
        snprintf(path, sizeof path, "%s/link", place->path);
        cr_assert_eq(symlink("one", path), 0);
        cr_assert_eq(kv_dir_open_file(dir, "link", &file, &err), KV_INVALID, "links are not followed");
    }
    cr_assert_eq(dir->ops->list(dir, count_file, &sum, NULL), KV_OK);
    cr_assert_eq(sum, 2003, "neither lease nor published name nor what is no file");
    cr_assert_eq(kv_dir_open_file(dir, "two", &open_file, NULL), KV_OK);
    cr_assert_eq(kv_dir_remove(dir, "two", NULL), KV_OK);
    uint8_t got[2];
    cr_assert_eq(kv_file_read_exact(open_file, 0, 2, got, NULL), KV_OK, "an open file outlives its name");
    kv_file_close(open_file);
    sum = 0;
    cr_assert_eq(dir->ops->list(dir, count_file, &sum, NULL), KV_OK);
    cr_assert_eq(sum, 1001);
    write_file(dir, "stop", KV_STR(""));
    cr_assert_eq(dir->ops->list(dir, count_file, &sum, NULL), KV_BUSY);
    dir->ops->lease_release(dir, lease);
    kv_dir_close(dir);
}

static void case_link(struct place *place)
{
    struct kv_dir *dir = dir_open(place), *sibling;
    struct kv_err err;
    write_file(dir, "000001.tbl", KV_STR("table"));
    cr_assert_eq(kv_vfs_dir_open(place->vfs, place->sibling, false, &sibling, &err), KV_MISSING);
    cr_assert_eq(kv_vfs_dir_open(place->vfs, place->sibling, true, &sibling, &err), KV_OK);
    cr_assert_eq(dir->ops->link(dir, "000001.tbl", sibling, &err), KV_OK);
    cr_assert_eq(dir->ops->link(dir, "000001.tbl", sibling, &err), KV_EXISTS);
    cr_assert_eq(dir->ops->link(dir, "absent", sibling, &err), KV_MISSING);
    cr_assert_eq(kv_dir_sync_names(sibling, &err), KV_OK);
    cr_assert_eq(kv_dir_remove(dir, "000001.tbl", &err), KV_OK);
    expect_file(sibling, "000001.tbl", KV_STR("table"));
    kv_dir_close(sibling);
    kv_dir_close(dir);
}

static void case_lease(struct place *place)
{
    struct kv_dir *a = dir_open(place), *b = dir_open(place);
    struct kv_lease *one, *two, *three;
    struct kv_err err;
    cr_assert_eq(a->ops->lease(a, false, &one, &err), KV_OK);
    cr_assert_eq(b->ops->lease(b, false, &two, &err), KV_BUSY);
    cr_assert(strstr(err.text, "in use by"), "%s", err.text);
    cr_assert_eq(b->ops->lease(b, true, &two, &err), KV_BUSY);
    a->ops->lease_release(a, one);
    cr_assert_eq(b->ops->lease(b, true, &two, &err), KV_OK);
    cr_assert_eq(a->ops->lease(a, true, &three, &err), KV_OK, "readers share");
    cr_assert_eq(a->ops->lease(a, false, &one, &err), KV_BUSY);
    a->ops->lease_release(a, three);
    b->ops->lease_release(b, two);
    cr_assert_eq(a->ops->lease(a, false, &one, &err), KV_OK);
    a->ops->lease_release(a, one);
    a->ops->lease_release(a, NULL);
    kv_dir_close(a);
    kv_dir_close(b);
}

static void case_publish(struct place *place)
{
    struct kv_dir *dir = dir_open(place);
    struct kv_buf out = {0};
    struct kv_err err;
    uint64_t generation = 99;
    static const uint8_t big[257];
    cr_assert_eq(dir->ops->published(dir, &out, &generation, &err), KV_NOT_FOUND);
    cr_assert_eq(generation, 0);
    cr_assert_eq(dir->ops->publish(dir, KV_STR("one"), 0, &err), KV_OK);
    cr_assert_eq(dir->ops->publish(dir, KV_STR("other"), 0, &err), KV_CONFLICT);
    cr_assert_eq(dir->ops->publish(dir, kv_slice_of(big, 257), 1, &err), KV_INVALID);
    cr_assert_eq(dir->ops->publish(dir, kv_slice_of(big, 256), 1, &err), KV_OK);
    cr_assert_eq(dir->ops->publish(dir, KV_STR("three"), 2, &err), KV_OK);
    cr_assert_eq(dir->ops->published(dir, &out, &generation, &err), KV_OK);
    cr_assert(generation == 3 && kv_slice_equal(kv_buf_slice(&out), KV_STR("three")));
    if (place->on_disk) {
        char path[128];
        snprintf(path, sizeof path, "%s/.current", place->path);
        for (long at = 0; at < 29; at++) {
            FILE *f = fopen(path, "r+b");
            fseek(f, at, SEEK_SET);
            int c = fgetc(f);
            fseek(f, at, SEEK_SET);
            fputc(c ^ 4, f);
            fclose(f);
            cr_assert_eq(dir->ops->published(dir, &out, &generation, &err), KV_CORRUPT, "byte %ld", at);
            f = fopen(path, "r+b");
            fseek(f, at, SEEK_SET);
            fputc(c, f);
            fclose(f);
        }
    }
    kv_buf_release(&out);
    kv_dir_close(dir);
}

static void case_space(struct place *place)
{
    struct kv_dir *dir = dir_open(place);
    struct kv_space_info space = {0};
    cr_assert_eq(dir->ops->space(dir, &space, NULL), KV_OK);
    cr_assert(space.total_bytes > 0 && space.free_bytes <= space.total_bytes);
    kv_dir_close(dir);
}

static const struct {
    const char *name;
    void (*run)(struct place *place);
} cases[] = {
    {"append and read", case_append_and_read},
    {"many pieces", case_many_pieces},
    {"names", case_names},
    {"list and remove", case_list_and_remove},
    {"link", case_link},
    {"lease", case_lease},
    {"publish", case_publish},
    {"space", case_space},
};

Test(vfs, all_implementations_keep_the_same_promises)
{
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
        for (enum which which = POSIX; which < WHICH_END; which++) {
            struct place place;
            cr_log_info("%s on %s", cases[c].name, which_names[which]);
            place_open(&place, which);
            cases[c].run(&place);
            place_close(&place);
        }
}

/* ---- what only one of them does */

Test(vfs, posix_gives_back_reserved_space_and_says_what_failed)
{
    struct place place;
    struct kv_file *file;
    struct kv_dir *dir;
    struct kv_err err;
    struct stat st;
    char path[128];
    place_open(&place, POSIX);
    dir = dir_open(&place);
    cr_assert_eq(kv_dir_create(dir, "r", &file, NULL), KV_OK);
    cr_assert_eq(kv_file_append(file, 0, KV_STR("x"), NULL), KV_OK);
    cr_assert_eq(file->ops->reserve(file, 8 << 20, NULL), KV_OK);
    kv_file_close(file);
    snprintf(path, sizeof path, "%s/r", place.path);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert(st.st_size == 1 && st.st_blocks * 512 < 1 << 20);
    kv_dir_close(dir);
    cr_assert_eq(kv_vfs_dir_open(place.vfs, "/proc/none/such", true, &dir, &err), KV_MISSING);
    cr_assert(strstr(err.text, "mkdir") && strstr(err.text, "/proc/none/such") && err.sys == 2, "%s",
              err.text);
    cr_assert_eq(kv_vfs_dir_open(place.vfs, path, false, &dir, &err), KV_INVALID, "a file is no directory");
    place_close(&place);
}

static struct kv_dir *open_in(struct kv_vfs *vfs)
{
    struct kv_dir *dir;
    cr_assert_eq(kv_vfs_dir_open(vfs, "d", true, &dir, NULL), KV_OK);
    return dir;
}

Test(vfs, crash_clone_keeps_only_what_was_synced)
{
    struct kv_vfs *vfs = kv_vfs_mem_new();
    struct kv_dir *dir = open_in(vfs), *found;
    struct kv_file *file, *none;
    cr_assert_eq(kv_dir_create(dir, "kept", &file, NULL), KV_OK);
    cr_assert_eq(kv_file_append(file, 0, KV_STR("sure"), NULL), KV_OK);
    cr_assert_eq(kv_file_sync(file, NULL), KV_OK);
    struct kv_vfs *before = kv_vfs_mem_crash_clone(vfs);
    cr_assert_eq(kv_dir_sync_names(dir, NULL), KV_OK);
    cr_assert_eq(kv_file_append(file, 4, KV_STR("not"), NULL), KV_OK);
    write_file(dir, "nameless", KV_STR("x"));
    cr_assert_eq(dir->ops->publish(dir, KV_STR("p"), 0, NULL), KV_OK);
    struct kv_vfs *after = kv_vfs_mem_crash_clone(vfs);
    cr_assert_eq(kv_dir_remove(dir, "kept", NULL), KV_OK);
    struct kv_vfs *removed = kv_vfs_mem_crash_clone(vfs);

    found = open_in(before);
    cr_assert_eq(kv_dir_open_file(found, "kept", &none, NULL), KV_MISSING,
                 "synced bytes, but no durable name");
    kv_dir_close(found);
    found = open_in(after);
    expect_file(found, "kept", KV_STR("sure"));
    cr_assert_eq(kv_dir_open_file(found, "nameless", &none, NULL), KV_MISSING);
    struct kv_buf out = {0};
    uint64_t generation;
    cr_assert_eq(found->ops->published(found, &out, &generation, NULL), KV_OK);
    kv_buf_release(&out);
    kv_dir_close(found);
    found = open_in(removed);
    expect_file(found, "kept", KV_STR("sure"));
    kv_dir_close(found);

    kv_file_close(file);
    kv_dir_close(dir);
    kv_vfs_mem_free(before);
    kv_vfs_mem_free(after);
    kv_vfs_mem_free(removed);
    kv_vfs_mem_free(vfs);
}

Test(vfs, fault_hits_the_nth_operation_of_its_kind_and_name_and_says_so)
{
    struct kv_vfs *mem = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(mem);
    struct kv_dir *dir = open_in(vfs_fault_as_vfs(fault));
    struct kv_file *file, *other;
    cr_assert_eq(kv_dir_create(dir, "a.log", &file, NULL), KV_OK);
    cr_assert_eq(kv_dir_create(dir, "b.tbl", &other, NULL), KV_OK);
    vfs_fault_plan(fault,
                   &(struct vfs_fault_plan){
                       .nth = 2, .ops = VFS_OP_APPEND, .glob = "*.log", .kind = VFS_FAULT_SHORT_ENOSPC});
    cr_assert_eq(kv_file_append(file, 0, KV_STR("aaaa"), NULL), KV_OK);
    cr_assert_eq(kv_file_append(other, 0, KV_STR("bbbb"), NULL), KV_OK);
    cr_assert_not(vfs_fault_fired(fault));
    cr_assert_eq(kv_file_append(file, 4, KV_STR("cccc"), NULL), KV_NO_SPACE);
    cr_assert(vfs_fault_fired(fault));
    uint64_t size;
    cr_assert_eq(kv_file_size(file, &size, NULL), KV_OK);
    cr_assert_eq(size, 6, "half of it was written");
    cr_assert_eq(kv_file_append(file, 6, KV_STR("d"), NULL), KV_OK, "once");
    cr_assert_eq(vfs_fault_count(fault, VFS_OP_APPEND), 4);
    kv_file_close(file);
    kv_file_close(other);
    kv_dir_close(dir);
    vfs_fault_free(fault);
    kv_vfs_mem_free(mem);
}

/* The simulator's own promises: what is sure is always found; each profile loses what it may. */
Test(vfs, crash_simulator_keeps_what_is_sure_in_every_state)
{
    struct vfs_crash *crash = vfs_crash_new();
    struct kv_dir *dir = open_in(vfs_crash_as_vfs(crash));
    struct kv_file *file, *found;
    cr_assert_eq(kv_dir_create(dir, "f", &file, NULL), KV_OK);
    cr_assert_eq(kv_file_append(file, 0, KV_STR("sure"), NULL), KV_OK);
    cr_assert_eq(kv_file_sync(file, NULL), KV_OK);
    uint64_t nameless = vfs_crash_ops(crash);
    cr_assert_eq(kv_dir_sync_names(dir, NULL), KV_OK);
    uint64_t sure = vfs_crash_ops(crash);
    cr_assert_eq(kv_file_append(file, 4, KV_STR("unsure"), NULL), KV_OK);
    int lost_names = 0, lost_bytes = 0, kept_bytes = 0;
    for (int profile = 0; profile < VFS_CRASH_PROFILES; profile++)
        for (uint64_t seed = 0; seed < 50; seed++) {
            uint8_t got[16];
            struct kv_vfs *disk = vfs_crash_at(crash, nameless + 1, seed, (enum vfs_crash_profile)profile);
            struct kv_dir *d = open_in(disk);
            bool there = kv_dir_open_file(d, "f", &found, NULL) == KV_OK;
            cr_assert(there || profile != VFS_CRASH_EXT4_ORDERED, "ext4: a synced file has its name");
            lost_names += !there;
            if (there)
                kv_file_close(found);
            kv_dir_close(d);
            kv_vfs_mem_free(disk);
            disk = vfs_crash_at(crash, sure + 2, seed, (enum vfs_crash_profile)profile);
            d = open_in(disk);
            cr_assert_eq(kv_dir_open_file(d, "f", &found, NULL), KV_OK);
            cr_assert_eq(kv_file_read_exact(found, 0, 4, got, NULL), KV_OK);
            cr_assert(memcmp(got, "sure", 4) == 0);
            bool kept = kv_file_read_exact(found, 4, 6, got, NULL) == KV_OK && memcmp(got, "unsure", 6) == 0;
            kept_bytes += kept;
            lost_bytes += !kept;
            kv_file_close(found);
            kv_dir_close(d);
            kv_vfs_mem_free(disk);
        }
    cr_assert(lost_names > 0 && lost_bytes > 0 && kept_bytes > 0);
    kv_file_close(file);
    kv_dir_close(dir);
    vfs_crash_free(crash);
}
