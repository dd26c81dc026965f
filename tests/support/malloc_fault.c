#include "tests/support/malloc_fault.h"
#include "kvcore/base/mem.h"

#include <stdatomic.h>

static _Atomic uint64_t allocations;
static uint64_t failing_nth;
static bool failing_sticky;

static bool should_fail(size_t size)
{
    (void)size;
    uint64_t n = atomic_fetch_add(&allocations, 1) + 1;
    return failing_sticky ? n >= failing_nth : n == failing_nth;
}

void malloc_fault_arm(uint64_t nth, bool sticky)
{
    atomic_store(&allocations, 0);
    failing_nth = nth;
    failing_sticky = sticky;
    kv_mem_should_fail = should_fail;
}

bool malloc_fault_disarm(void)
{
    kv_mem_should_fail = NULL;
    return atomic_load(&allocations) >= failing_nth;
}
