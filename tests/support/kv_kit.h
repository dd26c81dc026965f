/*
 * kv_kit.h - a database for a test: memory file system, manual clock, no threads (unless asked), two spaces "a" and "b". What the
 * kit itself needs to succeed asserts.
 */
#ifndef KV_KIT_H
#define KV_KIT_H

#include "kvcore/kv.h"
#include "tests/support/clock_manual.h"

struct kv_kit {
    struct kv_vfs *vfs; /* what the next env is opened on */
    struct kv_vfs *own; /* NULL: the caller's */
    struct clock_manual clock;
    struct kv_logger log; /* before kv_kit_open; silent */
    int threads;          /* before kv_kit_open; KV_THREADS_NONE */
    struct kv_space_options spaces[4];
    struct kv_options options;
    const char *path;
    struct kv_env *env;
    struct kv_db *db;
    struct kv_err err; /* of the last call */
};
/* vfs NULL: a memory one of its own. */
void kv_kit_init(struct kv_kit *kit, struct kv_vfs *vfs);
void kv_kit_release(struct kv_kit *kit); /* closes what is open */
kv_status kv_kit_open(struct kv_kit *kit);
kv_status kv_kit_close(struct kv_kit *kit);
void kv_kit_must_open(struct kv_kit *kit);
void kv_kit_reopen(struct kv_kit *kit); /* both must succeed */
/* Power is lost and the machine comes back: only for a kit with its own memory. Must recover. */
void kv_kit_crash(struct kv_kit *kit);

kv_status kv_kit_try_put(struct kv_kit *kit, uint32_t space, const char *key,
                         const char *value); /* value NULL: delete */
void kv_kit_put(struct kv_kit *kit, uint32_t space, const char *key, const char *value);
void kv_kit_delete(struct kv_kit *kit, uint32_t space, const char *key);
kv_status kv_kit_try_record(struct kv_kit *kit, const char *record, uint64_t *seq);
/* Is it so, by kv_get? value NULL: absent. snapshot may be NULL. */
bool kv_kit_is(struct kv_kit *kit, const struct kv_snapshot *snapshot, uint32_t space, const char *key,
               const char *value);
/* "k=v k=v ..." of a range by an iterator, appended to out with its NUL. */
const char *kv_kit_scan(struct kv_kit *kit, const struct kv_snapshot *snapshot, uint32_t space,
                        const char *lower, const char *upper, char *out, size_t size);
size_t kv_kit_files(struct kv_kit *kit, const char *suffix); /* in the database's directory */
uint64_t kv_kit_metric(struct kv_kit *kit, const char *name);
void kv_kit_work_all(struct kv_kit *kit); /* kv_work until nothing waits */
struct kv_space_stats kv_kit_stats(struct kv_kit *kit, uint32_t space);
/* Installs "key" -> value for each of n keys (NUL-terminated, increasing) as one bulk load; answers its version. */
uint64_t kv_kit_bulk(struct kv_kit *kit, uint32_t space, const char *const *keys, size_t n, const char *value,
                     uint64_t app_floor);

#endif
