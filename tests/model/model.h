/*
 * model.h - what a database should answer, the naive way: of every key everything that ever happened to it, in order.
 *
 * A stamp counts what changed; a view of the model is a stamp, so old views are asked as easily as the newest. Keys and bounds are
 * numbers: keys in their order, bounds (points) the keys and their direct successors in theirs.
 *
 * Threads    one at a time.  Ownership  {0} is empty; model_release frees.  Failure  aborts when out of memory.
 */
#ifndef MODEL_H
#define MODEL_H

#include "kvcore/kv.h"

enum {
    MODEL_SPACES = 6,
    MODEL_KEYS = 48,
    MODEL_POINTS = 2 * MODEL_KEYS,
    MODEL_VALUE_MAX = 8192,
    MODEL_FOLDED_MAX = 64, /* the merge operator keeps so many of the last bytes */
};
/* What the spaces are: their numbers are those of kv_options.spaces. */
enum {
    SPACE_HOOK = 0,     /* with a hook that keeps everything */
    SPACE_RUNS = 1,     /* plain, of style runs */
    SPACE_LEVELS = 2,   /* plain, levelled */
    SPACE_MERGE = 3,    /* with the merge operator */
    SPACE_VERSIONS = 4, /* keeps MODEL_VERSIONS_KEPT */
    SPACE_MERGE_LEVELS = 5,
};
enum { MODEL_VERSIONS_KEPT = 3 };
static inline bool space_merges(uint32_t space)
{
    return space == SPACE_MERGE || space == SPACE_MERGE_LEVELS;
}

enum event_kind {
    EVENT_PUT,
    EVENT_DELETE,
    EVENT_RANGE,   /* a range deletion that covers the key */
    EVENT_OPERAND, /* of the merge operator */
    EVENT_LOADED,  /* a put by bulk load */
    EVENT_DROPPED, /* its table was dropped */
};
struct event {
    uint64_t stamp, version;
    uint64_t expires_at_s; /* 0: never */
    enum event_kind kind;
    uint32_t n, len; /* what makes the value */
    uint8_t meta;
    bool ends;
};
struct events {
    struct event *at;
    size_t n, capacity;
};
struct model_range {
    uint32_t space, lower, upper; /* points */
    uint64_t version;
};
struct model_record {
    uint64_t seq;
    uint32_t n;
};
struct model {
    uint64_t stamp, version;
    struct events keys[MODEL_SPACES][MODEL_KEYS];
    struct model_range *ranges;
    size_t n_ranges, ranges_capacity;
    struct model_record *records;
    size_t n_records, records_capacity;
};

/* ---- keys and points. A bound in an operation is 0 for none, or a point + 1. */

void model_keys_init(void); /* once, first of all */
kv_slice model_key(uint32_t key);
kv_slice model_point(uint32_t point);
uint32_t model_points(void);                    /* how many there are */
uint32_t model_point_first_key(uint32_t point); /* the first key at or behind it; MODEL_KEYS: none */
uint32_t model_key_point(uint32_t key);
int model_find_key(kv_slice key); /* -1: not one of ours */
static inline kv_slice model_bound(uint32_t bound)
{
    return bound ? model_point(bound - 1) : (kv_slice){0};
}
uint32_t model_bound_first(uint32_t bound); /* first key at or behind it */
uint32_t model_bound_end(uint32_t bound);   /* first key that is not below it */

/* The bytes that number n stands for: digits, then letters up to len. */
kv_slice model_value(uint32_t n, uint32_t len, uint8_t out[MODEL_VALUE_MAX]);
kv_slice model_operand(uint32_t n, uint8_t out[16]);
extern const struct kv_merge_operator model_operator;

/* ---- changes */

void model_release(struct model *model);
void model_add(struct model *model, uint32_t space, uint32_t key, const struct event *event);
/* A range deletion: over the keys, and remembered as a range. */
void model_add_range(struct model *model, uint32_t space, uint32_t lower, uint32_t upper);
/* The second half of it. */
void model_note_range(struct model *model, uint32_t space, uint32_t lower, uint32_t upper);
void events_add(struct events *events, const struct event *event);
void model_add_record(struct model *model, uint64_t seq, uint32_t n);
/* Nothing with a version above it has happened. */
void model_roll_back(struct model *model, uint64_t version);
/* Nor the load of this version. */
void model_forget_load(struct model *model, uint64_t version);

/* ---- questions */

struct model_found {
    uint64_t version, expires_at_s;
    uint8_t meta;
    kv_slice value; /* in bytes */
    uint8_t bytes[MODEL_VALUE_MAX];
};
/* Is there a value to be seen? */
bool model_has(const struct model *model, uint64_t stamp, uint64_t now_s, uint32_t space, uint32_t key,
               uint64_t *version);
bool model_get(const struct model *model, uint64_t stamp, uint64_t now_s, uint32_t space, uint32_t key,
               struct model_found *out);
/* What somebody sees who has done `own` (of version 0) to the key on top of that. *reads: the model was asked, as own events
 * other than operands would have answered. */
bool model_get_over(const struct model *model, uint64_t stamp, uint64_t now_s, uint32_t space, uint32_t key,
                    const struct events *own, struct model_found *out, bool *reads);
/* The next key at or behind (backward: at or before) `from` in [first, end) with a value newer than since; -1: none. */
int model_next(const struct model *model, uint64_t stamp, uint64_t now_s, uint32_t space, int from, int first,
               int end, uint64_t since, bool backward);
/* Was the key touched by anything newer than version? */
bool model_key_changed(const struct model *model, uint32_t space, uint32_t key, uint64_t version);
/* Was anything of [lower, upper) (points; upper MODEL_POINTS: unbounded)? */
bool model_range_changed(const struct model *model, uint32_t space, uint32_t lower, uint32_t upper,
                         uint64_t version);

#endif
