/*
 * history.h - operations on a database or a store: written as text and read back, shrunk. Which operations there are is the model's matter
 * (kv_ops.h, samples/ops.h): it defines history_op_names.
 *
 * Text: one operation a line, its name and the fields that are not 0, e.g. "put space=2 key=17 n=9 len=40"; '#' begins a comment;
 * "options N" says under which option set it is played (options.h), "threads N" with how many background workers. An operation that
 * makes no sense where it stands (a step of an iterator that is not there) does nothing: so operations may be left out.
 *
 * Threads    one at a time.  Ownership  {0} is empty; history_release frees.  Failure  aborts when out of memory.
 */
#ifndef HISTORY_H
#define HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* F(name): the fields. */
#define HISTORY_FIELDS(F)                                                                                    \
    F(space)                                                                                                 \
    F(key)                                                                                                   \
    F(lower) F(upper) F(slot) F(snap) F(n) F(len) F(ttl) F(meta) F(since) F(series) F(at) F(step) F(how)

struct op {
    uint32_t kind; /* an enum op_kind of the model's */
#define F(name) uint32_t name;
    HISTORY_FIELDS(F)
#undef F
};
/* By kind, NULL behind the last. */
extern const char *const history_op_names[];
struct history {
    uint32_t options;
    int threads; /* 0: none */
    struct op *ops;
    size_t n, capacity;
};
void history_release(struct history *history);
void history_add(struct history *history, const struct op *op);
void history_print(const struct history *history, FILE *out);
void history_print_op(const struct op *op, FILE *out);
bool history_read(struct history *history, const char *path); /* false: said why on stderr */

/*
 * Leaves out operations as long as fails(history) stays true, ddmin: chunks of half, a quarter, ... down to single ones, again until
 * none can go (Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, 2002). At most `tries` calls.
 */
void history_shrink(struct history *history, bool (*fails)(const struct history *history), size_t tries);

#endif
