/*
 * committers.h - threads that commit at once, on real time: of every key the last acknowledged value is what is read, while they run,
 * after them, and after power was lost in between.
 */
#ifndef COMMITTERS_H
#define COMMITTERS_H

#include <stdint.h>

/* One database under the option set, with background workers; each thread makes so many commits. A difference ends the process with
 * status 1. Answers how many were made. */
uint64_t committers_run(uint64_t seed, uint32_t options, uint64_t commits);

#endif
