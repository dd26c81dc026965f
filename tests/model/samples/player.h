/*
 * player.h - plays a history on a store and on the naive one, and compares every answer.
 *
 * A difference ends the process: the operation and what was expected go to stderr, exit status 1.
 *
 * Threads    one at a time (the store may have workers).
 */
#ifndef SAMPLES_PLAYER_H
#define SAMPLES_PLAYER_H

#include "tests/model/samples/naive.h"
#include "tests/model/samples/ops.h"
#include "tests/model/samples/options.h"
#include "tests/support/clock_manual.h"
#include "tests/support/vfs_crash.h"

/* How far the disk was when an operation began and when it was answered. */
struct mark {
    uint64_t began, done;
    uint64_t version, durable; /* after it: newest, and what no crash may take */
};
struct player {
    const struct history *history;
    size_t at; /* the operation being played */
    struct samples_options options;
    uint32_t made_under;
    int threads;

    struct kv_vfs *memory;   /* what the store lies on, or what `crash` began with */
    struct vfs_crash *crash; /* NULL: not recorded */
    struct clock_manual clock;
    struct kv_env *env;
    struct ts_db *db;
    struct ts_appender *appender;
    struct kv_err err;
    struct ts_query_err query_err;
    char path[32];
    uint32_t next_path;

    struct naive naive;
    uint64_t version, durable; /* of the store; that no crash may take */
    struct mark *marks;
    size_t n_marks, marks_capacity;

    /* The request. */
    struct naive_event *pending; /* puts that were taken */
    size_t n_pending, pending_capacity;
    uint64_t accepted, rejected;
    bool started;
    int64_t clock_then_ms, high_ms; /* of its first row */
    bool fresh[NAIVE_SERIES];
    size_t n_fresh;
    uint64_t rate_refused; /* samples, of rejected */
    uint64_t rate_ns;      /* of the opening: when all new series would have come had they come at the rate */

    int64_t clock_ms; /* the retention clock when it was last looked at */
    uint64_t clock_mono_ns;
};
/* Plays it from an empty disk to a clean end. */
void player_run(const struct history *history, volatile uint64_t *played);

/* ---- inside */

_Noreturn void player_fail(struct player *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void player_must(struct player *p, const char *what, kv_status rc, kv_status expected);
void player_must_ask(struct player *p, const char *what, kv_status rc); /* p->query_err says why not */
static inline int64_t player_time(uint32_t at)
{
    return NAIVE_ORIGIN_MS + (int64_t)at * 1000;
}
/* A sample of op's series that its `at` chooses, and the one at most `further` behind it; false: it has none. */
bool player_snap(const struct player *p, const struct op *op, uint32_t further, int64_t *first_ms,
                 int64_t *last_ms);
/* Room for one more of size bytes. */
void *player_grown(void *old, size_t *capacity, size_t n, size_t size);
/* What is expired now is `maybe` from here on. */
void player_expire(struct player *p);
/* The oldest time that a series keeps by a retention clock; INT64_MIN: it keeps all. */
int64_t player_floor(const struct player *p, uint32_t series, int64_t clock_ms);
/* By the clock now. */
int64_t player_floor_now(struct player *p, uint32_t series);

/* player_write.c */
void player_row(struct player *p, const struct op *op); /* put, edge, bad */
void player_commit(struct player *p);
void player_abort(struct player *p); /* the request was forgotten */
void player_options(struct player *p, uint32_t set);
void player_delete(struct player *p, const struct op *op);
/* player_read.c */
void player_raw(struct player *p, const struct op *op);
void player_range(struct player *p, const struct op *op);
void player_catalog(struct player *p, const struct op *op); /* series, values */
void player_verify(struct player *p);                       /* everything */
/* player_life.c */
void player_open(struct player *p, bool read_only);
void player_close(struct player *p, bool fast);
void player_clear_marks(struct player *p);
void player_life(struct player *p, const struct op *op);

#endif
