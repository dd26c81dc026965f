/*
 * repair.h - the parts of kv_repair: what lies in the directory (repair_files.c), and what is made of it (repair.c).
 * Private to them.
 *
 * Threads    one.
 */
#ifndef KV_REPAIR_H
#define KV_REPAIR_H

#include "kvcore/db/env.h"
#include "kvcore/db/manifest.h"
#include "kvcore/db/space.h"
#include "kvcore/db/values.h"
#include "kvcore/sst/table.h"

/* A table that will be part of the database. */
struct kv_repair_table {
    struct kv_table_meta meta; /* its keys are owned, and behind it: */
    uint8_t *keys;
    bool placed; /* level and run are as they were; else chosen anew */
};
struct kv_repair {
    struct kv_env *env;
    const char *path;
    const struct kv_repair_options *options;
    struct kv_repair_report *report;
    struct kv_err *err;
    struct kv_dir *dir, *aside; /* aside: opened when something is set aside */
    struct kv_lease *lease;
    struct kv_manifest manifest; /* what is known; */
    bool exact;                  /* and it is the published one, whole */
    bool changed;                /* another manifest has to be written */
    uint8_t uuid[KV_UUID_LEN];
    bool uuid_known;
    /* Of all files that are there: */
    struct kv_buf tables, segments; /* uint64_t: numbers, in order */
    size_t logs;
    uint64_t number_max, edit_max, epoch_max;
    uint64_t edit_seen; /* the newest that a file which is no manifest was begun under: it was durable */
    bool sealed_files;  /* some are encrypted */
    char names[KV_SPACES_MAX][KV_SPACE_NAME_MAX + 1]; /* of spaces, as tables say; "": not said */
    struct kv_values values;                          /* segments that could be opened */
    struct kv_buf metas;                              /* struct kv_segment_meta: theirs */
    struct kv_repair_table *items;
    size_t n_items, items_capacity;
};

/* A line to the caller; a negative severity is a finding. */
void kv_repair_say(struct kv_repair *r, kv_status severity, const char *format, ...) KV_PRINTF(3, 4);
/* Links the file into PATH.damaged; what lies there already is the same one. */
KV_MUST kv_status kv_repair_set_aside(struct kv_repair *r, const char *name);

/* Looks at every file's header. */
KV_MUST kv_status kv_repair_look(struct kv_repair *r);
/* Asks the tables for the names of spaces. */
KV_MUST kv_status kv_repair_names(struct kv_repair *r);
KV_MUST kv_status kv_repair_segments(struct kv_repair *r);
/* Reads every table, and writes those anew that are damaged: items. Spaces are known. */
KV_MUST kv_status kv_repair_tables(struct kv_repair *r);
void kv_repair_release_items(struct kv_repair *r);

#endif
