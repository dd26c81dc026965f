/*
 * store_story.h - short lives of a store that sweeps play again and again, with a failure or a power cut somewhere in them; and what
 * the store must answer before and behind each of their operations.
 *
 * Threads    one at a time. What fails in a story by itself asserts (Criterion).
 */
#ifndef STORE_STORY_H
#define STORE_STORY_H

#include "tests/support/store_kit.h"

enum { STORY_SERIES = 4, STORY_TIMES = 40, STORY_OPS_MAX = 48 };

enum story_kind {
    STORY_END,
    STORY_PUT,    /* into `series` and all behind it, at times [from, to] */
    STORY_DELETE, /* of `series` */
    STORY_FLUSH,
    STORY_SETTLE,
    STORY_MAINTAIN,
    STORY_WORK, /* all that kvcore's workers would do */
    STORY_REOPEN,
    STORY_REOPEN_FAST,
    STORY_ADVANCE,  /* `value` hours */
    STORY_SNAPSHOT, /* taken and looked at */
    STORY_BACKUP,   /* taken, restored and looked at */
};
struct story_op {
    enum story_kind kind;
    int series, from, to;
    double value;
};
struct story {
    const char *name;
    int64_t retention_ms;
    int64_t rule_ms;                    /* of the last series; 0: no rule */
    struct story_op ops[STORY_OPS_MAX]; /* up to STORY_END */
};
enum { STORIES = 4 };
extern const struct story stories[STORIES];
int story_len(const struct story *story);

struct story_state {
    bool present[STORY_SERIES][STORY_TIMES];
    double value[STORY_SERIES][STORY_TIMES];
};
void story_apply(struct story_state *state, const struct story_op *op);

/* A kit on vfs, which stays its owner's, `hours` after the story's beginning. Nothing is open. */
void story_begin(struct store_kit *kit, const struct story *story, struct kv_vfs *vfs, double hours);
void story_finish(struct store_kit *kit);
/* The oldest time of the series that the open store shows. */
int64_t story_floor_ms(struct store_kit *kit, int series);
/* Hours that the first n operations advance the clock by. */
double story_hours(const struct story *story, int n);

/* Plays operation i; state: what the store holds. A store that could not be opened is opened first. A copy that was answered and holds
 * something else asserts. */
kv_status story_play(struct store_kit *kit, const struct story *story, int i,
                     const struct story_state *state);
/* Does the store answer exactly state, less what is expired? KV_OK, KV_END (it does not), or the error of reading. */
kv_status story_matches(struct store_kit *kit, const struct story_state *state);
/* The same of the copy that operation i made: a snapshot is opened, a backup restored to `to`. */
kv_status story_copy_matches(struct store_kit *kit, const struct story *story, int i, const char *to,
                             const struct story_state *state);

#endif
