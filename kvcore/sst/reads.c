#include "kvcore/sst/reads.h"
#include "kvcore/base/mem.h"

#include <string.h>

enum { READS_LINE = 64 };

kv_status kv_reads_init(struct kv_reads *reads, size_t n_levels)
{
    size_t bytes = sizeof(struct kv_reads_stripe) + n_levels * sizeof(struct kv_reads_level);
    size_t stride = (bytes + READS_LINE - 1) / READS_LINE * READS_LINE;
    uint8_t *stripes = kv_alloc_aligned(READS_LINE, (KV_THREAD_PLACES + 1) * stride);
    if (!stripes)
        return KV_NO_MEMORY;
    memset(stripes, 0, (KV_THREAD_PLACES + 1) * stride);
    *reads = (struct kv_reads){.stripes = stripes, .stride = stride, .n_levels = n_levels};
    return KV_OK;
}

void kv_reads_release(struct kv_reads *reads)
{
    kv_free(reads->stripes);
    *reads = (struct kv_reads){0};
}

static uint64_t reads_load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void reads_add_levels(const struct kv_reads *reads, size_t stripe, size_t first, size_t n,
                             struct kv_reads_level_sum *out)
{
    for (size_t k = first; k < first + n && k < reads->n_levels; k++) {
        const struct kv_reads_level *level =
            kv_reads_level_at(kv_reads_stripe_at(reads, stripe), kv_reads_offset(k));
        uint64_t found = reads_load(&level->found);
        out->found += found;
        out->filtered += reads_load(&level->filtered);
        out->asked += found + reads_load(&level->missed);
    }
}

void kv_reads_level_total(const struct kv_reads *reads, size_t first, size_t n,
                          struct kv_reads_level_sum *out)
{
    *out = (struct kv_reads_level_sum){0};
    for (size_t i = 1; reads->stripes && i <= KV_THREAD_PLACES; i++)
        reads_add_levels(reads, i, first, n, out);
}

void kv_reads_total(const struct kv_reads *reads, struct kv_reads_sum *out)
{
    struct kv_reads_level_sum tables;
    uint64_t twice = 0, hidden = 0, nowhere = 0, more = 0;
    *out = (struct kv_reads_sum){0};
    kv_reads_level_total(reads, 0, reads->n_levels, &tables);
    for (size_t i = 1; reads->stripes && i <= KV_THREAD_PLACES; i++) {
        const struct kv_reads_stripe *s = kv_reads_stripe_at(reads, i);
        twice += reads_load(&s->twice);
        hidden += reads_load(&s->hidden);
        nowhere += reads_load(&s->nowhere);
        more += reads_load(&s->memtables_more);
        out->memtable_hits += reads_load(&s->memtable_hits);
        out->blocks += reads_load(&s->blocks);
        out->bytes += reads_load(&s->bytes);
        out->values += reads_load(&s->values);
        out->value_bytes += reads_load(&s->value_bytes);
    }
    uint64_t entries = tables.found + out->memtable_hits;
    entries -= twice < entries ? twice : entries;
    out->gets = entries + nowhere;
    out->found = entries - (hidden < entries ? hidden : entries);
    out->memtables = out->gets + more;
}
