#include "tsdb/posting_lists.h"

#include "kvcore/base/assert.h"
#include "kvcore/base/hash.h"
#include "kvcore/base/mem.h"

enum { SLOTS_MIN = 256 };

static uint64_t list_hash(const void *metric, kv_slice name, kv_slice value)
{
    return kv_hash64(value, kv_hash64(name, (uint64_t)(uintptr_t)metric));
}

static bool list_is(const struct ts_posting_list *list, uint64_t hash, const void *metric, kv_slice name,
                    kv_slice value)
{
    return list->hash == hash && list->metric == metric && kv_slice_equal(list->name, name) &&
           kv_slice_equal(list->value, value);
}

/* At most half of the slots are taken. */
static KV_MUST kv_status slots_grow(struct ts_posting_lists *l)
{
    if (2 * (l->n + 1) <= l->n_slots)
        return KV_OK;
    size_t n_slots = l->n_slots ? 2 * l->n_slots : SLOTS_MIN;
    uint32_t *slots = kv_zalloc(n_slots, sizeof *slots);
    if (!slots)
        return KV_NO_MEMORY;
    for (size_t i = 0; i < l->n; i++) {
        size_t at = (size_t)l->lists[i].hash & (n_slots - 1);
        while (slots[at])
            at = (at + 1) & (n_slots - 1);
        slots[at] = (uint32_t)i + 1;
    }
    kv_free(l->slots);
    l->slots = slots;
    l->n_slots = n_slots;
    return KV_OK;
}

/* The list, made if there is none. Room must be there. */
static struct ts_posting_list *list_of(struct ts_posting_lists *l, const void *metric, kv_slice name,
                                       kv_slice value)
{
    uint64_t hash = list_hash(metric, name, value);
    size_t at = (size_t)hash & (l->n_slots - 1);
    for (; l->slots[at]; at = (at + 1) & (l->n_slots - 1)) {
        struct ts_posting_list *list = &l->lists[l->slots[at] - 1];
        if (list_is(list, hash, metric, name, value))
            return list;
    }
    struct ts_posting_list *list = &l->lists[l->n++];
    l->slots[at] = (uint32_t)l->n;
    *list = (struct ts_posting_list){hash, metric, name, value, TS_POSTING_END, TS_POSTING_END};
    return list;
}

kv_status ts_posting_lists_add(struct ts_posting_lists *l, const void *metric, kv_slice name, kv_slice value,
                               uint32_t member)
{
    struct ts_posting_list *lists = kv_grow(l->lists, &l->capacity, l->n + 1, sizeof *lists);
    if (!lists)
        return KV_NO_MEMORY;
    l->lists = lists;
    struct ts_posting_member *members =
        kv_grow(l->members, &l->members_capacity, l->n_members + 1, sizeof *members);
    if (!members)
        return KV_NO_MEMORY;
    l->members = members;
    if (l->n_members >= TS_POSTING_END - 1)
        return KV_NO_MEMORY;
    kv_status rc = slots_grow(l);
    if (rc < 0)
        return rc;
    struct ts_posting_list *list = list_of(l, metric, name, value);
    uint32_t at = (uint32_t)l->n_members++;
    l->members[at] = (struct ts_posting_member){member, TS_POSTING_END};
    if (list->first == TS_POSTING_END)
        list->first = at;
    else
        l->members[list->last].next = at;
    list->last = at;
    return KV_OK;
}

void ts_posting_lists_clear(struct ts_posting_lists *l, size_t bytes_kept)
{
    if (l->capacity * sizeof *l->lists > bytes_kept ||
        l->members_capacity * sizeof *l->members > bytes_kept || l->n_slots * sizeof *l->slots > bytes_kept) {
        ts_posting_lists_release(l);
        return;
    }
    if (l->n > 0)
        memset(l->slots, 0, l->n_slots * sizeof *l->slots);
    l->n = l->n_members = 0;
}

void ts_posting_lists_release(struct ts_posting_lists *l)
{
    kv_free(l->lists);
    kv_free(l->members);
    kv_free(l->slots);
    *l = (struct ts_posting_lists){0};
}
