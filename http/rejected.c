#include "http/rejected.h"
#include "kvcore/base/mem.h"
#include "kvcore/os/thread.h"

#include <string.h>

struct http_rejected {
    kv_mutex lock;
    struct http_rejection *ring; /* NULL until the first */
    uint64_t count;
};
_Static_assert(sizeof(struct http_rejection) <= 512, "the header says what the ring takes");

kv_status http_rejected_new(struct http_rejected **out)
{
    struct http_rejected *rejected = kv_zalloc(1, sizeof *rejected);
    if (!rejected)
        return KV_NO_MEMORY;
    kv_mutex_init(&rejected->lock);
    *out = rejected;
    return KV_OK;
}

void http_rejected_free(struct http_rejected *rejected)
{
    if (!rejected)
        return;
    kv_free(rejected->ring);
    kv_mutex_release(&rejected->lock);
    kv_free(rejected);
}

void http_rejected_add(struct http_rejected *rejected, const struct http_rejection *rejection)
{
    kv_mutex_lock(&rejected->lock);
    if (!rejected->ring)
        rejected->ring = kv_zalloc(HTTP_REJECTED_KEPT, sizeof *rejected->ring);
    rejected->count++;
    if (rejected->ring) {
        struct http_rejection *place = &rejected->ring[rejected->count % HTTP_REJECTED_KEPT];
        *place = *rejection;
        place->number = rejected->count;
    }
    kv_mutex_unlock(&rejected->lock);
}

bool http_rejected_before(struct http_rejected *rejected, uint64_t before, enum ts_reject_reason reason,
                          struct http_rejection *out)
{
    bool found = false;
    kv_mutex_lock(&rejected->lock);
    uint64_t newest = rejected->count;
    uint64_t oldest = newest > HTTP_REJECTED_KEPT ? newest - HTTP_REJECTED_KEPT + 1 : 1;
    if (before <= newest)
        newest = before - 1;
    for (uint64_t n = newest; rejected->ring && n >= oldest && !found; n--) {
        const struct http_rejection *at = &rejected->ring[n % HTTP_REJECTED_KEPT];
        found = at->number == n && (reason == TS_REJECT_NONE || at->reason == reason);
        if (found)
            *out = *at;
    }
    kv_mutex_unlock(&rejected->lock);
    return found;
}

uint64_t http_rejected_count(struct http_rejected *rejected)
{
    kv_mutex_lock(&rejected->lock);
    uint64_t count = rejected->count;
    kv_mutex_unlock(&rejected->lock);
    return count;
}

void http_rejected_text(kv_slice text, char *out, size_t size)
{
    size_t n = text.len < size ? text.len : size - 1;
    while (n < text.len && n > 0 && (text.data[n] & 0xc0) == 0x80)
        n--;
    if (n > 0)
        memcpy(out, text.data, n);
    out[n] = 0;
}
