#include "tests/support/malloc_fault.h"
#include "kvcore/base/mem.h"
#include "tests/support/fault_sites.h"

#include <stdatomic.h>

static _Atomic uint64_t allocations;
static uint64_t failing_nth;
static bool failing_sticky;
static struct fault_sites *failing_sites;
static bool failed;

static bool should_fail(size_t size)
{
    (void)size;
    if (failing_sites)
        return failed ? failing_sticky : (failed = fault_sites_meet(failing_sites));
    uint64_t n = atomic_fetch_add(&allocations, 1) + 1;
    return failing_sticky ? n >= failing_nth : n == failing_nth;
}

void malloc_fault_arm(uint64_t nth, bool sticky)
{
    atomic_store(&allocations, 0);
    failing_nth = nth;
    failing_sticky = sticky;
    failing_sites = NULL;
    kv_mem_should_fail = should_fail;
}

void malloc_fault_arm_sites(struct fault_sites *sites, bool sticky)
{
    failing_sticky = sticky;
    failed = false;
    failing_sites = sites;
    kv_mem_should_fail = should_fail;
}

bool malloc_fault_disarm(void)
{
    kv_mem_should_fail = NULL;
    if (failing_sites)
        return failed;
    return atomic_load(&allocations) >= failing_nth;
}
