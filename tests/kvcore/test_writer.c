#include "kvcore/os/vfs.h"
#include "tests/support/kv_kit.h"
#include "tests/support/vfs_fault.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct kv_kit kit;

static struct kv_writer *open_one(uint64_t bytes, uint32_t entries)
{
    struct kv_writer *writer = NULL;
    struct kv_writer_options options = {bytes, entries};
    cr_assert_eq(kv_writer_open(kit.db, &options, &writer, &kit.err), KV_OK);
    return writer;
}

Test(writer, splits_what_it_is_given_into_commits_of_a_bounded_size)
{
    char key[8];
    uint64_t version;
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    kv_kit_put(&kit, 0, "k000", "old");
    struct kv_writer *writer = open_one(0, 10);
    for (int i = 0; i < 95; i++) {
        snprintf(key, sizeof key, "k%03d", i);
        cr_assert_eq(kv_writer_put(writer, 0, kv_slice_str(key), KV_STR("v"), &kit.err), KV_OK);
    }
    cr_assert_eq(kv_writer_delete(writer, 0, KV_STR("k000"), &kit.err), KV_OK);
    struct kv_put_options marked = {.meta = 4};
    struct kv_pinned got;
    cr_assert_eq(kv_writer_put_with(writer, 0, KV_STR("k001"), KV_STR("w"), &marked, &kit.err), KV_OK);
    cr_assert_eq(kv_seq(kit.db), 10);
    cr_assert_eq(kv_writer_flush(writer, &version, &kit.err), KV_OK);
    cr_assert(version == 11 && kv_seq(kit.db) == 11);
    cr_assert(kv_kit_is(&kit, NULL, 0, "k000", NULL));
    cr_assert(kv_kit_is(&kit, NULL, 0, "k094", "v"));
    cr_assert_eq(kv_get(kit.db, NULL, 0, KV_STR("k001"), &got, &kit.err), KV_OK);
    cr_assert(got.meta == 4 && kv_slice_equal(got.value, KV_STR("w")));
    kv_pinned_release(&got);
    cr_assert_eq(kv_writer_close(writer, &kit.err), KV_OK);
    writer = open_one(100, 0);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(kv_writer_put(writer, 1, kv_slice_of(&"0123456789"[i], 1),
                                   KV_STR("a value of thirty-odd bytes long"), &kit.err),
                     KV_OK);
    cr_assert_eq(kv_writer_close(writer, &kit.err), KV_OK);
    cr_assert_eq(kv_seq(kit.db), 15, "three values each");
    cr_assert_eq(kv_writer_close(NULL, NULL), KV_OK);
    kv_kit_release(&kit);
}

Test(writer, keeps_its_first_error)
{
    struct kv_vfs *memory = kv_vfs_mem_new();
    struct vfs_fault *fault = vfs_fault_new(memory);
    struct vfs_fault_plan plan = {.nth = 1, .ops = VFS_OP_APPEND, .kind = VFS_FAULT_EIO, .sticky = true};
    kv_kit_init(&kit, vfs_fault_as_vfs(fault));
    kv_kit_must_open(&kit);
    struct kv_writer *writer = open_one(0, 1);
    cr_assert_eq(kv_writer_put(writer, 0, KV_STR("a"), KV_STR("1"), &kit.err), KV_OK);
    vfs_fault_plan(fault, &plan);
    kv_status first = kv_writer_put(writer, 0, KV_STR("b"), KV_STR("1"), &kit.err);
    cr_assert_lt(first, 0);
    struct kv_err told = kit.err;
    vfs_fault_plan(fault, NULL);
    cr_assert_eq(kv_writer_put(writer, 0, KV_STR("c"), KV_STR("1"), &kit.err), first);
    cr_assert_str_eq(kit.err.text, told.text);
    cr_assert_eq(kv_writer_flush(writer, NULL, &kit.err), first);
    cr_assert_eq(kv_writer_close(writer, &kit.err), first);
    cr_assert(kv_kit_is(&kit, NULL, 0, "c", NULL));
    kv_kit_release(&kit);
    vfs_fault_free(fault);
    kv_vfs_mem_free(memory);
}

Test(writer, says_what_it_refuses_and_forgets_what_is_canceled)
{
    struct kv_writer *writer = NULL;
    struct kv_writer_options huge = {.commit_bytes = (uint64_t)KV_COMMIT_BYTES_MAX + 1};
    kv_kit_init(&kit, NULL);
    kv_kit_must_open(&kit);
    cr_assert_eq(kv_writer_open(kit.db, &huge, &writer, &kit.err), KV_INVALID);
    writer = open_one(0, 2);
    cr_assert_eq(kv_writer_put(writer, 0, KV_STR("a"), KV_STR("1"), &kit.err), KV_OK);
    cr_assert_eq(kv_writer_put(writer, 0, KV_STR(""), KV_STR("1"), &kit.err), KV_INVALID);
    cr_assert_eq(kv_writer_close(writer, &kit.err), KV_INVALID, "a hole is not silent");
    writer = open_one(0, 2);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(kv_writer_put(writer, 0, kv_slice_of(&"xyz"[i], 1), KV_STR("1"), &kit.err), KV_OK);
    kv_writer_cancel(writer);
    cr_assert_eq(kv_writer_put(writer, 0, KV_STR("a"), KV_STR("1"), &kit.err), KV_CANCELED);
    cr_assert_eq(kv_writer_close(writer, &kit.err), KV_CANCELED);
    cr_assert(kv_kit_is(&kit, NULL, 0, "y", "1"), "was committed");
    cr_assert(kv_kit_is(&kit, NULL, 0, "z", NULL));
    kv_kit_release(&kit);
}
