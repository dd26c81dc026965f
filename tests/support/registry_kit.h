/*
 * registry_kit.h - a series registry over a kvcore database in memory, and requests committed through it
 * as the store does. Every step asserts.
 */
#ifndef REGISTRY_KIT_H
#define REGISTRY_KIT_H

#include "tsdb/series.h"

struct registry_kit {
    struct kv_vfs *vfs;
    struct kv_env *env;
    struct kv_db *db;
    struct ts_registry *registry;
    struct ts_registry_options options; /* of every open */
};

void registry_kit_open(struct registry_kit *kit); /* options may be set before */
void registry_kit_close(struct registry_kit *kit);
void registry_kit_reopen(struct registry_kit *kit);          /* the database too; the cache starts empty */
void registry_kit_reopen_registry(struct registry_kit *kit); /* the database stays open */

/* Resolves a series; identity: its canonical labels, with `variant` in front. */
kv_status registry_kit_resolve(struct ts_resolver *resolver, const struct ts_label *labels, size_t n,
                               char variant, uint64_t *ref, struct ts_refusal *why);
/* stage and kv_commit, with batch (may be NULL) along. The resolver is not cleared. */
void registry_kit_commit(struct registry_kit *kit, struct ts_resolver *resolver, struct kv_batch *batch);
/* One series, committed: its ref. labels: "name k=v k=v". */
uint64_t registry_kit_add(struct registry_kit *kit, const char *labels);

/* "name k=v k=v" to sorted labels; slices point into text. At most 16. */
size_t registry_kit_labels(const char *text, struct ts_label *labels);

#endif
