/*
 * child.h - what programs of random lives share: a history in a process of its own, so that a failure ends that process and the parent
 * goes on and shrinks it.
 *
 * Threads    one at a time.  Failure  aborts when there are no processes to be had.
 */
#ifndef MODEL_CHILD_H
#define MODEL_CHILD_H

#include "tests/model/history.h"

/* What the children tell the parent: shared memory. */
struct child_told {
    uint64_t seed, options, hash, played, lives;
};
extern volatile struct child_told *child_told;

/* play: exits or aborts where the history fails. */
void child_init(void (*play)(const struct history *history));
/* Runs it in a child; the status of its end, as waitpid gives it. */
int child_run(void (*run)(void));
bool child_fails(const struct history *history, bool quiet); /* quiet: nothing on stderr */
bool child_fails_quietly(const struct history *history);
int child_replay(const char *path); /* 0: as expected; said on stdout */
uint64_t child_seconds(void);       /* of the monotonic clock */

/* Options of a command line: "--name N" and "--name". */
bool child_number(const char *name, char **argv, int argc, int *i, uint64_t *out);
bool child_flag(const char *name, const char *arg, bool value, bool *out);

#endif
