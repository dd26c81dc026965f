/* The operating system's files when the operating system fails: every errno, calls that are interrupted, bytes that come in parts. */
#include "kvcore/os/vfs_names.h"
#include "tests/support/malloc_fault.h"
#include "tests/support/sys_fault.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct place {
    char path[64];
    struct kv_dir *dir;
    struct kv_err err; /* of the last call */
};

static void place_open(struct place *place)
{
    *place = (struct place){.path = "/tmp/test_vfs_posix.XXXXXX"};
    cr_assert_not_null(mkdtemp(place->path));
    cr_assert_eq(kv_vfs_dir_open(kv_vfs_posix(), place->path, false, &place->dir, NULL), KV_OK);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void place_close(struct place *place)
{
    kv_dir_close(place->dir);
    nftw(place->path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* A file under a name of the place's directory, hidden ones too. */
static void put_raw(struct place *place, const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", place->path, name);
    FILE *file = fopen(path, "wb");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
}

static void take_away(struct place *place, const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", place->path, name);
    remove(path); /* it may not be there */
}

static kv_status read_back(struct kv_dir *dir, const char *name, kv_slice bytes)
{
    struct kv_file *file;
    uint64_t size;
    uint8_t got[256];
    kv_status rc = kv_dir_open_file(dir, name, &file, NULL);
    if (rc < 0)
        return rc;
    cr_assert_eq(kv_file_size(file, &size, NULL), KV_OK);
    cr_assert_eq(size, bytes.len);
    cr_assert_eq(kv_file_read_exact(file, 0, bytes.len, got, NULL), KV_OK);
    cr_assert(kv_slice_equal(kv_slice_of(got, bytes.len), bytes));
    kv_file_close(file);
    return KV_OK;
}

static void expect_bytes(struct kv_dir *dir, const char *name, kv_slice bytes)
{
    cr_assert_eq(read_back(dir, name, bytes), KV_OK);
}

/* ---- what is done: each begins and ends with the directory as it was */

static kv_status do_write(struct place *place)
{
    struct kv_file *file = NULL;
    const kv_slice pieces[] = {KV_STR("one"), KV_STR("two"), KV_STR("three")};
    kv_status rc;
    KV_TRY(kv_dir_create(place->dir, "w", &file, &place->err));
    KV_TRY(file->ops->reserve(file, 1 << 16, &place->err));
    KV_TRY(file->ops->append(file, 0, pieces, 3, &place->err));
    KV_TRY(kv_file_sync(file, &place->err));
    rc = read_back(place->dir, "w", KV_STR("onetwothree"));
out:
    kv_file_close(file);
    take_away(place, "w");
    return rc;
}

static kv_status do_read(struct place *place)
{
    struct kv_file *file = NULL;
    uint8_t a[3], b[2];
    struct kv_read ranges[] = {{.offset = 0, .len = 3, .into = a}, {.offset = 4, .len = 2, .into = b}};
    uint64_t size;
    kv_status rc;
    put_raw(place, "r", "abcdef");
    KV_TRY(kv_dir_open_file(place->dir, "r", &file, &place->err));
    KV_TRY(kv_file_size(file, &size, &place->err));
    KV_TRY(file->ops->read_at(file, ranges, 2, &place->err));
    cr_assert(memcmp(a, "abc", 3) == 0 && memcmp(b, "ef", 2) == 0 && size == 6);
out:
    kv_file_close(file);
    take_away(place, "r");
    return rc;
}

static kv_status count_file(void *ctx, const char *name, uint64_t bytes)
{
    (void)name;
    *(uint64_t *)ctx += bytes + 1;
    return KV_OK;
}

static kv_status do_list(struct place *place)
{
    uint64_t sum = 0;
    put_raw(place, "l", "1234");
    kv_status rc = place->dir->ops->list(place->dir, count_file, &sum, &place->err);
    cr_assert(rc < 0 || sum == 5);
    take_away(place, "l");
    return rc;
}

/* A file that is removed while the directory is read is not there. */
static kv_status do_list_removed(struct place *place)
{
    uint64_t sum = 0;
    put_raw(place, "l", "1234");
    kv_status rc = place->dir->ops->list(place->dir, count_file, &sum, &place->err);
    cr_assert_eq(sum, 0);
    take_away(place, "l");
    return rc;
}

static kv_status do_lease(struct place *place)
{
    struct kv_lease *lease = NULL;
    kv_status rc = place->dir->ops->lease(place->dir, false, &lease, &place->err);
    place->dir->ops->lease_release(place->dir, lease);
    return rc;
}

static kv_status do_lease_shared(struct place *place)
{
    struct kv_lease *lease = NULL;
    put_raw(place, ".lease", "");
    kv_status rc = place->dir->ops->lease(place->dir, true, &lease, &place->err);
    place->dir->ops->lease_release(place->dir, lease);
    return rc;
}

static kv_status do_space(struct place *place)
{
    struct kv_space_info space;
    return place->dir->ops->space(place->dir, &space, &place->err);
}

static kv_status do_sync_names(struct place *place)
{
    return kv_dir_sync_names(place->dir, &place->err);
}

/* A failure leaves what was published before, so the next one goes on from there. */
static kv_status do_publish(struct place *place)
{
    struct kv_buf before = {0}, after = {0};
    uint64_t generation, next;
    kv_status rc;
    KV_TRY(place->dir->ops->published(place->dir, &before, &generation, NULL));
    rc = place->dir->ops->publish(place->dir, generation % 2 ? KV_STR("odd") : KV_STR(""), generation,
                                  &place->err);
    if (place->dir->ops->published(place->dir, &after, &next, NULL) < 0)
        rc = KV_NO_MEMORY;
    cr_assert(rc < 0 || next == generation + 1);
out:
    kv_buf_release(&before);
    kv_buf_release(&after);
    return rc;
}

static kv_status do_published(struct place *place)
{
    struct kv_buf out = {0};
    uint64_t generation;
    kv_status rc = place->dir->ops->published(place->dir, &out, &generation, &place->err);
    kv_buf_release(&out);
    return rc;
}

static kv_status do_link(struct place *place)
{
    struct kv_dir *sibling = NULL;
    char path[96];
    snprintf(path, sizeof path, "%s/sibling", place->path);
    put_raw(place, "k", "linked");
    kv_status rc;
    KV_TRY(kv_vfs_dir_open(kv_vfs_posix(), path, true, &sibling, &place->err));
    KV_TRY(place->dir->ops->link(place->dir, "k", sibling, &place->err));
    rc = read_back(sibling, "k", KV_STR("linked"));
    cr_assert_eq(kv_dir_remove(sibling, "k", NULL), KV_OK);
out:
    kv_dir_close(sibling);
    rmdir(path);
    take_away(place, "k");
    return rc;
}

static kv_status do_remove(struct place *place)
{
    put_raw(place, "x", "");
    kv_status rc = kv_dir_remove(place->dir, "x", &place->err);
    take_away(place, "x");
    return rc;
}

/* ---- one call fails */

static const struct row {
    const char *call;
    uint64_t nth;
    int sys;
    kv_status (*run)(struct place *place);
    kv_status rc;     /* KV_OK: it is tried again, or done in another way */
    const char *said; /* in the text: the call, the name; NULL: nothing is said */
} rows[] = {
    {"openat", 1, EINTR, do_write, KV_OK, NULL},
    {"openat", 1, ENOSPC, do_write, KV_NO_SPACE, "create %s/w: "},
    {"openat", 1, EDQUOT, do_write, KV_NO_SPACE, "create %s/w: "},
    {"openat", 1, EROFS, do_write, KV_READ_ONLY, "create %s/w: "},
    {"openat", 1, EMFILE, do_write, KV_LIMIT, "create %s/w: "},
    {"openat", 1, ENFILE, do_write, KV_LIMIT, "create %s/w: "},
    {"openat", 1, ENOMEM, do_write, KV_NO_MEMORY, "create %s/w: "},
    {"openat", 1, EACCES, do_read, KV_READ_ONLY, "open %s/r: "},
    {"openat", 1, EPERM, do_read, KV_READ_ONLY, "open %s/r: "},
    {"openat", 1, EISDIR, do_read, KV_INVALID, "open %s/r: "},
    {"openat", 1, EIO, do_read, KV_IO, "open %s/r: "},
    {"fallocate", 1, EINTR, do_write, KV_OK, NULL},
    {"fallocate", 1, EOPNOTSUPP, do_write, KV_OK, NULL},
    {"fallocate", 1, ENOSYS, do_write, KV_OK, NULL},
    {"fallocate", 1, EFBIG, do_write, KV_NO_SPACE, "fallocate %s/w: "},
    {"pwritev", 1, EINTR, do_write, KV_OK, NULL},
    {"pwritev", 1, EIO, do_write, KV_IO, "write %s/w: "},
    {"fdatasync", 1, EINTR, do_write, KV_OK, NULL},
    {"fdatasync", 1, EIO, do_write, KV_IO, "fdatasync %s/w: "},
    {"ftruncate", 1, EIO, do_write, KV_OK, NULL}, /* of space that was reserved */
    {"pread", 1, EINTR, do_read, KV_OK, NULL},
    {"pread", 1, EIO, do_read, KV_IO, "read %s/r: "},
    {"pread", 2, EIO, do_read, KV_IO, "read %s/r: "},
    {"fstat", 1, EIO, do_read, KV_IO, "fstat %s/r: "},
    {"fstat", 2, EIO, do_read, KV_IO, "fstat %s/r: "},
    {"openat", 1, EMFILE, do_list, KV_LIMIT, "opendir %s: "},
    {"fdopendir", 1, ENOMEM, do_list, KV_NO_MEMORY, "opendir %s: "},
    {"readdir", 1, EIO, do_list, KV_IO, "readdir %s: "},
    {"fstatat", 1, EIO, do_list, KV_IO, "stat %s/l: "},
    {"fstatat", 1, ENOENT, do_list_removed, KV_OK, NULL},
    {"openat", 1, EACCES, do_lease, KV_READ_ONLY, "open %s/.lease: "},
    {"openat", 1, EACCES, do_lease_shared, KV_OK, NULL}, /* opened for reading instead */
    {"openat", 1, EROFS, do_lease_shared, KV_OK, NULL},
    {"openat", 1, EIO, do_lease_shared, KV_IO, "open %s/.lease: "},
    {"flock", 1, EINTR, do_lease, KV_OK, NULL},
    {"flock", 1, ENOLCK, do_lease, KV_IO, "flock %s/.lease: "},
    {"ftruncate", 1, EIO, do_lease, KV_OK, NULL}, /* only the text of others knows no pid then */
    {"pwrite", 1, ENOSPC, do_lease, KV_OK, NULL},
    {"fstatvfs", 1, EINTR, do_space, KV_OK, NULL},
    {"fstatvfs", 1, EIO, do_space, KV_IO, "statvfs %s: "},
    {"fsync", 1, EINTR, do_sync_names, KV_OK, NULL},
    {"fsync", 1, EIO, do_sync_names, KV_IO, "fsync %s: "},
    {"openat", 1, EIO, do_published, KV_IO, "open %s/.current: "},
    {"pread", 1, EIO, do_published, KV_IO, "read %s/.current: "},
    {"openat", 3, EDQUOT, do_publish, KV_NO_SPACE, "create %s/.current.new: "},
    {"pwritev", 1, ENOSPC, do_publish, KV_NO_SPACE, "write %s/.current.new: "},
    {"fsync", 1, EIO, do_publish, KV_IO, "fsync %s/.current.new: "},
    {"renameat", 1, EIO, do_publish, KV_IO, "rename %s/.current.new: "},
    {"fsync", 2, EIO, do_publish, KV_IO, "fsync %s: "},
    {"linkat", 1, EXDEV, do_link, KV_OK, NULL}, /* copied */
    {"linkat", 1, EPERM, do_link, KV_OK, NULL},
    {"linkat", 1, EOPNOTSUPP, do_link, KV_OK, NULL},
    {"linkat", 1, EMLINK, do_link, KV_OK, NULL},
    {"linkat", 1, EIO, do_link, KV_IO, "link %s/k: "},
    {"mkdir", 1, EACCES, do_link, KV_READ_ONLY, "mkdir %s/sibling: "},
    {"open", 1, EMFILE, do_link, KV_LIMIT, "fsync %s/: "},
    {"open", 2, EINTR, do_link, KV_OK, NULL},
    {"open", 2, EMFILE, do_link, KV_LIMIT, "open %s/sibling: "},
    {"fsync", 1, EIO, do_link, KV_IO, "fsync %s/: "},
    {"unlinkat", 1, EIO, do_remove, KV_IO, "unlink %s/x: "},
};

Test(vfs_posix, a_call_that_fails_is_named_and_one_that_can_be_done_otherwise_is)
{
    struct place place;
    place_open(&place);
    cr_assert_eq(do_publish(&place), KV_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *row = &rows[i];
        char said[160];
        place.err = (struct kv_err){0};
        sys_fault_arm(row->call, row->nth, row->sys);
        kv_status rc = row->run(&place);
        bool fired = sys_fault_disarm();
        cr_assert(fired, "row %zu: %s", i, row->call);
        cr_assert_eq(rc, row->rc, "row %zu: %s: %s, %s", i, row->call, kv_status_name(rc), place.err.text);
        if (row->said) {
            snprintf(said, sizeof said, row->said, place.path);
            cr_assert(strstr(place.err.text, said) == place.err.text, "row %zu: %s", i, place.err.text);
            cr_assert_eq(place.err.sys, row->sys, "row %zu", i);
        }
        cr_assert_eq(row->run == do_list_removed ? do_list(&place) : row->run(&place), KV_OK,
                     "row %zu, again: %s", i, place.err.text);
    }
    place_close(&place);
}

/* ---- parts, and what a failure leaves */

Test(vfs_posix, bytes_that_come_and_go_in_parts_are_all_there)
{
    struct place place;
    struct kv_file *file;
    uint8_t got[12];
    const kv_slice pieces[] = {KV_STR("one"), KV_STR("two"), KV_STR("three")};
    place_open(&place);
    for (size_t part = 0; part <= 3; part++) {
        cr_assert_eq(kv_dir_create(place.dir, "w", &file, NULL), KV_OK);
        sys_fault_arm_short("pwritev", 1, part);
        kv_status rc = file->ops->append(file, 0, pieces, 3, &place.err);
        cr_assert(sys_fault_disarm());
        if (part == 0) {
            cr_assert(rc == KV_IO && strstr(place.err.text, "/w"), "%s", place.err.text);
        } else {
            cr_assert_eq(rc, KV_OK);
            sys_fault_arm_short("pread", 1, part);
            cr_assert_eq(kv_file_read_exact(file, 0, 11, got, NULL), KV_OK);
            cr_assert(sys_fault_disarm());
            cr_assert(memcmp(got, "onetwothree", 11) == 0);
        }
        kv_file_close(file);
        cr_assert_eq(kv_dir_remove(place.dir, "w", NULL), KV_OK);
    }
    place_close(&place);
}

/* The end of a file whose write failed is unknown, and a sync that failed is never tried again. */
Test(vfs_posix, a_file_that_failed_takes_nothing_more)
{
    static const char *const calls[] = {"pwritev", "fdatasync"};
    for (int i = 0; i < 2; i++) {
        struct place place;
        struct kv_file *file;
        place_open(&place);
        cr_assert_eq(kv_dir_create(place.dir, "f", &file, NULL), KV_OK);
        cr_assert_eq(file->ops->reserve(file, 1 << 16, NULL), KV_OK);
        sys_fault_arm(calls[i], 1, EIO);
        kv_status rc = kv_file_append(file, 0, KV_STR("x"), NULL);
        if (rc == KV_OK)
            rc = kv_file_sync(file, NULL);
        cr_assert(sys_fault_disarm() && rc == KV_IO);
        cr_assert_eq(kv_file_append(file, (uint64_t)i, KV_STR("y"), &place.err), KV_IO);
        cr_assert(strstr(place.err.text, "/f, which failed before"), "%s", place.err.text);
        cr_assert_eq(kv_file_sync(file, &place.err), KV_IO);
        cr_assert(strstr(place.err.text, "sync of"), "%s", place.err.text);
        cr_assert_eq(file->ops->reserve(file, 1 << 17, NULL), KV_OK, "it is only a hint");
        sys_fault_arm("ftruncate", 1, EIO);
        kv_file_close(file);
        cr_assert_not(sys_fault_disarm(), "its end is unknown: it is not cut");
        place_close(&place);
    }
}

Test(vfs_posix, offsets_past_what_a_file_can_have_are_refused)
{
    struct place place;
    struct kv_file *file, *reader;
    uint8_t byte;
    place_open(&place);
    cr_assert_eq(kv_dir_create(place.dir, "f", &file, NULL), KV_OK);
    cr_assert_eq(kv_file_append(file, 0, KV_STR("abc"), NULL), KV_OK);
    cr_assert_eq(kv_file_read_exact(file, (uint64_t)INT64_MAX, 1, &byte, &place.err), KV_INVALID);
    cr_assert(strstr(place.err.text, "offset 9223372036854775807 is out of range"), "%s", place.err.text);
    sys_fault_arm("fallocate", 1, EIO);
    cr_assert_eq(file->ops->reserve(file, 3, NULL), KV_OK, "there is as much");
    cr_assert_eq(file->ops->reserve(file, UINT64_MAX, NULL), KV_OK, "a hint that means nothing");
    cr_assert_eq(kv_dir_open_file(place.dir, "f", &reader, NULL), KV_OK);
    cr_assert_eq(reader->ops->reserve(reader, 1 << 20, NULL), KV_OK, "open for reading");
    cr_assert_not(sys_fault_disarm());
    kv_file_close(reader);
    kv_file_close(file);
    place_close(&place);
}

Test(vfs_posix, whoever_holds_the_lease_is_named_if_it_left_a_name)
{
    static const struct {
        const char *left, *said;
    } cases[] = {{"12345\n", "in use by process 12345"},
                 {"12x45", "in use by process 12"},
                 {"", "in use by another process"},
                 {"/12", "in use by another process"},
                 {":1", "in use by another process"}};
    struct place place;
    struct kv_lease *lease, *other;
    place_open(&place);
    cr_assert_eq(place.dir->ops->lease(place.dir, false, &lease, NULL), KV_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_raw(&place, ".lease", cases[i].left);
        cr_assert_eq(place.dir->ops->lease(place.dir, false, &other, &place.err), KV_BUSY);
        cr_assert(strstr(place.err.text, cases[i].said), "%s: %s", cases[i].left, place.err.text);
    }
    sys_fault_arm("pread", 1, EIO);
    cr_assert_eq(place.dir->ops->lease(place.dir, false, &other, &place.err), KV_BUSY);
    cr_assert(sys_fault_disarm() && strstr(place.err.text, "another process"), "%s", place.err.text);
    place.dir->ops->lease_release(place.dir, lease);
    place_close(&place);
}

Test(vfs_posix, a_damaged_published_value_is_not_written_over)
{
    struct place place;
    struct kv_buf out = {.max = 2};
    uint64_t generation;
    place_open(&place);
    put_raw(&place, ".current", "too short");
    cr_assert_eq(place.dir->ops->published(place.dir, &out, &generation, &place.err), KV_CORRUPT);
    cr_assert(strstr(place.err.text, "/.current is damaged (9 bytes)"), "%s", place.err.text);
    cr_assert_eq(place.dir->ops->publish(place.dir, KV_STR("new"), 0, &place.err), KV_CORRUPT);
    char path[96];
    snprintf(path, sizeof path, "%s/.current", place.path);
    cr_assert_eq(remove(path), 0);
    cr_assert_eq(place.dir->ops->publish(place.dir, KV_STR("new"), 0, &place.err), KV_OK);
    cr_assert_eq(place.dir->ops->published(place.dir, &out, &generation, &place.err), KV_LIMIT);
    cr_assert_eq(generation, 0, "nothing was said");
    kv_buf_release(&out);
    place_close(&place);
}

Test(vfs_posix, directories_are_made_where_their_path_says)
{
    static const char *const paths[] = {"plain", "closed/", "many///", "plain/inner", "p"};
    struct place place;
    struct kv_dir *dir;
    char before[256];
    place_open(&place);
    cr_assert_not_null(getcwd(before, sizeof before));
    cr_assert_eq(chdir(place.path), 0);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        for (int again = 0; again < 2; again++) {
            cr_assert_eq(kv_vfs_dir_open(kv_vfs_posix(), paths[i], true, &dir, &place.err), KV_OK, "%s: %s",
                         paths[i], place.err.text);
            kv_dir_close(dir);
        }
    cr_assert_eq(kv_vfs_dir_open(kv_vfs_posix(), "", true, &dir, &place.err), KV_MISSING);
    cr_assert_eq(chdir(before), 0);
    place_close(&place);
}

Test(vfs_posix, memory_that_runs_out_leaves_nothing)
{
    kv_status (*const runs[])(struct place *) = {do_write, do_read, do_list, do_lease, do_publish, do_link};
    struct place place;
    place_open(&place);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++)
        for (uint64_t nth = 1;; nth++) {
            malloc_fault_arm(nth, false);
            kv_status rc = runs[i](&place);
            bool fired = malloc_fault_disarm();
            cr_assert_eq(rc, fired ? KV_NO_MEMORY : KV_OK, "%zu, %d: %s", i, (int)nth, place.err.text);
            if (!fired)
                break;
        }
    place_close(&place);
}

/* ---- copying between any two directories */

Test(vfs_posix, a_copy_that_fails_leaves_nothing_in_its_place)
{
    struct kv_vfs *mem = kv_vfs_mem_new(), *other = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(mem), *to_fault = vfs_fault_new(other);
    struct kv_dir *from, *to, *plain;
    struct kv_file *file;
    struct kv_err err;
    cr_assert_eq(kv_vfs_dir_open(mem, "d", true, &plain, NULL), KV_OK);
    cr_assert_eq(kv_dir_create(plain, "f", &file, NULL), KV_OK);
    cr_assert_eq(kv_file_append(file, 0, KV_STR("copied"), NULL), KV_OK);
    kv_file_close(file);
    cr_assert_eq(kv_vfs_dir_open(vfs_fault_as_vfs(fault), "d", true, &from, NULL), KV_OK);
    cr_assert_eq(kv_vfs_dir_open(vfs_fault_as_vfs(to_fault), "t", true, &to, NULL), KV_OK);
    int failed = 0;
    for (int side = 0; side < 3; side++)
        for (uint64_t nth = 1;; nth++) {
            struct vfs_fault_plan plan = {.nth = nth, .kind = VFS_FAULT_EIO};
            vfs_fault_plan(fault, side == 0 ? &plan : NULL);
            vfs_fault_plan(to_fault, side == 1 ? &plan : NULL);
            if (side == 2)
                malloc_fault_arm(nth, false);
            kv_status rc = kv_dir_copy_file(from, "f", to, &err);
            bool fired = side == 2 ? malloc_fault_disarm() : vfs_fault_fired(side ? to_fault : fault);
            vfs_fault_plan(to_fault, NULL);
            if (!fired) {
                cr_assert_eq(rc, KV_OK, "%s", err.text);
                expect_bytes(to, "f", KV_STR("copied"));
                cr_assert_eq(kv_dir_remove(to, "f", NULL), KV_OK);
                break;
            }
            failed++;
            /* The memory vfs calls its own missing memory a full disk. */
            cr_assert(side == 2 ? rc == KV_NO_MEMORY || rc == KV_NO_SPACE : rc == KV_IO, "%s", err.text);
            cr_assert_eq(kv_dir_open_file(to, "f", &file, NULL), KV_MISSING, "side %d, %d", side, (int)nth);
        }
    cr_assert_geq(failed, 8);
    /* A link into another file system is a copy. */
    cr_assert_eq(plain->ops->link(plain, "f", to, &err), KV_OK);
    expect_bytes(to, "f", KV_STR("copied"));
    cr_assert_eq(kv_dir_remove(to, "f", NULL), KV_OK);
    struct kv_dir *to_plain;
    cr_assert_eq(kv_vfs_dir_open(other, "t", false, &to_plain, NULL), KV_OK);
    cr_assert_eq(plain->ops->link(plain, "f", to_plain, &err), KV_OK);
    expect_bytes(to, "f", KV_STR("copied"));
    kv_dir_close(to_plain);
    struct place place;
    place_open(&place);
    cr_assert_eq(plain->ops->link(plain, "f", place.dir, &err), KV_OK);
    expect_bytes(place.dir, "f", KV_STR("copied"));
    cr_assert_eq(kv_dir_remove(to, "f", NULL), KV_OK);
    cr_assert_eq(place.dir->ops->link(place.dir, "f", to, &err), KV_OK);
    expect_bytes(to, "f", KV_STR("copied"));
    cr_assert_eq(place.dir->ops->link(place.dir, ".lease", to, &err), KV_INVALID);
    cr_assert_eq(plain->ops->link(plain, ".lease", to, &err), KV_INVALID);
    place_close(&place);
    kv_dir_close(from);
    kv_dir_close(to);
    kv_dir_close(plain);
    vfs_fault_free(fault);
    vfs_fault_free(to_fault);
    kv_vfs_mem_free(mem);
    kv_vfs_mem_free(other);
}

/* What a crash would leave is cloned whole or not at all. */
Test(vfs_mem, a_clone_without_memory_is_none)
{
    struct kv_vfs *mem = kv_vfs_mem_new(), *clone = NULL;
    struct kv_dir *dir;
    struct kv_file *file;
    cr_assert_eq(kv_vfs_dir_open(mem, "d", true, &dir, NULL), KV_OK);
    for (int i = 0; i < 3; i++) {
        char name[8];
        snprintf(name, sizeof name, "f%d", i);
        cr_assert_eq(kv_dir_create(dir, name, &file, NULL), KV_OK);
        cr_assert_eq(kv_file_append(file, 0, KV_STR("synced"), NULL), KV_OK);
        cr_assert_eq(kv_file_sync(file, NULL), KV_OK);
        kv_file_close(file);
    }
    cr_assert_eq(kv_dir_sync_names(dir, NULL), KV_OK);
    uint64_t nth = 1;
    for (;; nth++) {
        malloc_fault_arm(nth, false);
        clone = kv_vfs_mem_crash_clone(mem);
        bool fired = malloc_fault_disarm();
        cr_assert_eq(clone == NULL, fired, "%d", (int)nth);
        if (!fired)
            break;
    }
    cr_assert_geq(nth, 8);
    kv_dir_close(dir);
    cr_assert_eq(kv_vfs_dir_open(clone, "d", false, &dir, NULL), KV_OK);
    expect_bytes(dir, "f2", KV_STR("synced"));
    kv_dir_close(dir);
    kv_vfs_mem_free(clone);
    kv_vfs_mem_free(mem);
}
