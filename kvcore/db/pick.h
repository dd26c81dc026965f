/*
 * pick.h - pure: the shape of the tree -> what to merge, move or drop next. No I/O, no allocation, no clock.
 *
 * Spaces of style runs: the cut with the most runs past KV_RUNS_MAX becomes one run. Levelled spaces:
 *   (1) Every level has a target. The deepest level holds most; the one above a multiplier-th of it, and so on
 *       up to the first that is no larger than base_bytes: that is the base, which level 0 is merged into. (The
 *       dynamic level sizes of RocksDB: space is at most about 1 + 1/multiplier of what is live.)
 *   (2) A level's score is its bytes to its target, level 0's also its runs to level0_runs. The highest score
 *       of at least 1 is served: of level 0 everything that overlaps its oldest table, of another level the
 *       table that overlaps least below for its size. Small flushes over a large base are first merged among
 *       themselves.
 *   (3) What overlaps nothing below is moved by an edit, as deep as that holds.
 *   (4) With no level over its target: once deletions and expired entries stand for more than a tenth of the
 *       space, tables that hold them go down, those that free most for what they cost first, until the deletions
 *       have met what they hide. So does a table half of whose entries are dead, if that frees a tenth of what
 *       is written, and one whose deletions are older than deletions_age_s. A table of nothing but dead entries
 *       that hide nothing is dropped, in spaces of both styles.
 *   (5) With nothing else to do: a table that points into a segment of the value log of which less than half is
 *       live is merged alone, which moves its values on; the one that points at most of them for its size first.
 * Work under way (claims) is kept clear of: no two pieces share a level in overlapping ranges of keys, so no
 * input is taken twice and no two outputs can collide. Tables that lie aside (version.h) are not worked on, and in
 * nobody's way.
 *
 * Threads    any.
 * Ownership  a pick's slices are good as long as the version it was made from.
 */
#ifndef KV_PICK_H
#define KV_PICK_H

#include "kvcore/db/version.h"

enum kv_pick_kind {
    KV_PICK_MERGE, /* inputs are replaced by what their entries come to */
    KV_PICK_MOVE,  /* inputs change their level, by an edit alone */
    KV_PICK_DROP,  /* inputs hide nothing and hold nothing: an edit drops them */
};
enum kv_pick_why { KV_WHY_RUNS, KV_WHY_LEVEL0, KV_WHY_SIZE, KV_WHY_DEAD, KV_WHY_RANGE, KV_WHY_VALUES };

struct kv_pick {
    enum kv_pick_kind kind;
    enum kv_pick_why why;
    uint32_t space;
    size_t cut;                           /* in the space's tree */
    uint32_t from, to;                    /* levels; outputs go to `to` */
    bool whole;                           /* inputs are those of all levels */
    uint64_t run_bytes_max;               /* of level 0 only runs of at most so many bytes; 0: all */
    uint64_t only;                        /* the number of the only input; 0: all */
    kv_slice smallest, largest;           /* inputs hold keys between them, both included */
    kv_slice span_smallest, span_largest; /* of all inputs, so of all outputs */
    uint64_t bytes, version_max;          /* of all inputs */
    double score;
};
/* What time and transactions allow. */
struct kv_pick_limits {
    uint64_t now_s;      /* retention clock */
    uint64_t oldest_txn; /* deletions of newer versions have to stay (watermark.h) */
    uint32_t
        blocked; /* kv_pick_work: bit n: nothing of space n, whose most pressing work may not begin yet */
};
/* A piece of work under way, in a list. */
struct kv_claim {
    struct kv_pick pick;
    struct kv_claim *next;
};

/* The most pressing work that keeps clear of what is busy. False: there is none. */
bool kv_pick_work(const struct kv_version *version, const struct kv_space *spaces,
                  const struct kv_pick_limits *limits, const struct kv_claim *busy, struct kv_pick *out);

/* When, by the retention clock, time alone may make work of what is none now: unix seconds; UINT64_MAX: never. */
uint64_t kv_pick_next_s(const struct kv_version *version, const struct kv_space *spaces, uint64_t now_s);

/*
 * The next step in bringing every entry of [lower, upper) (empty: unbounded) of a levelled space that is not
 * newer than `version` to the bottom: small ranges at once, large ones level by level. KV_END: they are there.
 * KV_BUSY: work under way has to end first.
 */
kv_status kv_pick_range(const struct kv_version *tree, uint32_t space, const struct kv_space *how,
                        kv_slice lower, kv_slice upper, uint64_t version, const struct kv_pick_limits *limits,
                        const struct kv_claim *busy, struct kv_pick *out);
/* Runs of a cut that a merge of all of it would make into one: those that lie aside are not among them, and with a hook
 * there are none beside those. */
size_t kv_pick_runs(const struct kv_space *how, const struct kv_cut *cut);
/* A whole cut, into level `to`. KV_BUSY: work under way has to end first. */
kv_status kv_pick_whole(const struct kv_version *tree, uint32_t space, size_t cut, uint32_t to,
                        const struct kv_claim *busy, struct kv_pick *out);
/* A range of keys on one level, for tables that come from elsewhere: is it clear of work under way? */
bool kv_pick_is_clear(const struct kv_claim *busy, uint32_t space, uint32_t level, kv_slice smallest,
                      kv_slice largest);

/* The deepest level with nothing of the range there or above; 0 if there is none. */
uint32_t kv_pick_deepest(const struct kv_tree *tree, const struct kv_space *how, kv_slice smallest,
                         kv_slice largest);

/* The inputs of pick among the tables of a run of its cut: [*first, *last). */
void kv_pick_inputs(const struct kv_pick *pick, const struct kv_tree_run *run, size_t *first, size_t *last);

/* What levels aim at. */
struct kv_pick_levels {
    uint32_t base;                  /* the level that level 0 is merged into */
    uint64_t target[KV_LEVELS_MAX]; /* bytes; 0: a level to be emptied. Level 0's is base_bytes */
    double score[KV_LEVELS_MAX];    /* without what is busy */
    uint64_t level0_runs;           /* of the cut with the most, busy ones too */
    uint64_t excess;                /* bytes above targets, busy ones too */
};
void kv_pick_levels(const struct kv_tree *tree, uint32_t space, const struct kv_space *how,
                    const struct kv_claim *busy, struct kv_pick_levels *out);

#endif
