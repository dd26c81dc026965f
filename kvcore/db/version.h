/*
 * version.h - which tables exist: an immutable, reference-counted picture of the tree. A reader that holds
 * one reads what it describes for as long as it likes; changes make a new one.
 *
 * Space -> cuts (in key order) -> runs (newest first) -> tables (in key order, disjoint within the run). A
 * table lies in one cut. On level 0 the tables of one flush, load or merge are a run; the tables of a cut on
 * a level from 1 on are one run together (levelled spaces only). What is newest is decided by versions, never
 * by position: a run or table is skipped only when its newest version cannot matter.
 *
 * A damaged table lies aside (KV_LEVEL_ASIDE): a run by itself on no level, which merges neither take nor meet, and
 * readers ask like any other. In the manifest it is on level 0, where tables may overlap; that it lies aside is
 * found out anew by each open.
 * Threads    any.
 * Ownership  counted; it holds a reference of each of its tables.
 */
#ifndef KV_DB_VERSION_H
#define KV_DB_VERSION_H

#include "kvcore/db/ranges.h"
#include "kvcore/db/space.h"
#include "kvcore/db/values.h"
#include "kvcore/sst/table.h"

enum { KV_LEVEL_ASIDE = 64 };

struct kv_tree_item {
    struct kv_table *table;
    const struct kv_table_properties *properties; /* of table */
    uint64_t number;                              /* of its file */
    uint64_t run;                                 /* its run's number in the manifest */
    uint32_t level;
    uint32_t reads_at; /* its level's counters, in bytes from a stripe of the version's reads */
};
struct kv_tree_run {
    const struct kv_tree_item *items;
    size_t n;
    uint32_t level;
    uint64_t version_max, bytes;
    bool unique_puts; /* plain puts only, no key twice */
};
struct kv_cut {
    kv_slice prefix;          /* good as long as the version */
    struct kv_tree_run *runs; /* by version_max, largest first */
    size_t n_runs;
    size_t n_aside;   /* runs of them that lie aside */
    kv_slice largest; /* key of all its tables */
    uint64_t bytes;
};
struct kv_tree_level {
    uint64_t tables, bytes, entries, deletes;
};
struct kv_tree {
    struct kv_tree_item *items;
    size_t n_items;
    struct kv_tree_run *runs;
    size_t n_runs;
    struct kv_cut *cuts;
    size_t n_cuts;
    uint64_t bytes, entries, deletes;
    uint64_t version_max; /* of all its entries */
    uint64_t aside;       /* tables that lie aside */
    struct kv_tree_level levels[KV_LEVELS_MAX];
    struct kv_ranges *ranges; /* range deletions its tables are to be read through; NULL: none */
};
struct kv_version {
    _Atomic uint32_t refs;
    uint32_t n_spaces;
    struct kv_values values;
    const struct kv_reads
        *reads;             /* where lookups are counted: KV_LEVELS_MAX levels a space. The first version of a
                                     database is given it; those made of it inherit it */
    struct kv_tree trees[]; /* by space id */
};

/* A table that comes, with the space, run and level it comes to. */
struct kv_tree_add {
    uint32_t space, level;
    uint64_t run;
    struct kv_table *table; /* borrowed: the version takes a reference of its own */
};
/* A table that changes its level and nothing else. */
struct kv_tree_move {
    uint64_t number;
    uint32_t level;
};
struct kv_tree_change {
    const struct kv_tree_add *adds;
    size_t n_adds;
    const uint64_t *drops; /* numbers */
    size_t n_drops;
    const struct kv_tree_move *moves;
    size_t n_moves;
    struct kv_segment *const *segments; /* that come; borrowed */
    size_t n_segments;
    uint64_t log_floor; /* segments that the log names from there on stay */
};
/* base (NULL: empty) without what is dropped, with what is added and moved. n_spaces >= base's. KV_CORRUPT:
 * tables of one run overlap, a table straddles a cut, or points into a segment that is not there. */
KV_MUST kv_status kv_version_make(const struct kv_version *base, uint32_t n_spaces,
                                  const struct kv_space *spaces, const struct kv_tree_change *change,
                                  struct kv_version **out, struct kv_err *err);
/* The range deletions of a space become these (NULL: none; the reference is taken over), before anybody else
 * sees the version. A version made of a base has the base's. */
void kv_version_set_ranges(struct kv_version *version, uint32_t space, struct kv_ranges *ranges);
struct kv_version *kv_version_ref(struct kv_version *version);
void kv_version_unref(struct kv_version *version); /* NULL is fine */

/* Replaces *found by the newest entry of key at or below `version` in the tree, if that is newer. *have:
 * *found holds an answer already (a memtable's, say), and afterwards whether it does. On failure what *found
 * held is still the caller's. Counts in the version's reads. */
KV_MUST kv_status kv_version_get(const struct kv_version *tree, uint32_t space, const struct kv_space *how,
                                 kv_slice key, uint64_t version, struct kv_found *found, bool *have,
                                 struct kv_err *err);

/* May a table hold an entry of key with a version below `version`? By keys and versions alone. */
bool kv_version_may_hold_older(const struct kv_version *tree, uint32_t space, const struct kv_space *how,
                               kv_slice key, uint64_t version);
/* Likewise, one between the two versions. */
bool kv_version_may_hold_between(const struct kv_version *tree, uint32_t space, const struct kv_space *how,
                                 kv_slice key, uint64_t newer, uint64_t older);

/* Does any table lie aside that could not even be opened? *files (may be NULL): how many files lie aside or
 * could not be opened, segments of the value log included. */
bool kv_version_damaged(const struct kv_version *version, uint64_t *files);
/* The first table aside that may hold a key of [lower, upper) (empty: unbounded); NULL: none. */
const struct kv_tree_item *kv_tree_aside(const struct kv_tree *tree, kv_slice lower, kv_slice upper);

/* The first cut that may hold a key >= key (n_cuts: none). */
size_t kv_tree_cut_at(const struct kv_tree *tree, kv_slice key);
/* The first table of a run whose largest key is >= key (n: none). */
size_t kv_tree_run_at(const struct kv_tree_run *run, kv_slice key);
/* The tables [*first, *last) of a run that hold keys between smallest and largest, both included. */
void kv_tree_run_touching(const struct kv_tree_run *run, kv_slice smallest, kv_slice largest, size_t *first,
                          size_t *last);
/* Tables [first, last) of a run as a run of their own; at least one. */
struct kv_tree_run kv_tree_run_part(const struct kv_tree_run *run, size_t first, size_t last);

#endif
