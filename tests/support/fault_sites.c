#include "tests/support/fault_sites.h"
#include "kvcore/base/assert.h"
#include "tests/support/sweep.h"

#include <execinfo.h>
#include <string.h>

enum { FRAMES_ALL = 64 };

struct fault_sites {
    uint64_t *slots; /* open addressing; 0: free */
    size_t capacity, n;
};

struct fault_sites *fault_sites_new(void)
{
    struct fault_sites *sites = calloc(1, sizeof *sites);
    KV_ASSERT(sites != NULL);
    sites->capacity = 1 << 14;
    sites->slots = calloc(sites->capacity, sizeof *sites->slots);
    KV_ASSERT(sites->slots != NULL);
    return sites;
}

void fault_sites_free(struct fault_sites *sites)
{
    if (sites)
        free(sites->slots);
    free(sites);
}

bool fault_sites_meet(struct fault_sites *sites)
{
    void *frames[FRAMES_ALL];
    uint64_t hash = 14695981039346656037u;
    int n = backtrace(frames, sweep_all() ? FRAMES_ALL : FAULT_SITE_FRAMES);
    for (int i = 0; i < n; i++) {
        hash = (hash ^ (uint64_t)(uintptr_t)frames[i]) * 1099511628211u;
        hash ^= hash >> 29;
    }
    hash |= 1;
    size_t at = (size_t)hash & (sites->capacity - 1);
    while (sites->slots[at] && sites->slots[at] != hash)
        at = (at + 1) & (sites->capacity - 1);
    if (sites->slots[at])
        return false;
    KV_ASSERT(sites->n < sites->capacity / 2);
    sites->slots[at] = hash;
    sites->n++;
    return true;
}

size_t fault_sites_count(const struct fault_sites *sites)
{
    return sites->n;
}
