/*
 * thin.h - series that a retention rule has passed in a window that others still need: which they are, when it is
 * worth a merge to be rid of them, and the window's activity made exact once it is merged.
 *
 * A merge started by the store (window.c) has a ts_thin: the chunk hook leaves out what its classes have passed,
 * and writes down which series it kept. Whatever else merges takes nothing out but what every rule has passed.
 * Page: tsdb/docs/retention.md.
 *
 * Threads    the sets do not change once made; kept is written by the hook, under the list of windows' lock, while
 *            the thin is set there (ts_windows_thin). All else: whoever holds merge_lock.
 */
#ifndef TS_THIN_H
#define TS_THIN_H

#include "tsdb/postings.h"
#include "tsdb/rules.h"
#include "tsdb/window.h"

struct ts_select;

enum {
    TS_THIN_SHARE = 10
}; /* a window is merged for its expired series once they are a tenth of its series */

struct ts_thin {
    uint32_t refs; /* atomic */
    int32_t window;
    uint64_t series;  /* of the window, by its activity */
    uint64_t expired; /* those of classes that have passed all of it */
    uint64_t passed;  /* these classes, as bits */
    size_t n;
    struct ts_thin_class {
        int64_t floor_ms;
        struct ts_refset refs;
    } classes[TS_RULES_MAX + 1]; /* those whose floor lies above the window's start */
    struct ts_refset kept;       /* series of which a merge kept something: a subset when memory is short */
};

/* Takes the series of a class out of *rest, the last class all of it, into *members (empty). rest: what is left
 * once every class before it was taken. */
KV_MUST kv_status ts_thin_take(struct ts_db *db, const struct ts_rules *rules, const struct ts_select *select,
                               size_t class, struct ts_refset *rest, struct ts_refset *members,
                               struct kv_err *err);

KV_MUST kv_status ts_thin_new(struct ts_db *db, int32_t window, struct ts_thin **out, struct kv_err *err);
struct ts_thin *ts_thin_ref(struct ts_thin *thin); /* NULL is fine */
void ts_thin_unref(struct ts_thin *thin);          /* NULL is fine */
/* The oldest time that is kept of a series; lowest_ms if no class says more. */
int64_t ts_thin_floor_ms(const struct ts_thin *thin, uint64_t ref, int64_t lowest_ms);
/* Classes whose floor is not below the window's end. */
uint64_t ts_thin_passed(struct ts_db *db, int32_t window);
/* Takes the series that have no chunk in the window any more out of its stored activity. After a merge of it; kept
 * says which need no look. Takes care_lock now and then. */
KV_MUST kv_status ts_thin_settle(struct ts_db *db, const struct ts_thin *thin, struct kv_err *err);

#endif
