/*
 * fault_sites.h - which places of the code have had their fault already, so that a sweep fails each place once, instead of each
 * of the thousands of times that a loop comes by.
 *
 * A place is a stack: the innermost callers, FAULT_SITE_FRAMES of them (all of them with SWEEP_ALL=1). The order in which a sweep comes by is the
 * same from run to run, as long as what it does is.
 *
 *     struct fault_sites *sites = fault_sites_new();
 *     do {
 *         malloc_fault_arm_sites(sites, false);     // or vfs_fault_plan with .sites
 *         rc = scenario();
 *     } while (malloc_fault_disarm());       // until no place is left
 *
 * Threads    one at a time.
 */
#ifndef FAULT_SITES_H
#define FAULT_SITES_H

#include <stdbool.h>
#include <stddef.h>

enum { FAULT_SITE_FRAMES = 14 };

struct fault_sites;
struct fault_sites *fault_sites_new(void); /* aborts when out of memory, like all of tests/support */
void fault_sites_free(struct fault_sites *sites);
/* Is this a place that has not been here? From now on it has. */
bool fault_sites_meet(struct fault_sites *sites);
size_t fault_sites_count(const struct fault_sites *sites);

#endif
