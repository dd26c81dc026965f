/*
 * follow_kit.h - a writer and a follower of the same database for a test: one vfs, an environment each. What the kit itself needs to
 * succeed asserts.
 */
#ifndef FOLLOW_KIT_H
#define FOLLOW_KIT_H

#include "tests/support/kv_kit.h"
#include "tests/support/vfs_fault.h"

struct follow_kit {
    struct kv_kit writer, follower;
    struct vfs_fault *writes, *reads; /* what the writer and the follower see the vfs through */
};
/* Neither is open yet: the follower gets the writer's spaces and options at follow_kit_open. */
void follow_kit_init(struct follow_kit *kit);
void follow_kit_release(struct follow_kit *kit); /* closes what is open */
/* Opens the writer if it is not open, then the follower. */
void follow_kit_open(struct follow_kit *kit);
kv_status follow_kit_try_open(struct follow_kit *kit); /* the follower alone */
/* Must succeed; answers the version. */
uint64_t follow_kit_refresh(struct follow_kit *kit);
kv_status follow_kit_try_refresh(struct follow_kit *kit);
/* Refreshes; then all spaces, read forward by iterators and key by key, all versions too, are the writer's. */
void follow_kit_same(struct follow_kit *kit);

#endif
