/*
 * malloc_fault.h - makes the n-th allocation through kvcore/base/mem.h fail. One plan in the process; arm and disarm while
 * no other thread allocates, allocations themselves may come from any thread.
 *
 *     for (uint64_t nth = 1;; nth++) {
 *         malloc_fault_arm(nth, false);
 *         rc = scenario();
 *         if (!malloc_fault_disarm()) break;   // nothing was left to fail
 *         ...
 *     }
 */
#ifndef MALLOC_FAULT_H
#define MALLOC_FAULT_H

#include <stdbool.h>
#include <stdint.h>

void malloc_fault_arm(uint64_t nth, bool sticky); /* sticky: it and every later one */
/* The first allocation of a place that has not failed yet (sticky: and every later one); of one thread only. */
struct fault_sites;
void malloc_fault_arm_sites(struct fault_sites *sites, bool sticky);
bool malloc_fault_disarm(void); /* did it fire? */

#endif
