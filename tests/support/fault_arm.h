/*
 * fault_arm.h - one failure, of memory or of the disk, as a sweep wants it at each of its steps.
 *
 *     fault_arm(fault, plan, sites, nth);    // plan NULL: an allocation
 *     rc = scenario();
 *     fired = fault_disarm(fault, plan);
 *
 * sites not NULL: the next place that has not failed yet; else the nth operation or allocation. For allocations every growth is one
 * (kv_mem_exact). Threads: as malloc_fault.h and fault_sites.h.
 */
#ifndef FAULT_ARM_H
#define FAULT_ARM_H

#include "tests/support/fault_sites.h"
#include "tests/support/vfs_fault.h"

#include <stdint.h>

void fault_arm(struct vfs_fault *fault, const struct vfs_fault_plan *plan, struct fault_sites *sites,
               uint64_t nth);
/* The same for allocations, with every later one failing too. */
void fault_arm_memory(struct fault_sites *sites, uint64_t nth, bool sticky);
bool fault_disarm(struct vfs_fault *fault, const struct vfs_fault_plan *plan); /* did it fail? */
/* "kind 3 from then on, operation 17", "memory, allocation 17". */
const char *fault_text(const struct vfs_fault_plan *plan, uint64_t nth, char out[96]);

#endif
