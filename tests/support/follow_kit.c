#include "tests/support/follow_kit.h"
#include "kvcore/base/assert.h"
#include "kvcore/os/vfs.h"

#include <stdio.h>
#include <string.h>

void follow_kit_init(struct follow_kit *kit)
{
    kv_kit_init(&kit->writer, NULL);
    kit->writes = vfs_fault_new(kit->writer.own);
    kit->reads = vfs_fault_new(kit->writer.own);
    kit->writer.vfs = vfs_fault_as_vfs(kit->writes);
    kv_kit_init(&kit->follower, vfs_fault_as_vfs(kit->reads));
}

void follow_kit_release(struct follow_kit *kit)
{
    kv_kit_close(&kit->follower);
    kv_kit_close(&kit->writer);
    vfs_fault_free(kit->reads);
    vfs_fault_free(kit->writes);
    kv_kit_release(&kit->follower);
    kv_kit_release(&kit->writer);
}

kv_status follow_kit_try_open(struct follow_kit *kit)
{
    memcpy(kit->follower.spaces, kit->writer.spaces, sizeof kit->writer.spaces);
    kit->follower.options = kit->writer.options;
    kit->follower.options.follow = true;
    return kv_kit_open(&kit->follower);
}

void follow_kit_open(struct follow_kit *kit)
{
    if (!kit->writer.db)
        kv_kit_must_open(&kit->writer);
    kv_status rc = follow_kit_try_open(kit);
    if (rc < 0)
        fprintf(stderr, "follow: %s: %s\n", kv_status_name(rc), kit->follower.err.text);
    KV_ASSERT(rc == KV_OK);
}

kv_status follow_kit_try_refresh(struct follow_kit *kit)
{
    return kv_follow_refresh(kit->follower.db, NULL, &kit->follower.err);
}

uint64_t follow_kit_refresh(struct follow_kit *kit)
{
    uint64_t seq = 0;
    kv_status rc = kv_follow_refresh(kit->follower.db, &seq, &kit->follower.err);
    if (rc < 0)
        fprintf(stderr, "refresh: %s: %s\n", kv_status_name(rc), kit->follower.err.text);
    KV_ASSERT(rc == KV_OK);
    KV_ASSERT(seq == kv_seq(kit->follower.db));
    return seq;
}

static void same_get(struct follow_kit *kit, uint32_t space, kv_slice key)
{
    struct kv_pinned mine = {0}, theirs = {0};
    kv_status rc = kv_get(kit->writer.db, NULL, space, key, &theirs, NULL);
    KV_ASSERT(kv_get(kit->follower.db, NULL, space, key, &mine, NULL) == rc);
    KV_ASSERT(kv_slice_equal(mine.value, theirs.value) && mine.version == theirs.version);
    kv_pinned_release(&mine);
    kv_pinned_release(&theirs);
}

static void same_entry(const struct kv_iter *a, const struct kv_iter *b)
{
    if (!kv_slice_equal(a->key, b->key) || a->version != b->version || !kv_slice_equal(a->value, b->value))
        fprintf(stderr, "writer %.*s@%llu, follower %.*s@%llu\n", KV_ARG(a->key),
                (unsigned long long)a->version, KV_ARG(b->key), (unsigned long long)b->version);
    KV_ASSERT(kv_slice_equal(a->key, b->key) && kv_slice_equal(a->value, b->value));
    KV_ASSERT(a->version == b->version && a->deleted == b->deleted && a->meta == b->meta);
    KV_ASSERT(a->expires_at_s == b->expires_at_s && a->large_bytes == b->large_bytes);
}

static void same_space(struct follow_kit *kit, uint32_t space, bool all_versions)
{
    const struct kv_iter_options options = {.all_versions = all_versions, .large_values = true};
    struct kv_iter *a = NULL, *b = NULL;
    kv_status rc = kv_iter_open_with(kit->writer.db, space, &options, &a);
    KV_ASSERT(rc == KV_OK);
    rc = kv_iter_open_with(kit->follower.db, space, &options, &b);
    KV_ASSERT(rc == KV_OK);
    for (rc = kv_iter_seek(a, (kv_slice){0}), KV_ASSERT(kv_iter_seek(b, (kv_slice){0}) == rc); rc == KV_OK;
         rc = kv_iter_next(a), KV_ASSERT(kv_iter_next(b) == rc)) {
        same_entry(a, b);
        if (!all_versions)
            same_get(kit, space, a->key);
    }
    KV_ASSERT(rc == KV_END);
    kv_iter_close(a);
    kv_iter_close(b);
}

void follow_kit_same(struct follow_kit *kit)
{
    KV_ASSERT(follow_kit_refresh(kit) == kv_seq(kit->writer.db));
    for (uint32_t space = 0; space < kit->writer.options.n_spaces; space++) {
        same_space(kit, space, false);
        if (!kit->writer.spaces[space].merge)
            same_space(kit, space, true);
    }
}
