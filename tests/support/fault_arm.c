#include "tests/support/fault_arm.h"
#include "kvcore/base/mem.h"
#include "tests/support/malloc_fault.h"

#include <inttypes.h>
#include <stdio.h>

void fault_arm_memory(struct fault_sites *sites, uint64_t nth, bool sticky)
{
    if (sites)
        malloc_fault_arm_sites(sites, sticky);
    else
        malloc_fault_arm(nth, sticky);
    kv_mem_exact = true;
}

void fault_arm(struct vfs_fault *fault, const struct vfs_fault_plan *plan, struct fault_sites *sites,
               uint64_t nth)
{
    if (!plan) {
        fault_arm_memory(sites, nth, false);
        return;
    }
    struct vfs_fault_plan armed = *plan;
    armed.nth = nth;
    armed.sites = sites;
    vfs_fault_plan(fault, &armed);
}

bool fault_disarm(struct vfs_fault *fault, const struct vfs_fault_plan *plan)
{
    kv_mem_exact = false;
    bool fired = plan ? vfs_fault_fired(fault) : malloc_fault_disarm();
    if (fault)
        vfs_fault_plan(fault, NULL);
    return fired;
}

const char *fault_text(const struct vfs_fault_plan *plan, uint64_t nth, char out[96])
{
    if (plan)
        snprintf(out, 96, "kind %d%s, operation %" PRIu64, (int)plan->kind,
                 plan->sticky ? " from then on" : "", nth);
    else
        snprintf(out, 96, "memory, allocation %" PRIu64, nth);
    return out;
}
