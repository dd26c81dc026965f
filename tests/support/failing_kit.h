/*
 * failing_kit.h - what is done to a database, with each place that allocates failing in turn, or each that works on the disk: the answer
 * says so, and the database goes on with what it held before, or with all of what was done.
 *
 * One thread. Asserts (Criterion) what is not so.
 */
#ifndef FAILING_KIT_H
#define FAILING_KIT_H

#include "tests/support/damage_kit.h"
#include "tests/support/kv_kit.h"

/* Where a deed begins: the files of a database, and how it is opened. */
struct failing_world {
    const struct damage_dir *files;
    void (*kit)(struct kv_kit *kit, struct kv_vfs *vfs); /* kv_kit_init and options; path is "db" */
    bool sticky; /* everything behind the failure fails, too, until the deed is done */
    bool full;   /* of the disk: it is full, instead of failing */
};
struct failing_deed {
    const char *name;
    /* The database is open before; if it is not behind it, it is opened for the judgement. */
    kv_status (*run)(struct kv_kit *kit);
    bool steps; /* several changes: after a failure some of them may be there */
};
/* Every place once per call; with SWEEP_ALL=1 every allocation, or operation. */
void failing_sweep(const struct failing_world *world, const struct failing_deed *deeds, size_t n,
                   bool memory);

#endif
